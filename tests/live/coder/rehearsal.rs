//! Scenarios with steps: marks, commands that `scalectl` runs, what is waited for; and the weekly rehearsal of the
//! examples against a deployment of four replicas.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use scale_api::report::{Event, Report};
use scale_api::scenario::taken::{StepReport, StepState};
use scale_tests::{Daemon, Process, assert_ended_with, host};
use serde_json::Value;

use super::{Standin, outcome, secrets, texts};

const EXAMPLE: &str = include_str!("../../../docs/examples/scenario-weekly.toml");
const SECRET: &str = "b8a1-not-to-be-seen";

/// A stand-in whose terminals are cheap, and a daemon.
fn begin() -> (Standin, Daemon) {
    let settings =
        "build_time = '50ms'\nbuild_jitter = '50ms'\nagent_time = '50ms'\nterminals = 'emulated'\n";
    (Standin::start(settings, ""), Daemon::start())
}

/// Two workspaces, their terminals for `duration`, and `steps`.
fn file(standin: &Standin, duration: &str, steps: &str) -> String {
    let text = format!(
        "name = 'rehearsal'\n[create]\ncount = 2\ntemplate = 'minimal'\nconcurrency = 0\n\
         [[group]]\nname = 'terminals'\nduration = '{duration}'\nbytes_per_tick = '128B'\nwarm_up = '0s'\n{steps}"
    );
    standin.write("rehearsal.toml", &text)
}

fn step(report: &Report, number: usize) -> &StepReport {
    &report.steps[number - 1]
}

fn states(report: &Report) -> Vec<StepState> {
    report.steps.iter().map(|step| step.state).collect()
}

/// A `scalectl --json` that follows a scenario.
struct Follower {
    process: Process,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("scalectl runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { process: Process(child), lines }
    }

    /// The first event from here on in which a step stands so.
    fn until_state(&mut self, number: usize, state: StepState) -> Event {
        let lines = self.lines.by_ref().map(|line| line.expect("text"));
        let mut events = lines.filter_map(|line| serde_json::from_str::<Event>(&line).ok());
        let stands = |event: &Event| event.steps.get(number - 1).is_some_and(|step| step.state == state);
        let found = events.find(stands);
        found.unwrap_or_else(|| panic!("it ended before step {number} was {state:?}"))
    }

    /// Its exit code and the report, which is the last line.
    fn end(mut self) -> (i32, Report) {
        let last = self.lines.by_ref().map(|line| line.expect("text")).last().expect("a last line");
        let code = self.process.0.wait().expect("it ends").code().expect("an exit code");
        (code, serde_json::from_str(&last).unwrap_or_else(|why| panic!("{why}: {last}")))
    }
}

#[test]
fn steps_come_in_their_order_with_the_callers_rights_and_without_secrets() {
    let (standin, daemon) = begin();
    let steps = "\
        [[step]]\nphase = 'before'\nrun = 'echo \"<$CODER_SESSION_TOKEN> <$MY_PASSWORD> <$OTHER_PASSWORD> <$PLAIN>\"; id -u; cat; pwd'\npass_env = ['OTHER_PASSWORD']\n\
        [[step]]\nat = '1s'\nmark = 'kill one'\nrun = 'echo out; echo err >&2'\n\
        [[step]]\nwait_for = 'streams.open == 2'\n\
        [[step]]\nat = '3s'\nmark = 'nothing is done'\n\
        [[step]]\nphase = 'after'\nrun = 'true'\n";
    let file = file(&standin, "6s", steps);
    let (code, out, error) = standin.scalectl(&daemon, &["scenario", "-f", &file, "--dry-run"]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("step 2 (traffic, 1s in): mark \"kill one\"; scalectl runs `echo out;"), "{out}");
    let mut command = standin.command(&daemon, &["--json", "scenario", "-f", &file, "--yes"]);
    command.env_remove("CODER_SESSION_TOKEN_FILE").env("CODER_SESSION_TOKEN", standin.token.trim());
    command.env("MY_PASSWORD", SECRET).env("OTHER_PASSWORD", "passed").env("PLAIN", "plain");
    let output = command.output().expect("scalectl runs");
    let (code, out, error) = texts(&output);
    let report: Report = serde_json::from_str(out.lines().last().expect("a report")).expect("a report");
    assert_ended_with(0, (code, &report));
    let notice = error.lines().find(|line| line.contains("commands do not get")).expect("a notice");
    assert!(notice.contains("CODER_SESSION_TOKEN") && notice.contains("MY_PASSWORD"), "{notice}");
    assert!(!notice.contains("OTHER_PASSWORD") && !notice.contains("PLAIN"), "{notice}");
    assert_eq!(states(&report), [StepState::Done; 5], "{:?}", report.steps);
    let wrote = step(&report, 1).output.as_deref().expect("an output");
    assert!(wrote.starts_with("<> <> <passed> <plain>\n"), "{wrote}");
    assert_eq!(
        wrote.lines().nth(1).map(str::to_owned),
        step(&report, 1).by.as_ref().map(|by| by.uid.to_string())
    );
    assert_eq!(step(&report, 2).output.as_deref(), Some("out\nerr\n"));
    // On the clock of the series, with the mark where the command began.
    let began: Vec<f64> = report.steps.iter().map(|step| step.at.expect("it began")).collect();
    assert!(began[0] < 0.0 && began.is_sorted() && began[3] >= 3.0, "{began:?}");
    let marks: Vec<&str> = report.marks.iter().map(|mark| mark.text.as_str()).collect();
    assert_eq!(marks, ["kill one", "nothing is done"]);
    assert!((report.marks[0].at - began[1]).abs() < 1.0, "{:?} {began:?}", report.marks);
    let phases: Vec<&str> = outcome(&report).steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(phases, ["create", "before", "traffic", "after", "clean up"]);
    assert_eq!(secrets::holding(&daemon.state(), standin.token.trim()), [""; 0]);
    assert_eq!(secrets::holding(&daemon.state(), SECRET), [""; 0]);
    let (_, text, _) = texts(&daemon.scalectl(&["report"]));
    assert!(text.contains("\"kill one\": done") && text.contains("$ echo out"), "{text}");
    standin.end();
}

