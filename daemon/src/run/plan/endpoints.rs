//! Whom the streams of a group talk to: one row a target, or one a stream where words are filled in.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use scale_api::http::Problem;
use scale_api::spec::{self, GroupSpec};
use scale_api::target::{Scheme, Target};
use scale_proto::tls::ClientSettings;

use super::ssh::Sessions;
use super::tables::{Tables, content};
use super::{Place, Resolve, invalid};
use crate::load::endpoint::TlsName;
use crate::load::{Endpoint, Protocol, Ways};
use crate::run::rows::{Rows, Words};
use crate::run::targets::{Demand, Permit, canonical, refused};

/// The longest host name (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;
/// Hosts of one group, where rows name them.
const HOSTS_MAX: usize = 10_000;
/// Addresses of a row that has its own, until it is filled in.
const NOWHERE: u32 = u32::MAX;

/// What the rows of a group depend on.
pub(super) struct Whom<'a> {
    pub group: &'a GroupSpec,
    /// Streams at their most.
    pub conns: u32,
    /// The first one's number.
    pub first_stream: u32,
    /// Where streams come from.
    pub ways: &'a Ways,
    /// What may be hit.
    pub permit: &'a Permit,
    /// What all of it asks for.
    pub demand: Demand,
    /// The group's number.
    pub index: usize,
}

/// For whom a name is resolved.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    /// Group and target.
    pub asker: (u16, u16),
    /// What may be hit.
    pub permit: &'a Permit,
    /// Where streams come from.
    pub ways: &'a Ways,
}

impl Whom<'_> {
    fn asker(&self, target: u16) -> Asker<'_> {
        Asker { asker: (self.index as u16, target), permit: self.permit, ways: self.ways }
    }

    fn numbers(&self) -> impl Iterator<Item = u64> + use<> {
        (u64::from(self.first_stream)..).take(self.conns as usize)
    }
}

/// The users of a group's streams, row by row, where a column says whose each is.
fn users(group: &GroupSpec, rows: Option<&Rows>) -> Result<Vec<Box<str>>, Problem> {
    match (&group.user_column, rows) {
        (Some(column), Some(rows)) => rows.column(column).ok_or_else(|| {
            invalid(format!("--user-column {column} is no column of --rows; there are {}", rows.names()))
        }),
        _ => Ok(Vec::new()),
    }
}

