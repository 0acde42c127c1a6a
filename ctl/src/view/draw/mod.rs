//! The view as a frame: pure, of the model and the time alone.
//!
//! From top to bottom: which run and how far ([`header`]), what must not be overlooked ([`banners`]), the panels, and
//! what can be typed. Panels say how many rows they need and would like ([`Need`]); [`share`] hands out what there is, so
//! that a small terminal has all that matters and a large one is filled.

mod heat;
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
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Widget};
use scale_api::report::Event;
use scale_api::units::thousands;

use super::model::Model;
use super::prompt::{Change, Prompt};
use super::theme::{Theme, Tone};
use crate::render::{optional, rate, seconds};
use panels::Canvas;

/// Below this there is no room for panels: a few lines say how it stands.
const WIDTH_MIN: u16 = 64;
const HEIGHT_MIN: u16 = 18;
/// From here on the panels stand in two columns.
const WIDTH_OF_TWO: u16 = 110;
/// Rows of banners: where panels have room for more, and where not.
const BANNER_ROWS_MAX: (usize, usize) = (6, 2);
const HEIGHT_OF_MORE: u16 = 34;
/// From so many rows of panels on the service time has its own.
const HEIGHT_OF_SERVICE: u16 = 24;
/// Rows of a daemon's sentence at the foot.
const NOTICE_ROWS_MAX: usize = 3;
/// What the daemon says of saturation, which has a banner of its own.
const SATURATION_WARNING: &str = "the generator is the limit";

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
· below 0.1 %   ░ 2 %   ▒ 15 %   ▓ 40 %   █ above
▲ a mark   │ a stage begins";

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, model: &Model, now: Duration, theme: &Theme) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let buffer = frame.buffer_mut();
    let Some(event) = model.event() else {
        buffer.set_stringn(
            area.x,
            area.y,
            "waiting for the first second",
            area.width.into(),
            theme.style(Tone::Quiet),
        );
        return;
    };
    let mut left = area;
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        small(buffer, area, model, event, now, theme);
    } else {
        header(buffer, cut_top(&mut left, 2), event, theme);
        let most = if area.height >= HEIGHT_OF_MORE { BANNER_ROWS_MAX.0 } else { BANNER_ROWS_MAX.1 };
        let banners = banners(model, event, now, usize::from(area.width) - 2, most);
        draw_banners(buffer, cut_top(&mut left, banners.len() as u16), &banners, theme);
        let foot = foot(model, now, usize::from(area.width) - 2);
        let rows = foot.len() as u16;
        left.height = left.height.saturating_sub(rows);
        draw_foot(buffer, Rect { y: left.bottom(), height: rows, ..left }, &foot, theme);
        body(buffer, left, model, event, theme);
    }
    if model.prompt() == Some(&Prompt::Help) {
        help(buffer, area, theme);
    }
    if let Some(column) = cursor(model) {
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

/// A span of time as clocks show it.
fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// Which run, in which state, how far.
fn header(buffer: &mut Buffer, area: Rect, event: &Event, theme: &Theme) {
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

    let stages: Vec<String> = match event.stages.len() {
        1 => event.stages.values().cloned().collect(),
        _ => event.stages.iter().map(|(group, stage)| format!("{group}: {stage}")).collect(),
    };
    let tone = if event.state == "steady" { Tone::Good } else { Tone::Warn };
    let state = format!(" {} ", event.state.to_uppercase());
    let stages = text::cut(&stages.join(", "), width / 2);
    let y = area.y + 1;
    buffer.set_stringn(area.x, y, &state, width, theme.banner(tone));
    let at = state.chars().count() + 1;
    buffer.set_stringn(area.x + at as u16, y, &stages, width.saturating_sub(at), theme.style(Tone::Plain));
    let at = at + stages.chars().count() + 2;
    if let Some(left) = event.remaining.filter(|_| at + 8 < width) {
        let whole = event.elapsed + left.max(0.0);
        let share = if whole > 0.0 { event.elapsed / whole } else { 1.0 };
        let percent = format!(" {:>3.0} % ", share * 100.0);
        let room = width - at - percent.len();
        let done = (share.clamp(0.0, 1.0) * room as f64).round() as usize;
        let (x, quiet) = (area.x + at as u16, theme.style(Tone::Quiet));
        buffer.set_string(x, y, "━".repeat(done), theme.style(Tone::Series(1)));
        buffer.set_string(x + done as u16, y, "─".repeat(room - done), quiet);
        buffer.set_string(x + room as u16, y, percent, quiet);
    }
}

/// What must not be overlooked, the gravest first, in lines of `width`.
fn banners(model: &Model, event: &Event, now: Duration, width: usize, most: usize) -> Vec<(Tone, String)> {
    let mut said: Vec<(Tone, String)> = Vec::new();
    if let Some(sentence) = model.lost() {
        said.push((Tone::Bad, format!("DAEMON LOST: {sentence}")));
    }
    if let Some(silence) = model.silence(now) {
        said.push((
            Tone::Bad,
            format!("NO WORD FROM THE DAEMON FOR {}: what is shown is old", clock(silence.as_secs_f64())),
        ));
    }
    if event.saturated {
        said.push((
            Tone::Bad,
            format!(
                "THE GENERATOR OR ITS HOST IS THE LIMIT (busiest core {:.0} %), not the target",
                event.now.busy_max * 100.0
            ),
        ));
    } else {
        let seconds = model.history().iter().filter(|second| second.saturated).count();
        if seconds > 0 {
            let of = model.history().len();
            said.push((Tone::Warn, format!("the generator was the limit in {seconds} of the last {of} s")));
        }
    }
    if model.is_paused() {
        said.push((Tone::Warn, "PAUSED: nothing is sent, and paused time is not due; p goes on".into()));
    }
    let warnings = event.warnings.iter().filter(|warning| !warning.starts_with(SATURATION_WARNING));
    said.extend(warnings.map(|warning| (Tone::Warn, format!("! {warning}"))));

    let mut lines: Vec<(Tone, String)> = Vec::new();
    let count = said.len();
    for (place, (tone, sentence)) in said.into_iter().enumerate() {
        // Each that follows has at least a line.
        let room = most.saturating_sub(lines.len() + (count - place - 1).min(1)).max(1);
        if lines.len() >= most {
            let left = count - place;
            if let Some((_, last)) = lines.last_mut() {
                let more = format!(" (and {left} more)");
                *last = text::cut(last, width.saturating_sub(more.len())) + &more;
            }
            break;
        }
        lines.extend(text::within(&sentence, width, room).into_iter().map(|line| (tone, line)));
    }
    lines
}

fn draw_banners(buffer: &mut Buffer, area: Rect, banners: &[(Tone, String)], theme: &Theme) {
    for (row, (tone, line)) in area.rows().zip(banners) {
        let width = usize::from(row.width);
        buffer.set_stringn(row.x, row.y, format!(" {line:<width$}"), width, theme.banner(*tone));
    }
}

/// A panel with its place in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Panel {
    StreamsRow,
    Streams,
    Rates,
    Times,
    Response,
    Lateness,
    /// Connections and workers beside each other.
    Pair,
    Connections,
    Workers,
    Thresholds,
    Observed,
}

