//! State folders as older versions have left them: recorded from their own programs (tests/state), pages left out.

use std::fs;
use std::path::Path;

use scale_api::http::RunSummary;
use scale_api::report::Report;
use scale_tests::Daemon;
use scale_tests::host::{Folder, root};

use crate::error;

/// A recorded folder and its runs.
struct Recorded {
    name: &'static str,
    passed: &'static str,
    cut_off: &'static str,
    owes: &'static str,
    /// Rows of the run that was cut off, where that version kept them as they came.
    rows: usize,
}

const RECORDED: [Recorded; 2] = [
    // Before runs were recorded as they went: a report, histograms, a checkpoint with its series.
    Recorded {
        name: "0.1-first",
        passed: "r1795791286-0",
        cut_off: "r1795791289-0",
        owes: "r1795791330-0",
        rows: 3,
    },
    Recorded {
        name: "0.1",
        passed: "r1795791310-0",
        cut_off: "r1795791313-1",
        owes: "r1795791313-0",
        rows: 3,
    },
];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("copied")),
        }
    }
}

/// A daemon that finds a recorded folder.
fn over(recorded: &Recorded) -> Daemon {
    let mut daemon = Daemon::start();
    drop(daemon.process.take());
    copy(&root().join("tests/state").join(recorded.name), &daemon.state());
    daemon.begin();
    daemon
}

fn runs(daemon: &Daemon) -> Vec<RunSummary> {
    serde_json::from_slice(&daemon.scalectl(&["--json", "runs"]).stdout).expect("JSON")
}

fn report(daemon: &Daemon, id: &str) -> (Option<i32>, Report) {
    let output = daemon.scalectl(&["--json", "report", id]);
    (
        output.status.code(),
        serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {}", error(&output))),
    )
}

#[test]
fn runs_of_older_versions_are_listed_reported_and_closed() {
    for recorded in RECORDED {
        let daemon = over(&recorded);
        let runs = runs(&daemon);
        let run = |id: &str| runs.iter().find(|run| run.id == id).unwrap_or_else(|| panic!("{id}: {runs:?}"));
        assert_eq!(runs.len(), 3, "{}: {runs:?}", recorded.name);
        let (passed, cut_off) = (run(recorded.passed), run(recorded.cut_off));
        assert_eq!(
            (passed.name.as_deref(), passed.exit_code, passed.labels["team"].as_str()),
            (Some("nightly"), Some(0), "core")
        );
        assert_eq!(
            (cut_off.name.as_deref(), cut_off.exit_code, cut_off.state.as_str()),
            (Some("cut-off"), Some(5), "aborted")
        );
        let (code, read) = report(&daemon, recorded.passed);
        assert_eq!(
            (code, read.total.messages_sent > 100, read.series.len() >= 3),
            (Some(0), true, true),
            "{}",
            recorded.name
        );
        assert!(read.verdict.thresholds[0].ok && read.latency.response.is_some() && !read.host.is_empty());
        let (code, read) = report(&daemon, recorded.cut_off);
        assert_eq!(
            (code, read.series.len()),
            (Some(5), recorded.rows),
            "{}: {:?}",
            recorded.name,
            read.warnings
        );
        assert!(read.verdict.reasons[0].contains("the daemon was lost") && read.total.messages_sent > 20);
        let output = daemon.scalectl(&["report", recorded.passed]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains("response.p99 < 5s met"),
            "{text}{}",
            error(&output)
        );
    }
}

#[test]
fn pages_histograms_and_comparisons_are_made_of_older_runs() {
    for recorded in RECORDED {
        let daemon = over(&recorded);
        let folder = Folder::new();
        for id in [recorded.passed, recorded.cut_off, recorded.owes] {
            let page = folder.path(&format!("{id}.html")).display().to_string();
            let output = daemon.scalectl(&["report", id, "--html", &page]);
            let page = fs::read_to_string(&page).unwrap_or_else(|why| panic!("{why}: {}", error(&output)));
            assert!(
                page.contains(id) && page.contains("<!doctype html>") | page.contains("<!DOCTYPE html>"),
                "{id}"
            );
        }
        let kept = daemon.state().join(recorded.passed);
        assert!(fs::read_to_string(kept.join("histograms.json")).expect("kept").contains("response"));
        // The same run once more, under another id: one is not compared with itself.
        let again = "r1795799999-0";
        let text = fs::read_to_string(kept.join("report.json")).expect("kept");
        fs::create_dir(daemon.state().join(again)).expect("made");
        fs::write(daemon.state().join(again).join("report.json"), text.replace(recorded.passed, again))
            .expect("written");
        let output = daemon.scalectl(&["--json", "compare", recorded.passed, again]);
        let compared: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|why| panic!("{}: {why}: {}", recorded.name, error(&output)));
        // Three seconds are too few to judge by; what counts is that it was read.
        assert!([Some(0), Some(6)].contains(&output.status.code()), "{compared}");
    }
}

#[test]
fn what_older_runs_own_is_theirs_until_it_is_cleaned_up() {
    for recorded in RECORDED {
        let daemon = over(&recorded);
        let owes = runs(&daemon).into_iter().find(|run| run.id == recorded.owes).expect("listed");
        assert_eq!(owes.owned, 2);
        let output = daemon.scalectl(&["runs", "rm", recorded.owes]);
        assert!(
            !output.status.success() && error(&output).contains("still owns 2 users"),
            "{}",
            error(&output)
        );
        assert!(daemon.state().join(recorded.owes).join("coder.jsonl").exists());
    }
}

#[test]
fn a_report_of_a_newer_version_is_listed_and_not_taken_for_what_it_is_not() {
    let mut daemon = Daemon::start();
    drop(daemon.process.take());
    let id = "r1900000000-0";
    let folder = daemon.state().join(id);
    fs::create_dir_all(&folder).expect("made");
    let text = format!(
        r#"{{"schema":2,"run":{{"id":"{id}","name":"later","started_at":1900000000,"ended_at":1900000009,"shards":[]}},"spec":{{"novel":1}},"verdict":{{"outcome":"splendid","exit_code":0,"reasons":[]}}}}"#
    );
    fs::write(folder.join("report.json"), &text).expect("written");
    daemon.begin();
    let listed = &runs(&daemon)[0];
    assert_eq!((listed.name.as_deref(), listed.state.as_str()), (Some("later"), "of a newer version"));
    let output = daemon.scalectl(&["report", id]);
    assert!(!output.status.success() && error(&output).contains("newer"), "{}", error(&output));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("passed"));
    assert_eq!(fs::read_to_string(folder.join("report.json")).expect("kept"), text, "it is left as it was");
}
