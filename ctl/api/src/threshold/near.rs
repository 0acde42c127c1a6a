//! The names that somebody may have meant.

use super::metric::TABLE;

/// Names that a refusal lists.
const NAMED_MAX: usize = 5;

/// The names that are nearest to `name`, nearest first.
pub fn to(name: &str) -> Vec<String> {
    let all = TABLE.iter().flat_map(|row| row.stats.iter().map(|stat| format!("{}.{stat}", row.figure)));
    let mut all: Vec<(usize, String)> = all.map(|known| (distance(name, &known), known)).collect();
    all.sort();
    all.truncate(NAMED_MAX);
    all.into_iter().map(|(_, known)| known).collect()
}

/// Letters to put in, take out or change until `a` is `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (number, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], number + 1);
        for (at, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[at + 1];
            row[at + 1] = change.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted_and_the_nearest_names_come_first() {
        for (a, b, letters) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("p99", "p999", 1)] {
            assert_eq!((distance(a, b), distance(b, a)), (letters, letters), "{a} {b}");
        }
        assert_eq!(to("tls.p9")[0], "tls.p90");
        assert_eq!(to("tls.p9").len(), NAMED_MAX);
    }
}
