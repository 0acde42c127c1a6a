//! Is this host fit for load: each fact with where it was read and the command that mends it.

use scale_api::http::DoctorEntry;
use scale_ring::host::{self, Facts};
use scale_ring::{Features, SetupError};

fn entry(name: &str, fine: bool, bad: &str, value: String, source: &str, remedy: &str) -> DoctorEntry {
    DoctorEntry {
        name: name.into(),
        status: if fine { "ok" } else { bad }.into(),
        value,
        source: source.into(),
        remedy: (!fine).then(|| remedy.to_owned()),
    }
}

/// Judges facts.
pub fn examine(
    facts: &Facts,
    features: &Result<Features, SetupError>,
    cores: &[usize],
    nofile: u64,
) -> Vec<DoctorEntry> {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "unknown".into());
    let mut entries = vec![
        entry(
            "kernel",
            facts.kernel.is_some(),
            "warn",
            shown(facts.kernel.clone()),
            "/proc/sys/kernel/osrelease",
            "mount /proc",
        ),
        match features {
            Ok(_) => entry("io_uring", true, "fail", "usable".into(), "trial set-up", ""),
            Err(error) => {
                entry("io_uring", false, "fail", "not usable".into(), "trial set-up", &error.to_string())
            }
        },
    ];
    if let Ok(features) = features {
        for (name, there, since) in features.table() {
            let remedy = format!("Linux {since} or later has it; a fallback is in use");
            entries.push(entry(
                &format!("io_uring {name}"),
                there,
                "warn",
                if there { "yes" } else { "no" }.into(),
                "trial set-up",
                &remedy,
            ));
        }
    }
    entries.push(entry(
        "open files",
        nofile >= 20_000,
        "warn",
        nofile.to_string(),
        "RLIMIT_NOFILE",
        "LimitNOFILE=1048576 in the unit; it bounds a ring's table of sockets",
    ));
    if let Some((from, to)) = facts.port_range {
        let text = format!("{from} to {to}; ports are chosen by scaled itself");
        entries.push(entry("source ports", true, "warn", text, "/proc/sys/net/ipv4/ip_local_port_range", ""));
    }
    let backlog = facts.somaxconn;
    entries.push(entry(
        "listen backlog",
        backlog.is_some_and(|n| n >= 4096),
        "warn",
        shown(backlog.map(|n| n.to_string())),
        "/proc/sys/net/core/somaxconn",
        "sysctl -w net.core.somaxconn=65535",
    ));
    entries.push(entry(
        "cores",
        !cores.is_empty(),
        "fail",
        format!("{cores:?}"),
        "sched_getaffinity",
        "--cores",
    ));
    if let Some(quota) = facts.cpu_quota {
        entries.push(entry(
            "CPU quota",
            quota >= cores.len() as f64,
            "fail",
            format!("{quota} cores"),
            "/sys/fs/cgroup/cpu.max",
            "lift the cgroup's CPU limit",
        ));
    }
    if let Some(used) = facts.swap_used {
        entries.push(entry(
            "swap",
            used == 0,
            "warn",
            format!("{used} B in use"),
            "/proc/meminfo",
            "swapoff -a",
        ));
    }
    entries
}

/// Judges this host.
pub fn this_host(cores: &[usize]) -> Vec<DoctorEntry> {
    let facts = Facts::read(std::path::Path::new("/"));
    examine(&facts, &Features::probe(), cores, host::nofile_limit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_io_uring_and_with_half_a_core_fails_with_the_cure() {
        let facts = Facts { cpu_quota: Some(0.5), ..Facts::default() };
        let entries = examine(&facts, &Err(SetupError::Disabled(2)), &[0], 1024);
        let failed: Vec<&str> =
            entries.iter().filter(|e| e.status == "fail").map(|e| e.name.as_str()).collect();
        assert_eq!(failed, ["io_uring", "CPU quota"]);
        assert!(
            entries
                .iter()
                .any(|e| e.remedy.as_deref().is_some_and(|text| text.contains("io_uring_disabled=0")))
        );
        assert!(entries.iter().all(|e| (e.status == "ok") == e.remedy.is_none()));
    }
}
