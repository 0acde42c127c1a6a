//! `find-max`: the most that a target carries, found by steps.
//!
//! One run goes all the time, as [`crate::seek`] has it; its load is set, and from step to step ([`walk`]) it grows, narrows,
//! comes down and is held. A step is a small report ([`reading`], [`histogram`]) that is judged by thresholds and by how the
//! generator was ([`judge`]). [`live`] loads a target for real; all else is pure, and [`trial`] holds it to its word on
//! targets whose limit is known. [`result`] is the JSON, [`text`] what people read.

mod histogram;
mod judge;
mod live;
mod reading;
mod result;
mod text;
#[cfg(test)]
mod trial;
mod walk;

use std::path::{Path, PathBuf};

use clap::Args;
use scale_api::calibration::{Calibrations, PATH};
use scale_api::http::{RUNS, StartRequest, Started};
use scale_api::report::Exit;
use scale_api::spec::{
    self, Breaker, Duration, GroupSpec, Reconnect, Spec, StageSpec, ThresholdSpec, Traffic,
};
use scale_api::threshold::{Names, Threshold};
use scale_api::units::{PerSecond, Rate, Span, thousands};

use crate::calibrate::without_query;
use crate::client::{Client, Failure};
use crate::commands::{Cli, Load, complete};
use crate::files;
use crate::seek::bound::bound;
use crate::seek::search::{Pace, Search};
use crate::seek::session::{End, Ending, Session, Signals, say};
use crate::show;
use crate::ssh::SshFlags;
use judge::Rules;
use live::{Live, Way};
use result::{Asked, Found, SCHEMA, Vary};

/// Seconds that opening and settling take beside connects.
const SETTLE_SECONDS: f64 = 3.0;
/// A target is watched for so long once its load has come down, twice where it was not well.
const RECOVER_SECONDS: f64 = 20.0;
/// What that usually takes.
const RECOVER_USUAL: f64 = 5.0;
/// Of the time, for what is before and behind the run, in seconds.
const AROUND: f64 = 15.0;
/// Between what held and what broke; and what the answer is lowered to where it was not held.
const PRECISION: f64 = 0.03;
const LOWER: f64 = 0.975;
const TIME_MIN: Span = Span::from_secs(30);
const TIME_MAX: Span = Span::from_secs(24 * 3600);
const STEP_MIN: Span = Span::from_secs(3);
/// Where `--from` is not given.
const FROM_CONNS: u64 = 100;
const FROM_RATE: u64 = 10_000;
/// A search that is resumed is no longer than this.
const KEPT_BYTES_MAX: u64 = 16 << 20;

/// How the most is sought.
#[derive(Debug, Args)]
pub struct FindMax {
    /// What grows: streams, or the payload a second of each.
    #[arg(long, default_value = "conns")]
    vary: Vary,
    /// What is to hold, such as 'response.p99 < 250ms' (repeatable); without it, that what is due is sent, echoed, open.
    #[arg(long, value_name = "EXPR")]
    until: Vec<String>,
    /// The least load: streams (default --conns, or 100), or a rate (default --rate, or 10KB/s).
    #[arg(long, value_name = "N|RATE")]
    from: Option<String>,
    /// No more than this.
    #[arg(long, value_name = "N|RATE")]
    to: Option<String>,
    /// The answer is held for so long to confirm it.
    #[arg(long, default_value = "60s")]
    hold: Span,
    /// What a step is measured for (3s or more).
    #[arg(long, default_value = "6s")]
    step: Span,
    /// All of it takes no longer (30s to 24h).
    #[arg(long, default_value = "10m")]
    time: Span,
    /// With --file: the group whose load grows, where there are several.
    #[arg(long)]
    group: Option<String>,
    /// Also write it as a page that opens offline; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write what is known after each step, to --resume from.
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Go on from what --keep has written, with the same flags; it is kept there, too.
    #[arg(long, value_name = "FILE", conflicts_with = "keep")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    load: Load,
    /// The last: its heading in the help is of all that follows.
    #[command(flatten)]
    ssh: SshFlags,
}

