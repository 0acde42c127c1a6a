//! Web terminals on the sink's emulated ones.

use std::process::Command;

use scale_tests::host::Folder;
use scale_tests::{Daemon, Sink, assert_ended_with, program};

use crate::assert_every_tick_is_accounted_for;

/// Lines of `bytes` typed into 40 terminals, every echoed byte compared: both sides count the same.
fn agrees(protocol: &str, traffic: &str, profile: &str, bytes: u32) {
    let folder = Folder::new();
    let ca = folder.path("ca.pem").display().to_string();
    let sink = Sink::start(&["--protocol", protocol, "--traffic", traffic, "--ca-out", &ca]);
    let ca = if protocol == "wss" { format!("ca = {ca:?}") } else { String::new() };
    let text = format!(
        r#"
[[group]]
name = "terminals"
target = ["{protocol}://{}/"]
conns = 40
bytes_per_tick = "{bytes}B"
tick_interval = "100ms"
warm_up = "500ms"
duration = "2s"
verify = true
{ca}
[group.typed]
profile = "{profile}"
"#,
        sink.address
    );
    let daemon = Daemon::start();
    let (code, report) = daemon.run(&["--file", &folder.write("run.toml", &text)]);
    let counts = sink.counts();
    assert_ended_with(0, (code, &report));
    assert_every_tick_is_accounted_for(&report.load);
    assert_eq!(counts["connections"], 40);
    assert_eq!(counts["payload_bytes_received"], report.total.payload_bytes_sent);
    assert_eq!(counts["payload_bytes_sent"], report.total.payload_bytes_received);
    assert_eq!(counts["messages_received"], report.total.messages_sent);
    assert_eq!(counts["messages_sent"], report.total.messages_echoed);
    let line_ends = if profile == "raw" { 0 } else { report.total.messages_sent };
    assert_eq!(report.total.payload_bytes_received, report.total.payload_bytes_sent + line_ends);
    assert_eq!((report.load.verify_failures, report.load.unexpected_bytes), (0, 0));
    assert_eq!((report.load.messages_unanswered, report.total.payload_bytes_open), (0, 0));
    assert!(report.load.disconnects.is_empty(), "{:?}", report.load.disconnects);
}

#[test]
fn what_terminals_are_typed_and_print_agrees_to_the_byte() {
    agrees("ws", "terminal", "paced", 128);
    agrees("ws", "terminal", "paced", 4096);
}

#[test]
fn terminals_over_tls_and_raw_ones_agree_to_the_byte() {
    agrees("wss", "terminal", "exact", 5000);
    agrees("ws", "terminal-raw", "raw", 1500);
}

#[test]
fn what_does_not_go_with_terminals_is_refused() {
    for (more, why) in [
        (&["--protocol", "tcp"][..], "take --protocol ws or wss"),
        (&["--protocol", "ws", "--delay", "1ms"], "--delay"),
        (&["--protocol", "ws", "--times", "/dev/null"], "--times"),
    ] {
        let mut command = Command::new(program("scale-sink"));
        command.args(["--listen", "127.0.0.1:0", "--traffic", "terminal"]).args(more);
        let output = command.output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(why), "{error}");
    }
}
