//! Source addresses, interfaces and ports: what a plan makes of them and says about them.

use super::*;
use scale_ring::InterfaceName;

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

/// A host with two interfaces, the second of which is down.
fn host_with_interfaces() -> Host {
    let interface = |name: &str, up, texts: &[&str]| Interface {
        name: InterfaceName::new(name).expect("a name"),
        up,
        addresses: addresses(texts),
    };
    Host {
        has_address: |address| match address {
            IpAddr::V4(v4) => v4.is_loopback() || (v4.octets()[..2] == [10, 0] && v4.octets()[3] < 4),
            IpAddr::V6(v6) => v6.is_loopback(),
        },
        interfaces: vec![
            interface("lo", true, &["127.0.0.1"]),
            interface("eth0", true, &["10.0.0.1", "10.0.0.2"]),
            interface("eth1", true, &["10.0.1.1"]),
            interface("eth2", false, &["10.0.2.1"]),
        ],
        ..host()
    }
}

fn planned(change: impl FnOnce(&mut GroupSpec)) -> Result<Plan, Problem> {
    let mut group = GroupSpec {
        name: "main".into(),
        target: vec!["ws://127.0.0.2:9000/".into()],
        conns: Some(100),
        tick_interval: Some(Span::from_secs(10)),
        ..GroupSpec::default()
    };
    change(&mut group);
    let spec = Spec { group: vec![group], ..Spec::default() };
    let mut resolve = |name: &str, port: u16| match name {
        "both" => Ok(vec![
            SocketAddr::new([127, 0, 0, 1].into(), port),
            SocketAddr::new("::1".parse().expect("an address"), port),
        ]),
        _ => Err(std::io::Error::other("no such name")),
    };
    Plan::new(&spec, &host_with_interfaces(), &Permit::default(), &mut resolve)
}

fn entry<'a>(plan: &'a Plan, name: &str) -> &'a DoctorEntry {
    plan.fit.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no {name}: {:?}", plan.fit))
}

#[test]
fn a_plan_of_a_hundred_thousand_streams_is_explained() {
    let plan = planned(|group| {
        group.conns = Some(100_000);
        group.source = vec!["127.0.1.0/29".into()];
    });
    let plan = plan.expect("a plan");
    assert_eq!(plan.summary.cannot, [""; 0]);
    let expected = "\
to 127.0.0.2:9000: 100,000 connections; 6 source addresses × 64,511 ports = room for 387,066
  worker on core 0: source ports 1025 to 33279, 32,255 of them usable; 8,334 needed from each address for 50,000 connections
  worker on core 1: source ports 33280 to 65535, 32,256 of them usable; 8,334 needed from each address for 50,000 connections
memory of 100,000 streams: 154 MB plain, 2,612 MB over TLS; socket buffers, if all were full: 6,554 MB
descriptors: 100,000 sockets; each of 2 workers has up to 100,000 in its ring's table, ordinary ones are 99,488
CPU: 10,000 messages/s and 41.0 MB/s each way take about 0.1 cores, the workers have 2";
    assert_eq!(plan.summary.details.join("\n"), expected);
}

#[test]
fn a_plan_that_does_not_fit_says_what_to_add() {
    let remedy = |conns, sources: &[&str], target: &str| {
        let plan = planned(|group| {
            group.conns = Some(conns);
            group.target = vec![target.into()];
            group.source = sources.iter().map(|&text| text.into()).collect();
        });
        entry(&plan.expect("a plan"), "plan: source ports").remedy.clone()
    };
    let v4 = "ws://127.0.0.2:9000/";
    let said = remedy(100_000, &[], v4).expect("it does not fit");
    assert!(said.starts_with("2 source addresses have room for 100,000"), "{said}");
    assert!(said.contains("--source 127.0.1.0/30; or share the streams among 2 target addresses"), "{said}");
    let said = remedy(600_000, &["127.0.1.0/29"], v4).expect("it does not fit");
    assert!(said.starts_with("10 source addresses") && said.contains("127.0.1.0/28"), "{said}");
    assert!(said.contains("among 2 target addresses"), "{said}");
    let said = remedy(100_000, &[], "ws://[::1]:9000/").expect("it does not fit");
    assert!(said.contains("--source fd00::/126"), "{said}");
    // What the remedy says is enough.
    assert_eq!(remedy(100_000, &["127.0.1.0/30"], v4), None);
    assert_eq!(remedy(600_000, &["127.0.1.0/28"], v4), None);
    let two = planned(|group| {
        group.conns = Some(100_000);
        group.target = vec![v4.into(), "ws://127.0.0.3:9000/".into()];
    });
    let two = two.expect("a plan");
    assert_eq!(two.summary.cannot, [""; 0]);
    // Streams take targets and workers in turn: of two and two each worker has a target to itself.
    assert_eq!(
        two.summary.details[..3],
        [
            "to 127.0.0.2:9000: 50,000 connections; 1 source address × 64,511 ports = room for 64,511",
            "to 127.0.0.3:9000: 50,000 connections; 1 source address × 64,511 ports = room for 64,511",
            "  worker on core 0: source ports 1025 to 65535, 64,511 of them usable; 50,000 needed from each address for 50,000 connections",
        ]
    );
}

