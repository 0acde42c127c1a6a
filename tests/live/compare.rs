//! `scalectl compare` on reports of real runs: by id and by file, each verdict, each refusal.

use std::process::Output;
use std::sync::LazyLock;

use scale_tests::host::Folder;
use scale_tests::{Daemon, Sink};
use serde_json::{Value, json};

use crate::error;

/// Reports of two runs of one plan against targets that answer after 5 ms and after 60 ms: a difference
/// that no machine is too busy to show. Made once, side by side.
static REPORTS: LazyLock<[Value; 2]> = LazyLock::new(|| {
    let run = |delay: &'static str| {
        std::thread::spawn(move || {
            let sink = Sink::start(&["--protocol", "ws", "--delay", delay]);
            let daemon = Daemon::start();
            let target = format!("ws://{}/", sink.address);
            let words = ["--conns", "40", "--target", &target, "--warm-up", "500ms", "--duration", "12s"];
            let (_, report) = daemon.run(&words);
            let mut report = serde_json::to_value(&report).expect("plain values");
            // A machine that is busy with other tests is no reason to refuse what is tested here.
            report["verdict"] =
                json!({ "outcome": "passed", "exit_code": 0, "reasons": [], "thresholds": [] });
            report["generator"]["saturated"] = json!(false);
            report["load"]["delivered_ratio"] = json!(1.0);
            report["spec"]["group"][0]["target"] = json!(["ws://target/"]);
            report
        })
    };
    let (fast, slow) = (run("5ms"), run("60ms"));
    [fast, slow].map(|run| run.join().expect("a report"))
});

/// A folder of reports, and `scalectl compare` on them.
struct Reports {
    folder: Folder,
    daemon: Daemon,
}

impl Reports {
    fn new() -> Self {
        Self { folder: Folder::new(), daemon: Daemon::start() }
    }

    /// Another run with the figures of `of`, changed.
    fn write(&self, name: &str, of: usize, change: impl FnOnce(&mut Value)) -> String {
        let mut report = REPORTS[of].clone();
        report["run"]["id"] = json!(name);
        change(&mut report);
        self.folder.write(&format!("{name}.json"), &report.to_string())
    }

    fn compare(&self, words: &[&str]) -> Output {
        self.daemon.scalectl(&[&["compare"], words].concat())
    }

    /// The JSON of a comparison that ends with `code`.
    #[track_caller]
    fn json(&self, code: i32, words: &[&str]) -> Value {
        let output = self.compare(&[&["--json"], words].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}{}", error(&output));
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
        assert_eq!(json["verdict"]["exit_code"], code);
        json
    }

    /// What is said where a comparison is refused, with `code`.
    #[track_caller]
    fn refused(&self, code: i32, words: &[&str]) -> String {
        let output = self.compare(words);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &error(&output);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        said
    }
}

/// A name, the reason, and what makes a report so.
type Case = (&'static str, &'static str, fn(&mut Value));

/// A figure of a comparison.
fn figure<'a>(json: &'a Value, name: &str) -> &'a Value {
    let rows = json["figures"].as_array().expect("figures");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} in {rows:?}"))
}

/// A run whose response times are `factor` times as long.
fn stretched(factor: f64, number: u32) -> impl FnOnce(&mut Value) {
    move |report| {
        report["run"]["started_at"] = json!(number);
        for figure in ["response", "service"] {
            for stat in ["p50", "p90", "p99", "p999", "max"] {
                let value = &mut report["latency"][figure][stat];
                *value = json!(value.as_f64().expect("a time") * factor);
            }
        }
    }
}

#[test]
fn a_slower_target_is_worse_a_faster_one_is_better_by_id_file_and_folder() {
    let reports = Reports::new();
    for (id, report) in ["r1-0", "r2-0"].into_iter().zip(&*REPORTS) {
        let folder = reports.daemon.state().join(id);
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join("report.json"), report.to_string()).expect("written");
    }
    let folder = reports.daemon.state().join("r2-0").display().to_string();
    let file = format!("{folder}/report.json");
    for slow in ["r2-0", &folder, &file] {
        let json = reports.json(99, &["r1-0", slow]);
        let p50 = figure(&json, "response.p50");
        assert_eq!((&json["verdict"]["outcome"], &p50["verdict"]), (&json!("worse"), &json!("worse")));
        let [low, change, high] = ["low", "change", "high"].map(|name| p50[name].as_f64().expect("known"));
        assert!(0.0 < low && low < change && change < high, "{p50}");
        assert_eq!(p50["base"], REPORTS[0]["latency"]["response"]["p50"], "the report's own figure");
        assert_eq!(json["verdict"]["evidence"], "weak");
    }
    let json = reports.json(0, &["r2-0", "r1-0"]);
    assert_eq!(json["verdict"]["outcome"], "better");
    assert!(json["notes"][0].as_str().expect("a note").contains("one run each"), "{json}");
    for (side, of) in [("base", 1), ("new", 0)] {
        assert_eq!(json["percentiles"][side], REPORTS[of]["percentiles"]);
        assert!(json["series"][side][0]["response_p99"].as_array().expect("a column").len() >= 8);
    }
    let text = reports.refused(99, &["r1-0", "r2-0"]);
    assert!(text.contains("response.p99") && text.contains("WORSE (weak evidence)"), "{text}");
    let page = reports.folder.path("page.html");
    let words = ["r1-0", "r2-0", "--html", &page.display().to_string()];
    assert!(reports.refused(99, &words).contains("WORSE"));
    let page = std::fs::read_to_string(page).expect("written");
    assert!(page.contains("\"outcome\":\"worse\"") && page.len() < 1_000_000, "{} B", page.len());
}

