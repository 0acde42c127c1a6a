//! What a group's streams do after a loss or a failed attempt.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::GroupSpec;

/// What happens after a loss: `never`, `backoff`, `client`, or `client:` and the client's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reconnect {
    /// Nothing.
    #[default]
    Never,
    /// Full-jitter back-off, at most at the ramp's connect rate.
    Backoff,
    /// As a real client does; `None`: the one that the group's protocol has.
    Client(Option<Client>),
}

/// A client whose waits are known: `docs/reconnects.md` says from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Coder's web terminal in a browser.
    WebTerminal,
    /// A person with OpenSSH's client.
    Ssh,
    /// OpenSSH's client under autossh.
    Autossh,
    /// VS Code's remote connection.
    VsCode,
    /// JetBrains Gateway with Coder's plugin.
    JetBrains,
}

impl Client {
    /// Every one with its name.
    pub const NAMED: [(&'static str, Self); 5] = [
        ("web-terminal", Self::WebTerminal),
        ("ssh", Self::Ssh),
        ("autossh", Self::Autossh),
        ("vscode", Self::VsCode),
        ("jetbrains", Self::JetBrains),
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        Self::NAMED[self as usize].0
    }
}

impl FromStr for Reconnect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |name: &str| Client::NAMED.into_iter().find(|(known, _)| *known == name);
        match text {
            "never" => Ok(Self::Never),
            "backoff" => Ok(Self::Backoff),
            "client" => Ok(Self::Client(None)),
            _ => {
                text.strip_prefix("client:").and_then(named).map(|(_, it)| Self::Client(Some(it))).ok_or_else(
                    || {
                        let clients = Client::NAMED.map(|(name, _)| format!("client:{name}")).join(", ");
                        format!("`{text}`: write never, backoff, client, or one of {clients}")
                    },
                )
            }
        }
    }
}

impl fmt::Display for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Backoff => f.write_str("backoff"),
            Self::Client(None) => f.write_str("client"),
            Self::Client(Some(client)) => write!(f, "client:{}", client.name()),
        }
    }
}

impl Serialize for Reconnect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reconnect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl GroupSpec {
    /// What its streams do after a loss, with the client named: a person's for SSH, the browser's for the rest.
    pub fn reconnect_named(&self) -> Reconnect {
        match self.reconnect {
            Reconnect::Client(None) if self.is_ssh() => Reconnect::Client(Some(Client::Ssh)),
            Reconnect::Client(None) => Reconnect::Client(Some(Client::WebTerminal)),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;
    use crate::spec::tests::group;

    #[test]
    fn every_word_is_written_as_it_is_read() {
        let clients = Client::NAMED.map(|(_, client)| Reconnect::Client(Some(client)));
        let words = [Reconnect::Never, Reconnect::Backoff, Reconnect::Client(None)];
        for word in words.into_iter().chain(clients) {
            assert_eq!(word.to_string().parse(), Ok(word));
            let json = serde_json::to_string(&word).expect("a word");
            assert_eq!(serde_json::from_str::<Reconnect>(&json).expect("as written"), word);
        }
        for (name, client) in Client::NAMED {
            assert_eq!(client.name(), name);
        }
        for wrong in ["", "Never", "client:", "client:putty", "client: ssh", "ssh", "backoff:ssh"] {
            let said = wrong.parse::<Reconnect>().expect_err(wrong);
            assert!(said.contains("client:vscode") && said.contains("never"), "{said}");
        }
    }

    #[test]
    fn the_protocol_says_which_client_it_is_where_nobody_does() {
        let named = |target: &str, word: &str| {
            let mut group = group();
            group.target = vec![target.into()];
            group.reconnect = word.parse().expect("a word");
            let spec = Spec { group: vec![group], ..Spec::default() }.filled(1, 1);
            spec.group[0].reconnect.to_string()
        };
        assert_eq!(named("ws://a/", "client"), "client:web-terminal");
        assert_eq!(named("ssh://a", "client"), "client:ssh");
        assert_eq!(named("ssh://a", "client:vscode"), "client:vscode");
        assert_eq!(
            (named("ws://a/", "never"), named("ssh://a", "backoff")),
            ("never".into(), "backoff".into())
        );
    }
}
