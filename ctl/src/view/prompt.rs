//! What is asked of the user at the foot of the view: keys go in, the next question or a wish comes out.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use scale_api::http::SetRequest;
use scale_api::units::Rate;

use super::model::{Effect, Wish};

/// Characters of a line.
const LINE_MAX: usize = 120;

/// What a line that is typed is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Payload a second and stream.
    Rate,
    /// Streams.
    Conns,
    /// A named moment.
    Mark,
}

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// What the keys do; any key closes it.
    Help,
    /// How to end the run.
    Stop,
    /// Which group is changed.
    Group {
        /// What of it.
        change: Change,
        /// The one that Enter takes, by its place.
        selected: usize,
    },
    /// A line is typed.
    Line {
        /// What for.
        change: Change,
        /// Of which group; `None`: the only one.
        group: Option<String>,
        /// What has been typed.
        text: String,
        /// Why it cannot be taken as it is.
        wrong: Option<String>,
    },
}

impl Prompt {
    /// Asks for a value, and before that for the group where there are several.
    pub fn change(change: Change, groups: &[String]) -> Self {
        if groups.len() > 1 { Self::Group { change, selected: 0 } } else { Self::line(change, None) }
    }

    /// Asks for a line.
    pub fn line(change: Change, group: Option<String>) -> Self {
        Self::Line { change, group, text: String::new(), wrong: None }
    }

    /// Takes a key: what is asked next, and what follows.
    pub fn key(self, key: KeyEvent, groups: &[String]) -> (Option<Self>, Effect) {
        match (self, key.code) {
            (Self::Stop, KeyCode::Char('d' | 'y')) => (None, Effect::Ask(Wish::Stop { now: false })),
            (Self::Stop, KeyCode::Char('n')) => (None, Effect::Ask(Wish::Stop { now: true })),
            (Self::Help | Self::Stop, _) | (_, KeyCode::Esc) => (None, Effect::Nothing),
            (Self::Group { change, selected }, code) => {
                (Some(choose(change, selected, code, groups)), Effect::Nothing)
            }
            (Self::Line { change, group, text, .. }, KeyCode::Enter) => match wish(change, &group, &text) {
                Ok(wish) => (None, Effect::Ask(wish)),
                Err(wrong) => (Some(Self::Line { change, group, text, wrong: Some(wrong) }), Effect::Nothing),
            },
            (Self::Line { change, group, text, .. }, _) => {
                (Some(Self::Line { change, group, text: typed(text, key), wrong: None }), Effect::Nothing)
            }
        }
    }
}

/// The choice of a group: by its digit, or by arrows and Enter.
fn choose(change: Change, selected: usize, code: KeyCode, groups: &[String]) -> Prompt {
    let count = groups.len().max(1);
    let at = |selected: usize| Prompt::Group { change, selected: selected % count };
    let take = |index: usize| Prompt::line(change, groups.get(index).cloned());
    match code {
        KeyCode::Down | KeyCode::Right | KeyCode::Tab => at(selected + 1),
        KeyCode::Up | KeyCode::Left | KeyCode::BackTab => at(selected + count - 1),
        KeyCode::Enter => take(selected),
        KeyCode::Char(digit @ '1'..='9') if (digit as usize - '1' as usize) < groups.len() => {
            take(digit as usize - '1' as usize)
        }
        _ => at(selected),
    }
}

fn typed(mut text: String, key: KeyEvent) -> String {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('u') if control => text.clear(),
        KeyCode::Char(c) if !control && text.chars().count() < LINE_MAX => text.push(c),
        KeyCode::Backspace => _ = text.pop(),
        _ => {}
    }
    text
}

/// What a line asks for.
fn wish(change: Change, group: &Option<String>, text: &str) -> Result<Wish, String> {
    let text = text.trim();
    let request = SetRequest { group: group.clone(), ..SetRequest::default() };
    match change {
        Change::Rate => {
            let rate: Rate = text.parse().map_err(|error| format!("{error}"))?;
            Ok(Wish::Set(SetRequest { rate: Some(rate), ..request }))
        }
        Change::Conns => {
            let conns =
                text.parse().map_err(|_| format!("`{text}` is not a number of streams, such as 2000"))?;
            Ok(Wish::Set(SetRequest { conns: Some(conns), ..request }))
        }
        Change::Mark if text.is_empty() => Err("say what happened, such as `deploy started`".into()),
        Change::Mark => Ok(Wish::Mark(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Prompt {
        Prompt::Line { change: Change::Mark, group: None, text: text.into(), wrong: None }
    }

    fn key(prompt: Prompt, code: KeyCode, modifiers: KeyModifiers) -> Option<Prompt> {
        prompt.key(KeyEvent::new(code, modifiers), &[]).0
    }

    #[test]
    fn a_line_is_edited_and_has_an_end() {
        let none = KeyModifiers::NONE;
        assert_eq!(key(line("ab"), KeyCode::Backspace, none), Some(line("a")));
        assert_eq!(key(line(""), KeyCode::Backspace, none), Some(line("")));
        assert_eq!(key(line("ab"), KeyCode::Char('u'), KeyModifiers::CONTROL), Some(line("")));
        assert_eq!(key(line("ab"), KeyCode::Char('x'), KeyModifiers::CONTROL), Some(line("ab")));
        let full = "é".repeat(LINE_MAX);
        assert_eq!(key(line(&full), KeyCode::Char('x'), none), Some(line(&full)));
        assert_eq!(key(line("ab"), KeyCode::Esc, none), None);
    }

    #[test]
    fn groups_are_gone_through_in_both_directions() {
        let groups = ["a".to_owned(), "b".to_owned()];
        let chosen = |selected, code| choose(Change::Conns, selected, code, &groups);
        let at = |selected| Prompt::Group { change: Change::Conns, selected };
        assert_eq!(chosen(0, KeyCode::Up), at(1));
        assert_eq!(chosen(1, KeyCode::Tab), at(0));
        assert_eq!(chosen(1, KeyCode::Char('9')), at(1));
        assert_eq!(chosen(1, KeyCode::Enter), Prompt::line(Change::Conns, Some("b".into())));
    }

    #[test]
    fn nothing_empty_and_nothing_else_is_asked_of_the_daemon() {
        assert!(wish(Change::Mark, &None, "  ").is_err());
        assert_eq!(wish(Change::Mark, &None, " deploy "), Ok(Wish::Mark("deploy".into())));
        assert!(wish(Change::Conns, &None, "-1").unwrap_err().contains("such as 2000"));
        assert!(wish(Change::Rate, &None, "40").is_err());
    }
}
