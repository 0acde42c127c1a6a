//! Names and addresses that are not what they look like.

use std::io::{Read, Write};
use std::net::TcpListener;

use scale_tests::host::{Folder, installed_library, until};
use scale_tests::{Daemon, Sink};

use super::{Forbidden, assert_ends, with_list};
use crate::faults::{event, start, stop};
use crate::with;

#[test]
fn a_name_that_comes_to_mean_a_forbidden_address_is_followed_nowhere() {
    let Some(wrapper) = installed_library("libnss_wrapper.so") else { return };
    let folder = Folder::new();
    let sink = Sink::start(&["--protocol", "ws"]);
    let port: u16 = sink.address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let Some(forbidden) = Forbidden::on("127.0.0.3", port) else {
        eprintln!("skipped: port {port} of 127.0.0.3 is somebody else's");
        return;
    };
    let hosts = folder.write("hosts", "127.0.0.1 gw.test\n");
    let mut daemon = Daemon::start();
    daemon.process.take().expect("running").end();
    daemon.allow("[[target]]\nhost = \"gw.test\"\naddresses = [\"127.0.0.1/32\"]\n");
    daemon.environment = vec![("LD_PRELOAD", wrapper), ("NSS_WRAPPER_HOSTS", hosts.into())];
    daemon.begin();
    let target = format!("ws://gw.test:{port}/");
    start(&daemon, &["--conns", "5", "--churn", "10/s", "--target", &target]);
    until("streams", || event(&daemon).streams.get("open").filter(|&&open| open >= 4).copied());
    folder.write("hosts", "127.0.0.3 gw.test\n");
    // A name is resolved again every 30 s.
    let said = until("the name's new address", || {
        let warnings = event(&daemon).warnings;
        warnings.into_iter().find(|warning| warning.contains("resolved again"))
    });
    assert!(said.contains("127.0.0.3") && said.contains("addresses so far are kept"), "{said}");
    let (_, report) = stop(&daemon);
    assert!(report.load.replaced > 20, "connections went on being made: {}", report.load.replaced);
    assert!(report.warnings.iter().any(|warning| warning.contains("127.0.0.3")), "{:?}", report.warnings);
    forbidden.assert_nobody_came("a name that has moved");
    // What is begun now is refused.
    let refused = daemon.scalectl(&with(&["start", "--conns", "1", "--target", &target]));
    assert_ends(&refused, 3, "127.0.0.3", "the name as it is now");
    forbidden.assert_nobody_came("a name that is forbidden from the start");
}

#[test]
fn other_spellings_of_an_address_are_refused_or_are_that_address() {
    let daemon = with_list(
        "[[target]]\nhost = \"127.0.0.2\"\naddresses = [\"127.0.0.2/32\"]\n[[target]]\nhost = \"localhost\"\naddresses = [\"127.0.0.2/32\"]\n",
    );
    let forbidden = Forbidden::at("127.0.0.1");
    let port = forbidden.port;
    for (host, code, word) in [
        ("127.0.0.1", 3, "not on this host's list"),
        ("[::ffff:127.0.0.1]", 3, "not on this host's list"),
        ("[::ffff:7f00:1]", 3, "not on this host's list"),
        ("localhost", 3, "not on this host's list"),
        ("LOCALHOST", 3, "not on this host's list"),
        ("2130706433", 2, "four numbers"),
        ("0x7f000001", 2, "four numbers"),
        ("0177.0.0.1", 2, "four numbers"),
        ("127.1", 2, "four numbers"),
        ("127.0.0.1.", 2, "four numbers"),
        ("127.0.0.2@127.0.0.1", 2, "user"),
        ("127.0.0.1#@127.0.0.2", 2, "fragment"),
        ("127.0.0.1%2f@127.0.0.2", 2, "user"),
        ("%31%32%37.0.0.1", 2, "in no host name"),
        ("127.0.0.1\n127.0.0.2", 2, "no host"),
        ("１２７.0.0.1", 2, "in no host name"),
        ("[::127.0.0.1]", 3, "never hit"),
        ("[64:ff9b::7f00:1]", 3, "never hit"),
        ("[2002:7f00:1::]", 3, "never hit"),
        ("[::]", 3, "never hit"),
        ("0.0.0.0", 3, "never hit"),
        ("169.254.169.254", 3, "never hit"),
        ("[::ffff:a9fe:a9fe]", 3, "never hit"),
        ("[fe80::1]", 3, "never hit"),
        ("224.0.0.1", 3, "never hit"),
        ("127.255.255.255", 3, "never hit"),
    ] {
        let target = format!("ws://{host}:{port}/");
        let refused = daemon.scalectl(&["start", "--conns", "1", "--target", &target]);
        assert_ends(&refused, code, word, &target);
        let led = daemon.scalectl(&[
            "start",
            "--conns",
            "1",
            "--target",
            "ws://127.0.0.2:1/",
            "--connect-to",
            &format!("{host}:{port}"),
        ]);
        assert!([Some(2), Some(3)].contains(&led.status.code()), "--connect-to {host}");
    }
    forbidden.assert_nobody_came("other spellings");
}

