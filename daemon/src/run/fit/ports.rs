//! Source ports and where they are: connections of each worker to each destination, beside the room that
//! sources × ports make for them. The arithmetic is in docs/sources.md.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use scale_api::http::DoctorEntry;
use scale_api::units::thousands;

use super::{entry, failing};
use crate::load::Group;
use crate::run::plan::Plan;

/// Destinations that a plan explains one by one.
const DESTINATIONS_SHOWN: usize = 8;
/// Missing addresses that are named.
const MISSING_SHOWN: usize = 4;

/// One destination.
struct Destination {
    to: SocketAddr,
    /// Pairs of interface and source address of the group that has fewest.
    origins: u64,
    /// By worker.
    workers: Vec<Part>,
}

/// One worker's connections to a destination.
#[derive(Clone, Default)]
struct Part {
    connections: u64,
    /// Ports that they take of each origin.
    needed: u64,
    /// Ports that the worker has towards the destination.
    ports: u64,
    bounds: Option<(u16, u16)>,
}

impl Destination {
    fn connections(&self) -> u64 {
        self.workers.iter().map(|part| part.connections).sum()
    }

    fn needed(&self) -> u64 {
        self.workers.iter().map(|part| part.needed).sum()
    }

    /// Ports that are usable from each origin.
    fn ports(&self) -> u64 {
        self.workers.iter().filter(|part| part.connections > 0).map(|part| part.ports).sum()
    }

    fn fits(&self) -> bool {
        self.workers.iter().all(|part| part.needed <= part.ports)
    }
}

/// Connections of a group at its most: as many as streams, or fewer where channels share them.
pub fn connections(plan: &Plan, group: &Group) -> u64 {
    by_row(plan, group).iter().sum()
}

/// Connections to each row of addresses by each worker: place `row × workers + worker`.
pub(super) fn by_row(plan: &Plan, group: &Group) -> Vec<u64> {
    let workers = plan.cores.len() as u32;
    let mut counts = vec![0; plan.addresses.len() * workers as usize];
    let mut place = |row: u32, worker: u32, connections: u64| {
        let addresses = plan.endpoints[row as usize].addresses;
        counts[(addresses * workers + worker) as usize] += connections;
    };
    let rows = (0..group.conns_max())
        .map(|stream| (group.endpoint(group.first_stream.wrapping_add(stream)), stream % workers));
    let channels = group.ssh.as_ref().map_or(1, |ssh| u64::from(ssh.channels_per_connection));
    if channels == 1 {
        rows.for_each(|(row, worker)| place(row, worker, 1));
    } else {
        // Channels share a connection where one worker has them to one row.
        let mut streams: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        rows.for_each(|key| *streams.entry(key).or_default() += 1);
        streams.into_iter().for_each(|((row, worker), all)| place(row, worker, all.div_ceil(channels)));
    }
    counts
}

/// All destinations, the busiest first.
fn destinations(plan: &Plan) -> Vec<Destination> {
    let workers = plan.cores.len() as u32;
    let mut found: BTreeMap<SocketAddr, Destination> = BTreeMap::new();
    for group in plan.groups.iter() {
        let counts = by_row(plan, group);
        for (row, addresses) in counts.chunks(workers as usize).zip(plan.addresses.iter()) {
            if row.iter().all(|&connections| connections == 0) {
                continue;
            }
            for &to in addresses {
                let origins = group.ways.origins(to.is_ipv6()).max(1);
                let destination = found.entry(to).or_insert_with(|| Destination {
                    to,
                    origins,
                    workers: (0..workers).map(|worker| part(plan, (worker, workers), to)).collect(),
                });
                destination.origins = destination.origins.min(origins);
                for (part, connections) in destination.workers.iter_mut().zip(row) {
                    let its = connections.div_ceil(addresses.len() as u64);
                    part.connections += its;
                    part.needed += its.div_ceil(origins);
                }
            }
        }
    }
    let mut all: Vec<Destination> = found.into_values().collect();
    all.sort_by_key(|destination| std::cmp::Reverse(destination.needed()));
    all
}

fn part(plan: &Plan, who: (u32, u32), to: SocketAddr) -> Part {
    let slice = plan.ports.slice(who, to);
    let bounds = slice.first().copied().zip(slice.last().copied());
    Part { ports: slice.len() as u64, bounds, ..Part::default() }
}

/// Source ports needed from each source towards the busiest destination.
pub fn source_ports(plan: &Plan) -> u64 {
    destinations(plan).first().map_or(0, Destination::needed)
}

/// Whether the ports suffice, and what to add where they do not.
pub(super) fn ports(plan: &Plan) -> DoctorEntry {
    let all = destinations(plan);
    let short = all.iter().find(|destination| !destination.fits());
    let busiest = short.or(all.first());
    let needed = busiest.map_or(0, Destination::needed);
    let usable = busiest.map_or(plan.ports.usable(), Destination::ports);
    entry(
        "plan: source ports",
        failing(short.is_some()),
        format!(
            "{} are needed towards one destination, {} are usable from one address",
            thousands(needed),
            thousands(usable)
        ),
        "/proc/sys/net/ipv4/ip_local_reserved_ports",
        &short.map_or(String::new(), |destination| remedy(plan, destination)),
    )
}

