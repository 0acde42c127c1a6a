//! A group as the engine runs it: every word decided, every figure in integers.

use std::ops::Range;
use std::sync::Arc;

use scale_proto::coder::{self, Echo};
use scale_proto::ws::Opcode;

use super::grid::{MessageSize, TickOffset};
use super::payload::Payload;
use super::reconnect::Reconnect;
use super::ssh::Ssh;
use super::ways::Ways;

/// What flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// We write, the peer echoes, we read.
    Echo,
    /// We write.
    Discard,
    /// We read.
    Receive,
}

/// How web terminals are opened and left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// What comes back of what is typed.
    pub echo: Echo,
    /// All that is typed is one comment to a shell; it never ends.
    pub comment: bool,
    /// The websocket is closed at once, without Ctrl-C first.
    pub fast_close: bool,
}

impl Terminal {
    /// What is typed at the end; the server closes then. `None`: nothing.
    pub const fn goodbye(self) -> Option<&'static [u8]> {
        match (self.fast_close, self.comment) {
            (true, _) => None,
            (false, true) => Some(coder::INTERRUPT_AND_END),
            (false, false) => Some(coder::INTERRUPT),
        }
    }
}

/// A step of a group's load. A group without steps has one, of its base load.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Streams at the end of `over_ns`.
    pub conns: u32,
    /// Tick, in ns.
    pub tick_ns: u64,
    /// Payload bytes a second and stream at the end of `over_ns`; `None`: `message` is fixed.
    pub bytes_per_second: Option<u64>,
    /// Bytes a tick at the end of `over_ns`.
    pub message: MessageSize,
    /// Time in which conns and rate change from the last step's to this one's.
    pub over_ns: u64,
    /// Time for which they are kept; `None`: until stopped.
    pub hold_ns: Option<u64>,
}

/// Streams that share a load.
#[derive(Debug, Clone)]
pub struct Group {
    /// Label in report, metrics and thresholds.
    pub name: Arc<str>,
    /// Names of the targets, as the report shows them.
    pub targets: Vec<Arc<str>>,
    /// Rows of the endpoint table in the order in which streams take them, over and over.
    pub pattern: Arc<[u32]>,
    /// Number of this plan's first stream among all hosts' streams.
    pub first_stream: u32,
    /// Direction.
    pub traffic: Traffic,
    /// Place within the tick.
    pub tick_offset: TickOffset,
    /// When the group begins, after the run's start.
    pub start_ns: u64,
    /// Streams opened in the ramp.
    pub conns: u32,
    /// Time over which the first `conns` streams are opened.
    pub ramp_ns: u64,
    /// Connects a second (thousandths, all workers), for what is opened after the ramp.
    pub connect_rate_milli: u64,
    /// Connects under way at once, all workers; `None`: no limit.
    pub concurrency: Option<u32>,
    /// Time after the ramp that does not count.
    pub warm_up_ns: u64,
    /// Steady steps in order; at least one.
    pub stages: Vec<Stage>,
    /// Longest wait for answers after the end.
    pub drain_ns: u64,
    /// From the first packet until the stream is open.
    pub connect_timeout_ns: u64,
    /// After a loss.
    pub reconnect: Reconnect,
    /// Streams replaced a second (thousandths, all workers).
    pub churn_milli: u64,
    /// Share of failed connects from which on further ones are held, in thousandths; `None`: never.
    pub breaker_milli: Option<u32>,
    /// The run ends where the target answers nothing for so long; `None`: it does not.
    pub silence_ns: Option<u64>,
    /// Compare every echoed byte.
    pub verify: bool,
    /// Of data frames.
    pub opcode: Opcode,
    /// Header of the 101 by which the server names its replica.
    pub replica_header: Option<Arc<str>>,
    /// Asked for in the upgrade, and then expected.
    pub subprotocol: Option<Arc<str>>,
    /// Sent once when a connection opens.
    pub first_message: Option<Payload>,
    /// What messages are made of.
    pub payload: Payload,
    /// Streams are Coder's web terminals.
    pub terminal: Option<Terminal>,
    /// Streams are channels of SSH connections.
    pub ssh: Option<Ssh>,
    /// A tick whose turn comes while a message is under way waits, one a stream, as Go's ticker does.
    pub late_tick: bool,
    /// Interfaces and source addresses.
    pub ways: Ways,
    /// SO_SNDBUF.
    pub send_buffer_bytes: Option<u32>,
    /// SO_RCVBUF.
    pub receive_buffer_bytes: Option<u32>,
}

impl Group {
    /// The most streams of any step.
    pub fn conns_max(&self) -> u32 {
        self.stages.iter().map(|stage| stage.conns).max().unwrap_or(0).max(self.conns)
    }

    /// Local streams of worker `worker` of `workers` when the group has `conns` in all: stream i
    /// belongs to worker i mod workers, so a ramp loads all workers alike.
    pub const fn share(conns: u32, worker: u32, workers: u32) -> u32 {
        conns / workers + (worker < conns % workers) as u32
    }

    /// The row of the endpoint table for stream `number`.
    #[inline]
    pub fn endpoint(&self, number: u32) -> u32 {
        self.pattern[number as usize % self.pattern.len()]
    }

    /// Windows that are expected to be disrupted take turns in so many cells a target, so that what is late in
    /// one is not taken for the next one's.
    pub const ASIDE: usize = 4;

    /// Cells of this group in a meter: one a target for before steady, for each stage, and [`Self::ASIDE`] for
    /// what is due in windows that are expected to be disrupted.
    pub fn cells(&self, from: usize) -> Range<usize> {
        from..from + (self.stages.len() + 1 + Self::ASIDE) * self.targets.len()
    }

    /// The stage of the cell that stands at `offset` among the group's; 0: it does not count as steady, being of
    /// before, or aside.
    pub fn stage_of(&self, offset: usize) -> usize {
        let stage = offset / self.targets.len();
        if stage <= self.stages.len() { stage } else { 0 }
    }

    /// Of the group's cells, which begin at `from`, those that count as steady.
    pub fn steady_cells(&self, from: usize) -> Range<usize> {
        let targets = self.targets.len();
        from + targets..from + (self.stages.len() + 1) * targets
    }

    /// Of the group's cells, which begin at `from`, those of the windows of one turn.
    pub fn aside_cells(&self, from: usize, turn: usize) -> Range<usize> {
        let targets = self.targets.len();
        let first = from + (self.stages.len() + 1 + turn) * targets;
        first..first + targets
    }
}
