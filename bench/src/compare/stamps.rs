//! What the generator says of a message beside what the sink saw: `sent` comes before the sink
//! received it, `done` after the sink answered, each by little.
//!
//! The real worker runs on a ring that notes which of the worker's readings of the clock belongs to
//! which message; the sink writes `--times`. Both read CLOCK_MONOTONIC.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;

use scale_ring::{
    Completion, Errno, Kept, Kernel, KernelConfig, Outcome, ReceivedBytes, Ring, RingCounters, SendBuffer,
    Socket, SocketOptions, Time, Token, host,
};
use scaled::worker::{Inbox, Turn, Worker};

use super::programs::Result;
use crate::alone::{Alone, Kind};

/// Streams; few enough that connections are accepted in the order in which they were asked for.
const STREAMS: u32 = 500;
const TICK_NS: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const BYTES: u32 = 4096;

/// Notes when each connection's messages were sent and had come back.
struct Noting {
    ring: Kernel,
    /// The last reading of the clock: what the worker calls `sent` and `done`.
    read: Cell<Time>,
    /// Connections by their tokens, numbered in the order of their connects.
    numbers: HashMap<(u32, u32), usize>,
    connections: Vec<Connection>,
    received: Vec<(usize, usize)>,
}

#[derive(Default)]
struct Connection {
    sends: Vec<Time>,
    /// When all bytes up to here had come.
    receipts: Vec<(u64, Time)>,
    bytes: u64,
}

impl Noting {
    fn number(&self, token: Token) -> Option<usize> {
        self.numbers.get(&(token.index(), token.generation())).copied()
    }
}

impl Ring for Noting {
    fn now(&self) -> Time {
        let now = self.ring.now();
        self.read.set(now);
        now
    }

    fn connect(&mut self, socket: Socket, to: SocketAddr, token: Token) {
        self.numbers.insert((token.index(), token.generation()), self.connections.len());
        self.connections.push(Connection::default());
        self.ring.connect(socket, to, token);
    }

    fn send(&mut self, socket: Socket, buffer: SendBuffer, token: Token) {
        // Upgrade and Close are shorter than a message, and so is the rest of a short send.
        if buffer.len() > BYTES as usize
            && let Some(number) = self.number(token)
        {
            self.connections[number].sends.push(self.read.get());
        }
        self.ring.send(socket, buffer, token);
    }

    fn drain(&mut self, into: &mut Vec<Completion>, limit: usize) {
        self.ring.drain(into, limit);
        // The worker's next reading of the clock is what it calls `done`.
        self.received.clear();
        for completion in into.iter() {
            if let Outcome::Received { bytes, .. } = &completion.outcome
                && let Some(number) = self.number(completion.token)
            {
                self.received.push((number, bytes.len()));
            }
        }
        let done = self.ring.now();
        for &(number, bytes) in &self.received {
            let connection = &mut self.connections[number];
            connection.bytes += bytes as u64;
            connection.receipts.push((connection.bytes, done));
        }
    }

    fn thread_cpu_ns(&self) -> u64 {
        self.ring.thread_cpu_ns()
    }
    fn open(&mut self, options: &SocketOptions) -> std::result::Result<Socket, Errno> {
        self.ring.open(options)
    }
    fn listen(
        &mut self,
        at: SocketAddr,
        options: &SocketOptions,
    ) -> std::result::Result<(Socket, SocketAddr), Errno> {
        self.ring.listen(at, options)
    }
    fn accept(&mut self, listener: Socket, token: Token) {
        self.ring.accept(listener, token);
    }
    fn receive(&mut self, socket: Socket, token: Token) {
        self.ring.receive(socket, token);
    }
    fn end_sending(&mut self, socket: Socket) {
        self.ring.end_sending(socket);
    }
    fn close(&mut self, socket: Socket, token: Token) {
        self.ring.close(socket, token);
    }
    fn abort(&mut self, socket: Socket, token: Token) {
        self.ring.abort(socket, token);
    }
    fn send_buffer(&mut self, capacity: usize) -> SendBuffer {
        self.ring.send_buffer(capacity)
    }
    fn kept(&self, capacity: usize) -> Kept {
        self.ring.kept(capacity)
    }
    fn recycle(&mut self, buffer: SendBuffer) {
        self.ring.recycle(buffer);
    }
    fn received(&mut self, bytes: &ReceivedBytes) -> &mut [u8] {
        self.ring.received(bytes)
    }
    fn release(&mut self, bytes: ReceivedBytes) {
        self.ring.release(bytes);
    }
    fn submit(&mut self) {
        self.ring.submit();
    }
    fn wait(&mut self, until: Time) {
        self.ring.wait(until);
    }
    fn counters(&self) -> RingCounters {
        self.ring.counters()
    }
}

