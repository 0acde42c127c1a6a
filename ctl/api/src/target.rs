//! A target's URL: `ws://host[:port][/path][?query][,weight]`, likewise `wss` and `tcp`.

use std::fmt;

/// What is spoken to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Raw bytes over TCP.
    Tcp,
    /// Websocket.
    Ws,
    /// Websocket over TLS.
    Wss,
}

impl Scheme {
    /// As it stands in a URL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

/// A target, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What is spoken.
    pub scheme: Scheme,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port, the scheme's own where none was given.
    pub port: u16,
    /// Path and query; begins with `/`.
    pub path: String,
    /// Its share of the streams against the other targets' (default 1).
    pub weight: u32,
}

impl Target {
    /// The largest weight.
    pub const WEIGHT_MAX: u32 = 1000;

    /// Parses a target.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (url, weight) = match text.rsplit_once(',') {
            Some((url, weight)) if !weight.is_empty() && weight.bytes().all(|b| b.is_ascii_digit()) => {
                let weight = weight.parse().ok().filter(|w| (1..=Self::WEIGHT_MAX).contains(w));
                (
                    url,
                    weight
                        .ok_or_else(|| format!("target `{text}`: a weight is 1 to {}", Self::WEIGHT_MAX))?,
                )
            }
            _ => (text, 1),
        };
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(format!("target `{text}` is no URL; write ws://host:port/path"));
        };
        let scheme = match scheme {
            "ws" => Scheme::Ws,
            "wss" => Scheme::Wss,
            "tcp" => Scheme::Tcp,
            "http" | "https" => {
                return Err(format!(
                    "target `{text}`: for websockets write ws:// or wss:// instead of {scheme}://"
                ));
            }
            "ssh" => return Err(format!("target `{text}`: ssh is not built yet; there are ws, wss and tcp")),
            other => {
                return Err(format!("target `{text}`: unknown scheme `{other}`; there are ws, wss and tcp"));
            }
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(format!("target `{text}` has a user in it; give credentials with --header-file"));
        }
        if path.contains('#') {
            return Err(format!("target `{text}` has a fragment (#…), which is never sent; leave it out"));
        }
        if path.bytes().any(|byte| byte <= b' ' || byte == 0x7F) {
            return Err(format!("target `{text}`: a path has no spaces; write %20"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, port) =
                    v6.split_once(']').ok_or_else(|| format!("target `{text}`: `[` without `]`"))?;
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(format!("target `{text}`: `{host}` is no IPv6 address"));
                }
                // Nothing but a port may stand behind the bracket.
                (host, (!port.is_empty()).then(|| port.strip_prefix(':').unwrap_or("")))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() || host.bytes().any(|byte| byte <= b' ') {
            return Err(format!("target `{text}` has no host"));
        }
        let port = match (port, scheme) {
            (Some(port), _) => port
                .parse::<u16>()
                .ok()
                .filter(|&number| number > 0 && !port.starts_with('+'))
                .ok_or_else(|| format!("target `{text}`: `{port}` is no port; ports are 1 to 65535"))?,
            (None, Scheme::Ws) => 80,
            (None, Scheme::Wss) => 443,
            (None, Scheme::Tcp) => return Err(format!("target `{text}` needs a port: tcp://host:port")),
        };
        let path = match path.as_bytes().first() {
            None => "/".to_owned(),
            Some(b'/') => path.to_owned(),
            Some(_) => format!("/{path}"),
        };
        Ok(Self { scheme, host: host.to_owned(), port, path, weight })
    }

    /// `host:port` with brackets around IPv6, as in a Host header; the scheme's own port left out.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (Scheme::Ws, 80) | (Scheme::Wss, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Target {
    /// Without query and weight: fit for a report.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or("/");
        write!(f, "{}://{}{path}", self.scheme.name(), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("wss://gw.example.com/echo?token=x,3").unwrap();
        assert_eq!((target.port, target.weight, target.path.as_str()), (443, 3, "/echo?token=x"));
        assert_eq!(target.to_string(), "wss://gw.example.com/echo");
        let target = Target::parse("ws://[::1]:9000").unwrap();
        assert_eq!((target.host.as_str(), target.authority().as_str()), ("::1", "[::1]:9000"));
        assert_eq!(Target::parse("ws://a?x=1").unwrap().path, "/?x=1");
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, word) in [
            ("127.0.0.1:80", "no URL"),
            ("http://a", "ws://"),
            ("gopher://a", "unknown scheme"),
            ("ssh://a", "not built"),
            ("tcp://a", "needs a port"),
            ("ws://", "no host"),
            ("ws://a:0", "no port"),
            ("ws://a:x", "no port"),
            ("ws://u:p@a", "--header-file"),
            ("ws://[::x]", "no IPv6"),
            ("ws://[::1]9000/", "no port"),
            ("ws://a:+80/", "no port"),
            ("ws://a,0", "weight"),
            ("ws://a/b c", "%20"),
            ("ws://a/#x", "fragment"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
