//! The words of the Coder flows, as `coder exp scaletest` has them, and its variables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::FalseyValueParser;
use scale_api::coder::{
    Cleanup, CreateUsers, CreateWorkspaces, Deployment, Flow, FlowRequest, Owners, RunCommand, Secret,
};
use scale_api::spec::File;
use scale_api::units::Span;

use super::parameters;
use crate::client::Failure;
use crate::export::Exports;
use crate::files::read;

/// Which deployment, and how it is reached.
#[derive(Debug, Args)]
pub struct Place {
    /// The deployment's access URL. Its token comes from the file that CODER_SESSION_TOKEN_FILE names, the systemd
    /// credential `coder-token`, or CODER_SESSION_TOKEN; it has to be an owner's.
    #[arg(long, env = "CODER_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Roots to trust, PEM.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Accept any certificate.
    #[arg(long)]
    pub insecure: bool,
    /// One pool of connections for all requests, HTTP/2 where it is offered, instead of one a simulated user: behind a
    /// balancer they may all come to one replica.
    #[arg(long, env = "CODER_SCALETEST_POOL_CONNECTIONS", value_parser = FalseyValueParser::new())]
    pub pool_connections: bool,
}

/// What becomes of a command's words and its result.
#[derive(Debug, Args)]
pub struct Handling {
    /// The result, again where there are several: text or json on stdout or into a file.
    #[arg(
        long,
        env = "CODER_SCALETEST_OUTPUTS",
        value_name = "text|json[:FILE]",
        default_value = "text",
        value_delimiter = ','
    )]
    pub output: Vec<Output>,
    #[command(flatten)]
    pub exports: Exports,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Return at once with the run's id.
    #[arg(long)]
    pub detach: bool,
}

/// What every flow has.
#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    pub place: Place,
    /// Organization, name or id (default: where the template is, or the first).
    #[arg(long, env = "CODER_ORGANIZATION", value_name = "NAME")]
    pub organization: Option<String>,
    /// For all; clean-up at the end has as much again, unless --cleanup-timeout says otherwise (default 30m).
    #[arg(long, env = "CODER_SCALETEST_TIMEOUT", value_name = "D")]
    pub timeout: Option<Span>,
    /// For each user or workspace (default 5m).
    #[arg(long, env = "CODER_SCALETEST_JOB_TIMEOUT", value_name = "D")]
    pub job_timeout: Option<Span>,
    #[command(flatten)]
    pub handling: Handling,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

/// Makes users that stay or go.
#[derive(Debug, Args)]
pub struct CreateUsersFlags {
    #[command(flatten)]
    pub common: Common,
    /// Users.
    #[arg(short, long, env = "CODER_SCALETEST_COUNT", value_name = "N")]
    pub count: u32,
    /// A word within their names: scaletest-WORD-<run>-<n>.
    #[arg(long, value_name = "WORD")]
    pub username_infix: Option<String>,
    #[command(flatten)]
    pub making: Making,
}

/// How a clean-up goes, at a flow's end or as a flow.
#[derive(Debug, Args)]
pub struct Deleting {
    /// How many are deleted at once; 0: all (`coder` deletes one by default).
    #[arg(long, env = "CODER_SCALETEST_CLEANUP_CONCURRENCY", value_name = "N", default_value_t = 10)]
    pub cleanup_concurrency: u32,
    /// For all of the clean-up (default: as --timeout).
    #[arg(long, env = "CODER_SCALETEST_CLEANUP_TIMEOUT", value_name = "D")]
    pub cleanup_timeout: Option<Span>,
    /// For each delete (default: as --job-timeout).
    #[arg(long, env = "CODER_SCALETEST_CLEANUP_JOB_TIMEOUT", value_name = "D")]
    pub cleanup_job_timeout: Option<Span>,
}

/// What flows that make something have.
#[derive(Debug, Args)]
pub struct Making {
    /// How many are made at once; 0: all (`coder` makes one by default).
    #[arg(long, env = "CODER_SCALETEST_CONCURRENCY", value_name = "N", default_value_t = 10)]
    pub concurrency: u32,
    #[command(flatten)]
    pub deleting: Deleting,
    /// Failures that still pass.
    #[arg(long, env = "CODER_SCALETEST_MAX_FAILURES", value_name = "N", default_value_t = 0)]
    pub max_failures: u64,
    /// Leave what was made; without it everything is deleted at the end.
    #[arg(long, env = "CODER_SCALETEST_NO_CLEANUP", value_parser = FalseyValueParser::new())]
    pub no_cleanup: bool,
}

