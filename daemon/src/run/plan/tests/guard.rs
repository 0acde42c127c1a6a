//! The list's caps against whole plans: what each part asks for is held against them together.

use scale_api::http::ProblemCode;
use scale_api::spec::{StageSpec as Stage, Traffic};
use scale_api::units::{Bytes, PerSecond};

use super::*;
use crate::run::targets::tests::targets;
use crate::run::targets::{Permit, Targets};

fn group(name: &str, change: impl FnOnce(&mut GroupSpec)) -> GroupSpec {
    let mut group = GroupSpec {
        name: name.into(),
        target: vec!["ws://gw:9000/".into()],
        conns: Some(10),
        bytes_per_tick: Some(Bytes(100)), // 1,000 B/s a stream
        ..GroupSpec::default()
    };
    change(&mut group);
    group
}

fn of(list: &str, group: Vec<GroupSpec>) -> Result<Plan, Problem> {
    under(&targets(list).own(), group)
}

fn under(permit: &Permit, group: Vec<GroupSpec>) -> Result<Plan, Problem> {
    let spec = Spec { group, ..Spec::default() };
    let mut resolve = |name: &str, port: u16| {
        let number = name.bytes().last().unwrap_or(0);
        Ok(vec![SocketAddr::from(([10, 0, 0, number], port))])
    };
    Plan::new(&spec, &host(), permit, &mut resolve)
}

fn refused(list: &str, group: Vec<GroupSpec>) -> String {
    let problem = of(list, group).expect_err("refused");
    assert_eq!(problem.code, ProblemCode::TargetRefused);
    problem.detail
}

fn list(caps: &str) -> String {
    format!("[[target]]\naddresses = [\"10.0.0.0/8\"]\n{caps}\n")
}

fn stage(conns: u64, over: u64) -> Stage {
    Stage {
        conns: Some(conns),
        over: Some(Span::from_secs(over)),
        hold: Some(Span::from_secs(1)),
        ..Stage::default()
    }
}

fn per_second(number: u64) -> Option<PerSecond> {
    Some(PerSecond { milli: number * 1000 })
}

#[test]
fn groups_targets_and_stages_that_each_fit_are_held_against_a_cap_of_streams_together() {
    let list = list("streams_max = 25");
    let ten = || vec![group("a", |_| {}), group("b", |_| {})];
    assert!(of(&list, ten()).is_ok());
    let why = refused(&list, [ten(), vec![group("c", |_| {})]].concat());
    assert!(why.contains("25 streams") && why.contains("30 were asked for in all"), "{why}");
    let staged = group("c", |g| (g.conns, g.stage) = (Some(1), vec![stage(6, 0)]));
    assert!(refused(&list, [ten(), vec![staged]].concat()).contains("26 were asked for"));
    let two =
        group("a", |g| (g.target, g.conns) = (vec!["ws://gw:1/".into(), "ws://gx:2/".into()], Some(26)));
    assert!(refused(&list, vec![two]).contains("26 were asked for"), "both targets are under one rule");
    let rows = group("a", |g| {
        (g.target, g.conns) = (vec!["ssh://{host}/".into()], Some(30));
        let hosts: String = (0..30).map(|number| format!("h{number}\n")).collect();
        g.rows = Some(spec::File::read("rows", "host\n".to_owned() + &hosts));
        (g.insecure_host_keys, g.target) = (true, vec!["ssh://u@{host}/".into()]);
    });
    assert!(refused(&list, vec![rows]).contains("streams"), "hosts of rows count, too");
}

#[test]
fn payload_is_that_of_the_greatest_stage_of_all_groups() {
    let list = list("bytes_per_second_max = \"25KB/s\"");
    assert!(of(&list, vec![group("a", |_| {}), group("b", |_| {})]).is_ok());
    let why = refused(&list, vec![group("a", |_| {}), group("b", |_| {}), group("c", |_| {})]);
    assert!(why.contains("25,000 B/s") && why.contains("30,000 B/s were asked for in all"), "{why}");
    let faster = group("a", |g| {
        (g.bytes_per_tick, g.rate) = (None, Some(Rate(1000)));
        g.stage = vec![Stage { rate: Some(Rate(2600)), ..stage(10, 0) }];
    });
    assert!(refused(&list, vec![faster]).contains("26,000 B/s were asked for"));
    // On the way from many slow ones to few fast ones, many may be fast.
    let meet = |over| {
        group("a", |g| {
            (g.bytes_per_tick, g.rate, g.conns) = (None, Some(Rate(1000)), Some(20));
            g.stage = vec![Stage { rate: Some(Rate(2000)), ..stage(10, over) }];
        })
    };
    assert!(refused(&list, vec![meet(5)]).contains("40,000 B/s"));
    let first = group("a", |g| {
        g.first_message = Some(spec::File::read("first", vec![b'x'; 3000]));
        g.connect_rate = per_second(10);
    });
    assert!(refused(&list, vec![first]).contains("40,000 B/s"), "each connection's first message counts");
    let reads = group("a", |g| (g.traffic, g.bytes_per_tick) = (Traffic::Receive, None));
    assert!(refused(&list, vec![reads.clone()]).contains("--traffic receive"));
    assert!(of(&super::guard::list(""), vec![reads]).is_ok());
}