#[test]
fn what_fails_or_takes_too_long_fails_the_verdict_and_what_follows_goes_on() {
    let (standin, daemon) = begin();
    let steps = "\
        [[step]]\nrun = 'echo why it failed; exit 3'\n\
        [[step]]\nrun = 'echo $$; sleep 600 & wait'\ntimeout = '500ms'\n\
        [[step]]\nwait_for = 'streams.open > 2'\ntimeout = '3s'\n\
        [[step]]\nrun = 'true'\n";
    let (code, report) = standin.flow(&daemon, &["scenario", "-f", &file(&standin, "12s", steps)]);
    assert_ended_with(99, (code, &report));
    use StepState::{Done, Failed};
    assert_eq!(states(&report), [Failed, Failed, Failed, Done], "{:?}", report.steps);
    assert_eq!((step(&report, 1).exit_code, step(&report, 1).why.as_deref()), (Some(3), Some("exit code 3")));
    let reasons = report.verdict.reasons.join("\n");
    for said in ["step 1 (echo why", "longer than 0.5 s", "`streams.open > 2` did not hold within 3s; last 2"]
    {
        assert!(reasons.contains(said), "{said}: {reasons}");
    }
    // The whole group is gone: nothing that bears its number is there.
    let group = step(&report, 2).output.as_deref().expect("a number").trim().to_owned();
    let is_there = || {
        let status =
            Command::new("kill").args(["-s", "0", "--", &format!("-{group}")]).stderr(Stdio::null()).status();
        status.expect("kill runs").success()
    };
    host::until("the group's end", || (!is_there()).then_some(()));
    let (_, text, _) = texts(&daemon.scalectl(&["report"]));
    assert!(text.contains("| why it failed"), "{text}");
    standin.end();
}

#[test]
fn one_before_the_traffic_that_fails_begins_none() {
    let (standin, daemon) = begin();
    let steps = "[[step]]\nphase = 'before'\nrun = 'false'\n[[step]]\nmark = 'traffic'\n[[step]]\nphase = 'after'\nrun = 'echo undone'\n";
    let (code, report) = standin.flow(&daemon, &["scenario", "-f", &file(&standin, "1h", steps)]);
    assert_ended_with(99, (code, &report));
    assert_eq!(
        states(&report),
        [StepState::Failed, StepState::NotRun, StepState::Done],
        "{:?}",
        report.steps
    );
    let reasons = &report.verdict.reasons;
    assert!(reasons.iter().any(|why| why == "step 2 was not run: the traffic did not begin"), "{reasons:?}");
    assert_eq!((report.load.streams_opened, outcome(&report).owned), (0, 0));
    standin.end();
}

