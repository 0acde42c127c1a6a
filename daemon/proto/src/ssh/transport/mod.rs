//! The transport: identification, key exchange and packets of one connection, both roles.
//!
//! [`Transport::next`] takes packets from the front of what came in, answers what is the transport's own,
//! and hands on the others' payloads where they lie. [`Transport::seal_in_place`] makes a packet around a
//! payload where it will be sent from, [`Transport::seal_payload`] at the end of a vector.
//!
//! Holds always: from this side's KEXINIT to its NEWKEYS nothing of the layer above goes (RFC 4253 §7.1):
//! what is given to `seal_payload` waits, at most [`WAITING_BYTES_MAX`]. A sequence number is used once
//! under a key.
//!
//! Elsewhere: what payloads mean (`session`), whom to believe ([`super::keys`]), the bytes of an
//! incomplete packet (the caller).

use std::ops::Range;
use std::sync::Arc;

use super::{ClientConfig, Negotiated, Random, ServerConfig};
use crate::Fault;

/// Payloads that wait for new keys, in bytes.
pub const WAITING_BYTES_MAX: usize = 256 << 10;

/// What the front of an input was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No whole packet: show the rest again with more bytes behind it.
    Incomplete,
    /// The peer has said who it is: [`Transport::peer_identification`].
    Identified,
    /// New keys are in use in both directions: [`Transport::negotiated`].
    KeysExchanged {
        /// It is not the first time.
        again: bool,
    },
    /// An opened payload for the layer above, never empty: where it lies in the input.
    Payload(Range<usize>),
}

/// Signature algorithms that a server takes for authentication (RFC 8308 §3.1), as far as they are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureAlgorithms(u8);

impl SignatureAlgorithms {
    /// Whether it takes `algorithm`: `ssh-ed25519`, `ecdsa-sha2-nistp256`, `rsa-sha2-256`, `rsa-sha2-512`.
    pub fn contains(self, algorithm: &str) -> bool {
        panic!("the shape comes first")
    }
}

/// One side of a connection.
#[derive(Debug)]
pub struct Transport {}

#[expect(unused_variables, clippy::needless_pass_by_value, reason = "the shape comes first")]
impl Transport {
    /// The side that connects to a server known as `host` and `port`.
    pub fn client(config: Arc<ClientConfig>, host: Arc<str>, port: u16) -> Self {
        panic!("the shape comes first")
    }

    /// The side that accepts.
    pub fn server(config: Arc<ServerConfig>) -> Self {
        panic!("the shape comes first")
    }

    /// Appends this side's identification and KEXINIT.
    ///
    /// # Errors
    /// `SshKex` where nothing can be offered.
    pub fn start(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        panic!("the shape comes first")
    }

    /// Takes packets from the front of `input`, opening them in place, until there is something to tell.
    /// Returns the bytes that are done with and what it was; a payload's range counts from `input`'s start.
    /// Answers are appended to `out`.
    ///
    /// # Errors
    /// What the peer did wrong, or its DISCONNECT; what is to be said about it is in `out`, and every
    /// further call fails.
    pub fn next(
        &mut self,
        input: &mut [u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Step), Fault> {
        panic!("the shape comes first")
    }

    /// Appends a packet with `payload` to `out`; while keys are exchanged, and before the first ones, it waits
    /// in here and goes after NEWKEYS.
    ///
    /// # Errors
    /// `SshProtocol`: more than [`WAITING_BYTES_MAX`] would wait, or the keys are used up.
    pub fn seal_payload(
        &mut self,
        payload: &[u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        panic!("the shape comes first")
    }

    /// Writes a packet to the front of `out`, its payload's `payload_bytes` by `fill`, and returns its bytes:
    /// [`Self::sealed_bytes`]. Not while [`Self::is_exchanging`].
    ///
    /// # Errors
    /// `SshProtocol` where the keys are used up.
    pub fn seal_in_place(
        &mut self,
        out: &mut [u8],
        payload_bytes: usize,
        random: Random<'_>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<usize, Fault> {
        panic!("the shape comes first")
    }

    /// Bytes of a packet with `payload_bytes`, exactly, under this side's keys.
    pub fn sealed_bytes(&self, payload_bytes: usize) -> usize {
        panic!("the shape comes first")
    }

    /// Says UNIMPLEMENTED about the packet whose payload was handed on last.
    ///
    /// # Errors
    /// See [`Self::seal_payload`].
    pub fn unimplemented(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        panic!("the shape comes first")
    }

    /// Asks for new keys, where none are being exchanged.
    ///
    /// # Errors
    /// See [`Self::seal_payload`].
    pub fn request_rekey(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        panic!("the shape comes first")
    }

    /// Ends the connection: DISCONNECT with a reason of RFC 4253 §11.1.
    ///
    /// # Errors
    /// See [`Self::seal_payload`].
    pub fn disconnect(
        &mut self,
        code: u32,
        description: &str,
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        panic!("the shape comes first")
    }

    /// Whether nothing of the layer above may go: before the first keys, and from this side's KEXINIT to
    /// its NEWKEYS.
    pub fn is_exchanging(&self) -> bool {
        panic!("the shape comes first")
    }

    /// The peer's identification line, without its end; empty before [`Step::Identified`].
    pub fn peer_identification(&self) -> &str {
        panic!("the shape comes first")
    }

    /// The exchange hash of the first key exchange (RFC 4253 §7.2); zeroes before.
    pub fn session_id(&self) -> &[u8; 32] {
        panic!("the shape comes first")
    }

    /// What was settled on last.
    pub fn negotiated(&self) -> Option<Negotiated> {
        panic!("the shape comes first")
    }

    /// What a client's server takes, once it has said so.
    pub fn server_sig_algs(&self) -> Option<SignatureAlgorithms> {
        panic!("the shape comes first")
    }
}
