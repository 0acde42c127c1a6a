//! Bytes to the control socket and the metrics port: requests that are nearly right, behind each other and cut off.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use scale_tests::decoders::http::{check, check_any};
use scaled::control::server::trial::Listener;

const METHODS: [&str; 9] = ["GET", "POST", "PATCH", "DELETE", "HEAD", "PUT", "get", "CONNECT", "PRI"];
const PATHS: [&str; 26] = [
    "/",
    "*",
    "/metrics",
    "/live",
    "/v1/status",
    "/v1/targets",
    "/v1/runs",
    "/v1/runs/last",
    "/v1/runs/..",
    "/v1/runs/%2e%2e",
    "/v1/runs/r1-0/report.html",
    "/v1/runs/current/histograms",
    "/v1/runs/current/events",
    "/v1/runs/current/stop",
    "/v1/runs/current/abort",
    "/v1/runs/current/pause",
    "/v1/runs/current/resume",
    "/v1/runs/current/marks",
    "/v1/doctor",
    "/v1/coder",
    "/v1/coder/scenario",
    "/v1/coder/traffic",
    "/v1/page?kind=live",
    "/v1/page?kind=%",
    "http://localhost/metrics",
    "//v1//status//",
];
const HEADERS: [&str; 14] = [
    "host: localhost",
    "host: evil.example",
    "host:",
    "connection: close",
    "connection: keep-alive, upgrade",
    "upgrade: h2c",
    "expect: 100-continue",
    "accept: */*",
    "accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    "content-type: application/json",
    "content-length: 18446744073709551616",
    "content-length: -1",
    " folded: line",
    "no colon",
];
const BODIES: [&str; 12] = [
    "",
    "{}",
    "{\"now\":true}",
    "{\"text\":\"deploy\"}",
    "{\"conns\":5,\"rate\":\"40KB/s\"}",
    "{\"spec\":{\"group\":[{\"target\":[\"ws://127.0.0.1:9/\"],\"conns\":5}]},\"dry_run\":true}",
    "{\"spec\":{\"group\":[{\"breaker\":\"30%\",\"silence\":\"off\"}]}}",
    "{\"deployment\":{\"url\":\"https://c.example\",\"token\":\"t\"},\"flow\":{\"cleanup\":{}}}",
    "[[[[[[[[[[[[[[[[[[[[[[[[",
    "\"\\ud800\"",
    "{\"now\":1e999}",
    "null",
];

/// How a body is announced.
#[derive(Debug, Clone, Copy)]
enum Length {
    Right,
    Missing,
    Wrong(usize),
    Chunks,
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        6 => Just(Length::Right),
        1 => Just(Length::Missing),
        1 => (0usize..200).prop_map(Length::Wrong),
        1 => Just(Length::Wrong(64 << 20)),
        1 => Just(Length::Wrong(1 << 30)),
        2 => Just(Length::Chunks),
    ];
    let path = prop_oneof![8 => select(&PATHS[..]).prop_map(str::to_owned), 1 => "/[!-~]{0,40}", 1 => Just(format!("/{}", "x".repeat(70_000)))];
    let headers = prop_oneof![8 => vec(select(&HEADERS[..]), 0..5), 1 => Just(vec!["x: y"; 10_000])];
    (select(&METHODS[..]), path, headers, select(&BODIES[..]), length).prop_map(
        |(method, path, headers, body, length)| {
            let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
            headers.iter().for_each(|header| text += &format!("{header}\r\n"));
            match length {
                Length::Right => text += &format!("content-length: {}\r\n\r\n{body}", body.len()),
                Length::Missing => text += &format!("\r\n{body}"),
                Length::Wrong(bytes) => text += &format!("content-length: {bytes}\r\n\r\n{body}"),
                Length::Chunks => {
                    text +=
                        &format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
                }
            }
            text.into_bytes()
        },
    )
}

fn listener() -> impl Strategy<Value = Listener> {
    select(&[Listener::Control, Listener::ReadOnly][..])
}

/// The statuses of answers.
fn statuses(answers: &[u8]) -> Vec<String> {
    const LINE: &str = "HTTP/1.1 ";
    let text = String::from_utf8_lossy(answers);
    let codes = text.match_indices(LINE).filter_map(|(at, _)| text.get(at + LINE.len()..at + LINE.len() + 3));
    codes.filter(|code| code.bytes().all(|byte| byte.is_ascii_digit())).map(str::to_owned).collect()
}

#[test]
fn the_trial_answers_as_the_daemon_does() {
    let ask = |listener, head: &str| statuses(&check(listener, head.as_bytes()));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(ask(Listener::Control, &get("/v1/status")), ["200"]);
    assert_eq!(
        ask(Listener::Control, &get("/v1/status").repeat(50)),
        vec!["200"; 50],
        "one behind the other"
    );
    assert_eq!(ask(Listener::ReadOnly, &get("/metrics")), ["200"]);
    assert_eq!(ask(Listener::ReadOnly, &get("/metrics").replace("localhost", "evil.example")), ["403"]);
    assert_eq!(ask(Listener::Control, &get("/v1/runs/..").replace("GET", "DELETE")), ["404"]);
    let large = "POST /v1/runs HTTP/1.1\r\nhost: x\r\ncontent-length: 1073741824\r\n\r\n";
    assert_eq!(ask(Listener::Control, large), ["413"], "by its own word, before a byte of it has come");
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    assert_eq!(ask(Listener::Control, &many), ["431"]);
    let long = get(&format!("/{}", "x".repeat(70_000)));
    let said = ask(Listener::Control, &long);
    assert!(said == ["414"] || said == ["431"], "{said:?}");
    assert_eq!(ask(Listener::Control, "\x16\x03\x01\x02\x00garbage\r\n\r\n"), ["400"]);
}

#[test]
fn nonsense_behind_a_request_is_answered_behind_the_whole_answer() {
    let page = |bytes: &str| {
        let answers = check(Listener::ReadOnly, bytes.as_bytes());
        let at = answers.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
        String::from_utf8(answers[at..].to_vec()).expect("a page")
    };
    let alone = page("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(alone.len() > 64 << 10, "more than a pipe takes at once: {}", alone.len());
    for body in
        ["\r\n", "content-length: 4\r\n\r\nbody", "transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"]
    {
        let both = page(&format!("GET / HTTP/1.1\r\nhost: localhost\r\n{body}nonsense\r\n\r\n"));
        let rest = both.strip_prefix(&alone).expect("the page, whole");
        assert_eq!(statuses(rest.as_bytes()), ["400"], "{rest}");
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_is_answered_with_a_status_that_the_docs_know(
        listener in listener(), requests in vec(request(), 1..4), cut in prop::option::weighted(0.3, 0usize..2000),
    ) {
        let mut bytes = requests.concat();
        bytes.truncate(cut.unwrap_or(usize::MAX));
        let answers = check(listener, &bytes);
        // The page may speak of others; heads come first.
        if let Some(first) = statuses(&answers).first() {
            let known = ["100", "200", "400", "403", "404", "405", "408", "409", "413", "414", "422", "431", "500", "503"];
            prop_assert!(known.contains(&first.as_str()), "{first}");
            prop_assert!(first != "500", "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn any_bytes_are_answered_or_not(data in vec(any::<u8>(), 0..600)) {
        check_any(&data);
    }
}
