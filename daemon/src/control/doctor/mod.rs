//! Is this host fit for load: each fact with what it means, where it was read, and the command that mends it. What is
//! judged how, and why, is a table in docs/doctor.md.
//!
//! Looking takes up to [`SAMPLE`] and reads hundreds of files, so it is never done on the control thread.

mod cards;
mod clock;
mod cores;
mod kernel;
mod others;
mod process;
mod stack;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use scale_api::http::DoctorEntry;
use scale_ring::host::facts::{Others, Sample};
use scale_ring::host::{self, Facts};
use scale_ring::{Features, SetupError, Time};

use super::resolve::spawn;
use crate::run::plan::Plan;

/// Others' share of the host is measured over at least this: /proc counts in 10 ms.
const SAMPLE: Duration = Duration::from_millis(150);
/// An earlier look's counters serve as long as they tell of the present.
const SAMPLE_MAX: Duration = Duration::from_secs(10);
/// Warnings that a start names.
const NAMED_MAX: usize = 4;

/// Looks at this host.
pub struct Doctor {
    /// The cores that workers run on.
    pub cores: Vec<usize>,
    last: Mutex<Option<Last>>,
}

/// What the last look left.
struct Last {
    at: Time,
    sample: Sample,
    entries: Vec<DoctorEntry>,
}

/// What was seen.
pub struct Look {
    /// As read.
    pub facts: Facts,
    /// Whether sockets fit into rings' own tables.
    pub direct_descriptors: bool,
    /// As judged.
    pub entries: Vec<DoctorEntry>,
}

impl Doctor {
    /// For workers on `cores`.
    pub const fn new(cores: Vec<usize>) -> Self {
        Self { cores, last: Mutex::new(None) }
    }

    /// Looks, on a thread that may stand still. It waits until there is a time to measure over, where no other look was
    /// lately.
    pub fn look(&self) -> Look {
        let root = Path::new("/");
        let facts = Facts::read(root);
        let now = host::monotonic_now();
        let features = Features::probe();
        let earlier = self.last().as_ref().map(|last| (last.at, last.sample.clone()));
        let earlier = earlier.filter(|(at, _)| (SAMPLE..SAMPLE_MAX).contains(&now.since(*at)));
        let (at, sample, others) = if let Some((at, before)) = earlier {
            (now, facts.sample.clone(), facts.sample.since(&before, now.since(at).as_secs_f64()))
        } else {
            std::thread::sleep(SAMPLE);
            let sample = Facts::sample(root);
            let later = host::monotonic_now();
            let others = sample.since(&facts.sample, later.since(now).as_secs_f64());
            (later, sample, others)
        };
        let seen = Seen { facts: &facts, features: &features, cores: &self.cores, others: &others };
        let entries = examine(&seen);
        *self.last() = Some(Last { at, sample, entries: entries.clone() });
        let direct_descriptors = features.is_ok_and(|features| features.direct_descriptors);
        Look { facts, direct_descriptors, entries }
    }

