//! The scenario's own task, on the control thread: one step after the other.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use scale_api::coder::{Cleanup, JOB_TIMEOUT, TIMEOUT};
use scale_api::http::{Problem, ProblemCode};
use scale_api::report::Exit;
use scale_api::scenario::step::Phase;
use scale_api::scenario::{CleanUp, When};
use scale_api::units::Span;
use scale_coder::client::Client;
use scale_coder::flows::plan::{self, Choice};
use scale_coder::ledger::{self, Ledger};
use scale_coder::names::Names;
use scale_coder::preflight::Site;

use super::course::{AFTER, BASELINE, BEFORE, CLEAN_UP, CREATE, Course, Shared, TRAFFIC};
use super::look::Looked;
use super::probe::Probe;
use super::steps::Steps;
use super::walk::{TRAFFIC_OVER, Walk};
use super::{groups, owed};
use crate::control::coder::going::Going;
use crate::control::coder::look::{Ready, Times, Todo};
use crate::control::coder::{begin_ledger, outcome, wall_now};
use crate::control::state::State;
use crate::run::targets::Caps;

/// What the probe may take of the list's caps beside the traffic: a connection, and the one that follows it.
pub(super) const PROBE: Caps = Caps { streams: Some(2), connects_milli: Some(1000), bytes_per_second: None };

type States = Rc<RefCell<State>>;

/// Begins the ledger and the task.
///
/// # Errors
/// Another run is going; the disk's.
pub async fn start(state: States, mut looked: Looked) -> Result<String, Problem> {
    let id = looked.id.clone();
    let folder = state.borrow().store.folder(&id);
    let create = looked.create.take();
    let ledger = match &create {
        Some(ready) => begin_ledger(&state, ready).await?,
        None => None,
    };
    if ledger.is_some() && looked.scenario.cleanup().when == When::Always {
        owed::note(&folder, &looked.deployment, looked.scenario.cleanup());
    }
    let course = {
        let mut state = state.borrow_mut();
        if let Err(why) = state.is_free() {
            // Another run began meanwhile; nothing was made, the ledger is empty.
            let _ = std::fs::remove_dir_all(folder);
            return Err(why);
        }
        let name = looked.scenario.name.clone();
        let ledger_file = folder.join(ledger::FILE_NAME);
        let steps = Steps::new(looked.scenario.step.clone());
        let (warnings, permit) = (looked.warnings.clone(), looked.permit.clone());
        let course = Course::new(id.clone(), name, ledger_file, warnings, permit, steps);
        let (labels, environment) = (&looked.scenario.labels, &looked.scenario.environment);
        let course = Rc::new(course.labelled(labels.clone(), environment.clone()));
        state.begin_scenario(course.clone());
        drop(state);
        course
    };
    tokio::task::spawn_local(Drive { state, course, looked }.run(create.zip(ledger)));
    Ok(id)
}

struct Drive {
    state: States,
    course: Shared,
    looked: Looked,
}

