//! Channels: their numbers, their windows and how they end (RFC 4254), the same for both roles.
//!
//! Opening and requests differ: `open` is the client's side, `accept` the server's.
//!
//! Holds always: a peer gets back the window of what it has sent, once half of it is used; what goes
//! beyond a window, or to a channel that is not there, ends the connection.

mod accept;
mod open;

use std::sync::Arc;

use super::connection::{Listener, Sender};
use super::message::{
    CHANNEL_CLOSE, CHANNEL_DATA, CHANNEL_EOF, CHANNEL_EXTENDED_DATA, CHANNEL_REQUEST, CHANNEL_WINDOW_ADJUST,
    GLOBAL_REQUEST, REQUEST_FAILURE,
};
use super::wire::{Reader, Write as _};
use super::{ChannelId, Event, Purpose};
use crate::Fault;

/// Channels of one connection.
pub const CHANNELS_MAX: usize = 1024;
/// Bytes of one data message, in either direction: with its packet it stays below
/// [`super::PACKET_BYTES_MAX`].
pub(super) const DATA_BYTES_MAX: u32 = 32 << 10;

#[derive(Debug)]
enum State {
    /// A client has asked for it; without a purpose it is closed as soon as it is there.
    Opening(Option<Arc<Purpose>>),
    /// A client: it is there, its program asked for.
    Starting,
    /// A server: it is there, and no program has been asked for.
    Preparing(Box<accept::Preparation>),
    Open,
    /// This side has closed it; whether the caller knows that it is gone.
    Closing {
        told: bool,
    },
}

#[derive(Debug)]
struct Channel {
    /// The peer's number.
    peer: u32,
    /// Bytes that this side may send.
    send_window: u32,
    /// Bytes of one message that the peer takes.
    send_max: u32,
    /// Bytes that the peer may send.
    receive_window: u32,
    /// Requests that the peer has not answered.
    unanswered: u8,
    /// This side sends no more data.
    ended: bool,
    /// The peer sends no more data.
    peer_ended: bool,
    /// The peer gets no window back for now.
    held: bool,
    /// How the program ended was told.
    exited: bool,
    /// Not a forwarding: it has a program.
    is_session: bool,
    state: State,
}

impl Channel {
    const fn new(receive_window: u32, is_session: bool, state: State) -> Self {
        Self {
            peer: 0,
            send_window: 0,
            send_max: 0,
            receive_window,
            unanswered: 0,
            ended: false,
            peer_ended: false,
            held: false,
            exited: false,
            is_session,
            state,
        }
    }

    /// The peer has said its number and what it takes.
    fn confirm(&mut self, peer: u32, window: u32, packet: u32) -> Result<(), Fault> {
        if packet == 0 {
            return Err(Fault::SshProtocol("a channel takes packets of no bytes"));
        }
        (self.peer, self.send_window, self.send_max) = (peer, window, packet.min(DATA_BYTES_MAX));
        Ok(())
    }

    const fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    /// A message that says nothing but its number and the channel.
    fn send(&self, number: u8, send: Sender<'_>) -> Result<(), Fault> {
        let mut payload = [number, 0, 0, 0, 0];
        payload[1..].copy_from_slice(&self.peer.to_be_bytes());
        send(&payload)
    }

    /// A request's beginning.
    fn request(&self, name: &str, wants_reply: bool) -> Vec<u8> {
        let mut payload = vec![CHANNEL_REQUEST];
        payload.put_uint32(self.peer);
        payload.put_string(name);
        payload.put_boolean(wants_reply);
        payload
    }

    fn end(&mut self, send: Sender<'_>) -> Result<(), Fault> {
        if !std::mem::replace(&mut self.ended, true) {
            self.send(CHANNEL_EOF, send)?;
        }
        Ok(())
    }

    fn close(&mut self, told: bool, send: Sender<'_>) -> Result<(), Fault> {
        self.ended = true;
        self.state = State::Closing { told };
        self.send(CHANNEL_CLOSE, send)
    }

    /// Takes bytes off the peer's window.
    #[inline]
    fn account(&mut self, bytes: usize, window: u32, send: Sender<'_>) -> Result<(), Fault> {
        if self.peer_ended {
            return Err(Fault::SshProtocol("data behind a channel's end"));
        }
        if bytes > DATA_BYTES_MAX as usize {
            return Err(Fault::SshProtocol("more data in a packet than this side takes"));
        }
        let left = self.receive_window.checked_sub(bytes as u32);
        self.receive_window = left.ok_or(Fault::SshProtocol("more data than the window allows"))?;
        self.give_back(window, send)
    }

