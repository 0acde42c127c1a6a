//! The control API over the Unix socket: decode, answer, log who changed what.

use std::convert::Infallible;

use futures_util::stream::unfold;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response};
use scale_api::coder::{FlowRequest, TrafficRequest};
use scale_api::http::{
    DoctorRequest, MarkRequest, Problem, ProblemCode, SetRequest, StartRequest, StopRequest,
};
use scale_api::scenario::ScenarioRequest;
use tokio::net::UnixListener;
use tokio::sync::broadcast::error::RecvError;

use super::body::{Room, body_of};
use super::seats::Seat;
use super::steps;
use super::{ACCEPT_AGAIN, Answer, Connections, Shared, content, html, json, scrape, scrape_format};
use crate::control::caller::{Caller, caller};
use crate::control::source::off_thread;
use crate::control::state::{Followed, not_going};
use crate::control::{coder, resolve};
use crate::page;
use crate::run::supervisor::Supervisor;

/// Serves the control socket until the task is dropped.
pub async fn control(state: Shared, listener: UnixListener) {
    let (connections, room) = (Connections::default(), Room::default());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let (state, room, caller) = (state.clone(), room.clone(), caller(&stream));
        connections.serve(stream, move |request, seat| {
            let (state, room, caller) = (state.clone(), room.clone(), caller.clone());
            async move { answer(state, request, caller, (&room, &seat)).await }
        });
    }
}

/// The answer to a request.
pub(super) async fn answer(
    state: Shared,
    request: Request<Incoming>,
    caller: Caller,
    (room, seat): (&Room, &Seat),
) -> Answer {
    let method = request.method().clone();
    let format = scrape_format(request.headers());
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().map(str::to_owned));
    if method != Method::GET {
        tracing::info!(uid = caller.uid, pid = caller.pid, %method, path, "asked to change");
    }
    let body = body_of(request.into_body(), room).await?;
    seat.is_served();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (&method, parts.as_slice()) {
        (&Method::GET, ["metrics"]) => Ok(scrape(&state, format)),
        (&Method::GET, ["v1", "status"]) => json(&state.borrow().status()),
        (&Method::GET, ["v1", "doctor"]) => {
            let doctor = state.borrow().doctor();
            json(&off_thread(move || doctor.look().entries).await?)
        }
        (&Method::POST, ["v1", "doctor"]) => {
            let DoctorRequest { mut spec } = body.read()?;
            spec.name_groups();
            let (here, permit) = state.borrow().prepare(&caller, true)?;
            let (_, plan) = resolve::plan(spec, here, permit).await?;
            json(&[plan.host.doctor, plan.fit].concat())
        }
        (&Method::GET, ["v1", "calibration"]) => json(&state.borrow().calibrations()),
        (&Method::PUT, ["v1", "calibration"]) => {
            let found = body.read()?;
            json(&state.borrow_mut().calibrated(found)?)
        }
        (&Method::GET, ["v1", "targets"]) => json(&state.borrow().target_list(&caller)),
        (&Method::POST, ["v1", "reload"]) => json(&state.borrow_mut().reload()?),
        (&Method::GET, ["v1", "runs"]) => {
            let list = state.borrow().runs();
            json(&off_thread(list).await?)
        }
        (&Method::POST, ["v1", "runs"]) => {
            let StartRequest { mut spec, dry_run } = body.read()?;
            spec.name_groups();
            let (here, permit) = state.borrow().prepare(&caller, dry_run)?;
            let (spec, plan) = unless_stopped(&state, resolve::plan(spec, here, permit)).await?;
            json(&state.borrow_mut().start(spec, plan, dry_run)?)
        }
        (&Method::POST, ["v1", "coder"]) => {
            let flow: FlowRequest = body.read()?;
            json(&unless_stopped(&state, coder::begin(&state, &caller, flow)).await?)
        }
        (&Method::POST, ["v1", "coder", "scenario"]) => {
            let scenario: ScenarioRequest = body.read()?;
            json(&unless_stopped(&state, coder::scenario::begin(&state, &caller, scenario)).await?)
        }
        (&Method::POST, ["v1", "coder", "traffic"]) => {
            let traffic: TrafficRequest = body.read()?;
            json(&unless_stopped(&state, coder::traffic::begin(&state, &caller, traffic)).await?)
        }
        (&Method::GET, ["v1", "page"]) => shell(query.as_deref().unwrap_or_default()),
        (&Method::GET, ["v1", "runs", id] | ["v1", "runs", id, "report"]) => {
            let source = state.borrow().source(id);
            Ok(content(source.json().await?, "application/json"))
        }
        (&Method::GET, ["v1", "runs", id, "report.html"]) => {
            let source = state.borrow().source(id);
            Ok(html(source.page().await?))
        }
        (&Method::GET, ["v1", "runs", id, "histograms"]) => {
            let histograms = state.borrow().histograms(id);
            off_thread(histograms).await?.map(|bytes| content(bytes, "application/json"))
        }
        (&Method::GET, ["v1", "runs", id, "events"]) => events(&state, id).await,
        (&Method::DELETE, ["v1", "runs", id]) => {
            let remove = state.borrow_mut().remove(id)?;
            let last = off_thread(remove).await??;
            state.borrow_mut().removed(last);
            json(&serde_json::json!({ "id": id }))
        }
        (&Method::PATCH, ["v1", "runs", id]) => {
            let set: SetRequest = body.read()?;
            let permit = state.borrow().targets.permit(caller);
            going(&state, id, |run| run.set(&set, &permit))
        }
        (&Method::POST, ["v1", "runs", id, "stop"]) => {
            let stop: StopRequest = body.read()?;
            const WHY: &str = "ended by `scalectl stop`";
            state.borrow().stopped().notify_waiters();
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
        (&Method::POST, ["v1", "runs", id, "pause"]) => going(&state, id, Supervisor::pause),
        (&Method::POST, ["v1", "runs", id, "resume"]) => going(&state, id, |run| {
            run.resume();
            Ok(())
        }),
        (&Method::POST, ["v1", "runs", id, "marks"]) => {
            let mark: MarkRequest = body.read()?;
            let id = state.borrow_mut().mark(id, &mark)?;
            json(&serde_json::json!({ "id": id }))
        }
        (_, ["v1", "runs", id, "steps", rest @ ..]) => {
            let asked = steps::Asked { id, rest, body, caller: &caller };
            steps::answer(&state, &method, asked).unwrap_or_else(|| Err(unknown(&method, &path)))
        }
        _ => Err(unknown(&method, &path)),
    }
}

