//! What every format can write: families, one after the other, each with its samples.

use super::buckets::Buckets;
use super::table::Metric;

/// A scrape being written. [`Encode::begin`] comes before a family's samples; each sample gives
/// the values of the family's labels in their order.
pub trait Encode {
    /// A family begins, with the labels of the table.
    fn begin(&mut self, metric: &Metric) {
        self.begin_with(metric, metric.labels);
    }

    /// A family begins whose samples have other labels than the table says.
    fn begin_with(&mut self, metric: &Metric, labels: &'static [&'static str]);

    /// A counter's or a gauge's value.
    fn value(&mut self, labels: &[&str], value: f64);

    /// A distribution; `is_native`: also as a native histogram, in a format that has them.
    fn histogram(&mut self, labels: &[&str], buckets: &Buckets, is_native: bool);

    /// Quantiles of a summary, whose samples are neither counted nor summed up.
    fn summary(&mut self, labels: &[&str], quantiles: &[(f64, f64)]);

    /// Everything that was written.
    fn finish(self) -> Vec<u8>
    where
        Self: Sized;

    /// A family of one sample without labels.
    fn single(&mut self, metric: &Metric, value: f64) {
        self.begin(metric);
        self.value(&[], value);
    }
}
