//! What goes wrong at a server by others, its class, and how the run ends.

use std::collections::BTreeMap;
use std::time::Duration;

use scale_api::report::Report;
use scale_tests::ssh::{Kind, Known, Site};
use scale_tests::{Daemon, assert_ended_with};

use super::{PATIENT, as_user, assert_none_opened, echoes, few};
use crate::assert_every_byte_came_back;

fn classes<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(class, count)| (class.to_owned(), count)).collect()
}

#[test]
fn what_is_refused_has_its_class() {
    let Some(site) = Site::new() else { return };
    for (server, class) in [
        (site.openssh("MaxSessions 0"), "channel_refused"),
        (site.node(&["--refuse", "channel"]), "channel_refused"),
        (site.node(&["--refuse", "command"]), "channel_refused"),
        (site.openssh("KexAlgorithms diffie-hellman-group14-sha256"), "kex_failed"),
        (site.openssh("Ciphers aes192-ctr"), "kex_failed"),
        (site.asyncssh(&["--macs", "hmac-sha1", "--ciphers", "aes128-ctr"]), "kex_failed"),
    ] {
        let Some(server) = server else { return };
        assert_none_opened(class, &few(&site, &server, &[]));
    }
}

/// A server that stalls: no stream is opened, and each is given up in time.
#[test]
fn a_server_that_stalls_in_any_phase_is_given_up() {
    let Some(site) = Site::new() else { return };
    for server in [
        site.asyncssh(&["--stall", "auth"]),
        site.asyncssh(&["--stall", "channel"]),
        site.node(&["--stall", "auth"]),
        site.node(&["--stall", "channel"]),
        site.node(&["--stall", "command"]),
    ] {
        let Some(server) = server else { return };
        let load = ["--conns", "5", "--tick-interval", "1s", "--ramp", "100ms", "--warm-up", "0s"];
        let time = ["--connect-timeout", "700ms", "--duration", "2s", "--drain", "1s"];
        assert_none_opened("timeout", &as_user(&site, &server, &[&load[..], &time].concat()));
    }
}

#[test]
fn commands_that_end_say_how() {
    let Some(site) = Site::new() else { return };
    for (server, command, class) in [
        (site.openssh(""), "exit 3", "exited_3"),
        (site.dropbear(&[]), "exit 3", "exited_3"),
        (site.tinyssh(), "exit 3", "exited_3"),
        (site.asyncssh(&[]), "exit 3", "exited_3"),
        (site.openssh(""), "exit 7", "exited_other"),
        (site.openssh(""), "exit 0", "exited_0"),
        (site.openssh(""), "/nothing/of/the/kind", "exited_127"),
        (site.openssh(""), "kill -KILL $$", "exited_signal"),
        // After some bytes of each stream's.
        (site.openssh(""), "head -c 5000; exit 3", "exited_3"),
    ] {
        let Some(server) = server else { return };
        let (code, report) = few(&site, &server, &["--ssh-command", command]);
        assert_eq!(code, 99, "{command}");
        assert_ended(&report, class);
    }
}

/// All of a few streams were lost for `class`, whether before they were open or after.
fn assert_ended(report: &Report, class: &str) {
    let mut all = report.load.connect_failures.clone();
    report.load.disconnects.iter().for_each(|(class, n)| *all.entry(class.clone()).or_default() += n);
    assert_eq!(all, classes([(class, 5)]), "{:?}", report.load);
}

#[test]
fn servers_that_end_streams_in_the_middle_say_why() {
    let Some(site) = Site::new() else { return };
    for (arguments, class) in [
        (["--exit-code", "3"], "exited_3"),
        (["--exit-signal", "TERM"], "exited_signal"),
        (["--disconnect", "2"], "disconnected_2"),
        (["--disconnect", "11"], "disconnected_11"),
        (["--disconnect", "12"], "disconnected_12"),
        (["--disconnect", "5"], "disconnected_other"),
    ] {
        let Some(server) = site.asyncssh(&[&["--after", "6000"], &arguments[..]].concat()) else { return };
        let (code, report) = few(&site, &server, &[]);
        assert_eq!((code, report.load.streams_opened), (99, 5), "{arguments:?}");
        assert_eq!(report.load.disconnects, classes([(class, 5)]), "{arguments:?}");
        assert!(report.total.messages_echoed >= 5 && report.load.verify_failures == 0);
    }
}

