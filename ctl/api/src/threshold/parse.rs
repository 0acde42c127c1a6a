//! The grammar: `[group.]figure.stat OP value [over SPAN] [abort [after SPAN]]`.

use super::metric::{Metric, Names};
use super::{EXPRESSION_BYTES_MAX, Operator, Threshold, WINDOW_MAX};
use crate::units::{Span, UnitError};

const OPERATORS: [(&str, Operator); 5] = [
    ("<=", Operator::LessOrEqual),
    (">=", Operator::MoreOrEqual),
    ("==", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::More),
];
const SECOND_NS: u64 = 1_000_000_000;

/// What is wrong, and in which column it begins, from 1.
type Wrong = (usize, String);

/// See [`Threshold::parse`].
pub fn threshold(expression: &str, names: &Names<'_>) -> Result<Threshold, String> {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(format!("a threshold is at most {EXPRESSION_BYTES_MAX} bytes long"));
    }
    read(expression, names).map_err(|(at, why)| {
        let column = expression[..at.min(expression.len())].chars().count() + 1;
        format!("threshold `{expression}`, column {column}: {why}")
    })
}

fn read(expression: &str, names: &Names<'_>) -> Result<Threshold, Wrong> {
    let found =
        OPERATORS.iter().filter_map(|(sign, operator)| Some((expression.find(sign)?, *sign, *operator)));
    let Some((at, sign, operator)) = found.min_by_key(|(at, sign, _)| (*at, 2 - sign.len())) else {
        let at = expression.find('=').unwrap_or(0);
        return Err((at, "write it as `response.p99 < 250ms`, with <, <=, >, >= or ==".into()));
    };
    let name = expression[..at].trim();
    let start = expression.len() - expression.trim_start().len();
    let metric = Metric::parse(name, names).map_err(|why| (start, why))?;
    let mut words = Words { text: expression, at: at + sign.len() };
    let (place, value) = words.until(&["over", "abort"]);
    let bound = metric.unit().read(value).map_err(|why| (place, why))?;
    let at = words.peek().map_or(expression.len(), |(at, _)| at);
    let over = if words.take("over") { Some(window(words.span("over 30s")?)?) } else { None };
    if over.is_some() && metric.is_of_disruptions() {
        return Err((at, format!("{metric} is of whole disruptions, not of windows; leave out `over`")));
    }
    let abort = match words.take("abort") {
        true if words.take("after") => Some(seconds(words.span("abort after 10s")?)?),
        true => Some(Span::default()),
        false => None,
    };
    if let Some((place, rest)) = words.peek() {
        return Err((
            place,
            format!(
                "`{rest}` is too much; behind the value there may be `over 30s`, then `abort`, then `after 10s`"
            ),
        ));
    }
    Ok(Threshold { expression: expression.trim().into(), metric, operator, bound, over, abort })
}

/// Figures are kept by the second.
fn seconds((place, span): (usize, Span)) -> Result<Span, Wrong> {
    if span.ns().is_multiple_of(SECOND_NS) {
        Ok(span)
    } else {
        Err((place, format!("{span} is no whole number of seconds, by which thresholds are judged")))
    }
}

fn window((place, span): (usize, Span)) -> Result<Span, Wrong> {
    let span = seconds((place, span))?;
    if span == Span::default() || span > WINDOW_MAX {
        return Err((place, format!("a window is 1s to {WINDOW_MAX} long")));
    }
    Ok(span)
}

