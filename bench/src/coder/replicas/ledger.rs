//! Which websockets are open where, which a break has struck, and how those came back.
//!
//! A websocket is known again by its session (`reconnect`) or, where it has none, by its path; of several on one path
//! the first that was struck is the first that is back. A terminal is back with the first that is typed, as nobody has a
//! terminal before; others with their 101.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use scale_ring::Time;
use serde::Serialize;

use super::What;

/// What a websocket is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// A terminal.
    Terminal,
    /// A workspace app.
    App,
    /// A build's log: not counted among the websockets of a break, as it is no stream of a load.
    Log,
    /// Another.
    Other,
}

/// Whose websocket it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// What it is there for.
    pub sort: Sort,
    /// The owner of its workspace; empty where it has none.
    pub user: String,
    /// By what it is known again.
    pub id: String,
}

/// A break as it is told; times are Unix times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Break {
    /// Which replica.
    pub replica: u16,
    /// What was done to it.
    pub what: What,
    /// When.
    pub at: f64,
    /// When it was up again.
    pub up_at: Option<f64>,
    /// What it named itself by then.
    pub version_before: String,
    /// What it names itself since it is up again.
    pub version_after: Option<String>,
    /// Websockets that were open in the whole deployment.
    pub websockets: u64,
    /// Their users.
    pub users: u64,
    /// Of the websockets, those of this replica.
    pub dropped: u64,
    /// Users with at least one of these.
    pub users_dropped: u64,
    /// Of these, by what they are there for; build logs, too.
    pub by_kind: BTreeMap<Sort, u64>,
    /// Of these, by user.
    pub by_user: BTreeMap<String, u64>,
    /// Open again, at any replica.
    pub back: u64,
    /// Went on, as their replica was thawed before they were given up.
    pub resumed: u64,
    /// Seconds until they were back: the median of those that are, by nearest rank.
    pub back_p50: Option<f64>,
    /// Likewise.
    pub back_p99: Option<f64>,
    /// The longest.
    pub back_max: Option<f64>,
    /// One by one.
    pub sockets: Vec<Socket>,
}

/// A websocket that was struck.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Socket {
    /// Its session or path.
    pub id: String,
    /// Whose.
    pub user: String,
    /// When its client could know: its RST or Close; of a silent replica's, when that fell silent.
    pub at: f64,
    /// Seconds from there until it was back.
    pub back_after: Option<f64>,
    /// Where it came back to.
    pub back_replica: Option<u16>,
    /// Payload that has come by now, over all its connections: what was typed into the session, or sent to the path.
    pub arrived_bytes: u64,
}

struct Open {
    replica: u16,
    /// Of the replica: how often it had been started by then.
    incarnation: u32,
    whose: Whose,
    /// A terminal that comes back in this one's place, until something is typed.
    instead_of: Option<u64>,
}

struct Kept {
    replica: u16,
    what: What,
    at: Time,
    up_at: Option<Time>,
    version_before: String,
    version_after: Option<String>,
    websockets: u64,
    users: u64,
    rows: Vec<Row>,
}

struct Row {
    whose: Whose,
    at: Time,
    back: Option<(Time, u16)>,
    resumed: bool,
}

/// All of it. A socket's number is never used again.
#[derive(Default)]
pub struct Ledger {
    open: BTreeMap<u64, Open>,
    /// By replica, where it was started again: how often. What a former incarnation had open is nobody's any more.
    incarnations: HashMap<u16, u32>,
    opened: u64,
    arrived: HashMap<String, u64>,
    breaks: Vec<Kept>,
    /// Rows of sockets that were struck and are not back, by socket: break and row.
    rows: HashMap<u64, Vec<(usize, usize)>>,
    /// Those sockets by what they are known again by, oldest first.
    away: HashMap<String, VecDeque<u64>>,
    /// Struck and still open here, though their client is back elsewhere.
    replaced: BTreeSet<u64>,
}

impl Ledger {
    /// Breaks that are kept.
    pub const BREAKS_MAX: usize = 1000;

    pub(super) const fn is_full(&self) -> bool {
        self.breaks.len() >= Self::BREAKS_MAX
    }

