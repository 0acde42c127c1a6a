//! A run while it goes: its workers' snapshots become one event a second, metrics, checkpoints,
//! and at last the report.

mod disruptions;
mod report;
mod second;

pub use report::ByGroup;

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use scale_api::http::{DoctorEntry, Problem, ProblemCode, SetRequest};
use scale_api::report::Event;
use scale_api::spec::{self, Spec};
use scale_ring::{Time, host};

use crate::stream::meter::{Counters, Histograms};
use crate::worker::share::GroupPhase;
use crate::worker::{Command, Snapshot};

use super::breaker::Breakers;
use super::disruption::Disruptions;
use super::failures::{Failed, Failures};
use super::fleet::Fleet;
use super::hlog::Logged;
use super::judge::Judge;
use super::marks::Marks;
use super::observe::{Observed, Sample};
use super::parts::{OpenAtEnd, OpenMax};
use super::pauses::Pauses;
use super::plan::demand::gates;
use super::plan::{Plan, base_pace};
use super::saturation::Saturation;
use super::series::Series;
use super::targets::{Permit, Targets};
use super::workers::{self, Engine, Hand};

/// From the start's answer to the run's start: workers set up their rings meanwhile.
const LEAD_NS: u64 = 50_000_000;

/// Refused addresses are said as long as there are no more warnings than these.
const WARNINGS_MAX: usize = 100;

/// A going run.
pub struct Supervisor {
    /// Its id.
    pub id: String,
    plan: Plan,
    spec: Spec,
    /// The run as `set` has changed it.
    wanted: Spec,
    receiver: Receiver<Snapshot>,
    workers: Vec<Hand>,
    started: Time,
    started_at: f64,
    second: u64,
    before: Counters,
    /// What was measured in the last second: in all, and by group.
    measured: (Histograms, Vec<Histograms>),
    series: Series,
    logged: Logged,
    marks: Marks,
    disruptions: Disruptions,
    /// By group: its streams close because its time is over.
    groups_ended: Vec<bool>,
    observed: Option<Observed>,
    failures: Failures,
    /// Streams that failed in the last second.
    failed: Vec<Failed>,
    event: Event,
    aborted: Option<String>,
    saturation: Saturation,
    judge: Judge,
    breakers: Breakers,
    /// We were the limit where a threshold has ended the run.
    limited_at_end: bool,
    open_at_end: OpenAtEnd,
    open_max: OpenMax,
    cpu_before: (f64, f64),
    steady_cpu: Option<(u64, u64)>,
    steady_cpu_end: Option<(u64, u64)>,
    rss_before: u64,
    rss_peak: u64,
    rss_steady: u64,
    host: Vec<DoctorEntry>,
    pauses: Pauses,
    hopeless_told: bool,
    warnings: Vec<String>,
    fleet: Option<Fleet>,
}

