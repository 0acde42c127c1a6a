//! What a run leaves in its folder, second by second and at its end: done job by job on the [`keeper`](super::keeper)'s thread.
//!
//! `series.jsonl` has each row as it came, the [`hlog`] files an interval each ten seconds, `run.toml` the run file, and
//! `checkpoint.json` the report so far, without its series; at the end come `report.json`, `report.html` and `histograms.json`.
//!
//! A job that a disk does not take is answered with why; the next one is tried all the same.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use scale_api::report::{Report, SeriesRow};
use scale_ring::folder::Folder;

use super::hlog::{self, FIGURES, Interval};
use super::store::{CHECKPOINT, HISTOGRAMS, PAGE, RUN_FILE, SERIES, Store};

/// As much as a report and its page may need: a folder that takes this takes a result.
const TRIED_BYTES: usize = 512 << 10;
/// What is written to try a folder, and removed again.
const TRIED: &str = ".tried";

/// What came of a job: why it was not done.
pub type Done = Result<(), String>;

/// What is to be written.
pub enum Job {
    /// A run begins: its folder.
    Begin {
        /// Which run.
        id: String,
    },
    /// Its load begins: the run file.
    Load {
        /// As TOML.
        run_file: String,
        /// Seconds since 1970.
        started_at: f64,
    },
    /// A row of its series.
    Row(Box<SeriesRow>),
    /// What its histograms gained.
    Interval(Box<Interval>),
    /// The report so far.
    Checkpoint(Box<Report>),
    /// A run's result: the report, the page of it, the histograms behind it.
    End {
        /// The report.
        report: Arc<Report>,
        /// As JSON.
        histograms: Option<Arc<Vec<u8>>>,
    },
    /// Whether the state folder takes anything.
    Try,
}

/// A job's kind, in the order in which what is wrong with it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "those of Job, one for one")]
pub enum Kind {
    Begin,
    End,
    Load,
    Row,
    Interval,
    Checkpoint,
    Try,
}

impl Job {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Begin { .. } => Kind::Begin,
            Self::Load { .. } => Kind::Load,
            Self::Row(_) => Kind::Row,
            Self::Interval(_) => Kind::Interval,
            Self::Checkpoint(_) => Kind::Checkpoint,
            Self::End { .. } => Kind::End,
            Self::Try => Kind::Try,
        }
    }
}

impl Kind {
    /// Whether it is of a run that is going.
    pub const fn is_of_a_run(self) -> bool {
        !matches!(self, Self::End | Self::Try)
    }
}

/// The thread's own: open files and where they are.
pub struct Recorder {
    store: Store,
    page: fn(&Report) -> String,
    going: Option<Hand>,
}

impl Recorder {
    /// One that keeps in `store`.
    pub const fn new(store: Store, page: fn(&Report) -> String) -> Self {
        Self { store, page, going: None }
    }

    /// Does a job, and says what came of it.
    pub fn work(&mut self, job: Job, say: &mut dyn FnMut(Done)) {
        match job {
            Job::Begin { id } => say(self.begin(id)),
            Job::End { report, histograms } => self.end(&report, histograms.as_deref(), say),
            Job::Try => say(self.try_it()),
            // What its folder is missing was said when it began; it is made again in case it can be by now.
            job => say(match self.going.as_mut().map(Hand::ready) {
                Some(Ok((hand, folder))) => hand.write(&folder, job),
                Some(Err(why)) => Err(why),
                None => Ok(()),
            }),
        }
    }

    fn begin(&mut self, id: String) -> Done {
        let hand =
            Hand { store: self.store.clone(), id, started_at: 0.0, series: None, logs: Default::default() };
        self.going.insert(hand).ready().map(drop)
    }

    /// Once the result is whole it is said; only then is it forced to the disk, which may take its time, and the
    /// checkpoint that it replaces stays until that is done.
    fn end(&mut self, report: &Report, histograms: Option<&Vec<u8>>, say: &mut dyn FnMut(Done)) {
        let id = &report.run.id;
        if self.going.as_ref().is_some_and(|hand| hand.id == *id) {
            self.going = None;
        }
        let page = (self.page)(report);
        let write = || -> io::Result<(Folder, File)> {
            let folder = self.store.make(id)?;
            let kept = self.store.write_report(&folder, report)?;
            folder.replace(PAGE, page.as_bytes())?;
            histograms.map(|json| folder.replace(HISTOGRAMS, json)).transpose()?;
            Ok((folder, kept))
        };
        match write() {
            Ok((folder, kept)) => {
                say(Ok(()));
                if kept.sync_all().and_then(|()| folder.sync()).is_ok() {
                    let _ = folder.remove(CHECKPOINT);
                }
            }
            Err(error) => say(Err(failed(&self.store.folder(id), &error))),
        }
    }

