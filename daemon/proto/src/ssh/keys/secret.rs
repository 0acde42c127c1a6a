//! Bytes that nobody shall see.

use std::fmt;

use zeroize::Zeroizing;

use super::KeyError;

/// Bytes of a password or a passphrase.
pub const SECRET_BYTES_MAX: usize = 1024;

/// Bytes that are wiped when they are dropped, and never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Keeps `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// What a file holds that has a password or a passphrase in it, and at most one line end behind that.
    ///
    /// # Errors
    /// The file is empty, too long, or has several lines.
    pub fn from_file(file: Vec<u8>) -> Result<Self, KeyError> {
        let length = file
            .strip_suffix(b"\n")
            .map_or(file.len(), |line| line.strip_suffix(b"\r").unwrap_or(line).len());
        // What is cut off is wiped with the rest.
        let secret = Self::new(file);
        let what = match &secret.0[..length] {
            [] => "is empty",
            line if line.len() > SECRET_BYTES_MAX => {
                "is longer than a password or passphrase may be, 1,024 bytes"
            }
            line if line.contains(&b'\n') => "has several lines",
            line => return Ok(Self::new(line.to_vec())),
        };
        Err(KeyError::malformed(format!(
            "the file {what}: it is to hold the password or passphrase in one line, nothing else"
        )))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret Secret");
        assert_eq!(secret.clone().expose(), b"hunter2");
    }

    #[test]
    fn a_file_is_one_line() {
        for file in [&b"hunter2"[..], b"hunter2\n", b"hunter2\r\n"] {
            assert_eq!(Secret::from_file(file.to_vec()).unwrap().expose(), b"hunter2");
        }
        // Spaces are part of it.
        assert_eq!(Secret::from_file(b" a b \n".to_vec()).unwrap().expose(), b" a b ");
        for (file, says) in [
            (&b""[..], "empty"),
            (b"\n", "empty"),
            (b"a\n\n", "several"),
            (b"a\nb", "several"),
            (&[b'a'; 1025], "longer"),
        ] {
            let error = Secret::from_file(file.to_vec()).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("one line"), "{error}");
        }
        assert!(Secret::from_file(vec![b'a'; SECRET_BYTES_MAX]).is_ok());
    }
}
