//! Thresholds by windows, breaches that end a run, presets, and what is written of a result.

use std::time::Duration;

use scale_api::report::{Event, Outcome, Report};
use scale_tests::host::{Folder, until};
use scale_tests::{Daemon, Sink, assert_ended_with};

use crate::faults::event;
use crate::{error, with};

/// Small messages, so that the sink's sockets hold what comes while it stands still.
const SMALL: [&str; 6] = ["--conns", "20", "--bytes-per-tick", "64", "--tick-interval", "100ms"];

fn target(sink: &Sink) -> String {
    format!("ws://{}/", sink.address)
}

/// Waits until the second threshold is met, then lets the sink stand still for so long.
fn stall(daemon: &Daemon, sink: &Sink, time: Duration) {
    until("a full window", || event(daemon).thresholds.get(1).filter(|window| window.ok).map(drop));
    sink.process.signal("STOP");
    std::thread::sleep(time);
    sink.process.signal("CONT");
}

/// A followed `start --json`: its seconds, exit code and report.
fn followed(daemon: &Daemon, arguments: &[&str], meanwhile: impl FnOnce()) -> (Vec<Event>, i32, Report) {
    let mut command = daemon.command(&[&["--json", "start"], arguments].concat());
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = child.spawn().expect("scalectl runs");
    meanwhile();
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<&str> = text.lines().collect();
    let last = lines.pop().unwrap_or_else(|| panic!("{}", error(&output)));
    let report = serde_json::from_str(last).unwrap_or_else(|why| panic!("{why}: {last} {}", error(&output)));
    let events = lines.iter().map(|line| serde_json::from_str(line).expect("an event"));
    (events.collect(), output.status.code().expect("an exit code"), report)
}

#[test]
fn a_stall_fails_a_window_of_a_run_that_passes_as_a_whole() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), Daemon::start());
    let thresholds = [
        "response.p50 < 1s",
        "response.max < 1s over 2s",
        "main.response.p50 < 1h over 2s",
        "connect.max < 1h over 1s",
        "load.open_ratio >= 90% over 2s",
    ];
    let address = target(&sink);
    let mut arguments =
        [&SMALL[..], &["--target", &address, "--warm-up", "0s", "--duration", "12s"]].concat();
    arguments.extend(thresholds.iter().flat_map(|expression| ["--threshold", expression]));
    let (events, code, report) = followed(&daemon, &arguments, || {
        until("a run", || status(&daemon));
        stall(&daemon, &sink, Duration::from_secs(2));
    });
    assert_ended_with(99, (code, &report));
    let results = &report.verdict.thresholds;
    assert_eq!(
        results.iter().map(|it| it.ok).collect::<Vec<_>>(),
        [true, false, true, true, true],
        "{results:?}"
    );
    let stalled = &results[1];
    assert!(stalled.value >= Some(1.0) && stalled.at.is_some() && !stalled.aborted, "{stalled:?}");
    assert_eq!(results[0].at, None, "it is of the whole run");
    let reasons = &report.verdict.reasons;
    assert!(
        reasons.iter().any(|why| why.contains("response.max < 1s over 2s (worst window: ")),
        "{reasons:?}"
    );
    // As they stood: nothing to judge at first, met, and not met from the stall on.
    let stood: Vec<_> = events.iter().filter_map(|event| event.thresholds.get(1)).collect();
    assert!(stood.len() >= 10 && stood[0].value.is_none());
    assert!(stood.iter().any(|it| it.ok), "{stood:?}");
    assert!(stood.last().is_some_and(|last| !last.ok && last.value == stalled.value));
    let at = stalled.at.expect("a second");
    assert!((2.0..=report.series.len() as f64).contains(&at), "{at}");
}

/// Whether a run is going.
fn status(daemon: &Daemon) -> Option<()> {
    let output = daemon.scalectl(&["--json", "status"]);
    let status: scale_api::http::Status = serde_json::from_slice(&output.stdout).expect("JSON");
    status.run.map(drop)
}

