//! The ring over io_uring, for Linux 6.1 and later.
//!
//! One ring a thread (SINGLE_ISSUER, DEFER_TASKRUN); sockets as direct descriptors while the table
//! has room; receives are multishot out of one ring of provided buffers; a wait is one
//! io_uring_enter that hands over everything queued and asks for a batch of completions.
//!
//! Soundness: whatever the kernel may read or write while an operation is under way is owned by
//! this module. Send buffers and socket addresses lie in `InFlight` until their completion, the
//! provided buffers in `Provided`, and both are dropped only after the ring is closed and its
//! operations have ended (`Drop`).
//!
//! user_data: a token's bits (top bit clear) where an operation owns no memory; the top bit and
//! an index into `InFlight` where it does.

mod features;
mod provided;
mod socket;

use std::net::SocketAddr;
use std::os::fd::RawFd;

use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::buffers::{Kept, ReceivedBytes, SendBuffer, SendBuffers};
use crate::{Completion, Errno, Outcome, Ring, RingCounters, Socket, SocketOptions, Time, Token};

pub use features::{Features, SetupError};
use provided::Provided;

/// How a ring is set up.
#[derive(Debug, Clone, Copy)]
pub struct KernelConfig {
    /// Sockets that should fit into the table of direct descriptors; beyond it (and beyond
    /// RLIMIT_NOFILE) ordinary descriptors are used.
    pub sockets_max: u32,
    /// Provided receive buffers: a power of two, at most 32,768.
    pub receive_buffers: u16,
    /// Bytes of each: a little more than a usual message, so that one receive takes it whole.
    pub receive_buffer_bytes: u32,
    /// What may be used; see [`Features::probe`].
    pub features: Features,
}

/// Completions that a wait asks for: fewer wakes, and lateness gains too.
pub const WAIT_BATCH: u32 = 32;
/// After this a wait ends with any completion.
pub const WAIT_MIN_US: u32 = 200;
/// Where the kernel has no minimum wait: how late a completion may be seen.
const WAIT_PLAIN_MAX_NS: u64 = 500_000;
const SUBMISSIONS: u32 = 4096;
const COMPLETIONS_MIN: u32 = 4096;
const COMPLETIONS_MAX: u32 = 65_536;

const OWNED: u64 = 1 << 63;
/// user_data of a cancel: nobody waits for it.
const IGNORED: u64 = u64::MAX;
/// A socket with an ordinary descriptor.
const ORDINARY: u32 = 1 << 31;

/// Memory that an operation needs until it completes.
enum Owned {
    Send(SendBuffer),
    Address { _address: Box<socket::Address> },
    Close,
}

/// What is known of a socket, to end it cheaply.
#[derive(Clone, Copy, Default)]
struct Armed {
    /// The receive's user_data, once one was armed; it may have ended since.
    receive: Option<u64>,
    /// Sends and connects under way.
    owned: u32,
}

struct InFlight {
    entries: Vec<Option<(Token, Socket, Owned)>>,
    free: Vec<u32>,
}

impl InFlight {
    fn insert(&mut self, token: Token, socket: Socket, owned: Owned) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            (self.entries.len() - 1) as u32
        });
        self.entries[index as usize] = Some((token, socket, owned));
        OWNED | u64::from(index)
    }

    fn remove(&mut self, user_data: u64) -> (Token, Socket, Owned) {
        let index = user_data as u32;
        self.free.push(index);
        self.entries[index as usize].take().expect("an operation completes once")
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.entries.len()
    }
}

/// Where accepted connections go. The kernel drops a connection for which its table has no slot,
/// so before that can happen accepts go on with ordinary descriptors.
#[derive(Default)]
struct Accepts {
    /// Slots that accepts have taken, and how many they may take.
    taken: u32,
    most: u32,
    /// Whether the accept that is armed takes slots.
    direct: bool,
    armed: Option<u64>,
}

impl Accepts {
    /// An accept goes on by itself and may take this many more before it is stopped.
    const MARGIN: u32 = 4096;

    fn of_table(table: u32) -> Self {
        Self { most: table - Self::MARGIN.min(table / 4), ..Self::default() }
    }

    /// Whether what is armed is to be armed anew: the table is filling, or empty enough again.
    const fn is_to_change(&self) -> bool {
        if self.direct { self.taken >= self.most } else { self.taken < self.most / 2 }
    }
}

