//! What the messages of terminals are made of: one pool of text that all streams share, kept
//! twice, as it is typed and as it is sent.
//!
//! A message begins at a `place` in the pool and has `bytes` bytes. From these two numbers follow,
//! without a look at the other streams and without a copy of the message:
//!
//! | of a [`Message`] | is | costs |
//! | --- | --- | --- |
//! | its frames | prefix, a slice of the escaped pool, suffix | one masked copy |
//! | their length | the difference of two marks of the pool | at most 7 look-ups a piece |
//! | its echo's length | its bytes, and one for a line's CR | nothing |
//! | the echo | a slice of the pool, and the line's end | a comparison in place |
//!
//! Pieces begin at multiples of [`PIECE_BYTES_MAX`] and messages at multiples of
//! [`Text::ALIGNMENT`], so that each piece begins at a mark.

use super::echo::{Echo, KEYS, Key};
use super::json::{ESCAPE_BYTES_MAX, HEAD, PIECE_BYTES_MAX, TAIL, WIDTHS, escape};
use crate::ws::{HEADER_BYTES_MAX, Opcode, mask_into, rotate_mask, write_header};

/// Which of the original's payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All but the last byte are of 95 symbols, TAB and space to `}`; the last is LF. Since v2.6.
    Line,
    /// `#` and then letters and digits; it has no end, and a shell takes it for a comment.
    Comment,
    /// A `Comment` with LF at the end, for a shell that has no terminal to keep the line for it. A message of one
    /// byte is the LF.
    CommentLine,
}

impl Form {
    /// TAB, and from space to `}`.
    const SYMBOLS: [u8; 95] = {
        let mut symbols = [b'\t'; 95];
        let mut at = 1;
        while at < symbols.len() {
            symbols[at] = b' ' + at as u8 - 1;
            at += 1;
        }
        symbols
    };
    const ALPHANUMERICS: [u8; 62] = *b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

    /// What payload is made of, but for a message's first or last byte. A symbol is drawn as
    /// the original does it, a random byte modulo their number: the first come more often.
    pub const fn alphabet(self) -> &'static [u8] {
        match self {
            Self::Line => &Self::SYMBOLS,
            Self::Comment | Self::CommentLine => &Self::ALPHANUMERICS,
        }
    }

    /// Whether the first of `bytes` bytes is `#`.
    #[inline]
    const fn has_hash(self, bytes: u32) -> bool {
        match self {
            Self::Line => false,
            Self::Comment => true,
            Self::CommentLine => bytes > 1,
        }
    }

    /// Whether the last byte is LF.
    #[inline]
    const fn has_end(self) -> bool {
        matches!(self, Self::Line | Self::CommentLine)
    }
}

/// Where messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To a web terminal: each piece is a JSON object.
    Terminal,
    /// To a workspace's app, or over SSH: each piece is what it is.
    App,
}

/// An echo is the pool's own bytes: no symbol is a key that does something.
const _: () = {
    let mut at = 0;
    while at < Form::SYMBOLS.len() {
        assert!(matches!(KEYS[Form::SYMBOLS[at] as usize], Key::Plain));
        at += 1;
    }
    at = 0;
    while at < Form::ALPHANUMERICS.len() {
        assert!(matches!(KEYS[Form::ALPHANUMERICS[at] as usize], Key::Plain));
        at += 1;
    }
};

/// The pool.
#[derive(Debug)]
pub struct Text {
    form: Form,
    route: Route,
    /// The pool, and behind it its own first piece again, so that every piece is contiguous.
    plain: Box<[u8]>,
    /// The same as it is sent: escaped for a terminal.
    escaped: Box<[u8]>,
    /// Where each [`Self::ALIGNMENT`]th byte of `plain` stands in `escaped`.
    marks: Box<[u32]>,
}

impl Text {
    /// Bytes of the pool: with its escaped form and its marks 350 KiB, which fit a core's
    /// second-level cache.
    pub const POOL_BYTES: usize = 128 << 10;
    /// Messages start at multiples of this.
    pub const ALIGNMENT: usize = 8;
    /// Bytes of one piece's frame at most.
    pub const FRAME_BYTES_MAX: usize =
        HEADER_BYTES_MAX + HEAD.len() + PIECE_BYTES_MAX * ESCAPE_BYTES_MAX + TAIL.len();

