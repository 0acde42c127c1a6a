//! Scenarios: create, baseline, traffic and clean-up as one run, whatever comes between.

use std::time::Duration;

use scale_api::report::Report;
use scale_tests::{Daemon, assert_ended_with, host};
use serde_json::{Value, json};

use super::{Standin, outcome, secrets, texts};

/// Short times for everything.
const LOAD: &str = "bytes_per_tick = '128B'\nwarm_up = '0s'\nverify = true\n";

/// A stand-in whose terminals are cheap, and a daemon.
fn begin() -> (Standin, Daemon) {
    let settings =
        "build_time = '50ms'\nbuild_jitter = '50ms'\nagent_time = '50ms'\nterminals = 'emulated'\n";
    let (standin, daemon) = (Standin::start(settings, ""), Daemon::start());
    standin.make_keepme();
    (standin, daemon)
}

/// `count` workspaces, their terminals for `duration`, and what `more` says.
fn file(standin: &Standin, count: u32, duration: &str, more: &str) -> String {
    let text = format!(
        "name = 'night'\n[create]\ncount = {count}\ntemplate = 'minimal'\nconcurrency = 0\n\
         [[group]]\nname = 'terminals'\nduration = '{duration}'\n{LOAD}{more}"
    );
    standin.folder.write("night.toml", &text)
}

fn run(standin: &Standin, daemon: &Daemon, file: &str) -> (i32, Report) {
    standin.flow(daemon, &["scenario", "-f", file])
}

/// Until the status is so.
fn until(daemon: &Daemon, what: &str, is_so: impl Fn(&Value) -> bool) {
    host::until(what, || {
        let (_, text, _) = texts(&daemon.scalectl(&["--json", "status"]));
        is_so(&serde_json::from_str(&text).expect("a status")).then_some(())
    });
}

/// Until the run is in its traffic.
fn until_traffic(daemon: &Daemon) {
    until(daemon, "traffic", |status| status["run"]["state"] == "steady");
}

/// Until no run goes.
fn until_idle(daemon: &Daemon) {
    until(daemon, "the run's end", |status| status["run"].is_null());
}

fn report(daemon: &Daemon, id: &str) -> Report {
    let (_, text, error) = texts(&daemon.scalectl(&["--json", "report", id]));
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}{error}"))
}

#[test]
fn everything_in_one_run_with_one_report_and_one_verdict() {
    let (standin, daemon) = begin();
    let apps = "[[group]]\nname = 'apps'\nkind = 'app'\napp = 'wsec'\nworkspaces = '6:8'\nstart = '1s'\nduration = '2s'\n";
    let rest = "[baseline]\nduration = '2s'\n[[threshold]]\nexpression = 'terminals.response.p99 < 30s'\n[cleanup]\nconcurrency = 0\n";
    let file = file(&standin, 8, "3s", &format!("workspaces = '0:6'\n{apps}{LOAD}{rest}"));
    let (code, report) = run(&standin, &daemon, &file);
    assert_ended_with(0, (code, &report));
    assert_eq!(report.run.name.as_deref(), Some("night"));
    assert_eq!((report.groups[0].load.streams_opened, report.groups[1].load.streams_opened), (6, 2));
    assert_eq!((report.load.verify_failures, report.load.unexpected_bytes), (0, 0));
    assert!(report.groups.iter().all(|group| group.load.messages_echoed > 0));
    assert!(report.verdict.thresholds[0].ok);
    let outcome = outcome(&report);
    assert_eq!((outcome.flow.as_str(), outcome.requested, outcome.succeeded), ("scenario", 8, 8));
    let steps: Vec<&str> = outcome.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps, ["create", "baseline", "traffic", "clean up"]);
    assert!(outcome.phases.build.is_some() && outcome.steps.iter().all(|step| step.seconds > 0.0));
    assert!(outcome.api["baseline"].count >= 2 && outcome.api["traffic"].count >= 2);
    let cleaned = outcome.cleanup.as_ref().expect("a clean-up");
    assert_eq!((cleaned.workspaces, cleaned.users, cleaned.left, outcome.owned), (8, 8, 0, 0));
    assert_eq!(outcome.things.len(), 8);
    let (_, runs, _) = texts(&daemon.scalectl(&["runs"]));
    assert_eq!(runs.lines().count(), 2, "a head and one run: {runs}");
    standin.assert_only_keepme();
    standin.end();
}

