//! The series of a run, bounded: a row a second as long as [`Series::ROWS_MAX`] of them are enough, then rows that
//! span 2, 4, 8 … seconds.
//!
//! Holds always: rows follow each other without a gap, counts add up to what was pushed, and no percentile,
//! maximum or sign of saturation is lost. A span is of one stage; only where the stage changes so often that
//! the rows would not do does it go on into the next one, under the name of its longer part.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use scale_api::report::{Heat, SeriesRow};

/// The rows so far. See the [module](self).
#[derive(Debug, Clone)]
pub struct Series {
    rows: Vec<SeriesRow>,
    rows_max: usize,
    doublings: u32,
}

impl Default for Series {
    fn default() -> Self {
        Self::at_most(Self::ROWS_MAX)
    }
}

impl Series {
    /// Rows kept at most: an hour of seconds.
    pub const ROWS_MAX: usize = 3600;

    /// A series of at most `rows_max` rows.
    pub const fn at_most(rows_max: usize) -> Self {
        Self { rows: Vec::new(), rows_max, doublings: 0 }
    }

    /// Takes the next row.
    pub fn push(&mut self, mut row: SeriesRow) {
        // Rows of earlier versions were all of one second and did not say so.
        row.seconds = row.seconds.max(1);
        let span = self.span();
        match self.rows.last_mut() {
            Some(last) if may_join(last, &row, span, false) => absorb(last, row),
            _ => self.rows.push(row),
        }
        while self.rows.len() > self.rows_max {
            self.make_room();
        }
    }

    /// Merges rows: within their stages if that is enough, else across them, with spans as they are if that is enough.
    fn make_room(&mut self) {
        // Some are left free, so that room is not made at every push.
        let left_max = self.rows_max / 4 * 3;
        let is_enough =
            |&(doublings, across): &(u32, bool)| rows_of(&self.rows, span(doublings), across) <= left_max;
        let doubled = self.doublings + 1;
        let ways = [(doubled, false), (self.doublings, true)];
        let (doublings, across) = ways.into_iter().find(is_enough).unwrap_or((doubled, true));
        self.doublings = doublings;
        let span = self.span();
        let rows = std::mem::replace(&mut self.rows, Vec::with_capacity(self.rows_max + 1));
        for row in rows {
            match self.rows.last_mut() {
                Some(last) if may_join(last, &row, span, across) => absorb(last, row),
                _ => self.rows.push(row),
            }
        }
    }

    /// The rows, oldest first.
    pub fn rows(&self) -> &[SeriesRow] {
        &self.rows
    }

    /// Seconds that a row is made of at most by now.
    fn span(&self) -> u64 {
        span(self.doublings)
    }

    /// Reads rows as JSON lines. A line that is none, such as one that was cut off, is left out; and how many were.
    ///
    /// # Errors
    /// The reader's.
    pub fn read(lines: impl BufRead) -> io::Result<(Self, usize)> {
        let (mut series, mut left_out) = (Self::default(), 0);
        for line in lines.split(b'\n') {
            match serde_json::from_slice(&line?) {
                Ok(row) => series.push(row),
                Err(_) => left_out += 1,
            }
        }
        Ok((series, left_out))
    }
}

fn span(doublings: u32) -> u64 {
    1_u64.checked_shl(doublings).unwrap_or(u64::MAX)
}

/// Whether `next` may become one row with `last`, which it follows.
fn may_join(last: &SeriesRow, next: &SeriesRow, span: u64, across: bool) -> bool {
    (across || last.stage == next.stage) && last.seconds.saturating_add(next.seconds) <= span
}

/// How many rows there would be, each joined to the one before where it may be.
fn rows_of(rows: &[SeriesRow], span: u64, across: bool) -> usize {
    let (mut count, mut seconds, mut stage) = (0, u64::MAX, "");
    for row in rows {
        let joined = seconds.saturating_add(row.seconds);
        if joined <= span && (across || stage == row.stage) && count > 0 {
            seconds = joined;
        } else {
            (count, seconds, stage) = (count + 1, row.seconds, &row.stage);
        }
    }
    count
}