#[test]
fn a_target_that_falls_silent_ends_the_run_where_a_threshold_asks_for_that() {
    let (sink, daemon, folder) = (Sink::start(&["--protocol", "ws"]), Daemon::start(), Folder::new());
    let address = target(&sink);
    let junit = folder.path("junit.xml").display().to_string();
    let long =
        ["--target", &address, "--warm-up", "0s", "--duration", "10m", "--drain", "1s", "--junit", &junit];
    let judged =
        ["--threshold", "response.p99 < 500ms over 2s abort after 1s", "--threshold", "lateness.p99 < 1h"];
    let (events, code, report) = followed(&daemon, &[&SMALL[..], &long, &judged].concat(), || {
        until("a run", || status(&daemon));
        until("echoes", || (event(&daemon).now.messages_echoed > 0).then_some(()));
        sink.process.signal("STOP");
    });
    assert_ended_with(99, (code, &report));
    let [silent, late] = &report.verdict.thresholds[..] else { panic!("two: {:?}", report.verdict) };
    assert!(silent.aborted && !silent.ok && silent.value >= Some(0.5), "{silent:?}");
    assert!(!late.aborted && late.ok, "{late:?}");
    let ended = |why: &&String| why.contains("over 2s abort after 1s` ended the run at second ");
    let why = report.verdict.reasons.iter().find(ended).unwrap_or_else(|| panic!("{:?}", report.verdict));
    assert!(why.contains("response.p99 was "), "{why}");
    let said: f64 = why
        .split("at second ")
        .nth(1)
        .and_then(|rest| rest.split(':').next()?.parse().ok())
        .expect("a second");
    let end = report.series.last().expect("seconds").at;
    assert!(said >= 3.0 && end >= said && end < 300.0, "ended at {said}, over at {end}");
    let last = events.last().expect("seconds");
    assert!(last.thresholds[0].aborted && last.warnings.iter().any(|warning| warning == why), "{last:?}");
    assert!(report.warnings.contains(why), "{:?}", report.warnings);
    if code == 99 {
        let text = std::fs::read_to_string(&junit).expect("written");
        let document = roxmltree::Document::parse(&text).expect("XML");
        let failures = document.descendants().filter(|node| node.has_tag_name("failure")).count();
        assert_eq!(document.root_element().attribute("failures"), Some(failures.to_string().as_str()));
    }
}

#[test]
fn a_preset_is_written_out_and_takes_the_place_of_the_built_in_rules() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), Daemon::start());
    let address = target(&sink);
    let preset = ["--target", &address, "--preset", "coder-gates", "--threshold", "response.p99 < 1h"];
    let (code, report) = daemon.run(&with(&[&SMALL[..], &preset].concat()));
    assert_ended_with(0, (code, &report));
    let expected = [
        "load.delivered_ratio >= 90%",
        "load.echoed_ratio >= 90%",
        "disconnects.rate < 1%",
        "response.p99 < 1h",
    ];
    let judged: Vec<_> = report.verdict.thresholds.iter().map(|it| it.expression.as_str()).collect();
    assert_eq!(judged, expected);
    let written: Vec<_> = report.spec.threshold.iter().map(|it| it.expression.as_str()).collect();
    assert_eq!((written, report.spec.preset.len()), (expected.to_vec(), 1));
    let rules = scale_api::threshold::built_in(&report);
    assert_eq!(
        rules.iter().map(|rule| rule.expression.as_str()).collect::<Vec<_>>(),
        ["load.open_ratio >= 99%"]
    );
    // The same in a run file, of the table's own rate, which a stream of 20 messages a second does not have.
    let folder = Folder::new();
    let file = |rate: &str| {
        folder.write(
            "run.toml",
            &format!(
                "preset = [\"coder-table\"]\n[[group]]\ntarget = [\"{address}\"]\nconns = 5\n{rate}\nwarm_up = \"500ms\"\nduration = \"2s\"\n"
            ),
        )
    };
    let output = daemon.scalectl(&["start", "--file", &file("bytes_per_tick = \"64B\"")]);
    assert_eq!(output.status.code(), Some(2), "{}", error(&output));
    assert!(error(&output).contains("40KB/s"), "{}", error(&output));
    let (code, report) = daemon.run(&["--file", &file("")]);
    assert_ended_with(0, (code, &report));
    assert_eq!(report.verdict.thresholds.len(), 4);
    assert!(report.verdict.thresholds.iter().all(|it| it.value.is_some()), "{:?}", report.verdict);
}

