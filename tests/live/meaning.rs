//! What the figures mean when a server does not simply echo.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use scale_api::report::Report;
use scale_proto::ws::Opcode;
use scale_tests::server::{Said, frame, serve_websocket};
use scale_tests::{Daemon, assert_ended_with};

use crate::assert_every_tick_is_accounted_for;

/// Two messages a second: seldom enough for a busy machine.
const SELDOM: [&str; 8] =
    ["--tick-interval", "500ms", "--warm-up", "500ms", "--duration", "3s", "--drain", "5s"];

fn run(arguments: &[&str]) -> (i32, Report) {
    Daemon::start().run(&[arguments, &SELDOM].concat())
}

#[test]
fn half_an_echo_is_half_the_bytes_half_the_messages_and_no_response_time() {
    let target = serve_websocket(b"", |websocket| {
        websocket.each_message(|websocket, message| {
            websocket.send(&frame(Opcode::Binary, true, &message[..message.len() / 2]));
        });
    });
    let (code, report) = run(&["--conns", "20", "--target", &format!("ws://{target}/")]);
    let (load, total) = (&report.load, &report.total);
    assert_ended_with(99, (code, &report));
    assert_every_tick_is_accounted_for(load);
    assert_eq!(total.payload_bytes_received * 2, total.payload_bytes_sent);
    assert_eq!(load.messages_echoed + load.messages_unanswered, load.messages_sent);
    // Two halves fill the place of one message; of an odd number the last stays half.
    assert!((total.messages_sent - 20..=total.messages_sent).contains(&(total.messages_echoed * 2)));
    let ratio = load.echoed_ratio.expect("echo");
    assert_eq!(ratio, load.messages_echoed as f64 / load.messages_sent as f64);
    assert!(ratio < 0.99, "{ratio}");
    // Only a stream's first answer begins as it should; from the second on no position is right.
    assert!(load.verify_failures >= total.messages_echoed - 20, "{load:?}");
    assert!(report.latency.response.is_none_or(|response| response.count <= 20));
    assert_eq!((load.unexpected_bytes, load.streams_open_at_end), (0, 20));
}

#[test]
fn a_greeting_is_unexpected_bytes_and_takes_the_response_times_of_its_streams_alone() {
    const GREETING: &[u8] = b"welcome";
    let greeting = serve_websocket(&frame(Opcode::Binary, true, GREETING), |websocket| websocket.echo());
    let silent = serve_websocket(b"", |websocket| websocket.echo());
    let (greeting, silent) = (format!("ws://{greeting}/"), format!("ws://{silent}/"));
    let (code, report) = run(&["--conns", "20", "--target", &greeting, "--target", &silent, "--verify"]);
    assert_ended_with(0, (code, &report));
    let part = |name: &str| {
        let found = report.targets.iter().find(|part| part.name.contains(name.trim_end_matches('/')));
        found.unwrap_or_else(|| panic!("{name}: {:?}", report.targets))
    };
    let (greeted, plain) = (part(&greeting), part(&silent));
    assert_eq!((greeted.load.streams_opened, plain.load.streams_opened), (10, 10));
    assert_eq!(greeted.load.unexpected_bytes, 10 * GREETING.len() as u64);
    assert_eq!(greeted.load.messages_echoed, greeted.load.messages_sent);
    assert_eq!((greeted.latency.response.clone(), greeted.latency.service.clone()), (None, None));
    assert_eq!(plain.load.unexpected_bytes, 0);
    assert_eq!(plain.latency.response.as_ref().map(|it| it.count), Some(plain.load.messages_echoed));
    assert_eq!((report.load.unexpected_bytes, report.load.verify_failures), (70, 0));
    assert_eq!(report.total.payload_bytes_received, report.total.payload_bytes_sent + 70);
}

#[test]
fn an_echo_in_fragments_with_pings_between_is_whole_and_every_ping_is_answered() {
    let (pings, pongs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (sent, answered) = (pings.clone(), pongs.clone());
    let target = serve_websocket(b"", move |websocket| {
        while let Some(said) = websocket.hear() {
            match said {
                Said::Message(message) => {
                    let (front, rest) = message.split_at(message.len() / 3);
                    let pieces = [
                        frame(Opcode::Binary, false, front),
                        frame(Opcode::Ping, true, b"there?"),
                        frame(Opcode::Continuation, false, b""),
                        frame(Opcode::Continuation, true, rest),
                    ];
                    sent.fetch_add(1, Ordering::SeqCst);
                    websocket.send(&pieces.concat());
                }
                Said::Pong => drop(answered.fetch_add(1, Ordering::SeqCst)),
                Said::Close(code) => assert_eq!(code, Some(1000)),
            }
        }
    });
    let (code, report) = run(&["--conns", "20", "--target", &format!("ws://{target}/"), "--verify"]);
    let (load, total) = (&report.load, &report.total);
    assert_ended_with(0, (code, &report));
    assert_eq!((load.verify_failures, load.unexpected_bytes, load.messages_unanswered), (0, 0, 0));
    assert_eq!(total.messages_echoed, total.messages_sent);
    assert_eq!((total.payload_bytes_received, total.payload_bytes_open), (total.payload_bytes_sent, 0));
    assert_eq!(report.latency.response.expect("echoes").count, load.messages_echoed);
    assert_eq!(pings.load(Ordering::SeqCst), total.messages_sent);
    assert_eq!(pongs.load(Ordering::SeqCst), total.messages_sent, "the last pong goes before the Close");
}

#[test]
fn an_echo_with_one_wrong_byte_is_found_by_verify_alone() {
    let target = serve_websocket(b"", |websocket| {
        websocket.each_message(|websocket, mut message| {
            *message.last_mut().expect("payload") ^= 1;
            websocket.send(&frame(Opcode::Binary, true, &message));
        });
    });
    let target = format!("ws://{target}/");
    let (code, report) = run(&["--conns", "5", "--target", &target, "--verify"]);
    assert_ended_with(99, (code, &report));
    assert_eq!(report.load.verify_failures, report.total.messages_echoed);
    assert!(report.verdict.reasons.iter().any(|why| why.contains("came back different")));
    let (code, report) = run(&["--conns", "5", "--target", &target]);
    assert_ended_with(0, (code, &report));
    assert_eq!(report.load.verify_failures, 0, "only the first 8 bytes are compared");
}

#[test]
fn a_threshold_takes_the_place_of_the_built_in_share() {
    let target = serve_websocket(b"", |websocket| {
        websocket.each_message(|websocket, message| {
            if !websocket.number.is_multiple_of(4) {
                websocket.send(&frame(Opcode::Binary, true, &message));
            }
        });
    });
    let target = format!("ws://{target}/");
    let arguments = ["--conns", "20", "--target", &target];
    let (code, report) = run(&arguments);
    assert_ended_with(99, (code, &report));
    assert!(report.load.echoed_ratio < Some(0.99) && report.load.messages_unanswered > 0);
    let (code, report) = run(&[&arguments[..], &["--threshold", "load.echoed_ratio > 50%"]].concat());
    assert_ended_with(0, (code, &report));
    assert!(report.load.echoed_ratio < Some(0.99) && report.load.messages_unanswered > 0);
}
