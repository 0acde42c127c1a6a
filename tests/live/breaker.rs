//! Targets that are not well: connects to them are held, and a run of which nothing comes back ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use scale_api::report::{Event, Report};
use scale_tests::host::{free_port, until};
use scale_tests::{Daemon, Process, Sink, assert_ended_with, program};

use crate::faults::{event, start, stop};

const FORTY_A_SECOND: [&str; 6] = ["--conns", "200", "--connect-rate", "40/s", "--tick-interval", "500ms"];

fn held(event: &Event) -> Option<String> {
    event.warnings.iter().find(|warning| warning.contains("circuit breaker")).cloned()
}

/// The value of a metric's first line with `name`.
fn scraped(daemon: &Daemon, name: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(daemon.scraped.as_ref().expect("scraped")).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n").expect("taken");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    text.lines().find_map(|line| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse().ok())
}

fn has_mark(report: &Report, text: &str) -> bool {
    report.marks.iter().any(|mark| mark.text.contains(text))
}

#[test]
fn connects_that_are_refused_are_held_and_the_run_ends_and_says_whose_fault_it_is() {
    let daemon = Daemon::start_scraped();
    let target = format!("ws://127.0.0.1:{}/", free_port());
    start(&daemon, &[&FORTY_A_SECOND[..], &["--target", &target, "--silence", "6s"]].concat());
    let said = until("an open breaker", || held(&event(&daemon)));
    assert!(said.contains("group main") && said.contains("refused"), "{said}");
    assert_eq!(scraped(&daemon, "scaled_breaker_open{"), Some(1.0));
    let text = daemon.scalectl(&["status"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("circuit breaker"), "a person sees it");
    let (code, report) = follow(&daemon);
    assert_ended_with(99, (code, &report));
    let reasons = report.verdict.reasons.join("\n");
    assert!(reasons.contains("let none in for 6 s") && reasons.contains("--silence"), "{reasons}");
    assert!(reasons.contains("circuit breaker opened once"), "{reasons}");
    assert!(has_mark(&report, "breaker of group main opened: refused"), "{:?}", report.marks);
    let tried = report.load.connect_failures.get("refused").copied().unwrap_or(0);
    assert!((20..160).contains(&tried), "{tried} of 200 streams were tried in {:?}", report.load);
    assert_eq!(scraped(&daemon, "scaled_breaker_open{").unwrap_or(0.0), 0.0, "over is over");
}

/// Follows what goes to its end.
fn follow(daemon: &Daemon) -> (i32, Report) {
    let output = daemon.scalectl(&["--json", "watch"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().expect("a report").to_owned();
    (output.status.code().expect("an exit code"), serde_json::from_str(&last).expect("a report"))
}

#[test]
fn once_the_target_is_well_the_breaker_closes_and_every_stream_opens() {
    let daemon = Daemon::start();
    let address = format!("127.0.0.1:{}", free_port());
    let target = format!("ws://{address}/");
    start(&daemon, &[&FORTY_A_SECOND[..], &["--target", &target, "--reconnect", "backoff"]].concat());
    until("an open breaker", || held(&event(&daemon)));
    let mut sink = Command::new(program("scale-sink"));
    sink.args(["--listen", &address, "--protocol", "ws"]);
    let (_sink, _) = Process::start(&mut sink, "listening on ");
    until("every stream", || (event(&daemon).streams.get("open") == Some(&200)).then_some(()));
    until("a closed breaker", || held(&event(&daemon)).is_none().then_some(()));
    let (_, report) = stop(&daemon);
    assert!(has_mark(&report, "opened: refused") && has_mark(&report, "closed"), "{:?}", report.marks);
    assert_eq!(report.load.streams_opened, 200);
    let most = report.series.iter().map(|row| row.connects + row.connect_failures).max().unwrap_or(0);
    assert!(most <= 2 * 44, "{most} attempts in a second: what was held came at once");
}

#[test]
fn off_holds_nothing() {
    let daemon = Daemon::start();
    let target = format!("ws://127.0.0.1:{}/", free_port());
    let off = ["--target", &target, "--breaker", "off", "--silence", "off"];
    start(&daemon, &[&FORTY_A_SECOND[..], &off].concat());
    // Each is tried once, and then all are down for good.
    let (code, report) = follow(&daemon);
    assert_ended_with(99, (code, &report));
    assert_eq!(report.load.connect_failures.get("refused"), Some(&200));
    assert!(report.marks.is_empty() && !report.verdict.reasons.join("").contains("breaker"));
}

#[test]
fn a_target_that_answers_nothing_ends_the_run() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws", "--stall"]), Daemon::start());
    let target = format!("ws://{}/", sink.address);
    start(&daemon, &["--conns", "10", "--target", &target, "--silence", "2s", "--drain", "1s"]);
    let (code, report) = follow(&daemon);
    assert_ended_with(99, (code, &report));
    let reasons = report.verdict.reasons.join("\n");
    assert!(reasons.contains("nothing came back from its target for 2 s"), "{reasons}");
    assert!(report.run.ended_at - report.run.started_at < 60.0);
}

#[test]
fn words_that_are_no_breaker_and_no_silence_are_refused() {
    let daemon = Daemon::start();
    for (words, said) in [
        (["--breaker", "50"], "30%"),
        (["--breaker", "0%"], "0.1%"),
        (["--silence", "30"], "30"),
        (["--silence", "10ms"], "at least 1s"),
    ] {
        let start = ["start", "--conns", "1", "--target", "ws://127.0.0.1:9/"];
        let output = daemon.scalectl(&[&start[..], &words].concat());
        let error = crate::error(&output);
        assert!(output.status.code() == Some(2) && error.contains(said), "{words:?}: {error}");
    }
}
