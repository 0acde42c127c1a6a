//! The side that accepts. It takes any user: it is a counterpart for load, not a login.

use std::sync::Arc;

use super::keys::PrivateKey;
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
pub struct Server {}

#[expect(unused_variables, clippy::needless_pass_by_value, reason = "the shape comes first")]
impl Server {
    /// A connection that was accepted.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        panic!("the shape comes first")
    }

    /// See [`super::Client::start`].
    ///
    /// # Errors
    /// See there; so for all below.
    pub fn start(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        panic!("the shape comes first")
    }

    /// See [`super::Client::receive`]. Sessions with a program and `direct-tcpip` are accepted by
    /// themselves, and told by `Requested`.
    ///
    /// # Errors
    /// See there.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
        event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Received, Fault> {
        panic!("the shape comes first")
    }

    /// See [`super::Client::room`].
    pub fn room(&self, channel: ChannelId) -> usize {
        panic!("the shape comes first")
    }

    /// See [`super::Client::sealed_bytes_max`].
    pub fn sealed_bytes_max(&self, channel: ChannelId, payload: usize) -> usize {
        panic!("the shape comes first")
    }

    /// See [`super::Client::seal`].
    ///
    /// # Errors
    /// See there.
    pub fn seal(
        &mut self,
        channel: ChannelId,
        payload: usize,
        random: Random<'_>,
        out: &mut [u8],
        fill: &mut dyn FnMut(usize, &mut [u8]),
    ) -> Result<usize, Fault> {
        panic!("the shape comes first")
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
        panic!("the shape comes first")
    }

    /// See [`super::Client::disconnect`].
    ///
    /// # Errors
    /// See there.
    pub fn disconnect(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        panic!("the shape comes first")
    }

    /// What was settled on last.
    pub fn negotiated(&self) -> Option<Negotiated> {
        panic!("the shape comes first")
    }
}
