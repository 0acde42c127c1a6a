//! What the daemon says of itself: which lines, how many, and never a secret.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;

use scale_api::report::Report;
use scale_tests::host::{Folder, until};
use scale_tests::server::serve_websocket;
use scale_tests::{Process, command};

/// A daemon whose stderr goes into a file.
struct Logged {
    process: Process,
    folder: Folder,
}

impl Logged {
    fn start(filter: &str) -> Self {
        let folder = Folder::new();
        let mut scaled = command("scaled");
        scaled.arg("--config").arg(folder.path("scaled.toml")).arg("--state").arg(folder.path("runs"));
        scaled.arg("--socket").arg(folder.path("control.sock")).args(["--metrics", "off"]);
        scaled.env("SCALED_LOG", filter).env_remove("JOURNAL_STREAM");
        let log = File::create(folder.path("log")).expect("a file");
        let child = scaled.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
        let logged = Self { process: Process(child), folder };
        until("the control socket", || logged.folder.path("control.sock").exists().then_some(()));
        logged
    }

    fn run(&self, arguments: &[&str]) -> Report {
        let mut scalectl = command("scalectl");
        scalectl
            .arg("--socket")
            .arg(self.folder.path("control.sock"))
            .args(["--json", "start"])
            .args(arguments);
        let output = scalectl.stdin(Stdio::null()).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let last =
            text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        serde_json::from_str(last).expect("a report")
    }

    fn end(mut self) -> String {
        self.process.signal("TERM");
        self.process.0.wait().expect("it ends");
        std::fs::read_to_string(self.folder.path("log")).expect("text")
    }
}

/// The word behind `name=` in a line.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name}: {line}"));
    rest.split(' ').next().expect("a first part").trim_matches('"')
}

/// The lines that say `what`, and how many streams they are about, by class.
fn lines(log: &str, what: &str) -> BTreeMap<String, (u64, u64)> {
    let mut by_class = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains(what)) {
        let (lines, count): &mut (u64, u64) = by_class.entry(field(line, "class").to_owned()).or_default();
        *lines += 1;
        *count += field(line, "count").parse::<u64>().expect("a number");
    }
    by_class
}

#[test]
fn streams_that_fail_are_one_line_a_second_and_class_and_no_secret_is_said() {
    let daemon = Logged::start("trace");
    // Takes a message of each stream, and drops it.
    let drops = serve_websocket(b"", |websocket| drop(websocket.next_message()));
    let headers = daemon.folder.write("headers", "Authorization: Bearer canary\n");
    let (refused, dropped) = ("ws://127.0.0.1:9/x?token=canary", format!("ws://{drops}/?token=canary"));
    let load = ["--conns", "60", "--target", refused, "--target", &dropped, "--header-file", &headers];
    // Refused over and over is what is looked at here.
    let time = [
        "--breaker",
        "off",
        "--reconnect",
        "client",
        "--tick-interval",
        "200ms",
        "--warm-up",
        "0s",
        "--duration",
        "5s",
    ];
    let report = daemon.run(&[&load[..], &time].concat());
    let log = daemon.end();
    let seconds = report.series.iter().map(|row| row.seconds).sum::<u64>();
    for (what, counts) in
        [("streams not opened", &report.load.connect_failures), ("streams lost", &report.load.disconnects)]
    {
        let said = lines(&log, what);
        let counted: BTreeMap<_, _> =
            said.iter().map(|(class, (_, count))| (class.clone(), *count)).collect();
        assert_eq!(&counted, counts, "every one is in a line: {log}");
        assert!(said.values().all(|(lines, _)| *lines <= seconds), "{said:?} in {seconds} s");
    }
    let (lines, count) = lines(&log, "streams not opened")["refused"];
    assert!(count >= 60 && lines < count, "{count} in {lines} lines");
    let line = log.lines().find(|line| line.contains("streams not opened")).expect("a line");
    assert_eq!((field(line, "group"), field(line, "run")), ("main", report.run.id.as_str()));
    assert_eq!(field(line, "example"), "ws://127.0.0.1:9/x");
    assert!(!log.contains("canary") && !log.contains("63616e617279"), "{log}");
    let code = format!("exit_code={}", report.verdict.exit_code);
    for said in ["run began", "run ended", "outcome=", &code] {
        assert!(log.contains(said), "no {said}: {log}");
    }
    let first = log.lines().next().expect("a line");
    assert!(first.starts_with("20") && first.contains("Z "), "a line has its time: {first}");
}

#[test]
fn a_part_can_be_silenced_and_a_filter_that_is_none_is_refused() {
    let daemon = Logged::start("info,streams=off");
    daemon.run(&["--conns", "5", "--target", "ws://127.0.0.1:9/", "--warm-up", "0s", "--duration", "1s"]);
    let log = daemon.end();
    assert!(log.contains("run began") && !log.contains("streams not opened"), "{log}");
    let output = command("scaled").env("SCALED_LOG", "inf").output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`inf` is no level; write error, warn, info"), "{said}");
}
