//! Creates that come true late: after their sender is gone, behind the back of a clean-up that has looked already.
//! How long that may take is [`pace`](crate::pace)'s hour, which passes at once when a clean-up waits for it.

use std::pin::pin;
use std::time::Duration;

use scale_coder::class::Class;
use scale_coder::config::{Config, Pace};
use scale_coder::flows::cleanup::Cleaned;
use scale_coder::flows::plan::{Choice, Plan};
use scale_coder::flows::{Ended, Flow};
use scale_coder::ledger::{self, Kind};
use scale_coder::progress::{Counts, State};
use scale_coder::time::later;

use crate::create::create;
use crate::fake::{Fake, What};
use crate::{Desk, Folder, leap, now, owner_with, pace};

const NAME: &str = "scaletest-r1-0-0";
const EMAIL: &str = "markr1-0-0@scaletest.local";

/// A deployment, and the ledger of a run in which the user is there and its workspace was announced, a day ago. All
/// that is known beyond that is that somebody else's workspace bears the prefix, too.
async fn announced() -> (Fake, Folder, Desk) {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let admin = fake.world().users[0].id.clone();
    fake.world().add_workspace("scaletest-keepme", &admin);
    let ledger = folder.ledger(&fake, "r1-0");
    let (a_day, id) = (Duration::from_secs(86_400), fake.world().add_user(NAME, EMAIL, None));
    let then = now().checked_sub(a_day).unwrap();
    ledger.intent(then, Kind::User, NAME, None).await.unwrap();
    ledger.made(Kind::User, NAME, &id, false).unwrap();
    ledger.intent(then, Kind::Workspace, NAME, Some(NAME)).await.unwrap();
    ledger.close().await.unwrap();
    let desk = Desk::new(&fake);
    (fake, folder, desk)
}

/// The workspace comes to be.
fn come(fake: &Fake) {
    let owner = fake.world().users.iter().find(|user| user.username == NAME).expect("its owner").id.clone();
    fake.world().add_workspace(NAME, &owner);
}

/// Cleans up. When it begins to wait, as it has to, `meanwhile` happens, and then the time passes.
async fn cleaned(flow: Flow<'_>, plan: &Plan, meanwhile: impl FnOnce(&Counts)) -> Cleaned {
    let mut counts = flow.progress.subscribe();
    let mut clean_up = pin!(flow.clean_up(plan));
    let counts = tokio::select! {
        biased;
        cleaned = &mut clean_up => panic!("it did not wait: {cleaned:?}"),
        counts = counts.wait_for(|counts| counts.settled_at.is_some()) => counts.unwrap().clone(),
    };
    meanwhile(&counts);
    leap(pace().settle.min(flow.timeout)).await;
    let cleaned = clean_up.await;
    assert!(flow.progress.counts().settled_at.is_none(), "it says when it waits no more");
    cleaned.unwrap()
}

/// With time enough for late creates.
fn patient(desk: &Desk) -> Flow<'_> {
    Flow { timeout: Duration::from_secs(7200), ..desk.flow() }
}

async fn planned(fake: &Fake, folder: &Folder, desk: &Desk) -> Plan {
    desk.plan(fake, folder, &Choice::default()).await
}

fn assert_only_the_foreign_is_left(fake: &Fake, folder: &Folder) {
    assert_eq!(fake.world().names(), ["admin", "scaletest-keepme"]);
    ledger::may_remove(&folder.0.join("r1-0")).unwrap();
    fake.assert_manners();
}

#[tokio::test]
async fn a_workspace_that_comes_behind_the_first_look_is_found_by_the_last() {
    let (fake, folder, desk) = announced().await;
    let plan = planned(&fake, &folder, &desk).await;
    assert_eq!(
        plan.to_string(),
        "1 workspaces (1 not found) and 1 users would go; 1 of them had no answer when they were made and may still \
         come; 1 workspaces and 0 users more bear the prefix scaletest- and are not ours"
    );
    let cleaned = cleaned(patient(&desk), &plan, |_| come(&fake)).await;
    assert_eq!((cleaned.workspaces, cleaned.users, cleaned.gone, cleaned.left.len()), (1, 1, 0, 0));
    assert_only_the_foreign_is_left(&fake, &folder);
}

