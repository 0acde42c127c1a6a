//! Replicas that go away under load: what the report says of it, beside what the stand-in saw itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use scale_api::disruption::Disruption;
use scale_api::report::{Event, Report};
use scale_tests::Daemon;
use scale_tests::host::until;
use serde_json::{Value, json};

use super::traffic::with_workspaces;
use super::{Standin, texts};
use crate::faults::{event, stop};

/// Bytes of the line that is typed once a connection, and of the Ctrl-C at the end.
const MARKER_BYTES: u64 = 18;
const INTERRUPT_BYTES: u64 = 1;
/// Both sides see the same, but for what a message takes to come.
const APART: f64 = 0.010;

const REPLICAS: &str = "terminals = 'emulated'\nreplicas = 4\n";
const TRAFFIC: [&str; 14] = [
    "workspace-traffic",
    "--bytes-per-tick",
    "128",
    "--concurrency",
    "0",
    "--warm-up",
    "0s",
    "--duration",
    "forever",
    "--reconnect",
    "backoff",
    "--replica-header",
    "X-Stand-In-Replica",
    "--verify",
];

/// A deployment under load.
struct Rehearsal {
    standin: Standin,
    daemon: Daemon,
    streams: u64,
}

impl Rehearsal {
    /// With traffic on all workspaces, which is open when this returns.
    fn begin((standin, daemon): (Standin, Daemon), streams: u64, more: &[&str]) -> Self {
        standin.begin(&daemon, &[&TRAFFIC[..], more].concat());
        let rehearsal = Self { standin, daemon, streams };
        rehearsal.until_all_are_open();
        rehearsal
    }

    fn event(&self) -> Event {
        event(&self.daemon)
    }

    fn until_all_are_open(&self) {
        until("every stream", || (self.event().streams.get("open") == Some(&self.streams)).then_some(()));
    }

    /// So many seconds of load, by the run's own clock.
    fn go_on(&self, seconds: f64) {
        let from = self.event().elapsed;
        std::thread::sleep(Duration::from_secs_f64(seconds)); // what follows is on the run's own clock
        until("time to pass", || (self.event().elapsed >= from + seconds).then_some(()));
    }

    fn mark(&self, words: &[&str]) {
        let (code, _, error) = texts(&self.daemon.scalectl(&[&["mark"], words].concat()));
        assert_eq!(code, 0, "{error}");
    }

    /// Marks and orders, and waits until all whom it dropped are back; what the stand-in saw.
    fn break_and_mend(&self, mark: &str, order: &str) -> Value {
        self.mark(&[mark]);
        self.standin.order(order);
        // The stand-in is not asked meanwhile: that would take from it what it is to be quick with.
        self.go_on(1.5);
        self.until_all_are_open();
        let told = until("all to be back", || {
            let told = self.standin.breaks().pop().expect("a break");
            (told["back"] == told["dropped"] && !told["up_at"].is_null()).then_some(told)
        });
        self.go_on(1.0);
        told
    }

    fn end(self) -> (Report, Value) {
        let (_, report) = stop(&self.daemon);
        let load = &report.load;
        assert_eq!((load.verify_failures, load.unexpected_bytes), (0, 0), "{load:?}");
        (report, self.standin.end())
    }
}

/// What both sides may be apart in time: what this host was late by comes on top.
fn apart(report: &Report) -> f64 {
    APART + report.latency.lateness.as_ref().map_or(0.0, |lateness| lateness.p99)
}

fn assert_near(what: &str, ours: f64, theirs: f64, apart: f64) {
    assert!(
        (ours - theirs).abs() <= apart,
        "{what}: {ours} s here, {theirs} s there, more than {apart} s apart"
    );
}

fn count(told: &Value, name: &str) -> u64 {
    told[name].as_u64().unwrap_or_else(|| panic!("{name}: {told}"))
}

