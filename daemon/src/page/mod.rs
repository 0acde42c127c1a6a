//! The page: one self-contained HTML file that shows a report, a going run, or a comparison.
//!
//! Its sources are `daemon/page/`: a shell, one style sheet, scripts that are joined as they are, and uPlot.
//! Nothing in it asks any other place for anything, and its Content-Security-Policy says so: the style and the
//! script run by their hashes, and the live page alone may connect, to where it came from.
//!
//! What it shows is decided by its kind:
//! - `report`: its data is [`data`] of a report, or the report's own JSON.
//! - `live`: its data is `null`; it opens `EventSource("live")` beside itself. There, event `report` brings
//!   `{"going": bool, "report": …}`, as above or `null`, and event `second` the JSON of an [`Event`].
//! - `compare`: its data is what `scalectl compare --json` prints.
//! - `find-max`: its data is what `scalectl find-max --json` prints.
//!
//! A [`shell`] has `null` where the data belongs; [`scale_api::page::fill`] puts it there.
//!
//! [`Event`]: scale_api::report::Event

use std::fmt::Write;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use scale_api::page::fill;
use scale_api::report::Report;

use crate::run::series::Series;
use crate::stream::class::Class;

mod columns;
mod compact;

/// Rows of a page's series: no chart is wider, and with every figure in them it stays below 1 MB.
const ROWS_MAX: usize = 1400;

/// What a page can show.
const KINDS: [&str; 4] = ["report", "live", "compare", "find-max"];

const HTML: &str = include_str!("../../page/page.html");

const STYLE: &str =
    concat!(include_str!("../../page/uplot/uPlot.min.css"), include_str!("../../page/page.css"));

/// The scripts, in the order in which they build on one another.
const SCRIPTS: [&str; 17] = [
    include_str!("../../page/uplot/uPlot.iife.min.js"),
    include_str!("../../page/js/format.js"),
    include_str!("../../page/js/dom.js"),
    include_str!("../../page/js/series.js"),
    include_str!("../../page/js/plot.js"),
    include_str!("../../page/js/heat.js"),
    include_str!("../../page/js/time.js"),
    include_str!("../../page/js/distribution.js"),
    include_str!("../../page/js/head.js"),
    include_str!("../../page/js/tables.js"),
    include_str!("../../page/js/disruptions.js"),
    include_str!("../../page/js/coder.js"),
    include_str!("../../page/js/steps.js"),
    include_str!("../../page/js/runfile.js"),
    include_str!("../../page/js/compare.js"),
    include_str!("../../page/js/find-max.js"),
    include_str!("../../page/js/main.js"),
];

static SCRIPT: LazyLock<String> =
    LazyLock::new(|| format!("(() => {{\"use strict\";\n{}}})();", SCRIPTS.join("\n")));

/// All pages without data, made once.
static SHELLS: LazyLock<[String; KINDS.len()]> = LazyLock::new(|| KINDS.map(make));

/// The page of a report, with its data.
///
/// # Panics
/// The page has no place for data: a bug of ours.
pub fn report(report: &Report) -> String {
    fill(&SHELLS[0], &data(report)).expect("the page has a place for data")
}

/// The page of a going run, which gets its data from where it is served.
pub fn live() -> &'static str {
    &SHELLS[1]
}

/// The page of a kind, without data; `None`: there is no such kind.
pub fn shell(kind: &str) -> Option<&'static str> {
    KINDS.iter().position(|known| *known == kind).map(|at| SHELLS[at].as_str())
}

/// The JSON of a report as the page takes it: as it is, but with its series by column, which takes half
/// the room, merged to at most [`ROWS_MAX`] rows, and without the longest lists.
///
/// # Panics
/// Never: a report is always JSON.
pub fn data(report: &Report) -> String {
    let mut series = Series::at_most(ROWS_MAX);
    if report.series.len() > ROWS_MAX {
        report.series.iter().for_each(|row| series.push(row.clone()));
    }
    let rows = if series.rows().is_empty() { &report.series[..] } else { series.rows() };
    serde_json::to_string(&compact::of(report, rows)).expect("a report is JSON")
}

fn make(kind: &str) -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let connect = if kind == "live" { "connect-src 'self'; " } else { "" };
    let policy = format!(
        "default-src 'none'; {connect}img-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(&SCRIPT)
    );
    // The scripts come last: what is in them is no place for anything.
    HTML.replace("{kind}", kind)
        .replace("{policy}", &policy)
        .replace("{classes}", &classes())
        .replace("{style}", STYLE)
        .replace("{script}", &SCRIPT)
}

/// The failure classes: whose each is and what it means.
fn classes() -> String {
    let mut json = String::from("{");
    for (at, class) in Class::ALL.iter().enumerate() {
        let blame = format!("{:?}", class.blame()).to_lowercase();
        let comma = if at > 0 { "," } else { "" };
        let entry = serde_json::json!([blame, class.meaning()]);
        let _ = write!(json, "{comma}\"{}\":{entry}", class.name());
    }
    json.replace('<', "\\u003c") + "}"
}

#[cfg(test)]
mod tests;
