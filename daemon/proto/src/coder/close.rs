//! What a server's Close says about the terminal.

/// How a terminal's websocket ended, by the server's code and reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The command ended, or the server goes away in order: the end of the stream.
    Ended,
    /// The server had no pong for 15 s: this side, or the way to it, is overloaded.
    PingFailed,
    /// A text message was sent; terminals take binary ones.
    TextRefused,
    /// A message was longer than the server reads: 32,768 bytes up to v2.18.
    TooBig,
    /// The server accepted the websocket and then could not reach the workspace's agent.
    AgentUnreachable,
    /// The server failed, or said what no terminal says.
    Failed {
        /// Its code; 1005: it gave none.
        code: u16,
    },
}

impl Outcome {
    /// Of a Close that came before ours.
    ///
    /// ```
    /// use scale_proto::coder::Outcome;
    ///
    /// let outcome = Outcome::of(Some(1011), "dial workspace agent: context deadline exceeded");
    /// assert_eq!(outcome, Outcome::AgentUnreachable);
    /// assert!(Outcome::of(Some(1000), "").is_end() && !outcome.is_end());
    /// ```
    pub fn of(code: Option<u16>, reason: &str) -> Self {
        const NO_CODE: u16 = 1005; // RFC 6455 §7.4.1
        match code {
            Some(1001) if reason.to_ascii_lowercase().starts_with("ping failed") => Self::PingFailed,
            Some(1000 | 1001) => Self::Ended,
            Some(1003) => Self::TextRefused,
            Some(1009) => Self::TooBig,
            Some(1011) if ["dial workspace agent", "dial:"].iter().any(|dial| reason.starts_with(dial)) => {
                Self::AgentUnreachable
            }
            code => Self::Failed { code: code.unwrap_or(NO_CODE) },
        }
    }

    /// Whether the stream ended in order.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_outcome() {
        for (code, reason, outcome) in [
            (Some(1000), "", Outcome::Ended),
            (Some(1001), "", Outcome::Ended),
            (Some(1001), "Ping failed", Outcome::PingFailed),
            (Some(1003), "unexpected text message", Outcome::TextRefused),
            (Some(1009), "read limited at 32769 bytes", Outcome::TooBig),
            (Some(1011), "dial workspace agent: no route", Outcome::AgentUnreachable),
            (Some(1011), "dial: timeout", Outcome::AgentUnreachable),
            (Some(1011), "dialogue", Outcome::Failed { code: 1011 }),
            (None, "", Outcome::Failed { code: 1005 }),
        ] {
            assert_eq!(Outcome::of(code, reason), outcome, "{code:?} {reason:?}");
        }
    }
}
