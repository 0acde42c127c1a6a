//! What the peer says, and what is done about it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use scale_proto::ssh::{ChannelId, Event, Exit};
use scale_ring::Time;

use super::channel::{Channel, Manner};
use crate::sink::{Counts, Settings};

/// The channels of a connection.
pub(super) struct Channels {
    /// A channel in which more waits gives no window back.
    pub kept_bytes_max: usize,
    pub all: BTreeMap<ChannelId, Channel>,
    /// Those in whose queue something waits, in the order of their turns.
    pub waiting: VecDeque<ChannelId>,
    /// Those whose programs have ended, until that is said.
    pub ended: Vec<ChannelId>,
    /// Answers that wait (`--delay`).
    pub delayed: VecDeque<Delayed>,
    /// Those in which much waits, until their windows are minded.
    pub heavy: Vec<ChannelId>,
}

impl Channels {
    pub const fn new(kept_bytes_max: usize) -> Self {
        Self {
            kept_bytes_max,
            all: BTreeMap::new(),
            waiting: VecDeque::new(),
            ended: Vec::new(),
            delayed: VecDeque::new(),
            heavy: Vec::new(),
        }
    }

    /// Puts what `write` appends into a channel's queue, to be sealed when its turn comes.
    pub fn queue(&mut self, channel: ChannelId, write: impl FnOnce(&mut Channel)) {
        let Some(kept) = self.all.get_mut(&channel) else { return };
        write(kept);
        if !kept.queue.is_empty() && !std::mem::replace(&mut kept.listed, true) {
            self.waiting.push_back(channel);
        }
        self.note_weight(channel);
    }

    /// Notes whether a channel's peer is to be stopped.
    fn note_weight(&mut self, channel: ChannelId) {
        let heavy = |kept: &Channel| !kept.held && kept.kept_bytes() > self.kept_bytes_max;
        self.heavy.extend(self.all.get(&channel).is_some_and(heavy).then_some(channel));
    }

    /// A channel is gone, and its number free.
    fn remove(&mut self, channel: ChannelId) {
        let Some(kept) = self.all.remove(&channel) else { return };
        self.ended.retain(|&other| other != channel);
        if kept.listed {
            self.waiting.retain(|&other| other != channel);
        }
        if kept.delayed_bytes > 0 {
            self.delayed.retain(|delayed| delayed.channel != channel);
        }
    }

    /// A channel's program has ended.
    fn end(&mut self, channel: ChannelId, exit: Exit) {
        if let Some(kept) = self.all.get_mut(&channel)
            && kept.exit.is_none()
        {
            kept.exit = Some(exit);
            self.ended.push(channel);
        }
    }
}

/// Data of a channel that goes back at its time.
pub(super) struct Delayed {
    pub at: Time,
    pub channel: ChannelId,
    pub bytes: Vec<u8>,
    /// The first of its receive.
    pub first: bool,
}

/// Data of a channel, by its place in what was received.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub channel: ChannelId,
    pub at: Range<usize>,
}

/// Takes the events of one receive.
pub(super) struct Listener<'a> {
    pub channels: &'a mut Channels,
    pub settings: &'a Settings,
    pub counts: &'a mut Counts,
    /// What is to go back as it is.
    pub pieces: &'a mut Vec<Piece>,
    pub printed: &'a mut Vec<u8>,
    /// Where what was received lies.
    pub input: Range<usize>,
    /// When its answers may go.
    pub answer_at: Time,
    pub said: Said,
}

/// What a receive came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    /// Bytes that are done with.
    pub consumed: usize,
    /// Payload has come,
    pub heard: bool,
    /// and some of it is answered at once,
    pub answered: bool,
    /// or later.
    pub delayed: bool,
    /// A channel has been opened that sends at the tick.
    pub sends: bool,
}

impl Listener<'_> {
    pub fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Authenticated => self.counts.connections += 1,
            Event::Requested { channel, purpose } => {
                let (new, exit) = Channel::new(&purpose, self.settings.traffic);
                self.said.sends |= matches!(new.manner, Manner::Send);
                self.channels.all.insert(channel, new);
                if let Some(exit) = exit {
                    self.channels.end(channel, exit);
                }
            }
            Event::Data { channel, bytes } => self.data(channel, bytes),
            // Programs that read to the end are content with it.
            Event::Ended(channel) => self.channels.end(channel, Exit::Status(0)),
            Event::Closed(channel) => {
                // Another channel may have its number before this receive ends.
                self.pieces.retain(|piece| piece.channel != channel);
                self.channels.remove(channel);
            }
            Event::Identified(_) | Event::KeysExchanged(_) | Event::ExtendedData { .. } => {}
            Event::Opened(_) | Event::Refused { .. } | Event::Exited { .. } => {
                unreachable!("only a client is told this")
            }
        }
    }

    fn data(&mut self, channel: ChannelId, bytes: &[u8]) {
        self.said.heard = true;
        let Some(kept) = self.channels.all.get_mut(&channel) else { return };
        if !matches!(kept.manner, Manner::Print(_)) {
            self.counts.payload_bytes_received += bytes.len() as u64;
        }
        match &mut kept.manner {
            Manner::Discard | Manner::Send => {}
            Manner::Print(_) => {
                self.said.answered = true;
                let mut exit = None;
                self.channels.queue(channel, |kept| {
                    exit = kept.type_in(bytes, self.printed, self.counts);
                });
                if let Some(exit) = exit {
                    self.channels.end(channel, exit);
                }
            }
            Manner::Echo if self.settings.delay_ns > 0 => {
                kept.delayed_bytes += bytes.len();
                let first = !std::mem::replace(&mut self.said.delayed, true);
                let delayed = Delayed { at: self.answer_at, channel, bytes: bytes.to_vec(), first };
                self.channels.delayed.push_back(delayed);
                self.channels.note_weight(channel);
            }
            Manner::Echo => {
                self.said.answered = true;
                let from = bytes.as_ptr().addr();
                let within = self.input.contains(&from) && bytes.len() <= self.input.end - from;
                assert!(within || bytes.is_empty(), "data is opened where it lies");
                let from = from.wrapping_sub(self.input.start);
                self.pieces.push(Piece { channel, at: from..from + bytes.len() });
            }
        }
    }
}
