//! chacha20-poly1305@openssh.com (OpenSSH's PROTOCOL.chacha20poly1305): the length is encrypted by a key of
//! its own, the sequence number is the nonce.

use aws_lc_rs::aead::chacha20_poly1305_openssh::TAG_LEN;
pub(in super::super) use aws_lc_rs::aead::chacha20_poly1305_openssh::{OpeningKey, SealingKey};

use super::{Framing, LENGTH_BYTES, Tampered};

pub(super) const FRAMING: Framing =
    Framing { block: 8, counts_length: false, tag: TAG_LEN, front: LENGTH_BYTES };

pub(super) fn seal(key: &SealingKey, sequence: u32, packet: &mut [u8]) {
    let (packet, tag) = packet.split_last_chunk_mut().expect("a packet with its tag's place");
    key.seal_in_place(sequence, packet, tag);
}

pub(super) fn open(key: &OpeningKey, sequence: u32, packet: &mut [u8]) -> Result<(), Tampered> {
    let (packet, tag) = packet.split_last_chunk_mut().expect("a packet with its tag");
    key.open_in_place(sequence, packet, tag).map(|_| ()).map_err(|_| Tampered)
}
