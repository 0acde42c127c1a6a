//! SSH streams by the ssh2 crate (libssh2) on epoll: one thread, non-blocking sockets, a session and a
//! channel each. To keep the choice of an SSH client of our own checkable, and an independent client for
//! the sink.
//!
//! epoll is level-triggered: libssh2 says "would block" on an incomplete packet, too, with bytes left to
//! read.

#![allow(clippy::print_stdout, reason = "the figures are the output")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use clap::Parser;
use rustix::event::{Timespec, epoll};
use scale_bench::paced::{Figures, QUANTUM_NS, SEND_BATCH, Schedule};
use scale_bench::peers::{Echo, HANDSHAKES_MAX, Login, Opened, Opening, PATIENCE, SshArguments};
use scale_ring::{Time, host};
use ssh2::{Channel, MethodType, Session};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const EVENTS_MAX: usize = 1024;
/// What is read of a channel at once; libssh2's own buffer is not much larger.
const READ_BYTES: usize = 32 << 10;

fn main() -> Result<()> {
    let arguments = SshArguments::parse();
    arguments.paced.settle()?;
    host::nofile_limit();
    let mut peer = Peer::open(&arguments)?;
    let mut schedule = Schedule::new(&arguments.paced, host::monotonic_now());
    let mut figures = Figures::new(&arguments.paced, schedule.start());
    peer.run(&mut schedule, &mut figures)?;
    if arguments.verify {
        peer.finish(&mut figures)?;
    }
    println!("{}", peer.opened.to_json(&figures));
    Ok(())
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Handshake,
    Authenticate,
    Channel,
    Command,
    Open,
}

struct Stream {
    session: Session,
    channel: Option<Channel>,
    step: Step,
    /// Bytes of a message that libssh2 has not taken.
    owed: usize,
    echo: Echo,
}

struct Peer {
    epoll: OwnedFd,
    streams: Vec<Stream>,
    /// Streams that owe.
    held: Vec<u32>,
    message: Vec<u8>,
    buffer: Vec<u8>,
    verify: bool,
    sent_bytes: u64,
    received_bytes: u64,
    opened: Opened,
}

/// `None`: what was asked for would block.
fn ready<T>(result: std::result::Result<T, ssh2::Error>) -> io::Result<Option<T>> {
    ready_io(result.map_err(io::Error::from))
}

fn ready_io<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl Stream {
    fn connect(arguments: &SshArguments, epoll: &OwnedFd, number: usize) -> Result<Self> {
        let socket = TcpStream::connect(arguments.paced.target)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        epoll::add(epoll, &socket, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        let mut session = Session::new()?;
        session.set_blocking(false);
        session.method_pref(MethodType::Kex, &arguments.kex)?;
        for cipher in [MethodType::CryptCs, MethodType::CryptSc] {
            session.method_pref(cipher, &arguments.cipher)?;
        }
        for mac in [MethodType::MacCs, MethodType::MacSc] {
            session.method_pref(mac, &arguments.macs.join(","))?;
        }
        session.set_tcp_stream(socket);
        Ok(Self { session, channel: None, step: Step::Handshake, owed: 0, echo: Echo::default() })
    }

    /// As far as it goes without waiting; whether it is open.
    fn advance(&mut self, user: &str, login: &Login, command: &str) -> Result<bool> {
        loop {
            let done = match self.step {
                Step::Handshake => ready(self.session.handshake())?,
                Step::Authenticate => self.authenticate(user, login)?,
                Step::Channel => {
                    ready(self.session.channel_session())?.map(|channel| self.channel = Some(channel))
                }
                Step::Command => ready(self.channel().exec(command))?,
                Step::Open => return Ok(true),
            };
            if done.is_none() {
                return Ok(false);
            }
            self.step = match self.step {
                Step::Handshake => Step::Authenticate,
                Step::Authenticate => Step::Channel,
                Step::Channel => Step::Command,
                Step::Command | Step::Open => Step::Open,
            };
        }
    }

    fn authenticate(&self, user: &str, login: &Login) -> Result<Option<()>> {
        Ok(match login {
            // libssh2 asks by the method `none` for what else there is.
            Login::None => match ready(self.session.auth_methods(user).map(str::to_owned))? {
                Some(_) if self.session.authenticated() => Some(()),
                Some(methods) => {
                    let why = "the server wants one of these: ";
                    return Err(format!("{why}{methods}; give --password-file or --key-file").into());
                }
                None => None,
            },
            Login::Password(password) => ready(self.session.userauth_password(user, password))?,
            Login::Key(path) => ready(self.session.userauth_pubkey_file(user, None, path, None))?,
        })
    }

    fn channel(&mut self) -> &mut Channel {
        self.channel.as_mut().expect("it was opened in the step before")
    }

    /// Hands over what is owed of `message`; the bytes taken.
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let before = self.owed;
        while self.owed > 0 {
            // After "would block" libssh2 wants the same bytes again: they lie where they lay.
            let rest = &message[message.len() - self.owed..];
            match ready_io(self.channel().write(rest))? {
                Some(taken) => self.owed -= taken,
                None => break,
            }
        }
        Ok(before - self.owed)
    }
}

impl Peer {
    /// Opens every session, and before them one that pays for what is made once a process.
    fn open(arguments: &SshArguments) -> Result<Self> {
        let login = arguments.login()?;
        drop(open_all(arguments, &login, 1)?);
        let opening = Opening::begin();
        let (epoll, streams) = open_all(arguments, &login, arguments.paced.conns as usize)?;
        Ok(Self {
            epoll,
            streams,
            held: Vec::new(),
            message: arguments.message(),
            buffer: vec![0; READ_BYTES],
            verify: arguments.verify,
            sent_bytes: 0,
            received_bytes: 0,
            opened: opening.end(arguments.paced.conns),
        })
    }

