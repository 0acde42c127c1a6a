//! Thresholds over made-up seconds: windows against brute force, gaps, breaches that end a run, memory.

use std::net::SocketAddr;

use proptest::prelude::*;
use scale_api::report::{Load, Part};
use scale_api::spec::{GroupSpec, Spec, ThresholdSpec};
use scale_api::threshold::{Names, THRESHOLDS_MAX, WINDOW_MAX, WINDOWS_MAX};

use super::samples::VALUES_MAX;
use super::window::Counts;
use super::*;
use crate::run::plan::Plan;
use crate::run::targets::Permit;
use crate::stream::class::Class;
use crate::stream::flow::Standing;
use crate::worker::share::GroupPhase;

mod wait;

/// The cell of what was before steady state, that of its stage, and the first of those aside, of group 0; behind all of
/// them group 1 has as many.
const BEFORE: usize = 0;
const STEADY: usize = 1;
const ASIDE: usize = 2;
const CELLS: usize = ASIDE + Group::ASIDE;

fn groups(names: &[&str]) -> Arc<[Group]> {
    let group = |name: &&str| GroupSpec {
        name: (*name).into(),
        target: vec!["ws://127.0.0.1:9/".into()],
        conns: Some(10),
        ..GroupSpec::default()
    };
    let spec = Spec { group: names.iter().map(group).collect(), ..Spec::default() };
    let host = crate::run::plan::tests::host();
    let mut resolve = |_: &str, port: u16| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]);
    Plan::new(&spec, &host, &Permit::default(), &mut resolve).expect("a plan").groups
}

/// A second's state of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Ramp,
    Steady,
    Paused,
}

/// One worker whose seconds are made up.
struct Made {
    judge: Judge,
    cells: Vec<Cell>,
    gauges: Vec<GroupGauges>,
    at: u64,
    /// The seconds that come are in a window in which disruptions are expected.
    is_expected: bool,
    report: Report,
}

impl Made {
    fn new(names: &[&str], expressions: &[&str]) -> Self {
        let groups = groups(names);
        let known = Names { groups: names, observe: &["cpu"] };
        let parse = |text: &&str| Threshold::parse(text, &known).expect("a threshold");
        let parts = names.iter().map(|name| Part { name: (*name).into(), ..Part::default() });
        let mut report = Report { groups: parts.collect(), ..Report::default() };
        report.load.streams_requested = 10;
        Self {
            judge: Judge::new(expressions.iter().map(parse).collect(), groups.clone()),
            cells: vec![Cell::default(); CELLS * names.len()],
            gauges: vec![GroupGauges { requested: 10, ..GroupGauges::default() }; names.len()],
            at: 0,
            is_expected: false,
            report,
        }
    }

    /// A second passes: what each group's state is, what was counted, and samples in µs by cell.
    fn second(
        &mut self,
        states: &[State],
        count: impl FnOnce(&mut [Cell]),
        samples: &[(usize, Figure, u64)],
    ) -> Vec<ThresholdResult> {
        self.at += 1;
        count(&mut self.cells);
        for (gauges, state) in self.gauges.iter_mut().zip(states) {
            gauges.phase = if *state == State::Ramp { GroupPhase::Ramping } else { GroupPhase::Steady };
            gauges.stage = usize::from(*state != State::Ramp);
            gauges.steady_ns += if *state == State::Steady { 1_000_000_000 } else { 0 };
        }
        let mut histograms = vec![Histograms::default(); self.cells.len()];
        samples.iter().for_each(|(cell, figure, us)| histograms[*cell].record(*figure, us * 1000));
        let samples = self.judge.samples(&[&histograms]);
        let seen = Seen {
            at: self.at,
            seconds: 1,
            is_expected: self.is_expected,
            workers: &[(&self.cells, &self.gauges)],
            samples,
            busy: &[0.5],
            observe: &BTreeMap::from([("cpu".to_owned(), self.at as f64)]),
        };
        self.judge.take(&seen, Some(self.report.clone()));
        self.judge.standing()
    }

