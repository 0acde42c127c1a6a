//! What `doctor` says of the host that these tests run on.

use scale_api::http::{DoctorEntry, PlanSummary};
use scale_api::report::Report;
use scale_tests::{Daemon, Sink};

use crate::error;

/// One of each part, that there is wherever a daemon runs.
const ALWAYS: [&str; 14] = [
    "kernel",
    "io_uring",
    "io_uring switch",
    "seccomp",
    "open files",
    "locked memory",
    "workers",
    "governor",
    "CPU quota",
    "clock source",
    "wall clock",
    "connection tracking",
    "load generators",
    "busy processes",
];

fn ok(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.scalectl(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", error(&output));
    String::from_utf8(output.stdout).expect("text")
}

fn lines(daemon: &Daemon) -> Vec<DoctorEntry> {
    serde_json::from_str(&ok(daemon, &["--json", "doctor"])).expect("entries")
}

fn names(lines: &[DoctorEntry]) -> Vec<&str> {
    lines.iter().map(|line| line.name.as_str()).collect()
}

#[test]
fn doctor_shows_every_part_of_this_host_to_many_at_once() {
    let daemon = Daemon::start();
    let first = lines(&daemon);
    assert!(ALWAYS.iter().all(|name| names(&first).contains(name)), "{:?}", names(&first));
    let many: Vec<Vec<DoctorEntry>> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| lines(&daemon))).collect();
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    });
    assert!(many.iter().all(|lines| names(lines) == names(&first)));
    let text = ok(&daemon, &["doctor"]);
    assert!(!text.contains('\x1b'), "colours are for terminals");
    let place = |word: &str| text.lines().position(|line| line.starts_with(word));
    assert!(place("warn").is_none_or(|warn| Some(warn) < place("ok ")), "the worst comes first: {text}");
    for line in &first {
        assert!(text.contains(&line.name), "{}: {text}", line.name);
    }
}

#[test]
fn a_report_has_what_doctor_saw_as_its_run_began_and_a_start_says_that_there_is_something() {
    let (daemon, sink) = (Daemon::start(), Sink::start(&["--protocol", "ws"]));
    let target = format!("ws://{}/", sink.address);
    let run = ["--conns", "5", "--target", &target, "--warm-up", "0s", "--duration", "1s"];
    let report: Report = daemon.run(&run).1;
    assert_eq!(names(&report.host), names(&lines(&daemon)));
    let is_bad = |line: &&DoctorEntry| line.status != "ok";
    let bad: Vec<&str> = report.host.iter().filter(is_bad).map(|line| line.name.as_str()).collect();
    let said = ok(&daemon, &["report"]);
    assert_eq!(said.contains(&format!("not as it should be: {}", bad.join(", "))), !bad.is_empty(), "{said}");
    assert!(report.warnings.iter().all(|warning| !warning.contains("doctor")), "{:?}", report.warnings);
    // Each look is its own: what is busy now may not have been.
    let plan = ok(&daemon, &[&["--json", "start", "--dry-run"], &run[..]].concat());
    let plan: PlanSummary = serde_json::from_str(&plan).expect("a plan");
    let of_doctor = plan.warnings.iter().filter(|warning| warning.starts_with("doctor has ")).count();
    assert!(of_doctor <= 1, "{:?}", plan.warnings);
    if report.host.iter().any(|line| line.status != "ok" && line.name == "control thread") {
        assert_eq!(of_doctor, 1, "that of the control thread is always there: {:?}", plan.warnings);
    }
}
