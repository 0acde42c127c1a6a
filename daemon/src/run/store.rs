//! What is kept of runs: one folder a run below the state folder (docs/results.md says what is in it). A folder whose
//! Coder ledger is not empty is never removed. While a run goes its [`recorder`](super::recorder) writes there; a daemon
//! that starts and finds a run without a report makes the report of a run that was cut off from what there is.

mod head;
mod prune;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use scale_api::http::RunSummary;
use scale_api::report::{Exit, Outcome, Report, Run, SCHEMA};
use scale_api::spec::Spec;
use scale_coder::ledger::{self, Contents, Kind};

use super::series::Series;
use head::Head;
pub use prune::Pruned;

/// The state folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    cut_off: Vec<String>,
}

const REPORT: &str = "report.json";
const PAGE: &str = "report.html";
const HISTOGRAMS: &str = "histograms.json";
/// The report so far of a run that is going, without its series.
pub(super) const CHECKPOINT: &str = "checkpoint.json";
/// The run file, to repeat it.
pub(super) const RUN_FILE: &str = "run.toml";
/// A row a second, as JSON lines.
pub(super) const SERIES: &str = "series.jsonl";

/// Seconds by which a checkpoint's figures may be older than the series before the report says so.
const CHECKPOINT_AGE_MAX: f64 = 1.5;

