//! The search language of lists: terms with spaces between, `key:value`, `key:"a value"`, bare words.

use super::message::Refusal;

/// One term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    pub key: Option<String>,
    pub value: String,
}

/// Splits a query. Quotes keep spaces and colons together and go away.
pub(super) fn terms(query: &str) -> Result<Vec<Term>, Refusal> {
    let mut terms = Vec::new();
    for text in split(query, ' ').into_iter().filter(|text| !text.is_empty()) {
        let parts = split(&text, ':');
        let bare = |text: &str| text.replace('"', "");
        terms.push(match parts.as_slice() {
            [value] => Term { key: None, value: bare(value) },
            [key, value] if !key.is_empty() && !value.is_empty() => {
                Term { key: Some(key.clone()), value: bare(value) }
            }
            _ => {
                let detail = format!("Query element \"{text}\" is no word and no key with a value");
                return Err(Refusal::new(400, "Invalid search query.").field("q", detail));
            }
        });
    }
    Ok(terms)
}

fn split(text: &str, at: char) -> Vec<String> {
    let (mut parts, mut quoted) = (vec![String::new()], false);
    for c in text.chars() {
        quoted ^= c == '"';
        if c == at && !quoted {
            parts.push(String::new());
        } else {
            parts.last_mut().expect("one at least").push(c);
        }
    }
    parts
}

/// A key that lists of this kind do not have.
pub(super) fn unknown_key(key: &str) -> Refusal {
    Refusal::new(400, "Invalid search query.").field("q", format!("\"{key}\" is not a valid query param"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_together_what_spaces_and_colons_part() {
        let pair = |key: Option<&str>, value: &str| (key.map(str::to_owned), value.to_owned());
        for (query, expected) in [
            ("", vec![]),
            ("scaletest-", vec![pair(None, "scaletest-")]),
            ("name:\"scaletest-\"", vec![pair(Some("name"), "scaletest-")]),
            ("owner:me  status:\"a b\"", vec![pair(Some("owner"), "me"), pair(Some("status"), "a b")]),
            (
                "last_used_before:\"2026-01-01T00:00:00Z\"",
                vec![pair(Some("last_used_before"), "2026-01-01T00:00:00Z")],
            ),
        ] {
            let found: Vec<_> =
                terms(query).expect(query).into_iter().map(|term| (term.key, term.value)).collect();
            assert_eq!(found, expected, "{query}");
        }
        for query in ["name:", ":x", "a:b:c"] {
            assert!(terms(query).is_err(), "{query}");
        }
    }
}
