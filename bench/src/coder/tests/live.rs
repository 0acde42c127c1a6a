//! The front end over real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use scale_api::units::Span;
use scale_proto::ws::{self, Opcode};
use scale_ring::host::monotonic_now;

use super::*;
use crate::coder::seen::Seen;
use crate::coder::settings::Terminals;

const PATIENCE: Duration = Duration::from_secs(20);

/// A deployment that is served.
pub(super) struct Server {
    address: SocketAddr,
    token: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Server {
    pub fn start(version: Version, faults: &str) -> Self {
        Self::with(version, faults, |_| {})
    }

    /// One whose builds take 20 ms, where `change` does not say otherwise.
    pub fn with(version: Version, faults: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let ms = |ms: u64| Span::from_ns(ms * MS);
        let mut settings = Settings {
            version,
            acquire_time: ms(0),
            build_time: ms(20),
            build_jitter: ms(0),
            agent_time: ms(1),
            script_time: ms(0),
            ..Settings::default()
        };
        change(&mut settings);
        let faults = Faults::from_toml(faults).expect("right");
        let deployment = Deployment::new(settings, faults, monotonic_now(), 1 << 64 | 2);
        let token = deployment.owner_token().expect("an owner").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            crate::coder::serve::serve(listener, deployment, &stopped).expect("it serves")
        });
        Self { address, token, stop, thread: Some(thread) }
    }

    /// Ends it; what it has seen.
    pub fn end(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it ran").join().expect("it ended well")
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// A request on a connection of its own: status and JSON.
    pub fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let answer = self.raw(method, path, body).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    pub fn raw(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = self.connect();
        let (address, token, length) = (self.address, &self.token, body.len());
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nCoder-Session-Token: {token}\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// A workspace that runs: its id and its agent's.
    pub fn workspace(&self, name: &str) -> (String, String) {
        let (_, organizations) = self.call("GET", "/api/v2/organizations", "");
        let organization = text(&organizations[0]["id"]);
        let (_, templates) = self.call("GET", &format!("/api/v2/organizations/{organization}/templates"), "");
        let template = text(&templates[1]["id"]);
        let path = format!("/api/v2/organizations/{organization}/members/me/workspaces");
        let (status, workspace) =
            self.call("POST", &path, &json!({ "template_id": template, "name": name }).to_string());
        assert_eq!(status, 201, "{workspace}");
        let id = text(&workspace["id"]);
        loop {
            let (_, workspace) = self.call("GET", &format!("/api/v2/workspaces/{id}"), "");
            let agent = &workspace["latest_build"]["resources"][0]["agents"][0];
            if agent["status"] == "connected" {
                return (id, text(&agent["id"]));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn terminal(&self, agent: &str, n: u32, command: &str) -> Client {
        let command: String = form_urlencoded::byte_serialize(command.as_bytes()).collect();
        let reconnect = format!("8f3b8a52-7f0a-4a55-9d8c-1b5b6a1f{n:04}");
        self.open(&format!(
            "/api/v2/workspaceagents/{agent}/pty?reconnect={reconnect}&height=25&width=80&command={command}"
        ))
    }

    pub fn open(&self, path: &str) -> Client {
        let mut stream = self.connect();
        let key = scale_proto::http::Key::from_random([7; 16]);
        let (host, headers) = (self.address.to_string(), format!("Coder-Session-Token: {}\r\n", self.token));
        let request = scale_proto::http::UpgradeRequest {
            host: &host,
            path,
            headers: &headers,
            subprotocol: None,
            key: &key,
        };
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        stream.write_all(&bytes).expect("it reads");
        let mut head = Vec::new();
        let mut byte = [0];
        while scale_proto::http::parse_response(&head, &key, None, None).expect("a 101").is_none() {
            stream.read_exact(&mut byte).expect("a whole head");
            head.extend_from_slice(&byte);
        }
        Client { stream }
    }
}

/// A websocket's client side, frame by frame.
pub(super) struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut header = [0; ws::HEADER_BYTES_MAX];
        let length = ws::write_header(&mut header, opcode, true, payload.len() as u64, Some([0; 4]));
        self.stream.write_all(&[&header[..length], payload].concat()).expect("it reads");
    }

    pub fn type_in(&mut self, text: &str) {
        self.send(Opcode::Binary, (json!({ "data": text }).to_string() + "\n").as_bytes());
    }

    /// The next frame: opcode and payload.
    pub fn frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length)?;
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length)?;
                u64::from_be_bytes(length) as usize
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok((head[0] & 0x0F, payload))
    }

    /// What a terminal shows until it holds `word`.
    pub fn shown(&mut self, word: &str) -> String {
        let mut text = String::new();
        while !text.contains(word) {
            let (opcode, payload) = self.frame().expect("a frame");
            assert_eq!(opcode, 2, "{text}");
            text += &String::from_utf8(payload).expect("text");
        }
        text
    }

    /// What is shown until the Close, its code and reason; it is answered.
    pub fn closed(&mut self) -> (String, u16, String) {
        let mut text = String::new();
        loop {
            let (opcode, payload) = self.frame().expect("a frame");
            if opcode == 8 {
                self.send(Opcode::Close, &payload[..2]);
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                return (text, code, String::from_utf8(payload[2..].to_vec()).expect("text"));
            }
            text += &String::from_utf8(payload).expect("text");
        }
    }
}

