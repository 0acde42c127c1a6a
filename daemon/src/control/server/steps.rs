//! A scenario's steps over the control socket: how they stand, who is attached, what is taken and what came of it.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::stream::unfold;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response};
use scale_api::scenario::taken::{ClaimRequest, Claimed, Offer, ResultRequest};

use super::body::Whole;
use super::{Answer, Shared, json};
use crate::control::caller::Caller;
use crate::control::coder::scenario::hands;

/// Who is attached is told something this often, so that it is known soon when nobody reads any more.
const SAID_EVERY: Duration = Duration::from_secs(1);

/// A request about steps.
pub struct Asked<'a> {
    /// The run.
    pub id: &'a str,
    /// What of the path comes behind `steps`.
    pub rest: &'a [&'a str],
    pub body: Whole,
    pub caller: &'a Caller,
}

/// The answer; `None`: there is no such request.
pub fn answer(state: &Shared, method: &Method, asked: Asked<'_>) -> Option<Answer> {
    let Asked { id, rest, body, caller } = asked;
    let number = |text: &str| text.parse::<u32>().ok();
    Some(match (method, rest) {
        (&Method::GET, []) => hands::list(state, id).and_then(|list| json(&list)),
        (&Method::GET, ["due"]) => due(state, id),
        (&Method::POST, [step, "claim"]) => {
            let number = number(step)?;
            let claim = |request: ClaimRequest| hands::claim(state, (id, number), request, caller);
            body.read().and_then(claim).and_then(|()| json(&Claimed { number }))
        }
        (&Method::POST, [step, "result"]) => {
            let number = number(step)?;
            let take = |request: ResultRequest| hands::answer(state, (id, number), request);
            body.read().and_then(take).and_then(|()| json(&Claimed { number }))
        }
        _ => return None,
    })
}

/// One [`Offer`] a line; its reader is attached.
fn due(state: &Shared, id: &str) -> Answer {
    let hand = hands::attach(state, id)?;
    let lines = unfold(hand, |mut hand| async move {
        let offer = hand.told(SAID_EVERY).await?;
        Some((Ok::<_, Infallible>(Frame::data(line(offer).into())), hand))
    });
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

fn line(offer: Offer) -> String {
    serde_json::to_string(&offer).expect("plain fields") + "\n"
}
