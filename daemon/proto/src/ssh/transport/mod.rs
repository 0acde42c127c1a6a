//! The transport: identification, key exchange and packets of one connection, both roles.
//!
//! [`Transport::next`] takes packets from the front of what came in, answers what is the transport's own,
//! and hands on the others' payloads where they lie. [`Transport::seal_in_place`] makes a packet around a
//! payload where it will be sent from, [`Transport::seal_payload`] at the end of a vector.
//!
//! Holds always: from this side's KEXINIT to its NEWKEYS nothing of the layer above goes (RFC 4253 §7.1):
//! what is given to `seal_payload` waits, at most [`WAITING_BYTES_MAX`]. A sequence number is used once
//! under a key. This side asks for new keys only once the user is authenticated.
//!
//! Elsewhere: what payloads mean (`session`), whom to believe ([`super::keys`]), the bytes of an
//! incomplete packet (the caller).

mod cipher;
mod exchange;
mod extensions;
mod handshake;
mod identification;
mod negotiate;
mod packet;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

pub use extensions::SignatureAlgorithms;
use handshake::Exchange;
use identification::Greeting;
use packet::{Incoming, Outgoing};

use super::wire::{Reader, Write, words};
use super::{ClientConfig, Negotiated, Random, ServerConfig, message};
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

/// Which side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client = 0,
    Server = 1,
}

impl Role {
    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A side with what it goes by.
#[derive(Debug)]
enum Side {
    Client { config: Arc<ClientConfig>, host: Arc<str>, port: u16 },
    Server(Arc<ServerConfig>),
}

impl Side {
    const fn role(&self) -> Role {
        match self {
            Self::Client { .. } => Role::Client,
            Self::Server(_) => Role::Server,
        }
    }

    fn bytes_before_rekey(&self) -> u64 {
        match self {
            Self::Client { config, .. } => config.rekey.bytes,
            Self::Server(config) => config.rekey.bytes,
        }
    }
}

/// Whose a packet was.
enum Taken {
    /// The transport's.
    Here,
    /// The layer above's.
    Above,
    /// The last of a key exchange.
    Keys { again: bool },
}

const OVER: Fault = Fault::SshProtocol("the connection is over");

/// One side of a connection.
#[derive(Debug)]
pub struct Transport {
    side: Side,
    /// Empty until it has come.
    peer_identification: Box<str>,
    greeting: Greeting,
    outgoing: Outgoing,
    incoming: Incoming,
    /// Both sides keep strict key exchange.
    strict: bool,
    session_id: [u8; 32],
    /// Of the keys that this side seals with.
    negotiated: Option<Negotiated>,
    server_sig_algs: Option<SignatureAlgorithms>,
    /// Until the first keys, and while they are exchanged again.
    exchange: Option<Box<Exchange>>,
    /// The user is, so that new keys may be asked for: OpenSSH's server takes no KEXINIT before.
    authenticated: bool,
    /// A fault or a DISCONNECT has ended it: nothing more is taken.
    over: bool,
}

impl Transport {
    /// The side that connects to a server known as `host` and `port`.
    pub fn client(config: Arc<ClientConfig>, host: Arc<str>, port: u16) -> Self {
        Self::new(Side::Client { config, host, port })
    }

    /// The side that accepts.
    pub fn server(config: Arc<ServerConfig>) -> Self {
        Self::new(Side::Server(config))
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            peer_identification: Box::default(),
            greeting: Greeting::default(),
            outgoing: Outgoing::new(),
            incoming: Incoming::new(),
            strict: false,
            session_id: [0; 32],
            negotiated: None,
            server_sig_algs: None,
            exchange: Some(Exchange::new()),
            authenticated: false,
            over: false,
        }
    }

    /// Appends this side's identification and KEXINIT. Comes before all else, once.
    ///
    /// # Errors
    /// `SshKex` where nothing can be offered.
    pub fn start(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.extend_from_slice(identification::OURS.as_bytes());
        out.extend_from_slice(b"\r\n");
        self.begin(random, out)
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
        if self.over {
            return Err(OVER);
        }
        self.advance(input, random, out).inspect_err(|fault| self.say_why(fault, random, out))
    }

