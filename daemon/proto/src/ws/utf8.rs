//! UTF-8 in pieces: fails at the first byte that cannot be right.

/// Validates text that comes in pieces, code points cut anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Utf8 {
    carry: [u8; 4],
    carried: u8,
}

impl Utf8 {
    /// Whether the text is still valid with `bytes` behind it.
    pub fn push(&mut self, mut bytes: &[u8]) -> bool {
        // Complete a code point that was cut, a byte at a time.
        while self.carried > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return true };
            bytes = rest;
            self.carry[usize::from(self.carried)] = byte;
            self.carried += 1;
            match std::str::from_utf8(&self.carry[..usize::from(self.carried)]) {
                Ok(_) => self.carried = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                let cut = &bytes[error.valid_up_to()..];
                self.carry[..cut.len()].copy_from_slice(cut);
                self.carried = cut.len() as u8;
                true
            }
        }
    }

    /// Whether the text may end here.
    pub const fn is_complete(&self) -> bool {
        self.carried == 0
    }
}
