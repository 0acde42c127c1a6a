//! A target's URL: `ws://host[:port][/path][?query][,weight]`, likewise `wss` and `tcp`, and
//! `ssh://[user@]host[:port][/command][,weight]`.

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
    /// A channel of an SSH connection.
    Ssh,
}

impl Scheme {
    /// As it stands in a URL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Ssh => "ssh",
        }
    }

    /// The port where none is given; raw TCP has none.
    const fn port(self) -> Option<u16> {
        match self {
            Self::Tcp => None,
            Self::Ws => Some(80),
            Self::Wss => Some(443),
            Self::Ssh => Some(22),
        }
    }
}

/// A target, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What is spoken.
    pub scheme: Scheme,
    /// Who logs in over SSH, percent-decoded.
    pub user: Option<String>,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port, the scheme's own where none was given.
    pub port: u16,
    /// Path and query as they were given; begins with `/`.
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
            "ssh" => Scheme::Ssh,
            other => {
                return Err(format!(
                    "target `{text}`: unknown scheme `{other}`; there are ws, wss, tcp and ssh"
                ));
            }
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, authority) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((user, authority)) if scheme == Scheme::Ssh => (Some(ssh_user(text, user)?), authority),
            Some(_) => {
                return Err(format!("target `{text}` has a user in it; give credentials with --header-file"));
            }
        };
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
        // Places of `--rows` stand in braces; what they become is looked at when it is known.
        if !authority.starts_with('[') && !host.contains('{') {
            check_host(host).map_err(|why| format!("target `{text}`: {why}"))?;
        }
        let port = match port {
            Some(port) => port
                .parse::<u16>()
                .ok()
                .filter(|&number| number > 0 && !port.starts_with('+'))
                .ok_or_else(|| format!("target `{text}`: `{port}` is no port; ports are 1 to 65535"))?,
            None => scheme.port().ok_or_else(|| format!("target `{text}` needs a port: tcp://host:port"))?,
        };
        if scheme == Scheme::Ssh && (path.contains('?') || decoded(path).is_none()) {
            return Err(format!(
                "target `{text}`: what follows the host is a command of UTF-8; write ? as %3F and % as %25, or give --ssh-command"
            ));
        }
        let path = match path.as_bytes().first() {
            None => "/".to_owned(),
            Some(b'/') => path.to_owned(),
            Some(_) => format!("/{path}"),
        };
        Ok(Self { scheme, user, host: host.to_owned(), port, path, weight })
    }

    /// What an `ssh://` target runs, percent-decoded; `None`: it does not say.
    pub fn command(&self) -> Option<String> {
        let path =
            self.path.strip_prefix('/').filter(|path| self.scheme == Scheme::Ssh && !path.is_empty())?;
        decoded(path)
    }

    /// The URL `text` with `user` in it, where it is one of `ssh://` that names nobody.
    pub fn with_user(text: &str, user: &str) -> Option<String> {
        Self::parse(text).ok().filter(|target| target.user.is_none())?;
        let rest = text.strip_prefix("ssh://")?;
        Some(format!("ssh://{}@{rest}", encoded(user)))
    }

    /// `host:port` with brackets around IPv6, as in a Host header; the scheme's own port left out.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (scheme, port) if scheme.port() == Some(port) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Target {
    /// Without query and weight: fit for a report.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or("/");
        let user = self.user.as_deref().map_or(String::new(), |user| encoded(user) + "@");
        write!(f, "{}://{user}{}{path}", self.scheme.name(), self.authority())
    }
}

/// The longest host name (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Whether `host` is a name, or an IPv4 address in the one spelling that everybody reads alike. inet_aton(3), which
/// resolvers ask first, takes 2130706433, 0177.0.0.1, 0x7f.1 and 127.1 for addresses, too.
///
/// # Errors
/// What is wrong with it and what to write instead.
pub fn check_host(host: &str) -> Result<(), String> {
    if let Some(odd) = host.chars().find(|&c| !(c.is_ascii_alphanumeric() || ".-_".contains(c))) {
        let odd = odd.escape_default();
        return Err(format!(
            "`{odd}` is in no host name; a name has letters, digits, `.`, `-` and `_`, others are written as xn--…"
        ));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.split('.').any(str::is_empty) || host.len() > HOST_BYTES_MAX {
        return Err(format!("a host name has names between its dots, and at most {HOST_BYTES_MAX} bytes"));
    }
    // As in URLs elsewhere: what ends in a number is an address (WHATWG URL, "ends in a number checker").
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix(['0']).and_then(|rest| rest.strip_prefix(['x', 'X'])).is_some_and(is_hex);
    if is_number && host.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(format!(
            "`{host}` is no IPv4 address; write four numbers without leading zeros: 127.0.0.1"
        ));
    }
    Ok(())
}

/// The user of the SSH target `text`; the words of a mistake repeat no password.
fn ssh_user(text: &str, user: &str) -> Result<String, String> {
    let place = text.rsplit_once('@').map_or("", |(_, place)| place);
    if user.contains(':') {
        return Err(format!(
            "target ssh://…@{place} has a password in it; put it into a file and give --ssh-password-file FILE"
        ));
    }
    decoded(user)
        .filter(|user| !user.is_empty() && !user.contains(char::is_control))
        .ok_or_else(|| format!("target ssh://…@{place}: before the @ stands a user's name, with % as %25"))
}

