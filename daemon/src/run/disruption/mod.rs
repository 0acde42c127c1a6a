//! Disruptions of a run: what its streams lose at once, around a mark or by itself, and how they come back.
//!
//! It takes what workers hand over of streams, one by one and in the order of time, and marks; it knows no clock, no
//! worker and no report. Times are in ns since the run's start.
//!
//! Holds always: a drop is in at most one disruption; a stream counts once in each; the newest disruption is the only
//! one that takes drops, and each takes the returns of its own. Between two seconds in which nothing happens, nothing is
//! done. `one`: a single disruption; [`Asides`]: what was due in windows that were expected; [`Users`]: whose streams
//! are whose.

mod aside;
mod one;
mod users;

#[cfg(test)]
mod tests;

pub use aside::{Aside, Asides};
pub use users::Users;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use scale_api::disruption::{DISRUPTIONS_MAX, Disruption, MARK_WINDOW};

use crate::stream::class::Class;
use crate::stream::lost::Session;
use one::{Marked, One};

const NANOS: f64 = 1e9;

/// So many drops of the open streams, in thousandths, and at least [`DROPS_MIN`], make a disruption that nobody marked...
const SHARE_MILLI: u64 = 50;
/// See [`SHARE_MILLI`].
const DROPS_MIN: u64 = 5;
/// ...where they come within this.
const SPELL_NS: u64 = 5_000_000_000;
/// It is over when so long nothing was dropped. People mark late: until so long after its beginning it is a mark's.
const SPELL_END_NS: u64 = 10_000_000_000;

/// Index of a stream's group, and its number there.
pub type StreamId = (u8, u32);

/// What has happened to a stream, at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// When.
    pub at: u64,
    /// To whom.
    pub stream: StreamId,
    /// Which.
    pub what: What,
}

/// See `worker::changes`: the same with names.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Open, not after a loss.
    Opened,
    /// Closed by us.
    Closed,
    /// Its open connection is lost.
    Lost(Loss),
    /// Open again after that.
    Back(Back),
    /// Given up after that: its group wants fewer.
    GivenUp,
}

/// A lost connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// Why.
    pub class: Class,
    /// To whom; `None`: beyond the addresses that are told apart.
    pub address: Option<SocketAddr>,
    /// The server's replica, where it names one.
    pub replica: Option<Arc<str>>,
    /// Its version, likewise.
    pub version: Option<Arc<str>>,
    /// Payload bytes whose echo has not come; `None`: not known yet, or never.
    pub bytes_lost: Option<u64>,
}

/// An open connection after a lost one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Back {
    /// The server's version.
    pub version: Option<Arc<str>>,
    /// Whether its session went on; `None`: there are none.
    pub session: Option<Session>,
    /// Bytes that it said again.
    pub bytes_repeated: u64,
}

/// Attempts of streams that had lost their connection, in some seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// How many seconds.
    pub seconds: u64,
    /// Begun.
    pub offered: u64,
    /// Failed.
    pub refused: u64,
}

/// A stream, as far as disruptions need it.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    is_open: bool,
    away: Option<Away>,
    /// Drops among the recent ones.
    recent: u32,
}

/// Where the last loss of a stream that is away stands.
#[derive(Debug, Clone, Copy)]
enum Away {
    /// Among the loose ones: its number.
    Loose(u64),
    /// In a disruption.
    In(usize),
}

/// A drop of the last seconds.
#[derive(Debug)]
struct Recent {
    at: u64,
    stream: StreamId,
    /// Streams, and users with any, that were open before it.
    open: (u64, u64),
    /// The disruption that it is in; `None`: it is loose, and what is known of it stands here.
    of: Option<usize>,
    loss: Option<Loss>,
    then: Option<Then>,
}

/// What has become of a stream since a loose drop.
#[derive(Debug)]
enum Then {
    Back(u64, Back),
    GivenUp,
}

/// A disruption that is not told.
#[derive(Debug)]
struct LeftOut {
    at: u64,
    is_marked: bool,
    /// Drops until then are its own.
    until: u64,
}

