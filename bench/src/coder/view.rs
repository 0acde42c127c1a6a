//! Records as the API shows them.

use scale_ring::Time;
use serde_json::{Value, json};
use uuid::Uuid;

use super::deployment::Deployment;
use super::state::{Agent, Build, Job, JobStatus, Transition, User, Workspace};
use super::templates::Template;

/// The listeners that workspaces have: slug and port.
pub(super) const APPS: [(&str, u16); 3] = [("wsec", 1234), ("wsra", 1235), ("wsdi", 1236)];

impl Deployment {
    fn optional(&self, at: Option<Time>) -> Value {
        at.map_or(Value::Null, |at| self.timestamp(at).into())
    }

    pub(super) fn view_user(&self, user: &User) -> Value {
        let roles = user.roles.iter();
        json!({
            "id": user.id.to_string(),
            "username": user.username,
            "email": user.email,
            "name": user.name,
            "avatar_url": "",
            "created_at": self.timestamp(user.created),
            "updated_at": self.timestamp(user.created),
            "last_seen_at": user.last_seen.map_or("0001-01-01T00:00:00Z".to_owned(), |at| self.timestamp(at)),
            "status": user.status.name(),
            "login_type": user.login_type,
            "organization_ids": user.organizations.iter().map(Uuid::to_string).collect::<Vec<_>>(),
            "roles": roles.map(|role| json!({ "name": role.name(), "display_name": role.display_name() }))
                .collect::<Vec<_>>(),
        })
    }

    pub(super) fn view_template(&self, template: &Template) -> Value {
        let organization = &self.organizations[0];
        json!({
            "id": template.id.to_string(),
            "name": template.name,
            "display_name": "",
            "organization_id": organization.id.to_string(),
            "organization_name": organization.name,
            "provisioner": "terraform",
            "active_version_id": template.version.to_string(),
            "created_at": self.timestamp(self.began),
            "updated_at": self.timestamp(self.began),
            "deprecated": !template.deprecated.is_empty(),
            "deprecation_message": template.deprecated,
            "use_classic_parameter_flow": true,
        })
    }

    pub(super) fn view_version(&self, template: &Template) -> Value {
        json!({
            "id": template.version.to_string(),
            "template_id": template.id.to_string(),
            "organization_id": self.organizations[0].id.to_string(),
            "name": "first",
            "message": "",
            "created_at": self.timestamp(self.began),
            "updated_at": self.timestamp(self.began),
            "has_external_agent": false,
            "job": {
                "id": template.version.to_string(),
                "status": "succeeded",
                "created_at": self.timestamp(self.began),
                "started_at": self.timestamp(self.began),
                "completed_at": self.timestamp(self.began),
                "queue_position": 0,
                "queue_size": 0,
                "tags": { "scope": "organization", "owner": "" },
            },
        })
    }

    pub(super) fn view_workspace(&self, now: Time, workspace: &Workspace) -> Value {
        let build = &self.builds[&workspace.last_build()];
        let template = self.templates.iter().find(|template| template.id == workspace.template);
        let template = template.expect("templates stay");
        let failing: Vec<String> = build
            .resources
            .iter()
            .flat_map(|(_, agents)| agents)
            .filter(|agent| ["timeout", "disconnected"].contains(&self.agents[agent].status(now)))
            .map(Uuid::to_string)
            .collect();
        json!({
            "id": workspace.id.to_string(),
            "name": workspace.name,
            "owner_id": workspace.owner.to_string(),
            "owner_name": self.username(workspace.owner),
            "organization_id": workspace.organization.to_string(),
            "organization_name": self.organization_name(workspace.organization),
            "template_id": template.id.to_string(),
            "template_name": template.name,
            "template_display_name": "",
            "template_active_version_id": template.version.to_string(),
            "created_at": self.timestamp(workspace.created),
            "updated_at": self.timestamp(workspace.created),
            "last_used_at": self.timestamp(workspace.last_used),
            "autostart_schedule": workspace.autostart_schedule,
            "ttl_ms": workspace.ttl_ms,
            "automatic_updates": workspace.automatic_updates,
            "outdated": false,
            "dormant_at": null,
            "deleting_at": null,
            "favorite": false,
            "health": { "healthy": failing.is_empty(), "failing_agents": failing },
            "latest_build": self.view_build(now, build),
        })
    }

    pub(super) fn view_build(&self, now: Time, build: &Build) -> Value {
        let workspace = &self.workspaces[&build.workspace];
        let version = self.templates.iter().find(|template| template.id == workspace.template);
        json!({
            "id": build.id.to_string(),
            "build_number": build.number,
            "workspace_id": workspace.id.to_string(),
            "workspace_name": workspace.name,
            "workspace_owner_id": workspace.owner.to_string(),
            "workspace_owner_name": self.username(workspace.owner),
            "template_version_id": version.map(|template| template.version.to_string()),
            "template_version_name": "first",
            "transition": build.transition.name(),
            "initiator_id": build.initiator.to_string(),
            "initiator_name": self.username(build.initiator),
            "reason": build.reason,
            "created_at": self.timestamp(build.job.created),
            "updated_at": self.timestamp(build.job.completed.unwrap_or(build.job.created)),
            "deadline": null,
            "max_deadline": null,
            "daily_cost": 0,
            "status": build.status(),
            "job": self.view_job(&build.job, build.id),
            "resources": self.view_resources(now, build),
        })
    }

