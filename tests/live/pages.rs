//! The page as people get it: live from the metrics listener, and as a file.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use scale_api::http::{Problem, ProblemCode};
use scale_api::report::{Event, Report};
use scale_tests::host::{Folder, until};
use scale_tests::{Daemon, Sink, assert_ended_with};
use serde_json::Value;

use crate::error;
use crate::faults::{event, start, stop};

const LOAD: [&str; 4] = ["--conns", "20", "--tick-interval", "500ms"];
/// What no page may show.
const SECRETS: [&str; 2] = ["of-the-query", "of-the-header"];

/// A page that is open: what it is told.
struct Reader {
    lines: BufReader<TcpStream>,
    /// Everything that it was told.
    text: String,
}

/// One event.
#[derive(Debug)]
enum Told {
    Report { going: bool, report: Value },
    Second(Box<Event>),
}

fn connect(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(daemon.scraped.as_deref().expect("it says where")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a limit");
    stream
}

impl Reader {
    fn open(daemon: &Daemon) -> Self {
        let mut stream = connect(daemon);
        // HTTP/1.0 knows no chunks: the body is what comes.
        stream.write_all(b"GET /live HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("taken");
        let mut reader = Self { lines: BufReader::new(stream), text: String::new() };
        let head: Vec<String> =
            std::iter::from_fn(|| Some(reader.line()).filter(|line| !line.is_empty())).collect();
        assert!(head[0].ends_with(" 200 OK"), "{head:?}");
        assert!(head.iter().any(|line| line == "content-type: text/event-stream"), "{head:?}");
        reader
    }

    fn line(&mut self) -> String {
        let from = self.text.len();
        assert!(self.lines.read_line(&mut self.text).expect("text") > 0, "it ended after {}", self.text);
        self.text[from..].trim_end().to_owned()
    }

    /// The next event, by the letter: its name, its data, an empty line.
    fn next(&mut self) -> Told {
        let mut line = self.line();
        while line.is_empty() || line.starts_with(':') {
            line = self.line();
        }
        let (name, data) = (line, self.line());
        let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("{name}: {data}"));
        let told = match name.as_str() {
            "event: second" => Told::Second(serde_json::from_str(data).expect("an event")),
            "event: report" => {
                let mut told: Value = serde_json::from_str(data).expect("JSON");
                assert_eq!(told.as_object().map(serde_json::Map::len), Some(2), "going and report");
                Told::Report {
                    going: told["going"].as_bool().expect("a word"),
                    report: told["report"].take(),
                }
            }
            name => panic!("{name}"),
        };
        assert_eq!(self.line(), "", "one line of data");
        told
    }

    /// The next report; the seconds before it.
    fn report(&mut self) -> (Vec<Event>, bool, Value) {
        let mut seconds = Vec::new();
        loop {
            match self.next() {
                Told::Second(second) => seconds.push(*second),
                Told::Report { going, report } => return (seconds, going, report),
            }
        }
    }

    fn second(&mut self) -> Event {
        match self.next() {
            Told::Second(second) => *second,
            Told::Report { going, report } => panic!("a report ({going}) of {}", report["run"]["id"]),
        }
    }
}

/// Rows of the seconds that `seconds` are of, one after the other.
#[track_caller]
fn assert_each_second_once(run: &Value, seconds: &[Event]) {
    assert!(!seconds.is_empty());
    for (one, next) in seconds.iter().zip(&seconds[1..]) {
        assert_eq!(next.elapsed, one.elapsed + 1.0, "none is lost where all are read");
    }
    assert!(seconds.iter().all(|second| run["run"]["id"] == *second.run.as_str()));
}

#[test]
fn a_page_that_is_open_sees_each_run_from_its_beginning_to_its_end() {
    let (sink, folder) = (Sink::start(&["--protocol", "ws"]), Folder::new());
    let daemon = Daemon::start_scraped();
    let mut readers = [Reader::open(&daemon), Reader::open(&daemon)];
    for reader in &mut readers {
        let (before, going, report) = reader.report();
        assert!(before.is_empty() && !going && report.is_null(), "no run yet: {report}");
    }
    let header = folder.write("headers", "Authorization: Bearer of-the-header\n");
    let target = format!("ws://{}/?token=of-the-query", sink.address);
    start(&daemon, &[&LOAD[..], &["--target", &target, "--header-file", &header]].concat());
    for reader in &mut readers {
        let (before, going, report) = reader.report();
        assert!(before.is_empty() && going, "its first second comes with a report");
        assert_eq!(report["spec"]["group"][0]["conns"], 20);
        let (seconds, going, again) = reader.report();
        assert!(going && seconds.len() == 10, "another report every 10 s: {}", seconds.len());
        assert_eq!(again["run"], {
            let mut run = report["run"].clone();
            run["ended_at"] = again["run"]["ended_at"].clone();
            run
        });
        assert_each_second_once(&report, &seconds);
    }
    // One that opens now has what went before from its first report.
    let mut late = Reader::open(&daemon);
    let (before, going, so_far) = late.report();
    assert!(before.is_empty() && going && so_far["total"]["messages_sent"].as_u64() > Some(0), "{so_far}");
    assert_each_second_once(&so_far, &[late.second(), late.second()]);
    let (code, report) = stop(&daemon);
    assert_ended_with(0, (code, &report));
    for reader in readers.iter_mut().chain([&mut late]) {
        let ended = std::iter::repeat_with(|| reader.report()).find(|(_, going, _)| !going);
        let (_, _, page) = ended.expect("the end is told");
        assert_eq!(page["verdict"], serde_json::to_value(&report.verdict).expect("JSON"));
        assert_eq!(page["total"], serde_json::to_value(&report.total).expect("JSON"));
    }
    // The same pages see the next run.
    start(&daemon, &[&LOAD[..], &["--target", &target]].concat());
    for reader in &mut readers {
        let (before, going, next) = reader.report();
        assert!(before.is_empty() && going && next["run"]["id"] != report.run.id.as_str(), "{next}");
        assert_each_second_once(&next, &[reader.second()]);
        assert!(SECRETS.iter().all(|secret| !reader.text.contains(secret)), "{}", reader.text);
    }
    stop(&daemon);
    // And one that opens between two runs sees the last.
    let (_, going, last) = Reader::open(&daemon).report();
    assert!(
        !going && last["run"]["id"] != report.run.id.as_str() && last["verdict"]["outcome"].is_string(),
        "{last}"
    );
}

/// A request of a browser's; the answer's head and body.
fn ask(daemon: &Daemon, method: &str, path: &str, host: &str) -> (String, String) {
    let mut stream = connect(daemon);
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\n{host}Origin: http://evil.example\r\nConnection: close\r\n\r\n"
    )
    .expect("taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.to_lowercase(), body.to_owned())
}

#[track_caller]
fn assert_refused((head, body): &(String, String), code: ProblemCode) {
    assert!(head.starts_with(&format!("http/1.1 {} ", code.status())), "{head}");
    let problem: Problem = serde_json::from_str(body).expect("a problem");
    assert!(problem.code == code && problem.detail.len() > 20, "{body}");
}

#[test]
fn the_listener_is_read_only_and_for_this_host_alone() {
    let daemon = Daemon::start_scraped();
    let here = format!("Host: {}\r\n", daemon.scraped.as_deref().expect("it says where"));
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        for path in ["/", "/live", "/metrics"] {
            let answer = ask(&daemon, method, path, &here);
            assert_refused(&answer, ProblemCode::MethodNotAllowed);
            assert!(answer.0.contains("allow: get, head"), "{}", answer.0);
        }
    }
    for path in ["/v1/status", "/v1/runs", "/report", "//"] {
        assert_refused(&ask(&daemon, "GET", path, &here), ProblemCode::NotFound);
        assert_refused(&ask(&daemon, "POST", path, &here), ProblemCode::NotFound);
    }
    for path in ["/", "/live", "/metrics"] {
        // What a name that was made to lead here would ask.
        for host in [
            "Host: evil.example:21112\r\n",
            "Host: 10.0.0.1\r\n",
            "Host: localhost\r\nHost: evil.example\r\n",
        ] {
            assert_refused(&ask(&daemon, "GET", path, host), ProblemCode::WrongHost);
        }
        assert_refused(
            &ask(&daemon, "GET", &format!("http://evil.example{path}"), &here),
            ProblemCode::WrongHost,
        );
    }
    for path in ["/", "/metrics", "/nothing"] {
        for host in [&here, "Host: localhost:9999\r\n", "Host: [::1]:21112\r\n"] {
            let (head, body) = ask(&daemon, "GET", path, host);
            let status = if path == "/nothing" { "404" } else { "200" };
            assert!(head.starts_with(&format!("http/1.1 {status}")) && !body.is_empty(), "{head}");
            for header in [
                "cache-control: no-store",
                "x-content-type-options: nosniff",
                "referrer-policy: no-referrer",
                "content-security-policy: ",
                "frame-ancestors 'none'",
            ] {
                assert!(head.contains(header), "{path} lacks {header}: {head}");
            }
            assert!(!head.contains("access-control"), "{head}");
        }
    }
    let (head, body) = ask(&daemon, "HEAD", "/", &here);
    assert!(head.contains("content-type: text/html") && body.is_empty(), "{head}");
    let (head, body) = ask(&daemon, "HEAD", "/live", &here);
    assert!(head.contains("content-type: text/event-stream") && body.is_empty(), "{head}");
    let (_, page) = ask(&daemon, "GET", "/", &here);
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"), "{page}");
}

