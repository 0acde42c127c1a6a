//! What callers of the control socket cost a run: 10,000 requests a second beside the same run that nobody asks about.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use scale_ring::host;

use super::median;
use super::programs::{Daemon, Load, Programs, Result, Sample};
use super::scenarios::{Effort, load};
use super::table::{Bound, Row};

const STREAMS: u32 = 2000;
const TICK_MS: u32 = 100;
/// Times a usual run.
const WINDOW_TIMES: u32 = 2;
/// Ramp and warm-up.
const SETTLE: Duration = Duration::from_secs(3);
const PER_SECOND: u64 = 10_000;
/// Connections, and requests on each that are not answered yet.
const CONNECTIONS: usize = 8;
const UNANSWERED_MAX: u64 = 64;
/// Of what is offered so much has to be answered, or it is no such attack.
const ANSWERED_MIN: f64 = 0.9;
/// What lateness p99 may grow by: a share of the quiet one, or so much, whichever is more.
const LATER_SHARE_MAX: f64 = 0.2;
const LATER_MAX: f64 = 200e-6;
const REQUEST: &[u8] = b"GET /v1/status HTTP/1.1\r\nHost: scaled\r\n\r\n";
const STATUS_LINE: &[u8] = b"HTTP/1.1 200";

/// One run: its figures, requests answered a second, and the control thread's share of a core in percent.
struct Seen {
    sample: Sample,
    answered: f64,
    control: f64,
}

/// 2,000 streams, asked about and not.
///
/// # Errors
/// Where a program fails.
pub fn requests(programs: &Programs, effort: Effort) -> Result<Vec<Row>> {
    let window = Duration::from_secs(u64::from(effort.seconds * WINDOW_TIMES));
    // As most run it, without real time; longer than it is looked at: it is stopped.
    let load = Load { seconds: 600, realtime: false, ..load("ws", STREAMS, TICK_MS, effort) };
    let (mut quiet, mut asked) = (Vec::new(), Vec::new());
    for pair in 0..effort.pairs {
        for is_asked in [pair % 2 == 0, pair % 2 != 0] {
            let seen = run(programs, &load, window, is_asked)?;
            if is_asked { asked.push(seen) } else { quiet.push(seen) }
        }
    }
    let of = |seen: &[Seen], figure: fn(&Seen) -> f64| median(seen.iter().map(figure).collect());
    let p99 = |seen: &Seen| seen.sample.lateness_p99;
    let later = median(asked.iter().zip(&quiet).map(|(asked, quiet)| p99(asked) - p99(quiet)).collect());
    let allowed = (LATER_SHARE_MAX * of(&quiet, p99)).max(LATER_MAX);
    let bounds = vec![
        Bound::most("lateness p99 over quiet, us,", later * 1e6, allowed * 1e6),
        Bound::least(
            "requests answered a second",
            of(&asked, |it| it.answered),
            ANSWERED_MIN * PER_SECOND as f64,
        ),
        Bound::most("control thread, % of a core,", of(&asked, |it| it.control), 100.0),
    ];
    let row = |name: &str, seen: Vec<Seen>, bounds: Vec<Bound>| {
        let samples: Vec<Sample> = seen.into_iter().map(|seen| seen.sample).collect();
        Row { bounds, ..Row::of(name, &load, &samples) }
    };
    Ok(vec![row("scaled ws, quiet", quiet, Vec::new()), row("scaled ws, 10,000 requests/s", asked, bounds)])
}

