//! Networks of a test's own: namespaces with nothing in them but loopback, and what moves on that.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
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
    Some(Namespace::made()?.inside(test))
}

/// A network namespace; it goes with the value.
pub struct Namespace {
    holder: Process,
}

impl Namespace {
    /// One with nothing in it but loopback; `None`: it cannot be made here, which is said on stderr.
    ///
    /// # Panics
    /// This is CI, and it cannot be made.
    pub fn made() -> Option<Self> {
        let can = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
        if !can.is_ok_and(|output| output.status.success()) {
            let name = std::thread::current().name().unwrap_or("a test").to_owned();
            let why = format!("{name}: skipped, it takes root, unshare and ip to make a network namespace");
            assert!(std::env::var_os("CI").is_none(), "{why}");
            let _ = writeln!(std::io::stderr(), "{why}");
            return None;
        }
        let mut command = Command::new("unshare");
        // It ends with its stdin, even where the test is killed, and the namespace with it.
        command.args(["--net", "sh", "-c", "ip link set lo up && echo ready >&2 && exec cat"]);
        Some(Self { holder: Process::start(command.stdin(Stdio::piped()), "ready").0 })
    }

    /// A process in it, by which others name it.
    pub fn process(&self) -> u32 {
        self.holder.0.id()
    }

    /// Runs `work` in here: what it starts is in here, too.
    ///
    /// # Panics
    /// `work` does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.process())).expect("it is there");
        let test = std::thread::current().name().map(str::to_owned);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(test.unwrap_or_default());
            let inside = thread.spawn_scoped(scope, move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("it is ours");
                work()
            });
            inside.expect("a thread").join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs each line as a command in here; what they said.
    ///
    /// # Panics
    /// One of them fails.
    pub fn run(&self, lines: &str) -> String {
        let run = |line: &str| {
            let mut words = line.split_whitespace();
            let name = words.next().expect("a command");
            let output = Command::new(name)
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .args(words)
                .output()
                .unwrap_or_else(|error| panic!("{line}: {error}"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{line}: {said}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        self.inside(|| lines.map(run).collect())
    }

    /// A kernel setting of its own; words are divided by one space.
    ///
    /// # Panics
    /// It cannot be set.
    pub fn set(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        self.inside(|| std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}")));
    }

    /// What the kernel says of it under /proc/net.
    ///
    /// # Panics
    /// There is no such file.
    pub fn proc_net(&self, name: &str) -> String {
        let path = format!("/proc/thread-self/net/{name}");
        self.inside(|| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    /// Bytes that an interface has received and sent.
    ///
    /// # Panics
    /// There is no such interface.
    pub fn moved(&self, interface: &str) -> (u64, u64) {
        let text = self.proc_net("dev");
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{interface}:")));
        let columns: Vec<u64> = line
            .unwrap_or_else(|| panic!("no {interface}"))
            .split_whitespace()
            .map(|column| column.parse().expect("a number"))
            .collect();
        (columns[0], columns[8])
    }

    /// Addresses at the other end of established connections to `port` here, one a connection, as the
    /// hexadecimal digits of /proc/net/tcp and tcp6.
    pub fn peers(&self, port: u16) -> Vec<String> {
        let text = self.proc_net("tcp") + &self.proc_net("tcp6");
        let peer = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_it = words.get(3) == Some(&"01") && words[1].ends_with(&format!(":{port:04X}"));
            is_it.then(|| words[2].split(':').next().unwrap_or_default().to_owned())
        };
        text.lines().filter_map(peer).collect()
    }
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
