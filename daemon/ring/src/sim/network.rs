//! What lies behind all rings: sockets' ends, what flies between them, completions to be seen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;

use crate::{Completion, Errno, Outcome, ReceivedBytes, RingCounters, SendBuffer, Socket, Time, Token};

use super::{Cut, Faults, Leaks};

/// What a ring asks for; it happens at the next submit.
#[derive(Debug)]
pub(super) enum Operation {
    Connect(Socket, SocketAddr, Token),
    Accept(Socket, Token),
    Receive(Socket, Token),
    Send(Socket, SendBuffer, Token),
    EndSending(Socket),
    Close(Socket, Token),
    Abort(Socket, Token),
}

/// What is on its way to an end.
#[derive(Debug)]
enum Packet {
    Connect(SocketAddr),
    Established,
    Refused,
    Data(Box<[u8]>),
    Fin,
    Reset,
}

/// How far the peer's direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Incoming {
    Going,
    Ended,
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Listening,
    Connecting,
    Established,
    Closed,
}

/// One end of a connection, or a listener.
#[derive(Debug)]
struct End {
    ring: usize,
    state: State,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    peer: Option<usize>,
    arrived: VecDeque<u8>,
    /// Bytes on their way to this end.
    flying: usize,
    incoming: Incoming,
    /// Packets to this end arrive in order.
    arrives_last: Time,
    connect: Option<Token>,
    receive: Option<Token>,
    accept: Option<Token>,
    /// Connections nobody has accepted yet.
    backlog: VecDeque<usize>,
    send: Option<(Token, SendBuffer, usize)>,
    sending_ended: bool,
    /// A receive's completions are seen in their order.
    receive_seen: Time,
    /// `Closed` is seen after everything else.
    seen_last: Time,
}

/// One ring's side.
#[derive(Debug)]
pub(super) struct RingState {
    pub(super) queued: Vec<Operation>,
    completions: BinaryHeap<Reverse<Seen>>,
    pub(super) buffers: Vec<Box<[u8]>>,
    free: Vec<u16>,
    pub(super) released: Vec<u16>,
    sockets: usize,
    pub(super) send_buffers: usize,
    /// The wait under way: from, until.
    pub(super) waits: Option<(Time, Time)>,
    pub(super) counters: RingCounters,
}

#[derive(Debug)]
struct Seen {
    at: Time,
    number: u64,
    completion: Completion,
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Seen {}
impl PartialOrd for Seen {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Seen {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// See [`super::World`].
#[derive(Debug)]
pub(super) struct Network {
    seed: u64,
    random: u64,
    now: Time,
    faults: Faults,
    ends: Vec<End>,
    pub(super) rings: Vec<RingState>,
    packets: BTreeMap<(Time, u64), (usize, Packet)>,
    /// Addresses that are cut, how, and until when.
    cuts: Vec<(SocketAddr, Cut, Time)>,
    number: u64,
    trace: u64,
}

impl Network {
    /// What reading the clock costs.
    const CLOCK_NS: u64 = 40;
    /// How long a ring waits for more after its first completion.
    const MIN_WAIT_NS: u64 = 200_000;

    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            random: seed,
            now: Time::from_ns(1_000_000_000_000),
            faults,
            ends: Vec::new(),
            rings: Vec::new(),
            packets: BTreeMap::new(),
            cuts: Vec::new(),
            number: 0,
            trace: seed,
        }
    }

