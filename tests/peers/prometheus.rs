//! Prometheus scrapes a daemon that is at work, and promtool reads what it scraped.

use std::io::Write;
use std::process::{Command, Stdio};

use scale_api::report::Report;
use scale_tests::grafana::{filled, queries};
use scale_tests::host::{Folder, free_port, installed, root, until};
use scale_tests::peer::{Peer, get};
use scale_tests::repository::read;
use scale_tests::{Daemon, Sink, assert_ended_with};
use serde_json::Value;
use yaml_rust2::YamlLoader;

const CONNS: &str = "50";
const ALERTS: &str = "docs/prometheus/scaled-alerts.yaml";
const DASHBOARDS: [&str; 2] = ["docs/grafana/scaled.json", "docs/coder/observability/dashboard.json"];

/// A daemon with a run that goes on until it is stopped.
fn at_work(sink: &Sink) -> Daemon {
    let daemon = Daemon::start_scraped();
    let target = format!("ws://{}/", sink.address);
    let load = ["--conns", CONNS, "--target", &target, "--tick-interval", "500ms", "--name", "scraped"];
    let time = ["--warm-up", "0s", "--duration", "forever", "--drain", "30s"];
    let output = daemon.scalectl(&[&["start", "--detach"], &load[..], &time].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    daemon
}

fn stop(daemon: &Daemon) -> Report {
    let output = daemon.scalectl(&["--json", "stop"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(text.lines().last().expect("a report")).expect("JSON");
    assert_ended_with(0, (output.status.code().expect("an exit code"), &report));
    report
}

/// Prometheus, scraping `addresses` each second.
fn prometheus(addresses: &[&str], folder: &Folder, flags: &[&str]) -> Option<Peer> {
    let program = installed("prometheus")?;
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: ['{}']
scrape_configs:
  - job_name: scaled
    static_configs:
      - targets: {addresses:?}
",
        root().join(ALERTS).display()
    );
    let port = free_port();
    let mut command = Command::new(program);
    let name = |file: &str| format!("{port}-{file}");
    command.arg(format!("--config.file={}", folder.write(&name("prometheus.yml"), &config)));
    command.arg(format!("--storage.tsdb.path={}", folder.path(&name("data")).display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).args(flags);
    let peer = Peer::start(&mut command, port, folder);
    // It takes connections before it answers queries.
    until("Prometheus to be ready", || get(&format!("127.0.0.1:{port}"), "/-/ready").ok());
    Some(peer)
}

/// What an instant query answers: of each series its labels and its value. `None`: the server is not
/// ready yet.
fn ask(prometheus: &Peer, expression: &str) -> Option<Vec<(Value, String)>> {
    let escaped: String = expression
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    let address = format!("127.0.0.1:{}", prometheus.port);
    let answer = match get(&address, &format!("/api/v1/query?query={escaped}")) {
        Ok(answer) => answer,
        Err(answer) if answer.contains(" 503 ") => return None,
        Err(answer) => panic!("{expression}: {answer}"),
    };
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["status"], "success", "{answer}");
    let found = answer["data"]["result"].as_array().expect("a vector");
    let value = |series: &Value| {
        let value = if series["histogram"].is_null() { &series["value"] } else { &series["histogram"] };
        (series["metric"].clone(), value[1].as_str().map_or_else(|| value[1].to_string(), str::to_owned))
    };
    Some(found.iter().map(value).collect())
}

/// The one value of an instant query; `None`: there is none (yet).
fn query(prometheus: &Peer, expression: &str) -> Option<f64> {
    let found = ask(prometheus, expression)?;
    assert!(found.len() <= 1, "{expression} is more than one: {found:?}");
    found.first()?.1.parse().ok()
}

fn until_it_is(prometheus: &Peer, expression: &str, value: f64) {
    until(&format!("{expression} to be {value}"), || {
        query(prometheus, expression).filter(|&now| now == value)
    });
}

#[test]
fn prometheus_scrapes_a_daemon_at_work() {
    let (sink, folder) = (Sink::start(&["--protocol", "ws"]), Folder::new());
    let daemon = at_work(&sink);
    let scraped = daemon.scraped.clone().expect("it says where");
    let Some(prometheus) = prometheus(&[&scraped], &folder, &[]) else { return };
    until_it_is(&prometheus, r#"scaled_streams{state="open"}"#, CONNS.parse().expect("a number"));
    until_it_is(&prometheus, r#"scaled_run_state{state="steady"}"#, 1.0);
    until_it_is(&prometheus, r#"count(scaled_run_info{name="scraped"})"#, 1.0);
    let first = query(&prometheus, "scaled_ticks_sent_total").expect("it was scraped");
    let then = until("scaled_ticks_sent_total to grow", || {
        query(&prometheus, "scaled_ticks_sent_total").filter(|&now| now > first)
    });
    until("response times in Prometheus", || {
        let p99 = "histogram_quantile(0.99, rate(scaled_response_time_seconds_bucket[1m]))";
        query(&prometheus, p99).filter(|&seconds| seconds > 0.0)
    });
    let report = stop(&daemon);
    assert!(report.total.messages_sent as f64 >= then, "{} after {then}", report.total.messages_sent);
    // In the end it has what the report says.
    let total = &report.total;
    until_it_is(&prometheus, "scaled_messages_sent_total", total.messages_sent as f64);
    until_it_is(&prometheus, "scaled_payload_received_bytes_total", total.payload_bytes_received as f64);
    until_it_is(&prometheus, r#"scaled_streams{state="open"}"#, 0.0);
}

/// What promtool finds wrong with a scrape; it must end well and say nothing.
fn assert_promtool_finds_nothing(scrape: &str) {
    let Some(promtool) = installed("promtool") else { return };
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(scrape.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{scrape}", String::from_utf8_lossy(&said));
}

#[test]
fn promtool_finds_nothing_wrong_with_a_scrape() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let idle = Daemon::start_scraped();
    let scrape = |daemon: &Daemon| {
        get(daemon.scraped.as_deref().expect("it says where"), "/metrics").expect("a scrape")
    };
    assert_promtool_finds_nothing(&scrape(&idle));
    let daemon = at_work(&sink);
    let text = until("a scrape of a run", || {
        let open = format!("scaled_streams{{group=\"main\",state=\"open\"}} {CONNS}\n");
        Some(scrape(&daemon)).filter(|text| text.contains(&open))
    });
    assert_promtool_finds_nothing(&text);
    stop(&daemon);
    assert_promtool_finds_nothing(&scrape(&daemon));
}

#[test]
fn a_real_prometheus_is_asked_for_the_targets_own_figures() {
    let (sink, folder) = (Sink::start(&["--protocol", "ws"]), Folder::new());
    let daemon = Daemon::start_scraped();
    let scraped = daemon.scraped.as_deref().expect("it says where");
    let Some(prometheus) = prometheus(&[scraped], &folder, &[]) else { return };
    until_it_is(&prometheus, "up", 1.0);
    let queries = [
        "here = 'sum(up)'",
        "two = '1 + 1'",
        "several = 'scaled_run_state'",
        "nothing = 'no_such_metric_anywhere'",
        "divided = 'sum(up) * 0 / 0'",
        "wrong = 'sum(up'",
        "text = '\"text\"'",
        "range = 'up[1m]'",
    ];
    let text = format!(
        "[[group]]\ntarget = ['ws://{}/']\nconns = 5\nwarm_up = '0s'\nduration = '4s'\ndrain = '30s'\n[observe]\n\
         prometheus = 'http://localhost:{}'\ninterval = '1s'\n[observe.query]\n{}\n\
         [[threshold]]\nexpression = 'observe.here.min == 1'\n",
        sink.address,
        prometheus.port,
        queries.join("\n")
    );
    let (code, report) = daemon.run(&["--file", &folder.write("run.toml", &text)]);
    assert_ended_with(0, (code, &report));
    assert!(report.verdict.thresholds[0].ok, "{:?}", report.verdict);
    assert_eq!(report.observe.keys().collect::<Vec<_>>(), ["here", "two"]);
    assert!(report.observe["two"].samples >= 2 && report.observe["two"].mean == 2.0, "{:?}", report.observe);
    let said = report.warnings.join("\n");
    for part in [
        "several: more than one series",
        "nothing: no series",
        "divided: NaN or infinite",
        "wrong: invalid parameter",
        "no value in steady state: divided, nothing, range and 3 more",
        "instead of one number",
    ] {
        assert_eq!(said.matches(part).count(), 1, "{part}: {said}");
    }
}

/// Two daemons at work and a Prometheus of either kind that scrapes both.
struct Scraped {
    daemons: [Daemon; 2],
    classic: Peer,
    native: Peer,
    _sink: Sink,
    _folder: Folder,
}

impl Scraped {
    fn start() -> Option<Self> {
        let (sink, folder) = (Sink::start(&["--protocol", "ws", "--delay", "5ms"]), Folder::new());
        let daemons = [Daemon::start_scraped(), Daemon::start_scraped()];
        let addresses = [0, 1].map(|n: usize| daemons[n].scraped.clone().expect("it says where"));
        let addresses = [0, 1].map(|n: usize| addresses[n].as_str());
        let classic = prometheus(&addresses, &folder, &[])?;
        let native = prometheus(&addresses, &folder, &["--enable-feature=native-histograms"])?;
        let plan = format!(
            "name = \"scraped\"
[observe]
prometheus = \"http://127.0.0.1:{}\"
interval = \"1s\"
[observe.query]
targets_up = \"sum(up)\"
[[group]]
name = \"echoes\"
target = [\"ws://{}/\"]
conns = {CONNS}
tick_interval = \"50ms\"
warm_up = \"0s\"
duration = \"10m\"
drain = \"30s\"
[[threshold]]
expression = \"response.p99 < 60s\"
",
            classic.port, sink.address
        );
        let plan = folder.write("plan.toml", &plan);
        for daemon in &daemons {
            let output = daemon.scalectl(&["start", "--detach", "--file", &plan]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Some(Self { daemons, classic, native, _sink: sink, _folder: folder })
    }
}

/// What a query of an alert compares with a limit: its left side.
fn compared(expression: &str) -> Vec<&str> {
    let sides = expression
        .split(" or sum")
        .flat_map(|part| part.split(" and on (job, instance) "))
        .flat_map(|part| [" > ", " < ", " == "].map(|sign| part.rsplit_once(sign)));
    sides.flatten().map(|(left, _)| left.trim()).collect()
}

/// Queries that have no answer in a run without failures, losses and marks in a row; Coder's own
/// figures are the deployment's.
fn may_be_empty(query: &str) -> bool {
    query.ends_with("> 0")
        || query.contains("> 1.5")
        || query.contains("coderd_") && !query.contains("coderd_scaletest_")
        || query.contains("job=~\"coder")
        || query.contains("changes(")
}

/// Dashboards and alerts are asked of a Prometheus with native histograms and of one without, which both
/// scrape two load hosts; each query answers, and what it says is what the reports say.
#[test]
fn every_query_of_dashboards_and_alerts_answers_and_agrees_with_the_reports() {
    let Some(scraped) = Scraped::start() else { return };
    let both = [&scraped.classic, &scraped.native];
    for prometheus in both {
        until_it_is(prometheus, r#"sum(scaled_streams{state="open"})"#, 100.0);
        until_it_is(prometheus, r#"sum(scaled_run_state{state="steady"})"#, 2.0);
        until("a figure of the target's own", || {
            query(prometheus, "min(scaled_observe)").filter(|&up| up == 2.0)
        });
    }
    assert!(scraped.daemons[0].scalectl(&["mark", "deploy \"7\" started"]).status.success());
    for prometheus in both {
        until_it_is(prometheus, r#"count(scaled_mark_info{text="deploy \"7\" started"})"#, 1.0);
        until("rates over ten seconds", || {
            query(prometheus, "min(rate(scaled_ticks_sent_total[10s]))").filter(|&rate| rate > 500.0)
        });
        every_query_answers(prometheus);
    }
    let reports = [0, 1].map(|n: usize| stop(&scraped.daemons[n]));
    let sent: u64 = reports.iter().map(|report| report.total.messages_sent).sum();
    for prometheus in both {
        until_it_is(prometheus, "sum(scaled_messages_sent_total)", sent as f64);
    }
    percentiles_agree(&scraped, &reports);
}

fn every_query_answers(prometheus: &Peer) {
    let dashboards = DASHBOARDS.map(|file| serde_json::from_str(&read(&root().join(file))).expect("JSON"));
    let mut asked = 0;
    for dashboard in &dashboards {
        for written in queries(dashboard).iter().filter(|query| !query.starts_with("label_values")) {
            let found = ask(prometheus, &filled(written, "10s")).expect("it is ready");
            assert!(!found.is_empty() || may_be_empty(written), "nothing answers {written}");
            asked += 1;
        }
    }
    let alerts = YamlLoader::load_from_str(&read(&root().join(ALERTS))).expect("YAML");
    for rule in alerts[0]["groups"][0]["rules"].as_vec().expect("rules") {
        let expression = rule["expr"].as_str().expect("an expression");
        assert!(ask(prometheus, expression).is_some(), "it is ready");
        let sides = compared(expression);
        assert!(!sides.is_empty(), "{expression} compares nothing");
        for side in sides.into_iter().filter(|side| !side.starts_with("by ")) {
            assert!(ask(prometheus, side).is_some_and(|found| !found.is_empty()), "nothing answers {side}");
            asked += 1;
        }
    }
    assert!(asked > 100, "{asked}");
}

/// The p99 of Prometheus is within a bucket of the report's, of one host and of both together.
fn percentiles_agree(scraped: &Scraped, reports: &[Report; 2]) {
    const NATIVE: f64 = 1.0443;
    for (daemon, report) in scraped.daemons.iter().zip(reports) {
        let instance = daemon.scraped.as_deref().expect("it says where");
        let count = |name: &str| format!("scaled_response_time_seconds{name}{{instance=\"{instance}\"}}");
        let classic = query(&scraped.classic, &count("_count")).expect("a count");
        let native = query(&scraped.native, &format!("histogram_count({})", count(""))).expect("a count");
        assert_eq!(classic.to_bits(), native.to_bits());
        let counted = report.latency.response.as_ref().expect("samples").count as f64;
        // Prometheus has what came before steady state, too: the rank of its p99 among the report's
        // samples is known that closely.
        assert!(classic >= counted && counted > 0.9 * classic, "{counted} of {classic}");
        let rank = |before: f64| (0.99 * classic - before) / counted;
        let [low, high] = around(report, rank(classic - counted), rank(0.0));
        let p99 = query(&scraped.native, &format!("histogram_quantile(0.99, {})", count(""))).expect("p99");
        assert!(p99 >= low / NATIVE && p99 <= high * NATIVE, "native {p99}: {low} to {high}");
        let p99 =
            query(&scraped.classic, &format!("histogram_quantile(0.99, {})", count("_bucket"))).expect("p99");
        // Classic buckets are at most 2.5 times as wide as they begin.
        assert!(p99 >= low / 2.5 && p99 <= high * 2.5, "classic {p99}: {low} to {high}");
    }
    let of_one = "max(histogram_quantile(0.99, scaled_response_time_seconds))";
    let of_both = "histogram_quantile(0.99, sum(scaled_response_time_seconds))";
    let [one, both] = [of_one, of_both].map(|expression| query(&scraped.native, expression).expect("p99"));
    assert!(both <= one * NATIVE, "{both} of both, {one} of the worse");
    let all = query(&scraped.native, "histogram_count(sum(scaled_response_time_seconds))");
    let echoed: u64 = reports.iter().map(|report| report.total.messages_echoed).sum();
    assert_eq!(all, Some(echoed as f64));
}

/// The points of the report's curve of response times that lie around two quantiles.
fn around(report: &Report, from: f64, to: f64) -> [f64; 2] {
    let curve = &report.percentiles["response"];
    let before = curve.iter().rev().find(|[quantile, _]| *quantile <= from).unwrap_or(&curve[0]);
    let behind = curve.iter().find(|[quantile, _]| *quantile >= to).unwrap_or(&curve[curve.len() - 1]);
    [before[1], behind[1]]
}
