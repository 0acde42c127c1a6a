//! The verdict: a report's figures, thresholds and ending become an outcome and an exit code.
//!
//! Where the generator or its host was the limit nothing is said of the target: such a run is
//! incomplete, whatever its thresholds say.

use scale_api::report::{Exit, Load, Outcome, Report, ThresholdResult, Verdict};
use scale_api::threshold::{built_in, show};

use crate::stream::class::{Blame, Class};

/// Share of ticks that the generator may miss itself, and of streams that may fail because of its host.
const OWN_MAX: f64 = 0.01;

/// What decides besides the report's own figures.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// Why it ended before its time, if somebody ended it.
    pub aborted: Option<String>,
    /// Why a threshold or its target's silence ended it, if one did.
    pub ended: Option<String>,
    /// It ended because every stream was lost, before any group was steady.
    pub lost_before_steady: bool,
    /// What circuit breakers have held.
    pub held: Vec<String>,
    /// Its thresholds.
    pub thresholds: Vec<ThresholdResult>,
}

/// Judges a report whose figures are complete.
pub fn judge(report: &mut Report, ending: Ending) {
    let mut reasons: Vec<String> = built_in(report).iter().filter_map(said).collect();
    if report.load.verify_failures > 0 {
        reasons.push(format!("{} messages came back different", report.load.verify_failures));
    }
    if ending.lost_before_steady && reasons.is_empty() {
        reasons.push("every stream was lost before steady state began: nothing was measured".into());
    }
    let mut own = own_faults(report);
    for result in ending.thresholds.iter().filter(|result| !result.ok && !result.aborted) {
        let reasons = if is_of_the_generator(report, result) { &mut own } else { &mut reasons };
        reasons.push(not_met(result));
    }
    // Where all the same was delivered nothing has to be said of it here.
    if !reasons.is_empty() {
        reasons.extend(ending.held);
    }
    if let Some(why) = ending.ended {
        reasons.insert(0, why);
    }
    let (outcome, exit) = if let Some(why) = ending.aborted {
        reasons.insert(0, why);
        (Outcome::Aborted, Exit::Aborted)
    } else if !own.is_empty() {
        own.append(&mut reasons);
        reasons = own;
        (Outcome::Incomplete, Exit::Incomplete)
    } else if !reasons.is_empty() {
        (Outcome::Failed, Exit::Failed)
    } else {
        (Outcome::Passed, Exit::Passed)
    };
    report.verdict = Verdict { outcome, exit_code: exit as u8, reasons, thresholds: ending.thresholds };
}

/// What a built-in rule says that is not met.
fn said(rule: &ThresholdResult) -> Option<String> {
    let percent = rule.value.map_or("nothing".into(), |value| format!("{:.2} %", value * 100.0));
    let what = match rule.expression.split(' ').next()? {
        "load.delivered_ratio" => "of what was due was sent",
        "load.echoed_ratio" => "of what was sent came back",
        _ => "of the streams were opened",
    };
    (!rule.ok).then(|| format!("{percent} {what} (99 % are asked for)"))
}

fn not_met(result: &ThresholdResult) -> String {
    let (expression, value) = (&result.expression, show(result));
    match result.at {
        Some(at) => format!("threshold not met: {expression} (worst window: {value}, ending at second {at})"),
        None => format!("threshold not met: {expression} (measured: {value})"),
    }
}

/// A threshold on the generator itself that is not met says nothing of the target.
fn is_of_the_generator(report: &Report, result: &ThresholdResult) -> bool {
    let thresholds = report.spec.parsed_thresholds();
    let its = thresholds.iter().find(|threshold| threshold.expression() == result.expression);
    its.is_some_and(|threshold| threshold.metric().is_of_the_generator())
}

