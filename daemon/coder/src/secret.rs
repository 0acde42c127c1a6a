//! Tokens and passwords: held, sent, never printed.

use std::fmt;

use reqwest::header::HeaderValue;

/// A session token: `<10 characters>-<22 characters>`. `Debug` does not show it and `Display` is not
/// there, so that no log, metric or report can have it by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A text that is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the token {0}; give what `coder tokens create` printed, alone in its file")]
pub struct TokenError(&'static str);

impl Token {
    /// Takes a token as a file or an environment variable has it: white space around it is cut off.
    ///
    /// # Errors
    /// Empty, longer than 4 KiB, or with characters that no header may have. What it was is not said.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        const LENGTH_MAX: usize = 4096;
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError("is empty"));
        }
        if text.len() > LENGTH_MAX {
            return Err(TokenError("is longer than any token"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError("has spaces or other characters that no token has"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The part before the dash: names the key on the server and is no secret. `None` where there is no dash.
    pub fn id(&self) -> Option<&str> {
        self.0.split_once('-').map(|(id, _)| id)
    }

    /// The token itself, for the request head of a websocket. Whoever takes it keeps it out of every output.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// As a header's value that HTTP libraries do not print either.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&self.0).expect("graphic ASCII, checked when it was made");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "canary1234-ABCDEFGHIJKLMNOPQRSTUV";

    #[test]
    fn a_token_is_sent_but_never_printed() {
        let token = Token::new(&format!(" {CANARY}\n")).unwrap();
        assert_eq!((token.expose(), token.id()), (CANARY, Some("canary1234")));
        let printed = format!("{token:?} {:?}", token.header());
        assert!(!printed.contains("canary") && !printed.contains("ABC"), "{printed}");
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_shown() {
        for text in ["", " \n", "two words", "line\nbreak", &"x".repeat(5000)] {
            let error = Token::new(text).unwrap_err().to_string();
            assert!(error.contains("coder tokens create") && !error.contains("two words"), "{error}");
        }
    }
}
