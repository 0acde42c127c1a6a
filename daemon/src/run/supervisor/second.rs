//! A second of a going run: what it had, what is said of it, and what follows from it.

use std::rc::Rc;

use scale_api::report::{Event, SeriesRow, ThresholdResult};
use scale_api::threshold::Threshold;
use scale_ring::{Time, host};

use crate::run::judge::{Samples, Seen};
use crate::run::observe::Observed;
use crate::run::{breaker, fleet, histograms, result};
use crate::stream::class::Class;
use crate::stream::flow::Standing;
use crate::stream::meter::{Counters, Figure, Histograms};
use crate::worker::Command;
use crate::worker::share::GroupPhase;

use super::Supervisor;

/// Stages named in a row of the series; beyond them it says how many more there are.
const STAGES_NAMED_MAX: usize = 8;

impl Supervisor {
    /// Closes the last `seconds`.
    pub(super) fn close_second(&mut self, seconds: u64) {
        let sums = self.counters();
        let seconds_of: Vec<&[Histograms]> =
            self.workers.iter().map(|worker| &worker.histograms[..]).collect();
        let samples = self.judge.samples(&seconds_of);
        self.take_changes(seconds, &sums);
        self.take_measured();
        self.judge_saturation();
        let phase = self.phase();
        let steady = phase == GroupPhase::Steady;
        let cpu = (host::process_cpu_ns(), sums.messages_sent);
        if steady {
            self.steady_cpu.get_or_insert(cpu);
            self.steady_cpu_end = Some(cpu);
            self.rss_steady = host::rss_bytes();
            for index in 0..self.plan.groups.len() {
                if let Some((GroupPhase::Steady, stage)) = self.place(index) {
                    let open = self.standing(index, Standing::Open);
                    self.open_at_end.insert((index, stage), open);
                }
            }
        }
        self.rss_peak = self.rss_peak.max(host::rss_bytes());
        let open: Vec<u64> =
            (0..self.plan.groups.len()).map(|group| self.standing(group, Standing::Open)).collect();
        self.open_max.take(&open);
        let second = &self.measured.0;
        let quantile = |figure: Figure, quantile: f64| {
            second.figure(figure).map(|h| h.value_at_quantile(quantile) as f64 / 1e6)
        };
        let before = &self.before;
        let per_tick = |sent: u64, payload: u64| if sent > 0 { payload as f64 / sent as f64 } else { 0.0 };
        let (due, sent) = (sums.ticks_due - before.ticks_due, sums.ticks_sent - before.ticks_sent);
        let payload = sums.payload_sent - before.payload_sent;
        let per_second = |bytes: f64| bytes / seconds as f64;
        let missed = |c: &Counters| c.missed_generator + c.missed_backpressure + c.missed_disconnected;
        let (failures, disconnects) =
            (sums.failures.since(&before.failures), sums.disconnects.since(&before.disconnects));
        let row = SeriesRow {
            at: self.second as f64,
            seconds,
            stage: self.stages_now(),
            streams_open: open.iter().sum(),
            rate_offered: per_second(per_tick(sent, payload) * due as f64),
            rate_sent: per_second(payload as f64),
            rate_received: per_second((sums.payload_received - before.payload_received) as f64),
            messages_sent: sums.messages_sent - before.messages_sent,
            messages_echoed: sums.messages_echoed - before.messages_echoed,
            ticks_due: due,
            ticks_missed: missed(&sums) - missed(before),
            connects_begun: sums.attempts - before.attempts,
            connects: sums.connects - before.connects,
            connect_failures: failures.sum(),
            disconnects: disconnects.sum(),
            connect_failures_by_class: result::by_class(&failures),
            disconnects_by_class: result::by_class(&disconnects),
            connect_p99: quantile(Figure::Connect, 0.99),
            lateness_p50: quantile(Figure::Lateness, 0.5),
            lateness_p99: quantile(Figure::Lateness, 0.99),
            lateness_max: quantile(Figure::Lateness, 1.0),
            service_p50: quantile(Figure::Service, 0.5),
            service_p99: quantile(Figure::Service, 0.99),
            response_p50: quantile(Figure::Response, 0.5),
            response_p90: quantile(Figure::Response, 0.9),
            response_p99: quantile(Figure::Response, 0.99),
            response_max: quantile(Figure::Response, 1.0),
            response_heat: histograms::heat(second, Figure::Response),
            lateness_heat: histograms::heat(second, Figure::Lateness),
            busy_max: self.busy_now().map(|(_, busy)| busy).fold(0.0, f64::max),
            busy: self.busy_now().map(|(_, busy)| busy).collect(),
            saturated: self.saturation.is_now(),
            observe: self.observed.as_ref().map(|it| it.row(self.second as f64)).unwrap_or_default(),
        };
        self.series.push(row.clone());
        self.judge_connects(seconds);
        self.judge_thresholds(&row, samples);
        self.event = self.make_event(row, &sums);
        self.marks.said();
        self.failed.clear();
        if failures.sum() + disconnects.sum() > 0 {
            let workers: Vec<_> = self.workers.iter().map(|worker| &worker.cells[..]).collect();
            self.failed = self.failures.take(&self.plan.groups, &workers);
        }
        self.before = sums;
        self.end_when_hopeless();
    }

