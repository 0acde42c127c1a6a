//! A network of a test's own: a namespace with nothing in it but loopback, and what moves on that.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use scale_ring::{Time, host};

use crate::Process;

/// How often the wire is looked at: how much too late something may be seen.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Runs `test` on a thread of its own, which alone with its children is in a network of its own. Without the right to
/// make one it is skipped, which is said on stderr.
///
/// # Panics
/// The test does, or under CI there is no such network.
pub fn alone<T: Send>(test: impl FnOnce() -> T + Send) -> Option<T> {
    let can = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let why = format!("{name}: skipped, it takes root, unshare and ip to make a network namespace");
        assert!(std::env::var_os("CI").is_none(), "{why}");
        let _ = writeln!(std::io::stderr(), "{why}");
        return None;
    }
    let mut holder = Command::new("unshare");
    holder.args(["--net", "sh", "-c", "ip link set lo up && echo ready >&2 && exec sleep 3600"]);
    let (holder, _) = Process::start(&mut holder, "ready");
    let namespace = File::open(format!("/proc/{}/ns/net", holder.0.id())).expect("it has a network");
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("it is ours");
            test()
        });
        match inside.join() {
            Ok(result) => Some(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What has moved on loopback: packets and bytes, headers and all, every ACK, FIN and RST among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What has moved on the loopback of this thread's network so far (proc_pid_net(5), `dev`).
///
/// # Panics
/// The kernel does not say.
pub fn moved() -> Moved {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("it is there");
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).expect("a loopback");
    let mut columns = line.split_whitespace().map(|column| column.parse().expect("a number"));
    let (bytes, packets) = (columns.next().expect("bytes"), columns.next().expect("packets"));
    Moved { packets, bytes }
}

/// A look at the wire every 2 ms.
pub struct Wire {
    is_over: Arc<AtomicBool>,
    seen: JoinHandle<Vec<(Time, Moved)>>,
}

impl Wire {
    /// Looks from now on, at the network of this thread.
    pub fn watch() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let seen = std::thread::spawn(move || {
            let mut changes = vec![(host::monotonic_now(), moved())];
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK_EVERY);
                let now = moved();
                if changes.last().is_none_or(|(_, last)| *last != now) {
                    changes.push((host::monotonic_now(), now));
                }
            }
            changes
        });
        Self { is_over, seen }
    }

    /// What moved, and when: each time that it was seen to have moved on.
    ///
    /// # Panics
    /// The thread did.
    pub fn end(self) -> Vec<(Time, Moved)> {
        self.is_over.store(true, Ordering::Relaxed);
        self.seen.join().expect("it looked")
    }
}
