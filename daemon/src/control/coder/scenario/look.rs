//! The look before a scenario: the deployment, what would be made, whether this host carries the traffic.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use scale_api::coder::{Deployment, Flow, FlowRequest, Preflight, TIMEOUT};
use scale_api::http::{Problem, ProblemCode};
use scale_api::scenario::{Kind, Scenario, ScenarioRequest, When};
use scale_api::spec::Spec;
use scale_coder::client::Client;
use scale_coder::config::Config;
use scale_coder::preflight::Site;

use super::drive::PROBE;
use super::groups;
use crate::control::caller::Caller;
use crate::control::coder::look::{self as flow, PACE, Ready, wire_site};
use crate::control::coder::{in_time, invalid, reach, traffic};
use crate::control::resolve::Here;
use crate::control::state::State;
use crate::run::marks;
use crate::run::targets::{Action, Permit};

/// A scenario that may begin.
pub struct Looked {
    /// The run's id.
    pub id: String,
    /// As asked.
    pub scenario: Scenario,
    /// Where, and how to reach it.
    pub deployment: Deployment,
    /// The owner's client, patient.
    pub client: Client,
    /// Where.
    pub site: Site,
    /// The flow that makes the workspaces, where there is one.
    pub create: Option<Ready>,
    /// What was said aloud.
    pub warnings: Vec<String>,
    /// For whom, and what that one may hit.
    pub permit: Permit,
}

/// The longest that everything may take before clean-up is over.
fn planned(scenario: &Scenario) -> Duration {
    let span = |span: Option<scale_api::units::Span>| Duration::from_nanos(span.unwrap_or(TIMEOUT).ns());
    let create = scenario.create.as_ref().map(|create| span(create.timeout)).unwrap_or_default();
    let baseline = scenario.baseline.map(|baseline| Duration::from_nanos(baseline.duration.ns()));
    let traffic = traffic::length(&scenario.planned(Some(1)));
    let cleanup = if scenario.create.is_some() { span(scenario.cleanup().timeout) } else { Duration::ZERO };
    let steps = Duration::from_nanos(scenario.beside_traffic().ns());
    [baseline.unwrap_or_default(), steps, traffic, cleanup].into_iter().fold(create, Duration::saturating_add)
}

/// Looks at everything.
///
/// # Errors
/// The first reason why it cannot be.
pub async fn look(
    state: &Rc<RefCell<State>>,
    caller: &Caller,
    request: ScenarioRequest,
) -> Result<(Looked, Preflight), Problem> {
    let ScenarioRequest { deployment, scenario, dry_run } = request;
    scenario.check().map_err(|errors| invalid(errors.join("\n")))?;
    for (number, mark) in (1..).zip(scenario.step.iter().map(|step| &step.mark)) {
        let checked = mark.as_deref().map_or(Ok(()), marks::check);
        checked.map_err(|why| invalid(format!("step {number}: {}", why.detail)))?;
    }
    let (here, permit) = state.borrow().prepare(caller, dry_run)?;
    let store = state.borrow().store.clone();
    let config = reach::config(&deployment, permit.clone()).await?;
    let id = store.new_id(crate::run::supervisor::wall_seconds() as u64);
    let looked = async {
        let (looked, mut answer) = match scenario.create.is_some() {
            true => with_create(deployment, scenario, config, &permit, store.root(), id, dry_run).await?,
            false => without_create(deployment, scenario, config, &permit, id).await?,
        };
        // Beyond what the flow has asked leave for.
        let actions = actions(&looked.scenario);
        permit
            .check_deployment(&looked.client.host(), looked.site.deployment.as_deref(), &actions)
            .map_err(|why| Problem::new(ProblemCode::TargetRefused, why))?;
        let spec = planned_traffic(&looked).await?;
        say(&looked, spec, here, permit.clone().beside(PROBE), &mut answer).await?;
        Ok::<_, Problem>((looked, answer))
    };
    in_time(looked).await
}

fn actions(scenario: &Scenario) -> Vec<Action> {
    let mut actions = Vec::new();
    if scenario.create.is_some() {
        actions.push(Action::Create);
        if scenario.cleanup().when != When::Never {
            actions.push(Action::Delete);
        }
    }
    if scenario.group.iter().any(|group| group.kind != Kind::Ws) {
        actions.push(Action::Traffic);
    }
    actions
}

