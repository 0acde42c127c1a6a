//! A run as the user writes it: the run file and the command line make the same [`Spec`], which
//! travels as JSON to the daemon. Only its shape is known to be right after [`Spec::check`]; what
//! needs the host is checked when the daemon makes its plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use words::connect_to;

use crate::target::Target;
use crate::units::{Bytes, PerSecond, Rate, Span};

mod words;

/// Streams of a run, over all groups.
pub const STREAMS_MAX: u64 = 1_000_000;
/// Groups of a run.
pub const GROUPS_MAX: usize = 64;
/// The longest message.
pub const MESSAGE_BYTES_MAX: u64 = 16 << 20;
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
    /// What it is judged by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threshold: Vec<ThresholdSpec>,
    /// What the operator states of the target.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
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

/// What happens after a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reconnect {
    /// Nothing.
    #[default]
    Never,
    /// Full-jitter back-off, at most at the ramp's connect rate.
    Backoff,
    /// As eager clients do.
    Client,
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

/// A file of the user's: a path in the run file; `scalectl` reads it with the caller's own rights
/// and hands its content over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it, once read.
    pub content: Option<Vec<u8>>,
}

impl File {
    /// A file that has not been read.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), content: None }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum FileForm {
    Path(PathBuf),
    Read { path: PathBuf, hex: String },
}

impl Serialize for File {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write;
        let path = self.path.clone();
        match &self.content {
            None => FileForm::Path(path),
            Some(content) => {
                let mut hex = String::with_capacity(content.len() * 2);
                for byte in content {
                    let _ = write!(hex, "{byte:02x}");
                }
                FileForm::Read { path, hex }
            }
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match FileForm::deserialize(deserializer)? {
            FileForm::Path(path) => Ok(Self { path, content: None }),
            FileForm::Read { path, hex } => {
                let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
                let pairs = hex.as_bytes().chunks(2);
                let content = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect();
                let content: Option<Vec<u8>> = content;
                Ok(Self { path, content: Some(content.ok_or_else(|| serde::de::Error::custom("not hex"))?) })
            }
        }
    }
}

/// Streams that share a load. Absent means the default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the words of `scalectl start --help`, one for one")]
pub struct GroupSpec {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub target: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_tick: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tick_interval: Option<Span>,
    pub traffic: Traffic,
    pub tick_offset: TickOffset,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_rate: Option<PerSecond>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Span>,
    pub reconnect: Reconnect,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<PerSecond>,
    pub verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<File>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_file: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subprotocol: Option<String>,
    pub opcode: Opcode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_message: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_file: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<File>,
    pub insecure: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sndbuf: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rcvbuf: Option<Bytes>,
    /// Web terminals or apps of Coder instead of plain streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typed: Option<crate::typed::Typed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stage: Vec<StageSpec>,
}

/// A step of a group's load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StageSpec {
    /// Streams at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conns: Option<u64>,
    /// Rate at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Time in which they are reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<Span>,
    /// Time for which they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
}

impl GroupSpec {
    /// Every file that the group names, with its word.
    pub fn files_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut File)> {
        let Self { rows, header_file, first_message, message_file, ca, cert, key, .. } = self;
        [
            ("rows", rows),
            ("header-file", header_file),
            ("first-message", first_message),
            ("message-file", message_file),
            ("ca", ca),
            ("cert", cert),
            ("key", key),
        ]
        .into_iter()
        .filter_map(|(word, file)| Some((word, file.as_mut()?)))
    }

    /// Streams that the group opens in its ramp.
    pub fn streams(&self) -> u64 {
        self.conns.unwrap_or(0)
    }
}

/// The name of the group that the command line makes.
pub const MAIN_GROUP: &str = "main";

