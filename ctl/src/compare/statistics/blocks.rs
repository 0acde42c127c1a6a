//! The circular block bootstrap (Politis and Romano, 1992): the seconds of a run, drawn in blocks.
//!
//! Seconds are no independent samples: a slow one follows a slow one. Blocks keep that, so that the
//! spread of what is computed from the draws is the spread of the figure itself. Each stage of a run
//! is drawn from by itself: that stages differ was asked for and is no uncertainty.

use std::ops::Range;

use super::random::Random;

/// Draws of a bootstrap: a standard deviation comes out to some 3 %.
const DRAWS: usize = 500;
/// Seed of all draws.
const SEED: u64 = 0x5ca1_ed00;
/// What is taken for the correlation of neighbours at most; beyond it there are no blocks left.
const CORRELATION_MAX: f64 = 0.9;

/// Blocks of the longest stage, at least; what that cuts off is put back by [`left_out`].
const BLOCKS_MIN: usize = 6;
/// Fewer blocks than these say nothing of how they vary.
const FREEDOM_MIN: f64 = 2.0;

/// The seconds of a run's steady state, by stage, and how many of them belong together.
#[derive(Debug, Clone)]
pub struct Seconds {
    segments: Vec<Range<usize>>,
    block: usize,
    /// What blocks of this length leave out of the variance: how far seconds reach beyond a block.
    left_out: f64,
}

/// How far a figure of one run may be off, by what its own seconds say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Of the figure, on the scale on which it is compared.
    pub variance: f64,
    /// Degrees of freedom of that variance.
    pub freedom: f64,
}

impl Seconds {
    /// Seconds of which `segments` belong to one stage each. The length of a block is from how alike
    /// neighbours are in `values`, one a second (Carlstein, 1986: the best for AR(1)).
    pub fn new(segments: Vec<Range<usize>>, values: &[f64]) -> Self {
        let count: usize = segments.iter().map(ExactSizeIterator::len).sum();
        let correlation = correlation(&segments, values);
        let n = (count as f64).cbrt();
        let by_correlation =
            (6f64.sqrt() * correlation / (1.0 - correlation * correlation)).powf(2.0 / 3.0) * n;
        let most = segments.iter().map(ExactSizeIterator::len).max().unwrap_or(1).div_ceil(BLOCKS_MIN);
        let block = (by_correlation.max(n).round() as usize).clamp(1, most.max(1));
        Self { segments, block, left_out: left_out(correlation, block) }
    }

    /// The spread of `figure` over resampled runs: it is given ranges of seconds, which may overlap
    /// and repeat. `None`: it has no value, or there are too few seconds to tell.
    pub fn spread(&self, figure: impl Fn(&[Range<usize>]) -> Option<f64>) -> Option<Spread> {
        let blocks: f64 = self.segments.iter().map(|segment| segment.len() as f64 / self.block as f64).sum();
        // One is taken by each stage's own mean.
        let freedom = blocks - self.segments.len() as f64;
        if freedom < FREEDOM_MIN {
            return None;
        }
        let mut random = Random::new(SEED);
        let draws: Vec<f64> =
            (0..DRAWS).map(|_| figure(&self.draw(&mut random))).collect::<Option<Vec<f64>>>()?;
        // Draws around a mean of the same blocks are too close to it by the last of these.
        Some(Spread { variance: variance(&draws)? * self.left_out * blocks / freedom, freedom })
    }

    fn draw(&self, random: &mut Random) -> Vec<Range<usize>> {
        let mut drawn = Vec::new();
        for segment in &self.segments {
            let mut left = segment.len();
            while left > 0 {
                let length = self.block.min(left);
                let start = segment.start + random.below(segment.len());
                let end = start + length;
                drawn.push(start..end.min(segment.end));
                if end > segment.end {
                    // Around the end, so that every second is drawn as often as any other.
                    drawn.push(segment.start..segment.start + (end - segment.end));
                }
                left -= length;
            }
        }
        drawn
    }
}

