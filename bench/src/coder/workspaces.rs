//! Workspaces: made, listed, found.

use scale_ring::Time;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::deployment::{Call, Deployment};
use super::message::{Answer, Refusal, Response};
use super::provisioner::Order;
use super::search::{Term, terms, unknown_key};
use super::state::{Role, Transition, Workspace};
use super::templates::Values;
use super::users::{Uuid8, check_name, touch};

/// A parameter's value within a body.
#[derive(Deserialize)]
pub(super) struct Given {
    name: String,
    value: String,
}

pub(super) fn values(given: Option<Vec<Given>>) -> Values {
    given.into_iter().flatten().map(|Given { name, value }| (name, value)).collect()
}

#[derive(Deserialize)]
struct Create {
    template_id: Option<Uuid8>,
    template_version_id: Option<Uuid8>,
    name: String,
    rich_parameter_values: Option<Vec<Given>>,
    autostart_schedule: Option<String>,
    ttl_ms: Option<i64>,
    automatic_updates: Option<String>,
}

impl Deployment {
    pub(super) fn may_see(&self, actor: Uuid, workspace: &Workspace) -> bool {
        workspace.owner == actor
            || [Role::Owner, Role::TemplateAdmin, Role::Auditor]
                .into_iter()
                .any(|role| self.has_role(actor, role))
    }

    pub(super) fn may_change(&self, actor: Uuid, workspace: &Workspace) -> bool {
        workspace.owner == actor || self.has_role(actor, Role::Owner)
    }

    /// `{workspace}`, if the caller may see it; 410 where it was deleted.
    pub(super) fn workspace_of(&self, call: &Call<'_>) -> Result<&Workspace, Refusal> {
        let id = call.id(0)?;
        let seen = self.workspaces.get(&id).filter(|workspace| self.may_see(call.actor, workspace));
        let workspace = seen.ok_or_else(Refusal::not_found)?;
        let deleted_too = call.request.query("include_deleted").as_deref() == Some("true");
        if workspace.deleted && !deleted_too {
            let message = format!("Workspace {id} was deleted; ?include_deleted=true shows it.");
            return Err(Refusal::new(410, message));
        }
        Ok(workspace)
    }
}

pub(super) fn create(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let user = deployment.user_of(call, 0)?;
    create_for(deployment, call, user)
}

pub(super) fn create_in_organization(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let organization = deployment.organization_of(call, 0)?;
    let user = deployment.user_of(call, 1)?;
    if !deployment.users[&user].organizations.contains(&organization) {
        return Err(Refusal::not_found());
    }
    create_for(deployment, call, user)
}

fn create_for(deployment: &mut Deployment, call: &Call<'_>, owner: Uuid) -> Answer {
    let body: Create = deployment.body(call)?;
    if owner != call.actor && !deployment.has_role(call.actor, Role::Owner) {
        return Err(Refusal::forbidden());
    }
    check_name("name", &body.name)?;
    let version = body.template_version_id.filter(|_| deployment.settings.version.has_template_version_id());
    let found = match (body.template_id, version) {
        (Some(Uuid8(id)), None) => deployment.templates.iter().find(|template| template.id == id),
        (None, Some(Uuid8(id))) => deployment.templates.iter().find(|template| template.version == id),
        (None, None) => {
            return Err(Refusal::new(400, "Validation failed.").field("template_id", "is required"));
        }
        (Some(_), Some(_)) => {
            let detail = "template_id and template_version_id exclude each other";
            return Err(Refusal::new(400, "Validation failed.").field("template_version_id", detail));
        }
    };
    let Some(template) = found else {
        let refusal = Refusal::new(400, "Template doesn't exist.");
        return Err(refusal.field("template_id", "template not found"));
    };
    if !template.deprecated.is_empty() {
        let message = format!(
            "Template \"{}\" has been deprecated, and cannot be used to create a new workspace.",
            template.name
        );
        return Err(Refusal::new(403, message).detail(template.deprecated));
    }
    let organization = deployment.organizations[0].id;
    if !deployment.users[&owner].organizations.contains(&organization) {
        return Err(
            Refusal::forbidden().detail("the workspace's owner is not in the template's organization")
        );
    }
    let name_key = (owner, body.name.to_lowercase());
    if deployment.names.contains_key(&name_key) {
        let message = format!("Workspace \"{}\" already exists.", body.name);
        let detail = "This value is already in use and should be unique.";
        return Err(Refusal::new(409, message).field("name", detail));
    }
    let automatic_updates = body.automatic_updates.unwrap_or_else(|| "never".to_owned());
    if !["never", "always"].contains(&automatic_updates.as_str()) {
        return Err(Refusal::new(400, "Validation failed.").field("automatic_updates", "is always or never"));
    }
    let parameters = template.resolve(&values(body.rich_parameter_values), None)?;
    let template = template.id;
    let id = deployment.new_id();
    let workspace = Workspace {
        id,
        name: body.name,
        owner,
        organization,
        template,
        created: call.now,
        last_used: call.now,
        automatic_updates,
        autostart_schedule: body.autostart_schedule.filter(|schedule| !schedule.is_empty()),
        ttl_ms: body.ttl_ms,
        deleted: false,
        builds: Vec::new(),
    };
    deployment.workspaces.insert(id, workspace);
    deployment.names.insert(name_key, id);
    deployment.seen.workspaces.made += 1;
    let (transition, reason) = (Transition::Start, "initiator".to_owned());
    let order = Order { workspace: id, transition, initiator: call.actor, reason, parameters };
    deployment.queue_build(call.now, order);
    Ok(Response::json(201, &deployment.view_workspace(call.now, &deployment.workspaces[&id])))
}

