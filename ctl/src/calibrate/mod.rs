//! `calibrate`: what this host can offer, found by steps.
//!
//! One run goes all the time, as [`crate::seek`] has it; its streams are set and its seconds read ([`step`]), a step's seconds
//! judged ([`watch`]). The counterpart is a sink of ours ([`sink`]) or a target that is given. The result is the daemon's to
//! keep; [`text`] is what people read. `watch` is pure as the search is, and [`trial`] holds both to their word.

mod sink;
mod step;
mod text;
#[cfg(test)]
mod trial;
mod watch;

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use scale_api::calibration::{BUSY_MAX, Calibration, Calibrations, Limit, PATH, Step};
use scale_api::http::{RUNS, StartRequest, Started};
use scale_api::report::Exit;
use scale_api::spec::{self, File, GroupSpec, Spec, StageSpec};
use scale_api::target::{Scheme, Target};
use scale_api::units::{Bytes, PerSecond, Rate, Span, thousands};

use crate::client::{Client, Failure};
use crate::commands::{Cli, complete};
use crate::seek::bound::bound;
use crate::seek::search::{Next, Outcome, Pace, Search};
use crate::seek::session::{End, Ending, Session, Signals, say};
use crate::show;
use crate::ssh::SshFlags;
use sink::Sink;
use step::Steps;
use watch::{TRY_SECONDS_MAX, Watch};

/// Seconds of a step before its measuring: the streams open within the first, and the second is not theirs alone.
const SETTLE_SECONDS: usize = 2;
/// Seconds that the answer is held.
const HOLD_SECONDS: usize = 8;
/// The same where there is little time.
const HOLD_SECONDS_MIN: usize = 3;
/// Of the time, for what is before and behind the run, in seconds.
const AROUND: f64 = 4.0;
/// The shortest and the longest `--time`.
const TIME_MIN: Span = Span::from_secs(12);
const TIME_MAX: Span = Span::from_secs(600);
/// Streams of the first step, a worker.
const FIRST: u64 = 100;
/// Streams from one source address; there are 64,511 ports.
const STREAMS_PER_SOURCE: u64 = 60_000;
/// A second length of messages tells a message's cost from a byte's: so much shorter, where that is still a message.
const SHORTER: u64 = 16;
const SHORTER_MIN: u64 = 32;
const COST_SECONDS: usize = 3;
const COST_NEEDS: f64 = (SETTLE_SECONDS + COST_SECONDS + 1) as f64;
/// Less time than this is little.
const SHORT: f64 = 45.0;
/// Between what held and what broke; and what the answer is lowered to where it was not held.
const PRECISION: f64 = 0.06;
const LOWER: f64 = 0.95;

/// What is spoken to the built-in sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Ws,
    Wss,
    Ssh,
    Tcp,
}

/// How a host is calibrated.
#[derive(Debug, Args)]
pub struct Calibrate {
    /// ws://, wss://, tcp:// or ssh:// URL that echoes, instead of the built-in sink; it is loaded to its limit.
    #[arg(long, value_name = "URL[,WEIGHT]")]
    target: Vec<String>,
    /// What is spoken to the built-in sink (default ws).
    #[arg(long, conflicts_with = "target")]
    protocol: Option<Protocol>,
    /// Payload a second and stream each way, such as 40KB/s.
    #[arg(long, conflicts_with = "bytes_per_tick")]
    rate: Option<Rate>,
    /// Payload a tick and stream (default 4096B).
    #[arg(long, value_parser = Bytes::parse_bare)]
    bytes_per_tick: Option<Bytes>,
    /// Time between two messages of a stream (default 100ms).
    #[arg(long)]
    tick_interval: Option<Span>,
    /// No more streams than this.
    #[arg(long, value_name = "N")]
    max_streams: Option<u64>,
    /// All of it takes no longer (12s to 10m).
    #[arg(long, default_value = "2m")]
    time: Span,
    /// Load --target without asking.
    #[arg(long)]
    yes: bool,
    /// Show what is kept, and measure nothing.
    #[arg(long)]
    show: bool,
    /// Roots to trust, PEM (with --target).
    #[arg(long, value_name = "FILE", requires = "target")]
    ca: Option<PathBuf>,
    /// Accept any certificate (with --target).
    #[arg(long, requires = "target")]
    insecure: bool,
    /// File of header lines (with --target).
    #[arg(long, value_name = "FILE", requires = "target")]
    header_file: Option<PathBuf>,
    /// Streams opened a second, in all (default, a worker: 1000/s of ws and tcp, 500/s of wss, 250/s of ssh).
    #[arg(long)]
    connect_rate: Option<PerSecond>,
    /// Source addresses of this host, or ranges.
    #[arg(long, value_name = "ADDR|CIDR")]
    source: Vec<String>,
    /// The last: its heading in the help is of all that follows.
    #[command(flatten)]
    ssh: SshFlags,
}

