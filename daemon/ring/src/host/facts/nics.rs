//! Network interfaces: what is below them, how they are set, which cores take their interrupts.

use std::collections::BTreeMap;

use super::super::calls::{Calls, Settings};
use super::routes::Routes;
use super::tree::Tree;

/// Interfaces that are looked at: a host of containers has thousands.
const NICS_MAX: usize = 16;
/// A VLAN on a bond on a card.
const DEPTH_MAX: usize = 4;

/// An interface (Documentation/ABI/testing/sysfs-class-net).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nic {
    /// The driver of its device; `None`: no device.
    pub driver: Option<String>,
    /// In Mbit/s; `None`: it does not say.
    pub speed: Option<u32>,
    /// `full` or `half`.
    pub duplex: Option<String>,
    /// In bytes.
    pub mtu: Option<u32>,
    /// `up`, `down`, `unknown`, …
    pub state: Option<String>,
    /// Receive queues.
    pub receive_queues: usize,
    /// Send queues.
    pub send_queues: usize,
    /// Receive queues whose packets other cores take over (RPS).
    pub spread_queues: usize,
    /// NUMA node of its device; `None`: it has none.
    pub node: Option<usize>,
    /// Its interrupts: cores that each goes to.
    pub interrupts: BTreeMap<u32, Vec<usize>>,
    /// What ethtool says.
    pub settings: Settings,
    /// Interfaces that it is made of: a bond's, a VLAN's.
    pub below: Vec<String>,
    /// Packets that came and found no room, since it is up.
    pub missed: Option<u64>,
}

/// Interfaces that routes lead to, and those below them.
pub(super) fn read(tree: &Tree<'_>, calls: &Calls, routes: &Routes) -> BTreeMap<String, Nic> {
    let mut nics = BTreeMap::new();
    let mut next: Vec<String> = routes.interfaces().into_iter().map(str::to_owned).collect();
    for _ in 0..DEPTH_MAX {
        let mut below = Vec::new();
        for name in next {
            if nics.len() < NICS_MAX && !nics.contains_key(&name) && name != "lo" && !name.contains('/') {
                let nic = one(tree, calls, &name);
                below.extend(nic.below.iter().cloned());
                nics.insert(name, nic);
            }
        }
        next = below;
    }
    nics
}

fn one(tree: &Tree<'_>, calls: &Calls, name: &str) -> Nic {
    let folder = format!("sys/class/net/{name}");
    // virtio's interface belongs to a device that belongs to the card.
    let devices = [format!("{folder}/device"), format!("{folder}/device/..")];
    let uevent = tree.text(&format!("{folder}/device/uevent")).unwrap_or_default();
    let queues = tree.names(&format!("{folder}/queues"));
    let count = |prefix: &str| queues.iter().filter(|queue| queue.starts_with(prefix)).count();
    let is_spread = |queue: &&String| {
        let mask = tree.line(&format!("{folder}/queues/{queue}/rps_cpus")).unwrap_or_default();
        mask.chars().any(|digit| !matches!(digit, '0' | ','))
    };
    let names = tree.names(&folder);
    Nic {
        driver: uevent.lines().find_map(|line| line.strip_prefix("DRIVER=")).map(str::to_owned),
        // -1, or an error where the link is down: not known.
        speed: tree.number(&format!("{folder}/speed")).filter(|&speed| speed > 0 && speed < i32::MAX as u32),
        duplex: tree.line(&format!("{folder}/duplex")).filter(|duplex| duplex != "unknown"),
        mtu: tree.number(&format!("{folder}/mtu")),
        state: tree.line(&format!("{folder}/operstate")),
        receive_queues: count("rx-"),
        send_queues: count("tx-"),
        spread_queues: queues.iter().filter(|queue| queue.starts_with("rx-")).filter(is_spread).count(),
        node: devices.iter().find_map(|device| tree.number(&format!("{device}/numa_node"))),
        interrupts: interrupts(tree, &devices),
        settings: calls.card(name),
        below: names.iter().filter_map(|name| name.strip_prefix("lower_")).map(str::to_owned).collect(),
        missed: tree.number(&format!("{folder}/statistics/rx_missed_errors")),
    }
}

/// Those of its device's MSI vectors that something has registered.
fn interrupts(tree: &Tree<'_>, devices: &[String]) -> BTreeMap<u32, Vec<usize>> {
    let of = |device: &String| -> BTreeMap<u32, Vec<usize>> {
        let numbers = tree.numbered(&format!("{device}/msi_irqs"), "");
        let cores = |number: usize| {
            let file = |name: &str| tree.cores(&format!("proc/irq/{number}/{name}"));
            let effective = file("effective_affinity_list");
            if effective.is_empty() { file("smp_affinity_list") } else { effective }
        };
        numbers
            .into_iter()
            .map(|number| (number as u32, cores(number)))
            .filter(|(_, c)| !c.is_empty())
            .collect()
    };
    devices.iter().map(of).find(|interrupts| !interrupts.is_empty()).unwrap_or_default()
}
