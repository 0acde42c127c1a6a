//! Both listeners of the daemon: whatever comes, what goes out is HTTP, and nothing is kept of it.

use scaled::control::server::trial::{Listener, Trial};

use crate::host::Folder;

thread_local! {
    /// The daemon that answers on this thread, and its folder. A runtime does not end well with its thread: it stays.
    static DAEMON: (&'static Trial, Folder) = {
        let folder = Folder::new();
        (Box::leak(Box::new(Trial::new(folder.path("runs")))), folder)
    };
}

/// Any bytes to a listener. The answers.
///
/// # Panics
/// The listener does, or answers what is no HTTP.
pub fn check(listener: Listener, bytes: &[u8]) -> Vec<u8> {
    let answers = DAEMON.with(|(daemon, _)| daemon.answers(listener, bytes));
    assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answers));
    answers
}

/// A fuzzer's bytes: the first says to which listener.
///
/// # Panics
/// As [`check`].
pub fn check_any(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    // A letter, so that a seed is a request with one letter before it.
    check(if first % 2 == 0 { Listener::ReadOnly } else { Listener::Control }, bytes);
}
