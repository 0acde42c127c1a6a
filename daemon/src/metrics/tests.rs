//! Scrapes as a whole: every metric is there, both formats say the same, and what an exporter of
//! others writes is what we write.

use std::collections::BTreeSet;

use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use scale_api::report::{Event, SeriesRow, ThresholdResult, Worker};

use super::buckets::Buckets;
use super::*;
use crate::run::marks::Marks;
use crate::run::supervisor::ByGroup;
use crate::stream::class::Class;
use crate::stream::meter::{Counters, Figure, Histograms};

/// A second of a run with so many groups, everything in it above zero.
fn second(groups: usize) -> (Event, Vec<ByGroup>, Vec<Histograms>) {
    let names: Vec<String> = (0..groups).map(|n| format!("group-{n}")).collect();
    let event = Event {
        run: "20261127-1".into(),
        name: Some("a \"run\"".into()),
        state: "steady".into(),
        elapsed: 12.0,
        remaining: Some(48.0),
        now: SeriesRow {
            busy: vec![0.5, 0.25],
            observe: [("coderd_cpu".to_owned(), 0.75)].into(),
            ..SeriesRow::default()
        },
        workers: [2, 3].map(|cpu| Worker { cpu, turn_p99: 1e-4, turn_max: 2e-3, ..Worker::default() }).into(),
        thresholds: vec![
            ThresholdResult {
                expression: "response.p99 < 250ms".into(),
                value: Some(0.1),
                ok: true,
                ..ThresholdResult::default()
            },
            ThresholdResult { expression: "connect.p99 < 2s over 30s".into(), ..ThresholdResult::default() },
            ThresholdResult {
                expression: "disruption.recover.p99 < 30s".into(),
                ok: true,
                why: Some("nobody had to come back".into()),
                ..ThresholdResult::default()
            },
        ],
        ..Event::default()
    };
    let figures = names.iter().enumerate().map(|(n, name)| {
        let mut counters =
            Counters { ticks_due: 1 << 40, ticks_sent: n as u64, connects: 7, ..Counters::default() };
        counters.disconnects.0[Class::Reset as usize] = 3;
        ByGroup { name: name.as_str().into(), counters, standing: [n as u64; _], is_held: n % 2 == 1 }
    });
    let mut histograms = Histograms::default();
    for us in 1..3000u64 {
        Figure::ALL.iter().for_each(|&figure| histograms.record(figure, us * us * 1000));
    }
    (event.clone(), figures.collect(), vec![histograms; groups])
}

fn seen<'a>(event: &'a Event, groups: &[ByGroup], marks: &'a Marks) -> Seen<'a> {
    Seen {
        event,
        started_at: 1.8e9,
        marks,
        groups: groups.to_vec(),
        disrupted: (2, 1013, 4),
        ring: (1, 2),
        ports_skipped: 3,
        workspaces: None,
    }
}

/// A mark, and what has grown with the second.
fn with_it(groups: &[ByGroup], histograms: &[Histograms]) -> (Marks, Grown) {
    let (mut marks, mut grown) = (Marks::default(), Grown::default());
    marks.add(11.5, "deploy \\ started").unwrap();
    grown.take(&histograms[0], histograms);
    let stages: Vec<_> = groups.iter().map(|group| (group.name.clone(), "steady", 1)).collect();
    grown.enter(&stages, 1.8e9 + 12.0);
    (marks, grown)
}

/// A scrape's text of a run with so many groups.
fn text_of(groups: usize) -> String {
    let (event, figures, histograms) = second(groups);
    let (marks, grown) = with_it(&figures, &histograms);
    let seen = seen(&event, &figures, &marks);
    let text = written(Text::default(), |out| figures::run(out, Some(&seen), &grown));
    String::from_utf8(text).unwrap()
}

fn scrape_without_a_run() -> String {
    String::from_utf8(Metrics::default().scrape(Format::Text, None)).unwrap()
}

#[test]
fn every_metric_of_the_table_is_in_every_scrape_once() {
    let daemon = scrape_without_a_run();
    let run = text_of(2);
    for (text, is_whole) in [(&daemon, true), (&run, false)] {
        let helped: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
        let distinct: BTreeSet<&str> = helped.iter().copied().collect();
        assert_eq!(distinct.len(), helped.len());
        assert!(TABLE.iter().all(|metric| !is_whole || distinct.contains(metric.name)), "{distinct:?}");
    }
}

#[test]
fn counters_without_labels_of_a_run_are_there_at_zero_before_the_first() {
    let text = scrape_without_a_run();
    let counters = TABLE.iter().filter(|metric| metric.kind == Kind::Counter && metric.labels.is_empty());
    for Metric { name, .. } in counters {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}\n{text}");
    }
    for line in [
        "scaled_ticks_missed_total{cause=\"generator\"} 0",
        "scaled_runs_total{outcome=\"aborted\"} 0",
        "scaled_run_state{state=\"idle\"} 1",
        "scaled_response_time_seconds_bucket{le=\"+Inf\"} 0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
}

