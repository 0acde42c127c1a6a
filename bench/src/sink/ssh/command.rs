//! `scale-sink --protocol ssh`: its flags, and a server's configuration from them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use scale_proto::ssh::keys::{KeyError, PrivateKey};
use scale_proto::ssh::{Algorithms, RekeyLimit, ServerConfig};
use scale_ring::host;

use super::WINDOW_BYTES;

/// Flags of an SSH sink (`--protocol ssh`).
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "With --protocol ssh")]
#[group(id = "ssh")]
pub struct Flags {
    /// Ask for new keys after so many bytes in either direction [default: 1 GiB].
    #[arg(long, value_name = "N")]
    pub ssh_rekey_bytes: Option<u64>,
    /// What is offered, best first [default: every cipher, cheapest first].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub ssh_ciphers: Vec<String>,
    /// A private key by which the server is known, for each kind of key [default: a new one, ed25519].
    #[arg(long, value_name = "FILE")]
    pub ssh_host_key: Vec<PathBuf>,
}

impl Flags {
    /// The first of them that was given.
    pub fn given(&self) -> Option<&'static str> {
        let Self { ssh_rekey_bytes, ssh_ciphers, ssh_host_key } = self;
        [
            ("--ssh-rekey-bytes", ssh_rekey_bytes.is_some()),
            ("--ssh-ciphers", !ssh_ciphers.is_empty()),
            ("--ssh-host-key", !ssh_host_key.is_empty()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }

    /// The server that they describe.
    ///
    /// # Errors
    /// A sentence: what does not work, and what to change.
    pub fn config(&self) -> Result<ServerConfig, String> {
        let mut algorithms = Algorithms::default();
        if !self.ssh_ciphers.is_empty() {
            algorithms.ciphers =
                self.ssh_ciphers.iter().map(|name| cipher(name)).collect::<Result<_, _>>()?;
        }
        let host_keys: Vec<_> = self.ssh_host_key.iter().map(host_key).collect::<Result<_, _>>()?;
        let rekey = self.ssh_rekey_bytes.map_or_else(RekeyLimit::default, |bytes| RekeyLimit { bytes });
        if rekey.bytes < REKEY_BYTES_MIN {
            return Err(format!(
                "--ssh-rekey-bytes {}: new keys would be asked for with nearly every packet; take at least \
                 {REKEY_BYTES_MIN}",
                rekey.bytes
            ));
        }
        Ok(ServerConfig {
            algorithms,
            host_keys: if host_keys.is_empty() { vec![Arc::new(new_key())] } else { host_keys },
            rekey,
            window_bytes: WINDOW_BYTES,
            none: true,
            banner: None,
        })
    }
}

/// No smaller limit on the bytes of one set of keys is taken.
const REKEY_BYTES_MIN: u64 = 1024;

/// Lines for a client's `known_hosts` file: the keys of a server at `address`.
pub fn known_hosts(config: &ServerConfig, address: SocketAddr) -> Vec<String> {
    let host = match address.port() {
        22 => address.ip().to_string(),
        port => format!("[{}]:{port}", address.ip()),
    };
    let line = |key: &Arc<PrivateKey>| {
        let public = key.public();
        format!("{host} {} {}", public.type_name(), STANDARD.encode(public.blob()))
    };
    config.host_keys.iter().map(line).collect()
}

fn cipher(name: &str) -> Result<&'static str, String> {
    Algorithms::CIPHERS.into_iter().find(|known| *known == name).ok_or_else(|| {
        format!("--ssh-ciphers: {name} is not known here; take some of {}", Algorithms::CIPHERS.join(","))
    })
}

fn host_key(path: &PathBuf) -> Result<Arc<PrivateKey>, String> {
    let file = std::fs::read(path).map_err(|error| {
        format!("cannot read {}: {error}; give --ssh-host-key another file", path.display())
    })?;
    match PrivateKey::from_file(&file, None) {
        Ok(key) => Ok(Arc::new(key)),
        Err(KeyError::Encrypted | KeyError::Passphrase) => Err(format!(
            "{}: the key is encrypted; take its passphrase off with ssh-keygen -p",
            path.display()
        )),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn new_key() -> PrivateKey {
    let mut seed = [0; 32];
    for word in seed.as_chunks_mut::<8>().0 {
        *word = host::random_seed().to_ne_bytes();
    }
    PrivateKey::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_known_hosts_names_host_port_and_key() {
        let config = Flags::default().config().expect("defaults fit");
        let line = |address: &str| known_hosts(&config, address.parse().expect("an address"))[0].clone();
        assert!(line("127.0.0.1:2222").starts_with("[127.0.0.1]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"));
        assert!(line("[::1]:2222").starts_with("[::1]:2222 ssh-ed25519 "));
        assert!(line("127.0.0.1:22").starts_with("127.0.0.1 ssh-ed25519 "));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let ciphers = Flags { ssh_ciphers: vec!["aes128-cbc".to_owned()], ..Flags::default() };
        assert!(ciphers.config().is_err_and(|error| error.contains("aes128-gcm@openssh.com")));
        let rekey = Flags { ssh_rekey_bytes: Some(10), ..Flags::default() };
        assert!(rekey.config().is_err_and(|error| error.contains("at least 1024")));
        let key = Flags { ssh_host_key: vec!["/dev/null".into()], ..Flags::default() };
        assert!(key.config().is_err_and(|error| error.contains("/dev/null")));
        assert_eq!((key.given(), Flags::default().given()), (Some("--ssh-host-key"), None));
    }
}
