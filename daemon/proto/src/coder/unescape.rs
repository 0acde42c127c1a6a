//! What a JSON text's escapes stand for.

use std::hint::select_unpredictable;

use super::json::ESCAPE_BYTES_MAX;

/// A piece of text without its escapes.
pub(super) struct Chunk {
    bytes: [u8; Self::ROOM],
    written: usize,
}

impl Chunk {
    /// Bytes of text at once.
    const BYTES_MAX: usize = 512;
    /// Bytes of text whose runs are found together, and how many are copied of a run, however short.
    const BLOCK: usize = 64;
    /// A block may begin right before the most, and as much is written behind its last byte.
    const ROOM: usize = Self::BYTES_MAX + 2 * Self::BLOCK;

    pub(super) const fn new() -> Self {
        Self { bytes: [0; Self::ROOM], written: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.written]
    }

    /// Fills itself with what stands on its own at the front of `text`: runs without an escape, and
    /// whole escapes of ASCII. How much of `text` it was.
    pub(super) fn unescape(&mut self, text: &[u8]) -> usize {
        let mut used = 0;
        while self.written < Self::BYTES_MAX {
            let rest = &text[used..];
            let (bytes, stands) = if let Some(blocks) = rest.first_chunk() {
                self.unescape_block(blocks)
            } else {
                // Behind the text comes a byte that ends every run and is no escape.
                let mut blocks = [0; 2 * Self::BLOCK];
                blocks[..rest.len()].copy_from_slice(rest);
                self.unescape_block(&blocks)
            };
            used += bytes;
            if !stands {
                break;
            }
        }
        used
    }

    /// Unescapes what begins in the first [`Self::BLOCK`] of these bytes: how much of them it was,
    /// and whether all of it stood on its own.
    ///
    /// Where runs end depends on nothing before, so that it is found for all of them at once, and
    /// nothing branches on how long a run or which escape it is: both are as good as random.
    #[inline]
    fn unescape_block(&mut self, text: &[u8; 2 * Self::BLOCK]) -> (usize, bool) {
        let (block, _) = text.split_first_chunk().expect("two blocks");
        let (mut ends, mut used, mut written) = (run_ends(block), 0, self.written);
        let mut stands = true;
        while ends != 0 {
            let end = ends.trailing_zeros() as usize;
            self.bytes[written..written + Self::BLOCK].copy_from_slice(&text[used..used + Self::BLOCK]);
            written += end - used;
            used = end;
            let escape = text[end..].first_chunk().expect("a block is longer");
            let Some((byte, bytes)) = whole_escape(*escape) else {
                stands = false;
                break;
            };
            self.bytes[written] = byte;
            written += 1;
            used += bytes;
            // Of an escape's bytes but the first, the second alone may look like an end.
            ends &= !(0b11 << end);
        }
        if stands && used < Self::BLOCK {
            self.bytes[written..written + Self::BLOCK].copy_from_slice(&text[used..used + Self::BLOCK]);
            written += Self::BLOCK - used;
            used = Self::BLOCK;
        }
        self.written = written;
        (used, stands)
    }
}

/// Whether a byte ends a run: a quote, a backslash, a control byte.
#[inline]
const fn ends_run(byte: u8) -> bool {
    // All of it, whatever the first says: so it is done for many bytes at once.
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// Which of a block's bytes end a run, the first the lowest bit.
#[inline]
fn run_ends(block: &[u8; Chunk::BLOCK]) -> u64 {
    /// Moves the lowest bits of a word's bytes side by side into its highest byte: bit `8 i` goes
    /// to `56 + i`, and no two of all the others meet.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let ends = block.map(|byte| u8::from(ends_run(byte)));
    let (words, _) = ends.as_chunks();
    words.iter().rev().fold(0, |bits, &word| bits << 8 | u64::from_le_bytes(word).wrapping_mul(GATHER) >> 56)
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

/// What a letter behind `\` stands for; 0: nothing.
const PLAIN: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if let Some(plain) = escaped(byte as u8) {
            table[byte] = plain;
        }
        byte += 1;
    }
    table
};

