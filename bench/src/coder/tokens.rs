//! Tokens: `POST …/keys/tokens` names them and gives them a lifetime, `POST …/keys` makes a session.

use serde::Deserialize;
use serde_json::{Value, json};

use super::deployment::{Call, Deployment};
use super::message::{Answer, Refusal, Response};
use super::state::{Key, Role};

const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// What a token lives for that says nothing.
const LIFETIME_NS: u64 = 30 * DAY_NS;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Create {
    lifetime: i64,
    scope: Option<String>,
    token_name: Option<String>,
}

/// Tokens for others are an owner's or a user admin's.
fn may(deployment: &Deployment, call: &Call<'_>) -> Result<uuid::Uuid, Refusal> {
    let user = deployment.user_of(call, 0)?;
    if user == call.actor || deployment.manages_users(call.actor) {
        return Ok(user);
    }
    Err(Refusal::forbidden())
}

pub(super) fn create(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let user = may(deployment, call)?;
    // An administrator of users does not become an owner by making a token of one.
    if deployment.has_role(user, Role::Owner) && !deployment.has_role(call.actor, Role::Owner) {
        return Err(Refusal::forbidden());
    }
    let Create { lifetime, scope, token_name } = deployment.body(call)?;
    if !["", "all", "application_connect"].contains(&scope.as_deref().unwrap_or("")) {
        return Err(Refusal::new(400, "Validation failed.").field("scope", "is no scope of a token"));
    }
    let lifetime_ns = match u64::try_from(lifetime) {
        Ok(0) => LIFETIME_NS,
        Ok(ns) => ns,
        Err(_) => {
            return Err(Refusal::new(400, "Failed to validate create API key request.")
                .detail("lifetime must be positive number greater than 0"));
        }
    };
    let name = match token_name.filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => format!("unnamed-{}", deployment.new_id()),
    };
    if deployment.keys.values().any(|key| key.user == user && key.name == name) {
        let refusal = Refusal::new(409, format!("A token with name \"{name}\" already exists."));
        return Err(refusal.field("token_name", "This value is already in use and should be unique."));
    }
    let token = deployment.add_key(user, name, call.now, lifetime_ns);
    Ok(Response::json(201, &json!({ "key": token })))
}

pub(super) fn create_session(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let user = may(deployment, call)?;
    let token = deployment.add_key(user, String::new(), call.now, DAY_NS);
    Ok(Response::json(201, &json!({ "key": token })))
}

fn view(deployment: &Deployment, key: &Key) -> Value {
    json!({
        "id": key.id,
        "user_id": key.user.to_string(),
        "token_name": key.name,
        "login_type": if key.name.is_empty() { "password" } else { "token" },
        "scope": "all",
        "created_at": deployment.timestamp(key.created),
        "updated_at": deployment.timestamp(key.created),
        "last_used": deployment.timestamp(key.last_used),
        "expires_at": deployment.timestamp(key.expires),
        "lifetime_seconds": key.expires.ns_since(key.created) / 1_000_000_000,
    })
}

pub(super) fn list(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let user = may(deployment, call)?;
    let mut keys: Vec<&Key> =
        deployment.keys.values().filter(|key| key.user == user && !key.name.is_empty()).collect();
    keys.sort_by_key(|key| (key.created, &key.name));
    Ok(Response::json(200, &keys.into_iter().map(|key| view(deployment, key)).collect()))
}

pub(super) fn get(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let user = may(deployment, call)?;
    let key = deployment.keys.get(call.arg(1)).filter(|key| key.user == user);
    key.map(|key| Response::json(200, &view(deployment, key))).ok_or_else(Refusal::not_found)
}

pub(super) fn delete(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let user = may(deployment, call)?;
    deployment.keys.get(call.arg(1)).filter(|key| key.user == user).ok_or_else(Refusal::not_found)?;
    deployment.keys.remove(call.arg(1));
    Ok(Response::empty(204))
}
