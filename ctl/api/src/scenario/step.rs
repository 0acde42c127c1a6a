//! `[[step]]`: what is done to the deployment while a scenario goes, and what is waited for.
//!
//! Steps come one after the other, in the order of the file. A mark and a `wait_for` are the daemon's; a command is
//! run by the `scalectl` that has the file, with its caller's rights, never by the daemon.

use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::spec::{self, GroupSpec, Spec};
use crate::threshold::{Names, Threshold};
use crate::units::Span;

/// Steps of a scenario.
pub const STEPS_MAX: usize = 64;
/// Bytes of a command.
pub const COMMAND_BYTES_MAX: usize = 8 << 10;
/// Variables that a step passes.
pub const PASS_ENV_MAX: usize = 64;
/// For a command or for what is waited for, where the step does not say.
pub const STEP_TIMEOUT: Span = Span::from_secs(60);
/// The longest that a step may ask for.
pub const STEP_TIMEOUT_MAX: Span = Span::from_secs(24 * 3600);

/// A step as the user writes it: a mark, and at most one of a command and something to wait for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// Before the traffic, while it goes, or between it and the clean-up.
    pub phase: Phase,
    /// After that phase's beginning; absent: as soon as the step before it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Span>,
    /// Named on the time line when the step begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// For so long from the mark on streams are expected to drop; absent: as the scenario's `expect_disruption` says;
    /// zero: the mark is a note, and begins no disruption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_disruption: Option<Span>,
    /// A command, as `sh -c` takes it (sh(1)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Variables whose names say secret, and that the command gets all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pass_env: Vec<String>,
    /// A threshold's expression that has to hold before the next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_for: Option<String>,
    /// For the command, or for what is waited for; absent: [`STEP_TIMEOUT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// When a step comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Between the quiet time and the traffic, which begins once these are over.
    Before,
    /// While the traffic goes.
    #[default]
    Traffic,
    /// Between the traffic and the clean-up; also where the traffic has failed, or did not begin.
    After,
}

impl Phase {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Traffic => "traffic",
            Self::After => "after",
        }
    }
}

impl Step {
    /// How long its command, or what it waits for, may take; zero: it has neither.
    pub fn time_max(&self) -> Span {
        if self.run.is_none() && self.wait_for.is_none() {
            return Span::default();
        }
        self.timeout.unwrap_or(STEP_TIMEOUT)
    }

    /// In a few words: its mark, else its command or what it waits for.
    pub fn title(&self) -> String {
        let own = self.mark.as_deref().or(self.run.as_deref());
        own.map_or_else(|| format!("wait for {}", self.wait_for.as_deref().unwrap_or("")), str::to_owned)
    }

    /// What is waited for, in a scenario that has passed its checks.
    pub fn awaited(&self, spec: &Spec) -> Option<Threshold> {
        awaited(self.wait_for.as_deref()?, spec).ok()
    }

    /// All of it in a sentence, for a look before it begins. `number`: from 1.
    pub fn sentence(&self, number: usize) -> String {
        let time = self.at.map_or_else(|| "then".to_owned(), |at| format!("{at} in"));
        let phase = match self.phase {
            Phase::Before => "before the traffic",
            Phase::Traffic => "traffic",
            Phase::After => "after the traffic",
        };
        let mut text = format!("step {number} ({phase}, {time}):");
        let mut parts = Vec::new();
        if let Some(mark) = &self.mark {
            let expected = match self.expect_disruption {
                None => String::new(),
                Some(time) if time.ns() == 0 => ", a note".to_owned(),
                Some(time) => format!(", {time} of disruption expected"),
            };
            parts.push(format!(" mark \"{mark}\"{expected}"));
        }
        if let Some(run) = &self.run {
            parts.push(format!(" scalectl runs `{}`, {} at most", one_line(run), self.time_max()));
        }
        if let Some(wait_for) = &self.wait_for {
            parts.push(format!(" wait for `{wait_for}`, {} at most", self.time_max()));
        }
        text += &parts.join(";");
        text
    }

