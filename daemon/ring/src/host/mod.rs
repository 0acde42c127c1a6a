//! This machine: its clocks, cores and limits, and the [`facts`] that decide a result.

mod calls;
mod clocks;
pub mod facts;
mod limits;
mod process;
mod threads;

use std::os::fd::AsRawFd;

pub use clocks::{monotonic_now, process_cpu_ns, process_cpu_seconds, thread_cpu_ns, wall_now};
pub use facts::Facts;
pub(crate) use facts::{io_uring_disabled, somaxconn};
pub use limits::{memlock_limit, nofile_limit};
pub use process::{Process, process, rss_bytes};
pub use threads::{available_cores, pin_current_thread, set_realtime_fifo};

/// A seed that nobody can guess (getrandom(2)).
pub fn random_seed() -> u64 {
    let mut seed = 0u64;
    // SAFETY: eight bytes of an integer of ours.
    unsafe { libc::getrandom((&raw mut seed).cast(), 8, 0) };
    seed
}

/// Undoes that interrupt and quit are ignored, as a shell leaves it for what it starts with `&`
/// (POSIX.1, 2.11): programs started from here would inherit it, and Ctrl-C not end them.
pub fn heed_interrupts() {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: all-zero is a valid sigaction, it lives across both calls, and nothing else of
        // the process changes: only an ignored signal gets its default back.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &raw mut action);
            if action.sa_sigaction == libc::SIG_IGN {
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const action, std::ptr::null_mut());
            }
        }
    }
}

/// Who is at the other end of a Unix socket: pid, uid, gid (SO_PEERCRED, unix(7)).
pub fn peer_credentials(socket: &impl AsRawFd) -> Option<(i32, u32, u32)> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the struct has room for `len` bytes and lives across the call.
    let result = unsafe {
        let at = (&raw mut credentials).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, at, &raw mut len)
    };
    (result == 0).then_some((credentials.pid, credentials.uid, credentials.gid))
}

/// Whether `address` is one of this host's: a socket can be bound to it.
pub fn has_address(address: std::net::IpAddr) -> bool {
    // Where every ephemeral port is reserved or taken there is none to bind, and the address is there all the same.
    let bound = std::net::UdpSocket::bind((address, 0));
    bound.map_or_else(|error| error.kind() == std::io::ErrorKind::AddrInUse, |_| true)
}

/// The effective user of this process.
pub fn effective_uid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn facts_are_read_from_a_recorded_tree_and_what_is_missing_is_none() {
        let root = std::env::temp_dir().join(format!("scale-ring-facts-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
        write("proc/sys/net/ipv4/ip_local_reserved_ports", "9000-9002,8080\n");
        write("proc/sys/net/ipv4/tcp_mem", "1 2 3\n");
        write("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    2048 kB\n");
        write("sys/fs/cgroup/cpu.max", "150000 100000\n");
        let facts = Facts::read(&root);
        assert_eq!(facts.port_range, Some((32768, 60999)));
        assert_eq!(facts.ports_reserved, [8080, 9000, 9001, 9002]);
        assert_eq!((facts.tcp_mem_bytes, facts.memory_available), (Some(3 * 4096), Some(2 << 20)));
        assert_eq!((facts.cpu_quota, facts.kernel), (Some(1.5), None));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn ignored_interrupts_are_heeded_again() {
        // SAFETY: plain values only.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
        let ignored = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (libc::SIGINT - 1)) != 0
        };
        assert!(ignored());
        heed_interrupts();
        assert!(!ignored());
    }

    #[test]
    fn this_process_has_a_start_threads_memory_and_descriptors() {
        let wall = || wall_now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let before = process();
        assert!(before.started_at > wall() - 3600.0 && before.started_at <= wall(), "{before:?}");
        assert!(
            before.threads > 0 && before.virtual_bytes > before.resident_bytes && before.resident_bytes > 0
        );
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let after = process();
        assert!(after.files_open >= files.len() as u64 && after.files_open < after.files_max, "{after:?}");
        assert!(before.started_at.total_cmp(&after.started_at).is_eq());
    }

    #[test]
    fn this_machine_has_facts_cores_and_clocks() {
        let facts = Facts::read(Path::new("/"));
        assert!(facts.kernel.is_some() && facts.memory_available > Some(0));
        assert!(!available_cores().is_empty() && nofile_limit() > 0 && rss_bytes() > 0);
        assert!(has_address([127, 9, 9, 9].into()) && !has_address([192, 0, 2, 1].into()));
        assert!(monotonic_now() <= monotonic_now());
    }
}
