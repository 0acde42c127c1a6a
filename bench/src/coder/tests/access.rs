//! Tokens, cross-site checks, rate limits, faults, and what every response has.

use super::*;
use crate::coder::settings::RateLimits;

fn me() -> Request {
    Request::new("GET", "/api/v2/users/me")
}

#[test]
fn every_response_says_its_build_and_replica() {
    let mut world = World::with(Settings { replicas: 3, ..Settings::default() }, "");
    for path in
        ["/healthz", "/api/v2/buildinfo", "/api/v2/users/me", "//api/v2/users", "/login", "/@a/b/apps/c/"]
    {
        let response = world.deployment.handle(world.now, 2, &Request::new("GET", path));
        assert_eq!(response.header("X-Coder-Build-Version"), Some("v2.26.0+standin"), "{path}");
        assert_eq!(response.header("X-Stand-In-Replica"), Some("2"), "{path}");
    }
    assert_eq!(world.deployment.seen().replicas[2].requests, 6);
    let response = world.send(&Request::new("GET", "/api/v2/buildinfo"));
    assert_eq!(response.value()["version"], "v2.26.0+standin");
    assert_eq!(World::new(Version::V0_24).get("buildinfo").1["version"], "v0.24.1+standin");
}

#[test]
fn two_slashes_get_the_dashboard_with_200() {
    let mut world = World::new(Version::V2_26);
    let response = world.send(&Request::new("GET", "//api/v2/users/me"));
    assert_eq!((response.status, world.wrong(Wrong::DoubleSlash)), (200, 1));
    assert!(response.header("Content-Type").is_some_and(|kind| kind.starts_with("text/html")));
}

#[test]
fn a_path_that_is_not_there_is_404_in_json_and_a_wrong_method_405() {
    let mut world = World::new(Version::V2_26);
    assert_eq!(world.get("nothing").0, 404);
    assert_eq!(world.call("PATCH", "users", None).0, 405);
}

#[test]
fn tokens_are_looked_for_in_the_servers_order() {
    const BAD: &str = "AAAAAAAAAA-BBBBBBBBBBBBBBBBBBBBBB";
    let mut world = World::new(Version::V2_26);
    let token = world.token.clone();
    let cookie = |token: &str| ("Cookie".to_owned(), format!("a=b; coder_session_token={token}"));
    let header = |token: &str| ("Coder-Session-Token".to_owned(), token.to_owned());
    let bearer = |token: &str| ("Authorization".to_owned(), format!("Bearer {token}"));
    let session = |token: &str| format!("coder_session_token={token}");
    let access = |token: &str| format!("access_token={token}");
    for (headers, query, on_new, on_old) in [
        (vec![cookie(&token)], String::new(), 200, 200),
        (vec![], session(&token), 200, 200),
        (vec![header(&token)], String::new(), 200, 200),
        (vec![bearer(&token)], String::new(), 200, 401),
        (vec![], access(&token), 200, 401),
        (vec![cookie(BAD)], session(&token), 401, 401),
        (vec![header(&token)], session(BAD), 401, 401),
        (vec![header(BAD), bearer(&token)], String::new(), 401, 401),
        (vec![bearer(BAD)], access(&token), 401, 401),
        (vec![header("nonsense")], String::new(), 401, 401),
        (vec![], String::new(), 401, 401),
    ] {
        let request = Request { headers: headers.clone(), query: query.clone(), ..me() };
        assert_eq!(world.send(&request).status, on_new, "{headers:?} {query}");
        let mut old = World::new(Version::V2_18);
        assert_eq!(old.send(&request).status, on_old, "old: {headers:?} {query}");
    }
    let credentials = world.deployment.seen().credentials;
    assert_eq!((credentials.cookie, credentials.header, credentials.bearer), (1, 1, 1));
}

#[test]
fn cookie_and_header_that_differ_are_400_and_an_origin_of_elsewhere_403() {
    let mut world = World::new(Version::V2_26);
    let token = world.token.clone();
    let both =
        me().with_header("Cookie", "coder_session_token=other").with_header("Coder-Session-Token", &token);
    assert_eq!((world.send(&both).status, world.wrong(Wrong::CookieHeaderMismatch)), (400, 1));
    let cookie = format!("coder_session_token={token}");
    let change = Request::new("POST", "/api/v2/users/me/keys").with_header("Cookie", &cookie);
    assert_eq!((world.send(&change).status, world.wrong(Wrong::CsrfMissing)), (400, 1));
    let workspace = world.workspace("one", "minimal");
    let agent = world.agents(&workspace).remove(0);
    for (origin, status) in [("http://127.0.0.1", 101), ("http://evil.example", 403)] {
        let request = upgrade(&format!("/api/v2/workspaceagents/{agent}/pty?{RECONNECT}"))
            .with_header("Coder-Session-Token", &token)
            .with_header("Origin", origin);
        assert_eq!(world.send(&request).status, status, "{origin}");
    }
    assert_eq!(world.wrong(Wrong::Origin), 2);
}

