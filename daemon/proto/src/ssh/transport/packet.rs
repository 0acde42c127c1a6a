//! Packets in each direction (RFC 4253 §6): framing, sequence numbers, and what keys are good for.

use std::ops::Range;

use super::super::{PACKET_BYTES_MAX, Random};
use super::cipher::{HEAD_BYTES, LENGTH_BYTES, Opening, PADDING_BYTES_MIN, Sealing};
use crate::Fault;

/// Packets under one key before new ones are asked for (RFC 4344 §3.1).
const PACKETS_BEFORE_REKEY: u64 = 1 << 31;
/// Packets under one key: a sequence number is used once.
const PACKETS_PER_KEY_MAX: u64 = 1 << 32;

const USED_UP: Fault = Fault::SshProtocol("the keys are used up, and the peer does not answer KEXINIT");

/// What went under the keys of one direction.
#[derive(Debug, Default)]
struct Used {
    packets: u64,
    bytes: u64,
}

impl Used {
    fn take(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }

    /// Whether it is time for new keys. A limit of 0 bytes is one of 1: keys that nothing went under are new.
    fn is_enough(&self, bytes_max: u64) -> bool {
        self.packets >= PACKETS_BEFORE_REKEY || self.bytes >= bytes_max.max(1)
    }
}

/// This side's packets.
#[derive(Debug)]
pub(super) struct Outgoing {
    sealing: Sealing,
    sequence: u32,
    used: Used,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self { sealing: Sealing::Plain, sequence: 0, used: Used::default() }
    }

    /// From here on with new keys; under strict key exchange the sequence begins anew.
    pub(super) fn rekey(&mut self, sealing: Sealing, strict: bool) {
        self.sealing = sealing;
        self.used = Used::default();
        if strict {
            self.sequence = 0;
        }
    }

    /// As if `packets` had gone, the next with this number.
    #[cfg(test)]
    pub(super) fn set_used(&mut self, packets: u64, sequence: u32) {
        (self.used.packets, self.sequence) = (packets, sequence);
    }

    pub(super) fn wants_keys(&self, bytes_max: u64) -> bool {
        self.used.is_enough(bytes_max)
    }

    #[inline]
    pub(super) fn packet_bytes(&self, payload_bytes: usize) -> usize {
        self.sealing.framing().packet_bytes(payload_bytes)
    }

    /// Writes a packet to the front of `out`, and returns its bytes.
    #[inline]
    pub(super) fn seal(
        &mut self,
        out: &mut [u8],
        payload_bytes: usize,
        random: Random<'_>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<usize, Fault> {
        if self.used.packets >= PACKETS_PER_KEY_MAX {
            return Err(USED_UP);
        }
        let framing = self.sealing.framing();
        let padding = framing.padding_bytes(payload_bytes);
        let length = HEAD_BYTES - LENGTH_BYTES + payload_bytes + padding;
        assert!(length <= PACKET_BYTES_MAX, "a packet has its limit: {length} bytes");
        let packet = &mut out[..LENGTH_BYTES + length + framing.tag];
        packet[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
        packet[LENGTH_BYTES] = padding as u8;
        let (payload, rest) = packet[HEAD_BYTES..].split_at_mut(payload_bytes);
        fill(payload);
        pad(&mut rest[..padding], random);
        self.sealing.seal(self.sequence, packet);
        self.sequence = self.sequence.wrapping_add(1);
        self.used.take(packet.len());
        Ok(packet.len())
    }

    /// Appends a packet to `out`.
    pub(super) fn append(
        &mut self,
        payload: &[u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let start = out.len();
        out.resize(start + self.packet_bytes(payload.len()), 0);
        let sealed =
            self.seal(&mut out[start..], payload.len(), random, |place| place.copy_from_slice(payload));
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed.map(|_| ())
    }
}

fn pad(padding: &mut [u8], random: Random<'_>) {
    for piece in padding.chunks_mut(8) {
        piece.copy_from_slice(&random().to_le_bytes()[..piece.len()]);
    }
}

/// The peer's packets.
#[derive(Debug)]
pub(super) struct Incoming {
    opening: Opening,
    sequence: u32,
    used: Used,
}

/// A packet that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// Of the whole packet.
    pub(super) bytes: usize,
    /// Where its payload lies; not empty.
    pub(super) payload: Range<usize>,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self { opening: Opening::Plain, sequence: 0, used: Used::default() }
    }

    /// See [`Outgoing::rekey`].
    pub(super) fn rekey(&mut self, opening: Opening, strict: bool) {
        self.opening = opening;
        self.used = Used::default();
        if strict {
            self.sequence = 0;
        }
    }

    pub(super) fn wants_keys(&self, bytes_max: u64) -> bool {
        self.used.is_enough(bytes_max)
    }

    /// See [`Outgoing::set_used`].
    #[cfg(test)]
    pub(super) fn set_used(&mut self, packets: u64, sequence: u32) {
        (self.used.packets, self.sequence) = (packets, sequence);
    }

    /// Whether the first keys are in use.
    pub(super) const fn has_keys(&self) -> bool {
        !matches!(self.opening, Opening::Plain)
    }

    /// Of the packet that was opened last.
    pub(super) fn last_sequence(&self) -> u32 {
        self.sequence.wrapping_sub(1)
    }

    /// Opens the packet at the front of `input` where all of it is there.
    #[inline]
    pub(super) fn open(&mut self, input: &mut [u8]) -> Result<Option<Opened>, Fault> {
        let framing = self.opening.framing();
        if input.len() < framing.front {
            return Ok(None);
        }
        let length = self.opening.length(self.sequence, input) as usize;
        if length > PACKET_BYTES_MAX || !framing.allows(length) {
            return Err(Fault::SshProtocol("a packet's length is not one that it can have"));
        }
        let bytes = LENGTH_BYTES + length + framing.tag;
        let Some(packet) = input.get_mut(..bytes) else { return Ok(None) };
        if self.used.packets >= PACKETS_PER_KEY_MAX {
            return Err(USED_UP);
        }
        self.opening.open(self.sequence, packet).map_err(|_| Fault::SshTampered)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.used.take(bytes);
        let padding = usize::from(packet[LENGTH_BYTES]);
        let end = LENGTH_BYTES + length;
        if padding < PADDING_BYTES_MIN || HEAD_BYTES + padding >= end {
            return Err(Fault::SshProtocol("a packet's padding leaves no payload, or is too short"));
        }
        Ok(Some(Opened { bytes, payload: HEAD_BYTES..end - padding }))
    }
}
