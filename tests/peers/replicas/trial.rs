//! A run through a proxy to four replicas, and what is compared when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use scale_api::disruption::Disruption;
use scale_api::report::{Event, Report};
use scale_ring::host;
use scale_tests::Daemon;
use scale_tests::hiccups::Hiccups;
use scale_tests::host::until;
use scale_tests::replicas::{Connection, Replica, Replicas};

use super::proxies::{Care, Kind, Proxy, Session};

pub const STREAMS: u32 = 200;
pub const USERS: u32 = 80;
pub const REPLICAS: usize = 4;
pub const MESSAGE_BYTES: u64 = 1000;
/// RFC 6455 §5.2: of a masked frame of as many bytes.
const FRAME_HEADER_BYTES: u64 = 8;
/// A client's Close with a code.
const CLOSE_BYTES: u64 = 8;
/// Times to come back are to agree so well, where the machine keeps its own.
const AGREEMENT_S: f64 = 0.010;
/// Who takes part in a return, each of whom a busy machine may hold up: client, proxy, kernel, replica.
const PARTIES: f64 = 4.0;
/// Nobody sends or answers so long before and after a quiet moment.
const QUIET_NS: std::ops::Range<u64> = 120_000_000..300_000_000;
/// What comes so long before or after a session's end may have been on its way then.
const LOUD_NS: u64 = 50_000_000;
const MS: u64 = 1_000_000;

/// How it is set up.
pub struct Setting {
    pub kind: Kind,
    pub care: Care,
    /// Further arguments of the sinks.
    pub sinks: &'static [&'static str],
    /// Further arguments of the run; of `--tick-interval` and `--tick-offset` it has none otherwise.
    pub run: &'static [&'static str],
}

/// One that goes.
pub struct Trial {
    pub replicas: Replicas,
    pub proxy: Proxy,
    daemon: Daemon,
    hiccups: Hiccups,
}

/// A stream that was dropped, as others saw it.
#[derive(Debug, Clone)]
pub struct Dropped {
    pub user: u32,
    /// When.
    pub at: u64,
    /// What its replica had echoed by then, in payload bytes.
    pub echoed: u64,
    /// What had come to it by then.
    pub received: u64,
}

/// Who was dropped, by the stream's number.
pub type AllDropped = BTreeMap<u32, Dropped>;

/// What a trial has come to.
pub struct Result {
    pub report: Report,
    pub replicas: Replicas,
    pub sessions: Vec<Session>,
    /// In seconds: how far times may be apart.
    pub apart: f64,
}

impl Trial {
    /// All streams are open and have sent; `None`: the proxy is not installed.
    pub fn begin(setting: &Setting) -> Option<Self> {
        let arguments = [&["--drain", "30s"], setting.sinks].concat();
        let replicas = Replicas::start(REPLICAS, "v1", &arguments);
        let proxy = Proxy::start(setting.kind, setting.care, &replicas)?;
        let row = |n: u32| format!("{n:04},{:03}\n", n % USERS);
        let rows = "stream,user\n".to_owned() + &(0..STREAMS).map(row).collect::<String>();
        let rows = replicas.folder().write("rows.csv", &rows);
        let target = format!("ws://127.0.0.1:{}/?stream={{stream}}&user={{user}}", proxy.port);
        let (conns, bytes) = (STREAMS.to_string(), format!("{MESSAGE_BYTES}B"));
        let mut start = vec!["start", "--detach", "--conns", &conns, "--target", &target, "--rows", &rows];
        start.extend(["--user-column", "user", "--replica-header", "X-Replica", "--bytes-per-tick", &bytes]);
        start.extend(["--ramp", "1s", "--warm-up", "0s", "--duration", "forever", "--drain", "60s"]);
        start.extend(["--reconnect", "backoff", "--breaker", "off", "--silence", "off", "--verify"]);
        start.extend(["--connect-timeout", "60s"]);
        start.extend(setting.run);
        let daemon = Daemon::start();
        let output = daemon.scalectl(&start);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let trial = Self { replicas, proxy, daemon, hiccups: Hiccups::watch() };
        trial.wait_for_all();
        until("the first messages", || (trial.event().now.messages_echoed > 0).then_some(()));
        Some(trial)
    }

    /// The run's last second.
    pub fn event(&self) -> Event {
        let output = self.daemon.scalectl(&["--json", "status"]);
        let status: scale_api::http::Status = serde_json::from_slice(&output.stdout).expect("JSON");
        status.run.expect("a run is going")
    }

