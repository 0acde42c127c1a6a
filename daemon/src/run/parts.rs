//! Cells and gauges of all workers, added up by group, target and stage: the parts of a report.
//!
//! Each cell is in exactly one group, one target and (but for what came before steady) one stage,
//! so the counters of groups and of targets add up to the whole.

use std::collections::BTreeMap;

use scale_api::report::{Part, Report};

use super::plan::Plan;
use super::result::{CellOf, Streams, Sum};
use crate::load::{Group, Traffic};
use crate::stream::meter::Cell;
use crate::worker::share::GroupGauges;

/// Open streams at the end of a stage, by group and stage (from 1), as far as stages have ended.
pub type OpenAtEnd = BTreeMap<(usize, usize), u64>;

/// The most streams that were open at a second's end: of the run, and of each group.
#[derive(Debug, Clone, Default)]
pub struct OpenMax {
    whole: u64,
    groups: Vec<u64>,
}

impl OpenMax {
    /// Takes how many of each group are open.
    pub fn take(&mut self, open: &[u64]) {
        self.whole = self.whole.max(open.iter().sum());
        self.groups.resize(open.len(), 0);
        self.groups.iter_mut().zip(open).for_each(|(most, now)| *most = (*most).max(*now));
    }

    /// Puts it into the report.
    pub fn note(&self, report: &mut Report) {
        report.load.streams_open_max = Some(self.whole);
        for (part, most) in report.groups.iter_mut().zip(&self.groups) {
            part.load.streams_open_max = Some(*most);
        }
    }
}

/// A run's figures, added up.
pub struct Parts {
    /// Everything.
    pub whole: Sum,
    /// Streams of all groups.
    pub streams: Streams,
    /// Time in which any group was steady, pauses and windows that were expected to be disrupted left out.
    pub steady_seconds: f64,
    /// Any group has been steady.
    pub was_steady: bool,
    /// By group.
    pub groups: Vec<Part>,
    /// By target; groups that share one are added up.
    pub targets: Vec<Part>,
    /// By group and stage.
    pub stages: Vec<Part>,
}

#[derive(Default)]
struct TargetSum {
    sum: Sum,
    streams: Streams,
    steady: Vec<(f64, f64)>,
}

/// What is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Counters and histograms.
    All,
    /// Counters alone, which is cheap.
    Counters,
}

/// What of a run is none of steady state though its groups were: in seconds since its start, one behind the other.
#[derive(Debug, Clone, Copy)]
pub struct LeftOut<'a> {
    /// Pauses: they shift what is still ahead. One that goes on has no end.
    pub pauses: &'a [(f64, f64)],
    /// Windows that were expected to be disrupted: what was due in them is no load.
    pub expected: &'a [(f64, f64)],
}

