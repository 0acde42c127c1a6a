//! The circuit breaker of one group and target: closed, open, half-open (M. Nygard, Release It!, 2nd ed., 5.2).
//!
//! Closed, connects are free. A share of failures in the last [`WINDOW_S`] seconds opens it: no connects for a pause.
//! Then a few probes say whether it closes, or opens again for twice as long.

use std::collections::VecDeque;

/// Connects of so many seconds are judged together.
pub const WINDOW_S: u64 = 5;
/// Fewer ended connects say nothing.
pub const ENDED_MIN: u64 = 20;
/// The first pause, and the longest.
const PAUSE_S: u64 = 2;
const PAUSE_MAX_S: u64 = 30;
/// Attempts that a half-open breaker lets through.
pub const PROBES: u32 = 5;
/// Where fewer probes end than were let through, those that did decide after this; where none did, there are new ones.
const PROBES_WAIT_S: u64 = 3;
/// Closed for so long, the next pause is the first again.
const CALM_S: u64 = 60;

/// A second of one group's connects to one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Second {
    /// How many seconds it covers: more than one where the control thread was held up.
    pub seconds: u64,
    /// Streams that opened.
    pub opened: u64,
    /// Attempts that failed at the target or by what its caller asked for; the generator's own say nothing of either.
    pub failed: u64,
    /// Attempts under way at its end.
    pub under_way: u64,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// No connects, for so many seconds; so many of so many had failed.
    Open {
        /// Seconds.
        pause_s: u64,
        /// Attempts that failed.
        failed: u64,
        /// Attempts that ended.
        ended: u64,
        /// It was closed until now.
        is_first: bool,
    },
    /// A few connects.
    Probe,
    /// Any number of them.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        for_s: u64,
    },
    /// `for_s` of `pause_s` have passed.
    Open {
        for_s: u64,
        pause_s: u64,
    },
    /// What probes have come to in `for_s` seconds.
    HalfOpen {
        for_s: u64,
        opened: u64,
        failed: u64,
    },
}

/// One breaker.
#[derive(Debug, Clone)]
pub struct Circuit {
    /// The share of failures that opens it, in thousandths.
    share_milli: u64,
    /// No attempt takes longer, in seconds.
    attempt_s: u64,
    state: State,
    /// Seconds, opened and failed.
    window: VecDeque<(u64, u64, u64)>,
    next_pause_s: u64,
}

impl Circuit {
    /// A closed one; no attempt takes longer than `attempt_s` seconds.
    pub fn new(share_milli: u32, attempt_s: u64) -> Self {
        Self {
            share_milli: u64::from(share_milli),
            attempt_s,
            state: State::Closed { for_s: 0 },
            window: VecDeque::new(),
            next_pause_s: PAUSE_S,
        }
    }

    /// Whether connects are free.
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Nothing is to connect: what was goes by.
    pub fn rest(&mut self) {
        self.state = State::Closed { for_s: 0 };
        self.window.clear();
    }

    fn is_too_much(&self, failed: u64, ended: u64) -> bool {
        failed > 0 && failed * 1000 >= self.share_milli * ended
    }

    /// Takes a second.
    pub fn take(&mut self, second: Second) -> Option<Change> {
        match self.state {
            State::Closed { for_s } => self.closed(for_s + second.seconds, second),
            State::Open { for_s, pause_s } => {
                let for_s = for_s + second.seconds;
                // What was under way when it opened is not taken for a probe.
                let is_quiet = second.under_way == 0 || for_s >= self.attempt_s;
                if for_s < pause_s || !is_quiet {
                    self.state = State::Open { for_s, pause_s };
                    return None;
                }
                self.state = State::HalfOpen { for_s: 0, opened: 0, failed: 0 };
                Some(Change::Probe)
            }
            State::HalfOpen { for_s, opened, failed } => {
                self.half_open(for_s + second.seconds, opened + second.opened, failed + second.failed, second)
            }
        }
    }

    fn closed(&mut self, for_s: u64, second: Second) -> Option<Change> {
        self.state = State::Closed { for_s };
        if for_s >= CALM_S {
            self.next_pause_s = PAUSE_S;
        }
        self.window.push_back((second.seconds, second.opened, second.failed));
        while self.window.iter().map(|(seconds, ..)| seconds).sum::<u64>() > WINDOW_S && self.window.len() > 1
        {
            self.window.pop_front();
        }
        let opened: u64 = self.window.iter().map(|(_, opened, _)| opened).sum();
        let failed: u64 = self.window.iter().map(|(.., failed)| failed).sum();
        let ended = opened + failed;
        (ended >= ENDED_MIN && self.is_too_much(failed, ended)).then(|| self.open(failed, ended, true))
    }

    fn half_open(&mut self, for_s: u64, opened: u64, failed: u64, second: Second) -> Option<Change> {
        self.state = State::HalfOpen { for_s, opened, failed };
        let (ended, probes) = (opened + failed, u64::from(PROBES));
        let is_late = for_s >= PROBES_WAIT_S && (second.under_way == 0 || for_s > self.attempt_s);
        if ended < probes && !is_late {
            return None;
        }
        if ended == 0 {
            // Nobody had anything to open, or this host could not try.
            self.state = State::HalfOpen { for_s: 0, opened, failed };
            return Some(Change::Probe);
        }
        if self.is_too_much(failed, ended) {
            return Some(self.open(failed, ended, false));
        }
        self.state = State::Closed { for_s: 0 };
        Some(Change::Close)
    }

