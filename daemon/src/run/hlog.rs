//! HdrHistogram logs (`.hlog`, format 1.3): every [`INTERVAL_SECONDS`] a line with what a figure has gained, so that the
//! standard tools can read, plot and add up what a run measured.
//!
//! Values are µs, as in all histograms of ours; the column of the interval's maximum is in ms, which is the format's
//! convention. A line without a tag is the whole run's: that is what tools read unless told otherwise. Where there are several
//! groups, each has lines of its own with `Tag=<group>` as well.
//!
//! Holds always: what the intervals of a log have together is what the report's figure has.

use std::io::{self, Write};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use crate::stream::meter::{Figure, Histograms};

/// Seconds of an interval; a run's last is shorter.
pub const INTERVAL_SECONDS: u64 = 10;
/// Figures that have a log.
pub const FIGURES: [Figure; 4] = [Figure::Response, Figure::Service, Figure::Lateness, Figure::Connect];
/// µs of the histograms a ms of the column of maxima.
const US_PER_MS: f64 = 1000.0;

/// The log of a figure.
pub fn file_name(figure: Figure) -> String {
    format!("{}.hlog", figure.name())
}

/// What stands above a log's intervals. `started_at`: the run's start, in seconds since 1970.
pub fn head(run: &str, started_at: f64, figure: Figure) -> String {
    format!(
        "#[scaled {}: {} of run {run}; values are us, Interval_Max is ms]\n\
         #[Histogram log format version 1.3]\n\
         #[StartTime: {started_at:.3} (seconds since epoch), {}]\n\
         #[BaseTime: {started_at:.3} (seconds since epoch)]\n\
         \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
        env!("CARGO_PKG_VERSION"),
        figure.name(),
        scale_api::units::utc(started_at),
    )
}

/// What a figure gained in an interval.
#[derive(Debug)]
pub struct Gain {
    /// Which figure.
    pub figure: Figure,
    /// Whose; `None`: the whole run's.
    group: Option<Arc<str>>,
    histogram: Histogram<u64>,
}

/// What all figures gained from second `from` to second `to` of the run.
#[derive(Debug)]
pub struct Interval {
    from: u64,
    to: u64,
    /// Those that gained anything.
    pub gains: Vec<Gain>,
}

impl Interval {
    /// The line of one of its gains.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, gain: &Gain, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&gain.histogram, &mut bytes).map_err(io::Error::other)?;
        if let Some(group) = &gain.group {
            write!(to, "Tag={group},")?;
        }
        let (from, length) = (self.from as f64, (self.to - self.from) as f64);
        let max = gain.histogram.max() as f64 / US_PER_MS;
        writeln!(to, "{from:.3},{length:.3},{max:.3},{}", STANDARD.encode(bytes))
    }
}

/// How much of a run's histograms its logs have.
#[derive(Debug, Default)]
pub struct Logged {
    until: u64,
    groups: Vec<[Option<Histogram<u64>>; FIGURES.len()]>,
}

impl Logged {
    /// Whether an interval is complete at second `now`.
    pub const fn is_due(&self, now: u64) -> bool {
        now >= self.until + INTERVAL_SECONDS
    }

    /// What `groups`, whose histograms are of the whole run so far, have gained by second `now`: that is logged from then on.
    pub fn take(&mut self, now: u64, groups: Vec<(Arc<str>, Histograms)>) -> Interval {
        self.groups.resize_with(groups.len(), Default::default);
        let mut interval = Interval { from: self.until, to: now, gains: Vec::new() };
        self.until = now;
        for (index, figure) in FIGURES.into_iter().enumerate() {
            let gain =
                |((name, histograms), logged): (&(Arc<str>, Histograms), &mut [Option<_>; FIGURES.len()])| {
                    let histogram = gained(histograms.figure(figure)?, &mut logged[index])?;
                    Some(Gain { figure, group: Some(name.clone()), histogram })
                };
            let gains: Vec<Gain> = groups.iter().zip(&mut self.groups).filter_map(gain).collect();
            let whole = gains.iter().map(|gain| gain.histogram.clone()).reduce(|mut sum, more| {
                sum.add(&more).expect("all histograms have the same bounds");
                sum
            });
            interval.gains.extend(whole.map(|histogram| Gain { figure, group: None, histogram }));
            if groups.len() > 1 {
                interval.gains.extend(gains);
            }
        }
        interval
    }
}

