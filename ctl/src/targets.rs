//! `targets`: what may be hit from here, how much, and by whom.

use scale_api::http::{TargetRule, TargetUse, Targets};
use scale_api::report::StartedBy;
use scale_api::units::thousands;

use crate::render::rate;

/// A user as a line names him: `alice`, or `uid 1001`.
pub fn user(by: &StartedBy) -> String {
    by.user.clone().unwrap_or_else(|| format!("uid {}", by.uid))
}

/// The list as a table. Below each cap stands what the run that is going takes of it.
pub fn table(targets: &Targets) -> String {
    let head = ["host", "addresses", "ports", "streams", "connects/s", "bytes/s", "for", "you"];
    let mut rows: Vec<[String; 8]> = vec![head.map(str::to_owned)];
    for rule in &targets.list {
        rows.extend(lines(rule));
    }
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = match &targets.file {
        Some(file) => vec![format!("{file}: the first line that fits decides")],
        None => vec!["no targets.toml: loopback only".to_owned()],
    };
    text.extend(rows.iter().map(line));
    if targets.list.is_empty() {
        text.push("nothing: the list has no [[target]]".into());
    }
    for pin in &targets.coder {
        text.push(format!("Coder deployment {}: {}", pin.deployment_id, pin.allow.join(", ")));
    }
    if let Some(caller) = &targets.caller {
        text.push(format!("you are {} (uid {}, gid {})", user(caller), caller.uid, caller.gid));
    }
    text.join("\n")
}

/// The lines of a rule: its own, further addresses, and what is used.
fn lines(rule: &TargetRule) -> Vec<[String; 8]> {
    let cap = |cap: Option<String>| cap.unwrap_or_else(|| "-".into());
    let ports: Vec<String> = rule.ports.iter().map(u16::to_string).collect();
    let whom =
        |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
    let whom: Vec<String> =
        [whom("users", &rule.users), whom("groups", &rule.groups)].into_iter().flatten().collect();
    let mut lines = vec![[
        rule.host.clone().unwrap_or_else(|| "any".into()),
        rule.addresses.first().cloned().unwrap_or_default(),
        if ports.is_empty() { "any".into() } else { ports.join(",") },
        cap(rule.streams_max.map(thousands)),
        cap(rule.connects_per_second_max.map(number)),
        cap(rule.bytes_per_second_max.map(|bytes| rate(bytes as f64))),
        if whom.is_empty() { "all".into() } else { whom.join("; ") },
        if rule.allowed { "yes" } else { "no" }.into(),
    ]];
    for address in rule.addresses.iter().skip(1) {
        let mut line: [String; 8] = Default::default();
        line[1].clone_from(address);
        lines.push(line);
    }
    if let Some(TargetUse { streams, connects_per_second, bytes_per_second }) = rule.used {
        let mut line: [String; 8] = Default::default();
        line[0] = "  a run takes".into();
        (line[3], line[4]) = (thousands(streams), number(connects_per_second));
        line[5] = rate(bytes_per_second);
        lines.push(line);
    }
    lines
}

/// `500`, `2.5`.
fn number(number: f64) -> String {
    if number.fract() == 0.0 { thousands(number as u64) } else { format!("{number:.1}") }
}

#[cfg(test)]
mod tests {
    use scale_api::http::CoderRule;

    use super::*;

    #[test]
    fn the_table_says_what_may_be_hit_how_much_by_whom_and_what_is_used() {
        let targets = Targets {
            file: Some("/etc/scaled/targets.toml".into()),
            list: vec![
                TargetRule {
                    host: Some("gw.example.com".into()),
                    addresses: vec!["10.1.0.0/16".into(), "fd00::/8".into()],
                    ports: vec![443, 8443],
                    streams_max: Some(50_000),
                    connects_per_second_max: Some(500.0),
                    bytes_per_second_max: Some(400_000_000),
                    users: vec!["alice".into(), "1002".into()],
                    groups: vec!["perf".into()],
                    allowed: true,
                    used: Some(TargetUse {
                        streams: 20_000,
                        connects_per_second: 2.5,
                        bytes_per_second: 81_920_000.0,
                    }),
                },
                TargetRule { addresses: vec!["127.0.0.0/8".into()], ..TargetRule::default() },
            ],
            coder: vec![CoderRule { deployment_id: "6ba7b810".into(), allow: vec!["create".into()] }],
            caller: Some(StartedBy { uid: 1001, gid: 100, pid: 7, user: Some("alice".into()) }),
            ..Targets::default()
        };
        let wanted = "\
/etc/scaled/targets.toml: the first line that fits decides
host            addresses    ports     streams  connects/s  bytes/s   for                             you
gw.example.com  10.1.0.0/16  443,8443  50,000   500         400.0 MB/s   users alice, 1002; groups perf  yes
                fd00::/8
  a run takes                          20,000   2.5         81.9 MB/s
any             127.0.0.0/8  any       -        -           -         all                             no
Coder deployment 6ba7b810: create
you are alice (uid 1001, gid 100)";
        let squeeze = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        let table = table(&targets);
        assert_eq!(squeeze(&table), squeeze(wanted));
        let column = |line: usize, word: &str| table.lines().nth(line).and_then(|line| line.find(word));
        assert_eq!(column(1, "streams"), column(2, "50,000"));
        assert_eq!(column(1, "streams"), column(4, "20,000"));
        assert_eq!(column(1, "for"), column(5, "all"));
    }

    #[test]
    fn without_a_list_it_says_so() {
        assert!(super::table(&Targets::default()).starts_with("no targets.toml: loopback only"));
    }
}
