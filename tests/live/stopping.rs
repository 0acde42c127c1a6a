//! `stop --now --all` and SIGTERM, measured on the wire: in a network of its own, where nothing but the load moves, the
//! counters of loopback itself stand still a second after the command at the latest. They count every packet, ACKs, FINs,
//! RSTs and retransmissions among them; and they are watched for longer, for what the kernel might send again.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use scale_api::http::Status;
use scale_api::report::Report;
use scale_ring::host;
use scale_tests::host::{Folder, installed, until};
use scale_tests::network::{Wire, alone, moved};
use scale_tests::server::serve;
use scale_tests::{Daemon, Process, Sink};

use crate::coder::Standin;
use crate::error;
use crate::faults::{event, start};

/// Promised.
const WITHIN: Duration = Duration::from_secs(1);
/// SYNs that nobody answers are sent again after 1, 3 and 7 s, data after 0.2, 0.6, 1.4, 3 s and so on.
const WATCHED: Duration = Duration::from_millis(4500);

/// How load is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Command,
    Signal,
}

/// Stops what `daemon` does, and looks at the wire meanwhile and afterwards.
#[expect(clippy::print_stdout, reason = "a test's output")]
fn stops(what: &str, daemon: &mut Daemon, how: How) {
    let wire = Wire::watch();
    let asked = host::monotonic_now();
    match how {
        How::Command => {
            let output = daemon.scalectl(&["stop", "--now", "--all"]);
            assert_eq!(output.status.code(), Some(5), "{what}: {}", error(&output));
        }
        How::Signal => drop(daemon.process.take().expect("running").end()),
    }
    // Nothing tells that nothing comes any more, but that it has not come.
    let left = WATCHED.saturating_sub(host::monotonic_now().since(asked));
    std::thread::sleep(left);
    let changes = wire.end();
    let (last, end) = *changes.last().expect("there is a first");
    let (_, before) = *changes.iter().rev().find(|(at, _)| *at <= asked).unwrap_or(&changes[0]);
    let took = last.since(asked);
    println!(
        "{what}, {how:?}: the last of {} packets ({} bytes) {:.0} ms after it",
        end.packets - before.packets,
        end.bytes - before.bytes,
        took.as_secs_f64() * 1e3
    );
    assert!(took <= WITHIN, "{what}, {how:?}: something moved until {took:?} after the command");
    if how == How::Signal {
        daemon.begin();
    }
    let output = daemon.scalectl(&["--json", "report"]);
    let report: Report = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report.verdict.exit_code, 5, "{what}: {:?}", report.verdict);
}

/// Starts the load, waits until it is where it is to be stopped, and stops it: by command, then by signal.
fn both(what: &str, load: &[&str], mut is_there: impl FnMut(&Daemon) -> bool) {
    let mut daemon = Daemon::start();
    for how in [How::Command, How::Signal] {
        start(&daemon, load);
        until(what, || is_there(&daemon).then_some(()));
        stops(what, &mut daemon, how);
    }
}

fn streams(daemon: &Daemon, state: &str) -> u64 {
    event(daemon).streams.get(state).copied().unwrap_or(0)
}

#[test]
fn two_thousand_streams_are_off_the_wire_within_a_second() {
    alone(|| {
        let sink = Sink::start(&["--protocol", "ws"]);
        let target = format!("ws://{}/", sink.address);
        let load = ["--conns", "2000", "--target", &target, "--tick-interval", "500ms"];
        both("2,000 streams", &load, |daemon| {
            let before = moved();
            let event = event(daemon);
            let flows = event.now.messages_echoed > 2000 && moved().packets > before.packets;
            flows && event.streams["open"] == 2000
        });
    });
}

#[test]
fn a_ramp_is_off_the_wire_within_a_second() {
    alone(|| {
        let sink = Sink::start(&["--protocol", "ws"]);
        let target = format!("ws://{}/", sink.address);
        let load = ["--conns", "2000", "--target", &target, "--connect-rate", "200/s"];
        both("a ramp", &load, |daemon| (100..1900).contains(&streams(daemon, "open")));
    });
}

#[test]
fn tls_handshakes_are_off_the_wire_within_a_second() {
    alone(|| {
        let sink = Sink::start(&["--protocol", "wss"]);
        let target = format!("wss://{}/", sink.address);
        let load = ["--conns", "2000", "--target", &target, "--connect-rate", "150/s", "--insecure"];
        both("TLS handshakes", &load, |daemon| (50..1900).contains(&streams(daemon, "open")));
        // And those that a server leaves hanging.
        let address = serve(|_, mut stream| while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {});
        let target = format!("wss://{address}/");
        let load = ["--conns", "300", "--target", &target, "--insecure", "--connect-timeout", "60s"];
        both("hanging TLS handshakes", &load, |daemon| streams(daemon, "connecting") == 300);
    });
}

