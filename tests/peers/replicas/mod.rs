//! Bad days: four replicas behind haproxy and behind nginx, of which one is killed, drained, frozen, cut off, replaced by
//! another version, or all are rolled. What a run says of it is compared with what the replicas saw, and with the
//! proxy's account of each session.
//!
//! All streams send on the same points of the grid (`aligned`, a second apart), so that there are quiet moments: what
//! breaks in one finds nothing on its way, and what was lost is known to the byte. Only the rolling is done under
//! load that never rests; a drain is exact there, too, since the Close comes behind all that was answered.
//!
//! `trial` is the run and what is compared, `proxies` are the proxies; what breaks is here.

mod proxies;
mod trial;

use scale_ring::host;
use scale_tests::host::until;
use scale_tests::network::alone;
use scale_tests::replicas::Connection;

use proxies::{Care, Kind};
use trial::{MESSAGE_BYTES, REPLICAS, Result, STREAMS, Setting, Trial, dropped};

/// The one that breaks, from 0.
const VICTIM: usize = 1;
/// Answers come half a tick late, so that a broken replica owes one or two of each stream.
const OWING: &[&str] = &["--delay", "1500ms"];
const ALIGNED: &[&str] = &["--tick-interval", "1s", "--tick-offset", "aligned"];
const SECOND_NS: u64 = 1_000_000_000;

fn setting(kind: Kind, care: Care) -> Setting {
    Setting { kind, care, sinks: &[], run: ALIGNED }
}

/// Connections of the victim at `at`, as its newest process saw them.
fn open_at(trial: &Trial, at: u64) -> Vec<Connection> {
    let mut seen = trial.replicas.all[VICTIM].seen();
    seen.retain(|connection| connection.is_open_at(at));
    seen
}

/// A quarter of the streams, give or take what the ramp's order does.
fn assert_is_a_share(count: usize) {
    let fair = STREAMS as usize / REPLICAS;
    assert!((fair / 2..=fair * 2).contains(&count), "{count} of {STREAMS} streams were on one replica");
}

/// The victim is killed in a quiet moment.
fn killed(kind: Kind) {
    let Some(mut trial) = Trial::begin(&Setting { sinks: OWING, ..setting(kind, Care::Asks) }) else {
        return;
    };
    trial.mark("kill r2");
    trial.wait_for_quiet();
    let (at, _) = trial.replicas.all[VICTIM].kill();
    let lost = open_at(&trial, at);
    assert_is_a_share(lost.len());
    trial.wait_for_return(&lost, at);
    let result = trial.end();
    let seen = dropped(&lost, at, |connection| ended(&result, connection, at));
    result.assert_agrees("kill r2", &seen, &["closed", "reset"]);
    result.assert_replica("kill r2", "r2");
    result.assert_lost("kill r2", &seen);
    // Each owes two messages, and everything that the run lost, it lost here.
    let owed: u64 =
        lost.iter().map(|connection| connection.bytes().received - connection.bytes().echoed).sum();
    assert!(owed >= MESSAGE_BYTES * lost.len() as u64, "{owed} B are owed to {}", lost.len());
    assert_eq!((result.disruption("kill r2").bytes_lost, result.lost_in_all()), (owed, owed));
    assert_eq!(result.report.disruptions.len(), 1);
}

/// When the proxy ended the session of a connection that was open at `at`.
fn ended(result: &Result, connection: &Connection, at: u64) -> u64 {
    result.session(connection.stream, at).ended
}

/// The victim is told to go; what it owes it keeps.
fn drained(kind: Kind) {
    let Some(mut trial) = Trial::begin(&Setting { sinks: OWING, ..setting(kind, Care::Waits) }) else {
        return;
    };
    trial.mark("drain r2");
    let at = host::monotonic_now().ns();
    let counts = trial.replicas.all[VICTIM].end();
    let lost = open_at(&trial, at);
    assert_is_a_share(lost.len());
    assert_eq!((&counts["closes"], &counts["closes_answered"]), (&lost.len().into(), &lost.len().into()));
    trial.wait_for_return(&lost, at);
    let result = trial.end();
    let seen = dropped(&lost, at, |connection| connection.closing.expect("it was told"));
    result.assert_agrees("drain r2", &seen, &["close_frame"]);
    result.assert_replica("drain r2", "r2");
    result.assert_lost("drain r2", &seen);
    let owed: u64 =
        lost.iter().map(|connection| connection.bytes().received - connection.bytes().echoed).sum();
    assert_eq!((result.disruption("drain r2").bytes_lost, result.lost_in_all()), (owed, owed));
    assert!(owed > 0);
}

