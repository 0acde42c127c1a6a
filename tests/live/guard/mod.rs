//! The list of targets attacked: whatever is tried, nothing comes to where nothing may come.

mod caps;
mod hostile;
mod list;
mod names;
mod others;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::Output;

use scale_tests::Daemon;

use crate::error;

/// A place that nobody may come to.
struct Forbidden {
    listener: TcpListener,
    port: u16,
}

impl Forbidden {
    /// On a port of `address`, which is one of loopback's.
    fn at(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("bound").port();
        Self { listener, port }
    }

    /// On that port.
    fn on(address: &str, port: u16) -> Option<Self> {
        let listener = TcpListener::bind((address, port)).ok()?;
        listener.set_nonblocking(true).expect("a socket");
        Some(Self { listener, port })
    }

    #[track_caller]
    fn assert_nobody_came(&self, what: &str) {
        let came = self.listener.accept().map(|(_, from)| from).map_err(|error| error.kind());
        assert_eq!(came, Err(ErrorKind::WouldBlock), "{what}: a connection reached what is forbidden");
    }
}

/// A daemon that has read that list.
fn with_list(text: &str) -> Daemon {
    let mut daemon = Daemon::start();
    daemon.process.take().expect("running").end();
    daemon.allow(text);
    daemon.begin();
    daemon
}

/// It ended with `code` and said `word`.
#[track_caller]
fn assert_ends(output: &Output, code: i32, word: &str, what: &str) {
    let said = error(output);
    assert_eq!(output.status.code(), Some(code), "{what}: {said}");
    assert!(said.contains(word), "{what} is to be answered with `{word}`: {said}");
}

/// Whether this is root, without whom some things cannot be tried; said where not.
fn is_root(what: &str) -> bool {
    let is_root = scale_ring::host::effective_uid() == 0;
    if !is_root {
        eprintln!("skipped: {what} needs root");
    }
    is_root
}
