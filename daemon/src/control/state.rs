//! The daemon's state: at most one run that is going, and what is kept of the others.

mod calibrations;
mod keep;
mod reload;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use hyper::body::Bytes;
use scale_api::http::{MarkRequest, Problem, ProblemCode, RunSummary, Started, Status};
use scale_api::report::{Event, Exit, Mark, Report, StartedBy};
use scale_api::spec::Spec;
use scale_ring::{Features, host};
use tokio::sync::{Notify, broadcast};

use super::caller::Who;
use super::coder::going::Going;
use super::coder::scenario::course::Course;
use super::doctor::{Doctor, Looking};
use super::live::Live;
use super::observe::Watch;
use super::resolve::{Again, Here};
use super::source::{self, Source};
use crate::metrics::{Format, Metrics};
use crate::page;
use crate::run::calibration::{self, Kept};
use crate::run::failures::What;
use crate::run::keeper::Keeper;
use crate::run::marks;
use crate::run::plan::{Observe, Plan};
use crate::run::store::{Store, summary_of};
use crate::run::supervisor::{Supervisor, wall_seconds};
use crate::run::targets::{Caller, Permit, Targets};
use crate::run::workers::Engine;
use crate::settings::{Realtime, Settings};

/// Names are resolved again this often, for reconnects.
const RESOLVE_EVERY_S: u64 = 30;
/// Marks that a status has: the newest.
const STATUS_MARKS_MAX: usize = 10;
/// Followers of a run: with half of the seats others are answered all the same.
const FOLLOWERS_MAX: usize = 128;
/// Lines that a slow follower may lag behind before it loses some.
const EVENTS_KEPT: usize = 64;

/// The state.
pub struct State {
    settings: Settings,
    doctor: Arc<Doctor>,
    /// Looks at the host for what has just begun.
    looking: Looking,
    /// The list of what may be hit.
    pub targets: Targets,
    /// What is kept.
    pub store: Store,
    calibrations: Arc<Kept>,
    engine: Engine,
    run: Option<Supervisor>,
    /// Asks for the target's own figures while it goes.
    watch: Option<Watch>,
    flow: Option<Going>,
    /// What the run or the flow is a step of.
    scenario: Option<Rc<Course>>,
    /// Keeps what goes, second by second, and what came of it.
    keeper: Keeper,
    /// The last run that ended.
    last: Option<RunSummary>,
    pruning: Option<JoinHandle<()>>,
    events: broadcast::Sender<Arc<str>>,
    /// Told when somebody stops what goes.
    stopped: Rc<Notify>,
    last_line: Arc<str>,
    live: Live,
    metrics: Metrics,
    /// Of a scenario's load, until the scenario ends.
    histograms: Option<Vec<u8>>,
    seconds: u64,
    /// Names that are being resolved again.
    resolving: Option<Receiver<Again>>,
    /// Why the last reload changed nothing.
    reload_failed: Option<String>,
    /// What the last one would change, had scaled been restarted.
    restart_wanted: Vec<String>,
}

/// What a follower of a run gets.
pub enum Followed {
    /// It is going: what was last said, and what is to come.
    Going(Arc<str>, broadcast::Receiver<Arc<str>>),
    /// It has ended, and this is all.
    Ended(Source),
}

impl State {
    /// A daemon without a run, on the control thread.
    pub fn new(settings: Settings, targets: Targets, store: Store, engine: Engine) -> Self {
        let doctor = Arc::new(Doctor::new(settings.cores.clone()));
        let realtime = settings.realtime == Realtime::Fifo;
        let here = calibration::here(std::path::Path::new("/"), &settings.cores, realtime);
        let mut state = Self {
            looking: Looking::start(&doctor),
            doctor,
            calibrations: Kept::read(&settings.state, here).into(),
            settings,
            targets,
            keeper: Keeper::start(store.clone(), page::report),
            last: store.last(),
            store,
            engine,
            run: None,
            watch: None,
            flow: None,
            scenario: None,
            pruning: None,
            events: broadcast::channel(EVENTS_KEPT).0,
            stopped: Rc::default(),
            last_line: "".into(),
            live: Live::start(),
            metrics: Metrics::default(),
            histograms: None,
            seconds: 0,
            resolving: None,
            reload_failed: None,
            restart_wanted: Vec::new(),
        };
        state.keep_pages();
        state.prune();
        state
    }

