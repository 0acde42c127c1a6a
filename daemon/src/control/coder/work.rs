//! The flow's own task: makes what was looked at, closes the ledger, and deletes again what is not to stay. What is
//! cut off here is found by the next clean-up, by the ledger.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use scale_api::coder::{Cleaned, Outcome};
use scale_coder::flows::create::{AgentRule, CreateWorkspaces};
use scale_coder::flows::plan::{self, Choice, Plan};
use scale_coder::flows::users::CreateUsers;
use scale_coder::flows::{Ended, Flow};
use scale_coder::ledger::Ledger;
use scale_coder::progress::Progress;
use scale_coder::stop::Stop;
use scale_coder::time::Clock;

use super::look::{Ready, Times, Todo};
use super::{outcome, wall_now};

/// What a flow is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Users.
    CreateUsers,
    /// Workspaces.
    CreateWorkspaces,
    /// Clean-up.
    Cleanup,
}

impl Phase {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateUsers => "create users",
            Self::CreateWorkspaces => "create workspaces",
            Self::Cleanup => "clean up",
        }
    }

    /// Of a flow at its beginning.
    pub const fn first(todo: &Todo) -> Self {
        match todo {
            Todo::Users { .. } => Self::CreateUsers,
            Todo::Workspaces { .. } => Self::CreateWorkspaces,
            Todo::Cleanup { .. } => Self::Cleanup,
        }
    }
}

/// What the task shares with whoever watches it.
pub struct Shared {
    /// Where it is.
    pub phase: Cell<Phase>,
    /// Set: nothing more is begun.
    pub is_over: Cell<bool>,
    /// The counts of the phase.
    pub progress: Progress,
    /// What came of it so far; what it says is final once the task has ended.
    pub outcome: RefCell<Outcome>,
}

/// What the task hears.
pub struct Stops {
    /// Make no more.
    pub making: Stop,
    /// Delete no more.
    pub deleting: Stop,
}

/// Does everything.
pub async fn work(ready: Ready, ledger: Option<Ledger>, state: PathBuf, stops: Stops, shared: Rc<Shared>) {
    let work = Work { clock: Clock::starting_at(wall_now()), ready, state, stops, shared };
    if let Some(ledger) = ledger {
        let path = ledger.path().to_owned();
        let ended = work.make(&ledger).await;
        work.shared.outcome.borrow_mut().ended = ended.name().into();
        // Nobody else may have it open when clean-up reads it.
        if let Err(error) = ledger.close().await {
            work.shared.outcome.borrow_mut().warnings.push(error.to_string());
        }
        if work.deletes_at_the_end() && !work.shared.is_over.get() {
            work.delete_what_was_made().await;
        }
        let owned = outcome::owned(&path);
        work.shared.outcome.borrow_mut().owned = owned;
    } else if let Todo::Cleanup { plan, .. } = &work.ready.todo {
        let ended = work.delete(plan).await;
        let mut outcome = work.shared.outcome.borrow_mut();
        outcome.ended = ended.map_or("failed", Ended::name).into();
    }
    let mut outcome = work.shared.outcome.borrow_mut();
    outcome::note_seen(&mut outcome, &work.ready.client);
}

struct Work {
    ready: Ready,
    state: PathBuf,
    stops: Stops,
    clock: Clock,
    shared: Rc<Shared>,
}

impl Work {
    fn flow<'a>(&'a self, stop: &'a Stop, times: Times, concurrency: u32) -> Flow<'a> {
        Flow {
            client: &self.ready.client,
            progress: &self.shared.progress,
            stop,
            clock: self.clock,
            concurrency,
            job_timeout: times.each,
            timeout: times.all,
        }
    }

    async fn make(&self, ledger: &Ledger) -> Ended {
        match &self.ready.todo {
            Todo::Users { ask, names, organization_id } => {
                let flow = self.flow(&self.stops.making, self.ready.making, ask.concurrency);
                let create = CreateUsers {
                    ledger,
                    names,
                    count: ask.count,
                    organization_id,
                    // Nobody keeps tokens: whoever uses these users mints its own.
                    token_lifetime: None,
                };
                let created = flow.create_users(&create).await;
                outcome::note_users(&mut self.shared.outcome.borrow_mut(), &created);
                created.ended
            }
            Todo::Workspaces { ask, names, owners, chosen, command } => {
                let flow = self.flow(&self.stops.making, self.ready.making, ask.concurrency);
                let create = CreateWorkspaces {
                    ledger,
                    names,
                    count: ask.count,
                    owners,
                    template_id: &chosen.template.id,
                    organization_id: &chosen.template.organization_id,
                    parameters: &chosen.parameters,
                    retries: ask.retry,
                    agents: if ask.no_wait_for_agents { AgentRule::Ignore } else { AgentRule::Connected },
                    command: command.as_deref(),
                    token_lifetime: self.ready.making.all + TOKEN_MARGIN,
                };
                let created = flow.create_workspaces(&create).await;
                let mut outcome = self.shared.outcome.borrow_mut();
                outcome::note_workspaces(&mut outcome, &created);
                outcome.builds = Some(outcome::builds(&created, ask.concurrency));
                outcome.command =
                    ask.run.as_ref().map(|run| outcome::command(run, &self.state, &self.ready.id));
                created.ended
            }
            Todo::Cleanup { .. } => unreachable!("a clean-up has no ledger of its own"),
        }
    }

    fn deletes_at_the_end(&self) -> bool {
        match &self.ready.todo {
            Todo::Users { ask, .. } => !ask.no_cleanup,
            Todo::Workspaces { ask, .. } => !ask.no_cleanup,
            Todo::Cleanup { .. } => false,
        }
    }

    async fn delete_what_was_made(&self) {
        self.shared.phase.set(Phase::Cleanup);
        let ready = &self.ready;
        let choice = Choice { run: Some(ready.id.clone()), ..Choice::default() };
        let deployment = ready.site.deployment.as_deref();
        match plan::plan(&ready.client, deployment, &self.state, &choice, self.clock.now()).await {
            Ok(plan) => {
                self.delete(&plan).await;
            }
            Err(error) => self.cannot_delete(&error.to_string()),
        }
    }

    /// Deletes what the plan lists; `None` where a ledger does not let it.
    async fn delete(&self, plan: &Plan) -> Option<Ended> {
        let concurrency = match &self.ready.todo {
            Todo::Users { ask, .. } => ask.cleanup_concurrency,
            Todo::Workspaces { ask, .. } => ask.cleanup_concurrency,
            Todo::Cleanup { ask, .. } => ask.cleanup_concurrency,
        };
        let began = self.clock.now();
        let flow = self.flow(&self.stops.deleting, self.ready.deleting, concurrency);
        let cleaned = flow.clean_up(plan).await;
        let seconds = scale_coder::time::between(began, self.clock.now()).as_secs_f64();
        match cleaned {
            Ok(cleaned) => {
                outcome::note_cleaned(&mut self.shared.outcome.borrow_mut(), &cleaned, seconds);
                Some(cleaned.ended)
            }
            Err(error) => {
                self.cannot_delete(&error.to_string());
                None
            }
        }
    }

    fn cannot_delete(&self, why: &str) {
        let mut outcome = self.shared.outcome.borrow_mut();
        outcome.warnings.push(format!("clean-up did not come to its end: {why}"));
        let left = outcome.owned.max(1);
        outcome.cleanup = Some(Cleaned { left, ..Cleaned::default() });
    }
}

/// How much longer than a flow may take its users' tokens are good for.
const TOKEN_MARGIN: Duration = Duration::from_secs(300);
