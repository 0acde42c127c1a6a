//! The deployment as its clients see it: in memory for each quirk, over sockets for the whole.

mod access;
mod agents;
mod live;
mod page;
mod replicas;
mod shells;
mod users;
mod workspaces;

use scale_ring::Time;
use serde_json::{Value, json};

use super::message::{Request, Response};
use super::seen::Wrong;
use super::socket::{Kind, Upgrade};
use super::terminal::Attach;
use super::{Deployment, Faults, Settings, Version};

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

/// A deployment, a clock, and whose token requests carry.
struct World {
    deployment: Deployment,
    now: Time,
    token: String,
}

impl World {
    fn new(version: Version) -> Self {
        Self::with(Settings { version, ..Settings::default() }, "")
    }

    fn with(settings: Settings, faults: &str) -> Self {
        settings.check().expect("right settings");
        let faults = Faults::from_toml(faults).expect("right faults");
        let now = Time::from_ns(1_000 * S);
        let deployment = Deployment::new(settings, faults, now, 0x5EED << 64 | 0x1D);
        let token = deployment.owner_token().unwrap_or("").to_owned();
        Self { deployment, now, token }
    }

    fn pass(&mut self, ns: u64) {
        self.now = self.now.plus_ns(ns);
    }

    /// Sends a request as it is.
    fn send(&mut self, request: &Request) -> Response {
        self.deployment.handle(self.now, 0, request)
    }

    /// A request under `/api/v2/` with the token's header.
    fn call(&mut self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = Request::new(method, &format!("/api/v2/{path}"));
        if !self.token.is_empty() {
            request = request.with_header("Coder-Session-Token", &self.token);
        }
        if let Some(body) = body {
            request = request.with_json(&body);
        }
        let response = self.send(&request);
        (response.status, response.value())
    }

    fn get(&mut self, path: &str) -> (u16, Value) {
        self.call("GET", path, None)
    }

    fn post(&mut self, path: &str, body: Value) -> (u16, Value) {
        self.call("POST", path, Some(body))
    }

    /// The same with another token, and back.
    fn as_user<T>(&mut self, token: &str, act: impl FnOnce(&mut Self) -> T) -> T {
        let own = std::mem::replace(&mut self.token, token.to_owned());
        let result = act(self);
        self.token = own;
        result
    }

    /// The id of the first organization.
    fn organization(&mut self) -> String {
        let (_, organizations) = self.get("organizations");
        text(&organizations[0]["id"])
    }

    fn template(&mut self, name: &str) -> String {
        let organization = self.organization();
        let (_, templates) = self.get(&format!("organizations/{organization}/templates"));
        let found = templates.as_array().expect("a list").iter().find(|template| template["name"] == name);
        text(&found.unwrap_or_else(|| panic!("no template {name}: {templates}"))["id"])
    }

    /// Makes a user; its id and a token of it.
    fn user(&mut self, name: &str) -> (String, String) {
        let organization = self.organization();
        let body = json!({
            "username": name, "email": format!("{name}@x.local"), "password": "Sixteen-Mixed-16",
            "organization_ids": [organization], "organization_id": organization,
        });
        let (status, user) = self.post("users", body);
        assert_eq!(status, 201, "{user}");
        let (status, key) = self.post(&format!("users/{name}/keys/tokens"), json!({ "token_name": "test" }));
        assert_eq!(status, 201, "{key}");
        (text(&user["id"]), text(&key["key"]))
    }

    /// Makes a workspace of the caller from a template; what the server answers.
    fn create(&mut self, name: &str, template: &str) -> (u16, Value) {
        let (organization, template) = (self.organization(), self.template(template));
        let path = format!("organizations/{organization}/members/me/workspaces");
        self.post(&path, json!({ "template_id": template, "name": name }))
    }

    /// Makes a workspace and waits until it is there; its id.
    fn workspace(&mut self, name: &str, template: &str) -> String {
        let (status, workspace) = self.create(name, template);
        assert_eq!(status, 201, "{workspace}");
        self.pass(10 * S);
        text(&workspace["id"])
    }

    /// The ids of a workspace's agents.
    fn agents(&mut self, workspace: &str) -> Vec<String> {
        let (_, workspace) = self.get(&format!("workspaces/{workspace}"));
        let resources = workspace["latest_build"]["resources"].as_array().expect("a list").clone();
        let agents = resources.iter().flat_map(|resource| resource["agents"].as_array().expect("a list"));
        agents.map(|agent| text(&agent["id"])).collect()
    }

    /// Asks for a terminal.
    fn terminal(&mut self, agent: &str, query: &str) -> Response {
        let path = format!("/api/v2/workspaceagents/{agent}/pty?{query}");
        let request = upgrade(&path).with_header("Coder-Session-Token", &self.token);
        self.send(&request)
    }

    /// How often something wrong was seen.
    fn wrong(&self, kind: Wrong) -> u64 {
        let seen = self.deployment.seen();
        seen.client_errors.iter().find(|error| error.kind == kind).map_or(0, |error| error.count)
    }
}

/// A deployment whose times are round: a build waits 0 s, takes 10 s, its agent comes after 5 s.
fn round(version: Version, provisioners: u32) -> Settings {
    let text = "acquire_time = '0s'\nbuild_time = '10s'\nbuild_jitter = '0s'\nagent_time = '5s'\nscript_time = '1s'\ncancel_time = '2s'";
    Settings { version, provisioners, ..Settings::from_toml(text).expect("right") }
}

/// A right websocket handshake.
fn upgrade(target: &str) -> Request {
    Request::new("GET", target)
        .with_header("Host", "127.0.0.1")
        .with_header("Connection", "Upgrade")
        .with_header("Upgrade", "websocket")
        .with_header("Sec-WebSocket-Version", "13")
        .with_header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

fn attached(response: &Response) -> Attach {
    match &response.upgrade {
        Some(Upgrade { kind: Kind::Terminal(attach), .. }) => attach.clone(),
        other => panic!("no terminal: {} {other:?}", response.status),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

const RECONNECT: &str = "reconnect=8f3b8a52-7f0a-4a55-9d8c-1b5b6a1f0001";
