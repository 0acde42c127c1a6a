//! Which panels there are where, and how many rows each has.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use scale_api::report::{Event, Heat, SeriesRow};

use super::super::model::Model;
use super::super::theme::Theme;
use super::panels::{self, Canvas};
use super::{cut_top, disruptions, heat};

/// From so many columns on the panels stand in two columns.
const WIDTH_OF_TWO: u16 = 110;
/// From so many rows of panels on the service time has its own.
const HEIGHT_OF_SERVICE: u16 = 24;

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
    Disruptions,
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

/// Draws the panels.
pub fn body(buffer: &mut Buffer, area: Rect, model: &Model, event: &Event, theme: &Theme) {
    let with_heading = |count: usize| if count == 0 { 0 } else { 1 + rows_of(count) };
    let thresholds = with_heading(event.thresholds.len());
    let observed = with_heading(event.now.observe.len() + model.marks().len());
    let disrupted = |width| rows_of(disruptions::rows(event, width));
    let connections = |width| rows_of(panels::connections_rows(event, width));
    let workers = |width| rows_of(panels::workers_rows(event, width));
    if area.width < WIDTH_OF_TWO {
        let half = area.width / 2 - 1;
        let needs = [
            need(Panel::StreamsRow, 1, 1, 0),
            need(Panel::Rates, 5, 5, 1),
            need(Panel::Times, 3, if area.height < HEIGHT_OF_SERVICE { 3 } else { 4 }, 2),
            need(Panel::Response, 4, 16, 7),
            need(Panel::Pair, 3, connections(half).max(workers(half)).min(8), 4),
            need(Panel::Disruptions, disrupted(area.width).min(2), disrupted(area.width).min(7), 3),
            need(Panel::Thresholds, thresholds.min(3), thresholds.min(10), 5),
            need(Panel::Observed, 0, observed.min(6), 8),
            need(Panel::Lateness, 0, u16::MAX, 9),
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
        need(Panel::Workers, 3, workers(rest), 4),
        need(Panel::Disruptions, disrupted(rest).min(3), disrupted(rest), 2),
        need(Panel::Thresholds, thresholds.min(3), thresholds, 3),
        need(Panel::Observed, 0, observed, 5),
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
        Panel::Disruptions => disruptions::draw(canvas, event),
        Panel::Thresholds => panels::thresholds(canvas, event),
        Panel::Observed => panels::observed(canvas, model, event),
    }
}

fn map(canvas: &mut Canvas<'_>, model: &Model, title: &str, pick: fn(&SeriesRow) -> &Heat) {
    canvas.heading(title, "a column a second");
    heat::draw(canvas.buffer, canvas.area, model.history(), model.marks(), canvas.theme, pick);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shared_by_rank_and_none_is_given_twice() {
        let needs =
            [need(Panel::Rates, 5, 5, 1), need(Panel::Response, 4, 14, 3), need(Panel::Thresholds, 0, 6, 2)];
        assert_eq!(share(9, &needs), [5, 4, 0]);
        assert_eq!(share(8, &needs), [5, 0, 3]);
        assert_eq!(share(15, &needs), [5, 4, 6]);
        assert_eq!(share(100, &needs), [5, 14, 6]);
        assert_eq!(share(3, &needs), [0, 0, 3]);
        for rows in 0..40 {
            assert!(share(rows, &needs).iter().sum::<u16>() <= rows);
        }
    }
}
