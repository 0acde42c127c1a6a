//! The Coder flows: show what would be done, ask, begin, follow, say what came of it.

mod flags;
mod original;
mod parameters;
pub mod render;
mod scenario;
pub mod steps;
mod traffic;

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use scale_api::coder::{Begun, CODER, FlowRequest, PREFLIGHT_TIME_MAX, Preflight};
use scale_api::report::{Exit, Report};
use scale_api::scenario::step::Step;
use serde_json::json;

use crate::client::{Client, Failure};
use crate::commands::Cli;
pub use flags::{CleanupFlags, CreateUsersFlags, CreateWorkspacesFlags};
use flags::{Common, Handling, Output};
pub use scenario::{ScenarioFlags, scenario};
pub use traffic::{WorkspaceTrafficFlags, workspace_traffic};

/// What a look may take beyond the daemon's own limit, for names and sockets.
const ANSWER_MARGIN: Duration = Duration::from_secs(30);

fn look_time_max() -> Duration {
    Duration::from_nanos(PREFLIGHT_TIME_MAX.ns()) + ANSWER_MARGIN
}

/// What is typed before something goes.
enum Word {
    /// `y`.
    Yes,
    /// The deployment's host: by prefix alone, others' things may go.
    Host,
}

/// `create-users`.
///
/// # Errors
/// Why it cannot be.
pub fn create_users(cli: &Cli, client: &Client, flags: &CreateUsersFlags) -> Result<u8, Failure> {
    run(cli, client, &flags.common, flags.request()?, &Word::Yes)
}

/// `create-workspaces`.
///
/// # Errors
/// Why it cannot be.
pub fn create_workspaces(cli: &Cli, client: &Client, flags: &CreateWorkspacesFlags) -> Result<u8, Failure> {
    run(cli, client, &flags.common, flags.request()?, &Word::Yes)
}

/// `cleanup`.
///
/// # Errors
/// Why it cannot be.
pub fn cleanup(cli: &Cli, client: &Client, flags: &CleanupFlags) -> Result<u8, Failure> {
    let word = if flags.all_prefixed { Word::Host } else { Word::Yes };
    run(cli, client, &flags.common, flags.request()?, &word)
}

fn run(
    cli: &Cli,
    client: &Client,
    common: &Common,
    mut request: FlowRequest,
    word: &Word,
) -> Result<u8, Failure> {
    let how = How { handling: &common.handling, yes: common.yes, word, steps: &[] };
    begin_and_follow(cli, client, &how, move |dry_run| {
        request.dry_run = dry_run;
        client.send_within("POST", CODER, &request, look_time_max())
    })
}

/// How a flow is begun and followed.
struct How<'a> {
    handling: &'a Handling,
    yes: bool,
    word: &'a Word,
    /// Of a scenario: their commands are run here.
    steps: &'a [Step],
}

/// Looks, asks, begins and follows. `begin`: a dry run first.
fn begin_and_follow(
    cli: &Cli,
    client: &Client,
    how: &How<'_>,
    begin: impl FnMut(bool) -> Result<Begun, Failure>,
) -> Result<u8, Failure> {
    let exports = &how.handling.exports;
    exports.ending(exports.check(!how.handling.detach).and_then(|()| begin_and_end(cli, client, how, begin)))
}

fn begin_and_end(
    cli: &Cli,
    client: &Client,
    how: &How<'_>,
    mut begin: impl FnMut(bool) -> Result<Begun, Failure>,
) -> Result<u8, Failure> {
    let looked = begin(true)?.preflight;
    let notices = steps::notice(how.steps, how.handling.detach);
    for warning in looked.warnings.iter().chain(&notices) {
        eprintln!("scalectl: warning: {warning}");
    }
    let is_quiet = cli.json || is_json_on_stdout(&how.handling.output);
    match (cli.json, how.handling.dry_run) {
        (true, true) => crate::say(&serde_json::to_string(&looked).expect("plain values")),
        (_, false) if is_quiet || how.handling.detach => eprintln!("{}", render::preflight(&looked)),
        _ => crate::say(&render::preflight(&looked)),
    }
    if how.handling.dry_run || looked.is_nothing {
        return Ok(0);
    }
    if !how.yes && !is_meant(&looked, how.word)? {
        eprintln!("scalectl: nothing was done");
        return Ok(Exit::Usage as u8);
    }
    let Some(id) = begin(false)?.id else {
        crate::say("there is nothing left to do");
        return Ok(0);
    };
    // The request, with its secrets: following takes as long as a run.
    drop(begin);
    if how.handling.detach {
        crate::show(cli.json, &json!({ "id": id }), || id.clone());
        return Ok(0);
    }
    follow(cli, client, &id, how)
}

/// Follows a flow to its end, and runs the commands of its steps.
fn follow(cli: &Cli, client: &Client, id: &str, how: &How<'_>) -> Result<u8, Failure> {
    let is_quiet = !cli.json && is_json_on_stdout(&how.handling.output);
    // One that has ended by now still has its report.
    let attached = steps::attach(client, id, how.steps).unwrap_or_else(|why| {
        eprintln!("scalectl: no commands of its steps are run here: {}", why.message);
        None
    });
    let report = crate::follow::to_report(cli, client, id, is_quiet);
    // Also where the daemon is lost: a command that goes is ended then.
    attached.map_or(Ok(()), steps::Attached::end)?;
    let report = report?;
    let code = how.handling.exports.report(&report);
    write_outputs(cli, &how.handling.output, &report)?;
    Ok(code)
}

/// Asks on a terminal. Without one, nobody can be asked.
fn is_meant(looked: &Preflight, word: &Word) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on, so nothing was done; give --yes"));
    }
    let wanted = match word {
        Word::Yes => {
            eprint!("Go on? [y/N] ");
            "y"
        }
        Word::Host => {
            eprint!("This deletes by name alone, whoever made it. Type the deployment's host to go on: ");
            looked.site.host.as_str()
        }
    };
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| Failure::usage(error.to_string()))?;
    let typed = line.trim();
    Ok(typed == wanted || (wanted == "y" && typed.eq_ignore_ascii_case("yes")))
}

/// Nothing else may stand there then.
fn is_json_on_stdout(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| output.json && output.file.is_none())
}

fn write_outputs(cli: &Cli, outputs: &[Output], report: &Report) -> Result<(), Failure> {
    if cli.json {
        crate::say(&serde_json::to_string(report).expect("plain values"));
    }
    for output in outputs {
        let text = match output.json {
            true => original::with_results(report).to_string(),
            false => crate::render::report(report),
        };
        match &output.file {
            // With --json the report is there already.
            None if cli.json => {}
            None => crate::say(&text),
            Some(path) => std::fs::write(path, text + "\n").map_err(|error| {
                Failure::usage(format!(
                    "cannot write {}: {error}; `scalectl report {} --json` has it",
                    path.display(),
                    report.run.id
                ))
            })?,
        }
    }
    Ok(())
}
