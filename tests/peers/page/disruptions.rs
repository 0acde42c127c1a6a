//! Disruptions on the page: of a report that is kept, and of a run that goes, whose seconds are made up here.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scale_api::disruption::{Disruption, Recover, Storm};
use scale_api::report::{Event, Exit, Mark, Outcome, Report, Run, SeriesRow, ThresholdResult, Verdict};
use scale_tests::host::Folder;
use scaled::page;

use super::{Browser, NAME, assert_figures};

/// Unix time of the made-up runs: 02:13:07 UTC.
const STARTED_AT: f64 = 7_987.0;
const SECONDS: u64 = 120;
/// Seconds that are told at most while nobody has seen the first.
const SECONDS_UNSEEN_MAX: u64 = 600;

/// One that was marked and expected, from which all but four came back.
fn marked() -> Disruption {
    Disruption {
        at: 60.0,
        until: Some(90.0),
        mark: Some(NAME.into()),
        marked_at: Some(60.0),
        expected: Some(30.0),
        streams: 2000,
        streams_dropped: 1013,
        share: Some(0.5065),
        users: Some(1500),
        users_affected: Some(811),
        by_class: [("reset".to_owned(), 1000), ("closed".to_owned(), 13)].into(),
        by_replica: [("coderd-1".to_owned(), 1013)].into(),
        by_address: [("10.0.0.1:443".to_owned(), 1000)].into(),
        reconnected: 1009,
        recover: Some(Recover { p50: 2.0, p99: 8.2, max: 9.05 }),
        never_back: 4,
        bytes_lost: 12_345,
        lost_unknown: 2,
        version_before: Some("v2.1.0".into()),
        version_after: Some("v2.2.0".into()),
        storm: Storm {
            offered: 1500,
            answered: 1009,
            refused: 491,
            offered_per_second_max: 250,
            answered_per_second_max: 190,
        },
        delivered_ratio: Some(0.75),
        response_p99: Some(0.25),
        ..Disruption::default()
    }
}

/// One that nobody marked, as it stands after `seconds`.
fn unmarked(back: u64) -> Disruption {
    Disruption {
        at: 100.0,
        until: None,
        streams: 2000,
        streams_dropped: 200,
        share: Some(0.1),
        reconnected: back,
        recover: (back > 0).then_some(Recover { p50: 0.25, p99: 0.75, max: 0.8 }),
        never_back: 200 - back,
        ..Disruption::default()
    }
}

fn row(at: u64) -> SeriesRow {
    SeriesRow {
        at: at as f64,
        seconds: 1,
        stage: "main/1".into(),
        streams_open: 2000,
        rate_offered: 1e6,
        rate_sent: 1e6,
        rate_received: 1e6,
        connects: 1,
        lateness_p50: Some(1e-4),
        lateness_p99: Some(2e-4),
        response_p50: Some(0.002),
        response_p90: Some(0.003),
        response_p99: Some(0.004 + at as f64 / 1e5),
        response_max: Some(0.02),
        busy: vec![0.5],
        busy_max: 0.5,
        ..SeriesRow::default()
    }
}

fn report(disruptions: Vec<Disruption>, rows: u64) -> Report {
    let threshold = ThresholdResult {
        expression: "disruption.recover.p99 < 1s".into(),
        value: Some(8.2),
        why: Some(marked().name(STARTED_AT)),
        ..ThresholdResult::default()
    };
    let verdict = Verdict {
        outcome: Outcome::Failed,
        exit_code: Exit::Failed as u8,
        reasons: Vec::new(),
        thresholds: vec![threshold],
    };
    let id = "r1-0".to_owned();
    let mut report = Report {
        run: Run { id, started_at: STARTED_AT, ended_at: STARTED_AT + SECONDS as f64, ..Run::default() },
        schema: 1,
        verdict,
        disruptions,
        marks: vec![Mark { at: 60.0, text: NAME.into() }],
        series: (1..=rows).map(row).collect(),
        ..Report::default()
    };
    report.load.streams_requested = 2000;
    report
}

