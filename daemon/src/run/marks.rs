//! Named moments of a run, of a flow or of a scenario.

use scale_api::http::{Problem, ProblemCode};
use scale_api::report::Mark;

/// Marks of a run; more are refused.
pub const MARKS_MAX: usize = 1000;
/// Bytes of a mark's text.
pub const MARK_BYTES_MAX: usize = 1000;
/// Bytes of it that metrics have as a label.
pub const MARK_LABEL_BYTES_MAX: usize = 120;

/// Marks in the order in which they were made.
#[derive(Debug, Default)]
pub struct Marks {
    list: Vec<Mark>,
    /// How many of them events have said.
    said: usize,
}

impl Marks {
    /// Takes one, `at` seconds after the start.
    ///
    /// # Errors
    /// No line of text, or there are [`MARKS_MAX`] already.
    pub fn add(&mut self, at: f64, text: &str) -> Result<(), Problem> {
        check(text)?;
        if self.list.len() >= MARKS_MAX {
            return refused(format!("the run has {MARKS_MAX} marks, which is the most it can have"));
        }
        self.list.push(Mark { at, text: text.to_owned() });
        Ok(())
    }

    /// All of them.
    pub fn list(&self) -> &[Mark] {
        &self.list
    }

    /// Those that no event has said.
    pub fn fresh(&self) -> &[Mark] {
        &self.list[self.said..]
    }

    /// An event has said them all.
    pub fn said(&mut self) {
        self.said = self.list.len();
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.list.len() as u64
    }

    /// The newest one's text, as much of it as a label of a metric has; not escaped.
    pub fn newest_label(&self) -> Option<&str> {
        Some(cut(&self.list.last()?.text, MARK_LABEL_BYTES_MAX))
    }
}

/// Whether a mark may have that text.
///
/// # Errors
/// It is no line, or too long.
pub fn check(text: &str) -> Result<(), Problem> {
    if text.trim().is_empty() || text.len() > MARK_BYTES_MAX || text.contains(char::is_control) {
        return refused(format!("a mark is one line of 1 to {MARK_BYTES_MAX} bytes of text"));
    }
    Ok(())
}

fn refused(detail: String) -> Result<(), Problem> {
    Err(Problem::new(ProblemCode::Invalid, detail))
}

/// As many whole characters of `text` as have `bytes_max` bytes.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    &text[..ends.take_while(|&end| end <= bytes_max).last().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_line_and_there_are_so_many_at_most() {
        let mut marks = Marks::default();
        for wrong in ["", "  ", "a\nb", "\u{1b}[2J", &"x".repeat(MARK_BYTES_MAX + 1)] {
            assert!(marks.add(1.0, wrong).unwrap_err().detail.contains("one line"));
        }
        for number in 0..MARKS_MAX {
            marks.add(number as f64, "deploy").unwrap();
        }
        assert!(marks.add(1.0, "one more").unwrap_err().detail.contains("1000 marks"));
        assert_eq!(marks.count(), MARKS_MAX as u64);
    }

    #[test]
    fn each_is_said_once_and_the_newest_is_a_short_label() {
        let mut marks = Marks::default();
        assert_eq!((marks.fresh().len(), marks.newest_label()), (0, None));
        marks.add(1.0, "deploy started").unwrap();
        assert_eq!((marks.fresh().len(), marks.newest_label()), (1, Some("deploy started")));
        marks.said();
        marks.add(2.0, &"é".repeat(100)).unwrap();
        assert_eq!((marks.fresh()[0].at, marks.list().len()), (2.0, 2));
        assert_eq!(marks.newest_label().map(str::len), Some(MARK_LABEL_BYTES_MAX));
    }
}
