//! `workspace-traffic` against the stand-in: real shells, emulated terminals, apps, and what goes wrong.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use scale_api::report::{Report, SshPath};
use scale_api::typed::Form;
use scale_tests::host::{Folder, until};
use scale_tests::{Daemon, Sink};
use serde_json::Value;

use super::{Standin, create, outcome};

const LOAD: [&str; 7] =
    ["workspace-traffic", "--bytes-per-tick", "128", "--warm-up", "1s", "--concurrency", "0"];

const BRISK: &str = "build_time = '50ms'\nbuild_jitter = '50ms'\nagent_time = '50ms'\n";

/// A deployment with as many workspaces.
pub(super) fn with_workspaces(settings: &str, faults: &str, count: &str) -> (Standin, Daemon) {
    let (standin, daemon) = (Standin::start(&format!("{BRISK}{settings}"), faults), Daemon::start());
    let (code, report) = standin.flow(&daemon, &create(count, &["--no-cleanup"]));
    assert_eq!(code, 0, "{:?}", report.verdict);
    (standin, daemon)
}

pub(super) fn drive(standin: &Standin, daemon: &Daemon, more: &[&str]) -> (i32, Report) {
    drive_for("2s", standin, daemon, more)
}

/// The same, steady for `duration`.
pub(super) fn drive_for(duration: &str, standin: &Standin, daemon: &Daemon, more: &[&str]) -> (i32, Report) {
    let (code, out, error) =
        standin.scalectl(daemon, &[&["--json"], &LOAD[..], &["--duration", duration], more].concat());
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
    assert_eq!(report.latency.first_byte.as_ref().map(|first| first.count), Some(4));
    // What was seen of the deployment is not mixed into what its operator states.
    assert!(report.run.environment.is_empty(), "{:?}", report.run.environment);
    let site = &outcome(&report).site;
    assert!(site.version.starts_with("v2.26"), "{site:?}");
    let (code, report) = drive(&standin, &daemon, &["--verify", "--profile", "raw"]);
    assert_eq!(code, 0, "{:?}", report.verdict);
    assert_all_echoed(&report, 4, 0);
    let counts = standin.end();
    assert_eq!(counts["sockets"]["terminals"], 8, "{counts}");
}

