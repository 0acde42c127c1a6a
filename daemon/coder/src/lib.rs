//! Coder: its REST client, the flows that make, find and delete test workspaces, and their ledger.
//!
//! Runs on the daemon's control thread, in whatever tokio runtime calls it. In reading order:
//!
//! - [`names`]: what the things made here are called, and which names may be deleted at all.
//! - [`secret`], [`random`], [`time`]: tokens that never print; the one home of randomness and of clocks.
//! - [`version`]: which server speaks how, from v0.24 to today.
//! - [`class`], [`error`]: what went wrong, by class and in one sentence that says what to do.
//! - [`types`], [`config`], [`door`], [`client`], [`calls`]: the answers' shapes; what a client is made of; how many
//!   connections it may open; requests, retries and limits; one function a call.
//! - [`terminal`](self): one web terminal, read to its end.
//! - [`parameters`], [`preflight`]: everything that is refused before anything is made.
//! - [`ledger`]: one file a run that knows what was made, synced before each create.
//! - [`progress`], [`stop`]: plain counts while a flow goes; a signal that ends it.
//! - [`flows`]: users, workspaces, a command in each, finding them, and clean-up in two steps.
//!
//! Holds always: nothing is created that the ledger does not name first; nothing is deleted that does not
//! bear the prefix; no secret is printed; a flow whose future is dropped at any moment leaves a ledger from
//! which clean-up finds what was made, and what still comes true of the creates that were sent by then.
//!
//! Elsewhere: terminals under load (`scale-proto`), which addresses may be hit and when flows run (`scaled`).

pub mod calls;
pub mod class;
pub mod client;
pub mod config;
pub mod door;
pub mod error;
pub mod flows;
pub mod ledger;
pub mod names;
pub mod parameters;
pub mod preflight;
pub mod progress;
pub mod random;
pub mod secret;
pub mod stop;
mod terminal;
pub mod time;
pub mod types;
pub mod version;
