//! Clocks: what reading one costs, and whether the wall clock is right.

use scale_api::http::DoctorEntry;

use super::{Is, Seen, entry};

/// Sources that are read without a system call (vDSO).
const FAST: [&str; 5] =
    ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];
/// Marks and the target's own series are matched by second, in µs.
const ERROR_MAX_US: u64 = 100_000;

pub fn examine(seen: &Seen<'_>) -> Vec<DoctorEntry> {
    vec![source(seen), discipline(seen)]
}

fn source(seen: &Seen<'_>) -> DoctorEntry {
    let file = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let Some((current, available)) = &seen.facts.clock_source else {
        return super::ok("clock source", "unknown", file);
    };
    let faster = available.iter().find(|name| FAST.contains(&name.as_str()));
    entry(
        "clock source",
        Is::warn_if(!FAST.contains(&current.as_str())),
        current,
        file,
        match faster {
            Some(faster) => format!("echo {faster} > {file}"),
            None => "boot with tsc=reliable, or ask the machine's provider for a stable TSC".into(),
        },
    )
}

fn discipline(seen: &Seen<'_>) -> DoctorEntry {
    let Some(clock) = seen.facts.discipline else {
        return super::ok("wall clock", "unknown", "adjtimex(2)");
    };
    let ms = |us: u64| us as f64 / 1e3;
    let value = if clock.is_synchronised {
        format!(
            "synchronised, {:.1} ms off at most, {:.1} ms likely",
            ms(clock.error_max_us),
            ms(clock.error_us)
        )
    } else {
        "not synchronised".into()
    };
    entry(
        "wall clock",
        Is::warn_if(!clock.is_synchronised || clock.error_max_us > ERROR_MAX_US),
        value,
        "adjtimex(2)",
        "timedatectl set-ntp true, or start chronyd",
    )
}
