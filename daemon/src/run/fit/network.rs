//! What a plan asks of the network: the card on the way to its targets, connection tracking, slow start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use scale_api::http::DoctorEntry;
use scale_api::units::thousands;

use scale_ring::InterfaceName;

use super::ports::by_row;
use super::{Host, Plan, connections, entry};
use crate::load::{Group, Stage, Traffic};

/// What websocket, TLS or SSH put around a message, at most, in bytes.
const FRAMING: f64 = 64.0;
/// Around a segment, in bytes: TCP with timestamps, IPv6, Ethernet with its gap and preamble.
const HEADERS: f64 = 32.0 + 40.0 + 38.0;
/// Of an MTU, in bytes: what of these is inside it.
const INSIDE: f64 = 72.0;
/// Where an interface does not say, in bytes.
const MTU: u32 = 1500;
/// Above this share of a card's speed, bursts wait.
const FULL: f64 = 0.8;
/// What goes without an answer after a pause (RFC 6928), in bytes.
const FIRST_WINDOW: u32 = 10 * 1460;
/// The least pause after which it does: the least retransmission timeout of Linux, in ns.
const PAUSE_NS: u64 = 200_000_000;
/// Addresses that are named.
const NAMED_MAX: usize = 3;

pub(super) fn examine(plan: &Plan, host: &Host) -> Vec<DoctorEntry> {
    let mut entries: Vec<DoctorEntry> = routes(plan, host).into_iter().collect();
    entries.extend(cards(plan, host));
    entries.extend(tracking(plan, host));
    entries.extend(slow_start(plan, host));
    entries
}

/// Where connections of `group` to `address` leave: interfaces that they share evenly; `None`: nobody knows.
fn ways<'a>(group: &Group, address: IpAddr, host: &'a Host) -> Vec<Option<&'a str>> {
    let is_six = address.is_ipv6();
    // The first ranks take each of the interfaces once.
    let bound = (0..group.ways.interfaces(is_six) as u32).filter_map(|rank| group.ways.origin(rank, is_six));
    let known = |name: String| host.facts.nics.get_key_value(&name).map(|(name, _)| name.as_str());
    let way = |interface: Option<InterfaceName>| match interface {
        Some(name) => known(name.to_string()),
        None => host.facts.routes.interface(address),
    };
    bound.map(|origin| way(origin.interface)).collect()
}

/// Interfaces that the plan's connections leave by, as far as they are known.
pub fn interfaces(plan: &Plan, host: &Host) -> BTreeSet<String> {
    let leaves = |group: &Group| -> BTreeSet<String> {
        let addresses = plan.addresses.iter().flatten();
        let ways = addresses.flat_map(|address| ways(group, address.ip(), host));
        ways.flatten().map(str::to_owned).collect()
    };
    plan.groups.iter().flat_map(leaves).collect()
}

/// No line where this host has no table that could be read.
fn routes(plan: &Plan, host: &Host) -> Option<DoctorEntry> {
    let routes = &host.facts.routes;
    let addresses: BTreeSet<IpAddr> = plan.addresses.iter().flatten().map(|address| address.ip()).collect();
    // Whoever binds to an interface asks no table.
    let is_bound = |group: &Group| {
        [false, true]
            .iter()
            .any(|&six| group.ways.origin(0, six).is_some_and(|origin| origin.interface.is_some()))
    };
    if routes.is_empty() || plan.groups.iter().any(is_bound) {
        return None;
    }
    let unknown = addresses.iter().filter(|&&address| routes.interface(address).is_none());
    let lost: Vec<String> = unknown.map(ToString::to_string).collect();
    let first = lost.first()?;
    Some(entry(
        "plan: routes",
        "warn",
        format!(
            "none that is in the main table leads to {} of the addresses: {}",
            thousands(lost.len() as u64),
            lost[..lost.len().min(NAMED_MAX)].join(", ")
        ),
        "/proc/net/route, /proc/net/ipv6_route",
        &format!("see `ip route get {first}`, and add a route"),
    ))
}

/// A group's most bytes a second and stream on the wire, in the direction that carries more.
fn wire(group: &Group, mtu: u32) -> f64 {
    let of = |stage: &Stage| {
        let message = f64::from(stage.message.max()) + FRAMING;
        let segments = (message / (f64::from(mtu) - INSIDE).max(1.0)).ceil();
        // Answers of the other direction take one more.
        (message + HEADERS * (segments + 1.0)) * 1e9 / stage.tick_ns as f64
    };
    if group.traffic == Traffic::Receive { 0.0 } else { group.stages.iter().map(of).fold(0.0, f64::max) }
}