#[test]
fn a_server_that_is_killed_ends_every_stream() {
    let Some(site) = Site::new() else { return };
    let Some(mut server) = site.asyncssh(&[]) else { return };
    let (target, known) = (server.target(), site.known_hosts(&server, Known::Plain));
    let key = site.user_key(Kind::Ed25519).path;
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(2000));
        server.peer.process.0.kill().expect("it was there");
    });
    let own = ["--conns", "20", "--target", &target, "--known-hosts", &known, "--ssh-identity", &key];
    let (code, report) = Daemon::start().run(&[&own[..], &["--warm-up", "0s", "--duration", "30s"]].concat());
    killer.join().expect("killed");
    assert_eq!((code, report.load.streams_opened), (99, 20));
    let load = &report.load;
    assert!(load.disconnects.keys().all(|class| class == "closed" || class == "reset"), "{load:?}");
    assert_eq!(load.disconnects.values().sum::<u64>(), 20);
    assert!(load.ticks_missed.disconnected > 0 && report.run.ended_at - report.run.started_at < 20.0);
}

/// A window that is shut from the start, or shuts for ever in the middle: what cannot go is missed by
/// back-pressure, and nothing that went is lost.
#[test]
fn a_window_that_stays_shut_is_back_pressure() {
    let Some(site) = Site::new() else { return };
    for window in [0, 10_000] {
        let bytes = window.to_string();
        let Some(server) = site.asyncssh(&["--window", &bytes, "--closing"]) else { return };
        let load = ["--conns", "5", "--bytes-per-tick", "4000", "--tick-interval", "100ms", "--verify"];
        let time = ["--warm-up", "0s", "--duration", "2s", "--drain", "1s"];
        let (code, report) = as_user(&site, &server, &[&load[..], &time].concat());
        let (load, total) = (&report.load, &report.total);
        assert_ended_with(99, (code, &report));
        assert!(load.connect_failures.is_empty() && load.disconnects.is_empty(), "{load:?}");
        // On a busy host some of them are missed by the generator instead.
        let missed = load.ticks_missed.backpressure + load.ticks_missed.generator;
        assert!(load.ticks_missed.backpressure > 0 && missed >= 5 * 14, "{load:?}");
        assert_eq!((total.payload_bytes_received, load.verify_failures), (5 * window, 0), "{load:?}");
    }
}

/// Each byte waits for a window of its own.
#[test]
fn a_window_of_one_byte_is_enough() {
    let Some(site) = Site::new() else { return };
    let Some(server) = site.asyncssh(&["--window", "1"]) else { return };
    let load = ["--conns", "5", "--bytes-per-tick", "50", "--tick-interval", "500ms"];
    let time = ["--warm-up", "0s", "--duration", "2s"];
    let (code, report) = as_user(&site, &server, &[&load[..], &time, &PATIENT].concat());
    assert_every_byte_came_back("5", (code, &report));
}

/// Packets far shorter than a message.
#[test]
fn messages_are_cut_to_what_a_server_takes_at_once() {
    let Some(site) = Site::new() else { return };
    let Some(server) = site.asyncssh(&["--max-packet", "100", "--window", "1500"]) else { return };
    echoes(&site, &server, &[]);
}

/// sshd drops three in ten of those who come while ten are logging in, and more, the more there are.
#[test]
fn drops_before_the_banner_are_told_and_the_ramp_gives_way_to_them() {
    let Some(site) = Site::new() else { return };
    let Some(server) = site.openssh("MaxStartups 10:30:100") else { return };
    // It is the back-off of each stream that is tried here.
    let fast = [
        "--breaker",
        "off",
        "--conns",
        "60",
        "--connect-rate",
        "1000/s",
        "--tick-interval",
        "1s",
        "--verify",
    ];
    let time = ["--warm-up", "10s", "--duration", "2s", "--drain", "10s"];
    let (code, report) = as_user(&site, &server, &[&fast[..], &time].concat());
    let load = &report.load;
    let drops = load.connect_failures.get("dropped_before_banner").copied().unwrap_or_default();
    assert!(drops > 0 && load.connect_failures.len() == 1, "{load:?}");
    let said = server.peer.said();
    assert!(said.contains("drop connection"), "{said}");
    assert_eq!((load.streams_opened, load.streams_open_at_end, load.verify_failures), (60, 60, 0));
    assert_ended_with(0, (code, &report));
}
