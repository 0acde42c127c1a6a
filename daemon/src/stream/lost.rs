//! What a stream had under way when its connection was lost, and what became of it once the stream
//! is open again.
//!
//! A web terminal's session outlives its connections, and says again what it said last (its replay,
//! at most [`REPLAY_BYTES_MAX`]) to whoever attaches. Where the replay ends says how much of what was
//! typed had arrived; a replay without what came last on the former connection is another session's.
//! No byte that was sent is kept for that: a message's echo follows from its place and length.
//!
//! ```text
//!  echoes:   … last answered | oldest unanswered    | next           |
//!                      tail  ▲ came  ▲ typed, not answered
//!  replay:   …─────────────────────────────▶ ends here: what is typed behind it is lost
//! ```

use scale_proto::coder::{Alignment, Echo, Marker, REPLAY_BYTES_MAX, TAIL_BYTES_MAX};
use scale_ring::Time;

use crate::load::Payload;

use super::unanswered::Message;

/// Messages that are looked for in a replay; of what was typed behind them only the sum is kept.
const MESSAGES_MAX: usize = 128;
/// Fewer bytes than these say nothing: another session may have them, too.
const TELLING_BYTES: usize = 8;
/// Places at which the replay's end is looked for.
const PLACES_MAX: usize = 128 << 10;

/// A lost connection, kept until its stream is open again.
#[derive(Debug)]
pub struct Lost {
    /// When it was lost.
    pub at: Time,
    /// The server's version on it: see `Versions`.
    pub version: u8,
    /// Of a web terminal.
    typed: Option<Box<Typed>>,
}

/// What had been typed.
#[derive(Debug)]
struct Typed {
    /// What came last before the first of `messages`.
    before: Vec<u8>,
    /// Unanswered messages, oldest first.
    messages: Vec<Echoed>,
    /// Bytes of the first one's echo that came.
    came: u32,
    /// Typed bytes of messages beyond [`MESSAGES_MAX`].
    beyond: u64,
    /// Echoes were what had been typed: positions mean something.
    matches: bool,
}

/// A message's echo.
#[derive(Debug, Clone, Copy)]
struct Echoed {
    /// Where it begins, counted from the first message's.
    begin: u32,
    place: u32,
    bytes: u32,
}

/// What a web terminal's connection had seen when it was lost.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The line its echo began with.
    pub marker: Marker,
    /// How it echoes.
    pub echo: Echo,
    /// The last answered message: place and bytes of its echo; no bytes: none was.
    pub last: (u32, u32),
    /// Bytes of the oldest unanswered message's echo that came.
    pub came: u32,
    /// Echoes were what had been typed.
    pub matches: bool,
}

/// Whether a stream that is open again found its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// It went on.
    Same {
        /// Typed bytes that never arrived; `None`: the replay was cut, or does not say.
        bytes_lost: Option<u64>,
    },
    /// Another process is there: what was not answered is lost.
    New {
        /// Typed bytes that were not answered.
        bytes_lost: u64,
    },
    /// Echoes had been something else than what was typed before, so that nothing can be told.
    Unknown,
}

impl Lost {
    /// Of a stream whose server keeps no session.
    pub const fn plain(at: Time, version: u8) -> Self {
        Self { at, version, typed: None }
    }

