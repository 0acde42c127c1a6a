//! Users: who there is, who may be made and who may go.

use scale_ring::Time;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::deployment::{Call, Deployment};
use super::message::{Answer, Refusal, Response};
use super::seen::Wrong;
use super::state::{Role, User, UserStatus};

impl Deployment {
    /// The body as `T`. Fields that are not known are ignored, as Go does.
    pub(super) fn body<T: DeserializeOwned>(&mut self, call: &Call<'_>) -> Result<T, Refusal> {
        serde_json::from_slice(&call.request.body).map_err(|error| {
            self.seen.wrong(Wrong::Body, format!("{} {}: {error}", call.request.method, call.request.path));
            Refusal::new(400, "Request body must be valid JSON.").detail(error.to_string())
        })
    }

    /// `{user}`: a UUID, a name or `me`, of somebody whom the caller may see.
    pub(super) fn user_of(&self, call: &Call<'_>, index: usize) -> Result<Uuid, Refusal> {
        let text = call.arg(index);
        let found = match Uuid::parse_str(text) {
            _ if text == "me" => Some(call.actor),
            Ok(id) => Some(id).filter(|id| self.users.contains_key(id)),
            Err(_) => self.user_named(text),
        };
        found.filter(|user| *user == call.actor || self.sees_users(call.actor)).ok_or_else(Refusal::not_found)
    }

    pub(super) fn user_named(&self, name: &str) -> Option<Uuid> {
        self.users.values().find(|user| user.username.eq_ignore_ascii_case(name)).map(|user| user.id)
    }

    fn sees_users(&self, actor: Uuid) -> bool {
        [Role::Owner, Role::UserAdmin, Role::Auditor].into_iter().any(|role| self.has_role(actor, role))
    }

    pub(super) fn manages_users(&self, actor: Uuid) -> bool {
        self.has_role(actor, Role::Owner) || self.has_role(actor, Role::UserAdmin)
    }

    /// `limit` and `offset`, over rows that were counted before.
    pub(super) fn page<T>(call: &Call<'_>, rows: Vec<T>) -> Result<Vec<T>, Refusal> {
        let number = |name: &str| {
            let text = call.request.query(name).filter(|text| !text.is_empty());
            text.map_or(Ok(0), |text| {
                text.parse::<usize>().map_err(|_| {
                    let detail = format!("Query param \"{name}\" must be a valid positive integer");
                    Refusal::new(400, "Query parameters have invalid values.").field(name, detail)
                })
            })
        };
        let (limit, offset) = (number("limit")?, number("offset")?);
        let limit = if limit == 0 { usize::MAX } else { limit };
        Ok(rows.into_iter().skip(offset).take(limit).collect())
    }
}

/// 1 to 32 characters: words of letters and digits with single hyphens between.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), Refusal> {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let right = name.len() <= 32 && name.split('-').all(word) && !["new", "create"].contains(&name);
    if right {
        return Ok(());
    }
    let detail =
        "must be 1 to 32 letters, digits and single hyphens within, and neither \"new\" nor \"create\"";
    Err(Refusal::new(400, "Validation failed.").field(field, detail))
}

/// 52 bits at least, counted from the kinds of characters; runs of more than two count as two.
fn check_password(password: &str) -> Result<(), Refusal> {
    const BITS_MIN: f64 = 52.0;
    let has = |test: fn(&u8) -> bool| password.bytes().any(|byte| test(&byte));
    let mut alphabet = 0;
    for (there, size) in [
        (has(u8::is_ascii_lowercase), 26),
        (has(u8::is_ascii_uppercase), 26),
        (has(u8::is_ascii_digit), 10),
        (has(|byte| !byte.is_ascii_alphanumeric()), 32),
    ] {
        alphabet += if there { size } else { 0 };
    }
    let bytes = password.as_bytes();
    let counted =
        (0..bytes.len()).filter(|&at| at < 2 || bytes[at] != bytes[at - 1] || bytes[at] != bytes[at - 2]);
    let bits = counted.count() as f64 * f64::from(alphabet.max(1)).log2();
    let what = match password.len() {
        65.. => "must be no more than 64 characters",
        _ if bits < BITS_MIN => "insecure password, try a longer one with more kinds of characters",
        _ => return Ok(()),
    };
    Err(Refusal::new(400, "Password is not strong enough!").field("password", what))
}

pub(super) fn first(deployment: &mut Deployment, _: &Call<'_>) -> Answer {
    if deployment.users.is_empty() {
        return Err(Refusal::new(404, "The initial user has not been created!"));
    }
    Ok(Response::json(200, &json!({ "message": "The initial user has already been created!" })))
}

