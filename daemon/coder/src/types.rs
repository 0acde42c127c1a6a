//! The server's answers, as far as they are used; fields that are not named here are ignored, and what older
//! servers leave out is empty.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Timestamp, between, when};

/// `GET /buildinfo`.
#[derive(Debug, Clone, Deserialize)]
pub struct BuildInfo {
    /// As the server writes it: `v2.26.0+abc`.
    pub version: String,
    /// Where users reach it.
    #[serde(default)]
    pub external_url: String,
    /// The deployment's own id; newer servers only.
    #[serde(default)]
    pub deployment_id: Option<String>,
}

/// A role of the whole site.
#[derive(Debug, Clone, Deserialize)]
pub struct Role {
    /// `owner`, `user-admin`, …
    pub name: String,
}

/// A user.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// UUID.
    pub id: String,
    /// Unique.
    pub username: String,
    /// Unique.
    #[serde(default)]
    pub email: String,
    /// `active`, `dormant` or `suspended`.
    #[serde(default)]
    pub status: String,
    /// When it was made.
    #[serde(default, deserialize_with = "when")]
    pub created_at: Option<Timestamp>,
    /// When it was last used.
    #[serde(default, deserialize_with = "when")]
    pub last_seen_at: Option<Timestamp>,
    /// Where it is a member.
    #[serde(default)]
    pub organization_ids: Vec<String>,
    /// Its roles on the whole site.
    #[serde(default)]
    pub roles: Vec<Role>,
}

impl User {
    /// Whether it may do everything.
    pub fn is_owner(&self) -> bool {
        self.roles.iter().any(|role| role.name == "owner")
    }
}

/// An organization.
#[derive(Debug, Clone, Deserialize)]
pub struct Organization {
    /// UUID.
    pub id: String,
    /// Unique.
    pub name: String,
}

/// A template.
#[derive(Debug, Clone, Deserialize)]
pub struct Template {
    /// UUID.
    pub id: String,
    /// Unique within its organization.
    pub name: String,
    /// Whose it is.
    pub organization_id: String,
    /// What new workspaces are built from.
    #[serde(default)]
    pub active_version_id: String,
    /// No new workspaces are wanted of it.
    #[serde(default)]
    pub deprecated: bool,
}

/// One of a parameter's choices.
#[derive(Debug, Clone, Deserialize)]
pub struct ParameterOption {
    /// As shown.
    #[serde(default)]
    pub name: String,
    /// As given.
    pub value: String,
}

/// A template's parameter (`GET /templateversions/{id}/rich-parameters`).
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RichParameter {
    /// Unique within the template.
    pub name: String,
    /// `string`, `number`, `bool` or `list(string)`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Has to be given where there is no default.
    #[serde(default)]
    pub required: bool,
    /// What it is when it is not given.
    #[serde(default)]
    pub default_value: String,
    /// The only values allowed; empty: any.
    #[serde(default)]
    pub options: Vec<ParameterOption>,
    /// What a string has to match.
    #[serde(default)]
    pub validation_regex: String,
    /// The template's words for a value that does not.
    #[serde(default)]
    pub validation_error: String,
    /// The least a number may be.
    #[serde(default)]
    pub validation_min: Option<f64>,
    /// The most.
    #[serde(default)]
    pub validation_max: Option<f64>,
}

/// A value for a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParameterValue {
    /// Which.
    pub name: String,
    /// Always as text; lists as JSON.
    pub value: String,
}

/// A provisioner's job.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Job {
    /// `pending`, `running`, `succeeded`, `canceling`, `canceled`, `failed`.
    #[serde(default)]
    pub status: String,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// When it was queued.
    #[serde(default, deserialize_with = "when")]
    pub created_at: Option<Timestamp>,
    /// When a provisioner took it.
    #[serde(default, deserialize_with = "when")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, deserialize_with = "when")]
    pub completed_at: Option<Timestamp>,
}

impl Job {
    /// Whether it has not ended.
    pub fn is_active(&self) -> bool {
        matches!(self.status.as_str(), "pending" | "running" | "canceling")
    }

    /// How long it waited for a provisioner, by the server's clock.
    pub fn queue_wait(&self) -> Option<Duration> {
        Some(between(self.created_at?, self.started_at?))
    }

    /// How long it took from then on.
    pub fn run_time(&self) -> Option<Duration> {
        Some(between(self.started_at?, self.completed_at?))
    }
}

