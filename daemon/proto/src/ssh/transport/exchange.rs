//! Key exchange methods, the exchange hash, and the keys that are derived from it. All hash by SHA-256.
//!
//! curve25519-sha256 is RFC 8731, ecdh-sha2-nistp256 RFC 5656, mlkem768x25519-sha256
//! draft-ietf-sshm-mlkem-hybrid-kex.

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use zeroize::Zeroizing;

use super::super::wire::Write;
use crate::Fault;

/// Of SHA-256.
pub(super) const HASH_BYTES: usize = 32;

/// Of ML-KEM-768's encapsulation key and ciphertext (FIPS 203, table 3).
const ENCAPSULATION_KEY_BYTES: usize = 1184;
const CIPHERTEXT_BYTES: usize = 1088;
const X25519_BYTES: usize = 32;
/// An uncompressed point of P-256 (SEC 1 §2.3.3).
const POINT_BYTES: usize = 65;
const UNCOMPRESSED: u8 = 4;

/// A key exchange method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Curve25519,
    NistP256,
    MlKem768X25519,
}

impl Method {
    const NAMES: [(&'static str, Self); 4] = [
        ("curve25519-sha256", Self::Curve25519),
        ("curve25519-sha256@libssh.org", Self::Curve25519),
        ("ecdh-sha2-nistp256", Self::NistP256),
        ("mlkem768x25519-sha256", Self::MlKem768X25519),
    ];

    pub(super) fn named(name: &str) -> Option<(&'static str, Self)> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name)
    }

    /// The client's private part, and what it sends.
    pub(super) fn initiate(self) -> Result<(Ephemeral, Vec<u8>), Fault> {
        match self {
            Self::Curve25519 => Ephemeral::agreement(Self::Curve25519, PrivateKey::generate(&X25519).ok()),
            Self::NistP256 => Ephemeral::agreement(Self::NistP256, PrivateKey::generate(&ECDH_P256).ok()),
            Self::MlKem768X25519 => {
                let kem = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| no_key())?;
                let key = kem.encapsulation_key().and_then(|key| key.key_bytes()).map_err(|_| no_key())?;
                let (ephemeral, public) = Self::Curve25519.initiate()?;
                let public = [key.as_ref(), &public].concat();
                Ok((Ephemeral { kem: Some(kem), ..ephemeral }, public))
            }
        }
    }

    /// The server's answer to what the client sent, and what both share.
    pub(super) fn respond(self, client: &[u8]) -> Result<(Vec<u8>, Shared), Fault> {
        match self {
            Self::Curve25519 | Self::NistP256 => {
                let (ephemeral, public) = self.initiate()?;
                let secret = ephemeral.agree(client)?;
                Ok((public, Shared::mpint(&secret)))
            }
            Self::MlKem768X25519 => {
                let (key, client) = split(client, ENCAPSULATION_KEY_BYTES)?;
                let (ephemeral, public) = Self::Curve25519.initiate()?;
                let secret = ephemeral.agree(client)?;
                let (ciphertext, encapsulated) = EncapsulationKey::new(&ML_KEM_768, key)
                    .map_err(|_| bad_share())?
                    .encapsulate()
                    .map_err(|_| bad_share())?;
                Ok(([ciphertext.as_ref(), &public].concat(), Shared::hybrid(encapsulated.as_ref(), &secret)))
            }
        }
    }
}

/// A client's private part, used once.
#[derive(Debug)]
pub(super) struct Ephemeral {
    method: Method,
    key: PrivateKey,
    kem: Option<DecapsulationKey>,
}

impl Ephemeral {
    /// With a key of the method's kind.
    fn agreement(method: Method, key: Option<PrivateKey>) -> Result<(Self, Vec<u8>), Fault> {
        let key = key.ok_or_else(no_key)?;
        let public = key.compute_public_key().map_err(|_| no_key())?.as_ref().to_vec();
        Ok((Self { method, key, kem: None }, public))
    }

    /// With private keys that are known, to try what others have recorded: the curve's 32 bytes, and
    /// behind them ML-KEM's where the method has one.
    #[cfg(test)]
    pub(super) fn known(method: Method, private: &[u8]) -> (Self, Vec<u8>) {
        let (curve, kem) = private.split_at(32);
        let on = if method == Method::NistP256 { &ECDH_P256 } else { &X25519 };
        let (mut ephemeral, public) =
            Self::agreement(method, PrivateKey::from_private_key(on, curve).ok()).expect("a key");
        ephemeral.kem = DecapsulationKey::new(&ML_KEM_768, kem).ok();
        (ephemeral, public)
    }

