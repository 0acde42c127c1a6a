//! `scenario`: a file says what is made, measured, driven and deleted, in one run.

use std::path::{Path, PathBuf};

use clap::Args;
use scale_api::private::credentials;
use scale_api::scenario::{CODER_SCENARIO, Scenario, ScenarioRequest};

use super::flags::{Handling, Place};
use super::{How, Word, begin_and_follow, follow, look_time_max, steps};
use crate::client::{Client, Failure};
use crate::commands::Cli;
use crate::files::{FILES_BYTES_MAX, hand_over, hand_over_observe, read};

/// Makes workspaces, measures a quiet time, drives groups of traffic and cleans up, as one run of the daemon.
#[derive(Debug, Args)]
pub struct ScenarioFlags {
    /// Scenario file (TOML): [create], [baseline], [[group]], [[step]], [[threshold]], [cleanup].
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub place: Place,
    /// Organization, name or id (default: where the template is).
    #[arg(long, env = "CODER_ORGANIZATION", value_name = "NAME")]
    pub organization: Option<String>,
    #[command(flatten)]
    pub handling: Handling,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Follow this scenario, which FILE has begun, and run the commands of its steps from now on.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["dry_run", "detach", "yes"])]
    pub attach: Option<String>,
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
        let credentials = credentials();
        hand_over(scenario.group.iter_mut().map(|group| &mut group.load), folder, credentials.as_deref())?;
        hand_over_observe(scenario.observe.as_mut(), folder, credentials.as_deref())?;
        Ok(scenario)
    }
}

/// Comes back to a scenario that goes.
fn again(cli: &Cli, client: &Client, id: &str, how: &How<'_>) -> Result<u8, Failure> {
    let exports = &how.handling.exports;
    exports.ending(exports.check(true).and_then(|()| {
        steps::check(client, id, how.steps)?;
        for notice in steps::notice(how.steps, false) {
            eprintln!("scalectl: warning: {notice}");
        }
        follow(cli, client, id, how)
    }))
}

/// `scenario`.
///
/// # Errors
/// Why it cannot be.
pub fn scenario(cli: &Cli, client: &Client, flags: &ScenarioFlags) -> Result<u8, Failure> {
    let scenario = flags.scenario()?;
    let steps = scenario.step.clone();
    let how = How { handling: &flags.handling, yes: flags.yes, word: &Word::Yes, steps: &steps };
    if let Some(id) = &flags.attach {
        return again(cli, client, id, &how);
    }
    let mut request = ScenarioRequest {
        scenario,
        deployment: flags.place.deployment(flags.organization.clone())?,
        dry_run: true,
    };
    begin_and_follow(cli, client, &how, move |dry_run| {
        request.dry_run = dry_run;
        client.send_within("POST", CODER_SCENARIO, &request, look_time_max())
    })
}
