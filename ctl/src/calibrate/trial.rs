//! The search, tried on hosts whose limit is known.

use scale_api::calibration::{BUSY_MAX, Limit};

use super::watch::{Second, TRY_SECONDS_MAX, Watch};
use super::{HOLD_SECONDS, LOWER, PRECISION, SETTLE_SECONDS};
use crate::compare::random::Random;
use crate::seek::search::{Next, Outcome, Pace, Search};

/// A host that holds `truth` streams.
#[derive(Debug, Clone, Copy)]
struct Simulated {
    truth: u64,
    /// By what it is limited: [`Limit::Busy`], [`Limit::Lateness`] or [`Limit::Target`].
    by: Limit,
    /// Share of the seconds in which somebody else takes the machine.
    noise: f64,
    /// Workers: each opens 1,000 streams a second.
    workers: u64,
}

impl Simulated {
    fn second(self, streams: u64, random: &mut Random) -> Second {
        let load = streams as f64 / self.truth as f64;
        let spread = |by: f64, random: &mut Random| (by * random.normal()).exp();
        let full = if self.by == Limit::Busy { BUSY_MAX } else { 0.55 };
        // Larger batches are cheaper by the message.
        let raw = full * load.powf(0.9) * spread(0.02, random);
        let busy = raw.min(1.0);
        let steep = if self.by == Limit::Lateness { 0.001 * load.powi(6) } else { 0.000_2 * load };
        let mut second = Second {
            lateness_p99: Some(steep * spread(0.15, random)),
            busy,
            cpu: busy * self.workers as f64,
            messages: streams as f64 * 10.0,
            bytes: streams as f64 * 40_960.0,
            echoed: streams as f64 * 10.0,
            missed: [(1.0 - 1.0 / raw).max(0.0), 0.0, 0.0],
            service: (Some(0.001), Some(0.002)),
        };
        if self.by == Limit::Target {
            // A queue before the target: it grows, or it does not.
            second.echoed *= (1.0 / load).min(1.0);
            second.service.0 = Some(if load > 1.0 { 1.0 } else { 0.001 });
        }
        if random.uniform() < self.noise {
            second.lateness_p99 = Some(0.005 + 0.05 * random.uniform());
            second.busy = (second.busy * 1.1).min(1.0);
            second.missed[0] += 0.02 * random.uniform();
        }
        second
    }

    /// What the search says, in no more than `time` seconds: the claim, what ended it, and every step.
    fn search(self, most: (u64, Limit), time: f64, seed: u64) -> (u64, Limit, Vec<(Next, bool)>) {
        let mut random = Random::new(seed);
        let pace = Pace {
            connects: 1000.0 * self.workers as f64,
            step: (SETTLE_SECONDS + TRY_SECONDS_MAX) as f64,
            hold: (SETTLE_SECONDS + HOLD_SECONDS) as f64,
            precision: PRECISION,
            lower: LOWER,
            least: 1,
        };
        let mut search = Search::new(100 * self.workers, most, pace);
        let (mut spent, mut now, mut steps) = (0.0, 0u64, Vec::new());
        loop {
            let next = search.next(time - spent);
            let (streams, hold) = match next {
                Next::Try(streams) => (streams, None),
                Next::Hold(streams) => (streams, Some(HOLD_SECONDS)),
                Next::Done => break,
            };
            spent += streams.saturating_sub(now) as f64 / pace.connects + SETTLE_SECONDS as f64;
            now = streams;
            let mut watch = Watch::new(hold, 0.1);
            let broke = loop {
                spent += 1.0;
                if let Some(decision) = watch.take(self.second(streams, &mut random)) {
                    break decision;
                }
            };
            let busy = watch.median(|second| Some(second.busy)).unwrap();
            search.took(next, broke.map_or(Outcome::Held { used: busy / BUSY_MAX }, Outcome::Broke));
            steps.push((next, broke.is_none()));
            assert!(spent <= time + 1e-9, "seed {seed}: {spent} s of {time} after {steps:?}");
            assert!(steps.len() <= 40, "seed {seed}: it comes to no end: {steps:?}");
        }
        (search.best(), search.limit(), steps)
    }
}

const TIME: f64 = 109.0;
const NO_BOUND: (u64, Limit) = (1_000_000, Limit::Cores);

