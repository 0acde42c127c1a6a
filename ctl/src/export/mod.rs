//! Results as files for continuous integration: JUnit XML, and a summary in Markdown.
//!
//! They are written whatever came of a run: passed, failed, ended early, or refused before it began.

mod junit;
mod summary;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use scale_api::report::{Exit, Report};

pub use summary::plain;

use crate::client::Failure;
use crate::files;

/// What is written of a result.
#[derive(Debug, Clone, Default, Args)]
pub struct Exports {
    /// Write the result as JUnit XML, a test case a threshold; - is stdout.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Append the result as Markdown, as GitHub's step summaries are ($GITHUB_STEP_SUMMARY).
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

impl Exports {
    fn is_empty(&self) -> bool {
        self.junit.is_none() && self.summary.is_none()
    }

    /// Checks before a run begins what would be a pity after it.
    ///
    /// # Errors
    /// There will be no result to write, or no folder to write it to.
    pub fn check(&self, is_followed: bool) -> Result<(), Failure> {
        if !is_followed && !self.is_empty() {
            return Err(Failure::usage(
                "--junit and --summary are written at the run's end, which --detach does not wait for; give them to `scalectl watch` or `scalectl report`",
            ));
        }
        for (word, path) in [("--junit", &self.junit), ("--summary", &self.summary)] {
            let Some(path) = path else { continue };
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if folder.is_some_and(|folder| !folder.is_dir()) || path.is_dir() {
                return Err(Failure::usage(format!(
                    "{word}: cannot write {}: make its folder first, and name a file",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// Writes a report; the exit code with which to end. A file that cannot be written spoils a run that
    /// has passed, and hides nothing of one that has not.
    pub fn report(&self, report: &Report) -> u8 {
        let code = report.verdict.exit_code;
        let text = || (junit::report(report), summary::report(report));
        if self.is_empty() || self.write(text) || code != 0 { code } else { Exit::Usage as u8 }
    }

    /// Writes why there is no report.
    pub fn failure(&self, failure: &Failure) {
        if !self.is_empty() {
            self.write(|| (junit::failure(failure), summary::failure(failure)));
        }
    }

    /// What came of it, written if there was no report.
    ///
    /// # Errors
    /// Those of `result`.
    pub fn ending<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        result.inspect_err(|failure| self.failure(failure))
    }

    fn write(&self, texts: impl FnOnce() -> (String, String)) -> bool {
        let (junit, summary) = texts();
        let one = |path: &Option<PathBuf>, write: &dyn Fn(&Path) -> Result<(), Failure>| {
            let result = path.as_deref().map_or(Ok(()), write);
            result.inspect_err(|failure| eprintln!("scalectl: {}", failure.message)).is_ok()
        };
        let junit = one(&self.junit, &|path| files::write(path, "--junit", junit.as_bytes()));
        one(&self.summary, &|path| append(path, &summary)) && junit
    }
}

/// Puts a summary behind those of other steps.
fn append(path: &Path, text: &str) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::usage(format!("--summary: cannot write {}: {error}", path.display())))
}

#[cfg(test)]
pub(crate) mod tests {
    use scale_api::report::{Figure, Latency, Load, Outcome, Run, ThresholdResult, Verdict, Worker};

    use super::*;

    /// A report with one threshold that is met and one that is not.
    pub fn report() -> Report {
        let load = Load {
            streams_requested: 1000,
            streams_opened: 998,
            streams_open_at_end: 990,
            ticks_due: 100_000,
            ticks_sent: 99_900,
            delivered_ratio: Some(0.999),
            echoed_ratio: Some(0.95),
            rate_offered: Some(4e7),
            rate_sent: Some(3.9e7),
            rate_received: Some(3.8e7),
            connect_failures: [("refused".into(), 2)].into(),
            disconnects: [("reset".into(), 7), ("refused".into(), 1)].into(),
            ..Load::default()
        };
        let figure = Figure { count: 5, p50: 0.01, p99: 0.3, max: 1.5, ..Figure::default() };
        let threshold = |expression: &str, value, ok| ThresholdResult {
            expression: expression.into(),
            value,
            ok,
            ..ThresholdResult::default()
        };
        let mut report = Report {
            run: Run {
                id: "r1-0".into(),
                name: Some("night | <ly> & \"co\"\u{1}".into()),
                labels: [("who".to_owned(), "ci".to_owned())].into(),
                started_at: 1_800_000_000.0,
                ended_at: 1_800_000_065.5,
                version: "0.1.0".into(),
                ..Run::default()
            },
            load,
            latency: Latency { response: Some(figure.clone()), lateness: Some(figure), ..Latency::default() },
            verdict: Verdict {
                outcome: Outcome::Failed,
                exit_code: 99,
                reasons: vec![
                    "95.00 % of what was sent came back".into(),
                    "threshold not met: response.p99 < 250ms".into(),
                ],
                thresholds: vec![
                    threshold("response.p99 < 250ms", Some(0.3), false),
                    ThresholdResult {
                        at: Some(12.0),
                        ..threshold("connect.p99 < 2s over 30s", Some(0.05), true)
                    },
                    threshold("tls.p50 < 1s", None, false),
                ],
            },
            ..Report::default()
        };
        report.generator.workers = vec![Worker { busy_mean: 0.3, busy_max: 0.41, ..Worker::default() }];
        report
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("scalectl-export-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        folder
    }

    #[test]
    fn both_files_are_written_a_summary_behind_what_is_there() {
        let folder = folder("both");
        let exports =
            Exports { junit: Some(folder.join("junit.xml")), summary: Some(folder.join("summary.md")) };
        std::fs::write(folder.join("summary.md"), "# before\n").expect("written");
        exports.check(true).expect("a folder is there");
        assert_eq!(exports.report(&report()), 99);
        exports.failure(&Failure::usage("no target"));
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("written");
        assert!(read("junit.xml").contains("no target") && !read("junit.xml").contains("response"));
        let summary = read("summary.md");
        assert!(
            summary.starts_with("# before\n")
                && summary.contains("no target")
                && summary.contains("response.p99")
        );
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn what_cannot_be_written_is_said_before_a_run_and_spoils_only_what_passed() {
        let folder = folder("missing");
        let missing = Exports { junit: Some(folder.join("not/there.xml")), summary: None };
        assert!(missing.check(true).unwrap_err().message.contains("--junit"));
        let itself = Exports { junit: None, summary: Some(folder.clone()) };
        assert!(itself.check(true).unwrap_err().message.contains("--summary"));
        assert!(missing.check(false).unwrap_err().message.contains("--detach"));
        assert!(Exports::default().check(false).is_ok());
        let mut report = report();
        assert_eq!(itself.report(&report), 99);
        report.verdict.exit_code = 0;
        assert_eq!((itself.report(&report), missing.report(&report)), (2, 2));
        assert_eq!(Exports::default().report(&report), 0);
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
