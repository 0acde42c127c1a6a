//! The words of `--limit`.

use std::str::FromStr;

use scale_api::units::{PerSecond, Rate, Span};

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Messages above it close their websocket; `burst`: how long a stall of the sender's may be that is made up for.
    Rate {
        /// How much is free.
        pace: Pace,
        /// What the bucket holds, as time.
        burst: Span,
    },
    /// Websockets at once.
    Conns(u64),
    /// How fast messages are served, one behind the other.
    Queue(Pace),
    /// Answers wait `base`, and `slope` more for each per cent above `load`.
    Knee {
        /// Where it bends.
        load: Load,
        /// At and below it.
        base: Span,
        /// For each per cent above it.
        slope: Span,
        /// Over which messages are counted.
        window: Span,
    },
    /// Above `load`, each `every`, a share of what is open is reset.
    Drop {
        /// The most that is borne.
        load: Load,
        /// Of those open, 0 to 1.
        share: f64,
        /// How often.
        every: Span,
        /// Over which messages are counted.
        window: Span,
    },
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Messages.
    Messages(PerSecond),
    /// Payload.
    Bytes(Rate),
}

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Websockets that are open.
    Streams(u64),
    /// Messages that come.
    Messages(PerSecond),
}

impl Limit {
    /// Its word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::Conns(_) => "conns",
            Self::Queue(_) => "queue",
            Self::Knee { .. } => "knee",
            Self::Drop { .. } => "drop",
        }
    }
}

impl Pace {
    /// What a message of `bytes` takes at this pace, in ns.
    pub fn ns(self, bytes: u64) -> u64 {
        match self {
            Self::Messages(rate) => 1_000_000_000_000 / rate.milli,
            Self::Bytes(rate) => (u128::from(bytes) * 1_000_000_000 / u128::from(rate.0)) as u64,
        }
    }
}

impl FromStr for Pace {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(rate) = text.parse::<PerSecond>()
            && rate.milli > 0
        {
            return Ok(Self::Messages(rate));
        }
        let rate = text.parse::<Rate>().ok().filter(|rate| rate.0 > 0);
        rate.map(Self::Bytes).ok_or_else(|| {
            format!("`{text}` is neither messages a second (5000/s) nor payload a second (20MB/s), above 0")
        })
    }
}

impl FromStr for Load {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(streams) = text.parse::<u64>().ok().filter(|&streams| streams > 0) {
            return Ok(Self::Streams(streams));
        }
        let rate = text.parse::<PerSecond>().ok().filter(|rate| rate.milli > 0);
        rate.map(Self::Messages).ok_or_else(|| {
            format!("`{text}` is neither streams (500) nor messages a second (5000/s), above 0")
        })
    }
}

/// `5%` or `0.05`.
fn share(text: &str) -> Result<f64, String> {
    let (number, of) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share =
        number.parse::<f64>().map(|number| number / of).ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| format!("`{text}` is no share above 0 and up to 100%"))
}

/// A length of time above 0.
fn span(text: &str) -> Result<Span, String> {
    let span = text.parse::<Span>().map_err(|error| error.to_string())?;
    if span.ns() > 0 { Ok(span) } else { Err(format!("`{text}` is no time above 0")) }
}

/// What stands behind the first comma.
struct Keys<'a>(Vec<(&'a str, &'a str)>);

impl Keys<'_> {
    fn take<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
        default: T,
    ) -> Result<T, String> {
        match self.0.iter().position(|(name, _)| *name == key) {
            Some(at) => parse(self.0.remove(at).1).map_err(|error| format!("{key}: {error}")),
            None => Ok(default),
        }
    }
}

impl FromStr for Limit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const MS: u64 = 1_000_000;
        const KINDS: &str = "rate=, conns=, queue=, knee= or drop=";
        let mut words = text.split(',').map(|word| {
            word.split_once('=')
                .ok_or_else(|| format!("`{word}` is no NAME=VALUE; a limit begins with {KINDS}"))
        });
        let (kind, value) = words.next().expect("a split has a first part")?;
        let mut keys = Keys(words.collect::<Result<_, _>>()?);
        let of_kind = |error: String| format!("{kind}: {error}");
        let ms = |ms: u64| Span::from_ns(ms * MS);
        let limit = match kind {
            "rate" => Self::Rate {
                pace: value.parse().map_err(of_kind)?,
                burst: keys.take("burst", span, ms(250))?,
            },
            "conns" => {
                let most = value.parse().ok().filter(|&most| most > 0);
                Self::Conns(most.ok_or_else(|| of_kind(format!("`{value}` is no number above 0")))?)
            }
            "queue" => Self::Queue(value.parse().map_err(of_kind)?),
            "knee" => Self::Knee {
                load: value.parse().map_err(of_kind)?,
                base: keys.take("base", span, ms(5))?,
                slope: keys.take("slope", span, ms(20))?,
                window: keys.take("window", span, ms(2_000))?,
            },
            "drop" => Self::Drop {
                load: value.parse().map_err(of_kind)?,
                share: keys.take("share", share, 0.05)?,
                every: keys.take("every", span, ms(1_000))?,
                window: keys.take("window", span, ms(2_000))?,
            },
            _ => return Err(format!("`{kind}` is no limit; take {KINDS}")),
        };
        match keys.0.first() {
            Some((key, _)) => Err(format!("{kind} has no `{key}`, or has it already; leave it out")),
            None => Ok(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_what_it_says() {
        let rate = |milli| Pace::Messages(PerSecond { milli });
        let ms = |ms: u64| Span::from_ns(ms * 1_000_000);
        for (text, limit) in [
            ("rate=5000/s", Limit::Rate { pace: rate(5_000_000), burst: ms(250) }),
            ("rate=20MB/s,burst=1s", Limit::Rate { pace: Pace::Bytes(Rate(20_000_000)), burst: ms(1000) }),
            ("conns=500", Limit::Conns(500)),
            ("queue=0.5/s", Limit::Queue(rate(500))),
            (
                "knee=500,slope=1ms",
                Limit::Knee { load: Load::Streams(500), base: ms(5), slope: ms(1), window: ms(2000) },
            ),
            (
                "drop=10/s,share=0.5,every=100ms,window=1s",
                Limit::Drop {
                    load: Load::Messages(PerSecond { milli: 10_000 }),
                    share: 0.5,
                    every: ms(100),
                    window: ms(1000),
                },
            ),
        ] {
            assert_eq!(text.parse(), Ok(limit), "{text}");
            assert!(text.starts_with(limit.kind()));
        }
    }

    #[test]
    fn what_is_no_limit_is_refused_with_what_would_be_one() {
        for (text, word) in [
            ("rate", "NAME=VALUE"),
            ("speed=1", "rate=, conns=, queue=, knee= or drop="),
            ("rate=0/s", "5000/s"),
            ("rate=5000", "20MB/s"),
            ("conns=0", "above 0"),
            ("knee=0", "streams (500)"),
            ("knee=5,base=0ms", "above 0"),
            ("drop=5,share=120%", "100%"),
            ("queue=5/s,burst=1s", "queue has no `burst`"),
            ("rate=5/s,burst=1s,burst=2s", "has it already"),
        ] {
            let error = text.parse::<Limit>().expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
