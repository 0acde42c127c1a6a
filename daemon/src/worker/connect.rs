//! Streams begin, and try again. How they end is in `leave`.

use std::cmp::Reverse;

use scale_ring::{Errno, Ring, Time, Token};

use crate::load::{Group, Protocol, Reconnect};
use crate::stream::class::Class;
use crate::stream::flow::{NO_CONNECTION, Standing, Stream};
use crate::stream::meter::Figure;
use crate::stream::stack::{Connection, Phase};

use super::gate::SLOT_NS;
use super::origin::PORTS_TRIED_MAX;
use super::share::{ADDRESSES_MAX, GroupPhase};
use super::turn::{Deadline, LAUNCHES_MAX, Worker, kind};

/// Times that a stream looks again when others hold every source port that it tried, and the first wait
/// before that; each is twice the last.
const SEARCHES_MAX: u8 = 6;
const SEARCH_WAIT_NS: u64 = 10_000_000;
/// Back-off: the first attempt's ceiling, and the last's.
const BACKOFF_NS: u64 = 500_000_000;
const BACKOFF_MAX_NS: u64 = 30_000_000_000;
/// Where as many connects are under way as may be, a retry looks again after this.
pub(super) const ROOM_WAIT_NS: u64 = 10_000_000;
/// Attempts that follow one that an SSH server dropped before its banner.
const DROPS_MAX: u32 = 6;
/// A connection that waits longer for its slot is one that the list holds back.
const HELD_BACK_NS: u64 = 1_000_000_000;

/// An address of an attempt that is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Try {
    /// Among those of its row.
    pub address: u32,
    /// How many were tried before it.
    pub tried: u32,
    /// It has its slot already.
    pub has_slot: bool,
}

impl<R: Ring> Worker<R> {
    /// Starts the streams whose time has come.
    pub(super) fn launch(&mut self, now: Time) {
        let mut room = LAUNCHES_MAX;
        for index in 0..self.groups.len() {
            while room > 0 && now >= self.groups[index].next_launch() && self.may_connect(index) {
                room -= 1;
                let local = self.groups[index].launched;
                let stream = self.stream_of(index, local);
                self.groups[index].launched += 1;
                let Stream { standing, connection, .. } = self.streams[stream as usize];
                match standing {
                    Standing::Planned | Standing::Closed | Standing::Failed => {
                        self.attempt_or_wait(stream, now);
                    }
                    // Shrunk and grown again before the close was over.
                    Standing::Closing => self.connection(connection).reopen = true,
                    Standing::Connecting | Standing::Open | Standing::Waiting => {}
                }
            }
        }
    }

    /// Whether the group's limit of connects under way leaves room for another.
    pub(super) fn may_connect(&self, group: usize) -> bool {
        // Of a limit below the number of workers each has one, or it would never connect.
        let share = |all| Group::share(all, self.share.worker, self.share.workers).max(1);
        let limit = self.share.groups[group].concurrency.map(share);
        limit.is_none_or(|limit| self.groups[group].connecting < limit)
    }

    /// The slab index of a group's local stream, which is made where it is new.
    fn stream_of(&mut self, group: usize, local: u32) -> u32 {
        while self.groups[group].streams.len() <= local as usize {
            let timeline = &mut self.groups[group];
            let spec = &self.share.groups[group];
            let number = spec.first_stream + timeline.number(timeline.streams.len() as u32);
            let endpoint = spec.endpoint(number);
            let target = self.share.endpoints[endpoint as usize].target;
            timeline.streams.push(self.streams.len() as u32);
            timeline.standing[Standing::Planned as usize] += 1;
            self.streams.push(Stream::new(group as u8, number, target));
        }
        self.groups[group].streams[local as usize]
    }

