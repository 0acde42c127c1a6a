//! Thresholds: `[group.]figure.stat OP value`, such as `terminals.response.p99 < 250ms`.
//!
//! Figures: `connect tls upgrade banner key_exchange authentication channel first_byte lateness service
//! response reconnect` with the stats `count min mean p50 p90 p99 p999 p9999 max`; `load` with `delivered_ratio echoed_ratio open_ratio
//! rate_sent rate_received`; `disconnects` and `connect_failures` with `count` and `rate` (a share
//! of the streams); `verify_failures` and `unexpected_bytes` with `count`.

use crate::report::{Figure, Latency, Load, Report, ThresholdResult};
use crate::units::{Rate, Span};

/// The figures of time, in the order in which a stream has them.
pub const LATENCIES: [&str; 12] = [
    "connect",
    "tls",
    "upgrade",
    "banner",
    "key_exchange",
    "authentication",
    "channel",
    "first_byte",
    "lateness",
    "service",
    "response",
    "reconnect",
];
const STATS: [&str; 9] = ["count", "min", "mean", "p50", "p90", "p99", "p999", "p9999", "max"];
const LOADS: [&str; 5] = ["delivered_ratio", "echoed_ratio", "open_ratio", "rate_sent", "rate_received"];

/// A threshold, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    expression: String,
    group: Option<String>,
    figure: String,
    stat: String,
    operator: Operator,
    value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    Equal,
}

impl Threshold {
    /// Every name, as `figure.stat`.
    pub fn names() -> Vec<String> {
        let latencies =
            LATENCIES.iter().flat_map(|figure| STATS.iter().map(move |stat| format!("{figure}.{stat}")));
        let loads = LOADS.iter().map(|stat| format!("load.{stat}"));
        let rest = [
            "disconnects.count",
            "disconnects.rate",
            "connect_failures.count",
            "connect_failures.rate",
            "verify_failures.count",
            "unexpected_bytes.count",
        ];
        latencies.chain(loads).chain(rest.map(String::from)).collect()
    }

    /// Parses an expression against the run's groups.
    ///
    /// # Errors
    /// What is wrong, with the names that are near.
    pub fn parse(expression: &str, groups: &[&str]) -> Result<Self, String> {
        let wrong = |why: String| format!("threshold `{expression}`: {why}");
        let operators = [
            ("<=", Operator::LessOrEqual),
            (">=", Operator::MoreOrEqual),
            ("==", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::More),
        ];
        let Some((at, (text, operator))) = operators
            .iter()
            .filter_map(|o| Some((expression.find(o.0)?, o)))
            .min_by_key(|(at, o)| (*at, 2 - o.0.len()))
        else {
            return Err(wrong("write it as `response.p99 < 250ms`".into()));
        };
        let name = expression[..at].trim();
        let value = expression[at + text.len()..].trim();
        let parts: Vec<&str> = name.split('.').collect();
        let (group, figure, stat) = match parts[..] {
            [figure, stat] => (None, figure, stat),
            [group, figure, stat] if groups.contains(&group) => (Some(group.to_owned()), figure, stat),
            [group, ..] if parts.len() == 3 => {
                return Err(wrong(format!("no group is called `{group}`; there are {}", groups.join(", "))));
            }
            _ => return Err(wrong(format!("`{name}` is no figure; write it as `response.p99`"))),
        };
        let full = format!("{figure}.{stat}");
        if !Self::names().contains(&full) {
            let near: Vec<String> = Self::names()
                .into_iter()
                .filter(|known| {
                    known.split('.').next() == Some(figure) || known.ends_with(&format!(".{stat}"))
                })
                .collect();
            let near = if near.is_empty() { Self::names() } else { near };
            return Err(wrong(format!("there is no `{full}`; there are {}", near.join(", "))));
        }
        let is_time = LATENCIES.contains(&figure) && stat != "count";
        let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
        let value = if is_time {
            value.parse::<Span>().map(Span::seconds).map_err(|error| wrong(error.to_string()))?
        } else if stat.starts_with("rate_") {
            value.parse::<Rate>().map(|rate| rate.0 as f64).map_err(|error| wrong(error.to_string()))?
        } else {
            value
                .strip_suffix('%')
                .and_then(|percent| number(percent.trim()).map(|value| value / 100.0))
                .or_else(|| number(value))
                .ok_or_else(|| wrong(format!("`{value}` is no number; write 0.99 or 99%")))?
        };
        Ok(Self {
            expression: expression.into(),
            group,
            figure: figure.into(),
            stat: stat.into(),
            operator: *operator,
            value,
        })
    }

