//! A run as a sample: its figures, and how far each may be off by the run's own seconds.

use std::cell::OnceCell;
use std::ops::Range;

use scale_api::heat;
use scale_api::report::{Heat, Report, SeriesRow};

use super::figures::{CPU, Figure};
use super::result::Series;
use super::statistics::{Pooled, Sample, Seconds, Shape, Spread};

/// Seconds of one run that are handed on for charts; of more, several become one.
const CHART_ROWS_MAX: usize = 600;
/// With so many seconds the first and the last are left out: they may be parts of a second.
const TRIMMED_FROM: usize = 10;
/// Degrees of freedom of a variance that follows from a count.
const COUNT_FREEDOM: f64 = 30.0;
/// Earlier than the least time that is known by so much of it: nothing is.
const BELOW_LEAST: f64 = 0.5;

/// A report and where it is from.
#[derive(Debug)]
pub struct Run {
    /// As it was named on the command line.
    pub source: String,
    /// What it says.
    pub report: Report,
    /// Rows of steady state, those of a stage beside each other.
    rows: Vec<SeriesRow>,
    segments: Vec<Range<usize>>,
    seconds: u64,
    pooled: [OnceCell<Option<Pooled>>; 3],
}

/// Times whose distribution is known second by second.
#[derive(Debug, Clone, Copy)]
enum Time {
    Response,
    Service,
    Lateness,
}

