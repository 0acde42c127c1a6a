//! The command line's words, and the run that the flags of `start` make.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use scale_api::private::credentials;
use scale_api::spec::{self, File, GroupSpec, Spec, ThresholdSpec};
use scale_api::threshold::Preset;
use scale_api::units::{Bytes, PerSecond, Rate, Span};

use crate::client::Failure;
use crate::coder::{CleanupFlags, CreateUsersFlags, CreateWorkspacesFlags};
use crate::export::Exports;
use crate::files::{FILES_BYTES_MAX, hand_over, hand_over_observe, read};
use crate::ssh::SshFlags;

/// Drives `scaled`, a paced traffic generator.
#[derive(Debug, Parser)]
#[command(name = "scalectl", version)]
pub struct Cli {
    /// Control socket of the daemon.
    #[arg(long, global = true, env = "SCALED_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a run and follow it.
    Start(Box<Start>),
    /// What the daemon is doing.
    Status,
    /// Follow a run that is going.
    Watch {
        /// Its id; default: the one that is going.
        run: Option<String>,
        #[command(flatten)]
        exports: Exports,
    },
    /// Change a run that is going.
    Set(Set),
    /// Put a named moment on the run's time line.
    Mark {
        /// For so long from now on streams are expected to drop, and what is due is judged by itself; 0s: just a note.
        #[arg(long, value_name = "TIME")]
        expect_disruption: Option<Span>,
        /// What happened.
        #[arg(required = true)]
        text: Vec<String>,
    },
    /// Hold connections and stop sending; paused time is not due.
    Pause,
    /// Go on sending.
    Resume,
    /// End a run in order and show its verdict.
    Stop {
        /// Its id; default: the one that is going.
        run: Option<String>,
        /// Zero traffic within a second (exit code 5).
        #[arg(long)]
        now: bool,
        /// Every run of this daemon (there is at most one); that none is going is no error.
        #[arg(long, conflicts_with = "run")]
        all: bool,
        #[command(flatten)]
        exports: Exports,
    },
    /// Runs that are kept, and the one that is going.
    Runs {
        #[command(subcommand)]
        action: Option<RunsAction>,
    },
    /// The result of a run.
    Report {
        /// Its id; default: the last. `current`: the one that is going, so far. Several are a table: --row.
        runs: Vec<String>,
        /// Print a row of a table of scale tests instead, a run each; runs may be report.json files or folders of runs.
        #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "markdown", conflicts_with_all = ["html", "junit", "summary"])]
        row: Option<crate::row::Form>,
        /// Also write it as one HTML file that opens offline; - is stdout, and then nothing else is printed.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        #[command(flatten)]
        exports: Exports,
    },
    /// Two results, or two sets of them, side by side, and which is better.
    Compare(Box<crate::compare::Compare>),
    /// Is this host fit.
    Doctor {
        /// Also: can it carry the run of this file (TOML).
        #[arg(long = "for", value_name = "FILE")]
        run: Option<PathBuf>,
    },
    /// What this host can offer: streams at a rate, found by steps in under two minutes.
    Calibrate(Box<crate::calibrate::Calibrate>),
    /// The most that a target carries: load grows by steps until what --until says breaks.
    FindMax(Box<crate::find_max::FindMax>),
    /// What may be hit from this host.
    Targets,
    /// Read the daemon's settings and targets.toml again.
    Reload,
    /// Coder: make test users.
    CreateUsers(Box<CreateUsersFlags>),
    /// Coder: make test workspaces and wait for their agents.
    CreateWorkspaces(Box<CreateWorkspacesFlags>),
    /// Coder: drive web terminals, apps or SSH of test workspaces.
    WorkspaceTraffic(Box<crate::coder::WorkspaceTrafficFlags>),
    /// Coder: make, measure, drive and clean up, as a file says, in one run.
    Scenario(Box<crate::coder::ScenarioFlags>),
    /// Coder: list what this host's runs made there, ask, delete it.
    Cleanup(Box<CleanupFlags>),
    /// Shell completions.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// The manual page, as roff.
    Man {
        /// Write it there instead, and a page for each command beside it.
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

/// What to do with runs.
#[derive(Debug, Subcommand)]
pub enum RunsAction {
    /// Remove results.
    Rm {
        /// Ids.
        #[arg(required_unless_present = "all_but")]
        runs: Vec<String>,
        /// All but the newest N that have ended; what owns something on Coder stays, too.
        #[arg(long, value_name = "N", conflicts_with = "runs")]
        all_but: Option<usize>,
    },
}

/// Changes to a going run.
#[derive(Debug, Args)]
pub struct Set {
    /// Streams.
    #[arg(short = 'c', long)]
    pub conns: Option<u64>,
    /// Payload a second and stream, such as 40KB/s.
    #[arg(long)]
    pub rate: Option<Rate>,
    /// Payload a tick and stream.
    #[arg(long, value_parser = Bytes::parse_bare)]
    pub bytes_per_tick: Option<Bytes>,
    /// Time between two messages of a stream.
    #[arg(long)]
    pub tick_interval: Option<Span>,
    /// Which group.
    #[arg(long)]
    pub group: Option<String>,
}

macro_rules! words {
    ($name:ident => $target:path { $($variant:ident),* }) => {
        #[derive(Debug, Clone, Copy, ValueEnum)]
        pub enum $name { $($variant),* }
        impl From<$name> for $target {
            fn from(word: $name) -> Self {
                match word { $($name::$variant => Self::$variant),* }
            }
        }
    };
}

words!(TrafficWord => spec::Traffic { Echo, Discard, Receive });
words!(OffsetWord => spec::TickOffset { Spread, Aligned, Random });
words!(OpcodeWord => spec::Opcode { Binary, Text });

/// The run of a file, and the folder from which it names others.
fn run_file(path: &Path) -> Result<(Spec, PathBuf), Failure> {
    let text = String::from_utf8(read(path, "--file", FILES_BYTES_MAX)?)
        .map_err(|_| Failure::usage(format!("--file: {} is not text", path.display())))?;
    let spec = Spec::from_toml(&text, &path.display().to_string()).map_err(Failure::usage)?;
    Ok((spec, path.parent().map(Path::to_owned).unwrap_or_default()))
}

/// Checks a run, and reads the files that it names.
///
/// # Errors
/// The user's mistakes.
pub fn complete(mut spec: Spec, folder: &Path) -> Result<Spec, Failure> {
    spec.name_groups();
    spec.check().map_err(|errors| Failure::usage(errors.join("\nscalectl: ")))?;
    let credentials = credentials();
    hand_over(spec.group.iter_mut(), folder, credentials.as_deref())?;
    hand_over_observe(spec.observe.as_mut(), folder, credentials.as_deref())?;
    Ok(spec)
}

/// The run that a file describes, its files read.
///
/// # Errors
/// The user's mistakes.
pub fn spec_of(file: &Path) -> Result<Spec, Failure> {
    let (spec, folder) = run_file(file)?;
    complete(spec, &folder)
}

/// Load on the command line. It makes one group, "main".
#[derive(Debug, Args)]
pub struct Load {
    /// Run file (TOML) instead of the flags below.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// ws://, wss://, tcp:// or ssh:// URL, with ",weight" behind it where there are several.
    #[arg(long, value_name = "URL[,WEIGHT]")]
    pub target: Vec<String>,
    /// Streams.
    #[arg(short, long)]
    pub conns: Option<u64>,
    /// Payload a second and stream each way, such as 40KB/s.
    #[arg(long)]
    pub rate: Option<Rate>,
    /// Payload a tick and stream (default 4096B).
    #[arg(long, value_parser = Bytes::parse_bare)]
    pub bytes_per_tick: Option<Bytes>,
    /// Time between two messages of a stream (default 100ms).
    #[arg(long)]
    pub tick_interval: Option<Span>,
    /// echo: write and read back; discard: write only; receive: read only.
    #[arg(long)]
    pub traffic: Option<TrafficWord>,
    /// How streams share a tick (default spread).
    #[arg(long)]
    pub tick_offset: Option<OffsetWord>,
    /// Time over which the streams are opened.
    #[arg(long)]
    pub ramp: Option<Span>,
    /// Streams opened a second, in all (default 1000/s a worker).
    #[arg(long)]
    pub connect_rate: Option<PerSecond>,
    /// Connects under way at once; 0: no limit.
    #[arg(long)]
    pub concurrency: Option<u32>,
    /// Time after the ramp that does not count (default 5s).
    #[arg(long)]
    pub warm_up: Option<Span>,
    /// Steady state (default 1m), or `forever`.
    #[arg(long)]
    pub duration: Option<spec::Duration>,
    /// Longest wait for answers after the end (default 10s).
    #[arg(long)]
    pub drain: Option<Span>,
    /// From the first packet until a stream is open (default 10s).
    #[arg(long)]
    pub connect_timeout: Option<Span>,
    /// After a loss: never (default), backoff, client, or client: and web-terminal, ssh, autossh, vscode, jetbrains.
    #[arg(long, value_name = "WORD")]
    pub reconnect: Option<spec::Reconnect>,
    /// Streams replaced a second, in all.
    #[arg(long)]
    pub churn: Option<PerSecond>,
    /// Hold connects where this share of them fails: on (50%), off, or a share such as 30%.
    #[arg(long, value_name = "on|off|SHARE")]
    pub breaker: Option<spec::Breaker>,
    /// End the run where its target answers nothing for so long (default 30s; 2m with --reconnect), or `off`.
    #[arg(long, value_name = "TIME|off")]
    pub silence: Option<spec::Silence>,
    /// Decides payload, masks and random offsets.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Compare every echoed byte.
    #[arg(long)]
    pub verify: bool,
    /// CSV file whose row n fills {column} in URL, headers and SSH login of stream n.
    #[arg(long, value_name = "FILE.csv")]
    pub rows: Option<PathBuf>,
    /// Column of --rows that says whose a stream is: users that a disruption hits are counted by it.
    #[arg(long, value_name = "COLUMN")]
    pub user_column: Option<String>,
    /// Header of the upgrade's answer that names the server's replica.
    #[arg(long, value_name = "HEADER")]
    pub replica_header: Option<String>,
    /// For so long after each mark streams are expected to drop: what is due then is judged by itself.
    #[arg(long, value_name = "TIME")]
    pub expect_disruption: Option<Span>,
    /// Header of the upgrade, 'Name: value'; secrets go into --header-file.
    #[arg(long)]
    pub header: Vec<String>,
    /// File of header lines.
    #[arg(long, value_name = "FILE")]
    pub header_file: Option<PathBuf>,
    /// Websocket subprotocol.
    #[arg(long)]
    pub subprotocol: Option<String>,
    /// Data frames (default binary).
    #[arg(long)]
    pub opcode: Option<OpcodeWord>,
    /// Sent once when a stream opens.
    #[arg(long, value_name = "FILE")]
    pub first_message: Option<PathBuf>,
    /// Every message is this file's content.
    #[arg(long, value_name = "FILE")]
    pub message_file: Option<PathBuf>,
    /// Roots to trust, PEM.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Client certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Accept any certificate.
    #[arg(long)]
    pub insecure: bool,
    /// Source addresses of this host, or ranges.
    #[arg(long, value_name = "ADDR|CIDR")]
    pub source: Vec<String>,
    /// Interfaces that connections are spread over.
    #[arg(long, value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub interface: Vec<String>,
    /// Connect there instead; name and SNI stay the target's.
    #[arg(long, value_name = "HOST:PORT")]
    pub connect_to: Option<String>,
    /// Send buffer of each socket.
    #[arg(long)]
    pub sndbuf: Option<Bytes>,
    /// Receive buffer of each socket.
    #[arg(long)]
    pub rcvbuf: Option<Bytes>,
    /// What the run is called.
    #[arg(long)]
    pub name: Option<String>,
    /// Kept in the report, k=v.
    #[arg(long, value_name = "K=V")]
    pub label: Vec<String>,
}

/// A run on the command line.
#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    pub load: Load,
    /// What the run is judged by, such as 'response.p99 < 250ms'.
    #[arg(long, value_name = "EXPR")]
    pub threshold: Vec<String>,
    /// Thresholds by one name: coder-gates, coder-table.
    #[arg(long, value_name = "NAME")]
    pub preset: Vec<Preset>,
    #[command(flatten)]
    pub exports: Exports,
    /// Print the plan and start nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Return at once with the run's id.
    #[arg(long)]
    pub detach: bool,
    /// The last: its heading in the help is of all that follows.
    #[command(flatten)]
    pub ssh: SshFlags,
}

/// `k=v` each.
///
/// # Errors
/// One is not.
pub fn labels(labels: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Failure::usage(format!("--label {text}: write it as k=v")))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    labels.iter().map(pair).collect()
}

