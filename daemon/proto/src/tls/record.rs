//! TLS records after the handshake (RFC 8446 §5, RFC 5246 §6.2): sealed where they are written,
//! opened where they lie.
//!
//! rustls makes the handshake, hands over its keys and keeps what derives the next ones. Sealing
//! and opening in place saves a copy each way, and the memory of a second state machine
//! (docs/decisions/own-tls-records.md).
//!
//! Holds always: a nonce is used once (sequence numbers never repeat under a key); nothing that
//! does not authenticate comes out; handshake messages that come in pieces are kept up to
//! `HANDSHAKE_BYTES_MAX`.

#[cfg(test)]
mod tests;

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion};

use super::Received;
use crate::Fault;

/// Plain bytes of a record (RFC 8446 §5.1).
pub(super) const PLAIN_BYTES_MAX: usize = 16 << 10;
const HEADER_BYTES: usize = 5;
const TAG_BYTES: usize = 16;
/// AES-GCM in TLS 1.2 sends these of each nonce (RFC 5288 §3).
const EXPLICIT_NONCE_BYTES: usize = 8;
/// What sealing adds to a record at most.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + EXPLICIT_NONCE_BYTES + 1 + TAG_BYTES;
/// A sealed KeyUpdate (RFC 8446 §4.6.3).
pub(super) const KEY_UPDATE_BYTES: usize = KEY_UPDATE.len() + OVERHEAD_BYTES;
/// Handshake messages after the handshake are tickets and key updates: no more than this.
const HANDSHAKE_BYTES_MAX: usize = 128 << 10;
/// Records in a row that bring no application data: tickets, key updates, warnings, padding.
const EMPTY_RECORDS_MAX: u8 = 64;
/// Records sealed under one AES-GCM key, about what RFC 8446 §5.5 allows at full size, halved:
/// TLS 1.3 then changes the key, TLS 1.2 cannot and ends. ChaCha20-Poly1305 has no such limit.
const RECORDS_MAX: u64 = 1 << 23;
const RECORDS_MAX_TLS12_GCM: u64 = 1 << 24;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// TLS 1.2 on the wire, as every record after the handshake says.
const LEGACY_VERSION: [u8; 2] = [3, 3];

const HELLO_REQUEST: u8 = 0;
const NEW_SESSION_TICKET: u8 = 4;
const MESSAGE_KEY_UPDATE: u8 = 24;
const KEY_UPDATE: [u8; 5] = [MESSAGE_KEY_UPDATE, 0, 0, 1, 0];

const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// How nonces are made and what is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// RFC 8446 §5.2, any cipher.
    Tls13,
    /// RFC 5288 §3.
    Tls12Gcm,
    /// RFC 7905 §2.
    Tls12ChaCha,
}

impl Form {
    const fn explicit_nonce_bytes(self) -> usize {
        match self {
            Self::Tls12Gcm => EXPLICIT_NONCE_BYTES,
            Self::Tls13 | Self::Tls12ChaCha => 0,
        }
    }

    /// The type within the sealed part (RFC 8446 §5.2).
    const fn inner_type_bytes(self) -> usize {
        matches!(self, Self::Tls13) as usize
    }

    /// Sealed bytes of a record, without its header, that are taken (RFC 8446 §5.2, RFC 5246 §6.2.3).
    const fn sealed_bytes_max(self) -> usize {
        PLAIN_BYTES_MAX + if matches!(self, Self::Tls13) { 256 } else { 2048 }
    }

    /// Records sealed under one key.
    const fn records_max(self) -> u64 {
        match self {
            Self::Tls13 => RECORDS_MAX,
            Self::Tls12Gcm => RECORDS_MAX_TLS12_GCM,
            Self::Tls12ChaCha => u64::MAX,
        }
    }

    /// Bytes of the sealed part of a record with `plain_bytes`.
    const fn sealed_bytes(self, plain_bytes: usize) -> usize {
        self.explicit_nonce_bytes() + plain_bytes + self.inner_type_bytes() + TAG_BYTES
    }
}

/// One direction's key.
struct Half {
    key: LessSafeKey,
    iv: [u8; aead::NONCE_LEN],
    sequence: u64,
}

