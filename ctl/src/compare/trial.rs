//! Whether the method keeps its word, on runs whose truth is known: seconds that follow each other,
//! heavy tails, bursts of a noisy host, and a difference from run to run that no second shows.
//!
//! The same on real runs is `bench/compare-trial`; docs/compare.md has what came of it.

use scale_api::heat;
use scale_api::report::{Figure, Heat, Outcome, Report, SeriesRow};
use scale_api::spec::{GroupSpec, Spec};

use super::result::{Comparison, Evidence, Outcome as Verdict, Word};
use super::run::Run;
use super::statistics::random::Random;
use super::verdict::{Asked, compare};

/// Messages of a second; enough that the p99 of one is one of many.
const MESSAGES: u32 = 400;

/// How a host is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// Correlation of a second with the one before it.
    correlation: f64,
    /// Standard deviation of a second's level (ln).
    level: f64,
    /// Seconds in which a neighbour is noisy: share, and by how much their tails grow.
    bursts: (f64, f64),
    /// Standard deviation of a whole run's level (ln), which its seconds do not show.
    runs: f64,
}

pub(super) const QUIET: Weather = Weather { correlation: 0.3, level: 0.02, bursts: (0.0, 1.0), runs: 0.01 };
const USUAL: Weather = Weather { correlation: 0.6, level: 0.05, bursts: (0.03, 1.6), runs: 0.02 };
const STORMY: Weather = Weather { correlation: 0.7, level: 0.15, bursts: (0.15, 4.0), runs: 0.03 };

/// A run of `seconds` whose times are `factor` times those of others; 5 ms and a lognormal tail.
pub(super) fn run(id: u64, seconds: u32, factor: f64, weather: Weather) -> Run {
    let mut random = Random::new(id.wrapping_mul(0x9e37_79b9) ^ 0xc0ff_ee00);
    let base = 0.005 * factor * (weather.runs * random.normal()).exp();
    let fresh = (1.0 - weather.correlation * weather.correlation).sqrt();
    let mut level = random.normal();
    let mut burst = false;
    let (mut all, mut series) = (Vec::new(), Vec::new());
    for at in 0..seconds {
        level = weather.correlation * level + fresh * random.normal();
        // A burst lasts for two seconds on average.
        burst = random.uniform() < if burst { 0.5 } else { weather.bursts.0 / 2.0 };
        let tail = if burst { weather.bursts.1 } else { 1.0 };
        let center = base * (weather.level * level).exp();
        let mut times: Vec<f64> =
            (0..MESSAGES).map(|_| center * (0.1 * tail * random.normal().abs()).exp()).collect();
        times.sort_unstable_by(f64::total_cmp);
        series.push(second(at, &times));
        all.append(&mut times);
    }
    all.sort_unstable_by(f64::total_cmp);
    let figure = Some(Figure {
        count: all.len() as u64,
        p50: at(&all, 0.5),
        p90: at(&all, 0.9),
        p99: at(&all, 0.99),
        p999: at(&all, 0.999),
        max: at(&all, 1.0),
        ..Figure::default()
    });
    let group = GroupSpec { name: "main".into(), conns: Some(200), ..GroupSpec::default() };
    let mut report =
        Report { series, spec: Spec { group: vec![group], ..Spec::default() }, ..Report::default() };
    report.run.id = format!("r{id}");
    report.verdict.outcome = Outcome::Passed;
    (report.latency.response, report.latency.service) = (figure.clone(), figure);
    (report.load.streams_requested, report.load.streams_opened) = (200, 200);
    report.load.ticks_due = u64::from(seconds * MESSAGES);
    report.load.delivered_ratio = Some(1.0);
    Run::new(format!("r{id}"), report)
}

/// A percentile of sorted values, by the nearest rank.
fn at(sorted: &[f64], quantile: f64) -> f64 {
    sorted[((sorted.len() as f64 * quantile).ceil() as usize).clamp(1, sorted.len()) - 1]
}

