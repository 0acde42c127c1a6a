//! Coder's flows on the wire: what is asked for, what it would do, how far it is, what came of it.
//!
//! A flow is a run of the daemon: it has an id and a folder, is watched, stopped and reported like any other. The
//! token travels in [`FlowRequest`] alone, over the control socket; nothing that comes back can hold it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use traffic::{Backend, SSH_PLACES, TrafficBegun, TrafficRequest, WorkspaceTraffic, parse_range};

use crate::private::wipe;
use crate::report::Figure;
use crate::spec::File;
use crate::units::Span;

mod traffic;

/// `POST` [`FlowRequest`]: [`Begun`].
pub const CODER: &str = "/v1/coder";
/// `POST` [`TrafficRequest`]: [`TrafficBegun`].
pub const CODER_TRAFFIC: &str = "/v1/coder/traffic";
/// For all of a flow, where nothing else is asked for; clean-up at its end has as much again.
pub const TIMEOUT: Span = Span::from_secs(30 * 60);
/// For one user or workspace.
pub const JOB_TIMEOUT: Span = Span::from_secs(5 * 60);
/// For a command in a workspace, from its terminal's first byte on.
pub const RUN_TIMEOUT: Span = Span::from_secs(5);
/// The most that a daemon takes to look at a deployment before anything is made.
pub const PREFLIGHT_TIME_MAX: Span = Span::from_secs(90);
/// Things that an answer or a report lists one by one; beyond them they are counted.
pub const THINGS_LISTED_MAX: usize = 10_000;

/// A token: sent, never printed, and wiped when it is dropped. There is no `Display`, and `Debug` does not show it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Whoever takes it keeps it out of every output.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut std::mem::take(&mut self.0).into_bytes());
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The deployment and how to reach it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deployment {
    /// Its access URL, `https://coder.example.com`.
    pub url: String,
    /// An owner's session token.
    pub token: Secret,
    /// Name or id; absent: the first of the token's user.
    pub organization: Option<String>,
    /// Further roots to trust.
    pub ca: Option<File>,
    /// Accept any certificate.
    pub insecure: bool,
    /// One pool of connections for all requests, HTTP/2 where the server offers it; else one a simulated user.
    pub pool_connections: bool,
}

/// Starts a flow, or only looks at what it would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowRequest {
    /// Where.
    pub deployment: Deployment,
    /// What.
    pub flow: Flow,
    /// How long all of it may take; default [`TIMEOUT`].
    #[serde(default)]
    pub timeout: Option<Span>,
    /// How long one user or workspace may take; default [`JOB_TIMEOUT`].
    #[serde(default)]
    pub job_timeout: Option<Span>,
    /// How long all of the clean-up may take; default: as `timeout`.
    #[serde(default)]
    pub cleanup_timeout: Option<Span>,
    /// How long one delete may take; default: as `job_timeout`.
    #[serde(default)]
    pub cleanup_job_timeout: Option<Span>,
    /// Failures that still pass.
    #[serde(default)]
    pub max_failures: u64,
    /// Look only, make and delete nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a flow does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// Users.
    CreateUsers(CreateUsers),
    /// Workspaces with their users.
    CreateWorkspaces(CreateWorkspaces),
    /// Deletes what runs of this host made.
    Cleanup(Cleanup),
}

impl Flow {
    /// Its name, as on the command line.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateUsers(_) => "create-users",
            Self::CreateWorkspaces(_) => "create-workspaces",
            Self::Cleanup(_) => "cleanup",
        }
    }
}

/// What is made of users.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CreateUsers {
    /// How many.
    pub count: u32,
    /// A word within their names.
    pub username_infix: Option<String>,
    /// How many are made at once; 0: all.
    pub concurrency: u32,
    /// How many are deleted at once; 0: all.
    pub cleanup_concurrency: u32,
    /// Leave them there.
    pub no_cleanup: bool,
}

/// What is made of workspaces.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CreateWorkspaces {
    /// How many.
    pub count: u32,
    /// The template's name or id.
    pub template: String,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// How many are made at once; 0: all.
    pub concurrency: u32,
    /// How many are deleted at once; 0: all.
    pub cleanup_concurrency: u32,
    /// Builds after a first one that failed.
    pub retry: u32,
    /// Whose they are.
    pub owners: Owners,
    /// A workspace is ready once it is built.
    pub no_wait_for_agents: bool,
    /// What is run in each then; absent: nothing, and nothing is connected.
    pub run: Option<RunCommand>,
    /// Leave them there.
    pub no_cleanup: bool,
}

/// A command that is run in each workspace's web terminal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunCommand {
    /// As the user's shell takes it.
    pub command: String,
    /// How long it may take, from the terminal's first byte on; default [`RUN_TIMEOUT`].
    pub timeout: Option<Span>,
    /// A regular expression that what it prints has to match; `^` and `$` are a line's.
    pub expect_output: Option<String>,
    /// What each prints is kept in a file in the run's folder.
    pub log_output: bool,
}

/// Whose the workspaces are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owners {
    /// A new user for each.
    #[default]
    New,
    /// The token's user owns them all.
    HostLogin,
    /// Test users that are there already.
    Reused,
}

