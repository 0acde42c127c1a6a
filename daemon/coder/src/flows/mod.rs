//! The flows: what `create-users`, `create-workspaces`, `workspace-traffic` (its search) and `cleanup` do.
//!
//! Each is one future on the caller's task: dropping it ends everything it does, at once, and the ledger says
//! what to clean up. In reading order: [`users`], [`create`] with [`wait`](self), [`at_once`](self) and [`command`],
//! [`find`], [`plan`], [`cleanup`].
//!
//! Clean-up, from a token to the summary:
//!
//! ```no_run
//! # async fn tidy(now: scale_coder::time::Timestamp) -> Result<(), Box<dyn std::error::Error>> {
//! use scale_coder::{client::Client, config::Config, flows::Flow, flows::plan, preflight};
//! use scale_coder::{progress::Progress, secret::Token, stop::Stop, time::Clock};
//! use std::{path::Path, time::Duration};
//!
//! let token = Token::new(&std::fs::read_to_string("/etc/scaled/coder-token")?)?;
//! let mut client = Client::new(Config::new("http://coder.example.com"), token)?;
//! let ask = preflight::Ask { now, planned: Duration::from_secs(1800), deployment: None };
//! let site = preflight::site(&mut client, &ask).await?;
//! let (state, choice) = (Path::new("/var/lib/scaled"), plan::Choice::default());
//! let plan = plan::plan(&client, site.deployment.as_deref(), state, &choice, now).await?;
//! println!("{plan}"); // and ask, before:
//! let flow = Flow {
//!     client: &client,
//!     progress: &Progress::default(),
//!     stop: &Stop::never(),
//!     clock: Clock::starting_at(now),
//!     concurrency: 0,
//!     job_timeout: Duration::from_secs(300),
//!     timeout: Duration::from_secs(1800),
//! };
//! let cleaned = flow.clean_up(&plan).await?;
//! println!("{} workspaces and {} users deleted", cleaned.workspaces, cleaned.users);
//! # Ok(())
//! # }
//! ```

mod at_once;
pub mod cleanup;
pub mod command;
pub mod create;
pub mod find;
pub mod plan;
pub mod users;
mod wait;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use serde::{Serialize, Serializer};

use crate::class::{Class, Failure};
use crate::client::{Client, Outcome};
use crate::ledger::{Kind, Ledger};
use crate::progress::{Progress, State};
use crate::stop::Stop;
use crate::time::Clock;

pub use wait::Watching;

/// What every flow works with.
#[derive(Debug)]
pub struct Flow<'a> {
    /// The owner's client.
    pub client: &'a Client,
    /// Where its counts go.
    pub progress: &'a Progress,
    /// What ends it early.
    pub stop: &'a Stop,
    /// What time it is, for the ledger.
    pub clock: Clock,
    /// How many things are under way at once; 0 is all.
    pub concurrency: u32,
    /// For one thing.
    pub job_timeout: Duration,
    /// For all.
    pub timeout: Duration,
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Each thing was done or failed.
    Done,
    /// It was stopped.
    Stopped,
    /// The time for all was up.
    TimedOut,
}

impl Ended {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::TimedOut => "timed_out",
        }
    }
}

impl Serialize for Ended {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Flow<'_> {
    /// Why thing number `index` is not done, now that the flow has ended.
    fn unfinished(&self, ended: Ended, index: usize) -> Option<Failure> {
        let class = match (self.progress.state(index), ended) {
            (State::Ready | State::Deleted | State::Failed, _) => return None,
            (State::Creating, Ended::TimedOut) => Class::RequestTimeout,
            (State::Queued, Ended::TimedOut) => Class::QueueTimeout,
            (State::Building | State::Cancelling | State::Deleting, Ended::TimedOut) => Class::BuildTimeout,
            (State::AgentConnecting, Ended::TimedOut) => Class::AgentTimeout,
            (State::Connecting, Ended::TimedOut) => Class::TerminalSilent,
            (State::RunningCommand, Ended::TimedOut) => Class::CommandTimeout,
            (State::Settling, Ended::TimedOut) => Class::Unsettled,
            _ => Class::Stopped,
        };
        self.progress.fail(index, class);
        Some(Failure::of(class))
    }

    /// Runs the jobs, so many at once, until all are done. They are boxed, so that a flow can be seen to be `Send`.
    async fn all<'a>(&self, jobs: impl Iterator<Item = BoxFuture<'a, ()>>) {
        let at_once = if self.concurrency == 0 { usize::MAX } else { self.concurrency as usize };
        let jobs = futures_util::stream::iter(jobs).buffer_unordered(at_once);
        jobs.for_each(|()| std::future::ready(())).await;
    }

    /// Works until that is done or the flow has to end.
    async fn run(&self, work: impl Future<Output = ()>) -> Ended {
        tokio::select! {
            biased;
            () = self.stop.heard() => Ended::Stopped,
            () = work => Ended::Done,
            () = tokio::time::sleep(self.timeout) => Ended::TimedOut,
        }
    }
}

/// Takes note in the ledger of what came of a create. `there`: what an earlier try made whose answer was lost, found
/// when the last one was told that the name is taken.
fn noted<T>(
    ledger: &Ledger,
    kind: Kind,
    name: &str,
    created: Outcome<T>,
    there: Option<T>,
    id: impl Fn(&T) -> &str,
) -> Result<T, Failure> {
    // One of the unknown tries made what is there, so that this one is known now.
    let unknown = created.unknown.saturating_sub(u32::from(there.is_some()));
    match there.map_or(created.answer, Ok) {
        Ok(thing) => {
            ledger.made(kind, name, id(&thing), unknown > 0)?;
            Ok(thing)
        }
        Err(error) => {
            if unknown == 0 {
                ledger.deleted(kind, name)?;
            }
            Err(error.into())
        }
    }
}
