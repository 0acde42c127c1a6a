//! What a step comes to, second by second: held, broken by the target, or ended by this host. No clock, no daemon.
//!
//! What is judged is the step so far, not its last second, so that its percentiles are those of all its messages. It breaks
//! where it does not meet what is asked at its end, or for some seconds on end before. Where the generator was not well, it
//! says nothing of the target, whatever the figures are.

use scale_api::calibration::{Limit, MISSED_MAX};
use scale_api::report::{Report, ThresholdResult};
use scale_api::spec::Spec;
use scale_api::threshold::{Metric, TABLE, Threshold, When, built_in};

use super::reading::{p99, split};
use crate::seek::median;

/// Share of its core that the busiest worker may use in most seconds (docs/measuring.md, "saturated").
const BUSY_MAX: f64 = 0.9;
/// Lateness may be this share of a tick, and so many seconds at least, where a time is not met.
const LATE_OF_TICK: f64 = 0.1;
const LATE_MIN: f64 = 0.010;
/// And so many times as much where all is met: what is late is in what was met.
const LATE_WHERE_MET: f64 = 5.0;
/// Of what service alone has been it may be this share, where that would have met the bound.
const LATE_OF_SERVICE: f64 = 0.05;
/// A try breaks before its end after so many seconds on end; a hold after this share of it.
const BAD_SECONDS: usize = 3;
const BAD_OF_HOLD: usize = 4;

/// Failures of connects that are this host's own, and their limits.
const OWN_FAILURES: [(&str, Limit); 3] =
    [("address_unavailable", Limit::Ports), ("files", Limit::Files), ("memory", Limit::Memory)];

/// What is asked of a step.
#[derive(Debug)]
pub struct Rules {
    /// Thresholds as `--until` has them, and the names that they use.
    spec: Spec,
    /// The same, parsed.
    pub until: Vec<Threshold>,
    /// Time between two messages, in seconds.
    pub tick: f64,
}

impl Rules {
    /// `spec`: a run with thresholds and no more than names. They have been checked.
    pub fn new(spec: Spec, tick: f64) -> Self {
        let until = spec.parsed_thresholds();
        Self { spec, until, tick }
    }

    /// What is not met, as it was asked for; behind it the rules that hold where nothing was said of their figure, what
    /// causes others first: streams that are not open send nothing. And what cannot be told: expressions whose figure has no
    /// value though something of it was to be seen. `run`: all of the run by now.
    pub fn unmet(&self, report: &mut Report, run: &Report) -> (Vec<ThresholdResult>, Vec<String>) {
        report.spec = self.spec.clone();
        let (mut unmet, mut unknown) = (Vec::new(), Vec::new());
        for threshold in &self.until {
            let result = threshold.evaluate(report);
            match result.value {
                _ if result.ok => {}
                Some(_) => unmet.push(result),
                None => match Missing::of(threshold.metric(), report, run) {
                    Missing::Nothing => {}
                    Missing::Unmet => unmet.push(result),
                    Missing::Unknown => unknown.push(result.expression),
                },
            }
        }
        unmet.extend(built_in(report).into_iter().rev().filter(|result| !result.ok));
        (unmet, unknown)
    }

    /// What this host could not do; `busy`: of the busiest worker, second by second.
    fn host(&self, report: &Report, unmet: &[ThresholdResult], busy: &[f64]) -> Option<Limit> {
        let own = |(class, _): &&(&str, Limit)| report.load.connect_failures.contains_key(*class);
        if let Some((_, limit)) = OWN_FAILURES.iter().find(own) {
            return Some(*limit);
        }
        let missed = report.load.ticks_missed.generator as f64;
        let late = p99(report.latency.lateness.as_ref()).unwrap_or(0.0);
        let late_max = (LATE_OF_TICK * self.tick).max(LATE_MIN);
        let failing = |result: &ThresholdResult| {
            self.until.iter().find(|threshold| threshold.expression() == result.expression)
        };
        // What a late generator explains: it is late to send, and as late to read.
        let is_ours = |threshold: &Threshold| match split(threshold.metric(), report) {
            Some((service, lateness)) => {
                (threshold.is_met(service) && lateness > LATE_OF_SERVICE * service)
                    || (lateness > late_max && threshold.is_met(service - lateness))
            }
            None => threshold.metric().figure() == "lateness",
        };
        if median(busy.iter().copied()).is_some_and(|busy| busy > BUSY_MAX)
            || unmet.iter().filter_map(failing).any(|it| it.metric().is_of_the_generator())
        {
            Some(Limit::Busy)
        } else if missed > MISSED_MAX * report.load.ticks_due as f64 {
            Some(Limit::Missed)
        } else if late > LATE_WHERE_MET * late_max
            || (!unmet.is_empty() && unmet.iter().all(|result| failing(result).is_some_and(is_ours)))
        {
            Some(Limit::Lateness)
        } else {
            None
        }
    }
}

