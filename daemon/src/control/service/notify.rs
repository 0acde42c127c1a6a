//! Words to the service manager: datagrams to the socket that `NOTIFY_SOCKET` names, as sd_notify(3) has them.
//!
//! The control thread never waits for the manager: where its queue is full a word is lost, but for those that it
//! waits for itself, which are tried a little longer. The socket is opened for each word, at most a few a second, so
//! that a manager that has restarted hears the next one.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
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
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&place, notices) {
        tracing::debug!("the service manager at {} does not hear: {error}", place.display());
    }
}

fn send(place: &OsStr, notices: &[Notice<'_>]) -> io::Result<()> {
    // A name that begins with `@` is in no folder: unix(7), abstract sockets.
    let address = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    if notices.iter().any(Notice::matters) {
        socket.set_write_timeout(Some(PATIENCE))?;
    } else {
        socket.set_nonblocking(true)?;
    }
    let text: Vec<String> = notices.iter().map(Notice::text).collect();
    socket.send_to_addr(text.join("\n").as_bytes(), &address).map(drop)
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
    #[test]
    fn a_manager_is_found_by_path_and_by_abstract_name_and_a_full_one_loses_only_what_can_be_lost() {
        let name = format!("scaled-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let hear = |socket: &UnixDatagram| {
            let mut word = [0; 64];
            let bytes = socket.recv(&mut word).unwrap();
            String::from_utf8(word[..bytes].to_vec()).unwrap()
        };
        let (by_path, abstracted) = (
            UnixDatagram::bind(&path).unwrap(),
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
        );
        send(path.as_os_str(), &[Notice::Ready, Notice::Status("idle")]).unwrap();
        assert_eq!(hear(&by_path), "READY=1\nSTATUS=idle");
        send(format!("@{name}").as_ref(), &[Notice::Alive]).unwrap();
        assert_eq!(hear(&abstracted), "WATCHDOG=1");
        // Nobody hears: neither waits for ever.
        let full = (0..10_000).find_map(|_| send(path.as_os_str(), &[Notice::Alive]).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(
            send(path.as_os_str(), &[Notice::Stopping]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        std::fs::remove_file(path).unwrap();
    }
}
