use scale_api::disruption::Disruption;
use scale_api::report::{Heat, Report, Run, SeriesRow};

use super::*;

/// A page without data stays below this.
const SHELL_BYTES_MAX: usize = 300_000;

/// The text between two others, `from` being there once.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.split_once(from).unwrap().1.split_once(to).unwrap().0
}

#[test]
fn a_name_cannot_break_out_of_its_page() {
    let name = "</script><script>alert('1')</script><!-- <script> {script} {style}";
    let run = Run { name: Some(name.into()), ..Run::default() };
    let page = super::report(&Report { run, ..Report::default() });
    let data = between(&page, r#"<script type="application/json" id="data">"#, "</script>");
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["run"]["name"], name);
    assert_eq!(page.matches("</script>").count(), shell("report").unwrap().matches("</script>").count());
}

#[test]
fn every_kind_is_one_small_file_with_a_place_for_data() {
    for kind in KINDS {
        let page = shell(kind).unwrap();
        assert!(page.len() < SHELL_BYTES_MAX, "{kind}: {} B", page.len());
        assert!(page.contains(&format!("data-kind=\"{kind}\"")));
        assert!(fill(page, "{}").is_some(), "{kind}");
        for left in ["{kind}", "{policy}", "{style}", "{script}", "{classes}"] {
            assert!(!page.contains(left), "{kind}: {left}");
        }
    }
    assert_eq!(shell("other"), None);
    assert_eq!(live(), shell("live").unwrap());
}

#[test]
fn no_script_takes_the_name_of_another_ones_function() {
    // They share one scope, in which the last of two functions by one name is meant everywhere.
    let lines = SCRIPTS.iter().flat_map(|script| script.lines());
    let names =
        lines.filter_map(|line| line.strip_prefix("function ")?.split_once('(').map(|(name, _)| name));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    assert!(names.len() > 100, "{names:?}");
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
}

#[test]
fn only_what_is_its_own_runs_and_only_the_live_page_may_connect() {
    for kind in KINDS {
        let page = shell(kind).unwrap();
        let policy = between(page, "http-equiv=\"Content-Security-Policy\" content=\"", "\"");
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(policy.contains("connect-src"), kind == "live", "{policy}");
        for (tag, rule) in [("script", "script-src"), ("style", "style-src")] {
            let text = between(page, &format!("<{tag}>"), &format!("</{tag}>"));
            let hash = STANDARD.encode(Sha256::digest(text));
            assert!(policy.contains(&format!("{rule} 'sha256-{hash}'")), "{kind}: {rule}");
        }
        // No address of any place but the licence's own text and the namespace of nothing.
        for word in ["src=\"", "href=\"http", "@import", "url(", "//cdn", "innerHTML", "eval("] {
            assert!(!page.contains(word), "{kind}: {word}");
        }
    }
}

#[test]
fn the_page_knows_every_class() {
    let classes: serde_json::Value = serde_json::from_str(&classes()).unwrap();
    assert_eq!(classes.as_object().unwrap().len(), Class::COUNT);
    assert_eq!(classes["refused"][0], "target");
}

#[test]
fn its_data_is_the_reports_own_but_for_the_series_and_long_lists() {
    let report = Report { series: vec![SeriesRow::default()], schema: 1, ..Report::default() };
    let mut whole = serde_json::to_value(&report).unwrap();
    let mut page: serde_json::Value = serde_json::from_str(&data(&report)).unwrap();
    assert_eq!(page["series"]["at"], serde_json::json!([0.0]));
    (whole["series"], page["series"]) = Default::default();
    assert_eq!(page, whole);
}

#[test]
fn of_a_disruption_the_longest_lists_are_cut_to_those_with_most() {
    let by_address = (1..=500_u64).map(|n| (format!("10.0.{}.{}:443", n / 250, n % 250), n)).collect();
    let one = Disruption {
        mark: Some("kill".into()),
        streams_dropped: 500 * 501 / 2,
        by_address,
        by_class: [("reset".to_owned(), 7)].into(),
        ..Disruption::default()
    };
    let disruptions = vec![one; scale_api::disruption::DISRUPTIONS_MAX];
    let report = Report { disruptions, ..Report::default() };
    let page: serde_json::Value = serde_json::from_str(&data(&report)).unwrap();
    let kept = page["disruptions"][99]["by_address"].as_object().unwrap();
    let least = kept.values().map(|count| count.as_u64().unwrap()).min();
    assert_eq!((kept.len(), least), (20, Some(481)));
    assert_eq!(page["disruptions"][99]["by_class"]["reset"], 7);
    let bytes = super::report(&report).len();
    assert!(bytes < SHELL_BYTES_MAX + 250_000, "{bytes} B");
}

#[test]
fn a_page_with_every_figure_of_a_long_run_stays_below_a_megabyte() {
    let figure = |n: u64, k: u64| (n * 7919 + k * 104_729) as f64 % 1e6 / 3e6;
    let rows = (1..=3600_u64).map(|n| {
        let (some, heat) = (|k| Some(figure(n, k)), Heat::new(&[900 + n % 99; 12]));
        SeriesRow {
            at: n as f64,
            seconds: 1,
            stage: "main/1".into(),
            streams_open: 20_000,
            rate_offered: figure(n, 1) * 1e9,
            rate_sent: figure(n, 2) * 1e9,
            rate_received: figure(n, 3) * 1e9,
            messages_sent: 200_000 + n,
            messages_echoed: 200_000 - n,
            ticks_due: 200_000 + n,
            ticks_missed: n % 50,
            connects_begun: n % 50,
            connects: n % 50,
            connect_failures: n % 7,
            disconnects: n % 7,
            connect_failures_by_class: [("refused".to_owned(), n % 7)].into(),
            disconnects_by_class: [("reset".to_owned(), n % 7)].into(),
            connect_p99: some(4),
            lateness_p50: some(5),
            lateness_p99: some(6),
            lateness_max: some(7),
            service_p50: some(8),
            service_p99: some(9),
            response_p50: some(10),
            response_p90: some(11),
            response_p99: some(12),
            response_max: some(13),
            response_heat: heat.clone(),
            lateness_heat: heat,
            busy_max: figure(n, 14),
            busy: (0..8).map(|k| figure(n, 15 + k)).collect(),
            saturated: false,
            observe: (0..4).map(|k| (format!("query_{k}"), figure(n, 30 + k))).collect(),
        }
    });
    let page = super::report(&Report { series: rows.collect(), ..Report::default() });
    assert!(page.len() < 1_000_000, "{} B", page.len());
    assert!(page.len() > 300_000, "{} B: nothing of the series is there", page.len());
}
