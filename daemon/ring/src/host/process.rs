//! This process as others see it (proc(5)).

use std::sync::OnceLock;

use super::clocks::{clock_ns, wall_now};
use super::limits::files_limit;

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
