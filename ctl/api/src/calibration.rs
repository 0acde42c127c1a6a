//! What a host was found to offer: the result of `scalectl calibrate`, kept by the daemon, one a protocol.
//!
//! `PUT /v1/calibration` takes a [`Calibration`] whose [`host`](Calibration::host) and [`at`](Calibration::at) the daemon
//! fills in itself; `GET` answers with [`Calibrations`]. Times are in seconds (`us` in microseconds), sizes in bytes.

use serde::{Deserialize, Serialize};

/// `GET`: [`Calibrations`]; `PUT` a [`Calibration`]: the same as it is kept.
pub const PATH: &str = "/v1/calibration";

/// Protocols that can be calibrated, as their URLs name them.
pub const PROTOCOLS: [&str; 4] = ["ws", "wss", "ssh", "tcp"];

/// 99th percentile of lateness up to which load counts as held, in seconds.
pub const LATENESS_P99_MAX: f64 = 0.001;
/// Share of its core up to which the busiest worker counts as holding, in steady seconds.
pub const BUSY_MAX: f64 = 0.8;
/// Share of ticks that the generator may miss.
pub const MISSED_MAX: f64 = 0.001;

/// What decides a measurement beside the load: what must be the same for it to hold later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// The daemon's version.
    pub version: String,
    /// Release, as `uname -r`.
    pub kernel: String,
    /// Cores of the workers.
    pub cores: Vec<u64>,
    /// The model of the first core, as /proc/cpuinfo has it.
    pub cpu: String,
    /// Workers run with SCHED_FIFO.
    pub realtime: bool,
}

impl Host {
    /// `0.1` of `0.1.7`: versions of a series cost the same.
    fn series(&self) -> &str {
        self.version.rsplit_once('.').map_or(self.version.as_str(), |(series, _)| series)
    }

    /// What is not the same as in `before`, in words; empty: all that decides is.
    pub fn differs(&self, before: &Self) -> Vec<String> {
        let mut differs = Vec::new();
        let mut other = |what: &str, before: &str, now: &str| {
            differs.push(format!("{what} {before}, and here is {now}"));
        };
        if self.series() != before.series() {
            other("version", &before.version, &self.version);
        }
        if self.kernel != before.kernel {
            other("kernel", &before.kernel, &self.kernel);
        }
        if self.cores != before.cores {
            other("cores", &format!("{:?}", before.cores), &format!("{:?}", self.cores));
        }
        if self.cpu != before.cpu {
            other("CPU", &before.cpu, &self.cpu);
        }
        if self.realtime != before.realtime {
            let word = |realtime: bool| if realtime { "fifo" } else { "off" };
            other("realtime", word(before.realtime), word(self.realtime));
        }
        differs
    }
}

/// What ended the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// A worker's share of its core.
    Busy,
    /// Messages went too late.
    Lateness,
    /// Ticks were missed by the generator.
    Missed,
    /// Source ports towards the target.
    Ports,
    /// Memory.
    Memory,
    /// Open files.
    Files,
    /// A plan of more would be refused for its least cost.
    Cores,
    /// The target answered late, or did not take more streams.
    Target,
    /// `targets.toml` allows no more.
    Cap,
    /// `--max-streams`.
    Streams,
    /// `--time`.
    #[default]
    Time,
}

impl Limit {
    /// Whether it is this host's: what lies beyond cannot be had here. Otherwise the result is a lower bound.
    pub const fn is_of_this_host(self) -> bool {
        !matches!(self, Self::Target | Self::Cap | Self::Streams | Self::Time)
    }

