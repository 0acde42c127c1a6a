//! The table as Markdown, where what is stated is in italics, and as CSV (RFC 4180, lines end with LF), where each column's
//! name begins with where it is from: `stated_`, `asked_`, `measured_`.

use std::collections::BTreeSet;

use scale_api::report::Outcome;
use scale_api::spec::ENVIRONMENT_KEYS;
use scale_api::units::thousands;

use super::Row;
use super::kind::{Connections, Kind};
use crate::export::plain;
use crate::render::{rate, seconds};

/// The columns in words; others that are stated come between the users and the builds.
const STATED: [&str; 6] = ["environment", "CPU", "RAM", "replicas", "database", "users"];
const MEASURED: [&str; 7] =
    ["concurrent builds", "concurrent connections", "echo p99", "version", "date", "verdict", "run"];

/// Keys that any row states beside those that every table has.
fn others(rows: &[Row]) -> Vec<&String> {
    let keys = rows.iter().flat_map(|row| row.stated.keys());
    let other = keys.filter(|key| !ENVIRONMENT_KEYS.contains(&key.as_str()));
    other.collect::<BTreeSet<_>>().into_iter().collect()
}

/// A table with a line that says how to read it.
pub fn markdown(rows: &[Row]) -> String {
    let others = others(rows);
    let head = STATED.map(str::to_owned).into_iter();
    let head = head.chain(others.iter().map(|key| plain(key))).chain(MEASURED.map(str::to_owned));
    let head: Vec<String> = head.collect();
    let mut lines = vec![line(&head), format!("|{}", " --- |".repeat(head.len()))];
    lines.extend(rows.iter().map(|row| {
        let mut cells: Vec<String> = ENVIRONMENT_KEYS
            .iter()
            .map(|key| match *key {
                "replicas" => cell([stated(row, key), addresses(row)]),
                "users" => cell([stated(row, key), users(row)]),
                key => cell([stated(row, key), None]),
            })
            .collect();
        cells.extend(others.iter().map(|key| cell([stated(row, key), None])));
        cells.extend([
            cell([builds(row), None]),
            cell([connections(row), None]),
            cell([echo(row), None]),
            cell([Some(row.measured.versions.join(", ")).map(|versions| plain(&versions)), None]),
            row.date.clone(),
            verdict(row),
            plain(&row.run),
        ]);
        line(&cells)
    }));
    lines.join("\n")
        + "\n\n*In italics: as stated by the operator.* All else was measured by scaled; `N of M`: M were asked for."
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// What there is of it.
fn cell<const N: usize>(parts: [Option<String>; N]) -> String {
    let there: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    if there.is_empty() { "-".into() } else { there.join(", ") }
}

fn stated(row: &Row, key: &str) -> Option<String> {
    let value = row.stated.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())?;
    Some(format!("*{}*", plain(value)))
}

fn users(row: &Row) -> Option<String> {
    row.measured.users.map(|users| format!("{} in the run", thousands(users)))
}

/// One address says nothing of the replicas behind it where those are stated.
fn addresses(row: &Row) -> Option<String> {
    let count = row.measured.addresses.filter(|count| *count > 1 || !row.stated.contains_key("replicas"))?;
    Some(format!("{} address{} answered", thousands(count), if count == 1 { "" } else { "es" }))
}

fn builds(row: &Row) -> Option<String> {
    let asked = thousands(row.asked.builds?);
    let reached = row.measured.builds.map_or("-".into(), thousands);
    Some(format!("{reached} of {asked}"))
}

fn connections(row: &Row) -> Option<String> {
    let kinds = row.measured.connections.iter().map(|measured| {
        let asked = row.of_kind(measured.kind).0.map_or(0, |asked| asked.count);
        let count = thousands(measured.count);
        let of = if measured.count == asked { String::new() } else { format!(" of {}", thousands(asked)) };
        let each = measured.rate_each().map_or(String::new(), |each| format!(", {} each", of_one(each)));
        format!("{count}{of} {}{each}", measured.kind.name())
    });
    let kinds: Vec<String> = kinds.collect();
    (!kinds.is_empty()).then(|| kinds.join("; "))
}

