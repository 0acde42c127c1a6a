//! Real shells on real pseudo-terminals, without sockets.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::*;
use crate::coder::terminal::emulated::Emulated;
use crate::coder::terminal::real::Real;
use crate::coder::terminal::{Outlet, SessionId, Sessions, Size, Terminal};

/// Sessions, and what the front end shares with them.
#[derive(Default)]
struct Hub {
    sessions: Rc<RefCell<Sessions>>,
    room: Rc<Notify>,
}

impl Hub {
    fn attach(&self, n: u128, command: &str) -> (SessionId, Rc<Outlet>) {
        let attach = Attach {
            agent: Uuid::nil(),
            reconnect: Uuid::from_u128(n),
            size: Size { height: 25, width: 80 },
            command: command.to_owned(),
            screen: false,
            dial_fails: None,
            lost: Time::NEVER,
        };
        let start = |id| -> std::io::Result<Box<dyn Terminal>> {
            Ok(Box::new(Real::start(&attach, id, &self.sessions, &self.room)?))
        };
        let joined = self.sessions.borrow_mut().attach(attach.key(), attach.size, start);
        let (id, outlet, _) = joined.expect("a shell starts");
        (id, outlet)
    }
}

/// Runs `act` where tasks of one thread run, 20 s at most.
fn run(act: impl AsyncFnOnce(Hub)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tasks = tokio::task::LocalSet::new();
    let limited = async { tokio::time::timeout(Duration::from_secs(20), act(Hub::default())).await };
    tasks.block_on(&runtime, limited).expect("it ends in time");
}

fn emulated(command: &str) -> Emulated {
    Emulated::start(command, Time::ZERO).expect("a script")
}

/// What is shown until it holds `word`, or until the end.
async fn shown(outlet: &Outlet, word: &str) -> String {
    let mut text = String::new();
    loop {
        text += &String::from_utf8_lossy(&outlet.take());
        if (!word.is_empty() && text.contains(word)) || (outlet.is_ended() && outlet.waiting() == 0) {
            return text;
        }
        outlet.changed.notified().await;
    }
}

