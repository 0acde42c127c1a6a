//! A run as the user writes it: the run file and the command line make the same [`Spec`], which
//! travels as JSON to the daemon. Only its shape is known to be right after [`Spec::check`]; what
//! needs the host is checked when the daemon makes its plan.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use breaker::{Breaker, Silence};
pub use environment::{ENVIRONMENT_KEYS, ENVIRONMENT_MAX};
pub use file::{File, fill, places};
pub use group::{GroupSpec, StageSpec};
pub use observe::Observe;
pub use reconnect::{Client, Reconnect};
pub use words::connect_to;
pub use written::LEFT_OUT;

use crate::threshold::Preset;
use crate::units::{Bytes, Span};

pub mod breaker;
pub(crate) mod environment;
mod file;
mod group;
pub mod observe;
mod reconnect;
pub mod ssh;
mod ways;
mod words;
mod written;

/// Streams of a run, over all groups.
pub const STREAMS_MAX: u64 = 1_000_000;
/// Groups of a run.
pub const GROUPS_MAX: usize = 64;
/// The longest message.
pub const MESSAGE_BYTES_MAX: u64 = 16 << 20;
/// Source addresses of a group.
pub const SOURCES_MAX: usize = 4096;
/// Interfaces of a group.
pub const INTERFACES_MAX: usize = 64;
/// The shortest tick.
pub const TICK_MIN: Span = Span::from_ns(1_000_000);
/// Bytes each tick where neither rate nor bytes are given: Coder's "40KB/s".
pub const DEFAULT_BYTES_PER_TICK: Bytes = Bytes(4096);
/// Tick where none is given.
pub const DEFAULT_TICK: Span = Span::from_ns(100_000_000);
/// Steady state where no duration is given.
pub const DEFAULT_DURATION: Span = Span::from_secs(60);
/// Warm-up where none is given.
pub const DEFAULT_WARM_UP: Span = Span::from_secs(5);
/// Drain where none is given.
pub const DEFAULT_DRAIN: Span = Span::from_secs(10);
/// Connect timeout where none is given.
pub const DEFAULT_CONNECT_TIMEOUT: Span = Span::from_secs(10);
/// The longest that a group's times may add up to: ten years. What is to go on has `forever`.
pub const TIMES_MAX: Span = Span::from_secs(10 * 365 * 24 * 3600);
/// Connects a second and worker where no ramp is given.
pub const DEFAULT_CONNECT_RATE: u64 = 1000;

/// A run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// What the run is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Kept in the report.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Decides payload, masks and random offsets; chosen where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Number of the first stream, where several hosts share a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_stream: Option<u32>,
    /// What flows.
    pub group: Vec<GroupSpec>,
    /// Thresholds by another name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preset: Vec<Preset>,
    /// What it is judged by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threshold: Vec<ThresholdSpec>,
    /// For so long after each mark streams are expected to drop: what was due then is judged by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_disruption: Option<Span>,
    /// Figures of the target's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observe: Option<Observe>,
    /// What the operator states of the target.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "environment::stated")]
    pub environment: BTreeMap<String, String>,
}

/// A threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThresholdSpec {
    /// As in `terminals.response.p99 < 250ms`.
    pub expression: String,
}

/// What flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Traffic {
    /// Write and read back.
    #[default]
    Echo,
    /// Write only.
    Discard,
    /// Read only.
    Receive,
}

/// How streams share a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TickOffset {
    /// Evenly.
    #[default]
    Spread,
    /// All at once.
    Aligned,
    /// At random.
    Random,
}

/// A data frame's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Opcode {
    /// Bytes.
    #[default]
    Binary,
    /// UTF-8.
    Text,
}

/// How long steady state lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duration {
    /// So long.
    For(Span),
    /// Until stopped.
    Forever,
}

impl std::str::FromStr for Duration {
    type Err = crate::units::UnitError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "forever" { Ok(Self::Forever) } else { text.parse().map(Self::For) }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::For(span) => serializer.collect_str(span),
            Self::Forever => serializer.serialize_str("forever"),
        }
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of the group that the command line makes.
pub const MAIN_GROUP: &str = "main";

