//! The report's keys: all there, and parts that add up to the whole.

use scale_api::report::{Load, Part, Report};
use scale_tests::host::Folder;
use scale_tests::{Daemon, Sink, assert_ended_with};
use serde_json::Value;

use crate::assert_every_tick_is_accounted_for;

/// Two groups that overlap: echo over two targets, and one that only writes, joins later and grows.
fn two_groups(folder: &Folder, sinks: [&Sink; 3]) -> String {
    let [first, second, third] = sinks.map(|sink| &sink.address);
    let text = format!(
        r#"
name = "figures"
seed = 11
[labels]
who = "a test"
[[group]]
name = "talk"
target = ["ws://{first}/a,2", "ws://{second}/b"]
conns = 30
tick_interval = "200ms"
bytes_per_tick = "100B"
ramp = "300ms"
warm_up = "700ms"
duration = "4s"
drain = "5s"
verify = true
[[group]]
name = "write"
target = ["ws://{third}/c", "ws://{first}/a"]
traffic = "discard"
conns = 10
rate = "10KB/s"
start = "1s"
ramp = "0s"
warm_up = "1s"
drain = "5s"
[[group.stage]]
hold = "2s"
[[group.stage]]
conns = 20
rate = "20KB/s"
over = "1s"
hold = "2s"
[environment]
name = "here"
"#
    );
    folder.write("run.toml", &text)
}

/// Every key of `wanted` is in `value`.
#[track_caller]
fn assert_keys(value: &Value, wanted: &str) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    for key in wanted.split_whitespace() {
        assert!(object.contains_key(key), "{key} is missing in {:?}", object.keys());
    }
}

const LOAD: &str = "streams_requested streams_opened streams_open_at_end connect_failures disconnects
    reconnects replaced sessions ticks_due ticks_sent ticks_missed delivered_ratio echoed_ratio messages_sent messages_echoed
    messages_unanswered payload_bytes_sent payload_bytes_received wire_bytes_sent wire_bytes_received
    rate_offered rate_sent rate_received verify_failures unexpected_bytes";
const LATENCY: &str = "connect tls upgrade banner key_exchange authentication channel
    first_byte lateness service response reconnect";

fn assert_every_key(report: &Value) {
    assert_keys(
        report,
        "schema run spec verdict load total latency groups targets stages fairness generator marks
            server_versions server_changes series host ssh",
    );
    assert_eq!(report["schema"], 1);
    assert_keys(&report["run"], "id name labels started_at ended_at seed version kernel environment");
    assert_keys(&report["verdict"], "outcome exit_code reasons thresholds");
    assert_keys(
        &report["total"],
        "messages_sent messages_echoed payload_bytes_sent payload_bytes_received wire_bytes_sent wire_bytes_received",
    );
    let parts = ["groups", "targets", "stages"].map(|name| report[name].as_array().expect("a list").clone());
    for part in [report.clone()].iter().chain(parts.iter().flatten()) {
        assert_keys(&part["load"], LOAD);
        assert_keys(&part["load"]["ticks_missed"], "generator backpressure disconnected");
        assert_keys(&part["latency"], LATENCY);
    }
    for figure in ["connect", "upgrade", "lateness", "service", "response"] {
        assert_keys(&report["latency"][figure], "count min mean p50 p90 p99 p999 p9999 max");
    }
    assert_keys(&report["fairness"], "worst_streams throughput_min_over_mean jain");
    assert_keys(&report["fairness"]["worst_streams"][0], "stream target response_p99 bytes stalls");
    assert_keys(
        &report["generator"],
        "saturated saturated_seconds workers cpu_seconds_user cpu_seconds_system cpu_us_per_message rss_peak rss_per_stream source_ports_skipped",
    );
    assert_keys(&report["generator"]["workers"][0], "cpu streams busy_mean busy_max turn_p99 turn_max");
    assert_keys(
        &report["series"][0],
        "at stage streams_open rate_offered rate_sent rate_received lateness_p99 response_p99 busy_max saturated",
    );
    assert_keys(&report["host"][0], "name status value source remedy");
}

/// The counters that add up.
fn counters(load: &Load) -> [u64; 15] {
    [
        load.ticks_due,
        load.ticks_sent,
        load.ticks_missed.generator,
        load.ticks_missed.backpressure,
        load.ticks_missed.disconnected,
        load.messages_sent,
        load.messages_echoed,
        load.messages_unanswered,
        load.payload_bytes_sent,
        load.payload_bytes_received,
        load.wire_bytes_sent,
        load.wire_bytes_received,
        load.streams_requested,
        load.streams_opened,
        load.streams_open_at_end,
    ]
}

fn sum<'a>(parts: impl IntoIterator<Item = &'a Part>) -> [u64; 15] {
    parts.into_iter().fold([0; 15], |mut sum, part| {
        sum.iter_mut().zip(counters(&part.load)).for_each(|(sum, n)| *sum += n);
        sum
    })
}

#[track_caller]
fn assert_near(value: Option<f64>, wanted: f64, share: f64) {
    let value = value.expect("a value");
    assert!((value - wanted).abs() <= wanted * share, "{value}, and not about {wanted}");
}

