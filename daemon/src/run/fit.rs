//! Whether this host can carry a plan: source ports and addresses, memory, cores, open files. The
//! same lines refuse a start, stand in `--dry-run` and are what `doctor --for FILE` adds.

mod cost;
mod network;
mod ports;

use scale_api::http::DoctorEntry;
use scale_api::units::thousands;

pub use network::interfaces;
pub use ports::{connections, source_ports};

use super::plan::{Host, Plan};
use crate::load::Group;
use cost::{Asked, Cost};

/// Resident memory of a plain stream, and what TLS adds, and a connection of SSH, at most, in bytes.
const STREAM_BYTES: u64 = 1536;
const TLS_BYTES: u64 = 24 << 10;
const SSH_BYTES: u64 = 12 << 10;
/// Above this share of the cores, the run is likely to be saturated.
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
        let connection = buffers(group) + if group.ssh.is_some() { SSH_BYTES } else { 0 };
        let stream = STREAM_BYTES + if tls { TLS_BYTES } else { 0 };
        stream * u64::from(group.conns_max()) + connection * connections(plan, group)
    };
    plan.groups.iter().map(group).sum()
}

/// Each thing that `plan` needs beside what `host` has.
pub fn examine(plan: &Plan, host: &Host) -> Vec<DoctorEntry> {
    let mut entries = vec![ports::ports(plan)];
    entries.extend(ports::ways(plan));
    entries.extend(memory(plan, host));
    entries.extend([cores(plan, host), files(plan, host)]);
    entries.extend(network::examine(plan, host));
    entries
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

/// What share `plan` takes of what this host was found to offer, in a sentence.
pub fn calibrated(plan: &Plan, host: &Host) -> Option<String> {
    Asked::of(plan).judge(&host.calibrations).sentence
}

fn cores(plan: &Plan, host: &Host) -> DoctorEntry {
    let there = (host.cores.len() as f64).min(host.facts.cpu_quota.unwrap_or(f64::INFINITY));
    let asked = Asked::of(plan);
    let (load, judged) = (asked.sum(), asked.judge(&host.calibrations));
    let least = Cost::LEAST.cores(load);
    let status = if least > there {
        "fail"
    } else if judged.cores > BUSY_MAX * there || judged.is_too_much() {
        "warn"
    } else {
        "ok"
    };
    let cores = if status == "fail" { least } else { judged.cores };
    let found = judged.sentence.map_or(String::new(), |sentence| format!("; {sentence}"));
    entry(
        "plan: cores",
        status,
        format!(
            "{} messages/s and {:.1} MB/s each way take {} {cores:.1} cores, the workers have {there}{found}",
            thousands(load.messages.round() as u64),
            load.bytes / 1e6,
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
        &format!(
            "raise LimitNOFILE in the unit, or `ulimit -n` before the daemon starts, to {} at least",
            files_needed(sockets, plan.cores.len() as u64, host.direct_descriptors)
        ),
    )
}

/// The limit of open files with which so many sockets fit: each ring's table has as many slots.
const fn files_needed(sockets: u64, workers: u64, direct_descriptors: bool) -> u64 {
    (sockets + FILES_OWN).div_ceil(if direct_descriptors { workers + 1 } else { 1 })
}

/// What the plan takes of this host and how much there is, for who reads `--dry-run`.
pub fn details(plan: &Plan) -> Vec<String> {
    let mut lines = ports::details(plan);
    let streams: u64 = plan.groups.iter().map(|group| u64::from(group.conns_max())).sum();
    let sockets: u64 = plan.groups.iter().map(|group| connections(plan, group)).sum();
    let megabytes = |bytes: u64| thousands(bytes.div_ceil(1_000_000));
    lines.push(format!(
        "memory of {} streams: {} MB plain, {} MB over TLS; socket buffers, if all were full: {} MB",
        thousands(streams),
        megabytes(streams * STREAM_BYTES),
        megabytes(streams * (STREAM_BYTES + TLS_BYTES)),
        megabytes(plan.groups.iter().map(|group| buffers(group) * connections(plan, group)).sum()),
    ));
    lines.push(format!(
        "descriptors: {} sockets; each of {} workers has up to {} in its ring's table, ordinary ones are {}",
        thousands(sockets),
        plan.cores.len(),
        thousands(if plan.host.direct_descriptors { plan.host.files } else { 0 }),
        thousands(plan.host.files.saturating_sub(FILES_OWN)),
    ));
    let said = |name: &str| plan.fit.iter().find(|entry| entry.name == name);
    lines.extend(said("plan: socket memory").map(|entry| format!("tcp_mem: {}", entry.value)));
    lines.extend(said("plan: cores").map(|entry| format!("CPU: {}", entry.value)));
    lines
}

/// Socket buffers of a connection: the kernel doubles what it is asked for (socket(7)).
fn buffers(group: &Group) -> u64 {
    2 * u64::from(group.send_buffer_bytes.unwrap_or(0))
        + 2 * u64::from(group.receive_buffer_bytes.unwrap_or(0))
}
