//! Streams whose target gets no connects just now: its breaker is open, and what it may get is a number of attempts.
//!
//! They are launched as ever, and wait; what is open goes on. Once their target gets connects again they come at
//! the pace of the ramp, so that nothing is made up for by a burst.

use std::cmp::Reverse;

use scale_ring::{Ring, Time};

use super::turn::Worker;
use crate::load::Group;
use crate::stream::flow::{Standing, Stream};

/// A stream that waits looks again after this.
const HELD_WAIT_NS: u64 = 1_000_000_000;

impl<R: Ring> Worker<R> {
    /// A target of a group gets `permits` attempts from all workers, or any number.
    pub(super) fn set_permits(&mut self, group: usize, target: u16, permits: Option<u32>) {
        let (worker, workers) = (self.share.worker, self.share.workers);
        // Each worker has one at least: who has a stream to open is not known where they are given.
        let share = |all| if all > 0 { Group::share(all, worker, workers).max(1) } else { 0 };
        self.groups[group].permits[usize::from(target)] = permits.map(share);
    }

    /// Whether a stream's target gets no connect just now.
    pub(super) fn is_held(&self, stream: u32) -> bool {
        let Stream { group, target, .. } = self.streams[stream as usize];
        self.groups[usize::from(group)].is_held(target)
    }

    /// A stream whose target gets no connect looks again later.
    pub(super) fn wait_held(&mut self, stream: u32, now: Time) {
        self.stand(stream, Standing::Waiting);
        self.comebacks.push(Reverse((now.plus_ns(HELD_WAIT_NS), stream)));
    }

    /// An attempt to open a stream, now or once its target gets connects.
    pub(super) fn attempt_or_wait(&mut self, stream: u32, now: Time) {
        if self.is_held(stream) { self.wait_held(stream, now) } else { self.attempt(stream, now) }
    }
}
