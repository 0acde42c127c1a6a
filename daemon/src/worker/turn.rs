//! The worker's turn: the one loop on each core.
//!
//! A turn reads the clock once for what is due (and again for each batch's stamp), in this order:
//! commands from the inbox, completions, deadlines and launches, due sends, time lines, and last
//! submit-and-wait. Completions come before sends so that buffers come free before anyone asks
//! for one.
//!
//! Holds always: nothing blocks but `Ring::wait`; a turn handles at most `COMPLETIONS_MAX`
//! completions and `SENDS_MAX` sends, so sends stay on time; memory is taken when the worker is
//! made, but for what grows to a named limit.
//!
//! Elsewhere: what is due (`load`), what the bytes mean (`stream::stack`), syscalls (`scale-ring`).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use hdrhistogram::Histogram;
use scale_proto::ssh::Negotiated;
use scale_ring::{Completion, Ring, Time};

use crate::load::Random;
use crate::stream::flow::{Standing, Stream};
use crate::stream::link::Link;
use crate::stream::meter::Meter;
use crate::stream::stack::{Connection, Phase};
use crate::stream::unanswered::Pool;
use crate::stream::versions::Versions;

use super::changes::Changes;
use super::gate::Slots;
use super::inbox::Inbox;
use super::link::Happened;
use super::ports::Ports;
use super::share::{ADDRESSES_MAX, Command, GroupGauges, GroupPhase, Share, Snapshot, StreamResult};
use super::timeline::{Step, Timeline};
use super::wheel::Wheel;

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Call again.
    Going,
    /// Every group is done and every socket closed; the last snapshot has been sent.
    Finished,
}

