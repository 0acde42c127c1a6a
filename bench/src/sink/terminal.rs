//! The sink as a server of web terminals: what is typed is decoded, and an emulated terminal echoes
//! it. Nothing is allocated a message; a terminal keeps its decoder's last text.
//!
//! Counted is what belongs to messages: what is typed first, which is a marker, and the keys that end
//! the command are left out, and what they print. A message is a line, so a load whose form has no
//! line's end has bytes and no messages.

use scale_proto::coder::{Command, Decoder, INTERRUPT_ECHO, Malformed, Terminal};
use scale_proto::ws;

use super::{Counts, frame};

/// Ctrl-C and Ctrl-D.
const END_KEYS: [u8; 2] = [0x03, 0x04];

/// What all terminals of a sink decode and print in.
#[derive(Default)]
pub(super) struct Desk {
    json: Vec<u8>,
    printed: Vec<u8>,
}

/// What a terminal's server does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    /// The command has ended.
    Close,
    /// What came is nothing that a terminal takes.
    Refuse,
}

/// One connection's terminal.
pub(super) struct Typing {
    decoder: Decoder,
    terminal: Terminal,
    raw: bool,
    /// The marker has been typed.
    marked: bool,
}

impl Typing {
    /// Which echoes as the kernel does, or gives back what is typed.
    pub const fn new(raw: bool) -> Self {
        let terminal = if raw { Terminal::raw_with_signals() } else { Terminal::new(Command::Discard) };
        Self { decoder: Decoder::new(), terminal, raw, marked: false }
    }

    /// A part of a message, masked; what the terminal prints is appended to `out` as a frame.
    pub fn take(
        &mut self,
        bytes: &[u8],
        mask: [u8; 4],
        desk: &mut Desk,
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Next {
        let Desk { json, printed } = desk;
        if json.len() < bytes.len() {
            json.resize(bytes.len(), 0);
        }
        let json = &mut json[..bytes.len()];
        ws::mask_into(json, bytes, mask);
        printed.clear();
        if self.type_all(json, printed, counts).is_err() {
            return Next::Refuse;
        }
        if !printed.is_empty() {
            frame(out, ws::Opcode::Binary, printed, [0; 4]);
        }
        if self.terminal.ended().is_none() { Next::GoOn } else { Next::Close }
    }

    /// Types what `json` says; a key that no load has is as wrong as what is no JSON.
    fn type_all(
        &mut self,
        mut json: &[u8],
        printed: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Result<(), Malformed> {
        while let Some(said) = self.decoder.receive(&mut json)? {
            let typed = said.typed.as_bytes();
            let before = printed.len();
            let input = &mut &typed[..];
            self.terminal.input(input, printed).map_err(|refused| Malformed::Syntax(refused.0))?;
            if !std::mem::replace(&mut self.marked, true) {
                continue;
            }
            let keys: u64 = END_KEYS.iter().map(|&key| count(typed, key)).sum();
            counts.payload_bytes_received += typed.len() as u64 - keys;
            // A cooked terminal shows the key that ended its command, and nothing behind it.
            let shown = if !self.raw && self.terminal.ended().is_some() { INTERRUPT_ECHO.len() } else { 0 };
            counts.payload_bytes_sent += (printed.len() - before).saturating_sub(shown) as u64;
            // Each line is printed within this call: nothing keeps the command from reading.
            let lines = count(typed, b'\n');
            counts.messages_received += lines;
            counts.messages_sent += lines;
        }
        Ok(())
    }
}

/// How many of `bytes` are `wanted`: counted in bytes, so that many are compared at once.
fn count(bytes: &[u8], wanted: u8) -> u64 {
    const BLOCK: usize = 192; // no more than a byte counts
    let of = |block: &[u8]| block.iter().fold(0, |count: u8, &byte| count + u8::from(byte == wanted));
    bytes.chunks(BLOCK).map(|block| u64::from(of(block))).sum()
}

#[cfg(test)]
mod tests {
    use scale_proto::coder::encode;

    use super::*;

    const MASK: [u8; 4] = [7, 77, 177, 201];
    const MARKER: &str = "#0123456789abcdef\n";

    /// Types `text` as one message, cut after `cut` bytes.
    fn take(typing: &mut Typing, text: &str, cut: usize, out: &mut Vec<u8>, counts: &mut Counts) -> Next {
        let mut json = vec![0; text.len() * 6 + 16];
        let bytes = encode(text, &mut json);
        let (front, rest) = json[..bytes].split_at(cut.min(bytes));
        let (mut desk, mut next) = (Desk::default(), Next::GoOn);
        for (at, part) in [(0, front), (front.len(), rest)] {
            let (mut masked, mask) = (vec![0; part.len()], ws::rotate_mask(MASK, at));
            ws::mask_into(&mut masked, part, mask);
            next = typing.take(&masked, mask, &mut desk, out, counts);
        }
        next
    }

    #[test]
    fn lines_are_echoed_and_counted_and_the_marker_and_ctrl_c_are_not() {
        for raw in [false, true] {
            for cut in 0..40 {
                let (mut typing, mut out, mut counts) = (Typing::new(raw), Vec::new(), Counts::default());
                assert_eq!(take(&mut typing, MARKER, cut, &mut out, &mut counts), Next::GoOn);
                assert_eq!((counts, out.is_empty()), (Counts::default(), false), "raw {raw}, cut at {cut}");
                assert_eq!(take(&mut typing, "a<b>\t\n", cut, &mut out, &mut counts), Next::GoOn);
                let wanted = Counts {
                    connections: 0,
                    messages_received: 1,
                    messages_sent: 1,
                    payload_bytes_received: 6,
                    payload_bytes_sent: if raw { 6 } else { 7 },
                };
                assert_eq!(counts, wanted);
                assert_eq!(take(&mut typing, "\u{3}", cut, &mut out, &mut counts), Next::Close);
                assert_eq!(counts, wanted);
                assert!(raw || out.ends_with(b"^C"));
            }
        }
    }

    #[test]
    fn a_comment_without_an_end_has_bytes_and_no_messages() {
        let (mut typing, mut out, mut counts) = (Typing::new(false), Vec::new(), Counts::default());
        let marker = MARKER.trim_end();
        for (text, next) in
            [(marker, Next::GoOn), ("#abc", Next::GoOn), ("#d", Next::GoOn), ("\u{3}\u{4}\u{4}", Next::Close)]
        {
            assert_eq!(take(&mut typing, text, 5, &mut out, &mut counts), next, "{text:?}");
        }
        let wanted = Counts { payload_bytes_received: 6, payload_bytes_sent: 6, ..Counts::default() };
        assert_eq!(counts, wanted);
    }

    #[test]
    fn what_is_no_json_or_no_key_of_a_load_is_refused() {
        for wrong in [&b"hello"[..], b"{\"data\":1}", b"{\"data\":\"\\u0013\"}"] {
            let (mut out, mut counts) = (Vec::new(), Counts::default());
            let next = Typing::new(false).take(wrong, [0; 4], &mut Desk::default(), &mut out, &mut counts);
            assert_eq!((next, out.is_empty()), (Next::Refuse, true), "{wrong:?}");
        }
    }
}
