//! Whether this host can carry a plan: source ports and addresses, memory, cores, open files. The
//! same lines refuse a start, stand in `--dry-run` and are what `doctor --for FILE` adds.

mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use scale_api::http::DoctorEntry;
use scale_api::units::thousands;

use super::plan::{Host, PORT_FIRST, Plan};
use crate::load::{Group, Traffic};

/// Resident memory of a plain stream, and what TLS adds, and a connection of SSH, at most, in bytes.
const STREAM_BYTES: u64 = 1536;
const TLS_BYTES: u64 = 24 << 10;
const SSH_BYTES: u64 = 12 << 10;
/// CPU time that no host gets below for a message and for each byte of it, and what was measured
/// (docs/measuring.md), both ways together, kernel included. In µs.
const LEAST_US: (f64, f64) = (2.0, 0.000_05);
const USUAL_US: (f64, f64) = (11.0, 0.000_3);
/// Above this share of the cores by the usual cost, the run is likely to be saturated.
const BUSY_MAX: f64 = 0.8;
/// Descriptors that the daemon itself uses: sockets of callers, rings, files.
const FILES_OWN: u64 = 512;

fn entry(name: &str, status: &str, value: String, source: &str, remedy: &str) -> DoctorEntry {
    DoctorEntry {
        name: name.into(),
        status: status.into(),
        value,
        source: source.into(),
        remedy: (status != "ok").then(|| remedy.to_owned()),
    }
}

const fn failing(fails: bool) -> &'static str {
    if fails { "fail" } else { "ok" }
}

/// What a line that is not ok says in one sentence.
pub fn sentence(entry: &DoctorEntry) -> String {
    format!("{}: {}; {}", entry.name, entry.value, entry.remedy.as_deref().unwrap_or_default())
}

/// Memory that sockets and streams of `plan` may take, in bytes.
pub fn memory_bytes(plan: &Plan) -> u64 {
    let group = |group: &Group| {
        let tls = group.pattern.iter().any(|&row| plan.endpoints[row as usize].protocol.is_tls());
        // The kernel doubles what it is asked for (socket(7)).
        let buffers = 2 * u64::from(group.send_buffer_bytes.unwrap_or(0))
            + 2 * u64::from(group.receive_buffer_bytes.unwrap_or(0));
        let connection = buffers + if group.ssh.is_some() { SSH_BYTES } else { 0 };
        let stream = STREAM_BYTES + if tls { TLS_BYTES } else { 0 };
        stream * u64::from(group.conns_max()) + connection * connections(plan, group)
    };
    plan.groups.iter().map(group).sum()
}

/// Connections of a group at its most: as many as streams, or fewer where channels share them.
pub fn connections(plan: &Plan, group: &Group) -> u64 {
    by_position(plan, group).iter().sum()
}

/// Connections to the row at each position of the group's pattern. A row that stands there more than
/// once, and whose connections are shared, is counted where it stands first.
fn by_position(plan: &Plan, group: &Group) -> Vec<u64> {
    let (streams, length) = (group.conns_max(), group.pattern.len() as u64);
    let channels = group.ssh.as_ref().map_or(1, |ssh| u64::from(ssh.channels_per_connection));
    if channels == 1 {
        return (0..length).map(|at| u64::from(streams).saturating_sub(at).div_ceil(length)).collect();
    }
    // Each worker has connections of its own, each to one row.
    let workers = plan.cores.len() as u32;
    let mut own: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for stream in 0..streams {
        let row = group.endpoint(group.first_stream.wrapping_add(stream));
        *own.entry((row, stream % workers)).or_default() += 1;
    }
    let mut of_row: BTreeMap<u32, u64> = BTreeMap::new();
    for ((row, _), streams) in own {
        *of_row.entry(row).or_default() += streams.div_ceil(channels);
    }
    group.pattern.iter().map(|row| of_row.remove(row).unwrap_or(0)).collect()
}

/// Source ports needed towards the busiest destination.
pub fn source_ports(plan: &Plan) -> u64 {
    let mut per_destination: BTreeMap<SocketAddr, u64> = BTreeMap::new();
    for group in plan.groups.iter() {
        for (&row, connections) in group.pattern.iter().zip(by_position(plan, group)) {
            let addresses = &plan.addresses[plan.endpoints[row as usize].addresses as usize];
            for address in addresses {
                let same = |source: &&IpAddr| source.is_ipv6() == address.is_ipv6();
                let sources = group.sources.iter().filter(same).count().max(1) as u64;
                *per_destination.entry(*address).or_default() +=
                    connections.div_ceil(addresses.len() as u64 * sources);
            }
        }
    }
    per_destination.values().copied().max().unwrap_or(0)
}

/// Each thing that `plan` needs beside what `host` has.
pub fn examine(plan: &Plan, host: &Host) -> Vec<DoctorEntry> {
    let mut entries = vec![ports(plan)];
    entries.extend(addresses(plan, host));
    entries.extend(memory(plan, host));
    entries.extend([cores(plan, host), files(plan, host)]);
    entries.extend(network::examine(plan, host));
    entries
}

