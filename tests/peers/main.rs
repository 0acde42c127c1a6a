//! The real programs with servers, clients, proxies and a Prometheus by others. `tests/peers.sh` installs
//! them; where one is missing its tests say so, and fail under CI.

mod clients;
mod hardened;
mod hlog;
mod journal;
mod page;
mod prometheus;
mod proxies;
mod replicas;
mod servers;
mod ssh;
mod view;

use scale_api::report::Report;
use scale_tests::{Daemon, assert_ended_with};

/// Runs `conns` streams of whole echoes, each byte compared.
fn echoes(conns: &str, target: &str, more: &[&str]) -> Report {
    // A message a second and stream, and long limits: a busy machine is late, and still right.
    let mut arguments = vec!["--conns", conns, "--target", target, "--verify", "--tick-interval", "1s"];
    arguments.extend(["--ramp", "1s", "--warm-up", "500ms", "--duration", "3s"]);
    arguments.extend(["--drain", "30s", "--connect-timeout", "60s"]);
    arguments.extend(more);
    let (code, report) = Daemon::start().run(&arguments);
    assert_every_byte_came_back(conns, (code, &report));
    report
}

/// All `conns` streams were opened and stayed, and what they said is what came back.
fn assert_every_byte_came_back(conns: &str, (code, report): (i32, &Report)) {
    let (load, total) = (&report.load, &report.total);
    let failed = (&load.connect_failures, &load.disconnects);
    assert!(failed.0.is_empty() && failed.1.is_empty(), "{failed:?}");
    assert_eq!(load.streams_opened.to_string(), conns, "{code}: {:?}", report.verdict);
    assert_eq!(load.streams_open_at_end, load.streams_opened);
    assert!(load.messages_sent >= load.streams_opened, "{load:?}");
    assert_eq!((load.verify_failures, load.unexpected_bytes, load.messages_unanswered), (0, 0, 0));
    assert_eq!((total.messages_echoed, total.payload_bytes_open), (total.messages_sent, 0));
    assert_eq!(total.payload_bytes_received, total.payload_bytes_sent);
    assert_ended_with(0, (code, report));
}
