//! A scenario's steps as they stand: which is due, who has taken it, what came of it. Times come as parameters, in
//! seconds since the scenario's start.
//!
//! A command is offered to every `scalectl` that is attached, and run by the one that claims it first. Nothing here
//! runs anything: [`walk`](super::walk) says when steps come, a `scalectl` says what came of their commands.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};
use std::time::Duration;

use scale_api::http::{Problem, ProblemCode};
use scale_api::report::StartedBy;
use scale_api::scenario::step::{Step, one_line};
use scale_api::scenario::taken::{Offer, ResultRequest, StepReport, StepState, tail};
use tokio::sync::watch;

use crate::run::marks::cut;

/// Of one scenario, attached at once.
const HANDS_MAX: usize = 16;
/// Bytes of why a command failed.
const WHY_BYTES_MAX: usize = 1000;
/// How long a command that is due waits to be taken: a `scalectl` that has just begun the scenario attaches meanwhile.
pub const CLAIM_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a taken command may go on without a `scalectl` that is attached.
pub const HAND_LOST_TIME_MAX: Duration = Duration::from_secs(5);
/// Beyond a command's own time: it is told to end, killed, and answered for.
pub const RESULT_MARGIN: Duration = Duration::from_secs(30);

/// The steps of a scenario.
pub struct Steps {
    /// As the file has them.
    pub asked: Vec<Step>,
    list: RefCell<Vec<StepReport>>,
    hands: RefCell<Vec<(u64, Weak<()>)>>,
    next_hand: Cell<u64>,
    /// Who has the command that goes.
    holder: Cell<Option<u64>>,
    /// The last command that was answered for, and by whom.
    answered: Cell<Option<(u32, u64)>>,
    /// What those who are attached are told; the walk listens, too.
    offer: watch::Sender<Offer>,
    /// Why no further step begins.
    closed: watch::Sender<Option<String>>,
}

/// A `scalectl` that is attached, as long as this is kept.
pub struct Hand {
    number: u64,
    _attached: Arc<()>,
    offer: watch::Receiver<Offer>,
    is_new: bool,
}

impl Hand {
    /// What is to be told now: at first, with each change, and after `pause`; `None`: the scenario is over.
    pub async fn told(&mut self, pause: Duration) -> Option<Offer> {
        // After the pause it is said once more: only so is it found out that nobody reads.
        if !std::mem::take(&mut self.is_new)
            && let Ok(changed) = tokio::time::timeout(pause, self.offer.changed()).await
        {
            changed.ok()?;
        }
        Some(Offer { hand: self.number, ..*self.offer.borrow_and_update() })
    }
}

impl Steps {
    /// None of which has begun.
    pub fn new(asked: Vec<Step>) -> Self {
        let list = (1..).zip(&asked).map(|(number, step)| StepReport::new(number, step)).collect();
        Self::of(asked, list)
    }

    /// Those of a daemon that was lost, their times counted from `zero`: what was not over then does not come any more.
    pub fn resumed(mut list: Vec<StepReport>, zero: f64) -> Self {
        for step in &mut list {
            (step.due, step.at) = (step.due.map(|due| due + zero), step.at.map(|at| at + zero));
            step.lost();
        }
        Self::of(Vec::new(), list)
    }

    fn of(asked: Vec<Step>, list: Vec<StepReport>) -> Self {
        Self {
            asked,
            list: RefCell::new(list),
            hands: RefCell::default(),
            next_hand: Cell::new(1),
            holder: Cell::new(None),
            answered: Cell::new(None),
            offer: watch::Sender::new(Offer::default()),
            closed: watch::Sender::new(None),
        }
    }

    /// As they stand, their times from `zero` on.
    pub fn reports(&self, zero: f64) -> Vec<StepReport> {
        let moved = |time: Option<f64>| time.map(|time| time - zero);
        let report =
            |step: &StepReport| StepReport { due: moved(step.due), at: moved(step.at), ..step.clone() };
        self.list.borrow().iter().map(report).collect()
    }

