//! Frames, compared with those in `snapshots/`. `SNAPSHOTS=write cargo test -p scalectl` writes them anew: look at the
//! difference before it is committed.

use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

use super::situations::{self, NOW};
use super::*;

fn frame(model: &Model, now: Duration, (width, height): (u16, u16), theme: Theme) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    terminal.draw(|frame| draw(frame, model, now, &theme)).expect("memory");
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let row = |y| (0..buffer.area.width).map(move |x| buffer[(x, y)].symbol()).collect::<String>();
    (0..buffer.area.height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
}

fn looks_as_before(name: &str, buffer: &Buffer) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/view/draw/snapshots").join(format!("{name}.txt"));
    let now = text(buffer);
    if std::env::var_os("SNAPSHOTS").is_some_and(|what| what == "write") {
        std::fs::write(&path, now).expect("written");
        return;
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(now == before, "{} was\n{before}\nand is\n{now}", path.display());
}

#[test]
fn every_situation_looks_as_before() {
    let theme = Theme::new(true);
    for (name, model) in situations::all() {
        looks_as_before(&format!("{name}-80x24"), &frame(&model, NOW, (80, 24), theme));
        looks_as_before(&format!("{name}-200x50"), &frame(&model, NOW, (200, 50), theme));
    }
    let (_, saturated) = situations::all().swap_remove(2);
    looks_as_before("saturated-40x10", &frame(&saturated, NOW, (40, 10), theme));
    let disrupted = situations::all().into_iter().find(|(name, _)| *name == "disrupted").expect("it is one");
    looks_as_before("disrupted-40x12", &frame(&disrupted.1, NOW, (40, 12), theme));
    looks_as_before("many-workers-120x36", &frame(&situations::many_workers(), NOW, (120, 36), theme));
    looks_as_before("silent-80x24", &frame(&saturated, NOW * 2, (80, 24), theme));
}

/// The words that matter in a situation are there on the smallest screen that is promised, whatever the layout.
#[test]
fn eighty_by_twenty_four_has_all_that_matters() {
    let always = [
        "nightly",
        "20261127-114423-1",
        "gone",
        "open",
        "offered",
        "sent",
        "received",
        "lateness",
        "response",
    ];
    let always =
        always.into_iter().chain(["p50", "p99", "max", "Connections", "Workers", "cpu 1", "cpu 2", "? help"]);
    let words = |name: &str| match name {
        "ramp" => vec!["RAMPING", "1,800 of 2,000 open", "14 connecting"],
        "saturated" => {
            vec!["THE GENERATOR OR ITS HOST IS THE LIMIT", "99 %", "generator 120,630", "! CERTIFICATES"]
        }
        "failures" => vec![
            "1,334 (17/s)",
            "refused 1,204",
            "322 (4/s)",
            "reset 310",
            "379 failed",
            "disconnected 58,020",
        ],
        "paused" => vec!["PAUSED", "p go on"],
        "thresholds" => vec!["1 of 4 NOT MET", "NOT MET", "412.00 ms at 74.0 s"],
        "disrupted" => {
            vec!["02:13:52 unmarked: 400 of 2,000 dropped", "200 away", "1 of 4 NOT MET", "8.20 s, 02:13:07"]
        }
        "lost" => vec!["DAEMON LOST", "any key closes"],
        _ => vec![],
    };
    for (name, model) in situations::all() {
        let text = text(&frame(&model, NOW, (80, 24), Theme::new(true)));
        let always: Vec<&str> = always.clone().collect();
        let general = if ["lost", "typing", "choosing", "help"].contains(&name) { &[] } else { &always[..] };
        for word in general.iter().copied().chain(words(name)) {
            assert!(text.contains(word), "{name}: no `{word}` in\n{text}");
        }
    }
}

#[test]
fn any_size_can_be_drawn() {
    let models: Vec<Model> = situations::all()
        .into_iter()
        .map(|(_, model)| model)
        .chain([situations::many_workers(), Model::default()])
        .collect();
    for width in [0, 1, 2, 9, 10, 40, 63, 64, 65, 79, 80, 109, 110, 111, 200, 600] {
        for height in [0, 1, 2, 3, 10, 17, 18, 19, 24, 33, 34, 50, 120] {
            for model in &models {
                frame(model, NOW * 3, (width, height), Theme::new(true));
            }
        }
    }
}

#[test]
fn without_colours_nothing_is_lost_and_nothing_is_coloured() {
    for (name, model) in situations::all() {
        let (plain, coloured) = (Theme::new(false), Theme::new(true));
        let plain = frame(&model, NOW, (120, 36), plain);
        assert_eq!(text(&plain), text(&frame(&model, NOW, (120, 36), coloured)), "{name}");
        assert!(
            plain.content.iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)),
            "{name}"
        );
    }
}
