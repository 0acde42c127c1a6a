//! A server that takes what the generator offers: echo, discard, or send (`receive`).
//!
//! One thread, one ring. The fast path of an echo: a whole frame lies in the receive buffer, is
//! unmasked into a send buffer behind its new header, and goes out; several frames of one
//! receive go out in one send. At most one send is under way a connection; what is made meanwhile
//! waits in the connection, and beyond [`Sink::OUT_BYTES_MAX`] it stops receiving.
//!
//! Elsewhere: arguments and certificates (`bin/scale-sink`), frames and TLS (`scale-proto`).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::Write;
use std::sync::Arc;

use rustls::ServerConfig;
use scale_proto::tls::Tls;
use scale_proto::{http, ws};
use scale_ring::{Completion, Errno, Outcome, Ring, Socket, Time, Token};

mod terminal;

pub use terminal::Sessions;
use terminal::{Desk, Next, Typing};

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Raw bytes.
    Tcp,
    /// Websocket.
    Ws,
    /// Websocket over TLS.
    Wss,
}

/// What is done with what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// It goes back.
    Echo,
    /// It is counted.
    Discard,
    /// We send; what comes is counted.
    Receive {
        /// Bytes of each message.
        bytes: u32,
        /// ns between two messages of a connection.
        tick_ns: u64,
    },
    /// Each websocket is a web terminal of Coder's, emulated; `delay_ns` is not for these, nor are
    /// messages' times.
    Terminal {
        /// `stty raw -echo isig; exec cat` instead of `dd of=/dev/null`.
        raw: bool,
        /// Sessions outlive their connections; a request without one is refused.
        keeps: bool,
    },
}

/// How a sink behaves.
#[derive(Clone)]
pub struct Settings {
    /// Layers.
    pub protocol: Protocol,
    /// Direction.
    pub traffic: Traffic,
    /// Certificate and key, for `Wss`.
    pub tls: Option<Arc<ServerConfig>>,
    /// Each answer waits so long, in ns.
    pub delay_ns: u64,
    /// Each connection is closed after so long, in ns.
    pub close_after_ns: Option<u64>,
    /// Each open websocket gets a ping so often, in ns.
    pub ping_ns: Option<u64>,
    /// Accept, upgrade, and never answer.
    pub stall: bool,
    /// For `Traffic::Terminal`; sinks may share them.
    pub sessions: Sessions,
}

/// What a sink has counted; all only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Accepted, and upgraded where there is an upgrade.
    pub connections: u64,
    /// Whole messages that came.
    pub messages_received: u64,
    /// Messages handed to the kernel.
    pub messages_sent: u64,
    /// Payload that came.
    pub payload_bytes_received: u64,
    /// Payload handed to the kernel.
    pub payload_bytes_sent: u64,
    /// Websockets that we began to close.
    pub closes: u64,
    /// Of these, the peer answered.
    pub closes_answered: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.messages_received += other.messages_received;
        self.messages_sent += other.messages_sent;
        self.payload_bytes_received += other.payload_bytes_received;
        self.payload_bytes_sent += other.payload_bytes_sent;
        self.closes += other.closes;
        self.closes_answered += other.closes_answered;
    }
}

const ACCEPT: u8 = 0;
const RECEIVE: u8 = 1;
const SEND: u8 = 2;
const CLOSE: u8 = 3;

/// A terminal's command has ended (RFC 6455 §7.4.1).
const NORMAL: u16 = 1000;
/// What came was no JSON of a terminal's.
const INVALID_PAYLOAD: u16 = 1007;
/// What a ping carries.
const PING: &[u8] = b"scale-sink";

/// A message's times, for `--times`, until its answer has been handed to the ring.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    message: u64,
    received: Time,
    /// Where its answer ends in the connection's plain stream; `None`: not queued yet (`--delay`).
    end: Option<u64>,
}

