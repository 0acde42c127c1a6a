//! Thresholds: what a run is judged by, `[group.]figure.stat OP value [over SPAN] [abort [after SPAN]]`.
//!
//! A [`Metric`] is a figure's name, and knows its value in a report; a [`Threshold`] is a metric with a
//! bound. With `over` it holds for each window of that length; with `abort` its breach ends the run.
//! [`TABLE`] has every name (docs/thresholds.md shows it); [`Preset`]s are thresholds by another name.

mod disruption;
mod metric;
mod near;
mod parse;
mod preset;
mod unit;

pub use metric::{Better, LATENCIES, Metric, Names, Row, TABLE, Values, When};
pub use preset::Preset;
pub use unit::Unit;

use crate::report::{Report, ThresholdResult};
use crate::spec::Spec;
use crate::units::Span;

/// Thresholds of a run, those of presets included.
pub const THRESHOLDS_MAX: usize = 64;
/// The longest window.
pub const WINDOW_MAX: Span = Span::from_secs(600);
/// All windows of a run, one behind the other: what is kept for them has its limit by this.
pub const WINDOWS_MAX: Span = Span::from_secs(3600);
/// The longest expression.
pub const EXPRESSION_BYTES_MAX: usize = 300;

/// The rules that hold where no threshold names their figure.
const BUILT_IN: [&str; 3] =
    ["load.delivered_ratio >= 99%", "load.echoed_ratio >= 99%", "load.open_ratio >= 99%"];

/// A threshold, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    expression: String,
    metric: Metric,
    operator: Operator,
    bound: f64,
    over: Option<Span>,
    abort: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    Equal,
}

impl Threshold {
    /// Parses an expression.
    ///
    /// # Errors
    /// What is wrong and in which column, with the names that are near.
    pub fn parse(expression: &str, names: &Names<'_>) -> Result<Self, String> {
        parse::threshold(expression, names)
    }

    /// Parses what somebody waits for: the same, but it ends no run.
    ///
    /// # Errors
    /// As [`Self::parse`], or it says `abort`.
    pub fn parse_wait(expression: &str, names: &Names<'_>) -> Result<Self, String> {
        let threshold = Self::parse(expression, names)?;
        match threshold.abort {
            None => Ok(threshold),
            Some(_) => Err(format!("`{expression}`: what is waited for ends no run; leave out `abort`")),
        }
    }

    /// Judges the newest disruption of a report, for whoever waits: what nobody has a value of does not hold.
    ///
    /// # Panics
    /// It is about something else ([`Metric::is_of_disruptions`]).
    pub fn evaluate_newest(&self, report: &Report) -> ThresholdResult {
        assert!(self.metric.is_of_disruptions(), "{} is of no disruption", self.metric);
        disruption::newest(self, report)
    }

    /// As it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// What it is about.
    pub const fn metric(&self) -> &Metric {
        &self.metric
    }

    /// The length of its windows; `None`: it is about the whole run.
    pub const fn over(&self) -> Option<Span> {
        self.over
    }

    /// How long a breach lasts until it ends the run; `None`: it ends none.
    pub const fn abort(&self) -> Option<Span> {
        self.abort
    }

    /// Whether it is met by `value`.
    pub fn is_met(&self, value: f64) -> bool {
        match self.operator {
            Operator::Less => value < self.bound,
            Operator::LessOrEqual => value <= self.bound,
            Operator::More => value > self.bound,
            Operator::MoreOrEqual => value >= self.bound,
            Operator::Equal => value == self.bound,
        }
    }

    /// Whether `value` is further from being met than `other`, or nearer to not being met.
    pub fn is_worse(&self, value: f64, other: f64) -> bool {
        match self.operator {
            Operator::Less | Operator::LessOrEqual => value > other,
            Operator::More | Operator::MoreOrEqual => value < other,
            Operator::Equal => (value - self.bound).abs() > (other - self.bound).abs(),
        }
    }

    /// Which built-in rule this replaces, if any: `delivered_ratio`, `echoed_ratio`, `open_ratio`.
    pub fn replaces(&self) -> Option<&str> {
        let is_ratio = self.metric.figure() == "load" && self.metric.stat().ends_with("_ratio");
        is_ratio.then_some(self.metric.stat())
    }

