//! The tables of a plan, filled from a run's groups: whom streams talk to, where they are, over
//! what, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use scale_api::http::{Problem, ProblemCode};
use scale_api::spec::{self, Duration, GroupSpec, Spec};
use scale_api::target::{Scheme, Target};
use scale_api::typed::{self as spec_typed, Kind, Profile};
use scale_proto::coder::{Echo, Form, Route};
use scale_proto::tls::ClientSettings;
use scale_proto::ws::Opcode;

use super::ssh::{self, Sessions};
use super::{Host, Resolve, invalid};
use crate::load::endpoint::TlsName;
use crate::load::{
    Endpoint, Group, MessageSize, Payload, Protocol, Reconnect, Ssh, Stage, Terminal, TickOffset, Traffic,
};
use crate::run::rows::{Rows, Words};
use crate::run::targets::Targets;

/// The longest host name (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;
/// Socket buffers, where they are not given: so many messages, within these bounds.
const SOCKET_BUFFER_TICKS: u64 = 4;
const SOCKET_BUFFER_MIN: u64 = 16 << 10;
const SOCKET_BUFFER_MAX: u64 = 4 << 20;

/// The plan's tables while they are filled.
#[derive(Default)]
pub(super) struct Tables {
    pub endpoints: Vec<Endpoint>,
    pub addresses: Vec<Vec<SocketAddr>>,
    pub names: Vec<(String, u16, u64)>,
    pub warnings: Vec<String>,
    /// Streams so far under each rule of the list of targets.
    under_rule: BTreeMap<usize, u64>,
}

