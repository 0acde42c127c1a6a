//! Sockets and requests. Everything here runs on the control thread.
//!
//! - [`api`]: the control socket, where runs are started and changed.
//! - [`read_only`]: the metrics listener: `/metrics`, the live page and what feeds it.

mod api;
mod read_only;

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use scale_api::http::{Problem, ProblemCode};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use super::state::State;
use crate::metrics::Format;

pub use api::control;
pub use read_only::read_only;

/// The longest time for a request's head and for its body.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Connections served at once on a listener.
const CONNECTIONS_MAX: usize = 256;
/// After a failed accept, for want of descriptors or memory.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

type Shared = Rc<RefCell<State>>;
type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answer = Result<Response<Body>, Problem>;

/// The connections of one listener.
#[derive(Default)]
struct Connections(Rc<()>);

impl Connections {
    /// Serves one more, until either side ends it. Over the limit it is closed: whoever holds so many can try again.
    fn serve<I, F, A>(&self, io: I, answer: F)
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
        F: Fn(Request<Incoming>) -> A + 'static,
        A: Future<Output = Answer> + 'static,
    {
        if Rc::strong_count(&self.0) > CONNECTIONS_MAX {
            return;
        }
        let held = self.0.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|why| problem(&why))) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIME_MAX)
                .serve_connection(TokioIo::new(io), service);
            // A caller that goes away is no error of ours.
            let _ = connection.await;
            drop(held);
        });
    }
}

fn content(content: impl Into<Bytes>, kind: &'static str) -> Response<Body> {
    let body = Full::new(content.into()).boxed_unsync();
    Response::builder().header("content-type", kind).body(body).expect("a constant head")
}

fn html(page: impl Into<Bytes>) -> Response<Body> {
    content(page, "text/html; charset=utf-8")
}

/// The format of metrics that a caller likes best.
fn scrape_format(headers: &HeaderMap) -> Format {
    Format::of(headers.get(ACCEPT).and_then(|value| value.to_str().ok()))
}

fn scrape(state: &Shared, format: Format) -> Response<Body> {
    let bytes = state.borrow_mut().scrape(format);
    content(bytes, format.content_type())
}

fn json(value: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(value).map_err(|e| Problem::new(ProblemCode::Internal, e.to_string()))?;
    Ok(content(bytes, "application/json"))
}

fn problem(problem: &Problem) -> Response<Body> {
    let bytes = serde_json::to_vec(problem).expect("plain fields");
    let mut response = content(bytes, "application/problem+json");
    *response.status_mut() = StatusCode::from_u16(problem.status).expect("a constant status");
    response
}
