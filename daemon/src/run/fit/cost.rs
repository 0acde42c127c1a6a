//! What a plan costs the cores, and what share that is of what this host was found to offer.
//!
//! A message and each byte of it have a cost. Where a calibration of the protocol is kept that still says something, it is
//! the cost measured here; else the usual one. Load that is not echoed costs less; that it is not taken for less keeps the
//! answer on the safe side. Web terminals are not calibrated: they have the usual cost.

use std::collections::BTreeMap;

use scale_api::calibration::Calibration;
use scale_api::units::utc;

use crate::load::{Group, Protocol, Traffic};
use crate::run::calibration::{Kept, name};
use crate::run::plan::Plan;

/// CPU time of a message and of each byte of it, both ways together, kernel included, in µs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    message: f64,
    byte: f64,
}

impl Cost {
    /// No host gets below it.
    pub(super) const LEAST: Self = Self { message: 2.0, byte: 0.000_05 };
    /// As was measured (docs/measuring.md).
    pub(super) const USUAL: Self = Self { message: 11.0, byte: 0.000_3 };

    fn measured(calibration: &Calibration) -> Self {
        match calibration.byte_us {
            Some(byte) => Self { message: calibration.message_us, byte },
            // Of one length alone only the sum is known.
            None => Self {
                message: (calibration.cpu_us_per_message
                    - calibration.payload_bytes as f64 * Self::USUAL.byte)
                    .max(Self::LEAST.message),
                byte: Self::USUAL.byte,
            },
        }
    }

    /// Cores that `load` takes.
    pub(super) fn cores(self, load: Load) -> f64 {
        (load.messages * self.message + load.bytes * self.byte) / 1e6
    }
}

/// Messages and bytes a second, each way.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Load {
    pub messages: f64,
    pub bytes: f64,
}

impl Load {
    fn add(&mut self, other: Self, share: f64) {
        self.messages += other.messages * share;
        self.bytes += other.bytes * share;
    }
}

/// Who speaks; web terminals are `None`.
type Spoken = Option<&'static str>;

/// What a plan sends at its most.
#[derive(Debug, Default)]
pub(super) struct Asked {
    by_protocol: BTreeMap<Spoken, (Option<Protocol>, Load)>,
}

impl Asked {
    /// Each group at the stage that asks most.
    pub(super) fn of(plan: &Plan) -> Self {
        let mut asked = Self::default();
        for group in plan.groups.iter().filter(|group| group.traffic != Traffic::Receive) {
            let (load, share) = (most(group), 1.0 / group.pattern.len().max(1) as f64);
            for &row in group.pattern.iter() {
                let protocol = plan.endpoints[row as usize].protocol;
                let protocol = group.terminal.is_none().then_some(protocol);
                let own = asked.by_protocol.entry(protocol.map(name)).or_insert((protocol, Load::default()));
                own.1.add(load, share);
            }
        }
        asked
    }

    /// All of it.
    pub(super) fn sum(&self) -> Load {
        let mut sum = Load::default();
        self.by_protocol.values().for_each(|&(_, load)| sum.add(load, 1.0));
        sum
    }

    /// Judged by what is kept.
    pub(super) fn judge(&self, kept: &Kept) -> Judged {
        let mut judged = Judged::default();
        let (mut used, mut unknown, mut stale) = (Vec::new(), Vec::new(), Vec::new());
        for (spoken, &(protocol, load)) in &self.by_protocol {
            let Some(found) = protocol.and_then(|protocol| kept.of(protocol)) else {
                judged.cores += Cost::USUAL.cores(load);
                unknown.push(spoken.unwrap_or("terminals"));
                stale.extend(protocol.and_then(|protocol| kept.stale(protocol)));
                continue;
            };
            let cost = Cost::measured(found);
            let offered = Load { messages: found.messages_per_second, bytes: found.bytes_per_second };
            judged.cores += cost.cores(load);
            judged.share += cost.cores(load) / cost.cores(offered);
            used.push(found);
        }
        judged.is_lower_bound = used.iter().any(|found| found.is_lower_bound());
        judged.is_known = !used.is_empty();
        judged.sentence = sentence(&judged, &used, &unknown, &stale);
        judged
    }
}

/// The load of a group's stage that asks most.
fn most(group: &Group) -> Load {
    let load = |stage: &crate::load::Stage| {
        let conns = f64::from(stage.conns.max(group.conns));
        Load {
            messages: conns * 1e9 / stage.tick_ns as f64,
            bytes: conns * stage.message.bytes_per_second(stage.tick_ns),
        }
    };
    let more = |a: &Load, b: &Load| a.messages.total_cmp(&b.messages).then(a.bytes.total_cmp(&b.bytes));
    group.stages.iter().map(load).max_by(more).unwrap_or_default()
}

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Cores that the plan takes.
    pub cores: f64,
    /// Share of what this host was found to offer, of the protocols that are calibrated.
    share: f64,
    is_known: bool,
    /// More than was found may be had.
    is_lower_bound: bool,
    /// For the plan.
    pub sentence: Option<String>,
}

impl Judged {
    /// More than this host was found to offer.
    pub(super) fn is_too_much(&self) -> bool {
        self.share > 1.0
    }
}

/// `2026-11-27`.
fn day(unix: f64) -> String {
    utc(unix).chars().take(10).collect()
}

fn sentence(
    judged: &Judged,
    used: &[&Calibration],
    unknown: &[&str],
    stale: &[(&Calibration, String)],
) -> Option<String> {
    let stale = stale.iter().map(|(kept, differs)| {
        format!(
            "the calibration of {} from {} is not used: it was made with {differs}; `scalectl calibrate --protocol {0}` makes it anew",
            kept.protocol,
            day(kept.at)
        )
    });
    let mut sentences: Vec<String> = stale.collect();
    if judged.is_known {
        let oldest = used.iter().map(|found| found.at).fold(f64::INFINITY, f64::min);
        let names: Vec<&str> = used.iter().map(|found| found.protocol.as_str()).collect();
        let what = if unknown.is_empty() {
            "this plan takes".to_owned()
        } else {
            format!("of this plan {} alone takes", names.join(" and "))
        };
        let percent = (judged.share * 100.0).ceil();
        let bound = if judged.is_lower_bound { "at most " } else { "" };
        let mut text =
            format!("calibrated {}: {what} {bound}{percent:.0} % of what this host offers", day(oldest));
        if judged.is_lower_bound && judged.is_too_much() {
            text = format!(
                "calibrated {}: {what} {percent:.0} % of what this host was seen to offer; it may offer more",
                day(oldest)
            );
        }
        if !unknown.is_empty() {
            text += &format!("; not calibrated: {}", unknown.join(", "));
        }
        sentences.insert(0, text);
    }
    (!sentences.is_empty()).then(|| sentences.join(". "))
}
