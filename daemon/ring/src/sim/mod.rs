//! A simulated kernel, network and clock from one seed, to run the real worker on.
//!
//! A [`World`] holds everything: rings, sockets, what flies between them, and the time. A
//! [`SimRing`] is one thread's ring in it. Nothing moves by itself: a driver asks
//! [`World::next`] when something happens next, moves the clock there with [`World::advance`],
//! and gives a turn to whoever's ring is [`SimRing::handle`]'s [`Handle::wake_at`] due.
//!
//! Holds always:
//! - The same seed and the same calls give the same [`World::trace`].
//! - Operations take effect at `submit` or `wait`, as in the kernel; completions of different
//!   operations come in any order, those of one receive in theirs, `Closed` after all others.
//! - Whoever breaks the ring's contract (uses a closed socket, has two sends under way on one,
//!   arms two receives, keeps a buffer) is told by a panic that names the seed.
//!
//! Elsewhere: plans and checks (`tests/sim`).

mod network;
mod ring;

use std::cell::RefCell;
use std::rc::Rc;

use crate::Time;

use network::Network;
pub use ring::{Handle, SimRing};

/// What goes wrong, and how often: `per_mille` fields are chances of 1,000.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// One way through the network takes between these, in ns.
    pub latency_ns: (u64, u64),
    /// A piece of the stream takes [`Self::spike_ns`] longer.
    pub spike_per_mille: u64,
    /// How much longer.
    pub spike_ns: u64,
    /// A completion is seen up to so much later than it happened, in ns.
    pub completion_delay_ns: u64,
    /// A receive brings only a part of what is there.
    pub split_per_mille: u64,
    /// A send takes only a part of its bytes.
    pub short_send_per_mille: u64,
    /// A multishot receive or accept ends though nothing is wrong.
    pub lost_multishot_per_mille: u64,
    /// Nobody seems to listen.
    pub refuse_per_mille: u64,
    /// A connect is never answered.
    pub silence_per_mille: u64,
    /// A source port is taken.
    pub address_in_use_per_mille: u64,
    /// A piece of the stream is lost with its connection: both ends see RST.
    pub reset_per_mille: u64,
    /// After a piece of the stream its receiver sees FIN, and its sender RST.
    pub end_per_mille: u64,
    /// Provided receive buffers of a ring, and the bytes of each.
    pub buffers: u16,
    /// Bytes of a provided buffer.
    pub buffer_bytes: u32,
    /// Bytes that may be on the way or unread in one direction of a connection.
    pub window_bytes: usize,
    /// Sockets that a ring may have.
    pub sockets_max: usize,
}

impl Faults {
    /// A good network: 50 µs each way, nothing lost, everything whole.
    pub const NONE: Self = Self {
        latency_ns: (50_000, 50_000),
        spike_per_mille: 0,
        spike_ns: 0,
        completion_delay_ns: 0,
        split_per_mille: 0,
        short_send_per_mille: 0,
        lost_multishot_per_mille: 0,
        refuse_per_mille: 0,
        silence_per_mille: 0,
        address_in_use_per_mille: 0,
        reset_per_mille: 0,
        end_per_mille: 0,
        buffers: 1024,
        buffer_bytes: 4096,
        window_bytes: 256 << 10,
        sockets_max: usize::MAX,
    };
}

/// What happens to a server's address for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its connections are reset, and further ones are refused.
    Killed,
    /// Nothing arrives there or from there; what was on its way arrives when it is over.
    Apart,
}

/// What has not been given back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leaks {
    /// Sockets that are not closed.
    pub sockets: usize,
    /// Provided buffers that have not been released.
    pub provided_buffers: usize,
    /// Send buffers that have not been recycled.
    pub send_buffers: usize,
}

/// Kernel, network and clock. Clones are the same world.
#[derive(Debug, Clone)]
pub struct World(Rc<RefCell<Network>>);

impl World {
    /// A world in which nothing has happened; the clock stands at 1,000 s.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Rc::new(RefCell::new(Network::new(seed, faults))))
    }

    /// Another thread's ring.
    pub fn ring(&self) -> SimRing {
        let ring = self.0.borrow_mut().add_ring();
        SimRing::new(self.0.clone(), ring)
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.0.borrow().now()
    }

    /// When the network does something next; `NEVER`: nothing is on its way.
    pub fn next(&self) -> Time {
        self.0.borrow().next()
    }

    /// Moves the clock to `to`, if that is later, and lets happen what does until then.
    pub fn advance(&self, to: Time) {
        self.0.borrow_mut().advance(to);
    }

    /// Other faults from here on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().set_faults(faults);
    }

    /// Cuts the connections and connects of a server's address until `until`; how many connections are reset, and
    /// how many of those that the client does not know to be connected.
    pub fn cut(&self, address: std::net::SocketAddr, cut: Cut, until: Time) -> (usize, usize) {
        self.0.borrow_mut().cut(address, cut, until)
    }

    /// A number that depends on everything that has happened: same seed, same number.
    pub fn trace(&self) -> u64 {
        self.0.borrow().trace()
    }
}
