//! SSH by others, held to the floor's pacing: what both clients share, and russh's server.
//!
//! A peer opens its sessions, each with one channel that runs an echoing command, and then sends by the
//! grid as the floor does. It is an oracle, too: with `--verify` every byte that comes back is compared,
//! and each channel is ended in order and has to leave with status 0.
//!
//! Elsewhere: how bytes are moved, in `bin/peer-ssh2.rs` and `bin/peer-russh.rs`.

#[cfg(feature = "russh")]
pub mod russh_server;

use std::path::PathBuf;
use std::time::Duration;

use scale_ring::host;

use crate::paced::{Arguments, Figures};

/// Sessions that are opened at once: enough to keep both sides busy.
pub const HANDSHAKES_MAX: usize = 32;
/// How long nothing may come while sessions open, and how long the last echoes may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of the SSH peers.
#[derive(Debug, Clone, clap::Parser)]
pub struct SshArguments {
    /// Those of every peer; the target speaks SSH.
    #[command(flatten)]
    pub paced: Arguments,
    /// Who logs in
    #[arg(long, default_value = "load")]
    pub user: String,
    /// The password's file; without one, and without a key, the method `none` has to do
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    pub password_file: Option<PathBuf>,
    /// A private key's file, without a passphrase
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// The only cipher that is offered
    #[arg(long, default_value = "aes128-gcm@openssh.com")]
    pub cipher: String,
    /// MACs that are offered, for ciphers that need one
    #[arg(long, value_delimiter = ',', default_value = "hmac-sha2-256-etm@openssh.com,hmac-sha2-256")]
    pub macs: Vec<String>,
    /// The only key exchange that is offered
    #[arg(long, default_value = "curve25519-sha256")]
    pub kex: String,
    /// What each channel runs; default: dd, with blocks of a message
    #[arg(long)]
    pub command: Option<String>,
    /// Compare every byte that comes back, and end the channels in order
    #[arg(long)]
    pub verify: bool,
}

/// How to log in.
#[derive(Debug, Clone)]
pub enum Login {
    /// By saying who one is (RFC 4252 §5.2).
    None,
    /// By a password.
    Password(String),
    /// By a private key, which lies in this file.
    Key(PathBuf),
}

impl SshArguments {
    /// The command of each channel.
    pub fn command(&self) -> String {
        let dd = || format!("dd if=/dev/stdin of=/dev/stdout bs={} status=none", self.paced.bytes);
        self.command.clone().unwrap_or_else(dd)
    }

    /// How to log in.
    ///
    /// # Errors
    /// Where the password cannot be read.
    pub fn login(&self) -> Result<Login, String> {
        Ok(match (&self.key_file, &self.password_file) {
            (Some(key), _) => Login::Key(key.clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| format!("password {}: {error}", path.display()))?;
                Login::Password(text.trim_end_matches('\n').to_owned())
            }
            (None, None) => Login::None,
        })
    }

    /// A message: each byte has another value than its neighbours, and each 256 others than the last.
    pub fn message(&self) -> Vec<u8> {
        (0..self.paced.message_bytes()).map(|at| (at * 167 + (at >> 8) * 13) as u8).collect()
    }
}

/// Where one stream's echo stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo {
    at: usize,
}

impl Echo {
    /// More of it came; whether it is what was sent, `message` again and again.
    pub fn take(&mut self, mut bytes: &[u8], message: &[u8]) -> bool {
        let mut same = true;
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(message.len() - self.at));
            same &= part == &message[self.at..self.at + part.len()];
            self.at = (self.at + part.len()) % message.len();
            bytes = rest;
        }
        same
    }
}

/// What the sessions cost.
#[derive(Debug, Clone, Copy)]
pub struct Opening {
    cpu_ns: u64,
    rss_bytes: u64,
}

impl Opening {
    /// Begins to open sessions. What is made once a process is to be there: a session was opened before.
    pub fn begin() -> Self {
        Self { cpu_ns: host::process_cpu_ns(), rss_bytes: host::rss_bytes() }
    }

    /// All are open.
    pub fn end(self, sessions: u32) -> Opened {
        let cpu_ns = host::process_cpu_ns() - self.cpu_ns;
        Opened { cpu_us: cpu_ns as f64 / 1e3 / f64::from(sessions), rss_before: self.rss_bytes, sessions }
    }
}

/// The cost of sessions that are open.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    cpu_us: f64,
    rss_before: u64,
    sessions: u32,
}

impl Opened {
    /// The figures as JSON, with these: `handshake_cpu_us` (connect to command, a session) and
    /// `rss_per_stream`, in bytes.
    pub fn to_json(self, figures: &Figures) -> serde_json::Value {
        let mut json = figures.to_json();
        let rss = host::rss_bytes().saturating_sub(self.rss_before) as f64 / f64::from(self.sessions);
        json["handshake_cpu_us"] = self.cpu_us.into();
        json["rss_per_stream"] = rss.into();
        json
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn an_echo_is_followed_through_any_pieces() {
        let arguments = SshArguments::parse_from(["peer", "--target", "127.0.0.1:1", "--bytes", "1000"]);
        let message = arguments.message();
        let stream: Vec<u8> = message.iter().cycle().take(7000).copied().collect();
        for piece in [1, 7, 999, 1000, 1001, 7000] {
            let mut echo = Echo::default();
            assert!(stream.chunks(piece).all(|piece| echo.take(piece, &message)), "pieces of {piece} B");
        }
    }

    #[test]
    fn an_echo_that_lacks_a_byte_or_has_another_is_not_the_same() {
        let arguments = SshArguments::parse_from(["peer", "--target", "127.0.0.1:1"]);
        let message = arguments.message();
        assert!(!Echo::default().take(&message[1..], &message));
        assert!(!Echo::default().take(&[&message[..256], &message[512..]].concat(), &message));
        let mut other = message.clone();
        other[4095] ^= 1;
        assert!(!Echo::default().take(&other, &message));
    }

    #[test]
    fn a_password_ends_with_its_line() {
        let path = std::env::temp_dir().join(format!("peer-password-{}", std::process::id()));
        std::fs::write(&path, "with space \n").expect("a folder for it");
        let file = path.display().to_string();
        let arguments =
            SshArguments::parse_from(["peer", "--target", "127.0.0.1:1", "--password-file", &file]);
        let login = arguments.login();
        std::fs::remove_file(&path).expect("it is there");
        assert!(matches!(login, Ok(Login::Password(text)) if text == "with space "));
        assert!(matches!(SshArguments { password_file: None, ..arguments }.login(), Ok(Login::None)));
    }
}
