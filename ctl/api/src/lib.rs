//! The words that `scaled` and `scalectl` share: the bottom of the project, and small.
//!
//! - [`units`]: sizes, rates, durations: parse, print, exact arithmetic.
//! - [`spec`]: a run as the user writes it, on the command line or in a run file.
//! - [`target`]: a target's URL.
//! - [`report`]: what comes back while a run goes, and at its end.
//! - [`disruption`]: what streams lost at once, and how they came back.
//! - [`threshold`]: what a run is judged by.
//! - [`typed`]: terminals and apps of Coder as load.
//! - [`calibration`]: what a host was found to offer.
//! - [`coder`]: what Coder's flows are asked and what they answer.
//! - [`scenario`]: workspaces, a quiet time, groups of traffic and clean-up as one run.
//! - [`private`]: files that hold a secret, and bytes that are wiped.
//! - [`token`]: where a deployment's token comes from.
//! - [`page`]: where a page takes its data.
//! - [`http`]: the control API's paths, bodies and problem codes, without the socket.

pub mod calibration;
pub mod coder;
pub mod disruption;
pub mod heat;
pub mod http;
pub mod page;
pub mod private;
pub mod report;
pub mod scenario;
pub mod spec;
pub mod target;
pub mod threshold;
pub mod token;
pub mod typed;
pub mod units;