#[test]
fn a_scrape_says_what_the_last_second_was_like() {
    let text = text_of(2);
    for line in [
        "scaled_run_info{run=\"20261127-1\",name=\"a \\\"run\\\"\"} 1",
        "scaled_run_remaining_seconds 48",
        "scaled_stage_start_timestamp_seconds{group=\"group-1\",stage=\"1\"} 1800000012",
        "scaled_marks_total 1",
        "scaled_mark_info{text=\"deploy \\\\ started\"} 1",
        "scaled_mark_timestamp_seconds 1800000011.5",
        "scaled_threshold_ok{threshold=\"response.p99 < 250ms\"} 1",
        "scaled_threshold_ok{threshold=\"disruption.recover.p99 < 30s\"} 1",
        "scaled_observe{name=\"coderd_cpu\"} 0.75",
        "scaled_disruptions_total 2",
        "scaled_disruption_streams_dropped_total 1013",
        "scaled_streams_away 4",
        "scaled_ticks_due_total 2199023255552",
        "scaled_group_ticks_due_total{group=\"group-0\"} 1099511627776",
        "scaled_disconnects_total{group=\"group-0\",class=\"reset\"} 3",
        "scaled_connects_total{group=\"group-0\",result=\"refused\"} 0",
        "scaled_group_response_time_seconds_count{group=\"group-1\"} 2999",
        "scaled_response_time_seconds_count 2999",
        "scaled_worker_busy_ratio{cpu=\"3\"} 0.25",
        "coderd_scaletest_read_errors_total 6",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert!(!text.contains("connect.p99"), "a threshold without a value says nothing");
}

/// The families as the exporter of the `metrics` crate has them: counters and gauges.
struct Exporter {
    recorder: PrometheusRecorder,
    metric: Metric,
    labels: &'static [&'static str],
}

impl Encode for Exporter {
    fn begin_with(&mut self, metric: &Metric, labels: &'static [&'static str]) {
        (self.metric, self.labels) = (*metric, labels);
        let (name, help) = (metric.name.into(), metric.help.into());
        match metric.kind {
            Kind::Counter => self.recorder.describe_counter(name, None, help),
            _ => self.recorder.describe_gauge(name, None, help),
        }
    }

    fn value(&mut self, labels: &[&str], value: f64) {
        const METADATA: Metadata<'static> = Metadata::new("scaled", Level::INFO, None);
        let labels =
            self.labels.iter().zip(labels).map(|(name, value)| Label::new(*name, (*value).to_owned()));
        let key = Key::from_parts(self.metric.name, labels.collect::<Vec<_>>());
        match self.metric.kind {
            Kind::Counter => self.recorder.register_counter(&key, &METADATA).absolute(value as u64),
            _ => self.recorder.register_gauge(&key, &METADATA).set(value),
        }
    }

    fn histogram(&mut self, _: &[&str], _: &Buckets, _: bool) {}

    fn summary(&mut self, _: &[&str], _: &[(f64, f64)]) {}

    fn finish(self) -> Vec<u8> {
        self.recorder.handle().render().into_bytes()
    }
}

fn exporter() -> Exporter {
    Exporter { recorder: PrometheusBuilder::new().build_recorder(), metric: TABLE[0], labels: &[] }
}

#[test]
fn counters_and_gauges_are_what_an_exporter_of_others_writes() {
    let (event, figures, histograms) = second(3);
    let (marks, grown) = with_it(&figures, &histograms);
    let seen = seen(&event, &figures, &marks);
    let is_plain = |name: &str| {
        let metric = TABLE.iter().find(|metric| metric.name == name);
        metric.is_some_and(|metric| matches!(metric.kind, Kind::Counter | Kind::Gauge))
    };
    let lines = |bytes: Vec<u8>| -> BTreeSet<String> {
        let text = String::from_utf8(bytes).unwrap();
        let name = |line: &str| line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").to_owned();
        let name = |line: &str| name(line).split(['{', ' ']).next().unwrap_or_default().to_owned();
        // A family without samples is not in the exporter's text.
        let shown: BTreeSet<String> = text.lines().filter(|line| !line.starts_with('#')).map(name).collect();
        let lines = text.lines().filter(|line| is_plain(&name(line)) && shown.contains(&name(line)));
        lines.map(str::to_owned).collect()
    };
    let ours = lines(written(Text::default(), |out| figures::run(out, Some(&seen), &grown)));
    let theirs = lines(written(exporter(), |out| figures::run(out, Some(&seen), &grown)));
    assert!(ours.len() > 300);
    let (only_ours, only_theirs) = (ours.difference(&theirs), theirs.difference(&ours));
    assert_eq!((only_ours.collect::<Vec<_>>(), only_theirs.collect::<Vec<_>>()), (vec![], vec![]));
}

#[test]
fn the_figures_of_a_second_stay_until_the_next_and_the_daemons_own_do_not() {
    let mut metrics = Metrics::default();
    metrics.count(Outcome::Failed);
    let before = String::from_utf8(metrics.scrape(Format::Text, None)).unwrap();
    metrics.count(Outcome::Failed);
    let after = String::from_utf8(metrics.scrape(Format::Text, None)).unwrap();
    let failed =
        |text: &str, n: u32| text.contains(&format!("scaled_runs_total{{outcome=\"failed\"}} {n}\n"));
    assert!(failed(&before, 1) && failed(&after, 2));
}

#[test]
fn a_run_that_has_begun_has_its_groups_at_zero() {
    let event = Event { run: "1".into(), state: "ramping".into(), ..Event::default() };
    let groups = [ByGroup { name: "main".into(), ..ByGroup::default() }];
    let marks = Marks::default();
    let seen = seen(&event, &groups, &marks);
    let text = written(Text::default(), |out| figures::run(out, Some(&seen), &Grown::default()));
    let text = String::from_utf8(text).unwrap();
    for line in [
        "scaled_streams{group=\"main\",state=\"open\"} 0",
        "scaled_connects_total{group=\"main\",result=\"refused\"} 0",
        "scaled_disconnects_total{group=\"main\",class=\"reset\"} 0",
        "scaled_group_ticks_due_total{group=\"main\"} 0",
        "scaled_group_response_time_seconds_count{group=\"main\"} 0",
        "scaled_mark_timestamp_seconds 0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
}
