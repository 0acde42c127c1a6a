//! Cores: whether workers have them for themselves, awake and at full rate.

use std::collections::BTreeSet;

use scale_api::http::DoctorEntry;
use scale_api::units::thousands;

use super::{Is, Seen, cores_named, entry, list, ok, percent, shown};

/// A tenth of the 1 ms of lateness that a run may have: to wake may cost no more, in µs.
const WAKE_MAX_US: u64 = 100;
/// Shares of CPU time that the hypervisor gave to others. Over a short time one tick of 10 ms is much.
const STEAL_MAX: f64 = 0.05;
const STEAL_SINCE_BOOT_MAX: f64 = 0.02;
const CPU: &str = "/sys/devices/system/cpu";

pub fn examine(seen: &Seen<'_>) -> Vec<DoctorEntry> {
    vec![
        workers(seen),
        control(seen),
        siblings(seen),
        isolated(seen),
        governor(seen),
        idle(seen),
        boost(seen),
        quota(seen),
        machine(seen),
    ]
}

fn workers(seen: &Seen<'_>) -> DoctorEntry {
    let (allowed, source) = match &seen.facts.confined.cpuset {
        Some((cores, file)) => (Some(cores), file.as_str()),
        None => (None, "sched_getaffinity(2)"),
    };
    let outside: Vec<usize> = seen
        .cores
        .iter()
        .copied()
        .filter(|core| allowed.is_some_and(|allowed| !allowed.contains(core)))
        .collect();
    let left = allowed
        .map_or_else(String::new, |allowed| format!("; the control group leaves it {}", list(allowed)));
    entry(
        "workers",
        Is::fail_if(seen.cores.is_empty() || !outside.is_empty()),
        format!("on {}{left}", cores_named(seen.cores)),
        source,
        match allowed {
            Some(allowed) => format!("scaled --cores {}, or widen the group's cpuset", list(allowed)),
            None => "scaled --cores LIST".into(),
        },
    )
}

/// Cores that workers would have if each had a physical one for itself, off the control thread's.
fn apart(seen: &Seen<'_>, cores: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let siblings = |core: usize| seen.facts.cpus.each.get(&core).map_or(&[][..], |cpu| &cpu.siblings[..]);
    let control = &seen.facts.confined.control_cores;
    let mut taken: BTreeSet<usize> = BTreeSet::new();
    if let [control] = control[..] {
        taken.extend(siblings(control).iter().chain([&control]));
    }
    let mut kept = Vec::new();
    for core in cores {
        if !taken.contains(&core) {
            taken.extend(siblings(core).iter().chain([&core]));
            kept.push(core);
        }
    }
    kept
}

fn control(seen: &Seen<'_>) -> DoctorEntry {
    let control = &seen.facts.confined.control_cores;
    let shared: Vec<usize> = control.iter().copied().filter(|core| seen.cores.contains(core)).collect();
    let fewer = list(seen.cores.get(1..).unwrap_or_default());
    entry(
        "control thread",
        Is::warn_if(!shared.is_empty()),
        match (control.is_empty(), shared.is_empty()) {
            (true, _) => "unknown".into(),
            (false, true) => format!("on {}, where no worker runs", cores_named(control)),
            (false, false) => format!("shares {} with workers", cores_named(&shared)),
        },
        "/proc/self/status",
        if seen.cores.len() > 1 {
            format!("scaled --cores {fewer}")
        } else {
            "give this host a second core".into()
        },
    )
}

fn siblings(seen: &Seen<'_>) -> DoctorEntry {
    let source = format!("{CPU}/cpu*/topology/thread_siblings_list");
    let cpus = &seen.facts.cpus.each;
    let is_smt = cpus.values().any(|cpu| cpu.siblings.len() > 1);
    if !is_smt {
        let value = if cpus.is_empty() { "unknown" } else { "no core has any" };
        return ok("SMT siblings", value, source);
    }
    let kept = apart(seen, seen.cores.iter().copied());
    let crowded: Vec<usize> = seen.cores.iter().copied().filter(|core| !kept.contains(core)).collect();
    entry(
        "SMT siblings",
        Is::warn_if(!crowded.is_empty()),
        if crowded.is_empty() {
            "each worker has a physical core for itself".into()
        } else {
            format!(
                "on {} a worker shares a physical core with another thread of ours",
                cores_named(&crowded)
            )
        },
        source,
        if kept.is_empty() {
            "echo off > /sys/devices/system/cpu/smt/control".into()
        } else {
            format!("scaled --cores {}", list(&kept))
        },
    )
}

