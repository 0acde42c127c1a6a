//! The armour around private keys: PEM (RFC 7468), read as leniently as ssh reads it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{KEY_FILE_BYTES_MAX, KeyError};

/// The first block of a file.
pub(super) struct Pem<'a> {
    /// What stands behind BEGIN.
    pub label: &'a str,
    /// What was in base64.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// For PEM that is encrypted in a way of its own.
pub(super) fn encrypted() -> KeyError {
    KeyError::malformed(
        "the private key is encrypted in an old format: rewrite a copy of it in OpenSSH's with \
         `ssh-keygen -p -f FILE`, which keeps a passphrase, and give that",
    )
}

impl<'a> Pem<'a> {
    pub fn parse(file: &'a [u8]) -> Result<Self, KeyError> {
        if file.len() > KEY_FILE_BYTES_MAX {
            return Err(KeyError::malformed(format!(
                "the file has {} bytes, and a private key has at most {KEY_FILE_BYTES_MAX}: give the file that \
                 ssh-keygen made",
                file.len()
            )));
        }
        let text = std::str::from_utf8(file).map_err(|_| no_key(file))?;
        let mut lines = text.lines().map(str::trim);
        let label = lines
            .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
            .ok_or_else(|| no_key(file))?;
        let mut base64 = Zeroizing::new(Vec::with_capacity(text.len()));
        loop {
            match lines.next() {
                Some(line) if line.starts_with("-----END ") => break,
                Some(line) if line.contains("ENCRYPTED") => return Err(encrypted()),
                // Headers of RFC 1421; none but the one above matters.
                Some(line) if line.contains(':') => {}
                Some(line) => base64.extend_from_slice(line.as_bytes()),
                None => {
                    return Err(KeyError::malformed(
                        "the private key's file ends before its last line, -----END …-----: copy it whole",
                    ));
                }
            }
        }
        let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(base64.len())]);
        let length = STANDARD.decode_slice(base64.as_slice(), &mut bytes).map_err(|_| {
            KeyError::malformed("the private key's file is damaged, it is no base64: copy it again")
        })?;
        bytes.truncate(length);
        Ok(Self { label, bytes })
    }
}

/// What people give instead.
fn no_key(file: &[u8]) -> KeyError {
    let what = if ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| file.starts_with(kind.as_bytes())) {
        "the file holds a public key: give the private one, which lies beside it without .pub"
    } else if file.starts_with(b"PuTTY-User-Key-File") {
        "the file is PuTTY's: convert it with `puttygen FILE -O private-openssh -o NEW`"
    } else {
        "the file holds no private key, no line -----BEGIN … PRIVATE KEY-----: give the file that ssh-keygen made"
    };
    KeyError::malformed(what)
}
