//! Where the echo begins: what a terminal says at first, and how to tell it from the answer.
//!
//! Before the first echo may come what a shell prints, and behind a reconnect up to 64 KiB of what
//! the session said before. None of it has a mark, so the client types one: a [`Marker`], a line
//! that occurs once in the world. What comes before its echo is preamble, what comes behind it is
//! aligned. In raw mode the marker also tells whether `stty` is through: while it is not, the
//! echo ends in CR LF, which is not the echo that is looked for.
//!
//! ```text
//!            ┌────────── marker's echo ──────────▶ Aligned ── an escape in the echo ─┐
//! Preamble ──┼── a sequence of a redrawing screen ──────────────────────────────────▶ Screen
//!            └── PREAMBLE_BYTES_MAX ─────────────▶ Lost
//! ```

use super::echo::Echo;

/// Bytes that may come before the marker's echo: the scrollback, and what is still under way.
pub const PREAMBLE_BYTES_MAX: u32 = 1 << 20;
/// How many of the last bytes of a former connection are looked for in the replay.
pub const TAIL_BYTES_MAX: usize = 32;
/// What a session keeps of what it said, for whoever attaches: more than so much is cut in front.
pub const REPLAY_BYTES_MAX: u32 = 64 << 10;

/// A line that is typed once a connection. A shell takes it for a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    text: [u8; Self::BYTES as usize],
    bytes: u8,
}

impl Marker {
    /// `#`, sixteen digits, LF.
    pub const BYTES: u32 = 18;

    /// From 64 random bits.
    pub fn from_random(random: u64) -> Self {
        let mut line = [b'#'; Self::BYTES as usize];
        for (digit, place) in line[1..17].iter_mut().enumerate() {
            *place = b"0123456789abcdef"[(random >> (60 - 4 * digit) & 15) as usize];
        }
        line[17] = b'\n';
        Self { text: line, bytes: Self::BYTES as u8 }
    }

    /// The same without its LF: a comment that goes on, so that a shell has nothing to say to it.
    #[must_use]
    pub const fn unended(self) -> Self {
        Self { bytes: Self::BYTES as u8 - 1, ..self }
    }

    /// What is typed.
    pub fn line(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.bytes)]).expect("digits")
    }

    /// Appends what comes back of it.
    pub fn write_echo(&self, echo: Echo, out: &mut Vec<u8>) {
        match (self.line().strip_suffix('\n'), echo) {
            (Some(text), Echo::Cooked) => out.extend([text.as_bytes(), b"\r\n"].concat()),
            _ => out.extend_from_slice(self.line().as_bytes()),
        }
    }

    fn echo(&self, echo: Echo) -> Needle {
        let mut bytes = Vec::with_capacity(Self::BYTES as usize + 1);
        self.write_echo(echo, &mut bytes);
        Needle::new(&bytes)
    }
}

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The marker's echo has not come.
    Preamble,
    /// What comes is echo.
    Aligned,
    /// What comes is drawn by `screen` or its like: nothing can be matched. Ask for the
    /// `buffered` backend, or for an image without `screen`.
    Screen,
    /// The marker's echo did not come within [`PREAMBLE_BYTES_MAX`].
    Lost,
}

/// Finds the marker's echo. To be dropped once the state is not `Preamble` any more.
#[derive(Debug)]
pub struct Alignment {
    state: State,
    marker: Needle,
    tail: Option<Needle>,
    sequence: Sequence,
    preamble_bytes: u32,
    replayed: Option<u32>,
    /// The newest bytes, each at its number modulo the length.
    recent: [u8; Self::RECENT],
}

impl Alignment {
    /// Room for the preamble's last bytes and the marker's echo behind them.
    const RECENT: usize = 2 * TAIL_BYTES_MAX;

    /// For a new session.
    pub fn new(marker: &Marker, echo: Echo) -> Self {
        Self {
            state: State::Preamble,
            marker: marker.echo(echo),
            tail: None,
            sequence: Sequence::None,
            preamble_bytes: 0,
            replayed: None,
            recent: [0; Self::RECENT],
        }
    }

    /// For the same session on another connection: `tail` is what came last on the former one, at
    /// most [`TAIL_BYTES_MAX`]; the fewer, the more easily something else is taken for it.
    pub fn again(marker: &Marker, echo: Echo, tail: &[u8]) -> Self {
        let tail = (!tail.is_empty()).then(|| Needle::new(tail));
        Self { tail, ..Self::new(marker, echo) }
    }