#[derive(Deserialize)]
struct CreateFirst {
    email: String,
    username: String,
    password: String,
}

pub(super) fn create_first(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let CreateFirst { email, username, password } = deployment.body(call)?;
    if !deployment.users.is_empty() {
        return Err(Refusal::new(409, "The initial user has already been created."));
    }
    check_name("username", &username)?;
    check_password(&password)?;
    let user = deployment.add_first_user(&username, &email, &password, call.now);
    let organization = deployment.organizations[0].id.to_string();
    Ok(Response::json(201, &json!({ "user_id": user.to_string(), "organization_id": organization })))
}

#[derive(Deserialize)]
struct Login {
    email: String,
    password: String,
}

pub(super) fn login(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    const SESSION_NS: u64 = 24 * 3_600 * 1_000_000_000;
    let Login { email, password } = deployment.body(call)?;
    let right = |user: &&User| {
        user.email.eq_ignore_ascii_case(&email) && user.password.as_deref() == Some(password.as_str())
    };
    let Some(user) = deployment.users.values().find(right) else {
        return Err(Refusal::new(401, "Incorrect email or password."));
    };
    if user.status == UserStatus::Suspended {
        return Err(Refusal::new(
            401,
            "Your account is suspended. Contact an admin to reactivate your account.",
        ));
    }
    let id = user.id;
    let user = deployment.users.get_mut(&id).expect("just found");
    (user.status, user.last_seen) = (UserStatus::Active, Some(call.now));
    let token = deployment.add_key(id, String::new(), call.now, SESSION_NS);
    let cookie = format!("{}={token}; Path=/; HttpOnly; SameSite=Lax", super::access::SESSION);
    Ok(Response::json(201, &json!({ "session_token": token })).with_header("Set-Cookie", cookie))
}

pub(super) fn list(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    if !deployment.sees_users(call.actor) {
        return Err(Refusal::forbidden());
    }
    let query = call.request.query("q").unwrap_or_default().to_lowercase();
    let mut words = Vec::new();
    let (mut status, mut role) = (None, None);
    for term in super::search::terms(&query)? {
        match (term.key.as_deref(), term.value) {
            (None, value) => words.push(value),
            (Some("status"), value) => status = Some(value),
            (Some("role"), value) => role = Some(value),
            (Some(key), _) => return Err(super::search::unknown_key(key)),
        }
    }
    let fits = |user: &&User| {
        let has = |word: &String| {
            user.username.to_lowercase().contains(word) || user.email.to_lowercase().contains(word)
        };
        words.iter().all(has)
            && status.as_ref().is_none_or(|status| user.status.name() == status)
            && role.as_ref().is_none_or(|role| user.roles.iter().any(|has| has.name() == role))
    };
    let mut users: Vec<&User> = deployment.users.values().filter(fits).collect();
    users.sort_by_key(|user| user.username.to_lowercase());
    let count = users.len();
    if let Some(after) = call.request.query("after_id").and_then(|id| Uuid::parse_str(&id).ok()) {
        let from = users.iter().position(|user| user.id == after).map_or(0, |at| at + 1);
        users.drain(..from);
    }
    let users: Vec<Value> =
        Deployment::page(call, users)?.into_iter().map(|user| deployment.view_user(user)).collect();
    Ok(Response::json(200, &json!({ "users": users, "count": count })))
}

#[derive(Deserialize)]
struct Create {
    email: String,
    username: String,
    name: Option<String>,
    password: Option<String>,
    login_type: Option<String>,
    user_status: Option<String>,
    organization_id: Option<Uuid8>,
    organization_ids: Option<Vec<Uuid8>>,
}

/// A UUID within JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Uuid8(pub Uuid);

