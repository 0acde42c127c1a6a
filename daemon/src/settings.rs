//! The daemon's own settings: flags over file over defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use scale_api::units::Bytes;
use serde::Deserialize;

/// Flags.
#[derive(Debug, Parser)]
#[command(
    name = "scaled",
    version,
    about = "A paced traffic generator: holds tens of thousands of websocket streams"
)]
pub struct Flags {
    /// Configuration file; absent is fine.
    #[arg(long, value_name = "FILE", default_value = "/etc/scaled/scaled.toml")]
    config: PathBuf,
    /// Control socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where Prometheus scrapes, or `off`.
    #[arg(long, value_name = "ADDR:PORT|off")]
    metrics: Option<String>,
    /// Cores for workers, such as 2-7,10.
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Folder for runs' results.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Real-time scheduling of workers: half a core's noise less, and nothing else runs there.
    #[arg(long, value_name = "off|fifo")]
    realtime: Option<Realtime>,
}

/// Scheduling of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Realtime {
    /// As any thread.
    #[default]
    Off,
    /// SCHED_FIFO.
    Fifo,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileForm {
    socket: Option<PathBuf>,
    metrics: Option<String>,
    cores: Option<String>,
    state: Option<PathBuf>,
    realtime: Option<Realtime>,
    runs_kept_max: Option<usize>,
    runs_bytes_max: Option<Bytes>,
}

/// How much is kept of runs: beyond it the oldest go.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// Runs.
    pub runs_max: usize,
    /// Bytes of all of them together.
    pub bytes_max: u64,
}

impl Keep {
    /// Where the file says nothing.
    pub const DEFAULT: Self = Self { runs_max: 200, bytes_max: 2_000_000_000 };
}

/// Everything decided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Control socket.
    pub socket: PathBuf,
    /// Metrics listener; `None`: off.
    pub metrics: Option<SocketAddr>,
    /// Cores for workers.
    pub cores: Vec<usize>,
    /// Folder for runs.
    pub state: PathBuf,
    /// Scheduling of workers.
    pub realtime: Realtime,
    /// How much is kept of runs.
    pub keep: Keep,
    /// The list of what may be hit.
    pub targets: PathBuf,
}

/// The port that Coder's own scale test uses.
const METRICS: &str = "127.0.0.1:21112";

impl Settings {
    /// Whether `text` is a configuration file as far as its words go.
    ///
    /// # Errors
    /// Where it is not, and why.
    pub fn check(text: &str) -> Result<(), String> {
        toml::from_str::<FileForm>(text).map(drop).map_err(|error| error.to_string())
    }

    /// Decides everything.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn decide(flags: Flags) -> Result<Self, String> {
        let file = match std::fs::read_to_string(&flags.config) {
            Ok(text) => {
                toml::from_str(&text).map_err(|error| format!("{}: {error}", flags.config.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => FileForm::default(),
            Err(error) => return Err(format!("cannot read {}: {error}", flags.config.display())),
        };
        let root = scale_ring::host::effective_uid() == 0;
        let environment = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let home = || environment("HOME").unwrap_or_else(|| "/tmp".into());
        let socket = flags.socket.or(file.socket).unwrap_or_else(|| match environment("RUNTIME_DIRECTORY") {
            Some(folder) => folder.join("control.sock"),
            None if root => "/run/scaled/control.sock".into(),
            None => environment("XDG_RUNTIME_DIR").unwrap_or_else(home).join("scaled/control.sock"),
        });
        let state = flags.state.or(file.state).unwrap_or_else(|| match environment("STATE_DIRECTORY") {
            Some(folder) => folder,
            None if root => "/var/lib/scaled".into(),
            None => {
                environment("XDG_STATE_HOME").unwrap_or_else(|| home().join(".local/state")).join("scaled")
            }
        });
        let metrics = match flags.metrics.or(file.metrics).as_deref().unwrap_or(METRICS) {
            "off" => None,
            text => Some(text.parse().map_err(|_| format!("--metrics `{text}`: write ADDR:PORT or off"))?),
        };
        let available = scale_ring::host::available_cores();
        let cores = match flags.cores.or(file.cores) {
            Some(text) => {
                let cores = scale_api::units::parse_cores(&text).map_err(|error| error.to_string())?;
                if let Some(core) = cores.iter().find(|core| !available.contains(core)) {
                    return Err(format!(
                        "--cores {text}: core {core} is not available here; there are {available:?}"
                    ));
                }
                cores
            }
            None if available.len() > 2 => available[1..].to_vec(),
            None => available,
        };
        let targets = flags.config.parent().unwrap_or(Path::new("/etc/scaled")).join("targets.toml");
        let realtime = flags.realtime.or(file.realtime).unwrap_or_default();
        let keep = Keep {
            runs_max: file.runs_kept_max.unwrap_or(Keep::DEFAULT.runs_max),
            bytes_max: file.runs_bytes_max.map_or(Keep::DEFAULT.bytes_max, |bytes| bytes.0),
        };
        Ok(Self { socket, metrics, cores, state, realtime, keep, targets })
    }
}
