//! Samples in few bytes: the values of a second and how often each came, as windows keep them.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use scale_api::report::Figure;

/// Values of a second that are kept apart; beyond it neighbours become one, the higher.
pub const VALUES_MAX: usize = 2048;
/// Of a value in µs, leading bits that tell it from others before any become one. Histograms keep as many.
const BITS: u32 = 11;

/// Values in µs, in order, and how often each came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples(Vec<(u32, u32)>);

impl Samples {
    /// Those of histograms in µs, added up.
    pub fn of<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Self {
        let mut all: Vec<(u32, u32)> = Vec::new();
        for histogram in histograms {
            all.extend(histogram.iter_recorded().map(|step| {
                let value = u32::try_from(step.value_iterated_to()).unwrap_or(u32::MAX);
                (value, u32::try_from(step.count_at_value()).unwrap_or(u32::MAX))
            }));
        }
        all.sort_unstable();
        let mut samples = Self(all);
        samples.join();
        samples
    }

    /// With at most [`VALUES_MAX`] values, each rounded up by as little as that takes.
    #[must_use]
    pub fn coarse(mut self) -> Self {
        let mut bits = BITS;
        while self.0.len() > VALUES_MAX {
            bits -= 1;
            for (value, _) in &mut self.0 {
                let lost = (u32::BITS - value.leading_zeros()).saturating_sub(bits);
                *value |= (1u32 << lost) - 1;
            }
            self.join();
        }
        self.0.shrink_to_fit();
        self
    }

    /// Neighbours of the same value become one.
    fn join(&mut self) {
        self.0.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 = kept.1.saturating_add(next.1);
            }
            is_same
        });
    }

    /// Value and count.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }
}

/// The samples of a window, which come and go by the second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool(BTreeMap<u32, u64>);

impl Pool {
    /// A second has come.
    pub fn add(&mut self, samples: &Samples) {
        for (value, count) in samples.iter() {
            *self.0.entry(value).or_default() += u64::from(count);
        }
    }

    /// A second that had come has gone.
    pub fn remove(&mut self, samples: &Samples) {
        for (value, count) in samples.iter() {
            let left = self.0.get_mut(&value).expect("it was added");
            *left -= u64::from(count);
            if *left == 0 {
                self.0.remove(&value);
            }
        }
    }

    /// Their distribution with `more` samples of a value in µs; `None`: there is none at all.
    pub fn distribution(&mut self, (value, more): (u32, u64)) -> Option<Figure> {
        if more == 0 {
            return self.figure();
        }
        let before = self.0.get(&value).copied();
        *self.0.entry(value).or_default() += more;
        let figure = self.figure();
        match before {
            Some(count) => self.0.insert(value, count),
            None => self.0.remove(&value),
        };
        figure
    }

    /// As `distribution` of a histogram, in seconds.
    fn figure(&self) -> Option<Figure> {
        const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];
        let (&min, _) = self.0.first_key_value()?;
        let (&max, _) = self.0.last_key_value()?;
        let count: u64 = self.0.values().sum();
        let rank = |quantile: f64| ((quantile * count as f64).ceil() as u64).max(1);
        let seconds = |value: u32| f64::from(value) / 1e6;
        let (mut at, mut passed, mut sum) = ([0.0; QUANTILES.len()], 0, 0.0);
        for (&value, &times) in &self.0 {
            for (at, quantile) in at.iter_mut().zip(QUANTILES) {
                if passed < rank(quantile) {
                    *at = seconds(value);
                }
            }
            passed += times;
            sum += seconds(value) * times as f64;
        }
        let [p50, p90, p99, p999, p9999] = at;
        let (min, max) = (seconds(min), seconds(max));
        Some(Figure { count, min, mean: sum / count as f64, p50, p90, p99, p999, p9999, max })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::run::result::distribution;
    use crate::stream::meter::Histograms;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histograms::empty();
        values.iter().for_each(|&value| histogram.record(value).expect("within its bounds"));
        histogram
    }

    fn close(a: f64, b: f64, by: f64) -> bool {
        (a - b).abs() <= by * b
    }

    proptest! {
        #[test]
        fn a_pool_has_the_quantiles_of_the_histogram_of_the_same_samples(
            seconds in prop::collection::vec(prop::collection::vec(1u64..3_600_000_000, 0..60), 1..8),
            gone in 0usize..4,
        ) {
            let mut pool = Pool::default();
            let lists: Vec<Samples> =
                seconds.iter().map(|values| Samples::of([histogram(values)].iter()).coarse()).collect();
            lists.iter().for_each(|samples| pool.add(samples));
            let gone = gone.min(seconds.len());
            lists[..gone].iter().for_each(|samples| pool.remove(samples));
            let left: Vec<u64> = seconds[gone..].iter().flatten().copied().collect();
            let Some(figure) = pool.distribution((1, 0)) else {
                prop_assert!(left.is_empty());
                return Ok(());
            };
            let expected = distribution(&histogram(&left));
            prop_assert_eq!(
                (figure.count, figure.p50, figure.p90, figure.p99, figure.p999, figure.max),
                (expected.count, expected.p50, expected.p90, expected.p99, expected.p999, expected.max)
            );
            // The histogram's least value is the lower edge of its step, ours the upper.
            prop_assert!(close(figure.min, expected.min, 0.001) || figure.min < 3e-6);
            prop_assert!(close(figure.mean, expected.mean, 0.001));
        }

        #[test]
        fn however_many_values_there_are_a_second_keeps_its_limit_and_its_samples(
            from in 1u64..1000, factor in 1.0001f64..1.01,
        ) {
            let values = (0..40_000).scan(from as f64, |at, _| { *at *= factor; Some(*at as u64) });
            let values: Vec<u64> = values.take_while(|&value| value < 3_600_000_000).collect();
            let all = Samples::of([histogram(&values)].iter());
            let coarse = all.clone().coarse();
            prop_assert!(coarse.0.len() <= VALUES_MAX);
            prop_assert_eq!(coarse.iter().map(|(_, n)| u64::from(n)).sum::<u64>(), values.len() as u64);
            let (mut fine, mut rough) = (Pool::default(), Pool::default());
            fine.add(&all);
            rough.add(&coarse);
            let (fine, rough) = (fine.figure().unwrap(), rough.figure().unwrap());
            for (fine, rough) in [(fine.p50, rough.p50), (fine.p99, rough.p99), (fine.max, rough.max)] {
                prop_assert!(rough >= fine && close(rough, fine, 1.0 / 64.0), "{rough} for {fine}");
            }
        }
    }

    #[test]
    fn three_decades_of_values_are_told_apart_to_less_than_a_hundredth() {
        let values: Vec<u64> = (1000..1_000_000).step_by(7).collect();
        let samples = Samples::of([histogram(&values)].iter());
        assert!(samples.0.len() > VALUES_MAX);
        let mut pool = Pool::default();
        pool.add(&samples.coarse());
        assert!(close(pool.figure().unwrap().p50, 0.5005, 0.01));
    }

    #[test]
    fn samples_of_what_has_not_come_yet_are_lent() {
        let mut pool = Pool::default();
        assert_eq!(pool.distribution((1, 0)), None);
        pool.add(&Samples::of([histogram(&[1000, 2000])].iter()));
        let before = pool.clone();
        for value in [5_000_000, 1000] {
            assert_eq!(pool.distribution((value, 2)).map(|figure| figure.count), Some(4));
            assert_eq!(pool, before);
        }
        assert_eq!(pool.distribution((5_000_000, 2)).map(|figure| figure.p90), Some(5.0));
    }
}
