//! A run's thresholds while it goes: windows of the last seconds, how all of them stand, and whether one
//! ends the run. At its end [`verdict`] says what it came to.
//!
//! A window slides by the second. Of what is counted in steady state it covers seconds that were wholly
//! steady, one behind the other: stages follow each other in it, a pause begins it anew, and so does a window in which
//! disruptions were expected. Of what is counted
//! over the whole run it covers every second.
//!
//! Kept are counts of each second, and samples of those figures alone that a threshold names.

mod samples;
mod scope;
pub mod verdict;
mod wait;
mod window;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use hdrhistogram::Histogram;
use scale_api::report::{Latency, Report, ThresholdResult};
use scale_api::threshold::{Threshold, When, show};

pub use self::samples::Samples;
use self::scope::{Cells, Scopes};
use self::wait::Wait;
use self::window::{Second, Window};
use super::result::distribution;
use crate::load::{Group, Traffic};
use crate::stream::meter::{Cell, Figure, Histograms};
use crate::worker::share::GroupGauges;

/// All thresholds of a run.
pub struct Judge {
    groups: Arc<[Group]>,
    watches: Vec<Watch>,
    waits: Vec<Wait>,
    sampled: Vec<Sampled>,
    scopes: Scopes,
    ended_by: Option<usize>,
    /// The last second.
    at: u64,
}

/// A threshold as it stands.
struct Watch {
    threshold: Threshold,
    /// The group's index, or one beyond the last for all of them.
    scope: usize,
    /// The samples that it needs.
    sampled: Option<usize>,
    window: Option<Window>,
    /// Its last window, or the run so far.
    now: Option<f64>,
    /// How it stands, where that is more than a value: of disruptions.
    stands: Option<ThresholdResult>,
    /// Its worst window, and the second at whose end that ended.
    worst: Option<(f64, u64)>,
    breached_since: Option<u64>,
    /// The value with which it ended the run, and when.
    ended: Option<(f64, u64)>,
}

/// A figure of which samples are needed.
struct Sampled {
    scope: usize,
    figure: Figure,
    /// The whole run's, where a threshold without a window names it.
    whole: Option<Box<Histogram<u64>>>,
}

/// A second of a run.
pub struct Seen<'a> {
    /// Its number, and how many it covers.
    pub at: u64,
    /// See there.
    pub seconds: u64,
    /// A part of it was expected to be disrupted: it is none of steady state.
    pub is_expected: bool,
    /// Of each worker: counters so far, and gauges of its groups.
    pub workers: &'a [(&'a [Cell], &'a [GroupGauges])],
    /// As [`Judge::samples`] had them.
    pub samples: Vec<Rc<Samples>>,
    /// By worker: CPU time over wall time.
    pub busy: &'a [f64],
    /// What queries have answered.
    pub observe: &'a BTreeMap<String, f64>,
}

impl Judge {
    /// One that judges by `thresholds`, which have passed their checks.
    pub fn new(thresholds: Vec<Threshold>, groups: Arc<[Group]>) -> Self {
        let mut judge = Self {
            scopes: Scopes::new(groups.len()),
            groups,
            watches: Vec::new(),
            waits: Vec::new(),
            sampled: Vec::new(),
            ended_by: None,
            at: 0,
        };
        for threshold in thresholds {
            let window = threshold.over().map(|over| over.ns() / 1_000_000_000);
            let watch = judge.watch(threshold, window);
            judge.watches.push(watch);
        }
        judge
    }

    /// Watches a threshold from now on, by windows of so many seconds, or by the run so far.
    fn watch(&mut self, threshold: Threshold, window: Option<u64>) -> Watch {
        let metric = threshold.metric();
        let index = |name: &str| self.groups.iter().position(|group| &*group.name == name);
        let scope = metric.group().and_then(index).unwrap_or(self.groups.len());
        let figure = metric.latency().and_then(|name| Figure::ALL.into_iter().find(|it| it.name() == name));
        let sampled = figure.map(|figure| {
            let place = self.sampled.iter().position(|it| (it.scope, it.figure) == (scope, figure));
            let place = place.unwrap_or_else(|| {
                self.sampled.push(Sampled { scope, figure, whole: None });
                self.sampled.len() - 1
            });
            if window.is_none() {
                self.sampled[place].whole.get_or_insert_with(|| Box::new(Histograms::empty()));
            }
            place
        });
        Watch {
            threshold,
            scope,
            sampled,
            window: window.map(Window::new),
            now: None,
            stands: None,
            worst: None,
            breached_since: None,
            ended: None,
        }
    }

