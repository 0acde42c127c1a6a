//! The repository as text: its files, and its code without comments and strings.

use std::path::{Path, PathBuf};

use crate::host;

/// A file's text.
///
/// # Panics
/// It cannot be read.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file's place in the repository.
pub fn name(path: &Path) -> String {
    path.strip_prefix(host::root()).expect("inside the repository").display().to_string()
}

/// Every file under `folder` (of the repository) that ends with `ending`, without what programs
/// leave behind: `target`, what fuzzing found, and folders that begin with a dot.
///
/// # Panics
/// There is none, so nothing would be checked.
pub fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&host::root().join(folder), ending, &mut found);
    assert!(!found.is_empty(), "no *{ending} under {folder}");
    found.sort();
    found
}

fn collect(folder: &Path, ending: &str, into: &mut Vec<PathBuf>) {
    const LEFT_BEHIND: [&str; 3] = ["target", "corpus", "artifacts"];
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if !name.starts_with('.') && !LEFT_BEHIND.contains(&name.as_str()) {
                collect(&path, ending, into);
            }
        } else if name.ends_with(ending) {
            into.push(path);
        }
    }
}

/// Rust code with comments and the insides of literals gone; lines stay where they are.
pub fn code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = comment(rest).or_else(|| literal(rest, code.chars().next_back())).unwrap_or(0);
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            code.extend(rest[..length].chars().filter(|&c| c == '\n'));
            rest = &rest[length..];
        }
    }
    code
}

/// Bytes of the comment at the front.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0u32, 0);
    loop {
        let tail = rest.get(at..)?;
        match tail {
            tail if tail.starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            tail if tail.starts_with("*/") => (depth, at) = (depth - 1, at + 2),
            tail => at += tail.chars().next()?.len_utf8(),
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Bytes of the string or character at the front; `before` is what stands in front of it.
fn literal(rest: &str, before: Option<char>) -> Option<usize> {
    let in_a_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !in_a_word);
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = rest.len() - raw.len() + hashes + 1;
            return rest[begin..].find(&end).map(|at| begin + at + end.len());
        }
    }
    if let Some(text) = rest.strip_prefix('"') {
        return Some(1 + closed(text, '"')?);
    }
    // A quote begins a character only where another ends it; otherwise it is a lifetime.
    let quoted = rest.strip_prefix('\'')?;
    let mut chars = quoted.chars();
    match (chars.next()?, chars.next()?) {
        ('\\', _) => Some(1 + closed(quoted, '\'')?),
        (c, '\'') => Some(1 + c.len_utf8() + 1),
        _ => None,
    }
}

/// Where `quote` ends what stands before it, and it counts.
fn closed(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_go_and_lines_stay() {
        let source = "a /* x /* y */ \n z */ b // c\nlet d = \"e\\\"\nf\" + 'g' + '\\'' + r#\"h\"i\"#; fn k<'a>(l: &'a m) {}";
        let code = code(source);
        assert_eq!(code.split_whitespace().collect::<String>(), "abletd=+++;fnk<'a>(l:&'am){}");
        assert_eq!(code.lines().count(), source.lines().count());
    }

    #[test]
    fn a_name_that_ends_in_r_is_no_raw_string() {
        assert_eq!(code("for\"x\" + br\"y\""), "for  +  ");
    }
}
