//! Disruptions: what a run's streams lost at once, who was hit, and how they came back.
//!
//! Times are in seconds since the run's start, sizes in bytes; what has no value is `null`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::{Span, thousands, utc};

/// One disruption. A stream counts once in it, however often it was dropped there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disruption {
    /// When it began: the first drop, or its mark where that came first.
    pub at: f64,
    /// When the last of its drops was, or its window ended; `None`: more may come.
    pub until: Option<f64>,
    /// The text of its mark; `None`: nobody marked it, so many streams dropped by themselves.
    pub mark: Option<String>,
    /// When it was marked.
    pub marked_at: Option<f64>,
    /// Length of the window that was expected to be disrupted: what was due in it is not in `load`.
    pub expected: Option<f64>,
    /// Streams that were open when it began.
    pub streams: u64,
    /// Of these, or of those opened since, dropped.
    pub streams_dropped: u64,
    /// `streams_dropped / streams`.
    pub share: Option<f64>,
    /// Users who had a stream open when it began; `None`: nobody says whose streams are.
    pub users: Option<u64>,
    /// Users who had at least one stream dropped.
    pub users_affected: Option<u64>,
    /// Streams dropped by class of their first drop.
    pub by_class: BTreeMap<String, u64>,
    /// By the remote address that they were connected to.
    pub by_address: BTreeMap<String, u64>,
    /// By the replica that the server had named (`--replica-header`); empty: none did.
    pub by_replica: BTreeMap<String, u64>,
    /// By group.
    pub by_group: BTreeMap<String, u64>,
    /// Of the dropped streams, open again.
    pub reconnected: u64,
    /// From a stream's drop until it was open again.
    pub recover: Option<Recover>,
    /// Of the dropped streams, not open again (so far, while the run goes).
    pub never_back: u64,
    /// Came back to the session that they had lost; `None`: these servers keep none.
    pub same_session: Option<u64>,
    /// Payload bytes sent whose echo never came, or, of sessions that went on, that never arrived.
    pub bytes_lost: u64,
    /// Streams of which it is not known how much they lost, so that `bytes_lost` is a lower bound.
    pub lost_unknown: u64,
    /// Payload bytes that came a second time: a session's replay.
    pub bytes_repeated: u64,
    /// The server's version that most of the dropped streams had met before; `None`: it names none.
    pub version_before: Option<String>,
    /// The version that most of them met when they came back.
    pub version_after: Option<String>,
    /// What coming back was to the target.
    pub storm: Storm,
    /// Of the window: ticks sent / ticks due.
    pub delivered_ratio: Option<f64>,
    /// Of the window: the 99th percentile of response times.
    pub response_p99: Option<f64>,
}

/// Times to come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "quantiles")]
pub struct Recover {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// The connects of a disruption.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Storm {
    /// Attempts that were begun.
    pub offered: u64,
    /// Streams that they opened.
    pub answered: u64,
    /// Attempts that failed.
    pub refused: u64,
    /// The most attempts begun in one second.
    pub offered_per_second_max: u64,
    /// The most streams opened in one second.
    pub answered_per_second_max: u64,
}

/// Disruptions that a report holds; of further ones a warning says how many.
pub const DISRUPTIONS_MAX: usize = 100;
/// The newest that an event has.
pub const DISRUPTIONS_OF_EVENT: usize = 10;
/// After a mark without `--expect-disruption`, drops are its own for so long.
pub const MARK_WINDOW: Span = Span::from_secs(60);

impl Disruption {
    /// When it was and what it is called: `02:14:07 "kill coderd-1"`. `started_at` as for [`Self::sentence`].
    pub fn name(&self, started_at: f64) -> String {
        let at = &utc(started_at + self.marked_at.unwrap_or(self.at))[11..19];
        match &self.mark {
            Some(mark) => format!("{at} \"{mark}\""),
            None => format!("{at} unmarked"),
        }
    }

    /// All of it in a sentence: `02:14:07 "kill coderd-1": 1,013 of 2,000 dropped (50.7 %, 811 users); 1,009 back,
    /// p99 8.2 s; 4 never; 0 B lost`. `started_at`: of the run, in seconds since 1970; `is_over`: the run is.
    pub fn sentence(&self, started_at: f64, is_over: bool) -> String {
        let (dropped, of) = (thousands(self.streams_dropped), thousands(self.streams));
        let mut text = format!("{}: {dropped} of {of} dropped", self.name(started_at));
        if self.streams_dropped == 0 {
            return text;
        }
        let share = self.share.map(|share| format!("{:.1} %", share * 100.0));
        let users = self
            .users_affected
            .map(|users| format!("{} user{}", thousands(users), if users == 1 { "" } else { "s" }));
        let whom: Vec<String> = share.into_iter().chain(users).collect();
        if !whom.is_empty() {
            text += &format!(" ({})", whom.join(", "));
        }
        text += &format!("; {} back", thousands(self.reconnected));
        if let Some(recover) = self.recover {
            text += &format!(", p99 {}", seconds(recover.p99));
        }
        let never = if is_over { "never" } else { "away" };
        text += &format!("; {} {never}; ", thousands(self.never_back));
        let least = if self.lost_unknown > 0 { "at least " } else { "" };
        text += &format!("{least}{} lost", bytes(self.bytes_lost));
        text
    }
}

/// Seconds as a sentence has them.
fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

/// Bytes as a sentence has them: exact as long as that is short.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{} B", thousands(bytes)),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_tells_the_story() {
        let mut disruption = Disruption {
            at: 61.0,
            mark: Some("kill coderd-1".into()),
            marked_at: Some(60.0),
            streams: 2000,
            streams_dropped: 1013,
            share: Some(0.5065),
            users: Some(1500),
            users_affected: Some(811),
            reconnected: 1009,
            never_back: 4,
            recover: Some(Recover { p50: 2.0, p99: 8.2, max: 9.0 }),
            ..Disruption::default()
        };
        let told = disruption.sentence(7_987.0, true);
        assert_eq!(
            told,
            "02:14:07 \"kill coderd-1\": 1,013 of 2,000 dropped (50.6 %, 811 users); 1,009 back, p99 8.2 s; 4 never; 0 B lost"
        );
        (disruption.mark, disruption.marked_at, disruption.users_affected) = (None, None, Some(1));
        (disruption.bytes_lost, disruption.lost_unknown) = (12_345_678, 2);
        disruption.recover = Some(Recover { p99: 0.25, ..Recover::default() });
        let told = disruption.sentence(7_987.0, false);
        assert_eq!(
            told,
            "02:14:08 unmarked: 1,013 of 2,000 dropped (50.6 %, 1 user); 1,009 back, p99 250 ms; 4 away; at least 12.3 MB lost"
        );
        let harmless = Disruption { mark: Some("deploy".into()), streams: 2000, ..Disruption::default() };
        assert_eq!(harmless.sentence(0.0, true), "00:00:00 \"deploy\": 0 of 2,000 dropped");
    }
}
