//! A state folder that is full, read-only or slow, at the start and while a run goes; and a daemon that is killed at any moment.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use scale_api::http::{RunSummary, Status};
use scale_api::report::Report;
use scale_ring::host::monotonic_now;
use scale_tests::host::{Folder, until};
use scale_tests::{Daemon, Sink, assert_ended_with};

use crate::error;
use crate::faults::{event, start, stop};

/// Something mounted, until the test ends.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a file system of a test's own; `None`: this host does not let us, which is said.
    fn new(arguments: &[&str], at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("made");
        run(Command::new("mount").args(arguments).arg(at)).map(|()| Self(at.to_owned()))
    }

    fn tmpfs(options: &str, at: &Path) -> Option<Self> {
        Self::new(&["-t", "tmpfs", "-o", options, "scale-tests"], at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a daemon that stands still for its disk may have it open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Runs a program that needs rights or a kernel that tests may not have.
fn run(command: &mut Command) -> Option<()> {
    match command.output() {
        Ok(Output { status, .. }) if status.success() => Some(()),
        Ok(output) => skipped(&format!("{command:?}: {}", error(&output).trim())),
        Err(why) => skipped(&format!("{command:?}: {why}")),
    }
}

/// Not by a macro, whose output is kept back where a test passes.
fn skipped(why: &str) -> Option<()> {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "{test}: skipped, {why}");
    None
}

fn status(daemon: &Daemon) -> Status {
    serde_json::from_slice(&daemon.scalectl(&["--json", "status"]).stdout).expect("a status")
}

fn metric(daemon: &Daemon, name: &str) -> f64 {
    let address = daemon.scraped.as_deref().expect("it is scraped");
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("{name}: {text}")).trim().parse().expect("a number")
}

/// A daemon whose state folder is `state`'s mount.
fn over(mount: impl FnOnce(&Path) -> Option<Mounted>) -> Option<(Mounted, Daemon)> {
    let mut daemon = Daemon::start_scraped();
    drop(daemon.process.take());
    let mounted = mount(&daemon.state())?;
    daemon.begin();
    Some((mounted, daemon))
}

/// Fills a file system to its last byte.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).expect("made");
    for bytes in [64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![7; bytes]).is_ok() {}
    }
    path
}

/// The run goes on: its seconds and messages grow.
fn assert_goes_on(daemon: &Daemon) {
    let before = event(daemon);
    let after = until("two more seconds", || {
        Some(event(daemon)).filter(|event| event.elapsed >= before.elapsed + 2.0)
    });
    assert!(after.now.messages_sent > 0 && after.streams["open"] == 10, "{after:?}");
}