/// The disruption is the break that the stand-in saw.
fn assert_told(report: &Report, disruption: &Disruption, told: &Value) {
    let sentence = disruption.sentence(report.run.started_at, true);
    assert_eq!(disruption.streams, count(told, "websockets"), "{sentence}");
    assert!(disruption.streams_dropped.abs_diff(count(told, "dropped")) <= 1, "{sentence} {told}");
    assert_eq!(disruption.users, Some(count(told, "users")), "{sentence}");
    assert_eq!(disruption.users_affected, Some(count(told, "users_dropped")), "{sentence}");
    assert_eq!((disruption.reconnected, disruption.never_back), (count(told, "back"), 0), "{sentence}");
    let replica = told["replica"].to_string();
    assert_eq!(disruption.by_replica, BTreeMap::from([(replica, disruption.streams_dropped)]), "{sentence}");
    let recover = disruption.recover.expect("times to come back");
    for (name, ours) in [("back_p50", recover.p50), ("back_p99", recover.p99), ("back_max", recover.max)] {
        assert_near(name, ours, told[name].as_f64().expect("a time"), apart(report));
    }
    assert_eq!(disruption.version_before.as_deref(), told["version_before"].as_str(), "{sentence}");
    assert_eq!(disruption.lost_unknown, 0, "{sentence}");
}

/// What was typed and never arrived is what the disruptions have lost; what was said again, what they have repeated.
fn assert_every_byte_is_accounted_for(report: &Report, seen: &Value) {
    let sum = |of: fn(&Disruption) -> u64| report.disruptions.iter().map(of).sum::<u64>();
    let typed = count(&seen["sockets"], "typed_bytes");
    let besides =
        MARKER_BYTES * count(&seen["sockets"], "terminals") + INTERRUPT_BYTES * report.load.streams_opened;
    let lost = report.total.payload_bytes_sent + besides - typed;
    assert_eq!(sum(|disruption| disruption.bytes_lost), lost, "{:?} {seen}", report.disruptions);
    let sessions = report.load.sessions.as_ref().expect("terminals have sessions");
    assert_eq!((sessions.bytes_lost, sessions.new, sessions.unknown), (lost, 0, 0), "{sessions:?}");
    assert_eq!(sum(|disruption| disruption.bytes_repeated), sessions.bytes_replayed, "{sessions:?}");
}

#[test]
fn a_replica_that_is_killed_drained_or_restarted_is_told_as_the_stand_in_saw_it() {
    let rehearsal = Rehearsal::begin(
        with_workspaces(REPLICAS, "", "20"),
        40,
        &["--streams-per-workspace", "2", "--tick-interval", "50ms"],
    );
    rehearsal.go_on(1.0);
    let told = [
        rehearsal.break_and_mend("kill coderd-1", "1/kill?for=500ms"),
        rehearsal.break_and_mend("drain coderd-2", "2/drain?for=500ms"),
        rehearsal.break_and_mend("upgrade coderd-0", "0/restart?version=v2.99.0&for=500ms"),
    ];
    let (report, seen) = rehearsal.end();
    let marks: Vec<_> = report.disruptions.iter().filter_map(|one| one.mark.as_deref()).collect();
    assert_eq!(marks, ["kill coderd-1", "drain coderd-2", "upgrade coderd-0"], "{:?}", report.disruptions);
    for (disruption, told) in report.disruptions.iter().zip(&told) {
        assert!(count(told, "dropped") > 0, "{told}");
        assert_told(&report, disruption, told);
        assert_eq!(disruption.same_session, Some(disruption.streams_dropped), "sessions outlive a replica");
    }
    let classes: Vec<Vec<&str>> =
        report.disruptions.iter().map(|one| one.by_class.keys().map(String::as_str).collect()).collect();
    assert_eq!(classes[0], ["reset"]);
    assert_eq!(classes[1].len(), 1, "a Close alone: {classes:?}");
    assert_ne!(classes[1], classes[0]);
    assert_every_byte_is_accounted_for(&report, &seen);
}

