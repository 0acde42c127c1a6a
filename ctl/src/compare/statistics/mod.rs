//! What can be said of a difference between runs: no files, no reports, only figures.
//!
//! - [`random`]: the seeded draws.
//! - [`blocks`]: seconds drawn in blocks, because a second is like the one before it.
//! - [`pooled`]: percentiles of a resampled run.
//! - [`student`]: how wide an interval is at so many degrees of freedom.
//! - [`difference`]: two sides of runs, their difference and its interval.
//!
//! Everything is a function of its arguments: the same reports give the same verdict, anywhere.

pub mod blocks;
pub mod difference;
pub mod pooled;
pub mod random;
pub mod student;

pub use blocks::{Seconds, Spread};
pub use difference::{Difference, Sample};
pub use pooled::{Pooled, Shape};
