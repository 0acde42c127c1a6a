//! One disruption while it is made: whom it hit, and how they come back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use scale_api::disruption::{Disruption, Recover, Storm};

use super::{Back, Loss, NANOS, SPELL_END_NS, StreamId};
use crate::stream::lost::Session;

/// By which name a stream counts that has none.
const OTHER: &str = "other";

/// A mark, and what was expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marked {
    pub at: u64,
    pub text: String,
    /// Drops until then are its own.
    pub until: u64,
    /// Its window's number among the [`super::Asides`], where one was expected.
    pub window: Option<usize>,
}

/// A stream that was dropped, until its case is closed.
#[derive(Debug, Default)]
struct Case {
    /// Its first drop, and its last.
    lost_at: u64,
    last_lost_at: u64,
    /// When it was open again.
    back_at: Option<u64>,
    bytes_lost: u64,
    bytes_repeated: u64,
    /// Its group wants it no more since its last drop.
    is_given_up: bool,
    /// Of a loss of its it is not known how much it was.
    is_unknown: bool,
    /// So of its last one, unless the session says it.
    is_open_question: bool,
    /// All sessions that it came back to were the ones that it had lost; `None`: there were none.
    is_same: Option<bool>,
    version_after: Option<Arc<str>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct One {
    /// When it began.
    pub at: u64,
    pub mark: Option<Marked>,
    last_drop: Option<u64>,
    /// It takes no more drops.
    pub has_ended: bool,
    /// Streams, and users with any, open when it began.
    pub open: (u64, u64),
    dropped: u64,
    users: BTreeSet<u32>,
    users_affected: u64,
    by_class: BTreeMap<&'static str, u64>,
    by_address: BTreeMap<String, u64>,
    by_replica: BTreeMap<Arc<str>, u64>,
    by_group: BTreeMap<u8, u64>,
    versions_before: BTreeMap<Arc<str>, u64>,
    cases: BTreeMap<StreamId, Case>,
    closed: Closed,
    pub storm: Storm,
    answers: Answers,
    /// What it comes to, as long as nothing has changed.
    told: RefCell<Option<Disruption>>,
}

/// Returns, each of which answered an attempt.
#[derive(Debug, Default)]
struct Answers {
    /// Since they were last taken.
    fresh: u64,
    /// The second in which the last one was, and how many were in it.
    second: (u64, u64),
}

impl Answers {
    fn count(&mut self, at: u64, storm: &mut Storm) {
        self.fresh += 1;
        let second = at / NANOS as u64;
        let before = if self.second.0 == second { self.second.1 } else { 0 };
        self.second = (second, before + 1);
        storm.answered += 1;
        storm.answered_per_second_max = storm.answered_per_second_max.max(before + 1);
    }
}

/// What cases that are closed add up to.
#[derive(Debug, Clone, Default)]
struct Closed {
    /// Seconds that streams took to come back.
    recover: Vec<f32>,
    given_up: u64,
    same: u64,
    has_sessions: bool,
    bytes_lost: u64,
    lost_unknown: u64,
    bytes_repeated: u64,
    versions: BTreeMap<Arc<str>, u64>,
}

impl Case {
    /// It is still looked for.
    const fn is_away(&self) -> bool {
        self.back_at.is_none() && !self.is_given_up
    }

    /// What a return says of the loss before it; true: how much that was, too.
    fn settle(&mut self, back: &Back) -> bool {
        self.bytes_repeated += back.bytes_repeated;
        let Some(session) = back.session else { return false };
        let (is_same, lost) = match session {
            Session::Same { bytes_lost } => (true, bytes_lost),
            Session::New { bytes_lost } => (false, Some(bytes_lost)),
            Session::Unknown => (false, None),
        };
        self.is_same = Some(self.is_same.unwrap_or(true) && is_same);
        self.bytes_lost += lost.unwrap_or(0);
        lost.is_some()
    }
}

impl Closed {
    fn add(&mut self, case: &Case) {
        self.given_up += u64::from(case.is_given_up);
        if let Some(back) = case.back_at {
            self.recover.push((back.saturating_sub(case.lost_at) as f64 / NANOS) as f32);
            if let Some(version) = &case.version_after {
                *self.versions.entry(version.clone()).or_default() += 1;
            }
        }
        self.same += u64::from(case.back_at.is_some() && case.is_same == Some(true));
        self.has_sessions |= case.is_same.is_some();
        self.bytes_lost += case.bytes_lost;
        self.lost_unknown += u64::from(case.is_unknown || case.is_open_question);
        self.bytes_repeated += case.bytes_repeated;
    }

