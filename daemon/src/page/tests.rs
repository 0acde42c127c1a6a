use scale_api::report::{Report, Run, SeriesRow};

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
