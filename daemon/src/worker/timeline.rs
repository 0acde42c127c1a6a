//! One group's time line on one worker: waiting, ramping, warming up, steady stage by stage,
//! draining, done. Boundaries are fixed points, not "now", so all workers change at the same
//! time; pausing shifts what is still ahead.

use std::collections::VecDeque;

use scale_ring::Time;

use crate::load::{Group, MessageSize};
use crate::stream::flow::Standing;

use super::share::GroupPhase;

/// When streams are launched: evenly over a span, by their number over all workers.
#[derive(Debug, Clone, Copy)]
struct Launch {
    base: Time,
    /// Local streams launched before.
    from: u32,
    /// `count` streams, of all workers, take `span_ns`.
    span_ns: u64,
    count: u32,
}

/// A group on a worker.
#[derive(Debug)]
pub struct Timeline {
    /// Where it stands.
    pub phase: GroupPhase,
    /// 0: before steady; else the stage's number.
    pub stage: usize,
    /// Tick in force, ns.
    pub tick_ns: u64,
    /// Message in force.
    pub message: MessageSize,
    /// Counts the grids: a changed tick starts a new one.
    pub grid: u32,
    /// Streams asked for now, of this worker.
    pub requested: u32,
    /// The most asked for so far.
    pub requested_max: u32,
    /// Local streams launched.
    pub launched: u32,
    /// Slab indices of the local streams, by local number.
    pub streams: Vec<u32>,
    /// Connects under way.
    pub connecting: u32,
    /// Streams that have been open.
    pub opened: u32,
    /// Streams by standing.
    pub standing: [u32; Standing::COUNT],
    /// Open streams by target; from the drain on, those that were open at its beginning.
    pub open: Vec<u32>,
    /// Attempts to connect that are left, by target; `None`: as many as there may be.
    pub permits: Vec<Option<u32>>,
    /// Local streams below this are due, open or not. What a step adds over time is due from its
    /// opening on, and in any case when that time is over.
    pub due_below: u32,
    /// No reconnect before this.
    pub reconnect_next: Time,
    /// Streams whose wait is over and that are held by the rate of reconnects alone, whoever came first in front.
    pub coming: VecDeque<u32>,
    /// The next stream is replaced then.
    pub churn_next: Time,
    /// Where the search for a stream to replace goes on.
    pub churn_cursor: usize,
    /// End of the drain.
    pub drain_until: Time,
    /// Streams that the drain has been to; some more in each turn.
    pub drained: usize,
    /// The drain's end has come: what is still open closes, answered or not.
    pub finishing: bool,
    first_cell: usize,
    targets: usize,
    worker: u32,
    workers: u32,
    /// The grids' origin: the group's start, or where the tick was changed last.
    origin: Time,
    launch: Launch,
    begin: Time,
    ramp_end: Time,
    steady_at: Time,
    /// Beginning of each stage so far; index 0 is everything before.
    stage_from: Vec<Time>,
    /// Stages that the plan has.
    stages: usize,
    /// Windows that are expected to be disrupted, oldest first, with their numbers: what is due in them is counted aside.
    asides: Vec<(usize, Time, Time)>,
    /// End of the last of them; what is due from then on needs no look at them.
    aside_until: Time,
    /// Where what happens now is counted: the stage, or aside.
    row_now: usize,
    over_until: Time,
    hold_until: Time,
    step_next: Time,
    conns: u32,
    conns_before: u32,
    rate_before: u64,
    end: Time,
    paused: Option<Time>,
    /// The last pause: what was due in it is not.
    pause: (Time, Time),
    /// Time paused within steady, in ns.
    paused_ns: u64,
}

/// What a step of the time line asks the worker to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Every stream is due from this point on, open or not.
    ArmAll(Time),
    /// Streams beyond `requested` are to be closed.
    Shrink,
    /// The drain is over: close everything.
    Finish,
}

