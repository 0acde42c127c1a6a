//! What is asked "now", and what disruptions are judged by.

use scale_api::disruption::{Disruption, Recover};

use super::*;
use crate::run::judge::wait::WAITS_MAX;

fn parse(text: &str) -> Threshold {
    Threshold::parse_wait(text, &Names { groups: &["main"], observe: &["cpu"] }).expect("a threshold")
}

fn dropped(streams: u64, back: u64) -> Disruption {
    Disruption {
        mark: Some("kill".into()),
        marked_at: Some(1.0),
        streams: 10,
        streams_dropped: streams,
        share: Some(streams as f64 / 10.0),
        reconnected: back,
        never_back: streams - back,
        recover: (back > 0).then_some(Recover { p50: 1.0, p99: 2.0, max: 3.0 }),
        ..Disruption::default()
    }
}

#[test]
fn what_is_waited_for_has_the_last_seconds_value() {
    let mut made = Made::new(&["main"], &[]);
    let waits = [
        "streams.open >= 9",
        "streams.away == 0",
        "main.response.p50 < 1ms",
        "disconnects.count == 0",
        "disconnects.count == 0 over 2s",
        "observe.cpu.last >= 3",
        "connect.p99 < 1s",
        "disruption.never_back == 0",
    ]
    .map(parse);
    let second = |made: &mut Made, state: State, open: u32, lost: u64, us: u64| {
        (made.gauges[0].opened, made.gauges[0].open) = (10, vec![open]);
        made.second(
            &[state],
            |cells| cells[STEADY].counters.disconnects.0[Class::Reset as usize] += lost,
            &[(STEADY, Figure::Response, us)],
        );
        waits.each_ref().map(|wait| made.judge.now(wait).map(|result| result.ok))
    };
    let (yes, no) = (Some(true), Some(false));
    // All that came before the first question is not of a second.
    assert_eq!(second(&mut made, State::Ramp, 4, 700, 5), [None; 8]);
    assert_eq!(second(&mut made, State::Ramp, 9, 1, 5), [yes, no, None, no, None, no, None, yes]);
    // The first second that was wholly steady is the one after.
    assert_eq!(second(&mut made, State::Steady, 10, 0, 5), [yes, yes, None, yes, no, yes, None, yes]);
    assert_eq!(second(&mut made, State::Steady, 8, 0, 500), [no, no, yes, yes, yes, yes, None, yes]);
    assert_eq!(second(&mut made, State::Steady, 10, 0, 1500), [yes, yes, no, yes, yes, yes, None, yes]);
    assert_eq!(made.judge.now(&waits[2]).and_then(|result| result.value), Some(0.0015));
    // Fewer are wanted: who was to go is not away.
    made.gauges[0].requested = 8;
    assert_eq!(second(&mut made, State::Steady, 8, 0, 5)[1], yes);
    // Who waits for the same once more waits for seconds that come.
    made.judge.wait_anew(&waits[4]);
    assert_eq!(made.judge.now(&waits[4]), None);
    assert_eq!(second(&mut made, State::Steady, 8, 0, 5)[4], None, "a window of two");
    assert_eq!(second(&mut made, State::Steady, 8, 0, 5)[4], yes);
    assert!(made.judge.standing().is_empty() && made.judge.results(&Report::default()).is_empty());
    assert_eq!(made.judge.end(made.at), None, "nothing that is waited for ends a run");
}

#[test]
fn waiting_has_its_limit_and_is_forgotten() {
    let mut made = Made::new(&["main"], &["response.p99 < 1s over 2s"]);
    let wait = |number: usize| parse(&format!("response.p99 < {}ms", number + 1));
    for number in 0..=WAITS_MAX {
        assert_eq!(made.judge.now(&wait(number)), None);
    }
    assert_eq!(made.judge.waits.len(), WAITS_MAX);
    for _ in 0..3 {
        made.steady(&[(STEADY, Figure::Response, 500)]);
        assert!(made.judge.now(&wait(1)).is_none_or(|result| result.ok));
    }
    for _ in 0..100 {
        made.steady(&[(STEADY, Figure::Response, 500)]);
    }
    assert_eq!(made.judge.waits.len(), 0, "nobody asked any more");
    assert!(made.judge.standing()[0].ok);
    assert_eq!(made.judge.now(&wait(1)), None, "asked for anew");
}

#[test]
fn disruptions_are_judged_while_the_run_goes_and_each_has_to_meet_what_is_asked() {
    let expressions = [
        "disruption.share < 30%",
        "disruption.recover.p99 < 30s",
        "disruption.never_back == 0 abort after 2s",
    ];
    let mut made = Made::new(&["main"], &expressions);
    let why = |result: &ThresholdResult| result.why.clone().unwrap_or_default();
    made.report.run.started_at = 7_986.0;
    let results = made.steady(&[]);
    assert_eq!(values(&results), [(Some(0.0), None, true), (None, None, true), (Some(0.0), None, true)]);
    assert_eq!(why(&results[1]), "nobody had to come back");
    made.report.disruptions = vec![dropped(5, 0), dropped(2, 2)];
    let results = made.steady(&[]);
    let (share, back, never) = ((Some(0.5), None, false), (Some(2.0), None, false), (Some(5.0), None, false));
    assert_eq!(values(&results), [share, back, never]);
    assert_eq!(why(&results[0]), "02:13:07 \"kill\"");
    assert_eq!(why(&results[1]), "02:13:07 \"kill\": none of the dropped streams has come back");
    assert_eq!(made.judge.end(made.at), None, "it has to last");
    let newest = |made: &mut Made| made.judge.now(&parse("disruption.never_back == 0"));
    assert_eq!(newest(&mut made), None);
    made.steady(&[]);
    assert!(newest(&mut made).is_some_and(|result| result.ok), "of the newest all are back");
    made.steady(&[]);
    assert_eq!(
        made.judge.end(made.at).as_deref(),
        Some(
            "threshold `disruption.never_back == 0 abort after 2s` ended the run at second 4: disruption.never_back was 5, 02:13:07 \"kill\""
        )
    );
    made.report.disruptions[0] = dropped(2, 2);
    let results = made.judge.results(&made.report);
    assert_eq!(values(&results)[..2], [(Some(0.2), None, true), (Some(2.0), None, true)]);
    assert!(results[2].aborted && !results[2].ok, "it has ended the run: {:?}", results[2]);
}