/// What is to go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cleanup {
    /// Only of this run.
    pub run: Option<String>,
    /// Only of runs that began so long ago.
    pub older_than: Option<Span>,
    /// By prefix alone, whoever made it.
    pub all_prefixed: bool,
    /// With `all_prefixed`: also what was used in the last 10 minutes.
    pub force: bool,
    /// How many are deleted at once; 0: all.
    pub cleanup_concurrency: u32,
}

macro_rules! parts {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }
    )*};
}

parts! {
    /// A flow was looked at, and begun unless it was a dry run or there is nothing to do.
    Begun {
        /// The run's id.
        id: Option<String>,
        /// What it does, and where.
        preflight: Preflight,
    }
    /// What a flow would do, and where. Nothing was made or deleted for it.
    Preflight {
        /// Sentences for people.
        lines: Vec<String>,
        /// What will be said aloud.
        warnings: Vec<String>,
        /// Where.
        site: Site,
        /// Users that would be made, or would go.
        users: u64,
        /// Workspaces likewise.
        workspaces: u64,
        /// People at work there just now; a dry run of what makes something counts them.
        active_users: Option<u64>,
        /// There is nothing to do.
        is_nothing: bool,
        /// What a clean-up would delete, one by one; at most [`THINGS_LISTED_MAX`].
        things: Vec<Thing>,
        /// Users and workspaces that bear the prefix and stay, since no ledger of this host has them.
        foreign: u64,
    }
    /// A deployment.
    Site {
        /// Its host, with the port where that is unusual.
        host: String,
        /// Its version, as it writes it.
        version: String,
        /// Its own id; newer servers only.
        deployment_id: Option<String>,
        /// Whose token it is.
        username: String,
    }
    /// A user or a workspace.
    Thing {
        /// `user` or `workspace`.
        kind: String,
        /// Its name.
        name: String,
        /// Of a workspace.
        owner: Option<String>,
        /// A workspace's state by its last build, a user's status, `not found` where it is not listed.
        state: String,
        /// The run that made it.
        run: Option<String>,
    }
    /// How far a flow is.
    Progress {
        /// `create users`, `create workspaces` or `clean up`.
        phase: String,
        /// Where.
        host: String,
        /// Things in all.
        total: u64,
        /// How many stand where, by the names of [`STATES`].
        states: BTreeMap<String, u64>,
        /// Failed ones by class.
        failed: BTreeMap<String, u64>,
        /// Done a second, over the last ten.
        rate: Option<f64>,
        /// What is waited for just now.
        waits_for: Option<String>,
        /// Answers of the server's rate limiter so far.
        rate_limited: u64,
    }
    /// What came of a flow.
    Outcome {
        /// Its name, as on the command line.
        flow: String,
        /// Where.
        site: Site,
        /// `users` or `workspaces`; of a clean-up `things`.
        of: String,
        /// How many were asked for.
        requested: u64,
        /// How many of them came out well.
        succeeded: u64,
        /// How many did not.
        failed: u64,
        /// How many may fail.
        max_failures: u64,
        /// Users that were made, or whose workspaces were made or driven; 0: nobody counted them.
        users: u64,
        /// Of workspaces that were made: their builds.
        builds: Option<Builds>,
        /// `done`, `stopped`, `timed_out`; `going` until then.
        ended: String,
        /// Failures by class.
        failures: BTreeMap<String, ClassFailures>,
        /// Failures one by one; at most [`THINGS_LISTED_MAX`].
        failed_things: Vec<FailedThing>,
        /// How long each phase took.
        phases: Phases,
        /// Of traffic alone: how far it reached.
        traffic: Option<Traffic>,
        /// Once all is over, each thing by itself; at most [`THINGS_LISTED_MAX`].
        things: Vec<Ran>,
        /// Of workspaces in which a command ran.
        command: Option<Command>,
        /// What was deleted; absent where nothing was to be.
        cleanup: Option<Cleaned>,
        /// Of a scenario: its steps, as they came.
        steps: Vec<Step>,
        /// Of a scenario: what a request to the API took, once a second, by step.
        api: BTreeMap<String, Figure>,
        /// Requests and their answers.
        requests: Requests,
        /// Answers by the address that gave them.
        replicas: BTreeMap<String, u64>,
        /// The server's versions seen.
        versions: Vec<String>,
        /// Users and workspaces that this run still owns.
        owned: u64,
        /// What should be known.
        warnings: Vec<String>,
    }
    /// A step of a scenario.
    Step {
        /// `create`, `baseline`, `traffic` or `clean up`.
        name: String,
        /// From the run's start, in seconds.
        at: f64,
        /// How long it took, in seconds.
        seconds: f64,
    }
    /// What traffic reaches.
    Traffic {
        /// Streams to the workspaces.
        streams: u64,
        /// Workspaces that get none.
        skipped: u64,
        /// Those, with why; at most [`THINGS_LISTED_MAX`].
        skipped_workspaces: Vec<Skipped>,
        /// Of a scenario: its workspaces whose traffic failed, by class.
        failures: BTreeMap<String, ClassFailures>,
    }
    /// A workspace that gets no traffic.
    Skipped {
        /// Its name.
        name: String,
        /// Its owner's name.
        owner: String,
        /// Why not.
        why: String,
    }
    /// A thing's own result.
    Ran {
        /// Its name.
        name: String,
        /// Of a workspace, once known.
        owner: Option<String>,
        /// The workspace's agent.
        agent: Option<String>,
        /// The class of its failure.
        error: Option<String>,
        /// Unix time.
        started_at: f64,
        /// How long it took.
        seconds: f64,
        /// The end of what its command printed, 1 KiB at most; where outputs are kept.
        output: Option<String>,
        /// Payload that came in; of traffic.
        bytes_read: Option<u64>,
        /// Payload that went; of traffic.
        bytes_written: Option<u64>,
    }
    /// A command in each workspace.
    Command {
        /// The command.
        command: String,
        /// What counts as connected, in words.
        connected: String,
        /// The folder with a file of output for each workspace; absent where none was asked for.
        outputs: Option<String>,
    }
    /// A class of failures.
    ClassFailures {
        /// How many.
        count: u64,
        /// What it means and what to do.
        sentence: String,
    }
    /// A thing that failed.
    FailedThing {
        /// `user` or `workspace`.
        kind: String,
        /// Its name.
        name: String,
        /// The failure's class.
        class: String,
        /// What was seen.
        message: String,
    }
    /// Times of phases, in seconds; of those things that got so far.
    Phases {
        /// From the first request until the thing was there, by our clock.
        create: Option<Figure>,
        /// The build waited for a provisioner, by the server's clock.
        queue: Option<Figure>,
        /// It was built.
        build: Option<Figure>,
        /// From there until the agent was heard of first.
        agent: Option<Figure>,
        /// From the request for the web terminal until its first byte, by our clock.
        connect: Option<Figure>,
        /// From there until the command had ended.
        command: Option<Figure>,
    }
    /// Builds of workspaces, by the server's clock; `None`: it does not tell.
    Builds {
        /// Builds that were begun, those after one that failed included.
        count: u64,
        /// Workspaces that were to be made at once.
        asked: u64,
        /// The most that were under way at once: waiting for a provisioner, or built.
        under_way: Option<u64>,
        /// The most that provisioners built at once.
        reached: Option<u64>,
    }
    /// What a clean-up did.
    Cleaned {
        /// Workspaces deleted.
        workspaces: u64,
        /// Users deleted.
        users: u64,
        /// Things that were gone already, or never came to be.
        gone: u64,
        /// How many are left.
        left: u64,
        /// Those, with why; at most [`THINGS_LISTED_MAX`].
        left_things: Vec<FailedThing>,
        /// How long it took, in seconds.
        seconds: f64,
    }
    /// Requests and their answers.
    Requests {
        /// Sent, tries included.
        sent: u64,
        /// Tries after a first one.
        retries: u64,
        /// Refused by the rate limiter (429).
        rate_limited: u64,
        /// Answered with 5xx.
        server_errors: u64,
        /// Not answered.
        unanswered: u64,
    }
}

