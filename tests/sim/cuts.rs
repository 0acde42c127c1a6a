//! Disruptions: a server is killed or cut off, or a worker loses all its connections; and how streams come back.
//!
//! Dice of their own decide it, so that what else a seed says stays what it is.

use scale_bench::sink::{self, Counts};
use scale_ring::sim::Cut;
use scaled::load::{Client, Group, Reconnect};
use scaled::stream::class::Class;
use scaled::stream::meter::Counters;
use scaled::worker::share::StreamResult;

use crate::drive::Ran;
use crate::scenario::{Dice, MS, Scenario, Server, Weather};

/// Of 100 seeds so many have disruptions.
const PERCENT: u64 = 25;
/// Ticks that a group may have more, to have time to come back.
const TICKS_MORE_MAX: u64 = 4000;

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The server of this index, for so long.
    Server(usize, Cut, u64),
    /// All connections of this worker.
    Worker(usize),
}

/// Whom streams come back as: any client, where a seed has drawn one.
pub fn clients(dice: &mut Dice, groups: &mut [Group]) {
    for group in groups {
        if matches!(group.reconnect, Reconnect::Client(_)) {
            group.reconnect = Reconnect::Client(dice.of(&Client::ALL));
        }
    }
}

/// What is cut and when, after the run's start in ns; makes groups that are cut last longer.
pub fn cuts(
    dice: &mut Dice,
    (weather, workers): (Weather, u32),
    groups: &mut [Group],
    servers: &[Server],
) -> Vec<(u64, What)> {
    if !dice.chance(PERCENT) {
        return Vec::new();
    }
    for group in groups.iter_mut() {
        let last = group.stages.last_mut().expect("there is one");
        let most = TICKS_MORE_MAX * last.tick_ns / u64::from(last.conns.max(1));
        let more = (dice.between(0, 9000) * MS).min(most);
        last.hold_ns = last.hold_ns.map(|hold_ns| hold_ns + more);
    }
    let mut cuts = Vec::new();
    for _ in 0..dice.of(&[1, 1, 2, 4]) {
        let server = dice.between(0, servers.len() as u64 - 1) as usize;
        let group = &groups[servers[server].group];
        let opened =
            group.start_ns + group.ramp_ns + if weather == Weather::Calm { group.warm_up_ns } else { 0 };
        let hold = group.stages.iter().map(|stage| stage.hold_ns.unwrap_or(500 * MS)).sum::<u64>();
        // Some in the midst of opening, where anything may go wrong.
        let from = if weather == Weather::Stormy { 0 } else { opened };
        let at = dice.between(from, opened + hold * 3 / 4);
        let for_ns = dice.of(&[0, 20, 300, 1200]) * MS;
        let what = match dice.between(0, 4) {
            0 => What::Worker(dice.between(0, u64::from(workers) - 1) as usize),
            1 => What::Server(server, Cut::Apart, for_ns),
            _ => What::Server(server, Cut::Killed, for_ns),
        };
        cuts.push((at, what));
    }
    cuts.sort_by_key(|(at, _)| *at);
    cuts
}

/// Where nothing but the cuts goes wrong, connections are lost by them alone, each once, and the bytes under way on
/// them are the only ones that are missed.
pub fn check(scenario: &Scenario, ran: &Ran) {
    if scenario.weather == Weather::Stormy || scenario.cuts.is_empty() {
        return;
    }
    let sums: Vec<Counters> = (0..scenario.groups.len())
        .map(|index| {
            let mut sum = Counters::default();
            ran.group(&scenario.groups, index).iter().for_each(|counters| sum.add(counters));
            sum
        })
        .collect();
    // Attempts that found nobody are no losses; where a link of SSH is lost, so are all its streams.
    let refused = |sum: &Counters| sum.failures.0[Class::Refused as usize];
    let lost: u64 = sums.iter().map(|sum| sum.disconnects.sum() + sum.failures.sum() - refused(sum)).sum();
    if scenario.groups.iter().all(|group| group.ssh.is_none()) {
        assert_eq!(lost, ran.harmed, "each connection that is cut is a loss, or an attempt that failed");
    } else {
        assert!(ran.harmed == 0 || lost > 0, "{} were cut and nobody noticed", ran.harmed);
    }
    for (index, (group, sum)) in scenario.groups.iter().zip(&sums).enumerate() {
        streams_are_kept(index, group, sum, ran);
        bytes_are_kept(scenario, index, sum, ran);
    }
}

/// Who was lost came back, or is away at the end; and the streams' own figures are the counters'.
fn streams_are_kept(index: usize, group: &Group, sum: &Counters, ran: &Ran) {
    let gauges = || ran.workers.iter().map(|worker| &worker.groups[index]);
    let opened: u64 = gauges().map(|of| u64::from(of.opened)).sum();
    let open_at_end: u64 = gauges().flat_map(|of| &of.open).map(|&open| u64::from(open)).sum();
    assert_eq!(sum.disconnects.sum() - sum.reconnects, opened - open_at_end, "lost and back, or away");
    if group.reconnect == Reconnect::Never {
        assert_eq!(sum.reconnects, 0, "nobody was to come back");
    }
    let streams =
        || ran.workers.iter().flat_map(|worker| &worker.streams).filter(|it| usize::from(it.group) == index);
    let of = |what: fn(&StreamResult) -> u64| streams().map(what).sum::<u64>();
    assert_eq!(of(|stream| stream.losses.into()), sum.disconnects.sum(), "losses by stream");
    assert_eq!(of(|stream| stream.sent), sum.payload_sent, "bytes sent by stream, over all its connections");
    assert_eq!(of(|stream| stream.received), sum.payload_received, "bytes received by stream");
}

/// What one side has counted and the other has not was under way on a connection that was cut.
fn bytes_are_kept(scenario: &Scenario, index: usize, sum: &Counters, ran: &Ran) {
    let mut counts = Counts::default();
    ran.servers.iter().filter(|(of, ..)| *of == index).for_each(|(_, server, _)| counts += *server);
    let missing = sum.payload_sent - counts.payload_bytes_received;
    let is_harmed = sum.disconnects.sum() > 0;
    assert!(is_harmed || missing == 0, "{missing} B are missing, and no connection was lost");
    assert!(
        missing <= sum.payload_open,
        "{missing} B are missing of {} B that were under way",
        sum.payload_open
    );
    let keeps = scenario.servers.iter().any(|server| {
        server.group == index
            && matches!(server.settings.traffic, sink::Traffic::Terminal { keeps: true, .. })
    });
    let all_known =
        sum.sessions_unknown + sum.sessions_cut == 0 && sum.sessions_same == sum.disconnects.sum();
    if keeps && all_known {
        assert_eq!(sum.typed_lost, missing, "what a session says to be lost is what never arrived");
    }
}
