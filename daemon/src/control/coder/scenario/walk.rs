//! The walk through a scenario's steps: one after the other, each at its time, on the control thread. Commands are
//! offered and waited for; marks and what is waited for are its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use scale_api::http::MarkRequest;
use scale_api::report::ThresholdResult;
use scale_api::scenario::step::{Phase, Step};
use scale_api::scenario::taken::StepState;
use scale_api::spec::Spec;
use scale_api::threshold::{self, Threshold};

use super::course::Shared;
use super::steps::{CLAIM_TIME_MAX, HAND_LOST_TIME_MAX, RESULT_MARGIN};
use crate::control::state::State;

/// What is waited for is looked at this often; it changes once a second.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a command may take to end with all of the scenario; one that is told to has 5 s until it is killed.
const CUT_OFF_TIME_MAX: Duration = Duration::from_secs(8);

/// Why steps are not run behind the traffic's end.
pub const TRAFFIC_OVER: &str = "the traffic was over before their time";

/// The steps of one phase.
pub struct Walk<'a> {
    /// Where marks go, and figures come from.
    pub state: &'a Rc<RefCell<State>>,
    /// Whose they are.
    pub course: &'a Shared,
    /// The traffic, whose groups expressions name.
    pub spec: &'a Spec,
}

impl Walk<'_> {
    /// Whether `phase` has any.
    pub fn has(&self, phase: Phase) -> bool {
        self.course.steps.asked.iter().any(|step| step.phase == phase)
    }

    /// Goes through those of `phase`, which has just begun.
    pub async fn go(&self, phase: Phase) {
        let began = self.course.elapsed();
        self.course.steps.open();
        for (number, step) in (1..).zip(&self.course.steps.asked).filter(|(_, step)| step.phase == phase) {
            let early = step.at.map_or(0.0, |at| began + at.seconds() - self.course.elapsed());
            tokio::select! {
                biased;
                why = self.course.steps.closed() => {
                    self.course.steps.leave_out(number, &why);
                    continue;
                }
                () = tokio::time::sleep(Duration::from_secs_f64(early.max(0.0))) => {}
            }
            let due = step.at.map_or_else(|| self.course.elapsed(), |at| began + at.seconds());
            self.course.steps.due(number, due);
            tracing::info!(run = %self.course.id, step = number, what = step.title(), "step is due");
            self.one(number, step).await;
            self.say(number);
        }
    }

    async fn one(&self, number: u32, step: &Step) {
        if step.run.is_some() {
            return self.command(number, step).await;
        }
        let steps = &self.course.steps;
        steps.begin(number, self.course.elapsed(), None);
        mark(self.state, self.course, number);
        let why = match step.awaited(self.spec) {
            Some(awaited) => self.wait(step, &awaited).await.err(),
            None => None,
        };
        steps.end(number, self.course.elapsed(), why);
    }

    /// Offers the command, and waits for what comes of it. Its mark is put when it is claimed.
    async fn command(&self, number: u32, step: &Step) {
        let steps = &self.course.steps;
        steps.offer(number);
        let is_taken = async {
            while steps.state(number) == StepState::Due {
                steps.changed().await;
            }
        };
        tokio::select! {
            biased;
            () = is_taken => {}
            why = steps.closed() => return steps.leave_out(number, &why),
            () = tokio::time::sleep(CLAIM_TIME_MAX) => {
                let id = &self.course.id;
                let why = match steps.is_anybody_attached() {
                    true => format!("the scalectl that is attached did not take it within {} s", CLAIM_TIME_MAX.as_secs()),
                    false => format!("no scalectl was attached to run it; it stays attached without --detach, and comes back with `scalectl scenario -f FILE --attach {id}`"),
                };
                return steps.leave_out(number, &why);
            }
        }
        let time_max = Duration::from_nanos(step.time_max().ns()) + RESULT_MARGIN;
        let over = async {
            while steps.state(number) == StepState::Running {
                steps.changed().await;
            }
        };
        let why = tokio::select! {
            biased;
            () = over => return,
            why = self.hand_lost() => why,
            why = self.cut_off() => why,
            () = tokio::time::sleep(time_max) => "its scalectl did not say within its time what came of it".to_owned(),
        };
        steps.end(number, self.course.elapsed(), Some(why));
    }

    /// Returns once all of the scenario is ended, and its command had time to be ended, too.
    async fn cut_off(&self) -> String {
        self.course.steps.is_cut_off().await;
        let mut waited = Duration::ZERO;
        while waited < CUT_OFF_TIME_MAX && !self.course.is_shut_down() {
            tokio::time::sleep(LOOK_EVERY).await;
            waited += LOOK_EVERY;
        }
        "all of it was ended while it ran".to_owned()
    }

    /// Returns once whoever has the command has been away for too long.
    async fn hand_lost(&self) -> String {
        let mut away = Duration::ZERO;
        while away < HAND_LOST_TIME_MAX {
            tokio::time::sleep(LOOK_EVERY).await;
            away = if self.course.steps.is_held() { Duration::ZERO } else { away + LOOK_EVERY };
        }
        "its scalectl went away while it ran; what it had done by then is not known".to_owned()
    }

    /// Waits until a figure is as it is to be, in seconds that have begun after this.
    async fn wait(&self, step: &Step, awaited: &Threshold) -> Result<(), String> {
        let (mut looked, mut said) = (None, None);
        let began = self.second();
        // It is watched from now on: a step before may have waited for the same.
        if let Some(run) = self.state.borrow_mut().run() {
            run.wait_anew(awaited);
        }
        self.stands(awaited);
        let look = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let second = self.second();
                if second == looked || second <= began.map(|began| began + 1.0) {
                    continue;
                }
                looked = second;
                let Some(stands) = self.stands(awaited) else { continue };
                if stands.ok {
                    return;
                }
                said = Some(stands);
            }
        };
        let time_max = step.time_max();
        let until = tokio::select! {
            biased;
            () = look => return Ok(()),
            why = self.course.steps.closed() => match why.as_str() {
                TRAFFIC_OVER => "until the traffic's end".to_owned(),
                why => format!("before the end ({why})"),
            },
            () = tokio::time::sleep(Duration::from_nanos(time_max.ns())) => format!("within {time_max}"),
        };
        let last = said
            .map_or_else(|| "it had no value".to_owned(), |last| format!("last {}", threshold::show(&last)));
        Err(format!("`{}` did not hold {until}; {last}", awaited.expression()))
    }

    /// The last second of the traffic that is complete.
    fn second(&self) -> Option<f64> {
        self.state.borrow_mut().run().map(|run| run.event().elapsed)
    }

    /// How a threshold stands now.
    fn stands(&self, awaited: &Threshold) -> Option<ThresholdResult> {
        self.state.borrow_mut().run()?.stands_now(awaited)
    }

    /// How it ended, for the log.
    fn say(&self, number: u32) {
        let reports = self.course.steps.reports(0.0);
        let Some(step) = reports.get(number as usize - 1) else { return };
        let (run, state) = (&self.course.id, step.state.word());
        match &step.why {
            Some(why) => tracing::warn!(%run, step = number, "step {state}: {why}"),
            None => tracing::info!(%run, step = number, seconds = step.seconds, "step {state}"),
        }
    }
}

/// Puts a step's mark, if it has one, on the time line of the scenario.
pub fn mark(state: &Rc<RefCell<State>>, course: &Shared, number: u32) {
    let step = course.steps.asked.get(number as usize - 1);
    let Some(Step { mark: Some(text), expect_disruption, .. }) = step else { return };
    let mark = MarkRequest { text: text.clone(), expect_disruption: *expect_disruption };
    if let Err(why) = state.borrow_mut().mark(&course.id, &mark) {
        course.warn([format!("step {number} is not marked: {}", why.detail)]);
    }
}
