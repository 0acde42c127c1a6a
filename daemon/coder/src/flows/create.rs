//! Workspaces, each with a user of its own: made, built, waited for, and a command run in each where that is asked for;
//! phases up to the agent measured by the server's own times (the protocol's recipe of create-workspaces).

use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::at_once::{AtOnce, Times};
use super::command::{Command, Session};
use super::wait::{AgentRule as Rule, verdict};
use super::{Ended, Flow, Watching, noted};
use crate::calls::{NewWorkspace, Transition};
use crate::class::{Class, Failure};
use crate::client::Client;
use crate::ledger::{Kind, Ledger};
use crate::names::Names;
use crate::progress::State;
use crate::secret::Token;
use crate::time::{Timestamp, between};
use crate::types::{Build, ParameterValue, User, Workspace};

pub use super::wait::AgentRule;

/// Whose the workspaces are.
#[derive(Debug, Clone)]
pub enum Owners {
    /// A new user for each.
    New,
    /// The caller owns them all (`--use-host-login`).
    Caller(User),
    /// One of these for each (`--reuse-users`); as many as workspaces, from [`super::users::pool`].
    Pool(Vec<User>),
}

/// What is to be made.
#[derive(Debug)]
pub struct CreateWorkspaces<'a> {
    /// Where the intents go.
    pub ledger: &'a Ledger,
    /// What they are called.
    pub names: &'a Names,
    /// How many.
    pub count: u32,
    /// Whose they are.
    pub owners: &'a Owners,
    /// What they are built from.
    pub template_id: &'a str,
    /// The template's organization.
    pub organization_id: &'a str,
    /// The template's parameters, checked.
    pub parameters: &'a [ParameterValue],
    /// Builds after a first one that failed.
    pub retries: u32,
    /// When a workspace is ready.
    pub agents: AgentRule,
    /// What is run in each then.
    pub command: Option<&'a Command>,
    /// How long the users' tokens are good for.
    pub token_lifetime: Duration,
}

/// How long each phase took, in seconds; `None` where it was not reached or the server does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Phases {
    /// From its first request until the workspace was there, by our clock: user, token, workspace.
    pub create: Option<f64>,
    /// The build waited for a provisioner (job: created → started).
    pub queue: Option<f64>,
    /// A provisioner built it (job: started → completed).
    pub build: Option<f64>,
    /// From there until the last agent was heard of for the first time.
    pub agent: Option<f64>,
    /// From the request for the web terminal until its first byte, by our clock.
    pub connect: Option<f64>,
    /// From there until the command had ended.
    pub command: Option<f64>,
}

/// An agent to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentRef {
    /// UUID.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What became of one workspace.
#[derive(Debug, Clone, Serialize)]
pub struct WorkspaceResult {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its owner's name, once known.
    pub owner: Option<String>,
    /// Its id, once it was made.
    pub id: Option<String>,
    /// The first agent of its first resource that has any.
    pub agent: Option<AgentRef>,
    /// Its owner's token; none with `--use-host-login`, where the caller's is good.
    #[serde(skip)]
    pub token: Option<Token>,
    /// Start builds, the first included.
    pub builds: u32,
    /// When each of them went, by the server's clock.
    #[serde(skip)]
    pub build_times: Vec<Times>,
    /// When its turn came.
    pub began: Option<Timestamp>,
    /// Seconds from then until it was ready or had failed; `None` where it was cut off.
    pub seconds: Option<f64>,
    /// How long it took; queue and build are the last build's.
    pub phases: Phases,
    /// The end of what the command printed, where outputs are written down.
    pub output: Option<String>,
    /// Why its output could not be written down.
    pub output_lost: Option<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// What became of all.
#[derive(Debug, Clone, Serialize)]
pub struct CreatedWorkspaces {
    /// In order.
    pub workspaces: Vec<WorkspaceResult>,
    /// How it ended.
    pub ended: Ended,
}

impl CreatedWorkspaces {
    /// How many builds went at once; `None`: the server does not tell.
    pub fn builds_at_once(&self) -> Option<AtOnce> {
        let times: Vec<Times> =
            self.workspaces.iter().flat_map(|one| one.build_times.iter().copied()).collect();
        AtOnce::of(&times)
    }

    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.workspaces.iter().filter(|workspace| workspace.failure.is_some()).count() as u64
    }
}

impl std::fmt::Display for CreatedWorkspaces {
    /// How many succeeded and how many failed of what, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut classes = std::collections::BTreeMap::<Class, u64>::new();
        for failure in self.workspaces.iter().filter_map(|workspace| workspace.failure.as_ref()) {
            *classes.entry(failure.class).or_default() += 1;
        }
        let failures = self.failures();
        write!(f, "{} succeeded, {failures} failed", self.workspaces.len() as u64 - failures)?;
        let classes: Vec<_> = classes.iter().map(|(class, count)| format!("{count} {class}")).collect();
        if classes.is_empty() { Ok(()) } else { write!(f, " ({})", classes.join(", ")) }
    }
}

