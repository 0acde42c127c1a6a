//! A client that echoes, over our own session: what Autobahn asks of an implementation.

use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use scale_proto::http::{self, Key, UpgradeRequest};
use scale_proto::ws::{Event, HEADER_BYTES_MAX, Opcode, Role, Session, mask_into, write_header};

/// The suite's agent name.
const AGENT: &str = "scaled";
/// Longer than any case may take.
const PATIENCE: Duration = Duration::from_secs(110);
const MESSAGE_BYTES_MAX: u64 = 32 << 20;
const MASK: [u8; 4] = [0x5C, 0xA1, 0xED, 0x07];

/// One connection with its session.
struct Client {
    socket: TcpStream,
    session: Session,
    /// What came behind the upgrade's answer.
    early: Vec<u8>,
}

impl Client {
    fn open(address: SocketAddr, path: &str) -> Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let key = Key::from_random(*b"sixteen bytes ok");
        let mut request = Vec::new();
        let host = address.to_string();
        UpgradeRequest { host: &host, path, headers: "", subprotocol: None, key: &key }.write(&mut request);
        socket.write_all(&request)?;
        let (mut head, mut part) = (Vec::new(), [0; 1024]);
        loop {
            let bytes = socket.read(&mut part)?;
            head.extend_from_slice(&part[..bytes]);
            match http::parse_response(&head, &key, None, None) {
                Ok(Some(accepted)) => {
                    let session = Session::new(Role::Client, MESSAGE_BYTES_MAX);
                    return Ok(Self { socket, session, early: head.split_off(accepted.head_bytes) });
                }
                Ok(None) if bytes > 0 => {}
                other => return Err(Error::other(format!("no upgrade: {other:?}"))),
            }
        }
    }

    /// Hands each whole message to `on_message`, which says what goes back, until the end.
    fn run(&mut self, mut on_message: impl FnMut(Opcode, &[u8], &mut Vec<u8>)) -> Result<()> {
        let (mut message, mut out, mut part) = (Vec::new(), Vec::new(), vec![0; 64 << 10]);
        let mut input = std::mem::take(&mut self.early);
        loop {
            let result = self.take(&input, &mut message, &mut out, &mut on_message);
            self.socket.write_all(&out)?;
            out.clear();
            match result {
                Ok(true) => {
                    // Both Close frames are said: the server ends the connection (RFC 6455 §7.1.1).
                    while self.socket.read(&mut part)? > 0 {}
                    return Ok(());
                }
                Ok(false) => {}
                Err(fault) => return Err(Error::other(fault)),
            }
            let bytes = self.socket.read(&mut part)?;
            if bytes == 0 {
                return Ok(());
            }
            input.clear();
            input.extend_from_slice(&part[..bytes]);
        }
    }

    /// One input; true once the closing handshake is complete.
    fn take(
        &mut self,
        mut input: &[u8],
        message: &mut Vec<u8>,
        out: &mut Vec<u8>,
        on_message: &mut impl FnMut(Opcode, &[u8], &mut Vec<u8>),
    ) -> std::result::Result<bool, scale_proto::Fault> {
        let mut closed = false;
        let result = loop {
            let event = match self.session.receive(&mut input, &mut || MASK) {
                Ok(Some(event)) => event,
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault),
            };
            // A pong goes before what answers later frames.
            out.extend_from_slice(self.session.outbox());
            self.session.clear_outbox();
            match event {
                Event::Data { bytes, mask, opcode, message_end } => {
                    let from = message.len();
                    message.resize(from + bytes.len(), 0);
                    mask_into(&mut message[from..], bytes, mask.unwrap_or_default());
                    if message_end {
                        on_message(opcode, message, out);
                        message.clear();
                    }
                }
                Event::Closed { .. } => closed = true,
                Event::Pong => {}
            }
        };
        out.extend_from_slice(self.session.outbox());
        self.session.clear_outbox();
        result.map(|()| closed)
    }
}

fn frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let from = out.len();
    out.resize(from + HEADER_BYTES_MAX + payload.len(), 0);
    let header = write_header(&mut out[from..], opcode, true, payload.len() as u64, Some(MASK));
    mask_into(&mut out[from + header..from + header + payload.len()], payload, MASK);
    out.truncate(from + header + payload.len());
}

/// How many cases the suite has.
pub fn case_count(address: SocketAddr) -> Result<usize> {
    let mut count = None;
    Client::open(address, "/getCaseCount")?.run(|_, message, _| {
        count = std::str::from_utf8(message).ok().and_then(|text| text.trim().parse().ok());
    })?;
    count.ok_or_else(|| Error::other("no count came"))
}

/// Echoes one case to its end.
pub fn run_case(address: SocketAddr, case: u32) -> Result<()> {
    Client::open(address, &format!("/runCase?case={case}&agent={AGENT}"))?
        .run(|opcode, message, out| frame(out, opcode, message))
}

/// Has the suite write its reports, and end.
pub fn update_reports(address: SocketAddr) -> Result<()> {
    Client::open(address, &format!("/updateReports?agent={AGENT}"))?.run(|_, _, _| {})
}
