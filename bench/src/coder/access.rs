//! Who asks, and whether the request may have come from elsewhere.

use std::borrow::Cow;

use scale_ring::Time;
use uuid::Uuid;

use super::deployment::Deployment;
use super::message::{Refusal, Request, Response};
use super::seen::{Seen, Wrong};
use super::state::{Key, UserStatus};

/// The name of the token as a cookie, in the query.
pub(super) const SESSION: &str = "coder_session_token";
/// The name of the token as a header.
pub(super) const SESSION_HEADER: &str = "Coder-Session-Token";

enum Place {
    Cookie,
    Query,
    Header,
    Bearer,
}

/// The token, in the server's order: cookie, query, header, and since July 2025 bearer and
/// `access_token`.
fn token<'a>(deployment: &Deployment, request: &'a Request) -> Option<(Cow<'a, str>, Place)> {
    let query = |name| request.query(name).map(|token| (Cow::Owned(token), Place::Query));
    let found = request
        .cookie(SESSION)
        .map(|token| (Cow::Borrowed(token), Place::Cookie))
        .or_else(|| query(SESSION))
        .or_else(|| request.header(SESSION_HEADER).map(|token| (Cow::Borrowed(token), Place::Header)));
    if found.is_some() || !deployment.settings.version.reads_bearer() {
        return found;
    }
    let bearer = request.header("Authorization").and_then(|value| value.strip_prefix("Bearer "));
    bearer.map(|token| (Cow::Borrowed(token), Place::Bearer)).or_else(|| query("access_token"))
}

/// The key behind a token, if it is one of ours and has not expired.
pub(super) fn valid<'a>(deployment: &'a Deployment, now: Time, token: &str) -> Option<&'a Key> {
    let (id, secret) = token.split_once('-')?;
    deployment.keys.get(id).filter(|key| key.secret == secret && now < key.expires)
}

/// The key of the request, without noting its use.
pub(super) fn find_key<'a>(deployment: &'a Deployment, now: Time, request: &Request) -> Option<&'a Key> {
    valid(deployment, now, &token(deployment, request)?.0)
}

/// Who asks. The first use makes a dormant user active.
pub(super) fn actor(deployment: &mut Deployment, now: Time, request: &Request) -> Result<Uuid, Refusal> {
    const SIGN_IN: &str = "You are signed out or your session has expired. Please sign in again to continue.";
    let refusal = |detail: &str| Refusal::new(401, SIGN_IN).detail(detail);
    let Some((token, place)) = token(deployment, request) else {
        let detail =
            format!("Cookie or query parameter \"{SESSION}\", or header \"{SESSION_HEADER}\", is missing.");
        return Err(refusal(&detail));
    };
    let Some((id, _)) = token.split_once('-').filter(|(id, secret)| id.len() == 10 && secret.len() == 22)
    else {
        return Err(refusal("The token's format is invalid."));
    };
    let expired = deployment.keys.get(id).is_some_and(|key| now >= key.expires);
    let Some(user) = valid(deployment, now, &token).map(|key| key.user) else {
        return Err(refusal(if expired { "The token has expired." } else { "The token is unknown." }));
    };
    let credentials = &mut deployment.seen.credentials;
    *match place {
        Place::Cookie => &mut credentials.cookie,
        Place::Query => &mut credentials.query,
        Place::Header => &mut credentials.header,
        Place::Bearer => &mut credentials.bearer,
    } += 1;
    let record = deployment.users.get_mut(&user).expect("keys go with their user");
    if record.status == UserStatus::Suspended {
        return Err(Refusal::new(401, "User is not active (status = \"suspended\")."));
    }
    record.status = UserStatus::Active;
    record.last_seen = Some(now);
    deployment.keys.get_mut(id).expect("just found").last_used = now;
    Ok(user)
}

/// Refuses what a browser might have been talked into; notes what a program should not send.
pub(super) fn cross_site(seen: &mut Seen, request: &Request) -> Option<Response> {
    let place = || format!("{} {}", request.method, request.path);
    if let Some(origin) = request.header("Origin") {
        seen.wrong(Wrong::Origin, place());
        let host = origin.split_once("://").map_or(origin, |(_, host)| host);
        if request.is_upgrade() && request.header("Host") != Some(host) {
            let sentence = format!("request Origin \"{origin}\" is not authorized for Host\n");
            return Some(Response::text(403, &sentence));
        }
    }
    let (cookie, header) = (request.cookie(SESSION), request.header(SESSION_HEADER));
    if let (Some(cookie), Some(header)) = (cookie, header)
        && cookie != header
    {
        seen.wrong(Wrong::CookieHeaderMismatch, place());
        let sentence =
            "CSRF error encountered. The session token in the cookie is not the one in the header.\n";
        return Some(Response::text(400, sentence));
    }
    let changes = !["GET", "HEAD", "OPTIONS"].contains(&request.method.as_str());
    let by_cookie = cookie.is_some() && header.is_none() && request.query(SESSION).is_none();
    let csrf = (request.cookie("csrf_token"), request.header("X-CSRF-TOKEN"));
    if changes && by_cookie && !matches!(csrf, (Some(cookie), Some(header)) if cookie == header) {
        seen.wrong(Wrong::CsrfMissing, place());
        return Some(Response::text(400, "Something is wrong with your CSRF token.\n"));
    }
    None
}
