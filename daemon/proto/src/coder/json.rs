//! What a client says: one JSON object a message, escaped as Go's `encoding/json` does it.
//!
//! This is for the few things that are said now and then. What is said 50,000 times a second lies
//! in a [`Text`](super::Text) already escaped.

/// Payload bytes of one message at most: what the original writes at once.
pub const PIECE_BYTES_MAX: usize = 1024;
/// Bytes of an escaped payload byte at most: `\u003c`.
pub const ESCAPE_BYTES_MAX: usize = 6;
/// Ctrl-C: the terminal's line discipline interrupts the command.
pub const INTERRUPT: &[u8] = b"{\"data\":\"\\u0003\"}\n";
/// Ctrl-C and Ctrl-D twice: what is typed so far is dropped, and the shell that would have read it ends. A shell
/// forgets an end of input that it reads just when the interrupt comes, so there is another.
pub const INTERRUPT_AND_END: &[u8] = b"{\"data\":\"\\u0003\\u0004\\u0004\"}\n";
/// What a cooked terminal says to [`INTERRUPT`], if the echo before it has been read. A kernel throws away what
/// has not.
pub const INTERRUPT_ECHO: &[u8] = b"^C";
/// The longest resize.
pub const RESIZE_BYTES_MAX: usize = b"{\"height\":65535,\"width\":65535}\n".len();

pub(super) const HEAD: &[u8] = b"{\"data\":\"";
pub(super) const TAIL: &[u8] = b"\"}\n";

/// Characters that end a line in JavaScript, which Go escapes as well: from 3 bytes to 6.
const SEPARATORS: [char; 2] = ['\u{2028}', '\u{2029}'];

/// What stands for each byte, in the front of a word that is stored whole.
pub(super) const ESCAPES: [[u8; 8]; 256] = {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'"' => *b"\\\"      ",
            b'\\' => *b"\\\\      ",
            b'\n' => *b"\\n      ",
            b'\r' => *b"\\r      ",
            b'\t' => *b"\\t      ",
            0x08 => *b"\\b      ",
            0x0C => *b"\\f      ",
            0x00..0x20 | b'<' | b'>' | b'&' => {
                [b'\\', b'u', b'0', b'0', HEX[byte >> 4], HEX[byte & 15], b' ', b' ']
            }
            other => [other, b' ', b' ', b' ', b' ', b' ', b' ', b' '],
        };
        byte += 1;
    }
    table
};

/// How many bytes of it count.
pub(super) const WIDTHS: [u8; 256] = {
    let mut table = [1; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0C => 2,
            0x00..0x20 | b'<' | b'>' | b'&' => ESCAPE_BYTES_MAX as u8,
            _ => 1,
        };
        byte += 1;
    }
    table
};

/// Bytes of `text` within quotes.
fn escaped_bytes(text: &str) -> usize {
    let narrow: usize = text.bytes().map(|byte| usize::from(WIDTHS[usize::from(byte)])).sum();
    let separators = if text.is_ascii() { 0 } else { text.matches(SEPARATORS).count() };
    narrow + 3 * separators
}

/// Bytes that [`encode`] writes of `text`.
pub fn encoded_bytes(text: &str) -> usize {
    HEAD.len() + escaped_bytes(text) + TAIL.len()
}

/// Writes `text` as one message to the front of `out`: `{"data":"…"}` and a line feed. Returns its
/// length. Panics where `out` is shorter than [`encoded_bytes`].
///
/// ```
/// use scale_proto::coder::{encode, encoded_bytes};
///
/// let text = "a\"\\<\t\n";
/// let mut out = vec![0; encoded_bytes(text)];
/// assert_eq!(encode(text, &mut out), out.len());
/// assert_eq!(out, br#"{"data":"a\"\\\u003c\t\n"}
/// "#);
/// ```
pub fn encode(text: &str, out: &mut [u8]) -> usize {
    let mut at = put(HEAD, out, 0);
    if text.is_ascii() {
        at = escape(text.as_bytes(), out, at);
    } else {
        for part in text.split_inclusive(SEPARATORS) {
            let plain = part.trim_end_matches(SEPARATORS);
            at = escape(plain.as_bytes(), out, at);
            at = match part[plain.len()..].chars().next() {
                Some('\u{2028}') => put(b"\\u2028", out, at),
                Some(_) => put(b"\\u2029", out, at),
                None => at,
            };
        }
    }
    put(TAIL, out, at)
}