/// Completions handled in a turn.
pub(super) const COMPLETIONS_MAX: usize = 1024;
/// Completions handled between two readings of the clock: the error of `done`.
const DRAIN_BATCH: usize = 128;
/// Sends between two readings of the clock: the error of `sent`.
pub(super) const SEND_BATCH: usize = 32;
/// Sends in a turn: aligned streams must not keep completions waiting for long.
pub(super) const SENDS_MAX: usize = 256;
/// Connects, closes and the like started in a turn.
pub(super) const LAUNCHES_MAX: usize = 64;
/// Streams that waited and try again in a turn: thousands whose wait is over at once must not keep others' sends waiting.
const COMEBACKS_MAX: usize = 8;
/// Of those whose wait is over so many are looked at: most may have to wait on, and must not keep others from trying.
const LOOKS_MAX: usize = 256;
/// Streams that a group's drain goes to in a turn.
pub(super) const CLOSES_MAX: usize = 256;
/// Sends that come due within this are sent together: half of it is their mean lateness.
const QUANTUM_NS: u64 = 250_000;
/// The longest wait: how late a command is seen.
const WAIT_MAX_NS: u64 = 10_000_000;
/// How long a stream may take to close in order.
pub(super) const CLOSE_WAIT_NS: u64 = 2_000_000_000;
/// For a terminal's command to end at Ctrl-C, and the server to close.
pub(super) const INTERRUPT_WAIT_NS: u64 = 10_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Kinds of tokens.
pub(super) mod kind {
    pub const CONNECT: u8 = 0;
    pub const RECEIVE: u8 = 1;
    pub const SEND: u8 = 2;
    pub const CLOSE: u8 = 3;
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deadline {
    /// The phase of a connection: index and generation.
    Phase(u32, u32),
    /// Something about a link: index and generation.
    Link(u32, u32),
    /// A stream's slot at its gate, and how many addresses its attempt has tried.
    Slot(u32, u32),
}

/// One worker.
pub struct Worker<R> {
    pub(super) ring: R,
    pub(super) share: Share,
    inbox: Inbox,
    out: Sender<Snapshot>,
    pub(super) streams: Vec<Stream>,
    pub(super) connections: Vec<Option<Box<Connection>>>,
    pub(super) free: Vec<u32>,
    pub(super) links: Vec<Option<Box<Link>>>,
    pub(super) links_free: Vec<u32>,
    /// By group and row: the link that was made last, where streams share them.
    pub(super) newest_links: HashMap<(u8, u32), u32>,
    /// Connections on links that have ended in this turn.
    pub(super) retired: Vec<u32>,
    /// What the input under way has brought.
    pub(super) happened: Vec<Happened>,
    /// What SSH servers and we settled on, and how often.
    pub(super) negotiated: Vec<(Negotiated, u64)>,
    pub(super) generation: u32,
    pub(super) groups: Vec<Timeline>,
    pub(super) wheel: Wheel,
    pub(super) deadlines: BinaryHeap<Reverse<(Time, Deadline)>>,
    /// Streams that wait, and until when.
    pub(super) comebacks: BinaryHeap<Reverse<(Time, u32)>>,
    /// Streams that the rates of their groups hold.
    pub(super) held_by_rate: usize,
    pub(super) meter: Meter,
    pub(super) pool: Pool,
    /// By group.
    pub(super) versions: Vec<Versions>,
    /// By group.
    pub(super) replicas: Vec<Versions>,
    pub(super) changes: Changes,
    /// What was due until then has been counted.
    pub(super) counted_until: Time,
    pub(super) ports: Ports,
    pub(super) ports_in_use: u64,
    /// Next ranks, by group and row of addresses: see `origin`.
    pub(super) ranks: HashMap<(u8, u32), u32>,
    /// Slots at the gates of the list's caps.
    pub(super) slots: Slots,
    /// By group and row: the slot that lies ahead for a link, and how many streams wait for it.
    pub(super) links_ahead: HashMap<(u8, u32), (Time, u32)>,
    /// Connections that waited long for a slot.
    pub(super) held_back: u64,
    /// Streams opened, by address.
    pub(super) opened: Vec<(SocketAddr, u64)>,
    pub(super) random: Random,
    completions: Vec<Completion>,
    pub(super) fired: Vec<(u32, Time)>,
    turns: Histogram<u64>,
    pub(super) woke: Time,
    second: u64,
    sends_left: bool,
    finished: bool,
}

impl<R: Ring> Worker<R> {
    /// A worker over `ring`; it hands a snapshot to `out` each second.
    pub fn new(ring: R, share: Share, inbox: Inbox, out: Sender<Snapshot>) -> Self {
        let now = ring.now();
        let mut cells = 0;
        let mut groups = Vec::with_capacity(share.groups.len());
        for group in share.groups.iter() {
            groups.push(Timeline::new(group, cells, share.start_at, share.worker, share.workers));
            cells = group.cells(cells).end;
        }
        let seed = share.seed ^ crate::load::random::mix(u64::from(share.worker) + 1);
        Self {
            inbox,
            out,
            // Reserved, not touched: memory is resident when a stream first needs it.
            streams: Vec::with_capacity(share.streams_max),
            connections: Vec::with_capacity(share.streams_max),
            free: Vec::new(),
            links: Vec::new(),
            links_free: Vec::new(),
            newest_links: HashMap::new(),
            retired: Vec::new(),
            happened: Vec::new(),
            negotiated: Vec::new(),
            generation: 0,
            groups,
            wheel: Wheel::new(now, share.streams_max),
            deadlines: BinaryHeap::new(),
            comebacks: BinaryHeap::new(),
            held_by_rate: 0,
            meter: Meter::new(cells),
            pool: Pool::new(Pool::MAX),
            versions: vec![Versions::default(); share.groups.len()],
            replicas: vec![Versions::default(); share.groups.len()],
            changes: Changes::new(share.streams_max),
            counted_until: Time::ZERO,
            ports: Ports::new(share.ports.clone(), (share.worker, share.workers), seed),
            ports_in_use: 0,
            ranks: HashMap::new(),
            slots: Slots::new(&share.gates, share.start_at, share.worker, share.workers),
            links_ahead: HashMap::new(),
            held_back: 0,
            opened: Vec::with_capacity(ADDRESSES_MAX),
            random: Random::new(seed),
            completions: Vec::with_capacity(DRAIN_BATCH),
            fired: Vec::with_capacity(SEND_BATCH),
            turns: Self::turns(),
            woke: now,
            second: 0,
            sends_left: false,
            finished: false,
            ring,
            share,
        }
    }

