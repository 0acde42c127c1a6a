//! Provided receive buffers: one ring of them for all sockets, so that a stream that waits holds
//! no memory (io_uring_register_buf_ring(3)).

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;

use super::features::SetupError;

pub(super) struct Provided {
    /// `count` descriptors of 16 bytes, shared with the kernel.
    ring: Mapping,
    /// `count` × `bytes`.
    memory: Mapping,
    count: u16,
    bytes: u32,
    tail: u16,
    published: u16,
}

/// struct io_uring_buf; the first one's last field is the ring's tail.
#[repr(C)]
struct Descriptor {
    address: u64,
    bytes: u32,
    id: u16,
    tail: AtomicU16,
}

impl Provided {
    pub const GROUP: u16 = 0;

    pub fn new(ring: &IoUring, count: u16, bytes: u32) -> Result<Self, SetupError> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "a power of two, at most 32,768");
        let descriptors = Mapping::new(usize::from(count) * size_of::<Descriptor>())?;
        let memory = Mapping::new(usize::from(count) * bytes as usize)?;
        // SAFETY: the mapping has room for `count` descriptors, is page-aligned and lives until
        // `detach` has taken it from the kernel (or the ring is closed).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(descriptors.at as u64, count, Self::GROUP, 0)
        }
        .map_err(|error| SetupError::at("provided buffers", error))?;
        let mut provided = Self { ring: descriptors, memory, count, bytes, tail: 0, published: 0 };
        (0..count).for_each(|id| provided.give(id));
        provided.publish();
        Ok(provided)
    }

    pub const fn buffer_bytes(&self) -> u32 {
        self.bytes
    }

    #[inline]
    pub fn give(&mut self, id: u16) {
        assert!(id < self.count, "a buffer of this ring");
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.memory.at as u64 + u64::from(id) * u64::from(self.bytes);
        // SAFETY: `index` is below `count`, so the descriptor is inside the mapping; the kernel
        // reads it only after the tail is published. The tail field is not written here.
        unsafe {
            let descriptor = self.ring.at.cast::<Descriptor>().add(index);
            (&raw mut (*descriptor).address).write(address);
            (&raw mut (*descriptor).bytes).write(self.bytes);
            (&raw mut (*descriptor).id).write(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes what was given visible to the kernel.
    #[inline]
    pub fn publish(&mut self) {
        if self.tail != self.published {
            self.published = self.tail;
            // SAFETY: the first descriptor is inside the mapping; its tail is an atomic shared with
            // the kernel.
            unsafe { (*self.ring.at.cast::<Descriptor>()).tail.store(self.tail, Ordering::Release) };
        }
    }

    #[inline]
    pub fn bytes(&mut self, id: u16, len: u32) -> &mut [u8] {
        assert!(id < self.count && len <= self.bytes, "bytes of a buffer of this ring");
        // SAFETY: inside the mapping; the buffer is ours between its completion and `give`, and a
        // `ReceivedBytes` exists once, so nobody else refers to it.
        unsafe {
            let from = self.memory.at.add(usize::from(id) * self.bytes as usize);
            std::slice::from_raw_parts_mut(from, len as usize)
        }
    }

    /// Takes the ring of buffers from the kernel before its memory goes.
    pub fn detach(&self, ring: &IoUring) {
        let _ = ring.submitter().unregister_buf_ring(Self::GROUP);
    }
}

/// Anonymous memory that becomes resident when it is touched.
struct Mapping {
    at: *mut u8,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> Result<Self, SetupError> {
        // SAFETY: a fresh anonymous mapping; the result is checked.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(SetupError::Memory { what: "receive buffers" });
        }
        Ok(Self { at: at.cast(), bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and unmapped once.
        unsafe { libc::munmap(self.at.cast(), self.bytes) };
    }
}