/// Makes workspaces. Each is waited for until its agents are connected.
#[derive(Debug, Args)]
pub struct CreateWorkspacesFlags {
    #[command(flatten)]
    pub common: Common,
    /// Workspaces, each with a new user of its own.
    #[arg(short, long, env = "CODER_SCALETEST_COUNT", value_name = "N")]
    pub count: u32,
    /// Template, name or id.
    #[arg(short, long, env = "CODER_SCALETEST_TEMPLATE", value_name = "NAME")]
    pub template: String,
    /// A parameter of the template; without any, those of CODER_RICH_PARAMETER, with commas between.
    #[arg(long, value_name = "K=V")]
    pub parameter: Vec<String>,
    /// File with parameters, a `name: value` a line or JSON; --parameter wins.
    #[arg(long, env = "CODER_RICH_PARAMETER_FILE", value_name = "FILE")]
    pub rich_parameter_file: Option<PathBuf>,
    /// Builds after a first one that failed.
    #[arg(long, env = "CODER_SCALETEST_RETRY", value_name = "N", default_value_t = 0)]
    pub retry: u32,
    /// The token's user owns them all; no users are made.
    #[arg(
        long,
        env = "CODER_SCALETEST_USE_HOST_LOGIN",
        value_parser = FalseyValueParser::new(),
        conflicts_with = "reuse_users"
    )]
    pub use_host_login: bool,
    /// Test users that are there already own them, one each.
    #[arg(long)]
    pub reuse_users: bool,
    /// Agents are waited for; with this, a workspace is ready once it is built.
    #[arg(long, env = "CODER_SCALETEST_NO_WAIT_FOR_AGENTS", value_parser = FalseyValueParser::new())]
    pub no_wait_for_agents: bool,
    #[command(flatten)]
    pub run: RunFlags,
    #[command(flatten)]
    pub making: Making,
}

/// A command in each workspace.
#[derive(Debug, Args)]
pub struct RunFlags {
    /// Run in each workspace's web terminal once it is ready, by its user's shell. Without it nothing is connected.
    #[arg(long, env = "CODER_SCALETEST_RUN_COMMAND", value_name = "COMMAND")]
    pub run_command: Option<String>,
    /// For the command, from its terminal's first byte on (default 5s).
    #[arg(long, env = "CODER_SCALETEST_RUN_TIMEOUT", value_name = "D")]
    pub run_timeout: Option<Span>,
    /// What the command prints has to match this; ^ and $ are a line's.
    #[arg(long, env = "CODER_SCALETEST_RUN_EXPECT_OUTPUT", value_name = "REGEX")]
    pub run_expect_output: Option<String>,
    /// Keep what each command prints in a file in the run's folder.
    #[arg(long, env = "CODER_SCALETEST_RUN_LOG_OUTPUT", value_parser = FalseyValueParser::new())]
    pub run_log_output: bool,
}

/// Deletes what this host's runs made: first a list, then, once that is confirmed, the deletes.
#[derive(Debug, Args)]
pub struct CleanupFlags {
    #[command(flatten)]
    pub common: Common,
    /// Only what this run made.
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    /// Only of runs that began so long ago.
    #[arg(long, value_name = "D")]
    pub older_than: Option<Span>,
    /// Everything that bears the prefix `scaletest-`, whoever made it, but for what was used in the last 10 minutes.
    #[arg(long, conflicts_with_all = ["run", "older_than"])]
    pub all_prefixed: bool,
    /// With --all-prefixed: also what was used in the last 10 minutes.
    #[arg(long, requires = "all_prefixed")]
    pub force: bool,
    #[command(flatten)]
    pub deleting: Deleting,
}

/// Where a result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// JSON instead of text.
    pub json: bool,
    /// Instead of stdout.
    pub file: Option<PathBuf>,
}

impl FromStr for Output {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (form, file) = match text.split_once(':') {
            Some((_, "")) => return Err("a file's name stands behind the colon: json:result.json".into()),
            Some((form, file)) => (form, Some(file.into())),
            None => (text, None),
        };
        match form {
            "text" | "json" => Ok(Self { json: form == "json", file }),
            _ => Err("write text, json, text:FILE or json:FILE".into()),
        }
    }
}

impl Common {
    fn request(&self, flow: Flow, deleting: &Deleting, max_failures: u64) -> Result<FlowRequest, Failure> {
        Ok(FlowRequest {
            deployment: self.place.deployment(self.organization.clone())?,
            flow,
            timeout: self.timeout,
            job_timeout: self.job_timeout,
            cleanup_timeout: deleting.cleanup_timeout,
            cleanup_job_timeout: deleting.cleanup_job_timeout,
            max_failures,
            dry_run: true,
        })
    }
}

