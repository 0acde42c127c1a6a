//! Lines of text that fit.

/// `text` in `width` characters, its end left out where it is longer.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.into();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept.trim_end().chars().chain((width > 0).then_some('…')).collect()
}

/// `text` in lines of `width` characters, broken between words; a word that is longer is cut. A no-break space
/// (U+00A0) holds words together.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split([' ', '\n']).filter(|word| !word.is_empty()) {
        let word = cut(&word.replace('\u{a0}', " "), width);
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// As [`wrap`], in `rows` lines at most; where they do not suffice the last is cut.
pub fn within(text: &str, width: usize, rows: usize) -> Vec<String> {
    let mut lines = wrap(text, width);
    if lines.len() > rows {
        let rest = lines.split_off(rows.saturating_sub(1)).join(" ");
        lines.push(cut(&rest, width));
    }
    lines.truncate(rows);
    lines
}

/// At most `rows` of the lines; the last of them says how many there are beyond.
pub fn first(mut lines: Vec<String>, rows: usize) -> Vec<String> {
    if lines.len() > rows && rows > 0 {
        let left = lines.len() - (rows - 1);
        lines.truncate(rows - 1);
        lines.push(format!("… and {left} more"));
    }
    lines.truncate(rows);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_never_exceed_their_width() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("  incomprehensible  ", 6), ["incom…"]);
        assert_eq!(wrap("", 6), [""; 0]);
        assert_eq!(wrap("a b\u{a0}c d", 4), ["a", "b c", "d"]);
        for width in 0..12 {
            let lines = wrap("a bb ccc dddd eeeee ffffff", width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let lines = || ["a", "b", "c"].map(String::from).to_vec();
        assert_eq!(first(lines(), 3), ["a", "b", "c"]);
        assert_eq!(first(lines(), 2), ["a", "… and 2 more"]);
        assert_eq!(first(lines(), 0), [""; 0]);
        assert_eq!(within("one two three four", 7, 2), ["one two", "three…"]);
        assert_eq!(within("one two", 7, 1), ["one two"]);
        assert_eq!(within("one two", 7, 0), [""; 0]);
    }
}
