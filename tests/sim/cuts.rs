//! Disruptions: a server is killed or cut off, or a worker loses all its connections; and how streams come back.
//!
//! Dice of their own decide it, so that what else a seed says stays what it is.

use std::collections::{BTreeMap, BTreeSet};

use scale_api::disruption::{DISRUPTIONS_MAX, Disruption};
use scale_bench::sink::{self, Counts};
use scale_ring::sim::Cut;
use scaled::load::{Client, Group, Reconnect, Traffic};
use scaled::run::disruption::Disruptions;
use scaled::stream::class::Class;
use scaled::stream::meter::Counters;
use scaled::worker::changes;
use scaled::worker::share::StreamResult;

use crate::changes::happened;
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
    let is_stormy = weather == Weather::Stormy;
    // From when on a group is open, and how long it is cut at the most before its end: in storms at any time.
    let times = |group: &Group| {
        let opened = group.start_ns + group.ramp_ns + group.warm_up_ns;
        let hold = group.stages.iter().map(|stage| stage.hold_ns.unwrap_or(500 * MS)).sum::<u64>();
        (if is_stormy { 0 } else { opened }, opened + hold * 3 / 4)
    };
    let all = groups.iter().map(times).reduce(|(from, to), (other, end)| (from.max(other), to.min(end)));
    let (all_open, first_end) = all.expect("there is a group");
    let mut cuts = Vec::new();
    for _ in 0..dice.of(&[1, 1, 2, 4]) {
        let server = dice.between(0, servers.len() as u64 - 1) as usize;
        let (from, to) = times(&groups[servers[server].group]);
        let at = dice.between(from, to);
        let for_ns = dice.of(&[0, 20, 300, 1200]) * MS;
        let worker = dice.between(0, u64::from(workers) - 1) as usize;
        cuts.push(match dice.between(0, 4) {
            0 if all_open < first_end => (dice.between(all_open, first_end), What::Worker(worker)),
            0 | 1 => (at, What::Server(server, Cut::Apart, for_ns)),
            _ => (at, What::Server(server, Cut::Killed, for_ns)),
        });
    }
    cuts.sort_by_key(|(at, _)| *at);
    cuts
}

/// Where nothing but the cuts goes wrong, connections are lost by them alone, each once, and the bytes under way on
/// them are the only ones that are missed.
pub fn check(scenario: &Scenario, ran: &Ran) {
    let told = disruptions_add_up(scenario, ran);
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
        let (harmed, opening) = ran.harmed;
        assert!(lost >= harmed, "each connection that is cut is a loss: {lost} of {harmed}");
        // What was not yet connected may have found another server.
        assert!(lost <= harmed + opening, "{lost} lost, {harmed} and {opening} were cut");
    } else {
        assert!(ran.harmed.0 == 0 || lost > 0, "{:?} were cut and nobody noticed", ran.harmed);
    }
    for (index, (group, sum)) in scenario.groups.iter().zip(&sums).enumerate() {
        streams_are_kept(index, group, sum, ran);
        bytes_are_kept(scenario, index, sum, ran);
    }
    // What was sent and not echoed was lost with a connection, to the byte.
    let mut unanswered = 0;
    for (group, sum) in scenario.groups.iter().zip(&sums) {
        if group.traffic != Traffic::Echo || group.terminal.is_some() || group.ssh.is_some() {
            return;
        }
        unanswered += sum.payload_sent - sum.payload_received;
    }
    assert_eq!(
        told.iter().map(|one| one.bytes_lost).sum::<u64>(),
        unanswered,
        "bytes lost, over all disruptions"
    );
}

/// The daemon's own disruptions of this run, with a mark at each cut: each loss is in one of them, once a stream, and
/// all their streams are back or away.
fn disruptions_add_up(scenario: &Scenario, ran: &Ran) -> Vec<Disruption> {
    let mut marks: Vec<u64> = scenario.cuts.iter().map(|(at, _)| *at).collect();
    marks.dedup();
    let mut all = Disruptions::new(scenario.groups.iter().map(|group| group.first_stream).collect());
    for &at in &marks {
        all.mark(at, "cut", None);
    }
    let changes = || ran.workers.iter().flat_map(|worker| &worker.changes);
    changes().for_each(|change| all.push(happened(change, change.at.ns_since(ran.start))));
    all.finish(ran.end.ns_since(ran.start));
    let told = all.told(DISRUPTIONS_MAX, |group| scenario.groups[usize::from(group)].name.to_string());
    for one in &told {
        // The rest were given up by their group.
        assert!(one.reconnected + one.never_back <= one.streams_dropped, "back, or away: {one:?}");
        assert_eq!(one.by_class.values().sum::<u64>(), one.streams_dropped, "each for a reason: {one:?}");
        assert_eq!(one.by_group.values().sum::<u64>(), one.streams_dropped, "each in a group: {one:?}");
    }
    // Which of its marks a loss is of is plain where everything is marked.
    let mut dropped: BTreeMap<usize, BTreeSet<(u8, u32)>> = BTreeMap::new();
    for change in changes().filter(|change| matches!(change.what, changes::What::Lost(_))) {
        let since = change.at.ns_since(ran.start);
        let of = marks.partition_point(|&mark| mark <= since);
        dropped.entry(of).or_default().insert((change.group, change.number));
    }
    if !dropped.contains_key(&0) {
        let counted: Vec<u64> = told.iter().map(|one| one.streams_dropped).collect();
        let expected: Vec<u64> =
            (1..=marks.len()).map(|of| dropped.get(&of).map_or(0, |streams| streams.len() as u64)).collect();
        assert_eq!(counted, expected, "streams that each of the cuts has dropped");
    }
    let losses: u64 = ran.sum().disconnects.sum();
    assert!(told.iter().map(|one| one.streams_dropped).sum::<u64>() <= losses, "no loss is told twice");
    told
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
    // Where pieces take long, so may a close; it is given up then.
    let is_calm = scenario.weather == Weather::Calm;
    let is_harmed = sum.disconnects.sum() > 0;
    assert!(is_harmed || !is_calm || missing == 0, "{missing} B are missing, and no connection was lost");
    assert!(missing <= sum.payload_open, "{missing} B of {} B that were under way", sum.payload_open);
    let keeps = scenario.servers.iter().any(|server| {
        server.group == index
            && matches!(server.settings.traffic, sink::Traffic::Terminal { keeps: true, .. })
    });
    let all_known =
        sum.sessions_unknown + sum.sessions_cut == 0 && sum.sessions_same == sum.disconnects.sum();
    if keeps && all_known && is_calm {
        assert_eq!(sum.typed_lost, missing, "what a session says to be lost is what never arrived");
    }
}
