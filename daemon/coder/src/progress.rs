//! Plain counts while a flow goes: how many things stand where. To be read at any time, from any thread, or
//! waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::class::Class;
use crate::time::{Timestamp, between};

/// Where one thing of a flow stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Not begun: others come first, by `--concurrency`.
    Waiting,
    /// Its user or workspace is being asked for.
    Creating,
    /// Its build waits for a provisioner.
    Queued,
    /// A provisioner builds it.
    Building,
    /// It is built; its agents are not all connected.
    AgentConnecting,
    /// Its web terminal was asked for; nothing has come of it yet.
    Connecting,
    /// Its command runs in the web terminal.
    RunningCommand,
    /// It is there and can be used.
    Ready,
    /// A build of it that was under way is being cancelled or waited for.
    Cancelling,
    /// It is being deleted.
    Deleting,
    /// It is not there, but its create had no answer and may still come true: waited for, to be looked for again.
    Settling,
    /// It is gone.
    Deleted,
    /// It failed; [`Counts::failed`] says how.
    Failed,
}

impl State {
    /// Every state, in the order in which things go through them.
    pub const ALL: [Self; 13] = [
        Self::Waiting,
        Self::Creating,
        Self::Queued,
        Self::Building,
        Self::AgentConnecting,
        Self::Connecting,
        Self::RunningCommand,
        Self::Ready,
        Self::Cancelling,
        Self::Deleting,
        Self::Settling,
        Self::Deleted,
        Self::Failed,
    ];

    /// Its name in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Creating => "creating",
            Self::Queued => "queued",
            Self::Building => "building",
            Self::AgentConnecting => "agent_connecting",
            Self::Connecting => "connecting",
            Self::RunningCommand => "running_command",
            Self::Ready => "ready",
            Self::Cancelling => "cancelling",
            Self::Deleting => "deleting",
            Self::Settling => "settling",
            Self::Deleted => "deleted",
            Self::Failed => "failed",
        }
    }
}

/// How many things stand where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// By state; states without any are left out.
    pub states: BTreeMap<State, u64>,
    /// Failed ones by class; their sum is the state `Failed`.
    pub failed: BTreeMap<Class, u64>,
    /// While late creates are waited for: until when.
    pub settled_at: Option<Timestamp>,
}

impl Counts {
    /// How many stand in `state`.
    pub fn of(&self, state: State) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }

    /// How many there are in all.
    pub fn total(&self) -> u64 {
        self.states.values().sum()
    }

    /// While late creates are waited for: for which and for how long, as a sentence.
    pub fn wait(&self, now: Timestamp) -> Option<String> {
        let (count, left) = (self.of(State::Settling), between(now, self.settled_at?));
        Some(format!(
            "waits for {} s more: {count} creates had no answer and may still come true at the server",
            left.as_secs_f64().ceil()
        ))
    }

    fn add(&mut self, state: State) {
        *self.states.entry(state).or_default() += 1;
    }

    fn remove(&mut self, state: State) {
        let count = self.states.get_mut(&state).expect("what is left was entered before");
        *count -= 1;
        if *count == 0 {
            self.states.remove(&state);
        }
    }
}

/// The counts of one flow. Clones see the same.
#[derive(Debug, Clone)]
pub struct Progress {
    places: Arc<Mutex<Vec<State>>>,
    counts: watch::Sender<Counts>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { places: Arc::default(), counts: watch::Sender::new(Counts::default()) }
    }
}

impl Progress {
    /// The counts as they are now.
    pub fn counts(&self) -> Counts {
        self.counts.borrow().clone()
    }

    /// A receiver that can wait for changes.
    pub fn subscribe(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }

    /// Begins anew with `count` things that wait.
    pub(crate) fn begin(&self, count: usize) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        *places = vec![State::Waiting; count];
        self.counts.send_modify(|counts| {
            *counts = Counts::default();
            if count > 0 {
                counts.states.insert(State::Waiting, count as u64);
            }
        });
    }

    /// Thing number `index` stands in `state` now.
    pub(crate) fn set(&self, index: usize, state: State) {
        self.change(index, state, None);
    }

    /// Thing number `index` has failed.
    pub(crate) fn fail(&self, index: usize, class: Class) {
        self.change(index, State::Failed, Some(class));
    }

    /// Late creates are waited for until then; with `None`, no longer.
    pub(crate) fn settle(&self, until: Option<Timestamp>) {
        self.counts.send_modify(|counts| counts.settled_at = until);
    }

    /// Where thing number `index` stands.
    pub(crate) fn state(&self, index: usize) -> State {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)[index]
    }

    fn change(&self, index: usize, state: State, class: Option<Class>) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut places[index], state);
        if before == state {
            return;
        }
        assert!(before != State::Failed, "what has failed stays so");
        self.counts.send_modify(|counts| {
            counts.remove(before);
            counts.add(state);
            if let Some(class) = class {
                *counts.failed.entry(class).or_default() += 1;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_always_add_up_to_what_was_begun() {
        let progress = Progress::default();
        progress.begin(3);
        let watching = progress.subscribe();
        progress.set(0, State::Creating);
        progress.set(1, State::Creating);
        progress.set(0, State::Queued);
        progress.fail(1, Class::NameTaken);
        let counts = progress.counts();
        assert_eq!(counts.total(), 3);
        assert_eq!(
            (counts.of(State::Waiting), counts.of(State::Queued), counts.of(State::Failed)),
            (1, 1, 1)
        );
        assert_eq!(counts.failed, BTreeMap::from([(Class::NameTaken, 1)]));
        assert!(watching.has_changed().unwrap());
        assert_eq!(progress.state(0), State::Queued);
    }
}
