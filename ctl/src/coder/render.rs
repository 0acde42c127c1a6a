//! What people read of a Coder flow: what it would do, a line a second, and the result.

use scale_api::coder::{Builds, ClassFailures, Cleaned, Outcome, Preflight, Progress, STATES, Step};
use scale_api::report::{Event, Figure, Report};
use scale_api::units::thousands;

use crate::render::seconds;

/// Things of a clean-up that are shown one by one; --json shows more.
const THINGS_SHOWN_MAX: usize = 40;
/// Names that are shown of a class of failures.
const NAMES_SHOWN_MAX: usize = 5;
/// Characters of the bar.
const BAR: usize = 20;

/// What would be done.
pub fn preflight(looked: &Preflight) -> String {
    let row = |thing: &scale_api::coder::Thing| {
        let run = thing.run.as_deref().unwrap_or("no run of this host");
        let owner = thing.owner.as_deref().map_or(String::new(), |owner| format!(" of {owner}"));
        format!("  {:<9} {:<32} {} ({run}){owner}", thing.kind, thing.name, thing.state)
    };
    let mut lines: Vec<String> = looked.things.iter().take(THINGS_SHOWN_MAX).map(row).collect();
    let all = looked.users + looked.workspaces;
    if !looked.things.is_empty() && all > THINGS_SHOWN_MAX as u64 {
        lines.push(format!("  … and {} more", thousands(all - THINGS_SHOWN_MAX as u64)));
    }
    lines.extend(looked.lines.iter().map(|line| crate::render::plain(line)));
    lines.join("\n")
}

fn states(progress: &Progress) -> String {
    let there = STATES.iter().filter(|state| progress.of(state) > 0 && **state != "failed");
    let mut words: Vec<String> =
        there.map(|state| format!("{} {}", thousands(progress.of(state)), state.replace('_', " "))).collect();
    words.extend(progress.failed.iter().map(|(class, count)| format!("{} {class}", thousands(*count))));
    words.join(", ")
}

/// One second in one line.
pub fn event(event: &Event, progress: &Progress) -> String {
    let (done, total) = (progress.done(), progress.total);
    let share = (done * BAR as u64).checked_div(total).unwrap_or(0) as usize;
    let mut line = format!(
        "{:>5.0}s {:<17} [{}{}] {}/{}",
        event.elapsed,
        progress.phase,
        "#".repeat(share),
        ".".repeat(BAR - share),
        thousands(done),
        thousands(total),
    );
    if let Some(rate) = progress.rate.filter(|_| done < total) {
        line += &format!("  {rate:.1}/s");
    }
    if let Some(left) = event.remaining.filter(|_| done < total) {
        line += &format!("  {} left", seconds(left));
    }
    let states = states(progress);
    if !states.is_empty() {
        line += &format!("  {states}");
    }
    if let Some(waits_for) = &progress.waits_for {
        line += &format!("  waits for {waits_for}");
    }
    if progress.rate_limited > 0 {
        line += &format!("  429: {}", thousands(progress.rate_limited));
    }
    line
}

/// A going flow on one screen.
pub fn status(event: &Event, progress: &Progress) -> String {
    let left = event.remaining.map_or(String::new(), |left| format!(", {} left", seconds(left)));
    let mut lines = vec![
        format!("run         {} {} on {}", event.run, event.name.as_deref().unwrap_or(""), progress.host),
        format!("state       {}, {} gone{left}", event.state, seconds(event.elapsed)),
        format!("done        {} of {}", thousands(progress.done()), thousands(progress.total)),
        format!("things      {}", states(progress)),
    ];
    lines.extend(progress.waits_for.as_ref().map(|what| format!("waits for   {what}")));
    lines.extend(event.warnings.iter().map(|warning| format!("! {warning}")));
    lines.join("\n")
}

/// What a class of failures means for what was asked for.
fn verb(class: &str) -> &'static str {
    match class {
        "no_agent" | "agent_timeout" | "agent_lost" | "agent_start" | "agent_unreachable"
        | "terminal_refused" | "terminal_silent" => "connect",
        "terminal_lost" | "command_timeout" | "command_output" => "run the command",
        "queue_timeout" | "build_timeout" | "build_failed" | "build_canceled" => "be built",
        _ => "be made",
    }
}

/// `998 of 1,000 workspaces succeeded, 2 failed to connect`.
fn summary(outcome: &Outcome) -> String {
    let mut line = format!(
        "{} of {} {} succeeded",
        thousands(outcome.succeeded),
        thousands(outcome.requested),
        outcome.of
    );
    for word in ["be made", "be built", "connect", "run the command"] {
        let of_it = outcome.failures.iter().filter(|(class, _)| verb(class) == word && *class != "stopped");
        let count: u64 = of_it.map(|(_, failures)| failures.count).sum();
        if count > 0 {
            line += &format!(", {} failed to {word}", thousands(count));
        }
    }
    if let Some(stopped) = outcome.failures.get("stopped") {
        line += &format!(", {} stopped before", thousands(stopped.count));
    }
    line
}

