//! Plans of small runs.

mod calibrated;
mod guard;
mod sources;
mod ssh;

use super::*;
use scale_api::spec::{self, GroupSpec};
use scale_api::units::{Rate, Span};

pub(in crate::run) fn host() -> Host {
    Host {
        cores: vec![0, 1],
        facts: Facts::default(),
        doctor: Vec::new(),
        seed: 1,
        unix_s: 1_800_000_000,
        files: 100_000,
        direct_descriptors: true,
        has_address: |address| address.is_loopback(),
        calibrations: std::sync::Arc::default(),
        interfaces: Vec::new(),
    }
}

fn plan(change: impl FnOnce(&mut GroupSpec)) -> Result<Plan, Problem> {
    let mut group = GroupSpec {
        name: "main".into(),
        target: vec!["ws://127.0.0.1:9000/echo".into()],
        conns: Some(100),
        ..GroupSpec::default()
    };
    change(&mut group);
    let spec = Spec { group: vec![group], ..Spec::default() };
    let mut resolve = |name: &str, port: u16| match name {
        "two" => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 2], port))]),
        "far" => Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))]),
        _ => Err(std::io::Error::other("no such name")),
    };
    Plan::new(&spec, &host(), &Permit::default(), &mut resolve)
}

#[test]
fn the_plan_says_what_a_rate_means() {
    let plan = plan(|group| group.rate = Some(Rate(40_000))).unwrap();
    assert_eq!(plan.summary.lines[0], "main: 100 streams, 4,000 B x 10/s = 40.0 KB/s a stream each way");
    assert_eq!(plan.groups[0].ramp_ns, 50_000_000);
    assert_eq!(plan.summary.streams_per_core, [50, 50]);
}

#[test]
fn seventy_thousand_streams_from_one_address_cannot_be_carried_and_a_source_cures_it() {
    let refused = plan(|group| group.conns = Some(70_000)).unwrap();
    assert!(refused.summary.cannot[0].contains("--source"), "{:?}", refused.summary.cannot);
    let cured = plan(|group| {
        group.conns = Some(70_000);
        group.source = vec!["127.0.1.0/30".into()];
    });
    assert!(cured.unwrap().summary.cannot.is_empty());
}

#[test]
fn targets_are_checked_after_their_names_are_resolved() {
    let code =
        |target: &str| plan(|group| group.target = vec![target.into()]).map_err(|problem| problem.code).err();
    assert_eq!(code("ws://two"), None);
    assert_eq!(code("ws://far"), Some(ProblemCode::TargetRefused));
    assert_eq!(code("ws://nowhere"), Some(ProblemCode::Invalid));
}

#[test]
fn weights_and_rows_decide_who_talks_to_whom() {
    let plan2 = plan(|group| group.target = vec!["ws://two/a,3".into(), "ws://127.0.0.1/b".into()]).unwrap();
    assert_eq!(&*plan2.groups[0].pattern, [0, 0, 1, 0]);
    let rows = plan(|group| {
        group.conns = Some(3);
        group.target = vec!["ws://127.0.0.1/{n}/{user}".into()];
        group.rows = Some(spec::File::read("r", *b"user\nann\nbob\n"));
    });
    let paths: Vec<_> = rows.unwrap().endpoints.iter().map(|row| row.path.to_string()).collect();
    assert_eq!(paths, ["/0/ann", "/1/bob", "/2/ann"]);
}

#[test]
fn a_row_smuggles_neither_headers_nor_words_into_the_request() {
    let why = |target: &str, header: &str, rows: &[u8]| {
        let refused = plan(|group| {
            group.target = vec![target.into()];
            group.header = vec![header.into()];
            group.rows = Some(spec::File::read("r", rows));
        });
        refused.map_err(|problem| problem.detail).err()
    };
    let rows = b"user\n\"ann\r\nX-Admin: yes\"\n";
    assert!(why("ws://127.0.0.1/", "X-User: {user}", rows).unwrap().contains("control character"));
    assert!(why("ws://127.0.0.1/{user}", "A: b", rows).unwrap().contains("control character"));
    assert!(why("ws://127.0.0.1/{user}", "A: b", b"user\nann bob\n").unwrap().contains("%20"));
    assert_eq!(why("ws://127.0.0.1/", "X-User: {user}", b"user\nann bob\n"), None);
    assert!(why("ws://127.0.0.1/{n}", "A: b", b"user\nann\n").unwrap().contains("write {user}"));
    assert!(why("ws://127.0.0.1/{usr}", "A: b", b"user\nann\n").unwrap().contains("there are {n}, {user}"));
    for columns in [&b"user,user\na,b\n"[..], b"n\n1\n"] {
        assert!(why("ws://127.0.0.1/{user}", "A: b", columns).unwrap().contains("must differ"));
    }
}

