//! Addresses that are never hit, whatever the list says, and what an address really is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Addresses of a cloud's metadata service: they hand out the credentials of the machine that asks. What is not named
/// here lies in link-local.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba Cloud
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle Cloud
    Ipv4Addr::new(168, 63, 129, 16),   // Azure's wire server
];
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // Amazon EC2
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // Google Compute Engine
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),   // Scaleway
];

/// `this network` (RFC 791 §3.2): Linux takes 0.0.0.0 for this host.
const THIS_NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8);
/// Well-known and local-use prefixes of NAT64 (RFC 6052 §2.1, RFC 8215).
const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const NAT64_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48);
/// 6to4 (RFC 3056 §2) and Teredo (RFC 4380 §4).
const SIX_TO_FOUR: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);
const TEREDO: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32);
/// IPv4-compatible addresses (RFC 4291 §2.5.5.1), which nobody should use any more.
const COMPATIBLE: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96);

/// What is connected to where `address` is given: an IPv4-mapped IPv6 address is the IPv4 address that it maps, in
/// a list, in a check and in the connect alike.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// Why `address`, which is [`canonical`], is never hit; `None`: the list decides.
pub fn why_never(address: SocketAddr) -> Option<&'static str> {
    match address {
        SocketAddr::V4(v4) => of_v4(*v4.ip())
            .or_else(|| scale_ring::peer::is_broadcast(*v4.ip()).then_some("a network's broadcast address")),
        SocketAddr::V6(v6) if v6.scope_id() != 0 => Some("an address with a zone, which is link-local"),
        SocketAddr::V6(v6) => of_v6(*v6.ip()),
    }
}

/// The same for what a list names, where the host's own networks do not matter.
pub fn is_never(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => of_v4(v4).is_some(),
        IpAddr::V6(v6) => of_v6(v6).is_some(),
    }
}

fn of_v4(ip: Ipv4Addr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() || THIS_NETWORK.contains(&ip) => Some("unspecified"),
        _ if ip.is_multicast() => Some("multicast"),
        _ if ip.is_broadcast() => Some("broadcast"),
        _ if ip.is_link_local() => Some("link-local, where clouds have their metadata"),
        _ if METADATA_V4.contains(&ip) => Some("a cloud's metadata service"),
        _ => None,
    }
}

fn of_v6(ip: Ipv6Addr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => Some("unspecified"),
        _ if ip.is_multicast() => Some("multicast"),
        _ if ip.is_unicast_link_local() => Some("link-local"),
        _ if METADATA_V6.contains(&ip) => Some("a cloud's metadata service"),
        _ if ip.is_loopback() => None,
        _ if COMPATIBLE.contains(&ip) => Some("an IPv4-compatible address; write the IPv4 address itself"),
        // What a gateway makes of it must not be what is never hit from here, nor the gateway itself.
        _ => embedded(ip)
            .into_iter()
            .flatten()
            .find_map(|v4| of_v4(v4).or_else(|| v4.is_loopback().then_some("loopback")))
            .map(|_| "IPv6 that stands for an IPv4 address which is never hit"),
    }
}

/// The IPv4 addresses that a gateway may make of an IPv6 address.
fn embedded(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let bytes = ip.octets();
    let at = |from: usize| Ipv4Addr::new(bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]);
    if SIX_TO_FOUR.contains(&ip) {
        return [Some(at(2)), None];
    }
    if TEREDO.contains(&ip) {
        // The client's own is inverted.
        return [Some(at(4)), Some(Ipv4Addr::from_bits(!at(12).to_bits()))];
    }
    if NAT64.contains(&ip) {
        return [Some(at(12)), None];
    }
    if NAT64_LOCAL.contains(&ip) {
        // Behind a prefix of 96 bits, or of 48 around the byte that is 0 (RFC 6052 §2.2).
        return [Some(at(12)), Some(Ipv4Addr::new(bytes[6], bytes[7], bytes[9], bytes[10]))];
    }
    // ISATAP (RFC 5214 §6.1).
    let is_isatap = matches!(bytes[8..12], [0 | 2, 0, 0x5e, 0xfe]);
    [is_isatap.then(|| at(12)), None]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> Option<&'static str> {
        let ip: IpAddr = text.parse().unwrap();
        why_never(canonical(SocketAddr::new(ip, 80)))
    }

    #[test]
    fn what_is_never_hit_is_known_in_every_form() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "127.255.255.255",
            "169.254.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "::",
            "ff02::1",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:42::42",
            "::ffff:169.254.169.254",
            "::ffff:a9fe:a9fe",
            "::ffff:0.0.0.0",
            "::ffff:224.0.0.1",
            "::169.254.169.254",
            "::127.0.0.1",
            "::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
            "2001:0:a9fe:a9fe::1",
            "2001::5601:5601", // !169.254.169.254
            "2001:db8::5efe:169.254.169.254",
            "2001:db8::200:5efe:127.0.0.1",
        ] {
            assert!(why(address).is_some(), "{address}");
        }
        let zoned = std::net::SocketAddrV6::new("2001:db8::1".parse().unwrap(), 80, 0, 3);
        assert!(why_never(zoned.into()).is_some());
    }

    #[test]
    fn others_are_the_lists_to_judge() {
        for address in [
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "192.0.0.191",
            "100.100.100.201",
            "2001:db8::1",
            "64:ff9b::10.0.0.5",
            "2002:a00:5::1",
            "fd00:ec2::253",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(why(address), None, "{address}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_one_that_it_maps() {
        let canonical = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(canonical("[::ffff:127.0.0.1]:80"), "127.0.0.1:80");
        assert_eq!(canonical("[::ffff:a9fe:a9fe]:80"), "169.254.169.254:80");
        assert_eq!(canonical("[::1]:80"), "[::1]:80");
    }
}
