//! What workers hand over of streams one by one is what their counters say; `cuts` says what disruptions make of it.
//!
//! Windows that are expected to be disrupted begin and end at any time, on dice of their own.

use std::collections::BTreeMap;

use scaled::load::Traffic;
use scaled::stream::meter::Counters;
use scaled::worker::changes::{Change, What};

use crate::drive::Ran;
use crate::scenario::{Dice, MS, Scenario, Weather, Word};

/// Of 100 seeds so many have windows that are expected.
const PERCENT: u64 = 25;

/// When who expects what, after the run's start in ns. What is calm expects nothing: there each cell is known.
pub fn expected(dice: &mut Dice, weather: Weather, end_ns: u64) -> Vec<(u64, Word)> {
    if weather == Weather::Calm || !dice.chance(PERCENT) {
        return Vec::new();
    }
    let count = dice.of(&[1, 1, 2, 5]);
    (0..count)
        .map(|_| (dice.between(0, end_ns), Word::Expect(dice.of(&[0, 1, 50, 400, 3000]) * MS)))
        .collect()
}

/// Panics with what does not hold.
pub fn check(scenario: &Scenario, ran: &Ran) {
    for (index, group) in scenario.groups.iter().enumerate() {
        let changes: Vec<&Change> = ran
            .workers
            .iter()
            .flat_map(|worker| &worker.changes)
            .filter(|change| usize::from(change.group) == index)
            .collect();
        let mut sum = Counters::default();
        ran.group(&scenario.groups, index).iter().for_each(|counters| sum.add(counters));
        let mut streams: BTreeMap<u32, Fate> = BTreeMap::new();
        for change in &changes {
            streams.entry(change.number).or_default().follow(change);
        }
        let count = |of: fn(&What) -> bool| changes.iter().filter(|change| of(&change.what)).count() as u64;
        assert_eq!(count(|what| matches!(what, What::Back(_))), sum.reconnects, "each return is told");
        assert_eq!(
            count(|what| matches!(what, What::Opened)),
            sum.connects - sum.reconnects,
            "each other opening is told"
        );
        let lost = count(|what| matches!(what, What::Lost(_)));
        // What is lost in the drain is told by counters alone.
        assert!(lost <= sum.disconnects.sum(), "{lost} losses of {}", sum.disconnects.sum());
        assert!(sum.retries <= sum.attempts && sum.reconnects + sum.retries_failed <= sum.retries);
        assert!(sum.connects + sum.failures.sum() <= sum.attempts, "what ends was begun");
        let bytes_lost: u64 = streams.values().map(|fate| fate.bytes_lost).sum();
        if group.traffic == Traffic::Echo && group.terminal.is_none() && group.payload.echo_bytes(1) == 1 {
            let unanswered = sum.payload_sent.saturating_sub(sum.payload_received);
            assert!(bytes_lost <= unanswered, "{bytes_lost} B are lost of {unanswered} B without an echo");
        }
        if group.terminal.is_some() || group.traffic != Traffic::Echo {
            assert_eq!(bytes_lost, 0, "nobody can tell when the connection is lost");
        }
    }
}

/// Where a stream stands, and what it has been through.
#[derive(Debug, Default)]
struct Fate {
    is_open: bool,
    /// Lost, and neither back nor given up and opened again.
    is_away: bool,
    bytes_lost: u64,
}

impl Fate {
    fn follow(&mut self, change: &Change) {
        match change.what {
            What::Opened | What::Back(_) => {
                assert!(!self.is_open, "{change:?}: it was open");
                assert!(self.is_away || !matches!(change.what, What::Back(_)), "{change:?}: it was not lost");
                (self.is_open, self.is_away) = (true, false);
            }
            What::Closed | What::Lost(_) => {
                assert!(self.is_open, "{change:?}: it was not open");
                self.is_open = false;
                if let What::Lost(loss) = change.what {
                    self.is_away = true;
                    self.bytes_lost += loss.bytes_lost.unwrap_or(0);
                }
            }
        }
    }
}
