//! What `bench/run` compares. Each scenario's programs run in turns, the order changing with
//! every pair, because the machine's own mood changes more than they differ.

use super::median;
use super::programs::{Load, Programs, Result, Sample};
use super::table::{Bound, Row};
use super::{handshake, records, stamps};

/// How much is run.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Pairs of each comparison.
    pub pairs: usize,
    /// Seconds of each run that count.
    pub seconds: u32,
}

const BYTES: u32 = 4096;
const LATENESS_P50_MAX: f64 = 300e-6;
pub(super) const LATENESS_P99_MAX: f64 = 1e-3;
pub(super) const DELIVERED_MIN: f64 = 0.999;
const RATIO_MAX: f64 = 1.10;
const TLS_EXTRA_US_MAX: f64 = 2.2;
/// Of what rustls alone takes: 1.4 us where the bound above was set.
const TLS_EXTRA_RATIO_MAX: f64 = TLS_EXTRA_US_MAX / 1.4;
const RSS_WS_MAX: f64 = 1536.0;
const RSS_WSS_MAX: f64 = 24.0 * 1024.0;
const TERMINAL_EXTRA_US_MAX: f64 = 3.0;
const RSS_TERMINAL_MAX: f64 = 4.0 * 1024.0;
const RSS_TERMINAL_TLS_MAX: f64 = 28.0 * 1024.0;
const CONNECT_SECONDS_MAX: f64 = 6.0;
const HANDSHAKE_RATIO_MAX: f64 = 1.2;
const APART_US_MAX: f64 = 1000.0;

pub(super) fn load(protocol: &'static str, streams: u32, tick_ms: u32, effort: Effort) -> Load {
    let (threads, realtime, seconds) = (1, true, effort.seconds);
    Load { protocol, streams, tick_ms, bytes: BYTES, threads, realtime, seconds, terminal: false }
}

/// Runs two things in turns: `pairs` of each.
pub(super) fn in_turns(
    pairs: usize,
    mut one: impl FnMut() -> Result<Sample>,
    mut other: impl FnMut() -> Result<Sample>,
) -> Result<(Vec<Sample>, Vec<Sample>)> {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        if pair.is_multiple_of(2) {
            ones.push(one()?);
            others.push(other()?);
        } else {
            others.push(other()?);
            ones.push(one()?);
        }
    }
    Ok((ones, others))
}

fn timely(mut row: Row) -> Row {
    let seconds = |value: Option<f64>| value.unwrap_or(f64::NAN);
    row.bounds.push(Bound::most("lateness p50, s,", seconds(row.lateness_p50), LATENESS_P50_MAX));
    row.bounds.push(Bound::most("lateness p99, s,", seconds(row.lateness_p99), LATENESS_P99_MAX));
    row.bounds.push(Bound::least("delivered", seconds(row.delivered_ratio), DELIVERED_MIN));
    row
}

/// The floor and `scaled` with plain websocket streams.
///
/// # Errors
/// As all of these: where a program fails.
pub fn plain(programs: &Programs, effort: Effort, streams: u32, tick_ms: u32) -> Result<Vec<Row>> {
    let load = load("ws", streams, tick_ms, effort);
    let (floor, ours) =
        in_turns(effort.pairs, || programs.floor("scale-floor", &load), || programs.scaled(&load))?;
    let floor_row = Row::of("floor", &load, &floor);
    let row = Row::of("scaled ws", &load, &ours).against(&ours, &floor);
    // What the floor cannot carry says nothing of anybody above it.
    if floor_row.delivered_ratio.is_none_or(|delivered| delivered < DELIVERED_MIN) {
        let name = format!("{} (not judged: the floor does not hold this rate here)", row.name);
        return Ok(vec![floor_row, Row { name, ..row }]);
    }
    let mut row = timely(row);
    row.bounds.insert(0, Bound::most("CPU / floor", row.ratio_to_floor.unwrap_or(f64::NAN), RATIO_MAX));
    Ok(vec![floor_row, row])
}

/// `scaled` as a usual thread beside everything else on its core.
///
/// # Errors
/// See [`plain`].
pub fn without_realtime(programs: &Programs, effort: Effort) -> Result<Vec<Row>> {
    let load = Load { realtime: false, ..load("ws", 5000, 100, effort) };
    let samples =
        (0..effort.pairs.div_ceil(3)).map(|_| programs.scaled(&load)).collect::<Result<Vec<_>>>()?;
    Ok(vec![Row::of("scaled ws, no realtime", &load, &samples)])
}

