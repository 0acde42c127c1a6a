//! Both listeners attacked: by many who say little, by those who say too much, and by what is no HTTP. Whoever has
//! something to ask is answered meanwhile, and memory stays bounded.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use scale_api::http::ProblemCode;
use scale_tests::host::until;
use scale_tests::{Daemon, Sink};

use crate::control::{ask, assert_problem, connect};
use crate::error;
use crate::faults::{event, start};

/// More than a listener has seats.
const MANY: usize = 300;
/// What the daemon may take beyond what it took before: two bodies at their limit, once as bytes and once as what they
/// say, and what an allocator keeps.
const MORE_BYTES_MAX: u64 = 400 << 20;
const BODY_BYTES_MAX: usize = 64 << 20;

/// A figure of /proc/PID/status, in bytes.
fn memory(daemon: &Daemon, name: &str) -> u64 {
    let id = daemon.process.as_ref().expect("running").0.id();
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it is there");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the figure");
    let kilobytes: u64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number");
    kilobytes * 1024
}

fn files_open(daemon: &Daemon) -> usize {
    let id = daemon.process.as_ref().expect("running").0.id();
    std::fs::read_dir(format!("/proc/{id}/fd")).expect("it is there").count()
}

/// Everything until the daemon closes or resets.
fn answer(mut stream: impl Read) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

/// Ends an attack with what it disturbs, however that ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A byte a second on each of many connections, of which those that are closed are opened again, while `meanwhile` is done.
fn trickled<S: Read + Write + Send>(open: impl Fn() -> Option<S> + Sync, meanwhile: impl FnOnce()) {
    let (is_over, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (open, over, trickled) = (&open, &is_over, &bytes);
        scope.spawn(move || {
            let mut held: Vec<Option<S>> = (0..MANY).map(|_| None).collect();
            while !over.load(Ordering::Relaxed) {
                for one in &mut held {
                    let wrote = one.as_mut().is_some_and(|stream| stream.write_all(b"G").is_ok());
                    trickled.fetch_add(u64::from(wrote), Ordering::Relaxed);
                    if !wrote {
                        *one = open();
                    }
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let _over = Over(&is_over);
        // Every one of them has said something: all seats have been taken.
        until("bytes to trickle", || (bytes.load(Ordering::Relaxed) > MANY as u64).then_some(()));
        meanwhile();
    });
}

#[test]
fn who_trickles_on_every_seat_of_the_control_socket_keeps_nobody_from_stopping_a_run() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), Daemon::start());
    start(&daemon, &["--conns", "20", "--target", &format!("ws://{}/", sink.address)]);
    until("echoes", || (event(&daemon).now.messages_echoed > 0).then_some(()));
    let open = || UnixStream::connect(daemon.socket()).ok();
    trickled(open, || {
        for _ in 0..20 {
            let output = daemon.scalectl(&["status"]);
            assert_eq!(output.status.code(), Some(0), "{}", error(&output));
        }
        let output = daemon.scalectl(&["stop", "--now", "--all"]);
        assert_eq!(output.status.code(), Some(5), "{}", error(&output));
    });
    until("seats to be free", || (files_open(&daemon) < 60).then_some(()));
}

#[test]
fn who_trickles_on_every_seat_of_the_metrics_port_keeps_nobody_from_scraping() {
    let daemon = Daemon::start_scraped();
    let address = daemon.scraped.clone().expect("it is scraped");
    let open = || TcpStream::connect(&address).ok();
    trickled(open, || {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(&address).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
            stream.write_all(b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n").expect("taken");
            let answer = answer(stream);
            assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("scaled_build_info"), "{answer}");
        }
    });
}

#[test]
fn followers_take_half_of_the_seats_at_most() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), Daemon::start());
    start(&daemon, &["--conns", "5", "--target", &format!("ws://{}/", sink.address)]);
    let follow = || {
        let mut stream = connect(&daemon);
        stream.write_all(b"GET /v1/runs/current/events HTTP/1.1\r\nhost: x\r\n\r\n").expect("taken");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("a status line");
        (stream, String::from_utf8_lossy(&head).into_owned())
    };
    let followers: Vec<_> = (0..200).map(|_| follow()).collect();
    let count =
        |status: &str| followers.iter().filter(|(_, head)| head == &format!("HTTP/1.1 {status}")).count();
    assert_eq!((count("200"), count("503")), (128, 72));
    assert!(ask(&daemon, "GET", "/v1/status", "").starts_with("HTTP/1.1 200"));
    // It may find the run ended already, or cannot follow its end and says so.
    assert!(matches!(daemon.scalectl(&["stop", "--now"]).status.code(), Some(2 | 5)));
    until("the run's end", || ask(&daemon, "GET", "/v1/status", "").contains("\"run\":null").then_some(()));
}

