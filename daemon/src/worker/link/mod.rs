//! SSH links: made for the streams that ride on them, shared by channels, and left with the last.

mod push;
mod ride;

use scale_proto::ssh::{Client, Event, Exit, Negotiated};
use scale_ring::{Completion, Errno, Outcome, ReceivedBytes, Ring, Time, Token};

use crate::stream::class::Class;
use crate::stream::link::{Link, LinkPhase};
use crate::stream::meter::Figure;
use crate::stream::stack::Phase;

use super::receive::Arrival;
use super::share::GroupPhase;
use super::turn::{Worker, kind};

/// In a token's index: it is a link's, not a connection's.
pub(super) const LINK: u32 = 1 << 31;

/// What an input brought besides data. Channels' are told by their connections: what happens first may
/// open a channel under the number of one that the session has forgotten.
#[derive(Debug)]
pub(super) enum Happened {
    Identified,
    KeysExchanged(Negotiated),
    Authenticated,
    Opened(u32),
    Gone(u32, Class),
}

impl<R: Ring> Worker<R> {
    pub(in crate::worker) fn link(&mut self, link: u32) -> &mut Link {
        self.links[link as usize].as_mut().expect("a live link")
    }

    /// What links' completions will touch: their sessions, and their first channels' streams.
    pub(in crate::worker) fn prefetch_links(&self, batch: &[Completion]) {
        let of_link = |completion: &&Completion| completion.token.index() & LINK != 0;
        for completion in batch.iter().filter(of_link) {
            let link = self.links.get((completion.token.index() & !LINK) as usize).and_then(Option::as_deref);
            let Some(of_it) = link else { continue };
            if let Some(client) = of_it.client.as_deref() {
                scale_ring::prefetch(client);
            }
            let first =
                of_it.channels.first().and_then(|&index| self.connections.get(index as usize)?.as_deref());
            if let Some(connection) = first {
                scale_ring::prefetch(&self.streams[connection.stream as usize]);
            }
        }
    }

    /// One completion of a link, drained at `done`.
    #[inline]
    pub(in crate::worker) fn complete_link(&mut self, completion: Completion, done: Time) {
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
        let Link { client, carry, sealed, channels, pending, .. } = &mut **of_it;
        let client = client.as_mut().expect("an established link has its session");
        let mut event = |event: Event<'_>| {
            use Event as E;
            happened.push(match event {
                E::Data { channel, bytes } => {
                    let Some(index) = Link::rider(channels, channel) else { return };
                    let connection = connections[index as usize].as_ref().expect("a rider is live");
                    let flow = &mut streams[connection.stream as usize];
                    // What a terminal says to Ctrl-C is no echo of a message.
                    let leaving = connection.typed_goodbye && connection.phase == Phase::Closing;
                    let opened_at = connection.phase_began;
                    let terminal = false;
                    let early = connection.phase == Phase::Connecting;
                    Arrival {
                        flow,
                        timeline,
                        group,
                        meter,
                        pool,
                        cell_now,
                        opened_at,
                        early,
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
                E::Opened(channel) => match Link::rider(channels, channel) {
                    Some(index) => Happened::Opened(index),
                    None => return,
                },
                E::Exited { channel, exit } => {
                    let Some(index) = Link::rider(channels, channel) else { return };
                    let connection = connections[index as usize].as_mut().expect("a rider is live");
                    connection.exit = Some(match exit {
                        Exit::Status(status) => Class::exited(status),
                        Exit::Signal(_) => Class::ExitedSignal,
                    });
                    return;
                }
                E::Refused { channel, .. } | E::Closed(channel) => {
                    let Some(index) = Link::rider(channels, channel) else { return };
                    channels[channel as usize] = Link::NOBODY;
                    pending.push(index);
                    let connection = connections[index as usize].as_mut().expect("a rider is live");
                    (connection.channel, connection.closed) = (None, true);
                    let refused = matches!(event, E::Refused { .. });
                    let class = if refused { Class::ChannelRefused } else { Class::ChannelClosed };
                    Happened::Gone(index, connection.exit.take().unwrap_or(class))
                }
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
            let class = Class::from(&fault);
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
                    self.link_phase_done(link, Figure::Banner, LinkPhase::KeyExchange, now);
                }
                Happened::KeysExchanged(negotiated) => {
                    self.link_phase_done(link, Figure::KeyExchange, LinkPhase::Authentication, now);
                    match self.negotiated.iter_mut().find(|(known, _)| *known == negotiated) {
                        Some((_, links)) => *links += 1,
                        None => self.negotiated.push((negotiated, 1)),
                    }
                }
                Happened::Authenticated => self.link_authenticated(link, now),
                Happened::Opened(index) => {
                    self.phase_done(index, Figure::Channel, now);
                    let address = self.link(link).address;
                    let connection = self.connection(index);
                    (connection.phase, connection.address) = (Phase::Open, address);
                    self.opened(index, now);
                }
                // A Closing stream's is what it waited for.
                Happened::Gone(index, class) => self.lose(index, class, now),
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

    fn link_failed(&mut self, link: u32, errno: Errno, now: Time) {
        let class = match errno {
            Errno::Reset => self.link_end_class(link, Class::Reset),
            _ => Class::from(errno),
        };
        self.link(link).broken = true;
        self.fail_link(link, class, now);
    }

    /// `class`, unless the server went before it said what it is. It may have said why: sshd does.
    fn link_end_class(&mut self, link: u32, class: Class) -> Class {
        if self.link(link).phase == LinkPhase::Banner { Class::DroppedBeforeBanner } else { class }
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