#[test]
fn an_app_echoes_the_pieces_as_they_are_and_streams_share_workspaces() {
    let (standin, daemon) = with_workspaces("terminals = 'emulated'\n", "", "3");
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
fn workspaces_are_reached_by_ssh_where_this_host_reaches_them_and_the_report_says_how_little_that_says() {
    let (standin, daemon) = with_workspaces("terminals = 'emulated'\n", "", "3");
    let server = Sink::start(&["--protocol", "ssh"]);
    let address = server.address.clone();
    let ssh = ["--ssh", "--ssh-target", "ssh://{workspace}.{owner}.coder", "--connect-to", &address];
    let (code, report) = drive(&standin, &daemon, &[&ssh[..], &["--verify"]].concat());
    assert_eq!(code, 0, "{:?}", report.verdict);
    assert_all_echoed(&report, 3, 0);
    let part = report.ssh.as_ref().expect("a run of SSH");
    assert_eq!((part.path, part.insecure_host_keys), (Some(SshPath::Unknown), true));
    assert_eq!(part.negotiated.iter().map(|set| set.connections).sum::<u64>(), 3);
    assert_eq!(outcome(&report).things.len(), 3, "each workspace has its own result");
    let counts = server.counts();
    assert_eq!(counts["payload_bytes_received"].as_u64(), Some(report.total.payload_bytes_sent), "{counts}");
    let refused = |flags: &[&str]| {
        let (code, _, error) = standin.scalectl(&daemon, &[&LOAD[..], flags].concat());
        assert_eq!(code, 2, "{error}");
        error
    };
    assert!(refused(&["--ssh"]).contains("not built yet"));
    assert!(refused(&["--ssh", "--ssh-target", "ssh://gw.example.com"]).contains("one place"));
    assert!(refused(&[&ssh[..], &["--app", "wsec"]].concat()).contains("--app is not about SSH"));
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
fn apps_on_host_names_of_their_own_are_reached_by_their_names() {
    let settings = "terminals = 'emulated'\napp_host = '*.apps.localhost'\n";
    let (standin, daemon) = with_workspaces(settings, "", "3");
    let address = standin.sink.address.clone();
    let app = ["--verify", "--app", "wsec", "--streams-per-workspace", "2", "--connect-to", &address];
    let (code, report) = drive(&standin, &daemon, &app);
    assert_eq!(code, 0, "{:?}", report.verdict);
    assert_all_echoed(&report, 6, 0);
    assert_eq!(report.spec.group[0].target, ["ws://{host}.apps.localhost/"]);
    // Without a wildcard record: the first app's own name is what is asked for.
    let (code, _, error) = standin.scalectl(&daemon, &[&LOAD[..], &["--app", "wsec"]].concat());
    assert!(code == 2 && error.contains("wsec--") && error.contains("does not resolve"), "{error}");
    let proxy = ["--app", "wsec", "--workspace-proxy-url", "http://127.0.0.1:1"];
    let (code, _, error) = standin.scalectl(&daemon, &[&LOAD[..], &proxy].concat());
    assert!(code == 2 && error.contains("through a workspace proxy"), "{error}");
    let counts = standin.end();
    assert_eq!(counts["sockets"]["apps"], 6, "{counts}");
}

#[test]
fn an_agent_that_cannot_be_reached_and_a_server_that_resets_have_their_classes() {
    let faults = "[[fault]]\nkind = 'dial'\nafter = '0ms'\nworkspace = 'scaletest-*-1'\n\
                  [[fault]]\nkind = 'reset'\non = 'GET /api/v2/workspaceagents/*/pty'\nafter = '1s'\nworkspace = 'scaletest-*-2'\n";
    let (standin, daemon) = with_workspaces("terminals = 'emulated'\n", faults, "4");
    let (code, report) = drive(&standin, &daemon, &[]);
    let coder = outcome(&report);
    assert_eq!((coder.requested, coder.succeeded, coder.failed), (4, 2, 2), "{coder:?}");
    let named = |class: &str| {
        let failed: Vec<_> = coder.failed_things.iter().filter(|thing| thing.class == class).collect();
        assert_eq!((failed.len(), coder.failures[class].count), (1, 1), "{coder:?}");
        failed[0].name.clone()
    };
    assert!(named("agent_unreachable").ends_with("-1") && named("reset").ends_with("-2"), "{coder:?}");
    assert_eq!(coder.things.iter().filter(|thing| thing.error.is_none()).count(), 2, "{coder:?}");
    let load = &report.load;
    assert_eq!((code, load.streams_opened), (99, 3), "{load:?}");
    assert_eq!(load.connect_failures.get("agent_unreachable"), Some(&1), "{load:?}");
    assert_eq!(load.disconnects.values().sum::<u64>(), 1, "{load:?}");
    assert_eq!(load.disconnects.get("reset"), Some(&1), "{load:?}");
    standin.end();
}

#[test]
fn the_report_says_where_the_traffic_went_and_that_a_limiter_was_in_the_way() {
    let refused = "[[fault]]\nkind = 'too_many_requests'\non = 'GET /api/v2/workspaceagents/*/pty'\ntimes = 1\n\
                   [[fault]]\nkind = 'agent_never'\nworkspace = 'scaletest-*-3'\n";
    let (standin, daemon) =
        (Standin::start(&format!("{BRISK}terminals = 'emulated'\n"), refused), Daemon::start());
    let (code, report) = standin.flow(&daemon, &create("4", &["--no-cleanup", "--no-wait-for-agents"]));
    assert_eq!(code, 0, "{:?}", report.verdict);
    std::thread::sleep(Duration::from_millis(500));
    let (code, report) = drive(&standin, &daemon, &["--streams-per-workspace", "2"]);
    assert_eq!((code, report.load.streams_opened), (99, 5), "{:?}", report.load);
    let coder = outcome(&report);
    let traffic = coder.traffic.as_ref().expect("traffic");
    assert_eq!((coder.requested, coder.failed, traffic.streams, traffic.skipped), (3, 1, 6, 1), "{coder:?}");
    let skipped = &traffic.skipped_workspaces[0];
    assert!(skipped.name.ends_with("-3") && skipped.why.contains("agent"), "{skipped:?}");
    assert_eq!(coder.replicas, [(standin.sink.address.clone(), 5)].into(), "{coder:?}");
    assert!(coder.warnings[0].contains("CODER_DANGEROUS_DISABLE_RATE_LIMITS=true"), "{coder:?}");
    assert_eq!((coder.site.username.as_str(), coder.ended.as_str()), ("admin", "done"), "{coder:?}");
    let (read, written) = coder.things.iter().fold((0, 0), |(read, written), thing| {
        (read + thing.bytes_read.unwrap_or(0), written + thing.bytes_written.unwrap_or(0))
    });
    assert_eq!((read, written), (report.total.payload_bytes_received, report.total.payload_bytes_sent));
    let (_, text, _) = standin.scalectl(&daemon, &["report"]);
    assert!(text.contains("workspaces:   3 on") && text.contains("1 could not be driven"), "{text}");
    assert!(text.contains("http_429") && text.contains("steady state:"), "{text}");
    standin.end();
}

/// What a scrape says now: each line's name with its labels, and its value.
fn scrape(daemon: &Daemon) -> BTreeMap<String, f64> {
    let address = daemon.scraped.as_ref().expect("it is scraped");
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.into(), value.parse().ok()?)))
        .collect()
}

