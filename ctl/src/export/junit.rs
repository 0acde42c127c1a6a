//! JUnit XML, as Jenkins, GitLab and GitHub's actions read it (the Ant task's format): a run is a suite, its
//! verdict a case, and so is each threshold and each built-in rule.
//!
//! Not met is a failure. Where the run says nothing of its target, because it was ended or the generator was the
//! limit, the verdict is an error, and the others are skipped.

use std::fmt::Write;

use scale_api::report::{Outcome, Report, ThresholdResult};
use scale_api::threshold;

use crate::client::Failure;

/// Disruptions that are properties; the report, which is the suite's output, has them with their figures.
const DISRUPTIONS_MAX: usize = 20;

/// How a case ended.
enum Ended {
    Passed,
    Failure(&'static str, String),
    Error(&'static str, String),
    Skipped(String),
}

/// A test case.
struct Case {
    class: &'static str,
    name: String,
    seconds: f64,
    ended: Ended,
}

/// A suite.
struct Suite {
    name: String,
    seconds: f64,
    properties: Vec<(String, String)>,
    cases: Vec<Case>,
    out: String,
}

/// A report.
pub fn report(report: &Report) -> String {
    let seconds = (report.run.ended_at - report.run.started_at).max(0.0);
    let verdict = &report.verdict;
    let reasons = verdict.reasons.join("\n");
    let ended = match verdict.outcome {
        Outcome::Passed => Ended::Passed,
        Outcome::Failed => Ended::Failure("failed", reasons),
        Outcome::Incomplete => Ended::Error("incomplete", reasons),
        Outcome::Aborted => Ended::Error("aborted", reasons),
    };
    let mut cases = vec![Case { class: "scaled.run", name: "verdict".into(), seconds, ended }];
    let is_judged = matches!(verdict.outcome, Outcome::Passed | Outcome::Failed);
    let rules = if report.load.streams_requested > 0 { threshold::built_in(report) } else { Vec::new() };
    let results = verdict.thresholds.iter().map(|result| ("scaled.threshold", result));
    for (class, result) in results.chain(rules.iter().map(|rule| ("scaled.rule", rule))) {
        let ended = if is_judged {
            judged(result)
        } else {
            Ended::Skipped(format!(
                "not judged: the run is {}",
                format!("{:?}", verdict.outcome).to_lowercase()
            ))
        };
        cases.push(Case { class, name: result.expression.clone(), seconds: 0.0, ended });
    }
    let name = report.run.name.as_ref().unwrap_or(&report.run.id).clone();
    Suite { name, seconds, properties: properties(report), cases, out: crate::render::report(report) }.text()
}

/// What kept a run from having a report.
pub fn failure(failure: &Failure) -> String {
    let ended = Ended::Error("refused", failure.message.clone());
    let case = Case { class: "scaled.run", name: "verdict".into(), seconds: 0.0, ended };
    let properties = vec![("exit_code".to_owned(), (failure.exit as u8).to_string())];
    Suite { name: "scalectl".into(), seconds: 0.0, properties, cases: vec![case], out: String::new() }.text()
}

fn judged(result: &ThresholdResult) -> Ended {
    let measured = match result.at {
        _ if result.value.is_none() => result.why.clone().unwrap_or_else(|| "nothing was measured".into()),
        Some(at) => format!("measured {}, at second {at}", threshold::show(result)),
        None => format!("measured {}", threshold::show(result)),
    };
    if result.ok { Ended::Passed } else { Ended::Failure("threshold", measured) }
}

fn properties(report: &Report) -> Vec<(String, String)> {
    let run = &report.run;
    let mut all = vec![
        ("run".to_owned(), run.id.clone()),
        ("version".to_owned(), run.version.clone()),
        ("seed".to_owned(), run.seed.to_string()),
        ("outcome".to_owned(), format!("{:?}", report.verdict.outcome).to_lowercase()),
        ("exit_code".to_owned(), report.verdict.exit_code.to_string()),
    ];
    all.extend(run.labels.iter().map(|(key, value)| (format!("label.{key}"), value.clone())));
    all.extend(run.environment.iter().map(|(key, value)| (format!("environment.{key}"), value.clone())));
    for result in &report.verdict.thresholds {
        all.push((format!("measured: {}", result.expression), threshold::show(result)));
    }
    let disruptions = report.disruptions.iter().take(DISRUPTIONS_MAX);
    all.extend(
        disruptions.map(|it| ("disruption".to_owned(), it.sentence(report.zero_at(), !report.run.going))),
    );
    all
}

impl Suite {
    fn text(&self) -> String {
        let count = |is_it: fn(&Ended) -> bool| self.cases.iter().filter(|case| is_it(&case.ended)).count();
        let counts = format!(
            "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.3}\"",
            self.cases.len(),
            count(|ended| matches!(ended, Ended::Failure(..))),
            count(|ended| matches!(ended, Ended::Error(..))),
            count(|ended| matches!(ended, Ended::Skipped(_))),
            self.seconds
        );
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"scalectl\" {counts}>\n<testsuite name=\"{}\" {counts}>\n<properties>\n",
            escaped(&self.name)
        );
        for (name, value) in &self.properties {
            let _ = writeln!(text, "<property name=\"{}\" value=\"{}\"/>", escaped(name), escaped(value));
        }
        text += "</properties>\n";
        self.cases.iter().for_each(|case| text += &case.text());
        let _ =
            writeln!(text, "<system-out>{}</system-out>\n</testsuite>\n</testsuites>", escaped(&self.out));
        text
    }
}

impl Case {
    fn text(&self) -> String {
        let inner = match &self.ended {
            Ended::Passed => String::new(),
            Ended::Skipped(why) => format!("<skipped message=\"{}\"/>", escaped(why)),
            Ended::Failure(kind, why) => said("failure", kind, why),
            Ended::Error(kind, why) => said("error", kind, why),
        };
        format!(
            "<testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\">{inner}</testcase>\n",
            self.class,
            escaped(&self.name),
            self.seconds
        )
    }
}

/// The first line as message, all of it within.
fn said(element: &str, kind: &str, why: &str) -> String {
    let first = escaped(why.lines().next().unwrap_or_default());
    format!("<{element} type=\"{kind}\" message=\"{first}\">{}</{element}>", escaped(why))
}

/// Text and attribute values alike; what XML 1.0 (§2.2) has no place for becomes a question mark.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' | '\t' => escaped.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use scale_api::disruption::Disruption;

