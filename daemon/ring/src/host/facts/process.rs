//! What this process may do, and what its control group gives it.

use super::tree::Tree;

/// include/uapi/linux/capability.h.
const CAP_IPC_LOCK: u32 = 14;

/// This process (proc(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confined {
    /// 0: free, 1: strict, 2: by filters.
    pub seccomp: Option<u32>,
    /// How many filters.
    pub filters: Option<u32>,
    /// Locked memory is not counted for it (CAP_IPC_LOCK).
    pub may_lock: bool,
    /// Cores that its first thread, the control thread, may run on.
    pub control_cores: Vec<usize>,
    /// The kind of container that it is in.
    pub container: Option<String>,
    /// Cores that its control group leaves it; `None`: unknown.
    pub cpuset: Option<(Vec<usize>, String)>,
}

/// A limit of CPU time: how many cores' worth, and the file that says so.
pub type Quota = (f64, String);

impl Confined {
    pub(super) fn read(tree: &Tree<'_>) -> Self {
        let status = tree.text("proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let number = |name: &str| field(name).and_then(|value| value.parse().ok());
        Self {
            seccomp: number("Seccomp"),
            filters: number("Seccomp_filters"),
            may_lock: field("CapEff")
                .and_then(|mask| u64::from_str_radix(mask, 16).ok())
                .is_some_and(|mask| mask & 1 << CAP_IPC_LOCK != 0),
            control_cores: field("Cpus_allowed_list").map(super::tree::cores).unwrap_or_default(),
            container: container(tree),
            cpuset: cpuset(tree),
        }
    }
}

/// By the marks that runtimes leave.
fn container(tree: &Tree<'_>) -> Option<String> {
    if let Some(kind) = tree.line("run/systemd/container") {
        return Some(kind);
    }
    let marks = [("run/.containerenv", "podman"), (".dockerenv", "docker")];
    if let Some((_, kind)) = marks.iter().find(|(file, _)| tree.exists(file)) {
        return Some((*kind).into());
    }
    let groups = tree.text("proc/self/cgroup").unwrap_or_default();
    let names = [("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("lxc", "lxc")];
    names.iter().find(|(word, _)| groups.contains(word)).map(|(_, kind)| (*kind).into())
}

/// The folders of this process' control group that `controller` rules, innermost first, up to the root: of version 2,
/// then of version 1 (cgroups(7)).
fn groups(tree: &Tree<'_>, controller: &str) -> Vec<String> {
    let text = tree.text("proc/self/cgroup").unwrap_or_else(|| "0::/\n".into());
    let mut folders = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let root = if number == "0" {
            // Beside version 1 it is mounted below it.
            if tree.exists("sys/fs/cgroup/unified") {
                "sys/fs/cgroup/unified".into()
            } else {
                "sys/fs/cgroup".into()
            }
        } else if controllers.split(',').any(|name| name == controller) {
            let joined = format!("sys/fs/cgroup/{controllers}");
            if tree.exists(&joined) { joined } else { format!("sys/fs/cgroup/{controller}") }
        } else {
            continue;
        };
        let mut path = path.trim_end_matches('/');
        while !path.is_empty() && !path.contains("..") {
            folders.push(format!("{root}{path}"));
            path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        folders.push(root);
    }
    folders
}

/// The tightest limit from this process' group to the root.
pub(super) fn quota(tree: &Tree<'_>) -> Option<Quota> {
    let of = |folder: &String| -> Option<Quota> {
        let file = format!("{folder}/cpu.max");
        if let Some(text) = tree.text(&file) {
            let mut words = text.split_whitespace();
            let (quota, period) = (words.next()?.parse::<f64>().ok()?, words.next()?.parse::<f64>().ok()?);
            return Some((quota / period, format!("/{file}")));
        }
        let file = format!("{folder}/cpu.cfs_quota_us");
        let quota: f64 = tree.number(&file)?;
        let period: f64 = tree.number(&format!("{folder}/cpu.cfs_period_us"))?;
        // -1: none.
        (quota > 0.0).then(|| (quota / period, format!("/{file}")))
    };
    groups(tree, "cpu").iter().filter_map(of).min_by(|a, b| a.0.total_cmp(&b.0))
}

fn cpuset(tree: &Tree<'_>) -> Option<(Vec<usize>, String)> {
    groups(tree, "cpuset").iter().find_map(|folder| {
        ["cpuset.cpus.effective", "cpuset.effective_cpus"].iter().find_map(|name| {
            let file = format!("{folder}/{name}");
            let cores = tree.cores(&file);
            (!cores.is_empty()).then(|| (cores, format!("/{file}")))
        })
    })
}
