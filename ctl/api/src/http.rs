//! The control API without the socket: paths, bodies, problem codes.

use serde::{Deserialize, Serialize};

use crate::report::{Exit, StartedBy};
use crate::spec::Spec;
use crate::units::{Bytes, Rate, Span};

/// `GET`: [`Status`].
pub const STATUS: &str = "/v1/status";
/// `GET`: a list of [`RunSummary`]; `POST` [`StartRequest`]: [`Started`].
pub const RUNS: &str = "/v1/runs";
/// `GET`: a list of [`DoctorEntry`]; `POST` [`DoctorRequest`]: also what that run asks of this host.
pub const DOCTOR: &str = "/v1/doctor";
/// `GET`: [`Targets`].
pub const TARGETS: &str = "/v1/targets";

/// Starts a run, or only plans it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// What to run.
    pub spec: Spec,
    /// Plan only.
    #[serde(default)]
    pub dry_run: bool,
}

/// A run was planned, and started unless it was a dry run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Started {
    /// Its id; `None`: a dry run.
    pub id: Option<String>,
    /// What it means.
    pub plan: PlanSummary,
}

/// A plan in figures.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanSummary {
    /// Sentences for people: one a group, then the whole.
    pub lines: Vec<String>,
    /// What will be said aloud: certificates not verified, and the like.
    pub warnings: Vec<String>,
    /// Streams of each core.
    pub streams_per_core: Vec<u64>,
    /// Messages a second when all are open.
    pub messages_per_second: f64,
    /// Payload bytes a second each way.
    pub bytes_per_second: f64,
    /// Memory that sockets and streams may take, in bytes.
    pub memory_bytes: u64,
    /// Source ports needed towards the busiest destination.
    pub source_ports: u64,
    /// What of this host it takes and how much there is: ports by destination and worker, memory, descriptors,
    /// CPU. For `--dry-run`.
    pub details: Vec<String>,
    /// What of it this host cannot give; empty: it can.
    pub cannot: Vec<String>,
    /// What share it takes of what this host was found to offer, in a sentence; `None`: nothing is known of it.
    pub calibration: Option<String>,
}

/// Changes a going run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetRequest {
    /// Which group; the only one where it is not given.
    pub group: Option<String>,
    /// Streams.
    pub conns: Option<u64>,
    /// Payload a second and stream.
    pub rate: Option<Rate>,
    /// Payload a tick and stream.
    pub bytes_per_tick: Option<Bytes>,
    /// Time between two messages.
    pub tick_interval: Option<Span>,
}

/// Asks whether this host can carry a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoctorRequest {
    /// The run.
    pub spec: Spec,
}

/// Ends a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopRequest {
    /// Zero traffic within a second instead of draining.
    pub now: bool,
}

/// Names a moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarkRequest {
    /// What happened.
    pub text: String,
    /// For so long from now on streams are expected to drop; `None`: as the run's `expect_disruption` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_disruption: Option<Span>,
}

/// What the daemon is doing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The run that is going.
    pub run: Option<crate::report::Event>,
    /// Its newest marks.
    pub marks: Vec<crate::report::Mark>,
    /// The last run that ended.
    pub last: Option<RunSummary>,
    /// What is wrong with the daemon itself, now: its state folder, above all. Each goes when it is mended.
    pub warnings: Vec<String>,
}

/// A run in a list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSummary {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: Option<String>,
    /// Of its report.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Who started it.
    pub started_by: Option<StartedBy>,
    /// Seconds since 1970.
    pub started_at: f64,
    /// Seconds from its start to its end, or so far.
    pub duration: f64,
    /// `running`, or how it ended.
    pub state: String,
    /// Its exit code, once it has ended.
    pub exit_code: Option<u8>,
    /// Why it ended so.
    pub reasons: Vec<String>,
    /// What its folder takes on disk.
    pub bytes: u64,
    /// Users and workspaces that it made and that are not deleted yet.
    pub owned: u64,
}

