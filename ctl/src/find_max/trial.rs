//! The search, tried on targets whose limit is known.

use scale_api::calibration::Limit;
use scale_api::report::{Figure, Load, Missed, Report};
use scale_api::spec::{GroupSpec, Spec, ThresholdSpec};

use super::judge::{Judge, Rules, Verdict};
use super::result::{Found, Outcome, Recovery, Step};
use super::walk::{Driver, is_confirmed, resume, walk};
use super::{LOWER, PRECISION, RECOVER_SECONDS, RECOVER_USUAL, SETTLE_SECONDS, text};
use crate::compare::random::Random;
use crate::seek::search::{Pace, Search};
use crate::seek::session::End;

const TIME: f64 = 585.0;
const STEP: usize = 6;
const HOLD: usize = 60;
const CONNECTS: f64 = 1000.0;
/// Messages a second and stream.
const TICKS: f64 = 10.0;
/// Of each second so many response times are looked at.
const SAMPLES: usize = 100;

/// What a target is limited by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Messages a second: the one that is too many is not echoed, and its connection is closed.
    Rate,
    /// Connections: others are refused.
    Conns,
    /// Messages served a second: others queue, for ever.
    Queue,
    /// Streams, above which it answers later.
    Knee,
    /// Streams, above which it drops some.
    Drop,
    /// Nothing: the generator is the limit.
    Nothing,
}

/// A target, and a generator with room for `host` streams.
struct Simulated {
    kind: Kind,
    truth: f64,
    host: f64,
    noise: f64,
    random: Random,
    rules: Rules,
    spent: f64,
    time: f64,
    level: u64,
    /// Messages that wait.
    queue: f64,
    /// Messages that may be too many before it counts.
    burst: f64,
    /// Ended when so many steps are taken.
    steps_max: usize,
    /// So many steps are printed, and then nobody reads any more.
    read_max: usize,
    kept: Vec<Step>,
}

/// A step so far.
#[derive(Default)]
struct Sum {
    load: Load,
    late: Vec<f64>,
    response: Vec<f64>,
}

impl Simulated {
    fn new(kind: Kind, truth: f64, host: f64, noise: f64, seed: u64) -> Self {
        let expression = |text: &str| ThresholdSpec { expression: text.into() };
        let group = vec![GroupSpec { name: "main".into(), ..GroupSpec::default() }];
        let threshold = vec![expression("response.p99 < 50ms"), expression("disconnects.rate < 1%")];
        Self {
            kind,
            truth,
            host,
            noise,
            random: Random::new(seed),
            rules: Rules::new(Spec { group, threshold, ..Spec::default() }, 1.0 / TICKS),
            spent: 0.0,
            time: TIME,
            level: 100,
            queue: 0.0,
            burst: truth * TICKS / 4.0,
            steps_max: usize::MAX,
            read_max: usize::MAX,
            kept: Vec::new(),
        }
    }

    /// One second more of a step; how busy the generator was.
    fn second(&mut self, sum: &mut Sum) -> f64 {
        self.spent += 1.0;
        let (level, truth) = (self.level as f64, self.truth);
        let due = level * TICKS;
        let over = level / truth - 1.0;
        let (mut open, mut echoed, mut base) = (level, due, 0.005);
        match self.kind {
            Kind::Rate => {
                self.burst = (self.burst - (due - truth * TICKS)).min(truth * TICKS / 4.0);
                let cut = (-self.burst).max(0.0).min(level);
                self.burst = self.burst.max(0.0);
                echoed -= cut;
                *sum.load.disconnects.entry("closed_by_server".into()).or_default() += cut as u64;
            }
            Kind::Conns if over > 0.0 => {
                open = truth;
                echoed = open * TICKS;
                *sum.load.connect_failures.entry("http_503".into()).or_default() += (level - truth) as u64;
            }
            Kind::Queue => {
                let capacity = truth * TICKS;
                let waits = self.queue + due;
                echoed = waits.min(capacity);
                self.queue = waits - echoed;
                base = 0.001 + self.queue / capacity;
            }
            Kind::Knee if over > 0.0 => base += 0.02 * over * 100.0,
            Kind::Drop if over > 0.0 => {
                *sum.load.disconnects.entry("reset".into()).or_default() += (level * 0.05) as u64;
                open *= 0.97;
                echoed *= 0.97;
            }
            _ => {}
        }
        let sent = open * TICKS;
        // A neighbour takes the machine for a fifth of a second.
        let is_hit = self.random.uniform() < self.noise;
        for sample in 0..SAMPLES {
            let late = if is_hit && sample < SAMPLES / 5 { 0.02 } else { 0.000_3 };
            sum.late.push(late);
            sum.response.push(late + base * (0.05 * self.random.normal()).exp());
        }
        let raw = level / self.host;
        let load = &mut sum.load;
        let add = |sum: &mut u64, more: f64| *sum += more as u64;
        add(&mut load.ticks_due, due);
        add(&mut load.ticks_missed.generator, due * (1.0 - 1.0 / raw).max(0.0));
        add(&mut load.ticks_missed.disconnected, due - sent);
        add(&mut load.ticks_sent, sent);
        add(&mut load.messages_echoed, echoed.min(sent + self.queue));
        (load.streams_requested, load.streams_opened) = (self.level, open as u64);
        (0.9 * raw).min(1.0)
    }

