//! Words to the service manager: datagrams to the socket that `NOTIFY_SOCKET` names, as sd_notify(3) has them.
//!
//! The control thread never waits for the manager: where its queue is full a word is lost, but for those that it
//! waits for itself, which are tried a little longer. The socket is opened for each word, at most a few a second, so
//! that a manager that has restarted hears the next one.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use scale_ring::Time;
use sd_notify::NotifyState;

/// How long the words that the manager waits for may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of a line of the state: what fits into one line of `systemctl status`.
const STATUS_BYTES_MAX: usize = 512;

/// What is said.
#[derive(Debug, Clone, Copy)]
pub enum Notice<'a> {
    /// The sockets answer; also after a reload.
    Ready,
    /// Settings are being read again, since then.
    Reloading(Time),
    /// The end has begun.
    Stopping,
    /// The state, in a line.
    Status(&'a str),
    /// All threads move.
    Alive,
}

impl Notice<'_> {
    /// The manager acts upon it, or waits for it.
    const fn matters(&self) -> bool {
        !matches!(self, Self::Status(_) | Self::Alive)
    }

    fn text(&self) -> String {
        match self {
            Self::Ready => NotifyState::Ready.to_string(),
            // systemd 253 and later takes a reload for failed without the time (sd_notify(3)).
            Self::Reloading(at) => {
                let since = NotifyState::MonotonicUsec(i128::from(at.ns() / 1000));
                format!("{}\n{since}", NotifyState::Reloading)
            }
            Self::Stopping => NotifyState::Stopping.to_string(),
            Self::Status(line) => NotifyState::Status(&one_line(line)).to_string(),
            Self::Alive => NotifyState::Watchdog.to_string(),
        }
    }
}

/// Half of the time after which the manager ends a silent daemon (`WATCHDOG_USEC`); `None`: it does not.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero()).map(|period| period / 2)
}

/// Says all of it at once. Without a manager nothing is said.
pub fn say(notices: &[Notice<'_>]) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from) else { return };
    let text: Vec<String> = notices.iter().map(Notice::text).collect();
    let sent = UnixDatagram::unbound().and_then(|socket| {
        if notices.iter().any(Notice::matters) {
            socket.set_write_timeout(Some(PATIENCE))?;
        } else {
            socket.set_nonblocking(true)?;
        }
        socket.send_to(text.join("\n").as_bytes(), &path)
    });
    if let Err(error) = sent {
        tracing::debug!("the service manager at {} does not hear: {error}", path.display());
    }
}

/// A status is one line, or what follows would be taken for other words.
fn one_line(text: &str) -> String {
    let mut line = text.lines().next().unwrap_or_default().to_owned();
    let fits = (0..=line.len().min(STATUS_BYTES_MAX)).rev().find(|&at| line.is_char_boundary(at));
    line.truncate(fits.unwrap_or(0));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_as_the_manager_reads_it_and_a_status_one_line() {
        assert_eq!(Notice::Ready.text(), "READY=1");
        assert_eq!(Notice::Reloading(Time::from_ns(5_000_999)).text(), "RELOADING=1\nMONOTONIC_USEC=5000");
        assert_eq!(Notice::Status("run a\nWATCHDOG=1").text(), "STATUS=run a");
        let long = "é".repeat(STATUS_BYTES_MAX);
        assert_eq!(Notice::Status(&long).text().len(), "STATUS=".len() + STATUS_BYTES_MAX);
        assert!(Notice::Ready.matters() && !Notice::Alive.matters() && !Notice::Status("").matters());
    }
}