    /// What a scrape gets.
    pub fn scrape(&mut self, format: Format) -> Vec<u8> {
        let (is_writable, errors) = self.keeper.condition(host::monotonic_now());
        self.metrics.note_state(is_writable, errors);
        self.metrics.scrape(format, self.run.as_ref())
    }

    /// Who looks at this host.
    pub fn doctor(&self) -> Arc<Doctor> {
        self.doctor.clone()
    }

    /// The run that is going.
    pub fn run(&mut self) -> Option<&mut Supervisor> {
        self.run.as_mut()
    }

    /// The Coder flow that is going, if it is run `id`.
    pub fn flow(&mut self, id: &str) -> Option<&mut Going> {
        self.flow.as_mut().filter(|flow| flow.id == id || id == "current")
    }

    /// The id of the run that is going: load, flow or scenario.
    fn going(&self) -> Option<&str> {
        if let Some(scenario) = &self.scenario {
            return Some(&scenario.id);
        }
        let load = self.run.as_ref().map(|run| run.id.as_str());
        load.or_else(|| self.flow.as_ref().map(|flow| flow.id.as_str()))
    }

    /// What is told when somebody stops what goes.
    pub fn stopped(&self) -> Rc<Notify> {
        self.stopped.clone()
    }

    /// Whether run `id` is going.
    pub fn is_going(&self, id: &str) -> bool {
        self.going() == Some(id)
    }

    /// Whether a run may begin.
    ///
    /// # Errors
    /// Another is going.
    pub fn is_free(&self) -> Result<(), Problem> {
        let Some(id) = self.going() else { return Ok(()) };
        let detail =
            format!("run {id} is going; follow it with `scalectl watch`, or end it with `scalectl stop`");
        Err(Problem::new(ProblemCode::RunInProgress, detail))
    }

    /// Takes a flow that has begun.
    pub fn begin_flow(&mut self, mut flow: Going) {
        flow.set_host(self.looking.begin(&self.doctor));
        tracing::info!(run = %flow.id, flow = flow.event().name, by = %Who(flow.permit().started_by()), "flow began");
        self.last_line = self.line(flow.event());
        self.live.begin();
        self.keeper.begin(&flow.id);
        self.flow = Some(flow);
        // So that a daemon that starts after a crash knows of it.
        self.keep_checkpoint();
    }

    /// The scenario that is going, if it is run `id`.
    ///
    /// # Errors
    /// It is not going.
    pub fn course(&self, id: &str) -> Result<Rc<Course>, Problem> {
        let course = self.scenario.as_ref().filter(|course| course.id == id || id == "current");
        course.cloned().ok_or_else(|| not_going(id))
    }

    /// Takes a scenario that begins; its steps come one by one.
    pub fn begin_scenario(&mut self, course: Rc<Course>) {
        course.set_host(self.looking.begin(&self.doctor));
        tracing::info!(run = %course.id, by = %Who(course.permit().started_by()), "scenario began");
        self.last_line = line(&course.event());
        self.live.begin();
        self.keeper.begin(&course.id);
        self.scenario = Some(course);
        self.keep_checkpoint();
    }

    /// Ends the scenario that is going, if it is run `id`: its step, and with `now` all of it. `is_abort`: traffic
    /// that is ended so has not passed.
    pub fn end_scenario(&mut self, id: &str, why: &str, now: bool, is_abort: bool) -> Option<String> {
        let course = self.scenario.clone().filter(|course| course.id == id || id == "current")?;
        course.stop(why, now);
        if let Some(flow) = &mut self.flow {
            flow.stop(why, now);
        }
        match &mut self.run {
            Some(run) if is_abort || now => run.abort(why, now),
            Some(run) => run.stop(false),
            None => {}
        }
        Some(course.id.clone())
    }

