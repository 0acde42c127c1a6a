//! The control socket and those who use it: followers, callers that misbehave, what is refused.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use scale_api::http::{Problem, ProblemCode};
use scale_api::report::{Event, Report};
use scale_tests::host::{Folder, until};
use scale_tests::{Daemon, Process, Sink, assert_ended_with, program};

use crate::error;
use crate::faults::{event, start, stop};

const LOAD: [&str; 6] = ["--conns", "20", "--tick-interval", "500ms", "--drain", "30s"];

/// A `scalectl --json` that follows a run.
struct Follower {
    process: Process,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn begin(daemon: &Daemon, arguments: &[&str]) -> Self {
        let mut command = daemon.command(&[&["--json"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("scalectl runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { process: Process(child), lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("another line").expect("text")
    }

    /// The next second.
    fn event(&mut self) -> Event {
        let line = self.line();
        let event: Event = serde_json::from_str(&line).expect("an event");
        assert!(!event.run.is_empty(), "{line}");
        event
    }

    /// Reads on to the end: exit code and report.
    fn end(mut self) -> (i32, Report) {
        let last = self.lines.by_ref().map(|line| line.expect("text")).last().expect("a last line");
        let code = self.process.0.wait().expect("it ends").code().expect("an exit code");
        (code, serde_json::from_str(&last).expect("a report"))
    }
}

#[test]
fn two_followers_of_one_run_both_see_its_seconds_and_its_end() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    start(&daemon, &[&LOAD[..], &["--target", &format!("ws://{}/", sink.address)]].concat());
    let mut followers = [Follower::begin(&daemon, &["watch"]), Follower::begin(&daemon, &["watch"])];
    for follower in &mut followers {
        let (first, second) = (follower.event(), follower.event());
        assert!(second.elapsed > first.elapsed && second.run == first.run);
    }
    let (code, report) = stop(&daemon);
    assert_ended_with(0, (code, &report));
    for follower in followers {
        assert_eq!(follower.end(), (code, report.clone()));
    }
}

#[test]
fn a_killed_scalectl_leaves_its_run_going() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let time = ["--warm-up", "0s", "--duration", "forever"];
    let mut follower =
        Follower::begin(&daemon, &[&["start", "--target", &target][..], &LOAD, &time].concat());
    let run = follower.event().run;
    drop(follower); // SIGKILL
    let then = event(&daemon);
    until("the run to go on", || {
        let now = event(&daemon);
        assert_eq!(now.run, run);
        (now.elapsed >= then.elapsed + 2.0 && now.now.messages_echoed > 0).then_some(())
    });
    let (code, report) = stop(&daemon);
    assert_ended_with(0, (code, &report));
    assert_eq!((report.run.id, report.load.messages_unanswered), (run, 0));
    assert_eq!(sink.counts()["payload_bytes_received"], report.total.payload_bytes_sent);
}

#[test]
fn a_first_ctrl_c_drains_the_run() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let time = ["--warm-up", "0s", "--duration", "forever"];
    let mut follower =
        Follower::begin(&daemon, &[&["start", "--target", &target][..], &LOAD, &time].concat());
    while follower.event().now.messages_echoed == 0 {}
    follower.process.signal("INT");
    let (code, report) = follower.end();
    assert_eq!((code, report.verdict.exit_code), (5, 5));
    assert!(report.verdict.reasons[0].contains("Ctrl-C"), "{:?}", report.verdict);
    assert_eq!((report.load.messages_unanswered, report.total.payload_bytes_open), (0, 0));
    assert_eq!(report.total.messages_echoed, report.total.messages_sent);
}

pub fn connect(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a limit");
    stream
}

fn request(method: &str, path: &str, body_bytes: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: scaled\r\nconnection: close\r\ncontent-length: {body_bytes}\r\n\r\n"
    )
}

/// Everything until the daemon closes.
fn answer(mut stream: UnixStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // It closed with something of ours unread.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        result => drop(result.expect("it answers, or closes, in two minutes")),
    }
    String::from_utf8(answer).expect("text")
}

pub fn ask(daemon: &Daemon, method: &str, path: &str, body: &str) -> String {
    let mut stream = connect(daemon);
    stream.write_all((request(method, path, body.len()) + body).as_bytes()).expect("taken");
    answer(stream)
}

#[track_caller]
pub fn assert_problem(answer: &str, code: ProblemCode) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    assert!(head.starts_with(&format!("HTTP/1.1 {} ", code.status())), "{answer}");
    assert!(head.to_lowercase().contains("content-type: application/problem+json"), "{answer}");
    let problem: Problem = serde_json::from_str(body).expect("a problem");
    assert_eq!((problem.code, problem.status), (code, code.status()), "{answer}");
    assert!(problem.detail.len() > 10, "{answer}");
}

fn spec(group: &str) -> String {
    format!("{{\"spec\":{{\"group\":[{{{group}}}]}}}}")
}

