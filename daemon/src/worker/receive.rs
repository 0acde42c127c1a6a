//! Completions: what came in, what went out, and what that means for the stream.

use scale_proto::coder;
use scale_ring::{Completion, Errno, Outcome, ReceivedBytes, Ring, Time, Token};

use crate::load::{Group, Traffic};
use crate::stream::class::Class;
use crate::stream::flow::{Echo, Stream};
use crate::stream::meter::{Figure, Meter};
use crate::stream::stack::{ClosedBy, Phase};
use crate::stream::unanswered::{Message, Pool};

use super::link::LINK;
use super::share::GroupPhase;
use super::timeline::Timeline;
use super::turn::{Worker, kind};

/// Payload that has come in: counted, and matched with what was sent.
pub(super) struct Arrival<'a> {
    /// Whose it is.
    pub flow: &'a mut Stream,
    pub timeline: &'a Timeline,
    pub group: &'a Group,
    pub meter: &'a mut Meter,
    pub pool: &'a mut Pool,
    /// Where it is counted, as far as it belongs to no message.
    pub cell_now: usize,
    /// When its connection was opened.
    pub opened_at: Time,
    /// It came with the word that the stream is open, which is still to be told.
    pub early: bool,
    /// The stream is a web terminal.
    pub terminal: bool,
    /// What comes now is what its program says at its end.
    pub leaving: bool,
    /// When it came.
    pub done: Time,
    /// It is a screen drawn anew.
    pub redrawn: bool,
}

impl Arrival<'_> {
    #[inline(always)]
    pub fn take(&mut self, mut received: &[u8]) {
        let Self {
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
            redrawn,
        } = self;
        let (cell_now, opened_at, terminal, done) = (*cell_now, *opened_at, *terminal, *done);
        if *leaving && flow.unanswered.is_empty() {
            return;
        }
        flow.received += received.len() as u64;
        if *early {
            flow.spoken_to |= !terminal;
        } else if !flow.answered && !terminal {
            flow.answered = true;
            let from = if flow.first_sent == Time::NEVER { opened_at } else { flow.first_sent };
            meter.record(cell_now, Figure::FirstByte, done.ns_since(from));
        }
        match group.traffic {
            Traffic::Receive => {
                let counters = meter.counters(cell_now);
                counters.payload_received += received.len() as u64;
                if timeline.is_steady(cell_now) {
                    flow.bytes += received.len() as u64;
                }
            }
            Traffic::Discard => {
                let counters = meter.counters(cell_now);
                counters.payload_received += received.len() as u64;
                counters.unexpected_bytes += received.len() as u64;
            }
            Traffic::Echo => {
                let received_all = received;
                while !received.is_empty() {
                    let (echo, rest) =
                        flow.echo(received, &group.payload, group.first_message.as_ref(), group.verify, pool);
                    received = rest;
                    match echo {
                        Echo::Part { due, bytes } => {
                            let cell = timeline.cell(due, flow.target);
                            meter.counters(cell).payload_received += u64::from(bytes);
                            if timeline.is_steady(cell) {
                                flow.bytes += u64::from(bytes);
                            }
                        }
                        Echo::Whole { message, bytes, same } => {
                            let cell = timeline.cell(message.due, flow.target);
                            let counters = meter.counters(cell);
                            counters.payload_received += u64::from(bytes);
                            counters.messages_echoed += 1;
                            counters.verify_failures += u64::from(!same);
                            *redrawn |= terminal && !same && coder::is_redraw(received_all);
                            let steady = timeline.is_steady(cell);
                            if steady {
                                flow.bytes += u64::from(bytes);
                            }
                            if !flow.response_invalid && message.place != Message::FIRST {
                                let response = done.ns_since(message.due);
                                meter.record(cell, Figure::Service, done.ns_since(message.sent));
                                meter.record(cell, Figure::Response, response);
                                if steady {
                                    flow.responses.record(response);
                                }
                            }
                        }
                        // Behind the last echo.
                        Echo::Unexpected { .. } if *leaving => {}
                        Echo::Unexpected { bytes } => {
                            let counters = meter.counters(cell_now);
                            counters.payload_received += bytes as u64;
                            counters.unexpected_bytes += bytes as u64;
                        }
                    }
                }
            }
        }
    }
}