/// How many rows a panel needs and would like, and who comes first.
#[derive(Debug, Clone, Copy)]
struct Need {
    panel: Panel,
    min: u16,
    want: u16,
    /// The lowest is served first.
    rank: u8,
}

fn need(panel: Panel, min: u16, want: u16, rank: u8) -> Need {
    Need { panel, min, want: want.max(min), rank }
}

/// Hands out rows: to each what it needs, then to each what it would like, both by rank. A panel for whose least there is
/// no room has none.
fn share(rows: u16, needs: &[Need]) -> Vec<u16> {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|&index| needs[index].rank);
    let mut given = vec![0; needs.len()];
    let mut left = rows;
    for &index in order.iter().filter(|&&index| needs[index].min > 0) {
        if needs[index].min <= left {
            given[index] = needs[index].min;
            left -= needs[index].min;
        }
    }
    for &index in &order {
        // A heading alone says nothing.
        let more = needs[index].want.saturating_sub(given[index]).min(left);
        if given[index] > 0 || (needs[index].min == 0 && more > 1) {
            given[index] += more;
            left -= more;
        }
    }
    given
}

fn rows_of(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX - 1)
}

fn body(buffer: &mut Buffer, area: Rect, model: &Model, event: &Event, theme: &Theme) {
    let with_heading = |count: usize| if count == 0 { 0 } else { 1 + rows_of(count) };
    let thresholds = with_heading(event.thresholds.len());
    let observed = with_heading(event.now.observe.len() + model.marks().len());
    let connections = |width| rows_of(panels::connections_rows(event, width));
    let workers = |width| rows_of(panels::workers_rows(event, width));
    if area.width < WIDTH_OF_TWO {
        let half = area.width / 2 - 1;
        let needs = [
            need(Panel::StreamsRow, 1, 1, 0),
            need(Panel::Rates, 5, 5, 1),
            need(Panel::Times, 3, if area.height < HEIGHT_OF_SERVICE { 3 } else { 4 }, 2),
            need(Panel::Response, 4, 16, 6),
            need(Panel::Pair, 3, connections(half).max(workers(half)).min(8), 3),
            need(Panel::Thresholds, thresholds.min(3), thresholds.min(10), 4),
            need(Panel::Observed, 0, observed.min(6), 7),
            need(Panel::Lateness, 0, u16::MAX, 8),
        ];
        column(buffer, area, &needs, model, event, theme);
        return;
    }
    let groups = if event.stages.len() > 1 { event.stages.len() } else { 0 };
    let states = event.streams.iter().filter(|(state, count)| *state == "open" || **count > 0).count();
    let (wide, rest) = (area.width / 5 * 3, area.width - area.width / 5 * 3);
    // Each of the three lines is as high as the others: one row, or more.
    let rates = 2 + 3 * (area.height / 12).clamp(1, 6);
    let left = [
        need(Panel::Rates, 5, rates, 1),
        need(Panel::Times, 4, 4, 0),
        need(Panel::Response, 4, u16::MAX, 3),
        need(Panel::Lateness, 4, area.height / 4, 2),
    ];
    let right = [
        need(Panel::Streams, 2, 1 + rows_of(states.max(1) + groups), 0),
        need(Panel::Connections, 3, connections(rest), 1),
        need(Panel::Workers, 3, workers(rest), 3),
        need(Panel::Thresholds, thresholds.min(3), thresholds, 2),
        need(Panel::Observed, 0, observed, 4),
    ];
    column(buffer, Rect { width: wide - 1, ..area }, &left, model, event, theme);
    column(buffer, Rect { x: area.x + wide, width: rest, ..area }, &right, model, event, theme);
}

