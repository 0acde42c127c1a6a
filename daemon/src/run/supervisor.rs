//! A run while it goes: its workers' snapshots become one event a second, metrics, checkpoints,
//! and at last the report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use scale_api::http::{DoctorEntry, Problem, ProblemCode, SetRequest};
use scale_api::report::{self, Event, Mark, Report, SeriesRow};
use scale_api::spec::{self, Spec};
use scale_ring::{Time, host};

use crate::stream::class::Class;
use crate::stream::flow::Standing;
use crate::stream::meter::{Counters, Figure, Histograms};
use crate::worker::share::{GroupPhase, StreamResult};
use crate::worker::{Command, Snapshot};

use super::fleet::{self, ByWorkspace, Fleet, Seen};
use super::histograms::{self, Serialised};
use super::parts::{self, OpenAtEnd};
use super::plan::{Plan, base_pace};
use super::result::{self, Ending, Sum};
use super::saturation::Saturation;
use super::ssh;
use super::targets::Targets;
use super::versions;
use super::workers::{self, Engine, Hand};

/// From the start's answer to the run's start: workers set up their rings meanwhile.
const LEAD_NS: u64 = 50_000_000;
/// Stages named in a row of the series; beyond them it says how many more there are.
const STAGES_NAMED_MAX: usize = 8;

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
    series: Vec<SeriesRow>,
    marks: Vec<Mark>,
    event: Event,
    aborted: Option<String>,
    saturation: Saturation,
    open_at_end: OpenAtEnd,
    cpu_before: (f64, f64),
    steady_cpu: Option<(u64, u64)>,
    steady_cpu_end: Option<(u64, u64)>,
    rss_before: u64,
    rss_peak: u64,
    rss_steady: u64,
    host: Vec<DoctorEntry>,
    paused: bool,
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
        Ok(Self {
            event: Event {
                run: id.clone(),
                name: spec.name.clone(),
                state: "ramping".into(),
                ..Event::default()
            },
            id,
            warnings: plan.summary.warnings.clone(),
            plan,
            wanted: spec.clone(),
            spec,
            receiver,
            workers,
            started,
            started_at: wall_seconds(),
            second: 0,
            before: Counters::default(),
            series: Vec::new(),
            marks: Vec::new(),
            aborted: None,
            saturation: Saturation::default(),
            open_at_end: OpenAtEnd::new(),
            cpu_before: host::process_cpu_seconds(),
            steady_cpu: None,
            steady_cpu_end: None,
            rss_before,
            rss_peak: rss_before,
            rss_steady: 0,
            host,
            paused: false,
            hopeless_told: false,
            fleet: None,
        })
    }

    /// Says which workspaces its streams belong to.
    pub fn set_fleet(&mut self, fleet: Fleet) {
        self.fleet = Some(fleet);
    }

    /// Every stream's own figures: at the end, or as of the last second where the plan asks for it.
    fn streams(&self) -> Vec<StreamResult> {
        self.workers.iter().flat_map(|worker| &worker.streams).copied().collect()
    }

    /// The figures of each workspace, where metrics are to have them.
    pub fn by_workspace(&self) -> Option<Vec<ByWorkspace<'_>>> {
        let fleet = self.fleet.as_ref().filter(|fleet| fleet.has_metrics)?;
        Some(fleet.by_workspace(&self.streams()))
    }

    /// The `coder` part of the report.
    fn coder(&self) -> Option<scale_api::coder::Outcome> {
        let fleet = self.fleet.as_ref()?;
        let mut opened = BTreeMap::new();
        for (address, count) in self.workers.iter().flat_map(|worker| &worker.opened) {
            *opened.entry(*address).or_default() += count;
        }
        Some(fleet.outcome(&Seen {
            streams: &self.streams(),
            opened: &opened,
            limited: self.counters().failures.0[Class::Http429 as usize],
            started_at: self.started_at,
            seconds: wall_seconds() - self.started_at,
            is_over: self.is_finished(),
        }))
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
            self.second = reached;
            self.close_second();
            return true;
        }
        false
    }

    /// Whether every worker has ended.
    pub fn is_finished(&self) -> bool {
        self.workers.iter().all(|worker| worker.finished)
    }

    fn close_second(&mut self) {
        let sums = self.counters();
        let mut second = Histograms::default();
        for worker in &mut self.workers {
            for histograms in &mut worker.histograms {
                second.add(&std::mem::take(histograms));
            }
        }
        self.judge_saturation();
        let phase = self.phase();
        let steady = phase == GroupPhase::Steady;
        let cpu = (host::process_cpu_ns(), sums.messages_sent);
        if steady {
            self.steady_cpu.get_or_insert(cpu);
            self.steady_cpu_end = Some(cpu);
            self.rss_steady = host::rss_bytes();
            for index in 0..self.plan.groups.len() {
                if let Some((GroupPhase::Steady, stage)) = self.place(index) {
                    let open = self.standing(index, Standing::Open);
                    self.open_at_end.insert((index, stage), open);
                }
            }
        }
        self.rss_peak = self.rss_peak.max(host::rss_bytes());
        let quantile = |figure: Figure, quantile: f64| {
            second.figure(figure).map(|h| h.value_at_quantile(quantile) as f64 / 1e6)
        };
        let before = &self.before;
        let per_tick = |sent: u64, payload: u64| if sent > 0 { payload as f64 / sent as f64 } else { 0.0 };
        let (due, sent) = (sums.ticks_due - before.ticks_due, sums.ticks_sent - before.ticks_sent);
        let payload = sums.payload_sent - before.payload_sent;
        let missed = |c: &Counters| c.missed_generator + c.missed_backpressure + c.missed_disconnected;
        let row = SeriesRow {
            at: self.second as f64,
            stage: self.stages_now(),
            streams_open: (0..self.plan.groups.len()).map(|group| self.standing(group, Standing::Open)).sum(),
            rate_offered: per_tick(sent, payload) * due as f64,
            rate_sent: payload as f64,
            rate_received: (sums.payload_received - before.payload_received) as f64,
            messages_sent: sums.messages_sent - before.messages_sent,
            messages_echoed: sums.messages_echoed - before.messages_echoed,
            ticks_missed: missed(&sums) - missed(before),
            connects: sums.connects - before.connects,
            connect_failures: sums.failures.sum() - before.failures.sum(),
            disconnects: sums.disconnects.sum() - before.disconnects.sum(),
            lateness_p50: quantile(Figure::Lateness, 0.5),
            lateness_p99: quantile(Figure::Lateness, 0.99),
            response_p50: quantile(Figure::Response, 0.5),
            response_p99: quantile(Figure::Response, 0.99),
            response_max: quantile(Figure::Response, 1.0),
            busy_max: self.workers.iter().filter_map(|w| w.busy.last().copied()).fold(0.0, f64::max),
            saturated: self.saturation.is_now(),
        };
        self.series.push(row.clone());
        self.event = self.make_event(row, &sums);
        self.before = sums;
        self.end_when_hopeless();
    }

    fn make_event(&self, row: SeriesRow, sums: &Counters) -> Event {
        let groups = 0..self.plan.groups.len();
        let streams = Standing::NAMED.iter().map(|(name, standing)| {
            ((*name).to_owned(), groups.clone().map(|group| self.standing(group, *standing)).sum())
        });
        let mut warnings = self.warnings.clone();
        if self.fleet.is_some() {
            warnings.extend(fleet::limiter_warning(sums.failures.0[Class::Http429 as usize]));
        }
        if self.saturation.is_now() {
            warnings.push("the generator is the limit: response times include its own lateness".into());
        }
        // As long as one group's end is not known, the run's is not.
        let ends = self.workers.iter().flat_map(|worker| &worker.groups).map(|group| group.end);
        let end = ends.collect::<Option<Vec<Time>>>().and_then(|ends| ends.into_iter().max());
        Event {
            run: self.id.clone(),
            name: self.spec.name.clone(),
            state: self.state().into(),
            elapsed: row.at,
            remaining: end.map(|end| end.since(host::monotonic_now()).as_secs_f64()),
            stages: groups
                .clone()
                .map(|g| (self.plan.groups[g].name.to_string(), self.stage_name(g)))
                .collect(),
            streams: streams.collect(),
            now: row,
            ticks_missed: result::missed(sums),
            connect_failures: result::by_class(&sums.failures),
            disconnects: result::by_class(&sums.disconnects),
            workers: self.worker_reports(),
            saturated: self.saturation.is_now(),
            warnings,
            coder: None,
        }
    }

    fn worker_reports(&self) -> Vec<report::Worker> {
        self.workers.iter().map(Hand::report).collect()
    }

    fn judge_saturation(&mut self) {
        let groups = &self.plan.groups;
        let aligned = groups.iter().any(|group| group.tick_offset == crate::load::TickOffset::Aligned);
        self.saturation.take(self.workers.iter().map(|worker| worker.last_second(aligned)));
    }

    /// A run whose streams are all down and may not come back ends early.
    fn end_when_hopeless(&mut self) {
        let alive =
            [Standing::Planned, Standing::Connecting, Standing::Open, Standing::Waiting, Standing::Closing];
        let failed: u64 =
            (0..self.plan.groups.len()).map(|group| self.standing(group, Standing::Failed)).sum();
        let living: u64 = (0..self.plan.groups.len())
            .flat_map(|group| alive.map(|standing| self.standing(group, standing)))
            .sum();
        let launched = self.workers.iter().all(|w| w.groups.iter().all(|g| g.phase > GroupPhase::Ramping));
        if launched && failed > 0 && living == 0 && !self.hopeless_told {
            self.hopeless_told = true;
            self.warnings.push("every stream is down and may not come back: the run ends early".into());
            self.stop(false);
        }
    }

    fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.workers.iter().for_each(|worker| sum.add(&worker.counters()));
        sum
    }

    fn standing(&self, group: usize, standing: Standing) -> u64 {
        let gauges = self.workers.iter().filter_map(|worker| worker.groups.get(group));
        gauges.map(|gauges| u64::from(gauges.standing[standing as usize])).sum()
    }

    fn phase(&self) -> GroupPhase {
        let phases = self.workers.iter().flat_map(|worker| worker.groups.iter().map(|group| group.phase));
        let phases: Vec<GroupPhase> = phases.collect();
        // The group that is furthest from its end speaks for the run, but steady wins.
        if phases.contains(&GroupPhase::Steady) {
            return GroupPhase::Steady;
        }
        phases.into_iter().min().unwrap_or_default()
    }

    /// Phase and stage of a group, as its first worker sees it.
    fn place(&self, group: usize) -> Option<(GroupPhase, usize)> {
        let gauges = self.workers.iter().find_map(|worker| worker.groups.get(group))?;
        Some((gauges.phase, gauges.stage))
    }

    fn stage_name(&self, group: usize) -> String {
        match self.place(group) {
            Some((GroupPhase::Steady, stage)) => format!("stage {stage}"),
            Some((phase, _)) => format!("{phase:?}").to_lowercase(),
            None => "waiting".into(),
        }
    }

    /// What a second of the series belongs to: the stages that count just now, by their names in
    /// the report, or the run's state where none does.
    fn stages_now(&self) -> String {
        if self.paused {
            return self.state().into();
        }
        let steady: Vec<String> = (0..self.plan.groups.len())
            .filter_map(|group| match self.place(group)? {
                (GroupPhase::Steady, stage) => Some(format!("{}/{stage}", self.plan.groups[group].name)),
                _ => None,
            })
            .collect();
        match steady.len() {
            0 => self.state().into(),
            count if count > STAGES_NAMED_MAX => {
                format!("{} +{}", steady[..STAGES_NAMED_MAX].join(" "), count - STAGES_NAMED_MAX)
            }
            _ => steady.join(" "),
        }
    }

    fn state(&self) -> &'static str {
        match self.phase() {
            _ if self.paused => "paused",
            GroupPhase::Waiting | GroupPhase::Ramping => "ramping",
            GroupPhase::WarmUp => "warm-up",
            GroupPhase::Steady => "steady",
            GroupPhase::Draining => "draining",
            GroupPhase::Done => "done",
        }
    }

    /// The last second.
    pub const fn event(&self) -> &Event {
        &self.event
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
    pub fn pause(&mut self) {
        self.paused = true;
        self.send(&Command::Pause(host::monotonic_now()));
    }

    /// Goes on.
    pub fn resume(&mut self) {
        self.paused = false;
        self.send(&Command::Resume(host::monotonic_now()));
    }

    /// Puts a named moment on the time line.
    pub fn mark(&mut self, text: &str) {
        let at = host::monotonic_now().since(self.started).as_secs_f64();
        self.marks.push(Mark { at, text: text.to_owned() });
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
    pub fn set(&mut self, request: &SetRequest, targets: &Targets) -> Result<(), Problem> {
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
            let mut rows = self.plan.names.iter().zip(self.plan.addresses.iter());
            let row = rows.find(|((host, its_port, _), _)| host == name && *its_port == port);
            row.map(|(_, addresses)| addresses.clone()).ok_or_else(|| std::io::Error::other("a new name"))
        };
        let plan = Plan::new(&wanted, &self.plan.host, targets, &mut known)?;
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
        self.send(&Command::Set { group: index, conns: request.conns.map(|conns| conns as u32), pace });
        Ok(())
    }

    /// Names were resolved again.
    pub fn readdress(&mut self, addresses: crate::worker::share::Addresses) {
        self.plan.addresses = addresses.clone();
        self.send(&Command::Addresses(addresses));
    }

    /// The plan.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    fn send(&self, command: &Command) {
        self.workers.iter().for_each(|worker| worker.say(command.clone()));
    }

    /// The report so far, or at the end: the same figures either way.
    pub fn report(&self) -> Report {
        let groups = &self.plan.groups;
        let workers: Vec<_> =
            self.workers.iter().map(|worker| (&worker.cells[..], &worker.groups[..])).collect();
        let parts = parts::add_up(&self.plan, &workers, &self.open_at_end);
        let steady = parts.steady_seconds;
        let (user, system) = host::process_cpu_seconds();
        let messages =
            self.steady_cpu.zip(self.steady_cpu_end).map(|(from, to)| (to.0 - from.0, to.1 - from.1));
        let long = self.saturation.is_long(steady);
        let met: Vec<_> = self.workers.iter().map(|worker| &worker.versions[..]).collect();
        let (server_versions, server_changes) = versions::add_up(groups, &met, self.started);
        let negotiated: Vec<_> = self.workers.iter().map(|worker| &worker.negotiated[..]).collect();
        let mut report = Report {
            schema: report::SCHEMA,
            run: report::Run {
                id: self.id.clone(),
                name: self.spec.name.clone(),
                labels: self.spec.labels.clone(),
                started_at: self.started_at,
                ended_at: wall_seconds(),
                seed: self.plan.seed,
                version: env!("CARGO_PKG_VERSION").into(),
                kernel: host::Facts::read(std::path::Path::new("/")).kernel,
                environment: self.spec.environment.clone(),
            },
            spec: self.spec.filled(self.plan.seed, self.plan.cores.len() as u64).redacted(),
            load: parts.whole.load(parts.streams, steady),
            total: parts.whole.total(),
            latency: parts.whole.latency(),
            groups: parts.groups,
            targets: parts.targets,
            stages: parts.stages,
            fairness: result::fairness(groups, if self.is_finished() { self.streams() } else { Vec::new() }),
            generator: report::Generator {
                saturated: long,
                saturated_seconds: self.saturation.seconds(),
                workers: self.worker_reports(),
                cpu_seconds_user: user - self.cpu_before.0,
                cpu_seconds_system: system - self.cpu_before.1,
                cpu_us_per_message: messages
                    .filter(|(_, n)| *n > 0)
                    .map(|(ns, n)| ns as f64 / 1e3 / n as f64),
                rss_peak: self.rss_peak,
                rss_per_stream: (self.rss_steady > self.rss_before && parts.streams.requested > 0)
                    .then(|| (self.rss_steady - self.rss_before) as f64 / parts.streams.requested as f64),
            },
            marks: self.marks.clone(),
            server_versions,
            server_changes,
            series: self.series.clone(),
            host: self.host.clone(),
            ssh: ssh::add_up(groups, &self.spec.group, &negotiated),
            coder: self.coder(),
            ..Report::default()
        };
        let ending = Ending {
            aborted: self.aborted.clone(),
            saturated_long: long,
            lost_before_steady: self.hopeless_told && steady <= 0.0,
        };
        result::judge(&mut report, groups, &ending);
        report
    }

    /// The histograms behind the report's latencies, by group.
    pub fn histograms(&self) -> Serialised {
        let mut first_cell = 0;
        let mut groups = Serialised::new();
        for group in self.plan.groups.iter() {
            let cells = group.cells(first_cell);
            let mut sum = Sum::default();
            for worker in &self.workers {
                for (offset, cell) in worker.cells.iter().skip(cells.start).take(cells.len()).enumerate() {
                    let stage = offset / group.targets.len();
                    sum.add(cell, stage, parts::cell_of(group, stage));
                }
            }
            first_cell = cells.end;
            groups.insert(group.name.to_string(), histograms::serialise(&sum.histograms));
        }
        groups
    }

    /// Counters and histograms by group, over the whole run, for the metrics.
    pub fn by_group(&self) -> Vec<(Arc<str>, Counters, Histograms, [u64; Standing::COUNT])> {
        let mut first_cell = 0;
        let mut groups = Vec::new();
        for (index, group) in self.plan.groups.iter().enumerate() {
            let cells = group.cells(first_cell);
            first_cell = cells.end;
            let (mut counters, mut histograms) = (Counters::default(), Histograms::default());
            for cell in
                self.workers.iter().flat_map(|worker| worker.cells.iter().skip(cells.start).take(cells.len()))
            {
                counters.add(&cell.counters);
                histograms.add(&cell.histograms);
            }
            let mut standing = [0; Standing::COUNT];
            for worker in &self.workers {
                if let Some(gauges) = worker.groups.get(index) {
                    standing.iter_mut().zip(gauges.standing).for_each(|(sum, n)| *sum += u64::from(n));
                }
            }
            groups.push((group.name.clone(), counters, histograms, standing));
        }
        groups
    }

    /// Share of the last second that each worker's thread was on its core, by core.
    pub fn busy_now(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.workers.iter().map(|worker| (worker.core, worker.busy.last().copied().unwrap_or(0.0)))
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
