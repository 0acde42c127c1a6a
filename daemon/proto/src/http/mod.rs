//! The HTTP/1.1 upgrade to websocket (RFC 6455 §4), both roles. Heads are parsed by httparse.

#[cfg(test)]
mod tests;

use tungstenite::handshake::derive_accept_key;

use crate::Fault;

/// The longest head that is read.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers in a head.
const HEADERS_MAX: usize = 64;
/// By this header Coder names its build in every answer.
const BUILD_HEADER: &str = "X-Coder-Build-Version";
/// The longest name of a build, or of a replica, that is taken for one.
pub const NAME_BYTES_MAX: usize = 64;

/// The client's nonce, as it is sent: base64 of 16 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// From 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::with_capacity(24);
        for group in bytes.chunks(3) {
            let bits =
                group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
            for digit in 0..4 {
                let known = digit <= group.len();
                let index = (bits >> (18 - 6 * digit)) as usize & 63;
                text.push(if known { char::from(DIGITS[index]) } else { '=' });
            }
        }
        Self(text)
    }
}

/// What a client asks.
#[derive(Debug, Clone, Copy)]
pub struct UpgradeRequest<'a> {
    /// The Host header's value.
    pub host: &'a str,
    /// Path and query; begins with `/`.
    pub path: &'a str,
    /// Further lines, each ended by CR LF.
    pub headers: &'a str,
    /// Asked for, where given.
    pub subprotocol: Option<&'a str>,
    /// The nonce.
    pub key: &'a Key,
}