/// A header that says secret by its name.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "proxy-authorization", "cookie"].contains(&name.as_str())
        || ["-token", "-key"].iter().any(|end| name.ends_with(end))
}

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
        for threshold in &self.threshold {
            if let Err(error) = crate::threshold::Threshold::parse(&threshold.expression, &self.group_names())
            {
                errors.push(error);
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Names of the groups.
    pub fn group_names(&self) -> Vec<&str> {
        self.group.iter().map(|group| group.name.as_str()).collect()
    }

    /// Fit for a report: nothing of header files, keys and URL queries is left.
    pub fn redacted(&self) -> Self {
        let mut spec = self.clone();
        for group in &mut spec.group {
            for (_, file) in group.files_mut() {
                file.content = None;
            }
            for target in &mut group.target {
                if let Some((url, _)) = target.split_once('?') {
                    *target = format!("{url}?…");
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

impl GroupSpec {
    fn check(&self, error: &mut dyn FnMut(String)) {
        if self.target.is_empty() {
            error("no target; give --target ws://host:port/path".into());
        }
        for target in &self.target {
            if let Err(message) = Target::parse(target) {
                error(message);
            }
        }
        match self.conns {
            None => error("no number of streams; give --conns N".into()),
            Some(0) => error("--conns 0 opens nothing; give at least 1".into()),
            Some(conns) if conns > STREAMS_MAX => {
                error(format!("--conns {conns}: one host runs at most {STREAMS_MAX} streams"));
            }
            Some(_) => {}
        }
        let tick = self.tick_interval.unwrap_or(DEFAULT_TICK);
        if tick < TICK_MIN {
            error(format!("--tick-interval {tick} is too short; the least is {TICK_MIN}"));
        }
        if self.times_ns() > u128::from(TIMES_MAX.ns()) {
            error(format!(
                "the times of group `{}` add up to more than ten years; for a run without end give --duration forever",
                self.name
            ));
        }
        self.check_load(tick, error);
        if let Some(Duration::For(span)) = self.duration
            && span.ns() == 0
        {
            error("--duration 0s measures nothing; give a time, or `forever`".into());
        }
        if self.ramp.is_some() && self.connect_rate.is_some() {
            error("--ramp and --connect-rate say the same thing twice; give one".into());
        }
        if self.connect_rate.is_some_and(|rate| rate.milli == 0) {
            error("--connect-rate 0/s never connects; give at least 0.001/s".into());
        }
        if self.connect_timeout.is_some_and(|span| span.ns() == 0) {
            error("--connect-timeout 0s fails every stream; give a time".into());
        }
        if self.cert.is_some() != self.key.is_some() {
            error("--cert and --key go together; give both or neither".into());
        }
        for header in &self.header {
            match header.split_once(':') {
                None => error(format!("--header `{header}`: write it as 'Name: value'")),
                Some((name, _)) if is_secret(name.trim()) => error(format!(
                    "--header {name}: a secret is seen by every user of this host on the command line, and by every reader of a run file; put the line into a file of its own and give --header-file FILE"
                )),
                Some(_) => {}
            }
        }
        self.check_words(error);
        crate::typed::check(self, error);
        for source in &self.source {
            let (address, bits) =
                source.split_once('/').map_or((source.as_str(), None), |(a, b)| (a, Some(b)));
            let address: Option<std::net::IpAddr> = address.parse().ok();
            let width = if address.is_some_and(|a| a.is_ipv6()) { 128 } else { 32 };
            let bits_ok = bits
                .is_none_or(|bits| bits.parse::<u32>().is_ok_and(|bits| bits <= width && width - bits <= 16));
            if address.is_none() || !bits_ok {
                error(format!(
                    "--source {source}: write an address of this host, or a range such as 10.0.0.0/28 (at most 65,536 addresses)"
                ));
            }
        }
        for (number, stage) in self.stage.iter().enumerate() {
            if [stage.over, stage.hold].iter().flatten().all(|span| span.ns() == 0) {
                error(format!(
                    "stage {} of group `{}` takes no time; give over, hold or both",
                    number + 1,
                    self.name
                ));
            }
            if stage.conns.is_some_and(|conns| conns == 0 || conns > STREAMS_MAX) {
                error(format!("stage {} of group `{}`: conns is 1 to {STREAMS_MAX}", number + 1, self.name));
            }
            if let Some(rate) = stage.rate {
                check_message(u128::from(rate.0) * u128::from(tick.ns()), error);
            }
        }
        if !self.stage.is_empty() && self.duration == Some(Duration::Forever) {
            error("a group with stages ends with the last one; leave out duration = \"forever\"".into());
        }
    }

    /// Every length of time that the group names, added up.
    fn times_ns(&self) -> u128 {
        let steady = match self.duration {
            Some(Duration::For(span)) => Some(span),
            Some(Duration::Forever) | None => None,
        };
        let own = [self.tick_interval, self.start, self.ramp, self.warm_up, steady, self.drain];
        let stages = self.stage.iter().flat_map(|stage| [stage.over, stage.hold]);
        let all = own.into_iter().chain([self.connect_timeout]).chain(stages);
        all.flatten().map(|span| u128::from(span.ns())).sum()
    }

    fn check_load(&self, tick: Span, error: &mut dyn FnMut(String)) {
        if self.traffic == Traffic::Receive {
            if self.rate.is_some() || self.bytes_per_tick.is_some() || self.message_file.is_some() {
                error("--traffic receive only reads: the target decides the rate; leave out --rate, --bytes-per-tick and --message-file".into());
            }
            return;
        }
        if self.rate.is_some() && self.bytes_per_tick.is_some() {
            error("--rate and --bytes-per-tick say the same thing twice; give one".into());
        }
        if self.message_file.is_some() && (self.rate.is_some() || self.bytes_per_tick.is_some()) {
            error(
                "--message-file says how many bytes a tick has; leave out --rate and --bytes-per-tick".into(),
            );
        }
        if let Some(bytes) = self.bytes_per_tick {
            check_message(u128::from(bytes.0) * 1_000_000_000, error);
        }
        if let Some(rate) = self.rate {
            if rate.0 == 0 {
                error("--rate 0B/s sends nothing; give a rate such as 40KB/s".into());
            } else {
                check_message(u128::from(rate.0) * u128::from(tick.ns()), error);
            }
        }
    }
}

fn check_message(billionths: u128, error: &mut dyn FnMut(String)) {
    if billionths < 1_000_000_000 {
        error(
            "less than one byte a tick; raise --rate or --bytes-per-tick, or lengthen --tick-interval".into(),
        );
    } else if billionths.div_ceil(1_000_000_000) > u128::from(MESSAGE_BYTES_MAX) {
        error(format!(
            "more than {} a tick; lower the rate or shorten --tick-interval",
            Bytes(MESSAGE_BYTES_MAX)
        ));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

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
        group.header_file = Some(File { path: "h".into(), content: Some(b"X-Token: canary".to_vec()) });
        group.target = vec!["ws://a/?key=canary".into()];
        let spec = Spec { group: vec![group], ..Spec::default() };
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec);
        let shown = serde_json::to_string(&spec.redacted()).unwrap();
        assert!(!shown.contains("canary") && !shown.contains("63616e617279"));
    }
}
