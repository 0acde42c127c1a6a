//! The foot of the view: an answer, a question, or the keys; and the help.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Widget};

use super::super::model::Model;
use super::super::prompt::{Change, Prompt};
use super::super::theme::{Theme, Tone};
use super::text;

/// Rows of a daemon's sentence.
const NOTICE_ROWS_MAX: usize = 3;
/// Rows of names to choose from.
const CHOICE_ROWS_MAX: usize = 3;
/// Columns of the help.
const HELP_WIDTH: u16 = 70;

const KEYS: [(&str, &str); 7] = [
    ("p", "pause"),
    ("r", "rate"),
    ("c", "conns"),
    ("m", "mark"),
    ("s", "stop"),
    ("q", "leave"),
    ("?", "help"),
];
const HELP: &str = "\
p        pause, and go on again; paused time is not due
r        change the rate of a stream (20KB/s)
c        change the number of streams
m        put a named moment on the run's time line
s        end the run, in order or at once; asks first
q        leave: the run goes on, `scalectl watch` follows it
Ctrl-C   end the run in order, exit code 5; again: at once
Ctrl-Z   to the shell; `fg` comes back

lateness  sent - due       how late the generator was
service   done - sent      the target alone
response  done - due       what a user waits, the honest figure

Charts: a column a second, the newest at the right. In the map a
cell is the share of a second's messages that took so long:
· <0.1 %   ░ <2 %   ▒ <15 %   ▓ <40 %   █ more
▲ a mark   │ a stage begins";

/// What stands at the foot: an answer, a question, or the keys.
pub fn lines(model: &Model, now: Duration, width: usize) -> Vec<(Tone, String)> {
    if model.lost().is_some() {
        return vec![(Tone::Strong, "any key closes this view".into())];
    }
    if let Some(prompt) = model.prompt() {
        return question(prompt, model, width);
    }
    let mut lines = Vec::new();
    if let Some(notice) = model.notice(now) {
        let tone = if notice.is_refusal { Tone::Bad } else { Tone::Good };
        let word = if notice.is_refusal { "refused: " } else { "" };
        let said = format!("{word}{}", notice.text);
        lines.extend(text::within(&said, width, NOTICE_ROWS_MAX).into_iter().map(|line| (tone, line)));
    }
    let keys: Vec<String> = KEYS
        .iter()
        .map(|(key, does)| match *key {
            "p" if model.is_paused() => "p go on".to_owned(),
            _ => format!("{key} {does}"),
        })
        .collect();
    lines.push((Tone::Quiet, keys.join("   ")));
    lines
}

/// What a line is typed behind.
fn asked(change: Change, group: &Option<String>) -> String {
    let of = group.as_ref().map_or(String::new(), |group| format!(" of group {group}"));
    match change {
        Change::Rate => format!("rate of a stream{of}, such as 40KB/s: "),
        Change::Conns => format!("streams{of}: "),
        Change::Mark => "mark this moment as: ".into(),
    }
}

/// Names with their numbers, the selected one in brackets: the line that it is on, and those beside it.
fn choice<'a>(names: impl Iterator<Item = &'a String>, selected: usize, width: usize) -> Vec<String> {
    let name = |(place, name): (usize, &String)| match place == selected {
        true => format!("[{}\u{a0}{name}]", place + 1),
        false => format!("{}\u{a0}{name}", place + 1),
    };
    let lines = text::wrap(&names.enumerate().map(name).collect::<Vec<_>>().join(" "), width);
    let at = lines.iter().position(|line| line.contains('[')).unwrap_or(0);
    let from = (at + 2).min(lines.len()).saturating_sub(CHOICE_ROWS_MAX);
    lines.into_iter().skip(from).take(CHOICE_ROWS_MAX).collect()
}

fn question(prompt: &Prompt, model: &Model, width: usize) -> Vec<(Tone, String)> {
    match prompt {
        Prompt::Help => vec![(Tone::Quiet, "any key closes the help".into())],
        Prompt::Stop => {
            vec![(Tone::Warn, "end the run?   d in order   n now, exit code 5   any other key: no".into())]
        }
        Prompt::Group { selected, .. } => {
            let names = model.event().into_iter().flat_map(|event| event.stages.keys());
            let mut lines: Vec<(Tone, String)> =
                choice(names, *selected, width).into_iter().map(|line| (Tone::Strong, line)).collect();
            lines.push((Tone::Quiet, "which group?   arrows and Enter, or its number   Esc: none".into()));
            lines
        }
        Prompt::Line { change, group, text, wrong } => {
            let mut lines: Vec<(Tone, String)> =
                wrong.iter().map(|wrong| (Tone::Bad, wrong.clone())).collect();
            lines.push((Tone::Quiet, "Enter: do it   Esc: no".into()));
            lines.push((Tone::Strong, format!("{}{text}", asked(*change, group))));
            lines
        }
    }
}

/// Where in the last row a line is being typed.
pub fn cursor(model: &Model) -> Option<usize> {
    match model.prompt() {
        Some(Prompt::Line { change, group, text, .. }) => {
            Some(1 + asked(*change, group).chars().count() + Span::raw(text).width())
        }
        _ => None,
    }
}

/// Draws it.
pub fn draw(buffer: &mut Buffer, area: Rect, lines: &[(Tone, String)], theme: &Theme) {
    for (row, (tone, line)) in area.rows().zip(lines) {
        let width = usize::from(row.width.saturating_sub(1));
        buffer.set_stringn(row.x + 1, row.y, line, width, theme.style(*tone));
    }
}

/// What the keys do, over everything else.
pub fn help(buffer: &mut Buffer, area: Rect, theme: &Theme) {
    let lines: Vec<Line<'_>> = HELP.lines().map(|line| Line::raw(format!(" {line}"))).collect();
    let (width, height) = (HELP_WIDTH.min(area.width), (lines.len() as u16 + 2).min(area.height));
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    Clear.render(place, buffer);
    let block = Block::bordered().title(Span::styled(" Help ", theme.style(Tone::Strong)));
    Paragraph::new(lines).block(block).render(place, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_groups_the_selected_one_is_seen() {
        let names: Vec<String> = (1..=64).map(|number| format!("group-{number}")).collect();
        for selected in 0..names.len() {
            let lines = choice(names.iter(), selected, 62);
            let bracketed = format!("[{} group-{}]", selected + 1, selected + 1);
            assert!(lines.len() <= CHOICE_ROWS_MAX && lines.join("\n").contains(&bracketed), "{lines:?}");
        }
    }
}