/// Medians over all messages, in µs.
#[derive(Debug, Clone, Copy)]
pub struct Apart {
    /// From `sent` to the sink's receipt.
    pub sent: f64,
    /// From the sink's answer to `done`.
    pub done: f64,
    /// Messages compared.
    pub messages: usize,
}

/// Runs the worker on this thread against the sink at `address`.
///
/// # Errors
/// Where no ring can be had.
fn run(address: SocketAddr, seconds: u32) -> Result<Vec<Connection>> {
    let config = KernelConfig {
        sockets_max: 4 * STREAMS,
        receive_buffers: 1024,
        receive_buffer_bytes: 8192,
        features: scale_ring::Features::ALL,
    };
    let ring = Noting {
        ring: Kernel::new(&config).map_err(|error| error.to_string())?,
        read: Cell::new(Time::ZERO),
        numbers: HashMap::new(),
        connections: Vec::new(),
        received: Vec::new(),
    };
    let alone = Alone {
        address,
        start_at: host::monotonic_now().plus_ns(SECOND_NS / 10),
        streams: STREAMS,
        bytes: BYTES,
        kind: Kind::Ws,
        tick_ns: TICK_NS,
        opening_ns: SECOND_NS,
        steady_ns: u64::from(seconds) * SECOND_NS,
    };
    let (out, snapshots) = std::sync::mpsc::channel();
    let mut worker = Worker::new(ring, alone.share(), Inbox::default(), out);
    while worker.turn() == Turn::Going {}
    drop(snapshots);
    Ok(worker.into_ring().connections)
}

/// Runs the worker on this thread against the sink at `address`, which writes `times` until `sink` is
/// dropped, and compares.
///
/// # Errors
/// Where the two do not speak of the same messages.
pub fn compare<S>(address: SocketAddr, seconds: u32, sink: S, times: &std::path::Path) -> Result<Apart> {
    // A frame without a mask and the answer to the upgrade come back.
    const ECHO_BYTES: u64 = BYTES as u64 + 4;
    let connections = run(address, seconds)?;
    drop(sink);
    let text = std::fs::read_to_string(times).map_err(|error| format!("{}: {error}", times.display()))?;
    let (mut to_sink, mut from_sink) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split(',').map(str::parse::<u64>);
        let (Some(Ok(connection)), Some(Ok(message)), Some(Ok(received)), Some(Ok(answered))) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue; // the line of names
        };
        let (connection, message) = (connection as usize - 1, message as usize - 1);
        let ours = connections.get(connection).ok_or("the sink has seen more connections than were made")?;
        let sent = ours.sends.get(message).ok_or("the sink has received more than was sent")?;
        // What came before the first echo was the upgrade's answer.
        let messages = ours.sends.len() as u64;
        let upgrade = ours.receipts.first().map_or(0, |&(bytes, _)| bytes);
        if upgrade >= ECHO_BYTES || ours.bytes < upgrade + messages * ECHO_BYTES {
            return Err("a connection's bytes are not an upgrade and its echoes".into());
        }
        let end = upgrade + (message as u64 + 1) * ECHO_BYTES;
        let receipt = ours.receipts.partition_point(|&(bytes, _)| bytes < end);
        let (_, done) = ours.receipts[receipt];
        to_sink.push((received as f64 - sent.ns() as f64) / 1e3);
        from_sink.push((done.ns() as f64 - answered as f64) / 1e3);
    }
    let messages = to_sink.len();
    let all: usize = connections.iter().map(|connection| connection.sends.len()).sum();
    if messages != all {
        return Err(format!("{all} messages were sent, the sink wrote down {messages}"));
    }
    Ok(Apart { sent: super::median(to_sink), done: super::median(from_sink), messages })
}

/// Streams of the comparison.
pub const fn streams() -> (u32, u32, u32) {
    (STREAMS, (TICK_NS / 1_000_000) as u32, BYTES)
}