#[test]
fn readers_that_never_read_take_nothing_from_the_run_nor_from_those_who_do() {
    const READERS: usize = scaled::control::live::READERS_MAX;
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon = Daemon::start_scraped();
    let mut reader = Reader::open(&daemon);
    let silent: Vec<TcpStream> = (1..READERS)
        .map(|_| {
            let mut stream = connect(&daemon);
            stream.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("taken");
            // Its place is taken when the answer begins.
            stream.peek(&mut [0]).expect("an answer");
            stream
        })
        .collect();
    assert_refused(&ask(&daemon, "GET", "/live", "Host: localhost\r\n"), ProblemCode::TooManyReaders);
    start(&daemon, &[&LOAD[..], &["--target", &format!("ws://{}/", sink.address)]].concat());
    reader.report();
    let (_, _, report) = reader.report();
    let seconds = [reader.second(), reader.second(), reader.second()];
    assert_each_second_once(&report, &seconds);
    assert_eq!(event(&daemon).run, seconds[0].run, "the control socket answers as ever");
    drop(silent);
    until("a place that is free again", || {
        let mut stream = connect(&daemon);
        stream.write_all(b"GET /live HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("taken");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("an answer");
        (head[9..] == *b"200").then_some(())
    });
    let (code, report) = stop(&daemon);
    assert_ended_with(0, (code, &report));
    assert_eq!(sink.counts()["payload_bytes_received"], report.total.payload_bytes_sent);
}

#[test]
fn a_shell_is_there_for_each_kind_of_page() {
    let daemon = Daemon::start();
    let get = |query: &str| {
        let mut stream = UnixStream::connect(daemon.socket()).expect("it listens");
        write!(stream, "GET /v1/page{query} HTTP/1.1\r\nHost: scaled\r\nConnection: close\r\n\r\n")
            .expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        (head.to_lowercase(), body.to_owned())
    };
    for kind in ["report", "compare", "find-max"] {
        let (head, shell) = get(&format!("?kind={kind}"));
        assert!(head.contains("content-type: text/html"), "{head}");
        let page = scale_api::page::fill(&shell, "{\"schema\":1}").expect("it has a place for data");
        assert!(page.contains("{\"schema\":1}") && page.len() > shell.len(), "{kind}");
    }
    for query in ["", "?kind=", "?kind=other", "?report"] {
        assert_refused(&get(query), ProblemCode::Invalid);
    }
}

/// The JSON in a page.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"data\"").expect("a place for data");
    let (data, _) = rest.split_once('>').and_then(|(_, rest)| rest.split_once("</script>")).expect("data");
    serde_json::from_str(data).expect("JSON")
}

