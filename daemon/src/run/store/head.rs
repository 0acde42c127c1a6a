//! What stands first in a report, read without the rest, which may be megabytes.

use std::fmt;
use std::io::{BufReader, Read};

use scale_api::report::{Run, Verdict};
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};

/// Which run, and how it ended.
pub(super) struct Head {
    pub run: Run,
    pub verdict: Verdict,
}

/// What has been found of it.
#[derive(Default)]
struct Found {
    run: Option<Run>,
    verdict: Option<Verdict>,
}

impl Head {
    /// Reads a report as far as its verdict; `None`: it is none.
    pub fn read(report: impl Read) -> Option<Self> {
        let mut found = Found::default();
        // A visitor that stops early leaves an error about the rest, which nobody has read.
        let _ = serde_json::Deserializer::from_reader(BufReader::new(report)).deserialize_map(&mut found);
        Some(Self { run: found.run?, verdict: found.verdict? })
    }
}

impl<'de> Visitor<'de> for &mut Found {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a report")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while self.run.is_none() || self.verdict.is_none() {
            match map.next_key::<String>()?.as_deref() {
                Some("run") => self.run = Some(map.next_value()?),
                Some("verdict") => self.verdict = Some(map.next_value()?),
                Some(_) => drop(map.next_value::<IgnoredAny>()?),
                None => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that must not be asked for more than the head.
    struct Only<'a>(&'a [u8]);

    impl Read for Only<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            assert!(!self.0.is_empty(), "the rest was read");
            self.0.read(buffer)
        }
    }

    #[test]
    fn the_head_is_read_and_the_rest_is_not() {
        let text = r#"{"schema":1,"run":{"id":"r1-0","name":"x"},"spec":{"group":[{"conns":1}]},"verdict":{"outcome":"failed","exit_code":99},"load""#;
        let head = Head::read(Only(text.as_bytes())).unwrap();
        assert_eq!((head.run.id.as_str(), head.verdict.exit_code), ("r1-0", 99));
        for text in ["", "{}", "[]", r#"{"run":{}}"#, r#"{"run":{},"verdict":"#] {
            assert!(Head::read(text.as_bytes()).is_none(), "{text}");
        }
    }
}
