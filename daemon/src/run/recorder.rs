//! What a going run leaves in its folder, second by second, written by a thread of its own: neither the run nor the
//! control thread waits for a disk.
//!
//! `series.jsonl` has each row as it came, the [`hlog`] files an interval each ten seconds, `run.toml` the run file, and
//! `checkpoint.json` the report so far, without its series.
//!
//! A disk that is full, slow or not there costs what could not be written, and says so once; the run goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

use scale_api::report::{Report, SeriesRow};
use scale_ring::{Time, host};

use super::hlog::{self, FIGURES, Interval};
use super::store::{CHECKPOINT, RUN_FILE, SERIES, replace};

/// Pieces that wait for the disk at most; what comes while so many wait is left out.
const QUEUE_MAX: usize = 64;
/// A checkpoint is made each second, and less often where that would take more than this share of the control thread.
const CHECKPOINT_SHARE_MAX: f64 = 0.01;
/// At a run's end, the longest wait for the disk to take what is queued.
const END_WAIT: Duration = Duration::from_millis(300);

/// What is written.
enum Piece {
    Load { run_file: String, started_at: f64 },
    Row(Box<SeriesRow>),
    Interval(Box<Interval>),
    Checkpoint(Box<Report>),
}

/// What the thread says.
enum Said {
    /// An interval or a checkpoint is written, or could not be.
    IntervalDone,
    CheckpointDone,
    Trouble(String),
}

/// The recorder of a going run.
pub struct Recorder {
    sender: SyncSender<Piece>,
    said: Receiver<Said>,
    /// One of each at a time, so that a slow disk does not fill the memory.
    has_interval: bool,
    has_checkpoint: bool,
    next_checkpoint: Time,
    troubles: Vec<String>,
    is_behind: bool,
}

