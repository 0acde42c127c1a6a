//! Parameters against what the template asks for, before anything is made (the protocol's rich parameters).
//!
//! All values are texts; numbers and booleans are written out, lists are JSON. A parameter that is required
//! and has no default has to be given; one that is not given takes its default at the server.

use std::collections::BTreeMap;

use regex::Regex;

use crate::types::{ParameterValue, RichParameter};

/// A parameter that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// Required, without a default, not given.
    #[error("the template needs the parameter `{name}`; give --parameter {name}=…")]
    Missing {
        /// Which.
        name: String,
    },
    /// Not one of the template's.
    #[error("the template has no parameter `{name}`; it has {known}")]
    Unknown {
        /// Which.
        name: String,
        /// Those it has.
        known: String,
    },
    /// Not one of the options.
    #[error("the parameter `{name}` cannot be `{value}`; it is one of {options}")]
    Option {
        /// Which.
        name: String,
        /// What was given.
        value: String,
        /// What may be given.
        options: String,
    },
    /// Not of its type, out of its bounds, or against its pattern.
    #[error("the parameter `{name}` cannot be `{value}`; {rule}")]
    Invalid {
        /// Which.
        name: String,
        /// What was given.
        value: String,
        /// What may be given.
        rule: String,
    },
}

/// Checks what was given against what the template has; every mistake, not just the first.
///
/// # Errors
/// The mistakes.
pub fn check(
    template: &[RichParameter],
    given: &BTreeMap<String, String>,
) -> Result<Vec<ParameterValue>, Vec<ParameterError>> {
    let mut wrong = Vec::new();
    for name in given.keys() {
        if !template.iter().any(|parameter| parameter.name == *name) {
            let known = list(template.iter().map(|parameter| parameter.name.as_str()));
            wrong.push(ParameterError::Unknown { name: name.clone(), known });
        }
    }
    for parameter in template {
        match given.get(&parameter.name) {
            Some(value) => wrong.extend(fit(parameter, value).err()),
            None if parameter.required && parameter.default_value.is_empty() => {
                wrong.push(ParameterError::Missing { name: parameter.name.clone() });
            }
            None => {}
        }
    }
    let values =
        given.iter().map(|(name, value)| ParameterValue { name: name.clone(), value: value.clone() });
    if wrong.is_empty() { Ok(values.collect()) } else { Err(wrong) }
}

/// Names in backticks; a word where there are none.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const NAMES_MAX: usize = 20;
    let mut names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// Whether `value` fits `parameter`.
fn fit(parameter: &RichParameter, value: &str) -> Result<(), ParameterError> {
    let invalid = |rule: String| ParameterError::Invalid {
        name: parameter.name.clone(),
        value: value.to_owned(),
        rule,
    };
    let elements: Option<Vec<String>> = match parameter.kind.as_str() {
        "number" => {
            bounds(parameter, value).map_err(invalid)?;
            None
        }
        "bool" if value != "true" && value != "false" => return Err(invalid("it is true or false".into())),
        "list(string)" => Some(
            serde_json::from_str(value)
                .map_err(|_| invalid("it is a list of texts in JSON, such as [\"a\",\"b\"]".into()))?,
        ),
        _ => {
            matches(parameter, value).map_err(invalid)?;
            None
        }
    };
    if parameter.options.is_empty() {
        return Ok(());
    }
    let offered = |value: &str| parameter.options.iter().any(|option| option.value == value);
    // Of a list either the whole is one of the options, or each of its elements is.
    let chosen = offered(value) || elements.is_some_and(|all| all.iter().all(|element| offered(element)));
    if chosen {
        return Ok(());
    }
    let options = list(parameter.options.iter().map(|option| option.value.as_str()));
    Err(ParameterError::Option { name: parameter.name.clone(), value: value.to_owned(), options })
}