/// The ring over io_uring. Made on the thread that uses it, and never leaves it.
pub struct Kernel {
    ring: IoUring,
    features: Features,
    provided: Provided,
    in_flight: InFlight,
    /// By slot, and by number for ordinary descriptors.
    armed: [Vec<Armed>; 2],
    send_buffers: SendBuffers,
    /// Free slots of the direct table, and whether a listener lets the kernel choose them.
    slots: Vec<u32>,
    kernel_chooses: bool,
    accepts: Accepts,
    counters: RingCounters,
    /// A ring belongs to its thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Kernel {
    /// Sets a ring up on this thread.
    ///
    /// # Errors
    /// io_uring is switched off, forbidden or too old, or memory is short: each says the cure.
    pub fn new(config: &KernelConfig) -> Result<Self, SetupError> {
        let completions = config.sockets_max.saturating_mul(4).clamp(COMPLETIONS_MIN, COMPLETIONS_MAX);
        let (ring, features) = features::build(config.features, SUBMISSIONS, completions)?;
        let (mut slots, mut accepts) = (Vec::new(), Accepts::default());
        if features.direct_descriptors {
            let limit = crate::host::nofile_limit();
            let table = u32::try_from(limit).unwrap_or(u32::MAX).min(config.sockets_max.max(1));
            ring.submitter().register_files_sparse(table).map_err(SetupError::table)?;
            slots = (0..table).rev().collect();
            accepts = Accepts::of_table(table);
        }
        let provided = Provided::new(&ring, config.receive_buffers, config.receive_buffer_bytes)?;
        if features.registered_ring_fd {
            // A saving of a lookup: a kernel that refuses it loses nothing else.
            let _ = ring.submitter().register_ring_fd();
        }
        Ok(Self {
            ring,
            features,
            provided,
            in_flight: InFlight { entries: Vec::new(), free: Vec::new() },
            armed: [Vec::new(), Vec::new()],
            send_buffers: SendBuffers::default(),
            slots,
            kernel_chooses: false,
            accepts,
            counters: RingCounters::default(),
            _not_send: std::marker::PhantomData,
        })
    }

