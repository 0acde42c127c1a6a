//! Due sends: each grid point becomes a message, or is missed with its cause.

use std::cmp::Reverse;

use scale_ring::{Ring, Time, Token};

use crate::load::Traffic;
use crate::stream::flow::Standing;
use crate::stream::meter::Figure;
use crate::stream::stack::Connection;
use crate::stream::unanswered::Message;

use super::turn::{Deadline, SEND_BATCH, SENDS_MAX, Worker, kind};

impl<R: Ring> Worker<R> {
    /// Sends what is due at `now`; false where the turn's limit left some for the next.
    pub(super) fn send_due(&mut self, now: Time) -> bool {
        let mut fired = std::mem::take(&mut self.fired);
        self.counted_until = self.counted_until.max(now);
        let mut sends = 0;
        let mut all = true;
        loop {
            fired.clear();
            self.wheel.fire(now, SEND_BATCH, &mut fired);
            if fired.is_empty() {
                break;
            }
            self.prefetch_streams(&fired);
            let stamp = self.ring.now();
            for &(stream, due) in &fired {
                self.tick(stream, due, now, stamp);
            }
            sends += fired.len();
            if fired.len() == SEND_BATCH {
                self.ring.submit();
            }
            if sends >= SENDS_MAX {
                all = false;
                break;
            }
        }
        self.fired = fired;
        all
    }

    /// As for completions: what a batch needs is asked for before the first of it is sent.
    fn prefetch_streams(&self, fired: &[(u32, Time)]) {
        for &(stream, _) in fired {
            scale_ring::prefetch(&self.streams[stream as usize]);
        }
        let connections = |&(stream, _): &(u32, Time)| {
            self.connections.get(self.streams[stream as usize].connection as usize)?.as_deref()
        };
        fired.iter().filter_map(connections).for_each(scale_ring::prefetch);
    }

    /// The grid point `due` of `stream` has come; so may have later ones.
    fn tick(&mut self, stream: u32, due: Time, now: Time, stamp: Time) {
        let flow = &mut self.streams[stream as usize];
        let timeline = &self.groups[usize::from(flow.group)];
        if !flow.armed {
            return;
        }
        if flow.grid != timeline.grid {
            (flow.grid, flow.point) = (timeline.grid, 0);
        }
        let tick_ns = timeline.tick_ns;
        let passed = now.ns_since(due) / tick_ns;
        let newest = due.plus_ns(passed * tick_ns);
        let point = flow.point + passed;
        flow.point = point + 1;
        let next = newest.plus_ns(tick_ns);
        // A pause that goes on beyond the end moves the end.
        if next < timeline.end() || (timeline.is_paused() && timeline.is_sending()) {
            self.wheel.arm(stream, next);
        } else {
            flow.armed = false;
        }
        let open = flow.standing == Standing::Open;
        let (target, connection) = (flow.target, flow.connection);
        let group = usize::from(flow.group);
        for late in 0..passed {
            let at = due.plus_ns(late * tick_ns);
            if self.groups[group].is_due(at) {
                let counters = self.meter.counters(self.groups[group].cell(at, target));
                counters.ticks_due += 1;
                if open {
                    counters.missed_generator += 1;
                } else {
                    counters.missed_disconnected += 1;
                }
            }
        }
        if !self.groups[group].is_due(newest) {
            return;
        }
        let cell = self.groups[group].cell(newest, target);
        let counters = self.meter.counters(cell);
        counters.ticks_due += 1;
        if !open {
            counters.missed_disconnected += 1;
            return;
        }
        let bytes = self.groups[group].message.at(point);
        let free = self.is_free(connection);
        let flow = &mut self.streams[stream as usize];
        let spec = &self.share.groups[group];
        let (echo, late_tick) = (spec.traffic == Traffic::Echo, spec.late_tick);
        if free && (!echo || flow.unanswered.has_room(&self.pool)) {
            self.send(connection, newest, stamp, bytes);
        } else if !free && self.connection(connection).link != Connection::NO_LINK {
            self.wait_for_link(connection, stream, newest);
        } else if !free
            && (late_tick
                || (!self.connection(connection).sending_message
                    && self.connection(connection).message.is_none()))
        {
            // Only a control frame is under way: one tick may wait for it.
            if let Some(older) = self.connection(connection).waiting.replace(newest) {
                self.missed(stream, older);
            }
        } else {
            self.missed(stream, newest);
        }
    }

    /// The link sends, exchanges keys, or the channel's window is closed: one tick waits, however long,
    /// and those after it are missed.
    fn wait_for_link(&mut self, index: u32, stream: u32, due: Time) {
        let connection = self.connection(index);
        if connection.waiting.is_some() || connection.message.is_some() {
            return self.missed(stream, due);
        }
        connection.waiting = Some(due);
        let link = connection.link;
        let queue = &mut self.link(link).queue;
        if !queue.contains(&index) {
            queue.push(index);
        }
    }

    /// A tick, counted as due before, is missed by back-pressure.
    fn missed(&mut self, stream: u32, due: Time) {
        let flow = &mut self.streams[stream as usize];
        flow.stalls += 1;
        let cell = self.groups[usize::from(flow.group)].cell(due, flow.target);
        self.meter.counters(cell).missed_backpressure += 1;
    }

    /// A tick that waited on this connection will not go.
    pub(super) fn missed_waiting(&mut self, index: u32) {
        let connection = self.connection(index);
        let stream = connection.stream;
        if let Some(due) = connection.waiting.take() {
            let flow = &self.streams[stream as usize];
            let cell = self.groups[usize::from(flow.group)].cell(due, flow.target);
            self.meter.counters(cell).missed_disconnected += 1;
        }
    }