#[test]
fn a_terminal_goes_from_its_first_byte_to_the_close_after_ctrl_c() {
    let server = Server::start(Version::V2_26, "");
    let (_, agent) = server.workspace("one");
    let mut client =
        server.terminal(&agent, 1, "echo ready; dd if=/dev/stdin of=/dev/null bs=128 status=none");
    client.shown("ready\r\n");
    client.type_in("abc\n");
    assert_eq!(client.shown("\n"), "abc\r\n");
    // One value over two frames, two in one, the window's size alone.
    client.send(Opcode::Binary, b"{\"data\":\"d");
    client.send(Opcode::Binary, b"ef\"}{\"height\":40,\"width\":120}{\"data\":\"\\n\"}");
    assert_eq!(client.shown("\n"), "def\r\n");
    client.type_in("\u{3}");
    assert_eq!(client.closed(), ("^C".to_owned(), 1000, String::new()));
    let seen = server.end();
    assert_eq!(seen.client_errors, []);
    assert_eq!((seen.sockets.terminals, seen.sockets.sessions, seen.sockets.typed_bytes), (1, 1, 9));
    assert_eq!((seen.connections, seen.messages_received), (1, 4));
}

#[test]
fn two_clients_share_a_process_and_its_end() {
    let server = Server::start(Version::V2_26, "");
    let (_, agent) = server.workspace("one");
    let mut first =
        server.terminal(&agent, 1, "while read line && [ $line != end ]; do echo \"<$line>\"; done");
    first.type_in("a\n");
    assert_eq!(first.shown("<a>\r\n"), "a\r\n<a>\r\n");
    let mut second = server.terminal(&agent, 1, "never run");
    assert_eq!(second.shown("<a>\r\n"), "a\r\n<a>\r\n");
    second.type_in("b\n");
    assert_eq!(
        (first.shown("<b>\r\n"), second.shown("<b>\r\n")),
        ("b\r\n<b>\r\n".to_owned(), "b\r\n<b>\r\n".to_owned())
    );
    first.type_in("end\n");
    assert_eq!((first.closed().1, second.closed().1), (1000, 1000));
    let mut third = server.terminal(&agent, 1, "echo anew");
    assert_eq!(third.closed().0, "anew\r\n");
    assert_eq!(server.end().sockets.sessions, 2);
}

#[test]
fn tens_of_terminals_are_driven_at_once() {
    const TERMINALS: u32 = 40;
    let server = Server::start(Version::V2_26, "");
    let (_, agent) = server.workspace("one");
    let mut clients: Vec<Client> = (0..TERMINALS)
        .map(|n| server.terminal(&agent, n, "echo ready; exec dd of=/dev/null status=none"))
        .collect();
    clients.iter_mut().for_each(|client| drop(client.shown("ready\r\n")));
    for round in 0..10 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.type_in(&format!("{n} in round {round}\n"));
        }
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.shown("\n"), format!("{n} in round {round}\r\n"));
        }
    }
    clients.iter_mut().for_each(|client| client.type_in("\u{3}"));
    for client in &mut clients {
        assert_eq!(client.closed(), ("^C".to_owned(), 1000, String::new()));
    }
    let seen = server.end();
    assert_eq!((seen.sockets.sessions, seen.client_errors), (u64::from(TERMINALS), vec![]));
}

#[test]
fn hundreds_of_emulated_terminals_echo_as_real_ones_do_beside_a_real_shell() {
    const TERMINALS: u32 = 300;
    let server = Server::with(Version::V2_26, "", |settings| settings.terminals = Terminals::Emulated);
    let (_, agent) = server.workspace("one");
    let command = scale_proto::coder::paced_command(128);
    let mut clients: Vec<Client> = (0..TERMINALS).map(|n| server.terminal(&agent, n, &command)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.type_in(&format!("{n}\t!\n"));
        assert_eq!(client.shown("\n"), format!("{n}\t!\r\n"));
        client.type_in("\u{3}");
        assert_eq!(client.closed(), ("^C".to_owned(), 1000, String::new()));
    }
    assert_eq!(server.terminal(&agent, TERMINALS, "echo $((6 * 7))").closed().0, "42\r\n");
    let seen = server.end();
    assert_eq!((seen.sockets.sessions, seen.client_errors), (u64::from(TERMINALS) + 1, vec![]));
}

