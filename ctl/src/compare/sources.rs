//! Reports of runs: from the daemon by id, or from files, also of other hosts.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use scale_api::report::{Report, SCHEMA};

use super::run::Run;
use crate::client::{Client, Failure};

/// The longest report: 3,600 rows of a run with every figure have some 5 MB.
const REPORT_BYTES_MAX: u64 = 64 << 20;

/// The run that `source` names.
///
/// # Errors
/// As for [`report`].
pub fn load(client: &Client, source: &str) -> Result<Run, Failure> {
    Ok(Run::new(source.to_owned(), report(client, source)?))
}

/// The report that `source` names: a file, a folder with a `report.json`, or the id of a run.
///
/// # Errors
/// There is none, or it is none.
pub fn report(client: &Client, source: &str) -> Result<Report, Failure> {
    let path = Path::new(source);
    // No id looks like a path; one that is a file here, too, is taken for the file only by its path.
    let is_path = source.contains('/') || source.contains('.');
    let report: Report = if is_path {
        let file = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
        let wrong = |why: &str| Failure::usage(format!("{} is no report: {why}", file.display()));
        let mut content = Vec::new();
        let read =
            std::fs::File::open(&file).and_then(|it| it.take(REPORT_BYTES_MAX + 1).read_to_end(&mut content));
        if read.map_err(|error| wrong(&error.to_string()))? as u64 > REPORT_BYTES_MAX {
            return Err(wrong("it is longer than any report"));
        }
        serde_json::from_slice(&content).map_err(|error| wrong(&error.to_string()))?
    } else if path.is_dir() {
        return Err(Failure::usage(format!("{source} is a folder; write ./{source} for what is in it")));
    } else {
        client.report(source)?
    };
    if report.schema != SCHEMA {
        return Err(Failure::usage(format!(
            "{source} has a report of schema {}; this scalectl reads {SCHEMA}",
            report.schema
        )));
    }
    Ok(report)
}

/// A run that is there twice is a mistake. Each has the name that it was given.
///
/// # Errors
/// One is there twice.
pub fn are_different<'a>(runs: impl Iterator<Item = (&'a str, &'a Report)>) -> Result<(), Failure> {
    let mut seen: BTreeMap<(String, u64), &str> = BTreeMap::new();
    for (source, report) in runs {
        // Ids repeat from host to host; the start, to the millisecond, does not.
        let key = (report.run.id.clone(), (report.run.started_at * 1000.0) as u64);
        if let Some(other) = seen.insert(key, source) {
            return Err(Failure::usage(format!("{other} and {source} are the same run")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, content: &str) -> String {
        let path = std::env::temp_dir().join(format!("scalectl-compare-{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    }

    #[test]
    fn what_is_no_report_is_told_with_its_name() {
        let client = Client::new(Some("/nowhere/control.sock".into()));
        let refusal = |source: &str| load(&client, source).expect_err("no report").message;
        let other = written("other.json", "{\"schema\": 1, \"run\": 5}");
        assert!(refusal(&other).contains(&format!("{other} is no report")));
        let newer = written("newer.json", "{\"schema\": 99}");
        assert!(refusal(&newer).contains("schema 99"));
        assert!(refusal("./not-there.json").contains("not-there.json"));
        assert!(refusal("r17-0").contains("no daemon at"), "anything else is an id");
        for file in [other, newer] {
            std::fs::remove_file(file).expect("removed");
        }
    }

    #[test]
    fn a_run_is_not_compared_with_itself() {
        let run = |id: &str, started_at: f64| {
            let mut report = Report::default();
            (report.run.id, report.run.started_at) = (id.into(), started_at);
            report
        };
        let are_different =
            |runs: &[Report]| are_different(runs.iter().map(|run| (run.run.id.as_str(), run)));
        assert!(are_different(&[run("r1-0", 1.0), run("r1-0", 2.0), run("r2-0", 1.0)]).is_ok());
        assert!(are_different(&[run("r1-0", 1.0), run("r1-0", 1.0)]).is_err());
    }
}