    /// The tick that waited, if any, goes now that the connection is free.
    pub(super) fn send_waiting(&mut self, index: u32, now: Time) {
        if self.begin_waiting(index, now) {
            self.push_out(index);
        }
    }

    /// The tick that waited becomes a message; false: there was none, or it is missed.
    pub(super) fn begin_waiting(&mut self, index: u32, now: Time) -> bool {
        let connection = self.connection(index);
        let (stream, linked) = (connection.stream, connection.link != Connection::NO_LINK);
        let Some(due) = connection.waiting.take() else { return false };
        let flow = &self.streams[stream as usize];
        let timeline = &self.groups[usize::from(flow.group)];
        let spec = &self.share.groups[usize::from(flow.group)];
        if (now.ns_since(due) >= timeline.tick_ns && !spec.late_tick && !linked)
            || (spec.traffic == Traffic::Echo && !flow.unanswered.has_room(&self.pool))
        {
            self.missed(stream, due);
            return false;
        }
        let bytes = timeline.message.at(flow.point.saturating_sub(1));
        self.begin_message(index, due, now, bytes);
        true
    }

    /// Hands the message due at `due` to the socket.
    #[inline]
    fn send(&mut self, index: u32, due: Time, stamp: Time, bytes: u32) {
        self.begin_message(index, due, stamp, bytes);
        self.push_out(index);
    }

    /// The message due at `due` goes next.
    #[inline]
    fn begin_message(&mut self, index: u32, due: Time, stamp: Time, bytes: u32) {
        let Self { connections, streams, groups, share, meter, random, pool, ring, .. } = self;
        let connection = connections[index as usize].as_mut().expect("an open stream has one");
        let flow = &mut streams[connection.stream as usize];
        let timeline = &groups[usize::from(flow.group)];
        let group = &share.groups[usize::from(flow.group)];
        let (place, mask) = connection.begin(bytes, &group.payload, ring, random);
        let cell = timeline.cell(due, flow.target);
        if group.traffic == Traffic::Echo {
            let echo_bytes = group.payload.echo_bytes(bytes);
            flow.unanswered.push(Message { due, sent: stamp, bytes: echo_bytes, place, mask }, pool);
        } else if timeline.is_steady(cell) {
            flow.bytes += u64::from(bytes);
        }
        if flow.first_sent == Time::NEVER {
            flow.first_sent = stamp;
        }
        flow.connection_bytes += u64::from(bytes);
        meter.record(cell, Figure::Lateness, stamp.ns_since(due));
        let counters = meter.counters(cell);
        counters.ticks_sent += 1;
        counters.messages_sent += 1;
        counters.payload_sent += u64::from(bytes);
    }

    /// Sends what the group wants said first on a new connection.
    pub(super) fn send_first_message(&mut self, index: u32, now: Time) {
        let Self { connections, streams, groups, share, meter, random, pool, .. } = self;
        let connection = connections[index as usize].as_mut().expect("a live connection");
        let flow = &mut streams[connection.stream as usize];
        let group = &share.groups[usize::from(flow.group)];
        let Some(bytes) = group.first_message.as_ref().and_then(|first| first.message_bytes()) else {
            return;
        };
        connection.begin_first(bytes, random);
        let counters = meter.counters(groups[usize::from(flow.group)].cell_now(flow.target));
        counters.messages_sent += 1;
        counters.payload_sent += u64::from(bytes);
        flow.connection_bytes += u64::from(bytes);
        if group.traffic == Traffic::Echo && flow.unanswered.has_room(pool) {
            let message = Message { due: now, sent: now, bytes, place: Message::FIRST, mask: [0; 4] };
            flow.unanswered.push(message, pool);
        }
        self.push_out_if_free(index);
    }

    /// [`Self::push_out`] unless a send is under way.
    pub(super) fn push_out_if_free(&mut self, index: u32) {
        let connection = self.connection(index);
        if connection.link != Connection::NO_LINK {
            let link = connection.link;
            self.link(link).queue.push(index);
            self.push_link_if_free(link);
        } else if !connection.sending {
            self.push_out(index);
        }
    }

    /// Hands the connection's next piece to the ring. No send may be under way.
    #[inline]
    pub(super) fn push_out(&mut self, index: u32) {
        let Self { connections, streams, groups, share, meter, ring, deadlines, .. } = self;
        let connection = connections[index as usize].as_mut().expect("a live connection");
        if connection.link != Connection::NO_LINK {
            let link = connection.link;
            self.link(link).queue.push(index);
            return self.push_link(link);
        }
        let flow = &streams[connection.stream as usize];
        let group = &share.groups[usize::from(flow.group)];
        let of_message = connection.message.is_some();
        match connection.next_out(ring, &group.payload, group.first_message.as_ref(), group.opcode) {
            Ok(Some(buffer)) => {
                connection.sending = true;
                connection.sending_message = of_message;
                let cell = groups[usize::from(flow.group)].cell_now(flow.target);
                meter.counters(cell).wire_sent += buffer.len() as u64;
                ring.send(connection.socket, buffer, Token::new(kind::SEND, connection.generation, index));
            }
            Ok(None) => {}
            Err(_) => {
                // Sealing fails only when the TLS session is beyond use: the stream is lost in this
                // turn's or the next one's deadlines, not in the middle of whoever called.
                connection.broken = true;
                connection.deadline = Time::ZERO;
                let deadline = Deadline::Phase(index, connection.generation);
                deadlines.push(Reverse((Time::ZERO, deadline)));
            }
        }
    }
}