#[test]
fn results_are_written_for_whoever_reads_them_whatever_they_are() {
    let (sink, daemon, folder) = (Sink::start(&["--protocol", "ws"]), Daemon::start(), Folder::new());
    let path = |name: &str| folder.path(name).display().to_string();
    let (junit, summary) = (path("junit.xml"), path("summary.md"));
    let files = ["--junit", &junit, "--summary", &summary];
    let read = |path: &str| std::fs::read_to_string(path).expect("written");
    let address = target(&sink);
    let load = ["--target", &address, "--name", "a <\"name\"> & | more", "--threshold", "response.min < 1us"];
    let (code, report) = daemon.run(&with(&[&SMALL[..], &load, &files].concat()));
    assert_ended_with(99, (code, &report));
    let (suite, cases) = suite(&read(&junit));
    assert_eq!(suite, "a <\"name\"> & | more");
    let wanted = match report.verdict.outcome {
        Outcome::Failed => ["failure", "failure", "", "", ""],
        _ => ["error", "skipped", "skipped", "skipped", "skipped"],
    };
    assert_eq!(cases.iter().map(|(_, ended)| ended.as_str()).collect::<Vec<_>>(), wanted, "{cases:?}");
    assert_eq!((cases[0].0.as_str(), cases[1].0.as_str()), ("verdict", "response.min < 1us"));
    let text = read(&summary);
    assert!(text.starts_with("## scaled: ") && text.contains("| `response.min < 1us` |"), "{text}");
    // Of a kept run the same once more; the summary goes behind.
    std::fs::remove_file(&junit).expect("removed");
    let output = daemon.scalectl(&[&["report"], &files[..]].concat());
    assert_eq!(output.status.code(), Some(code));
    assert_eq!(self::suite(&read(&junit)).1, cases);
    assert_eq!(read(&summary), text.repeat(2));
    // One that was refused, and one whose files have no place.
    let output =
        daemon.scalectl(&[&["start", "--target", "ws://192.0.2.1/", "--conns", "1"], &files[..]].concat());
    assert_eq!(output.status.code(), Some(3));
    let (_, cases) = self::suite(&read(&junit));
    assert_eq!(cases, [("verdict".to_owned(), "error".to_owned())]);
    assert!(read(&summary).contains("192.0.2.1"));
    let missing = path("not/there");
    let output = daemon.scalectl(&["start", "--target", &address, "--conns", "1", "--junit", &missing]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error(&output).contains("make its folder first"), "{}", error(&output));
    let detached = ["start", "--detach", "--target", &address, "--conns", "1", "--summary", &summary];
    assert_eq!(daemon.scalectl(&detached).status.code(), Some(2));
}

/// The suite's name, and its cases with the element that says how each ended.
fn suite(text: &str) -> (String, Vec<(String, String)>) {
    let document = roxmltree::Document::parse(text).unwrap_or_else(|why| panic!("{why}: {text}"));
    let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).expect("a suite");
    let cases: Vec<_> = suite
        .children()
        .filter(|node| node.has_tag_name("testcase"))
        .map(|case| {
            let ended = case.first_element_child().map_or("", |child| child.tag_name().name());
            (case.attribute("name").expect("a name").to_owned(), ended.to_owned())
        })
        .collect();
    let count = |kind: &str| cases.iter().filter(|(_, ended)| ended == kind).count().to_string();
    for (attribute, kind) in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")] {
        assert_eq!(suite.attribute(attribute), Some(count(kind).as_str()), "{attribute}");
    }
    assert_eq!(suite.attribute("tests"), Some(cases.len().to_string().as_str()));
    (suite.attribute("name").expect("a name").to_owned(), cases)
}
