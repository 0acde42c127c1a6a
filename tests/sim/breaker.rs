//! A target that refuses half of those who come, and later none: workers, breakers and a sink in one world.

use std::sync::mpsc::{Receiver, channel};

use scale_api::spec::Spec;
use scale_bench::sink::{self, Sink};
use scale_ring::host::Facts;
use scale_ring::sim::{Faults, Handle, SimRing, World};
use scale_ring::{Ring, SocketOptions, Time};
use scaled::run::breaker::{Breakers, Seen};
use scaled::run::plan::{Host, Plan};
use scaled::run::targets::Permit;
use scaled::stream::flow::Standing;
use scaled::stream::meter::Cell;
use scaled::worker::changes::Change;
use scaled::worker::gate::Gates;
use scaled::worker::share::{Command, GroupGauges};
use scaled::worker::{Inbox, Share, Snapshot, Turn, Worker};

/// Loopback, which every host's list allows.
const TARGET: ([u8; 4], u16) = ([127, 0, 0, 1], 80);
const SECOND_NS: u64 = 1_000_000_000;
const SEEDS: u64 = 40;
const WORKERS: u32 = 2;
const STREAMS: u64 = 300;
/// Streams opened a second, and the second from which on the target is well.
const RATE: u64 = 30;
const WELL_AT: u64 = 30;
const SECONDS_MAX: u64 = 150;

/// A worker, what is said to it, and what it has said last.
pub struct Hand {
    pub worker: Worker<SimRing>,
    pub inbox: Inbox,
    pub handle: Handle,
    snapshots: Receiver<Snapshot>,
    pub changes: Vec<Change>,
    cells: Vec<Cell>,
    gauges: Vec<GroupGauges>,
    second: u64,
    pub is_done: bool,
}

impl Hand {
    /// Its turn, if it is to have one, and what it hands over.
    pub fn turn(&mut self, now: Time) {
        if self.is_done || self.handle.wake_at() > now {
            return;
        }
        self.is_done = self.worker.turn() == Turn::Finished;
        for mut snapshot in self.snapshots.try_iter() {
            self.changes.append(&mut snapshot.changes);
            self.cells.resize_with(snapshot.cells.len(), Cell::default);
            for (mine, cell) in self.cells.iter_mut().zip(snapshot.cells) {
                mine.counters = cell.counters;
            }
            (self.gauges, self.second) = (snapshot.groups, snapshot.second);
        }
    }
}

/// What a run came to.
#[derive(Debug, Default)]
struct Ran {
    /// Attempts that had ended, by second.
    attempts: Vec<u64>,
    /// Streams open, by second.
    open: Vec<u64>,
    /// Seconds in which the breaker was not closed.
    held: Vec<u64>,
}

fn plan(breaker: &str, seed: u64) -> Plan {
    plan_of(&text(breaker, seed), WORKERS, seed)
}

fn text(breaker: &str, seed: u64) -> String {
    format!(
        "seed = {seed}\n[[group]]\ntarget = [\"ws://127.0.0.1:80/\"]\nconns = {STREAMS}\nconnect_rate = \"{RATE}/s\"\n\
         tick_interval = \"1s\"\nbytes_per_tick = \"64B\"\nwarm_up = \"0s\"\nduration = \"{SECONDS_MAX}s\"\n\
         reconnect = \"backoff\"\nbreaker = \"{breaker}\"\n"
    )
}

/// Of a run's file, where every name is the target's address.
pub fn plan_of(text: &str, workers: u32, seed: u64) -> Plan {
    let spec = Spec::from_toml(text, "run.toml").expect("a run");
    let host = Host {
        cores: (0..workers as usize).collect(),
        facts: Facts::default(),
        doctor: Vec::new(),
        seed,
        unix_s: 1_800_000_000,
        files: 100_000,
        direct_descriptors: true,
        has_address: |_| true,
        calibrations: std::sync::Arc::default(),
        interfaces: Vec::new(),
    };
    let mut resolve = |_: &str, _: u16| Ok(vec![TARGET.into()]);
    Plan::new(&spec, &host, &Permit::default(), &mut resolve).expect("a plan")
}

pub fn sink(world: &World) -> (Sink<SimRing>, Box<dyn Fn() -> Time>) {
    let mut ring = world.ring();
    let handle = ring.handle();
    let settings = sink::Settings {
        protocol: sink::Protocol::Ws,
        traffic: sink::Traffic::Echo,
        tls: None,
        ssh: None,
        delay_ns: 0,
        close_after_ns: None,
        ping_ns: None,
        stall: false,
        sessions: sink::Sessions::default(),
    };
    let (listener, _) = ring.listen(TARGET.into(), &SocketOptions::default()).expect("it listens");
    (Sink::new(ring, listener, settings, None), Box::new(move || handle.wake_at()))
}

pub fn hand(world: &World, plan: &Plan, (number, workers): (u32, u32), start_at: Time) -> Hand {
    let ring = world.ring();
    let handle = ring.handle();
    let share = Share {
        worker: number,
        workers,
        start_at,
        seed: plan.seed,
        groups: plan.groups.clone(),
        endpoints: plan.endpoints.clone(),
        addresses: plan.addresses.clone(),
        ports: plan.ports.clone(),
        streams_max: plan.groups.iter().map(|group| group.conns_max() as usize).sum(),
        stream_by_stream: false,
        gates: Gates::default(),
    };
    let (inbox, (out, snapshots)) = (Inbox::default(), channel());
    Hand {
        worker: Worker::new(ring, share, inbox.clone(), out),
        inbox,
        snapshots,
        handle,
        changes: Vec::new(),
        cells: Vec::new(),
        gauges: Vec::new(),
        second: 0,
        is_done: false,
    }
}

