//! Those who run a scenario's commands: a `scalectl` attaches, takes what is due, and says what came of it.

use std::cell::RefCell;
use std::rc::Rc;

use scale_api::http::Problem;
use scale_api::scenario::taken::{ClaimRequest, ResultRequest, StepReport};

use super::steps::Hand;
use super::walk;
use crate::control::caller::Caller;
use crate::control::state::State;

type States = Rc<RefCell<State>>;

/// How the steps of scenario `id` stand.
///
/// # Errors
/// It is not going.
pub fn list(state: &States, id: &str) -> Result<Vec<StepReport>, Problem> {
    Ok(state.borrow().course(id)?.step_reports())
}

/// Attaches to scenario `id`.
///
/// # Errors
/// It is not going; too many are attached.
pub fn attach(state: &States, id: &str) -> Result<Hand, Problem> {
    state.borrow().course(id)?.steps.attach()
}

/// Takes the command of a step that is due. It begins now, and so does what it marks.
///
/// # Errors
/// It is not due, or taken; the caller is not attached.
pub fn claim(
    state: &States,
    (id, number): (&str, u32),
    request: ClaimRequest,
    caller: &Caller,
) -> Result<(), Problem> {
    let course = state.borrow().course(id)?;
    let by = caller.started_by();
    tracing::info!(run = %course.id, step = number, uid = by.uid, pid = by.pid, "step is taken");
    course.steps.claim(number, request.hand, course.elapsed(), by)?;
    walk::mark(state, &course, number);
    Ok(())
}

/// Takes what came of a command.
///
/// # Errors
/// It is not the caller's, or it is over.
pub fn answer(state: &States, (id, number): (&str, u32), result: ResultRequest) -> Result<(), Problem> {
    let course = state.borrow().course(id)?;
    course.steps.answer(number, result, course.elapsed())
}
