//! What a terminal's server reads: a stream of JSON objects, wherever messages begin and end.
//!
//! It reads as Go's decoder does: names in any case, the last of two counts, `null` changes
//! nothing, names it does not know are skipped, what is no UTF-8 becomes U+FFFD. An object has its
//! effect when it is complete; what is wrong ends the session, and the object has none.

use super::json::PIECE_BYTES_MAX;
use super::unescape::{Chunk, escaped, replaced};

/// Bytes of text in one object.
pub const DATA_BYTES_MAX: usize = 64 << 10;
/// Objects and arrays within each other.
pub const DEPTH_MAX: u32 = 32;

/// One object that has come.
#[derive(Debug, PartialEq, Eq)]
pub struct Said<'a> {
    /// What is typed; may be nothing.
    pub typed: &'a str,
    /// The terminal's new size.
    pub resize: Option<Size>,
}

/// Columns and rows, neither 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// What ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is no JSON.
    #[error("byte {0:#04x} has no place in JSON here")]
    Syntax(u8),
    /// Something else than an object, a text for a number, a number that is no size.
    #[error("a value is not of its field's type")]
    Type,
    /// More than [`DATA_BYTES_MAX`].
    #[error("a text is longer than 65,536 bytes")]
    TooLong,
    /// Beyond [`DEPTH_MAX`].
    #[error("objects lie within each other more than 32 deep")]
    TooDeep,
}

/// Which part of the grammar is next.
#[derive(Debug, Clone, Copy)]
enum Next {
    Value,
    /// The first of an array, or its end.
    Element,
    /// The first name of an object, or its end.
    NameOrEnd,
    Name,
    Colon,
    /// A comma, or the end of what is open.
    Comma,
    Text,
    Escape,
    /// `\u` and so many digits.
    Unicode(u8, u16),
    Number(Number),
    /// The rest of `true`, `false` or `null`.
    Word(&'static [u8]),
    /// Something was wrong.
    Failed(Malformed),
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// What a text or a number is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Data,
    Height,
    Width,
    Unknown,
}

/// The decoder of one session.
#[derive(Debug)]
pub struct Decoder {
    next: Next,
    field: Field,
    depth: u32,
    /// Which of them are objects, the innermost lowest.
    objects: u32,
    name: [u8; Self::NAME_BYTES_MAX],
    name_bytes: u8,
    data: Vec<u8>,
    /// The first half of a surrogate pair; 0: none.
    high: u16,
    /// A size under way, while it is one.
    number: Option<u16>,
    height: u16,
    width: u16,
}

impl Decoder {
    /// The longest name that means something, and one more that says it is longer.
    const NAME_BYTES_MAX: usize = "height".len() + 1;

    /// At the start of a session.
    pub const fn new() -> Self {
        Self {
            next: Next::Value,
            field: Field::Unknown,
            depth: 0,
            objects: 0,
            name: [0; Self::NAME_BYTES_MAX],
            name_bytes: 0,
            data: Vec::new(),
            high: 0,
            number: None,
            height: 0,
            width: 0,
        }
    }

