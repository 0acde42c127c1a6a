//! The families of a scrape: first those of a run, then the daemon's own.

use scale_api::report::{Event, Outcome};
use scale_ring::host;

use super::buckets::Buckets;
use super::encode::Encode;
use super::grown::Grown;
use super::table::{self, HISTOGRAMS, Kind, Metric};
use crate::run::fleet::{ByWorkspace, Workspace};
use crate::run::marks::Marks;
use crate::run::supervisor::{ByGroup, Supervisor};
use crate::stream::class::Class;
use crate::stream::flow::Standing;
use crate::stream::meter::Counters;

/// Thresholds that have a metric; the report has all of them.
const THRESHOLDS_MAX: usize = 64;

const STATES: [&str; 7] = ["idle", "ramping", "warm-up", "steady", "paused", "draining", "done"];

/// Outcomes of runs, in the order in which they are counted.
pub const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Passed, "passed"),
    (Outcome::Failed, "failed"),
    (Outcome::Incomplete, "incomplete"),
    (Outcome::Aborted, "aborted"),
];

/// A run as a scrape shows it.
pub struct Seen<'a> {
    /// Its last second.
    pub event: &'a Event,
    /// Its start, in seconds since 1970.
    pub started_at: f64,
    /// Its named moments.
    pub marks: &'a Marks,
    /// In the plan's order.
    pub groups: Vec<ByGroup>,
    /// Its disruptions, streams that they dropped, and those of them that are not open again.
    pub disrupted: (u64, u64, u64),
    /// Completion queue overflows, and receives without a buffer.
    pub ring: (u64, u64),
    /// Source ports that others held.
    pub ports_skipped: u64,
    /// Where metrics are to tell workspaces apart.
    pub workspaces: Option<Vec<ByWorkspace<'a>>>,
}

impl<'a> Seen<'a> {
    /// A run as of now.
    pub fn of(run: &'a Supervisor) -> Self {
        Self {
            event: run.event(),
            started_at: run.started_at(),
            marks: run.marks(),
            groups: run.by_group(),
            disrupted: run.disruption_counts(),
            ring: run.ring_counters(),
            ports_skipped: run.ports_skipped(),
            workspaces: run.by_workspace(),
        }
    }
}

/// The families of a run. Without one, and before its first second, they are there at zero.
pub fn run(out: &mut impl Encode, run: Option<&Seen<'_>>, grown: &Grown) {
    let mut sum = Counters::default();
    run.iter().flat_map(|run| &run.groups).for_each(|group| sum.add(&group.counters));
    state(out, run);
    time_line(out, run, grown);
    judged(out, run.map(|run| run.event));
    let groups = run.map_or(&[][..], |run| &run.groups);
    streams(out, groups);
    disrupted(out, run.map(|run| run.disrupted).unwrap_or_default());
    load(out, &sum);
    by_group(out, groups, grown);
    for (metric, figure) in HISTOGRAMS {
        out.begin(&metric);
        // Coder's dashboards ask for classic buckets, which a Prometheus drops beside native ones.
        let is_native = !metric.name.starts_with("coderd_");
        out.histogram(&[], grown.figure(figure), is_native);
    }
    workers(out, run);
    coder(out, run.and_then(|run| run.workspaces.as_deref()), &sum);
}

fn state(out: &mut impl Encode, run: Option<&Seen<'_>>) {
    let event = run.map(|run| run.event);
    out.begin(&table::RUN_INFO);
    if let Some(event) = event {
        out.value(&[&event.run, event.name.as_deref().unwrap_or_default()], 1.0);
    }
    let now = event.map_or(STATES[0], |event| event.state.as_str());
    out.begin(&table::RUN_STATE);
    for state in STATES {
        out.value(&[state], f64::from(state == now));
    }
    out.single(&table::RUN_STARTED, run.map_or(0.0, |run| run.started_at));
    out.single(&table::RUN_ELAPSED, event.map_or(0.0, |event| event.elapsed));
    out.begin(&table::RUN_REMAINING);
    if let Some(remaining) = event.and_then(|event| event.remaining) {
        out.value(&[], remaining);
    }
    let saturated = event.is_some_and(|event| event.saturated && event.state != "done");
    out.single(&table::SATURATED, f64::from(saturated));
}

