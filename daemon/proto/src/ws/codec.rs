//! Bytes to frames and back (RFC 6455 §5.2).

use crate::Fault;

/// Which side this is. A client masks what it sends, a server never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We opened the connection.
    Client,
    /// The peer did.
    Server,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment.
    Continuation = 0,
    /// UTF-8.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end.
    Close = 8,
    /// Answer me.
    Ping = 9,
    /// The answer.
    Pong = 10,
}

impl Opcode {
    pub(super) const fn is_control(self) -> bool {
        self as u8 >= 8
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// The longest frame header: two bytes, a 64-bit length, a mask.
pub const HEADER_BYTES_MAX: usize = 14;
/// The longest payload of a control frame (RFC 6455 §5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// Writes a frame header to the front of `out` and returns its length. Panics where `out` is
/// shorter than the header.
#[inline]
pub fn write_header(
    out: &mut [u8],
    opcode: Opcode,
    fin: bool,
    payload_bytes: u64,
    mask: Option<[u8; 4]>,
) -> usize {
    out[0] = (fin as u8) << 7 | opcode as u8;
    let masked = (mask.is_some() as u8) << 7;
    let mut at = match payload_bytes {
        0..=125 => {
            out[1] = masked | payload_bytes as u8;
            2
        }
        126..=0xFFFF => {
            out[1] = masked | 126;
            out[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            4
        }
        _ => {
            out[1] = masked | 127;
            out[2..10].copy_from_slice(&payload_bytes.to_be_bytes());
            10
        }
    };
    if let Some(mask) = mask {
        out[at..at + 4].copy_from_slice(&mask);
        at += 4;
    }
    at
}

/// `dst[i] = src[i] ^ mask[i % 4]` in one pass. Panics where the lengths differ.
#[inline]
pub fn mask_into(dst: &mut [u8], src: &[u8], mask: [u8; 4]) {
    assert_eq!(dst.len(), src.len(), "masked into another length");
    const LANE: usize = 32; // fixed-size lanes become vector instructions
    let mut wide = [0; LANE];
    for (index, byte) in wide.iter_mut().enumerate() {
        *byte = mask[index % 4];
    }
    let (dst_lanes, dst_rest) = dst.as_chunks_mut::<LANE>();
    let (src_lanes, src_rest) = src.as_chunks::<LANE>();
    for (to, from) in dst_lanes.iter_mut().zip(src_lanes) {
        for index in 0..LANE {
            to[index] = from[index] ^ wide[index];
        }
    }
    for (index, (to, from)) in dst_rest.iter_mut().zip(src_rest).enumerate() {
        *to = from ^ mask[index % 4];
    }
}

/// Whether `a[i] == b[i] ^ mask[i % 4]` throughout. Panics where the lengths differ.
#[inline]
pub fn is_masked(a: &[u8], b: &[u8], mask: [u8; 4]) -> bool {
    assert_eq!(a.len(), b.len(), "compared with another length");
    const LANE: usize = 8;
    let half = u64::from(u32::from_ne_bytes(mask));
    let wide = half << 32 | half; // the same four bytes twice, whatever the byte order
    let (a_lanes, a_rest) = a.as_chunks::<LANE>();
    let (b_lanes, b_rest) = b.as_chunks::<LANE>();
    let lanes = a_lanes.iter().zip(b_lanes);
    let differ =
        lanes.fold(0, |differ, (&a, &b)| differ | (u64::from_ne_bytes(a) ^ u64::from_ne_bytes(b) ^ wide));
    differ == 0 && a_rest.iter().zip(b_rest).enumerate().all(|(index, (a, b))| *a == b ^ mask[index % 4])
}

/// The mask as it stands `by` bytes further into the payload.
#[inline]
pub const fn rotate_mask(mask: [u8; 4], by: usize) -> [u8; 4] {
    [mask[by % 4], mask[(by + 1) % 4], mask[(by + 2) % 4], mask[(by + 3) % 4]]
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub fin: bool,
    pub opcode: Opcode,
    pub mask: Option<[u8; 4]>,
    pub payload_bytes: u64,
}

impl Header {
    /// Parses a header at the front of `bytes`; `None`: more bytes are needed. The second value is
    /// its length. Rules that need no more than the first two bytes fail at once.
    #[inline]
    pub fn parse(bytes: &[u8], role: Role) -> Result<Option<(Self, usize)>, Fault> {
        let &[first, second, ref rest @ ..] = bytes else {
            if let Some(first) = bytes.first() {
                Self::check_first(*first)?;
            }
            return Ok(None);
        };
        let opcode = Self::check_first(first)?;
        let fin = first & 0x80 != 0;
        let masked = second & 0x80 != 0;
        match (role, masked) {
            (Role::Client, true) => return Err(Fault::WsProtocol("a server's frame is masked")),
            (Role::Server, false) => return Err(Fault::WsProtocol("a client's frame is not masked")),
            _ => {}
        }
        let short = second & 0x7F;
        if opcode.is_control() {
            if !fin {
                return Err(Fault::WsProtocol("a control frame is fragmented"));
            }
            if usize::from(short) > CONTROL_BYTES_MAX {
                return Err(Fault::WsProtocol("a control frame is longer than 125 bytes"));
            }
        }
        let (payload_bytes, length) = match short {
            126 => match rest {
                [a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 2),
                _ => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(bytes) => (u64::from_be_bytes(*bytes), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        if payload_bytes >> 63 != 0 {
            return Err(Fault::WsProtocol("a length has its highest bit set"));
        }
        if (length == 2 && payload_bytes < 126) || (length == 8 && payload_bytes <= 0xFFFF) {
            return Err(Fault::WsProtocol("a length is not in its shortest form"));
        }
        let mask = if masked {
            match rest[length..].first_chunk::<4>() {
                Some(mask) => Some(*mask),
                None => return Ok(None),
            }
        } else {
            None
        };
        let header = Self { fin, opcode, mask, payload_bytes };
        Ok(Some((header, 2 + length + if masked { 4 } else { 0 })))
    }

    fn check_first(first: u8) -> Result<Opcode, Fault> {
        if first & 0x70 != 0 {
            return Err(Fault::WsProtocol("a reserved bit is set without an extension"));
        }
        Opcode::from_bits(first & 0x0F).ok_or(Fault::WsProtocol("a reserved opcode"))
    }
}
