//! The sink as an SSH server: programs and forwards that echo, discard or send.
//!
//! The fast path of an echo: data is opened in the receive buffer, and its place there noted; then it
//! is copied into a send buffer and sealed. What may not go yet (a send is under way, keys are exchanged,
//! the peer's window is closed) waits in its channel. One in which more than a window waits gives its
//! peer none back, until that has gone by half: to stop receiving would leave the peer's own
//! WINDOW_ADJUST behind its data. Receiving stops where [`Sink::OUT_BYTES_MAX`] wait sealed.
//!
//! `connections` are those that have authenticated; a message is what one receive has brought, as for raw
//! TCP, or what one tick sends.

mod channel;
pub mod command;
mod listen;
mod peer;

use std::cmp::Reverse;

use scale_proto::ssh::ChannelId;
use scale_ring::{ReceivedBytes, Ring, Time, Token};
use scaled::load::Random;

use super::connection::Connection;
use super::{RECEIVE, SEND, Sink, TIMER_SEND, Traffic};
use listen::Piece;
pub(super) use peer::Peer;

/// The window of each channel.
pub const WINDOW_BYTES: u32 = 2 << 20;
/// A channel that sends at the tick skips it while so much waits.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Payload of one send of what has waited.
const PIECE: usize = 64 << 10;

/// Memory that every connection uses in its turn.
pub(super) struct Desk {
    random: Random,
    pieces: Vec<Piece>,
    shares: Vec<(ChannelId, usize)>,
    printed: Vec<u8>,
}

impl Desk {
    /// `seed` is for padding and cookies, not for keys.
    pub const fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), pieces: Vec::new(), shares: Vec::new(), printed: Vec::new() }
    }
}

impl<R: Ring> Sink<R> {
    /// Bytes of an SSH connection. Their answer goes out at once where no send is under way.
    pub(super) fn received_ssh(
        &mut self,
        index: u32,
        connection: &mut Connection,
        bytes: &ReceivedBytes,
        now: Time,
    ) {
        let Some(peer) = connection.ssh.as_mut().filter(|peer| !peer.over) else { return };
        let Self { ring, settings, counts, scratch, timers, .. } = self;
        let desk = &mut scratch.ssh;
        let mut carry = std::mem::take(&mut connection.carry);
        let direct = carry.is_empty();
        if !direct {
            carry.extend_from_slice(ring.received(bytes));
        }
        let input = if direct { ring.received(bytes) } else { &mut carry };
        let said = peer.listen(input, (settings, counts), now, desk);
        counts.messages_received += u64::from(said.heard);
        counts.messages_sent += u64::from(said.answered);
        let generation = connection.generation;
        if said.delayed {
            timers.push(Reverse((now.plus_ns(settings.delay_ns), index, generation, TIMER_SEND)));
        }
        if said.sends && connection.next_send == Time::NEVER {
            connection.next_send = now;
            timers.push(Reverse((now, index, generation, TIMER_SEND)));
        }
        let goes = !connection.sending && !desk.pieces.is_empty();
        let mut buffer = goes.then(|| ring.send_buffer(peer.answer_bytes_max(&desk.pieces)));
        let input = if direct { ring.received(bytes) } else { &mut carry };
        counts.payload_bytes_sent += peer.answer(input, buffer.as_mut(), desk);
        connection.carry = if direct {
            input[said.consumed..].to_vec()
        } else if said.consumed == carry.len() {
            Vec::new() // an idle connection keeps nothing
        } else {
            carry.drain(..said.consumed);
            carry
        };
        match buffer {
            Some(buffer) if buffer.is_empty() => ring.recycle(buffer),
            Some(buffer) => {
                connection.sending = true;
                ring.send(connection.socket, buffer, Token::new(SEND, generation, index));
            }
            None => {}
        }
    }

    /// As [`Sink::go_on`], of an SSH connection.
    pub(super) fn go_on_ssh(&mut self, index: u32) {
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        let (generation, desk) = (connection.generation, &mut self.scratch.ssh);
        let peer = connection.ssh.as_mut().expect("an SSH connection");
        while !connection.sending {
            if let Some((buffer, gone)) = peer.next_out(&mut self.ring, desk) {
                self.counts.payload_bytes_sent += gone;
                connection.sending = true;
                self.ring.send(connection.socket, buffer, Token::new(SEND, generation, index));
            } else if peer.over || (connection.closing && connection.ended_by_peer) {
                return self.end(index, false);
            } else if connection.closing {
                peer.leave(&mut desk.random);
            } else {
                break;
            }
        }
        let full = peer.out_bytes() >= Self::OUT_BYTES_MAX;
        if !connection.receiving && !connection.ended_by_peer && !full {
            connection.receiving = true;
            self.ring.receive(connection.socket, Token::new(RECEIVE, generation, index));
        }
    }

    /// Answers that have waited, and what is sent at the tick.
    pub(super) fn timer_ssh(&mut self, index: u32, now: Time) {
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        let peer = connection.ssh.as_mut().expect("an SSH connection");
        self.counts.messages_sent += peer.release(now);
        if let Traffic::Receive { tick_ns, .. } = self.settings.traffic
            && connection.next_send <= now
        {
            self.counts.messages_sent += peer.send(&self.payload);
            let late = now.ns_since(connection.next_send) / tick_ns;
            connection.next_send = connection.next_send.plus_ns((late + 1) * tick_ns);
            self.timers.push(Reverse((connection.next_send, index, connection.generation, TIMER_SEND)));
        }
        self.go_on_ssh(index);
    }
}