    /// Takes what workers measured since the last time.
    fn take_measured(&mut self) {
        let (mut first_cell, mut all, mut groups) = (0, Histograms::default(), Vec::new());
        for group in self.plan.groups.iter() {
            let cells = group.cells(first_cell);
            first_cell = cells.end;
            let mut sum = Histograms::default();
            for worker in &mut self.workers {
                let cells = worker.histograms.iter_mut().skip(cells.start).take(cells.len());
                cells.for_each(|histograms| sum.absorb(std::mem::take(histograms)));
            }
            all.add(&sum);
            groups.push(sum);
        }
        self.measured = (all, groups);
    }

    pub(super) fn make_event(&self, row: SeriesRow, sums: &Counters) -> Event {
        let groups = 0..self.plan.groups.len();
        let streams = Standing::NAMED.iter().map(|(name, standing)| {
            ((*name).to_owned(), groups.clone().map(|group| self.standing(group, *standing)).sum())
        });
        let mut warnings = self.warnings.clone();
        warnings.extend(self.held_back());
        warnings.extend(self.disruptions_left_out());
        if self.fleet.is_some() {
            warnings.extend(fleet::limiter_warning(sums.failures.0[Class::Http429 as usize]));
        }
        warnings.extend(self.breakers.standing());
        if self.saturation.is_now() {
            warnings.push("the generator is the limit: response times include its own lateness".into());
        }
        warnings.extend(self.observed.iter().flat_map(Observed::warnings));
        // As long as one group's end is not known, the run's is not.
        let ends = self.workers.iter().flat_map(|worker| &worker.groups).map(|group| group.end);
        let end = ends.collect::<Option<Vec<Time>>>().and_then(|ends| ends.into_iter().max());
        Event {
            run: self.id.clone(),
            name: self.spec.name.clone(),
            state: self.state().into(),
            zero_at: Some(self.started_at),
            elapsed: row.at,
            remaining: end.map(|end| end.since(host::monotonic_now()).as_secs_f64()),
            stages: groups
                .clone()
                .map(|g| (self.plan.groups[g].name.to_string(), self.stage_name(g)))
                .collect(),
            streams: streams.collect(),
            now: row,
            ticks_missed: result::missed(sums),
            connect_failures: result::by_class(&sums.failures),
            disconnects: result::by_class(&sums.disconnects),
            workers: self.worker_reports(),
            saturated: self.saturation.is_now(),
            warnings,
            thresholds: self.judge.standing(),
            marks: self.marks.fresh().to_vec(),
            disruptions: self.newest_disruptions(),
            coder: None,
            steps: Vec::new(),
        }
    }

    /// How a threshold stands by the last second, or by the last window where it has `over`; `None`: it has no value yet.
    /// One is watched from the first time on that it is asked for.
    pub fn stands_now(&mut self, threshold: &Threshold) -> Option<ThresholdResult> {
        self.judge.now(threshold)
    }

    /// A threshold is waited for anew: what was seen of it before does not count.
    pub fn wait_anew(&mut self, threshold: &Threshold) {
        self.judge.wait_anew(threshold);
    }

    /// Where the run's thresholds stand after a second. A breach that lasts may end it, in order.
    fn judge_thresholds(&mut self, row: &SeriesRow, samples: Vec<Rc<Samples>>) {
        let report = self.judge.reads_reports().then(|| self.report_for_judge());
        let workers: Vec<_> =
            self.workers.iter().map(|worker| (&worker.cells[..], &worker.groups[..])).collect();
        let seen = Seen {
            at: self.second,
            seconds: row.seconds,
            is_expected: self.disruptions.is_expected(row.at - row.seconds as f64, row.at),
            workers: &workers,
            samples,
            busy: &row.busy,
            observe: &row.observe,
        };
        self.judge.take(&seen, report);
        let may_end = self.aborted.is_none() && self.phase() < GroupPhase::Draining;
        if may_end && let Some(why) = self.judge.end(self.second) {
            self.limited_at_end = self.saturation.is_limiting();
            self.warnings.push(why);
            self.stop(false);
        }
    }

