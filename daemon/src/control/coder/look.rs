//! The look before a flow: the deployment, the token, what is allowed there, the template, the names; and what all of
//! it would come to. Nothing is made or deleted here.

use std::path::Path;
use std::time::Duration;

use scale_api::coder::{self as wire, Flow, FlowRequest, Preflight, THINGS_LISTED_MAX, Thing};
use scale_api::http::{Problem, ProblemCode};
use scale_api::units::{Span, thousands};
use scale_coder::client::{Client, REQUESTS_AT_ONCE_MAX};
use scale_coder::config::{Config, Pace};
use scale_coder::flows::command::Command;
use scale_coder::flows::create::Owners;
use scale_coder::flows::plan::{self, Choice, Plan, Planned};
use scale_coder::flows::users;
use scale_coder::ledger::Kind;
use scale_coder::names::Names;
use scale_coder::preflight::{self, Chosen, Refusal, Site};

use super::{invalid, outcome, reach, wall_now};
use crate::run::targets::{Action, Permit};

/// A look asks briskly: what does not answer now is said now.
pub const PACE: Pace = Pace {
    poll: Duration::from_secs(1),
    polls_per_second_max: 200,
    backoff_first: Duration::from_millis(250),
    backoff_max: Duration::from_secs(2),
    tries_max: 3,
    request: Duration::from_secs(20),
    settle: Duration::from_secs(10),
};
/// Open files that are not a simulated user's connection.
const FILES_SPARE: u64 = 200;

/// How long it may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// All of it.
    pub all: Duration,
    /// One thing.
    pub each: Duration,
}

/// A flow that may begin.
pub struct Ready {
    /// The run's id.
    pub id: String,
    /// The owner's client, patient.
    pub client: Client,
    /// Where.
    pub site: Site,
    /// What.
    pub todo: Todo,
    /// For making.
    pub making: Times,
    /// For deleting.
    pub deleting: Times,
    /// Failures that still pass.
    pub max_failures: u64,
    /// What was said aloud.
    pub warnings: Vec<String>,
    /// For whom, and what that one may hit.
    pub permit: Permit,
}

/// What is to be done, checked.
pub enum Todo {
    /// Users.
    Users {
        /// As asked.
        ask: wire::CreateUsers,
        /// What they are called.
        names: Names,
        /// Where they become members.
        organization_id: String,
    },
    /// Workspaces.
    Workspaces {
        /// As asked.
        ask: Box<wire::CreateWorkspaces>,
        /// What they are called.
        names: Names,
        /// Whose they are.
        owners: Owners,
        /// What they are built from.
        chosen: Box<Chosen>,
        /// What is run in each.
        command: Option<Box<Command>>,
    },
    /// Clean-up.
    Cleanup {
        /// As asked.
        ask: wire::Cleanup,
        /// What goes.
        plan: Plan,
    },
}

impl Ready {
    /// Whether there is nothing to do.
    pub fn is_nothing(&self) -> bool {
        matches!(&self.todo, Todo::Cleanup { plan, .. } if plan.is_empty())
    }

    /// Whether it needs a ledger of its own.
    pub const fn makes(&self) -> bool {
        !matches!(self.todo, Todo::Cleanup { .. })
    }

    /// Its name, as on the command line.
    pub const fn name(&self) -> &'static str {
        match self.todo {
            Todo::Users { .. } => "create-users",
            Todo::Workspaces { .. } => "create-workspaces",
            Todo::Cleanup { .. } => "cleanup",
        }
    }

    /// The deployment, for reports.
    pub fn wire_site(&self) -> wire::Site {
        wire_site(&self.client, &self.site)
    }
}

/// A deployment, for reports.
pub fn wire_site(client: &Client, site: &Site) -> wire::Site {
    wire::Site {
        host: client.host(),
        version: site.version_text.clone(),
        deployment_id: site.deployment.clone(),
        username: site.me.username.clone(),
    }
}

fn refused(why: Refusal) -> Problem {
    invalid(why.to_string())
}

