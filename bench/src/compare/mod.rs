//! `bench/run`: the generator beside the floor and other engines, run in turns.
//!
//! - [`programs`]: starts a sink and a generator, and reads the generator's figures.
//! - [`scenarios`], [`ssh`], [`viewing`], [`requests`]: what is compared. [`table`]: the rows.
//! - [`handshake`], [`records`]: what TLS costs alone, by rustls and by us.
//! - [`stamps`]: what the generator says of a message beside what the sink saw.

pub mod handshake;
pub mod programs;
pub mod records;
pub mod requests;
pub mod scenarios;
pub mod ssh;
pub mod stamps;
pub mod table;
pub mod viewing;

/// The middle of some figures; 0 of none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        n if n.is_multiple_of(2) => f64::midpoint(figures[n / 2 - 1], figures[n / 2]),
        n => figures[n / 2],
    }
}
