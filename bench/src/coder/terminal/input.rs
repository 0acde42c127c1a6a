//! What a terminal's client sends: a stream of JSON values, however it is cut into messages.

use serde::Deserialize;

use super::Size;

/// One value: what was typed, the window's new size, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Input {
    /// What was typed.
    pub data: Option<String>,
    /// Rows.
    pub height: Option<u16>,
    /// Columns.
    pub width: Option<u16>,
}

impl Input {
    /// The new size; only where both sides are given and not 0.
    pub fn size(&self) -> Option<Size> {
        let (height, width) = (self.height?, self.width?);
        (height > 0 && width > 0).then_some(Size { height, width })
    }
}

/// Takes the stream apart.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The begin of a value whose end has not come.
    pending: Vec<u8>,
}

impl Decoder {
    /// The longest value that is waited for.
    pub const VALUE_BYTES_MAX: usize = 32 << 20;

    /// Appends the values that are complete by now.
    ///
    /// # Errors
    /// What does not fit; the session with this client is over.
    pub fn push(&mut self, bytes: &[u8], into: &mut Vec<Input>) -> Result<(), String> {
        if self.pending.is_empty() {
            let used = Self::decode(bytes, into)?;
            self.pending.extend_from_slice(&bytes[used..]);
        } else {
            self.pending.extend_from_slice(bytes);
            let used = Self::decode(&self.pending, into)?;
            self.pending.drain(..used);
        }
        if self.pending.len() > Self::VALUE_BYTES_MAX {
            return Err("a value is longer than 32 MiB".to_owned());
        }
        Ok(())
    }

    /// Bytes of whole values, and of the white space behind them.
    fn decode(bytes: &[u8], into: &mut Vec<Input>) -> Result<usize, String> {
        let mut used = 0;
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Option<Input>>();
        loop {
            match values.next() {
                // A list would pass for an object with its fields in order; Go takes none.
                Some(Ok(_)) if bytes[used..].trim_ascii_start().starts_with(b"[") => {
                    return Err("a list where an object belongs".to_owned());
                }
                Some(Ok(value)) => {
                    into.push(value.unwrap_or_default()); // null changes nothing
                    used = values.byte_offset();
                }
                Some(Err(error)) if error.is_eof() => break,
                Some(Err(error)) => return Err(error.to_string()),
                None => break,
            }
        }
        let white = bytes[used..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        Ok(used + white)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(parts: &[&[u8]]) -> Result<Vec<Input>, String> {
        let (mut decoder, mut values) = (Decoder::default(), Vec::new());
        for part in parts {
            decoder.push(part, &mut values)?;
        }
        Ok(values)
    }

    fn typed(text: &str) -> Input {
        Input { data: Some(text.to_owned()), ..Input::default() }
    }

    #[test]
    fn values_may_share_a_message_or_be_cut_by_one() {
        let expected = vec![typed("ab"), typed("c\u{3}")];
        let text = b"{\"data\":\"ab\"}\n{\"data\":\"c\\u0003\"}\n";
        assert_eq!(decode(&[text]).as_ref(), Ok(&expected));
        for cut in 0..text.len() {
            assert_eq!(decode(&[&text[..cut], &text[cut..]]).as_ref(), Ok(&expected), "cut at {cut}");
        }
    }

    #[test]
    fn gos_escapes_are_read() {
        let text = br#"{"data":"a\"\\\u003c\t\n"}"#;
        assert_eq!(decode(&[text]), Ok(vec![typed("a\"\\<\t\n")]));
    }

    #[test]
    fn a_size_needs_both_sides() {
        let size = |text: &str| decode(&[text.as_bytes()]).expect("JSON")[0].size();
        assert_eq!(size(r#"{"height":40,"width":120}"#), Some(Size { height: 40, width: 120 }));
        for text in [r#"{"height":40}"#, r#"{"height":40,"width":0}"#, r#"{"data":"x"}"#, "null", "{}"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_such_json_is_an_error() {
        for text in ["x", "[]", r#"{"data":1}"#, r#"{"height":70000,"width":1}"#, r#"{"data":"a"}}"#] {
            assert!(decode(&[text.as_bytes()]).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in 0usize..64) {
            let cut = cut.min(bytes.len());
            let _ = decode(&[&bytes[..cut], &bytes[cut..]]);
        }
    }
}
