//! Templates and their parameters: what a workspace may be asked to be.

use regex_lite::Regex;
use serde_json::{Value, json};
use uuid::Uuid;

use super::message::Refusal;

/// A template; each has one version.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub id: Uuid,
    pub version: Uuid,
    pub name: String,
    pub deprecated: &'static str,
    pub parameters: &'static [Parameter],
    /// Names of the agents, resource by resource.
    pub resources: &'static [&'static [&'static str]],
}

/// The kinds of a parameter; all travel as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Bool,
    List,
}

/// A rich parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
    /// Can be changed by a later build.
    pub mutable: bool,
    /// `None`: it must be given.
    pub default: Option<&'static str>,
    /// Holds for one build only.
    pub ephemeral: bool,
    pub options: &'static [&'static str],
    pub regex: &'static str,
    pub min: Option<i64>,
    pub max: Option<i64>,
    /// `increasing`, `decreasing` or nothing.
    pub monotonic: &'static str,
}

impl Parameter {
    const fn new(name: &'static str, kind: Kind, default: Option<&'static str>) -> Self {
        Self {
            name,
            kind,
            mutable: true,
            default,
            ephemeral: false,
            options: &[],
            regex: "",
            min: None,
            max: None,
            monotonic: "",
        }
    }

    fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Text => "string",
            Kind::Number => "number",
            Kind::Bool => "bool",
            Kind::List => "list(string)",
        }
    }

    /// As `rich-parameters` shows it.
    pub fn view(&self) -> Value {
        let form = match (self.kind, self.options.is_empty()) {
            (_, false) => "radio",
            (Kind::Bool, _) => "checkbox",
            (Kind::List, _) => "tag-select",
            _ => "input",
        };
        json!({
            "name": self.name,
            "display_name": self.name,
            "description": "",
            "description_plaintext": "",
            "type": self.kind_name(),
            "form_type": form,
            "mutable": self.mutable,
            "default_value": self.default.unwrap_or(""),
            "icon": "",
            "required": self.default.is_none(),
            "ephemeral": self.ephemeral,
            "options": self.options.iter()
                .map(|option| json!({ "name": option, "description": "", "value": option, "icon": "" }))
                .collect::<Vec<_>>(),
            "validation_error": "",
            "validation_regex": self.regex,
            "validation_min": self.min,
            "validation_max": self.max,
            "validation_monotonic": self.monotonic,
        })
    }

    /// What is wrong with `value`, if anything; `before` is what the last build had.
    fn complaint(&self, value: &str, before: Option<&str>) -> Option<String> {
        if !self.options.is_empty() {
            return (!self.options.contains(&value)).then(|| format!("`{value}` is none of the options"));
        }
        match self.kind {
            Kind::Bool => (!["true", "false"].contains(&value)).then(|| "must be true or false".to_owned()),
            Kind::List => serde_json::from_str::<Vec<String>>(value)
                .is_err()
                .then(|| "must be a JSON list of texts".to_owned()),
            Kind::Text => {
                let regex = Regex::new(self.regex).expect("checked by a test");
                (!regex.is_match(value)).then(|| format!("does not match {}", self.regex))
            }
            Kind::Number => {
                let Ok(number) = value.parse::<i64>() else { return Some("must be a number".to_owned()) };
                let low = self.min.is_some_and(|min| number < min);
                let high = self.max.is_some_and(|max| number > max);
                if low || high {
                    let bound =
                        |bound: Option<i64>| bound.map_or("…".to_owned(), |bound| bound.to_string());
                    return Some(format!("must be from {} to {}", bound(self.min), bound(self.max)));
                }
                let before = before.and_then(|before| before.parse::<i64>().ok())?;
                let wrong = match self.monotonic {
                    "increasing" => number < before,
                    "decreasing" => number > before,
                    _ => false,
                };
                wrong.then(|| format!("must be {} and was {before}", self.monotonic))
            }
        }
    }
}

/// What most templates of a deployment look like: `--parameter home_disk_size=10`.
const KUBERNETES: &[Parameter] = &[
    Parameter {
        min: Some(1),
        max: Some(99),
        monotonic: "increasing",
        ..Parameter::new("home_disk_size", Kind::Number, Some("10"))
    },
    Parameter { options: &["2", "4", "6", "8"], ..Parameter::new("cpu", Kind::Number, Some("2")) },
    Parameter { mutable: false, options: &["eu", "us"], ..Parameter::new("region", Kind::Text, Some("eu")) },
    Parameter { regex: "^[a-z0-9/:.-]*$", ..Parameter::new("dotfiles_uri", Kind::Text, Some("")) },
];

/// Everything that a parameter can be, and one that must be given.
const STRICT: &[Parameter] = &[
    Parameter { regex: "^[a-z]{2,8}$", ..Parameter::new("team", Kind::Text, None) },
    Parameter { min: Some(1), max: Some(8), ..Parameter::new("replicas", Kind::Number, Some("1")) },
    Parameter::new("gpu", Kind::Bool, Some("false")),
    Parameter::new("tags", Kind::List, Some("[]")),
    Parameter { ephemeral: true, ..Parameter::new("rebuild", Kind::Bool, Some("false")) },
    Parameter { mutable: false, ..Parameter::new("zone", Kind::Text, Some("a")) },
];

