//! Templates, workspaces and builds.

use super::*;
use crate::coder::socket::Follow;

fn status(workspace: &Value) -> (String, String) {
    let build = &workspace["latest_build"];
    (text(&build["status"]), text(&build["job"]["status"]))
}

#[test]
fn both_routes_and_both_ways_to_name_a_template_make_a_workspace() {
    for version in Version::ALL {
        let mut world = World::new(version);
        let (organization, template) = (world.organization(), world.template("minimal"));
        let active = text(&world.get(&format!("templates/{template}")).1["active_version_id"]);
        let old_route = format!("organizations/{organization}/members/me/workspaces");
        let by_template = json!({ "template_id": template, "name": "a" });
        let by_version = json!({ "template_version_id": active, "name": "b" });
        let both = json!({ "template_version_id": active, "template_id": template, "name": "c" });
        let old = version == Version::V0_24;
        let new_route = if version.has_users_workspaces() { 201 } else { 404 };
        for (path, name, body, expected) in [
            (old_route.as_str(), "a", &by_template, 201),
            (&old_route, "b", &by_version, if old { 400 } else { 201 }),
            (&old_route, "c", &both, if old { 201 } else { 400 }),
            ("users/me/workspaces", "d", &by_template, new_route),
        ] {
            let mut body = body.clone();
            body["name"] = name.into();
            let (got, answer) = world.post(path, body);
            assert_eq!(got, expected, "{version} {path} {name}: {answer}");
        }
    }
}

#[test]
fn a_workspace_that_cannot_be_is_refused_before_anything_is_made() {
    let mut world = World::new(Version::V2_26);
    let (_, member) = world.user("member");
    let (strict, old, minimal) = (world.template("strict"), world.template("old"), world.template("minimal"));
    assert_eq!(world.create("taken", "minimal").0, 201);
    let parameter = |name: &str, value: &str| json!([{ "name": name, "value": value }]);
    for (body, expected, word) in [
        (json!({ "template_id": minimal, "name": "TAKEN" }), 409, "already exists"),
        (json!({ "template_id": minimal, "name": "a_b" }), 400, "Validation"),
        (json!({ "template_id": minimal, "name": "create" }), 400, "Validation"),
        (json!({ "name": "x" }), 400, "Validation"),
        (json!({ "template_id": "00000000-0000-4000-8000-000000000000", "name": "x" }), 400, "Template"),
        (json!({ "template_id": old, "name": "x" }), 403, "deprecated"),
        (json!({ "template_id": strict, "name": "x" }), 400, "Parameters"),
        (
            json!({ "template_id": strict, "name": "x", "rich_parameter_values": parameter("team", "X") }),
            400,
            "Parameters",
        ),
        (
            json!({ "template_id": minimal, "name": "x", "rich_parameter_values": parameter("a", "b") }),
            400,
            "Parameters",
        ),
        (json!({ "template_id": minimal, "name": "x", "automatic_updates": "often" }), 400, "Validation"),
    ] {
        let (got, answer) = world.post("users/me/workspaces", body.clone());
        assert!(
            got == expected && answer["message"].as_str().is_some_and(|message| message.contains(word)),
            "{body}: {got} {answer}"
        );
    }
    let body =
        json!({ "template_id": strict, "name": "x", "rich_parameter_values": parameter("team", "ops") });
    assert_eq!(world.as_user(&member, |world| world.post("users/admin/workspaces", body.clone()).0), 404);
    assert_eq!(world.post("users/member/workspaces", body).0, 201);
    assert_eq!(world.deployment.seen().workspaces.made, 2);
}

