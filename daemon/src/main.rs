//! `scaled`: puts the parts together: settings, sockets, the control thread; workers come with
//! each run.

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use scale_ring::passed::{Passed, take_passed};
use scale_ring::private::{self, Wiping};
use scaled::control::server;
use scaled::control::service::{self, Signals, sockets::Sockets};
use scaled::control::state::{START_FAILED, State};
use scaled::run::store::Store;
use scaled::run::targets::Targets;
use scaled::settings::{Flags, Realtime, Settings};

#[global_allocator]
static ALLOCATOR: Wiping<mimalloc::MiMalloc> = Wiping(mimalloc::MiMalloc);

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
    let passed = take_passed().map_err(|error| format!("what systemd passes cannot be used: {error}"))?;
    if let Some(change) = scaled::log::change(settings.log.as_deref())? {
        change.apply();
    }
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
    tokio::task::LocalSet::new().block_on(&runtime, serve(settings, passed, targets, store, engine))
}

async fn serve(
    settings: Settings,
    passed: Vec<Passed>,
    targets: Targets,
    store: Store,
    engine: scaled::run::workers::Engine,
) -> Result<(), String> {
    let signals = Signals::listen()?;
    let Sockets { control, place, metrics, file: _file } = Sockets::open(&settings, passed).await?;
    // Port 0 is any free one: said is the one that it became.
    let scraped = metrics.as_ref().and_then(|listener| listener.local_addr().ok());
    let said = scraped.map_or("metrics off".to_owned(), |address| {
        let reach = if address.ip().is_loopback() { " (for this host alone)" } else { "" };
        format!("metrics on http://{address}/metrics, live page on http://{address}/{reach}")
    });
    let fifo = if settings.realtime == Realtime::Fifo { ", real-time" } else { "" };
    tracing::info!("ready: control on {place}, {said}, workers on cores {:?}{fifo}", settings.cores);
    let state = Rc::new(RefCell::new(State::new(settings, targets, store, engine)));
    tokio::task::spawn_local(server::control(state.clone(), control));
    if let Some(listener) = metrics {
        tokio::task::spawn_local(server::read_only(state.clone(), listener));
    }
    tokio::task::spawn_local(scaled::control::coder::scenario::owed::pay(state.clone()));
    service::serve(state, signals).await;
    Ok(())
}
