//! The flows against a small scripted server in the same process: what is asked for, in which form, what is
//! left when it is cut off at any moment, and what each mistake is told.

mod cleanup;
mod client;
mod create;
mod fake;
mod kill;
mod late;
mod ledger;
mod preflight;
mod terminal;
mod tls;
mod world;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scale_coder::client::Client;
use scale_coder::config::{Config, Pace};
use scale_coder::flows::Flow;
use scale_coder::flows::plan::{Choice, Plan, plan};
use scale_coder::ledger::{Head, Ledger};
use scale_coder::progress::Progress;
use scale_coder::secret::Token;
use scale_coder::stop::Stop;
use scale_coder::time::{Clock, Timestamp};

use fake::Fake;

/// What time it is in all tests and at their servers.
pub fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

/// The usual pace, a thousand times faster.
pub fn pace() -> Pace {
    Pace {
        poll: Duration::from_millis(1),
        polls_per_second_max: 1_000_000,
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        request: Duration::from_secs(20),
        // Longer than any flow here: whoever waits where nothing is to be waited for runs out of time.
        settle: Duration::from_secs(3600),
        ..Pace::default()
    }
}

/// Lets so much time pass at once. The network knows nothing of it: a request that is under way loses as much of its
/// own time.
pub async fn leap(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// A folder for one test, gone with it.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it makes a folder, which no default should")]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("scale-coder-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// Begins the ledger of `run` at `fake`.
    pub fn ledger(&self, fake: &Fake, run: &str) -> Ledger {
        let head = Head {
            run: run.into(),
            at: now(),
            url: fake.url.clone(),
            deployment: fake.world().deployment.clone(),
            mark: format!("mark{run}"),
        };
        Ledger::create(&self.0.join(run), head).expect("a ledger")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A client with the owner's token, as preflight leaves it.
pub fn owner(fake: &Fake) -> Client {
    owner_with(Config { pace: pace(), ..Config::new(&fake.url) })
}

/// The same with settings of its own.
pub fn owner_with(config: Config) -> Client {
    let mut client = Client::new(config, Token::new(world::OWNER_TOKEN).expect("a token")).expect("a client");
    client.bypass_rate_limits(true);
    client
}

/// What a flow needs, kept in one place.
pub struct Desk {
    /// The owner's.
    pub client: Client,
    /// The newest flow's.
    pub progress: Progress,
    /// Never comes, unless it is replaced.
    pub stop: Stop,
}

impl Desk {
    /// The owner's desk.
    pub fn new(fake: &Fake) -> Self {
        Self { client: owner(fake), progress: Progress::default(), stop: Stop::never() }
    }

    /// Everything at once, with time enough.
    pub fn flow(&self) -> Flow<'_> {
        Flow {
            client: &self.client,
            progress: &self.progress,
            stop: &self.stop,
            clock: Clock::starting_at(now()),
            concurrency: 0,
            job_timeout: Duration::from_secs(20),
            timeout: Duration::from_secs(40),
        }
    }

    /// The plan of a clean-up of everything in the ledgers.
    pub async fn plan(&self, fake: &Fake, folder: &Folder, choice: &Choice) -> Plan {
        let deployment = fake.world().deployment.clone();
        plan(&self.client, deployment.as_deref(), &folder.0, choice, now()).await.expect("a plan")
    }
}
