//! A server that takes what the generator offers: echo, discard, or send (`receive`).
//!
//! One thread, one ring. The fast path of an echo: a whole frame lies in the receive buffer, is
//! unmasked into a send buffer behind its new header, and goes out; several frames of one
//! receive go out in one send. At most one send is under way a connection; what is made meanwhile
//! waits in the connection, and beyond [`Sink::OUT_BYTES_MAX`] it stops receiving.
//!
//! Read in this order: `connection` (what is kept of one), `accept`, `take`, `send`, `drain`; `limit`, `record`; `terminal`, `ssh`.
//!
//! Elsewhere: arguments and certificates (`bin/scale-sink`), frames and TLS (`scale-proto`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;
use std::sync::Arc;

use rustls::ServerConfig;
use scale_ring::{Completion, Errno, Outcome, Ring, Socket, Time, Token};

mod accept;
mod connection;
mod drain;
pub mod limit;
mod record;
mod send;
pub mod ssh;
mod take;
mod terminal;

use connection::Connection;
use limit::Limits;
use record::{Record, Why};
use terminal::Desk;
pub use terminal::Sessions;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Raw bytes.
    Tcp,
    /// Websocket.
    Ws,
    /// Websocket over TLS.
    Wss,
    /// SSH.
    Ssh,
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
    /// Host keys and algorithms, for `Ssh`.
    pub ssh: Option<Arc<scale_proto::ssh::ServerConfig>>,
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
    /// Accepted, and upgraded or authenticated where there is that.
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

/// Memory that every connection uses in its turn.
struct Scratch {
    /// A frame that waits (`--delay`), until it is copied.
    frame: Vec<u8>,
    desk: Desk,
    ssh: ssh::Desk,
    /// Of our answers to upgrades.
    headers: Vec<(String, String)>,
    /// The path of the upgrade that came last, until it is written down.
    path: String,
    limits: Limits,
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
    record: Option<Record>,
    draining: bool,
    /// Whose turn it is to be dropped (`--limit drop=`).
    victim: u32,
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
        let ssh = ssh::Desk::new(ring.now().ns());
        let scratch = Scratch {
            frame: Vec::new(),
            desk: Desk::default(),
            ssh,
            headers: Vec::new(),
            path: String::new(),
            limits: Limits::default(),
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
            scratch,
            payload,
            times,
            record: None,
            draining: false,
            victim: 0,
        }
    }

    /// Cannot do more than `limits` from now on.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.scratch.limits = limits;
        self
    }

    /// What its limits came to so far.
    pub const fn struck(&self) -> limit::Struck {
        self.scratch.limits.struck()
    }

    /// What was counted so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Answers upgrades with these headers, too; names and values are valid.
    pub fn answer_with(&mut self, headers: Vec<(String, String)>) {
        self.scratch.headers = headers;
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
            let index = completion.token.index();
            self.complete(completion, now);
            self.assign(index);
        }
        self.completions = batch;
        while let Some(&Reverse((at, index, generation, what))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            self.timer(index, generation, what, now);
            self.assign(index);
        }
        self.drop_some(now);
        self.write_record(now);
        let until = self.timers.peek().map_or(until, |Reverse((at, ..))| until.min(*at));
        let until = until.min(self.scratch.limits.next_event());
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
                let kept = self.received(index, &mut connection, bytes, now);
                self.connections[index as usize] = Some(connection);
                if kept { self.go_on(index, now) } else { self.end_because(index, true, Why::Broken) }
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
            Outcome::SendFailed { buffer, errno } => {
                self.ring.recycle(buffer);
                if self.live(token).is_some() {
                    self.end_because(index, false, Why::Failed(errno));
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
                    connection.seen.why.get_or_insert(Why::Ended);
                    self.go_on(index, now);
                }
            }
            Outcome::Failed(errno) => {
                if self.live(token).is_some() {
                    self.end_because(index, false, Why::Failed(errno));
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
}