#[test]
fn runs_that_cannot_be_judged_are_refused_with_the_reason() {
    let reports = Reports::new();
    let base = reports.write("base", 0, |_| {});
    let with = |name: &str, change: fn(&mut Value)| reports.write(name, 0, change);
    let cases: [Case; 7] = [
        ("saturated", "was saturated", |r| r["generator"]["saturated"] = json!(true)),
        ("incomplete", "limited by the generator", |r| r["verdict"]["outcome"] = json!("incomplete")),
        ("aborted", "ended before its time", |r| r["verdict"]["outcome"] = json!("aborted")),
        ("conns", "main: conns is 40 and 50", |r| r["spec"]["group"][0]["conns"] = json!(50)),
        ("target", "main: target is ws://target/ and ws://other/", |r| {
            r["spec"]["group"][0]["target"] = json!(["ws://other/"]);
        }),
        ("set", "rate offered", |r| r["load"]["rate_offered"] = json!(1.0)),
        ("short", "lengthen --duration", |r| {
            r["series"].as_array_mut().expect("rows").truncate(6);
        }),
    ];
    for (name, why, change) in cases {
        let other = with(name, change);
        let json = reports.json(6, &[&base, &other]);
        assert_eq!(json["verdict"]["outcome"], "cannot_judge");
        assert!(json["verdict"]["reasons"].to_string().contains(why), "{why}: {}", json["verdict"]);
        assert!(
            json["figures"]
                .as_array()
                .expect("shown all the same")
                .iter()
                .all(|row| row["verdict"] == "unknown")
        );
    }
    let other = reports.folder.path("target.json").display().to_string();
    reports.write("target", 0, |r| r["spec"]["group"][0]["target"] = json!(["ws://other/"]));
    let json = reports.json(0, &[&base, &other, "--allow-difference", "target"]);
    assert_eq!(
        (&json["differences"][0]["what"], &json["differences"][0]["matters"]),
        (&json!("main: target"), &json!(false))
    );
    let kernel = with("kernel", |r| r["run"]["kernel"] = json!("6.1.0"));
    assert!(
        reports.json(0, &[&base, &kernel])["differences"].to_string().contains("6.1.0"),
        "named, not refused"
    );
}

#[test]
fn several_runs_a_side_and_what_may_be_worse() {
    let reports = Reports::new();
    let side = |name: &str, factor: f64, first: u32| {
        let one = |n: u32| {
            reports.write(
                &format!("{name}{n}"),
                0,
                stretched(factor * (1.0 + 0.01 * f64::from(n)), first + n),
            )
        };
        (0..3).map(one).collect::<Vec<_>>().join(",")
    };
    let (base, same, slower) = (side("base", 1.0, 10), side("same", 1.0, 20), side("slower", 1.5, 30));
    let json = reports.json(0, &["--base", &base, "--new", &same]);
    assert_eq!(
        (&json["verdict"]["outcome"], &json["verdict"]["evidence"]),
        (&json!("no_difference"), &json!("moderate"))
    );
    assert!(json["runs_needed"].to_string().contains("response.p99"), "{json}");
    assert_eq!(figure(&json, "response.p99")["base_runs"].as_array().map(Vec::len), Some(3));
    let worse = ["--base", &base, "--new", &slower];
    let json = reports.json(99, &worse);
    let change = figure(&json, "response.p99")["change"].as_f64().expect("known");
    assert!((change - 0.5).abs() < 0.001, "{change}");

    // What is allowed replaces the rule that is built in, figure by figure.
    let both = ["--max-regression", "response.p99 60%", "--max-regression", "response.p50 20%"];
    let json = reports.json(99, &[&worse[..], &both].concat());
    let results: Vec<&Value> =
        json["regressions"].as_array().expect("two").iter().map(|limit| &limit["result"]).collect();
    assert_eq!(results, ["exceeded", "met"], "in the order of the figures");
    let both = ["--max-regression", "response.p99 60%", "--max-regression", "response.p50 60%"];
    reports.json(0, &[&worse[..], &both].concat());
    // One run each says nothing of a maximum.
    let (one, other) = (reports.write("one", 0, |_| {}), reports.write("other", 0, stretched(1.5, 5)));
    let json = reports.json(
        6,
        &[
            &one,
            &other,
            "--max-regression",
            "response.p50 100%",
            "--max-regression",
            "response.p99 100%",
            "--max-regression",
            "response.max 10%",
        ],
    );
    assert!(json["verdict"]["reasons"].to_string().contains("several runs a side"), "{}", json["verdict"]);
}

#[test]
fn what_makes_no_sense_is_a_mistake_of_usage() {
    let reports = Reports::new();
    let (one, other) = (reports.write("one", 0, |_| {}), reports.write("other", 0, stretched(1.0, 7)));
    for (words, why) in [
        (vec![&one[..]], "2 values required"),
        (vec!["--base", &one], "--new"),
        (vec![&one, &other, "--base", &one, "--new", &other], "cannot be used with"),
        (vec![&one, &one], "the same run"),
        (vec![&one, "r17-0"], "r17-0"),
        (vec![&one, "/nowhere/report.json"], "/nowhere/report.json"),
        (vec![&one, &other, "--max-regression", "response.p98 10%"], "response.p99"),
        (vec![&one, &other, "--max-regression", "response.p99"], "write it as"),
        (vec![&one, &other, "--max-regression", "response.p99 lots"], "no share"),
        (vec![&one, &other, "--max-regression", "response.count 5%"], "counts"),
        (vec![&one, &other, "--allow-difference", "targte"], "no group has such a word"),
    ] {
        let said = reports.refused(2, &words);
        assert!(said.contains(why), "{words:?}: {said}");
    }
}