impl Tables {
    /// Names of the group's targets, and rows in the order in which its streams take them.
    pub(super) fn endpoints(
        &mut self,
        whom: &Whom<'_>,
        mut sessions: Option<&mut Sessions<'_>>,
        resolve: Resolve<'_>,
    ) -> Result<(Vec<Arc<str>>, Vec<u32>), Problem> {
        let group = whom.group;
        let headers = header_lines(group)?;
        let rows = match content(group.rows.as_ref(), "--rows")? {
            Some(text) => Some(Rows::read(text)?),
            None => None,
        };
        self.users.push(users(group, rows.as_ref())?);
        let parsed: Vec<Target> =
            group.target.iter().map(|t| Target::parse(t).map_err(invalid)).collect::<Result<_, _>>()?;
        let (strict, mut loose) = texts(&parsed, &headers, sessions.as_deref());
        let is_filled = rows.is_some() || strict.iter().chain(&loose).any(|text| text.contains("{n}"));
        let mut bases = self.bases(whom, &parsed, &headers, resolve)?;
        let names = parsed.iter().map(|target| target.to_string().into()).collect();
        let order = weighted(&parsed.iter().map(|target| target.weight).collect::<Vec<_>>());
        let from = self.endpoints.len();
        // Rows that only say whose each stream is are of use, too.
        loose.extend(group.user_column.as_ref().map(|column| format!("{{{column}}}")));
        let words = Words::new(rows.as_ref(), &strict, &loose)?;
        if !is_filled {
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
        let conns = whom.conns as usize;
        if from + conns > Endpoint::ROWS_MAX {
            return Err(invalid(format!(
                "{{n}} and --rows need a row a stream; a run has at most {} rows",
                Endpoint::ROWS_MAX
            )));
        }
        let base = |number: u64| &bases[order[number as usize % order.len()]];
        let of_rows = whom.numbers().map(|number| (number, base(number)));
        let hosts = self.hosts(whom, of_rows, &parsed, &words, resolve)?;
        for number in whom.numbers() {
            let mut endpoint = base(number).clone();
            let target = &parsed[usize::from(endpoint.target)];
            let host = words.fill(&target.host, number)?;
            if target.host.contains('{') {
                fill_host(&mut endpoint, &host, target)?;
            }
            if let Some(&addresses) = hosts.get(&(endpoint.target, host.clone())) {
                endpoint.addresses = addresses;
            }
            if let Some(sessions) = sessions.as_deref_mut() {
                let fill = |text: &str| words.fill(text, number);
                endpoint.ssh = Some(Arc::new(sessions.endpoint(target, &host, &fill)?));
            } else {
                fill_request(&mut endpoint, &words, number)?;
            }
            self.endpoints.push(endpoint);
        }
        // A stream takes the row at its number modulo theirs, wherever the numbers begin.
        let shift = whom.first_stream as usize % conns;
        let row = |slot: usize| (from + (slot + conns - shift) % conns) as u32;
        Ok((names, (0..conns).map(row).collect()))
    }

    /// A row for each target, as the URL has it.
    fn bases(
        &mut self,
        whom: &Whom<'_>,
        targets: &[Target],
        headers: &str,
        resolve: Resolve<'_>,
    ) -> Result<Vec<Endpoint>, Problem> {
        let group = whom.group;
        let total_weight: u64 = targets.iter().map(|target| u64::from(target.weight)).sum();
        let mut tls_config = None;
        let mut bases = Vec::new();
        for (number, target) in targets.iter().enumerate() {
            let streams = (u64::from(whom.conns) * u64::from(target.weight)).div_ceil(total_weight);
            let has_column = target.host.contains('{');
            let addresses = match &group.connect_to {
                // A server of SSH is a machine of its own; names of a gateway are many for one place.
                None if has_column && target.scheme == Scheme::Ssh => NOWHERE,
                None if has_column => {
                    return Err(invalid(format!(
                        "the host of {target} is another one for each stream; say where all of them are: --connect-to HOST:PORT"
                    )));
                }
                None => {
                    let place = (target.host.as_str(), target.port);
                    let demand = whom.demand.share(streams);
                    self.resolved(place, demand, whom.asker(number as u16), resolve)?
                }
                Some(to) => {
                    let (host, port) = spec::connect_to(to).expect("checked by the spec");
                    let demand = whom.demand.share(streams);
                    self.resolved((&host, port), demand, whom.asker(number as u16), resolve)?
                }
            };
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
                headers: headers.into(),
            });
        }
        Ok(bases)
    }

    /// Where the hosts are that rows name, by target and name: each is resolved once.
    fn hosts<'b>(
        &mut self,
        whom: &Whom<'_>,
        rows: impl Iterator<Item = (u64, &'b Endpoint)>,
        targets: &[Target],
        words: &Words<'_>,
        resolve: Resolve<'_>,
    ) -> Result<BTreeMap<(u16, String), u32>, Problem> {
        let mut streams: BTreeMap<(u16, String), u64> = BTreeMap::new();
        for (number, base) in rows.filter(|(_, base)| base.addresses == NOWHERE) {
            let target = &targets[usize::from(base.target)];
            let host = words.fill(&target.host, number)?;
            check_host(&host, target)?;
            *streams.entry((base.target, host)).or_default() += 1;
        }
        if streams.len() > HOSTS_MAX {
            return Err(invalid(format!(
                "--rows names {} hosts; a group has at most {HOSTS_MAX}, so write several groups",
                streams.len()
            )));
        }
        let of_target =
            |target: u16| streams.iter().filter(|((of, _), _)| *of == target).map(|(_, n)| n).sum();
        let totals: Vec<u64> = (0..targets.len() as u16).map(of_target).collect();
        let mut hosts = BTreeMap::new();
        for ((target, host), streams) in streams {
            let port = targets[usize::from(target)].port;
            // Rows may have a host's streams one after the other: its connects are as many as the target's.
            let connects = whom.demand.share(totals[usize::from(target)]).connects_milli;
            let demand = Demand { connects_milli: connects, ..whom.demand.share(streams) };
            let addresses = self.resolved((&host, port), demand, whom.asker(target), &mut *resolve)?;
            hosts.insert((target, host), addresses);
        }
        Ok(hosts)
    }

    /// A row of addresses that may be hit, of the families that the asker's ways reach.
    pub(super) fn resolved(
        &mut self,
        (host, port): (&str, u16),
        demand: Demand,
        Asker { asker, permit, ways }: Asker<'_>,
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
        addresses.iter_mut().for_each(|address| *address = canonical(*address));
        addresses.dedup();
        if addresses.is_empty() {
            return Err(invalid(format!("the name `{host}` has no address; see to this host's DNS")));
        }
        let mut place = Place { host: host.to_owned(), port, asker, demand, rules: Vec::new() };
        // A rule's caps are for all groups, stages and targets of a run together.
        place.rules = self.tally.add(permit, &place, &addresses).map_err(refused)?;
        let first = addresses.first().map(SocketAddr::ip);
        addresses.retain(|to| ways.reaches(to.is_ipv6()));
        if let (true, Some(to)) = (addresses.is_empty(), first) {
            return Err(invalid(format!(
                "no --source can reach {host}, which is {to}; give an {} address",
                if to.is_ipv6() { "IPv6" } else { "IPv4" }
            )));
        }
        self.families.push((ways.reaches(false), ways.reaches(true)));
        self.addresses.push(addresses);
        self.places.push(place);
        Ok((self.addresses.len() - 1) as u32)
    }

    fn tls(&mut self, group: &GroupSpec) -> Result<Arc<ClientConfig>, Problem> {
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

/// Path and headers of a stream's upgrade.
fn fill_request(endpoint: &mut Endpoint, words: &Words<'_>, number: u64) -> Result<(), Problem> {
    endpoint.path = words.fill(&endpoint.path, number)?.into();
    if endpoint.path.contains([' ', '\t']) {
        return Err(invalid("a value of --rows puts a space into the path; write %20"));
    }
    endpoint.headers = words.fill(&endpoint.headers, number)?.into();
    Ok(())
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

/// Whether rows may make a target's host to that.
fn check_host(host: &str, target: &Target) -> Result<(), Problem> {
    let is_name =
        |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !is_name(host) {
        return Err(invalid(format!(
            "--rows makes the host of {target} to `{}`, which is no host name: letters, digits, `.`, `-` and `_`, at most {HOST_BYTES_MAX}",
            host.chars().take(HOST_BYTES_MAX).collect::<String>()
        )));
    }
    Ok(())
}

/// A stream's own host name, for the request and for TLS.
fn fill_host(endpoint: &mut Endpoint, host: &str, target: &Target) -> Result<(), Problem> {
    check_host(host, target)?;
    endpoint.host = Target { host: host.to_owned(), ..target.clone() }.authority().into();
    if let Some(tls) = &endpoint.tls {
        endpoint.tls = Some(Arc::new(TlsName { name: tls_name(host)?, config: tls.config.clone() }));
    }
    Ok(())
}

/// The user's header lines, checked, each ended by CR LF.
fn header_lines(group: &GroupSpec) -> Result<String, Problem> {
    let file = content(group.header_file.as_ref(), "--header-file")?;
    let file = file.map(std::str::from_utf8).transpose().map_err(|_| invalid("--header-file is not text"))?;
    let mut lines = String::new();
    let from_file = file.unwrap_or_default().lines().filter(|line| !line.trim().is_empty());
    for line in group.header.iter().map(String::as_str).chain(from_file) {
        let (name, value) = header(line)?;
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

/// Name and value of a header's line.
pub(super) fn header(line: &str) -> Result<(&str, &str), Problem> {
    let pair = line.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
    let valid = pair.filter(|(name, value)| scale_proto::http::header_is_valid(name, value));
    // A line of a header file may be a secret: it is not repeated.
    valid.ok_or_else(|| invalid("a header is not `Name: value` without control characters"))
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
