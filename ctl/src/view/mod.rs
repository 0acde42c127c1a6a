//! The live view of a run on a terminal.
//!
//! [`model`] is what is known and what is being typed: seconds, answers and keys go in, wishes come out. [`draw`] makes a
//! frame of it. Both are pure. Here is the loop between them, the daemon and the terminal: one channel, and a thread
//! each for what the daemon says, for keys, for signals, and for what is asked of the daemon.
//!
//! Holds always: the terminal is given back on every way out ([`screen`]): the run's end, an error, a panic, a signal.
//! Steps of a scenario that have no streams are lines, as without a terminal; the view is for traffic.

mod draw;
mod model;
mod prompt;
mod screen;
mod theme;

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind};
use ratatui::crossterm::terminal;
use scale_api::http::{MarkRequest, StopRequest};
use scale_api::report::{Event, Exit, Report};
use serde_json::{Value, json};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::low_level::{emulate_default_handler, raise};

use crate::client::{Client, Failure};
use crate::follow::{Lines, Printer, Said, left};
use crate::{render, say};
use model::{Effect, Model, Wish};
use screen::Screen;

/// What a first Ctrl-C is answered with.
pub const INTERRUPTED: &str = "ending the run in order; Ctrl-C again ends it at once";

/// Messages that wait for the loop; who has more waits, too.
const MESSAGES_MAX: usize = 64;
/// Wishes that wait for the daemon.
const WISHES_MAX: usize = 4;
/// Characters of a line that is typed where there is no screen.
const TYPED_MAX: usize = 16;
/// Without a message the view is drawn this often: silence is a message, too.
const REDRAW: Duration = Duration::from_secs(1);
/// How long the last figures of a lost daemon are shown if nobody presses a key.
const LOST_SHOWN: Duration = Duration::from_secs(10);

/// Whether there is somebody to look at it and a terminal that can show it.
pub fn is_possible() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    // Some have no size: nothing could be drawn on them.
    let has_room = || terminal::size().is_ok_and(|(width, height)| width > 0 && height > 0);
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !is_dumb && has_room()
}

/// What the loop waits for.
enum Message {
    Second(Box<Event>),
    Ended(Box<Report>),
    Lost(Failure),
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    Signal(i32),
    Answered(Wish, Result<(), Failure>),
}

/// Follows the run `id`, whose events are `lines`, to its end.
///
/// # Errors
/// The daemon is lost, or the terminal is.
pub fn follow(client: &Client, id: &str, lines: Lines) -> Result<Report, Failure> {
    let (sender, messages) = sync_channel(MESSAGES_MAX);
    listen_to_signals(sender.clone())?;
    listen_to_keys(sender.clone());
    listen_to_daemon(lines, sender.clone());
    let wishes = ask(client.clone(), id.to_owned(), sender);
    let session = Session {
        id: id.to_owned(),
        model: Model::default(),
        screen: None,
        printer: Printer::default(),
        typed: String::new(),
        wishes,
        lost: None,
    };
    session.run(&messages)
}

fn listen_to_daemon(mut lines: Lines, sender: SyncSender<Message>) {
    thread::spawn(move || {
        loop {
            let message = match lines.wait() {
                Ok(Said::Second(event)) => Message::Second(event),
                Ok(Said::Report(report)) => Message::Ended(report),
                Ok(Said::Unknown) => continue,
                Err(failure) => Message::Lost(failure),
            };
            let is_last = !matches!(message, Message::Second(_));
            if sender.send(message).is_err() || is_last {
                return;
            }
        }
    });
}

/// Keys at once where the screen is ours, else with Enter.
fn listen_to_keys(sender: SyncSender<Message>) {
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            let message = match event {
                event::Event::Key(key) if key.kind != KeyEventKind::Release => Message::Key(key),
                event::Event::Resize(..) => Message::Resized,
                _ => continue,
            };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
}

