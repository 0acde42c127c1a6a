//! One web terminal: a websocket of Coder's reconnecting terminals (the protocol's section on them), read to its end.
//!
//! What comes is the terminal's bytes, what goes is JSON in binary messages. The library answers pings and masks.

use futures_util::{SinkExt, StreamExt};
use tokio::time::{Duration, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::client::Client;
use crate::error::ApiError;
use crate::random;

/// Columns and lines, as the original opens it.
const SIZE: (u16, u16) = (80, 25);
/// The longest message that is read; servers send 32 KiB at most.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Of the buffer that is read into; there may be thousands.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// How long the end of the connection is waited for once both sides have closed.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a command may take to end after Ctrl-C.
const INTERRUPT_TIME_MAX: Duration = Duration::from_secs(5);

/// What is typed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key {
    /// Ctrl-R: the terminal prints its line again, `^R` and a line's end where nothing was typed. It is the
    /// terminal's own key (termios' `VREPRINT`), so that no program reads it.
    Reprint,
    /// Ctrl-C.
    Interrupt,
}

impl Key {
    const fn message(self) -> &'static [u8] {
        match self {
            Self::Reprint => b"{\"data\":\"\\u0012\"}\n",
            Self::Interrupt => b"{\"data\":\"\\u0003\"}\n",
        }
    }
}

/// How a terminal ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The server closed it with this code and reason; 1005 is none.
    Closed { code: u16, reason: String },
    /// The connection broke.
    Broken(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed { code, reason } if reason.is_empty() => {
                write!(f, "the server closed it with {code}")
            }
            Self::Closed { code, reason } => write!(f, "the server closed it with {code}, {reason}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

/// An open web terminal.
pub(crate) struct Terminal(WebSocketStream<reqwest::Upgraded>);

impl Client {
    /// `GET /workspaceagents/{id}/pty`: opens a terminal of its own in which `command` runs, by the user's shell. The
    /// server answers before it has reached the agent.
    ///
    /// # Errors
    /// As any call.
    pub(crate) async fn terminal(&self, agent: &str, command: &str) -> Result<Terminal, ApiError> {
        let query = [
            // The same over all tries, so that they share one terminal.
            ("reconnect", random::uuid()),
            ("width", SIZE.0.to_string()),
            ("height", SIZE.1.to_string()),
            ("command", command.to_owned()),
        ];
        let upgraded = self.upgrade(&format!("/workspaceagents/{agent}/pty"), &query).await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        Ok(Terminal(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await))
    }
}

impl Terminal {
    /// The next bytes. May be dropped and called again.
    pub(crate) async fn read(&mut self) -> Result<Bytes, End> {
        loop {
            let message = match self.0.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(End::Broken(error.to_string())),
                None => return Err(End::Broken("the connection ended".into())),
            };
            match message {
                // There are empty ones, which mean nothing.
                Message::Binary(bytes) if !bytes.is_empty() => return Ok(bytes),
                Message::Close(Some(frame)) => {
                    let reason = frame.reason.as_str().to_owned();
                    return Err(End::Closed { code: frame.code.into(), reason });
                }
                Message::Close(None) => return Err(End::Closed { code: 1005, reason: String::new() }),
                _ => {}
            }
        }
    }

    /// Types. Whether it could be sent comes out when reading.
    pub(crate) async fn press(&mut self, key: Key) {
        let _ = self.0.send(Message::Binary(Bytes::from_static(key.message()))).await;
    }

    /// After its end: sees that the server gets the answer to its Close.
    pub(crate) async fn finish(mut self) {
        let rest = async { while let Some(Ok(_)) = self.0.next().await {} };
        let _ = timeout(CLOSE_TIME_MAX, rest).await;
    }

    /// Before its end: Ctrl-C, so that nothing stays on the agent; then the server closes, or we do.
    pub(crate) async fn leave(mut self) {
        let interrupted = async {
            self.press(Key::Interrupt).await;
            while self.read().await.is_ok() {}
        };
        if timeout(INTERRUPT_TIME_MAX, interrupted).await.is_err() {
            let _ = timeout(CLOSE_TIME_MAX, self.0.close(None)).await;
        }
        self.finish().await;
    }
}
