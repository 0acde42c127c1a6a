//! A run's workers as its supervisor knows them: started, their snapshots added up, lost or ended.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

use scale_api::report;
use scale_proto::ssh::Negotiated;
use scale_ring::{Features, Kernel, KernelConfig, RingCounters, Time, host};

use crate::stream::meter::{Cell, Counters, Histograms};
use crate::stream::versions::Versions;
use crate::worker::changes::Change;
use crate::worker::share::{GroupGauges, GroupPhase, StreamResult};
use crate::worker::{Command, Inbox, Pulse, Share, Snapshot, Turn, Worker};

use super::plan::Plan;
use super::saturation::Second;

/// How workers run.
#[derive(Debug, Clone, Copy)]
pub struct Engine {
    /// SCHED_FIFO for workers.
    pub realtime: bool,
    /// What the ring may use.
    pub features: Features,
}

/// Priority of workers under `--realtime fifo`.
const FIFO_PRIORITY: i32 = 10;

/// For a worker to end once it is told to; one that stands still is left behind, and goes with the process.
const END_WAIT_NS: u64 = 2_000_000_000;

/// How busy a worker has been.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Busy {
    /// In its last second.
    pub last: f64,
    max: f64,
    sum: f64,
    seconds: u64,
}

impl Busy {
    fn take(&mut self, busy: f64) {
        (self.last, self.max) = (busy, self.max.max(busy));
        self.sum += busy;
        self.seconds += 1;
    }
}

/// One worker, from outside.
pub(super) struct Hand {
    pub core: usize,
    inbox: Inbox,
    /// Moves with each of its turns.
    pub pulse: Pulse,
    thread: Option<JoinHandle<()>>,
    /// Counters so far and histograms of the whole run.
    pub cells: Vec<Cell>,
    pub groups: Vec<GroupGauges>,
    /// Versions of the servers that it met, by group.
    pub versions: Vec<Versions>,
    /// Replicas that they named, by group.
    pub replicas: Vec<Versions>,
    /// Streams that have opened, closed and been lost since this was last taken.
    pub changes: Vec<Change>,
    /// Of these, how many were too many.
    pub changes_left_out: u64,
    /// What its SSH connections settled on, and how many did.
    pub negotiated: Vec<(Negotiated, u64)>,
    last: Option<(Time, u64)>,
    /// Share of its seconds that its thread was on its core.
    pub busy: Busy,
    turn_p99: f64,
    turn_max: f64,
    /// The last second that it handed over.
    pub second: u64,
    pub ring: RingCounters,
    /// Source ports that others held.
    pub ports_in_use: u64,
    /// Connections that waited for more than a second for the list's caps.
    pub held_back: u64,
    /// Streams opened, by address.
    pub opened: Vec<(SocketAddr, u64)>,
    /// Its streams' own figures, as it last handed them over.
    pub streams: Vec<StreamResult>,
    /// It has handed over everything, or is lost.
    pub finished: bool,
    /// Histograms since they were last taken.
    pub histograms: Vec<Histograms>,
}

/// Starts a worker on each of the plan's cores; the run starts at `started`.
///
/// # Errors
/// A thread or a ring cannot be had; the sentence says the cure.
pub(super) fn start(
    plan: &Plan,
    engine: Engine,
    started: Time,
) -> Result<(Vec<Hand>, Receiver<Snapshot>), String> {
    let (sender, receiver) = mpsc::channel();
    let (ready, all_ready) = mpsc::channel();
    let count = plan.cores.len() as u32;
    let mut workers = Vec::new();
    for (number, &core) in plan.cores.iter().enumerate() {
        let (inbox, pulse) = (Inbox::default(), Pulse::default());
        let streams: u64 = plan.groups.iter().map(|g| u64::from(g.conns_max()) / u64::from(count) + 1).sum();
        let share = Share {
            worker: number as u32,
            workers: count,
            start_at: started,
            seed: plan.seed,
            groups: plan.groups.clone(),
            endpoints: plan.endpoints.clone(),
            addresses: plan.addresses.clone(),
            ports: plan.ports.clone(),
            gates: plan.gates.clone(),
            streams_max: streams as usize,
            stream_by_stream: plan.stream_by_stream,
        };
        let config = KernelConfig {
            // Room for streams that `set` may add; beyond it ordinary descriptors serve.
            sockets_max: (streams as u32).saturating_mul(2).max(1024),
            receive_buffers: 1024,
            receive_buffer_bytes: plan.receive_buffer_bytes,
            features: engine.features,
        };
        let (sender, ready, its_inbox, its_pulse) =
            (sender.clone(), ready.clone(), inbox.clone(), pulse.clone());
        let thread = std::thread::Builder::new()
            .name(format!("worker-{core}"))
            .spawn(move || {
                host::pin_current_thread(core);
                if engine.realtime
                    && let Err(error) = host::set_realtime_fifo(FIFO_PRIORITY)
                {
                    let _ = ready.send(Err(format!(
                        "--realtime fifo is not allowed here ({error}); give CAP_SYS_NICE or LimitRTPRIO=10, under systemd the drop-in realtime.conf"
                    )));
                    return;
                }
                match Kernel::new(&config) {
                    Ok(ring) => {
                        let _ = ready.send(Ok(()));
                        let mut worker = Worker::new(ring, share, its_inbox, sender);
                        while worker.turn() == Turn::Going {
                            its_pulse.beat();
                        }
                    }
                    Err(error) => drop(ready.send(Err(error.to_string()))),
                }
            })
            .map_err(|error| format!("cannot start a worker: {error}"))?;
        workers.push(Hand::new(core, inbox, pulse, thread));
    }
    for _ in 0..count {
        let answer = all_ready.recv().unwrap_or_else(|_| Err("a worker ended before it was ready".into()));
        if let Err(error) = answer {
            workers.iter().for_each(|worker| worker.say(Command::Abort));
            return Err(error);
        }
    }
    Ok((workers, receiver))
}

