//! A comparison as people read it.

use scale_api::units::thousands;

use super::disruptions;
use super::result::{Answer, Comparison, Evidence, Needed, Outcome, Row, Scale, Side, Word};
use super::verdict::percent;
use crate::render::{rate, seconds};

/// Runs of a side that are named.
const RUNS_SHOWN_MAX: usize = 10;

/// All of it.
pub fn comparison(it: &Comparison) -> String {
    let mut lines = vec![side("base", &it.base), side("new", &it.new), String::new(), head()];
    let mut group = None;
    for row in &it.figures {
        if row.group != group {
            group.clone_from(&row.group);
            lines.extend(group.as_ref().map(|name| format!("group {name}:")));
        }
        lines.push(line(row));
    }
    lines.push("  * decides; intervals hold with 95 %, those that decide all together".into());
    lines.extend(disruptions::text(&it.disruptions));
    if !it.differences.is_empty() {
        lines.extend([String::new(), "what the runs do not share:".into()]);
        lines.extend(it.differences.iter().map(|found| {
            let mark = if found.matters { "!" } else { " " };
            format!("{mark} {}: {} and {}", found.what, found.base, found.new)
        }));
    }
    let needed = needed(&it.runs_needed);
    if !needed.is_empty() {
        lines.extend([String::new(), "runs a side that see a change in 9 of 10 tries:".into()]);
        lines.extend(needed);
    }
    lines.push(String::new());
    lines.extend(it.regressions.iter().map(|limit| {
        let result = match limit.result {
            Answer::Met => "met",
            Answer::Exceeded => "EXCEEDED",
            Answer::Undecided => "undecided",
        };
        let interval = interval(limit.low, limit.high);
        let worse = limit.worse.map_or("-".into(), percent);
        format!(
            "at most {} worse: {result}; {} is worse by {worse} {interval}",
            percent(limit.limit),
            limit.name
        )
    }));
    lines.extend(it.notes.iter().map(|note| format!("! {note}")));
    let evidence = match it.verdict.evidence {
        Evidence::Weak => "weak evidence",
        Evidence::Moderate => "moderate evidence",
        Evidence::Good => "good evidence",
    };
    lines.push(match it.verdict.outcome {
        Outcome::Better => format!("BETTER ({evidence})"),
        Outcome::Worse => format!("WORSE ({evidence})"),
        Outcome::NoDifference => format!("NO DIFFERENCE SEEN ({evidence})"),
        Outcome::CannotJudge => "CANNOT JUDGE".into(),
    });
    lines.extend(it.verdict.reasons.iter().map(|reason| format!("  {reason}")));
    lines.join("\n")
}

fn side(name: &str, side: &Side) -> String {
    let one = |run: &super::result::RunHead| {
        let called = run.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
        format!(
            "{}{called}: {} streams, {} s steady, {}",
            run.source,
            thousands(run.streams),
            thousands(run.steady_seconds),
            format!("{:?}", run.outcome).to_lowercase()
        )
    };
    let mut runs: Vec<String> = side.runs.iter().take(RUNS_SHOWN_MAX).map(one).collect();
    if side.runs.len() > RUNS_SHOWN_MAX {
        runs.push(format!("and {} more", side.runs.len() - RUNS_SHOWN_MAX));
    }
    format!("{name:<5} {}", runs.join("\n      "))
}

fn head() -> String {
    format!("  {:<26} {:>12} {:>12} {:>10}  {:<22} ", "", "base", "new", "change", "interval")
}

fn line(row: &Row) -> String {
    let name =
        row.group.as_ref().and_then(|group| row.name.strip_prefix(&format!("{group}."))).unwrap_or(&row.name);
    let value = |value: Option<f64>| value.map_or("-".into(), |value| shown(row.unit, value));
    let word = match row.verdict {
        Word::Better => "better",
        Word::Worse => "WORSE",
        Word::Same => "",
        Word::Unknown => "not judged",
    };
    // The difference of two percentages is in points.
    let unit = |text: String| if row.scale == Scale::Points { text.replace(" %", " pt") } else { text };
    let change = row.change.map_or("-".into(), |change| unit(signed(change)));
    let decides = if row.decides { '*' } else { ' ' };
    let line = format!(
        "{decides} {name:<26} {:>12} {:>12} {change:>10}  {:<22} {word}",
        value(row.base),
        value(row.new),
        unit(interval(row.low, row.high))
    );
    line.trim_end().to_owned()
}

fn interval(low: Option<f64>, high: Option<f64>) -> String {
    low.zip(high).map_or(String::new(), |(low, high)| format!("({} to {})", signed(low), signed(high)))
}

/// With its sign, and as many digits as mean something.
fn signed(share: f64) -> String {
    let percent = share * 100.0;
    match percent.abs() {
        below if below < 0.0005 => "0 %".into(),
        below if below < 0.95 => format!("{percent:+.3} %"),
        below if below < 9.95 => format!("{percent:+.1} %"),
        below if below < 1000.0 => format!("{percent:+.0} %"),
        _ => format!("{:+.0} times", share + 1.0),
    }
}

fn shown(unit: &str, value: f64) -> String {
    match unit {
        "seconds" if value < 0.1 => format!("{:.3} ms", value * 1e3),
        "seconds" => seconds(value),
        "bytes_per_second" => rate(value),
        "ratio" => format!("{:.3} %", value * 100.0),
        "microseconds" => format!("{value:.2} us"),
        _ => format!("{value:.4}"),
    }
}

/// One line a figure.
fn needed(all: &[Needed]) -> Vec<String> {
    let mut lines: Vec<(&str, Vec<String>)> = Vec::new();
    for needed in all {
        let runs = needed.runs.map_or("more than 100".into(), |runs| runs.to_string());
        let part = format!("{}: {runs}", percent(needed.change));
        match lines.last_mut() {
            Some((name, parts)) if *name == needed.name => parts.push(part),
            _ => lines.push((&needed.name, vec![part])),
        }
    }
    lines.into_iter().map(|(name, parts)| format!("  {name:<26} {}", parts.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_a_sign_and_no_more_digits_than_they_mean() {
        let all = [0.0, 0.000_45, -0.0213, 0.213, 3.0, 41.0].map(signed);
        assert_eq!(all, ["0 %", "+0.045 %", "-2.1 %", "+21 %", "+300 %", "+42 times"]);
    }

    #[test]
    fn what_is_needed_stands_in_a_line_a_figure() {
        let needed = |name: &str, change, runs| Needed { name: name.into(), change, runs };
        let all = [needed("a", 0.05, None), needed("a", 0.1, Some(3)), needed("b", 0.1, Some(2))];
        let lines = super::needed(&all);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("5.0 %: more than 100, 10 %: 3"), "{}", lines[0]);
    }
}
