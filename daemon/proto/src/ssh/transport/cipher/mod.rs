//! Ciphers: what a packet looks like under each, sealed and opened where it lies.
//!
//! A packet here is all of it: length, padding length, payload, padding, and the tag's place behind.

mod chacha;
mod ctr;
mod gcm;

use zeroize::Zeroizing;

/// The length field.
pub(super) const LENGTH_BYTES: usize = 4;
/// The length field and the padding's length: what comes before a payload.
pub(super) const HEAD_BYTES: usize = 5;
/// RFC 4253 §6.
pub(super) const PADDING_BYTES_MIN: usize = 4;

/// A packet does not authenticate.
#[derive(Debug)]
pub(super) struct Tampered;

/// A cipher that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    Aes128Ctr,
    Aes256Ctr,
}

impl Cipher {
    const ALL: [Self; 5] =
        [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305, Self::Aes128Ctr, Self::Aes256Ctr];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20Poly1305 => "chacha20-poly1305@openssh.com",
            Self::Aes128Ctr => "aes128-ctr",
            Self::Aes256Ctr => "aes256-ctr",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.name() == name)
    }

    /// Whether it authenticates by itself, so that no MAC is negotiated.
    pub(super) const fn authenticates(self) -> bool {
        !matches!(self, Self::Aes128Ctr | Self::Aes256Ctr)
    }

    const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128Ctr => 16,
            Self::Aes256Gcm | Self::Aes256Ctr => 32,
            Self::ChaCha20Poly1305 => 64,
        }
    }
}

/// A MAC that is known here: HMAC of RFC 6668, over the sealed packet (etm) or over the plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mac {
    Sha256Etm,
    Sha512Etm,
    Sha256,
    Sha512,
}

impl Mac {
    const ALL: [Self; 4] = [Self::Sha256Etm, Self::Sha512Etm, Self::Sha256, Self::Sha512];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sha256Etm => "hmac-sha2-256-etm@openssh.com",
            Self::Sha512Etm => "hmac-sha2-512-etm@openssh.com",
            Self::Sha256 => "hmac-sha2-256",
            Self::Sha512 => "hmac-sha2-512",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mac| mac.name() == name)
    }

    /// Of the key, and of the tag.
    const fn bytes(self) -> usize {
        match self {
            Self::Sha256Etm | Self::Sha256 => 32,
            Self::Sha512Etm | Self::Sha512 => 64,
        }
    }

    const fn is_etm(self) -> bool {
        matches!(self, Self::Sha256Etm | Self::Sha512Etm)
    }
}

/// What protects one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) cipher: Cipher,
    /// For ciphers that do not authenticate.
    pub(super) mac: Option<Mac>,
}

impl Suite {
    /// The MAC's name in reports.
    pub(super) fn mac_name(self) -> &'static str {
        self.mac.map_or("implicit", Mac::name)
    }
}

/// One direction's keys as they are derived; wiped when dropped.
pub(super) struct Keys {
    key: Zeroizing<[u8; KEY_BYTES_MAX]>,
    iv: Zeroizing<[u8; IV_BYTES_MAX]>,
    mac: Zeroizing<[u8; KEY_BYTES_MAX]>,
}

/// Of chacha20-poly1305's two keys, and of HMAC-SHA-512's.
const KEY_BYTES_MAX: usize = 64;
/// Of AES's block.
const IV_BYTES_MAX: usize = 16;

impl Keys {
    /// `derive(letter, into)` as in RFC 4253 §7.2, for the direction whose letters are `iv`, `key` and `mac`.
    /// What a cipher does not need is the tail of a longer derivation, and not used.
    pub(super) fn derive([iv, key, mac]: [u8; 3], suite: Suite, derive: impl Fn(u8, &mut [u8])) -> Self {
        let mut keys =
            Self { key: Zeroizing::new([0; 64]), iv: Zeroizing::new([0; 16]), mac: Zeroizing::new([0; 64]) };
        derive(key, &mut keys.key[..suite.cipher.key_bytes()]);
        if suite.cipher != Cipher::ChaCha20Poly1305 {
            derive(iv, &mut keys.iv[..]);
        }
        if let Some(of) = suite.mac {
            derive(mac, &mut keys.mac[..of.bytes()]);
        }
        keys
    }

    fn iv<const N: usize>(&self) -> [u8; N] {
        *self.iv.first_chunk().expect("an IV of at most 16 bytes")
    }
}

/// How a cipher frames packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Framing {
    /// What padding fills up to.
    block: usize,
    /// Whether the length field is part of that.
    counts_length: bool,
    /// Behind the packet.
    pub(super) tag: usize,
    /// Needed to know a packet's length.
    pub(super) front: usize,
}

impl Framing {
    const PLAIN: Self = Self { block: 8, counts_length: true, tag: 0, front: LENGTH_BYTES };