impl<'de> Deserialize<'de> for Uuid8 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Uuid::parse_str(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

pub(super) fn create(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let body: Create = deployment.body(call)?;
    let version = deployment.settings.version;
    if !deployment.manages_users(call.actor) {
        return Err(Refusal::forbidden());
    }
    check_name("username", &body.username)?;
    if !body.email.contains('@') {
        return Err(Refusal::new(400, "Validation failed.").field("email", "must be an email address"));
    }
    // Old servers do not know the list; new ones fold the single field into it.
    let listed = body.organization_ids.filter(|_| version.has_users_workspaces()).unwrap_or_default();
    let mut organizations: Vec<Uuid> =
        listed.into_iter().chain(body.organization_id).map(|Uuid8(id)| id).collect();
    organizations.dedup();
    if organizations.is_empty() {
        return Err(Refusal::new(400, "Validation failed.").field("organization_id", "is required"));
    }
    if let Some(id) = organizations.iter().find(|id| deployment.organization_name(**id).is_empty()) {
        return Err(Refusal::new(404, format!("Organization does not exist with the provided id \"{id}\".")));
    }
    let login_type = body.login_type.filter(|kind| !kind.is_empty()).unwrap_or_else(|| "password".to_owned());
    if login_type == "password" {
        check_password(body.password.as_deref().unwrap_or(""))?;
    }
    let taken = |user: &User| {
        user.username.eq_ignore_ascii_case(&body.username) || user.email.eq_ignore_ascii_case(&body.email)
    };
    if deployment.users.values().any(taken) {
        return Err(Refusal::new(409, "User already exists."));
    }
    let status = match body.user_status.as_deref().filter(|_| version.reads_user_status()) {
        Some("active") => UserStatus::Active,
        None | Some("" | "dormant") => UserStatus::Dormant,
        Some(other) => {
            let detail = format!("\"{other}\" is no status that a new user can have");
            return Err(Refusal::new(400, "Validation failed.").field("user_status", detail));
        }
    };
    let id = deployment.new_id();
    let user = User {
        id,
        username: body.username,
        email: body.email,
        name: body.name.unwrap_or_default(),
        password: body.password,
        login_type,
        status,
        roles: Vec::new(),
        organizations,
        created: call.now,
        last_seen: None,
    };
    let view = deployment.view_user(&user);
    deployment.users.insert(id, user);
    deployment.seen.users.made += 1;
    Ok(Response::json(201, &view))
}

pub(super) fn get(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let user = deployment.user_of(call, 0)?;
    Ok(Response::json(200, &deployment.view_user(&deployment.users[&user])))
}

pub(super) fn delete(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let user = deployment.user_of(call, 0)?;
    if user == call.actor {
        return Err(Refusal::new(403, "You cannot delete yourself!"));
    }
    if !deployment.manages_users(call.actor) {
        return Err(Refusal::forbidden());
    }
    if deployment.names.range((user, String::new())..).next().is_some_and(|((owner, _), _)| *owner == user) {
        return Err(Refusal::new(
            417,
            "You cannot delete a user that has workspaces. Delete their workspaces first.",
        ));
    }
    deployment.users.remove(&user);
    deployment.keys.retain(|_, key| key.user != user);
    deployment.seen.users.deleted += 1;
    if deployment.settings.version.answers_user_delete() {
        return Ok(Response::json(200, &json!({ "message": "User has been deleted!" })));
    }
    Ok(Response::empty(204))
}

#[derive(Deserialize)]
struct Roles {
    roles: Vec<String>,
}

pub(super) fn put_roles(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let user = deployment.user_of(call, 0)?;
    let Roles { roles } = deployment.body(call)?;
    if !deployment.manages_users(call.actor) {
        return Err(Refusal::forbidden());
    }
    if user == call.actor {
        return Err(Refusal::new(400, "You cannot change your own roles."));
    }
    let role = |name: &String| {
        let found = Role::ALL.into_iter().find(|role| role.name() == name);
        found.ok_or_else(|| Refusal::new(400, format!("\"{name}\" is no site role.")))
    };
    let roles = roles.iter().map(role).collect::<Result<Vec<_>, _>>()?;
    let record = deployment.users.get_mut(&user).expect("just found");
    record.roles = roles;
    get(deployment, call)
}

fn set_status(deployment: &mut Deployment, call: &Call<'_>, status: UserStatus) -> Answer {
    let user = deployment.user_of(call, 0)?;
    if !deployment.manages_users(call.actor) {
        return Err(Refusal::forbidden());
    }
    if user == call.actor && status == UserStatus::Suspended {
        return Err(Refusal::new(400, "You cannot suspend yourself."));
    }
    deployment.users.get_mut(&user).expect("just found").status = status;
    get(deployment, call)
}

pub(super) fn suspend(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    set_status(deployment, call, UserStatus::Suspended)
}

pub(super) fn activate(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    set_status(deployment, call, UserStatus::Active)
}

/// Notes that a workspace was used.
pub(super) fn touch(deployment: &mut Deployment, workspace: Uuid, now: Time) {
    if let Some(workspace) = deployment.workspaces.get_mut(&workspace) {
        workspace.last_used = now;
    }
}
