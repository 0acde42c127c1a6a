//! What values are measured in: how bounds are read, and values shown.

use crate::units::{Bytes, Rate, Span, thousands};

/// What a value is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds; written with a unit, such as `250ms`.
    Time,
    /// 0 to 1; written as `0.99` or `99%`.
    Share,
    /// Bytes a second; written as `40KB/s`.
    Rate,
    /// Bytes; written as `40KB` or `0`.
    Bytes,
    /// A count, or whatever a query says.
    Number,
}

impl Unit {
    /// Reads a bound.
    ///
    /// # Errors
    /// How it is to be written.
    pub fn read(self, text: &str) -> Result<f64, String> {
        let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
        match self {
            Self::Time => text.parse().map(Span::seconds).map_err(|error| error.to_string()),
            Self::Rate => text.parse().map(|rate: Rate| rate.0 as f64).map_err(|error| error.to_string()),
            Self::Bytes => {
                Bytes::parse_bare(text).map(|bytes| bytes.0 as f64).map_err(|error| error.to_string())
            }
            Self::Share | Self::Number => text
                .strip_suffix('%')
                .and_then(|percent| number(percent.trim()).map(|value| value / 100.0))
                .or_else(|| number(text))
                .ok_or_else(|| format!("`{text}` is no number; write 0.99 or 99%")),
        }
    }

    /// A value as people read it.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Time if value < 0.001 => format!("{:.0} us", value * 1e6),
            Self::Time if value < 1.0 => format!("{:.2} ms", value * 1e3),
            Self::Time => format!("{value:.2} s"),
            Self::Share => format!("{:.3} %", value * 100.0),
            Self::Rate if value < 1e6 => format!("{:.1} KB/s", value / 1e3),
            Self::Rate => format!("{:.1} MB/s", value / 1e6),
            Self::Bytes if value < 1e7 => format!("{} B", thousands(value as u64)),
            Self::Bytes => format!("{:.1} MB", value / 1e6),
            Self::Number if value.fract() == 0.0 && (0.0..1e15).contains(&value) => thousands(value as u64),
            Self::Number => format!("{value:.4}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_their_unit() {
        assert_eq!(Unit::Time.show(0.000_25), "250 us");
        assert_eq!(
            (Unit::Time.show(0.0123).as_str(), Unit::Time.show(12.0).as_str()),
            ("12.30 ms", "12.00 s")
        );
        assert_eq!(
            (Unit::Share.show(0.999).as_str(), Unit::Rate.show(40_960.0).as_str()),
            ("99.900 %", "41.0 KB/s")
        );
        let shown = (Unit::Bytes.show(4096.0), Unit::Bytes.show(12_345_678.0));
        assert_eq!(shown, ("4,096 B".into(), "12.3 MB".into()));
        assert_eq!((Unit::Bytes.read("40KB"), Unit::Bytes.read("0")), (Ok(40_000.0), Ok(0.0)));
        assert!(Unit::Bytes.read("few").unwrap_err().contains("a size with its unit"));
        assert_eq!(
            (Unit::Number.show(1234.0).as_str(), Unit::Number.show(0.25).as_str()),
            ("1,234", "0.2500")
        );
    }
}
