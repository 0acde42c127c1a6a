//! `scalectl calibrate`, with small numbers.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use scale_api::calibration::{Calibration, Calibrations, Limit};
use scale_api::http::{Started, Status};
use scale_tests::host::until;
use scale_tests::{Daemon, Process};

use super::{daemon_in_time, error};

const SMALL: [&str; 5] = ["calibrate", "--max-streams", "200", "--time", "20s"];

fn put(daemon: &Daemon, found: &Calibration) -> String {
    let mut stream = UnixStream::connect(daemon.socket()).expect("it listens");
    let body = serde_json::to_string(found).expect("plain values");
    let length = body.len();
    write!(
        stream,
        "PUT /v1/calibration HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .expect("taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

fn kept(daemon: &Daemon) -> Calibrations {
    let output = daemon.scalectl(&["--json", "calibrate", "--show"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {}", error(&output)))
}

fn status(daemon: &Daemon) -> Status {
    serde_json::from_slice(&daemon.scalectl(&["--json", "status"]).stdout).expect("JSON")
}

fn dry_run(daemon: &Daemon, protocol: &str, conns: &str) -> Started {
    let target = format!("{protocol}://127.0.0.1:9/");
    let output = daemon.scalectl(&["--json", "start", "--dry-run", "--conns", conns, "--target", &target]);
    let plan = serde_json::from_slice(&output.stdout).expect("JSON");
    Started { id: None, plan }
}

#[test]
fn what_was_held_is_kept_and_later_plans_are_judged_by_it() {
    let daemon = daemon_in_time();
    // A machine may be too busy for 1 ms just now; then nothing is kept, and it says so.
    let output = (0..3).find_map(|_| {
        let output = daemon.scalectl(&[&["--json"], &SMALL[..], &["--protocol", "wss"]].concat());
        if output.status.code() == Some(4) {
            assert!(error(&output).contains("were held: beyond it"), "{}", error(&output));
            assert!(kept(&daemon).kept.is_empty(), "nothing that was not held is kept");
            return None;
        }
        Some(output)
    });
    let Some(output) = output else {
        eprintln!("skipped: this machine is too busy to hold even the least within 1 ms");
        return;
    };
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let found: Calibration = serde_json::from_slice(&output.stdout).expect("the result alone");
    assert!(
        (1..=200).contains(&found.streams) && found.lateness_p99 <= 0.001 && found.busy_max <= 0.8,
        "{found:?}"
    );
    let held = |step: &&scale_api::calibration::Step| step.broke.is_none() && step.streams == found.streams;
    let step = found.steps.iter().rfind(held).expect("it was held");
    assert!(step.seconds >= 3 && step.seconds_over * 4 <= step.seconds * 3, "{step:?}");
    assert_eq!(
        (found.protocol.as_str(), found.payload_bytes, found.against.as_str()),
        ("wss", 4096, "scale-sink")
    );
    assert!(found.cpu_us_per_message > 0.0 && found.cpu_us_per_message < 1000.0, "{found:?}");
    if found.streams == 200 {
        assert_eq!(found.limit, Limit::Streams);
    }
    let again = kept(&daemon);
    assert_eq!(again.kept, std::slice::from_ref(&found));
    assert_eq!(again.host, found.host);
    assert!(!found.host.kernel.is_empty() && !found.host.cores.is_empty());
    let sentence = dry_run(&daemon, "wss", "50").plan.calibration.expect("it is calibrated");
    assert!(
        sentence.starts_with("calibrated 20") && sentence.contains("% of what this host offers"),
        "{sentence}"
    );
    assert_eq!(dry_run(&daemon, "ws", "50").plan.calibration, None, "another protocol");
    // The run of it is over, and is there to be looked at.
    assert!(status(&daemon).run.is_none());
    let runs = String::from_utf8_lossy(&daemon.scalectl(&["runs"]).stdout).into_owned();
    assert!(runs.contains(&found.run) && runs.contains("calibrate"), "{runs}");
}

#[test]
fn a_kept_calibration_outlives_the_daemon_and_one_of_another_kernel_is_not_used() {
    let mut daemon = Daemon::start();
    let found = Calibration {
        protocol: "ws".into(),
        payload_bytes: 4096,
        tick: 0.1,
        streams: 1000,
        messages_per_second: 1e4,
        bytes_per_second: 4.096e7,
        cpu_us_per_message: 11.0,
        message_us: 9.8,
        byte_us: Some(0.000_3),
        limit: Limit::Busy,
        ..Calibration::default()
    };
    assert!(put(&daemon, &found).starts_with("HTTP/1.1 200"));
    let refused = put(&daemon, &Calibration { streams: 0, ..found.clone() });
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("above zero"), "{refused}");
    daemon.process.take().expect("it runs").end();
    daemon.begin();
    let half = dry_run(&daemon, "ws", "500").plan.calibration.expect("kept");
    assert!(half.ends_with("this plan takes 50 % of what this host offers"), "{half}");
    let large = dry_run(&daemon, "ws", "1500").plan;
    assert!(large.warnings.iter().any(|it| it.contains("150 %")) && large.cannot.is_empty(), "{large:?}");

    let path = daemon.state().join("calibration.json");
    let text = std::fs::read_to_string(&path).expect("it is kept there");
    let kernel = &kept(&daemon).host.kernel;
    daemon.process.take().expect("it runs").end();
    std::fs::write(&path, text.replace(kernel, "2.6.32")).expect("written");
    daemon.begin();
    let stale = dry_run(&daemon, "ws", "500").plan.calibration.expect("it says why not");
    assert!(stale.contains("is not used: it was made with kernel 2.6.32"), "{stale}");
}

/// A calibration that is going: its process, and the sink's.
fn going(daemon: &Daemon) -> (Process, u32) {
    let mut command = daemon.command(&SMALL);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let process = Process(child);
    until("its run is going", || status(daemon).run);
    let pid = process.0.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
    let sink = children.split_whitespace().next().expect("its sink").parse().expect("a pid");
    (process, sink)
}

/// Whether a sink still runs as `pid`.
fn is_there(pid: u32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    name.trim() == "scale-sink" && !state.contains(") Z ")
}

#[test]
fn ctrl_c_leaves_no_sink_and_no_run_and_nothing_is_kept() {
    let daemon = Daemon::start();
    let (mut process, sink) = going(&daemon);
    assert!(is_there(sink));
    process.signal("INT");
    let ended = process.0.wait().expect("it ends");
    assert_eq!(ended.code(), Some(5));
    assert!(!is_there(sink), "its sink has ended before it");
    assert!(status(&daemon).run.is_none() && kept(&daemon).kept.is_empty());
}

#[test]
fn a_killed_scalectl_takes_its_sink_along_and_the_run_ends_by_itself() {
    let daemon = Daemon::start();
    let (mut process, sink) = going(&daemon);
    process.0.kill().expect("it was there");
    process.0.wait().expect("it ends");
    until("its sink has ended", || (!is_there(sink)).then_some(()));
    until("its run has ended", || status(&daemon).run.is_none().then_some(()));
}

#[test]
fn a_target_is_asked_about_and_looked_up_in_the_list_before_anything_begins() {
    let daemon = Daemon::start();
    let far = ["calibrate", "--target", "ws://192.0.2.1:9/"];
    let output = daemon.scalectl(&far);
    assert_eq!(output.status.code(), Some(2));
    assert!(error(&output).contains("give --yes"), "{}", error(&output));
    let output = daemon.scalectl(&[&far[..], &["--yes"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", error(&output));
    assert!(error(&output).contains("192.0.2.1"), "{}", error(&output));
    assert!(status(&daemon).last.is_none(), "no run has been");
    let output = daemon.scalectl(&["calibrate", "--time", "3s"]);
    assert_eq!((output.status.code(), error(&output).contains("give 12s to 10m")), (Some(2), true));
}

#[test]
fn a_target_that_takes_no_streams_is_the_targets_fault() {
    let daemon = Daemon::start();
    // Nobody listens there.
    let output = daemon.scalectl(&[
        "calibrate",
        "--target",
        "ws://127.0.0.1:9/",
        "--yes",
        "--max-streams",
        "20",
        "--time",
        "15s",
    ]);
    assert_eq!(output.status.code(), Some(99), "{}", error(&output));
    assert!(error(&output).contains("the target was the limit"), "{}", error(&output));
    assert!(status(&daemon).run.is_none() && kept(&daemon).kept.is_empty());
}