    /// Of a web terminal with these messages unanswered.
    pub fn terminal<'a>(
        at: Time,
        version: u8,
        seen: &Seen,
        unanswered: impl Iterator<Item = &'a Message>,
        payload: &Payload,
    ) -> Self {
        let mut before = Vec::new();
        let (place, bytes) = seen.last;
        if bytes == 0 {
            seen.marker.write_echo(seen.echo, &mut before);
        }
        let from = bytes - bytes.min(TAIL_BYTES_MAX as u32);
        before.extend((from..bytes).filter_map(|at| payload.echo_at(place, bytes, at)));
        let mut typed =
            Typed { before, messages: Vec::new(), came: seen.came, beyond: 0, matches: seen.matches };
        let mut begin = 0u32;
        for message in unanswered.filter(|message| message.place != Message::FIRST) {
            if typed.messages.len() < MESSAGES_MAX {
                typed.messages.push(Echoed { begin, place: message.place, bytes: message.bytes });
                begin = begin.saturating_add(message.bytes);
            } else {
                typed.beyond += u64::from(payload.message_of(message.bytes));
            }
        }
        Self { at, version, typed: Some(Box::new(typed)) }
    }

    /// What came last on the connection, to be looked for in the replay; empty where it says nothing.
    pub fn tail(&self, payload: &Payload) -> Vec<u8> {
        let Some(typed) = self.typed.as_ref().filter(|typed| typed.matches) else { return Vec::new() };
        let mut tail = typed.before.clone();
        if let Some(&Echoed { place, bytes, .. }) = typed.messages.first() {
            let from = typed.came - typed.came.min(TAIL_BYTES_MAX as u32);
            tail.extend((from..typed.came).filter_map(|at| payload.echo_at(place, bytes, at)));
        }
        tail.drain(..tail.len().saturating_sub(TAIL_BYTES_MAX));
        if tail.len() < TELLING_BYTES { Vec::new() } else { tail }
    }

    /// What the preamble of the next connection says; `None`: there are no sessions.
    pub fn judge(&self, preamble: &Alignment, payload: &Payload) -> Option<Session> {
        let typed = self.typed.as_ref()?;
        if !typed.matches {
            return Some(Session::Unknown);
        }
        if preamble.preamble_bytes() < Marker::BYTES - 1 {
            // The same session would have said the former marker again, at least.
            return Some(Session::New { bytes_lost: typed.lost_behind(typed.came, payload) });
        }
        let ending = preamble.ending();
        let tail = self.tail(payload);
        let last_tail = preamble.replayed().map(|bytes| (bytes, &tail[..]));
        let whole = preamble.preamble_bytes() < REPLAY_BYTES_MAX;
        let most = if whole { typed.came.saturating_add(preamble.preamble_bytes()) } else { u32::MAX };
        // Without the tail, what is known must reach to the end: the same text may stand further back.
        let told = last_tail.is_some() || typed.beyond == 0;
        let ends = told.then(|| typed.find_end(&ending, last_tail, most, payload)).flatten();
        if let Some(at) = ends {
            return Some(Session::Same { bytes_lost: Some(typed.lost_behind(at, payload)) });
        }
        if last_tail.is_some() || !whole {
            return Some(Session::Same { bytes_lost: None });
        }
        if tail.is_empty() {
            return Some(Session::Unknown);
        }
        Some(Session::New { bytes_lost: typed.lost_behind(typed.came, payload) })
    }
}

impl Echoed {
    fn has(self, position: u32, part: &[u8], payload: &Payload) -> bool {
        payload.echoes((self.place, self.bytes, [0; 4]), position as usize, part)
    }
}

impl Typed {
    /// Whether the echoes up to `at` end with `ending`, as far as they are known, and that is far
    /// enough to say something.
    fn has_before(&self, at: u32, ending: &[u8], payload: &Payload) -> bool {
        let (mut left, mut to) = (ending, at);
        for echoed in self.messages.iter().rev().filter(|echoed| echoed.begin < at) {
            let length = to - echoed.begin;
            if length > echoed.bytes {
                return false; // behind the last message that is known
            }
            let (before, part) = left.split_at(left.len() - left.len().min(length as usize));
            if !echoed.has(length - part.len() as u32, part, payload) {
                return false;
            }
            (left, to) = (before, echoed.begin);
        }
        let unknown = left.len().saturating_sub(self.before.len());
        to == 0 && self.before.ends_with(&left[unknown..]) && ending.len() - unknown >= TELLING_BYTES
    }

