//! One side of a websocket connection after the upgrade.

use super::codec::{
    CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Header, Opcode, Role, mask_into, rotate_mask, write_header,
};
use super::utf8::Utf8;
use crate::Fault;

/// Bytes of control frames that may wait to be sent; beyond it only the newest pong is kept
/// (RFC 6455 §5.5.3 asks for no more).
pub const OUTBOX_BYTES_MAX: usize = 4096;

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A piece of a message.
    Data {
        /// The bytes as they came: masked where `mask` is given.
        bytes: &'a [u8],
        /// The mask, turned so that it fits the piece's first byte.
        mask: Option<[u8; 4]>,
        /// The message's: `Text` or `Binary`.
        opcode: Opcode,
        /// The message ends with this piece.
        message_end: bool,
    },
    /// A pong.
    Pong,
    /// The closing handshake is complete as far as parsing goes; nothing more is parsed.
    Closed {
        /// The peer's code, where it gave one.
        code: Option<u16>,
        /// Our Close was first.
        by_us: bool,
    },
}

/// Where the parser stands.
#[derive(Debug, Clone, Copy)]
enum Reading {
    /// A header; as many of its bytes have come.
    Header(u8),
    /// A data frame's payload.
    Data { left: u64, mask: Option<[u8; 4]>, fin: bool },
    /// A control frame's payload, gathered in `control`.
    Control { opcode: Opcode, left: u8, mask: Option<[u8; 4]> },
    /// The closing handshake is complete, or the peer broke the protocol.
    Closed,
}

/// One side of a connection.
#[derive(Debug)]
pub struct Session {
    reading: Reading,
    header: [u8; HEADER_BYTES_MAX],
    role: Role,
    /// The opcode of the message under way, if one is.
    message: Option<Opcode>,
    close_sent: bool,
    /// Bytes a message may still have.
    message_left: u64,
    message_bytes_max: u64,
    rare: Option<Box<Rare>>,
}

/// What few connections need at a time.
#[derive(Debug, Default)]
struct Rare {
    utf8: Utf8,
    control: Vec<u8>,
    outbox: Vec<u8>,
}

impl Session {
    /// A session right behind the upgrade. Messages beyond `message_bytes_max` are refused.
    pub const fn new(role: Role, message_bytes_max: u64) -> Self {
        Self {
            reading: Reading::Header(0),
            header: [0; HEADER_BYTES_MAX],
            role,
            message: None,
            close_sent: false,
            message_left: message_bytes_max,
            message_bytes_max,
            rare: None,
        }
    }

