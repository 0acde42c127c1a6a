//! The first step of clean-up: a list of what would go, made without changing anything.
//!
//! What may go: what bears the prefix **and** stands in a ledger of this host about this deployment. With
//! `all_prefixed`: what bears the prefix (a user also our mail domain), but nothing that was used, made or built
//! in the last ten minutes, unless forced. Everything else that bears the prefix is only counted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::users::is_test_user;
use crate::calls::search;
use crate::client::Client;
use crate::error::ApiError;
use crate::ledger::{self, Entry, Found, Kind, LedgerError, Stage};
use crate::names::{PREFIX, bears_prefix};
use crate::time::{Timestamp, between};
use crate::types::{User, Workspace};

/// What was used within this time is somebody's, unless it is in the ledger or forced.
pub const RECENT: Duration = Duration::from_secs(600);

/// What is to go.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only of this run.
    pub run: Option<String>,
    /// Only of runs that began so long ago.
    pub older_than: Option<Duration>,
    /// By prefix alone, whoever made it.
    pub all_prefixed: bool,
    /// With `all_prefixed`: also what was used in the last ten minutes.
    pub force: bool,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No such run here.
    #[error("this host has no ledger of run {run} on {host}; scalectl cleanup --dry-run lists without --run")]
    NoRun {
        /// What was asked for.
        run: String,
        /// The deployment.
        host: String,
    },
    /// `--run` and `--older-than` choose from ledgers, `--all-prefixed` goes by names.
    #[error("--all-prefixed goes by names and knows no runs; leave out --run and --older-than")]
    Contradiction,
    /// A ledger that cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// A thing that would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// UUID; `None` where it was announced, is not listed, and has to be looked for: then it is unsettled.
    pub id: Option<String>,
    /// Of a workspace: its owner's name.
    pub owner: Option<String>,
    /// A workspace's state by its last build, a user's status; `not found` where it is not listed.
    pub state: String,
    /// The run that made it; `None` where no ledger here knows it.
    pub run: Option<String>,
    /// The ledger that is to know of it.
    #[serde(skip)]
    pub(super) ledger: Option<PathBuf>,
    /// Whether a create of it may still come true at the server, so that it is looked for again.
    pub unsettled: bool,
    /// The address that proves a user ours, where a ledger knows it.
    #[serde(skip)]
    pub(super) email: Option<String>,
}

/// What would go, and what stays.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// Workspaces that would go.
    pub workspaces: Vec<Planned>,
    /// Users that would go after them.
    pub users: Vec<Planned>,
    /// Workspaces that bear the prefix and are not ours to delete.
    pub foreign_workspaces: usize,
    /// Users that bear the prefix and are not ours to delete.
    pub foreign_users: usize,
    /// Names that `all_prefixed` spares, since they were used a short while ago.
    pub spared: Vec<String>,
    /// Ledgers here that are not empty and about other deployments.
    pub other_deployments: usize,
    /// What was used a short while ago is looked at again before it goes.
    #[serde(skip)]
    pub(super) spares_recent: bool,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.workspaces.is_empty() && self.users.is_empty()
    }

    /// How many things may still come true, late, so that clean-up has to wait for them.
    pub fn unsettled(&self) -> usize {
        self.workspaces.iter().chain(&self.users).filter(|planned| planned.unsettled).count()
    }

    /// How many workspaces are in which state.
    pub fn states(&self) -> BTreeMap<&str, usize> {
        let mut states = BTreeMap::new();
        for workspace in &self.workspaces {
            *states.entry(workspace.state.as_str()).or_default() += 1;
        }
        states
    }
}

impl std::fmt::Display for Plan {
    /// What would go and what stays, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} workspaces", self.workspaces.len())?;
        let states: Vec<_> = self.states().iter().map(|(state, count)| format!("{count} {state}")).collect();
        if !states.is_empty() {
            write!(f, " ({})", states.join(", "))?;
        }
        write!(f, " and {} users would go", self.users.len())?;
        if self.unsettled() > 0 {
            write!(f, "; {} of them had no answer when they were made and may still come", self.unsettled())?;
        }
        if self.foreign_workspaces + self.foreign_users > 0 {
            write!(
                f,
                "; {} workspaces and {} users more bear the prefix {PREFIX} and are not ours",
                self.foreign_workspaces, self.foreign_users
            )?;
        }
        if !self.spared.is_empty() {
            write!(
                f,
                "; {} were used in the last 10 minutes and stay, --force takes them too",
                self.spared.len()
            )?;
        }
        if self.other_deployments > 0 {
            write!(f, "; {} runs own things on other deployments", self.other_deployments)?;
        }
        Ok(())
    }
}

