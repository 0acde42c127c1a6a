//! What a run will do: a [`Spec`] and a host become a [`Plan`], everything checked, so that
//! workers can trust every field.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use scale_api::http::{DoctorEntry, PlanSummary, Problem, ProblemCode};
use scale_api::spec::{self, Duration, GroupSpec, Spec};
use scale_api::target::{Scheme, Target};
use scale_api::units::thousands;
use scale_proto::tls::ClientSettings;
use scale_proto::ws::Opcode;
use scale_ring::host::Facts;

use crate::load::endpoint::TlsName;
use crate::load::{Endpoint, Group, MessageSize, Payload, Protocol, Reconnect, Stage, TickOffset, Traffic};
use crate::stream::meter::Meter;
use crate::worker::share::Addresses;

use super::fit;
use super::rows::{Rows, Words};
use super::targets::Targets;

/// A checked run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What flows.
    pub groups: Arc<[Group]>,
    /// Whom streams talk to.
    pub endpoints: Arc<[Endpoint]>,
    /// Where these are.
    pub addresses: Addresses,
    /// What the rows of the address table were resolved from: host, port, streams.
    pub names: Vec<(String, u16, u64)>,
    /// The cores that workers run on.
    pub cores: Vec<usize>,
    /// Decides payload, masks and random offsets.
    pub seed: u64,
    /// Source ports that must not be used, ascending.
    pub ports_reserved: Arc<[u16]>,
    /// Bytes of a provided receive buffer.
    pub receive_buffer_bytes: u32,
    /// Streams of all groups at their most.
    pub streams_max: u64,
    /// The plan in figures.
    pub summary: PlanSummary,
    /// What it needs beside what the host has.
    pub fit: Vec<DoctorEntry>,
    /// What it was made for.
    pub host: Host,
}

/// What a plan is made for.
#[derive(Debug, Clone)]
pub struct Host {
    /// Cores for workers.
    pub cores: Vec<usize>,
    /// What the kernel's files say.
    pub facts: Facts,
    /// A seed where none was asked for.
    pub seed: u64,
    /// RLIMIT_NOFILE.
    pub files: u64,
    /// Whether sockets fit into the rings' own tables.
    pub direct_descriptors: bool,
    /// Whether an address is this host's.
    pub has_address: fn(IpAddr) -> bool,
}

/// Names to addresses.
pub type Resolve<'a> = &'a mut dyn FnMut(&str, u16) -> std::io::Result<Vec<SocketAddr>>;

/// The first source port that is used.
pub const PORT_FIRST: u16 = 1025;
/// Socket buffers, where they are not given: so many messages, within these bounds.
const SOCKET_BUFFER_TICKS: u64 = 4;
const SOCKET_BUFFER_MIN: u64 = 16 << 10;
const SOCKET_BUFFER_MAX: u64 = 4 << 20;

pub(super) fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Invalid, detail)
}

impl Plan {
    /// Checks everything.
    ///
    /// # Errors
    /// The user's mistake, a target that is not allowed, or what the host cannot carry.
    pub fn new(spec: &Spec, host: &Host, targets: &Targets, resolve: Resolve<'_>) -> Result<Self, Problem> {
        spec.check().map_err(|errors| invalid(errors.join("\n")))?;
        let seed = spec.seed.unwrap_or(host.seed);
        let mut tables = Tables::default();
        let mut groups = Vec::new();
        for group in &spec.group {
            groups.push(tables.group(group, spec, host, seed, targets, resolve)?);
        }
        let cells: usize = groups.iter().map(|group| group.cells(0).end).sum();
        if cells > Meter::CELLS_MAX {
            return Err(invalid(format!(
                "groups × stages × targets make {cells} parts; at most {} are kept apart",
                Meter::CELLS_MAX
            )));
        }
        let largest =
            groups.iter().flat_map(|g| &g.stages).map(|stage| stage.message.max()).max().unwrap_or(4096);
        let streams_max = groups.iter().map(|group| u64::from(group.conns_max())).sum();
        let mut plan = Self {
            endpoints: tables.endpoints.into(),
            addresses: tables.addresses.into(),
            names: tables.names,
            cores: host.cores.clone(),
            seed,
            ports_reserved: host.facts.ports_reserved.clone().into(),
            // A usual message and its headers in one receive; large ones come in pieces anyway.
            receive_buffer_bytes: (largest + 64).next_power_of_two().clamp(4096, 32 << 10),
            streams_max,
            summary: PlanSummary { warnings: tables.warnings, ..PlanSummary::default() },
            groups: groups.into(),
            fit: Vec::new(),
            host: host.clone(),
        };
        plan.summarise();
        Ok(plan)
    }

