//! Replicas that are killed, drained, frozen, cut off and started again, over real sockets.

use std::io::ErrorKind;
use std::time::Duration;

use super::live::{Client, Server};
use super::*;
use crate::coder::replicas::ledger::Break;
use crate::coder::settings::Terminals;

/// Two replicas with two terminals each, of one workspace; terminal `n` is at replica `n % 2`, or the other way round.
fn four_terminals() -> (Server, String, Vec<Client>) {
    let server = Server::with(Version::V2_26, "", |settings| {
        (settings.replicas, settings.terminals) = (2, Terminals::Emulated);
    });
    let (_, agent) = server.workspace("one");
    let clients = (0..4).map(|n| open(&server, &agent, n)).collect();
    (server, agent, clients)
}

/// A terminal in which a line of 6 bytes was typed.
fn open(server: &Server, agent: &str, n: u32) -> Client {
    let mut client = server.terminal(agent, n, &scale_proto::coder::paced_command(128));
    client.type_in(&format!("say {n}\n"));
    client.shown(&format!("say {n}\r\n"));
    client
}

fn order(server: &Server, what: &str) -> (u16, Value) {
    server.call("POST", &format!("/stand-in/replicas/{what}"), "")
}

fn states(server: &Server) -> Vec<String> {
    let (_, rows) = server.call("GET", "/stand-in/replicas", "");
    rows.as_array()
        .expect("a list")
        .iter()
        .map(|row| row["state"].as_str().expect("a word").to_owned())
        .collect()
}

/// Terminals by whether `is_struck` says so of them; two are, two are not.
fn split(clients: Vec<Client>, is_struck: impl Fn(&mut Client) -> bool) -> (Vec<u32>, Vec<Client>) {
    let (mut struck, mut rest) = (Vec::new(), Vec::new());
    for (n, mut client) in (0..).zip(clients) {
        if is_struck(&mut client) { struck.push(n) } else { rest.push(client) }
    }
    assert_eq!((struck.len(), rest.len()), (2, 2), "{struck:?}");
    (struck, rest)
}

/// Nothing comes within a short time, nor does the connection end.
fn is_silent(client: &mut Client) -> bool {
    client.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let silent = client.frame().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    client.stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    silent
}

#[test]
fn a_killed_replica_breaks_its_terminals_and_their_sessions_go_on_at_another() {
    let (server, agent, clients) = four_terminals();
    let (status, told) = order(&server, "1/kill");
    assert_eq!((status, &told["dropped"], &told["users_dropped"]), (200, &json!(2), &json!(1)), "{told}");
    let (struck, rest) = split(clients, |client| !is_silent(client));
    assert_eq!(states(&server), ["up", "down"]);
    for &n in &struck {
        let mut client = server.terminal(&agent, n, "never run");
        assert_eq!(client.shown("\n"), format!("say {n}\r\n"), "the scrollback of its own session");
        client.type_in("again\n");
        client.shown("again\r\n");
    }
    assert_eq!(order(&server, "1/kill").0, 409, "it is down");
    drop(rest);
    let seen = server.end();
    let [Break { dropped: 2, back: 2, websockets: 4, users: 1, .. }] = &seen.breaks[..] else {
        panic!("{:?}", seen.breaks)
    };
    for socket in &seen.breaks[0].sockets {
        // What was typed before and after, and neither what went to the dead nor its echo.
        assert_eq!((socket.arrived_bytes, socket.back_replica, &*socket.user), (6 + 6, Some(0), "admin"));
        assert!(socket.back_after.is_some_and(|after| after < 20.0), "{socket:?}");
    }
    assert_eq!(seen.client_errors, []);
}

#[test]
fn a_drained_replica_says_so_and_comes_back_with_another_version() {
    let (server, _, clients) = four_terminals();
    assert_eq!(order(&server, "0/restart?how=drain&for=200ms&version=v9.9.9").0, 200);
    let (_, rest) = split(clients, |client| {
        client.type_in("x\n");
        let (opcode, payload) = client.frame().expect("a frame");
        if opcode == 8 {
            client.send(scale_proto::ws::Opcode::Close, &payload[..2]);
            assert_eq!(payload[..2], 1001u16.to_be_bytes());
        }
        opcode == 8
    });
    while states(&server) != ["up", "up"] {
        std::thread::sleep(Duration::from_millis(10));
    }
    let answers: Vec<String> =
        (0..2).map(|_| server.raw("GET", "/healthz", "").expect("an answer")).collect();
    let new = answers.iter().find(|answer| answer.contains("x-stand-in-replica: 0")).expect("in turn");
    let old = answers.iter().find(|answer| answer.contains("x-stand-in-replica: 1")).expect("in turn");
    assert!(new.contains("x-coder-build-version: v9.9.9") && !old.contains("v9.9.9"), "{new} {old}");
    drop(rest);
    let seen = server.end();
    let told = &seen.breaks[0];
    assert_eq!((told.dropped, told.back, told.version_after.as_deref()), (2, 0, Some("v9.9.9")));
    assert!(told.up_at.is_some_and(|up| (0.2..20.0).contains(&(up - told.at))), "{told:?}");
    assert_eq!(seen.client_errors, []);
}

