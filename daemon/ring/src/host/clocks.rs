//! The clocks of the whole project: read here and in the ring, nowhere else.

use std::time::SystemTime;

use crate::Time;

pub(super) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct lives across the call; these clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CLOCK_MONOTONIC.
#[inline]
pub fn monotonic_now() -> Time {
    Time::from_ns(clock_ns(libc::CLOCK_MONOTONIC))
}

/// The wall clock; its one home.
#[expect(clippy::disallowed_methods, reason = "the wall clock's one home")]
pub fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// CPU time of this thread, in ns.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of this process, in ns.
pub fn process_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of this process, user and system, in seconds (getrusage(2)).
pub fn process_cpu_seconds() -> (f64, f64) {
    // SAFETY: all-zero is a valid rusage, and it lives across the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (seconds(usage.ru_utime), seconds(usage.ru_stime))
}
