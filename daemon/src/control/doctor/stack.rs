//! The kernel's TCP.

use scale_api::http::DoctorEntry;
use scale_api::units::thousands;

use super::{Is, Seen, entry, ok, shown, size};

/// What a server on this host is asked by 20,000 streams that connect at once.
const LISTEN_LEAST: u64 = 4096;
/// Each of 20,000 sockets may take the default, in bytes.
const BUFFER_DEFAULT_MAX: u64 = 1 << 20;
/// A window below this holds back 4 KiB a tick over a long way, in bytes.
const BUFFER_MOST_LEAST: u64 = 256 << 10;
/// Packets that 20,000 streams of a tick may have come at once.
const BACKLOG_LEAST: u64 = 16_384;
/// Beyond this share of what there may be, more will not do.
const FULL: f64 = 0.8;

pub fn examine(seen: &Seen<'_>) -> Vec<DoctorEntry> {
    vec![
        ports(seen),
        time_wait(seen),
        memory(seen),
        buffers(seen),
        slow_start(seen),
        listen(seen),
        backlog(seen),
        tracking(seen),
        six(seen),
    ]
}

fn is_full(now: Option<u64>, most: Option<u64>) -> bool {
    now.zip(most).is_some_and(|(now, most)| now as f64 > FULL * most as f64)
}

fn number(value: Option<u64>) -> String {
    shown(value, thousands)
}

fn ports(seen: &Seen<'_>) -> DoctorEntry {
    let range = shown(seen.facts.port_range, |(from, to)| format!("{from} to {to}"));
    let reserved = thousands(seen.facts.ports_reserved.len() as u64);
    ok(
        "source ports",
        format!("scaled chooses among all from 1025 but {reserved} reserved; others use {range}"),
        "/proc/sys/net/ipv4/ip_local_{port_range,reserved_ports}",
    )
}

fn time_wait(seen: &Seen<'_>) -> DoctorEntry {
    let stack = &seen.facts.stack;
    let reuse = match stack.time_wait_reuse {
        Some(0) => "never",
        Some(1) => "always",
        Some(2) => "on loopback",
        _ => "unknown",
    };
    entry(
        "TIME_WAIT",
        Is::warn_if(is_full(stack.time_wait, stack.time_wait_max)),
        format!("{} of {}; reused {reuse}", number(stack.time_wait), number(stack.time_wait_max)),
        "/proc/net/sockstat, /proc/sys/net/ipv4/tcp_max_tw_buckets",
        "wait a minute, or sysctl -w net.ipv4.tcp_max_tw_buckets=1048576",
    )
}

fn memory(seen: &Seen<'_>) -> DoctorEntry {
    let stack = &seen.facts.stack;
    let [_, pressure, most] = stack.memory.map_or([None; 3], |memory| memory.map(Some));
    entry(
        "TCP memory",
        Is::warn_if(stack.memory_used.zip(pressure).is_some_and(|(used, pressure)| used > pressure)),
        format!("{} in use of {}", shown(stack.memory_used, size), shown(most, size)),
        "/proc/net/sockstat, /proc/sys/net/ipv4/tcp_mem",
        "end what holds it (ss -tm), or raise net.ipv4.tcp_mem (pages of 4 KiB: low, pressure, most)",
    )
}

fn buffers(seen: &Seen<'_>) -> DoctorEntry {
    let facts = seen.facts;
    let one = |sizes: Option<[u64; 3]>| {
        shown(sizes, |[_, default, most]| format!("{}, {} at most", size(default), size(most)))
    };
    let is_bad = |sizes: Option<[u64; 3]>| {
        sizes.is_some_and(|[_, default, most]| default > BUFFER_DEFAULT_MAX || most < BUFFER_MOST_LEAST)
    };
    entry(
        "TCP buffers",
        Is::warn_if(is_bad(facts.tcp_rmem) || is_bad(facts.tcp_wmem)),
        format!("receive {}; send {}", one(facts.tcp_rmem), one(facts.tcp_wmem)),
        "/proc/sys/net/ipv4/tcp_{rmem,wmem}",
        "sysctl -w net.ipv4.tcp_rmem='4096 131072 6291456' net.ipv4.tcp_wmem='4096 16384 4194304'",
    )
}

/// A plan says whether it decides anything.
fn slow_start(seen: &Seen<'_>) -> DoctorEntry {
    let is_on = seen.facts.stack.slow_start_after_idle;
    let value = shown(is_on, |is_on| if is_on { "on" } else { "off" }.into());
    ok("slow start after idle", value, "/proc/sys/net/ipv4/tcp_slow_start_after_idle")
}

fn listen(seen: &Seen<'_>) -> DoctorEntry {
    let (accepted, opening) = (seen.facts.somaxconn, seen.facts.stack.syn_backlog);
    entry(
        "listen backlog",
        Is::warn_if(accepted.is_some_and(|n| n < LISTEN_LEAST)),
        format!("{}, half open {}; of servers on this host", number(accepted), number(opening)),
        "/proc/sys/net/core/somaxconn, /proc/sys/net/ipv4/tcp_max_syn_backlog",
        "sysctl -w net.core.somaxconn=65535 net.ipv4.tcp_max_syn_backlog=65535",
    )
}

/// Drops are counted since boot: what has been raised since is well.
fn backlog(seen: &Seen<'_>) -> DoctorEntry {
    let stack = &seen.facts.stack;
    let is_short = stack.backlog.is_none_or(|packets| packets < BACKLOG_LEAST);
    entry(
        "packet backlog",
        Is::warn_if(is_short && stack.backlog_dropped.is_some_and(|dropped| dropped > 0)),
        stack.backlog_dropped.map_or_else(
            || number(stack.backlog),
            |dropped| {
                format!(
                    "{}; since boot {} packets dropped, {} rounds cut short",
                    number(stack.backlog),
                    thousands(dropped),
                    number(stack.squeezed)
                )
            },
        ),
        "/proc/sys/net/core/netdev_max_backlog, /proc/net/softnet_stat",
        "sysctl -w net.core.netdev_max_backlog=16384 net.core.netdev_budget=600",
    )
}

fn tracking(seen: &Seen<'_>) -> DoctorEntry {
    let source = "/proc/sys/net/netfilter/nf_conntrack_{count,max}";
    let Some((now, most)) = seen.facts.stack.tracked else {
        return ok("connection tracking", "not loaded", source);
    };
    entry(
        "connection tracking",
        Is::warn_if(is_full(Some(now), Some(most))),
        format!("{} of {} tracked", thousands(now), thousands(most)),
        source,
        format!("sysctl -w net.netfilter.nf_conntrack_max={}, or a rule with `notrack`", most * 4),
    )
}

fn six(seen: &Seen<'_>) -> DoctorEntry {
    let way =
        seen.facts.routes.default6().map_or_else(|| "no way out".into(), |name| format!("out by {name}"));
    let value = match seen.facts.stack.ipv6_disabled {
        None => "not there".into(),
        Some(true) => "off".into(),
        Some(false) => format!("on, {way}"),
    };
    ok("IPv6", value, "/proc/sys/net/ipv6/conf/all/disable_ipv6, /proc/net/ipv6_route")
}
