//! Agents, and what leads to them: terminals and apps, up to their 101.

use super::*;
use crate::coder::settings::PathApps;
use crate::coder::socket::{App, Pings};
use crate::coder::terminal::Size;

#[test]
fn agents_come_late_or_never_or_go_by_rule() {
    let faults = "
        [[fault]]\nkind = 'agent_never'\nworkspace = 'never'
        [[fault]]\nkind = 'agent_late'\nworkspace = 'late'\ndelay = '60s'
        [[fault]]\nkind = 'agent_lost'\nworkspace = 'lost'\nafter = '10s'";
    let mut world = World::with(round(Version::V2_26, 3), faults);
    let ids = ["never", "late", "lost"].map(|name| text(&world.create(name, "minimal").1["id"]));
    world.pass(10 * S);
    // Seconds since the builds have ended; what each agent's status is then.
    let mut passed = 0;
    for (at, expected) in [
        (4, ["connecting", "connecting", "connecting"]),
        (5, ["connecting", "connecting", "connected"]),
        (44, ["connecting", "connecting", "connected"]),
        (45, ["connecting", "connecting", "disconnected"]),
        (65, ["connecting", "connected", "disconnected"]),
        (120, ["timeout", "connected", "disconnected"]),
    ] {
        world.pass((at - passed) * S);
        passed = at;
        let states = ids.each_ref().map(|id| {
            let workspace = world.get(&format!("workspaces/{id}")).1;
            text(&workspace["latest_build"]["resources"][0]["agents"][0]["status"])
        });
        assert_eq!(states, expected, "after {at} s");
    }
    let health = world.get(&format!("workspaces/{}", ids[0])).1["health"].clone();
    assert_eq!(
        (&health["healthy"], health["failing_agents"].as_array().map(Vec::len)),
        (&json!(false), Some(1))
    );
}

#[test]
fn a_template_may_have_agents_in_several_resources_and_agents_within_agents() {
    for (version, agents) in [(Version::V2_18, 2), (Version::V2_26, 3)] {
        let mut world = World::new(version);
        let id = world.workspace("one", "two-agents");
        assert_eq!(world.agents(&id).len(), agents, "{version}");
        let resources = world.get(&format!("workspaces/{id}")).1["latest_build"]["resources"].clone();
        assert_eq!(resources.as_array().map(Vec::len), Some(3));
        assert_eq!(
            (&resources[0]["agents"][0]["name"], &resources[2]["agents"]),
            (&json!("main"), &json!([]))
        );
        let child = &resources[1]["agents"][1];
        assert_eq!(child["parent_id"].is_string(), version == Version::V2_26);
    }
}

#[test]
fn a_terminal_says_what_its_request_lacks_before_the_101() {
    let mut world = World::new(Version::V2_26);
    let id = world.workspace("one", "minimal");
    let agent = world.agents(&id).remove(0);
    let token = world.token.clone();
    for (query, expected) in [
        (RECONNECT, 101),
        ("", 400),
        ("reconnect=7", 400),
        (&format!("{RECONNECT}&width=x"), 400),
        (&format!("{RECONNECT}&width=65536"), 400),
        (&format!("{RECONNECT}&backend_type=vt100"), 400),
        (&format!("{RECONNECT}&backend_type=buffered"), 101),
    ] {
        assert_eq!(world.terminal(&agent, query).status, expected, "{query}");
    }
    assert_eq!(world.wrong(Wrong::Reconnect), 2);
    let mut old = World::new(Version::V2_18);
    let old_id = old.workspace("one", "minimal");
    let old_agent = old.agents(&old_id).remove(0);
    assert_eq!(old.terminal(&old_agent, &format!("{RECONNECT}&backend_type=vt100")).status, 101);
    let attach =
        attached(&world.terminal(&agent, &format!("{RECONNECT}&height=25&command=sleep+2%20%26%26+echo")));
    assert_eq!((attach.size, attach.command.as_str()), (Size { height: 25, width: 80 }, "sleep 2 && echo"));
    let target = format!("/api/v2/workspaceagents/{agent}/pty?{RECONNECT}");
    let without = |header: &str| {
        let mut request = upgrade(&target).with_header("Coder-Session-Token", &token);
        request.headers.retain(|(name, _)| name != header);
        request
    };
    for (header, expected) in
        [("Connection", 426), ("Upgrade", 426), ("Sec-WebSocket-Version", 400), ("Sec-WebSocket-Key", 400)]
    {
        assert_eq!(world.send(&without(header)).status, expected, "without {header}");
    }
    assert_eq!(world.wrong(Wrong::Handshake), 4);
    let offered = upgrade(&target)
        .with_header("Coder-Session-Token", &token)
        .with_header("Sec-WebSocket-Protocol", "tty")
        .with_header("Sec-WebSocket-Extensions", "permessage-deflate");
    let response = world.send(&offered);
    assert_eq!((response.status, response.header("Sec-WebSocket-Extensions")), (101, None));
    assert_eq!(
        (response.header("Sec-WebSocket-Accept"), response.header("Sec-WebSocket-Protocol")),
        (Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), None)
    );
    assert!(
        response.header("Set-Cookie").is_some_and(|cookie| cookie.starts_with("coder_signed_app_token="))
    );
    assert_eq!((world.wrong(Wrong::Subprotocol), world.wrong(Wrong::Deflate)), (1, 1));
}

