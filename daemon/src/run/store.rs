//! What is kept of runs: one folder a run below the state folder, with `report.json` and
//! `histograms.json`. While a run
//! goes, `checkpoint.json` is the report so far; a daemon that starts finds it and makes it the
//! report of a run that was cut off.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use scale_api::http::RunSummary;
use scale_api::report::{Exit, Outcome, Report};

/// The state folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

const REPORT: &str = "report.json";
const CHECKPOINT: &str = "checkpoint.json";
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
        let ids = self.ids().unwrap_or_default();
        let summary = |id: String| {
            let report: Report = serde_json::from_slice(&self.report(Some(&id))?).ok()?;
            let state = format!("{:?}", report.verdict.outcome).to_lowercase();
            let exit_code = Some(report.verdict.exit_code);
            Some(RunSummary {
                id,
                name: report.run.name,
                started_at: report.run.started_at,
                state,
                exit_code,
            })
        };
        ids.into_iter().filter_map(summary).collect()
    }

    /// Removes a run. False where there is none.
    pub fn remove(&self, id: &str) -> bool {
        is_id(id) && fs::remove_dir_all(self.root.join(id)).is_ok()
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
        assert!(!store.remove("../x") && store.report(Some("../x")).is_none());
        assert!(store.remove(&id));
        fs::remove_dir_all(root).unwrap();
    }
}