#[test]
fn a_connect_rate_that_was_asked_for_is_refused_and_one_that_was_not_is_lowered() {
    let list = list("connects_per_second_max = 50");
    let many = |change: fn(&mut GroupSpec)| {
        group("a", |g| {
            g.conns = Some(1000);
            change(g);
        })
    };
    for change in [
        (|g| g.connect_rate = per_second(51)) as fn(&mut GroupSpec),
        |g| g.ramp = Some(Span::from_secs(10)),
        |g| g.ramp = Some(Span::from_ns(1)),
        |g| (g.ramp, g.churn) = (Some(Span::from_secs(25)), per_second(11)),
        |g| (g.ramp, g.stage) = (Some(Span::from_secs(100)), vec![stage(2000, 10)]),
    ] {
        let why = refused(&list, vec![many(change)]);
        assert!(why.contains("50/s new connections") && why.contains("--connect-rate"), "{why}");
    }
    let lowered = of(&list, vec![many(|_| {})]).unwrap();
    assert_eq!((lowered.groups[0].connect_rate_milli, lowered.groups[0].ramp_ns), (50_000, 20_000_000_000));
    let said =
        lowered.summary.warnings.iter().any(|line| line.contains("50/s new connections instead of 1000/s"));
    assert!(said, "{:?}", lowered.summary.warnings);
    assert_eq!(&*lowered.gates.rates_milli, [50_000]);
    assert_eq!(&*lowered.gates.rows[0], [0]);
    assert_eq!(lowered.places[0].demand.connects_milli, 50_000);
    let few = of(&list, vec![group("a", |_| {})]).unwrap();
    assert!(
        few.summary.warnings.iter().all(|line| !line.contains("instead of")),
        "ten cannot be more a second"
    );
    let explicit = of(&list, vec![many(|g| g.ramp = Some(Span::from_secs(100)))]).unwrap();
    assert_eq!(explicit.groups[0].ramp_ns, 100_000_000_000);
    assert!(of(&super::guard::list(""), vec![many(|_| {})]).unwrap().gates.rates_milli.is_empty());
}

#[test]
fn groups_share_what_the_cap_on_connects_leaves() {
    let list = list("connects_per_second_max = 50");
    let many = |name: &str, rate: Option<u64>| {
        group(name, |g| (g.conns, g.connect_rate) = (Some(1000), rate.and_then(per_second)))
    };
    let plan = of(&list, vec![many("a", Some(20)), many("b", None), many("c", None)]).unwrap();
    let rates: Vec<u64> = plan.groups.iter().map(|group| group.connect_rate_milli).collect();
    assert_eq!(rates, [20_000, 15_000, 15_000]);
    let why = refused(&list, vec![many("a", Some(30)), many("b", Some(30))]);
    assert!(why.contains("60/s were asked for in all"), "{why}");
    let why = refused(&list, vec![many("a", Some(50)), many("b", None)]);
    assert!(why.contains("group b") && why.contains("no new connections are left"), "{why}");
    // Half of the streams go to each target, and so do half of the connects.
    let two = |rate| {
        group("a", |g| {
            (g.conns, g.connect_rate) = (Some(1000), per_second(rate));
            g.target = vec!["ws://g1:1/".into(), "ws://g2:1/".into()];
        })
    };
    let apart = "[[target]]\naddresses = [\"10.0.0.49/32\"]\nconnects_per_second_max = 50\n[[target]]\naddresses = [\"10.0.0.50/32\"]\n";
    assert!(of(apart, vec![two(100)]).is_ok());
    assert!(refused(apart, vec![two(102)]).contains("51/s"));
}

