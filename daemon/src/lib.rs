//! `scaled`: a paced traffic generator, one pinned thread and one io_uring per core.
//!
//! The modules in reading order; each imports only from those after it:
//!
//! - [`control`]: HTTP over the Unix socket; the metrics listener.
//! - [`page`]: a report, a going run, a comparison as one HTML file.
//! - [`metrics`]: what Prometheus reads.
//! - [`run`]: the life of one run: plan, supervision, report.
//! - [`worker`]: one thread on one core.
//! - [`stream`]: connections and streams: layers, sends measured.
//! - [`load`]: what to send and when. [`log`]: the daemon's log. [`settings`]: its own file and flags.

pub mod control;
pub mod load;
pub mod log;
pub mod metrics;
pub mod page;
pub mod run;
pub mod settings;
pub mod stream;
pub mod worker;
