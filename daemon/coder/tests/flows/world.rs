//! The deployment behind the server: users, templates, workspaces, builds that move one step with each look.

use std::collections::BTreeMap;

use scale_coder::version::Version;
use serde_json::{Value, json};

use crate::fake::{Seen, error};

pub const OWNER_TOKEN: &str = "owner12345-CANARYCANARYCANARYCANA";
pub const ORGANIZATION: &str = "00000000-0000-0000-0000-0000000000aa";
pub const OTHER_ORGANIZATION: &str = "00000000-0000-0000-0000-0000000000bb";

#[derive(Debug, Clone)]
pub struct FakeUser {
    pub id: String,
    pub username: String,
    pub email: String,
    pub role: Option<&'static str>,
    pub organizations: Vec<String>,
    pub last_seen_at: String,
    pub created_at: String,
}

#[derive(Debug, Clone)]
pub struct FakeBuild {
    pub id: String,
    pub transition: String,
    /// `pending`, `running`, `canceling`, then what it ends as.
    pub status: String,
    pub ends_as: &'static str,
    /// Looks until it moves on; `u32::MAX`: never.
    pub looks: u32,
}

#[derive(Debug, Clone)]
pub struct FakeWorkspace {
    pub id: String,
    pub name: String,
    pub owner: String,
    pub template: String,
    pub builds: Vec<FakeBuild>,
    pub last_used_at: String,
    pub created_at: String,
    /// Looks until its agents are connected.
    pub agent_looks: u32,
}

/// How the next builds go.
#[derive(Debug, Clone)]
pub struct Weather {
    /// Looks a build is pending, and then running.
    pub looks: u32,
    /// Looks until an agent connects; `u32::MAX`: never.
    pub agent_looks: u32,
    /// How the next builds end; `succeeded` once this is used up.
    pub ends: Vec<&'static str>,
    /// Agents a resource.
    pub agents: Vec<usize>,
}

#[derive(Debug, Default)]
pub struct World {
    pub version: String,
    pub deployment: Option<String>,
    pub users: Vec<FakeUser>,
    pub tokens: BTreeMap<String, String>,
    pub token_ends: Option<String>,
    pub app_host: String,
    pub workspaces: Vec<FakeWorkspace>,
    pub weather: Option<Weather>,
    pub parameters: Value,
    /// Names of what was deleted.
    pub deleted: Vec<String>,
    /// Names of all that was ever made through the API.
    pub made: Vec<String>,
    numbers: u64,
}

fn uuid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

impl World {
    pub fn new(version: &str) -> Self {
        let mut world = Self {
            version: version.into(),
            deployment: Some("deployment-1".into()),
            parameters: json!([{"name": "home_disk_size", "type": "number", "required": true,
                "validation_min": 1, "validation_max": 100, "options": []}]),
            ..Self::default()
        };
        let owner = world.add_user("admin", "admin@example.com", Some("owner"));
        world.tokens.insert(OWNER_TOKEN.into(), owner);
        world
    }

    pub fn weather(&self) -> Weather {
        let usual = Weather { looks: 1, agent_looks: 1, ends: Vec::new(), agents: vec![0, 1, 2] };
        self.weather.clone().unwrap_or(usual)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn add_user(&mut self, username: &str, email: &str, role: Option<&'static str>) -> String {
        let id = uuid(self.number());
        self.users.push(FakeUser {
            id: id.clone(),
            username: username.into(),
            email: email.into(),
            role,
            organizations: vec![ORGANIZATION.into()],
            last_seen_at: "0001-01-01T00:00:00Z".into(),
            created_at: "2025-01-01T00:00:00Z".into(),
        });
        id
    }

    /// A workspace that somebody made long ago.
    pub fn add_workspace(&mut self, name: &str, owner: &str) -> String {
        let id = uuid(self.number());
        let build = self.new_build("start", "succeeded", "succeeded");
        self.workspaces.push(FakeWorkspace {
            id: id.clone(),
            name: name.into(),
            owner: owner.into(),
            template: "kubernetes".into(),
            builds: vec![build],
            last_used_at: "2025-01-02T00:00:00Z".into(),
            created_at: "2025-01-01T00:00:00Z".into(),
            agent_looks: 0,
        });
        id
    }

    fn new_build(&mut self, transition: &str, status: &str, ends_as: &'static str) -> FakeBuild {
        let (id, looks) = (uuid(self.number()), self.weather().looks);
        FakeBuild { id, transition: transition.into(), status: status.into(), ends_as, looks }
    }

    fn next_end(&mut self) -> &'static str {
        match &mut self.weather {
            Some(weather) if !weather.ends.is_empty() => weather.ends.remove(0),
            _ => "succeeded",
        }
    }

