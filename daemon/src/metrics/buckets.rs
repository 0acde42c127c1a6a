//! A histogram as Prometheus has it: classic buckets for the text format, exponential ones for
//! native histograms. It grows each second by what the workers' merged histograms got in it.

use hdrhistogram::Histogram;

/// Upper edges of the classic buckets, in µs: 100 µs to 60 s in steps of 1, 2, 5.
const CLASSIC_US: [u64; 18] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000, 20_000_000, 60_000_000,
];

/// Each power of two has 2^4 native buckets: each is 4.4 % wider than the one before.
pub const SCHEMA: i32 = 4;
const PER_DOUBLING: f64 = 16.0;
/// Index of the first and the last native bucket: 1 µs and an hour, the bounds of every sample.
/// Bucket i holds what is above 2^((i - 1)/16) s and not above 2^(i/16) s.
const FIRST: i32 = -318;
const LAST: i32 = 190;
const NATIVE: usize = (LAST - FIRST + 1) as usize;
/// Runs of empty native buckets up to this length are written as zeros: shorter than a new span.
const GAP_MAX: usize = 2;

/// One distribution.
#[derive(Debug, Clone)]
pub struct Buckets {
    count: u64,
    sum_us: f64,
    /// Samples in each classic bucket, not summed up; beyond the last edge they are in `count` alone.
    classic: [u64; CLASSIC_US.len()],
    native: Box<[u64; NATIVE]>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { count: 0, sum_us: 0.0, classic: [0; CLASSIC_US.len()], native: Box::new([0; NATIVE]) }
    }
}

/// A run of neighbouring native buckets, from the bucket `first` on.
#[derive(Debug, PartialEq, Eq)]
pub struct Span<'a> {
    /// Index of its first bucket.
    pub first: i32,
    /// Samples in each.
    pub counts: &'a [u64],
}

impl Buckets {
    /// Adds samples in µs.
    pub fn take(&mut self, samples: &Histogram<u64>) {
        let mut edges = CLASSIC_US.iter().enumerate().peekable();
        for step in samples.iter_recorded() {
            let (value, count) = (step.value_iterated_to(), step.count_at_value());
            self.count += count;
            self.sum_us += samples.median_equivalent(value) as f64 * count as f64;
            self.native[native(value)] += count;
            // An edge belongs to its bucket, though the histogram may hold it with larger values.
            let lowest = samples.lowest_equivalent(value);
            while edges.next_if(|&(_, &edge)| edge < lowest).is_some() {}
            if let Some(&(bucket, _)) = edges.peek() {
                self.classic[bucket] += count;
            }
        }
    }

    /// How many samples there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their sum, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum_us / 1e6
    }

    /// Upper edge in seconds and samples up to it, for each classic bucket but the last, infinite one.
    pub fn classic(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        CLASSIC_US.iter().zip(&self.classic).scan(0, |below, (&edge, count)| {
            *below += count;
            Some((edge as f64 / 1e6, *below))
        })
    }

    /// The native buckets that have samples, with short gaps between them filled.
    pub fn spans(&self) -> Vec<Span<'_>> {
        let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
        for (index, _) in self.native.iter().enumerate().filter(|&(_, &count)| count > 0) {
            match ranges.last_mut() {
                Some(range) if index - range.end <= GAP_MAX => range.end = index + 1,
                _ => ranges.push(index..index + 1),
            }
        }
        let span = |range: std::ops::Range<usize>| Span {
            first: FIRST + range.start as i32,
            counts: &self.native[range],
        };
        ranges.into_iter().map(span).collect()
    }
}

/// The place of a sample of `us` among the native buckets.
fn native(us: u64) -> usize {
    let index = ((us as f64 / 1e6).log2() * PER_DOUBLING).ceil() as i32;
    (index.clamp(FIRST, LAST) - FIRST) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::meter::Histograms;
    use proptest::prelude::*;

    fn buckets(samples: &[u64]) -> (Buckets, Histogram<u64>) {
        let mut histogram = Histograms::empty();
        samples.iter().for_each(|&us| histogram.saturating_record(us));
        let mut buckets = Buckets::default();
        buckets.take(&histogram);
        (buckets, histogram)
    }

    /// The upper edge in seconds of the native bucket that holds the sample of `rank`.
    fn edge_at(buckets: &Buckets, rank: u64) -> f64 {
        let spans = buckets.spans();
        let all = spans.iter().flat_map(|span| (span.first..).zip(span.counts));
        let mut below = 0;
        for (index, count) in all {
            below += count;
            if below >= rank {
                return (f64::from(index) / PER_DOUBLING).exp2();
            }
        }
        panic!("there are {below} samples, not {rank}");
    }

    proptest! {
        #[test]
        fn every_sample_is_in_one_bucket_of_each_kind_and_quantiles_agree_within_it(
            samples in prop::collection::vec(1u64..3_600_000_000, 1..200),
            quantile in 0.01f64..=1.0,
        ) {
            let (buckets, _) = buckets(&samples);
            let counts: u64 = buckets.spans().iter().flat_map(|span| span.counts).sum();
            prop_assert_eq!((counts, buckets.count()), (samples.len() as u64, samples.len() as u64));
            let below_minute = samples.iter().filter(|&&us| us <= 59_000_000).count() as u64;
            let (edge, last) = buckets.classic().last().unwrap();
            prop_assert_eq!(edge, 60.0);
            prop_assert!(last >= below_minute && last <= buckets.count());
            let mut sorted = samples.clone();
            sorted.sort_unstable();
            let rank = ((quantile * samples.len() as f64).ceil() as usize).max(1);
            let (value, edge) = (sorted[rank - 1] as f64 / 1e6, edge_at(&buckets, rank as u64));
            // 2^(1/16), and the digits that the histogram keeps.
            prop_assert!(value <= edge && value > edge / 1.0443 / 1.001, "{} in the bucket up to {}", value, edge);
        }
    }

    #[test]
    fn an_edge_belongs_to_the_bucket_below_it() {
        let (buckets, _) = buckets(&[100, 101, 5_000, 60_000_000, 70_000_000]);
        let below = |edge: f64| buckets.classic().find(|(at, _)| *at == edge).unwrap().1;
        assert_eq!((below(0.0001), below(0.0002)), (1, 2));
        assert_eq!((below(0.002), below(0.005)), (2, 3));
        assert_eq!((below(60.0), buckets.count()), (4, 5));
    }

    #[test]
    fn spans_hold_what_has_samples_and_bridge_short_gaps() {
        // 1 s ends bucket 0, 2 s bucket 16, and 1.04 s lies in bucket 1.
        let (buckets, _) = buckets(&[1_000_000, 1_040_000, 1_040_000, 2_000_000]);
        let spans = buckets.spans();
        assert_eq!(spans.len(), 2);
        // The histogram has three digits: what it holds of a second ends just above it.
        assert_eq!((spans[0].first, spans[0].counts), (1, &[3][..]));
        assert_eq!((spans[1].first, spans[1].counts), (17, &[1][..]));
    }

    #[test]
    fn the_shortest_and_the_longest_sample_have_a_bucket() {
        assert_eq!((native(1), native(3_600_000_000)), (0, NATIVE - 1));
    }
}
