//! The parts of the view, each drawn into the area that it is given: a heading, then rows.

use std::collections::BTreeMap;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, RenderDirection, Sparkline, Widget};
use scale_api::report::{Event, SeriesRow, ThresholdResult};
use scale_api::threshold;
use scale_api::units::thousands;

use super::super::model::Model;
use super::super::theme::{Theme, Tone};
use super::text::{self, cut, within, wrap};
use crate::render::{optional, rate, seconds};

/// Columns of a row's name.
const NAME: usize = 10;
/// Columns of a rate.
const RATE: usize = 12;
/// Columns of a time.
const TIME: usize = 10;
/// Columns of a bar.
const BAR_MAX: usize = 24;
/// The share of its core from which on a worker is near its end, and at it.
const BUSY_WARN: f64 = 0.75;
const BUSY_BAD: f64 = 0.90;
/// Workers of which each may have its bar; more of them share rows, of a character each.
const WORKERS_WITH_BARS_MAX: usize = 12;
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// A sparkline's values are whole numbers of this for the highest.
const SPARK_MAX: f64 = 1e6;

/// What a panel is drawn with.
pub struct Canvas<'a> {
    /// Where to.
    pub buffer: &'a mut Buffer,
    /// What of it is left.
    pub area: Rect,
    /// How tones look.
    pub theme: &'a Theme,
}

impl Canvas<'_> {
    /// Takes `rows` from the top of what is left.
    fn take(&mut self, rows: u16) -> Rect {
        let taken = Rect { height: rows.min(self.area.height), ..self.area };
        self.area =
            Rect { y: self.area.y + taken.height, height: self.area.height - taken.height, ..self.area };
        taken
    }

    /// The heading, with `beside` at its right end.
    pub fn heading(&mut self, title: &str, beside: &str) {
        let area = self.take(1);
        let quiet = self.theme.style(Tone::Quiet);
        let block = Block::new().borders(Borders::TOP).border_style(quiet);
        let block = block.title_top(Span::styled(format!(" {title} "), self.theme.style(Tone::Strong)));
        let fits = title.chars().count() + beside.chars().count() + 6 <= usize::from(area.width);
        let block = match fits && !beside.is_empty() {
            true => block.title_top(Line::styled(format!(" {beside} "), quiet).right_aligned()),
            false => block,
        };
        block.render(area, self.buffer);
    }

    /// A row of parts; what does not fit is left out.
    pub fn row<T: AsRef<str>>(&mut self, parts: impl IntoIterator<Item = (Tone, T)>) {
        let area = self.take(1);
        if area.height == 0 {
            return;
        }
        let spans: Vec<Span<'_>> = parts
            .into_iter()
            .map(|(tone, part)| Span::styled(part.as_ref().to_owned(), self.theme.style(tone)))
            .collect();
        let inner = Rect { x: area.x + 1, width: area.width.saturating_sub(1), ..area };
        Line::from(spans).render(inner, self.buffer);
    }

    /// How many rows are left.
    pub fn rows(&self) -> usize {
        usize::from(self.area.height)
    }

    /// How many characters a row has.
    pub fn width(&self) -> usize {
        usize::from(self.area.width.saturating_sub(2))
    }
}

/// Seconds as a line, the newest at the right. `highest` is the top of its scale.
fn spark(
    buffer: &mut Buffer,
    area: Rect,
    model: &Model,
    highest: f64,
    style: ratatui::style::Style,
    value: impl Fn(&SeriesRow) -> Option<f64>,
) {
    if area.width == 0 || area.height == 0 {
        return;
    }
    // What is there is seen, however little it is.
    let least = SPARK_MAX / (8.0 * f64::from(area.height)) + 1.0;
    let scaled = |value: f64| match value {
        v if v > 0.0 && highest > 0.0 => (v / highest * SPARK_MAX).max(least) as u64,
        _ => 0,
    };
    let values = model.history().iter().rev().take(usize::from(area.width));
    let values: Vec<Option<u64>> = values.map(|second| value(second).map(scaled)).collect();
    Sparkline::default()
        .data(values)
        .max(SPARK_MAX as u64)
        .direction(RenderDirection::RightToLeft)
        .style(style)
        .render(area, buffer);
}

