//! Clean-up: what is listed, what goes, what stays, and that it may be cut off.

use std::time::Duration;

use scale_coder::class::Class;
use scale_coder::flows::cleanup::Cleaned;
use scale_coder::flows::plan::{Choice, Plan, plan};
use scale_coder::flows::{Ended, Flow};
use scale_coder::ledger::{self, Kind};
use scale_coder::names::Names;
use scale_coder::progress::State;
use scale_coder::stop::Stopper;

use crate::create::create;
use crate::fake::{Fake, What};
use crate::world::Weather;
use crate::{Desk, Folder, now};

/// A deployment with five workspaces of run `r1-0`, a foreign one that bears the prefix, and one that does not.
async fn made() -> (Fake, Folder, Desk) {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let admin = fake.world().users[0].id.clone();
    fake.world().add_workspace("scaletest-keepme", &admin);
    fake.world().add_workspace("my-own", &admin);
    let desk = Desk::new(&fake);
    let ledger = folder.ledger(&fake, "r1-0");
    let created = create(&desk.flow(), &ledger, 5, |_| ()).await;
    assert_eq!(created.failures(), 0, "{created:?}");
    ledger.close().await.unwrap();
    (fake, folder, desk)
}

/// What of `plan` is to be seen of it.
fn names(plan: &Plan) -> (Vec<&str>, Vec<&str>) {
    let names = |of: &'static str| {
        let all = if of == "users" { &plan.users } else { &plan.workspaces };
        all.iter().map(|planned| planned.name.as_str()).collect()
    };
    (names("workspaces"), names("users"))
}

/// Only what was there before any run is there.
fn assert_only_the_foreign_is_left(fake: &Fake) {
    assert_eq!(fake.world().names(), ["admin", "scaletest-keepme", "my-own"]);
    assert!(!fake.world().deleted.iter().any(|name| !name.starts_with("scaletest-r")));
    fake.assert_manners();
}

async fn cleaned(fake: &Fake, folder: &Folder, desk: &Desk) -> Cleaned {
    let plan = desk.plan(fake, folder, &Choice::default()).await;
    desk.flow().clean_up(&plan).await.unwrap()
}

#[tokio::test]
async fn first_the_list_and_then_exactly_what_it_says() {
    let (fake, folder, desk) = made().await;
    let before = fake.world().names();
    let plan = desk.plan(&fake, &folder, &Choice::default()).await;
    assert_eq!(fake.world().names(), before, "a list changes nothing");
    let (workspaces, users) = names(&plan);
    assert_eq!((workspaces.len(), users.len(), plan.foreign_workspaces, plan.foreign_users), (5, 5, 1, 0));
    assert_eq!(
        plan.to_string(),
        "5 workspaces (5 running) and 5 users would go; 1 workspaces and 0 users more bear the prefix scaletest- \
         and are not ours"
    );
    assert_eq!(plan.workspaces[0].run.as_deref(), Some("r1-0"));
    assert!(
        ledger::may_remove(&folder.0.join("r1-0"))
            .unwrap_err()
            .to_string()
            .contains("5 users and 5 workspaces")
    );

    let cleaned = desk.flow().clean_up(&plan).await.unwrap();
    assert_eq!((cleaned.workspaces, cleaned.users, cleaned.gone, cleaned.left.len()), (5, 5, 0, 0));
    assert_eq!((cleaned.ended, desk.progress.counts().of(State::Deleted)), (Ended::Done, 10));
    assert_only_the_foreign_is_left(&fake);
    ledger::may_remove(&folder.0.join("r1-0")).unwrap();
    // A second time there is nothing to do.
    assert!(desk.plan(&fake, &folder, &Choice::default()).await.is_empty());
}

#[tokio::test]
async fn only_the_chosen_runs_go() {
    let (fake, folder, desk) = made().await;
    let ledger = folder.ledger(&fake, "r2-0");
    let run = Names::new("r2-0", None, 2).unwrap();
    let names: &'static Names = Box::leak(Box::new(run));
    create(&desk.flow(), &ledger, 2, |ask| ask.names = names).await;
    ledger.close().await.unwrap();
    let of = async |choice: Choice| desk.plan(&fake, &folder, &choice).await;
    let plan = of(Choice { run: Some("r2-0".into()), ..Choice::default() }).await;
    assert_eq!((plan.workspaces.len(), plan.foreign_workspaces, plan.foreign_users), (2, 6, 5));
    let plan = of(Choice { older_than: Some(Duration::from_secs(60)), ..Choice::default() }).await;
    assert!(plan.is_empty());
    let choice = Choice { run: Some("r9-0".into()), ..Choice::default() };
    let error =
        scale_coder::flows::plan::plan(&desk.client, None, &folder.0, &choice, now()).await.unwrap_err();
    assert!(error.to_string().contains("no ledger of run r9-0"), "{error}");
    let choice = Choice { all_prefixed: true, ..choice };
    assert!(plan_error(&desk, &folder, &choice).await.contains("leave out --run"));
}

