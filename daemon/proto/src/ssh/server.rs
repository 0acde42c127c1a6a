//! The side that accepts. It takes any user: it is a counterpart for load, not a login.

use std::sync::Arc;

use super::auth::{Accept, Session};
use super::channel::Channels;
use super::connection::{self, Connection, Listener, Sender};
use super::keys::PrivateKey;
use super::message::USERAUTH_REQUEST;
use super::transport::Transport;
use super::{Algorithms, ChannelId, Event, Exit, Negotiated, Random, Received, RekeyLimit};
use crate::Fault;

/// What all connections of a server have in common.
#[derive(Debug)]
pub struct ServerConfig {
    /// What is offered; host keys as far as there is a key.
    pub algorithms: Algorithms,
    /// At least one.
    pub host_keys: Vec<Arc<PrivateKey>>,
    /// When new keys are asked for.
    pub rekey: RekeyLimit,
    /// Each channel's window.
    pub window_bytes: u32,
    /// Whether `none` is enough; else any key or password is.
    pub none: bool,
    /// Sent before authentication ends.
    pub banner: Option<String>,
}

/// One side of a connection: as [`super::Client`], in the other role.
#[derive(Debug)]
pub struct Server {
    connection: Connection,
    phase: Phase,
}

#[derive(Debug)]
struct Phase {
    config: Arc<ServerConfig>,
    /// Until a client has authenticated.
    accept: Option<Box<Accept>>,
}

impl Server {
    /// A connection that was accepted.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        let transport = Transport::server(Arc::clone(&config));
        let channels = Channels::new(config.window_bytes);
        let phase = Phase { config, accept: Some(Box::default()) };
        Self { connection: Connection::new(transport, channels), phase }
    }

    /// See [`super::Client::start`].
    ///
    /// # Errors
    /// See there; so for all below.
    pub fn start(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.connection.transport.start(random, out)
    }

    /// See [`super::Client::receive`]. Sessions with a program and `direct-tcpip` are accepted by
    /// themselves, and told by `Requested`.
    ///
    /// # Errors
    /// See there.
    #[inline]
    pub fn receive(
        &mut self,
        input: &mut [u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
        event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Received, Fault> {
        self.connection.receive(&mut self.phase, input, random, out, event)
    }

    /// See [`super::Client::room`].
    #[inline]
    pub fn room(&self, channel: ChannelId) -> usize {
        self.connection.room(channel)
    }

    /// See [`super::Client::sealed_bytes_max`].
    #[inline]
    pub fn sealed_bytes_max(&self, channel: ChannelId, payload: usize) -> usize {
        self.connection.sealed_bytes_max(channel, payload)
    }

    /// See [`super::Client::seal`].
    ///
    /// # Errors
    /// See there.
    #[inline]
    pub fn seal(
        &mut self,
        channel: ChannelId,
        payload: usize,
        random: Random<'_>,
        out: &mut [u8],
        fill: &mut dyn FnMut(usize, &mut [u8]),
    ) -> Result<usize, Fault> {
        self.connection.seal(channel, payload, random, out, fill)
    }

    /// Ends a program: EOF, how it ended, CLOSE.
    ///
    /// # Errors
    /// See [`super::Client::end`].
    pub fn exit(
        &mut self,
        channel: ChannelId,
        exit: &Exit,
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.connection.say(random, out, |channels, send| channels.exit(channel, exit, send))
    }

    /// While `held`, the channel's peer gets no window back for what it sends, and so stops when it has
    /// used up what it has; when it is let go again, `out` has what is owed to it.
    ///
    /// # Errors
    /// See [`super::Client::end`].
    pub fn hold(
        &mut self,
        channel: ChannelId,
        held: bool,
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.connection.say(random, out, |channels, send| channels.hold(channel, held, send))
    }

    /// See [`super::Client::wants_rekey`].
    #[inline]
    pub fn wants_rekey(&self) -> bool {
        self.connection.transport.wants_rekey()
    }

    /// See [`super::Client::rekey`].
    ///
    /// # Errors
    /// See there.
    pub fn rekey(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.connection.rekey(random, out)
    }

    /// See [`super::Client::disconnect`].
    ///
    /// # Errors
    /// See there.
    pub fn disconnect(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.connection.disconnect(random, out)
    }

    /// What was settled on last.
    pub fn negotiated(&self) -> Option<Negotiated> {
        self.connection.transport.negotiated()
    }
}

impl connection::Phase for Phase {
    fn begin(&mut self, _send: Sender<'_>) -> Result<(), Fault> {
        Ok(()) // a client speaks first
    }

    fn is_connected(&self) -> bool {
        self.accept.is_none()
    }

    fn receive(
        &mut self,
        payload: &[u8],
        session: &Session,
        channels: &mut Channels,
        send: Sender<'_>,
        event: Listener<'_>,
    ) -> Result<(), Fault> {
        let Some(accept) = &mut self.accept else {
            // RFC 4252 §5.1: what a client had asked for beside what succeeded is ignored.
            let is_late = payload[0] == USERAUTH_REQUEST;
            return if is_late { Ok(()) } else { channels.receive_as_server(payload, send, event) };
        };
        let ServerConfig { none, banner, .. } = &*self.config;
        if accept.receive(payload, &session.id, *none, banner.as_deref(), send)? {
            self.accept = None;
            event(Event::Authenticated);
        }
        Ok(())
    }
}
