//! A clean-up that is owed: a scenario that cleans up whatever comes says so in its run's folder before it makes
//! anything, and takes it back at its end. A daemon that finds such a note when it starts goes on with the clean-up,
//! under the same run. The token is kept nowhere: the daemon needs one in its own environment
//! ([`scale_api::token`]).

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use scale_api::coder::{Deployment, Secret};
use scale_api::http::Problem;
use scale_api::report::Report;
use scale_api::scenario::CleanUp;
use scale_coder::client::Client;
use scale_coder::ledger;
use scale_coder::preflight::Site;
use scale_ring::folder::Folder;
use serde::{Deserialize, Serialize};

use super::course::Course;
use super::drive;
use crate::control::coder::{invalid, outcome, reach};
use crate::control::state::State;
use crate::run::targets::Action;

const FILE_NAME: &str = "owed.json";
/// With a deployment's roots in it.
const NOTE_BYTES_MAX: u64 = 16 << 20;
/// A deployment that does not answer yet is asked so often, so long apart: hosts start in any order.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_secs(15);

/// What is needed to clean up, but for the token.
#[derive(Serialize, Deserialize)]
struct Owed {
    deployment: Deployment,
    cleanup: CleanUp,
}

/// Notes that a clean-up is owed.
pub fn note(folder: &Path, deployment: &Deployment, cleanup: CleanUp) {
    let deployment = Deployment { token: Secret::default(), ..deployment.clone() };
    let text = serde_json::to_vec(&Owed { deployment, cleanup }).expect("plain words");
    if let Err(error) = Folder::open(folder).and_then(|folder| folder.replace(FILE_NAME, &text)) {
        tracing::warn!("a restart could not go on with the clean-up: cannot write {FILE_NAME}: {error}");
    }
}

/// It is paid, or left to `scalectl cleanup`.
pub fn forget(folder: &Path) {
    let _ = Folder::open(folder).and_then(|folder| folder.remove(FILE_NAME));
}

/// Pays what former daemons owe, one after the other.
pub async fn pay(state: Rc<RefCell<State>>) {
    let store = state.borrow().store.clone();
    let owing = store.owned().unwrap_or_default();
    for (id, count) in owing {
        let folder = store.folder(&id);
        let note = Folder::open(&folder).and_then(|folder| folder.content(FILE_NAME, NOTE_BYTES_MAX));
        let Ok(text) = note else { continue };
        let Ok(mut owed) = serde_json::from_slice::<Owed>(&text) else { continue };
        match scale_api::token::from_environment() {
            Ok(Some(token)) => owed.deployment.token = token,
            missing => {
                let why = missing.err().unwrap_or_else(|| "this daemon has no token of its own".into());
                tracing::warn!(
                    "run {id} was to delete {count} users and workspaces, and {why}; `scalectl cleanup --run {id}` does it, or a restart with CODER_SESSION_TOKEN_FILE or the credential coder-token"
                );
                continue;
            }
        }
        for attempt in 1..=TRIES {
            match pay_one(&state, &id, &owed).await {
                Ok(()) => {
                    forget(&folder);
                    break;
                }
                Err(why) if attempt == TRIES => {
                    tracing::warn!("run {id} still owns {count} users and workspaces: {}", why.detail);
                }
                Err(why) => {
                    tracing::warn!("run {id}: clean-up waits for the deployment: {}", why.detail);
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
            }
        }
    }
}

/// Cleans up after run `id`.
async fn pay_one(state: &Rc<RefCell<State>>, id: &str, owed: &Owed) -> Result<(), Problem> {
    let (client, site) = reached(state, owed).await?;
    let course = {
        let mut state = state.borrow_mut();
        state.is_free()?;
        let report = state.store.report(Some(id)).and_then(|text| serde_json::from_slice(&text).ok());
        let mut report: Report = report.unwrap_or_default();
        report.run.id = id.to_owned();
        let ledger = state.store.folder(id).join(ledger::FILE_NAME);
        let course = Rc::new(Course::resumed(report, ledger, state.targets.own()));
        state.begin_scenario(course.clone());
        course
    };
    drive::clean_up(state, &course, &client, &site, owed.cleanup).await;
    let is_cut_off = course.is_shut_down();
    course.end();
    // The state takes note of it at its next tick.
    while state.borrow().is_going(id) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = outcome::owned(&state.borrow().store.folder(id).join(ledger::FILE_NAME));
    if left > 0 && !is_cut_off {
        tracing::warn!("run {id} still owns {left} users and workspaces; `scalectl cleanup --run {id}`");
    }
    if is_cut_off { Err(invalid("the daemon ends")) } else { Ok(()) }
}

/// The deployment, once it answers and lets us.
async fn reached(state: &Rc<RefCell<State>>, owed: &Owed) -> Result<(Client, Site), Problem> {
    // Nobody asks for it now: what was allowed to be made may be deleted.
    let permit = state.borrow().targets.own();
    let config = reach::config(&owed.deployment, permit.clone()).await?;
    let (token, actions) = (&owed.deployment.token, [Action::Delete]);
    let (mut client, site) = reach::enter(config, token, Duration::ZERO, &permit, &actions).await?;
    client.bypass_rate_limits(true);
    Ok((client, site))
}
