//! What was found: the JSON of `find-max`, which is also what `--keep` writes and `--resume` reads. Times in seconds.

use std::collections::BTreeMap;

use scale_api::calibration::Limit;
use scale_api::report::{Exit, Figure, ThresholdResult};
use scale_api::spec::Spec;
use serde::{Deserialize, Serialize};

/// Version of its shape.
pub const SCHEMA: u32 = 1;

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Vary {
    /// Streams.
    #[default]
    Conns,
    /// Payload bytes a second and stream.
    Rate,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The target's limit, held and confirmed.
    Found,
    /// It carries so much, and how much more was not found out.
    AtLeast,
    /// Not even the least was held.
    Nothing,
    /// Ended before its time.
    #[default]
    Aborted,
}

macro_rules! parts {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }
    )*};
}

parts! {
    /// All of it.
    Found {
        /// [`SCHEMA`].
        schema: u32,
        /// What was asked.
        asked: Asked,
        /// When it began, in seconds since 1970.
        at: f64,
        /// The run, or the last of several where it was resumed.
        run: String,
        outcome: Outcome,
        exit_code: u8,
        /// What it comes to, in a sentence or two.
        sentences: Vec<String>,
        /// The most that was held; 0: nothing was. Streams, or bytes a second and stream.
        max: u64,
        /// It was held for `asked.hold`.
        confirmed: bool,
        /// What ended the search.
        limit: Limit,
        /// What broke first, at the least load above `max` that broke for the target's sake.
        broke: Option<Broke>,
        /// After the highest load that broke.
        recovery: Option<Recovery>,
        /// Where response begins to rise faster than the load; `None`: it does not.
        knee: Option<Knee>,
        steps: Vec<Step>,
        /// What was said of this host and of the run, for who doubts the result.
        warnings: Vec<String>,
    }
    /// What is asked; a search is resumed by the same.
    Asked {
        vary: Vary,
        /// Whose load is varied.
        group: String,
        /// Without their queries.
        targets: Vec<String>,
        /// Of the streams where the rate is varied, of the payload where streams are: the run file's own words.
        load: String,
        until: Vec<String>,
        from: u64,
        to: Option<u64>,
        step: u64,
        hold: u64,
        /// Of all else that makes the load, as the run file has it ([`digest`]).
        digest: String,
    }
    /// A load that was not held, and by which figures.
    Broke {
        level: u64,
        /// In the order in which they broke.
        figures: Vec<ThresholdResult>,
        /// Streams lost by class.
        disconnects: BTreeMap<String, u64>,
        /// Attempts that failed by class.
        connect_failures: BTreeMap<String, u64>,
    }
    /// A load and its 99th percentile of response.
    Knee { level: u64, response_p99: f64, }
    /// What came of going back.
    Recovery {
        /// From where.
        from: u64,
        /// To what.
        to: u64,
        /// Until all that is asked was met again; `None`: it was not within `watched`.
        seconds: Option<f64>,
        watched: f64,
    }
    /// A load, for some seconds.
    Step {
        run: String,
        level: u64,
        /// When its measuring began, in seconds since its run's start.
        at: f64,
        /// Seconds that were measured.
        seconds: u64,
        hold: bool,
        /// What it broke; `None`: it was held. `target`: the figures of `broke`; else what this host could not do.
        limit: Option<Limit>,
        /// What it did not meet, in the order in which it broke.
        broke: Vec<ThresholdResult>,
        open: u64,
        messages_per_second: f64,
        bytes_per_second: f64,
        echoed_ratio: Option<f64>,
        response: Option<Figure>,
        service_p99: Option<f64>,
        lateness_p99: Option<f64>,
        /// The median of the busiest worker's seconds.
        busy: f64,
        disconnects: BTreeMap<String, u64>,
        connect_failures: BTreeMap<String, u64>,
        recovery: Option<Recovery>,
    }
}

/// What tells one load from another: FNV-1a of its run as JSON, without what does not change the load.
pub fn digest(spec: &Spec) -> String {
    let mut spec = Spec { name: None, labels: BTreeMap::new(), ..spec.clone() };
    // A search that is resumed may be given more time.
    spec.group.iter_mut().for_each(|group| group.duration = None);
    let json = serde_json::to_string(&spec).expect("plain values");
    let take = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", json.bytes().fold(0xcbf2_9ce4_8422_2325, take))
}

impl Step {
    /// Whether the target is what broke.
    pub fn is_of_the_target(&self) -> bool {
        self.limit == Some(Limit::Target)
    }
}

impl Found {
    /// Whether more time or a better host would find nothing more.
    pub fn is_final(&self) -> bool {
        self.confirmed && matches!(self.limit, Limit::Target | Limit::Streams)
    }

