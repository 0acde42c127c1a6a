//! The manifests of a load host outside Coder, and the seccomp profile.

use std::collections::BTreeSet;
use std::process::Command;

use scale_tests::host::in_repository;
use scale_tests::repository::{files, name, read};
use yaml_rust2::{Yaml, YamlLoader};

use crate::terraform::rules_of_a_daemon;
use crate::{page, read_json};

fn documents(file: &str) -> Vec<Yaml> {
    let found = YamlLoader::load_from_str(&page(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert!(!found.is_empty() && found.iter().all(|document| document.as_hash().is_some()), "{file}");
    found
}

/// The document of that kind.
fn of_kind(file: &str, kind: &str) -> Yaml {
    let found = documents(file).into_iter().find(|document| document["kind"].as_str() == Some(kind));
    found.unwrap_or_else(|| panic!("no {kind} in {file}"))
}

/// Those values of `key` in a list of tables.
fn each<'a>(list: &'a Yaml, key: &str) -> Vec<&'a str> {
    let list = list.as_vec().expect("a list").iter();
    list.map(|entry| entry[key].as_str().unwrap_or_else(|| panic!("no {key} in {entry:?}"))).collect()
}

#[test]
fn every_yaml_file_parses_and_every_manifest_says_what_it_is() {
    for path in files("docs/coder", ".yaml") {
        let documents = YamlLoader::load_from_str(&read(&path));
        let documents = documents.unwrap_or_else(|error| panic!("{}: {error}", name(&path)));
        assert!(!documents.is_empty(), "{}", name(&path));
        for document in documents.iter().filter(|_| name(&path).contains("/kubernetes/")) {
            let said = [&document["apiVersion"], &document["kind"]].map(Yaml::as_str);
            assert!(said.iter().all(Option::is_some), "{}: {said:?}", name(&path));
        }
    }
}

#[test]
fn one_command_applies_every_manifest_but_the_operators() {
    let list = of_kind("kubernetes/kustomization.yaml", "Kustomization");
    let resources = list["resources"].as_vec().expect("a list").iter();
    let mut resources: BTreeSet<_> =
        resources.map(|file| file.as_str().expect("a name").to_owned()).collect();
    resources.extend(["kustomization.yaml", "podmonitor.yaml"].map(str::to_owned));
    let there = files("docs/coder/kubernetes", ".yaml");
    let there = there.iter().map(|path| path.file_name().expect("a file").to_string_lossy().into_owned());
    assert_eq!(resources, there.collect());
    assert_eq!(list["configMapGenerator"][0]["files"][0].as_str(), Some("seccomp.json"));
}

#[test]
fn the_pod_stays_has_cores_of_its_own_and_may_use_io_uring() {
    let pod = of_kind("kubernetes/load-host.yaml", "Pod");
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"].as_str(), Some("false"));
    let spec = &pod["spec"];
    let profile = &spec["securityContext"]["seccompProfile"];
    assert_eq!(profile["type"].as_str(), Some("Localhost"));
    let file = profile["localhostProfile"].as_str().expect("a file");
    let nodes = of_kind("kubernetes/seccomp-nodes.yaml", "DaemonSet");
    let nodes = &nodes["spec"]["template"]["spec"];
    let folder = nodes["volumes"][1]["hostPath"]["path"].as_str().expect("a folder");
    let (below, file) = file.split_once('/').expect("a folder and a file");
    assert_eq!(folder, format!("/var/lib/kubelet/seccomp/{below}"));
    let script = nodes["containers"][0]["command"][2].as_str().expect("a script");
    assert!(script.contains(&format!("/{below}/{file}\n")), "{script}");
    for both in ["nodeSelector", "tolerations"] {
        assert_eq!(nodes[both], spec[both], "{both}: the profile goes where load hosts go");
    }
    for container in spec["containers"].as_vec().expect("containers") {
        let resources = &container["resources"];
        assert_eq!(resources["requests"], resources["limits"], "a Guaranteed pod");
        let cpus = resources["limits"]["cpu"].as_str().expect("in quotes");
        assert!(cpus.parse::<u32>().is_ok_and(|cpus| cpus >= 2), "{cpus}: parts of a CPU are never pinned");
    }
}

