//! What to send, where and when: pure functions of elapsed time and a seed.
//!
//! Nothing here has a clock, a socket or a lock; everything is exact in integers.

pub mod endpoint;
pub mod grid;
pub mod group;
pub mod payload;
pub mod random;
pub mod reconnect;
pub mod ssh;
pub mod ways;

pub use endpoint::{Endpoint, Protocol};
pub use grid::{MessageSize, TickOffset};
pub use group::{Group, Stage, Terminal, Traffic};
pub use payload::Payload;
pub use random::Random;
pub use reconnect::{Client, Reconnect};
pub use ssh::{Ssh, SshEndpoint};
pub use ways::Ways;