impl<R: Ring> Worker<R> {
    /// One completion, drained at `done`.
    pub(super) fn complete(&mut self, completion: Completion, done: Time) {
        if completion.token.index() & LINK != 0 {
            return self.complete_link(completion, done);
        }
        let Completion { token, outcome } = completion;
        let index = token.index();
        let live = self.live(index, token.generation());
        match outcome {
            Outcome::Received { bytes, more } if live => self.received(index, bytes, more, done),
            Outcome::Received { bytes, .. } => self.ring.release(bytes),
            Outcome::Sent { buffer, sent } if live && sent < buffer.len() => {
                let mut buffer = buffer;
                buffer.advance(sent);
                let socket = self.connection(index).socket;
                self.ring.send(socket, buffer, token);
            }
            Outcome::Sent { buffer, .. } => {
                self.ring.recycle(buffer);
                if live {
                    self.sent(index, done);
                }
            }
            Outcome::SendFailed { buffer, errno } => {
                self.ring.recycle(buffer);
                if live {
                    self.connection(index).sending = false;
                    self.connection(index).message = None;
                    self.failed(index, errno, done);
                }
            }
            Outcome::Connected if live => self.connected(index, done),
            Outcome::Failed(errno) if live && token.kind() == kind::CONNECT => {
                self.connect_failed(index, errno, done);
            }
            Outcome::Failed(Errno::NoBuffers) if live => self.receive_on(index),
            Outcome::Failed(errno) if live => self.failed(index, errno, done),
            Outcome::Ended if live => self.peer_ended(index, done),
            Outcome::Closed => self.socket_closed(index),
            Outcome::Connected | Outcome::Failed(_) | Outcome::Ended | Outcome::Accepted { .. } => {}
        }
    }

    fn connected(&mut self, index: u32, now: Time) {
        self.phase_done(index, Figure::Connect, now);
        self.receive_on(index);
        let Self { connections, share, random, streams, .. } = self;
        let connection = connections[index as usize].as_mut().expect("a live connection");
        let flow = &streams[connection.stream as usize];
        let group = &share.groups[usize::from(flow.group)];
        let endpoint = &share.endpoints[connection.endpoint as usize];
        let tail = flow.lost.as_ref().map(|lost| lost.tail(&group.payload)).unwrap_or_default();
        match connection.established(endpoint, group, tail, random) {
            Ok(progress) if progress.opened => self.opened(index, now),
            Ok(_) => self.push_out(index),
            Err(fault) => self.lose(index, Class::from(&fault), now),
        }
    }

    fn receive_on(&mut self, index: u32) {
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        connection.receiving = true;
        self.ring.receive(connection.socket, Token::new(kind::RECEIVE, connection.generation, index));
    }

    fn sent(&mut self, index: u32, now: Time) {
        let connection = self.connection(index);
        connection.sending = false;
        if connection.has_output() {
            self.push_out(index);
        }
        let connection = self.connection(index);
        if !connection.is_free() {
            return;
        }
        match connection.phase {
            Phase::Open => {
                if connection.waiting.is_some() {
                    self.send_waiting(index, now);
                }
                self.close_if_drained(index, now);
            }
            Phase::Closing => self.finish_sending(index),
            // What was still to be said has been said.
            Phase::Leaving => self.end(index, false),
            Phase::Connecting | Phase::Tls | Phase::Upgrading | Phase::Aligning | Phase::Ended => {}
        }
    }

