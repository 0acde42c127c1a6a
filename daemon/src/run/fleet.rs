//! The workspaces behind a run's streams: what a report says of each of them.
//!
//! The engine knows streams by group and number. Stream `n` of a group that drives `w` workspaces belongs to its
//! workspace `n mod w`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use scale_api::coder::{ClassFailures, FailedThing, Outcome, Ran, Site, Skipped, THINGS_LISTED_MAX, Traffic};
use scale_api::units::thousands;

use crate::stream::class::Class;
use crate::worker::share::StreamResult;

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its name.
    pub name: String,
    /// Its owner's name.
    pub owner: String,
    /// The agent that is driven.
    pub agent: String,
}

/// What one group drives.
#[derive(Debug, Clone, Default)]
pub struct Driven {
    /// The group's index.
    pub group: u8,
    /// In the order in which streams take them.
    pub workspaces: Vec<Workspace>,
    /// Streams to them.
    pub streams: u64,
}

/// All workspaces of a run.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// The deployment.
    pub site: Site,
    /// By group; a group that is not Coder's has none.
    pub driven: Vec<Driven>,
    /// Those that get no traffic.
    pub skipped: Vec<Skipped>,
    /// Metrics are to have each workspace's own figures.
    pub has_metrics: bool,
}

/// Workspaces that metrics tell apart at most; docs/metrics.md says what they cost.
pub const LABELLED_MAX: usize = 10_000;

/// Whether metrics can tell so many workspaces apart.
///
/// # Errors
/// They cannot; what to do instead.
pub fn may_be_labelled(workspaces: usize) -> Result<(), String> {
    if workspaces <= LABELLED_MAX {
        return Ok(());
    }
    Err(format!(
        "--per-workspace-metrics tells at most {} workspaces apart, and there are {}; leave it out, or take fewer (--target-workspaces)",
        thousands(LABELLED_MAX as u64),
        thousands(workspaces as u64)
    ))
}

/// A workspace's figures over the whole run.
#[derive(Debug, Clone, Copy)]
pub struct ByWorkspace<'a> {
    /// Whose.
    pub workspace: &'a Workspace,
    /// Payload bytes that came.
    pub received: u64,
    /// Payload bytes that went.
    pub sent: u64,
    /// Open streams lost.
    pub losses: u64,
    /// Ticks missed by back-pressure.
    pub stalls: u64,
}

/// What a run has come to, as far as a fleet's report needs it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Of every stream, once the run is over.
    pub streams: &'a [StreamResult],
    /// Streams opened, by address.
    pub opened: &'a BTreeMap<SocketAddr, u64>,
    /// Upgrades that the rate limiter refused.
    pub limited: u64,
    /// Unix time of the run's start.
    pub started_at: f64,
    /// From then until now, in seconds.
    pub seconds: f64,
    /// Whether it is over.
    pub is_over: bool,
}

/// What one workspace's streams add up to.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    sent: u64,
    received: u64,
    losses: u64,
    stalls: u64,
    failure: Option<Class>,
}

/// What is said once upgrades were refused for their rate.
pub fn limiter_warning(limited: u64) -> Option<String> {
    (limited > 0).then(|| {
        format!(
            "the server's rate limiter refused {} upgrades (HTTP 429): what is measured is the limiter; set \
             CODER_DANGEROUS_DISABLE_RATE_LIMITS=true on the server for the time of the test",
            thousands(limited)
        )
    })
}

impl Fleet {
    /// Users whose workspaces are driven.
    fn owners(&self) -> u64 {
        let workspaces = self.driven.iter().flat_map(|driven| &driven.workspaces);
        workspaces.map(|workspace| workspace.owner.as_str()).collect::<BTreeSet<_>>().len() as u64
    }

    /// The `coder` part of the run's report.
    pub fn outcome(&self, seen: &Seen<'_>) -> Outcome {
        let workspaces: u64 = self.driven.iter().map(|driven| driven.workspaces.len() as u64).sum();
        let mut outcome = Outcome {
            flow: "workspace-traffic".into(),
            site: self.site.clone(),
            of: "workspaces".into(),
            requested: workspaces,
            users: self.owners(),
            ended: if seen.is_over { "done" } else { "going" }.into(),
            replicas: seen.opened.iter().map(|(address, n)| (address.to_string(), *n)).collect(),
            versions: vec![self.site.version.clone()],
            warnings: limiter_warning(seen.limited).into_iter().collect(),
            traffic: Some(Traffic {
                streams: self.driven.iter().map(|driven| driven.streams).sum(),
                skipped: self.skipped.len() as u64,
                skipped_workspaces: self.skipped.iter().take(THINGS_LISTED_MAX).cloned().collect(),
                ..Traffic::default()
            }),
            ..Outcome::default()
        };
        if seen.is_over {
            for driven in &self.driven {
                for (workspace, sum) in driven.workspaces.iter().zip(driven.sums(seen.streams)) {
                    note(&mut outcome, workspace, sum, seen);
                }
            }
        }
        outcome
    }
}

