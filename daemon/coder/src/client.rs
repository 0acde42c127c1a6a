//! The client: one request after another with everything that good manners ask for.
//!
//! Base URL with `/api/v2` behind it; the token in the header `Coder-Session-Token` and nowhere else; no
//! cookies, no `Origin`, no redirects, no proxies (the protocol's transport and authentication). What passes
//! (no answer, 429, 5xx) is tried again after a full-jitter back-off that honours `Retry-After`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{
    ACCEPT, CONNECTION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::config::{Config, ConfigError, Connections, Pace, base, connection};
use crate::door::Door;
use crate::error::{ApiError, Cause};
use crate::random::Random;
use crate::secret::Token;
use crate::time::{Timestamp, between, from_http_date};
use crate::version::Version;

/// The longest answer that is read; a page of 100 workspaces with agents has some hundreds of KB.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Tries of one request while the limiter refuses it; the flow's own timeout ends it sooner.
pub const LIMITED_TRIES_MAX: u32 = 30;
/// Requests under way at once over one pool of connections; others wait. A user's own client has one.
pub const REQUESTS_AT_ONCE_MAX: usize = 64;
/// Addresses and versions that are told apart in [`Seen`].
pub const SEEN_MAX: usize = 64;

/// What was seen of the server so far, over all clients of one deployment.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Requests sent, tries included.
    pub requests: u64,
    /// Tries after a first one.
    pub retries: u64,
    /// Answers of the rate limiter (429).
    pub rate_limited: u64,
    /// Answers with 5xx.
    pub server_errors: u64,
    /// Requests without an answer.
    pub unanswered: u64,
    /// Answers by the address that gave them, the first [`SEEN_MAX`].
    pub addresses: BTreeMap<SocketAddr, u64>,
    /// Versions by the header `X-Coder-Build-Version`, the first [`SEEN_MAX`].
    pub versions: BTreeSet<String>,
    /// The server's clock at its last answer.
    pub server_time: Option<Timestamp>,
}

impl Seen {
    /// A warning where the server's limiter, and not its capacity, is what was measured.
    pub fn limiter_warning(&self) -> Option<String> {
        (self.rate_limited > 0).then(|| {
            format!(
                "the server's rate limiter refused {} of {} requests: what is measured is the limiter; set \
                 CODER_DANGEROUS_DISABLE_RATE_LIMITS=true on the server for the time of the test",
                self.rate_limited, self.requests
            )
        })
    }
}

struct Shared {
    base: Url,
    config: Config,
    seen: Mutex<Seen>,
    random: Mutex<Random>,
    version: Mutex<Option<Version>>,
}

/// A client with one user's token. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    http: reqwest::Client,
    /// For websockets, which are asked for by HTTP/1.1: the same unless that speaks HTTP/2.
    http1: reqwest::Client,
    gate: Arc<Semaphore>,
    token: Token,
    bypass: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.shared.base.as_str()).finish_non_exhaustive()
    }
}

/// One call: method, path below `/api/v2`, query, body.
pub(crate) struct Call<'a> {
    pub method: Method,
    pub path: &'a str,
    pub query: &'a [(&'a str, String)],
    pub body: Option<&'a Value>,
}

/// What came of a call that makes something, over all its tries.
#[derive(Debug)]
pub struct Outcome<T> {
    /// What the last try brought.
    pub answer: Result<T, ApiError>,
    /// Tries of which nobody knows what came: any of them may still come true at the server.
    pub unknown: u32,
}

impl Client {
    /// A client for `config.url` with `token`.
    ///
    /// # Errors
    /// A URL that is none, that has a user or a query in it, or that is `https` without TLS settings.
    pub fn new(config: Config, token: Token) -> Result<Self, ConfigError> {
        let base = base(&config)?;
        let http = connection(&config, &base)?;
        let http1 = match config.connections {
            Connections::PerUser | Connections::Pooled => http.clone(),
            Connections::PooledHttp2 => {
                connection(&Config { connections: Connections::Pooled, ..config.clone() }, &base)?
            }
        };
        let shared = Shared {
            base,
            seen: Mutex::default(),
            random: Mutex::new(Random::new(config.seed)),
            version: Mutex::default(),
            config,
        };
        Ok(Self { shared: Arc::new(shared), http, http1, gate: gate(), token, bypass: false })
    }

