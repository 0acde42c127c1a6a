//! Files that a run names. The daemon opens none of them: `scalectl` reads them with the caller's own
//! rights and hands their contents over.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::private::{Content, wipe};

/// A file of the user's: a path in the run file, and what is in it once it is read.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it, once read.
    pub content: Option<Content>,
    /// Of a path with a `{column}` of --rows in it: what is in each file that the rows name, by its
    /// path as the row fills it in.
    pub by_row: BTreeMap<String, Content>,
}

impl File {
    /// A file that has not been read.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), content: None, by_row: BTreeMap::new() }
    }

    /// A file, read.
    pub fn read(path: impl Into<PathBuf>, content: impl Into<Content>) -> Self {
        Self { content: Some(content.into()), ..Self::new(path) }
    }

    /// Whether each row names a file of its own.
    pub fn is_by_row(&self) -> bool {
        self.path.to_str().is_some_and(|path| places(path).next().is_some())
    }

    /// Forgets what is in it.
    pub(super) fn redact(&mut self) {
        (self.content, self.by_row) = (None, BTreeMap::new());
    }
}

impl fmt::Debug for File {
    /// Without its content, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The words between braces in `text`.
pub fn places(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

/// `text` with each `{name}` replaced by what `value` has for it; what it has nothing for stays. One
/// pass: what a value says is never read as a place again.
///
/// # Errors
/// Those of `value`.
pub fn fill<E>(text: &str, mut value: impl FnMut(&str) -> Result<Option<String>, E>) -> Result<String, E> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, behind) = rest.split_at(at);
        filled += before;
        let named = behind[1..].split_once('}');
        match named.map(|(name, rest)| Ok((value(name)?, rest))).transpose()? {
            Some((Some(value), behind)) => {
                filled += &value;
                rest = behind;
            }
            _ => {
                filled.push('{');
                rest = &behind[1..];
            }
        }
    }
    Ok(filled + rest)
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Path(PathBuf),
    Read { path: PathBuf, hex: Hex },
    ByRow { path: PathBuf, rows: BTreeMap<String, Hex> },
}

/// As it travels; wiped when it is dropped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Hex(String);

impl Drop for Hex {
    fn drop(&mut self) {
        wipe(&mut std::mem::take(&mut self.0).into_bytes());
    }
}

fn to_hex(content: &[u8]) -> Hex {
    use std::fmt::Write;
    let mut hex = String::with_capacity(content.len() * 2);
    for byte in content {
        let _ = write!(hex, "{byte:02x}");
    }
    Hex(hex)
}

fn of_hex<E: serde::de::Error>(Hex(hex): &Hex) -> Result<Vec<u8>, E> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = hex.as_bytes().chunks(2);
    let content: Option<Vec<u8>> =
        pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect();
    content.ok_or_else(|| E::custom("not hex"))
}

impl Serialize for File {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let path = self.path.clone();
        match &self.content {
            Some(content) => Form::Read { path, hex: to_hex(content) },
            None if self.by_row.is_empty() => Form::Path(path),
            None => {
                let row = |(path, content): (&String, &Content)| (path.clone(), to_hex(content));
                Form::ByRow { path, rows: self.by_row.iter().map(row).collect() }
            }
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Path(path) => Self::new(path),
            Form::Read { path, hex } => Self::read(path, of_hex::<D::Error>(&hex)?),
            Form::ByRow { path, rows } => {
                let row = |(path, hex): (String, Hex)| Ok((path, of_hex::<D::Error>(&hex)?.into()));
                Self { by_row: rows.into_iter().map(row).collect::<Result<_, _>>()?, ..Self::new(path) }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_travels_unread_read_and_by_row_and_is_never_printed() {
        let by_row = [("keys/ann".to_owned(), (*b"canary").into())].into();
        let by_row = File { by_row, ..File::new("keys/{user}") };
        for file in [File::new("a"), File::read("a", *b"canary\xFF"), by_row.clone()] {
            let json = serde_json::to_string(&file).unwrap();
            assert_eq!(serde_json::from_str::<File>(&json).unwrap(), file);
            assert!(!format!("{file:?}").contains("canary"));
        }
        assert!(by_row.is_by_row() && !File::new("a").is_by_row());
        assert!(serde_json::from_str::<File>(r#"{"path": "a", "hex": "abc"}"#).is_err());
    }

    #[test]
    fn places_are_filled_in_one_pass_and_what_is_none_stays() {
        let value = |name: &str| Ok::<_, ()>((name == "user").then(|| "{user}".to_owned()));
        assert_eq!(fill("a/{user}/{x}/{", value).unwrap(), "a/{user}/{x}/{");
        assert_eq!(fill("{user}{user}", value).unwrap(), "{user}{user}");
        assert_eq!(places("{a}{b}/{").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(fill("{a", |_| Err::<Option<String>, _>(())), Ok("{a".to_owned()));
        assert_eq!(fill("{a}", |_| Err::<Option<String>, _>(())), Err(()));
    }
}