/// `find-max`.
///
/// # Errors
/// Why it cannot be.
pub fn find_max(cli: &Cli, client: &Client, flags: &FindMax) -> Result<u8, Failure> {
    let is_page_printed = flags.html.as_deref().is_some_and(|file| file.as_os_str() == files::STDOUT);
    if is_page_printed && cli.json {
        return Err(Failure::usage("--json and --html - would both go to stdout; give --html a file"));
    }
    let work = Work::new(flags)?;
    let known = work.known()?;
    let signals = Signals::take()?;
    let found = work.find(client, signals, known, cli.json || is_page_printed)?;
    // It is shown first: a whole search is not lost for a disk that is full.
    if !is_page_printed {
        show(cli.json, &found, || text::result(&found));
    }
    let kept = work.file().map_or(Ok(()), |file| keep(file, &found));
    let page = flags.html.as_deref().map_or(Ok(()), |file| page(client, file, &found));
    if is_page_printed && page.is_err() {
        crate::warn(&text::result(&found));
    }
    Ok(ending(found.exit_code, [kept, page]))
}

/// Writes the page.
fn page(client: &Client, file: &Path, found: &Found) -> Result<(), Failure> {
    let shell = client.text("/v1/page?kind=find-max")?;
    let json = serde_json::to_string(found).expect("plain values");
    let page = scale_api::page::fill(&shell, &json).ok_or_else(|| {
        Failure::usage("the daemon's page is of another version; use a scalectl of the same")
    })?;
    files::write(file, "--html", page.as_bytes())
}

/// The exit code with which to end. A file that could not be written spoils what was found, and hides nothing else.
fn ending(code: u8, written: [Result<(), Failure>; 2]) -> u8 {
    let mut failures = written.into_iter().filter_map(Result::err).peekable();
    let code = if code == 0 { failures.peek().map_or(0, |failure| failure.exit as u8) } else { code };
    failures.for_each(|failure| crate::warn(&failure.message));
    code
}

/// A search, understood.
struct Work<'a> {
    flags: &'a FindMax,
    asked: Asked,
    rules: Rules,
    /// The run, its files read; the group that is varied among its groups.
    spec: Spec,
    group: usize,
    seconds: (usize, usize),
    time: f64,
}

/// Whole seconds.
fn whole(word: &str, span: Span, least: Span) -> Result<usize, Failure> {
    match span.ns() % 1_000_000_000 {
        0 if span >= least => Ok((span.ns() / 1_000_000_000) as usize),
        _ => Err(Failure::usage(format!("{word} {span}: give whole seconds, {least} at least"))),
    }
}

/// A load on the command line.
fn level(vary: Vary, word: &str, text: &str) -> Result<u64, Failure> {
    let wrong = |why: String| Failure::usage(format!("{word} {text}: {why}"));
    let level = match vary {
        Vary::Conns => text.parse().map_err(|_| wrong("write a number of streams".into()))?,
        Vary::Rate => text.parse::<Rate>().map_err(|error| wrong(error.to_string()))?.0,
    };
    if level == 0 { Err(wrong("give more than nothing".into())) } else { Ok(level) }
}

/// Checks what is to hold.
fn rules(flags: &FindMax, written: &Spec, tick: f64) -> Result<Rules, Failure> {
    let threshold: Vec<_> =
        flags.until.iter().map(|expression| ThresholdSpec { expression: expression.trim().into() }).collect();
    let spec = Spec { threshold, preset: Vec::new(), expect_disruption: None, ..written.clone() };
    let (groups, observe) = (spec.group_names(), spec.observe_names());
    for text in &flags.until {
        let threshold = Threshold::parse(text, &Names { groups: &groups, observe: &observe })
            .map_err(|why| Failure::usage(format!("--until: {why}")))?;
        if threshold.over().is_some() || threshold.abort().is_some() {
            return Err(Failure::usage(format!(
                "--until '{text}': leave out `over` and `abort`: each step is one window, --step long, and what breaks it is ended"
            )));
        }
        if (threshold.metric().figure(), threshold.metric().stat()) == ("streams", "away") {
            return Err(Failure::usage(format!(
                "--until '{text}': of a step that is what is not open; ask for `load.open_ratio` or `disconnects.rate`"
            )));
        }
    }
    Ok(Rules::new(spec, tick))
}

