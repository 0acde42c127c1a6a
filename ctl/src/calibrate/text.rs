//! What people read of a calibration.

use scale_api::calibration::{Calibration, Calibrations, Step};
use scale_api::units::{Span, thousands, utc};

use crate::render::{optional, seconds};

/// What is looked for, and the table's head.
pub fn head(protocol: &str, bytes: u64, tick: Span) -> String {
    format!(
        "{protocol}, {} B each {tick}: as many streams as go with lateness p99 under 1 ms and every worker under 80 % busy\n\
         {:>10} {:>8} {:>12} {:>10} {:>8} {:>8} {:>12}",
        thousands(bytes),
        "streams",
        "seconds",
        "messages/s",
        "late p99",
        "busiest",
        "missed",
        "service p99"
    )
}

/// One step as a line.
pub fn step(step: &Step, is_hold: bool) -> String {
    let seconds_over = match step.seconds_over {
        0 => String::new(),
        over => format!(" ({over} over)"),
    };
    let verdict = match (step.broke, is_hold) {
        (None, false) => "held".to_owned(),
        (None, true) => "confirmed".to_owned(),
        (Some(limit), _) => format!("broke: {}", format!("{limit:?}").to_lowercase()),
    };
    format!(
        "{:>10} {:>8} {:>12} {:>10} {:>8} {:>8} {:>12}  {verdict}{seconds_over}",
        thousands(step.streams),
        step.seconds,
        thousands(step.messages_per_second.round() as u64),
        optional(step.lateness_p99, seconds),
        format!("{:.0} %", step.busy_max * 100.0),
        format!("{:.1} %", step.missed * 100.0),
        optional(step.service_p99, seconds),
    )
}

/// A rate with as many digits as it has, two at most.
fn kilobytes(bytes: f64) -> String {
    let text = format!("{:.2}", bytes / 1000.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The one sentence.
fn sentence(found: &Calibration) -> String {
    let bound = if found.is_lower_bound() { "at least " } else { "" };
    format!(
        "this host offers {bound}{} {} streams x {} KB/s each way (lateness p99 {}, busiest worker {:.0} %)",
        thousands(found.streams),
        found.protocol,
        kilobytes(found.payload_bytes as f64 / found.tick),
        seconds(found.lateness_p99),
        found.busy_max * 100.0,
    )
}

/// The result.
pub fn result(found: &Calibration) -> String {
    let mut lines = vec![sentence(found), format!("  limit: {}", found.limit.meaning())];
    if found.shared_cores {
        lines.push(
            "  the sink ran on cores of the workers: without it they offer more (docs/calibrate.md)".into(),
        );
    }
    let byte = found.byte_us.map_or(String::new(), |byte| {
        format!(": {:.1} us, and {:.2} ns for each byte", found.message_us, byte * 1000.0)
    });
    lines.push(format!(
        "  held for {} s in run {} against {}; a message of {} B and its echo cost {:.1} us of CPU time{byte}",
        found.held_seconds,
        found.run,
        found.against,
        thousands(found.payload_bytes),
        found.cpu_us_per_message,
    ));
    lines.join("\n")
}

/// What is kept.
pub fn kept(known: &Calibrations) -> String {
    let one = |found: &Calibration| {
        let differs = known.host.differs(&found.host);
        let stale = match differs.as_slice() {
            [] => String::new(),
            differs => format!("\n  not used any more: it was made with {}", differs.join("; ")),
        };
        format!("{}: {}{stale}", utc(found.at), result(found))
    };
    match known.kept.as_slice() {
        [] => "nothing is calibrated; `scalectl calibrate` does it".into(),
        kept => kept.iter().map(one).collect::<Vec<_>>().join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use scale_api::calibration::{Host, Limit};

    use super::*;

    fn found() -> Calibration {
        Calibration {
            protocol: "wss".into(),
            payload_bytes: 4096,
            tick: 0.1,
            streams: 31_000,
            lateness_p99: 0.000_6,
            busy_max: 0.78,
            limit: Limit::Busy,
            ..Calibration::default()
        }
    }

    #[test]
    fn the_sentence_says_what_is_offered_and_at_least_where_it_may_be_more() {
        assert_eq!(
            sentence(&found()),
            "this host offers 31,000 wss streams x 40.96 KB/s each way (lateness p99 600 us, busiest worker 78 %)"
        );
        let shared = Calibration { shared_cores: true, ..found() };
        assert!(sentence(&shared).starts_with("this host offers at least 31,000"));
        assert!(result(&shared).contains("without it they offer more"));
        let target = Calibration { limit: Limit::Target, ..found() };
        assert!(
            sentence(&target).contains("at least") && result(&target).contains("the target was the limit")
        );
        assert_eq!(
            (kilobytes(40_000.0), kilobytes(40_960.0), kilobytes(10.0)),
            ("40".into(), "40.96".into(), "0.01".into())
        );
    }

    #[test]
    fn what_is_kept_and_stale_says_so() {
        let kept_with = |kernel: &str| {
            let host = Host { kernel: "6.1".into(), ..Host::default() };
            let now = Host { kernel: kernel.into(), ..Host::default() };
            kept(&Calibrations { host: now, kept: vec![Calibration { host, ..found() }] })
        };
        assert!(!kept_with("6.1").contains("not used"));
        assert!(
            kept_with("6.12").contains("not used any more: it was made with kernel 6.1, and here is 6.12")
        );
        assert!(kept(&Calibrations::default()).contains("nothing is calibrated"));
    }

    #[test]
    fn a_step_is_a_line_of_the_table() {
        let broke = Step {
            streams: 12_800,
            seconds: 4,
            seconds_over: 4,
            messages_per_second: 120_000.0,
            busy_max: 1.0,
            missed: 0.06,
            broke: Some(Limit::Busy),
            ..Step::default()
        };
        let line = step(&broke, false);
        assert!(line.ends_with("broke: busy (4 over)") && line.contains("12,800"), "{line}");
        let (head, line) = (head("ws", 4096, Span::from_secs(1)), step(&Step::default(), true));
        assert!(head.lines().all(|line| line.chars().count() < 140) && line.ends_with("confirmed"));
    }
}
