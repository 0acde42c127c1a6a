//! Replicas of one target: sinks at addresses of their own, that write down what they see and can be broken while
//! others watch. All times are ns of CLOCK_MONOTONIC.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use scale_ring::host;
use serde::Deserialize;
use serde_json::Value;

use crate::host::{Folder, free_port};
use crate::{Process, program};

/// One replica, through all its lives.
pub struct Replica {
    /// What it calls itself in `X-Replica`.
    pub name: String,
    /// Where it listens: an address that no other replica has, so that it can be cut off.
    pub address: String,
    process: Option<Process>,
    /// Records, the oldest first.
    lives: Vec<PathBuf>,
    arguments: Vec<String>,
}

/// All of them.
pub struct Replicas {
    /// Numbered from 0, named from `r1`.
    pub all: Vec<Replica>,
    folder: Folder,
}

/// What one process saw of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// From the request's query: `stream`.
    pub stream: u32,
    /// From the request's query: `user`.
    pub user: u32,
    /// Its upgrade was answered.
    pub opened: u64,
    /// The replica began to close it.
    pub closing: Option<u64>,
    /// It was over.
    pub closed: Option<u64>,
    /// Why.
    pub why: Option<String>,
    /// Payload bytes that had come and were echoed, each time that they grew.
    pub moved: Vec<(u64, Bytes)>,
}

/// Payload bytes since the connection's beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// That came.
    pub received: u64,
    /// That went back.
    pub echoed: u64,
}

impl Connection {
    /// It was open at that time.
    pub fn is_open_at(&self, at: u64) -> bool {
        self.opened <= at && self.closed.is_none_or(|closed| closed > at)
    }

    /// Its bytes at that time.
    pub fn bytes_at(&self, at: u64) -> Bytes {
        self.moved
            .iter()
            .take_while(|(when, _)| *when <= at)
            .last()
            .map(|(_, bytes)| *bytes)
            .unwrap_or_default()
    }

    /// Its bytes in the end.
    pub fn bytes(&self) -> Bytes {
        self.bytes_at(u64::MAX)
    }

    /// When its last payload came.
    pub fn last_received(&self) -> Option<u64> {
        let received = |n: usize| self.moved.get(n).map_or(0, |(_, bytes)| bytes.received);
        let grew = |n: &usize| received(*n) > n.checked_sub(1).map_or(0, received);
        (0..self.moved.len()).rev().find(grew).map(|n| self.moved[n].0)
    }
}

/// A line of a record.
#[derive(Deserialize)]
struct Line {
    at: u64,
    connection: u64,
    event: String,
    path: Option<String>,
    why: Option<String>,
    received: Option<u64>,
    echoed: Option<u64>,
}

/// What a record says, by the connections' numbers. Its last line may be cut off: its process may have been killed.
fn connections(record: &str) -> Vec<Connection> {
    let mut all: BTreeMap<u64, Connection> = BTreeMap::new();
    for line in record.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let line: Line = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let connection = all.entry(line.connection).or_default();
        match line.event.as_str() {
            "opened" => {
                let path = line.path.unwrap_or_default();
                (connection.opened, connection.stream) = (line.at, number(&path, "stream="));
                connection.user = number(&path, "user=");
            }
            "closing" => connection.closing = Some(line.at),
            "closed" => (connection.closed, connection.why) = (Some(line.at), line.why),
            "moved" => {}
            other => panic!("an event {other}"),
        }
        if let (Some(received), Some(echoed)) = (line.received, line.echoed) {
            connection.moved.push((line.at, Bytes { received, echoed }));
        }
    }
    all.into_values().collect()
}

/// The digits behind `key`.
///
/// # Panics
/// There are none.
pub fn number(text: &str, key: &str) -> u32 {
    let digits = text.split_once(key).map(|(_, rest)| rest.split(|it: char| !it.is_ascii_digit()).next());
    digits.flatten().and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no {key} in {text}"))
}

impl Replica {
    /// It begins to live, with a record of its own.
    pub fn begin(&mut self, version: &str, folder: &Folder) {
        let record = folder.path(&format!("{}-{}.jsonl", self.name, self.lives.len()));
        let mut command = Command::new(program("scale-sink"));
        command.args(["--protocol", "ws", "--listen", &self.address, "--server-version", version]);
        command.args(["--response-header", &format!("X-Replica: {}", self.name)]);
        command.arg("--record").arg(&record).args(&self.arguments);
        self.process = Some(Process::start(&mut command, "listening on ").0);
        self.lives.push(record);
    }

    /// SIGKILL; when it was sent, and when nothing was left of the process.
    pub fn kill(&mut self) -> (u64, u64) {
        let before = host::monotonic_now().ns();
        drop(self.process.take().expect("it lives"));
        (before, host::monotonic_now().ns())
    }

    /// SIGTERM, and its counts once it has ended.
    pub fn end(&mut self) -> Value {
        let process = self.process.take().expect("it lives");
        serde_json::from_str(&process.end()).expect("one JSON object")
    }

    /// Sends it a signal by name; when.
    pub fn signal(&self, name: &str) -> u64 {
        let now = host::monotonic_now().ns();
        self.process.as_ref().expect("it lives").signal(name);
        now
    }

    /// What its newest process has seen so far.
    pub fn seen(&self) -> Vec<Connection> {
        self.seen_in(self.lives.len() - 1)
    }

    /// What the process of its life `n` saw.
    pub fn seen_in(&self, n: usize) -> Vec<Connection> {
        connections(&std::fs::read_to_string(&self.lives[n]).expect("its record"))
    }

    /// What all its processes saw.
    pub fn seen_ever(&self) -> impl Iterator<Item = Connection> {
        (0..self.lives.len()).flat_map(|n| self.seen_in(n))
    }
}

impl Replicas {
    /// So many, of one version, at 127.0.1.1 and on; sinks with further arguments.
    pub fn start(count: usize, version: &str, arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let replica = |n: usize| Replica {
            name: format!("r{n}"),
            address: format!("127.0.1.{n}:{}", free_port()),
            process: None,
            lives: Vec::new(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        };
        let mut replicas = Self { all: (1..=count).map(replica).collect(), folder };
        (0..count).for_each(|n| replicas.begin(n, version));
        replicas
    }

    /// One of them lives again.
    pub fn begin(&mut self, n: usize, version: &str) {
        self.all[n].begin(version, &self.folder);
    }

    /// Where all of it is kept; peers may keep theirs there, too.
    pub const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// When each stream was first open again behind `at`, anywhere. A connection that was over before anything came on it
    /// is none: its proxy gave it up, and its client never had it.
    pub fn returns(&self, at: u64) -> BTreeMap<u32, u64> {
        let mut returns = BTreeMap::new();
        let lasted = |it: &Connection| it.closed.is_none() || it.bytes().received > 0;
        let all = self.all.iter().flat_map(Replica::seen_ever);
        let opened = all.filter(|connection| connection.opened > at && lasted(connection));
        for Connection { stream, opened, .. } in opened {
            let first = returns.entry(stream).or_insert(opened);
            *first = opened.min(*first);
        }
        returns
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        let live = self.all.iter().filter(|replica| replica.process.is_some());
        live.flat_map(Replica::seen).filter(|connection| connection.closed.is_none()).count()
    }

    /// When payload came last, to any of them.
    pub fn last_received(&self) -> u64 {
        let seen = self.all.iter().flat_map(Replica::seen);
        seen.filter_map(|connection| connection.last_received()).max().unwrap_or(0)
    }
}