/// Adds up `workers`: each one's cells and gauges.
pub fn add_up(
    plan: &Plan,
    workers: &[(&[Cell], &[GroupGauges])],
    ended: &OpenAtEnd,
    left_out: LeftOut<'_>,
    depth: Depth,
) -> Parts {
    let mut parts = Parts {
        whole: Sum::default(),
        streams: Streams::default(),
        steady_seconds: 0.0,
        was_steady: false,
        groups: Vec::new(),
        targets: Vec::new(),
        stages: Vec::new(),
    };
    let mut targets: Vec<(String, TargetSum)> = Vec::new();
    let mut steady_all = Vec::new();
    let mut first_cell = 0;
    for (index, group) in plan.groups.iter().enumerate() {
        let cells = group.cells(first_cell);
        let mut sum = Sum::default();
        let mut stage_sums = vec![Sum::default(); group.stages.len()];
        let mut target_sums = vec![Sum::default(); group.targets.len()];
        for (own, _) in workers {
            for (offset, cell) in own.iter().skip(cells.start).take(cells.len()).enumerate() {
                let (stage, target) = (group.stage_of(offset), offset % group.targets.len());
                let of = cell_of(group, stage);
                for sum in [&mut sum, &mut target_sums[target], &mut parts.whole]
                    .into_iter()
                    .chain(stage.checked_sub(1).and_then(|stage| stage_sums.get_mut(stage)))
                {
                    sum.count(&cell.counters, stage, of);
                    if depth == Depth::All {
                        sum.sample(&cell.histograms, stage);
                    }
                }
            }
        }
        first_cell = cells.end;
        let gauges = || workers.iter().filter_map(|(_, groups)| groups.get(index));
        let steady = gauges().map(|gauges| gauges.steady_ns).max().unwrap_or(0) as f64 / 1e9;
        let begin = (group.start_ns + group.ramp_ns + group.warm_up_ns) as f64 / 1e9;
        let LeftOut { pauses, expected } = left_out;
        let is_load = |spans: Vec<(f64, f64)>| -> Vec<(f64, f64)> {
            spans.into_iter().flat_map(|span| outside(span, expected)).collect()
        };
        let running = running(begin, steady, pauses);
        let spans = is_load(running.clone());
        parts.was_steady |= steady > 0.0;
        steady_all.extend_from_slice(&spans);
        let open = |target: usize| gauges().filter_map(|g| g.open.get(target)).map(|&n| u64::from(n)).sum();
        let streams = Streams {
            requested: gauges().map(|gauges| u64::from(gauges.requested_max)).sum(),
            opened: gauges().map(|gauges| u64::from(gauges.opened)).sum(),
            open_at_end: (0..group.targets.len()).map(open).sum(),
        };
        parts.streams.add(streams);
        let reached = gauges().map(|gauges| gauges.stage).max().unwrap_or(0);
        let mut before = 0.0;
        for (number, stage_sum) in stage_sums.iter().enumerate() {
            let stage = &group.stages[number];
            let length = stage.hold_ns.map_or(f64::INFINITY, |hold| (hold + stage.over_ns) as f64 / 1e9);
            let until = before + (steady - before).clamp(0.0, length);
            let seconds = covered(is_load(part_of(&running, (before, until))));
            before += length;
            let number = number + 1;
            let requested = if number <= reached { u64::from(stage.conns) } else { 0 };
            let streams = Streams {
                requested,
                opened: streams.opened.min(requested),
                open_at_end: match ended.get(&(index, number)) {
                    _ if number >= reached => streams.open_at_end.min(requested),
                    open => open.copied().unwrap_or(0),
                },
            };
            parts.stages.push(Part {
                name: format!("{}/{number}", group.name),
                load: stage_sum.load(streams, seconds),
                latency: stage_sum.latency(),
            });
        }
        parts.groups.push(Part {
            name: group.name.to_string(),
            load: sum.load(streams, covered(spans.clone())),
            latency: sum.latency(),
        });
        for (target, (name, sum)) in group.targets.iter().zip(target_sums).enumerate() {
            let streams = Streams {
                requested: requested(plan, group, target, streams.requested),
                opened: sum.all.connects - sum.all.reconnects - sum.all.replaced,
                open_at_end: open(target),
            };
            let place = targets.iter().position(|(known, _)| **known == **name).unwrap_or_else(|| {
                targets.push((name.to_string(), TargetSum::default()));
                targets.len() - 1
            });
            let all = &mut targets[place].1;
            all.sum.merge(&sum);
            all.streams.add(streams);
            all.steady.extend_from_slice(&spans);
        }
    }
    parts.steady_seconds = covered(steady_all);
    let part = |(name, all): (String, TargetSum)| Part {
        name,
        load: all.sum.load(all.streams, covered(all.steady)),
        latency: all.sum.latency(),
    };
    parts.targets = targets.into_iter().map(part).collect();
    parts
}

/// What a cell of `group` belongs to.
pub fn cell_of(group: &Group, stage: usize) -> CellOf {
    let stage = &group.stages[stage.saturating_sub(1)];
    CellOf {
        echo: group.traffic == Traffic::Echo,
        tick_bytes: stage.message.bytes_per_second(stage.tick_ns) * stage.tick_ns as f64 / 1e9,
    }
}

/// How many of the group's first `streams` streams talk to `target`.
fn requested(plan: &Plan, group: &Group, target: usize, streams: u64) -> u64 {
    let ours = |row: &&u32| usize::from(plan.endpoints[**row as usize].target) == target;
    let (length, first) = (group.pattern.len(), group.first_stream as usize % group.pattern.len());
    let (rounds, rest) = (streams / length as u64, (streams % length as u64) as usize);
    let whole = group.pattern.iter().filter(ours).count() as u64;
    rounds * whole + group.pattern.iter().cycle().skip(first).take(rest).filter(ours).count() as u64
}

