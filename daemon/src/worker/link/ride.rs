//! Who rides on which link: made for the first stream, shared by channels, left with the last.

use scale_proto::ssh::Purpose;
use scale_ring::{Errno, Ring, Time, Token};

use super::LINK;
use super::push::say_end;
use crate::load::{Protocol, SshEndpoint};
use crate::stream::class::Class;
use crate::stream::link::{Link, LinkPhase};
use crate::stream::stack::{Connection, Phase};
use crate::worker::turn::{CLOSE_WAIT_NS, Worker, kind};

impl<R: Ring> Worker<R> {
    /// Puts a stream on a link: one of its row with room, or a new one.
    pub(in crate::worker) fn ride(
        &mut self,
        stream: u32,
        row: u32,
        (tried, has_slot): (u32, bool),
        now: Time,
        deadline: Time,
    ) {
        let group = self.streams[stream as usize].group;
        let link = match self.link_with_room(group, row) {
            Some(link) => link,
            None => {
                if !has_slot && let Some(at) = self.link_slot_ahead(group, row, now) {
                    return self.await_slot(stream, tried, at);
                }
                let address = self.first_address(stream, row, tried);
                match self.new_link(stream, row, (address, tried), now, deadline) {
                    Ok(link) => link,
                    Err(class) => return self.attempt_failed(stream, class, now),
                }
            }
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

    /// Takes a slot for a link, or waits for the one that a link has taken which has room for another.
    fn link_slot_ahead(&mut self, group: u8, row: u32, now: Time) -> Option<Time> {
        let most = self.channels_per_connection(group);
        if let Some((at, riders)) = self.links_ahead.get_mut(&(group, row))
            && *at > now
            && *riders < most
        {
            *riders += 1;
            return Some(*at);
        }
        let at = self.slot_ahead(row, now)?;
        if most > 1 {
            self.links_ahead.insert((group, row), (at, 1));
        }
        Some(at)
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

    pub(super) fn channels_per_connection(&self, group: u8) -> u32 {
        self.share.groups[usize::from(group)].ssh.as_ref().map_or(1, |ssh| ssh.channels_per_connection)
    }

    /// A link that connects to one of its row's addresses: the second value says which one, and how many
    /// were tried before it.
    pub(super) fn new_link(
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

    /// A port is taken, or an address does not answer: the next one, within the same attempt.
    pub(super) fn link_connect_failed(&mut self, link: u32, errno: Errno, now: Time) {
        let of_it = self.link(link);
        let (row, address, tried, give_up) =
            (of_it.endpoint, of_it.address, of_it.addresses_tried, of_it.give_up);
        let riders = std::mem::take(&mut of_it.pending);
        of_it.riders = 0;
        self.end_link(link, false);
        let Some(&first) = riders.first() else { return };
        let stream = self.connection(first).stream;
        let next = self.next_address(row, (address, tried), errno, now < give_up);
        if next.is_some()
            && let Some(at) = self.slot_ahead(row, now)
        {
            return self.await_slots(riders, tried, at);
        }
        let class = match next {
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

    /// The riders of a link that has failed wait for the slot of the next one.
    fn await_slots(&mut self, riders: Vec<u32>, tried: u32, at: Time) {
        for index in riders {
            let connection = self.connection(index);
            let stream = connection.stream;
            connection.link = Connection::NO_LINK;
            self.retire_path(index);
            self.await_slot(stream, tried, at);
        }
    }

    /// Asks for a stream's channel on a link that is open.
    pub(super) fn open_channel(&mut self, index: u32, now: Time) {
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

    /// Begins closing a stream's channel in order.
    pub(in crate::worker) fn close_channel(&mut self, index: u32) {
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

    /// Every stream on the link loses its path. What must still be said goes out.
    pub(in crate::worker) fn fail_link(&mut self, link: u32, class: Class, now: Time) {
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
    pub(in crate::worker) fn end_path(&mut self, index: u32, abort: bool) {
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
    pub(super) fn retire_path(&mut self, index: u32) {
        self.connection(index).phase = Phase::Ended;
        self.retired.push(index);
    }

    /// Frees the slots of paths that have ended.
    pub(in crate::worker) fn reap(&mut self) {
        for index in self.retired.drain(..) {
            self.connections[index as usize] = None;
            self.free.push(index);
        }
    }

    /// Nobody rides on it any more: it says so, and closes.
    pub(super) fn finish_link(&mut self, link: u32) {
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
    pub(in crate::worker) fn end_link(&mut self, link: u32, abort: bool) {
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
}
