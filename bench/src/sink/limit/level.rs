//! How much a sink is asked for: open websockets, or messages a second.

use scale_api::units::Span;
use scale_ring::Time;

use super::parse::Load;

/// Parts of a window; its whole ones count.
const PARTS: u64 = 20;

/// A load, and the level above which it is too much.
#[derive(Debug)]
pub(super) struct Level {
    load: Load,
    part_ns: u64,
    /// Messages by part, and which parts they are: `number % (PARTS + 1)`.
    parts: [(u64, u64); PARTS as usize + 1],
}

impl Level {
    pub fn new(load: Load, window: Span) -> Self {
        Self { load, part_ns: (window.ns() / PARTS).max(1), parts: [(u64::MAX, 0); PARTS as usize + 1] }
    }

    const fn part(&self, now: Time) -> u64 {
        now.ns() / self.part_ns
    }

    /// A message has come.
    pub fn message(&mut self, now: Time) {
        let part = self.part(now);
        let (number, count) = &mut self.parts[(part % (PARTS + 1)) as usize];
        if *number != part {
            (*number, *count) = (part, 0);
        }
        *count += 1;
    }

    /// By which share the load is above the level; 0 or less: it is not.
    pub fn over(&self, now: Time, open: u64) -> f64 {
        match self.load {
            Load::Streams(level) => open as f64 / level as f64 - 1.0,
            Load::Messages(level) => {
                let now = self.part(now);
                let whole = |&&(number, _): &&(u64, u64)| number < now && number + PARTS >= now;
                let count: u64 = self.parts.iter().filter(whole).map(|(_, count)| count).sum();
                let seconds = (self.part_ns * PARTS) as f64 / 1e9;
                count as f64 / seconds / (level.milli as f64 / 1e3) - 1.0
            }
        }
        .max(0.0)
    }
}
