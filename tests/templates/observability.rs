//! The dashboard and the scrape jobs: they name metrics that are there.

use std::collections::BTreeSet;
use std::process::Command;

use scale_tests::grafana::{metrics, queries};
use scale_tests::host::{Folder, installed, root};
use scale_tests::repository::read;

use crate::dashboards::{assert_panels_have_places, rows, rules_of};
use crate::{page, read_json};

const DASHBOARD: &str = "observability/dashboard.json";

#[test]
fn every_metric_of_the_dashboard_is_documented_and_every_one_of_coders_is_in_it() {
    let ours = rows(&read(&root().join("docs/metrics.md")));
    let coders = rows(&page("observability/index.md"));
    let shown: BTreeSet<String> =
        queries(&read_json(DASHBOARD)).iter().flat_map(|query| metrics(query)).collect();
    let unknown: Vec<_> =
        shown.iter().filter(|name| !ours.contains(*name) && !coders.contains(*name)).collect();
    assert!(unknown.is_empty(), "nobody has {unknown:?}");
    let absent: Vec<_> = coders.difference(&shown).collect();
    assert!(!coders.is_empty() && absent.is_empty(), "no panel shows {absent:?}");
}

#[test]
fn panels_have_queries_and_places_of_their_own() {
    assert_panels_have_places(&read_json(DASHBOARD));
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
    let rules = rules_of(&queries(&read_json(DASHBOARD)));
    for (what, text) in [("config", jobs.join("\n")), ("rules", rules)] {
        let file = folder.write("prometheus.yaml", &text);
        let output = Command::new(&promtool).args(["check", what, &file]).output().expect("promtool");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&said));
    }
}
