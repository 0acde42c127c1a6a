//! What a client asks of the deployment itself.

use serde_json::json;

use super::deployment::{Call, Deployment};
use super::message::{Answer, Refusal, Response};
use super::socket::Kind;
use super::state::Role;

pub(super) fn build_info(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let url = format!("http://{}", call.request.header("Host").unwrap_or("localhost"));
    let mut body = json!({
        "version": deployment.replicas.version(call.replica),
        "external_url": "",
        "workspace_proxy": false,
    });
    if deployment.settings.version.has_users_workspaces() {
        body["dashboard_url"] = url.into();
        body["agent_api_version"] = "2.0".into();
        body["deployment_id"] = deployment.id.to_string().into();
        body["telemetry"] = false.into();
    }
    Ok(Response::json(200, &body))
}

pub(super) fn app_host(deployment: &mut Deployment, _: &Call<'_>) -> Answer {
    Ok(Response::json(200, &json!({ "host": deployment.settings.app_host })))
}

pub(super) fn config(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    if !deployment.has_role(call.actor, Role::Owner) {
        return Err(Refusal::forbidden());
    }
    let settings = &deployment.settings;
    let disabled = settings.rate_limits == super::settings::RateLimits::Off;
    Ok(Response::json(
        200,
        &json!({
            "config": {
                "disable_owner_workspace_exec": settings.disable_owner_workspace_exec,
                "wildcard_access_url": settings.app_host,
                "rate_limit": { "disable_all": disabled, "api": settings.api_rate_limit },
            },
            "options": [],
        }),
    ))
}

pub(super) fn stats(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let count = |status: &str| {
        let builds = deployment.workspaces.values().filter(|workspace| !workspace.deleted);
        builds.filter(|workspace| deployment.builds[&workspace.last_build()].status() == status).count()
    };
    let at = deployment.timestamp(call.now);
    Ok(Response::json(
        200,
        &json!({
            "aggregated_from": at,
            "collected_at": at,
            "next_update_at": at,
            "workspaces": {
                "pending": count("pending"),
                "building": count("starting"),
                "running": count("running"),
                "failed": count("failed"),
                "stopped": count("stopped"),
                "connection_latency_ms": { "P50": 0, "P95": 0 },
                "rx_bytes": 0,
                "tx_bytes": 0,
            },
            "session_count": { "vscode": 0, "ssh": 0, "jetbrains": 0, "reconnecting_pty": deployment.terminals_open() },
        }),
    ))
}

pub(super) fn regions(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let url = format!("http://{}", call.request.header("Host").unwrap_or("localhost"));
    Ok(Response::json(
        200,
        &json!({
            "regions": [{
                "id": deployment.id.to_string(),
                "name": "primary",
                "display_name": "Default",
                "icon_url": "",
                "healthy": true,
                "path_app_url": url,
                "wildcard_hostname": deployment.settings.app_host,
            }],
        }),
    ))
}

/// A websocket that echoes text.
pub(super) fn echo(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    if !deployment.has_role(call.actor, Role::Owner) {
        return Err(Refusal::forbidden());
    }
    Ok(deployment.upgrade(call.now, call.request, Kind::Text, None))
}
