//! Network cards that routes lead to.

use std::collections::BTreeSet;

use scale_api::http::DoctorEntry;
use scale_api::units::thousands;
use scale_ring::host::facts::{Cpus, Facts, Nic};

use super::{Is, Seen, cores_named, entry, list, ok};

/// In Mbit/s: 20,000 streams of 40 KB/s each way fill it six times.
const SPEED_LEAST: u32 = 1000;
/// IPv6 needs it (RFC 8200, section 5).
const MTU_LEAST: u32 = 1280;
/// Echoes of a tick come together: a ring of fewer slots drops some.
const RING_LEAST: u32 = 1024;
/// The daemon that moves interrupts about while a run goes.
const BALANCER: &str = "irqbalance";

/// All cards that routes lead to: those of the default route in full, of the others the link alone.
pub fn examine(seen: &Seen<'_>) -> Vec<DoctorEntry> {
    let facts = seen.facts;
    let main = facts.routes.default().map_or_else(Vec::new, |name| facts.cards(name));
    let cards = facts.nics.iter().filter(|(_, nic)| nic.driver.is_some());
    let each = cards.flat_map(|(name, nic)| {
        if main.contains(&name.as_str()) { card(seen.cores, facts, name, nic) } else { vec![link(name, nic)] }
    });
    let mut entries: Vec<DoctorEntry> = each.collect();
    if entries.is_empty() {
        let value = "no route leads to a card with a driver: a container's, or loopback alone";
        entries.push(ok("NIC", value, "/proc/net/route, /proc/net/ipv6_route, /sys/class/net"));
    }
    entries
}

/// The rest of what there is to say of cards below `interfaces` that the default route does not use.
pub fn towards(cores: &[usize], facts: &Facts, interfaces: &BTreeSet<String>) -> Vec<DoctorEntry> {
    let main = facts.routes.default().map_or_else(Vec::new, |name| facts.cards(name));
    let below = interfaces.iter().flat_map(|name| facts.cards(name));
    let names: BTreeSet<&str> = below.filter(|name| !main.contains(name)).collect();
    let cards = names.into_iter().filter_map(|name| Some((name, facts.nics.get(name)?)));
    // The link stands among the host's own lines.
    cards.flat_map(|(name, nic)| card(cores, facts, name, nic).into_iter().skip(1)).collect()
}

fn card(cores: &[usize], facts: &Facts, name: &str, nic: &Nic) -> Vec<DoctorEntry> {
    vec![
        link(name, nic),
        queues(cores, name, nic),
        interrupts(facts, name, nic),
        node(cores, &facts.cpus, name, nic),
        offloads(name, nic),
        ring(name, nic),
    ]
}

fn link(name: &str, nic: &Nic) -> DoctorEntry {
    let speed =
        nic.speed.map_or("speed unknown".into(), |speed| format!("{} Mbit/s", thousands(speed.into())));
    let parts = [
        nic.driver.clone(),
        Some(speed),
        nic.duplex.as_ref().map(|duplex| format!("{duplex} duplex")),
        nic.mtu.map(|mtu| format!("MTU {mtu}")),
        nic.state.clone(),
    ];
    let is_half = nic.duplex.as_deref() == Some("half");
    let is_slow = nic.speed.is_some_and(|speed| speed < SPEED_LEAST);
    let is_small = nic.mtu.is_some_and(|mtu| mtu < MTU_LEAST);
    entry(
        format!("NIC {name}"),
        Is::warn_if(is_half || is_slow || is_small || nic.state.as_deref() == Some("down")),
        parts.into_iter().flatten().collect::<Vec<_>>().join(", "),
        format!("/sys/class/net/{name}/{{speed,duplex,mtu,operstate}}"),
        if is_small {
            format!("ip link set {name} mtu 1500")
        } else {
            format!("ip link set {name} up; see cable and switch port (ethtool {name})")
        },
    )
}

/// One queue's packets are one core's work, unless others take it over (RPS).
fn queues(cores: &[usize], name: &str, nic: &Nic) -> DoctorEntry {
    let workers = cores.len();
    let most = nic.settings.channels.map_or(0, |(_, most)| most as usize);
    let is_few = nic.receive_queues * 2 < workers && nic.spread_queues == 0;
    let spread =
        if nic.spread_queues > 0 { format!(", {} spread by RPS", nic.spread_queues) } else { String::new() };
    entry(
        format!("{name} queues"),
        Is::warn_if(nic.receive_queues > 0 && is_few),
        format!("{} receive, {} send, for {workers} workers{spread}", nic.receive_queues, nic.send_queues),
        format!("/sys/class/net/{name}/queues"),
        if most > nic.receive_queues {
            format!("ethtool -L {name} combined {}", most.min(workers))
        } else {
            // All cores: the mask is a number of 32 bits, and a host with one queue has few.
            format!("for q in /sys/class/net/{name}/queues/rx-*; do echo ffffffff > $q/rps_cpus; done")
        },
    )
}

