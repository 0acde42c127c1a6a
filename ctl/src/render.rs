//! What people read: a line a second, and the report.

use scale_api::http::{Reloaded, RunSummary};
use scale_api::report::{
    Event, Figure, Load, Mark, Observed, Report, Run, SeriesRow, ServerChange, Ssh, SshPath, ThresholdResult,
    Verdict,
};
use scale_api::threshold::LATENCIES;
use scale_api::units::{thousands, utc};

use crate::targets::user;

/// Changes of the server's version that are named.
const STEPS_SHOWN_MAX: usize = 3;
/// Hosts believed at first sight that are named.
const HOST_KEYS_SHOWN_MAX: usize = 3;

/// Seconds as people say them.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s => format!("{:.0} m {:.0} s", (s / 60.0).floor(), s % 60.0),
    }
}

/// Bytes a second as people say them.
pub fn rate(bytes: f64) -> String {
    if bytes >= 1e6 { format!("{:.1} MB/s", bytes / 1e6) } else { format!("{:.1} KB/s", bytes / 1e3) }
}

/// A value, or that there is none.
pub fn optional(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or("-".into(), show)
}

/// What a reload came to.
pub fn reloaded(done: &Reloaded) -> String {
    let mut lines = done.applied.clone();
    lines.extend(done.restart.iter().map(|what| format!("{what}, until scaled is restarted")));
    lines.extend(done.ended.iter().map(|why| format!("what was going is ended: {why}")));
    if lines.is_empty() { "read again; nothing has changed".into() } else { lines.join("\n") }
}

/// One second in one line.
pub fn event(event: &Event) -> String {
    if let Some(progress) = &event.coder {
        return crate::coder::render::event(event, progress);
    }
    if event.streams.is_empty() {
        // Between the steps of a scenario.
        return format!("{:>5.0}s {}", event.elapsed, event.state);
    }
    let now: &SeriesRow = &event.now;
    let open = event.streams.get("open").copied().unwrap_or(0);
    let all: u64 = event.streams.values().sum();
    let missed =
        event.ticks_missed.generator + event.ticks_missed.backpressure + event.ticks_missed.disconnected;
    let mut line = format!(
        "{:>5.0}s {:<8} {:>7}/{} open  offered {}  sent {}  received {}  late p99 {}  response p50 {} p99 {}  busy {:.0} %",
        event.elapsed,
        event.state,
        thousands(open),
        thousands(all),
        rate(now.rate_offered),
        rate(now.rate_sent),
        rate(now.rate_received),
        optional(now.lateness_p99, seconds),
        optional(now.response_p50, seconds),
        optional(now.response_p99, seconds),
        now.busy_max * 100.0,
    );
    if missed > 0 {
        line += &format!("  missed {}", thousands(missed));
    }
    for (what, counts) in [("failed", &event.connect_failures), ("lost", &event.disconnects)] {
        for (class, count) in counts {
            line += &format!("  {what}:{class} {}", thousands(*count));
        }
    }
    for warning in &event.warnings {
        line += &format!("\n       ! {warning}");
    }
    line
}

/// Who started a run, as its first line says it.
pub fn by(run: &Run) -> String {
    run.started_by.as_ref().map_or_else(String::new, |by| format!(" (started by {})", user(by)))
}

/// Kept runs, and the one that is going, as a table.
pub fn runs(runs: &[RunSummary]) -> String {
    let line = |run: &RunSummary| {
        let owned = match run.owned {
            0 => String::new(),
            owned => format!(" (owns {} on Coder; `scalectl cleanup`)", thousands(owned)),
        };
        let code = run.exit_code.map_or("-".into(), |code| code.to_string());
        let name = run.name.as_deref().unwrap_or("");
        let (began, lasted, size) = (utc(run.started_at), whole_seconds(run.duration), size(run.bytes));
        let by = run.started_by.as_ref().map_or_else(|| "-".into(), user);
        let state = &run.state;
        format!("{:<16} {began} {lasted:>10} {state:<10} {code:>4} {size:>9}  {by:<10} {name}{owned}", run.id)
    };
    let head = ["run", "began", "lasted", "verdict", "code", "size", "by"];
    let [run, began, lasted, verdict, code, size, by] = head;
    let head = format!("{run:<16} {began:<20} {lasted:>10} {verdict:<10} {code:>4} {size:>9}  {by:<10} name");
    std::iter::once(head).chain(runs.iter().map(line)).collect::<Vec<_>>().join("\n")
}

