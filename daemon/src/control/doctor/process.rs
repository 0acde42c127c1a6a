//! Limits of this process, memory, swap.

use scale_api::http::DoctorEntry;
use scale_api::units::thousands;

use super::{Is, Seen, entry, ok, shown, size};

/// A run that this program is for has 20,000 streams.
const FILES_LEAST: u64 = 20_000;
/// What a worker's ring and its table of buffers lock, at most, in bytes: what some kernels count against the
/// limit, and others have not.
const MEMLOCK_PER_WORKER: u64 = 2 << 20;
/// 20,000 `wss` streams with little in their buffers, in bytes.
const MEMORY_LEAST: u64 = 1_000_000_000;

pub fn examine(seen: &Seen<'_>) -> Vec<DoctorEntry> {
    vec![files(seen), memlock(seen), core(seen), memory(seen), swap(seen)]
}

fn files(seen: &Seen<'_>) -> DoctorEntry {
    let files = seen.facts.limits.and_then(|limits| limits.files);
    entry(
        "open files",
        Is::warn_if(files.is_some_and(|files| files < FILES_LEAST)),
        shown(files, thousands),
        "RLIMIT_NOFILE",
        "LimitNOFILE=1048576 in the unit, or `ulimit -n 1048576` before the daemon starts",
    )
}

fn memlock(seen: &Seen<'_>) -> DoctorEntry {
    let Some(limits) = seen.facts.limits else { return ok("locked memory", "unknown", "RLIMIT_MEMLOCK") };
    let needed = MEMLOCK_PER_WORKER * seen.cores.len() as u64;
    let value = limits.memlock.map_or_else(|| "unlimited".into(), size);
    entry(
        "locked memory",
        Is::warn_if(limits.memlock.is_some_and(|limit| limit < needed) && !seen.facts.confined.may_lock),
        if seen.facts.confined.may_lock {
            format!("{value}, not counted for CAP_IPC_LOCK")
        } else {
            format!("{value}; rings may take {}", size(needed))
        },
        "RLIMIT_MEMLOCK",
        "LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited` before the daemon starts",
    )
}

fn core(seen: &Seen<'_>) -> DoctorEntry {
    let Some(limits) = seen.facts.limits else { return ok("core files", "unknown", "RLIMIT_CORE") };
    let may = limits.is_dumpable && limits.core != Some(0);
    let value = if may { "memory, secrets and all, may be written to a file" } else { "none are written" };
    entry(
        "core files",
        Is::warn_if(may),
        value,
        "RLIMIT_CORE, PR_GET_DUMPABLE",
        "LimitCORE=0 in the unit, or `ulimit -c 0` before the daemon starts",
    )
}

fn memory(seen: &Seen<'_>) -> DoctorEntry {
    let available = seen.facts.memory_available;
    entry(
        "memory",
        Is::warn_if(available.is_some_and(|bytes| bytes < MEMORY_LEAST)),
        format!("{} available", shown(available, size)),
        "/proc/meminfo",
        "end what holds it: ps -eo rss,comm --sort -rss | head",
    )
}

/// Swap that nobody uses has moved nothing out.
fn swap(seen: &Seen<'_>) -> DoctorEntry {
    let facts = seen.facts;
    let value = match (facts.swap, facts.swap_used) {
        (Some(0), _) => "none".into(),
        (Some(total), Some(used)) => format!(
            "{} of {} in use, swappiness {}",
            size(used),
            size(total),
            shown(facts.swappiness, |n| n.to_string())
        ),
        _ => "unknown".into(),
    };
    let is = Is::warn_if(facts.swap_used.is_some_and(|used| used > 0));
    entry("swap", is, value, "/proc/meminfo", "swapoff -a")
}
