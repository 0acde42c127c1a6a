//! A call that failed: which, how, and what to do, in one sentence.
//!
//! The server's error bodies are `{"message","detail"?,"validations"?:[{"field","detail"}]}`; some errors are
//! pages of HTML or plain text instead (the protocol's common rules).

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::class::{Class, Failure};

/// The longest text of a server's that is kept in an error.
const TEXT_LENGTH_MAX: usize = 400;

/// A field that the server refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Validation {
    /// Which.
    pub field: String,
    /// Why.
    #[serde(default)]
    pub detail: String,
}

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Not even a connection, so that nothing was sent: refused, no such name, TLS. The innermost cause, as the
    /// system says it.
    Connect(String),
    /// No answer, though it may have been sent: reset, closed. The innermost cause likewise.
    Network(String),
    /// No answer within this time.
    Timeout(Duration),
    /// The server answered with an error.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What happened.
        message: String,
        /// More of it; empty where there is none.
        detail: String,
        /// Fields that are wrong.
        validations: Vec<Validation>,
    },
    /// A page instead of JSON: this is not the API.
    NotJson {
        /// The HTTP status.
        status: u16,
        /// The content's type.
        content_type: String,
    },
    /// The server points elsewhere. Redirects are not followed: only the named host may be hit.
    Redirect {
        /// Where to.
        to: String,
    },
    /// JSON of another shape than expected.
    Shape(String),
    /// A websocket was asked for, and this came instead.
    NoWebsocket(String),
    /// An answer longer than this many bytes.
    TooLarge(usize),
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// How it failed.
    pub cause: Box<Cause>,
}

impl std::error::Error for ApiError {}

#[derive(Deserialize)]
struct Body {
    message: String,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    validations: Option<Vec<Validation>>,
}

impl Cause {
    /// What an answer with `status` ≥ 400 says.
    pub(crate) fn refused(status: u16, content_type: &str, body: &[u8]) -> Self {
        if let Ok(Body { message, detail, validations }) = serde_json::from_slice(body) {
            return Self::Refused {
                status,
                message: cut(&message),
                detail: cut(&detail.unwrap_or_default()),
                validations: validations.unwrap_or_default(),
            };
        }
        if content_type.starts_with("text/html") {
            return Self::NotJson { status, content_type: content_type.to_owned() };
        }
        let text = cut(String::from_utf8_lossy(body).trim());
        let message = if text.is_empty() { "no reason given".to_owned() } else { text };
        Self::Refused { status, message, detail: String::new(), validations: Vec::new() }
    }
}

