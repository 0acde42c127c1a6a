//! The flags of `start` that decide whom streams talk to, from where and with what words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use scale_tests::certificate::Certificate;
use scale_tests::host::{Folder, until};
use scale_tests::server::{serve, serve_websocket};
use scale_tests::{Daemon, Process, Sink, assert_ended_with, program};

use crate::{error, with};

/// Heads of requests, and where they came from.
type Seen = Arc<Mutex<Vec<(String, IpAddr)>>>;

fn seeing(seen: &Seen) -> String {
    let seen = seen.clone();
    serve_websocket(b"", move |websocket| {
        seen.lock().expect("no panic").push((websocket.head.clone(), websocket.peer.ip()));
        websocket.echo();
    })
}

fn heads(seen: &Seen) -> Vec<String> {
    let mut heads: Vec<String> =
        seen.lock().expect("no panic").iter().map(|(head, _)| head.clone()).collect();
    heads.sort();
    heads
}

/// The value of a header in a head.
fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let line =
        head.lines().find(|line| line.to_lowercase().starts_with(&format!("{}:", name.to_lowercase())))?;
    Some(line[name.len() + 1..].trim())
}

#[test]
fn rows_and_numbers_are_filled_into_urls_and_headers() {
    let (seen, folder) = (Seen::default(), Folder::new());
    let address = seeing(&seen);
    // A value that looks like a place is a value.
    let rows = folder.write("rows.csv", "user,seat\nann,1\nbob,\"{n}\"\ncy,3\n");
    let target = format!("ws://{address}/{{n}}/{{user}}");
    let (code, report) = Daemon::start().run(&with(&[
        "--conns",
        "5",
        "--target",
        &target,
        "--rows",
        &rows,
        "--header",
        "X-Seat: {seat} of {user}",
        "--header",
        "X-Json: {\"a\":1}",
    ]));
    assert_ended_with(0, (code, &report));
    let said: BTreeMap<String, String> = heads(&seen)
        .iter()
        .map(|head| {
            assert_eq!(value(head, "x-json"), Some("{\"a\":1}"), "braces that name no column stay");
            let path = head.split(' ').nth(1).expect("a path").to_owned();
            (path, value(head, "x-seat").expect("a header").to_owned())
        })
        .collect();
    let expected = [
        ("/0/ann", "1 of ann"),
        ("/1/bob", "{n} of bob"),
        ("/2/cy", "3 of cy"),
        ("/3/ann", "1 of ann"),
        ("/4/bob", "{n} of bob"),
    ];
    assert_eq!(said, expected.map(|(path, seat)| (path.to_owned(), seat.to_owned())).into());
    assert_eq!(report.targets.len(), 1, "rows are one target: {:?}", report.targets);
    assert_eq!(report.targets[0].name, format!("ws://{address}/{{n}}/{{user}}"));
}

#[test]
fn numbers_go_on_through_every_stage_of_a_group() {
    let (seen, folder) = (Seen::default(), Folder::new());
    let address = seeing(&seen);
    let text = format!(
        "first_stream = 3\n[[group]]\ntarget = [\"ws://{address}/{{n}}\"]\nconns = 2\nwarm_up = \"0s\"\ndrain = \"2s\"\n[[group.stage]]\nconns = 5\nhold = \"2s\"\n"
    );
    let (code, report) = Daemon::start().run(&["--file", &folder.write("run.toml", &text)]);
    assert!([0, 6, 99].contains(&code), "{:?}", report.verdict);
    let paths: Vec<String> =
        heads(&seen).iter().map(|head| head.split(' ').nth(1).expect("a path").into()).collect();
    assert_eq!(paths, ["/3", "/4", "/5", "/6", "/7"]);
}

#[test]
fn sources_are_used_in_turn() {
    let seen = Seen::default();
    let target = format!("ws://{}/", seeing(&seen));
    let (code, report) =
        Daemon::start().run(&with(&["--conns", "12", "--target", &target, "--source", "127.0.7.0/29"]));
    assert_ended_with(0, (code, &report));
    let mut from: BTreeMap<IpAddr, u32> = BTreeMap::new();
    seen.lock().expect("no panic").iter().for_each(|(_, peer)| *from.entry(*peer).or_default() += 1);
    let expected = (1..=6).map(|host| (IpAddr::from([127, 0, 7, host]), 2));
    assert_eq!(from, expected.collect(), "a range's network and broadcast addresses are not used");
}