    /// Which built-in rule of 99 % this replaces, if any: `delivered_ratio`, `echoed_ratio`,
    /// `open_ratio`.
    pub fn replaces(&self) -> Option<&str> {
        (self.figure == "load" && self.stat.ends_with("_ratio")).then_some(self.stat.as_str())
    }

    /// Judges a report. A figure without a value is not met.
    pub fn evaluate(&self, report: &Report) -> ThresholdResult {
        let (load, latency) = match &self.group {
            None => (Some(&report.load), Some(&report.latency)),
            Some(name) => {
                let part = report.groups.iter().find(|part| part.name == *name);
                (part.map(|part| &part.load), part.map(|part| &part.latency))
            }
        };
        let value = load.zip(latency).and_then(|(load, latency)| self.read(load, latency));
        let ok = value.is_some_and(|value| match self.operator {
            Operator::Less => value < self.value,
            Operator::LessOrEqual => value <= self.value,
            Operator::More => value > self.value,
            Operator::MoreOrEqual => value >= self.value,
            Operator::Equal => value == self.value,
        });
        ThresholdResult { expression: self.expression.clone(), value, ok, ..ThresholdResult::default() }
    }

    fn read(&self, load: &Load, latency: &Latency) -> Option<f64> {
        let share =
            |count: u64| (load.streams_requested > 0).then(|| count as f64 / load.streams_requested as f64);
        let failures: u64 = load.connect_failures.values().sum();
        let disconnects: u64 = load.disconnects.values().sum();
        match (self.figure.as_str(), self.stat.as_str()) {
            ("load", "delivered_ratio") => load.delivered_ratio,
            ("load", "echoed_ratio") => load.echoed_ratio,
            ("load", "open_ratio") => load.open_ratio(),
            ("load", "rate_sent") => load.rate_sent,
            ("load", _) => load.rate_received,
            ("disconnects", "count") => Some(disconnects as f64),
            ("disconnects", _) => share(disconnects),
            ("connect_failures", "count") => Some(failures as f64),
            ("connect_failures", _) => share(failures),
            ("verify_failures", _) => Some(load.verify_failures as f64),
            ("unexpected_bytes", _) => Some(load.unexpected_bytes as f64),
            (figure, stat) => stat_of(latency.figure(figure)?, stat),
        }
    }
}

fn stat_of(figure: &Figure, stat: &str) -> Option<f64> {
    Some(match stat {
        "count" => figure.count as f64,
        "min" => figure.min,
        "mean" => figure.mean,
        "p50" => figure.p50,
        "p90" => figure.p90,
        "p99" => figure.p99,
        "p999" => figure.p999,
        "p9999" => figure.p9999,
        "max" => figure.max,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_judged_and_a_missing_value_is_not_met() {
        let mut report = Report::default();
        report.latency.response = Some(Figure { p99: 0.2, ..Figure::default() });
        report.load.delivered_ratio = Some(0.995);
        report.load.streams_requested = 200;
        report.load.disconnects.insert("reset".into(), 1);
        for (text, ok) in [
            ("response.p99 < 250ms", true),
            ("response.p99 < 200ms", false),
            ("response.p99 <= 200ms", true),
            ("load.delivered_ratio >= 0.99", true),
            ("load.delivered_ratio >= 99.9%", false),
            ("disconnects.rate < 1%", true),
            ("disconnects.count == 1", true),
            ("tls.p50 < 1s", false),
        ] {
            assert_eq!(Threshold::parse(text, &[]).unwrap().evaluate(&report).ok, ok, "{text}");
        }
    }

    #[test]
    fn unknown_names_are_refused_with_what_is_near() {
        for (text, word) in [
            ("response.p98 < 1s", "response.p99"),
            ("x.response.p99 < 1s", "main"),
            ("response.p99 < 250", "with its unit"),
            ("response.p99", "write it as"),
            ("load.delivered_ratio > lots", "99%"),
        ] {
            let error = Threshold::parse(text, &["main"]).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(Threshold::parse("main.response.p99 < 1s", &["main"]).is_ok());
    }
}
