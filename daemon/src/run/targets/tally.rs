//! What a run takes of each rule's caps: all groups, stages and targets together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use scale_api::http::TargetUse;
use scale_api::units::{PerSecond, thousands};

use super::{Caps, Permit};
use crate::run::plan::{Place, Plan};

/// What a place is asked for at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Streams.
    pub streams: u64,
    /// New connections that are asked for by number, in thousandths a second: a connect rate, a ramp, churn.
    pub connects_milli: u64,
    /// More of them, at whatever rate is left: nobody has said one.
    pub is_flexible: bool,
    /// Payload bytes a second, each way; `None`: the target decides.
    pub bytes_per_second: Option<u64>,
}

impl Demand {
    /// The part of `streams` of this demand's.
    pub fn share(self, streams: u64) -> Self {
        let of = |all: u64| {
            let part = (u128::from(all) * u128::from(streams)).div_ceil(u128::from(self.streams.max(1)));
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        Self {
            streams,
            connects_milli: of(self.connects_milli),
            is_flexible: self.is_flexible,
            bytes_per_second: self.bytes_per_second.map(of),
        }
    }
}

/// What is taken of one rule.
#[derive(Debug, Clone, Default)]
struct Sum {
    streams: u64,
    bytes_per_second: u64,
    /// By group and target: hosts that rows name are many for the connects of one target.
    connects_milli: BTreeMap<(u16, u16), u64>,
    /// Groups that take what is left.
    flexible: BTreeSet<u16>,
}

impl Sum {
    fn connects_milli(&self) -> u64 {
        self.connects_milli.values().copied().fold(0, u64::saturating_add)
    }
}

/// What is taken of all rules.
#[derive(Debug, Clone, Default)]
pub struct Tally(BTreeMap<usize, Sum>);

impl Tally {
    /// What a plan takes of the rules that `permit` lets it use; a place that it does not allow takes nothing.
    pub(super) fn of(permit: &Permit, plan: &Plan) -> Self {
        let mut tally = Self::default();
        for (place, addresses) in plan.places.iter().zip(plan.addresses.iter()) {
            let rules = addresses.iter().filter_map(|&address| permit.rule(&place.host, address).ok());
            for rule in rules.collect::<BTreeSet<_>>() {
                tally.take(rule, place);
            }
        }
        tally
    }

    /// Takes a place with its addresses; the rules that it falls under, in order.
    ///
    /// # Errors
    /// An address that may not be hit; a cap that is passed by now.
    pub fn add(
        &mut self,
        permit: &Permit,
        place: &Place,
        addresses: &[SocketAddr],
    ) -> Result<Vec<usize>, String> {
        let mut rules = BTreeSet::new();
        for &address in addresses {
            rules.insert(permit.rule(&place.host, address)?);
        }
        for &rule in &rules {
            let sum = self.take(rule, place);
            check(&place.host, place.demand, permit.caps(rule), sum)?;
        }
        Ok(rules.into_iter().collect())
    }

    fn take(&mut self, rule: usize, place: &Place) -> &Sum {
        let (asker, demand) = (place.asker, place.demand);
        let sum = self.0.entry(rule).or_default();
        sum.streams = sum.streams.saturating_add(demand.streams);
        sum.bytes_per_second = sum.bytes_per_second.saturating_add(demand.bytes_per_second.unwrap_or(0));
        let connects = sum.connects_milli.entry(asker).or_default();
        *connects = (*connects).max(demand.connects_milli);
        if demand.is_flexible {
            sum.flexible.insert(asker.0);
        }
        sum
    }

    /// What group `group`, which has said no connect rate, may take under `rule`, in thousandths a second: the same as
    /// each other such group. `None`: there is no cap.
    pub fn left(&self, permit: &Permit, rule: usize, group: u16) -> Option<u64> {
        let (cap, sum) = (permit.caps(rule).connects_milli?, self.0.get(&rule)?);
        let others = sum.connects_milli.iter().filter(|((asker, _), _)| *asker != group);
        let taken = others.map(|(_, milli)| *milli).fold(0, u64::saturating_add);
        Some(cap.saturating_sub(taken) / sum.flexible.len().max(1) as u64)
    }

