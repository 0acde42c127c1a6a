//! `scale-sink --protocol coder`: its flags, and a deployment from them until the end.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::UNIX_EPOCH;

use clap::Args;
use scale_ring::host;

use super::seen::Seen;
use super::{Deployment, Faults, Settings, Version, serve};

/// Flags of the stand-in Coder deployment (`--protocol coder`).
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "With --protocol coder")]
pub struct Flags {
    /// Whose behaviour is imitated: v0.24, v2.8, v2.18 or v2.26 [default: v2.26].
    #[arg(long, value_name = "VERSION")]
    pub coder_version: Option<Version>,
    /// Servers behind the one address; connections go to them in turn [default: 1].
    #[arg(long, value_name = "N")]
    pub coder_replicas: Option<u16>,
    /// Users besides the owner: member-1, … [default: 0].
    #[arg(long, value_name = "N")]
    pub coder_users: Option<u32>,
    /// Templates besides the built-in ones: template-1, … [default: 0].
    #[arg(long, value_name = "N")]
    pub coder_templates: Option<u32>,
    /// Everything else about the deployment, in TOML.
    #[arg(long, value_name = "FILE")]
    pub coder_settings: Option<PathBuf>,
    /// What goes wrong on purpose: [[fault]] tables in TOML.
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// Write the owner's session token here, readable by you alone.
    #[arg(long, value_name = "FILE")]
    pub token_out: Option<PathBuf>,
    /// Make the same ids and chances each time; tokens stay secret.
    #[arg(long, value_name = "N")]
    pub coder_seed: Option<u64>,
}

impl Flags {
    /// The first of them that was given.
    pub fn given(&self) -> Option<&'static str> {
        let Self { coder_version, coder_replicas, coder_users, coder_templates, .. } = self;
        let Self { coder_settings, faults, token_out, coder_seed, .. } = self;
        [
            ("--coder-version", coder_version.is_some()),
            ("--coder-replicas", coder_replicas.is_some()),
            ("--coder-users", coder_users.is_some()),
            ("--coder-templates", coder_templates.is_some()),
            ("--coder-settings", coder_settings.is_some()),
            ("--faults", faults.is_some()),
            ("--token-out", token_out.is_some()),
            ("--coder-seed", coder_seed.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }

    /// The deployment that they describe.
    fn deployment(&self) -> Result<Deployment, String> {
        let mut settings = match &self.coder_settings {
            Some(path) => Settings::from_toml(&read(path)?).map_err(|error| within(path, &error))?,
            None => Settings::default(),
        };
        settings.version = self.coder_version.unwrap_or(settings.version);
        settings.replicas = self.coder_replicas.unwrap_or(settings.replicas);
        settings.users = self.coder_users.unwrap_or(settings.users);
        settings.templates = self.coder_templates.unwrap_or(settings.templates);
        let wall = host::wall_now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        settings.wall_at_zero_ns = wall.saturating_sub(host::monotonic_now().ns());
        settings.check()?;
        let faults = match &self.faults {
            Some(path) => Faults::from_toml(&read(path)?).map_err(|error| within(path, &error))?,
            None => Faults::default(),
        };
        let ids = self.coder_seed.unwrap_or_else(host::random_seed);
        let seed = u128::from(host::random_seed()) << 64 | u128::from(ids);
        Ok(Deployment::new(settings, faults, host::monotonic_now(), seed))
    }

    /// Serves on `listen` until `stop`; `ready` is told the address.
    ///
    /// # Errors
    /// A sentence: what does not work, and what to change.
    pub fn run(
        &self,
        listen: SocketAddr,
        stop: &AtomicBool,
        ready: impl FnOnce(SocketAddr),
    ) -> Result<Seen, String> {
        if !listen.ip().is_loopback() {
            return Err(format!(
                "{listen} is no loopback address: whoever has a token could run shells as you; use 127.0.0.1"
            ));
        }
        host::nofile_limit(); // raised as far as it goes: each terminal is a socket
        let deployment = self.deployment()?;
        let listener = TcpListener::bind(listen)
            .map_err(|error| format!("cannot listen on {listen}: {error}; choose another --listen"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        if let Some(path) = &self.token_out {
            let Some(token) = deployment.owner_token() else {
                return Err("first_boot: there is no owner yet; leave out --token-out".to_owned());
            };
            write_secret(path, token).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        ready(address);
        serve::serve(listener, deployment, stop).map_err(|error| error.to_string())
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn within(path: &Path, error: &str) -> String {
    format!("{}: {error}", path.display())
}

/// A new file that only its owner can read, in place of what was there.
fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(secret.as_bytes())
}