fn second(number: u32, times: &[f64]) -> SeriesRow {
    let mut counts = [0; heat::ROWS];
    times.iter().for_each(|time| counts[heat::row(*time)] += 1);
    SeriesRow {
        at: f64::from(number + 1),
        seconds: 1,
        stage: "main/1".into(),
        messages_sent: u64::from(MESSAGES),
        messages_echoed: u64::from(MESSAGES),
        ticks_due: u64::from(MESSAGES),
        service_p50: Some(at(times, 0.5)),
        service_p99: Some(at(times, 0.99)),
        response_p50: Some(at(times, 0.5)),
        response_p90: Some(at(times, 0.9)),
        response_p99: Some(at(times, 0.99)),
        response_max: Some(at(times, 1.0)),
        response_heat: Heat::new(&counts),
        ..SeriesRow::default()
    }
}

fn judged(base: &[Run], new: &[Run]) -> Comparison {
    compare(base, new, &Asked::default()).expect("nothing else is asked")
}

/// How many of `tries` fulfil `says`: `runs` a side, the second `factor` times as slow as the first.
fn tried(
    (tries, runs): (u64, u64),
    (seconds, factor, weather): (u32, f64, Weather),
    says: impl Fn(&Comparison) -> bool,
) -> u64 {
    let side = |first: u64, factor| {
        (first..first + runs).map(|id| run(id, seconds, factor, weather)).collect::<Vec<_>>()
    };
    let one = |number: &u64| {
        let first = number * 2 * runs;
        says(&judged(&side(first, 1.0), &side(first + runs, factor)))
    };
    (0..tries).filter(one).count() as u64
}

fn is(verdict: Verdict) -> impl Fn(&Comparison) -> bool {
    move |it| it.verdict.outcome == verdict
}

/// What is said of response p99 alone.
fn p99(word: Word) -> impl Fn(&Comparison) -> bool {
    move |it| it.figures.iter().any(|row| row.name == "response.p99" && row.verdict == word)
}

#[test]
fn two_runs_of_one_plan_show_no_difference_in_19_of_20_tries() {
    for (weather, seconds) in [(QUIET, 20), (USUAL, 20), (USUAL, 60), (STORMY, 60)] {
        let none = tried((100, 1), (seconds, 1.0, weather), is(Verdict::NoDifference));
        assert!(none >= 95, "{none} of 100 in {seconds} s, {weather:?}");
    }
}

#[test]
fn a_fifth_more_is_seen_in_9_of_10_tries() {
    for (weather, seconds) in [(QUIET, 20), (USUAL, 60)] {
        let worse = tried((100, 1), (seconds, 1.2, weather), p99(Word::Worse));
        assert!(worse >= 90, "{worse} of 100 in {seconds} s, {weather:?}");
        let better = tried((50, 1), (seconds, 1.0 / 1.2, weather), p99(Word::Better));
        assert!(better >= 45, "{better} of 50 in {seconds} s, {weather:?}");
    }
}

#[test]
fn where_a_fifth_cannot_be_seen_the_interval_says_so() {
    let stormy = (20, 1.2, STORMY);
    let unseen = tried((40, 1), stormy, p99(Word::Same));
    let honest = tried((40, 1), stormy, |it| {
        let row = it.figures.iter().find(|row| row.name == "response.p99").expect("compared");
        p99(Word::Same)(it) && row.high.expect("known") > 0.2 && it.verdict.evidence == Evidence::Weak
    });
    assert!(unseen > 20 && honest * 20 >= unseen * 19, "{honest} of {unseen} intervals hold what was there");
}

#[test]
fn several_runs_a_side_see_what_one_cannot_and_invent_nothing() {
    // Runs that lie much further apart than is assumed of one.
    let apart = Weather { runs: 0.12, ..USUAL };
    let none = tried((60, 4), (20, 1.0, apart), is(Verdict::NoDifference));
    assert!(none >= 57, "{none} of 60");
    let one = tried((60, 1), (20, 1.12, QUIET), p99(Word::Worse));
    let four = tried((60, 4), (20, 1.12, QUIET), p99(Word::Worse));
    assert!(four >= 54 && one < four, "{four} of 60 with four runs a side, {one} with one");
}

#[test]
fn the_same_reports_give_the_same_words() {
    let once = || {
        let it = judged(&[run(1, 30, 1.0, STORMY)], &[run(2, 30, 1.1, STORMY)]);
        serde_json::to_string(&it).expect("plain values")
    };
    assert_eq!(once(), once());
}