/// The words behind the operator.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    /// The next word and where it is.
    fn peek(&self) -> Option<(usize, &'a str)> {
        let rest = &self.text[self.at..];
        let word = rest.split_whitespace().next()?;
        Some((self.at + rest.find(word)?, word))
    }

    /// Whether the next word is `word`; then it is taken.
    fn take(&mut self, word: &str) -> bool {
        let next = self.peek().filter(|(_, next)| *next == word);
        if let Some((place, _)) = next {
            self.at = place + word.len();
        }
        next.is_some()
    }

    /// All up to one of `ends`.
    fn until(&mut self, ends: &[&str]) -> (usize, &'a str) {
        let start = self.peek().map_or(self.text.len(), |(place, _)| place);
        while let Some((place, word)) = self.peek().filter(|(_, word)| !ends.contains(word)) {
            self.at = place + word.len();
        }
        (start, self.text[start..self.at.max(start)].trim())
    }

    /// A time, as in `example`.
    fn span(&mut self, example: &str) -> Result<(usize, Span), Wrong> {
        let Some((place, word)) = self.peek() else {
            return Err((self.text.len(), format!("a time is missing; write it as `{example}`")));
        };
        self.at = place + word.len();
        word.parse().map(|span| (place, span)).map_err(|error: UnitError| (place, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names { groups: &["main", "ssh"], observe: &["cpu"] };

    #[test]
    fn all_forms_are_read() {
        let read = |text: &str| threshold(text, &NAMES).unwrap();
        let span = |text: &str| Some(text.parse::<Span>().unwrap());
        for (text, bound, over, abort) in [
            ("response.p99 < 250ms", 0.25, None, None),
            ("response.p99<250ms", 0.25, None, None),
            ("  ssh.response.p99   <=  1m30s  ", 90.0, None, None),
            ("load.delivered_ratio >= 0.99", 0.99, None, None),
            ("load.delivered_ratio >= 99 %", 0.99, None, None),
            ("load.rate_sent > 40KB/s", 40_000.0, None, None),
            ("connect.count == 10", 10.0, None, None),
            ("connect.p99 < 2s over 30s", 2.0, span("30s"), None),
            ("disconnects.rate < 1% over 1m abort", 0.01, span("1m"), span("0s")),
            ("disconnects.rate < 1% abort after 10s", 0.01, None, span("10s")),
            ("observe.cpu.max < 0.9 over 10m abort after 1m", 0.9, span("10m"), span("1m")),
            ("observe.cpu.max > -5", -5.0, None, None),
            ("disruption.recover.p99 < 30s", 30.0, None, None),
            ("disruption.share < 30% abort", 0.3, None, span("0s")),
            ("disruption.bytes_lost < 1MB", 1e6, None, None),
            ("disruption.bytes_lost == 0", 0.0, None, None),
            ("ssh.streams.away == 0 over 5s", 0.0, span("5s"), None),
        ] {
            let read = read(text);
            assert_eq!(
                (read.bound, read.over, read.abort, read.expression()),
                (bound, over, abort, text.trim()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_column_and_what_to_do() {
        let long = format!("response.p99 < {}ms", "1".repeat(EXPRESSION_BYTES_MAX));
        for (text, words) in [
            ("response.p99", &["column 1:", "write it as `response.p99 < 250ms`"][..]),
            ("response.p99 = 5s", &["column 14:", "=="]),
            ("", &["column 1:", "write it as"]),
            ("  response.p98 < 1s", &["column 3:", "no `response.p98`", "response.p99"]),
            ("x.response.p99 < 1s", &["column 1:", "no group is called `x`", "main, ssh"]),
            ("response.p99 < 250", &["column 16:", "`250`", "with its unit"]),
            ("response.p99 <", &["column 15:", "with its unit"]),
            ("load.delivered_ratio > lots", &["column 24:", "`lots`", "99%"]),
            ("load.delivered_ratio > NaN", &["`NaN`"]),
            ("response.p99 => 1s", &["`response.p99 =`"]),
            ("response.p99 < 1s over", &["column 23:", "a time is missing", "over 30s"]),
            ("response.p99 < 1s over 5", &["column 24:", "with its unit"]),
            ("response.p99 < 1s over 500ms", &["column 24:", "whole number of seconds"]),
            ("response.p99 < 1s over 0s", &["1s to 10m"]),
            ("response.p99 < 1s over 11m", &["column 24:", "1s to 10m"]),
            ("response.p99 < 1s abort after", &["column 30:", "abort after 10s"]),
            (
                "response.p99 < 1s abort over 5s",
                &["column 25:", "`over` is too much", "`over 30s`, then `abort`"],
            ),
            ("response.p99 < 1s after 5s", &["column 16:", "`1s after 5s`"]),
            ("response.p99 < 1s abort now", &["column 25:", "`now` is too much"]),
            ("disruption.share < 5% over 5s", &["column 23:", "of whole disruptions", "leave out `over`"]),
            ("disruption.recover.p9 < 5s", &["column 1:", "disruption.recover.p99"]),
            ("disruption.bytes_lost < 5m", &["column 25:", "a size with its unit"]),
            (&long, &["at most"]),
        ] {
            let error = threshold(text, &NAMES).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
    }
}