/// Each interface's bytes a second on the wire.
fn loads(plan: &Plan, host: &Host) -> BTreeMap<String, f64> {
    let mut loads = BTreeMap::new();
    let workers = plan.cores.len();
    for group in plan.groups.iter() {
        let counts = by_row(plan, group);
        let all: u64 = counts.iter().sum();
        let streams_per_connection = f64::from(group.conns_max()) / all.max(1) as f64;
        for (row, addresses) in counts.chunks(workers).zip(plan.addresses.iter()) {
            let streams = row.iter().sum::<u64>() as f64 * streams_per_connection / addresses.len() as f64;
            for address in addresses.iter().filter(|_| streams > 0.0) {
                let ways = ways(group, address.ip(), host);
                let each = streams / ways.len().max(1) as f64;
                for name in ways.into_iter().flatten() {
                    let Some(nic) = host.facts.nics.get(name) else { continue };
                    *loads.entry(name.to_owned()).or_default() += each * wire(group, nic.mtu.unwrap_or(MTU));
                }
            }
        }
    }
    loads
}

fn cards(plan: &Plan, host: &Host) -> Vec<DoctorEntry> {
    let card = |(name, bytes): (String, f64)| {
        let nic = host.facts.nics.get(&name)?;
        // What is neither a card nor made of some says a speed that means nothing.
        let speed = nic.speed.filter(|_| nic.driver.is_some() || !nic.below.is_empty());
        let megabits = bytes * 8.0 / 1e6;
        let share = speed.map(|speed| megabits / f64::from(speed));
        let status = match share {
            Some(share) if share > 1.0 => "fail",
            Some(share) if share > FULL => "warn",
            _ => "ok",
        };
        let value = match speed {
            Some(speed) => {
                format!("{megabits:.1} of {} Mbit/s each way, headers and all", thousands(speed.into()))
            }
            None => format!("{megabits:.1} Mbit/s each way, headers and all; its speed is not known"),
        };
        Some(entry(
            &format!("plan: NIC {name}"),
            status,
            value,
            &format!("/proc/net/route, /sys/class/net/{name}/speed"),
            "lower --conns or --rate, lengthen --tick-interval, or share the load among hosts",
        ))
    };
    loads(plan, host).into_iter().filter_map(card).collect()
}

/// Where nothing is tracked although connections are open, no rule asks for it.
fn tracking(plan: &Plan, host: &Host) -> Option<DoctorEntry> {
    let (now, most) = host.facts.stack.tracked?;
    let needed: u64 = plan.groups.iter().map(|group| connections(plan, group)).sum();
    let is_short = now.saturating_add(needed) > most;
    let status = match (is_short, now > 0) {
        (false, _) => "ok",
        (true, true) => "fail",
        (true, false) => "warn",
    };
    Some(entry(
        "plan: connection tracking",
        status,
        format!(
            "{} connections, there is room for {}",
            thousands(needed),
            thousands(most.saturating_sub(now))
        ),
        "/proc/sys/net/netfilter/nf_conntrack_{count,max}",
        &format!(
            "sysctl -w net.netfilter.nf_conntrack_max={}, or a rule with `notrack`",
            (now + needed).next_power_of_two()
        ),
    ))
}

/// A line only where it decides something: a message that takes more than one window after a pause.
fn slow_start(plan: &Plan, host: &Host) -> Option<DoctorEntry> {
    let is_slow = |stage: &Stage| stage.message.max() > FIRST_WINDOW && stage.tick_ns > PAUSE_NS;
    let group = plan.groups.iter().find(|group| group.stages.iter().any(is_slow))?;
    let is_on = host.facts.stack.slow_start_after_idle?;
    let value = if is_on {
        format!("messages of {} need several round trips after each pause", group.name)
    } else {
        "off, as large messages with pauses want it".into()
    };
    Some(entry(
        "plan: slow start",
        if is_on { "warn" } else { "ok" },
        value,
        "/proc/sys/net/ipv4/tcp_slow_start_after_idle",
        "sysctl -w net.ipv4.tcp_slow_start_after_idle=0, unless the target's users have it on, too",
    ))
}

#[cfg(test)]
mod tests;
