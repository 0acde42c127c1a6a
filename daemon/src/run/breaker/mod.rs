//! What protects a target that is not well from a run: connects to it are held where many fail ([`circuit`]), and
//! the run ends where nothing comes back of it ([`silence`]).
//!
//! Seconds of figures in, decisions out; the supervisor asks each second and tells the workers. Failures that are this
//! host's own (no ports, no descriptors) count neither way.

pub mod circuit;
pub mod silence;

use std::sync::Arc;

use self::circuit::{Change, Circuit, PROBES, WINDOW_S};
use self::silence::{Silence, Silent};
use crate::load::{Group, Traffic};
use crate::stream::class::{Blame, Class};
use crate::stream::flow::Standing;
use crate::stream::meter::{Cell, Counters};
use crate::worker::share::{GroupGauges, GroupPhase};

/// Marks that breakers put on a run's time line; what they do beyond that is only counted.
const MARKS_MAX: u32 = 100;

/// What workers are to be told, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The group's index.
    pub group: usize,
    /// The target's among the group's.
    pub target: u16,
    /// Attempts that it gets from now on; `None`: any number.
    pub permits: Option<u32>,
    /// For the log.
    pub said: String,
    /// For the time line.
    pub mark: Option<String>,
}

/// Breakers of a run.
pub struct Breakers {
    groups: Arc<[Group]>,
    /// By group and target, as far as the group has breakers.
    targets: Vec<Of>,
    silences: Vec<Silence>,
    /// Counters of each group at the last second.
    before: Vec<Counters>,
    marks: u32,
    ending: Option<String>,
}

/// One breaker.
struct Of {
    group: usize,
    target: usize,
    circuit: Circuit,
    /// Streams opened and attempts failed so far, as of the last second.
    before: (u64, u64),
    /// How often it has opened, and for how many seconds it has not been closed.
    opened: u64,
    held_s: u64,
    /// Why it opened last.
    why: String,
}

/// A second, as all workers saw it.
pub struct Seen<'a> {
    /// Its number, and how many it covers.
    pub at: u64,
    /// See there.
    pub seconds: u64,
    /// Of each worker: counters so far, and gauges of its groups.
    pub workers: &'a [(&'a [Cell], &'a [GroupGauges])],
    /// The run is paused.
    pub is_paused: bool,
}

impl Seen<'_> {
    fn standing(&self, group: usize, standing: Standing) -> u64 {
        let gauges = self.workers.iter().filter_map(|(_, gauges)| gauges.get(group));
        gauges.map(|gauges| u64::from(gauges.standing[standing as usize])).sum()
    }

    fn is_sending(&self, group: usize) -> bool {
        let sends = |phase| matches!(phase, GroupPhase::Ramping | GroupPhase::WarmUp | GroupPhase::Steady);
        !self.is_paused && self.workers.iter().any(|(_, of)| of.get(group).is_some_and(|of| sends(of.phase)))
    }
}

impl Breakers {
    /// All closed.
    pub fn new(groups: Arc<[Group]>) -> Self {
        let mut targets = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            let Some(share) = group.breaker_milli else { continue };
            let attempt_s = group.connect_timeout_ns.div_ceil(1_000_000_000) + 1;
            targets.extend((0..group.targets.len()).map(|target| Of {
                group: index,
                target,
                circuit: Circuit::new(share, attempt_s),
                before: (0, 0),
                opened: 0,
                held_s: 0,
                why: String::new(),
            }));
        }
        Self {
            targets,
            silences: vec![Silence::default(); groups.len()],
            before: vec![Counters::default(); groups.len()],
            groups,
            marks: 0,
            ending: None,
        }
    }

    /// Takes a second.
    pub fn take(&mut self, seen: &Seen<'_>) -> Vec<Told> {
        let by_target = by_target(&self.groups, seen.workers);
        let mut told = Vec::new();
        for of in &mut self.targets {
            let group = &self.groups[of.group];
            let sum = &by_target[of.group][of.target];
            let now = (sum.connects, failed(sum));
            let before = std::mem::replace(&mut of.before, now);
            if !seen.is_sending(of.group) {
                if !seen.is_paused {
                    of.circuit.rest();
                }
                continue;
            }
            of.held_s += if of.circuit.is_closed() { 0 } else { seen.seconds };
            let change = of.circuit.take(circuit::Second {
                seconds: seen.seconds,
                opened: now.0 - before.0,
                failed: now.1 - before.1,
                under_way: seen.standing(of.group, Standing::Connecting),
            });
            let Some(change) = change else { continue };
            let mut one = of.tell(group, change, sum);
            self.marks += u32::from(one.mark.is_some());
            if self.marks > MARKS_MAX {
                one.mark = None;
            }
            told.push(one);
        }
        self.listen(seen, &by_target);
        told
    }

    fn listen(&mut self, seen: &Seen<'_>, by_target: &[Vec<Counters>]) {
        for (index, group) in self.groups.iter().enumerate() {
            let mut now = Counters::default();
            by_target[index].iter().for_each(|counters| now.add(counters));
            let before = std::mem::replace(&mut self.before[index], now);
            let now = &self.before[index];
            let Some(limit_s) = group.silence_ns.map(|ns| ns.div_ceil(1_000_000_000)) else { continue };
            if !seen.is_sending(index) {
                self.silences[index].rest();
                continue;
            }
            let asked = |of: &Counters| of.ticks_due - of.missed_generator;
            let second = silence::Second {
                seconds: seen.seconds,
                is_echo: group.traffic == Traffic::Echo,
                asked: asked(now) - asked(&before),
                received: now.payload_received - before.payload_received,
                open: seen.standing(index, Standing::Open),
                opened: now.connects - before.connects,
                failed: failed(now) - failed(&before),
            };
            let silent = self.silences[index].take(&second, limit_s);
            if let Some(silent) = silent.filter(|_| self.ending.is_none()) {
                self.ending = Some(ended(group, silent, limit_s, seen.at));
            }
        }
    }

    /// Why silence ends the run, once it has lasted.
    pub fn ending(&self) -> Option<&str> {
        self.ending.as_deref()
    }

    /// Whether connects of a group are held just now, or few.
    pub fn is_open(&self, group: usize) -> bool {
        self.targets.iter().any(|of| of.group == group && !of.circuit.is_closed())
    }

    /// A sentence of each breaker that is not closed.
    pub fn standing(&self) -> impl Iterator<Item = String> {
        let open = self.targets.iter().filter(|of| !of.circuit.is_closed());
        open.map(|of| format!("{}; what is open goes on", of.why))
    }

    /// What breakers came to, a sentence of each that has opened.
    pub fn summary(&self) -> Vec<String> {
        let opened = self.targets.iter().filter(|of| of.opened > 0);
        opened
            .map(|of| {
                let (whom, times) = (whom(&self.groups[of.group], of.target), times(of.opened));
                format!("{whom}: its circuit breaker opened {times} and held connects for {} s", of.held_s)
            })
            .collect()
    }
}