/// When what is planned for `begin`, and for so many seconds, has been: a pause before it shifts it, and one within
/// is no part of it.
fn running(begin: f64, seconds: f64, pauses: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let (mut at, mut left, mut spans) = (begin, seconds, Vec::with_capacity(pauses.len() + 1));
    for &(from, until) in pauses {
        if from < at {
            at += until - from;
        } else {
            let until_pause = (from - at).min(left);
            spans.push((at, at + until_pause));
            left -= until_pause;
            at = until;
        }
    }
    spans.push((at, at + left));
    spans.retain(|(from, to)| from < to);
    spans
}

/// What of `spans` lies from so many to so many seconds into them.
fn part_of(spans: &[(f64, f64)], (from, to): (f64, f64)) -> Vec<(f64, f64)> {
    let mut before = 0.0;
    let mut part = Vec::with_capacity(spans.len());
    for &(begin, end) in spans {
        let length = end - begin;
        let at = |seconds: f64| begin + (seconds - before).clamp(0.0, length);
        part.push((at(from), at(to)));
        before += length;
    }
    part.retain(|(from, to)| from < to);
    part
}

/// What of a span is in none of `windows`, which come one behind the other.
fn outside((from, to): (f64, f64), windows: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut left = Vec::with_capacity(windows.len() + 1);
    let mut at = from;
    for &(begin, end) in windows {
        if begin > at {
            left.push((at, begin.min(to)));
        }
        at = at.max(end);
    }
    left.push((at, to));
    left.retain(|(from, to)| from < to);
    left
}

/// Seconds that are in any of `spans`.
fn covered(mut spans: Vec<(f64, f64)>) -> f64 {
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut sum, mut until) = (0.0, 0.0_f64);
    for (from, to) in spans {
        sum += (to - from.max(until)).max(0.0);
        until = until.max(to);
    }
    sum
}

#[cfg(test)]
mod tests {
    use scale_api::spec::Spec;
    use scale_ring::Time;

    use super::*;
    use crate::load::Random;
    use crate::worker::share::GroupPhase;
    use crate::worker::timeline::Timeline;

    /// Ten seconds before steady state, then two stages of 60 s.
    fn plan() -> Plan {
        let text = "[[group]]\ntarget = [\"ws://127.0.0.1:9/\"]\nconns = 10\nramp = \"5s\"\nwarm_up = \"5s\"\n\
                    duration = \"60s\"\n[[group.stage]]\nconns = 20\nhold = \"60s\"\n";
        let spec = Spec::from_toml(text, "run.toml").expect("a run");
        let mut resolve = |_: &str, port: u16| Ok(vec![std::net::SocketAddr::from(([127, 0, 0, 1], port))]);
        Plan::new(&spec, &crate::run::plan::tests::host(), &Default::default(), &mut resolve).expect("a plan")
    }

    /// Seconds of the run and of its stages, where a worker has been steady for so long.
    fn seconds(plan: &Plan, steady: f64, left_out: LeftOut<'_>) -> [f64; 3] {
        const BYTES: u64 = 1_000_000;
        let group = &plan.groups[0];
        assert_eq!(group.stages.len(), 2);
        let mut cells = vec![Cell::default(); group.cells(0).len()];
        (1..=2).for_each(|stage| cells[stage].counters.payload_sent = BYTES);
        let gauges = [GroupGauges { steady_ns: (steady * 1e9) as u64, stage: 2, ..GroupGauges::default() }];
        let parts = add_up(plan, &[(&cells, &gauges)], &OpenAtEnd::new(), left_out, Depth::Counters);
        let of = |part: &Part| part.load.rate_sent.map_or(0.0, |rate| BYTES as f64 / rate);
        [parts.steady_seconds, of(&parts.stages[0]), of(&parts.stages[1])]
    }