    pub(super) fn add_ring(&mut self) -> usize {
        let count = self.faults.buffers;
        let bytes = self.faults.buffer_bytes as usize;
        self.rings.push(RingState {
            queued: Vec::new(),
            completions: BinaryHeap::new(),
            buffers: (0..count).map(|_| vec![0; bytes].into()).collect(),
            free: (0..count).rev().collect(),
            released: Vec::new(),
            sockets: 0,
            send_buffers: 0,
            waits: None,
            counters: RingCounters::default(),
        });
        self.rings.len() - 1
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Time passes while a program runs, too.
    pub(super) fn read_clock(&mut self) -> Time {
        self.now = self.now.plus_ns(Self::CLOCK_NS);
        self.now
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = Faults {
            // A ring keeps the buffers that it was made with.
            buffers: self.faults.buffers,
            buffer_bytes: self.faults.buffer_bytes,
            ..faults
        };
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    /// splitmix64; `scaled` has its own, which this crate does not know.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        Self::mix(self.random)
    }

    const fn mix(mut x: u64) -> u64 {
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.random()) * u128::from(bound)) >> 64) as u64
    }

    fn happens(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.below(1000) < per_mille
    }

    fn record(&mut self, what: u64, end: usize, amount: u64) {
        let word = self.now.ns() ^ what << 56 ^ (end as u64) << 32 ^ amount;
        self.trace = Self::mix(self.trace ^ Self::mix(word));
    }

    /// A broken promise of whoever uses the ring.
    #[track_caller]
    fn demand(&self, kept: bool, broken: &str) {
        assert!(kept, "seed {}: {broken}", self.seed);
    }

    // --- what rings ask for -------------------------------------------------------------------

    pub(super) fn open(&mut self, ring: usize, bind: Option<SocketAddr>) -> Result<Socket, Errno> {
        if self.rings[ring].sockets >= self.faults.sockets_max {
            return Err(Errno::TooManyFiles);
        }
        if bind.is_some() && self.happens(self.faults.address_in_use_per_mille) {
            return Err(Errno::AddressInUse);
        }
        Ok(self.add_end(ring, State::Open, bind))
    }

    pub(super) fn listen(&mut self, ring: usize, at: SocketAddr) -> Socket {
        self.add_end(ring, State::Listening, Some(at))
    }

    fn add_end(&mut self, ring: usize, state: State, local: Option<SocketAddr>) -> Socket {
        self.rings[ring].sockets += 1;
        self.ends.push(End {
            ring,
            state,
            local,
            remote: None,
            peer: None,
            arrived: VecDeque::new(),
            flying: 0,
            incoming: Incoming::Going,
            arrives_last: self.now,
            connect: None,
            receive: None,
            accept: None,
            backlog: VecDeque::new(),
            send: None,
            sending_ended: false,
            receive_seen: self.now,
            seen_last: self.now,
        });
        Socket(self.ends.len() as u32 - 1)
    }

    pub(super) fn submit(&mut self, ring: usize) {
        self.publish(ring);
        let queued = std::mem::take(&mut self.rings[ring].queued);
        self.rings[ring].counters.enters += 1;
        for operation in queued {
            self.execute(ring, operation);
        }
    }

    /// Released buffers are the kernel's again.
    pub(super) fn publish(&mut self, ring: usize) {
        let ring = &mut self.rings[ring];
        ring.free.append(&mut ring.released);
    }

    fn execute(&mut self, ring: usize, operation: Operation) {
        let socket = match &operation {
            Operation::Connect(socket, ..)
            | Operation::Accept(socket, _)
            | Operation::Receive(socket, _)
            | Operation::Send(socket, ..)
            | Operation::EndSending(socket)
            | Operation::Close(socket, _)
            | Operation::Abort(socket, _) => socket.0 as usize,
        };
        let (owner, state) = (self.ends[socket].ring, self.ends[socket].state);
        self.demand(owner == ring, "a socket was used on another ring");
        self.demand(state != State::Closed, "a socket was used after its close");
        match operation {
            Operation::Connect(_, to, token) => self.connect(socket, to, token),
            Operation::Accept(_, token) => {
                self.demand(state == State::Listening, "accept on what does not listen");
                self.demand(self.ends[socket].accept.is_none(), "two accepts on one listener");
                self.ends[socket].accept = Some(token);
                self.hand_out_accepted(socket);
            }
            Operation::Receive(_, token) => {
                self.demand(state == State::Established, "receive before a connection");
                self.demand(self.ends[socket].receive.is_none(), "two receives on one socket");
                self.ends[socket].receive = Some(token);
                self.deliver(socket);
            }
            Operation::Send(_, buffer, token) => {
                self.demand(state == State::Established, "send before a connection");
                self.demand(self.ends[socket].send.is_none(), "two sends under way on one socket");
                self.demand(!buffer.is_empty(), "a send of nothing");
                self.demand(!self.ends[socket].sending_ended, "a send after the end of sending");
                self.ends[socket].send = Some((token, buffer, 0));
                self.go_on_sending(socket);
            }
            Operation::EndSending(_) => self.end_sending(socket),
            Operation::Close(_, token) => self.close(socket, token, false),
            Operation::Abort(_, token) => self.close(socket, token, true),
        }
    }

    fn connect(&mut self, end: usize, to: SocketAddr, token: Token) {
        self.demand(self.ends[end].state == State::Open, "a second connect on one socket");
        let local = self.ends[end].local;
        let twice = local.is_some()
            && self.ends.iter().any(|other| {
                other.local == local
                    && other.remote == Some(to)
                    && matches!(other.state, State::Connecting | State::Established)
            });
        self.demand(!twice, "one source port twice to one destination");
        let this = &mut self.ends[end];
        (this.state, this.remote, this.connect) = (State::Connecting, Some(to), Some(token));
        if !self.happens(self.faults.silence_per_mille) {
            self.fly(end, Packet::Connect(to));
        }
    }

    fn end_sending(&mut self, end: usize) {
        self.demand(self.ends[end].state == State::Established, "the end of sending before a connection");
        self.demand(self.ends[end].send.is_none(), "the end of sending while a send is under way");
        if !std::mem::replace(&mut self.ends[end].sending_ended, true)
            && let Some(peer) = self.ends[end].peer
        {
            self.fly(peer, Packet::Fin);
        }
    }

    fn close(&mut self, end: usize, token: Token, abort: bool) {
        self.record(1, end, u64::from(abort));
        let unread = !self.ends[end].arrived.is_empty();
        let this = &mut self.ends[end];
        let (ring, peer, was) = (this.ring, this.peer, this.state);
        this.state = State::Closed;
        this.arrived = VecDeque::new();
        let armed = [this.connect.take(), this.receive.take(), this.accept.take()];
        let (send, backlog) = (this.send.take(), std::mem::take(&mut this.backlog));
        for token in armed.into_iter().flatten() {
            self.complete_receive(end, token, Outcome::Failed(Errno::Cancelled));
        }
        if let Some((token, buffer, sent)) = send {
            let outcome = if sent > 0 {
                Outcome::Sent { buffer, sent }
            } else {
                Outcome::SendFailed { buffer, errno: Errno::Cancelled }
            };
            self.complete(end, token, outcome);
        }
        if let (Some(peer), State::Established | State::Connecting) = (peer, was) {
            // Bytes that nobody read turn a close into a reset (RFC 1122 §4.2.2.13).
            if abort || unread {
                self.fly(peer, Packet::Reset);
            } else if !self.ends[end].sending_ended {
                self.fly(peer, Packet::Fin);
            }
        }
        for waiting in backlog {
            self.ends[waiting].state = State::Closed;
            if let Some(peer) = self.ends[waiting].peer {
                self.fly(peer, Packet::Reset);
            }
        }
        let at = self.ends[end].seen_last;
        self.see(end, at, token, Outcome::Closed);
        self.rings[ring].sockets -= 1;
    }

    // --- the network --------------------------------------------------------------------------

    pub(super) fn next(&self) -> Time {
        self.packets.first_key_value().map_or(Time::NEVER, |((at, _), _)| *at)
    }

    pub(super) fn advance(&mut self, to: Time) {
        while let Some(entry) = self.packets.first_entry()
            && entry.key().0 <= to
        {
            let ((at, _), (end, packet)) = entry.remove_entry();
            self.now = self.now.max(at);
            self.arrive(end, packet);
        }
        self.now = self.now.max(to);
    }

    pub(super) fn cut(&mut self, address: SocketAddr, cut: Cut, until: Time) -> (usize, usize) {
        self.cuts.push((address, cut, until));
        match cut {
            Cut::Killed => self.reset_all(|end| end.local == Some(address)),
            Cut::Apart => {
                self.hold_back(address, until);
                (0, 0)
            }
        }
    }

    pub(super) fn cut_ring(&mut self, ring: usize) -> (usize, usize) {
        self.reset_all(|end| end.ring == ring)
    }

    /// Resets the connections of such ends; how many were, and how many whose other end was not connected yet.
    fn reset_all(&mut self, such: impl Fn(&End) -> bool) -> (usize, usize) {
        let goes =
            |end: &End| end.state == State::Established && end.incoming == Incoming::Going && such(end);
        let ends: Vec<usize> = (0..self.ends.len()).filter(|&end| goes(&self.ends[end])).collect();
        let (mut open, mut opening) = (0, 0);
        for end in ends {
            match self.ends[end].peer.map(|peer| self.ends[peer].state) {
                Some(State::Established) => open += 1,
                Some(State::Connecting) => opening += 1,
                _ => {}
            }
            self.reset_both(end);
        }
        (open, opening)
    }

    /// The connection is gone: nothing of it arrives any more, and both ends see RST.
    fn reset_both(&mut self, end: usize) {
        let peer = self.ends[end].peer;
        for end in [Some(end), peer].into_iter().flatten() {
            self.packets.retain(|_, (to, _)| *to != end);
            self.ends[end].flying = 0;
            if matches!(self.ends[end].state, State::Established | State::Connecting) {
                self.reset(end);
            }
        }
    }

    /// What is on its way to or from `address` arrives when it is no longer cut, in its order.
    fn hold_back(&mut self, address: SocketAddr, until: Time) {
        for ((at, number), (end, packet)) in std::mem::take(&mut self.packets) {
            let held = self.is_of(end, address);
            let at = if held { at.max(until) } else { at };
            if held {
                self.ends[end].arrives_last = self.ends[end].arrives_last.max(at);
            }
            self.packets.insert((at, number), (end, packet));
        }
    }

    /// Whether one of the two ends of `end`'s connection has this address as a server.
    fn is_of(&self, end: usize, address: SocketAddr) -> bool {
        self.ends[end].local == Some(address) || self.ends[end].remote == Some(address)
    }

    /// Until when nothing arrives at `end`, because one of its sides is cut off.
    fn apart_until(&self, end: usize) -> Time {
        let of_it = |(address, cut, until): &(SocketAddr, Cut, Time)| {
            (*cut == Cut::Apart && self.is_of(end, *address)).then_some(*until)
        };
        self.cuts.iter().filter_map(of_it).fold(Time::ZERO, Time::max)
    }

    /// Puts `packet` on its way to `end`.
    fn fly(&mut self, end: usize, packet: Packet) {
        let (least, most) = self.faults.latency_ns;
        let mut takes = least + self.below(most - least + 1);
        if self.happens(self.faults.spike_per_mille) {
            takes += self.faults.spike_ns;
        }
        let from = self.now.max(self.apart_until(end));
        let at = from.plus_ns(takes).max(self.ends[end].arrives_last);
        self.ends[end].arrives_last = at;
        self.number += 1;
        self.packets.insert((at, self.number), (end, packet));
    }

    fn arrive(&mut self, end: usize, packet: Packet) {
        let state = self.ends[end].state;
        match packet {
            Packet::Connect(to) if state == State::Connecting => self.answer_connect(end, to),
            Packet::Established if state == State::Connecting => {
                self.record(2, end, 0);
                self.ends[end].state = State::Established;
                let token = self.ends[end].connect.take().expect("a connect is under way");
                self.complete(end, token, Outcome::Connected);
            }
            Packet::Refused if state == State::Connecting => {
                let token = self.ends[end].connect.take().expect("a connect is under way");
                self.complete(end, token, Outcome::Failed(Errno::Refused));
            }
            Packet::Data(bytes) => self.data_arrives(end, &bytes),
            Packet::Fin if state == State::Established && self.ends[end].incoming == Incoming::Going => {
                self.ends[end].incoming = Incoming::Ended;
                self.deliver(end);
            }
            Packet::Reset if matches!(state, State::Established | State::Connecting) => self.reset(end),
            Packet::Connect(_) | Packet::Established | Packet::Refused | Packet::Fin | Packet::Reset => {}
        }
    }

    fn answer_connect(&mut self, client: usize, to: SocketAddr) {
        let listeners: Vec<usize> = (0..self.ends.len())
            .filter(|&end| self.ends[end].state == State::Listening && self.ends[end].local == Some(to))
            .collect();
        let is_down = |(address, cut, until): &(SocketAddr, Cut, Time)| {
            *address == to && *cut == Cut::Killed && self.now < *until
        };
        let down = self.cuts.iter().any(is_down);
        if down || listeners.is_empty() || self.happens(self.faults.refuse_per_mille) {
            return self.fly(client, Packet::Refused);
        }
        let listener = listeners[self.below(listeners.len() as u64) as usize];
        let ring = self.ends[listener].ring;
        let server = self.add_end(ring, State::Established, Some(to)).0 as usize;
        self.ends[server].peer = Some(client);
        self.ends[client].peer = Some(server);
        self.fly(client, Packet::Established);
        self.ends[listener].backlog.push_back(server);
        self.hand_out_accepted(listener);
    }

    fn hand_out_accepted(&mut self, listener: usize) {
        while let Some(token) = self.ends[listener].accept
            && let Some(server) = self.ends[listener].backlog.pop_front()
        {
            let more = !self.happens(self.faults.lost_multishot_per_mille);
            if !more {
                self.ends[listener].accept = None;
            }
            let socket = Socket(server as u32);
            self.complete_receive(listener, token, Outcome::Accepted { socket, more });
        }
    }

    fn data_arrives(&mut self, end: usize, bytes: &[u8]) {
        self.record(3, end, bytes.len() as u64);
        self.ends[end].flying -= bytes.len();
        let Some(peer) = self.ends[end].peer else { return };
        if self.ends[end].state == State::Closed || self.ends[end].incoming != Incoming::Going {
            // Nobody is there any more: the sender is told by RST.
            return self.fly(peer, Packet::Reset);
        }
        if self.happens(self.faults.reset_per_mille) {
            self.reset(end);
            return self.fly(peer, Packet::Reset);
        }
        self.ends[end].arrived.extend(bytes);
        if self.happens(self.faults.end_per_mille) {
            self.ends[end].incoming = Incoming::Ended;
            self.fly(peer, Packet::Reset);
        }
        self.deliver(end);
    }

    fn reset(&mut self, end: usize) {
        self.record(4, end, 0);
        self.ends[end].incoming = Incoming::Reset;
        if let Some(token) = self.ends[end].connect.take() {
            return self.complete(end, token, Outcome::Failed(Errno::Reset));
        }
        if let Some((token, buffer, _)) = self.ends[end].send.take() {
            self.complete(end, token, Outcome::SendFailed { buffer, errno: Errno::Reset });
        }
        self.deliver(end);
    }

    /// Takes from the send under way what the window has room for.
    fn go_on_sending(&mut self, end: usize) {
        let Some((token, buffer, sent)) = self.ends[end].send.take() else { return };
        if self.ends[end].incoming == Incoming::Reset {
            return self.complete(end, token, Outcome::SendFailed { buffer, errno: Errno::Reset });
        }
        let peer = self.ends[end].peer.expect("an established end has a peer");
        let used = self.ends[peer].arrived.len() + self.ends[peer].flying;
        let mut taken = (buffer.len() - sent).min(self.faults.window_bytes.saturating_sub(used));
        let short = taken > 1 && self.happens(self.faults.short_send_per_mille);
        if short {
            taken = 1 + self.below(taken as u64 - 1) as usize;
        }
        if taken > 0 {
            let bytes: Box<[u8]> = buffer.as_slice()[sent..sent + taken].into();
            self.ends[peer].flying += taken;
            self.fly(peer, Packet::Data(bytes));
        }
        let sent = sent + taken;
        if short || sent == buffer.len() {
            let ring = self.ends[end].ring;
            self.rings[ring].counters.short_sends += u64::from(sent < buffer.len());
            self.complete(end, token, Outcome::Sent { buffer, sent });
        } else {
            self.ends[end].send = Some((token, buffer, sent));
        }
    }

    /// Gives an armed receive what has arrived.
    fn deliver(&mut self, end: usize) {
        while let Some(token) = self.ends[end].receive {
            let ring = self.ends[end].ring;
            if self.ends[end].arrived.is_empty() {
                let over = match self.ends[end].incoming {
                    Incoming::Going => return,
                    Incoming::Ended => Outcome::Ended,
                    Incoming::Reset => Outcome::Failed(Errno::Reset),
                };
                self.ends[end].receive = None;
                return self.complete_receive(end, token, over);
            }
            let Some(id) = self.rings[ring].free.pop() else {
                self.rings[ring].counters.buffers_exhausted += 1;
                self.ends[end].receive = None;
                return self.complete_receive(end, token, Outcome::Failed(Errno::NoBuffers));
            };
            let room = self.rings[ring].buffers[usize::from(id)].len();
            let mut len = self.ends[end].arrived.len().min(room);
            if len > 1 && self.happens(self.faults.split_per_mille) {
                len = 1 + self.below((len as u64 - 1).min(64)) as usize;
            }
            let buffer = &mut self.rings[ring].buffers[usize::from(id)];
            for (to, from) in buffer.iter_mut().zip(self.ends[end].arrived.drain(..len)) {
                *to = from;
            }
            let more = !self.happens(self.faults.lost_multishot_per_mille);
            if !more {
                self.ends[end].receive = None;
            }
            self.record(5, end, len as u64);
            let bytes = ReceivedBytes { id, len: len as u32 };
            self.complete_receive(end, token, Outcome::Received { bytes, more });
            if let Some(peer) = self.ends[end].peer
                && self.ends[peer].state == State::Established
            {
                self.go_on_sending(peer);
            }
        }
    }

    // --- completions --------------------------------------------------------------------------

    fn complete(&mut self, end: usize, token: Token, outcome: Outcome) {
        let delay = self.below(self.faults.completion_delay_ns + 1);
        let at = self.now.plus_ns(delay);
        self.see(end, at, token, outcome);
    }

    /// As `complete`, in the order of the receive's own.
    fn complete_receive(&mut self, end: usize, token: Token, outcome: Outcome) {
        let delay = self.below(self.faults.completion_delay_ns + 1);
        let at = self.now.plus_ns(delay).max(self.ends[end].receive_seen);
        self.ends[end].receive_seen = at;
        self.see(end, at, token, outcome);
    }

    fn see(&mut self, end: usize, at: Time, token: Token, outcome: Outcome) {
        self.number += 1;
        let this = &mut self.ends[end];
        this.seen_last = this.seen_last.max(at);
        let seen = Seen { at, number: self.number, completion: Completion { token, outcome } };
        self.rings[this.ring].completions.push(Reverse(seen));
    }

    pub(super) fn drain(&mut self, ring: usize, into: &mut Vec<Completion>, limit: usize) {
        self.publish(ring);
        let now = self.now;
        let completions = &mut self.rings[ring].completions;
        while into.len() < limit
            && let Some(Reverse(seen)) = completions.peek()
            && seen.at <= now
        {
            into.push(completions.pop().expect("it was there").0.completion);
        }
    }

    /// When the ring's wait is over.
    pub(super) fn wake_at(&self, ring: usize) -> Time {
        let ring = &self.rings[ring];
        let Some((from, until)) = ring.waits else { return self.now };
        let first = ring.completions.peek().map_or(Time::NEVER, |Reverse(seen)| seen.at);
        // A wait that began with completions at hand is over at once.
        until.min(if first <= from { first } else { first.plus_ns(Self::MIN_WAIT_NS) })
    }

    pub(super) fn leaks(&self, ring: usize) -> Leaks {
        let state = &self.rings[ring];
        Leaks {
            sockets: state.sockets,
            provided_buffers: state.buffers.len() - state.free.len() - state.released.len(),
            send_buffers: state.send_buffers,
        }
    }
}
