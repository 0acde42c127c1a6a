//! Plans judged by what this host was found to offer.

use scale_api::calibration::{Calibration, Host as Here, Limit};

use super::*;
use crate::run::calibration::Kept;
use crate::run::targets::Targets;

/// 2026-11-27.
const AT: f64 = 1_795_737_600.0;

/// 10,000 streams of 4,096 B each 100 ms: 10.24 us a message, 0.000_3 a byte of it.
fn found(protocol: &str) -> Calibration {
    Calibration {
        protocol: protocol.into(),
        payload_bytes: 4096,
        tick: 0.1,
        streams: 10_000,
        messages_per_second: 1e5,
        bytes_per_second: 4.096e8,
        cpu_us_per_message: 11.4688,
        message_us: 10.24,
        byte_us: Some(0.000_3),
        limit: Limit::Busy,
        ..Calibration::default()
    }
}

fn plan(targets: &[&str], conns: u64, kept: Kept) -> Plan {
    let group = GroupSpec {
        name: "main".into(),
        target: targets.iter().map(|&target| target.into()).collect(),
        conns: Some(conns),
        ..GroupSpec::default()
    };
    let spec = Spec { group: vec![group], ..Spec::default() };
    let host = Host { calibrations: kept.into(), ..host() };
    Plan::new(&spec, &host, &Targets::default().own(), &mut |_, _| unreachable!()).unwrap()
}

fn kept(found: Calibration) -> Kept {
    let mut kept = Kept::default();
    kept.take(found, AT).unwrap();
    kept
}

const WS: &str = "ws://127.0.0.1:9/";
const WSS: &str = "wss://127.0.0.1:9/";

#[test]
fn a_plan_says_what_share_it_takes_and_above_all_of_it_warns_but_is_not_refused() {
    let small = plan(&[WS], 4_100, kept(found("ws")));
    let sentence = small.summary.calibration.as_deref();
    assert_eq!(sentence, Some("calibrated 2026-11-27: this plan takes 41 % of what this host offers"));
    assert_eq!((small.summary.warnings.as_slice(), small.summary.cannot.as_slice()), (&[][..], &[][..]));
    let large = plan(&[WS], 10_500, kept(found("ws")));
    assert!(large.summary.calibration.unwrap().contains("takes 105 % of what this host offers"));
    assert!(large.summary.warnings[0].contains("105 %"), "{:?}", large.summary.warnings);
    assert!(large.summary.cannot.is_empty());
}

#[test]
fn the_measured_cost_takes_the_place_of_the_usual_one() {
    let cores = |kept: Kept| {
        let plan = plan(&[WS], 4_000, kept);
        plan.fit.into_iter().find(|entry| entry.name == "plan: cores").unwrap().value
    };
    assert!(cores(Kept::default()).contains("about 0.5 cores, the workers have 2"));
    let slow = Calibration { message_us: 30.0, cpu_us_per_message: 31.2, ..found("ws") };
    assert!(cores(kept(slow)).contains("about 1.2 cores"));
    let of_one_length = Calibration { byte_us: None, cpu_us_per_message: 31.2, ..found("ws") };
    assert!(cores(kept(of_one_length)).contains("about 1.2 cores"));
}

#[test]
fn a_lower_bound_says_at_most_and_never_that_it_is_too_much_for_sure() {
    let bounded = |conns| {
        let found = Calibration { limit: Limit::Target, ..found("ws") };
        plan(&[WS], conns, kept(found)).summary.calibration.unwrap()
    };
    assert_eq!(
        bounded(4_000),
        "calibrated 2026-11-27: this plan takes at most 40 % of what this host offers"
    );
    assert!(bounded(20_000).ends_with("200 % of what this host was seen to offer; it may offer more"));
}

#[test]
fn what_is_not_calibrated_is_named_and_what_is_stale_is_not_used() {
    let nothing = plan(&[WS], 100, kept(found("wss"))).summary.calibration;
    assert_eq!(nothing, None, "another protocol says nothing");
    let mixed = plan(&[WS, WSS], 4_000, kept(found("ws"))).summary.calibration.unwrap();
    assert_eq!(
        mixed,
        "calibrated 2026-11-27: of this plan ws alone takes 20 % of what this host offers; not calibrated: wss"
    );
    let folder = std::env::temp_dir().join(format!("scaled-stale-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    kept(found("ws")).write(&folder).unwrap();
    let here = Here { kernel: "6.12".into(), ..Here::default() };
    let stale = plan(&[WS], 10_500, Kept::read(&folder, here));
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!(
        stale.summary.calibration.unwrap(),
        "the calibration of ws from 2026-11-27 is not used: it was made with kernel , and here is 6.12; `scalectl calibrate --protocol ws` makes it anew"
    );
    assert!(stale.summary.warnings.is_empty(), "the usual cost judges: {:?}", stale.summary.warnings);
}
