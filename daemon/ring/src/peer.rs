//! Who is at the other end, as far as the kernel knows: groups of a Unix socket's peer, and addresses that are
//! everybody's.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// Groups of one peer: Linux lets a process have so many (NGROUPS_MAX, getgroups(2)).
const GROUPS_MAX: usize = 65_536;

/// The supplementary groups that the peer of a Unix socket had when it connected (SO_PEERGROUPS, Linux 4.13): of the
/// process that connected, and not of one that has its number by now, as /proc would say. `None`: no such socket.
pub fn groups(socket: &impl AsRawFd) -> Option<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let mut bytes = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: the vector has room for `bytes` bytes and lives across the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Some(groups);
        }
        // Too small a vector: the kernel has said how many there are.
        let is_small = std::io::Error::last_os_error().raw_os_error() == Some(libc::ERANGE);
        if !is_small || count <= groups.len() || count > GROUPS_MAX {
            return None;
        }
        groups.resize(count, 0);
    }
}

/// Whether `address` is a broadcast address of one of this host's networks: a UDP socket may not be connected to one
/// (EACCES, ip(7)) before it has asked for that. Nothing is sent.
pub fn is_broadcast(address: Ipv4Addr) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let connected = socket.and_then(|socket| socket.connect((address, 9)));
    connected.is_err_and(|error| error.raw_os_error() == Some(libc::EACCES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_groups_are_this_process_own_where_it_is_its_own_peer() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let mut own: Vec<u32> = line.split_whitespace().map(|group| group.parse().unwrap()).collect();
        let mut groups = groups(&one).unwrap();
        own.sort_unstable();
        groups.sort_unstable();
        assert_eq!(groups, own);
        assert_eq!(super::groups(&std::net::TcpListener::bind("127.0.0.1:0").unwrap()), None);
    }

    #[test]
    fn broadcast_addresses_are_known_by_the_route_to_them() {
        assert!(is_broadcast(Ipv4Addr::new(127, 255, 255, 255)));
        assert!(!is_broadcast(Ipv4Addr::LOCALHOST));
    }
}