#[test]
fn nobody_there_is_not_run_and_who_comes_back_takes_the_later_ones() {
    let (standin, daemon) = begin();
    let steps = "[[step]]\nmark = 'kill'\nrun = 'echo first'\n[[step]]\nat = '20s'\nrun = 'echo second'\n";
    let file = file(&standin, "25s", steps);
    let (code, id, error) = standin.scalectl(&daemon, &["scenario", "-f", &file, "--yes", "--detach"]);
    assert!(code == 0 && error.contains("nobody runs the steps' commands after --detach"), "{error}");
    let id = id.trim().to_owned();
    let steps_now = || -> Vec<StepReport> {
        let (_, text, _) = texts(&daemon.scalectl(&["--json", "status"]));
        let status: Value = serde_json::from_str(&text).expect("a status");
        serde_json::from_value(status["run"]["steps"].clone()).expect("steps")
    };
    host::until("the first step to be left out", || {
        steps_now().first().is_some_and(|step| step.state == StepState::NotRun).then_some(())
    });
    // Another file is another scenario's.
    let other =
        standin.write("other.toml", &std::fs::read_to_string(&file).expect("text").replace("second", "2nd"));
    let (code, _, error) = standin.scalectl(&daemon, &["scenario", "-f", &other, "--attach", &id]);
    assert!(code == 2 && error.contains("are not those of run"), "{code} {error}");
    let (code, out, error) = standin.scalectl(&daemon, &["--json", "scenario", "-f", &file, "--attach", &id]);
    let report: Report = serde_json::from_str(out.lines().last().expect("a report")).expect("a report");
    assert_eq!(code, 99, "{error}");
    assert_eq!(states(&report), [StepState::NotRun, StepState::Done], "{:?}", report.steps);
    assert!(step(&report, 1).why.as_ref().is_some_and(|why| why.contains("no scalectl was attached")));
    assert_eq!(report.marks, [], "what was not done is not marked");
    assert_eq!(step(&report, 2).output.as_deref(), Some("second\n"));
    standin.end();
}

#[test]
fn ctrl_c_lets_a_command_end_and_a_second_one_ends_it() {
    let (standin, daemon) = begin();
    let done = standin.folder.path("done").display().to_string();
    let steps = format!(
        "[[step]]\nrun = 'sleep 3; echo ended > {done}'\n[[step]]\nrun = 'true'\n[[step]]\nphase = 'after'\nrun = 'echo put right'\n"
    );
    let arguments = ["--json", "scenario", "-f", &file(&standin, "1h", &steps), "--yes"];
    let mut follower = Follower::start(&mut standin.command(&daemon, &arguments));
    follower.until_state(1, StepState::Running);
    follower.process.signal("INT");
    let (code, report) = follower.end();
    assert_ended_with(5, (code, &report));
    assert_eq!(states(&report), [StepState::Done, StepState::NotRun, StepState::Done], "{:?}", report.steps);
    assert_eq!(std::fs::read_to_string(&done).expect("it went on"), "ended\n");
    assert_eq!(outcome(&report).owned, 0);

    let steps = format!("[[step]]\nrun = 'rm {done}; sleep 600; echo ended > {done}'\ntimeout = '20m'\n");
    let arguments = ["--json", "scenario", "-f", &file(&standin, "1h", &steps), "--yes"];
    let mut follower = Follower::start(&mut standin.command(&daemon, &arguments));
    follower.until_state(1, StepState::Running);
    let (code, _, error) = texts(&daemon.scalectl(&["stop", "--now"]));
    assert_eq!(code, 5, "{error}");
    let (code, report) = follower.end();
    assert_ended_with(5, (code, &report));
    let ended = step(&report, 1);
    assert_eq!((ended.state, ended.exit_code), (StepState::Failed, Some(143)), "{ended:?}");
    assert!(ended.why.as_ref().is_some_and(|why| why.contains("with all of the scenario")), "{ended:?}");
    assert!(!std::path::Path::new(&done).exists());
    let (code, _, error) = standin.scalectl(&daemon, &["cleanup", "--yes"]);
    assert_eq!(code, 0, "{error}");
    standin.end();
}