    /// Takes bytes from the front of `input` until an object is complete; `None`: all of it is
    /// used up.
    ///
    /// ```
    /// use scale_proto::coder::Decoder;
    ///
    /// let mut decoder = Decoder::new();
    /// let mut typed = String::new();
    /// for mut message in [&b"{\"data\":\"a\"}{\"da"[..], b"ta\":\"\\u003", b"c\"}\n"] {
    ///     while let Some(said) = decoder.receive(&mut message).unwrap() {
    ///         typed += said.typed;
    ///     }
    /// }
    /// assert_eq!(typed, "a<");
    /// ```
    ///
    /// # Errors
    /// The session is over; whatever comes is answered with the same.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Said<'_>>, Malformed> {
        match self.parse(input) {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(self.said())),
            Err(malformed) => {
                self.data = Vec::new();
                self.next = Next::Failed(malformed);
                Err(malformed)
            }
        }
    }

    /// Whether an object is complete.
    fn parse(&mut self, input: &mut &[u8]) -> Result<bool, Malformed> {
        while let Some((&byte, rest)) = input.split_first() {
            if matches!(self.next, Next::Text) {
                let taken = self.take_text(input)?;
                if taken > 0 {
                    *input = &input[taken..];
                    continue;
                }
            }
            let number_before = matches!(self.next, Next::Number(_));
            let complete = self.step(byte)?;
            // A number ends before the byte that ends it.
            if !number_before || matches!(self.next, Next::Number(_)) {
                *input = rest;
            }
            if complete {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether no object is under way: a session may end here.
    pub const fn is_between(&self) -> bool {
        self.depth == 0 && matches!(self.next, Next::Value)
    }

    /// The object that is complete.
    fn said(&mut self) -> Said<'_> {
        if !self.data.is_ascii() && std::str::from_utf8(&self.data).is_err() {
            self.data = replaced(&self.data);
        }
        let (width, height) = (self.width, self.height);
        let resize = (width > 0 && height > 0).then_some(Size { width, height });
        Said { typed: std::str::from_utf8(&self.data).expect("it was made so"), resize }
    }

    /// Takes what of a text stands on its own, a chunk at most; how much it was.
    fn take_text(&mut self, input: &[u8]) -> Result<usize, Malformed> {
        let mut chunk = Chunk::new();
        let taken = chunk.unescape(input);
        if taken > 0 {
            self.append(chunk.bytes())?;
        }
        Ok(taken)
    }

    /// One byte; whether an object is complete with it.
    fn step(&mut self, byte: u8) -> Result<bool, Malformed> {
        let blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match self.next {
            Next::Value | Next::Element | Next::NameOrEnd | Next::Name | Next::Colon | Next::Comma
                if blank => {}
            Next::Element if byte == b']' => return self.close(false),
            Next::Value | Next::Element => self.begin_value(byte)?,
            Next::NameOrEnd if byte == b'}' => return self.close(true),
            Next::NameOrEnd | Next::Name if byte == b'"' => {
                (self.field, self.name_bytes) = (Field::Name, 0);
                self.next = Next::Text;
            }
            Next::Colon if byte == b':' => self.next = Next::Value,
            Next::Comma => match byte {
                b',' if self.objects & 1 == 1 => self.next = Next::Name,
                b',' => self.next = Next::Value,
                b'}' if self.objects & 1 == 1 => return self.close(true),
                b']' if self.objects & 1 == 0 => return self.close(false),
                _ => return Err(Malformed::Syntax(byte)),
            },
            Next::Text => match byte {
                b'"' => self.end_text()?,
                b'\\' => self.next = Next::Escape,
                _ => return Err(Malformed::Syntax(byte)), // a control byte: the rest is a run
            },
            Next::Escape => self.escape(byte)?,
            Next::Unicode(digits, code) => self.unicode(byte, digits, code)?,
            Next::Number(number) => return self.number(number, byte),
            Next::Word(rest) => match rest.split_first() {
                Some((&wanted, rest)) if wanted == byte => {
                    self.next = if rest.is_empty() { self.behind_value() } else { Next::Word(rest) };
                    return Ok(false);
                }
                _ => return Err(Malformed::Syntax(byte)),
            },
            Next::Failed(malformed) => return Err(malformed),
            Next::NameOrEnd | Next::Name | Next::Colon => return Err(Malformed::Syntax(byte)),
        }
        Ok(false)
    }

    fn behind_value(&self) -> Next {
        if self.depth == 0 { Next::Value } else { Next::Comma }
    }

    fn begin_value(&mut self, byte: u8) -> Result<(), Malformed> {
        let outermost = self.depth == 0;
        let known = !outermost && self.field != Field::Unknown;
        match byte {
            b'{' | b'[' if known => return Err(Malformed::Type),
            b'{' | b'[' => {
                if outermost {
                    if byte == b'[' {
                        return Err(Malformed::Type);
                    }
                    (self.height, self.width) = (0, 0);
                    self.forget_data();
                }
                if self.depth == DEPTH_MAX {
                    return Err(Malformed::TooDeep);
                }
                self.depth += 1;
                self.objects = self.objects << 1 | u32::from(byte == b'{');
                self.field = Field::Unknown;
                self.next = if byte == b'{' { Next::NameOrEnd } else { Next::Element };
            }
            b'n' => self.next = Next::Word(b"ull"),
            b't' | b'f' | b'"' | b'-' | b'0'..=b'9' if outermost => return Err(Malformed::Type),
            b't' | b'f' if known => return Err(Malformed::Type),
            b't' => self.next = Next::Word(b"rue"),
            b'f' => self.next = Next::Word(b"alse"),
            b'"' => {
                match self.field {
                    Field::Data => self.data.clear(),
                    Field::Unknown => {}
                    Field::Height | Field::Width | Field::Name => return Err(Malformed::Type),
                }
                self.next = Next::Text;
            }
            b'-' | b'0'..=b'9' => {
                if self.field == Field::Data {
                    return Err(Malformed::Type);
                }
                self.number = byte.checked_sub(b'0').map(u16::from);
                self.next = Next::Number(match byte {
                    b'-' => Number::Minus,
                    b'0' => Number::Zero,
                    _ => Number::Digits,
                });
            }
            _ => return Err(Malformed::Syntax(byte)),
        }
        Ok(())
    }

    /// What is open ends.
    fn close(&mut self, object: bool) -> Result<bool, Malformed> {
        debug_assert_eq!(self.objects & 1 == 1, object);
        self.depth -= 1;
        self.objects >>= 1;
        self.field = Field::Unknown;
        self.next = self.behind_value();
        Ok(self.depth == 0)
    }

    /// An idle session keeps no more than a message's.
    fn forget_data(&mut self) {
        self.data.clear();
        self.data.shrink_to(PIECE_BYTES_MAX);
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();
        if std::mem::take(&mut self.high) != 0 {
            self.append_whole(REPLACEMENT)?; // its other half did not come
        }
        self.append_whole(bytes)
    }

    #[inline]
    fn append_whole(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        match self.field {
            Field::Name => {
                let from = usize::from(self.name_bytes);
                let fit = bytes.len().min(self.name.len() - from);
                self.name[from..from + fit].copy_from_slice(&bytes[..fit]);
                self.name_bytes += fit as u8;
            }
            Field::Data => {
                if self.data.len() + bytes.len() > DATA_BYTES_MAX {
                    return Err(Malformed::TooLong);
                }
                self.data.extend_from_slice(bytes);
            }
            Field::Height | Field::Width | Field::Unknown => {}
        }
        Ok(())
    }

    fn end_text(&mut self) -> Result<(), Malformed> {
        self.append(&[])?;
        if self.field != Field::Name {
            self.next = Next::Comma;
            return Ok(());
        }
        let name = &self.name[..usize::from(self.name_bytes)];
        let is = |known: &str| self.depth == 1 && name.eq_ignore_ascii_case(known.as_bytes());
        self.field = match () {
            () if is("data") => Field::Data,
            () if is("height") => Field::Height,
            () if is("width") => Field::Width,
            () => Field::Unknown,
        };
        self.next = Next::Colon;
        Ok(())
    }

    fn escape(&mut self, byte: u8) -> Result<(), Malformed> {
        if byte == b'u' {
            self.next = Next::Unicode(0, 0);
            return Ok(());
        }
        let plain = escaped(byte).ok_or(Malformed::Syntax(byte))?;
        self.next = Next::Text;
        self.append(&[plain])
    }

    fn unicode(&mut self, byte: u8, digits: u8, code: u16) -> Result<(), Malformed> {
        let digit = char::from(byte).to_digit(16).ok_or(Malformed::Syntax(byte))?;
        let code = code << 4 | digit as u16;
        if digits < 3 {
            self.next = Next::Unicode(digits + 1, code);
            return Ok(());
        }
        self.next = Next::Text;
        let scalar = match (code, self.high) {
            (0xD800..0xDC00, _) => {
                self.append(&[])?;
                self.high = code;
                return Ok(());
            }
            (0xDC00..0xE000, high) if high != 0 => {
                self.high = 0;
                0x10000 + (u32::from(high & 0x3FF) << 10 | u32::from(code & 0x3FF))
            }
            (code, _) => u32::from(code),
        };
        let character = char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.append(character.encode_utf8(&mut [0; 4]).as_bytes())
    }

    /// A number's next byte, or what stands behind it.
    fn number(&mut self, number: Number, byte: u8) -> Result<bool, Malformed> {
        let next = match (number, byte) {
            (Number::Minus, b'0') => Number::Zero,
            (Number::Minus, b'1'..=b'9') | (Number::Digits, b'0'..=b'9') => Number::Digits,
            (Number::Zero | Number::Digits, b'.') => Number::Point,
            (Number::Point | Number::Fraction, b'0'..=b'9') => Number::Fraction,
            (Number::Zero | Number::Digits | Number::Fraction, b'e' | b'E') => Number::Exponent,
            (Number::Exponent, b'+' | b'-') => Number::ExponentSign,
            (Number::Exponent | Number::ExponentSign | Number::ExponentDigits, b'0'..=b'9') => {
                Number::ExponentDigits
            }
            (Number::Zero | Number::Digits | Number::Fraction | Number::ExponentDigits, _) => {
                return self.end_number();
            }
            (Number::Minus | Number::Point | Number::Exponent | Number::ExponentSign, _) => {
                return Err(Malformed::Syntax(byte));
            }
        };
        let digit = u16::from(byte.wrapping_sub(b'0'));
        self.number = match next {
            Number::Digits => self.number.and_then(|value| value.checked_mul(10)?.checked_add(digit)),
            _ => None,
        };
        self.next = Next::Number(next);
        Ok(false)
    }

    fn end_number(&mut self) -> Result<bool, Malformed> {
        match self.field {
            Field::Height => self.height = self.number.ok_or(Malformed::Type)?,
            Field::Width => self.width = self.number.ok_or(Malformed::Type)?,
            Field::Unknown | Field::Data | Field::Name => {}
        }
        self.next = Next::Comma;
        Ok(false)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}
