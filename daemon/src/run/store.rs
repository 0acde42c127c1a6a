//! What is kept of runs: one folder a run below the state folder (docs/results.md says what is in it). A folder whose
//! Coder ledger is not empty is never removed. While a run goes its [`recorder`](super::recorder) writes there; a daemon
//! that starts and finds a run without a report makes the report of a run that was cut off from what there is.
//!
//! No name in the state folder is followed: a link in it is neither read nor written nor removed through
//! ([`scale_ring::folder`]). The state folder's own path is the operator's, and may have links.

mod head;
mod prune;
mod recover;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use scale_api::http::RunSummary;
use scale_api::report::{Report, SCHEMA};
use scale_coder::ledger::{self, Contents, Kind};
use scale_ring::folder::{FOLDER_MODE, Folder};
use scale_ring::host;

use head::Head;
pub use prune::Pruned;

/// The state folder. Clones are of the same one.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    cut_off: Vec<String>,
    unwritten: Vec<Report>,
    /// Ids that are not to be given again.
    taken: Arc<Mutex<BTreeSet<String>>>,
}

pub(super) const REPORT: &str = "report.json";
pub(super) const PAGE: &str = "report.html";
pub(super) const HISTOGRAMS: &str = "histograms.json";
/// The report so far of a run that is going, without its series.
pub(super) const CHECKPOINT: &str = "checkpoint.json";
/// The run file, to repeat it.
pub(super) const RUN_FILE: &str = "run.toml";
/// A row a second, as JSON lines.
pub(super) const SERIES: &str = "series.jsonl";

/// The longest report, page or histograms that are read: the largest that runs make has a tenth of it.
const REPORT_BYTES_MAX: u64 = 256 << 20;
const RUN_FILE_BYTES_MAX: u64 = 64 << 20;

/// What the state of a run is called whose report is of a newer version.
pub const NEWER: &str = "of a newer version";

impl Store {
    /// Opens `root`, making it where it is missing, and ends what a former daemon left going. What is wrong with it and
    /// no reason to do without it is logged: a folder that takes nothing is read, and runs go on without it.
    ///
    /// # Errors
    /// It is not there and cannot be made, is no folder, or is somebody else's.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        if let Err(error) = make_all(&root)
            && !takes_nothing(&error)
        {
            return Err(error);
        }
        if let Ok(folder) = fs::metadata(&root) {
            check_owner(&root, &folder)?;
        }
        let mut store = Self { root, cut_off: Vec::new(), unwritten: Vec::new(), taken: Arc::default() };
        match store.ids() {
            Ok(ids) => ids.iter().for_each(|id| store.recover(id)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if takes_nothing(&error) => tracing::warn!("{}: {error}", store.root.display()),
            Err(error) => return Err(error),
        }
        Ok(store)
    }

    fn recover(&mut self, id: &str) {
        self.take(id);
        let Ok(folder) = self.at(id) else { return };
        let Some(report) = recover::cut_off(&folder, id) else {
            // One beside a report is stale.
            let _ = folder.remove(CHECKPOINT);
            return;
        };
        self.cut_off.push(id.to_owned());
        match self.write_report(&folder, &report) {
            Ok(_) => drop(folder.remove(CHECKPOINT)),
            Err(error) => {
                tracing::warn!("run {id} was cut off, and its report cannot be written yet: {error}");
                self.unwritten.push(report);
            }
        }
    }

    /// Runs that were cut off, and had no report before this store was opened.
    pub fn cut_off(&self) -> &[String] {
        &self.cut_off
    }

    /// Their reports, where they could not be written.
    pub fn unwritten(&self) -> Vec<Report> {
        self.unwritten.clone()
    }

    /// Ids of all folders, oldest first.
    fn ids(&self) -> io::Result<Vec<String>> {
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let mut ids: Vec<String> = fs::read_dir(&self.root)?
            .filter_map(|entry| entry.ok().filter(is_folder)?.file_name().into_string().ok())
            .filter(|name| is_id(name))
            .collect();
        ids.sort_by_cached_key(|id| (began(id), id.clone()));
        Ok(ids)
    }

    /// The folder of a run, opened.
    fn at(&self, id: &str) -> io::Result<Folder> {
        Folder::open(&self.folder(id))
    }