    fn steady(&mut self, samples: &[(usize, Figure, u64)]) -> Vec<ThresholdResult> {
        self.second(&vec![State::Steady; self.gauges.len()], |_| {}, samples)
    }
}

fn values(results: &[ThresholdResult]) -> Vec<(Option<f64>, Option<f64>, bool)> {
    results.iter().map(|result| (result.value, result.at, result.ok)).collect()
}

/// A made-up second: state, bytes received, streams lost, response times in µs.
type Row = (State, u64, u64, Vec<u64>);

fn row() -> impl Strategy<Value = Row> {
    let state = prop_oneof![12 => Just(State::Steady), 1 => Just(State::Ramp), 1 => Just(State::Paused)];
    // Histograms keep values below 2,048 µs as they are.
    (state, 0u64..100_000, 0u64..3, prop::collection::vec(1u64..2000, 0..20))
}

/// The worst of all full windows by trying them all: `wholly`, which seconds may be covered.
fn brute_force(
    rows: &[Row],
    length: usize,
    wholly: impl Fn(usize) -> bool,
    value: impl Fn(&[Row]) -> Option<f64>,
    worse: impl Fn(f64, f64) -> bool,
) -> Option<(f64, f64)> {
    let mut worst: Option<(f64, f64)> = None;
    for end in length..=rows.len() {
        if !(end - length..end).all(&wholly) {
            continue;
        }
        let Some(value) = value(&rows[end - length..end]) else { continue };
        if worst.is_none_or(|(other, _)| worse(value, other)) {
            worst = Some((value, end as f64));
        }
    }
    worst
}

fn p99(rows: &[Row]) -> Option<f64> {
    let mut all: Vec<u64> = rows.iter().flat_map(|(.., samples)| samples).copied().collect();
    all.sort_unstable();
    let rank = (all.len() as f64 * 0.99).ceil() as usize;
    all.get(rank.max(1) - 1).map(|&us| us as f64 / 1e6)
}

proptest! {
    #[test]
    fn the_worst_window_is_the_worst_of_all_windows(
        rows in prop::collection::vec(row(), 1..40), length in 1usize..7,
    ) {
        let expressions = [
            format!("response.p99 < 1ms over {length}s"),
            format!("load.rate_received >= 50KB/s over {length}s"),
            format!("main.disconnects.count < 2 over {length}s"),
        ];
        let mut made = Made::new(&["main"], &expressions.each_ref().map(String::as_str));
        let mut results = Vec::new();
        for (state, bytes, lost, samples) in &rows {
            let samples: Vec<_> = samples.iter().map(|&us| (STEADY, Figure::Response, us)).collect();
            results = made.second(&[*state], |cells| {
                cells[STEADY].counters.payload_received += bytes;
                cells[BEFORE].counters.disconnects.0[Class::Reset as usize] += lost;
            }, &samples);
        }
        // A second is wholly steady if the one before ended so.
        let steady = |at: usize| at > 0 && rows[at - 1].0 != State::Ramp && rows[at].0 == State::Steady;
        let more = |value: f64, other: f64| value > other;
        let expected = [
            brute_force(&rows, length, steady, p99, more),
            brute_force(&rows, length, steady, |rows| {
                Some(rows.iter().map(|(_, bytes, ..)| *bytes as f64).sum::<f64>() / length as f64)
            }, |value, other| value < other),
            brute_force(&rows, length, |_| true, |rows| {
                Some(rows.iter().map(|(_, _, lost, _)| *lost as f64).sum())
            }, more),
        ];
        let ok = [|v: f64| v < 0.001, |v: f64| v >= 50_000.0, |v: f64| v < 2.0];
        for ((result, worst), ok) in results.iter().zip(expected).zip(ok) {
            let wanted = worst.map_or((None, None, false), |(value, at)| (Some(value), Some(at), ok(value)));
            prop_assert_eq!((result.value, result.at, result.ok), wanted, "{}", result.expression);
        }
        prop_assert_eq!(made.judge.results(&Report::default()), results);
    }
}

