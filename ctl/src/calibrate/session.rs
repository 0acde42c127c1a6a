//! A calibration's run: streams are set, seconds come in, and a step is what they say.
//!
//! The clock is the run's own: an event says how far it is. Whatever happens, the run is ended by [`Session::end`].

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use scale_api::calibration::{Limit, Step};
use scale_api::http::{MarkRequest, SetRequest, StopRequest};
use scale_api::report::{Event, Exit, Missed};
use scale_api::units::{Bytes, thousands};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::watch::{Second, Watch};
use crate::client::{Client, Failure};
use crate::follow::{Lines, Said};

/// Without an event for so long the daemon stands still.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A run that was told to stop has ended within this.
const END_TIME_MAX: Duration = Duration::from_secs(5);
/// Seconds beyond those that opening takes by its rate.
const OPENING_MORE: f64 = 4.0;
/// Share of the streams that have to open.
const OPEN_MIN: f64 = 0.99;
/// A target's answers may take so many ticks longer than they did at first.
const SERVICE_TICKS: f64 = 1.0;

enum Message {
    Second(Box<Event>),
    Ended,
    Lost(Failure),
    Signal,
}

/// Why a session goes no further.
pub enum End {
    /// A signal.
    Interrupted,
    /// The run has ended by itself: every stream is down.
    RunOver,
    /// The daemon, or what it says.
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
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

/// A run that is going.
pub struct Session<'a> {
    client: &'a Client,
    /// Its id.
    pub id: String,
    messages: Receiver<Message>,
    /// Streams that were last asked for.
    streams: u64,
    connects: f64,
    tick: f64,
    last: Box<Event>,
    missed_before: Missed,
    /// The median service time of the first step, in seconds.
    service: Option<f64>,
    is_over: bool,
}

impl<'a> Session<'a> {
    /// Follows run `id`, which has begun with `streams` and opens `connects` a second.
    ///
    /// # Errors
    /// The daemon is lost.
    pub fn follow(
        client: &'a Client,
        id: &str,
        signals: Signals,
        (streams, connects, tick): (u64, f64, f64),
    ) -> Result<Self, Failure> {
        let mut lines = Lines::open(client, id)?;
        let Signals { sender, messages } = signals;
        thread::spawn(move || {
            loop {
                let message = match lines.wait() {
                    Ok(Said::Second(event)) => Message::Second(event),
                    Ok(Said::Unknown) => continue,
                    Ok(Said::Report(_)) => Message::Ended,
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
            streams,
            connects,
            tick,
            last: Box::default(),
            missed_before: Missed::default(),
            service: None,
            is_over: false,
        })
    }

    /// Seconds since the run's start.
    pub fn elapsed(&self) -> f64 {
        self.last.elapsed
    }

    /// Waits for the next second.
    fn second(&mut self) -> Result<&Event, End> {
        match self.messages.recv_timeout(SILENCE_MAX) {
            Ok(Message::Second(event)) => {
                let before = std::mem::replace(&mut self.last, event);
                self.missed_before = before.ticks_missed;
                Ok(&self.last)
            }
            Ok(Message::Ended) => {
                self.is_over = true;
                Err(End::RunOver)
            }
            Ok(Message::Lost(failure)) => Err(failure.into()),
            Ok(Message::Signal) => Err(End::Interrupted),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(Failure::lost().into()),
        }
    }

    fn set(&self, set: &SetRequest) -> Result<(), Failure> {
        self.client.send::<Value>("PATCH", &format!("/v1/runs/{}", self.id), set).map(drop)
    }

    /// Puts it on the run's time line; that it could not be is no reason to stop.
    fn mark(&self, text: String) {
        let _: Result<Value, Failure> = self.client.send(
            "POST",
            &format!("/v1/runs/{}/marks", self.id),
            &MarkRequest { text, ..MarkRequest::default() },
        );
    }

    /// One step: so many streams, tried, or held for `hold` seconds. Its seconds, and what stands in the result.
    ///
    /// # Errors
    /// Why there is no next step.
    pub fn step(&mut self, streams: u64, hold: Option<usize>) -> Result<(Watch, Step), End> {
        let grown = streams.saturating_sub(self.streams);
        if streams != self.streams {
            self.set(&SetRequest { conns: Some(streams), ..SetRequest::default() })?;
            self.streams = streams;
        }
        self.mark(format!("{} {} streams", if hold.is_some() { "hold" } else { "try" }, thousands(streams)));
        let service_max = self.service.map_or(f64::INFINITY, |service| service + SERVICE_TICKS * self.tick);
        let mut watch = Watch::new(hold, service_max);
        if let Some(limit) = self.settle(streams, grown)? {
            let second = Second::of(&self.last, &self.missed_before);
            watch.take(second);
            return Ok(watch_step(watch, streams, self.elapsed(), Some(limit)));
        }
        let at = self.elapsed();
        let broke = loop {
            self.second()?;
            if let Some(decision) = watch.take(Second::of(&self.last, &self.missed_before)) {
                break decision;
            }
        };
        if self.service.is_none() {
            self.service = watch.median(|second| second.service.0);
        }
        Ok(watch_step(watch, streams, at, broke))
    }

    /// Waits until the streams are open, and one second more, which was not theirs alone. `Some`: they do not open.
    fn settle(&mut self, streams: u64, grown: u64) -> Result<Option<Limit>, End> {
        let until = self.elapsed() + 2.0 * grown as f64 / self.connects + OPENING_MORE;
        let failed_before = self.last.connect_failures.clone();
        let lost_before = self.last.disconnects.clone();
        loop {
            let event = self.second()?;
            let count = |state: &str| event.streams.get(state).copied().unwrap_or(0);
            let enough = (streams as f64 * OPEN_MIN) as u64;
            if (enough..=streams).contains(&count("open")) && count("connecting") == 0 {
                break;
            }
            let is_failing = count("failed") > streams - enough;
            if is_failing || event.elapsed > until {
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

    /// The cost of a message of `bytes` in us, with the streams that there are: the median of `seconds` seconds.
    ///
    /// # Errors
    /// As for [`Self::step`].
    pub fn cost_of(&mut self, bytes: u64, seconds: usize) -> Result<Option<f64>, End> {
        self.set(&SetRequest { bytes_per_tick: Some(Bytes(bytes)), ..SetRequest::default() })?;
        self.mark(format!("{} B a message", thousands(bytes)));
        for _ in 0..2 {
            self.second()?;
        }
        let mut costs = Vec::new();
        for _ in 0..seconds {
            self.second()?;
            costs.push(Second::of(&self.last, &self.missed_before).cost_us());
        }
        Ok(super::watch::median(costs.into_iter()))
    }

    /// Ends the run at once, and waits until it has ended.
    pub fn end(mut self) {
        if self.is_over {
            return;
        }
        let stop: Result<Value, Failure> =
            self.client.send("POST", &format!("/v1/runs/{}/stop", self.id), &StopRequest { now: true });
        while stop.is_ok() && !self.is_over {
            match self.messages.recv_timeout(END_TIME_MAX) {
                Ok(Message::Second(_) | Message::Signal) => {}
                Ok(Message::Ended | Message::Lost(_)) | Err(_) => self.is_over = true,
            }
        }
    }
}

type Classes = std::collections::BTreeMap<String, u64>;

fn watch_step(watch: Watch, streams: u64, at: f64, broke: Option<Limit>) -> (Watch, Step) {
    let step = watch.step(streams, at, broke);
    (watch, step)
}

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
    use super::*;

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