fn html(daemon: &Daemon, words: &[&str]) -> (Option<i32>, String, String) {
    let output = daemon.scalectl(&[&["report"], words].concat());
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), error(&output))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_report_is_one_html_file_of_a_run_that_goes_or_has_ended() {
    let (sink, folder) = (Sink::start(&["--protocol", "ws"]), Folder::new());
    let daemon = Daemon::start();
    let file = folder.path("report.html");
    let name = file.display().to_string();
    let (code, _, said) = html(&daemon, &["--html", &name]);
    assert!(code == Some(2) && said.contains("no run is kept here yet") && !file.exists(), "{said}");
    let header = folder.write("headers", "Authorization: Bearer of-the-header\n");
    let target = format!("ws://{}/?token=of-the-query", sink.address);
    start(&daemon, &[&LOAD[..], &["--target", &target, "--header-file", &header]].concat());
    let going = event(&daemon).run;
    let (code, text, said) = html(&daemon, &["current", "--html", &name]);
    let page = std::fs::read_to_string(&file).expect("it is there");
    assert!(code.is_some() && !text.is_empty(), "the text comes, too: {said}");
    assert_eq!(data(&page)["run"]["id"], going.as_str());
    // However a run of a moment has ended: the page says the same.
    let (code, report) = stop(&daemon);
    // Over the file that is there; by its exit code it is the report.
    let (ended, _, said) = html(&daemon, &[&going, "--html", &name]);
    assert_eq!(ended, Some(code), "{said}");
    let page = std::fs::read_to_string(&file).expect("it is there");
    let shown = data(&page);
    assert_eq!(shown["total"], serde_json::to_value(&report.total).expect("JSON"));
    assert_eq!(shown["verdict"], serde_json::to_value(&report.verdict).expect("JSON"));
    assert!(SECRETS.iter().all(|secret| !page.contains(secret)));
    // The same on stdout, alone, and as the run itself kept it.
    let (ended, stdout, _) = html(&daemon, &["--html", "-"]);
    assert!(ended == Some(code) && stdout == page);
    let kept = daemon.state().join(&going).join("report.html");
    assert!(std::fs::read_to_string(&kept).expect("the run kept it") == page);
    // Of a run that has kept none, such as an older version's, it is made.
    std::fs::remove_file(&kept).expect("it is ours");
    let (ended, made, _) = html(&daemon, &[&going, "--html", "-"]);
    assert_eq!((ended, &data(&made)["verdict"]), (Some(code), &data(&page)["verdict"]));
    let output = daemon.scalectl(&["--json", "report", "--html", &name]);
    let json: Report = serde_json::from_slice(&output.stdout).expect("JSON, and the file beside it");
    assert_eq!(json, report);
    for (words, why) in [
        (&["--html", &folder.path("missing/report.html").display().to_string()][..], "--html: cannot write"),
        (&["--html", &folder.path("").display().to_string()][..], "no file; give another name"),
        (&["--html", "/dev/null"][..], "no file; give another name"),
        (&["none", "--html", &name][..], "no run `none` is kept here"),
        (&["--json", "--html", "-"][..], "give --html a file"),
    ] {
        let (code, stdout, said) = html(&daemon, words);
        assert!(code == Some(2) && said.contains(why) && stdout.is_empty(), "{words:?}: {said}");
    }
    assert_eq!(names(&folder.path("")), ["headers", "report.html"], "nothing half written is left");
    assert!(std::fs::read_to_string(&file).expect("it is there") == page, "what failed has changed nothing");
}