#[tokio::test]
async fn the_wait_counts_from_the_beginning_of_the_clean_up_and_says_how_long_it_is() {
    let (fake, folder, desk) = announced().await;
    let plan = planned(&fake, &folder, &desk).await;
    let (flow, settle) = (patient(&desk), pace().settle);
    let began = flow.clock.now();
    let (clock, looks) = (flow.clock, || fake.count("GET", "/api/v2/workspaces"));
    let cleaned = cleaned(flow, &plan, |counts| {
        let until = counts.settled_at.unwrap();
        assert!(until >= later(began, settle), "{until}");
        assert!(until <= later(clock.now(), settle), "{until}");
        let words = counts.wait(until.checked_sub(Duration::from_millis(12_300)).unwrap());
        assert_eq!(
            words.unwrap(),
            "waits for 13 s more: 1 creates had no answer and may still come true at the server"
        );
    });
    let (cleaned, before) = (cleaned.await, looks());
    assert_eq!((cleaned.workspaces, cleaned.users, cleaned.gone), (0, 1, 1), "it never came");
    assert!(scale_coder::time::between(began, clock.now()) >= settle);
    // Now that all is known, nothing is looked for any more.
    let plan = planned(&fake, &folder, &desk).await;
    assert!(plan.is_empty() && looks() == before + 1, "{plan}");
}

#[tokio::test]
async fn a_look_that_began_before_the_time_was_up_is_not_the_last() {
    let (fake, folder, mut desk) = announced().await;
    let settle = Duration::from_secs(5);
    desk.client = owner_with(Config { pace: Pace { settle, ..pace() }, ..Config::new(&fake.url) });
    let plan = planned(&fake, &folder, &desk).await;
    // The server has looked, and found nothing; when its answer arrives, the time to settle has passed.
    fake.fault("GET", "/api/v2/workspaces", 1, What::Hold(settle * 2));
    let late = async {
        while fake.state().held == 0 {
            tokio::task::yield_now().await;
        }
        come(&fake);
        leap(settle * 2).await;
    };
    let flow = desk.flow();
    let (cleaned, ()) = tokio::join!(flow.clean_up(&plan), late);
    let cleaned = cleaned.unwrap();
    assert_eq!((cleaned.workspaces, cleaned.users, cleaned.left.len()), (1, 1, 0));
    assert_only_the_foreign_is_left(&fake, &folder);
}

#[tokio::test]
async fn what_is_listed_may_come_a_second_time() {
    let (fake, folder, desk) = announced().await;
    come(&fake);
    let plan = planned(&fake, &folder, &desk).await;
    assert!(plan.workspaces[0].id.is_some() && plan.unsettled() == 1, "{plan}");
    let cleaned = cleaned(patient(&desk), &plan, |counts| {
        assert_eq!(counts.of(State::Settling), 1);
        assert_eq!(fake.world().deleted, [NAME], "what is there goes before the wait");
        come(&fake);
    });
    assert_eq!(cleaned.await.workspaces, 1);
    assert_eq!(fake.world().deleted, [NAME, NAME, NAME], "two workspaces and a user");
    assert_only_the_foreign_is_left(&fake, &folder);
}

#[tokio::test]
async fn a_user_may_come_late_and_twice_and_another_of_its_name_is_spared() {
    for (is_listed, email) in [(false, EMAIL), (true, EMAIL), (true, "other-0@scaletest.local")] {
        let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
        let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
        ledger.intent(now(), Kind::User, NAME, None).await.unwrap();
        ledger.close().await.unwrap();
        if is_listed {
            fake.world().add_user(NAME, EMAIL, None);
        }
        let plan = planned(&fake, &folder, &desk).await;
        let cleaned = cleaned(patient(&desk), &plan, |_| {
            fake.world().add_user(NAME, email, None);
        });
        let cleaned = cleaned.await;
        assert_eq!((cleaned.users, cleaned.gone, cleaned.left.len()), (1, 0, 0));
        let is_ours = email == EMAIL;
        assert_eq!(fake.world().names(), if is_ours { vec!["admin"] } else { vec!["admin", NAME] });
        ledger::may_remove(&folder.0.join("r1-0")).unwrap();
    }
}

#[tokio::test]
async fn what_was_made_by_a_second_try_may_come_once_more_by_the_first() {
    let (fake, folder, desk) = announced().await;
    std::fs::remove_dir_all(folder.0.join("r1-0")).unwrap();
    fake.world().users.retain(|user| user.username == "admin");
    let ledger = folder.ledger(&fake, "r1-0");
    fake.fault("POST", "/api/v2/users", 1, What::Break);
    let created = create(&desk.flow(), &ledger, 2, |_| ()).await;
    assert_eq!(created.failures(), 0, "{created:?}");
    let contents = ledger.contents();
    let unsettled: Vec<_> = contents.all().filter(|(_, _, entry)| entry.unsettled).collect();
    assert!(matches!(unsettled[..], [(Kind::User, _, _)]), "{unsettled:?}");
    let name = unsettled[0].1.to_owned();
    ledger.close().await.unwrap();

    let plan = planned(&fake, &folder, &desk).await;
    let email = fake.world().users.iter().find(|user| user.username == name).unwrap().email.clone();
    let cleaned = cleaned(patient(&desk), &plan, |counts| {
        assert_eq!((counts.of(State::Deleted), counts.of(State::Settling)), (3, 1), "all else went at once");
        fake.world().add_user(&name, &email, None);
    });
    let cleaned = cleaned.await;
    assert_eq!((cleaned.workspaces, cleaned.users, cleaned.left.len()), (2, 2, 0));
    assert_only_the_foreign_is_left(&fake, &folder);
}