#[test]
fn rich_parameters_say_everything_about_themselves() {
    let mut world = World::new(Version::V2_26);
    let template = world.template("strict");
    let version = text(&world.get(&format!("templates/{template}")).1["active_version_id"]);
    let (status, rows) = world.get(&format!("templateversions/{version}/rich-parameters"));
    assert_eq!(status, 200);
    let row =
        |name: &str| rows.as_array().expect("a list").iter().find(|row| row["name"] == name).expect(name);
    let team = row("team");
    assert_eq!((&team["required"], &team["default_value"]), (&json!(true), &json!("")));
    assert_eq!(team["validation_regex"], "^[a-z]{2,8}$");
    let replicas = row("replicas");
    assert_eq!((&replicas["validation_min"], &replicas["validation_max"]), (&json!(1), &json!(8)));
    assert_eq!((&row("rebuild")["ephemeral"], &row("zone")["mutable"]), (&json!(true), &json!(false)));
    assert_eq!(row("tags")["type"], "list(string)");
    assert_eq!(world.get(&format!("templateversions/{version}")).1["job"]["status"], "succeeded");
    assert_eq!(world.get("templateversions/nothing").0, 400);
    assert_eq!(world.get(&format!("templateversions/{template}")).0, 404);
    let all = if Version::V2_26.has_templates_list() { 200 } else { 404 };
    assert_eq!((world.get("templates").0, World::new(Version::V2_8).get("templates").0), (all, 404));
}

#[test]
fn builds_wait_in_line_run_and_end_and_agents_come_later() {
    let mut world = World::with(round(Version::V2_26, 1), "");
    let ids: Vec<String> = (0..3).map(|n| text(&world.create(&format!("w{n}"), "minimal").1["id"])).collect();
    let look = |world: &mut World, n: usize| world.get(&format!("workspaces/{}", ids[n])).1;
    let first = look(&mut world, 0);
    assert_eq!(status(&first), ("starting".into(), "running".into()));
    let third = look(&mut world, 2);
    assert_eq!(status(&third), ("pending".into(), "pending".into()));
    let job = &third["latest_build"]["job"];
    assert_eq!(
        (&job["queue_position"], &job["queue_size"], &job["started_at"]),
        (&json!(2), &json!(2), &json!(null))
    );
    assert_eq!(first["latest_build"]["resources"], json!([]));
    // Nobody looks for 25 s: the second has run from 10 s to 20 s all the same.
    world.pass(25 * S);
    let second = look(&mut world, 1);
    assert_eq!(status(&second), ("running".into(), "succeeded".into()));
    let job = &second["latest_build"]["job"];
    let second_of = |at: &Value| text(at)[17..26].parse::<f64>().expect("seconds");
    let took = second_of(&job["completed_at"]) - second_of(&job["started_at"]);
    let waited = second_of(&job["started_at"]) - second_of(&job["created_at"]);
    assert_eq!([took, waited].map(|seconds| seconds.rem_euclid(60.0)), [10.0, 10.0]);
    let agent = |workspace: &Value| workspace["latest_build"]["resources"][0]["agents"][0].clone();
    let states = |agent: &Value| (text(&agent["status"]), text(&agent["lifecycle_state"]));
    assert_eq!(states(&agent(&look(&mut world, 1))), ("connected".into(), "starting".into()));
    world.pass(S);
    assert_eq!(states(&agent(&look(&mut world, 1))), ("connected".into(), "ready".into()));
    assert_eq!(status(&look(&mut world, 2)), ("starting".into(), "running".into()));
    world.pass(5 * S);
    assert_eq!(states(&agent(&look(&mut world, 2))), ("connecting".into(), "created".into()));
    assert_eq!(world.deployment.next_event(), Time::NEVER);
    assert_eq!(world.deployment.seen().builds.succeeded, 3);
}

