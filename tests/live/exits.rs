//! Each exit code of `scalectl`, reached by the real programs.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use scale_tests::host::{Folder, until};
use scale_tests::{Daemon, Sink, assert_ended_with};

use crate::coder::Standin;
use crate::faults::{event, start};
use crate::{error, with};

fn target(sink: &Sink) -> String {
    format!("ws://{}/", sink.address)
}

/// `scalectl start` with a run that would last half a second.
fn code(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    let short = ["start", "--warm-up", "0s", "--duration", "500ms", "--conns", "2"];
    let output = daemon.scalectl(&[&short, arguments].concat());
    (output.status.code(), error(&output))
}

#[test]
fn code_0_where_all_was_delivered_and_99_where_a_threshold_was_not_met() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), Daemon::start());
    let load = ["--conns", "10", "--target", &target(&sink)];
    let (code, report) = daemon.run(&with(&load));
    assert_ended_with(0, (code, &report));
    let (code, report) = daemon.run(&with(&[&load[..], &["--threshold", "response.min < 1us"]].concat()));
    assert_ended_with(99, (code, &report));
}

#[test]
fn code_99_where_the_target_does_not_carry_it() {
    let sink = Sink::start(&["--protocol", "ws", "--stall"]);
    let (code, report) = Daemon::start().run(&with(&["--conns", "10", "--target", &target(&sink)]));
    assert_ended_with(99, (code, &report));
}

#[test]
fn code_1_where_what_answers_is_no_scaled() {
    let folder = Folder::new();
    let socket = folder.path("control.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("scalectl comes");
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n\r\n");
    });
    let mut command = scale_tests::command("scalectl");
    let output = command.arg("--socket").arg(&socket).arg("status").output().expect("it runs");
    other.join().expect("it has answered");
    assert_eq!(output.status.code(), Some(1), "{}", error(&output));
    assert!(error(&output).contains("no scaled"), "{}", error(&output));
}

#[test]
fn code_2_3_and_4_before_anything_is_sent() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), Daemon::start());
    let here = target(&sink);
    for (wanted, arguments) in [
        (2, &["--target", &here, "--threshold", "response.p98 < 1s"][..]),
        (2, &["--target", &here, "--threshold", "response.p99 < 1s over 30s"]),
        (2, &["--target", &here, "--preset", "coder"]),
        (2, &["--target", &here, "--traffic", "receive", "--preset", "coder-gates"]),
        (2, &["--target", &here, "--junit", "/nowhere/junit.xml"]),
        (3, &["--target", "ws://192.0.2.1/"]),
        (4, &["--target", &here, "--source", "192.0.2.1"]),
    ] {
        let (code, said) = code(&daemon, arguments);
        assert_eq!(code, Some(wanted), "{arguments:?}: {said}");
        assert!(said.len() > 20, "{said}");
    }
    assert_eq!(sink.counts()["connections"], 0);
}

#[test]
fn code_5_where_it_was_ended_before_its_time() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let mut daemon = Daemon::start();
    let load = ["--conns", "5", "--target", &target(&sink)];
    start(&daemon, &load);
    until("streams", || (event(&daemon).streams.get("open") == Some(&5)).then_some(()));
    assert_eq!(daemon.scalectl(&["stop", "--now"]).status.code(), Some(5), "stop --now");
    // A daemon that is lost while somebody follows.
    start(&daemon, &load);
    let follower =
        daemon.command(&["watch"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    until("streams", || (event(&daemon).streams.get("open") == Some(&5)).then_some(()));
    daemon.process.take().expect("running").0.kill().expect("killed");
    let output = follower.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(5), "the daemon was lost");
}

#[test]
fn code_6_where_the_generator_was_the_limit_whatever_thresholds_say() {
    // One core is to send 450,000 messages a second; whoever reads them has less to do.
    let sink = Sink::start(&["--protocol", "ws", "--traffic", "discard"]);
    let mut daemon = Daemon::start();
    daemon.process.take().expect("running").end();
    let core = scale_ring::host::available_cores()[0];
    daemon.configure(&format!("cores = \"{core}\"\n"));
    daemon.begin();
    let load =
        ["--conns", "900", "--target", &target(&sink), "--traffic", "discard", "--bytes-per-tick", "16"];
    let times = ["--tick-interval", "2ms", "--warm-up", "0s", "--duration", "12s", "--drain", "1s"];
    let judged = ["--threshold", "lateness.p50 < 1us", "--threshold", "load.delivered_ratio > 0%"];
    let (code, report) = daemon.run(&[&load[..], &times, &judged].concat());
    assert_eq!((code, report.verdict.exit_code), (6, 6), "{:?}", report.verdict);
    let missed = report.load.ticks_missed.generator as f64 / report.load.ticks_due as f64;
    assert!(report.generator.saturated || missed >= 0.01, "{:?}", report.generator);
    let oks: Vec<bool> = report.verdict.thresholds.iter().map(|threshold| threshold.ok).collect();
    assert_eq!(oks, [false, true], "neither what failed nor what passed decides");
    assert!(report.verdict.reasons.iter().any(|why| why.contains("the generator")), "{:?}", report.verdict);
}

#[test]
fn code_7_where_a_clean_up_left_something() {
    let faults = "[[fault]]\nkind = 'status'\non = 'DELETE /api/v2/users/*'\nstatus = 403\ntimes = 1\n";
    let (standin, daemon) = (Standin::start("", faults), Daemon::start());
    let (code, text, error) = standin.scalectl(&daemon, &["create-users", "--count", "1", "--yes"]);
    assert_eq!(code, 7, "{text}{error}");
    let (code, text, error) = standin.scalectl(&daemon, &["cleanup", "--yes"]);
    assert_eq!(code, 0, "{text}{error}");
    standin.end();
}
