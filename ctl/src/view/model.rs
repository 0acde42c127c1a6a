//! What the view knows of a run, and what keys ask for. It owns no clock, no terminal and no socket: seconds, answers
//! and keys go in with the time since the view began, wishes come out.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use scale_api::http::SetRequest;
use scale_api::report::{Event, Mark, SeriesRow};

use super::prompt::{Change, Prompt};

/// Seconds that are kept; a wider terminal shows no more.
pub const HISTORY_MAX: usize = 512;
/// Marks that are kept.
pub const MARKS_MAX: usize = 64;
/// The daemon says something each second; after this its silence is shown.
const SILENCE: Duration = Duration::from_secs(3);
/// How long an answer is shown; a refusal stays until the next key.
const NOTICE_SHOWN: Duration = Duration::from_secs(8);

/// What the daemon is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Stop sending.
    Pause,
    /// Send again.
    Resume,
    /// Change a group.
    Set(SetRequest),
    /// Name this moment.
    Mark(String),
    /// End the run.
    Stop {
        /// At once instead of in order.
        now: bool,
    },
    /// End the run in order, with the verdict "aborted".
    Abort,
}

impl Wish {
    /// What is said once it is done.
    pub fn done(&self) -> String {
        match self {
            Self::Pause => "paused: nothing is sent, and paused time is not due".into(),
            Self::Resume => "going on".into(),
            Self::Set(change) => {
                let of = change.group.as_ref().map_or(String::new(), |group| format!(" of group {group}"));
                match (change.rate, change.conns) {
                    (Some(rate), _) => format!("rate{of} is now {rate} a stream"),
                    (_, conns) => {
                        format!("streams{of}: now {}", scale_api::units::thousands(conns.unwrap_or(0)))
                    }
                }
            }
            Self::Mark(text) => format!("marked: {text}"),
            Self::Stop { now: false } => "ending the run in order".into(),
            Self::Stop { now: true } => "ending the run at once".into(),
            Self::Abort => super::INTERRUPTED.into(),
        }
    }
}

/// What follows from a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Nothing beyond what is drawn.
    Nothing,
    /// The daemon is asked.
    Ask(Wish),
    /// The run goes on without this program.
    Leave,
    /// This program is stopped until the shell continues it.
    Suspend,
    /// The view of a run whose daemon is lost is closed.
    Close,
}

/// Something said to the user.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// The sentence.
    pub text: String,
    /// What was asked for was not done.
    pub is_refusal: bool,
    at: Duration,
}

/// All that is drawn.
#[derive(Debug, Default)]
pub struct Model {
    event: Option<Event>,
    heard: Duration,
    history: VecDeque<SeriesRow>,
    marks: VecDeque<Mark>,
    notice: Option<Notice>,
    prompt: Option<Prompt>,
    interrupts: u32,
    lost: Option<String>,
}

impl Model {
    /// Takes a second.
    pub fn second(&mut self, event: Event, now: Duration) {
        push(&mut self.history, event.now.clone(), HISTORY_MAX);
        for mark in &event.marks {
            push(&mut self.marks, mark.clone(), MARKS_MAX);
        }
        self.event = Some(event);
        self.heard = now;
    }

    /// The daemon is not there any more.
    pub fn lose(&mut self, sentence: String) {
        self.prompt = None;
        self.lost = Some(sentence);
    }

    /// Takes the daemon's answer to a wish: done, or the sentence of its refusal.
    pub fn answer(&mut self, wish: &Wish, refusal: Option<String>, now: Duration) {
        self.say(refusal.clone().unwrap_or_else(|| wish.done()), refusal.is_some(), now);
    }

