//! The target's own figures: what the queries of `[observe]` answered, second by second and over steady state, and what
//! went wrong with them. Whoever asks is elsewhere (`control::observe`); this is what becomes of the answers.
//!
//! A value stands in the rows of the series from its coming until the next one, for two intervals at most: what is no
//! longer known is not made up. Troubles are counted and said in one sentence a kind; none of them fails a run.

use std::collections::{BTreeMap, BTreeSet};

use scale_api::report;
use scale_api::spec::Observe;
use scale_api::units::thousands;
use serde::Deserialize;

use super::marks::cut;

/// Intervals for which a value stands in the rows.
const INTERVALS_KNOWN: f64 = 2.0;
/// Bytes of what a Prometheus says of a query that it does not take.
const SAID_BYTES_MAX: usize = 200;
/// Queries that a sentence names; beyond them it says how many more there are.
const NAMED_MAX: usize = 3;

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// No connection, or one that broke; why.
    Unreachable(String),
    /// No answer in so many seconds.
    Slow(u64),
    /// An HTTP status that says nothing of the query.
    Status(u16),
    /// No PromQL that the server takes; what it says.
    Refused(String),
    /// More than one series.
    Many,
    /// No series.
    Nothing,
    /// NaN, or infinite.
    NotFinite,
    /// Not what an instant query answers; what it is.
    Shape(&'static str),
}

/// What a query answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which query, by its place among their names.
    pub query: usize,
    /// Its value.
    pub answer: Result<f64, Trouble>,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar(Point),
    Vector(Vec<Series>),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

/// A time and a value (Prometheus writes it as text, so that it may be NaN).
#[derive(Deserialize)]
struct Point(#[expect(dead_code, reason = "the server's clock")] f64, String);

#[derive(Deserialize)]
struct Series {
    value: Option<Point>,
}

/// The one value of an instant query's answer (Prometheus HTTP API, `/api/v1/query`).
///
/// # Errors
/// Why there is none.
pub fn read(status: u16, body: &[u8]) -> Result<f64, Trouble> {
    let answer = serde_json::from_slice::<Answer>(body);
    if !(200..300).contains(&status) {
        // 400 and 422 are about the query: the body says what. Others may come from whatever is between.
        let said = answer.ok().and_then(|answer| answer.error).filter(|_| matches!(status, 400 | 422));
        return Err(said.map_or(Trouble::Status(status), |said| Trouble::Refused(one_line(&said))));
    }
    let answer = answer.map_err(|_| Trouble::Shape("no answer of a Prometheus"))?;
    let point = match answer.data {
        Some(Data::Scalar(point)) => point,
        Some(Data::Vector(series)) => match <[Series; 1]>::try_from(series) {
            Ok([Series { value: Some(point) }]) => point,
            Ok([Series { value: None }]) => return Err(Trouble::Shape("a histogram")),
            Err(series) if series.is_empty() => return Err(Trouble::Nothing),
            Err(_) => return Err(Trouble::Many),
        },
        Some(Data::Matrix(_)) => return Err(Trouble::Shape("a range of values")),
        Some(Data::String(_)) => return Err(Trouble::Shape("a text")),
        None => return Err(Trouble::Shape("no answer of a Prometheus")),
    };
    let value: f64 = point.1.parse().map_err(|_| Trouble::Shape("no number"))?;
    if value.is_finite() { Ok(value) } else { Err(Trouble::NotFinite) }
}

/// On one line, without what a terminal would obey, and short.
fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() <= SAID_BYTES_MAX { line } else { format!("{}…", cut(&line, SAID_BYTES_MAX)) }
}

#[derive(Debug, Default)]
struct Query {
    name: String,
    /// When it came, and what it is.
    last: Option<(f64, f64)>,
    steady: Option<Sum>,
}

#[derive(Debug, Clone, Copy)]
struct Sum {
    min: f64,
    max: f64,
    sum: f64,
    last: f64,
    count: u64,
}

impl Sum {
    fn with(sum: Option<Self>, value: f64) -> Self {
        let none = Self { min: value, max: value, sum: 0.0, last: value, count: 0 };
        let Self { min, max, sum, count, .. } = sum.unwrap_or(none);
        Self { min: min.min(value), max: max.max(value), sum: sum + value, last: value, count: count + 1 }
    }
}

/// A kind of trouble so far.
#[derive(Debug)]
struct Seen {
    count: u64,
    queries: BTreeSet<usize>,
    last: Trouble,
}

/// What was answered so far.
#[derive(Debug)]
pub struct Observed {
    queries: Vec<Query>,
    known_s: f64,
    place: String,
    troubles: BTreeMap<u8, Seen>,
}