/// Makes `row` that of its own time and of `next`'s, which follows it.
fn absorb(row: &mut SeriesRow, next: SeriesRow) {
    let SeriesRow {
        at,
        seconds,
        stage,
        streams_open,
        rate_offered,
        rate_sent,
        rate_received,
        messages_sent,
        messages_echoed,
        ticks_due,
        ticks_missed,
        connects_begun,
        connects,
        connect_failures,
        disconnects,
        connect_failures_by_class,
        disconnects_by_class,
        connect_p99,
        lateness_p50,
        lateness_p99,
        lateness_max,
        service_p50,
        service_p99,
        response_p50,
        response_p90,
        response_p99,
        response_max,
        response_heat,
        lateness_heat,
        busy_max,
        busy,
        saturated,
        observe,
    } = next;
    let share = seconds as f64 / row.seconds.saturating_add(seconds) as f64;
    let mean = |to: &mut f64, from: f64| *to += (from - *to) * share;
    mean(&mut row.rate_offered, rate_offered);
    mean(&mut row.rate_sent, rate_sent);
    mean(&mut row.rate_received, rate_received);
    row.busy.resize(row.busy.len().max(busy.len()), 0.0);
    for (worker, to) in row.busy.iter_mut().enumerate() {
        mean(to, busy.get(worker).copied().unwrap_or(0.0));
    }
    for (to, from) in [
        (&mut row.messages_sent, messages_sent),
        (&mut row.messages_echoed, messages_echoed),
        (&mut row.ticks_due, ticks_due),
        (&mut row.ticks_missed, ticks_missed),
        (&mut row.connects_begun, connects_begun),
        (&mut row.connects, connects),
        (&mut row.connect_failures, connect_failures),
        (&mut row.disconnects, disconnects),
    ] {
        *to = to.saturating_add(from);
    }
    add(&mut row.connect_failures_by_class, connect_failures_by_class);
    add(&mut row.disconnects_by_class, disconnects_by_class);
    for (to, from) in [
        (&mut row.connect_p99, connect_p99),
        (&mut row.lateness_p50, lateness_p50),
        (&mut row.lateness_p99, lateness_p99),
        (&mut row.lateness_max, lateness_max),
        (&mut row.service_p50, service_p50),
        (&mut row.service_p99, service_p99),
        (&mut row.response_p50, response_p50),
        (&mut row.response_p90, response_p90),
        (&mut row.response_p99, response_p99),
        (&mut row.response_max, response_max),
    ] {
        *to = to.iter().copied().chain(from).reduce(f64::max);
    }
    warm(&mut row.response_heat, response_heat);
    warm(&mut row.lateness_heat, lateness_heat);
    row.busy_max = row.busy_max.max(busy_max);
    row.saturated |= saturated;
    for (name, value) in observe {
        row.observe.entry(name).and_modify(|to| *to = to.max(value)).or_insert(value);
    }
    if seconds > row.seconds {
        row.stage = stage;
    }
    row.seconds = row.seconds.saturating_add(seconds);
    (row.at, row.streams_open) = (at, streams_open);
}

fn add(to: &mut BTreeMap<String, u64>, from: BTreeMap<String, u64>) {
    for (class, count) in from {
        let sum = to.entry(class).or_default();
        *sum = sum.saturating_add(count);
    }
}