/// One workspace while it is made.
struct Job<'a> {
    flow: &'a Flow<'a>,
    ask: &'a CreateWorkspaces<'a>,
    watching: &'a Watching,
    index: u32,
    /// What came out so far; stays when the job is cut off.
    result: &'a Mutex<WorkspaceResult>,
    /// What it would be if there were no more time now.
    waits_for: Mutex<Class>,
}

impl Flow<'_> {
    /// Makes workspaces `0 … count − 1` with their users. Nothing is deleted, whatever comes: that is
    /// clean-up's.
    ///
    /// # Panics
    /// A pool of fewer users than workspaces.
    pub async fn create_workspaces(&self, ask: &CreateWorkspaces<'_>) -> CreatedWorkspaces {
        if let Owners::Pool(users) = ask.owners {
            assert!(users.len() >= ask.count as usize, "a pool has a user for each workspace");
        }
        self.progress.begin(ask.count as usize);
        let watching = Watching::default();
        let result = |index| {
            Mutex::new(WorkspaceResult {
                index,
                name: ask.names.name(index),
                owner: None,
                id: None,
                agent: None,
                token: None,
                builds: 0,
                build_times: Vec::new(),
                began: None,
                seconds: None,
                phases: Phases::default(),
                output: None,
                output_lost: None,
                failure: None,
            })
        };
        let slots: Vec<Mutex<WorkspaceResult>> = (0..ask.count).map(result).collect();
        let jobs = (0..ask.count).map(|index| {
            let waits_for = Mutex::new(Class::RequestTimeout);
            let result = &slots[index as usize];
            Job { flow: self, ask, watching: &watching, index, result, waits_for }.run().boxed()
        });
        let ended = self.run(self.all(jobs)).await;
        let mut workspaces: Vec<_> =
            slots.into_iter().map(|slot| slot.into_inner().expect("no job panics")).collect();
        for workspace in &mut workspaces {
            if let Some(failure) = self.unfinished(ended, workspace.index as usize) {
                workspace.failure = Some(failure);
            }
        }
        CreatedWorkspaces { workspaces, ended }
    }
}

