//! SSH links: made for the streams that ride on them, shared by channels, and left with the last.

use std::cmp::Reverse;

use scale_proto::Fault;
use scale_proto::ssh::{ChannelId, Client, Exit, Negotiated, Program, Purpose};
use scale_ring::{Completion, Errno, Outcome, ReceivedBytes, Ring, Time, Token};

use crate::load::{Payload, Protocol, SshEndpoint, Traffic};
use crate::stream::class::Class;
use crate::stream::link::{Link, LinkPhase};
use crate::stream::meter::Figure;
use crate::stream::stack::{Connection, Outgoing, Phase};

use super::receive::Arrival;
use super::share::GroupPhase;
use super::turn::{CLOSE_WAIT_NS, Deadline, Worker, kind};

/// In a token's index: it is a link's, not a connection's.
pub(super) const LINK: u32 = 1 << 31;
/// Bytes of one send.
const SEND_BYTES_MAX: usize = 2 * Payload::PIECE_MAX;
/// Ctrl-C: ends a program that reads a terminal.
const INTERRUPT: u8 = 3;

/// What an input brought besides data.
#[derive(Debug)]
pub(super) enum Happened {
    Identified,
    KeysExchanged(Negotiated),
    Authenticated,
    Opened(ChannelId),
    Refused(ChannelId),
    Exited(ChannelId, Exit),
    Closed(ChannelId),
}

impl<R: Ring> Worker<R> {
    pub(super) fn link(&mut self, link: u32) -> &mut Link {
        self.links[link as usize].as_mut().expect("a live link")
    }

    /// Puts a stream on a link: one of its row with room, or a new one.
    pub(super) fn ride(&mut self, stream: u32, row: u32, address: u32, now: Time, deadline: Time) {
        let group = self.streams[stream as usize].group;
        let link = match self.link_with_room(group, row) {
            Some(link) => link,
            None => match self.new_link(stream, row, (address, 0), now, deadline) {
                Ok(link) => link,
                Err(class) => return self.attempt_failed(stream, class, now),
            },
        };
        let socket = self.link(link).socket;
        let index = self.new_connection(socket, stream, row, Protocol::Ssh, now, deadline);
        self.connection(index).link = link;
        let link_of_it = self.link(link);
        link_of_it.riders += 1;
        if link_of_it.phase == LinkPhase::Open {
            self.open_channel(index, now);
            self.push_link_if_free(link);
        } else {
            link_of_it.pending.push(index);
        }
    }

    /// A link of this row that takes another channel.
    fn link_with_room(&self, group: u8, row: u32) -> Option<u32> {
        let most = self.channels_per_connection(group);
        if most == 1 {
            return None;
        }
        // Streams come in order, so that the newest link is the one with room, if any has.
        let fits = |link: &Link| {
            (link.group, link.endpoint) == (group, row)
                && link.riders < most
                && link.phase < LinkPhase::Leaving
        };
        let newest = self
            .newest_links
            .get(&(group, row))
            .copied()
            .filter(|&newest| self.links[newest as usize].as_deref().is_some_and(fits));
        newest.or_else(|| {
            let position = self.links.iter().position(|link| link.as_deref().is_some_and(fits))?;
            Some(position as u32)
        })
    }

    fn channels_per_connection(&self, group: u8) -> u32 {
        self.share.groups[usize::from(group)].ssh.as_ref().map_or(1, |ssh| ssh.channels_per_connection)
    }

