//! Both listeners without sockets, for property tests and fuzzing: bytes in, bytes out, through the real HTTP layer, its
//! limits and its router. What would look up a name, ask a deployment or read the host is only decoded.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use clap::Parser;
use hyper::body::Incoming;
use hyper::{Method, Request};
use scale_api::coder::{FlowRequest, TrafficRequest};
use scale_api::http::{DoctorRequest, StartRequest};
use scale_api::scenario::ScenarioRequest;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use super::body::{Room, Whole, body_of};
use super::seats::{Seat, Seats};
use super::{Answer, Shared, api, connection, json, read_only};
use crate::control::caller::Caller;
use crate::control::state::State;
use crate::run::store::Store;
use crate::run::targets::Targets;
use crate::run::workers::Engine;
use crate::settings::{Flags, Settings};

/// Bytes on their way in either direction.
const PIPE_BYTES: usize = 64 << 10;
/// The longest answers that are read.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// Which listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The control socket.
    Control,
    /// The metrics port.
    ReadOnly,
}

/// A daemon without a run.
pub struct Trial {
    runtime: tokio::runtime::Runtime,
    tasks: LocalSet,
    state: Shared,
    room: Room,
    seats: Seats,
}

impl Trial {
    /// One that keeps its runs, of which there are none, in `folder`.
    ///
    /// # Panics
    /// The folder, or a runtime, cannot be had.
    pub fn new(folder: PathBuf) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tasks = LocalSet::new();
        let path = |name: &str| folder.join(name).into_os_string();
        let flags = ["scaled", "--metrics", "off", "--config"].map(Into::into).into_iter();
        let flags = flags.chain([path("scaled.toml"), "--socket".into(), path("control.sock")]);
        let flags = flags.chain(["--state".into(), folder.clone().into_os_string()]);
        let flags = Flags::try_parse_from(flags).expect("flags of ours");
        let settings = Settings::decide(flags).expect("settings of ours");
        let store = Store::open(folder).expect("a folder");
        let engine = Engine { realtime: false, features: scale_ring::Features::ALL };
        let state = tasks.block_on(&runtime, async {
            Rc::new(RefCell::new(State::new(settings, Targets::default(), store, engine)))
        });
        Self { runtime, tasks, state, room: Room::default(), seats: Seats::default() }
    }

    /// What is answered to `bytes`, behind which the caller says no more.
    ///
    /// # Panics
    /// The listener does, or keeps a seat or room for a body.
    pub fn answers(&self, listener: Listener, bytes: &[u8]) -> Vec<u8> {
        let answers = self.tasks.block_on(&self.runtime, async {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            let (state, room) = (self.state.clone(), self.room.clone());
            self.seats.take(|seat| {
                connection(theirs, seat, move |request, seat| {
                    let (state, room) = (state.clone(), room.clone());
                    async move {
                        match listener {
                            Listener::Control => control(state, request, (&room, &seat)).await,
                            Listener::ReadOnly => look(state, request, &seat).await,
                        }
                    }
                })
            });
            let (from, mut to) = tokio::io::split(ours);
            let say = async {
                // It may have heard enough.
                let _ = to.write_all(bytes).await;
                let _ = to.shutdown().await;
                std::future::pending::<()>().await;
            };
            let mut answers = Vec::new();
            let mut from = from.take(ANSWER_BYTES_MAX);
            tokio::select! {
                () = say => {}
                heard = from.read_to_end(&mut answers) => drop(heard.expect("a pipe")),
            }
            answers
        });
        // What is left of the connection ends with its pipe.
        self.tasks.block_on(&self.runtime, async {
            while !self.seats.is_empty() {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(self.room.taken(), 0, "a body keeps its room");
        answers
    }
}

fn decoded<T>(_: T) -> Answer {
    json(&Value::Null)
}

async fn control(state: Shared, request: Request<Incoming>, place: (&Room, &Seat)) -> Answer {
    let is_post = request.method() == Method::POST;
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (is_post, &parts[..]) {
        (true, ["v1", "runs"]) => decoded(whole(request, place).await?.read::<StartRequest>()?),
        (true, ["v1", "doctor"]) => decoded(whole(request, place).await?.read::<DoctorRequest>()?),
        (true, ["v1", "coder"]) => decoded(whole(request, place).await?.read::<FlowRequest>()?),
        (true, ["v1", "coder", "scenario"]) => {
            decoded(whole(request, place).await?.read::<ScenarioRequest>()?)
        }
        (true, ["v1", "coder", "traffic"]) => decoded(whole(request, place).await?.read::<TrafficRequest>()?),
        (false, ["v1", "doctor"]) => decoded(whole(request, place).await?),
        _ => {
            api::answer(
                state,
                request,
                Caller { pid: 0, uid: u32::MAX, gid: u32::MAX, groups: [].into() },
                place,
            )
            .await
        }
    }
}

async fn whole(
    request: Request<Incoming>,
    (room, seat): (&Room, &Seat),
) -> Result<Whole, scale_api::http::Problem> {
    let whole = body_of(request.into_body(), room).await?;
    seat.is_served();
    Ok(whole)
}

async fn look(state: Shared, request: Request<Incoming>, seat: &Seat) -> Answer {
    seat.is_served();
    // That one has no end.
    if request.uri().path() == "/live" {
        return json(&Value::Null);
    }
    read_only::answer(state, request, true).await
}