    use super::*;
    use crate::export::tests::report as sample;

    fn cases(text: &str) -> Vec<&str> {
        text.lines().filter(|line| line.starts_with("<testcase")).collect()
    }

    #[test]
    fn what_failed_is_a_failure_with_what_was_measured() {
        let text = report(&sample());
        let counts = "tests=\"7\" failures=\"4\" errors=\"0\" skipped=\"0\" time=\"65.500\"";
        assert_eq!(text.matches(counts).count(), 2, "{text}");
        let cases = cases(&text);
        assert!(
            cases[0].contains("name=\"verdict\" time=\"65.500\"><failure type=\"failed\" message=\"95.00 %")
        );
        assert_eq!(
            cases[1],
            "<testcase classname=\"scaled.threshold\" name=\"response.p99 &lt; 250ms\" time=\"0.000\"><failure type=\"threshold\" message=\"measured 300.00 ms\">measured 300.00 ms</failure></testcase>"
        );
        assert!(
            cases[2].ends_with("time=\"0.000\"></testcase>") && cases[3].contains("nothing was measured"),
            "{cases:?}"
        );
        // Rules that hold: of what was sent, of what came back, of what was opened.
        let rules = cases.iter().filter(|case| case.contains("scaled.rule"));
        assert_eq!(rules.map(|case| case.contains("<failure")).collect::<Vec<_>>(), [false, true, false]);
        assert!(text.contains("<testsuite name=\"night | &lt;ly&gt; &amp; &quot;co&quot;?\""));
        assert!(text.contains("<property name=\"label.who\" value=\"ci\"/>"));
    }

    #[test]
    fn a_run_that_says_nothing_of_its_target_is_an_error_and_skips_the_rest() {
        for (outcome, kind) in [(Outcome::Incomplete, "incomplete"), (Outcome::Aborted, "aborted")] {
            let mut run = sample();
            run.verdict.outcome = outcome;
            let text = report(&run);
            assert!(text.contains("failures=\"0\" errors=\"1\" skipped=\"6\""), "{text}");
            assert!(cases(&text)[0].contains(&format!("<error type=\"{kind}\"")));
            assert!(cases(&text)[1].contains(&format!("not judged: the run is {kind}")));
        }
    }

    #[test]
    fn disruptions_are_properties_and_stand_in_the_output() {
        let one =
            Disruption { mark: Some("a<b".into()), streams: 9, streams_dropped: 3, ..Disruption::default() };
        let mut run = sample();
        run.disruptions = vec![one; DISRUPTIONS_MAX + 1];
        let text = report(&run);
        let said = "08:00:00 &quot;a&lt;b&quot;: 3 of 9 dropped; 0 back; 0 never; 0 B lost";
        let property = format!("<property name=\"disruption\" value=\"{said}\"/>");
        assert_eq!(text.matches(&property).count(), DISRUPTIONS_MAX, "{text}");
        assert!(text.contains(&format!("\ndisruption:   {said}\n")), "{text}");
    }

    #[test]
    fn a_run_that_passed_and_one_that_never_began_have_one_case_at_least() {
        let mut run = Report::default();
        run.verdict.outcome = Outcome::Passed;
        assert!(report(&run).contains("tests=\"1\" failures=\"0\" errors=\"0\" skipped=\"0\""));
        let text = failure(&Failure::usage("no target; give --target ws://host\nand more"));
        assert!(
            text.contains("errors=\"1\"") && text.contains("message=\"no target; give --target ws://host\"")
        );
        assert!(text.contains("value=\"2\"") && text.contains("and more</error>"));
    }
}
