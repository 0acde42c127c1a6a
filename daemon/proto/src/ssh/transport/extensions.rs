//! EXT_INFO (RFC 8308): what a server takes for authentication.

use super::super::message;
use super::super::wire::{Reader, Write};
use crate::Fault;

const SERVER_SIG_ALGS: &[u8] = b"server-sig-algs";

/// Signature algorithms that are known here.
const KNOWN: [&str; 4] = ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-256", "rsa-sha2-512"];

/// Signature algorithms that a server takes for authentication (RFC 8308 §3.1), as far as they are
/// known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureAlgorithms(u8);

impl SignatureAlgorithms {
    /// Whether it takes `algorithm`: `ssh-ed25519`, `ecdsa-sha2-nistp256`, `rsa-sha2-256`, `rsa-sha2-512`.
    pub fn contains(self, algorithm: &str) -> bool {
        KNOWN.iter().position(|known| *known == algorithm).is_some_and(|bit| self.0 & 1 << bit != 0)
    }

    fn read(list: &str) -> Self {
        let bits = KNOWN.iter().enumerate().filter(|(_, known)| list.split(',').any(|name| name == **known));
        Self(bits.fold(0, |set, (bit, _)| set | 1 << bit))
    }
}

/// A server's EXT_INFO.
pub(super) fn ext_info() -> Vec<u8> {
    let mut payload = vec![message::EXT_INFO];
    payload.put_uint32(1);
    payload.put_string(SERVER_SIG_ALGS);
    payload.put_string(KNOWN.join(","));
    payload
}

/// Reads EXT_INFO's payload: its server-sig-algs, where there is one. Other extensions are not used.
pub(super) fn read(payload: &[u8]) -> Result<Option<SignatureAlgorithms>, Fault> {
    let mut reader = Reader::new(payload);
    reader.byte()?;
    let mut algorithms = None;
    for _ in 0..reader.uint32()? {
        let (name, value) = (reader.string()?, reader.string()?);
        if name == SERVER_SIG_ALGS {
            let list = std::str::from_utf8(value)
                .map_err(|_| Fault::SshProtocol("server-sig-algs is not a list of names"))?;
            algorithms = Some(SignatureAlgorithms::read(list));
        }
    }
    Ok(algorithms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_algorithms_are_kept() {
        let all = read(&ext_info()).unwrap().unwrap();
        assert!(KNOWN.iter().all(|name| all.contains(name)) && !all.contains("ssh-rsa"));
        let mut payload = vec![message::EXT_INFO];
        payload.put_uint32(2);
        payload.put_string("no-flow-control");
        payload.put_string("s");
        payload.put_string(SERVER_SIG_ALGS);
        payload.put_string("ssh-rsa,rsa-sha2-512,x");
        let some = read(&payload).unwrap().unwrap();
        let kept: Vec<&str> = KNOWN.into_iter().filter(|name| some.contains(name)).collect();
        assert_eq!(kept, ["rsa-sha2-512"]);
        assert!(read(&payload[..payload.len() - 1]).is_err());
        payload[4] = 1;
        assert_eq!(read(&payload), Ok(None));
    }
}
