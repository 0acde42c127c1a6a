//! `known_hosts` files (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): which keys are whose.
//!
//! Lines with plain names are found by name; those with patterns and hashed names are tried one by one,
//! once for each host: what was found is kept.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::KeyError;
use super::accepted::Accepted;
use super::public::{ECDSA_P256_NAME, ED25519_NAME, RSA_NAME, blob_type, fingerprint, shown};

/// Bytes of a file.
pub const KNOWN_HOSTS_BYTES_MAX: usize = 64 << 20;
/// Lines with a hashed name: each costs half a microsecond for each host, when it is looked up first.
pub const HASHED_LINES_MAX: usize = 16_384;
/// Hosts for which it is kept what was found.
const LOOKUPS_MAX: usize = 65_536;

const SSH_PORT: u16 = 22;

/// What a `known_hosts` file says, and what was accepted since.
#[derive(Default)]
pub struct KnownHosts {
    lines: Vec<Line>,
    /// Lines by a name as it stands in the file, in lower case.
    plain: HashMap<Box<str>, Vec<usize>>,
    /// Lines that have to be tried.
    others: Vec<(usize, Names)>,
    lookups: Mutex<HashMap<Box<str>, Arc<[usize]>>>,
    pub(super) accepted: Accepted,
}

impl fmt::Debug for KnownHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnownHosts({} lines)", self.lines.len())
    }
}

/// What a line says of those that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is their key.
    Key,
    /// `@cert-authority`: it signs their certificates.
    Authority,
    /// `@revoked`: it is nobody's any more.
    Revoked,
}

/// A line, its names left out.
#[derive(Debug)]
pub(super) struct Line {
    /// Counted from 1.
    pub number: usize,
    pub meaning: Meaning,
    pub blob: Box<[u8]>,
}

impl Line {
    pub fn key_type(&self) -> &str {
        blob_type(&self.blob).unwrap_or_default()
    }

    pub fn fingerprint(&self) -> String {
        fingerprint(&self.blob)
    }
}

/// Whom a line names, where it is not by plain names.
enum Names {
    /// `|1|salt|hash`.
    Hashed { salt: Box<[u8]>, hash: Box<[u8]> },
    /// In lower case; `true` for those that were behind a `!`.
    Patterns(Vec<(bool, Box<str>)>),
}

impl Names {
    fn include(&self, name: &str) -> bool {
        match self {
            Self::Hashed { salt, hash } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::verify(&key, name.as_bytes(), hash).is_ok()
            }
            Self::Patterns(patterns) => {
                let mut matching = patterns.iter().filter(|(_, pattern)| is_like(name, pattern)).peekable();
                matching.peek().is_some() && matching.all(|(is_negated, _)| !is_negated)
            }
        }
    }
}

/// As a host stands in a file: `host`, or `[host]:port` where the port is not 22.
pub(super) fn name(host: &str, port: u16) -> String {
    let host = bare(host);
    if port == SSH_PORT { host } else { format!("[{host}]:{port}") }
}

/// The host in lower case; an IPv6 address without brackets.
pub(super) fn bare(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(bare) => bare.to_owned(),
        None => host,
    }
}

/// What prints a host's keys as lines of such a file.
pub(super) fn keyscan(host: &str, port: u16) -> String {
    format!("ssh-keyscan -p {port} {}", bare(host))
}

