//! Where a connection comes from: interface, source address and port.
//!
//! A stream's rank is its place among the streams of its group, on this worker, that go to the same
//! addresses, in the order of their first attempts. It is kept, so that a stream that comes back
//! comes from where it was.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use scale_ring::{Errno, Ring, Socket, SocketOptions};

use super::ports::Lease;
use super::turn::Worker;

/// Source ports tried for one socket when others hold them.
pub(super) const PORTS_TRIED_MAX: u32 = 64;

impl<R: Ring> Worker<R> {
    fn rank(&mut self, stream: u32) -> u32 {
        let Self { streams, share, ranks, .. } = self;
        let flow = &mut streams[stream as usize];
        if let Some(rank) = flow.rank {
            return rank.get() - 1;
        }
        let spec = &share.groups[usize::from(flow.group)];
        let addresses = share.endpoints[spec.endpoint(flow.number) as usize].addresses;
        let next = ranks.entry((flow.group, addresses)).or_insert_with(|| {
            // Workers begin apart, so that few streams do not all take the first way.
            let period = u64::from(spec.ways.period(false).max(spec.ways.period(true)));
            (period * u64::from(share.worker) / u64::from(share.workers)) as u32
        });
        let rank = *next;
        *next += 1;
        flow.rank = NonZeroU32::new(rank + 1);
        rank
    }

    /// The address of its row that an attempt of `stream` tries next, after `tried` others.
    pub(super) fn first_address(&mut self, stream: u32, row: u32, tried: u32) -> u32 {
        let rank = self.rank(stream);
        let flow = &self.streams[stream as usize];
        let addresses = &self.share.addresses[self.share.endpoints[row as usize].addresses as usize];
        let ways = &self.share.groups[usize::from(flow.group)].ways;
        match addresses.len() as u32 {
            0 => 0,
            // Streams start at different addresses of a name, and go on from there.
            count => ways.first_address(rank, count).wrapping_add(flow.attempts).wrapping_add(tried) % count,
        }
    }

    /// A socket bound to the stream's origin and a source port of ours; where that one has none left, the
    /// next origin that has. `AddressInUse`: others hold what was tried; `AddressNotAvailable`: we hold all.
    pub(super) fn open(&mut self, stream: u32, to: SocketAddr) -> Result<(Socket, Option<Lease>), Errno> {
        let rank = self.rank(stream);
        let Self { streams, share, ports, ring, ports_in_use, .. } = self;
        let spec = &share.groups[usize::from(streams[stream as usize].group)];
        let ipv6 = to.is_ipv6();
        let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        let mut origins =
            (0..spec.ways.period(ipv6)).filter_map(|ahead| spec.ways.origin(rank.wrapping_add(ahead), ipv6));
        let mut origin = origins.next();
        let mut passed = Vec::new();
        let mut result = Err(Errno::AddressNotAvailable);
        while let (Some(from), true) = (origin, passed.len() < PORTS_TRIED_MAX as usize) {
            let Some((port, lease)) = ports.take(from, to) else {
                origin = origins.next();
                continue;
            };
            let opened = ring.open(&SocketOptions {
                ipv6,
                bind: Some(SocketAddr::new(from.address.unwrap_or(any), port)),
                interface: from.interface,
                send_buffer_bytes: spec.send_buffer_bytes,
                receive_buffer_bytes: spec.receive_buffer_bytes,
            });
            match opened {
                Ok(socket) => {
                    result = Ok((socket, Some(lease)));
                    break;
                }
                Err(Errno::AddressInUse) => {
                    *ports_in_use += 1;
                    result = Err(Errno::AddressInUse);
                    passed.push(lease);
                }
                Err(errno) => {
                    result = Err(errno);
                    passed.push(lease);
                    break;
                }
            }
        }
        passed.into_iter().for_each(|lease| ports.give(lease));
        result
    }
}
