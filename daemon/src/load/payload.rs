//! What messages are made of: one seeded pool that all streams read from at their own places.

use std::sync::Arc;

use scale_proto::coder::{self, Echo, Form, Route, Text};
use scale_proto::ws;

use super::random::Random;

/// The bytes of all messages of a group.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The pool and, behind it, its own first [`Self::PIECE_MAX`] bytes again, so that every
    /// piece is contiguous.
    bytes: Arc<[u8]>,
    /// Bytes before the repetition starts: a power of two for a pool, the length of a file.
    period: usize,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Uniform bytes out of this seed.
    Uniform(u64),
    Text,
    Fixed,
    /// What is typed into a terminal, or sent to an app, in pieces; it has a pool of its own.
    Typed(Arc<Text>, Echo),
}

impl Payload {
    /// Bytes of a pool: fits a core's second-level cache beside the sockets' memory.
    pub const POOL_BYTES: usize = 256 << 10;
    /// The longest piece that is handed out at once.
    pub const PIECE_MAX: usize = 64 << 10;
    /// Messages start at multiples of this, so that their first bytes differ from each other.
    const ALIGNMENT: u64 = 8;
    const TEXT: &'static [u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n";

    /// Uniform bytes.
    pub fn random(seed: u64) -> Self {
        Self::pool(seed, Kind::Uniform(seed), |byte| byte)
    }

    /// ASCII letters, digits, space and newline: valid in a text message wherever it is cut.
    pub fn text(seed: u64) -> Self {
        Self::pool(seed, Kind::Text, |byte| Self::TEXT[usize::from(byte % 64)])
    }

    fn pool(seed: u64, kind: Kind, map: impl Fn(u8) -> u8) -> Self {
        let mut random = Random::new(seed);
        let mut bytes: Vec<u8> = Vec::with_capacity(Self::POOL_BYTES + Self::PIECE_MAX);
        while bytes.len() < Self::POOL_BYTES {
            bytes.extend(random.next().to_ne_bytes().map(&map));
        }
        bytes.extend_from_within(..Self::PIECE_MAX);
        Self { bytes: bytes.into(), period: Self::POOL_BYTES, kind }
    }

    /// What Coder's own traffic test types into web terminals ([`Route::Terminal`]) or sends to a
    /// workspace's app or over SSH; `echo` is what comes back of it.
    pub fn typed(seed: u64, form: Form, route: Route, echo: Echo) -> Self {
        let mut random = Random::new(seed);
        let text = Text::new(form, route, &mut || random.next());
        Self { bytes: Arc::new([]), period: Text::POOL_BYTES, kind: Kind::Typed(Arc::new(text), echo) }
    }

    /// Every message is exactly `content` (which is not empty).
    pub fn fixed(content: &[u8]) -> Self {
        assert!(!content.is_empty(), "the plan refuses an empty message file");
        Self { bytes: content.into(), period: content.len(), kind: Kind::Fixed }
    }

    /// Bytes of a fixed message; `None` for a pool.
    pub const fn message_bytes(&self) -> Option<u32> {
        if self.is_fixed() { Some(self.period as u32) } else { None }
    }

    const fn is_fixed(&self) -> bool {
        matches!(self.kind, Kind::Fixed)
    }

    /// The name of a pool of uniform bytes, the same for the same bytes; `None` for others. Under any
    /// mask uniform bytes are uniform bytes: such a message may go as the pool has it, with its mask
    /// in the header only.
    #[inline]
    pub const fn uniform(&self) -> Option<u64> {
        if let Kind::Uniform(seed) = self.kind { Some(seed) } else { None }
    }

    /// Where a new message starts.
    #[inline]
    pub fn place(&self, random: &mut Random) -> u32 {
        match self.kind {
            Kind::Fixed => return 0,
            Kind::Typed(..) => return Text::place(random.next()),
            Kind::Uniform(_) | Kind::Text => {}
        }
        (random.below(self.period as u64 / Self::ALIGNMENT) * Self::ALIGNMENT) as u32
    }