    /// A link that connects to one of its row's addresses: the second value says which one, and how many
    /// were tried before it.
    fn new_link(
        &mut self,
        stream: u32,
        row: u32,
        (address, tried): (u32, u32),
        now: Time,
        give_up: Time,
    ) -> Result<u32, Class> {
        let endpoint = &self.share.endpoints[row as usize];
        let addresses = &self.share.addresses[endpoint.addresses as usize];
        let to = *addresses.get(address as usize % addresses.len().max(1)).ok_or(Class::Unreachable)?;
        let (socket, lease) = self.open(stream, to).map_err(Class::from)?;
        let flow = &self.streams[stream as usize];
        self.generation = (self.generation + 1) & Token::GENERATION_MASK;
        let generation = self.generation;
        let link = Link {
            socket,
            generation,
            group: flow.group,
            target: flow.target,
            endpoint: row,
            phase: LinkPhase::Connecting,
            phase_began: now,
            deadline: Time::NEVER,
            give_up,
            lease,
            address,
            addresses_tried: tried + 1,
            sending: false,
            broken: false,
            client: None,
            carry: Vec::new(),
            sealed: Vec::new(),
            pending: Vec::new(),
            channels: Vec::new(),
            riders: 0,
            queue: Vec::new(),
        };
        let key = (link.group, row);
        let index = self.links_free.pop().unwrap_or_else(|| {
            self.links.push(None);
            (self.links.len() - 1) as u32
        });
        self.links[index as usize] = Some(Box::new(link));
        if self.channels_per_connection(key.0) > 1 {
            self.newest_links.insert(key, index);
        }
        self.ring.connect(socket, to, Token::new(kind::CONNECT, generation, index | LINK));
        Ok(index)
    }

    /// What a link's completion will touch: its session, and the stream of its first channel.
    pub(super) fn prefetch_link(&self, link: u32) {
        let Some(of_it) = self.links.get(link as usize).and_then(Option::as_deref) else { return };
        if let Some(client) = of_it.client.as_deref() {
            scale_ring::prefetch(client);
        }
        let first =
            of_it.channels.first().and_then(|&index| self.connections.get(index as usize)?.as_deref());
        if let Some(connection) = first {
            scale_ring::prefetch(&self.streams[connection.stream as usize]);
        }
    }

    /// One completion of a link, drained at `done`.
    #[inline]
    pub(super) fn complete_link(&mut self, completion: Completion, done: Time) {
        let Completion { token, outcome } = completion;
        let link = token.index() & !LINK;
        let live = self.links.get(link as usize).and_then(Option::as_ref).is_some_and(|current| {
            current.generation == token.generation() && current.phase != LinkPhase::Ended
        });
        match outcome {
            Outcome::Received { bytes, more } if live => self.link_received(link, bytes, more, done),
            Outcome::Received { bytes, .. } => self.ring.release(bytes),
            Outcome::Sent { buffer, sent } if live && sent < buffer.len() => {
                let mut buffer = buffer;
                buffer.advance(sent);
                let socket = self.link(link).socket;
                self.ring.send(socket, buffer, token);
            }
            Outcome::Sent { buffer, .. } => {
                self.ring.recycle(buffer);
                if live {
                    self.link_sent(link, done);
                }
            }
            Outcome::SendFailed { buffer, errno } => {
                self.ring.recycle(buffer);
                if live {
                    self.link(link).sending = false;
                    self.link_failed(link, errno, done);
                }
            }
            Outcome::Connected if live => self.link_connected(link, done),
            Outcome::Failed(errno) if live && token.kind() == kind::CONNECT => {
                self.link_connect_failed(link, errno, done);
            }
            Outcome::Failed(Errno::NoBuffers) if live => self.link_receive_on(link),
            Outcome::Failed(errno) if live => self.link_failed(link, errno, done),
            Outcome::Ended if live => {
                let class = self.link_end_class(link, Class::Closed);
                self.link(link).broken = true;
                self.fail_link(link, class, done);
            }
            Outcome::Closed => {
                if let Some(ended) = self.links[link as usize].take() {
                    if let Some(lease) = ended.lease {
                        self.ports.give(lease);
                    }
                    self.links_free.push(link);
                }
            }
            Outcome::Connected | Outcome::Failed(_) | Outcome::Ended | Outcome::Accepted { .. } => {}
        }
    }

    fn link_receive_on(&mut self, link: u32) {
        let Self { links, ring, .. } = self;
        let of_it = links[link as usize].as_ref().expect("a live link");
        ring.receive(of_it.socket, Token::new(kind::RECEIVE, of_it.generation, link | LINK));
    }

    fn link_connected(&mut self, link: u32, now: Time) {
        self.link_phase_done(link, Figure::Connect, LinkPhase::Banner, now);
        self.link_receive_on(link);
        let Self { links, share, random, .. } = self;
        let of_it = links[link as usize].as_mut().expect("a live link");
        let ssh = share.groups[usize::from(of_it.group)].ssh.as_ref().expect("an SSH group has its words");
        let row = share.endpoints[of_it.endpoint as usize].ssh.as_ref().expect("an SSH row has its words");
        let mut client = Client::new(ssh.config.clone(), row.login.clone(), row.host.clone(), row.port);
        match client.start(&mut || random.next(), &mut of_it.sealed) {
            Ok(()) => {
                of_it.client = Some(Box::new(client));
                self.push_link_if_free(link);
            }
            Err(fault) => self.fail_link(link, Class::from(&fault), now),
        }
    }

