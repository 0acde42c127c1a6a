use std::collections::BTreeMap;

use scale_api::coder::{Builds, Outcome as Coder};
use scale_api::disruption::Disruption;
use scale_api::report::{Figure, Latency, Load, Part, Report, ServerVersion};
use scale_api::spec::{GroupSpec, StageSpec};
use scale_api::typed::{self, Typed};

use super::*;

fn part(name: &str, streams: u64, open: Option<u64>, rate: f64, p99: f64) -> Part {
    let load = Load {
        streams_requested: streams,
        streams_open_at_end: streams - 3,
        streams_open_max: open,
        rate_offered: Some(rate + 1.0),
        rate_sent: Some(rate),
        ..Load::default()
    };
    let response = Some(Figure { count: 9, p99, ..Figure::default() });
    Part { name: name.into(), load, latency: Latency { response, ..Latency::default() } }
}

fn group(name: &str, target: &str, kind: Option<typed::Kind>) -> GroupSpec {
    let typed = kind.map(|kind| Typed { kind, ..Typed::default() });
    GroupSpec { name: name.into(), target: vec![target.into()], typed, ..GroupSpec::default() }
}

/// A scenario's report: 1,500 terminals in two groups, 100 SSH sessions, 20 builds asked for at once.
fn scenario() -> Report {
    let mut report = Report::default();
    (report.run.id, report.run.name) = ("r1795780381-0".into(), Some("weekly".into()));
    (report.run.started_at, report.run.version) = (1_795_780_381.6, "0.1.0".into());
    let stated = [("name", "Kubernetes (GKE)"), ("cpu", "4 cores"), ("replicas", "4"), ("users", "1,500")];
    report.run.environment = stated.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    report.spec.group = vec![
        group("a", "ws://deployment/", Some(typed::Kind::Terminal)),
        group("b", "wss://deployment/", Some(typed::Kind::Terminal)),
        group("c", "ssh://coder@workspace/", Some(typed::Kind::Ssh)),
    ];
    report.groups = vec![
        part("a", 1000, Some(1000), 1_280_000.0, 0.012),
        part("b", 500, Some(498), 640_000.0, 0.25),
        part("c", 100, Some(100), 10_000.0, 0.003),
    ];
    report.load.streams_open_max = Some(1598);
    report.latency.response = Some(Figure { count: 9, p99: 0.0423, ..Figure::default() });
    let builds = Builds { count: 1503, asked: 20, under_way: Some(20), reached: Some(12) };
    report.coder = Some(Coder {
        users: 1500,
        builds: Some(builds),
        versions: vec!["v2.26.0".into()],
        replicas: BTreeMap::from([("10.0.0.1:443".into(), 7)]),
        ..Coder::default()
    });
    report.verdict.outcome = Outcome::Passed;
    report
}

/// A run of two websocket groups that failed; nobody states anything but a key of their own.
fn plain_run() -> Report {
    let mut report = Report::default();
    (report.run.id, report.run.started_at) = ("r2-0".into(), 0.0);
    report.run.environment = BTreeMap::from([("region|zone".into(), "a, \"b\" | *c*".into())]);
    report.spec.group = vec![group("main", "wss://host/", None), group("raw", "tcp://host:7", None)];
    report.groups = vec![part("main", 10, None, 400.0, 0.5), part("raw", 5, None, 0.0, 0.1)];
    report.disruptions = vec![Disruption { users: Some(8), ..Disruption::default() }];
    report.server_versions = vec![
        ServerVersion { version: "2".into(), ..ServerVersion::default() },
        ServerVersion { version: "1".into(), ..ServerVersion::default() },
    ];
    (report.verdict.outcome, report.verdict.exit_code) = (Outcome::Failed, 99);
    report
}

/// Cells of a line of a Markdown table.
fn cells(line: &str) -> Vec<String> {
    let inner = line.trim_start_matches("| ").trim_end_matches(" |");
    inner.split(" | ").map(str::to_owned).collect()
}

#[test]
fn a_scenario_is_a_row_that_tells_stated_and_measured_apart() {
    let table = text::markdown(&[Row::of(&scenario())]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 5, "a head, its rule, a row, an empty line, how to read it: {table}");
    assert_eq!(
        cells(lines[2]),
        [
            "*Kubernetes (GKE)*",
            "*4 cores*",
            "-",
            "*4*",
            "-",
            "*1,500*, 1,500 in the run",
            "12 of 20",
            "1,498 of 1,500 web terminals, 1.3 KB/s each; 100 SSH sessions, 100 B/s each",
            "42.3 ms (web terminals 250.0 ms, SSH sessions 3.0 ms)",
            "v2.26.0",
            "2026-11-27",
            "passed",
            "r1795780381-0",
        ]
    );
    assert_eq!(cells(lines[0]).len(), 13);
    assert_eq!(lines[1].matches("---").count(), 13);
}