    /// The same, made where it is missing.
    pub(super) fn make(&self, id: &str) -> io::Result<Folder> {
        match Folder::make(&self.folder(id)) {
            // The state folder itself may have gone.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_all(&self.root)?;
                Folder::make(&self.folder(id))
            }
            made => made,
        }
    }

    /// Keeps a run's report in its folder.
    pub(super) fn write_report(&self, folder: &Folder, report: &Report) -> io::Result<File> {
        let bytes = serde_json::to_vec(report)?;
        folder.replace(REPORT, &bytes).or_else(|_| {
            // On a full disk the checkpoint's room may be enough.
            let _ = folder.remove(CHECKPOINT);
            folder.replace(REPORT, &bytes)
        })
    }

    /// Keeps a run's report; its checkpoint has served.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, report: &Report) -> io::Result<()> {
        let folder = self.make(&report.run.id)?;
        self.write_report(&folder, report)?;
        let _ = folder.remove(CHECKPOINT);
        Ok(())
    }

    /// Keeps a run's report as a page beside the report itself.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_page(&self, id: &str, html: &[u8]) -> io::Result<()> {
        self.at(id)?.replace(PAGE, html).map(drop)
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
        let has_report = |id: &String| self.at(id).is_ok_and(|folder| folder.read(REPORT).is_ok());
        let id = match id {
            Some(id) if is_id(id) => id.to_owned(),
            Some(_) => return None,
            None => self.ids().ok()?.into_iter().rev().find(has_report)?,
        };
        self.at(&id).ok()?.content(file, REPORT_BYTES_MAX).ok()
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
        let Head { schema, run, verdict } = Head::read(self.at(&id).ok()?.read(REPORT).ok()?)?;
        let report = Report { schema, run, verdict, ..Report::default() };
        Some(RunSummary { bytes: self.bytes(&id), id, ..summary_of(&report) })
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
        let folder = self.folder(id);
        if !is_id(id) || !fs::symlink_metadata(&folder).is_ok_and(|folder| folder.is_dir()) {
            return Ok(false);
        }
        ledger::may_remove(&folder).map_err(|error| error.to_string())?;
        // It follows no link, below the folder or in its place.
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
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        (0..).map(|n| format!("r{seconds}-{n}")).find(|id| !taken.contains(id)).expect("numbers do not end")
    }

    /// Takes an id, so that it is not given again; whether it was free.
    pub fn take(&self, id: &str) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned())
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// The state folder: the daemon's, and its group's to read.
fn make_all(root: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(root)
}

/// Whether it says that a folder takes nothing now, rather than that it is the wrong one.
fn takes_nothing(error: &io::Error) -> bool {
    use ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StaleNetworkFileHandle, StorageFull, TimedOut};
    matches!(
        error.kind(),
        ReadOnlyFilesystem | StorageFull | QuotaExceeded | StaleNetworkFileHandle | TimedOut
    )
}

/// What others may do to the folder is the operator's to decide, but not in silence.
fn check_owner(root: &Path, folder: &fs::Metadata) -> io::Result<()> {
    let (path, me) = (root.display(), host::effective_uid());
    if folder.uid() != me && me != 0 {
        let why = format!("it belongs to user {}, not to {me}; chown {me} {path}", folder.uid());
        return Err(io::Error::new(ErrorKind::PermissionDenied, why));
    }
    if folder.uid() != me {
        tracing::warn!(
            "{path} belongs to user {}, who can change what is kept there; chown root {path}",
            folder.uid()
        );
    }
    if folder.mode() & 0o022 != 0 {
        tracing::warn!("others may write in {path}, and so change what is kept there; chmod go-w {path}");
    }
    Ok(())
}

/// A run in a list, by its report; what it takes on disk is not said.
pub fn summary_of(report: &Report) -> RunSummary {
    let (run, verdict) = (&report.run, &report.verdict);
    let state = match report.schema {
        0..=SCHEMA => format!("{:?}", verdict.outcome).to_lowercase(),
        _ => NEWER.into(),
    };
    RunSummary {
        bytes: 0,
        id: run.id.clone(),
        name: run.name.clone(),
        labels: run.labels.clone(),
        started_at: run.started_at,
        duration: (run.ended_at - run.started_at).max(0.0),
        state,
        exit_code: Some(verdict.exit_code),
        reasons: verdict.reasons.clone(),
        owned: 0,
        started_by: run.started_by.clone(),
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

#[cfg(test)]
mod tests;