#[test]
fn what_did_not_pass_stays_where_only_success_cleans_up() {
    let (standin, daemon) = begin();
    let rest = "[[threshold]]\nexpression = 'response.p99 < 1us'\n[cleanup]\nwhen = 'success'\n";
    let file = file(&standin, 3, "1s", rest);
    let (code, report) = run(&standin, &daemon, &file);
    assert_ended_with(99, (code, &report));
    assert_eq!(outcome(&report).owned, 6);
    let (code, _, error) = standin.scalectl(&daemon, &["cleanup", "--yes"]);
    assert_eq!(code, 0, "{error}");
    standin.assert_only_keepme();
    standin.end();
}

#[test]
fn an_end_before_its_time_ends_the_traffic_and_cleans_up() {
    let (standin, daemon) = begin();
    let file = file(&standin, 4, "1h", "");
    let id = standin.begin(&daemon, &["scenario", "-f", &file]);
    until_traffic(&daemon);
    // What can be said to a run can be said to it.
    let (code, _, error) = texts(&daemon.scalectl(&["set", "--rate", "2KB/s"]));
    assert_eq!(code, 0, "{error}");
    let (code, _, error) = texts(&daemon.scalectl(&["stop"]));
    assert_eq!(code, 0, "{error}");
    let kept = report(&daemon, &id);
    assert_eq!((outcome(&kept).owned, kept.load.streams_opened), (0, 4), "{:?}", kept.verdict);
    standin.assert_only_keepme();

    // At once: zero traffic, nothing is deleted, the ledger knows it.
    let id = standin.begin(&daemon, &["scenario", "-f", &file]);
    until_traffic(&daemon);
    let (code, _, error) = texts(&daemon.scalectl(&["stop", "--now"]));
    assert_eq!(code, 5, "{error}");
    assert_eq!(outcome(&report(&daemon, &id)).owned, 8);
    let (code, ..) = standin.scalectl(&daemon, &["cleanup", "--run", &id, "--yes"]);
    assert_eq!(code, 0);
    standin.assert_only_keepme();
    standin.end();
}

#[test]
fn a_moment_can_be_named_in_each_step_and_stands_on_the_series_clock() {
    let (standin, daemon) = begin();
    let file = file(&standin, 2, "1h", "[baseline]\nduration = '3s'\n");
    let id = standin.begin(&daemon, &["scenario", "-f", &file]);
    let mark = |text: &str| {
        let (code, _, error) = texts(&daemon.scalectl(&["mark", text]));
        assert_eq!(code, 0, "{error}");
    };
    until(&daemon, "the quiet time", |status| status["run"]["state"] == "baseline");
    mark("quiet");
    until(&daemon, "the mark", |status| status["marks"][0]["text"] == "quiet");
    until_traffic(&daemon);
    mark("loaded");
    let (code, _, error) = texts(&daemon.scalectl(&["stop"]));
    assert_eq!(code, 0, "{error}");
    let marks = report(&daemon, &id).marks;
    assert_eq!(marks.iter().map(|mark| mark.text.as_str()).collect::<Vec<_>>(), ["quiet", "loaded"]);
    assert!(marks[0].at < 0.0 && marks[1].at > 0.0, "the series begins with the traffic: {marks:?}");
    standin.assert_only_keepme();
    standin.end();
}