/// Correlation of neighbours, each stage around its own mean, without the bias of short series
/// (Marriott and Pope, 1954); 0 to [`CORRELATION_MAX`].
fn correlation(segments: &[Range<usize>], values: &[f64]) -> f64 {
    let (mut products, mut squares, mut count) = (0.0, 0.0, 0.0);
    for segment in segments {
        let Some(values) = values.get(segment.clone()).filter(|values| values.len() > 1) else { continue };
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        squares += values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        products += values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>();
        count += values.len() as f64;
    }
    if squares <= 0.0 {
        return 0.0;
    }
    let raw = products / squares;
    (raw + (1.0 + 4.0 * raw) / count).clamp(0.0, CORRELATION_MAX)
}

/// The variance of the mean of an AR(1) by what the mean of blocks of it has of that: cut off and
/// tapered, so that the half is missing where blocks are as short as a short run wants them.
fn left_out(correlation: f64, block: usize) -> f64 {
    let mut power = 1.0;
    let within = (1..block).map(|apart| {
        power *= correlation;
        2.0 * (1.0 - apart as f64 / block as f64) * power
    });
    (1.0 + correlation) / (1.0 - correlation) / (1.0 + within.sum::<f64>())
}

/// The variance of a sample; `None` of fewer than two values.
pub fn variance(values: &[f64]) -> Option<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| squares / (values.len() - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AR(1) with standard deviation 1 of each value.
    fn series(correlation: f64, count: usize, random: &mut Random) -> Vec<f64> {
        let mut value = random.normal();
        let fresh = (1.0 - correlation * correlation).sqrt();
        (0..count)
            .map(|_| {
                value = correlation * value + fresh * random.normal();
                value
            })
            .collect()
    }

    fn mean(values: &[f64], ranges: &[Range<usize>]) -> f64 {
        let count: usize = ranges.iter().map(ExactSizeIterator::len).sum();
        ranges.iter().flat_map(|range| &values[range.clone()]).sum::<f64>() / count as f64
    }

    #[test]
    fn the_spread_of_a_mean_grows_with_the_correlation_as_it_does_in_truth() {
        for (correlation, count) in [(0.0, 300), (0.5, 300), (0.8, 300), (0.0, 20), (0.5, 20)] {
            let mut random = Random::new(7);
            let truth = (1.0 + correlation) / (1.0 - correlation) / count as f64;
            let of_one = |_| {
                let values = series(correlation, count, &mut random);
                let all = std::iter::once(0..count).collect();
                let spread = Seconds::new(all, &values).spread(|ranges| Some(mean(&values, ranges)));
                spread.expect("enough").variance
            };
            let found = (0..60).map(of_one).sum::<f64>() / 60.0;
            assert!((0.7..1.4).contains(&(found / truth)), "{correlation}, {count}: {found}, not {truth}");
        }
    }

    #[test]
    fn that_stages_differ_is_no_uncertainty() {
        let mut random = Random::new(1);
        let values: Vec<f64> = series(0.0, 120, &mut random)
            .iter()
            .enumerate()
            .map(|(n, x)| x + if n < 60 { 0.0 } else { 50.0 })
            .collect();
        let spread = Seconds::new(vec![0..60, 60..120], &values).spread(|ranges| Some(mean(&values, ranges)));
        assert!(spread.expect("enough").variance < 2.0 / 120.0);
    }

    #[test]
    fn a_draw_has_as_many_seconds_as_the_run_and_a_few_seconds_say_nothing() {
        let segments = vec![0..50, 50..57];
        let seconds = Seconds::new(segments, &[0.0; 57]);
        let mut random = Random::new(3);
        for _ in 0..100 {
            let drawn = seconds.draw(&mut random);
            assert_eq!(drawn.iter().map(ExactSizeIterator::len).sum::<usize>(), 57);
            assert!(drawn.iter().all(|range| range.end <= 57 && (range.end <= 50 || range.start >= 50)));
        }
        let few = Seconds::new(std::iter::once(0..2).collect(), &[1.0, 2.0]);
        assert_eq!(few.spread(|_| Some(1.0)), None);
    }
}
