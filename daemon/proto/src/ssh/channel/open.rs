//! The client's side of channels: it opens them, asks for their programs, and is asked little.

use std::sync::Arc;

use super::super::message::{
    ADMINISTRATIVELY_PROHIBITED, CHANNEL_FAILURE, CHANNEL_OPEN, CHANNEL_OPEN_CONFIRMATION,
    CHANNEL_OPEN_FAILURE, CHANNEL_REQUEST, CHANNEL_SUCCESS, WRONG_PHASE,
};
use super::super::wire::{Write as _, words};
use super::super::{Exit, Program, Pty};
use super::{
    Channel, ChannelId, Channels, DATA_BYTES_MAX, Event, Fault, Listener, Purpose, Reader, Sender, State,
};

/// RFC 4254 §8, TTY_OP_END: the server's own modes.
const NO_MODES: [u8; 1] = [0];

impl Channels {
    /// Asks for a channel.
    ///
    /// # Errors
    /// `SshProtocol` where there are [`super::CHANNELS_MAX`].
    pub fn open(&mut self, purpose: Arc<Purpose>, send: Sender<'_>) -> Result<ChannelId, Fault> {
        let is_session = matches!(&*purpose, Purpose::Session { .. });
        let channel = Channel::new(self.window_bytes, is_session, State::Opening(Some(Arc::clone(&purpose))));
        let id = self.insert(channel).ok_or(Fault::SshProtocol("too many channels on one connection"))?;
        let mut payload = vec![CHANNEL_OPEN];
        payload.put_string(if is_session { "session" } else { "direct-tcpip" });
        for number in [id, self.window_bytes, DATA_BYTES_MAX] {
            payload.put_uint32(number);
        }
        if let Purpose::Forward { host, port } = &*purpose {
            payload.put_string(host);
            payload.put_uint32(u32::from(*port));
            payload.put_string("127.0.0.1"); // where it comes from, as far as a server need know
            payload.put_uint32(0);
        }
        send(&payload).map(|()| id)
    }

    /// Takes what only a client is sent.
    ///
    /// # Errors
    /// `SshProtocol`.
    pub fn receive_as_client(
        &mut self,
        payload: &[u8],
        send: Sender<'_>,
        event: Listener<'_>,
    ) -> Result<(), Fault> {
        let mut reader = Reader::new(payload);
        match reader.byte()? {
            CHANNEL_OPEN_CONFIRMATION => self.confirmation(reader, send, event),
            CHANNEL_OPEN_FAILURE => self.failure(reader, event),
            CHANNEL_SUCCESS => self.answered(reader, true, send, event),
            CHANNEL_FAILURE => self.answered(reader, false, send, event),
            CHANNEL_REQUEST => self.asked(reader, send, event),
            CHANNEL_OPEN => refuse(reader, ADMINISTRATIVELY_PROHIBITED, send),
            _ => Err(WRONG_PHASE),
        }
    }

    /// The one that was asked for, and has not been answered.
    fn opening(&mut self, reader: &mut Reader<'_>) -> Result<(ChannelId, &mut Channel), Fault> {
        let id = reader.uint32()?;
        match self.slot_mut(id) {
            Some(channel) if matches!(channel.state, State::Opening(_)) => Ok((id, channel)),
            _ => Err(Fault::SshProtocol("an answer about a channel that was not asked for")),
        }
    }

    fn confirmation(
        &mut self,
        mut reader: Reader<'_>,
        send: Sender<'_>,
        event: Listener<'_>,
    ) -> Result<(), Fault> {
        let (id, channel) = self.opening(&mut reader)?;
        channel.confirm(reader.uint32()?, reader.uint32()?, reader.uint32()?)?;
        reader.end()?;
        let State::Opening(purpose) = std::mem::replace(&mut channel.state, State::Open) else {
            panic!("it is opening")
        };
        match purpose.as_deref() {
            None => channel.close(false, send)?,
            Some(Purpose::Forward { .. }) => event(Event::Opened(id)),
            Some(Purpose::Session { environment, pty, program }) => {
                channel.state = State::Starting;
                channel.start(environment, pty.as_ref(), program, send)?;
            }
        }
        Ok(())
    }

    fn failure(&mut self, mut reader: Reader<'_>, event: Listener<'_>) -> Result<(), Fault> {
        let (id, channel) = self.opening(&mut reader)?;
        let (code, description) = (reader.uint32()?, words(reader.string()?));
        let is_wanted = matches!(channel.state, State::Opening(Some(_)));
        self.remove(id);
        event(if is_wanted {
            Event::Refused { channel: id, code: Some(code), description: &description }
        } else {
            Event::Closed(id)
        });
        Ok(())
    }

