//! What Prometheus reads. Each second adds what it measured to a run's distributions; a scrape
//! writes the last second's figures in the format that it asks for, and a second scrape of the
//! same second gets the same bytes. No scrape touches a worker.
//!
//! Everything is written here, from one table of names: merged histograms fit into no exporter
//! (docs/decisions/metrics-by-hand.md).

mod accept;
mod buckets;
mod encode;
mod figures;
mod grown;
mod protobuf;
mod table;
#[cfg(test)]
mod tests;
mod text;

use scale_api::report::Outcome;

pub use accept::Format;
pub use table::{Kind, Metric, TABLE};

use crate::run::supervisor::Supervisor;
use encode::Encode;
use figures::{OUTCOMES, Seen};
use grown::Grown;
use protobuf::Protobuf;
use text::Text;

/// The metrics of the daemon and of its run, or of the last one.
#[derive(Debug, Default)]
pub struct Metrics {
    grown: Grown,
    ended: [u64; OUTCOMES.len()],
    /// Whether the state folder takes what it is given, and how often it did not.
    state: (bool, u64),
    /// The run's families as of the last second, by format, once a scrape has asked for them.
    text: Option<Vec<u8>>,
    protobuf: Option<Vec<u8>>,
}

impl Metrics {
    /// A run begins: its figures start at zero.
    pub fn begin(&mut self) {
        (self.grown, self.text, self.protobuf) = (Grown::default(), None, None);
    }

    /// A second of the run is over.
    pub fn second(&mut self, run: &Supervisor) {
        self.grown.take(run.second(), run.second_by_group());
        self.grown.enter(&run.stages(), run.started_at() + run.event().elapsed);
        (self.text, self.protobuf) = (None, None);
        // A text of thousands of workspaces takes longer than a scrape may: it is written ahead.
        if run.tells_workspaces_apart() {
            self.write(Format::Text, Some(&Seen::of(run)));
        }
    }

    /// The run is over: what it was like stays until the next one begins.
    pub fn end(&mut self, run: &Supervisor) {
        (self.text, self.protobuf) = (None, None);
        let seen = Seen::of(run);
        self.write(Format::Text, Some(&seen));
        self.write(Format::Protobuf, Some(&seen));
    }

    /// Counts a run, flow or scenario that has ended.
    pub fn count(&mut self, outcome: Outcome) {
        for ((known, _), count) in OUTCOMES.iter().zip(&mut self.ended) {
            *count += u64::from(*known == outcome);
        }
    }

    /// How the state folder is; `errors` since the daemon started.
    pub const fn note_state(&mut self, is_writable: bool, errors: u64) {
        self.state = (is_writable, errors);
    }

    /// A scrape; `run`: the one that is going.
    pub fn scrape(&mut self, format: Format, run: Option<&Supervisor>) -> Vec<u8> {
        let is_written = match format {
            Format::Text => self.text.is_some(),
            Format::Protobuf => self.protobuf.is_some(),
        };
        if !is_written {
            self.write(format, run.map(Seen::of).as_ref());
        }
        let (own, of_run) = match format {
            Format::Text => {
                (written(Text::default(), |out| figures::daemon(out, &self.ended, self.state)), &self.text)
            }
            Format::Protobuf => (
                written(Protobuf::default(), |out| figures::daemon(out, &self.ended, self.state)),
                &self.protobuf,
            ),
        };
        [own.as_slice(), of_run.as_deref().unwrap_or_default()].concat()
    }

    /// Keeps the run's families.
    fn write(&mut self, format: Format, run: Option<&Seen<'_>>) {
        let grown = &self.grown;
        match format {
            Format::Text => self.text = Some(written(Text::default(), |out| figures::run(out, run, grown))),
            Format::Protobuf => {
                self.protobuf = Some(written(Protobuf::default(), |out| figures::run(out, run, grown)));
            }
        }
    }
}

fn written<E: Encode>(mut out: E, write: impl FnOnce(&mut E)) -> Vec<u8> {
    write(&mut out);
    out.finish()
}
