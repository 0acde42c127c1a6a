//! One connection: layers stacked up (TCP, TLS, HTTP upgrade, websocket) and what goes out next.
//!
//! Bytes and randomness go in, payload and progress come out; the worker owns the socket and the
//! deadlines. What is to be sent waits in this order: sealed handshake bytes, the upgrade
//! request, the message under way, control frames. A control frame never cuts a message's frame.
//!
//! Holds always: at most one send is under way; nothing queues without bound (handshake bytes
//! are bounded by TLS, control frames by the session, messages are at most one).

use std::sync::Arc;

use scale_proto::coder::{self, Alignment, Marker, State, Text};
use scale_proto::ssh::ChannelId;
use scale_proto::tls::Tls;
use scale_proto::{Fault, http, ws};
use scale_ring::{Kept, Ring, SendBuffer, Socket, Time};

use crate::load::{Endpoint, Group, Payload, Protocol, Random, Terminal};

use super::class::Class;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// TCP's handshake.
    Connecting,
    /// TLS' handshake.
    Tls,
    /// Upgrade request sent; 101 is expected.
    Upgrading,
    /// A web terminal: 101 has come, a marker is typed, its echo is expected.
    Aligning,
    /// Messages flow.
    Open,
    /// We are closing in order; the peer's answer or end is expected.
    Closing,
    /// Its stream has lost it; what must still be said waits for the send that is under way.
    Leaving,
    /// Close or abort is queued; the socket is the ring's.
    Ended,
}

impl Phase {
    /// Whether the stream is not open yet.
    pub const fn is_opening(self) -> bool {
        matches!(self, Self::Connecting | Self::Tls | Self::Upgrading | Self::Aligning)
    }
}

/// What an input brought besides payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// TLS' handshake has finished.
    pub secured: bool,
    /// 101 has come, and the stream is not yet open: its terminal has still to say something.
    pub upgraded: bool,
    /// The terminal's first byte has come.
    pub greeted: bool,
    /// The stream is open: messages may go.
    pub opened: bool,
    /// Both sides have closed the websocket; by us first, or by the peer.
    pub closed: Option<ClosedBy>,
    /// The peer will send no more (TLS' close_notify).
    pub peer_ended: bool,
}

/// Who closed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    /// This side.
    Us,
    /// The peer.
    Peer {
        /// Its code, where it gave one.
        code: Option<u16>,
    },
}

/// A message on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// Its place in the payload.
    pub place: u32,
    /// Its bytes.
    pub bytes: u32,
    /// Bytes handed over so far.
    pub position: u32,
    mask: [u8; 4],
    /// It goes as the payload has it: what its mask makes of that is as good.
    plain: bool,
    /// Whether it is the first message rather than a tick's.
    pub first: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// Its socket.
    pub socket: Socket,
    /// Tells its completions from those of the slot's former users.
    pub generation: u32,
    /// Its stream's index.
    pub stream: u32,
    /// Its row of the endpoint table.
    pub endpoint: u32,
    /// Where it stands.
    pub phase: Phase,
    /// When the attempt began: its first packet.
    pub began: Time,
    /// When the present phase began.
    pub phase_began: Time,
    /// When it fails if the phase has not ended.
    pub deadline: Time,
    /// The source port it holds: see the worker's ports.
    pub lease: Option<(u32, u16)>,
    /// Which of its addresses was tried last, and how many in this attempt.
    pub address: u32,
    /// Addresses tried in this attempt.
    pub addresses_tried: u32,
    /// Once it is open: its address among those that streams were opened at; [`u8::MAX`]: another.
    pub met_at: u8,
    /// A receive is armed.
    pub receiving: bool,
    /// A send is under way.
    pub sending: bool,
    /// What is under way belongs to a message.
    pub sending_message: bool,
    /// Nothing can be said on it any more: its TLS session cannot seal, or the kernel gave it up.
    pub broken: bool,
    /// The closing is complete: the websocket's handshake, or both sides' FIN of raw TCP.
    pub closed: bool,
    /// Raw TCP: our FIN is on its way.
    pub finished: bool,
    /// A tick whose turn came while a control frame was under way.
    pub waiting: Option<Time>,
    /// The message under way.
    pub message: Option<Outgoing>,
    /// Another connection is to follow (churn).
    pub reopen: bool,
    /// SSH: its link, or [`Self::NO_LINK`].
    pub link: u32,
    /// SSH: its channel, while it has one.
    pub channel: Option<ChannelId>,
    /// SSH: how its program ended, once that was said.
    pub exit: Option<Class>,
    /// SSH: its program ends at a key, whose echo is nobody's.
    pub typed_goodbye: bool,
    protocol: Protocol,
    /// Boxed: a plain stream has none.
    tls: Option<Box<Tls>>,
    /// Bytes of an incomplete TLS record.
    carry: Vec<u8>,
    /// Sealed bytes to go out first.
    sealed: Vec<u8>,
    /// Plain frames to go out next: what is typed besides messages.
    typed: Vec<u8>,
    /// close_notify is to follow everything else.
    goodbye: bool,
    upper: Upper,
}

