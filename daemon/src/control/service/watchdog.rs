//! Whether every worker still moves, and so whether the manager gets its sign of life.
//!
//! Each worker counts its turns; one whose count has not changed for [`STILL_MAX`] stands still. The sign of life is
//! sent by the control thread, so a control thread that stands still sends none. Only time in which the control thread
//! has looked counts against a worker: after a pause of the whole process or host all of them get a new chance.

use std::time::Duration;

use scale_ring::Time;

/// A turn takes milliseconds; a worker that has made none for so long will make none.
pub const STILL_MAX: Duration = Duration::from_secs(5);
/// The most that counts between two looks.
const LOOK_MAX: Duration = Duration::from_millis(500);

/// What is known of the workers.
#[derive(Debug)]
pub struct Watchdog {
    /// The sign of life is due this often; `None`: nobody waits for it.
    period: Option<Duration>,
    still_max: Duration,
    fed: Option<Time>,
    looked: Option<Time>,
    workers: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    core: usize,
    beats: u64,
    still: Duration,
    is_told: bool,
}

/// What a look came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The sign of life is due, and may be given.
    pub feed: bool,
    /// Workers, by core, found to stand still just now, and since when.
    pub stopped: Vec<(usize, Duration)>,
    /// Those that were, and move again.
    pub moving: Vec<usize>,
}

impl Watchdog {
    /// One that gives a sign of life each `period`. A worker may stand still for as long at most.
    pub fn new(period: Option<Duration>) -> Self {
        let still_max = period.map_or(STILL_MAX, |period| period.min(STILL_MAX));
        Self { period, still_max, fed: None, looked: None, workers: Vec::new() }
    }

    /// Looks at the turns of all workers that go, by core.
    pub fn look(&mut self, now: Time, pulses: impl Iterator<Item = (usize, u64)>) -> Look {
        let passed = self.looked.replace(now).map_or(Duration::ZERO, |at| now.since(at)).min(LOOK_MAX);
        let before = std::mem::take(&mut self.workers);
        let mut look = Look::default();
        for (core, beats) in pulses {
            let seen = before.iter().find(|seen| seen.core == core && seen.beats == beats);
            let was_told = before.iter().any(|seen| seen.core == core && seen.is_told);
            let still = seen.map_or(Duration::ZERO, |seen| seen.still + passed);
            let is_told = still >= self.still_max;
            match (was_told, is_told) {
                (false, true) => look.stopped.push((core, still)),
                (true, false) => look.moving.push(core),
                _ => {}
            }
            self.workers.push(Seen { core, beats, still, is_told });
        }
        let is_due = |period| self.fed.is_none_or(|at| now.since(at) >= period);
        look.feed = self.still().is_none() && self.period.is_some_and(is_due);
        if look.feed {
            self.fed = Some(now);
        }
        look
    }

    /// The worker that has stood still the longest, by core, if any does.
    pub fn still(&self) -> Option<(usize, Duration)> {
        let still = self.workers.iter().filter(|seen| seen.is_told);
        still.max_by_key(|seen| seen.still).map(|seen| (seen.core, seen.still))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks each 50 ms for `seconds`, the workers' turns given by the second; what came of it.
    fn watch(
        dog: &mut Watchdog,
        from: f64,
        seconds: f64,
        pulses: impl Fn(f64) -> Vec<(usize, u64)>,
    ) -> (Vec<f64>, Vec<(f64, Look)>) {
        let (mut fed, mut news) = (Vec::new(), Vec::new());
        for step in 0..(seconds * 20.0) as u64 {
            let at = from + step as f64 / 20.0;
            let look = dog.look(Time::from_ns((at * 1e9) as u64), pulses(at).into_iter());
            if look.feed {
                fed.push(at);
            }
            if look.stopped.len() + look.moving.len() > 0 {
                news.push((at, look));
            }
        }
        (fed, news)
    }

    const PERIOD: Duration = Duration::from_secs(2);

    #[test]
    fn a_sign_of_life_comes_each_period_while_all_move_and_between_runs() {
        let mut dog = Watchdog::new(Some(PERIOD));
        let (fed, news) =
            watch(&mut dog, 0.0, 9.0, |at| vec![(0, (at * 100.0) as u64), (1, (at * 20.0) as u64)]);
        assert_eq!((fed.len(), news.len()), (5, 0), "{fed:?}");
        let (fed, news) = watch(&mut dog, 9.0, 6.0, |_| vec![]);
        assert_eq!((fed.len(), news.len()), (3, 0), "{fed:?}");
        assert!(watch(&mut Watchdog::new(None), 0.0, 9.0, |_| vec![]).0.is_empty());
    }

    #[test]
    fn one_worker_that_stands_still_withholds_it_until_it_moves() {
        let mut dog = Watchdog::new(Some(PERIOD));
        // The one on core 3 stands still from 10 to 20.
        let turns = |at: f64| (at.min(10.0) + (at - 20.0).max(0.0)) * 100.0;
        let (fed, news) =
            watch(&mut dog, 0.0, 30.0, |at| vec![(2, (at * 100.0) as u64), (3, turns(at) as u64)]);
        let [(stopped, what), (moving, then)] = &news[..] else { panic!("{news:?}") };
        assert!((11.9..12.2).contains(stopped) && (20.0..20.2).contains(moving), "{news:?}");
        assert_eq!((what.stopped[0].0, &then.moving[..]), (3, &[3][..]));
        assert!(!fed.iter().any(|at| (12.1..20.0).contains(at)) && fed.len() == 6 + 5, "{fed:?}");
    }

    #[test]
    fn a_pause_of_all_is_nobodys_fault() {
        let mut dog = Watchdog::new(None);
        let (_, news) = watch(&mut dog, 0.0, 1.0, |at| vec![(0, (at * 100.0) as u64)]);
        // The process is stopped for a minute; the control thread comes first afterwards.
        let (_, more) =
            watch(&mut dog, 61.0, 3.0, |at| vec![(0, if at < 61.1 { 95 } else { (at * 100.0) as u64 })]);
        assert_eq!((news.len(), more.len()), (0, 0));
        // One that stands still afterwards is found all the same.
        let (_, news) = watch(&mut dog, 64.0, 7.0, |_| vec![(0, 7)]);
        assert_eq!((news.len(), news[0].1.stopped[0].0), (1, 0));
        assert!(dog.still().is_some_and(|(core, still)| core == 0 && still >= STILL_MAX));
    }

    #[test]
    fn the_next_runs_worker_on_a_core_begins_anew() {
        let mut dog = Watchdog::new(None);
        let (_, news) = watch(&mut dog, 0.0, 4.0, |_| vec![(0, 7)]);
        let (_, more) = watch(&mut dog, 4.0, 4.0, |_| vec![(0, 0)]);
        assert_eq!((news.len(), more.len()), (0, 0));
    }
}
