//! Asking for memory before it is needed.

/// Asks the CPU to bring all of `what` near; has no other effect. A no-op where the architecture
/// has no stable way to ask.
#[inline]
pub fn prefetch<T>(what: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE_BYTES: usize = 64;
        let from: *const i8 = (&raw const *what).cast();
        let mut offset = 0;
        while offset < size_of::<T>() {
            // SAFETY: a prefetch reads nothing and cannot fault; the address is within `what`.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(offset)) };
            offset += LINE_BYTES;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}
