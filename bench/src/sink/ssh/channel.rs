//! One channel: what it does with what comes, and what waits in it.

use std::collections::VecDeque;

use scale_proto::coder::{Command, Ending, INTERRUPT_ECHO, Terminal};
use scale_proto::ssh::{Exit, Program, Purpose};

use crate::sink::terminal::END_KEYS;
use crate::sink::{Counts, Traffic};

/// What a channel does with what comes.
pub(super) enum Manner {
    Echo,
    Discard,
    /// It sends at the tick; what comes is counted.
    Send,
    /// A terminal in cooked mode prints.
    Print(Box<Terminal>),
}

pub(super) struct Channel {
    pub manner: Manner,
    /// What waits to be sealed.
    pub queue: VecDeque<u8>,
    /// Bytes that wait for their time (`--delay`).
    pub delayed_bytes: usize,
    /// How its program has ended: said behind everything else.
    pub exit: Option<Exit>,
    /// Its window does not grow.
    pub held: bool,
    /// What its terminal prints was counted then.
    pub counted: bool,
    /// It is among those in which something waits.
    pub listed: bool,
}

impl Channel {
    /// A channel, and how its program ends where it does so at once.
    pub fn new(purpose: &Purpose, traffic: Traffic) -> (Self, Option<Exit>) {
        let (manner, exit) = manner(purpose, traffic);
        let queue = VecDeque::new();
        let counted = matches!(manner, Manner::Print(_));
        (Self { manner, queue, delayed_bytes: 0, exit: None, held: false, counted, listed: false }, exit)
    }

    /// Bytes that were taken and have not gone.
    pub fn kept_bytes(&self) -> usize {
        self.queue.len() + self.delayed_bytes
    }

    /// The first `count` bytes of the queue have gone.
    pub fn went(&mut self, count: usize) {
        self.queue.drain(..count);
        if self.queue.is_empty() {
            self.queue = VecDeque::new(); // an idle channel keeps nothing
        }
    }

    /// Copies the queue from its byte `from` on.
    pub fn copy(&self, from: usize, to: &mut [u8]) {
        let (front, back) = self.queue.as_slices();
        let of_front = front.len().saturating_sub(from).min(to.len());
        let (first, second) = to.split_at_mut(of_front);
        first.copy_from_slice(&front[front.len().min(from)..][..of_front]);
        let from = from.saturating_sub(front.len());
        second.copy_from_slice(&back[from..][..second.len()]);
    }

    /// What was typed goes to the terminal, which prints; how the program ends, if it does by that.
    pub fn type_in(&mut self, typed: &[u8], printed: &mut Vec<u8>, counts: &mut Counts) -> Option<Exit> {
        let Manner::Print(terminal) = &mut self.manner else { return None };
        printed.clear();
        let refused = terminal.input(&mut &*typed, printed).is_err();
        self.queue.extend(&*printed);
        // A key that ends the program is no payload, nor is its echo.
        let shown = match terminal.ended() {
            Some(Ending::Interrupt | Ending::Quit) => INTERRUPT_ECHO.len(),
            Some(Ending::EndOfInput) | None => 0,
        };
        let keys = typed.iter().filter(|key| END_KEYS.contains(key)).count();
        counts.payload_bytes_received += (typed.len() - keys) as u64;
        counts.payload_bytes_sent += printed.len().saturating_sub(shown) as u64;
        let exit = match terminal.ended() {
            Some(Ending::EndOfInput) => Exit::Status(0),
            Some(Ending::Interrupt) => Exit::Signal("INT".to_owned()),
            Some(Ending::Quit) => Exit::Signal("QUIT".to_owned()),
            None if refused => Exit::Status(1),
            None => return None,
        };
        self.manner = Manner::Discard;
        Some(exit)
    }
}

/// A program decides nothing but what is written here, whatever the shell would make of it:
/// `exit N` ends so, and `of=/dev/null` discards. All others do what `--traffic` says. On a terminal its
/// cooked mode echoes; programs other than the two, but no shell, give back each line behind that.
fn manner(purpose: &Purpose, traffic: Traffic) -> (Manner, Option<Exit>) {
    let by_traffic = || match traffic {
        Traffic::Echo | Traffic::Terminal { .. } => Manner::Echo,
        Traffic::Discard => Manner::Discard,
        Traffic::Receive { .. } => Manner::Send,
    };
    let Purpose::Session { pty, program, .. } = purpose else { return (by_traffic(), None) };
    let (status, discards) = match program {
        Program::Shell => (None, false),
        Program::Exec(command) => {
            let status = command.trim().strip_prefix("exit ").and_then(|status| status.trim().parse().ok());
            (status, command.contains("of=/dev/null"))
        }
    };
    if let Some(status) = status {
        return (Manner::Discard, Some(Exit::Status(status)));
    }
    let manner = by_traffic();
    if pty.is_some() && !matches!(manner, Manner::Send) {
        let copies = !discards && matches!((program, &manner), (Program::Exec(_), Manner::Echo));
        let command = if copies { Command::Copy } else { Command::Discard };
        return (Manner::Print(Box::new(Terminal::new(command))), None);
    }
    (if discards { Manner::Discard } else { manner }, None)
}

