//! A series by column: a name once instead of once a row, and six digits of what is only drawn.
//!
//! - a figure of a row: `[value, …]`, one a row; `stage`: `[[name, rows], …]`, runs of the same
//! - by class: `{class: [[row, count], …]}`, rows without any left out
//! - a heat: `[[first, count, …], …]`, one a row; `[]` where there are no samples
//! - `busy`: `[{worker, values}, …]`, the busiest [`WORKERS_MAX`] workers; `busy_max` is over all of them
//! - `observe`: `{name: [value, …]}`, `null` where there was no answer

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use scale_api::report::{Heat, SeriesRow};

/// Workers whose busy share is drawn, each by itself.
const WORKERS_MAX: usize = 16;
/// Digits of what is drawn: finer than any screen.
const DIGITS: i32 = 6;

/// Rows of a series, to be serialised by column.
pub struct Columns<'a>(pub &'a [SeriesRow]);

/// One figure of every row.
struct Column<'a, T>(&'a [SeriesRow], fn(&'a SeriesRow) -> T);

impl<T: Serialize> Serialize for Column<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(self.1))
    }
}

/// A heat, flat.
struct Flat<'a>(&'a Heat);

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let first = (!self.0.counts.is_empty()).then_some(self.0.first);
        serializer.collect_seq(first.iter().chain(&self.0.counts))
    }
}

/// A worker's own.
#[derive(Serialize)]
struct Busy {
    worker: usize,
    values: Vec<Option<f64>>,
}

macro_rules! columns {
    ($map:ident, $rows:ident, $how:expr; $($field:ident)*) => {
        $($map.serialize_entry(stringify!($field), &Column($rows, |row| $how(&row.$field)))?;)*
    };
}

impl Serialize for Columns<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = self.0;
        let mut map = serializer.serialize_map(None)?;
        columns!(map, rows, |value: &f64| short(*value);
            at rate_offered rate_sent rate_received busy_max);
        columns!(map, rows, |value: &u64| *value;
            seconds streams_open messages_sent messages_echoed ticks_due ticks_missed connects_begun connects connect_failures disconnects);
        columns!(map, rows, |value: &Option<f64>| value.map(short);
            connect_p99 lateness_p50 lateness_p99 lateness_max service_p50 service_p99
            response_p50 response_p90 response_p99 response_max);
        map.serialize_entry("saturated", &Column(rows, |row| u8::from(row.saturated)))?;
        map.serialize_entry("response_heat", &Column(rows, |row| Flat(&row.response_heat)))?;
        map.serialize_entry("lateness_heat", &Column(rows, |row| Flat(&row.lateness_heat)))?;
        map.serialize_entry("stage", &stages(rows))?;
        map.serialize_entry(
            "connect_failures_by_class",
            &by_class(rows, |row| &row.connect_failures_by_class),
        )?;
        map.serialize_entry("disconnects_by_class", &by_class(rows, |row| &row.disconnects_by_class))?;
        map.serialize_entry("busy", &busy(rows))?;
        map.serialize_entry("observe", &observe(rows))?;
        map.end()
    }
}

/// `value` with [`DIGITS`] digits.
fn short(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    // Powers of ten are exact up to 10^22; beyond them nothing is gained.
    match DIGITS - 1 - value.abs().log10().floor() as i32 {
        power @ 0..=22 => (value * 10f64.powi(power)).round() / 10f64.powi(power),
        power @ -22..0 => (value / 10f64.powi(-power)).round() * 10f64.powi(-power),
        _ => value,
    }
}

fn stages(rows: &[SeriesRow]) -> Vec<(&str, usize)> {
    let same = rows.chunk_by(|one, other| one.stage == other.stage);
    same.map(|rows| (rows[0].stage.as_str(), rows.len())).collect()
}