/// Writes a resize to the front of `out`; returns its length. Terminals ignore one of which a side
/// is 0. Panics where `out` is shorter than [`RESIZE_BYTES_MAX`] asks for.
///
/// ```
/// let mut out = [0; scale_proto::coder::RESIZE_BYTES_MAX];
/// let bytes = scale_proto::coder::encode_resize(120, 40, &mut out);
/// assert_eq!(out[..bytes], *b"{\"height\":40,\"width\":120}\n");
/// ```
pub fn encode_resize(width: u16, height: u16, out: &mut [u8]) -> usize {
    let mut at = put(b"{\"height\":", out, 0);
    at = put_number(height, out, at);
    at = put(b",\"width\":", out, at);
    at = put_number(width, out, at);
    put(b"}\n", out, at)
}

/// `text` in pieces of at most [`PIECE_BYTES_MAX`], cut between characters.
pub fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let mut end = text.len().min(PIECE_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = text.split_at(end);
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Escapes `bytes` into `out` from `at` on; where it ends. A word is stored for each byte, so that
/// nothing branches on what it is; where no word fits any more, exactly as much as counts.
pub(super) fn escape(bytes: &[u8], out: &mut [u8], mut at: usize) -> usize {
    for &byte in bytes {
        let (word, width) = (&ESCAPES[usize::from(byte)], usize::from(WIDTHS[usize::from(byte)]));
        if let Some(place) = out.get_mut(at..at + 8) {
            place.copy_from_slice(word);
        } else {
            out[at..at + width].copy_from_slice(&word[..width]);
        }
        at += width;
    }
    at
}

fn put(bytes: &[u8], out: &mut [u8], at: usize) -> usize {
    out[at..at + bytes.len()].copy_from_slice(bytes);
    at + bytes.len()
}

fn put_number(number: u16, out: &mut [u8], at: usize) -> usize {
    let mut digits = [0; 5];
    let (mut left, mut from) = (number, digits.len());
    loop {
        from -= 1;
        digits[from] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            return put(&digits[from..], out, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &str) -> String {
        let mut out = vec![0xAA; encoded_bytes(text)];
        assert_eq!(encode(text, &mut out), out.len());
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn every_character_is_escaped_as_go_does() {
        assert_eq!(encoded("<&>"), "{\"data\":\"\\u003c\\u0026\\u003e\"}\n");
        assert_eq!(
            encoded("\u{0}\u{3}\u{8}\u{c}\r\u{1f}\u{7f}"),
            "{\"data\":\"\\u0000\\u0003\\b\\f\\r\\u001f\u{7f}\"}\n"
        );
        assert_eq!(encoded("é\u{2028}\u{2029}€x"), "{\"data\":\"é\\u2028\\u2029€x\"}\n");
        assert_eq!(encoded(""), "{\"data\":\"\"}\n");
        assert_eq!(encoded("\u{3}").as_bytes(), INTERRUPT);
    }

    #[test]
    fn the_longest_resize_fits() {
        let mut out = [0; RESIZE_BYTES_MAX];
        assert_eq!(encode_resize(u16::MAX, u16::MAX, &mut out), RESIZE_BYTES_MAX);
        let bytes = encode_resize(0, 7, &mut out);
        assert_eq!(out[..bytes], *b"{\"height\":7,\"width\":0}\n");
    }

    proptest! {
        #[test]
        fn the_length_is_known_beforehand_and_no_byte_behind_it_is_touched(text in any::<String>()) {
            let bytes = encoded_bytes(&text);
            let mut out = vec![0xAA; bytes + 9];
            prop_assert_eq!(encode(&text, &mut out[..bytes]), bytes);
            prop_assert!(out[bytes..].iter().all(|&byte| byte == 0xAA));
            prop_assert_eq!(&out[..HEAD.len()], HEAD);
        }

        #[test]
        fn pieces_are_short_and_together_the_text(text in "[a-z€𐍈]{0,3000}") {
            let all: Vec<&str> = pieces(&text).collect();
            prop_assert!(all.iter().all(|piece| piece.len() <= PIECE_BYTES_MAX && piece.len() + 4 > PIECE_BYTES_MAX || Some(piece) == all.last()));
            prop_assert_eq!(all.concat(), text);
        }
    }
}