impl Job<'_> {
    async fn run(self) {
        let began = self.flow.clock.now();
        self.note(|result| result.began = Some(began));
        let deadline = Instant::now() + self.flow.job_timeout;
        let done = match timeout_at(deadline, self.make()).await {
            // It keeps the deadline itself, and leaves its terminal in order even then.
            Ok(Ok(client)) => self.command(&client, deadline).await,
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::of(*self.waits_for.lock().expect("no job panics"))),
        };
        let seconds = between(began, self.flow.clock.now()).as_secs_f64();
        self.note(|result| result.seconds = Some(seconds));
        let failure = match done {
            Ok(()) => return self.flow.progress.set(self.index as usize, State::Ready),
            Err(failure) => failure,
        };
        self.flow.progress.fail(self.index as usize, failure.class);
        self.note(|result| result.failure = Some(failure));
    }

    fn note(&self, change: impl FnOnce(&mut WorkspaceResult)) {
        change(&mut self.result.lock().expect("no job panics"));
    }

    /// Goes on to `state`, in which `class` is what a lack of time would be.
    fn step(&self, state: State, class: Class) {
        *self.waits_for.lock().expect("no job panics") = class;
        self.flow.progress.set(self.index as usize, state);
    }

    /// Up to its agents; the owner's client.
    async fn make(&self) -> Result<Client, Failure> {
        self.step(State::Creating, Class::RequestTimeout);
        let began = self.flow.clock.now();
        let (client, owner) = self.owner().await?;
        let workspace = self.create(&client, &owner).await?;
        let took = between(began, self.flow.clock.now()).as_secs_f64();
        self.note(|result| result.phases.create = Some(took));
        let build = self.built(&client, &workspace).await?;
        self.note_agent(&build);
        if self.ask.agents != Rule::Ignore {
            self.step(State::AgentConnecting, Class::AgentTimeout);
            let seen = |agent: &crate::types::Agent| {
                *self.waits_for.lock().expect("no job panics") = self.ask.agents.class(agent);
            };
            let ready = self.watching.agents(&client, &workspace.id, self.ask.agents, seen).await?;
            self.note_agent(&ready.latest_build);
            let heard = ready.latest_build.agents().filter_map(|agent| agent.first_connected_at).max();
            let took = build.job.completed_at.zip(heard).map(|(built, heard)| between(built, heard));
            self.note(|result| result.phases.agent = took.map(|took| took.as_secs_f64()));
        }
        Ok(client)
    }

    /// Runs the command, where there is one.
    async fn command(&self, client: &Client, deadline: Instant) -> Result<(), Failure> {
        let Some(command) = self.ask.command else { return Ok(()) };
        let agent = self.result.lock().expect("no job panics").agent.clone();
        let agent = agent.ok_or_else(|| Failure::of(Class::NoAgent))?;
        self.step(State::Connecting, Class::TerminalSilent);
        let session = Session {
            command,
            client,
            agent: &agent.id,
            clock: self.flow.clock,
            deadline,
            waits_for_agent: self.ask.agents == Rule::Ignore,
        };
        let ran = session.run(|| self.step(State::RunningCommand, Class::CommandTimeout)).await;
        let written = command.write_down(&self.ask.names.name(self.index), &ran.output).await;
        self.note(|result| {
            (result.phases.connect, result.phases.command) = (ran.connect, ran.command);
            result.output = command.is_logged().then(|| ran.output.reported());
            result.output_lost = written.err();
        });
        ran.failure.map_or(Ok(()), Err)
    }

    fn note_agent(&self, build: &Build) {
        let agent =
            build.agents().next().map(|agent| AgentRef { id: agent.id.clone(), name: agent.name.clone() });
        self.note(|result| result.agent = agent);
    }

    /// The owner with a client of its own.
    async fn owner(&self) -> Result<(Client, User), Failure> {
        let flow = self.flow;
        let user = match self.ask.owners {
            Owners::Caller(me) => {
                self.note(|result| result.owner = Some(me.username.clone()));
                return Ok((flow.client.clone(), me.clone()));
            }
            Owners::New => {
                flow.make_user(self.ask.ledger, self.ask.names, self.index, self.ask.organization_id).await?
            }
            Owners::Pool(users) => {
                let user = users[self.index as usize].clone();
                if !user.organization_ids.iter().any(|id| id == self.ask.organization_id) {
                    flow.client.join_organization(self.ask.organization_id, &user.id).await?;
                }
                user
            }
        };
        self.note(|result| result.owner = Some(user.username.clone()));
        let token = flow.client.mint_token(&user.id, self.ask.token_lifetime).await?;
        self.note(|result| result.token = Some(token.clone()));
        let client = flow.client.for_user(token);
        let client = client.map_err(|error| Failure::seen(Class::Unreachable, error))?;
        Ok((client, user))
    }

    /// Announces the workspace in the ledger, makes it, and takes note. A name that this owner has already is
    /// what an earlier try made whose answer was lost: none had it before the run.
    async fn create(&self, client: &Client, owner: &User) -> Result<Workspace, Failure> {
        let (ask, name) = (self.ask, self.ask.names.name(self.index));
        ask.ledger.intent(self.flow.clock.now(), Kind::Workspace, &name, Some(&owner.username)).await?;
        let new = NewWorkspace {
            name: &name,
            template_id: ask.template_id,
            organization_id: ask.organization_id,
            parameters: ask.parameters,
        };
        let created = client.create_workspace(&owner.id, &new).await;
        let there = match &created.answer {
            Err(error) if error.status() == Some(409) => {
                client.workspace_named(&owner.username, &name).await?
            }
            _ => None,
        };
        let workspace = noted(ask.ledger, Kind::Workspace, &name, created, there, |it| &it.id)?;
        self.note(|result| {
            result.id = Some(workspace.id.clone());
            result.builds = 1;
        });
        Ok(workspace)
    }

    /// Waits for the build, and starts it again as often as that is allowed.
    async fn built(&self, client: &Client, workspace: &Workspace) -> Result<Build, Failure> {
        let mut build = workspace.latest_build.clone();
        loop {
            self.step(State::Queued, Class::QueueTimeout);
            self.note(|result| result.build_times.push(Times::from(&build.job)));
            let seen = |build: &Build| {
                self.note(|result| {
                    *result.build_times.last_mut().expect("one a build") = (&build.job).into();
                });
                match build.job.status.as_str() {
                    "pending" => self.step(State::Queued, Class::QueueTimeout),
                    _ => self.step(State::Building, Class::BuildTimeout),
                }
            };
            let gone = || Failure::seen(Class::NotFound, "the workspace was deleted while it was built");
            build = self.watching.build(client, &build.id, seen).await?.ok_or_else(gone)?;
            self.note(|result| {
                result.phases.queue = build.job.queue_wait().map(|took| took.as_secs_f64());
                result.phases.build = build.job.run_time().map(|took| took.as_secs_f64());
            });
            let builds = self.result.lock().expect("no job panics").builds;
            match verdict(&build) {
                Ok(()) => return Ok(build),
                Err(failure) if builds > self.ask.retries => return Err(failure),
                Err(_) => {}
            }
            client.back_off(builds, None).await;
            build = match client.start_build(&workspace.id, Transition::Start).await {
                // An earlier try whose answer was lost began it.
                Err(error) if error.status() == Some(409) => {
                    client.workspace(&workspace.id).await?.ok_or_else(gone)?.latest_build
                }
                answer => answer?,
            };
            self.note(|result| result.builds += 1);
        }
    }
}
