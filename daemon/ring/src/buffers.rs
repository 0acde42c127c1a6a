//! The memory that sends and receives run through.

use std::ops::Range;
use std::sync::Arc;

/// Bytes on their way to the kernel: from the ring's free list, or a part of shared, unchanging
/// bytes (the payload pool of a protocol that needs no mask).
///
/// An owned buffer is filled with [`Self::spare_mut`] and [`Self::commit`], or [`Self::extend`].
#[derive(Debug)]
pub struct SendBuffer {
    memory: Memory,
    /// What is to be sent: `memory[start..end]`.
    start: usize,
    end: usize,
}

#[derive(Debug)]
enum Memory {
    Owned(Box<[u8]>),
    Shared(Arc<[u8]>),
}

impl SendBuffer {
    /// The smallest owned buffer; capacities are powers of two from here on.
    pub(crate) const CAPACITY_MIN: usize = 512;

    pub(crate) fn owned(capacity: usize) -> Self {
        let capacity = capacity.max(Self::CAPACITY_MIN).next_power_of_two();
        Self { memory: Memory::Owned(vec![0; capacity].into_boxed_slice()), start: 0, end: 0 }
    }

    /// Sends `range` of `bytes` without copying them. Panics where the range is outside.
    #[inline]
    pub fn shared(bytes: Arc<[u8]>, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= bytes.len(), "range outside the shared bytes");
        Self { memory: Memory::Shared(bytes), start: range.start, end: range.end }
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
            Memory::Owned(bytes) => &bytes[self.start..self.end],
            Memory::Shared(bytes) => &bytes[self.start..self.end],
        }
    }

    /// Bytes to be sent.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is to be sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The free part behind what is to be sent; empty for shared bytes.
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Owned(bytes) => &mut bytes[self.end..],
            Memory::Shared(_) => &mut [],
        }
    }

    /// The first `count` bytes of the spare part are now to be sent. Panics beyond the capacity.
    #[inline]
    pub fn commit(&mut self, count: usize) {
        let capacity = match &self.memory {
            Memory::Owned(bytes) => bytes.len(),
            Memory::Shared(_) => self.end,
        };
        assert!(count <= capacity - self.end, "committed more than the buffer holds");
        self.end += count;
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
        self.start += count;
    }
}

/// Spare send buffers by capacity, last in first out so that the warmest is used next.
#[derive(Debug, Default)]
pub(crate) struct SendBuffers {
    /// Index: log2(capacity / `SendBuffer::CAPACITY_MIN`).
    spare: [Vec<SendBuffer>; SendBuffers::CLASSES],
}

impl SendBuffers {
    /// 512 B … 128 KiB; larger ones are not kept.
    const CLASSES: usize = 9;
    /// Bytes kept a class: enough for a turn's batches, little enough to give memory back.
    const SPARE_BYTES_MAX: usize = 2 << 20;

    fn class(capacity: usize) -> usize {
        let capacity = capacity.max(SendBuffer::CAPACITY_MIN).next_power_of_two();
        (capacity / SendBuffer::CAPACITY_MIN).trailing_zeros() as usize
    }

    pub(crate) fn take(&mut self, capacity: usize) -> SendBuffer {
        self.spare
            .get_mut(Self::class(capacity))
            .and_then(Vec::pop)
            .unwrap_or_else(|| SendBuffer::owned(capacity))
    }

    pub(crate) fn give(&mut self, mut buffer: SendBuffer) {
        let Memory::Owned(bytes) = &buffer.memory else { return };
        let capacity = bytes.len();
        (buffer.start, buffer.end) = (0, 0);
        if let Some(spare) = self.spare.get_mut(Self::class(capacity))
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
        let mut again = buffers.take(8000);
        assert!(again.is_empty());
        assert_eq!(again.spare_mut().as_ptr() as usize, address);
        assert_eq!(again.spare_mut().len(), 8192);
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