#[tokio::test]
async fn an_answer_that_was_lost_and_found_again_leaves_nothing_open() {
    let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
    let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
    fake.fault("POST", "/api/v2/users", 1, What::Lose);
    let created = create(&desk.flow(), &ledger, 1, |_| ()).await;
    assert_eq!(created.failures(), 0, "{created:?}");
    ledger.close().await.unwrap();
    let plan = planned(&fake, &folder, &desk).await;
    assert_eq!(plan.unsettled(), 0, "the one try that had no answer is the one that made it");
    // No hour passes here, so that a wait would outlast the flow.
    let cleaned = desk.flow().clean_up(&plan).await.unwrap();
    assert_eq!((cleaned.ended, cleaned.workspaces, cleaned.users), (Ended::Done, 1, 1));
}

#[tokio::test]
async fn what_the_server_refused_is_known_to_have_come_to_nothing() {
    let refusal = || What::Answer { status: 403, headers: vec![], body: r#"{"message":"Forbidden."}"# };
    for (faults, is_settled) in [(vec![refusal()], true), (vec![What::Break, refusal()], false)] {
        let (fake, folder) = (Fake::start("v2.26.0").await, Folder::new());
        let (desk, ledger) = (Desk::new(&fake), folder.ledger(&fake, "r1-0"));
        for fault in faults {
            fake.fault("POST", "/api/v2/users", 1, fault);
        }
        let created = create(&desk.flow(), &ledger, 1, |_| ()).await;
        assert_eq!(created.workspaces[0].failure.as_ref().unwrap().class, Class::Forbidden);
        ledger.close().await.unwrap();
        let plan = planned(&fake, &folder, &desk).await;
        assert_eq!((plan.is_empty(), plan.unsettled()), (is_settled, usize::from(!is_settled)));
    }
}

#[tokio::test]
async fn those_that_wait_keep_nobody_from_going() {
    let (fake, folder, desk) = announced().await;
    let ledger = folder.ledger(&fake, "r2-0");
    let names = scale_coder::names::Names::new("r2-0", None, 3).unwrap();
    let names: &'static _ = Box::leak(Box::new(names));
    create(&desk.flow(), &ledger, 3, |ask| ask.names = names).await;
    ledger.close().await.unwrap();
    let plan = planned(&fake, &folder, &desk).await;
    let flow = Flow { concurrency: 1, ..patient(&desk) };
    let cleaned = cleaned(flow, &plan, |counts| {
        assert_eq!((counts.of(State::Deleted), counts.of(State::Settling)), (3, 1));
        assert_eq!(counts.of(State::Waiting), 4, "users wait for what they may own");
        come(&fake);
    });
    let cleaned = cleaned.await;
    assert_eq!((cleaned.workspaces, cleaned.users, cleaned.left.len()), (4, 4, 0));
    assert_only_the_foreign_is_left(&fake, &folder);
}

#[tokio::test]
async fn a_clean_up_without_the_time_to_wait_says_so_and_the_next_one_ends_it() {
    let (fake, folder, desk) = announced().await;
    let plan = planned(&fake, &folder, &desk).await;
    let hasty = cleaned(desk.flow(), &plan, |_| ()).await;
    assert_eq!(hasty.ended, Ended::TimedOut);
    let left: Vec<_> = hasty.left.iter().map(|left| (left.kind, left.failure.class)).collect();
    assert_eq!(left, [(Kind::Workspace, Class::Unsettled), (Kind::User, Class::Stopped)]);
    assert!(hasty.left[0].failure.message.contains("clean up again"), "{:?}", hasty.left);
    assert!(ledger::may_remove(&folder.0.join("r1-0")).is_err(), "what may still come is not forgotten");

    come(&fake);
    let plan = planned(&fake, &folder, &desk).await;
    let rest = cleaned(patient(&desk), &plan, |_| ()).await;
    assert_eq!((rest.workspaces, rest.users, rest.left.len()), (1, 1, 0));
    assert_only_the_foreign_is_left(&fake, &folder);
}
