//! What people read of a search.

use scale_api::calibration::Limit;
use scale_api::report::ThresholdResult;
use scale_api::threshold::show;
use scale_api::units::thousands;

use super::reading::p99;
use super::result::{Asked, Found, Outcome, Recovery, Step, Vary};
use crate::render::{optional, seconds};

/// A load, such as `1,000 streams` or `40.0 KB/s a stream`.
pub fn level(vary: Vary, level: u64) -> String {
    match vary {
        Vary::Conns => format!("{} streams", thousands(level)),
        Vary::Rate => format!("{} a stream", three_digits(level as f64)),
    }
}

/// A rate with three digits that count: what held and what broke are 3 % apart.
fn three_digits(rate: f64) -> String {
    let (value, unit) = match rate {
        rate if rate < 1e3 => return format!("{rate:.0} B/s"),
        rate if rate < 1e6 => (rate / 1e3, "KB/s"),
        rate => (rate / 1e6, "MB/s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// What is looked for, and the table's head.
pub fn head(asked: &Asked) -> String {
    let until = if asked.until.is_empty() { String::new() } else { format!(", {}", asked.until.join(", ")) };
    format!(
        "{}; {}: as much as goes with what is due sent, echoed and open{until}\n{:>20} {:>8} {:>12} {:>12} {:>12} {:>10} {:>8}",
        asked.targets.join(", "),
        asked.load,
        "load",
        "seconds",
        "messages/s",
        "response p50",
        "p99",
        "late p99",
        "busiest"
    )
}

/// A step as a line.
pub fn step(vary: Vary, step: &Step) -> String {
    let verdict = match step.limit {
        None if step.hold => "confirmed".to_owned(),
        None => "held".to_owned(),
        Some(Limit::Target) => format!("broke: {}", broke(&step.broke)),
        Some(limit) => format!("this host: {}", format!("{limit:?}").to_lowercase()),
    };
    format!(
        "{:>20} {:>8} {:>12} {:>12} {:>12} {:>10} {:>8}  {verdict}",
        level(vary, step.level),
        step.seconds,
        thousands(step.messages_per_second.round() as u64),
        optional(step.response.as_ref().map(|it| it.p50), seconds),
        optional(p99(step.response.as_ref()), seconds),
        optional(step.lateness_p99, seconds),
        format!("{:.0} %", step.busy * 100.0),
    )
}

/// Figures that were not met, and their values.
fn broke(figures: &[ThresholdResult]) -> String {
    let figure = |result: &ThresholdResult| format!("{} ({})", result.expression, show(result));
    match figures {
        [] => "the run ended: nothing was open, or nothing came back".into(),
        figures => figures.iter().map(figure).collect::<Vec<_>>().join(", "),
    }
}

/// How coming back went.
pub fn recovery(vary: Vary, it: &Recovery) -> String {
    let (from, to) = (level(vary, it.from), level(vary, it.to));
    match it.seconds {
        Some(0.0) => format!("after {from} all was well as soon as it was back at {to}"),
        Some(took) => format!("after {from} all was well again {} after coming back to {to}", seconds(took)),
        None => format!("after {from} it was not well again within {} at {to}", seconds(it.watched)),
    }
}

/// Why it ended where it did, where that is not the target.
const fn ended(limit: Limit) -> &'static str {
    match limit {
        Limit::Busy => "beyond it a worker takes more than 90 % of its core",
        Limit::Lateness => "beyond it the generator itself is late",
        Limit::Streams => "--to was reached",
        other => other.meaning(),
    }
}

/// What it comes to.
pub fn sentences(found: &Found) -> Vec<String> {
    let vary = found.asked.vary;
    let max = level(vary, found.max);
    let held = found.steps.iter().rfind(|step| step.level == found.max && step.limit.is_none());
    let figures = held.map_or(String::new(), |step| {
        format!(
            "held for {} s, response p50 {} and p99 {}",
            step.seconds,
            optional(step.response.as_ref().map(|it| it.p50), seconds),
            optional(p99(step.response.as_ref()), seconds)
        )
    });
    let mut lines = vec![match (found.outcome, found.max) {
        (Outcome::Found, _) => format!("this target carries {max} ({figures})"),
        (Outcome::Aborted, 0) if found.steps.is_empty() => "ended before anything was found".into(),
        (Outcome::Nothing | Outcome::Aborted, 0) => {
            format!("not even {} were held", level(vary, found.asked.from))
        }
        (Outcome::Aborted, _) => format!("ended before its time: at least {max} ({figures})"),
        _ if found.limit.is_of_this_host() => format!("at least {max} ({figures}), this host ends here"),
        _ => format!("at least {max} ({figures})"),
    }];
    if found.limit != Limit::Target && found.outcome != Outcome::Aborted {
        lines.push(ended(found.limit).into());
    }
    let spoilt = |step: &&Step| step.level > found.max && step.limit.is_some_and(Limit::is_of_this_host);
    let least = found.steps.iter().rev().filter(spoilt).min_by_key(|step| step.level);
    if found.limit == Limit::Time
        && let Some((at, limit)) = least.and_then(|step| Some((step.level, step.limit?)))
    {
        let limit = format!("{limit:?}").to_lowercase();
        lines.push(format!("at {} this host was the limit ({limit})", level(vary, at)));
    }
    if found.max > 0 && !found.confirmed && found.outcome != Outcome::Aborted {
        lines.push(format!("not confirmed: it was not held for {} s", found.asked.hold));
    }
    if let Some(it) = &found.broke {
        let first = it.figures.first().map_or_else(|| broke(&[]), |first| broke(std::slice::from_ref(first)));
        let then = match it.figures.get(1..) {
            None | Some([]) => String::new(),
            Some(more) => format!("; then {}", broke(more)),
        };
        let classes: Vec<String> = [("lost", &it.disconnects), ("not opened", &it.connect_failures)]
            .iter()
            .flat_map(|(what, classes)| {
                classes.iter().map(move |(class, count)| format!("{} {what}: {class}", thousands(*count)))
            })
            .collect();
        let classes = if classes.is_empty() { String::new() } else { format!("; {}", classes.join(", ")) };
        lines.push(format!("at {} broke first: {first}{then}{classes}", level(vary, it.level)));
    }
    lines.extend(found.recovery.as_ref().map(|it| recovery(vary, it)));
    lines.extend(found.knee.as_ref().map(|knee| {
        format!("response bends upwards at {} (p99 {})", level(vary, knee.level), seconds(knee.response_p99))
    }));
    lines
}

/// The result.
pub fn result(found: &Found) -> String {
    let mut lines = found.sentences.clone();
    lines.push(format!("run {}: `scalectl report {}` has its seconds", found.run, found.run));
    lines.extend(found.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n  ")
}

#[cfg(test)]
mod tests {
    use scale_api::report::Figure;

    use super::*;

    fn missed(expression: &str, value: f64) -> ThresholdResult {
        ThresholdResult { expression: expression.into(), value: Some(value), ..ThresholdResult::default() }
    }

    fn found(limit: Limit, confirmed: bool) -> Found {
        let response = Some(Figure { p50: 0.002, p99: 0.012, ..Figure::default() });
        let held = Step { level: 1000, seconds: 60, hold: true, response, ..Step::default() };
        let over = Step {
            level: 1030,
            limit: Some(Limit::Target),
            broke: vec![missed("response.p99 < 250ms", 0.4), missed("load.echoed_ratio >= 99%", 0.95)],
            disconnects: [("reset".into(), 12)].into(),
            recovery: Some(Recovery { from: 1030, to: 1000, seconds: Some(4.0), watched: 7.0 }),
            ..Step::default()
        };
        let mut found = Found { steps: vec![over, held], ..Found::default() };
        found.asked = Asked { from: 100, hold: 60, ..Asked::default() };
        found.conclude(1000, confirmed, limit, false);
        found
    }

    #[test]
    fn the_sentences_say_what_is_carried_what_broke_first_and_how_it_came_back() {
        let result = found(Limit::Target, true);
        assert_eq!(
            sentences(&result),
            [
                "this target carries 1,000 streams (held for 60 s, response p50 2.0 ms and p99 12.0 ms)",
                "at 1,030 streams broke first: response.p99 < 250ms (400.00 ms); then load.echoed_ratio >= 99% (95.000 %); 12 lost: reset",
                "after 1,030 streams all was well again 4.0 s after coming back to 1,000 streams",
            ]
        );
        assert_eq!((result.exit_code, result.outcome), (0, Outcome::Found));
    }

    #[test]
    fn what_this_host_ends_is_never_said_to_be_the_targets_limit() {
        let result = found(Limit::Busy, true);
        let lines = sentences(&result);
        assert!(lines[0].starts_with("at least 1,000 streams") && lines[0].ends_with("this host ends here"));
        assert!(
            lines[1].contains("90 % of its core") && !lines.join("\n").contains("broke first"),
            "{lines:?}"
        );
        assert_eq!(result.exit_code, 6);
        let mut time = found(Limit::Time, false);
        time.steps.push(Step { level: 2000, limit: Some(Limit::Missed), ..Step::default() });
        assert!(
            sentences(&time).iter().any(|line| line == "at 2,000 streams this host was the limit (missed)")
        );
        assert!(sentences(&time).iter().any(|line| line == "not confirmed: it was not held for 60 s"));
        assert_eq!((time.exit_code, found(Limit::Streams, true).exit_code), (6, 0));
    }

    #[test]
    fn nothing_that_was_held_says_so_with_what_broke() {
        let over = Step {
            level: 100,
            limit: Some(Limit::Target),
            broke: vec![missed("response.p99 < 250ms", 0.4)],
            ..Step::default()
        };
        let mut found = Found { steps: vec![over], ..Found::default() };
        found.asked.from = 100;
        found.conclude(0, false, Limit::Target, false);
        let lines = sentences(&found);
        assert_eq!(lines[0], "not even 100 streams were held");
        assert!(lines[1].starts_with("at 100 streams broke first: response.p99 < 250ms"), "{lines:?}");
        assert_eq!(found.exit_code, 99);
    }

    #[test]
    fn a_search_that_was_ended_before_its_first_step_blames_nobody() {
        let mut found = Found { asked: Asked { from: 100, ..Asked::default() }, ..Found::default() };
        found.conclude(0, false, Limit::Time, true);
        assert_eq!(sentences(&found), ["ended before anything was found"]);
    }

    #[test]
    fn rates_that_are_three_percent_apart_are_told_apart() {
        let shown = |rate| level(Vary::Rate, rate);
        assert_eq!(
            (shown(1_000_000), shown(1_030_000)),
            ("1.00 MB/s a stream".into(), "1.03 MB/s a stream".into())
        );
        assert_eq!(
            (shown(40_960), shown(512_400)),
            ("41.0 KB/s a stream".into(), "512 KB/s a stream".into())
        );
        assert_eq!((shown(5), shown(9_999)), ("5 B/s a stream".into(), "10.00 KB/s a stream".into()));
    }

    #[test]
    fn a_step_is_a_line_of_the_table() {
        let host = Step { level: 10, limit: Some(Limit::Busy), ..Step::default() };
        assert!(step(Vary::Conns, &host).ends_with("this host: busy"));
        let rate = Step { level: 40_000, hold: true, ..Step::default() };
        let line = step(Vary::Rate, &rate);
        assert!(line.contains("40.0 KB/s a stream") && line.ends_with("confirmed"), "{line}");
        let over = Step { limit: Some(Limit::Target), ..Step::default() };
        assert!(step(Vary::Conns, &over).contains("the run ended"));
    }
}
