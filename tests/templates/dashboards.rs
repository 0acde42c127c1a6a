//! The dashboard and the alerts of docs: made of their source, and of metrics that are there.

use std::collections::BTreeSet;
use std::process::Command;

use scale_tests::grafana::{dashboard, filled, metrics, queries};
use scale_tests::host::{Folder, installed, root};
use scale_tests::repository::read;
use scaled::metrics::{Kind, TABLE};
use serde_json::{Value, json};
use yaml_rust2::YamlLoader;

const SOURCE: &str = "docs/grafana/scaled.toml";
const DASHBOARD: &str = "docs/grafana/scaled.json";
const ALERTS: &str = "docs/prometheus/scaled-alerts.yaml";
const ALERT_TESTS: &str = "docs/prometheus/scaled-alerts-tests.yaml";

fn file(name: &str) -> String {
    read(&root().join(name))
}

fn read_dashboard() -> Value {
    serde_json::from_str(&file(DASHBOARD)).expect("JSON")
}

/// The first cells of a page's tables, where they are names in backticks.
pub fn rows(text: &str) -> BTreeSet<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `"));
    cells.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

/// Panels have ids and places of their own, and show something.
pub fn assert_panels_have_places(dashboard: &Value) {
    let panels = dashboard["panels"].as_array().expect("panels");
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: its id is another's, too");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
        assert!(x + w <= 24, "{title} stands out of the grid");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{title} lies on another panel");
        }
        let targets = panel["targets"].as_array().map_or(0, Vec::len);
        assert_eq!(targets > 0, panel["type"] != "row", "{title}");
    }
    assert!(panels.len() > 20);
}

/// A file of recording rules with every query, for promtool to read.
pub fn rules_of(queries: &[String]) -> String {
    let queries = queries.iter().filter(|query| !query.starts_with("label_values"));
    let rules: Vec<Value> = queries
        .map(|query| filled(query, "1m"))
        .enumerate()
        .map(|(number, query)| json!({"record": format!("query:{number}"), "expr": query}))
        .collect();
    assert!(rules.len() > 40);
    json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()
}

/// Every expression of the alerts.
fn alerts() -> Vec<String> {
    let alerts = YamlLoader::load_from_str(&file(ALERTS)).expect("YAML");
    let groups = alerts[0]["groups"].as_vec().expect("groups");
    let rules = groups.iter().flat_map(|group| group["rules"].as_vec().expect("rules"));
    rules.map(|rule| rule["expr"].as_str().expect("an expression").to_owned()).collect()
}

fn promtool(arguments: &[&str]) {
    let Some(promtool) = installed("promtool") else { return };
    let output = Command::new(promtool).args(arguments).output().expect("promtool");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn the_dashboard_is_made_of_its_source() {
    let made = dashboard(&file(SOURCE));
    if std::env::var_os("SCALED_DASHBOARD").is_some() {
        let text = serde_json::to_string_pretty(&made).expect("plain words") + "\n";
        std::fs::write(root().join(DASHBOARD), text).expect("it can be written");
    }
    assert!(
        read_dashboard() == made,
        "{DASHBOARD} is not what {SOURCE} makes; SCALED_DASHBOARD=write makes it again"
    );
}

#[test]
fn every_metric_of_ours_is_in_the_dashboard_and_it_names_no_other() {
    let shown: BTreeSet<String> =
        queries(&read_dashboard()).iter().flat_map(|query| metrics(query)).collect();
    let ours: BTreeSet<String> = TABLE.iter().map(|metric| metric.name.to_owned()).collect();
    let absent: Vec<_> = ours.difference(&shown).collect();
    assert!(absent.is_empty(), "no panel shows {absent:?}");
    let strange: Vec<_> = shown.difference(&ours).filter(|name| *name != "scrape_duration_seconds").collect();
    assert!(strange.is_empty(), "nobody has {strange:?}");
}

#[test]
fn panels_of_the_dashboard_have_queries_and_places_of_their_own() {
    assert_panels_have_places(&read_dashboard());
}

#[test]
fn the_first_row_says_whether_the_generator_is_honest() {
    let dashboard = read_dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let first = panels.iter().skip(1).take_while(|panel| panel["type"] != "row");
    let shown: BTreeSet<String> = first.flat_map(queries).flat_map(|query| metrics(&query)).collect();
    for name in [
        "scaled_saturated",
        "scaled_worker_busy_ratio",
        "scaled_lateness_seconds",
        "scaled_ticks_missed_total",
        "scaled_ticks_sent_total",
        "scaled_worker_turn_seconds",
    ] {
        assert!(shown.contains(name), "{name} is not among {shown:?}");
    }
}

/// What only grows is shown by how fast it does; a rate of anything else means nothing.
#[test]
fn rates_are_of_counters_and_histograms_and_quantiles_are_of_sums() {
    for query in queries(&read_dashboard()).into_iter().chain(alerts()) {
        for of in ["rate(", "increase("] {
            for (_, rest) in query.match_indices(of).map(|(at, _)| query.split_at(at + of.len())) {
                let name = rest.split(['{', '[']).next().expect("a name").trim_end_matches("_bucket");
                let metric = TABLE.iter().find(|metric| metric.name == name);
                let kind = metric.unwrap_or_else(|| panic!("{name} in {query}")).kind;
                assert!(matches!(kind, Kind::Counter | Kind::Histogram), "{query}");
            }
        }
        for (at, _) in query.match_indices("histogram_quantile(") {
            let inner = query[at..].split_once(", ").expect("a quantile and a vector").1;
            assert!(inner.starts_with("sum "), "{query}");
        }
        assert!(!query.contains("avg"), "{query}: a mean of quantiles or ratios is none");
    }
}

#[test]
fn alerts_name_metrics_that_are_there() {
    let named: BTreeSet<String> = alerts().iter().flat_map(|query| metrics(query)).collect();
    let unknown: Vec<_> = named.iter().filter(|name| TABLE.iter().all(|it| it.name != **name)).collect();
    assert!(named.len() > 8 && unknown.is_empty(), "nobody has {unknown:?}");
}

#[test]
fn promtool_takes_every_query_and_the_alerts_and_their_tests_pass() {
    let folder = Folder::new();
    let rules = folder.write("rules.yaml", &rules_of(&queries(&read_dashboard())));
    promtool(&["check", "rules", &rules]);
    let path = |name: &str| root().join(name).display().to_string();
    promtool(&["check", "rules", &path(ALERTS)]);
    promtool(&["test", "rules", &path(ALERT_TESTS)]);
}

#[test]
fn every_alert_has_a_test_and_a_line_in_the_docs() {
    let (tests, page) = (file(ALERT_TESTS), file("docs/prometheus.md"));
    let text = file(ALERTS);
    let names: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 8);
    for name in names {
        let tested = [format!("alertname: {name}\n"), format!("alertname=\"{name}\"")];
        assert!(tested.iter().any(|named| tests.contains(named)), "{ALERT_TESTS} has no {name}");
        assert!(page.contains(&format!("| `{name}` |")), "docs/prometheus.md has no {name}");
    }
}
