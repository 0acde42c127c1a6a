//! `[observe]`: figures of the target's own that stand beside ours, as a Prometheus has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{File, Spec};
use crate::target::{Scheme, Target};
use crate::units::Span;

/// Between two samples where no interval is given.
pub const DEFAULT_INTERVAL: Span = Span::from_secs(5);
/// The shortest time between two samples: a row of the series has one.
pub const INTERVAL_MIN: Span = Span::from_secs(1);
/// The longest.
pub const INTERVAL_MAX: Span = Span::from_secs(3600);
/// Queries of a run.
pub const QUERIES_MAX: usize = 32;
/// Bytes of a query's name.
pub const QUERY_NAME_BYTES_MAX: usize = 63;
/// Bytes of a query: as part of a URL it is within what proxies take.
pub const QUERY_BYTES_MAX: usize = 2000;
/// What thresholds call these figures; no group has that name beside them.
pub const FIGURE: &str = "observe";

/// What is asked, and whom.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observe {
    /// The server's URL, `http` or `https`, as far as `/api/v1` stands behind it.
    pub prometheus: String,
    /// Between two samples of each query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// Header lines of each request: where a token belongs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_file: Option<File>,
    /// Roots to trust, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<File>,
    /// Any certificate will do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// PromQL by name.
    pub query: BTreeMap<String, String>,
}

/// Where a Prometheus is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Over TLS.
    pub https: bool,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Of instant queries.
    pub url: String,
}

