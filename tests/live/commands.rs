//! The commands beside `start`, as somebody uses them who has never seen them before.

use std::io::Read;
use std::process::Stdio;

use scale_api::http::{DoctorEntry, RunSummary, Status, Targets};
use scale_api::report::Report;
use scale_tests::host::{Folder, until};
use scale_tests::server::serve_websocket;
use scale_tests::{Daemon, Sink, assert_ended_with, program};
use serde_json::Value;

use crate::faults::{event, start, stop};
use crate::{assert_every_tick_is_accounted_for, error};

/// Runs a command that succeeds; what it printed.
#[track_caller]
fn done(daemon: &Daemon, words: &[&str]) -> String {
    let output = daemon.scalectl(words);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {}", error(&output));
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a command that is refused; what it said.
#[track_caller]
fn refused(daemon: &Daemon, words: &[&str], code: i32) -> String {
    let output = daemon.scalectl(words);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {}", error(&output));
    error(&output)
}

fn open(daemon: &Daemon, streams: u64) {
    until(&format!("{streams} open streams"), || {
        (event(daemon).streams.get("open") == Some(&streams)).then_some(())
    });
}

#[test]
fn streams_come_go_and_come_again_while_a_run_goes() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    start(
        &daemon,
        &["--conns", "40", "--target", &format!("ws://{}/", sink.address), "--tick-interval", "200ms"],
    );
    open(&daemon, 40);
    for conns in ["60", "10", "50"] {
        done(&daemon, &["set", "--conns", conns]);
        open(&daemon, conns.parse().expect("a number"));
    }
    // Down and up again before the closes are over.
    done(&daemon, &["set", "--conns", "5"]);
    done(&daemon, &["set", "--conns", "50"]);
    let then = event(&daemon).elapsed;
    until("50 open streams, of a later second", || {
        let now = event(&daemon);
        (now.elapsed >= then + 2.0 && now.streams.get("open") == Some(&50)).then_some(())
    });
    let (code, report) = stop(&daemon);
    assert_ended_with(0, (code, &report));
    let load = &report.load;
    assert_every_tick_is_accounted_for(load);
    assert_eq!((load.streams_requested, load.streams_opened, load.streams_open_at_end), (60, 60, 50));
    assert!(load.disconnects.is_empty() && load.connect_failures.is_empty(), "{load:?}");
    assert_eq!((load.messages_unanswered, report.total.payload_bytes_open), (0, 0));
    assert_eq!(sink.counts()["payload_bytes_received"], report.total.payload_bytes_sent);
}

#[test]
fn what_is_set_before_the_first_stream_and_before_steady_state_stays() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let start = ["start", "--detach", "--conns", "5", "--target", &target, "--bytes-per-tick", "100"];
    done(&daemon, &[&start[..], &["--warm-up", "2s", "--duration", "forever"]].concat());
    done(&daemon, &["set", "--conns", "10", "--bytes-per-tick", "200"]);
    open(&daemon, 10);
    done(&daemon, &["set", "--conns", "20"]);
    open(&daemon, 20);
    until("a second of steady state", || (event(&daemon).state == "steady").then_some(()));
    let then = event(&daemon).elapsed;
    until("a later one", || (event(&daemon).elapsed >= then + 1.0).then_some(()));
    let (code, report) = stop(&daemon);
    assert_ended_with(0, (code, &report));
    let load = &report.load;
    assert_eq!((load.streams_requested, load.streams_opened, load.streams_open_at_end), (20, 20, 20));
    assert_eq!(load.payload_bytes_sent, load.messages_sent * 200);
}

#[test]
fn a_changed_tick_keeps_the_rate_that_was_set_before() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    start(&daemon, &["--conns", "10", "--target", &format!("ws://{}/", sink.address), "--rate", "4KB/s"]);
    open(&daemon, 10);
    done(&daemon, &["set", "--rate", "20KB/s"]);
    done(&daemon, &["set", "--tick-interval", "200ms"]);
    until("50 messages a second of 4,000 bytes", || {
        let now = event(&daemon).now;
        let right =
            (45..=55).contains(&now.messages_sent) && (190_000.0..210_000.0).contains(&now.rate_offered);
        right.then_some(())
    });
    done(&daemon, &["--json", "set", "--bytes-per-tick", "100"]);
    until("50 messages a second of 100 bytes", || {
        let now = event(&daemon).now;
        ((45..=55).contains(&now.messages_sent) && (4_500.0..5_500.0).contains(&now.rate_offered))
            .then_some(())
    });
    let (code, report) = stop(&daemon);
    assert_ended_with(0, (code, &report));
    assert_eq!(
        report.spec.group[0].rate.map(|rate| rate.0),
        Some(4000),
        "the run file as understood at its start"
    );
}

