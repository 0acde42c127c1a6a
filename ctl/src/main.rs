//! `scalectl`: the command line of `scaled`. Arguments in, exit code out.

mod calibrate;
mod client;
mod coder;
mod commands;
mod compare;
mod disruption;
mod doctor;
mod export;
mod files;
mod find_max;
mod follow;
mod render;
mod row;
mod seek;
mod ssh;
mod standing;
mod targets;
mod view;

use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use client::{Client, Failure};
use commands::{Cli, Command, RunsAction, Start};
use export::Exports;
use follow::follow;
use scale_api::http::{
    DoctorEntry, DoctorRequest, MarkRequest, Reloaded, RunSummary, SetRequest, StartRequest, Started, Status,
    StopRequest, Targets,
};
use scale_api::report::Exit;
use serde_json::{Value, json};

fn main() -> ExitCode {
    // Files with secrets pass through here: a core file is to have no memory in it (core(5)).
    let _ = std::fs::write("/proc/self/coredump_filter", "0");
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            warn(&failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Prints `value` as JSON, or as `text` says.
fn show(json: bool, value: &impl serde::Serialize, text: impl FnOnce() -> String) {
    say(&if json { serde_json::to_string(value).expect("plain values") } else { text() });
}

/// A line on stdout.
fn say(text: &str) {
    print(&[text.as_bytes(), b"\n"].concat());
}

/// Prints, and ends this program where nobody reads any more (`scalectl runs | head -1`).
fn print(bytes: &[u8]) {
    if let Err(error) = try_print(bytes) {
        if error.kind() != ErrorKind::BrokenPipe {
            warn(&format!("cannot print: {error}"));
        }
        std::process::exit(i32::from(Exit::Internal as u8));
    }
}

/// Prints, for who has something to end first where nobody reads any more.
fn try_print(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush())
}

/// A line on stderr. Whether anybody reads it is no matter: `eprintln!` panics on a terminal that has hung up.
fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "scalectl: {text}");
}