    /// One more `scalectl`.
    ///
    /// # Errors
    /// There are too many.
    pub fn attach(&self) -> Result<Hand, Problem> {
        let mut hands = self.hands.borrow_mut();
        hands.retain(|(_, hand)| hand.strong_count() > 0);
        if hands.len() >= HANDS_MAX {
            let detail = format!("{HANDS_MAX} others are attached to this scenario; end one of them");
            return Err(Problem::new(ProblemCode::TooManyReaders, detail));
        }
        let (number, attached) = (self.next_hand.get(), Arc::new(()));
        self.next_hand.set(number + 1);
        hands.push((number, Arc::downgrade(&attached)));
        Ok(Hand { number, _attached: attached, offer: self.offer.subscribe(), is_new: true })
    }

    fn is_attached(&self, hand: u64) -> bool {
        self.hands.borrow().iter().any(|(number, it)| *number == hand && it.strong_count() > 0)
    }

    /// Whether whoever has taken the command is still there.
    pub fn is_held(&self) -> bool {
        self.holder.get().is_some_and(|hand| self.is_attached(hand))
    }

    /// How one stands.
    pub fn state(&self, number: u32) -> StepState {
        self.list.borrow().get(index(number)).map_or(StepState::NotRun, |step| step.state)
    }

    fn change(&self, number: u32, change: impl FnOnce(&mut StepReport)) {
        if let Some(step) = self.list.borrow_mut().get_mut(index(number)) {
            change(step);
        }
    }

    /// Its time has come.
    pub fn due(&self, number: u32, now: f64) {
        self.change(number, |step| step.due = Some(now));
    }

    /// Its command is to be taken.
    pub fn offer(&self, number: u32) {
        self.holder.set(None);
        self.change(number, |step| step.state = StepState::Due);
        self.offer.send_modify(|offer| offer.due = Some(number));
    }

    /// It goes.
    pub fn begin(&self, number: u32, now: f64, by: Option<StartedBy>) {
        self.change(number, |step| (step.state, step.at, step.by) = (StepState::Running, Some(now), by));
        self.offer.send_modify(|offer| offer.due = None);
    }

    /// A `scalectl` takes the command that is due.
    ///
    /// # Errors
    /// It is not attached; the step is not due, or somebody has it.
    pub fn claim(&self, number: u32, hand: u64, now: f64, by: StartedBy) -> Result<(), Problem> {
        if !self.is_attached(hand) {
            return Err(invalid(
                "who takes a step is attached first: GET /v1/runs/{id}/steps/due says as whom",
            ));
        }
        if self.holder.get() == Some(hand) && self.state(number) == StepState::Running {
            // It has it already, and did not hear so.
            return Ok(());
        }
        if self.offer.borrow().due != Some(number) {
            let stands = self.state(number).word();
            return Err(invalid(format!("step {number} is not to be taken: it is {stands}")));
        }
        self.holder.set(Some(hand));
        self.begin(number, now, Some(by));
        Ok(())
    }

    /// What came of a command, by who had taken it.
    ///
    /// # Errors
    /// It is not that one's, or it is over.
    pub fn answer(&self, number: u32, result: ResultRequest, now: f64) -> Result<(), Problem> {
        if self.answered.get() == Some((number, result.hand)) {
            // It was heard, and its answer was not.
            return Ok(());
        }
        if self.holder.get() != Some(result.hand) || self.state(number) != StepState::Running {
            let stands = self.state(number).word();
            return Err(invalid(format!("step {number} is not yours to answer: it is {stands}")));
        }
        self.answered.set(Some((number, result.hand)));
        self.change(number, |step| {
            step.exit_code = result.exit_code;
            step.output = Some(tail(&result.output).to_owned());
            step.output_bytes = result.output_bytes.max(result.output.len() as u64);
        });
        let why = match (result.why, result.exit_code) {
            (Some(why), _) => Some(cut(&one_line(&why), WHY_BYTES_MAX).to_owned()),
            (None, Some(0)) => None,
            (None, Some(code)) => Some(format!("exit code {code}")),
            (None, None) => Some("it came to no end".into()),
        };
        self.end(number, now, why);
        Ok(())
    }

    /// It is over; `why`: it has failed.
    pub fn end(&self, number: u32, now: f64, why: Option<String>) {
        self.change(number, |step| {
            step.state = if why.is_some() { StepState::Failed } else { StepState::Done };
            step.seconds = step.at.map(|at| (now - at).max(0.0));
            step.why = why;
        });
        self.offer.send_modify(|offer| offer.due = None);
    }