impl UpgradeRequest<'_> {
    /// Appends the request.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Self { host, path, headers, subprotocol, key } = self;
        for part in [
            "GET ",
            path,
            " HTTP/1.1\r\nHost: ",
            host,
            "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
            &key.0,
            "\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        if let Some(subprotocol) = subprotocol {
            for part in ["Sec-WebSocket-Protocol: ", subprotocol, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(headers.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// The whole head at the front of `bytes`, once it has come; what it means does not depend on what
/// came along with it. Keeps the parser away from heads that come byte by byte.
fn whole_head(bytes: &[u8]) -> Result<Option<&[u8]>, Fault> {
    const END: &[u8; 4] = b"\r\n\r\n";
    let end = bytes.windows(END.len()).position(|four| four == END).map(|at| at + END.len());
    match end {
        Some(end) if end <= HEAD_BYTES_MAX => Ok(Some(&bytes[..end])),
        None if bytes.len() < HEAD_BYTES_MAX => Ok(None),
        _ => Err(Fault::HttpTooLong),
    }
}

fn header<'h>(headers: &'h [httparse::Header<'h>], name: &str) -> impl Iterator<Item = &'h str> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .filter_map(|header| std::str::from_utf8(header.value).ok())
}

fn has_token(headers: &[httparse::Header<'_>], name: &str, token: &str) -> bool {
    header(headers, name)
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// A right 101.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Bytes of the head.
    pub head_bytes: usize,
    /// What the server calls itself; `None`: nothing.
    pub names: Option<Box<Names>>,
}

/// What a server calls itself, where it says it in printable ASCII of at most [`NAME_BYTES_MAX`] bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Coder's build.
    pub build: Option<Box<str>>,
    /// By the header that was asked for.
    pub replica: Option<Box<str>>,
}

/// Parses a server's answer, of which `replica_header` names the replica. `None`: incomplete.
///
/// # Errors
/// `HttpStatus` as soon as the head of another status is complete, its body unread; what else is
/// wrong with a head.
pub fn parse_response(
    bytes: &[u8],
    key: &Key,
    subprotocol: Option<&str>,
    replica_header: Option<&str>,
) -> Result<Option<Accepted>, Fault> {
    if !b"HTTP/1.1 ".starts_with(&bytes[..bytes.len().min(9)])
        && !b"HTTP/1.0 ".starts_with(&bytes[..bytes.len().min(9)])
    {
        return Err(Fault::HttpMalformed);
    }
    let Some(head) = whole_head(bytes)? else { return Ok(None) };
    let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut storage);
    let head_bytes = match response.parse(head) {
        Ok(httparse::Status::Complete(bytes)) if bytes == head.len() => bytes,
        Ok(_) => return Err(Fault::HttpMalformed),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::HttpTooLong),
        Err(_) => return Err(Fault::HttpMalformed),
    };
    let headers = &*response.headers;
    let status = response.code.ok_or(Fault::HttpMalformed)?;
    if status != 101 {
        let retry_after_s = header(headers, "Retry-After").next().and_then(|value| value.trim().parse().ok());
        return Err(Fault::HttpStatus { status, retry_after_s });
    }
    if !has_token(headers, "Upgrade", "websocket") || !has_token(headers, "Connection", "upgrade") {
        return Err(Fault::BadUpgrade);
    }
    let accept = derive_accept_key(key.0.as_bytes());
    if !header(headers, "Sec-WebSocket-Accept").any(|value| value.trim() == accept) {
        return Err(Fault::BadAccept);
    }
    // RFC 6455 §4.1: one that was not asked for fails the connection; so does an extension.
    let answered = header(headers, "Sec-WebSocket-Protocol").next().map(str::trim);
    if answered != subprotocol {
        return Err(Fault::BadSubprotocol);
    }
    if header(headers, "Sec-WebSocket-Extensions").any(|value| !value.trim().is_empty()) {
        return Err(Fault::BadUpgrade);
    }
    let is_name = |value: &&str| {
        (1..=NAME_BYTES_MAX).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let name = |of: &str| header(headers, of).map(str::trim).find(is_name).map(Into::into);
    let names = Names { build: name(BUILD_HEADER), replica: replica_header.and_then(name) };
    let names = (names != Names::default()).then(|| Box::new(names));
    Ok(Some(Accepted { head_bytes, names }))
}

/// The value of Sec-WebSocket-Accept that answers a value of Sec-WebSocket-Key.
pub fn accept_key(key: &str) -> String {
    derive_accept_key(key.as_bytes())
}

/// What a client asked, as the server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Path and query.
    pub path: String,
    /// The value that Sec-WebSocket-Accept must have.
    pub accept: String,
    /// What the client would speak.
    pub subprotocols: Vec<String>,
    /// Bytes of the head.
    pub head_bytes: usize,
}

/// Parses a client's request. `None`: incomplete.
///
/// # Errors
/// What is wrong with it: answer 400 (or 426 for `BadUpgrade`).
pub fn parse_request(bytes: &[u8]) -> Result<Option<Request>, Fault> {
    let Some(head) = whole_head(bytes)? else { return Ok(None) };
    let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut storage);
    let head_bytes = match request.parse(head) {
        Ok(httparse::Status::Complete(bytes)) if bytes == head.len() => bytes,
        Ok(_) => return Err(Fault::HttpMalformed),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::HttpTooLong),
        Err(_) => return Err(Fault::HttpMalformed),
    };
    let headers = &*request.headers;
    let upgrade = request.method == Some("GET")
        && has_token(headers, "Upgrade", "websocket")
        && has_token(headers, "Connection", "upgrade")
        && header(headers, "Sec-WebSocket-Version").any(|value| value.trim() == "13");
    let key = header(headers, "Sec-WebSocket-Key").next().map(str::trim);
    let (true, Some(key)) = (upgrade, key) else { return Err(Fault::BadUpgrade) };
    Ok(Some(Request {
        path: request.path.unwrap_or("/").to_owned(),
        accept: derive_accept_key(key.as_bytes()),
        subprotocols: header(headers, "Sec-WebSocket-Protocol")
            .flat_map(|value| value.split(','))
            .map(|name| name.trim().to_owned())
            .collect(),
        head_bytes,
    }))
}

/// Appends the 101, with further headers, names and values of which [are valid](header_is_valid).
pub fn write_response(out: &mut Vec<u8>, accept: &str, subprotocol: Option<&str>, more: &[(String, String)]) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    out.extend_from_slice(accept.as_bytes());
    if let Some(subprotocol) = subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    for (name, value) in more {
        out.extend_from_slice(format!("\r\n{name}: {value}").as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends an answer that refuses the upgrade and ends the connection.
pub fn write_error(out: &mut Vec<u8>, status: u16, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} Refused\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
}

/// Whether a header that a user gave can be sent: a token, and a value without control
/// characters (RFC 9110 §5.5), so that nothing can be smuggled in.
pub fn header_is_valid(name: &str, value: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty()
        && name.bytes().all(token)
        && value.bytes().all(|byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7F))
}
