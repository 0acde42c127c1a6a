//! A group of a run: its words, and what of them cannot be.

use serde::{Deserialize, Serialize};

use super::{
    Breaker, Bytes, DEFAULT_DURATION, DEFAULT_TICK, Duration, File, LEFT_OUT, MESSAGE_BYTES_MAX, Opcode,
    Reconnect, STREAMS_MAX, Silence, Span, TICK_MIN, TIMES_MAX, TickOffset, Traffic,
};
use crate::target::Target;
use crate::units::{PerSecond, Rate};

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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence: Option<Silence>,
    pub verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_header: Option<String>,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interface: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sndbuf: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rcvbuf: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_command: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub ssh_pty: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub ssh_shell: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_forward: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels_per_connection: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_identity: Vec<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_certificate: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_password_file: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_passphrase_file: Option<File>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<File>,
    #[serde(skip_serializing_if = "is_false")]
    pub accept_new: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub insecure_host_keys: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_ciphers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_kex: Vec<String>,
    /// Web terminals, apps or SSH sessions of Coder instead of plain streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typed: Option<crate::typed::Typed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stage: Vec<StageSpec>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
const fn is_false(word: &bool) -> bool {
    !*word
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
        let Self { rows, header_file, first_message, message_file, ca, cert, key, ssh_identity, .. } = self;
        let Self { ssh_certificate, ssh_password_file, ssh_passphrase_file, known_hosts, .. } = self;
        let one = [
            ("rows", rows),
            ("header-file", header_file),
            ("first-message", first_message),
            ("message-file", message_file),
            ("ca", ca),
            ("cert", cert),
            ("key", key),
            ("ssh-certificate", ssh_certificate),
            ("ssh-password-file", ssh_password_file),
            ("ssh-passphrase-file", ssh_passphrase_file),
            ("known-hosts", known_hosts),
        ];
        let one = one.into_iter().filter_map(|(word, file)| Some((word, file.as_mut()?)));
        one.chain(ssh_identity.iter_mut().map(|file| ("ssh-identity", file)))
    }

    /// Streams that the group opens in its ramp.
    pub fn streams(&self) -> u64 {
        self.conns.unwrap_or(0)
    }

    /// How long the group is steady, in ns; [`u64::MAX`]: until it is stopped.
    pub fn steady_ns(&self) -> u64 {
        let base = match self.duration {
            Some(Duration::Forever) => return u64::MAX,
            Some(Duration::For(span)) => span,
            None if self.stage.is_empty() => DEFAULT_DURATION,
            None => Span::default(),
        };
        let steps = self.stage.iter().flat_map(|stage| [stage.over, stage.hold]).flatten();
        steps.fold(base.ns(), |sum, span| sum.saturating_add(span.ns()))
    }
}

/// A header that says secret by its name.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "proxy-authorization", "cookie"].contains(&name.as_str())
        || ["-token", "-key"].iter().any(|end| name.ends_with(end))
}

impl GroupSpec {
    pub(super) fn check(&self, error: &mut dyn FnMut(String)) {
        if self.target.is_empty() {
            error("no target; give --target ws://host:port/path".into());
        }
        for target in &self.target {
            if let Err(message) = Target::parse(target) {
                error(message);
            } else if target.contains(LEFT_OUT) {
                error(format!(
                    "target `{target}`: its query was left out when the run was kept; write it there"
                ));
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
        self.check_silence(error);
        self.check_disruption(error);
        self.check_words(error);
        super::ssh::check(self, error);
        crate::typed::check(self, error);
        super::ways::check(self, error);
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

    /// What disruptions are told by.
    fn check_disruption(&self, error: &mut dyn FnMut(String)) {
        if let Some(column) = self.user_column.as_ref().filter(|_| self.rows.is_none()) {
            error(format!("--user-column {column} is a column of --rows; give --rows FILE.csv, too"));
        }
        let is_name = |name: &str| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        if let Some(header) = self.replica_header.as_ref().filter(|header| !is_name(header)) {
            error(format!(
                "--replica-header `{}`: write the name of a header, such as X-Replica",
                header.escape_debug()
            ));
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
