//! Breakers over made-up seconds of two groups, one of which has two targets.

use std::net::SocketAddr;

use scale_api::spec::{self, GroupSpec, Spec};

use super::*;
use crate::run::plan::Plan;
use crate::run::targets::Permit;

/// Cells of group 0: before steady, by target; then its stage's, and those aside. Then group 1's.
const LEFT: usize = 0;
const RIGHT: usize = 1;
const SECOND_GROUP: usize = 2 * (2 + Group::ASIDE);

struct Made {
    breakers: Breakers,
    cells: Vec<Cell>,
    gauges: Vec<GroupGauges>,
    at: u64,
}

impl Made {
    fn new(change: impl Fn(&mut GroupSpec)) -> Self {
        let group = |name: &str, targets: &[&str]| {
            let mut group = GroupSpec {
                name: name.into(),
                target: targets.iter().map(|target| (*target).to_owned()).collect(),
                conns: Some(10),
                ..GroupSpec::default()
            };
            change(&mut group);
            group
        };
        let two = ["ws://127.0.0.1:1/", "ws://127.0.0.1:2/"];
        let spec = Spec { group: vec![group("pair", &two), group("one", &two[..1])], ..Spec::default() };
        let host = crate::run::plan::tests::host();
        let mut resolve = |_: &str, port: u16| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]);
        let groups = Plan::new(&spec, &host, &Permit::default(), &mut resolve).expect("a plan").groups;
        let gauges = GroupGauges { phase: GroupPhase::Ramping, requested: 10, ..GroupGauges::default() };
        Self {
            breakers: Breakers::new(groups),
            cells: vec![Cell::default(); SECOND_GROUP * 3 / 2],
            gauges: vec![gauges; 2],
            at: 0,
        }
    }

    fn second(&mut self, count: impl FnOnce(&mut [Cell])) -> Vec<Told> {
        self.at += 1;
        count(&mut self.cells);
        let workers = [(&self.cells[..], &self.gauges[..])];
        let seen = Seen { at: self.at, seconds: 1, workers: &workers, is_paused: false };
        self.breakers.take(&seen)
    }
}

fn fail(cell: &mut Cell, class: Class, count: u64) {
    cell.counters.failures.0[class as usize] += count;
}

#[test]
fn one_target_of_a_group_is_held_and_the_others_are_not() {
    let mut made = Made::new(|_| {});
    let told = made.second(|cells| {
        fail(&mut cells[LEFT], Class::Refused, 30);
        fail(&mut cells[LEFT], Class::Timeout, 10);
        cells[RIGHT].counters.connects += 40;
        cells[SECOND_GROUP].counters.connects += 40;
    });
    let [one] = &told[..] else { panic!("{told:?}") };
    assert_eq!((one.group, one.target, one.permits), (0, 0, Some(0)));
    for word in ["group pair, ", "127.0.0.1:1", "40 of 40", "refused", "2 s"] {
        assert!(one.said.contains(word), "{word}: {}", one.said);
    }
    assert!(one.mark.as_ref().is_some_and(|mark| mark.contains("opened")));
    assert!(made.breakers.is_open(0) && !made.breakers.is_open(1));
    assert_eq!(made.breakers.standing().count(), 1);
    assert_eq!(made.second(|_| {}), []);
    let told = made.second(|_| {});
    assert_eq!((told[0].permits, &told[0].mark), (Some(PROBES), &None));
    let told = made.second(|cells| cells[LEFT + 2].counters.connects += u64::from(PROBES));
    assert_eq!(told[0].permits, None, "what opened in another stage counts, too");
    assert_eq!((made.breakers.is_open(0), made.breakers.standing().count()), (false, 0));
    let summary = made.breakers.summary();
    assert!(summary.len() == 1 && summary[0].contains("once") && summary[0].contains("3 s"), "{summary:?}");
}

#[test]
fn what_this_host_cannot_do_opens_no_breaker_and_is_not_silence() {
    let mut made = Made::new(|_| {});
    for _ in 0..200 {
        let told = made.second(|cells| {
            for class in [Class::AddressUnavailable, Class::Files, Class::Memory, Class::NotPermitted] {
                fail(&mut cells[LEFT], class, 1000);
            }
            cells[LEFT].counters.ticks_due += 10;
            cells[LEFT].counters.missed_disconnected += 10;
        });
        assert_eq!(told, []);
    }
    assert_eq!(made.breakers.ending(), None);
}

#[test]
fn off_is_off() {
    let mut made = Made::new(|group| {
        group.breaker = Some(spec::Breaker::Off);
        group.silence = Some(spec::Silence::Off);
    });
    for _ in 0..200 {
        assert_eq!(made.second(|cells| fail(&mut cells[LEFT], Class::Refused, 1000)), []);
    }
    assert_eq!((made.breakers.ending(), made.breakers.summary().len()), (None, 0));
}

#[test]
fn a_target_that_is_down_or_mute_ends_the_run_and_is_named_for_it() {
    let mut made = Made::new(|_| {});
    while made.breakers.ending().is_none() {
        made.second(|cells| fail(&mut cells[SECOND_GROUP], Class::Refused, 1));
    }
    assert_eq!(made.at, 31);
    let why = made.breakers.ending().expect("it ended").to_owned();
    assert!(why.contains("group one") && why.contains("let none in") && why.contains("30 s"), "{why}");
    let mut made = Made::new(|group| group.silence = Some("5s".parse().expect("a time")));
    made.gauges[0].standing[Standing::Open as usize] = 10;
    while made.breakers.ending().is_none() {
        made.second(|cells| {
            cells[RIGHT].counters.ticks_due += 10;
            cells[RIGHT].counters.ticks_sent += 10;
        });
    }
    assert_eq!(made.at, 6);
    assert!(made.breakers.ending().is_some_and(|why| why.contains("nothing came back")));
}

#[test]
fn a_drain_is_neither_silence_nor_a_reason_to_hold() {
    let mut made = Made::new(|_| {});
    made.second(|cells| fail(&mut cells[LEFT], Class::Refused, 100));
    assert!(made.breakers.is_open(0));
    made.gauges[0].phase = GroupPhase::Draining;
    for _ in 0..100 {
        assert_eq!(made.second(|_| {}), []);
    }
    assert_eq!((made.breakers.is_open(0), made.breakers.ending()), (false, None));
}

#[test]
fn marks_are_bounded_however_often_a_target_comes_and_goes() {
    let mut made = Made::new(|_| {});
    let mut marks = 0;
    for _ in 0..5000 {
        let is_open = made.breakers.is_open(0);
        let told = made.second(|cells| match is_open {
            true => cells[LEFT].counters.connects += 5,
            false => fail(&mut cells[LEFT], Class::Refused, 100),
        });
        marks += told.iter().filter(|one| one.mark.is_some()).count();
    }
    assert_eq!(marks, MARKS_MAX as usize);
    assert!(made.breakers.summary()[0].contains("times"));
}
