//! Thresholds that Coder has published, by name.
//!
//! `coder-gates`: what its connection tests ask for beyond 3,000 users: 90 % of the target throughput, and less
//! than 1 % of clients disconnected (github.com/coder/internal, issue 888, "Key results").
//! `coder-table`: what a row of the scale tests in its documentation states (coder.com/docs, "Scaling Utility"):
//! so many connections at once, each of which reads and writes random data at 40KB/s. It states no times and no
//! margins; every connection open, none lost and 99 % of that rate are how we read it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spec::{DEFAULT_BYTES_PER_TICK, DEFAULT_TICK, GroupSpec, Spec, Traffic};

/// Bytes a second and connection that a row of the table must have, each way: 99 % of its 40KB/s.
const TABLE_RATE_MIN: f64 = 39_600.0;

/// Thresholds by one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// What a row of Coder's table of scale tests states.
    CoderTable,
    /// Coder's gates for its own scale tests.
    CoderGates,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 2] = [Self::CoderTable, Self::CoderGates];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CoderTable => "coder-table",
            Self::CoderGates => "coder-gates",
        }
    }

    /// What it stands for. `echo`: whether any traffic comes back.
    pub fn thresholds(self, echo: bool) -> Vec<&'static str> {
        match self {
            Self::CoderTable => vec![
                "load.open_ratio >= 100%",
                "disconnects.count == 0",
                "load.stream_rate_sent >= 39.6KB/s",
                "load.stream_rate_received >= 39.6KB/s",
            ],
            Self::CoderGates => {
                let echoed = echo.then_some("load.echoed_ratio >= 90%");
                let all = ["load.delivered_ratio >= 90%"].into_iter().chain(echoed);
                all.chain(["disconnects.rate < 1%"]).collect()
            }
        }
    }

    /// Whether a run can be judged by it.
    pub(super) fn check(self, spec: &Spec, error: &mut dyn FnMut(String)) {
        match self {
            Self::CoderGates => {
                if spec.group.iter().all(|group| group.traffic == Traffic::Receive) {
                    error("--preset coder-gates asks for 90 % of a target throughput, and --traffic receive has none: the target decides; give a --threshold on load.rate_received".into());
                }
            }
            Self::CoderTable => spec.group.iter().for_each(|group| check_row(group, error)),
        }
    }
}

/// A connection of the table reads and writes, and so fast.
fn check_row(group: &GroupSpec, error: &mut dyn FnMut(String)) {
    let name = &group.name;
    if group.traffic != Traffic::Echo {
        error(format!(
            "--preset coder-table: the table's connections read and write; group `{name}` needs --traffic echo"
        ));
        return;
    }
    // What is in a file, and what stages make of it, only the run can tell.
    if group.message_file.is_some() || !group.stage.is_empty() {
        return;
    }
    let tick = group.tick_interval.unwrap_or(DEFAULT_TICK).seconds();
    let a_tick = group.bytes_per_tick.unwrap_or(DEFAULT_BYTES_PER_TICK).0 as f64;
    let rate = group.rate.map_or(a_tick / tick, |rate| rate.0 as f64);
    if rate < TABLE_RATE_MIN {
        error(format!(
            "--preset coder-table: the table's connections read and write 40KB/s, and group `{name}` {:.1} KB/s a stream; give --bytes-per-tick 4096B --tick-interval 100ms",
            rate / 1e3
        ));
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|preset| preset.name() == text);
        found.ok_or_else(|| format!("`{text}` is no preset; there are {known}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threshold::{Names, Threshold};

    #[test]
    fn all_that_presets_stand_for_are_thresholds_and_their_names_are_read_back() {
        for preset in Preset::ALL {
            for expression in preset.thresholds(true) {
                Threshold::parse(expression, &Names::default()).unwrap();
            }
            assert_eq!(preset.to_string().parse(), Ok(preset));
            let json = serde_json::to_string(&preset).unwrap();
            assert_eq!(json, format!("\"{preset}\""));
        }
        assert!("coder".parse::<Preset>().unwrap_err().contains("coder-table, coder-gates"));
        let table = Threshold::parse(Preset::CoderTable.thresholds(true)[2], &Names::default()).unwrap();
        assert!(table.is_met(TABLE_RATE_MIN) && !table.is_met(TABLE_RATE_MIN - 1.0));
    }
}
