//! Sockets and requests. Everything here runs on the control thread.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use scale_api::coder::{FlowRequest, TrafficRequest};
use scale_api::http::{
    DoctorRequest, MarkRequest, Problem, ProblemCode, SetRequest, StartRequest, StopRequest,
};
use scale_api::scenario::ScenarioRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::broadcast::error::RecvError;

use super::state::State;
use crate::metrics::Format;

/// The longest request body: a run with its files in hex.
const BODY_BYTES_MAX: usize = 64 << 20;
/// The longest time for a request's head and for its body.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Connections served at once on a listener.
const CONNECTIONS_MAX: usize = 256;

type Shared = Rc<RefCell<State>>;
type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answer = Result<Response<Body>, Problem>;

/// Who asks.
#[derive(Debug, Clone, Copy)]
struct Caller {
    pid: i32,
    uid: u32,
}

/// Serves the control socket until the task is dropped.
pub async fn control(state: Shared, listener: UnixListener) {
    let served = Rc::new(());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if Rc::strong_count(&served) > CONNECTIONS_MAX {
            continue; // dropped: whoever holds so many connections can try again
        }
        let (pid, uid, _) = scale_ring::host::peer_credentials(&stream).unwrap_or((0, u32::MAX, 0));
        let (state, held) = (state.clone(), served.clone());
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| answer(state.clone(), request, Caller { pid, uid }));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIME_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // A caller that goes away is no error of ours.
            let _ = connection.await;
            drop(held);
        });
    }
}

/// Serves `/metrics` over TCP; nothing there changes anything.
pub async fn metrics(state: Shared, listener: TcpListener) {
    let served = Rc::new(());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if Rc::strong_count(&served) > CONNECTIONS_MAX {
            continue;
        }
        let (state, held) = (state.clone(), served.clone());
        tokio::task::spawn_local(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = match (request.method(), request.uri().path()) {
                    (&Method::GET, "/metrics") => scrape(&state, format(request.headers())),
                    (&Method::GET, "/") => text("scaled: metrics are at /metrics\n", "text/plain"),
                    _ => problem(&Problem::new(ProblemCode::NotFound, "there are / and /metrics, to GET")),
                };
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIME_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
            drop(held);
        });
    }
}

fn text(content: impl Into<Bytes>, kind: &str) -> Response<Body> {
    let body = Full::new(content.into()).boxed_unsync();
    Response::builder().header("content-type", kind).body(body).expect("a constant head")
}

/// The format of metrics that the caller likes best.
fn format(headers: &HeaderMap) -> Format {
    Format::of(headers.get("accept").and_then(|value| value.to_str().ok()))
}

fn scrape(state: &Shared, format: Format) -> Response<Body> {
    text(state.borrow_mut().scrape(format), format.content_type())
}

fn json(value: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(value).map_err(|e| Problem::new(ProblemCode::Internal, e.to_string()))?;
    Ok(text(bytes, "application/json"))
}

fn problem(problem: &Problem) -> Response<Body> {
    let bytes = serde_json::to_vec(problem).expect("plain fields");
    let mut response = text(bytes, "application/problem+json");
    *response.status_mut() = hyper::StatusCode::from_u16(problem.status).expect("a constant status");
    response
}

async fn answer(
    state: Shared,
    request: Request<Incoming>,
    caller: Caller,
) -> Result<Response<Body>, Infallible> {
    Ok(route(state, request, caller).await.unwrap_or_else(|why| problem(&why)))
}

/// The whole body. It is read whatever the path says: an answer before the caller has finished
/// sending would be lost with the connection.
async fn body_of(request: Request<Incoming>) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let body = tokio::time::timeout(REQUEST_TIME_MAX, body)
        .await
        .map_err(|_| Problem::new(ProblemCode::TooLarge, "the request's body took more than 10 s to come"))?
        .map_err(|_| {
            Problem::new(ProblemCode::TooLarge, "the request's body is too large (64 MiB) or broke off")
        })?;
    Ok(body.to_bytes())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(ProblemCode::Invalid, format!("the request's body is not as it should be: {error}"))
    })
}

