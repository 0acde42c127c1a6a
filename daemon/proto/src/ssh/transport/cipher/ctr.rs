//! AES-CTR (RFC 4344) with HMAC-SHA-2 (RFC 6668): over the plain packet, or, with OpenSSH's etm names, over
//! the sealed one, whose length is then not encrypted.

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, hmac};

use super::{Cipher, Framing, Keys, LENGTH_BYTES, Mac, Suite, Tampered};

const BLOCK_BYTES: usize = 16;

/// A key of the cipher with the counter of its next block, and the MAC's key.
pub(in super::super) struct Key {
    key: EncryptingKey,
    counter: u128,
    mac: hmac::Key,
    etm: bool,
    mac_bytes: u8,
}

impl Key {
    pub(super) fn new(suite: Suite, keys: &Keys) -> Self {
        let algorithm = if suite.cipher == Cipher::Aes128Ctr { &AES_128 } else { &AES_256 };
        let key = UnboundCipherKey::new(algorithm, &keys.key[..suite.cipher.key_bytes()])
            .and_then(EncryptingKey::ctr)
            .expect("a key of its length");
        let mac = suite.mac.expect("a MAC is negotiated for a cipher that needs one");
        let hash = match mac {
            Mac::Sha256 | Mac::Sha256Etm => hmac::HMAC_SHA256,
            Mac::Sha512 | Mac::Sha512Etm => hmac::HMAC_SHA512,
        };
        Self {
            key,
            counter: u128::from_be_bytes(keys.iv()),
            mac: hmac::Key::new(hash, &keys.mac[..mac.bytes()]),
            etm: mac.is_etm(),
            mac_bytes: mac.bytes() as u8,
        }
    }

    pub(super) fn framing(&self) -> Framing {
        Framing {
            block: BLOCK_BYTES,
            counts_length: !self.etm,
            tag: usize::from(self.mac_bytes),
            front: if self.etm { LENGTH_BYTES } else { BLOCK_BYTES },
        }
    }

    fn apply(&self, bytes: &mut [u8]) {
        let context = EncryptionContext::Iv128(FixedLength::from(self.counter.to_be_bytes()));
        self.key.less_safe_encrypt(bytes, context).expect("counter mode takes any bytes");
    }

    /// Encrypts or decrypts whole blocks, and counts them.
    fn turn(&mut self, blocks: &mut [u8]) {
        self.apply(blocks);
        self.counter = self.counter.wrapping_add((blocks.len() / BLOCK_BYTES) as u128);
    }

    /// Of a copy: the block is decrypted with the whole packet later.
    pub(super) fn length(&self, packet: &[u8]) -> [u8; LENGTH_BYTES] {
        let mut field = *packet.first_chunk().expect("a packet's front");
        if !self.etm {
            self.apply(&mut field);
        }
        field
    }

    fn tag(&self, sequence: u32, packet: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.mac);
        context.update(&sequence.to_be_bytes());
        context.update(packet);
        context.sign()
    }

    pub(super) fn seal(&mut self, sequence: u32, packet: &mut [u8]) {
        let (packet, place) = packet.split_at_mut(packet.len() - usize::from(self.mac_bytes));
        if self.etm {
            self.turn(&mut packet[LENGTH_BYTES..]);
            place.copy_from_slice(self.tag(sequence, packet).as_ref());
        } else {
            place.copy_from_slice(self.tag(sequence, packet).as_ref());
            self.turn(packet);
        }
    }

    pub(super) fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), Tampered> {
        let (packet, tag) = packet.split_at_mut(packet.len() - usize::from(self.mac_bytes));
        if !self.etm {
            self.turn(packet);
        }
        let right = self.tag(sequence, packet);
        constant_time::verify_slices_are_equal(right.as_ref(), tag).map_err(|_| Tampered)?;
        if self.etm {
            self.turn(&mut packet[LENGTH_BYTES..]);
        }
        Ok(())
    }
}
