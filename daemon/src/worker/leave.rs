//! Streams lose their connection, or end: in order, at once, or for another.

use std::cmp::Reverse;

use scale_ring::{Ring, Time, Token};

use crate::load::Terminal;
use crate::stream::class::Class;
use crate::stream::flow::{NO_CONNECTION, Standing, Stream};
use crate::stream::link::LinkPhase;
use crate::stream::stack::{Connection, Phase};

use super::connect::ROOM_WAIT_NS;
use super::share::GroupPhase;
use super::turn::{CLOSE_WAIT_NS, CLOSES_MAX, INTERRUPT_WAIT_NS, LAUNCHES_MAX, Worker, kind};

impl<R: Ring> Worker<R> {
    /// An open connection is lost, or a new one fails above TCP.
    pub(super) fn lose(&mut self, index: u32, class: Class, now: Time) {
        let connection = self.connection(index);
        let (stream, phase) = (connection.stream, connection.phase);
        match phase {
            Phase::Connecting | Phase::Tls | Phase::Upgrading | Phase::Aligning => {
                self.leave(index, now);
                self.attempt_failed(stream, class, now);
            }
            Phase::Open => {
                let flow = &mut self.streams[stream as usize];
                (flow.failure, flow.losses) = (Some(class), flow.losses + 1);
                let cell = self.groups[usize::from(flow.group)].cell_now(flow.target);
                self.meter.counters(cell).disconnects.count(class);
                self.remember(index, now);
                self.note_loss(index, class, now);
                self.abandon(index, false, now);
                self.leave(index, now);
                self.next_attempt(stream, now);
            }
            Phase::Closing => {
                let in_order = connection.closed;
                self.closed(index, in_order, now);
            }
            Phase::Leaving => self.end(index, false),
            Phase::Ended => {}
        }
    }

    /// Ends a connection that its stream has lost, behind what must still be said on it: an alert, a
    /// Close, the answer to one. Where a send is under way, that comes first.
    fn leave(&mut self, index: u32, now: Time) {
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        if connection.link != Connection::NO_LINK {
            return self.end(index, false);
        }
        if connection.broken || (connection.sending && !connection.has_farewell()) {
            return self.end(index, false);
        }
        let group = &self.share.groups[usize::from(self.streams[connection.stream as usize].group)];
        if !connection.sending {
            connection.drop_messages();
            self.push_out(index);
        } else if group.terminal.is_some() {
            // Its pieces are frames of their own; of another message none may be cut by a Close.
            connection.drop_messages();
        }
        let connection = self.connection(index);
        if !connection.sending {
            return self.end(index, false);
        }
        connection.phase = Phase::Leaving;
        self.deadline(index, now.plus_ns(CLOSE_WAIT_NS));
    }

    /// Begins closing a stream in order.
    pub(super) fn close(&mut self, index: u32, now: Time) {
        let stream = self.connection(index).stream;
        self.note_close(stream, now);
        let Self { connections, random, streams, share, .. } = self;
        let connection = connections[index as usize].as_mut().expect("a live connection");
        if connection.link != Connection::NO_LINK {
            connection.phase = Phase::Closing;
            self.missed_waiting(index);
            self.stand(stream, Standing::Closing);
            self.deadline(index, now.plus_ns(INTERRUPT_WAIT_NS));
            return self.close_channel(index);
        }
        let handshake = connection.has_closing_handshake();
        let group = &share.groups[usize::from(streams[stream as usize].group)];
        let goodbye = group.terminal.and_then(Terminal::goodbye);
        connection.close(goodbye, random);
        self.missed_waiting(index);
        self.stand(stream, Standing::Closing);
        self.deadline(index, now.plus_ns(if goodbye.is_some() { INTERRUPT_WAIT_NS } else { CLOSE_WAIT_NS }));
        if handshake {
            self.push_out_if_free(index);
        } else {
            self.finish_sending(index);
        }
    }

    /// Raw TCP closes by FIN behind the last message; the peer's own says that it has read all.
    pub(super) fn finish_sending(&mut self, index: u32) {
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        if connection.phase == Phase::Closing
            && !connection.has_closing_handshake()
            && connection.is_free()
            && !connection.finished
        {
            connection.finished = true;
            self.ring.end_sending(connection.socket);
        }
    }

    /// A close is complete, or given up.
    pub(super) fn closed(&mut self, index: u32, in_order: bool, now: Time) {
        let connection = self.connection(index);
        let (stream, reopen) = (connection.stream, connection.reopen);
        self.abandon(index, in_order, now);
        self.end(index, !in_order);
        self.streams[stream as usize].connection = NO_CONNECTION;
        let group = usize::from(self.streams[stream as usize].group);
        if reopen && self.is_wanted(stream) {
            if self.may_connect(group) {
                self.attempt_or_wait(stream, now);
            } else {
                self.stand(stream, Standing::Waiting);
                self.comebacks.push(Reverse((now.plus_ns(ROOM_WAIT_NS), stream)));
            }
        } else {
            self.stand(stream, Standing::Closed);
        }
    }

    /// The socket goes back to the ring; the slot is free when the ring says so.
    pub(super) fn end(&mut self, index: u32, abort: bool) {
        let connection = self.connection(index);
        if connection.link != Connection::NO_LINK {
            return self.end_path(index, abort);
        }
        connection.phase = Phase::Ended;
        let (socket, token) = (connection.socket, Token::new(kind::CLOSE, connection.generation, index));
        if abort {
            self.ring.abort(socket, token);
        } else {
            self.ring.close(socket, token);
        }
    }

    /// The ring has let the socket go.
    pub(super) fn socket_closed(&mut self, index: u32) {
        if let Some(connection) = self.connections[index as usize].take() {
            if let Some(lease) = connection.lease {
                self.ports.give(lease);
            }
            self.free.push(index);
        }
    }

