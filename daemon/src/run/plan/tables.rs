//! The tables of a plan, filled from a run's groups: whom streams talk to, where they are, over
//! what, and when.

use std::net::SocketAddr;

use scale_api::http::Problem;
use scale_api::spec::{self, Duration, GroupSpec, Spec};
use scale_api::typed::{self as spec_typed, Kind, Profile};
use scale_proto::coder::{Echo, Form, Route};
use scale_proto::ws::Opcode;

use super::demand::Asked;
use super::endpoints::Whom;
use super::ssh::{self, Sessions};
use super::{Host, Place, Resolve, Sources, invalid, ways};
use crate::load::{
    Endpoint, Group, MessageSize, Payload, Reconnect, Ssh, Stage, Terminal, TickOffset, Traffic, reconnect,
};
use crate::run::targets::{Permit, Tally};

/// Socket buffers, where they are not given: so many messages, within these bounds.
const SOCKET_BUFFER_TICKS: u64 = 4;
const SOCKET_BUFFER_MIN: u64 = 16 << 10;
const SOCKET_BUFFER_MAX: u64 = 4 << 20;

/// The plan's tables while they are filled.
#[derive(Default)]
pub(super) struct Tables {
    pub endpoints: Vec<Endpoint>,
    pub addresses: Vec<Vec<SocketAddr>>,
    pub places: Vec<Place>,
    pub families: Vec<(bool, bool)>,
    pub sources: Vec<Sources>,
    pub users: Vec<Vec<Box<str>>>,
    pub warnings: Vec<String>,
    /// What is taken so far of the list's rules.
    pub tally: Tally,
}

/// What a group is planned from.
pub(super) struct Of<'a> {
    pub index: usize,
    pub group: &'a GroupSpec,
    /// As it goes, where it is to be changed.
    pub before: Option<&'a Group>,
    pub spec: &'a Spec,
    pub host: &'a Host,
    pub seed: u64,
    pub permit: &'a Permit,
}