    /// What is judged, and what is waited for.
    fn all(&self) -> impl Iterator<Item = &Watch> {
        self.watches.iter().chain(self.waits.iter().map(|wait| &wait.watch))
    }

    /// Whether [`Self::take`] needs the report so far.
    pub fn reads_reports(&self) -> bool {
        self.all().any(|watch| watch.window.is_none())
    }

    /// The second's samples, of each worker by cell, that thresholds need; each second's are taken once.
    pub fn samples(&mut self, workers: &[&[Histograms]]) -> Vec<Rc<Samples>> {
        let windowed =
            |place: usize| self.all().any(|watch| watch.window.is_some() && watch.sampled == Some(place));
        let windowed: Vec<bool> = (0..self.sampled.len()).map(windowed).collect();
        let mut all = Vec::new();
        for (sampled, windowed) in self.sampled.iter_mut().zip(windowed) {
            if !windowed && sampled.whole.is_none() {
                // Somebody waited for it.
                all.push(Rc::default());
                continue;
            }
            let cells = Cells::of(&self.groups, sampled.scope, sampled.figure);
            let histograms = workers.iter().flat_map(|cell| cells.pick(cell));
            let samples = Samples::of(histograms.filter_map(|cell| cell.figure(sampled.figure)));
            if let Some(whole) = &mut sampled.whole {
                for (value, count) in samples.iter() {
                    whole.saturating_record_n(u64::from(value), u64::from(count));
                }
            }
            all.push(Rc::new(if windowed { samples.coarse() } else { Samples::default() }));
        }
        all
    }

    /// A second is complete. `report`: the run's so far, without latencies, if [`Self::reads_reports`].
    pub fn take(&mut self, seen: &Seen<'_>, report: Option<Report>) {
        self.scopes.take(&self.groups, seen);
        self.at = seen.at;
        self.forget_waits();
        let report = report.map(|report| self.complete(report));
        let Self { watches, waits, scopes, sampled, .. } = self;
        let kept = Kept { seen, busy: seen.busy.into(), scopes, sampled };
        for watch in watches {
            watch.take(&kept);
            if let Some(report) = report.as_ref().filter(|_| watch.window.is_none()) {
                watch.read(report, Threshold::evaluate);
            }
            watch.note_breach(seen.at, kept.scopes);
        }
        for watch in waits.iter_mut().map(|wait| &mut wait.watch) {
            watch.take(&kept);
            if let Some(report) = report.as_ref().filter(|_| watch.window.is_none()) {
                watch.read(report, Threshold::evaluate_newest);
            }
        }
    }

    /// The report so far, with the latencies that thresholds name. What is under way is not lost yet.
    fn complete(&self, mut report: Report) -> Report {
        for part in report.groups.iter_mut().map(|part| &mut part.load).chain([&mut report.load]) {
            let known = part.messages_echoed + part.messages_unanswered;
            part.echoed_ratio =
                part.echoed_ratio.filter(|_| known > 0).map(|_| part.messages_echoed as f64 / known as f64);
        }
        for sampled in &self.sampled {
            let Some(whole) = sampled.whole.as_ref().filter(|whole| !whole.is_empty()) else { continue };
            let latency: &mut Latency = match report.groups.get_mut(sampled.scope) {
                Some(part) => &mut part.latency,
                None => &mut report.latency,
            };
            latency.set(sampled.figure.name(), distribution(whole));
        }
        report
    }

    /// Why a breach ends the run now, if one does; said once.
    pub fn end(&mut self, at: u64) -> Option<String> {
        if self.ended_by.is_some() {
            return None;
        }
        let (index, value) = self.watches.iter().enumerate().find_map(|(index, watch)| {
            let lasts = (at - watch.breached_since?) * 1_000_000_000;
            (lasts >= watch.threshold.abort()?.ns()).then_some((index, watch.now?))
        })?;
        self.ended_by = Some(index);
        self.watches[index].ended = Some((value, at));
        self.ending()
    }