#[test]
fn what_set_cannot_do_is_refused_and_the_run_goes_on() {
    let folder = Folder::new();
    let sink = Sink::start(&["--protocol", "ws"]);
    let mut daemon = Daemon::start();
    drop(daemon.process.take());
    daemon.allow("[[target]]\naddresses = [\"127.0.0.0/8\"]\nstreams_max = 70\n");
    daemon.begin();
    let address = &sink.address;
    let group = |name: &str, conns: u32| {
        format!(
            "[[group]]\nname = \"{name}\"\ntarget = [\"ws://{address}/{{n}}\"]\nconns = {conns}\nwarm_up = \"0s\"\nduration = \"forever\"\n"
        )
    };
    // The cap of a rule is for all groups together, and for all stages.
    let both = folder.write("both.toml", &(group("a", 40) + &group("b", 31)));
    let said = refused(&daemon, &["start", "--file", &both], 3);
    assert!(said.contains("70 streams") && said.contains("71 were asked for"), "{said}");
    let stage = "[[group.stage]]\nconns = 71\nhold = \"1s\"\n";
    let grows = group("a", 40).replace("duration = \"forever\"\n", "") + stage;
    assert!(
        refused(&daemon, &["start", "--file", &folder.write("grows.toml", &grows)], 3)
            .contains("71 were asked for")
    );
    let file = folder.write("run.toml", &(group("a", 20) + &group("b", 20)));
    done(&daemon, &["start", "--detach", "--file", &file]);
    open(&daemon, 40);
    let cases: [(&[&str], i32, &str); 10] = [
        (&[], 2, "nothing to change"),
        (&["--conns", "5"], 2, "give --group, one of a, b"),
        (&["--conns", "5", "--group", "c"], 2, "there are a, b"),
        (&["--conns", "0", "--group", "a"], 2, "at least 1"),
        (&["--conns", "51", "--group", "a"], 3, "71 were asked for"),
        (&["--conns", "21", "--group", "a"], 2, "filled in for 20 streams"),
        (&["--tick-interval", "10us", "--group", "a"], 2, "too short"),
        (&["--rate", "0B/s", "--group", "a"], 2, "sends nothing"),
        (&["--rate", "1KB/s", "--bytes-per-tick", "5", "--group", "a"], 2, "twice"),
        (&["--bytes-per-tick", "17MiB", "--group", "a"], 2, "more than 16MiB"),
    ];
    for (words, code, word) in cases {
        let said = refused(&daemon, &[&["set"], words].concat(), code);
        assert!(said.contains(word), "{words:?}: {said}");
    }
    done(&daemon, &["set", "--conns", "10", "--group", "b"]);
    open(&daemon, 30);
    let (_, report) = stop(&daemon);
    let streams: Vec<u64> = report.groups.iter().map(|group| group.load.streams_open_at_end).collect();
    assert_eq!(streams, [20, 10]);
    for words in
        [&["set", "--conns", "5"][..], &["mark", "x"], &["pause"], &["resume"], &["stop"], &["watch"]]
    {
        assert!(refused(&daemon, words, 2).contains("no run is going"), "{words:?}");
    }
}