/// Of one connection, which may have next to nothing.
fn of_one(bytes: f64) -> String {
    if bytes < 1000.0 { format!("{bytes:.0} B/s") } else { rate(bytes) }
}

fn echo(row: &Row) -> Option<String> {
    let all = seconds(row.measured.echo_p99?);
    let kinds = row.measured.connections.iter();
    let kinds: Vec<String> =
        kinds.filter_map(|kind| Some(format!("{} {}", kind.kind.name(), seconds(kind.echo_p99?)))).collect();
    Some(if kinds.len() > 1 { format!("{all} ({})", kinds.join(", ")) } else { all })
}

fn verdict(row: &Row) -> String {
    let word = format!("{:?}", row.verdict).to_lowercase();
    if row.verdict == Outcome::Passed { word } else { format!("**{word}**") }
}

/// A head and a line a run.
pub fn csv(rows: &[Row]) -> String {
    let others = others(rows);
    let mut head: Vec<String> = ["run", "name", "date", "verdict", "exit_code"].map(str::to_owned).into();
    let columns = ENVIRONMENT_KEYS.iter().map(|key| format!("stated_{key}"));
    head.extend(columns);
    head.extend(
        [
            "measured_users",
            "measured_addresses",
            "asked_builds",
            "measured_builds",
            "measured_builds_under_way",
        ]
        .map(str::to_owned),
    );
    for kind in Kind::ALL {
        let key = key(kind);
        head.extend([
            format!("asked_{key}"),
            format!("measured_{key}"),
            format!("asked_{key}_bytes_per_second"),
            format!("measured_{key}_bytes_per_second"),
            format!("measured_{key}_echo_p99_seconds"),
        ]);
    }
    head.extend(["measured_echo_p99_seconds", "measured_version", "scaled_version"].map(str::to_owned));
    head.extend(others.iter().map(|key| format!("stated_{key}")));
    let lines = rows.iter().map(|row| values(row, &others));
    let lines: Vec<String> = std::iter::once(head)
        .chain(lines)
        .map(|cells| cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(","))
        .collect();
    lines.join("\n")
}

/// As a column has it.
fn key(kind: Kind) -> String {
    kind.name().to_lowercase().replace(' ', "_")
}

fn values(row: &Row, others: &[&String]) -> Vec<String> {
    fn number(value: Option<impl ToString>) -> String {
        value.map_or(String::new(), |value| value.to_string())
    }
    let stated = |key: &str| row.stated.get(key).cloned().unwrap_or_default();
    let measured = &row.measured;
    let mut cells = vec![
        row.run.clone(),
        row.name.clone().unwrap_or_default(),
        row.date.clone(),
        format!("{:?}", row.verdict).to_lowercase(),
        row.exit_code.to_string(),
    ];
    cells.extend(ENVIRONMENT_KEYS.map(stated));
    cells.extend([measured.users, measured.addresses].map(number));
    cells.extend([row.asked.builds, measured.builds, measured.builds_under_way].map(number));
    for kind in Kind::ALL {
        let (asked, measured) = row.of_kind(kind);
        let rate = |of: Option<&Connections>| number(of.and_then(|of| of.bytes_per_second));
        cells.extend([
            number(asked.map(|asked| asked.count)),
            number(measured.map(|measured| measured.count)),
            rate(asked),
            rate(measured),
            number(measured.and_then(|measured| measured.echo_p99)),
        ]);
    }
    cells.extend([number(measured.echo_p99), measured.versions.join(" "), row.scaled.clone()]);
    cells.extend(others.iter().map(|key| stated(key)));
    cells
}

/// A field, in quotes where it has what separates fields.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