fn highest(model: &Model, width: u16, value: impl Fn(&SeriesRow) -> Option<f64>) -> f64 {
    model.history().iter().rev().take(usize::from(width)).filter_map(value).fold(0.0, f64::max)
}

/// `share` of `width` characters, in eighths of one.
fn bar(share: f64, width: usize) -> String {
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    // What is there is seen.
    let eighths = if share > 0.0 { eighths.max(1).min(width * 8) } else { 0 };
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let text = "█".repeat(eighths / 8) + PARTS[eighths % 8];
    format!("{text:<width$}")
}

/// Streams by state: open ones first, then those that are any.
fn states(event: &Event) -> (u64, u64, Vec<(&str, u64)>) {
    let all = event.streams.values().sum();
    let open = event.streams.get("open").copied().unwrap_or(0);
    let others = event.streams.iter().filter(|(state, count)| *state != "open" && **count > 0);
    (open, all, others.map(|(state, count)| (state.as_str(), *count)).collect())
}

fn state_tone(state: &str) -> Tone {
    if state == "failed" { Tone::Bad } else { Tone::Plain }
}

/// Streams by state in one row.
pub fn streams_row(canvas: &mut Canvas<'_>, event: &Event) {
    let (open, all, others) = states(event);
    let mut parts = vec![
        (Tone::Quiet, format!("{:<NAME$} ", "streams")),
        (Tone::Strong, format!("{} of {} open", thousands(open), thousands(all))),
    ];
    for (state, count) in others {
        parts.push((Tone::Plain, ", ".into()));
        parts.push((state_tone(state), format!("{} {state}", thousands(count))));
    }
    canvas.row(parts);
}

/// Streams by state, a row each, and the stage of each group.
pub fn streams(canvas: &mut Canvas<'_>, event: &Event) {
    let (open, all, others) = states(event);
    canvas.heading("Streams", &format!("{} of {} open", thousands(open), thousands(all)));
    let width = canvas.width().saturating_sub(NAME + 12).min(BAR_MAX);
    for (state, count) in std::iter::once(("open", open)).chain(others) {
        let share = count as f64 / all.max(1) as f64;
        let tone = if state == "open" { Tone::Strong } else { state_tone(state) };
        canvas.row([
            (Tone::Quiet, format!("{state:<NAME$} ")),
            (tone, format!("{:>10} ", thousands(count))),
            (Tone::Series(1), bar(share, width)),
        ]);
    }
    if event.stages.len() > 1 {
        let groups = event.stages.iter().map(|(group, stage)| format!("{group}: {stage}")).collect();
        for line in text::first(groups, canvas.rows()) {
            canvas.row([(Tone::Plain, line)]);
        }
    }
}

/// Offered, sent and received, on one scale, and ticks that were missed.
pub fn rates(canvas: &mut Canvas<'_>, model: &Model, event: &Event) {
    let now = &event.now;
    canvas.heading("Rate", &format!("{} messages/s sent", thousands(now.messages_sent)));
    let each = (canvas.area.height.saturating_sub(1) / 3).max(1);
    let left = (NAME + RATE + 4) as u16;
    let width = canvas.area.width.saturating_sub(left + 1);
    let all = |row: &SeriesRow| Some(row.rate_offered.max(row.rate_sent).max(row.rate_received));
    let top = highest(model, width, all);
    type Of = fn(&SeriesRow) -> f64;
    let rates: [(&str, f64, Of); 3] = [
        ("offered", now.rate_offered, |row| row.rate_offered),
        ("sent", now.rate_sent, |row| row.rate_sent),
        ("received", now.rate_received, |row| row.rate_received),
    ];
    for (place, (name, value, of)) in rates.into_iter().enumerate() {
        let area = canvas.take(each);
        if area.height == 0 {
            return;
        }
        let foot = Rect { y: area.bottom() - 1, height: 1, ..area };
        let mut label = Canvas { buffer: canvas.buffer, area: foot, theme: canvas.theme };
        label.row([
            (Tone::Quiet, format!("{name:<NAME$} ")),
            (Tone::Strong, format!("{:>RATE$}", rate(value))),
        ]);
        let lines = Rect { x: area.x + left.min(area.width), width, ..area };
        spark(canvas.buffer, lines, model, top, canvas.theme.style(Tone::Series(place)), |row| Some(of(row)));
    }
    missed(canvas, event);
}