impl Timeline {
    /// A rate that changes over time is set anew this often.
    const STEP_NS: u64 = 1_000_000_000;

    /// `group` as worker `worker` of `workers` sees it, when the run starts at `start`.
    pub fn new(group: &Group, first_cell: usize, start: Time, worker: u32, workers: u32) -> Self {
        let begin = start.plus_ns(group.start_ns);
        let ramp_end = begin.plus_ns(group.ramp_ns);
        let base = &group.stages[0];
        Self {
            phase: GroupPhase::Waiting,
            stage: 0,
            tick_ns: base.tick_ns,
            message: base.message,
            grid: 0,
            requested: 0,
            requested_max: 0,
            launched: 0,
            streams: Vec::new(),
            connecting: 0,
            opened: 0,
            standing: [0; Standing::COUNT],
            open: vec![0; group.targets.len()],
            permits: vec![None; group.targets.len()],
            due_below: 0,
            reconnect_next: Time::ZERO,
            coming: VecDeque::new(),
            churn_next: Time::NEVER,
            churn_cursor: 0,
            drain_until: Time::NEVER,
            drained: 0,
            finishing: false,
            first_cell,
            targets: group.targets.len(),
            worker,
            workers,
            origin: begin,
            launch: Launch { base: begin, from: 0, span_ns: group.ramp_ns, count: group.conns.max(1) },
            begin,
            ramp_end,
            steady_at: ramp_end.plus_ns(group.warm_up_ns),
            stage_from: vec![Time::ZERO],
            stages: group.stages.len(),
            asides: Vec::new(),
            aside_until: Time::ZERO,
            row_now: 0,
            over_until: Time::NEVER,
            hold_until: Time::NEVER,
            step_next: Time::NEVER,
            conns: group.conns,
            conns_before: group.conns,
            rate_before: base.bytes_per_second.unwrap_or(0),
            end: Time::NEVER,
            paused: None,
            pause: (Time::NEVER, Time::NEVER),
            paused_ns: 0,
        }
    }

    /// The cell in which what was due at `due` counts.
    #[inline]
    pub fn cell(&self, due: Time, target: u16) -> usize {
        if due < self.aside_until
            && let Some(row) = self.aside(due)
        {
            return self.first_cell + row * self.targets + usize::from(target);
        }
        let mut stage = self.stage;
        while due < self.stage_from[stage] {
            stage -= 1;
        }
        self.first_cell + stage * self.targets + usize::from(target)
    }

    /// The cell in which what happens now counts.
    #[inline]
    pub fn cell_now(&self, target: u16) -> usize {
        self.first_cell + self.row_now * self.targets + usize::from(target)
    }

    /// Whether what is counted in `cell` counts as steady.
    #[inline]
    pub const fn is_steady(&self, cell: usize) -> bool {
        (cell - self.first_cell).wrapping_sub(self.targets) < self.stages * self.targets
    }

    /// The row of cells for what is due within a window that is expected to be disrupted.
    #[cold]
    fn aside(&self, due: Time) -> Option<usize> {
        let &(window, ..) = self.asides.iter().rev().find(|&&(_, from, until)| from <= due && due < until)?;
        Some(self.stages + 1 + window % Group::ASIDE)
    }

    /// What is due in `from..until` is counted aside as the run's window of this number, which ends a window before
    /// that; without a number none begins. What has been counted until `from` stays where it is, which may be all.
    pub fn set_aside(&mut self, window: Option<usize>, from: Time, until: Time) {
        if let Some((.., end)) = self.asides.last_mut() {
            *end = (*end).min(from);
        }
        if let Some(window) = window.filter(|_| from < until) {
            self.asides.push((window, from, until));
        }
        self.aside_until = self.asides.last().map_or(Time::ZERO, |&(.., until)| until);
    }

    /// A turn begins: where what happens in it is counted.
    pub fn look(&mut self, now: Time) {
        self.row_now =
            if now < self.aside_until { self.aside(now).unwrap_or(self.stage) } else { self.stage };
    }