impl<'a> Work<'a> {
    fn new(flags: &'a FindMax) -> Result<Self, Failure> {
        let (mut written, folder) = flags.load.spec(&flags.ssh)?;
        written.name_groups();
        let named = |name: &String| written.group.iter().position(|group| group.name == *name);
        let group = match &flags.group {
            None if written.group.len() > 1 => {
                let names = written.group_names().join(", ");
                return Err(Failure::usage(format!("--group: say whose load grows, one of {names}")));
            }
            None => 0,
            Some(name) => {
                named(name).ok_or_else(|| Failure::usage(format!("--group: no group is called `{name}`")))?
            }
        };
        let varied = written.group.get(group).ok_or_else(|| Failure::usage("a run has a group at least"))?;
        let from = flags.from.as_deref().map(|text| level(flags.vary, "--from", text)).transpose()?;
        let to = flags.to.as_deref().map(|text| level(flags.vary, "--to", text)).transpose()?;
        let (written_from, usual) = match flags.vary {
            Vary::Conns => (varied.conns, FROM_CONNS),
            Vary::Rate => (varied.rate.map(|rate| rate.0), FROM_RATE),
        };
        let from = from.or(written_from).unwrap_or(usual);
        if to.is_some_and(|to| to < from) {
            return Err(Failure::usage(format!(
                "--to is less than --from, which is {}",
                text::level(flags.vary, from)
            )));
        }
        if !(TIME_MIN..=TIME_MAX).contains(&flags.time) {
            return Err(Failure::usage(format!("--time {}: give {TIME_MIN} to {TIME_MAX}", flags.time)));
        }
        if flags.keep.as_deref().is_some_and(|file| file.as_os_str() == files::STDOUT) {
            return Err(Failure::usage("--keep: name a file; on stdout it could not be resumed from"));
        }
        for (word, file) in [("--html", &flags.html), ("--keep", &flags.keep), ("--resume", &flags.resume)] {
            file.as_deref().map_or(Ok(()), |file| files::check(file, word))?;
        }
        let hold = whole("--hold", flags.hold, STEP_MIN)?;
        let tick = varied.tick_interval.unwrap_or(spec::DEFAULT_TICK);
        let step = whole("--step", flags.step, STEP_MIN)?;
        let mut asked = Asked {
            vary: flags.vary,
            group: varied.name.clone(),
            targets: varied.target.iter().map(|it| without_query(it).to_owned()).collect(),
            load: fixed(flags.vary, varied, tick)?,
            until: flags.until.clone(),
            from,
            to,
            step: step as u64,
            hold: hold as u64,
            digest: String::new(),
        };
        let rules = rules(flags, &written, tick.seconds())?;
        let spec = going(written, group, &asked, flags.time);
        asked.digest = result::digest(&spec);
        Ok(Self {
            flags,
            asked,
            rules,
            spec: complete(spec, &folder)?,
            group,
            seconds: (step, hold),
            time: flags.time.seconds() - AROUND,
        })
    }

    /// What is known already.
    fn known(&self) -> Result<Found, Failure> {
        let Some(file) = &self.flags.resume else {
            return Ok(Found { schema: SCHEMA, asked: self.asked.clone(), ..Found::default() });
        };
        let wrong = |why: String| Failure::usage(format!("--resume {}: {why}", file.display()));
        let found: Found = serde_json::from_slice(&files::read(file, "--resume", KEPT_BYTES_MAX)?)
            .map_err(|error| wrong(format!("no search was kept there: {error}")))?;
        if found.schema != SCHEMA || found.asked != self.asked {
            return Err(wrong(
                "it was asked for something else; give the same flags, or begin anew with --keep".into(),
            ));
        }
        Ok(found)
    }

    /// The run that begins with `first`, and may have `most`.
    fn run(&self, first: u64, most: u64) -> Spec {
        let mut spec = self.spec.clone();
        let group = &mut spec.group[self.group];
        // The stage behind it is what rings and memory are made for; it does not come.
        let mut stage = StageSpec { hold: Some(Span::from_secs(1)), ..StageSpec::default() };
        match self.asked.vary {
            Vary::Conns => (group.conns, stage.conns) = (Some(first), Some(most)),
            Vary::Rate => (group.rate, stage.rate) = (Some(Rate(first)), Some(Rate(most))),
        }
        group.stage = vec![stage];
        spec
    }

