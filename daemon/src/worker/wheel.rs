//! The wheel: when each stream is due next, at a cost a tick that does not grow with streams.
//!
//! 8,192 slots of 131 µs, each an intrusive list of streams; a slot is visited once a turn of the
//! wheel (1.07 s), and a stream that is due in a later turn stays where it is. Two flat arrays
//! (due, next) keep the walk in few cache lines.
//!
//! Holds always: `fire` hands out no stream before its due time, and every armed stream by the
//! first call at or after it (unless the call's limit was reached: then by the next).

use scale_ring::Time;

/// End of a list.
const NONE: u32 = u32::MAX;

/// Streams by due time.
#[derive(Debug)]
pub struct Wheel {
    heads: Box<[u32]>,
    /// One bit a slot: whether its list has an entry.
    occupied: Box<[u64]>,
    due: Vec<Time>,
    next: Vec<u32>,
    /// The slot number (not modulo) up to which all lists have been walked.
    cursor: u64,
    armed: usize,
}

impl Wheel {
    const SLOT_SHIFT: u32 = 17;
    const SLOTS: u64 = 8192;

    /// An empty wheel whose time starts at `now`, with room for `streams` without growing.
    pub fn new(now: Time, streams: usize) -> Self {
        Self {
            heads: vec![NONE; Self::SLOTS as usize].into(),
            occupied: vec![0; Self::SLOTS as usize / 64].into(),
            due: Vec::with_capacity(streams),
            next: Vec::with_capacity(streams),
            cursor: now.ns() >> Self::SLOT_SHIFT,
            armed: 0,
        }
    }

    /// Streams armed.
    pub const fn len(&self) -> usize {
        self.armed
    }

    /// Whether no stream is armed.
    pub const fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// When `stream` is due, if it is armed.
    pub fn due(&self, stream: u32) -> Option<Time> {
        self.due.get(stream as usize).copied().filter(|&due| due != Time::NEVER)
    }

    /// `stream` is due at `due` next. It must not be armed.
    #[inline]
    pub fn arm(&mut self, stream: u32, due: Time) {
        let index = stream as usize;
        if index >= self.due.len() {
            self.due.resize(index + 1, Time::NEVER);
            self.next.resize(index + 1, NONE);
        }
        debug_assert_eq!(self.due[index], Time::NEVER, "armed twice");
        // What is already past goes where the next walk begins.
        let number = (due.ns() >> Self::SLOT_SHIFT).max(self.cursor);
        let slot = (number % Self::SLOTS) as usize;
        self.due[index] = due;
        self.next[index] = self.heads[slot];
        self.heads[slot] = stream;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.armed += 1;
    }

    /// `stream` is not due any more. For rare use: it walks lists.
    pub fn disarm(&mut self, stream: u32) {
        let Some(due) = self.due(stream) else { return };
        let home = (due.ns() >> Self::SLOT_SHIFT).max(self.cursor) % Self::SLOTS;
        // A stream armed in the past may lie behind its own slot; look there first, then anywhere.
        for slot in std::iter::once(home).chain(0..Self::SLOTS) {
            if self.unlink(slot as usize, stream) {
                self.due[stream as usize] = Time::NEVER;
                self.armed -= 1;
                return;
            }
        }
        unreachable!("an armed stream is in a list");
    }

    fn unlink(&mut self, slot: usize, stream: u32) -> bool {
        let (mut at, mut before) = (self.heads[slot], NONE);
        while at != NONE {
            let next = self.next[at as usize];
            if at == stream {
                if before == NONE {
                    self.heads[slot] = next;
                } else {
                    self.next[before as usize] = next;
                }
                if self.heads[slot] == NONE {
                    self.occupied[slot / 64] &= !(1 << (slot % 64));
                }
                return true;
            }
            (before, at) = (at, next);
        }
        false
    }

    /// Moves streams that are due at `now` to `into` with their due times, at most `limit`; they
    /// are disarmed.
    pub fn fire(&mut self, now: Time, limit: usize, into: &mut Vec<(u32, Time)>) {
        let last = now.ns() >> Self::SLOT_SHIFT;
        if self.armed == 0 {
            self.cursor = self.cursor.max(last);
            return;
        }
        // A longer gap than a whole turn of the wheel needs one walk over every slot, no more.
        let mut number = self.cursor.max(last.saturating_sub(Self::SLOTS - 1));
        loop {
            let slot = (number % Self::SLOTS) as usize;
            if self.occupied[slot / 64] & 1 << (slot % 64) != 0 && !self.walk(slot, now, limit, into) {
                self.cursor = number;
                return;
            }
            if number >= last {
                break;
            }
            number += 1;
        }
        self.cursor = self.cursor.max(last);
    }

