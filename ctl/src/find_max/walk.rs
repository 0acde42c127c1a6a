//! From step to step: what is asked of whoever loads the target, and when it is to come down again. No clock, no daemon.

use scale_api::calibration::Limit;

use super::result::{Recovery, Step};
use crate::seek::search::{Next, Outcome, Search};
use crate::seek::session::End;

/// A step in which this host was not well is taken so many times before that is believed.
const HOST_TRIES: usize = 3;

/// Who loads the target.
pub trait Driver {
    /// Seconds that are left.
    fn left(&self) -> f64;

    /// Takes a step.
    ///
    /// # Errors
    /// Why there is no next one.
    fn step(&mut self, level: u64, hold: bool) -> Result<Step, End>;

    /// Comes down from a load that broke to one that was held, and watches until all is well there, where there is time.
    ///
    /// # Errors
    /// As above.
    fn come_down(&mut self, from: u64, to: u64) -> Result<Option<Recovery>, End>;

    /// A step was taken.
    ///
    /// # Errors
    /// Nobody listens any more.
    fn tell(&mut self, step: &Step) -> Result<(), End>;

    /// What is known by now.
    fn keep(&mut self, search: &Search, steps: &[Step]);
}

/// What a step tells the search.
fn outcome(step: &Step) -> Outcome {
    step.limit.map_or(Outcome::Held { used: 1.0 }, Outcome::Broke)
}

/// Takes up a search where its steps have left it, with a run that stands at `level` now. What was held for lack of time
/// is where it goes on; what this host could not do is tried again, for that may have been mended.
pub fn resume(search: &mut Search, steps: &[Step], level: u64) {
    for step in steps.iter().filter(|step| !step.limit.is_some_and(Limit::is_of_this_host)) {
        let is_held = step.limit.is_none();
        let next = if step.hold && !is_held { Next::Hold(step.level) } else { Next::Try(step.level) };
        search.took(next, outcome(step));
    }
    search.stands_at(level);
}

/// Whether the answer stood when it was held, the last time that it was tried.
pub fn is_confirmed(search: &Search, steps: &[Step]) -> bool {
    let last = steps.iter().rfind(|step| step.level == search.best());
    search.is_confirmed() || last.is_some_and(|step| step.hold && step.limit.is_none())
}

/// Takes steps to the end of the search.
///
/// # Errors
/// Why it came to none.
pub fn walk(search: &mut Search, steps: &mut Vec<Step>, driver: &mut impl Driver) -> Result<(), End> {
    loop {
        let next = search.next(driver.left());
        let (level, hold) = match next {
            Next::Try(level) => (level, false),
            Next::Hold(level) => (level, true),
            Next::Done => return Ok(()),
        };
        let mut tries = 1;
        let (mut step, told) = loop {
            let step = match driver.step(level, hold) {
                // Every stream is down, or nothing comes back any more.
                Err(End::RunOver) => {
                    let step = Step { level, hold, limit: Some(Limit::Target), ..Step::default() };
                    let told = driver.tell(&step);
                    search.took(next, outcome(&step));
                    steps.push(step);
                    driver.keep(search, steps);
                    return told;
                }
                step => step?,
            };
            let told = driver.tell(&step);
            let is_ours = step.limit.is_some_and(|limit| limit != Limit::Target);
            if told.is_err() || !is_ours || tries == HOST_TRIES || search.next(driver.left()) != next {
                break (step, told);
            }
            tries += 1;
        };
        search.took(next, outcome(&step));
        let mut end = told;
        if end.is_ok() && step.limit.is_some() && search.best() > 0 {
            match driver.come_down(level, search.best()) {
                Ok(recovery) => {
                    step.recovery = recovery;
                    search.stands_at(search.best());
                }
                Err(why) => end = Err(why),
            }
        }
        steps.push(step);
        driver.keep(search, steps);
        match end {
            Ok(()) => {}
            Err(End::RunOver) => return Ok(()),
            end => return end,
        }
    }
}
