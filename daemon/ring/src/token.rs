//! Tokens: what an operation is known by when it completes.

/// Which operation of which thing: 2 bits of kind, 28 of generation, 32 of index.
///
/// The generation tells a late completion of a closed connection from its slot's next user. The
/// two top bits are the ring's own and always clear here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u64);

impl Token {
    /// Kinds are 0…3; the user of the ring gives them meaning.
    pub const KIND_MAX: u8 = 3;
    /// Generations are taken modulo 2^28.
    pub const GENERATION_MASK: u32 = (1 << 28) - 1;

    /// Packs the three parts. `kind` above 3 is a bug of ours.
    #[inline]
    pub const fn new(kind: u8, generation: u32, index: u32) -> Self {
        assert!(kind <= Self::KIND_MAX);
        Self((kind as u64) << 60 | ((generation & Self::GENERATION_MASK) as u64) << 32 | index as u64)
    }

    /// The kind given at `new`.
    #[inline]
    pub const fn kind(self) -> u8 {
        (self.0 >> 60) as u8
    }

    /// The generation given at `new`, modulo 2^28.
    #[inline]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & Self::GENERATION_MASK
    }

    /// The index given at `new`.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}