/// One line, at most [`TEXT_LENGTH_MAX`] long.
fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TEXT_LENGTH_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl ApiError {
    /// The HTTP status, where the server answered with an error.
    pub fn status(&self) -> Option<u16> {
        match *self.cause {
            Cause::Refused { status, .. } | Cause::NotJson { status, .. } if status >= 400 => Some(status),
            _ => None,
        }
    }

    /// Whether this says that the thing is not there (any more): 404, or 410 after a deletion.
    pub fn is_gone(&self) -> bool {
        matches!(self.status(), Some(404 | 410))
    }

    /// Whether trying again may help: no answer, 429, and 5xx but "not implemented".
    pub fn is_passing(&self) -> bool {
        match *self.cause {
            Cause::Connect(_) | Cause::Network(_) | Cause::Timeout(_) => true,
            _ => self.status().is_some_and(|status| status == 429 || (status >= 500 && status != 501)),
        }
    }

    /// Whether the request may have been done all the same, now or later. Not where it was never sent, nor where
    /// the server said no (4xx, but for 408: something between lost patience).
    pub fn may_be_done(&self) -> bool {
        match *self.cause {
            Cause::Connect(_) => false,
            _ => !self.status().is_some_and(|status| (400..500).contains(&status) && status != 408),
        }
    }

    /// Its class.
    pub fn class(&self) -> Class {
        match (&*self.cause, self.status()) {
            (Cause::Connect(_) | Cause::Network(_), _) => Class::Unreachable,
            (Cause::Timeout(_), _) => Class::RequestTimeout,
            (_, Some(429)) => Class::RateLimited,
            (_, Some(500..)) => Class::ServerError,
            (_, Some(401)) => Class::Unauthorized,
            (_, Some(403)) => Class::Forbidden,
            (Cause::Refused { .. }, Some(404 | 410)) => Class::NotFound,
            (_, Some(409)) => Class::NameTaken,
            (_, Some(417)) => Class::UserOwnsWorkspaces,
            (Cause::Refused { .. }, _) => Class::Rejected,
            (
                Cause::NotJson { .. }
                | Cause::Redirect { .. }
                | Cause::Shape(_)
                | Cause::NoWebsocket(_)
                | Cause::TooLarge(_),
                _,
            ) => Class::NotCoder,
        }
    }

    /// What was seen, without what its class means.
    pub fn seen(&self) -> impl fmt::Display + '_ {
        Seen(self)
    }

    fn write_seen(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.method, self.path)?;
        match &*self.cause {
            Cause::Connect(detail) | Cause::Network(detail) => f.write_str(detail)?,
            Cause::Timeout(after) => write!(f, "no answer within {} s", after.as_secs_f64())?,
            Cause::Refused { status, message, detail, validations } => {
                write!(f, "{status} {}", message.trim_end_matches('.'))?;
                if !detail.is_empty() && detail != message {
                    write!(f, " ({})", detail.trim_end_matches('.'))?;
                }
                for Validation { field, detail } in validations {
                    write!(f, ", {field}: {}", detail.trim_end_matches('.'))?;
                }
            }
            Cause::NotJson { status, content_type } => {
                write!(f, "{status} with {content_type} instead of JSON")?;
            }
            Cause::Redirect { to } => {
                write!(
                    f,
                    "the server redirects to {to}, which is not followed; give that URL, if it is yours"
                )?;
            }
            Cause::Shape(detail) => write!(f, "the JSON has an unknown shape ({detail})")?,
            Cause::NoWebsocket(what) => write!(f, "no websocket came of it ({what})")?,
            Cause::TooLarge(most) => write!(f, "the answer is longer than {most} bytes")?,
        }
        Ok(())
    }
}

/// [`ApiError::seen`].
struct Seen<'a>(&'a ApiError);

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_seen(f)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_seen(f)?;
        match *self.cause {
            // It says what to do by itself.
            Cause::Redirect { .. } => Ok(()),
            _ => write!(f, "; {}", self.class().sentence()),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { class: error.class(), message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, content_type: &str, body: &str) -> ApiError {
        let cause = Cause::refused(status, content_type, body.as_bytes());
        ApiError { method: "POST".into(), path: "/api/v2/users".into(), cause: Box::new(cause) }
    }

    #[test]
    fn an_error_is_one_sentence_with_everything_the_server_said() {
        let body = r#"{"message":"Validation failed.","detail":"two\nlines","validations":[{"field":"username","detail":"is taken"}]}"#;
        let error = error(400, "application/json", body);
        assert_eq!(
            error.to_string(),
            format!(
                "POST /api/v2/users: 400 Validation failed (two lines), username: is taken; {}",
                Class::Rejected.sentence()
            )
        );
    }

    #[test]
    fn pages_and_plain_texts_are_told_apart() {
        let page = error(502, "text/html; charset=utf-8", "<html>…");
        assert_eq!((page.class(), page.is_passing()), (Class::ServerError, true));
        let page = error(404, "text/html", "<html>");
        assert!(page.class() == Class::NotCoder && page.to_string().contains("access URL"), "{page}");
        let text = error(400, "text/plain", "CSRF token mismatch\n");
        assert!(text.to_string().contains("400 CSRF token mismatch;"), "{text}");
        assert!(error(500, "", "").to_string().contains("no reason given"));
        let long = error(400, "text/plain", &"ä".repeat(10_000));
        assert!(long.to_string().len() < 1200);
    }

    #[test]
    fn every_status_has_its_class() {
        for (status, class, passing) in [
            (400, Class::Rejected, false),
            (401, Class::Unauthorized, false),
            (403, Class::Forbidden, false),
            (404, Class::NotFound, false),
            (409, Class::NameTaken, false),
            (410, Class::NotFound, false),
            (417, Class::UserOwnsWorkspaces, false),
            (429, Class::RateLimited, true),
            (500, Class::ServerError, true),
            (501, Class::ServerError, false),
            (503, Class::ServerError, true),
        ] {
            let error = error(status, "application/json", "{\"message\":\"m\"}");
            assert_eq!((error.class(), error.is_passing()), (class, passing), "{status}");
        }
    }
}