    /// What both share, from the server's answer.
    pub(super) fn finish(self, server: &[u8]) -> Result<Shared, Fault> {
        let Some(kem) = &self.kem else { return Ok(Shared::mpint(&self.agree(server)?)) };
        let (ciphertext, server) = split(server, CIPHERTEXT_BYTES)?;
        let secret = self.agree(server)?;
        let encapsulated = kem.decapsulate(Ciphertext::from(ciphertext)).map_err(|_| bad_share())?;
        Ok(Shared::hybrid(encapsulated.as_ref(), &secret))
    }

    /// Refuses what is no point of the curve, and a secret of zeroes (RFC 8731 §3).
    fn agree(&self, public: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let (curve, fits) = match self.method {
            Method::NistP256 => (&ECDH_P256, public.len() == POINT_BYTES && public[0] == UNCOMPRESSED),
            Method::Curve25519 | Method::MlKem768X25519 => (&X25519, public.len() == X25519_BYTES),
        };
        if !fits {
            return Err(bad_share());
        }
        agreement::agree(&self.key, UnparsedPublicKey::new(curve, public), bad_share(), |secret| {
            if secret.iter().all(|&byte| byte == 0) {
                return Err(bad_share());
            }
            Ok(Zeroizing::new(secret.to_vec()))
        })
    }
}

fn no_key() -> Fault {
    Fault::SshKex("no key could be made".to_owned())
}

fn bad_share() -> Fault {
    Fault::SshKex("the peer's share is not one that its method allows".to_owned())
}

fn split(share: &[u8], at: usize) -> Result<(&[u8], &[u8]), Fault> {
    share.split_at_checked(at).ok_or_else(bad_share)
}

/// What both sides share, as it goes into the hashes.
pub(super) struct Shared(Zeroizing<Vec<u8>>);

impl Shared {
    fn mpint(secret: &[u8]) -> Self {
        let mut encoded = Zeroizing::new(Vec::with_capacity(secret.len() + 5));
        encoded.put_mpint(secret);
        Self(encoded)
    }

    /// The hybrid's secret is a hash, and a string.
    fn hybrid(encapsulated: &[u8], agreed: &[u8]) -> Self {
        let mut encoded = Zeroizing::new(Vec::with_capacity(HASH_BYTES + 4));
        encoded.put_string(sha256([encapsulated, agreed]));
        Self(encoded)
    }
}

fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; HASH_BYTES] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// What both sides have said (RFC 5656 §4).
#[derive(Debug, Clone, Copy)]
pub(super) struct Transcript<'a> {
    pub(super) client_identification: &'a str,
    pub(super) server_identification: &'a str,
    pub(super) client_kexinit: &'a [u8],
    pub(super) server_kexinit: &'a [u8],
    pub(super) host_key: &'a [u8],
    pub(super) client_share: &'a [u8],
    pub(super) server_share: &'a [u8],
}

impl Transcript<'_> {
    /// The exchange hash.
    pub(super) fn hash(&self, shared: &Shared) -> [u8; HASH_BYTES] {
        let mut context = Context::new(&SHA256);
        for part in [
            self.client_identification.as_bytes(),
            self.server_identification.as_bytes(),
            self.client_kexinit,
            self.server_kexinit,
            self.host_key,
            self.client_share,
            self.server_share,
        ] {
            context.update(&u32::try_from(part.len()).expect("a packet's part").to_be_bytes());
            context.update(part);
        }
        context.update(&shared.0);
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// Derives keys (RFC 4253 §7.2).
pub(super) struct Derivation<'a> {
    pub(super) shared: &'a Shared,
    pub(super) hash: &'a [u8; HASH_BYTES],
    pub(super) session_id: &'a [u8; HASH_BYTES],
}

impl Derivation<'_> {
    /// Fills `key` for `letter`.
    pub(super) fn derive(&self, letter: u8, key: &mut [u8]) {
        let (secret, hash) = (&self.shared.0[..], &self.hash[..]);
        let mut filled = 0;
        while filled < key.len() {
            let block = Zeroizing::new(if filled == 0 {
                sha256([secret, hash, &[letter], self.session_id])
            } else {
                sha256([secret, hash, &key[..filled]])
            });
            let bytes = (key.len() - filled).min(HASH_BYTES);
            key[filled..filled + bytes].copy_from_slice(&block[..bytes]);
            filled += bytes;
        }
    }
}
