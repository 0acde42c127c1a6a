//! The first line that each side says (RFC 4253 §4.2), and what a server may say before it.

use super::super::{GREETING_BYTES_MAX, IDENTIFICATION_BYTES_MAX};
use crate::Fault;

/// This side's, without its end.
pub(super) const OURS: &str = concat!("SSH-2.0-scaled_", env!("CARGO_PKG_VERSION"));

const PREFIX: &[u8] = b"SSH-";
/// 1.99 is a server that speaks 1, too (RFC 4253 §5.1).
const VERSIONS: [&str; 2] = ["SSH-2.0-", "SSH-1.99-"];

/// What came before the peer's identification. It is dropped as it comes.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    bytes: usize,
    /// A line was dropped in part.
    within_line: bool,
}

impl Greeting {
    /// Reads lines from the front of `input`: how many bytes are done with, and the identification
    /// without its end. Only a server may greet.
    pub(super) fn read<'a>(
        &mut self,
        input: &'a [u8],
        may_greet: bool,
    ) -> Result<(usize, Option<&'a str>), Fault> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            if rest.is_empty() {
                return Ok((consumed, None));
            }
            let known = rest.len().min(PREFIX.len());
            if !self.within_line && rest[..known] == PREFIX[..known] {
                let Some((bytes, line)) = identification(rest)? else { return Ok((consumed, None)) };
                return Ok((consumed + bytes, Some(line)));
            }
            if !may_greet {
                return Err(Fault::SshProtocol("the client does not begin with its identification"));
            }
            let end = rest.iter().position(|&byte| byte == b'\n');
            let dropped = end.map_or(rest.len(), |end| end + 1);
            if rest[..dropped].contains(&0) {
                return Err(Fault::SshProtocol("what the server says before its identification is no text"));
            }
            self.within_line = end.is_none();
            self.bytes += dropped;
            consumed += dropped;
            if self.bytes > GREETING_BYTES_MAX {
                return Err(Fault::SshProtocol("the server says too much before its identification"));
            }
        }
    }
}

/// The line at the front of `rest`, where its end is there.
fn identification(rest: &[u8]) -> Result<Option<(usize, &str)>, Fault> {
    let seen = &rest[..rest.len().min(IDENTIFICATION_BYTES_MAX)];
    let Some(end) = seen.iter().position(|&byte| byte == b'\n') else {
        if seen.len() == IDENTIFICATION_BYTES_MAX {
            return Err(Fault::SshProtocol("the identification is longer than a line may be"));
        }
        return Ok(None);
    };
    let line = seen[..end].strip_suffix(b"\r").unwrap_or(&seen[..end]);
    let line = std::str::from_utf8(line)
        .ok()
        .filter(|line| !line.contains(|letter: char| letter.is_control()))
        .ok_or(Fault::SshProtocol("the identification is not a line of text"))?;
    if !VERSIONS.iter().any(|version| line.starts_with(version)) {
        return Err(Fault::SshProtocol("the peer does not speak version 2"));
    }
    Ok(Some((end + 1, line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows `bytes` in pieces, keeping what is not taken.
    fn read(bytes: &[u8], piece: usize, may_greet: bool) -> Result<(usize, Option<String>), Fault> {
        let (mut greeting, mut taken) = (Greeting::default(), 0);
        for shown in (piece..bytes.len() + piece).step_by(piece) {
            let (consumed, line) = greeting.read(&bytes[taken..shown.min(bytes.len())], may_greet)?;
            taken += consumed;
            if let Some(line) = line {
                return Ok((taken, Some(line.to_owned())));
            }
        }
        Ok((taken, None))
    }

    #[test]
    fn an_identification_is_found_behind_a_greeting_however_it_is_cut() {
        let greeting = b"Welcome\r\nSS\nSSHx-2\n\n  SSH-2.0-no\r\nSSH-2.0-Server_1 and more\r\nrest";
        let long = [b"x".repeat(5000), b"\nSSH-1.99-old\nrest".to_vec()].concat();
        for piece in [1, 2, 3, 7, 1000] {
            let expected = (greeting.len() - 4, Some("SSH-2.0-Server_1 and more".to_owned()));
            assert_eq!(read(greeting, piece, true), Ok(expected));
            assert_eq!(read(&long, piece, true), Ok((long.len() - 4, Some("SSH-1.99-old".to_owned()))));
            assert!(read(greeting, piece, false).is_err());
        }
    }

    #[test]
    fn limits_and_other_versions_are_faults() {
        let endless = vec![b'x'; GREETING_BYTES_MAX + 1];
        let lines = b"a line\r\n".repeat(GREETING_BYTES_MAX / 8 + 1);
        let longest =
            [b"SSH-2.0-".to_vec(), vec![b'x'; IDENTIFICATION_BYTES_MAX - 10], b"\r\n".to_vec()].concat();
        assert_eq!(longest.len(), IDENTIFICATION_BYTES_MAX);
        let too_long = [&longest[..IDENTIFICATION_BYTES_MAX - 2], b"x\r\n"].concat();
        for piece in [1, 4096] {
            for wrong in [
                &endless[..],
                &lines,
                &too_long,
                b"SSH-1.5-old\r\n",
                b"SSH-2.0\r\n",
                b"SSH-2.0-\xff\r\n",
                b"SSH-2.0-a\0b\r\n",
                b"SSH-2.0-a\rb\n",
                b"\xff\xfe\n\x01\x00\x02 is no greeting",
            ] {
                assert!(read(wrong, piece, true).is_err(), "{:?}", &wrong[..10.min(wrong.len())]);
            }
            assert_eq!(
                read(&longest, piece, true).map(|(bytes, line)| (bytes, line.is_some())),
                Ok((255, true))
            );
        }
    }
}