    fn received(&mut self, index: u32, bytes: ReceivedBytes, more: bool, done: Time) {
        let Self { connections, streams, groups, share, meter, ring, random, pool, .. } = self;
        let connection = connections[index as usize].as_mut().expect("a live connection");
        let flow = &mut streams[connection.stream as usize];
        let timeline = &groups[usize::from(flow.group)];
        let group = &share.groups[usize::from(flow.group)];
        let cell_now = timeline.cell_now(flow.target);
        meter.counters(cell_now).wire_received += bytes.len() as u64;
        if connection.phase == Phase::Leaving {
            // The stream has another connection by now, or none: this one is only to be answered.
            ring.release(bytes);
            if !more {
                self.receive_on(index);
            }
            return;
        }
        let opened_at = connection.phase_began;
        let terminal = group.terminal.is_some();
        // What a terminal says to Ctrl-C is no echo of a message.
        let leaving = terminal && connection.phase == Phase::Closing;
        let early = !matches!(connection.phase, Phase::Open | Phase::Closing);
        let mut arrival = Arrival {
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
        };
        let mut payload = |received: &[u8]| arrival.take(received);
        let progress = connection.receive(ring.received(&bytes), random, &mut payload);
        let redrawn = arrival.redrawn;
        ring.release(bytes);
        connection.receiving = more;
        if !more {
            self.receive_on(index);
        }
        let progress = match progress {
            Ok(progress) => progress,
            Err(fault) => return self.lose(index, Class::from(&fault), done),
        };
        if progress.secured {
            self.phase_done(index, Figure::Tls, done);
        }
        if progress.upgraded || (progress.opened && !terminal) {
            self.phase_done(index, Figure::Upgrade, done);
        }
        if progress.greeted {
            self.terminal_greeted(index, done);
        }
        if progress.opened {
            self.opened(index, done);
        }
        if redrawn {
            return self.lose(index, Class::TerminalRedrawn, done);
        }
        if self.connection(index).phase == Phase::Ended {
            return;
        }
        match progress.closed {
            Some(ClosedBy::Peer { code })
                if matches!(self.connection(index).phase, Phase::Open | Phase::Aligning) =>
            {
                self.connection(index).close_tls();
                let class = self.connection(index).close_class(terminal, code);
                return self.lose(index, class, done);
            }
            Some(_) => {
                let connection = self.connection(index);
                connection.closed = true;
                connection.close_tls();
            }
            None => {}
        }
        if progress.peer_ended {
            self.push_out_if_free(index);
            return self.peer_ended(index, done);
        }
        let connection = self.connection(index);
        if !connection.sending && connection.has_output() {
            self.push_out(index);
        }
        self.close_if_drained(index, done);
    }

    /// The first byte that a terminal says, counted from its 101 on.
    #[cold]
    fn terminal_greeted(&mut self, index: u32, done: Time) {
        let connection = self.connections[index as usize].as_ref().expect("a live connection");
        let flow = &self.streams[connection.stream as usize];
        let cell = self.groups[usize::from(flow.group)].cell_now(flow.target);
        self.meter.record(cell, Figure::FirstByte, done.ns_since(connection.phase_began));
    }

    /// In the drain, a stream whose last answer has come closes.
    pub(super) fn close_if_drained(&mut self, index: u32, now: Time) {
        let connection = self.connections[index as usize].as_ref().expect("a live connection");
        let stream = connection.stream;
        if connection.phase != Phase::Open {
            return;
        }
        let group = usize::from(self.streams[stream as usize].group);
        if self.groups[group].phase == GroupPhase::Draining && self.is_answered(stream) {
            self.close(index, now);
        }
    }

    /// FIN, or TLS' close_notify.
    fn peer_ended(&mut self, index: u32, now: Time) {
        let connection = self.connection(index);
        if connection.phase == Phase::Leaving {
            // It may be half closed, and still read our answer.
        } else if connection.phase == Phase::Closing {
            // After both Close frames (RFC 6455 §7.1.1), or our FIN, this is the expected end.
            let in_order = connection.closed || connection.finished;
            self.closed(index, in_order, now);
        } else {
            self.lose(index, Class::Closed, now);
        }
    }

    fn failed(&mut self, index: u32, errno: Errno, now: Time) {
        self.connection(index).broken = true;
        self.lose(index, Class::from(errno), now);
    }

    /// What was under way on this connection will not be answered.
    pub(super) fn abandon(&mut self, index: u32, in_order: bool, now: Time) {
        self.missed_waiting(index);
        let Self { connections, streams, groups, share, meter, pool, .. } = self;
        let connection = connections[index as usize].as_mut().expect("a live connection");
        let flow = &mut streams[connection.stream as usize];
        let timeline = &groups[usize::from(flow.group)];
        let echo = share.groups[usize::from(flow.group)].traffic == Traffic::Echo;
        if !in_order && !echo {
            meter.counters(timeline.cell_now(flow.target)).payload_open += flow.connection_bytes;
        }
        flow.end_connection();
        while let Some(message) = flow.abandon(pool) {
            let cell = timeline.cell(message.due, flow.target);
            let counters = meter.counters(cell);
            counters.messages_unanswered += 1;
            if !in_order {
                counters.payload_open += u64::from(message.bytes);
            }
            if !flow.response_invalid && message.place != Message::FIRST {
                // Its age: a lower bound of what the response would have been.
                let age = now.ns_since(message.due);
                meter.record(cell, Figure::Response, age);
                if timeline.is_steady(cell) {
                    flow.responses.record(age);
                }
            }
        }
    }
}
