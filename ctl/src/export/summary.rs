//! A result in Markdown, as GitHub shows it below a workflow's steps.

use std::collections::BTreeSet;

use scale_api::report::{Figure, Report};
use scale_api::threshold;
use scale_api::units::thousands;

use crate::client::Failure;
use crate::render::{rate, seconds};

/// Disruptions that are listed.
const DISRUPTIONS_MAX: usize = 20;
/// Reasons that are listed.
const REASONS_MAX: usize = 20;

/// A report.
pub fn report(report: &Report) -> String {
    let (run, verdict) = (&report.run, &report.verdict);
    let outcome = format!("{:?}", verdict.outcome).to_lowercase();
    let name = run.name.as_ref().map_or(String::new(), |name| format!(" {}", plain(name)));
    let mut lines = vec![
        format!("## scaled: {outcome}{name}"),
        String::new(),
        format!(
            "Run `{}`, {}, exit code {}.",
            code(&run.id),
            seconds((run.ended_at - run.started_at).max(0.0)),
            verdict.exit_code
        ),
    ];
    if !verdict.reasons.is_empty() {
        lines.push(String::new());
        lines.extend(verdict.reasons.iter().take(REASONS_MAX).map(|reason| format!("- {}", plain(reason))));
    }
    if verdict.reasons.len() > REASONS_MAX {
        lines.push(format!("- and {} more", verdict.reasons.len() - REASONS_MAX));
    }
    table(&mut lines, &["", ""], figures(report));
    let mark = |ok: bool| if ok { "met" } else { "**not met**" };
    let result = |result: &scale_api::report::ThresholdResult| {
        let at = result.at.map_or(String::new(), |at| format!(", at second {at}"));
        let aborted = if result.aborted { ", ended the run" } else { "" };
        let expression = format!("`{}`", code(&result.expression));
        vec![expression, plain(&threshold::show(result)) + &at, format!("{}{aborted}", mark(result.ok))]
    };
    let thresholds = verdict.thresholds.iter().map(result).collect();
    table(&mut lines, &["threshold", "measured", ""], thresholds);
    let disruptions = report.disruptions.iter().take(DISRUPTIONS_MAX);
    let disruptions =
        disruptions.map(|it| vec![plain(&it.sentence(report.zero_at(), !report.run.going))]).collect();
    table(&mut lines, &["disruption"], disruptions);
    if report.disruptions.len() > DISRUPTIONS_MAX {
        lines.push(format!("\nand {} more disruptions", report.disruptions.len() - DISRUPTIONS_MAX));
    }
    table(&mut lines, &["class", "attempts failed", "streams lost"], failures(report));
    lines.join("\n") + "\n\n"
}

/// What kept a run from having a report.
pub fn failure(failure: &Failure) -> String {
    let reasons: Vec<String> = failure.message.lines().map(|line| format!("- {}", plain(line))).collect();
    format!("## scaled: no result\n\nExit code {}.\n\n{}\n\n", failure.exit as u8, reasons.join("\n"))
}

fn table(lines: &mut Vec<String>, head: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    lines.extend([
        String::new(),
        format!("| {} |", head.join(" | ")),
        format!("|{}", " --- |".repeat(head.len())),
    ]);
    lines.extend(rows.into_iter().map(|row| format!("| {} |", row.join(" | "))));
}

/// The main figures; what has no value has no row.
fn figures(report: &Report) -> Vec<Vec<String>> {
    let load = &report.load;
    let mut rows = Vec::new();
    let mut row = |name: &str, value: Option<String>| {
        rows.extend(value.map(|value| vec![name.to_owned(), value]));
    };
    let percent = |value: Option<f64>| value.map(|value| format!("{:.3} %", value * 100.0));
    if let Some(coder) = report.coder.as_ref().filter(|coder| !coder.of.is_empty()) {
        let failed = thousands(coder.failed);
        let of = format!("{} of {}", thousands(coder.succeeded), thousands(coder.requested));
        row(&plain(&coder.of), Some(format!("{of} succeeded, {failed} failed")));
    }
    if load.streams_requested > 0 {
        row(
            "streams",
            Some(format!(
                "{} asked for, {} opened, {} open at the end",
                thousands(load.streams_requested),
                thousands(load.streams_opened),
                thousands(load.streams_open_at_end)
            )),
        );
        row("sent of what was due", percent(load.delivered_ratio));
        row("came back", percent(load.echoed_ratio));
        let rates =
            [("offered", load.rate_offered), ("sent", load.rate_sent), ("received", load.rate_received)];
        let rates = rates.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", rate(value?))));
        row("rate", Some(rates.collect::<Vec<_>>().join(", ")).filter(|rates| !rates.is_empty()));
        row("response", report.latency.response.as_ref().map(times));
        row("lateness", report.latency.lateness.as_ref().map(times));
        let busy = report.generator.workers.iter().map(|worker| worker.busy_max).reduce(f64::max);
        let saturated = if report.generator.saturated { ", **saturated**" } else { "" };
        row("generator", busy.map(|busy| format!("busiest core {:.0} %{saturated}", busy * 100.0)));
    }
    rows
}

