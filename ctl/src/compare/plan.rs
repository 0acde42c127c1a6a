//! Whether two runs asked for the same: what their plans and hosts do not share, and what of it is too
//! much to judge.

use std::collections::{BTreeMap, BTreeSet};

use scale_api::report::{Outcome, Report};
use scale_api::spec::{Duration, GroupSpec};
use serde_json::Value;

use super::result::Difference;
use super::run::Run;

/// Words of a group that may differ: how it connects, whom it is, how long it waits at the end. All
/// others matter, also those that come to be.
const NAMED_ONLY: [&str; 26] = [
    "breaker",
    "ca",
    "cert",
    "concurrency",
    "connect_rate",
    "connect_timeout",
    "drain",
    "header",
    "header_file",
    "insecure",
    "insecure_host_keys",
    "accept_new",
    "key",
    "known_hosts",
    "ramp",
    "replica_header",
    "silence",
    "source",
    "interface",
    "ssh_certificate",
    "ssh_identity",
    "ssh_passphrase_file",
    "ssh_password_file",
    "start",
    "user_column",
    "warm_up",
];
/// Durations of which one is so many times the other are of one class.
const DURATION_RATIO_MAX: f64 = 2.0;
/// Less steady state than this says nothing about seconds that follow each other.
pub const SECONDS_MIN: u64 = 8;
/// Offered loads that differ by more were changed while a run went.
const OFFERED_RATIO_MAX: f64 = 1.05;

/// What `one` and `other` do not share. Of the words in `allowed` nothing matters.
pub fn differences(one: &Run, other: &Run, allowed: &[String]) -> Vec<Difference> {
    let mut found = Vec::new();
    let groups = |report: &Report| -> BTreeMap<String, GroupSpec> {
        report.spec.group.iter().map(|group| (group.name.clone(), group.clone())).collect()
    };
    let (before, after) = (groups(&one.report), groups(&other.report));
    if before.keys().ne(after.keys()) {
        let names =
            |groups: &BTreeMap<String, GroupSpec>| groups.keys().cloned().collect::<Vec<_>>().join(", ");
        found.push(difference("groups".into(), names(&before), names(&after), true));
    }
    for (name, before) in &before {
        if let Some(after) = after.get(name) {
            found.extend(words(name, before, after, allowed));
        }
    }
    found.extend(loads(&one.report, &other.report, allowed));
    found.extend(surroundings(&one.report, &other.report));
    found
}

/// Whether a group of a run file can have `word`, with `-` or `_`.
pub fn is_word(word: &str) -> bool {
    let group = serde_json::json!({ word.replace('-', "_"): null });
    let read: Result<GroupSpec, _> = serde_json::from_value(group);
    // That it is no value for the word is another matter.
    read.err().is_none_or(|error| !error.to_string().starts_with("unknown field"))
}

fn difference(what: String, base: String, new: String, matters: bool) -> Difference {
    Difference { what, base, new, matters }
}

/// Word by word, as the run file has them.
fn words(name: &str, before: &GroupSpec, after: &GroupSpec, allowed: &[String]) -> Vec<Difference> {
    let fields = |group: &GroupSpec| match serde_json::to_value(group) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (was, is) = (fields(before), fields(after));
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).filter(|key| *key != "name").collect();
    let different = keys.into_iter().filter(|key| was.get(*key) != is.get(*key));
    let one = |key: &String| {
        let matters = match key.as_str() {
            "duration" => !same_class(before.duration, after.duration),
            key => !NAMED_ONLY.contains(&key),
        };
        let matters = matters && !allowed.iter().any(|word| word.replace('-', "_") == *key);
        difference(format!("{name}: {key}"), shown(was.get(key)), shown(is.get(key)), matters)
    };
    different.map(one).collect()
}

fn same_class(one: Option<Duration>, other: Option<Duration>) -> bool {
    match (one, other) {
        (Some(Duration::For(one)), Some(Duration::For(other))) => {
            let ratio = one.seconds() / other.seconds();
            (1.0 / DURATION_RATIO_MAX..=DURATION_RATIO_MAX).contains(&ratio)
        }
        (one, other) => one == other,
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(values)) => {
            values.iter().map(|value| shown(Some(value))).collect::<Vec<_>>().join(", ")
        }
        Some(value) => value.to_string(),
    }
}