    /// What is in use.
    pub const fn features(&self) -> Features {
        self.features
    }

    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: every pointer in an entry is to memory owned by `in_flight` or `provided`,
            // which outlives the operation (see the module's doc).
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.submit();
        }
    }

    fn entry(
        &self,
        socket: Socket,
        fixed: impl FnOnce(Fixed) -> squeue::Entry,
        fd: impl FnOnce(Fd) -> squeue::Entry,
    ) -> squeue::Entry {
        if socket.0 & ORDINARY == 0 {
            fixed(Fixed(socket.0))
        } else {
            fd(Fd((socket.0 & !ORDINARY) as RawFd))
        }
    }

    #[inline]
    fn armed(&mut self, socket: Socket) -> &mut Armed {
        let table = &mut self.armed[usize::from(socket.0 & ORDINARY != 0)];
        let index = (socket.0 & !ORDINARY) as usize;
        if index >= table.len() {
            table.resize(index + 1, Armed::default());
        }
        &mut table[index]
    }

    /// Puts a descriptor into the table where there is room.
    fn adopt(&mut self, fd: RawFd) -> Socket {
        if !self.kernel_chooses
            && let Some(slot) = self.slots.pop()
        {
            if self.ring.submitter().register_files_update(slot, &[fd]).is_ok() {
                socket::close(fd);
                return Socket(slot);
            }
            self.slots.push(slot);
        }
        self.counters.ordinary_descriptors += 1;
        Socket(fd as u32 | ORDINARY)
    }

    fn enter(&mut self, wait: Option<Time>) {
        let queued = self.ring.submission().len() as u32;
        let timespec;
        let mut args = features::WaitArgs::none();
        let (mut batch, mut flags) = (0, 0);
        if let Some(until) = wait {
            let mut ns = until.ns_since(self.now());
            if self.features.min_wait {
                args.min_wait_us = WAIT_MIN_US.min((ns / 1000) as u32);
            } else {
                ns = ns.min(WAIT_PLAIN_MAX_NS);
            }
            timespec = features::Timespec::from_ns(ns);
            args.timespec = &raw const timespec as u64;
            batch = WAIT_BATCH;
            flags = features::ENTER_GETEVENTS | features::ENTER_EXT_ARG;
        } else if queued == 0 {
            return;
        }
        self.counters.enters += 1;
        // SAFETY: `args` and its timespec live across the call and have the kernel's layout; the
        // entries handed over were checked in `push`.
        let result = unsafe {
            if wait.is_some() {
                self.ring.submitter().enter(queued, batch, flags, Some(&args))
            } else {
                self.ring.submitter().enter::<features::WaitArgs>(queued, 0, 0, None)
            }
        };
        if let Err(error) = result {
            // ETIME: the wait is over. EINTR: a signal. EBUSY, EAGAIN: completions must be drained
            // first, which the caller is about to do; what is queued stays queued.
            match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => panic!("io_uring_enter failed where it cannot: {error}"),
            }
        }
    }

    fn outcome(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let (user_data, result) = (entry.user_data(), entry.result());
        if user_data == IGNORED {
            return None;
        }
        if user_data & OWNED != 0 {
            let (token, socket, owned) = self.in_flight.remove(user_data);
            if !matches!(owned, Owned::Close) {
                self.armed(socket).owned -= 1;
            }
            let outcome = match owned {
                Owned::Send(buffer) if result >= 0 => {
                    self.counters.short_sends += u64::from((result as usize) < buffer.len());
                    Outcome::Sent { buffer, sent: result as usize }
                }
                Owned::Send(buffer) => Outcome::SendFailed { buffer, errno: errno(-result) },
                Owned::Address { .. } if result >= 0 => Outcome::Connected,
                Owned::Address { .. } => Outcome::Failed(errno(-result)),
                Owned::Close => {
                    if socket.0 & ORDINARY == 0 {
                        self.slot_is_free(socket.0);
                    }
                    Outcome::Closed
                }
            };
            return Some(Completion { token, outcome });
        }
        let token = Token::from_bits(user_data & !(1 << 62));
        let more = cqueue::more(entry.flags());
        let outcome = if user_data & ACCEPT != 0 {
            self.accepted(result, more)
        } else {
            match (result, cqueue::buffer_select(entry.flags())) {
                (1.., Some(id)) => {
                    Outcome::Received { bytes: ReceivedBytes { id, len: result as u32 }, more }
                }
                (0, id) => {
                    // An end with a buffer attached gives it back unused.
                    if let Some(id) = id {
                        self.provided.give(id);
                    }
                    Outcome::Ended
                }
                _ if result == -libc::ENOBUFS => {
                    self.counters.buffers_exhausted += 1;
                    Outcome::Failed(Errno::NoBuffers)
                }
                _ => Outcome::Failed(errno(-result)),
            }
        };
        Some(Completion { token, outcome })
    }
}

impl Kernel {
    fn accepted(&mut self, result: i32, more: bool) -> Outcome {
        let direct = self.accepts.direct;
        if !more {
            self.accepts.armed = None;
        }
        if result < 0 {
            return Outcome::Failed(errno(-result));
        }
        if !direct {
            self.counters.ordinary_descriptors += 1;
            return Outcome::Accepted { socket: Socket(result as u32 | ORDINARY), more };
        }
        self.accepts.taken += 1;
        self.reconsider_accept();
        Outcome::Accepted { socket: Socket(result as u32), more }
    }

    fn slot_is_free(&mut self, slot: u32) {
        if self.kernel_chooses {
            self.accepts.taken -= 1;
            self.reconsider_accept();
        } else {
            self.slots.push(slot);
        }
    }

    /// Stops an accept that takes the wrong kind of descriptor: its user arms it again.
    fn reconsider_accept(&mut self) {
        if self.accepts.is_to_change()
            && let Some(user_data) = self.accepts.armed.take()
        {
            self.push(opcode::AsyncCancel::new(user_data).build().user_data(IGNORED));
        }
    }
}

/// An accept's user_data: tokens use kinds 0…3 of the sink for anything else.
const ACCEPT: u64 = 1 << 62;

impl Ring for Kernel {
    #[inline]
    fn now(&self) -> Time {
        crate::host::monotonic_now()
    }

    fn thread_cpu_ns(&self) -> u64 {
        crate::host::thread_cpu_ns()
    }

    fn open(&mut self, options: &SocketOptions) -> Result<Socket, Errno> {
        let fd = socket::open(options).map_err(errno)?;
        Ok(self.adopt(fd))
    }

