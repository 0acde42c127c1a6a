//! Waiting for builds and agents: by looking, at a rate that does not grow with their number.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::class::{Class, Failure};
use crate::client::Client;
use crate::types::{Agent, Build, Workspace};

/// How many things a flow looks at. The more, the less often each ([`crate::config::Pace`]).
#[derive(Debug, Default)]
pub struct Watching(AtomicUsize);

/// One thing that is looked at, for as long as this lives.
struct Watched<'a>(&'a AtomicUsize);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Which agents a workspace is ready by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgentRule {
    /// None: a workspace is ready once it is built.
    Ignore,
    /// Every agent is connected, as the original asks.
    #[default]
    Connected,
    /// Every agent is connected and its start-up scripts have ended, well or not.
    Started,
}

impl AgentRule {
    fn fits(self, agent: &Agent) -> bool {
        let started = ["ready", "start_timeout", "start_error"].contains(&agent.lifecycle_state.as_str());
        match self {
            Self::Ignore => true,
            Self::Connected => agent.status == "connected",
            Self::Started => agent.status == "connected" && started,
        }
    }

    /// Why an agent does not fit, once there is no more time.
    pub(super) fn class(self, agent: &Agent) -> Class {
        match (agent.status.as_str(), agent.first_connected_at) {
            ("connected", _) => Class::AgentStart,
            (_, Some(_)) => Class::AgentLost,
            (_, None) => Class::AgentTimeout,
        }
    }
}

impl Watching {
    fn one(&self) -> Watched<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Watched(&self.0)
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Looks at a build until its job has ended; `None` where it is gone with its workspace. `seen` gets every
    /// look.
    ///
    /// # Errors
    /// A call that failed to the end.
    pub(super) async fn build(
        &self,
        client: &Client,
        id: &str,
        mut seen: impl FnMut(&Build),
    ) -> Result<Option<Build>, Failure> {
        let _watched = self.one();
        loop {
            let Some(build) = client.build(id).await? else { return Ok(None) };
            seen(&build);
            if !build.job.is_active() {
                return Ok(Some(build));
            }
            client.rest(self.count()).await;
        }
    }

    /// Looks at a workspace until its agents fit `rule`. `seen` gets the first agent that does not, each time.
    ///
    /// # Errors
    /// It has none; it is gone; a call that failed to the end.
    pub(super) async fn agents(
        &self,
        client: &Client,
        workspace: &str,
        rule: AgentRule,
        mut seen: impl FnMut(&Agent),
    ) -> Result<Workspace, Failure> {
        let _watched = self.one();
        loop {
            let Some(found) = client.workspace(workspace).await? else {
                return Err(Failure::seen(
                    Class::NotFound,
                    "the workspace was deleted while its agent was waited for",
                ));
            };
            if found.latest_build.agents().next().is_none() {
                return Err(Failure::of(Class::NoAgent));
            }
            let waiting = found.latest_build.agents().find(|agent| !rule.fits(agent)).map(&mut seen);
            if waiting.is_none() {
                return Ok(found);
            }
            client.rest(self.count()).await;
        }
    }
}

/// Whether a build that has ended did what it should.
///
/// # Errors
/// It failed or was canceled, with the provisioner's words.
pub(super) fn verdict(build: &Build) -> Result<(), Failure> {
    let words = build.job.error.as_deref().unwrap_or_default();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = match words.char_indices().nth(300) {
        Some((end, _)) => format!(" ({}…)", &words[..end]),
        None if words.is_empty() => words,
        None => format!(" ({words})"),
    };
    let seen = format!("{} build{words}", build.transition);
    match build.job.status.as_str() {
        "succeeded" => Ok(()),
        "canceled" => Err(Failure::seen(Class::BuildCanceled, seen)),
        _ => Err(Failure::seen(Class::BuildFailed, seen)),
    }
}
