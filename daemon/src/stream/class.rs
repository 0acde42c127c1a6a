//! Failure classes: a stream that fails is a result, counted by class, and each class belongs
//! to somebody.

use scale_proto::Fault;
use scale_ring::Errno;

/// Whom a failure belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// This program or its host.
    Generator,
    /// The peer, or what lies between.
    Target,
    /// Who asked for the run.
    User,
}

macro_rules! classes {
    ($($variant:ident $name:literal $blame:ident $meaning:literal)*) => {
        /// Why a connection failed or was lost.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Class { $(#[doc = $meaning] $variant),* }

        impl Class {
            /// Every class, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As the report and the metrics say it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Whose it is.
            pub const fn blame(self) -> Blame {
                match self { $(Self::$variant => Blame::$blame),* }
            }

            /// One sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }
        }
    };
}

classes! {
    Refused "refused" Target "Nobody listens there: every address answered with RST."
    Reset "reset" Target "The peer ended the connection with RST."
    Closed "closed" Target "The peer ended the connection (FIN) without a closing handshake."
    CloseFrame "close_frame" Target "The peer sent a websocket Close that we had not asked for."
    Timeout "timeout" Target "The stream was not open within the connect timeout, or the kernel gave up on retransmissions."
    Unreachable "unreachable" Target "No route to the target."
    TlsCertificate "tls_certificate" Target "The certificate does not verify: issuer, name or date."
    TlsAlert "tls_alert" Target "The peer refused the TLS handshake or connection with an alert."
    TlsProtocol "tls_protocol" Target "The peer does not speak TLS as it should."
    Http401 "http_401" User "401 instead of 101: the credentials are not accepted."
    Http403 "http_403" User "403 instead of 101: the credentials do not suffice."
    Http404 "http_404" Target "404 instead of 101: the path does not exist."
    Http429 "http_429" Target "429 instead of 101: the target limits the rate."
    Http4xx "http_4xx" Target "Another status of 400 to 499 instead of 101."
    Http500 "http_500" Target "500 instead of 101."
    Http502 "http_502" Target "502 instead of 101: a proxy does not reach its server."
    Http503 "http_503" Target "503 instead of 101: the target is overloaded or down."
    Http504 "http_504" Target "504 instead of 101: a proxy's server does not answer."
    Http5xx "http_5xx" Target "Another status of 500 to 599 instead of 101."
    HttpOther "http_other" Target "A status of 100 to 399 instead of 101: a redirect, or no websocket there."
    HttpProtocol "http_protocol" Target "The answer to the upgrade is not HTTP, too long, or lacks what RFC 6455 asks for."
    BadAccept "bad_accept" Target "101 with a wrong Sec-WebSocket-Accept: something else answers there."
    WsProtocol "ws_protocol" Target "A frame that RFC 6455 does not allow."
    AgentUnreachable "agent_unreachable" Target "The terminal was accepted, but Coder could not reach the workspace's agent."
    TerminalSilent "terminal_silent" Target "The terminal was accepted, but its echo did not come within the connect timeout: agent or command hang."
    TerminalEnded "terminal_ended" Target "The terminal's command ended, or the server went away in order: Close 1000 or 1001 that we had not asked for."
    TerminalRedrawn "terminal_redrawn" User "The terminal is redrawn by screen: ask for backend_type=buffered, or for an image without screen."
    TerminalEcho "terminal_echo" Target "The terminal says much, but does not echo what is typed."
    PingFailed "ping_failed" Target "The server had no answer to its ping for 15 s: this host, the way to it, or the server's own end is overloaded."
    DroppedBeforeBanner "dropped_before_banner" Target "The SSH server ended the connection before it said what it is: sshd's MaxStartups or PerSourcePenalties does this; slow the ramp with --connect-rate, or raise them."
    SshProtocol "ssh_protocol" Target "The server does not speak SSH 2 as it should."
    SshTampered "ssh_tampered" Target "An SSH packet does not authenticate: it was damaged, cut or played again on its way."
    KexFailed "kex_failed" Target "The SSH key exchange failed: no algorithm in common, or a wrong signature."
    HostKeyRefused "host_key_refused" User "The server's host key is not known here, or is another one than is known: --known-hosts, --accept-new."
    AuthFailed "auth_failed" User "The SSH server took none of the credentials."
    ChannelRefused "channel_refused" Target "The SSH server refused the channel or its command: see its MaxSessions, ForceCommand, AllowTcpForwarding."
    Exited0 "exited_0" Target "The command ended with status 0 before its stream did."
    Exited1 "exited_1" Target "The command ended with status 1."
    Exited2 "exited_2" Target "The command ended with status 2."
    Exited3 "exited_3" Target "The command ended with status 3."
    Exited126 "exited_126" User "The command ended with status 126: it cannot be run."
    Exited127 "exited_127" User "The command ended with status 127: there is no such command."
    Exited255 "exited_255" Target "The command ended with status 255."
    ExitedOther "exited_other" Target "The command ended with another status."
    ExitedSignal "exited_signal" Target "The command was ended by a signal."
    ChannelClosed "channel_closed" Target "The SSH server closed the channel without saying how its command ended."
    Disconnected2 "disconnected_2" Target "The SSH server disconnected with code 2: it calls what we sent a protocol error, or refuses for a reason of its own."
    Disconnected3 "disconnected_3" Target "The SSH server disconnected with code 3: key exchange failed."
    Disconnected10 "disconnected_10" Target "The SSH server disconnected with code 10: connection lost."
    Disconnected11 "disconnected_11" Target "The SSH server disconnected with code 11: it was told to."
    Disconnected12 "disconnected_12" Target "The SSH server disconnected with code 12: too many connections."
    Disconnected14 "disconnected_14" User "The SSH server disconnected with code 14: no more authentication methods."
    DisconnectedOther "disconnected_other" Target "The SSH server disconnected with another code."
    AddressUnavailable "address_unavailable" Generator "No source port, address or interface is left on this host."
    Files "files" Generator "Descriptors or ring slots are used up on this host."
    Memory "memory" Generator "This host's kernel has no memory left for sockets."
    NotPermitted "not_permitted" Generator "This host's firewall or policy forbids the connection."
    Internal "internal" Generator "An error that this program did not expect."
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// An SSH server's DISCONNECT, RFC 4253 §11.1.
    pub const fn disconnected(code: u32) -> Self {
        match code {
            2 => Self::Disconnected2,
            3 => Self::Disconnected3,
            10 => Self::Disconnected10,
            11 => Self::Disconnected11,
            12 => Self::Disconnected12,
            14 => Self::Disconnected14,
            _ => Self::DisconnectedOther,
        }
    }

    /// A command's status.
    pub const fn exited(status: u32) -> Self {
        match status {
            0 => Self::Exited0,
            1 => Self::Exited1,
            2 => Self::Exited2,
            3 => Self::Exited3,
            126 => Self::Exited126,
            127 => Self::Exited127,
            255 => Self::Exited255,
            _ => Self::ExitedOther,
        }
    }
}

