//! The real programs on the real kernel.

mod attacks;
mod breaker;
mod calibrate;
mod coder;
mod commands;
mod compare;
mod control;
mod disk;
mod disruptions;
mod doctor;
mod exits;
mod faults;
mod figures;
mod find_max;
mod flags;
mod guard;
mod hosts;
mod kept;
mod limits;
mod logs;
mod meaning;
mod network;
mod observe;
mod older;
mod pages;
mod record;
mod refusals;
mod secrets;
mod service;
mod soak;
mod ssh;
mod stand_in;
mod stopping;
mod storm;
mod terminals;
mod thresholds;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use scale_tests::{Daemon, Sink, assert_ended_with};

/// A daemon whose workers come before everybody else, where that is allowed: what is late is not to be theirs.
fn daemon_in_time() -> Daemon {
    let mut daemon = Daemon::start();
    if scale_ring::host::effective_uid() == 0 {
        daemon.configure("realtime = \"fifo\"\n");
        daemon.process.take().expect("it runs").end();
        daemon.begin();
    }
    daemon
}

const SHORT: [&str; 6] = ["--warm-up", "500ms", "--duration", "2s", "--drain", "2s"];

fn with<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &SHORT].concat()
}

fn error(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A loaded machine may miss a tick, but never in silence.
fn assert_every_tick_is_accounted_for(load: &scale_api::report::Load) {
    let missed = &load.ticks_missed;
    assert_eq!(
        load.ticks_due,
        load.ticks_sent + missed.generator + missed.backpressure + missed.disconnected
    );
    assert!(load.ticks_due > 0);
}

/// The report's total and the sink's counts are equal to the byte.
fn agrees(protocol: &str, conns: &str, more: &[&str]) {
    let folder = std::env::temp_dir().join(format!("scale-live-{}-{protocol}-{conns}", std::process::id()));
    let ca = folder.with_extension("pem").display().to_string();
    let sink = Sink::start(&["--protocol", protocol, "--ca-out", &ca]);
    let daemon = Daemon::start();
    let path = if protocol == "ssh" { "" } else { "/" };
    let target = format!("{protocol}://{}{path}", sink.address);
    let mut arguments = vec!["--conns", conns, "--target", &target, "--verify"];
    match protocol {
        "wss" => arguments.extend(["--ca", &ca]),
        "ssh" => arguments.push("--insecure-host-keys"),
        _ => {}
    }
    arguments.extend(more);
    let (code, report) = daemon.run(&with(&arguments));
    let counts = sink.counts();
    assert_ended_with(0, (code, &report));
    assert_eq!(counts["payload_bytes_received"], report.total.payload_bytes_sent);
    assert_eq!(counts["payload_bytes_sent"], report.total.payload_bytes_received);
    if !more.contains(&"--channels-per-connection") {
        assert_eq!(counts["connections"].to_string(), conns);
    }
    if protocol.starts_with("ws") {
        assert_eq!(counts["messages_received"], report.total.messages_sent);
    }
    assert_eq!((report.load.verify_failures, report.load.unexpected_bytes), (0, 0));
    assert_eq!((report.total.payload_bytes_open, report.load.messages_unanswered), (0, 0));
    assert_every_tick_is_accounted_for(&report.load);
    assert_eq!(report.load.messages_sent, report.load.messages_echoed);
    let _ = std::fs::remove_file(ca);
}

#[test]
fn ws_totals_equal_the_sinks_counts_to_the_byte() {
    agrees("ws", "500", &[]);
}

#[test]
fn wss_totals_equal_the_sinks_counts_to_the_byte() {
    agrees("wss", "200", &[]);
}

#[test]
fn tcp_totals_equal_the_sinks_counts_to_the_byte() {
    agrees("tcp", "200", &[]);
}

#[test]
fn ssh_totals_equal_the_sinks_counts_to_the_byte() {
    agrees("ssh", "200", &[]);
    let shared =
        ["--channels-per-connection", "10", "--bytes-per-tick", "100003", "--tick-interval", "200ms"];
    agrees("ssh", "21", &shared);
}

#[test]
fn messages_of_a_megabyte_and_fractions_of_a_byte_agree_too() {
    agrees("ws", "3", &["--bytes-per-tick", "1000003", "--tick-interval", "200ms"]);
    agrees("ws", "7", &["--rate", "1003B/s", "--tick-interval", "110ms"]);
}

#[test]
fn five_thousand_streams_agree_to_the_byte() {
    agrees("ws", "5000", &["--tick-interval", "1s", "--ramp", "1s"]);
}

#[test]
fn discard_counts_what_was_written_and_has_no_echo_figures() {
    let sink = Sink::start(&["--protocol", "ws", "--traffic", "discard"]);
    let daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let (code, report) = daemon.run(&with(&["--conns", "50", "--target", &target, "--traffic", "discard"]));
    assert_eq!((code, report.load.echoed_ratio, report.latency.response.is_none()), (0, None, true));
    assert_eq!(sink.counts()["payload_bytes_received"], report.total.payload_bytes_sent);
}

#[test]
fn receive_reads_what_the_target_sends() {
    let sink = Sink::start(&["--protocol", "ws", "--traffic", "receive", "--rate", "40KB/s"]);
    let daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let (code, report) = daemon.run(&with(&["--conns", "20", "--target", &target, "--traffic", "receive"]));
    assert_eq!((code, report.load.ticks_due), (0, 0), "{:?}", report.verdict);
    let rate = report.load.rate_received.unwrap_or(0.0);
    assert!((700_000.0..900_000.0).contains(&rate), "{rate} B/s of 800,000");
}

#[test]
fn a_sink_that_never_answers_fails_the_run_because_of_the_target() {
    let sink = Sink::start(&["--protocol", "ws", "--stall"]);
    let daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let (code, report) = daemon.run(&with(&["--conns", "10", "--target", &target]));
    assert_eq!((code, report.load.messages_echoed), (99, 0));
    assert_eq!(report.load.messages_unanswered, report.load.messages_sent);
    assert!(report.load.delivered_ratio >= Some(0.99), "the target's silence does not slow the load");
}

#[test]
fn answers_later_than_a_tick_are_measured_from_the_due_time() {
    let sink = Sink::start(&["--protocol", "ws", "--delay", "250ms"]);
    let daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let (code, report) = daemon.run(&with(&["--conns", "20", "--target", &target, "--verify"]));
    assert_eq!((code, report.load.verify_failures), (0, 0), "{:?}", report.verdict);
    let p50 = report.latency.response.expect("echoes").p50;
    assert!((0.25..0.40).contains(&p50), "{p50} s");
}

#[test]
fn a_sink_that_is_killed_is_a_result_and_the_run_ends_early() {
    let mut sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        sink.process.0.kill().expect("it was there");
    });
    let (code, report) =
        daemon.run(&["--conns", "20", "--target", &target, "--warm-up", "0s", "--duration", "30s"]);
    killer.join().expect("killed");
    assert_eq!(code, 99);
    assert_eq!(report.load.disconnects.values().sum::<u64>(), 20, "{:?}", report.load.disconnects);
    assert!(report.load.ticks_missed.disconnected > 0 && report.run.ended_at - report.run.started_at < 15.0);
}

