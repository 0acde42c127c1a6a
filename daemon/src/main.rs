//! `scaled`: puts the parts together: settings, sockets, the control thread; workers come with
//! each run.

use std::cell::RefCell;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use scale_ring::private::{self, Wiping};
use scaled::control::server;
use scaled::control::state::{START_FAILED, State};
use scaled::run::store::Store;
use scaled::run::targets::Targets;
use scaled::settings::{Flags, Realtime, Settings};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: Wiping<mimalloc::MiMalloc> = Wiping(mimalloc::MiMalloc);

/// How often the run is looked after: how late a second's event may be.
const TICK: Duration = Duration::from_millis(50);
/// The socket: the owner and its group.
const SOCKET_MODE: u32 = 0o660;
/// After a signal: the longest wait for the run's end.
const END_WAIT: Duration = Duration::from_millis(800);

fn main() -> ExitCode {
    let flags = Flags::parse();
    private::keep_private();
    match scaled::log::begin().and_then(|()| Settings::decide(flags)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("scaled: {why}");
            ExitCode::from(START_FAILED)
        }
    }
}

fn run(settings: Settings) -> Result<(), String> {
    let targets = Targets::read(&settings.targets)?;
    let store = Store::open(settings.state.clone()).map_err(|error| {
        format!("cannot use {} for results: {error}; give --state DIR", settings.state.display())
    })?;
    match store.owned() {
        Ok(owned) => {
            for (run, count) in owned {
                tracing::warn!(
                    "run {run} left {count} users and workspaces; `scalectl cleanup` lists and deletes them"
                );
            }
        }
        Err(why) => tracing::warn!("{why}"),
    }
    let engine = State::engine(&settings)?;
    scale_ring::Features::probe().map_err(|error| error.to_string())?;
    // The control thread stays off the workers' cores where there are others.
    let spare: Vec<usize> = scale_ring::host::available_cores()
        .into_iter()
        .filter(|core| !settings.cores.contains(core))
        .collect();
    if let Some(&core) = spare.first() {
        scale_ring::host::pin_current_thread(core);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the control thread: {error}"))?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(settings, targets, store, engine))
}

async fn serve(
    settings: Settings,
    targets: Targets,
    store: Store,
    engine: scaled::run::workers::Engine,
) -> Result<(), String> {
    let control = bind(&settings.socket).await?;
    let _socket = SocketFile(settings.socket.clone());
    let metrics = match settings.metrics {
        None => None,
        Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
            format!(
                "cannot listen for scrapes on {address}: {error}; give --metrics ADDR:PORT or --metrics off"
            )
        })?),
    };
    // Port 0 is any free one: said is the one that it became.
    let scraped = metrics.as_ref().and_then(|listener| listener.local_addr().ok());
    let said = scraped.map_or("metrics off".to_owned(), |address| {
        let reach = if address.ip().is_loopback() { " (for this host alone)" } else { "" };
        format!("metrics on http://{address}/metrics, live page on http://{address}/{reach}")
    });
    let fifo = if settings.realtime == Realtime::Fifo { ", real-time" } else { "" };
    tracing::info!(
        "ready: control on {}, {said}, workers on cores {:?}{fifo}",
        settings.socket.display(),
        settings.cores
    );
    let state = Rc::new(RefCell::new(State::new(settings, targets, store, engine)));
    tokio::task::spawn_local(server::control(state.clone(), control));
    if let Some(listener) = metrics {
        tokio::task::spawn_local(server::read_only(state.clone(), listener));
    }
    tokio::task::spawn_local(scaled::control::coder::scenario::owed::pay(state.clone()));
    // Absent outside systemd, and then nothing to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut every = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = every.tick() => state.borrow_mut().tick(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    state.borrow_mut().shut_down("the daemon was told to end");
    let ended = async {
        while state.borrow().is_busy() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            state.borrow_mut().tick();
        }
    };
    let _ = tokio::time::timeout(END_WAIT, ended).await;
    Ok(())
}

/// The control socket's file, which is ours alone once it is bound; it goes with the daemon.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The control socket; a stale one of a daemon that is gone is replaced.
async fn bind(path: &std::path::Path) -> Result<UnixListener, String> {
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
