//! One websocket on its socket: bytes to frames to what they are for, and back.
//!
//! Nothing waits inside: what cannot be written stays in the channel, and where too much has stayed
//! nothing more is read, so that back-pressure reaches the client as TCP has it.

use std::io::ErrorKind;
use std::rc::Rc;

use scale_proto::ws::Opcode;
use scale_ring::Time;
use scale_ring::host::monotonic_now;
use scaled::load::random::Random;
use tokio::io::Interest;
use tokio::sync::watch;

use super::{Io, Stand, fate};
use crate::coder::replicas::Fate;
use crate::coder::seen::Wrong;
use crate::coder::settings::Terminals;
use crate::coder::socket::{App, Channel, Event, Follow, Kind, Upgrade};
use crate::coder::terminal::emulated::Emulated;
use crate::coder::terminal::input::Decoder;
use crate::coder::terminal::real::Real;
use crate::coder::terminal::{Attach, Outlet, SessionId, Terminal};

/// Bytes that may wait to be written before nothing more is read.
const OUT_BYTES_MAX: usize = 256 << 10;
/// A log's followers are told of news so often.
const FOLLOW_NS: u64 = 50_000_000;
/// A terminal's agent is looked at so often.
const AGENT_NS: u64 = 500_000_000;
/// Messages of the app that sends on its own.
const RANDOM_BYTES: usize = 1024;

/// What goes over it.
enum Work {
    /// A terminal whose agent is not there, until that is known.
    Dialing {
        until: Time,
        reason: String,
    },
    Terminal {
        attach: Attach,
        id: SessionId,
        outlet: Rc<Outlet>,
        decoder: Decoder,
        look: Time,
    },
    /// A terminal whose agent is gone: nothing comes and nothing is said.
    Silent,
    Echo {
        text_only: bool,
        message: Vec<u8>,
    },
    Random(Random),
    Discard,
    Logs {
        follow: Follow,
        next: Time,
    },
    /// It is being closed.
    Over,
}

struct Driver<'a> {
    stand: &'a Stand,
    io: &'a Io,
    channel: Channel,
    work: Work,
    plain: Vec<u8>,
    /// Of the message that is coming.
    message_bytes: u64,
    stall: Time,
    reset: Time,
    /// Its number in the ledger.
    socket: u64,
}

/// Serves a websocket to its end. `early` came behind the request.
pub(super) async fn run(
    stand: &Rc<Stand>,
    io: &Io,
    early: &[u8],
    upgrade: Upgrade,
    socket: u64,
    fate: watch::Receiver<Fate>,
) {
    let now = monotonic_now();
    let mut channel = Channel::new(&upgrade, now);
    let after = |ns: Option<u64>| ns.map_or(Time::NEVER, |ns| now.plus_ns(ns));
    let (stall, reset) = (after(upgrade.faults.stall_after_ns), after(upgrade.faults.reset_after_ns));
    let terminal = matches!(upgrade.kind, Kind::Terminal(_));
    let work = match upgrade.kind {
        Kind::Terminal(attach) => begin(stand, attach, &mut channel, now),
        Kind::App(App::Echo) => Work::Echo { text_only: false, message: Vec::new() },
        Kind::App(App::Random) => Work::Random(Random::new(now.ns())),
        Kind::App(App::Discard) => Work::Discard,
        Kind::Logs(follow) => Work::Logs { follow, next: now },
        Kind::Text => Work::Echo { text_only: true, message: Vec::new() },
    };
    let plain = Vec::new();
    let mut driver = Driver { stand, io, channel, work, plain, message_bytes: 0, stall, reset, socket };
    driver.take(now, early);
    driver.drive(fate).await;
    let now = monotonic_now();
    driver.leave(now);
    if terminal {
        stand.deployment.borrow_mut().terminal_closed();
    }
}

