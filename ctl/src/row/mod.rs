//! `scalectl report --row`: runs as rows of a table of scale tests. What the operator states, what a run asked for and
//! what was measured are three things, and stay told apart in every form.
//!
//! - [`kind`]: connections by kind.
//! - [`text`]: the table as Markdown and as CSV.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use scale_api::report::{Outcome, Report};
use scale_api::units::utc;
use serde::Serialize;

use crate::client::{Client, Failure};
use crate::compare::sources;

mod kind;
#[cfg(test)]
mod tests;
mod text;

use kind::{Connections, Kind};

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A table for a page.
    Markdown,
    /// A head and a line a run, for spreadsheets.
    Csv,
    /// An array of objects.
    Json,
}

/// A run's row.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    run: String,
    name: Option<String>,
    /// Of its start, UTC.
    date: String,
    verdict: Outcome,
    exit_code: u8,
    /// Version of scaled.
    scaled: String,
    /// `[environment]`, as it was written.
    stated: BTreeMap<String, String>,
    asked: Asked,
    measured: Measured,
}

/// What the run asked for.
#[derive(Debug, Clone, Serialize)]
struct Asked {
    /// Builds at once; `None`: nothing was to be built.
    builds: Option<u64>,
    connections: Vec<Connections>,
}

/// What it came to; `None`: it was not measured.
#[derive(Debug, Clone, Serialize)]
struct Measured {
    /// Users that the run had.
    users: Option<u64>,
    /// Addresses of the deployment that answered.
    addresses: Option<u64>,
    /// The most builds at once that waited for a provisioner or were at one.
    builds_under_way: Option<u64>,
    /// The most builds at once that provisioners worked at.
    builds: Option<u64>,
    connections: Vec<Connections>,
    /// Seconds.
    echo_p99: Option<f64>,
    /// The target's own.
    versions: Vec<String>,
}

impl Row {
    /// A report's row.
    pub fn of(report: &Report) -> Self {
        let (run, coder) = (&report.run, report.coder.as_ref());
        let builds = coder.and_then(|coder| coder.builds.as_ref());
        let users_seen = report.disruptions.iter().filter_map(|it| it.users).max();
        let kinds = kind::connections(report);
        Self {
            run: run.id.clone(),
            name: run.name.clone(),
            date: utc(run.started_at)[..10].to_owned(),
            verdict: report.verdict.outcome,
            exit_code: report.verdict.exit_code,
            scaled: run.version.clone(),
            stated: run.environment.clone(),
            asked: Asked {
                builds: builds.map(|builds| builds.asked),
                connections: kinds.iter().map(|(asked, _)| asked.clone()).collect(),
            },
            measured: Measured {
                users: coder.map(|coder| coder.users).filter(|users| *users > 0).or(users_seen),
                addresses: coder.map(|coder| coder.replicas.len() as u64).filter(|count| *count > 0),
                builds_under_way: builds.and_then(|builds| builds.under_way),
                builds: builds.and_then(|builds| builds.reached),
                connections: kinds.into_iter().map(|(_, measured)| measured).collect(),
                echo_p99: report.latency.response.as_ref().map(|response| response.p99),
                versions: versions(report),
            },
        }
    }

    /// What was asked for and what was measured of a kind of connections.
    fn of_kind(&self, kind: Kind) -> (Option<&Connections>, Option<&Connections>) {
        let find = |all: &'_ [Connections]| all.iter().position(|one| one.kind == kind);
        (
            find(&self.asked.connections).map(|at| &self.asked.connections[at]),
            find(&self.measured.connections).map(|at| &self.measured.connections[at]),
        )
    }
}

/// The target's versions: those that the deployment and those that servers named.
fn versions(report: &Report) -> Vec<String> {
    let deployments = report.coder.iter().flat_map(|coder| &coder.versions);
    let servers = report.server_versions.iter().map(|seen| &seen.version);
    let all: BTreeSet<&String> = deployments.chain(servers).filter(|version| !version.is_empty()).collect();
    all.into_iter().cloned().collect()
}

/// The rows of `runs`: ids, reports or folders of runs. All are read before anything is printed.
///
/// # Errors
/// There is no such run, or two of them are the same.
pub fn table(client: &Client, runs: &[String], form: Form) -> Result<String, Failure> {
    let reports = runs.iter().map(|run| sources::report(client, run)).collect::<Result<Vec<_>, _>>()?;
    sources::are_different(runs.iter().zip(&reports).map(|(source, report)| (source.as_str(), report)))?;
    let rows: Vec<Row> = reports.iter().map(Row::of).collect();
    Ok(match form {
        Form::Markdown => text::markdown(&rows),
        Form::Csv => text::csv(&rows),
        Form::Json => serde_json::to_string(&rows).expect("plain values"),
    })
}
