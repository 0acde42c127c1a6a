//! How flows end before their time, and who may go away meanwhile.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use scale_api::coder::Progress;
use scale_api::http::Status;
use scale_api::report::Report;
use scale_tests::host::until;
use scale_tests::{Daemon, Process};

use super::{Standin, create, outcome, texts};

/// Builds so slow that a flow is caught while it makes workspaces.
const SLOW: &str = "build_time = '6s'\nbuild_jitter = '0s'\nprovisioners = 3\n";

/// The going flow's progress.
fn progress(daemon: &Daemon) -> Option<Progress> {
    let status: Status =
        serde_json::from_slice(&daemon.scalectl(&["--json", "status"]).stdout).expect("JSON");
    status.run?.coder
}

fn until_building(daemon: &Daemon) -> Progress {
    until("builds under way", || progress(daemon).filter(|progress| progress.of("building") > 0))
}

/// A `scalectl --json` that follows a flow, and gets a Ctrl-C while it builds.
fn interrupted(standin: &Standin, daemon: &Daemon, arguments: &[&str]) -> (i32, Report) {
    let mut command = standin.command(daemon, &[&["--json"], arguments, &["--yes"]].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("scalectl runs");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut process = Process(child);
    until_building(daemon);
    process.signal("INT");
    let last = lines.map(|line| line.expect("text")).last().expect("a last line");
    let code = process.0.wait().expect("it ends").code().expect("an exit code");
    (code, serde_json::from_str(&last).expect("a report"))
}

#[test]
fn ctrl_c_ends_a_flow_and_deletes_what_it_made() {
    let (standin, daemon) = (Standin::start(SLOW, ""), Daemon::start());
    standin.make_keepme();
    let (code, report) = interrupted(&standin, &daemon, &create("6", &["--cleanup-concurrency", "0"]));
    let made = outcome(&report);
    assert!(code == 5 && report.verdict.reasons[0].contains("Ctrl-C"), "{:?}", report.verdict);
    assert_eq!((made.ended.as_str(), made.succeeded, made.owned), ("stopped", 0, 0));
    assert_eq!(made.failures["stopped"].count, 6);
    assert_eq!(made.cleanup.as_ref().map(|one| (one.workspaces, one.left)), Some((6, 0)));
    standin.assert_only_keepme();
    standin.end();
}

#[test]
fn a_clean_up_has_times_of_its_own() {
    // Every build takes a second, a delete's too.
    let standin = Standin::start("build_time = '1s'\nbuild_jitter = '0s'\nagent_time = '50ms'\n", "");
    let daemon = Daemon::start();
    let (code, report) = standin.flow(&daemon, &create("2", &["--cleanup-job-timeout", "200ms"]));
    let made = outcome(&report);
    assert_eq!((code, made.succeeded, made.owned > 0), (7, 2, true), "{made:?}");
    assert_eq!(made.cleanup.as_ref().map(|one| one.left > 0), Some(true), "{made:?}");
    let (code, _, error) = standin.scalectl(&daemon, &create("1", &["--yes", "--cleanup-timeout", "0s"]));
    assert!(code == 2 && error.contains("more than nothing"), "{error}");
    assert_eq!(standin.flow(&daemon, &["cleanup", "--cleanup-concurrency", "0"]).0, 0);
    assert_eq!(standin.there(), (Vec::new(), Vec::new()));
    standin.end();
}

#[test]
fn with_no_cleanup_an_interrupted_flow_leaves_its_ledger_to_clean_up() {
    let (standin, daemon) = (Standin::start(SLOW, ""), Daemon::start());
    standin.make_keepme();
    let (code, report) = interrupted(&standin, &daemon, &create("6", &["--no-cleanup"]));
    assert_eq!((code, outcome(&report).owned, &outcome(&report).cleanup), (5, 12, &None));
    assert_eq!(standin.there().1.len(), 7);
    // Builds under way are cancelled first, three of them, and three that waited.
    let (code, report) = standin.flow(&daemon, &["cleanup", "--cleanup-concurrency", "0"]);
    let cleaned = outcome(&report).cleanup.clone().expect("a clean-up");
    assert_eq!((code, cleaned.workspaces, cleaned.users), (0, 6, 6), "{:?}", cleaned.left_things);
    standin.assert_only_keepme();
    standin.end();
}

#[test]
fn a_flow_is_a_run_that_is_watched_stopped_and_alone() {
    let (standin, daemon) = (Standin::start(SLOW, ""), Daemon::start());
    let id = standin.begin(&daemon, &create("4", &["--no-cleanup"]));
    let seen = until_building(&daemon);
    assert_eq!(
        (seen.phase.as_str(), seen.total, seen.host.as_str()),
        ("create workspaces", 4, standin.sink.address.as_str())
    );
    let (_, text, _) = texts(&daemon.scalectl(&["status"]));
    assert!(text.contains(&id) && text.contains("of 4") && text.contains("waits for"), "{text}");
    // One run at a time, whichever kind.
    let (code, _, error) = standin.scalectl(&daemon, &["create-users", "--count", "1", "--yes"]);
    assert!(code == 2 && error.contains(&format!("run {id} is going")), "{error}");
    for arguments in [
        &["start", "--conns", "1", "--target", "ws://127.0.0.1:9/"][..],
        &["pause"],
        &["set", "--conns", "5"],
        &["runs", "rm", &id],
    ] {
        let (code, _, error) = texts(&daemon.scalectl(arguments));
        assert!(code == 2 && error.contains(&id), "{arguments:?}: {error}");
    }
    assert_eq!(daemon.scalectl(&["mark", "half", "way"]).status.code(), Some(0));
    // A look changes nothing and may be had meanwhile.
    let (code, text, _) = standin.scalectl(&daemon, &["cleanup", "--dry-run"]);
    assert!(code == 0 && text.contains("4 workspaces"), "{text}");
    // Whoever follows may go away.
    let mut watcher = daemon.command(&["watch", &id]).stdout(Stdio::piped()).spawn().expect("scalectl runs");
    let mut lines = BufReader::new(watcher.stdout.take().expect("piped")).lines();
    let line = lines.next().expect("a line").expect("text");
    assert!(line.contains("create workspaces [") && line.contains("/4"), "{line}");
    drop(Process(watcher)); // SIGKILL
    assert!(progress(&daemon).is_some());
    let (code, text, _) = texts(&daemon.scalectl(&["stop", "--now"]));
    assert!(code == 5 && text.contains("4 stopped before") && text.contains("scalectl stop"), "{text}");
    let (code, text, _) = texts(&daemon.scalectl(&["report", &id]));
    assert!(code == 5 && text.contains("0 of 4 workspaces succeeded"), "{text}");
    let (_, text, _) = texts(&daemon.scalectl(&["--json", "report", &id]));
    assert!(text.contains("\"text\": \"half way\"") || text.contains("\"text\":\"half way\""), "{text}");
    assert_eq!(standin.flow(&daemon, &["cleanup", "--cleanup-concurrency", "0"]).0, 0);
    assert_eq!(standin.there(), (Vec::new(), Vec::new()));
    standin.end();
}

#[test]
fn sigterm_ends_a_flow_at_once_and_keeps_its_report_and_ledger() {
    let (standin, mut daemon) = (Standin::start(SLOW, ""), Daemon::start());
    let id = standin.begin(&daemon, &create("4", &[]));
    until_building(&daemon);
    daemon.process.take().expect("it runs").end();
    daemon.begin();
    let (code, text, error) = texts(&daemon.scalectl(&["--json", "report", &id]));
    let report: Report = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {error}"));
    assert!(code == 5 && report.verdict.reasons[0].contains("told to end"), "{:?}", report.verdict);
    let (_, text, _) = texts(&daemon.scalectl(&["runs"]));
    assert!(text.contains(&id) && text.contains("owns 8 on Coder"), "{text}");
    assert_eq!(standin.flow(&daemon, &["cleanup", "--cleanup-concurrency", "0"]).0, 0);
    assert_eq!(standin.there(), (Vec::new(), Vec::new()));
    standin.end();
}
