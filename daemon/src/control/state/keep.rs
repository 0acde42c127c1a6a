//! What the state has kept of a run while it goes, and how much of the runs before it.

use scale_api::http::{Problem, ProblemCode, RunSummary};
use scale_ring::host;

use super::State;
use crate::page;
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

    pub(super) fn keep_checkpoint(&mut self) {
        let (now, cpu) = (host::monotonic_now(), host::thread_cpu_ns());
        if !self.keeper.is_checkpoint_due(now) {
            return;
        }
        if let Some(report) = self.report_with(Supervisor::report_without_series) {
            self.keeper.checkpoint(report, now, host::thread_cpu_ns() - cpu);
        }
    }

    /// Keeps the second of the load, and says what could not be kept.
    pub(super) fn keep_second(&mut self) {
        if let Some(run) = &mut self.run {
            self.keeper.row(run.event().now.clone());
            if self.keeper.takes_interval()
                && let Some(interval) = run.interval()
            {
                self.keeper.interval(interval);
            }
        }
        for why in self.keeper.troubles() {
            match (&self.scenario, &mut self.flow, &mut self.run) {
                (Some(course), ..) => course.warn([why]),
                (None, Some(flow), _) => flow.warn(why),
                (None, None, Some(run)) => run.warn(why),
                (None, None, None) => {}
            }
        }
    }

    /// The histograms behind a report's latencies, of the going run so far or as kept, read on a thread that may stand
    /// still.
    pub fn histograms(&self, id: &str) -> impl FnOnce() -> Result<Vec<u8>, Problem> + Send + 'static {
        let going = self.run.as_ref().filter(|run| run.id == id || id == "current");
        let wanted = (id != "last" && id != "current").then(|| id.to_owned());
        let known = match going {
            Some(run) => Some(serde_json::to_vec(&run.histograms()).expect("plain words")),
            None => self.keeper.held_histograms(wanted.as_deref()),
        };
        let (store, id) = (self.store.clone(), id.to_owned());
        move || {
            known.or_else(|| store.histograms(wanted.as_deref())).ok_or_else(|| {
                Problem::new(ProblemCode::NotFound, format!("no histograms of a run `{id}` are kept here"))
            })
        }
    }

    /// What removes a run that has ended, on a thread that may stand still; what is the last one then.
    ///
    /// # Errors
    /// It is still going; later also: it owns things on a Coder deployment, or there is none.
    pub fn remove(
        &mut self,
        id: &str,
    ) -> Result<impl FnOnce() -> Result<Option<RunSummary>, Problem> + Send + 'static, Problem> {
        if self.is_going(id) {
            let detail = format!("run {id} is still going; end it first with `scalectl stop`");
            return Err(Problem::new(ProblemCode::RunInProgress, detail));
        }
        let (store, id, was_held) = (self.store.clone(), id.to_owned(), self.keeper.forget(id));
        Ok(move || {
            if store.remove(&id).map_err(|why| Problem::new(ProblemCode::Invalid, why))? || was_held {
                return Ok(store.last());
            }
            let detail = format!("no run `{id}` is kept here; see `scalectl runs`");
            Err(Problem::new(ProblemCode::NotFound, detail))
        })
    }

    /// Runs were removed, and `last` is the last one of those that are left.
    pub fn removed(&mut self, last: Option<RunSummary>) {
        self.last = last;
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