    /// As its readings would have it.
    fn report(sum: &Sum) -> Report {
        let figure = |samples: &[f64]| {
            let mut sorted = samples.to_vec();
            sorted.sort_by(f64::total_cmp);
            let at = |share: f64| sorted[((sorted.len() as f64 * share).ceil() as usize).max(1) - 1];
            Some(Figure { count: sorted.len() as u64, p50: at(0.5), p99: at(0.99), ..Figure::default() })
        };
        let mut report = Report { load: sum.load.clone(), ..Report::default() };
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        report.load.delivered_ratio = ratio(sum.load.ticks_sent, sum.load.ticks_due);
        report.load.echoed_ratio = ratio(sum.load.messages_echoed, sum.load.ticks_sent);
        report.load.ticks_missed = Missed { ..sum.load.ticks_missed };
        (report.latency.lateness, report.latency.response) = (figure(&sum.late), figure(&sum.response));
        let service: Vec<f64> = sum.response.iter().zip(&sum.late).map(|(all, late)| all - late).collect();
        report.latency.service = figure(&service);
        report
    }

    fn set(&mut self, level: u64) {
        self.spent += level.saturating_sub(self.level) as f64 / CONNECTS;
        // Whoever is closed takes along what waits for it.
        self.queue *= (level as f64 / self.level as f64).min(1.0);
        self.level = level;
        for _ in 0..SETTLE_SECONDS as usize {
            self.second(&mut Sum::default());
        }
    }

    fn watch(&mut self) -> Option<f64> {
        for second in 0..RECOVER_SECONDS as usize {
            let mut sum = Sum::default();
            self.second(&mut sum);
            if self.rules.unmet(&mut Self::report(&sum), &Report::default()).0.is_empty() {
                return Some(second as f64);
            }
        }
        None
    }

    fn search(&self, most: u64) -> Search {
        let pace = Pace {
            connects: CONNECTS,
            step: SETTLE_SECONDS + STEP as f64 + RECOVER_USUAL,
            hold: SETTLE_SECONDS + HOLD as f64,
            precision: PRECISION,
            lower: LOWER,
            least: 100,
        };
        Search::new(100, (most, Limit::Streams), pace)
    }

    /// What is found, with steps that were taken before.
    fn find(&mut self, most: u64, mut steps: Vec<Step>) -> Found {
        let mut search = self.search(most);
        resume(&mut search, &steps, self.level);
        let interrupted = walk(&mut search, &mut steps, self).is_err();
        let confirmed = is_confirmed(&search, &steps);
        let mut found = Found { steps, ..Found::default() };
        (found.asked.from, found.asked.hold) = (100, HOLD as u64);
        found.conclude(search.best(), confirmed, search.limit(), interrupted);
        found.sentences = text::sentences(&found);
        found
    }
}

impl Driver for Simulated {
    fn left(&self) -> f64 {
        self.time - self.spent
    }

