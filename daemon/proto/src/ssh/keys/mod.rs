//! Keys: private ones that sign, public ones that verify, certificates, and what is known of hosts.

use std::sync::Arc;

use crate::Fault;

/// Why a file is of no use. Every sentence says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// A private key's file is encrypted, and there is no passphrase, or a wrong one.
    #[error("the private key is encrypted: give its passphrase with --ssh-passphrase-file")]
    Passphrase,
}

/// Bytes that are wiped when they are dropped, and never printed.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Keeps `bytes`.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// A key that signs: ed25519, ECDSA P-256 or RSA.
#[derive(Debug)]
pub struct PrivateKey {}

#[expect(unused_variables, clippy::needless_pass_by_value, reason = "the shape comes first")]
impl PrivateKey {
    /// Reads an OpenSSH private key file (`-----BEGIN OPENSSH PRIVATE KEY-----`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_openssh(file: &[u8], passphrase: Option<&Secret>) -> Result<Self, KeyError> {
        panic!("the shape comes first")
    }

    /// An ed25519 key from its seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        panic!("the shape comes first")
    }

    /// Its public key's blob (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4).
    pub fn public_blob(&self) -> &[u8] {
        panic!("the shape comes first")
    }

    /// Names of the signatures that it can make, the preferred one first.
    pub fn algorithms(&self) -> &'static [&'static str] {
        panic!("the shape comes first")
    }

    /// The signature's blob. `algorithm` is one of [`Self::algorithms`].
    ///
    /// # Errors
    /// `SshAuth` where the library refuses.
    pub fn sign(&self, algorithm: &'static str, message: &[u8]) -> Result<Vec<u8>, Fault> {
        panic!("the shape comes first")
    }
}

/// A key that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {}

#[expect(unused_variables, clippy::needless_pass_by_value, reason = "the shape comes first")]
impl PublicKey {
    /// Reads a blob.
    ///
    /// # Errors
    /// `SshHostKey`: it is of a kind that is not known here, or malformed.
    pub fn from_blob(blob: &[u8]) -> Result<Self, Fault> {
        panic!("the shape comes first")
    }

    /// `SHA256:` and base64, as ssh-keygen prints it.
    pub fn fingerprint(&self) -> String {
        panic!("the shape comes first")
    }

    /// Verifies a signature's blob, which must be by `algorithm` (`ssh-ed25519`, `rsa-sha2-512`, …).
    ///
    /// # Errors
    /// `SshHostKey`.
    pub fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> Result<(), Fault> {
        panic!("the shape comes first")
    }
}

/// OpenSSH's certificate: a key, whom it is for, when, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {}

#[expect(unused_variables, clippy::needless_pass_by_value, reason = "the shape comes first")]
impl Certificate {
    /// Reads a `…-cert.pub` file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_openssh(file: &[u8]) -> Result<Self, KeyError> {
        panic!("the shape comes first")
    }

    /// As it goes over the wire.
    pub fn blob(&self) -> &[u8] {
        panic!("the shape comes first")
    }

    /// Whether it is a user's certificate for this key.
    pub fn is_for(&self, key: &PrivateKey) -> bool {
        panic!("the shape comes first")
    }

    /// The name for authentication by a signature `algorithm`: `rsa-sha2-512` gives
    /// `rsa-sha2-512-cert-v01@openssh.com`.
    pub fn algorithm(&self, algorithm: &'static str) -> &'static str {
        panic!("the shape comes first")
    }
}

/// Which servers are believed.
#[derive(Debug)]
pub enum HostKeys {
    /// Any.
    Any,
    /// What a `known_hosts` file says.
    Known(KnownHosts),
    /// As `Known`; a host that is not in it is believed at first sight, and held to that for the run.
    AcceptNew(KnownHosts),
}

/// What a `known_hosts` file says (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), and what was accepted since.
#[derive(Debug, Default)]
pub struct KnownHosts {}

#[expect(unused_variables, clippy::needless_pass_by_value, reason = "the shape comes first")]
impl KnownHosts {
    /// Reads a file: plain and hashed names, patterns, ports, `@cert-authority`, `@revoked`.
    ///
    /// # Errors
    /// The line, and what is wrong with it.
    pub fn parse(file: &str) -> Result<Self, KeyError> {
        panic!("the shape comes first")
    }
}

#[expect(unused_variables, clippy::needless_pass_by_value, reason = "the shape comes first")]
impl HostKeys {
    /// The algorithms of `offered` in the order in which a server known as `host` should be asked for
    /// them: first those for which something is known, as OpenSSH does.
    pub fn order(&self, host: &str, port: u16, offered: &[&'static str]) -> Vec<&'static str> {
        panic!("the shape comes first")
    }

    /// Judges the key or certificate that a server presents, and returns the key that must have signed.
    ///
    /// # Errors
    /// `SshHostKey`: unknown, changed, revoked, a certificate that is not valid; each with what to do.
    pub fn judge(&self, host: &str, port: u16, blob: &[u8], unix_s: u64) -> Result<PublicKey, Fault> {
        panic!("the shape comes first")
    }

    /// Hosts that were believed at first sight, with their keys' fingerprints.
    pub fn accepted(&self) -> Vec<(Arc<str>, String)> {
        panic!("the shape comes first")
    }
}
