use std::fs;
use std::io::BufReader;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::run::hlog::Logged;
use crate::run::series::Series;
use crate::run::store::REPORT;
use crate::stream::meter::{Figure, Histograms};

/// A recorder in a state folder of its own, with run r1-0 begun.
struct Scratch {
    recorder: Recorder,
    store: Store,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("scaled-recorder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let store = Store::open(root).unwrap();
        let mut scratch = Self { recorder: Recorder::new(store.clone(), |_| "a page".into()), store };
        scratch.work(Job::Begin { id: "r1-0".into() }).unwrap();
        scratch
    }

    fn work(&mut self, job: Job) -> Done {
        let mut said = None;
        self.recorder.work(job, &mut |done| assert!(said.replace(done).is_none(), "each job has one answer"));
        said.expect("each job has an answer")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store.folder("r1-0").join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.store.root());
    }
}

fn row(second: u64) -> SeriesRow {
    SeriesRow { at: second as f64, seconds: 1, messages_sent: second, ..SeriesRow::default() }
}

fn interval(until: u64) -> Job {
    let mut histograms = Histograms::default();
    histograms.record(Figure::Response, 5_000_000);
    Job::Interval(Box::new(Logged::default().take(until, vec![("main".into(), histograms)])))
}

fn report(sent: u64) -> Report {
    let mut report = Report::default();
    (report.run.id, report.total.messages_sent) = ("r1-0".into(), sent);
    report
}

#[test]
fn what_is_handed_over_stands_in_the_folder() {
    let mut scratch = Scratch::new("whole");
    scratch.work(Job::Load { run_file: "name = \"x\"\n".into(), started_at: 1000.0 }).unwrap();
    (1..=20).for_each(|second| scratch.work(Job::Row(Box::new(row(second)))).unwrap());
    scratch.work(interval(10)).unwrap();
    scratch.work(interval(10)).unwrap();
    scratch.work(Job::Checkpoint(Box::new(report(210)))).unwrap();
    assert_eq!(fs::read_to_string(scratch.file(RUN_FILE)).unwrap(), "name = \"x\"\n");
    let file = fs::File::open(scratch.file(SERIES)).unwrap();
    let (series, left_out) = Series::read(BufReader::new(file)).unwrap();
    assert_eq!((series.rows(), left_out), (&(1..=20).map(row).collect::<Vec<_>>()[..], 0));
    let checkpoint: Report = serde_json::from_slice(&fs::read(scratch.file(CHECKPOINT)).unwrap()).unwrap();
    assert_eq!(checkpoint.total.messages_sent, 210);
    let log = fs::read_to_string(scratch.file("response.hlog")).unwrap();
    let intervals = log.lines().filter(|line| line.starts_with("0.000,10.000,5.0")).count();
    assert_eq!((log.matches("StartTime: 1000.000").count(), intervals), (1, 2), "{log}");
    assert!(!scratch.file("service.hlog").exists(), "what was never measured has no log");
    let histograms = Some(Arc::new(b"{}".to_vec()));
    scratch.work(Job::End { report: Arc::new(report(220)), histograms }).unwrap();
    let kept: Report = serde_json::from_slice(&fs::read(scratch.file(REPORT)).unwrap()).unwrap();
    assert_eq!(kept.total.messages_sent, 220);
    assert_eq!(fs::read(scratch.file(PAGE)).unwrap(), b"a page");
    assert_eq!(fs::read(scratch.file(HISTOGRAMS)).unwrap(), b"{}");
    assert!(!scratch.file(CHECKPOINT).exists(), "it has served");
    assert_eq!(scratch.work(Job::Try), Ok(()));
    assert_eq!(fs::read_dir(scratch.store.root()).unwrap().count(), 1, "what was tried is gone");
}

#[test]
fn what_cannot_be_written_is_said_and_costs_nothing_else() {
    let mut scratch = Scratch::new("full");
    // Nothing follows a link, so this is a file that cannot be appended to.
    symlink("/dev/full", scratch.file(SERIES)).unwrap();
    let why = scratch.work(Job::Row(Box::new(row(1)))).unwrap_err();
    assert!(why.contains(SERIES) && why.contains("is not kept whole"), "{why}");
    scratch.work(Job::Load { run_file: "# whole\n".into(), started_at: 1000.0 }).unwrap();
    assert_eq!(fs::read_to_string(scratch.file(RUN_FILE)).unwrap(), "# whole\n");
    // Once it can be made, it is.
    fs::remove_file(scratch.file(SERIES)).unwrap();
    scratch.work(Job::Row(Box::new(row(2)))).unwrap();
    assert!(fs::read_to_string(scratch.file(SERIES)).unwrap().contains("\"messages_sent\":2"));
}

#[test]
fn a_folder_that_cannot_be_made_is_made_once_it_can_be() {
    let mut scratch = Scratch::new("file");
    let root = scratch.store.root().to_owned();
    fs::remove_dir_all(&root).unwrap();
    fs::write(&root, "a file").unwrap();
    let why = scratch.work(Job::Begin { id: "r1-0".into() }).unwrap_err();
    assert!(why.contains("the run's folder"), "{why}");
    assert!(scratch.work(Job::Row(Box::new(row(1)))).is_err() && scratch.work(Job::Try).is_err());
    let mut other = report(1);
    other.run.id = "r2-0".into();
    assert!(scratch.work(Job::End { report: Arc::new(other), histograms: None }).is_err());
    fs::remove_file(&root).unwrap();
    scratch.work(Job::Row(Box::new(row(2)))).unwrap();
    scratch.work(Job::End { report: Arc::new(report(2)), histograms: None }).unwrap();
    assert!(scratch.file(SERIES).exists() && scratch.file(REPORT).exists());
}

#[test]
fn what_a_disk_takes_of_a_line_is_cut_off_again() {
    let mut scratch = Scratch::new("torn");
    let folder = Folder::open(&scratch.store.folder("r1-0")).unwrap();
    let mut log = None;
    Log::append(&mut log, &folder, "log", String::new, b"one\n").unwrap();
    // Something else has written behind our back: as much as a disk takes of a line before it is full.
    folder.append("log").unwrap().write_all(b"tw").unwrap();
    let mut open = log.unwrap();
    open.file = folder.read("log").unwrap();
    assert!(open.write(b"two\n").is_err(), "it is open for reading alone");
    open.file = folder.append("log").unwrap();
    open.cut();
    open.write(b"three\n").unwrap();
    assert_eq!(fs::read_to_string(scratch.file("log")).unwrap(), "one\nthree\n");
    scratch.work(Job::Try).unwrap();
}