#[test]
fn only_one_build_is_active_and_a_busy_one_can_be_cancelled() {
    let mut world = World::with(round(Version::V2_26, 1), "");
    let one = world.create("one", "minimal").1;
    let two = world.create("two", "minimal").1;
    let (one_id, two_id) = (text(&one["id"]), text(&two["id"]));
    let build = |workspace: &Value| text(&workspace["latest_build"]["id"]);
    let delete = json!({ "transition": "delete" });
    let (got, answer) = world.post(&format!("workspaces/{one_id}/builds"), delete.clone());
    assert_eq!((got, text(&answer["message"])), (409, "A workspace build is already active.".to_owned()));
    let cancel = |world: &mut World, id: &str, query: &str| {
        world.call("PATCH", &format!("workspacebuilds/{id}/cancel{query}"), None).0
    };
    // One that waits is gone at once, one that runs takes its time.
    assert_eq!(cancel(&mut world, &build(&two), "?expect_status=running"), 412);
    assert_eq!(cancel(&mut world, &build(&two), "?expect_status=pending"), 200);
    assert_eq!(status(&world.get(&format!("workspaces/{two_id}")).1), ("canceled".into(), "canceled".into()));
    assert_eq!(cancel(&mut world, &build(&two), ""), 400);
    assert_eq!(cancel(&mut world, &build(&one), ""), 200);
    assert_eq!(
        status(&world.get(&format!("workspaces/{one_id}")).1),
        ("canceling".into(), "canceling".into())
    );
    assert_eq!(cancel(&mut world, &build(&one), ""), 400);
    assert_eq!(world.post(&format!("workspaces/{one_id}/builds"), delete.clone()).0, 409);
    world.pass(2 * S);
    assert_eq!(status(&world.get(&format!("workspaces/{one_id}")).1), ("canceled".into(), "canceled".into()));
    assert_eq!(world.post(&format!("workspaces/{one_id}/builds"), delete).0, 201);
    assert_eq!(world.deployment.seen().builds.canceled, 2);
}

#[test]
fn a_deleted_workspace_is_410_leaves_the_lists_and_frees_its_name() {
    let mut world = World::new(Version::V2_26);
    let id = world.workspace("gone", "minimal");
    assert_eq!(world.post(&format!("workspaces/{id}/builds"), json!({ "transition": "delete" })).0, 201);
    assert_eq!(world.get(&format!("workspaces/{id}")).0, 200);
    world.pass(10 * S);
    assert_eq!(world.get(&format!("workspaces/{id}")).0, 410);
    let (got, workspace) = world.get(&format!("workspaces/{id}?include_deleted=true"));
    assert_eq!((got, status(&workspace)), (200, ("deleted".into(), "succeeded".into())));
    assert_eq!(world.get("workspaces").1["count"], 0);
    assert_eq!(world.get("workspaces?q=deleted:true").1["count"], 1);
    assert_eq!(world.post(&format!("workspaces/{id}/builds"), json!({ "transition": "start" })).0, 410);
    assert_eq!(world.create("gone", "minimal").0, 201);
    let things = world.deployment.seen().workspaces;
    assert_eq!((things.made, things.deleted, things.left), (2, 1, 1));
}

#[test]
fn what_is_others_is_404_whether_it_is_there_or_not() {
    let mut world = World::new(Version::V2_26);
    let (_, member) = world.user("member");
    let id = world.workspace("mine", "minimal");
    let agent = world.agents(&id).remove(0);
    let build = text(&world.get(&format!("workspaces/{id}")).1["latest_build"]["id"]);
    world.as_user(&member, |world| {
        for path in [
            format!("workspaces/{id}"),
            "workspaces/00000000-0000-4000-8000-000000000000".to_owned(),
            format!("workspacebuilds/{build}"),
            format!("workspacebuilds/{build}/logs"),
            format!("workspaceagents/{agent}"),
            format!("workspaceagents/{agent}/pty?{RECONNECT}"),
        ] {
            assert_eq!(world.get(&path).0, 404, "{path}");
        }
        assert_eq!(world.get("workspaces").1["count"], 0);
        assert_eq!(world.get("workspaces/no-uuid").0, 400);
    });
}

