//! What a channel may be besides a session that echoes, and what servers say meanwhile.

use scale_tests::ssh::Site;
use scale_tests::{Sink, assert_ended_with};

use super::{PATIENT, as_user, assert_none_opened, echoes, few, spoken};
use crate::assert_every_byte_came_back;

const TEN: [&str; 6] = ["--conns", "10", "--warm-up", "1s", "--duration", "2s"];
/// As [`PATIENT`], where nothing is compared.
const LATE: [&str; 4] = ["--concurrency", "3", "--threshold", "load.delivered_ratio > 10%"];

#[test]
fn discard_is_written_and_nothing_returns() {
    let Some(site) = Site::new() else { return };
    for server in
        [site.openssh(""), site.dropbear(&[]), site.asyncssh(&[]), site.node(&[])].into_iter().flatten()
    {
        let (code, report) = as_user(&site, &server, &[&TEN, &LATE[..], &["--traffic", "discard"]].concat());
        assert_ended_with(0, (code, &report));
        assert!(
            report.load.messages_sent > 100 && report.total.payload_bytes_received == 0,
            "{:?}",
            report.load
        );
    }
}

#[test]
fn receive_reads_what_a_command_says() {
    let Some(site) = Site::new() else { return };
    for server in [site.openssh(""), site.dropbear(&[])].into_iter().flatten() {
        let receive = [&TEN[..], &["--traffic", "receive"]].concat();
        let (code, report) = as_user(&site, &server, &receive);
        assert_ended_with(0, (code, &report));
        // As much as the machine has: no command of theirs knows a rate.
        assert!(report.load.rate_received > Some(1e6), "{:?}", report.load);
        // A command that says what is known, and how much of it.
        let known = ["--ssh-command", "head -c 100000 /dev/zero; sleep 60"];
        let (code, report) = as_user(&site, &server, &[&receive[..], &known].concat());
        assert_ended_with(0, (code, &report));
        assert_eq!(report.total.payload_bytes_received, 10 * 100_000);
    }
}

#[test]
fn streams_share_a_connection_where_that_is_asked_for() {
    let Some(site) = Site::new() else { return };
    // OpenSSH's own limit is ten.
    for (server, sessions) in [(site.openssh("LogLevel VERBOSE"), true), (site.asyncssh(&[]), false)] {
        let Some(server) = server else { return };
        let report = echoes(&site, &server, &["--channels-per-connection", "10"]);
        assert_eq!(spoken(&report).negotiated[0].connections, 2);
        if sessions {
            let said = server.peer.said();
            assert_eq!(said.matches("Accepted publickey").count(), 2, "{said}");
            assert_eq!(said.matches("Starting session: command").count(), 20, "{said}");
        }
    }
}

#[test]
fn channels_beyond_a_servers_limit_are_refused_one_by_one() {
    let Some(site) = Site::new() else { return };
    let Some(server) = site.openssh("MaxSessions 2") else { return };
    // How many connections they come to depends on how many workers there are.
    let many = ["--conns", "40", "--channels-per-connection", "20", "--warm-up", "1s", "--duration", "1s"];
    let (code, report) = as_user(&site, &server, &[&many[..], &PATIENT].concat());
    let load = &report.load;
    let connections = spoken(&report).negotiated[0].connections;
    assert_eq!((code, load.streams_opened, load.streams_open_at_end), (99, 2 * connections, 2 * connections));
    assert_eq!(load.connect_failures, [("channel_refused".to_owned(), 40 - load.streams_opened)].into());
    assert_eq!((load.verify_failures, load.messages_unanswered, load.unexpected_bytes), (0, 0, 0));
    assert!(load.messages_echoed >= load.streams_opened, "{load:?}");
}

#[test]
fn streams_go_through_a_server_to_where_it_can_reach() {
    let Some(site) = Site::new() else { return };
    for server in [site.openssh(""), site.dropbear(&[]), site.asyncssh(&["--forward"])].into_iter().flatten()
    {
        let sink = Sink::start(&["--protocol", "tcp"]);
        let report = echoes(&site, &server, &["--ssh-forward", &sink.address]);
        let counts = sink.counts();
        assert_eq!(counts["payload_bytes_received"], report.total.payload_bytes_sent);
        assert_eq!(counts["connections"], 20);
    }
    // Nobody listens there; nobody may go anywhere.
    for settings in ["", "AllowTcpForwarding no"] {
        let Some(server) = site.openssh(settings) else { return };
        assert_none_opened("channel_refused", &few(&site, &server, &["--ssh-forward", "127.0.0.1:9"]));
    }
}

#[test]
fn a_terminal_echoes_what_is_typed() {
    let Some(site) = Site::new() else { return };
    for server in [site.openssh(""), site.dropbear(&[])].into_iter().flatten() {
        for kind in [&[][..], &["--ssh-command", "cat >/dev/null"]] {
            let typed = ["--ssh-pty", "--bytes-per-tick", "1024", "--drain", "20s"];
            let (code, report) = as_user(&site, &server, &[&TEN, &LATE[..], &typed, kind].concat());
            assert_ended_with(0, (code, &report));
            let load = &report.load;
            assert!(load.disconnects.is_empty() && load.connect_failures.is_empty(), "{load:?}");
            assert!(load.messages_sent >= 100 && load.unexpected_bytes == 0, "{load:?}");
        }
    }
}

#[test]
fn environment_reaches_the_command_where_the_server_takes_it() {
    let Some(site) = Site::new() else { return };
    let Some(server) = site.openssh("AcceptEnv OF_A_TEST") else { return };
    let file = site.path("environment");
    let command = format!("echo \"$OF_A_TEST|$REFUSED\" >{file}; cat");
    let environment = ["--ssh-env", "OF_A_TEST=a value", "--ssh-env", "REFUSED=x", "--ssh-command", &command];
    let (code, report) = few(&site, &server, &environment);
    assert_every_byte_came_back("5", (code, &report));
    assert_eq!(std::fs::read_to_string(&file).expect("written"), "a value|\n");
}

/// Greeting lines, banners, debug messages, keepalives that must be answered: none of it is a stream's.
#[test]
fn what_a_server_says_beside_a_stream_is_not_the_streams() {
    let Some(site) = Site::new() else { return };
    let banner = site.folder.write("banner", &"A banner of many lines.\n".repeat(60));
    let servers = [
        site.openssh(&format!("Banner {banner}\nClientAliveInterval 1\nClientAliveCountMax 1")),
        site.dropbear(&["-b", &banner, "-K", "1"]),
        site.asyncssh(&["--banner", "A banner.\n", "--keepalive", "0.2"]),
        site.node(&["--banner", "A banner.\n", "--greeting", "A line.\r\nAnother.\r\n"]),
    ];
    for server in servers.into_iter().flatten() {
        echoes(&site, &server, &[]);
    }
}

/// It is told, and takes no echo's place.
#[test]
fn standard_error_is_unexpected_and_no_part_of_the_echo() {
    const SAID: &str = "An error.\n";
    let Some(site) = Site::new() else { return };
    let Some(server) = site.asyncssh(&["--stderr", SAID]) else { return };
    let (_, report) = few(&site, &server, &[]);
    let (load, total) = (&report.load, &report.total);
    assert_eq!((load.streams_opened, load.unexpected_bytes), (5, 5 * SAID.len() as u64), "{load:?}");
    assert_eq!((load.verify_failures, load.messages_unanswered), (0, 0), "{load:?}");
    assert_eq!(total.messages_echoed, total.messages_sent);
    assert_eq!(total.payload_bytes_received, total.payload_bytes_sent);
}
