//! Which load is tried next: what came of the last step goes in, the next step comes out. No clock, no daemon.
//!
//! It grows by doubling until a step breaks or a bound is met, then narrows, tries what broke once more (it may have been a
//! neighbour's doing), and holds the answer for longer. What it claims is never more than a step that was held; a step
//! that broke is never claimed, nor anything above it, unless it was held when it was tried again.

use scale_api::calibration::Limit;

/// While no more than this share of a bound is used, growing goes faster.
const EASY: f64 = 0.125;
/// A guess from that share stays so far below the bound.
const GUESS: f64 = 0.97;

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try so many streams.
    Try(u64),
    /// Hold so many: the answer, if it stands.
    Hold(u64),
    /// There is nothing more to find out, or no time for it.
    Done,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// It was held, with so much of what is bounded used: 0.5 is half of the bound; 1 says nothing of how far it is.
    Held { used: f64 },
    /// A bound was broken.
    Broke(Limit),
}

/// How steps are taken; times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Streams opened a second.
    pub connects: f64,
    /// Settling and measuring of a try, at most.
    pub step: f64,
    /// The same of a hold.
    pub hold: f64,
    /// Between what held and what broke, as a share of the latter: closer is not looked at.
    pub precision: f64,
    /// What the answer is lowered to where it was not held, as a share.
    pub lower: f64,
    /// Nothing below this is tried.
    pub least: u64,
}

impl Pace {
    /// From `now` streams to `then`; fewer are closed at once.
    fn change(self, now: u64, then: u64) -> f64 {
        then.saturating_sub(now) as f64 / self.connects
    }
}

/// So many streams were not held.
#[derive(Debug, Clone, Copy)]
struct Broke {
    streams: u64,
    limit: Limit,
    /// More than once.
    surely: bool,
}

/// The search.
#[derive(Debug)]
pub struct Search {
    pace: Pace,
    first: u64,
    /// No more than this, and why.
    most: (u64, Limit),
    /// Streams that there are now.
    now: u64,
    /// What was held, ascending, with the share of the bound that was used: all below what broke.
    held: Vec<(u64, f64)>,
    /// What broke, descending: all above what was held.
    broke: Vec<Broke>,
    confirmed: bool,
    /// The answer did not stand when it was held.
    fell: bool,
}

impl Search {
    /// Between 1 and `most` streams, beginning with `first`; `most` is due to a limit.
    pub fn new(first: u64, most: (u64, Limit), pace: Pace) -> Self {
        let first = first.clamp(1, most.0.max(1));
        Self { pace, first, most, now: 0, held: Vec::new(), broke: Vec::new(), confirmed: false, fell: false }
    }

    /// The next step, with `left` seconds to go.
    pub fn next(&self, left: f64) -> Next {
        if self.confirmed {
            return Next::Done;
        }
        let (best, broke) = (self.best(), self.broke.last());
        let next = match (best, broke) {
            (0, None) if self.first == self.most.0 => return self.hold(self.first, left),
            (0, None) => self.first,
            (0, Some(broke)) if broke.streams <= self.pace.least => match broke.surely {
                true => return Next::Done,
                false => broke.streams,
            },
            (0, Some(broke)) => (broke.streams / 4).max(self.pace.least),
            (best, Some(broke)) if self.fell => {
                return self.hold(best.max((broke.streams as f64 * self.pace.lower) as u64), left);
            }
            (best, Some(broke)) if self.is_close(best, broke.streams) => match broke.surely {
                true => return self.hold(best, left),
                false => broke.streams,
            },
            (best, Some(broke)) => self.between(best, broke.streams),
            (best, None) if best == self.most.0 => return self.hold(best, left),
            (best, None) => self.grown(best),
        };
        // What is known is to be held afterwards, whatever comes of this.
        let needed = self.pace.change(self.now, next) + self.pace.step + self.pace.hold;
        if needed <= left {
            Next::Try(next)
        } else if best > 0 {
            self.hold(best, left)
        } else if broke.is_none() {
            // Too little time for both: one of them.
            self.hold(next, left)
        } else {
            Next::Done
        }
    }

    fn hold(&self, streams: u64, left: f64) -> Next {
        let needed = self.pace.change(self.now, streams) + self.pace.hold;
        if needed <= left { Next::Hold(streams) } else { Next::Done }
    }

    fn grown(&self, best: u64) -> u64 {
        let used = self.held.last().map_or(1.0, |&(_, used)| used);
        let factor = if used < EASY { 4 } else { 2 };
        (best * factor).min(self.most.0)
    }

    /// Where the limit should be if cost grows as streams do, else the middle.
    fn between(&self, best: u64, broke: u64) -> u64 {
        let middle = best + (broke - best) / 2;
        let used = self.held.last().map_or(0.0, |&(_, used)| used);
        let guess = (best as f64 * GUESS / used.max(0.01)) as u64;
        let gap = (broke - best) / 8;
        // Once only: a guess that held or broke has moved an end, and then halves are safer.
        let is_new = broke >= best + best / 2;
        if is_new && (best + gap..=broke - gap).contains(&guess) { guess } else { middle }
    }

    /// Takes what came of `next`.
    pub fn took(&mut self, next: Next, outcome: Outcome) {
        let (streams, is_hold) = match next {
            Next::Try(streams) => (streams, false),
            Next::Hold(streams) => (streams, true),
            Next::Done => return,
        };
        self.now = streams;
        match outcome {
            Outcome::Held { used } => {
                self.broke.retain(|broke| broke.streams > streams);
                self.held.retain(|&(held, _)| held < streams);
                self.held.push((streams, used));
                self.confirmed = is_hold;
            }
            Outcome::Broke(limit) => {
                self.held.retain(|&(held, _)| held < streams);
                let surely = self.broke.pop_if(|broke| broke.streams == streams).is_some();
                self.broke.push(Broke { streams, limit, surely });
                self.fell = is_hold;
            }
        }
    }

    /// The most streams that were held and above which nothing was; 0: none.
    pub fn best(&self) -> u64 {
        self.held.last().map_or(0, |&(streams, _)| streams)
    }

    /// There is so much now, whatever the last step was.
    pub const fn stands_at(&mut self, streams: u64) {
        self.now = streams;
    }

    /// Whether the answer stood when it was held.
    pub const fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// What ended it.
    pub fn limit(&self) -> Limit {
        match self.broke.last() {
            Some(broke) if self.is_close(self.best(), broke.streams) || self.best() == 0 => broke.limit,
            // It was not found out where between the two it is.
            Some(_) => Limit::Time,
            None if self.best() == self.most.0 => self.most.1,
            None => Limit::Time,
        }
    }

    /// Whether nothing between is worth a step.
    fn is_close(&self, best: u64, broke: u64) -> bool {
        (broke - best) as f64 <= (broke as f64 * self.pace.precision).max(1.0)
    }
}
