//! The open-loop grid: stream i is due at start + offset(i) + k × tick, and message k has
//! exactly its share of the rate. Nothing here knows about answers, so a slow peer cannot slow
//! the load down; nothing is computed from "now", so nothing drifts.

use scale_ring::Time;

use super::random::mix;

/// How the streams of a group share a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TickOffset {
    /// frac(i × golden ratio) × tick: even for any number of streams, and independent of it.
    #[default]
    Spread,
    /// All at once.
    Aligned,
    /// Uniform, from the run's seed.
    Random,
}

impl TickOffset {
    /// Stream `stream`'s place within the tick, in ns, below `tick_ns`.
    pub const fn of(self, stream: u64, tick_ns: u64, seed: u64) -> u64 {
        // 2^64 / golden ratio: a 64-bit fixed-point fraction, wrapping is taking the fraction.
        let fraction = match self {
            Self::Spread => stream.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            Self::Aligned => 0,
            Self::Random => mix(seed ^ mix(stream)),
        };
        ((fraction as u128 * tick_ns as u128) >> 64) as u64
    }
}

/// Bytes of each message of a stream: rate × tick, the fraction of a byte carried over exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageSize {
    whole: u32,
    /// Billionths of a byte a message, below 10^9.
    rest: u32,
}

const BILLION: u64 = 1_000_000_000;

impl MessageSize {
    /// The largest message, in bytes.
    pub const MAX: u64 = 16 << 20;

    /// Every message has `bytes`.
    pub const fn fixed(bytes: u32) -> Self {
        Self { whole: bytes, rest: 0 }
    }

    /// `bytes_per_second` in messages each `tick_ns`. `None`: below one byte a message, or above
    /// [`Self::MAX`].
    pub fn from_rate(bytes_per_second: u64, tick_ns: u64) -> Option<Self> {
        let billionths = u128::from(bytes_per_second) * u128::from(tick_ns);
        let whole = u64::try_from(billionths / u128::from(BILLION)).ok()?;
        let rest = (billionths % u128::from(BILLION)) as u32;
        let size = Self { whole: u32::try_from(whole).ok()?, rest };
        (whole >= 1 && u64::from(size.max()) <= Self::MAX).then_some(size)
    }

    /// Bytes of message `k` of a grid, counted from 0.
    #[inline]
    pub const fn at(self, k: u64) -> u32 {
        if self.rest == 0 {
            return self.whole;
        }
        let k = k % BILLION; // the carry repeats after a billion messages
        let rest = self.rest as u64;
        self.whole + ((k + 1) * rest / BILLION - k * rest / BILLION) as u32
    }

    /// The largest message of a grid.
    pub const fn max(self) -> u32 {
        self.whole + (self.rest > 0) as u32
    }

    /// Bytes a second at `tick_ns`.
    pub fn bytes_per_second(self, tick_ns: u64) -> f64 {
        (f64::from(self.whole) * 1e9 + f64::from(self.rest)) / tick_ns as f64
    }
}

/// The first grid point at or after `from`, of the grid through `origin` with `tick_ns`.
pub const fn first_point(origin: Time, tick_ns: u64, from: Time) -> Time {
    let behind = from.ns_since(origin);
    origin.plus_ns(behind.div_ceil(tick_ns) * tick_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spread_offsets_fill_the_tick_evenly_for_any_number_of_streams() {
        for n in [2u64, 10, 1000, 5001] {
            let mut offsets: Vec<u64> = (0..n).map(|i| TickOffset::Spread.of(i, 1_000_000, 0)).collect();
            offsets.sort_unstable();
            let gap = offsets.windows(2).map(|w| w[1] - w[0]).max().unwrap();
            assert!(gap <= 3 * 1_000_000 / n, "{n} streams leave a gap of {gap} ns in 1 ms");
        }
    }

    #[test]
    fn forty_kb_each_second_is_four_thousand_bytes_each_tenth() {
        assert_eq!(MessageSize::from_rate(40_000, 100_000_000), Some(MessageSize::fixed(4000)));
        assert_eq!(MessageSize::from_rate(9, 100_000_000), None);
        assert_eq!(MessageSize::from_rate(u64::MAX, 1_000_000_000), None);
    }

    proptest! {
        #[test]
        fn offsets_stay_within_the_tick(i: u64, tick in 1_000_000u64..3_600_000_000_000, seed: u64) {
            for kind in [TickOffset::Spread, TickOffset::Aligned, TickOffset::Random] {
                prop_assert!(kind.of(i, tick, seed) < tick);
            }
        }

        #[test]
        fn no_fraction_of_a_byte_is_lost(rate in 1u64..1_000_000, tick in 1_000_000u64..10_000_000_000, n in 1u64..500) {
            if let Some(size) = MessageSize::from_rate(rate, tick) {
                let sum: u64 = (0..n).map(|k| u64::from(size.at(k))).sum();
                prop_assert_eq!(u128::from(sum), u128::from(rate) * u128::from(tick) * u128::from(n) / 1_000_000_000);
            }
        }

        #[test]
        fn the_first_point_is_on_the_grid_and_not_before(origin in 0u64..1 << 40, tick in 1u64..1 << 36, from in 0u64..1 << 41) {
            let (origin, from) = (Time::from_ns(origin), Time::from_ns(from));
            let point = first_point(origin, tick, from);
            prop_assert!(point >= from && point >= origin && point.ns_since(origin).is_multiple_of(tick));
            prop_assert!(point == origin || point.ns() - from.ns() < tick);
        }
    }
}
