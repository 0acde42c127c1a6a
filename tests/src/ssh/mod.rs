//! SSH servers by others: a [`Site`] has keys and a user made for the test, and starts each server
//! on a free port of 127.0.0.1. [`client`] is OpenSSH's own; [`wrong`] has servers that misbehave.
//!
//! The user exists for the servers alone: they are given a list of users of their own by
//! `nss_wrapper`, in which `loadtest` is another name of whoever runs the tests. So nothing on the
//! host is changed, no login of it is open to anybody, and root is not needed.

pub mod client;
pub mod servers;
pub mod site;
pub mod wrong;

pub use servers::Server;
pub use site::{Key, Kind, Known, PASSWORD, Site, USER};
