//! Source ports, chosen by us.
//!
//! The kernel's own choice becomes a linear search when half of its range is gone; ours stays
//! flat to the end. A port serves each destination once, so what is held is kept by pair of
//! source address and destination.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The ports of one worker.
#[derive(Debug)]
pub struct Ports {
    from: u16,
    to: u16,
    reserved: Arc<[u16]>,
    pairs: Vec<Pair>,
    by_pair: HashMap<(Option<IpAddr>, SocketAddr), u32>,
    seed: u64,
}

#[derive(Debug)]
struct Pair {
    held: Box<[u64]>,
    count: u32,
    cursor: u16,
}

/// A held port: the pair's number and the port.
pub type Lease = (u32, u16);

impl Ports {
    /// Ports `from..=to`, less the reserved ones; `seed` places the first, so that runs that
    /// follow each other do not meet each other's TIME_WAIT.
    pub fn new((from, to): (u16, u16), reserved: Arc<[u16]>, seed: u64) -> Self {
        assert!(from <= to, "the plan gives every worker ports");
        Self { from, to, reserved, pairs: Vec::new(), by_pair: HashMap::new(), seed }
    }

    /// The next free port from `source` to `destination`; `None`: all are held.
    pub fn take(&mut self, source: Option<IpAddr>, destination: SocketAddr) -> Option<Lease> {
        let width = u32::from(self.to - self.from) + 1;
        let (pairs, from, seed) = (&mut self.pairs, self.from, self.seed);
        let number = *self.by_pair.entry((source, destination)).or_insert_with(|| {
            let cursor = from + (seed % u64::from(width)) as u16;
            pairs.push(Pair { held: vec![0; width.div_ceil(64) as usize].into(), count: 0, cursor });
            (pairs.len() - 1) as u32
        });
        let pair = &mut self.pairs[number as usize];
        if pair.count == width {
            return None;
        }
        for _ in 0..width {
            let port = pair.cursor;
            pair.cursor = if port == self.to { self.from } else { port + 1 };
            let (word, bit) = Self::bit(self.from, port);
            if pair.held[word] & bit == 0 && self.reserved.binary_search(&port).is_err() {
                pair.held[word] |= bit;
                pair.count += 1;
                return Some((number, port));
            }
        }
        None
    }

    /// Gives a port back.
    pub fn give(&mut self, (number, port): Lease) {
        let pair = &mut self.pairs[number as usize];
        let (word, bit) = Self::bit(self.from, port);
        debug_assert!(pair.held[word] & bit != 0, "a port is given back once");
        pair.held[word] &= !bit;
        pair.count -= 1;
    }

    const fn bit(from: u16, port: u16) -> (usize, u64) {
        let index = (port - from) as usize;
        (index / 64, 1 << (index % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_serves_each_destination_once_and_all_are_used() {
        let mut ports = Ports::new((2000, 2099), vec![2005, 2006].into(), 77);
        let [a, b] = ["127.0.0.1:80", "127.0.0.2:80"].map(|text| text.parse().unwrap());
        let mut taken: Vec<Lease> = std::iter::from_fn(|| ports.take(None, a)).collect();
        assert_eq!(taken.len(), 98);
        assert!(ports.take(None, b).is_some());
        ports.give(taken[40]);
        assert_eq!(ports.take(None, a), Some(taken[40]));
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), 98);
        assert!(taken.iter().all(|(_, port)| (2000..2100).contains(port) && ![2005, 2006].contains(port)));
    }
}