    /// Fills in what follows from the steps: `max`, whether it was confirmed, and what ended the search.
    pub fn conclude(&mut self, max: u64, confirmed: bool, limit: Limit, aborted: bool) {
        let of_the_target = || self.steps.iter().filter(|step| step.is_of_the_target());
        // The last word on a load is its last step.
        let above = of_the_target().filter(|step| step.level > max || (max == 0 && !step.broke.is_empty()));
        let least = above.rev().min_by_key(|step| step.level);
        self.broke =
            least.filter(|_| matches!(limit, Limit::Target | Limit::Time) || max == 0).map(|step| Broke {
                level: step.level,
                figures: step.broke.clone(),
                disconnects: step.disconnects.clone(),
                connect_failures: step.connect_failures.clone(),
            });
        let recovered = of_the_target().filter(|step| step.recovery.is_some());
        self.recovery = recovered.max_by_key(|step| step.level).and_then(|step| step.recovery.clone());
        self.knee = knee(&self.steps);
        (self.max, self.confirmed, self.limit) = (max, confirmed, limit);
        (self.outcome, self.exit_code) = match (max, limit) {
            _ if aborted => (Outcome::Aborted, Exit::Aborted as u8),
            (0, Limit::Target) => (Outcome::Nothing, Exit::Failed as u8),
            (0, _) => (Outcome::Nothing, Exit::Incomplete as u8),
            (_, Limit::Target) if confirmed => (Outcome::Found, 0),
            (_, Limit::Streams) if confirmed => (Outcome::AtLeast, 0),
            _ => (Outcome::AtLeast, Exit::Incomplete as u8),
        };
    }
}

/// A curve that bends less than this, as a share of its height, has no knee.
const KNEE_MIN: f64 = 0.3;
/// And behind a knee response rises by so much.
const KNEE_RISE: f64 = 2.0;

/// The knee of response p99 over load: where the curve, brought to a unit square, lies furthest below its diagonal
/// (Satopää et al., "Finding a 'Kneedle' in a Haystack", 2011).
fn knee(steps: &[Step]) -> Option<Knee> {
    // Of each load its last step; of those that this host spoilt, none.
    let mut curve = BTreeMap::new();
    for step in steps.iter().filter(|step| step.limit.is_none() || step.is_of_the_target()) {
        step.response.as_ref().map(|response| curve.insert(step.level, response.p99));
    }
    let (first, last) = (*curve.first_key_value()?.0 as f64, *curve.last_key_value()?.0 as f64);
    let low = curve.values().copied().fold(f64::INFINITY, f64::min);
    let (&peak, &high) = curve.iter().max_by(|one, other| one.1.total_cmp(other.1))?;
    let below = |level: u64, p99: f64| (level as f64 - first) / (last - first) - (p99 - low) / (high - low);
    // What does not rise behind it is no knee.
    let before = curve.range(..peak).filter(|(_, p99)| **p99 * KNEE_RISE <= high);
    let furthest = before.map(|(&level, &p99)| (below(level, p99), level, p99));
    let (_, level, response_p99) =
        furthest.filter(|(below, ..)| *below > KNEE_MIN).max_by(|one, other| one.0.total_cmp(&other.0))?;
    Some(Knee { level, response_p99 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(u64, f64)]) -> Option<u64> {
        let step = |&(level, p99): &(u64, f64)| Step {
            level,
            response: Some(Figure { p99, ..Figure::default() }),
            ..Step::default()
        };
        knee(&points.iter().map(step).collect::<Vec<_>>()).map(|knee| knee.level)
    }

    #[test]
    fn a_knee_is_where_response_begins_to_rise_and_a_straight_line_has_none() {
        let bent = [(100, 0.005), (200, 0.005), (400, 0.005), (800, 0.3), (600, 0.006), (700, 0.15)];
        assert_eq!(curve(&bent), Some(600));
        assert_eq!(curve(&[(100, 0.1), (200, 0.2), (300, 0.3), (400, 0.4)]), None);
        let noise = [(50, 0.0007), (100, 0.0009), (200, 0.0008), (400, 0.0043), (800, 0.0012)];
        assert_eq!(curve(&noise), None, "nothing rises behind the last");
        assert_eq!((curve(&[(100, 0.1)]), curve(&[]), curve(&[(100, 0.1), (200, 0.1)])), (None, None, None));
    }

    #[test]
    fn what_broke_is_the_least_load_above_the_answer_by_its_last_step() {
        let broke = |level, expression: &str| Step {
            level,
            limit: Some(Limit::Target),
            broke: vec![ThresholdResult { expression: expression.into(), ..ThresholdResult::default() }],
            ..Step::default()
        };
        let steps = vec![
            broke(2000, "a"),
            broke(1030, "b"),
            Step { level: 1000, ..Step::default() },
            broke(1030, "c"),
        ];
        let mut found = Found { steps, ..Found::default() };
        found.conclude(1000, true, Limit::Target, false);
        let broke = found.broke.expect("it broke");
        assert_eq!((broke.level, broke.figures[0].expression.as_str()), (1030, "c"));
    }
}