impl Run {
    /// A run by its report.
    pub fn new(source: String, mut report: Report) -> Self {
        // A stage's name has its group's before it, which no state of a run has.
        let steady = |row: &SeriesRow| row.stage.contains('/');
        let mut rows: Vec<SeriesRow> =
            std::mem::take(&mut report.series).into_iter().filter(|row| steady(row)).collect();
        let seconds = rows.iter().map(seconds_of).sum();
        if rows.len() > TRIMMED_FROM {
            rows.pop();
            rows.remove(0);
        }
        rows.sort_by(|one, other| one.stage.cmp(&other.stage));
        let mut segments: Vec<Range<usize>> = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            match segments.last_mut() {
                Some(segment) if rows[segment.start].stage == row.stage => segment.end = index + 1,
                _ => segments.push(index..index + 1),
            }
        }
        Self { source, report, rows, segments, seconds, pooled: Default::default() }
    }

    /// Seconds of steady state.
    pub const fn seconds(&self) -> u64 {
        self.seconds
    }

    /// A figure of this run.
    pub fn sample(&self, figure: &Figure) -> Option<Sample> {
        let value = figure.scaled(figure.read(&self.report)?)?;
        Some(Sample { value, within: self.within(figure).filter(|spread| spread.variance.is_finite()) })
    }

    fn within(&self, figure: &Figure) -> Option<Spread> {
        let Some(name) = figure.group() else { return self.of_run(figure) };
        // A group has no seconds of its own: it is taken to be as unsteady as the run, with fewer samples.
        let group = self.report.groups.iter().find(|part| part.name == name)?;
        let spread = self.of_run(figure)?;
        let load = &self.report.load;
        let (all, part) = match figure.parts().0 {
            "disconnects" | "connect_failures" => (load.streams_requested, group.load.streams_requested),
            _ => (load.ticks_due.max(load.messages_sent), group.load.ticks_due.max(group.load.messages_sent)),
        };
        (part > 0)
            .then(|| Spread { variance: spread.variance * (all as f64 / part as f64).max(1.0), ..spread })
    }

    fn of_run(&self, figure: &Figure) -> Option<Spread> {
        let streams = self.report.load.streams_requested;
        let (name, stat) = figure.parts();
        match (name, stat) {
            _ if figure.name == CPU => {
                self.ratio(|row| row.busy.iter().sum::<f64>() * weight(row), sent, f64::ln)
            }
            ("response", stat) => self.of_time(Time::Response, stat),
            ("service", stat) => self.of_time(Time::Service, stat),
            ("lateness", stat) => self.of_time(Time::Lateness, stat),
            ("load", "delivered_ratio") => self.ratio(
                |row| (row.ticks_due.saturating_sub(row.ticks_missed)) as f64,
                |row| row.ticks_due as f64,
                |x| x,
            ),
            ("load", "echoed_ratio") => self.ratio(|row| row.messages_echoed as f64, sent, |x| x),
            ("load", "rate_sent") => self.ratio(|row| row.rate_sent * weight(row), weight, f64::ln),
            ("load", "rate_received") => self.ratio(|row| row.rate_received * weight(row), weight, f64::ln),
            ("load", "open_ratio") => count(streams - self.report.load.streams_opened.min(streams), streams),
            ("disconnects", _) => {
                let all = self.report.load.disconnects.values().sum();
                let by_seconds = self.sum(|row| row.disconnects as f64 / streams.max(1) as f64);
                let by_count = count(all, streams)?;
                Some(by_seconds.filter(|spread| spread.variance > by_count.variance).unwrap_or(by_count))
            }
            ("connect_failures", _) => count(self.report.load.connect_failures.values().sum(), streams),
            (_, "mean") => {
                let name = figure.query()?;
                let seen = |row: &SeriesRow| row.observe.get(name).copied();
                self.ratio(
                    |row| seen(row).unwrap_or(0.0),
                    |row| f64::from(u8::from(seen(row).is_some())),
                    f64::ln,
                )
            }
            _ => None,
        }
    }

    /// The spread of a ratio of sums over seconds.
    fn ratio(
        &self,
        over: impl Fn(&SeriesRow) -> f64,
        under: impl Fn(&SeriesRow) -> f64,
        scale: impl Fn(f64) -> f64,
    ) -> Option<Spread> {
        let (overs, unders): (Vec<f64>, Vec<f64>) =
            self.rows.iter().map(|row| (over(row), under(row))).unzip();
        let each: Vec<f64> = overs
            .iter()
            .zip(&unders)
            .map(|(over, under)| if *under > 0.0 { over / under } else { 0.0 })
            .collect();
        let (overs, unders) = (running(&overs), running(&unders));
        Seconds::new(self.segments.clone(), &each).spread(|ranges| {
            let (over, under) = (drawn(&overs, ranges), drawn(&unders, ranges));
            (under > 0.0).then(|| scale(over / under))
        })
    }

    fn sum(&self, part: impl Fn(&SeriesRow) -> f64) -> Option<Spread> {
        let parts: Vec<f64> = self.rows.iter().map(part).collect();
        let sums = running(&parts);
        Seconds::new(self.segments.clone(), &parts).spread(|ranges| Some(drawn(&sums, ranges)))
    }

    /// The spread of a percentile.
    fn of_time(&self, time: Time, stat: &str) -> Option<Spread> {
        let quantile = match (time, stat) {
            (_, "p50") => 0.5,
            (_, "p99") => 0.99,
            // Nothing between and beyond is known of service time, second by second.
            (Time::Response | Time::Lateness, "p90") => 0.9,
            (Time::Response | Time::Lateness, "p999") => 0.999,
            _ => return None,
        };
        let pooled = self.pooled[time as usize]
            .get_or_init(|| Pooled::new(&self.rows.iter().map(|row| shape(row, time)).collect::<Vec<_>>()));
        let pooled = pooled.as_ref()?;
        let mut before = 0.0;
        let each: Vec<f64> = (0..self.rows.len())
            .map(|second| {
                let own = pooled.ln_quantile(std::slice::from_ref(&(second..second + 1)), quantile);
                before = own.unwrap_or(before);
                before
            })
            .collect();
        Seconds::new(self.segments.clone(), &each).spread(|ranges| pooled.ln_quantile(ranges, quantile))
    }

    /// The seconds for charts.
    pub fn series(&self) -> Series {
        let mut rows: Vec<&SeriesRow> = self.rows.iter().collect();
        rows.sort_by(|one, other| one.at.total_cmp(&other.at));
        let start = rows.first().map_or(0.0, |row| row.at - weight(row));
        let mut series = Series { id: self.report.run.id.clone(), ..Series::default() };
        for span in rows.chunks(rows.len().div_ceil(CHART_ROWS_MAX).max(1)) {
            let highest =
                |of: fn(&SeriesRow) -> Option<f64>| span.iter().filter_map(|row| of(row)).reduce(f64::max);
            let seconds: f64 = span.iter().map(|row| weight(row)).sum();
            let mean = |of: fn(&SeriesRow) -> f64| {
                span.iter().map(|row| of(row) * weight(row)).sum::<f64>() / seconds
            };
            series.at.push(span.last().map_or(0.0, |row| row.at) - start);
            series.response_p50.push(highest(|row| row.response_p50));
            series.response_p99.push(highest(|row| row.response_p99));
            series.lateness_p99.push(highest(|row| row.lateness_p99));
            series.rate_sent.push(mean(|row| row.rate_sent));
            series.rate_received.push(mean(|row| row.rate_received));
        }
        series
    }
}

