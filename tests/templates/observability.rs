//! The dashboard and the scrape jobs: they name metrics that are there.

use std::collections::BTreeSet;
use std::process::Command;

use scale_tests::host::{Folder, installed, root};
use scale_tests::repository::read;
use serde_json::{Value, json};

use crate::{page, read_json};

const DASHBOARD: &str = "observability/dashboard.json";

/// The first cells of a page's tables, where they are names in backticks.
fn rows(text: &str) -> BTreeSet<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `"));
    cells.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

/// Every query of the dashboard: of its panels, its variables and its annotations.
fn queries(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![dashboard];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(list) => rest.extend(list),
            Value::Object(table) => {
                for (key, value) in table {
                    match value.as_str() {
                        Some(text) if key == "expr" || key == "query" => found.push(text.to_owned()),
                        _ => rest.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// The metrics that a query names: words with an underscore that are no label, without what a histogram adds.
fn metrics(query: &str) -> BTreeSet<String> {
    const FUNCTIONS: [&str; 3] = ["clamp_min", "histogram_quantile", "label_values"];
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$');
    let words = query.split(word).filter(|word| word.contains('_') && !word.starts_with('$'));
    let words = words.filter(|word| !FUNCTIONS.contains(word));
    words.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn every_metric_of_the_dashboard_is_documented_and_every_one_of_ours_is_in_it() {
    let ours = rows(&read(&root().join("docs/metrics.md")));
    let coders = rows(&page("observability/README.md"));
    let shown: BTreeSet<String> =
        queries(&read_json(DASHBOARD)).iter().flat_map(|query| metrics(query)).collect();
    let unknown: Vec<_> =
        shown.iter().filter(|name| !ours.contains(*name) && !coders.contains(*name)).collect();
    assert!(unknown.is_empty(), "nobody has {unknown:?}");
    for names in [ours, coders] {
        let absent: Vec<_> = names.difference(&shown).collect();
        assert!(!names.is_empty() && absent.is_empty(), "no panel shows {absent:?}");
    }
}

#[test]
fn panels_have_queries_and_places_of_their_own() {
    let dashboard = read_json(DASHBOARD);
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

#[test]
fn prometheus_takes_the_scrape_jobs_and_every_query() {
    let Some(promtool) = installed("promtool") else { return };
    let folder = Folder::new();
    // Debian builds it without its discovery of pods: the rest of those jobs is read all the same.
    let mut discovery = false;
    let jobs: Vec<_> = page("observability/prometheus.yaml")
        .lines()
        .filter_map(|line| {
            let begins = line.trim() == "kubernetes_sd_configs:";
            discovery = begins || (discovery && line.starts_with("      "));
            if begins {
                Some("    static_configs: []".to_owned())
            } else {
                (!discovery).then(|| line.to_owned())
            }
        })
        .collect();
    assert_eq!(jobs.iter().filter(|line| line.contains("static_configs: []")).count(), 2);
    let queries = queries(&read_json(DASHBOARD)).into_iter();
    let queries = queries.filter(|query| query != "prometheus" && !query.starts_with("label_values"));
    let rules: Vec<Value> = queries
        .map(|query| query.replace("$instance", ".*").replace("$__rate_interval", "1m"))
        .enumerate()
        .map(|(number, query)| json!({"record": format!("query:{number}"), "expr": query}))
        .collect();
    assert!(rules.len() > 40);
    let rules = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    for (what, text) in [("config", jobs.join("\n")), ("rules", rules.to_string())] {
        let file = folder.write("prometheus.yaml", &text);
        let output = Command::new(&promtool).args(["check", what, &file]).output().expect("promtool");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&said));
    }
}
