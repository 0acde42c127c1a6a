//! What runs leave in their folders: all of it, after a crash, and where there is no place for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use scale_api::http::{PlanSummary, RunSummary};
use scale_api::report::{Figure, Latency, Report, SeriesRow};
use scale_tests::host::{Folder, until};
use scale_tests::{Daemon, Sink, assert_ended_with};

use crate::error;
use crate::faults::{event, start, stop};

const LOGS: [&str; 4] = ["response", "service", "lateness", "connect"];

fn rows(folder: &Path) -> Vec<SeriesRow> {
    let text = fs::read_to_string(folder.join("series.jsonl")).expect("a series");
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

/// The intervals of a log added up, by tag.
fn added_up(log: &[u8]) -> BTreeMap<Option<String>, Histogram<u64>> {
    let mut sums = BTreeMap::new();
    for entry in IntervalLogIterator::new(log) {
        let LogEntry::Interval(interval) = entry.expect("a line of the format") else { continue };
        let bytes = STANDARD.decode(interval.encoded_histogram()).expect("Base64");
        let more: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram");
        let tag = interval.tag().map(|tag| tag.as_str().to_owned());
        let sum = sums
            .entry(tag)
            .or_insert_with(|| Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("bounds"));
        sum.add(&more).expect("the same bounds");
    }
    sums
}

fn assert_is(histogram: &Histogram<u64>, latency: &Latency, figure: &str) {
    let Figure { count, p50, p99, max, .. } = latency.figure(figure).expect("it was measured").clone();
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e6;
    assert_eq!((histogram.len(), at(0.5), at(0.99), at(1.0)), (count, p50, p99, max), "{figure}");
}

#[test]
fn what_a_run_leaves_adds_up_to_its_report_and_repeats_it() {
    let (sink, folder, daemon) = (Sink::start(&["--protocol", "ws"]), Folder::new(), Daemon::start());
    let group = |name: &str, conns: u32| {
        format!(
            "[[group]]\nname = \"{name}\"\ntarget = [\"ws://{}/\"]\nconns = {conns}\nwarm_up = \"1s\"\nduration = \"2s\"\n",
            sink.address
        )
    };
    let text = format!("seed = 7\n{}{}", group("a", 5), group("b", 10));
    let file = folder.write("run.toml", &text);
    let (code, report) = daemon.run(&["--file", &file, "--name", "kept"]);
    assert_ended_with(0, (code, &report));
    let kept = daemon.state().join(&report.run.id);
    // It goes last, once everything else is there.
    until("the checkpoint to go", || (!kept.join("checkpoint.json").exists()).then_some(()));
    let mut files: Vec<String> = fs::read_dir(&kept)
        .expect("a folder")
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .collect();
    files.sort_unstable();
    let wanted = [
        "connect.hlog",
        "histograms.json",
        "lateness.hlog",
        "report.html",
        "report.json",
        "response.hlog",
        "run.toml",
        "series.jsonl",
        "service.hlog",
    ];
    assert_eq!(files, wanted);
    let rows = rows(&kept);
    assert_eq!(rows, report.series);
    assert_eq!(rows.iter().map(|row| row.messages_sent).sum::<u64>(), report.total.messages_sent);
    for figure in LOGS {
        let sums = added_up(&fs::read(kept.join(format!("{figure}.hlog"))).expect("a log"));
        assert_eq!(sums.len(), 3, "the whole run and its two groups");
        assert_is(&sums[&None], &report.latency, figure);
        for group in &report.groups {
            assert_is(&sums[&Some(group.name.clone())], &group.latency, figure);
        }
    }
    let plan = |file: &str| -> PlanSummary {
        let output = daemon.scalectl(&["--json", "start", "--dry-run", "--file", file]);
        assert!(output.status.success(), "{}", error(&output));
        serde_json::from_slice(&output.stdout).expect("a plan")
    };
    let (first, again) = (plan(&file), plan(&kept.join("run.toml").display().to_string()));
    assert_eq!((first.lines, first.streams_per_core), (again.lines, again.streams_per_core));
}

#[test]
fn a_daemon_that_is_killed_leaves_its_run_up_to_its_last_second() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let mut daemon = Daemon::start();
    start(&daemon, &["--conns", "10", "--target", &format!("ws://{}/", sink.address), "--name", "killed"]);
    let last = until("the fourth second", || Some(event(&daemon)).filter(|event| event.elapsed >= 4.0));
    drop(daemon.process.take()); // SIGKILL
    daemon.begin();
    let output = daemon.scalectl(&["--json", "report", &last.run]);
    assert_eq!(output.status.code(), Some(5), "{}", error(&output));
    let report: Report = serde_json::from_slice(&output.stdout).expect("a report");
    // What was said last may have been on its way to the disk.
    assert!(report.series.len() as f64 >= last.elapsed - 1.0, "{} of {}", report.series.len(), last.elapsed);
    let at: Vec<f64> = report.series.iter().map(|row| row.at).collect();
    assert_eq!(at, (1..=at.len()).map(|second| second as f64).collect::<Vec<_>>());
    assert!(report.verdict.reasons[0].contains("the daemon was lost") && report.total.messages_sent > 0);
    assert!(report.run.ended_at - report.run.started_at >= last.elapsed - 1.0);
    let kept = daemon.state().join(&last.run);
    assert!(fs::read_to_string(kept.join("report.html")).expect("a page").contains(&last.run));
    assert!(!kept.join("checkpoint.json").exists());
    let listed = String::from_utf8(daemon.scalectl(&["runs"]).stdout).expect("text");
    assert!(listed.lines().any(|line| line.contains("killed") && line.contains("aborted")), "{listed}");
}