#[test]
fn replicas_that_roll_are_one_disruption_at_the_end_of_which_all_have_met_the_new_version() {
    let rehearsal = Rehearsal::begin(with_workspaces(REPLICAS, "", "20"), 20, &["--tick-interval", "50ms"]);
    rehearsal.go_on(1.0);
    rehearsal.mark(&["roll"]);
    rehearsal.standin.order("roll?how=drain&every=3s&for=500ms&version=v2.99.0");
    let told = until("four restarts", || {
        let told = rehearsal.standin.breaks();
        let is_over = |one: &Value| one["back"] == one["dropped"] && !one["up_at"].is_null();
        (told.len() == 4 && told.iter().all(is_over)).then_some(told)
    });
    rehearsal.until_all_are_open();
    rehearsal.go_on(1.0);
    let (report, seen) = rehearsal.end();
    let [disruption] = &report.disruptions[..] else { panic!("{:?}", report.disruptions) };
    // Who was dropped more than once was away from the first drop until the last return.
    let mut away: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let mut users = BTreeSet::new();
    for socket in told.iter().flat_map(|one| one["sockets"].as_array().expect("a list")) {
        let at = socket["at"].as_f64().expect("a time");
        let back = at + socket["back_after"].as_f64().expect("it is back");
        let entry = away.entry(socket["id"].as_str().expect("an id")).or_insert((at, back));
        *entry = (entry.0.min(at), entry.1.max(back));
        users.insert(socket["user"].as_str().expect("a user"));
    }
    assert_eq!((disruption.streams_dropped, disruption.reconnected), (away.len() as u64, away.len() as u64));
    assert_eq!(disruption.users_affected, Some(users.len() as u64));
    let mut times: Vec<f64> = away.values().map(|(at, back)| back - at).collect();
    times.sort_by(f64::total_cmp);
    let recover = disruption.recover.expect("times to come back");
    assert_near("p50", recover.p50, times[times.len().div_ceil(2) - 1], apart(&report));
    assert_near("max", recover.max, times[times.len() - 1], apart(&report));
    assert_eq!(disruption.version_before.as_deref(), Some("v2.26.0+standin"));
    assert_eq!(disruption.version_after.as_deref(), Some("v2.99.0"));
    assert_every_byte_is_accounted_for(&report, &seen);
}

#[test]
fn of_plain_echo_what_was_sent_and_never_came_back_is_lost() {
    let rehearsal = Rehearsal::begin(
        with_workspaces(REPLICAS, "", "20"),
        20,
        &["--app", "wsec", "--tick-interval", "20ms"],
    );
    rehearsal.go_on(1.0);
    let told = rehearsal.break_and_mend("kill coderd-3", "3/kill?for=500ms");
    let (report, seen) = rehearsal.end();
    let [disruption] = &report.disruptions[..] else { panic!("{:?}", report.disruptions) };
    assert_told(&report, disruption, &told);
    let total = &report.total;
    assert_eq!(
        disruption.bytes_lost,
        total.payload_bytes_sent - total.payload_bytes_received,
        "{disruption:?}"
    );
    let arrived = count(&seen, "payload_bytes_received");
    assert!(disruption.bytes_lost >= total.payload_bytes_sent - arrived, "{disruption:?} {arrived} arrived");
    assert_eq!((disruption.same_session, disruption.bytes_repeated), (None, 0), "an echo has no sessions");
}

#[test]
fn a_replica_that_only_falls_silent_drops_nobody_and_its_silence_is_in_the_windows_own_figures() {
    let rehearsal = Rehearsal::begin(
        with_workspaces(REPLICAS, "", "20"),
        20,
        &["--tick-interval", "50ms", "--drain", "2s"],
    );
    rehearsal.go_on(1.0);
    rehearsal.mark(&["--expect-disruption", "3s", "freeze coderd-1"]);
    let frozen = rehearsal.standin.order("1/freeze?for=1500ms");
    assert!(count(&frozen, "dropped") > 0, "{frozen}");
    let told = until("a thaw", || {
        let told = rehearsal.standin.breaks().pop().expect("a break");
        (told["resumed"] == told["dropped"]).then_some(told)
    });
    rehearsal.go_on(2.5);
    rehearsal.mark(&["cut coderd-2"]);
    let cut = rehearsal.standin.order("2/cut");
    rehearsal.go_on(1.0);
    let (report, seen) = rehearsal.end();
    let [freeze, silence] = &report.disruptions[..] else { panic!("{:?}", report.disruptions) };
    assert_eq!((freeze.streams_dropped, silence.streams_dropped), (0, 0), "{:?}", report.disruptions);
    assert_eq!((count(&told, "back"), count(&cut, "dropped") > 0), (0, true), "{told} {cut}");
    assert!(freeze.response_p99.is_some_and(|p99| (1.0..3.0).contains(&p99)), "{freeze:?}");
    assert!(report.load.disconnects.is_empty(), "{:?}", report.load);
    // Those of the cut replica never had their last echoes, nor did what they typed arrive.
    assert!(report.total.messages_echoed < report.total.messages_sent, "{:?}", report.total);
    assert_eq!(seen["breaks"].as_array().map(Vec::len), Some(2));
}