#[test]
fn a_body_of_a_gigabyte_is_refused_without_being_kept() {
    let daemon = Daemon::start();
    let before = memory(&daemon, "VmHWM:");
    // By its own word, before a byte of it has been sent.
    let mut stream = connect(&daemon);
    let head = format!("POST /v1/runs HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 1 << 30);
    stream.write_all(head.as_bytes()).expect("taken");
    assert_problem(&answer(stream), ProblemCode::TooLarge);
    // In chunks, where it turns out to be.
    let mut stream = connect(&daemon);
    stream
        .write_all(b"POST /v1/runs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .expect("taken");
    let mut chunk = b"100000\r\n".to_vec();
    chunk.extend(vec![b' '; 1 << 20]);
    chunk.extend(b"\r\n");
    let sent = (0..1024).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!((60..1024).contains(&sent), "{sent} MiB were taken");
    assert_problem(&answer(stream), ProblemCode::TooLarge);
    let took = memory(&daemon, "VmHWM:") - before;
    assert!(took < MORE_BYTES_MAX / 2, "{took} bytes");
    assert!(ask(&daemon, "GET", "/v1/status", "").starts_with("HTTP/1.1 200"));
}

#[test]
fn sixty_four_bodies_of_64_mib_at_once_take_the_room_of_two() {
    let daemon = Daemon::start();
    let before = memory(&daemon, "VmHWM:");
    let piece = vec![b' '; 1 << 20];
    let statuses: Vec<String> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = connect(&daemon);
                    let head = format!("POST /v1/runs HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {BODY_BYTES_MAX}\r\n\r\n");
                    stream.write_all(head.as_bytes()).expect("taken");
                    let pieces = BODY_BYTES_MAX / piece.len();
                    let _ = (0..pieces).take_while(|_| stream.write_all(&piece).is_ok()).count();
                    status_of(&answer(stream)).to_owned()
                })
            })
            .collect();
        // Somebody with a small one meanwhile.
        let small = ask(&daemon, "POST", "/v1/runs/current/stop", "{\"now\":true}");
        assert!(small.starts_with("HTTP/1.1 404"), "{small}");
        callers.into_iter().map(|caller| caller.join().expect("it asked")).collect()
    });
    let count = |status: &str| statuses.iter().filter(|it| *it == status).count();
    // Blanks are no request, where there was room for all of them; some may not have come within 10 s on a slow machine.
    assert!(count("503") > 0, "{statuses:?}");
    assert_eq!(count("400") + count("503") + count("413"), 64, "{statuses:?}");
    let took = memory(&daemon, "VmHWM:") - before;
    assert!(took < MORE_BYTES_MAX, "{took} bytes");
    assert!(ask(&daemon, "POST", "/v1/runs/current/stop", "{}").starts_with("HTTP/1.1 404"));
}

#[test]
fn what_is_no_request_is_refused_and_what_is_many_is_answered() {
    let daemon = Daemon::start();
    let say = |text: &[u8]| {
        let mut stream = connect(&daemon);
        // It may have closed before it has heard all.
        let _ = stream.write_all(text);
        let _ = stream.shutdown(Shutdown::Write);
        answer(stream)
    };
    let many = format!("GET /v1/status HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    assert_eq!(status_of(&say(many.as_bytes())), "431");
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(1 << 20));
    assert!(["414", "431"].contains(&status_of(&say(long.as_bytes()))));
    assert_eq!(status_of(&say(b"\x16\x03\x01\x02\x00\x01garbage\r\n\r\n")), "400");
    assert_eq!(say(b"GET /v1/sta"), "", "half of a head, and no more to come");
    let one = "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(status_of(&say(one.as_bytes())), "200", "a caller that has closed its half");
    // One behind the other, which a caller may send before it reads.
    let mut stream = connect(&daemon);
    let mut from = stream.try_clone().expect("a second handle");
    let heard = std::thread::spawn(move || {
        let mut answers = Vec::new();
        let _ = from.read_to_end(&mut answers);
        String::from_utf8_lossy(&answers).matches("HTTP/1.1 200").count()
    });
    let last = "GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all((one.repeat(999) + last).as_bytes()).expect("taken");
    assert_eq!(heard.join().expect("it read"), 1000);
}