    /// Records how long a phase took, and begins the next.
    fn link_phase_done(&mut self, link: u32, figure: Figure, next: LinkPhase, now: Time) {
        let Self { links, groups, meter, .. } = self;
        let of_it = links[link as usize].as_mut().expect("a live link");
        let cell = groups[usize::from(of_it.group)].cell_now(of_it.target);
        meter.record(cell, figure, now.ns_since(of_it.phase_began));
        (of_it.phase, of_it.phase_began) = (next, now);
    }

    /// A port is taken, or an address does not answer: the next one, within the same attempt.
    fn link_connect_failed(&mut self, link: u32, errno: Errno, now: Time) {
        let of_it = self.link(link);
        let (row, address, tried, give_up) =
            (of_it.endpoint, of_it.address, of_it.addresses_tried, of_it.give_up);
        let riders = std::mem::take(&mut of_it.pending);
        of_it.riders = 0;
        self.end_link(link, false);
        let Some(&first) = riders.first() else { return };
        let stream = self.connection(first).stream;
        let class = match self.next_address(row, (address, tried), errno, now < give_up) {
            None => Class::from(errno),
            Some(next) => match self.new_link(stream, row, (next, tried), now, give_up) {
                Err(class) => class,
                Ok(new) => {
                    let socket = self.link(new).socket;
                    for &index in &riders {
                        let connection = self.connection(index);
                        (connection.link, connection.socket) = (new, socket);
                    }
                    let new = self.link(new);
                    (new.riders, new.pending) = (riders.len() as u32, riders);
                    return;
                }
            },
        };
        for index in riders {
            let stream = self.connection(index).stream;
            self.connection(index).link = Connection::NO_LINK;
            self.retire_path(index);
            self.attempt_failed(stream, class, now);
        }
    }