    /// Streams of the group are due from `at` on, open or not, as far as its time line says so.
    pub(super) fn arm_all(&mut self, group: usize, at: Time) {
        let timeline = &self.groups[group];
        let wanted = timeline.requested.min(timeline.due_below);
        if wanted == 0 {
            return;
        }
        self.stream_of(group, wanted - 1);
        for local in 0..wanted as usize {
            let stream = self.groups[group].streams[local];
            self.arm(stream, at);
        }
    }

    /// `stream` is due at its grid's points from `from` on.
    pub(super) fn arm(&mut self, stream: u32, from: Time) {
        let flow = &mut self.streams[stream as usize];
        let timeline = &self.groups[usize::from(flow.group)];
        if flow.armed || self.wheel.due(stream).is_some() {
            flow.armed = true;
            return;
        }
        let group = &self.share.groups[usize::from(flow.group)];
        if group.traffic == crate::load::Traffic::Receive {
            return;
        }
        let point = timeline.first_point(group, flow.number, self.share.seed, from);
        if timeline.is_sending() && point < timeline.end() {
            flow.armed = true;
            flow.grid = timeline.grid;
            flow.point = 0;
            self.wheel.arm(stream, point);
        }
    }

    /// One attempt to open `stream`.
    pub(super) fn attempt(&mut self, stream: u32, now: Time) {
        self.attempt_from(stream, 0, false, now);
    }

    /// The same, where `tried` addresses were tried already, or its slot has come.
    fn attempt_from(&mut self, stream: u32, tried: u32, has_slot: bool, now: Time) {
        let flow = &self.streams[stream as usize];
        let spec = &self.share.groups[usize::from(flow.group)];
        let row = spec.endpoint(flow.number);
        let deadline = now.plus_ns(spec.connect_timeout_ns);
        let timeline = &mut self.groups[usize::from(flow.group)];
        timeline.connecting += 1;
        timeline.spend(flow.target);
        if tried == 0 && !flow.is_searching {
            let counters = self.meter.counters(timeline.cell_now(flow.target));
            counters.attempts += 1;
            counters.retries += u64::from(flow.lost.is_some());
        }
        self.stand(stream, Standing::Connecting);
        if self.share.endpoints[row as usize].protocol == Protocol::Ssh {
            return self.ride(stream, row, (tried, has_slot), now, deadline);
        }
        let what = Try { address: self.first_address(stream, row, tried), tried, has_slot };
        self.try_address(stream, row, what, now, deadline);
    }

    /// Takes a slot for a connection to a row of endpoints; where it lies ahead, when it comes.
    pub(super) fn slot_ahead(&mut self, row: u32, now: Time) -> Option<Time> {
        let addresses = self.share.endpoints[row as usize].addresses;
        self.slots.take(addresses, now).filter(|&at| at > now)
    }

    /// The stream's attempt goes on when its slot comes.
    pub(super) fn await_slot(&mut self, stream: u32, tried: u32, at: Time) {
        let flow = &mut self.streams[stream as usize];
        flow.connection = NO_CONNECTION;
        let timeline = &mut self.groups[usize::from(flow.group)];
        timeline.connecting -= 1;
        timeline.unspend(flow.target);
        if tried == 0 && !flow.is_searching {
            // It has just been counted, and begins with its slot.
            let counters = self.meter.counters(timeline.cell_now(flow.target));
            counters.attempts -= 1;
            counters.retries -= u64::from(flow.lost.is_some());
        }
        self.stand(stream, Standing::Waiting);
        self.held_back += u64::from(at.ns_since(self.woke) > HELD_BACK_NS);
        self.deadlines.push(Reverse((at, Deadline::Slot(stream, tried))));
    }