#[test]
fn what_was_expected_to_be_disrupted_is_in_no_window_but_its_losses_are() {
    let expressions = [
        "load.rate_sent >= 10B/s over 2s",
        "load.delivered_ratio >= 100% over 2s",
        "disconnects.count < 9 over 2s",
        "response.p99 < 1ms over 2s",
    ];
    let mut made = Made::new(&["main"], &expressions);
    let mut results = Vec::new();
    for second in 0..12 {
        let samples = if second == 6 { vec![(ASIDE, Figure::Response, 9000)] } else { Vec::new() };
        made.is_expected = (5..8).contains(&second);
        results = made.second(
            &[State::Steady],
            |cells| {
                let is_aside = (5..8).contains(&second);
                let counters = &mut cells[if is_aside { ASIDE } else { STEADY }].counters;
                counters.ticks_due += 10;
                counters.ticks_sent += if is_aside { 1 } else { 10 };
                counters.payload_sent += if is_aside { 1 } else { 100 };
                counters.disconnects.0[Class::Reset as usize] += if is_aside { 5 } else { 0 };
                // What was sent in the window is answered long after it.
                cells[ASIDE].counters.payload_received += 1;
            },
            &samples,
        );
    }
    let is_met: Vec<bool> = results.iter().map(|result| result.ok).collect();
    assert_eq!(is_met, [true, true, false, false], "{results:?}");
    assert_eq!((results[0].value, results[1].value, results[3].value), (Some(100.0), Some(1.0), None));
}

#[test]
fn what_was_expected_ends_no_run_though_nothing_comes_in_it() {
    let mut made = Made::new(&["main"], &["load.rate_received >= 1KB/s over 5s abort"]);
    for second in 0..40 {
        made.is_expected = (10..25).contains(&second);
        let cell = if made.is_expected { ASIDE } else { STEADY };
        // Gone for eight seconds: nothing is counted anywhere.
        let bytes = if (12..20).contains(&second) { 0 } else { 2000 };
        made.second(&[State::Steady], |cells| cells[cell].counters.payload_received += bytes, &[]);
        assert_eq!(made.judge.end(made.at), None, "at second {second}");
        let is_full = (6..=9).contains(&second) || second >= 30;
        assert!(!is_full || made.judge.watches[0].now == Some(2000.0), "at second {second}");
    }
}

#[test]
fn a_pause_begins_windows_anew_and_stages_do_not() {
    let mut made = Made::new(&["main"], &["load.rate_sent > 1B/s over 2s", "disconnects.count < 9 over 2s"]);
    let mut full = Vec::new();
    use State::{Paused, Ramp, Steady};
    for state in [Ramp, Steady, Steady, Steady, Paused, Steady, Steady, Ramp] {
        let at = made.at + 1;
        let results = made.second(&[state], |cells| cells[STEADY].counters.payload_sent += 10 * at, &[]);
        full.push(values(&results)[0].1.filter(|_| made.judge.watches[0].now.is_some()));
        assert_eq!(made.judge.watches[1].now.is_some(), at >= 2, "losses count in every second");
    }
    // Second 2 began in the ramp; seconds 3 and 4 are the first two, 6 and 7 the next.
    assert_eq!(full, [None, None, None, Some(4.0), None, None, Some(4.0), None], "the worst stays the first");
    assert_eq!(values(&made.judge.standing())[0], (Some(35.0), Some(4.0), true));
}

