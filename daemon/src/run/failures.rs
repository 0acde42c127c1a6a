//! What the log says of streams that fail. They are counted by class; a line a second and class names where most of that
//! second's were.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::load::Group;
use crate::stream::class::Class;
use crate::stream::meter::{ByClass, Cell};

/// Streams of one class that failed in a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What failed.
    pub what: What,
    /// Why.
    pub class: Class,
    /// How often.
    pub count: u64,
    /// The group where most of them were.
    pub group: Arc<str>,
    /// The target there, without its URL's query.
    pub target: String,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An attempt to open a stream.
    Attempt,
    /// A stream that was open.
    Stream,
}

/// Remembers what was counted before, by cell: attempts that failed, streams lost.
#[derive(Debug, Default)]
pub struct Failures(Vec<[ByClass; 2]>);

impl Failures {
    /// What has failed since the last time, by what workers have counted in their cells.
    pub fn take(&mut self, groups: &[Group], workers: &[&[Cell]]) -> Vec<Failed> {
        let cells = workers.iter().map(|cells| cells.len()).max().unwrap_or(0);
        let mut now = vec![<[ByClass; 2]>::default(); cells];
        for worker in workers {
            for ([attempts, streams], cell) in now.iter_mut().zip(*worker) {
                attempts.add(&cell.counters.failures);
                streams.add(&cell.counters.disconnects);
            }
        }
        self.0.resize(cells, Default::default());
        let mut failed = Vec::new();
        for (index, what) in [What::Attempt, What::Stream].into_iter().enumerate() {
            let fresh: Vec<ByClass> =
                now.iter().zip(&self.0).map(|(now, before)| now[index].since(&before[index])).collect();
            for &class in Class::ALL {
                let counts = fresh.iter().map(|cell| cell.0[class as usize]);
                let count = counts.clone().sum();
                let most = counts.enumerate().max_by_key(|&(cell, count)| (count, Reverse(cell)));
                let place = most.filter(|_| count > 0).and_then(|(cell, _)| place(groups, cell));
                failed.extend(place.map(|(group, target)| Failed { what, class, count, group, target }));
            }
        }
        self.0 = now;
        failed
    }
}

/// Group and target of a cell.
fn place(groups: &[Group], cell: usize) -> Option<(Arc<str>, String)> {
    let mut first = 0;
    for group in groups {
        let cells = group.cells(first);
        first = cells.end;
        if cells.contains(&cell) {
            let target = &group.targets[(cell - cells.start) % group.targets.len()];
            let target = target.split_once('?').map_or(&**target, |(url, _)| url);
            return Some((group.name.clone(), target.to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two groups of one stage: two targets, one target; the second one's cells begin here.
    const SECOND_GROUP: usize = 2 * (2 + Group::ASIDE);

    fn groups() -> Vec<Group> {
        let spec = |name: &str, targets: &[&str]| scale_api::spec::GroupSpec {
            name: name.into(),
            target: targets.iter().map(|target| (*target).to_owned()).collect(),
            conns: Some(10),
            ..Default::default()
        };
        let group = vec![
            spec("a", &["ws://127.0.0.1/x", "ws://127.0.0.2/y?token=canary"]),
            spec("b", &["ws://127.0.0.3/"]),
        ];
        let spec = scale_api::spec::Spec { group, ..Default::default() };
        let host = crate::run::plan::tests::host();
        let mut resolve = |_: &str, port| Ok(vec![([127, 0, 0, 1], port).into()]);
        let plan = crate::run::plan::Plan::new(&spec, &host, &Default::default(), &mut resolve);
        plan.expect("a plan").groups.to_vec()
    }

    #[test]
    fn a_class_is_said_once_with_where_most_of_it_was() {
        let groups = groups();
        let mut workers = [(); 2].map(|()| vec![Cell::default(); SECOND_GROUP * 3 / 2]);
        let mut failures = Failures::default();
        let take = |failures: &mut Failures, workers: &[Vec<Cell>; 2]| {
            failures.take(&groups, &[&workers[0], &workers[1]])
        };
        workers[0][0].counters.failures.count(Class::Refused);
        for _ in 0..2 {
            workers[1][3].counters.failures.count(Class::Refused);
        }
        workers[1][SECOND_GROUP + 1].counters.disconnects.count(Class::Reset);
        let (a, b) = (groups[0].name.clone(), groups[1].name.clone());
        let refused = |count| Failed {
            what: What::Attempt,
            class: Class::Refused,
            count,
            group: a.clone(),
            target: "ws://127.0.0.2/y".into(),
        };
        let reset = Failed {
            what: What::Stream,
            class: Class::Reset,
            count: 1,
            group: b,
            target: "ws://127.0.0.3/".into(),
        };
        assert_eq!(take(&mut failures, &workers), [refused(3), reset]);
        assert_eq!(take(&mut failures, &workers), [], "nothing since");
        workers[0][1].counters.failures.count(Class::Refused);
        assert_eq!(take(&mut failures, &workers), [refused(1)]);
    }
}