    /// The same deployment for another user: a connection of its own, unless they are pooled.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn for_user(&self, token: Token) -> Result<Self, ConfigError> {
        let mut client = Self { token, bypass: false, ..self.clone() };
        if self.shared.config.connections == Connections::PerUser {
            client.http = connection(&self.shared.config, &self.shared.base)?;
            client.http1 = client.http.clone();
            client.gate = gate();
        }
        Ok(client)
    }

    /// From now on asks the server to spare this client its rate limits. Only for a user with the role owner:
    /// others are refused for it. Servers before February 2026 ignore it.
    pub fn bypass_rate_limits(&mut self, bypass: bool) {
        self.bypass = bypass;
    }

    /// The base URL, without a slash at its end.
    pub fn url(&self) -> &str {
        self.shared.base.as_str().trim_end_matches('/')
    }

    /// The URL's host, with its port where that is not the scheme's own.
    pub fn host(&self) -> String {
        let host = self.shared.base.host_str().unwrap_or_default();
        self.shared.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Its host as it stands in the URL, and the addresses that connections go to.
    pub fn place(&self) -> (String, Vec<SocketAddr>) {
        let host = self.shared.base.host_str().unwrap_or_default();
        (host.trim_matches(['[', ']']).to_owned(), self.shared.config.addresses.clone())
    }

    /// The token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// What its new connections wait at.
    pub fn door(&self) -> Option<&Door> {
        self.shared.config.door.as_ref()
    }

    /// How patiently.
    pub fn pace(&self) -> &Pace {
        &self.shared.config.pace
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        lock(&self.shared.seen).clone()
    }

    /// The server's version, once [`Client::build_info`](crate::calls) or any answer has said it.
    pub fn version(&self) -> Option<Version> {
        *lock(&self.shared.version)
    }

    pub(crate) fn learn_version(&self, text: &str) {
        let mut version = lock(&self.shared.version);
        *version = version.or_else(|| Version::parse(text));
    }

    /// Up to `most`, by the client's own seed.
    pub(crate) fn chance(&self, most: Duration) -> Duration {
        lock(&self.shared.random).up_to(most)
    }

    /// Waits before the next look at something; `watched` things are looked at in all.
    pub(crate) async fn rest(&self, watched: usize) {
        let pace = self.pace();
        let fair =
            Duration::from_secs(1).mul_f64(watched as f64 / f64::from(pace.polls_per_second_max.max(1)));
        let wait = pace.poll.max(fair);
        tokio::time::sleep(wait.mul_f64(0.75) + self.chance(wait / 2)).await;
    }

    /// Waits as after a failed try.
    pub(crate) async fn back_off(&self, tries: u32, asked: Option<Duration>) {
        let wait = self.pace().backoff(tries, asked, &mut lock(&self.shared.random));
        tokio::time::sleep(wait).await;
    }

    /// Calls and reads the answer's JSON; an empty answer reads as `null`. Tries again what passes.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, ApiError> {
        self.outcome(call).await.answer
    }

    /// The same, with an account of the tries that had no answer.
    pub(crate) async fn outcome<T: DeserializeOwned>(&self, call: Call<'_>) -> Outcome<T> {
        let (mut tries, mut unknown) = (Tries::default(), 0);
        loop {
            let (cause, asked) = match self.once(&call).await {
                Ok(body) => {
                    let body: &[u8] = if body.is_empty() { b"null" } else { &body };
                    match serde_json::from_slice(body) {
                        Ok(answer) => return Outcome { answer: Ok(answer), unknown },
                        Err(error) => (Cause::Shape(error.to_string()), None),
                    }
                }
                Err(failed) => failed,
            };
            let path = format!("/api/v2{}", call.path);
            let error = ApiError { method: call.method.to_string(), path, cause: Box::new(cause) };
            unknown += u32::from(error.may_be_done());
            if !self.is_worth_another(&mut tries, &error, asked).await {
                return Outcome { answer: Err(error), unknown };
            }
        }
    }

    /// Waits for the next try, unless there is to be none.
    async fn is_worth_another(&self, tries: &mut Tries, error: &ApiError, asked: Option<Duration>) -> bool {
        let (count, count_max) = match error.status() {
            Some(429) => (&mut tries.limited, LIMITED_TRIES_MAX),
            _ => (&mut tries.failed, self.pace().tries_max),
        };
        *count += 1;
        if !error.is_passing() || *count >= count_max {
            return false;
        }
        lock(&self.shared.seen).retries += 1;
        self.back_off(tries.failed + tries.limited, asked).await;
        true
    }

    /// Asks for a websocket: what is behind the 101. Tries again what passes. It goes over this client's connection,
    /// to the same addresses, and no redirect is followed.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<reqwest::Upgraded, ApiError> {
        let mut tries = Tries::default();
        loop {
            let (cause, asked) = match self.upgrade_once(path, query).await {
                Ok(upgraded) => return Ok(upgraded),
                Err(failed) => failed,
            };
            let path = format!("/api/v2{path}");
            let error = ApiError { method: "GET".into(), path, cause: Box::new(cause) };
            if !self.is_worth_another(&mut tries, &error, asked).await {
                return Err(error);
            }
        }
    }

    async fn upgrade_once(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<reqwest::Upgraded, (Cause, Option<Duration>)> {
        let _pass = self.gate.acquire().await.expect("it is never closed");
        let most = self.pace().request;
        let call = Call { method: Method::GET, path, query, body: None };
        let key = generate_key();
        let asked = self.request(&self.http1, &call).headers(upgrade_headers(&key));
        let answered = tokio::time::timeout(most, async {
            let response = self.send(asked).await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Err(self.read(response).await?));
            }
            if text(response.headers(), SEC_WEBSOCKET_ACCEPT.as_str()) != derive_accept_key(key.as_bytes()) {
                return Err(Cause::NoWebsocket("a 101 whose Sec-WebSocket-Accept does not fit".into()));
            }
            Ok(Ok(response.upgrade().await.map_err(network)?))
        });
        match self.unless_silent(answered.await) {
            Ok(Ok(upgraded)) => Ok(upgraded),
            Ok(Err((status @ 200..=299, ..))) => {
                Err((Cause::NoWebsocket(format!("{status} instead of 101")), None))
            }
            Ok(Err((status, headers, body))) => Err(refusal(status, &headers, &body)),
            Err(cause) => Err((cause, None)),
        }
    }

    /// One try: the body of a good answer, or the cause and what the server asked to wait.
    async fn once(&self, call: &Call<'_>) -> Result<Vec<u8>, (Cause, Option<Duration>)> {
        let _pass = self.gate.acquire().await.expect("it is never closed");
        let answered = tokio::time::timeout(self.pace().request, async {
            let response = self.send(self.request(&self.http, call)).await?;
            self.read(response).await
        });
        let answer = self.unless_silent(answered.await);
        let (status, headers, body) = answer.map_err(|cause| (cause, None))?;
        let content_type = text(&headers, CONTENT_TYPE.as_str());
        match status {
            200..=299 if body.is_empty() || content_type.starts_with("application/json") => Ok(body),
            200..=299 => Err((Cause::NotJson { status, content_type: content_type.to_owned() }, None)),
            _ => Err(refusal(status, &headers, &body)),
        }
    }

    /// Counts what had no answer.
    fn unless_silent<T>(&self, answered: Result<Result<T, Cause>, Elapsed>) -> Result<T, Cause> {
        let answer = answered.unwrap_or_else(|_| Err(Cause::Timeout(self.pace().request)));
        let is_silence = matches!(answer, Err(Cause::Connect(_) | Cause::Network(_) | Cause::Timeout(_)));
        lock(&self.shared.seen).unanswered += u64::from(is_silence);
        answer
    }

    fn request(&self, http: &reqwest::Client, call: &Call<'_>) -> RequestBuilder {
        let mut url = self.shared.base.clone();
        url.set_path(&format!("{}/api/v2{}", url.path().trim_end_matches('/'), call.path));
        let mut request = http.request(call.method.clone(), url);
        request = request.header("Coder-Session-Token", self.token.header());
        request = request.header(ACCEPT, HeaderValue::from_static("application/json"));
        if self.bypass {
            request = request.header("X-Coder-Bypass-Ratelimit", HeaderValue::from_static("true"));
        }
        if !call.query.is_empty() {
            request = request.query(call.query);
        }
        if let Some(body) = call.body {
            let json = HeaderValue::from_static("application/json");
            request = request.header(CONTENT_TYPE, json).body(body.to_string());
        }
        request
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Cause> {
        lock(&self.shared.seen).requests += 1;
        let response = request.send().await.map_err(network)?;
        self.note(&response);
        Ok(response)
    }

    /// Status, headers and body.
    async fn read(&self, mut response: Response) -> Result<(u16, HeaderMap, Vec<u8>), Cause> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(Cause::TooLarge(BODY_BYTES_MAX));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, headers, body))
    }

    /// Takes note of who answered.
    fn note(&self, response: &reqwest::Response) {
        let version = text(response.headers(), "x-coder-build-version").to_owned();
        self.learn_version(&version);
        let mut seen = lock(&self.shared.seen);
        let status = response.status().as_u16();
        seen.rate_limited += u64::from(status == 429);
        seen.server_errors += u64::from(status >= 500);
        if let Some(address) = response.remote_addr()
            && (seen.addresses.len() < SEEN_MAX || seen.addresses.contains_key(&address))
        {
            *seen.addresses.entry(address).or_default() += 1;
        }
        if !version.is_empty() && version.len() < 100 && seen.versions.len() < SEEN_MAX {
            seen.versions.insert(version);
        }
        if let Some(at) = from_http_date(text(response.headers(), DATE.as_str())) {
            seen.server_time = Some(at);
        }
    }
}