/// Workspaces of `users` members, two or three each; how many.
fn workspaces_of(standin: &Standin, users: u64) -> u64 {
    let (_, organizations) = standin.ask("GET", "/users/me/organizations", &Value::Null);
    let organization = organizations[0]["id"].as_str().expect("an id");
    let (_, templates) =
        standin.ask("GET", &format!("/organizations/{organization}/templates"), &Value::Null);
    let templates = templates.as_array().expect("a list");
    let template = templates.iter().find(|one| one["name"] == "minimal").expect("the template");
    let mut made = 0;
    let mut last = Value::Null;
    for user in 1..=users {
        for n in 0..2 + user % 2 {
            let body = json!({ "template_id": template["id"], "name": format!("scaletest-{user}-{n}") });
            let path = format!("/organizations/{organization}/members/member-{user}/workspaces");
            let (status, workspace) = standin.ask("POST", &path, &body);
            assert_eq!(status, 201, "{workspace}");
            (made, last) = (made + 1, workspace);
        }
    }
    // Builds take all the same time, so that the last is the last.
    let path = format!("/workspaces/{}", last["id"].as_str().expect("an id"));
    until("the last agent", || {
        let (_, workspace) = standin.ask("GET", &path, &Value::Null);
        (workspace["latest_build"]["resources"][0]["agents"][0]["status"] == "connected").then_some(())
    });
    made
}

#[test]
fn of_800_users_with_2000_streams_over_four_replicas_one_is_killed_as_many_are_hit_as_chance_has_it() {
    const USERS: u64 = 800;
    let settings = format!(
        "{REPLICAS}balance = 'random'\nusers = {USERS}\nprovisioners = 5000\nrate_limits = 'off'\n\
         build_time = '50ms'\nbuild_jitter = '0ms'\nagent_time = '50ms'\n"
    );
    let (standin, daemon) = (Standin::start(&settings, ""), Daemon::start());
    let streams = workspaces_of(&standin, USERS);
    assert_eq!(streams, 2000);
    let more = ["--tick-interval", "1s", "--ramp", "5s", "--connect-timeout", "30s"];
    let rehearsal = Rehearsal::begin((standin, daemon), streams, &more);
    rehearsal.go_on(1.0);
    let told = rehearsal.break_and_mend("kill coderd-1", "1/kill?for=3s");
    let (report, seen) = rehearsal.end();
    let disruption = &report.disruptions[0];
    assert_told(&report, disruption, &told);
    assert_eq!((count(&told, "websockets"), count(&told, "users")), (streams, USERS));
    // A user with k streams is spared with probability (3/4)^k; half of them have two, half three.
    let hit = |streams: i32| 1.0 - 0.75_f64.powi(streams);
    let half = USERS as f64 / 2.0;
    let (expected, variance) = [2, 3]
        .iter()
        .map(|&k| (half * hit(k), half * hit(k) * (1.0 - hit(k))))
        .fold((0.0, 0.0), |(sum, spread), (more, wider)| (sum + more, spread + wider));
    let affected = disruption.users_affected.expect("terminals have owners") as f64;
    assert!(
        (affected - expected).abs() < 5.0 * variance.sqrt(),
        "{affected} users, {expected} were to be expected"
    );
    assert!(disruption.share.is_some_and(|share| (0.2..0.3).contains(&share)), "{disruption:?}");
    assert!(
        disruption.users_affected > Some(disruption.streams_dropped * USERS / streams),
        "more than the streams' share"
    );
    assert_every_byte_is_accounted_for(&report, &seen);
    assert!(Duration::from_secs_f64(disruption.recover.expect("times").max) < Duration::from_secs(60));
}
