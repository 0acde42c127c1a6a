//! The rows of a heat map of times: two a doubling, from 100 µs to 100 s.

use crate::report::Heat;

/// Rows of a heat map. Row 0 is what lies below 100 µs, the last what lies beyond its lower edge.
pub const ROWS: usize = 41;
/// Upper edge of row 0, in seconds.
pub const FIRST_EDGE: f64 = 1e-4;

/// Lower edge of a row, in seconds: 100 µs × 2^((row − 1) / 2), and 0 of row 0.
pub fn lower_edge(row: usize) -> f64 {
    if row == 0 { 0.0 } else { FIRST_EDGE * ((row - 1) as f64 / 2.0).exp2() }
}

/// The row of a time in seconds.
pub fn row(seconds: f64) -> usize {
    if seconds < FIRST_EDGE {
        return 0;
    }
    let near = ((2.0 * (seconds / FIRST_EDGE).log2()) as usize + 1).min(ROWS - 1);
    // The logarithm's last digit may be off, and the edges decide.
    if seconds < lower_edge(near) {
        near - 1
    } else if near + 1 < ROWS && seconds >= lower_edge(near + 1) {
        near + 1
    } else {
        near
    }
}

impl Heat {
    /// `counts` of all rows from 0 on, empty ones at either end left out.
    pub fn new(counts: &[u64]) -> Self {
        let Some(first) = counts.iter().position(|&count| count > 0) else { return Self::default() };
        let last = counts.iter().rposition(|&count| count > 0).unwrap_or(first);
        Self { first: first as u64, counts: counts[first..=last].to_vec() }
    }

    /// The counts of all [`ROWS`]; rows that do not exist are left out.
    pub fn rows(&self) -> [u64; ROWS] {
        let mut rows = [0; ROWS];
        let first = usize::try_from(self.first).unwrap_or(ROWS);
        for (row, count) in rows.iter_mut().skip(first).zip(&self.counts) {
            *row = *count;
        }
        rows
    }

    /// Adds the samples of another.
    pub fn add(&mut self, other: &Self) {
        let mut rows = self.rows();
        rows.iter_mut().zip(other.rows()).for_each(|(row, count)| *row += count);
        *self = Self::new(&rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_begins_where_the_one_before_ends() {
        for index in 0..ROWS {
            assert_eq!(row(lower_edge(index)), index);
            assert_eq!(row(lower_edge(index + 1) * 0.999), index);
        }
        assert!(lower_edge(ROWS - 1) < 100.0 && row(3600.0) == ROWS - 1);
    }

    #[test]
    fn every_microsecond_and_every_time_beside_an_edge_is_in_the_row_whose_edges_hold_it() {
        let scan = |seconds: f64| (1..ROWS).rev().find(|&row| seconds >= lower_edge(row)).unwrap_or(0);
        let beside = (1..ROWS).flat_map(|row| {
            let edge = lower_edge(row);
            [edge.next_down(), edge, edge.next_up()]
        });
        let microseconds = (0..1_000_000_u32).step_by(7).map(|us| f64::from(us) / 1e6);
        for seconds in beside.chain(microseconds).chain([0.0, 99.0, 1e9]) {
            assert_eq!(row(seconds), scan(seconds), "{seconds}");
        }
    }

    #[test]
    fn heat_keeps_its_samples_without_the_empty_ends() {
        let mut heat = Heat::new(&[0, 0, 3, 0, 1, 0]);
        assert_eq!(heat, Heat { first: 2, counts: vec![3, 0, 1] });
        heat.add(&Heat::new(&[5]));
        assert_eq!(heat.rows()[..6], [5, 0, 3, 0, 1, 0]);
        assert_eq!(Heat::new(&[0; ROWS]), Heat::default());
        assert_eq!(Heat { first: u64::MAX, counts: vec![1] }.rows(), [0; ROWS]);
    }
}
