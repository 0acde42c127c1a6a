//! What the documentation shows is true: examples load, links lead somewhere, tables say what the
//! code says, and every flag is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use scale_api::threshold::{Preset, Row, TABLE as TABLE_OF_NAMES, When};
use scale_tests::host::root;
use scale_tests::program;
use scale_tests::repository::{files, name, read};
use scaled::metrics::{Metric, TABLE};
use scaled::stream::class::Class;

fn page(name: &str) -> String {
    read(&root().join(name))
}

/// README.md and every page under docs/, with the places that each links to.
fn links() -> Vec<(PathBuf, Vec<String>)> {
    pages_and(|link| {
        let file = link.split('#').next().unwrap_or("");
        (!file.is_empty() && !file.contains("://")).then(|| file.to_owned())
    })
}

/// README.md and every page under docs/, with what `take` makes of its links.
fn pages_and(take: impl Fn(&str) -> Option<String>) -> Vec<(PathBuf, Vec<String>)> {
    let mut pages = vec![root().join("README.md"), root().join("bench/README.md")];
    pages.extend(files("docs", ".md"));
    let links = |page: PathBuf| {
        let text = read(&page);
        let found = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let found = found.filter_map(&take).collect();
        (page, found)
    };
    pages.into_iter().map(links).collect()
}

#[test]
fn every_example_is_a_run_that_passes_its_checks() {
    for path in files("docs/examples", ".toml") {
        if name(&path).contains("scenario-") {
            let scenario = scale_api::scenario::Scenario::from_toml(&read(&path), &name(&path));
            scenario.expect("loads").check().expect("passes");
            continue;
        }
        let spec = scale_api::spec::Spec::from_toml(&read(&path), &name(&path)).expect("loads");
        spec.check().expect("passes");
    }
}

#[test]
fn every_test_that_the_readme_names_is_there() {
    let sources = ["ctl", "daemon", "bench", "tests"].map(|folder| files(folder, ".rs"));
    let sources: String = sources.iter().flatten().map(|path| read(path)).collect();
    let readme = page("README.md");
    let words = readme.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() >= 3);
    let named: Vec<&str> =
        words.filter(|word| !word.contains(|c: char| c != '_' && !c.is_ascii_alphanumeric())).collect();
    assert!(named.len() >= 8, "the README names its tests");
    for test in named {
        assert!(sources.contains(&format!("fn {test}(")), "the README names {test}, which is not there");
    }
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    for (page, links) in links() {
        for link in links {
            let to = page.parent().expect("a folder").join(&link);
            assert!(to.exists(), "{} links to {link}, which is not there", name(&page));
        }
    }
}

