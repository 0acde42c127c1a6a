//! The endpoint table: one row says whom a stream talks to and with what words.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::ssh::SshEndpoint;

/// Which layers lie on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Raw bytes over TCP.
    Tcp,
    /// Websocket over TCP.
    Ws,
    /// Websocket over TLS over TCP.
    Wss,
    /// Channels of SSH connections.
    Ssh,
}

impl Protocol {
    /// Whether bytes are sealed.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Wss)
    }
}

/// One row: at most [`Self::ROWS_MAX`] in a plan.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The layers.
    pub protocol: Protocol,
    /// Which of the group's targets this belongs to in the report.
    pub target: u16,
    /// Row of the plan's address table.
    pub addresses: u32,
    /// The TLS name and settings; shared by the rows of a target.
    pub tls: Option<Arc<TlsName>>,
    /// For [`Protocol::Ssh`]; shared by the rows of a target where nothing is filled in.
    pub ssh: Option<Arc<SshEndpoint>>,
    /// The Host header's value.
    pub host: Arc<str>,
    /// Path and query of the upgrade request.
    pub path: Arc<str>,
    /// Further header lines, each ended by CR LF.
    pub headers: Arc<str>,
}

/// How a target is spoken to over TLS.
#[derive(Debug, Clone)]
pub struct TlsName {
    /// For SNI and the certificate.
    pub name: ServerName<'static>,
    /// Roots, client certificate, resumption store.
    pub config: Arc<ClientConfig>,
}

impl Endpoint {
    /// Rows in a plan, over all groups.
    pub const ROWS_MAX: usize = 100_000;
}