/// `calibrate`.
///
/// # Errors
/// Why it cannot be, or that it was interrupted.
pub fn calibrate(cli: &Cli, client: &Client, flags: &Calibrate) -> Result<u8, Failure> {
    let known: Calibrations = client.get(PATH)?;
    if flags.show {
        show(cli.json, &known, || text::kept(&known));
        return Ok(0);
    }
    let work = Work::new(flags, &known)?;
    // Before signals are ours: Ctrl-C is an answer, too.
    flags.is_meant()?;
    let signals = Signals::take()?;
    let sink = match flags.target.as_slice() {
        [] => Some(Sink::start(work.protocol.name(), &known.host.cores)?),
        _ => None,
    };
    let found = work.find(cli, client, signals, sink)?;
    // Kept, or shown at least.
    let kept: Result<Calibration, Failure> = client.send("PUT", PATH, &found);
    let found = kept.as_ref().unwrap_or(&found);
    show(cli.json, found, || text::result(found));
    kept.map(|_| 0)
}

impl Calibrate {
    /// Asks whether the target is to be loaded to its limit.
    fn is_meant(&self) -> Result<(), Failure> {
        if self.target.is_empty() || self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Failure::usage("there is no terminal to ask on, so nothing was done; give --yes"));
        }
        eprint!("This loads {} to its limit or this host's. Go on? [y/N] ", self.target.join(", "));
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(|error| Failure::usage(error.to_string()))?;
        let is_yes = ["y", "yes"].iter().any(|yes| line.trim().eq_ignore_ascii_case(yes));
        if is_yes { Ok(()) } else { Err(Failure::usage("nothing was done")) }
    }
}

/// A calibration, understood.
struct Work<'a> {
    flags: &'a Calibrate,
    protocol: Scheme,
    workers: u64,
    tick: Span,
    /// Payload of a tick, in bytes.
    bytes: u64,
    /// No more streams than this.
    most: u64,
    /// Streams opened a second: handshakes cost, and are not what is measured.
    connects: PerSecond,
    /// For the run, in seconds.
    time: f64,
}

/// What a step came to, with what its result does not say.
struct Taken {
    step: Step,
    cost_us: f64,
    bytes_per_second: f64,
}

impl<'a> Work<'a> {
    fn new(flags: &'a Calibrate, known: &Calibrations) -> Result<Self, Failure> {
        let protocol = scheme(flags)?;
        let tick = flags.tick_interval.unwrap_or(spec::DEFAULT_TICK);
        let by_rate = |rate: Rate| (u128::from(rate.0) * u128::from(tick.ns()) / 1_000_000_000) as u64;
        let bytes = flags.rate.map(by_rate).or(flags.bytes_per_tick.map(|bytes| bytes.0)).unwrap_or(4096);
        if !(TIME_MIN..=TIME_MAX).contains(&flags.time) {
            return Err(Failure::usage(format!("--time {}: give {TIME_MIN} to {TIME_MAX}", flags.time)));
        }
        if flags.max_streams == Some(0) {
            return Err(Failure::usage("--max-streams 0 leaves nothing to try; give at least 1"));
        }
        let workers = known.host.cores.len().max(1) as u64;
        let connects = match protocol {
            Scheme::Ws | Scheme::Tcp => 1000,
            Scheme::Wss => 500,
            Scheme::Ssh => 250,
        };
        Ok(Self {
            flags,
            protocol,
            workers,
            tick,
            bytes,
            most: flags.max_streams.unwrap_or(spec::STREAMS_MAX).min(spec::STREAMS_MAX),
            connects: flags.connect_rate.unwrap_or(PerSecond { milli: connects * workers * 1000 }),
            time: flags.time.ns() as f64 / 1e9 - AROUND,
        })
    }