    /// Says something.
    pub fn say(&mut self, text: String, is_refusal: bool, now: Duration) {
        self.notice = Some(Notice { text, is_refusal, at: now });
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> Effect {
        if self.lost.is_some() {
            return Effect::Close;
        }
        self.notice = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => return self.interrupt(),
                KeyCode::Char('z') => return Effect::Suspend,
                _ => {}
            }
        }
        if let Some(prompt) = self.prompt.take() {
            let (prompt, effect) = prompt.key(key, &self.groups());
            self.prompt = prompt;
            return effect;
        }
        match key.code {
            KeyCode::Char('p') if self.is_paused() => return Effect::Ask(Wish::Resume),
            KeyCode::Char('p') => return Effect::Ask(Wish::Pause),
            KeyCode::Char('q') => return Effect::Leave,
            KeyCode::Char('r') => self.prompt = Some(Prompt::change(Change::Rate, &self.groups())),
            KeyCode::Char('c') => self.prompt = Some(Prompt::change(Change::Conns, &self.groups())),
            KeyCode::Char('m') => self.prompt = Some(Prompt::line(Change::Mark, None)),
            KeyCode::Char('s') => self.prompt = Some(Prompt::Stop),
            KeyCode::Char('?' | 'h') => self.prompt = Some(Prompt::Help),
            _ => {}
        }
        Effect::Nothing
    }

    /// Ctrl-C, or its signal: the first ends the run in order, the next at once.
    pub fn interrupt(&mut self) -> Effect {
        if self.lost.is_some() {
            return Effect::Close;
        }
        self.prompt = None;
        self.interrupts += 1;
        Effect::Ask(if self.interrupts == 1 { Wish::Abort } else { Wish::Stop { now: true } })
    }

    /// The last second.
    pub fn event(&self) -> Option<&Event> {
        self.event.as_ref()
    }

    /// The seconds so far, oldest first.
    pub fn history(&self) -> &VecDeque<SeriesRow> {
        &self.history
    }

    /// The marks so far, oldest first.
    pub fn marks(&self) -> &VecDeque<Mark> {
        &self.marks
    }

    /// What is being asked of the user.
    pub fn prompt(&self) -> Option<&Prompt> {
        self.prompt.as_ref()
    }

    /// What is to be said now.
    pub fn notice(&self, now: Duration) -> Option<&Notice> {
        let is_fresh = |notice: &&Notice| notice.is_refusal || now.saturating_sub(notice.at) < NOTICE_SHOWN;
        self.notice.as_ref().filter(is_fresh)
    }

    /// Why there is nothing more to come.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// For how long the daemon has said nothing, where that is too long.
    pub fn silence(&self, now: Duration) -> Option<Duration> {
        let silence = now.saturating_sub(self.heard);
        (self.event.is_some() && self.lost.is_none() && silence >= SILENCE).then_some(silence)
    }

    /// Whether sending is held.
    pub fn is_paused(&self) -> bool {
        self.event.as_ref().is_some_and(|event| event.state == "paused")
    }

    /// The run's groups.
    fn groups(&self) -> Vec<String> {
        self.event.iter().flat_map(|event| event.stages.keys().cloned()).collect()
    }
}