#[test]
fn parts_of_a_report_add_up_to_the_whole_and_every_key_is_there() {
    let folder = Folder::new();
    let (first, second) = (Sink::start(&["--protocol", "ws"]), Sink::start(&["--protocol", "ws"]));
    let third = Sink::start(&["--protocol", "ws", "--traffic", "discard"]);
    let file = two_groups(&folder, [&first, &second, &third]);
    let daemon = Daemon::start();
    let (code, report) = daemon.run(&["--file", &file]);
    // The first sink echoes what the second group only writes: bytes that nobody expected there.
    assert_ended_with(0, (code, &report));
    let kept: Value = serde_json::from_slice(&daemon.scalectl(&["--json", "report"]).stdout).expect("JSON");
    assert_every_key(&kept);
    assert_eq!(serde_json::from_value::<Report>(kept).expect("a report"), report, "kept as it was told");
    assert_every_tick_is_accounted_for(&report.load);
    let whole = counters(&report.load);
    assert_eq!(sum(&report.groups), whole, "groups");
    assert_eq!(sum(&report.targets), whole, "targets");
    // Stages follow one another over the same streams.
    assert_eq!(sum(&report.stages)[..12], whole[..12], "stages");
    let names = |parts: &[Part]| parts.iter().map(|part| part.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&report.groups), ["talk", "write"]);
    assert_eq!(names(&report.stages), ["talk/1", "write/1", "write/2"]);
    let urls = [(&first, "a"), (&second, "b"), (&third, "c")];
    let urls = urls.map(|(sink, path)| format!("ws://{}/{path}", sink.address));
    assert_eq!(names(&report.targets), urls, "a target of two groups is one");
    let streams =
        |part: &Part| [part.load.streams_requested, part.load.streams_opened, part.load.streams_open_at_end];
    assert_eq!(report.groups.iter().map(streams).collect::<Vec<_>>(), [[30; 3], [20; 3]]);
    assert_eq!(report.targets.iter().map(streams).collect::<Vec<_>>(), [[30; 3], [10; 3], [10; 3]]);
    assert_eq!(report.stages.iter().map(streams).collect::<Vec<_>>(), [[30; 3], [10; 3], [20; 3]]);
    each_group_has_its_own_meaning(&report);
    the_series_says_which_stages_count(&report);
    let total = &report.total;
    let received = |sink: Sink| sink.counts()["payload_bytes_received"].as_u64().expect("a number");
    assert_eq!(received(first) + received(second) + received(third), total.payload_bytes_sent);
    assert!(total.payload_bytes_sent > report.load.payload_bytes_sent, "the warm-up is in the total alone");
}

fn each_group_has_its_own_meaning(report: &Report) {
    let (talk, write) = (&report.groups[0], &report.groups[1]);
    // 30 streams for 4 s at 5/s; 10 streams for 2 s at 10/s, which go on for 3 s beside 10 that
    // come within the first of these.
    assert_eq!((talk.load.ticks_due, report.stages[1].load.ticks_due), (600, 200));
    assert!(
        (300 + 200..=300 + 300).contains(&report.stages[2].load.ticks_due),
        "{:?}",
        report.stages[2].load
    );
    assert_eq!(write.load.ticks_missed.disconnected, 0, "what has yet to come misses nothing");
    assert_eq!(
        (talk.load.echoed_ratio, write.load.echoed_ratio, report.load.echoed_ratio),
        (Some(1.0), None, Some(1.0))
    );
    assert!(talk.latency.response.is_some() && write.latency.response.is_none());
    assert_eq!(report.latency.response, talk.latency.response);
    assert!(report.latency.tls.is_none());
    assert_near(talk.load.rate_offered, 30.0 * 500.0, 0.02);
    assert_near(talk.load.rate_received, 30.0 * 500.0, 0.05);
    assert_near(report.stages[1].load.rate_offered, 10.0 * 10_000.0, 0.02);
    // `over` one second from 10 to 20 KB/s, in steps of a second, then 20 for two.
    assert_near(report.stages[2].load.rate_offered, 20.0 * 50_000.0 / 3.0, 0.15);
    // Steady from 1 s to 5 s, and from 2 s to 7 s: six seconds in all.
    let bytes = report.load.payload_bytes_sent as f64;
    assert_near(report.load.rate_sent, bytes / 6.0, 0.02);
}

fn the_series_says_which_stages_count(report: &Report) {
    let stages: Vec<&str> = report.series.iter().map(|row| row.stage.as_str()).collect();
    let mut seen: Vec<&str> = stages.clone();
    seen.dedup();
    assert!(["ramping", "warm-up"].contains(&seen[0]) || seen[0] == "talk/1", "{stages:?}");
    for wanted in ["talk/1 write/1", "talk/1 write/2", "write/2"] {
        assert!(seen.contains(&wanted), "{wanted}: {stages:?}");
    }
    assert!(report.series.iter().enumerate().all(|(n, row)| row.at == (n + 1) as f64), "a row a second");
    let sent: u64 = report.series.iter().map(|row| row.messages_sent).sum();
    assert_eq!(sent, report.total.messages_sent);
}

#[test]
fn what_has_no_value_is_null_and_what_was_due_was_offered_all_the_same() {
    let (code, report) =
        Daemon::start().run(&crate::with(&["--conns", "5", "--target", "ws://127.0.0.1:9/"]));
    assert_ended_with(99, (code, &report));
    let load = &report.load;
    // The run ends early, for no stream is left that could carry anything.
    assert_eq!((load.streams_requested, load.streams_opened, load.ticks_sent), (5, 0, 0));
    assert_eq!(
        (load.echoed_ratio, report.latency.response.is_none(), report.latency.connect.is_none()),
        (None, true, true)
    );
    if load.ticks_due > 0 {
        assert_eq!(load.delivered_ratio, Some(0.0));
        assert!(load.rate_offered > Some(0.0), "{load:?}");
    } else {
        assert_eq!(load.delivered_ratio, None);
    }
    assert_eq!(report.generator.cpu_us_per_message, None);
    assert_eq!(report.targets[0].load.streams_requested, 5);
}
