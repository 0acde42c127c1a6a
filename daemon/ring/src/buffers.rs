//! The memory that sends and receives run through.

use std::ops::Range;
use std::sync::Arc;

/// Bytes on their way to the kernel: from the ring's free list, or a part of shared, unchanging
/// bytes (the payload pool of a protocol that needs no mask).
///
/// An owned buffer is filled with [`Self::spare_mut`] and [`Self::commit`], or [`Self::extend`], or
/// its owner lays it out with [`Self::keep`] and finds those bytes again when it is recycled.
#[derive(Debug)]
pub struct SendBuffer {
    memory: Memory,
    /// What is to be sent: `memory[start..end]`.
    start: u32,
    end: u32,
    kept: Kept,
}

/// What a recycled buffer still holds: whatever its last user called it. `bytes` is 0 where it holds
/// nothing that anybody may want again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Whose bytes they are.
    pub key: u64,
    /// Which of them.
    pub place: u32,
    /// How many.
    pub bytes: u32,
}

#[derive(Debug)]
enum Memory {
    Owned(Box<[u8]>),
    Shared(Arc<[u8]>),
}

impl SendBuffer {
    /// The smallest owned buffer. Capacities from here on: four to each doubling, so that a message
    /// and its header just above a power of two do not take twice the memory, half of it never
    /// touched (and with it half of the sets of a core's caches).
    pub(crate) const CAPACITY_MIN: usize = 512;

    /// The smallest capacity of ours that holds `capacity` bytes, and which one it is, from 0.
    const fn class(capacity: usize) -> (usize, usize) {
        if capacity <= Self::CAPACITY_MIN {
            return (Self::CAPACITY_MIN, 0);
        }
        let below = capacity.next_power_of_two() / 2;
        let step = below / 4;
        let steps = (capacity - below).div_ceil(step);
        let doublings = (below / Self::CAPACITY_MIN).trailing_zeros() as usize;
        (below + steps * step, doublings * 4 + steps)
    }

    pub(crate) fn owned(capacity: usize) -> Self {
        let (capacity, _) = Self::class(capacity);
        assert!(u32::try_from(capacity).is_ok(), "a send of 4 GiB or more");
        let memory = Memory::Owned(vec![0; capacity].into_boxed_slice());
        Self { memory, start: 0, end: 0, kept: Kept::default() }
    }

    /// Sends `range` of `bytes` without copying them. Panics where the range is outside, or the bytes
    /// are 4 GiB or more.
    #[inline]
    pub fn shared(bytes: Arc<[u8]>, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= bytes.len(), "range outside the shared bytes");
        assert!(u32::try_from(bytes.len()).is_ok(), "shared bytes of 4 GiB or more");
        let (start, end) = (range.start as u32, range.end as u32);
        Self { memory: Memory::Shared(bytes), start, end, kept: Kept::default() }
    }

    /// Whether it came from a ring's free list.
    #[cfg(feature = "sim")]
    pub(crate) const fn is_owned(&self) -> bool {
        matches!(self.memory, Memory::Owned(_))
    }

    /// What is to be sent.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.memory {
            Memory::Owned(bytes) => &bytes[self.start as usize..self.end as usize],
            Memory::Shared(bytes) => &bytes[self.start as usize..self.end as usize],
        }
    }

    /// Bytes to be sent.
    #[inline]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether nothing is to be sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The free part behind what is to be sent; empty for shared bytes.
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        self.kept = Kept::default();
        match &mut self.memory {
            Memory::Owned(bytes) => &mut bytes[self.end as usize..],
            Memory::Shared(_) => &mut [],
        }
    }

    /// What the buffer still holds of what was kept in it.
    #[inline]
    pub const fn kept(&self) -> Kept {
        self.kept
    }

    /// Sends `range` of the memory, all of which is returned as its last user left it: the caller
    /// writes what is not there yet. `kept` names what it will hold. Panics where the range is outside,
    /// or the bytes are shared.
    #[inline]
    pub fn keep(&mut self, range: Range<usize>, kept: Kept) -> &mut [u8] {
        let Memory::Owned(bytes) = &mut self.memory else { panic!("shared bytes cannot be written") };
        assert!(range.start <= range.end && range.end <= bytes.len(), "range outside the buffer");
        (self.start, self.end, self.kept) = (range.start as u32, range.end as u32, kept);
        bytes
    }

    /// The first `count` bytes of the spare part are now to be sent. Panics beyond the capacity.
    #[inline]
    pub fn commit(&mut self, count: usize) {
        let capacity = match &self.memory {
            Memory::Owned(bytes) => bytes.len(),
            Memory::Shared(_) => self.end as usize,
        };
        assert!(count <= capacity - self.end as usize, "committed more than the buffer holds");
        self.end += count as u32;
    }

    /// Appends `bytes`. Panics beyond the capacity: callers ask for what they need.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.spare_mut()[..bytes.len()].copy_from_slice(bytes);
        self.commit(bytes.len());
    }

    /// The first `count` bytes have been sent. Panics where there were fewer.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advanced beyond the end");
        self.start += count as u32;
    }
}

/// Spare send buffers by capacity, last in first out so that the warmest is used next.
#[derive(Debug)]
pub(crate) struct SendBuffers {
    /// By `SendBuffer::class`.
    spare: [Vec<SendBuffer>; SendBuffers::CLASSES],
}

