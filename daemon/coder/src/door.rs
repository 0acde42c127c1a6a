//! New connections of all clients of one deployment, kept to a rate: whatever they are opened for, they wait at the
//! same door.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

/// Lets one new connection through every so often. Clones are the same door.
#[derive(Debug, Clone)]
pub struct Door {
    /// Thousandths a second at the most, and at present.
    most: u64,
    now: Arc<AtomicU64>,
    next: Arc<Mutex<Option<Instant>>>,
}

impl Door {
    /// For at most `milli` thousandths of a connection a second.
    pub fn new(milli: u64) -> Self {
        let most = milli.max(1);
        Self { most, now: Arc::new(AtomicU64::new(most)), next: Arc::default() }
    }

    /// From now on for less, while others open connections, too; `None`: as at first.
    pub fn slow_down(&self, milli: Option<u64>) {
        self.now.store(milli.map_or(self.most, |milli| milli.clamp(1, self.most)), Ordering::Relaxed);
    }

    /// When whoever comes now may go through.
    fn slot(&self) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let at = next.map_or(now, |next| next.max(now));
        *next =
            Some(at + Duration::from_nanos(1_000_000_000_000u64.div_ceil(self.now.load(Ordering::Relaxed))));
        at
    }
}

impl<S> Layer<S> for Door {
    type Service = Behind<S>;

    fn layer(&self, inner: S) -> Behind<S> {
        Behind { door: self.clone(), inner }
    }
}

/// What opens connections, behind a door.
#[derive(Debug, Clone)]
pub struct Behind<S> {
    door: Door,
    inner: S,
}

impl<S, To> Service<To> for Behind<S>
where
    S: Service<To> + Clone + Send + 'static,
    S::Future: Send,
    To: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: To) -> Self::Future {
        // The one that is ready goes, and what stays is asked anew.
        let again = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, again);
        let at = self.door.slot();
        Box::pin(async move {
            sleep_until(at).await;
            ready.call(to).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_at_once_goes_one_after_the_other() {
        let door = Door::new(10_000);
        let began = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(door.clone().slot().duration_since(began).as_millis());
        }
        assert_eq!(waits, [0, 100, 200, 300, 400]);
        tokio::time::advance(Duration::from_secs(60)).await;
        let late = [door.slot(), door.slot()].map(|at| at.duration_since(began).as_millis());
        assert_eq!(late, [60_000, 60_100], "what was not used is not made up for");
        door.slow_down(Some(1000));
        let slow = [door.slot(), door.slot()].map(|at| at.duration_since(began).as_millis());
        assert_eq!(slow, [60_200, 61_200]);
    }
}