async fn with_create(
    deployment: Deployment,
    scenario: Scenario,
    config: Config,
    permit: &Permit,
    root: &std::path::Path,
    id: String,
    dry_run: bool,
) -> Result<(Looked, Preflight), Problem> {
    let create = scenario.create.as_ref().expect("there is one");
    let mut ask = create.flow();
    // What becomes of them is the scenario's to say; the flow itself leaves them.
    ask.no_cleanup = true;
    let request = FlowRequest {
        deployment: deployment.clone(),
        flow: Flow::CreateWorkspaces(ask),
        timeout: create.timeout,
        job_timeout: create.job_timeout,
        cleanup_timeout: None,
        cleanup_job_timeout: None,
        max_failures: create.max_failures,
        dry_run,
    };
    let planned = planned(&scenario);
    let (ready, mut answer) = flow::look(request, config, permit, root, id.clone(), Some(planned)).await?;
    // The second line is about what becomes of them.
    let when = match scenario.cleanup().when {
        When::Always => "they are deleted at the end, whatever comes",
        When::Success => "they are deleted at the end if everything passes",
        When::Never => "they stay until `scalectl cleanup`",
    };
    if let Some(line) = answer.lines.get_mut(1)
        && let Some((how, _)) = line.split_once("; ")
    {
        *line = format!("{how}; {when}");
    }
    let (client, site, warnings) = (ready.client.clone(), ready.site.clone(), ready.warnings.clone());
    let permit = permit.clone();
    Ok((Looked { id, scenario, deployment, client, site, create: Some(ready), warnings, permit }, answer))
}

async fn without_create(
    deployment: Deployment,
    scenario: Scenario,
    config: Config,
    permit: &Permit,
    id: String,
) -> Result<(Looked, Preflight), Problem> {
    let mut client = reach::client(config.clone(), &deployment.token)?;
    let (hasty, planned) = (Config { pace: PACE, ..config }, planned(&scenario));
    let (_, site) = reach::enter(hasty, &deployment.token, planned, permit, &actions(&scenario)).await?;
    client.bypass_rate_limits(true);
    client.build_info().await.map_err(|error| invalid(error.to_string()))?;
    let warnings = site.warnings.clone();
    let answer =
        Preflight { warnings: warnings.clone(), site: wire_site(&client, &site), ..Preflight::default() };
    let permit = permit.clone();
    Ok((Looked { id, scenario, deployment, client, site, create: None, warnings, permit }, answer))
}

/// The traffic as far as it can be known now: of workspaces that are there it is looked which, of those to be made
/// only how many.
async fn planned_traffic(looked: &Looked) -> Result<Spec, Problem> {
    let there = looked.create.is_none();
    if there && !looked.scenario.group.is_empty() {
        return Ok(groups::find(looked, None, true).await?.spec);
    }
    let mut spec = looked.scenario.planned(looked.scenario.create.as_ref().map(|create| create.count));
    for (load, group) in spec.group.iter_mut().zip(&looked.scenario.group) {
        if group.kind != Kind::Ws {
            let base = group.workspace_proxy_url.as_deref().unwrap_or(looked.client.url());
            load.target = vec![base.trim().replacen("http", "ws", 1)];
            groups::trust(load, &looked.deployment);
        }
    }
    Ok(spec)
}

/// Says what would go on, after this host's own look at it.
async fn say(
    looked: &Looked,
    spec: Spec,
    here: Here,
    permit: Permit,
    answer: &mut Preflight,
) -> Result<(), Problem> {
    if let Some(baseline) = looked.scenario.baseline {
        answer.lines.push(format!("a quiet time of {}, in which the API is measured", baseline.duration));
    }
    if spec.group.is_empty() {
        return Ok(());
    }
    let (_, plan) = crate::control::resolve::plan(spec, here, permit).await?;
    if !plan.summary.cannot.is_empty() {
        return Err(Problem::new(ProblemCode::HostCannotCarry, plan.summary.cannot.join("\n")));
    }
    answer.lines.extend(plan.summary.lines);
    let steps = (1..).zip(&looked.scenario.step);
    answer.lines.extend(steps.map(|(number, step)| step.sentence(number)));
    answer.warnings.extend(plan.summary.warnings);
    answer.warnings.extend(crate::control::doctor::summary(&plan.host.doctor));
    Ok(())
}
