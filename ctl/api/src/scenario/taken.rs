//! Steps while a scenario goes and once it is over: how each stands, and how a command is taken and answered.
//!
//! A `scalectl` attaches by [`due_path`], whose lines are [`Offer`]s: it is attached as long as it reads them. A step
//! that is due is claimed ([`ClaimRequest`]), run, and answered ([`ResultRequest`]).

use serde::{Deserialize, Serialize};

use super::step::{Phase, Step};
use crate::report::StartedBy;
use crate::units::Span;

/// Bytes of a command's output that are kept: the last ones.
pub const OUTPUT_BYTES_MAX: usize = 16 << 10;

/// `GET`: a list of [`StepReport`].
pub fn steps_path(run: &str) -> String {
    format!("/v1/runs/{run}/steps")
}

/// `GET`: one [`Offer`] a line, with each change and each second.
pub fn due_path(run: &str) -> String {
    format!("/v1/runs/{run}/steps/due")
}

/// `POST` [`ClaimRequest`]: [`Claimed`].
pub fn claim_path(run: &str, number: u32) -> String {
    format!("/v1/runs/{run}/steps/{number}/claim")
}

/// `POST` [`ResultRequest`]: [`Claimed`].
pub fn result_path(run: &str, number: u32) -> String {
    format!("/v1/runs/{run}/steps/{number}/result")
}

/// How a step stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Its time has not come.
    #[default]
    Waiting,
    /// Its command waits for a `scalectl` to take it.
    Due,
    /// It goes.
    Running,
    /// It did what it was to do.
    Done,
    /// Its command failed, or what it waited for did not come.
    Failed,
    /// It never began.
    NotRun,
}

impl StepState {
    /// Whether nothing more comes of it.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::NotRun)
    }

    /// As people read it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Due => "due",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::NotRun => "not run",
        }
    }
}

/// A step in a report and in an event, which leaves outputs out. Times are in seconds on the clock of the series, whose
/// zero is the traffic's start; before that they are negative.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepReport {
    /// Its place in the file, from 1.
    pub number: u32,
    /// When it comes.
    pub phase: Phase,
    /// What was marked.
    pub mark: Option<String>,
    /// The command, as the file has it.
    pub run: Option<String>,
    /// What was waited for.
    pub wait_for: Option<String>,
    /// When it is to come, after its phase's beginning; absent: as soon as the step before it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned: Option<Span>,
    /// For so long from the mark on streams are expected to drop, where the step says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_disruption: Option<Span>,
    /// For the command or for what is waited for, where the step says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Variables that the command gets though their names say secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pass_env: Vec<String>,
    /// When it was due; `None`: that is not known yet, or it never was.
    pub due: Option<f64>,
    /// When it began.
    pub at: Option<f64>,
    /// From then to its end.
    pub seconds: Option<f64>,
    /// How it stands.
    pub state: StepState,
    /// Why it failed, or was not run.
    pub why: Option<String>,
    /// The command's own (sh(1)); of one that a signal ended, 128 and the signal's number.
    pub exit_code: Option<i32>,
    /// The end of what the command wrote, stdout and stderr together.
    pub output: Option<String>,
    /// How much that was in all.
    pub output_bytes: u64,
    /// Whose `scalectl` has run it.
    pub by: Option<StartedBy>,
}

impl StepReport {
    /// One whose time has not come.
    pub fn new(number: u32, step: &Step) -> Self {
        Self {
            number,
            phase: step.phase,
            mark: step.mark.clone(),
            run: step.run.clone(),
            wait_for: step.wait_for.clone(),
            planned: step.at,
            expect_disruption: step.expect_disruption,
            timeout: step.timeout,
            pass_env: step.pass_env.clone(),
            ..Self::default()
        }
    }

    /// What was asked of it, and nothing of what came of it.
    pub fn asked(&self) -> Self {
        let Self { number, phase, planned, expect_disruption, timeout, .. } = *self;
        let (mark, run, wait_for) = (self.mark.clone(), self.run.clone(), self.wait_for.clone());
        let pass_env = self.pass_env.clone();
        Self {
            number,
            phase,
            mark,
            run,
            wait_for,
            planned,
            expect_disruption,
            timeout,
            pass_env,
            ..Self::default()
        }
    }

    /// The daemon was lost: what was not over then does not come any more.
    pub fn lost(&mut self) {
        if self.state.is_over() {
            return;
        }
        let has_begun = self.state == StepState::Running;
        self.state = if has_begun { StepState::Failed } else { StepState::NotRun };
        self.why = Some("the daemon was lost".into());
    }

    /// Its mark, its command, or what it waits for.
    pub fn title(&self) -> String {
        let (mark, run, wait_for) = (self.mark.clone(), self.run.clone(), self.wait_for.clone());
        Step { mark, run, wait_for, ..Step::default() }.title()
    }
}

/// What an attached `scalectl` is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offer {
    /// By which it is known here.
    pub hand: u64,
    /// The number of the step whose command is to be run now.
    pub due: Option<u32>,
    /// All of the scenario is being ended: a command that goes is to be ended, too.
    pub is_cut_off: bool,
    /// No step comes any more.
    pub is_over: bool,
}

/// Takes a step.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimRequest {
    /// Who, by [`Offer::hand`].
    pub hand: u64,
}

/// Says what came of a step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResultRequest {
    /// Who, by [`Offer::hand`].
    pub hand: u64,
    /// Of the command; `None`: it has none, and `why` says what happened.
    pub exit_code: Option<i32>,
    /// What kept it from its own end.
    pub why: Option<String>,
    /// The last [`OUTPUT_BYTES_MAX`] of what it wrote.
    pub output: String,
    /// How much that was in all.
    pub output_bytes: u64,
}

/// A step was taken, or answered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Claimed {
    /// Its number.
    pub number: u32,
}

/// The last [`OUTPUT_BYTES_MAX`] bytes of `text`, from a character's beginning on.
pub fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(OUTPUT_BYTES_MAX);
    let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_keeps_its_end() {
        assert_eq!(tail("short"), "short");
        let long = format!("é{}", "x".repeat(OUTPUT_BYTES_MAX - 1));
        assert_eq!(tail(&long).len(), OUTPUT_BYTES_MAX - 1);
    }

    #[test]
    fn a_step_is_told_by_its_mark_or_what_it_does() {
        let step = Step { wait_for: Some("streams.away == 0".into()), ..Step::default() };
        assert_eq!(StepReport::new(1, &step).title(), "wait for streams.away == 0");
        let step = Step { mark: Some("kill".into()), run: Some("kubectl".into()), ..Step::default() };
        assert_eq!(StepReport::new(1, &step).title(), "kill");
        assert_eq!(serde_json::to_string(&StepState::NotRun).unwrap(), "\"not_run\"");
    }
}
