//! How SSH streams are opened and left.

use std::sync::Arc;

use scale_proto::ssh::{ClientConfig, Login, Purpose};

/// What a group's SSH streams have in common.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// Algorithms, host keys, limits.
    pub config: Arc<ClientConfig>,
    /// Streams that share a connection; at least 1.
    pub channels_per_connection: u32,
    /// At its end a stream's program gets HUP, as from a client that goes away, rather than EOF.
    pub hang_up: bool,
    /// New keys are asked for when they are so old.
    pub rekey_ns: u64,
}

impl Ssh {
    /// New keys are asked for after an hour (RFC 4253 §9).
    pub const REKEY_NS: u64 = 3_600_000_000_000;
    /// A channel's window: bytes that a server may send before it has to wait for us.
    pub const WINDOW_BYTES: u32 = 1 << 20;
}

/// Whom a row's streams log in to, as whom, and for what.
#[derive(Debug)]
pub struct SshEndpoint {
    /// The name or address that the host's key is known by.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Who logs in.
    pub login: Arc<Login>,
    /// What each channel is for.
    pub purpose: Arc<Purpose>,
}