#[cfg(test)]
mod tests {
    use scale_proto::ssh::Pty;

    use super::*;

    fn session(program: Program, pty: bool) -> Purpose {
        let pty = pty.then(|| Pty { term: "xterm".to_owned(), columns: 80, rows: 25 });
        Purpose::Session { environment: Vec::new(), pty, program }
    }

    fn exec(command: &str, pty: bool) -> Purpose {
        session(Program::Exec(command.to_owned()), pty)
    }

    /// What a channel with `purpose` gives back of `typed`, and how it ends.
    fn printed(purpose: &Purpose, typed: &str) -> (String, Option<Exit>) {
        let (mut channel, none) = Channel::new(purpose, Traffic::Echo);
        assert!(none.is_none() && matches!(channel.manner, Manner::Print(_)), "it has a terminal");
        let exit = channel.type_in(typed.as_bytes(), &mut Vec::new(), &mut Counts::default());
        (String::from_utf8(channel.queue.into()).expect("ASCII"), exit)
    }

    #[test]
    fn a_program_is_what_its_line_says() {
        let echo = Traffic::Echo;
        let receive = Traffic::Receive { bytes: 1, tick_ns: 1 };
        let dd = "dd if=/dev/stdin of=/dev/null bs=4096 status=none";
        assert!(matches!(manner(&exec("cat", false), echo), (Manner::Echo, None)));
        assert!(matches!(manner(&exec("cat", false), Traffic::Discard), (Manner::Discard, None)));
        assert!(matches!(manner(&exec("cat", false), receive), (Manner::Send, None)));
        assert!(matches!(manner(&exec("cat", true), receive), (Manner::Send, None)));
        assert!(matches!(manner(&exec(dd, false), echo), (Manner::Discard, None)));
        assert!(matches!(manner(&exec(dd, false), receive), (Manner::Discard, None)));
        assert!(matches!(manner(&exec(" exit 3 ", true), echo), (Manner::Discard, Some(Exit::Status(3)))));
        assert!(matches!(manner(&exec("exit x", false), echo), (Manner::Echo, None)));
        let forward = Purpose::Forward { host: "10.0.0.1".to_owned(), port: 80 };
        assert!(matches!(manner(&forward, echo), (Manner::Echo, None)));
    }

    #[test]
    fn a_terminal_echoes_in_cooked_mode_and_ends_by_its_keys() {
        assert_eq!(printed(&session(Program::Shell, true), "ab\n"), ("ab\r\n".to_owned(), None));
        assert_eq!(printed(&exec("cat", true), "ab\n"), ("ab\r\nab\r\n".to_owned(), None));
        let discards = exec("dd of=/dev/null", true);
        assert_eq!(printed(&discards, "ab\n\x04c"), ("ab\r\n".to_owned(), Some(Exit::Status(0))));
        assert_eq!(printed(&discards, "a\x03"), ("a^C".to_owned(), Some(Exit::Signal("INT".to_owned()))));
        assert_eq!(printed(&discards, "a\x13b"), ("a".to_owned(), Some(Exit::Status(1))));
    }

    #[test]
    fn the_queue_is_copied_from_anywhere() {
        let (mut channel, _) = Channel::new(&session(Program::Shell, false), Traffic::Echo);
        channel.queue = VecDeque::with_capacity(16);
        let all: Vec<u8> = (0..12).collect();
        for turned in 0..20 {
            channel.queue.extend(&all); // each round it begins elsewhere in its ring
            for from in 0..=12 {
                let mut to = vec![0; 12 - from];
                channel.copy(from, &mut to);
                assert_eq!(to, all[from..], "from {from} in round {turned}");
            }
            channel.queue.drain(..11);
            channel.queue.push_back(0);
            channel.queue.drain(..2);
        }
    }
}
