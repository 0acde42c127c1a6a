//! The servers behind the one address: who gets a connection, and what goes wrong with them on order.
//!
//! A replica's life is a chain of incarnations: each has a [`Fate`] that its connections watch, and a restart begins a
//! new one. Sessions live on agents and outlive all of them. What an order has struck stands in the [`ledger`].
//!
//! Elsewhere: orders as requests ([`control`]), what a fate does to a connection (`serve`).

use scale_api::units::Span;
use scale_ring::Time;
use scaled::load::random::Random;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

mod control;
pub mod ledger;

use ledger::Ledger;

/// Who gets the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other.
    Turn,
    /// Any, by the seed.
    Random,
}

/// What becomes of a replica's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// They are served.
    Alive,
    /// Nothing is read, written or closed until it is otherwise.
    Frozen,
    /// As frozen, and for good.
    Cut,
    /// Websockets are closed with 1001, the others once they have been answered.
    Draining,
    /// RST.
    Killed,
}

/// Where a replica stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It serves, and gets connections.
    Up,
    /// It is there and does nothing.
    Frozen,
    /// Nobody hears of it any more.
    Cut,
    /// It was killed or drained.
    Down,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Frozen => "frozen",
            Self::Cut => "cut",
            Self::Down => "down",
        }
    }
}

/// What happens to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Its connections break: RST.
    Kill,
    /// Its websockets are closed with 1001.
    Drain,
    /// It stops, and can go on.
    Freeze,
    /// It stops for good, and nobody is told.
    Cut,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Drain => "drained",
            Self::Freeze => "frozen",
            Self::Cut => "cut off",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    Strike(What),
    Thaw,
    /// With another version, where one is given.
    Start(Option<String>),
}

/// A replica as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its number, as in `X-Stand-In-Replica`.
    pub replica: u16,
    /// Where it stands.
    pub state: State,
    /// What it names itself in `X-Coder-Build-Version`.
    pub version: String,
    /// Websockets that it has open, build logs apart.
    pub websockets: u64,
}

struct Replica {
    state: State,
    version: String,
    fate: watch::Sender<Fate>,
}

/// All of them.
pub struct Replicas {
    list: Vec<Replica>,
    balance: Balance,
    turn: u64,
    random: Random,
    /// What is yet to happen, in order.
    due: Vec<(Time, u16, Order)>,
    ledger: Ledger,
}

impl Replicas {
    /// Orders that wait for their time.
    const DUE_MAX: usize = 1000;