fn unknown(method: &Method, path: &str) -> Problem {
    Problem::new(ProblemCode::NotFound, format!("there is no {method} {path}; see docs/control.md"))
}

/// What is looked at or planned, unless somebody stops what goes meanwhile: then it does not begin.
async fn unless_stopped<T>(
    state: &Shared,
    begins: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let stopped = state.borrow().stopped();
    tokio::select! {
        () = stopped.notified() => {
            let why = "`scalectl stop` came while this was planned: it has not begun; start it again if it is to go";
            Err(Problem::new(ProblemCode::Invalid, why))
        }
        begun = begins => begun,
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

fn going(state: &Shared, id: &str, act: impl FnOnce(&mut Supervisor) -> Result<(), Problem>) -> Answer {
    let mut state = state.borrow_mut();
    if let Some(flow) = state.flow(id) {
        let detail = format!("run {} is a Coder flow; it can be watched and stopped, not changed", flow.id);
        return Err(Problem::new(ProblemCode::Invalid, detail));
    }
    let Some(run) = state.run().filter(|run| id == "current" || run.id == id) else {
        return Err(not_going(id));
    };
    act(run)?;
    json(&serde_json::json!({ "id": run.id }))
}

/// The page without a report, for a caller that has the data: `kind=report|compare|find-max|live`.
fn shell(query: &str) -> Answer {
    let kind = query.split('&').find_map(|pair| pair.strip_prefix("kind=")).unwrap_or_default();
    page::shell(kind).map(html).ok_or_else(|| {
        Problem::new(
            ProblemCode::Invalid,
            "say which page: ?kind=report, ?kind=compare, ?kind=find-max or ?kind=live",
        )
    })
}

/// One JSON object a line, each second; the last is the report.
async fn events(state: &Shared, id: &str) -> Answer {
    let followed = state.borrow().follow(id)?;
    let (first, receiver) = match followed {
        Followed::Going(line, receiver) => (line, Some(receiver)),
        Followed::Ended(source) => (source.line().await?.into(), None),
    };
    let lines = unfold((Some(first), receiver), |(first, receiver)| async move {
        if let Some(line) = first {
            return Some((line_frame(&line), (None, receiver)));
        }
        let mut receiver = receiver?;
        loop {
            match receiver.recv().await {
                Ok(line) => {
                    let last = line.starts_with("{\"report\"");
                    return Some((line_frame(&line), (None, (!last).then_some(receiver))));
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

fn line_frame(line: &str) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data([line, "\n"].concat().into()))
}
