//! One stream: what it sent, what came back, and how it has fared. It outlives its connections.

use std::num::NonZeroU32;

use scale_proto::coder::{Echo as Echoing, Marker};
use scale_ring::Time;

use crate::load::{Client, Payload, Random};

use super::class::Class;
use super::lost::{Lost, Seen};
use super::unanswered::{Message, Pool, Unanswered};
use super::versions::Versions;

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Standing {
    /// Its turn in the ramp has not come.
    #[default]
    Planned,
    /// Its connection is being made.
    Connecting,
    /// It carries load.
    Open,
    /// Its connection was lost; another is to come.
    Waiting,
    /// Its connection is being closed in order.
    Closing,
    /// It lost its connection, or never got one, and will not get another.
    Failed,
    /// It was closed because its time was over.
    Closed,
}

impl Standing {
    /// Every one with its name in events and metrics, in the order of their numbers.
    pub const NAMED: [(&'static str, Self); 7] = [
        ("planned", Self::Planned),
        ("connecting", Self::Connecting),
        ("open", Self::Open),
        ("waiting", Self::Waiting),
        ("closing", Self::Closing),
        ("failed", Self::Failed),
        ("closed", Self::Closed),
    ];
    /// How many there are.
    pub const COUNT: usize = Self::NAMED.len();
}

/// No connection.
pub const NO_CONNECTION: u32 = u32::MAX;

/// From one opening of a stream to the next as a client, at least.
pub const REOPEN_NS: u64 = 1_000_000_000;

/// One flow of load.
#[derive(Debug)]
pub struct Stream {
    /// Its connection's index, or [`NO_CONNECTION`].
    pub connection: u32,
    /// Its number in the group, over all workers and hosts.
    pub number: u32,
    /// Index of its group.
    pub group: u8,
    /// Where it stands.
    pub standing: Standing,
    /// It has been open at least once.
    pub opened: bool,
    /// It is due at its grid's points.
    pub armed: bool,
    /// Something came that was not an echo: its response times mean nothing.
    pub response_invalid: bool,
    /// Payload has come in on this connection.
    pub answered: bool,
    /// Bytes have come on its connection with the word that it is open.
    pub spoken_to: bool,
    /// The echo of the oldest unanswered message has differed already.
    differs: bool,
    /// The server's version on its last open connection: see [`Versions`].
    pub version: u8,
    /// The replica that it named there, likewise.
    pub replica: u8,
    /// Its target among the group's.
    pub target: u16,
    /// Which of the group's grids it is on; another number than the group's means a new grid.
    pub grid: u32,
    /// Grid points passed on this grid.
    pub point: u64,
    /// Attempts since it was last open.
    pub attempts: u32,
    /// Waits that it took as a client does, since their count last began.
    waits: u32,
    /// Since when it has been open, or away.
    pub since: Time,
    /// Its rank among the group's streams with the same addresses, plus one: see `worker::origin`.
    pub rank: Option<NonZeroU32>,
    /// Times that it looked again for a source port since it was last open.
    pub searches: u8,
    /// Its attempt, which has been counted, goes on with such a search.
    pub is_searching: bool,
    /// Ticks missed by back-pressure: how often it stalled.
    pub stalls: u32,
    /// Bytes of the oldest message's echo that have come.
    front_bytes: u32,
    /// The last answered message of this connection: place and bytes of its echo.
    last: (u32, u32),
    /// Messages under way.
    pub unanswered: Unanswered,
    /// The connection that it lost, until it has another.
    pub lost: Option<Box<Lost>>,
    /// Payload bytes of steady state that came back (echo), came (receive) or went (discard).
    pub bytes: u64,
    /// When the first message of this connection went.
    pub first_sent: Time,
    /// Payload bytes sent on this connection.
    pub connection_bytes: u64,
    /// Payload bytes sent on former ones.
    pub former_bytes: u64,
    /// Payload bytes that came, over the whole run.
    pub received: u64,
    /// Open connections lost.
    pub losses: u32,
    /// Why it last failed to open, or was lost.
    pub failure: Option<Class>,
    /// Response times of steady state.
    pub responses: Responses,
}

/// What came of received payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// Bytes of a message whose echo is not complete.
    Part {
        /// When the message was due.
        due: Time,
        /// How many.
        bytes: u32,
    },
    /// The last bytes of a message's echo.
    Whole {
        /// The message.
        message: Message,
        /// How many.
        bytes: u32,
        /// As far as compared, the echo was what had been sent.
        same: bool,
    },
    /// Bytes that are not an echo of anything.
    Unexpected {
        /// How many.
        bytes: usize,
    },
}