    fn is_at_least(&self, minor: u32) -> bool {
        Version::parse(&self.version).is_none_or(|version| (version.major, version.minor) >= (2, minor))
    }

    /// Names of the users and workspaces that are there.
    pub fn names(&self) -> Vec<String> {
        let users = self.users.iter().map(|user| user.username.clone());
        users.chain(self.workspaces.iter().map(|workspace| workspace.name.clone())).collect()
    }

    /// Answers: status and body; a body `{"wrong"}` is a mistake of the client's.
    pub fn handle(&mut self, seen: &Seen) -> (u16, Value) {
        let Some(path) = seen.path.strip_prefix("/api/v2/") else { return error(404, "no API here") };
        let parts: Vec<&str> = path.split('/').collect();
        if parts == ["buildinfo"] {
            return (
                200,
                json!({"version": self.version, "external_url": "", "deployment_id": self.deployment}),
            );
        }
        let Some(caller) = self.tokens.get(&seen.token).cloned() else {
            return error(401, "You are signed out or your session has expired.");
        };
        match (seen.method.as_str(), parts.as_slice()) {
            ("GET", ["users"]) => self.list_users(seen),
            ("POST", ["users"]) => self.create_user(seen),
            ("GET", ["users", "me", "keys", _]) => match &self.token_ends {
                Some(ends) => (200, json!({"id": "owner12345", "expires_at": ends})),
                None => error(404, "not there"),
            },
            ("GET", ["users", _, "organizations"]) => (
                200,
                json!([{"id": ORGANIZATION, "name": "coder"}, {"id": OTHER_ORGANIZATION, "name": "night"}]),
            ),
            ("GET", ["users", user]) => match self.find_user(user, &caller) {
                Some(user) => (200, user_json(user)),
                None => error(404, "Resource not found or you do not have access to this resource"),
            },
            ("DELETE", ["users", id]) => self.delete_user(id),
            ("POST", ["users", user, "keys", ..]) => {
                let Some(user) = self.find_user(user, &caller).map(|user| user.id.clone()) else {
                    return error(404, "no such user");
                };
                let key = format!("user{:06}-ABCDEFGHIJKLMNOPQRSTUV", self.number());
                self.tokens.insert(key.clone(), user);
                (201, json!({"key": key}))
            }
            ("POST", ["users", user, "workspaces"]) if self.is_at_least(15) => {
                self.create_workspace(user, &caller, seen)
            }
            ("POST", ["organizations", _, "members", user, "workspaces"]) => {
                self.create_workspace(user, &caller, seen)
            }
            ("POST", ["organizations", organization, "members", user]) => {
                let (organization, id) = ((*organization).to_owned(), (*user).to_owned());
                let user = self.users.iter_mut().find(|user| user.id == id).expect("a member to be");
                user.organizations.push(organization);
                (200, json!({"user_id": id}))
            }
            ("GET", ["organizations", organization, "templates"]) => (200, templates(organization)),
            ("GET", ["templateversions", "version-1" | "version-2", "rich-parameters"]) => {
                (200, self.parameters.clone())
            }
            ("GET", ["applications", "host"]) => (200, json!({"host": self.app_host})),
            ("GET", ["deployment", "config"]) => {
                (200, json!({"config": {"disable_owner_workspace_exec": true}}))
            }
            ("GET", ["workspaces"]) => self.list_workspaces(seen),
            ("GET", ["workspaces", id]) => self.show_workspace(id),
            ("POST", ["workspaces", id, "builds"]) => self.start_build(id, seen),
            ("GET", ["workspacebuilds", id]) => self.look_at_build(id),
            ("PATCH", ["workspacebuilds", id, "cancel"]) => self.cancel(id),
            _ => {
                (404, json!({"message": "no such route", "wrong": format!("{} {}", seen.method, seen.path)}))
            }
        }
    }

    fn find_user(&self, user: &str, caller: &str) -> Option<&FakeUser> {
        let user = if user == "me" { caller } else { user };
        self.users.iter().find(|found| found.id == user || found.username == user)
    }

    fn list_users(&self, seen: &Seen) -> (u16, Value) {
        let text = seen.query.get("q").cloned().unwrap_or_default();
        let free = text.split(' ').find(|word| !word.contains(':')).unwrap_or_default().to_owned();
        let fits = |user: &&FakeUser| user.username.contains(&free) || user.email.contains(&free);
        let mut users: Vec<_> = self.users.iter().filter(fits).collect();
        users.sort_by_key(|user| user.username.clone());
        let count = users.len();
        let page: Vec<Value> = page(users, seen).into_iter().map(user_json).collect();
        (200, json!({"users": page, "count": count}))
    }