    /// Where the replay ends among the echoes: at `ending`, with the tail as far before it as it came
    /// last, and not behind `most`. Of several such places the last is taken, so that what is said to
    /// be lost is never too much.
    fn find_end(
        &self,
        ending: &[u8],
        last_tail: Option<(u32, &[u8])>,
        most: u32,
        payload: &Payload,
    ) -> Option<u32> {
        let last = &ending[ending.len().checked_sub(1)?..];
        let is_end = |at: u32| {
            self.has_before(at, ending, payload)
                && last_tail.is_none_or(|(bytes, tail)| {
                    let from = at.checked_sub(bytes).filter(|&from| from >= self.came);
                    from.is_some_and(|from| self.has_before(from, tail, payload))
                })
        };
        let places = self.messages.iter().rev().flat_map(|&echoed| {
            let from = self.came.saturating_sub(echoed.begin).max(1);
            let to = echoed.bytes.min(most.saturating_sub(echoed.begin));
            (from..=to).rev().map(move |length| (echoed, length))
        });
        places
            .take(PLACES_MAX)
            .filter(|(echoed, length)| echoed.has(length - 1, last, payload))
            .map(|(echoed, length)| echoed.begin + length)
            .find(|&at| is_end(at))
            .or_else(|| is_end(self.came).then_some(self.came))
    }

