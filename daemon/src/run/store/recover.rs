//! What a daemon finds when it starts that a former one left going: the run is closed with what there is of it.
//!
//! A machine that lost power may leave files that are empty, cut off or full of zeros. What cannot be read is as if it
//! were not there, and the report says so.

use std::io::{BufReader, ErrorKind};

use scale_api::report::{Exit, Outcome, Report, Run, SCHEMA};
use scale_api::scenario::taken::StepReport;
use scale_api::spec::Spec;
use scale_coder::ledger;
use scale_ring::folder::Folder;

use super::{
    CHECKPOINT, REPORT, REPORT_BYTES_MAX, RUN_FILE, RUN_FILE_BYTES_MAX, SERIES, began, head::Head, owned,
};
use crate::run::series::Series;

/// Seconds by which a checkpoint's figures may be older than the series before the report says so.
const CHECKPOINT_AGE_MAX: f64 = 1.5;
/// What a report that cannot be read is called from then on.
const DAMAGED: &str = "report.json.damaged";

/// What is in a file of the run's that may be damaged.
enum Found<T> {
    Whole(T),
    Damaged,
    Missing,
}

impl<T> Found<T> {
    fn read(folder: &Folder, name: &str, most: u64, parse: impl FnOnce(&[u8]) -> Option<T>) -> Self {
        match folder.content(name, most) {
            Ok(bytes) => parse(&bytes).map_or(Self::Damaged, Self::Whole),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::Missing,
            Err(_) => Self::Damaged,
        }
    }

    /// What is whole; what is damaged is said.
    fn whole(self, name: &str, warnings: &mut Vec<String>) -> Option<T> {
        match self {
            Self::Whole(found) => Some(found),
            Self::Damaged => {
                warnings.push(format!(
                    "{name} of this run is damaged, as by a loss of power; nothing is taken from it"
                ));
                None
            }
            Self::Missing => None,
        }
    }
}

/// The report of run `id`, if it was cut off: its last checkpoint and its series. `None`: it has a report, or nothing
/// was kept of it.
pub(super) fn cut_off(folder: &Folder, id: &str) -> Option<Report> {
    let mut warnings = Vec::new();
    match folder.read(REPORT) {
        Ok(report) if Head::read(&report).is_some() => return None,
        Ok(_) => {
            tracing::warn!("{REPORT} of run {id} is damaged; it is called {DAMAGED} from now on");
            warnings.push(format!(
                "{REPORT} of this run was damaged, as by a loss of power; it is kept as {DAMAGED}"
            ));
            let _ = folder.rename(REPORT, DAMAGED);
        }
        Err(_) => {}
    }
    let of_json =
        |bytes: &[u8]| serde_json::from_slice::<Report>(bytes).ok().filter(|report| report.run.id == id);
    let checkpoint =
        Found::read(folder, CHECKPOINT, REPORT_BYTES_MAX, of_json).whole(CHECKPOINT, &mut warnings);
    let checkpoint = checkpoint.or_else(|| without_checkpoint(folder, id, &mut warnings));
    let series = folder.read(SERIES).and_then(|file| Series::read(BufReader::new(file)));
    let (series, left_out) = series.unwrap_or_default();
    if left_out > 1 {
        warnings.push(format!("{left_out} lines of {SERIES} are damaged and left out of the series"));
    }
    let mut report = match checkpoint {
        Some(report) => report,
        // Of a folder that holds nothing of a run, as one that was being made, nothing is to be said.
        None if series.rows().is_empty() && warnings.is_empty() => return None,
        None => bare(id, Spec::default()),
    };
    report.warnings.extend(warnings);
    take_series(&mut report, &series);
    report.verdict.outcome = Outcome::Aborted;
    report.verdict.exit_code = Exit::Aborted as u8;
    report.verdict.reasons.insert(0, "the daemon was lost while the run was going".into());
    report.steps.iter_mut().for_each(StepReport::lost);
    if let Some(coder) = &mut report.coder {
        coder.ended = "lost".into();
        coder.owned = ledger::read(&folder.path().join(ledger::FILE_NAME)).map_or(0, owned);
    }
    Some(report)
}

fn take_series(report: &mut Report, series: &Series) {
    let Some(last) = series.rows().last() else { return };
    let figures = report.run.ended_at - report.zero_at();
    if last.at > figures + CHECKPOINT_AGE_MAX {
        report.warnings.push(format!(
            "figures are those of second {figures:.0}, when they were last kept; the series goes on until second {}",
            last.at
        ));
    }
    report.run.ended_at = report.run.ended_at.max(report.zero_at() + last.at);
    report.series = series.rows().to_vec();
}

/// Of a run that left no checkpoint but its run file, as where the disk was full: that it was.
fn without_checkpoint(folder: &Folder, id: &str, warnings: &mut Vec<String>) -> Option<Report> {
    let of_toml = |bytes: &[u8]| Spec::from_toml(std::str::from_utf8(bytes).ok()?, RUN_FILE).ok();
    let spec = Found::read(folder, RUN_FILE, RUN_FILE_BYTES_MAX, of_toml).whole(RUN_FILE, warnings)?;
    Some(bare(id, spec))
}

fn bare(id: &str, spec: Spec) -> Report {
    let started_at = began(id).0 as f64;
    let run = Run {
        id: id.to_owned(),
        name: spec.name.clone(),
        environment: spec.environment.clone(),
        started_at,
        ended_at: started_at,
        ..Run::default()
    };
    Report { schema: SCHEMA, run, spec, ..Report::default() }
}