#[test]
fn headers_and_the_subprotocol_arrive_and_what_is_in_a_header_file_is_told_to_nobody() {
    let (seen, folder) = (Seen::default(), Folder::new());
    let target = format!("ws://{}/", seeing(&seen));
    let secret = folder.write("headers", "X-Session-Token: canary-4711\n\nCookie: a=canary-4711\n");
    let daemon = Daemon::start();
    let output = daemon.scalectl(
        &[
            &["--json", "start"],
            &with(&[
                "--conns",
                "3",
                "--target",
                &target,
                "--header",
                "X-Plain: yes",
                "--header-file",
                &secret,
                "--subprotocol",
                "graphql-ws",
            ])[..],
        ]
        .concat(),
    );
    assert!([Some(0), Some(6)].contains(&output.status.code()), "{}", error(&output));
    for head in heads(&seen) {
        assert_eq!(value(&head, "x-plain"), Some("yes"));
        assert_eq!(value(&head, "x-session-token"), Some("canary-4711"));
        assert_eq!(value(&head, "cookie"), Some("a=canary-4711"));
        assert_eq!(value(&head, "sec-websocket-protocol"), Some("graphql-ws"));
    }
    assert_eq!(heads(&seen).len(), 3);
    let (text, hex) = ("canary-4711", "63616e6172792d34373131");
    let kept = Command::new("grep")
        .args(["-rlE", &format!("{text}|{hex}")])
        .arg(daemon.state())
        .output()
        .expect("grep");
    assert!(kept.stdout.is_empty(), "{}", String::from_utf8_lossy(&kept.stdout));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), error(&output));
    assert!(!said.contains(text) && !said.contains(hex));
}

#[test]
fn connect_to_goes_elsewhere_and_host_and_certificate_stay_the_targets() {
    let seen = Seen::default();
    let address = seeing(&seen);
    let daemon = Daemon::start();
    let to = ["--connect-to", &address];
    let target = ["--conns", "3", "--target", "ws://gw.example.com:8080/x"];
    let (code, report) = daemon.run(&with(&[&target[..], &to].concat()));
    assert_ended_with(0, (code, &report));
    assert!(heads(&seen).iter().all(|head| value(head, "host") == Some("gw.example.com:8080")));
    assert_eq!(report.targets[0].name, "ws://gw.example.com:8080/x");
    let folder = Folder::new();
    let ca = folder.path("ca.pem").display().to_string();
    let sink = Sink::start(&["--protocol", "wss", "--ca-out", &ca]);
    // The sink's certificate is for localhost.
    let to = ["--conns", "3", "--ca", &ca, "--connect-to", &sink.address];
    let (code, report) = daemon.run(&with(&[&to[..], &["--target", "wss://localhost:1/"]].concat()));
    assert_ended_with(0, (code, &report));
    let (code, report) = daemon.run(&with(&[&to[..], &["--target", "wss://gw.example.com/"]].concat()));
    assert_eq!((code, report.load.connect_failures.get("tls_certificate")), (99, Some(&3)));
}

#[test]
fn a_column_as_the_host_gives_each_stream_its_own_name_in_the_request_and_for_tls() {
    let seen = Seen::default();
    let address = seeing(&seen);
    let (daemon, folder) = (Daemon::start(), Folder::new());
    let rows = folder.write("rows.csv", "host\na--b\nc\n");
    let to = ["--conns", "2", "--rows", &rows, "--connect-to", &address];
    let (code, report) =
        daemon.run(&with(&[&to[..], &["--target", "ws://{host}.gw.example.com:8080/x"]].concat()));
    assert_ended_with(0, (code, &report));
    let hosts: BTreeSet<String> =
        heads(&seen).iter().filter_map(|head| value(head, "host").map(str::to_owned)).collect();
    let named = ["a--b", "c"].map(|host| format!("{host}.gw.example.com:8080"));
    assert_eq!(hosts, BTreeSet::from(named));
    let ca = folder.path("ca.pem").display().to_string();
    let sink = Sink::start(&["--protocol", "wss", "--ca-out", &ca]);
    // The sink's certificate is for localhost.
    let rows = folder.write("names.csv", "host\nlocalhost\nlocalhorst\n");
    let to = ["--conns", "4", "--rows", &rows, "--ca", &ca, "--connect-to", &sink.address];
    let (code, report) = daemon.run(&with(&[&to[..], &["--target", "wss://{host}/"]].concat()));
    assert_eq!((code, report.load.streams_opened), (99, 2), "{:?}", report.load);
    assert_eq!(report.load.connect_failures.get("tls_certificate"), Some(&2));
}

