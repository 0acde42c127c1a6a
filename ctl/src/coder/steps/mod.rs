//! A scenario's commands: taken from the daemon when they are due, and run here.
//!
//! What is run stands in the file that this program was given. The daemon says no more than a step's number, and a
//! scenario that others have begun is followed so only where its steps are those of the file.
//!
//! - [`command`]: one of them, from its beginning to its end. [`render`]: what people read of them.

mod command;
pub mod render;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use scale_api::report::Exit;
use scale_api::scenario::step::Step;
use scale_api::scenario::taken::{
    ClaimRequest, Claimed, Offer, ResultRequest, StepReport, claim_path, due_path, result_path, steps_path,
};

use serde::Serialize;

use crate::client::{Body, Client, Failure};

/// Steps that are due and not yet looked at; the daemon offers one at a time.
const DUE_MAX: usize = 4;
/// The daemon waits so long for a step to be taken, and about so long beyond a command's own time for what came of it.
const CLAIM_TIME_MAX: Duration = Duration::from_secs(10);
const RESULT_TIME_MAX: Duration = Duration::from_secs(25);
/// What was not heard is said again after this.
const INSIST_EVERY: Duration = Duration::from_millis(500);

/// Set once commands are run here: who leaves is told.
static IS_ATTACHED: AtomicBool = AtomicBool::new(false);

/// What is said to who leaves the run `id`; nothing where no commands are run here.
pub fn left(id: &str) -> String {
    match IS_ATTACHED.load(Ordering::Relaxed) {
        true => format!("; the commands of its steps are run by `scalectl scenario -f FILE --attach {id}`"),
        false => String::new(),
    }
}

/// Runs commands while the scenario goes.
pub struct Attached {
    hand: JoinHandle<()>,
}

/// What is said of commands before a scenario begins.
pub fn notice(steps: &[Step], is_detached: bool) -> Vec<String> {
    let commands: Vec<&Step> = steps.iter().filter(|step| step.run.is_some()).collect();
    if commands.is_empty() {
        return Vec::new();
    }
    let mut said = withheld(steps);
    if is_detached {
        said.push("nobody runs the steps' commands after --detach: without `scalectl scenario -f FILE --attach RUN` they are not run, and the verdict fails".into());
    }
    said
}

/// Which variables commands do not get, and which commands, where others do.
fn withheld(steps: &[Step]) -> Vec<String> {
    let mut from: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let commands = (1..).zip(steps).filter(|(_, step)| step.run.is_some());
    let count = commands.clone().count();
    for (number, step) in commands {
        for name in command::withheld(&step.pass_env) {
            from.entry(name).or_default().push(number.to_string());
        }
    }
    let (all, some): (Vec<_>, Vec<_>) = from.into_iter().partition(|(_, numbers)| numbers.len() == count);
    let names: Vec<String> = all.into_iter().map(|(name, _)| name).collect();
    let some = some.iter().map(|(name, numbers)| format!("of step {}, {name}", numbers.join(" and ")));
    let mut said: Vec<String> = some.collect();
    said.extend((!names.is_empty()).then(|| names.join(", ")));
    let line = |what| format!("commands do not get {what}; pass_env in a step passes what it names");
    said.into_iter().rev().map(line).collect()
}

/// Whether `steps` are those of the scenario `id`, which others may have begun.
///
/// # Errors
/// They are not; it is not going.
pub fn check(client: &Client, id: &str, steps: &[Step]) -> Result<(), Failure> {
    let theirs: Vec<StepReport> = client.get(&steps_path(id))?;
    let ours = (1..).zip(steps).map(|(number, step)| StepReport::new(number, step));
    if ours.ne(theirs.iter().map(StepReport::asked)) {
        return Err(Failure::usage(format!(
            "the steps of --file are not those of run {id}; give the file that it was begun with"
        )));
    }
    Ok(())
}

