//! Protocols without I/O: bytes and randomness go in, bytes and events come out.
//!
//! Nothing here owns a socket, a thread or a clock. A protocol is one folder:
//!
//! - [`coder`]: the web terminal of Coder, both roles.
//! - [`http`]: the HTTP/1.1 upgrade, both roles.
//! - [`ssh`]: SSH 2 connections and their channels, RFC 4251 to 4254, both roles.
//! - [`tls`]: TLS 1.2 and 1.3 over rustls' unbuffered API, decrypting in place.
//! - [`ws`]: websocket frames and sessions, RFC 6455, both roles.
//!
//! Elsewhere: deadlines and pacing (`scaled`), sockets and memory (`scale-ring`).

pub mod coder;
pub mod fault;
pub mod http;
pub mod ssh;
pub mod tls;
pub mod ws;

pub use fault::Fault;