/// Looks at everything. `id` is the run's, if it begins; `planned` is how long the token is needed, where the flow is
/// not all that there is.
///
/// # Errors
/// The first reason why it cannot.
pub async fn look(
    request: FlowRequest,
    config: Config,
    permit: &Permit,
    state: &Path,
    id: String,
    planned: Option<Duration>,
) -> Result<(Ready, Preflight), Problem> {
    let (making, deleting) = times(&request)?;
    let FlowRequest { deployment, flow, max_failures, dry_run, .. } = request;
    let actions = actions(&flow);
    let planned = planned.unwrap_or_else(|| {
        let of = |action: &Action| if *action == Action::Delete { deleting.all } else { making.all };
        actions.iter().map(of).fold(Duration::ZERO, Duration::saturating_add)
    });
    let mut client = reach::client(config.clone(), &deployment.token)?;
    let hasty = Config { pace: PACE, ..config.clone() };
    let (brisk, site) = reach::enter(hasty, &deployment.token, planned, permit, &actions).await?;
    let mut answer = Preflight { warnings: site.warnings.clone(), ..Preflight::default() };
    if deployment.insecure {
        answer.warnings.push("CERTIFICATES ARE NOT VERIFIED (--insecure)".into());
    }
    let place = Place {
        brisk: &brisk,
        site: &site,
        organization: deployment.organization.as_deref(),
        pooled: deployment.pool_connections,
        id: &id,
    };
    let todo = match flow {
        Flow::CreateUsers(ask) => place.users(ask, &mut answer).await?,
        Flow::CreateWorkspaces(ask) => place.workspaces(ask, state, &mut answer).await?,
        Flow::Cleanup(ask) => place.cleanup(ask, state, &mut answer).await?,
    };
    reach::room(&config, permit, connections(&todo, deployment.pool_connections))?;
    if !dry_run {
        client.bypass_rate_limits(true);
        // Which server it is, before many requests at once depend on it.
        client.build_info().await.map_err(|error| invalid(error.to_string()))?;
    } else if !matches!(todo, Todo::Cleanup { .. }) {
        let active = preflight::active(&brisk, &site, wall_now()).await.map_err(refused)?;
        answer.active_users = Some(active.users);
        let least = if active.is_whole { "" } else { "at least " };
        answer.lines[0] += &format!("; {least}{} people active now", thousands(active.users));
    }
    let warnings = answer.warnings.clone();
    let permit = permit.clone();
    let ready = Ready { id, client, site, todo, making, deleting, max_failures, warnings, permit };
    answer.site = ready.wire_site();
    answer.is_nothing = ready.is_nothing();
    Ok((ready, answer))
}

/// Connections to the deployment at once, at the most: the owner's, and one for each job that has its own.
fn connections(todo: &Todo, is_pooled: bool) -> u64 {
    let at_once = |count: usize, concurrency: u32| match concurrency {
        0 => count as u64,
        limit => (count as u64).min(limit.into()),
    };
    let (jobs, is_shared) = match todo {
        Todo::Users { ask, .. } => (at_once(ask.count as usize, ask.concurrency), true),
        Todo::Workspaces { ask, command, .. } => {
            let is_shared = command.is_none() && (is_pooled || ask.owners == wire::Owners::HostLogin);
            (at_once(ask.count as usize, ask.concurrency), is_shared)
        }
        Todo::Cleanup { ask, plan } => {
            (at_once(plan.workspaces.len().max(plan.users.len()), ask.cleanup_concurrency), true)
        }
    };
    jobs.clamp(1, REQUESTS_AT_ONCE_MAX as u64) + if is_shared { 0 } else { jobs }
}

/// How long making and deleting may take.
fn times(request: &FlowRequest) -> Result<(Times, Times), Problem> {
    let FlowRequest { timeout, job_timeout, cleanup_timeout, cleanup_job_timeout, .. } = request;
    let (all, each) = (timeout.unwrap_or(wire::TIMEOUT), job_timeout.unwrap_or(wire::JOB_TIMEOUT));
    let of = |all: Span, each: Span| Times {
        all: Duration::from_nanos(all.ns()),
        each: Duration::from_nanos(each.ns()),
    };
    let making = of(all, each);
    let deleting = of(cleanup_timeout.unwrap_or(all), cleanup_job_timeout.unwrap_or(each));
    if [making.all, making.each, deleting.all, deleting.each].iter().any(Duration::is_zero) {
        return Err(invalid(
            "--timeout, --job-timeout and those of --cleanup are more than nothing; leave them out for 30m and 5m",
        ));
    }
    Ok((making, deleting))
}

