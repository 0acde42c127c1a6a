//! Messages whose echo is still to come, oldest first.
//!
//! Round trips longer than a tick are normal, so a stream may have many. The first two lie in
//! the stream itself; more come from a pool that all streams of a worker share. Both have a
//! limit with a name; a tick that meets it is missed by back-pressure, never queued elsewhere.

use scale_ring::Time;

/// One message under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// When it was due.
    pub due: Time,
    /// When it was handed to the kernel.
    pub sent: Time,
    /// Bytes of its echo.
    pub bytes: u32,
    /// Its place in the payload, to compare the echo with.
    pub place: u32,
    /// What the payload's bytes are masked with in it; zero: nothing.
    pub mask: [u8; 4],
}

impl Message {
    /// The place of a connection's first message, which is no tick's and has bytes of its own.
    pub const FIRST: u32 = u32::MAX;
}

const NONE: u32 = u32::MAX;

/// One stream's messages.
#[derive(Debug)]
pub struct Unanswered {
    inline: [Message; Self::INLINE],
    count: u32,
    head: u32,
    tail: u32,
}

impl Unanswered {
    const INLINE: usize = 2;
    /// Messages a stream may have under way: 102 s of 100 ms ticks.
    pub const STREAM_MAX: u32 = 1024;
    const EMPTY: Message = Message { due: Time::ZERO, sent: Time::ZERO, bytes: 0, place: 0, mask: [0; 4] };

    /// None.
    pub const fn new() -> Self {
        Self { inline: [Self::EMPTY; Self::INLINE], count: 0, head: NONE, tail: NONE }
    }

    /// How many.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether every message has been answered.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether another may be added.
    #[inline]
    pub fn has_room(&self, pool: &Pool) -> bool {
        (self.count as usize) < Self::INLINE || (self.count < Self::STREAM_MAX && pool.has_room())
    }

    /// Adds the newest. There must be room.
    #[inline]
    pub fn push(&mut self, message: Message, pool: &mut Pool) {
        if (self.count as usize) < Self::INLINE {
            self.inline[self.count as usize] = message;
        } else {
            let node = pool.take(message);
            if self.head == NONE {
                self.head = node;
            } else {
                pool.nodes[self.tail as usize].1 = node;
            }
            self.tail = node;
        }
        self.count += 1;
    }

    /// The oldest.
    #[inline]
    pub const fn front(&self) -> Option<&Message> {
        if self.count == 0 { None } else { Some(&self.inline[0]) }
    }

    /// All of them, oldest first.
    pub fn iter<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = &'a Message> {
        let inline = self.inline[..Self::INLINE.min(self.count as usize)].iter();
        let beyond = (self.count as usize).saturating_sub(Self::INLINE);
        let nodes = std::iter::successors(Some(self.head), |&node| Some(pool.nodes[node as usize].1));
        inline.chain(nodes.take(beyond).map(|node| &pool.nodes[node as usize].0))
    }

    /// Removes the oldest.
    #[inline]
    pub fn pop(&mut self, pool: &mut Pool) -> Option<Message> {
        let front = *self.front()?;
        self.inline.copy_within(1.., 0);
        self.count -= 1;
        if self.count as usize >= Self::INLINE {
            let (message, next) = pool.give(self.head);
            self.inline[Self::INLINE - 1] = message;
            self.head = next;
        }
        Some(front)
    }
}

impl Default for Unanswered {
    fn default() -> Self {
        Self::new()
    }
}

/// What all streams of a worker share; grows on demand up to its limit.
#[derive(Debug)]
pub struct Pool {
    nodes: Vec<(Message, u32)>,
    free: u32,
    used: usize,
    max: usize,
}

impl Pool {
    /// Messages a worker may have under way beyond the streams' own: 40 MiB.
    pub const MAX: usize = 1 << 20;

    /// An empty pool of at most `max` messages.
    pub const fn new(max: usize) -> Self {
        Self { nodes: Vec::new(), free: NONE, used: 0, max }
    }

    /// Messages in it.
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    const fn has_room(&self) -> bool {
        self.used < self.max
    }

    fn take(&mut self, message: Message) -> u32 {
        self.used += 1;
        if self.free == NONE {
            self.nodes.push((message, NONE));
            return (self.nodes.len() - 1) as u32;
        }
        let node = self.free;
        self.free = self.nodes[node as usize].1;
        self.nodes[node as usize] = (message, NONE);
        node
    }

    fn give(&mut self, node: u32) -> (Message, u32) {
        let (message, next) = self.nodes[node as usize];
        self.nodes[node as usize].1 = self.free;
        self.free = node;
        self.used -= 1;
        (message, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn message(n: u64) -> Message {
        Message { due: Time::from_ns(n), sent: Time::from_ns(n + 1), bytes: n as u32, place: 0, mask: [0; 4] }
    }

    proptest! {
        #[test]
        fn two_streams_on_one_pool_behave_as_two_queues(steps in prop::collection::vec((0usize..2, prop::bool::ANY), 0..300)) {
            let mut pool = Pool::new(20);
            let mut streams = [Unanswered::new(), Unanswered::new()];
            let mut models = [VecDeque::new(), VecDeque::new()];
            for (n, (which, push)) in steps.into_iter().enumerate() {
                if push && streams[which].has_room(&pool) {
                    streams[which].push(message(n as u64), &mut pool);
                    models[which].push_back(message(n as u64));
                } else if !push {
                    prop_assert_eq!(streams[which].pop(&mut pool), models[which].pop_front());
                }
                prop_assert_eq!(streams[which].front(), models[which].front());
                prop_assert_eq!(streams[which].len() as usize, models[which].len());
                prop_assert!(streams[which].iter(&pool).eq(&models[which]));
                let beyond: usize = models.iter().map(|m| m.len().saturating_sub(2)).sum();
                prop_assert!(pool.len() == beyond && beyond <= 20);
            }
        }
    }
}
