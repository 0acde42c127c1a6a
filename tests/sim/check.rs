//! What must hold after any run.

use scale_bench::sink::{self, Counts};
use scale_ring::Time;
use scale_ring::sim::Leaks;
use scaled::load::{Group, Protocol, Ssh, Traffic};
use scaled::stream::class::Class;
use scaled::stream::flow::Standing;
use scaled::stream::meter::{Counters, Figure};

use crate::drive::Ran;
use crate::scenario::{Scenario, Weather};

/// Panics with what does not hold.
pub fn check(scenario: &Scenario, ran: &Ran) {
    for worker in &ran.workers {
        assert_eq!(worker.leaks, Leaks::default(), "a worker keeps what it should give back");
        for gauges in &worker.groups {
            for standing in [Standing::Connecting, Standing::Open, Standing::Waiting, Standing::Closing] {
                assert_eq!(gauges.standing[standing as usize], 0, "streams still {standing:?} at the end");
            }
        }
        let first: u64 =
            worker.cells.iter().filter_map(|(_, of)| of.figure(Figure::FirstByte)).map(|of| of.len()).sum();
        let connects: u64 = worker.cells.iter().map(|(counters, _)| counters.connects).sum();
        // A web terminal says its first before it is open, or although it never will be.
        let terminals = scenario.groups.iter().any(|group| group.terminal.is_some());
        assert!(first <= connects || terminals, "{first} first bytes of {connects} connections");
        let standing: u32 = worker.groups.iter().flat_map(|gauges| gauges.standing).sum();
        assert_eq!(standing as usize, worker.streams.len(), "each stream stands somewhere");
        for (counters, histograms) in &worker.cells {
            let samples = |figure| histograms.figure(figure).map_or(0, |samples| samples.len());
            assert_eq!(samples(Figure::Lateness), counters.ticks_sent, "each sent tick has its lateness");
            assert_eq!(samples(Figure::Reconnect), counters.reconnects, "each reconnect took its time");
        }
    }
    for (_, _, leaks) in &ran.servers {
        assert_eq!(*leaks, Leaks::default(), "a server keeps what it should give back");
    }
    for (index, group) in scenario.groups.iter().enumerate() {
        let stages = ran.group(&scenario.groups, index);
        let mut sum = Counters::default();
        for counters in &stages {
            ticks_are_accounted_for(counters);
            sum.add(counters);
        }
        let mut counts = Counts::default();
        ran.servers.iter().filter(|(of, ..)| *of == index).for_each(|(_, server, _)| counts += *server);
        nobody_breaks_a_protocol(&sum);
        bytes_agree(scenario, index, &sum, &counts);
        sessions_are_told_apart(scenario, index, &sum, &counts);
        let opened: u32 = ran.workers.iter().map(|worker| worker.groups[index].opened).sum();
        assert_eq!(
            sum.connects,
            u64::from(opened) + sum.reconnects + sum.replaced,
            "each stream opens first, or again after a loss or a close"
        );
        assert!(sum.reconnects <= sum.disconnects.sum(), "what comes back was lost");
        if scenario.weather != Weather::Stormy && scenario.cuts.is_empty() {
            no_connection_is_harmed(group, &sum);
        }
        if scenario.weather == Weather::Calm && scenario.cuts.is_empty() {
            nothing_is_missed(group, &stages, ran);
        }
    }
    crate::cuts::check(scenario, ran);
    crate::changes::check(scenario, ran);
}

fn ticks_are_accounted_for(counters: &Counters) {
    let missed = counters.missed_generator + counters.missed_backpressure + counters.missed_disconnected;
    assert_eq!(counters.ticks_due, counters.ticks_sent + missed, "each due tick is sent or missed");
}

/// Whatever happens to connections, what arrives on one is what was sent: each side finds the other's
/// packets in order, whole, and within its window.
fn nobody_breaks_a_protocol(sum: &Counters) {
    const BREACHES: [Class; 6] = [
        Class::WsProtocol,
        Class::SshProtocol,
        Class::SshTampered,
        Class::KexFailed,
        Class::Disconnected2,
        Class::Disconnected3,
    ];
    for class in BREACHES {
        let count = sum.failures.0[class as usize] + sum.disconnects.0[class as usize];
        assert_eq!(count, 0, "{} between honest sides", class.name());
    }
}