fn by_class(
    rows: &[SeriesRow],
    counts: fn(&SeriesRow) -> &BTreeMap<String, u64>,
) -> BTreeMap<&str, Vec<(usize, u64)>> {
    let mut classes: BTreeMap<&str, Vec<(usize, u64)>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        for (class, count) in counts(row) {
            classes.entry(class).or_default().push((at, *count));
        }
    }
    classes
}

fn busy(rows: &[SeriesRow]) -> Vec<Busy> {
    let workers = rows.iter().map(|row| row.busy.len()).max().unwrap_or(0);
    let sum = |worker: usize| rows.iter().filter_map(|row| row.busy.get(worker)).sum::<f64>();
    let mut busiest: Vec<(usize, f64)> = (0..workers).map(|worker| (worker, sum(worker))).collect();
    busiest.sort_by(|one, other| other.1.total_cmp(&one.1));
    busiest.truncate(WORKERS_MAX);
    busiest.sort_by_key(|(worker, _)| *worker);
    let values = |worker: usize| {
        let values = rows.iter().map(|row| row.busy.get(worker).map(|busy| (busy * 1e4).round() / 1e4));
        values.collect()
    };
    busiest.into_iter().map(|(worker, _)| Busy { worker, values: values(worker) }).collect()
}

fn observe(rows: &[SeriesRow]) -> BTreeMap<&str, Vec<Option<f64>>> {
    let names: BTreeSet<&str> = rows.iter().flat_map(|row| row.observe.keys()).map(String::as_str).collect();
    let values = |name: &str| rows.iter().map(|row| row.observe.get(name).copied().map(short)).collect();
    names.into_iter().map(|name| (name, values(name))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_drawn_has_six_digits_at_any_size() {
        let shortened = [0.0, 1234.5678, 0.000_123_456_789, 40_960_123.0, 1e300, -2.0 / 3.0].map(short);
        assert_eq!(shortened, [0.0, 1234.57, 0.000_123_457, 40_960_100.0, 1e300, -0.666_667]);
    }

    #[test]
    fn a_series_by_column_says_what_its_rows_say() {
        let row =
            |at: f64, stage: &str| SeriesRow { at, seconds: 1, stage: stage.into(), ..Default::default() };
        let mut rows = [row(1.0, "ramping"), row(2.0, "main/1"), row(3.0, "main/1")];
        rows[1].response_p99 = Some(0.25);
        rows[1].response_heat = Heat { first: 3, counts: vec![1, 0, 2] };
        rows[1].disconnects_by_class.insert("reset".into(), 4);
        rows[2].busy = vec![0.123_456, 1.0];
        rows[2].observe.insert("cpu".into(), 0.5);
        let columns = serde_json::to_value(Columns(&rows)).unwrap();
        assert_eq!(columns["at"], json!([1.0, 2.0, 3.0]));
        assert_eq!(columns["stage"], json!([["ramping", 1], ["main/1", 2]]));
        assert_eq!(columns["response_p99"], json!([null, 0.25, null]));
        assert_eq!(columns["response_heat"], json!([[], [3, 1, 0, 2], []]));
        assert_eq!(columns["disconnects_by_class"], json!({"reset": [[1, 4]]}));
        assert_eq!(columns["busy"][1], json!({"worker": 1, "values": [null, null, 1.0]}));
        assert_eq!(columns["busy"][0]["values"][2], json!(0.1235));
        assert_eq!(columns["observe"], json!({"cpu": [null, null, 0.5]}));
        // Whatever a row has is a column.
        for field in serde_json::to_value(&rows[0]).unwrap().as_object().unwrap().keys() {
            assert!(columns.get(field).is_some(), "{field}");
        }
    }

    #[test]
    fn of_many_workers_the_busiest_are_kept() {
        let row = SeriesRow { busy: (0..40).map(|n| f64::from(n) / 40.0).collect(), ..Default::default() };
        let kept: Vec<usize> = busy(&[row]).iter().map(|busy| busy.worker).collect();
        assert_eq!(kept, (24..40).collect::<Vec<_>>());
    }
}
