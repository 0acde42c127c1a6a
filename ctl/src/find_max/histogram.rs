//! A histogram as the daemon hands it out: HdrHistogram's V2 encoding, in Base64 (RFC 4648, section 4).
//!
//! The encoding (HdrHistogram, "V2 encoding format"): seven words of head, big-endian, then the counts of all values from
//! the lowest on as zig-zag LEB128, where a negative number is so many counts of zero.

use scale_api::report::Figure;

const COOKIE: u32 = 0x1c84_9303;
/// The head's bytes: cookie, length, offset and digits of 4 bytes, lowest, highest and ratio of 8.
const HEAD: usize = 40;
/// What the daemon's histograms are made with, so that a count's place says its value: three digits, from 1 us on.
const DIGITS: u32 = 3;
const SUB_BUCKETS: u64 = 2048;
/// No histogram has more counts.
const COUNTS_MAX: usize = 64 * SUB_BUCKETS as usize;

/// Counts by value, in us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram(Vec<u64>);

impl Histogram {
    /// Reads one.
    ///
    /// # Errors
    /// It is of another kind.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = base64(text).ok_or("a histogram is no Base64")?;
        Self::decode(&bytes).ok_or_else(|| "a histogram is of another kind".into())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let lowest = u64::from_be_bytes(bytes.get(16..24)?.try_into().ok()?);
        if word(0)? & !0xf0 != COOKIE & !0xf0 || word(12)? != DIGITS || lowest != 1 {
            return None;
        }
        let mut rest = bytes.get(HEAD..HEAD.checked_add(word(4)? as usize)?)?.iter();
        let mut counts = Vec::new();
        while rest.len() > 0 {
            let (mut raw, mut shift) = (0u64, 0);
            // The ninth byte has eight bits of the number, and no sign that more come.
            loop {
                let byte = u64::from(*rest.next()?);
                if shift == 56 {
                    raw |= byte << shift;
                    break;
                }
                raw |= (byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let number = (raw >> 1) as i64 ^ -((raw & 1) as i64);
            match u64::try_from(number) {
                Ok(count) => counts.push(count),
                Err(_) => counts
                    .resize(counts.len().checked_add(usize::try_from(-number).ok()?)?.min(COUNTS_MAX), 0),
            }
            if counts.len() >= COUNTS_MAX {
                return None;
            }
        }
        Some(Self(counts))
    }

    /// Adds what `now` has more than `before`.
    pub fn add_since(&mut self, now: &Self, before: &Self) {
        self.0.resize(self.0.len().max(now.0.len()), 0);
        for (at, (sum, count)) in self.0.iter_mut().zip(&now.0).enumerate() {
            *sum += count.saturating_sub(before.0.get(at).copied().unwrap_or(0));
        }
    }

    /// As a distribution in seconds; `None`: it has no sample.
    pub fn figure(&self) -> Option<Figure> {
        let count: u64 = self.0.iter().sum();
        if count == 0 {
            return None;
        }
        let at = |quantile: f64| {
            let rank = ((quantile * count as f64).ceil() as u64).clamp(1, count);
            let mut seen = 0;
            let place = self.0.iter().position(|n| {
                seen += n;
                seen >= rank
            });
            highest(place.unwrap_or(0)) as f64 / 1e6
        };
        let first = self.0.iter().position(|&n| n > 0).unwrap_or(0);
        let middles = self.0.iter().enumerate().map(|(place, &n)| {
            let (low, width) = value(place);
            (low as f64 + if width > 1 { width as f64 / 2.0 } else { 0.0 }) * n as f64
        });
        Some(Figure {
            count,
            min: value(first).0 as f64 / 1e6,
            mean: middles.sum::<f64>() / count as f64 / 1e6,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: at(1.0),
        })
    }
}

/// The lowest value of a place, and how many values share it.
fn value(place: usize) -> (u64, u64) {
    let place = place as u64;
    let half = SUB_BUCKETS / 2;
    let Some(bucket) = (place / half).checked_sub(1) else { return (place, 1) };
    ((place % half + half) << bucket, 1 << bucket)
}

/// The highest value of a place.
fn highest(place: usize) -> u64 {
    let (low, width) = value(place);
    low + width - 1
}

/// `None`: it is none.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        Some(u32::from(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }))
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut word = 0;
        for &byte in four {
            word = word << 6 | digit(byte)?;
        }
        word <<= 6 * (4 - four.len());
        bytes.extend_from_slice(&word.to_be_bytes()[1..four.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the `hdrhistogram` crate, as the daemon makes them: 1..=1000 us, each once, then 250 ms ten times.
    const MADE: &str = include_str!("histogram.txt");

    #[test]
    fn what_the_daemon_hands_out_is_read_with_its_percentiles() {
        let histogram = Histogram::parse(MADE.trim()).expect("it is one");
        let figure = histogram.figure().expect("it has samples");
        assert_eq!((figure.count, figure.min, figure.p50), (1010, 0.000_001, 0.000_505));
        assert_eq!((figure.p90, figure.p99), (0.000_909, 0.001));
        assert!((0.25..0.250_2).contains(&figure.max) && figure.p999 == figure.max, "{figure:?}");
        assert!((figure.mean - 0.002_971_267).abs() < 1e-9, "{figure:?}");
    }

    #[test]
    fn a_step_is_what_has_come_since() {
        let now = Histogram::parse(MADE.trim()).expect("it is one");
        let mut before = now.clone();
        before.0.truncate(1001);
        let mut step = Histogram::default();
        step.add_since(&now, &before);
        let figure = step.figure().expect("ten are left");
        assert_eq!(figure.count, 10);
        assert!((0.249_8..0.250_2).contains(&figure.min), "{figure:?}");
        let mut none = Histogram::default();
        none.add_since(&now, &now);
        assert_eq!(none.figure(), None);
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "AAAA", "!!", &MADE[..60], &MADE.trim().replace("HIST", "AAAA")] {
            assert!(Histogram::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn places_follow_one_another() {
        for place in 0..10_000 {
            assert_eq!(highest(place) + 1, value(place + 1).0);
        }
        assert_eq!((value(2047), value(2048), value(3071)), ((2047, 1), (2048, 2), (4094, 2)));
    }
}
