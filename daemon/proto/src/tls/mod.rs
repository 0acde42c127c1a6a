//! TLS 1.2 and 1.3: rustls' unbuffered API makes the handshake, our own records follow it. A session
//! keeps no buffers of its own.
//!
//! Elsewhere: sockets; the bytes of an incomplete record, which the caller keeps.

mod config;
mod record;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, ServerConfig};

pub use config::{ClientSettings, ConfigError, client_config, native_roots, server_config};

use crate::Fault;
use record::Records;

/// One side of a TLS connection.
pub struct Tls {
    stage: Stage,
    resumed: bool,
}

#[expect(clippy::large_enum_variant, reason = "the large one is the usual one; boxed where it is kept")]
enum Stage {
    /// Boxed: its memory goes with the handshake.
    Handshake(Box<Side>),
    Open(Records),
    /// What broke it has been said; nothing more comes or goes.
    Broken,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("established", &self.is_established()).finish_non_exhaustive()
    }
}

/// What an input came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes that are done with; the rest is an incomplete record.
    pub consumed: usize,
    /// The handshake finished with this input.
    pub established_now: bool,
    /// close_notify came: the peer will send no more.
    pub peer_closed: bool,
}

/// Runs the handshake until it waits for input; true where it has finished. `$connection` has both
/// roles' type.
macro_rules! drive {
    ($connection:expr, $input:expr, $out:expr, $received:expr) => {
        loop {
            let UnbufferedStatus { discard, state, .. } =
                $connection.process_tls_records(&mut $input[$received.consumed..]);
            let mut waits = None;
            let result = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode($out, |out| data.encode(out)),
                Ok(ConnectionState::TransmitTlsData(transmit)) => {
                    transmit.done();
                    Ok(())
                }
                Ok(ConnectionState::PeerClosed) => {
                    $received.peer_closed = true;
                    Ok(())
                }
                Ok(ConnectionState::WriteTraffic(_)) => {
                    waits = Some(true);
                    Ok(())
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    waits = Some(false);
                    Ok(())
                }
                Ok(_) => Err(Fault::TlsProtocol("data before the handshake's end".into())),
                Err(error) => Err(fault(&error)),
            };
            $received.consumed += discard;
            if let Err(fault) = result {
                // The alert that tells the peer why.
                while $connection.wants_write() {
                    match $connection.process_tls_records(&mut []).state {
                        Ok(ConnectionState::EncodeTlsData(mut data)) => encode($out, |out| data.encode(out))?,
                        _ => break,
                    }
                }
                return Err(fault);
            }
            if let Some(finished) = waits {
                break finished;
            }
        }
    };
}

impl Side {
    /// Runs the handshake over `input`; true where it has finished.
    fn receive(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        received: &mut Received,
    ) -> Result<bool, Fault> {
        Ok(match self {
            Self::Client(connection) => drive!(connection, input, out, received),
            Self::Server(connection) => drive!(connection, input, out, received),
        })
    }

    fn is_resumed(&self) -> bool {
        let kind = match self {
            Self::Client(connection) => connection.handshake_kind(),
            Self::Server(connection) => connection.handshake_kind(),
        };
        kind == Some(rustls::HandshakeKind::Resumed)
    }

    fn into_records(self) -> Result<Records, Fault> {
        let cannot = |error| fault(&error);
        match self {
            Self::Client(side) => Records::client(side.dangerous_into_kernel_connection().map_err(cannot)?),
            Self::Server(side) => Records::server(side.dangerous_into_kernel_connection().map_err(cannot)?),
        }
    }
}

impl Tls {
    /// The most plain bytes of one record.
    pub const RECORD_PLAIN_BYTES_MAX: usize = record::PLAIN_BYTES_MAX;