    fn recover(&mut self) -> Option<Recover> {
        let last = self.recover.len().checked_sub(1)?;
        let mut at = |quantile: f64| {
            let rank = ((quantile * (last + 1) as f64).ceil() as usize).max(1) - 1;
            f64::from(*self.recover.select_nth_unstable_by(rank.min(last), f32::total_cmp).1)
        };
        Some(Recover { p50: at(0.5), p99: at(0.99), max: at(1.0) })
    }
}

impl One {
    /// One that begins at `at`, when so many streams, and users with any, are open.
    pub fn new(at: u64, mark: Option<Marked>, open: (u64, u64)) -> Self {
        Self { at, mark, open, ..Self::default() }
    }

    /// Whether drops at `at` are its own; the first that are not end it.
    pub fn takes(&mut self, at: u64) -> bool {
        let until = match (&self.mark, self.last_drop) {
            (Some(mark), _) => mark.until,
            (None, last) => last.unwrap_or(self.at).saturating_add(SPELL_END_NS + 1),
        };
        if at >= until {
            self.end(until);
        }
        !self.has_ended
    }

    /// It takes no more drops, from `at` on.
    pub fn end(&mut self, at: u64) {
        if self.has_ended {
            return;
        }
        self.has_ended = true;
        self.told.take();
        if let Some(mark) = &mut self.mark {
            mark.until = mark.until.min(at);
        }
        // Who is back stays so, or given up; the rest is still looked for.
        let closed = &mut self.closed;
        self.cases.retain(|_, case| {
            let is_away = case.is_away();
            if !is_away {
                closed.add(case);
            }
            is_away
        });
        self.users_affected += std::mem::take(&mut self.users).len() as u64;
    }

    /// A stream that was open is lost.
    pub fn lose(&mut self, stream: StreamId, user: Option<u32>, at: u64, loss: &Loss) {
        self.last_drop = Some(self.last_drop.unwrap_or(0).max(at));
        self.told.take();
        if !self.cases.contains_key(&stream) {
            self.at = self.at.min(at);
            self.dropped += 1;
            self.users.extend(user);
            *self.by_class.entry(loss.class.name()).or_default() += 1;
            let address = loss.address.map_or_else(|| OTHER.to_owned(), |address| address.to_string());
            *self.by_address.entry(address).or_default() += 1;
            if let Some(replica) = &loss.replica {
                *self.by_replica.entry(replica.clone()).or_default() += 1;
            }
            *self.by_group.entry(stream.0).or_default() += 1;
            if let Some(version) = &loss.version {
                *self.versions_before.entry(version.clone()).or_default() += 1;
            }
        }
        let case = self.cases.entry(stream).or_insert_with(|| Case { lost_at: at, ..Case::default() });
        case.bytes_lost += loss.bytes_lost.unwrap_or(0);
        (case.last_lost_at, case.back_at, case.is_given_up) = (at, None, false);
        case.is_unknown |= case.is_open_question;
        case.is_open_question = loss.bytes_lost.is_none();
    }

    /// A stream that it has lost is open again.
    pub fn back(&mut self, stream: StreamId, at: u64, back: &Back) {
        let Some(case) = self.cases.get_mut(&stream).filter(|case| case.lost_at <= at) else { return };
        self.told.take();
        self.answers.count(at, &mut self.storm);
        case.back_at = Some(at);
        case.version_after.clone_from(&back.version);
        case.is_open_question &= !case.settle(back);
        self.close_if_over(stream);
    }

    /// A stream that it has lost is not wanted any more: it is neither back nor away.
    pub fn give_up(&mut self, stream: StreamId) {
        let Some(case) = self.cases.get_mut(&stream).filter(|case| case.is_away()) else { return };
        case.is_given_up = true;
        self.told.take();
        self.close_if_over(stream);
    }