fn class(outcome: &Outcome, name: &str, failures: &ClassFailures) -> Vec<String> {
    let mut lines = vec![format!("  {} {name}: {}", thousands(failures.count), failures.sentence)];
    let of_it = outcome.failed_things.iter().filter(|thing| thing.class == name);
    lines.extend(of_it.take(NAMES_SHOWN_MAX).map(|thing| {
        let said =
            thing.message.trim_end_matches(failures.sentence.as_str()).trim_end_matches([':', ';', ' ']);
        if said.is_empty() { format!("    {}", thing.name) } else { format!("    {}: {said}", thing.name) }
    }));
    if failures.count > NAMES_SHOWN_MAX as u64 {
        lines.push(format!("    … and {} more", thousands(failures.count - NAMES_SHOWN_MAX as u64)));
    }
    lines
}

fn phase(name: &str, figure: Option<&Figure>) -> Option<String> {
    let f = figure?;
    Some(format!(
        "  {name:<12} {:>10} {:>10} {:>10} {:>10} {:>12}",
        seconds(f.p50),
        seconds(f.p90),
        seconds(f.p99),
        seconds(f.max),
        thousands(f.count)
    ))
}

/// How many builds went at once.
fn builds(builds: &Builds) -> String {
    let most = |most: Option<u64>| most.map_or("-".into(), thousands);
    format!(
        "builds:       {}; at once: {} asked for, {} under way, {} at provisioners",
        thousands(builds.count),
        thousands(builds.asked),
        most(builds.under_way),
        most(builds.reached)
    )
}

fn cleaned(cleaned: &Cleaned) -> Vec<String> {
    let mut line = format!(
        "deleted {} workspaces and {} users in {}",
        thousands(cleaned.workspaces),
        thousands(cleaned.users),
        seconds(cleaned.seconds)
    );
    if cleaned.gone > 0 {
        line += &format!("; {} were gone already or never made", thousands(cleaned.gone));
    }
    let mut lines = vec![line];
    if cleaned.left > 0 {
        lines.push(format!("LEFT: {}", thousands(cleaned.left)));
    }
    lines.extend(
        cleaned
            .left_things
            .iter()
            .take(THINGS_SHOWN_MAX)
            .map(|left| format!("  {} {}: {}", left.kind, left.name, left.message)),
    );
    lines
}

/// The workspaces behind a run of traffic.
pub fn traffic(outcome: &Outcome) -> Vec<String> {
    let site = &outcome.site;
    let mut line =
        format!("workspaces:   {} on {} ({})", thousands(outcome.requested), site.host, site.version);
    let skipped = outcome.traffic.as_ref().map_or(0, |traffic| traffic.skipped);
    for (count, what) in [(outcome.failed, "failed"), (skipped, "could not be driven")] {
        if count > 0 {
            line += &format!(", {} {what}", thousands(count));
        }
    }
    let mut lines = vec![line];
    lines.extend(outcome.failures.iter().flat_map(|(name, failures)| class(outcome, name, failures)));
    if outcome.replicas.len() > 1 {
        let by: Vec<String> =
            outcome.replicas.iter().map(|(address, n)| format!("{address} {}", thousands(*n))).collect();
        lines.push(format!("addresses:    streams opened: {}", by.join(", ")));
    }
    lines.extend(outcome.warnings.iter().map(|warning| format!("! {warning}")));
    lines
}

/// The result.
pub fn report(report: &Report, outcome: &Outcome) -> String {
    let (site, by) = (&outcome.site, crate::render::by(&report.run));
    let mut lines =
        vec![format!("\nrun {} {} on {} ({}){by}", report.run.id, outcome.flow, site.host, site.version)];
    if outcome.of != "things" && !outcome.of.is_empty() {
        lines.push(summary(outcome));
        lines.extend(outcome.failures.iter().flat_map(|(name, failures)| class(outcome, name, failures)));
    }
    lines.extend(made_and_deleted(report, outcome));
    lines.extend(crate::render::verdict(report));
    lines.join("\n")
}

/// Of a scenario with traffic: what stands beside the traffic's own figures.
pub fn scenario(report: &Report, outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    if outcome.phases != scale_api::coder::Phases::default() {
        let site = &outcome.site;
        lines.push(format!("workspaces:   on {} ({}): {}", site.host, site.version, summary(outcome)));
        lines.extend(outcome.failures.iter().flat_map(|(name, failures)| class(outcome, name, failures)));
    }
    if let Some(traffic) = outcome.traffic.as_ref().filter(|traffic| !traffic.failures.is_empty()) {
        let failed: u64 = traffic.failures.values().map(|failures| failures.count).sum();
        lines.push(format!("traffic:      {} workspaces had failures", thousands(failed)));
        lines.extend(traffic.failures.iter().flat_map(|(name, failures)| class(outcome, name, failures)));
    }
    lines.extend(made_and_deleted(report, outcome));
    lines
}