impl Tables {
    pub(super) fn group(
        &mut self,
        group: &GroupSpec,
        spec: &Spec,
        host: &Host,
        seed: u64,
        targets: &Targets,
        resolve: Resolve<'_>,
    ) -> Result<Group, Problem> {
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
        let sources = sources(&group.source)?;
        let stages = stages(group, conns, tick_ns, message);
        let message_max =
            stages.iter().map(|stage| stage.message).max_by_key(|size| size.max()).unwrap_or(message);
        let mut sessions = group.is_ssh().then(|| Sessions::new(group, message_max)).transpose()?;
        let (names, pattern) = self.endpoints(
            (group, sessions.as_mut()),
            (conns.max(most), first_stream),
            &sources,
            targets,
            resolve,
        )?;
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
            reconnect: match group.reconnect {
                spec::Reconnect::Never => Reconnect::Never,
                spec::Reconnect::Backoff => Reconnect::Backoff,
                spec::Reconnect::Client => Reconnect::Client,
            },
            churn_milli: group.churn.map_or(0, |rate| rate.milli),
            verify: group.verify,
            opcode: if text { Opcode::Text } else { Opcode::Binary },
            subprotocol: group.subprotocol.as_deref().map(Into::into),
            first_message: match content(group.first_message.as_ref(), "--first-message")? {
                Some([]) => return Err(invalid("--first-message is empty; a message has at least one byte")),
                other => other.map(Payload::fixed),
            },
            payload,
            terminal: terminal(group),
            ssh: self.ssh(group, host)?,
            late_tick: group.typed.is_some_and(|typed| typed.profile == Profile::Exact),
            sources: sources.into(),
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
            self.warnings
                .push(format!("group {}: HOST KEYS ARE NOT VERIFIED (--insecure-host-keys)", group.name));
        }
        if group.ssh_shell && group.traffic == spec::Traffic::Echo {
            self.warnings.push(format!(
                "group {}: --ssh-shell types comments; what a shell says besides their echo (a prompt) counts as unexpected, and without --ssh-pty most shells say nothing: --traffic discard expects no echo",
                group.name
            ));
        }
        ssh::settings(group, host.unix_s).map(Some)
    }

    /// Rows for a group's targets: one a target, or one a stream where words are filled in.
    fn endpoints(
        &mut self,
        (group, mut sessions): (&GroupSpec, Option<&mut Sessions<'_>>),
        (conns, first_stream): (u32, u32),
        sources: &[IpAddr],
        targets: &Targets,
        resolve: Resolve<'_>,
    ) -> Result<(Vec<Arc<str>>, Vec<u32>), Problem> {
        let headers = header_lines(group)?;
        let rows = match content(group.rows.as_ref(), "--rows")? {
            Some(text) => Some(Rows::read(text)?),
            None => None,
        };
        let parsed: Vec<Target> =
            group.target.iter().map(|t| Target::parse(t).map_err(invalid)).collect::<Result<_, _>>()?;
        let (strict, loose) = texts(&parsed, &headers, sessions.as_deref());
        let filled = rows.is_some() || strict.iter().chain(&loose).any(|text| text.contains("{n}"));
        let total_weight: u64 = parsed.iter().map(|t| u64::from(t.weight)).sum();
        let mut tls_config = None;
        let mut bases = Vec::new();
        for (number, target) in parsed.iter().enumerate() {
            let streams = (u64::from(conns) * u64::from(target.weight)).div_ceil(total_weight);
            let has_column = target.host.contains('{');
            let (host, port) = match &group.connect_to {
                None if has_column => {
                    return Err(invalid(format!(
                        "the host of {target} is another one for each stream; say where all of them are: --connect-to HOST:PORT"
                    )));
                }
                None => (target.host.clone(), target.port),
                Some(to) => spec::connect_to(to).expect("checked by the spec"),
            };
            let addresses = self.resolved(&host, port, streams, targets, resolve)?;
            let reached = |to: &SocketAddr| sources.iter().any(|source| source.is_ipv6() == to.is_ipv6());
            let mut there = self.addresses[addresses as usize].iter();
            if let (false, Some(to)) = (sources.is_empty(), there.next())
                && !reached(to)
                && !there.any(reached)
            {
                return Err(invalid(format!(
                    "no --source can reach {target}, which is {}; give an {} address",
                    to.ip(),
                    if to.is_ipv6() { "IPv6" } else { "IPv4" }
                )));
            }
            let tls = if target.scheme == Scheme::Wss {
                if tls_config.is_none() {
                    tls_config = Some(self.tls(group)?);
                }
                let config = tls_config.clone().expect("just made");
                // Rows fill in a name of their own.
                let host = if has_column { "rows" } else { &target.host };
                Some(Arc::new(TlsName { name: tls_name(host)?, config }))
            } else {
                None
            };
            bases.push(Endpoint {
                protocol: match target.scheme {
                    Scheme::Tcp => Protocol::Tcp,
                    Scheme::Ws => Protocol::Ws,
                    Scheme::Wss => Protocol::Wss,
                    Scheme::Ssh => Protocol::Ssh,
                },
                target: number as u16,
                addresses,
                tls,
                ssh: None,
                host: target.authority().into(),
                path: target.path.as_str().into(),
                headers: headers.as_str().into(),
            });
        }
        let names = parsed.iter().map(|target| target.to_string().into()).collect();
        let order = weighted(&parsed.iter().map(|target| target.weight).collect::<Vec<_>>());
        let from = self.endpoints.len();
        let (strict, loose): (Vec<_>, Vec<_>) =
            (strict.iter().map(String::as_str).collect(), loose.iter().map(String::as_str).collect());
        let words = Words::new(rows.as_ref(), &strict, &loose)?;
        if !filled {
            for endpoint in &mut bases {
                let target = &parsed[usize::from(endpoint.target)];
                if let Some(sessions) = sessions.as_deref_mut() {
                    let as_it_is = |text: &str| Ok(text.to_owned());
                    endpoint.ssh = Some(Arc::new(sessions.endpoint(target, &target.host, &as_it_is)?));
                }
            }
            self.endpoints.extend(bases);
            return Ok((names, order.into_iter().map(|target| (from + target) as u32).collect()));
        }
        if from + conns as usize > Endpoint::ROWS_MAX {
            return Err(invalid(format!(
                "{{n}} and --rows need a row a stream; a run has at most {} rows",
                Endpoint::ROWS_MAX
            )));
        }
        for number in (u64::from(first_stream)..).take(conns as usize) {
            let mut endpoint = bases[order[number as usize % order.len()]].clone();
            let target = &parsed[usize::from(endpoint.target)];
            if let Some(sessions) = sessions.as_deref_mut() {
                let host = words.fill(&target.host, number)?;
                if target.host.contains('{') {
                    fill_host(&mut endpoint, &host, target)?;
                }
                let fill = |text: &str| words.fill(text, number);
                endpoint.ssh = Some(Arc::new(sessions.endpoint(target, &host, &fill)?));
                self.endpoints.push(endpoint);
                continue;
            }
            endpoint.path = words.fill(&endpoint.path, number)?.into();
            if endpoint.path.contains([' ', '\t']) {
                return Err(invalid("a value of --rows puts a space into the path; write %20"));
            }
            endpoint.headers = words.fill(&endpoint.headers, number)?.into();
            if target.host.contains('{') {
                fill_host(&mut endpoint, &words.fill(&target.host, number)?, target)?;
            }
            self.endpoints.push(endpoint);
        }
        // A stream takes the row at its number modulo theirs, wherever the numbers begin.
        let shift = first_stream as usize % conns as usize;
        let row = |slot: usize| (from + (slot + conns as usize - shift) % conns as usize) as u32;
        Ok((names, (0..conns as usize).map(row).collect()))
    }

    fn resolved(
        &mut self,
        host: &str,
        port: u16,
        streams: u64,
        targets: &Targets,
        resolve: Resolve<'_>,
    ) -> Result<u32, Problem> {
        let mut addresses = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => resolve(host, port).map_err(|error| {
                invalid(format!(
                    "the name `{host}` does not resolve ({error}); check its spelling and this host's DNS"
                ))
            })?,
        };
        addresses.dedup();
        let mut rules = BTreeSet::new();
        for &address in &addresses {
            // A rule's cap is for all groups and targets of a run together.
            let rule = targets.rule(host, address);
            let others = rule.and_then(|rule| self.under_rule.get(&rule)).copied().unwrap_or(0);
            targets
                .check(host, address, others + streams)
                .map_err(|why| Problem::new(ProblemCode::TargetRefused, why))?;
            rules.extend(rule);
        }
        for rule in rules {
            *self.under_rule.entry(rule).or_default() += streams;
        }
        self.addresses.push(addresses);
        self.names.push((host.to_owned(), port, streams));
        Ok((self.addresses.len() - 1) as u32)
    }

    fn tls(&mut self, group: &GroupSpec) -> Result<Arc<rustls::ClientConfig>, Problem> {
        if group.insecure {
            self.warnings.push(format!("group {}: CERTIFICATES ARE NOT VERIFIED (--insecure)", group.name));
        }
        let settings = ClientSettings {
            roots: scale_proto::tls::native_roots(),
            ca_pem: content(group.ca.as_ref(), "--ca")?,
            cert_pem: content(group.cert.as_ref(), "--cert")?,
            key_pem: content(group.key.as_ref(), "--key")?,
            insecure: group.insecure,
        };
        scale_proto::tls::client_config(&settings).map_err(|error| invalid(error.to_string()))
    }
}