async fn route(state: Shared, request: Request<Incoming>, caller: Caller) -> Answer {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let format = format(request.headers());
    if method != Method::GET {
        tracing::info!(uid = caller.uid, pid = caller.pid, %method, path, "asked to change");
    }
    let body = body_of(request).await?;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (&method, parts.as_slice()) {
        (&Method::GET, ["metrics"]) => Ok(scrape(&state, format)),
        (&Method::GET, ["v1", "status"]) => json(&state.borrow().status()),
        (&Method::GET, ["v1", "doctor"]) => json(&super::doctor::this_host(state.borrow().cores())),
        (&Method::POST, ["v1", "doctor"]) => {
            let DoctorRequest { mut spec } = read(&body)?;
            spec.name_groups();
            let (host, targets) = state.borrow().prepare(true)?;
            let mut entries = super::doctor::this_host(state.borrow().cores());
            let (_, plan) = super::resolve::plan(spec, host, targets).await?;
            entries.extend(plan.fit);
            json(&entries)
        }
        (&Method::GET, ["v1", "targets"]) => json(&state.borrow().targets.summary()),
        (&Method::GET, ["v1", "runs"]) => json(&state.borrow().runs()),
        (&Method::POST, ["v1", "runs"]) => {
            let StartRequest { mut spec, dry_run } = read(&body)?;
            spec.name_groups();
            let (host, targets) = state.borrow().prepare(dry_run)?;
            let (spec, plan) = super::resolve::plan(spec, host, targets).await?;
            json(&state.borrow_mut().start(spec, plan, dry_run)?)
        }
        (&Method::POST, ["v1", "coder"]) => {
            let flow: FlowRequest = read(&body)?;
            json(&super::coder::begin(&state, flow).await?)
        }
        (&Method::POST, ["v1", "coder", "scenario"]) => {
            let scenario: ScenarioRequest = read(&body)?;
            json(&super::coder::scenario::begin(&state, scenario).await?)
        }
        (&Method::POST, ["v1", "coder", "traffic"]) => {
            let traffic: TrafficRequest = read(&body)?;
            json(&super::coder::traffic::begin(&state, traffic).await?)
        }
        (&Method::GET, ["v1", "runs", id] | ["v1", "runs", id, "report"]) => {
            state.borrow().report(id).map(|bytes| text(bytes, "application/json"))
        }
        (&Method::GET, ["v1", "runs", id, "histograms"]) => {
            state.borrow().histograms(id).map(|bytes| text(bytes, "application/json"))
        }
        (&Method::GET, ["v1", "runs", id, "events"]) => events(&state, id),
        (&Method::DELETE, ["v1", "runs", id]) => {
            state.borrow().remove(id)?;
            json(&serde_json::json!({ "id": id }))
        }
        (&Method::PATCH, ["v1", "runs", id]) => {
            let set: SetRequest = read(&body)?;
            let targets = state.borrow().targets.clone();
            going(&state, id, |run| run.set(&set, &targets))
        }
        (&Method::POST, ["v1", "runs", id, "stop"]) => {
            let stop: StopRequest = read(&body)?;
            const WHY: &str = "ended by `scalectl stop`";
            if let Some(answer) = end_scenario(&state, id, WHY, stop.now, false) {
                return answer;
            }
            if let Some(answer) = end_flow(&state, id, WHY, stop.now) {
                return answer;
            }
            going(&state, id, |run| {
                run.stop(stop.now);
                Ok(())
            })
        }
        (&Method::POST, ["v1", "runs", id, "abort"]) => {
            const WHY: &str = "interrupted (Ctrl-C)";
            if let Some(answer) = end_scenario(&state, id, WHY, false, true) {
                return answer;
            }
            if let Some(answer) = end_flow(&state, id, WHY, false) {
                return answer;
            }
            going(&state, id, |run| {
                run.abort(WHY, false);
                Ok(())
            })
        }
        (&Method::POST, ["v1", "runs", id, "pause"]) => going(&state, id, |run| {
            run.pause();
            Ok(())
        }),
        (&Method::POST, ["v1", "runs", id, "resume"]) => going(&state, id, |run| {
            run.resume();
            Ok(())
        }),
        (&Method::POST, ["v1", "runs", id, "marks"]) => {
            let mark: MarkRequest = read(&body)?;
            if mark.text.is_empty() || mark.text.len() > 1000 {
                return Err(Problem::new(ProblemCode::Invalid, "a mark has 1 to 1000 bytes of text"));
            }
            going(&state, id, |run| run.mark(&mark.text))
        }
        _ => Err(Problem::new(
            ProblemCode::NotFound,
            format!("there is no {method} {path}; see docs/control.md"),
        )),
    }
}

