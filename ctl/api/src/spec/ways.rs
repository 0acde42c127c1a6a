//! Where connections come from: `--source` and `--interface`, as far as words alone go.

use std::net::IpAddr;

use super::{GroupSpec, INTERFACES_MAX, SOURCES_MAX};

/// The longest name of an interface in bytes (`IFNAMSIZ` less its NUL, netdevice(7)).
const INTERFACE_BYTES_MAX: usize = 15;

pub(super) fn check(group: &GroupSpec, error: &mut dyn FnMut(String)) {
    let mut addresses = 0;
    for source in &group.source {
        match size(source) {
            Some(count) => addresses += count,
            None => error(format!(
                "--source {source}: write an address of this host, or a range such as 10.0.0.0/28"
            )),
        }
    }
    if addresses > SOURCES_MAX as u128 {
        error(format!(
            "--source names {addresses} addresses; a group has at most {SOURCES_MAX}, such as those of a /20"
        ));
    }
    if group.interface.len() > INTERFACES_MAX {
        error(format!("--interface: a group has at most {INTERFACES_MAX}"));
    }
    for (position, name) in group.interface.iter().enumerate() {
        let fits = (1..=INTERFACE_BYTES_MAX).contains(&name.len())
            && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
        if !fits {
            error(format!("--interface `{name}`: write names as `ip link` has them, such as eth0,eth1"));
        } else if group.interface[..position].contains(name) {
            error(format!("--interface names {name} twice; once is enough"));
        }
    }
}

/// How many addresses an address or a range is; `None`: it is neither.
fn size(source: &str) -> Option<u128> {
    let (address, bits) = source.split_once('/').map_or((source, None), |(a, bits)| (a, Some(bits)));
    let width = if address.parse::<IpAddr>().ok()?.is_ipv6() { 128 } else { 32 };
    let bits = bits.map_or(Some(width), |bits| bits.parse().ok().filter(|&bits| bits <= width))?;
    Some(1_u128.checked_shl(width - bits).unwrap_or(u128::MAX))
}
