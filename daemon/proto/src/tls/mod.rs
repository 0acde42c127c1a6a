//! TLS 1.2 and 1.3 over rustls' unbuffered API: records are decrypted in the receive buffer and
//! sealed into the send buffer, and a session keeps no buffers of its own.
//!
//! Elsewhere: sockets; the bytes of an incomplete record, which the caller keeps.

mod config;

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

/// One side of a TLS connection.
pub struct Tls {
    side: Side,
    established: bool,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("established", &self.established).finish_non_exhaustive()
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

/// Runs the state machine until it waits for input; `$side` has both roles' type.
macro_rules! drive {
    ($connection:expr, $input:expr, $out:expr, $plain:expr, $established:expr, $received:expr) => {{
        loop {
            let UnbufferedStatus { discard, state, .. } =
                $connection.process_tls_records(&mut $input[$received.consumed..]);
            let mut discard = discard;
            let mut waits = false;
            let result = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut result = Ok(());
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                result = $plain(record.payload);
                            }
                            Err(error) => result = Err(fault(&error)),
                        }
                        if result.is_err() {
                            break;
                        }
                    }
                    result
                }
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
                    waits = true;
                    if !*$established {
                        *$established = true;
                        $received.established_now = true;
                    }
                    Ok(())
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    waits = true;
                    Ok(())
                }
                Ok(_) => Err(Fault::TlsProtocol("early data was not asked for".into())),
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
            if waits {
                break;
            }
        }
    }};
}

impl Tls {
    /// The side that connects.
    ///
    /// # Errors
    /// `TlsProtocol` where the settings cannot be used.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Fault> {
        let client = UnbufferedClientConnection::new(config, name).map_err(|error| fault(&error))?;
        Ok(Self { side: Side::Client(client), established: false })
    }

    /// The side that accepts.
    ///
    /// # Errors
    /// `TlsProtocol` where the settings cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Fault> {
        let server = UnbufferedServerConnection::new(config).map_err(|error| fault(&error))?;
        Ok(Self { side: Side::Server(server), established: false })
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
        let mut received = Received::default();
        let established = &mut self.established;
        match &mut self.side {
            Side::Client(connection) => drive!(connection, input, out, plain, established, received),
            Side::Server(connection) => drive!(connection, input, out, plain, established, received),
        }
        Ok(received)
    }

    /// Seals `plain` into the front of `out` and returns the bytes; above 16 KiB in several
    /// records. `out` needs [`Self::sealed_bytes_max`]. `carry` is what `receive` left: rustls
    /// holds positions in it.
    ///
    /// # Errors
    /// `TlsProtocol` before the handshake's end, or when keys are used up.
    #[inline]
    pub fn seal(&mut self, carry: &mut [u8], plain: &[u8], out: &mut [u8]) -> Result<usize, Fault> {
        macro_rules! seal {
            ($connection:expr) => {
                match $connection.process_tls_records(carry).state {
                    Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic
                        .encrypt(plain, out)
                        .map_err(|error| Fault::TlsProtocol(format!("cannot seal: {error}"))),
                    Ok(state) => Err(Fault::TlsProtocol(format!("cannot send while {state:?}"))),
                    Err(error) => Err(fault(&error)),
                }
            };
        }
        match &mut self.side {
            Side::Client(connection) => seal!(connection),
            Side::Server(connection) => seal!(connection),
        }
    }

    /// Bytes that `plain_bytes` may have when sealed: 16 KiB records with header, explicit nonce
    /// or content type, and tag.
    pub const fn sealed_bytes_max(plain_bytes: usize) -> usize {
        const RECORD: usize = 16 * 1024;
        const OVERHEAD: usize = 5 + 8 + 16 + 1;
        plain_bytes + (plain_bytes / RECORD + 1) * OVERHEAD
    }

    /// Appends close_notify; `carry` as for [`Self::seal`].
    ///
    /// # Errors
    /// `TlsProtocol` where none can be sent any more.
    pub fn close_notify(&mut self, carry: &mut [u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        macro_rules! close {
            ($connection:expr) => {
                match $connection.process_tls_records(carry).state {
                    Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                        let from = out.len();
                        out.resize(from + Self::sealed_bytes_max(2), 0);
                        let bytes = traffic.queue_close_notify(&mut out[from..]);
                        out.truncate(from + bytes.as_ref().copied().unwrap_or(0));
                        bytes.map(|_| ()).map_err(|error| Fault::TlsProtocol(error.to_string()))
                    }
                    Ok(state) => Err(Fault::TlsProtocol(format!("cannot close while {state:?}"))),
                    Err(error) => Err(fault(&error)),
                }
            };
        }
        match &mut self.side {
            Side::Client(connection) => close!(connection),
            Side::Server(connection) => close!(connection),
        }
    }

    /// Whether the handshake has finished.
    pub const fn is_established(&self) -> bool {
        self.established
    }

    /// The version spoken, once known.
    pub fn version(&self) -> Option<rustls::ProtocolVersion> {
        match &self.side {
            Side::Client(connection) => connection.protocol_version(),
            Side::Server(connection) => connection.protocol_version(),
        }
    }

    /// Whether the handshake resumed an earlier session, once known.
    pub fn is_resumed(&self) -> bool {
        let kind = match &self.side {
            Side::Client(connection) => connection.handshake_kind(),
            Side::Server(connection) => connection.handshake_kind(),
        };
        kind == Some(rustls::HandshakeKind::Resumed)
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