    /// Source ports of worker `worker`.
    pub fn ports(&self, worker: usize) -> (u16, u16) {
        let (workers, first) = (self.cores.len() as u32, u32::from(PORT_FIRST));
        let width = 65_536 - first;
        let from = first + width * worker as u32 / workers;
        let to = first + width * (worker as u32 + 1) / workers - 1;
        (from as u16, to as u16)
    }

    fn summarise(&mut self) {
        let mut summary = std::mem::take(&mut self.summary);
        let workers = self.cores.len() as u32;
        for group in self.groups.iter() {
            let stage = &group.stages[group.stages.len() - 1];
            let conns = group.conns_max();
            let per_second = 1e9 / stage.tick_ns as f64;
            let bytes = stage.message.bytes_per_second(stage.tick_ns);
            if group.traffic == Traffic::Receive {
                summary.lines.push(format!(
                    "{}: {} streams, read only; the target decides the rate",
                    group.name,
                    thousands(u64::from(conns))
                ));
            } else {
                summary.messages_per_second += per_second * f64::from(conns);
                summary.bytes_per_second += bytes * f64::from(conns);
                summary.lines.push(format!(
                    "{}: {} streams, {} B x {}/s = {:.1} KB/s a stream {}",
                    group.name,
                    thousands(u64::from(conns)),
                    thousands(u64::from(stage.message.max())),
                    (per_second * 1000.0).round() / 1000.0,
                    bytes / 1000.0,
                    if group.traffic == Traffic::Echo { "each way" } else { "written" },
                ));
            }
        }
        summary.streams_per_core = (0..workers)
            .map(|worker| {
                self.groups.iter().map(|g| u64::from(Group::share(g.conns_max(), worker, workers))).sum()
            })
            .collect();
        summary.memory_bytes = fit::memory_bytes(self);
        summary.source_ports = fit::source_ports(self);
        self.summary = summary;
        self.fit = fit::examine(self, &self.host);
        let said = |status: &str| -> Vec<String> {
            self.fit.iter().filter(|entry| entry.status == status).map(fit::sentence).collect()
        };
        (self.summary.cannot, self.summary.warnings) =
            (said("fail"), [std::mem::take(&mut self.summary.warnings), said("warn")].concat());
        self.summary.lines.push(format!(
            "in all: {} streams on {} cores, {} messages/s, {:.1} MB/s each way, seed {}",
            thousands(self.streams_max),
            workers,
            thousands(self.summary.messages_per_second.round() as u64),
            self.summary.bytes_per_second / 1e6,
            self.seed
        ));
    }
}

/// The plan's tables while they are filled.
#[derive(Default)]
struct Tables {
    endpoints: Vec<Endpoint>,
    addresses: Vec<Vec<SocketAddr>>,
    names: Vec<(String, u16, u64)>,
    warnings: Vec<String>,
    /// Streams so far under each rule of the list of targets.
    under_rule: BTreeMap<usize, u64>,
}

