//! known_hosts.
use super::KeyError;
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