    /// As far as there is anything to try.
    fn most(&self) -> u64 {
        let tick = self.spec.group[self.group].tick_interval.unwrap_or(spec::DEFAULT_TICK);
        let most = match self.asked.vary {
            Vary::Conns => spec::STREAMS_MAX,
            Vary::Rate => (spec::MESSAGE_BYTES_MAX as f64 / tick.seconds()) as u64,
        };
        self.asked.to.unwrap_or(most).clamp(self.asked.from, most.max(self.asked.from))
    }

    /// How steps are taken where so many streams are opened a second.
    fn pace(&self, connects: f64) -> Pace {
        Pace {
            connects: if self.asked.vary == Vary::Conns { connects } else { f64::INFINITY },
            step: SETTLE_SECONDS + self.seconds.0 as f64 + RECOVER_USUAL,
            hold: SETTLE_SECONDS + self.seconds.1 as f64,
            precision: PRECISION,
            lower: LOWER,
            least: self.asked.from,
        }
    }

    fn file(&self) -> Option<&Path> {
        self.flags.keep.as_deref().or(self.flags.resume.as_deref())
    }

    fn find(&self, client: &Client, signals: Signals, known: Found, quiet: bool) -> Result<Found, Failure> {
        if known.is_final() {
            return Ok(known);
        }
        let from = self.asked.from;
        let most = bound(client, from, self.most(), |first, most| Ok(self.run(first, most)))?;
        if signals.has_come() {
            return Err(Failure { message: "interrupted before anything began".into(), exit: Exit::Aborted });
        }
        let host: Calibrations = client.get(PATH)?;
        let workers = host.host.cores.len().max(1) as u64;
        let group = &self.spec.group[self.group];
        let connects = connects(group, workers);
        let mut search = Search::new(from, most, self.pace(connects));
        let mut steps = known.steps.clone();
        walk::resume(&mut search, &steps, 0);
        let request = StartRequest { spec: self.run(from, most.0), dry_run: false };
        let started: Started = client.send("POST", RUNS, &request)?;
        drop(request);
        let run = started.id.unwrap_or_default();
        let session = Session::follow(client, &run, signals)?;
        let others = self.spec.group.iter().enumerate().filter(|(at, _)| *at != self.group);
        let others = others
            .map(|(_, group)| (group.streams(), group.streams() as f64 / self::connects(group, workers)));
        let way = Way {
            vary: self.asked.vary,
            streams: group.conns.unwrap_or(0),
            others: others.clone().map(|(streams, _)| streams).sum(),
            others_opening: others.map(|(_, seconds)| seconds).fold(0.0, f64::max),
            connects,
            seconds: self.seconds,
            time: self.time,
            from,
            echoes: self.spec.group.iter().any(|group| group.traffic == Traffic::Echo),
        };
        let figures = reading::figures(self.rules.until.iter().map(Threshold::metric));
        let beside = reading::Beside::new(self.asked.group.clone(), figures);
        let mut live = Live {
            client,
            session,
            rules: &self.rules,
            way,
            beside,
            level: 0,
            quiet,
            found: Found { run, ..known },
            file: self.file(),
        };
        let told = if quiet { Ok(()) } else { say(&text::head(&self.asked)) };
        let end = told.and_then(|()| walk::walk(&mut search, &mut steps, &mut live));
        let Live { session, mut found, .. } = live;
        found.steps = steps;
        let how = match &end {
            Err(End::Interrupted) => Ending::Aborted,
            Err(End::Failed(_)) => Ending::Now,
            Ok(()) | Err(End::RunOver) => Ending::InOrder,
        };
        if how == Ending::Aborted && !session.is_over() {
            crate::warn(crate::view::INTERRUPTED);
        }
        session.end(how);
        match end {
            Err(End::Failed(failure)) => Err(failure),
            _ => self.finish(client, found, &search, how == Ending::Aborted),
        }
    }

