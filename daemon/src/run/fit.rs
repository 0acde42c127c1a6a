//! Whether this host can carry a plan: source ports and addresses, memory, cores, open files. The
//! same lines refuse a start, stand in `--dry-run` and are what `doctor --for FILE` adds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use scale_api::http::DoctorEntry;
use scale_api::units::thousands;

use super::plan::{Host, PORT_FIRST, Plan};
use crate::load::Traffic;

/// Resident memory of a plain stream, and what TLS adds, at most, in bytes.
const STREAM_BYTES: u64 = 1536;
const TLS_BYTES: u64 = 24 << 10;
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
    let group = |group: &crate::load::Group| {
        let tls = group.pattern.iter().any(|&row| plan.endpoints[row as usize].protocol.is_tls());
        // The kernel doubles what it is asked for (socket(7)).
        let buffers = 2 * u64::from(group.send_buffer_bytes.unwrap_or(0))
            + 2 * u64::from(group.receive_buffer_bytes.unwrap_or(0));
        (STREAM_BYTES + if tls { TLS_BYTES } else { 0 } + buffers) * u64::from(group.conns_max())
    };
    plan.groups.iter().map(group).sum()
}

/// Source ports needed towards the busiest destination.
pub fn source_ports(plan: &Plan) -> u64 {
    let mut per_destination: BTreeMap<SocketAddr, u64> = BTreeMap::new();
    for group in plan.groups.iter() {
        let conns = u64::from(group.conns_max());
        for (position, &row) in group.pattern.iter().enumerate() {
            let addresses = &plan.addresses[plan.endpoints[row as usize].addresses as usize];
            let streams = conns.saturating_sub(position as u64).div_ceil(group.pattern.len() as u64);
            for address in addresses {
                let same = |source: &&IpAddr| source.is_ipv6() == address.is_ipv6();
                let sources = group.sources.iter().filter(same).count().max(1) as u64;
                *per_destination.entry(*address).or_default() +=
                    streams.div_ceil(addresses.len() as u64 * sources);
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
    entry(
        "plan: open files",
        failing(plan.streams_max > room),
        format!("{} sockets, there is room for {}", thousands(plan.streams_max), thousands(room)),
        "RLIMIT_NOFILE",
        "raise LimitNOFILE in the unit, or `ulimit -n` before the daemon starts",
    )
}
