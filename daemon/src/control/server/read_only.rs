//! The metrics listener over TCP: `/metrics` for Prometheus, `/` for people, `/live` for what `/` shows.
//!
//! Nothing here changes anything, and no caller is asked who it is: who reaches the port may read. So a web page that a
//! browser on this host shows must not: answers say that no other origin may read or frame them, and a listener on a
//! loopback address answers only to that address's names, whatever name DNS has led a browser here by.

use std::net::IpAddr;

use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use scale_api::http::{Problem, ProblemCode};
use tokio::net::TcpListener;

use super::{ACCEPT_AGAIN, Answer, Body, Connections, Shared, content, html, problem, scrape, scrape_format};
use crate::control::live;
use crate::page;

/// What every answer says: it is of this moment and for this origin.
const HEADERS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    // A proxy that collects an answer before it hands it on would hold seconds back.
    ("x-accel-buffering", "no"),
];
const POLICY: HeaderName = HeaderName::from_static("content-security-policy");
/// Of the page, whose own words cannot say who may frame it.
const NO_FRAME: &str = "frame-ancestors 'none'";
/// Of answers that are no page.
const NO_PAGE: &str = "default-src 'none'; frame-ancestors 'none'";

/// Serves metrics and the live page until the task is dropped.
pub async fn read_only(state: Shared, listener: TcpListener) {
    let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    let connections = Connections::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        // A second's event is to be there within it, not when there are more of them.
        let _ = stream.set_nodelay(true);
        let state = state.clone();
        connections.serve(stream, move |request, seat| {
            // Nothing of a body is read: there is none to GET.
            seat.is_served();
            answer(state.clone(), request, is_loopback)
        });
    }
}

pub(super) async fn answer(state: Shared, request: Request<Incoming>, is_loopback: bool) -> Answer {
    let mut response = route(state, &request, is_loopback).await.unwrap_or_else(|why| refusal(&why));
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(POLICY).or_insert(HeaderValue::from_static(NO_PAGE));
    Ok(response)
}

async fn route(state: Shared, request: &Request<Incoming>, is_loopback: bool) -> Answer {
    if is_loopback && !names_this_host(request) {
        return Err(Problem::new(
            ProblemCode::WrongHost,
            "this listener is for this host alone: ask for it as localhost or 127.0.0.1 (a proxy before it: let it send such a Host)",
        ));
    }
    let path = request.uri().path();
    if !["/", "/live", "/metrics"].contains(&path) {
        return Err(Problem::new(ProblemCode::NotFound, "there are /, /live and /metrics, to GET"));
    }
    match (request.method(), path) {
        (&Method::GET | &Method::HEAD, "/") => Ok(live_page()),
        (&Method::GET | &Method::HEAD, "/metrics") => Ok(scrape(&state, scrape_format(request.headers()))),
        (&Method::GET, "/live") => live(&state).await,
        (&Method::HEAD, "/live") => Ok(content("", live::CONTENT_TYPE)),
        _ => Err(Problem::new(
            ProblemCode::MethodNotAllowed,
            "this listener only answers GET; scalectl changes things, over the control socket",
        )),
    }
}

fn refusal(why: &Problem) -> Response<Body> {
    let mut response = problem(why);
    if why.code == ProblemCode::MethodNotAllowed {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// Whether what the request asks for is a name of this host's loopback. Who sends no name at all is no browser.
fn names_this_host(request: &Request<Incoming>) -> bool {
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let mut names =
        authority.into_iter().chain(request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes));
    names.all(|name| std::str::from_utf8(name).is_ok_and(is_loopback_name))
}

/// `host` or `host:port`: RFC 6761 gives `localhost` and what is below it to loopback.
fn is_loopback_name(name: &str) -> bool {
    let host = match name.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => name.rsplit_once(':').map_or(name, |(host, _)| host),
    };
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn live_page() -> Response<Body> {
    let mut response = html(page::live());
    // The rest of its policy stands in the page.
    response.headers_mut().insert(POLICY, HeaderValue::from_static(NO_FRAME));
    response
}

/// One more page: it is told what goes on until it goes away.
async fn live(state: &Shared) -> Answer {
    let (frames, source) = state.borrow_mut().watch_live()?;
    let first = live::first(source).await?;
    let mut response = Response::new(StreamBody::new(live::follow(first, frames)).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(live::CONTENT_TYPE));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_loopback_are_this_host() {
        for name in [
            "localhost",
            "LOCALHOST:21112",
            "localhost.",
            "a.localhost:1",
            "127.0.0.1",
            "127.9.8.7:80",
            "[::1]:21112",
        ] {
            assert!(is_loopback_name(name), "{name}");
        }
        for name in [
            "",
            "evil.example",
            "evil.example:21112",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1:21112",
            "[2001:db8::1]",
            "notlocalhost",
            "0.0.0.0:21112",
        ] {
            assert!(!is_loopback_name(name), "{name}");
        }
    }
}