/// A time of minutes or hours.
fn whole_seconds(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m{:02}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// A size on disk.
fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes >= 1e9 {
        format!("{:.1} GB", bytes / 1e9)
    } else if bytes >= 1e6 {
        format!("{:.1} MB", bytes / 1e6)
    } else {
        format!("{:.1} KB", bytes / 1e3)
    }
}

/// A going run on one screen.
pub fn status(event: &Event) -> String {
    if let Some(progress) = &event.coder {
        return crate::coder::render::status(event, progress);
    }
    let now = &event.now;
    let remaining = event.remaining.map_or(String::new(), |left| format!(", {} left", seconds(left)));
    let states: Vec<String> = event
        .streams
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(state, count)| format!("{} {state}", thousands(*count)))
        .collect();
    let missed = &event.ticks_missed;
    let mut lines = vec![
        format!("run         {} {}", event.run, event.name.as_deref().unwrap_or("")),
        format!("state       {}, {} gone{remaining}", event.state, seconds(event.elapsed)),
    ];
    lines.extend(event.stages.iter().map(|(group, stage)| format!("group       {group}: {stage}")));
    lines.extend([
        format!("streams     {}", if states.is_empty() { "none yet".into() } else { states.join(", ") }),
        format!(
            "rate        offered {}, sent {}, received {}",
            rate(now.rate_offered),
            rate(now.rate_sent),
            rate(now.rate_received)
        ),
        format!(
            "lateness    p50 {}, p99 {}",
            optional(now.lateness_p50, seconds),
            optional(now.lateness_p99, seconds)
        ),
        format!(
            "response    p50 {}, p99 {}, max {}",
            optional(now.response_p50, seconds),
            optional(now.response_p99, seconds),
            optional(now.response_max, seconds)
        ),
        format!(
            "missed      generator {}, backpressure {}, disconnected {}",
            thousands(missed.generator),
            thousands(missed.backpressure),
            thousands(missed.disconnected)
        ),
        format!(
            "generator   busiest core {:.0} %{}",
            now.busy_max * 100.0,
            if event.saturated { ", SATURATED" } else { "" }
        ),
    ]);
    for (what, counts) in [("failed", &event.connect_failures), ("lost", &event.disconnects)] {
        let counts: Vec<String> =
            counts.iter().map(|(class, count)| format!("{class} {}", thousands(*count))).collect();
        lines.extend((!counts.is_empty()).then(|| format!("{what:<11} {}", counts.join(", "))));
    }
    for result in &event.thresholds {
        // Before there is anything to judge, nothing has failed.
        let mark = if result.value.is_none() { "waits" } else { "NOT MET" };
        lines.push(format!("threshold   {}", threshold(result, mark)));
    }
    lines.extend(crate::disruption::status(event));
    lines.extend(crate::coder::steps::render::now(&event.steps).map(|(_, line)| line));
    lines.extend(event.warnings.iter().map(|warning| format!("! {warning}")));
    lines.join("\n")
}

/// A threshold and how it stands; `not`: what is said of one that is not met.
fn threshold(result: &ThresholdResult, not: &str) -> String {
    let mark = if result.ok { "met" } else { not };
    let at = result.at.map_or(String::new(), |at| format!(" at second {at}"));
    let aborted = if result.aborted { ", which ended the run" } else { "" };
    format!("{} {mark} ({}{at}{aborted})", result.expression, scale_api::threshold::show(result))
}

fn figure(name: &str, figure: Option<&Figure>) -> Option<String> {
    let f = figure?;
    Some(format!(
        "  {name:<14} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12}",
        seconds(f.p50),
        seconds(f.p90),
        seconds(f.p99),
        seconds(f.p999),
        seconds(f.max),
        thousands(f.count)
    ))
}

