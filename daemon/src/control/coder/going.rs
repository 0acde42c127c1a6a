//! A flow while it goes: an event a second, the report so far, its end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use scale_api::coder::{self as wire, Outcome};
use scale_api::http::{DoctorEntry, Problem};
use scale_api::report::{self, Event, Exit, Report, Verdict};
use scale_coder::client::Client;
use scale_coder::ledger::Ledger;
use scale_coder::progress::{Counts, Progress, State};
use scale_coder::stop::{Stop, Stopper};
use scale_ring::{Time, host};
use tokio::task::JoinHandle;

use super::look::{Ready, Todo};
use super::outcome::{self, by_name};
use super::work::{self, Phase, Shared, Stops};
use crate::run::marks::Marks;
use crate::run::supervisor::wall_seconds;
use crate::run::targets::Permit;

/// Seconds over which the rate is taken.
const RATE_SECONDS: usize = 10;
/// After a stop at once: how long the task may take to take note of it.
const OVER_SECONDS: f64 = 0.5;

/// A going flow.
pub struct Going {
    /// The run's id.
    pub id: String,
    name: &'static str,
    started: Time,
    started_at: f64,
    client: Client,
    making: Stopper,
    deleting: Stopper,
    shared: Rc<Shared>,
    task: JoinHandle<()>,
    aborted: Option<String>,
    over_at: Option<f64>,
    /// Of the phase: how many were done at the end of each of the last seconds.
    done: VecDeque<u64>,
    phase: Phase,
    warnings: Vec<String>,
    marks: Marks,
    event: Event,
    host: Vec<DoctorEntry>,
    folder: PathBuf,
    permit: Permit,
}

impl Going {
    /// Begins the task, on the control thread.
    pub fn start(ready: Ready, ledger: Option<Ledger>, state: PathBuf) -> Self {
        let phase = Phase::first(&ready.todo);
        let (of, requested) = match &ready.todo {
            Todo::Users { ask, .. } => ("users", ask.count.into()),
            Todo::Workspaces { ask, .. } => ("workspaces", ask.count.into()),
            Todo::Cleanup { plan, .. } => ("things", (plan.workspaces.len() + plan.users.len()) as u64),
        };
        let outcome = Outcome {
            flow: ready.name().into(),
            site: ready.wire_site(),
            of: of.into(),
            requested,
            max_failures: ready.max_failures,
            ended: "going".into(),
            warnings: ready.warnings.clone(),
            ..Outcome::default()
        };
        let shared = Rc::new(Shared {
            phase: Cell::new(phase),
            is_over: Cell::new(false),
            progress: Progress::default(),
            outcome: RefCell::new(outcome),
        });
        let (making, stop_making): (Stopper, Stop) = Stopper::new();
        let (deleting, stop_deleting) = Stopper::new();
        let stops = Stops { making: stop_making, deleting: stop_deleting };
        let (id, name, client) = (ready.id.clone(), ready.name(), ready.client.clone());
        let (warnings, folder) = (ready.warnings.clone(), state.join(&ready.id));
        let permit = ready.permit.clone();
        let task = tokio::task::spawn_local(work::work(ready, ledger, state, stops, shared.clone()));
        let mut going = Self {
            id,
            name,
            started: host::monotonic_now(),
            started_at: wall_seconds(),
            client,
            making,
            deleting,
            shared,
            task,
            aborted: None,
            over_at: None,
            done: VecDeque::new(),
            phase,
            warnings,
            marks: Marks::default(),
            event: Event::default(),
            host: Vec::new(),
            folder,
            permit,
        };
        going.event = going.make_event(0.0);
        going
    }

    /// For whom it goes, and what that one may hit.
    pub const fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Where its requests go: the deployment's host and addresses.
    pub fn place(&self) -> (String, Vec<std::net::SocketAddr>) {
        self.client.place()
    }

    /// What `doctor` saw when it began.
    pub fn set_host(&mut self, host: Vec<DoctorEntry>) {
        self.host = host;
    }

    /// Something that its events are to say.
    pub fn warn(&mut self, why: String) {
        self.warnings.push(why);
    }

    fn elapsed(&self) -> f64 {
        host::monotonic_now().since(self.started).as_secs_f64()
    }

    /// Ends it. What was made is deleted then, if it was to be; `now`, or once more: it is left to `cleanup`.
    pub fn stop(&mut self, why: &str, now: bool) {
        let is_deleting = self.shared.phase.get() == Phase::Cleanup;
        self.making.stop();
        if now || is_deleting {
            self.shared.is_over.set(true);
            self.deleting.stop();
            self.over_at.get_or_insert(host::monotonic_now().since(self.started).as_secs_f64());
        }
        self.aborted.get_or_insert(why.to_owned());
    }

