//! The second step of clean-up: deletes what the plan lists, workspaces first, then users (the protocol's recipe
//! of clean-up). May be cut off anywhere: another plan lists what is left.
//!
//! A create without an answer may come true behind the back of whoever looked, even twice where it was sent again.
//! So what is unsettled is deleted at once where it is there, and looked for again when the time to settle
//! ([`Pace::settle`](crate::config::Pace::settle)) has passed since this clean-up began: nobody sends any more by
//! then, and what was sent has come true or never will. That look is the last. Where all is settled, nothing waits.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

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
use crate::time::{Timestamp, between, later};
use crate::types::{Build, User, Workspace};

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

/// What has become of one thing so far.
#[derive(Debug, Default)]
struct Fate {
    /// Whether anything was there to be deleted.
    was_there: bool,
    /// How it ended; `None` as long as it has not.
    end: Option<Result<(), Failure>>,
}

/// What is shared by all jobs.
struct Work<'a> {
    flow: &'a Flow<'a>,
    plan: &'a Plan,
    ledgers: BTreeMap<PathBuf, Ledger>,
    watching: Watching,
    /// From then on no create of an earlier flow can come true.
    settled_at: Timestamp,
    fates: Vec<Mutex<Fate>>,
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
        let work = Work {
            flow: self,
            plan,
            ledgers,
            watching: Watching::default(),
            settled_at: later(self.clock.now(), self.client.pace().settle),
            fates: (0..count).map(|_| Mutex::default()).collect(),
        };
        let ended = self.run(work.all()).await;
        self.progress.settle(None);
        let mut cleaned = Cleaned { workspaces: 0, users: 0, gone: 0, left: Vec::new(), ended };
        for index in 0..count {
            let (planned, unfinished) = (work.planned(index), self.unfinished(ended, index));
            let fate = std::mem::take(&mut *work.fate(index));
            match (fate.end, unfinished) {
                (Some(Ok(())), _) if !fate.was_there => cleaned.gone += 1,
                (Some(Ok(())), _) if planned.kind == Kind::Workspace => cleaned.workspaces += 1,
                (Some(Ok(())), _) => cleaned.users += 1,
                (Some(Err(failure)), _) | (None, Some(failure)) => {
                    cleaned.left.push(Left { kind: planned.kind, name: planned.name.clone(), failure });
                }
                (None, None) => unreachable!("what has no end is unfinished"),
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

    fn fate(&self, index: usize) -> MutexGuard<'_, Fate> {
        self.fates[index].lock().expect("no job panics")
    }

    /// Users come last: one that owns a workspace cannot be deleted, and what a deleted one owns is not found by its
    /// name.
    async fn all(&self) {
        let workspaces = self.plan.workspaces.len();
        for things in [0..workspaces, workspaces..self.fates.len()] {
            self.flow.all(things.clone().map(|index| self.job(index).boxed())).await;
            let is_unsettled = |index: &usize| self.flow.progress.state(*index) == State::Settling;
            let unsettled: Vec<usize> = things.filter(is_unsettled).collect();
            if !unsettled.is_empty() {
                self.settle().await;
                self.flow.all(unsettled.into_iter().map(|index| self.job(index).boxed())).await;
            }
        }
    }

    /// Waits until no create can come true any more.
    async fn settle(&self) {
        self.flow.progress.settle(Some(self.settled_at));
        while !self.is_settled() {
            tokio::time::sleep(between(self.flow.clock.now(), self.settled_at)).await;
        }
        self.flow.progress.settle(None);
    }

    fn is_settled(&self) -> bool {
        self.flow.clock.now() >= self.settled_at
    }

    async fn job(&self, index: usize) {
        let planned = self.planned(index);
        // What counts is when the look begins.
        let is_last_look = !planned.unsettled || self.is_settled();
        let delete = async {
            match planned.kind {
                Kind::Workspace => self.workspace(index).await?,
                Kind::User => self.user(index).await?,
            }
            match &planned.ledger {
                Some(path) if is_last_look => self.ledgers[path].deleted(planned.kind, &planned.name)?,
                _ => {}
            }
            Ok(())
        };
        let done = tokio::time::timeout(self.flow.job_timeout, delete).await;
        let end = done.unwrap_or_else(|_| {
            Err(match self.flow.progress.state(index) {
                State::Cancelling | State::Deleting if planned.kind == Kind::Workspace => {
                    Failure::of(Class::BuildTimeout)
                }
                _ => Failure::of(Class::RequestTimeout),
            })
        });
        match &end {
            Ok(()) if !is_last_look => return self.flow.progress.set(index, State::Settling),
            Ok(()) => self.flow.progress.set(index, State::Deleted),
            Err(failure) => self.flow.progress.fail(index, failure.class),
        }
        self.fate(index).end = Some(end);
    }

    /// Deletes the workspace of this id, and of one that is unsettled also what its owner has by its name.
    async fn workspace(&self, index: usize) -> Result<(), Failure> {
        let (client, planned) = (self.flow.client, self.planned(index));
        self.flow.progress.set(index, State::Deleting);
        if let Some(id) = &planned.id
            && let Some(found) = client.workspace(id).await?
        {
            self.delete_workspace(index, found).await?;
        }
        if planned.unsettled
            && let Some(owner) = &planned.owner
            && let Some(found) = client.workspace_named(owner, &planned.name).await?
        {
            self.delete_workspace(index, found).await?;
        }
        Ok(())
    }

    async fn delete_workspace(&self, index: usize, mut workspace: Workspace) -> Result<(), Failure> {
        let (client, planned, mut failed) = (self.flow.client, self.planned(index), 0);
        let step = |state| self.flow.progress.set(index, state);
        let id = workspace.id.clone();
        loop {
            self.may_go(planned, &workspace)?;
            let last = &workspace.latest_build;
            let build = match (last.transition.as_str(), last.job.is_active()) {
                ("delete", true) => last.clone(),
                ("delete", false) if last.job.status == "succeeded" => return Ok(()),
                (_, true) => {
                    step(State::Cancelling);
                    self.cancelled(last).await?;
                    step(State::Deleting);
                    self.delete_build(&id).await?
                }
                (_, false) => self.delete_build(&id).await?,
            };
            self.fate(index).was_there = true;
            // An empty id says that another build is in the way after all: look again.
            if !build.id.is_empty() {
                match self.watching.build(client, &build.id, |_| ()).await? {
                    None => return Ok(()),
                    Some(build) => match verdict(&build) {
                        Ok(()) if build.transition == "delete" => return Ok(()),
                        Ok(()) => {}
                        Err(failure) if failed >= DELETE_RETRIES => return Err(failure),
                        Err(_) => failed += 1,
                    },
                }
            }
            client.back_off(failed + 1, None).await;
            let Some(now) = client.workspace(&id).await? else { return Ok(()) };
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

    /// Deletes the user of this id, and of one that is unsettled also whoever bears its name and its address: another
    /// address is another run's.
    async fn user(&self, index: usize) -> Result<(), Failure> {
        let (client, planned) = (self.flow.client, self.planned(index));
        self.flow.progress.set(index, State::Deleting);
        if let Some(id) = &planned.id
            && let Some(found) = client.user(id).await?
        {
            self.delete_user(index, &found).await?;
        }
        if planned.unsettled
            && let Some(found) = client.user(&planned.name).await?
            && planned.email.as_ref() == Some(&found.email)
        {
            self.delete_user(index, &found).await?;
        }
        Ok(())
    }

    async fn delete_user(&self, index: usize, user: &User) -> Result<(), Failure> {
        if !bears_prefix(&user.username) {
            let seen = format!("it is called `{}` now, which is not deleted", user.username);
            return Err(Failure { class: Class::Rejected, message: seen });
        }
        if self.flow.client.delete_user(&user.id).await? {
            self.fate(index).was_there = true;
        }
        Ok(())
    }
}
