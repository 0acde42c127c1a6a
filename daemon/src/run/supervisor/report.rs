//! What a run has come to: the report so far or at the end, and what metrics show of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use scale_api::report::{self, Report};
use scale_api::spec::Spec;
use scale_api::units::thousands;
use scale_ring::host;

use crate::run::fleet::{ByWorkspace, Seen};
use crate::run::histograms::{self, Serialised};
use crate::run::hlog::{self, Interval};
use crate::run::judge::verdict::{self, Ending};
use crate::run::observe::Observed;
use crate::run::parts::Depth;
use crate::run::result::{self, Sum};
use crate::run::workers::Hand;
use crate::run::{parts, ssh, versions};
use crate::stream::class::Class;
use crate::stream::flow::Standing;
use crate::stream::meter::{Counters, Figure, Histograms};
use crate::worker::share::StreamResult;

use super::{Supervisor, wall_seconds};

/// A group over the whole run.
#[derive(Debug, Clone, Default)]
pub struct ByGroup {
    /// Its name.
    pub name: Arc<str>,
    /// What was counted.
    pub counters: Counters,
    /// Streams by where they stand.
    pub standing: [u64; Standing::COUNT],
    /// Its circuit breaker holds connects, or lets only a few through.
    pub is_held: bool,
}

impl Supervisor {
    /// Every stream's own figures: at the end, or as of the last second where the plan asks for it.
    pub(super) fn streams(&self) -> Vec<StreamResult> {
        self.workers.iter().flat_map(|worker| &worker.streams).copied().collect()
    }

    /// Whether metrics are to tell workspaces apart.
    pub fn tells_workspaces_apart(&self) -> bool {
        self.fleet.as_ref().is_some_and(|fleet| fleet.has_metrics)
    }

