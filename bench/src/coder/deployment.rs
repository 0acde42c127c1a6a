//! The deployment itself: what is in it, and a request's way through it.
//!
//! The order is the server's: `//` and the dashboard, apps by host, cross-site checks, the route, the
//! limiter (before authentication on old servers, after it on new ones), the token, the handler.
//!
//! Holds always: no clock, no socket, no randomness but the seed's. Before anything else `handle`
//! brings the builds up to `now`, so what is read never depends on how often `poll` was called.

use std::collections::{BTreeMap, HashMap};

use scale_ring::Time;
use scaled::load::random::Random;
use tokio::sync::watch;
use uuid::Uuid;

use super::faults::{Faults, Kind};
use super::limits::{Limiter, Verdict};
use super::message::{Answer, Refusal, Request, Response};
use super::provisioner::Provisioner;
use super::replicas::ledger::Ledger;
use super::replicas::{Fate, Replicas};
use super::routes::{self, Needs};
use super::seen::{Seen, Wrong};
use super::settings::{RateLimits, Settings};
use super::state::{Agent, Build, Key, Organization, Role, User, UserStatus, Workspace};
use super::templates::{BUILT_IN, Template};
use super::{access, apps};

/// A Coder deployment that is not there.
pub struct Deployment {
    pub(super) settings: Settings,
    pub(super) faults: Faults,
    pub(super) seen: Seen,
    pub(super) random: Random,
    pub(super) id: Uuid,
    /// When it began: the age of its templates and organizations.
    pub(super) began: Time,
    pub(super) users: BTreeMap<Uuid, User>,
    pub(super) keys: HashMap<String, Key>,
    pub(super) organizations: Vec<Organization>,
    pub(super) templates: Vec<Template>,
    pub(super) workspaces: BTreeMap<Uuid, Workspace>,
    /// Of workspaces that are not deleted: owner and lower-case name.
    pub(super) names: BTreeMap<(Uuid, String), Uuid>,
    pub(super) builds: HashMap<Uuid, Build>,
    pub(super) agents: HashMap<Uuid, Agent>,
    pub(super) provisioner: Provisioner,
    pub(super) replicas: Replicas,
    limiter: Limiter,
    pub(super) terminals_closed: u64,
    secrets: Random,
    owner_token: Option<String>,
}

/// A request on its way, with what is known of it by then.
pub(super) struct Call<'a> {
    pub now: Time,
    /// Who answers.
    pub replica: u16,
    pub request: &'a Request,
    /// What the route's `{…}` stand for.
    pub args: Vec<String>,
    /// Who asks; nil where nobody needs to say so.
    pub actor: Uuid,
}

impl Call<'_> {
    pub fn arg(&self, index: usize) -> &str {
        &self.args[index]
    }

    /// A `{…}` that must be a UUID.
    pub fn id(&self, index: usize) -> Result<Uuid, Refusal> {
        let text = self.arg(index);
        Uuid::parse_str(text).map_err(|_| Refusal::new(400, format!("Invalid UUID \"{text}\".")))
    }
}

impl Deployment {
    /// The owner's name.
    pub const OWNER: &'static str = "admin";
    /// The owner's password, for `POST /users/login`.
    pub const OWNER_PASSWORD: &'static str = "Stand-In-Deployment-2026";
    /// Whom chance gives a connection changes no id.
    const BALANCE_SEED: u64 = 0xBA1A_4CE5;
    const OWNER_TOKEN_NS: u64 = 365 * 24 * 3_600 * 1_000_000_000;

