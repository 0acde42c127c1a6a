//! The server: HTTP/1.1 on a port of its own, faults by rule, and an account of what clients did wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use scale_coder::random::Random;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::terminal::{self, Terminals};
use crate::world::{self, World};

/// What goes wrong, `times` times, with requests whose method and path begin so.
#[derive(Debug, Clone)]
pub struct Fault {
    pub method: &'static str,
    pub path: String,
    pub times: u32,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// This answer instead.
    Answer { status: u16, headers: Vec<(&'static str, &'static str)>, body: &'static str },
    /// The connection breaks before anything is done.
    Break,
    /// It is done, but the connection breaks before the answer.
    Lose,
    /// No answer for so long.
    Hang(Duration),
    /// It is done, and so much later the answer goes out.
    Hold(Duration),
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub body: Value,
    pub peer: SocketAddr,
    pub token: String,
    pub bypass: bool,
}

#[derive(Default)]
pub struct State {
    pub world: World,
    pub faults: Vec<Fault>,
    pub seen: Vec<Seen>,
    /// What no client may do.
    pub wrongs: Vec<String>,
    pub under_way: usize,
    pub under_way_most: usize,
    /// Requests take up to this long before anything is done, and are done even if the client is gone by then.
    pub delay: Duration,
    /// Creates take up to this long.
    pub create_delay: Duration,
    /// Nothing is done until so many requests are under way at once for the first time.
    pub gather: usize,
    /// Answers that are being held back.
    pub held: usize,
    /// Web terminals.
    pub terminals: Terminals,
    /// When the newest user or workspace came to be.
    pub last_made: Option<Instant>,
}

impl State {
    fn is_gathering(&self) -> bool {
        self.under_way_most < self.gather
    }
}

/// A server for one test.
pub struct Fake {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// A server of `version`.
    pub async fn start(version: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State { world: World::new(version), ..State::default() }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            let random = Arc::new(Mutex::new(Random::new(1)));
            while let Ok((socket, peer)) = listener.accept().await {
                socket.set_nodelay(true).expect("a socket");
                let (state, random) = (Arc::clone(&shared), Arc::clone(&random));
                let service =
                    service_fn(move |request| answer(Arc::clone(&state), Arc::clone(&random), peer, request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service)
                    .with_upgrades();
                // Connections that break, break on purpose.
                tokio::spawn(async move { connection.await.unwrap_or(()) });
            }
        });
        Self { url, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no handler panics")
    }

    /// The deployment itself.
    pub fn world(&self) -> WorldGuard<'_> {
        WorldGuard(self.state())
    }

    /// From now on this goes wrong.
    pub fn fault(&self, method: &'static str, path: &str, times: u32, what: What) {
        self.state().faults.push(Fault { method, path: path.into(), times, what });
    }

    /// How many requests of this kind came.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.state().seen.iter().filter(|seen| seen.method == method && seen.path.starts_with(path)).count()
    }

    /// The clients' ports, by token.
    pub fn ports(&self, token: &str) -> BTreeSet<SocketAddr> {
        self.state().seen.iter().filter(|seen| seen.token == token).map(|seen| seen.peer).collect()
    }

    /// Waits until everything that was asked for is done.
    pub async fn quiet(&self) {
        while self.state().under_way > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Nothing was done that no client may do.
    pub fn assert_manners(&self) {
        let wrongs = self.state().wrongs.clone();
        assert!(wrongs.is_empty(), "{wrongs:#?}");
    }
}

/// The deployment, locked.
pub struct WorldGuard<'a>(MutexGuard<'a, State>);

impl std::ops::Deref for WorldGuard<'_> {
    type Target = World;
    fn deref(&self) -> &World {
        &self.0.world
    }
}

