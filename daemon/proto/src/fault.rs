//! Why a peer broke a protocol.

/// What the peer did wrong. The worker counts it by class and drops the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The upgrade was answered with something else than 101.
    #[error("the upgrade was answered with HTTP status {status}")]
    HttpStatus {
        /// The status.
        status: u16,
        /// Retry-After in seconds, where it was given so.
        retry_after_s: Option<u32>,
    },
    /// Not HTTP/1.1.
    #[error("the answer to the upgrade is not HTTP")]
    HttpMalformed,
    /// The head is longer than `http::HEAD_BYTES_MAX` or has too many headers.
    #[error("the HTTP head is too long")]
    HttpTooLong,
    /// Sec-WebSocket-Accept is missing or wrong.
    #[error("Sec-WebSocket-Accept does not match the key that was sent")]
    BadAccept,
    /// Upgrade or Connection is missing or wrong.
    #[error("the Upgrade or Connection header is missing or wrong")]
    BadUpgrade,
    /// The subprotocol is not the one that was asked for.
    #[error("the subprotocol is not the one that was asked for")]
    BadSubprotocol,
    /// The peer's certificate does not verify.
    #[error("the certificate does not verify: {0}")]
    TlsCertificate(String),
    /// The peer sent a fatal alert.
    #[error("the peer refused TLS with an alert: {0}")]
    TlsAlert(String),
    /// The peer does not speak TLS as it should.
    #[error("TLS: {0}")]
    TlsProtocol(String),
    /// A frame that RFC 6455 does not allow.
    #[error("websocket: {0}")]
    WsProtocol(&'static str),
    /// A text message that is not UTF-8.
    #[error("websocket: a text message is not UTF-8")]
    WsUtf8,
    /// A message above the limit.
    #[error("websocket: a message is too big")]
    WsTooBig,
    /// What a web terminal shows is a screen drawn anew, not what was typed.
    #[error(
        "the terminal is redrawn by `screen` or its like; ask for backend_type=buffered, or for an image without screen"
    )]
    TerminalRedrawn,
    /// The marker's echo did not come within `coder::PREAMBLE_BYTES_MAX`.
    #[error("the terminal says much, but does not echo what is typed")]
    TerminalEchoMissing,
    /// The peer does not speak SSH 2 as RFC 4251 to 4254 say.
    #[error("SSH: {0}")]
    SshProtocol(&'static str),
    /// A packet does not authenticate: it was damaged, cut or played again on its way.
    #[error("SSH: a packet does not authenticate")]
    SshTampered,
    /// No algorithm in common, or a key exchange that does not add up.
    #[error("SSH key exchange: {0}")]
    SshKex(String),
    /// The server's key is not the one that is known, or is not known at all.
    #[error("SSH host key: {0}")]
    SshHostKey(String),
    /// No credential was accepted.
    #[error("SSH authentication: {0}")]
    SshAuth(String),
    /// The peer ended the connection with a reason.
    #[error("the SSH peer disconnected with code {code}: {description}")]
    SshDisconnected {
        /// RFC 4253 §11.1.
        code: u32,
        /// Its words, cut to `ssh::DESCRIPTION_BYTES_MAX`.
        description: String,
    },
}