    /// A deployment of which `settings` passed its check, as it stands at `now`. The lower half of the
    /// seed makes ids, the upper half tokens.
    pub fn new(settings: Settings, mut faults: Faults, now: Time, seed: u128) -> Self {
        faults.begin(now);
        let mut random = Random::new(seed as u64);
        let id = uuid(&mut random);
        let names = ["coder", "second"].map(str::to_owned);
        let organizations =
            names.into_iter().map(|name| Organization { id: uuid(&mut random), name }).collect();
        let seen = Seen {
            version: settings.version.build(),
            replicas: vec![Default::default(); usize::from(settings.replicas)],
            ..Seen::default()
        };
        let mut deployment = Self {
            provisioner: Provisioner::new(settings.provisioners as usize),
            replicas: Replicas::new(
                settings.replicas,
                settings.balance,
                &settings.version.build(),
                seed as u64 ^ Self::BALANCE_SEED,
            ),
            faults,
            seen,
            random,
            id,
            began: now,
            users: BTreeMap::new(),
            keys: HashMap::new(),
            organizations,
            templates: Vec::new(),
            workspaces: BTreeMap::new(),
            names: BTreeMap::new(),
            builds: HashMap::new(),
            agents: HashMap::new(),
            limiter: Limiter::default(),
            terminals_closed: 0,
            secrets: Random::new((seed >> 64) as u64),
            owner_token: None,
            settings,
        };
        deployment.fill(now);
        deployment
    }

    fn fill(&mut self, now: Time) {
        let further = (1..=self.settings.templates).map(|n| (format!("template-{n}"), BUILT_IN[1]));
        let built_in = BUILT_IN.into_iter().map(|row| (row.0.to_owned(), row));
        for (name, (_, deprecated, parameters, resources)) in built_in.chain(further).collect::<Vec<_>>() {
            let (id, version) = (self.new_id(), self.new_id());
            self.templates.push(Template { id, version, name, deprecated, parameters, resources });
        }
        if self.settings.first_boot {
            return;
        }
        let owner = self.add_first_user(Self::OWNER, "admin@coder.example", Self::OWNER_PASSWORD, now);
        self.owner_token = Some(self.add_key(owner, String::new(), now, Self::OWNER_TOKEN_NS));
        for n in 1..=self.settings.users {
            let id = self.new_id();
            let user = User {
                id,
                username: format!("member-{n}"),
                email: format!("member-{n}@coder.example"),
                name: String::new(),
                password: Some(Self::OWNER_PASSWORD.to_owned()),
                login_type: "password".to_owned(),
                status: UserStatus::Active,
                roles: Vec::new(),
                organizations: vec![self.organizations[0].id],
                created: now,
                last_seen: None,
            };
            self.users.insert(id, user);
        }
    }

    /// The owner of a deployment, who is in every organization.
    pub(super) fn add_first_user(&mut self, username: &str, email: &str, password: &str, now: Time) -> Uuid {
        let id = self.new_id();
        let user = User {
            id,
            username: username.to_owned(),
            email: email.to_owned(),
            name: String::new(),
            password: Some(password.to_owned()),
            login_type: "password".to_owned(),
            status: UserStatus::Active,
            roles: vec![Role::Owner],
            organizations: self.organizations.iter().map(|organization| organization.id).collect(),
            created: now,
            last_seen: None,
        };
        self.users.insert(id, user);
        id
    }

    /// The token of the owner; `None` on a first boot.
    pub fn owner_token(&self) -> Option<&str> {
        self.owner_token.as_deref()
    }

