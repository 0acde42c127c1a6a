//! `scalectl find-max` against sinks whose limit is known, with small numbers.

use std::process::{Command, Output, Stdio};

use scale_api::http::Status;
use scale_tests::host::{Folder, until};
use scale_tests::{Daemon, Process, Sink};
use serde_json::Value;

use super::{daemon_in_time, error};

/// A tenth of a second a tick, so that so many streams send ten times as many messages a second.
const STREAMS: f64 = 200.0;
const QUICK: [&str; 8] = ["--step", "4s", "--hold", "12s", "--time", "5m", "--bytes-per-tick", "100"];

fn find(daemon: &Daemon, sink: &Sink, words: &[&str]) -> Output {
    let target = format!("ws://{}/", sink.address);
    daemon.scalectl(&[&["--json", "find-max", "--target", &target], &QUICK[..], words].concat())
}

fn found(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {}", error(output)))
}

/// The sink's limit is found within 5 %, confirmed, and its first figure that broke is one of `first`.
fn is_found(limit: &str, until: &[&str], first: &[&str]) {
    let sink = Sink::start(&["--protocol", "ws", "--limit", limit]);
    let daemon = daemon_in_time();
    let until: Vec<&str> = until.iter().flat_map(|expression| ["--until", expression]).collect();
    // This machine may be taken by others just then, which is said, and is no answer.
    let answer = (0..3).find_map(|_| {
        let output = find(&daemon, &sink, &[&["--from", "120", "--to", "2000"], &until[..]].concat());
        let answer = found(&output);
        assert_eq!(Some(i64::from(output.status.code().expect("it ended"))), answer["exit_code"].as_i64());
        if output.status.code() == Some(6) && answer["limit"] != "target" {
            eprintln!("{limit}, once more: {}", answer["sentences"]);
            return None;
        }
        Some(answer)
    });
    let Some(answer) = answer else {
        eprintln!("skipped: {limit}: this machine is too busy for a generator that is in time");
        return;
    };
    let max = answer["max"].as_f64().expect("a number");
    assert!((0.95..=1.05).contains(&(max / STREAMS)), "{limit}: {max} of {STREAMS}: {answer}");
    assert_eq!((&answer["outcome"], &answer["confirmed"]), (&"found".into(), &true.into()), "{answer}");
    let broke = &answer["broke"];
    let figure = broke["figures"][0]["expression"].as_str().expect("what broke first");
    assert!(first.contains(&figure), "{limit}: {figure} broke first: {answer}");
    assert!(broke["level"].as_f64() > Some(max) && broke["level"].as_f64() < Some(max * 1.08), "{answer}");
    let recovery = &answer["recovery"];
    assert!(
        recovery["to"].as_f64() < recovery["from"].as_f64() && recovery["seconds"].is_number(),
        "{answer}"
    );
    assert!(status(&daemon).run.is_none(), "its run has ended");
}

/// The same of bytes: what each stream sends grows.
fn a_rate_is_found_as_bytes() {
    let sink = Sink::start(&["--protocol", "ws", "--limit", "queue=2MB/s"]);
    let daemon = daemon_in_time();
    let target = format!("ws://{}/", sink.address);
    let words = ["--vary", "rate", "--conns", "50", "--from", "24KB/s", "--until", SLOW];
    let words = [&["--json", "find-max", "--target", &target], &QUICK[..6], &words].concat();
    let output = daemon.scalectl(&words);
    let answer = found(&output);
    if output.status.code() == Some(6) && answer["limit"] != "target" {
        eprintln!("skipped: {}", answer["sentences"]);
        return;
    }
    let max = answer["max"].as_f64().expect("a number");
    assert!((38_000.0..=42_000.0).contains(&max), "{max} B/s of 40,000: {answer}");
}

fn status(daemon: &Daemon) -> Status {
    serde_json::from_slice(&daemon.scalectl(&["--json", "status"]).stdout).expect("JSON")
}

const LOST: &str = "disconnects.rate < 1%";
const SLOW: &str = "response.p99 < 50ms";
/// Where it is not to break, though this machine stands still for a moment.
const STUCK: &str = "response.p99 < 1s";

/// Kinds at once: each takes little of this machine, and most of its time waits.
#[test]
fn limits_of_rate_and_connections_are_found() {
    std::thread::scope(|all| {
        all.spawn(|| is_found("rate=2000/s", &[STUCK, LOST], &[LOST]));
        all.spawn(|| is_found("conns=200", &[STUCK, LOST], &["load.open_ratio >= 99%"]));
        all.spawn(|| is_found("drop=200", &[STUCK, LOST], &[LOST]));
    });
}

#[test]
fn a_queue_that_grows_and_a_knee_are_found() {
    std::thread::scope(|all| {
        all.spawn(|| is_found("queue=2000/s", &[SLOW, LOST], &[SLOW, "load.echoed_ratio >= 99%"]));
        all.spawn(|| is_found("knee=200", &[SLOW, LOST], &[SLOW]));
        all.spawn(a_rate_is_found_as_bytes);
    });
}

#[test]
fn a_host_that_ends_first_is_said_to_and_the_target_is_not_blamed() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = daemon_in_time();
    let pid = daemon.process.as_ref().expect("it runs").0.id().to_string();
    let lowered = Command::new("prlimit").args(["--pid", &pid, "--nofile=400:400"]).status();
    assert!(lowered.expect("prlimit is there").success(), "fewer files than streams");
    let output = find(&daemon, &sink, &["--from", "50", "--until", SLOW]);
    let answer = found(&output);
    assert_eq!(output.status.code(), Some(6), "{answer}");
    assert_eq!((&answer["outcome"], &answer["broke"]), (&"at_least".into(), &Value::Null), "{answer}");
    let said = answer["sentences"][0].as_str().expect("a sentence");
    assert!(said.starts_with("at least ") && said.ends_with("this host ends here"), "{said}");
    // Each ring has a table of that many; where the generator is not in time before that, that is said.
    if answer["limit"] == "files" {
        let max = answer["max"].as_u64().expect("a number");
        assert!(max >= 200 && answer["confirmed"] == true, "{answer}");
    }
}

