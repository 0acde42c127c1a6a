//! Every endpoint under `/api/v2`: one table.

use super::deployment::{Call, Deployment};
use super::message::Answer;
use super::version::Version;
use super::{agents, builds, logs, misc, organizations, tokens, users, workspaces};

/// What a caller must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// Nothing, but patience: the limit of logins holds.
    Login,
    /// A token.
    Token,
}

/// A row of the table.
pub(super) struct Route {
    pub method: &'static str,
    /// Below `/api/v2/`; `{…}` stands for one part.
    pub pattern: &'static str,
    pub needs: Needs,
    /// Versions that have it.
    pub is_in: fn(Version) -> bool,
    pub run: fn(&mut Deployment, &Call<'_>) -> Answer,
}

type Handler = fn(&mut Deployment, &Call<'_>) -> Answer;

const fn open(method: &'static str, pattern: &'static str, run: Handler) -> Route {
    Route { method, pattern, needs: Needs::Nothing, is_in: |_| true, run }
}

const fn route(method: &'static str, pattern: &'static str, run: Handler) -> Route {
    Route { method, pattern, needs: Needs::Token, is_in: |_| true, run }
}

const fn newer(is_in: fn(Version) -> bool, route: Route) -> Route {
    Route { is_in, ..route }
}

const ROUTES: &[Route] = &[
    open("GET", "buildinfo", misc::build_info),
    open("GET", "users/first", users::first),
    open("POST", "users/first", users::create_first),
    Route { needs: Needs::Login, ..open("POST", "users/login", users::login) },
    route("GET", "users", users::list),
    route("POST", "users", users::create),
    route("GET", "users/{user}", users::get),
    route("DELETE", "users/{user}", users::delete),
    route("PUT", "users/{user}/roles", users::put_roles),
    route("PUT", "users/{user}/status/suspend", users::suspend),
    route("PUT", "users/{user}/status/activate", users::activate),
    route("GET", "users/{user}/organizations", organizations::of_user),
    route("POST", "users/{user}/keys", tokens::create_session),
    route("POST", "users/{user}/keys/tokens", tokens::create),
    route("GET", "users/{user}/keys/tokens", tokens::list),
    route("GET", "users/{user}/keys/{key}", tokens::get),
    route("DELETE", "users/{user}/keys/{key}", tokens::delete),
    newer(Version::has_users_workspaces, route("POST", "users/{user}/workspaces", workspaces::create)),
    route("GET", "users/{user}/workspace/{name}", workspaces::by_name),
    route("GET", "organizations", organizations::list),
    route("GET", "organizations/{org}", organizations::get),
    route("GET", "organizations/{org}/templates", organizations::templates),
    route("POST", "organizations/{org}/members/{user}", organizations::add_member),
    route("DELETE", "organizations/{org}/members/{user}", organizations::remove_member),
    route("POST", "organizations/{org}/members/{user}/workspaces", workspaces::create_in_organization),
    newer(Version::has_templates_list, route("GET", "templates", organizations::all_templates)),
    route("GET", "templates/{template}", organizations::template),
    route("GET", "templateversions/{version}", organizations::version),
    route("GET", "templateversions/{version}/rich-parameters", organizations::parameters),
    route("GET", "workspaces", workspaces::list),
    route("GET", "workspaces/{workspace}", workspaces::get),
    route("GET", "workspaces/{workspace}/builds", builds::list),
    route("POST", "workspaces/{workspace}/builds", builds::create),
    route("POST", "workspaces/{workspace}/usage", workspaces::usage),
    route("GET", "workspacebuilds/{build}", builds::get),
    route("PATCH", "workspacebuilds/{build}/cancel", builds::cancel),
    route("GET", "workspacebuilds/{build}/parameters", builds::parameters),
    route("GET", "workspacebuilds/{build}/resources", builds::resources),
    route("GET", "workspacebuilds/{build}/logs", logs::get),
    newer(Version::has_timings, route("GET", "workspacebuilds/{build}/timings", builds::timings)),
    route("GET", "workspaceagents/{agent}", agents::get),
    route("GET", "workspaceagents/{agent}/logs", agents::logs),
    route("GET", "workspaceagents/{agent}/listening-ports", agents::ports),
    route("GET", "workspaceagents/{agent}/pty", agents::terminal),
    route("GET", "applications/host", misc::app_host),
    route("GET", "deployment/config", misc::config),
    route("GET", "deployment/stats", misc::stats),
    route("GET", "regions", misc::regions),
    route("GET", "debug/ws", misc::echo),
];

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
}

fn fits(pattern: &str, path: &str) -> bool {
    let same =
        |(want, part): (&str, &str)| if want.starts_with('{') { !part.is_empty() } else { want == part };
    parts(pattern).count() == parts(path).count() && parts(pattern).zip(parts(path)).all(same)
}

/// The first row whose pattern fits; a word comes before a `{…}` in the table where both would.
fn rows(version: Version, path: &str) -> impl Iterator<Item = &'static Route> {
    let path = path.strip_prefix("/api/v2/").unwrap_or("").to_owned();
    ROUTES.iter().filter(move |route| (route.is_in)(version) && fits(route.pattern, &path))
}

/// The row for a request, and what its `{…}` stand for; otherwise the status: 404 or 405.
pub(super) fn find(version: Version, method: &str, path: &str) -> Result<(&'static Route, Vec<String>), u16> {
    let Some(route) = rows(version, path).find(|route| route.method == method) else {
        return Err(if rows(version, path).next().is_some() { 405 } else { 404 });
    };
    let path = path.strip_prefix("/api/v2/").expect("it fitted");
    let captured = parts(route.pattern).zip(parts(path)).filter(|(want, _)| want.starts_with('{'));
    let decode = |part| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    Ok((route, captured.map(|(_, part)| decode(part)).collect()))
}

/// A name for counting: the same for all that a row answers.
pub(super) fn endpoint(version: Version, method: &str, path: &str) -> String {
    match find(version, method, path) {
        Ok((route, _)) => format!("{method} /api/v2/{}", route.pattern),
        Err(_) => "no route".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_before_a_name() {
        for (method, path, pattern) in [
            ("GET", "/api/v2/users/first", "users/first"),
            ("GET", "/api/v2/users/me", "users/{user}"),
            ("GET", "/api/v2/users/me/keys/tokens", "users/{user}/keys/tokens"),
            ("POST", "/api/v2/users/me/keys/tokens", "users/{user}/keys/tokens"),
            ("GET", "/api/v2/users/me/keys/abc", "users/{user}/keys/{key}"),
        ] {
            let (route, _) = find(Version::V2_26, method, path).expect(path);
            assert_eq!(route.pattern, pattern, "{path}");
        }
    }

    #[test]
    fn a_path_of_another_method_is_405_and_none_at_all_404() {
        assert_eq!(find(Version::V2_26, "PATCH", "/api/v2/users").err(), Some(405));
        assert_eq!(find(Version::V2_26, "GET", "/api/v2/nothing").err(), Some(404));
        assert_eq!(find(Version::V2_26, "GET", "/api/v2/users/").err(), Some(404));
    }

    #[test]
    fn both_create_routes_are_there_since_2_15_and_one_before() {
        let new = "/api/v2/users/me/workspaces";
        let old = "/api/v2/organizations/x/members/me/workspaces";
        for version in Version::ALL {
            assert_eq!(find(version, "POST", new).is_ok(), version >= Version::V2_18, "{version}");
            assert!(find(version, "POST", old).is_ok(), "{version}");
        }
    }
}