impl Fleet {
    /// One for each workspace of each group.
    pub fn by_workspace(&self, streams: &[StreamResult]) -> Vec<ByWorkspace<'_>> {
        let figures = |(workspace, sum): (_, Sum)| {
            let Sum { sent, received, losses, stalls, .. } = sum;
            ByWorkspace { workspace, received, sent, losses, stalls }
        };
        self.driven
            .iter()
            .flat_map(|driven| driven.workspaces.iter().zip(driven.sums(streams)).map(figures))
            .collect()
    }
}

impl Driven {
    /// One for each workspace.
    fn sums(&self, streams: &[StreamResult]) -> Vec<Sum> {
        let mut sums = vec![Sum::default(); self.workspaces.len()];
        for stream in streams.iter().filter(|stream| stream.group == self.group) {
            let sum = &mut sums[stream.number as usize % self.workspaces.len()];
            sum.sent += stream.sent;
            sum.received += stream.received;
            sum.losses += u64::from(stream.losses);
            sum.stalls += u64::from(stream.stalls);
            sum.failure = sum.failure.or(stream.failure);
        }
        sums
    }
}

/// A workspace's own result.
fn note(outcome: &mut Outcome, workspace: &Workspace, sum: Sum, seen: &Seen<'_>) {
    if let Some(class) = sum.failure {
        outcome.failed += 1;
        let new = || ClassFailures { count: 0, sentence: class.meaning().into() };
        outcome.failures.entry(class.name().into()).or_insert_with(new).count += 1;
        if outcome.failed_things.len() < THINGS_LISTED_MAX {
            outcome.failed_things.push(FailedThing {
                kind: "workspace".into(),
                name: workspace.name.clone(),
                class: class.name().into(),
                message: class.meaning().into(),
            });
        }
    } else {
        outcome.succeeded += 1;
    }
    if outcome.things.len() < THINGS_LISTED_MAX {
        outcome.things.push(Ran {
            name: workspace.name.clone(),
            owner: Some(workspace.owner.clone()),
            agent: Some(workspace.agent.clone()),
            error: sum.failure.map(|class| class.name().to_owned()),
            started_at: seen.started_at,
            seconds: seen.seconds,
            bytes_read: Some(sum.received),
            bytes_written: Some(sum.sent),
            ..Ran::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(number: u32, sent: u64, failure: Option<Class>) -> StreamResult {
        StreamResult {
            group: 0,
            number,
            target: 0,
            response_p99_ns: None,
            bytes: 0,
            stalls: 0,
            sent,
            received: sent + 1,
            losses: u32::from(failure.is_some()),
            failure,
        }
    }

    #[test]
    fn more_workspaces_than_labels_are_refused_with_what_to_do() {
        assert_eq!(may_be_labelled(LABELLED_MAX), Ok(()));
        let why = may_be_labelled(LABELLED_MAX + 1).unwrap_err();
        assert!(
            why.contains("10,000") && why.contains("10,001") && why.contains("--target-workspaces"),
            "{why}"
        );
    }

    #[test]
    fn streams_add_up_to_their_workspaces_and_one_failure_is_enough() {
        let workspace = |name: &str| Workspace { name: name.into(), owner: "o".into(), agent: "main".into() };
        let driven = Driven { group: 0, workspaces: vec![workspace("a"), workspace("b")], streams: 4 };
        let fleet = Fleet { driven: vec![driven], ..Fleet::default() };
        let streams = [
            stream(0, 10, None),
            stream(1, 20, None),
            stream(2, 30, None),
            stream(3, 5, Some(Class::AgentUnreachable)),
        ];
        let opened = BTreeMap::from([("127.0.0.1:80".parse().unwrap(), 4)]);
        let mut seen = Seen {
            streams: &streams,
            opened: &opened,
            limited: 3,
            started_at: 1.0,
            seconds: 2.0,
            is_over: true,
        };
        let outcome = fleet.outcome(&seen);
        assert_eq!((outcome.requested, outcome.succeeded, outcome.failed), (2, 1, 1));
        assert_eq!(outcome.failures["agent_unreachable"].count, 1);
        assert_eq!(outcome.failed_things[0].name, "b");
        assert_eq!((outcome.things[0].bytes_written, outcome.things[0].bytes_read), (Some(40), Some(42)));
        assert_eq!(outcome.replicas["127.0.0.1:80"], 4);
        assert!(outcome.warnings[0].contains("CODER_DANGEROUS_DISABLE_RATE_LIMITS=true"));
        (seen.is_over, seen.limited) = (false, 0);
        let outcome = fleet.outcome(&seen);
        assert_eq!((outcome.succeeded, outcome.things.len(), outcome.warnings.len()), (0, 0, 0));
    }
}
