//! Caps hold for all of a run together, and for what changes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scale_ring::host::monotonic_now;
use scale_tests::Sink;
use scale_tests::host::{Folder, until};
use scale_tests::server::serve;

use super::{Forbidden, assert_ends, with_list};
use crate::coder::Standin;
use crate::faults::{event, start, stop};

fn list(caps: &str) -> String {
    format!("[[target]]\naddresses = [\"127.0.0.1/32\"]\n{caps}\n")
}

#[test]
fn many_groups_that_pass_a_cap_together_are_refused() {
    let daemon = with_list(&list(
        "streams_max = 100\nbytes_per_second_max = \"500KB/s\"\nconnects_per_second_max = 60",
    ));
    let forbidden = Forbidden::at("127.0.0.1");
    let folder = Folder::new();
    let many = |count: usize, words: &str| {
        let group = |number| {
            format!(
                "[[group]]\nname = \"g{number}\"\ntarget = [\"ws://127.0.0.1:{}/\"]\n{words}\n",
                forbidden.port
            )
        };
        let text: String = (0..count).map(group).collect();
        daemon.scalectl(&["start", "-f", &folder.write("run.toml", &text)])
    };
    let few = "conns = 11\nbytes_per_tick = \"10B\"";
    assert_ends(&many(10, few), 3, "110 were asked for in all", "streams");
    let fast = "conns = 6\nbytes_per_tick = \"1000B\"";
    assert_ends(&many(9, fast), 3, "540,000 B/s were asked for in all", "payload");
    let quick = "conns = 10\nbytes_per_tick = \"10B\"\nconnect_rate = \"10/s\"";
    assert_ends(&many(7, quick), 3, "70/s were asked for in all", "connects");
    let churning = "conns = 1\nbytes_per_tick = \"10B\"\nconnect_rate = \"1/s\"\nchurn = \"15/s\"";
    assert_ends(&many(4, churning), 3, "64/s were asked for in all", "churn");
    let growing =
        "conns = 1\nbytes_per_tick = \"10B\"\n[[group.stage]]\nconns = 30\nover = \"10s\"\nhold = \"1s\"";
    assert_ends(&many(4, growing), 3, "120 were asked for in all", "stages");
    forbidden.assert_nobody_came("groups that pass a cap together");
}

#[test]
fn set_may_no_more_than_start() {
    let daemon = with_list(&list("streams_max = 10\nbytes_per_second_max = \"20KB/s\""));
    let sink = Sink::start(&["--protocol", "ws"]);
    let target = format!("ws://{}/", sink.address);
    start(&daemon, &["--conns", "5", "--target", &target, "--bytes-per-tick", "100"]);
    assert_ends(&daemon.scalectl(&["set", "--conns", "11"]), 3, "10 streams", "more streams");
    assert_ends(&daemon.scalectl(&["set", "--bytes-per-tick", "401"]), 3, "20,000 B/s", "more payload");
    assert_ends(&daemon.scalectl(&["set", "--tick-interval", "10ms"]), 3, "20,000 B/s", "more often");
    let fits = daemon.scalectl(&["set", "--conns", "10", "--bytes-per-tick", "200"]);
    assert!(fits.status.success(), "{}", crate::error(&fits));
    assert_ends(&daemon.scalectl(&["set", "--bytes-per-tick", "201"]), 3, "20,100 B/s", "one more than fits");
    until("ten streams", || (event(&daemon).streams.get("open") == Some(&10)).then_some(()));
    let (code, report) = stop(&daemon);
    scale_tests::assert_ended_with(0, (code, &report));
    assert_eq!(report.load.streams_requested, 10);
}

#[test]
fn a_storm_of_reconnects_keeps_to_the_cap() {
    const CAP: f64 = 40.0;
    let daemon = with_list(&list("connects_per_second_max = 40"));
    let came = Arc::new(AtomicUsize::new(0));
    let counted = came.clone();
    // Drops whoever comes; 100 streams that come back each second make 100 connections of it.
    let address = serve(move |_, stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        drop(stream);
    });
    let target = format!("tcp://{address}");
    let began = monotonic_now();
    start(
        &daemon,
        &["--conns", "100", "--target", &target, "--reconnect", "client:vscode", "--churn", "5/s"],
    );
    until("six seconds' worth", || (came.load(Ordering::Relaxed) > 6 * CAP as usize).then_some(()));
    let said = event(&daemon).warnings;
    assert!(said.iter().any(|warning| warning.contains("new connections instead of")), "{said:?}");
    let (_, report) = stop(&daemon);
    let seconds = monotonic_now().since(began).as_secs_f64();
    let connects = came.load(Ordering::Relaxed) as f64;
    assert!(connects <= CAP * (seconds + 1.0), "{connects} connections in {seconds} s");
    assert!(
        report.warnings.iter().any(|warning| warning.contains("waited for more than a second")),
        "{:?}",
        report.warnings
    );
}

#[test]
fn scenarios_and_flows_keep_to_the_caps_as_runs_do() {
    let standin = Standin::start("build_time = '50ms'\nbuild_jitter = '50ms'\nagent_time = '50ms'\n", "");
    let daemon = with_list(&list("streams_max = 12\nconnects_per_second_max = 20"));
    let make =
        ["create-workspaces", "--template", "minimal", "--count", "20", "--concurrency", "20", "--yes"];
    let (code, _, said) = standin.scalectl(&daemon, &make);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("12 streams") && said.contains("40 were asked for in all"), "{said}");
    let folder = Folder::new();
    let scenario = folder.write(
        "scenario.toml",
        "name = \"x\"\n[create]\ntemplate = \"minimal\"\ncount = 11\nconcurrency = 2\n[[group]]\nname = \"t\"\nduration = \"2s\"\nwarm_up = \"0s\"\n[cleanup]\nwhen = \"always\"\n",
    );
    let (code, _, said) = standin.scalectl(&daemon, &["scenario", "-f", &scenario, "--yes"]);
    assert_eq!(code, 3, "two of twelve are for the scenario's own requests: {said}");
    assert!(said.contains("10 streams") && said.contains("11 were asked for in all"), "{said}");
    // What fits is done, at the pace of the cap: each user has a connection of its own.
    let began = monotonic_now();
    let make = ["create-workspaces", "--template", "minimal", "--count", "30", "--concurrency", "5", "--yes"];
    let (code, _, said) = standin.scalectl(&daemon, &make);
    assert_eq!(code, 0, "{said}");
    assert!(
        monotonic_now().since(began).as_secs_f64() > 1.0,
        "thirty connections at twenty a second take longer"
    );
    standin.end();
}