/// The texts in which streams' words are filled in: those whose places are all columns, and those that may have
/// braces of their own.
fn texts(targets: &[Target], headers: &str, sessions: Option<&Sessions<'_>>) -> (Vec<String>, Vec<String>) {
    let (mut strict, mut loose) = (Vec::new(), vec![headers.to_owned()]);
    for target in targets {
        strict.push(target.host.clone());
        match sessions {
            None => strict.push(target.path.clone()),
            Some(sessions) => {
                strict.extend(sessions.strict(target));
                loose.extend(sessions.command(target));
            }
        }
    }
    (strict, loose)
}

fn tls_name(host: &str) -> Result<ServerName<'static>, Problem> {
    ServerName::try_from(host.to_owned()).map_err(|_| invalid(format!("`{host}` is no name for TLS")))
}

/// A stream's own host name, for the request and for TLS.
fn fill_host(endpoint: &mut Endpoint, host: &str, target: &Target) -> Result<(), Problem> {
    let is_name =
        |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !is_name(host) {
        return Err(invalid(format!(
            "--rows makes the host of {target} to `{}`, which is no host name: letters, digits, `.`, `-` and `_`, at most {HOST_BYTES_MAX}",
            host.chars().take(HOST_BYTES_MAX).collect::<String>()
        )));
    }
    endpoint.host = Target { host: host.to_owned(), ..target.clone() }.authority().into();
    if let Some(tls) = &endpoint.tls {
        endpoint.tls = Some(Arc::new(TlsName { name: tls_name(host)?, config: tls.config.clone() }));
    }
    Ok(())
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

/// The user's header lines, checked, each ended by CR LF.
fn header_lines(group: &GroupSpec) -> Result<String, Problem> {
    let file = content(group.header_file.as_ref(), "--header-file")?;
    let file = file.map(std::str::from_utf8).transpose().map_err(|_| invalid("--header-file is not text"))?;
    let mut lines = String::new();
    let from_file = file.unwrap_or_default().lines().filter(|line| !line.trim().is_empty());
    for line in group.header.iter().map(String::as_str).chain(from_file) {
        // A line of a header file may be a secret: it is not repeated.
        let wrong = || invalid("a header is not `Name: value` without control characters");
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let (name, value) = (name.trim(), value.trim());
        if !scale_proto::http::header_is_valid(name, value) {
            return Err(wrong());
        }
        let ours = ["host", "upgrade", "connection", "content-length", "transfer-encoding"];
        if ours.contains(&name.to_ascii_lowercase().as_str())
            || name.to_ascii_lowercase().starts_with("sec-websocket-")
        {
            return Err(invalid(format!(
                "the header {name} is part of the upgrade itself and cannot be given"
            )));
        }
        lines += &format!("{name}: {value}\r\n");
    }
    Ok(lines)
}

/// Every address of `sources`.
fn sources(sources: &[String]) -> Result<Vec<IpAddr>, Problem> {
    let mut addresses = Vec::new();
    for source in sources {
        if let Ok(address) = source.parse::<IpAddr>() {
            addresses.push(address);
        } else {
            let net: ipnet::IpNet =
                source.parse().map_err(|_| invalid(format!("--source {source} is no address or range")))?;
            addresses.extend(net.hosts());
        }
    }
    Ok(addresses)
}

/// Indices by weight, spread evenly (smooth weighted round-robin).
fn weighted(weights: &[u32]) -> Vec<usize> {
    let total: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
    let mut current = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            for (sum, &weight) in current.iter_mut().zip(weights) {
                *sum += i64::from(weight);
            }
            let (best, _) = current
                .iter()
                .enumerate()
                .max_by_key(|&(index, sum)| (*sum, std::cmp::Reverse(index)))
                .expect("a group has a target");
            current[best] -= total;
            best
        })
        .collect()
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
