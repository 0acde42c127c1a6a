//! SSH streams beside bare TCP ones of the same payload, and beside other people's SSH clients at the same
//! load.
//!
//! Time in user space is told apart by the kernel's ticks, so only over a whole run: ours is that of a run
//! under load less that of one that merely opens the same streams, by the messages that lie between.

use scale_api::report::Report;

use super::median;
use super::programs::{Load, Programs, Result, Sample};
use super::scenarios::{DELIVERED_MIN, Effort, LATENESS_P99_MAX, in_turns, load, rss_slope};
use super::table::{Bound, Row};

const STREAMS: u32 = 2000;
const EXTRA_US_MAX: f64 = 6.0;
const HANDSHAKE_US_MAX: f64 = 350.0;
const RSS_MAX: f64 = 12.0 * 1024.0;
/// How many times more user CPU a message, and memory a stream, the better peer takes.
const PEER_USER_MIN: f64 = 4.0;
const PEER_RSS_MIN: f64 = 10.0;
/// Streams of a peer whose memory is measured: 100 KB each are seen well enough.
const PEER_RSS_STREAMS: u32 = 1000;

const GCM: &str = "aes128-gcm@openssh.com";
const CHACHA: &str = "chacha20-poly1305@openssh.com";
/// The peers: name, program, cipher. AES-GCM as ours, and what libssh2 seals a packet with at once.
const PEERS: [(&str, &str, &str); 3] = [
    ("libssh2, aes128-gcm", "peer-ssh2", GCM),
    ("libssh2, chacha20", "peer-ssh2", CHACHA),
    ("russh, aes128-gcm", "peer-russh", GCM),
];

/// SSH: what a message costs over bare TCP, what a handshake and an open stream cost, and what peers take
/// for the same.
///
/// # Errors
/// Where a program fails.
pub fn ssh(programs: &Programs, effort: Effort) -> Result<Vec<Row>> {
    let (tcp, ssh) = (load("tcp", STREAMS, 100, effort), load("ssh", STREAMS, 100, effort));
    let peers = peers(programs, &ssh, effort)?;
    let (open, opened) = opening(programs, effort)?;
    let (plain, sealed) = in_turns(effort.pairs, || programs.scaled(&tcp), || programs.scaled(&ssh))?;
    let floor = runs(effort, || programs.floor("scale-floor", &tcp))?;

    let extra = each(&sealed, &plain, |sealed, plain| sealed.cpu_us_per_message - plain.cpu_us_per_message);
    let handshake = each(&opened, &open, |ssh, tcp| (cpu_us(ssh) - cpu_us(tcp)) / f64::from(STREAMS));
    let user = each(&sealed, &opened, user_us_per_message);
    let mut row = Row::of("scaled ssh", &ssh, &sealed);
    (row.cpu_user_us_per_message, row.handshake_cpu_us) = (Some(user), Some(handshake));
    row.bounds = vec![
        Bound::most("CPU us/message over tcp", extra, EXTRA_US_MAX),
        Bound::most("CPU us/handshake", handshake, HANDSHAKE_US_MAX),
        Bound::most("lateness p99, s,", row.lateness_p99.unwrap_or(f64::NAN), LATENESS_P99_MAX),
        Bound::least("delivered", row.delivered_ratio.unwrap_or(f64::NAN), DELIVERED_MIN),
    ];
    let mut memory = rss_slope(
        programs,
        effort,
        [&load("ssh", 1000, 1000, effort), &load("ssh", 10_000, 1000, effort)],
        RSS_MAX,
    )?;
    if let Some(best) = least(&peers, |row| row.cpu_user_us_per_message) {
        let times = best / user;
        row.bounds.push(Bound::least("user CPU of the better peer / ours", times, PEER_USER_MIN));
    }
    if let Some((best, ours)) = least(&peers, |row| row.rss_slope_per_stream).zip(memory.rss_slope_per_stream)
    {
        memory.bounds.push(Bound::least("RSS of the better peer / ours", best / ours, PEER_RSS_MIN));
    }
    let tcp_rows = [Row::of("floor", &tcp, &floor), Row::of("scaled tcp", &tcp, &plain)];
    Ok(tcp_rows.into_iter().chain([row]).chain(peers).chain([memory]).collect())
}

