//! What both sides of a connection are: a transport with channels over it, and the order in which what
//! comes in is taken.

use std::sync::Arc;

use super::auth::Session;
use super::channel::Channels;
use super::message::{BY_APPLICATION, CHANNEL_DATA, is_known};
use super::transport::{Step, Transport};
use super::{ChannelId, Event, Purpose, Random, Received};
use crate::Fault;

/// Takes a payload that is to be sent.
pub(super) type Sender<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Fault>;
/// Takes what is told to the caller.
pub(super) type Listener<'a> = &'a mut dyn FnMut(Event<'_>);

/// CHANNEL_DATA before its bytes: number, channel, length.
const DATA_HEAD_BYTES: usize = 9;

/// How far one side has come, and what it makes of a message there.
pub(super) trait Phase {
    /// The first keys are in use.
    fn begin(&mut self, send: Sender<'_>) -> Result<(), Fault>;

    /// Authentication is behind it.
    fn is_connected(&self) -> bool;

    /// Takes a message with a known number that is not the same to both roles.
    fn receive(
        &mut self,
        payload: &[u8],
        session: &Session,
        channels: &mut Channels,
        send: Sender<'_>,
        event: Listener<'_>,
    ) -> Result<(), Fault>;
}

#[derive(Debug)]
pub(super) struct Connection {
    pub transport: Transport,
    pub channels: Channels,
    /// A side has disconnected, or the peer has broken the protocol: nothing more is taken or sent.
    over: bool,
}

impl Connection {
    pub const fn new(transport: Transport, channels: Channels) -> Self {
        Self { transport, channels, over: false }
    }

    /// Takes whole packets from the front of `input`.
    pub fn receive(
        &mut self,
        phase: &mut impl Phase,
        input: &mut [u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
        event: Listener<'_>,
    ) -> Result<Received, Fault> {
        let mut consumed = 0;
        while !self.over {
            let step = self.transport.next(&mut input[consumed..], &mut *random, out);
            let (bytes, step) = step.inspect_err(|_| self.over = true)?;
            let taken = match step {
                Step::Incomplete => return Ok(Received { consumed: consumed + bytes }),
                Step::Identified => {
                    event(Event::Identified(self.transport.peer_identification()));
                    Ok(())
                }
                Step::KeysExchanged { again: true } => Ok(()),
                Step::KeysExchanged { again: false } => {
                    event(Event::KeysExchanged(self.transport.negotiated().expect("keys are in use")));
                    self.with(random, out, |_, send| phase.begin(send))
                }
                Step::Payload(range) => self.payload(phase, &input[consumed..][range], random, out, event),
            };
            if let Err(fault) = taken {
                self.over = true;
                self.transport.say_why(&fault, random, out);
                return Err(fault);
            }
            consumed += bytes;
        }
        Ok(Received { consumed: input.len() })
    }

    #[inline]
    fn payload(
        &mut self,
        phase: &mut impl Phase,
        payload: &[u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
        event: Listener<'_>,
    ) -> Result<(), Fault> {
        let connected = phase.is_connected();
        if connected && self.with(random, out, |channels, send| channels.receive(payload, send, event))? {
            return Ok(());
        }
        if !is_known(payload[0]) {
            return self.transport.unimplemented(random, out);
        }
        let signatures = self.transport.server_sig_algs();
        let session = Session { id: *self.transport.session_id(), signatures };
        self.with(random, out, |channels, send| phase.receive(payload, &session, channels, send, event))
    }

    /// Has the channels say something.
    #[inline]
    fn with<T>(
        &mut self,
        random: Random<'_>,
        out: &mut Vec<u8>,
        act: impl FnOnce(&mut Channels, Sender<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let Self { transport, channels, .. } = self;
        act(channels, &mut |payload| transport.seal_payload(payload, &mut *random, out))
    }

    /// As [`Self::with`]; nothing after the end.
    pub fn say(
        &mut self,
        random: Random<'_>,
        out: &mut Vec<u8>,
        act: impl FnOnce(&mut Channels, Sender<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.over { Ok(()) } else { self.with(random, out, act) }
    }

    pub fn open(
        &mut self,
        purpose: Arc<Purpose>,
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<ChannelId, Fault> {
        if self.over {
            return Err(Fault::SshProtocol("the connection is over"));
        }
        self.with(random, out, |channels, send| channels.open(purpose, send))
    }

    #[inline]
    pub fn room(&self, channel: ChannelId) -> usize {
        if self.over || self.transport.is_exchanging() { 0 } else { self.channels.room(channel) }
    }

    #[inline]
    pub fn sealed_bytes_max(&self, channel: ChannelId, payload: usize) -> usize {
        let max = self.channels.data_bytes_max(channel);
        let packet = |bytes: usize| self.transport.sealed_bytes(DATA_HEAD_BYTES + bytes);
        let whole = if payload < max { 0 } else { payload / max * packet(max) };
        if payload.is_multiple_of(max) { whole } else { whole + packet(payload % max) }
    }

    #[inline]
    pub fn seal(
        &mut self,
        channel: ChannelId,
        payload: usize,
        random: Random<'_>,
        out: &mut [u8],
        fill: &mut dyn FnMut(usize, &mut [u8]),
    ) -> Result<usize, Fault> {
        let max = self.channels.data_bytes_max(channel);
        let peer = self.channels.take(channel, payload).to_be_bytes();
        let (mut from, mut sealed) = (0, 0);
        while from < payload {
            let bytes = max.min(payload - from);
            let place = &mut out[sealed..];
            sealed +=
                self.transport.seal_in_place(place, DATA_HEAD_BYTES + bytes, &mut *random, |packet| {
                    let (head, data) = packet.split_at_mut(DATA_HEAD_BYTES);
                    head[0] = CHANNEL_DATA;
                    head[1..5].copy_from_slice(&peer);
                    head[5..].copy_from_slice(&(bytes as u32).to_be_bytes());
                    fill(from, data);
                })?;
            from += bytes;
        }
        Ok(sealed)
    }

    /// Asks for new keys; not before the first ones, and not after the end.
    pub fn rekey(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let is_due = !self.over && self.transport.negotiated().is_some();
        if is_due { self.transport.request_rekey(random, out) } else { Ok(()) }
    }

    pub fn disconnect(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        self.transport.disconnect(BY_APPLICATION, "done", random, out)
    }
}
