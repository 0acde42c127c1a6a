//! Gives everybody their turns, in the order of the world's time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use scale_bench::sink::{Counts, Sink};
use scale_ring::sim::{Faults, Handle, Leaks, SimRing, World};
use scale_ring::{Ring, SocketOptions, Time};
use scaled::load::Group;
use scaled::stream::meter::{Counters, Histograms};
use scaled::worker::changes::Change;
use scaled::worker::ports::PortTable;
use scaled::worker::share::{Command, GroupGauges, StreamResult};
use scaled::worker::{Inbox, Share, Snapshot, Turn, Worker};

use crate::cuts::What;
use crate::scenario::{Scenario, Stall, Word};

const SECOND_NS: u64 = 1_000_000_000;
/// How long servers have to see that the run is over.
const AFTER_NS: u64 = 5 * SECOND_NS;

/// Turns that servers then get to close what is left.
const AFTER_TURNS_MAX: u32 = 1000;

/// What is left of a run.
pub struct Ran {
    pub seed: u64,
    pub trace: u64,
    /// Turns of everybody.
    pub turns: u64,
    pub start: Time,
    pub end: Time,
    pub workers: Vec<WorkerRan>,
    pub servers: Vec<(usize, Counts, Leaks)>,
    /// Connections that were reset by disruptions, and those that were not connected yet.
    pub harmed: (u64, u64),
}

/// What is left of a worker.
pub struct WorkerRan {
    /// By cell, of the whole run.
    pub cells: Vec<(Counters, Histograms)>,
    pub groups: Vec<GroupGauges>,
    pub streams: Vec<StreamResult>,
    pub leaks: Leaks,
    pub ring: scale_ring::RingCounters,
    pub ports_in_use: u64,
    /// Streams that opened, closed and were lost, in the order in which it was told.
    pub changes: Vec<Change>,
}

impl Ran {
    /// Everything counted, over workers and cells.
    pub fn sum(&self) -> Counters {
        let mut sum = Counters::default();
        self.workers.iter().flat_map(|worker| &worker.cells).for_each(|(counters, _)| sum.add(counters));
        sum
    }

    /// The cells of one group, over all workers: by stage, 0 being before steady.
    pub fn group(&self, groups: &[Group], index: usize) -> Vec<Counters> {
        let mut from = 0;
        for group in &groups[..index] {
            from = group.cells(from).end;
        }
        let cells = groups[index].cells(from);
        let mut stages = vec![Counters::default(); cells.len()];
        for worker in &self.workers {
            for (to, (counters, _)) in stages.iter_mut().zip(&worker.cells[cells.clone()]) {
                to.add(counters);
            }
        }
        stages
    }
}

enum Who {
    Worker { worker: Box<Worker<SimRing>>, inbox: Inbox, snapshots: Receiver<Snapshot>, finished: bool },
    Server { sink: Box<Sink<SimRing>>, group: usize },
}

struct Actor {
    who: Who,
    handle: Handle,
}

/// Runs a scenario to its end.
pub fn drive(scenario: &Scenario) -> Ran {
    let world = World::new(scenario.seed, scenario.faults.clone());
    let mut actors = actors(scenario, &world);
    let start = start_at(&world);
    let deadline = start.plus_ns(scenario.longest_ns());
    let mut words = scenario.words.iter().copied().peekable();
    let mut cuts = scenario.cuts.iter().copied().peekable();
    let (mut end, mut turns, mut harmed) = (Time::NEVER, 0, (0, 0));
    loop {
        let word = words.peek().map_or(Time::NEVER, |(at, _)| start.plus_ns(*at));
        let cut = cuts.peek().map_or(Time::NEVER, |(at, _)| start.plus_ns(*at));
        let wakes = actors.iter().enumerate().map(|(index, actor)| turn_at(scenario, start, index, actor));
        let next = wakes.fold(world.next().min(word).min(cut), Time::min);
        if next >= end {
            break;
        }
        assert!(next <= deadline.max(world.now()) || end != Time::NEVER, "the run does not end");
        world.advance(next);
        let now = world.now();
        while let Some((_, word)) = words.next_if(|(at, _)| start.plus_ns(*at) <= now) {
            say(&actors, word, now);
        }
        while let Some((_, what)) = cuts.next_if(|(at, _)| start.plus_ns(*at) <= now) {
            let (open, opening) = cut_off(scenario, &actors, &world, what);
            harmed = (harmed.0 + open as u64, harmed.1 + opening as u64);
        }
        for (index, actor) in actors.iter_mut().enumerate() {
            if turn_at(scenario, start, index, actor) <= world.now() {
                turn(actor, &world);
                turns += 1;
            }
        }
        let finished = |actor: &Actor| !matches!(actor.who, Who::Worker { finished: false, .. });
        if end == Time::NEVER && actors.iter().all(finished) {
            end = world.now().plus_ns(AFTER_NS + scenario.faults.spike_ns);
            // Servers are to read what is left, and to see the end of every connection.
            world.set_faults(Faults::NONE);
        }
    }
    let ended = world.now();
    for actor in &mut actors {
        if let Who::Server { sink, .. } = &mut actor.who {
            sink.stop_accepting();
        }
    }
    for _ in 0..AFTER_TURNS_MAX {
        if actors.iter().all(|actor| actor.handle.leaks() == Leaks::default()) {
            break;
        }
        world.advance(world.now().plus_ns(SECOND_NS / 100));
        actors.iter_mut().for_each(|actor| turn(actor, &world));
    }
    Ran { turns, harmed, ..gather(scenario.seed, &world, actors, start, ended) }
}