#[test]
fn a_list_that_is_read_again_still_allows_a_plan_or_says_why_not() {
    let plan = of(&list("streams_max = 10"), vec![group("a", |_| {})]).unwrap();
    let still = |text: &str| targets(text).still_allows(&plan);
    assert_eq!(still(&list("")), Ok(()));
    assert_eq!(
        still(&list("streams_max = 10\nconnects_per_second_max = 10\nbytes_per_second_max = 10000")),
        Ok(())
    );
    assert!(still(&list("streams_max = 9")).unwrap_err().contains("streams_max"));
    assert!(still(&list("connects_per_second_max = 9")).unwrap_err().contains("connects_per_second_max"));
    assert!(still(&list("bytes_per_second_max = 9999")).unwrap_err().contains("bytes_per_second_max"));
    assert!(Targets::default().still_allows(&plan).unwrap_err().contains("loopback"));
    let alice = targets(&list("users = [\"alice\"]")).permit(crate::run::targets::tests::caller(1001));
    let hers = under(&alice, vec![group("a", |_| {})]).unwrap();
    assert_eq!(targets(&list("users = [\"alice\"]")).still_allows(&hers), Ok(()));
    assert!(targets(&list("users = [5]")).still_allows(&hers).unwrap_err().contains("for users 5"));
    assert_eq!(hers.permit.started_by().map(|by| by.uid), Some(1001));
}

#[test]
fn mapped_addresses_of_a_name_are_connected_to_as_what_they_map() {
    let spec = |target: &str| Spec {
        group: vec![group("a", |g| g.target = vec![target.into()])],
        ..Spec::default()
    };
    let to = |text: &str, address: &str| {
        let mut resolve = |_: &str, _| Ok(vec![address.parse().unwrap()]);
        Plan::new(&spec(text), &host(), &targets(&list("")).own(), &mut resolve)
    };
    let plan = to("ws://gw:80/", "[::ffff:10.0.0.7]:80").unwrap();
    assert_eq!(plan.addresses[0], ["10.0.0.7:80".parse().unwrap()]);
    assert_eq!(to("ws://[::ffff:10.0.0.7]:80/", "[::1]:1").unwrap().addresses[0], plan.addresses[0]);
    for target in
        ["ws://[::ffff:169.254.169.254]/", "ws://[::ffff:a9fe:a9fe]/", "ws://[fe80::1]/", "ws://0.0.0.0/"]
    {
        assert!(to(target, "[::1]:1").unwrap_err().detail.contains("never hit"), "{target}");
    }
    for address in ["169.254.169.254:80", "[::ffff:a9fe:a9fe]:80", "[fe80::1]:80", "127.255.255.255:80"] {
        assert!(to("ws://gw:80/", address).unwrap_err().detail.contains("never hit"), "{address}");
    }
    assert!(
        to("ws://[::ffff:127.0.0.1]/", "[::1]:1").unwrap_err().detail.contains("not on this host's list")
    );
    let mut nothing = |_: &str, _| Ok(Vec::new());
    let none = Plan::new(&spec("ws://gw:80/"), &host(), &targets(&list("")).own(), &mut nothing);
    assert!(none.unwrap_err().detail.contains("no address"));
}

#[test]
fn where_streams_are_led_instead_is_what_is_checked() {
    let list = "[[target]]\nhost = \"gw\"\naddresses = [\"10.0.0.0/8\"]\n";
    let led = |to: &str| of(list, vec![group("a", |g| g.connect_to = Some(to.into()))]);
    assert!(led("gw:1").is_ok());
    for to in ["gx:1", "10.0.0.1:1", "169.254.169.254:80"] {
        assert_eq!(led(to).unwrap_err().code, ProblemCode::TargetRefused, "{to}");
    }
    for to in ["2130706433:1", "0x7f.1:1", "gw\0:1", "u@gw:1"] {
        assert_eq!(led(to).unwrap_err().code, ProblemCode::Invalid, "{to}");
    }
    // What a bastion opens from there is its own affair; it is the bastion that is looked up.
    let forward = |target: &str| {
        of(
            list,
            vec![group("a", |g| {
                g.target = vec![target.into()];
                (g.ssh_forward, g.insecure_host_keys) = (Some("192.0.2.1:80".into()), true);
            })],
        )
    };
    assert!(forward("ssh://u@gw/").is_ok());
    assert_eq!(forward("ssh://u@gx/").unwrap_err().code, ProblemCode::TargetRefused);
}