    /// Answers come in the order of the requests; the last one is the program's.
    fn answered(
        &mut self,
        mut reader: Reader<'_>,
        success: bool,
        send: Sender<'_>,
        event: Listener<'_>,
    ) -> Result<(), Fault> {
        let (id, channel) = self.confirmed(&mut reader)?;
        reader.end()?;
        let unanswered = channel.unanswered.checked_sub(1);
        channel.unanswered = unanswered.ok_or(Fault::SshProtocol("an answer without a request"))?;
        if !matches!(channel.state, State::Starting) {
            return Ok(());
        }
        if !success {
            channel.close(true, send)?;
            event(Event::Refused { channel: id, code: None, description: "" });
        } else if channel.unanswered == 0 {
            channel.state = State::Open;
            event(Event::Opened(id));
        }
        Ok(())
    }

    /// RFC 4254 §6.10; all else that a server may ask for is refused, OpenSSH's keepalive too: any answer
    /// keeps a connection alive.
    fn asked(&mut self, mut reader: Reader<'_>, send: Sender<'_>, event: Listener<'_>) -> Result<(), Fault> {
        let id = reader.uint32()?;
        let (name, wants_reply) = (reader.string()?, reader.boolean()?);
        // OpenSSH sends keepalives over channels that it has just closed, and its own client lets them go.
        let Ok(channel) = self.confirmed_as(id) else { return Ok(()) };
        let exit = match name {
            b"exit-status" => {
                let status = reader.uint32()?;
                reader.end()?;
                Some(Exit::Status(status))
            }
            b"exit-signal" => {
                let signal = words(reader.string()?);
                let (_core, _message, _language) = (reader.boolean()?, reader.string()?, reader.string()?);
                reader.end()?;
                Some(Exit::Signal(signal))
            }
            _ => None,
        };
        if channel.is_closing() {
            return Ok(()); // nothing may follow this side's CLOSE
        }
        if wants_reply {
            let is_known = exit.is_some() || name == b"eow@openssh.com";
            channel.send(if is_known { CHANNEL_SUCCESS } else { CHANNEL_FAILURE }, send)?;
        }
        if let Some(exit) = exit.filter(|_| !std::mem::replace(&mut channel.exited, true)) {
            event(Event::Exited { channel: id, exit });
        }
        Ok(())
    }

    /// Sends the program a signal, named without `SIG`.
    pub fn signal(&mut self, id: ChannelId, name: &str, send: Sender<'_>) -> Result<(), Fault> {
        match self.slot_mut(id) {
            Some(channel) if matches!(channel.state, State::Starting | State::Open) => {
                let mut payload = channel.request("signal", false);
                payload.put_string(name);
                send(&payload)
            }
            _ => Ok(()),
        }
    }
}

impl Channel {
    /// Everything that a program needs, in one go: a server answers in the order of the requests.
    fn start(
        &mut self,
        environment: &[(String, String)],
        pty: Option<&Pty>,
        program: &Program,
        send: Sender<'_>,
    ) -> Result<(), Fault> {
        for (name, value) in environment {
            let mut payload = self.request("env", false);
            payload.put_string(name);
            payload.put_string(value);
            send(&payload)?;
        }
        if let Some(Pty { term, columns, rows }) = pty {
            let mut payload = self.request("pty-req", true);
            payload.put_string(term);
            for size in [*columns, *rows, 0, 0] {
                payload.put_uint32(size);
            }
            payload.put_string(NO_MODES);
            send(&payload)?;
            self.unanswered += 1;
        }
        let payload = match program {
            Program::Shell => self.request("shell", true),
            Program::Exec(command) => {
                let mut payload = self.request("exec", true);
                payload.put_string(command);
                payload
            }
        };
        self.unanswered += 1;
        send(&payload)
    }
}

/// Answers a CHANNEL_OPEN that is not taken.
pub(super) fn refuse(mut reader: Reader<'_>, code: u32, send: Sender<'_>) -> Result<(), Fault> {
    let (_kind, peer) = (reader.string()?, reader.uint32()?);
    let mut payload = vec![CHANNEL_OPEN_FAILURE];
    payload.put_uint32(peer);
    payload.put_uint32(code);
    payload.put_string("not taken");
    payload.put_string(""); // language
    send(&payload)
}
