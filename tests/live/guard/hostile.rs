//! Hostile run files and requests: each is refused, and the daemon goes on.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use scale_tests::Daemon;
use scale_tests::host::Folder;

use super::{Forbidden, assert_ends};

/// Posts a body to the socket as it is; status line and all.
fn post(daemon: &Daemon, path: &str, body: &[u8]) -> String {
    let mut stream = UnixStream::connect(daemon.socket()).expect("it listens");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: scaled\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    // It may answer before it has read all.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
fn assert_goes_on(daemon: &Daemon, what: &str) {
    let status = daemon.scalectl(&["--json", "status"]);
    let status: scale_api::http::Status = serde_json::from_slice(&status.stdout).expect("JSON");
    assert!(status.run.is_none() && status.last.is_none(), "{what}: {status:?}");
}

#[test]
fn hostile_run_files_are_refused_and_nothing_comes_of_them() {
    let (daemon, folder, forbidden) = (Daemon::start(), Folder::new(), Forbidden::at("127.0.0.1"));
    let target = format!("ws://127.0.0.1:{}/", forbidden.port);
    let group = format!("[[group]]\nname = \"g\"\ntarget = [\"{target}\"]\nconns = 1\n");
    let deep = format!("{group}x = {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let dotted = format!("{group}{} = 1\n", vec!["a"; 50_000].join("."));
    let many = "[[group]]\nname = \"g\"\n".repeat(100_000);
    for (text, what) in [
        (deep, "a deep nest"),
        (dotted, "a deep path of keys"),
        (many, "a hundred thousand groups"),
        (format!("{group}name = \"\u{0}\"\n"), "a NUL"),
        (group.replace("ws://127.0.0.1", "ws://127.0.0.1\u{0}.evil"), "a NUL in a host"),
        (group.replace("conns = 1", "conns = 1000000000000000000000"), "a number without end"),
        (group.replace("conns = 1", "conns = -1"), "less than nothing"),
        (group.replace("conns = 1", "conns = 1e9"), "a number that is none"),
        ("\u{feff}\u{202e}[[group]]".into(), "text that is not what it looks like"),
        (format!("{group}rows = \"/dev/zero\"\n"), "a file without end"),
    ] {
        let output = daemon.scalectl(&["start", "-f", &folder.write("run.toml", &text)]);
        assert_eq!(output.status.code(), Some(2), "{what}: {}", crate::error(&output));
        assert_goes_on(&daemon, what);
    }
    forbidden.assert_nobody_came("hostile run files");
}

#[test]
fn the_daemon_opens_no_file_that_a_request_names() {
    let (daemon, folder, forbidden) = (Daemon::start(), Folder::new(), Forbidden::at("127.0.0.1"));
    let canary = folder.write("canary", "X-Canary: 4711-canary\n");
    // By TLS, so that every kind of file would be needed.
    let target = format!("wss://127.0.0.1:{}/", forbidden.port);
    for path in [canary.as_str(), "/etc/shadow", "../../../../etc/passwd", "/proc/self/environ", "/dev/zero"]
    {
        for key in ["header_file", "rows", "message_file", "first_message", "ca", "cert", "key"] {
            for file in [serde_json::json!(path), serde_json::json!({ "path": path })] {
                let group = serde_json::json!({ "name": "g", "target": [target], "conns": 1, key: file });
                let body = serde_json::json!({ "spec": { "group": [group] }, "dry_run": false });
                let answer = post(&daemon, "/v1/runs", body.to_string().as_bytes());
                assert!(answer.starts_with("HTTP/1.1 400"), "{key} {path}: {answer}");
                assert!(!answer.contains("4711-canary") && !answer.contains("root:"), "{answer}");
            }
        }
    }
    for id in ["../../etc", "%2e%2e%2fetc", "..", "r1%00", "/etc/passwd"] {
        let output = daemon.scalectl(&["report", id]);
        assert!(!output.status.success(), "{id}");
    }
    assert_goes_on(&daemon, "paths");
    forbidden.assert_nobody_came("paths");
}

#[test]
fn hostile_bodies_are_refused_and_the_daemon_goes_on() {
    let daemon = Daemon::start();
    let deep = format!("{{\"spec\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let groups = format!("{{\"spec\":{{\"group\":[{}]}}}}", vec!["{}"; 200_000].join(","));
    for (body, what) in [
        (deep.into_bytes(), "a deep nest"),
        (groups.into_bytes(), "too many groups"),
        (b"{\"spec\":{\"group\":[{\"conns\":1e999}]}}".to_vec(), "a number beyond all"),
        (b"{\"spec\":\0}".to_vec(), "a NUL"),
        (vec![0xff; 4096], "no text"),
        (b"{\"spec\":{},\"caller\":{\"uid\":0}}".to_vec(), "a caller of his own making"),
        (b"{\"spec\":{\"started_by\":{\"uid\":0}}}".to_vec(), "somebody else's name"),
    ] {
        for path in ["/v1/runs", "/v1/doctor", "/v1/coder", "/v1/coder/scenario", "/v1/coder/traffic"] {
            let answer = post(&daemon, path, &body);
            assert!(
                answer.starts_with("HTTP/1.1 4"),
                "{what} at {path}: {}",
                answer.chars().take(300).collect::<String>()
            );
        }
        assert_goes_on(&daemon, what);
    }
    let output = daemon.scalectl(&["start", "--conns", "1", "--target", "ws://192.0.2.1/"]);
    assert_ends(&output, 3, "192.0.2.1", "it still guards");
}