/// One line of `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DoctorEntry {
    /// What was looked at.
    pub name: String,
    /// `ok`, `warn` or `fail`.
    pub status: String,
    /// What was found.
    pub value: String,
    /// Where.
    pub source: String,
    /// The command that mends it.
    pub remedy: Option<String>,
}

/// What may be hit from here.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Targets {
    /// The list's file; `None`: there is none, and only loopback is allowed.
    pub file: Option<String>,
    /// One rule a line, as a person reads it.
    pub rules: Vec<String>,
    /// The rules, in the order in which they are looked at.
    pub list: Vec<TargetRule>,
    /// Coder deployments that may be used; empty: any.
    pub coder: Vec<CoderRule>,
    /// Who asked.
    pub caller: Option<StartedBy>,
}

/// A rule of the list: what may be hit, how much, and by whom.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetRule {
    /// The name, as in a URL, or `*.` and the name above; `None`: any.
    pub host: Option<String>,
    /// Addresses that it may have, as CIDR.
    pub addresses: Vec<String>,
    /// Ports; empty: all.
    pub ports: Vec<u16>,
    /// Streams of a run at most; `None`: no cap, as below.
    pub streams_max: Option<u64>,
    /// New connections a second at most.
    pub connects_per_second_max: Option<f64>,
    /// Payload bytes a second at most, each way.
    pub bytes_per_second_max: Option<u64>,
    /// Users who may use it, by name or uid; with `groups` empty, too: everybody.
    pub users: Vec<String>,
    /// Groups whose members may use it, by name or gid.
    pub groups: Vec<String>,
    /// Whether who asks may use it.
    pub allowed: bool,
    /// What the run that is going was planned to take of it; `None`: nothing.
    pub used: Option<TargetUse>,
}

/// What a run takes of a rule at its most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetUse {
    /// Streams.
    pub streams: u64,
    /// New connections a second.
    pub connects_per_second: f64,
    /// Payload bytes a second, each way.
    pub bytes_per_second: f64,
}

/// A Coder deployment that may be used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CoderRule {
    /// What its `/api/v2/buildinfo` says it is.
    pub deployment_id: String,
    /// `create`, `traffic`, `delete`.
    pub allow: Vec<String>,
}

/// What a reload of the settings file and the list of targets came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloaded {
    /// What is so from now on, a sentence each.
    pub applied: Vec<String>,
    /// What only a restart applies: what stays, and what the file says.
    pub restart: Vec<String>,
    /// Why what was going is ended.
    pub ended: Option<String>,
}

/// Why a request was refused, by what a caller does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// The request or the run is wrong.
    Invalid,
    /// The target is not on this host's list.
    TargetRefused,
    /// This host cannot carry the plan.
    HostCannotCarry,
    /// Another run is going.
    RunInProgress,
    /// No such run, or none at all.
    NotFound,
    /// Too large or too slow.
    TooLarge,
    /// The listener does not go by that name.
    WrongHost,
    /// What is asked for can only be read.
    MethodNotAllowed,
    /// As many pages are open as may be.
    TooManyReaders,
    /// Others' requests take all the room that there is.
    Busy,
    /// A bug of ours.
    Internal,
}

impl ProblemCode {
    /// The exit code that `scalectl` ends with.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Invalid | Self::RunInProgress | Self::NotFound | Self::TooLarge => Exit::Usage,
            Self::WrongHost | Self::MethodNotAllowed | Self::TooManyReaders | Self::Busy => Exit::Usage,
            Self::TargetRefused => Exit::TargetRefused,
            Self::HostCannotCarry => Exit::HostCannotCarry,
            Self::Internal => Exit::Internal,
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::TargetRefused | Self::WrongHost => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RunInProgress => 409,
            Self::TooLarge => 413,
            Self::HostCannotCarry => 422,
            Self::Internal => 500,
            Self::TooManyReaders | Self::Busy => 503,
        }
    }
}

/// `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable.
    pub code: ProblemCode,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: String,
}

impl Problem {
    /// A problem with its status.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self { code, status: code.status(), detail: detail.into() }
    }
}
