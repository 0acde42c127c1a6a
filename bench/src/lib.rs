//! What `scaled` is tried and measured against.
//!
//! - [`sink`]: a counterpart for trying and calibrating, on the same ring as the generator.
//! - [`paced`]: what the floor and the other engines share.

pub mod paced;
pub mod sink;
