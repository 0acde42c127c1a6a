//! Hosts that are believed at first sight.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::PublicKey;
use super::known_hosts::{keyscan, name};

/// Hosts that are believed at first sight in one run.
const ACCEPTED_MAX: usize = 65_536;

/// Keys that were believed at first sight, by the name that would be in a `known_hosts` file.
#[derive(Debug, Default)]
pub(super) struct Accepted(Mutex<BTreeMap<Arc<str>, PublicKey>>);

impl Accepted {
    fn with<T>(&self, read: impl FnOnce(&mut BTreeMap<Arc<str>, PublicKey>) -> T) -> T {
        // A map is whole between two calls, whoever panicked.
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the key of a host that no file knows, or holds the host to the one that it has shown.
    pub fn judge(&self, host: &str, port: u16, key: &PublicKey) -> Result<(), String> {
        let name = name(host, port);
        self.with(|accepted| match accepted.get(name.as_str()) {
            Some(first) if first == key => Ok(()),
            Some(first) => Err(format!(
                "{name} showed the {} key {} first in this run and shows the {} key {} now: somebody may be in \
                 between; where several servers stand behind the name, collect all their keys by `{}` and give \
                 them with --known-hosts",
                first.type_name(),
                first.fingerprint(),
                key.type_name(),
                key.fingerprint(),
                keyscan(host, port),
            )),
            None if accepted.len() >= ACCEPTED_MAX => Err(format!(
                "{name} would be one more than the {ACCEPTED_MAX} hosts that are believed at first sight: give \
                 their keys with --known-hosts"
            )),
            None => {
                accepted.insert(name.into(), key.clone());
                Ok(())
            }
        })
    }

    /// The type of the key that a host, by its name, was believed by.
    pub fn key_type(&self, name: &str) -> Option<&'static str> {
        self.with(|accepted| accepted.get(name).map(PublicKey::type_name))
    }

    /// Names and fingerprints.
    pub fn list(&self) -> Vec<(Arc<str>, String)> {
        self.with(|accepted| {
            accepted.iter().map(|(name, key)| (Arc::clone(name), key.fingerprint())).collect()
        })
    }
}