    /// What was asked for.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        let mut seen = self.seen.clone();
        seen.users.left = seen.users.made - seen.users.deleted;
        seen.workspaces.left = seen.workspaces.made - seen.workspaces.deleted;
        seen.faults = self.faults.struck().collect();
        seen.breaks = self.replicas.breaks(self.settings.wall_at_zero_ns);
        seen
    }

    /// What was seen, for whoever serves the websockets to add to.
    pub const fn seen_mut(&mut self) -> &mut Seen {
        &mut self.seen
    }

    /// A connection has come: which replica serves it, and what becomes of that; `None`: none is up.
    pub fn connected(&mut self) -> Option<(u16, watch::Receiver<Fate>)> {
        let placed = self.replicas.place()?;
        self.seen.replicas[usize::from(placed.0)].connections += 1;
        Some(placed)
    }

    /// Brings builds up to `now`.
    pub fn poll(&mut self, now: Time) {
        self.advance(now);
    }

    /// Does to replicas what was ordered for by now.
    pub fn poll_replicas(&mut self, now: Time) {
        self.replicas.poll(now);
    }

    /// What websockets there are, for whoever serves them to add to.
    pub const fn ledger(&mut self) -> &mut Ledger {
        self.replicas.ledger()
    }

    /// When `poll` would next change something.
    pub fn next_event(&self) -> Time {
        self.provisioner.next_event(&self.builds)
    }

    /// Answers a request.
    pub fn handle(&mut self, now: Time, replica: u16, request: &Request) -> Response {
        self.advance(now);
        let method = request.method.as_str();
        let path = request.path.as_str();
        if path.starts_with("/stand-in/") {
            let response = self.stand_in(now, request);
            self.seen.request(replica, format!("{method} /stand-in/"), response.status);
            return response;
        }
        let random = &mut self.random;
        let slow = self.faults.strike(&[Kind::Slow], now, Some((method, path)), None, random);
        let delay_ns = slow.map_or(0, |(_, rule)| rule.delay_ns());
        let (endpoint, mut response) = match self.struck(now, method, path) {
            Some(response) => (routes::endpoint(self.settings.version, method, path), response),
            None => self.answer(now, replica, request),
        };
        response.delay_ns += delay_ns;
        let random = &mut self.random;
        let other = self.faults.strike(&[Kind::Version], now, Some((method, path)), None, random);
        let other = other.and_then(|(_, rule)| rule.message().map(str::to_owned));
        let build = other.unwrap_or_else(|| self.replicas.version(replica).to_owned());
        self.seen.request(replica, endpoint, response.status);
        response
            .with_header("X-Coder-Build-Version", build)
            .with_header("X-Stand-In-Replica", replica.to_string())
    }

    /// A fault that stands for the answer.
    fn struck(&mut self, now: Time, method: &str, path: &str) -> Option<Response> {
        let kinds = [Kind::TooManyRequests, Kind::Status];
        let random = &mut self.random;
        if let Some((kind, rule)) = self.faults.strike(&kinds, now, Some((method, path)), None, random) {
            let message = rule.message().map(str::to_owned);
            if kind == Kind::Status {
                let message = message.unwrap_or_else(|| "Internal error, on purpose.".to_owned());
                return Some(Refusal::new(rule.status(), message).into());
            }
            let response: Response = too_many_requests().into();
            return Some(match rule.retry_after_s() {
                Some(seconds) => response.with_header("Retry-After", seconds.to_string()),
                None => response,
            });
        }
        self.faults.strike(&[Kind::Reset], now, Some((method, path)), None, random)?;
        Some(Response { reset: true, ..Response::default() })
    }

    fn answer(&mut self, now: Time, replica: u16, request: &Request) -> (String, Response) {
        let path = request.path.as_str();
        if path.starts_with("//") {
            self.seen.wrong(Wrong::DoubleSlash, format!("{} {path}", request.method));
            return ("//".to_owned(), Response::html(200, "Coder"));
        }
        let by_host = apps::subdomain(&self.settings.app_host, request);
        if by_host.is_some() || path.starts_with("/@") {
            let endpoint = if by_host.is_some() { "app by host" } else { "app by path" };
            let response = match (self.limit(now, replica, request, 0), by_host) {
                (Err(response), _) => *response,
                (Ok(headers), Some(name)) => with_headers(apps::by_host(self, now, request, &name), headers),
                (Ok(headers), None) => with_headers(apps::by_path(self, now, request), headers),
            };
            return (endpoint.to_owned(), response);
        }
        match (request.method.as_str(), path) {
            ("GET", "/healthz") => return ("GET /healthz".to_owned(), Response::text(200, "OK")),
            ("GET", "/latency-check") => return ("GET /latency-check".to_owned(), Response::text(200, "OK")),
            _ if !path.starts_with("/api/v2") => {
                return ("dashboard".to_owned(), Response::html(200, "Coder"));
            }
            _ => {}
        }
        let endpoint = routes::endpoint(self.settings.version, &request.method, path);
        let response = self.api(now, replica, request).unwrap_or_else(Response::from);
        (endpoint, response)
    }

    fn api(&mut self, now: Time, replica: u16, request: &Request) -> Answer {
        if let Some(refused) = access::cross_site(&mut self.seen, request) {
            return Ok(refused);
        }
        let (route, args) = match routes::find(self.settings.version, &request.method, &request.path) {
            Ok(found) => found,
            Err(405) => return Ok(Response::empty(405)),
            Err(_) => return Err(Refusal::new(404, "Route not found.")),
        };
        let login_limit = if route.needs == Needs::Login { self.settings.login_rate_limit } else { 0 };
        let headers = match self.limit(now, replica, request, login_limit) {
            Ok(headers) => headers,
            Err(response) => return Ok(*response),
        };
        let answer = (|| {
            let actor = match route.needs {
                Needs::Nothing | Needs::Login => Uuid::nil(),
                Needs::Token => access::actor(self, now, request)?,
            };
            (route.run)(self, &Call { now, replica, request, args, actor })
        })();
        Ok(with_headers(answer.unwrap_or_else(Response::from), headers))
    }

    /// The limiter's headers, or its refusal. `login_limit` is 0 where the API's own limit holds.
    fn limit(
        &mut self,
        now: Time,
        replica: u16,
        request: &Request,
        login_limit: u32,
    ) -> Result<Vec<(&'static str, String)>, Box<Response>> {
        const BYPASS: &str = "X-Coder-Bypass-Ratelimit";
        let mut identity = request.peer.to_string();
        if self.settings.rate_limits == RateLimits::Off {
            return Ok(Vec::new());
        }
        if self.settings.rate_limits == RateLimits::New && login_limit == 0 {
            let user = access::find_key(self, now, request).map(|key| key.user);
            if request.header(BYPASS) == Some("true") {
                if user.is_some_and(|user| self.has_role(user, Role::Owner)) {
                    return Ok(Vec::new());
                }
                self.seen.wrong(Wrong::BypassWithoutOwner, format!("{} {}", request.method, request.path));
                let sentence = format!("\"{BYPASS}\" provided but the user is not an owner\n");
                return Err(Box::new(Response::text(428, &sentence)));
            }
            identity = user.map_or(identity, |user| user.to_string());
        }
        let limit = if login_limit > 0 { login_limit } else { self.settings.api_rate_limit };
        let Verdict { allowed, limit, remaining, left_ns } =
            self.limiter.take(now, replica, identity, request.path.clone(), limit);
        let reset_s = self.settings.wall_at_zero_ns.saturating_add(now.plus_ns(left_ns).ns()) / 1_000_000_000;
        let headers = vec![
            ("X-RateLimit-Limit", limit.to_string()),
            ("X-RateLimit-Remaining", remaining.to_string()),
            ("X-RateLimit-Reset", reset_s.to_string()),
        ];
        if allowed {
            return Ok(headers);
        }
        let response = with_headers(too_many_requests().into(), headers);
        Err(Box::new(response.with_header("Retry-After", left_ns.div_ceil(1_000_000_000).to_string())))
    }

    pub(super) fn new_id(&mut self) -> Uuid {
        uuid(&mut self.random)
    }

    pub(super) fn has_role(&self, user: Uuid, role: Role) -> bool {
        self.users.get(&user).is_some_and(|user| user.roles.contains(&role))
    }

    /// Makes a key that lives for `lifetime_ns`; its token.
    pub(super) fn add_key(&mut self, user: Uuid, name: String, now: Time, lifetime_ns: u64) -> String {
        let (id, secret) = (self.letters(10), self.letters(22));
        let token = format!("{id}-{secret}");
        let expires = now.plus_ns(lifetime_ns);
        let key = Key { id: id.clone(), secret, user, name, created: now, expires, last_used: now };
        self.keys.insert(id, key);
        token
    }

    fn letters(&mut self, count: usize) -> String {
        const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..count).map(|_| char::from(LETTERS[self.secrets.below(62) as usize])).collect()
    }

    pub(super) fn timestamp(&self, at: Time) -> String {
        super::clock::rfc3339(at, self.settings.wall_at_zero_ns)
    }
}

fn uuid(random: &mut Random) -> Uuid {
    let bits = u128::from(random.next()) << 64 | u128::from(random.next());
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
}

fn too_many_requests() -> Refusal {
    Refusal::new(429, "You've been rate limited for sending too many requests!")
}

fn with_headers(mut response: Response, headers: Vec<(&'static str, String)>) -> Response {
    response.headers.extend(headers.into_iter().map(|(name, value)| (name.to_owned(), value)));
    response
}
