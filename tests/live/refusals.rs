//! What cannot be is refused before the first byte: with the exit code of the contract, with what
//! is wrong, and with what to do about it.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::Output;

use scale_tests::host::{Folder, until};
use scale_tests::{Daemon, Sink};

use crate::error;
use crate::faults::{event, start, stop};

/// A target that nobody may come to.
struct Untouched {
    listener: TcpListener,
    url: String,
}

impl Untouched {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let url = format!("ws://{}/", listener.local_addr().expect("bound"));
        Self { listener, url }
    }

    /// Nobody came, and no run was made.
    fn assert_nothing_happened(&self, daemon: &Daemon) {
        let came = self.listener.accept().map(|(_, from)| from).map_err(|error| error.kind());
        assert_eq!(came, Err(ErrorKind::WouldBlock), "a connection reached the target");
        let status = daemon.scalectl(&["--json", "status"]);
        let status: scale_api::http::Status = serde_json::from_slice(&status.stdout).expect("JSON");
        assert!(status.run.is_none() && status.last.is_none(), "{status:?}");
        assert_eq!(String::from_utf8_lossy(&daemon.scalectl(&["--json", "runs"]).stdout).trim(), "[]");
    }
}

/// Ended with `code`, nothing on stdout, and every one of `words` said on stderr.
#[track_caller]
fn assert_refused(output: &Output, code: i32, words: &[&str], what: &str) {
    let said = error(output);
    assert_eq!(output.status.code(), Some(code), "{what}: {said}");
    assert!(output.stdout.is_empty(), "{what}: {}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(said.contains(word), "{what} is to be answered with `{word}`: {said}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_what_is_wrong_and_what_to_do() {
    let (daemon, target) = (Daemon::start(), Untouched::new());
    // What is wrong, then what to do, for flags beside `--conns 5 --target …`.
    let cases: &[(&[&str], &[&str])] = &[
        (&["--conns", "0"], &["opens nothing", "at least 1"]),
        (&["--conns", "10000000"], &["10000000", "at most 1000000"]),
        (&["--conns", "many"], &["--conns", "many"]),
        (&["--rate", "0B/s"], &["sends nothing", "such as 40KB/s"]),
        (&["--rate", "1B/s"], &["less than one byte a tick", "raise --rate"]),
        (&["--rate", "40"], &["`40`", "with its unit, such as 40KB/s"]),
        (&["--rate", "40KB"], &["`40KB`", "with its unit, such as 40KB/s"]),
        (&["--rate", "1GB/s"], &["more than 16MiB a tick", "lower the rate"]),
        (&["--rate", "1KB/s", "--bytes-per-tick", "5"], &["twice", "give one"]),
        (&["--bytes-per-tick", "0"], &["less than one byte", "raise"]),
        (&["--bytes-per-tick", "16777217"], &["more than 16MiB", "shorten --tick-interval"]),
        (&["--tick-interval", "999us"], &["too short", "the least is 1ms"]),
        (&["--tick-interval", "100"], &["`100`", "such as 100ms"]),
        (&["--duration", "0s"], &["measures nothing", "or `forever`"]),
        (&["--duration", "30"], &["`30`", "such as 100ms, 1.5s"]),
        (&["--warm-up", "5"], &["`5`", "such as 100ms"]),
        (&["--ramp", "5"], &["`5`", "such as 100ms"]),
        (&["--drain", "5"], &["`5`", "such as 100ms"]),
        (&["--connect-timeout", "0s"], &["fails every stream", "give a time"]),
        (&["--connect-rate", "5"], &["`5`", "such as 500/s"]),
        (&["--connect-rate", "0/s"], &["never connects", "at least"]),
        (&["--churn", "5"], &["`5`", "such as 500/s"]),
        (&["--ramp", "1s", "--connect-rate", "5/s"], &["twice", "give one"]),
        (&["--sndbuf", "5"], &["`5`", "such as 4096B"]),
        (&["--rcvbuf", "0B"], &["--rcvbuf", "1B to 1GiB"]),
        (&["--header", "Authorization: Bearer x"], &["Authorization", "--header-file"]),
        (&["--header", "X-Session-Token: x"], &["X-Session-Token", "--header-file"]),
        (&["--header", "Api-Key: x"], &["Api-Key", "--header-file"]),
        (&["--header", "Cookie: a=b"], &["Cookie", "--header-file"]),
        (&["--header", "nonsense"], &["nonsense", "'Name: value'"]),
        (&["--header", "Host: x"], &["Host", "cannot be given"]),
        (&["--header", "A: b\r\nC: d"], &["control characters"]),
        (&["--traffic", "receive", "--rate", "1KB/s"], &["only reads", "leave out --rate"]),
        (&["--traffic", "receive", "--bytes-per-tick", "5"], &["only reads", "leave out"]),
        (&["--traffic", "both"], &["both", "echo, discard, receive"]),
        (&["--subprotocol", "a, b"], &["--subprotocol", "such as graphql-ws"]),
        (&["--connect-to", "here"], &["--connect-to here", "HOST:PORT"]),
        (&["--source", "nowhere"], &["--source nowhere", "such as 10.0.0.0/28"]),
        (&["--source", "10.0.0.0/8"], &["--source names 16777216", "at most 4096"]),
        (&["--source", "::1"], &["no --source can reach", "give an IPv4 address"]),
        (&["--cert", "x.pem"], &["--cert and --key", "both or neither"]),
        (&["--threshold", "response.p98 < 1s"], &["no `response.p98`", "response.p99"]),
        (&["--threshold", "other.response.p99 < 1s"], &["no group is called `other`", "main"]),
        (&["--threshold", "response.p99 < 1"], &["`1`", "with its unit"]),
        (&["--threshold", "fast"], &["fast", "write it as"]),
        (&["--label", "novalue"], &["novalue", "k=v"]),
        (&["--name", "two\nlines"], &["--name", "one line"]),
        (&["--target", "gopher://x/"], &["unknown scheme `gopher`", "ws, wss, tcp and ssh"]),
        (&["--target", "http://x/"], &["http", "write ws:// or wss://"]),
        (&["--target", "127.0.0.1:80"], &["no URL", "ws://host:port/path"]),
        (&["--target", "ws://u:p@127.0.0.1/"], &["a user", "--header-file"]),
        (&["--target", "ws://127.0.0.1/,1001"], &["weight", "1 to 1000"]),
        (&["--target", "ws://127.0.0.1/{user}"], &["{user}", "--rows"]),
        (&["--target", "ws://no-such-name.invalid/"], &["does not resolve", "spelling"]),
    ];
    for (flags, words) in cases {
        let given = |flag: &str| flags.contains(&flag);
        let conns: &[&str] = if given("--conns") { &[] } else { &["--conns", "5"] };
        let to: &[&str] = if given("--target") { &[] } else { &["--target", &target.url] };
        let output = daemon.scalectl(&[&["start"], *flags, conns, to].concat());
        assert_refused(&output, 2, words, &format!("{flags:?}"));
    }
    for flags in [&["--conns", "5"][..], &[]] {
        let output = daemon.scalectl(&[&["start"], flags].concat());
        assert_refused(&output, 2, &["no target", "give --target ws://"], "no target");
    }
    let output = daemon.scalectl(&["start", "--target", &target.url]);
    assert_refused(&output, 2, &["no number of streams", "--conns N"], "no conns");
    let output =
        daemon.scalectl(&["start", "--target", "tcp://127.0.0.1:9", "--conns", "5", "--header", "A: b"]);
    assert_refused(&output, 2, &["--header belongs to websockets", "leave it out"], "a header over tcp");
    target.assert_nothing_happened(&daemon);
}

#[test]
fn a_target_that_is_not_on_the_list_is_refused_with_the_lines_that_would_allow_it() {
    let (daemon, target) = (Daemon::start(), Untouched::new());
    let output = daemon.scalectl(&[
        "start",
        "--conns",
        "5",
        "--target",
        &target.url,
        "--target",
        "ws://192.0.2.1:99/",
    ]);
    let lines = ["[[target]]", "host = \"192.0.2.1\"", "addresses = [\"192.0.2.1/32\"]", "ports = [99]"];
    assert_refused(
        &output,
        3,
        &[&["192.0.2.1", "only loopback is allowed"][..], &lines].concat(),
        "another host",
    );
    target.assert_nothing_happened(&daemon);
}

#[test]
fn a_plan_that_this_host_cannot_carry_is_refused_with_the_cure_and_shown_by_dry_run_and_doctor() {
    let (daemon, target, folder) = (Daemon::start(), Untouched::new(), Folder::new());
    let cases: [(&str, &[&str]); 5] = [
        ("conns = 70000", &["source ports", "70,000", "--source"]),
        (
            "conns = 60000\nsndbuf = \"1GiB\"\nrcvbuf = \"1GiB\"",
            &["memory", "MB are available", "lower --conns"],
        ),
        (
            "conns = 60000\ntick_interval = \"1ms\"\nbytes_per_tick = \"64KiB\"",
            &["cores", "60,000,000 messages/s", "--cores"],
        ),
        (
            "conns = 1000000\ntick_interval = \"1h\"\nsource = [\"127.1.0.0/24\"]\nsndbuf = \"1B\"\nrcvbuf = \"1B\"",
            &["open files", "1,000,000 sockets", "LimitNOFILE"],
        ),
        (
            "conns = 5\nsource = [\"192.0.2.1\"]",
            &["192.0.2.1 is not this host's", "ip addr add 192.0.2.1/32"],
        ),
    ];
    for (words, said) in cases {
        if words.starts_with("conns = 1000000") && scale_ring::host::nofile_limit() >= 500_000 {
            eprintln!("open files: not tried, a million sockets have room on this host");
            continue;
        }
        let file = folder.write("run.toml", &format!("[[group]]\ntarget = [\"{}\"]\n{words}\n", target.url));
        let output = daemon.scalectl(&["start", "--file", &file]);
        assert_refused(&output, 4, said, words);
        // The same, without starting anything.
        let output = daemon.scalectl(&["--json", "start", "--file", &file, "--dry-run"]);
        assert_eq!(output.status.code(), Some(4), "{}", error(&output));
        let plan: scale_api::http::PlanSummary = serde_json::from_slice(&output.stdout).expect("JSON");
        for word in said {
            assert!(plan.cannot.iter().any(|line| line.contains(word)), "{word}: {:?}", plan.cannot);
        }
        let output = daemon.scalectl(&["--json", "doctor", "--for", &file]);
        assert_eq!(output.status.code(), Some(4), "{}", error(&output));
        let lines: Vec<scale_api::http::DoctorEntry> = serde_json::from_slice(&output.stdout).expect("JSON");
        let failed: Vec<_> = lines.iter().filter(|line| line.status == "fail").collect();
        assert!(
            failed.iter().all(|line| line.name.starts_with("plan: ") && line.remedy.is_some()),
            "{failed:?}"
        );
        assert_eq!(failed.len(), plan.cannot.len());
    }
    target.assert_nothing_happened(&daemon);
}

#[test]
fn a_run_file_says_where_it_is_wrong_and_files_that_cannot_be_read_are_named() {
    let (daemon, target, folder) = (Daemon::start(), Untouched::new(), Folder::new());
    let url = &target.url;
    let cases = [
        (format!("[[group]]\ntarget = [\"{url}\"]\nconns = 5\n  rat = \"1KB/s\"\n"), ":4:3: ", "rat"),
        (format!("nam = \"x\"\n[[group]]\ntarget = [\"{url}\"]\nconns = 5\n"), ":1:1: ", "nam"),
        (format!("[[group]]\ntarget = [\"{url}\"]\nconns = 5\nrate = 40\n"), ":4:8: ", "with its unit"),
        (format!("[[group]]\ntarget = [\"{url}\"]\nconns = \"5\"\n"), ":3:9: ", "string"),
        (format!("[[group]]\ntarget = [\"{url}\"\nconns = 5\n"), ":3:1: ", "array"),
    ];
    for (text, place, word) in cases {
        let file = folder.write("run.toml", &text);
        let output = daemon.scalectl(&["start", "--file", &file]);
        assert_refused(&output, 2, &[&format!("{file}{place}"), word], &text);
    }
    let good = folder.write("run.toml", &format!("[[group]]\ntarget = [\"{url}\"]\nconns = 5\n"));
    let output = daemon.scalectl(&["start", "--file", &good, "--duration", "5s"]);
    assert_refused(&output, 2, &["--file says what the run does", "write the rest into the file"], "both");
    let text = folder.write("not.pem", "this is no PEM");
    let (missing, directory) = (folder.path("missing").display().to_string(), "/".to_owned());
    for flag in ["--rows", "--header-file", "--first-message", "--message-file", "--ca", "--cert", "--key"] {
        for path in [&missing, &directory] {
            let other: &[&str] = match flag {
                "--cert" => &["--key", &text],
                "--key" => &["--cert", &text],
                _ => &[],
            };
            let sealed = url.replace("ws://", "wss://");
            let own = ["start", "--conns", "5", "--target", &sealed, flag, path];
            assert_refused(
                &daemon.scalectl(&[&own[..], other].concat()),
                2,
                &[flag, "cannot read", path],
                flag,
            );
        }
    }
    for flag in [&["--insecure"][..], &["--ca", &text], &["--cert", &text, "--key", &text]] {
        let output = daemon.scalectl(&[&["start", "--conns", "5", "--target", url], flag].concat());
        assert_refused(&output, 2, &[flag[0], "no target has it", "wss://"], flag[0]);
    }
    for path in [&missing, &directory] {
        let output = daemon.scalectl(&["start", "--file", path]);
        assert_refused(&output, 2, &["--file", "cannot read", path], "--file");
    }
    // Whatever has no end is not read to its end.
    let output = daemon.scalectl(&["start", "--conns", "5", "--target", url, "--message-file", "/dev/zero"]);
    assert_refused(&output, 2, &["/dev/zero", "at most 30MiB"], "/dev/zero");
    let empty = folder.write("empty", "");
    let wss = url.replace("ws://", "wss://");
    let contents: [(&str, &[&str], &[&str]); 9] = [
        (url, &["--message-file", &empty], &["--message-file is empty", "at least one byte"]),
        (url, &["--first-message", &empty], &["--first-message is empty", "at least one byte"]),
        (url, &["--rows", &empty], &["--rows", "column"]),
        (url, &["--rows", &text], &["--rows", "no row"]),
        (url, &["--header-file", &text], &["a header is not `Name: value`"]),
        (&wss, &["--ca", &text], &["--ca", "certificate"]),
        (&wss, &["--cert", &text, "--key", &text], &["--cert", "certificate"]),
        (url, &["--message-file", &good, "--rate", "1KB/s"], &["--message-file says", "leave out"]),
        (url, &["--opcode", "text", "--message-file", "/bin/sh"], &["not UTF-8", "--opcode text"]),
    ];
    for (url, flags, words) in contents {
        let output = daemon.scalectl(&[&["start", "--conns", "5", "--target", url][..], flags].concat());
        assert_refused(&output, 2, words, &format!("{flags:?}"));
    }
    target.assert_nothing_happened(&daemon);
}

#[test]
fn a_second_run_is_refused_with_the_first_ones_id_and_leaves_it_alone() {
    let (daemon, untouched) = (Daemon::start(), Untouched::new());
    let sink = Sink::start(&["--protocol", "ws"]);
    start(&daemon, &["--conns", "5", "--target", &format!("ws://{}/", sink.address)]);
    until("the streams to be open", || (event(&daemon).streams.get("open") == Some(&5)).then_some(()));
    let id = event(&daemon).run;
    let second = ["start", "--conns", "1", "--target", &untouched.url];
    assert_refused(&daemon.scalectl(&second), 2, &[&id, "scalectl watch", "scalectl stop"], "a second start");
    // Planning disturbs nobody.
    assert_eq!(daemon.scalectl(&[&second[..], &["--dry-run"]].concat()).status.code(), Some(0));
    let (_, report) = stop(&daemon);
    assert_eq!((report.run.id, report.load.streams_open_at_end), (id, 5));
    let came = untouched.listener.accept().map(|(_, from)| from).map_err(|error| error.kind());
    assert_eq!(came, Err(ErrorKind::WouldBlock));
}