/// All of a run.
#[derive(Debug, Default)]
pub struct Disruptions {
    users: Users,
    /// By group and number, as far as they have been open.
    streams: Vec<Vec<State>>,
    /// The first stream's number, by group.
    first: Vec<u32>,
    /// Groups whose time is over.
    groups_ended: Vec<bool>,
    open: u64,
    /// Open streams by user.
    open_by_user: Vec<u32>,
    users_open: u64,
    list: Vec<One>,
    /// Loose ones, and the newest disruption's.
    recent: VecDeque<Recent>,
    /// Number of the first of them, counted through the run.
    recent_first: u64,
    /// Of them, loose ones; and streams that any is of.
    loose: u64,
    recent_streams: u64,
    marks: VecDeque<Marked>,
    asides: Asides,
    /// When each of them is, in seconds.
    windows: Vec<(f64, f64)>,
    /// Not looked at yet.
    happened: Vec<Happened>,
    /// Disruptions beyond [`DISRUPTIONS_MAX`].
    left_out: u64,
    newest_left_out: Option<LeftOut>,
    /// The newest whose streams were away when attempts were last counted, and that had drops or returns since.
    storms_in: Option<usize>,
    /// Returns since then of streams whose loss is in none.
    loose_answers: u64,
    touched: Option<usize>,
}

impl Disruptions {
    /// Of groups whose streams' numbers begin at `first`.
    pub fn new(first: Vec<u32>) -> Self {
        let groups = first.len();
        Self {
            streams: vec![Vec::new(); groups],
            groups_ended: vec![false; groups],
            first,
            ..Self::default()
        }
    }

    /// Says whose streams are whose; before any is open.
    pub fn set_users(&mut self, users: Users) {
        self.open_by_user = vec![0; users.count()];
        self.users = users;
    }

    /// A mark at `at`. `expected_ns`: so long from then on streams are expected to drop, and what is due is to be counted
    /// aside as the window of this number.
    pub fn mark(&mut self, at: u64, text: &str, expected_ns: Option<u64>) -> Option<usize> {
        let window = expected_ns.map(|_| self.asides.begin());
        let until = at.saturating_add(expected_ns.unwrap_or(MARK_WINDOW.ns()));
        let seconds = |ns: u64| ns as f64 / NANOS;
        if let Some((_, end)) = self.windows.last_mut() {
            *end = end.min(seconds(at));
        }
        if expected_ns.is_some() {
            self.windows.push((seconds(at), seconds(until)));
        }
        self.marks.push_back(Marked { at, text: text.to_owned(), until, window });
        window
    }

    /// Something has happened to a stream; in any order.
    pub fn push(&mut self, happened: Happened) {
        self.happened.push(happened);
    }

    /// Windows that were expected.
    pub const fn asides(&mut self) -> &mut Asides {
        &mut self.asides
    }

    /// When they are, in seconds since the run's start, one behind the other.
    pub fn windows(&self) -> &[(f64, f64)] {
        &self.windows
    }

    /// Whether anything of `from..to`, in seconds since the run's start, is in one of them.
    pub fn is_expected(&self, from: f64, to: f64) -> bool {
        self.windows.iter().rev().any(|&(begin, end)| begin < end && begin < to && from < end)
    }

    /// Looks at what has happened before `until`, all of which is there.
    pub fn advance(&mut self, until: u64) {
        if !self.happened.is_empty() {
            let mut happened = std::mem::take(&mut self.happened);
            // What one worker says of a stream stays in its order.
            happened.sort_by_key(|one| one.at);
            let later = happened.split_off(happened.partition_point(|one| one.at < until));
            for one in happened {
                self.take_marks(one.at.saturating_add(1));
                self.take(one);
            }
            self.happened = later;
        }
        self.take_marks(until);
        self.current(until);
    }

    /// The run is over, at `at`: looks at all that has happened, and nothing more comes.
    pub fn finish(&mut self, at: u64) {
        let last = self.happened.iter().map(|one| one.at).chain(self.marks.iter().map(|mark| mark.at)).max();
        self.advance(at.max(last.map_or(0, |last| last.saturating_add(1))));
        if let Some(newest) = self.list.last_mut() {
            newest.end(at);
        }
    }

    /// The streams of a group close because its time is over. Who is away then has never come back.
    pub fn end_group(&mut self, group: usize) {
        self.groups_ended[group] = true;
        for index in 0..self.streams[group].len() {
            self.set_open((group as u8, self.first[group] + index as u32), false);
        }
    }

    /// Attempts of the last seconds. They are the newest disruption's whose streams are away, but for those that others
    /// are known to have made because they were answered.
    pub fn take_attempts(&mut self, attempts: Attempts) {
        let is_away = |one: &One| one.away() > 0;
        let now = self.list.iter().rposition(is_away);
        let of = now.max(self.storms_in).max(self.touched.take());
        self.storms_in = now;
        let mut others = std::mem::take(&mut self.loose_answers);
        for (index, one) in self.list.iter_mut().enumerate() {
            let answers = one.take_answers();
            others += if of == Some(index) { 0 } else { answers };
        }
        let Some(of) = of.filter(|_| attempts.seconds > 0) else { return };
        let storm = &mut self.list[of].storm;
        let Attempts { seconds, offered, refused } = attempts;
        let offered = offered.saturating_sub(others);
        storm.offered += offered;
        storm.refused += refused;
        storm.offered_per_second_max = storm.offered_per_second_max.max(offered.div_ceil(seconds));
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.list.len()
    }

