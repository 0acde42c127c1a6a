//! What came of a flow, in the words of reports; and whether that passes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use scale_api::coder::{
    Builds, ClassFailures, Cleaned, Command, FailedThing, Outcome, Phases, Ran, Requests, RunCommand,
    THINGS_LISTED_MAX,
};
use scale_api::report::{Exit, Figure, Outcome as How, Verdict};
use scale_api::units::thousands;
use scale_coder::class::Failure;
use scale_coder::client::Client;
use scale_coder::flows::cleanup;
use scale_coder::flows::create::{CreatedWorkspaces, Phases as Took, WorkspaceResult};
use scale_coder::flows::users::CreatedUsers;
use scale_coder::ledger;
use scale_coder::time::{Timestamp, between};

use super::look::kind;

/// What is left of a run by its ledger; nothing where it has none.
pub fn owned(ledger: &Path) -> u64 {
    ledger::read(ledger).map_or(0, crate::run::store::owned)
}

/// What was seen of the server.
pub fn note_seen(outcome: &mut Outcome, client: &Client) {
    let seen = client.seen();
    outcome.warnings.extend(seen.limiter_warning());
    outcome.requests = Requests {
        sent: seen.requests,
        retries: seen.retries,
        rate_limited: seen.rate_limited,
        server_errors: seen.server_errors,
        unanswered: seen.unanswered,
    };
    outcome.replicas = seen.addresses.iter().map(|(address, n)| (address.to_string(), *n)).collect();
    outcome.versions = seen.versions.into_iter().collect();
}

fn failed(kind: &str, name: &str, failure: &Failure) -> FailedThing {
    FailedThing {
        kind: kind.into(),
        name: name.into(),
        class: failure.class.name().into(),
        message: failure.message.clone(),
    }
}

/// Counts what failed, of `requested`.
fn note_failures<'a>(
    outcome: &mut Outcome,
    kind: &str,
    failures: impl Iterator<Item = (&'a str, Option<&'a Failure>)>,
) {
    for (name, failure) in failures {
        let Some(failure) = failure else {
            outcome.succeeded += 1;
            continue;
        };
        outcome.failed += 1;
        let class = outcome.failures.entry(failure.class.name().into());
        let new = || ClassFailures { count: 0, sentence: failure.class.sentence().into() };
        class.or_insert_with(new).count += 1;
        if outcome.failed_things.len() < THINGS_LISTED_MAX {
            outcome.failed_things.push(failed(kind, name, failure));
        }
    }
}

/// Users were made.
pub fn note_users(outcome: &mut Outcome, created: &CreatedUsers) {
    let rows = created.users.iter().map(|user| (user.username.as_str(), user.failure.as_ref()));
    note_failures(outcome, "user", rows);
    outcome.users = outcome.succeeded;
}

/// Workspaces were made.
pub fn note_workspaces(outcome: &mut Outcome, created: &CreatedWorkspaces) {
    let rows = created.workspaces.iter().map(|one| (one.name.as_str(), one.failure.as_ref()));
    note_failures(outcome, "workspace", rows);
    let there = created.workspaces.iter().filter(|one| one.id.is_some());
    outcome.users = there.filter_map(|one| one.owner.as_deref()).collect::<BTreeSet<_>>().len() as u64;
    outcome.things = created.workspaces.iter().filter_map(ran).take(THINGS_LISTED_MAX).collect();
    let phase = |of: fn(&Took) -> Option<f64>| {
        figure(created.workspaces.iter().filter_map(|workspace| of(&workspace.phases)).collect())
    };
    outcome.phases = Phases {
        create: phase(|took| took.create),
        queue: phase(|took| took.queue),
        build: phase(|took| took.build),
        agent: phase(|took| took.agent),
        connect: phase(|took| took.connect),
        command: phase(|took| took.command),
    };
    let unwritten = created.workspaces.iter().filter_map(|workspace| workspace.output_lost.as_ref());
    if let Some(why) = unwritten.clone().next() {
        let count = thousands(unwritten.count() as u64);
        outcome.warnings.push(format!("the outputs of {count} commands were not kept; the first: {why}"));
    }
}

/// How many builds were asked for at once, by `--concurrency`, and how many went.
pub fn builds(created: &CreatedWorkspaces, concurrency: u32) -> Builds {
    let (all, at_once) = (created.workspaces.len() as u64, created.builds_at_once());
    Builds {
        count: created.workspaces.iter().map(|one| u64::from(one.builds)).sum(),
        asked: if concurrency == 0 { all } else { all.min(concurrency.into()) },
        under_way: at_once.map(|most| most.under_way),
        reached: at_once.map(|most| most.at_work),
    }
}

/// Where a run's commands have their outputs.
pub fn outputs(state: &Path, id: &str) -> PathBuf {
    state.join(id).join("output")
}

/// What ran in each workspace.
pub fn command(run: &RunCommand, state: &Path, id: &str) -> Command {
    Command {
        command: run.command.clone(),
        connected: "the web terminal's first byte".into(),
        outputs: run.log_output.then(|| outputs(state, id).display().to_string()),
    }
}

