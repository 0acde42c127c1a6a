//! When a group's connects are held, and when its run ends because nothing comes back.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{GroupSpec, Reconnect, Span};

/// Share of failed connects that opens a breaker, in thousandths, where none is given.
pub const DEFAULT_SHARE_MILLI: u32 = 500;
/// Silence that ends a run where none is given: of groups whose streams do not come back, and of others,
/// whose back-off alone may be a minute.
pub const DEFAULT_SILENCE: Span = Span::from_secs(30);
const DEFAULT_SILENCE_RECONNECTING: Span = Span::from_secs(120);
/// Seconds are looked at one by one.
const SILENCE_MIN: Span = Span::from_secs(1);

/// Whether a group's connects are held where many fail: `on`, `off`, or the share that is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Never.
    Off,
    /// From this share on, in thousandths.
    Share(u32),
}

impl Breaker {
    /// Where nothing is given.
    pub const ON: Self = Self::Share(DEFAULT_SHARE_MILLI);
}

impl FromStr for Breaker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: write on, off, or a share such as 30%, of 0.1% to 100%");
        match text {
            "on" => return Ok(Self::ON),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let digits = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, tenth) = digits.split_once('.').unwrap_or((digits, "0"));
        let number = |digits: &str, most: usize| {
            let is_number = (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| digits.parse::<u32>().ok()).flatten()
        };
        let milli = number(whole, 3).zip(number(tenth, 1)).map(|(whole, tenth)| whole * 10 + tenth);
        milli.filter(|milli| (1..=1000).contains(milli)).map(Self::Share).ok_or_else(wrong)
    }
}

impl fmt::Display for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Share(milli) if milli % 10 == 0 => write!(f, "{}%", milli / 10),
            Self::Share(milli) => write!(f, "{}.{}%", milli / 10, milli % 10),
        }
    }
}

/// How long a target may answer nothing before its run ends: a time, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// As long as it likes.
    Off,
    /// So long.
    For(Span),
}

impl FromStr for Silence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::For).map_err(|error: crate::units::UnitError| error.to_string())
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::For(span) => write!(f, "{span}"),
        }
    }
}

macro_rules! as_text {
    ($($type:ty)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(Breaker Silence);

impl GroupSpec {
    /// The silence that ends its run.
    pub fn silence_or_default(&self) -> Silence {
        self.silence.unwrap_or(Silence::For(match self.reconnect {
            Reconnect::Never => DEFAULT_SILENCE,
            Reconnect::Backoff | Reconnect::Client(_) => DEFAULT_SILENCE_RECONNECTING,
        }))
    }

    pub(super) fn check_silence(&self, error: &mut dyn FnMut(String)) {
        if let Some(Silence::For(span)) = self.silence
            && span < SILENCE_MIN
        {
            error(format!("--silence {span} is too short; give at least {SILENCE_MIN}, or off"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::{errors, group};

    #[test]
    fn a_share_is_written_as_it_is_read() {
        for (text, breaker) in [
            ("on", Breaker::Share(500)),
            ("off", Breaker::Off),
            ("30%", Breaker::Share(300)),
            ("0.5%", Breaker::Share(5)),
            ("100%", Breaker::Share(1000)),
        ] {
            assert_eq!(text.parse(), Ok(breaker), "{text}");
            assert_eq!(breaker.to_string().parse(), Ok(breaker), "{text}");
        }
        for wrong in ["", "%", "0%", "101%", "30", "0.5", "+3%", "1.%", ".5%", "1.25%", "9999999999%", "ON"] {
            assert!(wrong.parse::<Breaker>().unwrap_err().contains("30%"), "{wrong}");
        }
    }

    #[test]
    fn silence_is_a_time_or_off_and_longer_where_streams_come_back() {
        assert_eq!("off".parse(), Ok(Silence::Off));
        assert_eq!("45s".parse(), Ok(Silence::For(Span::from_secs(45))));
        assert!("30".parse::<Silence>().is_err());
        assert!(errors(|g| g.silence = Some(Silence::For(Span::from_ns(1)))).contains("--silence"));
        let mut group = group();
        assert_eq!(group.silence_or_default().to_string(), "30s");
        group.reconnect = Reconnect::Backoff;
        assert_eq!(group.silence_or_default().to_string(), "2m");
        group.silence = Some(Silence::Off);
        assert_eq!(group.silence_or_default(), Silence::Off);
    }
}