    /// Streams that any of them dropped.
    pub fn dropped(&self) -> u64 {
        self.list.iter().map(One::dropped).sum()
    }

    /// Streams that were dropped and are not open again, of groups that go on.
    pub fn away(&self) -> u64 {
        self.list.iter().map(|one| one.away_of(|group| !self.groups_ended[usize::from(group)])).sum()
    }

    /// Disruptions that are not told because there are too many.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The last `most` of them, as they stand. `group`: the name of one.
    pub fn told(&self, most: usize, group: impl Fn(u8) -> String) -> Vec<Disruption> {
        let from = self.list.len().saturating_sub(most);
        let told = |one: &One| {
            let mut told = one.told(self.users.are_known(), &group);
            if let Some(window) = one.mark.as_ref().and_then(|mark| mark.window) {
                let aside = self.asides.window(window);
                (told.delivered_ratio, told.response_p99) = (aside.delivered_ratio(), aside.response_p99());
            }
            told
        };
        self.list[from..].iter().map(told).collect()
    }

    fn take_marks(&mut self, until: u64) {
        while self.marks.front().is_some_and(|mark| mark.at < until) {
            let mark = self.marks.pop_front().expect("there is one");
            self.begin_marked(mark);
        }
    }

    fn begin_marked(&mut self, mark: Marked) {
        if let Some(current) = self.current(mark.at) {
            let newest = &mut self.list[current];
            // People mark late.
            if newest.mark.is_none() && mark.at - newest.at <= SPELL_END_NS {
                newest.set_mark(mark);
                return;
            }
            newest.end(mark.at);
            self.forget_recent(u64::MAX);
        }
        let (at, open) = (mark.at, self.open_now());
        self.begin(One::new(at, Some(mark), open));
    }

    /// The disruption that a drop at `at` is in, as far as that is known.
    fn current(&mut self, at: u64) -> Option<usize> {
        let newest = self.list.last_mut().filter(|newest| !newest.has_ended)?;
        if newest.takes(at) {
            return Some(self.list.len() - 1);
        }
        // Its drops are no part of another one.
        self.forget_recent(u64::MAX);
        None
    }

    /// Drops before `until` are not recent any more.
    fn forget_recent(&mut self, until: u64) {
        while self.recent.front().is_some_and(|recent| recent.at < until) {
            let recent = self.recent.pop_front().expect("there is one");
            self.recent_first += 1;
            self.loose -= u64::from(recent.of.is_none());
            let state = self.state(recent.stream);
            state.recent -= 1;
            self.recent_streams -= u64::from(state.recent == 0);
        }
    }

    fn begin(&mut self, one: One) -> Option<usize> {
        if self.list.len() >= DISRUPTIONS_MAX {
            self.leave_out(&one);
            return None;
        }
        self.list.push(one);
        Some(self.list.len() - 1)
    }

    /// Counts one that is not told, unless it is a part of the one that was left out last.
    fn leave_out(&mut self, one: &One) {
        let spell_end = one.at.saturating_add(SPELL_END_NS + 1);
        match (&mut self.newest_left_out, &one.mark) {
            // People mark late.
            (Some(last), Some(mark))
                if !last.is_marked && mark.at <= last.at.saturating_add(SPELL_END_NS) =>
            {
                (last.is_marked, last.until) = (true, mark.until);
            }
            (Some(last), None) if one.at < last.until => {
                if !last.is_marked {
                    last.until = spell_end;
                }
            }
            (last, mark) => {
                let until = mark.as_ref().map_or(spell_end, |mark| mark.until);
                *last = Some(LeftOut { at: one.at, is_marked: mark.is_some(), until });
                self.left_out += 1;
            }
        }
    }

    const fn open_now(&self) -> (u64, u64) {
        (self.open, self.users_open)
    }

    fn state(&mut self, (group, number): StreamId) -> &mut State {
        let states = &mut self.streams[usize::from(group)];
        let index = (number - self.first[usize::from(group)]) as usize;
        if states.len() <= index {
            states.resize(index + 1, State::default());
        }
        &mut states[index]
    }