struct Connection {
    socket: Socket,
    generation: u32,
    number: u64,
    messages: u64,
    tls: Option<Box<Tls>>,
    /// Bytes of an incomplete TLS record.
    carry: Vec<u8>,
    /// The request's head until it is complete.
    head: Option<Vec<u8>>,
    session: Option<ws::Session>,
    /// Pieces of a message that is not complete.
    message: Vec<u8>,
    /// For `Traffic::Terminal`, from the upgrade on.
    typing: Option<Box<Typing>>,
    /// Plain bytes that wait to be sent.
    out: Vec<u8>,
    /// Sealed bytes that wait to be sent.
    sealed: Vec<u8>,
    /// Answers that wait: until when, the frame, its payload's bytes.
    delayed: VecDeque<(Time, Vec<u8>, u64)>,
    /// Messages whose answer is not with the ring yet, oldest first; empty without `--times`.
    stamps: VecDeque<Stamp>,
    /// Plain bytes that have left `out` so far.
    handed: u64,
    sending: bool,
    receiving: bool,
    /// Close the socket once everything has gone.
    closing: bool,
    /// Its FIN has come.
    ended_by_peer: bool,
    ended: bool,
    next_send: Time,
}

/// Memory that every connection uses in its turn.
#[derive(Default)]
struct Scratch {
    /// A frame that waits (`--delay`), until it is copied.
    frame: Vec<u8>,
    desk: Desk,
}

/// The sink on one ring.
pub struct Sink<R> {
    ring: R,
    settings: Settings,
    listener: Option<Socket>,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    generation: u32,
    accepted: u64,
    counts: Counts,
    completions: Vec<Completion>,
    timers: BinaryHeap<Reverse<(Time, u32, u32, u8)>>,
    scratch: Scratch,
    payload: Vec<u8>,
    times: Option<Box<dyn Write>>,
    draining: bool,
}

const TIMER_SEND: u8 = 0;
const TIMER_CLOSE: u8 = 1;
const TIMER_PING: u8 = 2;
const TIMER_ACCEPT: u8 = 3;
/// From a failed accept to the next.
const ACCEPT_WAIT_NS: u64 = 10_000_000;

impl<R: Ring> Sink<R> {
    /// Bytes that may wait in a connection before it stops receiving.
    pub const OUT_BYTES_MAX: usize = 4 << 20;
    /// The longest message that is gathered.
    pub const MESSAGE_BYTES_MAX: u64 = 32 << 20;
    const COMPLETIONS_MAX: usize = 512;

    /// A sink over `ring` that has `listener` open.
    pub fn new(mut ring: R, listener: Socket, settings: Settings, times: Option<Box<dyn Write>>) -> Self {
        ring.accept(listener, Token::new(ACCEPT, 0, 0));
        let payload = match settings.traffic {
            Traffic::Receive { bytes, .. } => {
                (0..bytes).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
            }
            _ => Vec::new(),
        };
        Self {
            ring,
            settings,
            listener: Some(listener),
            connections: Vec::new(),
            free: Vec::new(),
            generation: 0,
            accepted: 0,
            counts: Counts::default(),
            completions: Vec::new(),
            timers: BinaryHeap::new(),
            scratch: Scratch::default(),
            payload,
            times,
            draining: false,
        }
    }

    /// What was counted so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Stops accepting.
    pub fn stop_accepting(&mut self) {
        self.draining = true;
        if let Some(listener) = self.listener.take() {
            self.ring.close(listener, Token::new(CLOSE, 0, u32::MAX));
        }
        if let Some(times) = &mut self.times {
            let _ = times.flush();
        }
    }

    /// One pass of the loop: completions, timers, and a wait until `until` at most.
    pub fn turn(&mut self, until: Time) {
        let mut batch = std::mem::take(&mut self.completions);
        self.ring.drain(&mut batch, Self::COMPLETIONS_MAX);
        let now = self.ring.now();
        for completion in batch.drain(..) {
            self.complete(completion, now);
        }
        self.completions = batch;
        while let Some(&Reverse((at, index, generation, what))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            self.timer(index, generation, what, now);
        }
        let until = self.timers.peek().map_or(until, |Reverse((at, ..))| until.min(*at));
        self.ring.wait(until);
    }

