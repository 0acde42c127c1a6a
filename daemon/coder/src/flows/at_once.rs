//! How many builds went at once, by the server's own times: neither our looks nor our clock have a part in it.

use crate::time::Timestamp;
use crate::types::Job;

/// When a build's job went, as the server told it last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// It was asked for.
    pub created: Option<Timestamp>,
    /// A provisioner took it.
    pub started: Option<Timestamp>,
    /// It ended; `None`: nobody looked that long.
    pub completed: Option<Timestamp>,
}

impl From<&Job> for Times {
    fn from(job: &Job) -> Self {
        Self { created: job.created_at, started: job.started_at, completed: job.completed_at }
    }
}

/// The most at once of jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtOnce {
    /// That were asked for and had not ended.
    pub under_way: u64,
    /// That a provisioner worked at.
    pub at_work: u64,
}

impl AtOnce {
    /// Of `jobs`; `None` where the server tells no times. A job whose end was not seen counts at its beginning alone,
    /// so that nothing is claimed that was not so.
    pub fn of(jobs: &[Times]) -> Option<Self> {
        if !jobs.iter().any(|job| job.created.is_some()) {
            return None;
        }
        let span = |from: Option<Timestamp>, job: &Times| Some((from?, job.completed));
        Some(Self {
            under_way: most(jobs.iter().filter_map(|job| span(job.created, job))),
            at_work: most(jobs.iter().filter_map(|job| span(job.started, job))),
        })
    }
}

/// The most of `spans` that hold at one moment. A span's end is not in it, so that one that follows another at once is
/// not beside it; one without an end is its beginning.
fn most(spans: impl Iterator<Item = (Timestamp, Option<Timestamp>)>) -> u64 {
    /// What comes first where moments are the same.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Edge {
        End,
        Begin,
        EndAtOnce,
    }
    let edges = |(from, until): (Timestamp, Option<Timestamp>)| match until.filter(|until| *until > from) {
        Some(until) => [(from, Edge::Begin), (until, Edge::End)],
        None => [(from, Edge::Begin), (from, Edge::EndAtOnce)],
    };
    let mut edges: Vec<_> = spans.flat_map(edges).collect();
    edges.sort_unstable();
    let (mut now, mut most) = (0u64, 0);
    for (_, edge) in edges {
        match edge {
            Edge::Begin => now += 1,
            Edge::End | Edge::EndAtOnce => now -= 1,
        }
        most = most.max(now);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).expect("a time"))
    }

    fn job(created: i64, started: i64, completed: Option<i64>) -> Times {
        Times { created: at(created), started: at(started), completed: completed.and_then(at) }
    }

    #[test]
    fn what_overlaps_is_at_once_and_what_follows_is_not() {
        // Two provisioners: all five are asked for together, two are built at a time.
        let jobs = [
            job(0, 1, Some(3)),
            job(0, 1, Some(4)),
            job(0, 3, Some(5)),
            job(0, 4, Some(6)),
            job(0, 5, Some(7)),
        ];
        assert_eq!(AtOnce::of(&jobs), Some(AtOnce { under_way: 5, at_work: 2 }));
        let in_turn = [job(0, 1, Some(2)), job(2, 2, Some(3)), job(3, 3, Some(4))];
        assert_eq!(AtOnce::of(&in_turn), Some(AtOnce { under_way: 1, at_work: 1 }));
    }

    #[test]
    fn a_job_whose_end_was_not_seen_counts_where_it_began() {
        let jobs = [job(0, 1, None), job(0, 1, Some(9)), job(5, 6, Some(8))];
        assert_eq!(AtOnce::of(&jobs), Some(AtOnce { under_way: 2, at_work: 2 }));
        // One that no provisioner took is under way and nowhere at work.
        let waits = Times { created: at(5), ..Times::default() };
        assert_eq!(AtOnce::of(&[waits]), Some(AtOnce { under_way: 1, at_work: 0 }));
        // Of one that took no time at all: as much.
        assert_eq!(AtOnce::of(&[job(5, 5, Some(5))]), Some(AtOnce { under_way: 1, at_work: 1 }));
    }

    #[test]
    fn a_server_that_tells_no_times_leaves_it_open() {
        assert_eq!(AtOnce::of(&[]), None);
        assert_eq!(AtOnce::of(&[Times::default(); 3]), None);
    }
}