fn listen_to_signals(sender: SyncSender<Message>) -> Result<(), Failure> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCONT])
        .map_err(|error| Failure { message: error.to_string(), exit: Exit::Internal })?;
    thread::spawn(move || signals.forever().try_for_each(|signal| sender.send(Message::Signal(signal))));
    Ok(())
}

/// Takes wishes and asks the daemon, one after the other, so that the view goes on meanwhile.
fn ask(client: Client, id: String, sender: SyncSender<Message>) -> SyncSender<Wish> {
    let (wishes, asked) = sync_channel::<Wish>(WISHES_MAX);
    thread::spawn(move || {
        for wish in asked {
            let answer = send(&client, &id, &wish);
            if sender.send(Message::Answered(wish, answer)).is_err() {
                return;
            }
        }
    });
    wishes
}

fn send(client: &Client, id: &str, wish: &Wish) -> Result<(), Failure> {
    let run = format!("/v1/runs/{id}");
    let post = |verb: &str, body: Value| client.send::<Value>("POST", &format!("{run}/{verb}"), &body);
    match wish {
        Wish::Pause => post("pause", json!({})),
        Wish::Resume => post("resume", json!({})),
        Wish::Set(change) => client.send("PATCH", &run, change),
        Wish::Mark(text) => {
            post("marks", json!(MarkRequest { text: text.clone(), ..MarkRequest::default() }))
        }
        Wish::Stop { now } => post("stop", json!(StopRequest { now: *now })),
        Wish::Abort => post("abort", json!({})),
    }
    .map(|_| ())
}

/// How following a run came to its end.
enum End {
    Report(Box<Report>),
    Lost(Failure),
    /// The run goes on without us.
    Left,
    Signal(i32),
}

/// A run while it is followed.
struct Session {
    id: String,
    model: Model,
    /// Taken while there is traffic to show.
    screen: Option<Screen>,
    printer: Printer,
    /// What is typed while there is no screen.
    typed: String,
    wishes: SyncSender<Wish>,
    lost: Option<(Failure, Duration)>,
}