    /// The run: `first` streams, and room for `most`.
    fn spec(&self, sink: Option<&Sink>, first: u64, most: u64) -> Result<Spec, Failure> {
        let flags = self.flags;
        let mut group = GroupSpec {
            name: spec::MAIN_GROUP.into(),
            target: flags.target.clone(),
            conns: Some(first),
            rate: flags.rate,
            bytes_per_tick: flags.bytes_per_tick,
            tick_interval: flags.tick_interval,
            connect_rate: Some(self.connects),
            warm_up: Some(Span::default()),
            // Longer than it will go. The stage behind it is what rings and memory are made for.
            duration: Some(spec::Duration::For(Span::from_secs(3600))),
            stage: vec![StageSpec {
                conns: Some(most),
                hold: Some(Span::from_secs(1)),
                ..StageSpec::default()
            }],
            ca: flags.ca.as_ref().map(File::new),
            insecure: flags.insecure,
            header_file: flags.header_file.as_ref().map(File::new),
            source: flags.source.clone(),
            ..GroupSpec::default()
        };
        flags.ssh.write_into(&mut group);
        if let Some(sink) = sink {
            sink.write_into(&mut group);
            if group.source.is_empty() && most > STREAMS_PER_SOURCE {
                let addresses = most.div_ceil(STREAMS_PER_SOURCE);
                group.source = (1..=addresses).map(|last| format!("127.0.0.{last}")).collect();
            }
        }
        let spec = Spec { name: Some("calibrate".into()), group: vec![group], ..Spec::default() };
        complete(spec, Path::new(""))
    }

    fn find(
        &self,
        cli: &Cli,
        client: &Client,
        signals: Signals,
        sink: Option<Sink>,
    ) -> Result<Calibration, Failure> {
        sink.as_ref().map(Sink::write_files).transpose()?;
        let first = (FIRST * self.workers).min(self.most);
        let most = bound(client, first, self.most, |first, most| self.spec(sink.as_ref(), first, most))?;
        if signals.has_come() {
            return Err(interrupted());
        }
        let first = first.min(most.0);
        let request = StartRequest { spec: self.spec(sink.as_ref(), first, most.0)?, dry_run: false };
        let started: Started = client.send("POST", RUNS, &request)?;
        let id = started.id.unwrap_or_default();
        let begun = (first, self.connects.milli as f64 / 1000.0, self.tick.ns() as f64 / 1e9);
        let mut steps = Steps::new(Session::follow(client, &id, signals)?, begun);
        let head = text::head(self.protocol.name(), self.bytes, self.tick);
        let told = if cli.json { Ok(()) } else { say(&head).map_err(ended) };
        let found = told.and_then(|()| self.steps(cli, &mut steps, (first, most)));
        steps.session.end(Ending::Now);
        let found = found?;
        Ok(Calibration {
            run: id,
            against: match sink {
                Some(_) => "scale-sink".into(),
                None => self.flags.target.iter().map(|it| without_query(it)).collect::<Vec<_>>().join(", "),
            },
            shared_cores: sink.is_some_and(|sink| sink.shares),
            ..found
        })
    }

    /// Step by step to the answer.
    fn steps(
        &self,
        cli: &Cli,
        steps: &mut Steps<'_>,
        (first, most): (u64, (u64, Limit)),
    ) -> Result<Calibration, Failure> {
        let (hold, for_cost) =
            if self.time < SHORT { (HOLD_SECONDS_MIN, 0.0) } else { (HOLD_SECONDS, COST_NEEDS) };
        let pace = Pace {
            connects: self.connects.milli as f64 / 1000.0,
            step: (SETTLE_SECONDS + TRY_SECONDS_MAX) as f64,
            hold: (SETTLE_SECONDS + hold) as f64,
            precision: PRECISION,
            lower: LOWER,
            least: 1,
        };
        let mut search = Search::new(first, most, pace);
        let mut taken: Vec<Taken> = Vec::new();
        loop {
            let next = search.next(self.time - for_cost - steps.session.elapsed());
            let (streams, hold) = match next {
                Next::Try(streams) => (streams, None),
                Next::Hold(streams) => (streams, Some(hold)),
                Next::Done => break,
            };
            let (watch, step) = match steps.step(streams, hold) {
                Ok(it) => it,
                Err(End::RunOver) => {
                    let broke = Some(Limit::Target);
                    search.took(next, Outcome::Broke(Limit::Target));
                    let step = Step { streams, at: steps.session.elapsed(), broke, ..Step::default() };
                    taken.push(Taken { step, cost_us: 0.0, bytes_per_second: 0.0 });
                    break;
                }
                Err(end) => return Err(ended(end)),
            };
            if !cli.json {
                say(&text::step(&step, hold.is_some())).map_err(ended)?;
            }
            let used = step.busy_max / BUSY_MAX;
            search.took(next, step.broke.map_or(Outcome::Held { used }, Outcome::Broke));
            taken.push(Taken::of(&watch, step));
        }
        self.result(steps, &search, taken)
    }

