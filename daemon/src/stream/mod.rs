//! Connections and streams: layers stacked up, sends measured.
//!
//! - [`class`]: why something failed, and whose fault that is.
//! - [`meter`]: counters and histograms, keyed by group, stage and target.
//! - [`unanswered`]: messages whose echo is still to come.
//! - [`lost`], [`versions`]: what was under way when a connection was lost, and what came back.
//! - [`flow`]: one stream: its grid position, what it sent, what came back.
//! - [`stack`]: one connection: TCP, TLS, upgrade, websocket, and what goes out next.

pub mod class;
pub mod flow;
pub mod link;
pub mod lost;
pub mod meter;
pub mod stack;
pub mod unanswered;
pub mod versions;