    /// It never begins.
    pub fn leave_out(&self, number: u32, why: &str) {
        self.change(number, |step| (step.state, step.why) = (StepState::NotRun, Some(why.to_owned())));
        self.offer.send_modify(|offer| offer.due = None);
    }

    /// Whether any has begun.
    pub fn has_begun(&self) -> bool {
        self.list.borrow().iter().any(|step| step.at.is_some())
    }

    /// Whether anybody is attached.
    pub fn is_anybody_attached(&self) -> bool {
        self.hands.borrow().iter().any(|(_, hand)| hand.strong_count() > 0)
    }

    /// Returns with the next change of what is offered.
    pub async fn changed(&self) {
        let mut offer = self.offer.subscribe();
        let _ = offer.changed().await;
    }

    /// From now on no step begins. The first reason stays.
    pub fn close(&self, why: &str) {
        self.closed.send_if_modified(|closed| {
            let is_first = closed.is_none();
            closed.get_or_insert_with(|| why.to_owned());
            is_first
        });
    }

    /// Steps begin again: another phase has.
    pub fn open(&self) {
        if !self.offer.borrow().is_cut_off {
            self.closed.send_replace(None);
        }
    }

    /// Why none begins; returns once that is so.
    pub async fn closed(&self) -> String {
        let mut closed = self.closed.subscribe();
        let why = closed.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_default()
    }

    /// All of the scenario is ended: commands that go are to be, too.
    pub fn cut_off(&self, why: &str) {
        self.close(why);
        self.offer.send_modify(|offer| (offer.is_cut_off, offer.due) = (true, None));
    }

    /// Returns once all of the scenario is ended.
    pub async fn is_cut_off(&self) {
        let _ = self.offer.subscribe().wait_for(|offer| offer.is_cut_off).await;
    }

    /// None comes any more: those that have not begun do not.
    pub fn finish(&self, why: &str) {
        let open = |step: &&mut StepReport| !step.state.is_over();
        for step in self.list.borrow_mut().iter_mut().filter(open) {
            (step.state, step.why) = (StepState::NotRun, Some(why.to_owned()));
        }
        self.offer.send_modify(|offer| (offer.is_over, offer.due) = (true, None));
    }

    /// What the verdict says of them: each that failed, and those that were not run, together where for one reason.
    pub fn troubles(&self) -> Vec<String> {
        let list = self.list.borrow();
        let mut said = Vec::new();
        let mut left_out: Vec<(String, Vec<u32>)> = Vec::new();
        for step in list.iter() {
            let why = step.why.clone().unwrap_or_default();
            match step.state {
                StepState::Failed => {
                    said.push(format!("step {} ({}) failed: {why}", step.number, cut(&step.title(), 80)));
                }
                StepState::NotRun => match left_out.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, numbers)) => numbers.push(step.number),
                    None => left_out.push((why, vec![step.number])),
                },
                _ => {}
            }
        }
        for (why, numbers) in left_out {
            let (steps, were) = if numbers.len() == 1 { ("step", "was") } else { ("steps", "were") };
            let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
            said.push(format!("{steps} {} {were} not run: {why}", numbers.join(", ")));
        }
        said
    }
}

