//! The last seconds of a run or a group, as long as a threshold's window, and what they come to.

use std::collections::VecDeque;
use std::rc::Rc;

use scale_api::report::Observed;
use scale_api::threshold::Values;

use super::samples::{Pool, Samples};

/// What a second had: of a group, or of all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Ticks.
    pub due: u64,
    /// Ticks sent.
    pub sent: u64,
    /// Messages that are to come back.
    pub echo_sent: u64,
    /// Messages that did.
    pub echoed: u64,
    /// Payload bytes that were due.
    pub bytes_due: f64,
    /// Payload bytes sent.
    pub payload_sent: u64,
    /// Payload bytes received.
    pub payload_received: u64,
    /// Open streams lost.
    pub disconnects: u64,
    /// Attempts to open one that failed.
    pub connect_failures: u64,
    /// Messages that differed.
    pub verify_failures: u64,
    /// Bytes beyond what was sent.
    pub unexpected_bytes: u64,
    /// At its end: streams open.
    pub open: u64,
    /// At its end: streams that have been open and are not.
    pub away: u64,
    /// At its end: streams asked for.
    pub requested: u64,
    /// At its end: messages under way.
    pub under_way: u64,
}

/// A second, or the few that one hand-over covers.
#[derive(Debug, Clone, Default)]
pub struct Second {
    /// How many.
    pub seconds: u64,
    /// See there.
    pub counts: Counts,
    /// Of the figure that is asked for.
    pub samples: Rc<Samples>,
    /// Whether it is a figure of messages that are to come back.
    pub of_echoes: bool,
    /// By worker: CPU time over wall time.
    pub busy: Rc<[f64]>,
    /// What the query answered.
    pub observed: Option<f64>,
}

/// Seconds one behind the other, as many as a window has.
#[derive(Debug, Clone, Default)]
pub struct Window {
    length: u64,
    seconds: VecDeque<Second>,
    covered: u64,
    pool: Pool,
}

impl Window {
    /// An empty one of `length` seconds.
    pub fn new(length: u64) -> Self {
        Self { length, ..Self::default() }
    }

    /// A second has come; those that it pushes out go.
    pub fn push(&mut self, second: Second) {
        self.covered += second.seconds;
        self.pool.add(&second.samples);
        self.seconds.push_back(second);
        while let Some(first) =
            self.seconds.front().filter(|first| self.covered - first.seconds >= self.length)
        {
            self.covered -= first.seconds;
            self.pool.remove(&first.samples);
            self.seconds.pop_front();
        }
    }

    /// What was before has nothing to do with what comes.
    pub fn clear(&mut self) {
        *self = Self::new(self.length);
    }