#[test]
fn a_column_may_be_the_host_where_it_is_said_where_all_of_them_are() {
    let hosts = |rows: &[u8], to: Option<&str>| {
        let made = plan(|group| {
            group.conns = Some(2);
            group.target = vec!["wss://{host}.example:3000/".into()];
            group.connect_to = to.map(str::to_owned);
            group.rows = Some(spec::File::read("r", rows));
        });
        made.map(|plan| {
            let row = |row: &Endpoint| {
                let tls = row.tls.as_ref().expect("wss").name.to_str().into_owned();
                (row.host.to_string(), tls, plan.addresses[row.addresses as usize].len())
            };
            plan.endpoints.iter().map(row).collect::<Vec<_>>()
        })
    };
    let two = hosts(b"host\na--b\nc\n", Some("two:7")).map_err(|problem| problem.detail);
    let row = |host: &str| (format!("{host}.example:3000"), format!("{host}.example"), 2);
    assert_eq!(two, Ok(vec![row("a--b"), row("c")]));
    let why = |rows, to| hosts(rows, to).unwrap_err().detail;
    assert!(why(b"host\na\n", None).contains("--connect-to HOST:PORT"));
    for bad in [&b"host\na/b\n"[..], b"host\na b\n", b"host\na:1\n", b"host\n[::1]\n"] {
        assert!(why(bad, Some("two:7")).contains("no host name"), "{}", why(bad, Some("two:7")));
    }
    assert!(why(b"hots\na\n", Some("two:7")).contains("there are {n}, {hots}"));
    let refused = hosts(b"host\na\n", Some("far:7")).unwrap_err();
    assert_eq!(refused.code, ProblemCode::TargetRefused);
}

#[test]
fn rows_stand_where_the_streams_of_a_part_of_a_run_look_for_them() {
    let group = GroupSpec {
        name: "main".into(),
        target: vec!["ws://127.0.0.1/{n}".into()],
        conns: Some(3),
        ..GroupSpec::default()
    };
    let spec = Spec { group: vec![group], first_stream: Some(7), ..Spec::default() };
    let plan = Plan::new(&spec, &host(), &Permit::default(), &mut |_, _| unreachable!()).unwrap();
    for number in 7..10 {
        let row = plan.groups[0].endpoint(number);
        assert_eq!(&*plan.endpoints[row as usize].path, format!("/{number}"));
    }
}