    fn run(&mut self, schedule: &mut Schedule, figures: &mut Figures) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now = host::monotonic_now();
            if !figures.go_on(now) {
                return Ok(());
            }
            self.resume()?;
            self.send_due(schedule, figures, now)?;
            let before = host::monotonic_now();
            // Who owes is asked again after the quantum, whatever comes.
            let next = if self.held.is_empty() { schedule.next_due() } else { before };
            let wait_ns = next.max(before.plus_ns(QUANTUM_NS)).ns_since(before);
            wait(&self.epoll, &mut events, wait_ns)?;
            for event in &events {
                let bytes = self.receive(event.data.u64() as usize)?;
                figures.received(bytes);
            }
        }
    }

    fn send_due(&mut self, schedule: &mut Schedule, figures: &mut Figures, now: Time) -> Result<()> {
        loop {
            let stamp = host::monotonic_now();
            for _ in 0..SEND_BATCH {
                let Some((number, due)) = schedule.take(now) else { return Ok(()) };
                let stream = &mut self.streams[number as usize];
                let busy = stream.owed > 0;
                figures.tick(due, (!busy).then_some(stamp));
                if busy {
                    continue;
                }
                stream.owed = self.message.len();
                self.sent_bytes += stream.write(&self.message)? as u64;
                if stream.owed > 0 {
                    self.held.push(number);
                }
            }
        }
    }

    /// Goes on with what was not taken whole: a window is closed, keys are exchanged, a socket is full.
    fn resume(&mut self) -> Result<()> {
        let mut held = std::mem::take(&mut self.held);
        for number in held.drain(..) {
            let stream = &mut self.streams[number as usize];
            self.sent_bytes += stream.write(&self.message)? as u64;
            if stream.owed > 0 {
                self.held.push(number);
            }
        }
        Ok(())
    }

    /// Reads what is there; the bytes.
    fn receive(&mut self, number: usize) -> Result<usize> {
        let stream = &mut self.streams[number];
        let mut all = 0;
        loop {
            let channel = stream.channel.as_mut().expect("every stream is open");
            let Some(bytes) = ready_io(channel.read(&mut self.buffer))? else { break };
            if bytes == 0 {
                return Err(format!("the server has ended stream {number}").into());
            }
            if self.verify && !stream.echo.take(&self.buffer[..bytes], &self.message) {
                return Err(format!("stream {number}: what came back is not what was sent").into());
            }
            all += bytes;
            // libssh2 has read until its socket was empty: less than asked for is all.
            if bytes < self.buffer.len() {
                break;
            }
        }
        self.received_bytes += all as u64;
        Ok(all)
    }

    /// Waits for the last echoes, which count, and ends each channel in order.
    fn finish(&mut self, figures: &mut Figures) -> Result<()> {
        let until = host::monotonic_now().plus_ns(PATIENCE.as_nanos() as u64);
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while self.received_bytes < self.sent_bytes || !self.held.is_empty() {
            if host::monotonic_now() >= until {
                let (sent, received) = (self.sent_bytes, self.received_bytes);
                return Err(format!("{sent} bytes were sent, {received} came back").into());
            }
            self.resume()?;
            wait(&self.epoll, &mut events, QUANTUM_NS)?;
            for event in &events {
                figures.received(self.receive(event.data.u64() as usize)?);
            }
        }
        for (number, stream) in self.streams.iter_mut().enumerate() {
            stream.session.set_blocking(true);
            stream.session.set_timeout(PATIENCE.as_millis() as u32);
            let channel = stream.channel();
            channel.send_eof()?;
            channel.wait_eof()?;
            channel.close()?;
            channel.wait_close()?;
            let status = channel.exit_status()?;
            if status != 0 {
                return Err(format!("stream {number}: the command ended with {status}").into());
            }
            stream.session.disconnect(None, "done", None)?;
        }
        Ok(())
    }
}

/// Opens so many sessions, a few at a time.
fn open_all(arguments: &SshArguments, login: &Login, count: usize) -> Result<(OwnedFd, Vec<Stream>)> {
    let (user, command) = (&arguments.user, arguments.command());
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut streams: Vec<Stream> = Vec::with_capacity(count);
    let mut events = Vec::with_capacity(EVENTS_MAX);
    let mut open = 0;
    loop {
        while streams.len() < count && streams.len() - open < HANDSHAKES_MAX {
            let mut stream = Stream::connect(arguments, &epoll, streams.len())?;
            open += usize::from(stream.advance(user, login, &command)?);
            streams.push(stream);
        }
        // Where the server was quick, the last ones need no wait.
        if open == count {
            break;
        }
        wait(&epoll, &mut events, PATIENCE.as_nanos() as u64)?;
        if events.is_empty() {
            return Err(format!("{open} of {count} sessions are open, and nothing comes any more").into());
        }
        for event in &events {
            let stream = &mut streams[event.data.u64() as usize];
            if stream.step != Step::Open {
                open += usize::from(stream.advance(user, login, &command)?);
            }
        }
    }
    Ok((epoll, streams))
}

/// Waits so long for something to read.
fn wait(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, wait_ns: u64) -> io::Result<()> {
    let (seconds, ns) = (wait_ns / 1_000_000_000, wait_ns % 1_000_000_000);
    let timeout = Timespec { tv_sec: seconds as _, tv_nsec: ns as _ };
    events.clear();
    epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&timeout))?;
    Ok(())
}