fn run(programs: &Programs, load: &Load, window: Duration, is_asked: bool) -> Result<Seen> {
    let daemon = programs.daemon(load, "off")?;
    let started = daemon.scalectl(&["start", "--detach", "--file", &daemon.run])?;
    if !started.status.success() {
        return Err(format!("scalectl: {}", String::from_utf8_lossy(&started.stderr)));
    }
    // From the beginning: the run's figures are of all of its steady state.
    let askers = if is_asked { Some(Askers::start(&daemon)?) } else { None };
    std::thread::sleep(SETTLE);
    let (from, before) = (host::monotonic_now(), daemon.cpu_seconds()?);
    let answered_before = askers.as_ref().map_or(0, Askers::answered);
    std::thread::sleep(window);
    let (to, after) = (host::monotonic_now(), daemon.cpu_seconds()?);
    let took = to.since(from).as_secs_f64();
    let answered = askers.as_ref().map_or(0, Askers::answered) - answered_before;
    let sample = Sample::of(daemon.report(&["stop"])?);
    if let Some(askers) = askers {
        askers.end()?;
    }
    let seen =
        Seen { sample, answered: answered as f64 / took, control: (after.1 - before.1) / took * 100.0 };
    eprintln!(
        "bench/run: {}: {:.0} requests/s, control {:.1} % of a core, lateness p99 {:.0} us",
        if is_asked { "asked" } else { "quiet" },
        seen.answered,
        seen.control,
        seen.sample.lateness_p99 * 1e6
    );
    Ok(seen)
}

/// Callers that ask on, each on a connection of its own, on the sink's core.
struct Askers {
    answered: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Askers {
    fn start(daemon: &Daemon) -> Result<Self> {
        let (answered, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = connect(&daemon.socket).map_err(|error| error.to_string())?;
            let (core, answered, is_over) = (daemon.spare_core, answered.clone(), is_over.clone());
            threads.push(std::thread::spawn(move || {
                if let Some(core) = core {
                    host::pin_current_thread(core);
                }
                ask(stream, &answered, &is_over)
            }));
        }
        Ok(Self { answered, is_over, threads })
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn end(self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let ended = thread.join().map_err(|_| "an asker panicked".to_owned())?;
            ended.map_err(|error| format!("an asker: {error}"))?;
        }
        Ok(())
    }
}

fn connect(socket: &str) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Asks at this connection's share of the rate, a millisecond's worth at a time; what is not answered holds it up.
fn ask(mut stream: UnixStream, all: &AtomicU64, is_over: &AtomicBool) -> std::io::Result<()> {
    const EVERY: Duration = Duration::from_millis(2);
    let began = host::monotonic_now();
    let (mut asked, mut answered) = (0, 0);
    let (mut buffer, mut tail) = (vec![0; 256 << 10], Vec::new());
    while !is_over.load(Ordering::Relaxed) || answered < asked {
        let due = host::monotonic_now().since(began).as_micros() as u64 * PER_SECOND
            / CONNECTIONS as u64
            / 1_000_000;
        let more = if is_over.load(Ordering::Relaxed) {
            0
        } else {
            due.saturating_sub(asked).min(UNANSWERED_MAX - (asked - answered))
        };
        if more > 0 {
            stream.write_all(&REQUEST.repeat(more as usize))?;
            asked += more;
        }
        if answered == asked {
            std::thread::sleep(EVERY);
            continue;
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let new = count_answers(&mut tail, &buffer[..count]);
        answered += new;
        all.fetch_add(new, Ordering::Relaxed);
    }
    Ok(())
}

/// How many status lines there are in `bytes`, which follow `tail`; its end is kept there for what follows.
fn count_answers(tail: &mut Vec<u8>, bytes: &[u8]) -> u64 {
    tail.extend_from_slice(bytes);
    let count = tail.windows(STATUS_LINE.len()).filter(|window| *window == STATUS_LINE).count();
    // Less than a whole line: none is counted twice.
    tail.drain(..tail.len().saturating_sub(STATUS_LINE.len() - 1));
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_once_however_they_are_cut() {
        let answers = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".repeat(9);
        for piece in 1..60 {
            let mut tail = Vec::new();
            let counted: u64 = answers.chunks(piece).map(|piece| count_answers(&mut tail, piece)).sum();
            assert_eq!(counted, 9, "in pieces of {piece}");
        }
    }
}