/// The victim is stopped (SIGSTOP): its kernel takes what comes, and nobody answers. haproxy asks, and ends the
/// sessions of who does not answer.
#[test]
fn haproxy_ends_the_sessions_of_a_frozen_replica_and_both_sides_agree() {
    let Some(trial) = Trial::begin(&setting(Kind::Haproxy, Care::Asks)) else { return };
    trial.mark("freeze r2");
    trial.wait_for_quiet();
    let at = trial.replicas.all[VICTIM].signal("STOP");
    let lost = open_at(&trial, at);
    assert_is_a_share(lost.len());
    trial.wait_for_return(&lost, at);
    trial.replicas.all[VICTIM].signal("CONT");
    let result = trial.end();
    let seen = dropped(&lost, at, |connection| ended(&result, connection, at));
    result.assert_agrees("freeze r2", &seen, &["closed", "reset"]);
    result.assert_replica("freeze r2", "r2");
    let lost_bytes = result.disruption("freeze r2").bytes_lost;
    assert_eq!(result.lost_in_all(), lost_bytes);
    assert!(lost_bytes >= MESSAGE_BYTES * lost.len() as u64, "a tick went by: {lost_bytes} B");
    if result.was_quiet(&seen) {
        result.assert_lost("freeze r2", &seen);
    }
}

/// nginx does not ask, and a frozen replica takes what is sent: nobody is dropped, nothing is lost, and answers are late.
#[test]
fn behind_nginx_a_frozen_replica_drops_nobody_and_answers_late() {
    let Some(trial) = Trial::begin(&setting(Kind::Nginx, Care::Asks)) else { return };
    trial.mark("freeze r2");
    trial.wait_for_quiet();
    let at = trial.replicas.all[VICTIM].signal("STOP");
    let frozen = open_at(&trial, at).len();
    assert_is_a_share(frozen);
    until("three more ticks", || (trial.replicas.last_received() > at + 3 * SECOND_NS).then_some(()));
    let thawed = trial.replicas.all[VICTIM].signal("CONT");
    until("what was owed", || {
        let seen = trial.replicas.all[VICTIM].seen();
        seen.iter().any(|connection| connection.last_received() > Some(thawed + SECOND_NS)).then_some(())
    });
    let result = trial.end();
    let seen = result.disruption("freeze r2");
    assert_eq!((seen.streams, seen.streams_dropped, seen.bytes_lost), (u64::from(STREAMS), 0, 0), "{seen:?}");
    assert_eq!((seen.share, seen.recover.is_none(), seen.users_affected), (Some(0.0), true, Some(0)));
    assert_eq!((result.lost_in_all(), result.report.load.disconnects.len()), (0, 0));
    let slowest = result.report.latency.response.expect("echoes").max;
    assert!(slowest >= 2.0, "the first of three ticks waited more than two seconds, not {slowest}");
}

/// Packets to and from the victim vanish, in a network of the test's own.
fn cut(kind: Kind) {
    let Some(trial) = Trial::begin(&setting(kind, Care::Asks)) else { return };
    // nginx learns of it from its kernel, which is to give up after seconds instead of a quarter of an hour (tcp(7)).
    std::fs::write("/proc/sys/net/ipv4/tcp_retries2", "1").expect("this network is ours");
    let (victim, _) = trial.replicas.all[VICTIM].address.split_once(':').expect("a port");
    trial.mark("cut r2");
    trial.wait_for_quiet();
    let at = host::monotonic_now().ns();
    nft("add table ip cut");
    nft("add chain ip cut input { type filter hook input priority 0 ; }");
    nft(&format!("add rule ip cut input ip daddr {victim} drop"));
    nft(&format!("add rule ip cut input ip saddr {victim} drop"));
    let lost = open_at(&trial, at);
    assert_is_a_share(lost.len());
    trial.wait_for_return(&lost, at);
    nft("delete table ip cut");
    let result = trial.end();
    let seen = dropped(&lost, at, |connection| ended(&result, connection, at));
    result.assert_agrees("cut r2", &seen, &["closed", "reset"]);
    result.assert_replica("cut r2", "r2");
    assert_eq!(result.lost_in_all(), result.disruption("cut r2").bytes_lost);
    if result.was_quiet(&seen) {
        result.assert_lost("cut r2", &seen);
    }
}