#[test]
fn a_report_says_of_each_disruption_what_it_was_and_shades_it() {
    let Some(browser) = Browser::installed() else { return };
    let folder = Folder::new();
    let harmless = Disruption {
        at: 20.0,
        mark: Some("deploy".into()),
        marked_at: Some(20.0),
        streams: 2000,
        ..Disruption::default()
    };
    let report = report(vec![harmless, marked(), unmarked(200)], SECONDS);
    let file = folder.write("disruptions.html", &page::report(&report));
    let found = &browser.looks(&["opens", &file])[0];
    let text = found["text"].as_str().expect("text");
    for disruption in &report.disruptions {
        let sentence = disruption.sentence(STARTED_AT, true);
        assert!(text.contains(&sentence), "{sentence} is not in {text}");
    }
    for part in ["v2.1.0 → v2.2.0", "at least 12,345 B", "50.6 % dropped in the worst, 4 never back", "8.2 s"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(assert_figures(&found["figures"], &serde_json::to_value(&report).expect("JSON")) > 30);
    let threshold = ["disruption.recover.p99 < 1s", "NOT MET", &marked().name(STARTED_AT)];
    assert!(threshold.iter().all(|part| text.contains(part)), "{threshold:?} is not in {text}");
    // Whose they were is folded, and opens: of the thirteen that no address is known of, too.
    let opened = browser.looks(&["unfolds", &file, "disruptions-whose"]);
    let said = opened["text"].as_str().expect("text");
    for part in ["coderd-1", "10.0.0.1:443", "others", "1.283 %"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // Of the drawing, moments: before anything, in the expected window, in what nobody marked, and between them.
    let shades = browser.looks(&["reds", &file, "chart-streams", "0.3", "0.625", "0.95", "0.8"]);
    let reds: Vec<f64> =
        shades.as_array().expect("reds").iter().map(|red| red.as_f64().expect("one")).collect();
    assert!(reds[1] > reds[0] + 5.0 && reds[2] > reds[0] + 5.0, "not shaded: {reds:?}");
    assert!((reds[3] - reds[0]).abs() < 3.0, "shaded where nothing was: {reds:?}");
}

#[test]
fn the_live_page_follows_a_disruption_until_all_are_back() {
    let Some(browser) = Browser::installed() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let seen = Arc::new(AtomicBool::new(false));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || answer(stream, &seen));
        }
    });
    let found = browser.looks(&["disrupted", &address]);
    let away = found["away"].as_str().expect("text");
    assert!(away.contains(&unmarked(0).sentence(STARTED_AT, false)), "{away}");
    assert!(away.contains(&marked().sentence(STARTED_AT, false)), "older ones stay: {away}");
    let back = found["back"].as_str().expect("text");
    assert!(back.contains(&unmarked(200).sentence(STARTED_AT, true)), "{back}");
}

/// The page, or its feed: a report, seconds in which streams are away until that was `seen`, and the report at the end.
fn answer(mut stream: TcpStream, seen: &AtomicBool) -> Option<()> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).ok().filter(|&count| count > 0)?;
        request.extend_from_slice(&buffer[..count]);
    }
    if request.starts_with(b"GET /seen ") {
        seen.store(true, Ordering::Relaxed);
        return write!(stream, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").ok();
    }
    if !request.starts_with(b"GET /live ") {
        let page = page::live();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n";
        return write!(stream, "{head}Content-Length: {}\r\n\r\n{page}", page.len()).ok();
    }
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n").ok()?;
    let mut tell = |event: &str, data: String| {
        write!(stream, "event: {event}\ndata: {data}\n\n").and_then(|()| stream.flush()).ok()
    };
    let whole =
        |going: bool, report: &Report| format!("{{\"going\":{going},\"report\":{}}}", page::data(report));
    tell("report", whole(true, &report(vec![marked()], 100)))?;
    for second in (0..SECONDS_UNSEEN_MAX).take_while(|_| !seen.load(Ordering::Relaxed)) {
        let event = Event {
            run: "r1-0".into(),
            state: "steady".into(),
            elapsed: (101 + second) as f64,
            streams: [("open".to_owned(), 1800)].into(),
            now: row(101 + second),
            disruptions: vec![unmarked(0)],
            ..Event::default()
        };
        tell("second", serde_json::to_string(&event).expect("JSON"))?;
        std::thread::sleep(Duration::from_millis(100));
    }
    tell("report", whole(false, &report(vec![marked(), unmarked(200)], SECONDS)))?;
    // The page closes it.
    stream.read(&mut buffer).ok().map(|_| ())
}
