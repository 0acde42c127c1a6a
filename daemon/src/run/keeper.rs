//! The state folder as the control thread knows it: what is to be kept is handed to one thread that may wait for a disk, and
//! what that thread says stands here. Neither a run nor the control thread waits for more than [`ANSWER_WAIT`], at a run's end.
//!
//! A folder that is full, read-only, slow or not there costs what it did not take. It is said once in the run's report,
//! and for as long as it lasts in [`Keeper::warnings`]. Results that it did not take are held here, the newest
//! [`HELD_MAX`], and are handed over again once it takes writes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;

use scale_api::http::RunSummary;
use scale_api::report::{Report, SeriesRow};
use scale_ring::{Time, host};

use super::hlog::Interval;
use super::recorder::{Done, Job, Kind, Recorder};
use super::store::{Store, summary_of};

/// Jobs that wait for the disk at most; what comes while so many wait is left out.
const QUEUE_MAX: usize = 64;
/// A checkpoint is made each second, and less often where that would take more than this share of the control thread.
const CHECKPOINT_SHARE_MAX: f64 = 0.01;
/// Whatever it takes, there is one after this time.
const CHECKPOINT_AFTER_MAX: Duration = Duration::from_secs(10);
/// Seconds are not closed to the millisecond.
const SECOND_EARLY: Duration = Duration::from_millis(200);
/// At a run's end, the longest wait for what is queued, and as long again for the report.
pub const ANSWER_WAIT: Duration = Duration::from_millis(300);
/// A disk that takes longer than this is slow.
const SLOW_AFTER: Duration = Duration::from_secs(2);
/// While something is wrong, the folder is tried so often.
const TRY_EVERY: Duration = Duration::from_secs(5);
/// Results held that the folder did not take.
pub const HELD_MAX: usize = 4;

/// A result that the folder has not taken.
struct Held {
    report: Arc<Report>,
    histograms: Option<Arc<Vec<u8>>>,
    /// It waits for the disk; else it is to be handed over again.
    is_handed: bool,
    why: String,
}

/// What the thread says of a job.
struct Said {
    kind: Kind,
    result: Done,
}

/// What is kept of runs, for the control thread.
pub struct Keeper {
    store: Store,
    jobs: SyncSender<Job>,
    said: Receiver<Said>,
    /// When each job was handed over that has no answer.
    handed: VecDeque<Time>,
    /// The run that is being kept.
    run: Option<String>,
    /// One of each at a time, so that a slow disk does not fill the memory.
    has_interval: bool,
    has_checkpoint: bool,
    next_checkpoint: Time,
    /// For the run: what it has not been told yet, and what it has been told of.
    troubles: Vec<String>,
    is_told: bool,
    is_behind: bool,
    is_slow: bool,
    /// What was wrong with the last job of each kind.
    standing: BTreeMap<Kind, String>,
    errors: u64,
    held: VecDeque<Held>,
    next_try: Time,
}

impl Keeper {
    /// One for `store`; a page of a report is what `page` makes of it.
    pub fn start(store: Store, page: fn(&Report) -> String) -> Self {
        let mut recorder = Recorder::new(store.clone(), page);
        let mut keeper = Self::over(store, move |job, say: &mut dyn FnMut(_)| recorder.work(job, say));
        keeper.hand_over(Job::Try);
        keeper
    }

