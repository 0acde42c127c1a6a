//! `scale-sink --protocol coder` as a program: its flags, its token, its last word.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use scale_tests::host::Folder;
use scale_tests::{Sink, program};

/// Asks for a path on a connection of its own; the whole answer.
fn get(address: &str, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nCoder-Session-Token: {token}\r\n\r\n"
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_stand_in_gives_its_token_to_a_file_of_ours_alone_and_says_at_the_end_what_it_saw() {
    let folder = Folder::new();
    let token_file = folder.path("token");
    std::fs::write(&token_file, "an old one, readable by all").expect("written");
    let (settings, faults) = (folder.path("settings.toml"), folder.path("faults.toml"));
    std::fs::write(&settings, "users = 2\nreplicas = 9\nbuild_time = '1ms'\n").expect("written");
    std::fs::write(&faults, "[[fault]]\nkind = 'status'\non = 'GET /api/v2/regions'\n").expect("written");
    let (path, settings, faults) = (token_file.display(), settings.display(), faults.display());
    let arguments = format!(
        "--protocol coder --coder-version v2.18 --coder-replicas 2 --coder-settings {settings} --faults {faults} --token-out {path}"
    );
    let sink = Sink::start(&arguments.split(' ').collect::<Vec<_>>());
    let token = std::fs::read_to_string(&token_file).expect("the token");
    let mode = std::fs::metadata(&token_file).expect("it is there").permissions().mode();
    assert_eq!((token.len(), mode & 0o777), (33, 0o600));
    let users = get(&sink.address, "/api/v2/users", &token);
    assert!(users.starts_with("HTTP/1.1 200") && users.contains("\"count\":3"), "{users}");
    assert!(users.contains("x-coder-build-version: v2.18.0+standin"), "{users}");
    assert!(get(&sink.address, "/api/v2/users/me", "no").starts_with("HTTP/1.1 401"));
    assert!(get(&sink.address, "/api/v2/regions", &token).starts_with("HTTP/1.1 500"));
    let seen = sink.process.end();
    assert!(!seen.contains(&token), "the token is in what it prints");
    let seen: serde_json::Value = serde_json::from_str(&seen).expect("one JSON object");
    assert_eq!(seen["requests"]["GET /api/v2/users"]["200"], 1, "{seen}");
    assert_eq!(seen["replicas"].as_array().map(Vec::len), Some(2), "a flag wins over the file");
    assert_eq!((&seen["faults"][0], &seen["client_errors"]), (&1.into(), &serde_json::json!([])));
}

#[test]
fn what_the_stand_in_cannot_do_is_refused_with_what_to_change() {
    let folder = Folder::new();
    let file = folder.path("wrong.toml").display().to_string();
    std::fs::write(&file, "[[fault]]\nkind = 'slow'\n").expect("written");
    for (arguments, word) in [
        ("--protocol coder --listen 0.0.0.0:0", "127.0.0.1"),
        ("--protocol coder --listen 127.0.0.1:0 --coder-version v9", "v0.24, v2.8, v2.18, v2.26"),
        ("--protocol coder --listen 127.0.0.1:0 --coder-replicas 0", "--coder-replicas 1"),
        ("--protocol coder --listen 127.0.0.1:0 --realtime", "leave it out"),
        (&format!("--protocol coder --listen 127.0.0.1:0 --faults {file}"), "fault 1: `delay` is missing"),
        (&format!("--protocol coder --listen 127.0.0.1:0 --coder-settings {file}"), "unknown field `fault`"),
        ("--protocol ws --listen 127.0.0.1:0 --coder-users 3", "--coder-users goes with --protocol coder"),
    ] {
        let output =
            Command::new(program("scale-sink")).args(arguments.split(' ')).output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(word), "{arguments}: {error}");
    }
}
