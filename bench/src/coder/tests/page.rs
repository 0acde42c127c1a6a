//! docs/coder/stand-in.md says nothing that is not so.

use serde::Deserialize;

use super::*;
use crate::coder::faults;

const PAGE: &str = include_str!("../../../../docs/coder/stand-in.md");

fn section(heading: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(heading).expect(heading);
    rest.split("\n## ").next().expect("a section")
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn is<'de, T: Deserialize<'de>>(word: &'de str) -> bool {
    let word = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(word);
    T::deserialize(word).is_ok()
}

#[test]
fn the_example_of_faults_is_taken() {
    let example: String = section("## Faults")
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(Faults::from_toml(&example).expect("right").struck().count(), 2);
}

#[test]
fn every_kind_of_fault_in_the_table_is_one() {
    let rows = section("## Faults").lines().filter(|line| line.starts_with("| `"));
    let kinds: Vec<&str> = rows.filter_map(|row| row.split('|').nth(1)).flat_map(quoted).collect();
    assert_eq!(kinds.len(), 12);
    assert!(kinds.iter().all(|kind| is::<faults::Kind>(kind)), "{kinds:?}");
}

#[test]
fn every_client_error_in_the_list_is_one() {
    let kinds = quoted(section("## Client errors"));
    assert_eq!(kinds.len(), 17);
    assert!(kinds.iter().all(|kind| is::<Wrong>(kind)), "{kinds:?}");
}

#[test]
fn the_settings_are_those_that_a_file_may_have() {
    let text = section("## What is in it");
    let (_, settings) = text.split_once("is TOML: ").expect("the list");
    let error = Settings::from_toml("nothing = 1").expect_err("no such setting");
    let (_, known) = error.split_once("expected one of ").expect("serde says what there is");
    for name in quoted(known) {
        assert!(settings.contains(&format!("`{name}`")), "`{name}` is missing");
    }
}
