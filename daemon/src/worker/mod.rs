//! One thread on one core: a ring, its connections, its share of the streams.
//!
//! - [`share`]: what a worker is given and what it hands back.
//! - [`turn`]: the loop; the one place that reads the clock.
//! - [`inbox`]: commands in. [`pulse`]: a sign of life out. [`timeline`]: a group's phases and stages. [`wheel`]: what is due.
//! - [`ports`]: source ports. `origin`: where a connection comes from. `connect`, `ticks`, `receive`, `leave`: the
//!   four things a turn does; `link`: SSH connections, which streams share; `compare`: what a stream finds that is open again; `hold`:
//!   streams whose target gets no connects. [`changes`]: streams that open, close and are lost, one by one.

pub mod changes;
pub mod gate;
pub mod inbox;
pub mod ports;
pub mod pulse;
pub mod share;
pub mod timeline;
pub mod turn;
pub mod wheel;

mod compare;
mod connect;
mod hold;
mod leave;
mod link;
mod origin;
mod receive;
mod ticks;

pub use inbox::Inbox;
pub use pulse::Pulse;
pub use share::{Command, Share, Snapshot};
pub use turn::{Turn, Worker};
