//! A server is killed under 5,000 streams, and they come back: by `backoff`, and as a client does.

use std::process::Command;

use scale_api::disruption::Disruption;
use scale_api::report::{Report, SeriesRow};
use scale_tests::host::{Folder, free_port, until};
use scale_tests::{Daemon, Process, Sink, program};

use crate::error;
use crate::faults::{event, stop};

const STREAMS: u64 = 5_000;
/// Streams of another server, which nobody harms.
const SURVIVORS: u64 = 500;
/// Connects a second of the ramp.
const RATE: u64 = 1_000;

fn sink_at(address: &str) -> Process {
    let mut command = Command::new(program("scale-sink"));
    Process::start(command.args(["--protocol", "ws", "--listen", address]), "listening on ").0
}

/// Kills the server when all streams are open, and starts another in its place; what came of it when they are open again.
fn storm(reconnect: &str) -> Report {
    let (survivors, daemon, folder) = (Sink::start(&["--protocol", "ws"]), Daemon::start(), Folder::new());
    let address = format!("127.0.0.1:{}", free_port());
    let killed = sink_at(&address);
    let group = |name: &str, address: &str, streams: u64, more: &str| {
        format!(
            "[[group]]\nname = '{name}'\ntarget = ['ws://{address}/']\nconns = {streams}\nbytes_per_tick = '128B'\n\
             tick_interval = '1s'\nconnect_rate = '{RATE}/s'\nwarm_up = '0s'\nduration = 'forever'\n{more}"
        )
    };
    let storm = group("storm", &address, STREAMS, &format!("reconnect = '{reconnect}'\nbreaker = 'off'\n"));
    let file = folder.write("run.toml", &(storm + &group("survivors", &survivors.address, SURVIVORS, "")));
    let output = daemon.scalectl(&["start", "--detach", "-f", &file]);
    assert!(output.status.success(), "{}", error(&output));
    let all_open = || (event(&daemon).streams.get("open") == Some(&(STREAMS + SURVIVORS))).then_some(());
    until("every stream", all_open);
    let marked = daemon.scalectl(&["mark", "kill"]);
    assert!(marked.status.success(), "{}", error(&marked));
    drop(killed);
    let _again = sink_at(&address);
    until("the losses", || (event(&daemon).disconnects.values().sum::<u64>() >= STREAMS).then_some(()));
    until("every stream again", all_open);
    stop(&daemon).1
}

/// The one disruption, in which every stream of the killed server was lost once and came back.
fn assert_all_are_back(report: &Report) -> &Disruption {
    let load = &report.load;
    assert_eq!(load.disconnects.values().sum::<u64>(), STREAMS, "{load:?}");
    assert_eq!((load.reconnects, load.streams_opened), (STREAMS, STREAMS + SURVIVORS), "{load:?}");
    let [disruption] = &report.disruptions[..] else { panic!("{:?}", report.disruptions) };
    assert_eq!(disruption.mark.as_deref(), Some("kill"));
    assert_eq!(
        (disruption.streams, disruption.streams_dropped, disruption.reconnected, disruption.never_back),
        (STREAMS + SURVIVORS, STREAMS, STREAMS, 0),
        "{disruption:?}"
    );
    let storm = &disruption.storm;
    assert_eq!((storm.answered, storm.offered - storm.refused), (STREAMS, STREAMS), "{storm:?}");
    let survivors = report.groups.iter().find(|group| group.name == "survivors").expect("a group");
    assert!(survivors.load.disconnects.is_empty(), "{:?}", survivors.load);
    disruption
}

/// Rows that end later than `from` s and not later than `to` s behind the mark.
fn rows(report: &Report, from: f64, to: f64) -> impl Iterator<Item = &SeriesRow> {
    let mark = report.marks.iter().find(|mark| mark.text == "kill").expect("a mark").at;
    report.series.iter().filter(move |row| row.at > mark + from && row.at <= mark + to)
}

/// Attempts begun in them.
fn begun(report: &Report, from: f64, to: f64) -> u64 {
    rows(report, from, to).map(|row| row.connects_begun).sum()
}

/// Attempts begun by row, to be shown.
fn by_row(report: &Report) -> Vec<(f64, u64)> {
    report.series.iter().map(|row| (row.at, row.connects_begun)).collect()
}

#[test]
fn with_backoff_5000_streams_come_back_no_faster_than_they_came() {
    let report = storm("backoff");
    let disruption = assert_all_are_back(&report);
    // Seconds of a busy machine are not all of one length. (In the ramp both groups open streams.)
    let most = RATE + RATE / 5;
    let within = |row: &SeriesRow| row.connects_begun <= most * row.seconds.max(1);
    assert!(rows(&report, 0.0, f64::MAX).all(within), "{:?}", by_row(&report));
    assert_eq!(begun(&report, 0.0, f64::MAX), disruption.storm.offered, "{:?}", by_row(&report));
    assert!(disruption.storm.offered_per_second_max <= most, "{:?}", disruption.storm);
    let recover = disruption.recover.as_ref().expect("they came back");
    let least = (STREAMS / RATE - 1) as f64;
    assert!(recover.max >= least, "5,000 at 1,000/s take five seconds: {recover:?}");
}

#[test]
fn as_browsers_5000_streams_come_back_together_two_seconds_later() {
    let report = storm("client");
    let disruption = assert_all_are_back(&report);
    let recover = disruption.recover.as_ref().expect("they came back");
    assert!(recover.p50 >= 2.0, "{recover:?}");
    assert_eq!(begun(&report, 0.0, f64::MAX), disruption.storm.offered, "{:?}", by_row(&report));
    assert_eq!(begun(&report, 0.0, 2.0), 0, "nobody tries for two seconds: {:?}", by_row(&report));
    // Then all of them, within a second or what the machine needs, and with no regard for the ramp's rate.
    assert!(begun(&report, 2.0, 6.0) >= STREAMS * 9 / 10, "{:?}", by_row(&report));
    assert!(disruption.storm.offered_per_second_max > 2 * RATE, "{:?}", disruption.storm);
}
