//! From a request to a websocket: the handshake, and what goes wrong with the socket on purpose.

use scale_ring::Time;
use uuid::Uuid;

use super::deployment::Deployment;
use super::faults::Kind as Fault;
use super::message::{Request, Response};
use super::replicas::ledger::{Sort, Whose};
use super::seen::Wrong;
use super::socket::{Kind, Pings, SocketFaults, Upgrade};

impl Deployment {
    /// The 101, or what the websocket library answers to a handshake that it does not take.
    /// `workspace` is the one it leads to, for the faults and for whose it is.
    pub(super) fn upgrade(
        &mut self,
        now: Time,
        request: &Request,
        kind: Kind,
        workspace: Option<Uuid>,
    ) -> Response {
        let workspace = workspace.map(|id| &self.workspaces[&id]);
        let user =
            workspace.map_or_else(String::new, |workspace| self.users[&workspace.owner].username.clone());
        let workspace = workspace.map(|workspace| workspace.name.clone());
        let place = format!("{} {}", request.method, request.path);
        let refusal = if !request.header_has("Connection", "Upgrade") {
            Some((426, "WebSocket protocol violation: Connection header does not contain Upgrade"))
        } else if !request.is_upgrade() {
            Some((426, "WebSocket protocol violation: Upgrade header does not contain websocket"))
        } else if request.header("Sec-WebSocket-Version") != Some("13") {
            Some((400, "unsupported WebSocket protocol version (only 13 is supported)"))
        } else if request.header("Sec-WebSocket-Key").is_none() {
            Some((400, "WebSocket protocol violation: missing Sec-WebSocket-Key"))
        } else {
            None
        };
        if let Some((status, sentence)) = refusal {
            self.seen.wrong(Wrong::Handshake, format!("{place}: {sentence}"));
            let response = Response::text(status, sentence);
            return if status == 426 {
                response.with_header("Connection", "Upgrade").with_header("Upgrade", "websocket")
            } else {
                response
            };
        }
        if request.header("Sec-WebSocket-Protocol").is_some() {
            self.seen.wrong(Wrong::Subprotocol, place.as_str());
        }
        if request
            .header("Sec-WebSocket-Extensions")
            .is_some_and(|value| value.contains("permessage-deflate"))
        {
            self.seen.wrong(Wrong::Deflate, place);
        }
        let mut strike = |kind| {
            let asked = Some((request.method.as_str(), request.path.as_str()));
            let named = workspace.as_deref();
            let struck = self.faults.strike(&[kind], now, asked, named, &mut self.random);
            struck.map(|(_, rule)| rule.after_ns())
        };
        let faults = SocketFaults {
            no_pong: strike(Fault::NoPong).is_some(),
            stall_after_ns: strike(Fault::Stall).map(|after| after.unwrap_or(0)),
            reset_after_ns: strike(Fault::ResetLater).flatten(),
        };
        let version = self.settings.version;
        let (pings, message_bytes_max) = match &kind {
            Kind::Terminal(_) if version.closes_without_pong() => {
                (Pings::Strict, version.terminal_message_bytes_max())
            }
            Kind::Terminal(_) => (Pings::Lenient, version.terminal_message_bytes_max()),
            Kind::Logs(_) => (Pings::Lenient, Some(32_768)),
            Kind::App(_) | Kind::Text => (Pings::None, None),
        };
        let (sort, id) = match &kind {
            Kind::Terminal(attach) => (Sort::Terminal, attach.reconnect.to_string()),
            Kind::App(_) => (Sort::App, request.path.clone()),
            Kind::Logs(_) => (Sort::Log, request.path.clone()),
            Kind::Text => (Sort::Other, request.path.clone()),
        };
        let whose = Whose { sort, user, id };
        let sockets = &mut self.seen.sockets;
        *match &kind {
            Kind::Terminal(_) => &mut sockets.terminals,
            Kind::App(_) => &mut sockets.apps,
            Kind::Logs(_) => &mut sockets.logs,
            Kind::Text => &mut sockets.others,
        } += 1;
        self.seen.connections += 1;
        let accept =
            scale_proto::http::accept_key(request.header("Sec-WebSocket-Key").expect("just checked").trim());
        Response {
            upgrade: Some(Upgrade { kind, pings, message_bytes_max, faults, whose }),
            ..Response::empty(101)
        }
        .with_header("Upgrade", "websocket")
        .with_header("Connection", "Upgrade")
        .with_header("Sec-WebSocket-Accept", accept)
    }
}
