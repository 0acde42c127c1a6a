//! What keeps secrets in this process: no core files, no looking in from outside, and memory that is wiped when it is
//! given back.

use std::alloc::{GlobalAlloc, Layout};

/// No core file, however the process ends (prctl(2), core(5)), and no other user's process may trace it or read its
/// memory (ptrace(2)).
pub fn keep_private() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain values, and a struct that lives across the call.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
    }
}

/// An allocator that wipes what it takes back.
///
/// Secrets pass through many hands: a request's body, its JSON, a header, a library's buffer. Not one of them has to know:
/// whatever had a copy has none once it is dropped. Workers allocate nothing while a run is steady, so it costs them nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wiping<A>(pub A);

// SAFETY: every call goes to the allocator inside with the layout it came with; what is wiped is a block that the caller
// gives up with this very call. `realloc` is the trait's own: a new block, a copy, and `dealloc`.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Wiping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is the caller's until this call, and as long as its layout says.
        unsafe { wipe(block, layout.size()) };
        // SAFETY: as the caller promises.
        unsafe { self.0.dealloc(block, layout) }
    }
}

/// From this size on whole pages are given back to the kernel instead, which has zeros in their place: a table that was
/// never filled is not touched for it.
const LARGE_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 4096;

/// Zeroes memory for good: the stores are not dropped, though nobody reads them.
///
/// # Safety
/// `length` bytes from `block` on are the caller's to write, of anonymous and private memory.
unsafe fn wipe(block: *mut u8, length: usize) {
    if length >= LARGE_BYTES {
        let before = block.align_offset(PAGE_BYTES);
        let pages = (length - before) / PAGE_BYTES * PAGE_BYTES;
        // SAFETY: these pages lie within the block, whose memory is anonymous, so that they read as zeros afterwards.
        let dropped = unsafe { libc::madvise(block.add(before).cast(), pages, libc::MADV_DONTNEED) } == 0;
        if dropped {
            // SAFETY: both ends lie within the block.
            unsafe {
                zero(block, before);
                zero(block.add(before + pages), length - before - pages);
            }
            return;
        }
    }
    // SAFETY: as the caller promises.
    unsafe { zero(block, length) };
}

/// # Safety
/// `length` bytes from `block` on are the caller's to write.
unsafe fn zero(block: *mut u8, length: usize) {
    // SAFETY: as the caller promises.
    unsafe { block.write_bytes(0, length) };
    // SAFETY: an empty piece of assembly, which the compiler must take to read what is behind `block`.
    unsafe { std::arch::asm!("/* {0} */", in(reg) block, options(nostack, preserves_flags)) };
}

#[cfg(test)]
mod tests {
    use std::alloc::System;

    use super::*;

    /// Hands blocks to the system, and looks at what comes back.
    struct Looking;

    // SAFETY: the system's, but for a look at a block that is given back.
    unsafe impl GlobalAlloc for Looking {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as the caller promises.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: the block is whole until the call below.
            let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
            assert!(bytes.iter().all(|&byte| byte == 0), "it was given back with something in it");
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(block, layout) }
        }
    }

    #[test]
    fn what_is_given_back_is_wiped_and_what_grows_is_kept() {
        let (allocator, layout) = (Wiping(Looking), Layout::array::<u8>(1000).unwrap());
        // SAFETY: blocks are used as long as their layouts say, until they are given back.
        unsafe {
            let block = allocator.alloc(layout);
            block.write_bytes(7, 1000);
            let grown = allocator.realloc(block, layout, 3000);
            assert!(std::slice::from_raw_parts(grown, 1000).iter().all(|&byte| byte == 7));
            allocator.dealloc(grown, Layout::array::<u8>(3000).unwrap());
            for large in [LARGE_BYTES, 3 * LARGE_BYTES + 17] {
                let layout = Layout::array::<u8>(large).unwrap();
                let block = allocator.alloc(layout);
                block.write_bytes(7, large);
                allocator.dealloc(block, layout);
            }
        }
    }
}
