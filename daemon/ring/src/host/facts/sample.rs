//! What runs here beside us: two samples and the time between them say who takes how much.

use super::tree::Tree;

/// USER_HZ, in which /proc counts (proc(5)); 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Programs that run others under their own name, and load generators that come so.
const RUNTIMES: [&str; 4] = ["java", "beam.smp", "node", "MainThread"];
const HOSTED: [&str; 4] = ["jmeter", "gatling", "tsung", "artillery"];

/// One look at the counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Of all cores together.
    pub times: Times,
    /// Processes, by pid.
    pub processes: Vec<Process>,
    /// This process' own number.
    pub own: u32,
}

/// CPU time since boot, in ticks (/proc/stat).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// In all.
    pub all: u64,
    /// Taken by the hypervisor for others.
    pub steal: u64,
}

/// A process (/proc/PID/stat).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its program's name, 15 bytes at most.
    pub name: String,
    /// CPU time that it has taken, in ticks.
    pub ticks: u64,
    /// Its start after boot, in ticks.
    pub started: u64,
}

/// Others' share of this host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Others {
    /// Processes that run, by pid.
    pub running: Vec<(u32, String)>,
    /// Those that took CPU time: how many cores' worth, the most first.
    pub busy: Vec<(u32, String, f64)>,
    /// Share of all CPU time that the hypervisor took between the samples.
    pub steal: Option<f64>,
    /// The same since boot.
    pub steal_since_boot: Option<f64>,
}

impl Sample {
    pub(super) fn read(tree: &Tree<'_>) -> Self {
        let own = tree.text("proc/self/stat").unwrap_or_default();
        let pids = tree.numbered("proc", "").into_iter().filter_map(|pid| u32::try_from(pid).ok());
        Self {
            times: times(tree).unwrap_or_default(),
            processes: pids.filter_map(|pid| process(tree, pid)).collect(),
            own: own.split(' ').next().and_then(|pid| pid.parse().ok()).unwrap_or(0),
        }
    }

    /// What went on since `before`, `seconds` ago, but for this process.
    pub fn since(&self, before: &Self, seconds: f64) -> Others {
        let others = || self.processes.iter().filter(|process| process.pid != before.own);
        let taken = |process: &Process| {
            // A number may have gone to another process meanwhile; kernel threads change their names.
            let at = before.processes.binary_search_by_key(&process.pid, |process| process.pid).ok();
            let earlier =
                at.map(|at| &before.processes[at]).filter(|earlier| earlier.started == process.started);
            let ticks = process.ticks.saturating_sub(earlier.map_or(0, |earlier| earlier.ticks));
            (process.pid, process.name.clone(), ticks as f64 / TICKS_PER_SECOND / seconds.max(0.001))
        };
        let mut busy: Vec<_> = others().map(taken).filter(|(.., cores)| *cores > 0.0).collect();
        busy.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
        let share = |steal: u64, all: u64| (all > 0).then(|| steal as f64 / all as f64);
        let (now, then) = (self.times, before.times);
        Others {
            running: others().map(|process| (process.pid, process.name.clone())).collect(),
            busy,
            steal: share(now.steal.saturating_sub(then.steal), now.all.saturating_sub(then.all)),
            steal_since_boot: share(now.steal, now.all),
        }
    }
}

/// user nice system idle iowait irq softirq steal; guests' time is within user and nice.
fn times(tree: &Tree<'_>) -> Option<Times> {
    let text = tree.text("proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).take(8).collect();
    Some(Times { all: ticks.iter().sum(), steal: ticks.get(7).copied().unwrap_or(0) })
}

fn process(tree: &Tree<'_>, pid: u32) -> Option<Process> {
    let stat = tree.text(&format!("proc/{pid}/stat"))?;
    // The name between the parentheses may hold anything.
    let (front, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(|word| word.parse::<u64>().unwrap_or(0));
    let ticks = fields.next()? + fields.next()?;
    // Children's times, priority, niceness, threads and a zero are between field 15 and field 22.
    let started = fields.nth(6).unwrap_or(0);
    let name = front.split_once('(')?.1;
    let is_shared = RUNTIMES.contains(&name);
    let hosted = if is_shared { hosted(tree, pid) } else { None };
    Some(Process { pid, name: hosted.unwrap_or(name).to_owned(), ticks, started })
}

/// What a runtime's process runs, if that is a load generator.
fn hosted(tree: &Tree<'_>, pid: u32) -> Option<&'static str> {
    let line = tree.text(&format!("proc/{pid}/cmdline"))?.to_lowercase();
    HOSTED.into_iter().find(|name| line.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_thread_that_changes_its_name_has_taken_what_it_took_since_and_a_new_process_all() {
        let process = |pid, name: &str, ticks, started| Process { pid, name: name.into(), ticks, started };
        let sample = |processes| Sample { processes, own: 1, ..Sample::default() };
        let before = sample(vec![
            process(1, "scaled", 0, 5),
            process(5, "kworker/1:1", 900, 7),
            process(6, "a", 800, 8),
        ]);
        let after = sample(vec![
            process(1, "scaled", 50, 5),
            process(5, "kworker/1:1-x", 903, 7),
            process(6, "b", 10, 99),
        ]);
        let others = after.since(&before, 0.1);
        let busy: Vec<(u32, String)> =
            others.busy.iter().map(|(pid, _, cores)| (*pid, format!("{cores:.1}"))).collect();
        assert_eq!(busy, [(6, "1.0".to_owned()), (5, "0.3".to_owned())]);
        assert_eq!(others.running.len(), 2, "without this process");
    }
}
