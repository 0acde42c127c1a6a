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

/// Adds up `workers`: each one's cells and gauges. What was due in `aside`, windows in seconds since the run's start one
/// behind the other, is no load, and these seconds are none of steady state.
pub fn add_up(
    plan: &Plan,
    workers: &[(&[Cell], &[GroupGauges])],
    ended: &OpenAtEnd,
    aside: &[(f64, f64)],
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
        let spans = outside((begin, begin + steady), aside);
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
            let from = begin + before;
            let seconds = (steady - before).clamp(0.0, length);
            let seconds = covered(outside((from, from + seconds), aside));
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
    use super::*;

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