fn missed(canvas: &mut Canvas<'_>, event: &Event) {
    let by = &event.ticks_missed;
    let total = by.generator + by.backpressure + by.disconnected;
    let name = (Tone::Quiet, format!("{:<NAME$} ", "missed"));
    if total == 0 {
        canvas.row([name, (Tone::Good, "no tick".into())]);
        return;
    }
    let tone = |count: u64, tone: Tone| if count > 0 { tone } else { Tone::Quiet };
    canvas.row([
        name,
        (Tone::Plain, "ticks by ".into()),
        (tone(by.generator, Tone::Bad), format!("generator {}", thousands(by.generator))),
        (Tone::Plain, ", ".into()),
        (tone(by.backpressure, Tone::Warn), format!("backpressure {}", thousands(by.backpressure))),
        (Tone::Plain, ", ".into()),
        (tone(by.disconnected, Tone::Warn), format!("disconnected {}", thousands(by.disconnected))),
    ]);
}

/// Lateness, response and, where there is room, service: the last second's figures, and the p99 over time.
pub fn times(canvas: &mut Canvas<'_>, model: &Model, event: &Event) {
    let now = &event.now;
    type Of = fn(&SeriesRow) -> Option<f64>;
    let lateness = ("lateness", now.lateness_p50, now.lateness_max, (|row| row.lateness_p99) as Of);
    let response = ("response", now.response_p50, now.response_max, (|row| row.response_p99) as Of);
    let service = ("service", now.service_p50, None, (|row| row.service_p99) as Of);
    let left = (NAME + 1 + 3 * (TIME + 1) + 1) as u16;
    let width = canvas.area.width.saturating_sub(left + 1);
    canvas.heading("Time", if width > 20 { "p99 by second" } else { "" });
    let above = Rect { y: canvas.area.y.saturating_sub(1), height: 1, ..canvas.area };
    for (place, name) in ["p50", "p99", "max"].into_iter().enumerate() {
        let x = above.x + 1 + (NAME + 1 + place * (TIME + 1) + TIME - name.len() - 1) as u16;
        let style = canvas.theme.style(Tone::Strong);
        canvas.buffer.set_stringn(x, above.y, format!(" {name} "), width_from(above, x), style);
    }
    for (place, (name, p50, max, p99)) in [response, lateness, service].into_iter().enumerate() {
        let y = canvas.area.y;
        if canvas.rows() == 0 {
            return;
        }
        let cell = |value: Option<f64>| format!("{:>TIME$} ", optional(value, seconds));
        canvas.row([
            (Tone::Quiet, format!("{name:<NAME$} ")),
            (Tone::Plain, cell(p50)),
            (Tone::Strong, cell(p99(now))),
            (Tone::Plain, cell(max)),
        ]);
        let line = Rect { x: canvas.area.x + left.min(canvas.area.width), y, width, height: 1 };
        let top = highest(model, width, p99);
        spark(canvas.buffer, line, model, top, canvas.theme.style(Tone::Series(place)), p99);
    }
}

fn width_from(area: Rect, x: u16) -> usize {
    usize::from(area.right().saturating_sub(x))
}