#[test]
fn connects_that_nobody_answers_are_not_tried_again() {
    let Some(python) = installed("python3") else { return };
    alone(|| {
        // It never accepts: once its queue is full the kernel drops SYNs, which are sent again and again.
        let mut full = Command::new(python);
        full.args(["-c", "import socket, sys, time\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen(0)\nprint('port', s.getsockname()[1], file=sys.stderr, flush=True)\ntime.sleep(600)"]);
        let (_full, line) = Process::start(&mut full, "port ");
        let target = format!("tcp://127.0.0.1:{}", line.trim_start_matches("port "));
        let load =
            ["--conns", "200", "--target", &target, "--connect-timeout", "60s", "--traffic", "discard"];
        both("unanswered connects", &load, |daemon| streams(daemon, "connecting") >= 150);
    });
}

#[test]
fn a_target_that_takes_nothing_any_more_is_left_within_a_second() {
    alone(|| {
        let mut daemon = Daemon::start();
        for how in [How::Command, How::Signal] {
            // Long messages fill what the sockets take; then the kernel probes the shut windows.
            let sink = Sink::start(&["--protocol", "ws"]);
            let target = format!("ws://{}/", sink.address);
            let long = ["--bytes-per-tick", "200KB", "--tick-interval", "100ms", "--drain", "60s"];
            start(&daemon, &[&["--conns", "100", "--target", &target][..], &long].concat());
            until("echoes", || (event(&daemon).now.messages_echoed > 0).then_some(()));
            sink.process.signal("STOP");
            until("back-pressure", || (event(&daemon).ticks_missed.backpressure >= 1000).then_some(()));
            stops("a stalled target", &mut daemon, how);
            sink.process.signal("CONT");
        }
    });
}

#[test]
fn ssh_sessions_are_off_the_wire_within_a_second() {
    alone(|| {
        let sink = Sink::start(&["--protocol", "ssh"]);
        let target = format!("ssh://{}", sink.address);
        let load = ["--conns", "200", "--target", &target, "--insecure-host-keys", "--connect-rate", "100/s"];
        both("SSH sessions", &load, |daemon| streams(daemon, "open") == 200);
        both("an SSH ramp", &load, |daemon| (20..190).contains(&streams(daemon, "open")));
    });
}

#[test]
fn coders_flows_and_scenarios_are_off_the_wire_within_a_second() {
    const SLOW: &str = "build_time = '3s'\nbuild_jitter = '0s'\nprovisioners = 3\n";
    alone(|| {
        let mut daemon = Daemon::start();
        let builds = |daemon: &Daemon| {
            let output = daemon.scalectl(&["--json", "status"]);
            let status: Status = serde_json::from_slice(&output.stdout).expect("JSON");
            status.run.and_then(|run| run.coder).is_some_and(|coder| coder.of("building") > 0)
        };
        for how in [How::Command, How::Signal] {
            let standin = Standin::start(SLOW, "");
            let make = ["create-workspaces", "--template", "minimal", "--concurrency", "0", "--count", "12"];
            standin.begin(&daemon, &make);
            until("builds", || builds(&daemon).then_some(()));
            stops("a flow", &mut daemon, how);
        }
        let brisk = "build_time = '50ms'\nagent_time = '50ms'\nterminals = 'emulated'\n";
        for how in [How::Command, How::Signal] {
            let standin = Standin::start(brisk, "");
            let file = standin.write(
                "night.toml",
                "[create]\ncount = 6\ntemplate = 'minimal'\nconcurrency = 0\n[[group]]\nname = 'terminals'\n\
                 duration = '60s'\nbytes_per_tick = '128B'\nwarm_up = '0s'\n",
            );
            standin.begin(&daemon, &["scenario", "-f", &file]);
            until("traffic", || (event(&daemon).state == "steady").then_some(()));
            stops("a scenario", &mut daemon, how);
        }
    });
}

#[test]
fn stopping_all_where_nothing_goes_is_content() {
    let daemon = Daemon::start();
    let output =
        daemon.command(&["stop", "--now", "--all"]).stdout(Stdio::piped()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
}

#[test]
fn what_is_only_looked_at_when_everything_is_stopped_does_not_begin() {
    // A deployment that takes its time: it is asked what it is before a flow begins.
    let (came, asked) = channel();
    let came = Mutex::new(came);
    let address = serve(move |_, mut stream| {
        let _ = came.lock().expect("whole").send(());
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
    });
    let (daemon, folder) = (Daemon::start(), Folder::new());
    let token = folder.write("token", "a-token");
    let mut begins = daemon.command(&["create-users", "--count", "1", "--yes"]);
    begins.env("CODER_URL", format!("http://{address}")).env("CODER_SESSION_TOKEN_FILE", token);
    let begins = begins.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    asked.recv().expect("the deployment was asked");
    let output = daemon.scalectl(&["stop", "--now", "--all"]);
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let output = begins.wait_with_output().expect("it ends");
    assert!(
        output.status.code() == Some(2) && error(&output).contains("has not begun"),
        "{}",
        error(&output)
    );
}
