//! Cores: who shares one, how fast they run, how deep they sleep, who takes them away.

use std::collections::BTreeMap;

use super::tree::Tree;

const CPUS: &str = "sys/devices/system/cpu";

/// All cores.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cpus {
    /// By number.
    pub each: BTreeMap<usize, Cpu>,
    /// Set aside at boot (`isolcpus`).
    pub isolated: Vec<usize>,
    /// Without the scheduler's tick (`nohz_full`).
    pub tickless: Vec<usize>,
    /// Whether they may run above their base rate, and the file that says so.
    pub boost: Option<(bool, &'static str)>,
    /// Whose virtual machine this is; `None`: nobody's.
    pub hypervisor: Option<String>,
}

/// One core (Documentation/ABI/stable/sysfs-devices-system-cpu).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Logical cores of the same physical one, itself too.
    pub siblings: Vec<usize>,
    /// Its NUMA node.
    pub node: Option<usize>,
    /// What decides its rate; `None`: not this kernel.
    pub governor: Option<String>,
    /// Its idle states, the shallowest first; empty: not this kernel's choice.
    pub idle: Vec<Idle>,
}

/// An idle state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Idle {
    /// Its number.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// How long it takes to wake from it, in µs.
    pub latency_us: u64,
    /// Nobody enters it.
    pub is_disabled: bool,
}

impl Cpus {
    pub(super) fn read(tree: &Tree<'_>) -> Self {
        let nodes: Vec<(usize, Vec<usize>)> = tree
            .numbered("sys/devices/system/node", "node")
            .into_iter()
            .map(|node| (node, tree.cores(&format!("sys/devices/system/node/node{node}/cpulist"))))
            .collect();
        let node_of =
            |core: usize| nodes.iter().find(|(_, cores)| cores.contains(&core)).map(|&(node, _)| node);
        let each = tree.numbered(CPUS, "cpu").into_iter().map(|core| (core, one(tree, core, node_of(core))));
        Self {
            each: each.collect(),
            isolated: tree.cores(&format!("{CPUS}/isolated")),
            tickless: tree.cores(&format!("{CPUS}/nohz_full")),
            boost: boost(tree),
            hypervisor: hypervisor(tree),
        }
    }

    /// NUMA nodes that have cores.
    pub fn nodes(&self) -> Vec<usize> {
        let mut nodes: Vec<usize> = self.each.values().filter_map(|cpu| cpu.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

fn one(tree: &Tree<'_>, core: usize, node: Option<usize>) -> Cpu {
    let folder = format!("{CPUS}/cpu{core}");
    let idle = tree.numbered(&format!("{folder}/cpuidle"), "state").into_iter().map(|number| {
        let state = format!("{folder}/cpuidle/state{number}");
        Idle {
            number,
            name: tree.line(&format!("{state}/name")).unwrap_or_default(),
            latency_us: tree.number(&format!("{state}/latency")).unwrap_or(0),
            is_disabled: tree.number::<u32>(&format!("{state}/disable")) == Some(1),
        }
    });
    Cpu {
        siblings: tree.cores(&format!("{folder}/topology/thread_siblings_list")),
        node,
        governor: tree.line(&format!("{folder}/cpufreq/scaling_governor")),
        idle: idle.collect(),
    }
}

fn boost(tree: &Tree<'_>) -> Option<(bool, &'static str)> {
    let (no_turbo, boost) =
        ("/sys/devices/system/cpu/intel_pstate/no_turbo", "/sys/devices/system/cpu/cpufreq/boost");
    let number = |path: &'static str| tree.number::<u32>(&path[1..]).map(|number| (number, path));
    number(no_turbo)
        .map(|(number, path)| (number == 0, path))
        .or_else(|| number(boost).map(|(number, path)| (number == 1, path)))
}

/// x86 has a flag for it; elsewhere Xen and Linux' own guests say so in files.
fn hypervisor(tree: &Tree<'_>) -> Option<String> {
    let flags = tree.text("proc/cpuinfo").unwrap_or_default();
    let is_flagged = flags
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|flag| flag == "hypervisor"));
    let xen = tree.line("sys/hypervisor/type");
    if !is_flagged && xen.is_none() {
        return None;
    }
    let maker = [tree.line("sys/class/dmi/id/sys_vendor"), tree.line("sys/class/dmi/id/product_name")];
    let maker = maker.into_iter().flatten().collect::<Vec<_>>().join(" ");
    Some(xen.or_else(|| (!maker.is_empty()).then_some(maker)).unwrap_or_else(|| "of unknown make".into()))
}
