//! What the state has kept of a run while it goes, and how much of the runs before it.

use scale_ring::host;

use super::State;
use crate::page;
use crate::run::recorder::Recorder;
use crate::run::supervisor::Supervisor;

impl State {
    /// Pages of runs that were cut off: whoever made their reports knows no pages.
    pub(super) fn keep_pages(&self) {
        for id in self.store.cut_off() {
            let report = self.store.report(Some(id)).and_then(|text| serde_json::from_slice(&text).ok());
            let Some(report) = report else { continue };
            if let Err(error) = self.store.write_page(id, page::report(&report).as_bytes()) {
                tracing::error!("cannot keep the page of run {id}: {error}");
            }
        }
    }

    /// Keeps run `id` from now on, if it is not a step of what is kept already.
    pub(super) fn record(&mut self, id: &str) {
        let folder = self.store.folder(id);
        self.recorder.get_or_insert_with(|| Recorder::start(folder, id));
    }

    pub(super) fn keep_checkpoint(&mut self) {
        let (now, cpu) = (host::monotonic_now(), host::thread_cpu_ns());
        if !self.recorder.as_mut().is_some_and(|recorder| recorder.is_checkpoint_due(now)) {
            return;
        }
        let report = self.report_with(Supervisor::report_without_series);
        if let (Some(recorder), Some(report)) = (&mut self.recorder, report) {
            recorder.checkpoint(report, now, host::thread_cpu_ns() - cpu);
        }
    }

    /// Keeps the second of the load, and says what could not be kept.
    pub(super) fn keep_second(&mut self) {
        let Some(recorder) = &mut self.recorder else { return };
        if let Some(run) = &mut self.run {
            recorder.row(run.event().now.clone());
            if recorder.takes_interval()
                && let Some(interval) = run.interval()
            {
                recorder.interval(interval);
            }
        }
        for why in recorder.troubles() {
            tracing::warn!("{why}");
            match (&self.scenario, &mut self.flow, &mut self.run) {
                (Some(course), ..) => course.warn([why]),
                (None, Some(flow), _) => flow.warn(why),
                (None, None, Some(run)) => run.warn(why),
                (None, None, None) => {}
            }
        }
    }

    /// Old runs make room, on a thread of its own: a folder may have many files, and a disk may be slow.
    pub(super) fn prune(&mut self) {
        if self.pruning.as_ref().is_some_and(|pruning| !pruning.is_finished()) {
            return;
        }
        let (store, keep, going) = (self.store.clone(), self.settings.keep, self.going().map(str::to_owned));
        let prune = move || {
            for run in store.prune(keep, going.as_deref()) {
                tracing::info!(run = %run.id, bytes = run.bytes, "removed to make room for newer runs");
            }
        };
        self.pruning = std::thread::Builder::new().name("prune".into()).spawn(prune).ok();
    }
}