/// Waits until a process of these words is there. A shell may lose a Ctrl-C that comes between its fork and the
/// command's exec (bash does).
async fn running(words: &str) {
    let wanted = words.replace(' ', "\0") + "\0";
    let is_it = |process: std::io::Result<std::fs::DirEntry>| {
        let line = process.and_then(|process| std::fs::read(process.path().join("cmdline")));
        line.is_ok_and(|line| line == wanted.as_bytes())
    };
    while !std::fs::read_dir("/proc").expect("processes").any(is_it) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn tens_of_shells_run_side_by_side_and_each_hears_its_own() {
    run(async |hub| {
        let shells: Vec<_> = (0..40).map(|n| hub.attach(n, "read line; echo \"<$line>\"")).collect();
        for (n, (id, _)) in shells.iter().enumerate() {
            hub.sessions.borrow_mut().input(*id, format!("shell {n}\n").as_bytes());
        }
        for (n, (_, outlet)) in shells.iter().enumerate() {
            assert_eq!(shown(outlet, "").await, format!("shell {n}\r\n<shell {n}>\r\n"));
        }
        assert!(hub.sessions.borrow().is_empty());
    });
}

#[test]
fn an_emulated_script_shows_what_a_real_shell_does_whatever_is_typed_meanwhile() {
    // Of this process alone, so that it is known by its words.
    let long = format!("sleep 1000.{}", std::process::id());
    let interrupted = format!("{long}; echo never");
    let scripts: &[(&str, &[&str])] = &[
        ("sleep 2 && echo hello", &["\x12"]),
        ("sleep 2 && echo hello", &["ab", "\x12", "\x01\tc\r", "\x12", "d"]),
        ("sleep 2; echo 'a  b' \"c; \\\"d\\\"\"; echo", &["x\n", "\x04", "\x12"]),
        (&interrupted, &["\x12", "a", "\x03"]),
        ("sleep 0.1s && false || printf '%s\\t%%\\n' \"it's\"; sleep 0.1; exit 3; echo never", &[]),
        ("echo -n a; true && echo b; printf 'c\\nd'", &[]),
        ("false && echo never", &[]),
    ];
    run(async |hub| {
        let mut both = Vec::new();
        for (n, (command, typed)) in (0..).zip(scripts) {
            let (id, outlet) = hub.attach(n, command);
            let (mut emulated, mut expected, mut real) = (emulated(command), Vec::new(), Vec::new());
            emulated.handle_time(Time::ZERO, &mut expected);
            for keys in *typed {
                if *keys == "\x03" {
                    running(&long).await;
                }
                emulated.input(keys.as_bytes(), &mut expected);
                hub.sessions.borrow_mut().input(id, keys.as_bytes());
                while real.len() < expected.len() {
                    outlet.changed.notified().await;
                    real.append(&mut outlet.take());
                }
            }
            both.push((command, emulated, expected, outlet, real));
        }
        for (command, mut emulated, mut expected, outlet, mut real) in both {
            while !emulated.is_ended() {
                emulated.handle_time(emulated.next_event(), &mut expected);
            }
            real.extend(shown(&outlet, "").await.bytes());
            assert_eq!(real.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{command}");
        }
    });
}

#[test]
fn the_terminal_is_cooked_of_the_size_asked_for_and_says_what_it_is() {
    run(async |hub| {
        let (id, outlet) = hub.attach(
            1,
            "stty size; echo $TERM; read x; stty size; stty -a | tr ';' '\\n' | grep -o 'eof = ^D'",
        );
        assert_eq!(shown(&outlet, "color\r\n").await, "25 80\r\nxterm-256color\r\n");
        hub.sessions.borrow_mut().resize(id, Size { height: 40, width: 0 });
        hub.sessions.borrow_mut().resize(id, Size { height: 40, width: 120 });
        hub.sessions.borrow_mut().input(id, b"\n");
        assert_eq!(shown(&outlet, "").await, "\r\n40 120\r\neof = ^D\r\n");
    });
}

#[test]
fn every_byte_is_echoed_though_the_command_drops_it_and_ctrl_c_ends_it() {
    run(async |hub| {
        // Of this process alone, so that it is known by its words.
        let dd = format!("dd if=/dev/stdin of=/dev/null bs=1{} status=none", std::process::id());
        let (id, outlet) = hub.attach(1, &format!("echo ready; {dd}"));
        shown(&outlet, "ready\r\n").await;
        running(&dd).await;
        for n in 0..100 {
            hub.sessions.borrow_mut().input(id, format!("line {n} \t!\n").as_bytes());
        }
        let expected: String = (0..100).map(|n| format!("line {n} \t!\r\n")).collect();
        assert_eq!(shown(&outlet, "line 99 \t!\r\n").await, expected);
        hub.sessions.borrow_mut().input(id, b"\x03");
        assert_eq!(shown(&outlet, "").await, "^C");
        assert!(outlet.is_ended());
    });
}

#[test]
fn raw_mode_gives_back_what_was_typed_and_nothing_else() {
    run(async |hub| {
        let (id, outlet) = hub.attach(1, "stty raw -echo; echo ready; exec cat");
        shown(&outlet, "ready\n").await;
        hub.sessions.borrow_mut().input(id, b"a\tb\x03c\n\x7f");
        hub.sessions.borrow_mut().input(id, b"end");
        assert_eq!(shown(&outlet, "end").await, "a\tb\x03c\n\x7fend");
    });
}

#[test]
fn a_process_that_does_not_read_holds_its_client_back() {
    run(async |hub| {
        let (id, outlet) = hub.attach(1, "stty raw -echo; echo ready; sleep 1; exec cat >/dev/null");
        shown(&outlet, "ready\n").await;
        let typed = vec![b'x'; 16 << 10];
        let mut taken = 0;
        while hub.sessions.borrow().takes_input(id) {
            hub.sessions.borrow_mut().input(id, &typed);
            taken += typed.len();
        }
        assert!(taken > Sessions::BACKLOG_BYTES_MAX && taken < 2 * Sessions::BACKLOG_BYTES_MAX, "{taken}");
        while !hub.sessions.borrow().takes_input(id) {
            outlet.changed.notified().await; // told as soon as cat reads
        }
    });
}

#[test]
fn a_session_that_is_given_up_takes_its_process_along() {
    run(async |hub| {
        let (id, outlet) = hub.attach(1, "echo $$; exec sleep 1000");
        let pid = shown(&outlet, "\r\n").await;
        let process = std::path::PathBuf::from(format!("/proc/{}", pid.trim()));
        assert!(process.exists());
        hub.sessions.borrow_mut().detach(Time::ZERO, id, &outlet);
        hub.sessions.borrow_mut().poll(Time::ZERO.plus_ns(Sessions::DETACHED_NS));
        while std::fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}
