//! Streams that open, close and are lost, one by one, as they are handed over each second: of these disruptions are made.
//!
//! Nothing is kept of what happens in a drain, nor of attempts that fail. In a second in which nothing of the kind
//! happens nothing is allocated.

use scale_ring::{Ring, Time};

use crate::load::{Group, Payload, Traffic};
use crate::stream::class::Class;
use crate::stream::flow::Stream;
use crate::stream::lost::Session;
use crate::stream::stack::Connection;
use crate::stream::unanswered::{Message, Pool};

use super::share::GroupPhase;
use super::turn::Worker;

/// Changes of a second, for each stream that the worker may hold; and so many more.
const CHANGES_PER_STREAM: usize = 4;
/// See [`CHANGES_PER_STREAM`].
const CHANGES_MIN: usize = 1024;

/// A stream has opened, closed, or lost its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Index of its group.
    pub group: u8,
    /// Its number in the group.
    pub number: u32,
    /// When.
    pub at: Time,
    /// Which.
    pub what: What,
}

/// Which change it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Open for the first time, or after a close of ours.
    Opened,
    /// We close it: churn, or a group that shrinks.
    Closed,
    /// Its open connection is lost.
    Lost(Loss),
    /// Open again after that.
    Back(Back),
    /// Its group, which shrinks, has given it up after that.
    GivenUp,
}

/// A lost connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub class: Class,
    /// To whom: among [`super::Snapshot::opened`], [`u8::MAX`]: another.
    pub address: u8,
    /// The server's replica on it, among those of [`super::Snapshot::replicas`].
    pub replica: u8,
    /// The server's version, among those of [`super::Snapshot::versions`].
    pub version: u8,
    /// Payload bytes sent on it whose echo has not come; `None`: that is known when it is back, or never.
    pub bytes_lost: Option<u64>,
}

/// An open connection after a lost one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Back {
    /// As [`Loss::replica`].
    pub replica: u8,
    /// As [`Loss::version`].
    pub version: u8,
    /// Whether the session went on; `None`: there are no sessions.
    pub session: Option<Session>,
    /// Bytes that it said again.
    pub bytes_repeated: u64,
}

/// Those since the last hand-over.
#[derive(Debug)]
pub(super) struct Changes {
    list: Vec<Change>,
    max: usize,
    left_out: u64,
}

impl Changes {
    pub const fn new(streams_max: usize) -> Self {
        Self { list: Vec::new(), max: CHANGES_PER_STREAM * streams_max + CHANGES_MIN, left_out: 0 }
    }

    pub fn note(&mut self, flow: &Stream, at: Time, what: What) {
        if self.list.len() < self.max {
            self.list.push(Change { group: flow.group, number: flow.number, at, what });
        } else {
            self.left_out += 1;
        }
    }

    /// What is handed over, and how many have been left out so far.
    pub fn take(&mut self) -> (Vec<Change>, u64) {
        (std::mem::take(&mut self.list), self.left_out)
    }
}

impl<R: Ring> Worker<R> {
    /// The open connection of a stream is lost; what was under way on it still stands there.
    pub(super) fn note_loss(&mut self, index: u32, class: Class, now: Time) {
        let Self { connections, streams, groups, share, pool, changes, .. } = self;
        let connection = connections[index as usize].as_deref().expect("a live connection");
        let flow = &streams[connection.stream as usize];
        if groups[usize::from(flow.group)].phase >= GroupPhase::Draining {
            return;
        }
        let bytes_lost = bytes_lost(&share.groups[usize::from(flow.group)], flow, connection, pool);
        let Stream { version, replica, .. } = *flow;
        let loss = Loss { class, address: connection.met_at, replica, version, bytes_lost };
        changes.note(flow, now, What::Lost(loss));
    }

    /// A stream is not wanted any more: nobody waits for one that has been lost, and it is as if new when it is
    /// wanted again.
    pub(super) fn give_up(&mut self, stream: u32, now: Time) {
        let flow = &mut self.streams[stream as usize];
        if flow.lost.is_some() && self.groups[usize::from(flow.group)].phase < GroupPhase::Draining {
            flow.lost = None;
            self.changes.note(flow, now, What::GivenUp);
        }
    }

    /// A stream is being closed by us.
    pub(super) fn note_close(&mut self, stream: u32, now: Time) {
        let flow = &self.streams[stream as usize];
        if self.groups[usize::from(flow.group)].phase < GroupPhase::Draining {
            self.changes.note(flow, now, What::Closed);
        }
    }
}

/// Payload bytes sent whose echo has not come; `None`: nothing is echoed, echoes are none of what was sent, or a
/// session may have them.
fn bytes_lost(group: &Group, flow: &Stream, connection: &Connection, pool: &Pool) -> Option<u64> {
    if group.traffic != Traffic::Echo || group.terminal.is_some() || flow.response_invalid {
        return None;
    }
    let sent = |message: &Message, payload: &Payload| match message.place {
        Message::FIRST => message.bytes,
        _ => payload.message_of(message.bytes),
    };
    let mut lost = 0;
    for (number, message) in flow.unanswered.iter(pool).enumerate() {
        let bytes = sent(message, &group.payload);
        let came = if number == 0 { flow.echoed().min(bytes) } else { 0 };
        lost += u64::from(bytes - came);
    }
    // What the kernel has not been given has not been sent.
    let kept = connection.message.map_or(0, |message| message.bytes - message.position);
    Some(lost.saturating_sub(u64::from(kept)))
}
