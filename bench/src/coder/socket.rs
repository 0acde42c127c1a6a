//! One websocket, server side: frames, pings, limits and closes, whatever goes over it.
//!
//! A [`Channel`] owns no socket: bytes go in by `receive`, time by `handle_time`, and `output` has what
//! is to be sent. What the client does wrong comes out as [`Wrong`].

use scale_proto::ws::{self, Opcode};
use scale_ring::Time;
use uuid::Uuid;

use super::replicas::ledger::Whose;
use super::seen::Wrong;
use super::terminal::Attach;

/// What a connection becomes after its 101.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// What goes over it.
    pub kind: Kind,
    /// Its pings.
    pub pings: Pings,
    /// The longest message that is read.
    pub message_bytes_max: Option<u64>,
    /// What goes wrong with it on purpose.
    pub faults: SocketFaults,
    /// Whose it is.
    pub whose: Whose,
}

/// What goes over a websocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A terminal: JSON in, bytes out.
    Terminal(Attach),
    /// A listener in a workspace.
    App(App),
    /// A build's log.
    Logs(Follow),
    /// Text comes back.
    Text,
}

/// The listeners of a scale-test template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// `wsec`: what comes goes back.
    Echo,
    /// `wsra`: random bytes without end.
    Random,
    /// `wsdi`: what comes is dropped.
    Discard,
}

/// How far a build's log has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follow {
    /// Whose log.
    pub build: Uuid,
    /// The last line's id.
    pub after: u64,
}

/// What the server does about pings of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pings {
    /// It sends none.
    None,
    /// Each 15 s, until one is not answered.
    Lenient,
    /// Each 15 s; one that is not answered in 15 s closes with 1001.
    Strict,
}

/// What goes wrong with a websocket on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketFaults {
    /// The client's pings are not answered.
    pub no_pong: bool,
    /// RST so long after the 101, in ns.
    pub reset_after_ns: Option<u64>,
    /// Nothing more is read so long after the 101, in ns.
    pub stall_after_ns: Option<u64>,
}

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A piece of a message; its bytes were appended to `plain`.
    Piece {
        /// The message's.
        opcode: Opcode,
        /// The message is complete.
        end: bool,
    },
    /// The client has closed, or answered our Close.
    Closed,
    /// It was wrong; a Close is on its way.
    Wrong(Wrong),
}

const PING_NS: u64 = 15_000_000_000;
const CLOSE_NS: u64 = 5_000_000_000;
/// Our own limit where the server has none.
const MESSAGE_BYTES_MAX: u64 = 32 << 20;

/// A server masks nothing.
const fn no_mask() -> [u8; 4] {
    [0; 4]
}

/// A websocket's server side.
#[derive(Debug)]
pub struct Channel {
    session: ws::Session,
    out: Vec<u8>,
    pings: Pings,
    answers_pings: bool,
    message_bytes_max: Option<u64>,
    message_bytes: u64,
    ping_at: Time,
    pong_missing: bool,
    close_by: Time,
    ended: bool,
}

impl Channel {
    /// Right behind the 101, which is not this one's to send.
    pub fn new(upgrade: &Upgrade, now: Time) -> Self {
        Self {
            session: ws::Session::new(ws::Role::Server, MESSAGE_BYTES_MAX),
            out: Vec::new(),
            pings: upgrade.pings,
            answers_pings: !upgrade.faults.no_pong,
            message_bytes_max: upgrade.message_bytes_max,
            message_bytes: 0,
            ping_at: if upgrade.pings == Pings::None { Time::NEVER } else { now.plus_ns(PING_NS) },
            pong_missing: false,
            close_by: Time::NEVER,
            ended: false,
        }
    }