    fn check(&self, wrong: &mut dyn FnMut(String)) {
        if self.mark.is_none() && self.run.is_none() && self.wait_for.is_none() {
            wrong("it does nothing; give mark, run or wait_for".into());
        }
        if self.run.is_some() && self.wait_for.is_some() {
            wrong(
                "run and wait_for are two steps; without `at` the second comes right behind the first".into(),
            );
        }
        let lonely = [
            (
                self.expect_disruption.is_some() && self.mark.is_none(),
                "expect_disruption counts from a mark; give mark",
            ),
            (
                !self.pass_env.is_empty() && self.run.is_none(),
                "pass_env is about a command; give run, or leave it out",
            ),
            (
                self.timeout.is_some() && self.run.is_none() && self.wait_for.is_none(),
                "timeout is about run or wait_for; give one, or leave it out",
            ),
        ];
        for (_, why) in lonely.iter().filter(|(is_so, _)| *is_so) {
            wrong((*why).into());
        }
        if self.run.as_ref().is_some_and(|run| run.trim().is_empty() || run.contains('\0')) {
            wrong("run is a command, as sh -c takes it: run = \"kubectl …\"".into());
        }
        let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\t' | '\0');
        if self.run.as_ref().is_some_and(|run| !run.chars().all(is_text)) {
            wrong("run holds control characters, with which a terminal shows something else than is run; put it into a script, and run that".into());
        }
        if self.run.as_ref().is_some_and(|run| run.len() > COMMAND_BYTES_MAX) {
            wrong(format!("run has more than {COMMAND_BYTES_MAX} bytes; put it into a script, and run that"));
        }
        if self.pass_env.len() > PASS_ENV_MAX {
            wrong(format!(
                "pass_env names {} variables, and {PASS_ENV_MAX} are the most",
                self.pass_env.len()
            ));
        }
        if let Some(name) = self.pass_env.iter().find(|name| !is_variable(name)) {
            wrong(format!(
                "pass_env = [\"{}\"]: write a variable's name, without its value",
                name.escape_debug()
            ));
        }
        if self.timeout.is_some_and(|time| time.ns() == 0 || time > STEP_TIMEOUT_MAX) {
            wrong(format!("timeout is more than 0s, and at most {STEP_TIMEOUT_MAX}"));
        }
        if self.expect_disruption.is_some_and(|time| time > STEP_TIMEOUT_MAX) {
            wrong(format!("expect_disruption is at most {STEP_TIMEOUT_MAX}"));
        }
        if self.expect_disruption.is_some() && self.phase != Phase::Traffic {
            wrong(format!(
                "expect_disruption is about streams, and there are none in phase \"{}\"; leave it out",
                self.phase.name()
            ));
        }
        if self.wait_for.is_some() && self.phase != Phase::Traffic {
            wrong(format!(
                "wait_for looks at the traffic, and none goes in phase \"{}\"; leave phase out, or let run wait",
                self.phase.name()
            ));
        }
    }
}

/// A command's text where only one line has room.
pub fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn is_variable(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(is_word) && !name.as_bytes()[0].is_ascii_digit()
}

fn awaited(expression: &str, spec: &Spec) -> Result<Threshold, String> {
    let (groups, observe) = (spec.group_names(), spec.observe_names());
    Threshold::parse_wait(expression, &Names { groups: &groups, observe: &observe })
}

/// How long the traffic goes at least, its drain left out: what is due later finds none.
fn traffic_ns(spec: &Spec) -> u64 {
    let of = |group: &GroupSpec| {
        let before = [group.start, group.ramp, Some(group.warm_up.unwrap_or(spec::DEFAULT_WARM_UP))];
        before.into_iter().flatten().map(Span::ns).fold(group.steady_ns(), u64::saturating_add)
    };
    spec.group.iter().map(of).max().unwrap_or(0)
}

