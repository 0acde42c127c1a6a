//! Agents, and the way to their terminals.

use scale_ring::Time;
use serde_json::json;
use uuid::Uuid;

use super::deployment::{Call, Deployment};
use super::faults::Kind as Fault;
use super::message::{Answer, Refusal, Response};
use super::seen::Wrong;
use super::socket::Kind;
use super::state::{Agent, JobStatus};
use super::terminal::{Attach, Size};

impl Deployment {
    fn agent_of(&self, call: &Call<'_>) -> Result<&Agent, Refusal> {
        let agent = self.agents.get(&call.id(0)?);
        let seen = agent.filter(|agent| self.may_see(call.actor, &self.workspaces[&agent.workspace]));
        seen.ok_or_else(Refusal::not_found)
    }

    /// Whether a dial of the agent gets through: it is there, and no later build has ended its time.
    pub fn reaches(&self, now: Time, agent: Uuid) -> bool {
        let Some(agent) = self.agents.get(&agent) else { return false };
        let later =
            self.workspaces[&agent.workspace].builds.iter().rev().take_while(|build| **build != agent.build);
        let ended = |build: &Uuid| self.builds[build].job.status == JobStatus::Succeeded;
        agent.is_there(now) && !later.copied().any(|build| ended(&build))
    }

    /// Terminals that are attached.
    pub(super) const fn terminals_open(&self) -> u64 {
        self.seen.sockets.terminals - self.terminals_closed
    }

    /// A terminal's websocket has ended.
    pub const fn terminal_closed(&mut self) {
        self.terminals_closed += 1;
    }
}

pub(super) fn get(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let agent = deployment.agent_of(call)?;
    Ok(Response::json(200, &deployment.view_agent(call.now, agent)))
}

pub(super) fn logs(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    deployment.agent_of(call)?;
    Ok(Response::json(200, &json!([])))
}

pub(super) fn ports(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    deployment.agent_of(call)?;
    Ok(Response::json(200, &json!({ "ports": [] })))
}

/// `reconnect` names the session, `width` and `height` its size, `command` what runs.
pub(super) fn terminal(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let version = deployment.settings.version;
    let agent = deployment.agent_of(call)?.clone();
    let workspace = &deployment.workspaces[&agent.workspace];
    let name = workspace.name.clone();
    if workspace.owner != call.actor
        && (!deployment.may_change(call.actor, workspace) || deployment.settings.disable_owner_workspace_exec)
    {
        return Err(Refusal::not_found());
    }
    let query = |name: &str| call.request.query(name).filter(|text| !text.is_empty());
    let reconnect = query("reconnect");
    let Some(reconnect) = reconnect.as_deref().and_then(|text| Uuid::parse_str(text).ok()) else {
        let place = format!("reconnect={}", reconnect.unwrap_or_default());
        deployment.seen.wrong(Wrong::Reconnect, place);
        let detail = "Query param \"reconnect\" must be a valid uuid";
        return Err(Refusal::new(400, "Query parameters have invalid values.").field("reconnect", detail));
    };
    let side = |name: &str| {
        query(name).map_or(Ok(80), |text| {
            text.parse::<u16>().map_err(|_| {
                let detail = format!("Query param \"{name}\" must be a valid integer from 0 to 65535");
                Refusal::new(400, "Query parameters have invalid values.").field(name, detail)
            })
        })
    };
    let size = Size { height: side("height")?, width: side("width")? };
    let backend = query("backend_type").filter(|_| version.reads_backend_type()).unwrap_or_default();
    if !["", "screen", "buffered"].contains(&backend.as_str()) {
        let detail = format!("Query param \"backend_type\" is \"{backend}\", none of screen and buffered");
        return Err(Refusal::new(400, "Query parameters have invalid values.").field("backend_type", detail));
    }
    let random = &mut deployment.random;
    let asked = Some((call.request.method.as_str(), call.request.path.as_str()));
    let struck = deployment.faults.strike(&[Fault::Dial], call.now, asked, Some(&name), random);
    let dial = struck.map(|(_, rule)| {
        let reason = rule.message().unwrap_or("dial workspace agent: context deadline exceeded");
        (rule.after_ns().unwrap_or(0), reason.to_owned())
    });
    let unreachable = || {
        let reason = format!("dial workspace agent: agent is {}", agent.status(call.now));
        (deployment.settings.dial_time.ns(), reason)
    };
    let fails = dial.or_else(|| (!deployment.reaches(call.now, agent.id)).then(unreachable));
    let attach = Attach {
        agent: agent.id,
        reconnect,
        size,
        command: query("command").unwrap_or_default(),
        // The stand-in's workspaces have no screen: whoever asks for it by name gets an end at once.
        screen: backend == "screen",
        dial_fails: fails,
        lost: agent.lost,
    };
    super::users::touch(deployment, agent.workspace, call.now);
    let response = deployment.upgrade(call.now, call.request, Kind::Terminal(attach), Some(agent.workspace));
    if response.status != 101 {
        return Ok(response);
    }
    let cookie = format!(
        "coder_signed_app_token={}; Path={}; Max-Age=60; HttpOnly",
        agent.id.simple(),
        call.request.path
    );
    Ok(response.with_header("Set-Cookie", cookie))
}