    /// Values of samples that it keeps, over all its seconds.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.seconds.iter().map(|second| second.samples.iter().count()).sum()
    }

    /// What it comes to; `None`: it is not full.
    pub fn values(&mut self) -> Option<Values> {
        if self.covered < self.length {
            return None;
        }
        let last = self.seconds.back()?;
        let sum = |of: fn(&Counts) -> u64| self.seconds.iter().map(|second| of(&second.counts)).sum::<u64>();
        let weighted = |of: fn(&Counts) -> u64| {
            self.seconds.iter().map(|second| of(&second.counts) * second.seconds).sum::<u64>() as f64
        };
        let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let a_second = |bytes: f64| Some(bytes / self.covered as f64);
        let bytes_due: f64 = self.seconds.iter().map(|second| second.counts.bytes_due).sum();
        let late = self.late(last, sum(|counts| counts.echo_sent));
        let values = Values {
            delivered_ratio: ratio(sum(|counts| counts.sent) as f64, sum(|counts| counts.due) as f64),
            echoed_ratio: ratio(sum(|counts| counts.echoed) as f64, sum(|counts| counts.echo_sent) as f64)
                .map(|ratio| ratio.min(1.0)),
            open_ratio: ratio(weighted(|counts| counts.open), weighted(|counts| counts.requested)),
            rates: [
                a_second(bytes_due),
                a_second(sum(|counts| counts.payload_sent) as f64),
                a_second(sum(|counts| counts.payload_received) as f64),
            ],
            streams: last.counts.requested as f64,
            open: Some(weighted(|counts| counts.open) / self.covered as f64),
            away: Some(weighted(|counts| counts.away) / self.covered as f64),
            disconnects: sum(|counts| counts.disconnects),
            connect_failures: sum(|counts| counts.connect_failures),
            verify_failures: sum(|counts| counts.verify_failures),
            unexpected_bytes: sum(|counts| counts.unexpected_bytes),
            figure: None,
            busy_max: self.busy_max(),
            observed: self.observed(),
        };
        Some(Values { figure: self.pool.distribution(late), ..values })
    }

    /// Messages that have been under way since before the window, at least so many; each is as old as it,
    /// which is a lower bound of what it will take.
    fn late(&self, last: &Second, sent: u64) -> (u32, u64) {
        let age = u32::try_from(self.covered * 1_000_000).unwrap_or(u32::MAX);
        (age, if last.of_echoes { last.counts.under_way.saturating_sub(sent) } else { 0 })
    }

    /// The busiest worker's mean.
    fn busy_max(&self) -> Option<f64> {
        let workers = self.seconds.iter().map(|second| second.busy.len()).min()?;
        let mean = |worker: usize| {
            let sum: f64 =
                self.seconds.iter().map(|second| second.busy[worker] * second.seconds as f64).sum();
            sum / self.covered as f64
        };
        (0..workers).map(mean).reduce(f64::max)
    }

    fn observed(&self) -> Option<Observed> {
        let samples: Vec<f64> = self.seconds.iter().filter_map(|second| second.observed).collect();
        Some(Observed {
            min: samples.iter().copied().reduce(f64::min)?,
            mean: samples.iter().sum::<f64>() / samples.len() as f64,
            max: samples.iter().copied().reduce(f64::max)?,
            last: *samples.last()?,
            samples: samples.len() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::meter::Histograms;

    fn samples(values: &[u64]) -> Rc<Samples> {
        let mut histogram = Histograms::empty();
        values.iter().for_each(|&value| histogram.record(value).expect("within its bounds"));
        Rc::new(Samples::of([histogram].iter()))
    }

    fn second(change: impl FnOnce(&mut Counts)) -> Second {
        let mut counts = Counts { requested: 10, ..Counts::default() };
        change(&mut counts);
        Second { seconds: 1, counts, ..Second::default() }
    }

    #[test]
    fn a_window_has_no_value_until_it_is_full_and_then_that_of_its_own_seconds() {
        let mut window = Window::new(3);
        let mut rates = Vec::new();
        for bytes in [3, 6, 9, 12, 0] {
            window.push(second(|counts| counts.payload_sent = bytes));
            rates.push(window.values().and_then(|values| values.rates[1]));
        }
        assert_eq!(rates, [None, None, Some(6.0), Some(9.0), Some(7.0)]);
        window.clear();
        window.push(second(|_| {}));
        assert_eq!(window.values(), None, "a window begins anew");
    }

    #[test]
    fn a_hand_over_of_several_seconds_counts_as_so_many() {
        let mut window = Window::new(3);
        window.push(Second { seconds: 2, ..second(|counts| counts.payload_sent = 100) });
        window.push(second(|counts| counts.payload_sent = 20));
        assert_eq!(window.values().unwrap().rates[1], Some(40.0));
        // Without the first there would be two seconds, which is no window: both stay.
        window.push(second(|counts| counts.payload_sent = 30));
        assert_eq!((window.covered, window.values().unwrap().rates[1]), (4, Some(37.5)));
    }

    #[test]
    fn counts_are_sums_shares_are_of_the_windows_own_and_streams_those_of_its_end() {
        let mut window = Window::new(2);
        let of = |due, sent, echoed, open| {
            second(|counts| {
                *counts = Counts {
                    due,
                    sent,
                    echo_sent: sent,
                    echoed,
                    bytes_due: due as f64 * 10.0,
                    payload_received: echoed * 10,
                    disconnects: 1,
                    connect_failures: 2,
                    verify_failures: 3,
                    unexpected_bytes: 4,
                    open,
                    requested: 20,
                    ..*counts
                };
            })
        };
        for second in [of(1, 1, 1, 1), of(100, 80, 70, 20), of(100, 100, 20, 10)] {
            window.push(second);
        }
        let values = window.values().unwrap();
        assert_eq!(
            (values.delivered_ratio, values.echoed_ratio, values.open_ratio),
            (Some(0.9), Some(0.5), Some(0.75))
        );
        assert_eq!(values.rates, [Some(1000.0), Some(0.0), Some(450.0)]);
        assert_eq!((values.disconnects, values.connect_failures), (2, 4));
        assert_eq!((values.verify_failures, values.unexpected_bytes, values.streams), (6, 8, 20.0));
        assert_eq!((values.figure, values.busy_max, values.observed), (None, None, None));
        window.push(of(0, 0, 0, 0));
        window.push(of(0, 0, 0, 0));
        let values = window.values().unwrap();
        assert_eq!((values.delivered_ratio, values.echoed_ratio), (None, None));
    }

    #[test]
    fn echoes_of_what_was_sent_before_the_window_are_no_more_than_all() {
        let mut window = Window::new(1);
        window.push(second(|counts| (counts.echo_sent, counts.echoed) = (10, 25)));
        assert_eq!(window.values().unwrap().echoed_ratio, Some(1.0));
    }

    #[test]
    fn what_a_silent_target_owes_for_longer_than_the_window_counts_with_its_age() {
        let echo = |sent, under_way, values: &[u64]| Second {
            samples: samples(values),
            of_echoes: true,
            ..second(|counts| (counts.echo_sent, counts.under_way) = (sent, under_way))
        };
        let mut window = Window::new(2);
        window.push(echo(100, 10, &[1000; 90]));
        window.push(echo(100, 10, &[1000; 100]));
        assert_eq!(window.values().unwrap().figure.unwrap().max, 0.001, "ten have only just been sent");
        window.push(echo(100, 110, &[]));
        assert_eq!(window.values().unwrap().figure.unwrap().max, 0.001);
        window.push(echo(100, 210, &[]));
        let figure = window.values().unwrap().figure.unwrap();
        assert_eq!((figure.count, figure.p50), (10, 2.0), "none came, and ten are two seconds old at least");
        window.push(echo(0, 210, &[]));
        assert_eq!(window.values().unwrap().figure.unwrap().count, 110);
        let discard = Second { of_echoes: false, ..echo(0, 210, &[]) };
        window.push(discard);
        assert_eq!(window.values().unwrap().figure, None);
    }

    #[test]
    fn the_busiest_worker_is_that_of_the_whole_window_and_queries_have_what_they_answered() {
        let mut window = Window::new(3);
        for (busy, observed) in [([0.9, 0.5], Some(1.0)), ([0.1, 0.5], None), ([0.2, 0.5], Some(4.0))] {
            window.push(Second { busy: busy.into(), observed, ..second(|_| {}) });
        }
        let values = window.values().unwrap();
        assert_eq!(values.busy_max, Some(0.5));
        let observed = Observed { min: 1.0, mean: 2.5, max: 4.0, last: 4.0, samples: 2 };
        assert_eq!(values.observed, Some(observed));
    }
}
