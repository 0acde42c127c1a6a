//! What goes: answers, what is sent at the tick, pings; and a connection's end.

use std::cmp::Reverse;

use scale_proto::tls::Tls;
use scale_proto::ws;
use scale_ring::{Ring, SendBuffer, Time, Token};

use super::connection::Connection;
use super::record::Why;
use super::{CLOSE, RECEIVE, SEND, Sink, TIMER_ACCEPT, TIMER_CLOSE, TIMER_PING, TIMER_SEND, Traffic};

/// What a ping carries.
const PING: &[u8] = b"scale-sink";

impl<R: Ring> Sink<R> {
    /// Sends what waits, receives again where there is room, closes where all is said.
    pub(super) fn go_on(&mut self, index: u32, now: Time) {
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        if connection.ssh.is_some() {
            return self.go_on_ssh(index);
        }
        let generation = connection.generation;
        if connection.next_send == Time::ZERO {
            connection.next_send = Time::NEVER;
            self.opened(index, now);
        }
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        if let Some(&(at, ..)) = connection.delayed.front()
            && at < connection.armed
        {
            connection.armed = at; // one timer, however often we come by
            self.timers.push(Reverse((at, index, generation, TIMER_SEND)));
        }
        if !connection.sending {
            if let Some(session) = &mut connection.session
                && !session.outbox().is_empty()
            {
                connection.out.extend_from_slice(session.outbox());
                session.clear_outbox();
            }
            if let Some(buffer) = next_out(&mut self.ring, connection) {
                connection.sending = true;
                connection.write_stamps(&mut self.times, now);
                self.ring.send(connection.socket, buffer, Token::new(SEND, generation, index));
            } else if connection.closing && (connection.session.is_some() || connection.delayed.is_empty()) {
                return self.end(index, false);
            }
        }
        let waiting = connection.out.len() + connection.sealed.len();
        if !connection.receiving && !connection.ended_by_peer && waiting < Self::OUT_BYTES_MAX {
            connection.receiving = true;
            self.ring.receive(connection.socket, Token::new(RECEIVE, generation, index));
        }
    }

    pub(super) fn timer(&mut self, index: u32, generation: u32, what: u8, now: Time) {
        if what == TIMER_ACCEPT {
            return self.accept_again();
        }
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        if connection.generation != generation || connection.ended {
            return;
        }
        if what == TIMER_CLOSE {
            return self.close_in_order(index, now);
        }
        if connection.ssh.is_some() {
            return self.timer_ssh(index, now);
        }
        if connection.armed <= now {
            connection.armed = Time::NEVER;
        }
        // Behind our Close nothing more is said (RFC 6455 §5.5.1).
        let closing = connection.closing || connection.session.as_ref().is_some_and(ws::Session::is_closing);
        if closing && connection.session.is_some() {
            self.scratch.limits.answered(connection.delayed_bytes());
            connection.delayed.clear();
        }
        if what == TIMER_PING
            && let (Some(every), Some(_)) = (self.settings.ping_ns, &connection.session)
            && !closing
        {
            let mut header = [0; ws::HEADER_BYTES_MAX];
            let len = ws::write_header(&mut header, ws::Opcode::Ping, true, PING.len() as u64, None);
            connection.out.extend_from_slice(&header[..len]);
            connection.out.extend_from_slice(PING);
            self.timers.push(Reverse((now.plus_ns(every), index, generation, TIMER_PING)));
        }
        while let Some((at, ..)) = connection.delayed.front()
            && *at <= now
        {
            let (_, frame, bytes) = connection.delayed.pop_front().expect("the front was there");
            connection.out.extend_from_slice(&frame);
            connection.answer_queued();
            self.scratch.limits.answered(bytes);
            self.counts.messages_sent += 1;
            self.counts.payload_bytes_sent += bytes;
        }
        if let Traffic::Receive { bytes, tick_ns } = self.settings.traffic
            && connection.next_send <= now
        {
            if connection.out.len() < Self::OUT_BYTES_MAX && !closing {
                if connection.session.is_some() {
                    let mut header = [0; ws::HEADER_BYTES_MAX];
                    let len = ws::write_header(&mut header, ws::Opcode::Binary, true, u64::from(bytes), None);
                    connection.out.extend_from_slice(&header[..len]);
                }
                connection.out.extend_from_slice(&self.payload);
                self.counts.messages_sent += 1;
                self.counts.payload_bytes_sent += u64::from(bytes);
            }
            let late = now.ns_since(connection.next_send) / tick_ns;
            connection.next_send = connection.next_send.plus_ns((late + 1) * tick_ns);
            self.timers.push(Reverse((connection.next_send, index, generation, TIMER_SEND)));
        }
        self.go_on(index, now);
    }

    /// Ends a connection for `why`, unless it is known better.
    pub(super) fn end_because(&mut self, index: u32, abort: bool, why: Why) {
        self.connections[index as usize].as_mut().expect("a live connection").seen.why.get_or_insert(why);
        self.end(index, abort);
    }

    /// Resets as many websockets as the limits say, each in its turn.
    pub(super) fn drop_some(&mut self, now: Time) {
        let mut count = self.scratch.limits.drops(now);
        let all = self.connections.len() as u32;
        for _ in 0..all {
            if count == 0 {
                return;
            }
            let index = self.victim % all;
            self.victim = index + 1;
            let open =
                self.connections[index as usize].as_ref().filter(|one| !one.ended && one.session.is_some());
            if open.is_some() {
                self.end_because(index, true, Why::Dropped);
                count -= 1;
            }
        }
    }

    pub(super) fn end(&mut self, index: u32, abort: bool) {
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        if !std::mem::replace(&mut connection.ended, true) {
            self.scratch.limits.answered(connection.delayed_bytes());
            if connection.session.is_some() {
                self.scratch.limits.gone();
            }
            self.record_closed(index);
        }
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        connection.drop_stamps(&mut self.times);
        let token = Token::new(CLOSE, connection.generation, index);
        if abort {
            self.ring.abort(connection.socket, token);
        } else {
            self.ring.close(connection.socket, token);
        }
    }
}

/// The next bytes for the socket.
fn next_out<R: Ring>(ring: &mut R, connection: &mut Connection) -> Option<SendBuffer> {
    const PIECE: usize = 64 << 10;
    if let Some(tls) = &mut connection.tls
        && tls.is_established()
        && !connection.out.is_empty()
    {
        let from = connection.sealed.len();
        let out = std::mem::take(&mut connection.out);
        connection.handed += out.len() as u64;
        connection.sealed.resize(from + Tls::sealed_bytes_max(out.len()), 0);
        let bytes = tls.seal(&out, &mut connection.sealed[from..]);
        connection.closing |= bytes.is_err(); // its key is used up
        connection.sealed.truncate(from + bytes.unwrap_or(0));
    }
    let queue = if connection.tls.is_some() { &mut connection.sealed } else { &mut connection.out };
    if queue.is_empty() {
        return None;
    }
    let bytes = queue.len().min(PIECE);
    let mut buffer = ring.send_buffer(bytes);
    buffer.extend(&queue[..bytes]);
    connection.handed += if connection.tls.is_some() { 0 } else { bytes as u64 };
    if bytes == queue.len() {
        *queue = Vec::new(); // an idle connection keeps nothing
    } else {
        queue.drain(..bytes);
    }
    Some(buffer)
}
