//! `[environment]`: what the operator states of the target. Nothing of it is measured, and nothing measured goes into it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::words::{NAME_BYTES_MAX, fits};

/// Keys of an environment.
pub const ENVIRONMENT_MAX: usize = 64;
/// Keys that a table of scale tests has columns for, in their order; others are allowed.
pub const ENVIRONMENT_KEYS: [&str; 6] = ["name", "cpu", "ram", "replicas", "database", "users"];

/// A value as it may be written: `users = 1500` is as good as `users = "1500"`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a value of [environment] is text or a number")]
enum Word {
    Text(String),
    Whole(i64),
    Real(f64),
    Truth(bool),
}

/// Reads an environment, every value as text.
pub(crate) fn stated<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let words = BTreeMap::<String, Word>::deserialize(deserializer)?;
    let text = |word| match word {
        Word::Text(text) => text,
        Word::Whole(number) => number.to_string(),
        Word::Real(number) => number.to_string(),
        Word::Truth(truth) => truth.to_string(),
    };
    Ok(words.into_iter().map(|(key, word)| (key, text(word))).collect())
}

/// What is stated is kept and shown: short, and of one line.
pub(crate) fn check(environment: &BTreeMap<String, String>, error: &mut dyn FnMut(String)) {
    if environment.len() > ENVIRONMENT_MAX {
        error(format!("[environment] has {} keys; at most {ENVIRONMENT_MAX}", environment.len()));
    }
    if let Some((key, _)) = environment.iter().find(|(key, value)| !fits(key) || !fits(value)) {
        let key: String = key.chars().filter(|c| !c.is_control()).take(20).collect();
        error(format!(
            "[environment] {key}: key and value are one line of at most {NAME_BYTES_MAX} bytes each"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;

    fn read(text: &str) -> Result<BTreeMap<String, String>, String> {
        let spec = Spec::from_toml(&format!("[environment]\n{text}"), "run.toml")?;
        let again: Spec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(again.environment, spec.environment);
        Ok(spec.environment)
    }

    #[test]
    fn numbers_are_as_good_as_text_and_other_things_are_refused_with_their_place() {
        let read_all = read("name = \"GKE\"\nusers = 1500\nram = 7.5\nha = true\n").unwrap();
        let wanted = [("name", "GKE"), ("users", "1500"), ("ram", "7.5"), ("ha", "true")];
        assert_eq!(read_all, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let error = read("cpu = [4]\n").unwrap_err();
        assert!(error.starts_with("run.toml:2:") && error.contains("text or a number"), "{error}");
    }

    #[test]
    fn what_is_too_much_is_refused_with_what_to_do() {
        let errors = |environment: BTreeMap<String, String>| {
            let mut errors = Vec::new();
            check(&environment, &mut |error| errors.push(error));
            errors.join("\n")
        };
        let one = |key: &str, value: String| BTreeMap::from([(key.to_owned(), value)]);
        assert_eq!(errors(one("cpu", "4 cores".into())), "");
        assert!(errors(one("cpu", "4\ncores".into())).contains("[environment] cpu: "));
        assert!(errors(one("cpu", "4".repeat(NAME_BYTES_MAX + 1))).contains("at most 200"));
        let many = (0..=ENVIRONMENT_MAX).map(|n| (n.to_string(), String::new())).collect();
        assert!(errors(many).contains("65 keys; at most 64"));
    }
}
