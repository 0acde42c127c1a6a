//! What each group had in a second, and all of them together.

use std::ops::Range;

use super::window::Counts;
use super::{Seen, is_echo};
use crate::load::Group;
use crate::run::parts;
use crate::stream::meter::{Cell, Counters, Figure};
use crate::worker::share::{GroupGauges, GroupPhase};

/// Of a second, in ns: a group that was steady for so long was so all the time. Hand-overs come a bit late.
const STEADY_NS_MIN: u64 = 950_000_000;

/// The cells of a group, or of all, that count for a figure.
pub struct Cells(Vec<Range<usize>>);

impl Cells {
    /// Those of group `scope`; beyond the last: of all groups.
    pub fn of(groups: &[Group], scope: usize, figure: Figure) -> Self {
        let steady = !figure.is_of_the_whole_run();
        let (mut first, mut ranges) = (0, Vec::new());
        for (index, group) in groups.iter().enumerate() {
            let cells = group.cells(first);
            first = cells.end;
            if index == scope || scope >= groups.len() {
                // Those of before steady state, and those aside, count for the whole run alone.
                ranges.push(if steady { group.steady_cells(cells.start) } else { cells });
            }
        }
        Self(ranges)
    }

    /// Those of one worker's; of a worker that has handed nothing over, none.
    pub fn pick<'a, T>(&'a self, all: &'a [T]) -> impl Iterator<Item = &'a T> {
        self.0.iter().filter_map(|range| all.get(range.clone())).flatten()
    }
}

/// A group, or all of them.
#[derive(Debug, Clone, Default)]
struct Scope {
    /// Its second.
    second: Counts,
    so_far: Counters,
    steady_ns: u64,
    /// The second ended in steady state.
    ended_steady: bool,
    /// All of the second was steady.
    is_steady: bool,
}

/// By group, and behind them all of them together.
#[derive(Debug)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Before the first second of `groups` groups.
    pub fn new(groups: usize) -> Self {
        Self(vec![Scope::default(); groups + 1])
    }

    /// A second is over, or several of them.
    pub fn take(&mut self, groups: &[Group], seen: &Seen<'_>) {
        let (workers, seconds) = (seen.workers, seen.seconds);
        let mut all = Counts::default();
        let (mut is_steady, mut steady_ns, mut first) = (false, 0, 0);
        for (index, group) in groups.iter().enumerate() {
            let cells = group.cells(first);
            first = cells.end;
            let now = counted(group, &cells, workers);
            let gauges: Vec<&GroupGauges> = workers.iter().filter_map(|(_, own)| own.get(index)).collect();
            let scope = &mut self.0[index];
            scope.take(group, now, &gauges, seconds);
            scope.is_steady &= !seen.is_expected;
            all.add(&scope.second);
            is_steady |= scope.is_steady;
            steady_ns = steady_ns.max(scope.steady_ns);
        }
        let whole = self.0.last_mut().expect("there is one more than groups");
        (whole.second, whole.is_steady, whole.steady_ns) = (all, is_steady, steady_ns);
    }

    /// What the last second had.
    pub fn second(&self, scope: usize) -> Counts {
        self.0[scope].second
    }

    /// Whether all of it was steady.
    pub fn is_steady(&self, scope: usize) -> bool {
        self.0[scope].is_steady
    }

    /// Whether any of it has been steady.
    pub fn has_been_steady(&self, scope: usize) -> bool {
        self.0[scope].steady_ns > 0
    }
}

impl Scope {
    fn take(&mut self, group: &Group, now: Counters, gauges: &[&GroupGauges], seconds: u64) {
        let steady_ns = gauges.iter().map(|gauges| gauges.steady_ns).max().unwrap_or(0);
        self.is_steady =
            self.ended_steady && steady_ns.saturating_sub(self.steady_ns) >= STEADY_NS_MIN * seconds;
        self.ended_steady = gauges.iter().any(|gauges| gauges.phase == GroupPhase::Steady);
        self.steady_ns = steady_ns;
        let stage = gauges.iter().map(|gauges| gauges.stage).max().unwrap_or(0);
        let before = &self.so_far;
        let (due, sent) = (now.ticks_due - before.ticks_due, now.ticks_sent - before.ticks_sent);
        let payload_sent = now.payload_sent - before.payload_sent;
        // What went says what a tick had, whatever `set` has made of the plan.
        let tick_bytes = match sent {
            0 => parts::cell_of(group, stage).tick_bytes,
            sent => payload_sent as f64 / sent as f64,
        };
        let of_echoes = |count: u64| if is_echo(group) { count } else { 0 };
        // A drain that has just begun has closed some already; this is as of its beginning.
        let open: u64 = gauges.iter().flat_map(|gauges| &gauges.open).map(|&open| u64::from(open)).sum();
        // Who is not wanted any more is not away.
        let have_been: u64 = gauges.iter().map(|own| u64::from(own.opened.min(own.requested))).sum();
        self.second = Counts {
            due,
            sent,
            echo_sent: of_echoes(now.messages_sent - before.messages_sent),
            echoed: now.messages_echoed - before.messages_echoed,
            bytes_due: due as f64 * tick_bytes,
            payload_sent,
            payload_received: now.payload_received - before.payload_received,
            disconnects: now.disconnects.sum() - before.disconnects.sum(),
            connect_failures: now.failures.sum() - before.failures.sum(),
            verify_failures: now.verify_failures - before.verify_failures,
            unexpected_bytes: now.unexpected_bytes - before.unexpected_bytes,
            open,
            away: have_been.saturating_sub(open),
            requested: gauges.iter().map(|gauges| u64::from(gauges.requested)).sum(),
            under_way: of_echoes(
                now.messages_sent.saturating_sub(now.messages_echoed + now.messages_unanswered),
            ),
        };
        self.so_far = now;
    }
}

/// A group's counters over all workers. What was due in a window that is expected to be disrupted is no load, but what
/// counts for the whole run counts there, too.
fn counted(group: &Group, cells: &Range<usize>, workers: &[(&[Cell], &[GroupGauges])]) -> Counters {
    let steady_end = group.steady_cells(cells.start).end;
    let of =
        |range: Range<usize>| workers.iter().filter_map(move |(own, _)| own.get(range.clone())).flatten();
    let mut now = Counters::default();
    of(cells.start..steady_end).for_each(|cell| now.add(&cell.counters));
    for Cell { counters, .. } in of(steady_end..cells.end) {
        now.disconnects.add(&counters.disconnects);
        now.failures.add(&counters.failures);
        now.verify_failures += counters.verify_failures;
        now.unexpected_bytes += counters.unexpected_bytes;
    }
    now
}

impl Counts {
    /// Adds another group's.
    fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.sent += other.sent;
        self.echo_sent += other.echo_sent;
        self.echoed += other.echoed;
        self.bytes_due += other.bytes_due;
        self.payload_sent += other.payload_sent;
        self.payload_received += other.payload_received;
        self.disconnects += other.disconnects;
        self.connect_failures += other.connect_failures;
        self.verify_failures += other.verify_failures;
        self.unexpected_bytes += other.unexpected_bytes;
        self.open += other.open;
        self.away += other.away;
        self.requested += other.requested;
        self.under_way += other.under_way;
    }
}