    /// What it comes to, kept where that is asked for.
    fn finish(
        &self,
        client: &Client,
        mut found: Found,
        search: &Search,
        aborted: bool,
    ) -> Result<Found, Failure> {
        if found.steps.is_empty() && !aborted {
            let time = self.flags.time;
            return Err(Failure::usage(format!(
                "not even one step was possible within --time {time}; give more"
            )));
        }
        let confirmed = walk::is_confirmed(search, &found.steps);
        found.conclude(search.best(), confirmed, search.limit(), aborted);
        // A run of which the report cannot be had has told its steps all the same.
        if let Ok(report) = client.report(&found.run) {
            found.at = report.run.started_at;
            // The plan was made for as much as there may ever be.
            let said = report.warnings.into_iter().filter(|warning| !warning.starts_with("plan: "));
            let host = report.host.into_iter().filter(|entry| entry.status != "ok");
            let host = host.map(|entry| format!("this host: {} {}", entry.name, entry.value));
            found.warnings = said.chain(host).collect();
        }
        found.sentences = text::sentences(&found);
        Ok(found)
    }
}

/// Writes what is known.
///
/// # Errors
/// The disk's.
fn keep(file: &Path, found: &Found) -> Result<(), Failure> {
    files::write(file, "--keep", &serde_json::to_vec(found).expect("plain values"))
}

/// Streams of a group that are opened a second.
fn connects(group: &GroupSpec, workers: u64) -> f64 {
    group.connect_rate.unwrap_or(PerSecond { milli: 1_000_000 * workers }).milli as f64 / 1000.0
}

/// What does not grow, in words.
fn fixed(vary: Vary, group: &GroupSpec, tick: Span) -> Result<String, Failure> {
    match (vary, group.conns) {
        (Vary::Conns, _) => Ok(payload(group, tick)),
        (Vary::Rate, Some(conns)) => Ok(format!("{} streams, each {tick}", thousands(conns))),
        (Vary::Rate, None) => Err(Failure::usage("--conns: say how many streams have the rate that grows")),
    }
}

/// What a stream carries.
fn payload(group: &GroupSpec, tick: Span) -> String {
    let bytes = group.bytes_per_tick.unwrap_or(spec::DEFAULT_BYTES_PER_TICK);
    let sent = match (group.traffic, &group.message_file, group.rate) {
        (Traffic::Receive, ..) => return "what the target sends".into(),
        (_, Some(file), _) => format!("{} a stream each {tick}", file.path.display()),
        (_, None, Some(rate)) => format!("{rate} a stream each {tick}"),
        (_, None, None) => format!("{} B a stream each {tick}", thousands(bytes.0)),
    };
    if group.traffic == Traffic::Discard { format!("{sent}, not echoed") } else { sent }
}