fn nft(rule: &str) {
    let output = std::process::Command::new("nft")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .args(rule.split_whitespace())
        .output()
        .expect("tests/peers.sh installs it");
    assert!(output.status.success(), "{rule}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The victim is killed and lives again at once, as another version; who comes back is sent to it, the emptiest.
fn replaced(kind: Kind) {
    let Some(mut trial) = Trial::begin(&setting(kind, Care::Forgets)) else { return };
    trial.mark("replace r2");
    trial.wait_for_quiet();
    let (at, _) = trial.replicas.all[VICTIM].kill();
    let lost = open_at(&trial, at);
    assert_is_a_share(lost.len());
    trial.replicas.begin(VICTIM, "v2");
    trial.wait_for_return(&lost, at);
    let result = trial.end();
    let seen = dropped(&lost, at, |connection| ended(&result, connection, at));
    result.assert_agrees("replace r2", &seen, &["closed", "reset"]);
    result.assert_lost("replace r2", &seen);
    let disruption = result.disruption("replace r2");
    assert_eq!((disruption.bytes_lost, result.lost_in_all()), (0, 0), "it was a quiet moment");
    let new = result.replicas.all[VICTIM].seen();
    let came = new.iter().filter(|connection| seen.contains_key(&connection.stream)).count();
    let most = if came * 2 > seen.len() { "v2" } else { "v1" };
    assert_eq!(disruption.version_before.as_deref(), Some("v1"));
    if came * 2 != seen.len() {
        assert_eq!(disruption.version_after.as_deref(), Some(most), "{came} of {} met v2", seen.len());
    }
    let changes = &result.report.server_changes;
    let to_new: u64 =
        changes.iter().filter(|it| it.after.as_deref() == Some("v2")).map(|it| it.reconnects).sum();
    assert_eq!(to_new, came as u64, "{changes:?}");
}

/// Each in its turn is drained and comes back as another version, under load that never rests.
fn rolled(kind: Kind) {
    let run = &["--tick-interval", "200ms"];
    let Some(mut trial) = Trial::begin(&Setting { run, ..setting(kind, Care::Waits) }) else { return };
    let mut turns = Vec::new();
    for n in 0..REPLICAS {
        let mark = format!("roll r{}", n + 1);
        trial.mark(&mark);
        let at = host::monotonic_now().ns();
        trial.replicas.all[n].end();
        let mut lost = trial.replicas.all[n].seen();
        lost.retain(|connection| connection.is_open_at(at));
        trial.replicas.begin(n, "v2");
        trial.wait_for_return(&lost, at);
        turns.push((mark, at, lost));
    }
    let result = trial.end();
    assert_eq!(result.report.disruptions.len(), REPLICAS, "{:?}", result.report.disruptions);
    let mut lost_in_all = 0;
    for (n, (mark, at, lost)) in turns.iter().enumerate() {
        let seen = dropped(lost, *at, |connection| connection.closing.expect("it was told"));
        result.assert_agrees(mark, &seen, &["close_frame"]);
        result.assert_replica(mark, &format!("r{}", n + 1));
        let owed: u64 =
            lost.iter().map(|connection| connection.bytes().received - connection.bytes().echoed).sum();
        assert_eq!(result.disruption(mark).bytes_lost, owed, "{mark}: what came behind the Close");
        lost_in_all += owed;
    }
    assert_eq!(result.lost_in_all(), lost_in_all);
    let all: u64 = turns.iter().map(|(_, _, lost)| lost.len() as u64).sum();
    assert_eq!(result.report.load.disconnects.values().sum::<u64>(), all, "each drop is in one disruption");
    assert_eq!(result.disruption("roll r4").version_after.as_deref(), Some("v2"));
}

#[test]
fn behind_haproxy_a_killed_replica_is_what_it_was_to_the_others() {
    killed(Kind::Haproxy);
}

#[test]
fn behind_nginx_a_killed_replica_is_what_it_was_to_the_others() {
    killed(Kind::Nginx);
}

#[test]
fn behind_haproxy_a_drained_replica_says_itself_what_was_lost() {
    drained(Kind::Haproxy);
}

#[test]
fn behind_nginx_a_drained_replica_says_itself_what_was_lost() {
    drained(Kind::Nginx);
}

#[test]
fn behind_haproxy_a_replica_that_is_cut_off_is_left_and_both_sides_agree() {
    alone(|| cut(Kind::Haproxy));
}

#[test]
fn behind_nginx_a_replica_that_is_cut_off_is_left_and_both_sides_agree() {
    alone(|| cut(Kind::Nginx));
}

#[test]
fn behind_haproxy_a_new_version_is_met_by_those_who_lost_the_old_one() {
    replaced(Kind::Haproxy);
}

#[test]
fn behind_nginx_a_new_version_is_met_by_those_who_lost_the_old_one() {
    replaced(Kind::Nginx);
}

#[test]
fn behind_haproxy_replicas_are_rolled_one_by_one_under_load() {
    rolled(Kind::Haproxy);
}

#[test]
fn behind_nginx_replicas_are_rolled_one_by_one_under_load() {
    rolled(Kind::Nginx);
}