    fn step(&mut self, level: u64, hold: bool) -> Result<Step, End> {
        if self.kept.len() >= self.steps_max {
            return Err(End::Interrupted);
        }
        self.set(level);
        let at = self.spent;
        let (mut judge, mut sum) = (Judge::new(if hold { HOLD } else { STEP }, hold), Sum::default());
        loop {
            let busy = self.second(&mut sum);
            let mut report = Self::report(&sum);
            let verdict = judge.take(&self.rules, busy, &mut report, &Report::default());
            if let Some(Verdict { limit, broke, .. }) = verdict {
                let (seconds, busy) = (judge.seconds(), judge.busy());
                let disconnects = report.load.disconnects;
                return Ok(Step {
                    level,
                    at,
                    seconds,
                    hold,
                    limit,
                    broke,
                    busy,
                    disconnects,
                    ..Step::default()
                });
            }
        }
    }

    fn come_down(&mut self, from: u64, to: u64) -> Result<Option<Recovery>, End> {
        self.set(to);
        let begun = self.spent;
        let seconds = self.watch();
        if seconds.is_none() {
            self.set(100);
            self.watch();
        }
        Ok(Some(Recovery { from, to, seconds, watched: self.spent - begun }))
    }

    fn tell(&mut self, _: &Step) -> Result<(), End> {
        self.read_max = self.read_max.checked_sub(1).ok_or(End::Interrupted)?;
        Ok(())
    }

    fn keep(&mut self, _: &Search, steps: &[Step]) {
        self.kept = steps.to_vec();
        assert!(steps.len() <= 60, "it comes to no end: {steps:?}");
    }
}

/// What breaks first at a target of a kind.
fn names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Rate | Kind::Drop => &["disconnects.rate < 1%"],
        Kind::Conns => &["load.open_ratio >= 99%"],
        Kind::Queue => &["response.p99 < 50ms", "load.echoed_ratio >= 99%"],
        Kind::Knee => &["response.p99 < 50ms"],
        Kind::Nothing => &[],
    }
}

/// The shares of targets of a kind whose limit is found within 5 % and confirmed, and of which is named what broke first.
fn found(kind: Kind, noise: f64, seeds: u64) -> (f64, f64) {
    let (mut near, mut named) = (0, 0);
    for seed in 0..seeds {
        let truth = 200.0 + Random::new(seed ^ 0x5eed).below(20_000) as f64;
        let mut target = Simulated::new(kind, truth, 1e9, noise, seed);
        let result = target.find(1_000_000, Vec::new());
        let last = result.steps.iter().rfind(|step| step.level == result.max);
        assert!(last.is_none_or(|step| step.limit.is_none()), "seed {seed}: it broke: {:?}", result.steps);
        assert!(target.spent <= TIME + RECOVER_SECONDS, "seed {seed}: {} s", target.spent);
        let is_near = (result.max as f64 / truth - 1.0).abs() <= 0.05;
        near += u64::from(is_near && result.outcome == Outcome::Found && result.exit_code == 0);
        let first = result.broke.as_ref().and_then(|broke| broke.figures.first());
        named += u64::from(first.is_some_and(|first| names(kind).contains(&first.expression.as_str())));
    }
    (near as f64 / seeds as f64, named as f64 / seeds as f64)
}

const KINDS: [Kind; 5] = [Kind::Rate, Kind::Conns, Kind::Queue, Kind::Knee, Kind::Drop];

#[test]
fn each_kind_of_limit_is_found_within_five_percent_with_what_broke_first() {
    for kind in KINDS {
        let (near, named) = found(kind, 0.0, 40);
        assert!(near >= 0.95 && named >= 0.95, "{kind:?}: {near} near, {named} named");
    }
}

#[test]
fn on_a_noisy_host_it_is_found_all_the_same() {
    for kind in KINDS {
        let (near, named) = found(kind, 0.05, 40);
        assert!(near >= 0.9 && named >= 0.9, "{kind:?}: {near} near, {named} named");
    }
}

#[test]
fn a_target_without_a_limit_ends_at_this_host_and_is_never_blamed() {
    for seed in 0..40 {
        let host = 500.0 + Random::new(seed).below(20_000) as f64;
        let result = Simulated::new(Kind::Nothing, 1e9, host, 0.0, seed).find(1_000_000, Vec::new());
        assert_eq!((result.outcome, result.exit_code), (Outcome::AtLeast, 6), "seed {seed}: {result:?}");
        assert!(result.limit.is_of_this_host() && result.broke.is_none(), "seed {seed}: {:?}", result.limit);
        assert!(result.sentences[0].ends_with("this host ends here"), "{:?}", result.sentences);
        assert!((0.9..=1.01).contains(&(result.max as f64 / host)), "seed {seed}: {} of {host}", result.max);
    }
}