    /// Connects are held where many fail, and a target that answers nothing for long ends the run, in order.
    fn judge_connects(&mut self, seconds: u64) {
        let workers: Vec<_> =
            self.workers.iter().map(|worker| (&worker.cells[..], &worker.groups[..])).collect();
        let seen =
            breaker::Seen { at: self.second, seconds, workers: &workers, is_paused: self.pauses.goes_on() };
        let was_silent = self.breakers.ending().is_some();
        for told in self.breakers.take(&seen) {
            let breaker::Told { group, target, permits, said, mark } = told;
            tracing::info!(run = %self.id, "{said}");
            self.send(&Command::Connects { group, target, permits });
            if let Some(mark) = mark {
                // Full of its operator's own, the time line takes no more.
                let _ = self.marks.add(self.elapsed(), &mark);
            }
        }
        let may_end = self.aborted.is_none() && self.phase() < GroupPhase::Draining;
        if may_end
            && !was_silent
            && let Some(why) = self.breakers.ending()
        {
            self.limited_at_end |= self.saturation.is_limiting();
            self.warnings.push(why.to_owned());
            self.stop(false);
        }
    }

    pub(super) fn judge_saturation(&mut self) {
        let groups = &self.plan.groups;
        let aligned = groups.iter().any(|group| group.tick_offset == crate::load::TickOffset::Aligned);
        self.saturation.take(self.workers.iter().map(|worker| worker.last_second(aligned)));
    }

    /// A run whose streams are all down and may not come back ends early.
    pub(super) fn end_when_hopeless(&mut self) {
        let alive =
            [Standing::Planned, Standing::Connecting, Standing::Open, Standing::Waiting, Standing::Closing];
        let failed: u64 =
            (0..self.plan.groups.len()).map(|group| self.standing(group, Standing::Failed)).sum();
        let living: u64 = (0..self.plan.groups.len())
            .flat_map(|group| alive.map(|standing| self.standing(group, standing)))
            .sum();
        let launched = self.workers.iter().all(|w| w.groups.iter().all(|g| g.phase > GroupPhase::Ramping));
        // A drain closes every stream, too.
        let ending = self.phase() >= GroupPhase::Draining;
        if launched && !ending && failed > 0 && living == 0 && !self.hopeless_told {
            self.hopeless_told = true;
            self.warnings.push("every stream is down and may not come back: the run ends early".into());
            self.stop(false);
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.workers.iter().for_each(|worker| sum.add(&worker.counters()));
        sum
    }

    pub(super) fn standing(&self, group: usize, standing: Standing) -> u64 {
        let gauges = self.workers.iter().filter_map(|worker| worker.groups.get(group));
        gauges.map(|gauges| u64::from(gauges.standing[standing as usize])).sum()
    }

    pub(super) fn phase(&self) -> GroupPhase {
        let phases = self.workers.iter().flat_map(|worker| worker.groups.iter().map(|group| group.phase));
        let phases: Vec<GroupPhase> = phases.collect();
        // The group that is furthest from its end speaks for the run, but steady wins.
        if phases.contains(&GroupPhase::Steady) {
            return GroupPhase::Steady;
        }
        phases.into_iter().min().unwrap_or_default()
    }

    /// Phase and stage of a group, as its first worker sees it.
    pub(super) fn place(&self, group: usize) -> Option<(GroupPhase, usize)> {
        let gauges = self.workers.iter().find_map(|worker| worker.groups.get(group))?;
        Some((gauges.phase, gauges.stage))
    }

    pub(super) fn stage_name(&self, group: usize) -> String {
        match self.place(group) {
            Some((GroupPhase::Steady, stage)) => format!("stage {stage}"),
            Some((phase, _)) => phase.name().into(),
            None => GroupPhase::Waiting.name().into(),
        }
    }

    /// What a second of the series belongs to: the stages that count just now, by their names in
    /// the report, or the run's state where none does.
    pub(super) fn stages_now(&self) -> String {
        if self.pauses.goes_on() {
            return self.state().into();
        }
        let steady: Vec<String> = (0..self.plan.groups.len())
            .filter_map(|group| match self.place(group)? {
                (GroupPhase::Steady, stage) => Some(format!("{}/{stage}", self.plan.groups[group].name)),
                _ => None,
            })
            .collect();
        match steady.len() {
            0 => self.state().into(),
            count if count > STAGES_NAMED_MAX => {
                format!("{} +{}", steady[..STAGES_NAMED_MAX].join(" "), count - STAGES_NAMED_MAX)
            }
            _ => steady.join(" "),
        }
    }

    pub(super) fn state(&self) -> &'static str {
        match self.phase() {
            _ if self.pauses.goes_on() => "paused",
            GroupPhase::Waiting => GroupPhase::Ramping.name(),
            phase => phase.name(),
        }
    }
}
