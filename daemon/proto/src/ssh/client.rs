//! The side that connects.

use std::sync::Arc;

use super::auth::{Prove, Session};
use super::channel::Channels;
use super::connection::{self, Connection, Listener, Sender};
use super::keys::{Certificate, HostKeys, PrivateKey, Secret};
use super::message::WRONG_PHASE;
use super::transport::Transport;
use super::{Algorithms, ChannelId, Event, Negotiated, Purpose, Random, Received, RekeyLimit};
use crate::Fault;

/// What all connections of a group have in common.
#[derive(Debug)]
pub struct ClientConfig {
    /// What is offered.
    pub algorithms: Algorithms,
    /// Which servers are believed.
    pub host_keys: HostKeys,
    /// When new keys are asked for.
    pub rekey: RekeyLimit,
    /// Each channel's window: bytes that a peer may send before it has to wait.
    pub window_bytes: u32,
    /// For certificates: now, in seconds since 1970.
    pub unix_s: u64,
}

/// Who logs in, and by what.
#[derive(Debug)]
pub struct Login {
    /// The name.
    pub user: String,
    /// In the order in which they are tried, as far as the server says that they can help; `none` comes
    /// before them all.
    pub credentials: Vec<Credential>,
}

/// What proves a user.
#[derive(Debug)]
pub enum Credential {
    /// `publickey`, with the certificate for the key where there is one.
    Key {
        /// Signs.
        key: Arc<PrivateKey>,
        /// OpenSSH's user certificate.
        certificate: Option<Arc<Certificate>>,
    },
    /// `password`, and the answer to the one hidden prompt of `keyboard-interactive`.
    Password(Secret),
}

/// One side of a connection.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Until the first keys.
    Keys(Arc<Login>),
    Proving(Box<Prove>),
    Connected,
}

impl Client {
    /// A connection to the server known as `host` and `port`.
    pub fn new(config: Arc<ClientConfig>, login: Arc<Login>, host: Arc<str>, port: u16) -> Self {
        let transport = Transport::client(Arc::clone(&config), host, port);
        let channels = Channels::new(config.window_bytes);
        Self { connection: Connection::new(transport, channels), phase: Phase::Keys(login) }
    }

    /// Appends what is said first.
    ///
    /// # Errors
    /// `SshKex` where no key can be made.
    pub fn start(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.connection.transport.start(random, out)
    }

    /// Takes whole packets from the front of `input`, opening them in place. What is to be sent in
    /// answer is appended to `out`, sealed: it goes before anything that is sealed later.
    /// `input[consumed..]` is to be shown again with more bytes behind it.
    ///
    /// # Errors
    /// What the peer did wrong; the DISCONNECT that tells it is in `out`, nothing more is taken.
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

    /// Opens a channel; to be called after `Authenticated`. While keys are exchanged it waits in here.
    ///
    /// # Errors
    /// `SshProtocol` where there are [`super::CHANNELS_MAX`], the connection is over, or keys are used up.
    pub fn open(
        &mut self,
        purpose: Arc<Purpose>,
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<ChannelId, Fault> {
        assert!(matches!(self.phase, Phase::Connected), "a channel is opened before authentication");
        self.connection.open(purpose, random, out)
    }

    /// Payload bytes that may go on the channel now: 0 while keys are exchanged or the window is closed.
    #[inline]
    pub fn room(&self, channel: ChannelId) -> usize {
        self.connection.room(channel)
    }

    /// Whether keys are being exchanged.
    pub fn is_exchanging(&self) -> bool {
        self.connection.transport.is_exchanging()
    }

    /// Bytes that `payload` bytes may have when sealed in as many packets as they need.
    #[inline]
    pub fn sealed_bytes_max(&self, channel: ChannelId, payload: usize) -> usize {
        self.connection.sealed_bytes_max(channel, payload)
    }

    /// Writes data packets for `payload` bytes, at most [`Self::room`], to the front of `out`, and
    /// returns their bytes; `fill(from, to)` writes the payload from its byte `from` on, each piece
    /// where it will be sealed. `out` needs [`Self::sealed_bytes_max`].
    ///
    /// # Errors
    /// `SshProtocol` where keys are used up.
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

    /// Says that no more data follows on the channel (EOF). A channel that is gone takes no orders, and is no
    /// error; so for those below.
    ///
    /// # Errors
    /// `SshProtocol` where keys are used up; so for those below.
    pub fn end(&mut self, channel: ChannelId, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.connection.say(random, out, |channels, send| channels.end(channel, send))
    }

    /// Sends the channel's program a signal, named without `SIG`.
    ///
    /// # Errors
    /// See [`Self::end`].
    pub fn signal(
        &mut self,
        channel: ChannelId,
        name: &str,
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.connection.say(random, out, |channels, send| channels.signal(channel, name, send))
    }

    /// Closes the channel; `Closed` follows when the peer has, too, and nothing else comes of it until then.
    ///
    /// # Errors
    /// See [`Self::end`].
    pub fn close(&mut self, channel: ChannelId, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.connection.say(random, out, |channels, send| channels.close(channel, send))
    }

    /// Ends the connection: DISCONNECT by application.
    ///
    /// # Errors
    /// See [`Self::end`].
    pub fn disconnect(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.connection.disconnect(random, out)
    }

    /// Whether [`RekeyLimit`] is reached: [`Self::rekey`] is due. What is received, and every message but
    /// data, sees to it by itself; who seals much data and receives nothing asks.
    #[inline]
    pub fn wants_rekey(&self) -> bool {
        self.connection.transport.wants_rekey()
    }

    /// Asks for new keys, where none are being exchanged.
    ///
    /// # Errors
    /// `SshKex` where no key can be made.
    pub fn rekey(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.connection.rekey(random, out)
    }

    /// What was settled on last.
    pub fn negotiated(&self) -> Option<Negotiated> {
        self.connection.transport.negotiated()
    }

    /// Channels that are there.
    pub fn channels(&self) -> usize {
        self.connection.channels.count()
    }
}

impl connection::Phase for Phase {
    fn begin(&mut self, send: Sender<'_>) -> Result<(), Fault> {
        if let Self::Keys(login) = self {
            *self = Self::Proving(Box::new(Prove::start(Arc::clone(login), send)?));
        }
        Ok(())
    }

    fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }

    fn receive(
        &mut self,
        payload: &[u8],
        session: &Session,
        channels: &mut Channels,
        send: Sender<'_>,
        event: Listener<'_>,
    ) -> Result<(), Fault> {
        match self {
            Self::Keys(_) => Err(WRONG_PHASE),
            Self::Proving(prove) => {
                if prove.receive(payload, session, send)? {
                    *self = Self::Connected;
                    event(Event::Authenticated);
                }
                Ok(())
            }
            Self::Connected => channels.receive_as_client(payload, send, event),
        }
    }
}
