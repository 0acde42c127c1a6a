//! Two sides of runs and what their difference is worth.
//!
//! A run differs from another of the same plan by more than its seconds tell: memory lies elsewhere, a
//! neighbour moved in. Of one run nobody knows by how much, so a *floor* is taken for it, learned from
//! many runs of one plan. With several runs a side their own spread takes over, held up by the floor
//! where two or three happen to be alike: Welch's t with moderated variances (Smyth, 2004).

use super::blocks::{Spread, variance};
use super::student;

/// The floor counts as much as this many runs of a side.
const FLOOR_RUNS: f64 = 2.0;
/// Degrees of freedom of the floor itself, where one run each leaves nothing else.
const FLOOR_FREEDOM: f64 = 30.0;
/// Of the normal distribution: a difference that lies so far beyond what is needed is seen in 9 of 10.
const POWER: f64 = 1.2816;
/// Runs a side that are thought about.
const RUNS_MAX: usize = 100;

/// A figure of one run, on the scale on which it is compared.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The figure.
    pub value: f64,
    /// How far it may be off by the run's own seconds; `None`: they do not tell.
    pub within: Option<Spread>,
}

/// What `new` has over `base`.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// Mean of new − mean of base.
    pub value: f64,
    error: f64,
    freedom: f64,
    /// Standard deviation of one run's figure.
    run: f64,
}

/// A side's variance of one run, and its degrees of freedom.
#[derive(Debug, Clone, Copy)]
struct Side {
    runs: f64,
    variance: f64,
    freedom: f64,
}

impl Difference {
    /// `floor`: the standard deviation between runs of one plan, at least. `None`: a side has one run
    /// alone, and its seconds do not tell how far its figure may be off.
    pub fn new(base: &[Sample], new: &[Sample], floor: f64) -> Option<Self> {
        let value = mean(new)? - mean(base)?;
        let (left, right) = match (side(base, floor), side(new, floor)) {
            (Some(left), Some(right)) => (left, right),
            // What one side alone knows of the spread holds for the other.
            (Some(left), None) if base.len() > 1 => (left, Side { runs: 1.0, ..left }),
            (None, Some(right)) if new.len() > 1 => (Side { runs: 1.0, ..right }, right),
            _ => return None,
        };
        let widened = |one: Side, other: Side| Side { variance: one.variance.max(other.variance), ..one };
        let (left, right) = match (base.len(), new.len()) {
            (1, 2..) => (widened(left, right), right),
            (2.., 1) => (left, widened(right, left)),
            _ => (left, right),
        };
        let parts = [left.variance / left.runs, right.variance / right.runs];
        let sum: f64 = parts.iter().sum();
        let freedom = sum * sum
            / (parts[0] * parts[0] / left.freedom + parts[1] * parts[1] / right.freedom)
                .max(f64::MIN_POSITIVE);
        let run = f64::midpoint(left.variance, right.variance).sqrt();
        Some(Self { value, error: sum.sqrt(), freedom, run })
    }

    /// The interval in which the difference lies with `confidence`.
    pub fn interval(&self, confidence: f64) -> (f64, f64) {
        let reach = student::critical(confidence, self.freedom) * self.error;
        (self.value - reach, self.value + reach)
    }

    /// How many runs a side, two at least, see a difference of `size` in 9 of 10 tries; `None`: more
    /// than anybody makes.
    pub fn runs_needed(&self, size: f64, confidence: f64) -> Option<usize> {
        (2..=RUNS_MAX).find(|&runs| {
            let freedom = 2.0 * (FLOOR_RUNS + runs as f64 - 1.0);
            let reach = student::critical(confidence, freedom) + POWER;
            reach * self.run * (2.0 / runs as f64).sqrt() <= size
        })
    }
}

fn mean(samples: &[Sample]) -> Option<f64> {
    (!samples.is_empty())
        .then(|| samples.iter().map(|sample| sample.value).sum::<f64>() / samples.len() as f64)
}

