//! Prometheus scrapes a daemon that is at work, and promtool reads what it scraped.

use std::io::Write;
use std::process::{Command, Stdio};

use scale_api::report::Report;
use scale_tests::host::{Folder, free_port, installed, until};
use scale_tests::peer::{Peer, get};
use scale_tests::{Daemon, Sink, assert_ended_with};
use serde_json::Value;

const CONNS: &str = "50";

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

/// Prometheus, scraping `address` each second.
fn prometheus(address: &str, folder: &Folder) -> Option<Peer> {
    let program = installed("prometheus")?;
    let config = format!(
        "global: {{ scrape_interval: 1s }}
scrape_configs:
  - job_name: scaled
    static_configs:
      - targets: ['{address}']
"
    );
    let port = free_port();
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", folder.write("prometheus.yml", &config)));
    command.arg(format!("--storage.tsdb.path={}", folder.path("data").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Some(Peer::start(&mut command, port, folder))
}

/// The one value of an instant query; `None`: there is none (yet).
fn query(prometheus: &Peer, expression: &str) -> Option<f64> {
    let escaped: String = expression
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    let address = format!("127.0.0.1:{}", prometheus.port);
    let answer = get(&address, &format!("/api/v1/query?query={escaped}")).ok()?;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["status"], "success", "{answer}");
    let found = answer["data"]["result"].as_array().expect("a vector");
    assert!(found.len() <= 1, "{expression} is more than one: {answer}");
    found.first()?["value"][1].as_str()?.parse().ok()
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
    let Some(prometheus) = prometheus(&scraped, &folder) else { return };
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
    let Some(prometheus) = prometheus(daemon.scraped.as_deref().expect("it says where"), &folder) else {
        return;
    };
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