fn column(buffer: &mut Buffer, mut area: Rect, needs: &[Need], model: &Model, event: &Event, theme: &Theme) {
    let rows = share(area.height, needs);
    for (need, rows) in needs.iter().zip(rows).filter(|(_, rows)| *rows > 0) {
        let area = cut_top(&mut area, rows);
        panel(need.panel, &mut Canvas { buffer, area, theme }, model, event);
    }
}

fn panel(panel: Panel, canvas: &mut Canvas<'_>, model: &Model, event: &Event) {
    match panel {
        Panel::StreamsRow => panels::streams_row(canvas, event),
        Panel::Streams => panels::streams(canvas, event),
        Panel::Rates => panels::rates(canvas, model, event),
        Panel::Times => panels::times(canvas, model, event),
        Panel::Response => map(canvas, model, "Response over time", |second| &second.response_heat),
        Panel::Lateness => map(canvas, model, "Lateness over time", |second| &second.lateness_heat),
        Panel::Pair => {
            let half = canvas.area.width / 2;
            let left = Rect { width: half - 1, ..canvas.area };
            let right = Rect { x: canvas.area.x + half, width: canvas.area.width - half, ..canvas.area };
            panels::connections(
                &mut Canvas { buffer: canvas.buffer, area: left, theme: canvas.theme },
                event,
            );
            panels::workers(&mut Canvas { buffer: canvas.buffer, area: right, theme: canvas.theme }, event);
        }
        Panel::Connections => panels::connections(canvas, event),
        Panel::Workers => panels::workers(canvas, event),
        Panel::Thresholds => panels::thresholds(canvas, event),
        Panel::Observed => panels::observed(canvas, model, event),
    }
}

