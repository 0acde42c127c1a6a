//! The page of `scalectl find-max`: of a search as it went on a sink with `--limit knee=60` (find-max.json is what `--json` printed).

use scale_tests::host::Folder;
use scaled::page;
use serde_json::Value;

use super::{Browser, NAME};

const SOUGHT: &str = include_str!("find-max.json");

fn written(folder: &Folder, name: &str, found: &Value) -> String {
    let shell = page::shell("find-max").expect("there is such a page");
    folder.write(name, &scale_api::page::fill(shell, &found.to_string()).expect("a place for data"))
}

#[test]
fn a_search_says_what_was_found_and_draws_response_against_load() {
    let Some(browser) = Browser::installed() else { return };
    let folder = Folder::new();
    let found: Value = serde_json::from_str(SOUGHT).expect("JSON");
    let pages = browser.looks(&["opens", &written(&folder, "found.html", &found)]);
    let text = pages[0]["text"].as_str().expect("text");
    for sentence in found["sentences"].as_array().expect("sentences") {
        let sentence = sentence.as_str().expect("text");
        assert!(text.contains(sentence), "{sentence} is not in {text}");
    }
    let steps = found["steps"].as_array().expect("steps");
    let said = |word: &str| text.matches(word).count();
    assert!(said("confirmed") >= 1 && said("broke") > 1 && said("held") > 2, "{text}");
    let drawn = &pages[0]["charts"].as_array().expect("charts")[0];
    assert_eq!(drawn["id"], "chart-response-load");
    let loads = drawn["rows"].as_u64().expect("rows");
    assert!((4..=steps.len() as u64).contains(&loads), "{loads} loads of {} steps", steps.len());
}

#[test]
fn a_search_that_found_nothing_and_names_that_break_pages_open_too() {
    let Some(browser) = Browser::installed() else { return };
    let folder = Folder::new();
    let mut none: Value = serde_json::from_str(SOUGHT).expect("JSON");
    for (key, value) in
        [("steps", "[]"), ("broke", "null"), ("knee", "null"), ("recovery", "null"), ("max", "0")]
    {
        none[key] = serde_json::from_str(value).expect("JSON");
    }
    none["outcome"] = "nothing".into();
    let mut odd: Value = serde_json::from_str(SOUGHT).expect("JSON");
    odd["asked"]["group"] = NAME.into();
    odd["warnings"] = serde_json::json!([NAME]);
    odd["steps"][0]["disconnects"] = serde_json::json!({ NAME: 3 });
    for step in odd["steps"].as_array_mut().expect("steps") {
        step["response"] = Value::Null;
        for result in step["broke"].as_array_mut().expect("figures") {
            result["value"] = Value::Null;
        }
    }
    let files = [written(&folder, "none.html", &none), written(&folder, "odd.html", &odd)];
    let pages = browser.looks(&["opens", &files[0], &files[1]]);
    assert!(pages[1]["text"].as_str().is_some_and(|text| text.contains(NAME)), "it stands there as it is");
}