impl Recorder {
    /// One for run `id`, in `folder`.
    pub fn start(folder: PathBuf, id: &str) -> Self {
        let (sender, pieces) = mpsc::sync_channel(QUEUE_MAX);
        let (say, said) = mpsc::channel();
        let mut recorder = Self {
            sender,
            said,
            has_interval: false,
            has_checkpoint: false,
            next_checkpoint: host::monotonic_now(),
            troubles: Vec::new(),
            is_behind: false,
        };
        // Made here, so that the id is taken.
        if let Err(error) = fs::create_dir_all(&folder) {
            recorder.troubles.push(trouble(&folder, "the run's folder", &error));
        }
        let mut hand =
            Hand { folder, id: id.to_owned(), started_at: 0.0, series: None, logs: Default::default() };
        let write = move || {
            let mut told = false;
            while let Ok(piece) = pieces.recv() {
                let done = match &piece {
                    Piece::Load { .. } | Piece::Row(_) => None,
                    Piece::Interval(_) => Some(Said::IntervalDone),
                    Piece::Checkpoint(_) => Some(Said::CheckpointDone),
                };
                if let Err(why) = hand.write(piece)
                    && !std::mem::replace(&mut told, true)
                {
                    let _ = say.send(Said::Trouble(why));
                }
                done.map(|done| say.send(done));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("recorder".into()).spawn(write) {
            recorder
                .troubles
                .push(format!("nothing of this run is kept as it goes: no thread for it: {error}"));
        }
        recorder
    }

    /// Load begins: keeps its run file. Rows and intervals count from `started_at`, in seconds since 1970.
    pub fn load(&mut self, run_file: String, started_at: f64) {
        self.send(Piece::Load { run_file, started_at });
    }

    /// Keeps a row of the series.
    pub fn row(&mut self, row: SeriesRow) {
        self.send(Piece::Row(Box::new(row)));
    }

    /// Whether an interval would be taken; while the disk has not taken the last one it would not, and the next is longer.
    pub fn takes_interval(&mut self) -> bool {
        self.hear();
        !self.has_interval
    }

    /// Keeps an interval of the histogram logs.
    pub fn interval(&mut self, interval: Interval) {
        self.has_interval = self.send(Piece::Interval(Box::new(interval)));
    }

    /// Whether a checkpoint is due at `now`.
    pub fn is_checkpoint_due(&mut self, now: Time) -> bool {
        self.hear();
        !self.has_checkpoint && now >= self.next_checkpoint
    }

    /// Keeps a checkpoint, which it took since `begun` to make.
    pub fn checkpoint(&mut self, report: Report, begun: Time) {
        let now = host::monotonic_now();
        let took_ns = now.ns_since(begun) as f64;
        self.next_checkpoint = now.plus_ns((took_ns / CHECKPOINT_SHARE_MAX) as u64 - took_ns as u64);
        self.has_checkpoint = self.send(Piece::Checkpoint(Box::new(report)));
    }

    /// What has gone wrong since this was last asked: the first thing that could not be written, and that the disk is slow.
    pub fn troubles(&mut self) -> Vec<String> {
        self.hear();
        std::mem::take(&mut self.troubles)
    }

    /// Waits until all is written, but not for long; what has gone wrong.
    pub fn end(self) -> Vec<String> {
        let Self { sender, said, mut troubles, .. } = self;
        drop(sender);
        // The thread ends with its queue, and what it says with it.
        let until = host::monotonic_now() + END_WAIT;
        loop {
            match said.recv_timeout(until.since(host::monotonic_now())) {
                Ok(Said::Trouble(why)) => troubles.push(why),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return troubles,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    troubles
                        .push("the disk is slow: the run's last seconds may be missing in its folder".into());
                    return troubles;
                }
            }
        }
    }

    fn hear(&mut self) {
        while let Ok(said) = self.said.try_recv() {
            match said {
                Said::IntervalDone => self.has_interval = false,
                Said::CheckpointDone => self.has_checkpoint = false,
                Said::Trouble(why) => self.troubles.push(why),
            }
        }
    }

    fn send(&mut self, piece: Piece) -> bool {
        match self.sender.try_send(piece) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                if !std::mem::replace(&mut self.is_behind, true) {
                    self.troubles
                        .push("the disk is slow: seconds are missing in what is kept of this run; its report is whole".into());
                }
                false
            }
            // No thread, which was said.
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

fn trouble(path: &Path, what: &str, error: &io::Error) -> String {
    format!("{what} is not kept whole: {}: {error}; the run goes on", path.display())
}

/// The thread's own: open files and where they are.
struct Hand {
    folder: PathBuf,
    id: String,
    started_at: f64,
    series: Option<Log>,
    logs: [Option<Log>; FIGURES.len()],
}

impl Hand {
    fn write(&mut self, piece: Piece) -> Result<(), String> {
        match piece {
            Piece::Load { run_file, started_at } => {
                self.started_at = started_at;
                let path = self.folder.join(RUN_FILE);
                replace(&path, run_file.as_bytes()).map_err(|error| trouble(&path, RUN_FILE, &error))
            }
            Piece::Checkpoint(report) => {
                let path = self.folder.join(CHECKPOINT);
                let bytes = serde_json::to_vec(&report).expect("plain values");
                replace(&path, &bytes).map_err(|error| trouble(&path, "the checkpoint", &error))
            }
            Piece::Row(row) => {
                let mut line = serde_json::to_vec(&row).expect("plain values");
                line.push(b'\n');
                Log::append(&mut self.series, &self.folder.join(SERIES), String::new, &line)
            }
            Piece::Interval(interval) => self.write_interval(&interval),
        }
    }

    fn write_interval(&mut self, interval: &Interval) -> Result<(), String> {
        let mut result = Ok(());
        for (figure, log) in FIGURES.into_iter().zip(&mut self.logs) {
            let mut lines = Vec::new();
            for gain in interval.gains.iter().filter(|gain| gain.figure == figure) {
                interval.write(gain, &mut lines).expect("a Vec takes everything");
            }
            if !lines.is_empty() {
                let path = self.folder.join(hlog::file_name(figure));
                let head = || hlog::head(&self.id, self.started_at, figure);
                result = result.and(Log::append(log, &path, head, &lines));
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
    /// Appends `lines` to the file at `path`, which begins with `head` when it is new.
    fn append(
        log: &mut Option<Self>,
        path: &Path,
        head: impl FnOnce() -> String,
        lines: &[u8],
    ) -> Result<(), String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let append = |log: &mut Option<Self>| {
            let open = match log {
                Some(open) => open,
                None => {
                    let file = OpenOptions::new().append(true).create(true).open(path)?;
                    let length = file.metadata()?.len();
                    log.insert(Self { file, length })
                }
            };
            if open.length == 0 {
                open.write(head().as_bytes())?;
            }
            open.write(lines)
        };
        append(log).map_err(|error| trouble(path, &name, &error))
    }

    /// All of `bytes`, or nothing: the rest of a line that the disk did not take is cut off again.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }
}
