//! The sink as a server of web terminals: what is typed is decoded, and an emulated terminal echoes
//! it. Nothing is allocated a message; a terminal keeps its decoder's last text.
//!
//! With [`Traffic::Terminal`]'s `keeps`, sessions outlive their connections, found by the `reconnect`
//! id of the request, as on an agent behind several servers: [`Sessions`] is what these share. Who
//! attaches is sent first what the session said last, and takes it from whoever had it, so that what
//! was typed is in an order that can be told.
//!
//! Counted is what belongs to messages: what is typed first, which is a marker, and the keys that end
//! the command are left out, and what they print. A message is a line, so a load whose form has no
//! line's end has bytes and no messages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scale_proto::coder::{
    Command, Decoder, INTERRUPT_ECHO, Malformed, REPLAY_BYTES_MAX, Terminal, TerminalRequest, Uuid,
};
use scale_proto::ws;

use super::take::frame;
use super::{Counts, Traffic};

/// Ctrl-C and Ctrl-D.
pub(super) const END_KEYS: [u8; 2] = [0x03, 0x04];

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

/// All sessions.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    sessions: BTreeMap<Uuid, Session>,
    /// Connections that have attached so far.
    attached: u64,
}

#[derive(Debug)]
struct Session {
    terminal: Terminal,
    /// What it said last.
    said: VecDeque<u8>,
    /// The number of the connection that may type.
    client: u64,
}

impl Sessions {
    /// Beyond as many, the one that was attached to longest ago ends.
    pub const MAX: usize = 1024;

    /// Makes a connection the client of the session `key`, whose terminal is `new` where there is none;
    /// its number. What was said last is appended to `out`.
    fn attach(&self, key: Uuid, new: Terminal, out: &mut Vec<u8>) -> u64 {
        let mut table = self.table();
        table.attached += 1;
        let client = table.attached;
        let session = table.sessions.entry(key).or_insert_with(|| Session {
            terminal: new,
            said: VecDeque::new(),
            client,
        });
        session.client = client;
        if !session.said.is_empty() {
            frame(out, ws::Opcode::Binary, session.said.make_contiguous(), [0; 4]);
        }
        if table.sessions.len() > Self::MAX {
            let oldest = table.sessions.iter().min_by_key(|(_, session)| session.client);
            let oldest = *oldest.expect("there are more than none").0;
            table.sessions.remove(&oldest);
        }
        client
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn say(&mut self, bytes: &[u8]) {
        self.said.extend(bytes);
        let over = self.said.len().saturating_sub(REPLAY_BYTES_MAX as usize);
        self.said.drain(..over);
    }
}

/// Where a connection's terminal is.
enum Place {
    /// It ends with the connection.
    Own(Terminal),
    /// Among the sessions, for as long as this connection is its client.
    Kept { sessions: Sessions, key: Uuid, client: u64 },
}

/// One connection's terminal.
pub(super) struct Typing {
    decoder: Decoder,
    place: Place,
    raw: bool,
    /// The marker has been typed.
    marked: bool,
}

impl Typing {
    /// Attaches to the terminal that a request for `path` is for, and appends its replay to `out`. A new
    /// one echoes as the kernel does, or gives back what is typed. `None`: sessions are kept, and it asks
    /// for none.
    pub fn attach(path: &str, traffic: Traffic, sessions: &Sessions, out: &mut Vec<u8>) -> Option<Self> {
        let Traffic::Terminal { raw, keeps } = traffic else { return None };
        let terminal = if raw { Terminal::raw_with_signals() } else { Terminal::new(Command::Discard) };
        let place = if keeps {
            let key = TerminalRequest::parse(path).ok()?.reconnect;
            let client = sessions.attach(key, terminal, out);
            Place::Kept { sessions: sessions.clone(), key, client }
        } else {
            Place::Own(terminal)
        };
        Some(Self { decoder: Decoder::new(), place, raw, marked: false })
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
        let Self { decoder, place, raw, marked } = self;
        let mut typist = Typist { decoder, raw: *raw, marked };
        let (right, ended) = match place {
            Place::Own(terminal) => {
                (typist.type_all(json, terminal, printed, counts), terminal.ended().is_some())
            }
            Place::Kept { sessions, key, client } => {
                let mut table = sessions.table();
                let mine = table.sessions.get_mut(key).filter(|session| session.client == *client);
                let Some(session) = mine else { return Next::GoOn }; // another connection has it
                let right = typist.type_all(json, &mut session.terminal, printed, counts);
                session.say(printed);
                let ended = session.terminal.ended().is_some();
                if ended {
                    table.sessions.remove(key);
                }
                (right, ended)
            }
        };
        if right.is_err() {
            return Next::Refuse;
        }
        if !printed.is_empty() {
            frame(out, ws::Opcode::Binary, printed, [0; 4]);
        }
        if ended { Next::Close } else { Next::GoOn }
    }
}

/// Who types, whatever the terminal.
struct Typist<'a> {
    decoder: &'a mut Decoder,
    raw: bool,
    marked: &'a mut bool,
}

