//! Runs as rows of a table of scale tests.

use scale_api::report::Report;
use scale_tests::{Daemon, assert_ended_with};
use serde_json::{Value, json};

use super::{Standin, create, outcome, texts};

/// What is stated on top of a scenario of eight workspaces, of which six are made at once.
const STATED: &str =
    "[environment]\nname = 'stand-in'\ncpu = '2 cores'\nreplicas = 3\nusers = 20\nregion = 'a|b'\n";

/// A table by `scalectl report --row`.
fn row(daemon: &Daemon, arguments: &[&str]) -> String {
    let (code, out, error) = texts(&daemon.scalectl(&[&["report"], arguments].concat()));
    assert_eq!(code, 0, "{error}");
    out
}

/// Runs the scenario to its end.
fn scenario(standin: &Standin, daemon: &Daemon, more: &str) -> Report {
    let text = format!(
        "name = 'row'\n[create]\ncount = 8\ntemplate = 'minimal'\nconcurrency = 6\n\
         [[group]]\nname = 'terminals'\nbytes_per_tick = '128B'\nduration = '2s'\nwarm_up = '0s'\n{STATED}{more}"
    );
    let file = standin.write("row.toml", &text);
    let (code, report) = standin.flow(daemon, &["scenario", "-f", &file]);
    assert_ended_with(0, (code, &report));
    report
}

#[test]
fn a_scenario_is_a_row_of_what_was_stated_asked_and_measured() {
    let settings = "build_time = '1s'\nbuild_jitter = '0s'\nagent_time = '50ms'\nterminals = 'emulated'\nprovisioners = 3\n";
    let (standin, daemon) = (Standin::start(settings, ""), Daemon::start());
    let report = scenario(&standin, &daemon, "");
    let builds = outcome(&report).builds.clone().expect("builds");
    // Three provisioners: whatever is asked for, three are at work, by the server's own clock.
    assert_eq!((builds.count, builds.asked, builds.reached), (8, 6, Some(3)), "{builds:?}");
    assert!(builds.under_way.is_some_and(|most| (4..=6).contains(&most)), "{builds:?}");
    assert_eq!((outcome(&report).users, report.load.streams_open_max), (8, Some(8)));

    let rows: Value = serde_json::from_str(&row(&daemon, &["--row=json"])).expect("an array");
    let it = &rows[0];
    assert_eq!(it["stated"]["users"], "20", "{it}");
    assert_eq!((&it["asked"]["builds"], &it["measured"]["builds"]), (&json!(6), &json!(3)));
    let (asked, measured) = (&it["asked"]["connections"][0], &it["measured"]["connections"][0]);
    assert_eq!((&asked["kind"], &asked["count"]), (&json!("web_terminals"), &json!(8)));
    assert_eq!(measured["count"], 8);
    let rate = measured["bytes_per_second"].as_f64().expect("a rate");
    assert!((rate / (8.0 * 1280.0) - 1.0).abs() < 0.2, "eight terminals of 128 B each 100 ms: {rate}");
    assert_eq!(it["measured"]["echo_p99"].as_f64(), report.latency.response.as_ref().map(|it| it.p99));
    assert!(it["measured"]["versions"][0].as_str().is_some_and(|version| version.starts_with("v2.")), "{it}");
    assert_eq!(serde_json::from_str::<Value>(&row(&daemon, &["--row", "--json"])).expect("the same"), rows);

    let table = row(&daemon, &["--row"]);
    let line = table.lines().nth(2).expect("a row");
    assert!(line.starts_with("| *stand-in* | *2 cores* | - | *3*"), "{table}");
    assert!(
        line.contains("| *20*, 8 in the run | *a\\|b* | 3 of 6 | 8 web terminals, 1.3 KB/s each |"),
        "{table}"
    );
    assert!(line.contains(&format!("| passed | {} |", report.run.id)), "{table}");

    // Another run beside it, from its folder: a table of two, which states nothing.
    let (code, plain) = standin.flow(&daemon, &create("2", &[]));
    assert_eq!(code, 0, "{:?}", plain.verdict);
    let folder = daemon.state().join(&report.run.id).display().to_string();
    let csv = row(&daemon, &["--row=csv", &folder, &plain.run.id]);
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((lines.len(), lines[0][0], lines[0].last()), (3, "run", Some(&"stated_region")));
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{csv}");
    assert_eq!((lines[1][0], lines[2][0]), (&*report.run.id, &*plain.run.id));
    let value = |row: usize, column: &str| {
        lines[row][lines[0].iter().position(|name| *name == column).expect(column)]
    };
    assert_eq!(
        (value(2, "asked_builds"), value(2, "measured_users"), value(2, "stated_users")),
        ("2", "2", "")
    );
    standin.end();
}

#[test]
fn what_makes_no_table_is_refused_with_what_to_do() {
    let daemon = Daemon::start();
    for (arguments, code, word) in [
        (&["one", "two"][..], 2, "add --row"),
        (&["--row=csv", "--json"], 2, "give one of them"),
        (&["--row", "--html", "x.html"], 2, "--html"),
        (&["--row=yaml"], 2, "markdown"),
        (&["--row", "r1-0"], 2, "r1-0"),
        (&["--row", "/nowhere/report.json"], 2, "/nowhere/report.json is no report"),
    ] {
        let (ended, out, error) = texts(&daemon.scalectl(&[&["report"], arguments].concat()));
        assert!(ended == code && error.contains(word), "{arguments:?}: {ended} {out}{error}");
    }
}