fn load(load: &Load) -> Vec<String> {
    let percent = |value: Option<f64>| optional(value, |v| format!("{:.3} %", v * 100.0));
    let mut lines = vec![
        format!(
            "  streams     {} asked for, {} opened, {} open at the end{}",
            thousands(load.streams_requested),
            thousands(load.streams_opened),
            thousands(load.streams_open_at_end),
            if load.replaced > 0 {
                format!(", {} replaced", thousands(load.replaced))
            } else {
                String::new()
            }
        ),
        format!(
            "  ticks       {} due, {} sent ({} delivered); missed: generator {}, backpressure {}, disconnected {}",
            thousands(load.ticks_due),
            thousands(load.ticks_sent),
            percent(load.delivered_ratio),
            thousands(load.ticks_missed.generator),
            thousands(load.ticks_missed.backpressure),
            thousands(load.ticks_missed.disconnected)
        ),
        format!(
            "  messages    {} sent, {} echoed ({}), {} unanswered",
            thousands(load.messages_sent),
            thousands(load.messages_echoed),
            percent(load.echoed_ratio),
            thousands(load.messages_unanswered)
        ),
        format!(
            "  rate        offered {}, sent {}, received {}",
            optional(load.rate_offered, rate),
            optional(load.rate_sent, rate),
            optional(load.rate_received, rate)
        ),
    ];
    for (what, counts) in [("failures", &load.connect_failures), ("disconnects", &load.disconnects)] {
        if !counts.is_empty() {
            let counts: Vec<String> =
                counts.iter().map(|(class, count)| format!("{class} {}", thousands(*count))).collect();
            lines.push(format!("  {what:<11} {}", counts.join(", ")));
        }
    }
    if load.verify_failures + load.unexpected_bytes > 0 {
        lines.push(format!(
            "  content     {} messages differed, {} unexpected bytes",
            thousands(load.verify_failures),
            thousands(load.unexpected_bytes)
        ));
    }
    lines
}