/// Whether a workspace was used, made or built a short while before `now`.
pub(super) fn is_recent(workspace: &Workspace, now: Timestamp) -> bool {
    let times = [workspace.last_used_at, workspace.created_at, workspace.latest_build.created_at];
    times.into_iter().flatten().any(|at| between(at, now) < RECENT)
}

/// The ledgers of this host, by what they may decide.
struct Books {
    /// Those of this deployment.
    all: Vec<Found>,
    /// Which of them are chosen.
    chosen: BTreeSet<usize>,
}

impl Books {
    /// The entry of a thing, whose entry it provably is: by id, or by owner or address where another create of it may
    /// have come true.
    fn entry(&self, kind: Kind, name: &str, is_it: impl Fn(&Found, &Entry) -> bool) -> Option<usize> {
        self.all.iter().position(|book| {
            book.contents
                .entry(kind, name)
                .is_some_and(|entry| entry.stage != Stage::Deleted && is_it(book, entry))
        })
    }

    fn workspace(&self, workspace: &Workspace) -> Option<usize> {
        self.entry(Kind::Workspace, &workspace.name, |_, entry| match entry.id() {
            Some(id) if id == workspace.id => true,
            Some(_) if !entry.unsettled => false,
            _ => entry
                .owner
                .as_ref()
                .is_none_or(|owner| workspace.owner_name.is_empty() || *owner == workspace.owner_name),
        })
    }

    fn user(&self, user: &User) -> Option<usize> {
        self.entry(Kind::User, &user.username, |book, entry| match entry.id() {
            Some(id) if id == user.id => true,
            Some(_) if !entry.unsettled => false,
            _ => Some(&user.email) == email(book, &user.username).as_ref(),
        })
    }
}

/// The address that the run of this ledger gave to its user `name`.
fn email(book: &Found, name: &str) -> Option<String> {
    let n = name.rsplit('-').next()?.parse().ok()?;
    Some(crate::names::Names::email(&book.contents.head.mark, n))
}

/// Lists what would go. `deployment` is the server's own id, where it tells one; `state` the folder with the
/// runs' folders. The server's clock decides what is recent, where it tells its time.
///
/// # Errors
/// A ledger that cannot be read, a run that is not here, a call that failed.
pub async fn plan(
    client: &Client,
    deployment: Option<&str>,
    state: &Path,
    choice: &Choice,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    if choice.all_prefixed && (choice.run.is_some() || choice.older_than.is_some()) {
        return Err(PlanError::Contradiction);
    }
    let (books, other_deployments) = books(client, deployment, state, choice, now)?;
    let workspaces = client.workspaces(&search(PREFIX, None, None)).await?;
    let users = client.users(PREFIX).await?;
    let server_now = client.seen().server_time.unwrap_or(now);
    let mut plan = Plan { other_deployments, spares_recent: !choice.force, ..Plan::default() };
    let mut owners_spared = BTreeSet::new();
    for workspace in workspaces.iter().filter(|workspace| bears_prefix(&workspace.name)) {
        let book = books.workspace(workspace);
        if book.is_some_and(|book| books.chosen.contains(&book)) {
            plan.workspaces.push(planned_workspace(workspace, book, &books));
        } else if !choice.all_prefixed {
            plan.foreign_workspaces += 1;
        } else if !choice.force && book.is_none() && is_recent(workspace, server_now) {
            plan.spared.push(workspace.name.clone());
            owners_spared.insert(workspace.owner_id.as_str());
        } else {
            plan.workspaces.push(planned_workspace(workspace, book, &books));
        }
    }
    for user in users.iter().filter(|user| is_test_user(user)) {
        let book = books.user(user);
        let seen = [user.last_seen_at, user.created_at].into_iter().flatten();
        let is_recent = seen.into_iter().any(|at| between(at, server_now) < RECENT);
        if book.is_some_and(|book| books.chosen.contains(&book)) {
            plan.users.push(planned_user(user, book, &books));
        } else if !choice.all_prefixed {
            plan.foreign_users += 1;
        } else if owners_spared.contains(user.id.as_str()) || (!choice.force && book.is_none() && is_recent) {
            plan.spared.push(user.username.clone());
        } else {
            plan.users.push(planned_user(user, book, &books));
        }
    }
    add_unlisted(&books, &mut plan);
    Ok(plan)
}

