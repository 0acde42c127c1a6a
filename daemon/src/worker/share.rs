//! A worker's part of the plan, and what it hands back.

use std::net::SocketAddr;
use std::sync::Arc;

use hdrhistogram::Histogram;
use scale_proto::ssh::Negotiated;
use scale_ring::{RingCounters, Time};

use crate::load::{Endpoint, Group, MessageSize};
use crate::stream::class::Class;
use crate::stream::flow::Standing;
use crate::stream::meter::Cell;
use crate::stream::versions::Versions;

use super::changes::Change;
use super::gate::Gates;
use super::ports::PortTable;

/// What a worker is to do. Everything was checked when the plan was made.
#[derive(Debug, Clone)]
pub struct Share {
    /// This worker's number, from 0.
    pub worker: u32,
    /// How many workers share the run.
    pub workers: u32,
    /// The run's start.
    pub start_at: Time,
    /// For payload, masks, random offsets and back-off.
    pub seed: u64,
    /// All groups; a stream belongs to worker number mod workers.
    pub groups: Arc<[Group]>,
    /// All rows.
    pub endpoints: Arc<[Endpoint]>,
    /// Each target's addresses.
    pub addresses: Addresses,
    /// Source ports of this host, and which of them are whose.
    pub ports: Arc<PortTable>,
    /// What holds new connections to the caps of the list of targets.
    pub gates: Gates,
    /// Streams this worker may ever hold.
    pub streams_max: usize,
    /// Every stream's own figures are handed over each second, not only at the end.
    pub stream_by_stream: bool,
}

/// Addresses by row of the plan's address table.
pub type Addresses = Arc<[Vec<SocketAddr>]>;

/// What control tells a worker.
#[derive(Debug, Clone)]
pub enum Command {
    /// End every group now and drain.
    Drain,
    /// Zero traffic at once: abort everything.
    Abort,
    /// From this point on nothing is due.
    Pause(Time),
    /// From this point on it is again; what is ahead shifts by the time between.
    Resume(Time),
    /// Another load for a group.
    Set {
        /// Its index.
        group: usize,
        /// Streams in all, over all workers.
        conns: Option<u32>,
        /// Tick in ns and bytes a tick.
        pace: Option<(u64, MessageSize)>,
    },
    /// Names were resolved again.
    Addresses(Addresses),
    /// What a group may connect to one of its targets from now on.
    Connects {
        /// The group's index.
        group: usize,
        /// The target's among the group's.
        target: u16,
        /// So many more attempts of this worker's, over all workers; `None`: any number.
        permits: Option<u32>,
    },
    /// The list of targets was read again.
    Gates(Gates),
    /// What is due within these times is expected to be disrupted, and counted aside.
    Aside {
        /// The window's number among the run's; `None`: it is none, and ends the one before.
        window: Option<usize>,
        /// From then on, as far as it has not been counted yet.
        from: Time,
        /// Until then, this one left out.
        until: Time,
    },
}

/// Where a group stands, as one worker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum GroupPhase {
    /// Its start has not come.
    #[default]
    Waiting,
    /// Streams are being opened.
    Ramping,
    /// Load flows and does not count yet.
    WarmUp,
    /// It counts.
    Steady,
    /// No new sends; answers and closes are awaited.
    Draining,
    /// Nothing of it is left.
    Done,
}

impl GroupPhase {
    /// As events and metrics say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ramping => "ramping",
            Self::WarmUp => "warm-up",
            Self::Steady => "steady",
            Self::Draining => "draining",
            Self::Done => "done",
        }
    }
}

/// A group's gauges.
#[derive(Debug, Clone, Default)]
pub struct GroupGauges {
    /// Where it stands.
    pub phase: GroupPhase,
    /// 0: before steady; then the stage's number.
    pub stage: usize,
    /// Streams asked for now, of this worker.
    pub requested: u32,
    /// The most asked for so far, of this worker.
    pub requested_max: u32,
    /// Streams that have been open at least once.
    pub opened: u32,
    /// Streams by [`Standing`].
    pub standing: [u32; Standing::COUNT],
    /// Open streams by target; from the drain on, those that were open at its beginning.
    pub open: Vec<u32>,
    /// When it ends, if it does.
    pub end: Option<Time>,
    /// Steady time so far, pauses left out.
    pub steady_ns: u64,
    /// Tick in force.
    pub tick_ns: u64,
}

/// What a worker hands over each second.
#[derive(Debug)]
pub struct Snapshot {
    /// Whose.
    pub worker: u32,
    /// The second since the run's start that it closes, from 1; the last may close a part of one.
    pub second: u64,
    /// When it was taken.
    pub at: Time,
    /// By cell: see `meter`.
    pub cells: Vec<Cell>,
    /// By group.
    pub groups: Vec<GroupGauges>,
    /// Versions of the servers that it met, by group.
    pub versions: Vec<Versions>,
    /// Replicas that they named, by group.
    pub replicas: Vec<Versions>,
    /// Streams that have opened, closed and been lost since the last hand-over, in order.
    pub changes: Vec<Change>,
    /// Of these, how many were too many so far.
    pub changes_left_out: u64,
    /// What SSH servers and this worker settled on, with the connections so far.
    pub negotiated: Vec<(Negotiated, u64)>,
    /// CPU time of the thread since its start, ns.
    pub cpu_ns: u64,
    /// Lengths of turns, wait excluded, in µs.
    pub turns: Histogram<u64>,
    /// The ring's counts.
    pub ring: RingCounters,
    /// Source ports that were taken by others.
    pub ports_in_use: u64,
    /// Connections that waited for more than a second for the list's caps.
    pub held_back: u64,
    /// Streams opened so far, by address; the first [`ADDRESSES_MAX`].
    pub opened: Vec<(SocketAddr, u64)>,
    /// Every stream's own figures: at the end, and before it where they were asked for.
    pub streams: Option<Vec<StreamResult>>,
    /// It is the last.
    pub last: bool,
}

/// Addresses that are told apart in [`Snapshot::opened`].
pub const ADDRESSES_MAX: usize = 64;

/// One stream's own figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamResult {
    /// Index of its group.
    pub group: u8,
    /// Its number in the group.
    pub number: u32,
    /// Its target among the group's.
    pub target: u16,
    /// The 99th percentile of its response times in ns, at most 50 % too high.
    pub response_p99_ns: Option<u64>,
    /// Payload bytes in steady state.
    pub bytes: u64,
    /// Ticks missed by back-pressure.
    pub stalls: u32,
    /// Payload bytes that went, over the whole run.
    pub sent: u64,
    /// Payload bytes that came, over the whole run.
    pub received: u64,
    /// Open connections lost.
    pub losses: u32,
    /// Why it last failed to open, or was lost.
    pub failure: Option<Class>,
}