fn made_and_deleted(report: &Report, outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    if !outcome.steps.is_empty() {
        let step = |step: &Step| format!("{} {}", step.name, seconds(step.seconds));
        lines
            .push(format!("steps:        {}", outcome.steps.iter().map(step).collect::<Vec<_>>().join(", ")));
    }
    lines.extend(super::steps::render::report(&report.steps));
    let phases = [
        ("create", &outcome.phases.create),
        ("queue", &outcome.phases.queue),
        ("build", &outcome.phases.build),
        ("agent", &outcome.phases.agent),
        ("connect", &outcome.phases.connect),
        ("command", &outcome.phases.command),
    ];
    let phases = phases.iter().filter_map(|(name, figure)| phase(name, figure.as_ref()));
    let api = outcome.api.iter().filter_map(|(step, figure)| phase(&format!("API {step}"), Some(figure)));
    let rows: Vec<String> = phases.chain(api).collect();
    if !rows.is_empty() {
        lines.push(format!(
            "  {:<12} {:>10} {:>10} {:>10} {:>10} {:>12}",
            "", "p50", "p90", "p99", "max", "count"
        ));
        lines.extend(rows);
    }
    lines.extend(outcome.builds.as_ref().map(builds));
    if let Some(command) = &outcome.command {
        lines.push(format!("  connected = {}", command.connected));
        lines.extend(command.outputs.as_ref().map(|folder| format!("outputs:      {folder}")));
    }
    lines.extend(outcome.cleanup.iter().flat_map(cleaned));
    if outcome.owned > 0 {
        lines.push(format!(
            "this run still owns {} users and workspaces; `scalectl cleanup --run {}` deletes them",
            thousands(outcome.owned),
            report.run.id
        ));
    }
    let requests = &outcome.requests;
    if requests.sent > 0 {
        lines.push(format!(
            "requests:     {}, {} tried again, {} refused by the rate limiter, {} answered 5xx, {} not answered; {} addresses answered",
            thousands(requests.sent),
            thousands(requests.retries),
            thousands(requests.rate_limited),
            thousands(requests.server_errors),
            thousands(requests.unanswered),
            outcome.replicas.len()
        ));
    }
    lines.extend(outcome.warnings.iter().map(|warning| format!("! {warning}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use scale_api::coder::FailedThing;
    use std::collections::BTreeMap;

    #[test]
    fn a_result_says_how_many_failed_of_what() {
        let sentence = "the agent never connected in time; look";
        let failures = |count: u64, sentence: &str| ClassFailures { count, sentence: sentence.into() };
        let failed = |name: &str, class: &str, message: String| FailedThing {
            kind: "workspace".into(),
            name: name.into(),
            class: class.into(),
            message,
        };
        let outcome = Outcome {
            of: "workspaces".into(),
            requested: 1000,
            succeeded: 997,
            failures: BTreeMap::from([
                ("agent_timeout".into(), failures(2, sentence)),
                ("build_failed".into(), failures(1, "the build failed")),
            ]),
            failed_things: vec![
                failed("scaletest-r1-0-3", "agent_timeout", sentence.into()),
                failed("scaletest-r1-0-4", "build_failed", "start build (no room): the build failed".into()),
            ],
            ..Outcome::default()
        };
        let text = report(&Report::default(), &outcome);
        assert!(
            text.contains("997 of 1,000 workspaces succeeded, 1 failed to be built, 2 failed to connect"),
            "{text}"
        );
        assert!(text.contains("2 agent_timeout: the agent never") && text.contains("    scaletest-r1-0-3\n"));
        assert!(text.contains("    scaletest-r1-0-4: start build (no room)\n"), "{text}");
    }

    #[test]
    fn builds_at_once_are_those_asked_for_and_those_that_went() {
        let made = Builds { count: 1003, asked: 50, under_way: Some(50), reached: Some(12) };
        let outcome = Outcome { builds: Some(made), ..Outcome::default() };
        let text = report(&Report::default(), &outcome);
        let line = "builds:       1,003; at once: 50 asked for, 50 under way, 12 at provisioners";
        assert!(text.lines().any(|it| it == line), "{text}");
        let old = Builds { count: 1, asked: 50, ..Builds::default() };
        assert!(builds(&old).ends_with("50 asked for, - under way, - at provisioners"));
    }

    #[test]
    fn a_second_is_a_line_with_a_bar() {
        let progress = Progress {
            phase: "create workspaces".into(),
            total: 20,
            states: BTreeMap::from([
                ("ready".into(), 9),
                ("failed".into(), 1),
                ("agent_connecting".into(), 10),
            ]),
            failed: BTreeMap::from([("build_failed".into(), 1)]),
            rate: Some(2.5),
            ..Progress::default()
        };
        let line = super::event(&Event { remaining: Some(4.0), ..Event::default() }, &progress);
        assert!(line.contains("[##########..........] 10/20  2.5/s  4.0 s left"), "{line}");
        assert!(line.contains("10 agent connecting, 9 ready, 1 build_failed"), "{line}");
    }
}