impl Store {
    /// Opens `root`, making it where it is missing, and ends what a former daemon left going.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        let mut store = Self { root, cut_off: Vec::new() };
        for id in store.ids()? {
            let folder = store.folder(&id);
            if !folder.join(REPORT).exists()
                && let Some(report) = so_far(&folder, &id)
            {
                store.write(&report)?;
                store.cut_off.push(id);
            } else {
                // One beside a report is stale.
                let _ = fs::remove_file(folder.join(CHECKPOINT));
            }
        }
        Ok(store)
    }

    /// Runs that were cut off, and had no report before this store was opened.
    pub fn cut_off(&self) -> &[String] {
        &self.cut_off
    }

    /// Ids of all folders, oldest first.
    fn ids(&self) -> io::Result<Vec<String>> {
        let mut ids: Vec<String> = fs::read_dir(&self.root)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_id(name))
            .collect();
        ids.sort_by_cached_key(|id| (began(id), id.clone()));
        Ok(ids)
    }

    /// Keeps a run's report; its checkpoint has served.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, report: &Report) -> io::Result<()> {
        let folder = self.folder(&report.run.id);
        fs::create_dir_all(&folder)?;
        let (path, bytes) = (folder.join(REPORT), serde_json::to_vec(report)?);
        let checkpoint = folder.join(CHECKPOINT);
        if replace(&path, &bytes).is_err() {
            // On a full disk its room may be enough.
            let _ = fs::remove_file(&checkpoint);
            replace(&path, &bytes)?;
        }
        let _ = fs::remove_file(checkpoint);
        Ok(())
    }

    /// Keeps a run's report as a page beside the report itself.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_page(&self, id: &str, html: &[u8]) -> io::Result<()> {
        replace(&self.folder(id).join(PAGE), html)
    }

    /// Keeps a run's histograms beside its report.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_histograms(&self, id: &str, json: &[u8]) -> io::Result<()> {
        replace(&self.folder(id).join(HISTOGRAMS), json)
    }

    /// A run's report; the last run's without an id.
    pub fn report(&self, id: Option<&str>) -> Option<Vec<u8>> {
        self.kept(id, REPORT)
    }

    /// A run's report as a page; the last run's without an id.
    pub fn page(&self, id: Option<&str>) -> Option<Vec<u8>> {
        self.kept(id, PAGE)
    }

    /// A run's histograms; the last run's without an id.
    pub fn histograms(&self, id: Option<&str>) -> Option<Vec<u8>> {
        self.kept(id, HISTOGRAMS)
    }

    fn kept(&self, id: Option<&str>, file: &str) -> Option<Vec<u8>> {
        let id = match id {
            Some(id) if is_id(id) => id.to_owned(),
            Some(_) => return None,
            None => self.ids().ok()?.into_iter().rev().find(|id| self.folder(id).join(REPORT).exists())?,
        };
        fs::read(self.folder(&id).join(file)).ok()
    }

    /// Every run that has a report, oldest first.
    pub fn list(&self) -> Vec<RunSummary> {
        self.ids().unwrap_or_default().into_iter().filter_map(|id| self.summary(id)).collect()
    }

    /// The last of them.
    pub fn last(&self) -> Option<RunSummary> {
        self.ids().ok()?.into_iter().rev().find_map(|id| self.summary(id))
    }

    fn summary(&self, id: String) -> Option<RunSummary> {
        let Head { run, verdict } = Head::read(File::open(self.folder(&id).join(REPORT)).ok()?)?;
        Some(RunSummary {
            bytes: self.bytes(&id),
            id,
            name: run.name,
            labels: run.labels,
            started_at: run.started_at,
            duration: (run.ended_at - run.started_at).max(0.0),
            state: format!("{:?}", verdict.outcome).to_lowercase(),
            exit_code: Some(verdict.exit_code),
            reasons: verdict.reasons,
            owned: 0,
            started_by: run.started_by,
        })
    }

    /// What a run's folder takes on disk.
    pub fn bytes(&self, id: &str) -> u64 {
        let files = fs::read_dir(self.folder(id)).into_iter().flatten();
        files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
    }

    /// Removes a run. False where there is none.
    ///
    /// # Errors
    /// It still owns users or workspaces of a Coder deployment.
    pub fn remove(&self, id: &str) -> Result<bool, String> {
        if !is_id(id) {
            return Ok(false);
        }
        let folder = self.folder(id);
        ledger::may_remove(&folder).map_err(|error| error.to_string())?;
        Ok(fs::remove_dir_all(folder).is_ok())
    }

    /// How many users and workspaces each run still owns, by run; runs that own none are left out.
    ///
    /// # Errors
    /// A ledger that cannot be read.
    pub fn owned(&self) -> Result<BTreeMap<String, u64>, String> {
        let found = ledger::find(&self.root).map_err(|error| error.to_string())?;
        let owned =
            found.into_iter().map(|found| (found.contents.head.run.clone(), owned(Some(found.contents))));
        Ok(owned.filter(|(_, owned)| *owned > 0).collect())
    }

    /// The folder of a run.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// An id for a run that starts `seconds` after 1970: sorts by time, and is new here.
    pub fn new_id(&self, seconds: u64) -> String {
        (0..)
            .map(|n| format!("r{seconds}-{n}"))
            .find(|id| !self.root.join(id).exists())
            .expect("numbers do not end")
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// How many users and workspaces a ledger still owns.
pub fn owned(ledger: Option<Contents>) -> u64 {
    let of = |kind| ledger.as_ref().map_or(0, |contents| contents.owned(kind).count() as u64);
    of(Kind::User) + of(Kind::Workspace)
}

/// Whether a name is an id of ours, and so no path out of the folder.
fn is_id(name: &str) -> bool {
    name.len() < 64
        && name.starts_with('r')
        && name[1..].bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// When a run began, in seconds since 1970, and which of that second's it is: as its id says.
fn began(id: &str) -> (u64, u64) {
    let (second, number) = id[1..].split_once('-').unwrap_or((&id[1..], ""));
    (second.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

/// Writes a file whole or not at all.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// The report of a run that was cut off: its last checkpoint and its series; `None`: nothing was kept of it.
fn so_far(folder: &Path, id: &str) -> Option<Report> {
    let checkpoint =
        fs::read(folder.join(CHECKPOINT)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut report = checkpoint.or_else(|| without_checkpoint(folder, id))?;
    let series = File::open(folder.join(SERIES)).and_then(|file| Series::read(BufReader::new(file)));
    if let Ok(series) = series
        && let Some(last) = series.rows().last()
    {
        let figures = report.run.ended_at - report.run.started_at;
        if last.at > figures + CHECKPOINT_AGE_MAX {
            report.warnings.push(format!(
                "figures are those of second {figures:.0}, when they were last kept; the series goes on until second {}",
                last.at
            ));
        }
        report.run.ended_at = report.run.ended_at.max(report.run.started_at + last.at);
        report.series = series.rows().to_vec();
    }
    report.verdict.outcome = Outcome::Aborted;
    report.verdict.exit_code = Exit::Aborted as u8;
    report.verdict.reasons.insert(0, "the daemon was lost while the run was going".into());
    if let Some(coder) = &mut report.coder {
        coder.ended = "lost".into();
        coder.owned = ledger::read(&folder.join(ledger::FILE_NAME)).map_or(0, owned);
    }
    Some(report)
}

/// Of a run that left no checkpoint but its run file, as where the disk was full: that it was.
fn without_checkpoint(folder: &Path, id: &str) -> Option<Report> {
    let spec = Spec::from_toml(&fs::read_to_string(folder.join(RUN_FILE)).ok()?, RUN_FILE).ok()?;
    let started_at = began(id).0 as f64;
    let run = Run {
        id: id.to_owned(),
        name: spec.name.clone(),
        started_at,
        ended_at: started_at,
        ..Run::default()
    };
    Some(Report { schema: SCHEMA, run, spec, ..Report::default() })
}

#[cfg(test)]
mod tests {
    use scale_api::report::SeriesRow;

    use super::*;

    /// A store in a folder of its own, which goes with it.
    pub(super) struct Scratch(pub Store);

    impl Scratch {
        pub(super) fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("scaled-store-{name}-{}", std::process::id()));
            Self(Store::open(root).unwrap())
        }

        /// As a daemon finds it that starts.
        fn reopened(&self) -> Store {
            Store::open(self.0.root.clone()).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.root);
        }
    }

    /// A run that owns a user, as its ledger says.
    pub(super) fn own(store: &Store, id: &str) {
        let line =
            r#"{"op":"intent","at":"2026-01-01T00:00:00Z","kind":"user","name":"scaletest-r1000-0-0"}"#;
        let head = format!(
            r#"{{"op":"run","run":"{id}","at":"2026-01-01T00:00:00Z","url":"http://c","deployment":null,"mark":"m"}}"#
        );
        fs::write(store.folder(id).join(ledger::FILE_NAME), format!("{head}\n{line}\n")).unwrap();
    }

    fn read(store: &Store, id: &str) -> Report {
        serde_json::from_slice(&store.report(Some(id)).unwrap()).unwrap()
    }

    fn leave(store: &Store, id: &str, checkpoint: &Report, rows: u64) {
        let folder = store.folder(id);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(CHECKPOINT), serde_json::to_vec(checkpoint).unwrap()).unwrap();
        let line = |second: u64| {
            let row = SeriesRow { at: second as f64, seconds: 1, messages_sent: 7, ..SeriesRow::default() };
            serde_json::to_string(&row).unwrap() + "\n"
        };
        fs::write(folder.join(SERIES), (1..=rows).map(line).collect::<String>()).unwrap();
    }

    #[test]
    fn a_run_that_was_cut_off_has_a_report_after_the_next_start() {
        let scratch = Scratch::new("cut-off");
        let store = &scratch.0;
        let id = store.new_id(1000);
        let mut report = Report::default();
        report.run.id = id.clone();
        (report.run.started_at, report.run.ended_at) = (1000.0, 1005.1);
        report.total.messages_sent = 42;
        leave(store, &id, &report, 5);
        assert!(store.report(Some(&id)).is_none());
        let store = scratch.reopened();
        assert_eq!(store.cut_off(), std::slice::from_ref(&id));
        let kept = read(&store, &id);
        assert_eq!((kept.total.messages_sent, kept.verdict.exit_code), (42, 5));
        assert_eq!((kept.series.len(), kept.series[4].at), (5, 5.0));
        assert!(kept.warnings.is_empty(), "figures and series are of the same second: {:?}", kept.warnings);
        assert_eq!(store.list().len(), 1);
        assert!(store.remove("../x") == Ok(false) && store.report(Some("../x")).is_none());
        own(&store, &id);
        assert!(store.remove(&id).unwrap_err().contains("still owns 1 users"));
        assert_eq!(store.owned(), Ok(BTreeMap::from([(id.clone(), 1)])));
        fs::remove_file(store.folder(&id).join(ledger::FILE_NAME)).unwrap();
        assert!(scratch.reopened().cut_off().is_empty(), "it has a report now");
        assert_eq!(store.remove(&id), Ok(true));
    }

    #[test]
    fn a_series_that_goes_on_behind_the_last_checkpoint_is_the_runs_and_the_report_says_so() {
        let scratch = Scratch::new("behind");
        let mut report = Report::default();
        report.run.id = "r1000-0".into();
        (report.run.started_at, report.run.ended_at) = (1000.0, 1005.1);
        leave(&scratch.0, "r1000-0", &report, 9);
        let kept = read(&scratch.reopened(), "r1000-0");
        assert_eq!((kept.series.len(), kept.run.ended_at), (9, 1009.0));
        assert!(kept.warnings[0].contains("of second 5") && kept.warnings[0].contains("second 9"));
    }

    #[test]
    fn a_run_that_left_only_its_run_file_was_cut_off_too() {
        let scratch = Scratch::new("run-file");
        let folder = scratch.0.folder("r1000-3");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(RUN_FILE), "name = \"x\"\n[[group]]\ntarget = [\"ws://a\"]\nconns = 5\n")
            .unwrap();
        let kept = read(&scratch.reopened(), "r1000-3");
        assert_eq!((kept.run.started_at, kept.run.name.as_deref()), (1000.0, Some("x")));
        assert_eq!((kept.spec.group[0].conns, kept.verdict.exit_code), (Some(5), 5));
    }

    #[test]
    fn a_report_of_an_earlier_version_is_read_and_listed() {
        let scratch = Scratch::new("earlier");
        let store = &scratch.0;
        let id = "r1795780381-0";
        fs::create_dir_all(store.folder(id)).unwrap();
        let text = include_bytes!("store/report-of-0.1.json");
        fs::write(store.folder(id).join(REPORT), text).unwrap();
        let report = read(store, id);
        assert_eq!(
            (report.series.len(), report.series[1].messages_sent, report.series[1].seconds),
            (2, 50, 0)
        );
        assert!(report.percentiles.is_empty() && report.verdict.thresholds[0].ok);
        let mut series = Series::default();
        report.series.into_iter().for_each(|row| series.push(row));
        assert_eq!(series.rows()[1].seconds, 1, "each row was a second");
        let listed = &store.list()[0];
        assert_eq!(
            (listed.name.as_deref(), listed.state.as_str(), listed.exit_code),
            (Some("nightly"), "passed", Some(0))
        );
        assert_eq!((listed.bytes, listed.duration.round() as u64), (text.len() as u64, 2));
    }

    #[test]
    fn runs_are_in_the_order_in_which_they_began() {
        let scratch = Scratch::new("order");
        for id in ["r1000-10", "r1000-2", "r999-0"] {
            let mut report = Report::default();
            report.run.id = id.into();
            scratch.0.write(&report).unwrap();
        }
        let ids: Vec<String> = scratch.0.list().into_iter().map(|run| run.id).collect();
        assert_eq!(ids, ["r999-0", "r1000-2", "r1000-10"]);
        assert_eq!(scratch.0.last().unwrap().id, "r1000-10");
    }
}
