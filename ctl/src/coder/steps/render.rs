//! A scenario's steps as people read them: in the report, and in the lines of one that goes.

use scale_api::report::Event;
use scale_api::scenario::step::{Phase, one_line};
use scale_api::scenario::taken::{StepReport, StepState};
use scale_api::units::thousands;

use crate::render::seconds;
use crate::targets::user;

/// Lines of what a failed command wrote that are shown, the last ones; --json has more.
const OUTPUT_LINES_MAX: usize = 10;
/// Characters of a line of it, and of a command.
const LINE_CHARS_MAX: usize = 160;

/// The report's part.
pub fn report(steps: &[StepReport]) -> Vec<String> {
    steps.iter().flat_map(one).collect()
}

fn one(step: &StepReport) -> Vec<String> {
    let mut lines = vec![format!(
        "step {:<9} {}{}: {}",
        format!("{}:", step.number),
        time(step),
        title(step),
        said(step)
    )];
    if step.mark.is_some()
        && let Some(run) = &step.run
    {
        lines.push(format!("              $ {}", plain(&one_line(run))));
    }
    if step.state == StepState::Failed
        && let Some(output) = step.output.as_ref().filter(|output| !output.trim().is_empty())
    {
        let all: Vec<&str> = output.lines().collect();
        let shown = &all[all.len().saturating_sub(OUTPUT_LINES_MAX)..];
        if shown.len() < all.len() || step.output_bytes > output.len() as u64 {
            lines.push(format!("              … the end of {} B:", thousands(step.output_bytes)));
        }
        lines.extend(shown.iter().map(|line| format!("              | {}", plain(line))));
    }
    lines
}

fn time(step: &StepReport) -> String {
    match (step.phase, step.at.or(step.due)) {
        (Phase::Before, _) => "before the traffic, ".into(),
        (Phase::After, _) => "after the traffic, ".into(),
        (Phase::Traffic, Some(at)) => format!("{} in, ", seconds(at.max(0.0))),
        (Phase::Traffic, None) => String::new(),
    }
}

fn title(step: &StepReport) -> String {
    let title = plain(&one_line(&step.title()));
    if step.mark.is_some() { format!("\"{title}\"") } else { title }
}

/// How it stands or ended.
fn said(step: &StepReport) -> String {
    let mut text = step.state.word().to_owned();
    if let Some(took) = step.seconds.filter(|_| step.run.is_some() || step.wait_for.is_some()) {
        text += &format!(" after {}", seconds(took));
    }
    match (&step.why, step.exit_code) {
        (Some(why), _) => text += &format!(": {}", plain(why)),
        (None, Some(code)) => text += &format!(", exit code {code}"),
        (None, None) => {}
    }
    if let Some(by) = &step.by {
        text += &format!(", by {}", user(by));
    }
    text
}

/// Others' text as one line of a terminal's, with an end.
fn plain(text: &str) -> String {
    let text = crate::render::plain(text);
    let mut chars = text.chars();
    let mut plain: String = chars.by_ref().take(LINE_CHARS_MAX).collect();
    if chars.next().is_some() {
        plain.push('…');
    }
    plain
}

/// Of steps that go: those that failed or were not run, and what is under way just now; whether all is well with it.
pub fn now(steps: &[StepReport]) -> impl Iterator<Item = (bool, String)> {
    let is_shown = |step: &&StepReport| !matches!(step.state, StepState::Waiting | StepState::Done);
    let line = |step: &StepReport| {
        (!step.state.is_over(), format!("step {}: {}: {}", step.number, title(step), said(step)))
    };
    steps.iter().filter(is_shown).map(line)
}

/// What was said of steps that go.
#[derive(Default)]
pub struct Told(Vec<StepState>);

impl Told {
    /// Lines for those that have begun or ended since the last event.
    pub fn news(&mut self, event: &Event) -> Vec<String> {
        self.0.resize(event.steps.len(), StepState::Waiting);
        let changed = self.0.iter_mut().zip(&event.steps).filter(|(known, step)| **known != step.state);
        let line = |(known, step): (&mut StepState, &StepReport)| {
            *known = step.state;
            format!("       > step {}: {}: {}", step.number, title(step), said(step))
        };
        changed.map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(state: StepState) -> StepReport {
        StepReport {
            number: 2,
            mark: Some("kill coderd-1".into()),
            run: Some("kubectl delete\n pod coderd-1\n".into()),
            due: Some(600.0),
            at: Some(600.2),
            seconds: Some(1.5),
            exit_code: Some(0),
            state,
            ..StepReport::default()
        }
    }

    #[test]
    fn a_step_says_when_what_and_what_came_of_it() {
        assert_eq!(
            report(&[step(StepState::Done)]),
            [
                "step 2:        10 m 0 s in, \"kill coderd-1\": done after 1.5 s, exit code 0",
                "              $ kubectl delete; pod coderd-1"
            ]
        );
        let failed = StepReport {
            why: Some("exit code 3".into()),
            exit_code: Some(3),
            output: Some((0..30).map(|line| format!("line {line}\u{1b}[2J\n")).collect()),
            output_bytes: 400,
            ..step(StepState::Failed)
        };
        let text = report(&[failed]).join("\n");
        assert!(
            text.contains("failed after 1.5 s: exit code 3") && text.contains("the end of 400 B"),
            "{text}"
        );
        assert!(
            text.contains("| line 29 [2J") && !text.contains("line 19") && !text.contains('\u{1b}'),
            "{text}"
        );
        let waited = StepReport {
            number: 1,
            wait_for: Some("streams.away == 0".into()),
            state: StepState::NotRun,
            why: Some("the run was ended".into()),
            ..StepReport::default()
        };
        assert_eq!(
            report(&[waited]),
            ["step 1:        wait for streams.away == 0: not run: the run was ended"]
        );
    }

    #[test]
    fn each_change_is_told_once() {
        let mut told = Told::default();
        let event = |state| Event { steps: vec![StepReport::default(), step(state)], ..Event::default() };
        assert_eq!(told.news(&event(StepState::Waiting)), [""; 0]);
        assert_eq!(told.news(&event(StepState::Running)).len(), 1);
        assert_eq!(told.news(&event(StepState::Running)), [""; 0]);
        assert!(told.news(&event(StepState::Done))[0].contains("step 2: \"kill coderd-1\": done"));
        let steps = [StepState::Done, StepState::Waiting, StepState::NotRun, StepState::Running].map(step);
        assert_eq!(now(&steps).map(|(is_well, _)| is_well).collect::<Vec<_>>(), [false, true]);
    }
}
