//! A scenario while it goes, as the state keeps it: which step it is at, what came of those before, what is said of all
//! of it. Its task moves it on; the state hands it the report of each step that is over.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use scale_api::coder::{Outcome, Step};
use scale_api::http::{DoctorEntry, Problem};
use scale_api::report::{self, Event, Exit, Mark, Outcome as How, Report, SeriesRow, Verdict};
use scale_api::scenario::taken::StepReport;
use scale_coder::stop::{Stop, Stopper};
use scale_ring::{Time, host};
use tokio::sync::Notify;

use super::probe::Samples;
use super::steps::Steps;
use crate::control::coder::outcome;
use crate::run::marks::Marks;
use crate::run::supervisor::wall_seconds;
use crate::run::targets::Permit;

/// The step that makes workspaces.
pub const CREATE: &str = "create";
/// The quiet one.
pub const BASELINE: &str = "baseline";
/// What is done before the traffic.
pub const BEFORE: &str = "before";
/// The step of the groups.
pub const TRAFFIC: &str = "traffic";
/// What is done behind the traffic.
pub const AFTER: &str = "after";
/// The last one.
pub const CLEAN_UP: &str = "clean up";

/// A going scenario.
pub struct Course {
    /// The run's id.
    pub id: String,
    /// What requests to the API took, by step.
    pub samples: Samples,
    /// What is done to the deployment meanwhile.
    pub steps: Steps,
    name: Option<String>,
    labels: BTreeMap<String, String>,
    /// What the operator states of the deployment.
    environment: BTreeMap<String, String>,
    permit: Permit,
    started: Time,
    started_at: f64,
    /// Seconds from then until this daemon took it up.
    passed: f64,
    ledger: PathBuf,
    kept: RefCell<Kept>,
    step_is_over: Notify,
    stopper: Stopper,
    stop: Stop,
    /// Ended with all that would come yet.
    is_cut_off: Cell<bool>,
    /// By the daemon's own end: what is owed stays owed.
    is_shut_down: Cell<bool>,
    is_over: Cell<bool>,
    /// Those that were made while no load went.
    marks: RefCell<Marks>,
    /// When the traffic's run began, which is where its series begins.
    traffic_at: Cell<Option<f64>>,
}

/// What has come of it so far.
#[derive(Default)]
struct Kept {
    host: Vec<DoctorEntry>,
    /// From the run's start until now, as last said.
    second: f64,
    steps: Vec<Step>,
    /// Of a daemon that was lost.
    before: Option<Report>,
    create: Option<Report>,
    traffic: Option<Report>,
    cleanup: Option<Report>,
    /// Of the step that is over, until its task takes it.
    handed: Option<Report>,
    /// What went wrong between the steps.
    troubles: Vec<(Exit, String)>,
    warnings: Vec<String>,
}

impl Course {
    /// One that begins now. `ledger`: of what it makes.
    pub fn new(
        id: String,
        name: Option<String>,
        ledger: PathBuf,
        warnings: Vec<String>,
        permit: Permit,
        steps: Steps,
    ) -> Self {
        let (stopper, stop) = Stopper::new();
        Self {
            id,
            samples: Samples::default(),
            steps,
            name,
            labels: BTreeMap::new(),
            environment: BTreeMap::new(),
            permit,
            started: host::monotonic_now(),
            started_at: wall_seconds(),
            passed: 0.0,
            ledger,
            kept: RefCell::new(Kept { warnings, ..Kept::default() }),
            step_is_over: Notify::new(),
            stopper,
            stop,
            is_cut_off: Cell::new(false),
            is_shut_down: Cell::new(false),
            is_over: Cell::new(false),
            marks: RefCell::default(),
            traffic_at: Cell::new(None),
        }
    }

    /// One that a lost daemon has begun, and has reported so far.
    /// `permit` is the daemon's own: nobody asks for it now.
    pub fn resumed(before: Report, ledger: PathBuf, permit: Permit) -> Self {
        let (id, name) = (before.run.id.clone(), before.run.name.clone());
        let permit = permit.in_the_name_of(before.run.started_by.clone());
        let begun = before.coder.iter().flat_map(|coder| &coder.steps);
        let traffic_at = begun.filter(|step| step.name == TRAFFIC).map(|step| step.at).next();
        let steps = Steps::resumed(before.steps.clone(), traffic_at.unwrap_or(0.0));
        let mut course = Self::new(id, name, ledger, Vec::new(), permit, steps);
        course.passed = course.started_at - before.run.started_at;
        course.started_at = before.run.started_at;
        course.traffic_at = Cell::new(traffic_at);
        (course.labels, course.environment) = (before.run.labels.clone(), before.run.environment.clone());
        course.kept.get_mut().before = Some(before);
        course
    }