#[test]
fn a_bound_that_holds_and_a_least_that_does_not_are_both_said() {
    let result = Simulated::new(Kind::Knee, 5000.0, 1e9, 0.0, 1).find(800, Vec::new());
    assert_eq!((result.max, result.exit_code, result.limit), (800, 0, Limit::Streams));
    assert!(result.sentences.iter().any(|line| line == "--to was reached"), "{:?}", result.sentences);
    for kind in KINDS {
        let result = Simulated::new(kind, 50.0, 1e9, 0.0, 1).find(100_000, Vec::new());
        assert_eq!((result.max, result.exit_code), (0, 99), "{kind:?}: {result:?}");
        assert_eq!(result.broke.map(|broke| broke.level), Some(100));
    }
}

#[test]
fn a_queue_is_left_to_drain_before_the_next_step_and_that_is_told() {
    let result = Simulated::new(Kind::Queue, 3000.0, 1e9, 0.0, 7).find(1_000_000, Vec::new());
    let recovery = result.recovery.expect("it broke");
    assert!(recovery.from > 3000 && recovery.to < 3000 && recovery.seconds.is_some(), "{recovery:?}");
}

#[test]
fn a_search_that_was_interrupted_goes_on_where_it_was() {
    for (kind, cut) in KINDS.into_iter().zip([1, 3, 6, 8, 10]) {
        let mut target = Simulated::new(kind, 4321.0, 1e9, 0.0, 3);
        target.steps_max = cut;
        let first = target.find(1_000_000, Vec::new());
        assert_eq!((first.outcome, first.exit_code, first.steps.len()), (Outcome::Aborted, 5, cut));
        let known = serde_json::from_str::<Found>(&serde_json::to_string(&first).unwrap()).unwrap();
        let mut again = Simulated::new(kind, 4321.0, 1e9, 0.0, 4);
        let result = again.find(1_000_000, known.steps);
        let share = result.max as f64 / 4321.0;
        assert!((0.95..=1.05).contains(&share) && result.confirmed, "{kind:?}: {share} {:?}", result.steps);
        assert_eq!(result.steps[..cut], first.steps[..], "what was known is not asked again");
    }
}

#[test]
fn a_search_that_ran_out_of_time_or_of_its_host_goes_on_to_the_targets_limit() {
    for (host, time, limit) in [(1e9, 170.0, Limit::Time), (2100.0, TIME, Limit::Busy)] {
        let mut target = Simulated::new(Kind::Knee, 5000.0, host, 0.0, 5);
        target.time = time;
        let first = target.find(1_000_000, Vec::new());
        assert!(first.confirmed && !first.is_final() && first.exit_code == 6, "{first:?}");
        assert!(first.limit == limit || (limit != Limit::Time && first.limit.is_of_this_host()), "{first:?}");
        let mut again = Simulated::new(Kind::Knee, 5000.0, 1e9, 0.0, 6);
        let result = again.find(1_000_000, first.steps.clone());
        assert!(result.is_final() && result.limit == Limit::Target, "{result:?}");
        assert!((0.95..=1.05).contains(&(result.max as f64 / 5000.0)), "{result:?}");
        // What was confirmed stays so where nothing more came of it.
        let mut cut = Simulated::new(Kind::Knee, 5000.0, 1e9, 0.0, 7);
        cut.steps_max = 0;
        let result = cut.find(1_000_000, first.steps.clone());
        assert_eq!((result.max, result.confirmed), (first.max, true));
    }
}

#[test]
fn too_little_time_confirms_nothing() {
    let mut target = Simulated::new(Kind::Knee, 5000.0, 1e9, 0.0, 5);
    target.time = 60.0;
    let result = target.find(1_000_000, Vec::new());
    assert!(!result.confirmed && result.exit_code == 6, "{result:?}");
}

#[test]
fn where_nobody_reads_any_more_it_ends_with_what_is_known() {
    let mut target = Simulated::new(Kind::Knee, 5000.0, 1e9, 0.0, 5);
    target.read_max = 2;
    let result = target.find(1_000_000, Vec::new());
    assert_eq!((result.outcome, result.steps.len(), result.max), (Outcome::Aborted, 3, 400));
    assert_eq!(target.kept, result.steps);
}