#[test]
fn tokens_have_names_lifetimes_and_owners() {
    let mut world = World::new(Version::V2_26);
    let (_, member) = world.user("member");
    let body = json!({ "token_name": "short", "lifetime": 5 * S, "scope": "all" });
    let (status, key) = world.post("users/me/keys/tokens", body.clone());
    let short = text(&key["key"]);
    assert_eq!((status, short.len(), short.find('-')), (201, 33, Some(10)));
    assert_eq!(world.post("users/me/keys/tokens", body).0, 409);
    assert_eq!(world.post("users/member/keys/tokens", json!({ "token_name": "short" })).0, 201);
    assert_eq!(world.post("users/me/keys/tokens", json!({ "lifetime": -1 })).0, 400);
    assert_eq!(world.post("users/me/keys/tokens", json!({ "scope": "nothing" })).0, 400);
    assert_eq!(world.as_user(&short, |world| world.get("users/me").0), 200);
    let (_, key) = world.get(&format!("users/me/keys/{}", &short[..10]));
    assert_eq!((&key["token_name"], &key["lifetime_seconds"]), (&json!("short"), &json!(5)));
    world.pass(5 * S);
    let (status, expired) = world.as_user(&short, |world| world.get("users/me"));
    assert_eq!((status, text(&expired["detail"])), (401, "The token has expired.".to_owned()));
    assert_eq!(world.as_user(&member, |world| world.post("users/admin/keys/tokens", json!({})).0), 404);
    let (status, session) = world.call("POST", "users/me/keys", None);
    assert_eq!(status, 201);
    assert_eq!(
        world.as_user(&text(&session["key"]), |world| world.get("users/me").1["username"].clone()),
        "admin"
    );
}

#[test]
fn the_old_limiter_counts_addresses_and_ignores_the_bypass_the_new_one_counts_users() {
    for (rate_limits, expected) in [
        // Owner's fourth; owner's with the bypass; a member's first; a member's with the bypass.
        (RateLimits::Old, [429, 429, 429, 429]),
        (RateLimits::New, [429, 200, 200, 428]),
        (RateLimits::Off, [200, 200, 200, 200]),
    ] {
        let mut world = World::with(Settings { rate_limits: RateLimits::Off, ..Settings::default() }, "");
        let (_, member) = world.user("member");
        let owner = world.token.clone();
        world.deployment.settings.rate_limits = rate_limits;
        world.deployment.settings.api_rate_limit = 3;
        let ask = |world: &mut World, token: &str, bypass: bool| {
            let mut request = me().with_header("Coder-Session-Token", token);
            if bypass {
                request = request.with_header("X-Coder-Bypass-Ratelimit", "true");
            }
            world.send(&request)
        };
        for remaining in ["2", "1", "0"] {
            let response = ask(&mut world, &owner, false);
            assert_eq!(response.status, 200);
            let header = response.header("X-RateLimit-Remaining");
            assert_eq!(header, Some(remaining).filter(|_| rate_limits != RateLimits::Off));
        }
        let statuses = [(&owner, false), (&owner, true), (&member, false), (&member, true)]
            .map(|(token, bypass)| ask(&mut world, token, bypass).status);
        assert_eq!(statuses, expected, "{rate_limits:?}");
        if rate_limits == RateLimits::Off {
            continue;
        }
        let refused = ask(&mut world, &owner, false);
        assert_eq!((refused.status, refused.header("X-RateLimit-Limit")), (429, Some("3")));
        let wait: u64 = refused.header("Retry-After").expect("it says when").parse().expect("seconds");
        world.pass(wait * S);
        assert_eq!(ask(&mut world, &owner, false).status, 200, "after {wait} s");
    }
}

#[test]
fn logins_have_a_limit_of_their_own() {
    let mut world = World::new(Version::V2_26);
    let body = json!({ "email": "admin@coder.example", "password": Deployment::OWNER_PASSWORD });
    for n in 0..60 {
        assert_eq!(world.post("users/login", body.clone()).0, 201, "{n}");
    }
    assert_eq!(world.post("users/login", body).0, 429);
    assert_eq!(world.get("users/me").0, 200);
}

#[test]
fn each_replica_limits_by_itself() {
    let settings = Settings { replicas: 2, api_rate_limit: 1, ..Settings::default() };
    let mut world = World::with(settings, "");
    let request = Request::new("GET", "/api/v2/buildinfo");
    let mut ask = |replica| world.deployment.handle(world.now, replica, &request).status;
    assert_eq!([ask(0), ask(0), ask(1), ask(1)], [200, 429, 200, 429]);
}

#[test]
fn faults_stand_for_the_answer() {
    let faults = r#"
        [[fault]]
        kind = "too_many_requests"
        on = "GET /api/v2/users/me"
        retry_after = "1500ms"
        times = 1

        [[fault]]
        kind = "status"
        status = 503
        message = "the database is gone"
        on = "GET /api/v2/users/me"
        times = 1

        [[fault]]
        kind = "reset"
        on = "GET /api/v2/users/me"
        times = 1

        [[fault]]
        kind = "slow"
        delay = "2s"
        on = "* /api/v2/users/**"
    "#;
    let mut world = World::with(Settings::default(), faults);
    let request = me().with_header("Coder-Session-Token", &world.token.clone());
    let storm = world.send(&request);
    assert_eq!((storm.status, storm.header("Retry-After")), (429, Some("2")));
    let broken = world.send(&request);
    assert_eq!((broken.status, text(&broken.value()["message"])), (503, "the database is gone".to_owned()));
    assert!(world.send(&request).reset);
    let at_last = world.send(&request);
    assert_eq!((at_last.status, at_last.delay_ns), (200, 2 * S));
    assert_eq!(world.deployment.seen().faults, [1, 1, 1, 4]);
}