#[test]
fn what_is_refused_is_a_problem_with_a_stable_code() {
    let daemon = Daemon::start();
    let here = "\"target\":[\"ws://127.0.0.1:9/\"]";
    let cases = [
        ("POST", "/v1/runs", "{x}".to_owned(), ProblemCode::Invalid),
        ("POST", "/v1/runs", "[]".to_owned(), ProblemCode::Invalid),
        ("POST", "/v1/runs", "{}".to_owned(), ProblemCode::Invalid),
        ("POST", "/v1/runs", "{\"spec\":{\"grup\":[]}}".to_owned(), ProblemCode::Invalid),
        ("POST", "/v1/runs", spec(&format!("{here},\"conns\":0")), ProblemCode::Invalid),
        ("POST", "/v1/runs", spec(&format!("{here},\"conns\":-1")), ProblemCode::Invalid),
        (
            "POST",
            "/v1/runs",
            spec("\"target\":[\"ws://192.0.2.1/\"],\"conns\":1"),
            ProblemCode::TargetRefused,
        ),
        ("POST", "/v1/runs", spec(&format!("{here},\"conns\":70000")), ProblemCode::HostCannotCarry),
        ("PATCH", "/v1/runs/current", "{\"conns\":5}".to_owned(), ProblemCode::NotFound),
        ("POST", "/v1/runs/current/marks", "{\"text\":\"\"}".to_owned(), ProblemCode::Invalid),
        ("POST", "/v1/runs/current/stop", "{\"now\":\"yes\"}".to_owned(), ProblemCode::Invalid),
        ("POST", "/v1/runs/current/stop", "{}".to_owned(), ProblemCode::NotFound),
        ("GET", "/v1/runs/none/report", String::new(), ProblemCode::NotFound),
        ("DELETE", "/v1/runs/..", String::new(), ProblemCode::NotFound),
        ("PUT", "/v1/status", String::new(), ProblemCode::NotFound),
    ];
    for (method, path, body, code) in cases {
        assert_problem(&ask(&daemon, method, path, &body), code);
    }
    let sink = Sink::start(&["--protocol", "ws"]);
    let target = format!("ws://{}/", sink.address);
    start(&daemon, &[&LOAD[..], &["--target", &target]].concat());
    until("all streams to be open", || (event(&daemon).streams.get("open") == Some(&20)).then_some(()));
    let another = spec(&format!("\"target\":[\"{target}\"],\"conns\":1"));
    assert_problem(&ask(&daemon, "POST", "/v1/runs", &another), ProblemCode::RunInProgress);
    assert_problem(&ask(&daemon, "PATCH", "/v1/runs/current", "{\"conns\":\"many\"}"), ProblemCode::Invalid);
    let (code, report) = stop(&daemon);
    assert_ended_with(0, (code, &report));
    assert_eq!(report.load.streams_requested, 20);
}

#[test]
fn requests_that_never_end_are_ended_and_keep_nobody_waiting() {
    let daemon = Daemon::start();
    let mut bodies: Vec<UnixStream> = (0..20).map(|_| connect(&daemon)).collect();
    for stream in &mut bodies {
        stream.write_all((request("POST", "/v1/runs", 1000) + "{\"spec\"").as_bytes()).expect("taken");
    }
    let mut head = connect(&daemon);
    head.write_all(b"GET /v1/status HTTP/1.1\r\nhost: sca").expect("taken");
    let silent = connect(&daemon);
    // One after the other they would take 200 s, which is more than an answer may.
    for _ in 0..20 {
        assert!(ask(&daemon, "GET", "/v1/status", "").starts_with("HTTP/1.1 200"));
    }
    for stream in bodies {
        assert_problem(&answer(stream), ProblemCode::TooLarge);
    }
    // Without a whole head there is nothing to answer in words that the caller would understand.
    for stream in [head, silent] {
        let answer = answer(stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert!(ask(&daemon, "GET", "/v1/status", "").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_body_over_the_limit_is_refused_and_the_daemon_goes_on() {
    const LIMIT: usize = 64 << 20;
    let daemon = Daemon::start();
    let mut stream = connect(&daemon);
    let head =
        "POST /v1/runs HTTP/1.1\r\nhost: scaled\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("taken");
    let piece = [&b"100000\r\n"[..], &vec![b' '; 1 << 20], b"\r\n"].concat();
    for _ in 0..LIMIT >> 20 {
        stream.write_all(&piece).expect("taken: it is not over the limit yet");
    }
    assert!(ask(&daemon, "GET", "/v1/status", "").starts_with("HTTP/1.1 200"));
    stream.write_all(b"1\r\n \r\n").expect("taken");
    assert_problem(&answer(stream), ProblemCode::TooLarge);
    assert!(ask(&daemon, "GET", "/v1/status", "").starts_with("HTTP/1.1 200"));
}

/// `scaled` with a socket at `path`, which does not start: what it says.
fn refuses(path: &str, folder: &Folder) -> String {
    let mut command = Command::new(program("scaled"));
    command.arg("--config").arg(folder.path("scaled.toml")).arg("--state").arg(folder.path("runs"));
    let output = command.args(["--metrics", "off", "--socket", path]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{}", error(&output));
    error(&output)
}

#[test]
fn only_a_stale_socket_is_replaced() {
    let folder = Folder::new();
    let daemon = Daemon::start();
    let live = daemon.socket().display().to_string();
    assert!(refuses(&live, &folder).contains("another scaled is serving"));
    assert!(ask(&daemon, "GET", "/v1/status", "").starts_with("HTTP/1.1 200"), "the first one still serves");
    let precious = folder.write("precious.txt", "not a socket");
    assert!(refuses(&precious, &folder).contains("no socket"));
    assert_eq!(std::fs::read_to_string(&precious).expect("still there"), "not a socket");
}
