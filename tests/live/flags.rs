//! The flags of `start` that decide what flows and when, each seen from the other side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scale_api::report::Report;
use scale_tests::host::Folder;
use scale_tests::server::{Websocket, frame, serve, serve_websocket};
use scale_tests::{Daemon, Sink, assert_ended_with};

use scale_proto::ws::Opcode;

use crate::{error, with};

/// What connections said, by their path.
type Heard = Arc<Mutex<BTreeMap<String, Vec<Vec<u8>>>>>;

/// Echoes, as text where the client speaks text, and keeps what it heard.
fn listening(heard: &Heard) -> String {
    let heard = heard.clone();
    let address = serve_websocket(b"", move |websocket: &mut Websocket| {
        while let Some(message) = websocket.next_message() {
            let opcode = if websocket.text { Opcode::Text } else { Opcode::Binary };
            websocket.send(&frame(opcode, true, &message));
            heard.lock().expect("no panic").entry(websocket.path.clone()).or_default().push(message);
        }
    });
    format!("ws://{address}/{{n}}")
}

fn hear(arguments: &[&str]) -> (Report, BTreeMap<String, Vec<Vec<u8>>>) {
    let heard = Heard::default();
    let target = listening(&heard);
    let (code, report) =
        Daemon::start().run(&with(&[arguments, &["--target", &target, "--verify"]].concat()));
    assert_ended_with(0, (code, &report));
    let heard = heard.lock().expect("no panic").clone();
    assert_eq!(heard.values().map(Vec::len).sum::<usize>() as u64, report.total.messages_sent);
    (report, heard)
}

#[test]
fn the_same_seed_says_the_same_bytes_and_another_says_others() {
    let load = ["--conns", "3", "--bytes-per-tick", "64", "--tick-interval", "500ms"];
    let run = |seed: &'static str| hear(&[&load[..], &["--seed", seed]].concat());
    let ((first, heard), (again, same), (_, other)) = (run("7"), run("7"), run("8"));
    assert_eq!((first.run.seed, again.run.seed, first.spec.seed), (7, 7, Some(7)));
    assert_eq!(heard.keys().collect::<Vec<_>>(), ["/0", "/1", "/2"]);
    for (path, messages) in &heard {
        let both = messages.iter().zip(&same[path]);
        assert!(both.len() >= 4, "{path} says something for 2 s");
        assert!(both.clone().all(|(one, two)| one == two), "{path} repeats itself");
        assert!(messages.iter().zip(&other[path]).all(|(one, two)| one != two), "{path} by another seed");
        assert!(messages.iter().all(|message| message.len() == 64));
    }
    assert_ne!(heard["/0"][0], heard["/1"][0], "two streams are not alike");
}

#[test]
fn text_frames_are_utf_8_and_say_that_they_are_text() {
    let texts = Arc::new(AtomicUsize::new(0));
    let seen = texts.clone();
    let target = serve_websocket(b"", move |websocket| {
        while let Some(message) = websocket.next_message() {
            assert!(websocket.text && std::str::from_utf8(&message).is_ok());
            seen.fetch_add(1, Ordering::SeqCst);
            websocket.send(&frame(Opcode::Text, true, &message));
        }
    });
    let target = format!("ws://{target}/");
    let (code, report) =
        Daemon::start().run(&with(&["--conns", "10", "--target", &target, "--opcode", "text", "--verify"]));
    assert_ended_with(0, (code, &report));
    assert_eq!(texts.load(Ordering::SeqCst) as u64, report.total.messages_sent);
}

#[test]
fn a_message_file_is_every_message_and_a_first_message_comes_before_all_others() {
    let folder = Folder::new();
    let (hello, body) = (folder.write("hello", "hello there"), folder.write("body", "the same again"));
    let (report, heard) = hear(&["--conns", "4", "--message-file", &body, "--first-message", &hello]);
    for messages in heard.values() {
        assert_eq!(messages[0], b"hello there");
        assert!(messages.len() > 10 && messages[1..].iter().all(|message| message == b"the same again"));
    }
    assert_eq!(report.total.payload_bytes_received, report.total.payload_bytes_sent);
    let first = 4 * "hello there".len() as u64;
    assert_eq!((report.total.payload_bytes_sent - first) % "the same again".len() as u64, 0);
}

