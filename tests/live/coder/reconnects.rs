//! Web terminals whose connections are lost and come back: the session, its bytes, and the server's version.

use std::path::Path;

use scale_api::report::{Report, Sessions};
use serde_json::Value;

use super::traffic::{drive, drive_for, with_workspaces};
use super::{Standin, texts};

/// Bytes of the line that is typed once a connection, and of the Ctrl-C at the end.
const MARKER_BYTES: u64 = 18;
const INTERRUPT_BYTES: u64 = 1;

/// RST of the first `times` terminals, so long after their 101.
fn reset(after: &str, times: u64) -> String {
    format!(
        "[[fault]]\nkind = 'reset'\non = 'GET /api/v2/workspaceagents/*/pty'\nafter = '{after}'\ntimes = {times}\n"
    )
}

/// Every stream was lost once and came back to its own session, and what was said again was no echo.
fn assert_went_on(report: &Report, streams: u64) -> Sessions {
    let load = &report.load;
    assert_eq!((load.streams_opened, load.streams_open_at_end), (streams, streams), "{load:?}");
    assert_eq!((load.disconnects.get("reset"), load.reconnects), (Some(&streams), streams), "{load:?}");
    assert_eq!((load.verify_failures, load.unexpected_bytes, load.replaced), (0, 0, 0), "{load:?}");
    let total = &report.total;
    assert!(total.messages_echoed > 0 && total.messages_sent - total.messages_echoed <= streams, "{total:?}");
    let took = report.latency.reconnect.as_ref().expect("a distribution");
    assert_eq!(took.count, streams);
    let sessions = load.sessions.clone().expect("terminals have sessions");
    assert_eq!(
        (sessions.same, sessions.new, sessions.unknown, sessions.cut),
        (streams, 0, 0, 0),
        "{sessions:?}"
    );
    assert!(sessions.bytes_replayed > 128 * streams, "{sessions:?}");
    sessions
}

/// What was typed into the terminals is what was sent, less what is said to be lost.
fn assert_typed(counts: &Value, report: &Report, connections: u64, streams: u64) {
    let lost = report.load.sessions.as_ref().map_or(0, |sessions| sessions.bytes_lost);
    let besides = MARKER_BYTES * connections + INTERRUPT_BYTES * streams;
    assert_eq!(
        counts["sockets"]["typed_bytes"].as_u64(),
        Some(report.total.payload_bytes_sent - lost + besides),
        "{counts} {:?}",
        report.load
    );
}

#[test]
fn real_shells_go_on_behind_a_reset_and_every_typed_byte_is_accounted_for() {
    for (profile, reconnect) in [("paced", "client"), ("raw", "backoff")] {
        let (standin, daemon) = with_workspaces("", &reset("1500ms", 3), "3");
        let (_, report) =
            drive_for("4s", &standin, &daemon, &["--verify", "--profile", profile, "--reconnect", reconnect]);
        assert_went_on(&report, 3);
        let took = report.latency.reconnect.as_ref().expect("a distribution");
        // A histogram of three digits rounds down to 1.999872 s.
        assert!(
            reconnect != "client" || took.min >= 1.999,
            "the web terminal waits for two seconds: {took:?}"
        );
        let counts = standin.end();
        assert_eq!(counts["sockets"]["terminals"], 6, "{counts}");
        assert_typed(&counts, &report, 6, 3);
    }
}

#[test]
fn emulated_terminals_go_on_behind_an_upgrade_of_the_server() {
    let upgraded = "[[fault]]\nkind = 'version'\non = 'GET /api/v2/workspaceagents/*/pty'\nskip = 20\n\
                    message = 'v2.99.0'\n";
    let faults = format!("{}{upgraded}", reset("1s", 20));
    let (standin, daemon) = with_workspaces("terminals = 'emulated'\n", &faults, "10");
    let more =
        ["--verify", "--reconnect", "backoff", "--streams-per-workspace", "2", "--tick-interval", "20ms"];
    let (_, report) = drive(&standin, &daemon, &more);
    assert_went_on(&report, 20);
    let seen: Vec<_> = report
        .server_versions
        .iter()
        .map(|one| (one.group.as_str(), one.version.as_str(), one.opened))
        .collect();
    assert_eq!(seen, [("workspaces", "v2.26.0+standin", 20), ("workspaces", "v2.99.0", 20)]);
    let [old, new] = &report.server_versions[..] else { panic!("two") };
    assert!(old.first_at <= old.last_at && old.last_at < new.first_at && new.first_at <= new.last_at);
    let [change] = &report.server_changes[..] else { panic!("{:?}", report.server_changes) };
    assert_eq!(change.before.as_deref(), Some("v2.26.0+standin"));
    assert_eq!((change.after.as_deref(), change.reconnects), (Some("v2.99.0"), 20));
    let (_, text, error) = texts(&daemon.scalectl(&["report", "last"]));
    assert!(
        text.contains("20 reconnects (p50 ") && text.contains(": 20 went on in their session; "),
        "{text}{error}"
    );
    assert!(text.contains("; server v2.26.0+standin → v2.99.0"), "{text}");
    assert_typed(&standin.end(), &report, 40, 20);
}

/// The processes that `parent` has started, by their ids.
fn children(parent: u32) -> Vec<u32> {
    let of = |path: &Path| {
        let id: u32 = path.file_name()?.to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        // The name is in brackets and may have anything in it; behind it: state, parent.
        let its_parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()?;
        (its_parent == parent).then_some(id)
    };
    let folder = std::fs::read_dir("/proc").expect("Linux has it");
    folder.filter_map(|entry| of(&entry.ok()?.path())).collect()
}

#[test]
fn a_process_that_was_killed_is_found_to_be_another() {
    let (standin, daemon) = with_workspaces("", "", "2");
    let output = std::thread::scope(|scope| {
        let run = scope.spawn(|| drive_for("4s", &standin, &daemon, &["--verify", "--reconnect", "client"]));
        let mine = |standin: &Standin| children(standin.sink.process.0.id());
        let shells = scale_tests::host::until("two shells", || {
            let shells = mine(&standin);
            (shells.len() == 2).then_some(shells)
        });
        // In the midst of the load, so that there is something to lose.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        for id in shells {
            let sent = std::process::Command::new("kill").args(["-KILL", &id.to_string()]).status();
            assert!(sent.expect("kill runs").success());
        }
        run.join().expect("it ran")
    });
    let (_, report) = output;
    let load = &report.load;
    assert_eq!((load.disconnects.get("terminal_ended"), load.reconnects), (Some(&2), 2), "{load:?}");
    let sessions = load.sessions.clone().expect("terminals have sessions");
    assert_eq!((sessions.same, sessions.new, sessions.bytes_replayed), (0, 2, 0), "{sessions:?}");
    assert_eq!((load.verify_failures, load.unexpected_bytes), (0, 0), "{load:?}");
    standin.end();
}
