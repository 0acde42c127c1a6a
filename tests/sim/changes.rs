//! What workers hand over of streams one by one, and what disruptions make of it: it is what their counters say.
//!
//! Windows that are expected to be disrupted begin and end at any time, on dice of their own.

use std::collections::BTreeMap;

use scaled::load::Traffic;
use scaled::run::disruption::{self, Disruptions, Happened, What as Of};
use scaled::stream::meter::Counters;
use scaled::worker::changes::{Back, Change, Loss, What};

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
        .map(|window| (dice.between(0, end_ns), Word::Expect(window, dice.of(&[0, 1, 50, 400, 3000]) * MS)))
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
        // What opens and is lost in the drain is told by counters alone.
        let told = [
            (count(|what| matches!(what, What::Back(_))), sum.reconnects),
            (count(|what| matches!(what, What::Opened)), sum.connects - sum.reconnects),
            (count(|what| matches!(what, What::Lost(_))), sum.disconnects.sum()),
        ];
        assert!(told.iter().all(|(told, counted)| told <= counted), "returns, openings, losses: {told:?}");
        let gauges = ran.workers.iter().flat_map(|worker| &worker.groups[index].open);
        assert_eq!(
            streams.values().filter(|fate| fate.is_open).count() as u64,
            gauges.map(|&open| u64::from(open)).sum::<u64>(),
            "who is open by what is told was open when the drain began"
        );
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
        one_disruption_has_all_of_it(index, &changes, &streams);
    }
}

/// Where a stream stands, and what it has been through.
#[derive(Debug, Default)]
struct Fate {
    is_open: bool,
    was_lost: bool,
    /// Lost, and neither back nor given up.
    is_away: bool,
    /// Lost and then given up, if not lost again since.
    is_given_up: bool,
    bytes_lost: u64,
}

impl Fate {
    fn follow(&mut self, change: &Change) {
        match change.what {
            What::Opened | What::Back(_) => {
                assert!(!self.is_open, "{change:?}: it was open");
                let is_back = matches!(change.what, What::Back(_));
                assert_eq!(self.is_away, is_back, "{change:?}: back is who was lost, and not given up");
                (self.is_open, self.is_away) = (true, false);
            }
            What::GivenUp => {
                assert!(self.is_away && !self.is_open, "{change:?}: nobody was waited for");
                (self.is_away, self.is_given_up) = (false, true);
            }
            What::Closed | What::Lost(_) => {
                assert!(self.is_open, "{change:?}: it was not open");
                self.is_open = false;
                if let What::Lost(loss) = change.what {
                    (self.was_lost, self.is_away, self.is_given_up) = (true, true, false);
                    self.bytes_lost += loss.bytes_lost.unwrap_or(0);
                }
            }
        }
    }
}

/// A mark whose window is the whole run has every loss, each stream once, and every byte.
fn one_disruption_has_all_of_it(group: usize, changes: &[&Change], streams: &BTreeMap<u32, Fate>) {
    let first = changes.iter().map(|change| change.number).min().unwrap_or(0);
    let mut all = Disruptions::new(vec![first; group + 1]);
    all.mark(0, "all of it", Some(u64::MAX / 2));
    let mut last = 0;
    for change in changes {
        last = last.max(change.at.ns());
        all.push(happened(change, change.at.ns()));
    }
    for second in 1..=last / 1_000_000_000 {
        all.advance(second * 1_000_000_000);
    }
    all.finish(last + 1);
    let told = all.told(10, |_| String::new());
    let [one] = &told[..] else { panic!("one mark makes one disruption, not {}", told.len()) };
    let count = |of: fn(&Fate) -> bool| streams.values().filter(|fate| of(fate)).count() as u64;
    assert_eq!(one.streams_dropped, count(|fate| fate.was_lost), "each stream counts once");
    assert_eq!(one.never_back, count(|fate| fate.is_away), "who is away is away");
    let given_up = count(|fate| fate.is_given_up);
    assert_eq!(one.reconnected + one.never_back + given_up, one.streams_dropped);
    let repeated = |change: &&Change| match change.what {
        What::Back(back) => back.bytes_repeated,
        _ => 0,
    };
    assert_eq!(one.bytes_repeated, changes.iter().map(repeated).sum::<u64>());
    assert!(one.bytes_lost >= streams.values().map(|fate| fate.bytes_lost).sum());
}

/// A change as disruptions take it, at a time of theirs. Addresses, replicas and versions are not looked at here.
pub fn happened(change: &Change, at: u64) -> Happened {
    let what = match change.what {
        What::Opened => Of::Opened,
        What::Closed => Of::Closed,
        What::GivenUp => Of::GivenUp,
        What::Lost(Loss { class, bytes_lost, .. }) => {
            Of::Lost(disruption::Loss { class, address: None, replica: None, version: None, bytes_lost })
        }
        What::Back(Back { session, bytes_repeated, .. }) => {
            Of::Back(disruption::Back { version: None, session, bytes_repeated })
        }
    };
    Happened { at, stream: (change.group, change.number), what }
}