fn run(cli: &Cli) -> Result<u8, Failure> {
    let client = Client::new(cli.socket.clone());
    match &cli.command {
        Command::Start(start) => return start.exports.ending(self::start(cli, &client, start)),
        Command::CreateUsers(flags) => return coder::create_users(cli, &client, flags),
        Command::CreateWorkspaces(flags) => return coder::create_workspaces(cli, &client, flags),
        Command::WorkspaceTraffic(flags) => return coder::workspace_traffic(cli, &client, flags),
        Command::Scenario(flags) => return coder::scenario(cli, &client, flags),
        Command::Cleanup(flags) => return coder::cleanup(cli, &client, flags),
        Command::Watch { run, exports } => {
            let id = run.as_deref().unwrap_or("current");
            return exports.ending(follow(cli, &client, id, false, exports));
        }
        Command::Status => {
            let status: Status = client.get("/v1/status")?;
            show(cli.json, &status, || standing::standing(&status));
        }
        Command::Set(set) => {
            let request = SetRequest {
                group: set.group.clone(),
                conns: set.conns,
                rate: set.rate,
                bytes_per_tick: set.bytes_per_tick,
                tick_interval: set.tick_interval,
            };
            if request == (SetRequest { group: set.group.clone(), ..SetRequest::default() }) {
                return Err(Failure::usage(
                    "nothing to change; give --conns, --rate, --bytes-per-tick or --tick-interval",
                ));
            }
            let answer: Value = client.send("PATCH", "/v1/runs/current", &request)?;
            show(cli.json, &answer, || "changed".into());
        }
        Command::Mark { text, expect_disruption } => {
            let mark = MarkRequest { text: text.join(" "), expect_disruption: *expect_disruption };
            let answer: Value = client.send("POST", "/v1/runs/current/marks", &mark)?;
            show(cli.json, &answer, || "marked".into());
        }
        Command::Pause => simple(cli, &client, "pause", "paused")?,
        Command::Resume => simple(cli, &client, "resume", "going on")?,
        Command::Stop { run, now, all, exports } => {
            if *all && client.get::<Status>("/v1/status")?.run.is_none() {
                // What is being planned just now is not to begin, either.
                let _ = client.send::<Value>("POST", "/v1/runs/current/stop", &StopRequest { now: *now });
                show(cli.json, &json!({ "id": null }), || "no run is going".into());
                return Ok(0);
            }
            return exports.ending(stop(cli, &client, run.as_deref().unwrap_or("current"), *now, exports));
        }
        Command::Runs { action: Some(RunsAction::Rm { runs, all_but: None }) } => {
            return remove(cli, &client, runs);
        }
        Command::Runs { action: Some(RunsAction::Rm { all_but: Some(newest), .. }) } => {
            let mut runs: Vec<RunSummary> = client.get("/v1/runs")?;
            runs.retain(|run| run.exit_code.is_some() && run.owned == 0);
            runs.truncate(runs.len().saturating_sub(*newest));
            return remove(cli, &client, &runs.into_iter().map(|run| run.id).collect::<Vec<_>>());
        }
        Command::Runs { action: None } => {
            let runs: Vec<RunSummary> = client.get("/v1/runs")?;
            show(cli.json, &runs, || render::runs(&runs));
        }
        Command::Report { runs, row: Some(form), .. } => return rows(cli, &client, runs, *form),
        Command::Report { runs, html, exports, .. } => {
            let run = match &runs[..] {
                [] => "last",
                [run] => run,
                _ => return Err(Failure::usage("several runs are a table; add --row, or name one")),
            };
            return exports.ending(report(cli, &client, run, html.as_deref(), exports));
        }
        Command::Calibrate(flags) => return calibrate::calibrate(cli, &client, flags),
        Command::FindMax(flags) => return find_max::find_max(cli, &client, flags),
        Command::Compare(flags) => return compare::compare(cli, &client, flags),
        Command::Doctor { run } => {
            let entries: Vec<DoctorEntry> = match run {
                None => client.get("/v1/doctor")?,
                Some(file) => {
                    client.send("POST", "/v1/doctor", &DoctorRequest { spec: commands::spec_of(file)? })?
                }
            };
            show(cli.json, &entries, || doctor::show(&entries, doctor::has_colours()));
            if entries.iter().any(|entry| entry.status == "fail") {
                return Ok(Exit::HostCannotCarry as u8);
            }
        }
        Command::Targets => {
            let targets: Targets = client.get("/v1/targets")?;
            show(cli.json, &targets, || targets::table(&targets));
        }
        Command::Reload => {
            let done: Reloaded = client.send("POST", "/v1/reload", &())?;
            show(cli.json, &done, || render::reloaded(&done));
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "scalectl", &mut script);
            print(&script);
        }
        Command::Man { folder: Some(folder) } => {
            let written = clap_mangen::generate_to(Cli::command(), folder);
            written.map_err(|error| Failure::usage(format!("--folder {}: {error}", folder.display())))?;
        }
        Command::Man { folder: None } => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
            rendered.map_err(|error| Failure { message: error.to_string(), exit: Exit::Internal })?;
            print(&page);
        }
    }
    Ok(0)
}

/// Prints a table of runs. Its exit code says whether there is one, and nothing of the runs.
fn rows(cli: &Cli, client: &Client, runs: &[String], form: row::Form) -> Result<u8, Failure> {
    let last = ["last".to_owned()];
    let form = match form {
        row::Form::Csv if cli.json => {
            return Err(Failure::usage("--json and --row=csv are two forms; give one of them"));
        }
        _ if cli.json => row::Form::Json,
        form => form,
    };
    say(&row::table(client, if runs.is_empty() { &last } else { runs }, form)?);
    Ok(0)
}

/// Shows a run's report, and writes it as a page where that is asked for.
fn report(
    cli: &Cli,
    client: &Client,
    run: &str,
    html: Option<&Path>,
    exports: &Exports,
) -> Result<u8, Failure> {
    let report = client.report(run)?;
    let on_stdout = html.is_some_and(|file| file.as_os_str() == files::STDOUT);
    if on_stdout && cli.json {
        return Err(Failure::usage("--json and --html - would both go to stdout; give --html a file"));
    }
    if let Some(file) = html {
        // By its id: what `last` is may have changed meanwhile.
        let page = client.text(&format!("/v1/runs/{}/report.html", report.run.id))?;
        files::write(file, "--html", page.as_bytes())?;
    }
    if !on_stdout {
        show(cli.json, &report, || render::report(&report));
    }
    Ok(exports.report(&report))
}