const ONE_AGENT: &[&[&str]] = &[&["main"]];
const TWO_AGENTS: &[&[&str]] = &[&["main"], &["second"], &[]];

/// The built-in templates, in the order of the list: name, deprecation, parameters, agents.
type BuiltIn = (&'static str, &'static str, &'static [Parameter], &'static [&'static [&'static str]]);
pub(super) const BUILT_IN: [BuiltIn; 5] = [
    ("kubernetes", "", KUBERNETES, ONE_AGENT),
    ("minimal", "", &[], ONE_AGENT),
    ("old", "use kubernetes", &[], ONE_AGENT),
    ("strict", "", STRICT, ONE_AGENT),
    ("two-agents", "", &[], TWO_AGENTS),
];

/// Names and values, one each.
pub(super) type Values = Vec<(String, String)>;

impl Template {
    /// The values that a build has: what was given over what the last build had over defaults.
    pub fn resolve(&self, given: &[(String, String)], before: Option<&Values>) -> Result<Values, Refusal> {
        fn find<'a>(values: &'a [(String, String)], name: &str) -> Option<&'a str> {
            values.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
        }
        let mut refusal = None::<Refusal>;
        let mut complain = |name: &str, what: String| {
            let so_far =
                refusal.take().unwrap_or_else(|| Refusal::new(400, "Parameters do not fit the template."));
            refusal = Some(so_far.field(name, what));
        };
        for (index, (name, _)) in given.iter().enumerate() {
            if !self.parameters.iter().any(|parameter| parameter.name == name) {
                complain(name, "the template has no such parameter".to_owned());
            } else if given[..index].iter().any(|(earlier, _)| earlier == name) {
                complain(name, "given twice".to_owned());
            }
        }
        let mut values = Values::new();
        for parameter in self.parameters {
            let old = before.and_then(|before| find(before, parameter.name));
            let kept = old.filter(|_| !parameter.ephemeral);
            let new = find(given, parameter.name);
            if let (Some(new), Some(old), false) = (new, old, parameter.mutable)
                && new != old
            {
                complain(parameter.name, "cannot be changed after the workspace was made".to_owned());
                continue;
            }
            if before.is_none() && new.is_some() && parameter.ephemeral {
                complain(
                    parameter.name,
                    "is ephemeral: it cannot be given when a workspace is made".to_owned(),
                );
                continue;
            }
            let Some(value) = new.or(kept).or(parameter.default) else {
                complain(parameter.name, "is required and was not given".to_owned());
                continue;
            };
            if let Some(what) = parameter.complaint(value, old) {
                complain(parameter.name, what);
            }
            values.push((parameter.name.to_owned(), value.to_owned()));
        }
        refusal.map_or(Ok(values), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(name: &str) -> Template {
        let (name, deprecated, parameters, resources) =
            BUILT_IN.into_iter().find(|built_in| built_in.0 == name).expect("built in");
        let (id, version) = (Uuid::from_u128(1), Uuid::from_u128(2));
        Template { id, version, name: name.to_owned(), deprecated, parameters, resources }
    }

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn defaults_of_every_template_pass_their_own_rules() {
        for (name, ..) in BUILT_IN {
            let given = if name == "strict" { values(&[("team", "ops")]) } else { Values::new() };
            let template = template(name);
            let resolved = template.resolve(&given, None).expect(name);
            assert_eq!(resolved.len(), template.parameters.len());
        }
    }

    #[test]
    fn each_rule_of_a_parameter_is_held() {
        let before = values(&[("team", "ops"), ("zone", "a"), ("replicas", "1")]);
        for (what, given, later) in [
            ("required and was not", values(&[]), false),
            ("no such parameter", values(&[("team", "ops"), ("colour", "red")]), false),
            ("given twice", values(&[("team", "ops"), ("team", "dev")]), false),
            ("does not match", values(&[("team", "OPS")]), false),
            ("must be from 1 to 8", values(&[("team", "ops"), ("replicas", "9")]), false),
            ("must be a number", values(&[("team", "ops"), ("replicas", "two")]), false),
            ("true or false", values(&[("team", "ops"), ("gpu", "yes")]), false),
            ("JSON list", values(&[("team", "ops"), ("tags", "a,b")]), false),
            ("is ephemeral", values(&[("team", "ops"), ("rebuild", "true")]), false),
            ("cannot be changed", values(&[("zone", "b")]), true),
        ] {
            let refusal = template("strict").resolve(&given, later.then_some(&before)).expect_err(what);
            let text = format!("{refusal:?}");
            assert!(text.contains(what), "{what}: {text}");
        }
        let later =
            template("strict").resolve(&values(&[("rebuild", "true")]), Some(&before)).expect("later");
        assert!(later.contains(&("rebuild".to_owned(), "true".to_owned())));
    }

    #[test]
    fn a_disk_grows_only_and_an_option_is_one_of_the_list() {
        let kubernetes = template("kubernetes");
        let before = kubernetes.resolve(&values(&[("home_disk_size", "20")]), None).expect("20 is allowed");
        assert!(kubernetes.resolve(&values(&[("home_disk_size", "19")]), Some(&before)).is_err());
        assert!(kubernetes.resolve(&values(&[("home_disk_size", "21")]), Some(&before)).is_ok());
        assert!(kubernetes.resolve(&values(&[("cpu", "3")]), None).is_err());
    }
}
