//! The life of one run: [`plan`] what it will do, [`rows`] whom each stream talks to, [`targets`]
//! what it may hit, [`fit`] whether this host can carry it, [`calibration`] what it was found to offer, [`supervisor`] and [`workers`] while it goes,
//! [`fleet`] the workspaces behind its streams, [`saturation`] whether we are the limit, [`series`] its seconds, [`parts`],
//! [`result`], [`versions`], [`ssh`] and [`histograms`] what it came to, [`keeper`], [`recorder`] and [`hlog`] what it leaves on
//! disk, [`store`] what is kept of it; beside it [`breaker`] what spares a target that is not well,
//! [`observe`] the target's own figures, [`marks`] named moments, [`disruption`] what streams lose at once around them,
//! [`failures`] what the log says of streams.

pub mod breaker;
pub mod calibration;
pub mod disruption;
pub mod failures;
pub mod fit;
pub mod fleet;
pub mod histograms;
pub mod hlog;
pub mod judge;
pub mod keeper;
pub mod marks;
pub mod observe;
pub mod parts;
pub mod pauses;
pub mod plan;
pub mod recorder;
pub mod result;
pub mod rows;
pub mod saturation;
pub mod series;
pub mod ssh;
pub mod store;
pub mod supervisor;
pub mod targets;
pub mod versions;
pub mod workers;