    /// A pool whose bytes `random` decides.
    pub fn new(form: Form, route: Route, random: &mut dyn FnMut() -> u64) -> Self {
        let alphabet = form.alphabet();
        let mut plain = Vec::with_capacity(Self::POOL_BYTES + PIECE_BYTES_MAX);
        while plain.len() < Self::POOL_BYTES {
            plain.extend(random().to_le_bytes().map(|byte| alphabet[usize::from(byte) % alphabet.len()]));
        }
        plain.extend_from_within(..PIECE_BYTES_MAX);
        let mut escaped = vec![0; plain.len() * ESCAPE_BYTES_MAX];
        let (mut at, mut marks) = (0, Vec::with_capacity(plain.len() / Self::ALIGNMENT + 1));
        for symbols in plain.chunks(Self::ALIGNMENT) {
            marks.push(at as u32);
            at = match route {
                Route::Terminal => escape(symbols, &mut escaped, at),
                Route::App => {
                    escaped[at..at + symbols.len()].copy_from_slice(symbols);
                    at + symbols.len()
                }
            };
        }
        marks.push(at as u32);
        escaped.truncate(at);
        Self { form, route, plain: plain.into(), escaped: escaped.into(), marks: marks.into() }
    }

    /// Which payload it is.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// A place for a new message from 64 random bits.
    #[inline]
    pub const fn place(random: u64) -> u32 {
        (random % (Self::POOL_BYTES / Self::ALIGNMENT) as u64) as u32 * Self::ALIGNMENT as u32
    }

    /// The message of `bytes` bytes, at least one, at `place`.
    #[inline]
    pub fn message(&self, place: u32, bytes: u32) -> Message<'_> {
        assert!((place as usize) < Self::POOL_BYTES && (place as usize).is_multiple_of(Self::ALIGNMENT));
        assert!(bytes > 0, "a message has a byte");
        Message { text: self, place, bytes }
    }

    /// Where `plain[at]` stands in `escaped`.
    #[inline]
    fn escaped_at(&self, at: usize) -> usize {
        let mark = at / Self::ALIGNMENT;
        let behind = &self.plain[mark * Self::ALIGNMENT..at];
        let widths = match self.route {
            Route::Terminal => behind.iter().map(|&byte| usize::from(WIDTHS[usize::from(byte)])).sum(),
            Route::App => behind.len(),
        };
        self.marks[mark] as usize + widths
    }
}

/// One message: a pool and two numbers.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    text: &'a Text,
    place: u32,
    bytes: u32,
}

/// One piece on its way out.
struct Piece<'a> {
    head: &'static [u8],
    symbols: &'a [u8],
    tail: &'static [u8],
}

impl Piece<'_> {
    #[inline]
    const fn bytes(&self) -> usize {
        self.head.len() + self.symbols.len() + self.tail.len()
    }
}

impl<'a> Message<'a> {
    /// Its pieces: each is one frame.
    #[inline]
    pub const fn pieces(self) -> u32 {
        self.bytes.div_ceil(PIECE_BYTES_MAX as u32)
    }

    /// Payload bytes of piece `n`.
    #[inline]
    pub const fn piece_bytes(self, n: u32) -> usize {
        let left = self.bytes as usize - n as usize * PIECE_BYTES_MAX;
        if left < PIECE_BYTES_MAX { left } else { PIECE_BYTES_MAX }
    }

    /// Bytes of piece `n` as it is sent, as JSON to a terminal.
    #[inline]
    pub fn encoded_bytes(self, n: u32) -> usize {
        self.piece(n).bytes()
    }

    /// Bytes of the frame of piece `n`.
    #[inline]
    pub fn frame_bytes(self, n: u32) -> usize {
        framed(self.encoded_bytes(n))
    }

    /// Bytes of all its frames: what goes out for it.
    #[inline]
    pub fn wire_bytes(self) -> usize {
        (0..self.pieces()).map(|n| self.frame_bytes(n)).sum()
    }

    /// Writes the frame of piece `n`, binary and masked, to the front of `out`; returns its
    /// length. Panics where `out` is shorter than [`Self::frame_bytes`].
    #[inline]
    pub fn write_frame(self, n: u32, mask: [u8; 4], out: &mut [u8]) -> usize {
        let piece = self.piece(n);
        let mut at = write_header(out, Opcode::Binary, true, piece.bytes() as u64, Some(mask));
        let mut turned = 0;
        for part in [piece.head, piece.symbols, piece.tail] {
            mask_into(&mut out[at..at + part.len()], part, rotate_mask(mask, turned));
            (at, turned) = (at + part.len(), turned + part.len());
        }
        at
    }

    /// Writes all its frames, each with a mask of its own; returns their length. Panics where
    /// `out` is shorter than [`Self::wire_bytes`].
    #[inline]
    pub fn write_frames(self, random: &mut dyn FnMut() -> [u8; 4], out: &mut [u8]) -> usize {
        (0..self.pieces()).fold(0, |at, n| at + self.write_frame(n, random(), &mut out[at..]))
    }

