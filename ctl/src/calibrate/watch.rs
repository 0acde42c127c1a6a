//! What a step comes to, from its seconds.
//!
//! On a machine that others use, too, one second may be bad for no reason of ours, so none decides alone: a try is held by
//! three good seconds before four bad ones (or three bad ones at once), a hold by three quarters of its seconds. Figures
//! are medians over the seconds.

use scale_api::calibration::{BUSY_MAX, LATENESS_P99_MAX, Limit, MISSED_MAX, Step};
use scale_api::report::{Event, Missed};

use crate::seek::median;

/// Good seconds that hold a try.
const GOOD: usize = 3;
/// Bad ones that break it.
const BAD: usize = 4;
/// Share of the messages that a target has to echo in time.
const ECHOED_MIN: f64 = 0.95;
/// Of the seconds of a hold, one in so many may be bad.
const BAD_ONE_IN: usize = 4;

/// The longest that a try is measured, in seconds.
pub const TRY_SECONDS_MAX: usize = GOOD + BAD - 1;

/// A second's figures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Second {
    /// 99th percentile of lateness, in seconds.
    pub lateness_p99: Option<f64>,
    /// The busiest worker's share of its core.
    pub busy: f64,
    /// CPU time of all workers, in seconds.
    pub cpu: f64,
    /// Messages sent.
    pub messages: f64,
    /// Payload sent, in bytes.
    pub bytes: f64,
    /// Messages echoed.
    pub echoed: f64,
    /// Shares of the ticks that were due: missed by the generator; because the target took no more; in all.
    pub missed: [f64; 3],
    /// Median and 99th percentile of the time from a send to its echo, in seconds.
    pub service: (Option<f64>, Option<f64>),
}

impl Second {
    /// Of an event; `before`: what was missed until the one before it.
    pub fn of(event: &Event, before: &Missed) -> Self {
        let now = &event.now;
        let due = now.ticks_due.max(1) as f64;
        let since = |now: u64, before: u64| now.saturating_sub(before) as f64 / due;
        let missed = &event.ticks_missed;
        let seconds = now.seconds.max(1) as f64;
        Self {
            lateness_p99: now.lateness_p99,
            busy: now.busy_max,
            cpu: now.busy.iter().sum(),
            messages: now.messages_sent as f64 / seconds,
            bytes: now.rate_sent,
            echoed: now.messages_echoed as f64 / seconds,
            missed: [
                since(missed.generator, before.generator),
                since(missed.backpressure, before.backpressure),
                now.ticks_missed as f64 / due,
            ],
            service: (now.service_p50, now.service_p99),
        }
    }

    /// CPU time of a message and its echo, in us.
    pub fn cost_us(&self) -> f64 {
        self.cpu * 1e6 / self.messages.max(1.0)
    }

    /// The bound that it broke. `service_max`: the median of the service time up to which a target is in time.
    fn broke(&self, service_max: f64) -> Option<Limit> {
        let [generator, backpressure, _] = self.missed;
        if self.busy > BUSY_MAX {
            Some(Limit::Busy)
        } else if generator > MISSED_MAX {
            Some(Limit::Missed)
        } else if self.lateness_p99.is_none_or(|lateness| lateness > LATENESS_P99_MAX) {
            Some(Limit::Lateness)
        } else if backpressure > MISSED_MAX
            || self.echoed < ECHOED_MIN * self.messages
            || self.service.0.is_none_or(|service| service > service_max)
        {
            Some(Limit::Target)
        } else {
            None
        }
    }
}

/// A step that is going.
#[derive(Debug)]
pub struct Watch {
    service_max: f64,
    /// `Some`: a hold of so many seconds.
    hold: Option<usize>,
    seconds: Vec<Second>,
    broke: Vec<Limit>,
}

impl Watch {
    /// A try, or a hold of `hold` seconds.
    pub const fn new(hold: Option<usize>, service_max: f64) -> Self {
        Self { service_max, hold, seconds: Vec::new(), broke: Vec::new() }
    }

    /// Takes a second. `Some`: it is decided; `Some(None)`: held.
    pub fn take(&mut self, second: Second) -> Option<Option<Limit>> {
        self.broke.extend(second.broke(self.service_max));
        self.seconds.push(second);
        let (all, bad) = (self.seconds.len(), self.broke.len());
        let (held, broke) = match self.hold {
            Some(seconds) => (all >= seconds, bad > seconds.div_ceil(BAD_ONE_IN)),
            None => (all - bad >= GOOD, bad >= BAD || (bad == GOOD && all == bad)),
        };
        if broke { Some(self.worst()) } else { held.then_some(None) }
    }