impl Spec {
    /// Reads a run file.
    ///
    /// # Errors
    /// File, line, column and what is wrong there.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, String> {
        let mut spec: Self = toml::from_str(text).map_err(|error| toml_error(text, file, &error))?;
        spec.name_groups();
        Ok(spec)
    }

    /// Gives groups without a name theirs.
    pub fn name_groups(&mut self) {
        let only = self.group.len() == 1;
        for (number, group) in self.group.iter_mut().enumerate() {
            if group.name.is_empty() {
                group.name = if only { MAIN_GROUP.to_owned() } else { format!("group{}", number + 1) };
            }
        }
    }

    /// Checks all that needs no host.
    ///
    /// # Errors
    /// Every mistake, each with what to do.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut errors = Vec::new();
        if self.group.is_empty() {
            errors.push("the run has no group; give --target, or [[group]] in the run file".into());
        }
        if self.group.len() > GROUPS_MAX {
            errors.push(format!("{} groups; a run has at most {GROUPS_MAX}", self.group.len()));
        }
        self.check_words(&mut |message| errors.push(message));
        environment::check(&self.environment, &mut |message| errors.push(message));
        self.check_observe(&mut |message| errors.push(message));
        if self.expect_disruption.is_some_and(|span| span.ns() == 0) {
            errors.push("--expect-disruption 0s expects nothing; give a time, or leave it out".into());
        }
        let mut names = BTreeSet::new();
        for group in &self.group {
            let label = |name: &str| {
                !name.is_empty()
                    && name.len() <= 63
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            };
            if !label(&group.name) {
                errors.push(format!("group name `{}`: use letters, digits, - and _, at most 63", group.name));
            }
            if !names.insert(&group.name) {
                errors.push(format!(
                    "two groups are called `{}`; names are labels and must differ",
                    group.name
                ));
            }
            group.check(&mut |message| errors.push(message));
        }
        let streams = self.group.iter().map(GroupSpec::streams).fold(0, u64::saturating_add);
        if streams > STREAMS_MAX {
            errors.push(format!("{streams} streams; one host runs at most {STREAMS_MAX} (--conns)"));
        }
        self.check_thresholds(&mut |message| errors.push(message));
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Names of the groups.
    pub fn group_names(&self) -> Vec<&str> {
        self.group.iter().map(|group| group.name.as_str()).collect()
    }

    /// Fit for a report: nothing of header files, keys and URL queries is left.
    pub fn redacted(&self) -> Self {
        let mut spec = self.clone();
        spec.observe.iter_mut().flat_map(Observe::files_mut).for_each(|(_, file)| file.redact());
        for group in &mut spec.group {
            for (_, file) in group.files_mut() {
                file.redact();
            }
            for target in &mut group.target {
                if let Some((url, query)) = target.split_once('?') {
                    let is_weight =
                        |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                    let weight = query.rsplit_once(',').map(|(_, weight)| weight).filter(is_weight);
                    let weight = weight.map_or(String::new(), |weight| format!(",{weight}"));
                    *target = format!("{url}?{LEFT_OUT}{weight}");
                }
            }
        }
        spec
    }
}

/// What is wrong in a file, and where.
fn toml_error(text: &str, file: &str, error: &toml::de::Error) -> String {
    placed(text, file, error.span().map_or(0, |span| span.start), error.message())
}