/// The peers that were built, at the load of `ssh`; their memory as at 1 s a tick.
fn peers(programs: &Programs, ssh: &Load, effort: Effort) -> Result<Vec<Row>> {
    let quiet = load("ssh", PEER_RSS_STREAMS, 1000, effort);
    let mut rows = Vec::new();
    for (name, program, cipher) in PEERS.into_iter().filter(|(_, program, _)| Programs::has(program)) {
        let run = |load: &Load| runs(effort, || programs.floor_with(program, load, &["--cipher", cipher]));
        let (loaded, quiet) = (run(ssh)?, run(&quiet)?);
        let of =
            |samples: &[Sample], figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        rows.push(Row {
            cpu_user_us_per_message: Some(of(&loaded, |sample| sample.cpu_user_us_per_message)),
            handshake_cpu_us: Some(of(&loaded, |sample| sample.handshake_cpu_us)),
            rss_slope_per_stream: Some(of(&quiet, |sample| sample.rss_per_stream)),
            ..Row::of(name, ssh, &loaded)
        });
    }
    Ok(rows)
}

/// The same streams over TCP and SSH, next to no traffic: the difference is the handshakes.
fn opening(programs: &Programs, effort: Effort) -> Result<(Vec<Sample>, Vec<Sample>)> {
    let quiet = Effort { seconds: 1, ..effort };
    let (tcp, ssh) = (load("tcp", STREAMS, 10_000, quiet), load("ssh", STREAMS, 10_000, quiet));
    in_turns(effort.pairs.div_ceil(2), || programs.scaled(&tcp), || programs.scaled(&ssh))
}

/// A few runs of one thing.
fn runs(effort: Effort, one: impl FnMut() -> Result<Sample>) -> Result<Vec<Sample>> {
    std::iter::repeat_with(one).take(effort.pairs.div_ceil(4)).collect()
}

/// The median of what `figure` makes of each of `ones` and its companion, which come round again.
fn each(ones: &[Sample], others: &[Sample], figure: impl Fn(&Sample, &Sample) -> f64) -> f64 {
    median(ones.iter().zip(others.iter().cycle()).map(|(one, other)| figure(one, other)).collect())
}

fn least(rows: &[Row], figure: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
    rows.iter().filter_map(figure).min_by(f64::total_cmp)
}

fn report(sample: &Sample) -> &Report {
    sample.report.as_ref().expect("scaled has one")
}

/// CPU of the whole run, in us.
fn cpu_us(sample: &Sample) -> f64 {
    let generator = &report(sample).generator;
    (generator.cpu_seconds_user + generator.cpu_seconds_system) * 1e6
}

/// What a message took in user space: a run less one that only opens the streams.
fn user_us_per_message(loaded: &Sample, opened: &Sample) -> f64 {
    let of = |sample| {
        let report = report(sample);
        (report.generator.cpu_seconds_user * 1e6, report.total.messages_sent as f64)
    };
    let ((us, messages), (us_opened, messages_opened)) = (of(loaded), of(opened));
    (us - us_opened) / (messages - messages_opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(user: f64, messages: u64) -> Sample {
        let mut report = Report::default();
        report.generator.cpu_seconds_user = user;
        report.generator.cpu_seconds_system = 0.1;
        report.total.messages_sent = messages;
        Sample { report: Some(Box::new(report)), ..Sample::default() }
    }

    #[test]
    fn the_cost_of_a_message_is_without_that_of_opening() {
        let (loaded, opened) = (sample(1.0, 200_000), sample(0.4, 0));
        assert!((user_us_per_message(&loaded, &opened) - 3.0).abs() < 1e-9);
        assert!((cpu_us(&opened) - 0.5e6).abs() < 1e-6);
    }

    #[test]
    fn the_better_peer_is_the_one_with_less() {
        let row = |user| Row { cpu_user_us_per_message: user, ..Row::default() };
        let rows = [row(Some(30.0)), row(None), row(Some(16.0))];
        assert_eq!(least(&rows, |row| row.cpu_user_us_per_message), Some(16.0));
        assert_eq!(least(&rows[1..2], |row| row.cpu_user_us_per_message), None);
    }
}
