//! What a JSON text's escapes stand for.

/// What a run within a text ends at: its end, an escape, what must not be there.
pub(super) const STOPS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'"' | b'\\' | 0..0x20);
        byte += 1;
    }
    table
};

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
pub(super) fn whole_escape(text: &[u8]) -> Option<(u8, usize)> {
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