impl Half {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Fault> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
            _ => return Err(Fault::TlsProtocol("a cipher that is not known here".into())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unusable("its key"))?;
        let iv = iv.as_ref().try_into().map_err(|_| unusable("its nonce"))?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// RFC 8446 §5.3, RFC 7905 §2; AES-GCM in TLS 1.2 may choose so, too (RFC 5288 §3).
    #[inline]
    fn nonce(&self) -> [u8; aead::NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        nonce
    }
}

/// What is authenticated besides the plain bytes: a record's header, in TLS 1.2 behind its number.
#[derive(Clone, Copy)]
struct Additional {
    bytes: [u8; 13],
    from: usize,
}

impl Additional {
    #[inline]
    fn new(form: Form, sequence: u64, kind: u8, sealed_bytes: usize, plain_bytes: usize) -> Self {
        let mut bytes = [0; 13];
        bytes[..8].copy_from_slice(&sequence.to_be_bytes());
        bytes[8] = kind;
        bytes[9..11].copy_from_slice(&LEGACY_VERSION);
        let (from, length) = if form == Form::Tls13 { (8, sealed_bytes) } else { (0, plain_bytes) };
        bytes[11..].copy_from_slice(&(length as u16).to_be_bytes());
        Self { bytes, from }
    }
}

impl AsRef<[u8]> for Additional {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.from..]
    }
}

/// What derives further keys and takes tickets. TLS 1.2 does neither after its handshake.
enum Keeper {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
    Client12,
    Server12,
}

/// A connection's records.
pub(super) struct Records {
    form: Form,
    tx: Half,
    rx: Half,
    records_max: u64,
    peer_closed: bool,
    /// A fatal alert went or came (RFC 8446 §6.2).
    dead: bool,
    /// Records in a row without application data.
    empty: u8,
    /// Handshake messages that have come in part.
    handshake: Vec<u8>,
    keeper: Keeper,
}

pub(super) fn broken() -> Fault {
    Fault::TlsProtocol("it is broken already".into())
}

fn unusable(what: &str) -> Fault {
    Fault::TlsProtocol(format!("{what} cannot be used"))
}

impl Records {
    pub fn client(
        (secrets, kernel): (ExtractedSecrets, KernelConnection<ClientConnectionData>),
    ) -> Result<Self, Fault> {
        match kernel.protocol_version() {
            ProtocolVersion::TLSv1_3 => Self::new(secrets, Keeper::Client(Box::new(kernel))),
            _ => Self::new(secrets, Keeper::Client12),
        }
    }

    pub fn server(
        (secrets, kernel): (ExtractedSecrets, KernelConnection<ServerConnectionData>),
    ) -> Result<Self, Fault> {
        match kernel.protocol_version() {
            ProtocolVersion::TLSv1_3 => Self::new(secrets, Keeper::Server(Box::new(kernel))),
            _ => Self::new(secrets, Keeper::Server12),
        }
    }

    fn new(secrets: ExtractedSecrets, keeper: Keeper) -> Result<Self, Fault> {
        let chacha = matches!(secrets.tx.1, ConnectionTrafficSecrets::Chacha20Poly1305 { .. });
        let form = match keeper {
            Keeper::Client(_) | Keeper::Server(_) => Form::Tls13,
            Keeper::Client12 | Keeper::Server12 if chacha => Form::Tls12ChaCha,
            Keeper::Client12 | Keeper::Server12 => Form::Tls12Gcm,
        };
        Ok(Self {
            form,
            tx: Half::new(secrets.tx)?,
            rx: Half::new(secrets.rx)?,
            records_max: form.records_max(),
            peer_closed: false,
            dead: false,
            empty: 0,
            handshake: Vec::new(),
            keeper,
        })
    }

    pub const fn version(&self) -> ProtocolVersion {
        match self.form {
            Form::Tls13 => ProtocolVersion::TLSv1_3,
            Form::Tls12Gcm | Form::Tls12ChaCha => ProtocolVersion::TLSv1_2,
        }
    }

    /// Changes keys after so many records instead.
    #[cfg(test)]
    pub const fn set_records_max(&mut self, records: u64) {
        self.records_max = records;
    }

