//! OpenSSH's private-key files (its PROTOCOL.key).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use bcrypt_pbkdf::bcrypt_pbkdf;
use ssh_cipher::Cipher;
use zeroize::Zeroizing;

use super::super::wire::Reader;
use super::private::Pair;
use super::public::{ECDSA_P256_NAME, ED25519_NAME, RSA_NAME, SCALAR_BYTES, shown};
use super::{KeyError, PrivateKey, Secret, rsa};
use crate::Fault;

const MAGIC: &[u8] = b"openssh-key-v1\0";
/// Rounds of the passphrase's hashing that are worth waiting for: ten seconds. ssh-keygen makes 16 or 24.
const ROUNDS_MAX: u32 = 1024;
const TAG_BYTES: usize = 16;

fn damaged(_: Fault) -> KeyError {
    KeyError::malformed("the private key's file is damaged: copy it again")
}

fn is_damaged() -> KeyError {
    damaged(Fault::SshProtocol(""))
}

/// Reads what is within the armour.
pub(super) fn private_key(bytes: &[u8], passphrase: Option<&Secret>) -> Result<PrivateKey, KeyError> {
    let mut reader = Reader::new(bytes.strip_prefix(MAGIC).ok_or_else(is_damaged)?);
    let cipher = reader.text().map_err(damaged)?;
    let kdf = reader.text().map_err(damaged)?;
    let options = reader.string().map_err(damaged)?;
    if reader.uint32().map_err(damaged)? != 1 {
        return Err(KeyError::malformed(
            "the file holds several private keys, and one is read here: give each key a file of its own",
        ));
    }
    let public = reader.string().map_err(damaged)?;
    let mut section = Zeroizing::new(reader.string().map_err(damaged)?.to_vec());
    let is_encrypted = cipher != "none";
    if is_encrypted {
        let passphrase =
            passphrase.filter(|secret| !secret.expose().is_empty()).ok_or(KeyError::Encrypted)?;
        decrypt(cipher, kdf, options, passphrase, &mut section, reader.rest())?;
    } else if !reader.is_empty() {
        return Err(is_damaged());
    }

    let mut reader = Reader::new(&section);
    // The same number twice is how a wrong passphrase is noticed.
    if reader.uint32().map_err(damaged)? != reader.uint32().map_err(damaged)? {
        return Err(if is_encrypted { KeyError::Passphrase } else { is_damaged() });
    }
    let key = read(&mut reader)?;
    reader.string().map_err(damaged)?; // the comment
    let is_padded = reader.rest().iter().zip(1..).all(|(&byte, expected)| byte == expected);
    if !is_padded || key.public_blob() != public {
        return Err(is_damaged());
    }
    Ok(key)
}

/// Opens `section` in place; `tag` is what follows it.
fn decrypt(
    cipher: &str,
    kdf: &str,
    options: &[u8],
    passphrase: &Secret,
    section: &mut [u8],
    tag: &[u8],
) -> Result<(), KeyError> {
    let unknown = || {
        KeyError::malformed(format!(
            "the private key is encrypted by {} with {}, which is not read here: rewrite a copy of it with \
             `ssh-keygen -p -Z aes256-ctr -f FILE`",
            shown(cipher),
            shown(kdf),
        ))
    };
    let cipher = Cipher::new(cipher).map_err(|_| unknown())?;
    let (key_bytes, iv_bytes) = cipher.key_and_iv_size().ok_or_else(unknown)?;
    if kdf != "bcrypt" || cipher == Cipher::TDesCbc {
        return Err(unknown());
    }
    let mut reader = Reader::new(options);
    let salt = reader.string().map_err(damaged)?;
    let rounds = reader.uint32().map_err(damaged)?;
    if rounds > ROUNDS_MAX {
        return Err(KeyError::malformed(format!(
            "the private key's passphrase is hashed {rounds} times, and more than {ROUNDS_MAX} take too long: \
             rewrite a copy of it with `ssh-keygen -p -a 24 -f FILE`"
        )));
    }
    let tag = match (cipher.has_tag(), tag) {
        (true, tag) => Some(<[u8; TAG_BYTES]>::try_from(tag).map_err(|_| is_damaged())?),
        (false, []) => None,
        (false, _) => return Err(is_damaged()),
    };
    if section.is_empty() || !section.len().is_multiple_of(cipher.block_size()) {
        return Err(is_damaged());
    }
    let mut material = Zeroizing::new(vec![0; key_bytes + iv_bytes]);
    bcrypt_pbkdf(passphrase.expose(), salt, rounds, &mut material).map_err(|_| is_damaged())?;
    let (key, iv) = material.split_at(key_bytes);
    cipher.decrypt(key, iv, section, tag).map_err(|_| KeyError::Passphrase)
}

/// The type's name and the key's numbers.
fn read(reader: &mut Reader<'_>) -> Result<PrivateKey, KeyError> {
    let name = reader.text().map_err(damaged)?;
    let pair = match name {
        ED25519_NAME => {
            let public = reader.string().map_err(damaged)?;
            // The seed, and the public key once more.
            let (seed, again) =
                reader.string().map_err(damaged)?.split_at_checked(SCALAR_BYTES).ok_or_else(is_damaged)?;
            let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).ok();
            pair.filter(|_| again == public).map(Pair::Ed25519)
        }
        ECDSA_P256_NAME => {
            let _curve = reader.string().map_err(damaged)?;
            let point = reader.string().map_err(damaged)?;
            let scalar = reader.mpint().map_err(damaged)?;
            let from = SCALAR_BYTES.checked_sub(scalar.len()).ok_or_else(is_damaged)?;
            let mut padded = Zeroizing::new([0; SCALAR_BYTES]);
            padded[from..].copy_from_slice(scalar);
            EcdsaKeyPair::from_private_key_and_public_key(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                padded.as_slice(),
                point,
            )
            .ok()
            .map(Pair::EcdsaP256)
        }
        RSA_NAME => {
            let mut number = || reader.mpint().map_err(damaged);
            let (n, e, d, inverse, p, q) = (number()?, number()?, number()?, number()?, number()?, number()?);
            let bits = super::public::bits(n);
            if bits < super::public::RSA_BITS_MIN {
                return Err(KeyError::malformed(format!(
                    "the RSA private key has {bits} bits, and fewer than {} are not used: make another one with \
                     ssh-keygen -t ed25519",
                    super::public::RSA_BITS_MIN,
                )));
            }
            rsa::key_pair(&rsa::Numbers { n, e, d, inverse, p, q }).map(Pair::Rsa)
        }
        other => {
            return Err(KeyError::malformed(format!(
                "the private key is of type {}, which is not used here: ed25519, ECDSA P-256 (nistp256) and RSA \
                 are; make one with ssh-keygen -t ed25519",
                shown(other),
            )));
        }
    };
    pair.and_then(PrivateKey::of).ok_or_else(is_damaged)
}