/// Why a figure has no value in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// Nothing has happened that it is of: nothing to judge.
    Nothing,
    /// It did not come about, and that is as bad as it may be.
    Unmet,
    /// This load has no such figure, or nobody says.
    Unknown,
}

impl Missing {
    fn of(metric: &Metric, report: &Report, run: &Report) -> Self {
        // Of a group's figures that group's.
        let part = |report: &Report| match metric.group() {
            None => Some((report.load.ticks_due, report.latency.connect.is_some())),
            Some(name) => {
                let part = report.groups.iter().find(|part| part.name == name);
                part.map(|part| (part.load.ticks_due, part.latency.connect.is_some()))
            }
        };
        let is_due = part(report).is_some_and(|(due, _)| due > 0);
        let has_connected = part(run).is_some_and(|(_, connected)| connected);
        let is_known = metric.read(run).is_some();
        let row = TABLE.iter().find(|row| row.figure == metric.figure());
        let is_of_connects = metric.latency().is_some() && row.is_some_and(|row| row.when == When::WholeRun);
        match metric.figure() {
            "disruption.recover" => Self::Unmet,
            _ if metric.is_of_the_generator() => Self::Unmet,
            _ if metric.is_of_disruptions() || metric.query().is_some() => Self::Unknown,
            "reconnect" => Self::Nothing,
            _ if is_of_connects && (is_known || !has_connected) => Self::Nothing,
            _ if !is_of_connects && !is_due => Self::Nothing,
            _ if !is_of_connects && is_known => Self::Unmet,
            _ => Self::Unknown,
        }
    }
}

/// What a step comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// `None`: it was held.
    pub limit: Option<Limit>,
    /// What was not met, in the order in which it broke.
    pub broke: Vec<ThresholdResult>,
    /// What has no value, where all else was met: then nothing can be said.
    pub unknown: Vec<String>,
}

/// A step that is going.
#[derive(Debug)]
pub struct Judge {
    length: usize,
    bad_max: usize,
    busy: Vec<f64>,
    /// Expressions that are not met, since which second.
    since: Vec<(String, usize)>,
    /// Seconds on end in which something was wrong.
    bad: usize,
}

impl Judge {
    /// A step of `length` seconds.
    pub fn new(length: usize, is_hold: bool) -> Self {
        let share = if is_hold { length / BAD_OF_HOLD } else { 0 };
        Self { length, bad_max: share.max(BAD_SECONDS), busy: Vec::new(), since: Vec::new(), bad: 0 }
    }

    /// Takes the step so far after one more second, in which the busiest worker was so busy; `run`: all of the run by now.
    /// `Some`: it is decided.
    pub fn take(&mut self, rules: &Rules, busy: f64, report: &mut Report, run: &Report) -> Option<Verdict> {
        self.busy.push(busy);
        let (mut broke, unknown) = rules.unmet(report, run);
        let limit = rules.host(report, &broke, &self.busy);
        self.since.retain(|(known, _)| broke.iter().any(|it| it.expression == *known));
        for result in &broke {
            if self.since.iter().all(|(known, _)| *known != result.expression) {
                self.since.push((result.expression.clone(), self.busy.len()));
            }
        }
        let is_bad = limit.is_some() || !broke.is_empty();
        self.bad = if is_bad { self.bad + 1 } else { 0 };
        if self.busy.len() < self.length && self.bad < self.bad_max {
            return None;
        }
        let second = |result: &ThresholdResult| {
            self.since.iter().find(|(known, _)| *known == result.expression).map(|(_, second)| *second)
        };
        broke.sort_by_key(second);
        let unknown = if is_bad { Vec::new() } else { unknown };
        Some(Verdict { limit: limit.or((!broke.is_empty()).then_some(Limit::Target)), broke, unknown })
    }

    /// The median of the busiest worker's seconds.
    pub fn busy(&self) -> f64 {
        median(self.busy.iter().copied()).unwrap_or(0.0)
    }