    /// The side that connects.
    ///
    /// # Errors
    /// `TlsProtocol` where the settings cannot be used.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Fault> {
        let client = UnbufferedClientConnection::new(config, name).map_err(|error| fault(&error))?;
        Ok(Self { stage: Stage::Handshake(Box::new(Side::Client(client))), resumed: false })
    }

    /// The side that accepts.
    ///
    /// # Errors
    /// `TlsProtocol` where the settings cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Fault> {
        let server = UnbufferedServerConnection::new(config).map_err(|error| fault(&error))?;
        Ok(Self { stage: Stage::Handshake(Box::new(Side::Server(server))), resumed: false })
    }

    /// Appends what this side says first: a client its hello, a server nothing.
    ///
    /// # Errors
    /// `TlsProtocol` where no hello can be made.
    pub fn start(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.receive(&mut [], out, &mut |_| Ok(())).map(|_| ())
    }

    /// Takes whole records from the front of `input`; `plain` gets what they held. What is to be
    /// sent in answer is appended to `out`. `input[consumed..]` is an incomplete record, to be
    /// shown again with more bytes behind it.
    ///
    /// # Errors
    /// What the peer did wrong, or what `plain` says; the alert to send is in `out`.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        plain: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<Received, Fault> {
        let side = match &mut self.stage {
            Stage::Open(records) => return records.receive(input, out, plain),
            Stage::Handshake(side) => side,
            Stage::Broken => return Err(record::broken()),
        };
        let mut received = Received::default();
        // Shown a record at a time: what lies behind the handshake's last one is not for rustls, which
        // would answer a key update there under keys that it has handed over by then.
        let mut shown = 0;
        let finished = loop {
            shown = record::end(&input[shown..]).map_or(input.len(), |bytes| shown + bytes);
            if side.receive(&mut input[..shown], out, &mut received)? {
                break true;
            }
            if shown == input.len() {
                break false;
            }
        };
        if finished {
            self.resumed = side.is_resumed();
            if let Stage::Handshake(side) = std::mem::replace(&mut self.stage, Stage::Broken) {
                self.stage = Stage::Open(side.into_records()?);
            }
            let behind = self.receive(&mut input[received.consumed..], out, plain)?;
            received.consumed += behind.consumed;
            received.peer_closed |= behind.peer_closed;
            received.established_now = true;
        }
        Ok(received)
    }

    /// Writes one record to the front of `out` and returns its bytes; `fill` writes the
    /// `plain_bytes` where they will be sealed. `out` needs [`Self::sealed_bytes_max`].
    ///
    /// # Errors
    /// `TlsProtocol` before the handshake's end, or when keys are used up.
    #[inline]
    pub fn seal_with(
        &mut self,
        out: &mut [u8],
        plain_bytes: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<usize, Fault> {
        match &mut self.stage {
            Stage::Open(records) => records.seal(out, plain_bytes, fill),
            _ => Err(Fault::TlsProtocol("cannot send before the handshake's end".into())),
        }
    }

    /// As [`Self::seal_with`] for bytes that are there already, in as many records as they need.
    ///
    /// # Errors
    /// See [`Self::seal_with`].
    pub fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, Fault> {
        let mut written = 0;
        for piece in plain.chunks(Self::RECORD_PLAIN_BYTES_MAX) {
            written += self.seal_with(&mut out[written..], piece.len(), |to| to.copy_from_slice(piece))?;
        }
        Ok(written)
    }

    /// Bytes that `plain_bytes` may have when sealed in records that are full but for their last few
    /// bytes, with a change of keys before them.
    pub const fn sealed_bytes_max(plain_bytes: usize) -> usize {
        const RECORD_PLAIN_BYTES_MIN: usize = Tls::RECORD_PLAIN_BYTES_MAX - 64;
        let records = plain_bytes / RECORD_PLAIN_BYTES_MIN + 1;
        plain_bytes + records * record::OVERHEAD_BYTES + record::KEY_UPDATE_BYTES
    }

    /// Appends close_notify.
    ///
    /// # Errors
    /// `TlsProtocol` where none can be sent.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match &mut self.stage {
            Stage::Open(records) => records.close_notify(out),
            _ => Err(Fault::TlsProtocol("cannot close before the handshake's end".into())),
        }
    }

    /// Whether the handshake has finished.
    pub const fn is_established(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// The version spoken, once the handshake has finished.
    pub fn version(&self) -> Option<rustls::ProtocolVersion> {
        match &self.stage {
            Stage::Open(records) => Some(records.version()),
            _ => None,
        }
    }

    /// Whether the handshake resumed an earlier session.
    pub const fn is_resumed(&self) -> bool {
        self.resumed
    }
}

/// Appends what `encode` writes; asked with nothing first, it says how much it needs.
fn encode(
    out: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), Fault> {
    let from = out.len();
    let needed = match encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(error) => return Err(Fault::TlsProtocol(error.to_string())),
    };
    out.resize(from + needed, 0);
    let bytes = encode(&mut out[from..]).map_err(|error| Fault::TlsProtocol(error.to_string()))?;
    out.truncate(from + bytes);
    Ok(())
}

fn fault(error: &rustls::Error) -> Fault {
    match error {
        rustls::Error::InvalidCertificate(why) => Fault::TlsCertificate(certificate(why)),
        rustls::Error::NoCertificatesPresented => Fault::TlsCertificate("none was presented".into()),
        rustls::Error::AlertReceived(alert) => Fault::TlsAlert(format!("{alert:?}")),
        error => Fault::TlsProtocol(error.to_string()),
    }
}

fn certificate(why: &rustls::CertificateError) -> String {
    use rustls::CertificateError as E;
    match why {
        E::Expired | E::ExpiredContext { .. } => "it has expired".into(),
        E::NotValidYet | E::NotValidYetContext { .. } => "it is not valid yet".into(),
        E::UnknownIssuer | E::BadSignature => "its issuer is not known here (--ca FILE adds one)".into(),
        E::NotValidForName | E::NotValidForNameContext { .. } => "it is for another name".into(),
        other => other.to_string(),
    }
}
