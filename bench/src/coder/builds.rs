//! Builds: started, looked at, cancelled.

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::deployment::{Call, Deployment};
use super::message::{Answer, Refusal, Response};
use super::provisioner::Order;
use super::state::{Build, JobStatus, Transition};
use super::users::Uuid8;
use super::workspaces::{Given, values};

impl Deployment {
    /// `{build}`, if the caller may see its workspace.
    pub(super) fn build_of(&self, call: &Call<'_>) -> Result<&Build, Refusal> {
        let build = self.builds.get(&call.id(0)?);
        let seen = build.filter(|build| self.may_see(call.actor, &self.workspaces[&build.workspace]));
        seen.ok_or_else(Refusal::not_found)
    }
}

pub(super) fn get(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let build = deployment.build_of(call)?;
    Ok(Response::json(200, &deployment.view_build(call.now, build)))
}

pub(super) fn list(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let workspace = deployment.workspace_of(call)?;
    let newest_first: Vec<Uuid> = workspace.builds.iter().rev().copied().collect();
    let page = Deployment::page(call, newest_first)?.into_iter();
    let rows: Value = page.map(|id| deployment.view_build(call.now, &deployment.builds[&id])).collect();
    Ok(Response::json(200, &rows))
}

#[derive(Deserialize)]
struct Create {
    transition: String,
    template_version_id: Option<Uuid8>,
    rich_parameter_values: Option<Vec<Given>>,
    reason: Option<String>,
}

pub(super) fn create(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let body: Create = deployment.body(call)?;
    let workspace = deployment.workspace_of(call)?;
    if !deployment.may_change(call.actor, workspace) {
        return Err(Refusal::forbidden());
    }
    let transition = match body.transition.as_str() {
        "start" => Transition::Start,
        "stop" => Transition::Stop,
        "delete" => Transition::Delete,
        _ => {
            let detail = "is none of start, stop, delete";
            return Err(Refusal::new(400, "Validation failed.").field("transition", detail));
        }
    };
    let last = &deployment.builds[&workspace.last_build()];
    if last.job.status.is_active() {
        return Err(Refusal::new(409, "A workspace build is already active."));
    }
    let template = deployment.templates.iter().find(|template| template.id == workspace.template);
    let template = template.expect("templates stay");
    if body.template_version_id.is_some_and(|Uuid8(id)| id != template.version) {
        return Err(Refusal::new(400, "Template version not found.")
            .field("template_version_id", "template version not found"));
    }
    let given = values(body.rich_parameter_values);
    let parameters = match transition {
        Transition::Start => template.resolve(&given, Some(&last.parameters))?,
        Transition::Stop | Transition::Delete => last.parameters.clone(),
    };
    let reason = body.reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| "initiator".to_owned());
    let order = Order { workspace: workspace.id, transition, initiator: call.actor, reason, parameters };
    let id = deployment.queue_build(call.now, order);
    Ok(Response::json(201, &deployment.view_build(call.now, &deployment.builds[&id])))
}

pub(super) fn cancel(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let build = deployment.build_of(call)?;
    if !deployment.may_change(call.actor, &deployment.workspaces[&build.workspace]) {
        return Err(Refusal::forbidden());
    }
    let (id, status) = (build.id, build.job.status);
    let expected =
        call.request.query("expect_status").filter(|_| deployment.settings.version.reads_expect_status());
    match expected.as_deref() {
        None => {}
        Some("pending" | "running") if expected.as_deref() == Some(status.name()) => {}
        Some("pending" | "running") => {
            return Err(Refusal::new(412, format!("Job is {}, not as expected.", status.name())));
        }
        Some(_) => {
            let detail = "is none of pending, running";
            return Err(Refusal::new(400, "Validation failed.").field("expect_status", detail));
        }
    }
    match status {
        JobStatus::Pending | JobStatus::Running => deployment.cancel(id, call.now),
        JobStatus::Canceling => return Err(Refusal::new(400, "Job has already been marked as canceled!")),
        _ => return Err(Refusal::new(400, "Job has already completed!")),
    }
    Ok(Response::json(200, &json!({ "message": "Job has been marked as canceled..." })))
}

pub(super) fn parameters(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let rows = deployment.build_of(call)?.parameters.iter();
    let rows = rows.map(|(name, value)| json!({ "name": name, "value": value }));
    Ok(Response::json(200, &rows.collect()))
}

pub(super) fn resources(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let build = deployment.build_of(call)?;
    if build.job.status.is_active() {
        return Err(Refusal::new(412, "Job hasn't completed!"));
    }
    Ok(Response::json(200, &deployment.view_resources(call.now, build)))
}

pub(super) fn timings(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    const STAGES: [&str; 4] = ["init", "plan", "graph", "apply"];
    let build = deployment.build_of(call)?;
    let (Some(started), Some(ended)) = (build.job.started, build.job.completed) else {
        return Ok(Response::json(
            200,
            &json!({
                "provisioner_timings": [], "agent_script_timings": [], "agent_connection_timings": [],
            }),
        ));
    };
    let part = ended.ns_since(started) / STAGES.len() as u64;
    let provisioner: Value = (0..)
        .zip(STAGES)
        .map(|(n, stage)| {
            json!({
                "job_id": build.job.id.to_string(),
                "started_at": deployment.timestamp(started.plus_ns(n * part)),
                "ended_at": deployment.timestamp(started.plus_ns((n + 1) * part)),
                "stage": stage,
                "source": "terraform",
                "action": if stage == "apply" { "create" } else { "" },
                "resource": "part-0",
            })
        })
        .collect();
    let (mut scripts, mut connections) = (Vec::new(), Vec::new());
    for id in build.resources.iter().flat_map(|(_, agents)| agents) {
        let agent = &deployment.agents[id];
        let row = |from, to, stage: &str| {
            json!({
                "started_at": deployment.timestamp(from),
                "ended_at": deployment.timestamp(to),
                "stage": stage,
                "workspace_agent_id": id.to_string(),
                "workspace_agent_name": agent.name,
            })
        };
        if call.now >= agent.connects {
            connections.push(row(agent.created, agent.connects, "connect"));
        }
        if agent.lifecycle(call.now) == "ready" {
            let mut script = row(agent.connects, agent.ready, "start");
            script["display_name"] = "Startup Script".into();
            script["exit_code"] = 0.into();
            script["status"] = "ok".into();
            scripts.push(script);
        }
    }
    Ok(Response::json(
        200,
        &json!({
            "provisioner_timings": provisioner,
            "agent_script_timings": scripts,
            "agent_connection_timings": connections,
        }),
    ))
}
