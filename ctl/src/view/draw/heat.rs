//! Times over time: a column a second, a row a span of [`scale_api::heat`]'s rows, a cell the share of that second's
//! messages. The shape of a cell says it; the colour repeats it.

use std::collections::VecDeque;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use scale_api::heat::{self, ROWS};
use scale_api::report::{Heat, Mark, SeriesRow};

use super::super::theme::{LEVELS, Theme, Tone};
use crate::render::seconds;

/// Cells by level; 0 has no message.
const CELLS: [&str; LEVELS + 1] = [" ", "·", "░", "▒", "▓", "█"];
/// The shares of a second's messages from which on a cell has the levels 2 to 5.
const SHARES: [f64; LEVELS - 1] = [0.001, 0.02, 0.15, 0.40];
/// Columns of the labels.
const LABEL: u16 = 9;
/// From so many rows on the last has the moments, where there are any.
const AXIS_FROM_ROWS: u16 = 6;

/// Which rows a map shows.
#[derive(Debug, PartialEq, Eq)]
struct Scale {
    /// The lowest.
    first: usize,
    /// How many of them make one on the screen.
    each: usize,
}

impl Scale {
    /// The rows that hold samples, spread over `height`.
    fn of<'a>(seconds: impl Iterator<Item = &'a Heat>, height: usize) -> Option<Self> {
        let spans = seconds.filter(|heat| !heat.counts.is_empty());
        let spans = spans.map(|heat| {
            let first = usize::try_from(heat.first).unwrap_or(ROWS).min(ROWS - 1);
            (first, (first + heat.counts.len() - 1).min(ROWS - 1))
        });
        let (low, high) = spans.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))?;
        let each = (high - low + 1).div_ceil(height.max(1));
        // Of rows to spare most are above: that is where it gets slow.
        let spare = (height * each).saturating_sub(high - low + 1);
        let first = low.saturating_sub(spare / 4).min(ROWS.saturating_sub(height * each));
        Some(Self { first, each })
    }

    fn count(&self, heat: &Heat, row: usize) -> u64 {
        let from = self.first + row * self.each;
        heat.rows().iter().skip(from).take(self.each).sum()
    }
}

fn level(count: u64, of: u64) -> usize {
    if count == 0 {
        return 0;
    }
    let share = count as f64 / of as f64;
    1 + SHARES.iter().filter(|&&from| share >= from).count()
}

/// Draws the map of what `pick` takes from each second.
pub fn draw(
    buffer: &mut Buffer,
    area: Rect,
    history: &VecDeque<SeriesRow>,
    marks: &VecDeque<Mark>,
    theme: &Theme,
    pick: fn(&SeriesRow) -> &Heat,
) {
    if area.width <= LABEL || area.height == 0 {
        return;
    }
    let shown: Vec<&SeriesRow> = history.iter().rev().take(usize::from(area.width - LABEL)).collect();
    let moments = if area.height >= AXIS_FROM_ROWS { moments(&shown, marks) } else { Vec::new() };
    let height = area.height - u16::from(!moments.is_empty());
    let column = |age: usize| area.right() - 1 - age as u16;
    let Some(scale) = Scale::of(shown.iter().map(|second| pick(second)), usize::from(height)) else {
        buffer.set_string(area.x + LABEL, area.y, "none yet", theme.style(Tone::Quiet));
        return;
    };
    for row in 0..height {
        let y = area.y + height - 1 - row;
        let label = seconds(heat::lower_edge(scale.first + usize::from(row) * scale.each));
        buffer.set_string(area.x, y, format!("{label:>8}"), theme.style(Tone::Quiet));
        for (age, second) in shown.iter().enumerate() {
            let heat = pick(second);
            let level = level(scale.count(heat, usize::from(row)), heat.counts.iter().sum());
            buffer.set_string(column(age), y, CELLS[level], theme.style(Tone::Heat(level)));
        }
    }
    for (age, symbol, tone) in moments {
        buffer.set_string(column(age), area.bottom() - 1, symbol, theme.style(tone));
    }
}

/// Where somebody set a mark, and where a stage began, by the age of the second. `shown`: newest first.
fn moments(shown: &[&SeriesRow], marks: &VecDeque<Mark>) -> Vec<(usize, &'static str, Tone)> {
    let moment = |(age, second): (usize, &&SeriesRow)| {
        let began = second.at - second.seconds as f64;
        let is_marked = marks.iter().any(|mark| mark.at > began && mark.at <= second.at);
        let is_new = shown.get(age + 1).is_some_and(|before| before.stage != second.stage);
        let mark = is_marked.then_some((age, "▲", Tone::Warn));
        mark.or(is_new.then_some((age, "│", Tone::Quiet)))
    };
    shown.iter().enumerate().filter_map(moment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heat(first: u64, counts: &[u64]) -> Heat {
        Heat { first, counts: counts.to_vec() }
    }

    #[test]
    fn all_samples_are_on_the_map_whatever_its_height() {
        let seconds = [heat(3, &[5, 1]), heat(0, &[]), heat(20, &[1, 0, 7])];
        for height in 1..60 {
            let scale = Scale::of(seconds.iter(), height).unwrap();
            for second in &seconds {
                let shown: u64 = (0..height).map(|row| scale.count(second, row)).sum();
                assert_eq!(shown, second.counts.iter().sum::<u64>(), "{height} rows: {scale:?}");
            }
        }
        assert_eq!(Scale::of([heat(0, &[])].iter(), 5), None);
    }

    #[test]
    fn what_the_daemon_must_not_send_is_no_crash() {
        let seconds = [heat(u64::MAX - 5, &[1]), heat(39, &[1; 90])];
        let scale = Scale::of(seconds.iter(), 4);
        assert!(scale.is_none_or(|scale| (0..4).all(|row| scale.count(&seconds[0], row) <= 1)));
    }

    #[test]
    fn one_slow_message_among_many_is_seen() {
        assert_eq!((level(0, 1_000_000), level(1, 1_000_000), level(1, 1)), (0, 1, LEVELS));
        assert!((1..100).all(|share| level(share, 100) <= level(share + 1, 100)));
    }

    #[test]
    fn marks_and_stages_are_moments_of_their_second() {
        let second =
            |at: f64, stage: &str| SeriesRow { at, seconds: 1, stage: stage.into(), ..SeriesRow::default() };
        let (old, mid, new) = (second(1.0, "ramping"), second(2.0, "main/1"), second(3.0, "main/1"));
        let marks = VecDeque::from([Mark { at: 2.5, text: "deploy".into() }]);
        let found: Vec<(usize, &str)> =
            moments(&[&new, &mid, &old], &marks).into_iter().map(|(age, symbol, _)| (age, symbol)).collect();
        assert_eq!(found, [(0, "▲"), (1, "│")]);
    }
}