impl Observe {
    /// Where the server is.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn place(&self) -> Result<Place, String> {
        const WRITE: &str = "write http://127.0.0.1:9090 or https://prometheus.example.com/path";
        let url = self.prometheus.trim_end_matches('/');
        let (https, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(format!("[observe] prometheus is no URL of http:// or https://; {WRITE}")),
        };
        // What is refused here may be a secret: it is not repeated.
        if rest.contains('@') {
            return Err("[observe] prometheus has a user in it; give credentials with header_file".into());
        }
        if rest.contains(['?', '#', ',']) {
            return Err(format!("[observe] prometheus is a URL without query, fragment and comma; {WRITE}"));
        }
        let like = if https { Scheme::Wss } else { Scheme::Ws };
        let target = Target::parse(&format!("{}://{rest}", like.name()))
            .map_err(|_| format!("[observe] prometheus: `{url}` is no URL; {WRITE}"))?;
        Ok(Place { https, host: target.host, port: target.port, url: format!("{url}/api/v1/query") })
    }

    /// Between two samples.
    pub fn interval(&self) -> Span {
        self.interval.unwrap_or(DEFAULT_INTERVAL)
    }

    /// The files that it names, by their keys.
    pub fn files_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut File)> {
        let Self { header_file, ca, .. } = self;
        let files = [("observe.header_file", header_file), ("observe.ca", ca)];
        files.into_iter().filter_map(|(key, file)| Some((key, file.as_mut()?)))
    }

    fn check(&self, error: &mut dyn FnMut(String)) {
        match self.place() {
            Err(why) => error(why),
            Ok(place) if !place.https && (self.ca.is_some() || self.insecure) => {
                error("[observe] ca and insecure are for TLS; leave them out, or write https://".into());
            }
            Ok(_) => {}
        }
        if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&self.interval()) {
            error(format!("[observe] interval is {INTERVAL_MIN} to {INTERVAL_MAX}"));
        }
        if self.query.is_empty() {
            error(
                "[observe] asks nothing; give [observe.query] with a line such as coderd_cpu = 'sum(…)'"
                    .into(),
            );
        }
        if self.query.len() > QUERIES_MAX {
            error(format!(
                "[observe.query] has {} queries; a run has at most {QUERIES_MAX}",
                self.query.len()
            ));
        }
        for (name, query) in &self.query {
            if !is_name(name) {
                let name: String = name.chars().filter(|c| !c.is_control()).take(20).collect();
                error(format!(
                    "[observe.query] `{name}`: a name has small letters, digits and _, no digit first, and at most {QUERY_NAME_BYTES_MAX} bytes"
                ));
            }
            let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
            if query.trim().is_empty() || query.len() > QUERY_BYTES_MAX || !query.chars().all(is_text) {
                error(format!("[observe.query] {name}: a query is PromQL of 1 to {QUERY_BYTES_MAX} bytes"));
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= QUERY_NAME_BYTES_MAX
        && name.bytes().all(part)
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

impl Spec {
    pub(super) fn check_observe(&self, error: &mut dyn FnMut(String)) {
        let Some(observe) = &self.observe else { return };
        observe.check(error);
        if self.group.iter().any(|group| group.name == FIGURE) {
            error(format!(
                "a group is called `{FIGURE}`, which is what thresholds call figures of [observe]; give it another name"
            ));
        }
    }

    /// Names of the queries, ascending.
    pub fn observe_names(&self) -> Vec<&str> {
        self.observe.iter().flat_map(|observe| observe.query.keys()).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::group;

    fn observe() -> Observe {
        Observe {
            prometheus: "http://127.0.0.1:9090".into(),
            query: [("coderd_cpu".to_owned(), "sum(up)".to_owned())].into(),
            ..Observe::default()
        }
    }

    fn errors(change: impl FnOnce(&mut Observe)) -> String {
        let mut observe = observe();
        change(&mut observe);
        let spec = Spec { group: vec![group()], observe: Some(observe), ..Spec::default() };
        spec.check().expect_err("a mistake").join("\n")
    }

    #[test]
    fn each_mistake_says_what_to_do_and_repeats_no_secret() {
        for wrong in ["127.0.0.1:9090", "ftp://a", "", "http://", "http://a:0", "http://a b"] {
            assert!(errors(|it| it.prometheus = wrong.into()).contains("write http://"), "{wrong}");
        }
        for wrong in ["http://me:canary@a", "http://a/?token=canary", "http://a#canary"] {
            let said = errors(|it| it.prometheus = wrong.into());
            assert!(!said.contains("canary") && said.contains("[observe] prometheus"), "{said}");
        }
        assert!(errors(|it| it.interval = Some(Span::from_ns(999_999_999))).contains("1s to 1h"));
        assert!(errors(|it| it.query.clear()).contains("[observe.query]"));
        assert!(errors(|it| it.insecure = true).contains("https://"));
        for name in ["", "9a", "a.b", "A", "a-b", "a\u{1b}[2J", &"a".repeat(64)] {
            let said = errors(|it| drop(it.query.insert(name.into(), "up".into())));
            assert!(said.contains("a name has small letters") && !said.contains('\u{1b}'), "{said}");
        }
        for query in [" ", "up\r", &"a".repeat(2001)] {
            assert!(errors(|it| drop(it.query.insert("a".into(), query.into()))).contains("PromQL"));
        }
        let many = |it: &mut Observe| it.query = (0..33).map(|n| (format!("q{n}"), "up".into())).collect();
        assert!(errors(many).contains("at most 32"));
        let mut named = group();
        named.name = FIGURE.into();
        let spec = Spec { group: vec![named], observe: Some(observe()), ..Spec::default() };
        assert!(spec.check().unwrap_err()[0].contains("another name"));
    }

    #[test]
    fn the_place_is_where_instant_queries_go() {
        for (url, host, port, to) in [
            ("http://127.0.0.1:9090", "127.0.0.1", 9090, "http://127.0.0.1:9090/api/v1/query"),
            (
                "https://mimir.example.com/prometheus/",
                "mimir.example.com",
                443,
                "https://mimir.example.com/prometheus/api/v1/query",
            ),
            ("http://[::1]/", "::1", 80, "http://[::1]/api/v1/query"),
        ] {
            let place = Observe { prometheus: url.into(), ..observe() }.place().unwrap();
            assert_eq!((place.host.as_str(), place.port, place.url.as_str()), (host, port, to));
            assert_eq!(place.https, url.starts_with("https"));
        }
    }

    #[test]
    fn a_key_that_is_none_is_no_query_and_files_travel_but_are_not_shown() {
        let text = "[[group]]\ntarget = [\"ws://a\"]\nconns = 1\n[observe]\nprometheus = \"http://a\"\nintervall = \"5s\"\n";
        let error = Spec::from_toml(text, "r.toml").unwrap_err();
        assert!(error.starts_with("r.toml:6:1:") && error.contains("intervall"), "{error}");
        let mut observe = observe();
        observe.header_file = Some(File::read("h", *b"Authorization: Bearer canary"));
        let spec = Spec { group: vec![group()], observe: Some(observe), ..Spec::default() };
        assert_eq!(spec.check(), Ok(()));
        assert_eq!(spec.observe_names(), ["coderd_cpu"]);
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec);
        let shown = serde_json::to_string(&spec.filled(1, 1).redacted()).unwrap();
        assert!(!shown.contains("canary") && !shown.contains("63616e617279"), "{shown}");
        assert!(shown.contains("\"interval\":\"5s\"") && shown.contains("sum(up)"), "{shown}");
    }
}
