//! The sink as a server of web terminals, for the simulation: what the worker types is decoded, and
//! an emulated terminal echoes it.
//!
//! Counted is what belongs to messages: the marker's line, Ctrl-C and what they print are left out.

use scale_proto::coder::{Command, Decoder, INTERRUPT_ECHO, Marker, Terminal};
use scale_proto::ws;

use super::{Counts, frame};

/// Ctrl-C and Ctrl-D: what is typed at the end.
const GOODBYE: [u8; 2] = [0x03, 0x04];

/// One connection's terminal.
pub(super) struct Typing {
    decoder: Decoder,
    terminal: Terminal,
    raw: bool,
    json: Vec<u8>,
    /// Bytes of the marker's line, and of its echo, that have still to come.
    marker_typed: u64,
    marker_echo: u64,
}

impl Typing {
    /// Which echoes as the kernel does, or gives back what is typed; `comment`: no marker ends in LF.
    pub fn new(raw: bool, comment: bool) -> Self {
        let (terminal, line_end) =
            if raw { (Terminal::raw_with_signals(), 1) } else { (Terminal::new(Command::Discard), 2) };
        let text = u64::from(Marker::BYTES) - 1;
        let (typed, echo) = if comment { (text, text) } else { (text + 1, text + line_end) };
        Self {
            decoder: Decoder::new(),
            terminal,
            raw,
            json: Vec::new(),
            marker_typed: typed,
            marker_echo: echo,
        }
    }

    /// A part of a message, masked; what the terminal prints is appended to `out` as a frame. False
    /// once its command has ended: the server closes.
    pub fn take(&mut self, bytes: &[u8], mask: [u8; 4], out: &mut Vec<u8>, counts: &mut Counts) -> bool {
        self.json.resize(bytes.len(), 0);
        ws::mask_into(&mut self.json, bytes, mask);
        let (mut json, mut printed) = (&self.json[..], Vec::new());
        while let Some(said) = self.decoder.receive(&mut json).expect("our client's JSON is right") {
            let typed = said.typed.as_bytes();
            let load = typed.iter().filter(|&&byte| !GOODBYE.contains(&byte)).count() as u64;
            let marker = load.min(self.marker_typed);
            self.marker_typed -= marker;
            counts.payload_bytes_received += load - marker;
            let lines = typed.iter().filter(|&&byte| byte == b'\n').count() as u64;
            counts.messages_received += lines.saturating_sub(u64::from(marker > 0 && self.marker_typed == 0));
            self.terminal.input(&mut &typed[..], &mut printed).expect("a load has no such keys");
        }
        if !printed.is_empty() {
            // Behind a cooked terminal's Ctrl-C comes nothing else.
            let interrupted = !self.raw && self.terminal.ended().is_some();
            let load = (printed.len() - if interrupted { INTERRUPT_ECHO.len() } else { 0 }) as u64;
            let marker = load.min(self.marker_echo);
            self.marker_echo -= marker;
            counts.payload_bytes_sent += load - marker;
            frame(out, ws::Opcode::Binary, &printed, [0; 4]);
        }
        self.terminal.ended().is_none()
    }
}
