//! Users and workspaces: made in each server's own way, measured, and known to the ledger whatever happens.

use std::time::Duration;

use scale_coder::class::Class;
use scale_coder::client::REQUESTS_AT_ONCE_MAX;
use scale_coder::config::{Config, Connections};
use scale_coder::flows::create::{AgentRule, CreateWorkspaces, CreatedWorkspaces, Owners};
use scale_coder::flows::find::{Query, find_workspaces};
use scale_coder::flows::users::{CreateUsers, pool};
use scale_coder::flows::{Ended, Flow};
use scale_coder::ledger::{Kind, Ledger};
use scale_coder::names::Names;
use scale_coder::progress::State;
use scale_coder::stop::Stopper;
use scale_coder::types::ParameterValue;

use crate::fake::{Fake, What};
use crate::world::{ORGANIZATION, OTHER_ORGANIZATION, Weather};
use crate::{Desk, Folder, leap, owner_with, pace};

/// Makes `count` workspaces as run `r1-0`, with what `change` changes.
pub async fn create(
    flow: &Flow<'_>,
    ledger: &Ledger,
    count: u32,
    change: impl FnOnce(&mut CreateWorkspaces<'_>),
) -> CreatedWorkspaces {
    let names = Names::new("r1-0", None, count).unwrap();
    let parameters = [ParameterValue { name: "home_disk_size".into(), value: "10".into() }];
    let mut ask = CreateWorkspaces {
        ledger,
        names: &names,
        count,
        owners: &Owners::New,
        template_id: "template-1",
        organization_id: ORGANIZATION,
        parameters: &parameters,
        retries: 0,
        agents: AgentRule::Connected,
        command: None,
        token_lifetime: Duration::from_secs(3600),
    };
    change(&mut ask);
    flow.create_workspaces(&ask).await
}

/// For as long as the tests run.
fn kept<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn classes(created: &CreatedWorkspaces) -> Vec<Option<Class>> {
    let class = |failure: &scale_coder::class::Failure| failure.class;
    created.workspaces.iter().map(|workspace| workspace.failure.as_ref().map(class)).collect()
}

/// A run of three on a server of `version`; the paths and bodies of what it posted.
async fn created_on(version: &str) -> Vec<(String, serde_json::Value)> {
    let (fake, folder) = (Fake::start(version).await, Folder::new());
    let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
    desk.client.build_info().await.unwrap();
    let created = create(&desk.flow(), &ledger, 3, |_| ()).await;
    assert_eq!((created.failures(), created.ended), (0, Ended::Done), "{version}: {created:?}");
    assert_eq!(ledger.contents().owned(Kind::User).count(), 3);
    assert_eq!(ledger.contents().owned(Kind::Workspace).count(), 3);
    assert_eq!(desk.progress.counts().of(State::Ready), 3);
    fake.assert_manners();
    let state = fake.state();
    let posts = state.seen.iter().filter(|seen| seen.method == "POST");
    posts.map(|seen| (seen.path.clone(), seen.body.clone())).collect()
}

fn bodies<'a>(posts: &'a [(String, serde_json::Value)], path: &str) -> Vec<&'a serde_json::Value> {
    posts.iter().filter(|(of, _)| of == path).map(|(_, body)| body).collect()
}

#[tokio::test]
async fn each_server_is_asked_in_its_own_way() {
    for (version, lists, status, short) in [
        ("v0.24.1", false, false, false),
        ("v2.8.3", false, false, false),
        ("v2.15.0", true, false, true),
        ("v2.18.0+x", true, true, true),
        ("v2.26.0", true, true, true),
    ] {
        let posts = created_on(version).await;
        let users = bodies(&posts, "/api/v2/users");
        assert_eq!(users.len(), 3, "{version}");
        assert_eq!(users[0]["organization_ids"].is_array(), lists, "{version}");
        assert_eq!(users[0]["organization_id"].is_string(), !lists, "{version}");
        assert_eq!(users[0]["user_status"] == "active", status, "{version}");
        let is_short = |path: &str| path.starts_with("/api/v2/users/") && path.ends_with("/workspaces");
        assert_eq!(posts.iter().filter(|(path, _)| is_short(path)).count(), if short { 3 } else { 0 });
    }
}

