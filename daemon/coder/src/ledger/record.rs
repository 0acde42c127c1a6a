//! What a ledger's lines say, and what they add up to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A user.
    User,
    /// A workspace.
    Workspace,
}

/// The first line: whose ledger this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The run's id.
    pub run: String,
    /// When it began.
    pub at: Timestamp,
    /// The deployment's URL.
    pub url: String,
    /// The deployment's own id, where it tells one.
    pub deployment: Option<String>,
    /// A random word in the addresses of the users made: proof that a user is this run's own.
    pub mark: String,
}

impl Head {
    /// Whether this ledger is about the deployment at `url` with `deployment` as its id: by ids where both
    /// have one, else by URL.
    pub fn is_of(&self, url: &str, deployment: Option<&str>) -> bool {
        match (self.deployment.as_deref(), deployment) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.url.trim_end_matches('/').eq_ignore_ascii_case(url.trim_end_matches('/')),
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Line {
    /// The first one.
    Run(Head),
    /// It is about to be made.
    Intent {
        at: Timestamp,
        kind: Kind,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
    },
    /// It was made.
    Made {
        kind: Kind,
        name: String,
        id: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unsettled: bool,
    },
    /// It is gone, or never came to be.
    Deleted { kind: Kind, name: String },
}

/// How far a thing has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Its create was about to be sent. Whether it arrived, the server knows.
    Intended,
    /// It is there, with this id.
    Made(String),
    /// It is gone.
    Deleted,
}

/// One thing of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it was about to be made.
    pub at: Timestamp,
    /// Of a workspace: its owner's username.
    pub owner: Option<String>,
    /// How far it has come.
    pub stage: Stage,
    /// Whether a create of it may still come true at the server, even a second one: not every try has an answer.
    pub unsettled: bool,
}

impl Entry {
    /// Its id, where it is known and the thing is not deleted.
    pub fn id(&self) -> Option<&str> {
        match &self.stage {
            Stage::Made(id) => Some(id),
            Stage::Intended | Stage::Deleted => None,
        }
    }
}

/// What a ledger says as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Whose it is.
    pub head: Head,
    entries: BTreeMap<(Kind, String), Entry>,
}

impl Contents {
    pub(super) fn new(head: Head) -> Self {
        Self { head, entries: BTreeMap::new() }
    }

    /// Takes one more line. False where it contradicts what stands before it.
    pub(super) fn take(&mut self, line: Line) -> bool {
        match line {
            Line::Run(_) => return false,
            Line::Intent { at, kind, name, owner } => {
                let entry = Entry { at, owner, stage: Stage::Intended, unsettled: true };
                self.entries.insert((kind, name), entry);
            }
            Line::Made { kind, name, id, unsettled } => match self.entries.get_mut(&(kind, name)) {
                Some(entry) => (entry.stage, entry.unsettled) = (Stage::Made(id), unsettled),
                None => return false,
            },
            Line::Deleted { kind, name } => match self.entries.get_mut(&(kind, name)) {
                Some(entry) => (entry.stage, entry.unsettled) = (Stage::Deleted, false),
                None => return false,
            },
        }
        true
    }

    /// A thing by its name.
    pub fn entry(&self, kind: Kind, name: &str) -> Option<&Entry> {
        self.entries.get(&(kind, name.to_owned()))
    }

    /// Everything, deleted or not: kind, name, entry.
    pub fn all(&self) -> impl Iterator<Item = (Kind, &str, &Entry)> {
        self.entries.iter().map(|((kind, name), entry)| (*kind, name.as_str(), entry))
    }

    /// What may still be there: made, or about to be.
    pub fn owned(&self, kind: Kind) -> impl Iterator<Item = (&str, &Entry)> {
        self.all()
            .filter(move |(of, _, entry)| *of == kind && entry.stage != Stage::Deleted)
            .map(|(_, name, entry)| (name, entry))
    }

    /// Whether nothing is left to delete.
    pub fn is_empty(&self) -> bool {
        self.owned(Kind::User).next().is_none() && self.owned(Kind::Workspace).next().is_none()
    }
}
