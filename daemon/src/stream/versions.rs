//! Which versions of a group's servers were met, when, and which a lost stream had before and after.
//!
//! A stream keeps a number of one byte; the names are here once. There is room for
//! [`Versions::MAX`]; whatever comes beyond is one more, called `other`.

use std::sync::Arc;

use scale_ring::Time;

/// One version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// As the server says it.
    pub name: Arc<str>,
    /// When a stream first opened on it, and when last.
    pub first: Time,
    /// See `first`.
    pub last: Time,
    /// Streams opened on it, first or again.
    pub opened: u64,
}

/// Reconnects from one version to another, or the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Its number before; [`Versions::NONE`]: the server named none.
    pub before: u8,
    /// Its number after.
    pub after: u8,
    /// How many.
    pub reconnects: u64,
}

/// The versions that one group has met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    met: Vec<Met>,
    changes: Vec<Change>,
}

impl Versions {
    /// Versions with a name of their own.
    pub const MAX: usize = 64;
    /// The number of no version: the server names none.
    pub const NONE: u8 = u8::MAX;

    /// A stream has opened on `name`; its number.
    pub fn meet(&mut self, name: Option<&str>, now: Time) -> u8 {
        let Some(name) = name else { return Self::NONE };
        let known = self.met.iter().take(Self::MAX).position(|met| *met.name == *name);
        let number = known.unwrap_or(self.met.len().min(Self::MAX));
        if number == self.met.len() {
            let name = if number == Self::MAX { "other" } else { name };
            self.met.push(Met { name: name.into(), first: now, last: now, opened: 0 });
        }
        let met = &mut self.met[number];
        (met.last, met.opened) = (now, met.opened + 1);
        number as u8
    }

    /// A lost stream is open again.
    pub fn change(&mut self, before: u8, after: u8) {
        if (before, after) == (Self::NONE, Self::NONE) {
            return;
        }
        let known = self.changes.iter_mut().find(|one| (one.before, one.after) == (before, after));
        match known {
            Some(change) => change.reconnects += 1,
            None => self.changes.push(Change { before, after, reconnects: 1 }),
        }
    }

    /// Every version, in the order in which they were first met.
    pub fn met(&self) -> &[Met] {
        &self.met
    }

    /// Every pair, with names; `None`: the server named none.
    pub fn changes(&self) -> impl Iterator<Item = (Option<&Arc<str>>, Option<&Arc<str>>, u64)> {
        let name = |number: u8| self.met.get(usize::from(number)).map(|met| &met.name);
        self.changes.iter().map(move |one| (name(one.before), name(one.after), one.reconnects))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbered_as_they_come_and_their_number_has_a_limit() {
        let mut versions = Versions::default();
        for round in 0..2u64 {
            for n in 0..100u64 {
                let number = versions.meet(Some(&format!("v{n}")), Time::from_ns(100 * round + n));
                assert_eq!(usize::from(number), (n as usize).min(Versions::MAX));
            }
        }
        assert_eq!(versions.met().len(), Versions::MAX + 1);
        let (first, other) = (&versions.met()[0], &versions.met()[Versions::MAX]);
        assert_eq!((&*first.name, first.first.ns(), first.last.ns(), first.opened), ("v0", 0, 100, 2));
        assert_eq!((&*other.name, other.opened), ("other", 72));
    }

    #[test]
    fn a_change_is_counted_unless_no_version_was_ever_named() {
        let mut versions = Versions::default();
        let old = versions.meet(Some("v1"), Time::ZERO);
        let (new, none) = (versions.meet(Some("v2"), Time::ZERO), versions.meet(None, Time::ZERO));
        for (before, after) in [(old, new), (old, new), (new, new), (new, none), (none, none)] {
            versions.change(before, after);
        }
        let changes: Vec<_> =
            versions.changes().map(|(b, a, n)| (b.map(|b| &**b), a.map(|a| &**a), n)).collect();
        assert_eq!(
            changes,
            [(Some("v1"), Some("v2"), 2), (Some("v2"), Some("v2"), 1), (Some("v2"), None, 1)]
        );
    }
}