    /// The typed message of `bytes` bytes at `place`; `None`: messages are no typed ones.
    #[inline]
    pub fn typed_message(&self, place: u32, bytes: u32) -> Option<coder::Message<'_>> {
        if let Kind::Typed(text, _) = &self.kind { Some(text.message(place, bytes)) } else { None }
    }

    /// Bytes of the echo of a message of `bytes` bytes.
    #[inline]
    pub fn echo_bytes(&self, bytes: u32) -> u32 {
        match &self.kind {
            Kind::Typed(text, echo) => text.message(0, bytes).echo_bytes(*echo),
            _ => bytes,
        }
    }

    /// Bytes of the message whose echo has `echo_bytes`.
    pub fn message_of(&self, echo_bytes: u32) -> u32 {
        echo_bytes - (self.echo_bytes(1) - 1)
    }

    /// The byte at `position` of the echo of a typed message, named as for [`Self::echoes`]; `None`:
    /// it is not that long, or messages are no typed ones.
    pub fn echo_at(&self, place: u32, echo_bytes: u32, position: u32) -> Option<u8> {
        let Kind::Typed(text, echo) = &self.kind else { return None };
        text.message(place, self.message_of(echo_bytes)).echo_at(*echo, position)
    }

    /// Whether the echo of the message at `place`, of `bytes` bytes as [`Self::echo_bytes`] counts
    /// them and masked with `mask`, has `received` from its byte `position` on.
    pub fn echoes(
        &self,
        (place, bytes, mask): (u32, u32, [u8; 4]),
        mut position: usize,
        mut received: &[u8],
    ) -> bool {
        if let Kind::Typed(text, echo) = &self.kind {
            let longer = text.message(0, 1).echo_bytes(*echo) - 1;
            return text.message(place, bytes - longer).echoes(*echo, position as u32, received);
        }
        while !received.is_empty() {
            let piece = self.piece(place, position, received.len());
            let (front, rest) = received.split_at(piece.len());
            if !ws::is_masked(front, piece, ws::rotate_mask(mask, position)) {
                return false;
            }
            (position, received) = (position + piece.len(), rest);
        }
        true
    }

    /// At most `len` bytes of the message that starts at `place`, from its byte `position` on;
    /// never empty for `len` > 0.
    #[inline]
    pub fn piece(&self, place: u32, position: usize, len: usize) -> &[u8] {
        let from = self.offset(place, position);
        let to = (from + len.min(Self::PIECE_MAX)).min(self.bytes.len());
        &self.bytes[from..to]
    }

    /// Writes the bytes of the message at `place`, of `bytes` bytes, from its byte `position` on.
    #[inline]
    pub fn write(&self, place: u32, bytes: u32, position: usize, out: &mut [u8]) {
        if let Kind::Typed(text, _) = &self.kind {
            return text.message(place, bytes).write_plain(position, out);
        }
        let mut written = 0;
        while written < out.len() {
            let piece = self.piece(place, position + written, out.len() - written);
            out[written..written + piece.len()].copy_from_slice(piece);
            written += piece.len();
        }
    }

    /// The pool itself and where `position` of the message at `place` lies in it: what is sent
    /// without a mask needs no copy.
    #[inline]
    pub fn shared(&self, place: u32, position: usize) -> (&Arc<[u8]>, usize) {
        (&self.bytes, self.offset(place, position))
    }

    #[inline]
    const fn offset(&self, place: u32, position: usize) -> usize {
        if self.is_fixed() { position % self.period } else { (place as usize + position) & (self.period - 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_long_message_follow_each_other_round_the_pool() {
        let payload = Payload::random(7);
        let (place, len) = (Payload::POOL_BYTES as u32 - 8, 200_000);
        let mut whole = Vec::new();
        while whole.len() < len {
            let piece = payload.piece(place, whole.len(), len - whole.len());
            assert!(!piece.is_empty() && piece.len() <= Payload::PIECE_MAX);
            whole.extend_from_slice(piece);
        }
        let byte = |position: usize| payload.bytes[(place as usize + position) % Payload::POOL_BYTES];
        assert!(whole.iter().enumerate().all(|(position, &b)| b == byte(position)));
    }

    #[test]
    fn text_is_valid_wherever_it_is_cut_and_the_seed_decides_the_bytes() {
        assert!(Payload::text(3).bytes.is_ascii());
        assert_eq!(Payload::random(5).bytes, Payload::random(5).bytes);
        assert_ne!(Payload::random(5).bytes, Payload::random(6).bytes);
    }

    #[test]
    fn a_copy_is_the_message_however_it_is_cut() {
        let typed = |form, echo| Payload::typed(7, form, Route::App, echo);
        let kinds = [
            Payload::random(7),
            Payload::fixed(b"hello"),
            typed(Form::Line, Echo::Raw),
            typed(Form::Comment, Echo::Cooked),
            typed(Form::CommentLine, Echo::Raw),
        ];
        for payload in kinds {
            for bytes in payload.message_bytes().map_or(vec![1, 2, 3000, 140_000], |bytes| vec![bytes]) {
                let place = payload.place(&mut Random::new(u64::from(bytes)));
                let mut whole = vec![0; bytes as usize];
                payload.write(place, bytes, 0, &mut whole);
                for cut in [0, bytes / 3, bytes - 1] {
                    let mut part = vec![0; (bytes - cut) as usize];
                    payload.write(place, bytes, cut as usize, &mut part);
                    assert_eq!(part, whole[cut as usize..], "{bytes} from {cut}");
                }
                let echo_bytes = payload.echo_bytes(bytes);
                if echo_bytes == bytes {
                    assert!(
                        payload.echoes((place, bytes, [0; 4]), 0, &whole),
                        "{bytes} B come back as they went"
                    );
                }
            }
        }
    }

    #[test]
    fn a_comment_line_is_nothing_to_a_shell_and_a_terminal_echoes_it_with_cr_lf() {
        let payload = Payload::typed(7, Form::CommentLine, Route::App, Echo::Cooked);
        for bytes in [1, 2, 100, 5000] {
            let mut line = vec![0; bytes as usize];
            payload.write(8, bytes, 0, &mut line);
            let (end, comment) = line.split_last().unwrap();
            assert_eq!((*end, comment.first().copied().unwrap_or(b'#')), (b'\n', b'#'));
            assert!(comment.iter().skip(1).all(u8::is_ascii_alphanumeric));
            let echo = [comment, b"\r\n"].concat();
            assert_eq!(payload.echo_bytes(bytes) as usize, echo.len());
            assert!(payload.echoes((8, payload.echo_bytes(bytes), [0; 4]), 0, &echo));
        }
    }

    #[test]
    fn a_fixed_message_is_the_file_from_its_first_byte() {
        let payload = Payload::fixed(b"hello");
        assert_eq!(payload.place(&mut Random::new(1)), 0);
        assert_eq!(payload.piece(0, 0, 5), b"hello");
        assert_eq!(payload.piece(0, 3, 2), b"lo");
    }
}