    /// Judges a report as a whole. A figure without a value is not met, unless there was nothing to have one.
    pub fn evaluate(&self, report: &Report) -> ThresholdResult {
        if self.metric.is_of_disruptions() {
            return disruption::evaluate(self, report);
        }
        let value = self.metric.read(report);
        ThresholdResult {
            expression: self.expression.clone(),
            value,
            ok: value.is_some_and(|value| self.is_met(value)),
            ..ThresholdResult::default()
        }
    }
}

/// A measured value as people read it, by the unit of the expression's figure, and whose it is.
pub fn show(result: &ThresholdResult) -> String {
    let name = result.expression.split(['<', '>', '=']).next().unwrap_or_default().trim();
    let (figure, stat) = name.rsplit_once('.').unwrap_or_default();
    let is_it = |row: &&Row| {
        let before = figure.strip_suffix(row.figure);
        before.is_some_and(|group| group.is_empty() || group.ends_with('.')) && row.stats.contains(&stat)
    };
    let unit = TABLE.iter().find(is_it).map_or(Unit::Number, |row| row.unit_of(stat));
    match (result.value.map(|value| unit.show(value)), &result.why) {
        (Some(value), Some(why)) => format!("{value}, {why}"),
        (Some(value), None) => value,
        (None, Some(why)) => why.clone(),
        (None, None) => "no value".into(),
    }
}

/// The built-in rules that hold for a report: none that a threshold replaces, none of what was not asked for.
pub fn built_in(report: &Report) -> Vec<ThresholdResult> {
    let thresholds = report.spec.parsed_thresholds();
    let load = &report.load;
    let holds = |rule: &Threshold| {
        let stat = rule.metric.stat();
        let applies = match stat {
            "delivered_ratio" => load.ticks_due > 0,
            "echoed_ratio" => load.echoed_ratio.is_some(),
            _ => true,
        };
        applies && !thresholds.iter().any(|threshold| threshold.replaces() == Some(stat))
    };
    let rules =
        BUILT_IN.iter().map(|rule| Threshold::parse(rule, &Names::default()).expect("it stands above"));
    rules.filter(holds).map(|rule| rule.evaluate(report)).collect()
}

impl Spec {
    /// All thresholds: those of presets written out, then its own.
    pub fn thresholds(&self) -> Vec<String> {
        let echo = self.group.iter().any(|group| group.traffic == crate::spec::Traffic::Echo);
        let presets = self.preset.iter().flat_map(|preset| preset.thresholds(echo)).map(str::to_owned);
        let mut all: Vec<String> = Vec::new();
        for expression in presets.chain(self.threshold.iter().map(|threshold| threshold.expression.clone())) {
            if !all.contains(&expression) {
                all.push(expression);
            }
        }
        all
    }

    /// All thresholds of a run that has passed its checks.
    pub fn parsed_thresholds(&self) -> Vec<Threshold> {
        self.parse_thresholds().into_iter().flatten().collect()
    }

    fn parse_thresholds(&self) -> Vec<Result<Threshold, String>> {
        let (groups, observe) = (self.group_names(), self.observe_names());
        let names = Names { groups: &groups, observe: &observe };
        self.thresholds().iter().map(|expression| Threshold::parse(expression, &names)).collect()
    }

    /// Checks presets and thresholds.
    pub(crate) fn check_thresholds(&self, error: &mut dyn FnMut(String)) {
        for preset in &self.preset {
            preset.check(self, error);
        }
        let results = self.parse_thresholds();
        if results.len() > THRESHOLDS_MAX {
            error(format!("{} thresholds; a run has at most {THRESHOLDS_MAX}", results.len()));
        }
        let mut windows = 0u64;
        for result in results {
            let threshold = match result {
                Ok(threshold) => threshold,
                Err(why) => {
                    error(why);
                    continue;
                }
            };
            let Some(over) = threshold.over else { continue };
            windows += over.ns();
            let steady = self.steady_ns(threshold.metric.group());
            // Steady state begins anywhere within a second.
            if threshold.metric.windows() == When::Steady && over.ns() + SECOND_NS > steady {
                error(format!(
                    "threshold `{}`: no window of {over} has room in {} of steady state; shorten it by a second at least, or raise --duration",
                    threshold.expression,
                    Span::from_ns(steady)
                ));
            }
        }
        if windows > WINDOWS_MAX.ns() {
            error(format!(
                "the windows of all thresholds are {} together, and may be {WINDOWS_MAX}; shorten some",
                Span::from_ns(windows)
            ));
        }
    }

