//! The terminal while it is ours, and how it is given back.

use std::io::{self, BufWriter, Stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::crossterm::{cursor, execute};
use scale_api::report::Exit;

use super::draw;
use super::model::Model;
use super::theme::Theme;

static IS_OURS: AtomicBool = AtomicBool::new(false);

/// The whole terminal, its keys unbuffered. It is given back when this is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    theme: Theme,
}

impl Screen {
    /// Takes it.
    ///
    /// # Errors
    /// The terminal does not do what it is told.
    pub fn enter() -> io::Result<Self> {
        give_back_on_panic();
        IS_OURS.store(true, Ordering::SeqCst);
        let entered = terminal::enable_raw_mode()
            .and_then(|()| {
                execute!(io::stdout(), EnterAlternateScreen, terminal::Clear(terminal::ClearType::All))
            })
            .and_then(|()| Terminal::new(CrosstermBackend::new(BufWriter::new(io::stdout()))));
        match entered {
            Ok(terminal) => Ok(Self { terminal, theme: Theme::of_environment() }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Draws a frame.
    ///
    /// # Errors
    /// As for [`Self::enter`].
    pub fn draw(&mut self, model: &Model, now: Duration) -> io::Result<()> {
        self.terminal.draw(|frame| draw::draw(frame, model, now, &self.theme)).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Once for each time that it was taken. What fails here has no better place to say so.
fn give_back() {
    if IS_OURS.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
        let _ = terminal::disable_raw_mode();
    }
}

/// A panic, on whichever thread, is read on a terminal that works, and ends the program.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
            std::process::exit(i32::from(Exit::Internal as u8));
        }));
    });
}
