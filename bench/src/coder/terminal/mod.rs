//! Terminal sessions (`reconnect` ids): one process each, any number of websockets on it.
//!
//! A session is found by agent and reconnect id. What is typed by any client goes to the one process,
//! what it shows goes to all, and to a scrollback that a later client is sent first. Without a client
//! the process lives [`Sessions::DETACHED_NS`] more. Its end closes every client.
//!
//! Elsewhere: what a process is ([`Terminal`]; [`real`] and [`emulated`], [`script`] on it), JSON ([`input`]), frames
//! (`socket`).

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use scale_ring::Time;
use tokio::sync::Notify;
use uuid::Uuid;

pub mod emulated;
pub mod input;
pub mod real;
pub mod script;

/// Rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// What a client of a terminal asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// Whose terminal.
    pub agent: Uuid,
    /// Which session of it.
    pub reconnect: Uuid,
    /// The client's size.
    pub size: Size,
    /// What runs in a new session; nothing: a login shell.
    pub command: String,
    /// `backend_type=screen` was asked for by name.
    pub screen: bool,
    /// The agent cannot be reached: how long that takes to find out, in ns, and the reason.
    pub dial_fails: Option<(u64, String)>,
    /// When the agent goes; `Time::NEVER`: it stays.
    pub lost: Time,
}

impl Attach {
    /// The session it means.
    pub const fn key(&self) -> Key {
        Key { agent: self.agent, reconnect: self.reconnect }
    }
}

/// Names a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    agent: Uuid,
    reconnect: Uuid,
}

/// A process with a terminal, or what behaves like one. Dropping it ends it. Which kind a new session
/// gets is decided in one place, `serve::driver`; the sessions do not care.
///
/// What it shows at once goes to `output`. One that does something by itself says when, or shows it by
/// [`Sessions::output`] and ends by [`Sessions::end`].
pub trait Terminal {
    /// Bytes are typed.
    fn input(&mut self, bytes: &[u8], output: &mut Vec<u8>);
    /// When [`handle_time`](Self::handle_time) is wanted next; `Time::NEVER`: input alone moves it.
    fn next_event(&self) -> Time {
        Time::NEVER
    }
    /// Does what is due by `now`.
    fn handle_time(&mut self, _now: Time, _output: &mut Vec<u8>) {}
    /// The window changes.
    fn resize(&mut self, size: Size);
    /// Bytes typed that the process has not taken yet. While there are more than
    /// [`Sessions::BACKLOG_BYTES_MAX`] nothing is read from the session's clients.
    fn backlog(&self) -> usize;
    /// It has ended.
    fn is_ended(&self) -> bool;
}

/// What waits for one client.
#[derive(Debug, Default)]
pub struct Outlet {
    bytes: RefCell<Vec<u8>>,
    ended: std::cell::Cell<bool>,
    /// Nobody takes anything from here for now.
    frozen: std::cell::Cell<bool>,
    /// More has been shown meanwhile than is kept.
    overrun: std::cell::Cell<bool>,
    /// Something has changed: bytes, the end, or room for input.
    pub changed: Notify,
}

impl Outlet {
    /// Takes what waits.
    pub fn take(&self) -> Vec<u8> {
        self.bytes.take()
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// Its client's server stands still, or goes on: nobody waits for that, neither the process nor other clients.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.set(frozen);
    }

    /// It has missed something while it was frozen, and has no way to go on.
    pub fn has_missed(&self) -> bool {
        self.overrun.get()
    }

    /// The process has ended; what waits is the last.
    pub fn is_ended(&self) -> bool {
        self.ended.get()
    }
}

/// Which process of a session; an id may be used again after the end of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId {
    key: Key,
    number: u64,
}

struct Session {
    number: u64,
    terminal: Box<dyn Terminal>,
    scrollback: VecDeque<u8>,
    clients: Vec<Rc<Outlet>>,
    /// `Time::NEVER` while there are clients.
    dies: Time,
}

