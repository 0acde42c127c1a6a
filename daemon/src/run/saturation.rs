//! Is the generator itself the limit? Judged over windows of steady state (docs/measuring.md).

use std::collections::VecDeque;

/// Seconds of a window.
pub const WINDOW_SECONDS: u64 = 5;
/// Share of its core that a worker may use.
const BUSY_MAX: f64 = 0.9;
/// The 99th percentile of a worker's turns: this share of the tick, and at least so many seconds.
const TURN_OF_TICK_MAX: f64 = 0.1;
const TURN_MIN: f64 = 0.010;
/// Ticks that a worker may miss by itself.
const MISSED_MAX: f64 = 0.001;
/// Windows, and their share of steady state, from which on a run is incomplete.
const WINDOWS_MIN: u64 = 2;
const STEADY_SHARE_MAX: f64 = 0.05;

/// What a worker says of its last second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Second {
    /// One of its groups is in steady state.
    pub steady: bool,
    /// CPU time over wall time.
    pub busy: f64,
    /// 99th percentile of its turns, in seconds.
    pub turn_p99: f64,
    /// Its shortest tick, in seconds; turns are not judged by it where offsets are aligned.
    pub tick: Option<f64>,
    /// Ticks due so far, over the whole run.
    pub due: u64,
    /// Ticks that it missed itself so far.
    pub missed: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    seconds: u64,
    busy: f64,
    turn_p99: f64,
    /// Counters where it began.
    due: u64,
    missed: u64,
    last: Second,
}

impl Window {
    /// `Some`: the window is complete, and whether it was saturated.
    fn take(&mut self, second: Second) -> Option<bool> {
        let next = Self { due: second.due, missed: second.missed, ..Self::default() };
        if !second.steady {
            *self = next;
            return None;
        }
        self.seconds += 1;
        self.busy += second.busy;
        self.turn_p99 = self.turn_p99.max(second.turn_p99);
        self.last = second;
        if self.seconds < WINDOW_SECONDS {
            return None;
        }
        let saturated = self.is_saturated();
        *self = next;
        Some(saturated)
    }

    /// By what it has so far.
    fn is_saturated(&self) -> bool {
        let busy = self.busy / self.seconds.max(1) as f64;
        let turn_max = self.last.tick.map(|tick| (tick * TURN_OF_TICK_MAX).max(TURN_MIN));
        let (due, missed) =
            (self.last.due.saturating_sub(self.due), self.last.missed.saturating_sub(self.missed));
        busy > BUSY_MAX
            || turn_max.is_some_and(|max| self.turn_p99 > max)
            || missed as f64 > MISSED_MAX * due as f64
    }
}

/// All workers' windows.
#[derive(Debug, Default)]
pub struct Saturation {
    windows: Vec<Window>,
    /// By worker: how busy it was in the last seconds, steady or not.
    recent: Vec<VecDeque<f64>>,
    now: bool,
    saturated_windows: u64,
}

impl Saturation {
    /// Takes every worker's last second, in their order.
    pub fn take(&mut self, seconds: impl Iterator<Item = Second>) {
        let mut judged = None;
        for (worker, second) in seconds.enumerate() {
            if self.windows.len() <= worker {
                self.windows.push(Window::default());
                self.recent.push(VecDeque::new());
            }
            let recent = &mut self.recent[worker];
            recent.push_back(second.busy);
            if recent.len() as u64 > WINDOW_SECONDS {
                recent.pop_front();
            }
            if let Some(saturated) = self.windows[worker].take(second) {
                *judged.get_or_insert(false) |= saturated;
            }
        }
        if let Some(saturated) = judged {
            self.now = saturated;
            self.saturated_windows += u64::from(saturated);
        }
    }

    /// The last window was saturated.
    pub const fn is_now(&self) -> bool {
        self.now
    }

    /// Time in saturated windows.
    pub const fn seconds(&self) -> u64 {
        self.saturated_windows * WINDOW_SECONDS
    }

