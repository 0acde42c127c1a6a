//! The protobuf format: `io.prometheus.client.MetricFamily`, each behind its length. Field numbers
//! are those of metrics.proto in prometheus/client_model.

use super::buckets::{Buckets, SCHEMA, Span};
use super::encode::Encode;
use super::table::{Kind, Metric};

/// Wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

/// Samples up to this many seconds would be in the zero bucket; none is. It also says that a
/// histogram without samples is a native one.
const ZERO_THRESHOLD: f64 = f64::from_bits((1023 - 128) << 52); // 2^-128, as other clients have it

/// Families being written.
#[derive(Debug)]
pub struct Protobuf {
    out: Vec<u8>,
    /// Where the family that is being written begins.
    family: Option<usize>,
    kind: Kind,
    labels: &'static [&'static str],
}

impl Default for Protobuf {
    fn default() -> Self {
        Self { out: Vec::new(), family: None, kind: Kind::Gauge, labels: &[] }
    }
}

impl Protobuf {
    fn end_family(&mut self) {
        if let Some(start) = self.family.take() {
            prefix_with_length(&mut self.out, start);
        }
    }

    /// A `Metric` of the family: its labels, then what `body` writes.
    fn metric(&mut self, values: &[&str], body: impl FnOnce(&mut Vec<u8>)) {
        debug_assert_eq!(values.len(), self.labels.len(), "labels {:?}", self.labels);
        let labels = self.labels;
        nested(&mut self.out, 4, |out| {
            for (name, value) in labels.iter().zip(values) {
                nested(out, 1, |out| {
                    string(out, 1, name);
                    string(out, 2, value);
                });
            }
            body(out);
        });
    }
}

impl Encode for Protobuf {
    fn begin_with(&mut self, metric: &Metric, labels: &'static [&'static str]) {
        self.end_family();
        (self.kind, self.labels, self.family) = (metric.kind, labels, Some(self.out.len()));
        string(&mut self.out, 1, metric.name);
        string(&mut self.out, 2, metric.help);
        let number = match metric.kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Summary => 2,
            Kind::Histogram => 4,
        };
        unsigned(&mut self.out, 3, number);
    }

    fn value(&mut self, labels: &[&str], value: f64) {
        let field = if self.kind == Kind::Counter { 3 } else { 2 };
        self.metric(labels, |out| nested(out, field, |out| double(out, 1, value)));
    }

    fn histogram(&mut self, labels: &[&str], buckets: &Buckets, is_native: bool) {
        self.metric(labels, |out| {
            nested(out, 7, |out| {
                unsigned(out, 1, buckets.count());
                double(out, 2, buckets.sum());
                for (edge, below) in buckets.classic() {
                    nested(out, 3, |out| {
                        unsigned(out, 1, below);
                        double(out, 2, edge);
                    });
                }
                if is_native {
                    native(out, &buckets.spans());
                }
            });
        });
    }

    fn summary(&mut self, labels: &[&str], quantiles: &[(f64, f64)]) {
        self.metric(labels, |out| {
            nested(out, 4, |out| {
                for &(quantile, value) in quantiles {
                    nested(out, 3, |out| {
                        double(out, 1, quantile);
                        double(out, 2, value);
                    });
                }
            });
        });
    }

    fn finish(mut self) -> Vec<u8> {
        self.end_family();
        self.out
    }
}

