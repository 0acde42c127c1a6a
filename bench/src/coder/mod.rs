//! A stand-in for a Coder deployment: what a client of one sees, without Coder.
//!
//! The [`Deployment`] is a state machine: requests and time go in, responses come out. A simulator can
//! run it; [`serve`] runs it on a socket. It is faithful where clients stumble: both create routes, old
//! and new bodies, 404 for what is forbidden, 409, 410 and 417, `//`, rate limits old and new, builds
//! that queue, agents that come late, pings and close codes by version. docs/coder/stand-in.md says what
//! it does not imitate.
//!
//! In the order of a request: [`message`], `routes`, `access`, `limits`; then by subject `users`,
//! `tokens`, `organizations`, `templates`, `workspaces`, `builds` with their `provisioner` and `logs`,
//! `agents`, `apps`; then what a 101 leads to: [`socket`], [`terminal`]; and who serves it, until that breaks: [`replicas`].

mod access;
mod agents;
mod apps;
mod builds;
mod clock;
pub mod command;
pub mod deployment;
pub mod faults;
mod limits;
mod logs;
pub mod message;
mod misc;
mod organizations;
mod provisioner;
pub mod replicas;
mod routes;
mod search;
pub mod seen;
pub mod serve;
pub mod settings;
pub mod socket;
mod state;
mod templates;
pub mod terminal;
mod tokens;
mod upgrade;
mod users;
pub mod version;
mod view;
mod workspaces;

#[cfg(test)]
mod tests;

pub use deployment::Deployment;
pub use faults::Faults;
pub use settings::Settings;
pub use version::Version;
