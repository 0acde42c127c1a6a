//! Every syscall and every `unsafe` of the project, behind one small interface.
//!
//! A [`Ring`] takes operations on sockets and gives completions. [`Kernel`] does so over io_uring;
//! with feature `sim`, `sim::SimRing` does so in a simulated world. A worker is generic over the
//! ring, so the real one runs on both.
//!
//! Holds always:
//! - Memory that the kernel reads belongs to the ring until the operation has completed: a
//!   [`SendBuffer`] goes in by value and comes back in [`Outcome::Sent`].
//! - Every operation completes exactly once with its [`Token`], but for `receive` and `accept`,
//!   which complete many times and say with `more` whether another may come. `more: false`
//!   means: arm it again if you still want it.
//! - After [`Ring::close`] or [`Ring::abort`] a socket may not be used; its operations under way
//!   complete as cancelled, and last comes `Closed`.
//! - Nothing blocks but [`Ring::wait`].
//!
//! Elsewhere: what the bytes mean (`scale-proto`), when they are due (`scaled`).

#![allow(unsafe_code, reason = "the one crate of system calls; each block says why it is sound")]

mod buffers;
pub mod folder;
pub mod host;
mod interfaces;
mod kernel;
pub mod passed;
pub mod peer;
mod prefetch;
pub mod private;
#[cfg(feature = "sim")]
pub mod sim;
mod time;
mod token;
pub mod trusted;

use std::net::SocketAddr;

pub use prefetch::prefetch;

pub use buffers::{Kept, ReceivedBytes, SendBuffer};
pub use interfaces::{Interface, InterfaceName, interfaces};
pub use kernel::{Features, Kernel, KernelConfig, SetupError};
pub use time::Time;
pub use token::Token;

/// A socket in one ring's table: a direct descriptor, or an ordinary one where the table is full.
/// Meaningful only to the ring that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Socket(pub(crate) u32);

/// How a socket is made before it connects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
    /// Source address and port, chosen by us (`SO_REUSEADDR` is set); `None`: the kernel chooses.
    pub bind: Option<SocketAddr>,
    /// The interface that everything goes out through and comes in by (`SO_BINDTODEVICE`); `None`:
    /// the kernel's routing decides. Whoever has not bound the socket before may say so since Linux 5.7.
    pub interface: Option<InterfaceName>,
    /// `SO_SNDBUF` in bytes as given to setsockopt (the kernel doubles it); `None`: autotuned.
    pub send_buffer_bytes: Option<u32>,
    /// `SO_RCVBUF` in bytes as given to setsockopt; `None`: autotuned.
    pub receive_buffer_bytes: Option<u32>,
}

/// Why an operation failed, by what a caller does about it. Errno names in socket(7), tcp(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Errno {
    /// ECONNREFUSED: nobody listens.
    Refused,
    /// ECONNRESET, EPIPE, ECONNABORTED: the peer ended it with RST.
    Reset,
    /// ETIMEDOUT: the kernel gave up on retransmissions.
    TimedOut,
    /// ENETUNREACH, EHOSTUNREACH, ENETDOWN, EHOSTDOWN.
    Unreachable,
    /// EADDRINUSE: the source port is taken; try the next.
    AddressInUse,
    /// EADDRNOTAVAIL, ENODEV: no such source address or interface, or no port left.
    AddressNotAvailable,
    /// EMFILE, ENFILE: descriptors or table slots are used up.
    TooManyFiles,
    /// ENOBUFS on `receive`: no provided buffer was free; release some and arm again.
    NoBuffers,
    /// ENOMEM, ENOBUFS elsewhere: the kernel is out of memory for sockets.
    NoMemory,
    /// EACCES, EPERM: a firewall, seccomp or a broadcast address.
    NotPermitted,
    /// ECANCELED: we closed the socket.
    Cancelled,
    /// Anything else, with its number.
    Other(i32),
}

/// What became of an operation.
#[derive(Debug)]
pub enum Outcome {
    /// `connect`: the connection is established.
    Connected,
    /// `accept`: a new connection; `more` as in the crate's doc.
    Accepted {
        /// The new connection's socket.
        socket: Socket,
        /// Whether this accept goes on.
        more: bool,
    },
    /// `receive`: bytes have arrived in a provided buffer. Give it back with [`Ring::release`].
    Received {
        /// Where they are: see [`Ring::received`].
        bytes: ReceivedBytes,
        /// Whether this receive goes on.
        more: bool,
    },
    /// `receive`: the peer has ended its direction (FIN). The receive is over.
    Ended,
    /// `send`: `sent` bytes were taken by the kernel, perhaps fewer than were given.
    Sent {
        /// The buffer, back. Advance and send the rest, or [`Ring::recycle`] it.
        buffer: SendBuffer,
        /// Bytes taken, counted from the buffer's present start.
        sent: usize,
    },
    /// `send` failed; the buffer is back.
    SendFailed {
        /// The buffer, back.
        buffer: SendBuffer,
        /// Why.
        errno: Errno,
    },
    /// `connect`, `receive` or `accept` failed and is over.
    Failed(Errno),
    /// `close` or `abort`: the socket's slot is free again.
    Closed,
}

