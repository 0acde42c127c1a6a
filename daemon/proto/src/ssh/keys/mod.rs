//! Keys: private ones that sign, public ones that verify, certificates, and what is known of hosts.
//!
//! - [`PrivateKey`]: read once a plan from OpenSSH's files and from PEM; it signs for every connection.
//! - [`PublicKey`]: read from what a peer shows; it verifies.
//! - [`Certificate`]: OpenSSH's, of users and of hosts.
//! - [`HostKeys`]: which servers are believed; a [`KnownHosts`] file and what was accepted since.
//!
//! Holds always: signatures are aws-lc's; RSA below 2048 bits and signatures by SHA-1 are refused; no
//! secret is printed, and each is wiped when it is dropped.
//!
//! Elsewhere: what is signed (`transport`, `auth`), and where the files lie (`scaled`).

mod accepted;
mod certificate;
mod host_keys;
mod known_hosts;
mod openssh;
mod pem;
mod private;
mod public;
mod rsa;
mod secret;
#[cfg(test)]
mod tests;

pub use certificate::{Certificate, PRINCIPALS_MAX};
pub use host_keys::HostKeys;
pub use known_hosts::{HASHED_LINES_MAX, KNOWN_HOSTS_BYTES_MAX, KnownHosts};
pub use private::PrivateKey;
pub use public::{PublicKey, signature_algorithm};
pub use secret::{SECRET_BYTES_MAX, Secret};

/// Bytes of a private key's or a certificate's file.
pub const KEY_FILE_BYTES_MAX: usize = 64 << 10;

/// Why a file is of no use. Every sentence says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// A private key's file is encrypted, and there is no passphrase.
    #[error("the private key is encrypted: give its passphrase with --ssh-passphrase-file")]
    Encrypted,
    /// A private key's file is encrypted by another passphrase.
    #[error(
        "the passphrase does not open the private key: see that --ssh-passphrase-file holds this key's, \
         and nothing but the passphrase and at most one line end"
    )]
    Passphrase,
}

impl KeyError {
    fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }
}
