//! Private keys: what signs.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA512,
};

use super::super::wire::Write;
use super::public::{SCALAR_BYTES, shown, signature_algorithm};
use super::{KeyError, PublicKey, Secret, openssh, pem, rsa};
use crate::Fault;

/// A key that signs: ed25519, ECDSA P-256 or RSA. Read once a plan, shared by everything that signs.
pub struct PrivateKey {
    pair: Pair,
    public: PublicKey,
}

/// The library's, which wipes them.
pub(super) enum Pair {
    Ed25519(Ed25519KeyPair),
    EcdsaP256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({} {})", self.public.type_name(), self.public.fingerprint())
    }
}

impl PrivateKey {
    /// Reads a private key's file: OpenSSH's (`BEGIN OPENSSH PRIVATE KEY`), encrypted or not, or PEM that
    /// is not encrypted (`BEGIN PRIVATE KEY`, `BEGIN EC PRIVATE KEY`, `BEGIN RSA PRIVATE KEY`). A
    /// passphrase that the file does not need is ignored.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn from_file(file: &[u8], passphrase: Option<&Secret>) -> Result<Self, KeyError> {
        let pem = pem::Pem::parse(file)?;
        let der = pem.bytes.as_slice();
        let pair = match pem.label {
            "OPENSSH PRIVATE KEY" => return openssh::private_key(der, passphrase),
            "PRIVATE KEY" => pkcs8(der),
            "EC PRIVATE KEY" => EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
                .ok()
                .map(Pair::EcdsaP256),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(der).ok().map(Pair::Rsa),
            "ENCRYPTED PRIVATE KEY" => return Err(pem::encrypted()),
            other => {
                return Err(KeyError::malformed(format!(
                    "the file holds `{}`, which is no private key that is read here: give the file that \
                     ssh-keygen made, the one without .pub",
                    shown(other),
                )));
            }
        };
        pair.and_then(Self::of).ok_or_else(|| {
            KeyError::malformed(
                "the private key is neither ed25519, ECDSA P-256 (nistp256) nor RSA of 2048 to 8192 bits, or it \
                 is damaged: use one of ssh-keygen -t ed25519",
            )
        })
    }

    /// An ed25519 key from its seed (RFC 8032 §5.1.5).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
        Self::of(Pair::Ed25519(pair)).expect("an ed25519 key has 32 bytes")
    }

    /// `None` where the public key is not what this project's peers would believe.
    pub(super) fn of(pair: Pair) -> Option<Self> {
        let public = match &pair {
            Pair::Ed25519(pair) => PublicKey::ed25519(pair.public_key().as_ref().try_into().ok()?),
            Pair::EcdsaP256(pair) => PublicKey::ecdsa_p256(pair.public_key().as_ref())?,
            Pair::Rsa(pair) => {
                let (n, e) = rsa::public_numbers(pair.public_key().as_ref())?;
                PublicKey::rsa(e, n)
            }
        };
        // The same bounds as for a key that a peer shows.
        PublicKey::from_blob(public.blob()).ok().map(|public| Self { pair, public })
    }

    /// Its public key.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Its public key's blob (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4).
    pub fn public_blob(&self) -> &[u8] {
        self.public.blob()
    }

    /// Names of the signatures that it can make, the preferred one first.
    pub fn algorithms(&self) -> &'static [&'static str] {
        self.public.algorithms()
    }

    /// The signature's blob. `algorithm` is one of [`Self::algorithms`], or a certificate's name for it.
    ///
    /// # Errors
    /// `SshAuth` where the library refuses, or the key does not sign so.
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Result<Vec<u8>, Fault> {
        let algorithm = signature_algorithm(algorithm);
        let refused =
            || Fault::SshAuth(format!("the {} key makes no {algorithm} signature", self.public.type_name()));
        if !self.algorithms().contains(&algorithm) {
            return Err(refused());
        }
        let mut signature = Vec::new();
        signature.put_string(algorithm);
        match &self.pair {
            Pair::Ed25519(pair) => signature.put_string(pair.try_sign(message).map_err(|_| refused())?),
            Pair::EcdsaP256(pair) => {
                let made = pair.sign(&SystemRandom::new(), message).map_err(|_| refused())?;
                let (r, s) = made.as_ref().split_at_checked(SCALAR_BYTES).ok_or_else(refused)?;
                // RFC 5656 §3.1.2.
                let mut numbers = Vec::new();
                numbers.put_mpint(r);
                numbers.put_mpint(s);
                signature.put_string(numbers);
            }
            Pair::Rsa(pair) => {
                let padding = if algorithm == "rsa-sha2-256" { &RSA_PKCS1_SHA256 } else { &RSA_PKCS1_SHA512 };
                let mut made = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), message, &mut made).map_err(|_| refused())?;
                signature.put_string(made);
            }
        }
        Ok(signature)
    }
}

/// PKCS#8 (RFC 5958), of whichever kind it is.
fn pkcs8(der: &[u8]) -> Option<Pair> {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
        .map(Pair::Ed25519)
        .or_else(|_| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Pair::EcdsaP256))
        .or_else(|_| RsaKeyPair::from_pkcs8(der).map(Pair::Rsa))
        .ok()
}
