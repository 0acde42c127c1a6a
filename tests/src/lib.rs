//! The harness: a sink and a daemon in a temporary folder, driven by the real `scalectl`.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use scale_api::report::Report;
use serde_json::Value;

pub mod certificate;
pub mod decoders;
pub mod grafana;
pub mod hiccups;
pub mod host;
pub mod hosts;
pub mod network;
pub mod peer;
pub mod replicas;
pub mod repository;
pub mod server;
pub mod ssh;

use host::Folder;

/// A program of ours beside the test's own.
pub fn program(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("a test has a path");
    let folder = me.parent().and_then(Path::parent).expect("target/profile/deps");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: build it first, with the features that tests/run has",
        path.display()
    );
    path
}

/// A program of ours, without what this shell knows of somebody's Coder deployment.
pub fn command(name: &str) -> Command {
    scale_ring::host::heed_interrupts(); // a program inherits what is ignored here
    let mut command = Command::new(program(name));
    let known = std::env::vars_os().map(|(name, _)| name);
    for variable in known.filter(|name| name.to_string_lossy().starts_with("CODER_")) {
        command.env_remove(variable);
    }
    command
}

/// A process that ends with the test.
pub struct Process(pub Child);

impl Process {
    /// Starts `command` and waits until it says `word` on stderr; returns that line, too.
    pub fn start(command: &mut Command, word: &str) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut seen = Vec::new();
        let line = loop {
            let Some(Ok(line)) = lines.next() else { panic!("it ended early: {seen:?}") };
            if line.contains(word) {
                break line;
            }
            seen.push(line);
        };
        std::thread::spawn(move || lines.for_each(drop));
        (Self(child), line)
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// SIGTERM, and what it printed.
    pub fn end(mut self) -> String {
        self.signal("TERM");
        let mut text = String::new();
        self.0.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
        self.0.wait().expect("it ends");
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A sink: its process and address.
pub struct Sink {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: String,
}

impl Sink {
    /// Starts a sink on a free port.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(program("scale-sink"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        let (process, line) = Process::start(&mut command, "listening on ");
        Self { process, address: line.trim_start_matches("listening on ").to_owned() }
    }

    /// Ends it; its counts.
    pub fn counts(self) -> Value {
        serde_json::from_str(&self.process.end()).expect("one JSON object")
    }
}

/// A daemon in a folder of its own.
pub struct Daemon {
    /// The process, unless it was ended.
    pub process: Option<Process>,
    /// Where it is scraped, if it is.
    pub scraped: Option<String>,
    /// Of its environment, from its next beginning on.
    pub environment: Vec<(&'static str, PathBuf)>,
    folder: Folder,
    metrics: &'static str,
}

impl Daemon {
    /// Starts a daemon with defaults.
    pub fn start() -> Self {
        Self::start_with("off")
    }

    /// Starts a daemon that can be scraped on a free port.
    pub fn start_scraped() -> Self {
        Self::start_with("127.0.0.1:0")
    }

    fn start_with(metrics: &'static str) -> Self {
        let folder = Folder::new();
        let mut daemon = Self { process: None, scraped: None, environment: Vec::new(), folder, metrics };
        daemon.begin();
        daemon
    }

    /// Starts the process (again).
    pub fn begin(&mut self) {
        let mut command = command("scaled");
        command.arg("--config").arg(self.folder.path("scaled.toml"));
        command
            .arg("--socket")
            .arg(self.socket())
            .arg("--state")
            .arg(self.folder.path("runs"))
            .args(["--metrics", self.metrics])
            .envs(self.environment.iter().cloned());
        let (process, line) = Process::start(&mut command, "ready");
        self.process = Some(process);
        self.scraped = line
            .split_once("metrics on http://")
            .and_then(|(_, rest)| rest.split_once("/metrics"))
            .map(|(address, _)| address.to_owned());
    }

    /// Where it keeps its runs.
    pub fn state(&self) -> PathBuf {
        self.folder.path("runs")
    }

    /// Writes `targets.toml` beside its configuration; read when it begins.
    pub fn allow(&self, text: &str) {
        let path = self.folder.write("targets.toml", text);
        // Whatever the umask: a list that others can write is none.
        let own = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644));
        own.expect("ours");
    }

    /// The same by a link, which leads to a file of another name.
    pub fn allow_by_link(&self, text: &str) {
        self.allow(text);
        let (list, real) = (self.folder.path("targets.toml"), self.folder.path("real.toml"));
        std::fs::rename(&list, &real).expect("ours");
        std::os::unix::fs::symlink("real.toml", &list).expect("ours");
    }

    /// Writes its configuration, over which its socket, state and metrics are set all the same; read
    /// when it begins.
    pub fn configure(&self, text: &str) {
        self.folder.write("scaled.toml", text);
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path("control.sock")
    }

    /// `scalectl` with arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command("scalectl");
        command.arg("--socket").arg(self.socket()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs `scalectl` to its end.
    pub fn scalectl(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("scalectl runs")
    }

    /// Runs `scalectl start --json` to its end: exit code and report.
    pub fn run(&self, arguments: &[&str]) -> (i32, Report) {
        let output = self.scalectl(&[&["--json", "start"], arguments].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let last =
            text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let report = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));
        (output.status.code().expect("an exit code"), report)
    }
}

/// The run ended with `wanted`, or, on a machine too busy to send all that was due, as incomplete:
/// that is nobody's fault but the machine's, and every other figure must be right all the same.
///
/// # Panics
/// It ended otherwise.
pub fn assert_ended_with(wanted: i32, (code, report): (i32, &Report)) {
    let late = report.load.ticks_missed.generator > 0 || report.generator.saturated;
    assert!(code == wanted || (code == 6 && late), "{code}, not {wanted}: {:?}", report.verdict);
    assert_eq!(i32::from(report.verdict.exit_code), code);
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.process.take()); // before its folder goes
    }
}