#[test]
fn metrics_tell_workspaces_apart_where_that_is_asked_for() {
    let faults = "[[fault]]\nkind = 'reset'\non = 'GET /api/v2/workspaceagents/*/pty'\nafter = '1s'\nworkspace = 'scaletest-*-1'\n";
    let standin = Standin::start(&format!("{BRISK}terminals = 'emulated'\n"), faults);
    let daemon = Daemon::start_scraped();
    let (code, report) = standin.flow(&daemon, &create("3", &["--no-cleanup"]));
    assert_eq!(code, 0, "{:?}", report.verdict);
    let load = [&LOAD[..], &["--streams-per-workspace", "2", "--per-workspace-metrics", "--detach"]].concat();
    let (code, id, error) = standin.scalectl(&daemon, &load);
    assert_eq!(code, 0, "{error}");
    let read = "coderd_scaletest_bytes_read_total{username=";
    let going = until("a labelled second", || {
        let now = scrape(&daemon);
        now.iter().any(|(name, value)| name.starts_with(read) && *value > 0.0).then_some(now)
    });
    assert_eq!(going.keys().filter(|name| name.starts_with(read)).count(), 3, "{going:?}");
    let watched = daemon.scalectl(&["watch", id.trim()]);
    assert_eq!(watched.status.code(), Some(99), "two streams of six are lost");
    let end = scrape(&daemon);
    let of = |name: &str| -> Vec<(&String, f64)> {
        let rows = end.range(name.to_owned()..).take_while(|(row, _)| row.starts_with(name));
        rows.map(|(row, value)| (row, *value)).collect()
    };
    for (labelled, whole) in [
        ("coderd_scaletest_bytes_read_total", "scaled_payload_received_bytes_total"),
        ("coderd_scaletest_bytes_written_total", "scaled_payload_sent_bytes_total"),
    ] {
        let rows = of(labelled);
        assert_eq!(
            (rows.len(), rows.iter().map(|(_, value)| value).sum::<f64>()),
            (3, end[whole]),
            "{rows:?}"
        );
    }
    let lost: Vec<_> =
        of("coderd_scaletest_read_errors_total").into_iter().filter(|(_, n)| *n > 0.0).collect();
    let [(row, count)] = lost[..] else { panic!("{lost:?}") };
    assert!(row.contains("-1\",agent_name=\"main\"}") && count == 2.0, "{lost:?}");
    assert_eq!(of("coderd_scaletest_write_errors_total").len(), 3);
    standin.end();
}

#[test]
fn the_originals_result_stands_beside_ours() {
    let faults = "[[fault]]\nkind = 'build_fails'\nworkspace = 'scaletest-*-2'\n";
    let (standin, daemon) =
        (Standin::start(&format!("{BRISK}terminals = 'emulated'\n"), faults), Daemon::start());
    let folder = Folder::new();
    let file = |name: &str| format!("json:{}", folder.path(name).display());
    let (make, run) = (file("make.json"), file("run.json"));
    let (code, out, error) = standin
        .scalectl(&daemon, &create("3", &["--no-cleanup", "--yes", "--output", &make, "--output", "text"]));
    assert!(code == 99 && out.contains("2 of 3 workspaces succeeded"), "{out}{error}");
    let (code, out, error) =
        standin.scalectl(&daemon, &[&LOAD[..], &["--output", &run, "--output", "json"]].concat());
    assert_eq!(code, 0, "{error}");
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(folder.path(name)).expect("a file")).expect("JSON")
    };
    let (made, ran) = (read("make.json"), read("run.json"));
    assert_eq!(serde_json::from_str::<Value>(&out).expect("one object"), ran);
    assert_eq!([&made["total_runs"], &made["total_pass"], &made["total_fail"]], [3, 2, 1]);
    let failed = &made["runs"]["create-workspaces/2"];
    assert_eq!((&failed["error"], &failed["id"]), (&"build_failed".into(), &"2".into()), "{failed}");
    assert!(failed["duration_ms"].as_u64() > Some(0) && failed["started_at"].as_str().is_some(), "{failed}");
    assert_eq!([&ran["total_runs"], &ran["total_pass"], &ran["total_fail"]], [2, 2, 0]);
    let written: u64 = ["workspace-traffic/0", "workspace-traffic/1"]
        .map(|run| ran["runs"][run]["metrics"]["bytes_written"].as_u64().expect("bytes"))
        .iter()
        .sum();
    assert_eq!(ran["total"]["payload_bytes_sent"], written, "{ran}");
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