    /// Typed bytes whose echo is not before `at`.
    fn lost_behind(&self, at: u32, payload: &Payload) -> u64 {
        let lost = self.messages.iter().map(|echoed| {
            let typed = payload.message_of(echoed.bytes);
            u64::from(typed - at.saturating_sub(echoed.begin).min(typed))
        });
        lost.sum::<u64>() + self.beyond
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scale_proto::coder::{Form, Route, State};

    use super::*;
    use crate::load::Random;

    const OLD: u64 = 0x0123_4567_89ab_cdef;
    const NEW: u64 = 0xfedc_ba98_7654_3210;

    /// A session on which messages were typed, some of which were answered.
    struct Case {
        payload: Payload,
        echo: Echo,
        /// Place and typed bytes.
        messages: Vec<(u32, u32)>,
        answered: usize,
        /// Bytes of the next one's echo that came, too.
        came: u32,
    }

    impl Case {
        fn new(seed: u64, echo: Echo, form: Form, bytes: &[u32], answered: usize) -> Self {
            let payload = Payload::typed(seed, form, Route::Terminal, echo);
            let mut random = Random::new(seed);
            let messages: Vec<_> = bytes.iter().map(|&bytes| (payload.place(&mut random), bytes)).collect();
            let answered = answered.min(messages.len());
            let next = messages.get(answered).map_or(1, |&(_, bytes)| payload.echo_bytes(bytes));
            let came = random.below(next.into()) as u32;
            Self { payload, echo, messages, answered, came }
        }

        fn echo_of(&self, (place, bytes): (u32, u32)) -> Vec<u8> {
            let length = self.payload.echo_bytes(bytes);
            (0..length).map(|at| self.payload.echo_at(place, length, at).expect("within it")).collect()
        }

        fn lost(&self) -> Lost {
            let echoed = |&(place, bytes): &(u32, u32)| (place, self.payload.echo_bytes(bytes));
            let seen = Seen {
                marker: Marker::from_random(OLD),
                echo: self.echo,
                last: self.messages[..self.answered].last().map(echoed).unwrap_or_default(),
                came: self.came,
                matches: true,
            };
            let message =
                |(place, bytes)| Message { due: Time::ZERO, sent: Time::ZERO, bytes, place, mask: [0; 4] };
            let unanswered: Vec<_> = self.messages[self.answered..].iter().map(echoed).map(message).collect();
            Lost::terminal(Time::ZERO, 0, &seen, unanswered.iter(), &self.payload)
        }

        /// What the session has said once `arrived` typed bytes of what is unanswered have come.
        fn said(&self, arrived: u64) -> Vec<u8> {
            let mut said = Vec::new();
            Marker::from_random(OLD).write_echo(self.echo, &mut said);
            let mut left = arrived;
            for (n, &message) in self.messages.iter().enumerate() {
                let echo = self.echo_of(message);
                let here = if n < self.answered { u64::MAX } else { left };
                // Behind the last symbol come the line's end and its CR.
                let whole = here >= u64::from(message.1);
                said.extend_from_slice(&echo[..if whole { echo.len() } else { here as usize }]);
                left -= if n < self.answered { 0 } else { left.min(message.1.into()) };
            }
            said
        }

        /// Typed bytes of what is unanswered; of them, those whose echo came.
        fn unanswered(&self) -> (u64, u64) {
            let rest = &self.messages[self.answered..];
            let all = rest.iter().map(|&(_, bytes)| u64::from(bytes)).sum();
            (all, rest.first().map_or(0, |&(_, bytes)| self.came.min(bytes).into()))
        }

        fn judge(&self, said: &[u8]) -> Session {
            let lost = self.lost();
            let marker = Marker::from_random(NEW);
            let replay = &said[said.len().saturating_sub(REPLAY_BYTES_MAX as usize)..];
            let mut input = replay.to_vec();
            marker.write_echo(self.echo, &mut input);
            let mut alignment = Alignment::again(&marker, self.echo, &lost.tail(&self.payload));
            assert_eq!(alignment.receive(&mut &input[..]), State::Aligned);
            lost.judge(&alignment, &self.payload).expect("a terminal has a session")
        }
    }

    fn echo() -> impl Strategy<Value = Echo> {
        prop::sample::select(vec![Echo::Raw, Echo::Cooked])
    }

    fn form() -> impl Strategy<Value = Form> {
        prop::sample::select(vec![Form::Line, Form::Comment])
    }

    proptest! {
        #[test]
        fn a_session_that_went_on_is_known_and_no_more_is_said_to_be_lost_than_was(
            seed: u64, echo in echo(), form in form(), answered in 0usize..8, part in 0u64..=1000,
            bytes in prop::collection::vec(prop_oneof![8u32..100, 1000u32..5000, Just(4096u32), Just(30_000u32)], 0..8),
        ) {
            let case = Case::new(seed, echo, form, &bytes, answered);
            let (all, came) = case.unanswered();
            let arrived = came + (all - came) * part / 1000;
            let Session::Same { bytes_lost } = case.judge(&case.said(arrived)) else { panic!("it went on") };
            prop_assert!(bytes_lost.unwrap_or(0) <= all - arrived, "{bytes_lost:?} of {}", all - arrived);
        }

        #[test]
        fn another_process_is_known_whatever_it_says_first(
            seed: u64, echo in echo(), form in form(), answered in 0usize..4, greeting in "[ -~]{0,300}",
            bytes in prop::collection::vec(30u32..5000, 0..4),
        ) {
            let case = Case::new(seed, echo, form, &bytes, answered);
            let (all, came) = case.unanswered();
            prop_assert_eq!(case.judge(greeting.as_bytes()), Session::New { bytes_lost: all - came });
        }
    }

    #[test]
    fn how_much_was_lost_is_exact_but_where_the_same_text_was_typed_twice() {
        let (cases, mut exact) = (300, 0);
        for seed in 0..cases {
            let case = Case::new(seed, Echo::Cooked, Form::Line, &[4096; 6], 3);
            let (all, came) = case.unanswered();
            let arrived = came + Random::new(seed).below(all - came + 1);
            exact += u64::from(
                case.judge(&case.said(arrived)) == Session::Same { bytes_lost: Some(all - arrived) },
            );
        }
        assert!(exact * 100 >= cases * 90, "{exact} of {cases}");
    }

    #[test]
    fn a_replay_that_was_cut_says_that_the_session_went_on_and_not_how_much_was_lost() {
        let case = Case::new(1, Echo::Cooked, Form::Line, &[1000; 300], 1);
        let (all, _) = case.unanswered();
        assert_eq!(case.judge(&case.said(all)), Session::Same { bytes_lost: None });
        // Where all that was typed is known, so is the place where the replay ends.
        let case = Case::new(1, Echo::Cooked, Form::Line, &[1000; 120], 1);
        let (all, _) = case.unanswered();
        assert_eq!(case.judge(&case.said(110_000)), Session::Same { bytes_lost: Some(all - 110_000) });
    }

    #[test]
    fn messages_too_short_to_tell_say_nothing() {
        let case = Case::new(1, Echo::Cooked, Form::Line, &[1, 1, 1, 1], 2);
        assert_eq!(case.judge(b"some greeting of a shell\r\n"), Session::Unknown);
        assert_eq!(case.judge(b""), Session::New { bytes_lost: 2 - u64::from(case.came > 0) });
    }
}