#[test]
fn a_terminals_limits_and_pings_are_its_versions() {
    for (version, pings, limit) in [
        (Version::V0_24, Pings::Lenient, Some(32_768)),
        (Version::V2_8, Pings::Lenient, Some(32_768)),
        (Version::V2_18, Pings::Strict, Some(32_768)),
        (Version::V2_26, Pings::Strict, None),
    ] {
        let mut world = World::new(version);
        let id = world.workspace("one", "minimal");
        let agent = world.agents(&id).remove(0);
        let upgrade = world.terminal(&agent, RECONNECT).upgrade.expect("a terminal");
        assert_eq!((upgrade.pings, upgrade.message_bytes_max), (pings, limit), "{version}");
    }
}

#[test]
fn an_agent_that_is_not_there_is_found_out_after_the_101() {
    let faults = "
        [[fault]]\nkind = 'agent_never'\nworkspace = 'never'
        [[fault]]\nkind = 'dial'\nworkspace = 'struck'\nafter = '3s'\nmessage = 'dial: no route'";
    let mut world = World::with(Settings::default(), faults);
    let dial = |world: &mut World, name: &str, stop: bool| {
        let id = world.workspace(name, "minimal");
        let agent = world.agents(&id).remove(0);
        if stop {
            world.post(&format!("workspaces/{id}/builds"), json!({ "transition": "stop" }));
            world.pass(10 * S);
        }
        attached(&world.terminal(&agent, RECONNECT)).dial_fails
    };
    assert_eq!(dial(&mut world, "fine", false), None);
    let never = dial(&mut world, "never", false).expect("it cannot be reached");
    assert_eq!(never, (50 * MS, "dial workspace agent: agent is connecting".to_owned()));
    assert_eq!(dial(&mut world, "struck", false), Some((3 * S, "dial: no route".to_owned())));
    assert!(
        dial(&mut world, "stopped", true)
            .is_some_and(|(_, reason)| reason.starts_with("dial workspace agent:"))
    );
}

#[test]
fn owners_may_be_kept_out_of_others_terminals() {
    for (disabled, expected) in [(false, 101), (true, 404)] {
        let settings = Settings { disable_owner_workspace_exec: disabled, ..Settings::default() };
        let mut world = World::with(settings, "");
        let (_, member) = world.user("member");
        let id = world.as_user(&member, |world| world.workspace("one", "minimal"));
        let agent = world.agents(&id).remove(0);
        assert_eq!(world.terminal(&agent, RECONNECT).status, expected);
        assert_eq!(world.get("deployment/config").1["config"]["disable_owner_workspace_exec"], disabled);
        assert_eq!(world.as_user(&member, |world| world.terminal(&agent, RECONNECT).status), 101);
    }
}

#[test]
fn apps_by_path_are_found_redirected_refused_and_missed_with_pages() {
    for (path_apps, others) in [(PathApps::Own, 404), (PathApps::SiteOwner, 101), (PathApps::Disabled, 403)] {
        let faults = "[[fault]]\nkind = 'agent_never'\nworkspace = 'dead'";
        let mut world = World::with(Settings { path_apps, ..Settings::default() }, faults);
        let (_, member) = world.user("member");
        world.workspace("one", "minimal");
        world.workspace("dead", "minimal");
        world.workspace("pair", "two-agents");
        world.as_user(&member, |world| world.workspace("theirs", "minimal"));
        let own = |status: u16| if path_apps == PathApps::Disabled { 403 } else { status };
        for (path, expected) in [
            ("/@admin/one.main/apps/wsec/", own(101)),
            ("/@admin/one/apps/wsra/", own(101)),
            ("/@admin/one/apps/wsdi", own(307)),
            ("/@admin/one/apps/none/", own(404)),
            ("/@admin/one.other/apps/wsec/", own(404)),
            ("/@me/one/apps/wsec/", own(404)),
            ("/@admin/pair/apps/wsec/", own(404)),
            ("/@admin/pair.second/apps/wsec/", own(101)),
            ("/@admin/dead/apps/wsec/", own(502)),
            ("/@member/theirs.main/apps/wsec/", others),
        ] {
            let request = upgrade(path).with_header("Coder-Session-Token", &world.token.clone());
            let response = world.send(&request);
            assert_eq!(response.status, expected, "{path_apps:?} {path}");
            if response.status >= 400 {
                assert_eq!(response.header("Content-Type"), Some("text/html; charset=utf-8"), "{path}");
            }
            if response.status == 307 {
                assert_eq!(response.header("Location"), Some("/@admin/one/apps/wsdi/"));
            }
        }
    }
}

#[test]
fn apps_by_host_are_named_by_the_agents_view_and_take_the_header_since_2_0() {
    for (version, with_header) in [(Version::V0_24, 404), (Version::V2_26, 101)] {
        let settings = Settings { version, app_host: "*.apps.localhost".to_owned(), ..Settings::default() };
        let mut world = World::with(settings, "");
        let id = world.workspace("one", "minimal");
        let agent = world.agents(&id).remove(0);
        assert_eq!(world.get("applications/host").1["host"], "*.apps.localhost");
        let app = world.get(&format!("workspaceagents/{agent}")).1["apps"][0].clone();
        assert_eq!(app["subdomain_name"], "wsec--main--one--admin");
        let host = text(&app["subdomain_name"]) + ".apps.localhost:8080";
        let ask = |world: &mut World, header: &str, value: &str| {
            let mut request = upgrade("/").with_header(header, value);
            request.headers[0].1.clone_from(&host);
            world.send(&request)
        };
        let token = world.token.clone();
        let cookie = format!("coder_subdomain_app_session_token={token}");
        assert_eq!(ask(&mut world, "Coder-Session-Token", &token).status, with_header, "{version}");
        let response = ask(&mut world, "Cookie", &cookie);
        assert_eq!(response.upgrade.map(|upgrade| upgrade.kind), Some(Kind::App(App::Echo)));
        assert_eq!(ask(&mut world, "X-Nothing", "").status, 404);
    }
}
