//! The run in which a limit is sought: its load is set, its seconds come in.
//!
//! The clock is the run's own: an event says how far it is. Whatever happens, the run is ended: by [`Session::end`], or at
//! once where its session is let go.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use scale_api::calibration::Limit;
use scale_api::http::{MarkRequest, SetRequest, StopRequest};
use scale_api::report::{Event, Exit, Missed, Outcome, Report};
use scale_api::units::Span;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::client::{Client, Failure};
use crate::follow::{Lines, Said};

/// Without an event for so long the daemon stands still.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A run that was told to stop at once has ended within this; seconds of it come meanwhile, so that one in order may take
/// as long as its drain.
const END_TIME_MAX: Duration = Duration::from_secs(5);
/// Seconds beyond those that opening takes by its rate.
const OPENING_MORE: f64 = 4.0;
/// Share of the streams that have to open.
const OPEN_MIN: f64 = 0.99;
/// Seconds for which streams fail before they are given up.
const FAILING_SECONDS: usize = 2;

enum Message {
    Second(Box<Event>),
    Ended(Box<Report>),
    Lost(Failure),
    Signal,
}

/// Why a session goes no further.
pub enum End {
    /// A signal, nobody reads any more what is printed, or somebody else has ended the run.
    Interrupted,
    /// The run has ended for its target's sake: every stream is down, or nothing comes back.
    RunOver,
    /// The daemon, or what it says.
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A line on stdout while a run goes.
///
/// # Errors
/// Nobody reads any more: whoever asked has gone, and the run is to end as well.
pub fn say(text: &str) -> Result<(), End> {
    crate::try_print(&[text.as_bytes(), b"\n"].concat()).map_err(|_| End::Interrupted)
}

/// Signals from the very beginning: what is started is always ended.
pub struct Signals {
    sender: SyncSender<Message>,
    messages: Receiver<Message>,
}

impl Signals {
    /// Takes over Ctrl-C, SIGTERM and SIGHUP.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take() -> Result<Self, Failure> {
        let (sender, messages) = sync_channel(64);
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|error| Failure { message: error.to_string(), exit: Exit::Internal })?;
        let told = sender.clone();
        thread::spawn(move || signals.forever().for_each(|_| drop(told.send(Message::Signal))));
        Ok(Self { sender, messages })
    }

    /// Whether one has come.
    pub fn has_come(&self) -> bool {
        matches!(self.messages.try_recv(), Ok(Message::Signal))
    }
}

/// How a run is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Zero traffic within a second.
    Now,
    /// Drained, with its verdict.
    InOrder,
    /// Drained, with the verdict that it was aborted.
    Aborted,
}

/// A run that is going.
pub struct Session<'a> {
    client: &'a Client,
    /// Its id.
    pub id: String,
    messages: Receiver<Message>,
    last: Box<Event>,
    missed_before: Missed,
    is_over: bool,
}

