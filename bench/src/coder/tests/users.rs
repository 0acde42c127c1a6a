//! Users and organizations.

use super::*;

const PASSWORD: &str = "Sixteen-Mixed-16";

#[test]
fn the_first_user_is_made_once() {
    let settings = Settings { first_boot: true, ..Settings::default() };
    let mut world = World::with(settings, "");
    assert_eq!(world.get("users/first").0, 404);
    let body = json!({ "email": "a@x.local", "username": "boss", "password": PASSWORD, "trial": false });
    let (status, made) = world.post("users/first", body.clone());
    assert_eq!(status, 201);
    assert!(made["user_id"].is_string() && made["organization_id"].is_string());
    assert_eq!(world.get("users/first").0, 200);
    assert_eq!(world.post("users/first", body).0, 409);
    let (status, login) = world.post("users/login", json!({ "email": "a@x.local", "password": PASSWORD }));
    assert_eq!(status, 201);
    let user = world.as_user(&text(&login["session_token"]), |world| world.get("users/me").1);
    assert_eq!((&user["username"], &user["roles"][0]["name"]), (&json!("boss"), &json!("owner")));
    assert_eq!(world.post("users/login", json!({ "email": "a@x.local", "password": "no" })).0, 401);
}

#[test]
fn new_and_old_bodies_make_users_as_their_versions_read_them() {
    let new =
        |id: &str| json!({ "organization_ids": [id], "user_status": "active", "login_type": "password" });
    let old = |id: &str| json!({ "organization_id": id });
    // Version; the new body's answer and status; the old body's.
    for (version, new_body, old_body) in [
        (Version::V0_24, (400, None), (201, Some("dormant"))),
        (Version::V2_8, (400, None), (201, Some("dormant"))),
        (Version::V2_18, (201, Some("active")), (201, Some("dormant"))),
        (Version::V2_26, (201, Some("active")), (201, Some("dormant"))),
    ] {
        let mut world = World::new(version);
        let id = world.organization();
        for (name, mut body, (status, user_status)) in
            [("new-body", new(&id), new_body), ("old-body", old(&id), old_body)]
        {
            body["username"] = name.into();
            body["email"] = format!("{name}@x.local").into();
            body["password"] = PASSWORD.into();
            let (got, user) = world.post("users", body);
            assert_eq!((got, user["status"].as_str()), (status, user_status), "{version} {name}: {user}");
            if got == 201 {
                assert_eq!(user["organization_ids"], json!([id]));
            }
        }
    }
}

#[test]
fn what_a_user_cannot_be_is_refused() {
    let mut world = World::new(Version::V2_26);
    let id = world.organization();
    let right = json!({ "username": "right", "email": "right@x.local", "password": PASSWORD, "organization_ids": [id] });
    assert_eq!(world.post("users", right.clone()).0, 201);
    for (field, value, status) in [
        ("username", json!("right"), 409),
        ("username", json!("RIGHT"), 409),
        ("username", json!("a--b"), 400),
        ("username", json!("-a"), 400),
        ("username", json!("new"), 400),
        ("username", json!("a".repeat(33)), 400),
        ("email", json!("nobody"), 400),
        ("password", json!("short"), 400),
        ("password", json!("aaaaaaaaaaaaaaaaaaaaaaaaaaaa"), 400),
        ("password", json!("Aa1-".repeat(17)), 400),
        ("organization_ids", json!([]), 400),
        ("organization_ids", json!(["no-uuid"]), 400),
        ("organization_ids", json!(["00000000-0000-4000-8000-000000000000"]), 404),
        ("user_status", json!("suspended"), 400),
        ("username", json!(7), 400),
    ] {
        let mut body = right.clone();
        body["username"] = "other".into();
        body["email"] = "other@x.local".into();
        body[field] = value.clone();
        let (got, answer) = world.post("users", body);
        assert_eq!(got, status, "{field} = {value}: {answer}");
        assert!(answer["message"].is_string(), "{answer}");
    }
    assert_eq!(world.deployment.seen().users.made, 1);
}

#[test]
fn users_are_listed_by_name_paged_and_found_by_part_of_name_or_email() {
    let mut world = World::with(Settings { users: 12, ..Settings::default() }, "");
    world.user("scaletest-b-1");
    world.user("Scaletest-a-0");
    let names = |(status, list): (u16, Value)| {
        assert_eq!(status, 200, "{list}");
        let names = list["users"].as_array().expect("a list").iter().map(|user| text(&user["username"]));
        (names.collect::<Vec<_>>(), list["count"].as_u64().expect("a count"))
    };
    let (found, count) = names(world.get("users?q=scaletest-"));
    assert_eq!((found, count), (vec!["Scaletest-a-0".to_owned(), "scaletest-b-1".to_owned()], 2));
    let (page, count) = names(world.get("users?q=coder.example&limit=2&offset=1"));
    assert_eq!((page, count), (vec!["member-1".to_owned(), "member-10".to_owned()], 13));
    assert_eq!(names(world.get("users?limit=0")).0.len(), 15);
    assert_eq!(names(world.get("users?q=role:owner")).1, 1);
    assert_eq!(names(world.get("users?q=status:dormant")).1, 2);
    let (_, after) = world.get("users?q=scaletest-");
    let id = text(&after["users"][0]["id"]);
    assert_eq!(names(world.get(&format!("users?q=scaletest-&after_id={id}"))).0, ["scaletest-b-1"]);
    for wrong in ["users?limit=x", "users?offset=-1", "users?q=colour:red", "users?q=a:b:c"] {
        assert_eq!(world.get(wrong).0, 400, "{wrong}");
    }
}

