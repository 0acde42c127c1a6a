//! What goes out on a link: sealed packets first, then messages as far as their windows allow.

use std::cmp::Reverse;

use scale_proto::Fault;
use scale_proto::ssh::{ChannelId, Client, Program, Purpose};
use scale_ring::{Ring, Time, Token};

use super::LINK;
use crate::load::{Group, Payload, SshEndpoint, Traffic};
use crate::stream::class::Class;
use crate::stream::link::{Link, LinkPhase};
use crate::stream::stack::{Connection, Outgoing, Phase};
use crate::worker::turn::{Deadline, Worker, kind};

/// Bytes of one send.
const SEND_BYTES_MAX: usize = 2 * Payload::PIECE_MAX;
/// Ctrl-C: ends a program that reads a terminal.
const INTERRUPT: u8 = 3;

impl<R: Ring> Worker<R> {
    /// Whether a message may begin on this path now.
    #[inline]
    pub(in crate::worker) fn is_free(&self, index: u32) -> bool {
        let connection = self.connections[index as usize].as_ref().expect("a live connection");
        if connection.link == Connection::NO_LINK {
            return connection.is_free();
        }
        let link = self.links[connection.link as usize].as_ref().expect("its link lives");
        let room = |channel| link.client.as_ref().map_or(0, |client| client.room(channel));
        connection.message.is_none() && link.is_free() && connection.channel.map_or(0, room) > 0
    }

    pub(super) fn link_sent(&mut self, link: u32, now: Time) {
        let of_it = self.link(link);
        of_it.sending = false;
        if of_it.phase == LinkPhase::Leaving && of_it.sealed.is_empty() {
            return self.end_link(link, false);
        }
        self.serve_link(link, now);
        self.close_if_answered(link, now);
    }

    /// Ticks that waited become messages where they can, and everything that can go goes.
    pub(in crate::worker) fn serve_link(&mut self, link: u32, now: Time) {
        let of_it = self.links[link as usize].as_ref().expect("a live link");
        if of_it.sending {
            return;
        }
        for at in (0..of_it.queue.len()).rev() {
            let index = self.links[link as usize].as_ref().expect("a live link").queue[at];
            if self.connection(index).waiting.is_some() && self.is_free(index) {
                self.begin_waiting(index, now);
            }
        }
        self.push_link(link);
    }

    pub(in crate::worker) fn push_link_if_free(&mut self, link: u32) {
        if !self.link(link).sending {
            self.push_link(link);
        }
    }

    /// Hands what can go to the ring, in one send. None may be under way.
    #[inline]
    pub(in crate::worker) fn push_link(&mut self, link: u32) {
        let Self { links, connections, share, ring, random, .. } = self;
        let of_it = links[link as usize].as_mut().expect("a live link");
        let Link { client, sealed, queue, group, .. } = &mut **of_it;
        let Some(client) = client.as_deref_mut() else { return };
        if client.wants_rekey() && client.rekey(&mut || random.next(), sealed).is_err() {
            return self.break_link(link);
        }
        let group = &share.groups[usize::from(*group)];
        let piece = |client: &Client, connection: &Connection| {
            let (message, channel) = (connection.message?, connection.channel?);
            let left = (message.bytes - message.position) as usize;
            let bytes = left.min(client.room(channel)).min(Payload::PIECE_MAX);
            (bytes > 0).then_some((message, channel, bytes))
        };
        let mut capacity = sealed.len();
        for &index in queue.iter() {
            let connection = connections[index as usize].as_ref().expect("a rider is live");
            let Some((_, channel, bytes)) = piece(client, connection) else { continue };
            capacity += client.sealed_bytes_max(channel, bytes);
            if capacity > SEND_BYTES_MAX {
                break;
            }
        }
        if capacity == 0 {
            return;
        }
        let mut buffer = ring.send_buffer(capacity);
        buffer.extend(sealed);
        *sealed = Vec::new(); // an idle link keeps nothing
        let mut result = Ok(());
        queue.retain(|&index| {
            let connection = connections[index as usize].as_mut().expect("a rider is live");
            let Some((message, channel, bytes)) = piece(client, connection) else {
                return connection.message.is_some() || connection.waiting.is_some();
            };
            // What was sealed for later must not be overtaken.
            let full = buffer.spare_mut().len() < client.sealed_bytes_max(channel, bytes);
            if result.is_err() || full || !sealed.is_empty() {
                return true;
            }
            let Outgoing { place, position, .. } = message;
            let payload = if message.first {
                group.first_message.as_ref().unwrap_or(&group.payload)
            } else {
                &group.payload
            };
            let mut fill = |from: usize, out: &mut [u8]| {
                payload.write(place, message.bytes, position as usize + from, out);
            };
            match client.seal(channel, bytes, &mut || random.next(), buffer.spare_mut(), &mut fill) {
                Ok(sealed) => buffer.commit(sealed),
                Err(fault) => result = Err(fault),
            }
            let position = position + bytes as u32;
            let mut rest = message;
            rest.position = position;
            connection.message = (position < message.bytes).then_some(rest);
            if connection.message.is_none() && connection.phase == Phase::Closing {
                // What ends the program waited for this.
                let row = share.endpoints[connection.endpoint as usize].ssh.as_deref();
                result =
                    result.clone().and(say_end(client, channel, row, group, &mut || random.next(), sealed));
            }
            connection.message.is_some() || connection.waiting.is_some()
        });
        if result.is_err() {
            self.break_link(link);
        }
        if buffer.is_empty() {
            return self.ring.recycle(buffer);
        }
        let Self { links, groups, meter, ring, .. } = self;
        let of_it = links[link as usize].as_mut().expect("a live link");
        of_it.sending = true;
        let cell = groups[usize::from(of_it.group)].cell_now(of_it.target);
        meter.counters(cell).wire_sent += buffer.len() as u64;
        ring.send(of_it.socket, buffer, Token::new(kind::SEND, of_it.generation, link | LINK));
    }