    fn set_open(&mut self, stream: StreamId, is_open: bool) {
        let state = self.state(stream);
        if std::mem::replace(&mut state.is_open, is_open) == is_open {
            return;
        }
        self.open = if is_open { self.open + 1 } else { self.open - 1 };
        if let Some(user) = self.users.of(stream.0, stream.1) {
            let streams = &mut self.open_by_user[user as usize];
            *streams = if is_open { *streams + 1 } else { *streams - 1 };
            let count = *streams;
            if is_open && count == 1 {
                self.users_open += 1;
            } else if !is_open && count == 0 {
                self.users_open -= 1;
            }
        }
    }

    fn take(&mut self, Happened { at, stream, what }: Happened) {
        match what {
            What::Opened => {
                self.set_open(stream, true);
                // One whose giving up was left out.
                self.take_then(stream, Then::Back(at, Back::default()));
            }
            What::Closed => self.set_open(stream, false),
            What::Back(back) => {
                self.set_open(stream, true);
                self.take_then(stream, Then::Back(at, back));
            }
            What::GivenUp => self.take_then(stream, Then::GivenUp),
            What::Lost(loss) => {
                let open = self.open_now();
                self.set_open(stream, false);
                self.lose(stream, at, loss, open);
            }
        }
    }

    fn take_then(&mut self, stream: StreamId, then: Then) {
        match self.state(stream).away.take() {
            None => {}
            Some(Away::In(of)) => {
                match then {
                    Then::Back(at, back) => self.list[of].back(stream, at, &back),
                    Then::GivenUp => self.list[of].give_up(stream),
                }
                self.touched = self.touched.max(Some(of));
            }
            Some(Away::Loose(number)) => {
                self.loose_answers += u64::from(matches!(then, Then::Back(..)));
                let index = number.checked_sub(self.recent_first).map(|index| index as usize);
                if let Some(recent) = index.and_then(|index| self.recent.get_mut(index)) {
                    recent.then = Some(then);
                }
            }
        }
    }

    fn lose(&mut self, stream: StreamId, at: u64, loss: Loss, open: (u64, u64)) {
        self.forget_recent(at.saturating_sub(SPELL_NS));
        let current = self.current(at);
        let mut recent = Recent { at, stream, open, of: current, loss: None, then: None };
        let away = if let Some(current) = current {
            self.list[current].lose(stream, self.users.of(stream.0, stream.1), at, &loss);
            self.touched = Some(current);
            Away::In(current)
        } else {
            recent.loss = Some(loss);
            self.loose += 1;
            Away::Loose(self.recent_first + self.recent.len() as u64)
        };
        self.recent.push_back(recent);
        let state = self.state(stream);
        state.away = Some(away);
        state.recent += 1;
        self.recent_streams += u64::from(state.recent == 1);
        if self.loose > 0 {
            self.look(current);
        }
    }

    /// Whether the drops of the last seconds are a disruption, that of `current` where there is one.
    fn look(&mut self, current: Option<usize>) {
        let Some(&Recent { at: began, open, .. }) = self.recent.front() else { return };
        let drops = self.recent_streams;
        if drops < DROPS_MIN || drops * 1000 <= open.0 * SHARE_MILLI {
            return;
        }
        let of = current.or_else(|| self.begin(One::new(began, None, open)));
        let Some(of) = of else { return self.forget_recent(u64::MAX) };
        let one = &mut self.list[of];
        if began < one.at {
            // It began before its mark.
            one.open = open;
        }
        self.adopt(of);
        self.touched = Some(of);
    }

    /// Loose drops become a disruption's, with what has become of their streams since.
    fn adopt(&mut self, of: usize) {
        self.loose = 0;
        for number in 0..self.recent.len() {
            let recent = &mut self.recent[number];
            let Some(loss) = recent.loss.take() else { continue };
            recent.of = Some(of);
            let (at, stream, then) = (recent.at, recent.stream, recent.then.take());
            let one = &mut self.list[of];
            let back = match &then {
                Some(Then::Back(at, back)) => {
                    self.loose_answers = self.loose_answers.saturating_sub(1);
                    Some((*at, back))
                }
                _ => None,
            };
            one.adopt(stream, self.users.of(stream.0, stream.1), at, &loss, back);
            match then {
                None => self.state(stream).away = Some(Away::In(of)),
                // Unless it has been lost again since.
                Some(Then::GivenUp) if self.state(stream).away.is_none() => self.list[of].give_up(stream),
                Some(_) => {}
            }
        }
    }
}