    /// A websocket has opened on `replica`; its number.
    pub fn opened(&mut self, now: Time, replica: u16, whose: Whose) -> u64 {
        self.opened += 1;
        let mut instead_of = self.away.get_mut(&whose.id).and_then(VecDeque::pop_front);
        if let Some(lost) = instead_of
            && whose.sort != Sort::Terminal
        {
            self.back(now, lost, replica);
            instead_of = None;
        }
        let incarnation = self.incarnation(replica);
        self.open.insert(self.opened, Open { replica, incarnation, whose, instead_of });
        self.opened
    }

    fn incarnation(&self, replica: u16) -> u32 {
        self.incarnations.get(&replica).copied().unwrap_or(0)
    }

    /// The replica begins anew.
    pub(super) fn started(&mut self, replica: u16) {
        *self.incarnations.entry(replica).or_default() += 1;
    }

    /// Payload has come over it.
    pub fn arrived(&mut self, now: Time, socket: u64, bytes: u64) {
        let Some(open) = self.open.get_mut(&socket) else { return };
        if let Some(sum) = self.arrived.get_mut(&open.whose.id) {
            *sum += bytes;
        } else {
            self.arrived.insert(open.whose.id.clone(), bytes);
        }
        let replica = open.replica;
        if let Some(lost) = open.instead_of.take() {
            self.back(now, lost, replica);
        }
    }

    /// A Close goes to its client, who knows by that.
    pub fn closing(&mut self, now: Time, socket: u64) {
        self.struck_at(now, socket, What::Drain);
    }

    fn struck_at(&mut self, now: Time, socket: u64, by: What) {
        for &(number, row) in self.rows.get(&socket).into_iter().flatten() {
            let kept = &mut self.breaks[number];
            if kept.what == by {
                kept.rows[row].at = now;
            }
        }
    }

    /// It is gone.
    pub fn closed(&mut self, now: Time, socket: u64) {
        let Some(open) = self.open.remove(&socket) else { return };
        self.replaced.remove(&socket);
        if let Some(lost) = open.instead_of {
            self.away.entry(open.whose.id).or_default().push_front(lost); // it was not there yet
        }
        self.struck_at(now, socket, What::Kill);
    }

    fn back(&mut self, now: Time, lost: u64, replica: u16) {
        for (number, row) in self.rows.remove(&lost).into_iter().flatten() {
            self.breaks[number].rows[row].back = Some((now, replica));
        }
        if self.open.contains_key(&lost) {
            self.replaced.insert(lost);
        }
    }

    /// Open websockets of a replica that clients still care for.
    pub(super) fn open_on(&self, replica: u16) -> u64 {
        self.streams().filter(|(_, open)| open.replica == replica).count() as u64
    }

    /// What clients of the deployment have open, other than build logs.
    fn streams(&self) -> impl Iterator<Item = (&u64, &Open)> {
        let counts = |(socket, open): &(&u64, &Open)| {
            open.whose.sort != Sort::Log
                && !self.replaced.contains(socket)
                && open.incarnation == self.incarnation(open.replica)
        };
        self.open.iter().filter(counts)
    }

    /// Something happens to all that `replica` has open; the break's number.
    pub(super) fn strike(&mut self, now: Time, replica: u16, what: What, version: String) -> usize {
        let number = self.breaks.len();
        let users: BTreeSet<&str> = self.streams().map(|(_, open)| open.whose.user.as_str()).collect();
        let users = users.iter().filter(|user| !user.is_empty()).count() as u64;
        let websockets = self.streams().count() as u64;
        let mut rows = Vec::new();
        let incarnation = self.incarnation(replica);
        for (&socket, open) in &self.open {
            let is_its = (open.replica, open.incarnation) == (replica, incarnation);
            if !is_its || self.replaced.contains(&socket) {
                continue;
            }
            let struck = self.rows.entry(socket).or_default();
            if struck.is_empty() {
                self.away.entry(open.whose.id.clone()).or_default().push_back(socket);
            }
            struck.push((number, rows.len()));
            rows.push(Row { whose: open.whose.clone(), at: now, back: None, resumed: false });
        }
        self.breaks.push(Kept {
            replica,
            what,
            at: now,
            up_at: None,
            version_before: version,
            version_after: None,
            websockets,
            users,
            rows,
        });
        number
    }

