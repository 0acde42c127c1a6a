//! The request that opens a terminal: path and query, both roles.

use std::fmt;
use std::fmt::Write as _;

/// A UUID: an agent, or the session that a terminal is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid([u8; 16]);

impl Uuid {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

    /// A random one (version 4) from 16 random bytes.
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0F | 0x40;
        bytes[8] = bytes[8] & 0x3F | 0x80;
        Self(bytes)
    }

    /// Reads the form with hyphens; `None`: it is none.
    ///
    /// ```
    /// use scale_proto::coder::Uuid;
    ///
    /// let text = "932a1abe-825c-4571-a6fd-f344eaf9a15b";
    /// assert_eq!(Uuid::parse(text).unwrap().to_string(), text);
    /// assert_eq!(Uuid::parse("932a1abe"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let mut groups = text.split('-');
        let (mut bytes, mut at) = ([0; 16], 0);
        for digits in Self::GROUPS {
            let group = groups.next().filter(|group| group.len() == digits)?;
            for two in group.as_bytes().chunks(2) {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                bytes[at] = (digit(two[0])? << 4 | digit(two[1])?) as u8;
                at += 1;
            }
        }
        groups.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.iter();
        for (n, digits) in Self::GROUPS.into_iter().enumerate() {
            if n > 0 {
                f.write_char('-')?;
            }
            bytes.by_ref().take(digits / 2).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

/// What keeps the terminal on the agent while nobody is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// The agent's choice: `screen` where it is installed.
    #[default]
    Auto,
    /// A ring buffer: what the terminal says comes as it is. Since v2.21.
    Buffered,
    /// GNU screen: what comes is a screen drawn anew, not an echo.
    Screen,
}

impl Backend {
    const fn word(self) -> &'static str {
        match self {
            Self::Auto => "",
            Self::Buffered => "buffered",
            Self::Screen => "screen",
        }
    }
}

/// One terminal as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalRequest {
    /// On which agent.
    pub agent: Uuid,
    /// The session: the same again attaches to the same process.
    pub reconnect: Uuid,
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// What the user's shell runs; empty, the shell itself.
    pub command: String,
    /// What keeps it.
    pub backend: Backend,
    /// In which of the agent's containers; empty, none. Since v2.20.
    pub container: String,
}

/// Why a request opens no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Another route, or an agent that is no UUID: 404.
    #[error("the path is not that of an agent's terminal")]
    Path,
    /// 400.
    #[error("the query wants reconnect=UUID")]
    Reconnect,
    /// 400.
    #[error("width and height are numbers up to 65,535")]
    Size,
    /// 400.
    #[error("backend_type is screen or buffered")]
    Backend,
    /// 400.
    #[error("the query is not encoded as a URL's")]
    Encoding,
}

impl TerminalRequest {
    const BEFORE: &str = "/api/v2/workspaceagents/";
    const BEHIND: &str = "/pty";
    /// Columns and rows where a request names none.
    const SIDE: u16 = 80;

    /// An 80×25 terminal, as the original opens it.
    pub fn new(agent: Uuid, reconnect: Uuid, command: &str) -> Self {
        let (command, container) = (command.to_owned(), String::new());
        Self { agent, reconnect, width: 80, height: 25, command, backend: Backend::Auto, container }
    }

    /// Path and query. What has its default and came later is left out, so that servers of every
    /// version see what they know.
    ///
    /// ```
    /// use scale_proto::coder::{TerminalRequest, Uuid};
    ///
    /// let agent = Uuid::parse("932a1abe-825c-4571-a6fd-f344eaf9a15b").unwrap();
    /// let request = TerminalRequest::new(agent, Uuid::from_random([7; 16]), "echo 'a&b'");
    /// assert_eq!(
    ///     request.path(),
    ///     "/api/v2/workspaceagents/932a1abe-825c-4571-a6fd-f344eaf9a15b/pty\
    ///      ?reconnect=07070707-0707-4707-8707-070707070707&width=80&height=25&command=echo+%27a%26b%27"
    /// );
    /// assert_eq!(TerminalRequest::parse(&request.path()), Ok(request));
    /// ```
    pub fn path(&self) -> String {
        let Self { agent, reconnect, width, height, command, backend, container } = self;
        let (before, behind) = (Self::BEFORE, Self::BEHIND);
        let mut path =
            format!("{before}{agent}{behind}?reconnect={reconnect}&width={width}&height={height}&command=");
        escape(command, &mut path);
        if *backend != Backend::Auto {
            path.extend(["&backend_type=", backend.word()]);
        }
        if !container.is_empty() {
            path.push_str("&container=");
            escape(container, &mut path);
        }
        path
    }