    /// What its operator says beside what it does.
    #[must_use]
    pub fn labelled(
        mut self,
        labels: BTreeMap<String, String>,
        environment: BTreeMap<String, String>,
    ) -> Self {
        (self.labels, self.environment) = (labels, environment);
        self
    }

    /// For whom it goes, and what that one may hit.
    pub const fn permit(&self) -> &Permit {
        &self.permit
    }

    /// What `doctor` saw when it began.
    pub fn set_host(&self, host: Vec<DoctorEntry>) {
        self.kept.borrow_mut().host = host;
    }

    /// Seconds since its start.
    pub fn elapsed(&self) -> f64 {
        self.passed + host::monotonic_now().since(self.started).as_secs_f64()
    }

    /// Goes on to the next step.
    pub fn enter(&self, step: &'static str) {
        let at = self.elapsed();
        self.leave();
        self.kept.borrow_mut().steps.push(Step { name: step.into(), at, seconds: 0.0 });
        tracing::info!(run = %self.id, step, "scenario goes on");
    }

    fn leave(&self) {
        let now = self.elapsed();
        if let Some(step) = self.kept.borrow_mut().steps.last_mut().filter(|step| step.seconds == 0.0) {
            step.seconds = now - step.at;
        }
    }

    /// The report of the step that is over.
    pub fn hand_over(&self, report: Report) {
        self.kept.borrow_mut().handed = Some(report);
        self.step_is_over.notify_one();
    }

    /// Waits for the step's end, and keeps what came of it.
    pub async fn step_over(&self) {
        let report = loop {
            if let Some(report) = self.kept.borrow_mut().handed.take() {
                break report;
            }
            self.step_is_over.notified().await;
        };
        let mut kept = self.kept.borrow_mut();
        let step = kept.steps.last().map(|step| step.name.clone());
        match step.as_deref() {
            Some(CREATE) => kept.create = Some(report),
            Some(TRAFFIC) => kept.traffic = Some(report),
            _ => kept.cleanup = Some(report),
        }
    }