#[test]
fn weights_split_the_streams_and_the_report_says_how() {
    let (three, one) = (Sink::start(&["--protocol", "ws"]), Sink::start(&["--protocol", "tcp"]));
    let (heavy, light) = (format!("ws://{}/a,3", three.address), format!("tcp://{}", one.address));
    let (code, report) =
        Daemon::start().run(&with(&["--conns", "200", "--target", &heavy, "--target", &light]));
    assert_ended_with(0, (code, &report));
    let part = |name: &str| report.targets.iter().find(|part| part.name.starts_with(name)).expect("a part");
    let (ws, tcp) = (part("ws://"), part("tcp://"));
    let streams = |load: &scale_api::report::Load| {
        (load.streams_requested, load.streams_opened, load.streams_open_at_end)
    };
    assert_eq!((streams(&ws.load), streams(&tcp.load)), ((150, 150, 150), (50, 50, 50)));
    assert!(ws.latency.upgrade.is_some() && tcp.latency.upgrade.is_none());
    assert_eq!(ws.load.messages_sent + tcp.load.messages_sent, report.load.messages_sent);
    assert_eq!(
        (three.counts()["connections"].as_u64(), one.counts()["connections"].as_u64()),
        (Some(150), Some(50))
    );
}

#[test]
fn churn_replaces_streams_in_order_and_loses_nothing() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let target = format!("ws://{}/", sink.address);
    let (code, report) = Daemon::start().run(&with(&[
        "--conns",
        "40",
        "--target",
        &target,
        "--churn",
        "20/s",
        "--tick-interval",
        "200ms",
        "--verify",
        // A stream that is being replaced just now misses its tick, which is no lost load.
        "--threshold",
        "load.delivered_ratio > 80%",
    ]));
    let load = &report.load;
    assert_ended_with(0, (code, &report));
    assert!((30..=41).contains(&load.replaced), "20 a second for 2 s: {load:?}");
    assert!(
        load.disconnects.is_empty() && load.connect_failures.is_empty() && load.reconnects == 0,
        "{load:?}"
    );
    assert_eq!((load.streams_requested, load.streams_opened), (40, 40));
    assert_eq!((load.verify_failures, report.total.payload_bytes_open, load.messages_unanswered), (0, 0, 0));
    let counts = sink.counts();
    assert_eq!(counts["connections"], 40 + load.replaced);
    assert_eq!(counts["payload_bytes_received"], report.total.payload_bytes_sent);
}

/// Upgrades each connection 100 ms after its request; the most that waited at once.
fn slow_to_upgrade() -> (String, Arc<AtomicUsize>) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    let address = serve(move |number, stream| {
        seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        now.fetch_sub(1, Ordering::SeqCst);
        if let Some(mut websocket) = Websocket::accept(number, stream, b"") {
            websocket.echo();
        }
    });
    (format!("ws://{address}/"), most)
}

#[test]
fn concurrency_bounds_the_connects_under_way_of_all_workers_together() {
    let daemon = Daemon::start();
    let plan =
        daemon.scalectl(&["--json", "start", "--conns", "1", "--target", "ws://127.0.0.1:9/", "--dry-run"]);
    let plan: scale_api::http::PlanSummary = serde_json::from_slice(&plan.stdout).expect("JSON");
    // Each worker has one at least.
    let limit = plan.streams_per_core.len().max(3);
    let (target, most) = slow_to_upgrade();
    let conns = ["--conns", "20", "--target", &target, "--ramp", "0s"];
    let (code, report) = daemon.run(&with(&[&conns[..], &["--concurrency", &limit.to_string()]].concat()));
    assert_eq!((report.load.streams_opened, most.load(Ordering::SeqCst)), (20, limit), "exit code {code}");
    // Streams that are replaced or come back wait for room, too.
    let (target, most) = slow_to_upgrade();
    let limited =
        ["--conns", "20", "--target", &target, "--concurrency", &limit.to_string(), "--churn", "100/s"];
    let (_, report) = daemon.run(&with(&limited));
    assert!(report.load.replaced > 20 && most.load(Ordering::SeqCst) <= limit, "{:?}", report.load);
    let (target, most) = slow_to_upgrade();
    let conns = ["--conns", "20", "--target", &target, "--ramp", "0s"];
    daemon.run(&with(&[&conns[..], &["--concurrency", "0"]].concat()));
    assert!(most.load(Ordering::SeqCst) > limit, "0 is no limit");
}