#[tokio::test]
async fn a_server_without_a_version_is_asked_the_new_way_and_then_the_old() {
    let posts = created_on("(devel)").await;
    assert_eq!(bodies(&posts, "/api/v2/users").len(), 3);
    // One that has no version either and knows only the old ways.
    let fake = Fake::start("(devel)").await;
    let refusal = What::Answer { status: 400, headers: vec![], body: r#"{"message":"Validation failed."}"# };
    let missing = What::Answer { status: 404, headers: vec![], body: r#"{"message":"Route not found."}"# };
    let admin = fake.world().users[0].id.clone();
    fake.fault("POST", &format!("/api/v2/users/{admin}/workspaces"), 1, missing);
    let folder = Folder::new();
    let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
    let me = desk.client.me().await.unwrap();
    let owners = Owners::Caller(me);
    let created = create(&desk.flow(), &ledger, 1, |ask| ask.owners = kept(owners)).await;
    assert_eq!(created.failures(), 0, "{created:?}");
    assert_eq!(
        fake.count("POST", &format!("/api/v2/organizations/{ORGANIZATION}/members/{admin}/workspaces")),
        1
    );
    let ledger = folder.ledger(&fake, "r2-0");
    fake.fault("POST", "/api/v2/users", 1, refusal);
    let names = kept(Names::new("r2-0", None, 1).unwrap());
    let created = create(&desk.flow(), &ledger, 1, |ask| ask.names = names).await;
    assert_eq!(created.failures(), 0, "{created:?}");
    let state = fake.state();
    let users: Vec<_> = state.seen.iter().filter(|seen| seen.path == "/api/v2/users").collect();
    assert!(users[0].body["organization_ids"].is_array() && users[1].body["organization_id"].is_string());
}

#[tokio::test]
async fn phases_are_told_by_the_servers_own_times() {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
    let created = create(&desk.flow(), &ledger, 1, |_| ()).await;
    let one = &created.workspaces[0];
    assert_eq!((one.phases.queue, one.phases.build, one.phases.agent), (Some(2.0), Some(9.0), Some(4.0)));
    assert!(one.phases.create.unwrap() < 10.0);
    assert_eq!((one.name.as_str(), one.owner.as_deref()), ("scaletest-r1-0-0", Some("scaletest-r1-0-0")));
    // The first resource of the usual weather has no agent, the second has one.
    assert_eq!(one.agent.as_ref().unwrap().name, "agent-1-0");
    let token = one.token.as_ref().expect("the owner's token, for its terminal");
    let user = desk.client.for_user(token.clone()).unwrap().me().await.unwrap();
    assert_eq!((user.username, user.email), ("scaletest-r1-0-0".into(), "markr1-0-0@scaletest.local".into()));
    let json = serde_json::to_string(&created).unwrap();
    assert!(!json.contains(token.expose()) && json.contains("\"queue\":2.0"), "{json}");
}

#[tokio::test]
async fn every_failure_has_its_class_and_the_ledger_keeps_what_was_made() {
    let usual = Weather { looks: 1, agent_looks: 1, ends: vec![], agents: vec![1] };
    for (weather, agents, class) in [
        (Weather { ends: vec!["failed"], ..usual.clone() }, AgentRule::Connected, Class::BuildFailed),
        (Weather { ends: vec!["canceled"], ..usual.clone() }, AgentRule::Connected, Class::BuildCanceled),
        (Weather { agents: vec![0], ..usual.clone() }, AgentRule::Connected, Class::NoAgent),
        (Weather { agent_looks: u32::MAX, ..usual.clone() }, AgentRule::Started, Class::AgentTimeout),
        (Weather { looks: u32::MAX, ..usual.clone() }, AgentRule::Connected, Class::QueueTimeout),
    ] {
        let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
        let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
        fake.world().weather = Some(weather);
        // Some go on for ever: once they wait for it, their time passes at once.
        let flow = Flow { job_timeout: Duration::from_secs(10), ..desk.flow() };
        let ends_never = match class {
            Class::AgentTimeout => Some(State::AgentConnecting),
            Class::QueueTimeout => Some(State::Queued),
            _ => None,
        };
        let time_up = async {
            let Some(state) = ends_never else { return };
            let mut counts = desk.progress.subscribe();
            counts.wait_for(|counts| counts.of(state) == 1).await.unwrap();
            leap(flow.job_timeout).await;
        };
        let (created, ()) = tokio::join!(create(&flow, &ledger, 1, |ask| ask.agents = agents), time_up);
        assert_eq!(classes(&created), [Some(class)], "{created:?}");
        assert_eq!(desk.progress.counts().failed, [(class, 1)].into());
        assert_eq!(ledger.contents().owned(Kind::Workspace).count(), 1);
        if class == Class::BuildFailed {
            let words = &created.workspaces[0].failure.as_ref().unwrap().message;
            assert!(words.starts_with("start build (terraform: no capacity): "), "{words}");
        }
    }
}

#[tokio::test]
async fn without_waiting_for_agents_a_built_workspace_is_ready() {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
    fake.world().weather = Some(Weather { looks: 1, agent_looks: u32::MAX, ends: vec![], agents: vec![1] });
    let created = create(&desk.flow(), &ledger, 2, |ask| ask.agents = AgentRule::Ignore).await;
    assert_eq!(classes(&created), [None, None]);
    assert!(created.workspaces[0].phases.agent.is_none());
}

#[tokio::test]
async fn failed_builds_are_started_again_as_often_as_asked() {
    for (retries, expected) in [(2, None), (1, Some(Class::BuildFailed))] {
        let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
        let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
        let ends = vec!["failed", "failed"];
        fake.world().weather = Some(Weather { looks: 1, agent_looks: 1, ends, agents: vec![1] });
        let created = create(&desk.flow(), &ledger, 1, |ask| ask.retries = retries).await;
        assert_eq!(classes(&created), [expected]);
        assert_eq!(created.workspaces[0].builds, retries + 1);
    }
}

#[tokio::test]
async fn what_an_answer_that_was_lost_had_made_is_taken_and_not_made_twice() {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
    fake.world().weather = Some(Weather { looks: 1, agent_looks: 1, ends: vec!["failed"], agents: vec![1] });
    fake.fault("POST", "/api/v2/workspaces/", 1, What::Lose);
    fake.fault("POST", "/api/v2/users", 3, What::Lose);
    let created = create(&desk.flow(), &ledger, 1, |ask| ask.retries = 1).await;
    assert_eq!(classes(&created), [None], "{created:?}");
    assert_eq!(fake.world().made, ["scaletest-r1-0-0", "scaletest-r1-0-0"], "one user, one workspace");
    assert_eq!(fake.world().workspaces[0].builds.len(), 2, "one build failed, one more was started");
}

#[tokio::test]
async fn a_name_that_is_somebody_elses_is_not_taken() {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
    fake.world().add_user("scaletest-r1-0-1", "other-1@scaletest.local", None);
    let created = create(&desk.flow(), &ledger, 3, |_| ()).await;
    assert_eq!(classes(&created), [None, Some(Class::NameTaken), None]);
    assert_eq!(created.to_string(), "2 succeeded, 1 failed (1 name_taken)");
    assert_eq!(fake.world().workspaces.len(), 2);
}

#[tokio::test]
async fn one_owner_for_all_needs_no_users() {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
    let me = desk.client.me().await.unwrap();
    let created = create(&desk.flow(), &ledger, 3, |ask| ask.owners = kept(Owners::Caller(me))).await;
    assert_eq!(classes(&created), [None, None, None]);
    assert_eq!(fake.world().users.len(), 1);
    assert_eq!(fake.count("POST", "/api/v2/users/"), 3);
    assert_eq!(ledger.contents().owned(Kind::User).count(), 0);
    assert!(
        created.workspaces.iter().all(|one| one.token.is_none() && one.owner.as_deref() == Some("admin"))
    );
}

#[tokio::test]
async fn flows_may_move_between_threads() {
    fn assert_send<T: Send>(flow: T) -> T {
        flow
    }
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
    let flow = desk.flow();
    assert_send(create(&flow, &ledger, 1, |_| ())).await;
    ledger.close().await.unwrap();
    let plan = assert_send(desk.plan(&fake, &folder, &scale_coder::flows::plan::Choice::default())).await;
    assert_send(flow.clean_up(&plan)).await.unwrap();
    assert_send(pool(&desk.client, 0)).await.unwrap();
}

#[tokio::test]
async fn a_pool_of_users_is_made_once_and_used_again() {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let (desk, of_pool) = (Desk::new(&fake), folder.ledger(&fake, "r0-0"));
    let names = Names::new("r0-0", None, 3).unwrap();
    let ask = CreateUsers {
        ledger: &of_pool,
        names: &names,
        count: 3,
        organization_id: OTHER_ORGANIZATION,
        token_lifetime: Some(Duration::from_secs(60)),
    };
    let users = desk.flow().create_users(&ask).await;
    assert!(
        users.users.iter().all(|user| user.failure.is_none() && user.id.is_some() && user.token.is_some())
    );
    assert_eq!(fake.count("POST", "/api/v2/users/login"), 0);

    let words = pool(&desk.client, 5).await.unwrap_err().to_string();
    assert!(words.contains("3 test users") && words.contains("create-users --count 2"), "{words}");
    fake.world().add_user("scaletest-person", "person@example.com", None);
    let owners = Owners::Pool(pool(&desk.client, 3).await.unwrap());
    let ledger = folder.ledger(&fake, "r1-0");
    let created = create(&desk.flow(), &ledger, 3, |ask| ask.owners = kept(owners)).await;
    assert_eq!(classes(&created), [None, None, None]);
    assert_eq!(created.workspaces[2].owner.as_deref(), Some("scaletest-r0-0-2"));
    assert!(fake.world().users[1].organizations.iter().any(|id| id == ORGANIZATION), "they became members");
    assert_eq!(ledger.contents().owned(Kind::User).count(), 0, "the pool is the other run's");
    assert_eq!(fake.world().workspaces.len(), 3);
}

#[tokio::test]
async fn so_many_at_once_and_no_more() {
    for (concurrency, most) in [(1, 1), (4, 4), (0, 30)] {
        let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
        let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
        fake.state().gather = most;
        let flow = Flow { concurrency, ..desk.flow() };
        let created = create(&flow, &ledger, 30, |_| ()).await;
        assert_eq!(created.failures(), 0);
        assert_eq!(fake.state().under_way_most, most, "concurrency {concurrency}");
    }
}

#[tokio::test]
async fn requests_over_one_pool_have_their_limit() {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let mut desk = Desk::new(&fake);
    desk.client =
        owner_with(Config { pace: pace(), connections: Connections::Pooled, ..Config::new(&fake.url) });
    let ledger = folder.ledger(&fake, "r1-0");
    fake.state().gather = REQUESTS_AT_ONCE_MAX;
    let created = create(&desk.flow(), &ledger, 150, |_| ()).await;
    assert_eq!(created.failures(), 0);
    assert_eq!(fake.state().under_way_most, REQUESTS_AT_ONCE_MAX);
}

#[tokio::test]
async fn a_stop_ends_it_at_once_and_the_time_for_all_ends_it_too() {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    fake.world().weather = Some(Weather { looks: u32::MAX, agent_looks: 0, ends: vec![], agents: vec![1] });
    let (stopper, stop) = Stopper::new();
    let desk = Desk { stop, ..Desk::new(&fake) };
    let ledger = folder.ledger(&fake, "r1-0");
    let flow = Flow { concurrency: 4, ..desk.flow() };
    let watcher = async {
        let mut counts = desk.progress.subscribe();
        counts.wait_for(|counts| counts.of(State::Queued) == 4).await.unwrap();
        stopper.stop();
    };
    let (created, ()) = tokio::join!(create(&flow, &ledger, 10, |_| ()), watcher);
    assert_eq!(created.ended, Ended::Stopped);
    assert_eq!(classes(&created), [Some(Class::Stopped); 10]);
    assert_eq!(ledger.contents().owned(Kind::Workspace).count(), 4, "what was begun is known");

    let desk = Desk::new(&fake);
    let ledger = folder.ledger(&fake, "r2-0");
    let flow = Flow { concurrency: 2, timeout: Duration::from_secs(10), ..desk.flow() };
    let names = Names::new("r2-0", None, 4).unwrap();
    let time_up = async {
        let mut counts = desk.progress.subscribe();
        counts.wait_for(|counts| counts.of(State::Queued) == 2).await.unwrap();
        leap(flow.timeout).await;
    };
    let (created, ()) = tokio::join!(create(&flow, &ledger, 4, |ask| ask.names = kept(names)), time_up);
    assert_eq!(created.ended, Ended::TimedOut);
    let (queue, none) = (Some(Class::QueueTimeout), Some(Class::Stopped));
    assert_eq!(classes(&created), [queue, queue, none, none]);
}

#[tokio::test]
async fn workspaces_for_traffic_are_found_with_the_right_agent() {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
    create(&desk.flow(), &ledger, 5, |_| ()).await;
    let admin = fake.world().users[0].id.clone();
    fake.world().add_workspace("my-scaletest-1", &admin);
    let late = fake.world().add_workspace("scaletest-late", &admin);
    fake.world().workspaces.iter_mut().find(|it| it.id == late).unwrap().agent_looks = u32::MAX;
    let found = find_workspaces(&desk.client, &Query::default()).await.unwrap();
    assert_eq!(found.workspaces.len(), 5);
    // The last resource with agents has two: the first of them it is.
    assert!(found.workspaces.iter().all(|one| one.agent.name == "agent-2-0" && one.apps[0].slug == "wsec"));
    assert_eq!(
        (found.skipped[0].name.as_str(), found.skipped[0].why.as_str()),
        ("scaletest-late", "its agent is connecting")
    );
    let of = async |query: Query| find_workspaces(&desk.client, &query).await;
    let some = of(Query { range: Some(1..3), ..Query::default() }).await.unwrap();
    let expected: Vec<String> = fake.world().workspaces[1..3].iter().map(|one| one.name.clone()).collect();
    assert_eq!(some.workspaces.into_iter().map(|one| one.name).collect::<Vec<_>>(), expected);
    let one = of(Query { owner: Some("scaletest-r1-0-4".into()), ..Query::default() }).await.unwrap();
    assert_eq!(one.workspaces.len(), 1);
    let words = of(Query { range: Some(0..9), ..Query::default() }).await.unwrap_err().to_string();
    assert!(words.contains("0:9") && words.contains("6 workspaces"), "{words}");
    let words =
        of(Query { template: Some("none".into()), ..Query::default() }).await.unwrap_err().to_string();
    assert!(words.contains("template `none`") && words.contains("create-workspaces"), "{words}");
    fake.assert_manners();
}
