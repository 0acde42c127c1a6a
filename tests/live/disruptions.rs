//! Disruptions, without anything between: marked, unmarked, expected; what they are judged by; what is refused.
//!
//! Streams go to two replicas by their number, and each stays with its own: who is dropped comes back when its
//! replica does.

use std::collections::{BTreeMap, BTreeSet};

use scale_api::disruption::Disruption;
use scale_api::report::Report;
use scale_ring::host;
use scale_tests::host::until;
use scale_tests::replicas::{Connection, Replicas};
use scale_tests::{Daemon, assert_ended_with};
use serde_json::Value;

use crate::error;
use crate::faults::{event, start, stop};

const USERS: u32 = 15;
/// The one that goes away, from 0.
const VICTIM: usize = 1;
/// A message each 100 ms, and who is dropped comes back as soon as it can.
const LOAD: [&str; 8] = ["--ramp", "500ms", "--bytes-per-tick", "500B", "--drain", "30s", "--breaker", "off"];

/// A run that goes, on two replicas.
struct Trial {
    replicas: Replicas,
    daemon: Daemon,
}

impl Trial {
    /// All streams are open. `weights`: how many of them each replica has.
    fn begin(weights: [u32; 2], more: &[&str]) -> Self {
        let replicas = Replicas::start(2, "v1", &["--drain", "10s"]);
        let conns: u32 = weights.iter().sum();
        let row = |n: u32| format!("{n:04},{:03}\n", n % USERS);
        let rows = "stream,user\n".to_owned() + &(0..conns).map(row).collect::<String>();
        let rows = replicas.folder().write("rows.csv", &rows);
        let target = |n: usize| {
            let address = &replicas.all[n].address;
            format!("ws://{address}/?stream={{stream}}&user={{user}},{}", weights[n])
        };
        let (conns, targets) = (conns.to_string(), [target(0), target(1)]);
        let mut arguments = vec!["--conns", &conns, "--target", &targets[0], "--target", &targets[1]];
        arguments.extend(["--rows", &rows, "--user-column", "user", "--replica-header", "X-Replica"]);
        arguments.extend(["--reconnect", "backoff"]);
        arguments.extend(LOAD);
        arguments.extend(more);
        let daemon = Daemon::start();
        start(&daemon, &arguments);
        let trial = Self { replicas, daemon };
        trial.wait_for_all();
        trial
    }

    /// By an event that is newer than what was done before.
    fn wait_for_all(&self) {
        let then = event(&self.daemon).elapsed;
        until("all streams", || {
            let event = event(&self.daemon);
            let all: u64 = event.streams.values().sum();
            let is_open = event.streams.get("open") == Some(&all) && event.now.messages_echoed > 0;
            (event.elapsed > then && is_open).then_some(())
        });
    }

    fn mark(&self, arguments: &[&str]) {
        let output = self.daemon.scalectl(&[&["mark"], arguments].concat());
        assert!(output.status.success(), "{}", error(&output));
    }

    /// The victim is told to go, and has gone; its connections that were open, all of which it closed.
    fn drain(&mut self) -> Vec<Connection> {
        let at = host::monotonic_now().ns();
        self.replicas.all[VICTIM].end();
        let mut gone = self.replicas.all[VICTIM].seen();
        gone.retain(|connection| connection.is_open_at(at));
        gone
    }

    /// It is there again, and so are all streams.
    fn restart(&mut self, version: &str) {
        self.replicas.begin(VICTIM, version);
        self.wait_for_all();
    }

    /// Waits until the newest disruption is as `wanted`.
    fn wait_for(&self, what: &str, wanted: impl Fn(&Disruption) -> bool) -> Disruption {
        until(what, || event(&self.daemon).disruptions.pop().filter(&wanted))
    }

    fn wait_seconds(&self, seconds: f64) {
        let then = event(&self.daemon).elapsed;
        until("time to pass", || (event(&self.daemon).elapsed >= then + seconds).then_some(()));
    }

    fn end(self) -> (i32, Report, Replicas) {
        let (code, report) = stop(&self.daemon);
        (code, report, self.replicas)
    }
}

/// Payload that came behind the replica's Close.
fn owed(gone: &[Connection]) -> u64 {
    gone.iter().map(|connection| connection.bytes().received - connection.bytes().echoed).sum()
}

fn users(gone: &[Connection]) -> u64 {
    gone.iter().map(|connection| connection.user).collect::<BTreeSet<_>>().len() as u64
}

