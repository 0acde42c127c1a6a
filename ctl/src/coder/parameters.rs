//! Files of template parameters: the flat YAML of `coder … --rich-parameter-file`, or JSON.
//!
//! One `name: value` a line; values plain or in quotes; `#` begins a comment. What is more than that is refused with
//! its line: a parameter that is taken for another is worse than none.

use std::collections::BTreeMap;

use serde_json::Value;

/// Parses a file.
///
/// # Errors
/// What is wrong, and in which line.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    if text.trim_start().starts_with('{') {
        return json(text);
    }
    let mut parameters = BTreeMap::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let content = line.trim_end();
        if content.is_empty() || content.trim_start().starts_with('#') || content == "---" {
            continue;
        }
        let wrong = |why: &str| format!("line {number}: {why}");
        if content.starts_with([' ', '\t', '-']) {
            return Err(wrong(
                "write one `name: value` a line, not indented; lists as JSON: [\"a\",\"b\"] in single quotes",
            ));
        }
        let pair = content.split_once(": ").or_else(|| Some((content.strip_suffix(':')?, "")));
        let (name, value) = pair.ok_or_else(|| wrong("write it as `name: value`"))?;
        let (name, value) = (scalar(name.trim()).map_err(wrong)?, scalar(value.trim()).map_err(wrong)?);
        if parameters.insert(name, value).is_some() {
            return Err(wrong("this parameter stands in a line above, too"));
        }
    }
    Ok(parameters)
}

/// The fields of a line of CSV (RFC 4180 §2): with commas between, in double quotes where they have a comma.
pub fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if is_quoted && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' if is_quoted || field.is_empty() => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields.retain(|field| !field.is_empty());
    fields
}

/// A text in quotes, or a plain one.
fn scalar(text: &str) -> Result<String, &'static str> {
    if text.starts_with('"') {
        // YAML's double quotes are JSON's for all that is printable.
        return serde_json::from_str(text)
            .map_err(|_| "a text in double quotes ends with them and has JSON's escapes");
    }
    if let Some(rest) = text.strip_prefix('\'') {
        let inner = rest.strip_suffix('\'').ok_or("a text in single quotes ends with them")?;
        if inner.replace("''", "").contains('\'') {
            return Err("a single quote within single quotes is written twice");
        }
        return Ok(inner.replace("''", "'"));
    }
    let plain = text.split(" #").next().unwrap_or_default().trim_end();
    if plain.starts_with(['[', ']', '{', '}', '&', '*', '!', '|', '>', '%', '@', '`', '#'])
        || plain.contains(": ")
    {
        return Err("put values with signs of YAML's own into single quotes");
    }
    Ok(plain.to_owned())
}

fn json(text: &str) -> Result<BTreeMap<String, String>, String> {
    let found: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Null | Value::Object(_) => Err(format!("`{name}` is no text, number, boolean or list")),
        // Values travel as texts; lists as JSON.
        other => Ok((name, other.to_string())),
    };
    found.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().collect()
    }

    #[test]
    fn flat_yaml_and_json_say_the_same() {
        let yaml = "---\n# sizes\nhome_disk_size: 10 # GB\nregion: \"eu\\u0031\"\ntools: '[\"go\"]'\nempty:\nurl: http://x/#a\nit: 'it''s'\n";
        let json = r#"{"home_disk_size":10,"region":"eu1","tools":["go"],"empty":"","url":"http://x/#a","it":"it's"}"#;
        assert_eq!(parsed(yaml), parsed(json));
        assert_eq!(parsed("a: b: c".replace(": c", ":c").as_str()), [("a".to_owned(), "b:c".to_owned())]);
    }

    #[test]
    fn fields_have_commas_between_and_quotes_around_what_has_one() {
        for (line, expected) in [
            ("", &[][..]),
            ("a=1", &["a=1"]),
            ("a=1,b=2", &["a=1", "b=2"]),
            (r#"a=1,"b=[""x"",""y""]",c="#, &["a=1", r#"b=["x","y"]"#, "c="]),
            (r#"a=5" disk"#, &[r#"a=5" disk"#]),
        ] {
            assert_eq!(fields(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_more_than_pairs_is_refused_with_its_line() {
        for (text, word) in [
            ("a: 1\n  b: 2", "line 2"),
            ("a: 1\na: 2", "line 2"),
            ("a", "name: value"),
            ("a: [1, 2]", "single quotes"),
            ("a: |\n text", "single quotes"),
            ("a: 'x", "single quotes"),
            ("a: \"x", "double quotes"),
            ("- a: 1", "not indented"),
            ("{\"a\":{}}", "`a`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