/// All sessions.
#[derive(Default)]
pub struct Sessions {
    map: BTreeMap<Key, Session>,
    started: u64,
}

impl Sessions {
    /// Bytes that a later client is sent first.
    pub const SCROLLBACK_BYTES: usize = 64 << 10;
    /// A process without clients is ended after this.
    pub const DETACHED_NS: u64 = 300_000_000_000;
    /// Typed bytes that may wait for the process.
    pub const BACKLOG_BYTES_MAX: usize = 64 << 10;
    /// Shown bytes that may wait for a client before nothing more is read from the process.
    pub const OUTLET_BYTES_MAX: usize = 256 << 10;

    /// Joins the session of `key`; `start` makes its process where there is none. Tells, too, whether
    /// it did.
    ///
    /// # Errors
    /// What `start` says.
    pub fn attach(
        &mut self,
        key: Key,
        size: Size,
        start: impl FnOnce(SessionId) -> std::io::Result<Box<dyn Terminal>>,
    ) -> std::io::Result<(SessionId, Rc<Outlet>, bool)> {
        let new = !self.map.contains_key(&key);
        if new {
            self.started += 1;
            let number = self.started;
            let terminal = start(SessionId { key, number })?;
            let (scrollback, clients) = (VecDeque::new(), Vec::new());
            self.map.insert(key, Session { number, terminal, scrollback, clients, dies: Time::NEVER });
        }
        let session = self.map.get_mut(&key).expect("it is there by now");
        let outlet = Rc::new(Outlet::default());
        outlet.bytes.borrow_mut().extend(&session.scrollback);
        session.clients.push(outlet.clone());
        session.dies = Time::NEVER;
        if !new && size.height > 0 && size.width > 0 {
            session.terminal.resize(size);
        }
        Ok((SessionId { key, number: session.number }, outlet, new))
    }

    fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.map.get_mut(&id.key).filter(|session| session.number == id.number)
    }

    /// A client types.
    pub fn input(&mut self, id: SessionId, bytes: &[u8]) {
        self.act(id, |terminal, shown| terminal.input(bytes, shown));
    }

    /// Does what the session's process has to do by `now`.
    pub fn wake(&mut self, now: Time, id: SessionId) {
        if self.wakes(id) <= now {
            self.act(id, |terminal, shown| terminal.handle_time(now, shown));
        }
    }

    /// When `wake` has something to do.
    pub fn wakes(&self, id: SessionId) -> Time {
        let session = self.map.get(&id.key).filter(|session| session.number == id.number);
        session.map_or(Time::NEVER, |session| session.terminal.next_event())
    }

    fn act(&mut self, id: SessionId, act: impl FnOnce(&mut dyn Terminal, &mut Vec<u8>)) {
        let mut shown = Vec::new();
        let Some(session) = self.session(id) else { return };
        act(&mut *session.terminal, &mut shown);
        session.show(&shown);
        if session.terminal.is_ended() {
            self.end(id);
        }
    }

    /// A client's window changes; nothing happens unless both sides are given.
    pub fn resize(&mut self, id: SessionId, size: Size) {
        if size.height > 0
            && size.width > 0
            && let Some(session) = self.session(id)
        {
            session.terminal.resize(size);
        }
    }

    /// The process shows something.
    pub fn output(&mut self, id: SessionId, bytes: &[u8]) {
        if let Some(session) = self.session(id) {
            session.show(bytes);
        }
    }

    /// The process has taken input: clients may go on.
    pub fn taken(&mut self, id: SessionId) {
        if let Some(session) = self.session(id) {
            session.clients.iter().for_each(|client| client.changed.notify_one());
        }
    }

    /// The process has ended: every client is told, and the id is free again.
    pub fn end(&mut self, id: SessionId) {
        if self.session(id).is_some()
            && let Some(session) = self.map.remove(&id.key)
        {
            for client in session.clients {
                client.ended.set(true);
                client.changed.notify_one();
            }
        }
    }

    /// A client goes.
    pub fn detach(&mut self, now: Time, id: SessionId, outlet: &Rc<Outlet>) {
        if let Some(session) = self.session(id) {
            session.clients.retain(|client| !Rc::ptr_eq(client, outlet));
            if session.clients.is_empty() {
                session.dies = now.plus_ns(Self::DETACHED_NS);
            }
        }
    }

    /// Whether clients may type: the process keeps up.
    pub fn takes_input(&self, id: SessionId) -> bool {
        let session = self.map.get(&id.key).filter(|session| session.number == id.number);
        session.is_none_or(|session| session.terminal.backlog() <= Self::BACKLOG_BYTES_MAX)
    }

    /// Whether the process may show more: every client keeps up.
    pub fn takes_output(&self, id: SessionId) -> bool {
        let session = self.map.get(&id.key).filter(|session| session.number == id.number);
        session.is_none_or(|session| {
            let keeps_up =
                |client: &Rc<Outlet>| client.frozen.get() || client.waiting() <= Self::OUTLET_BYTES_MAX;
            session.clients.iter().all(keeps_up)
        })
    }

    /// Wakes every process that is due, with clients or without, and ends what nobody has come back to.
    pub fn poll(&mut self, now: Time) {
        let is_due = |session: &Session| session.terminal.next_event() <= now;
        let due: Vec<SessionId> = (self.map.iter())
            .filter(|(_, session)| is_due(session))
            .map(|(&key, session)| SessionId { key, number: session.number })
            .collect();
        due.into_iter().for_each(|id| self.wake(now, id));
        self.map.retain(|_, session| now < session.dies);
    }

    /// When `poll` has something to do next.
    pub fn next_event(&self) -> Time {
        let next = |session: &Session| session.dies.min(session.terminal.next_event());
        self.map.values().map(next).min().unwrap_or(Time::NEVER)
    }

    /// Sessions with a process.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Processes that were started so far.
    pub const fn started(&self) -> u64 {
        self.started
    }
}

