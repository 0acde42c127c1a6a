//! What else runs here.

use scale_api::http::DoctorEntry;

use super::{Is, Seen, entry, percent, shown};

/// Programs that make load, by the names of their processes.
const GENERATORS: [&str; 25] = [
    "ab",
    "artillery",
    "autocannon",
    "bombardier",
    "fortio",
    "gatling",
    "ghz",
    "goose",
    "h2load",
    "hey",
    "httperf",
    "iperf",
    "iperf3",
    "jmeter",
    "k6",
    "locust",
    "netperf",
    "oha",
    "scaled",
    "siege",
    "tsung",
    "vegeta",
    "wrk",
    "wrk2",
    "scale-bench",
];
/// Of one core: what takes more is felt by a worker that has to share with it.
const BUSY_MAX: f64 = 0.2;
/// Share of the last 10 s in which something waited for a core.
const PRESSURE_MAX: f64 = 0.1;
/// Processes that are named.
const NAMED_MAX: usize = 5;

pub fn examine(seen: &Seen<'_>) -> Vec<DoctorEntry> {
    vec![generators(seen), busy(seen), load(seen)]
}

fn named(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    let names = names.join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}

fn generators(seen: &Seen<'_>) -> DoctorEntry {
    let found = seen.others.running.iter().filter(|(_, name)| GENERATORS.contains(&name.as_str()));
    let found: Vec<&(u32, String)> = found.collect();
    let pids: Vec<String> = found.iter().take(NAMED_MAX).map(|(pid, _)| pid.to_string()).collect();
    entry(
        "load generators",
        Is::warn_if(!found.is_empty()),
        if found.is_empty() {
            "no other runs here".into()
        } else {
            named(found.iter().map(|(pid, name)| format!("{name} ({pid})")).collect())
        },
        "/proc/*/stat",
        format!("let it end, or end it: kill {}", pids.join(" ")),
    )
}

fn busy(seen: &Seen<'_>) -> DoctorEntry {
    let busy: Vec<&(u32, String, f64)> =
        seen.others.busy.iter().filter(|(.., cores)| *cores > BUSY_MAX).collect();
    let shown = |(pid, name, cores): &&(u32, String, f64)| format!("{name} ({pid}) {:.0} %", cores * 100.0);
    entry(
        "busy processes",
        Is::warn_if(!busy.is_empty()),
        if busy.is_empty() {
            format!("none above {:.0} % of a core", BUSY_MAX * 100.0)
        } else {
            format!("{} of a core", named(busy.iter().map(shown).collect()))
        },
        "/proc/*/stat",
        busy.first().map_or_else(String::new, |(pid, ..)| {
            format!("let it end, or keep it off the workers' cores: taskset -acp CORES {pid}")
        }),
    )
}

fn load(seen: &Seen<'_>) -> DoctorEntry {
    let (load, pressure) = (seen.facts.load, seen.facts.cpu_pressure);
    let cores = seen.facts.cpus.each.len();
    let is_high = load.is_some_and(|[now, ..]| cores > 0 && now > cores as f64)
        || pressure.is_some_and(|share| share > PRESSURE_MAX);
    let waited = pressure.map_or_else(String::new, |share| {
        format!("; in {} of the last 10 s something waited for one", percent(share))
    });
    entry(
        "load",
        Is::warn_if(is_high),
        format!("{} on {cores} cores{waited}", shown(load, |[now, ..]| format!("{now:.1}"))),
        "/proc/loadavg, /proc/pressure/cpu",
        "see what runs (top), and wait until it is done",
    )
}