    fn open(&mut self, failed: u64, ended: u64, is_first: bool) -> Change {
        let pause_s = self.next_pause_s;
        self.next_pause_s = (pause_s * 2).min(PAUSE_MAX_S);
        self.window.clear();
        self.state = State::Open { for_s: 0, pause_s };
        Change::Open { pause_s, failed, ended, is_first }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(opened: u64, failed: u64) -> Second {
        Second { seconds: 1, opened, failed, under_way: 0 }
    }

    fn opened_after(changes: &[Option<Change>]) -> Vec<u64> {
        let pause = |change: &Option<Change>| match change {
            Some(Change::Open { pause_s, .. }) => Some(*pause_s),
            _ => None,
        };
        changes.iter().filter_map(pause).collect()
    }

    #[test]
    fn it_opens_at_its_share_of_enough_connects_and_not_before() {
        let mut circuit = Circuit::new(500, 10);
        assert_eq!(circuit.take(second(0, 19)), None, "too few to tell");
        assert_eq!(
            circuit.take(second(0, 1)),
            Some(Change::Open { pause_s: 2, failed: 20, ended: 20, is_first: true })
        );
        let mut circuit = Circuit::new(500, 10);
        assert_eq!(circuit.take(second(51, 49)), None);
        assert!(matches!(circuit.take(second(0, 2)), Some(Change::Open { failed: 51, ended: 102, .. })));
        let mut circuit = Circuit::new(1000, 10);
        assert_eq!(circuit.take(second(1, 1000)), None, "one in a thousand is still one");
        let mut few = Circuit::new(500, 10);
        // 3 failures a second never make 20 within five seconds.
        assert!((0..100).all(|_| few.take(second(0, 3)).is_none()));
    }

    #[test]
    fn pauses_grow_to_their_limit_while_probes_fail() {
        let mut circuit = Circuit::new(500, 10);
        let mut changes = vec![circuit.take(second(0, 100))];
        for _ in 0..300 {
            let failed = if matches!(circuit.state, State::HalfOpen { .. }) { 5 } else { 0 };
            changes.push(circuit.take(second(0, failed)));
        }
        let pauses = opened_after(&changes);
        assert_eq!(pauses[..7], [2, 4, 8, 16, 30, 30, 30]);
        let probes = changes.iter().filter(|change| **change == Some(Change::Probe)).count();
        assert!((pauses.len() - 1..=pauses.len()).contains(&probes));
    }

    #[test]
    fn probes_that_open_close_it_and_calm_makes_the_next_pause_short_again() {
        let mut circuit = Circuit::new(500, 10);
        for round in 0..2 {
            assert!(
                matches!(circuit.take(second(0, 100)), Some(Change::Open { pause_s, .. }) if pause_s == 2 << round)
            );
            while circuit.take(second(0, 0)) != Some(Change::Probe) {}
            assert_eq!(circuit.take(second(2, 1)), None, "not all probes have ended");
            assert_eq!(circuit.take(second(1, 1)), Some(Change::Close));
            assert!(circuit.is_closed());
        }
        (0..CALM_S).for_each(|_| assert_eq!(circuit.take(second(1, 0)), None));
        assert!(matches!(circuit.take(second(0, 100)), Some(Change::Open { pause_s: 2, .. })));
    }

    #[test]
    fn what_was_under_way_when_it_opened_is_no_probe() {
        let mut circuit = Circuit::new(500, 10);
        circuit.take(second(0, 100));
        let busy = Second { under_way: 7, ..second(0, 3) };
        let waited = (1..).find(|_| circuit.take(busy).is_some());
        assert_eq!(waited, Some(10), "no attempt takes longer than its timeout");
    }

    #[test]
    fn probes_that_nobody_takes_are_given_again_and_a_few_decide_after_a_while() {
        let mut circuit = Circuit::new(500, 10);
        circuit.take(second(0, 100));
        while circuit.take(second(0, 0)) != Some(Change::Probe) {}
        let changes: Vec<_> = (0..PROBES_WAIT_S).map(|_| circuit.take(second(0, 0))).collect();
        assert_eq!(changes.last(), Some(&Some(Change::Probe)));
        assert_eq!((circuit.take(second(2, 0)), circuit.take(second(0, 0))), (None, None));
        assert_eq!(circuit.take(second(0, 0)), Some(Change::Close));
    }

    proptest! {
        /// Whatever comes, an open breaker probes within its pause and an attempt's time, and a half-open one decides.
        #[test]
        fn it_never_stays_open_for_good(
            share in 1u32..=1000,
            seconds in prop::collection::vec((0u64..60, 0u64..60, 0u64..9), 1..400),
        ) {
            let mut circuit = Circuit::new(share, 10);
            let mut held = 0;
            for (opened, failed, under_way) in seconds {
                let change = circuit.take(Second { under_way, ..second(opened, failed) });
                held = if matches!(circuit.state, State::Open { .. }) && change.is_none() { held + 1 } else { 0 };
                prop_assert!(held <= PAUSE_MAX_S.max(10));
                if let Some(Change::Open { failed, ended, pause_s, is_first }) = change {
                    prop_assert!(failed * 1000 >= u64::from(share) * ended && (PAUSE_S..=PAUSE_MAX_S).contains(&pause_s));
                    prop_assert!(!is_first || ended >= ENDED_MIN);
                }
            }
        }
    }
}