#[test]
fn paused_time_is_not_due_and_the_run_lasts_longer_by_it() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let flags =
        ["--conns", "10", "--target", &target, "--tick-interval", "200ms", "--ramp", "0s", "--warm-up", "1s"];
    done(&daemon, &[&["start", "--detach", "--duration", "3s"], &flags[..]].concat());
    until("steady", || (event(&daemon).state == "steady").then_some(()));
    done(&daemon, &["mark", "a", "break"]);
    done(&daemon, &["pause"]);
    until("a second without a message", || {
        let event = event(&daemon);
        (event.state == "paused" && event.now.messages_sent == 0 && event.streams["open"] == 10).then_some(())
    });
    // Beyond the time at which the run would have ended.
    until("four seconds and more", || (event(&daemon).elapsed >= 5.0).then_some(()));
    done(&daemon, &["resume"]);
    let output = daemon.scalectl(&["--json", "watch"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Report = serde_json::from_str(text.lines().last().expect("a report")).expect("JSON");
    assert_ended_with(0, (output.status.code().expect("a code"), &report));
    // Ten streams for three seconds at five a second, as if there had been no pause; its ends fall
    // anywhere between two points of a stream's grid.
    assert!((140..=160).contains(&report.load.ticks_due), "{:?}", report.load);
    assert_every_tick_is_accounted_for(&report.load);
    assert!(report.run.ended_at - report.run.started_at >= 6.5, "{:?}", report.run);
    assert!(report.series.iter().any(|row| row.stage == "paused"), "{:?}", report.series);
    assert_eq!(report.marks.len(), 1);
    assert_eq!(report.marks[0].text, "a break");
    assert!((1.0..5.0).contains(&report.marks[0].at), "{:?}", report.marks);
}

#[test]
fn stop_all_is_content_where_nothing_goes_and_stops_what_does() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    assert_eq!(done(&daemon, &["stop", "--all"]).trim(), "no run is going");
    assert!(refused(&daemon, &["stop", "r1-0", "--all"], 2).contains("cannot be used with"));
    start(&daemon, &["--conns", "5", "--target", &format!("ws://{}/", sink.address)]);
    open(&daemon, 5);
    let output = daemon.scalectl(&["--json", "stop", "--all", "--now"]);
    assert_eq!(output.status.code(), Some(5), "{}", error(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Report = serde_json::from_str(text.lines().last().expect("a report")).expect("JSON");
    assert_eq!((report.load.streams_open_at_end, report.verdict.reasons[0].as_str()), (5, "stopped at once"));
}

#[test]
fn runs_are_listed_shown_again_and_removed_one_by_one() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start();
    assert!(refused(&daemon, &["report"], 2).contains("no run is kept here yet"));
    let target = format!("ws://{}/", sink.address);
    let short = ["--warm-up", "0s", "--duration", "300ms", "--drain", "2s", "--tick-interval", "100ms"];
    let run = |name: &'static str| {
        daemon.run(&[&["--conns", "2", "--target", &target, "--name", name], &short[..]].concat()).1
    };
    let (one, two, three) = (run("one"), run("two"), run("three"));
    let listed =
        || -> Vec<RunSummary> { serde_json::from_str(&done(&daemon, &["--json", "runs"])).expect("JSON") };
    let ids: Vec<String> = listed().into_iter().map(|run| run.id).collect();
    assert_eq!(ids, [&one, &two, &three].map(|report| report.run.id.clone()), "oldest first");
    let table = done(&daemon, &["runs"]);
    assert!(table.starts_with("run ") && table.lines().count() == 4, "a head and three runs: {table}");
    for (line, report) in table.lines().skip(1).zip([&one, &two, &three]) {
        let code = format!(" {} ", report.verdict.exit_code);
        let name = report.run.name.as_deref().expect("a name");
        assert!([&report.run.id, "Z ", &code, " KB", name].iter().all(|word| line.contains(word)), "{line}");
    }
    for report in [&one, &three] {
        let output = daemon.scalectl(&["--json", "report", &report.run.id]);
        assert_eq!(output.status.code(), Some(i32::from(report.verdict.exit_code)));
        assert_eq!(&serde_json::from_slice::<Report>(&output.stdout).expect("JSON"), report);
        let output = daemon.scalectl(&["--json", "watch", &report.run.id]);
        assert_eq!(
            output.status.code(),
            Some(i32::from(report.verdict.exit_code)),
            "an ended run is its report"
        );
    }
    assert_eq!(one.load.streams_open_at_end, 2, "however short it was");
    start(&daemon, &["--conns", "2", "--target", &target]);
    let going = event(&daemon).run;
    // What can go goes; of the rest it says why not.
    let output =
        daemon.scalectl(&["--json", "runs", "rm", &one.run.id, "r0-0", &going, "../runs", &two.run.id]);
    assert_eq!(output.status.code(), Some(2));
    let said = error(&output);
    for word in ["no run `r0-0`", &format!("run {going} is still going"), "scalectl stop"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let removed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(removed["removed"], serde_json::json!([one.run.id, two.run.id]));
    let ids: Vec<String> = listed().into_iter().map(|run| run.id).collect();
    assert_eq!(ids, [three.run.id.clone(), going]);
    assert!(refused(&daemon, &["report", &one.run.id], 2).contains("scalectl runs"));
    stop(&daemon);
    assert_eq!(done(&daemon, &["runs", "rm", &three.run.id]).trim(), format!("removed {}", three.run.id));
}

#[test]
fn every_command_that_prints_prints_json_where_that_is_asked_for() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let folder = Folder::new();
    let daemon = Daemon::start();
    let target = format!("ws://{}/", sink.address);
    let json = |words: &[&str]| -> Value {
        let text = done(&daemon, &[&["--json"], words].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
    };
    let lines: Vec<DoctorEntry> = serde_json::from_value(json(&["doctor"])).expect("entries");
    assert!(lines.iter().all(|line| ["ok", "warn", "fail"].contains(&line.status.as_str())));
    assert!(lines.iter().all(|line| (line.status == "ok") == line.remedy.is_none()), "{lines:?}");
    let file = folder.write("run.toml", &format!("[[group]]\ntarget = [\"{target}\"]\nconns = 5\n"));
    let more: Vec<DoctorEntry> = serde_json::from_value(json(&["doctor", "--for", &file])).expect("entries");
    let names: Vec<&str> = more[lines.len()..].iter().map(|line| line.name.as_str()).collect();
    let wanted = ["plan: source ports", "plan: memory", "plan: cores", "plan: open files"];
    assert!(wanted.iter().all(|name| names.contains(name)), "{names:?}");
    assert!(done(&daemon, &["doctor", "--for", &file]).contains("plan: memory"));
    assert!(refused(&daemon, &["doctor", "--for", "/missing.toml"], 2).contains("/missing.toml"));
    let targets: Targets = serde_json::from_value(json(&["targets"])).expect("targets");
    assert_eq!((targets.file, targets.rules.len()), (None, 1));
    assert!(done(&daemon, &["targets"]).contains("loopback only"));
    let started = [
        "start",
        "--detach",
        "--conns",
        "5",
        "--target",
        &target,
        "--warm-up",
        "0s",
        "--duration",
        "forever",
    ];
    let id = json(&started)["id"].as_str().expect("an id").to_owned();
    open(&daemon, 5);
    let status: Status = serde_json::from_value(json(&["status"])).expect("a status");
    assert_eq!(status.run.map(|event| event.run), Some(id.clone()));
    let screen = done(&daemon, &["status"]);
    for word in [
        &id[..],
        "state",
        "group       main: stage 1",
        "5 open",
        "offered",
        "lateness",
        "response",
        "busiest",
    ] {
        assert!(screen.contains(word), "{word}: {screen}");
    }
    for words in [&["set", "--conns", "6"][..], &["mark", "x"], &["pause"], &["resume"]] {
        assert_eq!(json(words)["id"], id.as_str(), "{words:?}");
    }
    // Its code is the verdict so far, which is not what this is about.
    let so_far = daemon.scalectl(&["--json", "report", "current"]).stdout;
    let so_far: Report = serde_json::from_slice(&so_far).expect("JSON");
    assert!(so_far.run.id == id && so_far.run.going);
    let text = daemon.scalectl(&["report", "current"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("\nverdict:      so far "), "it may still change");
    stop(&daemon);
    let text = daemon.scalectl(&["report"]).stdout;
    assert!(!String::from_utf8_lossy(&text).contains("so far"), "the last word");
    // Detached, the id is all that stdout has.
    let alone = done(&daemon, &started);
    assert_eq!(alone.trim(), event(&daemon).run);
    stop(&daemon);
}

#[test]
fn completions_and_the_manual_need_no_daemon_and_a_closed_pipe_is_no_crash() {
    let run = |words: &[&str]| {
        let output = std::process::Command::new(program("scalectl")).args(words).output().expect("it runs");
        assert!(output.status.success(), "{}", error(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    for (shell, word) in
        [("bash", "complete -F _scalectl"), ("zsh", "#compdef scalectl"), ("fish", "complete -c scalectl")]
    {
        let script = run(&["completions", shell]);
        assert!(script.contains(word) && script.contains("connect-timeout"), "{shell}");
    }
    let script = Folder::new();
    let file = script.write("scalectl.bash", &run(&["completions", "bash"]));
    let checked = std::process::Command::new("bash").args(["-n", &file]).status().expect("bash runs");
    assert!(checked.success(), "bash reads its completions");
    let page = run(&["man"]);
    assert!(page.contains(".TH scalectl 1") && page.contains("start"), "{page}");
    let mut command = std::process::Command::new(program("scalectl"));
    let mut child = command
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    child.wait().expect("it ends");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn what_a_failing_target_says_is_seen_while_the_run_goes() {
    let target = serve_websocket(b"", |websocket| drop(websocket.next_message()));
    let daemon = Daemon::start();
    let target = format!("ws://{target}/");
    start(
        &daemon,
        &["--conns", "5", "--target", &target, "--reconnect", "client", "--tick-interval", "100ms"],
    );
    until("the losses", || (!event(&daemon).disconnects.is_empty()).then_some(()));
    let screen = done(&daemon, &["status"]);
    assert!(screen.contains("lost ") && screen.contains("disconnected"), "{screen}");
    assert_eq!(daemon.scalectl(&["stop"]).status.code(), Some(99));
}