/// The floor's loop on other engines, where they were built.
///
/// # Errors
/// See [`plain`].
pub fn engines(programs: &Programs, effort: Effort) -> Result<Vec<Row>> {
    let load = load("tcp", 5000, 100, effort);
    let mut rows = Vec::new();
    for (name, program) in [("epoll", "peer-epoll"), ("tokio-uring", "peer-tokio-uring")] {
        if !Programs::has(program) {
            continue;
        }
        let (floor, peer) = in_turns(
            effort.pairs,
            || programs.floor("scale-floor", &load),
            || programs.floor(program, &load),
        )?;
        rows.push(Row::of(name, &load, &peer).against(&peer, &floor));
    }
    Ok(rows)
}

/// What TLS adds.
///
/// # Errors
/// See [`plain`].
pub fn tls(programs: &Programs, effort: Effort) -> Result<Vec<Row>> {
    let (ws, wss) = (load("ws", 2500, 100, effort), load("wss", 2500, 100, effort));
    let (plain, sealed) = in_turns(effort.pairs, || programs.scaled(&ws), || programs.scaled(&wss))?;
    let difference =
        |(sealed, plain): (&Sample, &Sample)| sealed.cpu_us_per_message - plain.cpu_us_per_message;
    let extra = median(sealed.iter().zip(&plain).map(difference).collect());
    let own = records::cost(wss.streams as usize, BYTES as usize, effort.pairs).rustls;
    let mut row = timely(Row::of("scaled wss", &wss, &sealed));
    row.bounds.insert(0, Bound::most("CPU us/message over ws", extra, TLS_EXTRA_US_MAX));
    // CPUs differ by three times in AES: the same bound in terms of what rustls takes on this one.
    row.bounds.insert(1, Bound::most("the same / rustls' records alone", extra / own, TLS_EXTRA_RATIO_MAX));
    Ok(vec![Row::of("scaled ws", &ws, &plain), row])
}

/// Many streams in one daemon, two workers.
///
/// # Errors
/// See [`plain`].
pub fn many(programs: &Programs, effort: Effort) -> Result<Vec<Row>> {
    let load = Load { threads: 2, ..load("ws", 40_000, 1000, effort) };
    let sample = programs.scaled(&load)?;
    let report = sample.report.as_ref().expect("scaled has one");
    let opened = report.load.streams_opened as f64;
    let mut row = Row::of("scaled ws, 2 workers", &load, &[sample]);
    row.bounds.push(Bound::least("streams opened", opened, 40_000.0));
    row.bounds.push(Bound::least("delivered", row.delivered_ratio.unwrap_or(f64::NAN), DELIVERED_MIN));
    Ok(vec![row])
}

/// Resident memory by stream: the slope between few and many.
///
/// # Errors
/// See [`plain`].
pub fn memory(programs: &Programs, effort: Effort) -> Result<Vec<Row>> {
    [("ws", 1000, 20_000, RSS_WS_MAX), ("wss", 500, 2500, RSS_WSS_MAX)]
        .into_iter()
        .map(|(protocol, few, many, most)| {
            let (few, many) = (load(protocol, few, 1000, effort), load(protocol, many, 1000, effort));
            rss_slope(programs, effort, [&few, &many], most)
        })
        .collect()
}

/// What a stream keeps resident: `most` bytes at most.
pub(super) fn rss_slope(
    programs: &Programs,
    effort: Effort,
    [few, many]: [&Load; 2],
    most: f64,
) -> Result<Row> {
    let runs = effort.pairs.div_ceil(4);
    let (low, high) = in_turns(runs, || programs.scaled(few), || programs.scaled(many))?;
    let peak = |samples: &[Sample]| median(samples.iter().map(|sample| sample.rss_peak).collect());
    let slope = (peak(&high) - peak(&low)) / f64::from(many.streams - few.streams);
    let what = if many.terminal { "terminal" } else { "scaled" };
    let mut row = Row::of(format!("{what} {}, memory", many.protocol), many, &high);
    row.rss_slope_per_stream = Some(slope);
    row.bounds.push(Bound::most("RSS B/stream", slope, most));
    Ok(row)
}

/// Web terminals beside plain websockets of the same payload: a tick of 128 B is one message of JSON, one
/// of 4,096 B four. Both lines come back with CR LF.
///
/// # Errors
/// See [`plain`].
pub fn terminals(programs: &Programs, effort: Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (bytes, streams) in [(128, 5000), (BYTES, 2500)] {
        let ws = Load { bytes, ..load("ws", streams, 100, effort) };
        let typed = Load { terminal: true, ..ws.clone() };
        let (plain, terminals) = in_turns(effort.pairs, || programs.scaled(&ws), || programs.scaled(&typed))?;
        let extra = |(typed, plain): (&Sample, &Sample)| typed.cpu_us_per_message - plain.cpu_us_per_message;
        let extra = median(terminals.iter().zip(&plain).map(extra).collect());
        let sink = median(terminals.iter().map(|sample| sample.sink_by_generator).collect());
        let mut row = timely(Row::of(format!("terminal {bytes} B"), &typed, &terminals));
        row.bounds.insert(0, Bound::most("CPU us/tick over ws", extra, TERMINAL_EXTRA_US_MAX));
        row.bounds.push(Bound::most("CPU of the sink / the generator's", sink, 1.0));
        rows.extend([Row::of(format!("ws {bytes} B"), &ws, &plain), row]);
    }
    for (protocol, few, many, most) in
        [("ws", 1000, 10_000, RSS_TERMINAL_MAX), ("wss", 500, 2500, RSS_TERMINAL_TLS_MAX)]
    {
        let of = |streams| Load { terminal: true, ..load(protocol, streams, 1000, effort) };
        rows.push(rss_slope(programs, effort, [&of(few), &of(many)], most)?);
    }
    Ok(rows)
}