    /// Steady state of a group, or the most that all of them may come to, in ns.
    fn steady_ns(&self, group: Option<&str>) -> u64 {
        let groups = self.group.iter().filter(|it| group.is_none_or(|name| it.name == name));
        groups.map(crate::spec::GroupSpec::steady_ns).fold(0, u64::saturating_add)
    }
}

const SECOND_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Figure, Load};
    use crate::spec::{GroupSpec, ThresholdSpec, Traffic};

    fn parse(text: &str) -> Threshold {
        Threshold::parse(text, &Names::default()).unwrap()
    }

    fn spec(presets: &[Preset], thresholds: &[&str], change: impl FnOnce(&mut GroupSpec)) -> Spec {
        let mut group = crate::spec::tests::group();
        change(&mut group);
        let expression = |text: &&str| ThresholdSpec { expression: (*text).into() };
        Spec {
            group: vec![group],
            preset: presets.to_vec(),
            threshold: thresholds.iter().map(expression).collect(),
            ..Spec::default()
        }
    }

    fn errors(spec: &Spec) -> String {
        spec.check().expect_err("a mistake").join("\n")
    }

    #[test]
    fn thresholds_are_judged_and_a_missing_value_is_not_met() {
        let mut report = Report::default();
        report.latency.response = Some(Figure { p99: 0.2, ..Figure::default() });
        report.load.delivered_ratio = Some(0.995);
        report.load.streams_requested = 200;
        report.load.disconnects.insert("reset".into(), 1);
        for (text, ok) in [
            ("response.p99 < 250ms", true),
            ("response.p99 < 200ms", false),
            ("response.p99 <= 200ms", true),
            ("load.delivered_ratio >= 0.99", true),
            ("load.delivered_ratio >= 99.9%", false),
            ("load.delivered_ratio > 99.5%", false),
            ("disconnects.rate < 1%", true),
            ("disconnects.count == 1", true),
            ("tls.p50 < 1s", false),
        ] {
            assert_eq!(parse(text).evaluate(&report).ok, ok, "{text}");
        }
    }

    #[test]
    fn the_worse_of_two_values_is_the_one_that_is_further_from_being_met() {
        let worse = |text: &str, value, other| parse(text).is_worse(value, other);
        assert!(worse("response.p99 < 1s", 2.0, 1.0) && !worse("response.p99 < 1s", 1.0, 2.0));
        assert!(worse("load.open_ratio >= 90%", 0.1, 0.2) && !worse("load.open_ratio > 90%", 0.2, 0.2));
        assert!(worse("connect.count == 5", 9.0, 2.0) && !worse("connect.count == 5", 4.0, 6.0));
    }

    #[test]
    fn measured_values_are_shown_in_the_unit_of_their_figure() {
        let shown = |expression: &str, value| {
            show(&ThresholdResult { expression: expression.into(), value, ..ThresholdResult::default() })
        };
        assert_eq!(shown("ssh.response.p99 <1s over 5s", Some(0.25)), "250.00 ms");
        assert_eq!(shown("response.count > 5", Some(1e4)), "10,000");
        assert_eq!(shown("disconnects.rate < 1%", Some(0.5)), "50.000 %");
        assert_eq!(shown("observe.cpu.max < 1", Some(0.5)), "0.5000");
        assert_eq!(shown("load.rate_sent > 1KB/s", None), "no value");
    }

    #[test]
    fn built_in_rules_hold_where_nothing_else_is_said_of_their_figure() {
        let load = Load {
            streams_requested: 100,
            streams_opened: 100,
            ticks_due: 1,
            delivered_ratio: Some(0.98),
            echoed_ratio: Some(1.0),
            ..Load::default()
        };
        let mut report = Report { load, ..Report::default() };
        let rules = |report: &Report| {
            built_in(report).into_iter().map(|rule| (rule.expression, rule.ok)).collect::<Vec<_>>()
        };
        let rule = |number: usize, ok| (BUILT_IN[number].to_owned(), ok);
        assert_eq!(rules(&report), [rule(0, false), rule(1, true), rule(2, true)]);
        (report.load.ticks_due, report.load.echoed_ratio) = (0, None);
        assert_eq!(rules(&report), [rule(2, true)], "what was not asked for is no rule");
        (report.load.ticks_due, report.load.streams_requested) = (1, 0);
        report.spec.threshold.push(ThresholdSpec { expression: "load.delivered_ratio > 1%".into() });
        assert_eq!(rules(&report), [rule(2, false)], "what has no value is not met");
        report.spec = spec(&[Preset::CoderGates], &[], |_| {});
        report.load.echoed_ratio = Some(1.0);
        assert_eq!(rules(&report), [rule(2, false)]);
    }

    #[test]
    fn presets_are_written_out_once_before_what_is_added() {
        let run = spec(&[Preset::CoderGates], &["disconnects.rate < 1%", "response.p99 < 1s"], |_| {});
        let all = [
            "load.delivered_ratio >= 90%",
            "load.echoed_ratio >= 90%",
            "disconnects.rate < 1%",
            "response.p99 < 1s",
        ];
        assert_eq!((run.check(), run.thresholds()), (Ok(()), all.map(String::from).to_vec()));
        let filled = run.filled(1, 1);
        assert_eq!(filled.thresholds(), all.map(String::from).to_vec(), "as a report has it");
        assert_eq!(filled.threshold.len(), 4);
        assert_eq!(run.parsed_thresholds().len(), 4);
    }

    #[test]
    fn presets_say_what_they_need() {
        let receive = |group: &mut GroupSpec| group.traffic = Traffic::Receive;
        assert!(errors(&spec(&[Preset::CoderGates], &[], receive)).contains("--traffic receive has none"));
        assert!(errors(&spec(&[Preset::CoderTable], &[], receive)).contains("read and write"));
        let slow = |group: &mut GroupSpec| group.bytes_per_tick = Some(crate::units::Bytes(1024));
        let error = errors(&spec(&[Preset::CoderTable], &[], slow));
        assert!(error.contains("10.2 KB/s") && error.contains("--bytes-per-tick 4096B"), "{error}");
        let rate = |group: &mut GroupSpec| group.rate = Some(crate::units::Rate(40_000));
        for change in [(|_| {}) as fn(&mut GroupSpec), rate] {
            assert_eq!(spec(&[Preset::CoderTable], &[], change).check(), Ok(()));
        }
        let discard = spec(&[Preset::CoderGates], &[], |group| group.traffic = Traffic::Discard);
        assert_eq!(discard.thresholds(), ["load.delivered_ratio >= 90%", "disconnects.rate < 1%"]);
    }

    #[test]
    fn windows_need_room_and_all_of_it_has_its_limits() {
        let minute = |thresholds: &[&str]| spec(&[], thresholds, |_| {});
        assert_eq!(minute(&["response.p99 < 1s over 59s", "connect.p99 < 1s over 10m"]).check(), Ok(()));
        let error = errors(&minute(&["response.p99 < 1s over 1m"]));
        assert!(error.contains("no window of 1m has room in 1m") && error.contains("--duration"), "{error}");
        let forever = |thresholds: &[&str]| {
            spec(&[], thresholds, |group| group.duration = Some(crate::spec::Duration::Forever))
        };
        assert_eq!(forever(&["response.p99 < 1s over 10m abort"]).check(), Ok(()));
        let many: Vec<String> = (0..7).map(|n| format!("response.p99 < {}s over 10m", n + 1)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(forever(&many[..6]).check(), Ok(()));
        assert!(errors(&forever(&many)).contains("are 1h10m together, and may be 1h"));
        let many: Vec<String> = (0..=THRESHOLDS_MAX).map(|n| format!("response.p99 < {}s", n + 1)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(minute(&many[1..]).check(), Ok(()));
        assert!(errors(&minute(&many)).contains("at most 64"));
    }
}