#[test]
fn a_scalectl_that_goes_away_fails_its_step() {
    let (standin, daemon) = begin();
    let steps = "[[step]]\nrun = 'sleep 30'\n[[step]]\nmark = 'gone'\n";
    let arguments = ["--json", "scenario", "-f", &file(&standin, "12s", steps), "--yes"];
    let mut follower = Follower::start(&mut standin.command(&daemon, &arguments));
    follower.until_state(1, StepState::Running);
    follower.process.signal("KILL");
    drop(follower);
    let (code, out, error) = texts(&daemon.scalectl(&["--json", "watch"]));
    assert_eq!(code, 99, "{error}");
    let report: Report = serde_json::from_str(out.lines().last().expect("a report")).expect("a report");
    assert_eq!(states(&report), [StepState::Failed, StepState::Done], "{:?}", report.steps);
    assert!(step(&report, 1).why.as_ref().is_some_and(|why| why.contains("went away")), "{:?}", report.steps);
    standin.end();
}

#[test]
fn a_daemon_that_is_lost_takes_its_steps_with_it() {
    let (standin, mut daemon) = begin();
    daemon.environment = vec![("CODER_SESSION_TOKEN_FILE", standin.folder.path("token"))];
    let done = standin.folder.path("done");
    let steps = format!(
        "[[step]]\nrun = 'sleep 600; echo ended > {}'\ntimeout = '20m'\n[[step]]\nmark = 'later'\n",
        done.display()
    );
    let arguments = ["--json", "scenario", "-f", &file(&standin, "1h", &steps), "--yes"];
    let mut follower = Follower::start(&mut standin.command(&daemon, &arguments));
    let id = follower.until_state(1, StepState::Running).run;
    host::until("a checkpoint with the step", || {
        let text = std::fs::read_to_string(daemon.state().join(&id).join("checkpoint.json")).ok()?;
        text.contains("\"state\":\"running\"").then_some(())
    });
    drop(daemon.process.take());
    // Nobody would hear of what its command does from here on.
    assert_eq!(follower.process.0.wait().expect("it ends").code(), Some(5));
    daemon.begin();
    let report = host::until("the clean-up", || {
        let (_, text, _) = texts(&daemon.scalectl(&["--json", "report", &id]));
        let report: Report = serde_json::from_str(&text).ok()?;
        let is_over = report.coder.as_ref().is_some_and(|coder| coder.owned == 0 && coder.ended == "done");
        (report.verdict.exit_code == 5 && is_over).then_some(report)
    });
    assert_eq!(states(&report), [StepState::Failed, StepState::NotRun], "{:?}", report.steps);
    assert_eq!(step(&report, 1).why.as_deref(), Some("the daemon was lost"));
    assert!(!done.exists(), "its command went on");
    assert_eq!(standin.there(), (Vec::new(), Vec::new()));
    standin.end();
}

/// `kubectl` for a deployment that has no Kubernetes: what the example asks of it becomes orders to the stand-in's
/// replicas. A pod that is deleted comes again, as a Deployment's does.
fn kubectl(standin: &Standin) -> String {
    let (address, port) = standin.sink.address.rsplit_once(':').expect("host and port");
    let token = standin.folder.path("token").display().to_string();
    let text = format!(
        r#"#!/bin/bash
set -euo pipefail
ask() {{
  exec 3<>/dev/tcp/{address}/{port}
  printf '%s %s HTTP/1.1\r\nHost: stand-in\r\nConnection: close\r\nCoder-Session-Token: %s\r\nContent-Length: 0\r\n\r\n' \
    "$1" "/stand-in/replicas$2" "$(cat {token})" >&3
  answer=$(cat <&3)
  exec 3>&-
  case $answer in "HTTP/1.1 200 "*) ;; *) printf '%s\n' "$answer" >&2; exit 1 ;; esac
}}
case "$*" in
  *" get pods "*"-o name") printf 'pod/coder-%s\n' 0 1 2 3 ;;
  *" get pods "*) printf 'coder-%s Running\n' 0 1 2 3 ;;
  *" delete pod/coder-"*--force) [[ $* =~ coder-([0-9]) ]]; ask POST "/${{BASH_REMATCH[1]}}/kill?for=2s"; echo "pod \"coder-${{BASH_REMATCH[1]}}\" force deleted" ;;
  *" delete pod/coder-"*) [[ $* =~ coder-([0-9]) ]]; ask POST "/${{BASH_REMATCH[1]}}/drain?for=2s"; echo "pod \"coder-${{BASH_REMATCH[1]}}\" deleted" ;;
  *" rollout status "*) echo 'deployment "coder" successfully rolled out' ;;
  *) echo "not known here: $*" >&2; exit 1 ;;
