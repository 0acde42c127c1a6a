//! `--limit`: what a sink cannot do, on purpose and exactly, so that who looks for a limit can be held to it.
//!
//! Pure: messages, websockets and time go in, verdicts come out. Costs are kept in ns of the one server that there
//! is, so that a rate of N/s is exact to a ns a message.
//!
//! Elsewhere: the words ([`parse`]), what is done about a verdict (`take`, `send`).

use scale_ring::Time;

mod level;
mod parse;

use level::Level;
pub use parse::{Limit, Load, Pace};

/// A message over a rate (RFC 6455 §7.4.1: policy violation).
const POLICY: u16 = 1008;
/// The queue is full (IANA's registry of close codes: try again later).
const TRY_AGAIN: u16 = 1013;
/// Bytes of answers that may wait for their turn.
const QUEUE_BYTES_MAX: u64 = 256 << 20;
/// The longest that a knee makes an answer wait.
const KNEE_NS_MAX: u64 = 10_000_000_000;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered at once.
    Now,
    /// It is answered then.
    At(Time),
    /// Its websocket is closed instead: code and reason.
    Close(u16, &'static str),
}

/// What limits came to; numbers only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Struck {
    /// Upgrades that `conns` refused.
    pub refused: u64,
    /// Websockets that `rate` closed.
    pub closed_by_rate: u64,
    /// Websockets that a full `queue` closed.
    pub closed_by_queue: u64,
    /// Websockets that `drop` reset.
    pub dropped: u64,
    /// The most websockets that were open at once.
    pub open_max: u64,
    /// The longest that a message waited for its turn in the `queue`, its service included, in ns.
    pub queue_ns_max: u64,
    /// The longest that `knee` made an answer wait, in ns.
    pub delay_ns_max: u64,
}

/// A token bucket as virtual scheduling (ITU-T I.371, GCRA): what came would be served by `busy_until`.
#[derive(Debug, Clone, Copy)]
struct Server {
    pace: Pace,
    busy_until: Time,
}

impl Server {
    const fn new(pace: Pace) -> Self {
        Self { pace, busy_until: Time::ZERO }
    }

    /// When a message of `bytes` that comes `now` has been served behind all others.
    fn serve(&mut self, now: Time, bytes: u64) -> Time {
        self.busy_until = self.busy_until.max(now).plus_ns(self.pace.ns(bytes));
        self.busy_until
    }
}

/// All limits of a sink, and where they stand.
#[derive(Debug, Default)]
pub struct Limits {
    rate: Option<(Server, u64)>,
    conns: Option<u64>,
    queue: Option<Server>,
    knee: Option<(Level, u64, u64)>,
    drop: Option<Dropping>,
    open: u64,
    waiting_bytes: u64,
    struck: Struck,
}

#[derive(Debug)]
struct Dropping {
    level: Level,
    share: f64,
    every_ns: u64,
    /// `Time::ZERO`: nobody has asked yet.
    next: Time,
}

impl Limits {
    /// # Errors
    /// A kind was given twice.
    pub fn new(limits: &[Limit]) -> Result<Self, String> {
        let mut all = Self::default();
        for &limit in limits {
            let twice = match limit {
                Limit::Rate { pace, burst } => all.rate.replace((Server::new(pace), burst.ns())).is_some(),
                Limit::Conns(most) => all.conns.replace(most).is_some(),
                Limit::Queue(pace) => all.queue.replace(Server::new(pace)).is_some(),
                Limit::Knee { load, base, slope, window } => {
                    all.knee.replace((Level::new(load, window), base.ns(), slope.ns())).is_some()
                }
                Limit::Drop { load, share, every, window } => {
                    let level = Level::new(load, window);
                    let dropping = Dropping { level, share, every_ns: every.ns(), next: Time::ZERO };
                    all.drop.replace(dropping).is_some()
                }
            };
            if twice {
                return Err(format!("--limit {} is there twice; give it once", limit.kind()));
            }
        }
        Ok(all)
    }

    /// What they came to so far.
    pub const fn struck(&self) -> Struck {
        self.struck
    }

    /// Whether one more websocket is let in.
    pub(super) fn lets_in(&mut self) -> bool {
        let full = self.conns.is_some_and(|most| self.open >= most);
        self.struck.refused += u64::from(full);
        !full
    }

    /// A websocket has opened.
    pub(super) fn opened(&mut self) {
        self.open += 1;
        self.struck.open_max = self.struck.open_max.max(self.open);
    }

    /// A websocket is gone.
    pub(super) const fn gone(&mut self) {
        self.open -= 1;
    }

