//! One thread's ring in a simulated world.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::buffers::SendBuffers;
use crate::{
    Completion, Errno, Kept, ReceivedBytes, Ring, RingCounters, SendBuffer, Socket, SocketOptions, Time,
    Token,
};

use super::Leaks;
use super::network::{Network, Operation};

/// A ring whose kernel is a [`super::World`].
#[derive(Debug)]
pub struct SimRing {
    network: Rc<RefCell<Network>>,
    ring: usize,
    send_buffers: SendBuffers,
}

/// What a driver needs of a ring that a worker owns.
#[derive(Debug, Clone)]
pub struct Handle {
    network: Rc<RefCell<Network>>,
    ring: usize,
}

impl Handle {
    /// When its owner is to have its next turn.
    pub fn wake_at(&self) -> Time {
        self.network.borrow().wake_at(self.ring)
    }

    /// Resets every connection of its owner, as [`super::World::cut`] does.
    pub fn cut(&self) -> (usize, usize) {
        self.network.borrow_mut().cut_ring(self.ring)
    }

    /// What its owner has not given back.
    pub fn leaks(&self) -> Leaks {
        self.network.borrow().leaks(self.ring)
    }
}

impl SimRing {
    pub(super) fn new(network: Rc<RefCell<Network>>, ring: usize) -> Self {
        Self { network, ring, send_buffers: SendBuffers::default() }
    }

    /// For the driver.
    pub fn handle(&self) -> Handle {
        Handle { network: self.network.clone(), ring: self.ring }
    }

    fn queue(&self, operation: Operation) {
        self.network.borrow_mut().rings[self.ring].queued.push(operation);
    }
}

// Never inlined: instruction counts leave the simulation out by these names.
impl Ring for SimRing {
    #[inline(never)]
    fn now(&self) -> Time {
        self.network.borrow_mut().read_clock()
    }

    #[inline(never)]
    fn thread_cpu_ns(&self) -> u64 {
        // Half of the time: neither idle nor saturated.
        self.network.borrow().now().ns() / 2
    }

    #[inline(never)]
    fn open(&mut self, options: &SocketOptions) -> Result<Socket, Errno> {
        self.network.borrow_mut().open(self.ring, options.bind)
    }

    #[inline(never)]
    fn connect(&mut self, socket: Socket, to: SocketAddr, token: Token) {
        self.queue(Operation::Connect(socket, to, token));
    }

    #[inline(never)]
    fn listen(&mut self, at: SocketAddr, _: &SocketOptions) -> Result<(Socket, SocketAddr), Errno> {
        Ok((self.network.borrow_mut().listen(self.ring, at), at))
    }

    #[inline(never)]
    fn accept(&mut self, listener: Socket, token: Token) {
        self.queue(Operation::Accept(listener, token));
    }

    #[inline(never)]
    fn receive(&mut self, socket: Socket, token: Token) {
        self.queue(Operation::Receive(socket, token));
    }

    #[inline(never)]
    fn send(&mut self, socket: Socket, buffer: SendBuffer, token: Token) {
        self.queue(Operation::Send(socket, buffer, token));
    }

    #[inline(never)]
    fn end_sending(&mut self, socket: Socket) {
        self.queue(Operation::EndSending(socket));
    }

    #[inline(never)]
    fn close(&mut self, socket: Socket, token: Token) {
        self.queue(Operation::Close(socket, token));
    }

    #[inline(never)]
    fn abort(&mut self, socket: Socket, token: Token) {
        self.queue(Operation::Abort(socket, token));
    }

    #[inline(never)]
    fn send_buffer(&mut self, capacity: usize) -> SendBuffer {
        self.network.borrow_mut().rings[self.ring].send_buffers += 1;
        self.send_buffers.take(capacity)
    }

    #[inline(never)]
    fn kept(&self, capacity: usize) -> Kept {
        self.send_buffers.kept(capacity)
    }

    #[inline(never)]
    fn recycle(&mut self, buffer: SendBuffer) {
        if buffer.is_owned() {
            self.network.borrow_mut().rings[self.ring].send_buffers -= 1;
        }
        self.send_buffers.give(buffer);
    }

    #[inline(never)]
    fn received(&mut self, bytes: &ReceivedBytes) -> &mut [u8] {
        let mut network = self.network.borrow_mut();
        let buffer = &mut network.rings[self.ring].buffers[usize::from(bytes.id)];
        let (pointer, len) = (buffer.as_mut_ptr(), bytes.len as usize);
        assert!(len <= buffer.len());
        // SAFETY: the buffer is on the heap and lives as long as the network, which `self` keeps.
        // While `bytes` exists it is not among the free ones, so the network does not touch it;
        // `&mut self` keeps the caller from having a second slice of it.
        unsafe { std::slice::from_raw_parts_mut(pointer, len) }
    }

    #[inline(never)]
    fn release(&mut self, bytes: ReceivedBytes) {
        self.network.borrow_mut().rings[self.ring].released.push(bytes.id);
    }

    #[inline(never)]
    fn submit(&mut self) {
        self.network.borrow_mut().submit(self.ring);
    }

    #[inline(never)]
    fn wait(&mut self, until: Time) {
        let mut network = self.network.borrow_mut();
        network.submit(self.ring);
        let from = network.now();
        network.rings[self.ring].waits = Some((from, until));
    }

    #[inline(never)]
    fn drain(&mut self, into: &mut Vec<Completion>, limit: usize) {
        self.network.borrow_mut().drain(self.ring, into, limit);
    }

    #[inline(never)]
    fn counters(&self) -> RingCounters {
        self.network.borrow().rings[self.ring].counters
    }
}