    /// Takes a prefix of `input`; `None`: all of it was taken. After our own Close data is dropped.
    pub fn receive(&mut self, now: Time, input: &mut &[u8], plain: &mut Vec<u8>) -> Option<Event> {
        loop {
            let event = self.session.receive(input, &mut no_mask);
            // Which of the control frames are sent: all, or all but pongs.
            let event = match event {
                Err(fault) => {
                    self.collect();
                    self.close_by = now.plus_ns(CLOSE_NS);
                    let wrong = match fault {
                        scale_proto::Fault::WsTooBig => Wrong::MessageTooBig,
                        _ => Wrong::Frame,
                    };
                    return Some(Event::Wrong(wrong));
                }
                Ok(event) => event,
            };
            match event {
                None => {
                    self.collect();
                    return None;
                }
                Some(ws::Event::Pong) => self.pong_missing = false,
                Some(ws::Event::Closed { .. }) => {
                    self.collect();
                    (self.ended, self.close_by, self.ping_at) = (true, Time::NEVER, Time::NEVER);
                    return Some(Event::Closed);
                }
                Some(ws::Event::Data { .. }) if self.session.is_closing() => {}
                Some(ws::Event::Data { bytes, mask, opcode, message_end }) => {
                    self.message_bytes += bytes.len() as u64;
                    if let Some(max) = self.message_bytes_max
                        && self.message_bytes > max
                    {
                        self.close(now, 1009, &format!("read limited at {} bytes", max + 1));
                        return Some(Event::Wrong(Wrong::MessageTooBig));
                    }
                    let from = plain.len();
                    plain.resize(from + bytes.len(), 0);
                    ws::mask_into(&mut plain[from..], bytes, mask.unwrap_or_default());
                    if message_end {
                        self.message_bytes = 0;
                    }
                    return Some(Event::Piece { opcode, end: message_end });
                }
            }
        }
    }

    /// Control frames that the session made join what is to be sent.
    fn collect(&mut self) {
        const PONG: u8 = 0x80 | Opcode::Pong as u8;
        let mut frames = self.session.outbox();
        while let [first, length, ..] = *frames {
            let (frame, rest) = frames.split_at(2 + usize::from(length));
            if self.answers_pings || first != PONG {
                self.out.extend_from_slice(frame);
            }
            frames = rest;
        }
        self.session.clear_outbox();
    }

