//! Network namespaces as hosts: source addresses and interfaces on the wire, ports that run out, and a
//! network that drops, rejects, loses or cuts packets while a run goes.

use std::collections::BTreeMap;
use std::net::TcpListener;

use scale_api::http::Status;
use scale_api::report::{Event, Report};
use scale_tests::host::until;
use scale_tests::hosts::Pair;
use scale_tests::network::Namespace;
use scale_tests::{Daemon, Sink, assert_ended_with};

use crate::{assert_every_tick_is_accounted_for, error, with};

const TARGET: &str = "ws://10.77.0.2:9000/";
/// All from here on but these are reserved, where ports are to run out.
const FREE_PORTS: std::ops::RangeInclusive<u16> = 30_001..=30_100;

/// What is going, once it has had its first second.
fn going(daemon: &Daemon) -> Option<Event> {
    let output = daemon.scalectl(&["--json", "status"]);
    serde_json::from_slice::<Status>(&output.stdout).expect("JSON").run
}

/// Runs `start` with `arguments`, and `meanwhile` beside it once `streams` are open; the result.
fn run_and(daemon: &Daemon, streams: u64, arguments: &[&str], meanwhile: impl FnOnce()) -> (i32, Report) {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| daemon.run(arguments));
        until("the streams to be open", || {
            going(daemon).filter(|event| event.streams.get("open") == Some(&streams))
        });
        meanwhile();
        run.join().expect("no panic")
    })
}

/// A rule for what arrives at the target's port; the table's name is to remove it by.
fn rule(target: &Namespace, words: &str) {
    target.run(&format!(
        "nft add table inet load
         nft add chain inet load in {{ type filter hook input priority 0 ; }}
         nft add rule inet load in tcp dport 9000 {words}"
    ));
}

fn no_rule(target: &Namespace) {
    target.run("nft delete table inet load");
}

/// How many connections come from each address.
fn by_peer(pair: &Pair) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    pair.target.peers(9000).into_iter().for_each(|peer| *counts.entry(peer).or_default() += 1);
    counts
}

/// As /proc/net/tcp has an address: four bytes in this machine's order.
fn digits(address: [u8; 4]) -> String {
    format!("{:08X}", u32::from_ne_bytes(address))
}

fn agrees(report: &Report, sink: Sink) {
    let counts = sink.counts();
    assert_eq!(counts["payload_bytes_received"], report.total.payload_bytes_sent);
    assert_eq!(counts["payload_bytes_sent"], report.total.payload_bytes_received);
    assert_eq!((report.load.verify_failures, report.load.unexpected_bytes), (0, 0));
    assert_every_tick_is_accounted_for(&report.load);
}

