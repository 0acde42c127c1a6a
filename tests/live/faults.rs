//! What goes wrong at the target, its class, and how the run ends.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use scale_api::report::{Event, Report};
use scale_proto::ws::Opcode;
use scale_tests::certificate::Certificate;
use scale_tests::host::{Folder, until};
use scale_tests::server::{Said, frame, serve, serve_tls_handshakes, serve_websocket};
use scale_tests::{Daemon, Sink, assert_ended_with};

use crate::{assert_every_tick_is_accounted_for, error};

const SELDOM: [&str; 8] =
    ["--tick-interval", "500ms", "--warm-up", "500ms", "--duration", "3s", "--drain", "5s"];

fn classes<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(class, count)| (class.to_owned(), count)).collect()
}

/// Starts a run that goes on until it is stopped.
pub fn start(daemon: &Daemon, arguments: &[&str]) {
    let forever = ["start", "--detach", "--warm-up", "0s", "--duration", "forever"];
    let output = daemon.scalectl(&[&forever, arguments].concat());
    assert!(output.status.success(), "{}", error(&output));
}

/// The going run's last second.
pub fn event(daemon: &Daemon) -> Event {
    let output = daemon.scalectl(&["--json", "status"]);
    let status: scale_api::http::Status = serde_json::from_slice(&output.stdout).expect("JSON");
    status.run.expect("a run is going")
}