    /// Who started what is going.
    fn started_by(&self) -> Option<StartedBy> {
        if let Some(scenario) = &self.scenario {
            return scenario.permit().started_by();
        }
        let of_flow = self.flow.as_ref().map(Going::permit);
        of_flow.or_else(|| Some(&self.run.as_ref()?.plan().permit))?.started_by()
    }

    /// The report of what is going, so far.
    fn report_now(&self) -> Option<Report> {
        self.report_with(Supervisor::report)
    }

    /// The same, its load as `of_load` reports it.
    fn report_with(&self, of_load: fn(&Supervisor) -> Report) -> Option<Report> {
        let step = self.flow.as_ref().map(Going::report);
        let step = step.or_else(|| self.run.as_ref().map(of_load));
        match &self.scenario {
            Some(course) => Some(course.report(step)),
            None => step,
        }
    }

    /// The line of an event: of a scenario's step it is the scenario's.
    fn line(&self, event: &Event) -> Arc<str> {
        match &self.scenario {
            Some(course) => line(&course.dress(event)),
            None => line(event),
        }
    }

    /// Puts a named moment on the time line of what is going, if it is run `id`: of its load while there is any, else
    /// of its scenario or flow. The run's id.
    ///
    /// # Errors
    /// No such run is going; the text is no line, or there are too many.
    pub fn mark(&mut self, id: &str, mark: &MarkRequest) -> Result<String, Problem> {
        let MarkRequest { text, expect_disruption } = mark;
        marks::check(text)?;
        let is_it = |own: &str| id == "current" || own == id;
        let id = if let Some(run) = self.run.as_mut().filter(|run| is_it(&run.id)) {
            run.mark(text, *expect_disruption)?;
            run.id.clone()
        } else if let Some(course) = self.scenario.as_ref().filter(|course| is_it(&course.id)) {
            course.mark(text)?;
            course.id.clone()
        } else if let Some(flow) = self.flow(id) {
            flow.mark(text)?;
            flow.id.clone()
        } else {
            return Err(not_going(id));
        };
        tracing::info!(run = %id, text, "mark");
        Ok(id)
    }

    /// The newest marks of what is going.
    fn marks_now(&self) -> Vec<Mark> {
        let of_run =
            self.run.as_ref().map(Supervisor::marks).or_else(|| self.flow.as_ref().map(Going::marks));
        let of_run = of_run.map(|marks| marks.list().to_vec()).unwrap_or_default();
        let mut marks = match &self.scenario {
            Some(course) => course.marks(of_run),
            None => of_run,
        };
        marks.drain(..marks.len().saturating_sub(STATUS_MARKS_MAX));
        marks
    }

    /// What is said of what is going.
    fn event_now(&self) -> Option<Event> {
        let step = self.run.as_ref().map(Supervisor::event);
        let step = step.or_else(|| self.flow.as_ref().map(Going::event));
        match &self.scenario {
            Some(course) => Some(step.map_or_else(|| course.event(), |event| course.dress(event))),
            None => step.cloned(),
        }
    }

    /// A run is over: its report is kept and said, or is a step's of the scenario, whose histograms are the scenario's.
    fn conclude(&mut self, mut report: Report, histograms: Option<Vec<u8>>) {
        if let Some(course) = &self.scenario {
            course.hand_over(report);
            self.histograms = histograms.or_else(|| self.histograms.take());
            return;
        }
        report.warnings.extend(self.keeper.settle());
        // A daemon that is told to end waits for it here, as long as a disk may take.
        if let Err(why) = self.keeper.end(report.clone(), histograms) {
            report.warnings.push(why);
        }
        self.last = Some(summary_of(&report));
        self.metrics.count(report.verdict.outcome);
        let verdict = &report.verdict;
        tracing::info!(
            run = %report.run.id,
            outcome = format!("{:?}", verdict.outcome).to_lowercase(),
            exit_code = verdict.exit_code,
            reasons = verdict.reasons.join("; "),
            "run ended"
        );
        self.last_line = source::line(&report).expect("a report has no keys that are not strings").into();
        let _ = self.events.send(self.last_line.clone());
        self.live.end(report);
        self.prune();
    }

