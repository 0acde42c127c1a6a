//! The listeners: those that systemd passes (sd_listen_fds(3)), else those that are made here.
//!
//! A socket that was asked for by a flag or the settings file goes before a passed one. A passed socket is its
//! giver's: its file stays when the daemon ends, and so do callers that wait in it.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use scale_ring::passed::{Kind, Passed};
use tokio::net::{TcpListener, UnixListener};

use crate::settings::Settings;

/// What a passed control socket is called (`FileDescriptorName=`).
const CONTROL: &str = "control";
/// What a passed metrics listener is called.
const METRICS: &str = "metrics";
/// The socket: the owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// What the daemon listens on.
pub struct Sockets {
    /// The control socket.
    pub control: UnixListener,
    /// Where it is, for who reads the log.
    pub place: String,
    /// The metrics listener, unless it is off.
    pub metrics: Option<TcpListener>,
    /// Removes the control socket's file in the end, where it was made here.
    pub file: Option<SocketFile>,
}

impl Sockets {
    /// Takes what was passed and makes the rest. To be called within the runtime.
    ///
    /// # Errors
    /// A socket cannot be had, or what was passed is not what its name says.
    pub async fn open(settings: &Settings, passed: Vec<Passed>) -> Result<Self, String> {
        let (mut control, mut metrics) = (None, None);
        for passed in passed {
            let (slot, kind, what, is_given) = match passed.name.as_str() {
                CONTROL => (&mut control, Kind::Unix, "a Unix stream socket", settings.socket_is_given),
                METRICS => (&mut metrics, Kind::Tcp, "a TCP socket", settings.metrics_is_given),
                name => {
                    ignored(name, "FileDescriptorName= has to be control or metrics");
                    continue;
                }
            };
            if passed.kind != kind {
                return Err(format!(
                    "the passed socket `{}` is not {what} that listens; see ListenStream= of its unit",
                    passed.name
                ));
            }
            if is_given {
                ignored(&passed.name, "the settings give another");
            } else if slot.is_some() {
                ignored(&passed.name, "there is one of that name already");
            } else {
                *slot = Some(passed);
            }
        }
        let (control, place, file) = match control {
            Some(passed) => taken(passed)?,
            None => {
                let path = &settings.socket;
                (bind(path).await?, path.display().to_string(), Some(SocketFile(path.clone())))
            }
        };
        let metrics = match (metrics, settings.metrics) {
            (Some(passed), _) => Some(listener(passed)?),
            (None, None) => None,
            (None, Some(address)) => Some(listen(address).await?),
        };
        Ok(Self { control, place, metrics, file })
    }
}

fn ignored(name: &str, why: &str) {
    tracing::warn!("the socket `{name}` that was passed is not used: {why}");
}

fn taken(passed: Passed) -> Result<(UnixListener, String, Option<SocketFile>), String> {
    let cannot = |error: std::io::Error| format!("cannot use the passed control socket: {error}");
    let listener = std::os::unix::net::UnixListener::from(passed.socket);
    listener.set_nonblocking(true).map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    let path = address.as_pathname().map_or("a socket".to_owned(), |path| path.display().to_string());
    Ok((UnixListener::from_std(listener).map_err(cannot)?, format!("{path} (passed)"), None))
}

fn listener(passed: Passed) -> Result<TcpListener, String> {
    let cannot = |error: std::io::Error| format!("cannot use the passed metrics socket: {error}");
    let listener = std::net::TcpListener::from(passed.socket);
    listener.set_nonblocking(true).map_err(cannot)?;
    TcpListener::from_std(listener).map_err(cannot)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen for scrapes on {address}: {error}; give --metrics ADDR:PORT or --metrics off")
    })
}

/// The control socket's file, which is ours alone once it is bound; it goes with the daemon.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The control socket; a stale one of a daemon that is gone is replaced.
async fn bind(path: &Path) -> Result<UnixListener, String> {
    let cannot = |error: std::io::Error| {
        format!("cannot make the control socket {}: {error}; give --socket PATH", path.display())
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(cannot)?;
    }
    if path.exists() {
        if !std::fs::metadata(path).map_err(cannot)?.file_type().is_socket() {
            return Err(format!("{} is there and is no socket; give another --socket PATH", path.display()));
        }
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(format!(
                "another scaled is serving {}; stop it, or give --socket PATH",
                path.display()
            ));
        }
        std::fs::remove_file(path).map_err(cannot)?;
    }
    let listener = UnixListener::bind(path).map_err(cannot)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(cannot)?;
    Ok(listener)
}