    pub(super) fn new(count: u16, balance: Balance, version: &str, seed: u64) -> Self {
        let replica = |_| Replica {
            state: State::Up,
            version: version.to_owned(),
            fate: watch::Sender::new(Fate::Alive),
        };
        Self {
            list: (0..count).map(replica).collect(),
            balance,
            turn: 0,
            random: Random::new(seed),
            due: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    /// Which replica gets the next connection, of those that are up; `None`: none is.
    pub(super) fn place(&mut self) -> Option<(u16, watch::Receiver<Fate>)> {
        let up: Vec<usize> =
            (0..self.list.len()).filter(|&replica| self.list[replica].state == State::Up).collect();
        let chosen = match self.balance {
            _ if up.is_empty() => return None,
            Balance::Turn => {
                // The next that is up, so that each keeps its turn while another is away.
                let from = (self.turn % self.list.len() as u64) as usize;
                let next = up.iter().find(|&&replica| replica >= from).or(up.first());
                let chosen = *next.expect("one is up");
                self.turn = chosen as u64 + 1;
                chosen
            }
            Balance::Random => up[self.random.below(up.len() as u64) as usize],
        };
        Some((chosen as u16, self.list[chosen].fate.subscribe()))
    }

    /// What a replica names itself.
    pub(super) fn version(&self, replica: u16) -> &str {
        &self.list[usize::from(replica)].version
    }

    /// What websockets there are, and which were struck.
    pub const fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |(replica, one): (u16, &Replica)| Row {
            replica,
            state: one.state,
            version: one.version.clone(),
            websockets: self.ledger.open_on(replica),
        };
        (0..).zip(&self.list).map(row).collect()
    }

    pub(super) fn breaks(&self, wall_at_zero_ns: u64) -> Vec<ledger::Break> {
        self.ledger.breaks(wall_at_zero_ns)
    }

    /// Does what is due by `now`.
    pub(super) fn poll(&mut self, now: Time) {
        while let Some(&(at, ..)) = self.due.first()
            && at <= now
        {
            let (_, replica, order) = self.due.remove(0);
            // Somebody may have done it by hand meanwhile.
            let _ = self.act(now, replica, order);
        }
    }

    fn plan(&mut self, at: Time, replica: u16, order: Order) {
        let behind = self.due.partition_point(|(due, ..)| *due <= at);
        self.due.insert(behind, (at, replica, order));
    }

    /// Carries an order out; the number of the break, where it is one.
    fn act(&mut self, now: Time, number: u16, order: Order) -> Result<Option<usize>, String> {
        let replica = &mut self.list[usize::from(number)];
        let before = replica.state;
        let (state, fate) = match (before, &order) {
            (State::Up | State::Frozen | State::Cut, Order::Strike(What::Kill)) => {
                (State::Down, Fate::Killed)
            }
            (State::Up, Order::Strike(What::Drain)) => (State::Down, Fate::Draining),
            (State::Up, Order::Strike(What::Freeze)) => (State::Frozen, Fate::Frozen),
            (State::Up | State::Frozen, Order::Strike(What::Cut)) => (State::Cut, Fate::Cut),
            (State::Frozen, Order::Thaw) => (State::Up, Fate::Alive),
            (State::Down | State::Cut, Order::Start(_)) => (State::Up, Fate::Alive),
            (_, order) => return Err(refusal(number, before, order)),
        };
        if let Order::Strike(_) = order
            && self.ledger.is_full()
        {
            return Err(format!(
                "{} breaks are kept and no more; start another stand-in",
                Ledger::BREAKS_MAX
            ));
        }
        replica.state = state;
        match order {
            Order::Strike(what) => {
                replica.fate.send_replace(fate);
                let version = replica.version.clone();
                return Ok(Some(self.ledger.strike(now, number, what, version)));
            }
            Order::Thaw => {
                replica.fate.send_replace(fate);
                self.ledger.thawed(number);
            }
            Order::Start(version) => {
                replica.fate = watch::Sender::new(fate); // another incarnation: nobody watches it yet
                replica.version = version.unwrap_or_else(|| replica.version.clone());
                self.ledger.started(number);
            }
        }
        self.ledger.up(now, number, &replica.version);
        Ok(None)
    }

    /// One after the other is `what` and back `away` later, each `every`. An order for each of them, which takes back what
    /// was planned.
    fn roll(&mut self, now: Time, what: What, away: Span, every: Span, version: Option<&str>) {
        self.due.clear();
        for replica in 0..self.list.len() as u16 {
            let at = now.plus_ns(every.ns() * u64::from(replica));
            self.plan(at, replica, Order::Strike(what));
            self.plan(at.plus_ns(away.ns()), replica, Order::Start(version.map(str::to_owned)));
        }
        self.poll(now);
    }
}

fn refusal(number: u16, state: State, order: &Order) -> String {
    let wanted = match order {
        Order::Strike(what) => what.name(),
        Order::Thaw => "thawed",
        Order::Start(_) => "started",
    };
    let remedy = match (state, order) {
        (State::Up, _) => "it is there",
        (State::Frozen, _) => "thaw or kill it first",
        (State::Cut, Order::Strike(_)) | (State::Down, _) => "start it first",
        (State::Cut, _) => "start or kill it",
    };
    format!("replica {number} is {}: it cannot be {wanted}; {remedy}", state.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn at(s: u64) -> Time {
        Time::from_ns(s * S)
    }

    fn replicas(balance: Balance) -> Replicas {
        Replicas::new(4, balance, "v1", 7)
    }

    fn placed(replicas: &mut Replicas, count: usize) -> Vec<u16> {
        (0..count).map(|_| replicas.place().expect("one is up").0).collect()
    }

    #[test]
    fn connections_go_in_turn_to_those_that_are_up() {
        let mut replicas = replicas(Balance::Turn);
        assert_eq!(placed(&mut replicas, 5), [0, 1, 2, 3, 0]);
        replicas.act(at(1), 2, Order::Strike(What::Kill)).expect("it is up");
        assert_eq!(placed(&mut replicas, 5), [1, 3, 0, 1, 3]);
        replicas.act(at(2), 2, Order::Start(None)).expect("it is down");
        assert_eq!(placed(&mut replicas, 4), [0, 1, 2, 3]);
        for replica in 0..4 {
            replicas.act(at(3), replica, Order::Strike(What::Cut)).expect("it is up");
        }
        assert!(replicas.place().is_none());
    }

    #[test]
    fn by_chance_each_gets_about_as_many() {
        let mut replicas = replicas(Balance::Random);
        let all = placed(&mut replicas, 4000);
        for replica in 0..4 {
            let mine = all.iter().filter(|&&one| one == replica).count();
            assert!((870..1130).contains(&mine), "{mine} of 4,000, which is within 4.7 sigma of 1,000");
        }
    }

    #[test]
    fn a_restart_is_another_incarnation_with_its_own_version() {
        let mut replicas = replicas(Balance::Turn);
        let (_, old) = replicas.place().expect("up");
        replicas.act(at(1), 0, Order::Strike(What::Drain)).expect("up");
        assert_eq!((*old.borrow(), replicas.version(0)), (Fate::Draining, "v1"));
        replicas.act(at(2), 0, Order::Start(Some("v2".into()))).expect("down");
        replicas.act(at(3), 0, Order::Strike(What::Freeze)).expect("up");
        assert_eq!((*old.borrow(), replicas.version(0), replicas.version(1)), (Fate::Draining, "v2", "v1"));
        let told = &replicas.breaks(0)[0];
        assert_eq!((told.up_at, told.version_before.as_str()), (Some(2.0), "v1"));
        assert_eq!(told.version_after.as_deref(), Some("v2"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let mut replicas = replicas(Balance::Turn);
        let refused =
            |replicas: &mut Replicas, order| replicas.act(at(1), 1, order).expect_err("it cannot be");
        assert!(refused(&mut replicas, Order::Start(None)).contains("is up"));
        replicas.act(at(1), 1, Order::Strike(What::Freeze)).expect("up");
        assert!(refused(&mut replicas, Order::Strike(What::Drain)).contains("thaw or kill it first"));
        replicas.act(at(1), 1, Order::Strike(What::Kill)).expect("frozen");
        assert!(refused(&mut replicas, Order::Strike(What::Kill)).contains("start it first"));
        assert!(refused(&mut replicas, Order::Thaw).contains("it cannot be thawed"));
    }

    #[test]
    fn they_roll_one_by_one() {
        let mut replicas = replicas(Balance::Turn);
        let (away, every) = (Span::from_ns(S), Span::from_ns(10 * S));
        replicas.roll(at(98), What::Drain, away, every, Some("v1.5"));
        replicas.poll(at(99));
        replicas.roll(at(100), What::Drain, away, every, Some("v2"));
        let states = |replicas: &Replicas| replicas.rows().iter().map(|row| row.state).collect::<Vec<_>>();
        assert_eq!(states(&replicas), [State::Down, State::Up, State::Up, State::Up]);
        replicas.poll(at(101));
        assert_eq!(states(&replicas), [State::Up; 4]);
        replicas.poll(at(110));
        assert_eq!(states(&replicas), [State::Up, State::Down, State::Up, State::Up]);
        replicas.poll(at(140));
        assert!(replicas.rows().iter().all(|row| row.state == State::Up && row.version == "v2"));
        assert_eq!(replicas.breaks(0).len(), 5, "the first roll's only one, and the second's");
    }
}