async fn plan_error(desk: &Desk, folder: &Folder, choice: &Choice) -> String {
    plan(&desk.client, None, &folder.0, choice, now()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn the_ledger_of_another_deployment_decides_nothing_here() {
    let (fake, folder, desk) = made().await;
    fake.world().deployment = Some("deployment-2".into());
    let plan = desk.plan(&fake, &folder, &Choice::default()).await;
    assert!(plan.is_empty());
    assert_eq!((plan.other_deployments, plan.foreign_workspaces, plan.foreign_users), (1, 6, 5));
    assert!(plan.to_string().ends_with("; 1 runs own things on other deployments"), "{plan}");
}

#[tokio::test]
async fn the_same_name_with_another_id_is_not_ours() {
    let (fake, folder, desk) = made().await;
    let admin = fake.world().users[0].id.clone();
    fake.world().workspaces.retain(|workspace| workspace.name != "scaletest-r1-0-3");
    fake.world().add_workspace("scaletest-r1-0-3", &admin);
    let cleaned = cleaned(&fake, &folder, &desk).await;
    assert_eq!((cleaned.workspaces, cleaned.users, cleaned.gone, cleaned.left.len()), (4, 5, 1, 0));
    assert_eq!(fake.world().names(), ["admin", "scaletest-keepme", "my-own", "scaletest-r1-0-3"]);
}

#[tokio::test]
async fn builds_under_way_are_cancelled_and_waited_for() {
    let (fake, folder, desk) = made().await;
    let weather = Weather { looks: 3, agent_looks: 0, ends: vec![], agents: vec![1] };
    fake.world().weather = Some(weather);
    for (at, transition, status) in
        [(2, "start", "pending"), (3, "stop", "running"), (4, "delete", "running")]
    {
        let mut world = fake.world();
        let build = world.workspaces[at].builds.last_mut().unwrap();
        (build.transition, build.status, build.looks) = (transition.into(), status.into(), 3);
    }
    let cleaned = cleaned(&fake, &folder, &desk).await;
    assert!(cleaned.left.is_empty(), "{cleaned:?}");
    assert_eq!(fake.count("PATCH", "/api/v2/workspacebuilds/"), 2, "a deletion is let go on");
    assert_only_the_foreign_is_left(&fake);
}

#[tokio::test]
async fn a_build_that_comes_between_is_waited_for() {
    let (fake, folder, desk) = made().await;
    let busy = What::Answer {
        status: 409,
        headers: vec![],
        body: r#"{"message":"A workspace build is already active."}"#,
    };
    fake.fault("POST", "/api/v2/workspaces/", 4, busy);
    let cleaned = cleaned(&fake, &folder, &desk).await;
    assert!(cleaned.left.is_empty(), "{cleaned:?}");
    assert_only_the_foreign_is_left(&fake);
}

#[tokio::test]
async fn a_deletion_that_fails_is_tried_again_and_then_left_with_its_user() {
    let (fake, folder, desk) = made().await;
    let ends = vec!["failed", "canceled", "failed"];
    fake.world().weather = Some(Weather { looks: 1, agent_looks: 0, ends, agents: vec![1] });
    let one = Flow { concurrency: 1, ..desk.flow() };
    let plan = desk.plan(&fake, &folder, &Choice::default()).await;
    let cleaned = one.clean_up(&plan).await.unwrap();
    let left: Vec<_> = cleaned.left.iter().map(|left| (left.kind, left.failure.class)).collect();
    assert_eq!(left, [(Kind::Workspace, Class::BuildFailed), (Kind::User, Class::UserOwnsWorkspaces)]);
    assert_eq!((cleaned.workspaces, cleaned.users), (4, 4));
    assert!(cleaned.left[0].failure.message.contains("delete build (terraform: no capacity)"));
    // It goes the next time.
    assert!(self::cleaned(&fake, &folder, &desk).await.left.is_empty());
    assert_only_the_foreign_is_left(&fake);
}

#[tokio::test]
async fn what_is_gone_already_is_no_failure() {
    let (fake, folder, desk) = made().await;
    let plan = desk.plan(&fake, &folder, &Choice::default()).await;
    fake.world().workspaces.retain(|workspace| !workspace.name.starts_with("scaletest-r1"));
    fake.world().users.retain(|user| user.username != "scaletest-r1-0-0");
    let cleaned = desk.flow().clean_up(&plan).await.unwrap();
    assert_eq!((cleaned.gone, cleaned.users, cleaned.left.len()), (6, 4, 0));
    assert_only_the_foreign_is_left(&fake);
}

#[tokio::test]
async fn what_was_renamed_meanwhile_is_not_deleted() {
    let (fake, folder, desk) = made().await;
    let plan = desk.plan(&fake, &folder, &Choice::default()).await;
    fake.world().workspaces[2].name = "important".into();
    let cleaned = desk.flow().clean_up(&plan).await.unwrap();
    assert_eq!(cleaned.left.len(), 2, "the workspace and the user that owns it");
    assert!(cleaned.left[0].failure.message.contains("called `important` now"), "{cleaned:?}");
    assert!(fake.world().names().contains(&"important".to_owned()));
}

#[tokio::test]
async fn by_prefix_alone_spares_what_was_just_used_unless_forced() {
    let (fake, folder, desk) = made().await;
    let old = fake.world().add_user("scaletest-old-0", "old-0@scaletest.local", None);
    let fresh = fake.world().add_user("scaletest-fresh-0", "fresh-0@scaletest.local", None);
    fake.world().add_user("scaletest-person", "person@example.com", None);
    fake.world().add_workspace("scaletest-old-0", &old);
    fake.world().add_workspace("scaletest-fresh-0", &fresh);
    fake.world().workspaces.last_mut().unwrap().last_used_at = "2026-03-01T11:51:00Z".into();
    let choice = Choice { all_prefixed: true, ..Choice::default() };
    let plan = desk.plan(&fake, &folder, &choice).await;
    // Those of the ledger are minutes old, too, and ours.
    assert_eq!((plan.workspaces.len(), plan.users.len()), (5 + 2, 5 + 1));
    assert_eq!(plan.spared, ["scaletest-fresh-0", "scaletest-fresh-0"], "the workspace and its owner");
    assert!(plan.to_string().contains("; 2 were used in the last 10 minutes and stay, --force"), "{plan}");
    // Somebody begins to use one after it was listed.
    fake.world().workspaces[0].last_used_at = "2026-03-01T12:00:00Z".into();
    let cleaned = desk.flow().clean_up(&plan).await.unwrap();
    assert_eq!((cleaned.workspaces, cleaned.users, cleaned.left.len()), (6, 6, 1));
    assert!(
        cleaned.left[0].name == "scaletest-keepme" && cleaned.left[0].failure.message.contains("--force")
    );
    let plan = desk.plan(&fake, &folder, &Choice { force: true, ..choice }).await;
    assert_eq!(names(&plan), (vec!["scaletest-keepme", "scaletest-fresh-0"], vec!["scaletest-fresh-0"]));
    desk.flow().clean_up(&plan).await.unwrap();
    assert_eq!(fake.world().names(), ["admin", "scaletest-person", "my-own"]);
}

#[tokio::test]
async fn a_stopped_clean_up_is_finished_by_the_next() {
    let (fake, folder, desk) = made().await;
    fake.state().delay = Duration::from_millis(2);
    let (stopper, stop) = Stopper::new();
    let stopped = Desk { stop, ..Desk::new(&fake) };
    let plan = stopped.plan(&fake, &folder, &Choice::default()).await;
    let flow = Flow { concurrency: 1, ..stopped.flow() };
    let watcher = async {
        let mut counts = stopped.progress.subscribe();
        counts.wait_for(|counts| counts.of(State::Deleted) == 2).await.unwrap();
        stopper.stop();
    };
    let (cleaned, ()) = tokio::join!(flow.clean_up(&plan), watcher);
    let cleaned = cleaned.unwrap();
    assert_eq!((cleaned.ended, cleaned.workspaces, cleaned.left.len()), (Ended::Stopped, 2, 8));
    let rest = self::cleaned(&fake, &folder, &desk).await;
    assert!(rest.left.is_empty() && rest.users == 5, "{rest:?}");
    assert_only_the_foreign_is_left(&fake);
}

#[tokio::test]
async fn storms_of_faults_are_outlasted() {
    let (fake, folder, desk) = made().await;
    let storm = || What::Answer { status: 429, headers: vec![], body: r#"{"message":"rate limited"}"# };
    for (method, path) in
        [("GET", "/api/v2/workspaces"), ("POST", "/api/v2/workspaces/"), ("DELETE", "/api/v2/users/")]
    {
        fake.fault(method, path, 5, storm());
        fake.fault(method, path, 2, What::Break);
        fake.fault(method, path, 2, What::Lose);
    }
    let cleaned = cleaned(&fake, &folder, &desk).await;
    assert!(cleaned.left.is_empty(), "{cleaned:?}");
    assert_only_the_foreign_is_left(&fake);
}
