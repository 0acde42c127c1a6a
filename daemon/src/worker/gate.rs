//! Holds new connections to the caps of the list of targets: whatever opens one takes a slot first.
//!
//! A gate's slots lie evenly on one grid from the run's start, and the workers take turns. So all of them together
//! keep within the cap in any second, and know nothing of each other. A slot that was not used in time is lost.

use std::sync::Arc;

use scale_ring::Time;

/// The caps that a plan's rows fall under.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gates {
    /// New connections in thousandths a second, over all workers.
    pub rates_milli: Arc<[u64]>,
    /// By row of the plan's address table: which of them it falls under. Empty: no row falls under any.
    pub rows: Arc<[Box<[u16]>]>,
}

/// A worker's own slots of all gates.
#[derive(Debug)]
pub(super) struct Slots {
    rows: Arc<[Box<[u16]>]>,
    /// ns between two slots of this worker's, and the next one that is free.
    gates: Vec<(u64, Time)>,
}

/// A slot may be used so much later: a turn takes its time, and those of one turn go together.
pub(super) const SLOT_NS: u64 = 10_000_000;
/// What a cap counts in.
const SECOND_NS: u64 = 1_000_000_000;

impl Slots {
    /// Those of worker `worker` of `workers`, from the run's start.
    pub(super) fn new(gates: &Gates, start: Time, worker: u32, workers: u32) -> Self {
        let gate = |&milli: &u64| {
            // So far apart that those of a second, with the last one late, are no more than the cap.
            let apart = u128::from(SECOND_NS + SLOT_NS) * 1000;
            let apart = u64::try_from(apart.div_ceil(u128::from(milli.max(1)))).unwrap_or(u64::MAX);
            (apart.saturating_mul(workers.into()), start.plus_ns(apart.saturating_mul(worker.into())))
        };
        Self { rows: gates.rows.clone(), gates: gates.rates_milli.iter().map(gate).collect() }
    }

    /// Takes the next slot of a row of addresses, which may lie ahead; `None`: nothing holds it.
    pub(super) fn take(&mut self, row: u32, now: Time) -> Option<Time> {
        let gates = self.rows.get(row as usize).filter(|gates| !gates.is_empty())?;
        // Under several gates it takes one of each, at one time.
        let mut at = now;
        loop {
            let before = at;
            for &gate in gates {
                let (apart, next) = &mut self.gates[usize::from(gate)];
                let late = at.ns_since(*next);
                if late > SLOT_NS {
                    // Lost: the first one that is not, on the same grid.
                    *next = next.plus_ns((late - SLOT_NS).div_ceil(*apart).saturating_mul(*apart));
                }
                at = at.max(*next);
            }
            if at == before {
                break;
            }
        }
        for &gate in gates {
            let (apart, next) = &mut self.gates[usize::from(gate)];
            *next = next.plus_ns(*apart);
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_ns(5_000_000_000);

    fn gates(milli: u64) -> Gates {
        Gates { rates_milli: [milli].into(), rows: [[0].into(), [].into()].into() }
    }

    /// The most of `times` within any second.
    fn most_in_a_second(mut times: Vec<Time>) -> usize {
        times.sort_unstable();
        let within =
            |from: usize| times[from..].iter().take_while(|at| at.ns_since(times[from]) < SECOND_NS).count();
        (0..times.len()).map(within).max().unwrap_or(0)
    }

    #[test]
    fn whatever_workers_ask_for_no_second_has_more_than_the_cap() {
        for (milli, workers) in [(1000, 2), (5000, 3), (100_000, 2), (333_000, 4), (10_000_000, 2)] {
            let mut went = Vec::new();
            for worker in 0..workers {
                let mut slots = Slots::new(&gates(milli), START, worker, workers);
                // Turns of uneven length; each asks for more than there is, then sleeps.
                let mut now = START;
                let mut queue: Vec<Time> = Vec::new();
                for turn in 0..3000u64 {
                    now = now.plus_ns(100_000 + (turn * 7_919 + u64::from(worker)) % 3_000_000);
                    if queue.len() < 200 {
                        queue.extend(slots.take(0, now));
                    }
                    // A slot is used in its turn, or given up where that comes too late.
                    queue.retain(|&at| {
                        let is_due = at <= now;
                        if is_due && now.ns_since(at) <= SLOT_NS {
                            went.push(now);
                        }
                        !is_due
                    });
                }
            }
            let most = most_in_a_second(went.clone());
            assert!(most as u64 * 1000 <= milli.max(1000), "{milli} by {workers}: {most}");
            assert!(went.len() > 2, "{milli} by {workers}: {}", went.len());
        }
    }

    #[test]
    fn a_row_without_a_cap_is_not_held_and_lost_slots_are_not_made_up_for() {
        let mut slots = Slots::new(&gates(10_000), START, 0, 1);
        assert_eq!(slots.take(1, START), None);
        assert_eq!(Slots::new(&Gates::default(), START, 0, 1).take(0, START), None);
        assert_eq!(slots.take(0, START), Some(START));
        let late = START.plus_ns(50 * SECOND_NS);
        let next: Vec<Time> = (0..3).filter_map(|_| slots.take(0, late)).collect();
        assert!(next[0].ns_since(late) <= 101_000_000, "{next:?}");
        assert!(next[1].ns_since(next[0]) >= 101_000_000 - SLOT_NS, "{next:?}");
        assert_eq!(next[2].ns_since(next[1]), 101_000_000, "one after the other: {next:?}");
    }

    #[test]
    fn under_two_gates_it_goes_with_the_slower() {
        let two = Gates { rates_milli: [1000, 100_000].into(), rows: [[0, 1].into()].into() };
        let mut slots = Slots::new(&two, START, 0, 1);
        assert_eq!(slots.take(0, START), Some(START));
        assert_eq!(slots.take(0, START), Some(START.plus_ns(1_010_000_000)));
        let (_, quick) = slots.gates[1];
        assert!(quick > START.plus_ns(1_010_000_000), "its slot of the quicker one is the one of that time");
    }
}
