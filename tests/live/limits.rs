//! A sink with a known limit: each kind breaks by its own figure, and by no other.

use std::collections::BTreeMap;
use std::process::Command;

use scale_api::report::{Figure, Report};
use scale_tests::{Daemon, Sink, program};
use serde_json::Value;

/// `conns` streams of ten messages a second against a sink with this limit: the report, and what its limits came to.
fn run(limit: &str, conns: u32) -> (Report, Value) {
    let sink = Sink::start(&["--protocol", "ws", "--limit", limit]);
    let target = format!("ws://{}/", sink.address);
    let conns = conns.to_string();
    let load = ["--target", &target, "--conns", &conns, "--bytes-per-tick", "64", "--tick-interval", "100ms"];
    let times = ["--warm-up", "0s", "--duration", "4s", "--drain", "5s"];
    let (_, report) = Daemon::start().run(&[&load[..], &times].concat());
    let counts = sink.counts();
    (report, counts["limits"].clone())
}

fn classes(class: &str, count: &Value) -> BTreeMap<String, u64> {
    BTreeMap::from([(class.to_owned(), count.as_u64().expect("a count"))])
}

fn response(report: &Report, of: fn(&Figure) -> f64) -> f64 {
    of(report.latency.response.as_ref().expect("messages came back"))
}

#[test]
fn a_rate_closes_streams_until_the_rest_keeps_it() {
    let (report, limits) = run("rate=400/s", 50);
    assert_eq!(report.load.disconnects, classes("close_frame", &limits["closed_by_rate"]), "{limits}");
    // 500 a second came; each stream that goes takes ten along.
    let closed = limits["closed_by_rate"].as_u64().expect("a count");
    assert!((5..=15).contains(&closed), "{closed} closed, where 10 are enough");
    assert!(report.load.connect_failures.is_empty() && response(&report, |times| times.p50) < 0.1);
}

#[test]
fn connections_above_the_most_are_answered_503_and_the_others_go_on() {
    let (report, limits) = run("conns=40", 50);
    let load = &report.load;
    assert_eq!(
        (load.streams_opened, load.connect_failures.clone()),
        (40, classes("http_503", &limits["refused"]))
    );
    assert_eq!((limits["refused"].as_u64(), limits["open_max"].as_u64()), (Some(10), Some(40)));
    assert!(load.disconnects.is_empty() && load.messages_echoed == load.messages_sent, "{load:?}");
}

#[test]
fn a_queue_makes_answers_later_and_later_and_loses_none() {
    let (report, limits) = run("queue=400/s", 50);
    let load = &report.load;
    assert_eq!((load.messages_echoed, load.disconnects.len()), (load.messages_sent, 0), "{load:?}");
    // A fifth too much for 4 s, and what waited when steady state began.
    let (longest, waited) =
        (response(&report, |times| times.max), limits["queue_ns_max"].as_f64().expect("ns") / 1e9);
    assert!(waited > 0.7 && (longest - waited).abs() < 0.3, "{longest} s here, {waited} s in the queue");
}

#[test]
fn a_knee_bends_above_its_number_of_streams() {
    let median = |conns| response(&run("knee=40", conns).0, |times| times.p50);
    let (below, above) = (median(40), median(42));
    assert!((0.004..0.08).contains(&below), "5 ms are the base: {below} s");
    assert!((0.104..0.18).contains(&above), "5 % above it 100 ms come on top: {above} s");
}

#[test]
fn above_its_number_of_streams_it_drops_some_and_then_no_more() {
    let (report, limits) = run("drop=40,share=10%,every=500ms", 44);
    assert_eq!(limits["dropped"], 4, "{limits}");
    assert_eq!(report.load.disconnects, classes("reset", &limits["dropped"]));
    assert_eq!(report.load.streams_open_at_end, 40);
}

#[test]
fn what_is_no_limit_is_refused_with_what_to_change() {
    for (arguments, word) in [
        ("--protocol ws --limit speed=5", "rate=, conns=, queue=, knee= or drop="),
        ("--protocol ws --limit conns=5 --limit conns=6", "conns is there twice"),
        ("--protocol tcp --limit conns=5", "--protocol ws or wss"),
        ("--protocol ws --traffic discard --limit conns=5", "--traffic echo"),
        ("--protocol ws --cores 0,0 --limit conns=5", "one core"),
    ] {
        let output = Command::new(program("scale-sink"))
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments.split(' '))
            .output()
            .expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(word), "{arguments}: {error}");
    }
}