/// Attaches to the scenario `id`, whose commands are run from now on; nothing where it has none.
///
/// # Errors
/// It is not going, or too many are attached.
pub fn attach(client: &Client, id: &str, steps: &[Step]) -> Result<Option<Attached>, Failure> {
    if steps.iter().all(|step| step.run.is_none()) {
        return Ok(None);
    }
    let offers = client.lines(&due_path(id))?;
    IS_ATTACHED.store(true, Ordering::Relaxed);
    let heard = Arc::new(Heard::default());
    let (sender, due) = sync_channel(DUE_MAX);
    let hand =
        Hand { client: client.clone(), id: id.to_owned(), steps: steps.to_vec(), heard: heard.clone() };
    thread::spawn(move || listen(offers, &sender, &heard));
    Ok(Some(Attached { hand: thread::spawn(move || hand.work(&due)) }))
}

/// What the daemon has said besides which steps are due.
#[derive(Default)]
struct Heard {
    /// A command that goes is to be ended.
    is_cut_off: AtomicBool,
    /// It says nothing more.
    is_over: AtomicBool,
}

impl Attached {
    /// Waits until no command goes any more.
    pub fn end(self) -> Result<(), Failure> {
        let why = "the thread that runs commands has ended by itself: a bug of scalectl";
        self.hand.join().map_err(|_| Failure { message: why.into(), exit: Exit::Internal })
    }
}

/// Passes on what is due. A daemon that says nothing more ends what goes: nobody would hear of it.
fn listen(offers: BufReader<Body>, due: &SyncSender<(u64, u32)>, heard: &Heard) {
    let mut last = None;
    for line in offers.lines().map_while(Result::ok) {
        let Ok(offer) = serde_json::from_str::<Offer>(&line) else { continue };
        if offer.is_cut_off {
            heard.is_cut_off.store(true, Ordering::Relaxed);
        }
        if offer.is_over {
            break;
        }
        // It is said each second until somebody has taken it.
        if let Some(number) = offer.due.filter(|number| last != Some(*number)) {
            last = Some(number);
            if due.send((offer.hand, number)).is_err() {
                break;
            }
        }
    }
    heard.is_over.store(true, Ordering::Relaxed);
    heard.is_cut_off.store(true, Ordering::Relaxed);
}

/// The one who runs them.
struct Hand {
    client: Client,
    id: String,
    steps: Vec<Step>,
    heard: Arc<Heard>,
}

impl Hand {
    fn work(&self, due: &Receiver<(u64, u32)>) {
        for (hand, number) in due {
            let step = (number as usize).checked_sub(1).and_then(|index| self.steps.get(index));
            let Some(step) = step.filter(|step| step.run.is_some()) else { continue };
            // Somebody else who is attached may have been faster.
            let claim = self.insist(&claim_path(&self.id, number), &ClaimRequest { hand }, CLAIM_TIME_MAX);
            if claim.is_err() {
                continue;
            }
            let ended = command::run(step, || self.heard.is_cut_off.load(Ordering::Relaxed));
            let result = ResultRequest {
                hand,
                exit_code: ended.exit_code,
                why: ended.why,
                output: ended.output,
                output_bytes: ended.output_bytes,
            };
            let said = self.insist(&result_path(&self.id, number), &result, RESULT_TIME_MAX);
            if let Err(why) = said
                && !self.heard.is_over.load(Ordering::Relaxed)
            {
                crate::warn(&format!("what came of step {number} is not in the report: {}", why.message));
            }
        }
    }

    /// Says it until it is heard, refused, or too late: one answer lost is not to leave a step without its end.
    fn insist(&self, path: &str, what: &impl Serialize, within: Duration) -> Result<(), Failure> {
        let mut tries = within.as_millis() / INSIST_EVERY.as_millis();
        loop {
            match self.client.send::<Claimed>("POST", path, what) {
                Ok(_) => return Ok(()),
                Err(why) => {
                    let is_over = self.heard.is_over.load(Ordering::Relaxed);
                    if why.exit == Exit::Usage || is_over || tries == 0 {
                        return Err(why);
                    }
                }
            }
            tries -= 1;
            thread::sleep(INSIST_EVERY);
        }
    }
}
