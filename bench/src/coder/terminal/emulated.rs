//! A terminal without a kernel, so that there can be thousands: the line discipline of `scale-proto`
//! with the two commands that a load has, or a script without a shell.

use scale_proto::coder::{Command, RAW_COMMAND, Terminal as Discipline};
use scale_ring::Time;

use super::script::Script;
use super::{Size, Terminal};

/// The process, as far as its client can tell.
#[derive(Debug)]
pub struct Emulated {
    discipline: Discipline,
    script: Option<Script>,
    /// When the script goes on.
    wakes: Time,
    /// Typed, and no room for it: the script reads nothing, and a terminal keeps only so much.
    waiting: Vec<u8>,
    ended: bool,
}

impl Emulated {
    /// `dd` to `/dev/null`, a raw `cat`, or a [`Script`], which begins at `now`; `None`: another command, which
    /// wants a real shell.
    pub fn start(command: &str, now: Time) -> Option<Self> {
        let script = Script::parse(command);
        let discipline = if command == RAW_COMMAND {
            Discipline::raw_with_signals()
        } else if command.starts_with("dd ") && command.split(' ').any(|word| word == "of=/dev/null") {
            Discipline::new(Command::Discard)
        } else if script.is_some() {
            Discipline::new(Command::Sleep)
        } else {
            return None;
        };
        let wakes = if script.is_some() { now } else { Time::NEVER };
        Some(Self { discipline, script, wakes, waiting: Vec::new(), ended: false })
    }
}

impl Terminal for Emulated {
    fn input(&mut self, mut bytes: &[u8], output: &mut Vec<u8>) {
        if self.waiting.is_empty() {
            // A key that is not emulated ends the process, which no client can take for an echo.
            self.ended |=
                self.discipline.input(&mut bytes, output).is_err() || self.discipline.ended().is_some();
        }
        self.waiting.extend_from_slice(bytes);
    }

    fn next_event(&self) -> Time {
        self.wakes
    }

    fn handle_time(&mut self, now: Time, output: &mut Vec<u8>) {
        let mut printed = Vec::new();
        while let Some(script) = &mut self.script
            && self.wakes <= now
        {
            // As a shell does, which sleeps from when it gets to it.
            match script.run(&mut printed) {
                Some(ns) => self.wakes = now.plus_ns(ns),
                None => (self.script, self.wakes, self.ended) = (None, Time::NEVER, true),
            }
        }
        for line in printed.split_inclusive(|&byte| byte == b'\n') {
            let text = line.strip_suffix(b"\n");
            output.extend_from_slice(text.unwrap_or(line));
            output.extend_from_slice(if text.is_some() { b"\r\n" } else { b"" });
        }
    }

    fn resize(&mut self, _: Size) {}

    fn backlog(&self) -> usize {
        self.waiting.len()
    }

    fn is_ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Time = Time::from_ns(7);

    fn shown(command: &str, typed: &[u8]) -> Option<(Vec<u8>, bool)> {
        let (mut terminal, mut output) = (Emulated::start(command, BEGIN)?, Vec::new());
        terminal.input(typed, &mut output);
        Some((output, terminal.is_ended()))
    }

    #[test]
    fn the_commands_of_a_load_are_emulated_and_others_are_not() {
        let dd = scale_proto::coder::paced_command(128);
        assert_eq!(shown(&dd, b"abc\n"), Some((b"abc\r\n".to_vec(), false)));
        assert_eq!(shown(&dd, b"ab\x03"), Some((b"ab^C".to_vec(), true)));
        assert_eq!(shown(RAW_COMMAND, b"a\n\x03"), Some((b"a\n".to_vec(), true)));
        for command in ["", "sleep 2 && read x", "dd of=/tmp/x", "dd if=x; echo of=/dev/null2"] {
            assert_eq!(shown(command, b""), None, "{command}");
        }
    }

    #[test]
    fn a_script_goes_on_by_time_and_is_deaf_to_all_but_the_terminals_own_keys() {
        let mut terminal =
            Emulated::start("sleep 2 && echo hello; sleep 0; echo end", BEGIN).expect("a script");
        let mut output = Vec::new();
        assert_eq!(terminal.next_event(), BEGIN);
        terminal.handle_time(BEGIN, &mut output);
        terminal.input(b"\x12ab\x12\n", &mut output);
        assert_eq!(std::mem::take(&mut output), b"^R\r\nab^R\r\nab\r\n");
        let wakes = BEGIN.plus_ns(2_000_000_000);
        terminal.handle_time(wakes.minus_ns(1), &mut output);
        assert!(terminal.next_event() == wakes && output.is_empty() && !terminal.is_ended());
        terminal.handle_time(wakes, &mut output);
        assert_eq!((output, terminal.is_ended()), (b"hello\r\nend\r\n".to_vec(), true));
        assert_eq!(terminal.next_event(), Time::NEVER);
        assert_eq!(shown("sleep 2 && echo hello", b"a\x03"), Some((b"a^C".to_vec(), true)));
    }

    #[test]
    fn what_a_script_does_not_read_waits_and_holds_the_client_back() {
        let mut terminal = Emulated::start("sleep 1", BEGIN).expect("a script");
        let (mut output, line) = (Vec::new(), [[b'x'; 99].as_slice(), b"\n"].concat());
        (0..50).for_each(|_| terminal.input(&line, &mut output));
        let kept = scale_proto::coder::LINE_BYTES_MAX;
        assert_eq!((output.len(), terminal.backlog()), (kept + kept / 100, 5000 - kept));
    }
}
