//! Counters and histograms of all workers become the figures of a report.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use scale_api::report::{self, Fairness, Load, Missed, Sessions, WorstStream};

use crate::load::Group;
use crate::stream::meter::{ByClass, Cell, Counters, Figure, Histograms};
use crate::worker::share::StreamResult;

/// Streams listed as the worst.
const WORST_MAX: usize = 10;

/// Cells added up.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    /// Steady state alone.
    pub steady: Counters,
    /// The whole run.
    pub all: Counters,
    /// Connects of the whole run, the rest of steady state.
    pub histograms: Histograms,
    /// Messages of steady state whose echo is asked for.
    echo_sent: u64,
    /// Any of the cells is of echo traffic.
    echo: bool,
    /// Payload bytes that were due in steady state.
    bytes_due: f64,
}

/// What a cell belongs to.
#[derive(Debug, Clone, Copy)]
pub struct CellOf {
    /// Its group asks for echoes.
    pub echo: bool,
    /// Payload bytes a tick by the plan.
    pub tick_bytes: f64,
}

impl Sum {
    /// Adds a cell of `stage` (0: before steady).
    pub fn add(&mut self, cell: &Cell, stage: usize, of: CellOf) {
        self.count(&cell.counters, stage, of);
        self.sample(&cell.histograms, stage);
    }

    /// Adds a cell's counters.
    pub fn count(&mut self, counters: &Counters, stage: usize, of: CellOf) {
        self.all.add(counters);
        self.echo |= of.echo;
        if stage > 0 {
            self.steady.add(counters);
            self.echo_sent += if of.echo { counters.messages_sent } else { 0 };
            // What went says what a tick had, whatever `set` has made of the plan.
            let tick_bytes = match counters.ticks_sent {
                0 => of.tick_bytes,
                sent => counters.payload_sent as f64 / sent as f64,
            };
            self.bytes_due += counters.ticks_due as f64 * tick_bytes;
        }
    }

    /// Adds a cell's histograms.
    pub fn sample(&mut self, histograms: &Histograms, stage: usize) {
        if stage > 0 {
            self.histograms.add(histograms);
        } else {
            let opening = Figure::ALL.into_iter().filter(|figure| figure.is_of_the_whole_run());
            self.histograms.add_of(histograms, opening);
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        let Self { steady, all, histograms, echo_sent, echo, bytes_due } = other;
        self.steady.add(steady);
        self.all.add(all);
        self.histograms.add(histograms);
        self.echo_sent += echo_sent;
        self.echo |= echo;
        self.bytes_due += bytes_due;
    }

    /// The load's part of a report.
    pub fn load(&self, streams: Streams, steady_seconds: f64) -> Load {
        let (steady, all) = (&self.steady, &self.all);
        let per_second = |bytes: f64| (steady_seconds > 0.0).then(|| bytes / steady_seconds);
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        Load {
            streams_requested: streams.requested,
            streams_opened: streams.opened,
            streams_open_at_end: streams.open_at_end,
            streams_open_max: None,
            connect_failures: by_class(&all.failures),
            disconnects: by_class(&all.disconnects),
            reconnects: all.reconnects,
            replaced: all.replaced,
            sessions: sessions(all),
            ticks_due: steady.ticks_due,
            ticks_sent: steady.ticks_sent,
            ticks_missed: missed(steady),
            delivered_ratio: ratio(steady.ticks_sent, steady.ticks_due),
            echoed_ratio: if self.echo { ratio(steady.messages_echoed, self.echo_sent) } else { None },
            messages_sent: steady.messages_sent,
            messages_echoed: steady.messages_echoed,
            messages_unanswered: steady.messages_unanswered,
            payload_bytes_sent: steady.payload_sent,
            payload_bytes_received: steady.payload_received,
            wire_bytes_sent: steady.wire_sent,
            wire_bytes_received: steady.wire_received,
            rate_offered: per_second(self.bytes_due),
            rate_sent: per_second(steady.payload_sent as f64),
            rate_received: per_second(steady.payload_received as f64),
            verify_failures: all.verify_failures,
            unexpected_bytes: all.unexpected_bytes,
        }
    }

    /// The latency part of a report.
    pub fn latency(&self) -> report::Latency {
        let figure = |figure: Figure| self.histograms.figure(figure).map(distribution);
        report::Latency {
            connect: figure(Figure::Connect),
            tls: figure(Figure::Tls),
            upgrade: figure(Figure::Upgrade),
            banner: figure(Figure::Banner),
            key_exchange: figure(Figure::KeyExchange),
            authentication: figure(Figure::Authentication),
            channel: figure(Figure::Channel),
            first_byte: figure(Figure::FirstByte),
            lateness: figure(Figure::Lateness),
            service: figure(Figure::Service),
            response: figure(Figure::Response),
            reconnect: figure(Figure::Reconnect),
        }
    }

    /// The curves of what recurs through the run, by figure: quantile and seconds.
    pub fn percentiles(&self) -> BTreeMap<String, Vec<[f64; 2]>> {
        [Figure::Lateness, Figure::Service, Figure::Response]
            .into_iter()
            .filter_map(|figure| Some((figure.name().to_owned(), curve(self.histograms.figure(figure)?))))
            .collect()
    }

    /// The counters of the whole run.
    pub fn total(&self) -> report::Total {
        let all = &self.all;
        report::Total {
            messages_sent: all.messages_sent,
            messages_echoed: all.messages_echoed,
            payload_bytes_sent: all.payload_sent,
            payload_bytes_received: all.payload_received,
            wire_bytes_sent: all.wire_sent,
            wire_bytes_received: all.wire_received,
            payload_bytes_open: all.payload_open,
        }
    }
}

/// Streams of a group, target or run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Streams {
    /// The most asked for.
    pub requested: u64,
    /// Open at least once.
    pub opened: u64,
    /// Open when steady state ended.
    pub open_at_end: u64,
}