    fn try_it(&self) -> Done {
        let tried = Folder::followed(self.store.root()).and_then(|folder| {
            let written = folder.replace(TRIED, &vec![0; TRIED_BYTES]);
            let removed = folder.remove(TRIED);
            written.and(removed)
        });
        tried
            .map_err(|error| format!("the state folder takes nothing: {}", failed(self.store.root(), &error)))
    }
}

fn failed(path: &std::path::Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// What is open of a going run.
struct Hand {
    store: Store,
    id: String,
    started_at: f64,
    series: Option<Log>,
    logs: [Option<Log>; FIGURES.len()],
}

impl Hand {
    /// The run's folder, made where it is missing.
    fn ready(&mut self) -> Result<(&mut Self, Folder), String> {
        match self.store.make(&self.id) {
            Ok(folder) => Ok((self, folder)),
            Err(error) => Err(self.trouble("the run's folder", None, &error)),
        }
    }

    fn trouble(&self, what: &str, file: Option<&str>, error: &io::Error) -> String {
        let folder = self.store.folder(&self.id);
        let path = file.map_or(folder.clone(), |file| folder.join(file));
        format!("{what} is not kept whole: {}", failed(&path, error))
    }

    fn write(&mut self, folder: &Folder, job: Job) -> Done {
        match job {
            Job::Load { run_file, started_at } => {
                self.started_at = started_at;
                let written = folder.replace(RUN_FILE, run_file.as_bytes());
                written.map(drop).map_err(|error| self.trouble(RUN_FILE, Some(RUN_FILE), &error))
            }
            Job::Checkpoint(report) => {
                let bytes = serde_json::to_vec(&report).expect("plain values");
                let written = folder.replace(CHECKPOINT, &bytes);
                written.map(drop).map_err(|error| self.trouble("the checkpoint", Some(CHECKPOINT), &error))
            }
            Job::Row(row) => {
                let mut line = serde_json::to_vec(&row).expect("plain values");
                line.push(b'\n');
                let appended = Log::append(&mut self.series, folder, SERIES, String::new, &line);
                appended.map_err(|error| self.trouble(SERIES, Some(SERIES), &error))
            }
            Job::Interval(interval) => self.write_interval(folder, &interval),
            Job::Begin { .. } | Job::End { .. } | Job::Try => unreachable!("these are the recorder's own"),
        }
    }

    fn write_interval(&mut self, folder: &Folder, interval: &Interval) -> Done {
        let mut result = Ok(());
        for (index, figure) in FIGURES.into_iter().enumerate() {
            let mut lines = Vec::new();
            for gain in interval.gains.iter().filter(|gain| gain.figure == figure) {
                interval.write(gain, &mut lines).expect("a Vec takes everything");
            }
            if !lines.is_empty() {
                let name = hlog::file_name(figure);
                let head = || hlog::head(&self.id, self.started_at, figure);
                let appended = Log::append(&mut self.logs[index], folder, &name, head, &lines);
                result = result.and(appended.map_err(|error| self.trouble(&name, Some(&name), &error)));
            }
        }
        result
    }
}

/// A file that grows by whole lines.
struct Log {
    file: File,
    length: u64,
}

impl Log {
    /// Appends `lines` to the file `name`, which begins with `head` when it is new.
    fn append(
        log: &mut Option<Self>,
        folder: &Folder,
        name: &str,
        head: impl FnOnce() -> String,
        lines: &[u8],
    ) -> io::Result<()> {
        let open = match log {
            Some(open) => open,
            None => {
                let file = folder.append(name)?;
                let length = file.metadata()?.len();
                log.insert(Self { file, length })
            }
        };
        if open.length == 0 {
            open.write(head().as_bytes())?;
        }
        open.write(lines)
    }

    /// All of `bytes`, or nothing: the rest of a line that the disk did not take is cut off again.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.cut();
                Err(error)
            }
        }
    }

    fn cut(&self) {
        let _ = self.file.set_len(self.length);
    }
}

#[cfg(test)]
mod tests;
