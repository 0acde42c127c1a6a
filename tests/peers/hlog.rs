//! Histogram logs, read by another implementation of the format: `hdr-histogram-js` on Node.js.

use std::path::Path;
use std::process::Command;

use scale_api::report::Latency;
use scale_tests::host::{Folder, in_repository, installed, root};
use scale_tests::{Daemon, Sink, assert_ended_with};
use serde_json::Value;

/// The module, where `tests/peers.sh` has put it.
const MODULE: &str = "tests/.peers/node_modules/hdr-histogram-js";

/// What it finds in a log.
fn read(node: &Path, log: &Path) -> Value {
    let mut command = Command::new(node);
    command
        .arg(root().join("tests/peers/hlog.js"))
        .arg(log)
        .env("NODE_PATH", root().join("tests/.peers/node_modules"));
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn assert_is(found: &Value, latency: &Latency, name: &str) {
    let figure = latency.figure(name).expect("it was measured");
    assert_eq!(found["count"], figure.count, "{name}");
    let seconds = |value: &Value| value.as_f64().expect("a number") / 1e6;
    for (word, value) in
        [("p50", figure.p50), ("p90", figure.p90), ("p99", figure.p99), ("p999", figure.p999)]
    {
        let both = found[word].as_array().expect("two values");
        assert!(both.iter().any(|read| seconds(read) == value), "{name}.{word}: {value}, and {both:?}");
    }
    assert_eq!(seconds(&found["max"]), figure.max, "{name}.max");
}

#[test]
fn histogram_logs_are_read_by_others_and_say_what_the_report_says() {
    let (Some(node), Some(_)) = (installed("node"), in_repository(MODULE)) else { return };
    let (sink, folder, daemon) = (Sink::start(&["--protocol", "ws"]), Folder::new(), Daemon::start());
    let group = |name: &str, rest: &str| {
        format!(
            "[[group]]\nname = \"{name}\"\ntarget = [\"ws://{}/\"]\nwarm_up = \"1s\"\n{rest}",
            sink.address
        )
    };
    // Longer than an interval, and a group that ends before the other.
    let text =
        group("long", "conns = 20\nduration = \"11s\"\n") + &group("short", "conns = 7\nduration = \"2s\"\n");
    let (code, report) = daemon.run(&["--file", &folder.write("run.toml", &text)]);
    assert_ended_with(0, (code, &report));
    let kept = daemon.state().join(&report.run.id);
    for figure in ["response", "service", "lateness", "connect"] {
        let read = read(&node, &kept.join(format!("{figure}.hlog")));
        assert!(figure == "connect" || read["intervals"].as_u64() >= Some(5), "{figure}: {read}");
        assert_is(&read["found"][""], &report.latency, figure);
        for group in &report.groups {
            assert_is(&read["found"][&group.name], &group.latency, figure);
        }
    }
}