/// What lies above TLS.
#[derive(Debug)]
struct Upper {
    opening: Option<Box<Opening>>,
    session: Option<ws::Session>,
    /// Of a web terminal until its echo is found, and the worker has seen what came before it.
    aligning: Option<Box<Aligning>>,
    /// Of a web terminal, once it is typed.
    marker: Option<Marker>,
    /// What the server calls itself, until the worker has seen it.
    names: Option<Box<http::Names>>,
}

/// Where a terminal's echo begins.
#[derive(Debug)]
struct Aligning {
    alignment: Alignment,
    greeted: bool,
}

/// The upgrade while it lasts.
#[derive(Debug)]
struct Opening {
    key: http::Key,
    subprotocol: Option<Arc<str>>,
    replica_header: Option<Arc<str>>,
    /// The terminal behind it, if it is one.
    terminal: Option<Terminal>,
    /// What came last on the terminal's former connection.
    tail: Vec<u8>,
    /// The request until it has gone.
    request: Vec<u8>,
    /// What has come of the answer's head.
    head: Vec<u8>,
}

impl Connection {
    /// Longest websocket message that is accepted from a peer: an echo is never longer than ours.
    pub const RECEIVED_MESSAGE_MAX: u64 = 1 << 32;

    /// Not on a link.
    pub const NO_LINK: u32 = u32::MAX;

    /// A connection about to connect.
    pub const fn new(
        socket: Socket,
        generation: u32,
        stream: u32,
        endpoint: u32,
        protocol: Protocol,
        now: Time,
        deadline: Time,
    ) -> Self {
        Self {
            socket,
            generation,
            stream,
            endpoint,
            phase: Phase::Connecting,
            began: now,
            phase_began: now,
            deadline,
            lease: None,
            address: 0,
            addresses_tried: 0,
            met_at: u8::MAX,
            receiving: false,
            sending: false,
            sending_message: false,
            broken: false,
            closed: false,
            finished: false,
            waiting: None,
            message: None,
            reopen: false,
            link: Self::NO_LINK,
            channel: None,
            exit: None,
            typed_goodbye: false,
            protocol,
            tls: None,
            carry: Vec::new(),
            sealed: Vec::new(),
            typed: Vec::new(),
            goodbye: false,
            upper: Upper { opening: None, session: None, aligning: None, marker: None, names: None },
        }
    }