    /// Writes the message's own bytes, from its byte `position` on, to the whole of `out`. Panics where
    /// the message is shorter.
    pub fn write_plain(self, position: usize, out: &mut [u8]) {
        let end = position + out.len();
        assert!(end <= self.bytes as usize, "byte {end} of {}", self.bytes);
        let mut written = 0;
        while written < out.len() {
            let from = (self.place as usize + position + written) & (Text::POOL_BYTES - 1);
            let some = (out.len() - written).min(Text::POOL_BYTES - from);
            out[written..written + some].copy_from_slice(&self.text.plain[from..from + some]);
            written += some;
        }
        if let (0, true, Some(first)) = (position, self.text.form.has_hash(self.bytes), out.first_mut()) {
            *first = b'#';
        }
        if end == self.bytes as usize
            && self.text.form.has_end()
            && let Some(last) = out.last_mut()
        {
            *last = b'\n';
        }
    }

    #[inline]
    fn piece(self, n: u32) -> Piece<'a> {
        assert!(n < self.pieces(), "piece {n} of {}", self.pieces());
        let text = self.text;
        let (first, last) = (n == 0, n + 1 == self.pieces());
        let (hash, end) = (first && text.form.has_hash(self.bytes), last && text.form.has_end());
        let (head, tail): (&[u8], &[u8]) = match (text.route, hash, end) {
            (Route::Terminal, false, false) => (HEAD, TAIL),
            (Route::Terminal, false, true) => (HEAD, b"\\n\"}\n"),
            (Route::Terminal, true, false) => (b"{\"data\":\"#", TAIL),
            (Route::Terminal, true, true) => (b"{\"data\":\"#", b"\\n\"}\n"),
            (Route::App, false, false) => (b"", b""),
            (Route::App, false, true) => (b"", b"\n"),
            (Route::App, true, false) => (b"#", b""),
            (Route::App, true, true) => (b"#", b"\n"),
        };
        let from = (self.place as usize + n as usize * PIECE_BYTES_MAX) & (Text::POOL_BYTES - 1);
        let to = from + self.piece_bytes(n) - usize::from(end);
        let from = from + usize::from(hash);
        let symbols = &text.escaped[text.escaped_at(from)..text.escaped_at(to)];
        Piece { head, symbols, tail }
    }

    /// Bytes of its echo.
    #[inline]
    pub fn echo_bytes(self, echo: Echo) -> u32 {
        self.symbols_end() + self.echo_tail(echo).len() as u32
    }

    /// Whether its echo has `received` from `position` on. However an echo is cut: each part is
    /// compared as it comes, in place.
    #[inline]
    pub fn echoes(self, echo: Echo, position: u32, received: &[u8]) -> bool {
        let symbols = self.symbols_end().saturating_sub(position) as usize;
        let (symbols, tail) = received.split_at(symbols.min(received.len()));
        let from = position.saturating_sub(self.symbols_end()) as usize;
        self.echo_tail(echo).get(from..from + tail.len()) == Some(tail)
            && self.symbols_are(position as usize, symbols)
    }

    /// The byte of its echo at `position`, if it is that long.
    pub fn echo_at(self, echo: Echo, position: u32) -> Option<u8> {
        let Some(behind) = position.checked_sub(self.symbols_end()) else {
            let at = (self.place as usize + position as usize) & (Text::POOL_BYTES - 1);
            let hash = position == 0 && self.text.form.has_hash(self.bytes);
            return Some(if hash { b'#' } else { self.text.plain[at] });
        };
        self.echo_tail(echo).get(behind as usize).copied()
    }

    /// Where its symbols end, in the message as in its echo.
    #[inline]
    const fn symbols_end(self) -> u32 {
        self.bytes - self.text.form.has_end() as u32
    }

    #[inline]
    const fn echo_tail(self, echo: Echo) -> &'static [u8] {
        match (self.text.form.has_end(), echo) {
            (true, Echo::Cooked) => b"\r\n",
            (true, Echo::Raw) => b"\n",
            (false, _) => b"",
        }
    }

    #[inline]
    fn symbols_are(self, mut position: usize, mut received: &[u8]) -> bool {
        if position == 0 && self.text.form.has_hash(self.bytes) {
            let Some((&first, rest)) = received.split_first() else { return true };
            if first != b'#' {
                return false;
            }
            (position, received) = (1, rest);
        }
        while !received.is_empty() {
            let pool = &self.text.plain[(self.place as usize + position) & (Text::POOL_BYTES - 1)..];
            let (front, rest) = received.split_at(received.len().min(pool.len()));
            if front != &pool[..front.len()] {
                return false;
            }
            (position, received) = (position + front.len(), rest);
        }
        true
    }
}

/// With a client's header.
#[inline]
const fn framed(bytes: usize) -> usize {
    const MASK: usize = 4;
    MASK + bytes
        + match bytes {
            0..=125 => 2,
            126..=0xFFFF => 4,
            _ => 10,
        }
}