/// What came back after a loss; nothing where nothing did.
fn reconnects(load: &Load, took: Option<&Figure>, changes: &[&ServerChange]) -> Option<String> {
    let took = took.filter(|_| load.reconnects > 0)?;
    let many =
        |count: u64, one: &str| format!("{} {one}{}", thousands(count), if count == 1 { "" } else { "s" });
    let mut line = format!(
        "  {} (p50 {}, max {})",
        many(load.reconnects, "reconnect"),
        seconds(took.p50),
        seconds(took.max)
    );
    if let Some(sessions) = &load.sessions {
        let mut parts = vec![format!("{} went on in their session", thousands(sessions.same))];
        if sessions.new > 0 {
            parts.push(format!("{} in a new one", thousands(sessions.new)));
        }
        if sessions.unknown > 0 {
            parts.push(format!("of {} it cannot be told", thousands(sessions.unknown)));
        }
        let lost = format!("{} B typed were lost", thousands(sessions.bytes_lost));
        let lost = match sessions.cut {
            0 => lost,
            cut => format!("at least {lost} (the replays of {} do not say)", thousands(cut)),
        };
        line += &format!(": {}; {lost}", parts.join(", "));
    }
    let name = |version: &Option<String>| version.clone().unwrap_or_else(|| "unnamed".into());
    let mut steps: Vec<String> = Vec::new();
    for change in changes.iter().filter(|change| change.before != change.after) {
        let step = format!("{} → {}", name(&change.before), name(&change.after));
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    if steps.len() > STEPS_SHOWN_MAX {
        let more = steps.len() - STEPS_SHOWN_MAX;
        steps.truncate(STEPS_SHOWN_MAX);
        steps.push(format!("{more} more"));
    }
    if !steps.is_empty() {
        line += &format!("; server {}", steps.join(", "));
    }
    Some(line)
}

/// What SSH connections settled on, and whom they believed.
fn ssh(ssh: &Ssh) -> Vec<String> {
    let mut lines: Vec<String> = ssh
        .negotiated
        .iter()
        .map(|set| {
            // A cipher that authenticates has no MAC beside it.
            let mac = if set.mac == "implicit" { String::new() } else { format!(" with {}", set.mac) };
            format!(
                "  ssh         {} connections: {}{mac}, {}, host key {}{}",
                thousands(set.connections),
                set.cipher,
                set.kex,
                set.host_key,
                if set.strict { "" } else { ", no strict key exchange" }
            )
        })
        .collect();
    let accepted = &ssh.accepted_host_keys;
    if !accepted.is_empty() {
        let named: Vec<String> = accepted
            .iter()
            .take(HOST_KEYS_SHOWN_MAX)
            .map(|known| format!("{} {}", known.host, known.key))
            .collect();
        let more = accepted.len() - named.len();
        let more = if more > 0 { format!(", and {} more", thousands(more as u64)) } else { String::new() };
        lines.push(format!("  believed    at first sight: {}{more}", named.join(", ")));
    }
    if let Some(path) = ssh.path {
        let path = match path {
            SshPath::Direct => "direct, past coderd",
            SshPath::Relayed => "through coderd's relay",
            SshPath::Unknown => "unknown: it may go past coderd, so this need not be a measure of coderd",
        };
        lines.push(format!("  path        {path}"));
    }
    lines
}

/// Marks, one a line.
pub fn marks(marks: &[Mark]) -> Vec<String> {
    let at = |at: f64| match at < 0.0 {
        true => format!("{} before the traffic", seconds(-at)),
        false => format!("at {}", seconds(at)),
    };
    marks.iter().map(|mark| format!("mark          {} {}", mark.text, at(mark.at))).collect()
}

/// The target's own figures, as numbers without a unit.
fn observed(report: &Report) -> Vec<String> {
    let line = |(name, of): (&String, &Observed)| {
        format!(
            "observe:      {name} min {:.6}, mean {:.6}, max {:.6} ({} samples)",
            of.min,
            of.mean,
            of.max,
            thousands(of.samples)
        )
    };
    report.observe.iter().map(line).collect()
}

/// Others' text as a terminal may show it: nothing in it moves, hides or colours what stands there.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// How a run ended and why; of one that goes, how it would.
pub fn verdict(report: &Report) -> Vec<String> {
    let Verdict { outcome, exit_code, reasons, .. } = &report.verdict;
    let so_far = if report.run.going { "so far " } else { "" };
    let line = format!("verdict:      {so_far}{outcome:?} (exit code {exit_code})").to_lowercase();
    let reasons = reasons.iter().map(|reason| format!("              {}", plain(reason)));
    std::iter::once(line).chain(reasons).collect()
}

/// The report.
pub fn report(report: &Report) -> String {
    if let Some(outcome) = report.coder.as_ref().filter(|outcome| outcome.traffic.is_none()) {
        return crate::coder::render::report(report, outcome);
    }
    let mut lines = vec![
        format!("\nrun {} {}{}", report.run.id, report.run.name.as_deref().unwrap_or(""), by(&report.run)),
        "steady state:".into(),
    ];
    lines.extend(load(&report.load));
    let changes: Vec<&ServerChange> = report.server_changes.iter().collect();
    lines.extend(reconnects(&report.load, report.latency.reconnect.as_ref(), &changes));
    lines.push(format!(
        "  {:<14} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "", "p50", "p90", "p99", "p99.9", "max", "count"
    ));
    for name in LATENCIES {
        lines.extend(figure(name, report.latency.figure(name)));
    }
    lines.extend(report.ssh.as_ref().map(ssh).unwrap_or_default());
    if report.groups.len() > 1 {
        for part in &report.groups {
            lines.push(format!("group {}:", part.name));
            lines.extend(load(&part.load));
            let own = |change: &&ServerChange| change.group == part.name;
            let changes: Vec<&ServerChange> = report.server_changes.iter().filter(own).collect();
            lines.extend(reconnects(&part.load, part.latency.reconnect.as_ref(), &changes));
            lines.extend(figure("response", part.latency.response.as_ref()));
        }
    }
    let total = &report.total;
    lines.push(format!(
        "whole run:    {} messages, {} B sent, {} B received{}",
        thousands(total.messages_sent),
        thousands(total.payload_bytes_sent),
        thousands(total.payload_bytes_received),
        if total.payload_bytes_open > 0 {
            format!(", {} B on connections not closed in order", thousands(total.payload_bytes_open))
        } else {
            String::new()
        }
    ));
    match &report.coder {
        Some(outcome) if outcome.flow == "scenario" => {
            lines.extend(crate::coder::render::scenario(report, outcome));
        }
        Some(outcome) => lines.extend(crate::coder::render::traffic(outcome)),
        None => {}
    }
    let busy: Vec<String> = report
        .generator
        .workers
        .iter()
        .map(|w| format!("cpu {} {:.0} %", w.cpu, w.busy_mean * 100.0))
        .collect();
    lines.push(format!(
        "generator:    {}, {} us CPU a message, {} MB{}",
        busy.join(", "),
        optional(report.generator.cpu_us_per_message, |us| format!("{us:.2}")),
        report.generator.rss_peak / 1_000_000,
        if report.generator.saturated { ", SATURATED" } else { "" }
    ));
    for group in report.spec.group.iter().filter(|group| group.insecure) {
        lines.push(format!("group {}: CERTIFICATES WERE NOT VERIFIED (--insecure)", group.name));
    }
    for group in report.spec.group.iter().filter(|group| group.insecure_host_keys) {
        let why = if group.typed.is_some() { "as in Coder's own clients" } else { "--insecure-host-keys" };
        lines.push(format!("group {}: HOST KEYS WERE NOT VERIFIED ({why})", group.name));
    }
    // What was not verified has its lines already.
    let others = report.warnings.iter().filter(|warning| !warning.contains("NOT VERIFIED"));
    lines.extend(others.map(|warning| format!("warning:      {warning}")));
    lines.extend(crate::doctor::in_report(&report.host));
    lines.extend(observed(report));
    lines.extend(marks(&report.marks));
    lines.extend(crate::disruption::report(report));
    let thresholds = report.verdict.thresholds.iter();
    lines.extend(thresholds.map(|result| format!("threshold:    {}", threshold(result, "NOT MET"))));
    lines.extend(verdict(report));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use scale_api::report::{HostKey, Negotiated, Sessions, StartedBy};

    use super::*;

    #[test]
    fn ssh_is_what_was_settled_on_whom_it_believed_and_how_it_went() {
        let set = |cipher: &str, mac: &str, strict, connections| Negotiated {
            kex: "curve25519-sha256".into(),
            cipher: cipher.into(),
            mac: mac.into(),
            host_key: "ssh-ed25519".into(),
            strict,
            connections,
        };
        let key = |n: u32| HostKey { host: format!("h{n}"), key: "SHA256:x".into() };
        let part = Ssh {
            negotiated: vec![
                set("aes128-gcm@openssh.com", "implicit", true, 2000),
                set("aes128-ctr", "hmac-sha2-256", false, 1),
            ],
            path: Some(SshPath::Unknown),
            accepted_host_keys: (0..5).map(key).collect(),
            insecure_host_keys: false,
        };
        assert_eq!(
            ssh(&part),
            [
                "  ssh         2,000 connections: aes128-gcm@openssh.com, curve25519-sha256, host key ssh-ed25519",
                "  ssh         1 connections: aes128-ctr with hmac-sha2-256, curve25519-sha256, host key ssh-ed25519, no strict key exchange",
                "  believed    at first sight: h0 SHA256:x, h1 SHA256:x, h2 SHA256:x, and 2 more",
                "  path        unknown: it may go past coderd, so this need not be a measure of coderd",
            ]
        );
        let group = scale_api::spec::GroupSpec { insecure_host_keys: true, ..Default::default() };
        let mut whole = Report { ssh: Some(part), ..Report::default() };
        whole.spec.group.push(group);
        let text = report(&whole);
        assert!(text.contains("HOST KEYS WERE NOT VERIFIED") && text.contains("2,000 connections"), "{text}");
    }

    #[test]
    fn what_the_target_says_of_itself_and_what_was_marked_stand_in_the_report() {
        let mut whole = Report::default();
        let cpu = Observed { min: 0.25, mean: 0.5, max: 0.75, last: 0.5, samples: 1234 };
        whole.observe.insert("coderd_cpu".into(), cpu);
        whole.marks.push(Mark { at: 90.0, text: "deploy started".into() });
        whole.warnings = vec!["[observe] HTTP 503, once (x)".into(), "CERTIFICATES ARE NOT VERIFIED".into()];
        let text = report(&whole);
        for line in [
            "observe:      coderd_cpu min 0.250000, mean 0.500000, max 0.750000 (1,234 samples)",
            "mark          deploy started at 90.0 s",
            "warning:      [observe] HTTP 503, once (x)",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("CERTIFICATES ARE"), "{text}");
    }

    #[test]
    fn an_empty_report_can_be_shown_and_says_no_numbers_it_does_not_have() {
        let text = report(&Report::default());
        assert!(text.contains("verdict:") && text.contains("- delivered"));
    }

    #[test]
    fn reconnects_are_one_line_with_what_became_of_their_sessions() {
        let took = Figure { count: 12, p50: 1.2, max: 3.4, ..Figure::default() };
        let sessions = Sessions { same: 11, new: 1, bytes_lost: 4096, ..Sessions::default() };
        let mut load = Load { reconnects: 12, sessions: Some(sessions), ..Load::default() };
        let change = |before: &str, after: &str| ServerChange {
            before: Some(before.into()),
            after: Some(after.into()),
            ..ServerChange::default()
        };
        let (same, new) = (change("v2.26.0", "v2.26.0"), change("v2.25.1", "v2.26.0"));
        assert_eq!(
            reconnects(&load, Some(&took), &[&same, &new, &new]).unwrap(),
            "  12 reconnects (p50 1.2 s, max 3.4 s): 11 went on in their session, 1 in a new one; \
             4,096 B typed were lost; server v2.25.1 → v2.26.0"
        );
        let cut = Sessions { same: 1, cut: 1, unknown: 2, ..Sessions::default() };
        (load.reconnects, load.sessions) = (1, Some(cut));
        assert_eq!(
            reconnects(&load, Some(&took), &[&same]).unwrap(),
            "  1 reconnect (p50 1.2 s, max 3.4 s): 1 went on in their session, of 2 it cannot be told; \
             at least 0 B typed were lost (the replays of 1 do not say)"
        );
        load.sessions = None;
        assert_eq!(reconnects(&load, Some(&took), &[]).unwrap(), "  1 reconnect (p50 1.2 s, max 3.4 s)");
        load.reconnects = 0;
        assert_eq!(reconnects(&load, None, &[]), None);
    }

    #[test]
    fn thresholds_stand_in_status_and_report_with_what_was_measured() {
        let result = |value, at, ok, aborted| ThresholdResult {
            expression: "response.p99 < 1s over 5s".into(),
            value,
            ok,
            at,
            aborted,
            why: None,
        };
        let thresholds = vec![
            result(Some(0.25), Some(7.0), true, false),
            result(None, None, false, false),
            result(Some(2.0), Some(9.0), false, true),
        ];
        let mut whole = Report::default();
        whole.verdict.thresholds = thresholds.clone();
        let going = Event { thresholds, streams: [("open".to_owned(), 1)].into(), ..Event::default() };
        let met = "response.p99 < 1s over 5s met (250.00 ms at second 7)";
        let ended = "response.p99 < 1s over 5s NOT MET (2.00 s at second 9, which ended the run)";
        let text = report(&whole);
        for line in [met, "response.p99 < 1s over 5s NOT MET (no value)", ended] {
            assert!(text.contains(&format!("threshold:    {line}\n")), "{text}");
        }
        let text = status(&going);
        for line in [met, "response.p99 < 1s over 5s waits (no value)", ended] {
            assert!(text.lines().any(|it| it == format!("threshold   {line}")), "{text}");
        }
    }

    #[test]
    fn runs_are_a_table_whose_columns_stand_below_their_names() {
        let run = RunSummary {
            id: "r1767225599-0".into(),
            name: Some("nightly".into()),
            started_at: 1_767_225_599.5,
            duration: 3675.2,
            state: "incomplete".into(),
            exit_code: Some(6),
            bytes: 1_234_567,
            owned: 2,
            started_by: Some(StartedBy { uid: 1001, user: Some("alice".into()), ..StartedBy::default() }),
            ..RunSummary::default()
        };
        let going = RunSummary { exit_code: None, owned: 0, name: None, duration: 65.0, ..run.clone() };
        let table = runs(&[run, going]);
        let lines: Vec<&str> = table.lines().collect();
        let wanted = "r1767225599-0    2025-12-31T23:59:59Z   1h01m15s incomplete    6    1.2 MB  alice      nightly (owns 2 on Coder; `scalectl cleanup`)";
        assert_eq!(lines[1], wanted);
        assert!(lines[2].contains(" 1m05s incomplete    - "), "{}", lines[2]);
        for (column, value) in
            [("began", "2025"), ("verdict", "incomplete"), ("by", "alice"), ("name", "nightly")]
        {
            assert_eq!(lines[0].find(column), lines[1].find(value), "{column}");
        }
    }

    #[test]
    fn numbers_are_shown_as_people_say_them() {
        assert_eq!(
            (thousands(1_234_567), seconds(0.000_25), seconds(0.0123)),
            ("1,234,567".into(), "250 us".into(), "12.3 ms".into())
        );
    }
}
