//! The Coder flows by the real programs, against the stand-in deployment.

mod commands;
mod disruptions;
mod ends;
mod flows;
mod kills;
mod reconnects;
mod refusals;
mod rehearsal;
mod row;
mod scenario;
mod secrets;
mod traffic;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};

use scale_api::coder::Outcome;
use scale_api::report::Report;
use scale_tests::host::Folder;
use scale_tests::{Daemon, Sink};
use serde_json::{Value, json};

/// A stand-in deployment with its token.
pub struct Standin {
    sink: Sink,
    token: String,
    folder: Folder,
}

impl Standin {
    /// Starts one. `settings` and `faults` are TOML.
    pub fn start(settings: &str, faults: &str) -> Self {
        let folder = Folder::new();
        let settings = folder.write("settings.toml", settings);
        let faults = folder.write("faults.toml", faults);
        let token_file = folder.path("token").display().to_string();
        let sink = Sink::start(&[
            "--protocol",
            "coder",
            "--coder-settings",
            &settings,
            "--faults",
            &faults,
            "--token-out",
            &token_file,
        ]);
        let token = std::fs::read_to_string(&token_file).expect("the token");
        Self { sink, token, folder }
    }

    /// Writes a file beside its own; its path.
    pub fn write(&self, file: &str, text: &str) -> String {
        self.folder.write(file, text)
    }

    /// With builds that take next to no time.
    fn brisk() -> Self {
        Self::start("build_time = '50ms'\nbuild_jitter = '50ms'\nagent_time = '50ms'\n", "")
    }

    fn url(&self) -> String {
        format!("http://{}", self.sink.address)
    }

    /// Asks the deployment: status and body.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.ask_at(method, &format!("/api/v2{path}"), body)
    }

    /// Does something to its replicas, such as `1/kill?for=1s`; what that struck.
    pub fn order(&self, order: &str) -> Value {
        let (status, told) = self.ask_at("POST", &format!("/stand-in/replicas/{order}"), &Value::Null);
        assert_eq!(status, 200, "{order}: {told}");
        told
    }

    /// What it has seen of each break of a replica so far.
    pub fn breaks(&self) -> Vec<Value> {
        let (_, breaks) = self.ask_at("GET", "/stand-in/breaks", &Value::Null);
        breaks.as_array().expect("a list").clone()
    }

    fn ask_at(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.sink.address).expect("it listens");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nCoder-Session-Token: {}\r\n\
             X-Coder-Bypass-Ratelimit: true\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.sink.address,
            self.token,
            body.len()
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// A workspace of somebody else's that bears the prefix.
    fn make_keepme(&self) {
        let (_, organizations) = self.ask("GET", "/users/me/organizations", &Value::Null);
        let ids = organizations.as_array().expect("a list").iter().filter_map(|one| one["id"].as_str());
        let templates = ids.flat_map(|id| {
            let (_, templates) = self.ask("GET", &format!("/organizations/{id}/templates"), &Value::Null);
            templates.as_array().cloned().unwrap_or_default()
        });
        let minimal = templates.into_iter().find(|one| one["name"] == "minimal").expect("the template");
        let body =
            json!({ "template_id": minimal["id"], "name": "scaletest-keepme", "rich_parameter_values": [] });
        let (status, made) = self.ask("POST", "/users/me/workspaces", &body);
        assert_eq!(status, 201, "{made}");
    }

    /// Names of users and workspaces with the prefix.
    fn there(&self) -> (Vec<String>, Vec<String>) {
        let names = |list: &Value, name: &str| {
            let rows = list.as_array().into_iter().flatten();
            rows.filter_map(|row| row[name].as_str().map(str::to_owned)).collect()
        };
        let (_, users) = self.ask("GET", "/users?q=scaletest-", &Value::Null);
        let (_, workspaces) = self.ask("GET", "/workspaces?q=name%3A%22scaletest-%22", &Value::Null);
        (names(&users["users"], "username"), names(&workspaces["workspaces"], "name"))
    }

    /// Nothing of ours is there any more, and what is not ours still is.
    fn assert_only_keepme(&self) {
        assert_eq!(self.there(), (Vec::new(), vec!["scaletest-keepme".to_owned()]));
    }

    /// Ends it; it had nothing to say against its clients.
    pub fn end(self) -> Value {
        let counts = self.sink.counts();
        assert_eq!(counts["client_errors"], json!([]), "{counts}");
        counts
    }

    /// `scalectl` with this deployment in its environment.
    fn command(&self, daemon: &Daemon, arguments: &[&str]) -> Command {
        let mut command = daemon.command(arguments);
        command.env("CODER_URL", self.url()).env("CODER_SESSION_TOKEN_FILE", self.folder.path("token"));
        command
    }

    /// Runs it to its end: exit code, stdout, stderr.
    pub fn scalectl(&self, daemon: &Daemon, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(daemon, arguments).output().expect("scalectl runs");
        texts(&output)
    }

    /// Runs a flow with `--yes --json` to its end: exit code and report.
    fn flow(&self, daemon: &Daemon, arguments: &[&str]) -> (i32, Report) {
        let (code, out, error) = self.scalectl(daemon, &[&["--json"], arguments, &["--yes"]].concat());
        let last = out.lines().last().unwrap_or_else(|| panic!("{error}"));
        let report: Report = serde_json::from_str(last).unwrap_or_else(|why| panic!("{why}: {last} {error}"));
        assert_eq!(i32::from(report.verdict.exit_code), code, "{:?}", report.verdict);
        (code, report)
    }

    /// Begins a flow that nobody follows; its id.
    pub fn begin(&self, daemon: &Daemon, arguments: &[&str]) -> String {
        let (code, out, error) = self.scalectl(daemon, &[arguments, &["--yes", "--detach"]].concat());
        assert_eq!(code, 0, "{error}");
        out.trim().to_owned()
    }
}

fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
}

fn outcome(report: &Report) -> &Outcome {
    report.coder.as_ref().expect("a report of a flow")
}

/// Makes `count` workspaces of the simplest template, with this behind it.
fn create<'a>(count: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let make = ["create-workspaces", "--template", "minimal", "--concurrency", "0", "--count", count];
    [&make[..], more].concat()
}