fn index(number: u32) -> usize {
    (number as usize).wrapping_sub(1)
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Invalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(count: usize) -> Steps {
        let step = |number: usize| Step { run: Some(format!("command {number}")), ..Step::default() };
        Steps::new((1..=count).map(step).collect())
    }

    fn result(hand: u64, code: Option<i32>) -> ResultRequest {
        ResultRequest {
            hand,
            exit_code: code,
            output: "out".into(),
            output_bytes: 3,
            ..ResultRequest::default()
        }
    }

    fn by() -> StartedBy {
        StartedBy { uid: 7, ..StartedBy::default() }
    }

    #[test]
    fn a_command_is_taken_once_and_answered_by_who_took_it() {
        let steps = steps(2);
        let (first, second) = (steps.attach().unwrap(), steps.attach().unwrap());
        let claim = |hand: &Hand, number| steps.claim(number, hand.number, 5.0, by());
        assert!(claim(&first, 1).unwrap_err().detail.contains("it is waiting"));
        steps.due(1, 4.0);
        steps.offer(1);
        assert!(claim(&first, 2).is_err());
        claim(&first, 1).unwrap();
        claim(&first, 1).expect("who did not hear that it has the step may ask again");
        assert!(claim(&second, 1).unwrap_err().detail.contains("it is running"));
        assert!(
            steps.answer(1, result(second.number, Some(0)), 6.0).unwrap_err().detail.contains("not yours")
        );
        steps.answer(1, result(first.number, Some(0)), 7.5).unwrap();
        // Said once more it changes nothing.
        steps.answer(1, result(first.number, Some(1)), 8.0).unwrap();
        let report = &steps.reports(3.0)[0];
        assert_eq!((report.due, report.at, report.seconds), (Some(1.0), Some(2.0), Some(2.5)));
        assert_eq!(
            (report.state, report.exit_code, report.output.as_deref()),
            (StepState::Done, Some(0), Some("out"))
        );
        assert_eq!(report.by, Some(by()));
        assert_eq!(steps.troubles(), [""; 0]);
    }

    #[test]
    fn who_goes_away_holds_nothing() {
        let steps = steps(1);
        let hand = steps.attach().unwrap();
        let number = hand.number;
        steps.offer(1);
        steps.claim(1, number, 1.0, by()).unwrap();
        assert!(steps.is_held() && steps.is_anybody_attached());
        drop(hand);
        assert!(!steps.is_held() && !steps.is_anybody_attached());
        let hands: Vec<Hand> = (0..HANDS_MAX).map(|_| steps.attach().unwrap()).collect();
        assert!(steps.attach().is_err_and(|why| why.detail.contains("16 others")));
        drop(hands);
        assert!(steps.claim(1, number, 2.0, by()).unwrap_err().detail.contains("attached first"));
    }

    #[test]
    fn what_failed_and_what_was_not_run_is_said() {
        let steps = steps(4);
        let hand = steps.attach().unwrap();
        steps.offer(1);
        steps.claim(1, hand.number, 1.0, by()).unwrap();
        let output = "y".repeat(1 << 20);
        let failed = ResultRequest { output, ..result(hand.number, Some(3)) };
        steps.answer(1, failed, 2.0).unwrap();
        let kept = &steps.reports(0.0)[0];
        assert_eq!((kept.output.as_ref().unwrap().len(), kept.output_bytes), (16 << 10, 1 << 20));
        steps.leave_out(2, "nobody was there");
        steps.finish("the run was ended");
        assert_eq!(
            steps.troubles(),
            [
                "step 1 (command 1) failed: exit code 3",
                "step 2 was not run: nobody was there",
                "steps 3, 4 were not run: the run was ended"
            ]
        );
        let again = Steps::resumed(
            vec![StepReport { state: StepState::Running, number: 1, ..StepReport::default() }],
            0.0,
        );
        assert!(again.troubles()[0].contains("failed: the daemon was lost"));
    }

    #[tokio::test]
    async fn who_is_attached_hears_of_what_is_due_and_that_all_is_ended() {
        let steps = steps(1);
        let mut hand = steps.attach().unwrap();
        let pause = Duration::from_millis(1);
        assert_eq!(hand.told(pause).await, Some(Offer { hand: 1, ..Offer::default() }));
        assert_eq!(hand.told(pause).await.and_then(|offer| offer.due), None, "said again after a pause");
        steps.offer(1);
        assert_eq!(hand.told(pause).await.and_then(|offer| offer.due), Some(1));
        steps.close("the traffic is over");
        steps.close("later");
        assert_eq!(steps.closed().await, "the traffic is over");
        steps.open();
        assert_eq!(*steps.closed.borrow(), None);
        steps.cut_off("ended");
        let told = hand.told(pause).await.unwrap();
        assert!(told.is_cut_off && told.due.is_none());
        steps.open();
        assert_eq!(steps.closed.borrow().as_deref(), Some("ended"), "what is cut off stays so");
        drop(steps);
        assert_eq!(hand.told(pause).await, None);
    }
}