/// Seconds since 1970.
pub fn wall_seconds() -> f64 {
    host::wall_now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl Supervisor {
    /// Starts the workers.
    ///
    /// # Errors
    /// A thread or a ring cannot be had; the sentence says the cure.
    pub fn start(
        id: String,
        plan: Plan,
        spec: Spec,
        engine: Engine,
        host: Vec<DoctorEntry>,
    ) -> Result<Self, String> {
        let rss_before = host::rss_bytes();
        let started = host::monotonic_now().plus_ns(LEAD_NS);
        let (workers, receiver) = workers::start(&plan, engine, started)?;
        let (disruptions, groups_ended) = (disruptions::none(&plan), vec![false; plan.groups.len()]);
        Ok(Self {
            event: Event {
                run: id.clone(),
                name: spec.name.clone(),
                state: "ramping".into(),
                ..Event::default()
            },
            id,
            judge: Judge::new(spec.parsed_thresholds(), plan.groups.clone()),
            breakers: Breakers::new(plan.groups.clone()),
            warnings: plan.summary.warnings.clone(),
            plan,
            wanted: spec.clone(),
            observed: spec.observe.as_ref().map(Observed::new),
            spec,
            receiver,
            workers,
            started,
            started_at: wall_seconds(),
            second: 0,
            before: Counters::default(),
            measured: Default::default(),
            series: Series::default(),
            logged: Logged::default(),
            marks: Marks::default(),
            disruptions,
            groups_ended,
            failures: Failures::default(),
            failed: Vec::new(),
            aborted: None,
            saturation: Saturation::default(),
            limited_at_end: false,
            open_at_end: OpenAtEnd::new(),
            open_max: OpenMax::default(),
            cpu_before: host::process_cpu_seconds(),
            steady_cpu: None,
            steady_cpu_end: None,
            rss_before,
            rss_peak: rss_before,
            rss_steady: 0,
            host,
            pauses: Pauses::default(),
            hopeless_told: false,
            fleet: None,
        })
    }

    /// Says which workspaces its streams belong to.
    pub fn set_fleet(&mut self, fleet: Fleet) {
        self.fleet = Some(fleet);
        self.set_owners();
    }

    /// Takes what workers handed over. `true`: a second is complete, and [`Self::event`] is new.
    pub fn poll(&mut self) -> bool {
        let ended: Vec<bool> = self.workers.iter().map(Hand::has_ended).collect();
        while let Ok(snapshot) = self.receiver.try_recv() {
            let worker = snapshot.worker as usize;
            self.workers[worker].take(snapshot);
        }
        for (worker, _) in ended.into_iter().enumerate().filter(|(_, ended)| *ended) {
            if !std::mem::replace(&mut self.workers[worker].finished, true) {
                let core = self.workers[worker].core;
                self.abort(&format!("the worker on core {core} ended by itself: a bug of scaled"), true);
            }
        }
        let reached = self.workers.iter().filter(|w| !w.finished).map(|w| w.second).min();
        let reached = reached.unwrap_or(self.second + u64::from(!self.workers.is_empty()));
        if reached > self.second {
            // More than one where this thread was held up.
            let seconds = reached - self.second;
            self.second = reached;
            self.close_second(seconds);
            return true;
        }
        false
    }

    /// Whether every worker has ended.
    pub fn is_finished(&self) -> bool {
        self.workers.iter().all(|worker| worker.finished)
    }

    /// The run file to repeat it, secrets left out.
    pub fn run_file(&self) -> String {
        let spec = self.spec.filled(self.plan.seed, self.plan.cores.len() as u64);
        let began = scale_api::units::utc(self.started_at);
        format!(
            "# Run {}, begun {began}. To repeat it: scalectl start -f run.toml\n{}",
            self.id,
            spec.to_toml()
        )
    }

    /// When it began, in seconds since 1970.
    pub const fn started_at(&self) -> f64 {
        self.started_at
    }

    /// Something that its events and its report are to say.
    pub fn warn(&mut self, why: String) {
        self.warnings.push(why);
    }

    /// The last second.
    pub const fn event(&self) -> &Event {
        &self.event
    }

    /// What was measured in the last second.
    pub const fn second(&self) -> &Histograms {
        &self.measured.0
    }

    /// What was measured in the last second, by group in the plan's order.
    pub fn second_by_group(&self) -> &[Histograms] {
        &self.measured.1
    }

    /// Ends the run: in order, or with zero traffic at once.
    pub fn stop(&mut self, now: bool) {
        if now {
            self.aborted.get_or_insert_with(|| "stopped at once".into());
        }
        self.send(&if now { Command::Abort } else { Command::Drain });
    }

    /// Ends the run because of `why`; the verdict is "aborted".
    pub fn abort(&mut self, why: &str, now: bool) {
        self.aborted.get_or_insert_with(|| why.to_owned());
        self.send(&if now { Command::Abort } else { Command::Drain });
    }

    /// Holds connections and stops sending.
    ///
    /// # Errors
    /// It has been paused too often.
    pub fn pause(&mut self) -> Result<(), Problem> {
        let now = host::monotonic_now();
        self.pauses.begin(now.since(self.started).as_secs_f64())?;
        self.send(&Command::Pause(now));
        Ok(())
    }

    /// Goes on.
    pub fn resume(&mut self) {
        let now = host::monotonic_now();
        self.pauses.end(now.since(self.started).as_secs_f64());
        self.send(&Command::Resume(now));
    }

    /// The named moments so far.
    pub const fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Takes what a query of `[observe]` answered just now.
    pub fn observe(&mut self, sample: Sample) {
        let (at, counts) = (self.elapsed(), self.phase() == GroupPhase::Steady && !self.pauses.goes_on());
        if let Some(observed) = &mut self.observed {
            observed.take(at, counts, sample);
        }
    }

    /// Streams that failed in the last second, by class.
    pub fn failed(&self) -> &[Failed] {
        &self.failed
    }

    fn elapsed(&self) -> f64 {
        host::monotonic_now().since(self.started).as_secs_f64()
    }

    /// The index of a group, or of the only one.
    pub fn group(&self, name: Option<&str>) -> Result<usize, String> {
        let names: Vec<&str> = self.plan.groups.iter().map(|group| &*group.name).collect();
        match name {
            None if names.len() == 1 => Ok(0),
            None => Err(format!("the run has several groups; give --group, one of {}", names.join(", "))),
            Some(name) => names
                .iter()
                .position(|&known| known == name)
                .ok_or_else(|| format!("no group is called `{name}`; there are {}", names.join(", "))),
        }
    }

    /// Another load for a group. What it would come to is planned as at the start: the list of
    /// targets, ports, memory and cores hold for it, too.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set(&mut self, request: &SetRequest, permit: &Permit) -> Result<(), Problem> {
        let invalid = |why: String| Problem::new(ProblemCode::Invalid, why);
        let index = self.group(request.group.as_deref()).map_err(invalid)?;
        let mut wanted = self.wanted.clone();
        let group = &mut wanted.group[index];
        group.conns = request.conns.or(group.conns);
        group.tick_interval = request.tick_interval.or(group.tick_interval);
        if request.rate.is_some() || request.bytes_per_tick.is_some() {
            (group.rate, group.bytes_per_tick) = (request.rate, request.bytes_per_tick);
        }
        let paced =
            request.rate.is_some() || request.bytes_per_tick.is_some() || request.tick_interval.is_some();
        if paced && group.traffic == spec::Traffic::Receive {
            return Err(invalid("--traffic receive only reads: the target decides the rate".into()));
        }
        let mut known = |name: &str, port: u16| {
            let mut rows = self.plan.places.iter().zip(self.plan.addresses.iter());
            let row = rows.find(|(place, _)| place.host == name && place.port == port);
            row.map(|(_, addresses)| addresses.clone()).ok_or_else(|| std::io::Error::other("a new name"))
        };
        let (host, before) = (&self.plan.host, &self.plan.groups);
        Plan::changed(&wanted, host, permit, &mut known, before)?;
        // Who changes a run may no more than its caps let whoever began it.
        let plan = Plan::changed(&wanted, host, &self.plan.permit, &mut known, before)?;
        if !plan.summary.cannot.is_empty() {
            return Err(Problem::new(ProblemCode::HostCannotCarry, plan.summary.cannot.join("\n")));
        }
        if plan.groups[index].pattern.len() > self.plan.groups[index].pattern.len() {
            let rows = self.plan.groups[index].pattern.len();
            return Err(invalid(format!(
                "{{n}} and --rows were filled in for {rows} streams when the run started; --conns is at most that"
            )));
        }
        let pace = if paced { Some(base_pace(&wanted.group[index])?) } else { None };
        self.wanted = wanted;
        self.plan.places = plan.places;
        self.send(&Command::Set { group: index, conns: request.conns.map(|conns| conns as u32), pace });
        Ok(())
    }

    /// The list was read again: what it says from now on holds for this run, too.
    ///
    /// # Errors
    /// It forbids what the run was planned for; the run is to be ended.
    pub fn adopt(&mut self, targets: &Targets) -> Result<(), String> {
        let permit = self.plan.permit.under(targets);
        let rules = permit.all(&self.plan)?;
        for (place, rules) in self.plan.places.iter_mut().zip(rules) {
            place.rules = rules;
        }
        self.plan.permit = permit;
        self.plan.gates = gates(&self.plan.permit, &self.plan.places);
        self.send(&Command::Gates(self.plan.gates.clone()));
        Ok(())
    }

    /// A name has come to mean what may not be hit; said once.
    pub fn refused(&mut self, why: &str) {
        let why = why.split(". To allow").next().unwrap_or_default();
        let why = format!("a name was resolved again, and its addresses so far are kept: {why}");
        if !self.warnings.contains(&why) && self.warnings.len() < WARNINGS_MAX {
            tracing::warn!(run = %self.id, "{why}");
            self.warnings.push(why);
        }
    }

    /// Names were resolved again.
    pub fn readdress(&mut self, addresses: crate::worker::share::Addresses) {
        let addresses = self.plan.reachable(&addresses);
        if addresses == self.plan.addresses {
            return;
        }
        self.plan.addresses = addresses.clone();
        self.send(&Command::Addresses(addresses));
    }

    /// Of each group its name, where its streams are in its course, and the stage that counts (from 1; 0: none).
    pub fn stages(&self) -> Vec<(Arc<str>, &'static str, usize)> {
        let names = self.plan.groups.iter().map(|group| group.name.clone());
        let stage = |(index, name): (usize, Arc<str>)| match self.place(index) {
            Some((GroupPhase::Steady, stage)) => (name, GroupPhase::Steady.name(), stage),
            Some((phase, _)) => (name, phase.name(), 0),
            None => (name, GroupPhase::Waiting.name(), 0),
        };
        names.enumerate().map(stage).collect()
    }

    /// The plan.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    fn send(&self, command: &Command) {
        self.workers.iter().for_each(|worker| worker.say(command.clone()));
    }

    /// Share of the last second that each worker's thread was on its core, by core.
    pub fn busy_now(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.workers.iter().map(|worker| (worker.core, worker.busy.last))
    }

    /// Source ports that were tried and found in use, of all workers.
    pub fn ports_skipped(&self) -> u64 {
        self.workers.iter().map(|worker| worker.ports_in_use).sum()
    }

    /// Turns so far of each worker that has not ended, by core: one that no longer moves stands still.
    pub fn pulses(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let going = self.workers.iter().filter(|worker| !worker.finished && !worker.has_ended());
        going.map(|worker| (worker.core, worker.pulse.beats()))
    }

    /// Ring counters of all workers: CQ overflows, buffers exhausted.
    pub fn ring_counters(&self) -> (u64, u64) {
        self.workers.iter().fold((0, 0), |(overflows, exhausted), worker| {
            (overflows + worker.ring.cq_overflows, exhausted + worker.ring.buffers_exhausted)
        })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.send(&Command::Abort);
        self.workers.iter_mut().for_each(Hand::join);
    }
}