    /// In words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Busy => "beyond it a worker takes more than 80 % of its core",
            Self::Lateness => "beyond it the p99 of lateness is above 1 ms",
            Self::Missed => "beyond it the workers miss ticks",
            Self::Ports => "there are no more source ports",
            Self::Memory => "there is no more memory",
            Self::Files => "no more files may be open",
            Self::Cores => "a plan of more would be refused for the cores that it needs at least",
            Self::Target => "the target was the limit: it answered late, or took no more streams",
            Self::Cap => "targets.toml allows no more",
            Self::Streams => "--max-streams was reached",
            Self::Time => "--time was over",
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calibration {
    /// When, in seconds since 1970.
    pub at: f64,
    /// Where.
    pub host: Host,
    /// The run in which it was measured.
    pub run: String,
    /// One of [`PROTOCOLS`].
    pub protocol: String,
    /// Payload of a tick and stream, each way.
    pub payload_bytes: u64,
    /// Time between two messages of a stream.
    pub tick: f64,
    /// The most streams that were held.
    pub streams: u64,
    /// Seconds for which they were, in the step that says so.
    pub held_seconds: u64,
    /// Messages a second with that many streams, each way.
    pub messages_per_second: f64,
    /// Payload a second with that many streams, each way.
    pub bytes_per_second: f64,
    /// CPU time of the workers for a message of `payload_bytes` and its echo.
    pub cpu_us_per_message: f64,
    /// The part of it that a message takes whatever its length.
    pub message_us: f64,
    /// The part that each byte of it takes; `None`: not measured.
    pub byte_us: Option<f64>,
    /// Median of the seconds' 99th percentiles.
    pub lateness_p99: f64,
    /// Median of the busiest worker's seconds, as a share of its core.
    pub busy_max: f64,
    /// What ended the search.
    pub limit: Limit,
    /// Who echoed: `scale-sink`, or the targets.
    pub against: String,
    /// The sink ran on cores of the workers.
    pub shared_cores: bool,
    /// How it was found.
    pub steps: Vec<Step>,
}

impl Calibration {
    /// Whether the host may offer more than was found.
    pub const fn is_lower_bound(&self) -> bool {
        self.shared_cores || !self.limit.is_of_this_host()
    }
}

/// So many streams, for some seconds. Figures are medians of the seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// Streams that were asked for.
    pub streams: u64,
    /// When its measuring began, in seconds since the run's start.
    pub at: f64,
    /// Seconds that were measured.
    pub seconds: u64,
    /// Of these, those in which a bound was broken.
    pub seconds_over: u64,
    /// Messages a second.
    pub messages_per_second: f64,
    /// 99th percentile of lateness.
    pub lateness_p99: Option<f64>,
    /// The busiest worker's share of its core.
    pub busy_max: f64,
    /// 99th percentile of the time from a send to its whole echo.
    pub service_p99: Option<f64>,
    /// Share of ticks that were missed, whatever the cause.
    pub missed: f64,
    /// What they broke; `None`: they were held.
    pub broke: Option<Limit>,
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calibrations {
    /// This host as it is now.
    pub host: Host,
    /// One a protocol.
    pub kept: Vec<Calibration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_series_are_the_same_and_all_else_is_named() {
        let host =
            Host { version: "0.1.0".into(), kernel: "6.1".into(), cores: vec![1, 2], ..Host::default() };
        let later = Host { version: "0.1.9".into(), ..host.clone() };
        assert_eq!(later.differs(&host), [""; 0]);
        let other = Host {
            version: "0.2.0".into(),
            kernel: "6.12".into(),
            cores: vec![1],
            cpu: "another".into(),
            realtime: true,
        };
        assert_eq!(
            other.differs(&host),
            [
                "version 0.1.0, and here is 0.2.0",
                "kernel 6.1, and here is 6.12",
                "cores [1, 2], and here is [1]",
                "CPU , and here is another",
                "realtime off, and here is fifo"
            ]
        );
    }

    #[test]
    fn what_did_not_end_by_this_host_is_a_lower_bound() {
        let ended = |limit, shared_cores| Calibration { limit, shared_cores, ..Calibration::default() };
        assert!(!ended(Limit::Busy, false).is_lower_bound() && ended(Limit::Busy, true).is_lower_bound());
        assert!(ended(Limit::Target, false).is_lower_bound() && ended(Limit::Time, false).is_lower_bound());
    }
}
