//! Percentiles of a resampled run: distributions of single seconds, added up.
//!
//! The p99 of a run is no mean of its seconds' p99s: one bad second may hold all that lies beyond it.
//! So what is known of each second's distribution goes onto one grid of times, seconds are added up as
//! they are drawn, and the percentile is read from the sum.

use std::ops::Range;

/// Cells of the grid a doubling: 1.1 % each, and straight lines within.
const CELLS_A_DOUBLING: f64 = 64.0;
/// Shorter times are all the same: what histograms of µs cannot tell apart.
const TIME_MIN: f64 = 1e-6;
/// Cells of a grid: 30 doublings, from 1 µs beyond any timeout.
const CELLS_MAX: usize = 1920;

/// What is known of the distribution of one second.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    samples: f64,
    /// The logarithm of a time and the share of samples at or below it, both ascending; between two of
    /// them it is a straight line.
    points: Vec<(f64, f64)>,
}

impl Shape {
    /// `samples` of which so large a share (0 to 1) is at or below a time in seconds. Where two points
    /// contradict each other, as roundings do, the higher share stands.
    pub fn new(samples: f64, mut points: Vec<(f64, f64)>) -> Self {
        points.retain(|(time, share)| time.is_finite() && share.is_finite());
        points.sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
        let mut highest = 0.0;
        for (time, share) in &mut points {
            highest = share.clamp(highest, 1.0);
            (*time, *share) = (time.max(TIME_MIN).ln(), highest);
        }
        if points.is_empty() { Self::default() } else { Self { samples, points } }
    }

    /// The share of samples at or below each upper edge of the cells from `low` on.
    fn shares(&self, low: f64, cells: usize) -> impl Iterator<Item = f64> {
        let mut next = 0;
        (1..=cells).map(move |cell| {
            let at = low + cell as f64 * step();
            while self.points.get(next).is_some_and(|(time, _)| *time <= at) {
                next += 1;
            }
            match (next.checked_sub(1).map(|before| self.points[before]), self.points.get(next)) {
                // Everything is in the last cell.
                _ if cell == cells => 1.0,
                (None, _) => 0.0,
                (Some((_, share)), None) => share,
                (Some((from, least)), Some((to, most))) => least + (most - least) * (at - from) / (to - from),
            }
        })
    }
}

/// The seconds of a run, ready to be added up.
#[derive(Debug, Clone)]
pub struct Pooled {
    /// Samples of the seconds before `second` at or below the upper edge of `cell`, at
    /// `second × cells + cell`.
    sums: Vec<f64>,
    cells: usize,
    low: f64,
}

impl Pooled {
    /// `None`: there is no sample.
    pub fn new(shapes: &[Shape]) -> Option<Self> {
        let times = || shapes.iter().filter(|shape| shape.samples > 0.0).flat_map(|shape| &shape.points);
        let low = times().map(|(time, _)| *time).reduce(f64::min)?;
        let high = times().map(|(time, _)| *time).reduce(f64::max)?;
        let cells = (((high - low) / step()).ceil() as usize).clamp(1, CELLS_MAX);
        let mut sums = Vec::with_capacity((shapes.len() + 1) * cells);
        sums.resize(cells, 0.0);
        for (second, shape) in shapes.iter().enumerate() {
            for (cell, share) in shape.shares(low, cells).enumerate() {
                sums.push(sums[second * cells + cell] + share * shape.samples);
            }
        }
        Some(Self { sums, cells, low })
    }

    fn at_or_below(&self, seconds: &[Range<usize>], cell: usize) -> f64 {
        let at = |second: usize| self.sums[second * self.cells + cell];
        seconds.iter().map(|range| at(range.end) - at(range.start)).sum()
    }

    /// The logarithm of a percentile of these seconds together. `None`: they have no sample.
    pub fn ln_quantile(&self, seconds: &[Range<usize>], quantile: f64) -> Option<f64> {
        let all = self.at_or_below(seconds, self.cells - 1);
        if all <= 0.0 {
            return None;
        }
        let wanted = all * quantile;
        let (mut low, mut high) = (0, self.cells - 1);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.at_or_below(seconds, middle) < wanted { low = middle + 1 } else { high = middle }
        }
        let before = if low == 0 { 0.0 } else { self.at_or_below(seconds, low - 1) };
        let within = self.at_or_below(seconds, low) - before;
        let part = if within > 0.0 { (wanted - before) / within } else { 1.0 };
        Some(self.low + (low as f64 + part.clamp(0.0, 1.0)) * step())
    }
}

fn step() -> f64 {
    std::f64::consts::LN_2 / CELLS_A_DOUBLING
}

#[cfg(test)]
mod tests {
    use super::*;

    fn even(from: f64, to: f64, samples: f64) -> Shape {
        let points = (0..=20).map(|n| f64::from(n) / 20.0).map(|share| (from + (to - from) * share, share));
        Shape::new(samples, points.collect())
    }

    #[test]
    fn a_percentile_of_all_seconds_is_that_of_all_samples() {
        // 1 to 2 ms, and one second of 9 to 10 ms with a fiftieth of the samples.
        let mut shapes = vec![even(0.001, 0.002, 100.0); 49];
        shapes.push(even(0.009, 0.010, 100.0));
        let pooled = Pooled::new(&shapes).expect("samples");
        let quantile = |q| pooled.ln_quantile(std::slice::from_ref(&(0..50)), q).expect("samples").exp();
        for (q, expected) in [(0.49, 0.0015), (0.98, 0.002), (0.99, 0.0095), (1.0, 0.010)] {
            assert!((quantile(q) / expected - 1.0).abs() < 0.01, "{q}: {}, not {expected}", quantile(q));
        }
        let without = pooled.ln_quantile(&[0..25, 0..25], 0.99).expect("samples").exp();
        assert!(without < 0.0021, "seconds that were not drawn do not count");
    }

    #[test]
    fn seconds_without_samples_have_no_percentile() {
        assert!(Pooled::new(&[Shape::default()]).is_none());
        let pooled = Pooled::new(&[Shape::default(), even(0.1, 0.2, 5.0)]).expect("samples");
        assert_eq!(pooled.ln_quantile(std::slice::from_ref(&(0..1)), 0.5), None);
        assert!(pooled.ln_quantile(std::slice::from_ref(&(0..2)), 0.5).is_some());
    }
}