/// How often a request failed so far, and why.
#[derive(Debug, Default)]
struct Tries {
    failed: u32,
    limited: u32,
}

/// Why an answer that is no good one is none, and what the server asked to wait.
fn refusal(status: u16, headers: &HeaderMap, body: &[u8]) -> (Cause, Option<Duration>) {
    match status {
        300..=399 => (Cause::Redirect { to: text(headers, LOCATION.as_str()).to_owned() }, None),
        _ => {
            let content_type = text(headers, CONTENT_TYPE.as_str());
            (Cause::refused(status, content_type, body), retry_after(headers))
        }
    }
}

/// What asks for a websocket (RFC 6455, 4.1): no subprotocol, no compression, no origin.
fn upgrade_headers(key: &str) -> HeaderMap {
    let key = HeaderValue::from_str(key).expect("it is base64");
    HeaderMap::from_iter([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        (SEC_WEBSOCKET_KEY, key),
    ])
}

fn gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(REQUESTS_AT_ONCE_MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing is left half done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// What the server asked to wait: seconds, or a date against its own.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let asked = text(headers, RETRY_AFTER.as_str());
    if let Ok(seconds) = asked.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    Some(between(from_http_date(text(headers, DATE.as_str()))?, from_http_date(asked)?))
}

/// The innermost cause, which is the one that says something.
fn network(error: reqwest::Error) -> Cause {
    let (is_unsent, error) = (error.is_connect(), error.without_url());
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if is_unsent { Cause::Connect(inner.to_string()) } else { Cause::Network(inner.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let headers = |after: &str, date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, after.parse().unwrap());
            headers.insert(DATE, date.parse().unwrap());
            retry_after(&headers)
        };
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(headers("12", date), Some(Duration::from_secs(12)));
        assert_eq!(headers("Sun, 06 Nov 1994 08:50:07 GMT", date), Some(Duration::from_secs(30)));
        assert_eq!(headers("later", date), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