    /// Of a run that ends before its time: whether we were the limit by what there is. A window was saturated, or
    /// the one that has begun is, or a worker was too busy in the last seconds, be they steady or not.
    pub fn is_limiting(&self) -> bool {
        let is_busy = |recent: &VecDeque<f64>| recent.iter().sum::<f64>() > BUSY_MAX * recent.len() as f64;
        self.saturated_windows > 0
            || self.windows.iter().any(|window| window.seconds > 0 && window.is_saturated())
            || self.recent.iter().any(is_busy)
    }

    /// So long that a run with `steady_seconds` says nothing of its target.
    pub fn is_long(&self, steady_seconds: f64) -> bool {
        self.saturated_windows >= WINDOWS_MIN && self.seconds() as f64 > STEADY_SHARE_MAX * steady_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Second =
        Second { steady: true, busy: 0.5, turn_p99: 0.001, tick: Some(0.1), due: 0, missed: 0 };

    /// Seconds of one worker, its counters growing by `due` and `missed` each.
    fn judge(seconds: &[(Second, u64, u64)]) -> Saturation {
        let mut saturation = Saturation::default();
        let (mut due, mut missed) = (0, 0);
        for &(second, more_due, more_missed) in seconds {
            (due, missed) = (due + more_due, missed + more_missed);
            saturation.take([Second { due, missed, ..second }].into_iter());
        }
        saturation
    }

    #[test]
    fn each_of_the_three_signs_alone_saturates_a_window() {
        let judged = |second: Second, missed: u64| judge(&[(second, 10_000, missed); 5]).is_now();
        assert!(!judged(FINE, 0));
        assert!(judged(Second { busy: 0.91, ..FINE }, 0));
        assert!(judged(Second { turn_p99: 0.011, ..FINE }, 0));
        assert!(!judged(Second { turn_p99: 0.011, tick: None, ..FINE }, 0), "aligned offsets burst");
        assert!(!judged(Second { turn_p99: 0.09, tick: Some(1.0), ..FINE }, 0), "a tenth of a longer tick");
        assert!(!judged(FINE, 10));
        assert!(judged(FINE, 11));
    }

    #[test]
    fn what_was_missed_before_steady_state_does_not_count() {
        let ramp = (Second { steady: false, ..FINE }, 1000, 900);
        assert!(
            !judge(&[
                ramp,
                ramp,
                (FINE, 10_000, 0),
                (FINE, 10_000, 0),
                (FINE, 10_000, 0),
                (FINE, 10_000, 0),
                (FINE, 10_000, 0)
            ])
            .is_now()
        );
    }

    #[test]
    fn one_window_is_a_warning_and_two_above_a_twentieth_of_the_time_are_too_much() {
        let hot = (Second { busy: 1.0, ..FINE }, 10_000, 0);
        let one = judge(&[hot; 9]);
        assert!(one.is_now() && one.seconds() == 5 && !one.is_long(5.0));
        let two = judge(&[hot; 10]);
        assert!(two.is_long(199.0) && !two.is_long(200.0));
    }

    #[test]
    fn a_run_that_ends_early_is_judged_by_the_window_that_has_begun_and_by_its_ramp() {
        let limiting = |seconds: &[(Second, u64, u64)]| judge(seconds).is_limiting();
        let (hot, fine) = (Second { busy: 1.0, ..FINE }, (FINE, 10_000, 0));
        let ramp = |busy| (Second { steady: false, busy, ..FINE }, 0, 0);
        assert!(!limiting(&[]) && !limiting(&[ramp(0.9), ramp(0.8), fine]));
        assert!(limiting(&[ramp(0.95)]), "before steady state busy alone tells");
        assert!(limiting(&[fine, (FINE, 10_000, 200)]), "missed in the window that has begun");
        assert!(!limiting(&[(FINE, 10_000, 0), (Second { steady: false, ..FINE }, 10_000, 200), fine]));
        let one_window = [[(hot, 10_000, 0); 5], [fine; 5]].concat();
        assert!(limiting(&one_window) && !judge(&one_window).is_long(5.0));
    }

    #[test]
    fn one_saturated_worker_of_several_saturates_the_run_once() {
        let mut saturation = Saturation::default();
        for _ in 0..5 {
            saturation.take([FINE, Second { busy: 1.0, ..FINE }, Second { busy: 1.0, ..FINE }].into_iter());
        }
        assert_eq!((saturation.is_now(), saturation.seconds()), (true, 5));
    }
}
