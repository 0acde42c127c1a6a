//! The ways out of this host that a group's connections take: interfaces and source addresses.
//!
//! A connection takes the way that its rank says, so that any number of them in a row is spread
//! evenly, first over the interfaces, then over the addresses of each.

use std::net::IpAddr;
use std::sync::Arc;

use scale_ring::InterfaceName;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The interface it is bound to; `None`: the kernel's routing decides.
    pub interface: Option<InterfaceName>,
    /// Its source address; `None`: the kernel's choice.
    pub address: Option<IpAddr>,
}

/// An interface and the addresses that connections through it come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// `None`: the kernel's routing decides.
    pub interface: Option<InterfaceName>,
    /// In the order in which they are used.
    pub addresses: Vec<IpAddr>,
}

/// All ways of a group, by address family.
#[derive(Debug, Clone)]
pub struct Ways {
    v4: Arc<[Vec<Origin>]>,
    v6: Arc<[Vec<Origin>]>,
}

impl Ways {
    /// Ways with source addresses of their own. A family of which a way has no address does not use it.
    pub fn from_addresses(ways: &[Way]) -> Self {
        let family = |ipv6: bool| {
            let origins = |way: &Way| -> Vec<Origin> {
                let its = way.addresses.iter().filter(|address| address.is_ipv6() == ipv6);
                its.map(|&address| Origin { interface: way.interface, address: Some(address) }).collect()
            };
            ways.iter().map(origins).filter(|origins| !origins.is_empty()).collect()
        };
        Self { v4: family(false), v6: family(true) }
    }

    /// Ways on which the kernel chooses the source address; none: its routing decides all.
    pub fn through(interfaces: &[InterfaceName]) -> Self {
        let any = |interface| vec![Origin { interface, address: None }];
        let all: Arc<[Vec<Origin>]> = if interfaces.is_empty() {
            [any(None)].into()
        } else {
            interfaces.iter().map(|&interface| any(Some(interface))).collect()
        };
        Self { v4: all.clone(), v6: all }
    }

    fn family(&self, ipv6: bool) -> &[Vec<Origin>] {
        if ipv6 { &self.v6 } else { &self.v4 }
    }

    /// Whether connections to addresses of a family have a way.
    pub fn reaches(&self, ipv6: bool) -> bool {
        !self.family(ipv6).is_empty()
    }

    /// Interfaces that connections of a family are spread over, or 1.
    pub fn interfaces(&self, ipv6: bool) -> usize {
        self.family(ipv6).len()
    }

    /// Pairs of interface and address in a family: each has every source port once a destination.
    pub fn origins(&self, ipv6: bool) -> u64 {
        self.family(ipv6).iter().map(|way| way.len() as u64).sum()
    }

    /// Ranks after which every way has had its turn.
    pub fn period(&self, ipv6: bool) -> u32 {
        let family = self.family(ipv6);
        family.len() as u32 * family.iter().map(|way| way.len() as u32).max().unwrap_or(0)
    }

    /// Where the connection of this rank comes from; `None`: the family has no way.
    #[inline]
    pub fn origin(&self, rank: u32, ipv6: bool) -> Option<Origin> {
        let family = self.family(ipv6);
        let ways = u32::try_from(family.len()).ok().filter(|&ways| ways > 0)?;
        let way = &family[(rank % ways) as usize];
        way.get((rank / ways) as usize % way.len()).copied()
    }

    /// The address of `addresses` that the connection of this rank tries first. Over all ranks each
    /// address meets each way: where one count divides the other, a round begins one further on.
    #[inline]
    pub fn first_address(&self, rank: u32, addresses: u32) -> u32 {
        let round = lcm(self.period(false).max(self.period(true)).max(1), addresses);
        rank.wrapping_add(rank / round) % addresses
    }
}

fn lcm(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn way(interface: &str, addresses: &[&str]) -> Way {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Way { interface: InterfaceName::new(interface), addresses }
    }

    /// How often each of `items` came, sorted.
    fn counts<T: Ord>(items: impl Iterator<Item = T>) -> Vec<u32> {
        let mut counts = BTreeMap::new();
        items.for_each(|item| *counts.entry(item).or_insert(0) += 1);
        counts.into_values().collect()
    }

    #[test]
    fn every_interface_has_as_many_connections_whatever_addresses_it_has() {
        let ways =
            Ways::from_addresses(&[way("a", &["10.0.0.1", "10.0.0.2", "fd00::1"]), way("b", &["10.1.0.1"])]);
        assert_eq!((ways.origins(false), ways.origins(true), ways.period(false)), (3, 1, 4));
        let origin = |rank| ways.origin(rank, false).unwrap();
        assert_eq!(counts((0..100).map(|rank| origin(rank).interface)), [50, 50]);
        assert_eq!(counts((0..100).map(|rank| origin(rank).address)), [25, 25, 50]);
        assert_eq!(ways.origin(7, true).unwrap().interface, InterfaceName::new("a"), "b has no IPv6");
        assert!(!Ways::from_addresses(&[way("", &["10.0.0.1"])]).reaches(true));
    }

    #[test]
    fn each_pair_of_source_and_destination_has_as_many_connections() {
        for (sources, destinations) in [(2, 2), (4, 2), (3, 2), (6, 4), (1, 3), (5, 1)] {
            let addresses: Vec<String> = (1..=sources).map(|n| format!("10.0.0.{n}")).collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let ways = Ways::from_addresses(&[way("", &addresses)]);
            let pairs = (0..sources * destinations * 10).map(|rank| {
                (ways.origin(rank, false).unwrap().address, ways.first_address(rank, destinations))
            });
            assert_eq!(counts(pairs), vec![10; (sources * destinations) as usize]);
        }
    }

    #[test]
    fn without_a_source_the_kernel_chooses_on_each_interface() {
        let names = [InterfaceName::new("a").unwrap(), InterfaceName::new("b").unwrap()];
        let ways = Ways::through(&names);
        assert_eq!(ways.origin(3, true), Some(Origin { interface: Some(names[1]), address: None }));
        let none = Ways::through(&[]);
        assert_eq!(none.origin(3, false), Some(Origin { interface: None, address: None }));
        assert_eq!((none.origins(false), none.period(true)), (1, 1));
    }
}
