//! `workspace-traffic` against the stand-in: real shells, emulated terminals, apps, and what goes wrong.

use scale_api::report::Report;
use scale_api::typed::Form;
use scale_tests::Daemon;
use serde_json::Value;

use super::{Standin, create};

const LOAD: [&str; 9] = [
    "workspace-traffic",
    "--bytes-per-tick",
    "128",
    "--duration",
    "2s",
    "--warm-up",
    "1s",
    "--concurrency",
    "0",
];

/// A deployment with as many workspaces.
fn with_workspaces(settings: &str, faults: &str, count: &str) -> (Standin, Daemon) {
    let brisk = "build_time = '50ms'\nbuild_jitter = '50ms'\nagent_time = '50ms'\n";
    let (standin, daemon) = (Standin::start(&format!("{brisk}{settings}"), faults), Daemon::start());
    let (code, report) = standin.flow(&daemon, &create(count, &["--no-cleanup"]));
    assert_eq!(code, 0, "{:?}", report.verdict);
    (standin, daemon)
}

fn drive(standin: &Standin, daemon: &Daemon, more: &[&str]) -> (i32, Report) {
    let (code, out, error) = standin.scalectl(daemon, &[&["--json"], &LOAD[..], more].concat());
    let last = out.lines().last().unwrap_or_else(|| panic!("{error}"));
    (code, serde_json::from_str(last).unwrap_or_else(|why| panic!("{why}: {last} {error}")))
}

/// Every message went, came back whole, and was what had been sent; its echo has `longer` bytes more.
fn assert_all_echoed(report: &Report, streams: u64, longer: u64) {
    let load = &report.load;
    assert_eq!((load.streams_opened, load.streams_open_at_end), (streams, streams), "{load:?}");
    assert_eq!((load.messages_sent, load.verify_failures), (load.messages_echoed, 0), "{load:?}");
    assert!(load.messages_sent > 0 && load.unexpected_bytes == 0, "{load:?}");
    let total = &report.total;
    assert_eq!(total.payload_bytes_received, total.payload_bytes_sent + longer * total.messages_sent);
    assert!(load.disconnects.is_empty() && load.connect_failures.is_empty(), "{load:?}");
}

#[test]
fn terminals_of_real_shells_echo_lines_and_raw_ones_exact_bytes() {
    let (standin, daemon) = with_workspaces("", "", "4");
    let (code, report) = drive(&standin, &daemon, &["--verify"]);
    assert_eq!(code, 0, "{:?}", report.verdict);
    assert_all_echoed(&report, 4, 1);
    assert_eq!(report.latency.first_byte.map(|first| first.count), Some(4));
    assert!(report.spec.environment["coder_version"].starts_with("v2.26"), "{:?}", report.spec.environment);
    let (code, report) = drive(&standin, &daemon, &["--verify", "--profile", "raw"]);
    assert_eq!(code, 0, "{:?}", report.verdict);
    assert_all_echoed(&report, 4, 0);
    let counts = standin.end();
    assert_eq!(counts["sockets"]["terminals"], 8, "{counts}");
}

#[test]
fn an_app_echoes_the_pieces_as_they_are_and_streams_share_workspaces() {
    let (standin, daemon) = with_workspaces("terminals = 'emulated'\npath_apps = 'site_owner'\n", "", "3");
    let app = ["--verify", "--app", "wsec", "--streams-per-workspace", "2"];
    let (code, report) = drive(&standin, &daemon, &app);
    assert_eq!(code, 0, "{:?}", report.verdict);
    assert_all_echoed(&report, 6, 0);
    let (code, _, error) = standin.scalectl(&daemon, &[&LOAD[..], &["--app", "nosuch"]].concat());
    assert!(code == 2 && error.contains("no app `nosuch`") && error.contains("`wsec`"), "{error}");
    let (code, report) = drive(&standin, &daemon, &["--profile", "exact", "--target-workspaces", "1:3"]);
    assert_eq!((code, report.load.streams_opened), (0, 2), "{:?}", report.verdict);
    standin.end();
}

#[test]
fn every_version_gets_what_the_original_of_its_time_types() {
    for (version, longer) in [("v0.24", 0), ("v2.8", 1), ("v2.18", 1), ("v2.26", 1)] {
        let (standin, daemon) = with_workspaces(&format!("version = '{version}'\n"), "", "3");
        let (code, report) = drive(&standin, &daemon, &["--verify"]);
        assert_eq!(code, 0, "{version}: {:?} {:?}", report.verdict, report.load);
        assert_all_echoed(&report, 3, longer);
        let form = report.spec.group[0].typed.expect("terminals").form;
        assert_eq!(form == Form::Comment, version == "v0.24");
        standin.end();
    }
    let (standin, daemon) = with_workspaces("", "", "1");
    // More than a line of the terminal holds.
    let long = ["--verify", "--form", "comment", "--tick-interval", "50ms"];
    let (code, report) = drive(&standin, &daemon, &long);
    assert_eq!(code, 0, "{:?}", report.verdict);
    assert_all_echoed(&report, 1, 0);
    standin.end();
}

#[test]
fn an_agent_that_cannot_be_reached_and_a_server_that_resets_have_their_classes() {
    let faults = "[[fault]]\nkind = 'dial'\nafter = '100ms'\nworkspace = 'scaletest-*-1'\n\
                  [[fault]]\nkind = 'reset'\non = 'GET /api/v2/workspaceagents/*/pty'\nafter = '1s'\nworkspace = 'scaletest-*-2'\n";
    let (standin, daemon) = with_workspaces("terminals = 'emulated'\n", faults, "4");
    let (code, report) = drive(&standin, &daemon, &[]);
    let load = &report.load;
    assert_eq!((code, load.streams_opened), (99, 3), "{load:?}");
    assert_eq!(load.connect_failures.get("agent_unreachable"), Some(&1), "{load:?}");
    assert_eq!(load.disconnects.values().sum::<u64>(), 1, "{load:?}");
    assert_eq!(load.disconnects.get("reset"), Some(&1), "{load:?}");
    standin.end();
}

#[test]
fn what_cannot_be_driven_is_said_before_anything_is_opened() {
    let (standin, daemon) = (Standin::brisk(), Daemon::start());
    let (code, _, error) = standin.scalectl(&daemon, &LOAD);
    assert!(code == 2 && error.contains("no workspace bears the prefix"), "{error}");
    let (code, report) = standin.flow(&daemon, &create("2", &["--no-cleanup"]));
    assert_eq!(code, 0, "{:?}", report.verdict);
    let (code, _, error) = standin.scalectl(&daemon, &[&LOAD[..], &["--target-workspaces", "0:9"]].concat());
    assert!(code == 2 && error.contains("reaches beyond"), "{error}");
    let (code, text, error) = standin.scalectl(&daemon, &[&LOAD[..], &["--dry-run"]].concat());
    assert!(code == 0 && text.contains("4,096 B each 100 ms are what"), "{text}{error}");
    let runs = daemon.scalectl(&["--json", "runs"]);
    let runs: Value = serde_json::from_slice(&runs.stdout).expect("JSON");
    assert_eq!(runs.as_array().map(Vec::len), Some(1), "{runs}");
    standin.end();
}