#[test]
fn a_run_for_which_there_is_no_place_goes_on_and_says_so() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    let state = daemon.state();
    fs::remove_dir_all(&state).expect("removed");
    fs::write(&state, "no folder any more").expect("written");
    let target = format!("ws://{}/", sink.address);
    let flags = ["--conns", "5", "--target", &target, "--warm-up", "0s", "--duration", "2s", "--drain", "2s"];
    let (code, report) = daemon.run(&flags);
    assert_ended_with(0, (code, &report));
    let said = report.warnings.join("\n");
    for word in ["the run's folder is not kept whole", "the report is not kept"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // Once there is a place again, so is what comes.
    fs::remove_file(&state).expect("removed");
    let (code, report) = daemon.run(&flags);
    assert_ended_with(0, (code, &report));
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    assert_eq!(rows(&state.join(&report.run.id)), report.series);
}

#[test]
fn old_runs_make_room_for_new_ones() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let mut daemon = Daemon::start();
    drop(daemon.process.take());
    daemon.configure("runs_kept_max = 2\nruns_bytes_max = \"1GB\"\n");
    daemon.begin();
    let target = format!("ws://{}/", sink.address);
    let run = || {
        let short = ["--warm-up", "0s", "--duration", "300ms", "--drain", "2s"];
        daemon.run(&[&["--conns", "2", "--target", &target], &short[..]].concat()).1.run.id
    };
    let listed = || -> Vec<RunSummary> {
        serde_json::from_slice(&daemon.scalectl(&["--json", "runs"]).stdout).expect("JSON")
    };
    let ids = [run(), run(), run(), run()];
    let left = until("two runs left", || Some(listed()).filter(|runs| runs.len() == 2));
    assert_eq!([&left[0].id, &left[1].id], [&ids[2], &ids[3]]);
    assert!(left.iter().all(|run| run.bytes > 1000 && run.duration > 0.0), "{left:?}");
    start(&daemon, &["--conns", "2", "--target", &target]);
    let output = daemon.scalectl(&["runs", "rm", "--all-but", "1"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        format!("removed {}", ids[2]),
        "{}",
        error(&output)
    );
    assert_eq!(listed().len(), 2, "the newest of the ended ones, and the one that goes");
    stop(&daemon);
}
