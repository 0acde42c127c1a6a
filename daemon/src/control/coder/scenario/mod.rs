//! A scenario: create, baseline, traffic with steps around it, clean-up, as one run with one report and one verdict.
//!
//! - [`look`]: everything that is refused before anything is made, and what it would be.
//! - [`course`]: the scenario while it goes, as the state keeps it: its steps, its report so far.
//! - [`drive`]: its own task: one step after the other.
//! - [`groups`]: the workspaces of its groups of traffic.
//! - [`probe`]: what a request to the API takes, once a second.
//! - [`steps`]: what is done to the deployment meanwhile, as it stands. [`walk`]: one after the other.
//!   [`hands`]: those who run commands, over the control API.
//! - [`owed`]: the clean-up that a daemon that was lost owes, and the next one pays.
//!
//! Each step is a flow or a run of its own kind, under the scenario's id: so that all that can be said to those
//! (`stop`, `set`, `pause`, `mark`) can be said to it while they go.

pub mod course;
mod drive;
mod groups;
pub mod hands;
mod look;
pub mod owed;
mod probe;
mod steps;
mod walk;

use std::cell::RefCell;
use std::rc::Rc;

use scale_api::coder::Begun;
use scale_api::http::{Problem, ProblemCode};
use scale_api::scenario::ScenarioRequest;

use crate::control::caller::Caller;
use crate::control::state::State;

/// Looks at what a scenario would do, and begins it unless that is all that was asked for.
///
/// # Errors
/// Why it cannot be.
pub async fn begin(
    state: &Rc<RefCell<State>>,
    caller: &Caller,
    request: ScenarioRequest,
) -> Result<Begun, Problem> {
    let dry_run = request.dry_run;
    let (looked, preflight) = look::look(state, caller, request).await?;
    if dry_run {
        return Ok(Begun { id: None, preflight });
    }
    // On a task of its own: a caller that goes away now has begun it all the same.
    let begun = tokio::task::spawn_local(drive::start(state.clone(), looked));
    let id = begun.await.map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))??;
    Ok(Begun { id: Some(id), preflight })
}
