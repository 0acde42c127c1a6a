//! Disruptions as people read them: in the report, in the lines of a going run, side by side.

use std::collections::BTreeMap;

use scale_api::disruption::Disruption;
use scale_api::report::{Event, Report};
use scale_api::units::thousands;

use crate::render::{optional, seconds};

/// Disruptions of a report that are shown with all of their figures; --json has them all.
const SHOWN_MAX: usize = 20;
/// Classes, addresses, replicas or groups that are named.
const NAMED_MAX: usize = 8;

/// The report's part.
pub fn report(report: &Report) -> Vec<String> {
    let all = &report.disruptions;
    let one = |disruption: &Disruption| {
        let mut lines =
            vec![format!("disruption:   {}", disruption.sentence(report.zero_at(), !report.run.going))];
        lines.extend(details(disruption).into_iter().map(|line| format!("              {line}")));
        lines
    };
    let mut lines: Vec<String> = all.iter().take(SHOWN_MAX).flat_map(one).collect();
    if all.len() > SHOWN_MAX {
        lines.push(format!("disruption:   and {} more (--json)", thousands((all.len() - SHOWN_MAX) as u64)));
    }
    lines
}

/// What stands below the sentence.
fn details(it: &Disruption) -> Vec<String> {
    let mut lines = Vec::new();
    let mut whose: Vec<String> = Vec::new();
    for (what, counts, of_one) in [
        ("", &it.by_class, true),
        ("from ", &it.by_address, false),
        ("replica ", &it.by_replica, true),
        ("group ", &it.by_group, false),
    ] {
        whose.extend(named(counts, of_one).map(|named| format!("{what}{named}")));
    }
    lines.extend((!whose.is_empty()).then(|| format!("dropped: {}", whose.join("; "))));
    if let Some(recover) = it.recover {
        let mut line = format!("back: p50 {}, max {}", seconds(recover.p50), seconds(recover.max));
        if let Some(same) = it.same_session {
            line += &format!("; {} in the same session", thousands(same));
        }
        if it.bytes_repeated > 0 {
            line += &format!("; {} B repeated", thousands(it.bytes_repeated));
        }
        line += &versions(it);
        lines.push(line);
    }
    if it.lost_unknown > 0 {
        lines.push(format!("lost: of {} streams it cannot be told", thousands(it.lost_unknown)));
    }
    let storm = &it.storm;
    if storm.offered > 0 {
        lines.push(format!(
            "connects: {} tried, {}/s at most; {} opened, {}/s at most; {} failed",
            thousands(storm.offered),
            thousands(storm.offered_per_second_max),
            thousands(storm.answered),
            thousands(storm.answered_per_second_max),
            thousands(storm.refused)
        ));
    }
    if let Some(window) = it.expected {
        lines.push(format!(
            "expected for {}: {} of what was due was sent, response p99 {}",
            seconds(window),
            optional(it.delivered_ratio, |ratio| format!("{:.2} %", ratio * 100.0)),
            optional(it.response_p99, seconds)
        ));
    }
    lines
}

/// Counts by name; `None` where there are none, or one that says nothing.
fn named(counts: &BTreeMap<String, u64>, of_one: bool) -> Option<String> {
    if counts.is_empty() || (counts.len() == 1 && !of_one) {
        return None;
    }
    let mut most: Vec<(&String, &u64)> = counts.iter().collect();
    most.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut words: Vec<String> =
        most.iter().take(NAMED_MAX).map(|(name, count)| format!("{name} {}", thousands(**count))).collect();
    if most.len() > NAMED_MAX {
        words.push(format!("{} more", most.len() - NAMED_MAX));
    }
    Some(words.join(", "))
}

fn versions(it: &Disruption) -> String {
    match (&it.version_before, &it.version_after) {
        (Some(before), Some(after)) if before != after => format!("; server {before} → {after}"),
        (Some(version), Some(_)) => format!("; server {version} still"),
        _ => String::new(),
    }
}

/// The newest, as they stand, on a screen of a going run.
pub fn status(event: &Event) -> Vec<String> {
    let Some(zero) = event.zero_at else { return Vec::new() };
    let line = |it: &Disruption| format!("disruption  {}", it.sentence(zero, false));
    event.disruptions.iter().map(line).collect()
}

/// What is said while a run goes: each disruption once a second has added no drop to it, and once more when all is known.
#[derive(Debug, Default)]
pub struct Told {
    /// By when it began, in ms.
    told: BTreeMap<u64, Standing>,
}

/// How far a disruption was told.
#[derive(Debug, Default)]
struct Standing {
    /// Streams dropped, in the second before.
    dropped: u64,
    is_begun: bool,
    is_over: bool,
}