    #[inline]
    fn advance(
        &mut self,
        input: &mut [u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Step), Fault> {
        if self.peer_identification.is_empty() {
            return self.identify(input);
        }
        let mut consumed = 0;
        loop {
            if self.wants_rekey() {
                self.begin(random, out)?;
            }
            let Some(opened) = self.incoming.open(&mut input[consumed..])? else {
                return Ok((consumed, Step::Incomplete));
            };
            let payload = consumed + opened.payload.start..consumed + opened.payload.end;
            consumed += opened.bytes;
            match self.take(&input[payload.clone()], random, out)? {
                Taken::Here => {}
                Taken::Above => return Ok((consumed, Step::Payload(payload))),
                Taken::Keys { again } => return Ok((consumed, Step::KeysExchanged { again })),
            }
        }
    }

    fn identify(&mut self, input: &[u8]) -> Result<(usize, Step), Fault> {
        let may_greet = self.side.role() == Role::Client;
        let (consumed, line) = self.greeting.read(input, may_greet)?;
        let Some(line) = line else { return Ok((consumed, Step::Incomplete)) };
        self.peer_identification = line.into();
        Ok((consumed, Step::Identified))
    }

    const fn may_rekey(&self) -> bool {
        self.exchange.is_none() && self.authenticated
    }

    /// Takes the payload of one packet, by its number (RFC 4250 §4.1.1).
    #[inline]
    fn take(&mut self, payload: &[u8], random: Random<'_>, out: &mut Vec<u8>) -> Result<Taken, Fault> {
        let number = payload[0];
        if self.exchange.is_some() {
            self.allows(number)?;
        }
        match number {
            message::SERVICE_REQUEST | message::SERVICE_ACCEPT | 50.. => {
                self.authenticated |= number == message::USERAUTH_SUCCESS;
                return Ok(Taken::Above);
            }
            message::DISCONNECT => return Err(disconnected(payload)),
            message::IGNORE | message::DEBUG | message::UNIMPLEMENTED => {}
            message::EXT_INFO => {
                let algorithms = extensions::read(payload)?;
                self.server_sig_algs = algorithms.or(self.server_sig_algs);
            }
            message::KEXINIT => self.on_kexinit(payload, random, out)?,
            message::NEWKEYS => {
                let again = self.incoming.has_keys();
                self.on_newkeys()?;
                return Ok(Taken::Keys { again });
            }
            30..=49 => self.on_method(payload, random, out)?,
            _ => self.unimplemented(random, out)?,
        }
        Ok(Taken::Here)
    }

    /// Whether a message may come while keys are exchanged: from the peer's KEXINIT to its NEWKEYS nothing
    /// of the layer above (RFC 4253 §7.1), before the first keys nothing but their exchange, and under
    /// strict key exchange nothing else that could be left out of it unseen.
    fn allows(&self, number: u8) -> Result<(), Fault> {
        let first = !self.incoming.has_keys();
        let peer_exchanges = self.exchange.as_ref().is_some_and(|exchange| exchange.peer_exchanges());
        match number {
            message::DISCONNECT | message::KEXINIT | message::NEWKEYS | 30..=49 => Ok(()),
            message::SERVICE_REQUEST | message::SERVICE_ACCEPT | 50.. if first || peer_exchanges => {
                Err(Fault::SshProtocol("a message that has to wait for new keys does not"))
            }
            message::EXT_INFO if first => Err(Fault::SshProtocol("EXT_INFO comes before the first keys")),
            _ if first && self.strict => Err(Fault::SshProtocol(
                "strict key exchange does not allow this message before the first keys",
            )),
            _ => Ok(()),
        }
    }

    /// Says DISCONNECT for a fault of the layer above; those of [`Self::next`] are told by themselves.
    pub fn say_why(&mut self, fault: &Fault, random: Random<'_>, out: &mut Vec<u8>) {
        match message::reason(fault) {
            // Keys that are used up cannot say even this.
            Some((code, words)) => drop(self.disconnect(code, words, random, out)),
            None => self.over = true,
        }
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
        if self.wants_rekey() {
            self.begin(random, out)?;
        }
        self.authenticated |= payload.first() == Some(&message::USERAUTH_SUCCESS);
        match &mut self.exchange {
            Some(exchange) if !exchange.sealing_is_new => exchange.wait(payload),
            _ => self.outgoing.append(payload, random, out),
        }
    }

    /// Writes a packet to the front of `out`, its payload's `payload_bytes` by `fill`, and returns its bytes:
    /// [`Self::sealed_bytes`], which `out` has room for. Not while [`Self::is_exchanging`], and no packet above
    /// [`PACKET_BYTES_MAX`](super::PACKET_BYTES_MAX).
    ///
    /// # Errors
    /// `SshProtocol` where the keys are used up.
    #[inline]
    pub fn seal_in_place(
        &mut self,
        out: &mut [u8],
        payload_bytes: usize,
        random: Random<'_>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<usize, Fault> {
        assert!(!self.is_exchanging(), "no data goes while keys are exchanged");
        self.outgoing.seal(out, payload_bytes, random, fill)
    }

    /// Bytes of a packet with `payload_bytes`, exactly, under this side's keys.
    #[inline]
    pub fn sealed_bytes(&self, payload_bytes: usize) -> usize {
        self.outgoing.packet_bytes(payload_bytes)
    }

    /// Says UNIMPLEMENTED about the packet whose payload was handed on last (RFC 4253 §11.4).
    ///
    /// # Errors
    /// See [`Self::seal_payload`].
    pub fn unimplemented(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut payload = vec![message::UNIMPLEMENTED];
        payload.put_uint32(self.incoming.last_sequence());
        self.outgoing.append(&payload, random, out)
    }

    /// Asks for new keys, where none are being exchanged; before USERAUTH_SUCCESS has gone it does nothing.
    ///
    /// # Errors
    /// See [`Self::seal_payload`].
    pub fn request_rekey(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.may_rekey() { self.begin(random, out) } else { Ok(()) }
    }

    /// Whether it is time for [`Self::request_rekey`]. [`Self::next`] and [`Self::seal_payload`] see to it by
    /// themselves; who seals in place only asks.
    #[inline]
    pub fn wants_rekey(&self) -> bool {
        let bytes = self.side.bytes_before_rekey();
        self.may_rekey() && (self.outgoing.wants_keys(bytes) || self.incoming.wants_keys(bytes))
    }

    /// Ends the connection: DISCONNECT with a reason of RFC 4253 §11.1, where it has not ended yet and the
    /// peer has shown that it speaks SSH.
    ///
    /// # Errors
    /// `SshProtocol` where the keys are used up.
    pub fn disconnect(
        &mut self,
        code: u32,
        description: &str,
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if std::mem::replace(&mut self.over, true) || self.peer_identification.is_empty() {
            return Ok(());
        }
        let mut payload = vec![message::DISCONNECT];
        payload.put_uint32(code);
        payload.put_string(description);
        payload.put_string("");
        self.outgoing.append(&payload, random, out)
    }

    /// Whether nothing of the layer above may go: before the first keys, and from this side's KEXINIT to
    /// its NEWKEYS.
    #[inline]
    pub fn is_exchanging(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| !exchange.sealing_is_new)
    }

    /// The peer's identification line, without its end; empty before [`Step::Identified`].
    pub fn peer_identification(&self) -> &str {
        &self.peer_identification
    }

    /// The exchange hash of the first key exchange (RFC 4253 §7.2); zeroes before.
    pub const fn session_id(&self) -> &[u8; 32] {
        &self.session_id
    }

    /// What was settled on last.
    pub const fn negotiated(&self) -> Option<Negotiated> {
        self.negotiated
    }

    /// What a client's server takes, once it has said so.
    pub const fn server_sig_algs(&self) -> Option<SignatureAlgorithms> {
        self.server_sig_algs
    }
}

/// The peer's DISCONNECT.
fn disconnected(payload: &[u8]) -> Fault {
    let read = || {
        let mut reader = Reader::new(payload);
        reader.byte()?;
        let (code, description) = (reader.uint32()?, words(reader.string()?));
        Ok(Fault::SshDisconnected { code, description })
    };
    read().unwrap_or_else(|fault| fault)
}