fn warm(to: &mut Heat, from: Heat) {
    if to.counts.is_empty() {
        *to = from;
    } else if !from.counts.is_empty() {
        to.add(&from);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Second `second` of a run, with figures made from it.
    fn row(second: u64, stage: &str) -> SeriesRow {
        let noise = second.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let (count, time) = (noise % 1000, noise as f64 / 1e6);
        SeriesRow {
            at: second as f64,
            seconds: 1,
            stage: stage.into(),
            streams_open: count,
            rate_sent: count as f64 * 4096.0,
            messages_sent: count,
            ticks_due: count + 1,
            disconnects: noise % 3,
            disconnects_by_class: [("reset".to_owned(), noise % 3)].into(),
            response_p99: (!noise.is_multiple_of(5)).then_some(time),
            response_max: Some(time * 2.0),
            response_heat: Heat::new(&[count, 0, noise % 7]),
            busy_max: time,
            busy: vec![time, 0.5],
            saturated: noise.is_multiple_of(1000),
            observe: [("cpu".to_owned(), time)].into(),
            ..SeriesRow::default()
        }
    }

    /// What must not change however rows are merged.
    #[derive(Debug, Default, PartialEq)]
    struct Kept {
        counts: [u64; 7],
        highest: [Option<f64>; 4],
        saturated: bool,
        last: (u64, u64),
    }

    impl Kept {
        fn of<'a>(rows: impl IntoIterator<Item = &'a SeriesRow>) -> Self {
            let mut kept = Self::default();
            for row in rows {
                let heat: u64 = row.response_heat.counts.iter().sum();
                let classes: u64 = row.disconnects_by_class.values().sum();
                let counts = [
                    row.seconds,
                    row.messages_sent,
                    row.ticks_due,
                    row.disconnects,
                    classes,
                    heat,
                    row.response_heat.rows()[2],
                ];
                kept.counts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                let highest =
                    [row.response_p99, row.response_max, Some(row.busy_max), row.observe.get("cpu").copied()];
                for (to, from) in kept.highest.iter_mut().zip(highest) {
                    *to = to.iter().copied().chain(from).reduce(f64::max);
                }
                kept.saturated |= row.saturated;
                kept.last = (row.at as u64, row.streams_open);
            }
            kept
        }
    }

    /// `lengths` of stages one after the other, through a series and as they were.
    fn run(lengths: impl IntoIterator<Item = u64>) -> (Series, Kept, f64) {
        let (mut series, mut kept, mut second, mut bytes) = (Series::default(), Kept::default(), 0, 0.0);
        for (number, length) in lengths.into_iter().enumerate() {
            let stage = format!("main/{number}");
            for _ in 0..length {
                second += 1;
                let row = row(second, &stage);
                let mut both = Kept::of([&row]);
                both.counts.iter_mut().zip(kept.counts).for_each(|(to, from)| *to += from);
                for (to, from) in both.highest.iter_mut().zip(kept.highest) {
                    *to = to.iter().copied().chain(from).reduce(f64::max);
                }
                both.saturated |= kept.saturated;
                kept = both;
                bytes += row.rate_sent;
                series.push(row);
                assert!(series.rows().len() <= Series::ROWS_MAX);
            }
        }
        (series, kept, bytes)
    }

    #[track_caller]
    fn assert_nothing_is_lost((series, kept, bytes): &(Series, Kept, f64)) {
        assert_eq!(&Kept::of(series.rows()), kept);
        let mut before = 0.0;
        for row in series.rows() {
            assert_eq!(row.at - row.seconds as f64, before, "each begins where the one before ends");
            before = row.at;
        }
        let sent: f64 = series.rows().iter().map(|row| row.rate_sent * row.seconds as f64).sum();
        assert!((sent - bytes).abs() <= bytes * 1e-9, "{sent} and {bytes}");
    }

    /// Stages of the rows without repetitions.
    fn stages(series: &Series) -> Vec<&str> {
        let mut stages: Vec<&str> = series.rows().iter().map(|row| row.stage.as_str()).collect();
        stages.dedup();
        stages
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn nothing_is_lost_of_any_stages(lengths in prop::collection::vec(1..2000_u64, 0..40)) {
            let ran = run(lengths.clone());
            assert_nothing_is_lost(&ran);
            prop_assert_eq!(stages(&ran.0).len(), lengths.len(), "no span goes from one stage into another");
        }
    }

    #[test]
    fn an_hour_is_a_row_a_second_and_then_spans_double() {
        let rows = |seconds: u64| {
            let ran = run([seconds]);
            assert_nothing_is_lost(&ran);
            ran.0.rows().iter().map(|row| row.seconds).collect::<Vec<_>>()
        };
        assert_eq!(rows(3600), [1; 3600]);
        let mut just_beyond = vec![2; 1800];
        just_beyond.push(1);
        assert_eq!(rows(3601), just_beyond);
        let day = rows(24 * 3600);
        assert_eq!(day, [32; 2700]);
    }

    #[test]
    fn stages_that_change_without_end_share_spans_in_the_end() {
        for length in [1, 2, 7] {
            let ran = run(std::iter::repeat_n(length, 24 * 3600 / length as usize));
            assert_nothing_is_lost(&ran);
            assert!(ran.0.rows().len() > Series::ROWS_MAX / 3, "{} rows are left", ran.0.rows().len());
        }
        // As many as fit each keep their own.
        let ran = run(std::iter::repeat_n(60, 1440));
        assert_nothing_is_lost(&ran);
        assert_eq!(stages(&ran.0).len(), 1440);
    }

    #[test]
    fn a_span_of_two_stages_has_the_name_of_its_longer_part() {
        let of = |seconds, stage: &str| SeriesRow { seconds, ..row(1, stage) };
        let joined = |first: u64, second: u64| {
            let mut row = of(first, "a");
            absorb(&mut row, of(second, "b"));
            row.stage
        };
        assert_eq!([joined(2, 1), joined(1, 1), joined(1, 2)], ["a", "a", "b"]);
    }

    #[test]
    fn a_year_is_bounded_too() {
        let mut series = Series::default();
        let year = 365 * 24 * 3600;
        for second in 1..=year {
            let stage = if second % 86_400 < 43_200 { "day" } else { "night" };
            series.push(SeriesRow {
                at: second as f64,
                seconds: 1,
                stage: stage.into(),
                ..SeriesRow::default()
            });
        }
        assert!(series.rows().len() <= Series::ROWS_MAX);
        assert_eq!(series.rows().iter().map(|row| row.seconds).sum::<u64>(), year);
        assert_eq!(stages(&series).len(), 731);
    }

    #[test]
    fn rows_are_read_back_and_a_torn_line_is_left_out() {
        let mut lines = Vec::new();
        for second in 1..=5 {
            serde_json::to_writer(&mut lines, &row(second, "main/1")).unwrap();
            lines.push(b'\n');
        }
        lines.extend_from_slice(br#"{"at": 6.0, "seco"#);
        let (series, _) = Series::read(&lines[..]).unwrap();
        assert_eq!(series.rows(), (1..=5).map(|second| row(second, "main/1")).collect::<Vec<_>>());
        // Nonsense numbers are no reason to fail either.
        let mad = format!(r#"{{"seconds": {0}, "messages_sent": {0}}}"#, u64::MAX);
        let (series, _) = Series::read([mad.as_str(); 3].join("\n").as_bytes()).unwrap();
        assert_eq!(series.rows().len(), 3);
    }
}
