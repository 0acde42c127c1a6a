//! A terminal without a kernel: what a pseudo-terminal and a simple command on it print, so that a
//! stand-in server can have thousands.
//!
//! It is the line discipline as a terminal starts (ECHO, ICANON, ISIG, ICRNL, OPOST, ONLCR), or
//! after `stty raw -echo`, with a command that takes what it can read at once, or nothing at all.
//! A property test holds it to the real one, byte for byte (`tests/terminal`).
//!
//! | limit | what happens there |
//! | --- | --- |
//! | [`LINE_BYTES_MAX`] without a line's end | echo goes on, the command never sees the rest |
//! | [`LINE_BYTES_MAX`] with whole lines unread | nothing more is taken until the command reads |
//! | line editing, flow control, suspension | [`Refused`]: no load has these keys |
//! | ^R behind more than [`REPRINT_BYTES_MAX`], or with [`Command::Discard`] | [`Refused`]: a kernel's echo is lost there; no line is kept here |
//!
//! One thing is left to chance by a kernel and not here: an interrupt throws away what the
//! terminal has said and nobody has read yet.

use super::echo::{KEYS, Key, caret};

/// Bytes that a terminal keeps for its reader.
pub const LINE_BYTES_MAX: usize = 4095;
/// With a last one that waits to be the line's end.
const KEPT_BYTES_MAX: usize = LINE_BYTES_MAX + 1;

/// The longest line that is printed again: twice as many bytes fit the kernel's buffer for echo.
pub const REPRINT_BYTES_MAX: usize = 2000;

/// What runs on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `dd of=/dev/null`: reads.
    Discard,
    /// `cat`: reads, and writes what it has read.
    Copy,
    /// `sleep`: never reads.
    Sleep,
}

/// Why the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// ^C.
    Interrupt,
    /// ^\.
    Quit,
    /// ^D on an empty line.
    EndOfInput,
}

/// A key that is not emulated; it is still at the front of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {0:#04x} edits, stops or suspends on a terminal: a load must not have it")]
pub struct Refused(pub u8);

/// One terminal.
#[derive(Debug)]
pub struct Terminal {
    command: Command,
    raw: bool,
    /// `isig` in raw mode: ^C ends the command, and is not echoed.
    signals: bool,
    /// The command does not read.
    paused: bool,
    ended: Option<Ending>,
    /// Bytes that are kept, and how many of them are whole lines. Nothing is whole for long
    /// unless the command is paused.
    kept: u16,
    whole: u16,
    /// The end of input is kept, behind as many bytes of `text`.
    end: Option<u16>,
    /// What is kept, where the command will want it.
    text: Vec<u8>,
}

impl Terminal {
    /// As a terminal starts.
    pub const fn new(command: Command) -> Self {
        Self {
            command,
            raw: false,
            signals: false,
            paused: false,
            ended: None,
            kept: 0,
            whole: 0,
            end: None,
            text: Vec::new(),
        }
    }

    /// `stty raw -echo; exec cat`, once `stty` is through.
    pub const fn raw() -> Self {
        let mut terminal = Self::new(Command::Copy);
        terminal.raw = true;
        terminal
    }

    /// `stty raw -echo isig; exec cat`, once `stty` is through.
    pub const fn raw_with_signals() -> Self {
        let mut terminal = Self::raw();
        terminal.signals = true;
        terminal
    }

    /// Takes bytes that were typed from the front of `input`, as many as find room, and appends what
    /// the terminal prints to `out`: at most twice as many, and a line where the command writes one.
    /// What is left over finds room when the command [reads](Self::resume). Behind the command's
    /// end everything is taken and nothing printed.
    ///
    /// ```
    /// use scale_proto::coder::{Command, Ending, Terminal};
    ///
    /// let mut terminal = Terminal::new(Command::Discard);
    /// let mut printed = Vec::new();
    /// terminal.input(&mut &b"abc\n\x03"[..], &mut printed).unwrap();
    /// assert_eq!(printed, b"abc\r\n^C");
    /// assert_eq!(terminal.ended(), Some(Ending::Interrupt));
    /// ```
    ///
    /// # Errors
    /// A key that is not emulated.
    pub fn input(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        while !input.is_empty() {
            if self.ended.is_some() {
                *input = &[];
                return Ok(());
            }
            let used = if self.raw { self.take_raw(input, out)? } else { self.take_cooked(input, out)? };
            if used == 0 {
                return Ok(());
            }
            *input = &input[used..];
        }
        Ok(())
    }

    /// The command stops reading.
    pub const fn pause(&mut self) {
        self.paused = true;
    }

    /// The command reads again: first what is kept, of which it may print something to `out`.
    pub fn resume(&mut self, out: &mut Vec<u8>) {
        self.paused = false;
        if self.reads() && (self.raw || self.whole > 0) {
            self.read(out);
        }
    }

    /// `stty raw -echo` takes effect. What was typed before has been echoed and will be read; an
    /// end of input among it is forgotten.
    pub const fn make_raw(&mut self) {
        self.raw = true;
        self.whole = 0;
        self.end = None;
    }

    fn reads(&self) -> bool {
        !self.paused && self.command != Command::Sleep
    }

    /// Why the command ended, if it has.
    pub const fn ended(&self) -> Option<Ending> {
        self.ended
    }