/// A workspace's own result; `None`: its turn never came.
fn ran(workspace: &WorkspaceResult) -> Option<Ran> {
    let began = workspace.began?;
    Some(Ran {
        name: workspace.name.clone(),
        owner: workspace.owner.clone(),
        agent: workspace.agent.as_ref().map(|agent| agent.name.clone()),
        error: workspace.failure.as_ref().map(|failure| failure.class.name().to_owned()),
        started_at: between(Timestamp::UNIX_EPOCH, began).as_secs_f64(),
        output: workspace.output.clone(),
        seconds: workspace.seconds.unwrap_or_else(|| between(began, super::wall_now()).as_secs_f64()),
        ..Ran::default()
    })
}

/// Things were deleted.
pub fn note_cleaned(outcome: &mut Outcome, cleaned: &cleanup::Cleaned, seconds: f64) {
    let left = cleaned.left.iter().map(|left| failed(kind(left.kind), &left.name, &left.failure));
    let part = Cleaned {
        workspaces: cleaned.workspaces as u64,
        users: cleaned.users as u64,
        gone: cleaned.gone as u64,
        left: cleaned.left.len() as u64,
        left_things: left.take(THINGS_LISTED_MAX).collect(),
        seconds,
    };
    if outcome.of == "things" {
        outcome.succeeded = part.workspaces + part.users + part.gone;
        let rows = cleaned.left.iter().map(|left| (left.name.as_str(), Some(&left.failure)));
        note_failures(outcome, "thing", rows);
        outcome.failed_things.clear(); // they stand in the clean-up's own list
    }
    outcome.cleanup = Some(part);
}

/// A distribution of exact values, each quantile one of them.
pub fn figure(mut values: Vec<f64>) -> Option<Figure> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let at = |quantile: f64| {
        let rank = (quantile * values.len() as f64).ceil() as usize;
        values[rank.clamp(1, values.len()) - 1]
    };
    Some(Figure {
        count: values.len() as u64,
        min,
        mean: values.iter().sum::<f64>() / values.len() as f64,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
        max,
    })
}

/// The verdict. `aborted`: why it was ended before its time.
pub fn judge(outcome: &Outcome, aborted: Option<&str>) -> Verdict {
    let mut reasons: Vec<String> = aborted.map(str::to_owned).into_iter().collect();
    let left = outcome.cleanup.as_ref().map_or(0, |cleaned| cleaned.left);
    let is_cleanup = outcome.of == "things";
    let failed = !is_cleanup && outcome.failed > outcome.max_failures;
    if failed {
        reasons.push(format!(
            "{} of {} {} failed, {} may (--max-failures)",
            thousands(outcome.failed),
            thousands(outcome.requested),
            outcome.of,
            thousands(outcome.max_failures)
        ));
    }
    if left > 0 {
        reasons.push(format!("clean-up left {}; run `scalectl cleanup` again", thousands(left)));
    }
    let (how, exit) = match (aborted.is_some(), failed, left > 0) {
        (true, ..) => (How::Aborted, Exit::Aborted),
        (_, true, _) => (How::Failed, Exit::Failed),
        (_, _, true) => (How::Failed, Exit::Left),
        _ => (How::Passed, Exit::Passed),
    };
    Verdict { outcome: how, exit_code: exit as u8, reasons, thresholds: Vec::new() }
}

/// Counts by name instead of by our own words.
pub fn by_name<K, V: Copy>(
    counts: &BTreeMap<K, V>,
    name: impl Fn(&K) -> &'static str,
) -> BTreeMap<String, V> {
    counts.iter().map(|(key, value)| (name(key).to_owned(), *value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_there() {
        let figure = figure((1..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!((figure.count, figure.min, figure.max, figure.mean), (100, 1.0, 100.0, 50.5));
        assert_eq!((figure.p50, figure.p90, figure.p99, figure.p999), (50.0, 90.0, 99.0, 100.0));
        assert_eq!(super::figure(Vec::new()), None);
        assert_eq!(super::figure(vec![2.0]).unwrap().p50, 2.0);
    }

    #[test]
    fn exit_codes_are_the_contracts() {
        let outcome = |failed, max_failures, left| Outcome {
            of: "workspaces".into(),
            failed,
            max_failures,
            cleanup: Some(Cleaned { left, ..Cleaned::default() }),
            ..Outcome::default()
        };
        let code = |outcome: &Outcome, aborted| judge(outcome, aborted).exit_code;
        assert_eq!(code(&outcome(0, 0, 0), None), 0);
        assert_eq!(code(&outcome(2, 2, 0), None), 0);
        assert_eq!(code(&outcome(3, 2, 1), None), 99);
        assert_eq!(code(&outcome(0, 0, 1), None), 7);
        assert_eq!(code(&outcome(3, 0, 1), Some("Ctrl-C")), 5);
        assert_eq!(judge(&outcome(3, 2, 1), None).reasons.len(), 2);
        let cleanup = Outcome { of: "things".into(), ..outcome(4, 0, 4) };
        assert_eq!(code(&cleanup, None), 7);
    }
}