    /// Whether a grid point is due at all: before the end, and not within a pause.
    #[inline]
    pub fn is_due(&self, point: Time) -> bool {
        point < self.end
            && !(self.pause.0 <= point && point < self.pause.1)
            && self.paused.is_none_or(|paused| point < paused)
    }

    /// When the group ends, as far as is known.
    pub fn end(&self) -> Time {
        self.end
    }

    /// Whether grid points may still come.
    pub fn is_sending(&self) -> bool {
        matches!(self.phase, GroupPhase::Ramping | GroupPhase::WarmUp | GroupPhase::Steady)
    }

    /// The first point of stream `number`'s grid at or after `from`.
    pub fn first_point(&self, group: &Group, number: u32, seed: u64, from: Time) -> Time {
        let offset = group.tick_offset.of(u64::from(number), self.tick_ns, seed);
        crate::load::grid::first_point(self.origin.plus_ns(offset), self.tick_ns, from)
    }

    /// The number of this worker's `local`th stream over all workers, of this plan.
    pub const fn number(&self, local: u32) -> u32 {
        local * self.workers + self.worker
    }

    /// When the next stream is to be launched; `NEVER`: none, or paused.
    pub fn next_launch(&self) -> Time {
        if !self.is_sending() || self.paused.is_some() || self.launched >= self.requested {
            return Time::NEVER;
        }
        let Launch { base, from, span_ns, count } = self.launch;
        let ahead = u128::from((self.launched - from) * self.workers + self.worker);
        base.plus_ns((ahead * u128::from(span_ns) / u128::from(count)) as u64)
    }

    /// Time between two launches of this worker's.
    pub const fn launch_interval_ns(&self) -> u64 {
        let Launch { span_ns, count, .. } = self.launch;
        (span_ns as u128 * self.workers as u128 / count as u128) as u64
    }

    /// Whether a target gets any number of connects.
    pub fn is_free(&self, target: u16) -> bool {
        self.permits[usize::from(target)].is_none()
    }

    /// Whether a target gets no connect just now.
    pub fn is_held(&self, target: u16) -> bool {
        self.permits[usize::from(target)] == Some(0)
    }

    /// One attempt to connect to a target is made.
    pub fn spend(&mut self, target: u16) {
        if let Some(permits) = &mut self.permits[usize::from(target)] {
            *permits = permits.saturating_sub(1);
        }
    }

    /// It comes to nothing just yet.
    pub fn unspend(&mut self, target: u16) {
        if let Some(permits) = &mut self.permits[usize::from(target)] {
            *permits += 1;
        }
    }

    /// The next point at which `step` has something to do.
    pub fn next_step(&self) -> Time {
        if self.paused.is_some() && self.phase < GroupPhase::Draining {
            return Time::NEVER;
        }
        match self.phase {
            GroupPhase::Waiting => self.begin,
            GroupPhase::Ramping => self.ramp_end,
            GroupPhase::WarmUp => self.steady_at,
            GroupPhase::Steady => self.step_next.min(self.over_until).min(self.hold_until),
            GroupPhase::Draining => self.drain_until,
            GroupPhase::Done => Time::NEVER,
        }
    }

    /// Whether the next step is the group's end.
    pub fn ends_next(&self, group: &Group) -> bool {
        self.phase == GroupPhase::Steady
            && self.stage == group.stages.len()
            && self.hold_until <= self.over_until.min(self.step_next)
    }

    /// Takes at most one step that is due at `now`.
    pub fn step(&mut self, group: &Group, now: Time) -> Option<Step> {
        if now < self.next_step() {
            return None;
        }
        match self.phase {
            GroupPhase::Waiting => {
                self.phase = GroupPhase::Ramping;
                // As many as the plan says, or as have been set since.
                self.request(Group::share(self.conns, self.worker, self.workers));
                if group.churn_milli > 0 {
                    self.churn_next = self.steady_at.plus_ns(self.churn_interval(group));
                }
            }
            GroupPhase::Ramping => self.phase = GroupPhase::WarmUp,
            GroupPhase::WarmUp => {
                let at = self.steady_at;
                self.phase = GroupPhase::Steady;
                return Some(self.enter(group, 1, at));
            }
            GroupPhase::Steady => return self.step_steady(group, now),
            GroupPhase::Draining => return Some(Step::Finish),
            GroupPhase::Done => {}
        }
        None
    }