impl<'a> Session<'a> {
    /// Follows run `id`, which is its own from here on: where it cannot be followed, it is ended.
    ///
    /// # Errors
    /// The daemon is lost.
    pub fn follow(client: &'a Client, id: &str, signals: Signals) -> Result<Self, Failure> {
        let mut lines = Lines::open(client, id).inspect_err(|_| drop(stop(client, id, true)))?;
        let Signals { sender, messages } = signals;
        thread::spawn(move || {
            loop {
                let message = match lines.wait() {
                    Ok(Said::Second(event)) => Message::Second(event),
                    Ok(Said::Unknown) => continue,
                    Ok(Said::Report(report)) => Message::Ended(report),
                    Err(failure) => Message::Lost(failure),
                };
                let is_last = !matches!(message, Message::Second(_));
                if sender.send(message).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Self {
            client,
            id: id.to_owned(),
            messages,
            last: Box::default(),
            missed_before: Missed::default(),
            is_over: false,
        })
    }

    /// Seconds since the run's start.
    pub fn elapsed(&self) -> f64 {
        self.last.elapsed
    }

    /// The last second, and what was missed until the one before it.
    pub fn last(&self) -> (&Event, &Missed) {
        (&self.last, &self.missed_before)
    }

    /// Waits for the next second.
    ///
    /// # Errors
    /// Why there is none.
    pub fn second(&mut self) -> Result<&Event, End> {
        match self.messages.recv_timeout(SILENCE_MAX) {
            Ok(Message::Second(event)) => {
                let before = std::mem::replace(&mut self.last, event);
                self.missed_before = before.ticks_missed;
                Ok(&self.last)
            }
            Ok(Message::Ended(report)) => {
                self.is_over = true;
                if is_the_targets(&report) {
                    return Err(End::RunOver);
                }
                let why = report.verdict.reasons.first().map_or(String::new(), |why| format!(" ({why})"));
                crate::warn(&format!("run {} was ended from outside{why}", self.id));
                Err(End::Interrupted)
            }
            Ok(Message::Lost(failure)) => Err(failure.into()),
            Ok(Message::Signal) => Err(End::Interrupted),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(Failure::lost().into()),
        }
    }

    /// Whether its run has ended.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Changes the run.
    ///
    /// # Errors
    /// The daemon's problem.
    pub fn set(&self, set: &SetRequest) -> Result<(), Failure> {
        self.client.send::<Value>("PATCH", &format!("/v1/runs/{}", self.id), set).map(drop)
    }

    /// Puts a note on the run's time line, which begins no disruption; that it could not be is no reason to stop.
    pub fn mark(&self, text: String) {
        let _: Result<Value, Failure> = self.client.send(
            "POST",
            &format!("/v1/runs/{}/marks", self.id),
            &MarkRequest { text, expect_disruption: Some(Span::default()) },
        );
    }

    /// Waits until `streams` are open, and one second more, which was not theirs alone; `opening`: the seconds that this
    /// takes by the rate of connects. `Some`: they do not open, and whose that is.
    ///
    /// # Errors
    /// Why there is no next second.
    pub fn settle(&mut self, streams: u64, opening: f64) -> Result<Option<Limit>, End> {
        let until = self.elapsed() + 2.0 * opening + OPENING_MORE;
        let failed_before = self.last.connect_failures.clone();
        let lost_before = self.last.disconnects.clone();
        let enough = (streams as f64 * OPEN_MIN) as u64;
        let mut failing = 0;
        loop {
            let event = self.second()?;
            let count = |state: &str| event.streams.get(state).copied().unwrap_or(0);
            if (enough..=streams).contains(&count("open")) && count("connecting") == 0 {
                break;
            }
            let failed: u64 = event.connect_failures.values().sum();
            let is_failing = failed - failed_before.values().sum::<u64>() > streams - enough;
            failing = if is_failing { failing + 1 } else { 0 };
            if count("failed") > streams - enough || failing > FAILING_SECONDS || event.elapsed > until {
                let busy = event.now.busy_max;
                let fresh = |now: &Classes, before: &Classes| -> Vec<String> {
                    let grown = now.iter().filter(|(class, count)| before.get(*class) < Some(*count));
                    grown.map(|(class, _)| class.clone()).collect()
                };
                let classes =
                    [fresh(&event.connect_failures, &failed_before), fresh(&event.disconnects, &lost_before)];
                return Ok(Some(why_not_open(&classes.concat(), busy)));
            }
        }
        self.second()?;
        Ok(None)
    }

    /// Ends the run, and waits until it has ended. A signal meanwhile ends it at once.
    pub fn end(mut self, how: Ending) {
        let tell = |how: Ending| match how {
            Ending::Aborted => {
                self.client.send::<Value>("POST", &format!("/v1/runs/{}/abort", self.id), &json!({}))
            }
            _ => stop(self.client, &self.id, how == Ending::Now),
        };
        if self.is_over || tell(how).is_err() {
            return;
        }
        while !self.is_over {
            match self.messages.recv_timeout(END_TIME_MAX) {
                Ok(Message::Signal) if how != Ending::Now => drop(tell(Ending::Now)),
                Ok(Message::Second(_) | Message::Signal) => {}
                Ok(Message::Ended(_)) => self.is_over = true,
                Ok(Message::Lost(_)) | Err(_) => return,
            }
        }
    }
}

/// Whatever became of who followed it: its load does not stay.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = stop(self.client, &self.id, true);
        }
    }
}

/// What the daemon warns of where a run ends early by itself; of a target's silence its last word.
const DOWN: &str = "every stream is down and may not come back";
const SILENT: &str = "(--silence)";

/// Whether a run has ended for its target's sake. Whoever else ends one, a user, the daemon, its list, says nothing of that.
fn is_the_targets(report: &Report) -> bool {
    let said = report.warnings.iter().chain(&report.verdict.reasons);
    report.verdict.outcome != Outcome::Aborted
        && said.into_iter().any(|said| said.starts_with(DOWN) || said.ends_with(SILENT))
}

fn stop(client: &Client, id: &str, now: bool) -> Result<Value, Failure> {
    client.send("POST", &format!("/v1/runs/{id}/stop"), &StopRequest { now })
}

type Classes = std::collections::BTreeMap<String, u64>;

