//! What goes into the deployment and what comes out: requests and responses without sockets.

use std::net::{IpAddr, Ipv4Addr};

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::socket::Upgrade;

/// A request whose body has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// As it was sent: not decoded, without the query.
    pub path: String,
    /// What follows the `?`, or nothing.
    pub query: String,
    /// Names as sent; compared without case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Who asks, as far as rate limits go.
    pub peer: IpAddr,
}

impl Request {
    /// A request from 127.0.0.1 without headers and body; `target` is path and query.
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// The same with one header more.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a JSON body.
    #[must_use]
    pub fn with_json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.with_header("Content-Type", "application/json")
    }

    /// The values of a header, in order.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// A header's first value.
    pub fn header<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.header_values(name).next()
    }

    /// Whether a header that is a list has this word.
    pub fn header_has(&self, name: &str, word: &str) -> bool {
        self.header_values(name)
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    }

    /// A cookie's value.
    pub fn cookie<'a>(&'a self, name: &str) -> Option<&'a str> {
        self.header_values("Cookie")
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value)
    }

    /// A query parameter's first value, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes())
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The path's parts, decoded. A trailing slash makes a last part that is empty.
    pub fn segments(&self) -> Vec<String> {
        let path = self.path.strip_prefix('/').unwrap_or(&self.path);
        path.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
    }

    /// Whether it asks for a websocket.
    pub fn is_upgrade(&self) -> bool {
        self.header_has("Upgrade", "websocket")
    }
}

/// A response, and what is to be done beyond sending it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// The status; 101 comes with `upgrade`.
    pub status: u16,
    /// In order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// What the connection becomes.
    pub upgrade: Option<Upgrade>,
    /// It is sent so much later than it was asked for.
    pub delay_ns: u64,
    /// Instead of being sent it breaks the connection with a RST.
    pub reset: bool,
}

impl Response {
    fn with_body(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        Self { status, headers, body: body.into(), ..Self::default() }
    }

    /// A JSON answer.
    pub fn json(status: u16, value: &Value) -> Self {
        Self::with_body(status, "application/json; charset=utf-8", value.to_string() + "\n")
    }

    /// A plain sentence.
    pub fn text(status: u16, text: &str) -> Self {
        Self::with_body(status, "text/plain; charset=utf-8", text)
    }

    /// A page, such as the dashboard and the errors of apps are.
    pub fn html(status: u16, title: &str) -> Self {
        let page =
            format!("<!doctype html><html><head><title>{title}</title></head><body>{title}</body></html>\n");
        Self::with_body(status, "text/html; charset=utf-8", page)
    }

    /// Nothing but a status.
    pub fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// The same with one header more.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null where it is none.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// An answer of 400 or above as the API gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: u16,
    message: String,
    detail: Option<String>,
    validations: Vec<(String, String)>,
}

impl Refusal {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), detail: None, validations: Vec::new() }
    }

    /// The resource is not there, or not for this caller: the same answer on purpose.
    pub fn not_found() -> Self {
        Self::new(404, "Resource not found or you do not have access to this resource")
    }

    pub fn forbidden() -> Self {
        Self::new(403, "Forbidden.")
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.validations.push((field.into(), detail.into()));
        self
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, message, detail, validations } = refusal;
        let mut body = json!({ "message": message });
        if let Some(detail) = detail {
            body["detail"] = detail.into();
        }
        if !validations.is_empty() {
            let rows = validations.iter().map(|(field, detail)| json!({ "field": field, "detail": detail }));
            body["validations"] = rows.collect();
        }
        Self::json(status, &body)
    }
}

/// What a handler gives back.
pub(super) type Answer = Result<Response, Refusal>;