/// Joins the terminal's session, or begins to find out that there is none to be had.
fn begin(stand: &Rc<Stand>, attach: Attach, channel: &mut Channel, now: Time) -> Work {
    if let Some((ns, reason)) = attach.dial_fails {
        return Work::Dialing { until: now.plus_ns(ns), reason };
    }
    if attach.screen {
        channel.close(now, 1000, "");
        return Work::Over;
    }
    let emulates = stand.deployment.borrow().settings().terminals == Terminals::Emulated;
    let start = |id| -> std::io::Result<Box<dyn Terminal>> {
        if emulates && let Some(emulated) = Emulated::start(&attach.command, now) {
            return Ok(Box::new(emulated));
        }
        Ok(Box::new(Real::start(&attach, id, &stand.sessions, &stand.room)?))
    };
    let joined = stand.sessions.borrow_mut().attach(attach.key(), attach.size, start);
    match joined {
        Ok((id, outlet, _)) => Work::Terminal { attach, id, outlet, decoder: Decoder::default(), look: now },
        Err(error) => {
            channel.close(now, 1011, &format!("start: {error}"));
            Work::Over
        }
    }
}

impl Driver<'_> {
    async fn drive(&mut self, mut fate: watch::Receiver<Fate>) {
        let sleep = tokio::time::sleep(std::time::Duration::ZERO);
        tokio::pin!(sleep);
        let mut armed = Time::ZERO;
        loop {
            let is = *fate.borrow_and_update();
            if matches!(is, Fate::Frozen | Fate::Cut | Fate::Killed) {
                self.freeze(true);
                if !fate::thaws(&mut fate).await || !self.freeze(false) {
                    return self.io.reset();
                }
                continue;
            }
            let now = monotonic_now();
            if now >= self.reset {
                return self.io.reset();
            }
            if is == Fate::Draining {
                self.drain(now);
            }
            self.time(now);
            self.pump(now);
            if !self.write() || (self.channel.is_ended() && self.channel.output().is_empty()) {
                return;
            }
            let next = self.next_event(now);
            if next != armed {
                armed = next;
                let wait = std::time::Duration::from_nanos(next.ns_since(now).min(3_600_000_000_000));
                sleep.as_mut().reset(tokio::time::Instant::now() + wait);
            }
            let reads = now < self.stall && !self.channel.is_ended() && self.takes_input();
            let writes = !self.channel.output().is_empty() || matches!(self.work, Work::Random(_));
            let interest = match (reads, writes) {
                (true, true) => Interest::READABLE | Interest::WRITABLE,
                (false, true) => Interest::WRITABLE,
                _ => Interest::READABLE,
            };
            let outlet = match &self.work {
                Work::Terminal { outlet, .. } => Some(outlet.clone()),
                _ => None,
            };
            let changed = async {
                match &outlet {
                    Some(outlet) => outlet.changed.notified().await,
                    None => std::future::pending().await,
                }
            };
            let ready = tokio::select! {
                ready = self.io.stream().ready(interest), if reads || writes => ready,
                () = changed => continue,
                () = fate::changes(&mut fate) => continue,
                () = &mut sleep => {
                    armed = Time::ZERO;
                    continue;
                }
            };
            match ready {
                Ok(ready) if reads && ready.is_readable() => {
                    if !self.read(monotonic_now()) {
                        return;
                    }
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Its replica stands still, or goes on; false: it cannot, as it has missed something.
    fn freeze(&mut self, frozen: bool) -> bool {
        if !frozen {
            self.channel.resume(monotonic_now());
        }
        let Work::Terminal { outlet, .. } = &self.work else { return true };
        outlet.freeze(frozen);
        !outlet.has_missed()
    }

    /// Its replica goes away in order: what there is to say is said, and then Close.
    fn drain(&mut self, now: Time) {
        if !self.channel.is_closing() {
            self.pump(now);
            self.channel.close(now, 1001, "server is going away");
            self.stand.deployment.borrow_mut().ledger().closing(now, self.socket);
            self.leave(now);
        }
    }

    fn next_event(&self, now: Time) -> Time {
        let own = match &self.work {
            Work::Dialing { until, .. } => *until,
            Work::Terminal { attach, id, look, .. } => {
                attach.lost.min(*look).min(self.stand.sessions.borrow().wakes(*id))
            }
            Work::Logs { next, .. } => *next,
            _ => Time::NEVER,
        };
        own.min(self.channel.next_event()).min(self.reset).min(if now < self.stall {
            self.stall
        } else {
            Time::NEVER
        })
    }

    fn takes_input(&mut self) -> bool {
        if self.channel.output().len() > OUT_BYTES_MAX {
            return false;
        }
        match &self.work {
            Work::Terminal { id, outlet, .. } => {
                self.stand.sessions.borrow().takes_input(*id) && outlet.waiting() <= OUT_BYTES_MAX
            }
            _ => true,
        }
    }

    fn wrong(&self, wrong: Wrong, place: &str) {
        let what = match &self.work {
            Work::Dialing { .. } | Work::Terminal { .. } | Work::Silent => "terminal",
            Work::Echo { .. } | Work::Random(_) | Work::Discard => "echo or app",
            Work::Logs { .. } => "logs",
            Work::Over => "websocket",
        };
        self.stand.deployment.borrow_mut().seen_mut().wrong(wrong, format!("{what}: {place}"));
    }

    /// What is due by time.
    fn time(&mut self, now: Time) {
        if let Some(wrong) = self.channel.handle_time(now) {
            self.wrong(wrong, "no answer in time");
        }
        match &mut self.work {
            Work::Dialing { until, reason } if now >= *until => {
                let reason = std::mem::take(reason);
                self.channel.close(now, 1011, &reason);
                self.work = Work::Over;
            }
            Work::Terminal { attach, id, outlet, .. } if now >= attach.lost => {
                let mut sessions = self.stand.sessions.borrow_mut();
                sessions.detach(now, *id, outlet);
                sessions.end(*id);
                self.work = Work::Silent;
            }
            Work::Terminal { id, .. } if self.stand.sessions.borrow().wakes(*id) <= now => {
                self.stand.sessions.borrow_mut().wake(now, *id);
            }
            Work::Terminal { attach, id, look, .. } if now >= *look => {
                *look = now.plus_ns(AGENT_NS);
                let mut deployment = self.stand.deployment.borrow_mut();
                deployment.poll(now);
                if !deployment.reaches(now, attach.agent) {
                    self.stand.sessions.borrow_mut().end(*id); // the workspace was stopped or deleted
                }
            }
            _ => {}
        }
    }

    /// Moves what is to be said into the channel, as far as it keeps up.
    fn pump(&mut self, now: Time) {
        if self.channel.output().len() > OUT_BYTES_MAX {
            return;
        }
        match &mut self.work {
            Work::Terminal { outlet, .. } => {
                // The server copies in pieces of 32 KiB.
                for piece in outlet.take().chunks(32 << 10) {
                    self.channel.send(Opcode::Binary, piece);
                    sent(self.stand, piece.len());
                }
                if outlet.is_ended() {
                    self.channel.close(now, 1000, "");
                    self.work = Work::Over;
                }
                self.stand.room.notify_waiters();
            }
            Work::Random(random) => {
                let mut message = [0; RANDOM_BYTES];
                for bytes in message.chunks_mut(8) {
                    bytes.copy_from_slice(&random.next().to_ne_bytes());
                }
                self.channel.send(Opcode::Binary, &message);
                sent(self.stand, message.len());
            }
            Work::Logs { follow, next } if now >= *next => {
                *next = now.plus_ns(FOLLOW_NS);
                let (lines, ended) = self.stand.deployment.borrow_mut().followed(now, follow);
                for line in lines {
                    self.channel.send(Opcode::Text, line.as_bytes());
                    sent(self.stand, line.len());
                }
                if ended {
                    self.channel.close(now, 1000, "done");
                    self.work = Work::Over;
                }
            }
            _ => {}
        }
    }

    /// Writes what can be written; false: the connection is gone.
    fn write(&mut self) -> bool {
        let out = self.channel.output();
        let mut written = 0;
        let alive = loop {
            if written == out.len() {
                break true;
            }
            match self.io.stream().try_write(&out[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
                Err(_) => break false,
            }
        };
        out.drain(..written);
        if out.is_empty() {
            out.shrink_to(4096);
        }
        alive
    }

    /// Reads once; false: the connection is gone.
    fn read(&mut self, now: Time) -> bool {
        let stand = self.stand;
        let mut scratch = stand.scratch.borrow_mut();
        match self.io.stream().try_read(&mut scratch) {
            Ok(0) => {
                if self.channel.is_closing() && !self.channel.is_ended() {
                    self.wrong(Wrong::CloseUnanswered, "the connection was closed instead");
                }
                false
            }
            Ok(bytes) => {
                self.take(now, &scratch[..bytes]);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    fn take(&mut self, now: Time, mut input: &[u8]) {
        loop {
            self.plain.clear();
            match self.channel.receive(now, &mut input, &mut self.plain) {
                None => break,
                Some(Event::Closed) => self.leave(now),
                Some(Event::Wrong(wrong)) => {
                    self.wrong(wrong, "a frame that is not taken");
                    self.leave(now);
                }
                Some(Event::Piece { opcode, end }) => self.piece(now, opcode, end),
            }
        }
    }

    /// A piece of a message lies in `plain`.
    fn piece(&mut self, now: Time, opcode: Opcode, end: bool) {
        self.message_bytes += self.plain.len() as u64;
        if !matches!(self.work, Work::Terminal { .. }) {
            self.arrived(now, self.plain.len() as u64);
        }
        {
            let mut deployment = self.stand.deployment.borrow_mut();
            let seen = deployment.seen_mut();
            seen.payload_bytes_received += self.plain.len() as u64;
            seen.messages_received += u64::from(end);
        }
        let message_bytes = self.message_bytes;
        if end {
            self.message_bytes = 0;
        }
        match &mut self.work {
            Work::Terminal { id, decoder, .. } => {
                let id = *id;
                if opcode != Opcode::Binary {
                    self.wrong(Wrong::Opcode, "a text frame");
                    let reason = "unexpected frame type read (expected MessageBinary): MessageText";
                    self.channel.close(now, 1003, reason);
                    return self.leave(now);
                }
                let mut values = Vec::new();
                let right = decoder.push(&self.plain, &mut values);
                let mut sessions = self.stand.sessions.borrow_mut();
                let mut typed = 0;
                for value in values {
                    if let Some(size) = value.size() {
                        sessions.resize(id, size);
                    }
                    if let Some(data) = value.data {
                        typed += data.len() as u64;
                        sessions.input(id, data.as_bytes());
                    }
                }
                drop(sessions);
                self.stand.deployment.borrow_mut().seen_mut().sockets.typed_bytes += typed;
                self.arrived(now, typed);
                if let Err(error) = right {
                    self.wrong(Wrong::Input, &error);
                    self.channel.close(now, 1000, "");
                    return self.leave(now);
                }
                if end && message_bytes > 32_768 {
                    self.wrong(Wrong::MessageTooBig, "more than 32 KiB, which older servers do not take");
                }
            }
            Work::Echo { text_only: true, .. } if opcode != Opcode::Text => {
                self.wrong(Wrong::Opcode, "a binary frame");
                self.channel.close(now, 1003, "unexpected frame type");
            }
            Work::Echo { message, .. } => {
                message.extend_from_slice(&self.plain);
                if end {
                    self.channel.send(opcode, message);
                    sent(self.stand, message.len());
                    message.clear();
                }
            }
            Work::Logs { .. } => {
                self.wrong(Wrong::SpokeOnLogs, "data");
                self.channel.close(now, 1008, "unexpected data message");
                self.work = Work::Over;
            }
            Work::Dialing { .. } | Work::Silent | Work::Random(_) | Work::Discard | Work::Over => {}
        }
    }

    fn arrived(&self, now: Time, bytes: u64) {
        if bytes > 0 {
            self.stand.deployment.borrow_mut().ledger().arrived(now, self.socket, bytes);
        }
    }

    /// The client is done with, whatever is still to be written.
    fn leave(&mut self, now: Time) {
        if let Work::Terminal { id, outlet, .. } = &self.work {
            self.stand.sessions.borrow_mut().detach(now, *id, outlet);
        }
        self.work = Work::Over;
    }
}

fn sent(stand: &Stand, bytes: usize) {
    let mut deployment = stand.deployment.borrow_mut();
    let seen = deployment.seen_mut();
    seen.messages_sent += 1;
    seen.payload_bytes_sent += bytes as u64;
}
