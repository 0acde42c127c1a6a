//! What was due in windows that are expected to be disrupted: it is no load, and has figures of its own.
//!
//! Workers count it in cells that windows take turns in (`load::Group::ASIDE`), so that a late answer of one
//! window is not taken for the next one's.

use hdrhistogram::Histogram;

use crate::load::Group;
use crate::stream::meter::Histograms;

/// A window's figures.
#[derive(Debug, Clone, Default)]
pub struct Aside {
    due: u64,
    sent: u64,
    /// Response times, until nothing more can come.
    responses: Option<Box<Histogram<u64>>>,
    p99: Option<f64>,
}

impl Aside {
    /// Ticks sent / ticks due.
    pub fn delivered_ratio(&self) -> Option<f64> {
        (self.due > 0).then(|| self.sent as f64 / self.due as f64)
    }

    /// The 99th percentile of response times in seconds.
    pub fn response_p99(&self) -> Option<f64> {
        self.responses.as_ref().map_or(self.p99, |responses| Some(p99(responses)))
    }

    fn settle(&mut self) {
        self.p99 = self.response_p99();
        self.responses = None;
    }
}

fn p99(responses: &Histogram<u64>) -> f64 {
    responses.value_at_quantile(0.99) as f64 / 1e6
}

/// All windows of a run, in the order in which they began.
#[derive(Debug, Default)]
pub struct Asides {
    windows: Vec<Aside>,
    /// Ticks due and sent by turn, so far.
    before: [(u64, u64); Group::ASIDE],
}

impl Asides {
    /// Another window begins; its number.
    pub fn begin(&mut self) -> usize {
        let number = self.windows.len();
        if let Some(settled) = number.checked_sub(Group::ASIDE) {
            self.windows[settled].settle();
        }
        self.windows.push(Aside::default());
        number
    }

    /// A window's figures.
    pub fn window(&self, number: usize) -> &Aside {
        &self.windows[number]
    }

    /// Whether there is any.
    pub const fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// What the windows of a turn have come to: ticks `due` and `sent` since the run's start, and the samples of the
    /// last second, in µs.
    pub fn take<'a>(
        &mut self,
        turn: usize,
        (due, sent): (u64, u64),
        samples: impl Iterator<Item = &'a Histogram<u64>>,
    ) {
        let before = std::mem::replace(&mut self.before[turn], (due, sent));
        let newest = (0..self.windows.len()).rev().find(|number| number % Group::ASIDE == turn);
        let Some(newest) = newest else { return };
        let window = &mut self.windows[newest];
        window.due += due - before.0;
        window.sent += sent - before.1;
        for samples in samples {
            let all = window.responses.get_or_insert_with(|| Box::new(Histograms::empty()));
            all.add(samples).expect("all histograms have the same bounds");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(us: u64) -> Histogram<u64> {
        let mut histogram = Histograms::empty();
        histogram.record_n(us, 100).unwrap();
        histogram
    }

    #[test]
    fn what_is_late_in_a_window_is_its_own_while_the_next_one_goes() {
        let mut asides = Asides::default();
        // A replica freezes, and its marks come one soon after the other: the first one's answers are late.
        (0..Group::ASIDE).for_each(|number| assert_eq!(asides.begin(), number));
        asides.take(0, (100, 50), std::iter::once(&samples(9_000_000)));
        asides.take(1, (10, 10), std::iter::once(&samples(1000)));
        // The next one takes the first one's cells, which go on counting from where they were.
        assert_eq!(asides.begin(), 4);
        asides.take(0, (104, 53), [&samples(2000), &samples(2000)].into_iter());
        asides.take(1, (10, 10), std::iter::empty());
        let of = |number: usize| {
            let window = asides.window(number);
            (window.delivered_ratio(), window.response_p99().map(|s| (s * 1e3).round() as u64))
        };
        assert_eq!(of(0), (Some(0.5), Some(9003)));
        assert_eq!(of(1), (Some(1.0), Some(1)));
        assert_eq!((of(2), of(3)), ((None, None), (None, None)));
        assert_eq!(of(4), (Some(0.75), Some(2)));
    }

    #[test]
    fn a_window_in_which_nothing_was_due_has_no_figures() {
        let mut asides = Asides::default();
        asides.take(0, (0, 0), std::iter::empty());
        let window = asides.begin();
        asides.take(0, (0, 0), std::iter::empty());
        assert_eq!(
            (asides.window(window).delivered_ratio(), asides.window(window).response_p99()),
            (None, None)
        );
    }
}