impl Hand {
    fn new(core: usize, inbox: Inbox, pulse: Pulse, thread: JoinHandle<()>) -> Self {
        Self {
            core,
            inbox,
            pulse,
            thread: Some(thread),
            cells: Vec::new(),
            groups: Vec::new(),
            versions: Vec::new(),
            replicas: Vec::new(),
            changes: Vec::new(),
            changes_left_out: 0,
            negotiated: Vec::new(),
            last: None,
            busy: Busy::default(),
            turn_p99: 0.0,
            turn_max: 0.0,
            second: 0,
            ring: RingCounters::default(),
            ports_in_use: 0,
            held_back: 0,
            opened: Vec::new(),
            streams: Vec::new(),
            finished: false,
            histograms: Vec::new(),
        }
    }

    /// Says something to it.
    pub fn say(&self, command: Command) {
        self.inbox.push(command);
    }

    /// Takes what it handed over.
    pub fn take(&mut self, snapshot: Snapshot) {
        if self.cells.is_empty() {
            self.cells = vec![Cell::default(); snapshot.cells.len()];
            self.histograms = vec![Histograms::default(); snapshot.cells.len()];
        }
        for ((mine, second), new) in self.cells.iter_mut().zip(&mut self.histograms).zip(snapshot.cells) {
            mine.counters = new.counters;
            mine.histograms.add(&new.histograms);
            second.absorb(new.histograms);
        }
        if let Some((at, cpu)) = self.last.replace((snapshot.at, snapshot.cpu_ns)) {
            let busy = (snapshot.cpu_ns - cpu) as f64 / snapshot.at.ns_since(at).max(1) as f64;
            self.busy.take(busy.min(1.0));
        }
        self.held_back = snapshot.held_back;
        self.turn_p99 = snapshot.turns.value_at_quantile(0.99) as f64 / 1e6;
        self.turn_max = self.turn_max.max(snapshot.turns.max() as f64 / 1e6);
        self.groups = snapshot.groups;
        self.versions = snapshot.versions;
        self.replicas = snapshot.replicas;
        self.changes.extend(snapshot.changes);
        self.changes_left_out = snapshot.changes_left_out;
        self.negotiated = snapshot.negotiated;
        self.second = snapshot.second;
        self.ring = snapshot.ring;
        self.ports_in_use = snapshot.ports_in_use;
        self.opened = snapshot.opened;
        self.finished |= snapshot.last;
        if let Some(streams) = snapshot.streams {
            self.streams = streams;
        }
    }

    /// Its thread has ended before it handed over everything: a bug of ours. To be asked before its
    /// snapshots are taken.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for its end, which it has been told of.
    pub fn join(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let until = host::monotonic_now().plus_ns(END_WAIT_NS);
        while !thread.is_finished() {
            if host::monotonic_now() > until {
                tracing::error!(
                    core = self.core,
                    "the worker on core {} does not end; it is left behind",
                    self.core
                );
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }

    /// Counters of all its cells.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.cells.iter().for_each(|cell| sum.add(&cell.counters));
        sum
    }

    /// Its last second, for the judge of saturation. Turns are not judged where offsets are aligned.
    pub fn last_second(&self, aligned: bool) -> Second {
        let tick_ns = self.groups.iter().map(|group| group.tick_ns).min();
        let sum = self.counters();
        Second {
            steady: self.groups.iter().any(|group| group.phase == GroupPhase::Steady),
            busy: self.busy.last,
            turn_p99: self.turn_p99,
            tick: tick_ns.filter(|_| !aligned).map(|ns| ns as f64 / 1e9),
            due: sum.ticks_due,
            missed: sum.missed_generator,
        }
    }

    /// Its part of a report.
    pub fn report(&self) -> report::Worker {
        report::Worker {
            cpu: self.core as u64,
            streams: self.groups.iter().map(|group| u64::from(group.requested)).sum(),
            busy_mean: self.busy.sum / self.busy.seconds.max(1) as f64,
            busy_max: self.busy.max,
            turn_p99: self.turn_p99,
            turn_max: self.turn_max,
        }
    }
}
