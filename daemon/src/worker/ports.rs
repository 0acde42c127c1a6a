//! Source ports, chosen by us.
//!
//! The kernel's own choice becomes a linear search when half of its range is gone; ours stays
//! flat to the end. A port serves each destination once, so what is held is kept by pair of
//! origin and destination. The workers that reach a destination share the host's ports evenly.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::load::ways::Origin;

/// The first source port that is used.
pub const PORT_FIRST: u16 = 1025;

/// Which source ports there are, and which of them are whose: one table for all workers of a run.
#[derive(Debug, Default)]
pub struct PortTable {
    /// Ascending.
    usable: Vec<u16>,
    /// Destinations that not every worker reaches, with those that do, ascending.
    reached_by: HashMap<SocketAddr, Vec<u32>>,
}

impl PortTable {
    /// All from [`PORT_FIRST`] on but the `reserved` ones (ascending), shared by `reached_by`.
    pub fn new(reserved: &[u16], reached_by: HashMap<SocketAddr, Vec<u32>>) -> Self {
        let is_free = |port: &u16| reserved.binary_search(port).is_err();
        Self { usable: (PORT_FIRST..=u16::MAX).filter(is_free).collect(), reached_by }
    }

    /// How many there are.
    pub fn usable(&self) -> u64 {
        self.usable.len() as u64
    }

    /// Places in the table of what `worker` of `workers` may use towards `destination`.
    fn places(&self, (worker, workers): (u32, u32), destination: SocketAddr) -> Range<usize> {
        let all = self.usable.len();
        let sharers = self.reached_by.get(&destination);
        // A name's new address is everybody's until the next plan.
        let of_sharers = sharers.and_then(|those| Some((those.binary_search(&worker).ok()?, those.len())));
        let (part, parts) = of_sharers.unwrap_or((worker as usize, workers as usize));
        all * part / parts..all * (part + 1) / parts
    }

    /// The ports that `worker` of `workers` may use towards `destination`, ascending.
    pub fn slice(&self, who: (u32, u32), destination: SocketAddr) -> &[u16] {
        &self.usable[self.places(who, destination)]
    }
}

/// The ports of one worker.
#[derive(Debug)]
pub struct Ports {
    table: Arc<PortTable>,
    /// This worker's number, and how many there are.
    who: (u32, u32),
    pairs: Vec<Pair>,
    by_pair: HashMap<(Origin, SocketAddr), u32>,
    seed: u64,
}

/// What is held of a pair's ports. Slots are counted from where the pair began, so that the bits grow with use.
#[derive(Debug)]
struct Pair {
    places: Range<usize>,
    start: usize,
    held: Vec<u64>,
    count: usize,
    next: usize,
}

/// What a held port is given back by: its pair, and its slot there.
pub type Lease = (u32, u16);

impl Ports {
    /// Ports of `who` (its number, and how many there are); `seed` places the first, so that runs that
    /// follow each other do not meet each other's TIME_WAIT.
    pub fn new(table: Arc<PortTable>, who: (u32, u32), seed: u64) -> Self {
        Self { table, who, pairs: Vec::new(), by_pair: HashMap::new(), seed }
    }

    /// The next free port from `origin` to `destination`, and its lease; `None`: all are held.
    pub fn take(&mut self, origin: Origin, destination: SocketAddr) -> Option<(u16, Lease)> {
        let Self { table, who, pairs, by_pair, seed } = self;
        let number = *by_pair.entry((origin, destination)).or_insert_with(|| {
            let places = table.places(*who, destination);
            let start = (*seed % places.len().max(1) as u64) as usize;
            pairs.push(Pair { places, start, held: Vec::new(), count: 0, next: 0 });
            (pairs.len() - 1) as u32
        });
        let pair = &mut pairs[number as usize];
        let width = pair.places.len();
        if pair.count == width {
            return None;
        }
        loop {
            let slot = pair.next;
            pair.next = (slot + 1) % width;
            let (word, bit) = Self::bit(slot);
            if word >= pair.held.len() {
                pair.held.resize(word + 1, 0);
            }
            if pair.held[word] & bit == 0 {
                pair.held[word] |= bit;
                pair.count += 1;
                let port = table.usable[pair.places.start + (pair.start + slot) % width];
                return Some((port, (number, slot as u16)));
            }
        }
    }

    /// Gives a port back.
    pub fn give(&mut self, (number, slot): Lease) {
        let pair = &mut self.pairs[number as usize];
        let (word, bit) = Self::bit(usize::from(slot));
        debug_assert!(pair.held[word] & bit != 0, "a port is given back once");
        pair.held[word] &= !bit;
        pair.count -= 1;
    }

    const fn bit(slot: usize) -> (usize, u64) {
        (slot / 64, 1 << (slot % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Origin = Origin { interface: None, address: None };

    #[test]
    fn each_port_serves_each_destination_once_and_all_are_used() {
        let reserved: Vec<u16> = (1..2000).chain([2005, 2006]).chain(2100..=u16::MAX).collect();
        let table = Arc::new(PortTable::new(&reserved, HashMap::new()));
        assert_eq!(table.usable(), 98);
        let mut ports = Ports::new(table, (0, 1), 77);
        let [a, b] = ["127.0.0.1:80", "127.0.0.2:80"].map(|text| text.parse().unwrap());
        let mut taken: Vec<(u16, Lease)> = std::iter::from_fn(|| ports.take(ANY, a)).collect();
        assert_eq!(taken.len(), 98);
        assert!(ports.take(ANY, b).is_some());
        assert!(ports.take(Origin { address: Some([127, 0, 0, 9].into()), ..ANY }, a).is_some());
        ports.give(taken[40].1);
        assert_eq!(ports.take(ANY, a), Some(taken[40]));
        taken.sort_unstable();
        taken.dedup_by_key(|(port, _)| *port);
        assert_eq!(taken.len(), 98);
        assert!(taken.iter().all(|(port, _)| (2000..2100).contains(port)));
        assert!(taken.iter().all(|(port, _)| ![2005, 2006].contains(port)));
    }

    #[test]
    fn workers_that_reach_a_destination_share_its_ports_evenly_whatever_is_reserved() {
        let [both, one]: [SocketAddr; 2] = ["127.0.0.1:80", "127.0.0.2:80"].map(|text| text.parse().unwrap());
        let reserved: Vec<u16> = (1..=40_000).collect();
        let table = PortTable::new(&reserved, [(one, vec![1])].into());
        let (a, b) = (table.slice((0, 2), both), table.slice((1, 2), both));
        assert_eq!((a.first(), b.last(), a.len() + b.len()), (Some(&40_001), Some(&65_535), 25_535));
        assert!(a.len().abs_diff(b.len()) <= 1 && a.last() < b.first());
        assert_eq!(table.slice((1, 2), one).len(), 25_535, "nobody else goes there");
    }

    #[test]
    fn where_every_port_is_reserved_there_is_none() {
        let reserved: Vec<u16> = (0..=u16::MAX).collect();
        let mut ports = Ports::new(Arc::new(PortTable::new(&reserved, HashMap::new())), (0, 2), 5);
        assert_eq!(ports.take(ANY, "127.0.0.1:80".parse().unwrap()), None);
    }
}