    /// Looks after it. `true`: a second is complete, and [`Self::event`] is new.
    pub fn poll(&mut self) -> bool {
        let elapsed = self.elapsed();
        if self.over_at.is_some_and(|at| elapsed - at > OVER_SECONDS) {
            // Dropped where it stands: the ledger says the rest.
            self.task.abort();
        }
        if elapsed < self.event.now.at + 1.0 {
            return false;
        }
        self.event = self.make_event(elapsed.floor());
        self.marks.said();
        true
    }

    /// Puts a named moment on the time line.
    ///
    /// # Errors
    /// It is no line of text, or there are too many already.
    pub fn mark(&mut self, text: &str) -> Result<(), Problem> {
        self.marks.add(self.elapsed(), text)
    }

    /// The named moments so far.
    pub const fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// How far it is.
    pub const fn event(&self) -> &Event {
        &self.event
    }

    fn make_event(&mut self, second: f64) -> Event {
        let (phase, counts) = (self.shared.phase.get(), self.shared.progress.counts());
        if phase != self.phase {
            (self.phase, self.done) = (phase, VecDeque::new());
        }
        let done = counts.of(State::Ready) + counts.of(State::Deleted) + counts.of(State::Failed);
        self.done.push_back(done);
        if self.done.len() > RATE_SECONDS + 1 {
            self.done.pop_front();
        }
        let rate = self
            .done
            .front()
            .filter(|_| self.done.len() > 1)
            .map(|first| done.saturating_sub(*first) as f64 / (self.done.len() - 1) as f64);
        // Before the task's first step nothing is counted yet.
        let total = if counts.total() == 0 && second == 0.0 {
            self.shared.outcome.borrow().requested
        } else {
            counts.total()
        };
        let left = total.saturating_sub(done);
        let remaining = rate.filter(|rate| *rate > 0.0).map(|rate| left as f64 / rate);
        let seen = self.client.seen();
        let progress = wire::Progress {
            phase: phase.name().into(),
            host: self.client.host(),
            total,
            states: by_name(&counts.states, |state| state.name()),
            failed: by_name(&counts.failed, |class| class.name()),
            rate,
            waits_for: waits_for(&counts),
            rate_limited: seen.rate_limited,
        };
        let mut warnings = self.warnings.clone();
        warnings.extend(seen.limiter_warning());
        Event {
            run: self.id.clone(),
            name: Some(self.name.into()),
            state: phase.name().into(),
            elapsed: second,
            remaining,
            now: report::SeriesRow { at: second, stage: phase.name().into(), ..Default::default() },
            warnings,
            marks: self.marks.fresh().to_vec(),
            coder: Some(progress),
            ..Event::default()
        }
    }

    /// The report so far, or at the end.
    pub fn report(&self) -> Report {
        let mut outcome = self.shared.outcome.borrow().clone();
        let mut verdict = outcome::judge(&outcome, self.aborted.as_deref());
        if self.is_finished() && outcome.ended == "going" {
            outcome.ended = "stopped".into();
            outcome.owned = outcome::owned(&self.folder.join(scale_coder::ledger::FILE_NAME));
            if self.aborted.is_none() {
                let why =
                    "the flow ended by itself: a bug of scaled; `scalectl cleanup` deletes what it made";
                verdict = Verdict {
                    exit_code: Exit::Internal as u8,
                    reasons: vec![why.into()],
                    ..Verdict::default()
                };
            }
        }
        Report {
            schema: report::SCHEMA,
            run: report::Run {
                id: self.id.clone(),
                name: Some(self.name.into()),
                started_at: self.started_at,
                ended_at: wall_seconds(),
                going: false,
                version: env!("CARGO_PKG_VERSION").into(),
                kernel: host::facts::kernel_release(),
                started_by: self.permit.started_by(),
                ..report::Run::default()
            },
            verdict,
            marks: self.marks.list().to_vec(),
            host: self.host.clone(),
            coder: Some(outcome),
            ..Report::default()
        }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What most of what is under way waits for.
fn waits_for(counts: &Counts) -> Option<String> {
    let waits = [
        (State::Creating, "the API"),
        (State::Queued, "a provisioner"),
        (State::Building, "the end of builds"),
        (State::AgentConnecting, "agents"),
        (State::Connecting, "terminals"),
        (State::RunningCommand, "the end of commands"),
        (State::Cancelling, "builds that are cancelled first"),
        (State::Deleting, "deletes"),
    ];
    let most = waits.into_iter().max_by_key(|(state, _)| counts.of(*state))?;
    (counts.of(most.0) > 0).then(|| most.1.to_owned())
}