    /// Takes what is due out of one slot; false where the limit was reached.
    fn walk(&mut self, slot: usize, now: Time, limit: usize, into: &mut Vec<(u32, Time)>) -> bool {
        let mut at = std::mem::replace(&mut self.heads[slot], NONE);
        let (mut kept, mut kept_last) = (NONE, NONE);
        let mut full = false;
        while at != NONE {
            let index = at as usize;
            let next = self.next[index];
            if self.due[index] > now {
                if kept == NONE {
                    kept_last = at;
                }
                self.next[index] = kept;
                kept = at;
            } else if into.len() < limit {
                into.push((at, std::mem::replace(&mut self.due[index], Time::NEVER)));
                self.armed -= 1;
            } else {
                // The rest stays as it is, unwalked: a call's cost is bounded by its limit.
                full = true;
                if kept == NONE {
                    kept = at;
                } else {
                    self.next[kept_last as usize] = at;
                }
                break;
            }
            at = next;
        }
        self.heads[slot] = kept;
        if kept == NONE {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
        !full
    }

    /// No stream is due before this point: exact within the present turn of the wheel, otherwise
    /// early (a wake for nothing, at most one a second).
    pub fn next_due(&self, now: Time) -> Time {
        if self.armed == 0 {
            return Time::NEVER;
        }
        let last = self.cursor + Self::SLOTS;
        let mut next = self.cursor;
        while next < last {
            let number = next;
            let slot = (number % Self::SLOTS) as usize;
            if self.occupied[slot / 64] == 0 {
                next = (number / 64 + 1) * 64; // the whole word is empty
                continue;
            }
            next += 1;
            if self.heads[slot] == NONE {
                continue;
            }
            let end = Time::from_ns((number + 1) << Self::SLOT_SHIFT);
            let mut earliest = Time::NEVER;
            let mut at = self.heads[slot];
            while at != NONE {
                earliest = earliest.min(self.due[at as usize]);
                at = self.next[at as usize];
            }
            if earliest < end {
                return earliest.max(now);
            }
        }
        now.plus_ns(Self::SLOTS << (Self::SLOT_SHIFT - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn ms(ms: u64) -> Time {
        Time::from_ns(ms * 1_000_000)
    }

    #[test]
    fn nothing_fires_early_and_everything_fires_once() {
        let mut wheel = Wheel::new(ms(5), 4);
        wheel.arm(0, ms(6));
        wheel.arm(1, ms(10_000));
        wheel.arm(2, ms(1)); // already past
        let mut fired = Vec::new();
        wheel.fire(ms(5), 9, &mut fired);
        assert_eq!(fired, [(2, ms(1))]);
        assert_eq!(wheel.next_due(ms(5)), ms(6));
        fired.clear();
        wheel.fire(ms(9_999), 9, &mut fired);
        assert_eq!(fired, [(0, ms(6))]);
        wheel.fire(ms(10_000), 9, &mut fired);
        assert_eq!((fired.len(), wheel.is_empty()), (2, true));
    }

    #[test]
    fn a_limit_leaves_the_rest_for_the_next_call() {
        let mut wheel = Wheel::new(ms(0), 100);
        (0..100).for_each(|stream| wheel.arm(stream, ms(3)));
        let mut fired = Vec::new();
        wheel.fire(ms(50), 60, &mut fired);
        assert_eq!((fired.len(), wheel.len()), (60, 40));
        fired.clear();
        wheel.fire(ms(51), 60, &mut fired);
        assert_eq!((fired.len(), wheel.len()), (40, 0));
    }

    proptest! {
        /// Against a sorted map, over any steps of the clock, re-arming and disarming.
        #[test]
        fn it_agrees_with_a_sorted_map(
            steps in prop::collection::vec((0u64..3_000_000_000, 0u32..50, 0u64..4_000_000_000, prop::bool::ANY), 1..120)
        ) {
            let mut wheel = Wheel::new(Time::ZERO, 50);
            let mut model: BTreeMap<u32, Time> = BTreeMap::new();
            let mut now = Time::ZERO;
            for (ahead, stream, after, off) in steps {
                now = now.plus_ns(ahead / 7);
                if off { wheel.disarm(stream); model.remove(&stream); }
                else if let std::collections::btree_map::Entry::Vacant(entry) = model.entry(stream) {
                    let due = now.plus_ns(after);
                    wheel.arm(stream, due);
                    entry.insert(due);
                }
                let next = wheel.next_due(now);
                if let Some(&first) = model.values().min() { prop_assert!(next <= first.max(now)); }
                let mut fired = Vec::new();
                wheel.fire(now, usize::MAX, &mut fired);
                fired.sort_unstable();
                let expected: Vec<_> = model.iter().filter(|(_, due)| **due <= now).map(|(s, d)| (*s, *d)).collect();
                prop_assert_eq!(&fired, &expected);
                for (stream, _) in fired { model.remove(&stream); }
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