    fn close_if_over(&mut self, stream: StreamId) {
        if self.has_ended
            && let Some(case) = self.cases.remove(&stream)
        {
            self.closed.add(&case);
        }
    }

    /// A drop that is found late to be its own, with the return that followed, if one has.
    pub fn adopt(
        &mut self,
        stream: StreamId,
        user: Option<u32>,
        at: u64,
        loss: &Loss,
        back: Option<(u64, &Back)>,
    ) {
        let Some(case) = self.cases.get_mut(&stream).filter(|case| at < case.last_lost_at) else {
            self.lose(stream, user, at, loss);
            if let Some((at, back)) = back {
                self.back(stream, at, back);
            }
            return;
        };
        // It has been lost again since: where it stands now is known already.
        self.told.take();
        if let Some((at, _)) = back {
            self.answers.count(at, &mut self.storm);
        }
        self.at = self.at.min(at);
        case.lost_at = case.lost_at.min(at);
        case.bytes_lost += loss.bytes_lost.unwrap_or(0);
        let is_known = back.is_some_and(|(_, back)| case.settle(back));
        case.is_unknown |= loss.bytes_lost.is_none() && !is_known;
    }

    /// How many of its streams have been answered since that was last asked.
    pub const fn take_answers(&mut self) -> u64 {
        std::mem::replace(&mut self.answers.fresh, 0)
    }

    /// Streams dropped, wanted, and not open again.
    pub fn away(&self) -> u64 {
        self.away_of(|_| true)
    }

    /// Those of some groups.
    pub fn away_of(&self, is_one: impl Fn(u8) -> bool) -> u64 {
        self.cases.iter().filter(|((group, _), case)| case.is_away() && is_one(*group)).count() as u64
    }

    /// Streams dropped.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// All but what its window says. `group`: the name of one.
    pub fn told(&self, has_users: bool, group: impl Fn(u8) -> String) -> Disruption {
        let mut told = self.told.borrow_mut();
        let told = told.get_or_insert_with(|| self.tell(has_users, group));
        Disruption { storm: self.storm, ..told.clone() }
    }

    /// It has a mark now.
    pub fn set_mark(&mut self, mark: Marked) {
        self.told.take();
        self.mark = Some(mark);
    }

    fn tell(&self, has_users: bool, group: impl Fn(u8) -> String) -> Disruption {
        let mut closed = self.closed.clone();
        let away = self.away();
        self.cases.values().for_each(|case| closed.add(case));
        let seconds = |ns: u64| ns as f64 / NANOS;
        let most = |versions: &BTreeMap<Arc<str>, u64>| {
            versions.iter().max_by_key(|(_, count)| **count).map(|(version, _)| version.to_string())
        };
        let ended_at = self.mark.as_ref().map(|mark| mark.until).or(self.last_drop);
        let affected = self.users_affected + self.users.len() as u64;
        let mark = self.mark.as_ref();
        Disruption {
            at: seconds(self.at),
            until: ended_at.filter(|_| self.has_ended).map(seconds),
            mark: mark.map(|mark| mark.text.clone()),
            marked_at: mark.map(|mark| seconds(mark.at)),
            expected: mark
                .filter(|mark| mark.window.is_some())
                .map(|mark| seconds(mark.until.saturating_sub(mark.at))),
            streams: self.open.0,
            streams_dropped: self.dropped,
            share: (self.open.0 > 0).then(|| self.dropped as f64 / self.open.0 as f64),
            users: has_users.then_some(self.open.1),
            users_affected: has_users.then_some(affected),
            by_class: self.by_class.iter().map(|(class, n)| ((*class).to_owned(), *n)).collect(),
            by_address: self.by_address.clone(),
            by_replica: self.by_replica.iter().map(|(name, n)| (name.to_string(), *n)).collect(),
            by_group: self.by_group.iter().map(|(&number, n)| (group(number), *n)).collect(),
            reconnected: self.dropped - away - closed.given_up,
            recover: closed.recover(),
            never_back: away,
            same_session: closed.has_sessions.then_some(closed.same),
            bytes_lost: closed.bytes_lost,
            lost_unknown: closed.lost_unknown,
            bytes_repeated: closed.bytes_repeated,
            version_before: most(&self.versions_before),
            version_after: most(&closed.versions),
            ..Disruption::default()
        }
    }
}