    fn create_user(&mut self, seen: &Seen) -> (u16, Value) {
        let (body, text) = (&seen.body, |name: &str| seen.body[name].as_str().unwrap_or_default().to_owned());
        let organization = match self.is_at_least(15) {
            true if body["organization_ids"].is_array() => body["organization_ids"][0].as_str(),
            _ => body["organization_id"].as_str(),
        };
        let Some(organization) = organization else { return error(400, "Validation failed.") };
        if text("password").len() < 16 {
            return error(400, "Password not strong enough!");
        }
        let (username, email) = (text("username"), text("email"));
        if self.users.iter().any(|user| user.username == username || user.email == email) {
            return error(409, "User already exists.");
        }
        let id = self.add_user(&username, &email, None);
        let user = self.users.last_mut().expect("just added");
        user.organizations = vec![organization.to_owned()];
        user.created_at = "2026-03-01T12:00:00Z".into();
        let json = user_json(user);
        self.made.push(username);
        assert_eq!(json["id"], id);
        (201, json)
    }

    fn delete_user(&mut self, id: &str) -> (u16, Value) {
        if self.workspaces.iter().any(|workspace| workspace.owner == id) {
            return error(417, "You cannot delete a user that owns workspaces.");
        }
        match self.users.iter().position(|user| user.id == id) {
            Some(at) => {
                self.deleted.push(self.users.remove(at).username);
                (200, json!({"message": "User has been deleted!"}))
            }
            None => error(404, "not there"),
        }
    }

    fn create_workspace(&mut self, owner: &str, caller: &str, seen: &Seen) -> (u16, Value) {
        let Some(owner) = self.find_user(owner, caller).map(|user| user.id.clone()) else {
            return error(404, "no such user");
        };
        let name = seen.body["name"].as_str().unwrap_or_default().to_owned();
        if self.workspaces.iter().any(|workspace| workspace.owner == owner && workspace.name == name) {
            return error(409, "Workspace already exists.");
        }
        let id = self.add_workspace(&name, &owner);
        let ends_as = self.next_end();
        let build = self.new_build("start", "pending", ends_as);
        let agent_looks = self.weather().agent_looks;
        let workspace = self.workspaces.last_mut().expect("just added");
        workspace.builds = vec![build];
        workspace.created_at = "2026-03-01T12:00:00Z".into();
        workspace.agent_looks = agent_looks;
        self.made.push(name);
        let (_, json) = self.show_workspace(&id);
        (201, json)
    }

    fn list_workspaces(&mut self, seen: &Seen) -> (u16, Value) {
        let text = seen.query.get("q").cloned().unwrap_or_default();
        let term = |key: &str| {
            let (_, rest) = text.split_once(&format!("{key}:\""))?;
            rest.split('"').next().map(str::to_owned)
        };
        let (name, template, owner) = (term("name"), term("template"), term("owner"));
        let fits = |workspace: &&FakeWorkspace| {
            let owner_name =
                self.users.iter().find(|user| user.id == workspace.owner).map(|user| &user.username);
            name.as_ref().is_none_or(|name| workspace.name.contains(name))
                && template.as_ref().is_none_or(|name| workspace.template == *name)
                && owner.as_ref().is_none_or(|name| Some(name) == owner_name)
        };
        let found: Vec<&FakeWorkspace> = self.workspaces.iter().filter(fits).collect();
        let count = found.len();
        let page: Vec<Value> =
            page(found, seen).into_iter().map(|workspace| self.workspace_json(workspace)).collect();
        (200, json!({"workspaces": page, "count": count}))
    }

    fn show_workspace(&mut self, id: &str) -> (u16, Value) {
        let Some(at) = self.workspaces.iter().position(|workspace| workspace.id == id) else {
            return error(410, "Workspace was deleted.");
        };
        let json = self.workspace_json(&self.workspaces[at]);
        let looks = &mut self.workspaces[at].agent_looks;
        *looks = if *looks == u32::MAX { *looks } else { looks.saturating_sub(1) };
        (200, json)
    }

    fn start_build(&mut self, id: &str, seen: &Seen) -> (u16, Value) {
        let transition = seen.body["transition"].as_str().unwrap_or_default().to_owned();
        let ends_as = self.next_end();
        let build = self.new_build(&transition, "pending", ends_as);
        let Some(workspace) = self.workspaces.iter_mut().find(|workspace| workspace.id == id) else {
            return error(410, "Workspace was deleted.");
        };
        if workspace.builds.last().is_some_and(|build| is_active(&build.status)) {
            return error(409, "A workspace build is already active.");
        }
        workspace.builds.push(build.clone());
        (201, build_json(&build, &json!([])))
    }

