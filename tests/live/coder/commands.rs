//! Commands in the web terminals of workspaces: real shells, and what goes wrong with them.

use scale_api::coder::Outcome;
use scale_tests::Daemon;
use scale_tests::host::Folder;

use super::{Standin, create, outcome};

const BRISK: &str = "build_time = '50ms'\nbuild_jitter = '50ms'\nagent_time = '50ms'\n";

fn classes(made: &Outcome) -> Vec<(&str, u64)> {
    made.failures.iter().map(|(class, failures)| (class.as_str(), failures.count)).collect()
}

#[test]
fn a_command_runs_in_each_workspace_and_both_its_phases_are_told() {
    let (standin, daemon) = (Standin::brisk(), Daemon::start());
    let make = create("20", &["--run-command", "sleep 1 && echo hello", "--yes"]);
    let (code, text, error) = standin.scalectl(&daemon, &make);
    assert_eq!(code, 0, "{text}{error}");
    for words in [
        "then `sleep 1 && echo hello` runs in its web terminal, for 5s at most",
        "20 of 20 workspaces succeeded",
        "connected = the web terminal's first byte",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let (code, report) = standin.flow(
        &daemon,
        &create("5", &["--run-command", "sleep 1; echo $((6*7))", "--run-expect-output", "^42$"]),
    );
    let made = outcome(&report);
    assert_eq!((code, made.succeeded), (0, 5), "{:?}", made.failed_things);
    let (connect, command) = (made.phases.connect.as_ref(), made.phases.command.as_ref());
    let (connect, command) = (connect.expect("it connected"), command.expect("it ran"));
    assert_eq!((connect.count, command.count), (5, 5));
    assert!(connect.max < 1.0 && command.min > 0.8 && command.max < 5.0, "{connect:?} {command:?}");
    let counts = standin.end();
    assert_eq!(counts["sockets"]["terminals"], 25, "{counts}");
}

#[test]
fn hundreds_of_commands_at_once_need_no_shell_where_terminals_are_emulated() {
    let (standin, daemon) = (
        Standin::start(&format!("{BRISK}terminals = 'emulated'\nrate_limits = 'off'\n"), ""),
        Daemon::start(),
    );
    let (code, report) = standin.flow(
        &daemon,
        &create("200", &["--run-command", "sleep 2 && echo hello", "--run-expect-output", "^hello$"]),
    );
    let made = outcome(&report);
    assert_eq!((code, made.succeeded), (0, 200), "{:?}", made.failed_things);
    let command = made.phases.command.as_ref().expect("it ran");
    assert!(command.count == 200 && command.min > 1.0, "{command:?}");
    assert_eq!(standin.end()["sockets"]["terminals"], 200);
}

#[test]
fn without_a_command_nothing_is_connected() {
    let (standin, daemon) = (Standin::brisk(), Daemon::start());
    let (code, report) = standin.flow(&daemon, &create("3", &[]));
    let made = outcome(&report);
    assert_eq!((code, &made.phases.connect, &made.phases.command, &made.command), (0, &None, &None, &None));
    assert_eq!(standin.end()["sockets"]["terminals"], 0);
}

#[test]
fn each_way_to_fail_has_its_class_and_the_line_says_how_many_connected() {
    let faults = "[[fault]]\nkind = 'dial'\nworkspace = 'scaletest-*-0'\n\
                  [[fault]]\nkind = 'reset'\nworkspace = 'scaletest-*-1'\nafter = '600ms'\n\
                  [[fault]]\nkind = 'status'\non = 'GET /api/v2/workspaceagents/*/pty'\nstatus = 403\ntimes = 1\nskip = 4\n";
    let (standin, daemon) = (Standin::start(BRISK, faults), Daemon::start());
    // One after the other: the refusal strikes the last request.
    let make = "create-workspaces --template minimal --concurrency 1 --count 5 --yes --run-command";
    let make: Vec<_> = make.split(' ').chain(["sleep 2 && echo hello"]).collect();
    let (code, text, error) = standin.scalectl(&daemon, &make);
    assert_eq!(code, 99, "{text}{error}");
    for words in [
        "2 of 5 workspaces succeeded, 2 failed to connect, 1 failed to run the command",
        "1 agent_unreachable: ",
        "dial workspace agent",
        "1 terminal_lost: ",
        "1 terminal_refused: ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    standin.end();
}

/// The marker is a file that the command would make if it went on.
#[test]
fn a_command_that_takes_too_long_is_ended_on_the_agent_too() {
    let (standin, daemon, folder) = (Standin::brisk(), Daemon::start(), Folder::new());
    let marker = folder.path("went-on");
    let command = format!("echo begun; sleep 4; touch {}", marker.display());
    let (code, report) = standin
        .flow(&daemon, &create("2", &["--run-command", &command, "--run-timeout", "1s", "--no-cleanup"]));
    let made = outcome(&report);
    assert_eq!((code, classes(made)), (99, vec![("command_timeout", 2)]));
    assert!(made.failed_things[0].message.contains("begun"), "{:?}", made.failed_things);
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(!marker.exists(), "Ctrl-C did not end it");
    standin.end();
}

#[test]
fn what_a_command_prints_is_held_against_what_is_expected_and_kept() {
    let (standin, daemon) = (Standin::brisk(), Daemon::start());
    let command = "seq 30000; echo the end";
    let (code, report) = standin.flow(
        &daemon,
        &create(
            "2",
            &[
                "--run-command",
                command,
                "--run-expect-output",
                "^29999$",
                "--run-log-output",
                "--run-timeout",
                "20s",
            ],
        ),
    );
    let made = outcome(&report);
    assert_eq!((code, classes(made)), (0, vec![]), "{:?}", made.failed_things);
    let folder = made.command.as_ref().and_then(|command| command.outputs.clone()).expect("a folder");
    let kept: Vec<_> =
        std::fs::read_dir(&folder).expect("it is there").map(|entry| entry.expect("a file").path()).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let reported = made.things.iter().all(|thing| {
        thing.output.as_ref().is_some_and(|text| text.len() <= 1024 && text.ends_with("\n30000\nthe end\n"))
    });
    assert!(reported, "{:?}", made.things);
    for path in kept {
        let text = std::fs::read_to_string(path).expect("text");
        assert!(text.contains("bytes before this were not kept") && text.len() < 70_000, "{}", text.len());
        assert!(text.ends_with("\r\n30000\r\nthe end\r\n"), "{:?}", &text[text.len() - 40..]);
    }
    let (code, report) =
        standin.flow(&daemon, &create("1", &["--run-command", "echo hello", "--run-expect-output", "^bye$"]));
    let made = outcome(&report);
    assert_eq!((code, classes(made)), (99, vec![("command_output", 1)]));
    assert!(made.failed_things[0].message.contains("hello"), "{:?}", made.failed_things);
    standin.end();
}

#[test]
fn an_agent_that_is_not_waited_for_is_tried_until_it_is_there() {
    let (standin, daemon) = (Standin::start("build_time = '50ms'\nagent_time = '2s'\n", ""), Daemon::start());
    let (code, report) =
        standin.flow(&daemon, &create("3", &["--no-wait-for-agents", "--run-command", "echo hello"]));
    let made = outcome(&report);
    assert_eq!((code, made.succeeded), (0, 3), "{:?}", made.failed_things);
    assert!(made.phases.connect.as_ref().is_some_and(|connect| connect.max > 1.0), "{:?}", made.phases);
    standin.end();
}

#[test]
fn commands_that_cannot_be_are_refused_before_anything_is_made() {
    let (standin, daemon) = (Standin::brisk(), Daemon::start());
    let long = "x".repeat(3000);
    for (more, word) in [
        (&["--run-expect-output", "x"][..], "give --run-command"),
        (&["--run-timeout", "3s"], "give --run-command"),
        (&["--run-log-output"], "give --run-command"),
        (&["--run-command", "true", "--run-expect-output", "("], "no regular expression"),
        (&["--run-command", "true", "--run-timeout", "0s"], "leave it out for 5s"),
        (&["--run-command", " "], "the command is empty"),
        (&["--run-command", &long], "more than 2000"),
    ] {
        let (code, _, error) = standin.scalectl(&daemon, &create("1", &[more, &["--yes"]].concat()));
        assert!(code == 2 && error.contains(word), "{word}: {error}");
    }
    assert_eq!(standin.there(), (Vec::new(), Vec::new()));
    standin.end();
}