/// Claims of many hosts are what some step held and no step broke; the shares of them that are within 10 % of the truth,
/// and that name what limited them.
fn near(by: Limit, noise: f64, seeds: u64) -> (f64, f64) {
    let (mut near, mut named) = (0, 0);
    for seed in 0..seeds {
        let mut random = Random::new(seed ^ 0x5eed);
        let workers = 1 + random.below(16) as u64;
        let truth = workers * (800 + random.below(9000) as u64);
        let host = Simulated { truth, by, noise, workers };
        let (claim, limit, steps) = host.search(NO_BOUND, TIME, seed);
        let streams = |next: &Next| match *next {
            Next::Try(streams) | Next::Hold(streams) => streams,
            Next::Done => 0,
        };
        let held = steps.iter().any(|(next, held)| *held && streams(next) == claim);
        assert!(held || claim == 0, "seed {seed}: {claim} was never held: {steps:?}");
        let last = |wanted: bool| {
            steps.iter().rposition(|(next, held)| {
                *held == wanted && (if wanted { streams(next) == claim } else { streams(next) <= claim })
            })
        };
        assert!(claim == 0 || last(false) < last(true), "seed {seed}: {claim} broke later: {steps:?}");
        let share = claim as f64 / truth as f64;
        assert!(share < 1.06, "seed {seed}: {claim} of {truth}: {steps:?}");
        // A neighbour's second breaks more than one bound, and may give the limit its name.
        let is_named = limit == by || (noise > 0.0 && limit.is_of_this_host() && by.is_of_this_host());
        near += u64::from((0.9..1.06).contains(&share));
        named += u64::from(is_named);
    }
    (near as f64 / seeds as f64, named as f64 / seeds as f64)
}

#[test]
fn on_a_quiet_host_the_limit_is_found_within_ten_percent() {
    for by in [Limit::Busy, Limit::Lateness, Limit::Target] {
        let (near, named) = near(by, 0.0, 500);
        assert!(near >= 0.99 && named >= 0.99, "{by:?}: {near} of the hosts near, {named} named");
    }
}

#[test]
fn on_a_noisy_host_it_is_found_all_the_same() {
    for by in [Limit::Busy, Limit::Lateness, Limit::Target] {
        let (near, named) = near(by, 0.1, 500);
        assert!(near >= 0.95 && named >= 0.9, "{by:?}: {near} of the hosts near, {named} named");
    }
}

#[test]
fn a_bound_is_held_and_named() {
    let host = Simulated { truth: 7_000, by: Limit::Busy, noise: 0.0, workers: 1 };
    let (claim, limit, steps) = host.search((200, Limit::Streams), TIME, 1);
    assert_eq!((claim, limit), (200, Limit::Streams));
    assert_eq!(steps.last(), Some(&(Next::Hold(200), true)));
    let (claim, limit, steps) = host.search((100, Limit::Ports), TIME, 1);
    assert_eq!((claim, limit, steps.len()), (100, Limit::Ports, 1), "one step says it all");
}

#[test]
fn too_little_time_is_said_and_nothing_is_claimed_that_was_not_held() {
    let host = Simulated { truth: 7_000, by: Limit::Busy, noise: 0.0, workers: 1 };
    let (claim, limit, steps) = host.search(NO_BOUND, 25.0, 3);
    assert_eq!(limit, Limit::Time, "{steps:?}");
    assert!((100..7_000).contains(&claim) && steps.contains(&(Next::Hold(claim), true)), "{steps:?}");
    assert_eq!(host.search(NO_BOUND, 3.0, 3), (0, Limit::Time, vec![]), "not even one step");
}

#[test]
fn a_host_that_holds_next_to_nothing_is_searched_downwards() {
    let host = Simulated { truth: 20, by: Limit::Busy, noise: 0.0, workers: 1 };
    let (claim, limit, _) = host.search(NO_BOUND, TIME, 5);
    assert!((18..=20).contains(&claim) && limit == Limit::Busy, "{claim} {limit:?}");
    let none = Simulated { truth: 1, by: Limit::Lateness, noise: 1.0, workers: 1 };
    assert_eq!(none.search(NO_BOUND, TIME, 5).0, 0);
}
