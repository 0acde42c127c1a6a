//! Who sits at a listener, and who goes where all seats are taken: whoever has waited longest with its request. So nobody
//! who opens many connections and says little keeps another from being answered, `scalectl stop` least of all.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use scale_ring::{Time, host};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

/// Connections served at once on a listener.
pub(super) const SEATS_MAX: usize = 256;
/// Whoever takes nothing of an answer without end for so long may go, too: there is something to take each 15 s.
const STALLED_NS: u64 = 20_000_000_000;

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Doing {
    /// Its request is to come, or has been answered.
    Waits,
    /// We work on the answer.
    IsServed,
    /// It is told what goes on, until it has enough.
    Follows,
}

/// A connection's place. Shared with its answer, which has to be `Send`; there is one thread all the same.
#[derive(Debug)]
pub(super) struct Seat {
    doing: AtomicU8,
    /// Since when it waits, or when it last took something.
    since: AtomicU64,
}

impl Seat {
    fn new(now: Time) -> Self {
        Self { doing: AtomicU8::new(Doing::Waits as u8), since: AtomicU64::new(now.ns_since(Time::ZERO)) }
    }

    fn begin(&self, doing: Doing) {
        self.doing.store(doing as u8, Relaxed);
        self.moves(host::monotonic_now());
    }

    fn moves(&self, now: Time) {
        self.since.store(now.ns_since(Time::ZERO), Relaxed);
    }

    /// The request is there, whole.
    pub fn is_served(&self) {
        self.begin(Doing::IsServed);
    }

    /// The answer is on its way, and has an end or not.
    pub fn is_answered(&self, has_end: bool) {
        self.begin(if has_end { Doing::Waits } else { Doing::Follows });
    }

    /// How long it has kept its seat for nothing, in ns; `None`: it may keep it.
    fn idle_ns(&self, now: Time) -> Option<u64> {
        let idle = now.ns_since(Time::from_ns(self.since.load(Relaxed)));
        let doing = self.doing.load(Relaxed);
        if doing == Doing::Waits as u8 {
            return Some(idle);
        }
        (doing == Doing::Follows as u8 && idle >= STALLED_NS).then_some(idle)
    }
}

/// The seats of one listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Seats(Rc<RefCell<Vec<Taken>>>);

/// A seat, and the task of who sits there.
type Taken = (Arc<Seat>, AbortHandle);

impl Seats {
    /// Sees to it that there is a seat. `false`: everybody who sits is being served.
    pub fn make_room(&self) -> bool {
        let mut seats = self.0.borrow_mut();
        if seats.len() < SEATS_MAX {
            return true;
        }
        let now = host::monotonic_now();
        let idle = seats.iter().enumerate().filter_map(|(at, (seat, _))| Some((seat.idle_ns(now)?, at)));
        let Some((_, at)) = idle.max() else { return false };
        let (_, task) = seats.swap_remove(at);
        drop(seats);
        task.abort();
        true
    }

    /// Serves one more, by what `serve` makes of its seat.
    pub fn take<F: Future<Output = ()> + 'static>(&self, serve: impl FnOnce(Arc<Seat>) -> F) {
        let seat = Arc::new(Seat::new(host::monotonic_now()));
        let leaving = Leaving(self.clone(), seat.clone());
        let served = serve(seat.clone());
        let task = tokio::task::spawn_local(async move {
            let _leaving = leaving;
            served.await;
        });
        self.0.borrow_mut().push((seat, task.abort_handle()));
    }

    /// Whether nobody sits.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.0.borrow().len()
    }
}

/// Gives a seat back, however its connection ends.
struct Leaving(Seats, Arc<Seat>);

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut seats = self.0.0.borrow_mut();
        if let Some(at) = seats.iter().position(|(seat, _)| Arc::ptr_eq(seat, &self.1)) {
            seats.swap_remove(at);
        }
    }
}

/// A connection whose seat notes what it takes of its answer.
pub(super) struct Watched<I>(pub I, pub Arc<Seat>);

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<I> Watched<I> {
    /// Of who waits it is its own request that counts, not what it still takes.
    fn note(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) && self.1.doing.load(Relaxed) == Doing::Follows as u8 {
            self.1.moves(host::monotonic_now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_this_thread<F: Future>(what: impl FnOnce() -> F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async { what().await })
    }

    /// A connection that does what is said to its seat, for ever.
    fn sit(seats: &Seats, say: fn(&Seat)) -> Arc<Seat> {
        let kept = Rc::new(RefCell::new(None));
        let into = kept.clone();
        seats.take(move |seat| {
            say(&seat);
            *into.borrow_mut() = Some(seat);
            std::future::pending()
        });
        let seat = kept.borrow_mut().take();
        seat.expect("a seat")
    }

    #[test]
    fn who_has_waited_longest_goes_and_who_is_served_stays() {
        on_this_thread(|| async {
            let seats = Seats::default();
            let served = sit(&seats, Seat::is_served);
            let follower = sit(&seats, |seat| seat.is_answered(false));
            let first = sit(&seats, |_| {});
            for _ in seats.taken()..SEATS_MAX {
                assert!(seats.make_room());
                sit(&seats, |_| {});
            }
            first.moves(Time::from_ns(0));
            let has = |seat: &Arc<Seat>| seats.0.borrow().iter().any(|(one, _)| Arc::ptr_eq(one, seat));
            assert!(seats.make_room() && !has(&first));
            for _ in 0..2 * SEATS_MAX {
                sit(&seats, |_| {});
                assert!(seats.make_room());
            }
            assert!(has(&served) && has(&follower), "they do not wait");
            // A follower that takes nothing is not served either.
            sit(&seats, |_| {});
            seats.0.borrow().iter().for_each(|(seat, _)| seat.is_served());
            follower.is_answered(false);
            assert!(!seats.make_room());
            follower.moves(Time::from_ns(0));
            assert!(seats.make_room() && !has(&follower));
        });
    }

    #[test]
    fn a_seat_is_given_back_when_its_connection_ends() {
        on_this_thread(|| async {
            let seats = Seats::default();
            seats.take(|_| std::future::ready(()));
            seats.take(|_| std::future::pending());
            assert_eq!(seats.taken(), 2);
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            assert_eq!(seats.taken(), 1);
        });
    }
}