#[test]
fn what_a_plan_needs_is_beside_what_the_host_has() {
    let status = |change: &dyn Fn(&mut GroupSpec), host_change: &dyn Fn(&mut Host)| {
        let mut host = host();
        host_change(&mut host);
        let mut group = GroupSpec {
            name: "main".into(),
            target: vec!["ws://127.0.0.1:9/".into()],
            conns: Some(1000),
            ..GroupSpec::default()
        };
        change(&mut group);
        let spec = Spec { group: vec![group], ..Spec::default() };
        let plan = Plan::new(&spec, &host, &Permit::default(), &mut |_, _| unreachable!()).unwrap();
        assert!(plan.fit.iter().all(|entry| (entry.status == "ok") == entry.remedy.is_none()));
        let not_ok = plan.fit.into_iter().filter(|entry| entry.status != "ok");
        not_ok.map(|entry| format!("{} {}", entry.status, entry.name)).collect::<Vec<_>>()
    };
    let (same, here) = (|_: &mut GroupSpec| {}, |_: &mut Host| {});
    assert_eq!(status(&same, &here), [""; 0]);
    assert_eq!(status(&|g| g.tick_interval = Some(Span::from_ns(5_000_000)), &here), ["warn plan: cores"]);
    let fast = |g: &mut GroupSpec| g.tick_interval = Some(Span::from_ns(1_000_000));
    assert_eq!(status(&fast, &here), ["fail plan: cores"]);
    let busy = |g: &mut GroupSpec| g.tick_interval = Some(Span::from_ns(5_000_000));
    assert_eq!(status(&busy, &|h| h.facts.cpu_quota = Some(0.25)), ["fail plan: cores"]);
    assert_eq!(status(&same, &|h| h.facts.memory_available = Some(1 << 20)), ["fail plan: memory"]);
    assert_eq!(status(&same, &|h| h.facts.tcp_mem_bytes = Some(1 << 20)), ["warn plan: socket memory"]);
    assert_eq!(status(&same, &|h| h.files = 800), [""; 0], "two rings have a table each");
    let plain = |h: &mut Host| (h.files, h.direct_descriptors) = (800, false);
    assert_eq!(status(&same, &plain), ["fail plan: open files"]);
    let reserved = |h: &mut Host| h.facts.ports_reserved = (1024..=65_000).collect();
    assert_eq!(status(&same, &reserved), ["fail plan: source ports"]);
    let foreign = |g: &mut GroupSpec| g.source = vec!["10.0.0.1".into()];
    assert_eq!(status(&foreign, &here), ["fail plan: source addresses"]);
}

#[test]
fn steps_follow_the_base_load() {
    let plan = plan(|group| {
        group.rate = Some(Rate(40_000));
        group.stage = vec![scale_api::spec::StageSpec {
            conns: Some(200),
            rate: None,
            over: Some(Span::from_secs(1)),
            hold: Some(Span::from_secs(2)),
        }];
    });
    let group = &plan.unwrap().groups[0];
    assert_eq!((group.stages.len(), group.stages[0].conns, group.conns_max()), (1, 200, 200));
}

#[test]
fn who_is_asked_for_the_targets_own_figures_is_resolved_and_checked_like_a_target() {
    let plan = |url: &str, headers: &[u8]| {
        let group = GroupSpec {
            name: "main".into(),
            target: vec!["ws://127.0.0.1:9000/".into()],
            conns: Some(1),
            ..GroupSpec::default()
        };
        let observe = spec::Observe {
            prometheus: url.into(),
            header_file: Some(spec::File::read("h", headers)),
            query: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
            ..spec::Observe::default()
        };
        let spec = Spec { group: vec![group], observe: Some(observe), ..Spec::default() };
        let mut resolve = |name: &str, port: u16| match name {
            "near" => Ok(vec![SocketAddr::from(([127, 0, 0, 3], port))]),
            "far" => Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))]),
            _ => Err(std::io::Error::other("no such name")),
        };
        Plan::new(&spec, &host(), &Permit::default(), &mut resolve)
    };
    let near = plan("http://near/prom", b"A: canary\n\n").unwrap();
    let observe = near.observe.as_ref().unwrap();
    assert_eq!(near.addresses[observe.addresses as usize], ["127.0.0.3:80".parse().unwrap()]);
    assert_eq!(
        (observe.url.as_str(), &observe.queries[..]),
        ("http://near/prom/api/v1/query", &["1".into(), "2".into()][..])
    );
    assert_eq!(observe.headers, [("A".to_owned(), "canary".to_owned())]);
    assert!(!format!("{near:?}").contains("canary"), "a plan shows no header of it");
    assert!(near.summary.lines.iter().any(|line| line.contains("observe: 2 queries each 5s")));
    // It is resolved again with the targets, and takes nothing of a cap.
    let place = &near.places[observe.addresses as usize];
    assert_eq!((place.host.as_str(), place.port, place.demand.streams), ("near", 80, 0));
    assert_eq!(plan("http://far", b"").unwrap_err().code, ProblemCode::TargetRefused);
    assert_eq!(plan("http://nowhere", b"").unwrap_err().code, ProblemCode::Invalid);
    let wrong = plan("http://near", b"canary").unwrap_err().detail;
    assert!(wrong.contains("Name: value") && !wrong.contains("canary"), "{wrong}");
}
