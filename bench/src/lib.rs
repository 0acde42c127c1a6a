//! What `scaled` is tried and measured against.
//!
//! - [`sink`]: a counterpart for trying and calibrating, on the same ring as the generator.
//! - [`paced`]: what the floor and the other engines share.
//! - [`alone`]: a worker run by itself.
//! - [`coder`]: a stand-in for a Coder deployment.
//! - [`compare`]: runs programs in turns and makes the table of `bench/run`.

pub mod alone;
pub mod coder;
pub mod compare;
pub mod paced;
pub mod sink;
