//! What `scale-sink` writes down of each connection, and how it ends in order.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use scale_tests::host::{Folder, until};
use scale_tests::{Daemon, Sink, program};
use serde_json::Value;

/// The whole lines of a record so far.
fn lines(folder: &Folder) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path("record.jsonl")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Those of an event.
fn of<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

#[test]
fn a_record_has_every_connection_and_every_byte_that_the_sink_counted() {
    let folder = Folder::new();
    let file = folder.path("record.jsonl").display().to_string();
    let sink = Sink::start(&["--protocol", "ws", "--record", &file]);
    let target = format!("ws://{}/some/path?n=1", sink.address);
    let time = ["--warm-up", "0s", "--duration", "1s", "--drain", "30s"];
    let (_, report) = Daemon::start().run(&[&["--conns", "7", "--target", &target][..], &time].concat());
    let counts = sink.counts();
    let lines = lines(&folder);
    let opened = of(&lines, "opened");
    assert!(opened.len() == 7 && opened.iter().all(|line| line["path"] == "/some/path?n=1"), "{opened:?}");
    let closed = of(&lines, "closed");
    assert!(closed.len() == 7 && closed.iter().all(|line| line["why"] == "close_1000"), "{closed:?}");
    let sum = |key: &str| closed.iter().map(|line| line[key].as_u64().expect("bytes")).sum::<u64>();
    assert_eq!(
        (sum("received"), sum("echoed")),
        (report.total.payload_bytes_sent, report.total.payload_bytes_received)
    );
    assert_eq!(counts["payload_bytes_received"], sum("received"));
    assert_eq!(counts["payload_bytes_sent"], sum("echoed"));
    // What moved is told in the order of time, and never more than in the end.
    for line in &closed {
        let moved =
            lines.iter().filter(|it| it["event"] == "moved" && it["connection"] == line["connection"]);
        let bytes: Vec<u64> = moved.map(|it| it["received"].as_u64().expect("bytes")).collect();
        assert!(bytes.is_sorted() && bytes.last() <= line["received"].as_u64().as_ref(), "{bytes:?}");
    }
    let times: Vec<u64> = lines.iter().map(|line| line["at"].as_u64().expect("ns")).collect();
    assert!(times[0] > 0 && times.iter().all(|&at| at >= times[0]));
}

#[test]
fn ends_have_their_reasons_and_a_drain_says_goodbye() {
    let folder = Folder::new();
    let file = folder.path("record.jsonl").display().to_string();
    let sink = Sink::start(&["--protocol", "tcp", "--record", &file, "--drain", "30s"]);
    let talk = || {
        let mut stream = TcpStream::connect(&sink.address).expect("it listens");
        stream.write_all(b"abc").expect("taken");
        let mut echo = [0; 3];
        stream.read_exact(&mut echo).expect("an echo");
        stream
    };
    drop(talk());
    until("an end", || (of(&lines(&folder), "closed").len() == 1).then_some(()));
    let mut last = talk();
    let reader = std::thread::spawn(move || last.read(&mut [0; 8]));
    let counts = sink.counts();
    assert_eq!(reader.join().expect("it read").expect("a FIN"), 0, "it was told to go");
    let lines = lines(&folder);
    let closed = of(&lines, "closed");
    assert!(closed.iter().all(|line| line["received"] == 3 && line["echoed"] == 3), "{closed:?}");
    assert_eq!((closed.len(), &closed[0]["why"]), (2, &Value::from("ended")));
    let closing = of(&lines, "closing");
    assert_eq!((closing.len(), &closing[0]["connection"]), (1, &closed[1]["connection"]));
    assert_eq!(counts["payload_bytes_received"], 6);
}

#[test]
fn what_a_sink_cannot_say_or_write_down_is_refused() {
    for (more, why) in [
        (&["--protocol", "ssh", "--record", "/tmp/never"][..], "--record"),
        (&["--protocol", "ssh", "--drain", "1s"], "--drain"),
        (&["--protocol", "ws", "--response-header", "X-Replica"], "NAME: VALUE"),
        (&["--protocol", "ws", "--server-version", "a\nb: c"], "NAME: VALUE"),
        (&["--protocol", "ws", "--record", "/nowhere/record.jsonl"], "another --record"),
    ] {
        let output =
            Command::new(program("scale-sink")).args(["--listen", "127.0.0.1:0"]).args(more).output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(why), "{more:?}: {said}");
    }
}