#[test]
fn a_dormant_user_is_active_after_its_tokens_first_use() {
    let mut world = World::new(Version::V2_26);
    let (id, token) = world.user("sleeper");
    assert_eq!(world.get(&format!("users/{id}")).1["status"], "dormant");
    assert_eq!(world.as_user(&token, |world| world.get("users/me").1["status"].clone()), "active");
    assert_eq!(world.call("PUT", "users/sleeper/status/suspend", None).0, 200);
    assert_eq!(world.as_user(&token, |world| world.get("users/me").0), 401);
    assert_eq!(world.call("PUT", "users/sleeper/status/activate", None).0, 200);
    assert_eq!(world.as_user(&token, |world| world.get("users/me").0), 200);
}

#[test]
fn what_a_member_may_not_see_is_404_and_what_it_may_not_do_403() {
    let mut world = World::new(Version::V2_26);
    let (_, member) = world.user("member");
    let (other, _) = world.user("other");
    world.as_user(&member, |world| {
        for (method, path, status) in [
            ("GET", "users/me".to_owned(), 200),
            ("GET", format!("users/{other}"), 404),
            ("DELETE", format!("users/{other}"), 404),
            ("GET", "users".to_owned(), 403),
            ("GET", "deployment/config".to_owned(), 403),
            ("GET", "debug/ws".to_owned(), 403),
        ] {
            assert_eq!(world.call(method, &path, None).0, status, "{method} {path}");
        }
        let body = json!({ "username": "x", "email": "x@x.local", "password": PASSWORD });
        assert_eq!(world.post("users", body).0, 403);
    });
}

#[test]
fn a_user_goes_only_without_workspaces_and_never_by_its_own_hand() {
    let mut world = World::new(Version::V2_26);
    let (id, token) = world.user("goer");
    assert_eq!(world.call("DELETE", "users/me", None).0, 403);
    let workspace = world.as_user(&token, |world| world.workspace("home", "minimal"));
    let (status, answer) = world.call("DELETE", &format!("users/{id}"), None);
    assert_eq!(status, 417, "{answer}");
    assert_eq!(
        world.post(&format!("workspaces/{workspace}/builds"), json!({ "transition": "delete" })).0,
        201
    );
    world.pass(10 * S);
    assert_eq!(world.call("DELETE", &format!("users/{id}"), None).0, 200);
    assert_eq!(world.call("DELETE", &format!("users/{id}"), None).0, 404);
    assert_eq!(world.as_user(&token, |world| world.get("users/me").0), 401);
    let seen = world.deployment.seen();
    assert_eq!((seen.users.made, seen.users.deleted, seen.users.left), (1, 1, 0));
    assert_eq!(World::new(Version::V0_24).call("DELETE", "users/nobody", None).0, 404);
}

#[test]
fn roles_are_replaced_and_members_come_and_go() {
    let mut world = World::new(Version::V2_26);
    let (id, token) = world.user("riser");
    let roles = |roles: &[&str]| Some(json!({ "roles": roles }));
    assert_eq!(world.call("PUT", "users/riser/roles", roles(&["nothing"])).0, 400);
    let (status, user) = world.call("PUT", "users/riser/roles", roles(&["user-admin", "template-admin"]));
    assert_eq!((status, user["roles"].as_array().map(Vec::len)), (200, Some(2)));
    assert_eq!(world.as_user(&token, |world| world.get("users").0), 200);
    // An administrator of users makes no owner's token.
    assert_eq!(world.as_user(&token, |world| world.post("users/admin/keys/tokens", json!({})).0), 403);
    assert_eq!(world.call("PUT", "users/me/roles", roles(&[])).0, 400);
    let second = text(&world.get("organizations").1[1]["id"]);
    let path = format!("organizations/{second}/members/{id}");
    assert_eq!([world.call("POST", &path, None).0, world.call("POST", &path, None).0], [200, 409]);
    assert_eq!(world.get("users/riser/organizations").1.as_array().map(Vec::len), Some(2));
    assert_eq!(world.call("DELETE", &path, None).0, 204);
    assert_eq!(world.get("users/riser/organizations").1.as_array().map(Vec::len), Some(1));
    assert_eq!(world.get(&format!("organizations/{second}/templates")), (200, json!([])));
}

#[test]
fn a_body_that_is_no_json_is_400_and_noted() {
    let mut world = World::new(Version::V2_26);
    let request =
        Request::new("POST", "/api/v2/users").with_header("Coder-Session-Token", &world.token.clone());
    let request = Request { body: b"username=x".to_vec(), ..request };
    assert_eq!((world.send(&request).status, world.wrong(Wrong::Body)), (400, 1));
}