/// What a heading is linked by: as forges and mdBook make it.
fn anchor(heading: &str) -> String {
    let mut text = heading.to_owned();
    // Of a link in a heading its text alone is seen.
    while let Some((from, to)) = text.find("](").and_then(|from| Some((from, from + text[from..].find(')')?)))
    {
        text.replace_range(from..=to, "");
    }
    let kept = text.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_to_a_heading_finds_it() {
    for (page, places) in pages_and(|link| link.contains('#').then(|| link.to_owned())) {
        for place in places.iter().filter(|place| !place.contains("://")) {
            let (file, wanted) = place.split_once('#').expect("only such");
            let to = if file.is_empty() { page.clone() } else { page.parent().expect("a folder").join(file) };
            if to.extension().is_none_or(|ending| ending != "md") {
                continue;
            }
            let text = read(&to);
            let headings = text.lines().filter(|line| line.starts_with('#'));
            let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#')));
            assert!(
                anchors.any(|anchor| anchor == wanted),
                "{} links to {place}, which is not there",
                name(&page)
            );
        }
    }
}

#[test]
fn the_site_has_every_page_and_no_link_out_of_it() {
    let summary = page("docs/SUMMARY.md");
    let docs = root().join("docs").canonicalize().expect("it is there");
    for (page, links) in links() {
        let Some(own) = name(&page).strip_prefix("docs/").map(str::to_owned) else { continue };
        assert!(own == "SUMMARY.md" || summary.contains(&format!("]({own})")), "docs/SUMMARY.md lacks {own}");
        for link in links {
            let to = page.parent().expect("a folder").join(&link).canonicalize().expect("it is there");
            assert!(to.starts_with(&docs), "{} links to {link}, which the site does not have", name(&page));
        }
    }
}

#[test]
fn every_file_of_the_documentation_is_linked_from_somewhere() {
    let mut linked = BTreeSet::new();
    for (page, links) in links() {
        for link in links {
            let to = page.parent().expect("a folder").join(&link).canonicalize().expect("it is there");
            linked.extend((to != page).then_some(to));
        }
    }
    let is_page = |path: &Path| path.extension().is_some_and(|ending| ending == "md");
    let folders: BTreeSet<_> =
        linked.iter().filter(|path| !is_page(path)).filter_map(|path| path.parent()).collect();
    for path in files("docs", "") {
        let path = path.canonicalize().expect("it is there");
        // Pages are read, so each has its link but the list of all; what stands beside a linked file is found by it.
        let by_neighbour = !is_page(&path) && path.parent().is_some_and(|folder| folders.contains(folder));
        let is_of_the_site = path.ends_with("docs/book.toml");
        assert!(
            linked.contains(&path) || by_neighbour || is_of_the_site,
            "nothing links to {}",
            path.display()
        );
    }
}

/// The rows of a page whose first cell is a name in backticks are exactly `expected`, between the
/// heading `section` and the next.
fn assert_rows(file: &str, section: &str, expected: &[String]) {
    let text = page(file);
    let (_, section_text) = text.split_once(section).unwrap_or_else(|| panic!("{file} lacks {section}"));
    let section_text = section_text.split("\n## ").next().unwrap_or(section_text);
    let rows: Vec<&str> = section_text.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(
        rows == expected,
        "{file}, {section}: the table is to say what the code says; write\n{}",
        expected.join("\n")
    );
}

#[test]
fn every_failure_class_stands_in_measuring_with_its_meaning_and_blame() {
    let row = |class: &Class| {
        let blame = format!("{:?}", class.blame()).to_lowercase();
        format!("| `{}` | {blame} | {} |", class.name(), class.meaning())
    };
    let rows: Vec<String> = Class::ALL.iter().map(row).collect();
    assert_rows("docs/measuring.md", "## Failure classes", &rows);
}

#[test]
fn every_name_of_thresholds_and_every_preset_stands_in_thresholds() {
    let row = |row: &Row| {
        let unit = format!("{:?}", row.unit).to_lowercase();
        let when = if row.when == When::Steady { "steady state" } else { "whole run" };
        let by_group = if row.of_a_group { "yes" } else { "no" };
        let stats = row.stats.join("` `");
        format!("| `{}` | `{stats}` | {unit} | {when} | {by_group} | {} |", row.figure, row.meaning)
    };
    assert_rows("docs/thresholds.md", "## Names", &TABLE_OF_NAMES.iter().map(row).collect::<Vec<_>>());
    let preset = |preset: Preset| format!("| `{preset}` | `{}` |", preset.thresholds(true).join("`, `"));
    assert_rows("docs/thresholds.md", "## Presets", &Preset::ALL.map(preset));
}

#[test]
fn every_metric_stands_in_metrics_with_its_meaning() {
    let row = |Metric { name, kind, labels, help }: &Metric| {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", "))
    };
    let mut rows: Vec<String> = TABLE.iter().map(row).collect();
    rows.sort();
    assert_rows("docs/metrics.md", "## All of them", &rows);
}

/// The long flags in a text: `--word`.
fn flags(text: &str) -> BTreeSet<&str> {
    let word = |c: char| !(c.is_ascii_lowercase() || c == '-');
    text.split("--")
        .skip(1)
        .map(|rest| rest.split(word).next().unwrap_or(""))
        .map(|flag| flag.trim_end_matches('-'))
        .filter(|flag| !flag.is_empty())
        .collect()
}

/// The flags that a program's help lists, one at the front of a line.
fn flags_of(command: &str, arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(program(command)).args(arguments).arg("--help").output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let fronts = text.lines().map(|line| line.trim_start()).filter(|line| line.starts_with('-'));
    let found: BTreeSet<String> = fronts.flat_map(flags).map(str::to_owned).collect();
    assert!(found.len() > 3, "{command}: {text}");
    found
}

/// The flags in the first column of a page's tables.
fn rows_of_flags(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let firsts = rows.filter_map(|row| row.split('|').nth(1));
    firsts.flat_map(|cell| flags(cell)).map(str::to_owned).collect()
}

#[test]
fn every_flag_of_start_is_explained_and_none_that_is_not_there() {
    let mut expected = flags_of("scalectl", &["start"]);
    expected.remove("help");
    assert_eq!(rows_of_flags(&page("docs/plan.md")), expected, "docs/plan.md against scalectl start --help");
}

#[test]
fn every_flag_of_the_daemon_is_in_operating() {
    let mut expected = flags_of("scaled", &[]);
    expected.remove("help");
    expected.remove("version");
    let text = page("docs/operating.md");
    let found = flags(&text);
    let missing: Vec<_> = expected.iter().filter(|flag| !found.contains(flag.as_str())).collect();
    assert!(missing.is_empty(), "docs/operating.md lacks {missing:?}");
}