#[test]
fn hundreds_of_emulated_commands_sleep_side_by_side_print_and_close_in_order() {
    const TERMINALS: u32 = 300;
    let server = Server::with(Version::V2_26, "", |settings| settings.terminals = Terminals::Emulated);
    let (_, agent) = server.workspace("one");
    let begin = monotonic_now();
    let clients: Vec<Client> = (0..TERMINALS)
        .map(|n| {
            let mut client = server.terminal(&agent, n, "sleep 2 && echo hello");
            client.type_in("\u{12}");
            client
        })
        .collect();
    for mut client in clients {
        assert_eq!(client.closed(), ("^R\r\nhello\r\n".to_owned(), 1000, String::new()));
    }
    assert!(monotonic_now().ns_since(begin) >= 2 * S);
    assert_eq!(server.end().client_errors, vec![]);
}

#[test]
fn what_a_client_does_wrong_is_answered_as_its_version_does_and_noted() {
    let big = vec![b' '; 40_000];
    type Mistake<'a> = (Version, Opcode, &'a [u8], Option<u16>, Wrong);
    let mistakes: [Mistake<'_>; 5] = [
        (Version::V2_26, Opcode::Text, b"{\"data\":\"x\"}", Some(1003), Wrong::Opcode),
        (Version::V2_26, Opcode::Binary, b"no JSON", Some(1000), Wrong::Input),
        (Version::V2_18, Opcode::Binary, &big, Some(1009), Wrong::MessageTooBig),
        (Version::V2_26, Opcode::Binary, &big, None, Wrong::MessageTooBig),
        (Version::V2_8, Opcode::Continuation, b"", Some(1002), Wrong::Frame),
    ];
    for (version, opcode, payload, code, wrong) in mistakes {
        let server = Server::start(version, "");
        let (_, agent) = server.workspace("one");
        let mut client = server.terminal(&agent, 1, "echo ready; exec cat");
        client.shown("ready\r\n");
        client.send(opcode, payload);
        match code {
            Some(code) => assert_eq!(client.closed().1, code, "{version} {wrong:?}"),
            None => {
                client.type_in("on\n");
                assert_eq!(client.shown("on\r\non\r\n"), "on\r\non\r\n");
            }
        }
        let errors = server.end().client_errors;
        assert_eq!(
            errors.iter().map(|error| (error.kind, error.count)).collect::<Vec<_>>(),
            [(wrong, 1)],
            "{version}"
        );
    }
}

#[test]
fn an_agent_that_cannot_be_dialled_closes_with_1011_after_the_101() {
    let server = Server::start(Version::V2_26, "[[fault]]\nkind = 'dial'\nafter = '50ms'\ntimes = 1");
    let (id, agent) = server.workspace("one");
    let (shown, code, reason) = server.terminal(&agent, 1, "echo never").closed();
    assert_eq!((shown, code), (String::new(), 1011));
    assert!(reason.starts_with("dial workspace agent:"), "{reason}");
    // A terminal whose workspace is stopped is closed, and the next cannot be dialled.
    let mut open = server.terminal(&agent, 2, "echo ready; exec cat");
    open.shown("ready\r\n");
    assert_eq!(
        server.call("POST", &format!("/api/v2/workspaces/{id}/builds"), "{\"transition\":\"stop\"}").0,
        201
    );
    assert_eq!(open.closed().1, 1000);
    assert_eq!(server.terminal(&agent, 3, "echo never").closed().1, 1011);
}