fn push<T>(into: &mut VecDeque<T>, one: T, most: usize) {
    if into.len() == most {
        into.pop_front();
    }
    into.push_back(one);
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::ZERO;

    fn press(model: &mut Model, code: KeyCode) -> Effect {
        model.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn type_in(model: &mut Model, text: &str) -> Effect {
        text.chars().for_each(|c| assert_eq!(press(model, KeyCode::Char(c)), Effect::Nothing));
        press(model, KeyCode::Enter)
    }

    fn going(state: &str, groups: &[&str]) -> Model {
        let mut model = Model::default();
        let stages = groups.iter().map(|group| ((*group).to_owned(), "stage 1".to_owned())).collect();
        model.second(Event { state: state.into(), stages, ..Event::default() }, START);
        model
    }

    #[test]
    fn one_key_pauses_and_goes_on_again() {
        let mut model = going("steady", &["main"]);
        assert_eq!(press(&mut model, KeyCode::Char('p')), Effect::Ask(Wish::Pause));
        model.second(Event { state: "paused".into(), ..Event::default() }, START);
        assert_eq!(press(&mut model, KeyCode::Char('p')), Effect::Ask(Wish::Resume));
    }

    #[test]
    fn a_rate_is_typed_and_what_is_no_rate_is_not_asked_for() {
        let mut model = going("steady", &["main"]);
        press(&mut model, KeyCode::Char('r'));
        assert_eq!(type_in(&mut model, "20"), Effect::Nothing);
        let Some(Prompt::Line { wrong: Some(wrong), text, .. }) = model.prompt() else { panic!("{model:?}") };
        assert!(wrong.contains("such as 40KB/s") && text == "20");
        let change = SetRequest { rate: Some("20KB/s".parse().unwrap()), ..SetRequest::default() };
        assert_eq!(type_in(&mut model, "KB/s"), Effect::Ask(Wish::Set(change)));
        assert_eq!(model.prompt(), None);
    }

    #[test]
    fn of_several_groups_one_is_chosen_first() {
        let mut model = going("steady", &["shells", "ssh", "web"]);
        press(&mut model, KeyCode::Char('c'));
        press(&mut model, KeyCode::Down);
        press(&mut model, KeyCode::Enter);
        let change = SetRequest { group: Some("ssh".into()), conns: Some(300), ..SetRequest::default() };
        assert_eq!(type_in(&mut model, "300"), Effect::Ask(Wish::Set(change.clone())));
        press(&mut model, KeyCode::Char('c'));
        press(&mut model, KeyCode::Char('2'));
        assert_eq!(type_in(&mut model, "300"), Effect::Ask(Wish::Set(change)));
        press(&mut model, KeyCode::Char('r'));
        press(&mut model, KeyCode::Esc);
        assert_eq!(model.prompt(), None);
    }

    #[test]
    fn a_stop_asks_and_anything_else_than_its_two_answers_is_no() {
        let mut model = going("steady", &["main"]);
        for (answer, effect) in [
            ('d', Effect::Ask(Wish::Stop { now: false })),
            ('n', Effect::Ask(Wish::Stop { now: true })),
            ('q', Effect::Nothing),
        ] {
            assert_eq!(press(&mut model, KeyCode::Char('s')), Effect::Nothing);
            assert_eq!(press(&mut model, KeyCode::Char(answer)), effect);
            assert_eq!(model.prompt(), None);
        }
    }

    #[test]
    fn the_first_interrupt_ends_in_order_and_the_next_at_once_whatever_is_being_typed() {
        let mut model = going("steady", &["main"]);
        press(&mut model, KeyCode::Char('r'));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(model.key(interrupt), Effect::Ask(Wish::Abort));
        assert_eq!(model.prompt(), None);
        assert_eq!(model.key(interrupt), Effect::Ask(Wish::Stop { now: true }));
    }

    #[test]
    fn a_refusal_stays_until_a_key_and_an_answer_goes_by_itself() {
        let mut model = going("steady", &["main"]);
        model.answer(&Wish::Pause, None, START);
        assert!(model.notice(START).is_some_and(|notice| !notice.is_refusal));
        assert_eq!(model.notice(NOTICE_SHOWN), None);
        model.answer(&Wish::Resume, Some("it is not paused".into()), START);
        assert!(model.notice(NOTICE_SHOWN * 100).is_some_and(|notice| notice.text == "it is not paused"));
        press(&mut model, KeyCode::Char('x'));
        assert_eq!(model.notice(START), None);
    }

    #[test]
    fn silence_is_noticed_and_a_lost_daemon_closes_the_view_with_any_key() {
        let mut model = Model::default();
        assert_eq!(model.silence(SILENCE), None);
        model.second(Event::default(), START);
        assert_eq!((model.silence(SILENCE / 2), model.silence(SILENCE)), (None, Some(SILENCE)));
        model.lose("gone".into());
        assert_eq!((model.silence(SILENCE), model.lost()), (None, Some("gone")));
        assert_eq!(
            (press(&mut model, KeyCode::Char('p')), model.interrupt()),
            (Effect::Close, Effect::Close)
        );
    }

    #[test]
    fn what_is_kept_has_an_end() {
        let mut model = Model::default();
        for second in 0..HISTORY_MAX + 10 {
            let now = SeriesRow { at: second as f64, ..SeriesRow::default() };
            let marks = vec![Mark { at: second as f64, text: "m".into() }];
            model.second(Event { now, marks, ..Event::default() }, START);
        }
        assert_eq!((model.history().len(), model.marks().len()), (HISTORY_MAX, MARKS_MAX));
        assert_eq!(model.history()[0].at, 10.0);
    }
}