#[test]
fn a_ramp_and_a_connect_rate_open_streams_evenly() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let target = format!("ws://{}/", sink.address);
    let daemon = Daemon::start();
    for pace in [["--ramp", "2s"], ["--connect-rate", "50/s"]] {
        let times = ["--warm-up", "0s", "--duration", "1s", "--drain", "2s", "--tick-interval", "500ms"];
        let conns = ["--conns", "100", "--target", &target];
        let (code, report) = daemon.run(&[&conns[..], &pace, &times].concat());
        assert_ended_with(0, (code, &report));
        let connects: Vec<u64> = report.series.iter().map(|row| row.connects).take(2).collect();
        assert!(connects.iter().all(|n| (40..=60).contains(n)), "{pace:?}: {connects:?}");
        assert_eq!(report.load.streams_opened, 100);
    }
}

/// The part of a tick of 500 ms in which 40 streams' messages reach the sink, in ms.
fn width(offset: &str) -> u64 {
    const TICK_MS: u64 = 500;
    let folder = Folder::new();
    let file = folder.path("times.csv").display().to_string();
    let sink = Sink::start(&["--protocol", "ws", "--times", &file]);
    let target = format!("ws://{}/", sink.address);
    let (code, report) = Daemon::start().run(&with(&[
        "--conns",
        "40",
        "--target",
        &target,
        "--tick-interval",
        "500ms",
        "--tick-offset",
        offset,
    ]));
    assert_ended_with(0, (code, &report));
    sink.counts();
    let text = std::fs::read_to_string(file).expect("times");
    let received = text.lines().skip(1).map(|line| {
        line.split(',').nth(2).and_then(|ns| ns.parse::<u64>().ok()).expect("a time in ns") / 1_000_000
    });
    let mut phases: Vec<u64> = received.map(|ms| ms % TICK_MS).collect();
    phases.sort_unstable();
    assert_eq!(phases.len() as u64, report.total.messages_sent);
    // What is left of the circle without its widest gap; a few late messages are a busy machine's.
    let around = phases[0] + TICK_MS;
    let gaps = phases.windows(2).map(|two| two[1] - two[0]);
    TICK_MS - gaps.chain([around - phases[phases.len() - 1]]).max().expect("phases")
}

#[test]
fn aligned_streams_send_together_and_others_over_the_whole_tick() {
    let (aligned, spread, random) = (width("aligned"), width("spread"), width("random"));
    assert!(aligned < 250, "aligned: {aligned} ms of 500");
    assert!(spread > 400 && random > 350, "spread: {spread} ms, random: {random} ms of 500");
}

#[test]
fn a_browser_comes_back_after_two_seconds_and_vs_code_at_once() {
    // At ten ticks a second, five streams miss those of two seconds each, or what is left of the first: whoever is
    // dropped at its first message waits that long.
    for (word, named, missed) in
        [("client", "client:web-terminal", 95..=120), ("client:vscode", "client:vscode", 40..=65)]
    {
        let target = serve_websocket(b"", |websocket| {
            if websocket.number < 5 {
                drop(websocket.next_message());
            } else {
                websocket.echo();
            }
        });
        let target = format!("ws://{target}/");
        let daemon = Daemon::start();
        let arguments =
            ["--conns", "5", "--target", &target, "--reconnect", word, "--tick-interval", "100ms"];
        let times = ["--warm-up", "0s", "--duration", "4s", "--drain", "2s"];
        let (code, report) = daemon.run(&[&arguments[..], &times].concat());
        assert_ended_with(99, (code, &report));
        let load = &report.load;
        assert_eq!(
            (load.reconnects, load.disconnects.values().sum::<u64>(), load.streams_open_at_end),
            (5, 5, 5)
        );
        assert!(missed.contains(&load.ticks_missed.disconnected), "{word}: {load:?}");
        assert_eq!(report.spec.group[0].reconnect.to_string(), named);
    }
}

