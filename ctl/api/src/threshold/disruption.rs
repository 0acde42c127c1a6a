//! What disruptions are judged by: each of a run's has to meet the threshold, and the worst one is named.
//!
//! Where nothing was dropped, nothing was lost and nobody had to come back. What cannot be told of a disruption does
//! not meet a threshold, as for every other figure.

use crate::disruption::Disruption;
use crate::report::{Report, ThresholdResult};

use super::{Better, Metric, Operator, Threshold};

/// The first word of every name here.
pub(super) const FIGURE: &str = "disruption";
/// The second one of the times to come back.
pub(super) const RECOVER: &str = "disruption.recover";

const UNMARKED: &str = "no disruption was marked";
const NOTHING_DROPPED: &str = "nothing was dropped";
const NOBODY: &str = "nobody had to come back";
const NONE_BACK: &str = "none of the dropped streams has come back";
const NO_USERS: &str = "nobody says whose the streams are; give --rows and --user-column";
const UNKNOWN_LOSS: &str = "of some streams it is not known how much they lost";
const NO_WINDOW: &str = "no disruption was expected; mark it with --expect-disruption";

/// A figure of one disruption.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Found {
    Value(f64),
    /// So much, or more.
    AtLeast(f64),
    /// There is nothing to judge, and this is why.
    Nothing(&'static str),
    /// There would be, and this is missing.
    Unknown(&'static str),
}

/// Whether a name's first word is of disruptions.
pub(super) fn is_of(figure: &str) -> bool {
    figure.split('.').next() == Some(FIGURE)
}

/// The worst of all disruptions of a report.
pub(super) fn worst(metric: &Metric, report: &Report) -> Option<f64> {
    let values = report.disruptions.iter().filter_map(|it| match found(metric, it) {
        Found::Value(value) | Found::AtLeast(value) => Some(value),
        Found::Nothing(_) | Found::Unknown(_) => None,
    });
    let worse = |a: f64, b: f64| if metric.better() == Some(Better::More) { a.min(b) } else { a.max(b) };
    values.reduce(worse).or_else(|| match of_none(metric) {
        Found::Value(value) if report.disruptions.is_empty() => Some(value),
        _ => None,
    })
}

/// Judges all disruptions of a report.
pub(super) fn evaluate(threshold: &Threshold, report: &Report) -> ThresholdResult {
    let is_marked = report.disruptions.iter().any(|disruption| disruption.mark.is_some());
    if report.spec.expect_disruption.is_some() && !is_marked {
        return result(threshold, None, false, UNMARKED.into());
    }
    judge(threshold, &report.disruptions, report.zero_at())
}

/// Judges the newest disruption of a report, whatever there was before.
pub(super) fn newest(threshold: &Threshold, report: &Report) -> ThresholdResult {
    let newest = report.disruptions.len().saturating_sub(1);
    let result = judge(threshold, &report.disruptions[newest..], report.zero_at());
    // Whoever waits for somebody to come back waits until somebody had to.
    let ok = result.ok && result.value.is_some();
    ThresholdResult { ok, ..result }
}

fn judge(threshold: &Threshold, disruptions: &[Disruption], started_at: f64) -> ThresholdResult {
    let metric = threshold.metric();
    let mut worst: Option<(f64, String)> = None;
    let (mut unknown, mut nothing) = (None, NOBODY);
    let of_none = disruptions.is_empty().then(|| (of_none(metric), NOTHING_DROPPED.to_owned()));
    let each = disruptions.iter().map(|it| (found(metric, it), it.name(started_at)));
    for (found, whose) in each.chain(of_none) {
        let value = match found {
            Found::Value(value) => value,
            Found::AtLeast(value) => {
                if threshold.is_met(value)
                    && !matches!(threshold.operator, Operator::More | Operator::MoreOrEqual)
                {
                    unknown.get_or_insert((UNKNOWN_LOSS, whose.clone()));
                }
                value
            }
            Found::Nothing(why) => {
                nothing = why;
                continue;
            }
            Found::Unknown(why) => {
                unknown.get_or_insert((why, whose));
                continue;
            }
        };
        if worst.as_ref().is_none_or(|(other, _)| threshold.is_worse(value, *other)) {
            worst = Some((value, whose));
        }
    }
    match (worst, unknown) {
        (Some((value, whose)), None) => result(threshold, Some(value), threshold.is_met(value), whose),
        (Some((value, whose)), _) if !threshold.is_met(value) => result(threshold, Some(value), false, whose),
        (worst, Some((why, whose))) => {
            result(threshold, worst.map(|(value, _)| value), false, format!("{whose}: {why}"))
        }
        // A window is asked for where there was something that could have had one.
        (None, None) if nothing == NO_WINDOW => result(threshold, None, false, nothing.into()),
        (None, None) => result(threshold, None, true, nothing.into()),
    }
}

fn result(threshold: &Threshold, value: Option<f64>, ok: bool, why: String) -> ThresholdResult {
    let expression = threshold.expression().to_owned();
    ThresholdResult { expression, value, ok, why: Some(why), ..ThresholdResult::default() }
}

/// What a run without a disruption has.
fn of_none(metric: &Metric) -> Found {
    match (metric.figure(), metric.stat()) {
        (RECOVER, _) => Found::Nothing(NOBODY),
        (_, "delivered_ratio") => Found::Nothing("there was no disruption"),
        _ => Found::Value(0.0),
    }
}

fn found(metric: &Metric, disruption: &Disruption) -> Found {
    let of = |value: Option<f64>, missing| value.map_or(Found::Unknown(missing), Found::Value);
    let is_harmless = disruption.streams_dropped == 0;
    match (metric.figure(), metric.stat()) {
        (RECOVER, _) if is_harmless => Found::Nothing(NOBODY),
        (RECOVER, stat) => of(
            disruption.recover.map(|recover| match stat {
                "p50" => recover.p50,
                "p99" => recover.p99,
                _ => recover.max,
            }),
            NONE_BACK,
        ),
        (_, "delivered_ratio") => disruption.delivered_ratio.map_or(Found::Nothing(NO_WINDOW), Found::Value),
        (_, "share" | "users_share") if is_harmless => Found::Value(0.0),
        (_, "share") => of(disruption.share, "no stream was open when it began"),
        (_, "users_share") => {
            let users = disruption.users.filter(|&users| users > 0);
            of(disruption.users_affected.zip(users).map(|(hit, users)| hit as f64 / users as f64), NO_USERS)
        }
        (_, "dropped") => Found::Value(disruption.streams_dropped as f64),
        (_, "never_back") => Found::Value(disruption.never_back as f64),
        _ if disruption.lost_unknown > 0 => Found::AtLeast(disruption.bytes_lost as f64),
        _ => Found::Value(disruption.bytes_lost as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disruption::Recover;
    use crate::threshold::{Names, show};

    fn parse(text: &str) -> Threshold {
        Threshold::parse(text, &Names::default()).unwrap()
    }

    /// Two disruptions: one marked that everybody came back from, and a worse one that nobody marked.
    fn report() -> Report {
        let marked = Disruption {
            at: 61.0,
            mark: Some("kill coderd-1".into()),
            marked_at: Some(60.0),
            expected: Some(30.0),
            streams: 2000,
            streams_dropped: 500,
            share: Some(0.25),
            users: Some(800),
            users_affected: Some(400),
            reconnected: 500,
            recover: Some(Recover { p50: 1.0, p99: 8.2, max: 9.0 }),
            delivered_ratio: Some(0.9),
            ..Disruption::default()
        };
        let unmarked = Disruption {
            at: 120.0,
            mark: None,
            marked_at: None,
            expected: None,
            streams_dropped: 1000,
            share: Some(0.5),
            users_affected: Some(700),
            reconnected: 996,
            never_back: 4,
            bytes_lost: 4096,
            recover: Some(Recover { p50: 2.0, p99: 40.0, max: 41.0 }),
            delivered_ratio: None,
            ..marked.clone()
        };
        let mut report = Report { disruptions: vec![marked, unmarked], ..Report::default() };
        report.run.started_at = 7_987.0;
        report
    }

    fn judged(report: &Report, expression: &str) -> (Option<f64>, bool, String) {
        let result = parse(expression).evaluate(report);
        (result.value, result.ok, result.why.expect("a reason"))
    }

    #[test]
    fn the_worst_of_all_disruptions_decides_and_is_named() {
        let report = report();
        let (first, second) = ("02:14:07 \"kill coderd-1\"", "02:15:07 unmarked");
        for (expression, value, ok, whose) in [
            ("disruption.share < 30%", 0.5, false, second),
            ("disruption.share <= 50%", 0.5, true, second),
            ("disruption.share > 20%", 0.25, true, first),
            ("disruption.users_share < 90%", 0.875, true, second),
            ("disruption.dropped >= 1000", 500.0, false, first),
            ("disruption.never_back == 0", 4.0, false, second),
            ("disruption.recover.p50 < 3s", 2.0, true, second),
            ("disruption.recover.p99 < 30s", 40.0, false, second),
            ("disruption.recover.max < 1m", 41.0, true, second),
            ("disruption.bytes_lost < 4KB", 4096.0, false, second),
            ("disruption.bytes_lost < 1MB", 4096.0, true, second),
            ("disruption.delivered_ratio >= 80%", 0.9, true, first),
        ] {
            assert_eq!(judged(&report, expression), (Some(value), ok, whose.into()), "{expression}");
            let of_report = parse(expression).metric().read(&report);
            assert!(of_report.is_some_and(|read| read >= value), "{expression}");
        }
        let result = parse("disruption.recover.p99 < 30s").evaluate(&report);
        assert_eq!(show(&result), "40.00 s, 02:15:07 unmarked");
    }

    #[test]
    fn where_nothing_was_dropped_nobody_had_to_come_back() {
        let mut harmless = Report::default();
        for is_marked in [false, true] {
            if is_marked {
                let mark = Some("deploy".into());
                harmless.disruptions.push(Disruption { mark, streams: 9, ..Disruption::default() });
            }
            for (expression, value, ok) in [
                ("disruption.share < 30%", Some(0.0), true),
                ("disruption.share > 10%", Some(0.0), false),
                ("disruption.users_share == 0", Some(0.0), true),
                ("disruption.dropped == 0", Some(0.0), true),
                ("disruption.never_back == 0", Some(0.0), true),
                ("disruption.bytes_lost == 0", Some(0.0), true),
                ("disruption.recover.p99 < 1s", None, true),
                // Nobody can say how much was delivered of a window that there was not.
                ("disruption.delivered_ratio >= 1%", None, !is_marked),
            ] {
                let (found, met, why) = judged(&harmless, expression);
                assert_eq!((found, met), (value, ok), "{expression}, marked: {is_marked}, {why}");
            }
        }
        let (.., why) = judged(&harmless, "disruption.recover.p99 < 1s");
        assert_eq!(why, "nobody had to come back");
    }

    #[test]
    fn a_disruption_that_was_expected_has_to_be_marked() {
        let mut report = report();
        report.spec.expect_disruption = Some("30s".parse().unwrap());
        assert!(judged(&report, "disruption.share <= 50%").1);
        report.disruptions.remove(0);
        for expression in ["disruption.share <= 50%", "disruption.recover.p99 < 1h", "disruption.dropped > 0"]
        {
            let wanted = (None, false, "no disruption was marked".to_owned());
            assert_eq!(judged(&report, expression), wanted, "{expression}");
        }
        report.disruptions.clear();
        assert!(!judged(&report, "disruption.never_back == 0").1, "nothing was rehearsed");
        assert_eq!(show(&parse("disruption.share < 1").evaluate(&report)), "no disruption was marked");
    }

    #[test]
    fn what_nobody_can_tell_is_not_met() {
        let mut report = report();
        (report.disruptions[1].users, report.disruptions[1].users_affected) = (None, None);
        report.disruptions[1].recover = None;
        report.disruptions[1].lost_unknown = 3;
        for (expression, value, ok, words) in [
            ("disruption.users_share < 90%", Some(0.5), false, "02:15:07 unmarked: nobody says whose"),
            ("disruption.users_share < 10%", Some(0.5), false, "02:14:07 \"kill coderd-1\""),
            ("disruption.recover.p99 < 30s", Some(8.2), false, "none of the dropped streams has come back"),
            ("disruption.bytes_lost < 1MB", Some(4096.0), false, "not known how much they lost"),
            ("disruption.bytes_lost == 0", Some(4096.0), false, "02:15:07 unmarked"),
            ("disruption.bytes_lost >= 0", Some(0.0), true, "kill coderd-1"),
        ] {
            let (found, met, why) = judged(&report, expression);
            assert_eq!((found, met), (value, ok), "{expression}: {why}");
            assert!(why.contains(words), "{expression}: {why}");
        }
    }

    #[test]
    fn who_waits_waits_for_the_newest_one() {
        let mut report = report();
        let holds = |report: &Report, expression: &str| newest(&parse(expression), report).ok;
        assert!(
            holds(&report, "disruption.dropped >= 1000") && !holds(&report, "disruption.never_back == 0")
        );
        report.disruptions[1].never_back = 0;
        assert!(holds(&report, "disruption.never_back == 0"));
        let harmless = Disruption { mark: Some("drain".into()), streams: 9, ..Disruption::default() };
        report.disruptions.push(harmless);
        assert!(!holds(&report, "disruption.dropped > 0"), "of the drain nothing was dropped yet");
        assert!(!holds(&report, "disruption.recover.max < 1m"), "nobody has come back yet");
        report.disruptions.clear();
        assert!(!holds(&report, "disruption.dropped > 0") && holds(&report, "disruption.never_back == 0"));
    }
}