/// What became of connections: by name, whether nothing did, and its sentence.
fn ends(event: &Event) -> [(&'static str, bool, String); 2] {
    let (failures, disconnects) = (&event.connect_failures, &event.disconnects);
    [
        ("failed", failures.is_empty(), classes(failures, event.now.connect_failures)),
        ("lost", disconnects.is_empty(), classes(disconnects, event.now.disconnects)),
    ]
}

/// Rows that [`connections`] fills where it is `width` wide.
pub fn connections_rows(event: &Event, width: u16) -> usize {
    let width = usize::from(width).saturating_sub(NAME + 3);
    1 + ends(event).iter().map(|(_, _, sentence)| wrap(sentence, width).len()).sum::<usize>()
}

/// Connects and disconnects by class.
pub fn connections(canvas: &mut Canvas<'_>, event: &Event) {
    let now = &event.now;
    let p99 = now.connect_p99.map_or(String::new(), |p99| format!(", p99 {}", seconds(p99)));
    canvas.heading("Connections", &format!("{}/s{p99}", thousands(now.connects)));
    let (rows, width) = (canvas.rows(), canvas.width().saturating_sub(NAME + 1));
    let ends = ends(event);
    // Each has its half, and what the other leaves of its own.
    let needs = ends.each_ref().map(|(_, _, sentence)| wrap(sentence, width).len());
    for (place, (name, is_none, sentence)) in ends.into_iter().enumerate() {
        let other = if place == 0 { needs[1].min(rows / 2) } else { 0 };
        let tone = if is_none { Tone::Good } else { Tone::Bad };
        for (index, line) in within(&sentence, width, (canvas.rows() - other).max(1)).into_iter().enumerate()
        {
            let name = if index == 0 { name } else { "" };
            canvas.row([(Tone::Quiet, format!("{name:<NAME$} ")), (tone, line)]);
        }
    }
}

/// `1,234 (12/s): refused 1,000, timeout 234`, each class with its count.
fn classes(counts: &BTreeMap<String, u64>, last_second: u64) -> String {
    if counts.is_empty() {
        return "none".into();
    }
    let mut by: Vec<(&String, &u64)> = counts.iter().collect();
    by.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let by: Vec<String> =
        by.into_iter().map(|(class, count)| format!("{class}\u{a0}{}", thousands(*count))).collect();
    let last = if last_second > 0 { format!(" ({}/s)", thousands(last_second)) } else { String::new() };
    format!("{}{last}: {}", thousands(counts.values().sum()), by.join(", "))
}

/// Rows that [`workers`] fills where it is `width` wide.
pub fn workers_rows(event: &Event, width: u16) -> usize {
    match event.workers.len() {
        count if count <= WORKERS_WITH_BARS_MAX => 1 + count.max(1),
        count => 2 + count.div_ceil(usize::from(width.saturating_sub(2)).max(1)),
    }
}

/// How much of its core each worker uses.
pub fn workers(canvas: &mut Canvas<'_>, event: &Event) {
    let busy: Vec<(u64, u64, f64)> = (event.workers.iter().enumerate())
        .map(|(place, worker)| {
            (worker.cpu, worker.streams, event.now.busy.get(place).copied().unwrap_or(0.0))
        })
        .collect();
    let beside = if event.saturated { "SATURATED" } else { "busy share of its core" };
    canvas.heading("Workers", beside);
    let tone = |busy: f64| match busy {
        b if b >= BUSY_BAD => Tone::Bad,
        b if b >= BUSY_WARN => Tone::Warn,
        _ => Tone::Good,
    };
    if busy.len() <= canvas.rows().min(WORKERS_WITH_BARS_MAX) {
        let label = |streams: u64| format!(" {} streams", thousands(streams));
        let widest = busy.iter().map(|worker| label(worker.1).len()).max().unwrap_or(0);
        let width = canvas.width().saturating_sub(14 + widest).min(BAR_MAX);
        for (cpu, streams, busy) in busy {
            canvas.row([
                (Tone::Quiet, format!("cpu {cpu:<3} ")),
                (tone(busy), format!("{:>4.0} % ", busy * 100.0)),
                (tone(busy), bar(busy, width)),
                (Tone::Quiet, label(streams)),
            ]);
        }
        return;
    }
    let Some(most) = busy.iter().copied().max_by(|a, b| a.2.total_cmp(&b.2)) else { return };
    let mean = busy.iter().map(|worker| worker.2).sum::<f64>() / busy.len() as f64;
    canvas.row([
        (Tone::Plain, format!("{} workers, mean {:.0} %, ", busy.len(), mean * 100.0)),
        (tone(most.2), format!("most {:.0} % (cpu {})", most.2 * 100.0, most.0)),
    ]);
    let glyph = |busy: f64| EIGHTHS[(busy.clamp(0.0, 1.0) * 8.0).ceil() as usize];
    for chunk in busy.chunks(canvas.width().max(1)).take(canvas.rows()) {
        canvas.row(chunk.iter().map(|(_, _, busy)| (tone(*busy), glyph(*busy).to_string())));
    }
}

/// Each threshold as it stands, those first that are not met.
pub fn thresholds(canvas: &mut Canvas<'_>, event: &Event) {
    // Where it is said why there is no value, it may be met all the same: nobody had to come back.
    let rank = |threshold: &ThresholdResult| match (threshold.value.is_some(), threshold.ok) {
        (true, false) => 0,
        (false, ok) if !ok || threshold.why.is_none() => 1,
        _ => 2,
    };
    let mut sorted: Vec<&ThresholdResult> = event.thresholds.iter().collect();
    sorted.sort_by_key(|result| (rank(result), !result.aborted));
    let failing = sorted.iter().filter(|threshold| rank(threshold) == 0).count();
    let said = match failing {
        0 => "none failing".to_owned(),
        count => format!("{count} of {} NOT MET", sorted.len()),
    };
    canvas.heading("Thresholds", &said);
    let rows = canvas.rows();
    let shown = if sorted.len() > rows { rows.saturating_sub(1) } else { rows };
    for threshold in sorted.iter().take(shown) {
        let (tone, word) = match rank(threshold) {
            0 => (Tone::Bad, "NOT MET"),
            1 => (Tone::Quiet, "-"),
            _ => (Tone::Good, "met"),
        };
        let has_none = threshold.value.is_none() && threshold.why.is_none();
        let mut value = if has_none { "no value yet".into() } else { threshold::show(threshold) };
        if let Some(at) = threshold.at.filter(|_| rank(threshold) == 0) {
            value += &format!(" at {}", seconds(at));
        }
        // Whose it is may be long; half a row is its own.
        let value = cut(
            &value,
            canvas.width().saturating_sub(10 + threshold.expression.len()).max(canvas.width() / 2),
        );
        let room = canvas.width().saturating_sub(value.chars().count() + 10);
        canvas.row([
            (tone, format!("{word:<8} ")),
            (Tone::Plain, format!("{:<room$} ", cut(&threshold.expression, room))),
            (tone, value),
        ]);
    }
    if sorted.len() > rows {
        let met = sorted.iter().skip(shown).all(|threshold| rank(threshold) == 2);
        let rest = sorted.len() - shown;
        canvas.row([(Tone::Quiet, format!("… and {rest} more{}", if met { ", all met" } else { "" }))]);
    }
}

/// What the queries of `[observe]` answered, and the last marks.
pub fn observed(canvas: &mut Canvas<'_>, model: &Model, event: &Event) {
    canvas.heading("Observed and marked", "");
    let observed = event.now.observe.iter().map(|(name, value)| format!("{name} {value:.4}"));
    let marks = model.marks().iter().rev().map(|mark| format!("▲ {} {}", seconds(mark.at), mark.text));
    for line in text::first(observed.chain(marks).collect(), canvas.rows()) {
        let line = cut(&line, canvas.width());
        canvas.row([(Tone::Plain, line)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_wide_as_they_are_told_and_show_what_is_there() {
        for share in [-1.0, 0.0, 0.001, 0.5, 0.999, 1.0, 7.0, f64::NAN] {
            for width in [0, 1, 7, 24] {
                assert_eq!(bar(share, width).chars().count(), width, "{share} in {width}");
            }
        }
        assert_eq!((bar(0.0, 4), bar(0.001, 4), bar(0.5, 4)), ("    ".into(), "▏   ".into(), "██  ".into()));
    }

    #[test]
    fn classes_are_told_the_most_frequent_first() {
        let counts = BTreeMap::from([("reset".to_owned(), 3), ("timeout".to_owned(), 1200)]);
        assert_eq!(classes(&counts, 0), "1,203: timeout\u{a0}1,200, reset\u{a0}3");
        assert_eq!(classes(&counts, 7), "1,203 (7/s): timeout\u{a0}1,200, reset\u{a0}3");
        assert_eq!(classes(&BTreeMap::new(), 0), "none");
    }
}
