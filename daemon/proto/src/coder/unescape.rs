//! What a JSON text's escapes stand for.

/// A piece of text without its escapes.
pub(super) struct Chunk {
    bytes: [u8; Self::BYTES_MAX + Self::WORD],
    written: usize,
}

impl Chunk {
    /// Bytes of text at once.
    const BYTES_MAX: usize = 256;
    const WORD: usize = 8;

    pub(super) const fn new() -> Self {
        Self { bytes: [0; Self::BYTES_MAX + Self::WORD], written: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.written]
    }

    /// Fills itself with what stands on its own at the front of `text`: runs without an escape, and
    /// whole escapes of ASCII. How much of `text` it was.
    pub(super) fn unescape(&mut self, text: &[u8]) -> usize {
        let (mut used, mut written) = (0, 0);
        while written < Self::BYTES_MAX {
            let rest = &text[used..];
            // A word is stored whole, and counts up to where its run ends.
            if let Some(word) = rest.first_chunk::<{ Self::WORD }>() {
                self.bytes[written..written + Self::WORD].copy_from_slice(word);
                let run = run_bytes(u64::from_le_bytes(*word));
                (used, written) = (used + run, written + run);
                if run == Self::WORD {
                    continue;
                }
            } else if let Some(&byte) = rest.first()
                && run_bytes(u64::from(byte)) > 0
            {
                self.bytes[written] = byte;
                (used, written) = (used + 1, written + 1);
                continue;
            }
            let Some((byte, bytes)) = whole_escape(&text[used..]) else { break };
            self.bytes[written] = byte;
            (used, written) = (used + bytes, written + 1);
        }
        self.written = written;
        used
    }
}

/// How many of a word's bytes, from the lowest, come before one that ends a run: a quote, a
/// backslash, a control byte.
const fn run_bytes(word: u64) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    /// The high bit of each byte below `bound`: of the lowest such byte surely, of those above it
    /// perhaps too often, for the subtraction borrows.
    const fn below(word: u64, bound: u64) -> u64 {
        word.wrapping_sub(ONES * bound) & !word & HIGHS
    }
    let quote = below(word ^ (ONES * b'"' as u64), 1);
    let backslash = below(word ^ (ONES * b'\\' as u64), 1);
    ((below(word, 0x20) | quote | backslash).trailing_zeros() / 8) as usize
}

/// What `\` and `byte` stand for.
pub(super) const fn escaped(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// The escape of an ASCII byte at the front of `text`, where all of it is there, and its length.
#[inline]
fn whole_escape(text: &[u8]) -> Option<(u8, usize)> {
    match *text {
        [b'\\', b'u', b'0', b'0', high @ b'0'..=b'7', low, ..] => {
            let low = char::from(low).to_digit(16)? as u8;
            Some(((high - b'0') << 4 | low, 6))
        }
        [b'\\', byte, ..] => Some((escaped(byte)?, 2)),
        _ => None,
    }
}

/// `bytes` with U+FFFD for each byte that belongs to no character, as Go does it.
pub(super) fn replaced(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_at_every_byte_that_ends_one_and_at_no_other() {
        for at in 0..8 {
            for byte in 0..=255u8 {
                let mut word = [b'~'; 8];
                word[at] = byte;
                let ends = matches!(byte, b'"' | b'\\' | 0..0x20);
                assert_eq!(
                    run_bytes(u64::from_le_bytes(word)),
                    if ends { at } else { 8 },
                    "{byte:#x} at {at}"
                );
            }
        }
    }
}
