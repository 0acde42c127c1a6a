//! A target that is loaded for real: steps of a run that goes.

use std::collections::VecDeque;
use std::path::Path;

use scale_api::http::SetRequest;
use scale_api::report::{Exit, SeriesRow};
use scale_api::units::Rate;

use super::judge::{Judge, Rules, Verdict};
use super::reading::{Beside, Reading, between, p99};
use super::result::{Found, Recovery, Step, Vary};
use super::walk::{Driver, is_confirmed};
use super::{RECOVER_SECONDS, text};
use crate::client::{Client, Failure};
use crate::seek::search::Search;
use crate::seek::session::{End, Session, say};

/// All is well where it was for so many seconds on end.
const WELL_SECONDS: usize = 3;

/// No more than one stream in so many still waits to come back then.
const WAITING_ONE_IN: u64 = 100;

/// Answers that take longer are not waited for before a step is measured, in seconds.
const ANSWER_MAX: f64 = 10.0;

/// How steps are taken.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// What grows.
    pub vary: Vary,
    /// Streams of the group, where it is the rate that grows.
    pub streams: u64,
    /// Streams of the other groups.
    pub others: u64,
    /// Seconds that these take to open when the run begins.
    pub others_opening: f64,
    /// Streams opened a second.
    pub connects: f64,
    /// Seconds of a try, and of a hold.
    pub seconds: (usize, usize),
    /// For the run, in seconds.
    pub time: f64,
    /// The least load.
    pub from: u64,
    /// Something of what is sent is to come back.
    pub echoes: bool,
}

impl Way {
    /// Streams of the group at a level.
    const fn streams_at(&self, level: u64) -> u64 {
        match self.vary {
            Vary::Conns => level,
            Vary::Rate => self.streams,
        }
    }

    /// Whether answers have had the time that they take in `row`, when all has been open for `waited` seconds and one more.
    fn is_filled(&self, waited: f64, row: &SeriesRow) -> bool {
        let answer = match row.response_p99 {
            Some(answer) => answer,
            None if self.echoes && row.messages_sent > 0 => f64::INFINITY,
            None => 0.0,
        };
        waited + 1.0 >= answer.min(ANSWER_MAX)
    }

    /// Seconds that it takes to open what is more at `level` than at `before`, where 0 is a run that begins.
    fn opening(&self, before: u64, level: u64) -> f64 {
        let (before, others) = match before {
            0 => (0, self.others_opening),
            before => (self.streams_at(before), 0.0),
        };
        (self.streams_at(level).saturating_sub(before) as f64 / self.connects).max(others)
    }
}

/// A run whose load is set.
pub struct Live<'a> {
    pub client: &'a Client,
    pub session: Session<'a>,
    pub rules: &'a Rules,
    pub way: Way,
    /// What its readings are to have.
    pub beside: Beside,
    /// The load that was last set; 0: none yet.
    pub level: u64,
    /// Steps are not printed.
    pub quiet: bool,
    /// Written after each step.
    pub found: Found,
    pub file: Option<&'a Path>,
}