#[test]
fn lists_are_searched_by_terms_ordered_running_first_and_paged_by_rows() {
    let mut world = World::with(round(Version::V2_26, 50), "");
    let (_, member) = world.user("zoe");
    for name in ["scaletest-b-1", "scaletest-a-0", "not-scaletest-x"] {
        world.workspace(name, "minimal");
    }
    world.as_user(&member, |world| world.workspace("aaa", "kubernetes"));
    let stopped = text(&world.get("workspaces?q=name:scaletest-a").1["workspaces"][0]["id"]);
    assert_eq!(world.post(&format!("workspaces/{stopped}/builds"), json!({ "transition": "stop" })).0, 201);
    world.pass(10 * S);
    for (query, expected) in [
        // Running first, then the owner's name, then its own.
        ("", "not-scaletest-x scaletest-b-1 aaa scaletest-a-0"),
        // A part of the name, not its begin.
        ("?q=name%3A%22scaletest-%22", "not-scaletest-x scaletest-b-1 scaletest-a-0"),
        ("?q=SCALETEST-", "not-scaletest-x scaletest-b-1 scaletest-a-0"),
        ("?q=owner:me+name:scaletest-", "not-scaletest-x scaletest-b-1 scaletest-a-0"),
        ("?q=owner:%22zoe%22", "aaa"),
        ("?q=zoe/a", "aaa"),
        ("?q=template:kubernetes", "aaa"),
        ("?q=template:kube", ""),
        ("?q=status:stopped", "scaletest-a-0"),
        ("?q=has-agent:connected", "not-scaletest-x scaletest-b-1 aaa"),
        ("?q=has-agent:%22connected,timeout%22", "not-scaletest-x scaletest-b-1 aaa"),
        ("?q=has-agent:timeout", ""),
        ("?limit=2", "not-scaletest-x scaletest-b-1"),
        ("?limit=2&offset=1", "scaletest-b-1 aaa"),
        ("?offset=3", "scaletest-a-0"),
        ("?offset=9", ""),
    ] {
        let (got, list) = world.get(&format!("workspaces{query}"));
        let names = list["workspaces"].as_array().unwrap_or_else(|| panic!("{query}: {got} {list}")).iter();
        let names: Vec<String> = names.map(|workspace| text(&workspace["name"])).collect();
        assert_eq!(names.join(" "), expected, "{query}");
        let all = names.len() as u64;
        let expected = if query.contains("limit") || query.contains("offset") { 4 } else { all };
        assert_eq!(list["count"], expected, "{query}");
    }
    for (query, expected) in
        [("colour:red", 400), ("has-agent:sleepy", 400), ("a:b:c", 400), ("last_used_before:x", 501)]
    {
        assert_eq!(world.get(&format!("workspaces?q={query}")).0, expected, "{query}");
    }
    assert_eq!(World::new(Version::V2_8).get("workspaces?q=name:x").1["count"], 0);
}

#[test]
fn a_build_that_fails_says_why_and_can_be_tried_again() {
    let faults = "[[fault]]\nkind = 'build_fails'\nworkspace = 'bad-*'\nmessage = 'no more pods'\ntimes = 1";
    let mut world = World::with(round(Version::V2_26, 1), faults);
    let good = world.workspace("good", "minimal");
    let bad = world.workspace("bad-1", "minimal");
    assert_eq!(status(&world.get(&format!("workspaces/{good}")).1).0, "running");
    let build = world.get(&format!("workspaces/{bad}")).1["latest_build"].clone();
    assert_eq!((&build["status"], &build["job"]["error"]), (&json!("failed"), &json!("no more pods")));
    let id = text(&build["id"]);
    let lines = world.get(&format!("workspacebuilds/{id}/logs")).1;
    let last = lines.as_array().and_then(|lines| lines.last()).expect("a line");
    assert_eq!((&last["log_level"], &last["output"]), (&json!("error"), &json!("no more pods")));
    let (got, again) = world.post(&format!("workspaces/{bad}/builds"), json!({ "transition": "start" }));
    assert_eq!((got, &again["build_number"]), (201, &json!(2)));
    world.pass(10 * S);
    let builds = world.get(&format!("workspaces/{bad}/builds")).1;
    let numbers: Vec<_> = builds
        .as_array()
        .expect("a list")
        .iter()
        .map(|build| (build["build_number"].as_u64(), text(&build["status"])))
        .collect();
    assert_eq!(numbers, [(Some(2), "running".to_owned()), (Some(1), "failed".to_owned())]);
    assert_eq!(world.get(&format!("workspaces/{bad}/builds?limit=1")).1.as_array().map(Vec::len), Some(1));
}

