//! The page: one self-contained HTML file that shows a report, a going run, or a comparison.

use scale_api::report::Report;

/// The page of a report, with its data.
pub fn report(report: &Report) -> String {
    format!(
        "<!doctype html><title>scaled</title><script type=\"application/json\" id=\"data\">{}</script></html>",
        data(report).replace('<', "\\u003c")
    )
}

/// The page of a going run, which gets its data from where it is served.
pub fn live() -> &'static str {
    "<!doctype html><title>scaled</title><!--live--></html>"
}

/// The page of a kind, without data; `None`: there is no such kind.
pub fn shell(kind: &str) -> Option<&'static str> {
    ["report", "live", "compare"].contains(&kind).then(live)
}

/// The JSON of a report as the page takes it.
///
/// # Panics
/// Never: a report is always JSON.
pub fn data(report: &Report) -> String {
    serde_json::to_string(report).expect("a report is JSON")
}
