//! One SSH connection: its socket, its session, and the streams that are its channels.
//!
//! A stream's [`Connection`](super::stack::Connection) is its path to the target; with SSH that is a
//! channel, and the socket below it is a link's, which several streams may share. Bytes go out in this
//! order: what the session has sealed, then messages, as far as their windows allow.
//!
//! Holds always: at most one send is under way; what is sealed first is sent first; a link keeps no
//! buffer between packets.

use scale_proto::Fault;
use scale_proto::ssh::{ChannelId, Client, Event, Received};
use scale_ring::{Socket, Time};

use crate::load::Random;

/// Where a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkPhase {
    /// TCP's handshake.
    Connecting,
    /// The server's identification is expected.
    Banner,
    /// The first keys are being exchanged.
    KeyExchange,
    /// A credential is being offered.
    Authentication,
    /// Channels come and go.
    Open,
    /// No stream uses it any more; what must still be said is on its way.
    Leaving,
    /// Close or abort is queued; the socket is the ring's.
    Ended,
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    /// Its socket.
    pub socket: Socket,
    /// Tells its completions from those of the slot's former users.
    pub generation: u32,
    /// Its streams' group.
    pub group: u8,
    /// Their target.
    pub target: u16,
    /// Their row of the endpoint table.
    pub endpoint: u32,
    /// Where it stands.
    pub phase: LinkPhase,
    /// When the present phase began.
    pub phase_began: Time,
    /// When something is to be done about it: see the worker's `link_expired`.
    pub deadline: Time,
    /// When its attempt fails.
    pub give_up: Time,
    /// The source port it holds.
    pub lease: Option<(u32, u16)>,
    /// Which of its addresses was tried last.
    pub address: u32,
    /// Addresses tried in this attempt.
    pub addresses_tried: u32,
    /// A send is under way.
    pub sending: bool,
    /// Nothing can be said on it any more.
    pub broken: bool,
    /// The session; from TCP's handshake on.
    pub client: Option<Box<Client>>,
    /// Bytes of an incomplete packet.
    pub carry: Vec<u8>,
    /// Sealed bytes to go out first.
    pub sealed: Vec<u8>,
    /// Connections that wait for authentication's end.
    pub pending: Vec<u32>,
    /// Connections by channel.
    pub channels: Vec<u32>,
    /// How many connections ride on it.
    pub riders: u32,
    /// Connections with a message that is not all sent, or a tick that waits.
    pub queue: Vec<u32>,
}

impl Link {
    /// No channel of this number.
    pub const NOBODY: u32 = u32::MAX;

    /// The connection whose channel it is.
    #[inline]
    pub fn rider(channels: &[u32], channel: ChannelId) -> Option<u32> {
        channels.get(channel as usize).copied().filter(|&index| index != Self::NOBODY)
    }

    /// `connection` has got its channel.
    pub fn seat(&mut self, channel: ChannelId, connection: u32) {
        let slot = channel as usize;
        if self.channels.len() <= slot {
            self.channels.resize(slot + 1, Self::NOBODY);
        }
        debug_assert_eq!(self.channels[slot], Self::NOBODY, "a channel is one stream's");
        self.channels[slot] = connection;
    }

    /// `connection` rides no more; `channel` is its channel, if it has one.
    pub fn unseat(&mut self, connection: u32, channel: Option<ChannelId>) {
        self.riders -= 1;
        match channel {
            Some(channel) => self.channels[channel as usize] = Self::NOBODY,
            None => self.pending.retain(|&other| other != connection),
        }
        self.queue.retain(|&other| other != connection);
    }

    /// Every connection that rides on it.
    pub fn all(&self) -> Vec<u32> {
        let seated = self.channels.iter().copied().filter(|&index| index != Self::NOBODY);
        self.pending.iter().copied().chain(seated).collect()
    }

    /// Whether a message may begin as far as the link goes; while keys are exchanged no channel has room.
    #[inline]
    pub fn is_free(&self) -> bool {
        !self.sending && self.phase == LinkPhase::Open
    }

    /// Takes what has arrived, opening it in place.
    ///
    /// # Errors
    /// What the peer did wrong; what must still be told it is in `sealed`.
    pub fn receive(
        client: &mut Client,
        carry: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
        data: &mut [u8],
        random: &mut Random,
        event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        let random = &mut || random.next();
        if carry.is_empty() {
            let Received { consumed } = client.receive(data, random, sealed, event)?;
            carry.extend_from_slice(&data[consumed..]);
            return Ok(());
        }
        carry.extend_from_slice(data);
        let Received { consumed } = client.receive(carry, random, sealed, event)?;
        if consumed == carry.len() {
            *carry = Vec::new(); // an idle link keeps nothing
        } else {
            carry.drain(..consumed);
        }
        Ok(())
    }
}