    pub(super) const fn padding_bytes(self, payload_bytes: usize) -> usize {
        let head = if self.counts_length { HEAD_BYTES } else { HEAD_BYTES - LENGTH_BYTES };
        let padding = self.block - (head + payload_bytes) % self.block;
        if padding < PADDING_BYTES_MIN { padding + self.block } else { padding }
    }

    /// Of a whole packet with its tag.
    pub(super) const fn packet_bytes(self, payload_bytes: usize) -> usize {
        HEAD_BYTES + payload_bytes + self.padding_bytes(payload_bytes) + self.tag
    }

    /// Whether a packet can have this in its length field. OpenSSH's minimum where the length is not
    /// counted is one block; RFC 4253 §6 has 16 bytes with the length.
    pub(super) const fn allows(self, length: usize) -> bool {
        let (counted, least) = if self.counts_length {
            (length + LENGTH_BYTES, if self.block > 16 { self.block } else { 16 })
        } else {
            (length, self.block)
        };
        counted >= least && counted % self.block == 0
    }
}

/// What this side's packets go through. The usual key is a pointer of the library's and its nonce; the others
/// are larger, and boxed.
pub(super) enum Sealing {
    Plain,
    Gcm(gcm::Key),
    ChaCha(Box<chacha::SealingKey>),
    Ctr(Box<ctr::Key>),
}

impl Sealing {
    pub(super) fn new(suite: Suite, keys: &Keys) -> Self {
        match suite.cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => Self::Gcm(gcm::Key::new(suite.cipher, keys)),
            Cipher::ChaCha20Poly1305 => Self::ChaCha(Box::new(chacha::SealingKey::new(&keys.key))),
            Cipher::Aes128Ctr | Cipher::Aes256Ctr => Self::Ctr(Box::new(ctr::Key::new(suite, keys))),
        }
    }

    #[inline]
    pub(super) fn framing(&self) -> Framing {
        match self {
            Self::Plain => Framing::PLAIN,
            Self::Gcm(_) => gcm::FRAMING,
            Self::ChaCha(_) => chacha::FRAMING,
            Self::Ctr(key) => key.framing(),
        }
    }

    /// Seals a packet with the place of its tag behind.
    #[inline]
    pub(super) fn seal(&mut self, sequence: u32, packet: &mut [u8]) {
        match self {
            Self::Plain => {}
            Self::Gcm(key) => key.seal(packet),
            Self::ChaCha(key) => chacha::seal(key, sequence, packet),
            Self::Ctr(key) => key.seal(sequence, packet),
        }
    }
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Gcm(_) => "Gcm",
            Self::ChaCha(_) => "ChaCha",
            Self::Ctr(_) => "Ctr",
        })
    }
}

/// What the peer's packets go through.
pub(super) enum Opening {
    Plain,
    Gcm(gcm::Key),
    ChaCha(Box<chacha::OpeningKey>),
    Ctr(Box<ctr::Key>),
}

impl Opening {
    pub(super) fn new(suite: Suite, keys: &Keys) -> Self {
        match suite.cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => Self::Gcm(gcm::Key::new(suite.cipher, keys)),
            Cipher::ChaCha20Poly1305 => Self::ChaCha(Box::new(chacha::OpeningKey::new(&keys.key))),
            Cipher::Aes128Ctr | Cipher::Aes256Ctr => Self::Ctr(Box::new(ctr::Key::new(suite, keys))),
        }
    }

    #[inline]
    pub(super) fn framing(&self) -> Framing {
        match self {
            Self::Plain => Framing::PLAIN,
            Self::Gcm(_) => gcm::FRAMING,
            Self::ChaCha(_) => chacha::FRAMING,
            Self::Ctr(key) => key.framing(),
        }
    }

    /// The length field of a packet of which at least `framing().front` bytes are there. Nothing is
    /// changed: the same bytes may be shown again. It is not authenticated yet.
    #[inline]
    pub(super) fn length(&self, sequence: u32, packet: &[u8]) -> u32 {
        let field: [u8; LENGTH_BYTES] = *packet.first_chunk().expect("a packet's front");
        u32::from_be_bytes(match self {
            Self::Plain | Self::Gcm(_) => field,
            Self::ChaCha(key) => key.decrypt_packet_length(sequence, field),
            Self::Ctr(key) => key.length(packet),
        })
    }

    /// Opens a whole packet with its tag: behind the length field it is plain then.
    #[inline]
    pub(super) fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), Tampered> {
        match self {
            Self::Plain => Ok(()),
            Self::Gcm(key) => key.open(packet),
            Self::ChaCha(key) => chacha::open(key, sequence, packet),
            Self::Ctr(key) => key.open(sequence, packet),
        }
    }
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Gcm(_) => "Gcm",
            Self::ChaCha(_) => "ChaCha",
            Self::Ctr(_) => "Ctr",
        })
    }
}