    fn live(&mut self, token: Token) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(token.index() as usize)?.as_mut()?;
        (connection.generation == token.generation() && !connection.ended).then_some(connection)
    }

    fn complete(&mut self, completion: Completion, now: Time) {
        let Completion { token, outcome } = completion;
        let index = token.index();
        match outcome {
            Outcome::Accepted { socket, more } => {
                self.accepted(socket, now);
                if !more {
                    self.accept_again();
                }
            }
            // Out of descriptors or memory: again when others may have been given back.
            Outcome::Failed(_) if token.kind() == ACCEPT => {
                self.timers.push(Reverse((now.plus_ns(ACCEPT_WAIT_NS), u32::MAX, 0, TIMER_ACCEPT)));
            }
            Outcome::Received { bytes, more } => {
                if self.live(token).is_none() {
                    return self.ring.release(bytes);
                }
                let mut connection = self.connections[index as usize].take().expect("a live connection");
                connection.receiving = more;
                let kept = self.received(&mut connection, bytes, now);
                self.connections[index as usize] = Some(connection);
                if kept { self.go_on(index, now) } else { self.end(index, true) }
            }
            Outcome::Sent { mut buffer, sent } => {
                let alive = self.live(token).is_some();
                if alive && sent < buffer.len() {
                    buffer.advance(sent);
                    let socket = self.connections[index as usize].as_ref().expect("alive").socket;
                    return self.ring.send(socket, buffer, token);
                }
                self.ring.recycle(buffer);
                if let Some(connection) = self.live(token) {
                    connection.sending = false;
                    self.go_on(index, now);
                }
            }
            Outcome::SendFailed { buffer, .. } => {
                self.ring.recycle(buffer);
                if self.live(token).is_some() {
                    self.end(index, false);
                }
            }
            Outcome::Failed(Errno::NoBuffers) => {
                if let Some(connection) = self.live(token) {
                    connection.receiving = false;
                    self.go_on(index, now);
                }
            }
            Outcome::Ended => {
                // Raw TCP: the peer may still want what it has not been sent.
                if let Some(connection) = self.live(token) {
                    (connection.closing, connection.ended_by_peer) = (true, true);
                    self.go_on(index, now);
                }
            }
            Outcome::Failed(_) => {
                if self.live(token).is_some() {
                    self.end(index, false);
                }
            }
            Outcome::Closed => {
                if index != u32::MAX {
                    self.connections[index as usize] = None;
                    self.free.push(index);
                }
            }
            Outcome::Connected => {}
        }
    }

    fn accept_again(&mut self) {
        if let Some(listener) = self.listener {
            self.ring.accept(listener, Token::new(ACCEPT, 0, 0));
        }
    }

    fn accepted(&mut self, socket: Socket, now: Time) {
        self.generation = (self.generation + 1) & Token::GENERATION_MASK;
        self.accepted += 1;
        let tls =
            self.settings.tls.clone().map(|config| Box::new(Tls::server(config).expect("checked at start")));
        let plain = self.settings.protocol == Protocol::Tcp;
        let connection = Box::new(Connection {
            socket,
            generation: self.generation,
            number: self.accepted,
            messages: 0,
            tls,
            carry: Vec::new(),
            head: (!plain).then(Vec::new),
            session: None,
            message: Vec::new(),
            typing: None,
            out: Vec::new(),
            sealed: Vec::new(),
            delayed: VecDeque::new(),
            stamps: VecDeque::new(),
            handed: 0,
            sending: false,
            receiving: true,
            closing: false,
            ended_by_peer: false,
            ended: false,
            next_send: Time::NEVER,
        });
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            (self.connections.len() - 1) as u32
        });
        self.connections[index as usize] = Some(connection);
        self.ring.receive(socket, Token::new(RECEIVE, self.generation, index));
        if plain {
            self.counts.connections += 1;
            self.opened(index, now);
        }
        if let Some(after) = self.settings.close_after_ns {
            self.timers.push(Reverse((now.plus_ns(after), index, self.generation, TIMER_CLOSE)));
        }
    }

    fn opened(&mut self, index: u32, now: Time) {
        if matches!(self.settings.traffic, Traffic::Receive { .. }) {
            let connection = self.connections[index as usize].as_mut().expect("a live connection");
            connection.next_send = now;
            self.timers.push(Reverse((now, index, connection.generation, TIMER_SEND)));
        }
        if let Some(every) = self.settings.ping_ns {
            let generation = self.connections[index as usize].as_ref().expect("a live connection").generation;
            self.timers.push(Reverse((now.plus_ns(every), index, generation, TIMER_PING)));
        }
    }

    /// False where the peer broke the protocol beyond answering.
    fn received(&mut self, connection: &mut Connection, bytes: scale_ring::ReceivedBytes, now: Time) -> bool {
        let Self { ring, settings, counts, scratch, times, .. } = self;
        let index_was_open = connection.session.is_some();
        let mut tls = connection.tls.take();
        let mut kept = true;
        {
            let data = ring.received(&bytes);
            if let Some(tls) = &mut tls {
                let mut sealed = std::mem::take(&mut connection.sealed);
                let mut carry = std::mem::take(&mut connection.carry);
                let direct = carry.is_empty();
                if !direct {
                    carry.extend_from_slice(data);
                }
                let input: &mut [u8] = if direct { data } else { &mut carry };
                let result = tls.receive(input, &mut sealed, &mut |plain| {
                    kept &= upper(connection, settings, counts, scratch, times, plain, now);
                    Ok(())
                });
                match result {
                    Ok(received) => {
                        connection.carry = input[received.consumed..].to_vec();
                        connection.closing |= received.peer_closed;
                    }
                    Err(_) => connection.closing = true,
                }
                connection.sealed = sealed;
            } else {
                kept = upper(connection, settings, counts, scratch, times, data, now);
            }
        }
        connection.tls = tls;
        self.ring.release(bytes);
        if !index_was_open && connection.session.is_some() {
            self.counts.connections += 1;
            connection.next_send = Time::ZERO; // see go_on: the stream has just opened
        }
        kept
    }

    /// Sends what waits, receives again where there is room, closes where all is said.
    fn go_on(&mut self, index: u32, now: Time) {
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        let generation = connection.generation;
        if connection.next_send == Time::ZERO {
            connection.next_send = Time::NEVER;
            self.opened(index, now);
        }
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        if let Some((at, ..)) = connection.delayed.front() {
            self.timers.push(Reverse((*at, index, generation, TIMER_SEND)));
        }
        if !connection.sending {
            if let Some(session) = &mut connection.session
                && !session.outbox().is_empty()
            {
                connection.out.extend_from_slice(session.outbox());
                session.clear_outbox();
            }
            if let Some(buffer) = next_out(&mut self.ring, connection) {
                connection.sending = true;
                connection.write_stamps(&mut self.times, now);
                self.ring.send(connection.socket, buffer, Token::new(SEND, generation, index));
            } else if connection.closing && (connection.session.is_some() || connection.delayed.is_empty()) {
                return self.end(index, false);
            }
        }
        let waiting = connection.out.len() + connection.sealed.len();
        if !connection.receiving && !connection.ended_by_peer && waiting < Self::OUT_BYTES_MAX {
            connection.receiving = true;
            self.ring.receive(connection.socket, Token::new(RECEIVE, generation, index));
        }
    }

    fn timer(&mut self, index: u32, generation: u32, what: u8, now: Time) {
        if what == TIMER_ACCEPT {
            return self.accept_again();
        }
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        if connection.generation != generation || connection.ended {
            return;
        }
        if what == TIMER_CLOSE {
            if let Some(session) = &mut connection.session {
                self.counts.closes += u64::from(!session.is_closing());
                session.close(1001, &mut || [0; 4]);
            } else {
                connection.closing = true;
            }
            return self.go_on(index, now);
        }
        // Behind our Close nothing more is said (RFC 6455 §5.5.1).
        let closing = connection.closing || connection.session.as_ref().is_some_and(ws::Session::is_closing);
        if closing && connection.session.is_some() {
            connection.delayed.clear();
        }
        if what == TIMER_PING
            && let (Some(every), Some(_)) = (self.settings.ping_ns, &connection.session)
            && !closing
        {
            let mut header = [0; ws::HEADER_BYTES_MAX];
            let len = ws::write_header(&mut header, ws::Opcode::Ping, true, PING.len() as u64, None);
            connection.out.extend_from_slice(&header[..len]);
            connection.out.extend_from_slice(PING);
            self.timers.push(Reverse((now.plus_ns(every), index, generation, TIMER_PING)));
        }
        while let Some((at, ..)) = connection.delayed.front()
            && *at <= now
        {
            let (_, frame, bytes) = connection.delayed.pop_front().expect("the front was there");
            connection.out.extend_from_slice(&frame);
            connection.answer_queued();
            self.counts.messages_sent += 1;
            self.counts.payload_bytes_sent += bytes;
        }
        if let Traffic::Receive { bytes, tick_ns } = self.settings.traffic
            && connection.next_send <= now
        {
            if connection.out.len() < Self::OUT_BYTES_MAX && !closing {
                if connection.session.is_some() {
                    let mut header = [0; ws::HEADER_BYTES_MAX];
                    let len = ws::write_header(&mut header, ws::Opcode::Binary, true, u64::from(bytes), None);
                    connection.out.extend_from_slice(&header[..len]);
                }
                connection.out.extend_from_slice(&self.payload);
                self.counts.messages_sent += 1;
                self.counts.payload_bytes_sent += u64::from(bytes);
            }
            let late = now.ns_since(connection.next_send) / tick_ns;
            connection.next_send = connection.next_send.plus_ns((late + 1) * tick_ns);
            self.timers.push(Reverse((connection.next_send, index, generation, TIMER_SEND)));
        }
        self.go_on(index, now);
    }

    fn end(&mut self, index: u32, abort: bool) {
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        connection.ended = true;
        connection.drop_stamps(&mut self.times);
        let token = Token::new(CLOSE, connection.generation, index);
        if abort {
            self.ring.abort(connection.socket, token);
        } else {
            self.ring.close(connection.socket, token);
        }
    }
}

