//! The page in a browser: what it shows is what report.json says, and it asks nobody for anything.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use scale_api::coder::{ClassFailures, FailedThing, Outcome, Phases};
use scale_api::report::{Figure, Heat, Mark, Report, Run, SeriesRow};
use scale_api::spec::Spec;
use scale_api::units::thousands;
use scale_tests::host::{Folder, in_repository, installed};
use scale_tests::{Daemon, Sink};
use scaled::page;
use scaled::run::series::Series;
use serde_json::Value;

mod disruptions;
mod find_max;

/// What breaks out of a page that is put together carelessly.
const NAME: &str = "</script><script>alert(1)</script><b>&amp;";
/// Bytes of a page with as many rows as a report can have.
const BYTES_MAX: usize = 1_000_000;
/// A day opens in well under two seconds; this is for a busy machine.
const OPEN_MS_MAX: f64 = 20_000.0;

/// Chromium, driven by page.js. `None`: something of it is not there, which is said.
struct Browser {
    node: PathBuf,
    chromium: PathBuf,
    modules: PathBuf,
}

impl Browser {
    fn installed() -> Option<Self> {
        let node = installed("node")?;
        let chromium = installed("chromium")?;
        in_repository("tests/.peers/node_modules/axe-core")?;
        let driver = in_repository("tests/.peers/node_modules/playwright-core")?;
        Some(Self { node, chromium, modules: driver.parent().expect("node_modules").to_owned() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.node);
        command.arg(in_repository("tests/peers/page.js").expect("ours")).args(arguments);
        command.env("NODE_PATH", &self.modules).env("CHROMIUM", &self.chromium);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What page.js found.
    fn looks(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    }
}

/// Seconds as `scalectl report` has them.
fn seconds(value: f64) -> String {
    match value {
        value if value < 0.001 => format!("{:.0} us", value * 1e6),
        value if value < 1.0 => format!("{:.1} ms", value * 1e3),
        value if value < 120.0 => format!("{value:.1} s"),
        value => format!("{:.0} m {:.0} s", (value / 60.0).floor(), value % 60.0),
    }
}

/// How the figure at a place in report.json is to be shown; `None`: as any number.
fn shown(path: &str, value: f64) -> Option<String> {
    let name = path.rsplit('.').next().expect("a name");
    Some(match name {
        "count" | "samples" | "stalls" => thousands(value as u64),
        "worker" | "rss_peak" | "jain" | "throughput_min_over_mean" => return None,
        "bytes" => format!("{} B", thousands(value as u64)),
        _ if name.contains("bytes") => format!("{} B", thousands(value as u64)),
        _ if name.ends_with("_ratio") || name == "share" => format!("{:.3} %", value * 100.0),
        _ if name.starts_with("rate_") && value >= 1e6 => format!("{:.1} MB/s", value / 1e6),
        _ if name.starts_with("rate_") => format!("{:.1} KB/s", value / 1e3),
        _ if path.contains("latency.") || path.contains(".recover.") || name == "response_p99" => {
            seconds(value)
        }
        _ if path.starts_with("observe.") => return None,
        _ => thousands(value as u64),
    })
}

/// Each figure of a page is the one at its place in report.json, to its last digit, and as people say it.
fn assert_figures(found: &Value, report: &Value) -> usize {
    let figures = found.as_array().expect("figures");
    for figure in figures {
        let (path, text) = (figure["path"].as_str().unwrap(), figure["text"].as_str().unwrap());
        let exact = report.pointer(&format!("/{}", path.replace('.', "/"))).unwrap_or(&Value::Null);
        let Some(exact) = exact.as_f64() else {
            assert_eq!((figure["value"].as_str(), text), (Some(""), "-"), "{path} is {exact}");
            continue;
        };
        let value: f64 = figure["value"].as_str().unwrap().parse().expect("a number");
        // serde_json reads a number to within its last bit.
        assert!((value - exact).abs() <= 2.0 * f64::EPSILON * exact.abs(), "{path}: {value}, not {exact}");
        if let Some(expected) = shown(path, exact) {
            assert_eq!(text, expected, "{path} = {exact}");
        }
    }
    figures.len()
}

/// A run of two groups, one of which finds nobody.
fn run(daemon: &Daemon, sink: &Sink, folder: &Folder) -> Report {
    let file = folder.write(
        "run.toml",
        &format!(
            r#"name = "{NAME}"
               labels = {{ "a \"b\"" = "c\\d" }}
               [[group]]
               name = "there"
               target = ["ws://{address}/echo?key=canary"]
               conns = 20
               ramp = "1s"
               warm_up = "500ms"
               [[group.stage]]
               hold = "2s"
               [[group.stage]]
               conns = 30
               hold = "2s"
               [[group]]
               name = "nobody"
               target = ["ws://127.0.0.1:1/"]
               conns = 3
               ramp = "1s"
               warm_up = "500ms"
               duration = "4s"
               connect_timeout = "5s"
               [[threshold]]
               expression = "there.response.p99 < 100s"
               [[threshold]]
               expression = "connect_failures.count == 0""#,
            address = sink.address
        ),
    );
    let (code, report) = daemon.run(&["-f", &file]);
    assert_ne!(code, 0, "nobody was there");
    report
}

#[test]
fn a_report_in_a_browser_says_what_its_json_says_and_asks_nobody() {
    let Some(browser) = Browser::installed() else { return };
    let (daemon, sink, folder) = (Daemon::start(), Sink::start(&["--protocol", "ws"]), Folder::new());
    let report = run(&daemon, &sink, &folder);
    let file = folder.path("report.html").display().to_string();
    let made = daemon.scalectl(&["report", "--html", &file]);
    let wanted = (Some(i32::from(report.verdict.exit_code)), true);
    assert_eq!((made.status.code(), made.stderr.is_empty()), wanted, "{made:?}");
    let bytes = std::fs::metadata(&file).expect("written").len();
    assert!(bytes < 1_000_000, "{bytes} B");

    let found = browser.looks(&["report", &file, &folder.path("report.pdf").display().to_string()]);
    let json: Value = serde_json::from_slice(&daemon.scalectl(&["--json", "report"]).stdout).expect("JSON");
    assert_eq!(json["run"]["id"], *report.run.id);
    assert!(assert_figures(&found["figures"], &json) > 100);
    let text = found["text"].as_str().expect("text");
    // On a machine too busy to send all that was due it is incomplete.
    let outcome = format!("{:?}", report.verdict.outcome);
    assert_eq!(found["title"], format!("{outcome}: {NAME}"));
    for part in [&*outcome, NAME, "refused", "NOT MET", "there.response.p99 < 100s", "nobody"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("canary"));
    // What the terminal says stands on the page, too.
    let said = daemon.scalectl(&["report"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    for line in said.lines().filter(|line| line.starts_with("  response  ")) {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.for_each(|cell| assert!(text.contains(cell), "{cell} of {line}"));
    }
    let charts = found["charts"].as_array().expect("charts");
    for wanted in ["response", "response-heat", "rates", "streams", "lateness", "connects", "losses", "busy"]
    {
        assert!(charts.contains(&Value::from(format!("chart-{wanted}"))), "{wanted}: {charts:?}");
    }
    // The run file that it shows is the run's own.
    let spec = Spec::from_toml(found["runfile"].as_str().expect("TOML"), "run.toml").expect("loads");
    assert_eq!(spec, Spec { seed: Some(report.run.seed), ..report.spec });
}

#[test]
fn two_runs_beside_each_other_are_one_page_with_what_is_said_of_them() {
    let Some(browser) = Browser::installed() else { return };
    let (daemon, sink, folder) = (Daemon::start(), Sink::start(&["--protocol", "ws"]), Folder::new());
    let target = format!("ws://{}/echo", sink.address);
    let times = ["--ramp", "500ms", "--warm-up", "500ms", "--duration", "4s"];
    let run =
        || daemon.run(&[&["--conns", "10", "--target", &target, "--name", NAME][..], &times].concat()).1;
    let (before, after) = (run(), run());
    let file = folder.path("compare.html").display().to_string();
    let said = daemon.scalectl(&["--json", "compare", &before.run.id, &after.run.id, "--html", &file]);
    let json: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let found = browser.looks(&["opens", &file]);
    let text = found[0]["text"].as_str().expect("text");
    for part in [&*before.run.id, &*after.run.id, "response.p99", "load.delivered_ratio"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    for reason in json["verdict"]["reasons"].as_array().expect("reasons") {
        assert!(text.contains(reason.as_str().expect("text")), "{reason} is not in {text}");
    }
    assert!(found[0]["charts"].as_array().expect("charts").len() >= 5, "{}", found[0]["charts"]);
}

/// A day of seconds with every figure in them, merged as a daemon merges them.
fn day() -> Vec<SeriesRow> {
    let mut series = Series::default();
    for second in 1..=86_400_u64 {
        let wave = (second as f64 / 4000.0).sin() + 1.5;
        let time = |factor: f64| Some(wave * factor * (1.0 + (second % 97) as f64 / 1000.0));
        let counts = |first| Heat { first, counts: (0..14).map(|row| 7919 * (row + second % 13)).collect() };
        let class = |every: u64, name: &str| {
            (second % every == 0).then(|| (name.to_owned(), second % 7 + 1)).into_iter().collect()
        };
        series.push(SeriesRow {
            at: second as f64,
            seconds: 1,
            stage: ["ramping", "main/1", "main/2", "draining"][(second / 21_601) as usize].into(),
            streams_open: 10_000,
            rate_offered: 409.6e6 * wave,
            rate_sent: 409.1e6 * wave,
            rate_received: 408.7e6 * wave,
            messages_sent: 99_990,
            messages_echoed: 99_987,
            ticks_due: 100_000,
            ticks_missed: second % 11,
            connects: second % 5,
            connects_begun: second % 5 + second % 3,
            connect_failures: second % 3,
            disconnects: second % 2,
            connect_failures_by_class: class(31, "timeout"),
            disconnects_by_class: class(17, "reset"),
            connect_p99: time(0.02),
            lateness_p50: time(8e-5),
            lateness_p99: time(4e-4),
            lateness_max: time(3e-3),
            service_p50: time(1.7e-3),
            service_p99: time(6e-3),
            response_p50: time(2e-3),
            response_p90: time(4e-3),
            response_p99: time(7e-3),
            response_max: if second == 50_000 { Some(9.876) } else { time(2e-2) },
            response_heat: counts(6),
            lateness_heat: counts(0),
            busy_max: 0.71,
            busy: (0..8).map(|core| 0.4 + f64::from(core) / 30.0).collect(),
            saturated: second % 9000 == 0,
            observe: [("coderd_cpu", 0.3), ("goroutines", 21_345.0), ("heap", 3.4e9), ("rows", 12.0)]
                .map(|(name, value)| (name.to_owned(), value * wave))
                .into(),
        });
    }
    series.rows().to_vec()
}

/// A flow without any traffic, which failed for one.
fn flow() -> Report {
    let sentence = "the agent never connected in time";
    let coder = Outcome {
        flow: "create-workspaces".into(),
        of: "workspaces".into(),
        requested: 1000,
        succeeded: 999,
        failed: 1,
        failures: [("agent_timeout".into(), ClassFailures { count: 1, sentence: sentence.into() })].into(),
        failed_things: vec![FailedThing {
            kind: "workspace".into(),
            name: "scaletest-r1-7".into(),
            class: "agent_timeout".into(),
            message: sentence.into(),
        }],
        phases: Phases {
            build: Some(Figure { count: 999, p50: 12.0, ..Figure::default() }),
            ..Phases::default()
        },
        ..Outcome::default()
    };
    Report { coder: Some(coder), ..Report::default() }
}

#[test]
fn a_day_of_seconds_opens_at_once_and_keeps_its_worst() {
    let Some(browser) = Browser::installed() else { return };
    let folder = Folder::new();
    let marks = vec![Mark { at: 40_000.0, text: "deploy started".into() }];
    let run = Run { name: Some("a day".into()), started_at: 1.0, ended_at: 86_401.0, ..Run::default() };
    let page = page::report(&Report { series: day(), marks, run, ..flow_free() });
    assert!(page.len() < BYTES_MAX, "{} B", page.len());
    let found = browser.looks(&["opens", &folder.write("day.html", &page)]);
    let took = found[0]["took"].as_f64().expect("ms");
    let rows = found[0]["charts"][0]["rows"].as_u64().expect("rows");
    let _ = writeln!(std::io::stderr(), "a page of {} B with {rows} rows of 24 h: {took:.0} ms", page.len());
    assert!(took < OPEN_MS_MAX && rows > 600, "{took} ms, {rows} rows");
    assert!(found[0]["charts"].as_array().expect("charts").len() >= 14, "{}", found[0]["charts"]);
    assert!(found[0]["text"].as_str().expect("text").contains("max 9.9 s at 13:5"), "the worst is lost");
}

/// A report of streams that has nothing yet.
fn flow_free() -> Report {
    Report { schema: 1, ..Report::default() }
}

#[test]
fn what_has_no_streams_or_nothing_at_all_is_shown_all_the_same() {
    let Some(browser) = Browser::installed() else { return };
    let folder = Folder::new();
    let flow = folder.write("flow.html", &page::report(&flow()));
    let empty = folder.write("empty.html", &page::report(&flow_free()));
    let found = browser.looks(&["opens", &flow, &empty]);
    let text = |at: usize| found[at]["text"].as_str().expect("text");
    let said = "999 of 1,000 workspaces succeeded, 1 failed to connect.";
    assert!(text(0).contains(said) && text(0).contains("agent_timeout"), "{}", text(0));
    assert!(!text(0).contains("Delivered"), "{}", text(0));
    assert!(text(1).contains("Aborted") && !text(1).contains("NaN"), "{}", text(1));
}

#[test]
fn the_live_page_follows_a_run_to_its_verdict() {
    let Some(browser) = Browser::installed() else { return };
    let (daemon, sink) = (Daemon::start_scraped(), Sink::start(&["--protocol", "ws"]));
    let address = daemon.scraped.clone().expect("it is scraped");
    let mut looking = browser.command(&["live", &address]).spawn().expect("it starts");
    let mut errors = BufReader::new(looking.stderr.take().expect("piped"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("a line");
    assert_eq!(line, "open\n");
    let target = format!("ws://{}/echo", sink.address);
    let times = ["--ramp", "1s", "--warm-up", "1s", "--duration", "6s"];
    let (_, report) =
        daemon.run(&[&["--conns", "20", "--target", &target, "--name", "seen"][..], &times].concat());
    errors.read_to_string(&mut line).expect("text");
    let output = looking.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{line}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let outcome = format!("{:?}", report.verdict.outcome);
    assert_eq!(found["ended"], *outcome);
    assert!(assert_figures(&found["figures"], &serde_json::to_value(&report).expect("JSON")) > 50);
}