fn isolated(seen: &Seen<'_>) -> DoctorEntry {
    let (isolated, tickless) = (&seen.facts.cpus.isolated, &seen.facts.cpus.tickless);
    let outside = seen.cores.iter().any(|core| !isolated.contains(core));
    let idle = isolated.iter().any(|core| !seen.cores.contains(core));
    entry(
        "isolated cores",
        Is::warn_if(outside && idle),
        format!("isolcpus {}, nohz_full {}", list(isolated), list(tickless)),
        format!("{CPU}/{{isolated,nohz_full}}"),
        format!("scaled --cores {}", list(isolated)),
    )
}

fn governor(seen: &Seen<'_>) -> DoctorEntry {
    let source = format!("{CPU}/cpu*/cpufreq/scaling_governor");
    let governors: BTreeSet<&str> =
        seen.cores.iter().filter_map(|core| seen.facts.cpus.each.get(core)?.governor.as_deref()).collect();
    if governors.is_empty() {
        return ok("governor", "no cpufreq here: the hardware or the host decides", source);
    }
    let names: Vec<&str> = governors.into_iter().collect();
    entry(
        "governor",
        Is::warn_if(names.iter().any(|&name| name != "performance")),
        format!("{} on workers' cores", names.join(", ")),
        source,
        format!("echo performance | tee {CPU}/cpu*/cpufreq/scaling_governor"),
    )
}

fn idle(seen: &Seen<'_>) -> DoctorEntry {
    let source = format!("{CPU}/cpu*/cpuidle/state*/{{latency,disable}}");
    let states = || {
        let cpus = seen.cores.iter().filter_map(|core| seen.facts.cpus.each.get(core));
        cpus.flat_map(|cpu| &cpu.idle).filter(|state| !state.is_disabled)
    };
    let Some(deepest) = states().max_by_key(|state| state.latency_us) else {
        return ok("C-states", "not this kernel's choice: the hardware or the host decides", source);
    };
    let slow: BTreeSet<usize> =
        states().filter(|state| state.latency_us > WAKE_MAX_US).map(|state| state.number).collect();
    let slow = slow.iter().map(ToString::to_string).collect::<String>();
    entry(
        "C-states",
        Is::warn_if(!slow.is_empty()),
        format!("as deep as {}, {} us to wake", deepest.name, thousands(deepest.latency_us)),
        source,
        format!("echo 1 | tee {CPU}/cpu*/cpuidle/state[{slow}]/disable"),
    )
}

/// Either way is fine, but runs that differ in it do not compare.
fn boost(seen: &Seen<'_>) -> DoctorEntry {
    match seen.facts.cpus.boost {
        Some((true, file)) => ok("boost", "on: rates vary with load and heat", file),
        Some((false, file)) => ok("boost", "off", file),
        None => ok("boost", "not this kernel's choice", format!("{CPU}/cpufreq/boost")),
    }
}

fn quota(seen: &Seen<'_>) -> DoctorEntry {
    let workers = seen.cores.len();
    let Some(quota) = seen.facts.cpu_quota else {
        return ok("CPU quota", "none", "cpu.max, cpu.cfs_quota_us");
    };
    let is = match quota {
        // A group that has used its quota stands still for the rest of the period, 100 ms mostly.
        quota if quota < workers as f64 => Is::Fail,
        quota => Is::warn_if(quota < workers as f64 + 1.0),
    };
    entry(
        "CPU quota",
        is,
        format!("{quota} cores for {workers} workers and the control thread"),
        seen.facts.cpu_quota_file.as_deref().unwrap_or("cpu.max"),
        format!("lift it (CPUQuota= of the unit, limits.cpu of the pod), or raise it to {}", workers + 1),
    )
}

fn machine(seen: &Seen<'_>) -> DoctorEntry {
    let Some(hypervisor) = &seen.facts.cpus.hypervisor else {
        return ok("virtual machine", "no", "/proc/cpuinfo, /sys/hypervisor");
    };
    let (now, since_boot) = (seen.others.steal, seen.others.steal_since_boot);
    let is_much = now.is_some_and(|share| share > STEAL_MAX)
        || since_boot.is_some_and(|share| share > STEAL_SINCE_BOOT_MAX);
    entry(
        "virtual machine",
        Is::warn_if(is_much),
        format!(
            "{hypervisor}; CPU time stolen: {} now, {} since boot",
            shown(now, percent),
            shown(since_boot, percent)
        ),
        "/proc/cpuinfo, /proc/stat",
        "give it cores of its own: a dedicated or larger machine, or pinned virtual CPUs",
    )
}