#[test]
fn several_runs_make_one_table_with_every_key_that_any_of_them_states() {
    let table = text::markdown(&[Row::of(&scenario()), Row::of(&plain_run())]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].contains("| users | region\\|zone | concurrent builds |"), "{table}");
    assert!(lines[3].contains(
        "| 8 in the run | *a, \"b\" \\| \\*c\\** | - | 7 of 10 websockets, 57 B/s each; 2 of 5 TCP"
    ));
    assert!(lines[3].ends_with("| 1, 2 | 1970-01-01 | **failed** | r2-0 |"), "{table}");
    let csv = text::csv(&[Row::of(&scenario()), Row::of(&plain_run())]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let head = reader.headers().expect("a head").clone();
    let rows: Vec<csv::StringRecord> =
        reader.records().map(|row| row.expect("as long as the head")).collect();
    let value = |row: usize, column: &str| {
        rows[row].get(head.iter().position(|name| name == column).expect(column)).expect("a cell").to_owned()
    };
    for (row, column, wanted) in [
        (0, "stated_users", "1,500"),
        (0, "measured_users", "1500"),
        (0, "asked_builds", "20"),
        (0, "measured_builds", "12"),
        (0, "asked_web_terminals", "1500"),
        (0, "measured_web_terminals", "1498"),
        (0, "measured_web_terminals_bytes_per_second", "1920000"),
        (0, "asked_ssh_sessions_bytes_per_second", "10001"),
        (0, "measured_echo_p99_seconds", "0.0423"),
        (0, "measured_websockets", ""),
        (0, "stated_region|zone", ""),
        (1, "stated_region|zone", "a, \"b\" | *c*"),
        (1, "asked_builds", ""),
        (1, "verdict", "failed"),
        (1, "measured_tcp_connections", "2"),
    ] {
        assert_eq!(value(row, column), wanted, "{column} of row {row}: {csv}");
    }
}

#[test]
fn as_json_the_three_are_three_objects() {
    let row = serde_json::to_value(Row::of(&scenario())).expect("plain values");
    assert_eq!(row["stated"]["users"], "1,500");
    assert_eq!((&row["asked"]["builds"], &row["measured"]["builds"]), (&20.into(), &12.into()));
    assert_eq!(row["measured"]["connections"][0]["kind"], "web_terminals");
    assert_eq!((&row["verdict"], &row["date"]), (&"passed".into(), &"2026-11-27".into()));
    assert_eq!(row["asked"]["connections"][1]["count"], 100);
}

#[test]
fn groups_of_a_kind_that_took_turns_are_not_more_than_were_open_at_once() {
    let mut report = scenario();
    report.load.streams_open_max = Some(1000);
    let row = Row::of(&report);
    assert_eq!(row.measured.connections[0].count, 1000, "not 1,498");
    let each = row.measured.connections[0].rate_each().expect("all sent the same");
    assert!((1281.0..1282.0).contains(&each), "{each}: 1,920,000 B/s were of 1,498");
}

#[test]
fn a_rate_that_is_a_mean_over_stages_of_different_sizes_is_nobodys() {
    let mut report = scenario();
    report.spec.group[0].conns = Some(1000);
    let stage = |conns| StageSpec { conns, ..StageSpec::default() };
    report.spec.group[0].stage = vec![stage(None), stage(Some(1000))];
    assert!(Row::of(&report).measured.connections[0].rate_each().is_some(), "they are as many");
    report.spec.group[0].stage.push(stage(Some(100)));
    let row = Row::of(&report);
    assert_eq!((row.asked.connections[0].rate_each(), row.measured.connections[0].rate_each()), (None, None));
    assert!(row.measured.connections[1].rate_each().is_some(), "of another kind");
    assert!(text::markdown(&[row]).contains("1,498 of 1,500 web terminals; 100 SSH sessions, 100 B/s each"));
}

#[test]
fn an_empty_report_has_a_row_of_nothing() {
    let table = text::markdown(&[Row::of(&Report::default())]);
    let row = cells(table.lines().nth(2).expect("a row"));
    assert!(row[..10].iter().all(|cell| cell == "-"), "{table}");
}

#[test]
fn the_empty_table_of_the_documentation_is_this_one() {
    let page = include_str!("../../../docs/table.md");
    let table = text::markdown(&[]);
    for line in table.lines().filter(|line| !line.is_empty()) {
        assert!(page.lines().any(|it| it == line), "docs/table.md lacks {line:?}");
    }
    for row in text::csv(&[]).split(',') {
        let row = Kind::ALL.iter().fold(row.to_owned(), |row, kind| {
            row.replace(&kind.name().to_lowercase().replace(' ', "_"), "KIND")
        });
        assert!(page.contains(&format!("`{row}`")), "docs/table.md lacks the column {row}");
    }
}