#[test]
fn a_disk_that_fills_while_a_run_goes_costs_the_run_nothing_and_is_said_until_there_is_room() {
    let Some((_mounted, daemon)) = over(|at| Mounted::tmpfs("size=4m,mode=0750", at)) else { return };
    let sink = Sink::start(&["--protocol", "ws"]);
    start(&daemon, &["--conns", "10", "--target", &format!("ws://{}/", sink.address), "--name", "full"]);
    until("the second second", || Some(event(&daemon)).filter(|event| event.elapsed >= 2.0));
    assert_eq!((status(&daemon).warnings.len(), metric(&daemon, "scaled_state_writable")), (0, 1.0));
    let filler = fill(&daemon.state());
    let warnings =
        until("a warning", || Some(status(&daemon).warnings).filter(|warnings| !warnings.is_empty()));
    assert!(warnings[0].contains("No space left") && warnings[0].contains("--state"), "{warnings:?}");
    assert_eq!(metric(&daemon, "scaled_state_writable"), 0.0);
    assert!(metric(&daemon, "scaled_state_errors_total") >= 1.0);
    assert_goes_on(&daemon);
    let text = String::from_utf8(daemon.scalectl(&["status"]).stdout).expect("text");
    assert!(text.contains("! ") && text.contains("No space left"), "{text}");
    let (code, report) = stop(&daemon);
    assert_ended_with(0, (code, &report));
    let said = report.warnings.join("\n");
    assert!(said.contains("the run goes on") && said.contains("it is held until the daemon ends"), "{said}");
    // Held, it is served as any other.
    let id = &report.run.id;
    let served: Report =
        serde_json::from_slice(&daemon.scalectl(&["--json", "report", id]).stdout).expect("held");
    assert_eq!(served.total, report.total);
    assert!(!daemon.state().join(id).join("report.json").exists());
    let listed: Vec<RunSummary> =
        serde_json::from_slice(&daemon.scalectl(&["--json", "runs"]).stdout).expect("JSON");
    assert_eq!((listed.len(), listed[0].exit_code), (1, Some(0)));
    // Once there is room, it is kept, and the warning goes.
    fs::remove_file(filler).expect("removed");
    until("no warning any more", || status(&daemon).warnings.is_empty().then_some(()));
    assert_eq!(metric(&daemon, "scaled_state_writable"), 1.0);
    let kept = fs::read(daemon.state().join(id).join("report.json")).expect("it is kept now");
    let kept: Report = serde_json::from_slice(&kept).expect("a report");
    assert_eq!((kept.total, kept.series.len()), (report.total.clone(), report.series.len()));
    assert!(
        daemon.state().join(id).join("report.html").exists()
            && daemon.state().join(id).join("histograms.json").exists()
    );
}

#[test]
fn a_state_folder_that_is_read_only_lets_runs_go_from_the_start_or_midway() {
    let Some((mounted, mut daemon)) = over(|at| Mounted::tmpfs("size=4m,ro", at)) else { return };
    let warned = || Some(status(&daemon).warnings).filter(|warnings| !warnings.is_empty());
    let warnings = until("a warning", warned);
    assert!(warnings[0].contains("Read-only file system"), "{warnings:?}");
    let sink = Sink::start(&["--protocol", "ws"]);
    let target = format!("ws://{}/", sink.address);
    let (code, report) = daemon.run(&[
        "--conns",
        "10",
        "--target",
        &target,
        "--warm-up",
        "0s",
        "--duration",
        "1s",
        "--drain",
        "2s",
    ]);
    assert_ended_with(0, (code, &report));
    assert!(report.warnings.iter().any(|why| why.contains("Read-only")), "{:?}", report.warnings);
    let served: Report =
        serde_json::from_slice(&daemon.scalectl(&["--json", "report"]).stdout).expect("held");
    assert_eq!(served.run.id, report.run.id);
    drop(daemon.process.take());
    drop(mounted);
    // Midway: something read-only comes over the folder.
    daemon.begin();
    start(&daemon, &["--conns", "10", "--target", &target]);
    until("the second second", || Some(event(&daemon)).filter(|event| event.elapsed >= 2.0));
    let Some(mounted) = Mounted::tmpfs("size=4m,ro", &daemon.state()) else { return };
    until("a warning", || Some(status(&daemon).warnings).filter(|warnings| !warnings.is_empty()));
    assert_goes_on(&daemon);
    drop(mounted);
    until("no warning any more", || status(&daemon).warnings.is_empty().then_some(()));
    let (code, report) = stop(&daemon);
    assert_ended_with(0, (code, &report));
    assert!(report.warnings.iter().any(|why| why.contains("the run goes on")), "{:?}", report.warnings);
    assert!(daemon.state().join(&report.run.id).join("report.json").exists());
}

/// A file system in a file, whose writes stand still while it is frozen.
struct Frozen(PathBuf);

