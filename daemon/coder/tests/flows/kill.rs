//! Cut off at any moment: the flow's future is dropped, the ledger's file is kept as it is on the disk just then,
//! and clean-up from that copy finds and deletes exactly what was made.
//!
//! Clean-up promises that for creates that come true within the time to settle. A machine that stands still for
//! longer breaks that condition, and such a moment proves nothing: it is tried again, and said so.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use scale_coder::config::{Config, Pace};
use scale_coder::flows::cleanup::Cleaned;
use scale_coder::flows::plan::Choice;
use scale_coder::random::Random;
use tokio::time::Instant;

use crate::create::create;
use crate::fake::{Fake, What};
use crate::world::Weather;
use crate::{Desk, Folder, owner_with, pace};

const MOMENTS: u64 = 60;
/// Moments that are tried at once.
const AT_ONCE: usize = 10;
/// Tries of one moment on a machine that stands still.
const TRIES_MAX: u32 = 5;
/// What creates take at most.
const CREATE_DELAY: Duration = Duration::from_millis(30);
const SETTLE: Duration = Duration::from_millis(500);

/// Runs `work` until it is done, was polled `most` times, or has come to a moment that `is_it` knows; says how often
/// it was polled.
async fn cut<T>(work: impl Future<Output = T>, most: u64, is_it: impl Fn() -> bool) -> (Option<T>, u64) {
    let mut work = pin!(work);
    let mut polls = 0;
    let result = poll_fn(|context| {
        if polls == most {
            return Poll::Ready(None);
        }
        polls += 1;
        match work.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if is_it() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
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
    fake.state().create_delay = CREATE_DELAY;
    fake.fault("POST", "/api/v2/users", 1, What::Lose);
    fake
}

fn desk(fake: &Fake) -> Desk {
    let pace = Pace { settle: SETTLE, ..pace() };
    Desk { client: owner_with(Config { pace, ..Config::new(&fake.url) }), ..Desk::new(fake) }
}

/// Cuts a run of create off after `most` polls, and leaves the disk as it was at that moment.
async fn create_cut(fake: &Fake, folder: &Folder, most: u64) -> u64 {
    let (desk, doomed) = (desk(fake), Folder::new());
    desk.client.build_info().await.unwrap();
    let ledger = doomed.ledger(fake, "r1-0");
    let flow = desk.flow();
    let (_, polls) = cut(create(&flow, &ledger, 6, |ask| ask.retries = 1), most, || false).await;
    let run = folder.0.join("r1-0");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::copy(ledger.path(), run.join("coder.jsonl")).unwrap();
    ledger.close().await.unwrap();
    polls
}

/// Polls of a whole run of create.
async fn polls_of_create() -> u64 {
    let whole = create_cut(&deployment(0).await, &Folder::new(), u64::MAX).await;
    assert!(whole > 60, "{whole} polls are too few to cut at");
    whole
}

/// Cleans up, for at most so many polls and, where `may_wait` is false, not for late creates. Also says when it began,
/// and whether it was cut off while it waited for those.
async fn clean_up(
    fake: &Fake,
    folder: &Folder,
    most: u64,
    may_wait: bool,
) -> (Option<Cleaned>, Instant, bool) {
    let desk = desk(fake);
    let plan = desk.plan(fake, folder, &Choice::default()).await;
    let (flow, began) = (desk.flow(), Instant::now());
    let waits = || desk.progress.counts().settled_at.is_some();
    let (cleaned, _) = cut(flow.clean_up(&plan), most, || !may_wait && waits()).await;
    (cleaned.map(Result::unwrap), began, waits())
}

/// Everything that was made is gone and known to be, everything else is there. False where the machine broke the
/// promise's condition: a create came true later than creates do.
async fn is_proof(fake: &Fake, folder: &Folder, cleaned: &Cleaned, began: Instant, moment: &str) -> bool {
    fake.quiet().await;
    if fake.state().last_made.is_some_and(|made| made > began + SETTLE) {
        eprintln!("{moment}: tried again, the machine stood still for more than {SETTLE:?}");
        return false;
    }
    assert!(cleaned.left.is_empty(), "{moment}: {cleaned:?}");
    assert_eq!(fake.world().names(), ["admin", "scaletest-keepme"], "{moment}");
    let mut made = fake.world().made.clone();
    let mut deleted = fake.world().deleted.clone();
    made.sort();
    deleted.sort();
    assert_eq!(made, deleted, "{moment}");
    scale_coder::ledger::may_remove(&folder.0.join("r1-0")).unwrap();
    fake.assert_manners();
    true
}

/// Tries each of the moments until it proves something, some at once; what they say, in no order.
async fn moments<T>(moment: impl AsyncFn(u64) -> Option<T>) -> Vec<T> {
    let moment = &moment;
    let tries = futures_util::stream::iter(0..MOMENTS).map(|seed| async move {
        for _ in 0..TRIES_MAX {
            if let Some(said) = moment(seed).await {
                return said;
            }
        }
        panic!("seed {seed}: this machine stood still at each of {TRIES_MAX} tries; try again when it is less busy");
    });
    tries.buffer_unordered(AT_ONCE).collect().await
}

#[tokio::test]
async fn create_may_be_cut_off_at_any_moment() {
    let whole = polls_of_create().await;
    let made = moments(async |seed| {
        let most = Random::new(seed).next() % whole;
        let (fake, folder) = (deployment(seed).await, Folder::new());
        create_cut(&fake, &folder, most).await;
        let (cleaned, began, _) = clean_up(&fake, &folder, u64::MAX, true).await;
        let moment = format!("seed {seed}, cut after {most} polls");
        is_proof(&fake, &folder, &cleaned.unwrap(), began, &moment).await.then(|| fake.world().made.len())
    });
    let owned = made.await.into_iter().filter(|made| *made > 0).count() as u64;
    assert!(owned > MOMENTS / 2, "most moments leave something to clean up, {owned} did");
}

#[tokio::test]
async fn clean_up_may_be_cut_off_at_any_moment_and_again() {
    let whole = polls_of_create().await;
    let cuts = moments(async |seed| {
        let mut random = Random::new(seed);
        let (fake, folder) = (deployment(seed).await, Folder::new());
        // Every third run of create came to its end, the others were well under way.
        let most = if seed.is_multiple_of(3) { u64::MAX } else { whole / 4 + random.next() % whole };
        create_cut(&fake, &folder, most).await;
        let (mut cuts, mut waiting) = (0, 0);
        loop {
            // First so early that nothing can be done, then not later than when it waits, then later and later, so
            // that one comes to its end.
            let (most, may_wait) = match cuts {
                0 => (1 + random.next() % 6, false),
                1 => (20 + random.next() % 1000, false),
                more => (1 + random.next() % (40 << more.min(10)), true),
            };
            let (cleaned, began, was_waiting) = clean_up(&fake, &folder, most, may_wait).await;
            if let Some(cleaned) = cleaned {
                let moment = format!("seed {seed}, after {cuts} cuts");
                break is_proof(&fake, &folder, &cleaned, began, &moment).await.then_some((cuts, waiting));
            }
            cuts += 1;
            waiting += u32::from(was_waiting);
            assert!(cuts < 1000, "seed {seed}: it never ends");
        }
    });
    let cuts = cuts.await;
    let (all, waiting) = cuts.into_iter().fold((0, 0), |sum, cuts| (sum.0 + cuts.0, sum.1 + cuts.1));
    assert!(all >= 50 && waiting > 0, "{all} cuts, {waiting} of them while late creates were waited for");
}