/// Ends a run, and shows what came of it.
fn stop(cli: &Cli, client: &Client, id: &str, now: bool, exports: &Exports) -> Result<u8, Failure> {
    exports.check(true)?;
    let answer: Value = client.send("POST", &format!("/v1/runs/{id}/stop"), &StopRequest { now })?;
    follow(cli, client, answer["id"].as_str().unwrap_or(id), true, exports)
}

fn simple(cli: &Cli, client: &Client, verb: &str, said: &str) -> Result<(), Failure> {
    let answer: Value = client.send("POST", &format!("/v1/runs/current/{verb}"), &json!({}))?;
    show(cli.json, &answer, || said.into());
    Ok(())
}

/// Removes each run that can be, and says of the others why not.
fn remove(cli: &Cli, client: &Client, runs: &[String]) -> Result<u8, Failure> {
    let (mut removed, mut failures) = (Vec::new(), Vec::new());
    for run in runs {
        match client.send::<Value>("DELETE", &format!("/v1/runs/{run}"), &json!({})) {
            Ok(_) => removed.push(run),
            Err(failure) => failures.push(failure),
        }
    }
    if cli.json {
        say(&json!({ "removed": removed }).to_string());
    } else if !removed.is_empty() {
        say(&format!("removed {}", removed.iter().map(|run| run.as_str()).collect::<Vec<_>>().join(", ")));
    }
    let Some(exit) = failures.iter().map(|failure| failure.exit).min() else { return Ok(0) };
    let messages: Vec<String> = failures.into_iter().map(|failure| failure.message).collect();
    Err(Failure { message: messages.join("\nscalectl: "), exit })
}

fn start(cli: &Cli, client: &Client, start: &Start) -> Result<u8, Failure> {
    start.exports.check(!start.detach)?;
    let request = StartRequest { spec: start.spec()?, dry_run: start.dry_run };
    let started: Started = client.send("POST", "/v1/runs", &request)?;
    // Its secrets have arrived, and following takes as long as the run.
    drop(request);
    match announce(cli, &started, start.dry_run, start.detach, false) {
        ControlFlow::Break(code) => Ok(code),
        ControlFlow::Continue(id) => follow(cli, client, id, false, &start.exports),
    }
}

/// Says what was planned, and what has begun: the id of what is to be followed, or the exit code if that is all.
/// `quiet`: stdout is kept for the result.
fn announce<'a>(
    cli: &Cli,
    started: &'a Started,
    dry_run: bool,
    detach: bool,
    quiet: bool,
) -> ControlFlow<u8, &'a str> {
    let plan = &started.plan;
    for warning in &plan.warnings {
        eprintln!("scalectl: warning: {warning}");
    }
    let detached = detach && started.id.is_some();
    if detached || (quiet && !dry_run) {
        // With --detach its output is the id, for `RUN=$(scalectl start --detach …)`.
        plan.lines.iter().chain(&plan.calibration).for_each(|line| eprintln!("{line}"));
    } else if !cli.json || dry_run {
        let mut lines: Vec<String> = plan.lines.iter().chain(&plan.calibration).cloned().collect();
        if dry_run {
            lines.push(format!("streams on each core: {:?}", plan.streams_per_core));
            lines.push(format!("memory with socket buffers full: {} MB", plan.memory_bytes / 1_000_000));
            lines.push(format!(
                "source ports towards the busiest destination: {}",
                scale_api::units::thousands(plan.source_ports)
            ));
            lines.extend(plan.details.iter().cloned());
            lines.extend(plan.cannot.iter().map(|cannot| format!("this host cannot: {cannot}")));
        }
        show(cli.json, plan, || lines.join("\n"));
    }
    let Some(id) = &started.id else {
        return ControlFlow::Break(if plan.cannot.is_empty() { 0 } else { Exit::HostCannotCarry as u8 });
    };
    if detached {
        show(cli.json, &json!({ "id": id }), || id.clone());
        return ControlFlow::Break(0);
    }
    ControlFlow::Continue(id)
}