impl Place {
    /// The deployment, and with what.
    ///
    /// # Errors
    /// What is not there, or cannot be read.
    pub fn deployment(&self, organization: Option<String>) -> Result<Deployment, Failure> {
        let url = self.url.clone().filter(|url| !url.trim().is_empty()).ok_or_else(|| {
            Failure::usage("which deployment? export CODER_URL=https://coder.example.com, or give --url")
        })?;
        let ca = match &self.ca {
            None => None,
            Some(path) => Some(File::read(path, read(path, "--ca", CA_BYTES_MAX)?)),
        };
        let (insecure, pool_connections) = (self.insecure, self.pool_connections);
        Ok(Deployment { url, token: token()?, organization, ca, insecure, pool_connections })
    }
}

const CA_BYTES_MAX: u64 = 4 << 20;
const PARAMETERS_BYTES_MAX: u64 = 1 << 20;

/// The token, from where it may be. What it is stands in no message.
fn token() -> Result<Secret, Failure> {
    scale_api::token::from_environment().map_err(Failure::usage)?.ok_or_else(|| {
        Failure::usage(
            "there is no token; write what `coder tokens create --lifetime 24h` prints into a file, and export CODER_SESSION_TOKEN_FILE=/path/to/it",
        )
    })
}

impl CreateUsersFlags {
    /// What is asked for.
    ///
    /// # Errors
    /// The user's mistakes.
    pub fn request(&self) -> Result<FlowRequest, Failure> {
        let flow = Flow::CreateUsers(CreateUsers {
            count: self.count,
            username_infix: self.username_infix.clone(),
            concurrency: self.making.concurrency,
            cleanup_concurrency: self.making.deleting.cleanup_concurrency,
            no_cleanup: self.making.no_cleanup,
        });
        self.common.request(flow, &self.making.deleting, self.making.max_failures)
    }
}

impl CreateWorkspacesFlags {
    /// What is asked for.
    ///
    /// # Errors
    /// The user's mistakes.
    pub fn request(&self) -> Result<FlowRequest, Failure> {
        let owners = match (self.use_host_login, self.reuse_users) {
            (true, _) => Owners::HostLogin,
            (_, true) => Owners::Reused,
            _ => Owners::New,
        };
        let flow = Flow::CreateWorkspaces(CreateWorkspaces {
            count: self.count,
            template: self.template.clone(),
            parameters: self.parameters()?,
            concurrency: self.making.concurrency,
            cleanup_concurrency: self.making.deleting.cleanup_concurrency,
            retry: self.retry,
            owners,
            no_wait_for_agents: self.no_wait_for_agents,
            run: self.run.request()?,
            no_cleanup: self.making.no_cleanup,
        });
        self.common.request(flow, &self.making.deleting, self.making.max_failures)
    }

    fn parameters(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut parameters = match &self.rich_parameter_file {
            None => BTreeMap::new(),
            Some(path) => {
                let content = read(path, "--rich-parameter-file", PARAMETERS_BYTES_MAX)?;
                let wrong = |why| Failure::usage(format!("--rich-parameter-file {}: {why}", path.display()));
                let text = String::from_utf8(content).map_err(|_| wrong("it is no text".to_owned()))?;
                parameters::parse(&text).map_err(wrong)?
            }
        };
        let given = match std::env::var("CODER_RICH_PARAMETER") {
            Ok(text) if self.parameter.is_empty() => parameters::fields(&text),
            _ => self.parameter.clone(),
        };
        for text in &given {
            let (name, value) = text
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| Failure::usage(format!("--parameter {text}: write it as name=value")))?;
            parameters.insert(name.to_owned(), value.to_owned());
        }
        Ok(parameters)
    }
}

impl RunFlags {
    fn request(&self) -> Result<Option<RunCommand>, Failure> {
        // An empty variable is none.
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let expect_output = given(&self.run_expect_output);
        let Some(command) = given(&self.run_command) else {
            let flags = [
                ("--run-timeout", self.run_timeout.is_some()),
                ("--run-expect-output", expect_output.is_some()),
                ("--run-log-output", self.run_log_output),
            ];
            return match flags.into_iter().find(|(_, given)| *given) {
                Some((flag, _)) => {
                    let why = format!("{flag} is about a command; give --run-command, or leave it out");
                    Err(Failure::usage(why))
                }
                None => Ok(None),
            };
        };
        let (timeout, log_output) = (self.run_timeout, self.run_log_output);
        Ok(Some(RunCommand { command, timeout, expect_output, log_output }))
    }
}

