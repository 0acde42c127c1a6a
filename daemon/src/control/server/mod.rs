//! Sockets and requests. Everything here runs on the control thread.
//!
//! - [`api`]: the control socket, where runs are started and changed.
//! - [`read_only`]: the metrics listener: `/metrics`, the live page and what feeds it.
//! - [`seats`]: who is served where too many come. [`body`]: what requests bring.
//!   [`steps`]: a scenario's, and who runs their commands.
//!   [`trial`]: both listeners without sockets.

mod api;
mod body;
mod read_only;
mod seats;
mod steps;
pub mod trial;

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{ACCEPT, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use scale_api::http::{Problem, ProblemCode};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use self::seats::{Seat, Seats, Watched};
use super::state::State;
use crate::metrics::Format;

pub use api::control;
pub use read_only::read_only;

/// The longest time for a request's head and for its body.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// The longest head of a request, its URL included.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// After a failed accept, for want of descriptors or memory.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

type Shared = Rc<RefCell<State>>;
type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answer = Result<Response<Body>, Problem>;

/// The connections of one listener.
#[derive(Default)]
struct Connections(Seats);

impl Connections {
    /// Serves one more, until either side ends it. Where all seats are taken, and everybody is being served, it is
    /// closed: whoever holds so many can try again.
    fn serve<I, F, A>(&self, io: I, answer: F)
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
        F: Fn(Request<Incoming>, Arc<Seat>) -> A + 'static,
        A: Future<Output = Answer> + 'static,
    {
        if self.0.make_room() {
            self.0.take(|seat| connection(io, seat, answer));
        }
    }
}

/// One connection, to its end.
async fn connection<I, F, A>(io: I, seat: Arc<Seat>, answer: F)
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Fn(Request<Incoming>, Arc<Seat>) -> A + 'static,
    A: Future<Output = Answer> + 'static,
{
    let service = service_fn(|request| {
        let (seat, answer) = (seat.clone(), answer(request, seat.clone()));
        async move {
            let response = answer.await.unwrap_or_else(|why| problem(&why));
            seat.is_answered(response.body().size_hint().exact().is_some());
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        // With a queue of its own for bodies, hyper 1.12 writes the 400 of a broken request into the middle of the answer
        // before it, if that one is still on its way.
        .writev(false)
        // Who has said all and closes that half is answered all the same.
        .half_close(true)
        .serve_connection(TokioIo::new(Watched(io, seat.clone())), service);
    // A caller that goes away is no error of ours.
    let _ = connection.await;
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
