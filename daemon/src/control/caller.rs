//! Who asks, of the kernel.

use std::fmt;
use std::os::fd::AsRawFd;

use scale_api::report::StartedBy;

pub use crate::run::targets::Caller;

/// The peer of the control socket (SO_PEERCRED, SO_PEERGROUPS; unix(7)). One that the kernel does not know is nobody:
/// it may use what everybody may.
pub fn caller(socket: &impl AsRawFd) -> Caller {
    let (pid, uid, gid) = scale_ring::host::peer_credentials(socket).unwrap_or((0, u32::MAX, u32::MAX));
    let groups = scale_ring::peer::groups(socket).unwrap_or_default();
    Caller { pid, uid, gid, groups: groups.into() }
}

/// For a line of the log.
pub struct Who(pub Option<StartedBy>);

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("this daemon"),
            Some(StartedBy { uid, gid, pid, user }) => {
                write!(f, "{} (uid {uid}, gid {gid}, pid {pid})", user.as_deref().unwrap_or("?"))
            }
        }
    }
}