impl Tables {
    fn group(
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
        let (names, pattern) =
            self.endpoints(group, (conns.max(most), first_stream), &sources, targets, resolve)?;
        let text = group.opcode == spec::Opcode::Text;
        let payload = match message_file {
            Some(file) if text && std::str::from_utf8(file).is_err() => {
                return Err(invalid("--message-file is not UTF-8, which --opcode text must be"));
            }
            Some(file) => Payload::fixed(file),
            None if text => Payload::text(seed),
            None => Payload::random(seed),
        };
        let buffer = |given: Option<scale_api::units::Bytes>| {
            let ticks = u64::from(message.max()) * SOCKET_BUFFER_TICKS;
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
            stages: stages(group, conns, tick_ns, message),
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
            sources: sources.into(),
            send_buffer_bytes: buffer(group.sndbuf),
            receive_buffer_bytes: buffer(group.rcvbuf),
        })
    }

    /// Rows for a group's targets: one a target, or one a stream where words are filled in.
    fn endpoints(
        &mut self,
        group: &GroupSpec,
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
        let filled =
            rows.is_some() || headers.contains("{n}") || parsed.iter().any(|t| t.path.contains("{n}"));
        let total_weight: u64 = parsed.iter().map(|t| u64::from(t.weight)).sum();
        let mut tls_config = None;
        let mut bases = Vec::new();
        for (number, target) in parsed.iter().enumerate() {
            let streams = (u64::from(conns) * u64::from(target.weight)).div_ceil(total_weight);
            let (host, port) = match &group.connect_to {
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
                let name = ServerName::try_from(target.host.clone())
                    .map_err(|_| invalid(format!("`{}` is no name for TLS", target.host)))?;
                Some(Arc::new(TlsName { name, config: tls_config.clone().expect("just made") }))
            } else {
                None
            };
            bases.push(Endpoint {
                protocol: match target.scheme {
                    Scheme::Tcp => Protocol::Tcp,
                    Scheme::Ws => Protocol::Ws,
                    Scheme::Wss => Protocol::Wss,
                },
                target: number as u16,
                addresses,
                tls,
                host: target.authority().into(),
                path: target.path.as_str().into(),
                headers: headers.as_str().into(),
            });
        }
        let names = parsed.iter().map(|target| target.to_string().into()).collect();
        let order = weighted(&parsed.iter().map(|target| target.weight).collect::<Vec<_>>());
        let from = self.endpoints.len();
        let words = Words::new(rows.as_ref(), &bases)?;
        if !filled {
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
            endpoint.path = words.fill(&endpoint.path, number)?.into();
            if endpoint.path.contains([' ', '\t']) {
                return Err(invalid("a value of --rows puts a space into the path; write %20"));
            }
            endpoint.headers = words.fill(&endpoint.headers, number)?.into();
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

fn content<'a>(file: Option<&'a spec::File>, word: &str) -> Result<Option<&'a [u8]>, Problem> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use scale_api::units::{Rate, Span};

    fn host() -> Host {
        Host {
            cores: vec![0, 1],
            facts: Facts::default(),
            seed: 1,
            files: 100_000,
            direct_descriptors: true,
            has_address: |address| address.is_loopback(),
        }
    }

    fn plan(change: impl FnOnce(&mut GroupSpec)) -> Result<Plan, Problem> {
        let mut group = GroupSpec {
            name: "main".into(),
            target: vec!["ws://127.0.0.1:9000/echo".into()],
            conns: Some(100),
            ..GroupSpec::default()
        };
        change(&mut group);
        let spec = Spec { group: vec![group], ..Spec::default() };
        let mut resolve = |name: &str, port: u16| match name {
            "two" => {
                Ok(vec![SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 2], port))])
            }
            "far" => Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))]),
            _ => Err(std::io::Error::other("no such name")),
        };
        Plan::new(&spec, &host(), &Targets::default(), &mut resolve)
    }

    #[test]
    fn the_plan_says_what_a_rate_means() {
        let plan = plan(|group| group.rate = Some(Rate(40_000))).unwrap();
        assert_eq!(plan.summary.lines[0], "main: 100 streams, 4,000 B x 10/s = 40.0 KB/s a stream each way");
        assert_eq!(plan.groups[0].ramp_ns, 50_000_000);
        assert_eq!(plan.summary.streams_per_core, [50, 50]);
    }

    #[test]
    fn seventy_thousand_streams_from_one_address_cannot_be_carried_and_a_source_cures_it() {
        let refused = plan(|group| group.conns = Some(70_000)).unwrap();
        assert!(refused.summary.cannot[0].contains("--source"), "{:?}", refused.summary.cannot);
        let cured = plan(|group| {
            group.conns = Some(70_000);
            group.source = vec!["127.0.1.0/30".into()];
        });
        assert!(cured.unwrap().summary.cannot.is_empty());
    }

    #[test]
    fn targets_are_checked_after_their_names_are_resolved() {
        let code = |target: &str| {
            plan(|group| group.target = vec![target.into()]).map_err(|problem| problem.code).err()
        };
        assert_eq!(code("ws://two"), None);
        assert_eq!(code("ws://far"), Some(ProblemCode::TargetRefused));
        assert_eq!(code("ws://nowhere"), Some(ProblemCode::Invalid));
    }

    #[test]
    fn weights_and_rows_decide_who_talks_to_whom() {
        let plan2 =
            plan(|group| group.target = vec!["ws://two/a,3".into(), "ws://127.0.0.1/b".into()]).unwrap();
        assert_eq!(&*plan2.groups[0].pattern, [0, 0, 1, 0]);
        let rows = plan(|group| {
            group.conns = Some(3);
            group.target = vec!["ws://127.0.0.1/{n}/{user}".into()];
            group.rows = Some(spec::File { path: "r".into(), content: Some(b"user\nann\nbob\n".to_vec()) });
        });
        let paths: Vec<_> = rows.unwrap().endpoints.iter().map(|row| row.path.to_string()).collect();
        assert_eq!(paths, ["/0/ann", "/1/bob", "/2/ann"]);
    }

    #[test]
    fn a_row_smuggles_neither_headers_nor_words_into_the_request() {
        let why = |target: &str, header: &str, rows: &[u8]| {
            let refused = plan(|group| {
                group.target = vec![target.into()];
                group.header = vec![header.into()];
                group.rows = Some(spec::File { path: "r".into(), content: Some(rows.to_vec()) });
            });
            refused.map_err(|problem| problem.detail).err()
        };
        let rows = b"user\n\"ann\r\nX-Admin: yes\"\n";
        assert!(why("ws://127.0.0.1/", "X-User: {user}", rows).unwrap().contains("control character"));
        assert!(why("ws://127.0.0.1/{user}", "A: b", rows).unwrap().contains("control character"));
        assert!(why("ws://127.0.0.1/{user}", "A: b", b"user\nann bob\n").unwrap().contains("%20"));
        assert_eq!(why("ws://127.0.0.1/", "X-User: {user}", b"user\nann bob\n"), None);
        assert!(why("ws://127.0.0.1/{n}", "A: b", b"user\nann\n").unwrap().contains("write {user}"));
        assert!(
            why("ws://127.0.0.1/{usr}", "A: b", b"user\nann\n").unwrap().contains("there are {n}, {user}")
        );
        for columns in [&b"user,user\na,b\n"[..], b"n\n1\n"] {
            assert!(why("ws://127.0.0.1/{user}", "A: b", columns).unwrap().contains("must differ"));
        }
    }

    #[test]
    fn rows_stand_where_the_streams_of_a_part_of_a_run_look_for_them() {
        let group = GroupSpec {
            name: "main".into(),
            target: vec!["ws://127.0.0.1/{n}".into()],
            conns: Some(3),
            ..GroupSpec::default()
        };
        let spec = Spec { group: vec![group], first_stream: Some(7), ..Spec::default() };
        let plan = Plan::new(&spec, &host(), &Targets::default(), &mut |_, _| unreachable!()).unwrap();
        for number in 7..10 {
            let row = plan.groups[0].endpoint(number);
            assert_eq!(&*plan.endpoints[row as usize].path, format!("/{number}"));
        }
    }

    #[test]
    fn what_a_plan_needs_is_beside_what_the_host_has() {
        let status = |change: &dyn Fn(&mut GroupSpec), host_change: &dyn Fn(&mut Host)| {
            let mut host = host();
            host_change(&mut host);
            let mut group = GroupSpec {
                name: "main".into(),
                target: vec!["ws://127.0.0.1:9/".into()],
                conns: Some(1000),
                ..GroupSpec::default()
            };
            change(&mut group);
            let spec = Spec { group: vec![group], ..Spec::default() };
            let plan = Plan::new(&spec, &host, &Targets::default(), &mut |_, _| unreachable!()).unwrap();
            assert!(plan.fit.iter().all(|entry| (entry.status == "ok") == entry.remedy.is_none()));
            let not_ok = plan.fit.into_iter().filter(|entry| entry.status != "ok");
            not_ok.map(|entry| format!("{} {}", entry.status, entry.name)).collect::<Vec<_>>()
        };
        let (same, here) = (|_: &mut GroupSpec| {}, |_: &mut Host| {});
        assert_eq!(status(&same, &here), [""; 0]);
        assert_eq!(
            status(&|g| g.tick_interval = Some(Span::from_ns(5_000_000)), &here),
            ["warn plan: cores"]
        );
        let fast = |g: &mut GroupSpec| g.tick_interval = Some(Span::from_ns(1_000_000));
        assert_eq!(status(&fast, &here), ["fail plan: cores"]);
        let busy = |g: &mut GroupSpec| g.tick_interval = Some(Span::from_ns(5_000_000));
        assert_eq!(status(&busy, &|h| h.facts.cpu_quota = Some(0.25)), ["fail plan: cores"]);
        assert_eq!(status(&same, &|h| h.facts.memory_available = Some(1 << 20)), ["fail plan: memory"]);
        assert_eq!(status(&same, &|h| h.facts.tcp_mem_bytes = Some(1 << 20)), ["warn plan: socket memory"]);
        assert_eq!(status(&same, &|h| h.files = 800), [""; 0], "two rings have a table each");
        let plain = |h: &mut Host| (h.files, h.direct_descriptors) = (800, false);
        assert_eq!(status(&same, &plain), ["fail plan: open files"]);
        let reserved = |h: &mut Host| h.facts.ports_reserved = (1024..=65_000).collect();
        assert_eq!(status(&same, &reserved), ["fail plan: source ports"]);
        let foreign = |g: &mut GroupSpec| g.source = vec!["10.0.0.1".into()];
        assert_eq!(status(&foreign, &here), ["fail plan: source addresses"]);
    }

    #[test]
    fn every_worker_has_its_own_ports() {
        let plan = plan(|_| {}).unwrap();
        let (a, b) = (plan.ports(0), plan.ports(1));
        assert_eq!((a.0, b.1), (PORT_FIRST, 65_535));
        assert_eq!(a.1 + 1, b.0);
    }

    #[test]
    fn steps_follow_the_base_load() {
        let plan = plan(|group| {
            group.rate = Some(Rate(40_000));
            group.stage = vec![scale_api::spec::StageSpec {
                conns: Some(200),
                rate: None,
                over: Some(Span::from_secs(1)),
                hold: Some(Span::from_secs(2)),
            }];
        });
        let group = &plan.unwrap().groups[0];
        assert_eq!((group.stages.len(), group.stages[0].conns, group.conns_max()), (1, 200, 200));
    }
}