#[test]
fn a_marked_disruption_says_who_was_hit_and_how_they_came_back() {
    let mut trial = Trial::begin([20, 20], &[]);
    trial.mark(&["drain", "r2"]);
    let gone = trial.drain();
    let away = trial.wait_for("a disruption", |it| it.streams_dropped == 20);
    assert_eq!((away.mark.as_deref(), away.never_back, away.until), (Some("drain r2"), 20, None));
    trial.restart("v2");
    trial.wait_for("all back", |it| it.reconnected == 20);
    let (_, report, replicas) = trial.end();
    let [seen] = &report.disruptions[..] else { panic!("{:?}", report.disruptions) };
    assert_eq!((seen.streams, seen.streams_dropped, seen.reconnected, seen.never_back), (40, 20, 20, 0));
    assert_eq!((seen.share, seen.users, seen.users_affected), (Some(0.5), Some(15), Some(users(&gone))));
    assert!(seen.marked_at.is_some_and(|marked| seen.at >= marked && seen.at < marked + 30.0), "{seen:?}");
    let one = |name: &str| BTreeMap::from([(name.to_owned(), 20)]);
    assert_eq!((&seen.by_class, &seen.by_replica), (&one("close_frame"), &one("r2")));
    assert_eq!((&seen.by_address, &seen.by_group), (&one(&replicas.all[VICTIM].address), &one("main")));
    let versions = (seen.version_before.as_deref(), seen.version_after.as_deref());
    assert_eq!(versions, (Some("v1"), Some("v2")));
    assert_eq!((seen.bytes_lost, seen.lost_unknown, seen.bytes_repeated), (owed(&gone), 0, 0));
    assert_eq!(report.total.payload_bytes_open, owed(&gone));
    assert_eq!((seen.same_session, seen.expected, seen.delivered_ratio), (None, None, None));
    let recover = seen.recover.expect("they are back");
    assert!(recover.p50 > 0.0 && recover.p50 <= recover.p99 && recover.p99 <= recover.max, "{recover:?}");
    // Until it was there again each was refused, and each attempt is one of the storm.
    assert_eq!(seen.storm.answered, 20);
    assert!(seen.storm.offered >= seen.storm.answered + seen.storm.refused && seen.storm.offered >= 20);
    let told = seen.sentence(report.run.started_at, true);
    assert!(told.contains("\"drain r2\": 20 of 40 dropped (50.0 %, "), "{told}");
}

#[test]
fn what_drops_at_once_is_a_disruption_without_a_mark_and_ends_by_itself() {
    let mut trial = Trial::begin([20, 20], &[]);
    let gone = trial.drain();
    trial.restart("v1");
    let over = trial.wait_for("its end", |it| it.until.is_some());
    assert_eq!((over.mark, over.marked_at, over.streams_dropped, over.reconnected), (None, None, 20, 20));
    // A mark as late as this is about something else.
    trial.mark(&["nothing", "happens"]);
    trial.wait_seconds(1.0);
    let (_, report, _) = trial.end();
    let [first, second] = &report.disruptions[..] else { panic!("{:?}", report.disruptions) };
    assert_eq!((first.mark.as_ref(), first.streams_dropped, first.bytes_lost), (None, 20, owed(&gone)));
    assert_eq!((second.mark.as_deref(), second.streams_dropped), (Some("nothing happens"), 0));
    assert_eq!((second.streams, second.share, second.never_back), (40, Some(0.0), 0));
    assert!(second.recover.is_none(), "nobody had to come back");
}

#[test]
fn few_drops_are_losses_and_no_disruption() {
    let mut trial = Trial::begin([56, 4], &[]);
    assert_eq!(trial.drain().len(), 4);
    until("four losses", || {
        let lost: u64 = event(&trial.daemon).disconnects.values().sum();
        (lost == 4).then_some(())
    });
    trial.wait_seconds(2.0);
    let (_, report, _) = trial.end();
    assert!(report.disruptions.is_empty(), "{:?}", report.disruptions);
    assert_eq!(report.load.disconnects.values().sum::<u64>(), 4);
}

