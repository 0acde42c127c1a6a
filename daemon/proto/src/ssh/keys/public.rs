//! Public keys: their blobs, and signatures held against them.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::super::wire::{Reader, Write};
use crate::Fault;

pub(super) const ED25519_NAME: &str = "ssh-ed25519";
pub(super) const ECDSA_P256_NAME: &str = "ecdsa-sha2-nistp256";
pub(super) const RSA_NAME: &str = "ssh-rsa";
const P256_CURVE: &str = "nistp256";
const RSA_SHA256: &str = "rsa-sha2-256";
const RSA_SHA512: &str = "rsa-sha2-512";

/// What the names of certificates' types and algorithms end with.
pub(super) const CERTIFICATE_SUFFIX: &str = "-cert-v01@openssh.com";

/// Bits of an RSA modulus that are believed.
pub(super) const RSA_BITS_MIN: usize = 2048;
/// Bits of an RSA modulus that the library takes.
pub(super) const RSA_BITS_MAX: usize = 8192;
/// Bytes of an ECDSA P-256 scalar.
pub(super) const SCALAR_BYTES: usize = 32;
/// Bytes of a point of P-256, uncompressed (SEC 1 §2.3.3).
const POINT_BYTES: usize = 65;

/// The signature's own name within an algorithm's: `rsa-sha2-512-cert-v01@openssh.com` gives
/// `rsa-sha2-512`, and `rsa-sha2-512` itself.
pub fn signature_algorithm(algorithm: &str) -> &str {
    algorithm.strip_suffix(CERTIFICATE_SUFFIX).unwrap_or(algorithm)
}

/// What OpenSSH prints for a key's blob: `SHA256:` and base64.
pub(super) fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, blob)))
}

/// The type's name at the front of a blob.
pub(super) fn blob_type(blob: &[u8]) -> Result<&str, Fault> {
    Reader::new(blob).text().map_err(|_| Fault::SshHostKey("a key without its type's name".to_owned()))
}

/// A key that verifies: ed25519, ECDSA P-256 or RSA.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    blob: Box<[u8]>,
    numbers: Numbers,
}

/// What is in the blob, as the library wants it.
#[derive(Clone, PartialEq, Eq)]
enum Numbers {
    Ed25519([u8; 32]),
    EcdsaP256([u8; POINT_BYTES]),
    /// Big-endian, without leading zeroes.
    Rsa {
        e: Box<[u8]>,
        n: Box<[u8]>,
    },
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.type_name(), self.fingerprint())
    }
}

impl PublicKey {
    /// Reads a blob (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4).
    ///
    /// # Errors
    /// `SshHostKey`: it is of a kind that is not known here, malformed, or RSA of fewer than 2048 bits.
    pub fn from_blob(blob: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(blob);
        let name = blob_type(blob)?;
        reader.string().map_err(malformed)?;
        let numbers = Numbers::read(name, &mut reader)?;
        if !reader.is_empty() {
            return Err(Fault::SshHostKey(format!("bytes behind the end of an {name} key")));
        }
        Ok(Self { blob: blob.into(), numbers })
    }

    /// Reads the fields that follow the type's `name`, as they stand in a certificate, too.
    pub(super) fn read(name: &str, reader: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self::of(Numbers::read(name, reader)?))
    }

    pub(super) fn ed25519(key: [u8; 32]) -> Self {
        Self::of(Numbers::Ed25519(key))
    }

    /// `point` is uncompressed.
    pub(super) fn ecdsa_p256(point: &[u8]) -> Option<Self> {
        Some(Self::of(Numbers::EcdsaP256(point.try_into().ok()?)))
    }

    /// Both big-endian, without leading zeroes.
    pub(super) fn rsa(e: &[u8], n: &[u8]) -> Self {
        Self::of(Numbers::Rsa { e: e.into(), n: n.into() })
    }

    fn of(numbers: Numbers) -> Self {
        Self { blob: numbers.blob().into(), numbers }
    }

    /// The blob.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The blob's type: `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa`.
    pub fn type_name(&self) -> &'static str {
        match self.numbers {
            Numbers::Ed25519(_) => ED25519_NAME,
            Numbers::EcdsaP256(_) => ECDSA_P256_NAME,
            Numbers::Rsa { .. } => RSA_NAME,
        }
    }

    /// Names of the signatures that are taken, the preferred one first.
    pub fn algorithms(&self) -> &'static [&'static str] {
        match self.numbers {
            Numbers::Ed25519(_) => &[ED25519_NAME],
            Numbers::EcdsaP256(_) => &[ECDSA_P256_NAME],
            Numbers::Rsa { .. } => &[RSA_SHA512, RSA_SHA256],
        }
    }

    /// `SHA256:` and base64, as ssh-keygen prints it.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.blob)
    }

    /// Verifies a signature's blob, which must be by `algorithm`: `ssh-ed25519`, `rsa-sha2-512`, …, or
    /// the name of a certificate's algorithm, whose signatures are the same.
    ///
    /// # Errors
    /// `SshHostKey`.
    pub fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> Result<(), Fault> {
        let algorithm = signature_algorithm(algorithm);
        let (by, bytes) = signature_parts(signature)?;
        if by != algorithm || !self.algorithms().contains(&by) {
            return Err(Fault::SshHostKey(format!(
                "a signature by {}, where one by {algorithm} of an {} key was agreed on",
                shown(by),
                self.type_name(),
            )));
        }
        if self.numbers.holds(by, message, bytes) {
            Ok(())
        } else {
            Err(Fault::SshHostKey(format!(
                "the {algorithm} signature does not verify: the peer does not hold the key {} that it shows, \
                 or somebody is in between",
                self.fingerprint(),
            )))
        }
    }

    /// As [`Self::verify`], by any of [`Self::algorithms`]: how certificates are signed.
    pub(super) fn verify_any(&self, message: &[u8], signature: &[u8]) -> Result<(), Fault> {
        self.verify(signature_parts(signature)?.0, message, signature)
    }
}

