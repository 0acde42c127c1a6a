//! What a terminal makes of what is typed: the part of the kernel's line discipline that does not
//! depend on who reads.
//!
//! | typed | raw | cooked |
//! | --- | --- | --- |
//! | a printing byte, TAB, a byte from 128 on | itself | itself |
//! | LF; CR, which counts as LF | itself | CR LF |
//! | another control byte | itself | `^` and a letter |
//! | a key that edits, signals or stops | itself | not an echo alone: never part of a load |

/// How the terminal echoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// The terminal does not; `cat` gives back byte for byte: `stty raw -echo isig; exec cat`.
    Raw,
    /// As a terminal starts: the kernel echoes, whatever the command does.
    Cooked,
}

/// What a byte is to a terminal that has just been opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Key {
    /// Echoed as it is.
    Plain,
    /// LF, or CR: ends the line.
    Newline,
    /// Echoed as `^` and a letter.
    Control,
    /// ^C: SIGINT. Echoed as a control byte; throws away what is typed and not yet read.
    Interrupt,
    /// ^\: SIGQUIT, otherwise as `Interrupt`.
    Quit,
    /// ^D: hands over the line so far; on an empty one, the end of input.
    EndOfInput,
    /// ^R: prints the line so far again.
    Reprint,
    /// Erases, quotes, stops or suspends: ^H's kin, ^U, ^W, ^V, ^S, ^Q, ^Z.
    Editing,
}

/// What each byte is, by the control characters that the kernel starts a terminal with.
pub(super) const KEYS: [Key; 256] = {
    let mut table = [Key::Plain; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'\n' | b'\r' => Key::Newline,
            b'\t' => Key::Plain,
            0x03 => Key::Interrupt,
            0x1C => Key::Quit,
            0x04 => Key::EndOfInput,
            0x12 => Key::Reprint,
            0x11 | 0x13 | 0x15 | 0x16 | 0x17 | 0x1A | 0x7F => Key::Editing,
            0x00..0x20 => Key::Control,
            _ => Key::Plain,
        };
        byte += 1;
    }
    table
};

/// How a control byte is shown: `^` and this.
pub(super) const fn caret(byte: u8) -> u8 {
    byte ^ 0x40
}

impl Echo {
    /// Bytes of the echo of `typed`; `None`: it has a key that does something else than echo.
    ///
    /// ```
    /// use scale_proto::coder::Echo;
    ///
    /// assert_eq!(Echo::Cooked.bytes(b"a\tb\x01\n"), Some(3 + 2 + 2));
    /// assert_eq!(Echo::Raw.bytes(b"a\tb\x01\n"), Some(5));
    /// assert_eq!(Echo::Cooked.bytes(b"typo\x7f"), None);
    /// ```
    pub fn bytes(self, typed: &[u8]) -> Option<usize> {
        if self == Self::Raw {
            return Some(typed.len());
        }
        typed.iter().try_fold(0, |bytes, &byte| match KEYS[usize::from(byte)] {
            Key::Plain => Some(bytes + 1),
            Key::Newline | Key::Control => Some(bytes + 2),
            Key::Interrupt | Key::Quit | Key::EndOfInput | Key::Reprint | Key::Editing => None,
        })
    }
}
