//! `scenario`: a file says what is made, measured, driven and deleted, in one run.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::FalseyValueParser;
use scale_api::coder::Deployment;
use scale_api::scenario::{CODER_SCENARIO, Scenario, ScenarioRequest};

use super::flags::{Output, deployment};
use super::{How, Word, begin_and_follow, look_time_max};
use crate::client::{Client, Failure};
use crate::commands::{Cli, FILES_BYTES_MAX, read, read_files};

/// Makes workspaces, measures a quiet time, drives groups of traffic and cleans up, as one run of the daemon.
#[derive(Debug, Args)]
pub struct ScenarioFlags {
    /// Scenario file (TOML): [create], [baseline], [[group]], [[threshold]], [cleanup].
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// The deployment's access URL. Its token comes from the file that CODER_SESSION_TOKEN_FILE names, the systemd
    /// credential `coder-token`, or CODER_SESSION_TOKEN; it has to be an owner's.
    #[arg(long, env = "CODER_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Organization, name or id (default: where the template is).
    #[arg(long, env = "CODER_ORGANIZATION", value_name = "NAME")]
    pub organization: Option<String>,
    /// Roots to trust, PEM.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Accept any certificate.
    #[arg(long)]
    pub insecure: bool,
    /// One pool of connections for all requests; without it each simulated user has one of its own.
    #[arg(long, env = "CODER_SCALETEST_POOL_CONNECTIONS", value_parser = FalseyValueParser::new())]
    pub pool_connections: bool,
    /// The result, again where there are several: text or json on stdout or into a file.
    #[arg(
        long,
        env = "CODER_SCALETEST_OUTPUTS",
        value_name = "text|json[:FILE]",
        default_value = "text",
        value_delimiter = ','
    )]
    pub output: Vec<Output>,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Return at once with the run's id.
    #[arg(long)]
    pub detach: bool,
}

impl ScenarioFlags {
    /// The scenario of the file, and the files that it names.
    fn scenario(&self) -> Result<Scenario, Failure> {
        let text = String::from_utf8(read(&self.file, "--file", FILES_BYTES_MAX)?)
            .map_err(|_| Failure::usage(format!("--file: {} is not text", self.file.display())))?;
        let mut scenario =
            Scenario::from_toml(&text, &self.file.display().to_string()).map_err(Failure::usage)?;
        scenario.check().map_err(|errors| Failure::usage(errors.join("\nscalectl: ")))?;
        let folder = self.file.parent().unwrap_or(Path::new(""));
        read_files(scenario.group.iter_mut().map(|group| &mut group.load), folder)?;
        Ok(scenario)
    }
}

/// `scenario`.
///
/// # Errors
/// Why it cannot be.
pub fn scenario(cli: &Cli, client: &Client, flags: &ScenarioFlags) -> Result<u8, Failure> {
    let deployment = deployment(flags.url.as_ref(), flags.ca.as_deref(), flags.insecure)?;
    let mut request = ScenarioRequest {
        scenario: flags.scenario()?,
        deployment: Deployment {
            organization: flags.organization.clone(),
            pool_connections: flags.pool_connections,
            ..deployment
        },
        dry_run: true,
    };
    let how = How {
        output: &flags.output,
        dry_run: flags.dry_run,
        yes: flags.yes,
        detach: flags.detach,
        word: &Word::Yes,
    };
    begin_and_follow(cli, client, &how, |dry_run| {
        request.dry_run = dry_run;
        client.send_within("POST", CODER_SCENARIO, &request, look_time_max())
    })
}
