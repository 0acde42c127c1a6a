//! What a comparison comes to: the JSON of `scalectl compare --json`, which is also the data of its page.
//!
//! Times are in seconds; what has no value is `null`.

use std::collections::BTreeMap;

use serde::Serialize;

/// Version of this shape.
pub const SCHEMA: u32 = 1;

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What it comes to.
    pub verdict: Verdict,
    /// What is to be kept in mind.
    pub notes: Vec<String>,
    /// What the plans and hosts do not share.
    pub differences: Vec<Difference>,
    /// The runs before.
    pub base: Side,
    /// The runs after.
    pub new: Side,
    /// Figures side by side: those of the run, then those of its groups.
    pub figures: Vec<Row>,
    /// Disruptions under a mark that both sides have.
    pub disruptions: Vec<super::disruptions::Shared>,
    /// What `--max-regression` asked for.
    pub regressions: Vec<Limit>,
    /// How many runs a side see a change of so much in 9 of 10 tries.
    pub runs_needed: Vec<Needed>,
    /// Curves by figure, of both sides: quantile and seconds; of several runs the geometric mean.
    pub percentiles: Sides<BTreeMap<String, Vec<[f64; 2]>>>,
    /// Seconds of each run.
    pub series: Sides<Vec<Series>>,
}

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A figure that decides is better, and none is worse.
    Better,
    /// A figure that decides is worse.
    Worse,
    /// None of them changed by as much as matters and can be shown.
    NoDifference,
    /// These runs do not tell.
    CannotJudge,
}

/// The verdict, and what it rests on.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// What it is.
    pub outcome: Outcome,
    /// 0 not worse, 99 worse, 6 cannot judge.
    pub exit_code: u8,
    /// Why.
    pub reasons: Vec<String>,
    /// How much there is to go by.
    pub evidence: Evidence,
    /// Probability with which all intervals of figures that decide hold.
    pub confidence: f64,
}

/// How much there is to go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// A side has one run: how far runs of one plan lie apart is assumed.
    Weak,
    /// At least two runs a side.
    Moderate,
    /// At least five.
    Good,
}

/// Two of a kind.
#[derive(Debug, Clone, Serialize)]
pub struct Sides<T> {
    /// Before.
    pub base: T,
    /// After.
    pub new: T,
}

/// The runs of a side.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// One at least.
    pub runs: Vec<RunHead>,
}

/// Which run; fields as in the report.
#[derive(Debug, Clone, Serialize)]
pub struct RunHead {
    pub id: String,
    pub name: Option<String>,
    /// As it was named on the command line: an id or a path.
    pub source: String,
    pub started_at: f64,
    pub ended_at: f64,
    pub version: String,
    pub kernel: Option<String>,
    pub outcome: scale_api::report::Outcome,
    pub exit_code: u8,
    pub saturated: bool,
    pub streams: u64,
    pub steady_seconds: u64,
}

/// Something that two runs do not share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is.
    pub what: String,
    /// In the first run.
    pub base: String,
    /// In the other.
    pub new: String,
    /// Whether it is too much to judge.
    pub matters: bool,
}

/// How a change is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// As a share of what was.
    Relative,
    /// As the difference of two ratios.
    Points,
}

/// What is said of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// By as much as matters, and the interval agrees.
    Better,
    /// As above.
    Worse,
    /// No difference seen.
    Same,
    /// Nothing can be said.
    Unknown,
}

/// A figure, side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// As thresholds name it, the group before it: `response.p99`.
    pub name: String,
    /// The group that it is of; `None`: the run.
    pub group: Option<String>,
    /// `seconds`, `bytes_per_second`, `ratio`, `microseconds` or `none`.
    pub unit: &'static str,
    /// `less` or `more`.
    pub better: &'static str,
    /// Before: the geometric mean over the runs, of ratios the mean.
    pub base: Option<f64>,
    /// After.
    pub new: Option<f64>,
    /// Of each run.
    pub base_runs: Vec<Option<f64>>,
    /// Of each run.
    pub new_runs: Vec<Option<f64>>,
    /// How the change is stated.
    pub scale: Scale,
    /// The change.
    pub change: Option<f64>,
    /// It is no less than this.
    pub low: Option<f64>,
    /// And no more than this.
    pub high: Option<f64>,
    /// A smaller change is no difference.
    pub least: f64,
    /// Whether it has a say in the verdict.
    pub decides: bool,
    /// What is said of it.
    pub verdict: Word,
}

/// How a `--max-regression` was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Not worse by more than allowed.
    Met,
    /// Worse by more, and certainly worse.
    Exceeded,
    /// Worse by more as it looks, but it may be chance.
    Undecided,
}

/// A `--max-regression`, judged.
#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    /// As it was given.
    pub expression: String,
    /// The figure.
    pub name: String,
    /// How much worse it may be: a share, or a difference of ratios.
    pub limit: f64,
    /// How much worse it is.
    pub worse: Option<f64>,
    /// No less than this.
    pub low: Option<f64>,
    /// And no more than this.
    pub high: Option<f64>,
    /// What that means.
    pub result: Answer,
}

/// Runs that it takes.
#[derive(Debug, Clone, Serialize)]
pub struct Needed {
    /// The figure.
    pub name: String,
    /// The change that is to be seen.
    pub change: f64,
    /// Runs a side; `None`: more than 100.
    pub runs: Option<usize>,
}

/// Seconds of a run, by column; several are one where there are more than a chart can show: rates are
/// then means, times the highest.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Series {
    pub id: String,
    /// Seconds since steady state began.
    pub at: Vec<f64>,
    pub response_p50: Vec<Option<f64>>,
    pub response_p99: Vec<Option<f64>>,
    pub lateness_p99: Vec<Option<f64>>,
    pub rate_sent: Vec<f64>,
    pub rate_received: Vec<f64>,
}
