//! What comes: TLS, the request, frames, and what is done with them.

use std::io::Write;

use scale_proto::{http, ws};
use scale_ring::{ReceivedBytes, Ring, Time};

use super::connection::{Connection, Stamp};
use super::limit::Verdict;
use super::record::Why;
use super::terminal::{Next, Typing};
use super::{Counts, Protocol, Scratch, Settings, Sink, Traffic};

/// A terminal's command has ended (RFC 6455 §7.4.1).
const NORMAL: u16 = 1000;
/// What came was no JSON of a terminal's.
const INVALID_PAYLOAD: u16 = 1007;

impl<R: Ring> Sink<R> {
    /// False where the peer broke the protocol beyond answering.
    pub(super) fn received(
        &mut self,
        index: u32,
        connection: &mut Connection,
        bytes: ReceivedBytes,
        now: Time,
    ) -> bool {
        if self.settings.protocol == Protocol::Ssh {
            self.received_ssh(index, connection, &bytes, now);
            self.ring.release(bytes);
            return true;
        }
        let Self { ring, settings, counts, scratch, times, .. } = self;
        let index_was_open = connection.session.is_some();
        let mut tls = connection.tls.take();
        let mut kept = true;
        {
            let data = ring.received(&bytes);
            if let Some(tls) = &mut tls {
                let mut sealed = std::mem::take(&mut connection.sealed);
                let mut carry = std::mem::take(&mut connection.carry);
                let direct = carry.is_empty();
                if !direct {
                    carry.extend_from_slice(data);
                }
                let input: &mut [u8] = if direct { data } else { &mut carry };
                let result = tls.receive(input, &mut sealed, &mut |plain| {
                    kept &= upper(connection, settings, counts, scratch, times, plain, now);
                    Ok(())
                });
                match result {
                    Ok(received) => {
                        connection.carry = input[received.consumed..].to_vec();
                        connection.closing |= received.peer_closed;
                    }
                    Err(_) => connection.closing = true,
                }
                connection.sealed = sealed;
            } else {
                kept = upper(connection, settings, counts, scratch, times, data, now);
            }
        }
        connection.tls = tls;
        self.ring.release(bytes);
        if !index_was_open && connection.session.is_some() {
            self.counts.connections += 1;
            if let Some(record) = &mut self.record {
                record.opened(connection, Some(&self.scratch.path), now);
            }
            connection.next_send = Time::ZERO; // see go_on: the stream has just opened
        }
        kept
    }
}

