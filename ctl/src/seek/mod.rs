//! Seeking a limit by steps: what `calibrate` and `find-max` share.
//!
//! One run goes all the time; its load is set, its seconds are read ([`session`]), and from what came of a step the next
//! one is chosen ([`search`], pure). How far a plan may go at all is asked before ([`bound`]).

pub mod bound;
pub mod search;
pub mod session;

/// The median of what there is; an even number's is the higher of the two: a bound is not met by half of the seconds.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
