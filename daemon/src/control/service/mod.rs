//! The daemon as a service: from ready to its end, and what the service manager is told meanwhile.
//!
//! - [`sockets`]: the listeners, passed or made. [`notify`]: words to the manager (sd_notify(3)).
//! - [`watchdog`]: whether every thread still moves.
//!
//! Without a manager (no `NOTIFY_SOCKET`) nothing is told, and everything else is the same.

pub mod notify;
pub mod sockets;
pub mod watchdog;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use scale_ring::{Time, host};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::state::State;
use notify::Notice;
use watchdog::Watchdog;

/// How often the run is looked after: how late a second's event may be.
const TICK: Duration = Duration::from_millis(50);
/// After a signal: the longest wait for the run's end.
const END_WAIT: Duration = Duration::from_millis(800);
/// The manager's line of the state changes at most this often.
const STATUS_EVERY_NS: u64 = 1_000_000_000;

/// The signals that a daemon hears.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From now on none of them ends the process by itself: to be called before anybody can reach a socket.
    ///
    /// # Errors
    /// No signal can be listened to.
    pub fn listen() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("cannot listen to signals: {error}"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

/// Looks after the state until SIGTERM or SIGINT, and ends what goes. SIGHUP reloads, but for that of a terminal which
/// has gone: a daemon that a person started there ends with it.
pub async fn serve(state: Rc<RefCell<State>>, mut signals: Signals) {
    let (mut manager, had_terminal) = (Manager::new(), has_terminal());
    notify::say(&[Notice::Ready]);
    let mut every = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = every.tick() => {
                state.borrow_mut().tick();
                manager.look(&state.borrow(), host::monotonic_now());
            }
            _ = signals.hang_up.recv() => {
                if had_terminal && !has_terminal() {
                    break;
                }
                tracing::info!("SIGHUP: settings and targets are read again");
                // What was wrong has been said, and stands in the line of the state.
                let _ = state.borrow_mut().reload();
            }
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }
    notify::say(&[Notice::Stopping, Notice::Status("ending")]);
    state.borrow_mut().shut_down("the daemon was told to end");
    let ended = async {
        while state.borrow().is_busy() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            state.borrow_mut().tick();
        }
    };
    let _ = tokio::time::timeout(END_WAIT, ended).await;
}

/// Whether this process has a terminal; the kernel takes it away before it says that it hung up (tty_ioctl(4)).
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// What the manager is told while nothing special happens.
struct Manager {
    watchdog: Watchdog,
    said: String,
    said_at: Option<Time>,
}

impl Manager {
    fn new() -> Self {
        Self { watchdog: Watchdog::new(notify::watchdog_period()), said: String::new(), said_at: None }
    }

    fn look(&mut self, state: &State, now: Time) {
        let look = self.watchdog.look(now, state.pulses());
        for (core, still) in &look.stopped {
            let seconds = still.as_secs_f64();
            tracing::error!(
                core,
                "the worker on core {core} has not moved for {seconds:.1} s; the watchdog gets no sign of life until it does"
            );
        }
        for core in &look.moving {
            tracing::warn!(core, "the worker on core {core} moves again");
        }
        if look.feed {
            notify::say(&[Notice::Alive]);
        }
        if self.said_at.is_none_or(|at| now.ns_since(at) >= STATUS_EVERY_NS) {
            self.said_at = Some(now);
            let line = match self.watchdog.still() {
                Some((core, still)) => {
                    format!("the worker on core {core} has stood still for {} s", still.as_secs())
                }
                None => state.line_of_state(),
            };
            if line != self.said {
                notify::say(&[Notice::Status(&line)]);
                self.said = line;
            }
        }
    }
}