#[test]
fn people_mark_late_and_mean_what_has_just_begun() {
    let mut trial = Trial::begin([20, 20], &[]);
    trial.drain();
    trial.wait_for("a disruption", |it| it.streams_dropped == 20 && it.mark.is_none());
    trial.mark(&["that", "was", "r2"]);
    trial.restart("v1");
    let (_, report, _) = trial.end();
    let [seen] = &report.disruptions[..] else { panic!("{:?}", report.disruptions) };
    assert_eq!((seen.mark.as_deref(), seen.streams_dropped, seen.streams), (Some("that was r2"), 20, 40));
    assert!(seen.marked_at > Some(seen.at), "{seen:?}");
}

#[test]
fn who_is_dropped_twice_in_one_disruption_counts_once_and_is_away_till_the_last_return() {
    let mut trial = Trial::begin([20, 20], &[]);
    trial.mark(&["r2", "is", "ill"]);
    let mut owed_in_all = 0;
    let first = trial.drain();
    trial.restart("v1");
    let second = trial.drain();
    let returned = host::monotonic_now().ns();
    trial.restart("v1");
    owed_in_all += owed(&first) + owed(&second);
    let (_, report, replicas) = trial.end();
    let [seen] = &report.disruptions[..] else { panic!("{:?}", report.disruptions) };
    assert_eq!((seen.streams_dropped, seen.reconnected, seen.never_back), (20, 20, 0));
    assert_eq!(report.load.disconnects.values().sum::<u64>(), 40, "each loss is one all the same");
    assert_eq!((seen.bytes_lost, report.total.payload_bytes_open), (owed_in_all, owed_in_all));
    let returns = replicas.returns(returned);
    let away = first.iter().map(|connection| {
        (returns[&connection.stream] - connection.closing.expect("it was told")) as f64 / 1e9
    });
    let longest = away.fold(0.0, f64::max);
    let max = seen.recover.expect("they are back").max;
    assert!((max - longest).abs() < 0.5, "{max} s, and {longest} s by the replica");
}

/// The same bad moment, and who is asked to overlook it.
fn disrupted(begin: &[&str], mark: &[&str]) -> (i32, Report) {
    let judged =
        ["--threshold", "load.delivered_ratio >= 99.9%", "--threshold", "disruption.never_back == 0"];
    let mut trial = Trial::begin([20, 20], &[begin, &judged].concat());
    trial.mark(&[mark, &["drain", "r2"]].concat());
    trial.drain();
    trial.restart("v1");
    trial.wait_for("all back", |it| it.reconnected == 20);
    if !(begin.is_empty() && mark.is_empty()) {
        trial.wait_for("the window's end", |it| it.until.is_some());
    }
    let (code, report, _) = trial.end();
    assert_eq!(report.disruptions.len(), 1, "{:?}", report.disruptions);
    assert_eq!(report.load.disconnects.values().sum::<u64>(), 20, "losses count the whole run");
    assert_eq!(report.disruptions[0].never_back, 0);
    (code, report)
}

#[test]
fn an_expected_window_is_judged_by_itself() {
    for (begin, mark) in
        [(&["--expect-disruption", "15s"][..], &[][..]), (&[][..], &["--expect-disruption", "15s"][..])]
    {
        let (_, report) = disrupted(begin, mark);
        let seen = &report.disruptions[0];
        assert_eq!(seen.expected, Some(15.0), "{begin:?} {mark:?}");
        // 40 streams are due ten times a second; half of them were away for a while.
        let window = seen.delivered_ratio.expect("of the window");
        assert!((0.3..0.9999).contains(&window), "{window} of what was due in the window was sent");
        assert!(seen.response_p99.is_some_and(|p99| p99 > 0.0), "{seen:?}");
        assert_eq!(report.load.ticks_missed.disconnected, 0, "{:?}", report.load);
        let steady = &report.verdict.thresholds[0];
        let late = report.load.ticks_missed.generator + report.load.ticks_missed.backpressure > 0;
        assert!(steady.ok || late, "{steady:?}");
        // What was echoed in the window is counted all the same.
        assert!(report.total.messages_sent > report.load.messages_sent, "{:?}", report.total);
    }
    let (code, report) = disrupted(&[], &[]);
    assert_ended_with(99, (code, &report));
    assert!(report.load.ticks_missed.disconnected > 0 && !report.verdict.thresholds[0].ok);
    assert_eq!((report.disruptions[0].expected, report.disruptions[0].delivered_ratio), (None, None));
}