impl std::ops::DerefMut for WorldGuard<'_> {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.0.world
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn answer(
    state: Arc<Mutex<State>>,
    random: Arc<Mutex<Random>>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Broken> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let text = |headers: &HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
    };
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: query(head.uri.query().unwrap_or_default()),
        body: if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? },
        peer,
        token: text(&head.headers, "coder-session-token"),
        bypass: head.headers.contains_key("x-coder-bypass-ratelimit"),
    };
    let (fault, delay) = {
        let mut state = state.lock().expect("no handler panics");
        for header in ["cookie", "origin", "authorization"] {
            if head.headers.contains_key(header) {
                state.wrongs.push(format!("{} {} has a header {header}", seen.method, seen.path));
            }
        }
        if seen.bypass && seen.token != world::OWNER_TOKEN {
            state.wrongs.push(format!("{} {} asks to bypass without being owner", seen.method, seen.path));
        }
        if seen.query.values().chain([&seen.path]).any(|text| text.contains(&seen.token))
            && !seen.token.is_empty()
        {
            state.wrongs.push("the token stands in a URL".into());
        }
        state.seen.push(seen.clone());
        state.under_way += 1;
        state.under_way_most = state.under_way_most.max(state.under_way);
        let fits = |fault: &&mut Fault| {
            fault.times > 0 && fault.method == seen.method && seen.path.starts_with(&fault.path)
        };
        let fault = state.faults.iter_mut().find(fits).map(|fault| {
            fault.times -= 1;
            fault.what.clone()
        });
        (fault, if seen.method == "POST" { state.delay.max(state.create_delay) } else { state.delay })
    };
    let wait = random.lock().expect("no handler panics").up_to(delay);
    let work = async move {
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
        while state.lock().expect("no handler panics").is_gathering() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let response = match fault {
            None if seen.path.ends_with("/pty") => Some(open_terminal(&state, &seen, &head.headers, upgrade)),
            fault => act(&state, &seen, fault).await,
        };
        state.lock().expect("no handler panics").under_way -= 1;
        response
    };
    tokio::spawn(work).await?.ok_or_else(|| "broken on purpose".into())
}

/// The 101 of a web terminal, which goes on by itself.
fn open_terminal(
    state: &Arc<Mutex<State>>,
    seen: &Seen,
    headers: &HeaderMap,
    upgrade: hyper::upgrade::OnUpgrade,
) -> Response<Full<Bytes>> {
    let mut locked = state.lock().expect("no handler panics");
    for header in ["sec-websocket-protocol", "sec-websocket-extensions"] {
        if headers.contains_key(header) {
            locked.wrongs.push(format!("{} has a header {header}", seen.path));
        }
    }
    let scripts = &mut locked.terminals.scripts;
    let script = if scripts.len() > 1 { scripts.remove(0) } else { scripts[0].clone() };
    drop(locked);
    tokio::spawn(terminal::serve(upgrade, Arc::clone(state), script));
    let mut response = Response::new(Full::default());
    *response.status_mut() = hyper::StatusCode::SWITCHING_PROTOCOLS;
    let key = headers.get("sec-websocket-key").expect("a key");
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    for (name, value) in
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", &accept)]
    {
        let value = HeaderValue::from_str(value).expect("text");
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    response
}

/// The response; `None` where the connection breaks instead.
async fn act(state: &Mutex<State>, seen: &Seen, fault: Option<What>) -> Option<Response<Full<Bytes>>> {
    let is_lost = matches!(fault, Some(What::Lose));
    let hold = if let Some(What::Hold(time)) = fault { Some(time) } else { None };
    match fault {
        Some(What::Answer { status, headers, body }) => {
            let mut response = Response::new(Full::from(body));
            *response.status_mut() = status.try_into().expect("a status");
            for (name, value) in headers {
                response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            return Some(response);
        }
        Some(What::Break) => return None,
        Some(What::Hang(time)) => tokio::time::sleep(time).await,
        Some(What::Lose | What::Hold(_)) | None => {}
    }
    let (status, body, version) = {
        let mut state = state.lock().expect("no handler panics");
        let before = state.world.made.len();
        let (status, body) = state.world.handle(seen);
        if state.world.made.len() > before {
            state.last_made = Some(Instant::now());
        }
        (status, body, state.world.version.clone())
    };
    if let Some(wrong) = body.get("wrong") {
        state.lock().expect("no handler panics").wrongs.push(wrong.to_string());
    }
    if is_lost {
        return None;
    }
    if let Some(time) = hold {
        state.lock().expect("no handler panics").held += 1;
        tokio::time::sleep(time).await;
        state.lock().expect("no handler panics").held -= 1;
    }
    if seen.path.starts_with("//") {
        let mut page = Response::new(Full::from("<html>the dashboard</html>"));
        page.headers_mut().insert("content-type", HeaderValue::from_static("text/html; charset=utf-8"));
        return Some(page);
    }
    let mut response =
        Response::new(Full::from(if body.is_null() { String::new() } else { body.to_string() }));
    *response.status_mut() = status.try_into().expect("a status");
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert("x-coder-build-version", HeaderValue::from_str(&version).expect("a version"));
    headers.insert("date", HeaderValue::from_static("Sun, 01 Mar 2026 12:00:00 GMT"));
    Some(response)
}

/// An error as servers write it.
pub fn error(status: u16, message: &str) -> (u16, Value) {
    (status, json!({ "message": message }))
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().expect("two digits"), rest.next().expect("two digits")];
                u8::from_str_radix(std::str::from_utf8(&digits).expect("ASCII"), 16).expect("hex")
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).expect("UTF-8")
}
