//! Users: a pool that is made once and used again, with tokens that need no logins.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use serde::Serialize;

use super::{Ended, Flow, noted};
use crate::calls::NewUser;
use crate::class::{Class, Failure};
use crate::error::ApiError;
use crate::ledger::{Kind, Ledger};
use crate::names::{EMAIL_SUFFIX, Names, PREFIX};
use crate::progress::State;
use crate::secret::Token;
use crate::types::User;

/// What is to be made.
#[derive(Debug)]
pub struct CreateUsers<'a> {
    /// Where the intents go.
    pub ledger: &'a Ledger,
    /// What they are called.
    pub names: &'a Names,
    /// How many.
    pub count: u32,
    /// Where they become members.
    pub organization_id: &'a str,
    /// Mints a token of this lifetime for each.
    pub token_lifetime: Option<Duration>,
}

/// What became of one user.
#[derive(Debug, Clone, Serialize)]
pub struct UserResult {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub username: String,
    /// Its id, once it was made.
    pub id: Option<String>,
    /// Its token, where one was asked for.
    #[serde(skip)]
    pub token: Option<Token>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// What became of all.
#[derive(Debug, Clone, Serialize)]
pub struct CreatedUsers {
    /// In order.
    pub users: Vec<UserResult>,
    /// How it ended.
    pub ended: Ended,
}

impl From<crate::ledger::LedgerError> for Failure {
    fn from(error: crate::ledger::LedgerError) -> Self {
        Self { class: Class::Ledger, message: error.to_string() }
    }
}

impl Flow<'_> {
    /// Makes users `0 … count − 1`.
    pub async fn create_users(&self, ask: &CreateUsers<'_>) -> CreatedUsers {
        self.progress.begin(ask.count as usize);
        let result = |index| UserResult {
            index,
            username: ask.names.name(index),
            id: None,
            token: None,
            failure: None,
        };
        let slots: Vec<Mutex<UserResult>> = (0..ask.count).map(|index| Mutex::new(result(index))).collect();
        let jobs = (0..ask.count).map(|index| {
            let slot = &slots[index as usize];
            async move {
                let job = self.create_user(ask, index, slot);
                let done = tokio::time::timeout(self.job_timeout, job).await;
                match done.unwrap_or_else(|_| Err(Failure::of(Class::RequestTimeout))) {
                    Ok(()) => self.progress.set(index as usize, State::Ready),
                    Err(failure) => {
                        self.progress.fail(index as usize, failure.class);
                        slot.lock().expect("no job panics").failure = Some(failure);
                    }
                }
            }
            .boxed()
        });
        let ended = self.run(self.all(jobs)).await;
        let mut users: Vec<_> =
            slots.into_iter().map(|slot| slot.into_inner().expect("no job panics")).collect();
        for user in &mut users {
            if let Some(failure) = self.unfinished(ended, user.index as usize) {
                user.failure = Some(failure);
            }
        }
        CreatedUsers { users, ended }
    }

    async fn create_user(
        &self,
        ask: &CreateUsers<'_>,
        index: u32,
        slot: &Mutex<UserResult>,
    ) -> Result<(), Failure> {
        self.progress.set(index as usize, State::Creating);
        let user = self.make_user(ask.ledger, ask.names, index, ask.organization_id).await?;
        slot.lock().expect("no job panics").id = Some(user.id.clone());
        if let Some(lifetime) = ask.token_lifetime {
            let token = self.client.mint_token(&user.id, lifetime).await?;
            slot.lock().expect("no job panics").token = Some(token);
        }
        Ok(())
    }

    /// Announces a user in the ledger, makes it, and takes note. A name that is taken by a user with our own
    /// mark is what an earlier try made whose answer was lost.
    pub(super) async fn make_user(
        &self,
        ledger: &Ledger,
        names: &Names,
        index: u32,
        organization_id: &str,
    ) -> Result<User, Failure> {
        let name = names.name(index);
        let email = Names::email(&ledger.mark(), index);
        ledger.intent(self.clock.now(), Kind::User, &name, None).await?;
        let new = NewUser { username: name.clone(), email, organization_id: organization_id.to_owned() };
        let created = self.client.create_user(&new).await;
        let there = match &created.answer {
            Err(error) if error.status() == Some(409) => self.client.user(&name).await?,
            _ => None,
        };
        let there = there.filter(|user| user.email == new.email);
        noted(ledger, Kind::User, &name, created, there, |it| &it.id)
    }
}

/// Why there are no users to use again.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Fewer than asked for.
    #[error("{found} test users are there to be used again, {count} were asked for; scalectl create-users --count {}", count - found)]
    TooFew {
        /// How many there are.
        found: u32,
        /// How many were asked for.
        count: u32,
    },
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// The first `count` test users of the deployment, in the order of their names: those with the prefix, our
/// mail domain, and not suspended.
///
/// # Errors
/// There are fewer.
pub async fn pool(client: &crate::client::Client, count: u32) -> Result<Vec<User>, PoolError> {
    let mut users = client.users(PREFIX).await?;
    users.retain(is_test_user);
    users.retain(|user| user.status != "suspended");
    let found = users.len() as u32;
    if found < count {
        return Err(PoolError::TooFew { found, count });
    }
    users.truncate(count as usize);
    Ok(users)
}

/// Whether a scale test made this user: by its name and by its address.
pub(super) fn is_test_user(user: &User) -> bool {
    crate::names::bears_prefix(&user.username) && user.email.ends_with(EMAIL_SUFFIX)
}