fn start_at(world: &World) -> Time {
    // The world begins at a whole second; a run is planned a little ahead.
    Time::from_ns(1_000 * SECOND_NS).plus_ns(50_000_000).max(world.now())
}

fn actors(scenario: &Scenario, world: &World) -> Vec<Actor> {
    let mut actors = Vec::new();
    let ports = Arc::new(PortTable::new(&[], HashMap::new()));
    for number in 0..scenario.workers {
        let ring = world.ring();
        let share = Share {
            worker: number,
            workers: scenario.workers,
            start_at: start_at(world),
            seed: scenario.seed,
            groups: scenario.groups.clone(),
            endpoints: scenario.endpoints.clone(),
            addresses: scenario.addresses.clone(),
            ports: ports.clone(),
            gates: scenario.gates.clone(),
            streams_max: scenario.streams_max,
            stream_by_stream: false,
        };
        let (inbox, (out, snapshots), handle) = (Inbox::default(), channel(), ring.handle());
        let worker = Box::new(Worker::new(ring, share, inbox.clone(), out));
        actors.push(Actor { who: Who::Worker { worker, inbox, snapshots, finished: false }, handle });
    }
    for server in &scenario.servers {
        let mut ring = world.ring();
        let handle = ring.handle();
        let (listener, _) = ring.listen(server.address, &SocketOptions::default()).expect("it listens");
        let sink = Box::new(Sink::new(ring, listener, server.settings.clone(), None));
        actors.push(Actor { who: Who::Server { sink, group: server.group }, handle });
    }
    actors
}

/// When an actor is to have its next turn.
fn turn_at(scenario: &Scenario, start: Time, index: usize, actor: &Actor) -> Time {
    if matches!(actor.who, Who::Worker { finished: true, .. }) {
        return Time::NEVER;
    }
    let mut at = actor.handle.wake_at();
    for Stall { actor: who, from_ns, for_ns } in &scenario.stalls {
        let (from, until) = (start.plus_ns(*from_ns), start.plus_ns(from_ns + for_ns));
        if *who == index && from <= at && at < until {
            at = until;
        }
    }
    at
}

fn turn(actor: &mut Actor, world: &World) {
    match &mut actor.who {
        Who::Worker { worker, finished, .. } => *finished |= worker.turn() == Turn::Finished,
        Who::Server { sink, .. } => sink.turn(world.now().plus_ns(SECOND_NS)),
    }
}

fn say(actors: &[Actor], word: Word, now: Time) {
    let command = match word {
        Word::Drain => Command::Drain,
        Word::Abort => Command::Abort,
        Word::Pause => Command::Pause(now),
        Word::Resume => Command::Resume(now),
        Word::Expect(window, for_ns) => {
            Command::Aside { window: Some(window), from: now, until: now.plus_ns(for_ns) }
        }
        Word::Conns(group, conns) => Command::Set { group, conns: Some(conns), pace: None },
        Word::Pace(group, tick_ns, bytes) => {
            let pace = Some((tick_ns, scaled::load::MessageSize::fixed(bytes)));
            Command::Set { group, conns: None, pace }
        }
    };
    for actor in actors {
        if let Who::Worker { inbox, .. } = &actor.who {
            inbox.push(command.clone());
        }
    }
}

/// How many connections it resets, and how many were not connected yet.
fn cut_off(scenario: &Scenario, actors: &[Actor], world: &World, what: What) -> (usize, usize) {
    match what {
        What::Server(server, cut, for_ns) => {
            world.cut(scenario.servers[server].address, cut, world.now().plus_ns(for_ns))
        }
        What::Worker(number) => actors[number].handle.cut(),
    }
}

fn gather(seed: u64, world: &World, actors: Vec<Actor>, start: Time, end: Time) -> Ran {
    let mut ran = Ran {
        seed,
        trace: world.trace(),
        turns: 0,
        start,
        end,
        workers: Vec::new(),
        servers: Vec::new(),
        harmed: (0, 0),
    };
    for Actor { who, handle } in actors {
        let leaks = handle.leaks();
        match who {
            Who::Server { sink, group } => ran.servers.push((group, sink.counts(), leaks)),
            Who::Worker { worker, snapshots, .. } => {
                drop(worker);
                let mut cells: Vec<(Counters, Histograms)> = Vec::new();
                let (mut last, mut changes) = (None, Vec::new());
                for mut snapshot in snapshots {
                    cells.resize_with(snapshot.cells.len(), Default::default);
                    for (to, cell) in cells.iter_mut().zip(&snapshot.cells) {
                        to.0 = cell.counters.clone();
                        to.1.add(&cell.histograms);
                    }
                    changes.append(&mut snapshot.changes);
                    assert_eq!(snapshot.changes_left_out, 0, "all changes are told");
                    last = Some(snapshot);
                }
                let last = last.expect("a worker hands over at its end");
                ran.workers.push(WorkerRan {
                    cells,
                    groups: last.groups,
                    streams: last.streams.expect("the last snapshot has the streams"),
                    leaks,
                    ring: last.ring,
                    ports_in_use: last.ports_in_use,
                    changes,
                });
            }
        }
    }
    ran
}
