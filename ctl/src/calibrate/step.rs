//! A calibration's steps: so many streams for some seconds, and what these say.

use scale_api::calibration::Step;
use scale_api::http::SetRequest;
use scale_api::units::{Bytes, thousands};

use super::watch::{Second, Watch};
use crate::seek::median;
use crate::seek::session::{End, Session};

/// A target's answers may take so many ticks longer than they did at first.
const SERVICE_TICKS: f64 = 1.0;

/// The steps of a run.
pub struct Steps<'a> {
    /// The run.
    pub session: Session<'a>,
    /// Streams that were last asked for.
    streams: u64,
    connects: f64,
    tick: f64,
    /// The median service time of the first step, in seconds.
    service: Option<f64>,
}

impl<'a> Steps<'a> {
    /// Of a run that has begun with `streams`, opens `connects` a second, and ticks each `tick` seconds.
    pub const fn new(session: Session<'a>, (streams, connects, tick): (u64, f64, f64)) -> Self {
        Self { session, streams, connects, tick, service: None }
    }

    fn last(&self) -> Second {
        let (event, before) = self.session.last();
        Second::of(event, before)
    }

    /// One step: so many streams, tried, or held for `hold` seconds. Its seconds, and what stands in the result.
    ///
    /// # Errors
    /// Why there is no next step.
    pub fn step(&mut self, streams: u64, hold: Option<usize>) -> Result<(Watch, Step), End> {
        let grown = streams.saturating_sub(self.streams);
        if streams != self.streams {
            self.session.set(&SetRequest { conns: Some(streams), ..SetRequest::default() })?;
            self.streams = streams;
        }
        self.session.mark(format!(
            "{} {} streams",
            if hold.is_some() { "hold" } else { "try" },
            thousands(streams)
        ));
        let service_max = self.service.map_or(f64::INFINITY, |service| service + SERVICE_TICKS * self.tick);
        let mut watch = Watch::new(hold, service_max);
        if let Some(limit) = self.session.settle(streams, grown as f64 / self.connects)? {
            watch.take(self.last());
            let step = watch.step(streams, self.session.elapsed(), Some(limit));
            return Ok((watch, step));
        }
        let at = self.session.elapsed();
        let broke = loop {
            self.session.second()?;
            if let Some(decision) = watch.take(self.last()) {
                break decision;
            }
        };
        if self.service.is_none() {
            self.service = watch.median(|second| second.service.0);
        }
        let step = watch.step(streams, at, broke);
        Ok((watch, step))
    }

    /// The cost of a message of `bytes` in us, with the streams that there are: the median of `seconds` seconds.
    ///
    /// # Errors
    /// As for [`Self::step`].
    pub fn cost_of(&mut self, bytes: u64, seconds: usize) -> Result<Option<f64>, End> {
        self.session.set(&SetRequest { bytes_per_tick: Some(Bytes(bytes)), ..SetRequest::default() })?;
        self.session.mark(format!("{} B a message", thousands(bytes)));
        for _ in 0..2 {
            self.session.second()?;
        }
        let mut costs = Vec::new();
        for _ in 0..seconds {
            self.session.second()?;
            costs.push(self.last().cost_us());
        }
        Ok(median(costs.into_iter()))
    }
}