    fn take_raw(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Refused> {
        const SUSPEND: u8 = 0x1A;
        let mut input = input;
        if self.signals {
            let key = |byte: &u8| {
                matches!(KEYS[usize::from(*byte)], Key::Interrupt | Key::Quit) || *byte == SUSPEND
            };
            match input.iter().position(key) {
                Some(0) if input[0] == SUSPEND => return Err(Refused(SUSPEND)),
                Some(0) => {
                    self.ended = Some(if input[0] == 0x03 { Ending::Interrupt } else { Ending::Quit });
                    (self.kept, self.text) = (0, Vec::new());
                    return Ok(1);
                }
                Some(before) => input = &input[..before],
                None => {}
            }
        }
        if self.reads() {
            if self.command == Command::Copy {
                out.extend_from_slice(input);
            }
            return Ok(input.len());
        }
        let taken = input.len().min(LINE_BYTES_MAX.saturating_sub(usize::from(self.kept)));
        self.keep(&input[..taken]);
        Ok(taken)
    }

    /// A run of plain bytes, or one key.
    fn take_cooked(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Refused> {
        // While a whole line is unread, there is no room behind the limit; while there is none, the
        // line's end must find its place, so every byte takes that of the last.
        let room = if self.whole == 0 {
            input.len()
        } else {
            input.len().min(LINE_BYTES_MAX.saturating_sub(usize::from(self.kept)))
        };
        let input = &input[..room];
        let Some(&first) = input.first() else { return Ok(0) };
        let run = plain_run(input);
        if run > 0 {
            out.extend_from_slice(&input[..run]);
            self.keep(&input[..run]);
            return Ok(run);
        }
        match KEYS[usize::from(first)] {
            Key::Plain => unreachable!("a run has it"),
            Key::Newline => {
                out.extend_from_slice(b"\r\n");
                self.keep(b"\n");
                self.end_line(out);
            }
            Key::Control => {
                out.extend_from_slice(&[b'^', caret(first)]);
                self.keep(&[first]);
            }
            Key::Interrupt | Key::Quit => {
                out.extend_from_slice(&[b'^', caret(first)]);
                self.ended = Some(if first == 0x03 { Ending::Interrupt } else { Ending::Quit });
                (self.kept, self.whole, self.end, self.text) = (0, 0, None, Vec::new());
            }
            Key::EndOfInput => {
                if self.kept == self.whole && self.end.is_none() {
                    self.end = Some(self.text.len() as u16);
                }
                // It is kept as a byte that nobody reads, and takes the place of one beyond the limit.
                if usize::from(self.kept) == KEPT_BYTES_MAX {
                    self.text.pop();
                } else {
                    self.kept += 1;
                }
                self.end_line(out);
            }
            Key::Reprint if self.reprint(out) => {}
            Key::Reprint | Key::Editing => return Err(Refused(first)),
        }
        Ok(1)
    }

    /// Prints the line under way again, if it can be.
    fn reprint(&self, out: &mut Vec<u8>) -> bool {
        let line = usize::from(self.kept - self.whole);
        if line > REPRINT_BYTES_MAX || self.command == Command::Discard {
            return false;
        }
        out.extend_from_slice(b"^R\r\n");
        for &byte in &self.text[self.text.len() - line..] {
            match KEYS[usize::from(byte)] {
                Key::Plain => out.push(byte),
                _ => out.extend_from_slice(&[b'^', caret(byte)]),
            }
        }
        true
    }

    /// Keeps `bytes`, each beyond the limit in the place of the one before it.
    fn keep(&mut self, bytes: &[u8]) {
        let before = usize::from(self.kept);
        let fit = bytes.len().min(KEPT_BYTES_MAX - before);
        self.kept += fit as u16;
        if self.command != Command::Discard {
            self.text.extend_from_slice(&bytes[..fit]);
            if let (Some(&newest), Some(last)) = (bytes[fit..].last(), self.text.last_mut()) {
                *last = newest;
            }
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.whole = self.kept;
        if self.reads() {
            self.read(out);
        }
    }

    /// The command reads all it can.
    fn read(&mut self, out: &mut Vec<u8>) {
        let whole = if self.raw { self.kept } else { self.whole };
        if self.command == Command::Copy {
            // Only the line under way stays; its bytes are the last.
            let under_way = usize::from(self.kept - whole);
            let lines = self.text.len() - under_way;
            let seen = self.end.map_or(lines, usize::from);
            for byte in self.text.drain(..lines).take(seen) {
                if byte == b'\n' && !self.raw {
                    out.push(b'\r');
                }
                out.push(byte);
            }
        }
        (self.kept, self.whole) = (self.kept - whole, 0);
        if self.end.take().is_some() {
            self.ended = Some(Ending::EndOfInput);
        }
    }
}

/// How many bytes at the front of `input` are echoed as they are.
fn plain_run(input: &[u8]) -> usize {
    /// Looked at together, without a branch between.
    const BLOCK: usize = 32;
    let plain = |byte: u8| (byte >= b' ') & (byte != 0x7F) | (byte == b'\t');
    let (blocks, _) = input.as_chunks::<BLOCK>();
    let all = |block: &&[u8; BLOCK]| block.iter().fold(true, |all, &byte| all & plain(byte));
    let whole = blocks.iter().take_while(all).count() * BLOCK;
    whole + input[whole..].iter().take_while(|&&byte| KEYS[usize::from(byte)] == Key::Plain).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_plain_bytes_ends_at_every_key() {
        for at in [0, 1, 31, 32, 33, 63, 64, 69] {
            for byte in 0..=255u8 {
                let mut input = [b'~'; 70];
                input[at] = byte;
                let run = if KEYS[usize::from(byte)] == Key::Plain { input.len() } else { at };
                assert_eq!(plain_run(&input), run, "{byte:#x} at {at}");
            }
        }
    }
}