/// What `now` has beyond `logged`, which is `now` then; `None`: nothing.
fn gained(now: &Histogram<u64>, logged: &mut Option<Histogram<u64>>) -> Option<Histogram<u64>> {
    let mut gain = now.clone();
    if let Some(before) = logged.replace(now.clone()) {
        gain.subtract(&before).expect("the histograms of a run only grow");
    }
    (!gain.is_empty()).then_some(gain)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    const START: f64 = 1_767_225_599.5;

    type Groups = Vec<(Arc<str>, Histograms)>;
    type Logs = Vec<(Figure, Vec<u8>)>;

    /// A run of groups whose histograms grow second by second, and its logs.
    fn run(groups: &[&str], seconds: u64) -> (Groups, Logs) {
        let mut logs: Vec<_> =
            FIGURES.map(|figure| (figure, head("r1-0", START, figure).into_bytes())).into_iter().collect();
        let mut logged = Logged::default();
        let mut so_far: Groups = groups.iter().map(|name| ((*name).into(), Histograms::default())).collect();
        for second in 1..=seconds {
            for (number, (_, histograms)) in so_far.iter_mut().enumerate() {
                for n in 0..50 {
                    let ns = (second * 7919 + n * n * 31_337) % 5_000_000 * (number as u64 + 1);
                    histograms.record(Figure::Response, ns);
                    histograms.record(Figure::Lateness, ns / 10);
                }
                if second == 1 {
                    histograms.record(Figure::Connect, 3_000_000);
                }
            }
            if logged.is_due(second) || second == seconds {
                let interval = logged.take(second, so_far.clone());
                for gain in &interval.gains {
                    let (_, log) = logs.iter_mut().find(|(figure, _)| *figure == gain.figure).unwrap();
                    interval.write(gain, log).unwrap();
                }
            }
        }
        (so_far, logs)
    }

    /// What a reader of the format finds under `tag`: the intervals' starts and lengths, and their sum.
    fn read(log: &[u8], tag: Option<&str>) -> (Vec<(u64, u64)>, Histogram<u64>) {
        let (mut times, mut sum) = (Vec::new(), Histograms::empty());
        for entry in IntervalLogIterator::new(log) {
            let LogEntry::Interval(interval) = entry.unwrap() else { continue };
            if interval.tag().map(|tag| tag.as_str()) != tag {
                continue;
            }
            times.push((interval.start_timestamp().as_secs(), interval.duration().as_secs()));
            let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
            let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            assert!((interval.max() * US_PER_MS - histogram.max() as f64).abs() < 1.0);
            sum.add(&histogram).unwrap();
        }
        (times, sum)
    }

    #[test]
    fn the_intervals_of_a_log_have_together_what_the_figure_has() {
        let (groups, logs) = run(&["main"], 25);
        for (figure, log) in &logs {
            let (times, sum) = read(log, None);
            let whole = groups[0].1.figure(*figure);
            assert_eq!(sum.len(), whole.map_or(0, Histogram::len));
            match whole {
                Some(whole) => assert_eq!(&sum, whole),
                None => assert!(times.is_empty(), "{figure:?} was never measured"),
            }
            if *figure == Figure::Response {
                assert_eq!(times, [(0, 10), (10, 10), (20, 5)]);
            }
            assert!(!String::from_utf8_lossy(log).contains("Tag="), "one group is the whole run");
        }
    }

    #[test]
    fn groups_have_lines_of_their_own_beside_the_whole_runs() {
        let (groups, logs) = run(&["a", "b"], 12);
        let (_, log) = logs.iter().find(|(figure, _)| *figure == Figure::Response).unwrap();
        let mut both = Histograms::empty();
        for (name, histograms) in &groups {
            let own = histograms.figure(Figure::Response).unwrap();
            assert_eq!(&read(log, Some(name)).1, own);
            both.add(own).unwrap();
        }
        assert_eq!(read(log, None).1, both);
    }

    #[test]
    fn a_log_begins_as_other_writers_of_the_format_begin_theirs() {
        let text = head("r1-0", START, Figure::Response);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "#[Histogram log format version 1.3]");
        assert_eq!(lines[2], "#[StartTime: 1767225599.500 (seconds since epoch), 2025-12-31T23:59:59Z]");
        assert_eq!(lines[3], "#[BaseTime: 1767225599.500 (seconds since epoch)]");
        assert!(lines[4].starts_with("\"StartTimestamp\","));
    }
}