impl Drive {
    async fn run(self, create: Option<(Ready, Ledger)>) {
        let Self { state, course, looked } = &self;
        let mut made = None;
        if let Some((ready, ledger)) = create {
            if let Todo::Workspaces { names, .. } = &ready.todo {
                made = Some(names.clone());
            }
            course.enter(CREATE);
            let root = state.borrow().store.root().to_owned();
            state.borrow_mut().begin_flow(Going::start(ready, Some(ledger), root));
            course.step_over().await;
        }
        if let Some(baseline) = looked.scenario.baseline
            && course.goes_on()
        {
            course.enter(BASELINE);
            let _probe = Probe::start(&looked.client, BASELINE, course.samples.clone());
            course.wait(Duration::from_nanos(baseline.duration.ns())).await;
        }
        let spec = looked.scenario.planned(None);
        let walk = Walk { state, course, spec: &spec };
        if walk.has(Phase::Before) && course.goes_on() {
            course.enter(BEFORE);
            walk.go(Phase::Before).await;
        }
        if !looked.scenario.group.is_empty() && course.goes_on() {
            course.enter(TRAFFIC);
            let probe = Probe::start(&looked.client, TRAFFIC, course.samples.clone());
            match self.begin_traffic(made.as_ref()).await {
                Ok(true) => {
                    let over = async {
                        course.step_over().await;
                        // A command may go on: what the API takes then is not under traffic.
                        drop(probe);
                        course.steps.close(TRAFFIC_OVER);
                    };
                    tokio::join!(over, walk.go(Phase::Traffic));
                }
                Ok(false) => course.trouble(Exit::Aborted, "ended before its traffic began"),
                Err(why) => {
                    // What was valid before anything was made is so no more: the target has not carried it.
                    let exit = why.code.exit();
                    let exit = if exit == Exit::Usage { Exit::Failed } else { exit };
                    course.trouble(exit, format!("traffic: {}", why.detail));
                }
            }
        }
        if let Some(door) = looked.client.door() {
            door.slow_down(None);
        }
        if walk.has(Phase::After) && course.has_touched() && !course.is_cut_off() {
            course.enter(AFTER);
            walk.go(Phase::After).await;
        }
        let how = looked.scenario.cleanup();
        let is_to_go = match how.when {
            When::Always => true,
            When::Success => course.has_passed(),
            When::Never => false,
        };
        if made.is_some() && is_to_go && !course.is_cut_off() {
            clean_up(state, course, &looked.client, &looked.site, how).await;
        }
        if !course.is_shut_down() {
            owed::forget(&state.borrow().store.folder(&course.id));
        }
        course.end();
    }

    /// `false`: it was stopped meanwhile.
    async fn begin_traffic(&self, made: Option<&Names>) -> Result<bool, Problem> {
        let found = groups::find(&self.looked, made, false).await?;
        self.course.warn(found.warnings);
        let (here, permit) = {
            let state = self.state.borrow();
            // The list may have been read again since the look.
            (state.place(), self.looked.permit.under(&state.targets).beside(PROBE))
        };
        if let Some(door) = self.looked.client.door() {
            door.slow_down(PROBE.connects_milli);
        }
        let (spec, plan) = crate::control::resolve::plan(found.spec, here, permit).await?;
        if !plan.summary.cannot.is_empty() {
            return Err(Problem::new(ProblemCode::HostCannotCarry, plan.summary.cannot.join("\n")));
        }
        if !self.course.goes_on() {
            return Ok(false);
        }
        let mut state = self.state.borrow_mut();
        state.launch(self.course.id.clone(), spec, plan)?;
        self.course.traffic_begins();
        if let Some(run) = state.run() {
            run.set_fleet(found.fleet);
        }
        Ok(true)
    }
}

/// Deletes what the scenario has made.
pub async fn clean_up(state: &States, course: &Shared, client: &Client, site: &Site, how: CleanUp) {
    let root = state.borrow().store.root().to_owned();
    if outcome::owned(&root.join(&course.id).join(ledger::FILE_NAME)) == 0 {
        return;
    }
    course.enter(CLEAN_UP);
    let choice = Choice { run: Some(course.id.clone()), ..Choice::default() };
    let plan = match plan::plan(client, site.deployment.as_deref(), &root, &choice, wall_now()).await {
        Ok(plan) => plan,
        Err(error) => {
            let id = &course.id;
            let why = format!("nothing was deleted: {error}; run `scalectl cleanup --run {id}`");
            return course.trouble(Exit::Left, why);
        }
    };
    if course.is_cut_off() {
        return;
    }
    let span = |span: Span| Duration::from_nanos(span.ns());
    let times = Times { all: span(how.timeout.unwrap_or(TIMEOUT)), each: span(JOB_TIMEOUT) };
    let ask = Cleanup { cleanup_concurrency: how.concurrency, ..Cleanup::default() };
    let ready = Ready {
        id: course.id.clone(),
        client: client.clone(),
        site: site.clone(),
        todo: Todo::Cleanup { ask, plan },
        making: times,
        deleting: times,
        max_failures: 0,
        warnings: Vec::new(),
        permit: course.permit().clone(),
    };
    state.borrow_mut().begin_flow(Going::start(ready, None, root));
    course.step_over().await;
}
