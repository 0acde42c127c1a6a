//! What the kernel's TCP gives and counts.

use super::tree::Tree;

/// Sizes of a page, in bytes: what tcp_mem counts in.
const PAGE: u64 = 4096;

/// The stack, of this network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stack {
    /// net.ipv4.tcp_mem: low, pressure, high, in bytes.
    pub memory: Option<[u64; 3]>,
    /// What all TCP sockets hold now, in bytes.
    pub memory_used: Option<u64>,
    /// Sockets in TIME_WAIT.
    pub time_wait: Option<u64>,
    /// net.ipv4.tcp_max_tw_buckets.
    pub time_wait_max: Option<u64>,
    /// net.ipv4.tcp_tw_reuse: 0 never, 1 always, 2 on loopback.
    pub time_wait_reuse: Option<u64>,
    /// net.ipv4.tcp_slow_start_after_idle.
    pub slow_start_after_idle: Option<bool>,
    /// net.ipv4.tcp_max_syn_backlog.
    pub syn_backlog: Option<u64>,
    /// net.core.netdev_max_backlog.
    pub backlog: Option<u64>,
    /// Packets that found it full, since boot.
    pub backlog_dropped: Option<u64>,
    /// Rounds that ended for want of net.core.netdev_budget, since boot.
    pub squeezed: Option<u64>,
    /// Connections that are tracked, and how many may be; `None`: none are.
    pub tracked: Option<(u64, u64)>,
    /// net.ipv6.conf.all.disable_ipv6; `None`: there is no IPv6.
    pub ipv6_disabled: Option<bool>,
}

impl Stack {
    pub(super) fn read(tree: &Tree<'_>) -> Self {
        let number = |path: &str| tree.number::<u64>(path);
        let sockets = tree.text("proc/net/sockstat").unwrap_or_default();
        let tcp = sockets.lines().find_map(|line| line.strip_prefix("TCP:"));
        let counted = |name: &str| -> Option<u64> {
            let mut words = tcp?.split_whitespace();
            words.find(|&word| word == name)?;
            words.next()?.parse().ok()
        };
        let (backlog_dropped, squeezed) = softnet(tree).unzip();
        Self {
            memory: tree.three("proc/sys/net/ipv4/tcp_mem").map(|pages| pages.map(|pages| pages * PAGE)),
            memory_used: counted("mem").map(|pages| pages * PAGE),
            time_wait: counted("tw"),
            time_wait_max: number("proc/sys/net/ipv4/tcp_max_tw_buckets"),
            time_wait_reuse: number("proc/sys/net/ipv4/tcp_tw_reuse"),
            slow_start_after_idle: number("proc/sys/net/ipv4/tcp_slow_start_after_idle").map(|is| is != 0),
            syn_backlog: number("proc/sys/net/ipv4/tcp_max_syn_backlog"),
            backlog: number("proc/sys/net/core/netdev_max_backlog"),
            backlog_dropped,
            squeezed,
            tracked: number("proc/sys/net/netfilter/nf_conntrack_count")
                .zip(number("proc/sys/net/netfilter/nf_conntrack_max")),
            ipv6_disabled: number("proc/sys/net/ipv6/conf/all/disable_ipv6").map(|is| is != 0),
        }
    }
}

/// /proc/net/softnet_stat: a line a core, hexadecimal; the second word is drops, the third squeezes.
fn softnet(tree: &Tree<'_>) -> Option<(u64, u64)> {
    let text = tree.text("proc/net/softnet_stat")?;
    let word = |line: &str, at: usize| u64::from_str_radix(line.split_whitespace().nth(at)?, 16).ok();
    let each = text.lines().filter_map(|line| Some((word(line, 1)?, word(line, 2)?)));
    Some(each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)))
}