    /// TCP is established: the first layer above it begins. `tail` is what came last on the former
    /// connection of a terminal, if there was one and its bytes are known.
    ///
    /// # Errors
    /// `TlsProtocol` where the name or settings cannot be used.
    pub fn established(
        &mut self,
        endpoint: &Endpoint,
        group: &Group,
        tail: Vec<u8>,
        random: &mut Random,
    ) -> Result<Progress, Fault> {
        match self.protocol {
            Protocol::Tcp => {
                self.phase = Phase::Open;
                return Ok(Progress { opened: true, ..Progress::default() });
            }
            Protocol::Ws => self.phase = Phase::Upgrading,
            Protocol::Ssh => unreachable!("an SSH stream's bytes go over its link"),
            Protocol::Wss => {
                let tls = endpoint.tls.as_ref().expect("the plan gives every wss row its TLS settings");
                let mut tls = Box::new(Tls::client(tls.config.clone(), tls.name.clone())?);
                tls.start(&mut self.sealed)?;
                self.tls = Some(tls);
                self.phase = Phase::Tls;
            }
        }
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&random.next().to_ne_bytes());
        nonce[8..].copy_from_slice(&random.next().to_ne_bytes());
        let key = http::Key::from_random(nonce);
        let mut request = Vec::with_capacity(256 + endpoint.path.len() + endpoint.headers.len());
        http::UpgradeRequest {
            host: &endpoint.host,
            path: &endpoint.path,
            headers: &endpoint.headers,
            subprotocol: group.subprotocol.as_deref(),
            key: &key,
        }
        .write(&mut request);
        self.upper.opening = Some(Box::new(Opening {
            key,
            subprotocol: group.subprotocol.clone(),
            replica_header: group.replica_header.clone(),
            terminal: group.terminal,
            tail,
            request,
            head: Vec::new(),
        }));
        Ok(Progress::default())
    }

    /// Takes what has arrived, decrypting in place; `payload` gets every piece of messages' bytes.
    ///
    /// # Errors
    /// What the peer did wrong; what must still be told it (an alert, a Close) is ready to go out.
    pub fn receive(
        &mut self,
        data: &mut [u8],
        random: &mut Random,
        payload: &mut dyn FnMut(&[u8]),
    ) -> Result<Progress, Fault> {
        let mut progress = Progress::default();
        let Self { tls, carry, sealed, typed, upper, .. } = self;
        let mut input = |plain: &[u8]| upper.receive(plain, typed, random, payload, &mut progress);
        if let Some(tls) = tls {
            let received = if carry.is_empty() {
                let received = tls.receive(data, sealed, &mut input)?;
                carry.extend_from_slice(&data[received.consumed..]);
                received
            } else {
                carry.extend_from_slice(data);
                let received = tls.receive(carry, sealed, &mut input)?;
                if received.consumed == carry.len() {
                    *carry = Vec::new(); // an idle stream keeps nothing
                } else {
                    carry.drain(..received.consumed);
                }
                received
            };
            progress.secured = received.established_now;
            progress.peer_ended = received.peer_closed;
            if progress.secured {
                self.phase = Phase::Upgrading;
            }
        } else if self.protocol == Protocol::Tcp {
            payload(data);
        } else {
            input(data)?;
        }
        if progress.upgraded {
            self.phase = Phase::Aligning;
        }
        if progress.opened {
            self.phase = Phase::Open;
        }
        Ok(progress)
    }

    /// Begins closing in order: a Close frame, TLS' close_notify. Raw TCP has nothing to say. In a
    /// terminal its `goodbye` is typed instead: its command ends, and then the server closes.
    pub fn close(&mut self, goodbye: Option<&[u8]>, random: &mut Random) {
        const NORMAL: u16 = 1000; // RFC 6455 §7.4.1
        self.phase = Phase::Closing;
        if let Some(keys) = goodbye {
            return self.type_frame(keys, random);
        }
        if let Some(session) = &mut self.upper.session {
            session.close(NORMAL, &mut || random.mask());
        }
    }

    /// What came before a terminal's echo, once the stream is open.
    pub fn take_preamble(&mut self) -> Option<Alignment> {
        self.upper.aligning.take().map(|aligning| aligning.alignment)
    }

    /// What the server called itself, once the stream is open.
    pub const fn take_names(&mut self) -> Option<Box<http::Names>> {
        self.upper.names.take()
    }

    /// The line that a terminal's echo began with.
    pub const fn marker(&self) -> Option<Marker> {
        self.upper.marker
    }

    /// Whether something must still be said on it that is not load: an alert, a Close, a close_notify.
    pub fn has_farewell(&self) -> bool {
        let outbox = self.upper.session.as_ref().map_or(&[][..], ws::Session::outbox);
        !self.broken && (self.goodbye || !self.sealed.is_empty() || !outbox.is_empty())
    }

    /// What was to be sent of messages, and to be typed, is not sent any more.
    pub fn drop_messages(&mut self) {
        self.message = None;
        self.typed = Vec::new();
    }

    fn type_frame(&mut self, json: &[u8], random: &mut Random) {
        type_frame(&mut self.typed, json, random);
    }

    /// Why the peer closed, before we did.
    pub fn close_class(&self, terminal: bool, code: Option<u16>) -> Class {
        let reason = self.upper.session.as_ref().map_or("", ws::Session::close_reason);
        if !terminal {
            return Class::CloseFrame;
        }
        match coder::Outcome::of(code, reason) {
            coder::Outcome::Ended => Class::TerminalEnded,
            coder::Outcome::PingFailed => Class::PingFailed,
            coder::Outcome::AgentUnreachable => Class::AgentUnreachable,
            coder::Outcome::TextRefused | coder::Outcome::TooBig | coder::Outcome::Failed { .. } => {
                Class::CloseFrame
            }
        }
    }

    /// The websocket is closed; TLS says so too, behind everything else that is still to be said.
    pub fn close_tls(&mut self) {
        self.goodbye = self.tls.is_some();
    }

    /// Seals close_notify where it is its turn. A session that cannot say goodbye is closed all the
    /// same.
    fn say_goodbye(&mut self) {
        if std::mem::take(&mut self.goodbye)
            && let Some(tls) = &mut self.tls
        {
            let _ = tls.close_notify(&mut self.sealed);
        }
    }

    /// Starts a message of `bytes` bytes. There must be none under way. What its echo will be: its
    /// place in the payload, and what those bytes are masked with.
    ///
    /// Over a plain websocket it lies, if it can, where the buffer that will be used next still holds
    /// the payload's bytes: then nothing but the header is written.
    #[inline]
    pub fn begin<R: Ring>(
        &mut self,
        bytes: u32,
        payload: &Payload,
        ring: &R,
        random: &mut Random,
    ) -> (u32, [u8; 4]) {
        /// Once in so many messages a buffer is filled anew, from another place.
        const USES: u64 = 64;
        debug_assert!(self.message.is_none());
        if matches!(self.protocol, Protocol::Tcp | Protocol::Ssh) {
            let (place, mask) = (payload.place(random), [0; 4]);
            self.message = Some(Outgoing { place, bytes, position: 0, mask, plain: true, first: false });
            return (place, mask);
        }
        let mask = random.mask();
        let Some(key) = payload.uniform() else {
            let place = payload.place(random);
            self.message = Some(Outgoing { place, bytes, position: 0, mask, plain: false, first: false });
            return (place, [0; 4]);
        };
        let mut place = payload.place(random);
        if self.tls.is_none() {
            let piece = (bytes as usize).min(Payload::PIECE_MAX);
            let kept = ring.kept(Self::PAYLOAD_FROM + piece);
            if kept.key == key && kept.bytes as usize >= piece && u64::from(place) / 8 % USES != 0 {
                place = kept.place;
            }
        }
        self.message = Some(Outgoing { place, bytes, position: 0, mask, plain: true, first: false });
        (place, mask)
    }

    /// Starts a connection's first message, of `bytes` bytes. There must be none under way.
    pub fn begin_first(&mut self, bytes: u32, random: &mut Random) {
        debug_assert!(self.message.is_none());
        let mask =
            if matches!(self.protocol, Protocol::Tcp | Protocol::Ssh) { [0; 4] } else { random.mask() };
        self.message = Some(Outgoing { place: 0, bytes, position: 0, mask, plain: false, first: true });
    }

    /// Whether a message may begin now: nothing of another is left and nothing is under way.
    #[inline]
    pub const fn is_free(&self) -> bool {
        !self.sending && self.message.is_none()
    }

    /// Whether something waits to go out.
    pub fn has_output(&self) -> bool {
        !self.sealed.is_empty()
            || self.goodbye
            || self.message.is_some()
            || !self.typed.is_empty()
            || self.upper.opening.as_ref().is_some_and(|opening| !opening.request.is_empty())
            || self.upper.session.as_ref().is_some_and(|session| !session.outbox().is_empty())
    }

    /// The next bytes for the socket, at most one piece; `None`: nothing waits.
    ///
    /// # Errors
    /// `TlsProtocol` where sealing fails.
    #[inline]
    pub fn next_out<R: Ring>(
        &mut self,
        ring: &mut R,
        payload: &Payload,
        first_message: Option<&Payload>,
        opcode: ws::Opcode,
    ) -> Result<Option<SendBuffer>, Fault> {
        if !self.sealed.is_empty() {
            return Ok(Some(self.sealed_out(ring)));
        }
        if let Some(outgoing) = self.message {
            let payload = if outgoing.first { first_message.unwrap_or(payload) } else { payload };
            return self.message_out(outgoing, ring, payload, opcode).map(Some);
        }
        self.control_out(ring)
    }

    /// What there is besides messages: the upgrade, control frames, and at last close_notify.
    #[cold]
    fn control_out<R: Ring>(&mut self, ring: &mut R) -> Result<Option<SendBuffer>, Fault> {
        let control = self.control_frames_out(ring)?;
        self.say_goodbye();
        let Some(mut buffer) = control else {
            return Ok(if self.sealed.is_empty() { None } else { Some(self.sealed_out(ring)) });
        };
        // One buffer for both: whoever is lost has no turn for another.
        if buffer.spare_mut().len() >= self.sealed.len() {
            buffer.extend(&std::mem::take(&mut self.sealed));
        }
        Ok(Some(buffer))
    }

    fn sealed_out<R: Ring>(&mut self, ring: &mut R) -> SendBuffer {
        let bytes = self.sealed.len().min(Payload::PIECE_MAX);
        let mut buffer = ring.send_buffer(bytes);
        buffer.extend(&self.sealed[..bytes]);
        if bytes == self.sealed.len() {
            self.sealed = Vec::new();
        } else {
            self.sealed.drain(..bytes);
        }
        buffer
    }

    #[inline]
    fn message_out<R: Ring>(
        &mut self,
        outgoing: Outgoing,
        ring: &mut R,
        payload: &Payload,
        opcode: ws::Opcode,
    ) -> Result<SendBuffer, Fault> {
        let Outgoing { place, bytes, position, mask, plain, .. } = outgoing;
        if let Some(message) = payload.typed_message(place, bytes) {
            return self.pieces_out(message, outgoing, ring);
        }
        let wanted = ((bytes - position) as usize).min(Payload::PIECE_MAX);
        let as_it_is = self.protocol == Protocol::Tcp || (plain && position > 0 && self.tls.is_none());
        let (buffer, taken) = if as_it_is {
            let (pool, from) = payload.shared(place, position as usize);
            let taken = wanted.min(pool.len() - from);
            (SendBuffer::shared(pool.clone(), from..from + taken), taken)
        } else {
            let mut header = [0; ws::HEADER_BYTES_MAX];
            let header: &[u8] = if position == 0 {
                let len = ws::write_header(&mut header, opcode, true, u64::from(bytes), Some(mask));
                &header[..len]
            } else {
                &[]
            };
            let piece = payload.piece(place, position as usize, wanted);
            let buffer = match payload.uniform() {
                Some(key) if plain && self.tls.is_none() => {
                    Self::framed_in_place(header, piece, Kept { key, place, bytes: piece.len() as u32 }, ring)
                }
                // A piece's length is a multiple of the mask's but for the last.
                _ => self.framed(header, piece, if plain { [0; 4] } else { mask }, ring)?,
            };
            (buffer, piece.len())
        };
        let position = position + taken as u32;
        self.message = (position < bytes).then_some(Outgoing { position, ..outgoing });
        Ok(buffer)
    }

    /// As many of a typed message's pieces as go at once, each a frame with a mask of its own.
    fn pieces_out<R: Ring>(
        &mut self,
        message: coder::Message<'_>,
        outgoing: Outgoing,
        ring: &mut R,
    ) -> Result<SendBuffer, Fault> {
        const PIECE: u32 = coder::PIECE_BYTES_MAX as u32;
        let mut masks =
            Random::new(u64::from(u32::from_ne_bytes(outgoing.mask)) << 32 | u64::from(outgoing.position));
        let first = outgoing.position / PIECE;
        let (mut end, mut bytes) = (first, 0);
        while end < message.pieces() && (end == first || bytes + Text::FRAME_BYTES_MAX <= Payload::PIECE_MAX)
        {
            bytes += message.frame_bytes(end);
            end += 1;
        }
        let buffer = if let Some(tls) = &mut self.tls {
            // A record holds whole frames.
            let records = bytes / (Tls::RECORD_PLAIN_BYTES_MAX - Text::FRAME_BYTES_MAX) + 1;
            let mut buffer = ring.send_buffer(bytes + records * Tls::sealed_bytes_max(0));
            let mut from = first;
            while from < end {
                let (mut to, mut plain) = (from, 0);
                while to < end && plain + message.frame_bytes(to) <= Tls::RECORD_PLAIN_BYTES_MAX {
                    plain += message.frame_bytes(to);
                    to += 1;
                }
                let sealed = tls.seal_with(buffer.spare_mut(), plain, |out| {
                    (from..to).fold(0, |at, n| at + message.write_frame(n, masks.mask(), &mut out[at..]));
                })?;
                buffer.commit(sealed);
                from = to;
            }
            buffer
        } else {
            let mut buffer = ring.send_buffer(bytes);
            for n in first..end {
                let frame = message.write_frame(n, masks.mask(), buffer.spare_mut());
                buffer.commit(frame);
            }
            buffer
        };
        let position = (end * PIECE).min(outgoing.bytes);
        self.message = (position < outgoing.bytes).then_some(Outgoing { position, ..outgoing });
        Ok(buffer)
    }

    /// Where a frame's payload begins in a buffer that keeps it, whatever its header's length.
    const PAYLOAD_FROM: usize = ws::HEADER_BYTES_MAX.next_multiple_of(8);

    /// A frame whose payload goes as it is: copied only where the buffer does not hold it already.
    #[inline]
    fn framed_in_place<R: Ring>(header: &[u8], piece: &[u8], new: Kept, ring: &mut R) -> SendBuffer {
        let from = Self::PAYLOAD_FROM - header.len();
        let to = Self::PAYLOAD_FROM + piece.len();
        let mut buffer = ring.send_buffer(to);
        let old = buffer.kept();
        let holds = old.key == new.key && old.place == new.place && old.bytes >= new.bytes;
        let memory = buffer.keep(from..to, if holds { old } else { new });
        memory[from..Self::PAYLOAD_FROM].copy_from_slice(header);
        if !holds {
            memory[Self::PAYLOAD_FROM..to].copy_from_slice(piece);
        }
        buffer
    }

    /// A frame's header and piece, masked and, over TLS, sealed where they will be sent from.
    #[inline]
    fn framed<R: Ring>(
        &mut self,
        header: &[u8],
        piece: &[u8],
        mask: [u8; 4],
        ring: &mut R,
    ) -> Result<SendBuffer, Fault> {
        let Some(tls) = &mut self.tls else {
            let mut buffer = ring.send_buffer(header.len() + piece.len());
            buffer.extend(header);
            ws::mask_into(&mut buffer.spare_mut()[..piece.len()], piece, mask);
            buffer.commit(piece.len());
            return Ok(buffer);
        };
        // Every record but the last holds whole masks, so that the mask never turns between them.
        const RECORD: usize = (Tls::RECORD_PLAIN_BYTES_MAX - ws::HEADER_BYTES_MAX) & !3;
        let mut buffer = ring.send_buffer(Tls::sealed_bytes_max(header.len() + piece.len()));
        let mut header = header;
        for part in piece.chunks(RECORD) {
            let sealed = tls.seal_with(buffer.spare_mut(), header.len() + part.len(), |out| {
                out[..header.len()].copy_from_slice(header);
                ws::mask_into(&mut out[header.len()..], part, mask);
            })?;
            buffer.commit(sealed);
            header = &[];
        }
        Ok(buffer)
    }

    fn control_frames_out<R: Ring>(&mut self, ring: &mut R) -> Result<Option<SendBuffer>, Fault> {
        let plain: &[u8] = match (&self.upper.opening, &self.upper.session) {
            (Some(opening), _) if self.phase == Phase::Upgrading => &opening.request,
            (None, Some(_)) if !self.typed.is_empty() => &self.typed,
            (None, Some(session)) => session.outbox(),
            _ => &[],
        };
        if plain.is_empty() {
            return Ok(None);
        }
        let buffer = if let Some(tls) = &mut self.tls {
            let mut buffer = ring.send_buffer(Tls::sealed_bytes_max(plain.len()));
            let sealed = tls.seal(plain, buffer.spare_mut())?;
            buffer.commit(sealed);
            buffer
        } else {
            let mut buffer = ring.send_buffer(plain.len());
            buffer.extend(plain);
            buffer
        };
        if let Some(opening) = &mut self.upper.opening {
            opening.request = Vec::new();
        } else if !self.typed.is_empty() {
            self.typed = Vec::new();
        } else if let Some(session) = &mut self.upper.session {
            session.clear_outbox();
        }
        Ok(Some(buffer))
    }

    /// Whether a Close frame ends this protocol's streams.
    pub const fn has_closing_handshake(&self) -> bool {
        self.upper.session.is_some()
    }
}