impl Told {
    /// What a second has that was not said.
    pub fn new_of(&mut self, event: &Event) -> Vec<String> {
        let Some(zero) = event.zero_at else { return Vec::new() };
        let mut lines = Vec::new();
        // A mark alone is no news: whoever made it knows of it.
        for it in event.disruptions.iter().filter(|it| it.streams_dropped > 0) {
            let is_over = it.until.is_some() && it.never_back == 0;
            let key = (it.marked_at.unwrap_or(it.at).max(0.0) * 1000.0) as u64;
            let told = self.told.entry(key).or_default();
            let is_settled = std::mem::replace(&mut told.dropped, it.streams_dropped) == it.streams_dropped;
            if (is_settled && !told.is_begun) || (is_over && !told.is_over) {
                (told.is_begun, told.is_over) = (true, is_over);
                lines.push(format!("       ! {}", it.sentence(zero, false)));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use scale_api::disruption::{Recover, Storm};

    use super::*;

    /// A replica of four was killed at minute one of a run that began at midnight.
    pub fn killed() -> Disruption {
        let counts = |rows: &[(&str, u64)]| rows.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        Disruption {
            at: 60.4,
            until: Some(61.0),
            mark: Some("kill coderd-1".into()),
            marked_at: Some(60.0),
            expected: Some(30.0),
            streams: 2000,
            streams_dropped: 504,
            share: Some(0.252),
            users: Some(800),
            users_affected: Some(431),
            by_class: counts(&[("reset", 500), ("ws_1001", 4)]),
            by_address: counts(&[("10.0.0.1:443", 504)]),
            by_replica: counts(&[("coderd-1", 504)]),
            by_group: counts(&[("terminals", 400), ("apps", 104)]),
            reconnected: 500,
            recover: Some(Recover { p50: 1.1, p99: 2.5, max: 4.25 }),
            never_back: 4,
            same_session: Some(396),
            bytes_lost: 1280,
            lost_unknown: 2,
            bytes_repeated: 512,
            version_before: Some("v2.26.0".into()),
            version_after: Some("v2.27.0".into()),
            storm: Storm {
                offered: 620,
                answered: 500,
                refused: 120,
                offered_per_second_max: 310,
                answered_per_second_max: 240,
            },
            delivered_ratio: Some(0.8125),
            response_p99: Some(0.412),
        }
    }

    #[test]
    fn a_disruption_stands_in_the_report_with_all_that_is_known() {
        let mut whole = Report { disruptions: vec![killed()], ..Report::default() };
        whole.run.started_at = 0.0;
        assert_eq!(
            report(&whole),
            [
                "disruption:   00:01:00 \"kill coderd-1\": 504 of 2,000 dropped (25.2 %, 431 users); 500 back, p99 2.5 s; 4 never; at least 1,280 B lost",
                "              dropped: reset 500, ws_1001 4; replica coderd-1 504; group terminals 400, apps 104",
                "              back: p50 1.1 s, max 4.2 s; 396 in the same session; 512 B repeated; server v2.26.0 → v2.27.0",
                "              lost: of 2 streams it cannot be told",
                "              connects: 620 tried, 310/s at most; 500 opened, 240/s at most; 120 failed",
                "              expected for 30.0 s: 81.25 % of what was due was sent, response p99 412.0 ms",
            ]
        );
        // Of a scenario, times are on its traffic's clock.
        whole.run.zero_at = Some(3600.0);
        assert!(report(&whole)[0].contains(" 01:01:00 "));
        let text = crate::render::report(&whole);
        assert!(
            text.contains("disruption:   01:01:00") && text.contains("\n              connects: 620"),
            "{text}"
        );
    }

    #[test]
    fn what_says_nothing_is_not_said_and_lists_end() {
        let harmless = Disruption { mark: Some("deploy".into()), streams: 5, ..Disruption::default() };
        let mut going = Report { disruptions: vec![killed()], ..Report::default() };
        going.run.going = true;
        assert!(
            report(&going)[0].contains("; 4 away; "),
            "who is away may still come back: {:?}",
            report(&going)[0]
        );
        let mut whole = Report { disruptions: vec![harmless; SHOWN_MAX + 3], ..Report::default() };
        let lines = report(&whole);
        assert_eq!(lines.len(), SHOWN_MAX + 1, "{lines:?}");
        assert_eq!(lines.last().map(String::as_str), Some("disruption:   and 3 more (--json)"));
        let mut many = killed();
        many.by_address = (0..12).map(|n| (format!("10.0.0.{n}"), n)).collect();
        many.version_after = many.version_before.clone();
        whole.disruptions = vec![many];
        let text = report(&whole).join("\n");
        assert!(
            text.contains("; from 10.0.0.11 11, 10.0.0.10 10, ") && text.contains(", 4 more; replica"),
            "{text}"
        );
        assert!(text.contains("; server v2.26.0 still"), "{text}");
    }

    #[test]
    fn a_screen_of_a_going_run_has_the_newest_as_they_stand() {
        let streams = [("open".to_owned(), 1)].into();
        let event = Event { zero_at: Some(0.0), disruptions: vec![killed()], streams, ..Event::default() };
        let text = crate::render::status(&event);
        assert!(text.contains("\ndisruption  00:01:00 \"kill coderd-1\": 504 of 2,000 dropped"), "{text}");
        assert!(text.contains("; 4 away; "), "{text}");
    }

    #[test]
    fn while_it_goes_its_beginning_and_its_end_are_said_once_each() {
        let mut told = Told::default();
        let mut event = Event { zero_at: Some(0.0), ..Event::default() };
        let mut it = Disruption { streams_dropped: 0, until: None, never_back: 0, ..killed() };
        let mut say = |it: &Disruption| {
            event.disruptions = vec![it.clone()];
            told.new_of(&event)
        };
        assert!(say(&it).is_empty(), "a mark alone");
        (it.streams_dropped, it.never_back, it.reconnected) = (20, 20, 0);
        assert!(say(&it).is_empty(), "a second that ended in its middle");
        (it.streams_dropped, it.never_back) = (504, 504);
        assert!(say(&it).is_empty());
        let lines = say(&it);
        assert!(
            lines.len() == 1
                && lines[0].starts_with("       ! 00:01:00 \"kill")
                && lines[0].contains("504 away")
        );
        assert!(say(&it).is_empty());
        (it.until, it.reconnected, it.never_back) = (Some(61.0), 504, 0);
        assert!(say(&it)[0].contains("504 back, p99 2.5 s; 0 away"));
        assert!(say(&it).is_empty());
        it.never_back = 1;
        assert!(say(&it).is_empty(), "dropped again: the report says it");
    }
}
