//! What was found: the JSON of `find-max`, which is also what `--keep` writes and `--resume` reads. Times in seconds.

use std::collections::BTreeMap;

use scale_api::calibration::Limit;
use scale_api::report::{Exit, Figure, ThresholdResult};
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
        hold: u64,
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

impl Step {
    /// Whether the target is what broke.
    pub fn is_of_the_target(&self) -> bool {
        self.limit == Some(Limit::Target)
    }
}

impl Found {
    /// Fills in what follows from the steps: `max`, whether it was confirmed, and what ended the search.
    pub fn conclude(&mut self, max: u64, confirmed: bool, limit: Limit, aborted: bool) {
        let of_the_target = || self.steps.iter().filter(|step| step.is_of_the_target());
        // The last word on a load is its last step.
        let above = of_the_target().filter(|step| step.level > max || (max == 0 && !step.broke.is_empty()));
        let least = above.rev().min_by_key(|step| step.level);
        self.broke = least.filter(|_| limit == Limit::Target || max == 0).map(|step| Broke {
            level: step.level,
            figures: step.broke.clone(),
            disconnects: step.disconnects.clone(),
            connect_failures: step.connect_failures.clone(),
        });
        let recovered = of_the_target().filter(|step| step.recovery.is_some());
        self.recovery = recovered.max_by_key(|step| step.level).and_then(|step| step.recovery.clone());
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