#[test]
fn a_groups_threshold_sees_its_own_cells_and_the_runs_all_of_them() {
    let expressions = [
        "b.response.max < 1s over 1s",
        "response.count > 0 over 1s",
        "b.load.rate_sent > 0B/s over 1s",
        "load.rate_sent > 0B/s over 1s",
        "connect.count > 0 over 1s",
        "observe.cpu.last < 9 over 1s",
    ];
    let mut made = Made::new(&["a", "b"], &expressions);
    made.steady(&[]);
    let samples = [
        (STEADY, Figure::Response, 500),
        (CELLS + STEADY, Figure::Response, 700),
        (CELLS + BEFORE, Figure::Response, 9000), // due before b was steady
        (BEFORE, Figure::Connect, 5),
        (CELLS + STEADY, Figure::Connect, 5),
    ];
    made.second(
        &[State::Steady; 2],
        |cells| {
            (cells[STEADY].counters.payload_sent, cells[CELLS + STEADY].counters.payload_sent) = (100, 30);
        },
        &samples,
    );
    let now: Vec<_> = made.judge.watches.iter().map(|watch| watch.now).collect();
    assert_eq!(now, [Some(0.0007), Some(2.0), Some(30.0), Some(130.0), Some(2.0), Some(2.0)]);
    made.second(&[State::Steady, State::Ramp], |_| {}, &[]);
    let now: Vec<_> = made.judge.watches.iter().map(|watch| watch.now).collect();
    assert_eq!((now[2], now[3]), (None, Some(0.0)), "b is over, a goes on");
}

#[test]
fn the_whole_runs_figures_stand_as_they_are_so_far() {
    let expressions =
        ["response.p50 < 600us", "a.response.max < 1s", "load.echoed_ratio >= 99%", "tls.p50 < 1s"];
    let mut made = Made::new(&["a", "b"], &expressions);
    assert!(made.judge.reads_reports());
    made.report.load =
        Load { messages_sent: 100, messages_echoed: 80, echoed_ratio: Some(0.8), ..made.report.load.clone() };
    let of = |cell, us| (cell, Figure::Response, us);
    let samples = [of(STEADY, 500), of(STEADY, 550), of(CELLS + STEADY, 700)];
    let results = made.steady(&samples);
    assert_eq!(
        values(&results),
        [
            (Some(0.00055), None, true),
            (Some(0.00055), None, true),
            (Some(1.0), None, true),
            (None, None, false)
        ],
        "what is under way is not lost"
    );
    made.report.load.messages_unanswered = 20;
    assert_eq!(values(&made.steady(&[]))[2], (Some(0.8), None, false));
    let mut report = Report::default();
    report.load.echoed_ratio = Some(0.995);
    assert_eq!(
        values(&made.judge.results(&report))[2],
        (Some(0.995), None, true),
        "the report has the last word"
    );
}

#[test]
fn a_breach_ends_the_run_once_it_has_lasted() {
    let expressions = ["load.rate_sent >= 1KB/s over 2s abort after 2s", "response.max < 1s"];
    let mut made = Made::new(&["main"], &expressions);
    let sent = |made: &mut Made, bytes| {
        made.second(&[State::Steady], |cells| cells[STEADY].counters.payload_sent += bytes, &[]);
        made.judge.end(made.at)
    };
    // Windows end at 3 (2,000 B/s), 4 (1,000), 5 (550: breached), 6 (1,050: met again), then below for good.
    for bytes in [9000, 2000, 2000, 0, 1100, 1000] {
        assert_eq!(sent(&mut made, bytes), None);
    }
    assert_eq!(made.judge.watches[0].breached_since, None);
    assert_eq!((sent(&mut made, 100), sent(&mut made, 100)), (None, None), "breached since 7");
    assert_eq!(made.judge.ending(), None);
    let why = sent(&mut made, 300).expect("it has lasted for two seconds");
    assert_eq!(
        why,
        "threshold `load.rate_sent >= 1KB/s over 2s abort after 2s` ended the run at second 9: load.rate_sent was 0.2 KB/s"
    );
    assert_eq!((sent(&mut made, 0), made.judge.ending()), (None, Some(why)), "once");
    let result = &made.judge.results(&Report::default())[0];
    assert!(result.aborted && !result.ok, "{result:?}");
}