    /// Waits, unless it is stopped before.
    pub async fn wait(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.stop.heard() => {}
        }
    }

    /// Something that went wrong between the steps, and what it makes of the verdict.
    pub fn trouble(&self, exit: Exit, why: impl Into<String>) {
        self.kept.borrow_mut().troubles.push((exit, why.into()));
    }

    /// Something that is not as it was asked for.
    pub fn warn(&self, why: impl IntoIterator<Item = String>) {
        self.kept.borrow_mut().warnings.extend(why);
    }

    /// Ends the step that is going, whatever else is said to it; `now`: all of it.
    pub fn stop(&self, why: &str, now: bool) {
        let step = self.kept.borrow().steps.last().map(|step| step.name.clone());
        if now {
            self.is_cut_off.set(true);
            self.steps.cut_off(why);
        } else {
            self.steps.close(why);
        }
        // A step of its own kind says by its verdict whether it was aborted; not the traffic's, of which a command is left.
        let is_left = step.as_deref() == Some(TRAFFIC) && self.kept.borrow().traffic.is_some();
        if now || is_left || matches!(step.as_deref(), Some(BASELINE | BEFORE | AFTER)) {
            self.trouble(Exit::Aborted, why);
        }
        self.stopper.stop();
    }

    /// Whether the next step may begin.
    pub fn goes_on(&self) -> bool {
        !self.stop.is_heard() && self.has_passed()
    }

    /// Whether everything so far has passed.
    pub fn has_passed(&self) -> bool {
        self.verdict(&self.kept.borrow(), None).outcome == How::Passed
    }

    /// Whether nothing more may be begun, clean-up included.
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off.get()
    }

    /// The daemon ends.
    pub fn shut_down(&self) {
        self.is_shut_down.set(true);
    }

    /// Whether the daemon ends.
    pub fn is_shut_down(&self) -> bool {
        self.is_shut_down.get()
    }

    /// It is over.
    pub fn end(&self) {
        self.leave();
        self.steps.finish(match (self.is_cut_off(), self.traffic_at.get()) {
            (true, _) => "all of it was ended",
            (false, None) => "the traffic did not begin",
            (false, Some(_)) => "the scenario was over",
        });
        self.is_over.set(true);
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Between steps of other kinds: whether a second is complete of which nothing was said.
    pub fn is_due(&self) -> bool {
        self.elapsed().floor() > self.kept.borrow().second
    }

    /// The traffic's run begins.
    pub fn traffic_begins(&self) {
        self.traffic_at.set(Some(self.elapsed()));
    }

    /// Whether anything was done to the deployment that a step behind the traffic may be to undo.
    pub fn has_touched(&self) -> bool {
        self.traffic_at.get().is_some() || self.steps.has_begun()
    }

    /// Where the clock of the series begins, in seconds since its start.
    fn zero(&self) -> f64 {
        self.traffic_at.get().unwrap_or(0.0)
    }

    /// How its steps stand, on the clock of the series.
    pub fn step_reports(&self) -> Vec<StepReport> {
        self.steps.reports(self.zero())
    }

    /// The same as an event has them.
    fn steps_now(&self) -> Vec<StepReport> {
        let mut steps = self.step_reports();
        steps.iter_mut().for_each(|step| step.output = None);
        steps
    }

    /// Puts a named moment on the time line while no load goes.
    ///
    /// # Errors
    /// It is no line of text, or there are too many already.
    pub fn mark(&self, text: &str) -> Result<(), Problem> {
        self.marks.borrow_mut().add(self.elapsed(), text)
    }

    /// Its own marks and those of its load, by time. They are on the clock of the series, where there is one: the
    /// traffic's, so that what was marked before it is negative.
    pub fn marks(&self, of_run: Vec<Mark>) -> Vec<Mark> {
        let zero = self.zero();
        let own = self.marks.borrow();
        let own = own.list().iter().map(|mark| Mark { at: mark.at - zero, text: mark.text.clone() });
        let mut marks: Vec<Mark> = own.chain(of_run).collect();
        marks.sort_by(|a, b| a.at.total_cmp(&b.at));
        marks
    }

    /// Something was said.
    pub fn said(&self) {
        self.marks.borrow_mut().said();
        self.kept.borrow_mut().second = self.elapsed().floor();
    }

    /// How far it is, where no run or flow says it.
    pub fn event(&self) -> Event {
        let kept = self.kept.borrow();
        let state = kept.steps.last().map_or_else(|| "starting".to_owned(), |step| step.name.clone());
        Event {
            run: self.id.clone(),
            name: self.name.clone(),
            elapsed: self.elapsed().floor(),
            now: SeriesRow { at: self.elapsed().floor(), stage: state.clone(), ..SeriesRow::default() },
            warnings: kept.warnings.clone(),
            marks: self.marks.borrow().fresh().to_vec(),
            steps: self.steps_now(),
            state,
            ..Event::default()
        }
    }

    /// A step's event as the scenario's: by its name and its clock.
    pub fn dress(&self, event: &Event) -> Event {
        let at = self.kept.borrow().steps.last().map_or(0.0, |step| step.at);
        let mut event =
            Event { name: self.name.clone(), elapsed: event.elapsed + at.floor(), ..event.clone() };
        event.marks.extend_from_slice(self.marks.borrow().fresh());
        event.steps = self.steps_now();
        event
    }

    /// The report so far, with what the step that is going says, or at the end.
    pub fn report(&self, step: Option<Report>) -> Report {
        let kept = self.kept.borrow();
        let now = kept.steps.last().map(|step| step.name.as_str());
        let going = |name: &str| step.as_ref().filter(|_| now == Some(name));
        let create = kept.create.as_ref().or_else(|| going(CREATE));
        let traffic = kept.traffic.as_ref().or_else(|| going(TRAFFIC));
        let cleanup = kept.cleanup.as_ref().or_else(|| going(CLEAN_UP));
        let base = traffic.or(kept.before.as_ref()).cloned();
        let mut report = base.unwrap_or_else(|| Report { schema: report::SCHEMA, ..Report::default() });
        report.run = report::Run {
            id: self.id.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
            environment: self.environment.clone(),
            started_at: self.started_at,
            ended_at: wall_seconds(),
            going: false,
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: host::facts::kernel_release(),
            started_by: self.permit.started_by(),
            ..report.run
        };
        report.host.clone_from(&kept.host);
        report.marks = self.marks(report.marks);
        report.steps = self.step_reports();
        report.verdict = self.verdict(&kept, traffic.map(|traffic| traffic.verdict.clone()));
        let before = kept.before.as_ref().and_then(|before| before.coder.clone());
        let mut coder = before.unwrap_or_default();
        let parts = [create, traffic, cleanup].into_iter().flatten();
        parts.filter_map(|part| part.coder.clone()).for_each(|part| add(&mut coder, part));
        coder.flow = "scenario".into();
        coder.ended = if self.is_over() { "done" } else { "going" }.into();
        coder.owned = outcome::owned(&self.ledger);
        coder.warnings.extend(kept.warnings.iter().cloned());
        coder.steps.extend(kept.steps.iter().cloned());
        if let Some(step) = coder.steps.last_mut().filter(|step| step.seconds == 0.0) {
            step.seconds = self.elapsed() - step.at;
        }
        for (step, samples) in self.samples.borrow().iter() {
            coder.api.extend(outcome::figure(samples.clone()).map(|figure| ((*step).to_owned(), figure)));
        }
        report.coder = Some(coder);
        report
    }

    /// All verdicts in one: of those that are not good the first one of this order wins.
    fn verdict(&self, kept: &Kept, going: Option<Verdict>) -> Verdict {
        const ORDER: [Exit; 7] = [
            Exit::Aborted,
            Exit::Internal,
            Exit::TargetRefused,
            Exit::HostCannotCarry,
            Exit::Incomplete,
            Exit::Failed,
            Exit::Left,
        ];
        let mut verdict = Verdict { outcome: How::Passed, ..Verdict::default() };
        let mut codes: Vec<u8> = kept.troubles.iter().map(|(exit, _)| *exit as u8).collect();
        let done = [&kept.before, &kept.create, &kept.traffic, &kept.cleanup];
        let steps = ["", CREATE, TRAFFIC, CLEAN_UP];
        for (report, step) in done.into_iter().zip(steps) {
            let Some(of_it) = report.as_ref().map(|report| &report.verdict) else { continue };
            codes.push(of_it.exit_code);
            let prefix = if step.is_empty() { String::new() } else { format!("{step}: ") };
            verdict.reasons.extend(of_it.reasons.iter().map(|reason| format!("{prefix}{reason}")));
            verdict.thresholds.extend(of_it.thresholds.iter().cloned());
        }
        if kept.traffic.is_none()
            && let Some(going) = going
        {
            verdict.thresholds = going.thresholds;
        }
        verdict.reasons.extend(kept.troubles.iter().map(|(_, why)| why.clone()));
        verdict.reasons.dedup();
        for why in self.steps.troubles() {
            codes.push(Exit::Failed as u8);
            // A daemon that was lost may have said it already.
            if !verdict.reasons.contains(&why) {
                verdict.reasons.push(why);
            }
        }
        let exit = ORDER.into_iter().find(|exit| codes.contains(&(*exit as u8)));
        verdict.exit_code = exit.unwrap_or(Exit::Passed) as u8;
        verdict.outcome = match exit {
            None => How::Passed,
            Some(Exit::Aborted | Exit::Internal) => How::Aborted,
            Some(Exit::Incomplete) => How::Incomplete,
            Some(_) => How::Failed,
        };
        verdict
    }
}

