//! Disruptions that both sides have under the same mark, beside each other. Nothing of them is judged: one event a run is
//! no sample of which anything could be shown.

use std::collections::BTreeMap;

use scale_api::disruption::{Disruption, Recover};
use scale_api::units::thousands;
use serde::Serialize;

use super::run::Run;
use crate::render::seconds;

/// A disruption of all runs that have it.
#[derive(Debug, Clone, Serialize)]
pub struct Shared {
    /// The text of its mark.
    pub mark: String,
    /// Which one of this text in its run, from 1.
    pub number: u64,
    /// Of the runs before; one at least.
    pub base: Vec<Disruption>,
    /// Of the runs after; one at least.
    pub new: Vec<Disruption>,
}

/// Those that a run of each side has, as the first base has them, then as others do.
pub fn shared(base: &[Run], new: &[Run]) -> Vec<Shared> {
    let (before, after) = (by_mark(base), by_mark(new));
    let both = before.into_iter().filter_map(|((mark, number), (at, base))| {
        let (_, new) = after.get(&(mark, number))?;
        Some((at, Shared { mark: mark.to_owned(), number, base, new: new.clone() }))
    });
    let mut both: Vec<(f64, Shared)> = both.collect();
    both.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    both.into_iter().map(|(_, shared)| shared).collect()
}

type Key<'a> = (&'a str, u64);

/// By mark and which of its name, with when the first run has it.
fn by_mark(runs: &[Run]) -> BTreeMap<Key<'_>, (f64, Vec<Disruption>)> {
    let mut all = BTreeMap::<Key<'_>, (f64, Vec<Disruption>)>::new();
    for run in runs {
        let mut numbers = BTreeMap::<&str, u64>::new();
        for disruption in &run.report.disruptions {
            let Some(mark) = disruption.mark.as_deref() else { continue };
            let number = numbers.entry(mark).or_default();
            *number += 1;
            let (_, of_it) = all.entry((mark, *number)).or_insert_with(|| (disruption.at, Vec::new()));
            of_it.push(disruption.clone());
        }
    }
    all
}

/// How a value is written.
type Show = fn(f64) -> String;
/// A figure of a disruption.
type Read = fn(&Disruption) -> Option<f64>;

/// What is shown of each, where any run has it.
const FIGURES: [(&str, Read, Show); 11] = [
    ("dropped", |it| Some(it.streams_dropped as f64), count),
    ("share dropped", |it| it.share, percent),
    ("users affected", |it| it.users_affected.map(|users| users as f64), count),
    ("back p50", |it| recover(it, |recover| recover.p50), seconds),
    ("back p99", |it| recover(it, |recover| recover.p99), seconds),
    ("back max", |it| recover(it, |recover| recover.max), seconds),
    ("never back", |it| Some(it.never_back as f64), count),
    ("bytes lost", |it| Some(it.bytes_lost as f64), count),
    ("connects/s at most", |it| Some(it.storm.offered_per_second_max as f64), count),
    ("delivered meanwhile", |it| it.delivered_ratio, percent),
    ("response p99 meanwhile", |it| it.response_p99, seconds),
];

fn recover(it: &Disruption, of: fn(&Recover) -> f64) -> Option<f64> {
    it.recover.as_ref().map(of)
}

fn count(value: f64) -> String {
    if value.fract() == 0.0 { thousands(value as u64) } else { format!("{value:.1}") }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// For people; of several runs a side, means.
pub fn text(all: &[Shared]) -> Vec<String> {
    let mut lines = Vec::new();
    for shared in all {
        let number = if shared.number > 1 { format!(" ({})", shared.number) } else { String::new() };
        lines.push(format!("  \"{}\"{number}:", shared.mark));
        for (name, read, show) in FIGURES {
            let side = |of: &[Disruption]| {
                let values: Vec<f64> = of.iter().filter_map(read).collect();
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            let (base, new) = (side(&shared.base), side(&shared.new));
            if base.is_some() || new.is_some() {
                let value = |value: Option<f64>| value.map_or("-".into(), show);
                lines.push(format!("  {name:<26} {:>12} {:>12}", value(base), value(new)));
            }
        }
    }
    if !lines.is_empty() {
        lines.splice(0..0, [String::new(), "disruptions under the same mark (not judged):".into()]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use scale_api::report::Report;

    use super::*;

    fn run(id: &str, disruptions: &[(Option<&str>, u64, f64)]) -> Run {
        let one = |&(mark, dropped, p99): &(Option<&str>, u64, f64)| Disruption {
            at: p99,
            mark: mark.map(str::to_owned),
            streams: 100,
            streams_dropped: dropped,
            share: Some(dropped as f64 / 100.0),
            recover: (dropped > 0).then(|| Recover { p99, ..Recover::default() }),
            ..Disruption::default()
        };
        let disruptions = disruptions.iter().map(one).collect();
        Run::new(id.into(), Report { disruptions, ..Report::default() })
    }

    #[test]
    fn those_of_the_same_mark_stand_beside_each_other_and_others_nowhere() {
        let base = [
            run(
                "a",
                &[
                    (Some("kill 1"), 25, 8.0),
                    (None, 9, 1.0),
                    (Some("drain"), 0, 9.0),
                    (Some("kill 1"), 26, 9.5),
                ],
            ),
            run("b", &[(Some("kill 1"), 24, 9.0), (Some("only here"), 1, 1.0)]),
        ];
        let new =
            [run("c", &[(Some("drain"), 30, 2.0), (Some("kill 1"), 25, 4.0), (Some("kill 1"), 5, 5.0)])];
        let all = shared(&base, &new);
        let of = |it: &Shared| (it.mark.clone(), it.number, it.base.len(), it.new.len());
        assert_eq!(
            all.iter().map(of).collect::<Vec<_>>(),
            [("kill 1".into(), 1, 2, 1), ("drain".into(), 1, 1, 1), ("kill 1".into(), 2, 1, 1)]
        );
        let text = text(&all).join("\n");
        for line in [
            "  \"kill 1\":",
            "  dropped                            24.5           25",
            "  back p99                          8.5 s        4.0 s",
            "  \"kill 1\" (2):",
            "  back p99                              -        2.0 s",
        ] {
            assert!(text.lines().any(|it| it == line), "{line:?} is missing:\n{text}");
        }
        assert!(!text.contains("users affected") && !text.contains("only here"), "{text}");
        assert!(super::text(&shared(&base, &[])).is_empty());
    }
}