#[test]
fn a_frozen_replica_is_silent_until_it_thaws_and_one_that_is_cut_for_ever() {
    let (server, agent, clients) = four_terminals();
    assert_eq!(order(&server, "0/freeze").1["dropped"], 2);
    let (mut frozen, mut rest) = (Vec::new(), Vec::new());
    for (n, mut client) in (0..).zip(clients) {
        client.type_in("x\n");
        if is_silent(&mut client) { frozen.push((n, client)) } else { rest.push(client) }
    }
    assert_eq!((frozen.len(), rest.len()), (2, 2));
    // One goes elsewhere; the other waits.
    let (gone, waiting) = (frozen.remove(0), frozen.remove(0));
    let mut elsewhere = server.terminal(&agent, gone.0, "never run");
    elsewhere.type_in("y\n");
    elsewhere.shown("y\r\n");
    assert_eq!(order(&server, "0/thaw").0, 200);
    let (n, mut waiting) = waiting;
    assert_eq!(waiting.shown("x\r\n"), "x\r\n", "{n} goes on where it was");
    assert_eq!(elsewhere.shown("x\r\n"), "x\r\n", "and what the other had been sent is typed late");
    assert_eq!(order(&server, "0/cut").0, 200);
    waiting.type_in("z\n");
    assert!(is_silent(&mut waiting));
    assert_eq!(order(&server, "0/start").0, 200);
    assert!(is_silent(&mut waiting), "its replica is another one now");
    let seen = server.end();
    let [freeze, cut] = &seen.breaks[..] else { panic!("{:?}", seen.breaks) };
    assert_eq!((freeze.dropped, freeze.back, freeze.resumed), (2, 1, 1));
    assert_eq!((cut.back, cut.resumed, cut.up_at.is_some()), (0, 0, true), "{cut:?}");
    assert_eq!(seen.client_errors, []);
}

#[test]
fn where_no_replica_is_up_connections_are_reset() {
    let server = Server::start(Version::V2_26, "");
    assert_eq!(order(&server, "0/kill?for=300ms").0, 200);
    let refused = server.raw("GET", "/healthz", "").expect_err("nobody is there");
    assert!(matches!(refused.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{refused}");
    while server.raw("GET", "/healthz", "").is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.end().breaks.len(), 1);
}

#[test]
fn orders_are_the_owners_and_say_what_can_be_ordered() {
    let mut world = World::with(Settings { replicas: 2, users: 1, ..Settings::default() }, "");
    let mut post = |path: &str, token: &str| {
        let request = Request::new("POST", path).with_header("Coder-Session-Token", token);
        let response = world.deployment.handle(world.now, 0, &request);
        (response.status, String::from_utf8_lossy(&response.body).into_owned())
    };
    let owner = post("/api/v2/users/me/keys/tokens", "none").0;
    assert_eq!((owner, post("/stand-in/replicas/0/kill", "none").0), (401, 401));
    let (status, login) = {
        let body = json!({ "email": "member-1@coder.example", "password": Deployment::OWNER_PASSWORD });
        let request = Request::new("POST", "/api/v2/users/login").with_json(&body);
        let response = world.deployment.handle(world.now, 0, &request);
        (response.status, serde_json::from_slice::<Value>(&response.body).expect("JSON"))
    };
    assert_eq!(status, 201);
    let member = login["session_token"].as_str().expect("a token").to_owned();
    let token = world.token.clone();
    let mut post = |path: &str, token: &str| {
        let request = Request::new("POST", path).with_header("Coder-Session-Token", token);
        let response = world.deployment.handle(world.now, 0, &request);
        (response.status, String::from_utf8_lossy(&response.body).into_owned())
    };
    assert_eq!(post("/stand-in/replicas/0/kill", &member).0, 403);
    for (path, status, word) in [
        ("/stand-in/replicas/2/kill", 404, "take 0 to 1"),
        ("/stand-in/replicas/0/burn", 400, "kill, drain, freeze, thaw, cut, start or restart"),
        ("/stand-in/replicas/0/kill?for=soon", 400, "for: "),
        ("/stand-in/replicas/0/kill?until=5s", 400, "take for, every, how or version"),
        ("/stand-in/replicas/0/start", 409, "it is there"),
        ("/stand-in/replicas/roll?for=5s&every=5s", 400, "no longer than"),
        ("/stand-in", 200, "Coder"),
        ("/stand-in/else", 404, "GET /stand-in/replicas"),
    ] {
        let (got, said) = post(path, &token);
        assert!(got == status && said.contains(word), "{path}: {got} {said}");
    }
}
