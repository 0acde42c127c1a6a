//! What a sink saw of each connection, one fact a line, for who compares it with what a client says.
//!
//! A line is a JSON object: `at` (ns of CLOCK_MONOTONIC), `connection` (numbered from 1 as they are accepted), `event`:
//! - `opened`: the request has come and is answered; `path`: its path and query.
//! - `moved`: `received` and `echoed`, payload bytes of the connection so far; a line a turn in which they grew.
//! - `closing`: we have begun to close it, behind what was answered before.
//! - `closed`: it is over; `why`, `received`, `echoed`.
//!
//! A turn's lines are written before its answers are handed to the kernel, in one write that nothing holds back: a
//! sink that is killed (SIGKILL) has said what it had read, and at most the last turn's answers too much. A
//! connection without `closed` was open when the sink ended.
//!
//! Elsewhere: what is counted (`Counts`); a connection's bytes are what that grew by in its turn.

use std::fmt;
use std::io::{self, Write};

use scale_ring::{Errno, Ring, Time};
use serde::Serialize;

use super::connection::Connection;
use super::{Counts, Sink};

/// What is known of a connection for the record.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Payload bytes that came.
    received: u64,
    /// Payload bytes that were answered with.
    echoed: u64,
    /// `opened` was said: of others nothing is.
    opened: bool,
    /// A `moved` is owed.
    moved: bool,
    /// Why it ends, as soon as that is known.
    pub why: Option<Why>,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The peer sent a Close first; its code.
    Close(Option<u16>),
    /// The peer answered our Close.
    Answered,
    /// The peer's FIN came, without a Close.
    Ended,
    /// The socket failed.
    Failed(Errno),
    /// The peer broke the protocol.
    Broken,
    /// We reset it (`--limit drop=`).
    Dropped,
}

impl fmt::Display for Why {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Close(Some(code)) => write!(to, "close_{code}"),
            Self::Close(None) => to.write_str("close"),
            Self::Answered => to.write_str("answered"),
            Self::Ended => to.write_str("ended"),
            Self::Failed(Errno::Reset) => to.write_str("reset"),
            Self::Failed(Errno::TimedOut) => to.write_str("timed_out"),
            Self::Failed(_) => to.write_str("failed"),
            Self::Broken => to.write_str("broken"),
            Self::Dropped => to.write_str("dropped"),
        }
    }
}

/// Where lines go.
pub(super) struct Record {
    to: Box<dyn Write>,
    /// This turn's lines.
    lines: Vec<u8>,
    /// Of `Counts`, what belongs to connections already.
    assigned: Counts,
    /// Slots of connections that owe a `moved`.
    moved: Vec<u32>,
    failed: Option<io::Error>,
}

#[derive(Serialize)]
struct Line<'a> {
    at: u64,
    connection: u64,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    echoed: Option<u64>,
}

impl Record {
    fn line(&mut self, line: &Line<'_>) {
        serde_json::to_writer(&mut self.lines, line).expect("a line can be written to memory");
        self.lines.push(b'\n');
    }

    /// A connection is open; a websocket by an upgrade to `path`.
    pub fn opened(&mut self, connection: &mut Connection, path: Option<&str>, now: Time) {
        connection.seen.opened = true;
        self.event("opened", connection.number, path, now);
    }

    fn event(&mut self, event: &str, number: u64, path: Option<&str>, now: Time) {
        let at = now.ns();
        self.line(&Line { at, connection: number, event, path, why: None, received: None, echoed: None });
    }
}

impl<R: Ring> Sink<R> {
    /// Writes down from now on what becomes of connections.
    pub fn record(&mut self, to: Box<dyn Write>) {
        let (assigned, lines, moved) = (self.counts, Vec::new(), Vec::new());
        self.record = Some(Record { to, lines, assigned, moved, failed: None });
    }

    /// What kept the record from being written, once.
    pub fn record_failed(&mut self) -> Option<io::Error> {
        self.record.as_mut()?.failed.take()
    }

    /// What was counted since the last time was of the connection at `index`.
    pub(super) fn assign(&mut self, index: u32) {
        let Some(record) = &mut self.record else { return };
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let (now, before) = (self.counts, std::mem::replace(&mut record.assigned, self.counts));
        let received = now.payload_bytes_received - before.payload_bytes_received;
        let echoed = now.payload_bytes_sent - before.payload_bytes_sent;
        if received + echoed > 0 {
            connection.seen.received += received;
            connection.seen.echoed += echoed;
            if !std::mem::replace(&mut connection.seen.moved, true) {
                record.moved.push(index);
            }
        }
    }

    /// We have begun to close a connection.
    pub(super) fn record_closing(&mut self, index: u32, now: Time) {
        if let Some(record) = &mut self.record
            && let Some(connection) = self.connections[index as usize].as_ref().filter(|it| it.seen.opened)
        {
            record.event("closing", connection.number, None, now);
        }
    }

    /// A connection is over.
    pub(super) fn record_closed(&mut self, index: u32) {
        self.assign(index);
        let Some(record) = &mut self.record else { return };
        let now = self.ring.now();
        let connection = self.connections[index as usize].as_mut().expect("a live connection");
        let Seen { received, echoed, opened, why, .. } = connection.seen;
        connection.seen.moved = false;
        if !opened {
            return;
        }
        record.line(&Line {
            at: now.ns(),
            connection: connection.number,
            event: "closed",
            path: None,
            why: why.map(|why| why.to_string()),
            received: Some(received),
            echoed: Some(echoed),
        });
    }

    /// The turn is over: its lines go.
    pub(super) fn write_record(&mut self, now: Time) {
        let Some(record) = &mut self.record else { return };
        for index in std::mem::take(&mut record.moved) {
            let Some(Some(connection)) = self.connections.get_mut(index as usize) else { continue };
            if std::mem::take(&mut connection.seen.moved) {
                record.line(&moved(connection, now));
            }
        }
        if !record.lines.is_empty() && record.failed.is_none() {
            record.failed = record.to.write_all(&record.lines).err();
        }
        record.lines.clear();
    }
}

fn moved(connection: &Connection, now: Time) -> Line<'static> {
    let Seen { received, echoed, .. } = connection.seen;
    Line {
        at: now.ns(),
        connection: connection.number,
        event: "moved",
        path: None,
        why: None,
        received: Some(received),
        echoed: Some(echoed),
    }
}