/// A sentence behind the place that it is about.
pub(crate) fn placed(text: &str, file: &str, at: usize, message: &str) -> String {
    let (line, column) = position(text, at);
    format!("{file}:{line}:{column}: {message}")
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    (line, before.len() - before.rfind('\n').map_or(0, |newline| newline + 1) + 1)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::units::Rate;

    pub(crate) fn group() -> GroupSpec {
        GroupSpec {
            name: "main".into(),
            target: vec!["ws://a".into()],
            conns: Some(10),
            ..GroupSpec::default()
        }
    }

    pub(crate) fn errors(change: impl FnOnce(&mut GroupSpec)) -> String {
        let mut group = group();
        change(&mut group);
        let spec = Spec { group: vec![group], ..Spec::default() };
        spec.check().expect_err("a mistake").join("\n")
    }

    #[test]
    fn each_mistake_says_what_to_do() {
        assert!(errors(|g| g.target.clear()).contains("--target"));
        assert!(errors(|g| g.conns = Some(0)).contains("at least 1"));
        assert!(errors(|g| g.conns = Some(10_000_000)).contains("1000000"));
        assert!(errors(|g| g.rate = Some(Rate(0))).contains("40KB/s"));
        assert!(errors(|g| g.rate = Some(Rate(9))).contains("less than one byte"));
        assert!(errors(|g| g.bytes_per_tick = Some(Bytes(0))).contains("less than one byte"));
        assert!(errors(|g| g.bytes_per_tick = Some(Bytes((16 << 20) + 1))).contains("16MiB"));
        assert!(errors(|g| g.tick_interval = Some(Span::from_ns(999_999))).contains("1ms"));
        assert!(errors(|g| g.duration = Some(Duration::For(Span::default()))).contains("forever"));
        assert!(
            errors(|g| {
                g.traffic = Traffic::Receive;
                g.rate = Some(Rate(1));
            })
            .contains("only reads")
        );
        assert!(
            errors(|g| {
                g.rate = Some(Rate(1000));
                g.bytes_per_tick = Some(Bytes(1));
            })
            .contains("twice")
        );
        for secret in ["Authorization: x", "X-Session-Token: x", "Cookie: a=b", "Api-Key: x"] {
            assert!(errors(|g| g.header.push(secret.into())).contains("--header-file"));
        }
        assert!(errors(|g| g.header.push("nonsense".into())).contains("Name: value"));
        assert!(errors(|g| g.source.push("10.0.0.0/33".into())).contains("--source"));
        assert!(errors(|g| g.source.push("10.0.0.0/19".into())).contains("at most 4096"));
        assert!(errors(|g| g.source = vec!["10.0.0.0/21".into(); 3]).contains("at most 4096"));
        assert!(errors(|g| g.interface.push("eth0/1".into())).contains("--interface"));
        assert!(errors(|g| g.interface = vec!["eth0".into(); 2]).contains("twice"));
        assert!(errors(|g| g.stage.push(StageSpec::default())).contains("takes no time"));
        assert!(Spec { group: vec![group()], ..Spec::default() }.check().is_ok());
    }

    #[test]
    fn what_adds_up_beyond_all_bounds_is_refused() {
        let longest = Span::from_ns(u64::MAX);
        let stage = StageSpec { over: Some(longest), hold: Some(longest), ..StageSpec::default() };
        assert!(errors(|g| g.stage.push(stage)).contains("ten years"));
        assert!(errors(|g| g.duration = Some(Duration::For(longest))).contains("forever"));
        assert!(errors(|g| g.start = Some(longest)).contains("ten years"));
        let many = |name: &str| GroupSpec { name: name.into(), conns: Some(u64::MAX), ..group() };
        let spec = Spec { group: vec![many("a"), many("b")], ..Spec::default() };
        assert!(spec.check().expect_err("too many").join("\n").contains("one host runs at most"));
    }

    #[test]
    fn a_run_file_says_where_it_is_wrong() {
        let text = "name = \"x\"\n[[group]]\ntarget = [\"ws://a\"]\nconns = 5\nrat = \"1KB/s\"\n";
        let error = Spec::from_toml(text, "run.toml").unwrap_err();
        assert!(error.starts_with("run.toml:5:1:") && error.contains("rat"), "{error}");
        let error = Spec::from_toml("[[group]]\nrate = 40\n", "f").unwrap_err();
        assert!(error.starts_with("f:2:8:") && error.contains("with its unit"), "{error}");
    }

    #[test]
    fn it_travels_as_json_with_file_contents_and_is_redacted_for_reports() {
        let mut group = group();
        group.header_file = Some(File::read("h", *b"X-Token: canary"));
        group.target = vec!["ws://a/?key=canary".into(), "ws://b/?key=canary,3".into()];
        let spec = Spec { group: vec![group], ..Spec::default() };
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec);
        let shown = serde_json::to_string(&spec.redacted()).unwrap();
        assert!(!shown.contains("canary") && !shown.contains("63616e617279"));
        assert_eq!(spec.redacted().group[0].target, ["ws://a/?…", "ws://b/?…,3"]);
    }
}