impl Upper {
    fn receive(
        &mut self,
        plain: &[u8],
        typed: &mut Vec<u8>,
        random: &mut Random,
        payload: &mut dyn FnMut(&[u8]),
        progress: &mut Progress,
    ) -> Result<(), Fault> {
        let head; // keeps the bytes behind the head alive
        let mut plain = plain;
        if let Some(opening) = &mut self.opening {
            opening.head.extend_from_slice(plain);
            let Opening { key, subprotocol, replica_header, head: come, .. } = &**opening;
            let (subprotocol, replica_header) = (subprotocol.as_deref(), replica_header.as_deref());
            let Some(http::Accepted { head_bytes, names }) =
                http::parse_response(come, key, subprotocol, replica_header)?
            else {
                return Ok(());
            };
            let Opening { terminal, tail, head: all, .. } = *self.opening.take().expect("it was there");
            (self.names, head) = (names, all);
            plain = &head[head_bytes..];
            self.session = Some(ws::Session::new(ws::Role::Client, Connection::RECEIVED_MESSAGE_MAX));
            if let Some(terminal) = terminal {
                let marker = Marker::from_random(random.next());
                let marker = if terminal.comment { marker.unended() } else { marker };
                self.marker = Some(marker);
                let mut json = [0; Marker::BYTES as usize * 2 + 16];
                let bytes = coder::encode(marker.line(), &mut json);
                type_frame(typed, &json[..bytes], random);
                let alignment = Alignment::again(&marker, terminal.echo, &tail);
                self.aligning = Some(Box::new(Aligning { alignment, greeted: false }));
                progress.upgraded = true;
            } else {
                progress.opened = true;
            }
        }
        let Self { session: Some(session), aligning, .. } = self else { return Err(Fault::HttpMalformed) };
        while let Some(event) = session.receive(&mut plain, &mut || random.mask())? {
            match event {
                ws::Event::Data { bytes: [], .. } => {}
                ws::Event::Data { bytes, .. } => {
                    let mut bytes = bytes;
                    if aligning.is_some() {
                        align(aligning, &mut bytes, progress)?;
                    }
                    if !bytes.is_empty() {
                        payload(bytes);
                    }
                }
                ws::Event::Pong => {}
                ws::Event::Closed { by_us: true, .. } => progress.closed = Some(ClosedBy::Us),
                ws::Event::Closed { code, .. } => progress.closed = Some(ClosedBy::Peer { code }),
            }
        }
        Ok(())
    }
}

/// Takes what a terminal says before the marker's echo.
#[cold]
fn align(
    aligning: &mut Option<Box<Aligning>>,
    bytes: &mut &[u8],
    progress: &mut Progress,
) -> Result<(), Fault> {
    let Some(current) = aligning else { return Ok(()) };
    progress.greeted |= !std::mem::replace(&mut current.greeted, true);
    match current.alignment.receive(bytes) {
        State::Preamble => Ok(()),
        State::Aligned => {
            progress.opened = true;
            Ok(())
        }
        State::Screen => Err(Fault::TerminalRedrawn),
        State::Lost => Err(Fault::TerminalEchoMissing),
    }
}

/// Appends `json` as a masked binary frame.
fn type_frame(typed: &mut Vec<u8>, json: &[u8], random: &mut Random) {
    let (mut header, mask) = ([0; ws::HEADER_BYTES_MAX], random.mask());
    let header_bytes = ws::write_header(&mut header, ws::Opcode::Binary, true, json.len() as u64, Some(mask));
    typed.extend_from_slice(&header[..header_bytes]);
    let from = typed.len();
    typed.resize(from + json.len(), 0);
    ws::mask_into(&mut typed[from..], json, mask);
}
