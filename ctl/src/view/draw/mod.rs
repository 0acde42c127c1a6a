//! The view as a frame: pure, of the model and the time alone.
//!
//! From top to bottom: which run, how far, and what must not be overlooked ([`head`]), the [`panels`], and what can be
//! typed ([`foot`]). Panels say how many rows they need and would like; [`layout`] hands out what there is, so that a
//! small terminal has all that matters and a large one is filled.

mod disruptions;
mod foot;
mod head;
mod heat;
mod layout;
mod panels;
#[cfg(test)]
mod situations;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use scale_api::report::Event;
use scale_api::units::thousands;

use super::model::Model;
use super::prompt::Prompt;
use super::theme::{Theme, Tone};
use crate::render::{optional, rate, seconds};
use head::{banners, clock};

/// Below this there is no room for panels: a few lines say how it stands.
const WIDTH_MIN: u16 = 64;
const HEIGHT_MIN: u16 = 18;
/// Rows of banners: where panels have room for more, and where not.
const BANNER_ROWS_MAX: (usize, usize) = (6, 2);
const HEIGHT_OF_MORE: u16 = 34;

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, model: &Model, now: Duration, theme: &Theme) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let buffer = frame.buffer_mut();
    let Some(event) = model.event() else { return };
    let mut left = area;
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        small(buffer, area, model, event, now, theme);
    } else {
        head::header(buffer, cut_top(&mut left, 2), event, theme);
        let most = if area.height >= HEIGHT_OF_MORE { BANNER_ROWS_MAX.0 } else { BANNER_ROWS_MAX.1 };
        let banners = banners(model, event, now, usize::from(area.width) - 2, most);
        head::draw_banners(buffer, cut_top(&mut left, banners.len() as u16), &banners, theme);
        let lines = foot::lines(model, now, usize::from(area.width) - 2);
        let rows = (lines.len() as u16).min(left.height);
        left.height -= rows;
        foot::draw(buffer, Rect { y: left.bottom(), height: rows, ..left }, &lines, theme);
        layout::body(buffer, left, model, event, theme);
    }
    if model.prompt() == Some(&Prompt::Help) {
        foot::help(buffer, area, theme);
    }
    if let Some(column) = foot::cursor(model) {
        let x = area.x + column.min(area.width.saturating_sub(1) as usize) as u16;
        frame.set_cursor_position((x, area.bottom().saturating_sub(1)));
    }
}

fn cut_top(area: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    let top = Rect { height: rows, ..*area };
    *area = Rect { y: area.y + rows, height: area.height - rows, ..*area };
    top
}

/// A terminal without room for panels.
fn small(buffer: &mut Buffer, area: Rect, model: &Model, event: &Event, now: Duration, theme: &Theme) {
    let row = &event.now;
    let width = usize::from(area.width);
    let open = event.streams.get("open").copied().unwrap_or(0);
    let mut lines = vec![(Tone::Strong, format!("{} {}", event.state.to_uppercase(), clock(event.elapsed)))];
    lines.extend(banners(model, event, now, width, 2));
    lines.extend([
        (Tone::Plain, format!("{} of {} open", thousands(open), thousands(event.streams.values().sum()))),
        (Tone::Plain, format!("sent {} of {}", rate(row.rate_sent), rate(row.rate_offered))),
        (Tone::Plain, format!("response p99 {}", optional(row.response_p99, seconds))),
        (Tone::Plain, format!("lateness p99 {}", optional(row.lateness_p99, seconds))),
        (Tone::Plain, format!("busiest core {:.0} %", row.busy_max * 100.0)),
    ]);
    lines.extend(disruptions::last(event));
    let not_met =
        event.thresholds.iter().filter(|threshold| threshold.value.is_some() && !threshold.ok).count();
    if not_met > 0 {
        lines.push((Tone::Bad, format!("{not_met} thresholds NOT MET")));
    }
    lines.push((Tone::Quiet, format!("panels need {WIDTH_MIN}x{HEIGHT_MIN}")));
    let foot = foot::lines(model, now, width.max(2));
    let room = usize::from(area.height).saturating_sub(foot.len().min(2));
    lines.truncate(room);
    lines.extend(foot.into_iter().rev().take(2).rev());
    for (row, (tone, line)) in area.rows().zip(lines) {
        buffer.set_stringn(row.x, row.y, line, width, theme.style(tone));
    }
}