    fn look_at_build(&mut self, id: &str) -> (u16, Value) {
        let looks = self.weather().looks;
        let Some(at) = self.workspaces.iter().position(|it| it.builds.iter().any(|build| build.id == id))
        else {
            return error(404, "not there");
        };
        let resources = self.resources(&self.workspaces[at]);
        let build = self.workspaces[at].builds.iter_mut().find(|build| build.id == id).expect("it is there");
        let json = build_json(build, &resources);
        build.looks = if build.looks == u32::MAX { build.looks } else { build.looks.saturating_sub(1) };
        if build.looks == 0 {
            (build.status, build.looks) = match build.status.as_str() {
                "pending" => ("running".into(), looks),
                "running" => (build.ends_as.into(), 0),
                "canceling" => ("canceled".into(), 0),
                other => (other.into(), 0),
            };
            if build.transition == "delete" && build.status == "succeeded" {
                let workspace = self.workspaces.remove(at);
                self.deleted.push(workspace.name);
            }
        }
        (200, json)
    }

    fn cancel(&mut self, id: &str) -> (u16, Value) {
        let mut builds = self.workspaces.iter_mut().flat_map(|workspace| &mut workspace.builds);
        match builds.find(|build| build.id == id) {
            Some(build) if is_active(&build.status) => {
                (build.status, build.looks) = ("canceling".into(), 1);
                (200, json!({"message": "Job has been marked as canceled..."}))
            }
            Some(_) => error(400, "Job has already completed!"),
            None => error(404, "not there"),
        }
    }

    fn resources(&self, workspace: &FakeWorkspace) -> Value {
        let is_built = workspace.builds.last().is_some_and(|build| !is_active(&build.status));
        let agent = |resource: usize, agent: usize| {
            let connected = workspace.agent_looks == 0;
            json!({
                "id": format!("{}-{resource}-{agent}", workspace.id), "name": format!("agent-{resource}-{agent}"),
                "status": if connected { "connected" } else { "connecting" },
                "lifecycle_state": if connected { "ready" } else { "created" },
                "first_connected_at": connected.then_some("2026-03-01T12:00:16Z"),
                "apps": [{"slug": "wsec", "subdomain": true, "subdomain_name": "wsec--x"}],
            })
        };
        let agents = self.weather().agents;
        let resource = |(index, count): (usize, &usize)| json!({"id": "r", "agents": (0..*count).map(|n| agent(index, n)).collect::<Vec<_>>()});
        if is_built { agents.iter().enumerate().map(resource).collect() } else { json!([]) }
    }

    fn workspace_json(&self, workspace: &FakeWorkspace) -> Value {
        let build = workspace.builds.last().expect("every workspace was built");
        let owner = self.users.iter().find(|user| user.id == workspace.owner).expect("an owner");
        json!({
            "id": workspace.id, "name": workspace.name, "owner_id": workspace.owner,
            "owner_name": owner.username, "template_name": workspace.template,
            "created_at": workspace.created_at, "last_used_at": workspace.last_used_at,
            "latest_build": build_json(build, &self.resources(workspace)),
        })
    }
}

fn is_active(status: &str) -> bool {
    matches!(status, "pending" | "running" | "canceling")
}

fn user_json(user: &FakeUser) -> Value {
    let roles: Vec<Value> = user.role.iter().map(|role| json!({"name": role})).collect();
    json!({
        "id": user.id, "username": user.username, "email": user.email, "status": "active", "roles": roles,
        "organization_ids": user.organizations, "last_seen_at": user.last_seen_at,
        "created_at": user.created_at,
    })
}

fn build_json(build: &FakeBuild, resources: &Value) -> Value {
    let started = (build.status != "pending").then_some("2026-03-01T12:00:03Z");
    let ended = (!is_active(&build.status)).then_some("2026-03-01T12:00:12Z");
    let status = match (build.transition.as_str(), build.status.as_str()) {
        ("start", "succeeded") => "running",
        ("start", "running") => "starting",
        (_, other) => other,
    };
    json!({
        "id": build.id, "transition": build.transition, "status": status, "resources": resources,
        "created_at": "2025-01-01T12:00:01Z",
        "job": {
            "status": build.status, "error": (build.status == "failed").then_some("terraform:\n no capacity"),
            "created_at": "2026-03-01T12:00:01Z", "started_at": started, "completed_at": ended,
        },
    })
}

fn templates(organization: &str) -> Value {
    let template = |id: &str, name: &str, version: &str| json!({"id": id, "name": name, "organization_id": organization, "active_version_id": version});
    match organization {
        ORGANIZATION => json!([template("template-1", "kubernetes", "version-1")]),
        _ => json!([
            template("template-2", "kubernetes", "version-2"),
            template("template-3", "docker", "version-2")
        ]),
    }
}

/// The rows of the page that was asked for.
fn page<T>(rows: Vec<T>, seen: &Seen) -> Vec<T> {
    let number = |name: &str| seen.query.get(name).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let limit = if number("limit") == 0 { usize::MAX } else { number("limit") };
    rows.into_iter().skip(number("offset")).take(limit).collect()
}
