//! A terminal without a kernel, so that there can be thousands: the line discipline of `scale-proto`
//! with the two commands that a load has.

use scale_proto::coder::{Command, RAW_COMMAND, Terminal as Discipline};

use super::{Size, Terminal};

/// The process, as far as its client can tell.
#[derive(Debug)]
pub struct Emulated {
    discipline: Discipline,
    ended: bool,
}

impl Emulated {
    /// `dd` to `/dev/null`, or a raw `cat`; `None`: another command, which wants a real shell.
    pub fn start(command: &str) -> Option<Self> {
        let discipline = if command == RAW_COMMAND {
            Discipline::raw_with_signals()
        } else if command.starts_with("dd ") && command.split(' ').any(|word| word == "of=/dev/null") {
            Discipline::new(Command::Discard)
        } else {
            return None;
        };
        Some(Self { discipline, ended: false })
    }
}

impl Terminal for Emulated {
    fn input(&mut self, mut bytes: &[u8], output: &mut Vec<u8>) {
        // A key that is not emulated ends the process, which no client can take for an echo.
        self.ended |= self.discipline.input(&mut bytes, output).is_err() || self.discipline.ended().is_some();
    }

    fn resize(&mut self, _: Size) {}

    fn backlog(&self) -> usize {
        0 // its commands always read
    }

    fn is_ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(command: &str, typed: &[u8]) -> Option<(Vec<u8>, bool)> {
        let (mut terminal, mut output) = (Emulated::start(command)?, Vec::new());
        terminal.input(typed, &mut output);
        Some((output, terminal.is_ended()))
    }

    #[test]
    fn the_commands_of_a_load_are_emulated_and_others_are_not() {
        let dd = scale_proto::coder::paced_command(128);
        assert_eq!(shown(&dd, b"abc\n"), Some((b"abc\r\n".to_vec(), false)));
        assert_eq!(shown(&dd, b"ab\x03"), Some((b"ab^C".to_vec(), true)));
        assert_eq!(shown(RAW_COMMAND, b"a\n\x03"), Some((b"a\n".to_vec(), true)));
        for command in ["", "sleep 2 && echo hello", "dd of=/tmp/x", "dd if=x; echo of=/dev/null2"] {
            assert_eq!(shown(command, b""), None, "{command}");
        }
    }
}