    /// What is taken of `rule`, if anything is.
    pub(super) fn takes(&self, rule: usize) -> Option<TargetUse> {
        self.0.get(&rule).map(|sum| TargetUse {
            streams: sum.streams,
            connects_per_second: sum.connects_milli() as f64 / 1000.0,
            bytes_per_second: sum.bytes_per_second as f64,
        })
    }
}

fn check(host: &str, demand: Demand, caps: Caps, sum: &Sum) -> Result<(), String> {
    if let Some(most) = caps.streams.filter(|&most| sum.streams > most) {
        return Err(format!(
            "{host} may carry {} streams from here, {} were asked for in all; lower --conns, or have streams_max raised",
            thousands(most),
            thousands(sum.streams)
        ));
    }
    let connects = sum.connects_milli();
    if let Some(most) = caps.connects_milli.filter(|&most| connects > most) {
        return Err(format!(
            "{host} may get {} new connections from here, {} were asked for in all; lower --connect-rate or --churn, lengthen --ramp, or have connects_per_second_max raised",
            PerSecond { milli: most },
            PerSecond { milli: connects }
        ));
    }
    let Some(most) = caps.bytes_per_second else { return Ok(()) };
    if demand.bytes_per_second.is_none() {
        return Err(format!(
            "{host} may get {} B/s from here, and with --traffic receive the target decides how much it is; take echo or discard, or have bytes_per_second_max taken out",
            thousands(most)
        ));
    }
    if sum.bytes_per_second > most {
        return Err(format!(
            "{host} may get {} B/s of payload from here each way, {} B/s were asked for in all; lower --rate or --conns, or have bytes_per_second_max raised",
            thousands(most),
            thousands(sum.bytes_per_second)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::targets::tests::targets;

    const CAPS: &str = "[[target]]\nhost = \"a\"\naddresses = [\"10.0.0.0/8\"]\nstreams_max = 10\nconnects_per_second_max = 5\nbytes_per_second_max = 1000\n[[target]]\naddresses = [\"11.0.0.0/8\"]\n";

    fn place(asker: (u16, u16), demand: Demand) -> Place {
        Place { host: "a".into(), port: 80, asker, demand, rules: Vec::new() }
    }

    fn add(tally: &mut Tally, asker: (u16, u16), demand: Demand) -> Result<Vec<usize>, String> {
        let address = "10.0.0.1:80".parse().unwrap();
        tally.add(&targets(CAPS).own(), &place(asker, demand), &[address])
    }

    const NONE: Demand =
        Demand { streams: 0, connects_milli: 0, is_flexible: false, bytes_per_second: Some(0) };

    #[test]
    fn many_that_each_fit_may_pass_a_cap_together() {
        let of = [
            (Demand { streams: 4, ..NONE }, "12 were asked for in all", "streams_max"),
            (Demand { connects_milli: 2000, ..NONE }, "6/s were asked for in all", "connects_per_second_max"),
            (
                Demand { bytes_per_second: Some(400), ..NONE },
                "1,200 B/s were asked for in all",
                "bytes_per_second_max",
            ),
        ];
        for (demand, sum, key) in of {
            let mut tally = Tally::default();
            assert_eq!(add(&mut tally, (0, 0), demand), Ok(vec![0]));
            assert_eq!(add(&mut tally, (0, 1), demand), Ok(vec![0]));
            let error = add(&mut tally, (1, 0), demand).unwrap_err();
            assert!(error.contains(sum) && error.contains(key), "{error}");
        }
        let reads = Demand { bytes_per_second: None, ..NONE };
        assert!(add(&mut Tally::default(), (0, 0), reads).unwrap_err().contains("receive"));
    }

    #[test]
    fn addresses_of_one_name_count_once_and_hosts_of_one_target_share_its_connects() {
        let mut tally = Tally::default();
        let permit = targets(CAPS).own();
        let addresses: Vec<_> = ["10.0.0.1:80", "10.0.0.2:80"].map(|text| text.parse().unwrap()).into();
        let demand = Demand { streams: 10, connects_milli: 5000, ..NONE };
        assert_eq!(tally.add(&permit, &place((0, 0), demand), &addresses), Ok(vec![0]));
        let row = Demand { streams: 0, connects_milli: 5000, ..NONE };
        assert_eq!(add(&mut tally, (0, 0), row), Ok(vec![0]));
        let takes = tally.takes(0).unwrap();
        assert_eq!((takes.streams, takes.connects_per_second), (10, 5.0));
        assert_eq!(tally.takes(1), None);
    }

    #[test]
    fn who_has_said_no_rate_gets_an_even_share_of_what_is_left() {
        let mut tally = Tally::default();
        let permit = targets(CAPS).own();
        let flexible = Demand { is_flexible: true, ..NONE };
        for (group, demand) in [(0, flexible), (1, Demand { connects_milli: 2000, ..NONE }), (2, flexible)] {
            add(&mut tally, (group, 0), demand).unwrap();
        }
        assert_eq!((tally.left(&permit, 0, 0), tally.left(&permit, 1, 0)), (Some(1500), None));
    }

    #[test]
    fn shares_are_rounded_up() {
        let demand =
            Demand { streams: 3, connects_milli: 1000, is_flexible: true, bytes_per_second: Some(10) };
        let share = demand.share(1);
        assert_eq!((share.streams, share.connects_milli, share.bytes_per_second), (1, 334, Some(4)));
    }
}