    fn result(
        &self,
        steps: &mut Steps<'_>,
        search: &Search,
        taken: Vec<Taken>,
    ) -> Result<Calibration, Failure> {
        let (best, limit) = (search.best(), search.limit());
        let Some(answer) = taken.iter().rfind(|it| it.step.streams == best && it.step.broke.is_none()) else {
            return Err(nothing_held(&taken, limit, self.flags.time));
        };
        let is_last = taken.last().is_some_and(|last| last.step.at.total_cmp(&answer.step.at).is_eq());
        let (message_us, byte_us) = match self.shorter(steps, is_last)? {
            Some((bytes, cost_us)) => {
                let byte_us = (answer.cost_us - cost_us).max(0.0) / (self.bytes - bytes) as f64;
                (answer.cost_us - byte_us * self.bytes as f64, Some(byte_us))
            }
            None => (answer.cost_us, None),
        };
        Ok(Calibration {
            protocol: self.protocol.name().into(),
            payload_bytes: self.bytes,
            tick: self.tick.ns() as f64 / 1e9,
            streams: best,
            held_seconds: answer.step.seconds,
            messages_per_second: answer.step.messages_per_second,
            bytes_per_second: answer.bytes_per_second,
            cpu_us_per_message: answer.cost_us,
            message_us,
            byte_us,
            lateness_p99: answer.step.lateness_p99.unwrap_or(0.0),
            busy_max: answer.step.busy_max,
            limit,
            steps: taken.into_iter().map(|it| it.step).collect(),
            ..Calibration::default()
        })
    }

    /// The cost of a shorter message, where the answer's streams still go and there is time: its bytes, and us.
    fn shorter(&self, steps: &mut Steps<'_>, is_last: bool) -> Result<Option<(u64, f64)>, Failure> {
        let bytes = self.bytes / SHORTER;
        if !is_last || bytes < SHORTER_MIN || self.time - steps.session.elapsed() < COST_NEEDS {
            return Ok(None);
        }
        match steps.cost_of(bytes, COST_SECONDS) {
            Ok(cost) => Ok(cost.map(|cost_us| (bytes, cost_us))),
            Err(End::RunOver) => Ok(None),
            Err(end) => Err(ended(end)),
        }
    }
}

impl Taken {
    fn of(watch: &Watch, step: Step) -> Self {
        Self {
            cost_us: watch.median(|second| Some(second.cost_us())).unwrap_or(0.0),
            bytes_per_second: watch.median(|second| Some(second.bytes)).unwrap_or(0.0),
            step,
        }
    }
}

/// What is spoken.
fn scheme(flags: &Calibrate) -> Result<Scheme, Failure> {
    let mut schemes = Vec::new();
    for target in &flags.target {
        schemes.push(Target::parse(target).map_err(Failure::usage)?.scheme);
    }
    match schemes.split_first() {
        None => Ok(match flags.protocol.unwrap_or(Protocol::Ws) {
            Protocol::Ws => Scheme::Ws,
            Protocol::Wss => Scheme::Wss,
            Protocol::Ssh => Scheme::Ssh,
            Protocol::Tcp => Scheme::Tcp,
        }),
        Some((first, others)) if others.iter().all(|other| other == first) => Ok(*first),
        Some(_) => Err(Failure::usage("one protocol is calibrated at a time; give targets of one scheme")),
    }
}

/// A target's query may hold a secret.
pub fn without_query(target: &str) -> &str {
    target.split('?').next().unwrap_or(target)
}

fn interrupted() -> Failure {
    Failure { message: "interrupted: the run has ended, nothing is kept".into(), exit: Exit::Aborted }
}

/// Why there is no result.
fn ended(end: End) -> Failure {
    match end {
        End::Failed(failure) => failure,
        End::Interrupted | End::RunOver => interrupted(),
    }
}

fn nothing_held(taken: &[Taken], limit: Limit, time: Span) -> Failure {
    let Some(least) = taken.iter().map(|it| it.step.streams).min() else {
        let message = format!("not even one step was possible within --time {time}; give more");
        return Failure { message, exit: Exit::Usage };
    };
    let exit = if limit == Limit::Target { Exit::Failed } else { Exit::HostCannotCarry };
    let why = limit.meaning();
    Failure {
        message: format!("not even {} streams were held: {why}; nothing is kept", thousands(least)),
        exit,
    }
}
