//! Both Terraform templates, and the files that they make for a load host.

use std::collections::BTreeSet;
use std::process::Command;
use std::str::FromStr;

use hcl::Template;
use hcl::eval::{Context, Evaluate, FuncArgs, FuncDef, ParamType};
use scale_api::scenario::Scenario;
use scale_tests::Daemon;
use scale_tests::repository::{files, name, read};
use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use crate::page;

/// A Terraform file as JSON: expressions are strings, blocks are objects by their labels.
fn parsed(name: &str) -> Value {
    hcl::from_str(&page(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What `path` leads to, parts divided by spaces.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split(' ').fold(value, |value, part| {
        let found = part.parse::<usize>().map_or_else(|_| value.get(part), |index| value.get(index));
        found.unwrap_or_else(|| panic!("no {part} of {path} in {value}"))
    })
}

const POD: &str = "resource kubernetes_pod_v1 main spec";

#[test]
fn every_terraform_file_parses() {
    for path in files("docs/coder", ".tf") {
        let body: Value =
            hcl::from_str(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", name(&path)));
        assert!(body.as_object().is_some_and(|body| !body.is_empty()), "{}", name(&path));
    }
}

#[test]
fn a_load_host_stays_has_cores_of_its_own_and_may_use_io_uring() {
    let template = parsed("load-host/main.tf");
    let annotations = at(&template, "resource kubernetes_pod_v1 main metadata annotations");
    assert_eq!(annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"], "false");
    let pod = at(&template, POD);
    assert_eq!(pod["restart_policy"], "Never", "a restart would begin the run again");
    assert_eq!(at(pod, "security_context seccomp_profile type"), "Localhost");
    assert_eq!(at(pod, "node_selector pool"), "${var.node_pool}");
    assert_eq!(at(pod, "toleration value"), "${var.node_pool}");
    let resources = at(pod, "container resources");
    assert_eq!(resources["requests"], resources["limits"], "a Guaranteed pod");
    let cpus = parsed("load-host/variables.tf");
    let rule = at(&cpus, "variable cpus validation condition").as_str().expect("a condition");
    assert!(rule.contains("floor(var.cpus) == var.cpus"), "whole CPUs: {rule}");
}

#[test]
fn tokens_come_from_secrets_and_stand_in_no_pods_spec() {
    let host = parsed("load-host/main.tf");
    let environment = at(&host, "resource coder_agent main env").as_object().expect("an object");
    let tokens: Vec<_> = environment.keys().filter(|name| name.contains("TOKEN")).collect();
    assert_eq!(tokens, ["CODER_SESSION_TOKEN_FILE"]);
    let mounts = at(&host, &format!("{POD} container volume_mount"));
    let folder = mounts.as_array().expect("several").iter().find(|mount| mount["name"] == "token");
    let folder = folder.expect("a token")["mount_path"].as_str().expect("a path");
    assert_eq!(environment["CODER_SESSION_TOKEN_FILE"], format!("{folder}/token"));
    for template in [host, parsed("workspace/main.tf")] {
        let container = at(&template, &format!("{POD} container"));
        assert_eq!(at(container, "env name"), "CODER_AGENT_TOKEN");
        assert!(container["env"].get("value").is_none(), "the agent's own is a secret's, too");
        assert!(at(container, "env value_from secret_key_ref").is_object());
    }
    let variables = parsed("load-host/variables.tf");
    let variables = variables["variable"].as_object().expect("variables").keys();
    assert_eq!(variables.filter(|name| name.contains("token")).collect::<Vec<_>>(), ["token_secret"]);
}

#[test]
fn the_workspaces_have_the_listeners_that_app_traffic_needs() {
    let template = parsed("workspace/main.tf");
    let listeners = page("workspace/listeners.sh");
    let apps = at(&template, "locals apps").as_object().expect("apps");
    assert_eq!(apps.keys().collect::<Vec<_>>(), ["wsdi", "wsec", "wsra"]);
    for (slug, app) in apps {
        let port = app["port"].to_string();
        assert!(listeners.contains(&format!("\nlisten {port} ")), "{slug}: nobody listens on {port}");
    }
    let app = at(&template, "resource coder_app listener");
    assert_eq!((&app["slug"], &app["subdomain"]), (&json!("${each.key}"), &json!("${var.subdomain}")));
    assert!(!page("workspace/Containerfile").contains(" screen "), "its echo cannot be followed");
}

#[test]
fn every_parameter_and_variable_is_used_and_none_that_is_not_there() {
    let uses = |text: &str, prefix: &str| -> BTreeSet<String> {
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let rests = text.split(prefix).skip(1);
        rests.filter_map(|rest| rest.split(word).next()).map(str::to_owned).collect()
    };
    let names = |value: &Value| value.as_object().expect("named").keys().cloned().collect::<BTreeSet<_>>();
    let main = page("load-host/main.tf");
    let parameters = parsed("load-host/parameters.tf");
    assert_eq!(uses(&main, "data.coder_parameter."), names(at(&parameters, "data coder_parameter")));
    let variables = parsed("load-host/variables.tf");
    assert_eq!(uses(&main, "var."), names(&variables["variable"]));
    let (main, template) = (page("workspace/main.tf"), parsed("workspace/main.tf"));
    assert_eq!(uses(&main, "var."), names(&template["variable"]));
    assert_eq!(uses(&main, "data.coder_parameter."), names(at(&template, "data coder_parameter")));
}

/// Terraform's `jsonencode`, but for its escapes of `<`, `>` and `&`.
fn jsonencode(arguments: FuncArgs) -> Result<hcl::Value, String> {
    serde_json::to_string(&arguments[0]).map(hcl::Value::from).map_err(|error| error.to_string())
}

fn tostring(arguments: FuncArgs) -> Result<hcl::Value, String> {
    Ok(match &arguments[0] {
        hcl::Value::String(text) => text.clone().into(),
        other => other.to_string().into(),
    })
}

fn length(arguments: FuncArgs) -> Result<hcl::Value, String> {
    arguments[0].as_object().map(|object| hcl::Value::from(object.len())).ok_or("an object".into())
}

/// What a template makes of `values`.
fn made(template: &str, values: &Value) -> String {
    let mut context = Context::new();
    let function = |function| FuncDef::builder().param(ParamType::Any).build(function);
    context.declare_func("jsonencode", function(jsonencode));
    context.declare_func("tostring", function(tostring));
    context.declare_func("length", function(length));
    for (name, value) in values.as_object().expect("an object") {
        let value: hcl::Value = serde_json::from_value(value.clone()).expect("plain");
        context.declare_var(name.as_str(), value);
    }
    let parsed = Template::from_str(&page(template)).unwrap_or_else(|error| panic!("{template}: {error}"));
    parsed.evaluate(&context).unwrap_or_else(|error| panic!("{template}: {error}"))
}

/// What `main.tf` gives the scenario's template.
fn scenario(terminals: u32, response_p99: &str, parameters: &Value) -> Scenario {
    let values = json!({
        "name": "a \"quoted\" name", "count": 1000, "template": "kubernetes", "parameters": parameters,
        "concurrency": 0, "baseline": "1m", "terminals": terminals, "app": "wsec", "bytes_per_tick": "128B",
        "tick_interval": "100ms", "duration": "10m", "response_p99": response_p99, "cleanup": "always",
    });
    let main = page("load-host/main.tf");
    let (_, given) = main.split_once("scenario.toml.tftpl\", {").expect("the call");
    let given = given.split_once("})").expect("its end").0.lines();
    let given = given.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.trim());
    assert_eq!(
        given.collect::<BTreeSet<_>>(),
        values.as_object().expect("an object").keys().map(String::as_str).collect(),
        "main.tf gives the template what this test gives it"
    );
    let text = made("load-host/scenario.toml.tftpl", &values);
    Scenario::from_toml(&text, "scenario").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_parameters_make_a_scenario_that_passes_its_checks() {
    for (terminals, groups) in [(1000, &["terminals"][..]), (800, &["terminals", "apps"]), (0, &["apps"])] {
        for (limit, parameters) in [("250ms", json!({"home_disk_size": 10})), ("", json!({}))] {
            let made = scenario(terminals, limit, &parameters);
            made.check().unwrap_or_else(|errors| panic!("{errors:?} in {made:?}"));
            assert_eq!(made.name.as_deref(), Some("a \"quoted\" name"));
            assert_eq!(made.group.iter().map(|group| group.load.name.as_str()).collect::<Vec<_>>(), groups);
            assert_eq!(made.threshold.len(), if limit.is_empty() { 0 } else { groups.len() });
            let create = made.create.expect("workspaces");
            assert_eq!((create.count, create.concurrency), (1000, 0));
            let disk = create.parameters.get("home_disk_size").map(String::as_str);
            assert_eq!(disk, (!limit.is_empty()).then_some("10"), "parameters are strings");
            let mut covered = 0;
            for group in &made.group {
                let range = group.range().expect("a range").expect("given");
                assert_eq!(range.start, covered, "each workspace has its traffic, once");
                covered = range.end;
            }
            assert_eq!(covered, create.count);
        }
    }
}

#[test]
fn the_daemon_takes_the_load_hosts_files() {
    let values = YamlLoader::load_from_str(&page("load-host/variables.yaml")).expect("it parses");
    let values = values[0].as_hash().expect("names and values");
    let variables = parsed("load-host/variables.tf");
    let variables = variables["variable"].as_object().expect("variables");
    let given: BTreeSet<_> = values.keys().map(|name| name.as_str().expect("a name")).collect();
    let needed = variables.iter().filter(|(_, variable)| variable.get("default").is_none());
    assert_eq!(given, needed.map(|(name, _)| name.as_str()).collect(), "those without a default");
    for (name, variable) in variables {
        let kind = variable["type"].as_str().expect("a type");
        assert!(
            ["${string}", "${number}", "${bool}"].contains(&kind),
            "{name}: Coder has no variables of {kind}"
        );
    }
    let targets = values[&Yaml::String("targets".into())].as_str().expect("text");
    let rules = rules_of_a_daemon(&page("load-host/scaled.toml"), targets);
    assert!(rules.contains("coder.example.com   10.1.0.0/16  443    - "), "{rules}");
}

/// What `scalectl targets` says of a daemon with these files.
pub fn rules_of_a_daemon(settings: &str, targets: &str) -> String {
    let mut daemon = Daemon::start();
    drop(daemon.process.take());
    daemon.configure(settings);
    daemon.allow(targets);
    daemon.begin();
    let output = daemon.scalectl(&["targets"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn scripts_are_good_shell() {
    for path in files("docs/coder", ".sh") {
        let output = Command::new("sh").arg("-n").arg(&path).output().expect("sh");
        assert!(output.status.success(), "{}: {}", name(&path), String::from_utf8_lossy(&output.stderr));
        assert!(read(&path).starts_with("#!/bin/sh\n"), "{}", name(&path));
    }
}
