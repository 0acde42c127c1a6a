//! The facts of a host that decide a result: read from the files below a root, so that a recorded tree says the same as
//! the machine that it was taken from. Whoever judges them is elsewhere.
//!
//! A fact that is not there, for want of a file or of the right to read it, is `None` or empty; reading never fails.

mod cpu;
mod network;
mod nics;
mod process;
mod routes;
mod sample;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

pub use super::calls::{Discipline, Limits, Settings};
pub use cpu::{Cpu, Cpus, Idle};
pub use network::Stack;
pub use nics::Nic;
pub use process::{Confined, Quota};
pub use routes::Routes;
pub use sample::{Others, Process, Sample};

use super::calls::Calls;
use tree::Tree;

/// What the kernel's files say; `None` where a file is missing or unreadable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Release, as `uname -r`.
    pub kernel: Option<String>,
    /// Which build of it, as `uname -v`.
    pub kernel_build: Option<String>,
    /// kernel.io_uring_disabled: 0, 1 or 2.
    pub io_uring_disabled: Option<u32>,
    /// kernel.io_uring_group: who may use it all the same where that is 1.
    pub io_uring_group: Option<i64>,
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
    /// Cores' worth of CPU time that the control group may take; `None`: no limit.
    pub cpu_quota: Option<f64>,
    /// The file that says so.
    pub cpu_quota_file: Option<String>,
    /// Swap in use, in bytes.
    pub swap_used: Option<u64>,
    /// Swap there is, in bytes.
    pub swap: Option<u64>,
    /// vm.swappiness.
    pub swappiness: Option<u64>,
    /// Limits of this process.
    pub limits: Option<Limits>,
    /// What confines it.
    pub confined: Confined,
    /// Cores.
    pub cpus: Cpus,
    /// The clock source in use, and those that there are.
    pub clock_source: Option<(String, Vec<String>)>,
    /// How well the wall clock is held.
    pub discipline: Option<Discipline>,
    /// The stack.
    pub stack: Stack,
    /// The way to targets.
    pub routes: Routes,
    /// Interfaces that routes lead to, and those below them.
    pub nics: BTreeMap<String, Nic>,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Share of the last 10 s in which something waited for a core (PSI).
    pub cpu_pressure: Option<f64>,
    /// Counters, to be compared with later ones.
    pub sample: Sample,
}

impl Facts {
    /// Reads the facts below `root` (`/` for this machine). It takes milliseconds, on a large host tens of them.
    pub fn read(root: &Path) -> Self {
        let (tree, calls) = (Tree(root), Calls::new(root));
        let quota = process::quota(&tree);
        let stack = Stack::read(&tree);
        let routes = Routes::read(&tree);
        let memory = meminfo(&tree);
        let swap = memory("SwapTotal:");
        Self {
            kernel: tree.line("proc/sys/kernel/osrelease"),
            kernel_build: tree.line("proc/sys/kernel/version"),
            io_uring_disabled: tree.number("proc/sys/kernel/io_uring_disabled"),
            io_uring_group: tree.number("proc/sys/kernel/io_uring_group"),
            port_range: tree.numbers("proc/sys/net/ipv4/ip_local_port_range").and_then(|range| {
                Some((u16::try_from(*range.first()?).ok()?, u16::try_from(*range.get(1)?).ok()?))
            }),
            ports_reserved: tree
                .text("proc/sys/net/ipv4/ip_local_reserved_ports")
                .map(|text| ports(&text))
                .unwrap_or_default(),
            somaxconn: tree.number("proc/sys/net/core/somaxconn"),
            tcp_mem_bytes: stack.memory.map(|[.., most]| most),
            tcp_rmem: tree.three("proc/sys/net/ipv4/tcp_rmem"),
            tcp_wmem: tree.three("proc/sys/net/ipv4/tcp_wmem"),
            memory_available: memory("MemAvailable:"),
            cpu_quota: quota.as_ref().map(|(cores, _)| *cores),
            cpu_quota_file: quota.map(|(_, file)| file),
            swap_used: swap.and_then(|total| Some(total.saturating_sub(memory("SwapFree:")?))),
            swap,
            swappiness: tree.number("proc/sys/vm/swappiness"),
            limits: calls.limits(),
            confined: Confined::read(&tree),
            cpus: Cpus::read(&tree),
            clock_source: clock_source(&tree),
            discipline: calls.discipline(),
            nics: nics::read(&tree, &calls, &routes),
            stack,
            routes,
            load: load(&tree),
            cpu_pressure: pressure(&tree),
            sample: Sample::read(&tree),
        }
    }

    /// Cards that packets of interface `name` leave by: those below it, or itself.
    pub fn cards<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        match self.nics.get(name) {
            None => Vec::new(),
            Some(nic) if nic.below.is_empty() => vec![name],
            // `below` leads down, never in a circle: the kernel sees to it.
            Some(nic) => nic.below.iter().flat_map(|name| self.cards(name)).collect(),
        }
    }

    /// Reads the counters alone, later.
    pub fn sample(root: &Path) -> Sample {
        Sample::read(&Tree(root))
    }

    /// A word that a recorded tree has for what a live machine is asked otherwise.
    pub fn recorded(root: &Path, name: &str) -> Option<String> {
        Calls::new(root).word(name)
    }
}

/// The kernel's release alone, as `uname -r`.
pub fn kernel_release() -> Option<String> {
    Tree(Path::new("/")).line("proc/sys/kernel/osrelease")
}

pub(crate) fn io_uring_disabled() -> Option<u32> {
    Tree(Path::new("/")).number("proc/sys/kernel/io_uring_disabled")
}

pub(crate) fn somaxconn() -> i32 {
    Tree(Path::new("/")).number("proc/sys/net/core/somaxconn").unwrap_or(4096)
}

fn meminfo(tree: &Tree<'_>) -> impl Fn(&str) -> Option<u64> + use<> {
    let text = tree.text("proc/meminfo").unwrap_or_default();
    move |name| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }
}

fn clock_source(tree: &Tree<'_>) -> Option<(String, Vec<String>)> {
    let file = |name: &str| tree.line(&format!("sys/devices/system/clocksource/clocksource0/{name}"));
    let available = file("available_clocksource").unwrap_or_default();
    Some((file("current_clocksource")?, available.split_whitespace().map(str::to_owned).collect()))
}

fn load(tree: &Tree<'_>) -> Option<[f64; 3]> {
    let text = tree.text("proc/loadavg")?;
    let words: Option<Vec<f64>> = text.split_whitespace().take(3).map(|word| word.parse().ok()).collect();
    words?.try_into().ok()
}

/// `some avg10=1.53 …` in percent (Documentation/accounting/psi.rst).
fn pressure(tree: &Tree<'_>) -> Option<f64> {
    let text = tree.text("proc/pressure/cpu")?;
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent = some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    Some(percent.parse::<f64>().ok()? / 100.0)
}

/// `8080,9000-9002` as ports, ascending.
fn ports(text: &str) -> Vec<u16> {
    tree::list(text, u16::MAX.into()).into_iter().filter_map(|port| u16::try_from(port).ok()).collect()
}
