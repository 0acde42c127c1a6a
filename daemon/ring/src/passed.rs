//! Sockets that whoever started this process has opened for it: the protocol of sd_listen_fds(3).
//!
//! They are this process's from descriptor 3 on. Nothing else may have opened a descriptor before
//! they are taken, which is why they are taken once and first.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor that is passed (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;
/// More are somebody's mistake.
const COUNT_MAX: usize = 64;

/// What kind of socket was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Unix stream socket that listens.
    Unix,
    /// A TCP socket that listens, of IPv4 or IPv6.
    Tcp,
    /// Anything else.
    Other,
}

/// A passed socket.
#[derive(Debug)]
pub struct Passed {
    /// What the other side calls it (`FileDescriptorName=`); `unknown` where it says nothing.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The socket, closed on exec.
    pub socket: OwnedFd,
}

/// Takes what was passed to this process: once, later there is nothing. To be called before any
/// other descriptor is opened by number or any program started.
///
/// # Errors
/// The variables `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES` say something that cannot be.
pub fn take_passed() -> io::Result<Vec<Passed>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name: &str| std::env::var(name).ok();
    let count = count(variable("LISTEN_PID"), variable("LISTEN_FDS"), std::process::id())?;
    if count == 0 || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let names = names(variable("LISTEN_FDNAMES"), count);
    let descriptors = FIRST..FIRST + count as RawFd;
    for descriptor in descriptors.clone() {
        // SAFETY: plain values only. A number that is no descriptor is an error here.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let passed = descriptors.zip(names).map(|(descriptor, name)| {
        // SAFETY: it is open, as just seen, was opened for this process by the one that started it,
        // and nobody else owns it: it is handed out once.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Passed { name, kind: kind(&socket), socket }
    });
    Ok(passed.collect())
}

/// How many were passed to process `me`.
fn count(pid: Option<String>, count: Option<String>, me: u32) -> io::Result<usize> {
    let (Some(pid), Some(count)) = (pid, count) else { return Ok(0) };
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    // Meant for another process, which started this one without clearing them.
    if pid.parse::<u32>().map_err(|_| wrong("LISTEN_PID is no number"))? != me {
        return Ok(0);
    }
    let count = count.parse::<usize>().map_err(|_| wrong("LISTEN_FDS is no number"))?;
    if count > COUNT_MAX {
        return Err(wrong("LISTEN_FDS says more than 64"));
    }
    Ok(count)
}

/// Their names, as many as there are.
fn names(names: Option<String>, count: usize) -> Vec<String> {
    let names = names.unwrap_or_default();
    let mut names: Vec<String> = names.split(':').map(str::to_owned).collect();
    names.resize(count, String::new());
    for name in names.iter_mut().filter(|name| name.is_empty()) {
        "unknown".clone_into(name);
    }
    names
}

fn kind(socket: &OwnedFd) -> Kind {
    let listens = option(socket, libc::SO_ACCEPTCONN) == Some(1);
    let streams = option(socket, libc::SO_TYPE) == Some(libc::SOCK_STREAM);
    match option(socket, libc::SO_DOMAIN) {
        Some(libc::AF_UNIX) if listens && streams => Kind::Unix,
        Some(libc::AF_INET | libc::AF_INET6) if listens && streams => Kind::Tcp,
        _ => Kind::Other,
    }
}

/// A socket's option (socket(7)); `None`: it is no socket.
fn option(socket: &OwnedFd, name: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the integer has room for `len` bytes and lives across the call.
    let result = unsafe {
        let at = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, at, &raw mut len)
    };
    (result == 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn what_was_passed_to_another_process_is_not_ours() {
        assert_eq!(count(text("7"), text("2"), 7).unwrap(), 2);
        assert_eq!(count(text("7"), text("2"), 8).unwrap(), 0);
        assert_eq!(count(None, text("2"), 8).unwrap(), 0);
        assert_eq!(count(text("7"), None, 7).unwrap(), 0);
        for (pid, fds) in [("x", "1"), ("7", "x"), ("7", "-1"), ("7", "65")] {
            assert!(count(text(pid), text(fds), 7).is_err(), "{pid} {fds}");
        }
    }

    #[test]
    fn each_has_a_name_whatever_is_said() {
        assert_eq!(names(text("control:metrics"), 2), ["control", "metrics"]);
        assert_eq!(names(text("control"), 2), ["control", "unknown"]);
        assert_eq!(names(text(":a:b"), 2), ["unknown", "a"]);
        assert_eq!(names(None, 1), ["unknown"]);
    }

    #[test]
    fn a_socket_is_what_it_is_and_listens() {
        let folder = std::env::temp_dir().join(format!("scale-ring-passed-{}", std::process::id()));
        let unix = std::os::unix::net::UnixListener::bind(&folder).unwrap();
        std::fs::remove_file(&folder).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert_eq!(kind(&unix.into()), Kind::Unix);
        assert_eq!(kind(&tcp.into()), Kind::Tcp);
        assert_eq!(kind(&client.into()), Kind::Other);
        assert_eq!(kind(&datagram.into()), Kind::Other);
        assert_eq!(kind(&std::fs::File::open("/dev/null").unwrap().into()), Kind::Other);
    }
}