    /// One record of application data, `fill` writing its `plain_bytes`; before it a KeyUpdate where
    /// the key has served long enough. Returns the bytes written to the front of `out`.
    #[inline]
    pub fn seal(
        &mut self,
        out: &mut [u8],
        plain_bytes: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<usize, Fault> {
        if self.dead {
            return Err(broken());
        }
        let before = if self.tx.sequence >= self.records_max { self.change_key(out)? } else { 0 };
        Ok(before + self.seal_as(APPLICATION_DATA, &mut out[before..], plain_bytes, fill)?)
    }

    #[inline]
    fn seal_as(
        &mut self,
        kind: u8,
        out: &mut [u8],
        plain_bytes: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<usize, Fault> {
        assert!(plain_bytes <= PLAIN_BYTES_MAX, "more than a record holds");
        let (form, tx) = (self.form, &mut self.tx);
        let sealed_bytes = form.sealed_bytes(plain_bytes);
        let out = &mut out[..HEADER_BYTES + sealed_bytes];
        let (header, sealed) = out.split_at_mut(HEADER_BYTES);
        header[0] = if form == Form::Tls13 { APPLICATION_DATA } else { kind };
        header[1..3].copy_from_slice(&LEGACY_VERSION);
        header[3..].copy_from_slice(&(sealed_bytes as u16).to_be_bytes());
        let nonce = tx.nonce();
        let additional = Additional::new(form, tx.sequence, header[0], sealed_bytes, plain_bytes);
        let (explicit, sealed) = sealed.split_at_mut(form.explicit_nonce_bytes());
        explicit.copy_from_slice(&nonce[nonce.len() - explicit.len()..]);
        let (inner, tag) = sealed.split_at_mut(plain_bytes + form.inner_type_bytes());
        fill(&mut inner[..plain_bytes]);
        if form == Form::Tls13 {
            inner[plain_bytes] = kind;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let made = tx
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(additional), inner)
            .map_err(|_| Fault::TlsProtocol("cannot seal".into()))?;
        tag.copy_from_slice(made.as_ref());
        tx.sequence += 1;
        Ok(HEADER_BYTES + sealed_bytes)
    }

    /// Tells the peer that our key changes, and changes it (RFC 8446 §4.6.3).
    #[cold]
    fn change_key(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        if self.form != Form::Tls13 {
            return Err(Fault::TlsProtocol("its key is used up".into()));
        }
        let bytes =
            self.seal_as(HANDSHAKE, out, KEY_UPDATE.len(), |plain| plain.copy_from_slice(&KEY_UPDATE))?;
        let next = match &mut self.keeper {
            Keeper::Client(kernel) => kernel.update_tx_secret(),
            Keeper::Server(kernel) => kernel.update_tx_secret(),
            Keeper::Client12 | Keeper::Server12 => return Err(unusable("its key")),
        };
        self.tx = Half::new(next.map_err(|error| super::fault(&error))?)?;
        Ok(bytes)
    }

    fn change_peers_key(&mut self) -> Result<(), Fault> {
        let next = match &mut self.keeper {
            Keeper::Client(kernel) => kernel.update_rx_secret(),
            Keeper::Server(kernel) => kernel.update_rx_secret(),
            Keeper::Client12 | Keeper::Server12 => return Err(unusable("its key")),
        };
        self.rx = Half::new(next.map_err(|error| super::fault(&error))?)?;
        Ok(())
    }

    /// Appends an alert (RFC 8446 §6).
    pub fn alert(
        &mut self,
        level: u8,
        description: AlertDescription,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let alert = [level, description.into()];
        let from = out.len();
        out.resize(from + alert.len() + OVERHEAD_BYTES, 0);
        let bytes = self.seal_as(ALERT, &mut out[from..], alert.len(), |plain| plain.copy_from_slice(&alert));
        out.truncate(from + *bytes.as_ref().unwrap_or(&0));
        bytes.map(drop)
    }

    /// Appends close_notify.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.alert(WARNING, AlertDescription::CloseNotify, out)
    }

    /// See [`super::Tls::receive`].
    pub fn receive(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        plain: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<Received, Fault> {
        if self.dead {
            return Err(broken());
        }
        let mut received = Received::default();
        while !self.peer_closed
            && let Some(record) = self
                .next(&mut input[received.consumed..])
                .or_else(|(description, fault)| self.refuse(description, fault, out))?
        {
            received.consumed += record.bytes;
            if record.kind == APPLICATION_DATA && !record.plain.is_empty() && self.handshake.is_empty() {
                self.empty = 0;
                plain(record.plain)?;
            } else {
                self.rare(&record, out)
                    .or_else(|(description, fault)| self.refuse(description, fault, out))?;
            }
        }
        if self.peer_closed {
            // RFC 8446 §6.1: what comes behind close_notify is ignored.
            received.consumed = input.len();
            received.peer_closed = true;
        }
        Ok(received)
    }

    /// A record that is not application data, or should not be.
    #[cold]
    fn rare(&mut self, record: &Opened<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.empty += 1;
        if self.empty > EMPTY_RECORDS_MAX {
            return Err(refusal(AlertDescription::UnexpectedMessage, "records without data, without end"));
        }
        match record.kind {
            // RFC 8446 §5.1: the pieces of a handshake message follow each other.
            ALERT | APPLICATION_DATA if !self.handshake.is_empty() => {
                Err(refusal(AlertDescription::UnexpectedMessage, "a handshake message with something within"))
            }
            APPLICATION_DATA => Ok(()),
            ALERT => self.alerted(record.plain),
            HANDSHAKE if !record.plain.is_empty() => self.handshake(record.plain, out),
            _ => Err(refusal(AlertDescription::UnexpectedMessage, "a record of an unexpected type")),
        }
    }

    /// Appends the fatal alert that tells the peer why.
    #[cold]
    fn refuse<T>(
        &mut self,
        description: AlertDescription,
        fault: Fault,
        out: &mut Vec<u8>,
    ) -> Result<T, Fault> {
        if !self.dead {
            self.alert(FATAL, description, out)?;
            self.dead = true;
        }
        Err(fault)
    }

    /// Opens the record at the front of `input` in place, once it has come whole.
    #[inline]
    fn next<'a>(&mut self, input: &'a mut [u8]) -> Result<Option<Opened<'a>>, Refusal> {
        let Some(&[outer, _, _, high, low]) = input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let sealed_bytes = usize::from(u16::from_be_bytes([high, low]));
        let typed = if self.form == Form::Tls13 {
            outer == APPLICATION_DATA
        } else {
            (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&outer)
        };
        if !typed {
            return Err(refusal(AlertDescription::UnexpectedMessage, "a record of an unexpected type"));
        }
        if sealed_bytes > self.form.sealed_bytes_max() {
            return Err(refusal(AlertDescription::RecordOverflow, "a record is too long"));
        }
        let bytes = HEADER_BYTES + sealed_bytes;
        let Some(record) = input.get_mut(..bytes) else { return Ok(None) };
        let Some(inner) = self.open(outer, &mut record[HEADER_BYTES..]) else {
            return Err(refusal(AlertDescription::BadRecordMac, "a record that does not authenticate"));
        };
        if inner.len() > PLAIN_BYTES_MAX + self.form.inner_type_bytes() {
            return Err(refusal(AlertDescription::RecordOverflow, "a record is too long"));
        }
        if self.form != Form::Tls13 {
            return Ok(Some(Opened { kind: outer, plain: inner, bytes }));
        }
        // The type is the last byte that is not padding (RFC 8446 §5.4).
        match inner.iter().rposition(|&byte| byte != 0) {
            Some(end) => Ok(Some(Opened { kind: inner[end], plain: &inner[..end], bytes })),
            None => Err(refusal(AlertDescription::UnexpectedMessage, "a record of padding alone")),
        }
    }