impl Observed {
    /// Nothing yet.
    pub fn new(observe: &Observe) -> Self {
        let query = |name: &String| Query { name: name.clone(), ..Query::default() };
        Self {
            queries: observe.query.keys().map(query).collect(),
            known_s: observe.interval().seconds() * INTERVALS_KNOWN,
            place: observe.prometheus.clone(),
            troubles: BTreeMap::new(),
        }
    }

    /// Takes a sample that came `at` seconds after the run's start; `counts`: in steady state.
    pub fn take(&mut self, at: f64, counts: bool, sample: Sample) {
        let Some(query) = self.queries.get_mut(sample.query) else { return };
        match sample.answer {
            Ok(value) => {
                query.last = Some((at, value));
                if counts {
                    query.steady = Some(Sum::with(query.steady, value));
                }
            }
            Err(trouble) => {
                let new = || Seen { count: 0, queries: BTreeSet::new(), last: trouble.clone() };
                let seen = self.troubles.entry(trouble.kind()).or_insert_with(new);
                seen.count += 1;
                seen.queries.insert(sample.query);
                seen.last = trouble;
            }
        }
    }

    /// What is known in the second that ends `at`.
    pub fn row(&self, at: f64) -> BTreeMap<String, f64> {
        let known = |query: &Query| {
            let (_, value) = query.last.filter(|(came, _)| at - came <= self.known_s)?;
            Some((query.name.clone(), value))
        };
        self.queries.iter().filter_map(known).collect()
    }

    /// Steady state's figures, of those queries that had a value then.
    pub fn figures(&self) -> BTreeMap<String, report::Observed> {
        let figure = |query: &Query| {
            let Sum { min, max, sum, last, count } = query.steady?;
            let mean = sum / count as f64;
            Some((query.name.clone(), report::Observed { min, mean, max, last, samples: count }))
        };
        self.queries.iter().filter_map(figure).collect()
    }

    /// One sentence a kind of trouble.
    pub fn warnings(&self) -> Vec<String> {
        self.troubles.values().map(|seen| self.sentence(seen)).collect()
    }

    /// At the run's end: also those queries that had no value when it counted.
    pub fn last_warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings();
        let without = self.queries.iter().filter(|query| query.steady.is_none()).map(|query| &*query.name);
        let without = named(without);
        if !without.is_empty() {
            warnings.push(format!("[observe] no value in steady state: {without}"));
        }
        warnings
    }

    fn sentence(&self, seen: &Seen) -> String {
        let queries = named(seen.queries.iter().map(|&query| &*self.queries[query].name));
        let times = match seen.count {
            1 => "once".to_owned(),
            count => format!("{} times", thousands(count)),
        };
        let said = match &seen.last {
            Trouble::Unreachable(why) => {
                format!("cannot reach {} ({why}), {times}; is a Prometheus there?", self.place)
            }
            Trouble::Slow(seconds) => {
                format!(
                    "no answer within {seconds} s, {times} ({queries}); make the queries cheaper: recording rules"
                )
            }
            Trouble::Status(status @ (401 | 403)) => {
                format!(
                    "HTTP {status}, {times}; give header_file with a line such as `Authorization: Bearer …`"
                )
            }
            Trouble::Status(status) => format!("HTTP {status}, {times} ({queries})"),
            Trouble::Refused(why) => format!("{queries}: {why} ({times})"),
            Trouble::Many => {
                format!("{queries}: more than one series, {times}; make it one: sum(…), max(…)")
            }
            Trouble::Nothing => format!("{queries}: no series, {times}; look at names and labels"),
            Trouble::NotFinite => format!("{queries}: NaN or infinite, {times}; nothing to divide by?"),
            Trouble::Shape(what) => {
                format!(
                    "{queries}: {what} instead of one number, {times}; write an instant query of one number"
                )
            }
        };
        format!("[observe] {said}")
    }
}

impl Trouble {
    /// Those of one kind share a sentence.
    const fn kind(&self) -> u8 {
        match self {
            Self::Unreachable(_) => 0,
            Self::Slow(_) => 1,
            Self::Status(_) => 2,
            Self::Refused(_) => 3,
            Self::Many => 4,
            Self::Nothing => 5,
            Self::NotFinite => 6,
            Self::Shape(_) => 7,
        }
    }
}