    fn link_received(&mut self, link: u32, bytes: ReceivedBytes, more: bool, done: Time) {
        let Self { links, connections, streams, groups, share, meter, ring, random, pool, happened, .. } =
            self;
        let of_it = links[link as usize].as_mut().expect("a live link");
        let timeline = &groups[usize::from(of_it.group)];
        let group = &share.groups[usize::from(of_it.group)];
        let cell_now = timeline.cell_now(of_it.target);
        meter.counters(cell_now).wire_received += bytes.len() as u64;
        if of_it.phase == LinkPhase::Leaving {
            ring.release(bytes);
            if !more {
                self.link_receive_on(link);
            }
            return;
        }
        let Link { client, carry, sealed, channels, .. } = &mut **of_it;
        let client = client.as_mut().expect("an established link has its session");
        let mut event = |event: scale_proto::ssh::Event<'_>| {
            use scale_proto::ssh::Event as E;
            happened.push(match event {
                E::Data { channel, bytes } => {
                    let Some(index) = Link::rider(channels, channel) else { return };
                    let connection = connections[index as usize].as_ref().expect("a rider is live");
                    let flow = &mut streams[connection.stream as usize];
                    // What a terminal says to Ctrl-C is no echo of a message.
                    let leaving = connection.typed_goodbye && connection.phase == Phase::Closing;
                    let opened_at = connection.phase_began;
                    let terminal = false;
                    Arrival {
                        flow,
                        timeline,
                        group,
                        meter,
                        pool,
                        cell_now,
                        opened_at,
                        terminal,
                        leaving,
                        done,
                        redrawn: false,
                    }
                    .take(bytes);
                    return;
                }
                E::ExtendedData { bytes, .. } => {
                    // Not the stream's: it has no place in the order of what was sent.
                    meter.counters(cell_now).unexpected_bytes += bytes.len() as u64;
                    return;
                }
                E::Identified(_) => Happened::Identified,
                E::KeysExchanged(negotiated) => Happened::KeysExchanged(negotiated),
                E::Authenticated => Happened::Authenticated,
                E::Opened(channel) => Happened::Opened(channel),
                E::Refused { channel, .. } => Happened::Refused(channel),
                E::Exited { channel, exit } => Happened::Exited(channel, exit),
                E::Closed(channel) => Happened::Closed(channel),
                // CLOSE follows.
                E::Ended(_) | E::Requested { .. } => return,
            });
        };
        let result = Link::receive(client, carry, sealed, ring.received(&bytes), random, &mut event);
        ring.release(bytes);
        if !more {
            self.link_receive_on(link);
        }
        if !self.happened.is_empty() {
            self.link_happened(link, done);
        }
        if self.link(link).phase == LinkPhase::Ended {
            return;
        }
        if let Err(fault) = result {
            let class = match (&fault, self.link(link).phase) {
                (Fault::SshProtocol(_), LinkPhase::Banner) => self.link_end_class(link, Class::SshProtocol),
                _ => Class::from(&fault),
            };
            return self.fail_link(link, class, done);
        }
        self.serve_link(link, done);
        self.close_if_answered(link, done);
    }

    /// Events of one input, in their order.
    #[cold]
    fn link_happened(&mut self, link: u32, now: Time) {
        let mut happened = std::mem::take(&mut self.happened);
        for event in happened.drain(..) {
            if self.link(link).phase >= LinkPhase::Leaving {
                break;
            }
            match event {
                Happened::Identified => {
                    self.link_phase_done(link, Figure::Banner, LinkPhase::KeyExchange, now)
                }
                Happened::KeysExchanged(negotiated) => {
                    self.link_phase_done(link, Figure::KeyExchange, LinkPhase::Authentication, now);
                    match self.negotiated.iter_mut().find(|(known, _)| *known == negotiated) {
                        Some((_, links)) => *links += 1,
                        None => self.negotiated.push((negotiated, 1)),
                    }
                }
                Happened::Authenticated => self.link_authenticated(link, now),
                Happened::Opened(channel) => {
                    if let Some(index) = Link::rider(&self.link(link).channels, channel) {
                        self.phase_done(index, Figure::Channel, now);
                        let address = self.link(link).address;
                        let connection = self.connection(index);
                        (connection.phase, connection.address) = (Phase::Open, address);
                        self.opened(index, now);
                    }
                }
                Happened::Refused(channel) => self.channel_gone(link, channel, Class::ChannelRefused, now),
                Happened::Exited(channel, exit) => {
                    if let Some(index) = Link::rider(&self.link(link).channels, channel) {
                        self.connection(index).exit = Some(match exit {
                            Exit::Status(status) => Class::exited(status),
                            Exit::Signal(_) => Class::ExitedSignal,
                        });
                    }
                }
                Happened::Closed(channel) => self.channel_gone(link, channel, Class::ChannelClosed, now),
            }
        }
        happened.clear();
        self.happened = happened;
    }

    fn link_authenticated(&mut self, link: u32, now: Time) {
        self.link_phase_done(link, Figure::Authentication, LinkPhase::Open, now);
        let of_it = self.link(link);
        let pending = std::mem::take(&mut of_it.pending);
        for index in pending {
            self.open_channel(index, now);
        }
        let group = usize::from(self.link(link).group);
        let rekey_ns = self.share.groups[group].ssh.as_ref().map_or(u64::MAX, |ssh| ssh.rekey_ns);
        self.link_deadline(link, now.plus_ns(rekey_ns));
    }

    /// Asks for a stream's channel on a link that is open.
    fn open_channel(&mut self, index: u32, now: Time) {
        let Self { links, connections, share, random, .. } = self;
        let connection = connections[index as usize].as_mut().expect("a live connection");
        let link = links[connection.link as usize].as_mut().expect("its link lives");
        let row: &SshEndpoint =
            share.endpoints[connection.endpoint as usize].ssh.as_ref().expect("an SSH row has its words");
        connection.phase_began = now;
        connection.typed_goodbye = matches!(&*row.purpose, Purpose::Session { pty: Some(_), .. });
        let client = link.client.as_mut().expect("an open link has its session");
        match client.open(row.purpose.clone(), &mut || random.next(), &mut link.sealed) {
            Ok(channel) => {
                connection.channel = Some(channel);
                link.seat(channel, index);
            }
            Err(_) => {
                // Out of this turn's deadlines, not in the middle of whoever called.
                link.pending.push(index);
                let link = connection.link;
                self.break_link(link);
            }
        }
    }

    /// A channel was refused or closed: its stream's path is gone.
    fn channel_gone(&mut self, link: u32, channel: ChannelId, class: Class, now: Time) {
        let Some(index) = Link::rider(&self.link(link).channels, channel) else { return };
        // The session has forgotten it, and may give its number to another.
        self.link(link).channels[channel as usize] = Link::NOBODY;
        self.link(link).pending.push(index);
        let connection = self.connection(index);
        connection.channel = None;
        connection.closed = true;
        let class = connection.exit.take().unwrap_or(class);
        if connection.phase == Phase::Closing {
            self.closed(index, true, now);
        } else {
            self.lose(index, class, now);
        }
    }

    /// Whether a message may begin on this path now.
    #[inline]
    pub(super) fn is_free(&self, index: u32) -> bool {
        let connection = self.connections[index as usize].as_ref().expect("a live connection");
        if connection.link == Connection::NO_LINK {
            return connection.is_free();
        }
        let link = self.links[connection.link as usize].as_ref().expect("its link lives");
        let room = |channel| link.client.as_ref().map_or(0, |client| client.room(channel));
        connection.message.is_none() && link.is_free() && connection.channel.map_or(0, room) > 0
    }

    fn link_sent(&mut self, link: u32, now: Time) {
        let of_it = self.link(link);
        of_it.sending = false;
        if of_it.phase == LinkPhase::Leaving && of_it.sealed.is_empty() {
            return self.end_link(link, false);
        }
        self.serve_link(link, now);
        self.close_if_answered(link, now);
    }

    /// Ticks that waited become messages where they can, and everything that can go goes.
    pub(super) fn serve_link(&mut self, link: u32, now: Time) {
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

    pub(super) fn push_link_if_free(&mut self, link: u32) {
        if !self.link(link).sending {
            self.push_link(link);
        }
    }

    /// Hands what can go to the ring, in one send. None may be under way.
    #[inline]
    pub(super) fn push_link(&mut self, link: u32) {
        let Self { links, connections, share, ring, random, .. } = self;
        let of_it = links[link as usize].as_mut().expect("a live link");
        let Link { client, sealed, queue, group, .. } = &mut **of_it;
        let Some(client) = client.as_deref_mut() else { return };
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
                payload.write(place, message.bytes, position as usize + from, out)
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
    fn break_link(&mut self, link: u32) {
        self.link(link).broken = true;
        self.link_deadline(link, Time::ZERO);
    }

    fn link_deadline(&mut self, link: u32, at: Time) {
        let of_it = self.links[link as usize].as_mut().expect("a live link");
        of_it.deadline = at;
        self.deadlines.push(Reverse((at, Deadline::Link(link, of_it.generation))));
    }

    /// A link's deadline has come: it is left too slowly, broken, or its keys are old.
    pub(super) fn link_expired(&mut self, link: u32, generation: u32, now: Time) {
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

    fn link_failed(&mut self, link: u32, errno: Errno, now: Time) {
        let class = match errno {
            Errno::Reset => self.link_end_class(link, Class::Reset),
            _ => Class::from(errno),
        };
        self.link(link).broken = true;
        self.fail_link(link, class, now);
    }

    /// `class`, unless the server went before it said what it is.
    fn link_end_class(&mut self, link: u32, class: Class) -> Class {
        let of_it = self.link(link);
        // A greeting that was cut is something that it said.
        let silent = of_it.phase == LinkPhase::Banner && of_it.carry.is_empty();
        if silent && class != Class::SshProtocol { Class::DroppedBeforeBanner } else { class }
    }

    /// Every stream on the link loses its path. What must still be said goes out.
    pub(super) fn fail_link(&mut self, link: u32, class: Class, now: Time) {
        let of_it = self.link(link);
        if of_it.phase == LinkPhase::Leaving {
            return self.end_link(link, false);
        }
        of_it.phase = LinkPhase::Leaving;
        let riders = of_it.all();
        if riders.is_empty() {
            return self.finish_link(link);
        }
        for index in riders {
            self.lose(index, class, now);
        }
    }

    /// Ends a stream's path; with the last the link goes, too.
    pub(super) fn end_path(&mut self, index: u32, abort: bool) {
        let connection = self.connection(index);
        let (link, channel) = (connection.link, connection.channel.take());
        self.retire_path(index);
        if link == Connection::NO_LINK {
            return;
        }
        let of_it = self.link(link);
        of_it.unseat(index, channel);
        if of_it.phase == LinkPhase::Ended {
            return;
        }
        if of_it.riders == 0 {
            return if abort { self.end_link(link, true) } else { self.finish_link(link) };
        }
        let Self { links, random, .. } = self;
        let of_it = links[link as usize].as_mut().expect("a live link");
        if let (Some(channel), LinkPhase::Open, false) = (channel, of_it.phase, of_it.broken)
            && let Some(client) = of_it.client.as_mut()
        {
            if client.close(channel, &mut || random.next(), &mut of_it.sealed).is_err() {
                return self.break_link(link);
            }
            self.push_link_if_free(link);
        }
    }

    /// The slot is free at the turn's end: whoever called may still look at it.
    fn retire_path(&mut self, index: u32) {
        self.connection(index).phase = Phase::Ended;
        self.retired.push(index);
    }

    /// Frees the slots of paths that have ended.
    pub(super) fn reap(&mut self) {
        for index in self.retired.drain(..) {
            self.connections[index as usize] = None;
            self.free.push(index);
        }
    }

    /// Nobody rides on it any more: it says so, and closes.
    fn finish_link(&mut self, link: u32) {
        let now = self.woke;
        let Self { links, random, .. } = self;
        let of_it = links[link as usize].as_mut().expect("a live link");
        if of_it.phase != LinkPhase::Leaving {
            if let (true, Some(client)) = (of_it.phase > LinkPhase::Banner, of_it.client.as_mut()) {
                // A session that cannot say goodbye is closed all the same.
                let _ = client.disconnect(&mut || random.next(), &mut of_it.sealed);
            }
            of_it.phase = LinkPhase::Leaving;
        }
        if of_it.broken {
            return self.end_link(link, false);
        }
        self.push_link_if_free(link);
        if self.link(link).sending {
            self.link_deadline(link, now.plus_ns(CLOSE_WAIT_NS));
        } else {
            self.end_link(link, false);
        }
    }

    /// The socket goes back to the ring.
    pub(super) fn end_link(&mut self, link: u32, abort: bool) {
        let Self { links, ring, newest_links, .. } = self;
        let of_it = links[link as usize].as_mut().expect("a live link");
        of_it.phase = LinkPhase::Ended;
        let key = (of_it.group, of_it.endpoint);
        if newest_links.get(&key) == Some(&link) {
            newest_links.remove(&key);
        }
        let token = Token::new(kind::CLOSE, of_it.generation, link | LINK);
        if abort {
            ring.abort(of_it.socket, token);
        } else {
            ring.close(of_it.socket, token);
        }
    }

    /// Begins closing a stream's channel in order.
    pub(super) fn close_channel(&mut self, index: u32) {
        let Self { links, connections, share, random, .. } = self;
        let connection = connections[index as usize].as_mut().expect("a live connection");
        let link = links[connection.link as usize].as_mut().expect("its link lives");
        let (number, group) = (connection.link, &share.groups[usize::from(link.group)]);
        let row = share.endpoints[connection.endpoint as usize].ssh.as_deref();
        if connection.message.is_none()
            && let (Some(channel), Some(client)) = (connection.channel, link.client.as_mut())
        {
            if say_end(client, channel, row, group, &mut || random.next(), &mut link.sealed).is_err() {
                return self.break_link(number);
            }
            self.push_link_if_free(number);
        }
    }

    /// In the drain, streams whose last answer has come close.
    fn close_if_answered(&mut self, link: u32, now: Time) {
        let of_it = self.links[link as usize].as_ref().expect("a live link");
        if self.groups[usize::from(of_it.group)].phase != GroupPhase::Draining
            || of_it.phase != LinkPhase::Open
        {
            return;
        }
        for index in of_it.all() {
            self.close_if_drained(index, now);
        }
    }
}

/// What ends a stream's program in order: the end of its input, or what its kind needs instead.
fn say_end(
    client: &mut Client,
    channel: ChannelId,
    row: Option<&SshEndpoint>,
    group: &crate::load::Group,
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