#[test]
fn a_daemon_that_starts_again_goes_on_with_the_clean_up() {
    let (standin, mut daemon) = begin();
    let file = file(&standin, 4, "1h", "");
    daemon.environment = vec![("CODER_SESSION_TOKEN_FILE", standin.folder.path("token"))];
    for is_killed in [true, false] {
        let id = standin.begin(&daemon, &["scenario", "-f", &file]);
        until_traffic(&daemon);
        host::until("a checkpoint with traffic", || {
            let text = std::fs::read_to_string(daemon.state().join(&id).join("checkpoint.json")).ok()?;
            text.contains("\"streams_opened\":4").then_some(())
        });
        let process = daemon.process.take().expect("it runs");
        if is_killed {
            drop(process);
        } else {
            drop(process.end());
        }
        daemon.begin();
        std::thread::sleep(Duration::from_millis(300));
        until_idle(&daemon);
        let report = report(&daemon, &id);
        let outcome = outcome(&report);
        assert_eq!((report.verdict.exit_code, outcome.owned), (5, 0), "{:?}", report.verdict);
        assert_eq!(outcome.cleanup.as_ref().map(|cleaned| cleaned.workspaces), Some(4));
        assert_eq!(report.load.streams_opened, 4);
        standin.assert_only_keepme();
    }
    standin.end();
}

#[test]
fn without_a_token_of_its_own_a_daemon_leaves_the_clean_up_and_says_so() {
    let (standin, mut daemon) = begin();
    let file = file(&standin, 2, "1h", "");
    let id = standin.begin(&daemon, &["scenario", "-f", &file]);
    until_traffic(&daemon);
    drop(daemon.process.take());
    // What is kept for the next daemon has everything but the token.
    assert!(daemon.state().join(&id).join("owed.json").exists());
    assert_eq!(secrets::holding(&daemon.state(), standin.token.trim()), [""; 0]);
    daemon.begin();
    let (_, runs, _) = texts(&daemon.scalectl(&["runs"]));
    assert!(runs.contains(&id) && runs.contains("owns 4"), "{runs}");
    let (code, ..) = standin.scalectl(&daemon, &["cleanup", "--yes"]);
    assert_eq!(code, 0);
    standin.assert_only_keepme();
    standin.end();
}

#[test]
fn too_many_failures_begin_no_traffic_and_are_cleaned_up() {
    let (standin, daemon) = (
        Standin::start(
            "agent_time = '50ms'\nbuild_time = '50ms'\n",
            "[[fault]]\nkind = 'build_fails'\nworkspace = 'scaletest-*-1'\ntimes = 1\n",
        ),
        Daemon::start(),
    );
    let file = file(&standin, 4, "1s", "");
    let (code, report) = run(&standin, &daemon, &file);
    assert_eq!(code, 99, "{:?}", report.verdict);
    assert!(report.verdict.reasons[0].starts_with("create: "), "{:?}", report.verdict);
    let steps: Vec<&str> = outcome(&report).steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps, ["create", "clean up"]);
    assert_eq!(standin.there(), (Vec::new(), Vec::new()));
    standin.end();
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    // A workspace that is there and does not run, however long this takes.
    let (standin, daemon) = (Standin::start("build_time = '1h'\n", ""), Daemon::start());
    standin.make_keepme();
    let refused = |text: &str, word: &str| {
        let file = standin.folder.write("wrong.toml", text);
        let (code, out, error) = standin.scalectl(&daemon, &["scenario", "-f", &file, "--yes"]);
        assert!(code == 2 && error.contains(word), "{code} {out}{error}");
    };
    let create = "[create]\ncount = 3\ntemplate = 'minimal'\n";
    refused("[create]\ncout = 3\n", "wrong.toml:2:1");
    refused(&format!("{create}[[group]]\nworkspaces = '0:4'\n"), "the 3 that [create] makes");
    refused("[create]\ncount = 3\ntemplate = 'nosuch'\n", "nosuch");
    refused("[[group]]\nduration = '1s'\n", "cannot be driven");
    let file = standin.folder.write("fine.toml", create);
    let (code, _, error) = standin.scalectl(&daemon, &["scenario", "-f", &file]);
    assert!(code == 2 && error.contains("--yes"), "{error}");
    let (code, out, _) = standin.scalectl(&daemon, &["--json", "scenario", "-f", &file, "--dry-run"]);
    let looked: Value = serde_json::from_str(&out).expect("a look");
    assert_eq!((code, &looked["workspaces"]), (0, &json!(3)));
    standin.assert_only_keepme();
    standin.end();
}