impl Streams {
    /// Adds another part's.
    pub const fn add(&mut self, other: Self) {
        self.requested += other.requested;
        self.opened += other.opened;
        self.open_at_end += other.open_at_end;
    }
}

/// Ticks missed, by cause.
pub const fn missed(counters: &Counters) -> Missed {
    Missed {
        generator: counters.missed_generator,
        backpressure: counters.missed_backpressure,
        disconnected: counters.missed_disconnected,
    }
}

/// What web terminals found that had lost their connection; `None`: none has come back.
fn sessions(counters: &Counters) -> Option<Sessions> {
    let sessions = Sessions {
        same: counters.sessions_same,
        intact: counters.sessions_intact,
        cut: counters.sessions_cut,
        new: counters.sessions_new,
        unknown: counters.sessions_unknown,
        bytes_lost: counters.typed_lost,
        bytes_replayed: counters.replayed,
    };
    (sessions.same + sessions.new + sessions.unknown > 0).then_some(sessions)
}

/// Counts above zero, by name.
pub fn by_class(counts: &ByClass) -> BTreeMap<String, u64> {
    counts.entries().map(|(class, count)| (class.name().to_owned(), count)).collect()
}

/// A histogram of µs as a distribution in seconds.
pub fn distribution(histogram: &Histogram<u64>) -> report::Figure {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e6;
    report::Figure {
        count: histogram.len(),
        min: histogram.min() as f64 / 1e6,
        mean: histogram.mean() / 1e6,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
        max: histogram.max() as f64 / 1e6,
    }
}

/// Steps of a curve until what lies beyond has halved.
const CURVE_STEPS: u32 = 5;

/// A histogram of µs as (quantile, seconds), denser the nearer to 1, up to the quantile of its last sample.
fn curve(histogram: &Histogram<u64>) -> Vec<[f64; 2]> {
    histogram
        .iter_quantiles(CURVE_STEPS)
        .map(|step| [step.quantile_iterated_to(), step.value_iterated_to() as f64 / 1e6])
        .collect()
}

/// How evenly streams fared.
pub fn fairness(groups: &[Group], mut streams: Vec<StreamResult>) -> Fairness {
    if streams.is_empty() {
        return Fairness::default();
    }
    let (count, sum) = (streams.len() as f64, streams.iter().map(|s| s.bytes as f64).sum::<f64>());
    let squares: f64 = streams.iter().map(|s| (s.bytes as f64).powi(2)).sum();
    let least = streams.iter().map(|s| s.bytes).min().unwrap_or(0) as f64;
    streams.sort_by_key(|s| (std::cmp::Reverse(s.response_p99_ns), s.bytes, s.number));
    let worst = streams.iter().take(WORST_MAX).map(|stream| {
        let group = &groups[usize::from(stream.group)];
        WorstStream {
            stream: format!("{}/{}", group.name, stream.number),
            target: group.targets[usize::from(stream.target)].to_string(),
            response_p99: stream.response_p99_ns.map(|ns| ns as f64 / 1e9),
            bytes: stream.bytes,
            stalls: u64::from(stream.stalls),
        }
    });
    Fairness {
        worst_streams: worst.collect(),
        throughput_min_over_mean: (sum > 0.0).then(|| least / (sum / count)),
        jain: (squares > 0.0).then(|| sum * sum / (count * squares)),
    }
}
