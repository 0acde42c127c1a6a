//! Coder's flows as runs of the daemon: looked at, begun, followed.
//!
//! - [`reach`]: which addresses a deployment's URL means, and whether they may be hit.
//! - [`look`]: everything that is refused before anything is made, and what it would be.
//! - [`work`]: the flow's own task, on the control thread: make, then delete.
//! - [`going`]: a flow while it goes: its events, its report, its end.
//! - [`traffic`]: workspaces as the streams of a run.
//! - [`scenario`]: all of it as one run, and what is owed after a restart.
//! - [`outcome`]: what came of it, in the words of reports.
//!
//! Holds always: nothing is made before its look has passed; a caller that goes away changes nothing of a flow that
//! has begun; the token is in the client and nowhere else.

pub mod going;
mod look;
mod outcome;
mod reach;
pub mod scenario;
pub mod traffic;
mod work;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use scale_api::coder::{Begun, FlowRequest, PREFLIGHT_TIME_MAX};
use scale_api::http::{Problem, ProblemCode};
use scale_coder::ledger::{Head, Ledger};
use scale_coder::time::Timestamp;

use super::caller::Caller;
use super::state::State;
use going::Going;
use look::Ready;

/// What time it is.
fn wall_now() -> Timestamp {
    Timestamp::try_from(scale_ring::host::wall_now()).unwrap_or(Timestamp::MAX)
}

fn invalid(why: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Invalid, why)
}

/// A look, which has its limit.
async fn in_time<T>(look: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let most = Duration::from_nanos(PREFLIGHT_TIME_MAX.ns());
    tokio::time::timeout(most, look).await.map_err(|_| {
        invalid(format!(
            "the deployment did not answer all questions within {} s; look at its health and its rate limits",
            most.as_secs()
        ))
    })?
}

/// Looks at what a flow would do, and begins it unless that is all that was asked for.
///
/// # Errors
/// Why it cannot be.
pub async fn begin(
    state: &Rc<RefCell<State>>,
    caller: &Caller,
    request: FlowRequest,
) -> Result<Begun, Problem> {
    let dry_run = request.dry_run;
    let (permit, store) = {
        let state = state.borrow();
        if !dry_run {
            state.is_free()?;
        }
        (state.targets.permit(caller.clone()), state.store.clone())
    };
    let config = reach::config(&request.deployment, permit.clone()).await?;
    let id = store.new_id(crate::run::supervisor::wall_seconds() as u64);
    let looked = look::look(request, config, &permit, store.root(), id, None);
    let (ready, preflight) = in_time(looked).await?;
    if dry_run || ready.is_nothing() {
        return Ok(Begun { id: None, preflight });
    }
    // On a task of its own: a caller that goes away now has begun it all the same.
    let begun = tokio::task::spawn_local(start(state.clone(), ready));
    let id = begun.await.map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))??;
    Ok(Begun { id: Some(id), preflight })
}

/// Begins the ledger of a flow that makes something, and the flow.
async fn start(state: Rc<RefCell<State>>, ready: Ready) -> Result<String, Problem> {
    let ledger = begin_ledger(&state, &ready).await?;
    let mut state = state.borrow_mut();
    if let Err(why) = state.is_free() {
        // Another run began meanwhile; nothing was made, the ledger is empty.
        let _ = std::fs::remove_dir_all(state.store.folder(&ready.id));
        return Err(why);
    }
    let id = ready.id.clone();
    let root = state.store.root().to_owned();
    state.begin_flow(Going::start(ready, ledger, root));
    Ok(id)
}

/// The ledger of what is to be made, if anything is.
async fn begin_ledger(state: &Rc<RefCell<State>>, ready: &Ready) -> Result<Option<Ledger>, Problem> {
    let folder = state.borrow().store.folder(&ready.id);
    if !state.borrow().store.take(&ready.id) {
        return Err(Problem::new(ProblemCode::RunInProgress, "another run began just now; try again"));
    }
    if !ready.makes() {
        return Ok(None);
    }
    let head = Head {
        run: ready.id.clone(),
        at: wall_now(),
        url: ready.client.url().to_owned(),
        deployment: ready.site.deployment.clone(),
        mark: scale_coder::random::word(MARK_LENGTH),
    };
    let made = tokio::task::spawn_blocking(move || Ledger::create(&folder, head)).await;
    let made = made.map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))?;
    made.map(Some).map_err(|error| Problem::new(ProblemCode::HostCannotCarry, error.to_string()))
}

/// Characters of the random word by which a run's users are known as its own.
const MARK_LENGTH: usize = 12;