    /// A stream's slot has come, at `at`. Where that was too long ago it takes another.
    pub(super) fn slot_came(&mut self, stream: u32, tried: u32, at: Time, now: Time) {
        if self.streams[stream as usize].standing != Standing::Waiting {
            return;
        }
        if !self.is_wanted(stream) {
            return self.stand(stream, Standing::Closed);
        }
        if !self.may_connect(usize::from(self.streams[stream as usize].group)) {
            self.comebacks.push(Reverse((now.plus_ns(ROOM_WAIT_NS), stream)));
            return;
        }
        if self.is_held(stream) {
            return self.wait_held(stream, now);
        }
        self.attempt_from(stream, tried, now.ns_since(at) <= SLOT_NS, now);
    }

    /// Tries one address of the attempt, and the next ones where it cannot even be tried.
    fn try_address(&mut self, stream: u32, row: u32, what: Try, began: Time, deadline: Time) {
        let Try { address, tried, has_slot } = what;
        if !has_slot && let Some(at) = self.slot_ahead(row, self.woke.max(began)) {
            return self.await_slot(stream, tried, at);
        }
        let endpoint = &self.share.endpoints[row as usize];
        let addresses = &self.share.addresses[endpoint.addresses as usize];
        let Some(&to) = addresses.get(address as usize % addresses.len().max(1)) else {
            return self.attempt_failed(stream, Class::Unreachable, began);
        };
        let protocol = endpoint.protocol;
        match self.open(stream, to) {
            Ok((socket, lease)) => {
                let index = self.new_connection(socket, stream, row, protocol, began, deadline);
                let connection = self.connection(index);
                connection.lease = lease;
                connection.address = address;
                connection.addresses_tried = tried + 1;
                let token = Token::new(kind::CONNECT, connection.generation, index);
                self.ring.connect(socket, to, token);
            }
            Err(errno) => self.attempt_failed(stream, Class::from(errno), began),
        }
    }