    fn turns() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 60_000_000, 2).expect("constant bounds are valid")
    }

    /// The ring, for a simulation's checks.
    pub const fn ring(&self) -> &R {
        &self.ring
    }

    /// The ring, for what it has noted: when the worker has finished.
    pub fn into_ring(self) -> R {
        self.ring
    }

    /// The meter, for a simulation's checks.
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// One pass of the loop; it ends with a wait.
    pub fn turn(&mut self) -> Turn {
        if self.finished {
            return Turn::Finished;
        }
        let now = self.ring.now();
        self.woke = now;
        self.commands(now);
        self.groups.iter_mut().for_each(|group| group.look(now));
        self.completions();
        let now = self.ring.now();
        self.expire(now);
        self.come_back(now);
        self.launch(now);
        // Stages change before what is due in them is sent; a group ends after what is due before.
        self.steps(now, false);
        self.sends_left = !self.send_due(now);
        self.steps(now, true);
        self.reap();
        self.hand_over(now);
        if self.is_done() {
            self.finished = true;
            self.report(now, true);
            return Turn::Finished;
        }
        let before = self.ring.now();
        self.turns.saturating_record((before.ns_since(self.woke) / 1000).max(1));
        let until = self.wake_at(before);
        self.ring.wait(until);
        Turn::Going
    }

    fn commands(&mut self, now: Time) {
        while let Some(command) = self.inbox.pop() {
            let groups = self.share.groups.clone();
            match command {
                Command::Drain => {
                    // What was due before the end still goes.
                    while !self.send_due(now) {}
                    for (index, group) in groups.iter().enumerate() {
                        self.groups[index].stop(group, now);
                    }
                }
                Command::Abort => self.abort_all(now),
                Command::Pause(at) => self.groups.iter_mut().for_each(|group| group.pause(at)),
                Command::Resume(at) => self.groups.iter_mut().for_each(|group| group.resume(at)),
                Command::Set { group: index, conns, pace } => {
                    let (group, timeline) = (&groups[index], &mut self.groups[index]);
                    if let Some((tick_ns, message)) = pace {
                        timeline.set_pace(tick_ns, message, now);
                    }
                    if let Some(conns) = conns
                        && timeline.set_conns(group, conns, now, None)
                    {
                        self.shrink(index, now);
                    }
                }
                Command::Addresses(addresses) => self.share.addresses = addresses,
                Command::Connects { group, target, permits } => self.set_permits(group, target, permits),
                Command::Gates(gates) => {
                    let Share { start_at, worker, workers, .. } = self.share;
                    self.slots = Slots::new(&gates, start_at, worker, workers);
                }
                Command::Aside { window, from, until } => {
                    let from = from.max(self.counted_until.plus_ns(1));
                    self.groups.iter_mut().for_each(|group| group.set_aside(window, from, until));
                }
            }
        }
    }

    fn completions(&mut self) {
        let mut batch = std::mem::take(&mut self.completions);
        for _ in 0..COMPLETIONS_MAX / DRAIN_BATCH {
            self.ring.drain(&mut batch, DRAIN_BATCH);
            let full = batch.len() == DRAIN_BATCH;
            if batch.is_empty() {
                break;
            }
            self.prefetch(&batch);
            let done = self.ring.now();
            for completion in batch.drain(..) {
                self.complete(completion, done);
            }
            if !full {
                break;
            }
        }
        self.completions = batch;
    }

    /// A connection and its stream have been idle for a tick: their memory is far away. Asked for
    /// a batch at once, it comes while the first of them are being worked on.
    fn prefetch(&self, batch: &[Completion]) {
        if !self.links.is_empty() {
            self.prefetch_links(batch);
        }
        let connection =
            |completion: &Completion| self.connections.get(completion.token.index() as usize)?.as_deref();
        for connection in batch.iter().filter_map(connection) {
            scale_ring::prefetch(connection);
        }
        for connection in batch.iter().filter_map(connection) {
            scale_ring::prefetch(&self.streams[connection.stream as usize]);
        }
    }

    fn expire(&mut self, now: Time) {
        while let Some(&Reverse((at, deadline))) = self.deadlines.peek()
            && at <= now
        {
            self.deadlines.pop();
            match deadline {
                Deadline::Phase(index, generation) => {
                    let current = self.connections[index as usize].as_ref();
                    if current.is_some_and(|c| c.generation == generation && c.deadline <= now) {
                        self.phase_timed_out(index, now);
                    }
                }
                Deadline::Link(link, generation) => self.link_expired(link, generation, now),
                Deadline::Slot(stream, tried) => self.slot_came(stream, tried, at, now),
            }
        }
    }

    /// Streams whose wait is over try again, whoever has waited for longest first: of a group that is held to a rate,
    /// one when its next may come.
    fn come_back(&mut self, now: Time) {
        let mut room = COMEBACKS_MAX;
        for _ in 0..LOOKS_MAX {
            let next = if self.held_by_rate > 0 { self.comes_next(now) } else { None };
            let Some(stream) = next.or_else(|| self.wait_over(now)) else { return };
            room -= usize::from(self.retry(stream, now));
            if room == 0 {
                return;
            }
        }
    }

    /// The first that the rate of its group held, and holds no more.
    #[cold]
    fn comes_next(&mut self, now: Time) -> Option<u32> {
        let may = |index: &usize| now >= self.groups[*index].reconnect_next && self.may_connect(*index);
        let is_there = |index: &usize| !self.groups[*index].coming.is_empty();
        let group = (0..self.groups.len()).filter(is_there).find(may)?;
        self.held_by_rate -= 1;
        self.groups[group].coming.pop_front()
    }

    fn wait_over(&mut self, now: Time) -> Option<u32> {
        self.comebacks.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.comebacks.pop().map(|Reverse((_, stream))| stream)
    }

    fn steps(&mut self, now: Time, ends: bool) {
        let groups = self.share.groups.clone();
        for (index, group) in groups.iter().enumerate() {
            while now >= self.groups[index].next_step() {
                if self.groups[index].ends_next(group) && (!ends || self.sends_left) {
                    break;
                }
                match self.groups[index].step(group, now) {
                    Some(Step::ArmAll(at)) => {
                        self.shrink(index, now);
                        self.arm_all(index, at);
                    }
                    Some(Step::Shrink) => {
                        self.shrink(index, now);
                        self.arm_all(index, now);
                    }
                    Some(Step::Finish) => self.finish(index),
                    None => {}
                }
            }
            self.churn(index, now);
            if ends && self.groups[index].has_drain_work() {
                self.drain(index, now);
            }
            self.close_when_empty(index);
        }
    }

    /// A group in its drain is done when its last connection is gone.
    fn close_when_empty(&mut self, index: usize) {
        let timeline = &mut self.groups[index];
        if timeline.phase == GroupPhase::Draining {
            let busy: u32 = [Standing::Connecting, Standing::Open, Standing::Waiting, Standing::Closing]
                .iter()
                .map(|&standing| timeline.standing[standing as usize])
                .sum();
            if busy == 0 {
                timeline.phase = GroupPhase::Done;
            }
        }
    }

    fn is_done(&self) -> bool {
        self.groups.iter().all(|group| group.phase == GroupPhase::Done)
            && self.free.len() == self.connections.len()
            && self.links_free.len() == self.links.len()
    }

    fn hand_over(&mut self, now: Time) {
        let second = now.ns_since(self.share.start_at) / SECOND_NS;
        if second > self.second {
            self.second = second;
            self.report(now, false);
        }
    }

    fn report(&mut self, now: Time, last: bool) {
        let streams = (last || self.share.stream_by_stream).then(|| {
            let result = |stream: &Stream| StreamResult {
                group: stream.group,
                number: stream.number,
                target: stream.target,
                response_p99_ns: stream.responses.p99_ns(),
                bytes: stream.bytes,
                stalls: stream.stalls,
                sent: stream.former_bytes + stream.connection_bytes,
                received: stream.received,
                losses: stream.losses,
                failure: stream.failure,
            };
            self.streams.iter().map(result).collect()
        });
        let (changes, changes_left_out) = self.changes.take();
        let snapshot = Snapshot {
            worker: self.share.worker,
            second: self.second + u64::from(last),
            at: now,
            cells: self.meter.hand_over(),
            groups: self.groups.iter().map(|timeline| gauges(timeline, now)).collect(),
            versions: self.versions.clone(),
            replicas: self.replicas.clone(),
            changes,
            changes_left_out,
            negotiated: self.negotiated.clone(),
            cpu_ns: self.ring.thread_cpu_ns(),
            turns: std::mem::replace(&mut self.turns, Self::turns()),
            ring: self.ring.counters(),
            ports_in_use: self.ports_in_use,
            held_back: self.held_back,
            opened: self.opened.clone(),
            streams,
            last,
        };
        // Control has gone only when the daemon ends; then nobody wants the figures.
        let _ = self.out.send(snapshot);
    }

    fn wake_at(&self, now: Time) -> Time {
        let next_second = self.share.start_at.plus_ns((self.second + 1) * SECOND_NS);
        let mut until = now.plus_ns(WAIT_MAX_NS).min(next_second);
        if self.sends_left {
            return now;
        }
        // Sends of a quantum go together; everything else is exact enough at the quantum, too.
        until = until.min(self.wheel.next_due(now).max(now.plus_ns(QUANTUM_NS)));
        if let Some(Reverse((at, _))) = self.deadlines.peek() {
            until = until.min((*at).max(now.plus_ns(QUANTUM_NS)));
        }
        if let Some(Reverse((at, _))) = self.comebacks.peek() {
            until = until.min((*at).max(now.plus_ns(QUANTUM_NS)));
        }
        if self.held_by_rate > 0 {
            until = until.min(self.next_to_come().max(now.plus_ns(QUANTUM_NS)));
        }
        for group in &self.groups {
            until = until.min(group.next_step()).min(group.next_launch().max(now.plus_ns(QUANTUM_NS)));
            if group.has_drain_work() {
                until = until.min(now.plus_ns(QUANTUM_NS));
            }
        }
        until.max(now)
    }

    /// When the next that the rate of its group holds may come; where there is no room, what makes room wakes.
    #[cold]
    fn next_to_come(&self) -> Time {
        let waits = |index: &usize| !self.groups[*index].coming.is_empty() && self.may_connect(*index);
        let times = (0..self.groups.len()).filter(waits).map(|index| self.groups[index].reconnect_next);
        times.min().unwrap_or(Time::NEVER)
    }

    pub(super) fn deadline(&mut self, index: u32, at: Time) {
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        connection.deadline = at;
        self.deadlines.push(Reverse((at, Deadline::Phase(index, connection.generation))));
    }

    /// Moves a stream to another standing.
    pub(super) fn stand(&mut self, stream: u32, standing: Standing) {
        let stream = &mut self.streams[stream as usize];
        let group = &mut self.groups[usize::from(stream.group)];
        group.standing[stream.standing as usize] -= 1;
        group.standing[standing as usize] += 1;
        if (stream.standing == Standing::Open) != (standing == Standing::Open) {
            group.count_open(stream.target, standing == Standing::Open);
        }
        stream.standing = standing;
    }

    pub(super) fn connection(&mut self, index: u32) -> &mut Connection {
        self.connections[index as usize].as_mut().expect("a live connection")
    }

    /// The live connection that a completion is for, unless it has ended.
    pub(super) fn live(&self, index: u32, generation: u32) -> bool {
        self.connections
            .get(index as usize)
            .and_then(Option::as_ref)
            .is_some_and(|c| c.generation == generation && c.phase != Phase::Ended)
    }
}

fn gauges(timeline: &Timeline, now: Time) -> GroupGauges {
    GroupGauges {
        phase: timeline.phase,
        stage: timeline.stage,
        requested: timeline.requested,
        requested_max: timeline.requested_max,
        opened: timeline.opened,
        standing: timeline.standing,
        open: timeline.open.clone(),
        end: Some(timeline.end()).filter(|&end| end != Time::NEVER),
        steady_ns: timeline.steady_ns(now),
        tick_ns: timeline.tick_ns,
    }
}