    /// Answers of so many bytes no longer wait.
    pub(super) const fn answered(&mut self, bytes: u64) {
        self.waiting_bytes -= bytes;
    }

    /// An answer waits from now on.
    pub(super) const fn waits(&mut self, bytes: u64) {
        self.waiting_bytes += bytes;
    }

    /// A whole message of `bytes` has come, whose answer is to wait `delay_ns` besides.
    pub(super) fn message(&mut self, now: Time, bytes: u64, delay_ns: u64) -> Verdict {
        for level in
            self.knee.iter_mut().map(|(level, ..)| level).chain(self.drop.iter_mut().map(|d| &mut d.level))
        {
            level.message(now);
        }
        if let Some((server, burst_ns)) = &mut self.rate {
            if server.busy_until > now.plus_ns(*burst_ns) {
                self.struck.closed_by_rate += 1;
                return Verdict::Close(POLICY, "rate limit");
            }
            server.serve(now, bytes);
        }
        let mut at = now.plus_ns(delay_ns);
        if let Some(server) = &mut self.queue {
            if self.waiting_bytes + bytes > QUEUE_BYTES_MAX {
                self.struck.closed_by_queue += 1;
                return Verdict::Close(TRY_AGAIN, "queue full");
            }
            let served = server.serve(now, bytes);
            self.struck.queue_ns_max = self.struck.queue_ns_max.max(served.ns_since(now));
            at = served.plus_ns(delay_ns);
        }
        if let Some((level, base_ns, slope_ns)) = &mut self.knee {
            let over = level.over(now, self.open) * 100.0 * *slope_ns as f64;
            let wait_ns = base_ns.saturating_add(over as u64).min(KNEE_NS_MAX);
            self.struck.delay_ns_max = self.struck.delay_ns_max.max(wait_ns);
            at = at.plus_ns(wait_ns);
        }
        let waits = delay_ns > 0 || self.queue.is_some() || self.knee.is_some();
        if waits { Verdict::At(at) } else { Verdict::Now }
    }

    /// When [`drops`](Self::drops) is wanted next.
    pub(super) fn next_event(&self) -> Time {
        self.drop.as_ref().map_or(Time::NEVER, |dropping| dropping.next)
    }