fn bytes_agree(scenario: &Scenario, index: usize, sum: &Counters, counts: &Counts) {
    let group = &scenario.groups[index];
    let protocol = scenario.endpoints[group.pattern[0] as usize].protocol;
    assert_eq!((sum.verify_failures, sum.unexpected_bytes), (0, 0), "servers here are honest");
    // What was under way on connections that were not closed in order may have arrived, or not.
    let lost = sum.payload_sent - counts.payload_bytes_received.min(sum.payload_sent);
    assert!(counts.payload_bytes_received <= sum.payload_sent, "more came than was sent");
    // A server's FIN on raw TCP may have crossed ours: then nobody can tell what it has read. So may its
    // DISCONNECT, and its Close the Ctrl-C of a terminal.
    let servers_close =
        scenario.servers.iter().any(|s| s.group == index && s.settings.close_after_ns.is_some());
    let may_cross = matches!(protocol, Protocol::Tcp | Protocol::Ssh) || group.terminal.is_some();
    let crossed = may_cross && (servers_close || scenario.faults.end_per_mille > 0);
    assert!(
        lost <= sum.payload_open || crossed,
        "{lost} B were lost where {} B were open: sent {}, received {}",
        sum.payload_open,
        sum.payload_sent,
        counts.payload_bytes_received
    );
    assert!(
        sum.payload_received <= counts.payload_bytes_sent,
        "more came back than was sent: {} B of {}",
        sum.payload_received,
        counts.payload_bytes_sent
    );
    match group.traffic {
        Traffic::Echo => {
            assert_eq!(
                sum.messages_sent,
                sum.messages_echoed + sum.messages_unanswered,
                "each message is echoed or unanswered"
            );
            if sum.messages_unanswered == 0 {
                assert_eq!(sum.payload_received, counts.payload_bytes_sent, "all that was echoed came back");
                // A terminal's line comes back with CR LF for its LF.
                let longer = u64::from(group.payload.echo_bytes(1) - 1) * sum.messages_sent;
                assert_eq!(
                    sum.payload_received,
                    sum.payload_sent + longer,
                    "an echo has the bytes of its message"
                );
                if longer > 0 && protocol != Protocol::Ssh {
                    assert_eq!(counts.messages_sent, sum.messages_echoed, "a terminal counts lines");
                }
            }
        }
        Traffic::Receive => {
            // Where closing takes longer than its limit, what was still to come is lost.
            // CLOSE of an SSH channel does not wait for what comes.
            let waits = matches!(protocol, Protocol::Ws | Protocol::Wss);
            if scenario.weather == Weather::Calm && waits && scenario.cuts.is_empty() {
                assert_eq!(sum.payload_received, counts.payload_bytes_sent, "all that was sent came");
            }
        }
        Traffic::Discard => assert_eq!(sum.payload_received, 0),
    }
}

/// A web terminal that comes back knows whether its session went on, and what of it was lost.
fn sessions_are_told_apart(scenario: &Scenario, index: usize, sum: &Counters, counts: &Counts) {
    let told = sum.sessions_same + sum.sessions_new + sum.sessions_unknown;
    let keeps = scenario.servers.iter().find_map(|server| match server.settings.traffic {
        sink::Traffic::Terminal { keeps, .. } if server.group == index => Some(keeps),
        _ => None,
    });
    let Some(keeps) = keeps else {
        assert_eq!((told, sum.typed_lost, sum.replayed), (0, 0, 0), "only terminals have sessions");
        return;
    };
    assert_eq!(told, sum.reconnects, "each terminal that came back found some session");
    assert!(sum.sessions_intact + sum.sessions_cut <= sum.sessions_same, "{sum:?}");
    if keeps {
        assert_eq!(sum.sessions_new, 0, "a session that goes on is known again");
        let lost = sum.payload_sent - counts.payload_bytes_received;
        assert!(sum.typed_lost <= lost, "{} B are said to be lost, {lost} B were", sum.typed_lost);
    } else {
        assert_eq!((sum.sessions_same, sum.replayed), (0, 0), "a new process is no old one");
    }
}

/// Delays, pieces and shortages do no harm: nothing fails, and all that was sent is answered.
/// (Closing may take longer than its limit.)
fn no_connection_is_harmed(group: &Group, sum: &Counters) {
    assert_eq!((sum.failures.sum(), sum.disconnects.sum()), (0, 0), "connections fail for no reason");
    assert_eq!(sum.reconnects, 0, "connections are lost for no reason");
    assert!(sum.connects <= u64::from(group.conns), "each stream opens once");
    assert_eq!(sum.messages_unanswered, 0, "servers that answer are heard");
}

