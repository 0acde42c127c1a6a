//! The sink: a counterpart for trying and calibrating, on the same ring as the generator.

pub mod sink;
