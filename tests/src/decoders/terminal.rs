//! The decoder of what is typed into a web terminal: it means the same however it is cut, and is
//! what serde's parser finds in it.

use std::fmt;

use scale_proto::coder::{DATA_BYTES_MAX, Decoder, Malformed, Size};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::pieces;

/// What a decoder made of its input.
#[derive(Debug, PartialEq)]
struct Seen {
    said: Vec<(String, Option<Size>)>,
    malformed: Option<Malformed>,
    between: bool,
}

fn read(bytes: &[u8], cuts: &[u8]) -> Seen {
    let (mut decoder, mut said) = (Decoder::new(), Vec::new());
    for mut piece in pieces(bytes, cuts) {
        loop {
            match decoder.receive(&mut piece) {
                Ok(Some(one)) => {
                    // A byte that is no character becomes three.
                    assert!(one.typed.len() <= 3 * DATA_BYTES_MAX, "a text has its limit");
                    said.push((one.typed.to_owned(), one.resize));
                }
                Ok(None) => break,
                Err(malformed) => {
                    assert_eq!(decoder.receive(&mut &b"{}"[..]), Err(malformed), "it is over");
                    return Seen { said, malformed: Some(malformed), between: false };
                }
            }
        }
        assert!(piece.is_empty(), "all of an input is used up");
    }
    Seen { said, malformed: None, between: decoder.is_between() }
}

/// An object's fields as they are written, the same one twice where it is there twice.
enum Outermost {
    Fields(Vec<(String, Value)>),
    Null,
    Other,
}

impl<'de> Deserialize<'de> for Outermost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Outermost;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Outermost, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Outermost::Fields(fields))
            }
            fn visit_unit<E>(self) -> Result<Outermost, E> {
                Ok(Outermost::Null)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Outermost, E> {
                Ok(Outermost::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Outermost, E> {
                Ok(Outermost::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Outermost, E> {
                Ok(Outermost::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Outermost, E> {
                Ok(Outermost::Other)
            }
            fn visit_str<E>(self, _: &str) -> Result<Outermost, E> {
                Ok(Outermost::Other)
            }
        }
        deserializer.deserialize_any(Fields)
    }
}

/// What an object says; `None`: a value is not of its field's type.
fn said(fields: Vec<(String, Value)>) -> Option<(String, Option<Size>)> {
    let (mut typed, mut height, mut width) = (String::new(), 0, 0);
    for (name, value) in fields {
        let side = || u16::try_from(value.as_u64()?).ok();
        match (name.to_ascii_lowercase().as_str(), &value) {
            (_, Value::Null) => {}
            ("data", _) => typed = value.as_str()?.to_owned(),
            ("height", _) => height = side()?,
            ("width", _) => width = side()?,
            _ => {}
        }
    }
    let size = Size { width, height };
    Some((typed, (width > 0 && height > 0).then_some(size)))
}

/// Any bytes, cut as `cuts` says.
///
/// # Panics
/// The decoder does not hold to its rules.
pub fn check(cuts: &[u8], bytes: &[u8]) {
    let seen = read(bytes, &[]);
    assert_eq!(seen, read(bytes, cuts), "cut as {cuts:?}");
    assert_eq!(seen, read(bytes, &[0]), "byte by byte");
    compare(seen, bytes);
}

/// With serde's parser, as far as both mean to read the same.
fn compare(seen: Seen, bytes: &[u8]) {
    // Go's rules for what is no character are not serde's: it refuses.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if ["\\ud", "\\uD"].iter().any(|half| text.contains(half)) {
        return;
    }
    let beyond_limits = matches!(seen.malformed, Some(Malformed::TooDeep | Malformed::TooLong));
    let mut ours = seen.said.into_iter();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Outermost>() {
        match value {
            Ok(Outermost::Null) => {}
            Ok(Outermost::Fields(fields)) => match (ours.next(), said(fields)) {
                (Some(ours), Some(theirs)) => assert_eq!(ours, theirs, "in {text:?}"),
                (None, None) => return assert!(seen.malformed.is_some(), "a wrong type in {text:?}"),
                (None, Some(_)) => return assert!(beyond_limits, "an object was not seen in {text:?}"),
                (Some(ours), None) => panic!("{ours:?} is of a wrong type in {text:?}"),
            },
            Ok(Outermost::Other) => return assert!(seen.malformed.is_some(), "no object in {text:?}"),
            Err(error) if error.is_eof() => {
                assert_eq!(ours.next(), None, "behind the end of {text:?}");
                return assert!(seen.malformed.is_some() || !seen.between, "{text:?} ends within a value");
            }
            // Behind `null` it wants a blank, and neither of us needs one there.
            Err(error) if error.to_string().contains("trailing characters") => return,
            // A limit of its own.
            Err(error) if error.to_string().contains("number out of range") => return,
            Err(error) if error.to_string().contains("recursion limit") => return assert!(beyond_limits),
            Err(error) => {
                assert_eq!(ours.next(), None, "behind an error in {text:?}");
                return assert!(seen.malformed.is_some(), "{text:?}: {error}");
            }
        }
    }
    assert_eq!((ours.next(), seen.malformed), (None, None), "behind the last of {text:?}");
    assert!(seen.between, "{text:?} is complete");
}