/// The ledgers about this deployment, and how many there are about others.
fn books(
    client: &Client,
    deployment: Option<&str>,
    state: &Path,
    choice: &Choice,
    now: Timestamp,
) -> Result<(Books, usize), PlanError> {
    let (all, others): (Vec<Found>, Vec<Found>) = ledger::find(state)?
        .into_iter()
        .partition(|found| found.contents.head.is_of(client.url(), deployment));
    let fits = |found: &Found| {
        let head = &found.contents.head;
        choice.run.as_ref().is_none_or(|run| head.run == *run)
            && choice.older_than.is_none_or(|age| between(head.at, now) >= age)
    };
    let chosen: BTreeSet<usize> = (0..all.len()).filter(|&index| fits(&all[index])).collect();
    if let Some(run) =
        choice.run.as_ref().filter(|run| !all.iter().any(|book| book.contents.head.run == **run))
    {
        return Err(PlanError::NoRun { run: run.clone(), host: client.host() });
    }
    let others = others.iter().filter(|found| !found.contents.is_empty()).count();
    Ok((Books { all, chosen }, others))
}

fn planned_workspace(workspace: &Workspace, book: Option<usize>, books: &Books) -> Planned {
    let entry = book.and_then(|book| books.all[book].contents.entry(Kind::Workspace, &workspace.name));
    let announced = || entry.and_then(|entry| entry.owner.clone());
    Planned {
        kind: Kind::Workspace,
        name: workspace.name.clone(),
        id: Some(workspace.id.clone()),
        owner: Some(workspace.owner_name.clone()).filter(|name| !name.is_empty()).or_else(announced),
        state: workspace.latest_build.status.clone(),
        run: book.map(|book| books.all[book].contents.head.run.clone()),
        ledger: book.map(|book| books.all[book].path.clone()),
        unsettled: entry.is_some_and(|entry| entry.unsettled),
        email: None,
    }
}

fn planned_user(user: &User, book: Option<usize>, books: &Books) -> Planned {
    let entry = book.and_then(|book| books.all[book].contents.entry(Kind::User, &user.username));
    Planned {
        kind: Kind::User,
        name: user.username.clone(),
        id: Some(user.id.clone()),
        owner: None,
        state: user.status.clone(),
        run: book.map(|book| books.all[book].contents.head.run.clone()),
        ledger: book.map(|book| books.all[book].path.clone()),
        unsettled: entry.is_some_and(|entry| entry.unsettled),
        email: book.and_then(|book| email(&books.all[book], &user.username)),
    }
}

/// What the chosen ledgers own and no list shows: gone, renamed, or never made. Each is looked for by itself.
fn add_unlisted(books: &Books, plan: &mut Plan) {
    let listed: BTreeSet<(Kind, String)> = plan
        .workspaces
        .iter()
        .chain(&plan.users)
        .map(|planned| (planned.kind, planned.name.clone()))
        .collect();
    for &index in &books.chosen {
        let book = &books.all[index];
        for (kind, name, entry) in book.contents.all() {
            if entry.stage == Stage::Deleted || listed.contains(&(kind, name.to_owned())) {
                continue;
            }
            let planned = Planned {
                kind,
                name: name.to_owned(),
                id: entry.id().map(str::to_owned),
                owner: entry.owner.clone(),
                state: "not found".to_owned(),
                run: Some(book.contents.head.run.clone()),
                ledger: Some(book.path.clone()),
                unsettled: entry.unsettled,
                email: (kind == Kind::User).then(|| email(book, name)).flatten(),
            };
            match kind {
                Kind::Workspace => plan.workspaces.push(planned),
                Kind::User => plan.users.push(planned),
            }
        }
    }
}
