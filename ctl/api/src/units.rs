//! Sizes, rates and durations as users write them: always with a unit, always exact.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

/// Splits `12.5KB` into its exact value, in billionths, and its unit.
fn split(text: &str) -> Option<(u128, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || whole.len() > 20 {
        return None;
    }
    let billionths = fraction.parse::<u128>().ok()? * 10u128.pow(9 - fraction.len() as u32);
    Some((whole.parse::<u128>().ok()? * 1_000_000_000 + billionths, unit.trim_start()))
}

/// `billionths` × `factor` as a whole number; `None` where it is not one or too large.
fn scale(billionths: u128, factor: u64) -> Option<u64> {
    let scaled = billionths.checked_mul(u128::from(factor))?;
    (scaled % 1_000_000_000 == 0).then(|| u64::try_from(scaled / 1_000_000_000).ok())?
}

macro_rules! text_form {
    ($type:ident) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($type::FORM)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

/// A size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

impl Bytes {
    const FORM: &'static str = "a size with its unit, such as 4096B, 40KB or 64KiB";
    const UNITS: [(&'static str, u64); 7] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1_000),
        ("B", 1),
    ];

    /// Parses a size whose unit may be left out (`--bytes-per-tick 4096`).
    ///
    /// # Errors
    /// Not a size.
    pub fn parse_bare(text: &str) -> Result<Self, UnitError> {
        text.parse::<u64>().map(Self).or_else(|_| text.parse())
    }
}

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError(format!("`{text}` is not {}", Self::FORM));
        let (number, unit) = split(text.trim()).ok_or_else(error)?;
        let (_, factor) = Self::UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        scale(number, *factor).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = Self::UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        let (unit, factor) = exact.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

text_form!(Bytes);

/// Payload bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Rate(pub u64);

impl Rate {
    const FORM: &'static str = "a rate with its unit, such as 40KB/s or 1MiB/s";
}

impl FromStr for Rate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError(format!("`{text}` is not {}", Self::FORM));
        let bytes = text.trim().strip_suffix("/s").ok_or_else(error)?;
        bytes.parse::<Bytes>().map(|bytes| Self(bytes.0)).map_err(|_| error())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Bytes(self.0))
    }
}

text_form!(Rate);

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(u64);

impl Span {
    const FORM: &'static str = "a duration with its unit, such as 100ms, 1.5s or 1m30s";
    const UNITS: [(&'static str, u64); 6] = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];

    /// From nanoseconds.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// From seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// In nanoseconds.
    pub const fn ns(self) -> u64 {
        self.0
    }

    /// In seconds.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError(format!("`{text}` is not {}", Self::FORM));
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(error());
        }
        let (mut total, mut last) = (0u64, u64::MAX);
        while !rest.is_empty() {
            let (number, tail) = split(rest).ok_or_else(error)?;
            let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, next) = tail.split_at(end);
            let (_, factor) = Self::UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
            // 1m30s, but neither 30s1m nor 1s1s.
            if *factor >= last {
                return Err(error());
            }
            last = *factor;
            total = scale(number, *factor).and_then(|ns| total.checked_add(ns)).ok_or_else(error)?;
            rest = next;
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, factor) in Self::UNITS {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

text_form!(Span);

/// A number of things a second, exact to a thousandth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PerSecond {
    /// Thousandths a second.
    pub milli: u64,
}

impl PerSecond {
    const FORM: &'static str = "a number a second, such as 500/s";
}

impl FromStr for PerSecond {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError(format!("`{text}` is not {}", Self::FORM));
        let number = text.trim().strip_suffix("/s").ok_or_else(error)?;
        let (billionths, unit) = split(number).ok_or_else(error)?;
        let milli = scale(billionths, 1000).ok_or_else(error)?;
        if unit.is_empty() { Ok(Self { milli }) } else { Err(error()) }
    }
}

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.milli / 1000, self.milli % 1000) {
            (whole, 0) => write!(f, "{whole}/s"),
            (whole, rest) => write!(f, "{whole}.{rest:03}/s"),
        }
    }
}

text_form!(PerSecond);

/// `0,2-3,2` as core numbers, in the order given.
///
/// # Errors
/// Not such a list.
pub fn parse_cores(text: &str) -> Result<Vec<usize>, UnitError> {
    let error = || UnitError(format!("`{text}` is not a list of cores, such as 2-7,10"));
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) =
            (from.trim().parse().map_err(|_| error())?, to.trim().parse().map_err(|_| error())?);
        if from > to || to >= 4096 {
            return Err(error());
        }
        cores.extend(from..=to);
    }
    Ok(cores)
}

/// Seconds since 1970 as `2026-01-02T03:04:05Z` (RFC 3339).
pub fn utc(unix: f64) -> String {
    let seconds = unix.max(0.0) as u64;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the Gregorian calendar, counted from 1 March of year 0, when leap days end a year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let of_era_years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_era_years + of_era_years / 4 - of_era_years / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + of_era_years + u64::from(month <= 2);
    let (hours, minutes) = (of_day / 3600, of_day / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{:02}Z", of_day % 60)
}

/// 20000 as 20,000.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_exactly_and_print_as_they_are_read() {
        for (text, ns) in
            [("100ms", 100_000_000), ("1.5s", 1_500_000_000), ("1m30s", 90_000_000_000), ("0s", 0)]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.ns(), ns);
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        for (text, bytes) in [("40KB", 40_000), ("64KiB", 65_536), ("1.5MB", 1_500_000), ("0B", 0)] {
            let size: Bytes = text.parse().unwrap();
            assert_eq!(size.0, bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        assert_eq!(Bytes(u64::MAX).to_string().parse(), Ok(Bytes(u64::MAX)));
        assert!("99999999999999999999B".parse::<Bytes>().is_err());
        assert_eq!("40KB/s".parse(), Ok(Rate(40_000)));
        assert_eq!(Rate(40_960).to_string(), "40KiB/s");
        assert_eq!("2.5/s".parse(), Ok(PerSecond { milli: 2500 }));
    }

    #[test]
    fn a_bare_number_and_nonsense_are_refused_with_the_form() {
        for text in ["100", "", "ms", "1x", "1.0000000001s", "30s1m", "1s1s", "-1s", "1.s"] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains("such as 100ms"), "{text}: {error}");
        }
        assert!(
            "40KB".parse::<Rate>().is_err()
                && "0.5B".parse::<Bytes>().is_err()
                && "4096".parse::<Bytes>().is_err()
        );
        assert_eq!(Bytes::parse_bare("4096"), Ok(Bytes(4096)));
    }

    #[test]
    fn dates_are_of_the_calendar() {
        for (unix, text) in [
            (0.0, "1970-01-01T00:00:00Z"),
            (951_782_400.0, "2000-02-29T00:00:00Z"),
            (1_709_251_199.999, "2024-02-29T23:59:59Z"),
            (1_709_251_200.0, "2024-03-01T00:00:00Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00Z"),
            (-1.0, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(utc(unix), text);
        }
    }

    #[test]
    fn cores_are_listed() {
        assert_eq!(parse_cores("2-4,0"), Ok(vec![2, 3, 4, 0]));
        assert!(parse_cores("4-2").is_err() && parse_cores("x").is_err() && parse_cores("").is_err());
    }
}