#[test]
fn reserved_ports_are_nobodys_and_each_worker_has_as_many_of_the_others() {
    let mut host = host();
    host.facts.ports_reserved = (1024..=45_534).collect();
    let group = GroupSpec {
        name: "main".into(),
        target: vec!["ws://127.0.0.1:9/".into()],
        conns: Some(20_001),
        ..GroupSpec::default()
    };
    let mut spec = Spec { group: vec![group], ..Spec::default() };
    let refused = Plan::new(&spec, &host, &Permit::default(), &mut |_, _| unreachable!()).expect("a plan");
    let line = entry(&refused, "plan: source ports");
    assert_eq!(line.status, "fail");
    assert_eq!(line.value, "20,001 are needed towards one destination, 20,001 are usable from one address");
    spec.group[0].conns = Some(20_000);
    let plan = Plan::new(&spec, &host, &Permit::default(), &mut |_, _| unreachable!()).expect("a plan");
    assert_eq!(entry(&plan, "plan: source ports").status, "ok");
    let to = plan.addresses[0][0];
    assert_eq!(plan.ports.slice((0, 2), to).first(), Some(&45_535));
    assert_eq!((plan.ports.slice((0, 2), to).len(), plan.ports.slice((1, 2), to).len()), (10_000, 10_001));
}

#[test]
fn of_a_range_what_this_host_has_is_used_and_the_rest_is_named() {
    let plan = |sources: &[&str]| {
        let sources = sources.iter().map(|&text| text.into()).collect();
        planned(|group| group.source = sources).expect("a plan")
    };
    let partly = plan(&["127.0.1.0/30", "192.0.2.8/29"]);
    let line = entry(&partly, "plan: source addresses");
    assert_eq!((line.status.as_str(), line.value.as_str()), ("fail", "none of 192.0.2.8/29 is this host's"));
    assert!(
        line.remedy.as_deref().is_some_and(|text| text.contains("ip addr add 192.0.2.9/32 dev lo")),
        "{line:?}"
    );
    let partly = plan(&["10.0.0.0/29"]);
    let line = entry(&partly, "plan: source addresses");
    let said = "3 of 6 are this host's and used; 10.0.0.4, 10.0.0.5, 10.0.0.6 are not";
    assert_eq!((line.status.as_str(), line.value.as_str()), ("warn", said));
    assert_eq!(partly.groups[0].ways.origins(false), 3);
    assert!(
        partly.summary.cannot.is_empty() && partly.summary.warnings[0].contains("ip addr add 10.0.0.4/32")
    );
}

#[test]
fn an_address_goes_with_the_interface_that_has_it() {
    let plan = |interfaces: &[&str], sources: &[&str]| {
        planned(|group| {
            group.interface = interfaces.iter().map(|&text| text.into()).collect();
            group.source = sources.iter().map(|&text| text.into()).collect();
        })
    };
    let both = plan(&["eth0", "eth1"], &["10.0.0.0/30", "10.0.1.1", "127.0.0.5"]).expect("a plan");
    let ways = &both.groups[0].ways;
    let of = |name: &str| {
        let ranks = (0..ways.period(false)).filter_map(|rank| ways.origin(rank, false));
        let its = ranks.filter(|origin| origin.interface == InterfaceName::new(name));
        its.filter_map(|origin| origin.address).collect::<BTreeSet<_>>()
    };
    assert_eq!(of("eth0"), addresses(&["10.0.0.1", "10.0.0.2", "127.0.0.5"]).into_iter().collect());
    assert_eq!(of("eth1"), addresses(&["10.0.1.1", "127.0.0.5"]).into_iter().collect());
    assert_eq!(entry(&both, "plan: interfaces").value, "eth0, eth1");
    let why = |interfaces: &[&str], sources: &[&str]| plan(interfaces, sources).unwrap_err().detail;
    assert!(why(&["eth9"], &[]).contains("no such interface; there are lo, eth0, eth1, eth2"));
    assert!(why(&["eth0", "eth1"], &["10.0.0.1"]).contains("--interface eth1 has none of the --source"));
    let down = plan(&["eth2"], &[]).expect("a plan");
    assert_eq!(entry(&down, "plan: interfaces").remedy.as_deref(), Some("ip link set eth2 up"));
}

#[test]
fn a_family_without_a_source_is_left_alone() {
    let plan = |sources: &[&str]| {
        let sources = sources.iter().map(|&text| text.into()).collect();
        planned(|group| {
            group.target = vec!["ws://both:9000/".into()];
            group.source = sources;
        })
    };
    let families = |sources: &[&str]| {
        plan(sources).expect("a plan").addresses[0].iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>()
    };
    assert_eq!(families(&[]), [false, true]);
    assert_eq!(families(&["127.0.0.9"]), [false]);
    assert_eq!(families(&["::1", "127.0.0.9"]), [false, true]);
    // Nor does it come in by a later answer of the resolver's.
    let plan = plan(&["::1"]).expect("a plan");
    let fresh = ["127.0.0.1:9000", "[::1]:9000"].map(|text| text.parse().expect("an address"));
    assert_eq!(plan.reachable(&[fresh.to_vec()])[..], [vec![fresh[1]]]);
    assert_eq!(plan.reachable(&[vec![fresh[0]]])[..], [vec![fresh[1]]], "what was there stays");
}