/// An app of an agent.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct App {
    /// Its name in URLs.
    #[serde(default)]
    pub slug: String,
    /// Whether it has a host name of its own.
    #[serde(default)]
    pub subdomain: bool,
    /// That name's first part.
    #[serde(default)]
    pub subdomain_name: String,
    /// A mere link.
    #[serde(default)]
    pub external: bool,
}

/// A workspace's agent.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Agent {
    /// UUID.
    pub id: String,
    /// Unique within the workspace.
    #[serde(default)]
    pub name: String,
    /// Of a sub-agent: whose (v2.24 on).
    #[serde(default)]
    pub parent_id: Option<String>,
    /// `connecting`, `connected`, `disconnected` or `timeout`.
    #[serde(default)]
    pub status: String,
    /// `created`, `starting`, `ready`, `start_timeout`, `start_error`, …
    #[serde(default)]
    pub lifecycle_state: String,
    /// When it was first heard of.
    #[serde(default, deserialize_with = "when")]
    pub first_connected_at: Option<Timestamp>,
    /// What it serves.
    #[serde(default)]
    pub apps: Vec<App>,
}

impl Agent {
    /// Whether it is another agent's.
    pub fn is_sub_agent(&self) -> bool {
        // Some servers write the zero UUID for "none".
        self.parent_id.as_deref().is_some_and(|id| id.bytes().any(|byte| !matches!(byte, b'0' | b'-')))
    }
}

/// What a build made.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Resource {
    /// Agents within it.
    #[serde(default)]
    pub agents: Option<Vec<Agent>>,
}

/// A build of a workspace.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Build {
    /// UUID.
    pub id: String,
    /// `start`, `stop` or `delete`.
    #[serde(default)]
    pub transition: String,
    /// The workspace's state by this build: `pending`, `starting`, `running`, …
    #[serde(default)]
    pub status: String,
    /// When it was asked for.
    #[serde(default, deserialize_with = "when")]
    pub created_at: Option<Timestamp>,
    /// The work itself.
    #[serde(default)]
    pub job: Job,
    /// What it made; only once the job has ended.
    #[serde(default)]
    pub resources: Option<Vec<Resource>>,
}

impl Build {
    /// Every agent that is no sub-agent, in the server's order.
    pub fn agents(&self) -> impl DoubleEndedIterator<Item = &Agent> {
        let resources = self.resources.iter().flatten();
        resources.flat_map(|resource| resource.agents.iter().flatten()).filter(|agent| !agent.is_sub_agent())
    }

    /// The agent that traffic goes to: the first of the last resource that has any, as the original chooses.
    pub fn traffic_agent(&self) -> Option<&Agent> {
        self.resources
            .iter()
            .flatten()
            .rev()
            .find_map(|resource| resource.agents.iter().flatten().find(|agent| !agent.is_sub_agent()))
    }
}

/// A workspace.
#[derive(Debug, Clone, Deserialize)]
pub struct Workspace {
    /// UUID.
    pub id: String,
    /// Unique within its owner.
    pub name: String,
    /// UUID.
    pub owner_id: String,
    /// The owner's username; servers before v0.27 may leave it out.
    #[serde(default)]
    pub owner_name: String,
    /// The template's name.
    #[serde(default)]
    pub template_name: String,
    /// When it was made.
    #[serde(default, deserialize_with = "when")]
    pub created_at: Option<Timestamp>,
    /// When someone last used it.
    #[serde(default, deserialize_with = "when")]
    pub last_used_at: Option<Timestamp>,
    /// Its newest build.
    #[serde(default)]
    pub latest_build: Build,
}

/// A page of users.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Users {
    #[serde(default)]
    pub users: Option<Vec<User>>,
    #[serde(default)]
    pub count: u64,
}

/// A page of workspaces.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Workspaces {
    #[serde(default)]
    pub workspaces: Option<Vec<Workspace>>,
    #[serde(default)]
    pub count: u64,
}

/// `POST …/keys` and `POST …/keys/tokens`.
#[derive(Deserialize)]
pub(crate) struct Key {
    pub key: String,
}

/// `GET /users/{user}/keys/{id}`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct KeyInfo {
    #[serde(default, deserialize_with = "when")]
    pub expires_at: Option<Timestamp>,
}

/// `GET /applications/host`.
#[derive(Deserialize)]
pub(crate) struct AppHost {
    #[serde(default)]
    pub host: String,
}

/// `GET /deployment/config`, as far as it is used.
#[derive(Deserialize)]
pub(crate) struct DeploymentConfig {
    #[serde(default)]
    pub config: DeploymentValues,
}

#[derive(Default, Deserialize)]
pub(crate) struct DeploymentValues {
    #[serde(default)]
    pub disable_owner_workspace_exec: bool,
}