#[test]
fn thresholds_decide_and_stand_in_the_report_with_what_was_measured() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let target = format!("ws://{}/", sink.address);
    let daemon = Daemon::start();
    let run = |expressions: &[&str]| {
        let mut arguments = vec!["--conns", "10", "--target", &target];
        arguments.extend(expressions.iter().flat_map(|expression| ["--threshold", expression]));
        daemon.run(&with(&arguments))
    };
    let (code, report) =
        run(&["response.p50 < 5s", "main.load.delivered_ratio > 0.5", "connect.count == 10"]);
    assert_ended_with(0, (code, &report));
    assert!(report.verdict.thresholds.iter().all(|it| it.ok && it.value.is_some()), "{:?}", report.verdict);
    let (code, report) = run(&["response.p50 < 1us", "tls.p50 < 5s"]);
    assert_ended_with(99, (code, &report));
    let (slow, none) = (&report.verdict.thresholds[0], &report.verdict.thresholds[1]);
    assert_eq!((slow.ok, slow.value), (false, report.latency.response.as_ref().map(|it| it.p50)));
    assert_eq!((none.ok, none.value), (false, None), "what has no value is not met");
    assert!(report.verdict.reasons.iter().any(|why| why.contains("response.p50 < 1us")));
}

#[test]
fn names_labels_and_defaults_are_kept_and_a_dry_run_of_everything_starts_nothing() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let target = format!("ws://{}/{{n}}?key=canary", sink.address);
    let daemon = Daemon::start();
    let all = [
        "--conns",
        "10",
        "--target",
        &target,
        "--name",
        "a \"name\"",
        "--label",
        "who=me",
        "--label",
        "k=v=w",
        "--rate",
        "40KB/s",
        "--tick-offset",
        "random",
        "--connect-rate",
        "100/s",
        "--concurrency",
        "5",
        "--reconnect",
        "backoff",
        "--churn",
        "1/s",
        "--verify",
        "--subprotocol",
        "x",
        "--opcode",
        "text",
        "--source",
        "127.0.0.1",
        "--sndbuf",
        "64KiB",
        "--rcvbuf",
        "64KiB",
        "--threshold",
        "connect.p99 < 9s",
    ];
    let output = daemon.scalectl(&[&["--json", "start", "--dry-run"][..], &with(&all)].concat());
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let plan: scale_api::http::PlanSummary = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(plan.lines[0], "main: 10 streams, 4,000 B x 10/s = 40.0 KB/s a stream each way");
    assert_eq!(
        (plan.streams_per_core.iter().sum::<u64>(), plan.source_ports, plan.cannot.len()),
        (10, 10, 0)
    );
    assert_eq!((plan.messages_per_second, plan.bytes_per_second), (100.0, 400_000.0));
    // A socket's buffers are counted twice, as the kernel does.
    assert!(plan.memory_bytes >= 10 * 4 * 65_536 && plan.memory_bytes < 10 * 5 * 65_536, "{plan:?}");
    assert_eq!(String::from_utf8_lossy(&daemon.scalectl(&["--json", "runs"]).stdout).trim(), "[]");
    let short = [
        "--conns",
        "10",
        "--target",
        &target,
        "--name",
        "a \"name\"",
        "--label",
        "who=me",
        "--label",
        "k=v=w",
    ];
    let (code, report) = daemon.run(&with(&short));
    assert_ended_with(0, (code, &report));
    assert_eq!(report.run.name.as_deref(), Some("a \"name\""));
    assert_eq!(report.run.labels, BTreeMap::from([("k".into(), "v=w".into()), ("who".into(), "me".into())]));
    let group = &report.spec.group[0];
    assert_eq!(group.bytes_per_tick.map(|bytes| bytes.0), Some(4096));
    assert_eq!(group.connect_timeout.map(|span| span.to_string()).as_deref(), Some("10s"));
    assert_eq!(report.spec.seed, Some(report.run.seed));
    assert!(!serde_json::to_string(&report).expect("JSON").contains("canary"), "a query is nobody's to read");
}