fn seconds_of(row: &SeriesRow) -> u64 {
    row.seconds.max(1)
}

fn weight(row: &SeriesRow) -> f64 {
    seconds_of(row) as f64
}

fn sent(row: &SeriesRow) -> f64 {
    row.messages_sent as f64
}

/// Sums up to each place, from 0 on.
fn running(values: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let sums = values.iter().map(|value| {
        sum += value;
        sum
    });
    std::iter::once(0.0).chain(sums).collect()
}

fn drawn(sums: &[f64], ranges: &[Range<usize>]) -> f64 {
    ranges.iter().map(|range| sums[range.end] - sums[range.start]).sum()
}

/// The spread of a share of `all` that follows from its count alone; none of them is no certainty.
fn count(some: u64, all: u64) -> Option<Spread> {
    let share = (some as f64 + 1.0) / (all as f64 + 2.0);
    (all > 0)
        .then(|| Spread { variance: share * (1.0 - share).max(0.0) / all as f64, freedom: COUNT_FREEDOM })
}

/// What a row knows of a distribution: its heat map, and the percentiles of a single second. Those of
/// a merged row are the highest of its seconds and say nothing of the whole.
fn shape(row: &SeriesRow, time: Time) -> Shape {
    let no_heat = Heat::default();
    let (heat, known) = match time {
        Time::Response => (
            &row.response_heat,
            [
                (row.response_p50, 0.5),
                (row.response_p90, 0.9),
                (row.response_p99, 0.99),
                (row.response_max, 1.0),
            ],
        ),
        Time::Service => {
            (&no_heat, [(row.service_p50, 0.5), (row.service_p99, 0.99), (None, 0.9), (None, 1.0)])
        }
        Time::Lateness => (
            &row.lateness_heat,
            [(row.lateness_p50, 0.5), (row.lateness_p99, 0.99), (row.lateness_max, 1.0), (None, 0.9)],
        ),
    };
    let counts = heat.rows();
    let all: u64 = counts.iter().sum();
    let mut points = Vec::new();
    if seconds_of(row) == 1 || all == 0 {
        points.extend(known.into_iter().filter_map(|(time, share)| Some((time?, share))));
    }
    if all > 0 {
        let mut below = 0;
        for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            points.push((heat::lower_edge(index), below as f64 / all as f64));
            below += count;
            // A maximum that is known lies below the upper edge.
            if below < all || !points.iter().any(|(_, share)| *share >= 1.0) {
                points.push((heat::lower_edge(index + 1), below as f64 / all as f64));
            }
        }
    } else if let Some(least) = points.iter().map(|(time, _)| *time).reduce(f64::min) {
        points.push((least * BELOW_LEAST, 0.0));
    }
    let samples = match (all, time) {
        (0, Time::Lateness) => row.messages_sent,
        (0, _) => row.messages_echoed,
        (all, _) => all,
    };
    Shape::new(samples as f64, points)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scale_api::heat::ROWS;
    use scale_api::threshold::Names;

    const NAMES: Names<'_> = Names { groups: &["main"], observe: &["cpu"] };

    fn figure(name: &str) -> Figure {
        Figure::named(name, &NAMES).expect("a figure")
    }

    fn row(at: u32, stage: &str) -> SeriesRow {
        let mut counts = [0; ROWS];
        counts[heat::row(0.005)] = 980;
        counts[heat::row(0.05)] = 20;
        SeriesRow {
            at: f64::from(at),
            seconds: 1,
            stage: stage.into(),
            messages_sent: 1000,
            messages_echoed: 1000,
            ticks_due: 1000,
            response_p50: Some(0.005),
            response_p90: Some(0.0055),
            response_p99: Some(0.05),
            response_max: Some(0.06),
            response_heat: Heat::new(&counts),
            rate_sent: 4e6,
            ..SeriesRow::default()
        }
    }

    fn run(rows: Vec<SeriesRow>) -> Run {
        let mut report = Report { series: rows, ..Report::default() };
        report.latency.response =
            Some(scale_api::report::Figure { p50: 0.005, p99: 0.05, ..Default::default() });
        report.load.streams_requested = 100;
        report.load.streams_opened = 100;
        Run::new("r1".into(), report)
    }

    #[test]
    fn only_steady_seconds_count_each_stage_by_itself() {
        let mut rows = vec![row(1, "ramping"), row(2, "warm-up")];
        rows.extend((3..23).map(|at| row(at, if at < 13 { "main/1" } else { "main/2" })));
        rows.extend([row(23, "draining"), row(24, "paused")]);
        let run = run(rows);
        assert_eq!((run.seconds(), &run.segments[..]), (20, &[0..9, 9..18][..]));
        let series = run.series();
        assert_eq!((series.at[0], series.at.len(), series.response_p99[0]), (1.0, 18, Some(0.05)));
    }

    #[test]
    fn the_percentile_of_the_seconds_together_is_the_runs() {
        let seconds: Vec<Shape> = (0..30).map(|at| shape(&row(at, "main/1"), Time::Response)).collect();
        let pooled = Pooled::new(&seconds).expect("samples");
        for (quantile, expected) in [(0.5, 0.005), (0.9, 0.0055), (0.99, 0.05), (1.0, 0.06)] {
            let found = pooled.ln_quantile(std::slice::from_ref(&(0..30)), quantile).expect("samples").exp();
            assert!((found / expected - 1.0).abs() < 0.012, "{quantile}: {found}");
        }
        // A merged row's own percentiles are the highest: only its heat is of all.
        let merged = SeriesRow { seconds: 24, response_p50: Some(9.0), ..row(30, "main/1") };
        let found = Pooled::new(&[shape(&merged, Time::Response)]).expect("samples");
        assert!(found.ln_quantile(std::slice::from_ref(&(0..1)), 0.5).expect("samples").exp() < 0.0066);
    }

    #[test]
    fn a_steady_run_is_sure_and_an_unsteady_one_is_not() {
        let spread = |slow_every: u32| {
            let rows = (0..62).map(|at| {
                let mut row = row(at, "main/1");
                if at % slow_every == 0 {
                    row.response_p99 = Some(0.2);
                    row.response_max = Some(0.4);
                    row.response_heat.counts.extend([0, 0, 40]);
                    row.ticks_missed = 100;
                }
                row
            });
            let run = run(rows.collect());
            let of = |name| run.of_run(&figure(name)).expect("known").variance;
            (of("response.p99"), of("load.delivered_ratio"))
        };
        let (steady, unsteady) = (spread(1000), spread(12));
        assert!(steady.0 < 1e-6 && unsteady.0 > 100.0 * steady.0.max(1e-8), "{steady:?} {unsteady:?}");
        assert!(steady.1 < 1e-9 && unsteady.1 > 1e-6, "{steady:?} {unsteady:?}");
    }

    #[test]
    fn what_never_happened_may_happen() {
        let run = run((0..30).map(|at| row(at, "main/1")).collect());
        let never = run.of_run(&figure("disconnects.rate")).expect("known").variance.sqrt();
        assert!((0.005..0.02).contains(&never), "about one of 100 streams: {never}");
        assert!(run.of_run(&figure("response.max")).is_none(), "one sample decides it");
    }
}