impl Start {
    /// The run, its files read.
    ///
    /// # Errors
    /// The user's mistakes.
    pub fn spec(&self) -> Result<Spec, Failure> {
        let (mut spec, folder) = self.load.spec(&self.ssh)?;
        spec.preset.extend(&self.preset);
        spec.threshold
            .extend(self.threshold.iter().map(|expression| ThresholdSpec { expression: expression.clone() }));
        complete(spec, &folder)
    }
}

impl Load {
    /// The run as it was written, and the folder from which it names files.
    ///
    /// # Errors
    /// The user's mistakes.
    pub fn spec(&self, ssh: &SshFlags) -> Result<(Spec, PathBuf), Failure> {
        let (mut spec, folder) = match &self.file {
            Some(path) => {
                if self.group(ssh) != (GroupSpec { name: spec::MAIN_GROUP.into(), ..GroupSpec::default() }) {
                    return Err(Failure::usage(
                        "--file says what the run does; beside it there are --name, --label, --seed, --threshold, --preset, --expect-disruption, --junit, --summary, --dry-run and --detach: write the rest into the file",
                    ));
                }
                run_file(path)?
            }
            None => (Spec { group: vec![self.group(ssh)], ..Spec::default() }, PathBuf::new()),
        };
        spec.name = self.name.clone().or(spec.name);
        spec.seed = self.seed.or(spec.seed);
        spec.expect_disruption = self.expect_disruption.or(spec.expect_disruption);
        spec.labels.extend(labels(&self.label)?);
        Ok((spec, folder))
    }

