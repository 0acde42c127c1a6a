//! The second step of clean-up: deletes what the plan lists, workspaces first, then users (the protocol's recipe
//! of clean-up). May be cut off anywhere: another plan lists what is left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use futures_util::FutureExt;
use serde::Serialize;

use super::plan::{Plan, Planned, is_recent};
use super::wait::verdict;
use super::{Ended, Flow, Watching};
use crate::calls::Transition;
use crate::class::{Class, Failure};
use crate::ledger::{Kind, Ledger, LedgerError};
use crate::names::bears_prefix;
use crate::progress::State;
use crate::time::{between, later};
use crate::types::{Build, Workspace};

/// Delete builds after a first one that failed.
pub const DELETE_RETRIES: u32 = 2;

/// A thing that is still there.
#[derive(Debug, Clone, Serialize)]
pub struct Left {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Why.
    pub failure: Failure,
}

/// What became of the plan.
#[derive(Debug, Clone, Serialize)]
pub struct Cleaned {
    /// Workspaces deleted.
    pub workspaces: usize,
    /// Users deleted.
    pub users: usize,
    /// Things that were gone already, or never came to be.
    pub gone: usize,
    /// Things that are still there. Empty: all is clean.
    pub left: Vec<Left>,
    /// How it ended.
    pub ended: Ended,
}

/// What became of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Deleted,
    WasGone,
}

/// What is shared by all jobs.
struct Work<'a> {
    flow: &'a Flow<'a>,
    plan: &'a Plan,
    ledgers: BTreeMap<PathBuf, Ledger>,
    watching: Watching,
    fates: Vec<Mutex<Option<Result<Fate, Failure>>>>,
}

impl Flow<'_> {
    /// Deletes what `plan` lists. No ledger of the plan may be open elsewhere.
    ///
    /// # Errors
    /// A ledger that cannot be opened: then nothing was deleted. One that cannot be written: then what was
    /// deleted is listed again by the next plan, and found gone.
    pub async fn clean_up(&self, plan: &Plan) -> Result<Cleaned, LedgerError> {
        let mut ledgers = BTreeMap::new();
        for path in plan.workspaces.iter().chain(&plan.users).filter_map(|planned| planned.ledger.as_ref()) {
            if !ledgers.contains_key(path) {
                ledgers.insert(path.clone(), Ledger::open(path)?);
            }
        }
        let count = plan.workspaces.len() + plan.users.len();
        self.progress.begin(count);
        let fates = (0..count).map(|_| Mutex::new(None)).collect();
        let work = Work { flow: self, plan, ledgers, watching: Watching::default(), fates };
        let began = self.clock.now();
        let mut ended = self.run((0..plan.workspaces.len()).map(|index| work.job(index).boxed())).await;
        if ended == Ended::Done {
            // What is left of the time for all.
            let timeout = self.timeout.saturating_sub(between(began, self.clock.now()));
            let users = Flow { timeout, ..*self };
            ended = users.run((plan.workspaces.len()..count).map(|index| work.job(index).boxed())).await;
        }
        let mut cleaned = Cleaned { workspaces: 0, users: 0, gone: 0, left: Vec::new(), ended };
        for index in 0..count {
            let (planned, unfinished) = (work.planned(index), self.unfinished(ended, index));
            let fate = work.fates[index].lock().expect("no job panics").take();
            match (fate, unfinished) {
                (Some(Ok(Fate::WasGone)), _) => cleaned.gone += 1,
                (Some(Ok(Fate::Deleted)), _) if planned.kind == Kind::Workspace => cleaned.workspaces += 1,
                (Some(Ok(Fate::Deleted)), _) => cleaned.users += 1,
                (Some(Err(failure)), _) | (None, Some(failure)) => {
                    cleaned.left.push(Left { kind: planned.kind, name: planned.name.clone(), failure });
                }
                (None, None) => unreachable!("what has no fate is unfinished"),
            }
        }
        for ledger in work.ledgers.into_values() {
            ledger.close().await?;
        }
        Ok(cleaned)
    }
}

