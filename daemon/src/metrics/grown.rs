//! What grows with a run beside its counters: distributions, stages entered, marks put.

use scale_api::report::Event;

use super::buckets::Buckets;
use crate::stream::meter::{Figure, Histograms};

/// Since the run's start.
#[derive(Debug, Clone, Default)]
pub struct Grown {
    /// By figure, of all groups.
    figures: [Buckets; Figure::COUNT],
    /// Response time, by group in the plan's order.
    responses: Vec<Buckets>,
    /// The stage that each group is in, and since when (seconds since 1970); by name of the group.
    stages: Vec<Stage>,
    /// Marks so far.
    pub marks: u64,
    /// The newest mark's text, and when it was put (seconds since 1970).
    pub newest: Option<(String, f64)>,
}

/// The stage that a group is in.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Whose.
    pub group: String,
    /// `1` and so on in steady state, else the phase.
    pub name: String,
    /// Since when, in seconds since 1970, to the second.
    pub since: f64,
}

/// The longest text of a mark in a label, in characters.
const MARK_TEXT_MAX: usize = 120;

impl Grown {
    /// Adds a second: what was measured in it, in all and by group, and what is said of it.
    /// `started_at`: the run's start in seconds since 1970.
    pub fn take(&mut self, all: &Histograms, groups: &[Histograms], event: &Event, started_at: f64) {
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
        self.enter_stages(event, started_at);
        self.marks += event.marks.len() as u64;
        if let Some(mark) = event.marks.last() {
            self.newest = Some((mark.text.chars().take(MARK_TEXT_MAX).collect(), started_at + mark.at));
        }
    }

    fn enter_stages(&mut self, event: &Event, started_at: f64) {
        let since = started_at + event.elapsed;
        for (group, name) in &event.stages {
            let name = name.strip_prefix("stage ").unwrap_or(name);
            match self.stages.iter_mut().find(|stage| stage.group == *group) {
                Some(stage) if stage.name == name => {}
                Some(stage) => (stage.name, stage.since) = (name.to_owned(), since),
                None => self.stages.push(Stage { group: group.clone(), name: name.to_owned(), since }),
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
    use scale_api::report::Mark;

    fn event(elapsed: f64, stage: &str, marks: &[(f64, &str)]) -> Event {
        let marks = marks.iter().map(|&(at, text)| Mark { at, text: text.into(), ..Mark::default() });
        Event {
            elapsed,
            stages: [("main".to_owned(), stage.to_owned())].into(),
            marks: marks.collect(),
            ..Event::default()
        }
    }

    #[test]
    fn figures_grow_by_each_second_in_all_and_by_group() {
        let mut grown = Grown::default();
        let (mut all, mut group) = (Histograms::default(), Histograms::default());
        group.record(Figure::Response, 1_000_000);
        all.add(&group);
        all.record(Figure::Response, 2_000_000);
        all.record(Figure::Connect, 3_000_000);
        let groups = [group, Histograms::default()];
        for second in [1.0, 2.0] {
            grown.take(&all, &groups, &event(second, "ramping", &[]), 0.0);
        }
        let counts: Vec<u64> = grown.responses().iter().map(Buckets::count).collect();
        assert_eq!((grown.figure(Figure::Response).count(), grown.figure(Figure::Connect).count()), (4, 2));
        assert_eq!(counts, [2, 0]);
    }

    #[test]
    fn a_stage_has_the_time_at_which_it_was_entered() {
        let mut grown = Grown::default();
        for (elapsed, stage) in [(1.0, "ramping"), (2.0, "stage 1"), (3.0, "stage 1"), (4.0, "stage 2")] {
            grown.take(&Histograms::default(), &[], &event(elapsed, stage, &[]), 1000.0);
            let now = &grown.stages()[0];
            assert_eq!(now.name, stage.trim_start_matches("stage "));
            assert_eq!(now.since, 1000.0 + if elapsed == 3.0 { 2.0 } else { elapsed });
        }
        assert_eq!(grown.stages().len(), 1);
    }

    #[test]
    fn the_newest_mark_stays_and_its_label_is_bounded() {
        let mut grown = Grown::default();
        grown.take(
            &Histograms::default(),
            &[],
            &event(1.0, "ramping", &[(0.25, "one"), (0.5, "two")]),
            1000.0,
        );
        grown.take(&Histograms::default(), &[], &event(2.0, "ramping", &[]), 1000.0);
        assert_eq!((grown.marks, grown.newest.clone()), (2, Some(("two".into(), 1000.5))));
        grown.take(&Histograms::default(), &[], &event(3.0, "ramping", &[(2.5, &"é".repeat(200))]), 1000.0);
        assert_eq!(grown.newest.unwrap().0, "é".repeat(MARK_TEXT_MAX));
    }
}