pub(super) fn get(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let workspace = deployment.workspace_of(call)?;
    Ok(Response::json(200, &deployment.view_workspace(call.now, workspace)))
}

pub(super) fn by_name(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let owner = deployment.user_of(call, 0)?;
    let id = deployment.names.get(&(owner, call.arg(1).to_lowercase())).ok_or_else(Refusal::not_found)?;
    let workspace = &deployment.workspaces[id];
    if !deployment.may_see(call.actor, workspace) {
        return Err(Refusal::not_found());
    }
    Ok(Response::json(200, &deployment.view_workspace(call.now, workspace)))
}

pub(super) fn usage(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let id = deployment.workspace_of(call)?.id;
    touch(deployment, id, call.now);
    Ok(Response::empty(204))
}

/// Whether a workspace fits a term.
fn fits(
    deployment: &Deployment,
    now: Time,
    caller: Uuid,
    workspace: &Workspace,
    term: &Term,
) -> Result<bool, Refusal> {
    let value = term.value.as_str();
    let build = &deployment.builds[&workspace.last_build()];
    let owner = |name: &str| match name {
        "me" => workspace.owner == caller,
        name => deployment.username(workspace.owner).eq_ignore_ascii_case(name),
    };
    let named = |part: &str| workspace.name.to_lowercase().contains(part);
    let template = || deployment.templates.iter().find(|template| template.id == workspace.template);
    Ok(match term.key.as_deref() {
        None => match value.split_once('/') {
            Some((name, part)) => owner(name) && named(part),
            None => named(value),
        },
        Some("owner") => owner(value),
        Some("name") => named(value),
        Some("template") => template().is_some_and(|template| template.name.eq_ignore_ascii_case(value)),
        Some("status") => build.status() == value,
        Some("id") => workspace.id.to_string() == value,
        Some("organization") => {
            workspace.organization.to_string() == value
                || deployment.organization_name(workspace.organization).eq_ignore_ascii_case(value)
        }
        Some("outdated" | "dormant") => value == "false",
        Some("deleted") => workspace.deleted == (value == "true"),
        Some("has-agent") => {
            const STATES: [&str; 4] = ["connected", "connecting", "disconnected", "timeout"];
            let wanted: Vec<&str> = match deployment.settings.version.has_agent_lists() {
                true => value.split(',').collect(),
                false => vec![value],
            };
            if let Some(wrong) = wanted.iter().find(|state| !STATES.contains(state)) {
                let detail = format!("\"{wrong}\" is none of {}", STATES.join(", "));
                return Err(Refusal::new(400, "Invalid search query.").field("has-agent", detail));
            }
            let mut agents = build.resources.iter().flat_map(|(_, agents)| agents);
            agents.any(|agent| wanted.contains(&deployment.agents[agent].status(now)))
        }
        Some(key @ ("last_used_before" | "last_used_after" | "param" | "has_external_agent")) => {
            return Err(Refusal::new(501, format!("the stand-in does not imitate `{key}:`")));
        }
        Some(key) => return Err(unknown_key(key)),
    })
}

pub(super) fn list(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let terms = terms(&call.request.query("q").unwrap_or_default().to_lowercase())?;
    let deleted_asked = terms.iter().any(|term| term.key.as_deref() == Some("deleted"));
    let mut rows = Vec::new();
    for workspace in deployment.workspaces.values() {
        if !deployment.may_see(call.actor, workspace) || (workspace.deleted && !deleted_asked) {
            continue;
        }
        let mut all = true;
        for term in &terms {
            all &= fits(deployment, call.now, call.actor, workspace, term)?;
        }
        if all {
            let running = deployment.builds[&workspace.last_build()].status() == "running";
            let owner = deployment.username(workspace.owner).to_lowercase();
            rows.push(((!running, owner, workspace.name.to_lowercase()), workspace));
        }
    }
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    let count = rows.len();
    let page = Deployment::page(call, rows)?.into_iter();
    let workspaces: Vec<Value> =
        page.map(|(_, workspace)| deployment.view_workspace(call.now, workspace)).collect();
    Ok(Response::json(200, &json!({ "workspaces": workspaces, "count": count })))
}
