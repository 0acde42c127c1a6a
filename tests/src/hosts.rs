//! Two hosts made of network namespaces: load comes from one and goes to the other, over cables of veth(4).
//!
//! They go with the value: a namespace lives as long as the process in it, which ends when its stdin
//! does, even where the test is killed; the cables go with the namespaces.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::host::installed;
use crate::{Daemon, Process, Sink, program};

/// What the daemon of a [`Pair`] may hit.
const TARGETS: &str =
    "[[target]]\naddresses = [\"127.0.0.0/8\", \"10.77.0.0/16\", \"10.99.0.0/16\", \"fd77::/16\"]\n";

/// A network namespace.
pub struct Namespace {
    holder: Process,
}

impl Namespace {
    fn new() -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && echo ready >&2 && exec cat"]);
        let can = Command::new("unshare").args(["--net", "true"]).output();
        if !can.is_ok_and(|output| output.status.success()) {
            return None;
        }
        command.stdin(Stdio::piped());
        Some(Self { holder: Process::start(&mut command, "ready").0 })
    }

    /// Runs `work` in here: what it starts is in here, too.
    ///
    /// # Panics
    /// `work` does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.holder.0.id())).expect("it is there");
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

/// A host that makes load and a target of it.
pub struct Pair {
    /// Where the daemon runs. Its end of cable n is `load<n>`, 10.77.n.1 and fd77:0:n::1.
    pub load: Namespace,
    /// Where the sink runs. Its end is `far<n>`, 10.77.n.2 and fd77:0:n::2.
    pub target: Namespace,
}

impl Pair {
    /// Two hosts joined by so many cables; `None`: they cannot be made here, which is said on stderr.
    ///
    /// # Panics
    /// This is CI, and they cannot be made.
    pub fn joined(cables: usize) -> Option<Self> {
        installed("ip")?;
        installed("nft")?;
        let (Some(load), Some(target)) = (Namespace::new(), Namespace::new()) else {
            let name = std::thread::current().name().unwrap_or("a test").to_owned();
            let why = format!("{name}: skipped, only root can make network namespaces");
            assert!(std::env::var_os("CI").is_none(), "{why}");
            let _ = writeln!(std::io::stderr(), "{why}");
            return None;
        };
        let there = target.holder.0.id();
        for n in 0..cables {
            load.run(&format!("ip link add load{n} type veth peer name far{n} netns {there}"));
            for (host, name, end) in [(&load, "load", 1), (&target, "far", 2)] {
                host.run(&format!(
                    "ip address add 10.77.{n}.{end}/24 dev {name}{n}
                     ip address add fd77:0:{n}::{end}/64 dev {name}{n} nodad
                     ip link set {name}{n} up"
                ));
            }
        }
        Some(Self { load, target })
    }

    /// A daemon on the one host that may hit the other.
    pub fn daemon(&self) -> Daemon {
        self.load.inside(|| {
            let mut daemon = Daemon::start();
            daemon.allow(TARGETS);
            drop(daemon.process.take());
            daemon.begin();
            daemon
        })
    }

    /// A sink on the other host that listens at `address`, port 9000.
    pub fn sink(&self, address: &str) -> Sink {
        let at = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let mut command = Command::new(program("scale-sink"));
        command.args(["--protocol", "ws", "--listen", &format!("{at}:9000")]);
        let (process, line) = self.target.inside(|| Process::start(&mut command, "listening on "));
        Sink { process, address: line.trim_start_matches("listening on ").to_owned() }
    }
}