fn times(figure: &Figure) -> String {
    format!("p50 {}, p99 {}, max {}", seconds(figure.p50), seconds(figure.p99), seconds(figure.max))
}

fn failures(report: &Report) -> Vec<Vec<String>> {
    let load = &report.load;
    let classes: BTreeSet<&String> = load.connect_failures.keys().chain(load.disconnects.keys()).collect();
    let count = |counts: &std::collections::BTreeMap<String, u64>, class: &String| {
        thousands(counts.get(class).copied().unwrap_or(0))
    };
    classes
        .into_iter()
        .map(|class| {
            vec![
                format!("`{}`", code(class)),
                count(&load.connect_failures, class),
                count(&load.disconnects, class),
            ]
        })
        .collect()
}

/// Text that is not to be read as Markdown.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '|' | '#' | '~' | '&' => plain.extend(['\\', c]),
            c if c.is_control() => plain.push(' '),
            c => plain.push(c),
        }
    }
    plain
}

/// Text between backticks, in a cell of a table.
fn code(text: &str) -> String {
    let one = |c: char| match c {
        '`' => '\'',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().map(one).collect::<String>().replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use scale_api::disruption::Disruption;

    use super::*;
    use crate::export::tests::report as sample;

    #[test]
    fn a_summary_has_verdict_figures_thresholds_and_failures() {
        let text = report(&sample());
        for line in [
            "## scaled: failed night \\| \\<ly\\> \\& \"co\" ",
            "Run `r1-0`, 65.5 s, exit code 99.",
            "- 95.00 % of what was sent came back",
            "| streams | 1,000 asked for, 998 opened, 990 open at the end |",
            "| came back | 95.000 % |",
            "| rate | offered 40.0 MB/s, sent 39.0 MB/s, received 38.0 MB/s |",
            "| response | p50 10.0 ms, p99 300.0 ms, max 1.5 s |",
            "| generator | busiest core 41 % |",
            "| `response.p99 < 250ms` | 300.00 ms | **not met** |",
            "| `connect.p99 < 2s over 30s` | 50.00 ms, at second 12 | met |",
            "| `tls.p50 < 1s` | no value | **not met** |",
            "| `refused` | 2 | 1 |",
            "| `reset` | 0 | 7 |",
        ] {
            assert!(text.lines().any(|it| it == line), "{line:?} is missing:\n{text}");
        }
        // A table needs an empty line before it, and as many cells as its head.
        for (before, head) in text.lines().zip(text.lines().skip(1)).filter(|(before, _)| before.is_empty()) {
            assert!(before.is_empty() && !head.is_empty());
        }
        assert!(text.ends_with("|\n\n"));
    }

    #[test]
    fn each_disruption_is_a_sentence_and_a_long_list_ends() {
        let mark = Some("kill coderd|1".to_owned());
        let one =
            Disruption { mark, streams: 9, streams_dropped: 3, reconnected: 3, ..Disruption::default() };
        let mut run = sample();
        run.disruptions = vec![one; DISRUPTIONS_MAX + 2];
        let text = report(&run);
        let line = "| 08:00:00 \"kill coderd\\|1\": 3 of 9 dropped; 3 back; 0 never; 0 B lost |";
        assert_eq!(text.lines().filter(|it| *it == line).count(), DISRUPTIONS_MAX, "{text}");
        assert!(
            text.contains("| disruption |\n| --- |\n") && text.contains("\nand 2 more disruptions\n"),
            "{text}"
        );
    }

    #[test]
    fn a_report_without_load_and_a_failure_are_short() {
        let text = report(&Report::default());
        assert_eq!(text.lines().count(), 4, "{text}");
        let mut flow = Report::default();
        let made = scale_api::coder::Outcome {
            of: "workspaces".into(),
            requested: 5,
            succeeded: 4,
            failed: 1,
            ..Default::default()
        };
        flow.coder = Some(made);
        assert!(report(&flow).contains("| workspaces | 4 of 5 succeeded, 1 failed |"));
        flow.verdict.reasons = vec!["again".into(); REASONS_MAX + 3];
        assert!(report(&flow).contains("- and 3 more"));
        let text = failure(&Failure::usage("no target_x\nno conns"));
        assert_eq!(text, "## scaled: no result\n\nExit code 2.\n\n- no target\\_x\n- no conns\n\n");
    }

    #[test]
    fn the_text_of_a_mark_breaks_no_table() {
        let result = scale_api::report::ThresholdResult {
            expression: "disruption.recover.p99 < 30s".into(),
            value: Some(41.2),
            why: Some("02:14:07 \"kill|<b>\"".into()),
            ..Default::default()
        };
        let mut whole = Report::default();
        whole.verdict.thresholds.push(result);
        let row = "| `disruption.recover.p99 < 30s` | 41.20 s, 02:14:07 \"kill\\|\\<b\\>\" | **not met** |";
        assert!(report(&whole).contains(row), "{}", report(&whole));
    }
}
