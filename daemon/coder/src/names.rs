//! What is called how: every thing made here says by its name that it is a test's, and which run made it.
//!
//! Names of users and workspaces are 1 to 32 letters, digits and single dashes within (the protocol's common
//! rules). Ours are `scaletest-<run>-<n>`, or `scaletest-<infix>-<run>-<n>`.

use std::fmt;

/// What every name begins with. What does not is never deleted.
pub const PREFIX: &str = "scaletest-";

/// What every made user's address ends with.
pub const EMAIL_SUFFIX: &str = "@scaletest.local";

/// The longest name that servers take.
pub const NAME_LENGTH_MAX: usize = 32;

/// The most things that one run may make.
pub const COUNT_MAX: u32 = 100_000;

/// Names that servers keep for themselves.
const RESERVED: [&str; 2] = ["new", "create"];

/// Why there can be no such names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not letters, digits and single dashes within.
    #[error("{what} `{text}` cannot be part of a name; use letters, digits and single dashes between them")]
    Form {
        /// The run or the infix.
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// Longer than a name may be.
    #[error("`{name}` has {length} characters, names have at most {NAME_LENGTH_MAX}; {}", remedy(*infix_room))]
    Length {
        /// The longest of the run's names.
        name: String,
        /// Its length.
        length: usize,
        /// The longest infix that this run and count leave room for.
        infix_room: usize,
    },
    /// More than a run may make.
    #[error("{count} is more than the {COUNT_MAX} that one run may make; make several runs")]
    Count {
        /// What was asked for.
        count: u32,
    },
}

/// The names of one run: checked once, so that each of them is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    stem: String,
}

impl Names {
    /// Names for `count` things of `run`, numbered from 0.
    ///
    /// # Errors
    /// A part that no name may have, or a name that comes out too long.
    pub fn new(run: &str, infix: Option<&str>, count: u32) -> Result<Self, NameError> {
        for (what, text) in [("the run", Some(run)), ("the infix", infix)] {
            if let Some(text) = text.filter(|text| !is_name(text)) {
                return Err(NameError::Form { what, text: text.to_owned() });
            }
        }
        if count > COUNT_MAX {
            return Err(NameError::Count { count });
        }
        let part = infix.map(|infix| format!("{infix}-")).unwrap_or_default();
        let names = Self { stem: format!("{PREFIX}{part}{run}-") };
        let name = names.name(count.saturating_sub(1));
        let length = name.len();
        if length > NAME_LENGTH_MAX {
            // An infix brings a dash with it.
            let infix_room = NAME_LENGTH_MAX.saturating_sub(length - part.len() + 1);
            return Err(NameError::Length { name, length, infix_room });
        }
        Ok(names)
    }

    /// What all of them begin with.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// The name of number `n`, for a user and for a workspace alike.
    pub fn name(&self, n: u32) -> String {
        format!("{}{n}", self.stem)
    }

    /// The mail address of user `n`. `mark` is the ledger's own word: by it a user is known as ours even if
    /// another host makes the same names.
    pub fn email(mark: &str, n: u32) -> String {
        format!("{mark}-{n}{EMAIL_SUFFIX}")
    }
}

fn remedy(infix_room: usize) -> String {
    match infix_room {
        0 => "leave out --username-infix, or make fewer things".to_owned(),
        room => format!("--username-infix has room for {room} here"),
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}<n>", self.stem)
    }
}

/// Whether this is a name that a server takes.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_LENGTH_MAX).contains(&text.len())
        && text
            .split('-')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        && !RESERVED.contains(&text)
}

/// Whether a thing of this name was made by a scale test, ours or another. Everything else is never touched.
pub fn bears_prefix(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_run_made_them() {
        let names = Names::new("r1764060000-0", None, 1000).unwrap();
        assert_eq!(names.name(7), "scaletest-r1764060000-0-7");
        assert_eq!(names.to_string(), "scaletest-r1764060000-0-<n>");
        assert!(is_name(&names.name(999)) && bears_prefix(&names.name(999)));
        assert_eq!(Names::email("k3j5h2g8", 7), "k3j5h2g8-7@scaletest.local");
        let names = Names::new("r5-0", Some("night"), 10).unwrap();
        assert_eq!(names.name(0), "scaletest-night-r5-0-0");
    }

    #[test]
    fn runs_of_this_century_leave_room_for_all_that_one_run_may_make_and_for_a_short_infix() {
        // Ids are the second at which a run began, and its number within that second.
        for run in ["r1764060000-0", "r1764060000-12", "r4102444799-999"] {
            let names = Names::new(run, None, 10_000).unwrap();
            let all: std::collections::BTreeSet<_> = (0..10_000).map(|n| names.name(n)).collect();
            assert_eq!(all.len(), 10_000);
            assert!(all.iter().all(|name| is_name(name) && bears_prefix(name)), "{run}");
            let most = Names::new(run, None, COUNT_MAX).unwrap();
            assert!(is_name(&most.name(COUNT_MAX - 1)), "{run}");
        }
        let of = |infix: &str, count| Names::new("r1764060000-0", Some(infix), count);
        assert_eq!(of("abc", 10_000).unwrap().name(9_999).len(), NAME_LENGTH_MAX);
        let words = of("abcd", 10_000).unwrap_err().to_string();
        assert_eq!(
            words,
            "`scaletest-abcd-r1764060000-0-9999` has 33 characters, names have at most 32; --username-infix has room \
             for 3 here"
        );
        assert!(of("abcd", 1_000).is_ok() && of("ab", COUNT_MAX).is_ok());
        let words = Names::new("r1764060000-12345678", Some("a"), 1_000).unwrap_err().to_string();
        assert!(words.ends_with("; leave out --username-infix, or make fewer things"), "{words}");
    }

    #[test]
    fn names_that_servers_would_refuse_are_refused_before() {
        let error = Names::new("r1764060000-0", Some("abcdef"), 1000).unwrap_err();
        assert!(error.to_string().ends_with("; --username-infix has room for 4 here"), "{error}");
        for run in ["", "a--b", "-a", "a-", "a_b", "a b", "ä", "new"] {
            assert!(matches!(Names::new(run, None, 1), Err(NameError::Form { .. })), "{run}");
        }
        assert!(matches!(Names::new("r1", None, COUNT_MAX + 1), Err(NameError::Count { .. })));
    }

    #[test]
    fn only_the_whole_prefix_with_something_behind_it_counts() {
        assert!(bears_prefix("scaletest-keepme"));
        for name in ["scaletest", "scaletest-", "my-scaletest-1", "Scaletest-1", "scaletestx-1", ""] {
            assert!(!bears_prefix(name), "{name}");
        }
    }
}
