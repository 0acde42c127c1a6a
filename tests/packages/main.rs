//! What packages bring, as far as it can be read: the default configuration, manual pages, maintainer scripts, the lists
//! of files. `tests/packages/run` installs, upgrades and removes them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use scale_tests::host::root;
use scale_tests::repository::{files, name, read};
use scaled::run::targets::Targets;

fn page(name: &str) -> String {
    read(&root().join(name))
}

fn manifest() -> toml::Table {
    page("daemon/Cargo.toml").parse().expect("TOML")
}

/// Reads a list of targets from its text.
fn targets(text: &str, test: &str) -> Result<Targets, String> {
    let file = std::env::temp_dir().join(format!("scaled-{test}-{}.toml", std::process::id()));
    std::fs::write(&file, text).expect("a file");
    let read = Targets::read(&file);
    std::fs::remove_file(&file).expect("it was there");
    read
}

/// The keys that the error about an unknown one lists.
fn keys_of(table: &str) -> BTreeSet<String> {
    let error = targets(&format!("[[{table}]]\nno_such_key = 1\n"), table).expect_err("an unknown key");
    let (_, expected) = error.split_once("expected").unwrap_or_else(|| panic!("no keys are listed: {error}"));
    let keys: BTreeSet<String> = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(keys.len() >= 2, "{error}");
    keys
}

/// Lines that are TOML behind a `#`, without it.
fn uncommented(text: &str) -> String {
    let is_toml = |line: &&str| line.starts_with("[[") || line.split(' ').nth(1) == Some("=");
    let line = |line: &str| line.strip_prefix('#').filter(is_toml).unwrap_or(line).to_owned() + "\n";
    text.lines().map(line).collect()
}

#[test]
fn the_installed_list_allows_this_host_alone() {
    let list = targets(&page("systemd/targets.toml"), "installed").expect("it is read");
    for here in ["127.0.0.1:9000", "127.9.9.9:1", "[::1]:443"] {
        list.own().check("localhost", here.parse().expect("an address")).expect(here);
    }
    for there in ["10.1.2.3:443", "192.168.0.1:80", "[2001:db8::1]:443"] {
        assert!(list.own().check("gw.example.com", there.parse().expect("an address")).is_err(), "{there}");
    }
}

#[test]
fn the_installed_list_shows_each_key_in_an_entry_that_would_be_taken() {
    let text = uncommented(&page("systemd/targets.toml"));
    let list = targets(&text, "uncommented").expect("the entries are taken as they stand");
    list.own()
        .check("gw.example.com", "10.1.2.3:443".parse().expect("an address"))
        .expect("the example allows it");
    let table: toml::Table = text.parse().expect("TOML");
    for name in ["target", "coder"] {
        let entries = table[name].as_array().expect("entries");
        let shown: BTreeSet<String> =
            entries.iter().flat_map(|entry| entry.as_table().expect("a table").keys().cloned()).collect();
        assert_eq!(shown, keys_of(name), "systemd/targets.toml against the keys of [[{name}]]");
    }
}

#[test]
fn manual_pages_of_files_explain_every_key() {
    let page_of_list = page("systemd/man/targets.toml.5");
    for key in ["target", "coder"].iter().flat_map(|table| keys_of(table)) {
        assert!(page_of_list.contains(&format!("\\fB{key}\\fR = ")), "targets.toml.5 lacks {key}");
    }
    let settings = uncommented(&page("systemd/scaled.toml"));
    let settings: toml::Table = settings.parse().expect("TOML");
    let page_of_settings = page("systemd/man/scaled.toml.5");
    for key in settings.keys() {
        assert!(page_of_settings.contains(&format!("\\fB{key}\\fR = ")), "scaled.toml.5 lacks {key}");
    }
    assert!(settings.len() >= 7, "the settings were looked for");
}

#[test]
fn manual_pages_of_programs_explain_every_flag() {
    for (program, file) in [("scaled", "scaled.8"), ("scale-sink", "scale-sink.1")] {
        let output = Command::new(scale_tests::program(program)).arg("--help").output().expect("it runs");
        let help = String::from_utf8(output.stdout).expect("text");
        let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let flag = |line: &str| {
            let (_, rest) = line.split_once("--")?;
            rest.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).next().map(str::to_owned)
        };
        let flags: BTreeSet<String> = lines.filter_map(flag).collect();
        assert!(flags.len() > 6, "{program}: {help}");
        let page = page(&format!("systemd/man/{file}")).replace("\\-", "-");
        for flag in flags {
            assert!(page.contains(&format!("\\fB--{flag}")), "{file} lacks --{flag}");
        }
    }
}

/// Where a list's files go, with what Debian and Red Hat do differently taken away.
fn destinations(list: &toml::Value) -> BTreeSet<String> {
    const APART: [&str; 4] = [
        "/etc/needrestart/",
        "/usr/share/doc/scaled/copyright",
        "/usr/share/lintian/",
        "/usr/share/licenses/",
    ];
    let list = list["assets"].as_array().expect("assets");
    let destination = |asset: &toml::Value| {
        let text = asset.get("dest").or_else(|| asset.get(1)).and_then(toml::Value::as_str).expect("a place");
        format!("/{}", text.trim_start_matches('/')).replace("vendor-completions", "site-functions")
    };
    list.iter().map(destination).filter(|place| !APART.iter().any(|apart| place.starts_with(apart))).collect()
}