impl Tables {
    pub(super) fn group(&mut self, of: &Of<'_>, resolve: Resolve<'_>) -> Result<Group, Problem> {
        let &Of { index, group, before, spec, host, seed, permit } = of;
        let conns = group.conns.unwrap_or(0) as u32;
        let message_file = content(group.message_file.as_ref(), "--message-file")?;
        let (tick_ns, message) = base_pace(group)?;
        let connect_rate_milli = group
            .connect_rate
            .map_or(spec::DEFAULT_CONNECT_RATE * 1000 * host.cores.len() as u64, |rate| rate.milli);
        let ramp_ns = group.ramp.map_or_else(
            || (u128::from(conns) * 1_000_000_000_000 / u128::from(connect_rate_milli)) as u64,
            |ramp| ramp.ns(),
        );
        // Rows and caps are for the most streams of any step.
        let most = group.stage.iter().filter_map(|stage| stage.conns).max().unwrap_or(0) as u32;
        let first_stream = spec.first_stream.unwrap_or(0);
        let (ways, sources) = ways::ways(group, host)?;
        self.sources.push(sources);
        let stages = stages(group, conns, tick_ns, message);
        let message_max =
            stages.iter().map(|stage| stage.message).max_by_key(|size| size.max()).unwrap_or(message);
        let mut sessions =
            group.is_ssh().then(|| Sessions::new(group, message_max, host.unix_s)).transpose()?;
        let conns_max = conns.max(most);
        let first_message = content(group.first_message.as_ref(), "--first-message")?;
        let first_bytes = first_message.map_or(0, |message| message.len() as u64);
        let asked = Asked { group, conns, stages: &stages, connect_rate_milli, ramp_ns, first_bytes, before };
        let demand = asked.demand();
        let whom = Whom { index, group, conns: conns_max, first_stream, ways: &ways, permit, demand };
        let (names, pattern) = self.endpoints(&whom, sessions.as_mut(), resolve)?;
        let text = group.opcode == spec::Opcode::Text;
        let payload = match message_file {
            None if group.typed.is_some() || group.ssh_pty || group.ssh_shell => typed(group, seed),
            Some(file) if text && std::str::from_utf8(file).is_err() => {
                return Err(invalid("--message-file is not UTF-8, which --opcode text must be"));
            }
            Some(file) => Payload::fixed(file),
            None if text => Payload::text(seed),
            None => Payload::random(seed),
        };
        let buffer = |given: Option<scale_api::units::Bytes>| {
            let ticks = u64::from(message.max()) * SOCKET_BUFFER_TICKS * u64::from(group.channels());
            let bytes = given.map_or(ticks.clamp(SOCKET_BUFFER_MIN, SOCKET_BUFFER_MAX), |bytes| bytes.0);
            Some(u32::try_from(bytes).unwrap_or(u32::MAX))
        };
        Ok(Group {
            name: group.name.as_str().into(),
            targets: names,
            pattern: pattern.into(),
            first_stream,
            traffic: match group.traffic {
                spec::Traffic::Echo => Traffic::Echo,
                spec::Traffic::Discard => Traffic::Discard,
                spec::Traffic::Receive => Traffic::Receive,
            },
            tick_offset: match group.tick_offset {
                spec::TickOffset::Spread => TickOffset::Spread,
                spec::TickOffset::Aligned => TickOffset::Aligned,
                spec::TickOffset::Random => TickOffset::Random,
            },
            start_ns: group.start.unwrap_or_default().ns(),
            conns,
            ramp_ns,
            connect_rate_milli,
            concurrency: group.concurrency.filter(|&limit| limit > 0),
            warm_up_ns: group.warm_up.unwrap_or(spec::DEFAULT_WARM_UP).ns(),
            stages,
            drain_ns: group.drain.unwrap_or(spec::DEFAULT_DRAIN).ns(),
            connect_timeout_ns: group.connect_timeout.unwrap_or(spec::DEFAULT_CONNECT_TIMEOUT).ns(),
            reconnect: reconnect(group.reconnect_named()),
            churn_milli: group.churn.map_or(0, |rate| rate.milli),
            breaker_milli: match group.breaker.unwrap_or(spec::Breaker::ON) {
                spec::Breaker::Off => None,
                spec::Breaker::Share(milli) => Some(milli),
            },
            silence_ns: match group.silence_or_default() {
                spec::Silence::Off => None,
                spec::Silence::For(span) => Some(span.ns()),
            },
            verify: group.verify,
            opcode: if text { Opcode::Text } else { Opcode::Binary },
            replica_header: group.replica_header.as_deref().map(Into::into),
            subprotocol: group.subprotocol.as_deref().map(Into::into),
            first_message: match first_message {
                Some([]) => return Err(invalid("--first-message is empty; a message has at least one byte")),
                other => other.map(Payload::fixed),
            },
            payload,
            terminal: terminal(group),
            ssh: self.ssh(group, host)?,
            late_tick: group.typed.is_some_and(|typed| typed.profile == Profile::Exact),
            ways,
            send_buffer_bytes: buffer(group.sndbuf),
            receive_buffer_bytes: buffer(group.rcvbuf),
        })
    }

    /// What SSH streams have in common, and what is to be said aloud of it.
    fn ssh(&mut self, group: &GroupSpec, host: &Host) -> Result<Option<Ssh>, Problem> {
        if !group.is_ssh() {
            return Ok(None);
        }
        if group.insecure_host_keys {
            let why =
                if group.typed.is_some() { "as in Coder's own clients" } else { "--insecure-host-keys" };
            self.warnings.push(format!("group {}: HOST KEYS ARE NOT VERIFIED ({why})", group.name));
        }
        if group.ssh_shell && group.traffic == spec::Traffic::Echo {
            self.warnings.push(format!(
                "group {}: --ssh-shell types comments; what a shell says besides their echo (a prompt) counts as unexpected, and without --ssh-pty most shells say nothing: --traffic discard expects no echo",
                group.name
            ));
        }
        ssh::settings(group, host.unix_s).map(Some)
    }
}

/// What is typed, and what comes back of it.
fn typed(group: &GroupSpec, seed: u64) -> Payload {
    let echo = if group.ssh_pty { Echo::Cooked } else { Echo::Raw };
    let typed = group.typed.unwrap_or_default();
    let form = match typed.form {
        spec_typed::Form::Line => Form::Line,
        spec_typed::Form::Comment => Form::Comment,
    };
    match terminal(group) {
        Some(terminal) => Payload::typed(seed, form, Route::Terminal, terminal.echo),
        // To a shell everything is a comment.
        None if group.ssh_shell => Payload::typed(seed, Form::CommentLine, Route::App, echo),
        None => Payload::typed(seed, form, Route::App, echo),
    }
}