fn side(samples: &[Sample], floor: f64) -> Option<Side> {
    let floor = floor * floor;
    let runs = samples.len() as f64;
    if let [only] = samples {
        let Spread { variance, freedom } = only.within?;
        let sum = variance + floor;
        let parts = variance * variance / freedom + floor * floor / FLOOR_FREEDOM;
        let freedom = if parts > 0.0 { sum * sum / parts } else { FLOOR_FREEDOM };
        return Some(Side { runs, variance: sum, freedom });
    }
    let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    let seen = variance(&values)?;
    let within = samples.iter().filter_map(|sample| sample.within).map(|spread| spread.variance);
    let expected = floor + within.sum::<f64>() / runs;
    let moderated = (FLOOR_RUNS * expected + (runs - 1.0) * seen) / (FLOOR_RUNS + runs - 1.0);
    // What the floor adds to the degrees of freedom is worth the less, the further it is off.
    let freedom = runs - 1.0 + FLOOR_RUNS * if seen > expected { expected / seen } else { 1.0 };
    Some(Side { runs, variance: moderated.max(seen), freedom })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::statistics::random::Random;

    fn run(value: f64, variance: f64) -> Sample {
        Sample { value, within: Some(Spread { variance, freedom: 20.0 }) }
    }

    #[test]
    fn one_run_each_is_never_surer_than_the_floor() {
        let difference = Difference::new(&[run(0.0, 0.0)], &[run(0.1, 0.0)], 0.03).expect("known");
        let (low, high) = difference.interval(0.95);
        assert!((difference.value - 0.1).abs() < 1e-12);
        // 2 × 0.03², and t at 60 degrees of freedom.
        assert!((high - low - 2.0 * 2.0003 * 0.03 * 2f64.sqrt()).abs() < 1e-4, "{low} {high}");
        let unsure = Difference::new(&[run(0.0, 0.01)], &[run(0.1, 0.01)], 0.03).expect("known");
        assert!(unsure.interval(0.95).0 < low - 0.1);
        let silent = Sample { value: 0.0, within: None };
        assert!(Difference::new(&[silent], &[run(0.1, 0.0)], 0.03).is_none());
        assert!(Difference::new(&[silent, silent], &[silent], 0.03).is_some(), "one side knows the spread");
    }

    #[test]
    fn runs_that_differ_widen_the_interval_and_more_of_them_narrow_it() {
        let width = |values: &[f64]| {
            let runs: Vec<Sample> = values.iter().map(|value| run(*value, 1e-4)).collect();
            let (low, high) = Difference::new(&runs, &runs, 0.02).expect("known").interval(0.95);
            high - low
        };
        assert!(width(&[0.0, 0.3, 0.6]) > 4.0 * width(&[0.0, 0.0, 0.0]));
        assert!(width(&[0.0, 0.1, 0.0, 0.1, 0.0, 0.1]) < width(&[0.0, 0.1]) / 1.5);
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut random = Random::new(11);
        for (runs, spread) in [(2, 0.02), (3, 0.1), (5, 0.05), (8, 0.2)] {
            let mut side = |runs| (0..runs).map(|_| run(spread * random.normal(), 1e-6)).collect::<Vec<_>>();
            let holds = (0..2000)
                .filter(|_| {
                    let difference = Difference::new(&side(runs), &side(runs), 0.02).expect("known");
                    let (low, high) = difference.interval(0.95);
                    low <= 0.0 && high >= 0.0
                })
                .count();
            assert!(holds >= 1860, "{runs} runs, spread {spread}: {holds} of 2000");
        }
    }

    #[test]
    fn as_many_runs_as_it_asks_for_do_see_it() {
        let mut random = Random::new(5);
        let runs = |count: usize, at: f64, random: &mut Random| {
            (0..count).map(|_| run(at + 0.05 * random.normal(), 0.0)).collect::<Vec<_>>()
        };
        let seen =
            Difference::new(&runs(40, 0.0, &mut random), &runs(40, 0.0, &mut random), 0.03).expect("known");
        let needed = seen.runs_needed(0.1, 0.95).expect("few");
        assert!((4..=9).contains(&needed), "{needed}");
        let sees = (0..500).filter(|_| {
            let (base, new) = (runs(needed, 0.0, &mut random), runs(needed, 0.1, &mut random));
            Difference::new(&base, &new, 0.03).expect("known").interval(0.95).0 > 0.0
        });
        assert!(sees.count() >= 430);
        assert!(seen.runs_needed(0.001, 0.95).is_none());
    }
}