/// What a digit is worth; 0xFF: it is none.
const HEX: [u8; 256] = {
    let mut table = [0xFF; 256];
    let mut byte = 0;
    while byte < 256 {
        if let Some(digit) = (byte as u8 as char).to_digit(16) {
            table[byte] = digit as u8;
        }
        byte += 1;
    }
    table
};

/// The escape of an ASCII byte at the front of `text`, where it is one, and its length. Which of the
/// two kinds it is decides nothing but what is taken in the end: no branch could foresee it.
#[inline]
fn whole_escape(text: [u8; ESCAPE_BYTES_MAX]) -> Option<(u8, usize)> {
    let [backslash, kind, zeros @ .., high, low] = text;
    let plain = PLAIN[usize::from(kind)];
    let (high, low) = (HEX[usize::from(high)], HEX[usize::from(low)]);
    let is_ascii = (zeros == *b"00") & (high < 8) & (low < 16);
    let unicode = kind == b'u';
    let known = select_unpredictable(unicode, is_ascii, plain != 0);
    let byte = select_unpredictable(unicode, high << 4 | low, plain);
    let bytes = select_unpredictable(unicode, ESCAPE_BYTES_MAX, 2);
    ((backslash == b'\\') & known).then_some((byte, bytes))
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_end_of_a_run_in_a_block_is_found_and_nothing_else() {
        for bits in [0, 1, 1 << 63, 0x8000_0001_8000_0001, u64::MAX, 0x5555_0F0F_3333_AAAA] {
            for byte in (0..=255).filter(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
                let block =
                    std::array::from_fn(|at| if bits >> at & 1 == 1 { byte } else { 0xFF - at as u8 });
                assert_eq!(run_ends(&block), bits, "{byte:#x}");
            }
        }
    }

    /// What a chunk makes of a text, over and over.
    fn unescaped(mut text: &[u8]) -> (Vec<u8>, usize) {
        let (mut all, mut used) = (Vec::new(), 0);
        loop {
            let mut chunk = Chunk::new();
            let bytes = chunk.unescape(text);
            if bytes == 0 {
                return (all, used);
            }
            all.extend_from_slice(chunk.bytes());
            (text, used) = (&text[bytes..], used + bytes);
        }
    }

    /// The same, a byte at a time.
    fn one_by_one(text: &[u8]) -> (Vec<u8>, usize) {
        let (mut all, mut used) = (Vec::new(), 0);
        while let Some(&byte) = text.get(used) {
            if !ends_run(byte) {
                all.push(byte);
                used += 1;
                continue;
            }
            let (plain, bytes) = match &text[used..] {
                [b'\\', b'u', rest @ ..] => {
                    let digits = rest.get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
                    let whole = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                    let code = whole.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                    (code.filter(u8::is_ascii), 6)
                }
                [b'\\', byte, ..] => (escaped(*byte), 2),
                _ => (None, 0),
            };
            let Some(plain) = plain else { break };
            all.push(plain);
            used += bytes;
        }
        (all, used)
    }

    proptest! {
        #[test]
        fn blocks_unescape_as_a_byte_at_a_time_does(
            parts in prop::collection::vec(
                prop_oneof![
                    4 => "[ -~]{0,70}",
                    1 => r#"\\["\\/bfnrt]"#,
                    1 => r"\\u00[0-9a-fA-F]{2}",
                    1 => r"\\u[0-9a-f]{0,4}",
                    1 => any::<String>(),
                ],
                0..40,
            ),
            strict in any::<bool>(),
        ) {
            let text = parts.concat();
            // Without stray quotes and backslashes most of it is unescaped.
            let text = if strict { text.replace(['"', '\\'], "\\\\") } else { text };
            prop_assert_eq!(unescaped(text.as_bytes()), one_by_one(text.as_bytes()));
        }
    }
}
