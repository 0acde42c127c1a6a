//! The token is in no argument, output, log, report or file of ours.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use scale_tests::host::{Folder, until};
use scale_tests::{Process, program};

use super::{Standin, create};

/// Every file below a folder that has `secret` in it.
fn holding(folder: &Path, secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(holding(&entry, secret));
        } else if fs::read(&entry).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(secret)) {
            found.push(entry.display().to_string());
        }
    }
    found
}

fn arguments(pid: u32) -> String {
    fs::read(format!("/proc/{pid}/cmdline"))
        .map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[test]
fn the_token_is_nowhere_but_in_its_file_and_on_the_wire() {
    let standin = Standin::start(
        "build_time = '300ms'\n",
        "[[fault]]\nkind = 'build_fails'\nworkspace = 'scaletest-*-1'\n",
    );
    let secret = standin.token.split_once('-').expect("two parts").1;
    let folder = Folder::new();
    let socket = folder.path("control.sock");
    // A daemon whose whole log is kept, at its most talkative.
    let mut command = Command::new(program("scaled"));
    command.arg("--config").arg(folder.path("scaled.toml")).arg("--socket").arg(&socket);
    command.arg("--state").arg(folder.path("runs")).args(["--metrics", "off"]).env("SCALED_LOG", "trace");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let (sender, log) = mpsc::channel();
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let daemon = Process(child);
    until("the daemon", || socket.exists().then_some(()));
    let mut said = String::new();
    for arguments in [
        create("3", &["--yes"]),
        create("1", &["--no-cleanup", "--yes", "--json"]),
        vec!["cleanup", "--yes"],
        vec!["report", "--json"],
        vec!["create-users", "--count", "1", "--organization", "nowhere", "--yes"],
    ] {
        let mut command = Command::new(program("scalectl"));
        command.arg("--socket").arg(&socket).args(&arguments).stdin(Stdio::null());
        command.env("CODER_URL", standin.url()).env("CODER_SESSION_TOKEN", &standin.token);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        said += &crate::coder::secrets::arguments(child.id());
        let output = child.wait_with_output().expect("it ends");
        said += &String::from_utf8_lossy(&output.stdout);
        said += &String::from_utf8_lossy(&output.stderr);
        said += &crate::coder::secrets::arguments(daemon.0.id());
    }
    assert!(said.contains("build_failed") && said.contains("scaletest-r"), "{said}");
    said += &daemon.end();
    said += &log.iter().collect::<Vec<_>>().join("\n");
    assert!(said.contains("flow began"), "the log was kept: {said}");
    assert!(!said.contains(secret), "the token was said");
    assert_eq!(holding(&folder.path("runs"), secret), Vec::<String>::new());
    assert!(!holding(&folder.path("runs"), "scaletest-").is_empty(), "the folder was looked through");
    standin.end();
}