    /// What a plan is to be made for.
    ///
    /// # Errors
    /// A run is going.
    pub fn prepare(&self, caller: &Caller, dry_run: bool) -> Result<(Here, Permit), Problem> {
        if !dry_run {
            self.is_free()?;
        }
        Ok((self.place(), self.targets.permit(caller.clone())))
    }

    /// What may be hit, as `caller` sees it.
    pub fn target_list(&self, caller: &Caller) -> scale_api::http::Targets {
        self.targets.summary(Some(caller), self.run.as_ref().map(Supervisor::plan))
    }

    /// This host, for a plan.
    pub fn place(&self) -> Here {
        Here {
            doctor: self.doctor(),
            direct_descriptors: self.engine.features.direct_descriptors,
            calibrations: self.calibrations.clone(),
        }
    }

    /// Starts a plan, unless `dry_run`.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn start(&mut self, spec: Spec, plan: Plan, dry_run: bool) -> Result<Started, Problem> {
        // Another run may have begun while this one was planned.
        if !dry_run {
            self.is_free()?;
        }
        let mut summary = plan.summary.clone();
        summary.warnings.extend(super::doctor::summary(&plan.host.doctor));
        if dry_run {
            return Ok(Started { id: None, plan: summary });
        }
        if !summary.cannot.is_empty() {
            return Err(Problem::new(ProblemCode::HostCannotCarry, summary.cannot.join("\n")));
        }
        let id = self.store.new_id(wall_seconds() as u64);
        self.launch(id.clone(), spec, plan)?;
        Ok(Started { id: Some(id), plan: summary })
    }

    /// Starts a plan as run `id`.
    ///
    /// # Errors
    /// A thread or a ring cannot be had.
    pub fn launch(&mut self, id: String, spec: Spec, plan: Plan) -> Result<(), Problem> {
        let doctor = plan.host.doctor.clone();
        let place = |observe: &Observe| plan.addresses[observe.addresses as usize].clone();
        let watch = plan.observe.as_ref().map(|observe| Watch::start(observe, place(observe))).transpose()?;
        let streams = plan.streams_max;
        let run = Supervisor::start(id, plan, spec, self.engine, doctor)
            .map_err(|why| Problem::new(ProblemCode::HostCannotCarry, why))?;
        let by = Who(run.plan().permit.started_by());
        tracing::info!(run = %run.id, name = run.event().name, streams, %by, "run began");
        self.last_line = self.line(run.event());
        self.live.begin();
        self.metrics.begin();
        self.keeper.begin(&run.id);
        self.keeper.load(run.run_file(), run.started_at());
        (self.run, self.watch) = (Some(run), watch);
        self.keep_checkpoint();
        Ok(())
    }

    /// Called several times a second: moves the run on.
    pub fn tick(&mut self) {
        self.keeper.poll(host::monotonic_now());
        self.tick_host();
        self.tick_flow();
        self.tick_run();
        self.tick_scenario();
    }

    fn tick_run(&mut self) {
        let Some(run) = &mut self.run else { return };
        self.watch.iter().flat_map(Watch::samples).for_each(|sample| run.observe(sample));
        if run.poll() {
            self.seconds += 1;
            say_failed(run);
            self.metrics.second(run);
            if self.seconds.is_multiple_of(RESOLVE_EVERY_S) {
                self.resolving = resolve_again(run);
            }
            self.close_second();
        }
        let Some(run) = &mut self.run else { return };
        if let Some(fresh) = self.resolving.as_ref().and_then(|answer| answer.try_recv().ok()) {
            self.resolving = None;
            for why in fresh.refused {
                run.refused(&why);
            }
            if fresh.addresses != *run.plan().addresses {
                run.readdress(fresh.addresses.into());
                if let (Some(watch), Some(observe)) = (&self.watch, &run.plan().observe) {
                    watch.readdress(run.plan().addresses[observe.addresses as usize].clone());
                }
            }
        }
        if run.is_finished() {
            self.finish();
        }
    }

    /// Says and keeps how far everything is.
    fn close_second(&mut self) {
        if let Some(event) = self.event_now() {
            self.last_line = line(&event);
            let _ = self.events.send(self.last_line.clone());
            let report = if self.live.is_report_due() { self.report_now() } else { None };
            self.live.second(self.last_line.clone(), report);
        }
        if let Some(course) = &self.scenario {
            course.said();
        }
        self.keep_second();
        self.keep_checkpoint();
    }

    /// What was seen of the host since a flow or a scenario began.
    fn tick_host(&mut self) {
        let Some(seen) = self.looking.done() else { return };
        if let Some(course) = &self.scenario {
            course.set_host(seen.clone());
        }
        if let Some(flow) = &mut self.flow {
            flow.set_host(seen);
        }
    }

    fn tick_flow(&mut self) {
        let Some(flow) = &mut self.flow else { return };
        let is_finished = flow.is_finished();
        if flow.poll() {
            self.close_second();
        }
        if is_finished && let Some(flow) = self.flow.take() {
            self.conclude(flow.report(), None);
        }
    }

    fn tick_scenario(&mut self) {
        let Some(course) = self.scenario.clone() else { return };
        if course.is_over() {
            let report = course.report(None);
            self.scenario = None;
            let histograms = self.histograms.take();
            self.conclude(report, histograms);
        } else if self.run.is_none() && self.flow.is_none() && course.is_due() {
            self.close_second();
        }
    }

    fn finish(&mut self) {
        let Some(mut run) = self.run.take() else { return };
        if let Some(interval) = run.interval() {
            self.keeper.interval(interval);
        }
        let report = run.report();
        self.metrics.end(&run);
        let histograms = serde_json::to_vec(&run.histograms()).expect("plain words");
        (self.resolving, self.watch) = (None, None);
        self.conclude(report, Some(histograms));
    }

    /// Ends the going run at once and keeps its report, when the daemon is told to end.
    pub fn shut_down(&mut self, why: &str) {
        if let Some(course) = &self.scenario {
            course.shut_down();
            self.end_scenario("current", why, true, true);
            return;
        }
        if let Some(run) = &mut self.run {
            run.abort(why, true);
        }
        if let Some(flow) = &mut self.flow {
            flow.stop(why, true);
        }
    }

    /// Whether a run is going.
    pub const fn is_busy(&self) -> bool {
        self.run.is_some() || self.flow.is_some() || self.scenario.is_some()
    }

    /// A run, to be followed.
    ///
    /// # Errors
    /// None is going, where that is asked for.
    pub fn follow(&self, id: &str) -> Result<Followed, Problem> {
        if self.going().is_some_and(|going| going == id || id == "current") {
            if self.events.receiver_count() >= FOLLOWERS_MAX {
                let detail = format!("{FOLLOWERS_MAX} others follow this run; see `scalectl status` instead");
                return Err(Problem::new(ProblemCode::TooManyReaders, detail));
            }
            return Ok(Followed::Going(self.last_line.clone(), self.events.subscribe()));
        }
        if id == "current" {
            return Err(Problem::new(
                ProblemCode::NotFound,
                "no run is going; `scalectl report` shows the last one",
            ));
        }
        Ok(Followed::Ended(self.source(id)))
    }

    /// One more open page: what it is to be shown first, and what comes then.
    ///
    /// # Errors
    /// There are too many.
    pub fn watch_live(&mut self) -> Result<(broadcast::Receiver<Bytes>, Source), Problem> {
        Ok((self.live.read()?, self.source("current")))
    }

    /// A report: of the going run so far, or as kept. `last` is the last kept, `current` the one that is going, if any.
    pub fn source(&self, id: &str) -> Source {
        if let Some(mut report) = self.report_now().filter(|report| report.run.id == id || id == "current") {
            report.run.going = true;
            return Source::Going(Box::new(report));
        }
        let wanted = (id != "last" && id != "current").then(|| id.to_owned());
        match self.keeper.held(wanted.as_deref()) {
            Some(report) => Source::Held(Box::new(report)),
            None => Source::Kept(self.store.clone(), wanted),
        }
    }

    /// What lists every run, oldest first, on a thread that may stand still.
    pub fn runs(&self) -> impl FnOnce() -> Vec<RunSummary> + Send + 'static {
        let (store, going, by) = (self.store.clone(), self.event_now(), self.started_by());
        let held = self.keeper.held_runs();
        move || {
            let mut runs = store.list();
            runs.retain(|run| held.iter().all(|held| held.id != run.id));
            runs.extend(held);
            // One that goes on after a restart has a report already.
            runs.retain(|run| going.as_ref().is_none_or(|event| event.run != run.id));
            runs.extend(going.map(|event| RunSummary {
                bytes: store.bytes(&event.run),
                id: event.run,
                name: event.name,
                started_at: wall_seconds() - event.elapsed,
                duration: event.elapsed,
                state: "running".into(),
                started_by: by.clone(),
                ..RunSummary::default()
            }));
            match store.owned() {
                Ok(owned) => {
                    for run in &mut runs {
                        run.owned = owned.get(&run.id).copied().unwrap_or(0);
                    }
                }
                Err(why) => tracing::warn!("{why}"),
            }
            runs
        }
    }

    /// What the daemon is doing.
    pub fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            run: self.event_now(),
            marks: self.marks_now(),
            last: self.last.clone(),
            warnings: self.keeper.warnings(host::monotonic_now()),
        }
    }

    /// The engine for `settings`.
    ///
    /// # Errors
    /// Unknown names in `SCALED_RING_WITHOUT`.
    pub fn engine(settings: &Settings) -> Result<Engine, String> {
        let without = std::env::var("SCALED_RING_WITHOUT").unwrap_or_default();
        let features = Features::ALL.without(&without)?;
        Ok(Engine { realtime: settings.realtime == Realtime::Fifo, features })
    }
}

