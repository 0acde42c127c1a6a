//! The result as `coder exp scaletest … --output json` has it, beside our own in the same object.
//!
//! Public of it are `runs` by full id with `full_id`, `test_name`, `id` and `logs`
//! (github.com/coder/coder/issues/12157), and a map `metrics` of each run since September 2025
//! (github.com/coder/coder/pull/19886). Bytes stand both in that map and, as before it, beside it.

use scale_api::coder::{Outcome, Ran};
use scale_api::report::Report;
use scale_api::units;
use serde_json::{Map, Value, json};

/// Our report with the original's keys in it, where it has a result of each thing.
pub fn with_results(report: &Report) -> Value {
    let mut value = serde_json::to_value(report).expect("plain values");
    if let (Some(outcome), Value::Object(report)) = (&report.coder, &mut value)
        && !outcome.things.is_empty()
    {
        report.extend(results(outcome));
    }
    value
}

fn results(outcome: &Outcome) -> Map<String, Value> {
    let began = outcome.things.iter().map(|thing| thing.started_at).fold(f64::INFINITY, f64::min);
    let ended = outcome.things.iter().map(|thing| thing.started_at + thing.seconds).fold(began, f64::max);
    let runs: Map<String, Value> = outcome
        .things
        .iter()
        .enumerate()
        .map(|(number, thing)| (format!("{}/{number}", outcome.flow), run(&outcome.flow, number, thing)))
        .collect();
    let totals = json!({
        "runs": runs,
        "total_runs": outcome.succeeded + outcome.failed,
        "total_pass": outcome.succeeded,
        "total_fail": outcome.failed,
        "elapsed": go_duration(ended - began),
        "elapsed_ms": milliseconds(ended - began),
    });
    let Value::Object(totals) = totals else { unreachable!("it is written as one") };
    totals
}

fn run(test: &str, number: usize, thing: &Ran) -> Value {
    let mut metrics = Map::new();
    for (name, bytes) in [("bytes_read", thing.bytes_read), ("bytes_written", thing.bytes_written)] {
        if let Some(bytes) = bytes {
            metrics.insert(name.into(), bytes.into());
        }
    }
    let owner = thing.owner.as_deref().unwrap_or_default();
    let mut run = json!({
        "full_id": format!("{test}/{number}"),
        "test_name": test,
        "id": number.to_string(),
        "logs": format!("workspace={} owner={owner}\n{}", thing.name, thing.output.as_deref().unwrap_or_default()),
        "error": thing.error,
        "started_at": rfc_3339(thing.started_at),
        "duration": go_duration(thing.seconds),
        "duration_ms": milliseconds(thing.seconds),
        "metrics": metrics,
    });
    for (name, bytes) in metrics {
        run[name] = bytes;
    }
    run
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1000.0).round() as u64
}

/// As Go writes a duration: `250ms`, `26.5s`, `1h0m5s`.
fn go_duration(seconds: f64) -> String {
    let ms = milliseconds(seconds);
    let (hours, minutes, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
    if ms < 1000 {
        return if ms == 0 { "0s".into() } else { format!("{ms}ms") };
    }
    let mut text = String::new();
    if hours > 0 {
        text += &format!("{hours}h");
    }
    if hours + minutes > 0 {
        text += &format!("{minutes}m");
    }
    let fraction = format!("{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0');
    text + &format!("{}{}{fraction}s", rest / 1000, if fraction.is_empty() { "" } else { "." })
}

/// Unix time as `2026-01-02T03:04:05.678Z` (RFC 3339).
fn rfc_3339(unix: f64) -> String {
    let ms = milliseconds(unix);
    let seconds = units::utc((ms / 1000) as f64);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (seconds, text) in [
            (0.0, "0s"),
            (0.25, "250ms"),
            (1.0, "1s"),
            (26.566, "26.566s"),
            (60.0, "1m0s"),
            (90.5, "1m30.5s"),
            (3605.0, "1h0m5s"),
        ] {
            assert_eq!(go_duration(seconds), text);
        }
    }

    #[test]
    fn dates_are_of_the_calendar() {
        for (unix, text) in [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (951_782_400.0, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199.999, "2024-02-29T23:59:59.999Z"),
            (1_709_251_200.0, "2024-03-01T00:00:00.000Z"),
            (1_767_225_599.5, "2025-12-31T23:59:59.500Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc_3339(unix), text);
        }
    }

    #[test]
    fn both_results_are_in_one_object_and_no_key_is_in_both() {
        let thing = |name: &str, error: Option<&str>| Ran {
            name: name.into(),
            error: error.map(str::to_owned),
            started_at: 1000.0,
            seconds: 2.5,
            bytes_written: Some(10),
            bytes_read: Some(11),
            ..Ran::default()
        };
        let outcome = Outcome {
            flow: "workspace-traffic".into(),
            succeeded: 1,
            failed: 1,
            things: vec![thing("a", None), thing("b", Some("reset"))],
            ..Outcome::default()
        };
        let ours = serde_json::to_value(Report::default()).unwrap();
        assert!(results(&outcome).keys().all(|key| ours.get(key).is_none()));
        let report = Report { coder: Some(outcome), ..Report::default() };
        let both = with_results(&report);
        assert_eq!(
            (&both["total_runs"], &both["total_pass"], &both["total_fail"]),
            (&2.into(), &1.into(), &1.into())
        );
        assert_eq!(
            (&both["elapsed"], &both["elapsed_ms"], &both["schema"]),
            (&"2.5s".into(), &2500.into(), &0.into())
        );
        let run = &both["runs"]["workspace-traffic/1"];
        assert_eq!((&run["full_id"], &run["id"]), (&"workspace-traffic/1".into(), &"1".into()));
        assert_eq!((&run["error"], &run["bytes_written"]), (&"reset".into(), &10.into()));
        assert_eq!(run["metrics"], json!({"bytes_read": 11, "bytes_written": 10}));
        assert_eq!(both["runs"]["workspace-traffic/0"]["error"], Value::Null);
        assert_eq!(serde_json::from_value::<Report>(both).unwrap(), report, "it is still our own report");
    }
}