    /// Gives the peer its window back when half of it is used up.
    #[inline]
    fn give_back(&mut self, window: u32, send: Sender<'_>) -> Result<(), Fault> {
        let used = window - self.receive_window;
        if used == 0 || used < window.div_ceil(2) || self.held || self.peer_ended || self.is_closing() {
            return Ok(());
        }
        self.receive_window = window;
        let mut payload = [CHANNEL_WINDOW_ADJUST, 0, 0, 0, 0, 0, 0, 0, 0];
        payload[1..5].copy_from_slice(&self.peer.to_be_bytes());
        payload[5..].copy_from_slice(&used.to_be_bytes());
        send(&payload)
    }
}

/// A connection's channels. Most connections have one: it lies in here.
#[derive(Debug)]
pub(super) struct Channels {
    /// What a peer may send on a channel before it has to wait.
    window_bytes: u32,
    first: Option<Channel>,
    more: Vec<Option<Channel>>,
}

impl Channels {
    pub const fn new(window_bytes: u32) -> Self {
        Self { window_bytes, first: None, more: Vec::new() }
    }

    /// Those that the caller knows of.
    pub fn count(&self) -> usize {
        let all = self.first.iter().chain(self.more.iter().flatten());
        all.filter(|channel| !matches!(channel.state, State::Closing { told: true })).count()
    }

    #[inline]
    fn slot(&self, id: ChannelId) -> Option<&Channel> {
        match (id as usize).checked_sub(1) {
            None => self.first.as_ref(),
            Some(index) => self.more.get(index)?.as_ref(),
        }
    }

