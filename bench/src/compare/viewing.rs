//! What it costs to be watched: a run with an open page, a follower of its events and a scrape each second, beside the same
//! run that nobody looks at.
//!
//! CPU is read from the kernel between two points in steady state: the workers' threads, and everything else of the daemon
//! (its control thread, and those on which it writes reports).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use scale_ring::host;

use super::median;
use super::programs::{Daemon, Load, Programs, Result, Sample};
use super::scenarios::{Effort, load};
use super::table::{Bound, Row};

const STREAMS: u32 = 10_000;
/// Ramp, warm-up, and the first seconds of a page.
const SETTLE: Duration = Duration::from_secs(5);
/// Times a usual run that is looked at: a page gets a whole report each 10 s.
const WINDOW_TIMES: u32 = 4;
/// Percent of a core.
const WORKER_EXTRA_MAX: f64 = 1.0;
const CONTROL_MAX: f64 = 5.0;
const SCRAPE_MS_MAX: f64 = 5.0;

/// One run's figures; shares in percent of a core.
struct Seen {
    sample: Sample,
    worker: f64,
    control: f64,
    scrapes_ms: Vec<f64>,
}

/// 10,000 streams, watched and not.
///
/// # Errors
/// Where a program fails, or a watcher gets nothing.
pub fn viewing(programs: &Programs, effort: Effort) -> Result<Vec<Row>> {
    let window = Duration::from_secs(u64::from(effort.seconds * WINDOW_TIMES));
    // Longer than it is looked at: it is stopped.
    let load = Load { seconds: 600, ..load("ws", STREAMS, 1000, effort) };
    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    for pair in 0..effort.pairs {
        for is_watched in [pair % 2 == 0, pair % 2 != 0] {
            let seen = run(programs, &load, window, is_watched)?;
            if is_watched { watched.push(seen) } else { alone.push(seen) }
        }
    }
    let of = |seen: &[Seen], figure: fn(&Seen) -> f64| median(seen.iter().map(figure).collect());
    let extra = median(watched.iter().zip(&alone).map(|(seen, alone)| seen.worker - alone.worker).collect());
    let mut scrapes: Vec<f64> = watched.iter().flat_map(|seen| &seen.scrapes_ms).copied().collect();
    scrapes.sort_by(f64::total_cmp);
    let p99 = scrapes.get((scrapes.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN);
    let control = |seen: &[Seen]| {
        Bound::most("control thread, % of a core,", of(seen, |seen| seen.control), CONTROL_MAX)
    };
    let row = |name: &str, seen: Vec<Seen>, bounds: Vec<Bound>| {
        let samples: Vec<Sample> = seen.into_iter().map(|seen| seen.sample).collect();
        Row { bounds, ..Row::of(name, &load, &samples) }
    };
    let bounds = vec![
        Bound::most("workers, % of a core, over unwatched", extra, WORKER_EXTRA_MAX),
        control(&watched),
        Bound::most("scrape p99, ms,", p99, SCRAPE_MS_MAX),
        Bound::most("scrape p50, ms,", median(scrapes), SCRAPE_MS_MAX),
    ];
    let alone_bounds = vec![control(&alone)];
    Ok(vec![row("scaled ws, unwatched", alone, alone_bounds), row("scaled ws, watched", watched, bounds)])
}

fn run(programs: &Programs, load: &Load, window: Duration, is_watched: bool) -> Result<Seen> {
    let daemon = programs.daemon(load, "127.0.0.1:0")?;
    let started = daemon.scalectl(&["start", "--detach", "--file", &daemon.run])?;
    if !started.status.success() {
        return Err(format!("scalectl: {}", String::from_utf8_lossy(&started.stderr)));
    }
    let watchers = if is_watched { Some(Watchers::start(&daemon)?) } else { None };
    std::thread::sleep(SETTLE);
    let (from, before) = (host::monotonic_now(), daemon.cpu_seconds()?);
    std::thread::sleep(window);
    let (to, after) = (host::monotonic_now(), daemon.cpu_seconds()?);
    let scrapes_ms = watchers.map_or(Ok(Vec::new()), Watchers::end)?;
    let sample = Sample::of(daemon.report(&["stop"])?);
    let share = |before: f64, after: f64| (after - before) / to.since(from).as_secs_f64() * 100.0;
    let (worker, control) = (share(before.0, after.0), share(before.1, after.1));
    eprintln!(
        "bench/run: {}: workers {worker:.2} %, control {control:.2} % of a core, slowest scrape {:.2} ms",
        if is_watched { "watched" } else { "unwatched" },
        scrapes_ms.iter().copied().fold(0.0, f64::max)
    );
    Ok(Seen { sample, worker, control, scrapes_ms })
}

/// Everybody who looks at a run at once, on the sink's core.
struct Watchers {
    page: (TcpStream, JoinHandle<usize>),
    events: (UnixStream, JoinHandle<usize>),
    scrapes: JoinHandle<Vec<f64>>,
    is_over: Arc<AtomicBool>,
}

impl Watchers {
    fn start(daemon: &Daemon) -> Result<Self> {
        let wrong = |error: std::io::Error| error.to_string();
        let address = daemon.scraped.clone().ok_or("the daemon does not say where it is scraped")?;
        let core = daemon.spare_core;
        let mut page = TcpStream::connect(&address).map_err(wrong)?;
        page.write_all(b"GET /live HTTP/1.0\r\nHost: localhost\r\n\r\n").map_err(wrong)?;
        let mut events = UnixStream::connect(&daemon.socket).map_err(wrong)?;
        events.write_all(b"GET /v1/runs/current/events HTTP/1.0\r\nHost: scaled\r\n\r\n").map_err(wrong)?;
        let (page_read, events_read) = (page.try_clone().map_err(wrong)?, events.try_clone().map_err(wrong)?);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        Ok(Self {
            page: (page, on_core(core, move || read_all(page_read))),
            events: (events, on_core(core, move || read_all(events_read))),
            scrapes: on_core(core, move || {
                let mut took_ms = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    took_ms.push(scrape(&address).unwrap_or(f64::INFINITY));
                    std::thread::sleep(Duration::from_secs(1));
                }
                took_ms
            }),
            is_over,
        })
    }

    /// Ends them all: how long each scrape took, in ms.
    fn end(self) -> Result<Vec<f64>> {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = (self.page.0.shutdown(Shutdown::Both), self.events.0.shutdown(Shutdown::Both));
        for (who, watcher) in [("page", self.page.1), ("follower of events", self.events.1)] {
            let bytes = watcher.join().map_err(|_| format!("the {who} panicked"))?;
            if bytes < 10_000 {
                return Err(format!("the {who} got {bytes} bytes: it watched nothing"));
            }
        }
        self.scrapes.join().map_err(|_| "the scrapes panicked".into())
    }
}

/// A thread on a core, if there is one to choose.
fn on_core<T: Send + 'static>(
    core: Option<usize>,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::spawn(move || {
        if let Some(core) = core {
            host::pin_current_thread(core);
        }
        work()
    })
}

/// Bytes until the end.
fn read_all(mut stream: impl Read) -> usize {
    let (mut buffer, mut bytes) = (vec![0; 64 << 10], 0);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        bytes += count;
    }
    bytes
}

/// One scrape, from the connect to its last byte, in ms.
fn scrape(address: &str) -> Option<f64> {
    let from = host::monotonic_now();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    (read_all(stream) > 1000).then(|| host::monotonic_now().since(from).as_secs_f64() * 1e3)
}
