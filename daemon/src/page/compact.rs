//! A report without what would make its page large: see [`super::data`].

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use scale_api::coder;
use scale_api::disruption::Disruption;
use scale_api::http::DoctorEntry;
use scale_api::report::{
    Fairness, Generator, Latency, Load, Mark, Observed, Part, Report, Run, SeriesRow, ServerChange,
    ServerVersion, Ssh, Total, Verdict,
};
use scale_api::scenario::taken::StepReport;
use scale_api::spec::Spec;

use super::columns::Columns;

/// Things of a Coder flow that are listed one by one; report.json has the others.
const THINGS_MAX: usize = 200;
/// Bytes of what a step's command wrote; report.json has more.
const STEP_OUTPUT_BYTES_MAX: usize = 4 << 10;

/// Of a disruption's dropped streams, classes, addresses, replicas and groups that are listed one by one, each: those with
/// most. The page says how many the others are.
const DROPPED_BY_MAX: usize = 20;

/// A report, its series by column.
#[derive(Serialize)]
pub struct Compact<'a> {
    schema: u32,
    run: &'a Run,
    spec: &'a Spec,
    verdict: &'a Verdict,
    load: &'a Load,
    total: &'a Total,
    latency: &'a Latency,
    groups: &'a [Part],
    targets: &'a [Part],
    stages: &'a [Part],
    fairness: &'a Fairness,
    generator: &'a Generator,
    marks: &'a [Mark],
    disruptions: Vec<Disruption>,
    observe: &'a BTreeMap<String, Observed>,
    warnings: &'a [String],
    percentiles: &'a BTreeMap<String, Vec<[f64; 2]>>,
    server_versions: &'a [ServerVersion],
    server_changes: &'a [ServerChange],
    series: Columns<'a>,
    host: &'a [DoctorEntry],
    ssh: &'a Option<Ssh>,
    coder: Option<coder::Outcome>,
    steps: Vec<StepReport>,
}

/// The parts of `report`, so that a new one cannot go unnoticed, with `rows` as its series.
pub fn of<'a>(report: &'a Report, rows: &'a [SeriesRow]) -> Compact<'a> {
    let Report { schema, run, spec, verdict, load, total, latency, groups, targets, stages, .. } = report;
    let Report { fairness, generator, marks, observe, warnings, percentiles, .. } = report;
    let Report { server_versions, server_changes, series: _, host, ssh, coder, steps, .. } = report;
    let (series, coder) = (Columns(rows), coder.as_ref().map(short));
    let disruptions = report.disruptions.iter().map(with_most).collect();
    Compact {
        schema: *schema,
        run,
        spec,
        verdict,
        load,
        total,
        latency,
        groups,
        targets,
        stages,
        fairness,
        generator,
        marks,
        disruptions,
        observe,
        warnings,
        percentiles,
        server_versions,
        server_changes,
        series,
        host,
        ssh,
        coder,
        steps: steps.iter().map(step).collect(),
    }
}

/// A step, with the end of what its command wrote.
fn step(step: &StepReport) -> StepReport {
    let mut step = step.clone();
    if let Some(output) = &mut step.output {
        let from = (output.len().saturating_sub(STEP_OUTPUT_BYTES_MAX)..)
            .find(|&at| output.is_char_boundary(at))
            .expect("its end is one");
        output.drain(..from);
    }
    step
}

/// A disruption with the longest of each list.
fn with_most(disruption: &Disruption) -> Disruption {
    let most = |counts: &BTreeMap<String, u64>| {
        let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
        counts.sort_by_key(|&(name, count)| (Reverse(count), name));
        counts.truncate(DROPPED_BY_MAX);
        counts.into_iter().map(|(name, count)| (name.clone(), *count)).collect()
    };
    Disruption {
        by_class: most(&disruption.by_class),
        by_address: most(&disruption.by_address),
        by_replica: most(&disruption.by_replica),
        by_group: most(&disruption.by_group),
        ..disruption.clone()
    }
}

/// What came of a flow, with the first of each list.
fn short(outcome: &coder::Outcome) -> coder::Outcome {
    let mut outcome = outcome.clone();
    outcome.things = Vec::new();
    outcome.failed_things.truncate(THINGS_MAX);
    if let Some(cleaned) = &mut outcome.cleanup {
        cleaned.left_things.truncate(THINGS_MAX);
    }
    if let Some(traffic) = &mut outcome.traffic {
        traffic.skipped_workspaces.truncate(THINGS_MAX);
    }
    outcome
}