    /// What was broken most often.
    fn worst(&self) -> Option<Limit> {
        let count = |limit: &Limit| self.broke.iter().filter(|other| *other == limit).count();
        self.broke.iter().copied().max_by_key(|limit| (count(limit), std::cmp::Reverse(*limit)))
    }

    /// The median of a figure.
    pub fn median(&self, figure: impl Fn(&Second) -> Option<f64>) -> Option<f64> {
        median(self.seconds.iter().filter_map(figure))
    }

    /// As it stands in the result.
    pub fn step(&self, streams: u64, at: f64, broke: Option<Limit>) -> Step {
        let all = |figure: fn(&Second) -> f64| self.median(|second| Some(figure(second))).unwrap_or(0.0);
        Step {
            streams,
            at,
            seconds: self.seconds.len() as u64,
            seconds_over: self.broke.len() as u64,
            messages_per_second: all(|second| second.messages),
            lateness_p99: self.median(|second| second.lateness_p99),
            busy_max: all(|second| second.busy),
            service_p99: self.median(|second| second.service.1),
            missed: all(|second| second.missed[2]),
            broke,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Second {
        Second {
            lateness_p99: Some(0.000_1),
            busy: 0.5,
            cpu: 0.5,
            messages: 1e4,
            bytes: 4e7,
            echoed: 1e4,
            missed: [0.0; 3],
            service: (Some(0.000_2), Some(0.001)),
        }
    }

    fn decided(hold: Option<usize>, seconds: &[Second]) -> (usize, Option<Option<Limit>>) {
        let mut watch = Watch::new(hold, 0.1);
        for (index, second) in seconds.iter().enumerate() {
            if let Some(decision) = watch.take(second.clone()) {
                return (index + 1, Some(decision));
            }
        }
        (seconds.len(), None)
    }

    #[test]
    fn one_bad_second_neither_breaks_a_try_nor_a_hold() {
        let bad = Second { lateness_p99: Some(0.2), busy: 0.99, ..good() };
        assert_eq!(decided(None, &[good(), good(), good()]), (3, Some(None)));
        assert_eq!(decided(None, &[bad.clone(), good(), good(), good()]), (4, Some(None)));
        let mut hold = vec![good(); 8];
        (hold[2], hold[5]) = (bad.clone(), bad.clone());
        assert_eq!(decided(Some(8), &hold), (8, Some(None)));
        hold[6] = bad.clone();
        assert_eq!(decided(Some(8), &hold), (7, Some(Some(Limit::Busy))));
        assert_eq!(decided(None, &[bad.clone(), bad.clone(), bad.clone()]), (3, Some(Some(Limit::Busy))));
        let mixed = [bad.clone(), good(), bad.clone(), good(), bad.clone(), bad];
        assert_eq!(decided(None, &mixed), (TRY_SECONDS_MAX, Some(Some(Limit::Busy))));
    }

    #[test]
    fn each_bound_has_its_name_and_the_workers_come_before_the_target() {
        let breaks = |change: &dyn Fn(&mut Second)| {
            let mut second = good();
            change(&mut second);
            second.broke(0.1)
        };
        assert_eq!(breaks(&|_| {}), None);
        assert_eq!(breaks(&|second| second.busy = 0.81), Some(Limit::Busy));
        assert_eq!(breaks(&|second| second.missed[0] = 0.01), Some(Limit::Missed));
        assert_eq!(breaks(&|second| second.lateness_p99 = Some(0.001_1)), Some(Limit::Lateness));
        assert_eq!(breaks(&|second| second.lateness_p99 = None), Some(Limit::Lateness), "nothing was sent");
        assert_eq!(breaks(&|second| second.missed[1] = 0.01), Some(Limit::Target));
        assert_eq!(breaks(&|second| second.echoed = 5e3), Some(Limit::Target));
        assert_eq!(breaks(&|second| second.service.0 = Some(0.3)), Some(Limit::Target));
        let both = |second: &mut Second| (second.busy, second.echoed) = (0.99, 0.0);
        assert_eq!(breaks(&both), Some(Limit::Busy));
    }

    #[test]
    fn an_events_figures_are_those_of_its_second() {
        let mut event = Event::default();
        (event.now.ticks_due, event.now.messages_sent, event.now.seconds) = (2000, 1000, 2);
        event.now.busy = vec![0.2, 0.3];
        event.ticks_missed = Missed { generator: 30, backpressure: 25, disconnected: 0 };
        let second = Second::of(&event, &Missed { generator: 10, backpressure: 25, disconnected: 0 });
        assert_eq!((second.messages, second.cost_us().round()), (500.0, 1000.0));
        assert_eq!(second.missed[..2], [0.01, 0.0]);
        assert_eq!(median([3.0, 1.0, 2.0, 9.0].into_iter()), Some(3.0));
    }
}