/// Ends the scenario that is going, if it is run `id`. `is_abort`: traffic that is ended so has not passed.
fn end_scenario(state: &Shared, id: &str, why: &str, now: bool, is_abort: bool) -> Option<Answer> {
    let id = state.borrow_mut().end_scenario(id, why, now, is_abort)?;
    Some(json(&serde_json::json!({ "id": id })))
}

/// Ends the Coder flow that is going, if it is run `id`.
fn end_flow(state: &Shared, id: &str, why: &str, now: bool) -> Option<Answer> {
    let mut state = state.borrow_mut();
    let flow = state.flow(id)?;
    flow.stop(why, now);
    Some(json(&serde_json::json!({ "id": flow.id })))
}

fn going(
    state: &Shared,
    id: &str,
    act: impl FnOnce(&mut crate::run::supervisor::Supervisor) -> Result<(), Problem>,
) -> Answer {
    let mut state = state.borrow_mut();
    if let Some(flow) = state.flow(id) {
        let detail = format!("run {} is a Coder flow; it can be watched and stopped, not changed", flow.id);
        return Err(Problem::new(ProblemCode::Invalid, detail));
    }
    let Some(run) = state.run().filter(|run| id == "current" || run.id == id) else {
        let detail = if id == "current" {
            "no run is going".to_owned()
        } else {
            format!("run `{id}` is not going; see `scalectl runs`")
        };
        return Err(Problem::new(ProblemCode::NotFound, detail));
    };
    act(run)?;
    json(&serde_json::json!({ "id": run.id }))
}

/// One JSON object a line, each second; the last is the report.
fn events(state: &Shared, id: &str) -> Answer {
    let (first, receiver) = state.borrow().lines(id)?;
    let start = (Some(first), Some(receiver));
    let stream = futures_unfold(start, |(first, receiver)| async move {
        if let Some(line) = first {
            return Some((line, (None, receiver)));
        }
        let mut receiver = receiver?;
        loop {
            match receiver.recv().await {
                Ok(line) => {
                    let last = line.starts_with("{\"report\"");
                    return Some((line, (None, (!last).then_some(receiver))));
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let body = StreamBody::new(stream).boxed_unsync();
    Ok(Response::builder()
        .header("content-type", "application/x-ndjson")
        .body(body)
        .expect("a constant head"))
}

/// A stream of frames from a state and a step.
fn futures_unfold<S, F, Fut>(
    start: S,
    step: F,
) -> impl futures_core::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send
where
    S: Send + 'static,
    F: Fn(S) -> Fut + Send + 'static,
    Fut: Future<Output = Option<(std::sync::Arc<str>, S)>> + Send + 'static,
{
    futures_util::stream::unfold((start, step), |(state, step)| async move {
        let (line, state) = step(state).await?;
        let mut bytes = line.as_bytes().to_vec();
        bytes.push(b'\n');
        Some((Ok(Frame::data(Bytes::from(bytes))), (state, step)))
    })
}
