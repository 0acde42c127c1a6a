//! The target's own figures beside ours, from a Prometheus made by hand, and named moments.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use scale_api::http::Status;
use scale_api::report::{Event, Mark, Report};
use scale_tests::host::{Folder, until};
use scale_tests::server::serve;
use scale_tests::{Daemon, Sink, assert_ended_with};

use crate::error;
use crate::faults::{start, stop};

/// The head of a request; `None`: the client has gone.
fn head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut piece) = (String::new(), [0; 4096]);
    while !head.contains("\r\n\r\n") {
        let bytes = stream.read(&mut piece).ok().filter(|&bytes| bytes > 0)?;
        head += std::str::from_utf8(&piece[..bytes]).expect("our client's head is text");
    }
    Some(head)
}

/// The query of an instant query's request.
fn query(head: &str) -> String {
    let (_, rest) = head.split_once("GET /prom/api/v1/query?query=").expect("an instant query");
    rest.split(['&', ' ']).next().expect("a first part").to_owned()
}

/// A Prometheus that answers with status and body by query, and the heads that it has seen.
fn prometheus(
    answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let address = serve(move |_, mut stream| {
        while let Some(head) = head(&mut stream) {
            let (status, body) = answer(&query(&head));
            seen.lock().expect("no panic").push(head);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    (format!("http://{address}/prom"), heads)
}

fn vector(values: &[&str]) -> (u16, String) {
    let series: Vec<String> =
        values.iter().map(|value| format!(r#"{{"metric":{{}},"value":[1764243600.1,"{value}"]}}"#)).collect();
    (
        200,
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#, series.join(",")),
    )
}

/// A run of a few streams for `duration`, with `[observe]` of what `queries` says and what else is `more`.
fn file(
    folder: &Folder,
    sink: &Sink,
    duration: &str,
    prometheus: &str,
    queries: &[&str],
    more: &str,
) -> String {
    let queries: Vec<String> = queries.iter().map(|name| format!("{name} = '{name}'\n")).collect();
    let text = format!(
        "[[group]]\ntarget = ['ws://{}/']\nconns = 5\nwarm_up = '0s'\nduration = '{duration}'\n[observe]\n\
         prometheus = '{prometheus}'\ninterval = '1s'\n{more}\n[observe.query]\n{}",
        sink.address,
        queries.concat()
    );
    folder.write("run.toml", &text)
}

/// What is said of the queries.
fn said(report: &Report) -> String {
    let of_observe = report.warnings.iter().filter(|warning| warning.starts_with("[observe]"));
    of_observe.map(String::as_str).collect::<Vec<_>>().join("\n")
}

fn thresholds(expressions: &[&str]) -> String {
    expressions.iter().map(|it| format!("[[threshold]]\nexpression = '{it}'\n")).collect()
}

#[test]
fn the_targets_own_figures_are_in_rows_figures_and_thresholds() {
    let (sink, folder, daemon) = (Sink::start(&["--protocol", "ws"]), Folder::new(), Daemon::start());
    let asked = AtomicUsize::new(0);
    let (url, heads) = prometheus(move |query| match query {
        "cpu" => vector(&[["0.25", "0.5", "0.75"][asked.fetch_add(1, Ordering::Relaxed) % 3]]),
        _ => vector(&["1e9"]),
    });
    folder.write("headers", "Authorization: Bearer canary\n");
    let path = file(&folder, &sink, "5s", &url, &["cpu", "heap"], "header_file = 'headers'");
    let text = std::fs::read_to_string(&path).expect("ours")
        + &thresholds(&[
            "observe.cpu.max < 0.9",
            "observe.cpu.min >= 0.25",
            "observe.heap.last == 1000000000",
        ]);
    let path = folder.write("run.toml", &text);
    let (code, report) = daemon.run(&["--file", &path]);
    assert_ended_with(0, (code, &report));
    assert_eq!(report.verdict.thresholds.iter().map(|it| it.ok).collect::<Vec<_>>(), [true; 3]);
    let cpu = &report.observe["cpu"];
    assert!(cpu.samples >= 3 && (cpu.min, cpu.max) == (0.25, 0.75), "{cpu:?}");
    assert!(cpu.min <= cpu.mean && cpu.mean <= cpu.max);
    let rows: Vec<f64> = report.series.iter().filter_map(|row| row.observe.get("cpu").copied()).collect();
    assert!(rows.len() >= 4 && rows.contains(&0.5), "{rows:?}");
    assert_eq!(said(&report), "");
    let heads = heads.lock().expect("no panic");
    assert!(heads.iter().all(|head| head.contains("authorization: Bearer canary\r\n")), "{heads:?}");
    let kept = serde_json::to_string(&report).expect("plain words");
    assert!(!kept.contains("canary") && !kept.contains("63616e617279"));
    assert_eq!(report.spec.observe.as_ref().map(|it| it.query["cpu"].as_str()), Some("cpu"));
    let text = String::from_utf8(daemon.scalectl(&["report"]).stdout).expect("text");
    assert!(text.contains("observe:      cpu min 0.250000"), "{text}");
}

#[test]
fn what_has_no_value_is_a_warning_and_a_threshold_on_it_is_not_met() {
    let (sink, folder, daemon) = (Sink::start(&["--protocol", "ws"]), Folder::new(), Daemon::start());
    let (url, _) = prometheus(|query| match query {
        "many" => vector(&["1", "2"]),
        "gone" => vector(&[]),
        "nan" => vector(&["NaN"]),
        "wrong" => (400, r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.into()),
        "down" => (503, "no".into()),
        _ => (200, "<html>".into()),
    });
    let names = ["many", "gone", "nan", "wrong", "down", "page"];
    let path = file(&folder, &sink, "2s", &url, &names, "");
    let (code, report) = daemon.run(&["--file", &path]);
    assert_ended_with(0, (code, &report));
    let sentences = said(&report);
    for part in [
        "many: more than one series",
        "gone: no series",
        "nan: NaN or infinite",
        "wrong: parse error (",
        "HTTP 503",
        "page: no answer of a Prometheus instead of one number",
        "no value in steady state: down, gone, many and 3 more",
    ] {
        assert_eq!(sentences.matches(part).count(), 1, "{part}: {sentences}");
    }
    assert!(report.observe.is_empty() && report.series.iter().all(|row| row.observe.is_empty()));
    let path = folder.write(
        "run.toml",
        &(std::fs::read_to_string(path).expect("ours") + &thresholds(&["observe.gone.max < 1"])),
    );
    let (code, report) = daemon.run(&["--file", &path]);
    assert_ended_with(99, (code, &report));
    assert_eq!((report.verdict.thresholds[0].value, report.verdict.thresholds[0].ok), (None, false));
}

#[test]
fn a_prometheus_that_is_not_there_or_says_nothing_delays_no_second() {
    let (sink, folder, daemon) = (Sink::start(&["--protocol", "ws"]), Folder::new(), Daemon::start());
    let path = file(&folder, &sink, "2s", "http://127.0.0.1:9", &["cpu"], "");
    let (code, report) = daemon.run(&["--file", &path]);
    assert_ended_with(0, (code, &report));
    assert!(said(&report).contains("cannot reach http://127.0.0.1:9"), "{:?}", report.warnings);

    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let highest = most.clone();
    let address = serve(move |_, mut stream| {
        most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Until the client gives up.
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
        open.fetch_sub(1, Ordering::SeqCst);
    });
    let path = file(&folder, &sink, "7s", &format!("http://{address}/prom"), &["cpu"], "");
    let output = daemon.scalectl(&["--json", "start", "--file", &path]);
    let lines: Vec<String> =
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect();
    let (last, events) = lines.split_last().expect("a report");
    let report: Report = serde_json::from_str(last).expect("a report");
    assert_ended_with(0, (output.status.code().expect("a code"), &report));
    assert!(said(&report).contains("no answer within 5 s"), "{:?}", report.warnings);
    // The next round may begin before the server has seen the end of this one; rounds that do not wait would be five.
    let at_once = highest.load(Ordering::SeqCst);
    assert!((1..=2).contains(&at_once), "{at_once} rounds at once");
    let seconds: Vec<f64> = events
        .iter()
        .filter_map(|line| serde_json::from_str::<Event>(line).ok())
        .map(|event| event.now.at)
        .filter(|&at| at > 0.0)
        .collect();
    assert!(seconds.len() >= 7 && seconds.windows(2).all(|pair| pair[0] < pair[1]), "{seconds:?}");
}

#[test]
fn an_address_that_is_not_on_the_list_is_refused_with_the_lines_that_allow_it() {
    let (sink, folder, daemon) = (Sink::start(&["--protocol", "ws"]), Folder::new(), Daemon::start());
    let path = file(&folder, &sink, "2s", "http://10.1.2.3:9090", &["cpu"], "");
    for more in [&[][..], &["--dry-run"]] {
        let output = daemon.scalectl(&[&["start", "--file", &path], more].concat());
        let said = error(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("addresses = [\"10.1.2.3/32\"]") && said.contains("ports = [9090]"), "{said}");
    }
    let plan = file(&folder, &sink, "2s", "http://localhost:9", &["cpu"], "");
    let plan =
        String::from_utf8(daemon.scalectl(&["start", "--dry-run", "--file", &plan]).stdout).expect("text");
    assert!(plan.contains("observe: 1 query each 1s, http://localhost:9/api/v1/query"), "{plan}");
}

#[test]
fn marks_are_in_events_in_the_status_and_in_the_report() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), Daemon::start());
    let nobody = daemon.scalectl(&["mark", "x"]);
    assert!(error(&nobody).contains("no run is going") && nobody.status.code() == Some(2));
    let target = format!("ws://{}/", sink.address);
    start(&daemon, &["--conns", "5", "--target", &target]);
    let mut watch = daemon.command(&["--json", "watch"]);
    let mut watched = watch.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(watched.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(daemon.scalectl(&["mark", "deploy", "started"]).status.success());
    let refused = daemon.scalectl(&["mark", "two\nlines"]);
    assert!(error(&refused).contains("one line of 1 to 1000 bytes"), "{}", error(&refused));
    let marks = until("the mark in the status", || {
        let output = daemon.scalectl(&["--json", "status"]);
        let status: Status = serde_json::from_slice(&output.stdout).expect("JSON");
        Some(status.marks)
            .filter(|marks| !marks.is_empty() && status.run.is_some_and(|run| run.elapsed >= 2.0))
    });
    let text = String::from_utf8(daemon.scalectl(&["status"]).stdout).expect("text");
    assert!(text.contains("mark          deploy started at "), "{text}");
    let (_, report) = stop(&daemon);
    assert_eq!(report.marks, marks);
    assert_eq!(report.marks[0].text, "deploy started");
    let said: Vec<Mark> = std::iter::once(first)
        .chain(lines.map_while(Result::ok))
        .filter(|line| !line.starts_with("{\"report\""))
        .filter_map(|line| serde_json::from_str::<Event>(&line).ok())
        .flat_map(|event| event.marks)
        .collect();
    watched.wait().expect("it ends");
    assert_eq!(said, report.marks, "each once");
}