/// A server that reads a request and answers `answer`, over and over.
fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let _ = stream.write_all(answer);
                let _ = stream.read(&mut head);
            });
        }
    });
    address
}

#[test]
fn each_wrong_answer_has_its_class() {
    let daemon = Daemon::start();
    let cases: [(&'static [u8], &str); 6] = [
        (b"HTTP/1.1 401 No\r\nContent-Length: 3\r\n\r\nno\n", "http_401"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "http_404"),
        (b"HTTP/1.1 429 No\r\nRetry-After: 1\r\n\r\n", "http_429"),
        (b"HTTP/1.1 500 No\r\n\r\n", "http_500"),
        (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n", "bad_accept"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "http_protocol"),
    ];
    for (answer, class) in cases {
        let target = format!("ws://{}/", answering(answer));
        let (code, report) = daemon.run(&with(&["--conns", "5", "--target", &target]));
        assert_eq!(
            (code, report.load.connect_failures.get(class)),
            (99, Some(&5)),
            "{:?}",
            report.load.connect_failures
        );
    }
    let target = format!("ws://{}/", answering(b""));
    let (_, report) = daemon.run(&with(&["--conns", "5", "--target", &target, "--connect-timeout", "500ms"]));
    assert_eq!(report.load.connect_failures.get("timeout"), Some(&5));
    let (_, report) = daemon.run(&with(&["--conns", "5", "--target", "ws://127.0.0.1:9/"]));
    assert_eq!(report.load.connect_failures.get("refused"), Some(&5));
}

#[test]
fn a_certificate_of_an_unknown_issuer_is_refused() {
    let sink = Sink::start(&["--protocol", "wss"]);
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let ca = std::env::temp_dir().join(format!("scale-live-ca-{}.pem", std::process::id()));
    std::fs::write(&ca, other.cert.pem()).expect("written");
    let daemon = Daemon::start();
    let target = format!("wss://{}/", sink.address);
    let ca_text = ca.display().to_string();
    let (code, report) = daemon.run(&with(&["--conns", "3", "--target", &target, "--ca", &ca_text]));
    assert_eq!(
        (code, report.load.connect_failures.get("tls_certificate")),
        (99, Some(&3)),
        "{:?}",
        report.load
    );
    let _ = std::fs::remove_file(ca);
}

#[test]
fn after_sigkill_the_report_up_to_the_last_second_is_there() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let mut daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let start =
        ["start", "--detach", "--conns", "20", "--target", &target, "--warm-up", "0s", "--duration", "60s"];
    let started = daemon.scalectl(&start);
    assert!(started.status.success());
    let id = String::from_utf8_lossy(&started.stdout).trim().to_owned();
    let kept = daemon.state().join(id).join("checkpoint.json");
    scale_tests::host::until("a second with 200 messages to be kept", || {
        let report: scale_api::report::Report = serde_json::from_slice(&std::fs::read(&kept).ok()?).ok()?;
        (report.total.messages_sent >= 200).then_some(())
    });
    daemon.process.take().expect("running").0.kill().expect("killed");
    daemon.begin(); // over the stale socket
    let output = daemon.scalectl(&["--json", "report"]);
    assert_eq!(output.status.code(), Some(5));
    let report: scale_api::report::Report = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report.total.messages_sent >= 200 && report.verdict.reasons[0].contains("daemon was lost"));
}

#[test]
fn stop_now_and_sigterm_end_traffic_within_a_second() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let mut daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let start = ["start", "--detach", "--conns", "20", "--target", &target, "--duration", "60s"];
    assert!(daemon.scalectl(&start).status.success());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.scalectl(&["stop", "--now"]).status.code(), Some(5));
    assert!(daemon.scalectl(&start).status.success());
    std::thread::sleep(Duration::from_millis(300));
    daemon.process.take().expect("running").end();
    daemon.begin();
    let output = daemon.scalectl(&["--json", "report"]);
    let report: scale_api::report::Report = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report.verdict.reasons[0].contains("told to end"), "{:?}", report.verdict);
}

#[test]
fn the_control_socket_answers_curl_and_refuses_nonsense() {
    let daemon = Daemon::start();
    let ask = |text: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(daemon.socket()).expect("it listens");
        stream.write_all(text.as_bytes()).expect("taken");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let answer = ask("GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"version\""), "{answer}");
    let answer =
        ask("POST /v1/runs HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\n{x}");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("problem+json"), "{answer}");
    let answer = ask("GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(answer.contains("\"not_found\""), "{answer}");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(daemon.socket()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}
