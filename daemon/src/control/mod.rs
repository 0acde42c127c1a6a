//! HTTP over the Unix socket, and the metrics listener: decode, answer, log who changed what.
//!
//! - [`server`]: sockets and requests. [`live`]: what open pages are told. [`source`]: reports on their way out.
//! - [`doctor`]: is this host fit.
//! - [`resolve`]: names and plans, on threads of their own.
//! - [`observe`]: asks a Prometheus for the target's own figures.
//! - [`coder`]: Coder's flows: looked at, begun, followed.
//! - [`service`]: ready, reload, watchdog, end; what the service manager is told.
//! - [`state`]: the daemon's one piece of state: the run that is going and what is kept.

pub mod caller;
pub mod coder;
pub mod doctor;
pub mod live;
mod observe;
pub mod resolve;
pub mod server;
pub mod service;
pub mod source;
pub mod state;
