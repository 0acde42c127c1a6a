//! SSH 2 without I/O: one connection, its keys and its channels, both roles.
//!
//! Bytes, randomness and the caller's payload go in; sealed packets and events come out. Packets are
//! opened where they lie and sealed where they will be sent from; between packets a connection keeps
//! two keys and its channels, no buffer.
//!
//! - [`keys`]: private keys, host keys, certificates, `known_hosts`.
//! - [`transport`]: identification, key exchange, packets (RFC 4253, 5647, 5656, 8308, 8731).
//! - `auth`: authentication (RFC 4252, 4256).
//! - `channel`: channels and their windows (RFC 4254).
//! - `connection`: a transport with channels over it; [`Client`], [`Server`]: a whole side.
//!
//! Holds always: while keys are exchanged no data goes (RFC 4253 §7.1); every length is checked before
//! it is used; a sequence number is used once under a key.
//!
//! Elsewhere: sockets, deadlines, pacing (`scaled`), and the bytes of an incomplete packet, which the
//! caller keeps.

pub mod keys;
pub mod transport;

mod auth;
mod channel;
mod client;
mod connection;
mod message;
mod server;
#[cfg(test)]
mod tests;
pub mod wire;

use std::sync::Arc;

pub use channel::CHANNELS_MAX;
pub use client::{Client, ClientConfig, Credential, Login};
pub use server::{Server, ServerConfig};

/// Bytes of a packet, its length field left out, that are taken (RFC 4253 §6.1).
pub const PACKET_BYTES_MAX: usize = 35_000;
/// Bytes of an identification line (RFC 4253 §4.2).
pub const IDENTIFICATION_BYTES_MAX: usize = 255;
/// Bytes of everything that a server may say before its identification.
pub const GREETING_BYTES_MAX: usize = 64 << 10;
/// What is kept of a peer's descriptions and banners, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 256;

/// Randomness for cookies and padding: uniform words. Keys come from the cryptographic library.
pub type Random<'a> = &'a mut dyn FnMut() -> u64;

/// What one side offers, in order of preference. Names as on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms {
    /// Key exchange.
    pub kex: Vec<&'static str>,
    /// Of host keys.
    pub host_keys: Vec<&'static str>,
    /// Both directions'.
    pub ciphers: Vec<&'static str>,
    /// Both directions', for ciphers that need one.
    pub macs: Vec<&'static str>,
}

impl Algorithms {
    /// Every key exchange, cheapest first.
    pub const KEX: [&'static str; 4] =
        ["curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "mlkem768x25519-sha256"];
    /// Every cipher, cheapest first.
    pub const CIPHERS: [&'static str; 5] = [
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes128-ctr",
        "aes256-ctr",
    ];
    /// Every MAC; those that authenticate what is encrypted come first.
    pub const MACS: [&'static str; 4] =
        ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512"];
    /// Every kind of host key, certificates last.
    pub const HOST_KEYS: [&'static str; 8] = [
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "rsa-sha2-256",
        "rsa-sha2-512",
        "ssh-ed25519-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "rsa-sha2-256-cert-v01@openssh.com",
        "rsa-sha2-512-cert-v01@openssh.com",
    ];
}

impl Default for Algorithms {
    fn default() -> Self {
        Self {
            kex: Self::KEX.to_vec(),
            host_keys: Self::HOST_KEYS.to_vec(),
            ciphers: Self::CIPHERS.to_vec(),
            macs: Self::MACS.to_vec(),
        }
    }
}

/// What both sides settled on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Negotiated {
    /// Key exchange.
    pub kex: &'static str,
    /// Of the host key's signature.
    pub host_key: &'static str,
    /// Of what this side sends.
    pub cipher: &'static str,
    /// `implicit` where the cipher authenticates.
    pub mac: &'static str,
    /// Both sides keep strict key exchange (no Terrapin).
    pub strict: bool,
}

/// When this side asks for new keys, beside the limits of the cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RekeyLimit {
    /// Bytes on the wire in either direction.
    pub bytes: u64,
}

impl Default for RekeyLimit {
    /// RFC 4253 §9: a gigabyte.
    fn default() -> Self {
        Self { bytes: 1 << 30 }
    }
}

/// A channel, by this side's number.
pub type ChannelId = u32;

/// What a channel is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// A session with a program.
    Session {
        /// Sent before the program is started; what the server refuses of it is no failure.
        environment: Vec<(String, String)>,
        /// A terminal.
        pty: Option<Pty>,
        /// What is run.
        program: Program,
    },
    /// TCP through the server: `direct-tcpip`, RFC 4254 §7.2.
    Forward {
        /// A name or an address that the server reaches.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// What a session runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// `exec`.
    Exec(String),
    /// `shell`.
    Shell,
}

/// A terminal's kind and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pty {
    /// TERM.
    pub term: String,
    /// Columns.
    pub columns: u32,
    /// Rows.
    pub rows: u32,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With a status.
    Status(u32),
    /// By a signal, without `SIG`.
    Signal(String),
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The peer's identification line, without its end.
    Identified(&'a str),
    /// The first keys are in use.
    KeysExchanged(Negotiated),
    /// A client: the server has taken a credential. A server: the client has one.
    Authenticated,
    /// A server: a channel was opened, and its program asked for.
    Requested {
        /// Which.
        channel: ChannelId,
        /// What for.
        purpose: Arc<Purpose>,
    },
    /// A client: the channel is open and its program was started.
    Opened(ChannelId),
    /// A client: the channel, or its program, was refused; it is gone.
    Refused {
        /// Which.
        channel: ChannelId,
        /// RFC 4254 §5.1; `None`: the channel was opened and its request refused.
        code: Option<u32>,
        /// The peer's words.
        description: &'a str,
    },
    /// Bytes of a channel.
    Data {
        /// Which.
        channel: ChannelId,
        /// What; counted against the window that the peer has, which grows again by itself.
        bytes: &'a [u8],
    },
    /// Standard error's bytes.
    ExtendedData {
        /// Which.
        channel: ChannelId,
        /// What.
        bytes: &'a [u8],
    },
    /// The program has ended; at most once a channel.
    Exited {
        /// Which.
        channel: ChannelId,
        /// How.
        exit: Exit,
    },
    /// The peer sends no more on this channel.
    Ended(ChannelId),
    /// Both sides have closed the channel, or the peer has and this side's answer is in `out`; it is gone.
    Closed(ChannelId),
}

/// What an input came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes that are done with; the rest is an incomplete packet.
    pub consumed: usize,
}
