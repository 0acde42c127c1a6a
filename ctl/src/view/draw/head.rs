//! The top of the view: which run and how far, and what must not be overlooked.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use scale_api::report::Event;

use super::super::model::Model;
use super::super::theme::{Theme, Tone};
use super::text;

/// What the daemon says of saturation, which has a banner of its own.
const SATURATION_WARNING: &str = "the generator is the limit";
/// Columns of a progress bar that says something.
const PROGRESS_MIN: usize = 8;

/// A span of time as clocks show it.
pub fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// Which run, in which state, how far: two rows.
pub fn header(buffer: &mut Buffer, area: Rect, event: &Event, theme: &Theme) {
    let width = usize::from(area.width);
    let time = match event.remaining {
        Some(left) => format!("{} gone, {} left ", clock(event.elapsed), clock(left)),
        None => format!("{} gone, no end set ", clock(event.elapsed)),
    };
    let name = event.name.as_deref().map_or(String::new(), |name| format!("{name}  "));
    let run = text::cut(&format!(" {name}{}", event.run), width.saturating_sub(time.len() + 1));
    buffer.set_stringn(area.x, area.y, run, width, theme.style(Tone::Strong));
    let x = area.right().saturating_sub(time.len() as u16).max(area.x);
    buffer.set_stringn(x, area.y, &time, width, theme.style(Tone::Plain));

    let row = Rect { y: area.y + 1, height: 1, ..area };
    let taken = state(buffer, row, event, theme).min(row.width);
    progress(buffer, Rect { x: row.x + taken, width: row.width - taken, ..row }, event, theme);
}

/// The run's state and the stage of each group; how many columns that takes.
fn state(buffer: &mut Buffer, row: Rect, event: &Event, theme: &Theme) -> u16 {
    let stages: Vec<String> = match event.stages.len() {
        1 => event.stages.values().cloned().collect(),
        _ => event.stages.iter().map(|(group, stage)| format!("{group}: {stage}")).collect(),
    };
    let most = usize::from(row.width / 2);
    let (state, stages) = (text::cut(&event.state.to_uppercase(), most), text::cut(&stages.join(", "), most));
    let tone = if event.state == "steady" { Tone::Good } else { Tone::Warn };
    let (x, _) = buffer.set_stringn(row.x, row.y, format!(" {state} "), most + 2, theme.banner(tone));
    let left = row.right().saturating_sub(x + 1);
    let (x, _) = buffer.set_stringn(x + 1, row.y, stages, left.into(), theme.style(Tone::Plain));
    x + 2 - row.x
}

/// The share of the run that is done, where its end is known.
fn progress(buffer: &mut Buffer, row: Rect, event: &Event, theme: &Theme) {
    let Some(left) = event.remaining else { return };
    let whole = event.elapsed + left.max(0.0);
    let share = if whole > 0.0 { event.elapsed / whole } else { 1.0 };
    let percent = format!(" {:>3.0} % ", share * 100.0);
    let room = usize::from(row.width).saturating_sub(percent.len());
    if room < PROGRESS_MIN {
        return;
    }
    let done = (share.clamp(0.0, 1.0) * room as f64).round() as usize;
    let (x, _) = buffer.set_stringn(row.x, row.y, "━".repeat(done), room, theme.style(Tone::Series(1)));
    let (x, _) = buffer.set_stringn(x, row.y, "─".repeat(room - done), room, theme.style(Tone::Quiet));
    buffer.set_stringn(x, row.y, &percent, percent.len(), theme.style(Tone::Quiet));
}

/// What must not be overlooked, the gravest first.
fn sentences(model: &Model, event: &Event, now: Duration) -> Vec<(Tone, String)> {
    let mut said: Vec<(Tone, String)> = Vec::new();
    if let Some(sentence) = model.lost() {
        said.push((Tone::Bad, format!("DAEMON LOST: {sentence}")));
    }
    if let Some(silence) = model.silence(now) {
        let silence = clock(silence.as_secs_f64());
        said.push((Tone::Bad, format!("NO WORD FROM THE DAEMON FOR {silence}: what is shown is old")));
    }
    let (limited, all) = (model.history().iter().filter(|row| row.saturated).count(), model.history().len());
    if event.saturated {
        let busy = event.now.busy_max * 100.0;
        said.push((
            Tone::Bad,
            format!("THE GENERATOR OR ITS HOST IS THE LIMIT (busiest core {busy:.0} %), not the target"),
        ));
    } else if limited > 0 {
        said.push((Tone::Warn, format!("the generator was the limit in {limited} of the last {all} s")));
    }
    if model.is_paused() {
        said.push((Tone::Warn, "PAUSED: nothing is sent, and paused time is not due; p goes on".into()));
    }
    let steps = crate::coder::steps::render::now(&event.steps);
    said.extend(steps.map(|(is_well, step)| (if is_well { Tone::Warn } else { Tone::Bad }, step)));
    let warnings = event.warnings.iter().filter(|warning| !warning.starts_with(SATURATION_WARNING));
    said.extend(warnings.map(|warning| (Tone::Warn, format!("! {warning}"))));
    said
}

/// [`sentences`] in at most `most` lines of `width`.
pub fn banners(
    model: &Model,
    event: &Event,
    now: Duration,
    width: usize,
    most: usize,
) -> Vec<(Tone, String)> {
    let said = sentences(model, event, now);
    let count = said.len();
    let mut lines: Vec<(Tone, String)> = Vec::new();
    for (place, (tone, sentence)) in said.into_iter().enumerate() {
        let left = most.saturating_sub(lines.len());
        if left == 0 {
            let more = format!(" (and {} more)", count - place);
            if let Some((_, last)) = lines.last_mut() {
                *last = text::cut(last, width.saturating_sub(more.len())) + &more;
            }
            break;
        }
        // What follows has at least a line.
        let rows = left.saturating_sub(usize::from(place + 1 < count)).max(1);
        lines.extend(text::within(&sentence, width, rows).into_iter().map(|line| (tone, line)));
    }
    lines
}

/// Draws them over the whole width.
pub fn draw_banners(buffer: &mut Buffer, area: Rect, banners: &[(Tone, String)], theme: &Theme) {
    for (row, (tone, line)) in area.rows().zip(banners) {
        let width = usize::from(row.width);
        buffer.set_stringn(row.x, row.y, format!(" {line:<width$}"), width, theme.banner(*tone));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_clocks_do() {
        assert_eq!(
            (clock(0.4), clock(61.0), clock(3661.0)),
            ("0:00".into(), "1:01".into(), "1:01:01".into())
        );
        assert_eq!((clock(-3.0), clock(f64::NAN)), ("0:00".into(), "0:00".into()));
    }
}