impl Of {
    fn tell(&mut self, group: &Group, change: Change, sum: &Counters) -> Told {
        let whom = whom(group, self.target);
        let (permits, said, mark) = match change {
            Change::Open { pause_s, failed, ended, is_first } => {
                self.opened += u64::from(is_first);
                let among = if is_first { format!(" in {WINDOW_S} s") } else { " probes".into() };
                let class = most_frequent(sum);
                self.why = format!(
                    "{whom}: circuit breaker open, {failed} of {ended} connects{among} failed (most: {class}), the next try in {pause_s} s"
                );
                (Some(0), self.why.clone(), is_first.then(|| format!("breaker of {whom} opened: {class}")))
            }
            Change::Probe => {
                self.why = format!("{whom}: circuit breaker half-open, {PROBES} connects are tried");
                (Some(PROBES), self.why.clone(), None)
            }
            Change::Close => {
                let said = format!("{whom}: circuit breaker closed, connects go on");
                (None, said, Some(format!("breaker of {whom} closed")))
            }
        };
        let mark =
            mark.map(|text| crate::run::marks::cut(&text, crate::run::marks::MARK_BYTES_MAX).to_owned());
        Told { group: self.group, target: self.target as u16, permits, said, mark }
    }
}

/// Attempts that failed, but for what this host could not do.
fn failed(counters: &Counters) -> u64 {
    let entries = counters.failures.entries();
    entries.filter(|(class, _)| class.blame() != Blame::Generator).map(|(_, count)| count).sum()
}

fn most_frequent(counters: &Counters) -> &'static str {
    let entries = counters.failures.entries().filter(|(class, _)| class.blame() != Blame::Generator);
    entries.max_by_key(|(_, count)| *count).map_or("none", |(class, _): (Class, u64)| class.name())
}

/// A group, and its target where it has several.
fn whom(group: &Group, target: usize) -> String {
    if group.targets.len() == 1 {
        return format!("group {}", group.name);
    }
    format!("group {}, {}", group.name, group.targets[target])
}

fn times(count: u64) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

fn ended(group: &Group, silent: Silent, limit_s: u64, at: u64) -> String {
    let (name, targets) = (&group.name, group.targets.len());
    let of = if targets == 1 { "its target" } else { "its targets" };
    let what = match silent {
        Silent::Mute => format!("nothing came back from {of}"),
        Silent::Down => format!("no stream was open and {of} let none in"),
    };
    format!("group {name}: {what} for {limit_s} s, so the run ended at second {at} (--silence)")
}

/// Counters by group and target, over all workers and stages.
fn by_target(groups: &[Group], workers: &[(&[Cell], &[GroupGauges])]) -> Vec<Vec<Counters>> {
    let mut first_cell = 0;
    let mut all = Vec::with_capacity(groups.len());
    for group in groups {
        let cells = group.cells(first_cell);
        first_cell = cells.end;
        let mut targets = vec![Counters::default(); group.targets.len()];
        for (of_worker, _) in workers {
            for (offset, cell) in of_worker.iter().skip(cells.start).take(cells.len()).enumerate() {
                targets[offset % group.targets.len()].add(&cell.counters);
            }
        }
        all.push(targets);
    }
    all
}

#[cfg(test)]
mod tests;