/// A run that goes until the search is over, and that nothing else ends: no threshold, no breaker, no streams that are
/// lost for good. Stages, ramp and warm-up are the steps'.
fn going(mut spec: Spec, varied: usize, asked: &Asked, time: Span) -> Spec {
    (spec.threshold, spec.preset) = (Vec::new(), Vec::new());
    // Marks of steps are no reason to leave out what is due.
    spec.expect_disruption = None;
    spec.name.get_or_insert_with(|| "find-max".into());
    for (at, group) in spec.group.iter_mut().enumerate() {
        group.warm_up = Some(Span::default());
        group.duration = Some(Duration::For(Span::from_ns(time.ns() + Span::from_secs(600).ns())));
        group.stage = Vec::new();
        // All groups are there from the first step on, each by its own connect rate.
        (group.start, group.ramp) = (None, None);
        if group.reconnect == Reconnect::Never {
            group.reconnect = Reconnect::Backoff;
        }
        group.breaker = group.breaker.or(Some(Breaker::Off));
        if at == varied {
            match asked.vary {
                Vary::Conns => group.conns = Some(asked.from),
                Vary::Rate => (group.rate, group.bytes_per_tick) = (Some(Rate(asked.from)), None),
            }
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::commands::Command;

    fn work(words: &[&str]) -> Result<(Asked, Spec), String> {
        let words = [&["scalectl", "find-max", "--target", "ws://127.0.0.1:9/?token=s"], words].concat();
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::FindMax(flags) = &cli.command else { panic!("another command") };
        let work = Work::new(flags).map_err(|failure| failure.message)?;
        Ok((work.asked.clone(), work.run(work.asked.from, 5000)))
    }

    #[test]
    fn nothing_but_the_search_ends_its_run_and_there_is_room_to_grow() {
        let (asked, spec) =
            work(&["--until", "response.p99 < 250ms", "--warm-up", "5s", "--ramp", "3s"]).unwrap();
        assert_eq!(
            (asked.from, asked.load.as_str(), asked.targets.as_slice()),
            (100, "4,096 B a stream each 100ms", &["ws://127.0.0.1:9/".to_owned()][..])
        );
        let group = &spec.group[0];
        assert!(spec.thresholds().is_empty() && group.breaker == Some(Breaker::Off));
        assert_eq!(
            (group.conns, group.stage[0].conns, group.reconnect),
            (Some(100), Some(5000), Reconnect::Backoff)
        );
        assert_eq!((group.warm_up, group.ramp), (Some(Span::default()), None));
        let (asked, spec) = work(&["--vary", "rate", "--conns", "20", "--from", "5KB/s"]).unwrap();
        assert_eq!((asked.from, spec.group[0].rate, spec.group[0].conns), (5000, Some(Rate(5000)), Some(20)));
        assert_eq!(spec.group[0].stage[0].rate, Some(Rate(5000)));
    }

    #[test]
    fn other_groups_are_there_from_the_first_step_on() {
        let slow = GroupSpec {
            start: Some(Span::from_secs(30)),
            ramp: Some(Span::from_secs(60)),
            connect_rate: Some(PerSecond { milli: 50_000 }),
            conns: Some(500),
            ..GroupSpec::default()
        };
        let spec = Spec { group: vec![slow.clone(), slow.clone()], ..Spec::default() };
        let spec = going(spec, 0, &Asked::default(), Span::from_secs(60));
        assert!(spec.group.iter().all(|group| group.start.is_none() && group.ramp.is_none()));
        assert_eq!((connects(&slow, 2), connects(&GroupSpec::default(), 2)), (50.0, 2000.0));
    }

    #[test]
    fn a_search_is_resumed_by_the_same_load_alone_and_says_which_it_is() {
        let asked = |words: &[&str]| work(words).expect("it makes sense").0;
        let plain = asked(&[]);
        assert_eq!(asked(&["--time", "1h", "--name", "again", "--label", "a=b", "--duration", "5s"]), plain);
        for words in [
            &["--step", "8s"][..],
            &["--traffic", "discard"],
            &["--tick-interval", "200ms"],
            &["--tick-offset", "aligned"],
            &["--reconnect", "client"],
            &["--source", "127.0.0.2"],
            &["--message-file", "Cargo.toml"],
        ] {
            assert_ne!(asked(words), plain, "{words:?}");
        }
        for (words, load) in [
            (&["--message-file", "Cargo.toml"][..], "Cargo.toml a stream each 100ms"),
            (&["--traffic", "receive"], "what the target sends"),
            (&["--traffic", "discard"], "4,096 B a stream each 100ms, not echoed"),
        ] {
            assert_eq!(asked(words).load, load);
        }
    }

    #[test]
    fn what_makes_no_sense_is_said_before_anything_begins() {
        for (words, why) in [
            (&["--until", "response.p98 < 1s"][..], "--until: threshold"),
            (&["--until", "response.p99 < 1s over 5s"], "leave out `over`"),
            (&["--until", "streams.away < 5"], "ask for `load.open_ratio`"),
            (&["--vary", "rate"], "--conns: say how many"),
            (&["--vary", "rate", "--conns", "5", "--from", "100"], "--from 100"),
            (&["--from", "0"], "more than nothing"),
            (&["--from", "200", "--to", "100"], "--to is less than --from"),
            (&["--time", "5s"], "give 30s to"),
            (&["--hold", "1500ms"], "whole seconds"),
            (&["--html", "/nowhere/max.html"], "--html: cannot write /nowhere/max.html"),
            (&["--keep", "/nowhere/max.json"], "--keep: cannot write"),
            (&["--keep", "-"], "--keep: name a file"),
            (&["--group", "other"], "no group is called `other`"),
        ] {
            let error = work(words).map(|_| ()).expect_err(why);
            assert!(error.contains(why), "{words:?}: {error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_spoils_what_was_found_and_hides_nothing_else() {
        let failed = || Err(Failure::usage("the disk is full"));
        assert_eq!((ending(0, [Ok(()), Ok(())]), ending(0, [Ok(()), failed()])), (0, 2));
        assert_eq!((ending(99, [failed(), failed()]), ending(6, [failed(), Ok(())])), (99, 6));
    }
}