    #[inline]
    fn slot_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        match (id as usize).checked_sub(1) {
            None => self.first.as_mut(),
            Some(index) => self.more.get_mut(index)?.as_mut(),
        }
    }

    /// Under the lowest number that is free; `None`: there are [`CHANNELS_MAX`].
    fn insert(&mut self, channel: Channel) -> Option<ChannelId> {
        if self.first.is_none() {
            self.first = Some(channel);
            return Some(0);
        }
        let free = self.more.iter().position(Option::is_none);
        let index = free.unwrap_or(self.more.len());
        if index + 1 >= CHANNELS_MAX {
            return None;
        }
        match free {
            Some(_) => self.more[index] = Some(channel),
            None => self.more.push(Some(channel)),
        }
        Some(index as ChannelId + 1)
    }

    /// Both sides have closed it: its number is free again.
    fn remove(&mut self, id: ChannelId) {
        match (id as usize).checked_sub(1) {
            None => self.first = None,
            Some(index) => self.more[index] = None,
        }
        while let Some(None) = self.more.last() {
            self.more.pop();
        }
        if self.more.is_empty() {
            self.more = Vec::new();
        }
    }

    /// The one that a message of the peer is about.
    #[inline]
    fn confirmed(&mut self, reader: &mut Reader<'_>) -> Result<(ChannelId, &mut Channel), Fault> {
        let id = reader.uint32()?;
        self.confirmed_as(id).map(|channel| (id, channel))
    }

    /// One that the peer may speak of: it knows those whose number it was told.
    #[inline]
    fn confirmed_as(&mut self, id: ChannelId) -> Result<&mut Channel, Fault> {
        match self.slot_mut(id) {
            Some(channel) if !matches!(channel.state, State::Opening(_)) => Ok(channel),
            _ => Err(Fault::SshProtocol("a message for a channel that is not there")),
        }
    }

    /// While it is held a channel's peer gets no window back; then it gets what is owed.
    pub fn hold(&mut self, id: ChannelId, held: bool, send: Sender<'_>) -> Result<(), Fault> {
        let window = self.window_bytes;
        let Some(channel) = self.slot_mut(id) else { return Ok(()) };
        channel.held = held;
        channel.give_back(window, send)
    }

    /// Payload bytes that may go now.
    #[inline]
    pub fn room(&self, id: ChannelId) -> usize {
        match self.slot(id) {
            Some(channel) if matches!(channel.state, State::Open) && !channel.ended => {
                channel.send_window as usize
            }
            _ => 0,
        }
    }

    /// Bytes of one data message that the peer takes.
    #[inline]
    pub fn data_bytes_max(&self, id: ChannelId) -> usize {
        match self.slot(id) {
            Some(channel) if channel.send_max > 0 => channel.send_max as usize,
            _ => DATA_BYTES_MAX as usize,
        }
    }

    /// Takes `bytes` off the window, at most [`Self::room`], and returns the peer's number.
    #[inline]
    pub fn take(&mut self, id: ChannelId, bytes: usize) -> u32 {
        assert!(bytes <= self.room(id), "channel {id} has room for fewer than {bytes} bytes");
        let channel = self.slot_mut(id).expect("a channel with room");
        channel.send_window -= bytes as u32;
        channel.peer
    }

    /// Takes a message of the connection protocol that means the same to both roles; whether it was one.
    ///
    /// # Errors
    /// `SshProtocol`.
    #[inline]
    pub fn receive(&mut self, payload: &[u8], send: Sender<'_>, event: Listener<'_>) -> Result<bool, Fault> {
        let mut reader = Reader::new(payload);
        match reader.byte()? {
            CHANNEL_DATA => {
                let window = self.window_bytes;
                let (channel, state) = self.confirmed(&mut reader)?;
                let bytes = reader.string()?;
                reader.end()?;
                state.account(bytes.len(), window, send)?;
                if !state.is_closing() {
                    event(Event::Data { channel, bytes });
                }
            }
            CHANNEL_EXTENDED_DATA => self.extended_data(reader, send, event)?,
            CHANNEL_WINDOW_ADJUST => {
                let (_, state) = self.confirmed(&mut reader)?;
                let window = state.send_window.checked_add(reader.uint32()?);
                reader.end()?;
                state.send_window = window.ok_or(Fault::SshProtocol("a window beyond 2^32 - 1 bytes"))?;
            }
            CHANNEL_EOF => self.ended(reader, event)?,
            CHANNEL_CLOSE => self.closed(reader, send, event)?,
            GLOBAL_REQUEST => global_request(reader, send)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn extended_data(
        &mut self,
        mut reader: Reader<'_>,
        send: Sender<'_>,
        event: Listener<'_>,
    ) -> Result<(), Fault> {
        let window = self.window_bytes;
        let (channel, state) = self.confirmed(&mut reader)?;
        let (_kind, bytes) = (reader.uint32()?, reader.string()?);
        reader.end()?;
        state.account(bytes.len(), window, send)?;
        if !state.is_closing() {
            event(Event::ExtendedData { channel, bytes });
        }
        Ok(())
    }

    fn ended(&mut self, mut reader: Reader<'_>, event: Listener<'_>) -> Result<(), Fault> {
        let (channel, state) = self.confirmed(&mut reader)?;
        reader.end()?;
        if std::mem::replace(&mut state.peer_ended, true) {
            return Err(Fault::SshProtocol("a channel ends twice"));
        }
        if !state.is_closing() {
            event(Event::Ended(channel));
        }
        Ok(())
    }

    /// The peer's CLOSE is its last message about the channel.
    fn closed(&mut self, mut reader: Reader<'_>, send: Sender<'_>, event: Listener<'_>) -> Result<(), Fault> {
        let (channel, state) = self.confirmed(&mut reader)?;
        reader.end()?;
        let told = matches!(state.state, State::Closing { told: true });
        if !state.is_closing() {
            state.close(false, send)?;
        }
        self.remove(channel);
        if !told {
            event(Event::Closed(channel));
        }
        Ok(())
    }

    /// This side sends no more data on it.
    pub fn end(&mut self, id: ChannelId, send: Sender<'_>) -> Result<(), Fault> {
        match self.slot_mut(id) {
            Some(channel) if matches!(channel.state, State::Starting | State::Open) => channel.end(send),
            _ => Ok(()),
        }
    }

    /// Closes it; one that the peer has not confirmed is closed when it has.
    pub fn close(&mut self, id: ChannelId, send: Sender<'_>) -> Result<(), Fault> {
        match self.slot_mut(id) {
            None | Some(Channel { state: State::Closing { .. }, .. }) => Ok(()),
            Some(Channel { state: State::Opening(purpose), .. }) => {
                *purpose = None;
                Ok(())
            }
            Some(channel) => channel.close(false, send),
        }
    }
}

/// RFC 4254 §4. None is served: OpenSSH's `hostkeys-00` and `no-more-sessions` want no answer, its
/// `keepalive` is content with any, and gets the one that OpenSSH gives.
fn global_request(mut reader: Reader<'_>, send: Sender<'_>) -> Result<(), Fault> {
    let (_name, wants_reply) = (reader.string()?, reader.boolean()?);
    if wants_reply { send(&[REQUEST_FAILURE]) } else { Ok(()) }
}
