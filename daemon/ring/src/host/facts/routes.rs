//! Which interface a packet leaves by: the main routing table, as /proc/net has it. Policy rules and other tables are out
//! of its sight.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::tree::Tree;

/// RTF_UP and RTF_REJECT (include/uapi/linux/route.h).
const UP: u32 = 0x0001;
const REJECT: u32 = 0x0200;
/// More rows are not kept.
const ROUTES_MAX: usize = 10_000;
/// The interface of everything that stays on this host.
const LOOPBACK: &str = "lo";

/// The main table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    routes: Vec<Route>,
    /// This host's own addresses of IPv4; those of IPv6 are routes to `lo`.
    own: Vec<Ipv4Addr>,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    to: IpAddr,
    bits: u32,
    metric: u32,
    interface: String,
    is_reject: bool,
}

impl Routes {
    pub(super) fn read(tree: &Tree<'_>) -> Self {
        let four = tree.text("proc/net/route").unwrap_or_default();
        let six = tree.text("proc/net/ipv6_route").unwrap_or_default();
        Self { own: own(tree), ..Self::parse(&four, &six) }
    }

    /// The rows of /proc/net/route and /proc/net/ipv6_route.
    pub fn parse(four: &str, six: &str) -> Self {
        let routes = four.lines().skip(1).filter_map(route4).chain(six.lines().filter_map(route6));
        Self { routes: routes.take(ROUTES_MAX).collect(), own: Vec::new() }
    }

    /// Nothing is known of it.
    pub const fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The interface towards `address`; `None`: no route that is known here.
    pub fn interface(&self, address: IpAddr) -> Option<&str> {
        let address = address.to_canonical();
        let is_own = matches!(address, IpAddr::V4(four) if self.own.contains(&four));
        if address.is_loopback() || is_own {
            return Some(LOOPBACK);
        }
        let matching = self.routes.iter().filter(|route| route.covers(address));
        let best = matching.min_by_key(|route| (u32::MAX - route.bits, route.metric))?;
        (!best.is_reject).then_some(&best.interface)
    }

    /// The interface of the default route: of IPv4, else of IPv6.
    pub fn default(&self) -> Option<&str> {
        let of = |is_six: bool| {
            let defaults = self
                .routes
                .iter()
                .filter(move |route| route.bits == 0 && !route.is_reject && route.to.is_ipv6() == is_six);
            defaults.min_by_key(|route| route.metric)
        };
        of(false).or_else(|| of(true)).map(|route| route.interface.as_str())
    }

    /// Whether there is a way out by IPv6.
    pub fn default6(&self) -> Option<&str> {
        let out = self.routes.iter().find(|route| route.bits == 0 && !route.is_reject && route.to.is_ipv6());
        out.map(|route| route.interface.as_str())
    }

    /// All interfaces that routes name, each once.
    pub(super) fn interfaces(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.routes.iter().map(|route| route.interface.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Route {
    fn covers(&self, address: IpAddr) -> bool {
        match (self.to, address) {
            (IpAddr::V4(to), IpAddr::V4(address)) => {
                (to.to_bits() ^ address.to_bits()).leading_zeros() >= self.bits
            }
            (IpAddr::V6(to), IpAddr::V6(address)) => {
                (to.to_bits() ^ address.to_bits()).leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

/// Interface, destination, gateway, flags, counters, metric, mask; addresses as the kernel has them in memory.
fn route4(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let address =
        |at: usize| Some(Ipv4Addr::from(u32::from_str_radix(words.get(at)?, 16).ok()?.to_ne_bytes()));
    let flags = u32::from_str_radix(words.get(3)?, 16).ok()?;
    (flags & UP != 0).then_some(Route {
        to: address(1)?.into(),
        bits: address(7)?.to_bits().count_ones(),
        metric: words.get(6)?.parse().ok()?,
        interface: words[0].to_owned(),
        is_reject: flags & REJECT != 0,
    })
}

/// Destination, its bits, source, its bits, next hop, metric, counters, flags, interface; all hexadecimal.
fn route6(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
    let flags = number(8)?;
    Some(Route {
        to: Ipv6Addr::from(u128::from_str_radix(words.first()?, 16).ok()?).into(),
        bits: number(1)?,
        metric: number(5)?,
        interface: (*words.get(9)?).to_owned(),
        is_reject: flags & REJECT != 0,
    })
}

/// Of /proc/net/fib_trie: an address stands in a line before the one that says `host LOCAL`.
fn own(tree: &Tree<'_>) -> Vec<Ipv4Addr> {
    let text = tree.text("proc/net/fib_trie").unwrap_or_default();
    let mut leaf: Option<Ipv4Addr> = None;
    let mut own = Vec::new();
    for line in text.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            leaf = address.trim().parse().ok();
        } else if line.contains("/32 host LOCAL") {
            own.extend(leaf);
        }
    }
    own.sort_unstable();
    own.dedup();
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_then_the_least_metric_and_own_addresses_stay_here() {
        // As a kernel of little-endian order prints them.
        let four = |line: &str| route4(line).unwrap();
        let routes = Routes {
            routes: vec![
                four("eth0 00000000 010200C0 0003 0 0 100 00000000 0 0 0"),
                four("wlan0 00000000 010200C0 0003 0 0 600 00000000 0 0 0"),
                four("eth1 0000000A 00000000 0001 0 0 0 000000FF 0 0 0"),
                four("* 0000010A 00000000 0201 0 0 0 0000FFFF 0 0 0"),
                route6("fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0").unwrap(),
                route6("00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo").unwrap(),
            ],
            own: vec![Ipv4Addr::new(192, 0, 2, 2)],
        };
        let by = |address: &str| routes.interface(address.parse().unwrap());
        assert_eq!((by("198.51.100.1"), by("10.9.0.1"), by("10.1.0.1")), (Some("eth0"), Some("eth1"), None));
        assert_eq!(
            (by("192.0.2.2"), by("127.0.0.9"), by("::ffff:127.0.0.1")),
            (Some("lo"), Some("lo"), Some("lo"))
        );
        assert_eq!((by("fd00::7"), by("2001:db8::1")), (Some("eth0"), None));
        assert_eq!((routes.default(), routes.default6()), (Some("eth0"), None));
    }
}