    fn connect(&mut self, socket: Socket, to: SocketAddr, token: Token) {
        let address = Box::new(socket::Address::new(to));
        let (pointer, len) = address.as_raw();
        let user_data = self.in_flight.insert(token, socket, Owned::Address { _address: address });
        self.armed(socket).owned += 1;
        let entry = self.entry(
            socket,
            |fixed| opcode::Connect::new(fixed, pointer, len).build(),
            |fd| opcode::Connect::new(fd, pointer, len).build(),
        );
        self.push(entry.user_data(user_data));
    }

    fn listen(&mut self, at: SocketAddr, options: &SocketOptions) -> Result<(Socket, SocketAddr), Errno> {
        let (fd, bound) = socket::listen(at, options).map_err(errno)?;
        // A ring that accepts lets the kernel choose the slots: the two ways must not be mixed.
        self.kernel_chooses = self.features.direct_descriptors;
        Ok((Socket(fd as u32 | ORDINARY), bound))
    }

    fn accept(&mut self, listener: Socket, token: Token) {
        let fd = Fd((listener.0 & !ORDINARY) as RawFd);
        let direct = self.kernel_chooses && self.accepts.taken < self.accepts.most;
        self.accepts.direct = direct;
        let entry = if self.features.multishot_accept {
            opcode::AcceptMulti::new(fd).allocate_file_index(direct).build()
        } else {
            let slot = direct.then(io_uring::types::DestinationSlot::auto_target);
            opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).file_index(slot).build()
        };
        let user_data = token.bits() | ACCEPT;
        self.accepts.armed = Some(user_data);
        self.armed(listener).receive = Some(user_data);
        self.push(entry.user_data(user_data));
    }

    #[inline]
    fn receive(&mut self, socket: Socket, token: Token) {
        let entry = if self.features.multishot_receive {
            self.entry(
                socket,
                |fixed| opcode::RecvMulti::new(fixed, Provided::GROUP).build(),
                |fd| opcode::RecvMulti::new(fd, Provided::GROUP).build(),
            )
        } else {
            let len = self.provided.buffer_bytes();
            let null = std::ptr::null_mut();
            self.entry(
                socket,
                |fixed| opcode::Recv::new(fixed, null, len).buf_group(Provided::GROUP).build(),
                |fd| opcode::Recv::new(fd, null, len).buf_group(Provided::GROUP).build(),
            )
            .flags(squeue::Flags::BUFFER_SELECT)
        };
        self.armed(socket).receive = Some(token.bits());
        self.push(entry.user_data(token.bits()));
    }

    #[inline]
    fn send(&mut self, socket: Socket, buffer: SendBuffer, token: Token) {
        let (pointer, len) = (buffer.as_slice().as_ptr(), buffer.len() as u32);
        // The memory behind the pointer is on the heap: moving its owner does not move it.
        let user_data = self.in_flight.insert(token, socket, Owned::Send(buffer));
        self.armed(socket).owned += 1;
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = self.entry(
            socket,
            |fixed| opcode::Send::new(fixed, pointer, len).flags(flags).build(),
            |fd| opcode::Send::new(fd, pointer, len).flags(flags).build(),
        );
        self.push(entry.user_data(user_data));
    }

    fn end_sending(&mut self, socket: Socket) {
        let entry = self.entry(
            socket,
            |fixed| opcode::Shutdown::new(fixed, libc::SHUT_WR).build(),
            |fd| opcode::Shutdown::new(fd, libc::SHUT_WR).build(),
        );
        self.push(entry.user_data(IGNORED));
    }

    fn close(&mut self, socket: Socket, token: Token) {
        // What is armed on the socket holds it open: it is cancelled first, in the same submission.
        // By user_data the kernel finds it at once; by descriptor it looks through everything that
        // waits on this ring, which is for sockets with a send or connect under way only.
        let Armed { receive, owned } = std::mem::take(self.armed(socket));
        self.armed(socket).owned = owned;
        let cancel = match (owned, receive) {
            (0, None) => None,
            (0, Some(user_data)) => Some(opcode::AsyncCancel::new(user_data).build()),
            _ if socket.0 & ORDINARY == 0 => {
                Some(opcode::AsyncCancel2::new(CancelBuilder::fd(Fixed(socket.0)).all()).build())
            }
            _ => {
                let fd = Fd((socket.0 & !ORDINARY) as RawFd);
                Some(opcode::AsyncCancel2::new(CancelBuilder::fd(fd).all()).build())
            }
        };
        if let Some(cancel) = cancel {
            self.push(cancel.user_data(IGNORED));
        }
        let user_data = self.in_flight.insert(token, socket, Owned::Close);
        let entry = self.entry(
            socket,
            |fixed| opcode::Close::new(fixed).build(),
            |fd| opcode::Close::new(fd).build(),
        );
        self.push(entry.user_data(user_data));
    }

    fn abort(&mut self, socket: Socket, token: Token) {
        // Connecting to "no family" is tcp_disconnect: RST, and nothing is left to send.
        let address = &raw const socket::DISCONNECT;
        let len = size_of::<libc::sa_family_t>() as u32;
        let entry = self.entry(
            socket,
            |fixed| opcode::Connect::new(fixed, address.cast(), len).build(),
            |fd| opcode::Connect::new(fd, address.cast(), len).build(),
        );
        self.push(entry.user_data(IGNORED));
        self.close(socket, token);
    }

    #[inline]
    fn send_buffer(&mut self, capacity: usize) -> SendBuffer {
        self.send_buffers.take(capacity)
    }

    #[inline]
    fn kept(&self, capacity: usize) -> Kept {
        self.send_buffers.kept(capacity)
    }

    #[inline]
    fn recycle(&mut self, buffer: SendBuffer) {
        self.send_buffers.give(buffer);
    }

    #[inline]
    fn received(&mut self, bytes: &ReceivedBytes) -> &mut [u8] {
        self.provided.bytes(bytes.id, bytes.len)
    }

    #[inline]
    fn release(&mut self, bytes: ReceivedBytes) {
        self.provided.give(bytes.id);
    }

    fn submit(&mut self) {
        self.provided.publish();
        self.enter(None);
    }

    fn wait(&mut self, until: Time) {
        self.provided.publish();
        let completions_wait = !self.ring.completion().is_empty();
        // With completions at hand the wait is over at once, but queued work still goes out.
        self.enter(Some(if completions_wait { Time::ZERO } else { until }));
    }

    fn drain(&mut self, into: &mut Vec<Completion>, limit: usize) {
        self.provided.publish();
        let overflow = u64::from(self.ring.completion().overflow());
        self.counters.cq_overflows = self.counters.cq_overflows.max(overflow);
        while into.len() < limit {
            let Some(entry) = self.ring.completion().next() else { break };
            if let Some(completion) = self.outcome(&entry) {
                into.push(completion);
            }
        }
    }

    fn counters(&self) -> RingCounters {
        self.counters
    }
}

