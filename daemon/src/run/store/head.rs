//! What stands first in a report, read without the rest, which may be megabytes.

use std::fmt;
use std::io::{BufReader, Read};

use scale_api::report::{Run, SCHEMA, Verdict};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Which run, and how it ended. Of a newer version's what is understood of it.
pub(super) struct Head {
    pub schema: u32,
    pub run: Run,
    pub verdict: Verdict,
}

/// What has been found of it.
#[derive(Default)]
struct Found {
    schema: u32,
    run: Option<Run>,
    verdict: Option<Verdict>,
}

/// Those words of a run and a verdict that every version will have.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Basic {
    id: String,
    name: Option<String>,
    started_at: f64,
    ended_at: f64,
    exit_code: u8,
}

impl Found {
    /// A part of the report as this version has it, or of a newer one as `basic` makes it.
    fn part<T: DeserializeOwned, E: serde::de::Error>(
        &self,
        value: Value,
        basic: fn(Basic) -> T,
    ) -> Result<T, E> {
        if self.schema <= SCHEMA {
            return serde_json::from_value(value).map_err(E::custom);
        }
        let known: Basic = serde_json::from_value(value).unwrap_or_default();
        Ok(basic(known))
    }
}

fn basic_run(Basic { id, name, started_at, ended_at, .. }: Basic) -> Run {
    Run { id, name, started_at, ended_at, ..Run::default() }
}

fn basic_verdict(basic: Basic) -> Verdict {
    Verdict { exit_code: basic.exit_code, ..Verdict::default() }
}

impl Head {
    /// Reads a report as far as its verdict; `None`: it is none.
    pub fn read(report: impl Read) -> Option<Self> {
        let mut found = Found::default();
        // A visitor that stops early leaves an error about the rest, which nobody has read.
        let _ = serde_json::Deserializer::from_reader(BufReader::new(report)).deserialize_map(&mut found);
        Some(Self { schema: found.schema, run: found.run?, verdict: found.verdict? })
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
                // It stands before the others.
                Some("schema") => self.schema = map.next_value()?,
                Some("run") => self.run = Some(self.part(map.next_value()?, basic_run)?),
                Some("verdict") => self.verdict = Some(self.part(map.next_value()?, basic_verdict)?),
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