fn ports(plan: &Plan) -> DoctorEntry {
    let reserved = plan.ports_reserved.iter().filter(|&&port| port >= PORT_FIRST).count() as u64;
    let usable = 65_536 - u64::from(PORT_FIRST) - reserved;
    let needed = plan.summary.source_ports;
    entry(
        "plan: source ports",
        failing(needed > usable),
        format!(
            "{} are needed towards one destination, {} are usable from one address",
            thousands(needed),
            thousands(usable)
        ),
        "/proc/sys/net/ipv4/ip_local_reserved_ports",
        "add addresses with --source, such as --source 127.0.0.0/30 or your host's own",
    )
}

fn addresses(plan: &Plan, host: &Host) -> Option<DoctorEntry> {
    let sources: BTreeSet<IpAddr> =
        plan.groups.iter().flat_map(|group| group.sources.iter().copied()).collect();
    let foreign = sources.iter().find(|&&address| !(host.has_address)(address));
    let value = match foreign {
        Some(address) => format!("{address} is not this host's"),
        None => format!("{} of this host's", thousands(sources.len() as u64)),
    };
    let remedy = foreign.map_or(String::new(), |address| {
        let bits = if address.is_ipv6() { 128 } else { 32 };
        format!(
            "give --source addresses that `ip addr` lists, or add it: ip addr add {address}/{bits} dev lo"
        )
    });
    let line = || entry("plan: source addresses", failing(foreign.is_some()), value, "bind(2)", &remedy);
    (!sources.is_empty()).then(line)
}

fn memory(plan: &Plan, host: &Host) -> Vec<DoctorEntry> {
    let needed = plan.summary.memory_bytes;
    let mut entries = Vec::new();
    if let Some(available) = host.facts.memory_available {
        entries.push(entry(
            "plan: memory",
            failing(needed > available),
            format!(
                "{} MB with socket buffers full, {} MB are available",
                thousands(needed / 1_000_000),
                thousands(available / 1_000_000)
            ),
            "/proc/meminfo",
            "lower --conns, --sndbuf or --rcvbuf",
        ));
    }
    if let Some(most) = host.facts.tcp_mem_bytes {
        entries.push(entry(
            "plan: socket memory",
            if needed > most { "warn" } else { "ok" },
            format!(
                "{} MB with socket buffers full, the kernel gives all sockets {} MB",
                thousands(needed / 1_000_000),
                thousands(most / 1_000_000)
            ),
            "/proc/sys/net/ipv4/tcp_mem",
            "raise net.ipv4.tcp_mem, or streams stalled by their peer could starve the others",
        ));
    }
    entries
}

fn cores(plan: &Plan, host: &Host) -> DoctorEntry {
    let there = (host.cores.len() as f64).min(host.facts.cpu_quota.unwrap_or(f64::INFINITY));
    let (mut messages, mut bytes) = (0.0, 0.0);
    for group in plan.groups.iter().filter(|group| group.traffic != Traffic::Receive) {
        // The stage that asks most.
        let load = |stage: &crate::load::Stage| {
            let conns = f64::from(stage.conns.max(group.conns));
            (conns * 1e9 / stage.tick_ns as f64, conns * stage.message.bytes_per_second(stage.tick_ns))
        };
        let most = group.stages.iter().map(load).max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let (its_messages, its_bytes) = most.unwrap_or_default();
        messages += its_messages;
        bytes += its_bytes;
    }
    let needed = |(message, byte): (f64, f64)| (messages * message + bytes * byte) / 1e6;
    let (least, usual) = (needed(LEAST_US), needed(USUAL_US));
    let status = if least > there {
        "fail"
    } else if usual > BUSY_MAX * there {
        "warn"
    } else {
        "ok"
    };
    let cores = if status == "fail" { least } else { usual };
    entry(
        "plan: cores",
        status,
        format!(
            "{} messages/s and {:.1} MB/s each way take {} {cores:.1} cores, the workers have {there}",
            thousands(messages.round() as u64),
            bytes / 1e6,
            if status == "fail" { "more than" } else { "about" },
        ),
        "sched_getaffinity, cpu.max, docs/measuring.md",
        "lower --conns or --rate, lengthen --tick-interval, or give the daemon more --cores",
    )
}

fn files(plan: &Plan, host: &Host) -> DoctorEntry {
    let ordinary = host.files.saturating_sub(FILES_OWN);
    // Each ring has a table of its own; what does not fit into it takes ordinary descriptors.
    let room = ordinary + if host.direct_descriptors { host.files * host.cores.len() as u64 } else { 0 };
    let sockets = plan.groups.iter().map(|group| connections(plan, group)).sum();
    entry(
        "plan: open files",
        failing(sockets > room),
        format!("{} sockets, there is room for {}", thousands(sockets), thousands(room)),
        "RLIMIT_NOFILE",
        "raise LimitNOFILE in the unit, or `ulimit -n` before the daemon starts",
    )
}