    /// Seconds that were taken.
    pub fn seconds(&self) -> u64 {
        self.busy.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use scale_api::report::{Figure, Latency, Load, Missed};
    use scale_api::spec::{GroupSpec, ThresholdSpec};

    use super::*;

    fn rules(until: &[&str]) -> Rules {
        let expression = |text: &&str| ThresholdSpec { expression: (*text).into() };
        let group = vec![GroupSpec { name: "main".into(), ..GroupSpec::default() }];
        Rules::new(Spec { group, threshold: until.iter().map(expression).collect(), ..Spec::default() }, 0.1)
    }

    fn good() -> Report {
        let load = Load {
            streams_requested: 100,
            streams_opened: 100,
            ticks_due: 10_000,
            delivered_ratio: Some(1.0),
            echoed_ratio: Some(1.0),
            ..Load::default()
        };
        let figure = |p99| Some(Figure { p99, ..Figure::default() });
        let latency = Latency {
            response: figure(0.1),
            service: figure(0.099),
            lateness: figure(0.001),
            ..Latency::default()
        };
        Report { load, latency, ..Report::default() }
    }

    /// What comes of seconds that are each as `change` makes them, and after how many.
    fn decided(until: &[&str], busy: f64, change: impl Fn(usize, &mut Report)) -> (usize, Verdict) {
        let (rules, mut judge) = (rules(until), Judge::new(6, false));
        for second in 1..=6 {
            let mut report = good();
            change(second, &mut report);
            if let Some(verdict) = judge.take(&rules, busy, &mut report, &good()) {
                return (second, verdict);
            }
        }
        panic!("a step has an end");
    }

    fn names(verdict: &Verdict) -> Vec<&str> {
        verdict.broke.iter().map(|it| it.expression.as_str()).collect()
    }

    #[test]
    fn a_step_is_held_to_its_end_and_broken_once_it_is_clear() {
        let until = ["response.p99 < 250ms"];
        let (seconds, verdict) = decided(&until, 0.5, |_, _| {});
        assert_eq!((seconds, verdict.limit), (6, None));
        let slow = |report: &mut Report| {
            report.latency.response.as_mut().unwrap().p99 = 0.4;
            report.latency.service.as_mut().unwrap().p99 = 0.4;
        };
        let (seconds, verdict) = decided(&until, 0.5, |_, report| slow(report));
        assert_eq!((seconds, verdict.limit, names(&verdict)), (3, Some(Limit::Target), until.to_vec()));
        let (seconds, verdict) = decided(&until, 0.5, |second, report| {
            if second < 3 {
                slow(report);
            }
        });
        assert_eq!((seconds, verdict.limit), (6, None), "two seconds of a start are made up for");
        let (seconds, verdict) = decided(&until, 0.5, |second, report| {
            if second > 5 {
                slow(report);
            }
        });
        assert_eq!((seconds, verdict.limit), (6, Some(Limit::Target)), "the end decides");
    }

    #[test]
    fn what_broke_first_comes_first_and_streams_come_before_what_they_send() {
        let until = ["response.p99 < 50ms", "disconnects.rate < 1%"];
        let (_, verdict) = decided(&until, 0.5, |second, report| {
            report.load.disconnects.insert("reset".into(), 9);
            report.load.streams_opened = 91;
            report.load.delivered_ratio = Some(0.95);
            if second < 2 {
                report.latency.response = Some(Figure::default());
            }
        });
        assert_eq!(
            names(&verdict),
            ["disconnects.rate < 1%", "load.open_ratio >= 99%", "load.delivered_ratio >= 99%", until[0]]
        );
    }

    #[test]
    fn what_the_generator_could_not_do_is_never_the_targets() {
        let until = ["response.p99 < 250ms"];
        let limit =
            |busy, change: &dyn Fn(&mut Report)| decided(&until, busy, |_, report| change(report)).1.limit;
        let broken = |report: &mut Report| report.load.echoed_ratio = Some(0.5);
        assert_eq!(limit(0.5, &broken), Some(Limit::Target));
        assert_eq!((limit(0.95, &broken), limit(0.95, &|_| {})), (Some(Limit::Busy), Some(Limit::Busy)));
        let missed = |report: &mut Report| {
            report.load.ticks_missed = Missed { generator: 11, ..Missed::default() };
            broken(report);
        };
        assert_eq!(limit(0.5, &missed), Some(Limit::Missed));
        let late = |p99: f64| {
            move |report: &mut Report| report.latency.lateness = Some(Figure { p99, ..Figure::default() })
        };
        assert_eq!((limit(0.5, &late(0.011)), limit(0.5, &late(0.06))), (None, Some(Limit::Lateness)));
        let lost = |report: &mut Report| {
            late(0.011)(report);
            report.load.streams_opened = 90;
        };
        assert_eq!(limit(0.5, &lost), Some(Limit::Target), "being late loses no stream");
        let ports = |report: &mut Report| {
            report.load.connect_failures.insert("address_unavailable".into(), 1);
            report.load.streams_opened = 10;
        };
        assert_eq!(limit(0.5, &ports), Some(Limit::Ports));
        // Service alone would have met the bound.
        let ours = |lateness: f64| {
            move |report: &mut Report| {
                report.latency.response = Some(Figure { p99: 0.255, ..Figure::default() });
                report.latency.service = Some(Figure { p99: 0.249, ..Figure::default() });
                report.latency.lateness = Some(Figure { p99: lateness, ..Figure::default() });
            }
        };
        assert_eq!(
            (limit(0.5, &ours(0.0001)), limit(0.5, &ours(0.0095))),
            (Some(Limit::Target), Some(Limit::Target))
        );
        // As late to read as to send.
        let slow = |report: &mut Report| {
            late(0.011)(report);
            report.latency.response = Some(Figure { p99: 0.262, ..Figure::default() });
            report.latency.service = Some(Figure { p99: 0.255, ..Figure::default() });
        };
        assert_eq!(limit(0.5, &slow), Some(Limit::Lateness));
        let strict = decided(&["response.p99 < 20ms"], 0.5, |_, report| {
            report.latency.response = Some(Figure { p99: 0.021, ..Figure::default() });
            report.latency.service = Some(Figure { p99: 0.015, ..Figure::default() });
            report.latency.lateness = Some(Figure { p99: 0.008, ..Figure::default() });
        });
        assert_eq!(strict.1.limit, Some(Limit::Lateness));
        assert_eq!(
            decided(&["generator.busy_max < 50%"], 0.5, |_, _| {}).1.limit,
            Some(Limit::Busy),
            "no value"
        );
    }

    /// The limit and what is unknown of a step without a figure's value; `run`: what the whole run has.
    fn missing(expression: &str, due: u64, run: impl Fn(&mut Report)) -> (Option<Limit>, usize) {
        let (rules, mut judge) = (rules(&[expression]), Judge::new(6, false));
        let mut whole = good();
        run(&mut whole);
        let verdict = (0..6).find_map(|_| {
            let mut report = good();
            (report.latency, report.load.ticks_due) = (Latency::default(), due);
            judge.take(&rules, 0.5, &mut report, &whole)
        });
        let verdict = verdict.expect("a step has an end");
        (verdict.limit, verdict.unknown.len())
    }

    #[test]
    fn a_figure_without_a_value_is_not_the_targets_limit() {
        let connected = |report: &mut Report| report.latency.connect = Some(Figure::default());
        // Nothing was opened in this step, or not one was let in yet, which the share that is open says.
        assert_eq!(missing("connect.p99 < 1s", 100, connected), (None, 0));
        assert_eq!(missing("connect.p99 < 1s", 100, |_| ()), (None, 0));
        assert_eq!(missing("reconnect.p99 < 1s", 100, connected), (None, 0));
        // Streams without TLS never have it; a query that nobody answers says nothing.
        assert_eq!(missing("tls.p99 < 1s", 100, connected), (None, 1));
        let silent = |report: &mut Report| report.latency = Latency::default();
        assert_eq!(missing("response.p99 < 1s", 100, silent), (None, 1), "nothing echoes");
        assert_eq!(missing("response.p99 < 1s", 0, |_| ()), (None, 0), "nothing was due");
        assert_eq!(missing("response.p99 < 1s", 100, |_| ()), (Some(Limit::Target), 0), "it is mute now");
    }

    #[test]
    fn what_has_no_value_comes_behind_what_was_not_met() {
        let (seconds, verdict) = decided(&["tls.p99 < 1s"], 0.5, |_, report| {
            report.latency.connect = Some(Figure::default());
            report.load.echoed_ratio = Some(0.5);
        });
        assert_eq!((seconds, verdict.limit, verdict.unknown.len()), (3, Some(Limit::Target), 0));
    }
}