esac
"#
    );
    let bin = standin.folder.path("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    std::fs::write(bin.join("kubectl"), text).expect("a script");
    std::fs::set_permissions(bin.join("kubectl"), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    bin.display().to_string()
}

/// The example, with fewer workspaces and in shorter times; everything else is as it stands there.
fn shortened() -> String {
    let mut text = EXAMPLE.to_owned();
    for (long, short) in [
        ("count = 2000", "count = 40"),
        ("duration = \"5m\"", "duration = \"2s\""),
        ("ramp = \"2m\"", "ramp = \"1s\"\nwarm_up = \"1s\"\nreplica_header = \"X-Stand-In-Replica\""),
        ("duration = \"30m\"", "duration = \"36s\""),
        ("at = \"10m\"", "at = \"5s\""),
        ("at = \"20m\"", "at = \"20s\""),
        ("expect_disruption = \"60s\"", "expect_disruption = \"10s\""),
        // The machine of the tests may have others to serve, too.
        ("response.p99 < 250ms", "response.p99 < 10s"),
    ] {
        assert!(text.contains(long), "the example has no {long} any more");
        text = text.replacen(long, short, 1);
    }
    text
}

#[test]
fn the_weekly_rehearsal_tells_its_story_by_one_command() {
    let settings = "build_time = '50ms'\nbuild_jitter = '50ms'\nagent_time = '50ms'\nterminals = 'emulated'\nreplicas = 4\n";
    let (standin, daemon) = (Standin::start(settings, ""), Daemon::start());
    let file = standin.write("weekly.toml", &shortened());
    let summary = standin.folder.path("summary.md").display().to_string();
    let path = format!("{}:{}", kubectl(&standin), std::env::var("PATH").unwrap_or_default());
    let arguments = ["--json", "scenario", "-f", &file, "--yes", "--summary", &summary];
    let output = standin.command(&daemon, &arguments).env("PATH", path).output().expect("scalectl runs");
    let (code, out, error) = texts(&output);
    let report: Report =
        serde_json::from_str(out.lines().last().unwrap_or_else(|| panic!("{error}"))).expect("a report");
    assert_ended_with(0, (code, &report));
    assert_eq!(states(&report), [StepState::Done; 8], "{:?}", report.steps);
    let marks: Vec<&str> = report.disruptions.iter().filter_map(|it| it.mark.as_deref()).collect();
    assert_eq!(marks, ["kill a replica", "drain a replica"]);

    let summary = std::fs::read_to_string(summary).expect("a summary");

    // What the report says of each is what the stand-in saw.
    let seen = standin.end();
    let breaks: Vec<&Value> = seen["breaks"].as_array().expect("a list").iter().collect();
    assert_eq!(breaks.len(), 2, "{seen}");
    for ((disruption, told), what) in report.disruptions.iter().zip(breaks).zip(["kill", "drain"]) {
        let sentence = disruption.sentence(report.run.started_at, true);
        assert_eq!(told["what"], what);
        let dropped = told["dropped"].as_u64().expect("a count");
        assert!(dropped > 0 && disruption.streams_dropped.abs_diff(dropped) <= 1, "{sentence} {told}");
        assert_eq!(disruption.users_affected, told["users_dropped"].as_u64(), "{sentence}");
        assert_eq!((disruption.streams, disruption.never_back), (40, 0), "{sentence}");
        assert_eq!(disruption.same_session, Some(disruption.streams_dropped), "{sentence}");
        assert_eq!(disruption.expected, Some(10.0), "{sentence}");
    }

    // By itself, to somebody who was not there: the row, the text, the page.
    let row = |form: &str| {
        let (code, row, error) = texts(&daemon.scalectl(&["report", &format!("--row={form}")]));
        assert_eq!(code, 0, "{error}");
        row
    };
    let markdown = row("markdown");
    assert!(markdown.contains("Kubernetes (GKE)") && markdown.contains("db-custom-8-30720"), "{markdown}");
    let (_, text, _) = texts(&daemon.scalectl(&["report"]));
    for said in
        ["\"kill a replica\": done", "\"drain a replica\": done", " of 40 dropped (", "deleted 40 workspaces"]
    {
        assert!(text.contains(said), "{said}: {text}");
    }
    let page = standin_page(&daemon, &report.run.id);
    for said in ["\"kill a replica\"", "force deleted", "\"never_back\":0"] {
        assert!(page.contains(said), "the page has no {said}");
    }
    assert!(summary.contains("kill a replica"), "{summary}");
}

/// The page that the run has kept.
fn standin_page(daemon: &Daemon, id: &str) -> String {
    std::fs::read_to_string(daemon.state().join(id).join("report.html")).expect("a page")
}