/// Why nothing can be said to run `id`.
pub(super) fn not_going(id: &str) -> Problem {
    let detail = match id {
        "current" => "no run is going".to_owned(),
        id => format!("run `{id}` is not going; see `scalectl runs`"),
    };
    Problem::new(ProblemCode::NotFound, detail)
}

/// Says which streams failed in the last second: one line a class, whatever their number.
fn say_failed(run: &Supervisor) {
    for failed in run.failed() {
        let what = match failed.what {
            What::Attempt => "streams not opened",
            What::Stream => "streams lost",
        };
        let (class, count, group, example) =
            (failed.class.name(), failed.count, &*failed.group, &failed.target);
        tracing::info!(target: "streams", run = %run.id, class, count, group, example, "{what}");
    }
}

/// Names that are not addresses already, once more.
fn resolve_again(run: &Supervisor) -> Option<Receiver<Again>> {
    let Plan { places, addresses, permit, .. } = run.plan();
    if places.iter().all(|place| place.host.parse::<std::net::IpAddr>().is_ok()) {
        return None;
    }
    super::resolve::again(places.clone(), addresses.clone(), permit.clone()).ok()
}

fn line(event: &Event) -> Arc<str> {
    serde_json::to_string(event).expect("an event has no keys that are not strings").into()
}

/// Exit code of the daemon when it cannot start.
pub const START_FAILED: u8 = Exit::Usage as u8;
