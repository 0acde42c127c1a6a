//! What is kept of runs: one folder a run below the state folder, with `report.json` and
//! `histograms.json`, and `coder.jsonl` where users or workspaces of a Coder deployment were made: a folder whose
//! ledger is not empty is never removed. While a run goes, `checkpoint.json` is the report so far; a daemon that starts finds it and makes it the
//! report of a run that was cut off.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use scale_api::http::RunSummary;
use scale_api::report::{Exit, Outcome, Report, Run, Verdict};
use scale_coder::ledger::{self, Contents, Kind};
use serde::Deserialize;

/// The state folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

const REPORT: &str = "report.json";
const CHECKPOINT: &str = "checkpoint.json";
const PAGE: &str = "report.html";
const HISTOGRAMS: &str = "histograms.json";

impl Store {
    /// Opens `root`, making it where it is missing, and ends what a former daemon left going.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        let store = Self { root };
        for id in store.ids()? {
            let folder = store.root.join(&id);
            if let Ok(bytes) = fs::read(folder.join(CHECKPOINT)) {
                if !folder.join(REPORT).exists()
                    && let Ok(mut report) = serde_json::from_slice::<Report>(&bytes)
                {
                    report.verdict.outcome = Outcome::Aborted;
                    report.verdict.exit_code = Exit::Aborted as u8;
                    report.verdict.reasons.insert(0, "the daemon was lost while the run was going".into());
                    if let Some(coder) = &mut report.coder {
                        coder.ended = "lost".into();
                        coder.owned = ledger::read(&folder.join(ledger::FILE_NAME)).map_or(0, owned);
                    }
                    store.write(&report, true)?;
                }
                // Writing the report has removed it already; one beside a report is stale.
                let _ = fs::remove_file(folder.join(CHECKPOINT));
            }
        }
        Ok(store)
    }

    fn ids(&self) -> io::Result<Vec<String>> {
        let mut ids: Vec<String> = fs::read_dir(&self.root)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_id(name))
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Keeps a report: whole and for good, or as the checkpoint of a going run.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, report: &Report, last: bool) -> io::Result<()> {
        let folder = self.root.join(&report.run.id);
        fs::create_dir_all(&folder)?;
        let to = folder.join(if last { REPORT } else { CHECKPOINT });
        let new = to.with_extension("new");
        fs::write(&new, serde_json::to_vec(report)?)?;
        fs::rename(new, to)?;
        if last {
            let _ = fs::remove_file(folder.join(CHECKPOINT));
        }
        Ok(())
    }

    /// Keeps a run's report as a page beside the report itself.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_page(&self, id: &str, html: &[u8]) -> io::Result<()> {
        let to = self.root.join(id).join(PAGE);
        let new = to.with_extension("new");
        fs::write(&new, html)?;
        fs::rename(new, to)
    }

    /// Keeps a run's histograms beside its report.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_histograms(&self, id: &str, json: &[u8]) -> io::Result<()> {
        fs::write(self.root.join(id).join(HISTOGRAMS), json)
    }

    /// A run's report; the last run's without an id.
    pub fn report(&self, id: Option<&str>) -> Option<Vec<u8>> {
        self.kept(id, REPORT)
    }

    /// A run's histograms; the last run's without an id.
    pub fn histograms(&self, id: Option<&str>) -> Option<Vec<u8>> {
        self.kept(id, HISTOGRAMS)
    }

    fn kept(&self, id: Option<&str>, file: &str) -> Option<Vec<u8>> {
        let id = match id {
            Some(id) if is_id(id) => id.to_owned(),
            Some(_) => return None,
            None => self.ids().ok()?.into_iter().rev().find(|id| self.root.join(id).join(REPORT).exists())?,
        };
        fs::read(self.root.join(id).join(file)).ok()
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
        /// What is read of a report, which may list 10,000 workspaces.
        #[derive(Deserialize)]
        struct Head {
            run: Run,
            verdict: Verdict,
        }
        let Head { run, verdict } = serde_json::from_slice(&self.report(Some(&id))?).ok()?;
        Some(RunSummary {
            id,
            name: run.name,
            started_at: run.started_at,
            state: format!("{:?}", verdict.outcome).to_lowercase(),
            exit_code: Some(verdict.exit_code),
            owned: 0,
        })
    }

    /// Removes a run. False where there is none.
    ///
    /// # Errors
    /// It still owns users or workspaces of a Coder deployment.
    pub fn remove(&self, id: &str) -> Result<bool, String> {
        if !is_id(id) {
            return Ok(false);
        }
        let folder = self.root.join(id);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_cut_off_has_a_report_after_the_next_start() {
        let root = std::env::temp_dir().join(format!("scaled-store-{}", std::process::id()));
        let store = Store::open(root.clone()).unwrap();
        let id = store.new_id(1000);
        let mut report = Report::default();
        report.run.id = id.clone();
        report.total.messages_sent = 42;
        store.write(&report, false).unwrap();
        assert!(store.report(Some(&id)).is_none());
        let store = Store::open(root.clone()).unwrap();
        let kept: Report = serde_json::from_slice(&store.report(None).unwrap()).unwrap();
        assert_eq!((kept.total.messages_sent, kept.verdict.exit_code), (42, 5));
        assert_eq!(store.list().len(), 1);
        assert!(store.remove("../x") == Ok(false) && store.report(Some("../x")).is_none());
        let line =
            r#"{"op":"intent","at":"2026-01-01T00:00:00Z","kind":"user","name":"scaletest-r1000-0-0"}"#;
        let head = format!(
            r#"{{"op":"run","run":"{id}","at":"2026-01-01T00:00:00Z","url":"http://c","deployment":null,"mark":"m"}}"#
        );
        fs::write(store.folder(&id).join(ledger::FILE_NAME), format!("{head}\n{line}\n")).unwrap();
        assert!(store.remove(&id).unwrap_err().contains("still owns 1 users"));
        assert_eq!(store.owned(), Ok(BTreeMap::from([(id.clone(), 1)])));
        fs::remove_file(store.folder(&id).join(ledger::FILE_NAME)).unwrap();
        assert_eq!(store.remove(&id), Ok(true));
        fs::remove_dir_all(root).unwrap();
    }
}