/// Without faults nothing is missed, and as many ticks are due as the grid has points.
fn nothing_is_missed(group: &Group, stages: &[Counters], ran: &Ran) {
    let steady = &stages[1];
    let connects: u64 = stages.iter().map(|counters| counters.connects).sum();
    assert_eq!(connects, u64::from(group.conns), "each stream opens");
    let open: u64 = stages.iter().map(|counters| counters.payload_open).sum();
    assert_eq!(open, 0, "every connection is closed in order");
    assert_eq!(steady.ticks_sent, steady.ticks_due, "nothing is missed when nothing is wrong");
    if group.traffic == Traffic::Receive {
        return;
    }
    let stage = &group.stages[0];
    let begin = ran.start.plus_ns(group.start_ns);
    let from = begin.plus_ns(group.ramp_ns + group.warm_up_ns);
    let to = from.plus_ns(stage.hold_ns.expect("calm runs have an end"));
    let due: u64 = (0..group.conns)
        .map(|stream| {
            let number = u64::from(group.first_stream + stream);
            let offset = group.tick_offset.of(number, stage.tick_ns, ran.seed);
            let points_before = |time: Time| {
                let since = time.ns_since(begin.plus_ns(offset));
                since.div_ceil(stage.tick_ns)
            };
            points_before(to) - points_before(from)
        })
        .sum();
    assert_eq!(steady.ticks_due, due, "as many ticks are due as the grid has points");
}

/// What happened over all seeds: a simulation in which nothing goes wrong proves little.
#[derive(Debug, Default)]
pub struct Coverage {
    counters: Counters,
    short_sends: u64,
    buffers_exhausted: u64,
    ports_in_use: u64,
    simulated_seconds: u64,
    /// Connections that disruptions reset, streams that came back in runs that had any, and seeds in which a session
    /// went on.
    harmed: u64,
    came_back: u64,
    seeds_with_sessions: u64,
    /// Ticks that were due in windows that were expected to be disrupted.
    aside: u64,
    /// SSH connections' keys were changed at least so often by the bytes they had served for.
    keys_changed: u64,
    /// The most turns of a run, and its seed.
    longest: (u64, u64),
}

impl Coverage {
    pub fn add(&mut self, scenario: &Scenario, ran: &Ran) {
        let sum = ran.sum();
        self.counters.add(&sum);
        for (index, group) in scenario.groups.iter().enumerate() {
            let limit = |ssh: &Ssh| ssh.config.rekey.bytes;
            let Some(limit) = group.ssh.as_ref().map(limit) else { continue };
            let stages = ran.group(&scenario.groups, index);
            let bytes: u64 = stages.iter().map(|counters| counters.wire_sent).sum();
            let connects: u64 = stages.iter().map(|counters| counters.connects).sum();
            self.keys_changed += (bytes / limit).saturating_sub(connects);
        }
        for worker in &ran.workers {
            self.short_sends += worker.ring.short_sends;
            self.buffers_exhausted += worker.ring.buffers_exhausted;
            self.ports_in_use += worker.ports_in_use;
        }
        self.harmed += ran.harmed.0;
        self.came_back += if scenario.cuts.is_empty() { 0 } else { sum.reconnects };
        self.seeds_with_sessions += u64::from(sum.sessions_same > 0);
        for (index, group) in scenario.groups.iter().enumerate() {
            let cells = ran.group(&scenario.groups, index);
            self.aside += cells[group.steady_cells(0).end..].iter().map(|cell| cell.ticks_due).sum::<u64>();
        }
        self.longest = self.longest.max((ran.turns, ran.seed));
        self.simulated_seconds += ran.end.ns_since(ran.start) / 1_000_000_000;
    }

    pub fn assert_everything_happened(&self) {
        let counters = &self.counters;
        let of = |class: Class| counters.failures.0[class as usize] + counters.disconnects.0[class as usize];
        for (what, count) in [
            ("messages were echoed", counters.messages_echoed),
            ("messages stayed unanswered", counters.messages_unanswered),
            ("the generator missed ticks", counters.missed_generator),
            ("ticks met back-pressure", counters.missed_backpressure),
            ("ticks were due without a connection", counters.missed_disconnected),
            ("attempts failed", counters.failures.sum()),
            ("connections were lost", counters.disconnects.sum()),
            ("streams came back", counters.reconnects),
            ("streams opened again after a close", counters.replaced),
            ("sessions went on", counters.sessions_same),
            ("sessions went on without a loss", counters.sessions_intact),
            ("other processes were found", counters.sessions_new),
            ("typed bytes were lost", counters.typed_lost),
            ("sessions were said again", counters.replayed),
            ("streams were replaced", counters.churned),
            ("ticks were due while disruptions were expected", self.aside),
            ("attempts of lost streams failed", counters.retries_failed),
            ("SSH keys were changed", self.keys_changed),
            ("SSH logins failed", of(Class::AuthFailed)),
            ("SSH host keys were refused", of(Class::HostKeyRefused)),
            ("SSH servers went without a word", of(Class::DroppedBeforeBanner)),
            ("SSH servers disconnected", of(Class::Disconnected11)),
            ("SSH commands ended", of(Class::Exited3)),
            ("sends were short", self.short_sends),
            ("buffers ran out", self.buffers_exhausted),
            ("source ports were taken", self.ports_in_use),
            ("disruptions harmed connections", self.harmed),
            ("streams came back after a disruption", self.came_back),
        ] {
            assert!(count > 0, "in no seed: {what}");
        }
    }
}