impl Stream {
    /// Bytes of each message that are compared with what was sent, without `--verify`.
    const HEAD_BYTES: usize = 8;

    /// A stream that has not been launched.
    pub fn new(group: u8, number: u32, target: u16) -> Self {
        Self {
            connection: NO_CONNECTION,
            number,
            group,
            standing: Standing::Planned,
            opened: false,
            armed: false,
            response_invalid: false,
            answered: false,
            spoken_to: false,
            differs: false,
            version: Versions::NONE,
            replica: Versions::NONE,
            target,
            grid: 0,
            point: 0,
            attempts: 0,
            waits: 0,
            since: Time::ZERO,
            rank: None,
            searches: 0,
            is_searching: false,
            stalls: 0,
            front_bytes: 0,
            last: (0, 0),
            unanswered: Unanswered::new(),
            lost: None,
            bytes: 0,
            first_sent: Time::NEVER,
            connection_bytes: 0,
            former_bytes: 0,
            received: 0,
            losses: 0,
            failure: None,
            responses: Responses::default(),
        }
    }

    /// Whether it has never been open, nor tried.
    pub const fn is_new(&self) -> bool {
        !self.opened && self.attempts == 0
    }

    /// Matches the front of `received` (never empty) with the oldest unanswered message. The
    /// second value is what is left for the next call.
    pub fn echo<'a>(
        &mut self,
        received: &'a [u8],
        payload: &Payload,
        first: Option<&Payload>,
        verify: bool,
        pool: &mut Pool,
    ) -> (Echo, &'a [u8]) {
        let Some(&front) = self.unanswered.front() else {
            self.response_invalid = true;
            return (Echo::Unexpected { bytes: received.len() }, &[]);
        };
        let from = self.front_bytes as usize;
        let bytes = received.len().min(front.bytes as usize - from);
        let (mine, rest) = received.split_at(bytes);
        let compare = if verify { bytes } else { Self::HEAD_BYTES.saturating_sub(from).min(bytes) };
        if compare > 0 && !self.differs {
            self.differs = match first {
                Some(first) if front.place == Message::FIRST => {
                    !first.echoes((0, front.bytes, front.mask), from, &mine[..compare])
                }
                _ => !payload.echoes((front.place, front.bytes, front.mask), from, &mine[..compare]),
            };
        }
        if from + bytes < front.bytes as usize {
            self.front_bytes += bytes as u32;
            return (Echo::Part { due: front.due, bytes: bytes as u32 }, rest);
        }
        self.front_bytes = 0;
        self.last = (front.place, front.bytes);
        let message = self.unanswered.pop(pool).expect("the front was there");
        let same = !std::mem::replace(&mut self.differs, false);
        // An echo of something else says that positions do not match: no response time is right.
        self.response_invalid |= !same;
        (Echo::Whole { message, bytes: bytes as u32, same }, rest)
    }

    /// Bytes of the oldest unanswered message's echo that have come.
    pub const fn echoed(&self) -> u32 {
        self.front_bytes
    }

    /// What was sent on its connection counts as sent on a former one.
    pub fn end_connection(&mut self) {
        self.former_bytes += std::mem::take(&mut self.connection_bytes);
    }

    /// A connection is open: what an older one saw says nothing of it. Whether its first bytes have come.
    pub fn begin_connection(&mut self) -> bool {
        self.end_connection();
        (self.attempts, self.searches, self.is_searching) = (0, 0, false);
        self.answered = std::mem::take(&mut self.spoken_to);
        self.first_sent = Time::NEVER;
        self.last = (0, 0);
        self.answered
    }

    /// ns that it waits after a loss or a failed attempt (which `attempts` has counted) before it tries again as
    /// `client` does; `None`: it gives up.
    pub fn wait_as(&mut self, client: &Client, now: Time, random: &mut Random) -> Option<u64> {
        let stood = now.ns_since(self.since);
        let mut least = 0;
        if self.attempts == 1 {
            // Whoever is dropped as soon as open comes back no faster than this, whatever its client does.
            least = if self.opened { REOPEN_NS.saturating_sub(stood) } else { 0 };
            self.since = now;
            if stood >= client.settled_ns {
                self.waits = 0;
            }
        } else if client.gives_up_ns.is_some_and(|limit| stood >= limit) {
            return None;
        }
        let wait = client.wait(self.waits, random);
        self.waits = self.waits.saturating_add(1);
        Some(wait.max(least))
    }

    /// The connection is lost: keeps of what is under way as much as tells later what has arrived.
    /// To be said before [`Self::abandon`].
    pub fn lose(&mut self, at: Time, terminal: Option<(Marker, Echoing)>, payload: &Payload, pool: &Pool) {
        let lost = match terminal {
            None => Lost::plain(at, self.version),
            Some((marker, echo)) => {
                let (last, came) = (self.last, self.front_bytes);
                let matches = !self.response_invalid && !self.differs;
                let seen = Seen { marker, echo, last, came, matches };
                Lost::terminal(at, self.version, &seen, self.unanswered.iter(pool), payload)
            }
        };
        self.lost = Some(Box::new(lost));
    }

    /// The connection is lost or over: hands out what will not be answered, oldest first.
    pub fn abandon(&mut self, pool: &mut Pool) -> Option<Message> {
        self.front_bytes = 0;
        self.differs = false;
        self.unanswered.pop(pool)
    }
}

