//! Disruptions: the newest first, a sentence each.

use scale_api::disruption::Disruption;
use scale_api::report::Event;
use scale_api::units::thousands;

use super::super::theme::Tone;
use super::panels::Canvas;
use super::text::{within, wrap};

/// Of so many the panel would like to tell.
const TOLD: usize = 3;

/// Rows that [`draw`] fills where it is `width` wide; none where nothing was disrupted.
pub fn rows(event: &Event, width: u16) -> usize {
    let width = usize::from(width.saturating_sub(2));
    let sentences =
        newest(event).take(TOLD).map(|disruption| wrap(&sentence(event, disruption), width).len());
    match sentences.sum() {
        0 => 0,
        rows => rows + 1,
    }
}

/// Draws the newest. Each may have as many rows as those before it leave, and the newest all of them.
pub fn draw(canvas: &mut Canvas<'_>, event: &Event) {
    let away: u64 = event.disruptions.iter().map(|disruption| disruption.never_back).sum();
    let beside = if away > 0 { format!("{} away", thousands(away)) } else { "nobody away".into() };
    canvas.heading("Disruptions", &beside);
    for disruption in newest(event) {
        for line in within(&sentence(event, disruption), canvas.width(), canvas.rows()) {
            canvas.row([(tone(disruption), line)]);
        }
        if canvas.rows() == 0 {
            return;
        }
    }
}

/// The newest one's sentence, where there is one.
pub fn last(event: &Event) -> Option<(Tone, String)> {
    newest(event).next().map(|disruption| (tone(disruption), sentence(event, disruption)))
}

fn newest(event: &Event) -> impl Iterator<Item = &Disruption> {
    event.disruptions.iter().rev()
}

fn sentence(event: &Event, disruption: &Disruption) -> String {
    disruption.sentence(event.zero_at.unwrap_or(0.0), false)
}

const fn tone(disruption: &Disruption) -> Tone {
    match (disruption.streams_dropped, disruption.never_back) {
        (0, _) => Tone::Good,
        (_, 0) => Tone::Warn,
        _ => Tone::Bad,
    }
}