    /// ns between two replaced streams of this worker.
    pub const fn churn_interval(&self, group: &Group) -> u64 {
        1_000_000_000_000 * self.workers as u64 / group.churn_milli
    }

    fn enter(&mut self, group: &Group, number: usize, at: Time) -> Step {
        let stage = &group.stages[number - 1];
        if self.row_now == self.stage {
            self.row_now = number;
        }
        self.stage = number;
        self.stage_from.push(at);
        self.conns_before = self.conns;
        self.over_until = if stage.over_ns > 0 { at.plus_ns(stage.over_ns) } else { Time::NEVER };
        self.hold_until = stage.hold_ns.map_or(Time::NEVER, |hold| at.plus_ns(stage.over_ns).plus_ns(hold));
        self.end = if number == group.stages.len() { self.hold_until } else { Time::NEVER };
        let span = if stage.over_ns > 0 { Some(stage.over_ns) } else { None };
        let before = self.requested;
        // Steady state of the base load changes nothing: what was set before it stays.
        let is_base = number == 1 && stage.over_ns == 0;
        let conns = if is_base && stage.conns == group.conns { self.conns } else { stage.conns };
        let shrunk = self.set_conns(group, conns, at, span);
        self.due_below = if stage.over_ns == 0 { self.requested } else { before };
        if stage.over_ns == 0 {
            if !is_base {
                self.set_pace(stage.tick_ns, stage.message, at);
                self.rate_before = stage.bytes_per_second.unwrap_or(self.rate_before);
            }
            self.step_next = Time::NEVER;
            if shrunk {
                return Step::Shrink;
            }
        } else {
            self.step_next = at.plus_ns(Self::STEP_NS);
        }
        Step::ArmAll(at)
    }

    fn step_steady(&mut self, group: &Group, now: Time) -> Option<Step> {
        let stage = &group.stages[self.stage - 1];
        if now >= self.hold_until {
            if self.stage < group.stages.len() {
                let at = self.hold_until;
                return Some(self.enter(group, self.stage + 1, at));
            }
            self.end = self.hold_until;
            self.start_drain(group, self.end);
            return None;
        }
        if now >= self.over_until {
            let at = self.over_until;
            (self.over_until, self.step_next) = (Time::NEVER, Time::NEVER);
            self.set_pace(stage.tick_ns, stage.message, at);
            self.rate_before = stage.bytes_per_second.unwrap_or(self.rate_before);
            self.set_conns(group, stage.conns, at, None);
            self.due_below = self.requested;
            return Some(Step::ArmAll(at));
        }
        // Within `over`: rate and shrinking conns follow a straight line in steps of a second.
        let at = self.step_next;
        self.step_next = at.plus_ns(Self::STEP_NS);
        // From the end, which pauses have shifted; the stage's beginning they have not.
        let done = stage.over_ns.saturating_sub(self.over_until.ns_since(at));
        if let Some(target) = stage.bytes_per_second {
            let from = i128::from(self.rate_before);
            let rate = from + (i128::from(target) - from) * i128::from(done) / i128::from(stage.over_ns);
            if let Some(message) = MessageSize::from_rate(rate as u64, stage.tick_ns) {
                self.set_pace(stage.tick_ns, message, at);
            }
        }
        if stage.conns < self.conns_before {
            let gone = u64::from(self.conns_before - stage.conns);
            let gone = (u128::from(gone) * u128::from(done) / u128::from(stage.over_ns)) as u32;
            self.set_conns(group, self.conns_before - gone, at, None);
            return Some(Step::Shrink);
        }
        None
    }