    /// Queues a message.
    pub fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.session.is_closing() {
            return;
        }
        let mut header = [0; ws::HEADER_BYTES_MAX];
        let length = ws::write_header(&mut header, opcode, true, payload.len() as u64, None);
        self.out.extend_from_slice(&header[..length]);
        self.out.extend_from_slice(payload);
    }

    /// Queues our Close; the client's answer is waited for.
    pub fn close(&mut self, now: Time, code: u16, reason: &str) {
        if self.session.is_closing() {
            return;
        }
        self.session.close_with(code, reason, &mut no_mask);
        self.collect();
        (self.close_by, self.ping_at) = (now.plus_ns(CLOSE_NS), Time::NEVER);
    }

    /// What time has brought about, and what the client has failed to do meanwhile.
    pub fn handle_time(&mut self, now: Time) -> Option<Wrong> {
        if now >= self.close_by {
            (self.close_by, self.ended) = (Time::NEVER, true);
            return Some(Wrong::CloseUnanswered);
        }
        if now < self.ping_at {
            return None;
        }
        if self.pong_missing {
            self.ping_at = Time::NEVER;
            if self.pings == Pings::Strict {
                self.close(now, 1001, "Ping failed");
            }
            return Some(Wrong::PongMissing);
        }
        self.send(Opcode::Ping, b"");
        self.pong_missing = true;
        self.ping_at = self.ping_at.plus_ns(PING_NS);
        None
    }

    /// Nothing was looked at for a while: no ping has been unanswered that long.
    pub fn resume(&mut self, now: Time) {
        if self.ping_at != Time::NEVER {
            (self.ping_at, self.pong_missing) = (now.plus_ns(PING_NS), false);
        }
        if self.close_by != Time::NEVER {
            self.close_by = now.plus_ns(CLOSE_NS);
        }
    }

    /// When `handle_time` is wanted next.
    pub fn next_event(&self) -> Time {
        self.ping_at.min(self.close_by)
    }

    /// What is to be sent; whoever sends it takes it away.
    pub const fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// A Close of ours is on its way or has gone.
    pub const fn is_closing(&self) -> bool {
        self.session.is_closing()
    }

    /// Nothing more will be read; what is in `output` still goes.
    pub const fn is_ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coder::replicas::ledger::Sort;

    const S: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Time {
        Time::from_ns(seconds * S)
    }

    fn channel(pings: Pings, message_bytes_max: Option<u64>, faults: SocketFaults) -> Channel {
        let whose = Whose { sort: Sort::Other, user: String::new(), id: String::new() };
        let upgrade = Upgrade { kind: Kind::Text, pings, message_bytes_max, faults, whose };
        Channel::new(&upgrade, at(0))
    }

    /// A client's frame with a mask of zeros.
    fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; ws::HEADER_BYTES_MAX];
        let length = ws::write_header(&mut header, opcode, true, payload.len() as u64, Some([0; 4]));
        [&header[..length], payload].concat()
    }

    fn close(code: u16, reason: &str) -> Vec<u8> {
        [&[0x88, 2 + reason.len() as u8], code.to_be_bytes().as_slice(), reason.as_bytes()].concat()
    }

    fn receive(channel: &mut Channel, mut bytes: &[u8]) -> Option<Event> {
        channel.receive(at(1), &mut bytes, &mut Vec::new())
    }

    #[test]
    fn old_servers_stop_pinging_and_new_ones_close_where_a_pong_is_missing() {
        for (pings, closes) in [(Pings::Lenient, false), (Pings::Strict, true)] {
            let mut channel = channel(pings, None, SocketFaults::default());
            assert_eq!(channel.next_event(), at(15));
            assert_eq!(channel.handle_time(at(15)), None);
            assert_eq!(std::mem::take(channel.output()), [0x89, 0]);
            assert_eq!(channel.handle_time(at(29)), None);
            assert_eq!(channel.handle_time(at(30)), Some(Wrong::PongMissing));
            assert_eq!(channel.is_closing(), closes);
            assert_eq!(*channel.output(), if closes { close(1001, "Ping failed") } else { Vec::new() });
            assert_eq!(channel.next_event(), if closes { at(35) } else { Time::NEVER });
        }
    }

    #[test]
    fn a_pong_in_time_keeps_a_channel_open() {
        let mut channel = channel(Pings::Strict, None, SocketFaults::default());
        for n in 1..100 {
            assert_eq!(channel.handle_time(at(15 * n)), None);
            assert_eq!(receive(&mut channel, &frame(Opcode::Pong, b"")), None);
        }
        assert!(!channel.is_closing());
    }

    #[test]
    fn a_message_may_have_32768_bytes_and_not_one_more() {
        for (bytes, expected) in [
            (32_768, Some(Event::Piece { opcode: Opcode::Binary, end: true })),
            (32_769, Some(Event::Wrong(Wrong::MessageTooBig))),
        ] {
            let mut channel = channel(Pings::None, Some(32_768), SocketFaults::default());
            let message = frame(Opcode::Binary, &vec![b' '; bytes]);
            assert_eq!(receive(&mut channel, &message), expected, "{bytes}");
            if channel.is_closing() {
                assert_eq!(*channel.output(), close(1009, "read limited at 32769 bytes"));
            }
        }
    }

    #[test]
    fn a_ping_is_answered_unless_that_is_the_fault() {
        for no_pong in [false, true] {
            let mut channel = channel(Pings::None, None, SocketFaults { no_pong, ..SocketFaults::default() });
            assert_eq!(receive(&mut channel, &frame(Opcode::Ping, b"x")), None);
            assert_eq!(*channel.output(), if no_pong { vec![] } else { vec![0x8A, 1, b'x'] });
            // A Close is answered in any case.
            channel.output().clear();
            assert_eq!(
                receive(&mut channel, &frame(Opcode::Close, &1000u16.to_be_bytes())),
                Some(Event::Closed)
            );
            assert_eq!(*channel.output(), close(1000, ""));
        }
    }

    #[test]
    fn a_close_of_ours_that_is_not_answered_is_the_clients_mistake() {
        let mut channel = channel(Pings::Strict, None, SocketFaults::default());
        channel.close(at(1), 1000, "");
        assert_eq!(channel.next_event(), at(6));
        assert_eq!(channel.handle_time(at(6)), Some(Wrong::CloseUnanswered));
        assert!(channel.is_ended());
    }

    #[test]
    fn a_frame_without_mask_is_wrong_and_closed_with_1002() {
        let mut channel = channel(Pings::None, None, SocketFaults::default());
        assert_eq!(receive(&mut channel, &[0x82, 0]), Some(Event::Wrong(Wrong::Frame)));
        assert_eq!(*channel.output(), close(1002, ""));
    }
}