#[test]
fn deb_and_rpm_hold_the_same_and_nothing_of_the_tree_is_left_out() {
    let metadata = &manifest()["package"]["metadata"];
    let (deb, rpm) = (destinations(&metadata["deb"]), destinations(&metadata["generate-rpm"]));
    assert_eq!(deb, rpm);
    // The places that systemd/package fills, literally written there.
    let script = page("systemd/package");
    let places = script.lines().filter_map(|line| {
        let (put, rest) = line.trim().split_once(' ')?;
        let place = ["put", "zipped"].contains(&put).then(|| rest.split_whitespace().nth(1))??;
        let place = place.trim_matches('"');
        Some(format!("/{}/", place.rsplit_once('/')?.0))
    });
    let places: BTreeSet<String> = places.filter(|place| !place.contains('$')).collect();
    assert!(places.len() > 6, "{places:?}");
    for place in places.iter().filter(|place| !place.starts_with("/etc/needrestart")) {
        assert!(deb.contains(place), "systemd/package fills {place}, which no package takes");
    }
}

#[test]
fn the_changelog_begins_with_this_version() {
    let workspace: toml::Table = page("Cargo.toml").parse().expect("TOML");
    let version = workspace["workspace"]["package"]["version"].as_str().expect("a version");
    let changelog = page("systemd/debian/changelog");
    assert!(changelog.starts_with(&format!("scaled ({version}-")), "{changelog}");
}

#[test]
fn every_kernel_setting_is_explained_in_tuning() {
    let (settings, tuning) = (page("systemd/scaled.sysctl"), page("docs/tuning.md"));
    let keys: Vec<&str> = settings
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, _)| key)
        .collect();
    assert!(keys.len() >= 8, "{keys:?}");
    for key in keys {
        let name = key.rsplit('.').next().expect("a last part");
        assert!(tuning.contains(&format!("{name}`")), "docs/tuning.md lacks {key}");
    }
}

#[test]
fn the_tools_that_make_packages_have_one_version_everywhere() {
    let version = |text: &str, tool: &str| {
        let (_, rest) = text.split_once(tool).unwrap_or_else(|| panic!("{tool} is named nowhere"));
        rest.split_whitespace().next().expect("a version").trim_matches(['\'', '"']).to_owned()
    };
    let (script, drill, tools) =
        (page("systemd/package"), page("tests/packages/run"), page("tests/tools.sh"));
    for (key, tool) in [("deb_tool=", "cargo-deb"), ("rpm_tool=", "cargo-generate-rpm")] {
        let expected = version(&script, key);
        assert_eq!(version(&drill, &format!("cargo install {tool} --locked --version ")), expected);
        assert_eq!(version(&tools, &format!("install_quickly {tool} --version ")), expected);
    }
}

#[test]
fn scripts_are_what_their_shells_read() {
    let mut seen = 0;
    let scripts =
        ["systemd/debian", "systemd/rpm", "systemd/oci"].iter().flat_map(|folder| files(folder, ""));
    let extra = ["systemd/package", "tests/packages/run"].map(|file| root().join(file));
    for path in scripts.chain(extra) {
        let text = read(&path);
        let in_bash = text.starts_with("#!/usr/bin/env bash");
        let is_rpm = path.parent().is_some_and(|parent| parent.ends_with("rpm"));
        if !(in_bash || is_rpm || text.starts_with("#!/bin/sh")) {
            continue;
        }
        seen += 1;
        let shell = if in_bash { "bash" } else { "sh" };
        let status = Command::new(shell).arg("-n").arg(&path).status().expect("a shell");
        assert!(status.success(), "{}", name(&path));
    }
    assert!(seen >= 8, "{seen} scripts were found");
}

#[test]
fn one_seccomp_profile_serves_images_and_nodes() {
    let link: PathBuf = std::fs::read_link(root().join("systemd/oci/seccomp.json")).expect("a link");
    assert_eq!(link, PathBuf::from("../../docs/coder/kubernetes/seccomp.json"));
    let profile: serde_json::Value = serde_json::from_str(&page("systemd/oci/seccomp.json")).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let allowed: BTreeSet<&str> = profile["syscalls"]
        .as_array()
        .expect("rules")
        .iter()
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
        .flat_map(|rule| rule["names"].as_array().expect("names").iter().filter_map(|name| name.as_str()))
        .collect();
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(allowed.contains(call), "{call}");
    }
    for call in
        ["mount", "bpf", "init_module", "ptrace", "kexec_load", "unshare", "setns", "keyctl", "reboot"]
    {
        assert!(!allowed.contains(call), "{call}");
    }
}

#[test]
fn the_image_is_for_an_unprivileged_user() {
    let recipe = page("systemd/oci/Containerfile");
    let last = recipe.rsplit("\nFROM ").next().expect("a stage");
    assert!(last.starts_with("scratch\n") && last.contains("\nUSER 65532:65532\n"), "{last}");
    assert!(!last.contains("\nRUN "), "nothing runs in an image without a shell");
}