    /// Asks for `conns` streams in all; new ones come evenly over `span_ns`, or at the connect
    /// rate. True where there are now fewer.
    pub fn set_conns(&mut self, group: &Group, conns: u32, at: Time, span_ns: Option<u64>) -> bool {
        let before = std::mem::replace(&mut self.conns, conns);
        let local = Group::share(conns, self.worker, self.workers);
        let grown = u64::from(conns.saturating_sub(before).max(1));
        let span_ns = span_ns.unwrap_or_else(|| {
            (u128::from(grown) * 1_000_000_000_000 / u128::from(group.connect_rate_milli)) as u64
        });
        // More streams than are launched yet, or before the first one: they go on at the ramp's pace.
        let late = self.phase == GroupPhase::Waiting || self.next_launch() != Time::NEVER;
        if local > self.requested && !late {
            self.launch = Launch { base: at, from: self.launched, span_ns, count: grown as u32 };
        }
        let shrunk = local < self.requested;
        self.request(local);
        shrunk
    }

    fn request(&mut self, local: u32) {
        self.requested = local;
        self.requested_max = self.requested_max.max(local);
    }

    /// Another tick or message. Streams change over at their own next due time.
    pub fn set_pace(&mut self, tick_ns: u64, message: MessageSize, at: Time) {
        if tick_ns != self.tick_ns || message != self.message {
            if tick_ns != self.tick_ns {
                self.origin = at;
            }
            (self.tick_ns, self.message) = (tick_ns, message);
            self.grid += 1;
        }
    }

    /// Whether the drain has streams to go to.
    pub fn has_drain_work(&self) -> bool {
        self.phase == GroupPhase::Draining && self.drained < self.streams.len()
    }

    /// A stream of `target` opens, or is open no more.
    pub fn count_open(&mut self, target: u16, opens: bool) {
        if self.phase < GroupPhase::Draining {
            let open = &mut self.open[usize::from(target)];
            *open = if opens { *open + 1 } else { *open - 1 };
        }
    }

    fn start_drain(&mut self, group: &Group, at: Time) {
        self.phase = GroupPhase::Draining;
        self.drain_until = at.plus_ns(group.drain_ns);
        self.churn_next = Time::NEVER;
    }

    /// Ends the group now, unless it is over already.
    pub fn stop(&mut self, group: &Group, now: Time) {
        if self.phase < GroupPhase::Draining {
            self.end = self.end.min(self.paused.unwrap_or(now));
            self.start_drain(group, now);
        }
    }

    /// From `at` on nothing is due.
    pub fn pause(&mut self, at: Time) {
        if self.phase < GroupPhase::Draining {
            self.paused.get_or_insert(at);
        }
    }

    /// From `at` on it is again; everything ahead shifts.
    pub fn resume(&mut self, at: Time) {
        let Some(from) = self.paused.take() else { return };
        self.pause = (from, at);
        let by = at.ns_since(from);
        if self.stage > 0 {
            self.paused_ns += by;
        }
        let ahead = [
            &mut self.begin,
            &mut self.ramp_end,
            &mut self.steady_at,
            &mut self.over_until,
            &mut self.hold_until,
            &mut self.step_next,
            &mut self.end,
            &mut self.churn_next,
        ];
        for point in ahead {
            if *point > from && *point != Time::NEVER {
                *point = point.plus_ns(by);
            }
        }
        if self.launched < self.requested {
            self.launch.base = self.launch.base.plus_ns(by);
        }
    }

    /// Steady time so far, pauses left out, in ns.
    pub fn steady_ns(&self, now: Time) -> u64 {
        let Some(&from) = self.stage_from.get(1) else { return 0 };
        let until = self.paused.unwrap_or(now).min(self.end);
        until.ns_since(from).saturating_sub(self.paused_ns)
    }

    /// Whether the group is paused.
    pub const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }
}
