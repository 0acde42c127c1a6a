//! Counters and histograms of one worker.
//!
//! Everything is kept by cell: group × stage × target. Stage 0 is what was due (or happened)
//! before steady; so `load` is the sum over the other stages and `total` the sum over all, and no
//! sample is recorded twice. Counters only grow. Histograms are handed over once a second and
//! start anew.
//!
//! Holds always: a single thread writes; nothing here is atomic or locked.

use hdrhistogram::Histogram;

use super::class::Class;

/// The figures that have a histogram, in the report's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Figure {
    /// TCP connect: from the first packet to established.
    Connect,
    /// TLS handshake: from established to finished.
    Tls,
    /// HTTP upgrade: from the request to the 101.
    Upgrade,
    /// SSH: from established to the server's identification.
    Banner,
    /// SSH: from there until keys are in use.
    KeyExchange,
    /// SSH: from there until a credential is taken.
    Authentication,
    /// SSH: from the request for a channel until its command runs.
    Channel,
    /// From open, or the first send where we speak first, to the first payload byte.
    FirstByte,
    /// sent − due.
    Lateness,
    /// done − sent.
    Service,
    /// done − due.
    Response,
    /// From the loss of a stream's connection to its being open again.
    Reconnect,
}

impl Figure {
    /// Every figure, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Connect,
        Self::Tls,
        Self::Upgrade,
        Self::Banner,
        Self::KeyExchange,
        Self::Authentication,
        Self::Channel,
        Self::FirstByte,
        Self::Lateness,
        Self::Service,
        Self::Response,
        Self::Reconnect,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Whether it counts for the whole run, as opening a stream does, and not for steady state alone.
    pub const fn is_of_the_whole_run(self) -> bool {
        !matches!(self, Self::Lateness | Self::Service | Self::Response)
    }

    /// As report and thresholds say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Upgrade => "upgrade",
            Self::Banner => "banner",
            Self::KeyExchange => "key_exchange",
            Self::Authentication => "authentication",
            Self::Channel => "channel",
            Self::FirstByte => "first_byte",
            Self::Lateness => "lateness",
            Self::Service => "service",
            Self::Response => "response",
            Self::Reconnect => "reconnect",
        }
    }
}

/// What is counted in a cell; all only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Grid points that came.
    pub ticks_due: u64,
    /// Grid points at which a message was handed to the kernel.
    pub ticks_sent: u64,
    /// Missed because we were too late: the next point had come.
    pub missed_generator: u64,
    /// Missed because the last send was unfinished or too many messages were unanswered.
    pub missed_backpressure: u64,
    /// Missed because the stream had no open connection.
    pub missed_disconnected: u64,
    /// Messages handed to the kernel, first messages included.
    pub messages_sent: u64,
    /// Messages whose echo came back whole.
    pub messages_echoed: u64,
    /// Messages whose echo did not come before the drain's end or the connection's loss.
    pub messages_unanswered: u64,
    /// Payload bytes handed to the kernel.
    pub payload_sent: u64,
    /// Payload bytes that came in, unexpected ones included.
    pub payload_received: u64,
    /// Payload bytes of messages on connections that were not closed in order.
    pub payload_open: u64,
    /// Bytes handed to sockets.
    pub wire_sent: u64,
    /// Bytes taken from sockets.
    pub wire_received: u64,
    /// Messages whose echo differed from what was sent.
    pub verify_failures: u64,
    /// Bytes beyond what was sent.
    pub unexpected_bytes: u64,
    /// Attempts to open a stream that were begun; one tries all addresses of a name.
    pub attempts: u64,
    /// Of these, of streams that had lost their connection.
    pub retries: u64,
    /// Of those, failed.
    pub retries_failed: u64,
    /// Connections that became open streams.
    pub connects: u64,
    /// Of these, after a loss.
    pub reconnects: u64,
    /// Of these, after a close of ours: churn, or a group that shrank and grew again.
    pub replaced: u64,
    /// Reconnects of web terminals whose session went on.
    pub sessions_same: u64,
    /// Of these, nothing that was typed was lost.
    pub sessions_intact: u64,
    /// Of these, how much was lost is not known: the replay was cut.
    pub sessions_cut: u64,
    /// Reconnects of web terminals that found another process.
    pub sessions_new: u64,
    /// Reconnects of web terminals of which nothing can be told.
    pub sessions_unknown: u64,
    /// Typed bytes that were neither answered nor in a replay; at least so many.
    pub typed_lost: u64,
    /// Bytes that sessions said again.
    pub replayed: u64,
    /// Streams replaced by churn.
    pub churned: u64,
    /// Attempts that failed, by class.
    pub failures: ByClass,
    /// Open connections lost, by class.
    pub disconnects: ByClass,
}

/// A count a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByClass(pub [u64; Class::COUNT]);

impl Default for ByClass {
    fn default() -> Self {
        Self([0; Class::COUNT])
    }
}

impl ByClass {
    /// One more of `class`.
    pub const fn count(&mut self, class: Class) {
        self.0[class as usize] += 1;
    }

    /// All of them.
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(to, from)| *to += from);
    }

    /// What has come since `before`, which is of the same counts earlier.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|class| self.0[class] - before.0[class]))
    }

    /// Those above zero.
    pub fn entries(&self) -> impl Iterator<Item = (Class, u64)> + '_ {
        Class::ALL.iter().map(|&class| (class, self.0[class as usize])).filter(|(_, n)| *n > 0)
    }
}

macro_rules! add_all {
    ($to:expr, $from:expr; $($field:ident)*) => { $($to.$field += $from.$field;)* };
}