impl Drop for Kernel {
    /// Ends what is under way before its memory goes: everything is cancelled and drained; should
    /// the kernel not give an operation back in time, its memory is leaked rather than freed.
    fn drop(&mut self) {
        self.push(opcode::AsyncCancel2::new(CancelBuilder::any().all()).build().user_data(IGNORED));
        let deadline = self.now().plus_ns(1_000_000_000);
        let mut rest = Vec::new();
        while !self.in_flight.is_empty() && self.now() < deadline {
            let soon = self.now().plus_ns(5_000_000);
            self.wait(soon);
            self.drain(&mut rest, usize::MAX);
            rest.clear();
        }
        if !self.in_flight.is_empty() {
            std::mem::forget(std::mem::take(&mut self.in_flight.entries));
        }
        self.provided.detach(&self.ring);
    }
}

fn errno(number: i32) -> Errno {
    match number {
        libc::ECONNREFUSED => Errno::Refused,
        libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED | libc::ENOTCONN => Errno::Reset,
        libc::ETIMEDOUT => Errno::TimedOut,
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN => Errno::Unreachable,
        libc::EADDRINUSE => Errno::AddressInUse,
        libc::EADDRNOTAVAIL | libc::ENODEV => Errno::AddressNotAvailable,
        libc::EMFILE | libc::ENFILE => Errno::TooManyFiles,
        libc::ENOMEM | libc::ENOBUFS => Errno::NoMemory,
        libc::EACCES | libc::EPERM => Errno::NotPermitted,
        libc::ECANCELED => Errno::Cancelled,
        other => Errno::Other(other),
    }
}
