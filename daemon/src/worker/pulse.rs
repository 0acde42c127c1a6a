//! A worker's sign of life: a counter that its thread alone moves, and the control thread reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counter, alone on its cache lines: nobody else's writes slow the worker, and a reader that
/// comes by once in a while takes one line. Clones are the same counter.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Padded>);

/// Two lines of 64 bytes: x86-64 fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

impl Pulse {
    /// One more turn. For the worker's own thread: two writers would lose beats.
    #[inline]
    pub fn beat(&self) {
        let beats = &self.0.0;
        beats.store(beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Turns so far. A worker waits for 10 ms at most in a turn, so this moves many times a second.
    pub fn beats(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_one_counter() {
        let (pulse, seen) = (Pulse::default(), Pulse::default());
        let theirs = pulse.clone();
        pulse.beat();
        pulse.beat();
        assert_eq!((theirs.beats(), seen.beats()), (2, 0));
    }
}