/// Opening 20,000 websockets, and what a TLS handshake costs beside rustls' own.
///
/// # Errors
/// See [`plain`].
pub fn connects(programs: &Programs, effort: Effort) -> Result<Vec<Row>> {
    let runs = effort.pairs.div_ceil(4);
    let plain = load("ws", 20_000, 10_000, Effort { seconds: 1, ..effort });
    let mut seconds = Vec::new();
    for _ in 0..runs {
        let report = programs.scaled(&plain)?.report.expect("scaled has one");
        let open = report.series.iter().find(|row| row.streams_open >= u64::from(plain.streams));
        seconds.push(open.map_or(f64::INFINITY, |row| row.at));
    }
    let mut ws = Row { name: "connect and upgrade".into(), streams: plain.streams, runs, ..Row::default() };
    ws.bounds.push(Bound::most("seconds until all are open", median(seconds), CONNECT_SECONDS_MAX));

    // The same streams with and without TLS, next to no traffic: the difference is the handshakes.
    let quiet = Effort { seconds: 1, ..effort };
    let (ws_load, wss_load) = (load("ws", 2500, 10_000, quiet), load("wss", 2500, 10_000, quiet));
    let (open, sealed) = in_turns(runs, || programs.scaled(&ws_load), || programs.scaled(&wss_load))?;
    let cpu = |sample: &Sample| {
        let generator = &sample.report.as_ref().expect("scaled has one").generator;
        (generator.cpu_seconds_user + generator.cpu_seconds_system) * 1e6 / f64::from(wss_load.streams)
    };
    let each = median(sealed.iter().zip(&open).map(|(sealed, open)| cpu(sealed) - cpu(open)).collect());
    let own = handshake::client_cpu_us(500);
    let mut wss = Row { name: "wss handshake".into(), streams: wss_load.streams, runs, ..Row::default() };
    wss.bounds.push(Bound::most("CPU us", each, own * HANDSHAKE_RATIO_MAX));
    wss.bounds.push(Bound::most("CPU / rustls alone", each / own, HANDSHAKE_RATIO_MAX));
    Ok(vec![ws, wss])
}

/// TLS records without a kernel between: what sealing a message and opening its echo adds, by us and by
/// rustls, over as many sessions as `tls` has streams.
///
/// # Errors
/// None: nothing is started.
pub fn sealing(_: &Programs, effort: Effort) -> Result<Vec<Row>> {
    const SESSIONS: usize = 2500;
    let cost = records::cost(SESSIONS, BYTES as usize, effort.pairs);
    let row = |name: &str, us: f64| Row {
        name: name.into(),
        streams: SESSIONS as u32,
        bytes: BYTES,
        runs: effort.pairs,
        cpu_us_per_message: Some(us),
        ..Row::default()
    };
    let mut ours = row("our records", cost.ours);
    ours.bounds.push(Bound::most("CPU us/message over masking", cost.ours - cost.plain, TLS_EXTRA_US_MAX));
    ours.bounds.push(Bound::most("CPU / rustls' records", cost.ours / cost.rustls, 1.0));
    Ok(vec![row("masking alone", cost.plain), row("rustls' records", cost.rustls), ours])
}

/// `sent` and `done` beside the sink's own times, message by message.
///
/// # Errors
/// See [`plain`].
pub fn stamped(programs: &Programs, effort: Effort) -> Result<Vec<Row>> {
    let apart = programs.stamps(effort.seconds)?;
    let (streams, tick_ms, bytes) = stamps::streams();
    let name = format!("stamps of {} messages", apart.messages);
    let mut row = Row { name, streams, tick_ms, bytes, runs: 1, ..Row::default() };
    let held =
        [("from sent to the sink's receipt", apart.sent), ("from the sink's answer to done", apart.done)];
    for (what, us) in held {
        if us < 0.0 {
            return Err(format!("a message was seen before it was there: {us} us {what}"));
        }
        row.bounds.push(Bound::most(what, us, APART_US_MAX));
    }
    Ok(vec![row])
}