    /// A frozen replica goes on, and with it those who have waited.
    pub(super) fn thawed(&mut self, replica: u16) {
        let its = (replica, self.incarnation(replica));
        let Self { open, rows, away, breaks, .. } = self;
        for (socket, open) in open.iter().filter(|(_, open)| (open.replica, open.incarnation) == its) {
            for (number, row) in rows.remove(socket).into_iter().flatten() {
                breaks[number].rows[row].resumed = true;
            }
            if let Some(waiting) = away.get_mut(&open.whose.id) {
                waiting.retain(|other| other != socket);
            }
        }
    }

    /// The replica is up again.
    pub(super) fn up(&mut self, now: Time, replica: u16, version: &str) {
        for kept in self.breaks.iter_mut().filter(|kept| kept.replica == replica && kept.up_at.is_none()) {
            (kept.up_at, kept.version_after) = (Some(now), Some(version.to_owned()));
        }
    }

    pub(super) fn breaks(&self, wall_at_zero_ns: u64) -> Vec<Break> {
        self.breaks.iter().map(|kept| self.told(kept, wall_at_zero_ns)).collect()
    }

    fn told(&self, kept: &Kept, wall_at_zero_ns: u64) -> Break {
        let unix = |at: Time| wall_at_zero_ns.saturating_add(at.ns()) as f64 / 1e9;
        let (mut by_kind, mut by_user) = (BTreeMap::new(), BTreeMap::new());
        for Row { whose, .. } in &kept.rows {
            *by_kind.entry(whose.sort).or_default() += 1;
            if whose.sort != Sort::Log && !whose.user.is_empty() {
                *by_user.entry(whose.user.clone()).or_default() += 1;
            }
        }
        let streams = || kept.rows.iter().filter(|row| row.whose.sort != Sort::Log);
        let after = |row: &Row| row.back.map(|(back, _)| back.ns_since(row.at) as f64 / 1e9);
        let mut times: Vec<f64> = streams().filter_map(after).collect();
        times.sort_by(f64::total_cmp);
        let rank = |share: f64| times.get(((times.len() as f64 * share).ceil() as usize).max(1) - 1).copied();
        let socket = |row: &Row| Socket {
            id: row.whose.id.clone(),
            user: row.whose.user.clone(),
            at: unix(row.at),
            back_after: after(row),
            back_replica: row.back.map(|(_, replica)| replica),
            arrived_bytes: self.arrived.get(&row.whose.id).copied().unwrap_or(0),
        };
        Break {
            replica: kept.replica,
            what: kept.what,
            at: unix(kept.at),
            up_at: kept.up_at.map(unix),
            version_before: kept.version_before.clone(),
            version_after: kept.version_after.clone(),
            websockets: kept.websockets,
            users: kept.users,
            dropped: streams().count() as u64,
            users_dropped: by_user.len() as u64,
            by_kind,
            by_user,
            back: times.len() as u64,
            resumed: streams().filter(|row| row.resumed).count() as u64,
            back_p50: rank(0.5),
            back_p99: rank(0.99),
            back_max: rank(1.0),
            sockets: streams().map(socket).collect(),
        }
    }