/// Response times of one stream in 64 bytes: counts by half powers of two from 64 µs, so a
/// percentile is at most 41 % too high. To rank streams, not to report the run.
#[derive(Debug, Clone, Default)]
pub struct Responses([u16; Self::BUCKETS]);

impl Responses {
    const BUCKETS: usize = 32;
    const FIRST_NS: u64 = 64_000;

    /// One sample.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        let bucket = Self::bucket(ns);
        if self.0[bucket] == u16::MAX {
            self.0.iter_mut().for_each(|count| *count /= 2);
        }
        self.0[bucket] += 1;
    }

    const fn bucket(ns: u64) -> usize {
        if ns < Self::FIRST_NS {
            return 0;
        }
        let ratio = ns / (Self::FIRST_NS / 64); // 64 at the first bucket's edge
        let power = ratio.ilog2() - 6;
        let half = (ratio >> (power + 5)) & 1; // above 1.5 × the power of two
        let bucket = (2 * power) as usize + half as usize + 1;
        if bucket < Self::BUCKETS { bucket } else { Self::BUCKETS - 1 }
    }

    /// The upper edge of the bucket that holds the 99th percentile, in ns; `None`: no samples.
    pub fn p99_ns(&self) -> Option<u64> {
        let total: u64 = self.0.iter().map(|&count| u64::from(count)).sum();
        let mut above = total.checked_sub(1)? / 100;
        for (bucket, &count) in self.0.iter().enumerate().rev() {
            if u64::from(count) > above {
                let edge = Self::FIRST_NS << (bucket / 2);
                return Some(if bucket % 2 == 0 { edge } else { edge + edge / 2 });
            }
            above -= u64::from(count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use scale_proto::ws;

    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// The message at `place` as it comes back.
    fn echo_of(payload: &Payload, place: u32, bytes: usize) -> Vec<u8> {
        let mut echo = vec![0; bytes];
        ws::mask_into(&mut echo, payload.piece(place, 0, bytes), MASK);
        echo
    }

    fn stream_with(messages: &[(u32, u32)], pool: &mut Pool) -> Stream {
        let mut stream = Stream::new(0, 0, 0);
        for (n, &(place, bytes)) in messages.iter().enumerate() {
            let due = Time::from_ns(n as u64 + 1);
            stream.unanswered.push(Message { due, sent: due, bytes, place, mask: MASK }, pool);
        }
        stream
    }

    /// What a stream waits at each failed attempt after a loss at `lost` s, the next attempt failing at once.
    fn waits(stream: &mut Stream, client: &Client, lost: u64, count: usize) -> Vec<Option<u64>> {
        let mut random = Random::new(1);
        let mut now = Time::from_ns(lost * REOPEN_NS);
        stream.attempts = 0;
        let mut next = || {
            stream.attempts += 1;
            let wait = stream.wait_as(client, now, &mut random);
            now = now.plus_ns(wait.unwrap_or(0));
            wait.map(|ns| ns / REOPEN_NS)
        };
        (0..count).map(|_| next()).collect()
    }

    fn open_at(stream: &mut Stream, seconds: u64) {
        stream.begin_connection();
        (stream.opened, stream.since) = (true, Time::from_ns(seconds * REOPEN_NS));
    }

    #[test]
    fn an_opening_begins_the_waits_anew_where_the_client_counts_so() {
        use crate::load::reconnect::{AUTOSSH, VSCODE, WEB_TERMINAL};
        let some = |seconds: &[u64]| seconds.iter().map(|&it| Some(it)).collect::<Vec<_>>();
        let mut stream = Stream::new(0, 0, 0);
        // Its first attempt failed, so that it never stood.
        assert_eq!(waits(&mut stream, &VSCODE, 1, 3), some(&[0, 5, 5]));
        open_at(&mut stream, 20);
        assert_eq!(waits(&mut stream, &WEB_TERMINAL, 30, 4), some(&[2, 4, 8, 16]));
        open_at(&mut stream, 60);
        assert_eq!(waits(&mut stream, &WEB_TERMINAL, 61, 2), some(&[2, 4]));
        // autossh goes on with its count where a session lasted for less than a minute.
        open_at(&mut stream, 100);
        assert_eq!(waits(&mut stream, &AUTOSSH, 160, 8), some(&[0, 0, 0, 0, 0, 0, 2, 8]));
        open_at(&mut stream, 200);
        assert_eq!(waits(&mut stream, &AUTOSSH, 259, 1), some(&[18]));
        open_at(&mut stream, 300);
        assert_eq!(waits(&mut stream, &AUTOSSH, 360, 1), some(&[0]));
    }

    #[test]
    fn a_stream_that_is_dropped_when_it_opens_comes_back_once_a_second_at_most() {
        let mut stream = Stream::new(0, 0, 0);
        open_at(&mut stream, 7);
        stream.attempts = 1;
        let vscode = &crate::load::reconnect::VSCODE;
        let wait = |stream: &mut Stream, ns| stream.wait_as(vscode, Time::from_ns(ns), &mut Random::new(1));
        assert_eq!(wait(&mut stream, 7 * REOPEN_NS + 1_000), Some(REOPEN_NS - 1_000));
        open_at(&mut stream, 8);
        stream.attempts = 1;
        assert_eq!(wait(&mut stream, 9 * REOPEN_NS), Some(0));
    }

    #[test]
    fn a_client_that_gives_up_does_so_at_the_first_failure_behind_its_time() {
        use crate::load::reconnect::VSCODE;
        let mut stream = Stream::new(0, 0, 0);
        open_at(&mut stream, 1);
        // 80 s of shorter waits, then one each half minute up to three hours.
        let count = 9 + (3 * 3600 - 90_usize).div_ceil(30) + 2;
        let waits = waits(&mut stream, &VSCODE, 5, count);
        let given_up = waits.iter().position(Option::is_none).expect("it gives up");
        let waited: u64 = waits[..given_up].iter().flatten().sum();
        assert!((3 * 3600..3 * 3600 + 30).contains(&waited), "{waited}");
    }

    #[test]
    fn an_echo_is_matched_by_position_however_it_is_cut() {
        let payload = Payload::random(1);
        for cut in 1..=40 {
            let mut pool = Pool::new(10);
            let mut stream = stream_with(&[(8, 20), (800, 20)], &mut pool);
            let bytes = [echo_of(&payload, 8, 20), echo_of(&payload, 800, 20)].concat();
            let mut whole = 0;
            for part in bytes.chunks(cut) {
                let mut rest = part;
                while !rest.is_empty() {
                    let (echo, left) = stream.echo(rest, &payload, None, true, &mut pool);
                    if let Echo::Whole { same, message, .. } = echo {
                        whole += 1;
                        assert!(same);
                        assert_eq!(message.due.ns(), whole);
                    }
                    rest = left;
                }
            }
            assert_eq!((whole, stream.response_invalid), (2, false));
        }
    }

    #[test]
    fn a_wrong_byte_is_seen_in_the_head_always_and_elsewhere_with_verify() {
        let payload = Payload::random(1);
        for (position, verify, seen) in
            [(0, false, true), (7, false, true), (8, false, false), (8, true, true), (19, true, true)]
        {
            let mut pool = Pool::new(10);
            let mut stream = stream_with(&[(16, 20)], &mut pool);
            let mut bytes = echo_of(&payload, 16, 20);
            bytes[position] ^= 1;
            let (echo, _) = stream.echo(&bytes, &payload, None, verify, &mut pool);
            assert!(matches!(echo, Echo::Whole { same, .. } if same != seen), "byte {position}");
        }
    }

    #[test]
    fn a_greeting_is_unexpected_and_spoils_response_times() {
        let payload = Payload::random(1);
        let mut pool = Pool::new(10);
        let mut stream = stream_with(&[], &mut pool);
        assert_eq!(stream.echo(b"hello", &payload, None, false, &mut pool).0, Echo::Unexpected { bytes: 5 });
        assert!(stream.response_invalid);
    }

    #[test]
    fn a_streams_percentile_is_at_most_half_too_high() {
        for ns in [100_000u64, 1_000_000, 3_000_000, 70_000_000, 900_000_000] {
            let mut responses = Responses::default();
            (0..1000).for_each(|_| responses.record(ns));
            let p99 = responses.p99_ns().unwrap();
            assert!(p99 > ns && p99 <= ns * 3 / 2 + 1000, "{ns} ns reads {p99}");
        }
        assert_eq!(Responses::default().p99_ns(), None);
    }
}
