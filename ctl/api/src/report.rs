//! What comes back: one [`Event`] a second while a run goes, and the [`Report`] at its end.
//!
//! Times are in seconds, sizes in bytes; what has no value is `null`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of the report's shape.
pub const SCHEMA: u32 = 1;

/// Exit codes of `start`, `watch`, `stop` and `report`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// All thresholds met, the load delivered.
    Passed = 0,
    /// A bug of ours.
    Internal = 1,
    /// Usage or configuration.
    Usage = 2,
    /// The target is not on this host's list.
    TargetRefused = 3,
    /// This host cannot carry the plan.
    HostCannotCarry = 4,
    /// Ctrl-C, stop --now, a signal, the daemon lost.
    Aborted = 5,
    /// The generator or its host was the limit.
    Incomplete = 6,
    /// A clean-up left something.
    Left = 7,
    /// A threshold failed, or the target did not carry the load.
    Failed = 99,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything asked for was delivered.
    Passed,
    /// The target, or a threshold.
    Failed,
    /// The generator or its host.
    Incomplete,
    /// Ended before its time.
    #[default]
    Aborted,
}

/// How SSH reached a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SshPath {
    /// Past coderd.
    Direct,
    /// Through coderd's relay.
    Relayed,
    /// Nothing tells.
    #[default]
    Unknown,
}