impl From<Errno> for Class {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::Refused => Self::Refused,
            Errno::Reset => Self::Reset,
            Errno::TimedOut => Self::Timeout,
            Errno::Unreachable => Self::Unreachable,
            Errno::AddressInUse | Errno::AddressNotAvailable => Self::AddressUnavailable,
            Errno::TooManyFiles => Self::Files,
            Errno::NoBuffers | Errno::NoMemory => Self::Memory,
            Errno::NotPermitted => Self::NotPermitted,
            Errno::Cancelled | Errno::Other(_) => Self::Internal,
        }
    }
}

impl From<&Fault> for Class {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::HttpStatus { status, .. } => match status {
                401 => Self::Http401,
                403 => Self::Http403,
                404 => Self::Http404,
                429 => Self::Http429,
                500 => Self::Http500,
                502 => Self::Http502,
                503 => Self::Http503,
                504 => Self::Http504,
                400..=499 => Self::Http4xx,
                500..=599 => Self::Http5xx,
                _ => Self::HttpOther,
            },
            Fault::HttpMalformed | Fault::HttpTooLong | Fault::BadUpgrade | Fault::BadSubprotocol => {
                Self::HttpProtocol
            }
            Fault::BadAccept => Self::BadAccept,
            Fault::TlsCertificate(_) => Self::TlsCertificate,
            Fault::TlsAlert(_) => Self::TlsAlert,
            Fault::TlsProtocol(_) => Self::TlsProtocol,
            Fault::TerminalRedrawn => Self::TerminalRedrawn,
            Fault::TerminalEchoMissing => Self::TerminalEcho,
            Fault::SshProtocol(_) => Self::SshProtocol,
            Fault::SshTampered => Self::SshTampered,
            Fault::SshKex(_) => Self::KexFailed,
            Fault::SshHostKey(_) => Self::HostKeyRefused,
            Fault::SshAuth(_) => Self::AuthFailed,
            Fault::SshDisconnected { code, .. } => Self::disconnected(*code),
            Fault::WsProtocol(_) | Fault::WsUtf8 | Fault::WsTooBig => Self::WsProtocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_labels_and_numbers_are_indices() {
        let names: std::collections::BTreeSet<_> = Class::ALL.iter().map(|class| class.name()).collect();
        assert_eq!(names.len(), Class::COUNT);
        assert!(Class::ALL.iter().enumerate().all(|(index, &class)| class as usize == index));
    }
}