impl Work<'_> {
    fn planned(&self, index: usize) -> &Planned {
        let workspaces = &self.plan.workspaces;
        workspaces.get(index).unwrap_or_else(|| &self.plan.users[index - workspaces.len()])
    }

    async fn job(&self, index: usize) {
        let planned = self.planned(index);
        let step = |state| self.flow.progress.set(index, state);
        let delete = async {
            let fate = match planned.kind {
                Kind::Workspace => self.workspace(planned, step).await?,
                Kind::User => self.user(planned, step).await?,
            };
            if let Some(path) = &planned.ledger {
                self.ledgers[path].deleted(planned.kind, &planned.name)?;
            }
            Ok(fate)
        };
        let done = tokio::time::timeout(self.flow.job_timeout, delete).await;
        let fate = done.unwrap_or_else(|_| {
            Err(match self.flow.progress.state(index) {
                State::Cancelling | State::Deleting if planned.kind == Kind::Workspace => {
                    Failure::of(Class::BuildTimeout)
                }
                _ => Failure::of(Class::RequestTimeout),
            })
        });
        match &fate {
            Ok(_) => self.flow.progress.set(index, State::Deleted),
            Err(failure) => self.flow.progress.fail(index, failure.class),
        }
        *self.fates[index].lock().expect("no job panics") = Some(fate);
    }

    /// The workspace as it is now; one that was announced and is not listed is looked for until its create
    /// cannot come true any more.
    async fn look_for(&self, planned: &Planned) -> Result<Option<Workspace>, Failure> {
        let client = self.flow.client;
        if let Some(id) = &planned.id {
            return Ok(client.workspace(id).await?);
        }
        let owner = planned.owner.as_deref().unwrap_or_default();
        loop {
            let found = client.workspace_named(owner, &planned.name).await?;
            if found.is_some() || self.is_settled(planned) {
                return Ok(found);
            }
            client.rest(1).await;
        }
    }

    fn is_settled(&self, planned: &Planned) -> bool {
        let settle = self.flow.client.pace().settle;
        planned.announced.is_none_or(|at| later(at, settle) <= self.flow.clock.now())
    }

    async fn workspace(&self, planned: &Planned, step: impl Fn(State)) -> Result<Fate, Failure> {
        let client = self.flow.client;
        let (mut fate, mut failed) = (Fate::WasGone, 0);
        step(State::Deleting);
        let Some(mut workspace) = self.look_for(planned).await? else { return Ok(fate) };
        let id = workspace.id.clone();
        loop {
            self.may_go(planned, &workspace)?;
            let last = &workspace.latest_build;
            let build = match (last.transition.as_str(), last.job.is_active()) {
                ("delete", true) => last.clone(),
                ("delete", false) if last.job.status == "succeeded" => return Ok(fate),
                (_, true) => {
                    step(State::Cancelling);
                    self.cancelled(last).await?;
                    step(State::Deleting);
                    self.delete_build(&id).await?
                }
                (_, false) => self.delete_build(&id).await?,
            };
            fate = Fate::Deleted;
            // An empty id says that another build is in the way after all: look again.
            if !build.id.is_empty() {
                match self.watching.build(client, &build.id, |_| ()).await? {
                    None => return Ok(fate),
                    Some(build) => match verdict(&build) {
                        Ok(()) if build.transition == "delete" => return Ok(fate),
                        Ok(()) => {}
                        Err(failure) if failed >= DELETE_RETRIES => return Err(failure),
                        Err(_) => failed += 1,
                    },
                }
            }
            client.back_off(failed + 1, None).await;
            let Some(now) = client.workspace(&id).await? else { return Ok(fate) };
            workspace = now;
        }
    }

    /// A build that deletes the workspace; one without an id where another build came first or nothing is left.
    async fn delete_build(&self, workspace: &str) -> Result<Build, Failure> {
        match self.flow.client.start_build(workspace, Transition::Delete).await {
            Err(error) if error.is_gone() || error.status() == Some(409) => Ok(Build::default()),
            answer => Ok(answer?),
        }
    }

    /// Cancels a build and waits for its end. One that cannot be cancelled is waited for as it is.
    async fn cancelled(&self, build: &Build) -> Result<(), Failure> {
        match self.flow.client.cancel_build(&build.id).await {
            Err(error) if error.is_passing() || error.class() == Class::Unauthorized => {
                return Err(error.into());
            }
            _ => {}
        }
        self.watching.build(self.flow.client, &build.id, |_| ()).await?;
        Ok(())
    }

    /// The last look before it goes: the name may have changed, somebody may have begun to use it.
    fn may_go(&self, planned: &Planned, workspace: &Workspace) -> Result<(), Failure> {
        if !bears_prefix(&workspace.name) {
            let seen = format!("it is called `{}` now, which is not deleted", workspace.name);
            return Err(Failure { class: Class::Rejected, message: seen });
        }
        let now = self.flow.client.seen().server_time.unwrap_or_else(|| self.flow.clock.now());
        // What this very clean-up builds is no use of it.
        let is_ours = planned.ledger.is_some() || workspace.latest_build.transition == "delete";
        if self.plan.spares_recent && !is_ours && is_recent(workspace, now) {
            let seen = "it was used in the last 10 minutes; --force deletes it all the same".to_owned();
            return Err(Failure { class: Class::Rejected, message: seen });
        }
        Ok(())
    }

    /// A user that was announced, but not seen made, may come true more than once: of a create that was
    /// sent again because its answer was lost. It is looked for until no such create can come true.
    async fn user(&self, planned: &Planned, step: impl Fn(State)) -> Result<Fate, Failure> {
        let client = self.flow.client;
        let mut fate = Fate::WasGone;
        step(State::Deleting);
        loop {
            let settled = planned.id.is_some() || self.is_settled(planned);
            if let Some(user) = client.user(planned.id.as_ref().unwrap_or(&planned.name)).await? {
                if planned.id.is_none() && Some(&user.email) != planned.email.as_ref() {
                    // Somebody else's user bears the name: ours was never made.
                    return Ok(fate);
                }
                if !bears_prefix(&user.username) {
                    let seen = format!("it is called `{}` now, which is not deleted", user.username);
                    return Err(Failure { class: Class::Rejected, message: seen });
                }
                if client.delete_user(&user.id).await? {
                    fate = Fate::Deleted;
                }
            }
            if settled {
                return Ok(fate);
            }
            client.rest(1).await;
        }
    }
}