#[test]
fn settings_are_read_in_the_daemons_own_network() {
    let Some(pair) = Pair::joined(1) else { return };
    pair.load.set("net.ipv4.ip_local_port_range", "20000 20100");
    pair.load.set("net.core.somaxconn", "128");
    pair.load.set("net.ipv4.ip_local_reserved_ports", "1025-65000");
    let daemon = pair.daemon();
    let output = daemon.scalectl(&["--json", "doctor"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let entries: Vec<scale_api::http::DoctorEntry> = serde_json::from_str(&text).expect("JSON");
    assert!(text.contains("20000 to 20100"), "{text}");
    let backlog = entries.iter().find(|entry| entry.source.contains("somaxconn")).expect("a line of it");
    assert_eq!(backlog.status, "warn", "{backlog:?}");
    let dry = ["start", "--dry-run", "--conns", "600", "--target", TARGET];
    let refused = daemon.scalectl(&dry);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("600 are needed towards one destination, 535 are usable"), "{said}");
}

#[test]
fn a_plan_with_too_few_ports_is_refused_with_what_to_add_and_that_is_enough() {
    let Some(pair) = Pair::joined(1) else { return };
    pair.load.set("net.ipv4.ip_local_reserved_ports", "1-30000,30101-65535");
    let (daemon, sink) = (pair.daemon(), pair.sink("10.77.0.2"));
    let few = daemon.scalectl(&[&["start"][..], &with(&["--conns", "150", "--target", TARGET])].concat());
    let said = error(&few);
    assert_eq!(few.status.code(), Some(4), "{said}");
    assert!(
        said.contains("150 are needed towards one destination, 100 are usable from one address"),
        "{said}"
    );
    assert!(said.contains("2 source addresses have room for 150"), "{said}");
    // Addresses that this host does not have, and then has.
    let start = with(&["--conns", "150", "--target", TARGET, "--source", "10.77.0.8/30", "--verify"]);
    let missing = daemon.scalectl(&[&["start"], &start[..]].concat());
    let said = error(&missing);
    assert_eq!(missing.status.code(), Some(4), "{said}");
    assert!(said.contains("ip addr add 10.77.0.9/32 dev"), "{said}");
    pair.load.run("ip address add 10.77.0.9/24 dev load0\nip address add 10.77.0.10/24 dev load0");
    let (code, report) = daemon.run(&start);
    assert_ended_with(0, (code, &report));
    assert_eq!(report.load.streams_opened, 150);
    agrees(&report, sink);
}

#[test]
fn ports_that_others_hold_are_skipped_and_their_want_is_the_generators() {
    let Some(pair) = Pair::joined(1) else { return };
    pair.load.set("net.ipv4.ip_local_reserved_ports", "1-30000,30101-65535");
    pair.target.run("ip address add 10.77.0.22/24 dev far0");
    let (daemon, _sink) = (pair.daemon(), pair.sink("0.0.0.0"));
    // Listeners let nobody else have their ports. Every fifth is free, in every worker's part.
    let held: Vec<TcpListener> = pair.load.inside(|| {
        let ports = FREE_PORTS.filter(|port| port % 5 != 0);
        ports.map(|port| TcpListener::bind(("0.0.0.0", port)).expect("it is free")).collect()
    });
    let (code, report) = daemon.run(&with(&["--conns", "12", "--target", TARGET]));
    assert_ended_with(0, (code, &report));
    assert!(report.generator.source_ports_skipped > 0, "{:?}", report.generator);
    // To another address, where none of the first run's ports is in TIME_WAIT.
    let (code, report) = daemon.run(&with(&["--conns", "50", "--target", "ws://10.77.0.22:9000/"]));
    assert_eq!(code, 6, "{:?}", report.verdict);
    assert_eq!(report.load.connect_failures, [("address_unavailable".to_owned(), 30)].into());
    assert_eq!(report.load.streams_opened, 20);
    drop(held);
}

#[test]
fn every_source_address_has_as_many_streams_and_each_family_its_own() {
    let Some(pair) = Pair::joined(1) else { return };
    pair.load.run(
        "ip address add 10.77.0.3/24 dev load0
         ip address add 10.77.0.4/24 dev load0
         ip address add fd77:0:0::11/64 dev load0 nodad
         ip address add fd77:0:0::12/64 dev load0 nodad",
    );
    let daemon = pair.daemon();
    let sinks = [pair.sink("10.77.0.2"), pair.sink("fd77::2")];
    let mut seen = BTreeMap::new();
    let start = [
        &["--conns", "120", "--target", TARGET, "--target", "ws://[fd77::2]:9000/"][..],
        &["--source", "10.77.0.0/29", "--source", "fd77::11", "--source", "fd77::12", "--verify"],
    ];
    let (_, report) = run_and(&daemon, 120, &with(&start.concat()), || seen = by_peer(&pair));
    assert_eq!(report.load.streams_opened, 120, "{:?}", report.load);
    // Of the range .1, .3 and .4 are this host's; the others are named.
    assert!(report.warnings.iter().any(|text| text.contains("10.77.0.5")), "{:?}", report.warnings);
    let v4 = [1, 3, 4].map(|last| seen.get(&digits([10, 77, 0, last])).copied().unwrap_or(0));
    let v6: Vec<u64> = seen.iter().filter(|(peer, _)| peer.len() == 32).map(|(_, &count)| count).collect();
    assert_eq!((v4, v6.as_slice()), ([20, 20, 20], &[30, 30][..]), "{seen:?}");
    assert_eq!(report.total.payload_bytes_sent, report.total.payload_bytes_received);
    drop(sinks);
}

#[test]
fn connections_go_out_through_the_interfaces_that_were_named() {
    let Some(pair) = Pair::joined(2) else { return };
    pair.target.run("ip address add 10.99.0.1/32 dev lo");
    // The routing table prefers the first cable.
    pair.load.run(
        "ip route add 10.99.0.1/32 via 10.77.0.2 dev load0 metric 1
         ip route add 10.99.0.1/32 via 10.77.1.2 dev load1 metric 2",
    );
    let (daemon, sink) = (pair.daemon(), pair.sink("10.99.0.1"));
    let moved = |start: &[&str]| {
        let now = || ["load0", "load1"].map(|name| pair.load.moved(name));
        let before = now();
        let to = ["--conns", "40", "--target", "ws://10.99.0.1:9000/", "--verify"];
        let (code, report) = daemon.run(&with(&[&to[..], start].concat()));
        assert_ended_with(0, (code, &report));
        let grown =
            |after: [(u64, u64); 2]| [0, 1].map(|n| (after[n].0 - before[n].0, after[n].1 - before[n].1));
        (grown(now()), report)
    };
    let ([(in0, out0), (in1, out1)], report) = moved(&["--interface", "load0,load1"]);
    assert_eq!(report.spec.group[0].interface, ["load0", "load1"]);
    let alike = |a: u64, b: u64| a > 100_000 && a.abs_diff(b) < a.max(b) / 5;
    assert!(alike(in0, in1) && alike(out0, out1), "{in0} {in1} received, {out0} {out1} sent");
    let ([(_, out0), (in1, out1)], _) = moved(&["--interface", "load1"]);
    assert!(out1 > 200_000 && in1 > 200_000 && out0 < out1 / 20, "{out0} and {out1} sent");
    // An address goes with the interface that has it.
    let ([(_, out0), (_, out1)], _) =
        moved(&["--interface", "load0,load1", "--source", "10.77.0.1", "--source", "10.77.1.1"]);
    assert!(alike(out0, out1), "{out0} {out1} sent");
    drop(sink);
    let refused = |interface: &str| {
        let start = ["start", "--conns", "1", "--target", TARGET, "--interface", interface];
        let output = daemon.scalectl(&start);
        (output.status.code(), error(&output))
    };
    let (code, said) = refused("load7");
    assert!(code == Some(2) && said.contains("no such interface") && said.contains("load0, load1"), "{said}");
    pair.load.run("ip link set load1 down");
    let (code, said) = refused("load1");
    assert!(code == Some(4) && said.contains("ip link set load1 up"), "{said}");
}

#[test]
fn packets_dropped_for_a_while_are_back_pressure_and_every_byte_comes_after_all() {
    let Some(pair) = Pair::joined(1) else { return };
    let (daemon, sink) = (pair.daemon(), pair.sink("10.77.0.2"));
    let start = [
        &["--conns", "60", "--target", TARGET, "--verify", "--sndbuf", "8KiB"][..],
        &["--warm-up", "0s", "--duration", "8s", "--drain", "20s"],
    ];
    let (code, report) = run_and(&daemon, 60, &start.concat(), || {
        rule(&pair.target, "drop");
        until("streams to stall", || going(&daemon).filter(|event| event.ticks_missed.backpressure > 60));
        no_rule(&pair.target);
    });
    // What the network kept back is not delivered, and that is not the generator's.
    assert_ended_with(99, (code, &report));
    assert_eq!((report.load.disconnects.len(), report.load.messages_unanswered), (0, 0), "{:?}", report.load);
    assert!(report.load.ticks_missed.backpressure > 60);
    let (service, response) = (report.latency.service.as_ref(), report.latency.response.as_ref());
    let (service, response) = (service.expect("echoes").max, response.expect("echoes").max);
    // A message that waited for its window is late by that as well; service begins with the send.
    assert!(response > 0.4 && service > 0.4 && service <= response, "{service} {response}");
    agrees(&report, sink);
}

#[test]
fn packets_dropped_until_the_end_leave_messages_unanswered_and_the_run_ends_all_the_same() {
    let Some(pair) = Pair::joined(1) else { return };
    let (daemon, _sink) = (pair.daemon(), pair.sink("10.77.0.2"));
    let start = [
        &["--conns", "50", "--target", TARGET, "--verify"][..],
        &["--warm-up", "0s", "--duration", "4s", "--drain", "1s"],
    ];
    let (code, report) = run_and(&daemon, 50, &start.concat(), || rule(&pair.target, "drop"));
    assert_ended_with(99, (code, &report));
    assert!(report.load.messages_unanswered >= 50, "{:?}", report.load);
    assert_eq!(report.load.verify_failures, 0);
    assert!(report.run.ended_at - report.run.started_at < 20.0);
    // Nobody answers: attempts have their time, and it is the target's.
    let start =
        [&["--conns", "10", "--connect-timeout", "700ms", "--target", TARGET][..], &with(&[])].concat();
    let (code, report) = daemon.run(&start);
    assert_eq!(report.load.connect_failures, [("timeout".to_owned(), 10)].into());
    assert_ended_with(99, (code, &report));
}

#[test]
fn what_a_firewall_rejects_has_its_class_and_is_the_targets() {
    let Some(pair) = Pair::joined(1) else { return };
    let (daemon, _sink) = (pair.daemon(), pair.sink("10.77.0.2"));
    // Otherwise the kernel answers by ICMP once a second only (icmp(7)).
    pair.target.set("net.ipv4.icmp_ratelimit", "0");
    let start = with(&["--conns", "50", "--target", TARGET]);
    let (code, report) = run_and(&daemon, 50, &start, || rule(&pair.target, "reject with tcp reset"));
    assert_ended_with(99, (code, &report));
    assert_eq!(report.load.disconnects, [("reset".to_owned(), 50)].into(), "{:?}", report.load);
    let failures = |words: &str| {
        no_rule(&pair.target);
        rule(&pair.target, words);
        let (code, report) = daemon.run(&with(&["--conns", "10", "--target", TARGET]));
        assert_ended_with(99, (code, &report));
        report.load.connect_failures
    };
    assert_eq!(failures("reject with tcp reset"), [("refused".to_owned(), 10)].into());
    // The kernel takes a failed connect for made now and then, when its ICMP answer comes within the call: `closed`.
    for (words, class) in [("host-unreachable", "unreachable"), ("port-unreachable", "refused")] {
        let failed = failures(&format!("reject with icmpx type {words}"));
        assert_eq!(failed.values().sum::<u64>(), 10, "{failed:?}");
        assert!(failed.keys().all(|found| [class, "closed"].contains(&found.as_str())), "{failed:?}");
    }
}

#[test]
fn streams_come_back_once_a_firewall_lets_them() {
    let Some(pair) = Pair::joined(1) else { return };
    let (daemon, sink) = (pair.daemon(), pair.sink("10.77.0.2"));
    let start = [
        &["--conns", "50", "--target", TARGET, "--verify", "--reconnect", "backoff", "--breaker", "off"][..],
        &["--warm-up", "0s", "--duration", "8s", "--drain", "5s"],
    ];
    let (_, report) = run_and(&daemon, 50, &start.concat(), || {
        rule(&pair.target, "reject with tcp reset");
        let lost = |event: &Event| event.disconnects.values().sum::<u64>() >= 50;
        until("streams to be lost", || going(&daemon).filter(lost));
        no_rule(&pair.target);
    });
    assert_eq!(report.load.disconnects, [("reset".to_owned(), 50)].into());
    assert_eq!((report.load.reconnects, report.load.streams_open_at_end), (50, 50), "{:?}", report.load);
    assert_eq!((report.load.verify_failures, report.load.unexpected_bytes), (0, 0));
    assert!(report.load.ticks_missed.disconnected > 0);
    drop(sink);
}

#[test]
fn large_messages_are_exact_over_an_mtu_of_1280() {
    let Some(pair) = Pair::joined(1) else { return };
    pair.load.run("ip link set load0 mtu 1280");
    pair.target.run("ip link set far0 mtu 1280");
    let (daemon, sink) = (pair.daemon(), pair.sink("fd77::2"));
    let start = [
        &["--conns", "50", "--target", "ws://[fd77::2]:9000/", "--verify"][..],
        &["--bytes-per-tick", "100003", "--tick-interval", "500ms"],
    ];
    let (code, report) = daemon.run(&with(&start.concat()));
    assert_ended_with(0, (code, &report));
    assert_eq!((report.load.messages_unanswered, report.total.payload_bytes_open), (0, 0));
    agrees(&report, sink);
}

/// Segments that a host has sent again (snmp(7), `RetransSegs`).
fn retransmitted(host: &Namespace) -> u64 {
    let text = host.proc_net("snmp");
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let value = names.zip(values).find_map(|(name, value)| (name == "RetransSegs").then_some(value));
    value.expect("it is there").parse().expect("a number")
}

#[test]
fn with_one_packet_in_a_hundred_lost_every_byte_is_exact_and_only_the_answers_are_late() {
    let Some(pair) = Pair::joined(1) else { return };
    let (daemon, sink) = (pair.daemon(), pair.sink("10.77.0.2"));
    let start = [
        &["--conns", "100", "--target", TARGET, "--verify"][..],
        &["--warm-up", "500ms", "--duration", "3s", "--drain", "20s"],
    ];
    let start = start.concat();
    let figures = |report: &Report| {
        let [late, response] = [&report.latency.lateness, &report.latency.response];
        (late.clone().expect("sends"), response.clone().expect("echoes"))
    };
    let (code, report) = daemon.run(&start);
    assert_ended_with(0, (code, &report));
    let (_, calm) = figures(&report);
    let sent = report.total.payload_bytes_sent;
    let before = retransmitted(&pair.load);
    rule(&pair.target, "numgen random mod 100 < 1 drop");
    let (_, report) = daemon.run(&start);
    let (late, response) = figures(&report);
    assert_eq!((report.load.verify_failures, report.load.unexpected_bytes), (0, 0));
    assert_eq!((report.load.messages_unanswered, report.load.disconnects.len()), (0, 0), "{:?}", report.load);
    // What was lost is sent again once the peer has shown a gap or a timer has run out (RFC 8985, RFC 6298).
    let again = retransmitted(&pair.load) - before;
    assert!(again > 5, "{again} segments were sent again");
    assert!(response.max > 3.0 * calm.p50, "{response:?}, calm {calm:?}");
    assert!(late.p50 < 0.05, "our own timetable knows nothing of it: {late:?}");
    let counts = sink.counts();
    assert_eq!(counts["payload_bytes_received"], sent + report.total.payload_bytes_sent);
}