#[test]
fn a_log_grows_with_its_build_and_is_read_after_an_id_or_followed() {
    let mut world = World::with(round(Version::V2_26, 1), "");
    let build = text(&world.create("one", "minimal").1["latest_build"]["id"]);
    let path = format!("workspacebuilds/{build}/logs");
    let ids = |(got, lines): (u16, Value)| {
        assert_eq!(got, 200, "{lines}");
        lines
            .as_array()
            .expect("a list")
            .iter()
            .map(|line| line["id"].as_u64().expect("an id"))
            .collect::<Vec<_>>()
    };
    world.pass(5 * S);
    let half = ids(world.get(&path));
    assert!(half.is_sorted() && half.len() == 5, "{half:?}");
    let mut follow = Follow { build: build.parse().expect("a UUID"), after: half[1] };
    let (lines, ended) = world.deployment.followed(world.now, &mut follow);
    assert_eq!((lines.len(), ended, follow.after), (3, false, half[4]));
    world.pass(5 * S);
    assert_eq!(ids(world.get(&format!("{path}?after={}", half[4]))).len(), 2);
    let (lines, ended) = world.deployment.followed(world.now, &mut follow);
    assert_eq!((lines.len(), ended), (2, true));
    assert_eq!(world.get(&format!("{path}?after=x")).0, 400);
    // `follow` is a matter of being there.
    let token = world.token.clone();
    let request =
        upgrade(&format!("/api/v2/{path}?follow=false&after=3")).with_header("Coder-Session-Token", &token);
    let kind = world.send(&request).upgrade.expect("a websocket").kind;
    assert_eq!(kind, Kind::Logs(Follow { build: build.parse().expect("a UUID"), after: 3 }));
}

#[test]
fn timings_part_the_queue_the_build_the_agent_and_the_script() {
    let mut world = World::with(round(Version::V2_26, 1), "");
    let id = world.workspace("one", "minimal");
    world.pass(6 * S);
    let build = text(&world.get(&format!("workspaces/{id}")).1["latest_build"]["id"]);
    let timings = world.get(&format!("workspacebuilds/{build}/timings")).1;
    let stages =
        timings["provisioner_timings"].as_array().expect("a list").iter().map(|row| text(&row["stage"]));
    assert_eq!(stages.collect::<Vec<_>>(), ["init", "plan", "graph", "apply"]);
    assert_eq!(timings["agent_connection_timings"][0]["stage"], "connect");
    assert_eq!(timings["agent_script_timings"][0]["exit_code"], 0);
    let mut old = World::new(Version::V2_8);
    let id = old.workspace("one", "minimal");
    let build = text(&old.get(&format!("workspaces/{id}")).1["latest_build"]["id"]);
    assert_eq!(old.get(&format!("workspacebuilds/{build}/timings")).0, 404);
    assert_eq!(old.get(&format!("workspacebuilds/{build}/resources")).0, 200);
    assert_eq!(old.get(&format!("workspacebuilds/{build}/parameters")), (200, json!([])));
}

#[test]
fn the_deployment_counts_what_it_has() {
    let mut world = World::new(Version::V2_26);
    world.workspace("one", "minimal");
    world.create("two", "minimal");
    let stats = world.get("deployment/stats").1;
    assert_eq!((&stats["workspaces"]["running"], &stats["workspaces"]["pending"]), (&json!(1), &json!(1)));
    assert_eq!(world.get("regions").1["regions"][0]["healthy"], true);
    let seen = world.deployment.seen();
    let made = &seen.requests["POST /api/v2/organizations/{org}/members/{user}/workspaces"];
    assert_eq!(made.get(&201), Some(&2));
    assert!(seen.client_errors.is_empty(), "{:?}", seen.client_errors);
}

#[test]
fn the_same_seed_and_times_make_the_same_deployment() {
    let told = || {
        let mut world = World::new(Version::V2_26);
        let ids: Vec<String> = (0..5).map(|n| world.workspace(&format!("w{n}"), "kubernetes")).collect();
        let list = world.get("workspaces").1;
        (ids, list, world.deployment.seen())
    };
    assert_eq!(told(), told());
}