/// Why the generator or its host was the limit, if it was.
fn own_faults(report: &Report) -> Vec<String> {
    let load: &Load = &report.load;
    let own: u64 = Class::ALL
        .iter()
        .filter(|class| class.blame() == Blame::Generator)
        .map(|class| load.connect_failures.get(class.name()).copied().unwrap_or(0))
        .sum();
    let mut faults = Vec::new();
    if load.ticks_due > 0 && load.ticks_missed.generator as f64 >= OWN_MAX * load.ticks_due as f64 {
        faults.push("the generator missed 1 % of the ticks or more".to_owned());
    }
    if report.generator.saturated {
        faults.push("the generator was saturated: use more cores, or less load".to_owned());
    }
    if own as f64 > OWN_MAX * load.streams_requested as f64 {
        faults.push(format!("{own} connections failed because of this host"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scale_api::report::{Generator, Missed};
    use scale_api::spec::ThresholdSpec;

    use super::*;

    fn outcome(mut report: Report, ending: Ending) -> (Outcome, u8) {
        judge(&mut report, ending);
        (report.verdict.outcome, report.verdict.exit_code)
    }

    fn fine() -> Report {
        let load = Load {
            streams_requested: 5,
            streams_opened: 5,
            ticks_due: 1000,
            ticks_sent: 1000,
            delivered_ratio: Some(1.0),
            echoed_ratio: Some(1.0),
            ..Load::default()
        };
        Report { load, ..Report::default() }
    }

    fn result(expression: &str, ok: bool) -> ThresholdResult {
        ThresholdResult { expression: expression.into(), value: Some(0.25), ok, ..ThresholdResult::default() }
    }

    #[test]
    fn a_run_that_has_lost_every_stream_before_it_measured_anything_has_not_passed() {
        let ended = |lost_before_steady| outcome(fine(), Ending { lost_before_steady, ..Ending::default() });
        assert_eq!(ended(true), (Outcome::Failed, 99));
        assert_eq!(ended(false), (Outcome::Passed, 0));
    }

    #[test]
    fn each_way_to_end_has_its_code_and_says_why() {
        let ending = || Ending { thresholds: vec![result("response.p99 < 1ms", false)], ..Ending::default() };
        let mut report = fine();
        judge(&mut report, ending());
        assert_eq!((report.verdict.exit_code, report.verdict.thresholds.len()), (99, 1));
        assert_eq!(report.verdict.reasons, ["threshold not met: response.p99 < 1ms (measured: 250.00 ms)"]);
        let why = "threshold `x` ended the run at second 7: it was 1";
        let mut breach = Ending { ended: Some(why.into()), ..ending() };
        breach.thresholds[0].aborted = true;
        judge(&mut report, breach.clone());
        assert_eq!((report.verdict.outcome, report.verdict.exit_code), (Outcome::Failed, 99));
        assert_eq!(report.verdict.reasons, [why], "said once");
        judge(&mut report, Ending { aborted: Some("Ctrl-C".into()), ..breach.clone() });
        assert_eq!((report.verdict.exit_code, report.verdict.reasons[0].as_str()), (5, "Ctrl-C"));
        report.generator.saturated = true;
        judge(&mut report, breach);
        assert_eq!((report.verdict.outcome, report.verdict.exit_code), (Outcome::Incomplete, 6));
        let window = ThresholdResult { at: Some(12.0), ..result("response.p99 < 1ms over 5s", false) };
        assert!(
            not_met(&window).contains("worst window: 250.00 ms, ending at second 12"),
            "{}",
            not_met(&window)
        );
    }

    #[test]
    fn what_was_not_delivered_fails_by_the_rules_that_hold() {
        let mut report = fine();
        report.load.delivered_ratio = Some(0.95);
        (report.load.echoed_ratio, report.load.streams_opened) = (Some(0.9), 4);
        judge(&mut report, Ending::default());
        let reasons = [
            "95.00 % of what was due was sent (99 % are asked for)",
            "90.00 % of what was sent came back (99 % are asked for)",
            "80.00 % of the streams were opened (99 % are asked for)",
        ];
        assert_eq!(
            (report.verdict.exit_code, &report.verdict.reasons[..]),
            (99, &reasons.map(String::from)[..])
        );
        report.spec.preset = vec![scale_api::threshold::Preset::CoderGates];
        report.spec.group.push(scale_api::spec::GroupSpec::default());
        report.load.streams_opened = 5;
        assert_eq!(
            outcome(report, Ending::default()),
            (Outcome::Passed, 0),
            "gates take the place of two rules"
        );
    }

    #[test]
    fn a_threshold_on_the_generator_says_nothing_of_the_target() {
        let mut report = fine();
        let expression = "generator.busy_max < 20%";
        report.spec.threshold.push(ThresholdSpec { expression: expression.into() });
        let ending = |ok| Ending { thresholds: vec![result(expression, ok)], ..Ending::default() };
        assert_eq!(outcome(report.clone(), ending(false)), (Outcome::Incomplete, 6));
        assert_eq!(outcome(report, ending(true)), (Outcome::Passed, 0));
    }

    prop_compose! {
        fn a_report()(
            due in 0u64..2000, missed in 0u64..2000, opened in 0u64..200, own in 0u64..20, refused in 0u64..20,
            ratios in (prop::option::of(0.0f64..1.0), prop::option::of(0.0f64..1.0)),
            verify_failures in 0u64..2, saturated: bool, preset: bool,
        ) -> Report {
            let failures = [("files".to_owned(), own), ("refused".to_owned(), refused)];
            let load = Load {
                streams_requested: 100,
                streams_opened: opened.min(100),
                ticks_due: due,
                ticks_missed: Missed { generator: missed.min(due), ..Missed::default() },
                connect_failures: failures.into_iter().filter(|(_, count)| *count > 0).collect(),
                delivered_ratio: ratios.0,
                echoed_ratio: ratios.1,
                verify_failures,
                ..Load::default()
            };
            let generator = Generator { saturated, ..Generator::default() };
            let mut report = Report { load, generator, ..Report::default() };
            report.spec.preset = preset.then_some(scale_api::threshold::Preset::CoderGates).into_iter().collect();
            report
        }
    }

    proptest! {
        #[test]
        fn a_run_that_the_generator_limited_neither_passes_nor_fails(
            report in a_report(),
            oks in prop::collection::vec(any::<(bool, bool)>(), 0..4),
            ended: bool, aborted: bool, lost_before_steady: bool,
        ) {
            let load = &report.load;
            let own = load.connect_failures.get("files").copied().unwrap_or(0);
            let is_limited = report.generator.saturated
                || (load.ticks_due > 0 && load.ticks_missed.generator * 100 >= load.ticks_due)
                || own > 1;
            let thresholds: Vec<ThresholdResult> = oks
                .into_iter()
                .map(|(ok, aborted)| ThresholdResult { aborted: aborted && !ok, ..result("response.p99 < 1s", ok) })
                .collect();
            let all_met = thresholds.iter().all(|threshold| threshold.ok);
            let ending = Ending {
                aborted: aborted.then(|| "Ctrl-C".into()),
                ended: ended.then(|| "a threshold".into()),
                lost_before_steady,
                held: Vec::new(),
                thresholds,
            };
            let (outcome, code) = outcome(report, ending);
            let expected = match outcome {
                Outcome::Passed => 0,
                Outcome::Failed => 99,
                Outcome::Incomplete => 6,
                Outcome::Aborted => 5,
            };
            prop_assert_eq!(code, expected);
            prop_assert_eq!(code == 5, aborted);
            if is_limited && !aborted {
                prop_assert_eq!(code, 6);
            }
            if code == 0 {
                prop_assert!(all_met && !ended && !is_limited);
            }
            prop_assert!(!is_limited || !matches!(code, 0 | 99));
        }
    }
}
