//! Asks a Prometheus for the target's own figures while a run goes, on the control thread: asynchronous, each round with
//! its limit of time, never two at once. A round that takes longer than the interval makes the next one late; nothing
//! else waits for it.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use scale_api::http::{Problem, ProblemCode};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::run::observe::{Sample, Trouble, read};
use crate::run::plan::{Observe, QUERIES_AT_ONCE};

/// For a round of all queries.
pub const ROUND_TIME_MAX: Duration = Duration::from_secs(5);
/// The longest answer that is read; one number has some hundred bytes.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Asks until it is dropped.
pub struct Watch {
    samples: Receiver<Sample>,
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to ask, at `addresses` and nowhere else.
    ///
    /// # Errors
    /// The library refuses the settings.
    pub fn start(observe: &Observe, addresses: Vec<SocketAddr>) -> Result<Self, Problem> {
        let addresses = Arc::new(Mutex::new(addresses));
        let client = scale_coder::config::http(observe.tls.as_ref())
            .default_headers(headers(&observe.headers))
            .dns_resolver(Checked(addresses.clone()))
            .connect_timeout(ROUND_TIME_MAX)
            .build()
            .map_err(|error| Problem::new(ProblemCode::Internal, format!("[observe]: {error}")))?;
        let (sender, samples) = channel();
        let asker = Asker { client, url: observe.url.clone(), queries: observe.queries.clone(), sender };
        let every = Duration::from_nanos(observe.interval.ns());
        let task = tokio::task::spawn_local(async move {
            let mut every = interval(every);
            every.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                every.tick().await;
                asker.round().await;
            }
        });
        Ok(Self { samples, addresses, task })
    }

    /// What was answered since the last time.
    pub fn samples(&self) -> impl Iterator<Item = Sample> + '_ {
        self.samples.try_iter()
    }

    /// The name was resolved again.
    pub fn readdress(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Names are what was resolved and checked; nothing is asked of a resolver here.
struct Checked(Arc<Mutex<Vec<SocketAddr>>>);

impl Resolve for Checked {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let addresses: Addrs = Box::new(addresses.into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// Lines of a header file, which may be secrets: marked so that the library prints none.
fn headers(lines: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let pair = (HeaderName::try_from(name), HeaderValue::from_str(value));
        let (Ok(name), Ok(mut value)) = pair else { unreachable!("the plan has checked them") };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    headers
}

struct Asker {
    client: Client,
    url: String,
    queries: Vec<String>,
    sender: Sender<Sample>,
}

impl Asker {
    async fn round(&self) {
        let until = Instant::now() + ROUND_TIME_MAX;
        let ask = async |(query, text): (usize, &String)| {
            let answer = timeout_at(until, self.ask(text)).await;
            let answer = answer.unwrap_or(Err(Trouble::Slow(ROUND_TIME_MAX.as_secs())));
            // Nobody listens any more where the run has ended.
            let _ = self.sender.send(Sample { query, answer });
        };
        let asks = self.queries.iter().enumerate().map(ask);
        pin!(futures_util::stream::iter(asks).buffer_unordered(QUERIES_AT_ONCE)).collect::<()>().await;
    }

    async fn ask(&self, query: &str) -> Result<f64, Trouble> {
        let limit = format!("{}s", ROUND_TIME_MAX.as_secs());
        // Two series are enough to know that it is not one.
        let words = [("query", query), ("timeout", limit.as_str()), ("limit", "2")];
        let mut response = self.client.get(&self.url).query(&words).send().await.map_err(unreachable)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Trouble::Shape("an answer without end"));
            }
            body.extend_from_slice(&chunk);
        }
        read(response.status().as_u16(), &body)
    }
}

/// The innermost cause, which is the one that says something; not the URL.
fn unreachable(error: reqwest::Error) -> Trouble {
    let is_slow = error.is_timeout();
    let error = error.without_url();
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if is_slow { Trouble::Slow(ROUND_TIME_MAX.as_secs()) } else { Trouble::Unreachable(inner.to_string()) }
}