    /// Takes what belongs to the preamble from the front of `input`, the marker's echo with it.
    ///
    /// ```
    /// use scale_proto::coder::{Alignment, Echo, Marker, State};
    ///
    /// let marker = Marker::from_random(0x0123_4567_89ab_cdef);
    /// assert_eq!(marker.line(), "#0123456789abcdef\n");
    /// let mut alignment = Alignment::new(&marker, Echo::Cooked);
    /// assert_eq!(alignment.receive(&mut &b"~$ #0123456"[..]), State::Preamble);
    /// let mut input = &b"789abcdef\r\nhello"[..];
    /// assert_eq!(alignment.receive(&mut input), State::Aligned);
    /// assert_eq!((input, alignment.preamble_bytes()), (&b"hello"[..], 3));
    /// ```
    pub fn receive(&mut self, input: &mut &[u8]) -> State {
        while self.state == State::Preamble
            && let Some((&byte, rest)) = input.split_first()
        {
            *input = rest;
            self.recent[self.preamble_bytes as usize % Self::RECENT] = byte;
            self.preamble_bytes += 1;
            self.replayed = self.replayed.map(|bytes| bytes + 1);
            if self.tail.as_mut().is_some_and(|tail| tail.push(byte)) {
                self.replayed = Some(0);
            }
            if self.marker.push(byte) {
                let marker = u32::from(self.marker.len);
                self.preamble_bytes -= marker;
                // A short tail may be a part of the marker itself.
                self.replayed = self.replayed.and_then(|bytes| bytes.checked_sub(marker));
                self.state = State::Aligned;
            } else if self.sequence.push(byte) {
                self.state = State::Screen;
            } else if self.preamble_bytes > PREAMBLE_BYTES_MAX {
                self.state = State::Lost;
            }
        }
        self.state
    }

    /// Where it stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Bytes before the marker's echo.
    pub const fn preamble_bytes(&self) -> u32 {
        self.preamble_bytes
    }

    /// Bytes between the former connection's last and the marker's echo: what the session went on
    /// to say while nobody listened. `None`: the last bytes did not come again, so the session is
    /// another one, or it said more in between than is kept.
    pub const fn replayed(&self) -> Option<u32> {
        self.replayed
    }

    /// The last bytes before the marker's echo, at most [`TAIL_BYTES_MAX`].
    pub fn ending(&self) -> Vec<u8> {
        let to = self.preamble_bytes as usize;
        (to - to.min(TAIL_BYTES_MAX)..to).map(|at| self.recent[at % Self::RECENT]).collect()
    }
}

/// Whether bytes that should have been an echo were drawn instead: no echo has an escape.
pub fn is_redraw(received: &[u8]) -> bool {
    received.contains(&ESCAPE)
}

const ESCAPE: u8 = 0x1B;

/// Looks for sequences by which a redrawing screen begins: it resets the terminal (`CSI ! p`),
/// sets a scrolling region (`CSI … r`), or switches to the alternate screen (`CSI ? 1049 h`).
/// Colours, titles and a shell's own modes are none of them.
#[derive(Debug, Clone, Copy)]
enum Sequence {
    None,
    Escape,
    Csi { private: bool, soft: bool, number: u16 },
}

impl Sequence {
    /// Whether `byte` ends such a sequence.
    fn push(&mut self, byte: u8) -> bool {
        let (next, found) = match (*self, byte) {
            (_, ESCAPE) => (Self::Escape, false),
            (Self::None, _) => return false,
            (Self::Escape, b'[') => (Self::Csi { private: false, soft: false, number: 0 }, false),
            (Self::Csi { soft, .. }, b'?') => (Self::Csi { private: true, soft, number: 0 }, false),
            (Self::Csi { private, number, .. }, b'!') => (Self::Csi { private, soft: true, number }, false),
            (Self::Csi { private, soft, number }, b'0'..=b'9') => {
                let number = number.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
                (Self::Csi { private, soft, number }, false)
            }
            (Self::Csi { private, soft, .. }, b';') => (Self::Csi { private, soft, number: 0 }, false),
            (Self::Csi { soft: true, .. }, b'p') | (Self::Csi { private: false, .. }, b'r') => {
                (Self::None, true)
            }
            (Self::Csi { private: true, number: 47 | 1047 | 1049, .. }, b'h') => (Self::None, true),
            (Self::Csi { .. } | Self::Escape, _) => (Self::None, false),
        };
        *self = next;
        found
    }
}

/// Finds a few bytes in a stream, however it is cut (Knuth, Morris, Pratt 1977).
#[derive(Debug)]
struct Needle {
    bytes: [u8; TAIL_BYTES_MAX],
    /// How many still match where the next byte does not.
    fallback: [u8; TAIL_BYTES_MAX],
    len: u8,
    matched: u8,
}

impl Needle {
    fn new(needle: &[u8]) -> Self {
        assert!((1..=TAIL_BYTES_MAX).contains(&needle.len()), "{} bytes are looked for", needle.len());
        let (mut bytes, mut fallback, mut matched) = ([0; TAIL_BYTES_MAX], [0; TAIL_BYTES_MAX], 0);
        bytes[..needle.len()].copy_from_slice(needle);
        for at in 1..needle.len() {
            while matched > 0 && needle[at] != needle[matched] {
                matched = usize::from(fallback[matched - 1]);
            }
            matched += usize::from(needle[at] == needle[matched]);
            fallback[at] = matched as u8;
        }
        Self { bytes, fallback, len: needle.len() as u8, matched: 0 }
    }

    /// Whether `byte` is the last of them.
    fn push(&mut self, byte: u8) -> bool {
        let (last, mut matched) = (usize::from(self.len) - 1, usize::from(self.matched));
        while matched > 0 && byte != self.bytes[matched] {
            matched = usize::from(self.fallback[matched - 1]);
        }
        let matches = byte == self.bytes[matched];
        let found = matches && matched == last;
        self.matched = if found { self.fallback[last] } else { matched as u8 + u8::from(matches) };
        found
    }
}