impl Typist<'_> {
    /// Types what `json` says; a key that no load has is as wrong as what is no JSON.
    fn type_all(
        &mut self,
        mut json: &[u8],
        terminal: &mut Terminal,
        printed: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Result<(), Malformed> {
        while let Some(said) = self.decoder.receive(&mut json)? {
            let typed = said.typed.as_bytes();
            let before = printed.len();
            let input = &mut &typed[..];
            terminal.input(input, printed).map_err(|refused| Malformed::Syntax(refused.0))?;
            if !std::mem::replace(self.marked, true) {
                continue;
            }
            let keys: u64 = END_KEYS.iter().map(|&key| count(typed, key)).sum();
            counts.payload_bytes_received += typed.len() as u64 - keys;
            // A cooked terminal shows the key that ended its command, and nothing behind it.
            let shown = if !self.raw && terminal.ended().is_some() { INTERRUPT_ECHO.len() } else { 0 };
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

    /// A terminal that ends with its connection.
    fn own(raw: bool) -> Typing {
        let traffic = Traffic::Terminal { raw, keeps: false };
        Typing::attach("/", traffic, &Sessions::default(), &mut Vec::new()).expect("any path does")
    }
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
                let (mut typing, mut out, mut counts) = (own(raw), Vec::new(), Counts::default());
                assert_eq!(take(&mut typing, MARKER, cut, &mut out, &mut counts), Next::GoOn);
                assert_eq!((counts, out.is_empty()), (Counts::default(), false), "raw {raw}, cut at {cut}");
                assert_eq!(take(&mut typing, "a<b>\t\n", cut, &mut out, &mut counts), Next::GoOn);
                let wanted = Counts {
                    connections: 0,
                    messages_received: 1,
                    messages_sent: 1,
                    payload_bytes_received: 6,
                    payload_bytes_sent: if raw { 6 } else { 7 },
                    ..Counts::default()
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
        let (mut typing, mut out, mut counts) = (own(false), Vec::new(), Counts::default());
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
            let next = own(false).take(wrong, [0; 4], &mut Desk::default(), &mut out, &mut counts);
            assert_eq!((next, out.is_empty()), (Next::Refuse, true), "{wrong:?}");
        }
    }

    fn kept(sessions: &Sessions, n: u8) -> (Typing, Vec<u8>) {
        let (id, traffic) = (Uuid::from_random([n; 16]), Traffic::Terminal { raw: true, keeps: true });
        let (path, mut out) = (TerminalRequest::new(id, id, "dd").path(), Vec::new());
        (Typing::attach(&path, traffic, sessions, &mut out).expect("a terminal"), out)
    }

    fn say(typing: &mut Typing, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        take(typing, text, 3, &mut out, &mut Counts::default());
        out
    }

    #[test]
    fn who_comes_back_is_told_what_was_said_and_who_is_gone_types_no_more() {
        let sessions = Sessions::default();
        let (mut first, replay) = kept(&sessions, 1);
        assert_eq!((replay.len(), say(&mut first, "abc")), (0, b"\x82\x03abc".to_vec()));
        let (mut second, replay) = kept(&sessions, 1);
        assert_eq!((replay, say(&mut first, "late")), (b"\x82\x03abc".to_vec(), Vec::new()));
        assert_eq!(say(&mut second, "de"), b"\x82\x02de");
        assert_eq!(kept(&sessions, 1).1, b"\x82\x05abcde");
        assert_eq!(kept(&sessions, 2).1, b"", "another id is another session");
        let traffic = Traffic::Terminal { raw: true, keeps: true };
        assert!(Typing::attach("/", traffic, &sessions, &mut Vec::new()).is_none());
    }
}