fn named<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        None => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..NAMED_MAX].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(names: &[&str]) -> Observed {
        let query = names.iter().map(|name| ((*name).to_owned(), "up".to_owned())).collect();
        Observed::new(&Observe { prometheus: "http://127.0.0.1:9090".into(), query, ..Observe::default() })
    }

    fn vector(values: &str) -> String {
        format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{values}]}},"infos":["x"]}}"#
        )
    }

    #[test]
    fn one_number_is_a_value_and_everything_else_says_why_not() {
        let one = r#"{"metric":{"job":"coderd"},"value":[1764243600.123,"0.25"]}"#;
        let read = |body: &str| super::read(200, body.as_bytes());
        assert_eq!(read(&vector(one)), Ok(0.25));
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"-1e3"]}}"#;
        assert_eq!(read(scalar), Ok(-1000.0));
        assert_eq!(read(&vector("")), Err(Trouble::Nothing));
        assert_eq!(read(&vector(&format!("{one},{one}"))), Err(Trouble::Many));
        for odd in ["NaN", "+Inf", "-Inf"] {
            assert_eq!(read(&vector(&one.replace("0.25", odd))), Err(Trouble::NotFinite), "{odd}");
        }
        assert_eq!(read(&vector(&one.replace("0.25", "x"))), Err(Trouble::Shape("no number")));
        let histogram = r#"{"metric":{},"histogram":[1,{"count":"1","sum":"1"}]}"#;
        assert_eq!(read(&vector(histogram)), Err(Trouble::Shape("a histogram")));
        let other = |kind: &str| scalar.replace("scalar", kind).replace("\"-1e3\"", "\"a\"");
        assert_eq!(read(&other("string")), Err(Trouble::Shape("a text")));
        assert_eq!(read(&other("matrix")), Err(Trouble::Shape("a range of values")));
        for wrong in ["", "<html>", "{}", r#"{"status":"success","data":{"resultType":"cube","result":1}}"#] {
            assert_eq!(read(wrong), Err(Trouble::Shape("no answer of a Prometheus")), "{wrong}");
        }
    }

    #[test]
    fn what_the_server_says_of_a_query_is_kept_short_and_of_one_line() {
        let error = |text: &str| format!(r#"{{"status":"error","errorType":"bad_data","error":"{text}"}}"#);
        let said = super::read(400, error("1:5: parse error\\u001b[2J").as_bytes());
        assert_eq!(said, Err(Trouble::Refused("1:5: parse error [2J".into())));
        let Err(Trouble::Refused(long)) = super::read(422, error(&"é".repeat(300)).as_bytes()) else {
            panic!()
        };
        assert!(long.len() <= SAID_BYTES_MAX + '…'.len_utf8() && long.ends_with('…'));
        assert_eq!(super::read(503, error("x").as_bytes()), Err(Trouble::Status(503)));
        assert_eq!(super::read(400, b"<html>"), Err(Trouble::Status(400)));
    }

    #[test]
    fn figures_are_steady_states_and_rows_know_a_value_for_two_intervals() {
        let mut observed = observed(&["cpu", "heap"]);
        let value = |query, value| Sample { query, answer: Ok(value) };
        observed.take(0.1, false, value(0, 9.0));
        for (at, of) in [(5.1, 0.5), (10.1, 0.25), (15.1, 0.75)] {
            observed.take(at, true, value(0, of));
        }
        let figures = observed.figures();
        assert_eq!(
            figures.into_iter().collect::<Vec<_>>(),
            [(
                "cpu".to_owned(),
                report::Observed { min: 0.25, mean: 0.5, max: 0.75, last: 0.75, samples: 3 }
            )]
        );
        assert_eq!(observed.row(16.0), BTreeMap::from([("cpu".to_owned(), 0.75)]));
        assert_eq!(observed.row(25.0).len(), 1);
        assert_eq!(observed.row(26.0).len(), 0, "nobody knows any more");
        assert_eq!(observed.warnings(), Vec::<String>::new());
        assert_eq!(observed.last_warnings(), ["[observe] no value in steady state: heap"]);
    }

    #[test]
    fn troubles_are_one_sentence_a_kind_with_their_count() {
        let mut observed = observed(&["a", "b", "c", "d", "e"]);
        let trouble = |query, trouble: &Trouble| Sample { query, answer: Err(trouble.clone()) };
        for _ in 0..1000 {
            (0..5).for_each(|query| observed.take(1.0, true, trouble(query, &Trouble::Many)));
        }
        observed.take(1.0, true, trouble(1, &Trouble::Refused("parse error".into())));
        observed.take(1.0, true, trouble(1, &Trouble::Unreachable("connection refused".into())));
        observed.take(1.0, true, trouble(2, &Trouble::Status(500)));
        observed.take(1.0, true, trouble(2, &Trouble::Status(401)));
        assert_eq!(
            observed.warnings(),
            [
                "[observe] cannot reach http://127.0.0.1:9090 (connection refused), once; is a Prometheus there?",
                "[observe] HTTP 401, 2 times; give header_file with a line such as `Authorization: Bearer …`",
                "[observe] b: parse error (once)",
                "[observe] a, b, c and 2 more: more than one series, 5,000 times; make it one: sum(…), max(…)",
            ]
        );
        assert!(observed.row(1.0).is_empty() && observed.figures().is_empty());
    }
}