#[test]
fn the_pods_token_is_a_file_and_its_secret_a_name() {
    let pod = of_kind("kubernetes/load-host.yaml", "Pod");
    let container = &pod["spec"]["containers"][0];
    let tokens: Vec<_> =
        each(&container["env"], "name").into_iter().filter(|name| name.contains("TOKEN")).collect();
    assert_eq!(tokens, ["CODER_SESSION_TOKEN_FILE"]);
    assert!(each(&container["env"], "value").contains(&"/etc/scaled-token/token"));
    assert!(each(&container["volumeMounts"], "mountPath").contains(&"/etc/scaled-token"));
    let mounts = container["volumeMounts"].as_vec().expect("a list");
    let list = mounts.iter().find(|mount| mount["mountPath"].as_str() == Some("/etc/scaled/targets.toml"));
    let list = list.expect("a list of targets");
    assert_eq!(list["subPath"].as_str(), Some("targets.toml"), "a ConfigMap's own folder is everybody's");
    for path in files("docs/coder", ".yaml") {
        for document in YamlLoader::load_from_str(&read(&path)).expect("it parses") {
            assert_ne!(document["kind"].as_str(), Some("Secret"), "{}", name(&path));
        }
    }
}

#[test]
fn the_daemon_takes_the_config_maps_files() {
    let map = of_kind("kubernetes/config.yaml", "ConfigMap");
    let file = |name: &str| map["data"][name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
    assert_eq!(file("scaled.toml"), page("load-host/scaled.toml"), "both kinds of load host are one");
    let rules = rules_of_a_daemon(&file("scaled.toml"), &file("targets.toml"));
    assert!(rules.contains("coder.example.com   10.1.0.0/16  443    50,000 "), "{rules}");
    let settings: toml::Table = file("scaled.toml").parse().expect("TOML");
    let port = settings["metrics"].as_str().and_then(|address| address.rsplit(':').next());
    let port = port.expect("a port").parse().expect("a number");
    let pod = of_kind("kubernetes/load-host.yaml", "Pod");
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["containerPort"].as_i64(), Some(port));
    let service = of_kind("kubernetes/service.yaml", "Service");
    assert_eq!(service["spec"]["ports"][0]["port"].as_i64(), Some(port));
    let monitor = of_kind("kubernetes/podmonitor.yaml", "PodMonitor");
    let label = &pod["metadata"]["labels"]["app.kubernetes.io/name"];
    assert_eq!(&monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"], label);
    assert_eq!(&service["spec"]["selector"]["app.kubernetes.io/name"], label);
    assert_eq!(each(&monitor["spec"]["podMetricsEndpoints"], "port"), ["metrics"]);
}

#[test]
fn every_manifest_validates_against_the_schemas_of_kubernetes() {
    let Some(validate) = in_repository(".venv/peers/bin/kubernetes-validate") else { return };
    // These two kinds are not Kubernetes' own.
    let others = ["kustomization.yaml", "podmonitor.yaml"];
    for path in files("docs/coder/kubernetes", ".yaml") {
        if others.iter().any(|other| path.ends_with(other)) {
            continue;
        }
        let output =
            Command::new(&validate).args(["--strict", "--quiet"]).arg(&path).output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}: {}", name(&path), String::from_utf8_lossy(&said));
        assert_eq!(String::from_utf8_lossy(&said), "", "a kind without a schema");
    }
}

/// Calls that no load host needs; a runtime's own default gives most of them to capabilities alone.
const FOR_NOBODY: [&str; 8] =
    ["bpf", "init_module", "kexec_load", "mount", "perf_event_open", "ptrace", "setns", "unshare"];

#[test]
fn the_seccomp_profile_allows_io_uring_and_nothing_that_needs_a_capability() {
    let profile = read_json("kubernetes/seccomp.json");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(profile["defaultErrnoRet"], 1, "EPERM, of which the daemon's message speaks");
    let mut always = BTreeSet::new();
    for rule in profile["syscalls"].as_array().expect("rules") {
        let keys: Vec<_> = rule.as_object().expect("a rule").keys().map(String::as_str).collect();
        let known = ["names", "action", "args", "errnoRet"];
        assert!(keys.iter().all(|key| known.contains(key)), "{keys:?}: runtimes read no others in a file");
        let names = rule["names"].as_array().expect("names").iter();
        for name in names.map(|name| name.as_str().expect("a name").to_owned()) {
            let conditional = rule.get("args").is_some() || rule["action"] != "SCMP_ACT_ALLOW";
            assert!(conditional || always.insert(name.clone()), "{name} stands there twice");
        }
    }
    for call in
        ["io_uring_setup", "io_uring_enter", "io_uring_register", "read", "execve", "sched_setaffinity"]
    {
        assert!(always.contains(call), "{call} is not allowed");
    }
    for call in FOR_NOBODY.into_iter().chain(["clone", "clone3", "socket"]) {
        assert!(!always.contains(call), "{call} is allowed, whatever it is asked for");
    }
}
