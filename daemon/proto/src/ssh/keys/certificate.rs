//! OpenSSH's certificates.
use super::{KeyError, PrivateKey};
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