/// Plain bytes: the request's head, then frames (or anything, for TCP).
fn upper(
    connection: &mut Connection,
    settings: &Settings,
    counts: &mut Counts,
    scratch: &mut Scratch,
    times: &mut Option<Box<dyn Write>>,
    plain: &[u8],
    now: Time,
) -> bool {
    let timed = times.is_some();
    let stamp = |connection: &mut Connection| {
        connection.messages += 1;
        if timed {
            let message = connection.messages;
            connection.stamps.push_back(Stamp { message, received: now, end: None });
        }
    };
    let rest;
    let mut plain = plain;
    if let Some(mut head) = connection.head.take() {
        head.extend_from_slice(plain);
        match http::parse_request(&head) {
            Ok(Some(_)) if !scratch.limits.lets_in() => {
                http::write_error(&mut connection.out, 503, "no more connections here\n");
                connection.closing = true;
                return true;
            }
            Ok(Some(request)) => {
                scratch.limits.opened();
                let protocol = request.subprotocols.first().map(String::as_str);
                http::write_response(&mut connection.out, &request.accept, protocol, &scratch.headers);
                scratch.path.clone_from(&request.path);
                connection.session = Some(ws::Session::new(ws::Role::Server, 32 << 20));
                if matches!(settings.traffic, Traffic::Terminal { .. }) && !settings.stall {
                    connection.typing = Typing::attach(
                        &request.path,
                        settings.traffic,
                        &settings.sessions,
                        &mut connection.out,
                    )
                    .map(Box::new);
                }
                rest = head.split_off(request.head_bytes);
                plain = &rest;
            }
            Ok(None) => {
                connection.head = Some(head);
                return true;
            }
            Err(_) => {
                http::write_error(&mut connection.out, 400, "this is a websocket server\n");
                connection.closing = true;
                return true;
            }
        }
    }
    let Some(mut session) = connection.session.take() else {
        counts.messages_received += 1;
        counts.payload_bytes_received += plain.len() as u64;
        stamp(connection);
        if settings.traffic != Traffic::Echo || settings.stall {
            connection.drop_stamps(times);
        } else if settings.delay_ns > 0 {
            let at = now.plus_ns(settings.delay_ns);
            connection.delay(at, plain.to_vec(), plain.len() as u64);
            scratch.limits.waits(plain.len() as u64);
        } else {
            counts.messages_sent += 1;
            counts.payload_bytes_sent += plain.len() as u64;
            connection.out.extend_from_slice(plain);
            connection.answer_queued();
        }
        return true;
    };
    loop {
        match session.receive(&mut plain, &mut || [0; 4]) {
            Ok(Some(ws::Event::Data { bytes, mask, .. }))
                if matches!(settings.traffic, Traffic::Terminal { .. }) =>
            {
                if !session.outbox().is_empty() {
                    connection.out.extend_from_slice(session.outbox());
                    session.clear_outbox();
                }
                let Some(typing) = connection.typing.as_mut().filter(|_| !session.is_closing()) else {
                    continue;
                };
                let mask = mask.unwrap_or_default();
                let next = typing.take(bytes, mask, &mut scratch.desk, &mut connection.out, counts);
                counts.closes += u64::from(next != Next::GoOn);
                match next {
                    Next::GoOn => {}
                    Next::Close => session.close(NORMAL, &mut || [0; 4]),
                    Next::Refuse => session.close(INVALID_PAYLOAD, &mut || [0; 4]),
                }
            }
            Ok(Some(ws::Event::Data { bytes, mask, opcode, message_end })) => {
                counts.payload_bytes_received += bytes.len() as u64;
                let echo = settings.traffic == Traffic::Echo && !settings.stall && !session.is_closing();
                if !session.outbox().is_empty() {
                    // A pong goes before the echo of what came after its ping.
                    connection.out.extend_from_slice(session.outbox());
                    session.clear_outbox();
                }
                if message_end {
                    counts.messages_received += 1;
                    stamp(connection);
                }
                if !echo {
                    connection.drop_stamps(times);
                    continue;
                }
                let mask = mask.unwrap_or_default();
                if !message_end {
                    gather(&mut connection.message, bytes, mask);
                    continue;
                }
                let payload_bytes = (connection.message.len() + bytes.len()) as u64;
                match scratch.limits.message(now, payload_bytes, settings.delay_ns) {
                    Verdict::Now if connection.message.is_empty() => {
                        frame(&mut connection.out, opcode, bytes, mask);
                    }
                    Verdict::Now => {
                        gather(&mut connection.message, bytes, mask);
                        frame(&mut connection.out, opcode, &std::mem::take(&mut connection.message), [0; 4]);
                    }
                    Verdict::At(at) => {
                        gather(&mut connection.message, bytes, mask);
                        scratch.frame.clear();
                        frame(&mut scratch.frame, opcode, &std::mem::take(&mut connection.message), [0; 4]);
                        connection.delay(at, scratch.frame.clone(), payload_bytes);
                        scratch.limits.waits(payload_bytes);
                        continue;
                    }
                    Verdict::Close(code, reason) => {
                        connection.message = Vec::new();
                        connection.drop_stamps(times);
                        counts.closes += 1;
                        session.close_with(code, reason, &mut || [0; 4]);
                        continue;
                    }
                }
                connection.answer_queued();
                counts.messages_sent += 1;
                counts.payload_bytes_sent += payload_bytes;
            }
            Ok(Some(ws::Event::Pong)) => {}
            Ok(Some(ws::Event::Closed { by_us, code })) => {
                counts.closes_answered += u64::from(by_us);
                let why = if by_us { Why::Answered } else { Why::Close(code) };
                connection.seen.why.get_or_insert(why);
                connection.closing = true;
            }
            Ok(None) => break,
            Err(_) => {
                connection.seen.why.get_or_insert(Why::Broken);
                connection.closing = true;
                break;
            }
        }
    }
    connection.session = Some(session);
    true
}

/// Keeps a piece of a message, unmasked.
fn gather(message: &mut Vec<u8>, bytes: &[u8], mask: [u8; 4]) {
    let from = message.len();
    message.resize(from + bytes.len(), 0);
    ws::mask_into(&mut message[from..], bytes, mask);
}

/// Appends a server's frame, unmasking on the way.
pub(super) fn frame(out: &mut Vec<u8>, opcode: ws::Opcode, payload: &[u8], mask: [u8; 4]) {
    let mut header = [0; ws::HEADER_BYTES_MAX];
    let len = ws::write_header(&mut header, opcode, true, payload.len() as u64, None);
    out.extend_from_slice(&header[..len]);
    let from = out.len();
    out.resize(from + payload.len(), 0);
    ws::mask_into(&mut out[from..], payload, mask);
}
