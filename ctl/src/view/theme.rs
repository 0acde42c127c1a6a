//! Colours, which only underline what words and shapes say already: under `NO_COLOR` there are none.

use ratatui::style::{Color, Modifier, Style};

/// What a text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// Names, headings, what is beside the point.
    Quiet,
    /// What is looked for first.
    Strong,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Not as it should be.
    Bad,
    /// A line of figures, by its place.
    Series(usize),
    /// A cell of a heat map, from 1 to [`LEVELS`].
    Heat(usize),
}

/// Levels of a heat map.
pub const LEVELS: usize = 5;
/// From few samples to many: one hue, darker to brighter, of the 256 that terminals have.
const HEAT: [Color; LEVELS] =
    [Color::Indexed(24), Color::Indexed(31), Color::Indexed(38), Color::Indexed(80), Color::Indexed(159)];
const SERIES: [Color; 3] = [Color::LightBlue, Color::Cyan, Color::Green];

/// How tones look.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    colours: bool,
}

impl Theme {
    /// Without colours where `NO_COLOR` is set to anything.
    pub fn of_environment() -> Self {
        Self { colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// As asked.
    #[cfg(test)]
    pub fn new(colours: bool) -> Self {
        Self { colours }
    }

    /// The style of a tone.
    pub fn style(&self, tone: Tone) -> Style {
        let style = match tone {
            Tone::Strong | Tone::Bad => Style::new().add_modifier(Modifier::BOLD),
            Tone::Quiet => Style::new().add_modifier(Modifier::DIM),
            _ => Style::new(),
        };
        match tone {
            _ if !self.colours => style,
            Tone::Plain | Tone::Strong | Tone::Quiet => style,
            Tone::Good => style.fg(Color::Green),
            Tone::Warn => style.fg(Color::Yellow),
            Tone::Bad => style.fg(Color::Red),
            Tone::Series(place) => style.fg(SERIES[place % SERIES.len()]),
            Tone::Heat(level) => style.fg(HEAT[level.clamp(1, LEVELS) - 1]),
        }
    }

    /// The style of a line that must not be overlooked.
    pub fn banner(&self, tone: Tone) -> Style {
        self.style(tone).add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_there_are_none() {
        let tones =
            [Tone::Plain, Tone::Quiet, Tone::Strong, Tone::Good, Tone::Warn, Tone::Bad, Tone::Series(1)];
        for tone in tones.into_iter().chain((1..=LEVELS).map(Tone::Heat)) {
            let (style, banner) = (Theme::new(false).style(tone), Theme::new(false).banner(tone));
            assert_eq!((style.fg, style.bg, banner.fg, banner.bg), (None, None, None, None), "{tone:?}");
        }
        assert!(Theme::new(true).style(Tone::Bad).fg.is_some());
    }
}