    pub(super) fn one(&self, number: usize, wall_at_zero_ns: u64) -> Break {
        self.told(&self.breaks[number], wall_at_zero_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_ns(ms * 1_000_000)
    }

    fn whose(sort: Sort, user: &str, id: &str) -> Whose {
        Whose { sort, user: user.to_owned(), id: id.to_owned() }
    }

    fn terminal(ledger: &mut Ledger, now: u64, replica: u16, user: &str, id: &str) -> u64 {
        ledger.opened(at(now), replica, whose(Sort::Terminal, user, id))
    }

    #[test]
    fn a_terminal_is_back_when_something_is_typed_and_its_bytes_are_its_sessions() {
        let mut ledger = Ledger::default();
        let first = terminal(&mut ledger, 0, 1, "ann", "s1");
        let other = terminal(&mut ledger, 0, 0, "bob", "s2");
        ledger.arrived(at(1), first, 100);
        ledger.arrived(at(1), other, 7);
        ledger.strike(at(1000), 1, What::Kill, "v1".into());
        ledger.closed(at(1003), first);
        let again = terminal(&mut ledger, 1500, 0, "ann", "s1");
        assert_eq!(ledger.one(0, 0).back, 0);
        ledger.arrived(at(2003), again, 20);
        let told = ledger.one(0, 0);
        assert_eq!((told.websockets, told.users, told.dropped, told.users_dropped), (2, 2, 1, 1));
        assert_eq!((told.back, told.back_p50, told.back_max), (1, Some(1.0), Some(1.0)));
        let socket = &told.sockets[0];
        assert_eq!((socket.arrived_bytes, socket.back_replica, socket.at), (120, Some(0), 1.003));
    }

    #[test]
    fn one_that_goes_before_it_was_there_is_still_away() {
        let mut ledger = Ledger::default();
        let first = terminal(&mut ledger, 0, 1, "ann", "s1");
        ledger.strike(at(1), 1, What::Drain, String::new());
        ledger.closing(at(2), first);
        ledger.closed(at(9), first); // the answer to the Close came late, and takes nothing from the time away
        let second = terminal(&mut ledger, 10, 0, "ann", "s1");
        ledger.closed(at(11), second);
        assert_eq!((ledger.one(0, 0).dropped, ledger.one(0, 0).back), (1, 0));
        let third = terminal(&mut ledger, 12, 0, "ann", "s1");
        ledger.arrived(at(13), third, 1);
        assert_eq!((ledger.one(0, 0).back, ledger.one(0, 0).back_max), (1, Some(0.011)));
    }

    #[test]
    fn of_several_on_a_path_each_comes_back_once_and_logs_do_not_count() {
        let mut ledger = Ledger::default();
        let open = |ledger: &mut Ledger, now, replica, sort| {
            ledger.opened(at(now), replica, whose(sort, "ann", "/x"))
        };
        let all: Vec<u64> = (0..3).map(|_| open(&mut ledger, 0, 2, Sort::App)).collect();
        ledger.opened(at(0), 2, whose(Sort::Log, "", "/log"));
        ledger.strike(at(10), 2, What::Kill, String::new());
        all.iter().for_each(|&socket| ledger.closed(at(10), socket));
        for _ in 0..2 {
            open(&mut ledger, 20, 0, Sort::App);
        }
        let told = ledger.one(0, 0);
        assert_eq!((told.websockets, told.dropped, told.back, told.by_user["ann"]), (3, 3, 2, 3));
        assert_eq!((told.by_kind[&Sort::App], told.by_kind[&Sort::Log]), (3, 1));
        open(&mut ledger, 30, 0, Sort::App);
        open(&mut ledger, 40, 0, Sort::App); // one that nobody has lost
        let told = ledger.one(0, 0);
        assert_eq!((told.back, told.back_p50, told.back_max), (3, Some(0.01), Some(0.02)));
    }

    #[test]
    fn of_a_frozen_replica_some_go_elsewhere_and_some_go_on() {
        let mut ledger = Ledger::default();
        terminal(&mut ledger, 0, 3, "ann", "s1");
        terminal(&mut ledger, 0, 3, "bob", "s2");
        ledger.strike(at(100), 3, What::Freeze, String::new());
        let elsewhere = terminal(&mut ledger, 200, 0, "ann", "s1");
        ledger.arrived(at(300), elsewhere, 1);
        assert_eq!((ledger.open_on(3), ledger.open_on(0)), (1, 1), "nobody cares for the frozen one");
        ledger.thawed(3);
        let told = ledger.one(0, 0);
        assert_eq!((told.dropped, told.back, told.resumed, told.back_max), (2, 1, 1, Some(0.2)));
        ledger.strike(at(400), 3, What::Kill, String::new());
        assert_eq!(ledger.one(1, 0).dropped, 1, "s2 alone is there");
    }

    #[test]
    fn what_a_former_incarnation_had_open_is_neither_struck_nor_thawed_again() {
        let mut ledger = Ledger::default();
        terminal(&mut ledger, 0, 1, "ann", "s1");
        ledger.strike(at(100), 1, What::Cut, String::new());
        ledger.started(1);
        terminal(&mut ledger, 200, 1, "bob", "s2");
        ledger.strike(at(300), 1, What::Freeze, String::new());
        ledger.thawed(1);
        let told = ledger.one(1, 0);
        assert_eq!((told.websockets, told.dropped, told.resumed), (1, 1, 1), "s2 alone is there");
        assert_eq!((ledger.one(0, 0).dropped, ledger.one(0, 0).resumed), (1, 0), "s1 is away for good");
    }
}