impl Numbers {
    fn read(name: &str, reader: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(match name {
            ED25519_NAME => {
                let key = reader.string().map_err(malformed)?;
                Self::Ed25519(key.try_into().map_err(|_| wrong("an ed25519 key of other than 32 bytes"))?)
            }
            ECDSA_P256_NAME => {
                if reader.string().map_err(malformed)? != P256_CURVE.as_bytes() {
                    return Err(wrong("an ecdsa-sha2-nistp256 key on another curve"));
                }
                let point = reader.string().map_err(malformed)?;
                let point: [u8; POINT_BYTES] =
                    point.try_into().map_err(|_| wrong("a point of P-256 of other than 65 bytes"))?;
                if point[0] != 4 {
                    return Err(wrong("a point of P-256 that is not uncompressed"));
                }
                Self::EcdsaP256(point)
            }
            RSA_NAME => {
                let e = reader.mpint().map_err(malformed)?;
                let n = reader.mpint().map_err(malformed)?;
                let bits = bits(n);
                if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
                    return Err(Fault::SshHostKey(format!(
                        "an RSA key of {bits} bits, and only {RSA_BITS_MIN} to {RSA_BITS_MAX} are believed: \
                         make another one with ssh-keygen -t ed25519"
                    )));
                }
                Self::Rsa { e: e.into(), n: n.into() }
            }
            other => {
                return Err(Fault::SshHostKey(format!(
                    "a key of type {}, which is not known here: ssh-ed25519, ecdsa-sha2-nistp256 and ssh-rsa are",
                    shown(other)
                )));
            }
        })
    }

    fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        match self {
            Self::Ed25519(key) => {
                blob.put_string(ED25519_NAME);
                blob.put_string(key);
            }
            Self::EcdsaP256(point) => {
                blob.put_string(ECDSA_P256_NAME);
                blob.put_string(P256_CURVE);
                blob.put_string(point);
            }
            Self::Rsa { e, n } => {
                blob.put_string(RSA_NAME);
                blob.put_mpint(e);
                blob.put_mpint(n);
            }
        }
        blob
    }

    /// Whether `signature`, the inner string of its blob, is by this key.
    fn holds(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok(),
            Self::EcdsaP256(point) => fixed(signature).is_some_and(|fixed| {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &fixed).is_ok()
            }),
            Self::Rsa { e, n } => {
                let parameters = match algorithm {
                    RSA_SHA256 => &RSA_PKCS1_2048_8192_SHA256,
                    RSA_SHA512 => &RSA_PKCS1_2048_8192_SHA512,
                    _ => return false,
                };
                // Some peers leave out leading zeroes.
                let Some(missing) = n.len().checked_sub(signature.len()) else { return false };
                let mut padded = vec![0; missing];
                padded.extend_from_slice(signature);
                PublicKeyComponents { n, e }.verify(parameters, message, &padded).is_ok()
            }
        }
    }
}

/// The algorithm and the bytes within a signature's blob.
fn signature_parts(signature: &[u8]) -> Result<(&str, &[u8]), Fault> {
    let mut reader = Reader::new(signature);
    let parts = (reader.text().map_err(malformed)?, reader.string().map_err(malformed)?);
    if reader.is_empty() { Ok(parts) } else { Err(wrong("bytes behind the end of a signature")) }
}

/// r and s of RFC 5656 §3.1.2, each in 32 bytes.
fn fixed(signature: &[u8]) -> Option<[u8; 2 * SCALAR_BYTES]> {
    let mut reader = Reader::new(signature);
    let mut fixed = [0; 2 * SCALAR_BYTES];
    for half in fixed.chunks_exact_mut(SCALAR_BYTES) {
        let number = reader.mpint().ok()?;
        let from = SCALAR_BYTES.checked_sub(number.len())?;
        half[from..].copy_from_slice(number);
    }
    reader.is_empty().then_some(fixed)
}

/// Bits of a magnitude without leading zeroes.
pub(super) fn bits(magnitude: &[u8]) -> usize {
    magnitude.first().map_or(0, |first| magnitude.len() * 8 - first.leading_zeros() as usize)
}

/// A peer's or a file's words, cut and without control characters, for a sentence.
pub(super) fn shown(words: &str) -> String {
    const CHARACTERS_MAX: usize = 64;
    words.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect()
}

fn wrong(what: &str) -> Fault {
    Fault::SshHostKey(what.to_owned())
}

fn malformed(_: Fault) -> Fault {
    wrong("a key or signature ends within a field, or has a field that is not as it should be")
}