fn time_line(out: &mut impl Encode, run: Option<&Seen<'_>>, grown: &Grown) {
    out.begin(&table::STAGE_STARTED);
    for stage in grown.stages() {
        out.value(&[&stage.group, &stage.name], stage.since);
    }
    out.single(&table::MARKS, run.map_or(0.0, |run| run.marks.count() as f64));
    out.begin(&table::MARK_INFO);
    if let Some(text) = run.and_then(|run| run.marks.newest_label()) {
        out.value(&[text], 1.0);
    }
    let at = run.and_then(|run| Some(run.started_at + run.marks.list().last()?.at));
    out.single(&table::MARK_AT, at.unwrap_or(0.0));
}

fn judged(out: &mut impl Encode, event: Option<&Event>) {
    out.begin(&table::THRESHOLD_OK);
    let thresholds = event.map_or(&[][..], |event| &event.thresholds);
    // What has no value yet has nothing to say.
    let known = thresholds.iter().filter(|threshold| threshold.value.is_some() || threshold.ok);
    for threshold in known.take(THRESHOLDS_MAX) {
        out.value(&[&threshold.expression], f64::from(threshold.ok));
    }
    out.begin(&table::OBSERVE);
    for (name, value) in event.iter().flat_map(|event| &event.now.observe) {
        out.value(&[name], *value);
    }
}

fn streams(out: &mut impl Encode, groups: &[ByGroup]) {
    out.begin(&table::STREAMS);
    for group in groups {
        for (name, which) in Standing::NAMED {
            out.value(&[&group.name, name], group.standing[which as usize] as f64);
        }
    }
    out.begin(&table::CONNECTS);
    for group in groups {
        out.value(&[&group.name, "ok"], group.counters.connects as f64);
        for class in Class::ALL {
            out.value(&[&group.name, class.name()], group.counters.failures.0[*class as usize] as f64);
        }
    }
    out.begin(&table::BREAKER_OPEN);
    groups.iter().for_each(|group| out.value(&[&group.name], f64::from(group.is_held)));
    out.begin(&table::DISCONNECTS);
    for group in groups {
        for class in Class::ALL {
            out.value(&[&group.name, class.name()], group.counters.disconnects.0[*class as usize] as f64);
        }
    }
}

fn disrupted(out: &mut impl Encode, (disruptions, dropped, away): (u64, u64, u64)) {
    out.single(&table::DISRUPTIONS, disruptions as f64);
    out.single(&table::DISRUPTION_DROPPED, dropped as f64);
    out.single(&table::STREAMS_AWAY, away as f64);
}

fn load(out: &mut impl Encode, sum: &Counters) {
    out.begin(&table::TICKS_MISSED);
    for (cause, count) in [
        ("generator", sum.missed_generator),
        ("backpressure", sum.missed_backpressure),
        ("disconnected", sum.missed_disconnected),
    ] {
        out.value(&[cause], count as f64);
    }
    for (metric, count) in [
        (&table::RECONNECTS, sum.reconnects),
        (&table::TICKS_DUE, sum.ticks_due),
        (&table::TICKS_SENT, sum.ticks_sent),
        (&table::PAYLOAD_SENT, sum.payload_sent),
        (&table::PAYLOAD_RECEIVED, sum.payload_received),
        (&table::MESSAGES_SENT, sum.messages_sent),
        (&table::MESSAGES_ECHOED, sum.messages_echoed),
        (&table::VERIFY_FAILURES, sum.verify_failures),
        (&table::UNEXPECTED, sum.unexpected_bytes),
    ] {
        out.single(metric, count as f64);
    }
}