impl Connection {
    /// The answer to the oldest message that had none is in `out` now.
    fn answer_queued(&mut self) {
        let end = self.handed + self.out.len() as u64;
        if let Some(stamp) = self.stamps.iter_mut().find(|stamp| stamp.end.is_none()) {
            stamp.end = Some(end);
        }
    }

    /// Writes down the messages whose answers have left `out`.
    fn write_stamps(&mut self, times: &mut Option<Box<dyn Write>>, now: Time) {
        let Some(times) = times else { return };
        while let Some(&Stamp { message, received, end: Some(end) }) = self.stamps.front()
            && end <= self.handed
        {
            self.stamps.pop_front();
            let _ = writeln!(times, "{},{message},{},{}", self.number, received.ns(), now.ns());
        }
    }

    /// Writes down the messages that get no answer.
    fn drop_stamps(&mut self, times: &mut Option<Box<dyn Write>>) {
        let Some(times) = times else { return };
        for Stamp { message, received, .. } in self.stamps.drain(..) {
            let _ = writeln!(times, "{},{message},{},", self.number, received.ns());
        }
    }
}

/// Plain bytes: the request's head, then frames (or anything, for TCP).
fn upper(
    connection: &mut Connection,
    settings: &Settings,
    counts: &mut Counts,
    scratch: &mut Scratch,
    times: &mut Option<Box<dyn Write>>,
    plain: &[u8],
    now: Time,
) -> bool {
    let timed = times.is_some();
    let stamp = |connection: &mut Connection| {
        connection.messages += 1;
        if timed {
            let message = connection.messages;
            connection.stamps.push_back(Stamp { message, received: now, end: None });
        }
    };
    let rest;
    let mut plain = plain;
    if let Some(mut head) = connection.head.take() {
        head.extend_from_slice(plain);
        match http::parse_request(&head) {
            Ok(Some(request)) => {
                let protocol = request.subprotocols.first().map(String::as_str);
                http::write_response(&mut connection.out, &request.accept, protocol);
                connection.session = Some(ws::Session::new(ws::Role::Server, 32 << 20));
                if matches!(settings.traffic, Traffic::Terminal { .. }) && !settings.stall {
                    connection.typing = Typing::attach(
                        &request.path,
                        settings.traffic,
                        &settings.sessions,
                        &mut connection.out,
                    )
                    .map(Box::new);
                }
                rest = head.split_off(request.head_bytes);
                plain = &rest;
            }
            Ok(None) => {
                connection.head = Some(head);
                return true;
            }
            Err(_) => {
                http::write_error(&mut connection.out, 400, "this is a websocket server\n");
                connection.closing = true;
                return true;
            }
        }
    }
    let Some(mut session) = connection.session.take() else {
        counts.messages_received += 1;
        counts.payload_bytes_received += plain.len() as u64;
        stamp(connection);
        if settings.traffic != Traffic::Echo || settings.stall {
            connection.drop_stamps(times);
        } else if settings.delay_ns > 0 {
            let at = now.plus_ns(settings.delay_ns);
            connection.delayed.push_back((at, plain.to_vec(), plain.len() as u64));
        } else {
            counts.messages_sent += 1;
            counts.payload_bytes_sent += plain.len() as u64;
            connection.out.extend_from_slice(plain);
            connection.answer_queued();
        }
        return true;
    };
    loop {
        match session.receive(&mut plain, &mut || [0; 4]) {
            Ok(Some(ws::Event::Data { bytes, mask, .. }))
                if matches!(settings.traffic, Traffic::Terminal { .. }) =>
            {
                if !session.outbox().is_empty() {
                    connection.out.extend_from_slice(session.outbox());
                    session.clear_outbox();
                }
                let Some(typing) = connection.typing.as_mut().filter(|_| !session.is_closing()) else {
                    continue;
                };
                let mask = mask.unwrap_or_default();
                let next = typing.take(bytes, mask, &mut scratch.desk, &mut connection.out, counts);
                counts.closes += u64::from(next != Next::GoOn);
                match next {
                    Next::GoOn => {}
                    Next::Close => session.close(NORMAL, &mut || [0; 4]),
                    Next::Refuse => session.close(INVALID_PAYLOAD, &mut || [0; 4]),
                }
            }
            Ok(Some(ws::Event::Data { bytes, mask, opcode, message_end })) => {
                counts.payload_bytes_received += bytes.len() as u64;
                let echo = settings.traffic == Traffic::Echo && !settings.stall && !session.is_closing();
                if !session.outbox().is_empty() {
                    // A pong goes before the echo of what came after its ping.
                    connection.out.extend_from_slice(session.outbox());
                    session.clear_outbox();
                }
                if message_end {
                    counts.messages_received += 1;
                    stamp(connection);
                }
                if !echo {
                    connection.drop_stamps(times);
                    continue;
                }
                let mask = mask.unwrap_or_default();
                if message_end && connection.message.is_empty() && settings.delay_ns == 0 {
                    frame(&mut connection.out, opcode, bytes, mask);
                    connection.answer_queued();
                } else {
                    let from = connection.message.len();
                    connection.message.resize(from + bytes.len(), 0);
                    ws::mask_into(&mut connection.message[from..], bytes, mask);
                    if message_end {
                        let message = std::mem::take(&mut connection.message);
                        if settings.delay_ns > 0 {
                            scratch.frame.clear();
                            frame(&mut scratch.frame, opcode, &message, [0; 4]);
                            let at = now.plus_ns(settings.delay_ns);
                            connection.delayed.push_back((at, scratch.frame.clone(), message.len() as u64));
                            continue;
                        }
                        frame(&mut connection.out, opcode, &message, [0; 4]);
                        connection.answer_queued();
                        counts.payload_bytes_sent += message.len() as u64;
                        counts.messages_sent += 1;
                    }
                    continue;
                }
                counts.messages_sent += 1;
                counts.payload_bytes_sent += bytes.len() as u64;
            }
            Ok(Some(ws::Event::Pong)) => {}
            Ok(Some(ws::Event::Closed { by_us, .. })) => {
                counts.closes_answered += u64::from(by_us);
                connection.closing = true;
            }
            Ok(None) => break,
            Err(_) => {
                connection.closing = true;
                break;
            }
        }
    }
    connection.session = Some(session);
    true
}