    /// The slab index of a stream's new connection, which has until `deadline` to open.
    pub(super) fn new_connection(
        &mut self,
        socket: scale_ring::Socket,
        stream: u32,
        row: u32,
        protocol: Protocol,
        began: Time,
        deadline: Time,
    ) -> u32 {
        self.generation = (self.generation + 1) & Token::GENERATION_MASK;
        let generation = self.generation;
        let connection = Connection::new(socket, generation, stream, row, protocol, began, deadline);
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            (self.connections.len() - 1) as u32
        });
        self.connections[index as usize] = Some(Box::new(connection));
        let flow = &mut self.streams[stream as usize];
        (flow.connection, flow.spoken_to) = (index, false);
        self.deadlines.push(Reverse((deadline, Deadline::Phase(index, generation))));
        index
    }

    /// TCP refused or failed: a sibling address within the same attempt, or the attempt fails.
    pub(super) fn connect_failed(&mut self, index: u32, errno: Errno, now: Time) {
        let connection = self.connection(index);
        let (stream, row, address) = (connection.stream, connection.endpoint, connection.address);
        let (tried, began, deadline) = (connection.addresses_tried, connection.began, connection.deadline);
        self.end(index, false);
        self.streams[stream as usize].connection = NO_CONNECTION;
        match self.next_address(row, (address, tried), errno, now < deadline) {
            Some(address) => {
                self.try_address(stream, row, Try { address, tried, has_slot: false }, began, deadline);
            }
            None => self.attempt_failed(stream, Class::from(errno), now),
        }
    }

    /// The address of the row to try after `address` failed as the attempt's `tried`th; `None`: no more.
    pub(super) fn next_address(
        &mut self,
        row: u32,
        (address, tried): (u32, u32),
        errno: Errno,
        in_time: bool,
    ) -> Option<u32> {
        let siblings =
            self.share.addresses[self.share.endpoints[row as usize].addresses as usize].len() as u32;
        // A port in TIME_WAIT towards this address is no fault of the target's: another port.
        let taken =
            matches!(errno, Errno::AddressNotAvailable | Errno::AddressInUse) && tried < PORTS_TRIED_MAX;
        if !in_time || (tried >= siblings && !taken) {
            return None;
        }
        self.ports_in_use += u64::from(taken);
        Some(if taken { address } else { (address + 1) % siblings })
    }

    /// An attempt came to nothing; its connection, if there was one, has ended.
    pub(super) fn attempt_failed(&mut self, stream: u32, class: Class, now: Time) {
        let wanted = self.is_wanted(stream);
        let flow = &mut self.streams[stream as usize];
        let timeline = &mut self.groups[usize::from(flow.group)];
        timeline.connecting -= 1;
        if class == Class::AddressUnavailable && wanted && flow.searches < SEARCHES_MAX {
            // Others hold a stretch of ports: the next stretch, before it is called a failure.
            let wait = SEARCH_WAIT_NS << flow.searches;
            (flow.searches, flow.is_searching, flow.connection) = (flow.searches + 1, true, NO_CONNECTION);
            self.stand(stream, Standing::Waiting);
            return self.comebacks.push(Reverse((now.plus_ns(wait), stream)));
        }
        (flow.failure, flow.is_searching) = (Some(class), false);
        let counters = self.meter.counters(timeline.cell_now(flow.target));
        counters.failures.count(class);
        counters.retries_failed += u64::from(flow.lost.is_some());
        self.next_attempt(stream, now);
    }

    /// What follows a failed attempt or a lost connection.
    pub(super) fn next_attempt(&mut self, stream: u32, now: Time) {
        let flow = &mut self.streams[stream as usize];
        flow.connection = NO_CONNECTION;
        let timeline = &self.groups[usize::from(flow.group)];
        let wanted = self.is_wanted(stream);
        let flow = &mut self.streams[stream as usize];
        if !wanted {
            let standing = if timeline.phase >= GroupPhase::Draining || flow.opened {
                Standing::Closed
            } else {
                Standing::Failed
            };
            self.give_up(stream, now);
            return self.stand(stream, standing);
        }
        flow.attempts += 1;
        let power = (flow.attempts - 1).min(16);
        // A server that is too busy to greet is one to come back to, whatever follows a loss.
        let dropped = flow.failure == Some(Class::DroppedBeforeBanner) && flow.attempts <= DROPS_MAX;
        let delay = match self.share.groups[usize::from(flow.group)].reconnect {
            Reconnect::Never if dropped => self.random.below((BACKOFF_NS << power).min(BACKOFF_MAX_NS)),
            Reconnect::Never => return self.stand(stream, Standing::Failed),
            Reconnect::Backoff => self.random.below((BACKOFF_NS << power).min(BACKOFF_MAX_NS)),
            Reconnect::Client(client) => {
                match self.streams[stream as usize].wait_as(client, now, &mut self.random) {
                    Some(wait_ns) => wait_ns,
                    None => return self.stand(stream, Standing::Failed),
                }
            }
        };
        self.stand(stream, Standing::Waiting);
        self.comebacks.push(Reverse((now.plus_ns(delay), stream)));
    }

    /// Whether the group still wants this stream to be open.
    pub(super) fn is_wanted(&self, stream: u32) -> bool {
        let flow = &self.streams[stream as usize];
        let timeline = &self.groups[usize::from(flow.group)];
        let spec = &self.share.groups[usize::from(flow.group)];
        let local = (flow.number - spec.first_stream) / self.share.workers;
        timeline.is_sending() && local < timeline.requested
    }

    /// A stream's back-off is over. No more than the ramp's own rate of connects, but for `client`. True: it has tried.
    pub(super) fn retry(&mut self, stream: u32, now: Time) -> bool {
        let group = usize::from(self.streams[stream as usize].group);
        if self.streams[stream as usize].standing != Standing::Waiting {
            return false;
        }
        if !self.is_wanted(stream) {
            self.stand(stream, Standing::Closed);
            return false;
        }
        if !self.may_connect(group) {
            self.comebacks.push(Reverse((now.plus_ns(ROOM_WAIT_NS), stream)));
            return false;
        }
        if self.is_held(stream) {
            self.wait_held(stream, now);
            return false;
        }
        let spec = &self.share.groups[group];
        let timeline = &mut self.groups[group];
        let is_first = self.streams[stream as usize].is_new();
        if !matches!(spec.reconnect, Reconnect::Client(_)) || is_first {
            if now < timeline.reconnect_next {
                timeline.coming.push_back(stream);
                self.held_by_rate += 1;
                return false;
            }
            let interval = 1_000_000_000_000 * u64::from(self.share.workers) / spec.connect_rate_milli;
            let ramps = if is_first { timeline.launch_interval_ns() } else { 0 };
            timeline.reconnect_next = now.plus_ns(interval.max(ramps));
        }
        self.attempt(stream, now);
        true
    }

    /// The stream is open: it is due from now on, if it was not already.
    pub(super) fn opened(&mut self, index: u32, now: Time) {
        let connection = self.connection(index);
        connection.phase_began = now;
        let stream = connection.stream;
        // Its deadline is past use; the entry in the heap finds nothing to do.
        connection.deadline = Time::NEVER;
        let flow = &mut self.streams[stream as usize];
        let timeline = &mut self.groups[usize::from(flow.group)];
        timeline.connecting -= 1;
        let cell = timeline.cell_now(flow.target);
        let counters = self.meter.counters(cell);
        counters.connects += 1;
        counters.replaced += u64::from(flow.opened && flow.lost.is_none());
        if !flow.opened {
            flow.opened = true;
            timeline.opened += 1;
        }
        flow.since = now;
        if flow.begin_connection() {
            self.meter.record(cell, Figure::FirstByte, 0);
        }
        self.note_address(index);
        self.compare(index, now);
        self.stand(stream, Standing::Open);
        if !self.is_wanted(stream) {
            return self.close(index, now);
        }
        self.send_first_message(index, now);
        self.arm(stream, now);
    }

    /// Counts a stream that was opened at its address.
    fn note_address(&mut self, index: u32) {
        let Self { connections, links, share, opened, .. } = self;
        let connection = connections[index as usize].as_mut().expect("a live connection");
        let row = share.endpoints[connection.endpoint as usize].addresses as usize;
        let tried = match links.get(connection.link as usize) {
            Some(link) => link.as_ref().expect("its link lives").address,
            None => connection.address,
        };
        // The name may have been resolved again meanwhile, to fewer addresses.
        let Some(address) = share.addresses[row].get(tried as usize) else { return };
        let known = opened.iter().position(|(known, _)| known == address);
        if known.is_none() && opened.len() < ADDRESSES_MAX {
            opened.push((*address, 0));
        }
        let place = known.unwrap_or(opened.len() - 1);
        if opened[place].0 == *address {
            opened[place].1 += 1;
            connection.met_at = place as u8;
        }
    }

    /// Records how long a phase of opening took, and begins the next.
    pub(super) fn phase_done(&mut self, index: u32, figure: Figure, now: Time) {
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        let took = now.ns_since(connection.phase_began);
        connection.phase_began = now;
        let flow = &self.streams[connection.stream as usize];
        let cell = self.groups[usize::from(flow.group)].cell_now(flow.target);
        self.meter.record(cell, figure, took);
    }

    /// A connection's phase took too long.
    pub(super) fn phase_timed_out(&mut self, index: u32, now: Time) {
        let connection = self.connection(index);
        let stream = connection.stream;
        match connection.phase {
            phase if phase.is_opening() => {
                self.end(index, true);
                let silent = phase == Phase::Aligning;
                self.attempt_failed(stream, if silent { Class::TerminalSilent } else { Class::Timeout }, now);
            }
            Phase::Closing => {
                let in_order = connection.closed;
                self.closed(index, in_order, now);
            }
            Phase::Leaving => self.end(index, true),
            Phase::Open if connection.broken => self.lose(index, Class::TlsProtocol, now),
            _ => {}
        }
    }
}
