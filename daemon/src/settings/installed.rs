use super::*;

/// The file that packages install as /etc/scaled/scaled.toml.
const INSTALLED: &str = include_str!("../../../systemd/scaled.toml");

/// Its lines `#key = value`, without the mark.
fn defaults() -> String {
    let key = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" = ");
    INSTALLED
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(key)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn the_installed_file_decides_nothing_and_says_each_key_with_its_default() {
    let silent: toml::Table = INSTALLED.parse().expect("TOML");
    assert!(silent.is_empty(), "{silent:?}");
    let said: FileForm = toml::from_str(&defaults()).expect("each default is a value that is taken");
    assert_eq!(said.socket, Some("/run/scaled/control.sock".into()));
    assert_eq!(said.metrics.as_deref(), Some(METRICS));
    assert_eq!(said.state, Some("/var/lib/scaled".into()));
    assert_eq!(said.realtime, Some(Realtime::default()));
    assert_eq!(said.log.as_deref(), Some("info"));
    assert_eq!(said.runs_kept_max, Some(Keep::DEFAULT.runs_max));
    assert_eq!(said.runs_bytes_max.map(|bytes| bytes.0), Some(Keep::DEFAULT.bytes_max));
}

#[test]
fn every_key_stands_in_the_installed_file() {
    let error = toml::from_str::<FileForm>("no_such_key = 1").unwrap_err().to_string();
    let (_, expected) = error.split_once("expected one of").expect("the error lists the keys");
    let keys: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    assert!(keys.contains(&"runs_bytes_max"), "{error}");
    let table: toml::Table = defaults().parse().expect("TOML");
    for key in keys {
        assert!(table.contains_key(key), "systemd/scaled.toml lacks a line #{key} = …");
    }
}
