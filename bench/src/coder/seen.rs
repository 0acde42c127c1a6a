//! What the deployment has seen: requests, what was made and left, and what clients did wrong.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::replicas::ledger::Break;

/// Something that a right client does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// The path begins with `//`: the dashboard answers.
    DoubleSlash,
    /// `Origin` was sent.
    Origin,
    /// Cookie and header carry different tokens.
    CookieHeaderMismatch,
    /// A change with a cookie alone, without its CSRF token.
    CsrfMissing,
    /// The bypass header from somebody who is no owner.
    BypassWithoutOwner,
    /// A body that is no JSON object.
    Body,
    /// An upgrade that breaks RFC 6455 §4.
    Handshake,
    /// `Sec-WebSocket-Protocol` on a route that has none.
    Subprotocol,
    /// `permessage-deflate` was offered.
    Deflate,
    /// `reconnect` is missing or is no UUID.
    Reconnect,
    /// Frames that break RFC 6455 §5.
    Frame,
    /// A text frame where bytes are read, or the other way round.
    Opcode,
    /// A terminal's message above 32 KiB, which versions before v2.19 do not take.
    MessageTooBig,
    /// A terminal's input that is no JSON of the right shape.
    Input,
    /// A ping without its pong.
    PongMissing,
    /// Our Close was not answered.
    CloseUnanswered,
    /// Something was said on a websocket that only listens.
    SpokeOnLogs,
}

/// What was done wrong, how often, and the first few places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientError {
    /// What.
    pub kind: Wrong,
    /// How often.
    pub count: u64,
    /// The first [`ClientError::EXAMPLES_MAX`].
    pub examples: Vec<String>,
}

impl ClientError {
    /// Examples that are kept of each kind.
    pub const EXAMPLES_MAX: usize = 8;
}

/// Of one replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Replica {
    /// Connections that were accepted.
    pub connections: u64,
    /// Requests that were answered.
    pub requests: u64,
}

/// Made, deleted, and still there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Things {
    /// By requests.
    pub made: u64,
    /// By requests.
    pub deleted: u64,
    /// Made and not deleted.
    pub left: u64,
}

/// How builds ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Builds {
    /// Queued.
    pub made: u64,
    /// Ended well.
    pub succeeded: u64,
    /// Ended badly.
    pub failed: u64,
    /// Ended early.
    pub canceled: u64,
}

/// Websockets and what went over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sockets {
    /// Terminals that were attached.
    pub terminals: u64,
    /// Processes that were started for them.
    pub sessions: u64,
    /// Apps.
    pub apps: u64,
    /// Build logs that were followed.
    pub logs: u64,
    /// Others.
    pub others: u64,
    /// Bytes typed into terminals, JSON and frames apart.
    pub typed_bytes: u64,
}

/// Where tokens were found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Credentials {
    /// In the cookie.
    pub cookie: u64,
    /// In the query.
    pub query: u64,
    /// In `Coder-Session-Token`.
    pub header: u64,
    /// In `Authorization`.
    pub bearer: u64,
}

/// Everything, as it is printed at the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Seen {
    /// Websockets that were opened: the sink's own word.
    pub connections: u64,
    /// Messages that came.
    pub messages_received: u64,
    /// Messages that went.
    pub messages_sent: u64,
    /// Payload of the messages that came.
    pub payload_bytes_received: u64,
    /// Payload of the messages that went.
    pub payload_bytes_sent: u64,
    /// What was played.
    pub version: String,
    /// By number.
    pub replicas: Vec<Replica>,
    /// What was done to replicas, and whom it struck.
    pub breaks: Vec<Break>,
    /// By endpoint and status.
    pub requests: BTreeMap<String, BTreeMap<u16, u64>>,
    /// Where tokens were found.
    pub credentials: Credentials,
    /// Users.
    pub users: Things,
    /// Workspaces.
    pub workspaces: Things,
    /// Builds.
    pub builds: Builds,
    /// Websockets.
    pub sockets: Sockets,
    /// How often each rule of the faults struck.
    pub faults: Vec<u64>,
    /// What clients did wrong; empty where they did nothing wrong.
    pub client_errors: Vec<ClientError>,
}

impl Seen {
    /// Notes something wrong.
    pub fn wrong(&mut self, kind: Wrong, place: impl Into<String>) {
        let at = match self.client_errors.binary_search_by_key(&kind, |error| error.kind) {
            Ok(at) => at,
            Err(at) => {
                self.client_errors.insert(at, ClientError { kind, count: 0, examples: Vec::new() });
                at
            }
        };
        let error = &mut self.client_errors[at];
        error.count += 1;
        if error.examples.len() < ClientError::EXAMPLES_MAX {
            error.examples.push(place.into());
        }
    }

    pub(super) fn request(&mut self, replica: u16, endpoint: String, status: u16) {
        self.replicas[usize::from(replica)].requests += 1;
        *self.requests.entry(endpoint).or_default().entry(status).or_default() += 1;
    }
}