pub fn stop(daemon: &Daemon) -> (i32, Report) {
    let output = daemon.scalectl(&["--json", "stop"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_else(|| panic!("{}", error(&output)));
    (output.status.code().expect("an exit code"), serde_json::from_str(last).expect("a report"))
}

/// Takes one message from every tenth connection and drops it; echoes on the others.
fn drops_every_tenth() -> String {
    serve_websocket(b"", |websocket| {
        if websocket.number % 10 == 9 {
            drop(websocket.next_message());
        } else {
            websocket.echo();
        }
    })
}

#[test]
fn streams_that_the_server_drops_are_disconnects_and_their_ticks_are_missed() {
    let target = format!("ws://{}/", drops_every_tenth());
    let arguments = [&["--conns", "50", "--target", &target][..], &SELDOM].concat();
    let (code, report) = Daemon::start().run(&arguments);
    let (load, total) = (&report.load, &report.total);
    assert_ended_with(99, (code, &report));
    assert_every_tick_is_accounted_for(load);
    assert!(load.connect_failures.is_empty(), "{load:?}");
    // With something of ours still unread the kernel says RST instead of FIN.
    assert!(load.disconnects.keys().all(|class| class == "closed" || class == "reset"), "{load:?}");
    assert_eq!(load.disconnects.values().sum::<u64>(), 5);
    assert_eq!((load.streams_opened, load.streams_open_at_end, load.reconnects), (50, 45, 0));
    assert!(report.warnings.is_empty(), "its end is no early one: {:?}", report.warnings);
    assert!(load.ticks_missed.disconnected > 0 && load.delivered_ratio < Some(0.99));
    assert!(total.payload_bytes_open >= 5 * 4096 && total.messages_echoed + 5 <= total.messages_sent);
    assert_eq!(total.payload_bytes_sent - total.payload_bytes_received, total.payload_bytes_open);
}

#[test]
fn dropped_streams_come_back_where_that_is_asked_for() {
    let target = format!("ws://{}/", drops_every_tenth());
    let daemon = Daemon::start();
    start(
        &daemon,
        &["--conns", "50", "--target", &target, "--tick-interval", "500ms", "--reconnect", "backoff"],
    );
    until("five streams to be lost and all to be open", || {
        let event = event(&daemon);
        let lost: u64 = event.disconnects.values().sum();
        (lost == 5 && event.streams["open"] == 50).then_some(())
    });
    let (code, report) = stop(&daemon);
    let load = &report.load;
    // How much the gaps come to depends on how long the run was.
    let delivered = load.delivered_ratio.expect("ticks") >= 0.99 && load.echoed_ratio >= Some(0.99);
    assert_ended_with(if delivered { 0 } else { 99 }, (code, &report));
    assert_every_tick_is_accounted_for(load);
    assert_eq!((load.reconnects, load.streams_opened, load.streams_open_at_end), (5, 50, 50));
}

#[test]
fn a_target_that_drops_everybody_over_and_over_sees_no_storm_of_reconnects() {
    const RATE: u64 = 40;
    let sink = Sink::start(&["--protocol", "ws", "--close-after", "500ms"]);
    let target = format!("ws://{}/", sink.address);
    let rate = format!("{RATE}/s");
    let arguments = ["--conns", "200", "--target", &target, "--connect-rate", &rate];
    let more = ["--reconnect", "backoff", "--tick-interval", "500ms", "--warm-up", "0s", "--duration", "4s"];
    let (_, report) = Daemon::start().run(&[&arguments[..], &more, &["--drain", "1s"]].concat());
    let attempts = |row: &scale_api::report::SeriesRow| row.connects + row.connect_failures;
    // While the ramp lasts its own connects come on top.
    let ramped = report.series.iter().filter(|row| row.at > 6.0).map(attempts).collect::<Vec<_>>();
    assert!(report.load.reconnects > RATE, "streams came back: {:?}", report.load);
    // A second's border falls anywhere between two connects, on each worker.
    assert!(ramped.iter().all(|&each| each <= RATE + RATE / 10), "{ramped:?}");
}

#[test]
fn frames_that_rfc_6455_forbids_are_told_so_and_end_the_stream() {
    let cases: [(&str, u16, Vec<u8>); 8] = [
        ("reserved bits", 1002, vec![0xF2, 1, 0]),
        ("an unknown opcode", 1002, vec![0x83, 0]),
        ("a mask", 1002, vec![0x82, 0x81, 1, 2, 3, 4, 5]),
        ("a continuation of nothing", 1002, frame(Opcode::Continuation, true, b"x")),
        ("a ping in fragments", 1002, frame(Opcode::Ping, false, b"x")),
        (
            "a message within another",
            1002,
            [frame(Opcode::Binary, false, b"x"), frame(Opcode::Text, true, b"y")].concat(),
        ),
        ("no UTF-8", 1007, frame(Opcode::Text, true, &[0xC3, 0x28])),
        ("a Close of one byte", 1002, vec![0x88, 1, 3]),
    ];
    let daemon = Daemon::start();
    for (what, code, bytes) in cases {
        let (say, heard) = channel();
        let say = Mutex::new(say);
        let target = serve_websocket(b"", move |websocket| {
            let _ = websocket.next_message();
            websocket.send(&bytes);
            let close = loop {
                match websocket.hear() {
                    Some(Said::Close(code)) => break code,
                    Some(_) => {}
                    None => break None,
                }
            };
            say.lock().expect("whole").send(close).expect("the test listens");
        });
        let target = format!("ws://{target}/");
        let (exit, report) = daemon.run(&[&["--conns", "4", "--target", &target][..], &SELDOM].concat());
        assert_ended_with(99, (exit, &report));
        assert_eq!(report.load.disconnects, classes([("ws_protocol", 4)]), "{what}");
        assert!(report.load.connect_failures.is_empty(), "{what}: {:?}", report.load);
        let closes: Vec<_> = heard.iter().take(4).collect();
        assert_eq!(closes, [Some(code); 4], "{what}");
    }
}

#[test]
fn garbage_right_behind_the_101_fails_the_stream() {
    let target = serve_websocket(b"\xFFgarbage\x00", |websocket| while websocket.hear().is_some() {});
    let target = format!("ws://{target}/");
    let (code, report) = Daemon::start().run(&[&["--conns", "4", "--target", &target][..], &SELDOM].concat());
    assert_ended_with(99, (code, &report));
    // Whether the stream was open for a moment depends on how TCP cut the bytes.
    let mut all = report.load.connect_failures.clone();
    report.load.disconnects.iter().for_each(|(class, n)| *all.entry(class.clone()).or_default() += n);
    assert_eq!(all, classes([("ws_protocol", 4)]));
    assert_eq!(report.total.messages_echoed, 0);
}

#[test]
fn a_close_that_we_had_not_asked_for_is_a_disconnect_of_its_own_class() {
    let target = serve_websocket(b"", |websocket| {
        let _ = websocket.next_message();
        websocket.send(&frame(Opcode::Close, true, &1012_u16.to_be_bytes()));
        while websocket.hear().is_some() {}
    });
    let target = format!("ws://{target}/");
    let (code, report) = Daemon::start().run(&[&["--conns", "4", "--target", &target][..], &SELDOM].concat());
    assert_ended_with(99, (code, &report));
    assert_eq!(report.load.disconnects, classes([("close_frame", 4)]));
}

/// Long messages every 100 ms fill what the sockets take, and then back-pressure begins.
fn stalled(daemon: &Daemon, sink: &Sink) {
    let target = format!("ws://{}/", sink.address);
    let long = ["--bytes-per-tick", "200KB", "--tick-interval", "100ms", "--verify", "--drain", "60s"];
    start(daemon, &[&["--conns", "4", "--target", &target][..], &long].concat());
    until("echoes", || (event(daemon).now.messages_echoed > 0).then_some(()));
    sink.process.signal("STOP");
    until("back-pressure", || (event(daemon).ticks_missed.backpressure >= 100).then_some(()));
}

#[test]
fn a_server_that_stands_still_for_a_while_is_back_pressure_and_loses_nothing() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    stalled(&daemon, &sink);
    let before = event(&daemon);
    sink.process.signal("CONT");
    until("echoes again", || {
        let event = event(&daemon);
        (event.elapsed > before.elapsed && event.now.messages_echoed > 0).then_some(())
    });
    let (code, report) = stop(&daemon);
    let (load, total) = (&report.load, &report.total);
    assert_ended_with(99, (code, &report));
    assert_every_tick_is_accounted_for(load);
    assert!(load.ticks_missed.backpressure >= 100 && load.disconnects.is_empty(), "{load:?}");
    assert!(load.delivered_ratio < Some(0.99), "{load:?}");
    assert_eq!((load.verify_failures, load.messages_unanswered, total.payload_bytes_open), (0, 0, 0));
    assert_eq!(total.payload_bytes_received, total.payload_bytes_sent);
    // The standstill is in the response times: from when they were due, not from when they went.
    let response = report.latency.response.expect("echoes");
    assert!(response.max > 1.0, "{response:?}");
    let counts = sink.counts();
    assert_eq!(counts["payload_bytes_received"], total.payload_bytes_sent);
}

#[test]
fn a_server_that_stands_still_for_good_does_not_keep_the_run_from_its_end() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    stalled(&daemon, &sink);
    let output = daemon.scalectl(&["--json", "stop", "--now"]);
    assert_eq!(output.status.code(), Some(5), "{}", error(&output));
    let output = daemon.scalectl(&["--json", "report"]);
    let report: Report = serde_json::from_slice(&output.stdout).expect("JSON");
    let (load, total) = (&report.load, &report.total);
    assert_every_tick_is_accounted_for(load);
    assert!(load.messages_unanswered > 0 && total.payload_bytes_open > 0, "{load:?}");
    // An echo that broke off in the middle of a message leaves the whole message open.
    assert!(total.payload_bytes_sent - total.payload_bytes_received <= total.payload_bytes_open);
}

