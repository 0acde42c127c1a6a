//! Plans beside hosts of one card.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use scale_api::spec::{GroupSpec, Spec};
use scale_api::units::{Bytes, Span};
use scale_ring::host::Facts;
use scale_ring::host::facts::{Nic, Routes, Stack};

use super::*;
use crate::run::targets::Permit;

const ROUTES: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                      eth0 0000000A 00000000 0001 0 0 0 000000FF 0 0 0\n";

/// `name status` of the network's lines for 1,000 streams of 4 KiB each 100 ms to 10.0.0.1.
fn lines(change: impl FnOnce(&mut GroupSpec), facts: Facts) -> Vec<String> {
    let mut group = GroupSpec {
        name: "main".into(),
        target: vec!["ws://127.0.0.1:9/".into()],
        conns: Some(1000),
        ..GroupSpec::default()
    };
    change(&mut group);
    let spec = Spec { group: vec![group], ..Spec::default() };
    let host = Host { facts, ..crate::run::plan::tests::host() };
    let mut plan = Plan::new(&spec, &host, &Permit::default(), &mut |_, _| unreachable!()).unwrap();
    plan.addresses = vec![vec![SocketAddr::from(([10, 0, 0, 1], 9))]].into();
    let line = |entry: &DoctorEntry| format!("{} {}: {}", entry.status, entry.name, entry.value);
    examine(&plan, &host).iter().map(line).collect()
}

fn card(speed: u32) -> Facts {
    let nic = Nic { driver: Some("ixgbe".into()), speed: Some(speed), mtu: Some(1500), ..Nic::default() };
    Facts {
        routes: Routes::parse(ROUTES, ""),
        nics: BTreeMap::from([("eth0".into(), nic)]),
        ..Facts::default()
    }
}

#[test]
fn a_card_carries_what_the_plan_puts_on_the_wire() {
    // 4,096 + 64 B in 3 segments, and an answer: 4,600 B x 10/s x 1,000.
    let said = |speed| lines(|_| {}, card(speed)).join("\n");
    assert_eq!(said(1000), "ok plan: NIC eth0: 368.0 of 1,000 Mbit/s each way, headers and all");
    assert!(said(400).starts_with("warn plan: NIC eth0"), "{}", said(400));
    assert!(said(300).starts_with("fail plan: NIC eth0"), "{}", said(300));
    let mut unknown = card(1);
    unknown.nics.get_mut("eth0").unwrap().speed = None;
    assert!(lines(|_| {}, unknown)[0].ends_with("its speed is not known"));
    let nowhere = Facts { routes: Routes::parse(&ROUTES.replace("0000000A", "0000000B"), ""), ..card(1000) };
    assert!(lines(|_| {}, nowhere)[0].starts_with("warn plan: routes"));
    assert_eq!(lines(|_| {}, Facts::default()), [""; 0], "nothing is known, nothing is said");
}

#[test]
fn tracked_connections_need_room() {
    let with = |tracked| Facts { stack: Stack { tracked: Some(tracked), ..Stack::default() }, ..card(1000) };
    let status = |tracked| lines(|_| {}, with(tracked))[1].split(':').next().unwrap().to_owned();
    assert_eq!(status((10, 262_144)), "ok plan");
    assert_eq!(status((10, 1_000)), "fail plan");
    assert_eq!(status((0, 900)), "warn plan", "no rule has it tracked");
}

#[test]
fn slow_start_decides_where_messages_are_large_and_rare() {
    let with = |is_on| {
        let facts =
            Facts { stack: Stack { slow_start_after_idle: Some(is_on), ..Stack::default() }, ..card(1000) };
        let rare = |group: &mut GroupSpec| {
            group.bytes_per_tick = Some(Bytes(64 << 10));
            group.tick_interval = Some(Span::from_ns(1_000_000_000));
        };
        lines(rare, facts)[1].clone()
    };
    assert!(
        with(true).starts_with("warn plan: slow start") && with(false).starts_with("ok plan: slow start")
    );
}