    /// How many websockets are to be reset by now.
    pub(super) fn drops(&mut self, now: Time) -> u64 {
        let Some(dropping) = &mut self.drop else { return 0 };
        if now < dropping.next {
            return 0;
        }
        dropping.next = now.plus_ns(dropping.every_ns);
        if dropping.level.over(now, self.open) <= 0.0 {
            return 0;
        }
        let count = ((self.open as f64 * dropping.share) as u64).clamp(1, self.open.max(1));
        self.struck.dropped += count;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;

    fn limits(words: &[&str]) -> Limits {
        let limits: Vec<Limit> = words.iter().map(|word| word.parse().expect(word)).collect();
        Limits::new(&limits).expect("each once")
    }

    /// Offers `rate` messages a second of `bytes` from second `from` on for `seconds`; the verdicts with their times.
    fn offer(limits: &mut Limits, rate: u64, from: u64, seconds: u64, bytes: u64) -> Vec<(Time, Verdict)> {
        let at = |n: u64| Time::from_ns(from * S + n * S / rate);
        (0..rate * seconds).map(|n| (at(n), limits.message(at(n), bytes, 0))).collect()
    }

    fn closes(verdicts: &[(Time, Verdict)]) -> usize {
        verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Close(1008, _))).count()
    }

    #[test]
    fn a_rate_closes_what_is_above_it_and_nothing_below() {
        for words in ["rate=1000/s", "rate=100KB/s"] {
            let mut limits = limits(&[words]);
            assert_eq!(closes(&offer(&mut limits, 1000, 1, 60, 100)), 0, "{words}: the rate itself is free");
            let over = offer(&mut limits, 1050, 100, 60, 100);
            // 50 a second too many, less the 250 ms that the bucket holds.
            let expected = 60 * 50 - 250;
            assert!(closes(&over).abs_diff(expected) <= 2, "{words}: {} closes", closes(&over));
            let first = over.iter().find(|(_, verdict)| *verdict != Verdict::Now).expect("one").0;
            assert!(first.ns_since(Time::from_ns(100 * S)).abs_diff(5 * S) < 100 * MS, "{words}: 250 / 50 s");
            assert_eq!(limits.struck().closed_by_rate as usize, closes(&over));
        }
        let mut limits = limits(&["rate=1000/s"]);
        let stalled = (0..250).map(|_| limits.message(Time::from_ns(S), 1, 0)).collect::<Vec<_>>();
        assert!(stalled.iter().all(|verdict| *verdict == Verdict::Now), "250 ms at once are a burst");
    }

    #[test]
    fn a_queue_grows_by_what_is_too_much_and_drains_by_what_is_left() {
        let mut limits = limits(&["queue=1000/s"]);
        let wait = |verdicts: &[(Time, Verdict)]| {
            let Some((came, Verdict::At(at))) = verdicts.last().copied() else { panic!("it waits") };
            at.ns_since(came)
        };
        assert_eq!(wait(&offer(&mut limits, 999, 1, 10, 1)), MS, "below it there is the service alone");
        let over = wait(&offer(&mut limits, 1100, 20, 10, 1));
        assert!(over.abs_diff(S) < 5 * MS, "10 s with 100 too many a second: 1 s, and it is {over} ns");
        let drained = wait(&offer(&mut limits, 900, 30, 5, 1));
        assert!(drained.abs_diff(S / 2) < 10 * MS, "5 s with 100 to spare: {drained} ns");
        assert_eq!(wait(&offer(&mut limits, 900, 35, 6, 1)), MS);
        assert!(limits.struck().queue_ns_max.abs_diff(S) < 5 * MS);
    }

    #[test]
    fn a_full_queue_closes() {
        let mut limits = limits(&["queue=1/s"]);
        limits.waits(QUEUE_BYTES_MAX);
        assert_eq!(limits.message(Time::from_ns(1), 1, 0), Verdict::Close(1013, "queue full"));
        limits.answered(1);
        assert!(matches!(limits.message(Time::from_ns(1), 1, 0), Verdict::At(_)));
    }

    #[test]
    fn a_knee_bends_where_it_is_said() {
        let mut limits = limits(&["knee=200,base=5ms,slope=20ms"]);
        let mut wait = |open: u64| {
            while limits.open < open {
                limits.opened();
            }
            match limits.message(Time::from_ns(S), 1, 0) {
                Verdict::At(at) => at.ns_since(Time::from_ns(S)),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([1, 200, 202, 210].map(&mut wait), [5 * MS, 5 * MS, 25 * MS, 105 * MS]);
        assert_eq!(wait(100_000), KNEE_NS_MAX);
    }

    #[test]
    fn a_knee_by_messages_looks_at_its_last_window() {
        let mut limits = limits(&["knee=1000/s,base=1ms,slope=10ms"]);
        let waits = |limits: &mut Limits, rate, from| {
            let verdicts = offer(limits, rate, from, 6, 1);
            let Some((came, Verdict::At(at))) = verdicts.last().copied() else { panic!("it waits") };
            at.ns_since(came)
        };
        assert_eq!(waits(&mut limits, 1000, 1), MS);
        let over = waits(&mut limits, 1100, 7);
        assert!(over.abs_diff(101 * MS) < 2 * MS, "ten per cent over: {over} ns");
        assert_eq!(waits(&mut limits, 900, 13), MS, "it comes down again");
    }

    #[test]
    fn connections_above_the_most_are_refused_and_room_is_given_again() {
        let mut limits = limits(&["conns=2"]);
        for _ in 0..2 {
            assert!(limits.lets_in());
            limits.opened();
        }
        assert!(!limits.lets_in());
        limits.gone();
        assert!(limits.lets_in());
        assert_eq!((limits.struck().refused, limits.struck().open_max), (1, 2));
    }

    #[test]
    fn a_share_is_dropped_each_second_while_too_many_are_open() {
        let mut limits = limits(&["drop=100,share=5%"]);
        (0..100).for_each(|_| limits.opened());
        assert_eq!((limits.drops(Time::from_ns(S)), limits.next_event()), (0, Time::from_ns(2 * S)));
        (0..20).for_each(|_| limits.opened());
        assert_eq!(limits.drops(Time::from_ns(2 * S - 1)), 0, "not its time");
        assert_eq!(limits.drops(Time::from_ns(2 * S)), 6);
        (0..20).for_each(|_| limits.gone());
        assert_eq!((limits.drops(Time::from_ns(3 * S)), limits.struck().dropped), (0, 6));
    }

    #[test]
    fn a_kind_is_given_once() {
        let limits: Vec<Limit> = ["conns=2", "conns=3"].map(|word| word.parse().expect(word)).to_vec();
        assert!(Limits::new(&limits).is_err_and(|error| error.contains("conns")));
    }
}
