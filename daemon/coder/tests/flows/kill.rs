//! Cut off at any moment: the flow's future is dropped, the ledger's file is kept as it is on the disk just then,
//! and clean-up from that copy finds and deletes exactly what was made.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use scale_coder::flows::plan::Choice;
use scale_coder::random::Random;

use crate::create::create;
use crate::fake::{Fake, What};
use crate::world::Weather;
use crate::{Desk, Folder};

const MOMENTS: u64 = 60;

/// Runs `work` until it is done or was polled `most` times; says how often it was.
async fn cut<T>(work: impl Future<Output = T>, most: u64) -> (Option<T>, u64) {
    let mut work = pin!(work);
    let mut polls = 0;
    let result = poll_fn(|context| {
        if polls == most {
            return Poll::Ready(None);
        }
        polls += 1;
        work.as_mut().poll(context).map(Some)
    });
    (result.await, polls)
}

/// A deployment with something foreign in it, slow enough that much is under way at once.
async fn deployment(seed: u64) -> Fake {
    let fake = Fake::start(if seed.is_multiple_of(2) { "v0.24.1" } else { "v2.26.0" }).await;
    let admin = fake.world().users[0].id.clone();
    fake.world().add_workspace("scaletest-keepme", &admin);
    fake.world().weather = Some(Weather { looks: 2, agent_looks: 2, ends: vec!["failed"], agents: vec![1] });
    // A create that was sent comes true up to so much later, when clean-up has made its list already.
    fake.state().delay = Duration::from_millis(2);
    fake.state().create_delay = Duration::from_millis(30);
    fake.fault("POST", "/api/v2/users", 1, What::Lose);
    fake
}

/// Cuts a run of create off after `most` polls, and leaves the disk as it was at that moment.
async fn create_cut(fake: &Fake, folder: &Folder, most: u64) -> u64 {
    let (desk, doomed) = (Desk::new(fake), Folder::new());
    desk.client.build_info().await.unwrap();
    let ledger = doomed.ledger(fake, "r1-0");
    let flow = desk.flow();
    let (_, polls) = cut(create(&flow, &ledger, 6, |ask| ask.retries = 1), most).await;
    let run = folder.0.join("r1-0");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::copy(ledger.path(), run.join("coder.jsonl")).unwrap();
    ledger.close().await.unwrap();
    polls
}

#[tokio::test]
async fn create_may_be_cut_off_at_any_moment() {
    let whole = create_cut(&deployment(0).await, &Folder::new(), u64::MAX).await;
    assert!(whole > 60, "{whole} polls are too few to cut at");
    let (owned, empty) = (AtomicU64::new(0), AtomicU64::new(0));
    for seed in 0..MOMENTS {
        let most = Random::new(seed).next() % whole;
        let (fake, folder) = (deployment(seed).await, Folder::new());
        create_cut(&fake, &folder, most).await;
        let desk = Desk::new(&fake);
        let plan = desk.plan(&fake, &folder, &Choice::default()).await;
        let cleaned = desk.flow().clean_up(&plan).await.unwrap();
        assert!(cleaned.left.is_empty(), "seed {seed}, cut after {most} polls: {cleaned:?}");
        fake.quiet().await;
        assert_eq!(
            fake.world().names(),
            ["admin", "scaletest-keepme"],
            "seed {seed}, cut after {most} polls"
        );
        let mut made = fake.world().made.clone();
        let mut deleted = fake.world().deleted.clone();
        made.sort();
        deleted.sort();
        assert_eq!(made, deleted, "seed {seed}, cut after {most} polls");
        scale_coder::ledger::may_remove(&folder.0.join("r1-0")).unwrap();
        fake.assert_manners();
        let which = if made.is_empty() { &empty } else { &owned };
        which.fetch_add(1, Ordering::Relaxed);
    }
    assert!(owned.into_inner() > MOMENTS / 2, "most moments leave something to clean up");
}

#[tokio::test]
async fn clean_up_may_be_cut_off_at_any_moment_and_again() {
    for seed in 0..MOMENTS / 2 {
        let (fake, folder) = (deployment(seed).await, Folder::new());
        create_cut(&fake, &folder, u64::MAX).await;
        let mut random = Random::new(seed);
        let mut cuts = 0;
        loop {
            let desk = Desk::new(&fake);
            let plan = desk.plan(&fake, &folder, &Choice::default()).await;
            let most = random.next() % 120;
            let flow = desk.flow();
            let (cleaned, _) = cut(flow.clean_up(&plan), most).await;
            if let Some(cleaned) = cleaned {
                let cleaned = cleaned.unwrap();
                assert!(cleaned.left.is_empty(), "seed {seed}: {cleaned:?}");
                break;
            }
            cuts += 1;
            assert!(cuts < 1000, "seed {seed}: it never ends");
        }
        assert_eq!(fake.world().names(), ["admin", "scaletest-keepme"], "seed {seed} after {cuts} cuts");
        scale_coder::ledger::may_remove(&folder.0.join("r1-0")).unwrap();
        fake.assert_manners();
    }
}