#[test]
fn certificates_that_are_out_of_date_or_of_another_name_are_refused() {
    let daemon = Daemon::start();
    let cases = [
        // Its server is no websocket server: it gets as far as that, so the others fail for what they are.
        ("a right one", Certificate::new(&["localhost"]), "closed"),
        ("another name", Certificate::new(&["example.com"]), "tls_certificate"),
        (
            "expired",
            Certificate::with(&["localhost"], |server| {
                server.not_before = rcgen::date_time_ymd(2020, 1, 1);
                server.not_after = rcgen::date_time_ymd(2020, 2, 1);
            }),
            "tls_certificate",
        ),
        (
            "not valid yet",
            Certificate::with(&["localhost"], |server| server.not_before = rcgen::date_time_ymd(2200, 1, 1)),
            "tls_certificate",
        ),
    ];
    for (what, certificate, class) in cases {
        let folder = Folder::new();
        let ca = folder.write("ca.pem", &certificate.authority);
        let address = serve_tls_handshakes(&certificate);
        let target = format!("wss://localhost:{}/", address.rsplit_once(':').expect("a port").1);
        let network = ["--ca", &ca, "--connect-to", &address];
        let (code, report) =
            daemon.run(&[&["--conns", "4", "--target", &target][..], &network, &SELDOM].concat());
        assert_ended_with(99, (code, &report));
        assert_eq!(report.load.connect_failures, classes([(class, 4)]), "{what}");
        assert_eq!(report.load.streams_opened, 0, "{what}");
    }
}

#[test]
fn a_server_that_says_nothing_to_a_tls_hello_is_a_timeout() {
    let address = serve(|_, mut stream| while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {});
    let network = ["--connect-timeout", "500ms"];
    let target = format!("wss://{address}/");
    let (code, report) =
        Daemon::start().run(&[&["--conns", "4", "--target", &target][..], &network, &SELDOM].concat());
    assert_ended_with(99, (code, &report));
    assert_eq!(report.load.connect_failures, classes([("timeout", 4)]));
    assert!(report.latency.connect.is_some_and(|connect| connect.count == 4), "TCP was established");
    assert!(report.latency.tls.is_none() && report.latency.upgrade.is_none());
}