#[test]
fn a_list_that_allows_no_more_is_neither_the_targets_limit_nor_this_hosts() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = daemon_in_time();
    daemon.allow("[[target]]\naddresses = [\"127.0.0.0/8\"]\nstreams_max = 130\n");
    assert_eq!(daemon.scalectl(&["reload"]).status.code(), Some(0));
    let output = find(&daemon, &sink, &["--from", "100"]);
    let answer = found(&output);
    assert_eq!(output.status.code(), Some(6), "{answer}");
    if answer["limit"] == "cap" {
        assert!((127..=130).contains(&answer["max"].as_u64().expect("a number")), "{answer}");
        assert!(!answer["sentences"][0].as_str().expect("a sentence").contains("this host"), "{answer}");
    }
}

#[test]
fn even_the_least_that_breaks_is_an_answer() {
    let sink = Sink::start(&["--protocol", "ws", "--delay", "300ms"]);
    let output = find(&daemon_in_time(), &sink, &["--from", "20", "--until", "response.p99 < 250ms"]);
    let answer = found(&output);
    assert_eq!((output.status.code(), &answer["max"]), (Some(99), &0.into()), "{answer}");
    assert_eq!(answer["broke"]["figures"][0]["expression"], "response.p99 < 250ms");
    let value = answer["broke"]["figures"][0]["value"].as_f64().expect("a time");
    assert!((0.3..0.4).contains(&value), "{value} s");
}

#[test]
fn ctrl_c_ends_the_run_in_order_and_what_is_known_is_resumed_from_its_file() {
    let sink = Sink::start(&["--protocol", "ws", "--limit", "conns=60"]);
    let daemon = daemon_in_time();
    let folder = Folder::new();
    let (file, page) = (folder.path("max.json"), folder.path("max.html"));
    let (file, page) = (file.display().to_string(), page.display().to_string());
    let target = format!("ws://{}/", sink.address);
    let words =
        [&["--json", "find-max", "--target", &target], &QUICK[..], &["--from", "30", "--to", "500"]].concat();
    let kept = || -> Option<Value> { serde_json::from_slice(&std::fs::read(&file).ok()?).ok() };
    let mut command = daemon.command(&[&words[..], &["--keep", &file]].concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut process = Process(child);
    let steps = |value: &Value| value["steps"].as_array().map_or(0, Vec::len);
    until("two steps are kept", || kept().filter(|kept| steps(kept) >= 2));
    process.signal("INT");
    assert_eq!(process.0.wait().expect("it ends").code(), Some(5));
    assert!(status(&daemon).run.is_none(), "its run has ended");
    let first = kept().expect("it is kept");
    assert_eq!(first["outcome"], "aborted", "{first}");
    let run: Value =
        serde_json::from_slice(&daemon.scalectl(&["--json", "report"]).stdout).expect("a report");
    assert_eq!(run["verdict"]["outcome"], "aborted");

    let other = daemon.scalectl(&[&words[..], &["--resume", &file, "--until", "connect.p99 < 1s"]].concat());
    assert!(other.status.code() == Some(2) && error(&other).contains("the same flags"), "{}", error(&other));
    let output = daemon.scalectl(&[&words[..], &["--resume", &file, "--html", &page]].concat());
    let answer = found(&output);
    assert!(steps(&answer) > steps(&first), "{answer}");
    assert_eq!(answer["steps"][0], first["steps"][0], "what was known is not asked again");
    let html = std::fs::read_to_string(&page).expect("a page");
    assert!(html.contains("data-kind=\"find-max\"") && html.contains("\"sentences\""));
    if answer["limit"] == "target" {
        let max = answer["max"].as_f64().expect("a number");
        assert!((57.0..=63.0).contains(&max), "{answer}");
    }
}

/// A search of small steps that goes on for longer than its test.
fn words(target: &str) -> Vec<&str> {
    [&["find-max", "--target", target], &QUICK[..], &["--from", "5", "--to", "500"]].concat()
}

#[test]
fn where_nobody_reads_any_more_its_run_is_ended() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), daemon_in_time());
    let target = format!("ws://{}/", sink.address);
    let child = daemon.command(&words(&target)).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut process = Process(child.expect("it starts"));
    let running = until("its run goes", || status(&daemon).run);
    drop(process.0.stdout.take());
    assert!(!process.0.wait().expect("it ends").success());
    assert!(status(&daemon).run.is_none(), "{running:?} has ended with it");
    let report: Value =
        serde_json::from_slice(&daemon.scalectl(&["--json", "report"]).stdout).expect("a report");
    assert_eq!(report["verdict"]["outcome"], "aborted");
}

#[test]
fn a_run_that_somebody_else_stops_is_no_limit_of_the_target() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), daemon_in_time());
    let target = format!("ws://{}/", sink.address);
    let words = [&["--json"], &words(&target)[..]].concat();
    let child = daemon.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("it starts");
    until("its run goes", || status(&daemon).run);
    assert!(daemon.scalectl(&["--json", "stop"]).status.code().is_some());
    let output = child.wait_with_output().expect("it ends");
    let answer = found(&output);
    assert_eq!((output.status.code(), &answer["outcome"]), (Some(5), &"aborted".into()), "{answer}");
    assert_eq!(answer["broke"], Value::Null, "{answer}");
    assert!(error(&output).contains("was ended from outside"), "{}", error(&output));
}