/// One completion: which operation, and what became of it.
#[derive(Debug)]
pub struct Completion {
    /// As given with the operation.
    pub token: Token,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a ring has counted since it was made; all only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// io_uring_enter calls.
    pub enters: u64,
    /// Completions that the kernel could not put into the queue at once (CQ overflow).
    pub cq_overflows: u64,
    /// Receives that ended because no provided buffer was free.
    pub buffers_exhausted: u64,
    /// Sends that took fewer bytes than given.
    pub short_sends: u64,
    /// Sockets that got an ordinary descriptor because the table was full.
    pub ordinary_descriptors: u64,
}

/// Operations in, completions out.
pub trait Ring {
    /// CLOCK_MONOTONIC now.
    fn now(&self) -> Time;

    /// CPU time of this thread in ns (CLOCK_THREAD_CPUTIME_ID).
    fn thread_cpu_ns(&self) -> u64;

    /// Makes a TCP socket: options set, bound where asked, TCP_NODELAY on, in the table.
    ///
    /// # Errors
    /// `AddressInUse` (try another port), `AddressNotAvailable`, `TooManyFiles`, `NoMemory`.
    fn open(&mut self, options: &SocketOptions) -> Result<Socket, Errno>;

    /// Queues a connect. Completes with `Connected` or `Failed`.
    fn connect(&mut self, socket: Socket, to: SocketAddr, token: Token);

    /// Listens: SO_REUSEADDR, SO_REUSEPORT, backlog as large as the host allows.
    /// The second value is the address bound, with the port that the kernel chose for port 0.
    ///
    /// # Errors
    /// `AddressInUse`, `AddressNotAvailable`, `NotPermitted`.
    fn listen(&mut self, at: SocketAddr, options: &SocketOptions) -> Result<(Socket, SocketAddr), Errno>;

    /// Queues an accept that goes on. Completes with `Accepted`, many times, or `Failed`.
    fn accept(&mut self, listener: Socket, token: Token);

    /// Queues a receive that goes on. Completes with `Received`, many times, and at last with
    /// `Ended`, `Failed` or a `Received` whose `more` is false.
    fn receive(&mut self, socket: Socket, token: Token);

    /// Queues a send of all of `buffer`. Completes with `Sent` or `SendFailed`. At most one a
    /// socket may be under way: sends of one socket do not keep their order otherwise.
    fn send(&mut self, socket: Socket, buffer: SendBuffer, token: Token);

    /// Queues the end of our direction: FIN behind what was sent. The peer's may go on; nothing
    /// may be sent any more. It does not complete.
    fn end_sending(&mut self, socket: Socket);

    /// Queues an orderly close: what was sent still goes out, then FIN. Completes with `Closed`.
    fn close(&mut self, socket: Socket, token: Token);

    /// Queues an abortive close: RST, what was not yet sent is dropped, no TIME_WAIT.
    /// Completes with `Closed`.
    fn abort(&mut self, socket: Socket, token: Token);

    /// A buffer of at least `capacity` bytes, from the free list where one fits. Its content is
    /// unspecified, its length 0.
    fn send_buffer(&mut self, capacity: usize) -> SendBuffer;

    /// What the buffer that [`Self::send_buffer`] would hand out next for `capacity` still holds.
    fn kept(&self, capacity: usize) -> Kept;

    /// Takes back a buffer that a completion returned, or that was not sent after all.
    fn recycle(&mut self, buffer: SendBuffer);

    /// The bytes that a `Received` speaks of. Protocols decrypt and unmask in place.
    fn received(&mut self, bytes: &ReceivedBytes) -> &mut [u8];

    /// Gives a provided buffer back to the kernel (published at the next submit, wait or drain).
    fn release(&mut self, bytes: ReceivedBytes);

    /// Hands queued operations to the kernel without waiting.
    fn submit(&mut self);

    /// Hands queued operations over and waits: until a batch of completions is there, or some
    /// after a short minimum wait, or until `until`. The simulated ring returns at once and
    /// remembers `until`; its driver moves the clock.
    fn wait(&mut self, until: Time);

    /// Appends up to `limit` completions that are there to `into`; never waits.
    fn drain(&mut self, into: &mut Vec<Completion>, limit: usize);

    /// What this ring has counted.
    fn counters(&self) -> RingCounters;
}
