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
/// Whatever it takes, there is one after this time.
const CHECKPOINT_AFTER_MAX: Duration = Duration::from_secs(10);
/// Seconds are not closed to the millisecond.
const SECOND_EARLY: Duration = Duration::from_millis(200);
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
                if let Some(done) = done {
                    let _ = say.send(done);
                }
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

    /// Keeps a checkpoint, which was made at `now` and took `cpu_ns` of the control thread.
    pub fn checkpoint(&mut self, report: Report, now: Time, cpu_ns: u64) {
        let wait = Duration::from_nanos((cpu_ns as f64 / CHECKPOINT_SHARE_MAX) as u64);
        // A part of a second less, so that the one it is due in does not pass by.
        self.next_checkpoint = now + wait.min(CHECKPOINT_AFTER_MAX).saturating_sub(SECOND_EARLY);
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
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::run::hlog::Logged;
    use crate::run::series::Series;
    use crate::stream::meter::{Figure, Histograms};

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("scaled-recorder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    fn row(second: u64) -> SeriesRow {
        SeriesRow { at: second as f64, seconds: 1, messages_sent: second, ..SeriesRow::default() }
    }

    fn interval(until: u64) -> Interval {
        let mut histograms = Histograms::default();
        histograms.record(Figure::Response, 5_000_000);
        Logged::default().take(until, vec![("main".into(), histograms)])
    }

    /// Asks until it says so; a thread may be late, and no test waits for a time.
    fn until(mut is: impl FnMut() -> bool) {
        while !is() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_handed_over_stands_in_the_folder() {
        let folder = folder("whole");
        let mut recorder = Recorder::start(folder.clone(), "r1-0");
        recorder.load("name = \"x\"\n".into(), 1000.0);
        (1..=20).for_each(|second| recorder.row(row(second)));
        recorder.interval(interval(10));
        until(|| recorder.takes_interval());
        recorder.interval(interval(10));
        let now = host::monotonic_now();
        assert!(recorder.is_checkpoint_due(now));
        let mut report = Report::default();
        report.total.messages_sent = 210;
        recorder.checkpoint(report, now, 0);
        assert_eq!(recorder.end(), [""; 0]);
        assert_eq!(fs::read_to_string(folder.join(RUN_FILE)).unwrap(), "name = \"x\"\n");
        let series = Series::read(BufReader::new(File::open(folder.join(SERIES)).unwrap())).unwrap();
        assert_eq!(series.rows(), (1..=20).map(row).collect::<Vec<_>>());
        let report: Report = serde_json::from_slice(&fs::read(folder.join(CHECKPOINT)).unwrap()).unwrap();
        assert_eq!(report.total.messages_sent, 210);
        let log = fs::read_to_string(folder.join("response.hlog")).unwrap();
        let intervals = log.lines().filter(|line| line.starts_with("0.000,10.000,5.0")).count();
        assert_eq!((log.matches("StartTime: 1000.000").count(), intervals), (1, 2), "{log}");
        assert!(!folder.join("service.hlog").exists(), "what was never measured has no log");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_checkpoint_waits_the_longer_the_more_it_costs() {
        let folder = folder("cost");
        let mut recorder = Recorder::start(folder.clone(), "r1-0");
        let now = host::monotonic_now();
        let seconds = |seconds| now + Duration::from_secs(seconds);
        for (cpu_ms, first) in [(5, 1), (10, 1), (30, 3), (1_000_000, 10)] {
            recorder.checkpoint(Report::default(), now, cpu_ms * 1_000_000);
            until(|| recorder.is_checkpoint_due(seconds(100)));
            let due = (1..100).find(|&second| recorder.is_checkpoint_due(seconds(second)));
            assert_eq!(due, Some(first), "one that took {cpu_ms} ms");
        }
        drop(recorder.end());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_full_disk_costs_what_it_does_not_take_and_is_said_once() {
        let folder = folder("full");
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.join(SERIES)).unwrap();
        let mut recorder = Recorder::start(folder.clone(), "r1-0");
        (1..=20).for_each(|second| recorder.row(row(second)));
        recorder.load("# whole\n".into(), 1000.0);
        let troubles = recorder.end();
        assert_eq!(troubles.len(), 1, "{troubles:?}");
        for word in [SERIES, "No space left", "the run goes on"] {
            assert!(troubles[0].contains(word), "{word}: {troubles:?}");
        }
        assert_eq!(fs::read_to_string(folder.join(RUN_FILE)).unwrap(), "# whole\n");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_costs_nothing_else() {
        let folder = folder("file");
        fs::write(&folder, "a file").unwrap();
        let mut recorder = Recorder::start(folder.join("r1-0"), "r1-0");
        assert!(recorder.troubles()[0].contains("the run's folder"));
        recorder.row(row(1));
        assert_eq!(recorder.end().len(), 1, "what is missing is said, too");
        fs::remove_file(folder).unwrap();
    }

    #[test]
    fn what_a_disk_takes_of_a_line_is_cut_off_again() {
        let path = folder("torn");
        let mut log = None;
        Log::append(&mut log, &path, String::new, b"one\n").unwrap();
        // Something else has written behind our back: as much as a disk takes of a line before it is full.
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"tw").unwrap();
        let mut open = log.unwrap();
        open.file = File::open(&path).unwrap();
        assert!(open.write(b"two\n").is_err(), "it is open for reading alone");
        open.file = OpenOptions::new().append(true).open(&path).unwrap();
        open.cut();
        open.write(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\nthree\n");
        fs::remove_file(path).unwrap();
    }
}