fn bounds(parameter: &RichParameter, value: &str) -> Result<(), String> {
    let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
    let number = number.ok_or_else(|| "it is a number".to_owned())?;
    let (min, max) = (parameter.validation_min, parameter.validation_max);
    if min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max) {
        return Ok(());
    }
    Err(match (min, max) {
        (Some(min), Some(max)) => format!("it is {min} to {max}"),
        (Some(min), None) => format!("it is at least {min}"),
        (_, max) => format!("it is at most {}", max.unwrap_or_default()),
    })
}

fn matches(parameter: &RichParameter, value: &str) -> Result<(), String> {
    if parameter.validation_regex.is_empty() {
        return Ok(());
    }
    // The server's patterns are nearly ours; one that is not is left to the server.
    match Regex::new(&parameter.validation_regex) {
        Ok(pattern) if !pattern.is_match(value) => Err(match parameter.validation_error.as_str() {
            "" => format!("it matches {}", parameter.validation_regex),
            words => words.trim_end_matches('.').to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ParameterOption;

    fn parameter(name: &str, kind: &str) -> RichParameter {
        RichParameter { name: name.into(), kind: kind.into(), ..RichParameter::default() }
    }

    fn options(values: &[&str]) -> Vec<ParameterOption> {
        let option = |value: &&str| ParameterOption { name: String::new(), value: (*value).to_owned() };
        values.iter().map(option).collect()
    }

    fn template() -> Vec<RichParameter> {
        vec![
            RichParameter {
                validation_min: Some(1.0),
                validation_max: Some(100.0),
                required: true,
                ..parameter("home_disk_size", "number")
            },
            RichParameter { options: options(&["eu", "us"]), ..parameter("region", "string") },
            RichParameter { options: options(&["go", "rust"]), ..parameter("tools", "list(string)") },
            RichParameter { default_value: "x".into(), required: true, ..parameter("image", "string") },
            RichParameter { validation_regex: "^[a-z]+$".into(), ..parameter("team", "string") },
            RichParameter { validation_regex: "(?=lookahead)".into(), ..parameter("odd", "string") },
            parameter("debug", "bool"),
        ]
    }

    fn verdict(given: &[(&str, &str)]) -> String {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match check(&template(), &given) {
            Ok(values) => format!("{} values", values.len()),
            Err(wrong) => wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        }
    }

    #[test]
    fn what_fits_is_taken_and_defaults_need_not_be_given() {
        assert_eq!(verdict(&[("home_disk_size", "10")]), "1 values");
        let all = [
            ("home_disk_size", "1"),
            ("region", "eu"),
            ("tools", "[\"go\",\"rust\"]"),
            ("team", "infra"),
            ("odd", "anything"),
            ("debug", "true"),
        ];
        assert_eq!(verdict(&all), "6 values");
    }

    #[test]
    fn each_mistake_is_named_with_what_may_be_given() {
        assert!(verdict(&[]).contains("--parameter home_disk_size=…"));
        for (name, value, words) in [
            ("home_disk_size", "200", "1 to 100"),
            ("home_disk_size", "NaN", "is a number"),
            ("region", "mars", "one of `eu`, `us`"),
            ("tools", "go", "list of texts"),
            ("tools", "[\"go\",\"perl\"]", "one of `go`, `rust`"),
            ("team", "A1", "matches ^[a-z]+$"),
            ("debug", "yes", "true or false"),
            ("hme_disk_size", "1", "it has `home_disk_size`, `region`"),
        ] {
            let verdict = verdict(&[("home_disk_size", "10"), (name, value)]);
            assert!(verdict.contains(words) && verdict.contains(value) || verdict.contains("no parameter"));
            assert!(verdict.contains(words), "{name}={value}: {verdict}");
        }
    }

    #[test]
    fn all_mistakes_are_said_at_once() {
        assert_eq!(verdict(&[("debug", "1"), ("nope", "1")]).lines().count(), 3);
    }
}