impl Default for SendBuffers {
    fn default() -> Self {
        Self { spare: [const { Vec::new() }; Self::CLASSES] }
    }
}

impl SendBuffers {
    /// 512 B … 128 KiB; larger ones are not kept.
    const CLASSES: usize = SendBuffer::class(128 << 10).1 + 1;
    /// Bytes kept a class: enough for a turn's batches, little enough to give memory back.
    const SPARE_BYTES_MAX: usize = 2 << 20;

    pub(crate) fn take(&mut self, capacity: usize) -> SendBuffer {
        self.spare
            .get_mut(SendBuffer::class(capacity).1)
            .and_then(Vec::pop)
            .unwrap_or_else(|| SendBuffer::owned(capacity))
    }

    /// What the buffer that [`Self::take`] would hand out still holds.
    #[inline]
    pub(crate) fn kept(&self, capacity: usize) -> Kept {
        let spare = self.spare.get(SendBuffer::class(capacity).1).and_then(|spare| spare.last());
        spare.map_or_else(Kept::default, |buffer| buffer.kept)
    }

    pub(crate) fn give(&mut self, mut buffer: SendBuffer) {
        let Memory::Owned(bytes) = &buffer.memory else { return };
        let capacity = bytes.len();
        (buffer.start, buffer.end) = (0, 0);
        if let Some(spare) = self.spare.get_mut(SendBuffer::class(capacity).1)
            && spare.len() * capacity < Self::SPARE_BYTES_MAX
        {
            spare.push(buffer);
        }
    }
}

/// Bytes in a provided receive buffer: see `Ring::received`. Not `Clone`, so that a buffer is
/// given back exactly once.
#[derive(Debug)]
pub struct ReceivedBytes {
    pub(crate) id: u16,
    pub(crate) len: u32,
}

impl ReceivedBytes {
    /// How many bytes have arrived.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether none have; never true for a completion's bytes.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_buffer_is_handed_out_again_empty() {
        let mut buffers = SendBuffers::default();
        let mut buffer = buffers.take(4200);
        buffer.extend(b"hello");
        buffer.advance(2);
        assert_eq!(buffer.as_slice(), b"llo");
        let address = buffer.as_slice().as_ptr() as usize - 2;
        buffers.give(buffer);
        let mut again = buffers.take(5000);
        assert!(again.is_empty());
        assert_eq!(again.spare_mut().as_ptr() as usize, address);
        assert_eq!(again.spare_mut().len(), 5120);
    }

    #[test]
    fn what_was_kept_is_found_again_until_somebody_else_writes() {
        let mut buffers = SendBuffers::default();
        let kept = Kept { key: 7, place: 16, bytes: 5 };
        assert_eq!(buffers.kept(4200), Kept::default());
        let mut buffer = buffers.take(4200);
        buffer.keep(14..21, kept)[16..21].copy_from_slice(b"hello");
        buffer.advance(7); // all of it has been sent
        buffers.give(buffer);
        assert_eq!(buffers.kept(4200), kept);
        let mut buffer = buffers.take(4200);
        assert_eq!((buffer.kept(), buffer.len()), (kept, 0));
        assert_eq!(&buffer.keep(12..21, kept)[16..21], b"hello");
        assert_eq!(buffer.len(), 9);
        buffers.give(buffer);
        let mut buffer = buffers.take(4200);
        buffer.extend(b"x");
        buffers.give(buffer);
        assert_eq!(buffers.kept(4200), Kept::default());
    }

    #[test]
    fn every_capacity_has_one_class_and_wastes_at_most_a_fifth() {
        let (mut last, mut classes) = (0, 0);
        for bytes in 1..=140_000 {
            let (capacity, class) = SendBuffer::class(bytes);
            assert!(
                capacity >= bytes && (capacity == 512 || capacity - bytes < bytes.div_ceil(4)),
                "{bytes}"
            );
            assert_eq!(SendBuffer::class(capacity), (capacity, class), "{bytes}");
            if capacity != last {
                assert_eq!(class, classes, "{bytes}");
                (last, classes) = (capacity, classes + 1);
            }
        }
    }

    #[test]
    fn shared_bytes_are_sent_in_place_and_never_kept() {
        let pool: Arc<[u8]> = vec![7; 100].into();
        let buffer = SendBuffer::shared(pool.clone(), 10..20);
        assert_eq!((buffer.len(), buffer.as_slice().as_ptr()), (10, pool[10..].as_ptr()));
        let mut buffers = SendBuffers::default();
        buffers.give(buffer);
        assert_eq!(Arc::strong_count(&pool), 1);
    }

    #[test]
    fn spare_memory_is_bounded() {
        let mut buffers = SendBuffers::default();
        for _ in 0..10_000 {
            buffers.give(SendBuffer::owned(4096));
        }
        let kept: usize = buffers
            .spare
            .iter()
            .flatten()
            .map(|b| match &b.memory {
                Memory::Owned(m) => m.len(),
                Memory::Shared(_) => 0,
            })
            .sum();
        assert!(kept <= SendBuffers::SPARE_BYTES_MAX);
        buffers.give(SendBuffer::owned(1 << 20)); // larger than any class
    }
}