impl CleanupFlags {
    /// What is asked for.
    ///
    /// # Errors
    /// The user's mistakes.
    pub fn request(&self) -> Result<FlowRequest, Failure> {
        let flow = Flow::Cleanup(Cleanup {
            run: self.run.clone(),
            older_than: self.older_than,
            all_prefixed: self.all_prefixed,
            force: self.force,
            cleanup_concurrency: self.deleting.cleanup_concurrency,
        });
        self.common.request(flow, &self.deleting, 0)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Flags of the Coder flows that can come from the environment.
    const VARIABLES: [(&str, &str); 26] = [
        ("bytes-per-tick", "CODER_SCALETEST_WORKSPACE_TRAFFIC_BYTES_PER_TICK"),
        ("cleanup-concurrency", "CODER_SCALETEST_CLEANUP_CONCURRENCY"),
        ("cleanup-job-timeout", "CODER_SCALETEST_CLEANUP_JOB_TIMEOUT"),
        ("cleanup-timeout", "CODER_SCALETEST_CLEANUP_TIMEOUT"),
        ("concurrency", "CODER_SCALETEST_CONCURRENCY"),
        ("count", "CODER_SCALETEST_COUNT"),
        ("job-timeout", "CODER_SCALETEST_JOB_TIMEOUT"),
        ("max-failures", "CODER_SCALETEST_MAX_FAILURES"),
        ("no-cleanup", "CODER_SCALETEST_NO_CLEANUP"),
        ("no-wait-for-agents", "CODER_SCALETEST_NO_WAIT_FOR_AGENTS"),
        ("organization", "CODER_ORGANIZATION"),
        ("output", "CODER_SCALETEST_OUTPUTS"),
        ("per-workspace-metrics", "CODER_SCALETEST_PER_WORKSPACE_METRICS"),
        ("pool-connections", "CODER_SCALETEST_POOL_CONNECTIONS"),
        ("retry", "CODER_SCALETEST_RETRY"),
        ("rich-parameter-file", "CODER_RICH_PARAMETER_FILE"),
        ("run-command", "CODER_SCALETEST_RUN_COMMAND"),
        ("run-expect-output", "CODER_SCALETEST_RUN_EXPECT_OUTPUT"),
        ("run-log-output", "CODER_SCALETEST_RUN_LOG_OUTPUT"),
        ("run-timeout", "CODER_SCALETEST_RUN_TIMEOUT"),
        ("socket", "SCALED_SOCKET"),
        ("template", "CODER_SCALETEST_TEMPLATE"),
        ("tick-interval", "CODER_SCALETEST_WORKSPACE_TRAFFIC_TICK_INTERVAL"),
        ("timeout", "CODER_SCALETEST_TIMEOUT"),
        ("url", "CODER_URL"),
        ("use-host-login", "CODER_SCALETEST_USE_HOST_LOGIN"),
    ];

    #[test]
    fn a_flag_has_the_same_variable_in_every_flow_and_the_documentation_lists_them() {
        let mut program = crate::commands::Cli::command();
        program.build();
        let mut found = BTreeMap::<String, String>::new();
        for flow in ["create-users", "create-workspaces", "workspace-traffic", "cleanup"] {
            let command = program.find_subcommand(flow).expect(flow);
            for flag in command.get_arguments() {
                let (Some(long), Some(variable)) = (flag.get_long(), flag.get_env()) else { continue };
                let variable = variable.to_str().expect("text").to_owned();
                let before = found.insert(long.to_owned(), variable.clone());
                assert!(before.is_none_or(|before| before == variable), "--{long} of {flow}: {variable}");
            }
        }
        let listed = VARIABLES.map(|(flag, variable)| (flag.to_owned(), variable.to_owned()));
        assert_eq!(found, BTreeMap::from(listed));
        let page = include_str!("../../../docs/coder/flows.md");
        for variable in found.values().filter(|name| name.starts_with("CODER_SCALETEST_")) {
            let name = variable.trim_start_matches("CODER_SCALETEST_");
            assert!(page.contains(&format!("`{name}`")), "docs/coder/flows.md does not list {variable}");
        }
    }

    #[test]
    fn outputs_are_forms_with_files_or_without() {
        let output = |text: &str| text.parse::<Output>();
        assert_eq!(output("text"), Ok(Output { json: false, file: None }));
        assert_eq!(output("json:a:b"), Ok(Output { json: true, file: Some("a:b".into()) }));
        for wrong in ["json:", "yaml", "", ":x"] {
            assert!(output(wrong).is_err(), "{wrong}");
        }
    }
}