impl Frozen {
    fn new(at: &Path) -> Option<Self> {
        run(Command::new("fsfreeze").arg("--freeze").arg(at)).map(|()| Self(at.to_owned()))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_stands_still_stops_neither_a_run_nor_its_end_nor_the_next_one() {
    let folder = Folder::new();
    let image = folder.path("disk");
    File::create(&image).expect("made").set_len(16 << 20).expect("sparse");
    if run(Command::new("mkfs.ext4").arg("-q").arg(&image)).is_none() {
        return;
    }
    let image = image.display().to_string();
    let Some((mounted, daemon)) = over(|at| Mounted::new(&["-o", "loop", &image], at)) else { return };
    let sink = Sink::start(&["--protocol", "ws"]);
    let target = format!("ws://{}/", sink.address);
    start(&daemon, &["--conns", "10", "--target", &target]);
    until("the second second", || Some(event(&daemon)).filter(|event| event.elapsed >= 2.0));
    let Some(frozen) = Frozen::new(&mounted.0) else { return };
    let warnings =
        until("a warning", || Some(status(&daemon).warnings).filter(|warnings| !warnings.is_empty()));
    assert!(warnings[0].contains("the state folder is slow"), "{warnings:?}");
    assert_eq!(metric(&daemon, "scaled_state_writable"), 0.0);
    assert_goes_on(&daemon);
    let (code, report) = stop(&daemon);
    assert_ended_with(0, (code, &report));
    assert!(report.warnings.iter().any(|why| why.contains("the disk is slow")), "{:?}", report.warnings);
    let flags =
        ["--conns", "10", "--target", &target, "--warm-up", "0s", "--duration", "1s", "--drain", "2s"];
    let (code, second) = daemon.run(&flags);
    assert_ended_with(0, (code, &second));
    let asked = monotonic_now();
    let served: Report =
        serde_json::from_slice(&daemon.scalectl(&["--json", "report"]).stdout).expect("held");
    assert_eq!(served.run.id, second.run.id);
    assert!(monotonic_now().since(asked) < Duration::from_secs(5), "it answers from memory");
    drop(frozen);
    until("no warning any more", || status(&daemon).warnings.is_empty().then_some(()));
    for run in [&report.run.id, &second.run.id] {
        assert!(daemon.state().join(run).join("report.json").exists(), "{run}");
    }
    drop(daemon);
}

#[test]
fn a_daemon_that_is_killed_ten_times_at_any_moment_loses_no_run() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let mut daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    for (round, moment) in [70u64, 1930, 640, 1180, 2510, 330, 990, 1490, 2020, 20].into_iter().enumerate() {
        start(&daemon, &["--conns", "5", "--target", &target, "--name", &format!("round {round}")]);
        let until = monotonic_now() + Duration::from_millis(moment);
        let mut last = event(&daemon);
        while monotonic_now() < until {
            last = event(&daemon);
        }
        drop(daemon.process.take()); // SIGKILL
        daemon.begin();
        let output = daemon.scalectl(&["--json", "report", &last.run]);
        assert_eq!(output.status.code(), Some(5), "round {round}: {}", error(&output));
        let report: Report = serde_json::from_slice(&output.stdout).expect("a report");
        assert!(
            report.verdict.reasons[0].contains("the daemon was lost"),
            "round {round}: {:?}",
            report.verdict
        );
        // What was said last may have been on its way to the disk.
        assert!(
            report.series.len() as f64 >= last.elapsed.floor() - 1.0,
            "round {round}: {} of {}",
            report.series.len(),
            last.elapsed
        );
        let at: Vec<f64> = report.series.iter().map(|row| row.at).collect();
        assert_eq!(at, (1..=at.len()).map(|second| second as f64).collect::<Vec<_>>(), "round {round}");
        let runs: Vec<RunSummary> =
            serde_json::from_slice(&daemon.scalectl(&["--json", "runs"]).stdout).expect("JSON");
        assert_eq!(runs.len(), round + 1, "round {round}: {runs:?}");
        assert!(
            runs.iter().all(|run| run.exit_code == Some(5) && run.state == "aborted"),
            "round {round}: {runs:?}"
        );
        let kept = daemon.state().join(&last.run);
        assert!(kept.join("report.html").exists() && !kept.join("checkpoint.json").exists(), "round {round}");
    }
}
