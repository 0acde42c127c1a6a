//! What the floor and the peers share: the same arguments, the same grid as the daemon's, the
//! same figures. How the bytes are moved is each program's own matter.

use std::net::SocketAddr;

use hdrhistogram::Histogram;
use scale_api::units::Span;
use scale_ring::{Time, host};
use scaled::load::TickOffset;

/// Sends between two readings of the clock, as in the daemon.
pub const SEND_BATCH: usize = 32;
/// Sends that come due within this go together, as in the daemon.
pub const QUANTUM_NS: u64 = 250_000;
/// The longest lateness that is told apart.
const LATENESS_MAX_US: u64 = 3_600_000_000;
/// Time between the last connect and the first send.
const LEAD_NS: u64 = 100_000_000;

/// Arguments of the floor and of every peer.
#[derive(Debug, Clone, clap::Parser)]
pub struct Arguments {
    /// A `scale-sink --protocol tcp` that echoes
    #[arg(long)]
    pub target: SocketAddr,
    /// Connections, each with one stream
    #[arg(long, default_value_t = 5000)]
    pub conns: u32,
    /// Bytes of each message
    #[arg(long, default_value_t = 4096)]
    pub bytes: u32,
    /// Time between two messages of a stream
    #[arg(long, default_value = "100ms")]
    pub tick_interval: Span,
    /// Load that does not count
    #[arg(long, default_value = "1s")]
    pub warm_up: Span,
    /// Load that counts
    #[arg(long, default_value = "5s")]
    pub duration: Span,
    /// The core to run on
    #[arg(long, default_value_t = 0)]
    pub core: usize,
    /// SCHED_FIFO, as `scaled --realtime fifo`
    #[arg(long)]
    pub realtime: bool,
}

impl Arguments {
    /// Pins this thread and takes the priority that was asked for.
    ///
    /// # Errors
    /// Where the host does not allow it.
    pub fn settle(&self) -> std::io::Result<()> {
        host::pin_current_thread(self.core);
        if self.realtime { host::set_realtime_fifo(10) } else { Ok(()) }
    }

    /// Bytes of a message.
    pub const fn message_bytes(&self) -> usize {
        self.bytes as usize
    }
}

/// Which stream is due when: stream i at start + offset(i) + k × tick, in order of time.
#[derive(Debug)]
pub struct Schedule {
    by_offset: Vec<(u64, u32)>,
    tick_ns: u64,
    round: Time,
    next: usize,
}

impl Schedule {
    /// A grid that begins shortly after `now`.
    pub fn new(arguments: &Arguments, now: Time) -> Self {
        let tick_ns = arguments.tick_interval.ns();
        let mut by_offset: Vec<(u64, u32)> = (0..arguments.conns)
            .map(|stream| (TickOffset::Spread.of(u64::from(stream), tick_ns, 0), stream))
            .collect();
        by_offset.sort_unstable();
        Self { by_offset, tick_ns, round: now.plus_ns(LEAD_NS), next: 0 }
    }

    /// The grid's beginning.
    pub const fn start(&self) -> Time {
        self.round
    }

    /// When the next stream is due.
    pub fn next_due(&self) -> Time {
        self.round.plus_ns(self.by_offset[self.next].0)
    }

    /// The next stream that is due at `now`, and since when.
    pub fn take(&mut self, now: Time) -> Option<(u32, Time)> {
        let due = self.next_due();
        if now < due {
            return None;
        }
        let stream = self.by_offset[self.next].1;
        self.next += 1;
        if self.next == self.by_offset.len() {
            (self.next, self.round) = (0, self.round.plus_ns(self.tick_ns));
        }
        Some((stream, due))
    }
}

/// CPU of this process so far.
#[derive(Debug, Clone, Copy)]
struct Cpu {
    /// Of the whole, exactly.
    ns: u64,
    /// Seconds in user space, told apart by the kernel's ticks.
    user: f64,
}

impl Cpu {
    fn now() -> Self {
        Self { ns: host::process_cpu_ns(), user: host::process_cpu_seconds().0 }
    }
}

/// What is measured between the warm-up and the end.
#[derive(Debug)]
pub struct Figures {
    from: Time,
    to: Time,
    cpu: Option<(Cpu, Cpu)>,
    due: u64,
    sent: u64,
    received_bytes: u64,
    lateness: Histogram<u64>,
}

impl Figures {
    /// Nothing yet; the load begins at `start`.
    pub fn new(arguments: &Arguments, start: Time) -> Self {
        let from = start.plus_ns(arguments.warm_up.ns());
        Self {
            from,
            to: from.plus_ns(arguments.duration.ns()),
            cpu: None,
            due: 0,
            sent: 0,
            received_bytes: 0,
            lateness: Histogram::new_with_bounds(1, LATENESS_MAX_US, 3).expect("constant bounds are valid"),
        }
    }

    /// The end of what counts.
    pub const fn end(&self) -> Time {
        self.to
    }

    /// Looks at the CPU clock when its time has come; false when the end has come.
    pub fn go_on(&mut self, now: Time) -> bool {
        if self.cpu.is_none() && now >= self.from {
            let cpu = Cpu::now();
            self.cpu = Some((cpu, cpu));
        }
        if now >= self.to {
            if let Some((_, last)) = &mut self.cpu {
                *last = Cpu::now();
            }
            return false;
        }
        true
    }

    /// A stream was due at `due`; it was sent at `stamp`, or missed.
    #[inline]
    pub fn tick(&mut self, due: Time, sent: Option<Time>) {
        if due < self.from || due >= self.to {
            return;
        }
        self.due += 1;
        if let Some(stamp) = sent {
            self.sent += 1;
            self.lateness.saturating_record((stamp.ns_since(due) / 1000).max(1));
        }
    }

    /// So many bytes came back.
    #[inline]
    pub fn received(&mut self, bytes: usize) {
        self.received_bytes += bytes as u64;
    }

    /// One JSON object; times in seconds.
    pub fn to_json(&self) -> serde_json::Value {
        let cpu = self.cpu.map_or(0, |(from, to)| to.ns - from.ns) as f64 / 1e3;
        let user = self.cpu.map_or(0.0, |(from, to)| to.user - from.user) * 1e6;
        let seconds = |quantile| self.lateness.value_at_quantile(quantile) as f64 / 1e6;
        serde_json::json!({
            "messages": self.sent,
            "cpu_us_per_message": cpu / self.sent.max(1) as f64,
            "cpu_user_us_per_message": user / self.sent.max(1) as f64,
            "lateness_p50": seconds(0.5),
            "lateness_p99": seconds(0.99),
            "delivered_ratio": self.sent as f64 / self.due.max(1) as f64,
            "received_bytes": self.received_bytes,
            "rss_bytes": host::rss_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_program_that_falls_behind_says_how_far() {
        let arguments = Arguments::parse_from(["floor", "--target", "127.0.0.1:1", "--warm-up", "0s"]);
        let mut figures = Figures::new(&arguments, Time::ZERO);
        assert!(figures.go_on(Time::ZERO));
        figures.tick(Time::ZERO, Some(Time::ZERO.plus_ns(300_000_000)));
        let lateness = figures.to_json()["lateness_p50"].as_f64().expect("a number");
        assert!((0.2999..0.3001).contains(&lateness), "{lateness} s");
    }
}