/// The states of [`Progress`], in the order in which things go through them.
pub const STATES: [&str; 12] = [
    "waiting",
    "creating",
    "queued",
    "building",
    "agent_connecting",
    "connecting",
    "running_command",
    "ready",
    "cancelling",
    "deleting",
    "deleted",
    "failed",
];

impl Progress {
    /// How many stand in `state`.
    pub fn of(&self, state: &str) -> u64 {
        self.states.get(state).copied().unwrap_or(0)
    }

    /// How many need nothing more: ready, deleted or failed.
    pub fn done(&self) -> u64 {
        self.of("ready") + self.of("deleted") + self.of("failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_travels_and_is_never_printed() {
        let deployment = Deployment {
            url: "http://127.0.0.1:1".into(),
            token: Secret::new("canary"),
            ..Deployment::default()
        };
        let request = FlowRequest {
            deployment,
            flow: Flow::Cleanup(Cleanup::default()),
            timeout: None,
            job_timeout: Some(JOB_TIMEOUT),
            cleanup_timeout: None,
            cleanup_job_timeout: None,
            max_failures: 0,
            dry_run: true,
        };
        assert!(!format!("{request:?}").contains("canary"));
        let text = serde_json::to_string(&request).unwrap();
        let back: FlowRequest = serde_json::from_str(&text).unwrap();
        assert_eq!((back.deployment.token.expose(), &back), ("canary", &request));
    }

    #[test]
    fn what_a_request_does_not_know_is_refused() {
        for body in [
            r#"{"deployment":{"url":"u","tokn":"x"},"flow":{"cleanup":{}}}"#,
            r#"{"deployment":{"url":"u"},"flow":{"cleanup":{"al_prefixed":true}}}"#,
            r#"{"deployment":{"url":"u"},"flow":{"burn":{}}}"#,
        ] {
            assert!(serde_json::from_str::<FlowRequest>(body).is_err(), "{body}");
        }
    }
}