    fn view_job(&self, job: &Job, build: Uuid) -> Value {
        let (position, size) = self.provisioner.position(build);
        let started = job.started.filter(|_| job.status != JobStatus::Pending);
        let mut view = json!({
            "id": job.id.to_string(),
            "created_at": self.timestamp(job.created),
            "started_at": self.optional(started),
            "completed_at": self.optional(job.completed),
            "canceled_at": self.optional(job.canceled),
            "status": job.status.name(),
            "file_id": job.id.to_string(),
            "queue_position": position,
            "queue_size": size,
            "tags": { "scope": "organization", "owner": "" },
        });
        if let (JobStatus::Failed, Some(error)) = (job.status, &job.failure) {
            view["error"] = error.as_str().into();
        }
        if started.is_some() {
            view["worker_id"] = self.id.to_string().into();
        }
        view
    }

    pub(super) fn view_resources(&self, now: Time, build: &Build) -> Value {
        let rows = build.resources.iter().enumerate().map(|(index, (id, agents))| {
            json!({
                "id": id.to_string(),
                "created_at": self.optional(build.job.completed),
                "job_id": build.job.id.to_string(),
                "workspace_transition": Transition::Start.name(),
                "type": if agents.is_empty() { "kubernetes_persistent_volume_claim" } else { "kubernetes_pod" },
                "name": format!("part-{index}"),
                "hide": false,
                "icon": "",
                "agents": agents.iter().map(|id| self.view_agent(now, &self.agents[id])).collect::<Vec<_>>(),
            })
        });
        rows.collect()
    }

    pub(super) fn view_agent(&self, now: Time, agent: &Agent) -> Value {
        let workspace = &self.workspaces[&agent.workspace];
        let status = agent.status(now);
        let connected = Some(agent.connects).filter(|connects| now >= *connects);
        let gone = Some(agent.lost).filter(|lost| now >= lost.plus_ns(Agent::INACTIVE_NS));
        let healthy = ["connected", "connecting"].contains(&status);
        let app_host = self.settings.app_host.strip_prefix("*.");
        let apps = APPS.map(|(slug, port)| {
            let subdomain_name = match app_host {
                Some(_) => {
                    format!("{slug}--{}--{}--{}", agent.name, workspace.name, self.username(workspace.owner))
                }
                None => String::new(),
            };
            json!({
                "id": Uuid::from_u128(agent.id.as_u128() ^ u128::from(port)).to_string(),
                "slug": slug,
                "display_name": slug,
                "url": format!("http://localhost:{port}"),
                "external": false,
                "icon": "",
                "subdomain": app_host.is_some(),
                "subdomain_name": subdomain_name,
                "sharing_level": "owner",
                "health": "disabled",
            })
        });
        let mut view = json!({
            "id": agent.id.to_string(),
            "name": agent.name,
            "created_at": self.timestamp(agent.created),
            "updated_at": self.timestamp(agent.created),
            "first_connected_at": self.optional(connected),
            "last_connected_at": self.optional(connected.map(|_| now.min(agent.lost))),
            "disconnected_at": self.optional(gone),
            "started_at": self.optional(connected),
            "ready_at": self.optional(Some(agent.ready).filter(|_| agent.lifecycle(now) == "ready")),
            "status": status,
            "lifecycle_state": agent.lifecycle(now),
            "resource_id": agent.resource.to_string(),
            "operating_system": "linux",
            "architecture": "amd64",
            "version": self.settings.version.build(),
            "api_version": "2.0",
            "directory": "",
            "expanded_directory": "",
            "apps": apps,
            "latency": {},
            "connection_timeout_seconds": Agent::CONNECTION_TIMEOUT_NS / 1_000_000_000,
            "troubleshooting_url": "",
            "health": if healthy {
                json!({ "healthy": true })
            } else {
                json!({ "healthy": false, "reason": format!("agent has {status}") })
            },
            "display_apps": ["web_terminal", "ssh_helper"],
            "logs_length": 0,
            "logs_overflowed": false,
            "subsystems": [],
            "scripts": [],
        });
        if self.settings.version.has_sub_agents() {
            view["parent_id"] = agent.parent.map_or(Value::Null, |id| id.to_string().into());
        }
        view
    }

    pub(super) fn username(&self, id: Uuid) -> &str {
        self.users.get(&id).map_or("deleted", |user| &user.username)
    }

    pub(super) fn organization_name(&self, id: Uuid) -> &str {
        self.organizations.iter().find(|organization| organization.id == id).map_or("", |found| &found.name)
    }
}