/// As the supervisor does: a second's figures in, permits out.
fn close_second(at: u64, hands: &[Hand], breakers: &mut Breakers, ran: &mut Ran) {
    let workers: Vec<_> = hands.iter().map(|hand| (&hand.cells[..], &hand.gauges[..])).collect();
    for told in breakers.take(&Seen { at, seconds: 1, workers: &workers, is_paused: false }) {
        let command = Command::Connects { group: told.group, target: told.target, permits: told.permits };
        hands.iter().for_each(|hand| hand.inbox.push(command.clone()));
    }
    let cells = hands.iter().flat_map(|hand| &hand.cells);
    let attempts = cells.map(|cell| cell.counters.connects + cell.counters.failures.sum()).sum();
    let gauges = hands.iter().flat_map(|hand| &hand.gauges);
    ran.attempts.push(attempts);
    ran.open.push(gauges.map(|of| u64::from(of.standing[Standing::Open as usize])).sum());
    if breakers.is_open(0) {
        ran.held.push(at);
    }
}

/// The target refuses `refuse_per_mille` until it is well; the run goes on until every stream is open, and is aborted.
fn run(seed: u64, breaker: &str, refuse_per_mille: u64) -> Ran {
    let faults = Faults { latency_ns: (200_000, 3_000_000), ..Faults::NONE };
    let world = World::new(seed, Faults { refuse_per_mille, ..faults.clone() });
    let start = world.now().plus_ns(50_000_000);
    let plan = plan(breaker, seed);
    let mut breakers = Breakers::new(plan.groups.clone());
    let (mut sink, sink_wakes) = sink(&world);
    let mut hands: Vec<Hand> =
        (0..WORKERS).map(|number| hand(&world, &plan, (number, WORKERS), start)).collect();
    let (mut ran, mut is_over) = (Ran::default(), false);
    while hands.iter().any(|hand| !hand.is_done) {
        let wakes = hands.iter().filter(|hand| !hand.is_done).map(|hand| hand.handle.wake_at());
        world.advance(wakes.fold(sink_wakes().min(world.next()), Time::min));
        assert!(world.now() < start.plus_ns(2 * SECONDS_MAX * SECOND_NS), "seed {seed}: {ran:?}");
        if world.now() >= start.plus_ns(WELL_AT * SECOND_NS) {
            world.set_faults(faults.clone());
        }
        hands.iter_mut().for_each(|hand| hand.turn(world.now()));
        if sink_wakes() <= world.now() {
            sink.turn(world.now().plus_ns(SECOND_NS));
        }
        let second = ran.attempts.len() as u64 + 1;
        if !is_over && hands.iter().all(|hand| hand.second >= second) {
            close_second(second, &hands, &mut breakers, &mut ran);
            is_over = ran.open.last() == Some(&STREAMS) || second == SECONDS_MAX;
            if is_over {
                hands.iter().for_each(|hand| hand.inbox.push(Command::Abort));
            }
        }
    }
    ran
}

#[test]
fn a_breaker_spares_a_target_that_refuses_half_and_closes_once_it_is_well() {
    for seed in 0..SEEDS {
        // Of half that fail a breaker of 40 % is sure within a window of 150.
        let (held, free) = (run(seed, "40%", 500), run(seed, "off", 500));
        // Without a breaker every stream may be open before.
        let by = |ran: &Ran| ran.attempts[(WELL_AT as usize - 1).min(ran.attempts.len() - 1)];
        assert!(held.held.len() >= 5 && held.held[0] <= 5, "seed {seed}: it opened: {held:?}");
        assert!(free.held.is_empty(), "seed {seed}: off is off");
        assert!(
            by(&held) * 4 < by(&free) * 3,
            "seed {seed}: {} attempts with a breaker, {} without",
            by(&held),
            by(&free)
        );
        let last = held.attempts.len() as u64;
        assert_eq!(held.open.last(), Some(&STREAMS), "seed {seed}: every stream came to be open: {held:?}");
        assert!(held.held.last() < Some(&last), "seed {seed}: it closed: {held:?}");
        // What had waited comes at the pace of the ramp, not at once; a border of a second falls anywhere.
        let most = held.attempts.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(0);
        assert!(most <= 2 * RATE + 4, "seed {seed}: {most} attempts in a second: {held:?}");
    }
}

#[test]
fn a_target_that_refuses_everybody_gets_a_few_probes_and_what_is_open_goes_on() {
    for seed in 0..SEEDS / 4 {
        let ran = run(seed, "on", 1000);
        // Refused from the first one on: a second's attempts, then at most five at a time, in growing pauses.
        let at = WELL_AT as usize - 1;
        assert!(ran.attempts[at] <= 2 * RATE + 5 * 6, "seed {seed}: {ran:?}");
        assert_eq!(ran.open.last(), Some(&STREAMS), "seed {seed}: {ran:?}");
        assert!(
            ran.open.windows(2).all(|two| two[1] >= two[0]),
            "seed {seed}: nothing is lost by it: {ran:?}"
        );
    }
}