/// `text` with `%41` and the like replaced by what they mean; `None`: it is none, or no UTF-8, or has a NUL.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let (hex, behind) = rest.split_at_checked(2)?;
        bytes.push(digit(hex[0])? << 4 | digit(hex[1])?);
        rest = behind;
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// A user's name as it stands in a URL; braces stay, for they are places of `--rows`.
fn encoded(user: &str) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(user.len());
    for byte in user.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'{'
            | b'}'
            | b'+'
            | b'$' => {
                text.push(char::from(byte));
            }
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
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
    fn an_ssh_target_names_a_user_and_a_command_or_neither() {
        let target = Target::parse("ssh://ann%40lab@[::1]:2222/dd%20bs=1%2C2,5").unwrap();
        assert_eq!(
            (target.user.as_deref(), target.host.as_str(), target.port),
            (Some("ann@lab"), "::1", 2222)
        );
        assert_eq!((target.command().as_deref(), target.weight), (Some("dd bs=1,2"), 5));
        assert_eq!(target.to_string(), "ssh://ann%40lab@[::1]:2222/dd%20bs=1%2C2");
        let bare = Target::parse("ssh://bastion.example.com/").unwrap();
        assert_eq!((bare.user.as_deref(), bare.port, bare.command()), (None, 22, None));
        assert_eq!(Target::parse("ssh://a").unwrap().to_string(), "ssh://a/");
        assert_eq!(Target::parse("ws://a/x").unwrap().command(), None);
        let with = |text: &str| Target::with_user(text, "ann@lab");
        assert_eq!(with("ssh://[::1]:22/x,3").as_deref(), Some("ssh://ann%40lab@[::1]:22/x,3"));
        assert_eq!((with("ssh://bob@a"), with("ws://a"), with("ssh://")), (None, None, None));
        let row = Target::parse("ssh://{user}@{host}.example/").unwrap();
        assert_eq!(row.to_string(), "ssh://{user}@{host}.example/");
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let error = Target::parse("ssh://ann:canary@a:22/").unwrap_err();
        assert!(error.contains("--ssh-password-file") && error.contains("a:22"), "{error}");
        assert!(!error.contains("canary") && !error.contains("ann"));
    }

    #[test]
    fn a_host_is_a_name_or_an_address_in_its_one_spelling() {
        for host in [
            "localhost",
            "GW.Example.COM.",
            "xn--bcher-kva.example",
            "my_host",
            "127.0.0.1",
            "a1",
            "1a",
            "0xg",
        ] {
            assert_eq!(check_host(host), Ok(()), "{host}");
        }
        let long = format!("ws://{}/", "a.".repeat(127));
        assert!(Target::parse(&long).unwrap_err().contains("253"));
        let mapped = Target::parse("ws://[::ffff:a9fe:a9fe]/").unwrap();
        assert_eq!(mapped.host, "::ffff:a9fe:a9fe", "its address is judged as what it maps");
        assert!(Target::parse("ws://{host}.apps.example.com/").is_ok(), "rows fill it in");
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, word) in [
            ("127.0.0.1:80", "no URL"),
            ("http://a", "ws://"),
            ("gopher://a", "unknown scheme"),
            ("ssh://ann@", "no host"),
            ("ssh://@a", "user's name"),
            ("ssh://a%0A@a", "user's name"),
            ("ssh://a/cat?x", "%3F"),
            ("ssh://a/100%", "%25"),
            ("ssh://a/%FF", "UTF-8"),
            ("ssh://a/%00", "UTF-8"),
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
            ("ws://allowed@evil/", "user"),
            ("ws://evil#@allowed/", "fragment"),
            ("ws://evil\\@allowed/", "user"),
            ("ws://evil\\.allowed/", "in no host name"),
            ("ws://2130706433/", "four numbers"),
            ("ws://0177.0.0.1/", "four numbers"),
            ("ws://0x7f.0.0.1/", "four numbers"),
            ("ws://0x7f000001/", "four numbers"),
            ("ws://127.0.0.0x1/", "four numbers"),
            ("ws://127.1/", "four numbers"),
            ("ws://127.0.0.1./", "four numbers"),
            ("ws://127.0.0.01/", "four numbers"),
            ("ws://1.2.3.4.5/", "four numbers"),
            ("ws://%31%36%39.254.169.254/", "in no host name"),
            ("ws://gw%00.example.com/", "in no host name"),
            ("ws://gw\0.example.com/", "no host"),
            ("ws://gw\n.example.com/", "no host"),
            ("ws://gw\u{7f}.example.com/", "in no host name"),
            ("ws://\u{ff11}\u{ff16}\u{ff19}.254.169.254/", "in no host name"),
            ("ws://b\u{fc}cher.example/", "xn--"),
            ("ws://gw..example.com/", "between its dots"),
            ("ws://.gw.example.com/", "between its dots"),
            ("ws://[fe80::1%25lo]/", "no IPv6"),
            ("ws://[::1%lo]/", "no IPv6"),
            ("ws://[127.0.0.1]/", "no IPv6"),
            ("ws://::1/", "no host"),
            ("ssh://u@evil@0x7f.1/", "four numbers"),
        ] {
            let error = Target::parse(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
