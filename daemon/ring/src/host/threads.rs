//! Where threads run, and how they are scheduled.

/// Pins this thread; false where the core cannot be had.
pub fn pin_current_thread(core: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

/// Cores this process may run on, ascending.
pub fn available_cores() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// Gives this thread SCHED_FIFO at `priority` (1…99).
///
/// # Errors
/// EPERM without CAP_SYS_NICE or RLIMIT_RTPRIO.
pub fn set_realtime_fifo(priority: i32) -> std::io::Result<()> {
    // The kernel's own struct sched_param, and its call: musl's C library has other fields, and refuses.
    let parameters: libc::c_int = priority;
    // SAFETY: the number lives across the call; 0 is this thread.
    if unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &raw const parameters) } == 0
    {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