impl Live<'_> {
    fn reading(&self) -> Result<Reading, End> {
        Ok(Reading::take(self.client, &self.session.id, self.session.elapsed())?)
    }

    /// Sets the load; the seconds that its connects take. Groups open theirs side by side.
    fn set(&mut self, level: u64, word: &str) -> Result<f64, End> {
        let opening = self.way.opening(self.level, level);
        // A run begins with the least.
        let is_new = level != self.level && (self.level, level) != (0, self.way.from);
        self.level = level;
        if is_new {
            let mut set = SetRequest { group: Some(self.beside.group.clone()), ..SetRequest::default() };
            match self.way.vary {
                Vary::Conns => set.conns = Some(level),
                Vary::Rate => set.rate = Some(Rate(level)),
            }
            self.session.set(&set)?;
        }
        self.beside.streams = self.way.streams_at(level);
        self.session.mark(format!("{word} {}", text::level(self.way.vary, level)));
        Ok(opening)
    }

    /// Waits until what comes back is of as many messages as are sent: a target that answers after three seconds has the
    /// answers of a step's first three when it is over.
    fn fill(&mut self) -> Result<(), End> {
        let begun = self.session.elapsed();
        loop {
            let (event, _) = self.session.last();
            if self.way.is_filled(event.elapsed - begun, &event.now) {
                return Ok(());
            }
            self.session.second()?;
        }
    }

    /// Measures from here on until it is decided.
    fn measure(&mut self, opening: &Reading, hold: bool) -> Result<Step, End> {
        let settled = self.reading()?;
        let seconds = if hold { self.way.seconds.1 } else { self.way.seconds.0 };
        let mut judge = Judge::new(seconds, hold);
        self.beside.clear();
        loop {
            let row = &self.session.second()?.now;
            let busy = row.busy_max;
            self.beside.take(row, usize::MAX);
            let now = self.reading()?;
            let mut report = between(opening, &settled, &now, &self.beside)?;
            let verdict = judge.take(self.rules, busy, &mut report, &now.report);
            let Some(Verdict { limit, broke, unknown }) = verdict else { continue };
            if !unknown.is_empty() {
                return Err(without_value(&unknown, judge.seconds()).into());
            }
            let (load, latency) = (report.load, report.latency);
            let length = (self.session.elapsed() - settled.at).max(1e-3);
            return Ok(Step {
                run: self.session.id.clone(),
                level: self.level,
                at: settled.at,
                seconds: judge.seconds(),
                hold,
                limit,
                broke,
                open: load.streams_open_at_end,
                messages_per_second: load.messages_sent as f64 / length,
                bytes_per_second: load.rate_sent.unwrap_or(0.0),
                echoed_ratio: load.echoed_ratio,
                service_p99: p99(latency.service.as_ref()),
                lateness_p99: p99(latency.lateness.as_ref()),
                response: latency.response,
                busy: judge.busy(),
                disconnects: load.disconnects,
                connect_failures: load.connect_failures,
                recovery: None,
            });
        }
    }

    /// Watches until all is well for some seconds on end, for `most` seconds at most: how long it took to become so.
    fn watch(&mut self, most: f64) -> Result<Option<f64>, End> {
        let begun = self.session.elapsed();
        let mut readings = VecDeque::from([self.reading()?]);
        // What the step that broke was like is no part of how it is now.
        self.beside.clear();
        while self.session.elapsed() - begun < most {
            let event = self.session.second()?;
            let count = |state: &str| event.streams.get(state).copied().unwrap_or(0);
            let waits = count("waiting") + count("connecting") > count("open") / WAITING_ONE_IN;
            self.beside.take(&event.now, WELL_SECONDS);
            readings.push_back(self.reading()?);
            if readings.len() <= WELL_SECONDS {
                continue;
            }
            let first = readings.pop_front().expect("there are several");
            let last = readings.back().expect("there are several");
            let mut report = between(&first, &first, last, &self.beside)?;
            if !waits && self.rules.unmet(&mut report, &last.report).0.is_empty() {
                return Ok(Some((first.at - begun).max(0.0)));
            }
        }
        Ok(None)
    }
}

fn without_value(expressions: &[String], seconds: u64) -> Failure {
    let remedy = if expressions.iter().any(|it| it.starts_with("observe.")) {
        "see whether the Prometheus answers (`scalectl report` has its warnings), and let steps last longer than its interval (--step)"
    } else {
        "ask for a figure that this load has"
    };
    let all = expressions.join("', '");
    let message = format!(
        "--until '{all}' had no value in a step of {seconds} s, so nothing is said of the target; {remedy}"
    );
    Failure { message, exit: Exit::Incomplete }
}

/// For how long coming back is watched at most, with `left` seconds to go. `None`: too short to see that all is well.
fn watched(left: f64) -> Option<f64> {
    (left > WELL_SECONDS as f64).then_some(RECOVER_SECONDS.min(left))
}