#[test]
fn insecure_takes_any_certificate_and_says_so_everywhere() {
    let sink = Sink::start(&["--protocol", "wss"]);
    let target = format!("wss://{}/", sink.address);
    let daemon = Daemon::start();
    let output = daemon
        .scalectl(&[&["start"], &with(&["--conns", "3", "--target", &target, "--insecure"])[..]].concat());
    assert!([Some(0), Some(6)].contains(&output.status.code()), "{}", error(&output));
    assert!(error(&output).contains("CERTIFICATES ARE NOT VERIFIED"), "{}", error(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("CERTIFICATES ARE NOT VERIFIED"), "the live view says it: {text}");
    assert!(text.contains("CERTIFICATES WERE NOT VERIFIED"), "the report says it: {text}");
    let report = daemon.scalectl(&["--json", "report"]);
    let report: scale_api::report::Report = serde_json::from_slice(&report.stdout).expect("JSON");
    assert!(report.spec.group[0].insecure);
    assert!(report.latency.tls.is_some_and(|tls| tls.count == 3));
}

/// A server that asks for a client's certificate, and those that it was shown.
fn asks_for_certificates(
    server: &Certificate,
    clients: &Certificate,
) -> (String, Arc<Mutex<BTreeSet<Vec<u8>>>>) {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(clients.authority.as_bytes()).expect("PEM"))
        .expect("an authority");
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
    let chain = vec![CertificateDer::from_pem_slice(server.certificate.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).expect("PEM");
    let config = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key);
    let config = Arc::new(config.expect("a certificate and its key"));
    let shown = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = shown.clone();
    let address = serve(move |_, mut stream| {
        let mut connection = ServerConnection::new(config.clone()).expect("a connection");
        while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        // An alert that says why not.
        let _ = connection.complete_io(&mut stream);
        let theirs = connection.peer_certificates().and_then(|chain| chain.first()).map(|one| one.to_vec());
        seen.lock().expect("no panic").extend(theirs);
    });
    (format!("wss://localhost:{}/", address.rsplit(':').next().expect("a port")), shown)
}

#[test]
fn a_client_certificate_is_shown_where_one_is_asked_for() {
    let folder = Folder::new();
    let (server, client) = (Certificate::new(&["localhost"]), Certificate::new(&["a client"]));
    let (target, shown) = asks_for_certificates(&server, &client);
    let ca = folder.write("ca.pem", &server.authority);
    let (cert, key) = (folder.write("cert.pem", &client.certificate), folder.write("key.pem", &client.key));
    let daemon = Daemon::start();
    let to = ["--conns", "2", "--target", &target, "--ca", &ca, "--connect-to"];
    let address = target.replace("wss://localhost", "127.0.0.1").replace('/', "");
    let to = [&to[..], &[&address]].concat();
    let (code, report) = daemon.run(&with(&to));
    assert_eq!((code, report.load.connect_failures.get("tls_alert")), (99, Some(&2)), "{:?}", report.load);
    assert!(shown.lock().expect("no panic").is_empty());
    let (_, report) = daemon.run(&with(&[&to[..], &["--cert", &cert, "--key", &key]].concat()));
    // The server is content with it, and then hangs up, for it speaks no websocket.
    assert_eq!(report.latency.tls.map(|tls| tls.count), Some(2), "{:?}", report.load.connect_failures);
    let expected = CertificateDer::from_pem_slice(client.certificate.as_bytes()).expect("PEM").to_vec();
    until("the server to have seen it", || {
        (*shown.lock().expect("no panic") == [expected.clone()].into()).then_some(())
    });
}

#[test]
fn an_ipv6_literal_is_a_target_like_any_other() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("IPv6: not tried, this host has no ::1");
        return;
    }
    let mut command = Command::new(program("scale-sink"));
    command.args(["--listen", "[::1]:0", "--protocol", "ws"]);
    let (process, line) = Process::start(&mut command, "listening on ");
    let sink = Sink { process, address: line.trim_start_matches("listening on ").to_owned() };
    assert!(sink.address.starts_with("[::1]:"), "{}", sink.address);
    let target = format!("ws://{}/", sink.address);
    let (code, report) =
        Daemon::start().run(&with(&["--conns", "20", "--target", &target, "--source", "::1"]));
    assert_ended_with(0, (code, &report));
    assert_eq!(report.targets[0].name, target);
    assert_eq!(sink.counts()["payload_bytes_received"], report.total.payload_bytes_sent);
}
