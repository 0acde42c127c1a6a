//! AES-GCM as in RFC 5647, under OpenSSH's names, by which no MAC is negotiated. The length is not
//! encrypted, and is authenticated.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{Cipher, Framing, Keys, LENGTH_BYTES, Tampered};

const TAG_BYTES: usize = 16;

pub(super) const FRAMING: Framing =
    Framing { block: 16, counts_length: false, tag: TAG_BYTES, front: LENGTH_BYTES };

/// A key with its nonce (RFC 5647 §7.1), which counts packets by itself.
pub(in super::super) struct Key {
    key: LessSafeKey,
    fixed: [u8; 4],
    /// Wraps as OpenSSH's does; `packet` asks for new keys long before it comes round.
    invocation: u64,
}

impl Key {
    pub(super) fn new(cipher: Cipher, keys: &Keys) -> Self {
        let algorithm = if cipher == Cipher::Aes128Gcm { &AES_128_GCM } else { &AES_256_GCM };
        let key = UnboundKey::new(algorithm, &keys.key[..cipher.key_bytes()]).expect("a key of its length");
        let [a, b, c, d, invocation @ ..] = keys.iv::<12>();
        Self { key: LessSafeKey::new(key), fixed: [a, b, c, d], invocation: u64::from_be_bytes(invocation) }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.fixed);
        nonce[4..].copy_from_slice(&self.invocation.to_be_bytes());
        self.invocation = self.invocation.wrapping_add(1);
        Nonce::assume_unique_for_key(nonce)
    }

    pub(super) fn seal(&mut self, packet: &mut [u8]) {
        let nonce = self.nonce();
        let (length, rest) = packet.split_at_mut(LENGTH_BYTES);
        let (body, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
        let sealed = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&*length), body)
            .expect("a packet is far below what GCM seals");
        tag.copy_from_slice(sealed.as_ref());
    }

    pub(super) fn open(&mut self, packet: &mut [u8]) -> Result<(), Tampered> {
        let nonce = self.nonce();
        let (length, rest) = packet.split_at_mut(LENGTH_BYTES);
        self.key.open_in_place(nonce, Aad::from(&*length), rest).map(|_| ()).map_err(|_| Tampered)
    }
}