fn interrupts(facts: &Facts, name: &str, nic: &Nic) -> DoctorEntry {
    let title = format!("{name} interrupts");
    let source = "/proc/irq/*/smp_affinity_list";
    if nic.interrupts.is_empty() {
        return ok(title, "none of its own that this process sees", source);
    }
    let cores: Vec<usize> =
        nic.interrupts.values().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let is_balanced = facts.sample.processes.iter().any(|process| process.name == BALANCER);
    let is_lonely = cores.len() == 1 && nic.receive_queues > 1;
    let numbers: Vec<String> = nic.interrupts.keys().map(u32::to_string).collect();
    let moved = if is_balanced { "; irqbalance moves them about" } else { "" };
    entry(
        title,
        Is::warn_if(is_lonely || is_balanced),
        format!("{} on {}{moved}", numbers.len(), cores_named(&cores)),
        source,
        if is_balanced {
            "systemctl stop irqbalance, or end it otherwise".into()
        } else {
            let all: Vec<usize> = facts.cpus.each.keys().copied().collect();
            format!(
                "c=({}); for i in {}; do echo ${{c[n++ % ${{#c[@]}}]}} > /proc/irq/$i/smp_affinity_list; done",
                all.iter().map(usize::to_string).collect::<Vec<_>>().join(" "),
                numbers.join(" ")
            )
        },
    )
}

fn node(workers: &[usize], cpus: &Cpus, name: &str, nic: &Nic) -> DoctorEntry {
    let (title, source) = (format!("{name} NUMA node"), format!("/sys/class/net/{name}/device/numa_node"));
    let Some(node) = nic.node.filter(|_| cpus.nodes().len() > 1) else {
        return ok(title, "there is but one", source);
    };
    let (near, far): (Vec<usize>, Vec<usize>) =
        workers.iter().partition(|&core| cpus.each.get(core).is_none_or(|cpu| cpu.node == Some(node)));
    let all = || -> Vec<usize> {
        cpus.each.iter().filter(|(_, cpu)| cpu.node == Some(node)).map(|(&core, _)| core).collect()
    };
    entry(
        title,
        Is::warn_if(!far.is_empty()),
        if far.is_empty() {
            format!("{node}, as all workers")
        } else {
            format!("{node}; workers {} are on another", list(&far))
        },
        source,
        format!("scaled --cores {}", list(&if near.is_empty() { all() } else { near })),
    )
}

fn offloads(name: &str, nic: &Nic) -> DoctorEntry {
    let (title, source) = (format!("{name} offloads"), "ioctl(SIOCETHTOOL)");
    let offloads = &nic.settings.offloads;
    if offloads.is_empty() {
        return ok(title, "unknown", source);
    }
    let off: Vec<String> =
        offloads.iter().filter(|(_, is_on)| !is_on).map(|(offload, _)| format!("{offload} on")).collect();
    let word = |&(offload, is_on): &(&str, bool)| format!("{offload} {}", if is_on { "on" } else { "off" });
    entry(
        title,
        Is::warn_if(!off.is_empty()),
        offloads.iter().map(word).collect::<Vec<_>>().join(", "),
        source,
        format!("ethtool -K {name} {}", off.join(" ")),
    )
}

fn ring(name: &str, nic: &Nic) -> DoctorEntry {
    let (title, source) = (format!("{name} receive ring"), "ioctl(SIOCETHTOOL)");
    let missed = nic.missed.unwrap_or(0);
    let lost =
        if missed > 0 { format!("; {} packets found no room", thousands(missed)) } else { String::new() };
    let Some((slots, most)) = nic.settings.ring else {
        return ok(title, format!("unknown{lost}"), source);
    };
    entry(
        title,
        Is::warn_if(slots < RING_LEAST.min(most)),
        format!("{slots} slots of {most}{lost}"),
        source,
        format!("ethtool -G {name} rx {}", most.min(4 * RING_LEAST)),
    )
}
