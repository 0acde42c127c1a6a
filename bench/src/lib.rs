//! What `scaled` is tried and measured against.
//!
//! - [`sink`]: a counterpart for trying and calibrating, on the same ring as the generator.
//! - [`paced`]: what the floor and the other engines share.
//! - `peers` (features `russh`, `libssh2`): SSH by others, clients and a server.
//! - [`alone`]: a worker run by itself.
//! - [`coder`]: a stand-in for a Coder deployment.
//! - [`compare`]: runs programs in turns and makes the table of `bench/run`.

pub mod alone;
pub mod coder;
pub mod compare;
pub mod paced;
#[cfg(any(feature = "russh", feature = "libssh2"))]
pub mod peers;
pub mod sink;