impl Session {
    fn run(mut self, messages: &Receiver<Message>) -> Result<Report, Failure> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the view's one clock; what it shows has the daemon's times"
        )]
        let started = Instant::now();
        let end = loop {
            let message = messages.recv_timeout(REDRAW);
            let now = started.elapsed();
            let flow = match message {
                Ok(message) => self.take(message, now)?,
                Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
                Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(End::Lost(Failure::lost())),
            };
            if let ControlFlow::Break(end) = flow {
                break end;
            }
            if let Some((failure, _)) = self.lost.take_if(|(_, at)| now.saturating_sub(*at) >= LOST_SHOWN) {
                break End::Lost(failure);
            }
            if let Some(screen) = &mut self.screen {
                screen.draw(&self.model, now).map_err(|error| no_terminal(&error))?;
            }
        };
        self.end(end)
    }

    fn take(&mut self, message: Message, now: Duration) -> Result<ControlFlow<End>, Failure> {
        let effect = match message {
            Message::Second(event) => {
                self.second(*event, now)?;
                Effect::Nothing
            }
            Message::Ended(report) => return Ok(ControlFlow::Break(End::Report(report))),
            Message::Lost(failure) if self.screen.is_some() => {
                self.model.lose(failure.message.clone());
                self.lost = Some((failure, now));
                Effect::Nothing
            }
            Message::Lost(failure) => return Ok(ControlFlow::Break(End::Lost(failure))),
            Message::Key(key) if self.screen.is_some() => self.model.key(key),
            Message::Key(key) => self.key_of_a_line(key),
            Message::Resized => Effect::Nothing,
            Message::Signal(SIGINT) => self.model.interrupt(),
            Message::Signal(SIGCONT) => {
                self.take_screen_again()?;
                Effect::Nothing
            }
            Message::Signal(signal) => return Ok(ControlFlow::Break(End::Signal(signal))),
            Message::Answered(wish, answer) => {
                self.answer(&wish, answer.err(), now);
                Effect::Nothing
            }
        };
        self.follow_up(effect, now)
    }

    /// Traffic is viewed, everything else is lines.
    fn second(&mut self, event: Event, now: Duration) -> Result<(), Failure> {
        if event.coder.is_some() || event.streams.is_empty() {
            self.screen = None;
            self.printer.second(&event);
            return Ok(());
        }
        self.model.second(event, now);
        if self.screen.is_none() {
            self.printer.end();
            self.screen = Some(Screen::enter().map_err(|error| no_terminal(&error))?);
        }
        Ok(())
    }

    /// Without a screen, keys come by the line: `q` leaves, as it does without a view.
    fn key_of_a_line(&mut self, key: KeyEvent) -> Effect {
        match key.code {
            KeyCode::Enter if std::mem::take(&mut self.typed).trim() == "q" => return Effect::Leave,
            KeyCode::Char(c) if self.typed.len() < TYPED_MAX => self.typed.push(c),
            _ => {}
        }
        Effect::Nothing
    }

    fn answer(&mut self, wish: &Wish, refusal: Option<Failure>, now: Duration) {
        match refusal {
            Some(failure) if self.screen.is_none() => eprintln!("scalectl: {}", failure.message),
            refusal => self.model.answer(wish, refusal.map(|failure| failure.message), now),
        }
    }

    fn follow_up(&mut self, effect: Effect, now: Duration) -> Result<ControlFlow<End>, Failure> {
        match effect {
            Effect::Nothing => {}
            Effect::Ask(wish) => {
                if wish == Wish::Abort && self.screen.is_none() {
                    eprintln!("scalectl: {INTERRUPTED}");
                }
                if let Err(TrySendError::Full(_)) = self.wishes.try_send(wish) {
                    self.model.say(
                        "the daemon has not answered yet; q leaves the run going".into(),
                        true,
                        now,
                    );
                }
            }
            Effect::Leave => return Ok(ControlFlow::Break(End::Left)),
            Effect::Close => {
                let failure = self.lost.take().map_or_else(Failure::lost, |(failure, _)| failure);
                return Ok(ControlFlow::Break(End::Lost(failure)));
            }
            Effect::Suspend => {
                let was_ours = self.screen.take().is_some();
                // Returns once the shell continues us, or at once where there is no shell that could.
                let _ = raise(SIGTSTP);
                if was_ours {
                    self.screen = Some(Screen::enter().map_err(|error| no_terminal(&error))?);
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whoever stopped us has used the terminal meanwhile.
    fn take_screen_again(&mut self) -> Result<(), Failure> {
        if self.screen.take().is_some() {
            self.screen = Some(Screen::enter().map_err(|error| no_terminal(&error))?);
        }
        Ok(())
    }

    fn end(mut self, end: End) -> Result<Report, Failure> {
        let was_ours = self.screen.take().is_some();
        self.printer.end();
        match end {
            End::Report(report) => Ok(*report),
            End::Lost(failure) => {
                if let Some(event) = self.model.event().filter(|_| was_ours) {
                    say(&render::status(event));
                }
                Err(failure)
            }
            End::Left => {
                let id = self.model.event().map_or(self.id, |event| event.run.clone());
                eprintln!("{}", left(&id));
                std::process::exit(0);
            }
            End::Signal(signal) => {
                let _ = emulate_default_handler(signal);
                Err(Failure {
                    message: format!("ended by signal {signal}; the run goes on"),
                    exit: Exit::Aborted,
                })
            }
        }
    }
}

fn no_terminal(error: &std::io::Error) -> Failure {
    Failure {
        message: format!("cannot use this terminal: {error}; the run goes on, `scalectl watch` follows it"),
        exit: Exit::Internal,
    }
}