/// Answers each request with a redirect to `to`, and counts them.
fn redirecting(to: &str) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let (sender, heads) = std::sync::mpsc::channel();
    let answer =
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap_or(0);
            let _ = sender.send(String::from_utf8_lossy(&head[..read]).into_owned());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, heads)
}

#[test]
fn redirects_to_what_is_forbidden_are_not_followed() {
    let forbidden = Forbidden::at("127.0.0.3");
    let (address, heads) = redirecting(&format!("http://127.0.0.3:{}/", forbidden.port));
    let daemon = with_list("[[target]]\naddresses = [\"127.0.0.1/32\"]\n");
    let folder = Folder::new();
    let token = folder.write("token", "aaaaaaaaaa-bbbbbbbbbbbbbbbbbbbbbb");
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    let url = format!("http://{address}");
    for flow in [
        &["create-users", "--count", "1", "--yes"][..],
        &["create-workspaces", "--count", "1", "--template", "t", "--yes"],
        &["workspace-traffic", "--duration", "1s"],
        &["cleanup", "--yes"],
    ] {
        let mut command = daemon.command(flow);
        let output =
            command.env("CODER_URL", &url).env("CODER_SESSION_TOKEN_FILE", &token).output().expect("it runs");
        assert_ends(&output, 2, "not followed", flow[0]);
    }
    assert!(heads.try_iter().count() >= 4, "each has asked the one that is allowed");
    // A websocket's upgrade, and the Prometheus that is asked beside it.
    let run = folder.write(
        "run.toml",
        &format!("[[group]]\nname = \"main\"\ntarget = [\"ws://{address}/\"]\nconns = 3\nwarm_up = \"0s\"\nduration = \"2s\"\n[observe]\nprometheus = \"http://{address}\"\ninterval = \"1s\"\n[observe.query]\nup = \"up\"\n"),
    );
    let (code, report) = daemon.run(&["-f", &run]);
    assert_eq!((code, report.load.connect_failures.get("http_other")), (99, Some(&3)), "{:?}", report.load);
    assert!(heads.try_iter().any(|head| head.starts_with("GET /api/v1/query")), "the Prometheus was asked");
    forbidden.assert_nobody_came("redirects");
}

#[test]
fn what_is_asked_beside_the_streams_is_held_against_the_list_too() {
    let forbidden = Forbidden::at("127.0.0.3");
    let daemon = with_list("[[target]]\naddresses = [\"127.0.0.1/32\"]\n");
    let folder = Folder::new();
    let port = forbidden.port;
    let run = folder.write(
        "run.toml",
        &format!("[[group]]\nname = \"main\"\ntarget = [\"ws://127.0.0.1:9/\"]\nconns = 1\n[observe]\nprometheus = \"http://127.0.0.3:{port}\"\n[observe.query]\nup = \"up\"\n"),
    );
    assert_ends(&daemon.scalectl(&["start", "-f", &run]), 3, "127.0.0.3", "[observe]");
    let rows = folder.write("rows.csv", "host\n127.0.0.1\n127.0.0.3\n");
    let target = format!("ssh://u@{{host}}:{port}/");
    let rows = ["start", "--conns", "2", "--target", &target, "--rows", &rows, "--insecure-host-keys"];
    assert_ends(&daemon.scalectl(&rows), 3, "127.0.0.3", "a host of --rows");
    let target = format!("ssh://u@127.0.0.3:{port}/");
    let forward = [
        "start",
        "--conns",
        "1",
        "--target",
        &target,
        "--ssh-forward",
        "127.0.0.1:1",
        "--insecure-host-keys",
    ];
    assert_ends(&daemon.scalectl(&forward), 3, "127.0.0.3", "the server that forwards");
    let mut flow = daemon.command(&["create-users", "--count", "1", "--yes"]);
    let token = folder.write("token", "aaaaaaaaaa-bbbbbbbbbbbbbbbbbbbbbb");
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    for host in ["127.0.0.3", "[::ffff:7f00:3]", "0x7f000003", "2130706435", "127.3"] {
        flow.env("CODER_URL", format!("http://{host}:{port}")).env("CODER_SESSION_TOKEN_FILE", &token);
        assert_ends(&flow.output().expect("it runs"), 3, "127.0.0.3", host);
    }
    forbidden.assert_nobody_came("what is asked beside the streams");
}