/// Whether `text` is what `pattern` says: `*` is any characters, `?` is one. Takes at most as many steps as
/// both lengths multiplied.
pub(super) fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut t, mut p) = (0, 0);
    // Behind the last `*`, and where in the text it ended.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                star = Some((p, t));
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                (t, p) = (t + 1, p + 1);
            }
            _ => {
                let Some((behind, end)) = star else { return false };
                star = Some((behind, end + 1));
                (t, p) = (end + 1, behind);
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

impl KnownHosts {
    /// Reads a file: plain and hashed names, patterns, ports, `@cert-authority`, `@revoked`. Keys of kinds
    /// that are not known here are kept, too: a host that has one is not new.
    ///
    /// # Errors
    /// The line, and what is wrong with it.
    pub fn parse(file: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let file = file.as_ref();
        if file.len() > KNOWN_HOSTS_BYTES_MAX {
            return Err(KeyError::malformed(format!(
                "the known_hosts file has {} bytes, and at most {KNOWN_HOSTS_BYTES_MAX} are read: give one with the \
                 hosts of this run",
                file.len()
            )));
        }
        let mut known = Self::default();
        for (number, line) in (1..).zip(file.split(|&byte| byte == b'\n')) {
            // Comments may be in any encoding.
            known.take(number, String::from_utf8_lossy(line).trim()).map_err(|why| {
                KeyError::malformed(format!("line {number} of the known_hosts file: {why}"))
            })?;
        }
        let hashed = known.others.iter().filter(|(_, names)| matches!(names, Names::Hashed { .. })).count();
        if hashed > HASHED_LINES_MAX {
            return Err(KeyError::malformed(format!(
                "the known_hosts file has {hashed} lines with hashed names, and at most {HASHED_LINES_MAX} are \
                 read: give one with the hosts of this run, or with plain names as ssh-keyscan writes them"
            )));
        }
        Ok(known)
    }

    fn take(&mut self, number: usize, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let mut words = line.split_ascii_whitespace().peekable();
        let meaning = match words.next_if(|word| word.starts_with('@')) {
            None => Meaning::Key,
            Some("@cert-authority") => Meaning::Authority,
            Some("@revoked") => Meaning::Revoked,
            Some(other) => {
                return Err(format!("{} is none of @cert-authority and @revoked: correct it", shown(other)));
            }
        };
        let (Some(names), Some(key_type), Some(base64)) = (words.next(), words.next(), words.next()) else {
            return Err("names, a key's type and the key are wanted, as ssh-keyscan prints them".to_owned());
        };
        let is_known = [ED25519_NAME, ECDSA_P256_NAME, RSA_NAME].contains(&key_type);
        let blob = match STANDARD.decode(base64) {
            Ok(blob) if blob_type(&blob).ok() == Some(key_type) => blob,
            // SSH 1, or what somebody will invent.
            _ if !is_known => return Ok(()),
            Ok(_) => {
                return Err(format!(
                    "the key is not of the type {key_type}: take the line from ssh-keyscan again"
                ));
            }
            Err(_) => {
                return Err(
                    "the key is damaged, it is no base64: take the line from ssh-keyscan again".to_owned()
                );
            }
        };
        let index = self.lines.len();
        if let Some(hashed) = names.strip_prefix('|') {
            let names = hashed_name(hashed).ok_or(
                "the hashed name is not as `ssh-keygen -H` writes it: take the line from there again",
            )?;
            self.others.push((index, names));
        } else if names.contains(['*', '?', '!']) {
            let patterns = names.split(',').map(|pattern| {
                let bare = pattern.strip_prefix('!');
                (bare.is_some(), bare.unwrap_or(pattern).to_ascii_lowercase().into())
            });
            self.others.push((index, Names::Patterns(patterns.collect())));
        } else {
            for name in names.split(',') {
                self.plain.entry(name.to_ascii_lowercase().into()).or_default().push(index);
            }
        }
        self.lines.push(Line { number, meaning, blob: blob.into() });
        Ok(())
    }

    /// The lines that name `name`, which is in lower case, in the file's order.
    pub(super) fn about(&self, name: &str) -> impl Iterator<Item = &Line> + Clone {
        let found = self.find(name);
        (0..found.len()).map(move |at| &self.lines[found[at]])
    }

    fn find(&self, name: &str) -> Arc<[usize]> {
        let plain = self.plain.get(name).map_or(&[][..], Vec::as_slice);
        if self.others.is_empty() {
            return plain.into();
        }
        let lock = || self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(name) {
            return Arc::clone(found);
        }
        let others = self.others.iter().filter(|(_, names)| names.include(name)).map(|(index, _)| *index);
        let mut found: Vec<_> = plain.iter().copied().chain(others).collect();
        found.sort_unstable();
        let found: Arc<[usize]> = found.into();
        let mut lookups = lock();
        if lookups.len() < LOOKUPS_MAX {
            lookups.insert(name.into(), Arc::clone(&found));
        }
        found
    }
}

/// `1|salt|hash`, in base64, HMAC-SHA1's key and value.
fn hashed_name(text: &str) -> Option<Names> {
    const SHA1_BYTES: usize = 20;
    let (salt, hash) = text.strip_prefix("1|")?.split_once('|')?;
    let decode = |base64| STANDARD.decode(base64).ok().filter(|bytes| bytes.len() == SHA1_BYTES);
    Some(Names::Hashed { salt: decode(salt)?.into(), hash: decode(hash)?.into() })
}
