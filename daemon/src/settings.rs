//! The daemon's own settings: flags over file over defaults. A reload decides them once more; [`Settings::restart_for`]
//! says what of them only a restart applies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use scale_api::units::Bytes;
use serde::Deserialize;

/// Flags.
#[derive(Debug, Clone, Parser)]
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

impl Realtime {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Fifo => "fifo",
        }
    }
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
    log: Option<String>,
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
    /// Somebody asked for that one: it goes before a socket that systemd passes.
    pub socket_is_given: bool,
    /// Metrics listener; `None`: off.
    pub metrics: Option<SocketAddr>,
    /// Likewise.
    pub metrics_is_given: bool,
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
    /// What is logged, where `SCALED_LOG` does not say.
    pub log: Option<String>,
    flags: Flags,
    /// Cores that this process had at its start, before its threads were pinned.
    available: Vec<usize>,
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

    /// Decides everything. Before any thread is pinned: the cores are those that the caller may run on.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn decide(flags: Flags) -> Result<Self, String> {
        Self::of(flags, scale_ring::host::available_cores())
    }

    /// Decides everything once more, the file as it is now.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn again(&self) -> Result<Self, String> {
        Self::of(self.flags.clone(), self.available.clone())
    }

    /// What `new` would change that only a restart applies: `cores (1-3, not 1)`.
    pub fn restart_for(&self, new: &Self) -> Vec<String> {
        let Self { socket, metrics, cores, state, realtime, .. } = self;
        let list = |cores: &[usize]| {
            let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
            cores.join(",")
        };
        let address =
            |metrics: &Option<SocketAddr>| metrics.map_or("off".into(), |address| address.to_string());
        [
            ("socket", socket.display().to_string(), new.socket.display().to_string()),
            ("metrics", address(metrics), address(&new.metrics)),
            ("cores", list(cores), list(&new.cores)),
            ("state", state.display().to_string(), new.state.display().to_string()),
            ("realtime", realtime.name().into(), new.realtime.name().into()),
        ]
        .into_iter()
        .filter(|(_, old, new)| old != new)
        .map(|(word, old, new)| format!("{word} stays {old}, not {new}"))
        .collect()
    }

    fn of(flags: Flags, available: Vec<usize>) -> Result<Self, String> {
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
        let kept = flags.clone();
        let socket_is_given = flags.socket.is_some() || file.socket.is_some();
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
        let metrics_is_given = flags.metrics.is_some() || file.metrics.is_some();
        let metrics = match flags.metrics.or(file.metrics).as_deref().unwrap_or(METRICS) {
            "off" => None,
            text => Some(text.parse().map_err(|_| format!("--metrics `{text}`: write ADDR:PORT or off"))?),
        };
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
            None => available.clone(),
        };
        let targets = flags.config.parent().unwrap_or(Path::new("/etc/scaled")).join("targets.toml");
        let realtime = flags.realtime.or(file.realtime).unwrap_or_default();
        let keep = Keep {
            runs_max: file.runs_kept_max.unwrap_or(Keep::DEFAULT.runs_max),
            bytes_max: file.runs_bytes_max.map_or(Keep::DEFAULT.bytes_max, |bytes| bytes.0),
        };
        Ok(Self {
            socket,
            socket_is_given,
            metrics,
            metrics_is_given,
            cores,
            state,
            realtime,
            keep,
            targets,
            log: file.log,
            flags: kept,
            available,
        })
    }
}

#[cfg(test)]
mod installed;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_restart_applies_is_named_with_what_stays() {
        let folder = std::env::temp_dir().join(format!("scaled-settings-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("scaled.toml");
        std::fs::write(&file, "metrics = \"off\"\nruns_kept_max = 5\n").unwrap();
        let flags = ["scaled", "--config", file.to_str().unwrap(), "--cores", "0", "--state", "/s"];
        let old = Settings::of(Flags::parse_from(flags), vec![0, 1]).unwrap();
        assert!(old.metrics_is_given && !old.socket_is_given && old.metrics.is_none());
        let text = "metrics = \"127.0.0.1:9\"\ncores = \"1\"\nrealtime = \"fifo\"\nruns_kept_max = 6\nlog = \"warn\"\n";
        std::fs::write(&file, text).unwrap();
        let new = old.again().unwrap();
        // A flag stays above the file, whatever the file says now.
        let said = ["metrics stays off, not 127.0.0.1:9", "realtime stays off, not fifo"];
        assert_eq!(old.restart_for(&new), said);
        assert_eq!((new.keep.runs_max, new.log.as_deref()), (6, Some("warn")));
        assert!(
            old.restart_for(
                &old.again().map(|new| Settings { metrics: None, realtime: Realtime::Off, ..new }).unwrap()
            )
            .is_empty()
        );
        std::fs::write(&file, "cores = 5\n").unwrap();
        assert!(old.again().unwrap_err().contains("scaled.toml"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
