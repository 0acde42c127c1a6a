//! Workspace apps, by path (`/@owner/workspace.agent/apps/slug/`) and by host
//! (`slug--agent--workspace--owner.apps.example.com`). Their errors are pages.

use scale_ring::Time;
use uuid::Uuid;

use super::access::{self, SESSION_HEADER};
use super::deployment::Deployment;
use super::message::{Request, Response};
use super::settings::PathApps;
use super::socket::{App, Kind};
use super::state::{Role, Workspace};
use super::view::APPS;

/// The app's name in the host of a request, where the host is one of the wildcard's.
pub(super) fn subdomain(app_host: &str, request: &Request) -> Option<String> {
    let suffix = app_host.strip_prefix('*').filter(|suffix| !suffix.is_empty())?;
    let host = request.header("Host")?;
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let suffix = match suffix.split_once(':') {
        Some((suffix, wanted)) => (wanted == port).then_some(suffix)?,
        None => suffix,
    };
    name.strip_suffix(suffix).filter(|name| !name.is_empty()).map(str::to_lowercase)
}

pub(super) fn by_host(deployment: &mut Deployment, now: Time, request: &Request, name: &str) -> Response {
    let parts: Vec<&str> = name.split("--").collect();
    let [slug, agent, workspace, owner] = parts[..] else { return not_found() };
    let Some(actor) = caller(deployment, now, request, "coder_subdomain_app_session_token") else {
        return not_found();
    };
    let Some((id, agent)) = find(deployment, owner, workspace, Some(agent)) else { return not_found() };
    if !allowed(deployment, actor, &deployment.workspaces[&id], true) {
        return not_found();
    }
    serve(deployment, now, request, id, agent, slug)
}

pub(super) fn by_path(deployment: &mut Deployment, now: Time, request: &Request) -> Response {
    if deployment.settings.path_apps == PathApps::Disabled {
        return Response::html(403, "Path-based applications are disabled");
    }
    let segments = request.segments();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let [owner, place, "apps", slug, ref rest @ ..] = parts[..] else { return not_found() };
    let (workspace, agent) = match place.split_once('.') {
        Some((workspace, agent)) => (workspace, Some(agent)),
        None => (place, None),
    };
    let Some(actor) = caller(deployment, now, request, "coder_path_app_session_token") else {
        return not_found();
    };
    let owner = owner.strip_prefix('@').expect("the path begins so");
    let Some((id, agent)) = find(deployment, owner, workspace, agent) else { return not_found() };
    let others = deployment.settings.path_apps == PathApps::SiteOwner;
    if !allowed(deployment, actor, &deployment.workspaces[&id], others) {
        return not_found();
    }
    if rest.is_empty() {
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        return Response::html(307, "Temporary Redirect")
            .with_header("Location", format!("{}/{query}", request.path));
    }
    serve(deployment, now, request, id, agent, slug)
}

fn not_found() -> Response {
    Response::html(404, "Application Not Found")
}

/// Who asks: by the app's own cookie, or as everywhere; before v2.0 apps do not read the header.
fn caller(deployment: &mut Deployment, now: Time, request: &Request, cookie: &str) -> Option<Uuid> {
    if let Some(token) = request.cookie(cookie) {
        return access::valid(deployment, now, token).map(|key| key.user);
    }
    if request.header(SESSION_HEADER).is_some() && !deployment.settings.version.apps_read_header() {
        return None;
    }
    access::actor(deployment, now, request).ok()
}

/// The workspace and agent of a name; the agent may be left out where there is one.
fn find(deployment: &Deployment, owner: &str, workspace: &str, agent: Option<&str>) -> Option<(Uuid, Uuid)> {
    let owner = deployment.user_named(owner)?;
    let id = *deployment.names.get(&(owner, workspace.to_lowercase()))?;
    let build = &deployment.builds[&deployment.workspaces[&id].last_build()];
    let agents: Vec<Uuid> = build.resources.iter().flat_map(|(_, agents)| agents).copied().collect();
    let found = match (agent, agents.as_slice()) {
        (Some(name), agents) => {
            agents.iter().find(|id| deployment.agents[*id].name.eq_ignore_ascii_case(name))
        }
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    found.map(|agent| (id, *agent))
}

fn allowed(deployment: &Deployment, actor: Uuid, workspace: &Workspace, site_owner: bool) -> bool {
    workspace.owner == actor || (site_owner && deployment.has_role(actor, Role::Owner))
}

/// What the proxy and the listener behind it answer.
fn serve(
    deployment: &mut Deployment,
    now: Time,
    request: &Request,
    workspace: Uuid,
    agent: Uuid,
    slug: &str,
) -> Response {
    let app = match slug {
        "wsec" => App::Echo,
        "wsra" => App::Random,
        "wsdi" => App::Discard,
        _ => return not_found(),
    };
    debug_assert!(APPS.iter().any(|(known, _)| *known == slug));
    if !deployment.reaches(now, agent) {
        return Response::html(502, "Bad Gateway");
    }
    if !request.is_upgrade() {
        return Response::text(400, "this listener speaks websocket only\n");
    }
    super::users::touch(deployment, workspace, now);
    deployment.upgrade(now, request, Kind::App(app), Some(workspace))
}