impl Session {
    fn show(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let bytes_kept = &bytes[bytes.len().saturating_sub(Sessions::SCROLLBACK_BYTES)..];
        let over = (self.scrollback.len() + bytes_kept.len()).saturating_sub(Sessions::SCROLLBACK_BYTES);
        self.scrollback.drain(..over);
        self.scrollback.extend(bytes_kept);
        for client in &self.clients {
            if client.frozen.get() && client.waiting() + bytes.len() > Sessions::OUTLET_BYTES_MAX {
                client.overrun.set(true);
                continue;
            }
            client.bytes.borrow_mut().extend_from_slice(bytes);
            client.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows what is typed; `q` ends it.
    #[derive(Default)]
    struct Mirror {
        ended: bool,
    }

    impl Terminal for Mirror {
        fn input(&mut self, bytes: &[u8], output: &mut Vec<u8>) {
            output.extend_from_slice(bytes);
            self.ended |= bytes.contains(&b'q');
        }
        fn resize(&mut self, _: Size) {}
        fn backlog(&self) -> usize {
            0
        }
        fn is_ended(&self) -> bool {
            self.ended
        }
    }

    const SIZE: Size = Size { height: 25, width: 80 };

    fn key(n: u128) -> Key {
        Key { agent: Uuid::nil(), reconnect: Uuid::from_u128(n) }
    }

    fn attach(sessions: &mut Sessions, n: u128) -> (SessionId, Rc<Outlet>, bool) {
        sessions.attach(key(n), SIZE, |_| Ok(Box::new(Mirror::default()))).expect("a mirror always starts")
    }

    #[test]
    fn a_second_client_is_sent_the_scrollback_and_then_what_all_see() {
        let mut sessions = Sessions::default();
        let (id, first, new) = attach(&mut sessions, 1);
        sessions.input(id, b"abc");
        let (same, second, again) = attach(&mut sessions, 1);
        assert!(new && !again && same == id && sessions.started() == 1);
        sessions.input(id, b"def");
        assert_eq!((first.take(), second.take()), (b"abcdef".to_vec(), b"abcdef".to_vec()));
    }

    #[test]
    fn the_scrollback_keeps_the_last_64_kib() {
        let mut sessions = Sessions::default();
        let (id, first, _) = attach(&mut sessions, 1);
        let shown: Vec<u8> = (0..200_000u32).map(|n| (n % 100) as u8 + 128).collect();
        for part in shown.chunks(1_000) {
            sessions.output(id, part);
        }
        assert_eq!(first.take(), shown);
        let (_, later, _) = attach(&mut sessions, 1);
        assert_eq!(later.take(), shown[shown.len() - Sessions::SCROLLBACK_BYTES..]);
        sessions.output(id, &shown);
        let (_, last, _) = attach(&mut sessions, 1);
        assert_eq!(last.waiting(), Sessions::SCROLLBACK_BYTES);
    }

    #[test]
    fn the_end_of_the_process_reaches_every_client_and_frees_the_id() {
        let mut sessions = Sessions::default();
        let (id, first, _) = attach(&mut sessions, 1);
        let (_, second, _) = attach(&mut sessions, 1);
        sessions.input(id, b"q");
        assert!(first.is_ended() && second.is_ended() && sessions.is_empty());
        let (again, third, new) = attach(&mut sessions, 1);
        assert!(new && again != id && third.take().is_empty());
        sessions.output(id, b"late"); // of the process that is gone
        assert!(third.take().is_empty());
    }

    #[test]
    fn a_process_that_nobody_comes_back_to_lives_five_minutes() {
        let mut sessions = Sessions::default();
        let (id, outlet, _) = attach(&mut sessions, 1);
        let gone = Time::from_ns(7);
        assert_eq!(sessions.next_event(), Time::NEVER);
        sessions.detach(gone, id, &outlet);
        let dies = gone.plus_ns(Sessions::DETACHED_NS);
        assert_eq!(sessions.next_event(), dies);
        sessions.poll(dies.minus_ns(1));
        assert_eq!(sessions.len(), 1);
        let (same, outlet, _) = attach(&mut sessions, 1);
        assert_eq!((same, sessions.next_event()), (id, Time::NEVER));
        sessions.detach(gone, id, &outlet);
        sessions.poll(dies);
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_process_goes_on_by_time_though_nobody_is_there() {
        let mut sessions = Sessions::default();
        let at = |ms: u64| Time::from_ns(ms * 1_000_000);
        let start = |_| -> std::io::Result<Box<dyn Terminal>> {
            let script = emulated::Emulated::start("echo a; sleep 0.5; echo b; sleep 0.5", at(1));
            Ok(Box::new(script.expect("a script")))
        };
        let (id, outlet, _) = sessions.attach(key(1), SIZE, start).expect("it starts");
        assert_eq!((sessions.wakes(id), sessions.next_event()), (at(1), at(1)));
        sessions.wake(at(1), id);
        assert_eq!((outlet.take(), sessions.wakes(id)), (b"a\r\n".to_vec(), at(501)));
        sessions.detach(at(2), id, &outlet);
        sessions.wake(at(500), id);
        sessions.poll(at(501));
        let (same, outlet, new) = attach(&mut sessions, 1);
        assert!(same == id && !new);
        assert_eq!(outlet.take(), b"a\r\nb\r\n");
        sessions.poll(sessions.next_event());
        assert!(outlet.is_ended() && sessions.is_empty() && sessions.wakes(id) == Time::NEVER);
    }

    #[test]
    fn a_client_that_does_not_keep_up_holds_the_process_back() {
        let mut sessions = Sessions::default();
        let (id, slow, _) = attach(&mut sessions, 1);
        sessions.output(id, &vec![0; Sessions::OUTLET_BYTES_MAX]);
        assert!(sessions.takes_output(id));
        sessions.output(id, &[0]);
        assert!(!sessions.takes_output(id));
        slow.take();
        assert!(sessions.takes_output(id) && sessions.takes_input(id));
    }
}