/// Whose it is that streams do not open: classes of this host's are named in docs/measuring.md.
fn why_not_open(classes: &[String], busy: f64) -> Limit {
    let has = |class: &str| classes.iter().any(|it| it == class);
    if has("address_unavailable") {
        Limit::Ports
    } else if has("files") {
        Limit::Files
    } else if has("memory") {
        Limit::Memory
    } else if classes.is_empty() && busy > scale_api::calibration::BUSY_MAX {
        Limit::Busy
    } else {
        Limit::Target
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::channel;

    use super::*;

    /// A daemon that has one run; events are `events`, and stay open. What it was asked for is sent back.
    fn daemon(name: &str, events: Option<&'static str>) -> (Client, Receiver<String>) {
        let socket = std::env::temp_dir().join(format!("scalectl-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("bound");
        let (asked, requests) = channel();
        thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.expect("it connects"));
                let (mut line, mut length) = (String::new(), 0);
                reader.read_line(&mut line).expect("a request");
                let mut header = String::new();
                while reader.read_line(&mut header).expect("a head") > 2 {
                    if let Some(bytes) = header.strip_prefix("content-length: ") {
                        length = bytes.trim().parse().expect("a number");
                    }
                    header.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let mut stream = reader.into_inner();
                let answer = match events {
                    Some(events) if line.contains("/events") => events.to_owned(),
                    None if line.contains("/events") => "HTTP/1.1 500 No\r\n\r\n".into(),
                    _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".into(),
                };
                stream.write_all(answer.as_bytes()).expect("it is read");
                if line.contains("/events") && events.is_some() {
                    open.push(stream);
                }
                let request = line.rsplit_once(' ').expect("a version").0;
                if asked.send(format!("{request} {}", String::from_utf8_lossy(&body))).is_err() {
                    return;
                }
            }
        });
        (Client::new(Some(socket)), requests)
    }

    fn no_signals() -> Signals {
        let (sender, messages) = sync_channel(64);
        Signals { sender, messages }
    }

    const OPEN: &str = "HTTP/1.1 200 OK\r\n\r\n";
    const STOPPED: &str = "POST /v1/runs/r1/stop {\"now\":true}";

    fn next(requests: &Receiver<String>) -> String {
        requests.recv_timeout(Duration::from_secs(60)).expect("it is asked for")
    }

    #[test]
    fn a_run_whose_session_is_let_go_or_cannot_be_followed_is_ended_at_once() {
        let (client, requests) = daemon("let-go", Some(OPEN));
        let session = Session::follow(&client, "r1", no_signals()).expect("it goes");
        assert_eq!(next(&requests), "GET /v1/runs/r1/events ");
        drop(session);
        assert_eq!(next(&requests), STOPPED);
        let (client, requests) = daemon("not-followed", None);
        assert!(Session::follow(&client, "r1", no_signals()).is_err());
        assert_eq!((next(&requests), next(&requests).as_str()), ("GET /v1/runs/r1/events ".into(), STOPPED));
    }

    #[test]
    fn a_report_that_comes_by_itself_interrupts_and_the_run_is_not_ended_again() {
        const ENDED: &str = "HTTP/1.1 200 OK\r\n\r\n{\"report\":{\"schema\":1}}\n";
        let (client, requests) = daemon("ended", Some(ENDED));
        let mut session = Session::follow(&client, "r1", no_signals()).expect("it goes");
        assert!(matches!(session.second(), Err(End::Interrupted)) && session.is_over());
        session.end(Ending::Aborted);
        assert_eq!(next(&requests), "GET /v1/runs/r1/events ");
        assert!(requests.try_recv().is_err());
    }

    #[test]
    fn a_run_that_somebody_else_ends_says_nothing_of_its_target() {
        let ended = |outcome, warnings: &[&str]| {
            let mut report =
                Report { warnings: warnings.iter().map(|&it| it.into()).collect(), ..Report::default() };
            report.verdict.outcome = outcome;
            is_the_targets(&report)
        };
        let down = format!("{DOWN}: the run ends early");
        let silent = format!(
            "group main: nothing came back from its target for 30 s, so the run ended at second 40 {SILENT}"
        );
        assert!(ended(Outcome::Failed, &["slow", &down]) && ended(Outcome::Failed, &[&silent]));
        assert!(!ended(Outcome::Passed, &[]) && !ended(Outcome::Failed, &["slow"]), "stopped in order");
        assert!(!ended(Outcome::Aborted, &[&down]), "stopped at once");
    }

    #[test]
    fn streams_that_do_not_open_are_the_targets_unless_this_host_ran_out() {
        let of = |classes: &[&str], busy| {
            why_not_open(&classes.iter().map(|class| (*class).to_owned()).collect::<Vec<_>>(), busy)
        };
        assert_eq!(of(&["refused"], 0.99), Limit::Target);
        assert_eq!(of(&[], 0.99), Limit::Busy);
        assert_eq!(of(&[], 0.2), Limit::Target, "it is slow to accept");
        assert_eq!(of(&["refused", "address_unavailable"], 0.2), Limit::Ports);
        assert_eq!((of(&["files"], 0.2), of(&["memory"], 0.2)), (Limit::Files, Limit::Memory));
    }
}
