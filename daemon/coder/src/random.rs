//! The one home of randomness: seeded for back-off, the system's for what nobody shall guess.

use std::time::Duration;

/// Seeded numbers (splitmix64) for jitter. Not for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Any seed is good.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// A length of time from nothing up to `most`, to the microsecond.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(((u128::from(self.next()) * (u128::from(most) + 1)) >> 64) as u64)
    }
}

/// `length` random characters out of `a-z` and `0-9`: names that no two runs share.
pub fn word(length: usize) -> String {
    from_alphabet(b"abcdefghijklmnopqrstuvwxyz0123456789", length)
}

/// A password: 32 characters with each kind that servers may ask for, over 160 bits.
pub fn password() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    format!("{}-aA1", from_alphabet(LETTERS, 28))
}

/// A UUID (version 4): the session of a web terminal.
pub fn uuid() -> String {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the system has random bytes from early boot on");
    let number = u128::from_be_bytes(bytes) & !(0xF << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
    let digits = format!("{number:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

fn from_alphabet(alphabet: &[u8], length: usize) -> String {
    // Bytes at or above this would make the first symbols likelier.
    let fair = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(length);
    let mut bytes = [0u8; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes).expect("the system has random bytes from early boot on");
        let symbols = bytes.iter().map(|&byte| usize::from(byte)).filter(|&byte| byte < fair);
        text.extend(symbols.map(|byte| alphabet[byte % alphabet.len()] as char).take(length - text.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_have_every_kind_and_never_repeat() {
        let (one, other) = (password(), password());
        assert_ne!(one, other);
        for kind in [char::is_lowercase, char::is_uppercase, |c: char| c.is_ascii_digit(), |c| c == '-'] {
            assert!(one.contains(kind), "a kind is missing");
        }
        assert_eq!(one.len(), 32);
        assert_eq!(word(8).len(), 8);
    }

    #[test]
    fn a_uuid_is_of_version_4_and_of_the_usual_variant() {
        for uuid in (0..100).map(|_| uuid()) {
            let parts: Vec<_> = uuid.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{uuid}");
            assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{uuid}");
        }
        assert_ne!(uuid(), uuid());
    }

    #[test]
    fn jitter_is_repeatable_and_within_its_bound() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| random.up_to(Duration::from_millis(250))).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let spread = draw(7);
        assert!(spread.iter().all(|wait| *wait <= Duration::from_millis(250)));
        assert!(spread.iter().any(|wait| *wait < Duration::from_millis(25)));
        assert!(spread.iter().any(|wait| *wait > Duration::from_millis(225)));
    }
}