/// The native part of a `Histogram`. Spans say their distance from the one before, counts their
/// difference from the one before.
fn native(out: &mut Vec<u8>, spans: &[Span<'_>]) {
    signed(out, 5, i64::from(SCHEMA));
    double(out, 6, ZERO_THRESHOLD);
    unsigned(out, 7, 0);
    let mut end = 0;
    for span in spans {
        nested(out, 12, |out| {
            signed(out, 1, i64::from(span.first - end));
            unsigned(out, 2, span.counts.len() as u64);
        });
        end = span.first + span.counts.len() as i32;
    }
    let mut before = 0i64;
    for &count in spans.iter().flat_map(|span| span.counts) {
        signed(out, 13, count as i64 - before);
        before = count as i64;
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

fn unsigned(out: &mut Vec<u8>, field: u64, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

/// `sint32` and `sint64`: zigzag.
fn signed(out: &mut Vec<u8>, field: u64, value: i64) {
    unsigned(out, field, ((value << 1) ^ (value >> 63)) as u64);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn string(out: &mut Vec<u8>, field: u64, text: &str) {
    tag(out, field, BYTES);
    varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn nested(out: &mut Vec<u8>, field: u64, body: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, BYTES);
    let start = out.len();
    body(out);
    prefix_with_length(out, start);
}

/// Puts the length of what lies behind `start` before it.
fn prefix_with_length(out: &mut Vec<u8>, start: usize) {
    let end = out.len();
    varint(out, (end - start) as u64);
    let len = out.len() - end;
    out[start..].rotate_right(len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table::{CONNECT, STREAMS, TICKS_DUE, WORKER_TURN};
    use crate::stream::meter::Histograms;

    /// A field as the wire has it: number, and value or bytes.
    #[derive(Debug, Clone, PartialEq)]
    enum Field {
        Varint(u64, u64),
        Double(u64, f64),
        Bytes(u64, Vec<u8>),
    }

    fn read_varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = bytes.split_first().expect("a varint ends");
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
        }
        panic!("a varint has at most ten bytes");
    }

    fn split<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
        let (front, rest) = bytes.split_at(len);
        *bytes = rest;
        front
    }

    fn fields(mut bytes: &[u8]) -> Vec<Field> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let tag = read_varint(&mut bytes);
            found.push(match tag & 7 {
                VARINT => Field::Varint(tag >> 3, read_varint(&mut bytes)),
                FIXED64 => {
                    Field::Double(tag >> 3, f64::from_le_bytes(split(&mut bytes, 8).try_into().unwrap()))
                }
                BYTES => {
                    let len = read_varint(&mut bytes) as usize;
                    Field::Bytes(tag >> 3, split(&mut bytes, len).to_vec())
                }
                other => panic!("wire type {other}"),
            });
        }
        found
    }

    /// The messages of field `number`.
    fn inner(fields: &[Field], number: u64) -> Vec<Vec<Field>> {
        let bytes = fields.iter().filter_map(|field| match field {
            Field::Bytes(n, bytes) if *n == number => Some(super::tests::fields(bytes)),
            _ => None,
        });
        bytes.collect()
    }

    fn families(mut bytes: &[u8]) -> Vec<Vec<Field>> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let len = read_varint(&mut bytes) as usize;
            found.push(fields(split(&mut bytes, len)));
        }
        found
    }

    #[test]
    fn families_have_name_kind_labels_and_values() {
        let mut out = Protobuf::default();
        out.begin(&STREAMS);
        out.value(&["main", "open"], 50.0);
        out.value(&["main", "failed"], 0.0);
        out.single(&TICKS_DUE, 3e9);
        out.begin(&WORKER_TURN);
        out.summary(&["2"], &[(0.99, 0.5)]);
        let families = families(&out.finish());
        let name = |family: &[Field], name: &str| {
            assert_eq!(family[0], Field::Bytes(1, name.into()));
            family[2].clone()
        };
        assert_eq!(families.len(), 3);
        assert_eq!(name(&families[0], "scaled_streams"), Field::Varint(3, 1));
        let streams = inner(&families[0], 4);
        let label =
            |name: &str, value: &str| vec![Field::Bytes(1, name.into()), Field::Bytes(2, value.into())];
        assert_eq!(inner(&streams[0], 1), [label("group", "main"), label("state", "open")]);
        assert_eq!(inner(&streams[0], 2), [[Field::Double(1, 50.0)]]);
        assert_eq!(inner(&streams[1], 2), [[Field::Double(1, 0.0)]]);
        assert_eq!(name(&families[1], "scaled_ticks_due_total"), Field::Varint(3, 0));
        assert_eq!(inner(&inner(&families[1], 4)[0], 3), [[Field::Double(1, 3e9)]]);
        assert_eq!(name(&families[2], "scaled_worker_turn_seconds"), Field::Varint(3, 2));
        let quantiles = inner(&inner(&inner(&families[2], 4)[0], 4)[0], 3);
        assert_eq!(quantiles, [[Field::Double(1, 0.99), Field::Double(2, 0.5)]]);
    }

    /// The native buckets of a histogram's message: index and count, as a reader unpacks them.
    fn unpacked(histogram: &[Field]) -> Vec<(i64, i64)> {
        let unzigzag = |value: u64| (value >> 1) as i64 ^ -((value & 1) as i64);
        let deltas = histogram.iter().filter_map(|field| match field {
            Field::Varint(13, value) => Some(unzigzag(*value)),
            _ => None,
        });
        let counts = deltas.scan(0, |count, delta| {
            *count += delta;
            Some(*count)
        });
        let mut index = 0;
        let mut places = Vec::new();
        for span in inner(histogram, 12) {
            let [Field::Varint(1, offset), Field::Varint(2, len)] = span[..] else { panic!("{span:?}") };
            index += unzigzag(offset);
            places.extend(index..index + len as i64);
            index += len as i64;
        }
        places.into_iter().zip(counts).collect()
    }

    #[test]
    fn a_native_histogram_unpacks_to_its_buckets() {
        let mut samples = Histograms::empty();
        for (us, times) in [(500_000, 7), (560_000, 2), (2_000, 900), (3_000_000, 1)] {
            samples.record_n(us, times).unwrap();
        }
        let mut buckets = Buckets::default();
        buckets.take(&samples);
        for is_native in [true, false] {
            let mut out = Protobuf::default();
            out.begin(&CONNECT);
            out.histogram(&[], &buckets, is_native);
            let families = families(&out.finish());
            let histogram = inner(&inner(&families[0], 4)[0], 7).remove(0);
            assert_eq!(histogram[0], Field::Varint(1, 910));
            assert_eq!(inner(&histogram, 3).len(), 18, "classic buckets are there in any case");
            assert_eq!(histogram.contains(&Field::Varint(5, 8)), is_native, "schema 4");
            let expected: Vec<(i64, i64)> = buckets
                .spans()
                .iter()
                .flat_map(|span| (i64::from(span.first)..).zip(span.counts.iter().map(|&n| n as i64)))
                .collect();
            assert!(expected.len() >= 4 && expected.iter().any(|(_, count)| *count == 900));
            assert_eq!(unpacked(&histogram), if is_native { expected } else { Vec::new() });
        }
    }

    #[test]
    fn a_family_longer_than_a_byte_can_say_has_its_length_before_it() {
        let mut out = Protobuf::default();
        out.begin(&STREAMS);
        (0..1000).for_each(|n| out.value(&[&n.to_string(), "open"], f64::from(n)));
        assert_eq!(inner(&families(&out.finish())[0], 4).len(), 1000);
    }
}