    /// The figures of each workspace, where metrics are to have them.
    pub fn by_workspace(&self) -> Option<Vec<ByWorkspace<'_>>> {
        let fleet = self.fleet.as_ref().filter(|fleet| fleet.has_metrics)?;
        Some(fleet.by_workspace(&self.streams()))
    }

    /// The `coder` part of the report.
    pub(super) fn coder(&self) -> Option<scale_api::coder::Outcome> {
        let fleet = self.fleet.as_ref()?;
        let mut opened = BTreeMap::new();
        for (address, count) in self.workers.iter().flat_map(|worker| &worker.opened) {
            *opened.entry(*address).or_default() += count;
        }
        Some(fleet.outcome(&Seen {
            streams: &self.streams(),
            opened: &opened,
            limited: self.counters().failures.0[Class::Http429 as usize],
            started_at: self.started_at,
            seconds: wall_seconds() - self.started_at,
            is_over: self.is_finished(),
        }))
    }

    pub(super) fn worker_reports(&self) -> Vec<report::Worker> {
        self.workers.iter().map(Hand::report).collect()
    }

    /// The report so far, or at the end: the same figures either way.
    pub fn report(&self) -> Report {
        Report { series: self.series.rows().to_vec(), ..self.report_without_series() }
    }

    /// All of [`Self::report`] but its rows, which stand in `series.jsonl` while the run goes.
    pub fn report_without_series(&self) -> Report {
        let groups = &self.plan.groups;
        let workers: Vec<_> =
            self.workers.iter().map(|worker| (&worker.cells[..], &worker.groups[..])).collect();
        let parts = parts::add_up(&self.plan, &workers, &self.open_at_end, self.left_out(), Depth::All);
        let (steady, was_steady) = (parts.steady_seconds, parts.was_steady);
        let (user, system) = host::process_cpu_seconds();
        let messages =
            self.steady_cpu.zip(self.steady_cpu_end).map(|(from, to)| (to.0 - from.0, to.1 - from.1));
        let long = self.saturation.is_long(steady) || self.limited_at_end;
        let met: Vec<_> = self.workers.iter().map(|worker| &worker.versions[..]).collect();
        let (server_versions, server_changes) = versions::add_up(groups, &met, self.started);
        let negotiated: Vec<_> = self.workers.iter().map(|worker| &worker.negotiated[..]).collect();
        let mut report = Report {
            schema: report::SCHEMA,
            run: report::Run {
                id: self.id.clone(),
                name: self.spec.name.clone(),
                labels: self.spec.labels.clone(),
                started_at: self.started_at,
                ended_at: wall_seconds(),
                going: false,
                zero_at: Some(self.started_at),
                seed: self.plan.seed,
                version: env!("CARGO_PKG_VERSION").into(),
                kernel: host::facts::kernel_release(),
                environment: self.spec.environment.clone(),
                started_by: self.plan.permit.started_by(),
            },
            spec: self.spec.filled(self.plan.seed, self.plan.cores.len() as u64).redacted(),
            load: parts.whole.load(parts.streams, steady),
            total: parts.whole.total(),
            latency: parts.whole.latency(),
            percentiles: parts.whole.percentiles(),
            groups: parts.groups,
            targets: parts.targets,
            stages: parts.stages,
            fairness: result::fairness(groups, if self.is_finished() { self.streams() } else { Vec::new() }),
            generator: report::Generator {
                saturated: long,
                saturated_seconds: self.saturation.seconds(),
                workers: self.worker_reports(),
                cpu_seconds_user: user - self.cpu_before.0,
                cpu_seconds_system: system - self.cpu_before.1,
                cpu_us_per_message: messages
                    .filter(|(_, n)| *n > 0)
                    .map(|(ns, n)| ns as f64 / 1e3 / n as f64),
                rss_peak: self.rss_peak,
                rss_per_stream: (self.rss_steady > self.rss_before && parts.streams.requested > 0)
                    .then(|| (self.rss_steady - self.rss_before) as f64 / parts.streams.requested as f64),
                source_ports_skipped: self.ports_skipped(),
            },
            marks: self.marks.list().to_vec(),
            disruptions: self.disruptions(),
            observe: self.observed.as_ref().map(Observed::figures).unwrap_or_default(),
            warnings: self.all_warnings(),
            server_versions,
            server_changes,
            host: self.host.clone(),
            ssh: ssh::add_up(groups, &self.spec.group, &negotiated),
            coder: self.coder(),
            ..Report::default()
        };
        self.open_max.note(&mut report);
        let ending = Ending {
            aborted: self.aborted.clone(),
            ended: self.judge.ending().or_else(|| self.breakers.ending().map(str::to_owned)),
            held: self.breakers.summary(),
            lost_before_steady: self.hopeless_told && !was_steady,
            thresholds: self.judge.results(&report),
        };
        verdict::judge(&mut report, ending);
        report
    }

    /// What of the run is none of steady state.
    fn left_out(&self) -> parts::LeftOut<'_> {
        parts::LeftOut { pauses: self.pauses.spans(), expected: self.disruptions.windows() }
    }

    /// What of the report so far thresholds may name, without latencies.
    pub(super) fn report_for_judge(&self) -> Report {
        let workers: Vec<_> =
            self.workers.iter().map(|worker| (&worker.cells[..], &worker.groups[..])).collect();
        let parts = parts::add_up(&self.plan, &workers, &self.open_at_end, self.left_out(), Depth::Counters);
        Report {
            run: report::Run { started_at: self.started_at, ..Default::default() },
            spec: Spec { expect_disruption: self.spec.expect_disruption, ..Spec::default() },
            load: parts.whole.load(parts.streams, parts.steady_seconds),
            groups: parts.groups,
            generator: report::Generator { workers: self.worker_reports(), ..Default::default() },
            disruptions: self.disruptions(),
            observe: self.observed.as_ref().map(Observed::figures).unwrap_or_default(),
            ..Report::default()
        }
    }

    /// What was said aloud, and what is to be said of the target's own figures.
    fn all_warnings(&self) -> Vec<String> {
        let of_observe = if self.is_finished() { Observed::last_warnings } else { Observed::warnings };
        let mut warnings = self.warnings.clone();
        warnings.extend(self.breakers.summary());
        warnings.extend(self.held_back());
        warnings.extend(self.disruptions_left_out());
        warnings.extend(self.observed.as_ref().map(of_observe).unwrap_or_default());
        warnings
    }

    /// What is said once connections have waited for the list's caps.
    pub(super) fn held_back(&self) -> Option<String> {
        let count: u64 = self.workers.iter().map(|worker| worker.held_back).sum();
        (count > 0).then(|| {
            format!(
                "{} new connections waited for more than a second: this host's list caps them (connects_per_second_max)",
                thousands(count)
            )
        })
    }

    /// The histograms behind the report's latencies, by group.
    pub fn histograms(&self) -> Serialised {
        let mut first_cell = 0;
        let mut groups = Serialised::new();
        for group in self.plan.groups.iter() {
            let cells = group.cells(first_cell);
            let mut sum = Sum::default();
            for worker in &self.workers {
                for (offset, cell) in worker.cells.iter().skip(cells.start).take(cells.len()).enumerate() {
                    let stage = group.stage_of(offset);
                    sum.add(cell, stage, parts::cell_of(group, stage));
                }
            }
            first_cell = cells.end;
            groups.insert(group.name.to_string(), histograms::serialise(&sum.histograms));
        }
        groups
    }

    /// The next interval of the run's histogram logs, once it is complete or the run is over: what [`hlog::FIGURES`] of
    /// the report have gained since the last.
    pub fn interval(&mut self) -> Option<Interval> {
        if !self.logged.is_due(self.second) && !self.is_finished() {
            return None;
        }
        let mut groups = Vec::new();
        let mut first_cell = 0;
        for group in self.plan.groups.iter() {
            let cells = group.cells(first_cell);
            first_cell = cells.end;
            let mut sum = Histograms::default();
            for worker in &self.workers {
                for (offset, cell) in worker.cells.iter().skip(cells.start).take(cells.len()).enumerate() {
                    let is_steady = group.stage_of(offset) > 0;
                    let counts = |figure: &Figure| is_steady || figure.is_of_the_whole_run();
                    sum.add_of(&cell.histograms, hlog::FIGURES.into_iter().filter(counts));
                }
            }
            groups.push((group.name.clone(), sum));
        }
        Some(self.logged.take(self.second, groups))
    }

    /// Counters and standing by group, over the whole run, for the metrics.
    pub fn by_group(&self) -> Vec<ByGroup> {
        let mut first_cell = 0;
        let mut groups = Vec::new();
        for (index, group) in self.plan.groups.iter().enumerate() {
            let cells = group.cells(first_cell);
            first_cell = cells.end;
            let (name, is_held) = (group.name.clone(), self.breakers.is_open(index));
            let mut by_group = ByGroup { name, is_held, ..ByGroup::default() };
            for worker in &self.workers {
                let cells = worker.cells.iter().skip(cells.start).take(cells.len());
                cells.for_each(|cell| by_group.counters.add(&cell.counters));
                if let Some(gauges) = worker.groups.get(index) {
                    let sums = by_group.standing.iter_mut().zip(gauges.standing);
                    sums.for_each(|(sum, n)| *sum += u64::from(n));
                }
            }
            groups.push(by_group);
        }
        groups
    }
}
