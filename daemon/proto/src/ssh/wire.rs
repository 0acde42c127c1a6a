//! The data types of RFC 4251 §5, read within bounds and written to the end of a vector.

use super::DESCRIPTION_BYTES_MAX;
use crate::Fault;

/// Reads one packet's payload from its front. Every length is checked before it is used.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

const SHORT: Fault = Fault::SshProtocol("a packet ends within a field");

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been read.
    pub const fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// `SshProtocol` where something is.
    pub const fn end(self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::SshProtocol("a packet goes on behind its fields")) }
    }

    /// `count` bytes as they are.
    ///
    /// # Errors
    /// `SshProtocol` where there are fewer; so for all that follow.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A byte.
    ///
    /// # Errors
    /// See [`Self::bytes`].
    pub fn byte(&mut self) -> Result<u8, Fault> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    /// A boolean: everything but 0 is true.
    ///
    /// # Errors
    /// See [`Self::bytes`].
    pub fn boolean(&mut self) -> Result<bool, Fault> {
        self.byte().map(|byte| byte != 0)
    }

    /// A uint32.
    ///
    /// # Errors
    /// See [`Self::bytes`].
    pub fn uint32(&mut self) -> Result<u32, Fault> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_be_bytes(bytes.try_into().expect("four bytes")))
    }

    /// A uint64.
    ///
    /// # Errors
    /// See [`Self::bytes`].
    pub fn uint64(&mut self) -> Result<u64, Fault> {
        let bytes = self.bytes(8)?;
        Ok(u64::from_be_bytes(bytes.try_into().expect("eight bytes")))
    }

    /// A string: any bytes.
    ///
    /// # Errors
    /// See [`Self::bytes`].
    pub fn string(&mut self) -> Result<&'a [u8], Fault> {
        let count = self.uint32()? as usize;
        self.bytes(count)
    }

    /// A string that must be UTF-8.
    ///
    /// # Errors
    /// See [`Self::bytes`]; `SshProtocol` where it is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.string()?).map_err(|_| Fault::SshProtocol("a text is not UTF-8"))
    }

    /// The magnitude of an mpint that must not be negative, without leading zeroes.
    ///
    /// # Errors
    /// See [`Self::bytes`]; `SshProtocol` where it is negative or longer than it needs to be.
    pub fn mpint(&mut self) -> Result<&'a [u8], Fault> {
        match self.string()? {
            [0, rest @ ..] if rest.first().is_some_and(|&first| first & 0x80 != 0) => Ok(rest),
            [first, ..] if *first == 0 || first & 0x80 != 0 => {
                Err(Fault::SshProtocol("an mpint is negative or has leading zeroes"))
            }
            magnitude => Ok(magnitude),
        }
    }
}

/// Writes the data types to the end of a vector.
pub trait Write {
    /// A byte.
    fn put_byte(&mut self, byte: u8);
    /// A boolean.
    fn put_boolean(&mut self, value: bool);
    /// A uint32.
    fn put_uint32(&mut self, value: u32);
    /// A uint64.
    fn put_uint64(&mut self, value: u64);
    /// A string. Panics at 4 GiB: every caller's bytes have a limit far below.
    fn put_string(&mut self, bytes: impl AsRef<[u8]>);
    /// A magnitude, big-endian, as an mpint that is not negative.
    fn put_mpint(&mut self, magnitude: &[u8]);
}

impl Write for Vec<u8> {
    fn put_byte(&mut self, byte: u8) {
        self.push(byte);
    }

    fn put_boolean(&mut self, value: bool) {
        self.push(u8::from(value));
    }

    fn put_uint32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_uint64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_string(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.put_uint32(u32::try_from(bytes.len()).expect("a string below 4 GiB"));
        self.extend_from_slice(bytes);
    }

    fn put_mpint(&mut self, magnitude: &[u8]) {
        let zeroes = magnitude.iter().take_while(|&&byte| byte == 0).count();
        let magnitude = &magnitude[zeroes..];
        let sign = magnitude.first().is_some_and(|&first| first & 0x80 != 0);
        self.put_uint32(u32::try_from(magnitude.len() + usize::from(sign)).expect("an mpint below 4 GiB"));
        if sign {
            self.push(0);
        }
        self.extend_from_slice(magnitude);
    }
}

/// A peer's words, fit for a line of a log: at most `DESCRIPTION_BYTES_MAX` bytes of UTF-8, what
/// is not UTF-8 or controls a terminal replaced.
pub fn words(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(DESCRIPTION_BYTES_MAX)];
    let text = String::from_utf8_lossy(bytes);
    let mut words = String::with_capacity(bytes.len());
    for character in text.chars().map(|character| if character.is_control() { ' ' } else { character }) {
        if words.len() + character.len_utf8() > DESCRIPTION_BYTES_MAX {
            break;
        }
        words.push(character);
    }
    words.truncate(words.trim_end().len());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_no_control_characters_and_an_end() {
        assert_eq!(words(b"bye\r\n\x1b[2J\x07now\n"), "bye   [2J now");
        assert_eq!(words("\u{9b}31mé".as_bytes()), " 31mé");
        assert_eq!(words(&[0xff; 4000]).len(), DESCRIPTION_BYTES_MAX / 3 * 3);
        assert_eq!(words("é".repeat(4000).as_bytes()), "é".repeat(DESCRIPTION_BYTES_MAX / 2));
    }

    #[test]
    fn mpints_are_as_in_the_rfc() {
        // RFC 4251 §5, the examples that are not negative.
        for (magnitude, wire) in [
            (&[0u8][..], &[0u8, 0, 0, 0][..]),
            (
                &[0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7],
                &[0, 0, 0, 8, 0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7],
            ),
            (&[0x80], &[0, 0, 0, 2, 0, 0x80]),
        ] {
            let mut written = Vec::new();
            written.put_mpint(magnitude);
            assert_eq!(written, wire);
            let read = Reader::new(&written).mpint().unwrap();
            assert_eq!(read, if magnitude == [0] { &[][..] } else { magnitude });
        }
        for wrong in [&[0u8, 0, 0, 1, 0x80][..], &[0, 0, 0, 2, 0, 0x7f], &[0, 0, 0, 1, 0]] {
            assert!(Reader::new(wrong).mpint().is_err());
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_a_fault() {
        assert!(Reader::new(&[0, 0, 0, 5, 1, 2, 3, 4]).string().is_err());
        assert!(Reader::new(&[0xff; 4]).string().is_err());
        assert!(Reader::new(&[0; 3]).uint32().is_err());
    }
}