    /// Waits until all streams are open, by both sides' account.
    pub fn wait_for_all(&self) {
        until("all streams", || {
            let open = self.event().streams.get("open").copied().unwrap_or(0);
            (open == u64::from(STREAMS)).then_some(())
        });
    }

    /// `scalectl mark`.
    pub fn mark(&self, text: &str) {
        let output = self.daemon.scalectl(&["mark", text]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until a tick's messages have come and the next ones are far, so that nothing is on its way.
    pub fn wait_for_quiet(&self) {
        until("a quiet moment", || {
            let since = host::monotonic_now().ns().saturating_sub(self.replicas.last_received());
            QUIET_NS.contains(&since).then_some(())
        });
    }

    /// Waits until every one of `dropped` is open somewhere again, and has been for two events.
    pub fn wait_for_return(&self, dropped: &[Connection], at: u64) {
        until("everybody's return", || {
            let returns = self.replicas.returns(at);
            dropped.iter().all(|connection| returns.contains_key(&connection.stream)).then_some(())
        });
        self.wait_for_all();
        let then = self.event().elapsed;
        until("another second", || (self.event().elapsed >= then + 2.0).then_some(()));
    }

    /// Ends the run in order.
    pub fn end(self) -> Result {
        let stopped = host::monotonic_now().ns();
        let output = self.daemon.scalectl(&["--json", "stop"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last =
            text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let report: Report = serde_json::from_str(last).expect("a report");
        let sessions = until("the proxy's last session", || {
            let sessions = self.proxy.sessions();
            let lasted = sessions.iter().filter(|session| session.ended >= stopped).count();
            (lasted >= STREAMS as usize).then_some(sessions)
        });
        let apart = PARTIES.mul_add(self.hiccups.end(), AGREEMENT_S);
        Result { report, replicas: self.replicas, sessions, apart }
    }
}

impl Result {
    /// The disruption that was marked so.
    pub fn disruption(&self, mark: &str) -> &Disruption {
        let found = self.report.disruptions.iter().find(|it| it.mark.as_deref() == Some(mark));
        found.unwrap_or_else(|| panic!("no {mark} among {:?}", self.report.disruptions))
    }

    /// What the run's own counters say was lost in all.
    pub fn lost_in_all(&self) -> u64 {
        let total = &self.report.total;
        assert_eq!((self.report.load.verify_failures, self.report.load.unexpected_bytes), (0, 0));
        assert_eq!(total.payload_bytes_sent - total.payload_bytes_received, total.payload_bytes_open);
        total.payload_bytes_open
    }

    /// Who, how many of whom, when they were back, and what sessions they had, as the others saw it.
    pub fn assert_agrees(&self, mark: &str, dropped: &AllDropped, classes: &[&str]) {
        let seen = self.disruption(mark);
        let count = dropped.len() as u64;
        assert!(count > 0, "{mark}: nobody was dropped");
        assert_eq!(seen.streams, u64::from(STREAMS), "{seen:?}");
        assert_eq!((seen.streams_dropped, seen.reconnected, seen.never_back), (count, count, 0), "{seen:?}");
        assert!((seen.share.expect("of some") - count as f64 / f64::from(STREAMS)).abs() < 1e-9);
        let users: BTreeSet<u32> = dropped.values().map(|dropped| dropped.user).collect();
        assert_eq!((seen.users, seen.users_affected), (Some(USERS.into()), Some(users.len() as u64)));
        assert_eq!(seen.by_class.values().sum::<u64>(), count);
        assert!(seen.by_class.keys().all(|class| classes.contains(&class.as_str())), "{:?}", seen.by_class);
        assert_eq!(seen.lost_unknown + seen.bytes_repeated, 0, "an echo's loss is known");
        self.assert_came_back(mark, dropped);
    }

    /// All of them had been on the replica of that name.
    pub fn assert_replica(&self, mark: &str, name: &str) {
        let seen = self.disruption(mark);
        let wanted = BTreeMap::from([(name.to_owned(), seen.streams_dropped)]);
        assert_eq!(seen.by_replica, wanted, "{mark}");
    }

    fn assert_came_back(&self, mark: &str, dropped: &AllDropped) {
        let recover = self.disruption(mark).recover.expect("they are back");
        let back = |(stream, dropped): (&u32, &Dropped)| {
            let returns = self.replicas.returns(dropped.at);
            (returns[stream] - dropped.at) as f64 / 1e9
        };
        let mut times: Vec<f64> = dropped.iter().map(back).collect();
        times.sort_by(f64::total_cmp);
        for (what, quantile, seen) in
            [("p50", 0.5, recover.p50), ("p99", 0.99, recover.p99), ("max", 1.0, recover.max)]
        {
            // Whichever way a quantile between two samples is taken.
            let rank = (quantile * times.len() as f64).ceil() as usize;
            let (low, high) = (times[rank.saturating_sub(2)], times[rank.min(times.len() - 1)]);
            // Histograms have three digits.
            let (low, high) = (low * 0.998 - self.apart, high * 1.002 + self.apart);
            assert!(
                (low..=high).contains(&seen),
                "{mark}: {what} is {seen}, and {low} to {high} by the replicas"
            );
        }
    }

    /// What was lost, to the byte: what the proxy had from the client, less what the replica had echoed.
    pub fn assert_lost(&self, mark: &str, dropped: &AllDropped) {
        let lost = |(stream, dropped): (&u32, &Dropped)| {
            let sent = self.sent(*stream, dropped.at);
            assert!(sent >= dropped.received, "{mark}: {stream} sent {sent}: {dropped:?}");
            sent - dropped.echoed
        };
        let lost: u64 = dropped.iter().map(lost).sum();
        assert_eq!(self.disruption(mark).bytes_lost, lost, "{mark}");
    }

    /// Nothing was on its way when the proxy ended these sessions: no tick's messages came anywhere around that.
    pub fn was_quiet(&self, dropped: &AllDropped) -> bool {
        let all = self.replicas.all.iter().flat_map(Replica::seen_ever);
        let came: BTreeSet<u64> = all.flat_map(|it| it.moved.into_iter().map(|(at, _)| at)).collect();
        let loud =
            |dropped: &Dropped| came.range(dropped.at - LOUD_NS..dropped.at + LOUD_NS).next().is_some();
        let loud = dropped.values().any(loud);
        if loud {
            let what = "a tick fell on the moment: what was lost is not compared to the byte";
            let _ = writeln!(std::io::stderr(), "{:?}: {what}", std::thread::current().name());
        }
        !loud
    }

    /// Payload that the proxy had of a stream's session that was over next behind `at`.
    fn sent(&self, stream: u32, at: u64) -> u64 {
        // Whichever of the two wrote it down first.
        let session = self.session(stream, at.saturating_sub(100 * MS));
        let frames = session.bytes - self.head_bytes();
        let (messages, rest) =
            (frames / (MESSAGE_BYTES + FRAME_HEADER_BYTES), frames % (MESSAGE_BYTES + FRAME_HEADER_BYTES));
        assert!(rest == 0 || rest == CLOSE_BYTES, "{rest} B are neither message nor Close: {session:?}");
        messages * MESSAGE_BYTES
    }

    /// The stream's session that was over first behind `from`.
    pub fn session(&self, stream: u32, from: u64) -> &Session {
        let of_stream =
            self.sessions.iter().filter(|session| session.stream == stream && session.ended >= from);
        of_stream.min_by_key(|session| session.ended).expect("the proxy has carried it")
    }

    /// Bytes of a request as the proxy counts them: of any that was closed in order at the end, what is not frames.
    fn head_bytes(&self) -> u64 {
        let newest = self.replicas.all.iter().flat_map(|replica| replica.seen_ever());
        let closed = newest.filter(|connection| connection.why.as_deref() == Some("close_1000"));
        let heads: BTreeSet<u64> = closed
            .map(|connection| {
                let sent = connection.bytes().received / MESSAGE_BYTES * (MESSAGE_BYTES + FRAME_HEADER_BYTES);
                let from = connection.closed.expect("it is closed").saturating_sub(100 * MS);
                self.session(connection.stream, from).bytes - sent - CLOSE_BYTES
            })
            .collect();
        assert_eq!(heads.len(), 1, "every request is as long: {heads:?}");
        heads.into_iter().next().expect("one")
    }
}

/// Those of `connections` that were open at `at`, and what is known of them, dropped when `when` says.
pub fn dropped(connections: &[Connection], at: u64, when: impl Fn(&Connection) -> u64) -> AllDropped {
    let open = connections.iter().filter(|connection| connection.is_open_at(at));
    open.map(|connection| {
        let at = when(connection);
        let (echoed, received) = (connection.bytes_at(at).echoed, connection.bytes_at(at).received);
        (connection.stream, Dropped { user: connection.user, at, echoed, received })
    })
    .collect()
}