/// What was asked for in truth: `set` may have changed the plan while a run went.
fn loads(one: &Report, other: &Report, allowed: &[String]) -> Option<Difference> {
    let is_allowed = ["rate", "bytes_per_tick", "conns", "stage", "tick_interval"]
        .iter()
        .any(|word| allowed.iter().any(|allowed| allowed.replace('-', "_") == *word));
    let (before, after) = (one.load.rate_offered?, other.load.rate_offered?);
    let ratio = before.max(after) / before.min(after).max(f64::MIN_POSITIVE);
    (before.max(after) > 0.0 && ratio > OFFERED_RATIO_MAX).then(|| {
        let shown = |rate: f64| format!("{rate:.0} B/s");
        difference("rate offered".into(), shown(before), shown(after), !is_allowed)
    })
}

/// What is named and no reason not to judge.
fn surroundings(one: &Report, other: &Report) -> Vec<Difference> {
    let cpus = |report: &Report| {
        report.generator.workers.iter().map(|worker| worker.cpu.to_string()).collect::<Vec<_>>().join(",")
    };
    let versions = |report: &Report| {
        let named = report.server_versions.iter().map(|seen| seen.version.as_str());
        let deployments = report.coder.iter().flat_map(|coder| coder.versions.iter().map(String::as_str));
        let names: BTreeSet<&str> = named.chain(deployments).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    let kernel = |report: &Report| report.run.kernel.clone().unwrap_or_default();
    let mut pairs: Vec<(String, String, String)> = vec![
        ("server version".into(), versions(one), versions(other)),
        ("version".into(), one.run.version.clone(), other.run.version.clone()),
        ("kernel".into(), kernel(one), kernel(other)),
        ("workers' cores".into(), cpus(one), cpus(other)),
    ];
    for (kind, before, after) in [
        ("environment", &one.run.environment, &other.run.environment),
        ("label", &one.run.labels, &other.run.labels),
    ] {
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let value = |of: &BTreeMap<String, String>, key| of.get(key).cloned().unwrap_or_default();
        pairs.extend(
            keys.into_iter().map(|key| (format!("{kind} {key}"), value(before, key), value(after, key))),
        );
    }
    let entry = |of: &Report, name: &str| {
        of.host.iter().find(|entry| entry.name == name).map(|entry| entry.value.clone()).unwrap_or_default()
    };
    let names: BTreeSet<&str> = one
        .host
        .iter()
        .chain(&other.host)
        .map(|entry| entry.name.as_str())
        .filter(|name| *name != "kernel")
        .collect();
    pairs.extend(
        names.into_iter().map(|name| (format!("host: {name}"), entry(one, name), entry(other, name))),
    );
    let filled = |text: String| if text.is_empty() { "-".into() } else { text };
    pairs
        .into_iter()
        .filter(|(_, before, after)| before != after)
        .map(|(what, before, after)| difference(what, filled(before), filled(after), false))
        .collect()
}

/// Why a run says nothing that could be compared.
pub fn unfit(run: &Run) -> Option<String> {
    let (report, name) = (&run.report, &run.source);
    let why = |text: &str| {
        let reason = report.verdict.reasons.first().map_or(String::new(), |reason| format!(" ({reason})"));
        Some(format!("{name} {text}{reason}; make it again"))
    };
    match report.verdict.outcome {
        Outcome::Aborted => return why("ended before its time"),
        Outcome::Incomplete => return why("was limited by the generator or its host"),
        Outcome::Passed | Outcome::Failed => {}
    }
    if report.generator.saturated {
        return why("was saturated: its figures are the generator's");
    }
    if report.spec.group.is_empty() {
        return Some(format!("{name} has no load; only runs with streams are compared"));
    }
    (run.seconds() < SECONDS_MIN).then(|| {
        format!(
            "{name} has {} s of steady state; {SECONDS_MIN} s are the least of which anything can be said: lengthen --duration",
            run.seconds()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use scale_api::spec::{Spec, Traffic};
    use scale_api::units::{Rate, Span};

    fn run(change: impl FnOnce(&mut Report)) -> Run {
        let group = GroupSpec {
            name: "main".into(),
            target: vec!["ws://a/".into()],
            conns: Some(10),
            duration: Some(Duration::For(Span::from_secs(60))),
            ..GroupSpec::default()
        };
        let mut report = Report { spec: Spec { group: vec![group], ..Spec::default() }, ..Report::default() };
        report.verdict.outcome = Outcome::Passed;
        change(&mut report);
        Run::new("r1".into(), report)
    }

    /// What differs, and whether it matters.
    fn found(change: impl FnOnce(&mut Report)) -> Vec<(String, bool)> {
        differences(&run(|_| {}), &run(change), &[]).into_iter().map(|it| (it.what, it.matters)).collect()
    }

    #[test]
    fn what_makes_another_load_matters_and_what_only_surrounds_it_is_named() {
        assert_eq!(found(|_| {}), []);
        let one = |what: &str, matters| vec![(what.to_owned(), matters)];
        assert_eq!(found(|r| r.spec.group[0].target = vec!["ws://b/".into()]), one("main: target", true));
        assert_eq!(found(|r| r.spec.group[0].rate = Some(Rate(5))), one("main: rate", true));
        assert_eq!(found(|r| r.spec.group[0].traffic = Traffic::Discard), one("main: traffic", true));
        assert_eq!(found(|r| r.spec.group[0].verify = true), one("main: verify", true));
        assert_eq!(found(|r| r.spec.group[0].name = "other".into()), one("groups", true));
        assert_eq!(found(|r| r.spec.group[0].insecure = true), one("main: insecure", false));
        assert_eq!(found(|r| r.run.kernel = Some("6.1".into())), one("kernel", false));
        assert_eq!(
            found(|r| drop(r.run.labels.insert("build".into(), "7".into()))),
            one("label build", false)
        );
        assert_eq!(found(|r| r.spec.seed = Some(1)), [], "names no difference at all");
    }

    #[test]
    fn durations_are_of_one_class_up_to_twice_as_long() {
        let lasts = |seconds| {
            move |r: &mut Report| {
                r.spec.group[0].duration = Some(Duration::For(Span::from_secs(seconds)));
            }
        };
        assert_eq!(found(lasts(120)), [("main: duration".into(), false)]);
        assert_eq!(found(lasts(121)), [("main: duration".into(), true)]);
        assert_eq!(
            found(|r| r.spec.group[0].duration = Some(Duration::Forever)),
            [("main: duration".into(), true)]
        );
    }

    #[test]
    fn words_are_those_of_a_group() {
        assert!(["target", "tick-interval", "tick_interval", "verify", "stage"].into_iter().all(is_word));
        assert!(!["targets", "", "name of nothing"].into_iter().any(is_word));
    }

    #[test]
    fn what_is_allowed_does_not_matter_and_a_changed_rate_is_seen_without_a_changed_plan() {
        let other = run(|r| r.spec.group[0].bytes_per_tick = Some(scale_api::units::Bytes(5)));
        let matters = |allowed: &[String]| differences(&run(|_| {}), &other, allowed)[0].matters;
        assert!(matters(&[]) && !matters(&["bytes-per-tick".into()]));
        let offered = |rate| move |r: &mut Report| r.load.rate_offered = Some(rate);
        assert_eq!(differences(&run(offered(100.0)), &run(offered(104.0)), &[]), []);
        let set = differences(&run(offered(100.0)), &run(offered(110.0)), &[]);
        assert!(set[0].matters && set[0].what == "rate offered");
    }

    #[test]
    fn runs_that_say_nothing_are_told() {
        let reason = |change: fn(&mut Report)| unfit(&run(change)).expect("unfit");
        assert!(reason(|r| r.verdict.outcome = Outcome::Aborted).contains("before its time"));
        assert!(reason(|r| r.verdict.outcome = Outcome::Incomplete).contains("the generator"));
        assert!(reason(|r| r.generator.saturated = true).contains("saturated"));
        assert!(reason(|r| r.spec.group.clear()).contains("no load"));
        assert!(reason(|_| {}).contains("lengthen --duration"));
    }
}