    /// Reads path and query as a server does.
    ///
    /// # Errors
    /// Why there is no terminal.
    pub fn parse(path: &str) -> Result<Self, RequestError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let agent = path.strip_prefix(Self::BEFORE).and_then(|rest| rest.strip_suffix(Self::BEHIND));
        let agent = agent.and_then(Uuid::parse).ok_or(RequestError::Path)?;
        let mut reconnect = None;
        let mut request = Self::new(agent, Uuid([0; 16]), "");
        (request.width, request.height) = (Self::SIDE, Self::SIDE);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = unescape(value).ok_or(RequestError::Encoding)?;
            let side = |default: &mut u16| -> Result<(), RequestError> {
                if !value.is_empty() {
                    *default = value.parse().map_err(|_| RequestError::Size)?;
                }
                Ok(())
            };
            match name {
                "reconnect" => reconnect = Uuid::parse(&value),
                "width" => side(&mut request.width)?,
                "height" => side(&mut request.height)?,
                "command" => request.command = value,
                "container" => request.container = value,
                "backend_type" => {
                    request.backend = [Backend::Auto, Backend::Buffered, Backend::Screen]
                        .into_iter()
                        .find(|backend| backend.word() == value)
                        .ok_or(RequestError::Backend)?;
                }
                _ => {} // of another version
            }
        }
        request.reconnect = reconnect.ok_or(RequestError::Reconnect)?;
        Ok(request)
    }
}

/// Appends `text` as a query's value (`application/x-www-form-urlencoded`).
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => write!(out, "%{other:02X}").expect("a string has room"),
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AGENT: &str = "932a1abe-825c-4571-a6fd-f344eaf9a15b";

    fn parse(query: &str) -> Result<TerminalRequest, RequestError> {
        TerminalRequest::parse(&format!("/api/v2/workspaceagents/{AGENT}/pty{query}"))
    }

    #[test]
    fn a_request_without_a_session_opens_nothing() {
        assert_eq!(parse(""), Err(RequestError::Reconnect));
        assert_eq!(parse("?reconnect=7"), Err(RequestError::Reconnect));
        assert_eq!(TerminalRequest::parse("/api/v2/workspaceagents/me/pty"), Err(RequestError::Path));
    }

    #[test]
    fn sizes_have_defaults_and_limits() {
        let request = parse(&format!("?reconnect={AGENT}")).unwrap();
        assert_eq!((request.width, request.height, request.command.as_str()), (80, 80, ""));
        assert_eq!(parse(&format!("?reconnect={AGENT}&width=65536")), Err(RequestError::Size));
        assert_eq!(parse(&format!("?reconnect={AGENT}&command=%2")), Err(RequestError::Encoding));
        assert_eq!(parse(&format!("?reconnect={AGENT}&backend_type=tmux")), Err(RequestError::Backend));
    }

    proptest! {
        #[test]
        fn a_server_reads_what_a_client_asks(
            agent: [u8; 16], session: [u8; 16], width: u16, height: u16, command: String, container in "[a-z0-9 &%+é]{0,9}",
            backend in prop::sample::select(vec![Backend::Auto, Backend::Buffered, Backend::Screen]),
        ) {
            let request = TerminalRequest {
                agent: Uuid(agent), reconnect: Uuid::from_random(session), width, height, command, backend, container,
            };
            let path = request.path();
            prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(TerminalRequest::parse(&path), Ok(request));
        }
    }
}