/// Appends a server's frame, unmasking on the way.
fn frame(out: &mut Vec<u8>, opcode: ws::Opcode, payload: &[u8], mask: [u8; 4]) {
    let mut header = [0; ws::HEADER_BYTES_MAX];
    let len = ws::write_header(&mut header, opcode, true, payload.len() as u64, None);
    out.extend_from_slice(&header[..len]);
    let from = out.len();
    out.resize(from + payload.len(), 0);
    ws::mask_into(&mut out[from..], payload, mask);
}

/// The next bytes for the socket.
fn next_out<R: Ring>(ring: &mut R, connection: &mut Connection) -> Option<scale_ring::SendBuffer> {
    const PIECE: usize = 64 << 10;
    if let Some(tls) = &mut connection.tls
        && tls.is_established()
        && !connection.out.is_empty()
    {
        let from = connection.sealed.len();
        let out = std::mem::take(&mut connection.out);
        connection.handed += out.len() as u64;
        connection.sealed.resize(from + Tls::sealed_bytes_max(out.len()), 0);
        let bytes = tls.seal(&out, &mut connection.sealed[from..]);
        connection.closing |= bytes.is_err(); // its key is used up
        connection.sealed.truncate(from + bytes.unwrap_or(0));
    }
    let queue = if connection.tls.is_some() { &mut connection.sealed } else { &mut connection.out };
    if queue.is_empty() {
        return None;
    }
    let bytes = queue.len().min(PIECE);
    let mut buffer = ring.send_buffer(bytes);
    buffer.extend(&queue[..bytes]);
    connection.handed += if connection.tls.is_some() { 0 } else { bytes as u64 };
    if bytes == queue.len() {
        *queue = Vec::new(); // an idle connection keeps nothing
    } else {
        queue.drain(..bytes);
    }
    Some(buffer)
}
