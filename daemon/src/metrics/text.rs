//! The text format, version 0.0.4.

use std::io::Write;

use super::buckets::Buckets;
use super::encode::Encode;
use super::table::Metric;

/// A text being written.
#[derive(Debug, Default)]
pub struct Text {
    out: Vec<u8>,
    name: &'static str,
    labels: &'static [&'static str],
}

impl Text {
    /// A line; `more`: a label beside the family's own.
    fn line(&mut self, suffix: &str, labels: &[&str], more: Option<(&str, f64)>, value: f64) {
        debug_assert_eq!(labels.len(), self.labels.len(), "labels of {}", self.name);
        let out = &mut self.out;
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        let mut opened = false;
        let mut open = |out: &mut Vec<u8>| {
            out.push(if std::mem::replace(&mut opened, true) { b',' } else { b'{' });
        };
        for (name, value) in self.labels.iter().zip(labels) {
            open(out);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"=\"");
            escape(out, value, true);
            out.push(b'"');
        }
        if let Some((name, value)) = more {
            open(out);
            let _ = match value.is_infinite() {
                true => write!(out, "{name}=\"+Inf\""),
                false => write!(out, "{name}=\"{value}\""),
            };
        }
        if opened {
            out.push(b'}');
        }
        let _ = writeln!(out, " {value}");
    }
}

impl Encode for Text {
    fn begin_with(&mut self, metric: &Metric, labels: &'static [&'static str]) {
        (self.name, self.labels) = (metric.name, labels);
        let _ = write!(self.out, "# HELP {} ", metric.name);
        escape(&mut self.out, metric.help, false);
        let _ = writeln!(self.out, "\n# TYPE {} {}", metric.name, metric.kind.name());
    }

    fn value(&mut self, labels: &[&str], value: f64) {
        self.line("", labels, None, value);
    }

    fn histogram(&mut self, labels: &[&str], buckets: &Buckets, _: bool) {
        for (edge, below) in buckets.classic() {
            self.line("_bucket", labels, Some(("le", edge)), below as f64);
        }
        let count = buckets.count() as f64;
        self.line("_bucket", labels, Some(("le", f64::INFINITY)), count);
        self.line("_sum", labels, None, buckets.sum());
        self.line("_count", labels, None, count);
    }

    fn summary(&mut self, labels: &[&str], quantiles: &[(f64, f64)]) {
        for &(quantile, value) in quantiles {
            self.line("", labels, Some(("quantile", quantile)), value);
        }
    }

    fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// A help text, or with `quotes` a label's value.
fn escape(out: &mut Vec<u8>, text: &str, quotes: bool) {
    for &byte in text.as_bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quotes => out.extend_from_slice(b"\\\""),
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table::{CONNECT, MARK_INFO, RUN_INFO, WORKER_TURN};

    #[test]
    fn labels_are_escaped_and_families_have_help_and_type() {
        let mut text = Text::default();
        text.begin(&MARK_INFO);
        text.value(&["a \"b\" \\ c\nd"], 1.0);
        text.begin(&RUN_INFO);
        text.value(&["7", "nightly"], 1.0);
        text.begin(&WORKER_TURN);
        text.summary(&["3"], &[(0.99, 0.0005), (1.0, 0.25)]);
        let expected = format!(
            "# HELP scaled_mark_info {}\n# TYPE scaled_mark_info gauge\nscaled_mark_info{{text=\"a \\\"b\\\" \\\\ c\\nd\"}} 1\n\
             # HELP scaled_run_info {}\n# TYPE scaled_run_info gauge\nscaled_run_info{{run=\"7\",name=\"nightly\"}} 1\n\
             # HELP scaled_worker_turn_seconds {}\n# TYPE scaled_worker_turn_seconds summary\n\
             scaled_worker_turn_seconds{{cpu=\"3\",quantile=\"0.99\"}} 0.0005\n\
             scaled_worker_turn_seconds{{cpu=\"3\",quantile=\"1\"}} 0.25\n",
            MARK_INFO.help, RUN_INFO.help, WORKER_TURN.help
        );
        assert_eq!(String::from_utf8(text.finish()).unwrap(), expected);
    }

    #[test]
    fn a_histogram_ends_with_its_infinite_bucket_sum_and_count() {
        let mut text = Text::default();
        text.begin(&CONNECT);
        text.histogram(&[], &Buckets::default(), true);
        let text = String::from_utf8(text.finish()).unwrap();
        assert!(text.contains("\nscaled_connect_time_seconds_bucket{le=\"0.0001\"} 0\n"), "{text}");
        let end = "_bucket{le=\"+Inf\"} 0\nscaled_connect_time_seconds_sum 0\nscaled_connect_time_seconds_count 0\n";
        assert!(text.ends_with(end), "{text}");
    }
}