    /// Why a breach has ended the run, if one has.
    pub fn ending(&self) -> Option<String> {
        let watch = &self.watches[self.ended_by?];
        let (value, at) = watch.ended?;
        let why = watch.stands.as_ref().and_then(|stands| stands.why.clone());
        let was = show(&ThresholdResult { why, ..watch.result(Some(value), false) });
        let (expression, metric) = (watch.threshold.expression(), watch.threshold.metric());
        Some(format!("threshold `{expression}` ended the run at second {at}: {metric} was {was}"))
    }

    /// All thresholds as they stand.
    pub fn standing(&self) -> Vec<ThresholdResult> {
        let as_it_is = |watch: &Watch| match (&watch.stands, watch.now) {
            (Some(stands), _) => stands.clone(),
            (None, Some(value)) => watch.result(Some(value), watch.threshold.is_met(value)),
            (None, None) => watch.result(None, false),
        };
        self.watches.iter().map(|watch| watch.judged().unwrap_or_else(|| as_it_is(watch))).collect()
    }

    /// All thresholds by the whole run's report.
    pub fn results(&self, report: &Report) -> Vec<ThresholdResult> {
        let watches = self.watches.iter();
        watches.map(|watch| watch.judged().unwrap_or_else(|| watch.threshold.evaluate(report))).collect()
    }
}

/// What a second brings to each watch.
struct Kept<'a> {
    seen: &'a Seen<'a>,
    busy: Rc<[f64]>,
    scopes: &'a Scopes,
    sampled: &'a [Sampled],
}

impl Watch {
    /// Its window slides by a second.
    fn take(&mut self, kept: &Kept<'_>) {
        let Some(window) = &mut self.window else { return };
        let metric = self.threshold.metric();
        if metric.windows() == When::WholeRun || kept.scopes.is_steady(self.scope) {
            let samples = self.sampled.map(|place| kept.seen.samples[place].clone());
            let figure = self.sampled.map(|place| kept.sampled[place].figure);
            window.push(Second {
                seconds: kept.seen.seconds,
                counts: kept.scopes.second(self.scope),
                samples: samples.unwrap_or_default(),
                of_echoes: matches!(figure, Some(Figure::Service | Figure::Response)),
                busy: kept.busy.clone(),
                observed: metric.query().and_then(|name| kept.seen.observe.get(name)).copied(),
            });
        } else {
            window.clear();
        }
        self.now = window.values().and_then(|values| metric.value(&values));
        self.note_worst(kept.seen.at);
    }

    /// The run so far has its value; `of_disruptions`: which of them it has to be met by.
    fn read(&mut self, report: &Report, of_disruptions: fn(&Threshold, &Report) -> ThresholdResult) {
        if self.threshold.metric().is_of_disruptions() {
            let stands = of_disruptions(&self.threshold, report);
            self.now = stands.value;
            self.stands = Some(stands);
        } else {
            self.now = self.threshold.metric().read(report);
        }
    }

    fn note_breach(&mut self, at: u64, scopes: &Scopes) {
        let counts = self.window.is_some() || scopes.has_been_steady(self.scope);
        match self.now {
            Some(value) if counts && !self.threshold.is_met(value) => {
                self.breached_since.get_or_insert(at);
            }
            _ => self.breached_since = None,
        }
    }

    fn note_worst(&mut self, at: u64) {
        let Some(value) = self.now else { return };
        if self.worst.is_none_or(|(worst, _)| self.threshold.is_worse(value, worst)) {
            self.worst = Some((value, at));
        }
    }

    fn result(&self, value: Option<f64>, ok: bool) -> ThresholdResult {
        let expression = self.threshold.expression().to_owned();
        ThresholdResult { expression, value, ok, ..ThresholdResult::default() }
    }

    /// What it came to, if no report has to say that: by its windows, or because it has ended the run.
    fn judged(&self) -> Option<ThresholdResult> {
        let aborted = self.ended.is_some();
        let (value, at) = match (&self.window, self.ended) {
            (Some(_), _) => self.worst.unzip(),
            (None, Some((value, at))) => (Some(value), Some(at)),
            (None, None) => return None,
        };
        let ok = !aborted && value.is_some_and(|value| self.threshold.is_met(value));
        let why = self.stands.as_ref().and_then(|stands| stands.why.clone());
        Some(ThresholdResult { at: at.map(|at| at as f64), aborted, why, ..self.result(value, ok) })
    }
}

/// Whether echoes are asked for.
const fn is_echo(group: &Group) -> bool {
    matches!(group.traffic, Traffic::Echo)
}

#[cfg(test)]
mod tests;
