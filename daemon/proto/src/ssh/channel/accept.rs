//! The server's side of channels: sessions with a program, and `direct-tcpip`.

use std::sync::Arc;

use super::super::message::{
    CHANNEL_FAILURE, CHANNEL_OPEN, CHANNEL_OPEN_CONFIRMATION, CHANNEL_REQUEST, CHANNEL_SUCCESS,
    RESOURCE_SHORTAGE, UNKNOWN_CHANNEL_TYPE, WRONG_PHASE,
};
use super::super::wire::Write as _;
use super::super::{Exit, Program, Pty};
use super::open::refuse;
use super::{
    Channel, ChannelId, Channels, DATA_BYTES_MAX, Event, Fault, Listener, Purpose, Reader, Sender, State,
};

/// Bytes of an environment; what a client sends beyond is refused.
const ENVIRONMENT_BYTES_MAX: usize = 16 << 10;
/// RFC 4254 §6.9. Each ends a program that does not care for it.
const SIGNALS: [&str; 13] =
    ["ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"];

/// What a client has said before it asks for a program.
#[derive(Debug, Default)]
pub(super) struct Preparation {
    environment: Vec<(String, String)>,
    environment_bytes: usize,
    pty: Option<Pty>,
}

impl Preparation {
    /// Whether there is room for a variable.
    fn variable(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.environment_bytes += name.len() + value.len() + size_of::<(String, String)>();
        let fits = self.environment_bytes <= ENVIRONMENT_BYTES_MAX;
        if fits {
            self.environment.push((text(name), text(value)));
        }
        fits
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Channels {
    /// Takes what only a server is sent.
    ///
    /// # Errors
    /// `SshProtocol`.
    pub fn receive_as_server(
        &mut self,
        payload: &[u8],
        send: Sender<'_>,
        event: Listener<'_>,
    ) -> Result<(), Fault> {
        let mut reader = Reader::new(payload);
        match reader.byte()? {
            CHANNEL_OPEN => self.opened(reader, send, event),
            CHANNEL_REQUEST => self.requested(reader, send, event),
            _ => Err(WRONG_PHASE),
        }
    }

    fn opened(&mut self, whole: Reader<'_>, send: Sender<'_>, event: Listener<'_>) -> Result<(), Fault> {
        let mut reader = whole;
        let kind = reader.string()?;
        let (peer, window, packet) = (reader.uint32()?, reader.uint32()?, reader.uint32()?);
        let forward = match kind {
            b"session" => None,
            b"direct-tcpip" => {
                let (host, port) = (text(reader.string()?), u16::try_from(reader.uint32()?));
                let (_from, _port) = (reader.string()?, reader.uint32()?);
                let port = port.map_err(|_| Fault::SshProtocol("a port beyond 65535"))?;
                Some(Arc::new(Purpose::Forward { host, port }))
            }
            _ => return refuse(whole, UNKNOWN_CHANNEL_TYPE, send),
        };
        reader.end()?;
        let state = if forward.is_some() { State::Open } else { State::Preparing(Box::default()) };
        let mut channel = Channel::new(self.window_bytes, forward.is_none(), state);
        channel.confirm(peer, window, packet)?;
        let Some(id) = self.insert(channel) else { return refuse(whole, RESOURCE_SHORTAGE, send) };
        let mut payload = vec![CHANNEL_OPEN_CONFIRMATION];
        for number in [peer, id, self.window_bytes, DATA_BYTES_MAX] {
            payload.put_uint32(number);
        }
        send(&payload)?;
        if let Some(purpose) = forward {
            event(Event::Requested { channel: id, purpose });
        }
        Ok(())
    }

    fn requested(
        &mut self,
        mut reader: Reader<'_>,
        send: Sender<'_>,
        event: Listener<'_>,
    ) -> Result<(), Fault> {
        let (id, channel) = self.confirmed(&mut reader)?;
        let (name, wants_reply) = (reader.string()?, reader.boolean()?);
        if channel.is_closing() {
            return Ok(()); // nothing may follow this side's CLOSE
        }
        let program = match name {
            b"exec" => Some(Program::Exec(text(reader.string()?))),
            b"shell" => Some(Program::Shell),
            _ => None,
        };
        let started = match (program, &mut channel.state) {
            (Some(program), State::Preparing(preparation)) => {
                let Preparation { environment, pty, .. } = std::mem::take(&mut **preparation);
                channel.state = State::Open;
                Some(Arc::new(Purpose::Session { environment, pty, program }))
            }
            _ => None,
        };
        let is_taken = started.is_some() || channel.attribute(name, &mut reader)?;
        if wants_reply {
            channel.send(if is_taken { CHANNEL_SUCCESS } else { CHANNEL_FAILURE }, send)?;
        }
        if let Some(purpose) = started {
            event(Event::Requested { channel: id, purpose });
        } else if is_taken && name == b"signal" {
            channel.signalled(reader.string()?, send)?;
        }
        Ok(())
    }

    /// Ends a program: EOF, how it ended, CLOSE.
    pub fn exit(&mut self, id: ChannelId, exit: &Exit, send: Sender<'_>) -> Result<(), Fault> {
        match self.slot_mut(id) {
            None | Some(Channel { state: State::Closing { .. }, .. }) => Ok(()),
            Some(channel) => channel.exit(exit, send),
        }
    }
}

impl Channel {
    /// What belongs to a session, except its program; whether it is taken. Subsystems are not.
    fn attribute(&mut self, name: &[u8], reader: &mut Reader<'_>) -> Result<bool, Fault> {
        Ok(match (name, &mut self.state) {
            (b"env", State::Preparing(preparation)) => {
                let (name, value) = (reader.string()?, reader.string()?);
                preparation.variable(name, value)
            }
            (b"pty-req", State::Preparing(preparation)) => {
                let (term, columns, rows) = (text(reader.string()?), reader.uint32()?, reader.uint32()?);
                let (_width, _height, _modes) = (reader.uint32()?, reader.uint32()?, reader.string()?);
                preparation.pty = Some(Pty { term, columns, rows });
                true
            }
            (b"window-change" | b"signal", State::Open) => self.is_session,
            _ => false,
        })
    }

    fn exit(&mut self, exit: &Exit, send: Sender<'_>) -> Result<(), Fault> {
        self.end(send)?;
        if self.is_session {
            let payload = match exit {
                Exit::Status(status) => {
                    let mut payload = self.request("exit-status", false);
                    payload.put_uint32(*status);
                    payload
                }
                Exit::Signal(name) => {
                    let mut payload = self.request("exit-signal", false);
                    payload.put_string(name);
                    payload.put_boolean(false); // no core
                    payload.put_string(""); // message
                    payload.put_string(""); // language
                    payload
                }
            };
            send(&payload)?;
        }
        self.close(false, send)
    }

    /// Programs here care for no signal: each ends them.
    fn signalled(&mut self, name: &[u8], send: Sender<'_>) -> Result<(), Fault> {
        match SIGNALS.iter().find(|signal| signal.as_bytes() == name) {
            Some(signal) => self.exit(&Exit::Signal((*signal).to_owned()), send),
            None => Ok(()),
        }
    }
}