macro_rules! parts {
    ($($(#[$meta:meta])* $name:ident { $($(#[$attribute:meta])? $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        #[expect(missing_docs, reason = "the names of docs/control.md, one for one")]
        pub struct $name { $($(#[$attribute])? pub $field: $type,)* }
    )*};
}

parts! {
    /// The whole result.
    Report {
        schema: u32,
        run: Run,
        #[serde(deserialize_with = "known")]
        spec: crate::spec::Spec,
        verdict: Verdict,
        load: Load,
        total: Total,
        latency: Latency,
        groups: Vec<Part>,
        targets: Vec<Part>,
        stages: Vec<Part>,
        fairness: Fairness,
        generator: Generator,
        marks: Vec<Mark>,
        disruptions: Vec<crate::disruption::Disruption>,
        observe: BTreeMap<String, Observed>,
        warnings: Vec<String>,
        percentiles: BTreeMap<String, Vec<[f64; 2]>>,
        server_versions: Vec<ServerVersion>,
        server_changes: Vec<ServerChange>,
        series: Vec<SeriesRow>,
        host: Vec<crate::http::DoctorEntry>,
        ssh: Option<Ssh>,
        coder: Option<crate::coder::Outcome>,
        steps: Vec<crate::scenario::taken::StepReport>,
    }
    /// Which run. `zero_at`: Unix time of second 0 of its series, marks and disruptions; of a scenario the traffic's start.
    /// `going`: it is not over, and these are its figures so far.
    Run {
        id: String,
        name: Option<String>,
        labels: BTreeMap<String, String>,
        started_at: f64,
        ended_at: f64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        going: bool,
        zero_at: Option<f64>,
        seed: u64,
        version: String,
        kernel: Option<String>,
        environment: BTreeMap<String, String>,
        started_by: Option<StartedBy>,
    }
    /// Who asked for it: the peer of the control socket (SO_PEERCRED, unix(7)). `user`: of `/etc/passwd`.
    StartedBy { uid: u32, gid: u32, pid: i32, user: Option<String>, }
    /// What it came to.
    Verdict { outcome: Outcome, exit_code: u8, reasons: Vec<String>, thresholds: Vec<ThresholdResult>, }
    /// One threshold. `value`: of the whole run, the worst window's or the worst disruption's; `at`: when that window
    /// ended; `aborted`: its breach ended the run; `why`: the disruption that it is of, or why there is no value.
    ThresholdResult {
        expression: String,
        value: Option<f64>,
        ok: bool,
        at: Option<f64>,
        aborted: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    }
    /// What was asked and what was delivered, of steady state. `streams_open_max`: the most open at a second's end, of the
    /// whole run; of the run and its groups alone.
    Load {
        streams_requested: u64,
        streams_opened: u64,
        streams_open_at_end: u64,
        streams_open_max: Option<u64>,
        connect_failures: BTreeMap<String, u64>,
        disconnects: BTreeMap<String, u64>,
        reconnects: u64,
        replaced: u64,
        sessions: Option<Sessions>,
        ticks_due: u64,
        ticks_sent: u64,
        ticks_missed: Missed,
        delivered_ratio: Option<f64>,
        echoed_ratio: Option<f64>,
        messages_sent: u64,
        messages_echoed: u64,
        messages_unanswered: u64,
        payload_bytes_sent: u64,
        payload_bytes_received: u64,
        wire_bytes_sent: u64,
        wire_bytes_received: u64,
        rate_offered: Option<f64>,
        rate_sent: Option<f64>,
        rate_received: Option<f64>,
        verify_failures: u64,
        unexpected_bytes: u64,
    }
    /// Web terminals that came back after a loss. `intact` and `cut` are among the `same`: nothing
    /// typed was lost; it is not known how much, so that `bytes_lost` is a lower bound.
    Sessions {
        same: u64,
        intact: u64,
        cut: u64,
        new: u64,
        unknown: u64,
        bytes_lost: u64,
        bytes_replayed: u64,
    }
    /// A version that a group's servers named; times since the run's start.
    ServerVersion { group: String, version: String, first_at: f64, last_at: f64, opened: u64, }
    /// Reconnects of a group by the server's version before and after; `null`: it named none.
    ServerChange { group: String, before: Option<String>, after: Option<String>, reconnects: u64, }
    /// Ticks missed, by cause.
    Missed { generator: u64, backpressure: u64, disconnected: u64, }
    /// The counters over the whole run; `payload_bytes_open`: on connections not closed in order.
    Total {
        messages_sent: u64,
        messages_echoed: u64,
        payload_bytes_sent: u64,
        payload_bytes_received: u64,
        wire_bytes_sent: u64,
        wire_bytes_received: u64,
        payload_bytes_open: u64,
    }
    /// Every figure of time.
    Latency {
        connect: Option<Figure>,
        tls: Option<Figure>,
        upgrade: Option<Figure>,
        banner: Option<Figure>,
        key_exchange: Option<Figure>,
        authentication: Option<Figure>,
        channel: Option<Figure>,
        first_byte: Option<Figure>,
        lateness: Option<Figure>,
        service: Option<Figure>,
        response: Option<Figure>,
        reconnect: Option<Figure>,
    }
    /// SSH connections of all groups. `path`: how workspaces were reached, where SSH went to any.
    Ssh {
        negotiated: Vec<Negotiated>,
        path: Option<SshPath>,
        accepted_host_keys: Vec<HostKey>,
        insecure_host_keys: bool,
    }
    /// What connections settled on, and how many did; the cipher and MAC of what we sent.
    Negotiated { kex: String, cipher: String, mac: String, host_key: String, strict: bool, connections: u64, }
    /// A host that was believed at first sight, and its key's fingerprint.
    HostKey { host: String, key: String, }
    /// A distribution.
    Figure {
        count: u64,
        min: f64,
        mean: f64,
        p50: f64,
        p90: f64,
        p99: f64,
        p999: f64,
        p9999: f64,
        max: f64,
    }
    /// A group's, target's or stage's own part.
    Part { name: String, load: Load, latency: Latency, }
    /// How evenly streams fared.
    Fairness { worst_streams: Vec<WorstStream>, throughput_min_over_mean: Option<f64>, jain: Option<f64>, }
    /// A stream that fared badly.
    WorstStream { stream: String, target: String, response_p99: Option<f64>, bytes: u64, stalls: u64, }
    /// The generator itself.
    Generator {
        saturated: bool,
        saturated_seconds: u64,
        workers: Vec<Worker>,
        cpu_seconds_user: f64,
        cpu_seconds_system: f64,
        cpu_us_per_message: Option<f64>,
        rss_peak: u64,
        rss_per_stream: Option<f64>,
        source_ports_skipped: u64,
    }
    /// One worker.
    Worker { cpu: u64, streams: u64, busy_mean: f64, busy_max: f64, turn_p99: f64, turn_max: f64, }
    /// A named moment.
    Mark { at: f64, text: String, }
    /// One second, or a span of `seconds` of them where a long run's are merged; `at` is its end, in seconds since the
    /// run's start. In a span rates and `busy` are means, counts and heats sums, percentiles, maxima and `observe`
    /// the highest among its seconds, `streams_open` is the last, and `saturated` says whether any of them was.
    SeriesRow {
        at: f64,
        seconds: u64,
        stage: String,
        streams_open: u64,
        rate_offered: f64,
        rate_sent: f64,
        rate_received: f64,
        messages_sent: u64,
        messages_echoed: u64,
        ticks_due: u64,
        ticks_missed: u64,
        connects_begun: u64,
        connects: u64,
        connect_failures: u64,
        disconnects: u64,
        connect_failures_by_class: BTreeMap<String, u64>,
        disconnects_by_class: BTreeMap<String, u64>,
        connect_p99: Option<f64>,
        lateness_p50: Option<f64>,
        lateness_p99: Option<f64>,
        lateness_max: Option<f64>,
        service_p50: Option<f64>,
        service_p99: Option<f64>,
        response_p50: Option<f64>,
        response_p90: Option<f64>,
        response_p99: Option<f64>,
        response_max: Option<f64>,
        response_heat: Heat,
        lateness_heat: Heat,
        busy_max: f64,
        busy: Vec<f64>,
        saturated: bool,
        observe: BTreeMap<String, f64>,
    }
    /// Samples by [`heat::row`], from row `first` on, without empty rows at either end.
    Heat { first: u64, counts: Vec<u64>, }
    /// What a query of `[observe]` answered in steady state; `last`: its last value there.
    Observed { min: f64, mean: f64, max: f64, last: f64, samples: u64, }
    /// One second, as it happens. `marks`: those since the last event; `disruptions`: the newest, as they stand;
    /// `thresholds`: as they stand; `steps`: of a scenario, as they stand; `zero_at`: as the run's.
    Event {
        run: String,
        name: Option<String>,
        state: String,
        zero_at: Option<f64>,
        elapsed: f64,
        remaining: Option<f64>,
        stages: BTreeMap<String, String>,
        streams: BTreeMap<String, u64>,
        now: SeriesRow,
        ticks_missed: Missed,
        connect_failures: BTreeMap<String, u64>,
        disconnects: BTreeMap<String, u64>,
        workers: Vec<Worker>,
        saturated: bool,
        warnings: Vec<String>,
        thresholds: Vec<ThresholdResult>,
        marks: Vec<Mark>,
        disruptions: Vec<crate::disruption::Disruption>,
        coder: Option<crate::coder::Progress>,
        steps: Vec<crate::scenario::taken::StepReport>,
    }
}

/// A run file that has words of a newer version is left out: run files refuse what they do not know, and a report is to
/// be read all the same.
fn known<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<crate::spec::Spec, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Known(Box<crate::spec::Spec>),
        Newer(serde::de::IgnoredAny),
    }
    Ok(match Form::deserialize(deserializer)? {
        Form::Known(spec) => *spec,
        Form::Newer(_) => crate::spec::Spec::default(),
    })
}

macro_rules! latencies {
    ($($figure:ident)*) => {
        impl Latency {
            /// A figure by its name.
            pub fn figure(&self, name: &str) -> Option<&Figure> {
                match name {
                    $(stringify!($figure) => self.$figure.as_ref(),)*
                    _ => None,
                }
            }

            /// Puts a figure in by its name; a name that is none changes nothing.
            pub fn set(&mut self, name: &str, figure: Figure) {
                match name {
                    $(stringify!($figure) => self.$figure = Some(figure),)*
                    _ => {}
                }
            }
        }
    };
}

latencies! { connect tls upgrade banner key_exchange authentication channel first_byte lateness service response reconnect }

impl Report {
    /// Unix time of second 0 of its series, marks and disruptions.
    pub fn zero_at(&self) -> f64 {
        self.run.zero_at.unwrap_or(self.run.started_at)
    }
}

impl Load {
    /// Streams opened / streams requested.
    pub fn open_ratio(&self) -> Option<f64> {
        (self.streams_requested > 0).then(|| self.streams_opened as f64 / self.streams_requested as f64)
    }
}