    /// Nothing can be sealed any more: lost in this turn's or the next one's deadlines.
    pub(super) fn break_link(&mut self, link: u32) {
        self.link(link).broken = true;
        self.link_deadline(link, Time::ZERO);
    }

    pub(super) fn link_deadline(&mut self, link: u32, at: Time) {
        let of_it = self.links[link as usize].as_mut().expect("a live link");
        of_it.deadline = at;
        self.deadlines.push(Reverse((at, Deadline::Link(link, of_it.generation))));
    }

    /// A link's deadline has come: it is left too slowly, broken, or its keys are old.
    pub(in crate::worker) fn link_expired(&mut self, link: u32, generation: u32, now: Time) {
        let Some(of_it) = self.links[link as usize].as_mut() else { return };
        if of_it.generation != generation || of_it.deadline > now {
            return;
        }
        match of_it.phase {
            LinkPhase::Ended => {}
            LinkPhase::Leaving => self.end_link(link, true),
            _ if of_it.broken => self.fail_link(link, Class::SshProtocol, now),
            _ => {
                let Self { links, share, random, .. } = self;
                let of_it = links[link as usize].as_mut().expect("a live link");
                let Link { client, sealed, group, .. } = &mut **of_it;
                let rekey_ns =
                    share.groups[usize::from(*group)].ssh.as_ref().map_or(u64::MAX, |ssh| ssh.rekey_ns);
                let client = client.as_mut().expect("an open link has its session");
                if client.rekey(&mut || random.next(), sealed).is_err() {
                    return self.break_link(link);
                }
                self.link_deadline(link, now.plus_ns(rekey_ns));
                self.push_link_if_free(link);
            }
        }
    }
}

/// What ends a stream's program in order: the end of its input, or what its kind needs instead.
pub(super) fn say_end(
    client: &mut Client,
    channel: ChannelId,
    row: Option<&SshEndpoint>,
    group: &Group,
    random: &mut dyn FnMut() -> u64,
    sealed: &mut Vec<u8>,
) -> Result<(), Fault> {
    let hang_up = group.ssh.as_ref().is_some_and(|ssh| ssh.hang_up);
    match row.map(|row| &*row.purpose) {
        _ if hang_up => {
            client.signal(channel, "HUP", random, sealed)?;
            client.close(channel, random, sealed)
        }
        // It reads nothing; it is to stop writing.
        _ if group.traffic == Traffic::Receive => client.close(channel, random, sealed),
        Some(Purpose::Session { pty: Some(_), program, .. }) => {
            if client.room(channel) > 0 {
                let from = sealed.len();
                sealed.resize(from + client.sealed_bytes_max(channel, 1), 0);
                let bytes = client
                    .seal(channel, 1, random, &mut sealed[from..], &mut |_, out| out.fill(INTERRUPT))?;
                sealed.truncate(from + bytes);
            }
            if *program == Program::Shell {
                return client.close(channel, random, sealed); // an interrupt does not end a shell
            }
            client.end(channel, random, sealed)
        }
        _ => client.end(channel, random, sealed),
    }
}