    /// Parses a prefix of `input` and advances it; `None`: all of it is used up. Ping and Close
    /// are answered into the outbox, with masks from `random` for a client.
    ///
    /// # Errors
    /// What the peer did wrong; the right Close is in the outbox, and nothing more is parsed.
    #[inline]
    pub fn receive<'a>(
        &mut self,
        input: &mut &'a [u8],
        random: &mut dyn FnMut() -> [u8; 4],
    ) -> Result<Option<Event<'a>>, Fault> {
        let result = self.parse(input, random);
        if let Err(fault) = &result {
            let code = match fault {
                Fault::WsUtf8 => 1007,
                Fault::WsTooBig => 1009,
                _ => 1002,
            };
            self.close(code, random);
            self.reading = Reading::Closed;
        }
        result
    }

    fn parse<'a>(
        &mut self,
        input: &mut &'a [u8],
        random: &mut dyn FnMut() -> [u8; 4],
    ) -> Result<Option<Event<'a>>, Fault> {
        loop {
            match self.reading {
                Reading::Header(have) => {
                    let Some(header) = self.read_header(have, input)? else { return Ok(None) };
                    self.begin(header)?;
                    if header.payload_bytes == 0
                        && let Some(event) = self.empty_frame(header, random)?
                    {
                        return Ok(Some(event));
                    }
                }
                Reading::Data { left, mask, fin } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let here = left.min(input.len() as u64);
                    let (bytes, rest) = input.split_at(here as usize);
                    *input = rest;
                    return self.data(bytes, left - here, mask, fin).map(Some);
                }
                Reading::Control { opcode, left, mask } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let here = usize::from(left).min(input.len());
                    let (bytes, rest) = input.split_at(here);
                    *input = rest;
                    let rare = self.rare.get_or_insert_default();
                    rare.control.extend_from_slice(bytes);
                    let left = left - here as u8;
                    self.reading = Reading::Control { opcode, left, mask };
                    if left == 0
                        && let Some(event) = self.control(opcode, mask, random)?
                    {
                        return Ok(Some(event));
                    }
                }
                Reading::Closed => {
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    /// The next header, in place or gathered over several inputs.
    #[inline]
    fn read_header(&mut self, have: u8, input: &mut &[u8]) -> Result<Option<Header>, Fault> {
        if have == 0
            && let Some((header, bytes)) = Header::parse(input, self.role)?
        {
            *input = &input[bytes..];
            return Ok(Some(header));
        }
        let mut have = usize::from(have);
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.header[have] = byte;
            have += 1;
            if let Some((header, _)) = Header::parse(&self.header[..have], self.role)? {
                return Ok(Some(header));
            }
        }
        self.reading = Reading::Header(have as u8);
        Ok(None)
    }

    /// Checks a header against the message under way.
    #[inline]
    fn begin(&mut self, header: Header) -> Result<(), Fault> {
        let Header { opcode, fin, mask, payload_bytes } = header;
        if opcode.is_control() {
            self.reading = Reading::Control { opcode, left: payload_bytes as u8, mask };
            return Ok(());
        }
        match (opcode, self.message) {
            (Opcode::Continuation, None) => {
                return Err(Fault::WsProtocol("a continuation without a message"));
            }
            (Opcode::Continuation, Some(_)) => {}
            (_, Some(_)) => return Err(Fault::WsProtocol("a message begins within another")),
            (opcode, None) => {
                self.message = Some(opcode);
                self.message_left = self.message_bytes_max;
            }
        }
        self.message_left = self.message_left.checked_sub(payload_bytes).ok_or(Fault::WsTooBig)?;
        self.reading = Reading::Data { left: payload_bytes, mask, fin };
        Ok(())
    }

    fn empty_frame<'a>(
        &mut self,
        header: Header,
        random: &mut dyn FnMut() -> [u8; 4],
    ) -> Result<Option<Event<'a>>, Fault> {
        if header.opcode.is_control() {
            return self.control(header.opcode, None, random);
        }
        self.data(&[], 0, header.mask, header.fin).map(Some)
    }

    #[inline]
    fn data<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        mask: Option<[u8; 4]>,
        fin: bool,
    ) -> Result<Event<'a>, Fault> {
        let opcode = self.message.expect("a data frame has a message");
        let message_end = left == 0 && fin;
        if opcode == Opcode::Text {
            self.check_text(bytes, mask, message_end)?;
        }
        self.reading = if left == 0 {
            Reading::Header(0)
        } else {
            Reading::Data { left, mask: mask.map(|mask| rotate_mask(mask, bytes.len())), fin }
        };
        if message_end {
            self.message = None;
        }
        Ok(Event::Data { bytes, mask, opcode, message_end })
    }

    fn check_text(&mut self, bytes: &[u8], mask: Option<[u8; 4]>, end: bool) -> Result<(), Fault> {
        let utf8 = &mut self.rare.get_or_insert_default().utf8;
        let valid = match mask {
            None => utf8.push(bytes),
            Some(mask) => {
                const PIECE: usize = 1024; // a multiple of 4: the mask does not turn
                bytes.chunks(PIECE).all(|piece| {
                    let mut plain = [0; PIECE];
                    mask_into(&mut plain[..piece.len()], piece, mask);
                    utf8.push(&plain[..piece.len()])
                })
            }
        };
        if !valid || (end && !utf8.is_complete()) {
            return Err(Fault::WsUtf8);
        }
        Ok(())
    }

    /// A whole control frame has come.
    fn control<'a>(
        &mut self,
        opcode: Opcode,
        mask: Option<[u8; 4]>,
        random: &mut dyn FnMut() -> [u8; 4],
    ) -> Result<Option<Event<'a>>, Fault> {
        self.reading = Reading::Header(0);
        let mut payload =
            self.rare.as_mut().map(|rare| std::mem::take(&mut rare.control)).unwrap_or_default();
        if let Some(mask) = mask {
            let masked = payload.clone();
            mask_into(&mut payload, &masked, mask);
        }
        match opcode {
            Opcode::Ping => {
                // After our own Close nothing more may be sent (RFC 6455 §5.5.1).
                if !self.close_sent {
                    self.queue(Opcode::Pong, &payload, random);
                }
                Ok(None)
            }
            Opcode::Pong => Ok(Some(Event::Pong)),
            _ => {
                let code = Self::close_code(&payload)?;
                let by_us = self.close_sent;
                if !by_us {
                    self.close_sent = true;
                    self.queue(Opcode::Close, &payload[..payload.len().min(2)], random);
                }
                self.reading = Reading::Closed;
                if payload.len() > 2 {
                    payload.drain(..2);
                    self.rare.get_or_insert_default().control = payload; // for `close_reason`
                }
                Ok(Some(Event::Closed { code, by_us }))
            }
        }
    }

    /// RFC 6455 §5.5.1 and §7.4.
    fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
        let (code, reason) = match payload {
            [] => return Ok(None),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
            [_] => return Err(Fault::WsProtocol("a Close has one byte")),
        };
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(Fault::WsProtocol("a Close has a code that must not be sent"));
        }
        if std::str::from_utf8(reason).is_err() {
            return Err(Fault::WsUtf8);
        }
        Ok(Some(code))
    }

    fn queue(&mut self, opcode: Opcode, payload: &[u8], random: &mut dyn FnMut() -> [u8; 4]) {
        let mut frame = [0; HEADER_BYTES_MAX + CONTROL_BYTES_MAX];
        let mask = (self.role == Role::Client).then(random);
        let header = write_header(&mut frame, opcode, true, payload.len() as u64, mask);
        mask_into(&mut frame[header..header + payload.len()], payload, mask.unwrap_or([0; 4]));
        let outbox = &mut self.rare.get_or_insert_default().outbox;
        if outbox.len() + header + payload.len() > OUTBOX_BYTES_MAX {
            outbox.clear(); // whole frames all of them, and older than this one
        }
        outbox.extend_from_slice(&frame[..header + payload.len()]);
    }

    /// Whole control frames that wait to be sent.
    #[inline]
    pub fn outbox(&self) -> &[u8] {
        self.rare.as_ref().map_or(&[], |rare| &rare.outbox)
    }

    /// They were copied out. Memory that is not needed any more is given back.
    pub fn clear_outbox(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.outbox = Vec::new();
            if rare.control.is_empty() && rare.utf8.is_complete() {
                self.rare = None;
            }
        }
    }

    /// Queues our Close, once, with a reason; what is too long of it for a control frame is cut off.
    pub fn close_with(&mut self, code: u16, reason: &str, random: &mut dyn FnMut() -> [u8; 4]) {
        if !self.close_sent {
            self.close_sent = true;
            let mut payload = code.to_be_bytes().to_vec();
            let mut end = reason.len().min(CONTROL_BYTES_MAX - payload.len());
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            payload.extend_from_slice(&reason.as_bytes()[..end]);
            self.queue(Opcode::Close, &payload, random);
        }
    }

    /// Queues our Close, once.
    pub fn close(&mut self, code: u16, random: &mut dyn FnMut() -> [u8; 4]) {
        self.close_with(code, "", random);
    }

    /// What the peer's Close says besides its code, once [`Event::Closed`] has come.
    pub fn close_reason(&self) -> &str {
        let reason = match self.reading {
            Reading::Closed => self.rare.as_ref().map_or(&[][..], |rare| &rare.control),
            _ => &[],
        };
        std::str::from_utf8(reason).unwrap_or("") // a Close with another was refused
    }

    /// Whether our Close has been queued.
    pub const fn is_closing(&self) -> bool {
        self.close_sent
    }
}