    /// What the last look said; empty before the first one's end.
    pub fn kept(&self) -> Vec<DoctorEntry> {
        self.last().as_ref().map_or_else(Vec::new, |last| last.entries.clone())
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look that the control thread does not wait for.
pub struct Looking(Option<mpsc::Receiver<Vec<DoctorEntry>>>);

impl Looking {
    /// The first look.
    pub fn start(doctor: &Arc<Doctor>) -> Self {
        let mut looking = Self(None);
        looking.begin(doctor);
        looking
    }

    /// Looks anew; meanwhile, what was last seen.
    pub fn begin(&mut self, doctor: &Arc<Doctor>) -> Vec<DoctorEntry> {
        let (answer, seen) = mpsc::channel();
        let looks = doctor.clone();
        // Without a thread there is what was last seen.
        let begun = spawn("doctor", move || {
            // Nobody waits any more where another look has begun.
            let _ = answer.send(looks.look().entries);
        });
        self.0 = begun.is_ok().then_some(seen);
        doctor.kept()
    }

    /// What was seen, once.
    pub fn done(&mut self) -> Option<Vec<DoctorEntry>> {
        let seen = self.0.as_ref()?.try_recv().ok();
        if seen.is_some() {
            self.0 = None;
        }
        seen
    }
}

/// What a start says of the host in one line, the worst first; `None`: all is well.
pub fn summary(entries: &[DoctorEntry]) -> Option<String> {
    let of = |status: &str| -> Vec<&str> {
        entries.iter().filter(|entry| entry.status == status).map(|entry| entry.name.as_str()).collect()
    };
    let (fails, warns) = (of("fail"), of("warn"));
    let count = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        more => Some(format!("{more} {what}s")),
    };
    let counts = [count(fails.len(), "failure"), count(warns.len(), "warning")];
    let counts = counts.into_iter().flatten().collect::<Vec<_>>().join(" and ");
    let names = [fails, warns].concat();
    let named = names[..names.len().min(NAMED_MAX)].join(", ");
    let more = count(names.len().saturating_sub(NAMED_MAX), "other");
    let more = more.map_or_else(String::new, |more| format!(" and {more}"));
    (!names.is_empty())
        .then(|| format!("doctor has {counts} of this host ({named}{more}); see `scalectl doctor`"))
}

/// What is to be said of the cards towards a plan's targets, beside what stands there for any run.
pub fn towards(plan: &Plan) -> Vec<DoctorEntry> {
    let interfaces = crate::run::fit::interfaces(plan, &plan.host);
    cards::towards(&plan.cores, &plan.host.facts, &interfaces)
}

/// What is judged.
pub struct Seen<'a> {
    /// As read.
    pub facts: &'a Facts,
    /// What rings can do here.
    pub features: &'a Result<Features, SetupError>,
    /// The cores that workers run on.
    pub cores: &'a [usize],
    /// What runs beside us.
    pub others: &'a Others,
}

/// Judges all of it, in the order of docs/doctor.md.
pub fn examine(seen: &Seen<'_>) -> Vec<DoctorEntry> {
    let mut entries = kernel::examine(seen);
    entries.extend(process::examine(seen));
    entries.extend(cores::examine(seen));
    entries.extend(clock::examine(seen));
    entries.extend(stack::examine(seen));
    entries.extend(cards::examine(seen));
    entries.extend(others::examine(seen));
    entries
}

/// How a fact is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Ok,
    Warn,
    Fail,
}

impl Is {
    const fn warn_if(is: bool) -> Self {
        if is { Self::Warn } else { Self::Ok }
    }

    const fn fail_if(is: bool) -> Self {
        if is { Self::Fail } else { Self::Ok }
    }
}

fn entry(
    name: impl Into<String>,
    is: Is,
    value: impl Into<String>,
    source: impl Into<String>,
    remedy: impl Into<String>,
) -> DoctorEntry {
    let status = match is {
        Is::Ok => "ok",
        Is::Warn => "warn",
        Is::Fail => "fail",
    };
    DoctorEntry {
        name: name.into(),
        status: status.into(),
        value: value.into(),
        source: source.into(),
        remedy: (is != Is::Ok).then(|| remedy.into()),
    }
}

fn ok(name: impl Into<String>, value: impl Into<String>, source: impl Into<String>) -> DoctorEntry {
    entry(name, Is::Ok, value, source, "")
}

/// A value, or that it cannot be known.
fn shown<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "unknown".into(), show)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn size(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} GB", bytes / 1e9),
    }
}

/// Cores as people name them: `core 3`, `cores 0-3,8`.
fn cores_named(cores: &[usize]) -> String {
    format!("core{} {}", if cores.len() == 1 { "" } else { "s" }, list(cores))
}

/// Cores as `--cores` takes them: `0-3,8`.
fn list(cores: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match runs.last_mut() {
            Some((_, to)) if core == *to + 1 => *to = core,
            _ => runs.push((core, core)),
        }
    }
    let run = |(from, to): (usize, usize)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    if runs.is_empty() { "none".into() } else { runs.into_iter().map(run).collect::<Vec<_>>().join(",") }
}