#[test]
fn a_breach_of_the_whole_run_ends_it_in_steady_state_alone_and_stays_failed() {
    let mut made = Made::new(&["main"], &["disconnects.count < 2 abort"]);
    made.report.load.disconnects.insert("reset".into(), 5);
    made.second(&[State::Ramp], |_| {}, &[]);
    assert_eq!(made.judge.end(1), None, "not before steady state");
    made.steady(&[]);
    assert!(made.judge.end(2).is_some_and(|why| why.contains("at second 2: disconnects.count was 5")));
    let result = &made.judge.results(&Report::default())[0];
    assert_eq!((result.value, result.at, result.ok, result.aborted), (Some(5.0), Some(2.0), false, true));
    assert_eq!(made.judge.standing()[0], *result);
}

#[test]
fn what_has_no_value_is_no_breach_and_is_not_met_at_the_end() {
    let mut made = Made::new(
        &["main"],
        &["tls.p50 < 1s abort", "tls.p50 < 1s over 1s abort", "connect.p50 < 1s over 5s"],
    );
    for _ in 0..3 {
        made.steady(&[]);
        assert_eq!(made.judge.end(made.at), None);
    }
    for result in made.judge.results(&Report::default()) {
        assert_eq!((result.value, result.at, result.ok), (None, None, false));
    }
}

#[test]
fn open_streams_are_those_of_the_gauges_and_of_a_drains_beginning() {
    let mut made = Made::new(&["main"], &["load.open_ratio >= 90% over 2s"]);
    // By target; 10 are asked for.
    for open in [[4, 6], [4, 6], [2, 4]] {
        made.gauges[0].open = open.to_vec();
        made.gauges[0].standing[Standing::Open as usize] = 0;
        made.steady(&[]);
    }
    assert_eq!(values(&made.judge.standing()), [(Some(0.8), Some(3.0), false)]);
}

#[test]
fn memory_has_a_limit_that_no_thresholds_get_beyond() {
    // A second has its samples once, whoever reads them.
    let lists = WINDOWS_MAX.ns() / 1_000_000_000 + THRESHOLDS_MAX as u64;
    let list = VALUES_MAX * size_of::<(u32, u32)>() + size_of::<Second>() + size_of::<Counts>();
    // A tree's node is at least half full; histograms have so many counts.
    let counts = Histograms::empty().distinct_values();
    let pool = counts * 2 * size_of::<(u32, u64)>();
    let whole = counts * size_of::<u64>();
    let most = lists as usize * list + THRESHOLDS_MAX * (pool + whole);
    assert!(most < 128 << 20, "{} MiB", most >> 20);
    // Seconds as bad as they can be, through the longest window: what is kept of them is within that.
    let over = format!("response.p99 < 1s over {WINDOW_MAX}");
    let mut made = Made::new(&["main"], &[&over, "response.p50 < 1s over 1m"]);
    let values: Vec<_> = (1..4000u64).map(|n| (STEADY, Figure::Response, n * n)).collect();
    for _ in 0..WINDOW_MAX.ns() / 1_000_000_000 + 5 {
        made.steady(&values);
    }
    let kept: Vec<usize> =
        made.judge.watches.iter().map(|watch| watch.window.as_ref().expect("one").kept()).collect();
    assert_eq!(kept[1] % 60, 0);
    assert!(kept[0] <= 600 * VALUES_MAX && kept[0] > 600 * VALUES_MAX / 4, "{kept:?}");
    assert!(made.judge.watches[0].now.is_some());
}

#[test]
fn presets_are_judged_like_any_other() {
    let mut spec = Spec { preset: vec![scale_api::threshold::Preset::CoderGates], ..Spec::default() };
    spec.group = vec![GroupSpec { name: "main".into(), ..GroupSpec::default() }];
    spec.threshold.push(ThresholdSpec { expression: "response.p99 < 1s".into() });
    let judge = Judge::new(spec.parsed_thresholds(), groups(&["main"]));
    assert_eq!(judge.watches.len(), 4);
    assert!(judge.reads_reports() && !Judge::new(Vec::new(), groups(&["main"])).reads_reports());
}