    /// What was sealed; `None`: it does not authenticate.
    #[inline]
    fn open<'a>(&mut self, outer: u8, sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        let (form, rx) = (self.form, &mut self.rx);
        let sealed_bytes = sealed.len();
        let plain_bytes = sealed_bytes.checked_sub(form.explicit_nonce_bytes() + TAG_BYTES)?;
        let mut nonce = rx.nonce();
        let (explicit, sealed) = sealed.split_at_mut(form.explicit_nonce_bytes());
        let at = nonce.len() - explicit.len();
        nonce[at..].copy_from_slice(explicit);
        let additional = Additional::new(form, rx.sequence, outer, sealed_bytes, plain_bytes);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = &*rx.key.open_in_place(nonce, Aad::from(additional), sealed).ok()?;
        rx.sequence += 1;
        Some(plain)
    }

    fn alerted(&mut self, alert: &[u8]) -> Result<(), Refusal> {
        let &[level, description] = alert else {
            return Err(refusal(AlertDescription::DecodeError, "an alert has two bytes"));
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => self.peer_closed = true,
            AlertDescription::UserCanceled => {}
            _ if self.form != Form::Tls13 && level == WARNING => {}
            description => {
                // RFC 8446 §6.2: nothing may be sent in answer.
                self.dead = true;
                return Err((description, Fault::TlsAlert(format!("{description:?}"))));
            }
        }
        Ok(())
    }

    /// Tickets and key updates, however they are cut into records.
    fn handshake(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        if self.handshake.len() + piece.len() > HANDSHAKE_BYTES_MAX {
            return Err(refusal(AlertDescription::DecodeError, "a handshake message is too long"));
        }
        self.handshake.extend_from_slice(piece);
        let pending = std::mem::take(&mut self.handshake);
        let mut rest = pending.as_slice();
        while let &[kind, a, b, c, ref behind @ ..] = rest
            && let Some((body, behind)) = behind.split_at_checked(u32::from_be_bytes([0, a, b, c]) as usize)
        {
            rest = behind;
            self.message(kind, body, out)?;
            if kind == MESSAGE_KEY_UPDATE && !rest.is_empty() {
                // RFC 8446 §5.1: what follows a change of keys begins with a record of its own.
                return Err(refusal(AlertDescription::UnexpectedMessage, "a message behind a key update"));
            }
        }
        self.handshake = rest.to_vec(); // an idle stream keeps nothing: empty has no memory
        Ok(())
    }

    fn message(&mut self, kind: u8, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let internal = |fault| (AlertDescription::InternalError, fault);
        match (kind, &mut self.keeper) {
            (NEW_SESSION_TICKET, Keeper::Client(kernel)) => kernel
                .handle_new_session_ticket(body)
                .map_err(|error| (AlertDescription::DecodeError, super::fault(&error))),
            (MESSAGE_KEY_UPDATE, Keeper::Client(_) | Keeper::Server(_)) => {
                let asked = match body {
                    [0] => false,
                    [1] => true,
                    [_] => return Err(refusal(AlertDescription::IllegalParameter, "a key update is 0 or 1")),
                    _ => return Err(refusal(AlertDescription::DecodeError, "a key update has one byte")),
                };
                self.change_peers_key().map_err(internal)?;
                if asked {
                    let from = out.len();
                    out.resize(from + KEY_UPDATE_BYTES, 0);
                    let bytes = self.change_key(&mut out[from..]).map_err(internal)?;
                    out.truncate(from + bytes);
                }
                Ok(())
            }
            // A server that would negotiate again is told that we do not (RFC 5246 §7.2.2).
            (HELLO_REQUEST, Keeper::Client12) if body.is_empty() => {
                self.alert(WARNING, AlertDescription::NoRenegotiation, out).map_err(internal)
            }
            _ => {
                Err(refusal(AlertDescription::UnexpectedMessage, "a handshake message that was not expected"))
            }
        }
    }
}

/// What the peer did wrong, and the alert that says so.
type Refusal = (AlertDescription, Fault);

#[cold]
fn refusal(description: AlertDescription, what: &str) -> Refusal {
    (description, Fault::TlsProtocol(what.into()))
}

/// Bytes of the record at the front of `input`, once it has come whole.
pub(super) fn end(input: &[u8]) -> Option<usize> {
    let &[.., high, low] = input.first_chunk::<HEADER_BYTES>()?;
    let bytes = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    (input.len() >= bytes).then_some(bytes)
}

/// A record, opened.
struct Opened<'a> {
    kind: u8,
    plain: &'a [u8],
    /// Its bytes on the wire.
    bytes: usize,
}