/// Adds what came of a step to what came of those before.
fn add(sum: &mut Outcome, mut step: Outcome) {
    if let Some(traffic) = &mut step.traffic {
        traffic.failures = std::mem::take(&mut step.failures);
    }
    if sum.of.is_empty() {
        (sum.of, sum.requested, sum.succeeded) = (step.of.clone(), step.requested, step.succeeded);
        (sum.failed, sum.max_failures) = (step.failed, step.max_failures);
    }
    if !step.site.host.is_empty() {
        sum.site = step.site;
    }
    // What a clean-up could not delete stands in its own list.
    if step.of != "things" {
        sum.failures.extend(step.failures);
        sum.failed_things.extend(step.failed_things);
    }
    if step.phases != Default::default() {
        sum.phases = step.phases;
    }
    sum.users = sum.users.max(step.users);
    sum.builds = step.builds.or(sum.builds.take());
    sum.traffic = step.traffic.or(sum.traffic.take());
    sum.command = step.command.or(sum.command.take());
    if !step.things.is_empty() {
        sum.things = step.things;
    }
    sum.cleanup = step.cleanup.or(sum.cleanup.take());
    // The client's own counts go on from step to step, and with them what it says of the limiter; traffic has none.
    if step.requests.sent > sum.requests.sent {
        sum.requests = step.requests;
        sum.warnings.retain(|old| !(old.contains("rate limiter") && old.contains(" requests:")));
    }
    for (address, count) in step.replicas {
        let seen = sum.replicas.entry(address).or_default();
        *seen = (*seen).max(count);
    }
    for version in step.versions {
        if !sum.versions.contains(&version) {
            sum.versions.push(version);
        }
    }
    for warning in step.warnings {
        if !sum.warnings.contains(&warning) {
            sum.warnings.push(warning);
        }
    }
}

/// One that several hold.
pub type Shared = Rc<Course>;
