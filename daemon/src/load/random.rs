//! Seeded randomness: masks, payload positions, back-off. Not for secrets.

/// splitmix64 (Steele, Lea, Flood 2014): one multiply-xor chain a number, any seed is good.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Two seeds that differ give sequences that do not overlap in practice.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`; 0 where `bound` is 0. The bias is under 2^-32 for bounds in use.
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// A fresh websocket mask (RFC 6455 §5.3: unpredictable to the content; never zero here).
    #[inline]
    pub const fn mask(&mut self) -> [u8; 4] {
        ((self.next() >> 32) as u32 | 0x0001_0000).to_ne_bytes()
    }
}

/// splitmix64's finaliser: spreads every bit of `x` over all of the result.
#[inline]
pub const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
