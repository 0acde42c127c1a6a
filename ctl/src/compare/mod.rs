//! `scalectl compare`: two results, or two sets of them, side by side, and which is better.
//!
//! - [`result`]: what it comes to, the JSON.
//! - [`sources`]: reports by id or by file.
//! - [`plan`]: whether the runs asked for the same.
//! - [`disruptions`]: those that both sides have.
//! - [`figures`]: what is compared, and how much of a change matters.
//! - [`run`]: a run's figures, and how far each may be off.
//! - [`statistics`]: what can be said of a difference; knows nothing of reports.
//! - [`verdict`]: all of it together.
//! - [`text`]: for people.
//!
//! docs/compare.md says why it is done so, and what it was tried on.

use std::path::PathBuf;

use clap::Args;

use crate::client::{Client, Failure};
use crate::commands::Cli;

mod disruptions;
mod figures;
mod plan;
mod result;
mod run;
pub mod sources;
mod statistics;
#[cfg(test)]
pub use statistics::random;
mod text;
#[cfg(test)]
mod trial;
mod verdict;

use run::Run;
use verdict::Asked;

/// Results side by side, with a verdict.
#[derive(Debug, Args)]
#[command(override_usage = "scalectl compare [OPTIONS] <A> <B>
       scalectl compare [OPTIONS] --base <RUN,RUN…> --new <RUN,RUN…>")]
pub struct Compare {
    /// Two results, before and after: ids of runs, report.json files, or folders of runs.
    #[arg(value_names = ["A", "B"], num_args = 2, required_unless_present = "base", conflicts_with = "base")]
    pub runs: Vec<String>,
    /// Several results before; the spread between them is used.
    #[arg(long, value_name = "RUN,RUN…", value_delimiter = ',', requires = "new")]
    pub base: Vec<String>,
    /// Several results after.
    #[arg(long, value_name = "RUN,RUN…", value_delimiter = ',', requires = "base")]
    pub new: Vec<String>,
    /// A figure and how much worse it may be, such as 'response.p99 10%' (repeatable).
    #[arg(long, value_name = "FIGURE SHARE%")]
    pub max_regression: Vec<String>,
    /// A word of the plan that may differ, such as target (repeatable).
    #[arg(long, value_name = "WORD")]
    pub allow_difference: Vec<String>,
    /// Also write it as a page that opens offline; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Compares, and shows what came of it.
///
/// # Errors
/// A result cannot be had, or what is asked makes no sense.
pub fn compare(cli: &Cli, client: &Client, flags: &Compare) -> Result<u8, Failure> {
    if let Some(word) = flags.allow_difference.iter().find(|word| !plan::is_word(word)) {
        let why = "no group has such a word; write one as in a run file, such as target or tick_interval";
        return Err(Failure::usage(format!("--allow-difference {word}: {why}")));
    }
    let (base, new) = match &flags.runs[..] {
        [before, after] => (std::slice::from_ref(before), std::slice::from_ref(after)),
        _ => (&flags.base[..], &flags.new[..]),
    };
    let load = |sources: &[String]| -> Result<Vec<Run>, Failure> {
        sources.iter().map(|source| sources::load(client, source)).collect()
    };
    let (base, new) = (load(base)?, load(new)?);
    sources::are_different(base.iter().chain(&new).map(|run| (run.source.as_str(), &run.report)))?;
    let asked = Asked { regressions: flags.max_regression.clone(), allowed: flags.allow_difference.clone() };
    let comparison = verdict::compare(&base, &new, &asked).map_err(Failure::usage)?;
    let is_page_printed = flags.html.as_ref().is_some_and(|file| file.as_os_str() == "-");
    if let Some(file) = &flags.html {
        let json = serde_json::to_string(&comparison).expect("plain values");
        let shell = client.text("/v1/page?kind=compare")?;
        let page = scale_api::page::fill(&shell, &json).ok_or_else(|| {
            Failure::usage("the daemon's page is of another version; use a scalectl of the same")
        })?;
        crate::files::write(file, "--html", page.as_bytes())?;
    }
    if !is_page_printed {
        crate::show(cli.json, &comparison, || text::comparison(&comparison));
    }
    Ok(comparison.verdict.exit_code)
}
