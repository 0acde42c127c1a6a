//! What is refused before anything is made: early, and with what to do.

use std::time::Duration;

use scale_tests::Daemon;
use scale_tests::host::Folder;
use serde_json::{Value, json};

use super::{Standin, texts};

/// Mints a token for `user` that lives for `lifetime`.
fn token(standin: &Standin, user: &str, lifetime: Duration) -> String {
    let body = json!({ "lifetime": lifetime.as_nanos() as u64, "scope": "all", "token_name": format!("t-{user}-{}", lifetime.as_secs()) });
    let (status, answer) = standin.ask("POST", &format!("/users/{user}/keys/tokens"), &body);
    assert_eq!(status, 201, "{answer}");
    answer["key"].as_str().expect("a token").to_owned()
}

/// The text of a refusal: exit code 2, and nothing was made.
fn refused(standin: &Standin, daemon: &Daemon, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = standin.command(daemon, &[arguments, &["--yes"]].concat());
    command.envs(environment.iter().copied());
    for (name, value) in environment {
        if *name == "CODER_SESSION_TOKEN" {
            command.env_remove("CODER_SESSION_TOKEN_FILE");
            assert!(!value.is_empty());
        }
    }
    let (code, out, error) = texts(&command.output().expect("scalectl runs"));
    assert_eq!((code, out.as_str()), (2, ""), "{error}");
    error
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_made() {
    let standin = Standin::start("users = 1\n", "");
    let daemon = Daemon::start();
    let make = ["create-workspaces", "--count", "2", "--template"];
    for (more, word) in [
        (&["nope"][..], "there is no template `nope`; there are `kubernetes`"),
        (&["strict"], "the template needs the parameter `team`; give --parameter team=…"),
        (&["kubernetes", "--parameter", "x=1"], "has no parameter `x`; it has `home_disk_size`"),
        (&["kubernetes", "--parameter", "home_disk_size=much"], "cannot be `much`"),
        (&["kubernetes", "--organization", "moon"], "`moon` is none of your organizations"),
        (&["minimal", "--timeout", "0s"], "more than nothing"),
        (&["minimal", "--insecure"], "about https"),
    ] {
        let error = refused(&standin, &daemon, &[&make, more].concat(), &[]);
        assert!(error.contains(word), "{word}: {error}");
    }
    let users = ["create-users", "--count", "2"];
    let (member, brief) = (
        token(&standin, "member-1", Duration::from_secs(36_000)),
        token(&standin, "me", Duration::from_secs(60)),
    );
    let elsewhere =
        crate::answering(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>");
    let elsewhere = format!("http://{elsewhere}");
    for (name, value, word) in [
        ("CODER_URL", elsewhere.as_str(), "is not Coder's API"),
        ("CODER_URL", "http://127.0.0.1:9", "could not be reached"),
        ("CODER_URL", "127.0.0.1:3000", "is no URL of a deployment"),
        ("CODER_URL", "", "export CODER_URL=https://coder.example.com"),
        ("CODER_SESSION_TOKEN", "wrong12345-ABCDEFGHIJKLMNOPQRSTUV", "does not accept the token"),
        ("CODER_SESSION_TOKEN", "two words", "spaces or other characters"),
        ("CODER_SESSION_TOKEN", &member, "the role `owner` is needed"),
        ("CODER_SESSION_TOKEN", &brief, "the token ends at"),
        ("CODER_SESSION_TOKEN_FILE", "/nowhere/token", "cannot read the token's file /nowhere/token"),
    ] {
        let error = refused(&standin, &daemon, &users, &[(name, value)]);
        assert!(error.contains(word), "{name}={value}: {error}");
        assert!(name != "CODER_SESSION_TOKEN" || !error.contains(value), "the token is in {error}");
    }
    let mut command = standin.command(&daemon, &["cleanup", "--yes"]);
    let (code, _, error) = texts(&command.env_remove("CODER_SESSION_TOKEN_FILE").output().expect("runs"));
    assert!(code == 2 && error.contains("coder tokens create"), "{error}");
    let error = refused(&standin, &daemon, &["cleanup", "--run", "r1-0"], &[]);
    assert!(error.contains("no ledger of run r1-0"), "{error}");
    // Even by a token that dies before the clean-up could end.
    let error = refused(&standin, &daemon, &["cleanup"], &[("CODER_SESSION_TOKEN", &brief)]);
    assert!(error.contains("before everything could be cleaned up"), "{error}");
    assert_eq!(standin.there(), (Vec::new(), Vec::new()));
    let counts = standin.end();
    assert_eq!((&counts["users"]["made"], &counts["workspaces"]["made"]), (&0.into(), &0.into()));
}

#[test]
fn only_what_this_hosts_list_allows_is_used() {
    let standin = Standin::brisk();
    let (_, info) = standin.ask("GET", "/buildinfo", &Value::Null);
    let id = info["deployment_id"].as_str().expect("an id");
    let loopback = "[[target]]\naddresses = ['127.0.0.0/8']\n";
    let pin =
        |id: &str, allow: &str| format!("{loopback}[[coder]]\ndeployment_id = '{id}'\nallow = [{allow}]\n");
    let mut daemon = Daemon::start();
    for (list, word) in [
        ("[[target]]\naddresses = ['10.0.0.0/8']\n".to_owned(), "is not on this host's list".to_owned()),
        (
            pin("somewhere-else", "'create', 'delete'"),
            format!("deployment_id = \"{id}\"\nallow = [\"create\", \"delete\"]"),
        ),
        (pin(id, "'create'"), "may not be used to delete".to_owned()),
    ] {
        drop(daemon.process.take());
        daemon.allow(&list);
        daemon.begin();
        let (code, _, error) = standin.scalectl(&daemon, &["create-users", "--count", "1", "--yes"]);
        assert!(code == 3 && error.contains(&word), "{code}: {error}");
    }
    let (code, _) = standin.flow(&daemon, &["create-users", "--count", "1", "--no-cleanup"]);
    assert_eq!(code, 0);
    let (code, _, error) = standin.scalectl(&daemon, &["cleanup", "--yes"]);
    assert!(code == 3 && error.contains("may not be used to delete"), "{error}");
    assert_eq!(standin.there().0.len(), 1);
    drop(daemon.process.take());
    daemon.allow(&pin(id, "'create', 'delete'"));
    daemon.begin();
    assert_eq!(standin.flow(&daemon, &["cleanup"]).0, 0);
    let text = crate::coder::texts(&daemon.scalectl(&["targets"])).1;
    assert!(text.contains(&format!("Coder deployment {id}: create, delete")), "{text}");
    standin.end();
}

#[test]
fn parameters_may_come_from_a_file() {
    let (standin, daemon, folder) = (Standin::brisk(), Daemon::start(), Folder::new());
    let file = folder.write("parameters.yaml", "# sizes\nhome_disk_size: 7\ncpu: 'many'\n");
    let make =
        ["create-workspaces", "--count", "1", "--template", "kubernetes", "--rich-parameter-file", &file];
    let error = refused(&standin, &daemon, &make, &[]);
    assert!(error.contains("`cpu` cannot be `many`"), "{error}");
    let (code, _) = standin.flow(&daemon, &[&make[..], &["--parameter", "cpu=2"]].concat());
    assert_eq!(code, 0);
    let file = folder.write("parameters.yaml", "home_disk_size: 7\n  nested: 1\n");
    let error = refused(&standin, &daemon, &[&make[..6], &[&file]].concat(), &[]);
    assert!(error.contains("line 2"), "{error}");
    standin.end();
}