    /// Closes streams beyond what the group asks for now.
    pub(super) fn shrink(&mut self, group: usize, now: Time) {
        let wanted = self.groups[group].requested as usize;
        for local in wanted..self.groups[group].streams.len() {
            let stream = self.groups[group].streams[local];
            if self.streams[stream as usize].armed {
                self.streams[stream as usize].armed = false;
                self.wheel.disarm(stream);
            }
            self.retire(stream, now);
        }
        // What comes back with a later growth is launched anew.
        let timeline = &mut self.groups[group];
        timeline.launched = timeline.launched.min(timeline.requested);
        for local in wanted..self.groups[group].streams.len() {
            let stream = self.groups[group].streams[local];
            let standing = self.streams[stream as usize].standing;
            if matches!(standing, Standing::Closed | Standing::Failed | Standing::Waiting) {
                self.give_up(stream, now);
                self.streams[stream as usize].is_searching = false;
                self.stand(stream, Standing::Planned);
            }
        }
    }

    /// Ends one stream in order, wherever it stands.
    fn retire(&mut self, stream: u32, now: Time) {
        let index = self.streams[stream as usize].connection;
        match self.streams[stream as usize].standing {
            Standing::Open => self.close(index, now),
            Standing::Connecting if index != NO_CONNECTION => {
                self.end(index, true);
                let flow = &mut self.streams[stream as usize];
                flow.connection = NO_CONNECTION;
                self.groups[usize::from(flow.group)].connecting -= 1;
                self.stand(stream, Standing::Closed);
            }
            Standing::Waiting => self.stand(stream, Standing::Closed),
            _ => {}
        }
    }

    /// In the drain, what is answered closes now and the rest when its answer has come; at its end
    /// everything does. Some streams a turn: 20,000 Close frames at once would need as many buffers.
    pub(super) fn drain(&mut self, group: usize, now: Time) {
        let echo = self.share.groups[group].traffic == crate::load::Traffic::Echo;
        let from = self.groups[group].drained;
        let to = self.groups[group].streams.len().min(from + CLOSES_MAX);
        self.groups[group].drained = to;
        for local in from..to {
            let stream = self.groups[group].streams[local];
            let Stream { standing, connection, .. } = self.streams[stream as usize];
            if standing != Standing::Open || self.groups[group].finishing {
                self.retire(stream, now);
            } else if self.is_answered(stream) || (!echo && self.connection(connection).is_free()) {
                self.close(connection, now);
            }
        }
    }

    /// Whether nothing of an open stream is under way.
    pub(super) fn is_answered(&self, stream: u32) -> bool {
        let flow = &self.streams[stream as usize];
        let connection = self.connections[flow.connection as usize].as_ref().expect("an open stream has one");
        flow.unanswered.is_empty() && connection.is_free() && connection.waiting.is_none()
    }

    /// The drain's end: what has not been answered will not be.
    pub(super) fn finish(&mut self, group: usize) {
        let timeline = &mut self.groups[group];
        (timeline.drained, timeline.finishing) = (0, true);
        // Closes are bounded themselves; nothing is left to wait for here.
        timeline.drain_until = Time::NEVER;
    }

    /// Zero traffic at once.
    pub(super) fn abort_all(&mut self, now: Time) {
        let groups = self.share.groups.clone();
        for (index, group) in groups.iter().enumerate() {
            self.groups[index].stop(group, now);
        }
        for link in 0..self.links.len() as u32 {
            if self.links[link as usize].as_ref().is_some_and(|of_it| of_it.phase != LinkPhase::Ended) {
                self.end_link(link, true);
            }
        }
        for index in 0..self.connections.len() as u32 {
            let Some(connection) = &self.connections[index as usize] else { continue };
            match connection.phase {
                Phase::Ended => continue,
                Phase::Leaving => {
                    self.end(index, true);
                    continue;
                }
                _ => {}
            }
            let stream = connection.stream;
            let opening = connection.phase.is_opening();
            self.missed_waiting(index);
            self.abandon(index, false, now);
            self.end(index, true);
            let flow = &mut self.streams[stream as usize];
            flow.connection = NO_CONNECTION;
            self.groups[usize::from(flow.group)].connecting -= u32::from(opening);
            self.stand(stream, Standing::Closed);
        }
        for stream in 0..self.streams.len() as u32 {
            if self.streams[stream as usize].standing == Standing::Waiting {
                self.stand(stream, Standing::Closed);
            }
        }
        for group in &mut self.groups {
            group.phase = GroupPhase::Done;
        }
    }

    /// Replaces streams at the group's churn rate.
    pub(super) fn churn(&mut self, group: usize, now: Time) {
        let mut room = LAUNCHES_MAX;
        while now >= self.groups[group].churn_next && self.groups[group].is_sending() && room > 0 {
            room -= 1;
            let interval = self.groups[group].churn_interval(&self.share.groups[group]);
            let timeline = &mut self.groups[group];
            timeline.churn_next = timeline.churn_next.plus_ns(interval);
            let count = timeline.streams.len();
            // Who could not come back stays.
            let may_go = |flow: &Stream| flow.standing == Standing::Open && timeline.is_free(flow.target);
            let next = (0..count)
                .map(|ahead| (timeline.churn_cursor + ahead) % count)
                .find(|&local| may_go(&self.streams[timeline.streams[local] as usize]));
            let Some(local) = next else { continue };
            timeline.churn_cursor = local + 1;
            let stream = timeline.streams[local];
            let flow = &self.streams[stream as usize];
            let (index, cell) = (flow.connection, timeline.cell_now(flow.target));
            self.meter.counters(cell).churned += 1;
            self.connection(index).reopen = true;
            self.close(index, now);
        }
    }
}