impl Scenario {
    /// The longest that the steps before and after the traffic may take, and those of the traffic beyond it.
    pub fn beside_traffic(&self) -> Span {
        let traffic = traffic_ns(&self.planned(None));
        let of = |phase: Phase| {
            let steps = self.step.iter().filter(move |step| step.phase == phase);
            // Each begins at its time or behind the one before, whichever is later; in the traffic while that goes.
            steps.fold(0u64, |sum, step| {
                let begins = sum.max(step.at.map_or(0, Span::ns));
                let begins = if phase == Phase::Traffic { begins.min(traffic) } else { begins };
                sum.max(begins.saturating_add(step.time_max().ns()))
            })
        };
        let beyond = of(Phase::Traffic).saturating_sub(traffic);
        Span::from_ns(of(Phase::Before).saturating_add(beyond).saturating_add(of(Phase::After)))
    }

    /// Checks the steps. `spec`: the traffic as planned.
    pub(super) fn check_steps(&self, spec: &Spec, error: &mut dyn FnMut(String)) {
        if self.step.len() > STEPS_MAX {
            error(format!("{} steps; a scenario has at most {STEPS_MAX}", self.step.len()));
        }
        if !self.step.is_empty() && self.group.is_empty() {
            error("steps stand around traffic, and there is no [[group]]; give one".into());
            return;
        }
        let length = traffic_ns(spec);
        let (mut phase, mut last) = (Phase::Before, Span::default());
        for (number, step) in (1..).zip(&self.step) {
            let mut wrong = |why: String| error(format!("step {number}: {why}"));
            step.check(&mut wrong);
            if step.phase < phase {
                wrong(format!(
                    "phase \"{}\" comes before \"{}\"; put the steps in the order in which they come",
                    step.phase.name(),
                    phase.name()
                ));
            } else if step.phase > phase {
                (phase, last) = (step.phase, Span::default());
            }
            if let Some(at) = step.at {
                if at < last {
                    wrong(format!(
                        "at = \"{at}\" is earlier than the step before, at {last}; put it in front of that"
                    ));
                }
                last = last.max(at);
                if step.phase == Phase::Traffic && at.ns() >= length {
                    wrong(format!(
                        "at = \"{at}\" counts from the traffic's start, and the traffic is over after {}; make it earlier, or a group's duration longer",
                        Span::from_ns(length)
                    ));
                }
            }
            match step.wait_for.as_deref().map(|expression| awaited(expression, spec)) {
                Some(Ok(awaited)) => {
                    if let Some(over) = awaited.over().filter(|over| *over >= step.time_max()) {
                        wrong(format!(
                            "wait_for looks at {over} from now on, and gives up after {}; give a longer timeout",
                            step.time_max()
                        ));
                    }
                }
                Some(Err(why)) => wrong(format!("wait_for: {why}")),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(steps: &str) -> Scenario {
        let text = format!(
            "[[group]]\nkind = \"ws\"\ntarget = [\"ws://127.0.0.1:1/\"]\nconns = 10\nduration = \"10m\"\n{steps}"
        );
        Scenario::from_toml(&text, "s.toml").unwrap()
    }

    fn errors(steps: &str) -> String {
        scenario(steps).check().expect_err("a mistake").join("\n")
    }

    #[test]
    fn steps_in_their_order_are_taken_and_travel() {
        let text = "[[step]]\nphase = \"before\"\nrun = \"true\"\n\
            [[step]]\nat = \"2m\"\nmark = \"kill coderd-1\"\nexpect_disruption = \"60s\"\nrun = \"kubectl delete pod coderd-1\"\ntimeout = \"30s\"\npass_env = [\"AWS_SESSION_TOKEN\"]\n\
            [[step]]\nwait_for = \"response.p99 < 250ms over 5s\"\ntimeout = \"2m\"\n\
            [[step]]\nat = \"10m\"\nmark = \"quiet\"\nexpect_disruption = \"0s\"\n[[step]]\nphase = \"after\"\nat = \"5s\"\nrun = \"true\"\n";
        let scenario = scenario(text);
        assert_eq!(scenario.check(), Ok(()));
        let travelled = serde_json::to_string(&scenario).unwrap();
        assert_eq!(serde_json::from_str::<Scenario>(&travelled).unwrap(), scenario);
        assert_eq!(scenario.beside_traffic(), Span::from_secs(60 + 65));
        let said: Vec<String> =
            (1..).zip(&scenario.step).map(|(number, step)| step.sentence(number)).collect();
        assert_eq!(said[0], "step 1 (before the traffic, then): scalectl runs `true`, 1m at most");
        assert_eq!(
            said[1],
            "step 2 (traffic, 2m in): mark \"kill coderd-1\", 1m of disruption expected; scalectl runs `kubectl delete pod coderd-1`, 30s at most"
        );
        assert_eq!(said[2], "step 3 (traffic, then): wait for `response.p99 < 250ms over 5s`, 2m at most");
        assert_eq!(said[3], "step 4 (traffic, 10m in): mark \"quiet\", a note");
        assert!(scenario.step[2].awaited(&scenario.planned(None)).is_some());
        assert_eq!(scenario.step[3].time_max(), Span::default());
    }

    #[test]
    fn each_mistake_says_what_to_do() {
        let one = |words: &str| errors(&format!("[[step]]\n{words}\n"));
        assert!(one("").contains("step 1: it does nothing"));
        assert!(one("run = \"a\"\nwait_for = \"response.p99 < 1s\"").contains("two steps"));
        assert!(one("run = \" \"").contains("kubectl"));
        assert!(one(&format!("run = \"{}\"", "x".repeat(COMMAND_BYTES_MAX + 1))).contains("a script"));
        assert!(one("run = \"a\"\nexpect_disruption = \"1s\"").contains("give mark"));
        assert!(one("mark = \"a\"\ntimeout = \"1s\"").contains("leave it out"));
        assert!(one("mark = \"a\"\npass_env = [\"A\"]").contains("give run"));
        assert!(one("run = \"a\"\npass_env = [\"A=b\"]").contains("without its value"));
        assert!(one("run = \"a\"\ntimeout = \"0s\"").contains("more than 0s"));
        assert!(one("run = \"true #\\u001b[2K\"").contains("a terminal shows something else"));
        assert!(one("wait_for = \"response.p99 < 1s over 5m\"").contains("a longer timeout"));
        assert!(one("wait_for = \"respons.p99 < 1s\"").contains("step 1: wait_for: "));
        assert!(one("wait_for = \"response.p99 < 1s over 5s abort\"").contains("leave out `abort`"));
        assert!(
            one("phase = \"after\"\nwait_for = \"response.p99 < 1s\"")
                .contains("none goes in phase \"after\"")
        );
        let beside = one("phase = \"before\"\nmark = \"a\"\nexpect_disruption = \"1s\"");
        assert!(beside.contains("there are none in phase \"before\""), "{beside}");
        // 10m and the 5s of warm-up.
        assert!(one("at = \"605s\"\nmark = \"late\"").contains("over after 10m5s"));
        assert!(
            errors("[[step]]\nat = \"2m\"\nmark = \"b\"\n[[step]]\nat = \"1m\"\nmark = \"a\"\n")
                .contains("step 2")
        );
        let phases = "[[step]]\nphase = \"after\"\nmark = \"b\"\n[[step]]\nmark = \"a\"\n";
        assert!(errors(phases).contains("in the order in which they come"));
        let many = "[[step]]\nmark = \"a\"\n".repeat(STEPS_MAX + 1);
        assert!(errors(&many).contains("at most 64"));
        let alone = Scenario::from_toml("[baseline]\n[[step]]\nmark = \"a\"\n", "s").unwrap();
        assert!(alone.check().unwrap_err().join("\n").contains("no [[group]]"));
        let unknown =
            Scenario::from_toml("[[group]]\n[[step]]\nmark = \"a\"\nrnu = \"b\"\n", "s.toml").unwrap_err();
        assert!(unknown.starts_with("s.toml:4:1:") && unknown.contains("rnu"), "{unknown}");
    }
}
