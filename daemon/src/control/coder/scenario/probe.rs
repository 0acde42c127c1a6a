//! What a request to the API takes, while nobody works there and while the traffic goes: the same request once a
//! second, over a connection of its own, each measured from when it was due.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use scale_coder::client::Client;
use scale_ring::host;

/// Between two requests.
const EVERY: Duration = Duration::from_secs(1);
/// Of one step; beyond them (more than a day) the first ones stay.
const SAMPLES_MAX: usize = 100_000;

/// The times of each step, in seconds.
pub type Samples = Rc<RefCell<BTreeMap<&'static str, Vec<f64>>>>;

/// A probe that goes until it is dropped.
pub struct Probe(tokio::task::JoinHandle<()>);

impl Probe {
    /// Begins one for `step`.
    pub fn start(client: &Client, step: &'static str, samples: Samples) -> Self {
        // One that has worked with these settings can be had again.
        let client = client.for_user(client.token().clone()).unwrap_or_else(|_| client.clone());
        Self(tokio::task::spawn_local(async move {
            let began = host::monotonic_now();
            for number in 0u64.. {
                let due = began.plus_ns(number * EVERY.as_nanos() as u64);
                let early = due.since(host::monotonic_now());
                tokio::time::sleep(early).await;
                // A failure is told apart by the client's own counts of answers; here it is a time all the same.
                let _ = client.me().await;
                let took = host::monotonic_now().since(due).as_secs_f64();
                let mut samples = samples.borrow_mut();
                let of_step = samples.entry(step).or_default();
                if of_step.len() < SAMPLES_MAX {
                    of_step.push(took);
                }
            }
        }))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.abort();
    }
}