/// What a flow does to the deployment.
fn actions(flow: &Flow) -> Vec<Action> {
    let no_cleanup = match flow {
        Flow::CreateUsers(ask) => ask.no_cleanup,
        Flow::CreateWorkspaces(ask) => ask.no_cleanup,
        Flow::Cleanup(_) => return vec![Action::Delete],
    };
    if no_cleanup { vec![Action::Create] } else { vec![Action::Create, Action::Delete] }
}

/// How many things, in words: `1 user`, `1,000 users`.
pub fn many(count: u64, what: &str) -> String {
    format!("{} {what}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// Where a look takes place.
struct Place<'a> {
    brisk: &'a Client,
    site: &'a Site,
    organization: Option<&'a str>,
    /// Simulated users have no connections of their own.
    pooled: bool,
    id: &'a str,
}

impl Place<'_> {
    /// `coder.example.com (v2.26.0)`.
    fn text(&self) -> String {
        let version = self.site.version.map_or_else(|| self.site.version_text.clone(), |v| v.to_string());
        format!("{} ({version})", self.brisk.host())
    }

    fn names(&self, infix: Option<&str>, count: u32) -> Result<Names, Problem> {
        if count == 0 {
            return Err(invalid("there is nothing to make; give --count N"));
        }
        Names::new(self.id, infix, count).map_err(|error| invalid(error.to_string()))
    }

    /// How they are made and what becomes of them, in a line.
    fn fate(names: &Names, concurrency: u32, no_cleanup: bool) -> String {
        let pace = if concurrency == 0 { "all at once".to_owned() } else { format!("{concurrency} at once") };
        let end = match no_cleanup {
            true => "they stay until `scalectl cleanup` (--no-cleanup)",
            false => "they are deleted at the end",
        };
        format!("named {names}, {pace}; {end}")
    }

    async fn users(&self, ask: wire::CreateUsers, answer: &mut Preflight) -> Result<Todo, Problem> {
        let names = self.names(ask.username_infix.as_deref(), ask.count)?;
        let organization_id = self.organization_id().await?;
        preflight::names_free(self.brisk, &names).await.map_err(refused)?;
        answer.users = ask.count.into();
        answer.lines = vec![
            format!("{} on {}", many(answer.users, "user"), self.text()),
            Self::fate(&names, ask.concurrency, ask.no_cleanup),
        ];
        Ok(Todo::Users { ask, names, organization_id })
    }

    /// The organization that was asked for, or the caller's first.
    async fn organization_id(&self) -> Result<String, Problem> {
        let mine = self.brisk.organizations("me").await.map_err(|error| invalid(error.to_string()))?;
        let fits = |name: &str| mine.iter().find(|one| one.name == name || one.id == name);
        let found = self.organization.map_or_else(|| mine.first(), fits);
        let known: Vec<_> = mine.iter().map(|one| format!("`{}`", one.name)).collect();
        found.map(|one| one.id.clone()).ok_or_else(|| {
            let name = self.organization.unwrap_or_default().to_owned();
            refused(Refusal::NoOrganization { name, known: known.join(", ") })
        })
    }

    /// What is to be run in each workspace, checked; outputs go into the run's folder.
    fn command(&self, run: &wire::RunCommand, state: &Path) -> Result<Command, Problem> {
        let wrong = |error: scale_coder::flows::command::CommandError| invalid(error.to_string());
        let timeout = Duration::from_nanos(run.timeout.unwrap_or(wire::RUN_TIMEOUT).ns());
        let mut command = Command::new(&run.command, timeout).map_err(wrong)?;
        if let Some(text) = &run.expect_output {
            command = command.expecting(text).map_err(wrong)?;
        }
        Ok(if run.log_output { command.logging(outcome::outputs(state, self.id)) } else { command })
    }

    async fn workspaces(
        &self,
        ask: wire::CreateWorkspaces,
        state: &Path,
        answer: &mut Preflight,
    ) -> Result<Todo, Problem> {
        let command = ask.run.as_ref().map(|run| self.command(run, state)).transpose()?;
        let names = self.names(None, ask.count)?;
        if ask.template.is_empty() {
            return Err(invalid("workspaces are made from a template; give --template NAME"));
        }
        let at_once = if ask.concurrency == 0 { ask.count } else { ask.count.min(ask.concurrency) };
        let (files, limit) = (u64::from(at_once) + FILES_SPARE, scale_ring::host::nofile_limit());
        // Users whose requests share connections have their terminals apart.
        let is_shared = ask.owners == wire::Owners::HostLogin || self.pooled;
        if (!is_shared || command.is_some()) && files > limit {
            let why = format!(
                "{} connections need {files} open files, {limit} are allowed; raise LimitNOFILE of scaled, or give --concurrency or --pool-connections",
                thousands(at_once.into())
            );
            return Err(Problem::new(ProblemCode::HostCannotCarry, why));
        }
        let chosen = preflight::template(self.brisk, &ask.template, self.organization, &ask.parameters);
        let chosen = chosen.await.map_err(refused)?;
        answer.warnings.extend(chosen.warnings.clone());
        preflight::names_free(self.brisk, &names).await.map_err(refused)?;
        let (owners, users, whose) = match ask.owners {
            wire::Owners::New => {
                (Owners::New, ask.count.into(), format!("{} + ", many(ask.count.into(), "user")))
            }
            wire::Owners::HostLogin => (Owners::Caller(self.site.me.clone()), 0, String::new()),
            wire::Owners::Reused => {
                let pool = users::pool(self.brisk, ask.count).await;
                let pool = pool.map_err(|error| invalid(error.to_string()))?;
                (Owners::Pool(pool), 0, String::new())
            }
        };
        (answer.users, answer.workspaces) = (users, ask.count.into());
        let ready = if ask.no_wait_for_agents { "it is built" } else { "its agents are connected" };
        answer.lines = vec![
            format!("{whose}{} on {}", many(answer.workspaces, "workspace"), self.text()),
            Self::fate(&names, ask.concurrency, ask.no_cleanup),
            format!("from the template `{}`; a workspace is ready once {ready}", chosen.template.name),
        ];
        answer.lines.extend(ask.run.as_ref().map(|run| {
            let most = run.timeout.unwrap_or(wire::RUN_TIMEOUT);
            format!("then `{}` runs in its web terminal, for {most} at most", run.command)
        }));
        let (ask, command) = (Box::new(ask), command.map(Box::new));
        Ok(Todo::Workspaces { ask, names, owners, chosen: Box::new(chosen), command })
    }

    async fn cleanup(
        &self,
        ask: wire::Cleanup,
        state: &Path,
        answer: &mut Preflight,
    ) -> Result<Todo, Problem> {
        if ask.force && !ask.all_prefixed {
            return Err(invalid("--force is about what others use, and goes with --all-prefixed"));
        }
        let choice = Choice {
            run: ask.run.clone(),
            older_than: ask.older_than.map(|age| Duration::from_nanos(age.ns())),
            all_prefixed: ask.all_prefixed,
            force: ask.force,
        };
        let deployment = self.site.deployment.as_deref();
        let plan = plan::plan(self.brisk, deployment, state, &choice, wall_now()).await;
        let plan = plan.map_err(|error| invalid(error.to_string()))?;
        (answer.users, answer.workspaces) = (plan.users.len() as u64, plan.workspaces.len() as u64);
        answer.foreign = (plan.foreign_users + plan.foreign_workspaces) as u64;
        let things = plan.workspaces.iter().chain(&plan.users).take(THINGS_LISTED_MAX);
        answer.things = things.map(thing).collect();
        answer.lines = vec![format!("on {}: {plan}", self.text())];
        let unseen = plan.workspaces.iter().chain(&plan.users).filter(|planned| planned.id.is_none()).count();
        if unseen > 0 {
            answer.lines.push(format!(
                "{} announced but not listed; {} looked for until no create can come true any more",
                many(unseen as u64, "thing") + if unseen == 1 { " was" } else { " were" },
                if unseen == 1 { "it is" } else { "they are" }
            ));
        }
        Ok(Todo::Cleanup { ask, plan })
    }
}

fn thing(planned: &Planned) -> Thing {
    Thing {
        kind: kind(planned.kind).into(),
        name: planned.name.clone(),
        owner: planned.owner.clone(),
        state: planned.state.clone(),
        run: planned.run.clone(),
    }
}

/// Its name in reports.
pub const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "user",
        Kind::Workspace => "workspace",
    }
}