/// How a run ends by thresholds on disruptions, and what it says.
fn judged(thresholds: &[&str], expect: bool, break_it: bool) -> (i32, Report) {
    let mut more: Vec<&str> = thresholds.iter().flat_map(|&threshold| ["--threshold", threshold]).collect();
    if expect {
        more.extend(["--expect-disruption", "30s"]);
    }
    let mut trial = Trial::begin([20, 20], &more);
    if break_it {
        trial.mark(&["drain", "r2"]);
        trial.drain();
        trial.restart("v1");
        trial.wait_for("all back", |it| it.reconnected == 20);
    }
    trial.wait_seconds(1.0);
    let (code, report, _) = trial.end();
    (code, report)
}

#[test]
fn thresholds_on_disruptions_decide_the_exit_code_and_say_which_it_was() {
    let all = [
        "disruption.share <= 50%",
        "disruption.users_share <= 100%",
        "disruption.dropped == 20",
        "disruption.never_back == 0",
        "disruption.recover.p99 < 60s",
        "disruption.recover.max < 60s",
    ];
    let (code, report) = judged(&all, true, true);
    assert_ended_with(0, (code, &report));
    let values: Vec<Option<f64>> = report.verdict.thresholds.iter().map(|it| it.value).collect();
    assert_eq!((values[0], values[2], values[3]), (Some(0.5), Some(20.0), Some(0.0)), "{values:?}");

    let (code, report) = judged(&["disruption.share < 30%"], true, true);
    assert_ended_with(99, (code, &report));
    let reasons = report.verdict.reasons.join("\n");
    assert!(reasons.contains("disruption.share < 30%") && reasons.contains("drain r2"), "{reasons}");
}

#[test]
fn who_expects_a_disruption_and_marks_none_has_not_rehearsed_it() {
    let thresholds = ["disruption.never_back == 0", "disruption.recover.p99 < 30s"];
    let (code, report) = judged(&thresholds, true, false);
    assert_ended_with(99, (code, &report));
    let reasons = report.verdict.reasons.join("\n");
    assert!(reasons.contains("no disruption was marked"), "{reasons}");
    // Nobody who expects none has to mark one.
    let (code, report) = judged(&thresholds, false, false);
    assert_ended_with(0, (code, &report));
    assert!(report.verdict.thresholds.iter().all(|threshold| threshold.ok), "{:?}", report.verdict);
}

#[test]
fn json_has_every_figure_of_a_disruption_and_null_where_there_is_none() {
    let mut trial = Trial::begin([20, 20], &[]);
    trial.mark(&["drain", "r2"]);
    trial.drain();
    trial.restart("v1");
    trial.wait_for("all back", |it| it.reconnected == 20);
    let status = trial.daemon.scalectl(&["--json", "status"]).stdout;
    let status: Value = serde_json::from_slice(&status).expect("JSON");
    let output = trial.daemon.scalectl(&["--json", "stop"]).stdout;
    let last = String::from_utf8_lossy(&output).lines().last().expect("a report").to_owned();
    let report: Value = serde_json::from_str(&last).expect("JSON");
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap_or_else(|| panic!("{value}")).keys().cloned().collect()
    };
    let wanted = keys(&serde_json::to_value(Disruption::default()).expect("JSON"));
    for of in [&status["run"]["disruptions"][0], &report["disruptions"][0]] {
        assert_eq!(keys(of), wanted, "{of}");
        assert_eq!((&of["mark"], &of["streams_dropped"]), (&"drain r2".into(), &20.into()));
        assert!(of["same_session"].is_null() && of["delivered_ratio"].is_null(), "{of}");
        assert!(of["recover"]["p99"].is_number() && of["storm"]["offered"].is_number(), "{of}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_remedy() {
    let daemon = Daemon::start();
    let folder = scale_tests::host::Folder::new();
    let rows = folder.write("rows.csv", "stream\n1\n");
    for (words, said) in [
        (&["--user-column", "user"][..], "--rows"),
        (&["--rows", &rows, "--user-column", "user"], "user"),
        (&["--replica-header", "X Replica"], "X Replica"),
        (&["--expect-disruption", "0s"], "expect"),
    ] {
        let start = ["start", "--conns", "1", "--target", "ws://127.0.0.1:9/"];
        let output = daemon.scalectl(&[&start[..], words].concat());
        let said_it = error(&output);
        assert!(output.status.code() == Some(2) && said_it.contains(said), "{words:?}: {said_it}");
    }
    let nobody = daemon.scalectl(&["mark", "--expect-disruption", "5s", "x"]);
    assert!(!nobody.status.success() && !error(&nobody).is_empty());
}
