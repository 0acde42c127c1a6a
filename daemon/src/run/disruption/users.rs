//! Whose streams are whose.

use std::collections::BTreeMap;

/// The user of each stream, as far as that is known.
#[derive(Debug, Clone, Default)]
pub struct Users {
    /// By group: stream `n` is its `n mod` length'th user's; empty: nobody's.
    by_group: Vec<Vec<u32>>,
    count: usize,
}

impl Users {
    /// From names by group: stream `n` of a group belongs to its name `n mod` their number. One name is one user,
    /// whatever the group.
    pub fn new<'a>(groups: impl IntoIterator<Item = Vec<&'a str>>) -> Self {
        let mut known: BTreeMap<&str, u32> = BTreeMap::new();
        let mut by_group = Vec::new();
        for names in groups {
            let number = |name| {
                let next = known.len() as u32;
                *known.entry(name).or_insert(next)
            };
            by_group.push(names.into_iter().map(number).collect());
        }
        Self { by_group, count: known.len() }
    }

    /// Whether any stream's user is known.
    pub const fn are_known(&self) -> bool {
        self.count > 0
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// A stream's.
    pub fn of(&self, group: u8, number: u32) -> Option<u32> {
        let users = self.by_group.get(usize::from(group)).filter(|users| !users.is_empty())?;
        users.get(number as usize % users.len()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_user_in_every_group_and_rows_are_taken_over_and_over() {
        let users = Users::new([vec!["ann", "bob", "ann"], vec![], vec!["bob"]]);
        assert!(users.are_known() && users.count() == 2);
        assert_eq!(users.of(0, 0), users.of(0, 2));
        assert_eq!((users.of(0, 4), users.of(2, 77)), (Some(1), Some(1)));
        assert_eq!((users.of(1, 0), users.of(3, 0)), (None, None));
        assert!(!Users::default().are_known());
    }
}