    #[test]
    fn a_pause_and_a_window_that_overlap_are_left_out_once() {
        let plan = plan();
        for (pauses, expected, steady, wanted) in [
            (&[(60.0, 90.0)][..], &[(50.0, 110.0)][..], 120.0, [90.0, 40.0, 50.0]),
            (&[(60.0, 90.0)], &[(130.0, 190.0)], 120.0, [90.0, 60.0, 30.0]),
            // In the ramp: all that is ahead shifts.
            (&[(2.0, 32.0)], &[(100.0, 105.0)], 120.0, [115.0, 60.0, 55.0]),
            // It goes on.
            (&[(60.0, f64::INFINITY)], &[(55.0, 115.0)], 50.0, [45.0, 45.0, 0.0]),
            (&[(4.0, f64::INFINITY)], &[], 0.0, [0.0; 3]),
        ] {
            let seconds = seconds(&plan, steady, LeftOut { pauses, expected });
            let is_close = seconds.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-3);
            assert!(is_close, "{seconds:?}, not {wanted:?}: {pauses:?} {expected:?}");
        }
    }

    /// As a worker's time line goes, quarter by quarter of a second.
    #[test]
    fn seconds_are_those_in_which_the_time_line_was_steady() {
        let (plan, mut random) = (plan(), Random::new(3));
        let group = &plan.groups[0];
        for _ in 0..200 {
            let mut times = |count: u64, shift: f64| -> Vec<(f64, f64)> {
                let mut at = 0.0;
                (0..random.below(count))
                    .map(|_| {
                        let from = at + random.below(60) as f64 + shift;
                        at = (from - shift) + 1.0 + random.below(40) as f64;
                        (from, at + shift)
                    })
                    .collect()
            };
            // What begins with a pause has begun.
            let (pauses, expected) = (times(4, 0.25), times(4, 0.0));
            let is_in = |all: &[(f64, f64)], at: f64| all.iter().any(|&(from, to)| from <= at && at < to);
            let mut timeline = Timeline::new(group, 0, Time::ZERO, 0, 1);
            let (mut steady, mut wanted) = (0.0, [0.0; 3]);
            for quarter in 0..random.below(1200) {
                let (at, now) = (quarter as f64 / 4.0, Time::from_ns(quarter * 250_000_000));
                match (timeline.is_paused(), is_in(&pauses, at)) {
                    (false, true) => timeline.pause(now),
                    (true, false) => timeline.resume(now),
                    _ => {}
                }
                while now >= timeline.next_step() && timeline.phase < GroupPhase::Draining {
                    timeline.step(group, now);
                }
                let end = Time::from_ns((quarter + 1) * 250_000_000);
                if timeline.phase == GroupPhase::Steady && !timeline.is_paused() && !is_in(&expected, at) {
                    [0, timeline.stage].iter().for_each(|&of| wanted[of] += 0.25);
                }
                steady = timeline.steady_ns(end) as f64 / 1e9;
            }
            let seconds = seconds(&plan, steady, LeftOut { pauses: &pauses, expected: &expected });
            let is_close = seconds.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-3);
            assert!(is_close, "{seconds:?}, not {wanted:?}: {pauses:?} {expected:?}");
        }
    }

    #[test]
    fn windows_that_were_expected_are_cut_out_of_a_span() {
        let windows = [(1.0, 2.0), (4.0, 6.0), (6.0, 7.0)];
        assert_eq!(outside((0.0, 10.0), &windows), [(0.0, 1.0), (2.0, 4.0), (7.0, 10.0)]);
        assert_eq!(outside((1.5, 5.0), &windows), [(2.0, 4.0)]);
        assert_eq!(outside((4.5, 6.5), &windows), []);
        assert_eq!(outside((2.0, 3.0), &windows), [(2.0, 3.0)]);
        assert_eq!(outside((0.0, 0.0), &[]), []);
        assert_eq!(outside((3.0, 9.0), &[]), [(3.0, 9.0)]);
    }

    #[test]
    fn time_in_which_two_groups_are_steady_is_counted_once() {
        let close = |spans: &[(f64, f64)], seconds: f64| (covered(spans.to_vec()) - seconds).abs() < 1e-9;
        assert!(close(&[], 0.0) && close(&[(1.0, 3.0)], 2.0));
        assert!(close(&[(5.0, 6.0), (1.0, 3.0)], 3.0), "one after the other");
        assert!(close(&[(1.0, 4.0), (2.0, 3.0), (3.0, 6.0)], 5.0), "one within another, one overlapping");
    }
}
