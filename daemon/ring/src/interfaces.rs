//! The network interfaces of this process's network namespace, and their names.

use std::ffi::CStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Bytes of a name, its final NUL included (`IFNAMSIZ`, netdevice(7)).
const NAME_BYTES: usize = 16;
/// IPv4 addresses of this host that are told apart.
const ADDRESSES_MAX: usize = 8192;

/// The name of a network interface, as `SO_BINDTODEVICE` takes it (socket(7)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName([u8; NAME_BYTES]);

impl InterfaceName {
    /// The name, if it can be one: 1 to 15 bytes without `/`, space or control characters.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..NAME_BYTES).contains(&name.len())
            && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
        let mut bytes = [0; NAME_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        fits.then_some(Self(bytes))
    }

    /// Its bytes, padded with NUL.
    pub(crate) const fn bytes(&self) -> &[u8; NAME_BYTES] {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
        f.write_str(&String::from_utf8_lossy(&self.0[..len]))
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: InterfaceName,
    /// It is up (`IFF_UP`).
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Every interface, with its addresses; none where the kernel does not say. Without netlink, which
/// a service may be denied (`RestrictAddressFamilies=`): by /proc/net/dev, /proc/net/if_inet6 and
/// netdevice(7).
pub fn interfaces() -> Vec<Interface> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (devices, v6) = (read("/proc/net/dev"), addresses_v6(&read("/proc/net/if_inet6")));
    let Some(socket) = socket() else { return Vec::new() };
    let v4 = addresses_v4(socket.as_raw_fd());
    let names = devices.lines().filter_map(|line| InterfaceName::new(line.split_once(':')?.0.trim()));
    let interface = |name: InterfaceName| {
        let its = v4.iter().chain(&v6).filter(|(of, _)| *of == name).map(|&(_, address)| address);
        Interface { name, up: is_up(socket.as_raw_fd(), name), addresses: its.collect() }
    };
    names.map(interface).collect()
}

/// A socket to ask by. It is not bound: there may be no port to bind it to.
fn socket() -> Option<OwnedFd> {
    // SAFETY: plain values only; a descriptor that is not negative is new, and ours.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

/// Lines of /proc/net/if_inet6: address in hexadecimal digits, index, prefix, scope, flags, name.
fn addresses_v6(text: &str) -> Vec<(InterfaceName, IpAddr)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        Some((InterfaceName::new(words.nth(4)?)?, Ipv6Addr::from(address).into()))
    };
    text.lines().filter_map(line).collect()
}

/// SIOCGIFCONF.
fn addresses_v4(socket: RawFd) -> Vec<(InterfaceName, IpAddr)> {
    // SAFETY: all-zero is a valid ifreq.
    let mut entries: Vec<libc::ifreq> = vec![unsafe { std::mem::zeroed() }; ADDRESSES_MAX];
    let mut list = libc::ifconf {
        ifc_len: size_of_val(entries.as_slice()) as libc::c_int,
        ifc_ifcu: libc::__c_anonymous_ifc_ifcu { ifcu_req: entries.as_mut_ptr() },
    };
    // SAFETY: the list names its room in bytes, and lives across the call as the entries do.
    if unsafe { libc::ioctl(socket, libc::SIOCGIFCONF as libc::Ioctl, &raw mut list) } != 0 {
        return Vec::new();
    }
    entries.truncate(list.ifc_len as usize / size_of::<libc::ifreq>());
    let entry = |entry: &libc::ifreq| {
        // SAFETY: the kernel fills each entry with a name that ends with NUL, and an IPv4 address.
        let (name, address) = unsafe {
            let at = (&raw const entry.ifr_ifru.ifru_addr).cast::<libc::sockaddr_in>();
            (CStr::from_ptr(entry.ifr_name.as_ptr()), at.read_unaligned().sin_addr.s_addr)
        };
        // A further address may have a label of its own behind a colon.
        let name = name.to_str().ok()?.split(':').next()?;
        Some((InterfaceName::new(name)?, Ipv4Addr::from(address.to_ne_bytes()).into()))
    };
    entries.iter().filter_map(entry).collect()
}

/// SIOCGIFFLAGS.
fn is_up(socket: RawFd, name: InterfaceName) -> bool {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = *byte as libc::c_char;
    }
    // SAFETY: the request lives across the call, and its name ends with NUL; where the call succeeds,
    // the kernel has filled in the flags.
    unsafe {
        libc::ioctl(socket, libc::SIOCGIFFLAGS as libc::Ioctl, &raw mut request) == 0
            && libc::c_int::from(request.ifr_ifru.ifru_flags) & libc::IFF_UP != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback_interface_with_its_address() {
        let all = interfaces();
        let lo = all.iter().find(|interface| interface.name.to_string() == "lo").expect("lo");
        assert!(lo.up && lo.addresses.contains(&Ipv4Addr::LOCALHOST.into()), "{lo:?}");
    }

    #[test]
    fn ipv6_addresses_are_read_with_their_interfaces() {
        let text = "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\nnonsense\n";
        let expected = (InterfaceName::new("eth0").unwrap(), "fe80::fc:ff:fe00:1".parse().unwrap());
        assert_eq!(addresses_v6(text), [expected]);
    }

    #[test]
    fn what_cannot_be_a_name_is_none() {
        assert_eq!(
            InterfaceName::new("enp0s31f6.100").map(|name| name.to_string()),
            Some("enp0s31f6.100".into())
        );
        assert!(
            ["", "a/b", "a b", "a\n", "sixteen-bytes-xx"].map(InterfaceName::new).iter().all(Option::is_none)
        );
    }
}
