//! The interfaces and source addresses that a group asks for, and what of them this host has.

use std::net::{IpAddr, Ipv6Addr};

use scale_api::http::Problem;
use scale_api::spec::GroupSpec;
use scale_ring::InterfaceName;

use super::{Host, invalid};
use crate::load::Ways;
use crate::load::ways::Way;

/// One `--source` as it was written.
#[derive(Debug, Clone)]
pub struct Source {
    /// The address, or the range.
    pub written: String,
    /// How many addresses it means.
    pub addresses: usize,
    /// Those that this host does not have.
    pub missing: Vec<IpAddr>,
}

/// What a group asks for.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Each `--source`.
    pub given: Vec<Source>,
    /// Interfaces, and whether they are up.
    pub interfaces: Vec<(InterfaceName, bool)>,
}

/// The ways of a group. Addresses that the host lacks are left out; where all are, `fit` refuses the plan.
///
/// # Errors
/// An interface that is not there, or that none of the addresses is for.
pub(super) fn ways(group: &GroupSpec, host: &Host) -> Result<(Ways, Sources), Problem> {
    let mut asked = Sources::default();
    let mut here: Vec<IpAddr> = Vec::new();
    for written in &group.source {
        let (there, missing): (Vec<_>, Vec<_>) =
            addresses(written)?.into_iter().partition(|&address| (host.has_address)(address));
        let count = there.len() + missing.len();
        here.extend(there);
        asked.given.push(Source { written: written.clone(), addresses: count, missing });
    }
    // What two ranges share counts once.
    let mut seen = std::collections::HashSet::new();
    here.retain(|&address| seen.insert(address));
    let mut names = Vec::new();
    for written in &group.interface {
        let found = host.interfaces.iter().find(|interface| interface.name.to_string() == *written);
        let Some(interface) = found else {
            let there: Vec<String> = host.interfaces.iter().map(|i| i.name.to_string()).collect();
            return Err(invalid(format!(
                "--interface {written}: this host has no such interface; there are {}",
                there.join(", ")
            )));
        };
        asked.interfaces.push((interface.name, interface.up));
        names.push(interface.name);
    }
    if here.is_empty() {
        return Ok((Ways::through(&names), asked));
    }
    if names.is_empty() {
        return Ok((Ways::from_addresses(&[Way { interface: None, addresses: here }]), asked));
    }
    Ok((Ways::from_addresses(&by_interface(&names, &here, host)?), asked))
}

/// An address goes out through the interface that has it. One that none of them has (on `lo`, or a range that
/// is routed to this host) goes out through each.
fn by_interface(names: &[InterfaceName], here: &[IpAddr], host: &Host) -> Result<Vec<Way>, Problem> {
    let has = |name: InterfaceName, address: &IpAddr| {
        host.interfaces
            .iter()
            .any(|interface| interface.name == name && interface.addresses.contains(address))
    };
    let mut ways = Vec::new();
    for &name in names {
        let fits = |address: &&IpAddr| has(name, address) || !names.iter().any(|&other| has(other, address));
        let addresses: Vec<IpAddr> = here.iter().filter(fits).copied().collect();
        if addresses.is_empty() {
            return Err(invalid(format!(
                "--interface {name} has none of the --source addresses; give one of its own (ip addr show dev {name}), or leave one of both out"
            )));
        }
        ways.push(Way { interface: Some(name), addresses });
    }
    Ok(ways)
}

/// The usable addresses of `--source`: a range without its network and broadcast addresses (RFC 1122 §3.2.1.3; of
/// a /31 both are hosts', RFC 3021), of IPv6 without the routers' anycast address (RFC 4291 §2.6.1).
fn addresses(written: &str) -> Result<Vec<IpAddr>, Problem> {
    if let Ok(address) = written.parse::<IpAddr>() {
        return Ok(vec![address]);
    }
    let net: ipnet::IpNet =
        written.parse().map_err(|_| invalid(format!("--source {written} is no address or range")))?;
    Ok(match net {
        ipnet::IpNet::V4(net) => net.hosts().map(IpAddr::V4).collect(),
        ipnet::IpNet::V6(net) => {
            let anycast = (net.prefix_len() < 127).then(|| net.network());
            net.hosts().filter(|address: &Ipv6Addr| Some(*address) != anycast).map(IpAddr::V6).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_its_usable_addresses() {
        let count = |written| addresses(written).unwrap().len();
        assert_eq!(
            (count("10.0.0.0/28"), count("10.0.0.5/31"), count("10.0.0.5/32"), count("10.0.0.9")),
            (14, 2, 1, 1)
        );
        assert_eq!((count("fd00::/126"), count("fd00::/127"), count("fd00::1")), (3, 2, 1));
        let first = addresses("10.0.0.5/30").unwrap();
        assert_eq!(first, [IpAddr::from([10, 0, 0, 5]), IpAddr::from([10, 0, 0, 6])]);
        assert!(addresses("10.0.0.0/33").is_err());
    }
}