fn map(
    canvas: &mut Canvas<'_>,
    model: &Model,
    title: &str,
    pick: fn(&scale_api::report::SeriesRow) -> &scale_api::report::Heat,
) {
    canvas.heading(title, "a column a second");
    heat::draw(canvas.buffer, canvas.area, model.history(), model.marks(), canvas.theme, pick);
}

/// What stands at the foot: an answer, a question, or the keys.
fn foot(model: &Model, now: Duration, width: usize) -> Vec<(Tone, String)> {
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

fn question(prompt: &Prompt, model: &Model, width: usize) -> Vec<(Tone, String)> {
    match prompt {
        Prompt::Help => vec![(Tone::Quiet, "any key closes the help".into())],
        Prompt::Stop => {
            vec![(Tone::Warn, "end the run?   d in order   n now, exit code 5   any other key: no".into())]
        }
        Prompt::Group { selected, .. } => {
            let groups = model.event().into_iter().flat_map(|event| event.stages.keys());
            let names = groups.enumerate().map(|(index, group)| match index == *selected {
                true => format!("[{} {group}]", index + 1),
                false => format!(" {} {group} ", index + 1),
            });
            let lines = text::wrap(&names.collect::<Vec<_>>().join(" "), width);
            let mut lines: Vec<(Tone, String)> = lines.into_iter().map(|line| (Tone::Strong, line)).collect();
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
fn cursor(model: &Model) -> Option<usize> {
    match model.prompt() {
        Some(Prompt::Line { change, group, text, .. }) => {
            Some(1 + asked(*change, group).chars().count() + Span::raw(text).width())
        }
        _ => None,
    }
}

fn draw_foot(buffer: &mut Buffer, area: Rect, lines: &[(Tone, String)], theme: &Theme) {
    for (row, (tone, line)) in area.rows().zip(lines) {
        let width = usize::from(row.width.saturating_sub(1));
        buffer.set_stringn(row.x + 1, row.y, line, width, theme.style(*tone));
    }
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
    let not_met =
        event.thresholds.iter().filter(|threshold| threshold.value.is_some() && !threshold.ok).count();
    if not_met > 0 {
        lines.push((Tone::Bad, format!("{not_met} thresholds NOT MET")));
    }
    lines.push((Tone::Quiet, format!("panels need {WIDTH_MIN}x{HEIGHT_MIN}")));
    let foot = foot(model, now, width.max(2));
    let room = usize::from(area.height).saturating_sub(foot.len().min(2));
    lines.truncate(room);
    lines.extend(foot.into_iter().rev().take(2).rev());
    for (row, (tone, line)) in area.rows().zip(lines) {
        buffer.set_stringn(row.x, row.y, line, width, theme.style(tone));
    }
}

/// What the keys do, over everything else.
fn help(buffer: &mut Buffer, area: Rect, theme: &Theme) {
    let lines: Vec<Line<'_>> = HELP.lines().map(|line| Line::raw(format!(" {line}"))).collect();
    let (width, height) = (70.min(area.width), (lines.len() as u16 + 2).min(area.height));
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    Clear.render(place, buffer);
    let block = Block::bordered().title(Span::styled(" Help ", theme.style(Tone::Strong)));
    Paragraph::new(lines).block(block).render(place, buffer);
}