fn by_group(out: &mut impl Encode, groups: &[ByGroup], grown: &Grown) {
    out.begin(&table::GROUP_DUE);
    groups.iter().for_each(|group| out.value(&[&group.name], group.counters.ticks_due as f64));
    out.begin(&table::GROUP_SENT);
    groups.iter().for_each(|group| out.value(&[&group.name], group.counters.ticks_sent as f64));
    out.begin(&table::GROUP_RESPONSE);
    let none = Buckets::default();
    for (index, group) in groups.iter().enumerate() {
        out.histogram(&[&group.name], grown.responses().get(index).unwrap_or(&none), true);
    }
}

fn workers(out: &mut impl Encode, run: Option<&Seen<'_>>) {
    let workers = run.map_or(&[][..], |run| &run.event.workers);
    let busy = run.map_or(&[][..], |run| &run.event.now.busy);
    let cpus: Vec<String> = workers.iter().map(|worker| worker.cpu.to_string()).collect();
    out.begin(&table::WORKER_BUSY);
    for (cpu, busy) in cpus.iter().zip(busy) {
        out.value(&[cpu], *busy);
    }
    out.begin(&table::WORKER_TURN);
    for (cpu, worker) in cpus.iter().zip(workers) {
        out.summary(&[cpu], &[(0.99, worker.turn_p99), (1.0, worker.turn_max)]);
    }
    let (overflows, exhausted) = run.map_or((0, 0), |run| run.ring);
    out.single(&table::RING_OVERFLOWS, overflows as f64);
    out.single(&table::RING_EXHAUSTED, exhausted as f64);
    out.single(&table::PORTS_SKIPPED, run.map_or(0, |run| run.ports_skipped) as f64);
}

/// The original's counters; by workspace they have the original's labels.
fn coder(out: &mut impl Encode, workspaces: Option<&[ByWorkspace<'_>]>, sum: &Counters) {
    type Of = fn(&ByWorkspace<'_>) -> u64;
    let counters: [(&Metric, u64, Of); 4] = [
        (&table::CODER_READ, sum.payload_received, |it| it.received),
        (&table::CODER_WRITTEN, sum.payload_sent, |it| it.sent),
        (&table::CODER_READ_ERRORS, sum.disconnects.sum(), |it| it.losses),
        (&table::CODER_WRITE_ERRORS, sum.missed_backpressure, |it| it.stalls),
    ];
    for (metric, all, of) in counters {
        debug_assert_eq!(metric.kind, Kind::Counter);
        let Some(workspaces) = workspaces else {
            out.single(metric, all as f64);
            continue;
        };
        out.begin_with(metric, &["username", "workspace_name", "agent_name"]);
        for it in workspaces {
            let Workspace { owner, name, agent } = it.workspace;
            out.value(&[owner, name, agent], of(it) as f64);
        }
    }
}

/// The daemon's own families; `ended`: its runs by outcome; `state`: whether the state folder takes what it is given, and
/// how often it did not.
pub fn daemon(out: &mut impl Encode, ended: &[u64; OUTCOMES.len()], state: (bool, u64)) {
    out.begin(&table::BUILD_INFO);
    out.value(&[env!("CARGO_PKG_VERSION")], 1.0);
    out.begin(&table::RUNS);
    for ((_, name), count) in OUTCOMES.iter().zip(ended) {
        out.value(&[name], *count as f64);
    }
    out.single(&table::STATE_WRITABLE, f64::from(state.0));
    out.single(&table::STATE_ERRORS, state.1 as f64);
    let process = host::process();
    let (user, system) = host::process_cpu_seconds();
    out.single(&table::PROCESS_CPU, user + system);
    out.single(&table::PROCESS_STARTED, process.started_at);
    out.single(&table::PROCESS_RESIDENT, process.resident_bytes as f64);
    out.single(&table::PROCESS_VIRTUAL, process.virtual_bytes as f64);
    out.single(&table::PROCESS_THREADS, process.threads as f64);
    out.single(&table::PROCESS_FDS, process.files_open as f64);
    out.single(&table::PROCESS_FDS_MAX, process.files_max as f64);
}
