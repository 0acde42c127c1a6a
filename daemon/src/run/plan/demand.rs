//! What a group asks of its targets at the most, and the connect rates that the list's caps leave.

use scale_api::http::Problem;
use scale_api::spec::{self, GroupSpec, Spec};
use scale_api::units::PerSecond;

use super::tables::Tables;
use super::{OBSERVE, Place};
use crate::load::{Group, Stage};
use crate::run::targets::{Demand, Permit, refused};
use crate::worker::gate::Gates;

/// What is counted in is a second: what comes sooner comes within it all the same.
const SECOND_NS: u64 = 1_000_000_000;

/// A group, as far as its demand depends on it.
pub(super) struct Asked<'a> {
    pub group: &'a GroupSpec,
    pub conns: u32,
    pub stages: &'a [Stage],
    pub connect_rate_milli: u64,
    pub ramp_ns: u64,
    /// Of the first message of each connection.
    pub first_bytes: u64,
    /// As it goes, where it is to be changed.
    pub before: Option<&'a Group>,
}

impl Asked<'_> {
    pub(super) fn demand(&self) -> Demand {
        let before = self.before.map_or(0, Group::conns_max);
        let conns = self.stages.iter().map(|stage| stage.conns).fold(self.conns.max(before), u32::max);
        let (connects_milli, is_flexible) = self.connects();
        let fastest = if is_flexible { connects_milli.max(self.connect_rate_milli) } else { connects_milli };
        let first = u128::from(self.first_bytes) * u128::from(fastest) / 1000;
        let bytes = self.bytes_per_second(conns).saturating_add(u64::try_from(first).unwrap_or(u64::MAX));
        let is_read_only = self.group.traffic == spec::Traffic::Receive;
        Demand {
            streams: conns.into(),
            connects_milli,
            is_flexible,
            bytes_per_second: (!is_read_only).then_some(bytes),
        }
    }

    /// New connections in thousandths a second, and whether there are more at a rate that nobody has said.
    fn connects(&self) -> (u64, bool) {
        let within = |streams: u32, ns: u64| {
            u64::try_from(u128::from(streams) * 1000 * u128::from(SECOND_NS) / u128::from(ns.max(SECOND_NS)))
                .unwrap_or(u64::MAX)
        };
        // Of few streams not more can begin in a second than there are.
        let at_rate = |streams: u32| self.connect_rate_milli.min(u64::from(streams) * 1000);
        let has_said = self.group.connect_rate.is_some() || self.group.ramp.is_some();
        let mut most = match (self.group.ramp, has_said) {
            (Some(_), _) => within(self.conns, self.ramp_ns),
            (None, true) => at_rate(self.conns),
            (None, false) => 0,
        };
        let (mut conns, mut is_flexible) = (self.conns, !has_said);
        for stage in self.stages {
            let grown = stage.conns.saturating_sub(conns);
            most = most.max(match (stage.over_ns, self.group.connect_rate) {
                (0, Some(_)) => at_rate(grown),
                (0, None) => 0,
                (over, _) => within(grown, over),
            });
            is_flexible |= stage.over_ns == 0 && grown > 0 && self.group.connect_rate.is_none();
            conns = stage.conns;
        }
        (most.saturating_add(self.group.churn.map_or(0, |churn| churn.milli)), is_flexible)
    }

    /// Payload bytes a second of all streams at the most: between two stages the more of either may meet.
    fn bytes_per_second(&self, conns_max: u32) -> u64 {
        let of = |stage: &Stage| stage.message.bytes_per_second(stage.tick_ns);
        let most = |stages: &[Stage]| stages.iter().map(of).fold(0.0, f64::max);
        if let Some(before) = self.before {
            return (f64::from(conns_max) * most(self.stages).max(most(&before.stages))).ceil() as u64;
        }
        let mut last = (self.conns, self.stages.first().map_or(0.0, of));
        let mut peak = f64::from(last.0) * last.1;
        for stage in self.stages {
            let now = (stage.conns, of(stage));
            peak = peak.max(f64::from(now.0.max(last.0)) * now.1.max(last.1));
            last = now;
        }
        peak.ceil() as u64
    }
}

impl Tables {
    /// Lowers the connect rates that nobody has said to what the caps leave, and says so; and what holds the workers to
    /// the caps, whatever opens connections: ramps, stages, reconnects, churn.
    pub(super) fn gates(
        &mut self,
        spec: &Spec,
        groups: &mut [Group],
        permit: &Permit,
    ) -> Result<Gates, Problem> {
        for (index, group) in groups.iter_mut().enumerate() {
            let of_it = |place: &&Place| usize::from(place.asker.0) == index && place.demand.is_flexible;
            let rules = self.places.iter().filter(of_it).flat_map(|place| &place.rules);
            let left = rules.filter_map(|&rule| self.tally.left(permit, rule, index as u16)).min();
            let Some(left) = left.map(|left| left.saturating_sub(group.churn_milli)) else { continue };
            if left == 0 {
                return Err(refused(format!(
                    "group {}: no new connections are left to it, as others take all of connects_per_second_max; lower their --connect-rate or --churn",
                    group.name
                )));
            }
            let asked = group.connect_rate_milli.min(u64::from(group.conns_max()) * 1000);
            if left < asked {
                self.warnings.push(format!(
                    "group {}: {} new connections instead of {}, which is what this host's list leaves it",
                    group.name,
                    PerSecond { milli: left },
                    PerSecond { milli: asked }
                ));
                group.connect_rate_milli = left;
                if spec.group[index].ramp.is_none() {
                    let ramp = u128::from(group.conns) * 1_000_000_000_000 / u128::from(left);
                    group.ramp_ns = u64::try_from(ramp).unwrap_or(u64::MAX);
                }
            }
        }
        self.settle(groups);
        Ok(gates(permit, &self.places))
    }

    /// What was flexible is so no more.
    fn settle(&mut self, groups: &[Group]) {
        for Place { asker, demand, .. } in self.places.iter_mut().filter(|place| place.demand.is_flexible) {
            let group = &groups[usize::from(asker.0)];
            let conns = u64::from(group.conns_max()).max(1);
            let whole = Demand {
                streams: conns,
                connects_milli: group.connect_rate_milli.min(conns * 1000).saturating_add(group.churn_milli),
                ..Demand::default()
            };
            let part = whole.share(demand.streams).connects_milli;
            demand.connects_milli = demand.connects_milli.max(part);
            demand.is_flexible = false;
        }
    }
}

/// A gate for each cap of a rule that places fall under.
pub(in crate::run) fn gates(permit: &Permit, places: &[Place]) -> Gates {
    let mut of_rules: Vec<(usize, u64)> = Vec::new();
    let mut rows = Vec::new();
    for place in places {
        let mut gates = Vec::new();
        for &rule in &place.rules {
            let Some(milli) = permit.caps(rule).connects_milli else { continue };
            let known = of_rules.iter().position(|(known, _)| *known == rule);
            gates.push(known.unwrap_or_else(|| {
                // What the workers do not open is not theirs to open.
                let beside = |place: &&Place| place.asker == OBSERVE && place.rules.contains(&rule);
                let beside: u64 = places.iter().filter(beside).map(|place| place.demand.connects_milli).sum();
                of_rules.push((rule, milli.saturating_sub(beside).max(1)));
                of_rules.len() - 1
            }) as u16);
        }
        rows.push(gates.into());
    }
    Gates { rates_milli: of_rules.into_iter().map(|(_, milli)| milli).collect(), rows: rows.into() }
}
