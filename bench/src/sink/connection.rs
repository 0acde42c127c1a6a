//! What the sink keeps of a connection.

use std::collections::VecDeque;
use std::io::Write;

use scale_proto::tls::Tls;
use scale_proto::ws;
use scale_ring::{Socket, Time};

use super::record::Seen;
use super::ssh::Peer;
use super::terminal::Typing;

/// A message's times, for `--times`, until its answer has been handed to the ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub message: u64,
    pub received: Time,
    /// Where its answer ends in the connection's plain stream; `None`: not queued yet (`--delay`).
    pub end: Option<u64>,
}

pub(super) struct Connection {
    pub socket: Socket,
    pub generation: u32,
    pub number: u64,
    pub messages: u64,
    pub tls: Option<Box<Tls>>,
    /// Bytes of an incomplete TLS record or SSH packet.
    pub carry: Vec<u8>,
    /// The request's head until it is complete.
    pub head: Option<Vec<u8>>,
    pub session: Option<ws::Session>,
    /// Pieces of a message that is not complete.
    pub message: Vec<u8>,
    /// For `Traffic::Terminal`, from the upgrade on.
    pub typing: Option<Box<Typing>>,
    /// From its beginning on, unless the sink stalls.
    pub ssh: Option<Box<Peer>>,
    /// Plain bytes that wait to be sent.
    pub out: Vec<u8>,
    /// Sealed bytes that wait to be sent.
    pub sealed: Vec<u8>,
    /// Answers that wait: until when, the frame, its payload's bytes.
    pub delayed: VecDeque<(Time, Vec<u8>, u64)>,
    /// When the timer of the first of them goes off; `Time::NEVER`: there is none.
    pub armed: Time,
    /// Messages whose answer is not with the ring yet, oldest first; empty without `--times`.
    pub stamps: VecDeque<Stamp>,
    /// Plain bytes that have left `out` so far.
    pub handed: u64,
    pub sending: bool,
    pub receiving: bool,
    /// Close the socket once everything has gone.
    pub closing: bool,
    /// Its FIN has come.
    pub ended_by_peer: bool,
    pub ended: bool,
    pub next_send: Time,
    pub seen: Seen,
}

impl Connection {
    /// Payload bytes of the answers that wait.
    pub fn delayed_bytes(&self) -> u64 {
        self.delayed.iter().map(|(.., bytes)| bytes).sum()
    }

    /// An answer waits until `at`, and behind those before it.
    pub fn delay(&mut self, at: Time, answer: Vec<u8>, bytes: u64) {
        let at = self.delayed.back().map_or(at, |(last, ..)| at.max(*last));
        self.delayed.push_back((at, answer, bytes));
    }

    /// The answer to the oldest message that had none is in `out` now.
    pub fn answer_queued(&mut self) {
        let end = self.handed + self.out.len() as u64;
        if let Some(stamp) = self.stamps.iter_mut().find(|stamp| stamp.end.is_none()) {
            stamp.end = Some(end);
        }
    }

    /// Writes down the messages whose answers have left `out`.
    pub fn write_stamps(&mut self, times: &mut Option<Box<dyn Write>>, now: Time) {
        let Some(times) = times else { return };
        while let Some(&Stamp { message, received, end: Some(end) }) = self.stamps.front()
            && end <= self.handed
        {
            self.stamps.pop_front();
            let _ = writeln!(times, "{},{message},{},{}", self.number, received.ns(), now.ns());
        }
    }

    /// Writes down the messages that get no answer.
    pub fn drop_stamps(&mut self, times: &mut Option<Box<dyn Write>>) {
        let Some(times) = times else { return };
        for Stamp { message, received, .. } in self.stamps.drain(..) {
            let _ = writeln!(times, "{},{message},{},", self.number, received.ns());
        }
    }
}
