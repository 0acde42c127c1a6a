//! Runs that were never run, for the frames that the tests compare.

use std::collections::BTreeMap;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use scale_api::disruption::{Disruption, Recover};
use scale_api::heat;
use scale_api::report::{Event, Heat, Mark, Missed, SeriesRow, ThresholdResult, Worker};

use super::super::model::{Model, Wish};

/// When each situation is looked at: a second after the last event.
pub const NOW: Duration = Duration::from_secs(91);

/// Each by its name.
pub fn all() -> Vec<(&'static str, Model)> {
    vec![
        ("ramp", ramp()),
        ("steady", steady()),
        ("saturated", saturated()),
        ("failures", failures()),
        ("paused", paused()),
        ("thresholds", thresholds()),
        ("disrupted", disrupted()),
        ("lost", lost()),
        ("refused", refused()),
        ("typing", typing()),
        ("choosing", choosing()),
        ("help", help()),
    ]
}

fn counts<const N: usize>(of: [(&str, u64); N]) -> BTreeMap<String, u64> {
    of.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// A distribution around `middle` seconds, with a slow tail of `tail` messages at 40 times that.
fn heat_around(middle: f64, messages: u64, tail: u64) -> Heat {
    let mut rows = [0; heat::ROWS];
    let row = heat::row(middle);
    for (offset, share) in [(0, 60), (1, 25), (2, 10), (3, 4)] {
        rows[(row + offset).min(heat::ROWS - 1)] += messages * share / 100;
    }
    rows[heat::row(middle * 40.0)] += tail;
    Heat::new(&rows)
}

/// Second `at` with `open` streams of 40 KB/s in ten messages.
fn row(at: u64, open: u64, stage: &str) -> SeriesRow {
    // A wave, so that the lines have a shape.
    let wave = 1.0 + 0.3 * ((at % 20) as f64 - 10.0).abs() / 10.0;
    let rate = open as f64 * 40_000.0;
    let has = |value: f64| (open > 0).then_some(value * wave);
    SeriesRow {
        at: at as f64,
        seconds: 1,
        stage: stage.into(),
        streams_open: open,
        rate_offered: rate,
        rate_sent: rate,
        rate_received: rate,
        messages_sent: open * 10,
        messages_echoed: open * 10,
        ticks_due: open * 10,
        lateness_p50: has(0.000_012),
        lateness_p99: has(0.000_14),
        lateness_max: has(0.0012),
        service_p50: has(0.000_31),
        service_p99: has(0.0016),
        response_p50: has(0.000_33),
        response_p90: has(0.0009),
        response_p99: has(0.0018),
        response_max: has(0.0145),
        response_heat: heat_around(0.0003 * wave, open * 10, 3),
        lateness_heat: heat_around(0.0001 * wave, open * 10, 1),
        busy_max: 0.43,
        busy: vec![0.43, 0.38],
        ..SeriesRow::default()
    }
}

fn event(now: SeriesRow, state: &str) -> Event {
    Event {
        run: "20261127-114423-1".into(),
        name: Some("nightly".into()),
        state: state.into(),
        elapsed: now.at,
        remaining: Some(150.0 - now.at),
        stages: BTreeMap::from([("main".to_owned(), "stage 1".to_owned())]),
        streams: counts([("open", now.streams_open), ("planned", 2000 - now.streams_open), ("failed", 0)]),
        workers: vec![
            Worker { cpu: 1, streams: 1000, ..Worker::default() },
            Worker { cpu: 2, streams: 1000, ..Worker::default() },
        ],
        now,
        ..Event::default()
    }
}

fn play(events: impl Iterator<Item = Event>) -> Model {
    let mut model = Model::default();
    for event in events {
        let now = Duration::from_secs(event.elapsed as u64);
        model.second(event, now);
    }
    model
}

fn ramp() -> Model {
    play((1..=90).map(|at| {
        let mut event = event(
            SeriesRow { connects: 20, connect_p99: Some(0.0021), ..row(at, at * 20, "ramping") },
            "ramping",
        );
        event.stages.insert("main".into(), "ramping".into());
        event.streams.insert("connecting".into(), 14);
        event.streams.insert("planned".into(), 2000 - at * 20 - 14);
        event
    }))
}

/// Ten seconds of ramp, then steady with three thresholds that are met.
fn steady_events() -> impl Iterator<Item = Event> {
    (1..=90).map(|at| match at {
        1..=10 => event(row(at, at * 200, "ramping"), "ramping"),
        _ => Event { thresholds: met(), ..event(row(at, 2000, "main/1"), "steady") },
    })
}

fn met() -> Vec<ThresholdResult> {
    let met = |expression: &str, value| ThresholdResult {
        expression: expression.into(),
        value: Some(value),
        ok: true,
        ..ThresholdResult::default()
    };
    vec![
        met("response.p99 < 250ms", 0.0018),
        met("load.delivered_ratio >= 0.99", 1.0),
        met("disconnects.rate < 1%", 0.0),
    ]
}

fn steady() -> Model {
    play(steady_events())
}

fn saturated() -> Model {
    play(steady_events().map(|mut event| {
        if event.elapsed > 60.0 {
            event.now.busy = vec![0.99, 0.97];
            (event.now.busy_max, event.now.saturated, event.saturated) = (0.99, true, true);
            event.now.rate_sent *= 0.8;
            event.now.lateness_p99 = Some(0.0834);
            event.now.lateness_heat = heat_around(0.03, 20_000, 9);
            event.ticks_missed =
                Missed { generator: 4021 * (event.elapsed as u64 - 60), ..Missed::default() };
            event.warnings = vec![
                "the generator is the limit: response times include its own lateness".into(),
                "CERTIFICATES ARE NOT VERIFIED (--insecure)".into(),
            ];
        }
        event
    }))
}

fn failures() -> Model {
    play(steady_events().map(|mut event| {
        if event.elapsed > 30.0 {
            event.connect_failures =
                counts([("refused", 1204), ("timeout", 86), ("tls", 3), ("http_502", 40), ("dns", 1)]);
            event.disconnects = counts([("reset", 310), ("closed_by_peer", 12)]);
            event.streams = counts([("open", 1420), ("waiting", 201), ("failed", 379)]);
            (event.now.connect_failures, event.now.disconnects) = (17, 4);
            event.ticks_missed = Missed { disconnected: 58_020, backpressure: 31, generator: 0 };
        }
        event
    }))
}

fn paused() -> Model {
    let last = Event { remaining: None, ..event(row(90, 0, "paused"), "paused") };
    let last = Event { streams: counts([("open", 2000)]), ..last };
    play(steady_events().take(89).chain([last]))
}

fn thresholds() -> Model {
    play(steady_events().map(|mut event| {
        event.thresholds = met();
        event.thresholds[0] = ThresholdResult {
            expression: "terminals.response.p99 < 250ms over 30s abort after 10s".into(),
            value: Some(0.412),
            at: Some(74.0),
            ..ThresholdResult::default()
        };
        event.thresholds.push(ThresholdResult {
            expression: "observe.coderd_cpu.max < 0.9".into(),
            ok: true,
            ..ThresholdResult::default()
        });
        event.now.observe = BTreeMap::from([("coderd_cpu".to_owned(), 0.4321)]);
        if event.elapsed == 40.0 {
            event.marks = vec![Mark { at: 39.4, text: "deploy started".into() }];
        }
        event
    }))
}

/// Two disruptions: all are back from the first, of the second half are away.
fn disrupted() -> Model {
    let kill = Disruption {
        at: 41.0,
        mark: Some("kill coderd-1".into()),
        marked_at: Some(40.0),
        streams: 2000,
        streams_dropped: 1013,
        share: Some(0.5065),
        users: Some(1500),
        users_affected: Some(811),
        reconnected: 1013,
        recover: Some(Recover { p50: 2.0, p99: 8.2, max: 9.0 }),
        bytes_lost: 4096,
        ..Disruption::default()
    };
    let fall = Disruption {
        at: 85.0,
        mark: None,
        marked_at: None,
        streams_dropped: 400,
        share: Some(0.2),
        users_affected: Some(333),
        reconnected: 200,
        never_back: 200,
        recover: Some(Recover { p50: 0.25, p99: 0.75, max: 0.8 }),
        ..kill.clone()
    };
    play(steady_events().map(|mut event| {
        event.zero_at = Some(7_947.0);
        if event.elapsed > 50.0 {
            event.disruptions.push(kill.clone());
            event.thresholds.push(ThresholdResult {
                expression: "disruption.recover.p99 < 5s".into(),
                value: Some(8.2),
                why: Some(kill.name(7_947.0)),
                ..ThresholdResult::default()
            });
        }
        if event.elapsed > 86.0 {
            event.disruptions.push(fall.clone());
            event.streams = counts([("open", 1800), ("waiting", 200)]);
            event.disconnects = counts([("reset", 1413)]);
        }
        event
    }))
}

fn lost() -> Model {
    let mut model = steady();
    model.lose("the daemon is lost; `scalectl report` shows what it had measured, once it runs again".into());
    model
}

fn refused() -> Model {
    let mut model = steady();
    let sentence = "60,000 streams need as many source ports towards 127.0.0.1:9000, and 28,231 are free; add --source addresses";
    model.answer(&Wish::Resume, Some(sentence.into()), NOW);
    model
}

fn press(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
        model.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
}

fn typing() -> Model {
    let mut model = steady();
    press(&mut model, "r20\n");
    model
}

fn choosing() -> Model {
    let mut model = play(steady_events().map(|mut event| {
        event.stages = [("shells", "stage 2"), ("ssh", "warmup"), ("web", "waiting")]
            .map(|(group, stage)| (group.to_owned(), stage.to_owned()))
            .into();
        event
    }));
    press(&mut model, "c");
    model.key(KeyEvent::new(KeyCode::Down, KeyModifiers::NONE));
    model
}

fn help() -> Model {
    let mut model = steady();
    press(&mut model, "?");
    model
}

/// As on a large host: more workers than rows.
pub fn many_workers() -> Model {
    play(steady_events().map(|mut event| {
        event.workers = (1..64).map(|cpu| Worker { cpu, streams: 31, ..Worker::default() }).collect();
        event.now.busy = (1..64).map(|cpu| cpu as f64 / 64.0).collect();
        event
    }))
}
