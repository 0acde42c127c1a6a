//! The kernel, and whether it lets us use io_uring.

use scale_api::http::DoctorEntry;
use scale_ring::SetupError;

use super::{Is, Seen, entry, ok, shown};

pub fn examine(seen: &Seen<'_>) -> Vec<DoctorEntry> {
    let mut entries = vec![kernel(seen), io_uring(seen), gate(seen), seccomp(seen)];
    if let Ok(features) = seen.features {
        entries.extend(features.table().map(|(name, is_there, since)| {
            entry(
                format!("io_uring {name}"),
                Is::warn_if(!is_there),
                if is_there { "yes" } else { "no; a fallback is in use" },
                "trial set-up",
                format!("boot Linux {since} or later"),
            )
        }));
    }
    entries
}

fn kernel(seen: &Seen<'_>) -> DoctorEntry {
    let value = shown(seen.facts.kernel.clone(), |release| match &seen.facts.kernel_build {
        Some(build) => format!("{release} ({build})"),
        None => release,
    });
    let is = Is::warn_if(seen.facts.kernel.is_none());
    entry("kernel", is, value, "/proc/sys/kernel/{osrelease,version}", "mount -t proc proc /proc")
}

fn io_uring(seen: &Seen<'_>) -> DoctorEntry {
    match seen.features {
        Ok(_) => ok("io_uring", "usable", "trial set-up"),
        Err(error) => entry("io_uring", Is::Fail, "not usable", "trial set-up", error.to_string()),
    }
}

/// What the sysctl says may be otherwise after the next start, so it counts where the trial went well, too.
fn gate(seen: &Seen<'_>) -> DoctorEntry {
    let group = seen.facts.io_uring_group.unwrap_or(-1);
    let value = match seen.facts.io_uring_disabled {
        None => "no such switch before Linux 6.6".into(),
        Some(0) => "0: open to all".into(),
        Some(1) if group < 0 => "1: for CAP_SYS_ADMIN alone".into(),
        Some(1) => format!("1: for group {group} and CAP_SYS_ADMIN alone"),
        Some(other) => format!("{other}: closed to all"),
    };
    let is = match (seen.facts.io_uring_disabled, seen.features) {
        (_, Err(SetupError::Disabled(_))) => Is::Fail,
        (Some(1) | None, _) => Is::Ok,
        (Some(other), _) => Is::warn_if(other > 1),
    };
    entry(
        "io_uring switch",
        is,
        value,
        "/proc/sys/kernel/io_uring_{disabled,group}",
        "sysctl -w kernel.io_uring_disabled=0; or 1, and kernel.io_uring_group=$(id -g scaled)",
    )
}

fn seccomp(seen: &Seen<'_>) -> DoctorEntry {
    let confined = &seen.facts.confined;
    let mode = shown(confined.seccomp, |mode| match (mode, confined.filters) {
        (0, _) => "none".into(),
        (2, Some(filters)) => format!("by filters ({filters})"),
        (2, None) => "by filters".into(),
        (mode, _) => format!("mode {mode}"),
    });
    let container =
        confined.container.as_deref().map_or_else(|| "no container".into(), |kind| format!("in {kind}"));
    let is = Is::fail_if(matches!(seen.features, Err(SetupError::Forbidden)));
    entry(
        "seccomp",
        is,
        format!("{mode}, {container}"),
        "/proc/self/status",
        "allow io_uring_setup, io_uring_enter and io_uring_register in the profile: --security-opt seccomp=FILE",
    )
}
