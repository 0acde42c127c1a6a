//! This machine: clocks, cores, limits, and the facts under /proc that decide a result.
//!
//! The clocks of the whole project are read here and in the ring, nowhere else.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use crate::Time;

fn clock_ns(clock: libc::clockid_t) -> u64 {
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

/// Resident memory of this process, in bytes.
pub fn rss_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages =
        pages.as_deref().and_then(|text| text.split(' ').nth(1)).and_then(|text| text.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// What others say of a process of theirs, too: /proc/self/stat and /proc/self/fd (proc(5)).
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    /// Its start, in seconds since 1970; the same in every answer.
    pub started_at: f64,
    /// Threads.
    pub threads: u64,
    /// Virtual memory.
    pub virtual_bytes: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub files_open: u64,
    /// How many it may open.
    pub files_max: u64,
}

/// This process; what cannot be read is zero.
pub fn process() -> Process {
    static STARTED_AT: OnceLock<f64> = OnceLock::new();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before the last `)` may hold anything; the state, field 3, comes first behind it.
    let fields: Vec<u64> = stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| {
        rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect()
    });
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    // SAFETY: plain values only.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let started_at = STARTED_AT.get_or_init(|| {
        let since_boot = clock_ns(libc::CLOCK_BOOTTIME) as f64 / 1e9;
        let now = wall_now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        now - since_boot + field(22) as f64 / per_second
    });
    Process {
        started_at: *started_at,
        threads: field(20),
        virtual_bytes: field(23),
        resident_bytes: field(24) * 4096,
        files_open: files_open(),
        files_max: files_limit().rlim_cur,
    }
}

/// The size of the folder is their number since Linux 6.2; before that they are counted.
fn files_open() -> u64 {
    let len = std::fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len());
    if len > 0 {
        return len;
    }
    // One of them is the folder's own.
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| (entries.count() as u64).saturating_sub(1))
}

fn files_limit() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct lives across the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit
}

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
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the struct lives across the call; 0 is this thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Raises the limit of open files to what is allowed and returns it.
pub fn nofile_limit() -> u64 {
    let limit = files_limit();
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the struct lives across the call.
    let is_raised = limit.rlim_cur < limit.rlim_max
        && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0;
    if is_raised { raised.rlim_cur } else { limit.rlim_cur }
}

/// Limit of locked memory, in bytes; `None`: unlimited.
pub fn memlock_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct lives across the call.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// A seed that nobody can guess (getrandom(2)).
pub fn random_seed() -> u64 {
    let mut seed = 0u64;
    // SAFETY: eight bytes of an integer of ours.
    unsafe { libc::getrandom((&raw mut seed).cast(), 8, 0) };
    seed
}

/// Keeps secrets out of core files and from ptrace by others (prctl(2)).
pub fn set_not_dumpable() {
    // SAFETY: plain values only.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
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
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// The effective user of this process.
pub fn effective_uid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

fn first_number(path: &str) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

pub(crate) fn io_uring_disabled() -> Option<u32> {
    first_number("/proc/sys/kernel/io_uring_disabled")
}

pub(crate) fn somaxconn() -> i32 {
    first_number("/proc/sys/net/core/somaxconn").and_then(|n| i32::try_from(n).ok()).unwrap_or(4096)
}

/// What the kernel's files say; `None` where a file is missing or unreadable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Release, as `uname -r`.
    pub kernel: Option<String>,
    /// kernel.io_uring_disabled: 0, 1 or 2.
    pub io_uring_disabled: Option<u32>,
    /// net.ipv4.ip_local_port_range.
    pub port_range: Option<(u16, u16)>,
    /// net.ipv4.ip_local_reserved_ports, ascending.
    pub ports_reserved: Vec<u16>,
    /// net.core.somaxconn.
    pub somaxconn: Option<u64>,
    /// net.ipv4.tcp_mem's last figure, in bytes.
    pub tcp_mem_bytes: Option<u64>,
    /// net.ipv4.tcp_rmem: least, default, most, in bytes.
    pub tcp_rmem: Option<[u64; 3]>,
    /// net.ipv4.tcp_wmem: likewise.
    pub tcp_wmem: Option<[u64; 3]>,
    /// MemAvailable, in bytes.
    pub memory_available: Option<u64>,
    /// cgroup v2 cpu.max as cores; `None`: no limit.
    pub cpu_quota: Option<f64>,
    /// Swap in use, in bytes.
    pub swap_used: Option<u64>,
}

impl Facts {
    /// Reads the facts below `root` (`/` for this machine).
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        let numbers = |path: &str| -> Option<Vec<u64>> {
            text(path)?.split_whitespace().map(|word| word.parse().ok()).collect()
        };
        let number = |path: &str| numbers(path).and_then(|numbers| numbers.first().copied());
        let three = |path: &str| numbers(path).and_then(|numbers| <[u64; 3]>::try_from(numbers).ok());
        let meminfo = text("proc/meminfo").unwrap_or_default();
        let memory = |name: &str| -> Option<u64> {
            let line = meminfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
        };
        Self {
            kernel: text("proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            io_uring_disabled: number("proc/sys/kernel/io_uring_disabled").map(|n| n as u32),
            port_range: numbers("proc/sys/net/ipv4/ip_local_port_range").and_then(|range| {
                Some((u16::try_from(*range.first()?).ok()?, u16::try_from(*range.get(1)?).ok()?))
            }),
            ports_reserved: text("proc/sys/net/ipv4/ip_local_reserved_ports")
                .map(|t| ports(&t))
                .unwrap_or_default(),
            somaxconn: number("proc/sys/net/core/somaxconn"),
            tcp_mem_bytes: three("proc/sys/net/ipv4/tcp_mem").map(|pages| pages[2] * 4096),
            tcp_rmem: three("proc/sys/net/ipv4/tcp_rmem"),
            tcp_wmem: three("proc/sys/net/ipv4/tcp_wmem"),
            memory_available: memory("MemAvailable:"),
            cpu_quota: text("sys/fs/cgroup/cpu.max").and_then(|text| {
                let mut words = text.split_whitespace();
                let (quota, period) =
                    (words.next()?.parse::<f64>().ok()?, words.next()?.parse::<f64>().ok()?);
                Some(quota / period)
            }),
            swap_used: memory("SwapTotal:").and_then(|total| Some(total - memory("SwapFree:")?)),
        }
    }
}

/// `8080,9000-9002` as ports, ascending.
fn ports(text: &str) -> Vec<u16> {
    let mut ports: Vec<u16> = text
        .trim()
        .split(',')
        .filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some(from.trim().parse::<u16>().ok()?..=to.trim().parse::<u16>().ok()?)
        })
        .flatten()
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
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
