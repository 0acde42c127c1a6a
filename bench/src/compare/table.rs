//! Rows of the table, and what each is held to.

use serde::Serialize;

use super::median;
use super::programs::{Load, Sample};

/// One row; what has no value is `null`. Times in seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// What ran.
    pub name: String,
    /// Streams.
    pub streams: u32,
    /// ms.
    pub tick_ms: u32,
    /// Bytes of a message.
    pub bytes: u32,
    /// Runs that the medians are of.
    pub runs: usize,
    /// Median.
    pub cpu_us_per_message: Option<f64>,
    /// Median; in user space.
    pub cpu_user_us_per_message: Option<f64>,
    /// Median; CPU from connect to open, a stream.
    pub handshake_cpu_us: Option<f64>,
    /// Median of the pairs' ratios.
    pub ratio_to_floor: Option<f64>,
    /// Median of the runs' medians.
    pub lateness_p50: Option<f64>,
    /// Median.
    pub lateness_p99: Option<f64>,
    /// Bytes a stream.
    pub rss_slope_per_stream: Option<f64>,
    /// Median.
    pub delivered_ratio: Option<f64>,
    /// Figures with a bound: what, measured, bound, met.
    pub bounds: Vec<Bound>,
}

/// A figure and what it is held to.
#[derive(Debug, Clone, Serialize)]
pub struct Bound {
    /// What is held.
    pub what: &'static str,
    /// As measured.
    pub measured: f64,
    /// At most (or, for shares, at least) this.
    pub bound: f64,
    /// Whether it holds.
    pub met: bool,
}

impl Bound {
    /// `measured` is to be at most `bound`.
    pub fn most(what: &'static str, measured: f64, bound: f64) -> Self {
        Self { what, measured, bound, met: measured <= bound }
    }

    /// `measured` is to be at least `bound`.
    pub fn least(what: &'static str, measured: f64, bound: f64) -> Self {
        Self { what, measured, bound, met: measured >= bound }
    }
}

impl Row {
    /// The medians of some runs of one load.
    pub fn of(name: impl Into<String>, load: &Load, samples: &[Sample]) -> Self {
        let of = |figure: fn(&Sample) -> f64| Some(median(samples.iter().map(figure).collect()));
        Self {
            name: name.into(),
            streams: load.streams,
            tick_ms: load.tick_ms,
            bytes: load.bytes,
            runs: samples.len(),
            cpu_us_per_message: of(|s| s.cpu_us_per_message),
            lateness_p50: of(|s| s.lateness_p50),
            lateness_p99: of(|s| s.lateness_p99),
            delivered_ratio: of(|s| s.delivered_ratio),
            ..Self::default()
        }
    }

    /// With the median of the pairs' ratios.
    #[must_use]
    pub fn against(mut self, samples: &[Sample], floor: &[Sample]) -> Self {
        let ratio = |(ours, floor): (&Sample, &Sample)| ours.cpu_us_per_message / floor.cpu_us_per_message;
        self.ratio_to_floor = Some(median(samples.iter().zip(floor).map(ratio).collect()));
        self
    }
}

/// The rows as a table in Markdown, and below it every bound.
pub fn print(rows: &[Row]) -> String {
    let mut text = String::from(
        "| name | streams | tick ms | bytes | runs | CPU us/message | of it user | x floor | lateness p50 / p99 us | CPU us/handshake | RSS B/stream | delivered |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let number =
            |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
        let us = |value: Option<f64>| number(value.map(|seconds| seconds * 1e6), 0);
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} / {} | {} | {} | {} |\n",
            row.name,
            row.streams,
            row.tick_ms,
            row.bytes,
            row.runs,
            number(row.cpu_us_per_message, 2),
            number(row.cpu_user_us_per_message, 2),
            number(row.ratio_to_floor, 3),
            us(row.lateness_p50),
            us(row.lateness_p99),
            number(row.handshake_cpu_us, 0),
            number(row.rss_slope_per_stream, 0),
            number(row.delivered_ratio, 5),
        );
    }
    text.push('\n');
    for (row, bound) in rows.iter().flat_map(|row| row.bounds.iter().map(move |bound| (row, bound))) {
        let verdict = if bound.met { "met" } else { "NOT met" };
        text += &format!(
            "- {}, {} streams: {} {:.4} (bound {}): {verdict}\n",
            row.name, row.streams, bound.what, bound.measured, bound.bound
        );
    }
    text
}
