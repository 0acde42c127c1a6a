//! Servers that close while much is under way, where nothing else goes wrong.

use scale_bench::sink::Counts;
use scale_ring::sim::Faults;
use scaled::load::Protocol;

use crate::scenario::{Scenario, Weather};
use crate::{check, drive, number};

const SEEDS: u64 = 600;
const MS: u64 = 1_000_000;
/// Sends take long, as receivers have little room.
const NARROW: Faults =
    Faults { latency_ns: (MS, 5 * MS), window_bytes: 2048, short_send_per_mille: 300, ..Faults::NONE };

#[test]
fn a_close_is_answered_behind_the_send_that_is_under_way() {
    let (mut closes, mut lost) = (0, 0);
    let seeds = number("SIM_SEED").map_or(0..SEEDS, |seed| seed..seed + 1);
    for mut scenario in seeds.map(Scenario::new).filter(|scenario| scenario.weather == Weather::Calm) {
        // What is checked of a calm run does not hold in this one.
        scenario.weather = Weather::Stormy;
        scenario.faults = NARROW;
        // Nobody answers on a connection that is cut.
        scenario.cuts.clear();
        for (n, server) in scenario.servers.iter_mut().enumerate() {
            server.settings.close_after_ns = Some((150 + 50 * n as u64) * MS);
        }
        let ran = drive::drive(&scenario);
        check::check(&scenario, &ran);
        for (index, group) in scenario.groups.iter().enumerate() {
            let protocol = scenario.endpoints[group.pattern[0] as usize].protocol;
            if !matches!(protocol, Protocol::Ws | Protocol::Wss) {
                continue;
            }
            let mut counts = Counts::default();
            ran.servers.iter().filter(|(of, ..)| *of == index).for_each(|(_, server, _)| counts += *server);
            assert_eq!(counts.closes, counts.closes_answered, "seed {}: {counts:?}", scenario.seed);
            closes += counts.closes;
            lost += ran.group(&scenario.groups, index).iter().map(|c| c.disconnects.sum()).sum::<u64>();
        }
    }
    assert!(number("SIM_SEED").is_some() || (closes > 1000 && lost > 1000), "{closes} closes, {lost} losses");
}