impl Counters {
    /// Adds another cell's.
    pub fn add(&mut self, other: &Self) {
        add_all!(self, other; ticks_due ticks_sent missed_generator missed_backpressure missed_disconnected
            messages_sent messages_echoed messages_unanswered payload_sent payload_received payload_open
            wire_sent wire_received verify_failures unexpected_bytes attempts retries retries_failed connects reconnects replaced sessions_same
            sessions_intact sessions_cut sessions_new sessions_unknown typed_lost replayed churned);
        self.failures.add(&other.failures);
        self.disconnects.add(&other.disconnects);
    }
}

/// Histograms of a cell, made when they get their first sample.
#[derive(Debug, Clone, Default)]
pub struct Histograms([Option<Box<Histogram<u64>>>; Figure::COUNT]);

impl Histograms {
    /// 1 µs … 1 h, in µs, three significant digits.
    const MAX_US: u64 = 3_600_000_000;

    /// A new histogram with the bounds of all of ours.
    pub fn empty() -> Histogram<u64> {
        Histogram::new_with_bounds(1, Self::MAX_US, 3).expect("constant bounds are valid")
    }

    /// One sample of `ns`, clamped to 1 µs … 1 h.
    #[inline]
    pub fn record(&mut self, figure: Figure, ns: u64) {
        let histogram = self.0[figure as usize].get_or_insert_with(|| Box::new(Self::empty()));
        histogram.saturating_record((ns / 1000).clamp(1, Self::MAX_US));
    }

    /// A figure's samples, if it has any.
    pub fn figure(&self, figure: Figure) -> Option<&Histogram<u64>> {
        self.0[figure as usize].as_deref()
    }

    /// Adds another cell's samples.
    pub fn add(&mut self, other: &Self) {
        self.add_of(other, Figure::ALL);
    }

    /// Adds another cell's samples of some figures.
    pub fn add_of(&mut self, other: &Self, figures: impl IntoIterator<Item = Figure>) {
        for figure in figures {
            if let Some(from) = other.figure(figure) {
                let to = self.0[figure as usize].get_or_insert_with(|| Box::new(Self::empty()));
                to.add(from).expect("all histograms have the same bounds");
            }
        }
    }

    /// Adds another cell's samples, and takes over those of figures that have none here.
    pub fn absorb(&mut self, other: Self) {
        for (to, from) in self.0.iter_mut().zip(other.0) {
            match (to.as_mut(), from) {
                (Some(to), Some(from)) => to.add(*from).expect("all histograms have the same bounds"),
                (None, from) => *to = from,
                (Some(_), None) => {}
            }
        }
    }

    /// Whether no figure has a sample.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// One cell.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// Since the run's start.
    pub counters: Counters,
    /// Since the last hand-over.
    pub histograms: Histograms,
}

/// All cells of a worker.
#[derive(Debug)]
pub struct Meter {
    cells: Vec<Cell>,
}

impl Meter {
    /// Cells in a plan, those aside left out: 64 groups of a few stages and targets, and far more than that.
    pub const CELLS_MAX: usize = 4096;

    /// `cells` empty ones.
    pub fn new(cells: usize) -> Self {
        Self { cells: vec![Cell::default(); cells] }
    }

    /// The counters of a cell.
    #[inline]
    pub fn counters(&mut self, cell: usize) -> &mut Counters {
        &mut self.cells[cell].counters
    }

    /// One sample of `ns`.
    #[inline]
    pub fn record(&mut self, cell: usize, figure: Figure, ns: u64) {
        self.cells[cell].histograms.record(figure, ns);
    }

    /// A copy of every cell for the control thread; histograms start anew.
    pub fn hand_over(&mut self) -> Vec<Cell> {
        self.cells
            .iter_mut()
            .map(|cell| Cell {
                counters: cell.counters.clone(),
                histograms: std::mem::take(&mut cell.histograms),
            })
            .collect()
    }

    /// The sum of all counters.
    pub fn sum(&self) -> Counters {
        let mut sum = Counters::default();
        self.cells.iter().for_each(|cell| sum.add(&cell.counters));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stay_and_histograms_start_anew_after_a_hand_over() {
        let mut meter = Meter::new(2);
        meter.counters(1).ticks_due += 3;
        meter.record(1, Figure::Response, 5_000_000);
        let first = meter.hand_over();
        assert_eq!(first[1].histograms.figure(Figure::Response).unwrap().len(), 1);
        let second = meter.hand_over();
        assert_eq!(second[1].counters.ticks_due, 3);
        assert!(second[1].histograms.is_empty());
    }

    #[test]
    fn what_is_absorbed_is_what_is_added() {
        let mut cells = [Histograms::default(), Histograms::default()];
        cells[0].record(Figure::Response, 5_000_000);
        cells[1].record(Figure::Response, 7_000_000);
        cells[1].record(Figure::Connect, 9_000_000);
        for order in [[0, 1], [1, 0]] {
            let (mut added, mut absorbed) = (Histograms::default(), Histograms::default());
            for cell in order {
                added.add(&cells[cell]);
                absorbed.absorb(cells[cell].clone());
            }
            for figure in Figure::ALL {
                assert_eq!(added.figure(figure), absorbed.figure(figure), "{}", figure.name());
            }
            assert_eq!(absorbed.figure(Figure::Response).unwrap().len(), 2);
        }
    }

    #[test]
    fn a_sample_beyond_an_hour_counts_as_an_hour() {
        let mut histograms = Histograms::default();
        histograms.record(Figure::Response, u64::MAX);
        histograms.record(Figure::Response, 0);
        let histogram = histograms.figure(Figure::Response).unwrap();
        assert_eq!(histogram.len(), 2);
        assert!(histogram.max() >= Histograms::MAX_US && histogram.min() == 1);
    }
}