/// What to add: how many source addresses, or target addresses.
fn remedy(plan: &Plan, short: &Destination) -> String {
    let usable = plan.ports.usable();
    if short.workers.iter().any(|part| part.connections > 0 && part.ports == 0) {
        return format!(
            "net.ipv4.ip_local_reserved_ports leaves {} ports: free some, such as sysctl -w net.ipv4.ip_local_reserved_ports=''",
            thousands(usable)
        );
    }
    // Each worker must find room in its own part.
    let most = |one: u64| {
        let parts = short.workers.iter().filter(|part| part.connections > 0);
        parts.map(|part| part.connections.div_ceil(part.ports * one)).max().unwrap_or(1)
    };
    let (sources, targets) = (most(1).max(short.origins + 1), most(short.origins));
    let range = range(short.to.ip(), sources);
    format!(
        "{} source addresses have room for {}: add addresses with --source, such as --source {range}; or share the streams among {} target addresses (docs/sources.md)",
        thousands(sources),
        thousands(short.connections()),
        thousands(targets)
    )
}

/// A range with at least so many usable addresses, fit to reach `to` where that is loopback.
fn range(to: IpAddr, sources: u64) -> String {
    let (start, width, unusable) = match to {
        IpAddr::V4(to) if to.is_loopback() => ("127.0.1.0", 32, 2),
        IpAddr::V4(_) => ("10.0.0.0", 32, 2),
        IpAddr::V6(_) => ("fd00::", 128, 1),
    };
    let bits = 64 - (sources + unusable - 1).leading_zeros();
    format!("{start}/{}", width - bits)
}

/// The source addresses and interfaces that were asked for.
pub(super) fn ways(plan: &Plan) -> Vec<DoctorEntry> {
    let mut entries = Vec::new();
    let sources: Vec<_> = plan.sources.iter().flat_map(|sources| &sources.given).collect();
    let all: usize = sources.iter().map(|source| source.addresses).sum();
    let missing: Vec<IpAddr> = sources.iter().flat_map(|source| source.missing.iter().copied()).collect();
    let gone = sources.iter().find(|source| source.missing.len() == source.addresses);
    if let Some(first) = missing.first() {
        let shown: Vec<String> = missing.iter().take(MISSING_SHOWN).map(IpAddr::to_string).collect();
        let more = if missing.len() > MISSING_SHOWN { ", …" } else { "" };
        let bits = if first.is_ipv6() { 128 } else { 32 };
        let device = plan.sources.iter().flat_map(|sources| &sources.interfaces).next();
        let device = device.map_or_else(|| "lo".to_owned(), |(name, _)| name.to_string());
        entries.push(entry(
            "plan: source addresses",
            if gone.is_some() { "fail" } else { "warn" },
            match gone {
                Some(source) if source.addresses == 1 => format!("{} is not this host's", source.written),
                Some(source) => format!("none of {} is this host's", source.written),
                None => format!(
                    "{} of {} are this host's and used; {}{more} are not",
                    thousands((all - missing.len()) as u64),
                    thousands(all as u64),
                    shown.join(", ")
                ),
            },
            "bind(2)",
            &format!(
                "give --source addresses that `ip addr` lists, or add them: ip addr add {first}/{bits} dev {device}"
            ),
        ));
    } else if all > 0 {
        let value = format!("{} of this host's", thousands(all as u64));
        entries.push(entry("plan: source addresses", "ok", value, "bind(2)", ""));
    }
    let interfaces: Vec<_> = plan.sources.iter().flat_map(|sources| &sources.interfaces).collect();
    if !interfaces.is_empty() {
        let down = interfaces.iter().find(|(_, up)| !up);
        let names: Vec<String> = interfaces.iter().map(|(name, _)| name.to_string()).collect();
        let value = down.map_or_else(|| names.join(", "), |(name, _)| format!("{name} is down"));
        let remedy = down.map_or(String::new(), |(name, _)| format!("ip link set {name} up"));
        entries.push(entry("plan: interfaces", failing(down.is_some()), value, "getifaddrs(3)", &remedy));
    }
    entries
}

/// Destinations with their room, and the ports of each worker towards the busiest.
pub(super) fn details(plan: &Plan) -> Vec<String> {
    let all = destinations(plan);
    let mut lines: Vec<String> = all.iter().take(DESTINATIONS_SHOWN).map(|it| room(plan, it)).collect();
    if all.len() > DESTINATIONS_SHOWN {
        lines.push(format!(
            "and to {} more addresses with fewer each",
            thousands((all.len() - DESTINATIONS_SHOWN) as u64)
        ));
    }
    let Some(busiest) = all.first() else { return lines };
    for (part, core) in busiest.workers.iter().zip(&plan.cores).filter(|(part, _)| part.connections > 0) {
        let (from, to) = part.bounds.unwrap_or((0, 0));
        lines.push(format!(
            "  worker on core {core}: source ports {from} to {to}, {} of them usable; {} needed from each address for {} connections",
            thousands(part.ports),
            thousands(part.needed),
            thousands(part.connections)
        ));
    }
    lines
}

fn room(plan: &Plan, destination: &Destination) -> String {
    let Destination { to, origins, .. } = destination;
    let ports = destination.ports();
    let interfaces =
        plan.groups.iter().map(|group| group.ways.interfaces(to.is_ipv6())).max().filter(|&count| count > 1);
    format!(
        "to {to}: {} connections; {} source {}{} × {} ports = room for {}",
        thousands(destination.connections()),
        thousands(*origins),
        if *origins == 1 { "address" } else { "addresses" },
        interfaces.map_or(String::new(), |count| format!(" on {count} interfaces")),
        thousands(ports),
        thousands(ports * origins)
    )
}