impl Driver for Live<'_> {
    fn left(&self) -> f64 {
        self.way.time - self.session.elapsed()
    }

    fn step(&mut self, level: u64, hold: bool) -> Result<Step, End> {
        let opening = self.reading()?;
        let connecting = self.set(level, if hold { "hold" } else { "try" })?;
        let streams = self.way.streams_at(level) + self.way.others;
        // Streams that do not open for the target's sake are judged by what that comes to.
        match self.session.settle(streams, connecting)?.filter(|limit| limit.is_of_this_host()) {
            None => {
                self.fill()?;
                self.measure(&opening, hold)
            }
            limit => Ok(Step {
                run: self.session.id.clone(),
                level,
                at: self.session.elapsed(),
                hold,
                limit,
                ..Step::default()
            }),
        }
    }

    fn come_down(&mut self, from: u64, to: u64) -> Result<Option<Recovery>, End> {
        self.set(to, "back to")?;
        let Some(most) = watched(self.left()) else { return Ok(None) };
        let begun = self.session.elapsed();
        let seconds = self.watch(most)?;
        let watched = self.session.elapsed() - begun;
        let recovery = Recovery { from, to, seconds, watched };
        if !self.quiet {
            say(&format!("{:>20} {}", "", text::recovery(self.way.vary, &recovery)))?;
        }
        if seconds.is_none() && to > self.way.from {
            // What comes next is not to be measured on what this has left.
            self.set(self.way.from, "rest at")?;
            self.watch(RECOVER_SECONDS.min(self.left()))?;
        }
        Ok(Some(recovery))
    }

    fn tell(&mut self, step: &Step) -> Result<(), End> {
        if self.quiet { Ok(()) } else { say(&text::step(self.way.vary, step)) }
    }

    fn keep(&mut self, search: &Search, steps: &[Step]) {
        self.found.steps = steps.to_vec();
        self.found.conclude(search.best(), is_confirmed(search, steps), search.limit(), false);
        if let Some(Err(failure)) = self.file.map(|file| super::keep(file, &self.found)) {
            crate::warn(&failure.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_is_out_of_time_says_nothing_of_coming_back() {
        assert_eq!(
            (watched(-2.0), watched(3.0), watched(8.5), watched(90.0)),
            (None, None, Some(8.5), Some(20.0))
        );
    }

    const WAY: Way = Way {
        vary: Vary::Conns,
        streams: 0,
        others: 500,
        others_opening: 10.0,
        connects: 100.0,
        seconds: (6, 60),
        time: 600.0,
        from: 100,
        echoes: true,
    };

    #[test]
    fn a_step_is_measured_once_answers_have_had_their_time() {
        let row =
            |response_p99, messages_sent| SeriesRow { response_p99, messages_sent, ..SeriesRow::default() };
        assert!(WAY.is_filled(0.0, &row(Some(0.2), 100)) && !WAY.is_filled(0.0, &row(Some(3.0), 100)));
        assert!(!WAY.is_filled(1.9, &row(Some(3.0), 100)) && WAY.is_filled(2.0, &row(Some(3.0), 100)));
        assert!(!WAY.is_filled(3.0, &row(None, 100)) && WAY.is_filled(ANSWER_MAX, &row(None, 100)), "mute");
        assert!(WAY.is_filled(0.0, &row(None, 0)), "nothing was sent");
        assert!(Way { echoes: false, ..WAY }.is_filled(0.0, &row(None, 100)), "nothing is to come back");
    }

    #[test]
    fn what_has_no_value_is_said_with_what_to_do() {
        let said = |expression: &str| without_value(&[expression.to_owned()], 6).message;
        assert!(
            said("tls.p99 < 1s").contains("in a step of 6 s") && said("tls.p99 < 1s").ends_with("load has")
        );
        assert!(said("observe.cpu.max < 1").contains("Prometheus"));
    }

    #[test]
    fn the_first_step_waits_for_the_slowest_group_and_later_ones_for_what_grows() {
        let way = WAY;
        assert_eq!((way.opening(0, 100), way.opening(0, 2000)), (10.0, 20.0));
        assert_eq!((way.opening(100, 600), way.opening(600, 100)), (5.0, 0.0));
        let rate = Way { vary: Vary::Rate, streams: 300, ..way };
        assert_eq!((rate.opening(0, 10_000), rate.opening(10_000, 20_000)), (10.0, 0.0));
    }
}
