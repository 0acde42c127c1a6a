//! Source ports that others hold, a stretch of them at a time, where nothing else goes wrong.

use scale_ring::sim::Faults;
use scaled::stream::class::Class;

use crate::scenario::{Scenario, Weather};
use crate::{check, drive, number};

const SEEDS: u64 = 300;
/// 64 ports in a row are held in one search of three; seven searches in a row find none in one of a thousand.
const HELD: Faults =
    Faults { latency_ns: (1_000_000, 2_000_000), address_in_use_per_mille: 983, ..Faults::NONE };

#[test]
fn a_stretch_of_ports_that_others_hold_is_passed_before_a_stream_fails() {
    let (mut opened, mut failed, mut skipped) = (0, 0, 0);
    // Attempts, those that came to an end, and streams, of which each has one under way at the end at most.
    let (mut begun, mut ended, mut streams) = (0, 0, 0);
    let seeds = number("SIM_SEED").map_or(0..SEEDS, |seed| seed..seed + 1);
    for mut scenario in seeds.map(Scenario::new).filter(|scenario| scenario.weather == Weather::Calm) {
        // What is checked of a calm run does not hold in this one.
        scenario.weather = Weather::Stormy;
        scenario.faults = HELD;
        let ran = drive::drive(&scenario);
        check::check(&scenario, &ran);
        for index in 0..scenario.groups.len() {
            let counters = ran.group(&scenario.groups, index);
            failed += counters.iter().map(|c| c.failures.0[Class::AddressUnavailable as usize]).sum::<u64>();
            begun += counters.iter().map(|c| c.attempts).sum::<u64>();
            ended += counters.iter().map(|c| c.connects + c.failures.sum()).sum::<u64>();
            opened += ran.workers.iter().map(|worker| u64::from(worker.groups[index].opened)).sum::<u64>();
        }
        streams += ran.workers.iter().map(|worker| worker.streams.len() as u64).sum::<u64>();
        skipped += ran.workers.iter().map(|worker| worker.ports_in_use).sum::<u64>();
    }
    let enough = number("SIM_SEED").is_some() || opened > 500;
    assert!(
        enough && skipped > 10 * opened && failed < opened / 20,
        "{opened} opened, {failed} failed, {skipped}"
    );
    assert!(
        begun - ended <= streams / 10,
        "{begun} attempts, and {ended} came to an end: searches are no more"
    );
}
