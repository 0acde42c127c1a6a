//! Two hosts made of network namespaces: load comes from one and goes to the other, over cables of veth(4).
//!
//! They go with the value, and the cables with them.

use std::process::Command;

use crate::host::{installed, until};
use crate::network::Namespace;
use crate::{Daemon, Process, Sink, program};

/// What the daemon of a [`Pair`] may hit.
const TARGETS: &str =
    "[[target]]\naddresses = [\"127.0.0.0/8\", \"10.77.0.0/16\", \"10.99.0.0/16\", \"fd77::/16\"]\n";

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
        let (load, target) = (Namespace::made()?, Namespace::made()?);
        let there = target.process();
        for host in [&load, &target] {
            // Link-local addresses need not be asked about, either.
            host.set("net.ipv6.conf.all.accept_dad", "0");
            host.set("net.ipv6.conf.default.accept_dad", "0");
        }
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
        for host in [&load, &target] {
            until("IPv6 addresses to be usable", || {
                (!host.run("ip -6 address").contains("tentative")).then_some(())
            });
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