    /// The same with another hand: `work` does a job and says what came of it.
    pub(super) fn over(
        store: Store,
        mut work: impl FnMut(Job, &mut dyn FnMut(Done)) + Send + 'static,
    ) -> Self {
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE_MAX);
        let (say, said) = mpsc::channel();
        let mut standing = BTreeMap::new();
        let write = move || {
            while let Ok(job) = queue.recv() {
                let kind = job.kind();
                work(job, &mut |result| drop(say.send(Said { kind, result })));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("keeper".into()).spawn(write) {
            standing.insert(Kind::Begin, format!("nothing is kept of runs: no thread for it: {error}"));
        }
        let held = store.unwritten().into_iter().map(|report| Held {
            report: Arc::new(report),
            histograms: None,
            is_handed: false,
            why: "the report of a run that was cut off is not kept yet".into(),
        });
        let now = host::monotonic_now();
        Self {
            held: held.collect(),
            store,
            jobs,
            said,
            handed: VecDeque::new(),
            run: None,
            has_interval: false,
            has_checkpoint: false,
            next_checkpoint: now,
            troubles: Vec::new(),
            is_told: false,
            is_behind: false,
            is_slow: false,
            standing,
            errors: 0,
            next_try: now,
        }
    }

    /// Keeps run `id` from now on, if it is not a step of what is kept already.
    pub fn begin(&mut self, id: &str) {
        if self.run.is_some() {
            return;
        }
        self.store.take(id);
        self.hear();
        self.run = Some(id.to_owned());
        (self.has_interval, self.has_checkpoint) = (false, false);
        self.next_checkpoint = host::monotonic_now();
        self.troubles.clear();
        (self.is_told, self.is_behind, self.is_slow) = (false, false, false);
        self.hand_over(Job::Begin { id: id.to_owned() });
    }

    /// Load begins: keeps its run file. Rows and intervals count from `started_at`, in seconds since 1970.
    pub fn load(&mut self, run_file: String, started_at: f64) {
        self.hand_over(Job::Load { run_file, started_at });
    }

    /// Keeps a row of the series.
    pub fn row(&mut self, row: SeriesRow) {
        self.hand_over(Job::Row(Box::new(row)));
    }

    /// Whether an interval would be taken; while the disk has not taken the last one it would not, and the next is longer.
    pub fn takes_interval(&mut self) -> bool {
        self.hear();
        self.run.is_some() && !self.has_interval
    }

    /// Keeps an interval of the histogram logs.
    pub fn interval(&mut self, interval: Interval) {
        self.has_interval = self.hand_over(Job::Interval(Box::new(interval)));
    }

    /// Whether a checkpoint is due at `now`.
    pub fn is_checkpoint_due(&mut self, now: Time) -> bool {
        self.hear();
        self.run.is_some() && !self.has_checkpoint && now >= self.next_checkpoint
    }

    /// Keeps a checkpoint, which was made at `now` and took `cpu_ns` of the control thread.
    pub fn checkpoint(&mut self, report: Report, now: Time, cpu_ns: u64) {
        let wait = Duration::from_nanos((cpu_ns as f64 / CHECKPOINT_SHARE_MAX) as u64);
        // A part of a second less, so that the one it is due in does not pass by.
        self.next_checkpoint = now + wait.min(CHECKPOINT_AFTER_MAX).saturating_sub(SECOND_EARLY);
        self.has_checkpoint = self.hand_over(Job::Checkpoint(Box::new(report)));
    }

    /// What the run has not been told yet: the first thing that could not be written, and that the disk is slow.
    pub fn troubles(&mut self) -> Vec<String> {
        self.hear();
        std::mem::take(&mut self.troubles)
    }

    /// The run is over: waits until all of it is written, but not for long; what it has not been told yet.
    pub fn settle(&mut self) -> Vec<String> {
        if self.run.take().is_none() {
            return Vec::new();
        }
        if !self.wait() {
            self.troubles
                .push("the disk is slow: the run's last seconds may be missing in its folder".into());
        }
        std::mem::take(&mut self.troubles)
    }

    /// Keeps a run's report, with the histograms behind it.
    ///
    /// # Errors
    /// Why it is not kept yet; it is held.
    pub fn end(&mut self, report: Report, histograms: Option<Vec<u8>>) -> Done {
        let id = report.run.id.clone();
        self.store.take(&id);
        let why = format!(
            "the report is not kept yet: {} has not answered; it is held until the daemon ends, save what was printed",
            self.store.folder(&id).display()
        );
        let histograms = histograms.map(Arc::new);
        self.held.push_back(Held { report: Arc::new(report), histograms, is_handed: false, why });
        if self.held.len() > HELD_MAX
            && let Some(oldest) = self.held.iter().position(|held| !held.is_handed)
            && let Some(lost) = self.held.remove(oldest)
        {
            tracing::error!(run = %lost.report.run.id, "its report is lost: {}", lost.why);
        }
        self.hand_over_held();
        self.wait();
        match self.held.iter().find(|held| held.report.run.id == id) {
            Some(held) => Err(held.why.clone()),
            None => Ok(()),
        }
    }

    /// Called several times a second: hears what the thread says, and while something is wrong has it try again.
    pub fn poll(&mut self, now: Time) {
        self.hear();
        let slow = self.waits_since(now).is_some();
        if slow && self.run.is_some() && !std::mem::replace(&mut self.is_slow, true) {
            self.troubles.push(
                "the disk is slow: what is kept of this run is behind, and may end before it; the run goes on".into(),
            );
        }
        let is_well = self.standing.is_empty() && self.held.is_empty();
        if is_well || !self.handed.is_empty() || now < self.next_try {
            return;
        }
        self.next_try = now + TRY_EVERY;
        if self.held.is_empty() {
            self.hand_over(Job::Try);
        } else {
            self.hand_over_held();
        }
    }

    /// What is wrong with the folder, now. Each sentence goes when it is mended.
    pub fn warnings(&self, now: Time) -> Vec<String> {
        let folder = self.store.root().display();
        let mut warnings: Vec<String> = Vec::new();
        if let Some(waits) = self.waits_since(now) {
            warnings.push(format!(
                "the state folder is slow: {folder} has taken nothing for {} s; runs go on, what they leave is behind; see to its disk",
                waits.as_secs()
            ));
        }
        // One is enough: the folder is the same.
        warnings.extend(
            self.standing
                .values()
                .next()
                .map(|why| format!("{why}; see to {folder}, or give another --state")),
        );
        if !self.held.is_empty() {
            let ids: Vec<&str> = self.held.iter().map(|held| held.report.run.id.as_str()).collect();
            warnings.push(format!(
                "kept in memory alone, until the folder takes them or the daemon ends: results of {}",
                ids.join(", ")
            ));
        }
        warnings
    }

    /// Whether the folder takes what it is given, as far as is known, and how often it has not since the daemon began.
    pub fn condition(&self, now: Time) -> (bool, u64) {
        (self.standing.is_empty() && self.waits_since(now).is_none(), self.errors)
    }

    /// A result that is held; the last one without an id. It says that it is.
    pub fn held(&self, id: Option<&str>) -> Option<Report> {
        let held = self.find(id)?;
        let mut report = Report::clone(&held.report);
        report.warnings.push(held.why.clone());
        Some(report)
    }

    /// Its histograms.
    pub fn held_histograms(&self, id: Option<&str>) -> Option<Vec<u8>> {
        self.find(id)?.histograms.as_deref().cloned()
    }

    /// All results that are held, for a list.
    pub fn held_runs(&self) -> Vec<RunSummary> {
        self.held.iter().map(|held| summary_of(&held.report)).collect()
    }

    /// Forgets a result that is held. False where there is none.
    pub fn forget(&mut self, id: &str) -> bool {
        let before = self.held.len();
        // One that waits for the disk is on it soon.
        self.held.retain(|held| held.is_handed || held.report.run.id != id);
        self.held.len() < before
    }

    fn find(&self, id: Option<&str>) -> Option<&Held> {
        match id {
            Some(id) => self.held.iter().find(|held| held.report.run.id == id),
            // Where one is held, nothing newer has been written.
            None => self.held.back(),
        }
    }

    /// How long the oldest job has been waiting, if that is too long.
    fn waits_since(&self, now: Time) -> Option<Duration> {
        self.handed.front().map(|&since| now.since(since)).filter(|waits| *waits > SLOW_AFTER)
    }

    /// Waits for the answers to everything; whether they came. A disk that is slow already is not waited for.
    fn wait(&mut self) -> bool {
        let now = host::monotonic_now();
        self.hear();
        let until = if self.waits_since(now).is_some() { now } else { now + ANSWER_WAIT };
        while !self.handed.is_empty() {
            match self.said.recv_timeout(until.since(host::monotonic_now())) {
                Ok(said) => self.take(said),
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => self.handed.clear(),
            }
        }
        true
    }

    fn hear(&mut self) {
        while let Ok(said) = self.said.try_recv() {
            self.take(said);
        }
    }

    fn take(&mut self, Said { kind, result }: Said) {
        self.handed.pop_front();
        match kind {
            Kind::Interval => self.has_interval = false,
            Kind::Checkpoint => self.has_checkpoint = false,
            _ => {}
        }
        let result = if kind == Kind::End { self.take_end(result) } else { result };
        match result {
            Ok(()) => self.went_well(kind),
            Err(why) => self.went_wrong(kind, why),
        }
    }

    fn take_end(&mut self, result: Done) -> Done {
        let at = self.held.iter().position(|held| held.is_handed).expect("it was handed over");
        let Err(why) = result else {
            self.held.remove(at);
            self.next_try = host::monotonic_now();
            return Ok(());
        };
        let why = format!("the report is not kept: {why}");
        let held = &mut self.held[at];
        held.is_handed = false;
        held.why = format!("{why}; it is held until the daemon ends, save what was printed");
        Err(why)
    }

    fn went_well(&mut self, kind: Kind) {
        let was_wrong = !self.standing.is_empty();
        self.standing.remove(&kind);
        // What takes a report takes all that is smaller.
        if matches!(kind, Kind::End | Kind::Try) {
            self.standing.clear();
        }
        if was_wrong && self.standing.is_empty() {
            tracing::info!("{} takes what it is given again", self.store.root().display());
        }
    }

    fn went_wrong(&mut self, kind: Kind, why: String) {
        self.errors += 1;
        if self.standing.is_empty() {
            tracing::warn!("{why}");
            self.next_try = host::monotonic_now() + TRY_EVERY;
        }
        if self.run.is_some() && kind.is_of_a_run() && !std::mem::replace(&mut self.is_told, true) {
            self.troubles.push(format!("{why}; the run goes on"));
        }
        self.standing.insert(kind, why);
    }

    /// The newest first, and one at a time: results are large.
    fn hand_over_held(&mut self) {
        if self.held.iter().any(|held| held.is_handed) {
            return;
        }
        let Some(held) = self.held.len().checked_sub(1) else { return };
        let Held { report, histograms, .. } = &self.held[held];
        let job = Job::End { report: report.clone(), histograms: histograms.clone() };
        self.held[held].is_handed = self.hand_over(job);
    }

    fn hand_over(&mut self, job: Job) -> bool {
        match self.jobs.try_send(job) {
            Ok(()) => {
                self.handed.push_back(host::monotonic_now());
                true
            }
            Err(TrySendError::Full(_)) => {
                self.errors += 1;
                if self.run.is_some() && !std::mem::replace(&mut self.is_behind, true) {
                    self.troubles
                        .push("the disk is slow: seconds are missing in what is kept of this run".into());
                }
                false
            }
            // No thread, which stands among the warnings.
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests;