    fn group(&self, ssh: &SshFlags) -> GroupSpec {
        let file = |path: &Option<PathBuf>| path.as_ref().map(File::new);
        let mut group = GroupSpec {
            typed: None,
            name: spec::MAIN_GROUP.into(),
            target: self.target.clone(),
            conns: self.conns,
            rate: self.rate,
            bytes_per_tick: self.bytes_per_tick,
            tick_interval: self.tick_interval,
            traffic: self.traffic.map(Into::into).unwrap_or_default(),
            tick_offset: self.tick_offset.map(Into::into).unwrap_or_default(),
            start: None,
            ramp: self.ramp,
            connect_rate: self.connect_rate,
            concurrency: self.concurrency,
            warm_up: self.warm_up,
            duration: self.duration,
            drain: self.drain,
            connect_timeout: self.connect_timeout,
            reconnect: self.reconnect.unwrap_or_default(),
            churn: self.churn,
            breaker: self.breaker,
            silence: self.silence,
            verify: self.verify,
            rows: file(&self.rows),
            user_column: self.user_column.clone(),
            replica_header: self.replica_header.clone(),
            header: self.header.clone(),
            header_file: file(&self.header_file),
            subprotocol: self.subprotocol.clone(),
            opcode: self.opcode.map(Into::into).unwrap_or_default(),
            first_message: file(&self.first_message),
            message_file: file(&self.message_file),
            ca: file(&self.ca),
            cert: file(&self.cert),
            key: file(&self.key),
            insecure: self.insecure,
            source: self.source.clone(),
            interface: self.interface.clone(),
            connect_to: self.connect_to.clone(),
            sndbuf: self.sndbuf,
            rcvbuf: self.rcvbuf,
            stage: Vec::new(),
            ..GroupSpec::default()
        };
        ssh.write_into(&mut group);
        group
    }
}