#[test]
fn a_stream_breaks_stalls_or_starts_late_where_a_rule_says_so() {
    let faults = "
        [[fault]]\nkind = 'reset'\nworkspace = 'breaks'\nafter = '1s'
        [[fault]]\nkind = 'reset'\non = 'GET /api/v2/users/me'
        [[fault]]\nkind = 'no_pong'\nworkspace = 'mute'
        [[fault]]\nkind = 'agent_lost'\nworkspace = 'lost'\nafter = '2s'
        [[fault]]\nkind = 'slow'\non = 'GET /api/v2/debug/ws'\ndelay = '200ms'";
    let server = Server::start(Version::V2_26, faults);
    let (_, agent) = server.workspace("breaks");
    let mut client = server.terminal(&agent, 1, "echo ready; exec cat");
    client.shown("ready\r\n");
    assert_eq!(client.frame().expect_err("it breaks").kind(), ErrorKind::ConnectionReset);
    let broken = server.raw("GET", "/api/v2/users/me", "").expect_err("it breaks");
    assert_eq!(broken.kind(), ErrorKind::ConnectionReset);

    let (_, agent) = server.workspace("mute");
    let mut client = server.terminal(&agent, 2, "echo ready; exec cat");
    client.shown("ready\r\n");
    client.send(Opcode::Ping, b"?");
    client.type_in("x\n");
    assert_eq!(client.shown("x\r\nx\r\n"), "x\r\nx\r\n");

    let (_, agent) = server.workspace("lost");
    let mut client = server.terminal(&agent, 3, "echo ready; exec cat");
    client.shown("ready\r\n");
    std::thread::sleep(Duration::from_millis(2_100));
    client.type_in("x\n");
    client.stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    assert_eq!(client.frame().expect_err("silence").kind(), ErrorKind::WouldBlock);
    assert_eq!(server.terminal(&agent, 4, "echo never").closed().1, 1011);

    let asked = monotonic_now();
    let mut echo = server.open("/api/v2/debug/ws");
    assert!(monotonic_now().ns_since(asked) >= 200 * MS);
    echo.send(Opcode::Text, b"hello");
    assert_eq!(echo.frame().expect("an echo"), (1, b"hello".to_vec()));
}

#[test]
fn the_listeners_of_a_workspace_echo_drop_and_send() {
    let server = Server::start(Version::V2_26, "");
    server.workspace("one");
    let mut echo = server.open("/@admin/one.main/apps/wsec/");
    echo.send(Opcode::Binary, &[0, 255, 10]);
    assert_eq!(echo.frame().expect("an echo"), (2, vec![0, 255, 10]));
    let mut random = server.open("/@admin/one/apps/wsra/");
    let (one, other) = (random.frame().expect("a frame"), random.frame().expect("another"));
    assert!(one.0 == 2 && one.1.len() == 1024 && one != other);
    let mut discard = server.open("/@admin/one/apps/wsdi/");
    discard.send(Opcode::Binary, &[1; 1000]);
    discard.send(Opcode::Ping, b"after it");
    assert_eq!(discard.frame().expect("a pong"), (10, b"after it".to_vec()));
    let seen = server.end();
    assert_eq!((seen.sockets.apps, seen.payload_bytes_received), (3, 1003));
}

#[test]
fn a_builds_log_is_followed_to_its_end_and_nothing_may_be_said() {
    let server = Server::with(Version::V2_26, "", |settings| settings.build_time = Span::from_ns(S));
    let (id, _) = server.workspace("one");
    let (_, build) =
        server.call("POST", &format!("/api/v2/workspaces/{id}/builds"), "{\"transition\":\"stop\"}");
    let path = format!("/api/v2/workspacebuilds/{}/logs?follow", text(&build["id"]));
    let mut client = server.open(&path);
    let (lines, code, reason) = client.closed();
    let ids: Vec<u64> = serde_json::Deserializer::from_str(&lines)
        .into_iter::<Value>()
        .map(|line| line.expect("JSON")["id"].as_u64().expect("an id"))
        .collect();
    assert!(ids.len() == 7 && ids.is_sorted(), "{lines}");
    assert_eq!((code, reason.as_str()), (1000, "done"));
    let (_, build) =
        server.call("POST", &format!("/api/v2/workspaces/{id}/builds"), "{\"transition\":\"start\"}");
    let mut talker = server.open(&format!("/api/v2/workspacebuilds/{}/logs?follow", text(&build["id"])));
    talker.send(Opcode::Text, b"hello");
    assert_eq!(talker.closed().1, 1008);
    let errors = server.end().client_errors;
    assert_eq!(errors.iter().map(|error| error.kind).collect::<Vec<_>>(), [Wrong::SpokeOnLogs]);
}

#[test]
fn connections_go_to_the_replicas_in_turn_and_stay_there() {
    let server = Server::with(Version::V2_26, "", |settings| settings.replicas = 3);
    let replica =
        |answer: &str| answer.split_once("x-stand-in-replica: ").expect("a header").1[..1].to_owned();
    let replicas: Vec<String> =
        (0..6).map(|_| replica(&server.raw("GET", "/healthz", "").expect("an answer"))).collect();
    assert_eq!(replicas, ["0", "1", "2", "0", "1", "2"]);
    let mut kept = server.connect();
    for _ in 0..3 {
        write!(kept, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
        let mut answer = vec![0; 4096];
        let bytes = kept.read(&mut answer).expect("an answer");
        assert_eq!(replica(&String::from_utf8_lossy(&answer[..bytes])), "0");
    }
    let seen = server.end();
    assert_eq!(
        seen.replicas.iter().map(|replica| (replica.connections, replica.requests)).collect::<Vec<_>>(),
        [(3, 5), (2, 2), (2, 2)]
    );
}