/// How a group's terminals are opened and left; `None`: they are none.
fn reconnect(word: spec::Reconnect) -> Reconnect {
    let client = |client| match client {
        spec::Client::WebTerminal => &reconnect::WEB_TERMINAL,
        spec::Client::Ssh => &reconnect::SSH,
        spec::Client::Autossh => &reconnect::AUTOSSH,
        spec::Client::VsCode => &reconnect::VSCODE,
        spec::Client::JetBrains => &reconnect::JETBRAINS,
    };
    match word {
        spec::Reconnect::Never => Reconnect::Never,
        spec::Reconnect::Backoff => Reconnect::Backoff,
        spec::Reconnect::Client(named) => {
            Reconnect::Client(client(named.unwrap_or(spec::Client::WebTerminal)))
        }
    }
}

fn terminal(group: &GroupSpec) -> Option<Terminal> {
    let typed = group.typed.filter(|typed| typed.kind == Kind::Terminal)?;
    let echo = if typed.profile == Profile::Raw { Echo::Raw } else { Echo::Cooked };
    let comment = typed.form == spec_typed::Form::Comment && echo == Echo::Cooked;
    Some(Terminal { echo, comment, fast_close: typed.fast_close })
}

/// Tick in ns and bytes a tick of a group before its steps.
pub fn base_pace(group: &GroupSpec) -> Result<(u64, MessageSize), Problem> {
    let tick_ns = group.tick_interval.unwrap_or(spec::DEFAULT_TICK).ns();
    let file = content(group.message_file.as_ref(), "--message-file")?;
    if file.is_some_and(<[u8]>::is_empty) {
        return Err(invalid("--message-file is empty; a message has at least one byte"));
    }
    let message = match (file, group.rate, group.bytes_per_tick) {
        (Some(file), ..) if file.len() as u64 > spec::MESSAGE_BYTES_MAX => {
            return Err(invalid("--message-file is larger than 16MiB; a message has at most that"));
        }
        (Some(file), ..) => MessageSize::fixed(file.len() as u32),
        (None, Some(rate), _) => MessageSize::from_rate(rate.0, tick_ns).expect("checked by the spec"),
        (None, None, bytes) => MessageSize::fixed(bytes.unwrap_or(spec::DEFAULT_BYTES_PER_TICK).0 as u32),
    };
    Ok((tick_ns, message))
}

pub(super) fn content<'a>(file: Option<&'a spec::File>, word: &str) -> Result<Option<&'a [u8]>, Problem> {
    match file {
        None => Ok(None),
        Some(file) => file.content.as_deref().map(Some).ok_or_else(|| {
            invalid(format!(
                "{word} {}: send the file's content; the daemon opens no files of its callers",
                file.path.display()
            ))
        }),
    }
}

fn stages(group: &GroupSpec, conns: u32, tick_ns: u64, message: MessageSize) -> Vec<Stage> {
    let mut stages = Vec::new();
    let base = Stage {
        conns,
        tick_ns,
        bytes_per_second: group.rate.map(|rate| rate.0),
        message,
        over_ns: 0,
        hold_ns: match group.duration {
            Some(Duration::Forever) => None,
            Some(Duration::For(span)) => Some(span.ns()),
            None => Some(spec::DEFAULT_DURATION.ns()),
        },
    };
    // With steps, the base load has a time of its own only where one was given.
    if group.stage.is_empty() || group.duration.is_some() {
        stages.push(base.clone());
    }
    let mut last = base;
    for step in &group.stage {
        let rate = step.rate.map(|rate| rate.0).or(last.bytes_per_second);
        last = Stage {
            conns: step.conns.map_or(last.conns, |conns| conns as u32),
            tick_ns,
            bytes_per_second: rate,
            message: step.rate.map_or(last.message, |rate| {
                MessageSize::from_rate(rate.0, tick_ns).expect("checked by the spec")
            }),
            over_ns: step.over.unwrap_or_default().ns(),
            hold_ns: Some(step.hold.unwrap_or_default().ns()),
        };
        stages.push(last.clone());
    }
    stages
}
