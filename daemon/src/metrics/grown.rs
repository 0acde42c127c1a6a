//! What grows with a run beside its counters: distributions, and stages entered.

use std::sync::Arc;

use super::buckets::Buckets;
use crate::stream::meter::{Figure, Histograms};

/// Since the run's start.
#[derive(Debug, Clone, Default)]
pub struct Grown {
    /// By figure, of all groups.
    figures: [Buckets; Figure::COUNT],
    /// Response time, by group in the plan's order.
    responses: Vec<Buckets>,
    /// In the plan's order.
    stages: Vec<Stage>,
}

/// The stage that a group is in.
#[derive(Debug, Clone, Default)]
pub struct Stage {
    /// Whose.
    pub group: Arc<str>,
    /// `1` and so on in steady state, else the phase.
    pub name: String,
    /// Since when, in seconds since 1970, to the second.
    pub since: f64,
}

impl Grown {
    /// Adds what was measured in a second, in all and by group.
    pub fn take(&mut self, all: &Histograms, groups: &[Histograms]) {
        for (figure, buckets) in Figure::ALL.into_iter().zip(&mut self.figures) {
            if let Some(samples) = all.figure(figure) {
                buckets.take(samples);
            }
        }
        self.responses.resize_with(groups.len(), Buckets::default);
        for (histograms, response) in groups.iter().zip(&mut self.responses) {
            if let Some(samples) = histograms.figure(Figure::Response) {
                response.take(samples);
            }
        }
    }

    /// Takes note of the stages that groups are in at `now`, in seconds since 1970.
    pub fn enter(&mut self, stages: &[(Arc<str>, &'static str, usize)], now: f64) {
        self.stages.resize_with(stages.len(), Stage::default);
        for (stage, (group, phase, number)) in self.stages.iter_mut().zip(stages) {
            let name = if *number > 0 { number.to_string() } else { (*phase).to_owned() };
            if stage.name != name {
                *stage = Stage { group: group.clone(), name, since: now };
            }
        }
    }

    /// A figure of all groups.
    pub const fn figure(&self, figure: Figure) -> &Buckets {
        &self.figures[figure as usize]
    }

    /// Response time by group, in the plan's order.
    pub fn responses(&self) -> &[Buckets] {
        &self.responses
    }

    /// The stage that each group is in.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_grow_by_each_second_in_all_and_by_group() {
        let mut grown = Grown::default();
        let (mut all, mut group) = (Histograms::default(), Histograms::default());
        group.record(Figure::Response, 1_000_000);
        all.add(&group);
        all.record(Figure::Response, 2_000_000);
        all.record(Figure::Connect, 3_000_000);
        let groups = [group, Histograms::default()];
        for _ in 0..2 {
            grown.take(&all, &groups);
        }
        let counts: Vec<u64> = grown.responses().iter().map(Buckets::count).collect();
        assert_eq!((grown.figure(Figure::Response).count(), grown.figure(Figure::Connect).count()), (4, 2));
        assert_eq!(counts, [2, 0]);
    }

    #[test]
    fn a_stage_has_the_time_at_which_it_was_entered() {
        let mut grown = Grown::default();
        let seen = [(1.0, "ramping", 0, "ramping", 1.0), (2.0, "steady", 1, "1", 2.0)];
        let then = [(3.0, "steady", 1, "1", 2.0), (4.0, "steady", 2, "2", 4.0)];
        for (now, phase, number, name, since) in seen.into_iter().chain(then) {
            grown.enter(&[("main".into(), phase, number)], now);
            let [stage] = grown.stages() else { panic!("one group") };
            assert_eq!((&*stage.group, &*stage.name, stage.since), ("main", name, since));
        }
    }
}
