//! Servers made by hand, for what no honest server does: a thread a connection, all on 127.0.0.1.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use scale_proto::http;
use scale_proto::ws::{Event, HEADER_BYTES_MAX, Opcode, Role, Session, mask_into, write_header};

use crate::certificate::Certificate;

/// Hands each connection to `handle`, numbered from 0, and closes it when that returns. The address.
pub fn serve(handle: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let handle = handle.clone();
            std::thread::spawn(move || handle(number, stream));
        }
    });
    address
}

/// As [`serve`], for websockets: upgraded, with `greeting` in the same packet as the 101.
pub fn serve_websocket(greeting: &[u8], handle: impl Fn(&mut Websocket) + Send + Sync + 'static) -> String {
    let greeting = greeting.to_vec();
    serve(move |number, stream| {
        if let Some(mut websocket) = Websocket::accept(number, stream, &greeting) {
            handle(&mut websocket);
        }
    })
}

/// Speaks TLS with `certificate`, and ends each connection when its handshake is over.
pub fn serve_tls_handshakes(certificate: &Certificate) -> String {
    let config =
        scale_proto::tls::server_config(certificate.certificate.as_bytes(), certificate.key.as_bytes())
            .expect("a certificate and its key");
    serve(move |_, mut stream| {
        let mut connection = rustls::ServerConnection::new(config.clone()).expect("a connection");
        while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        // A socket that is closed with bytes unread sends a reset instead of a FIN: the client's are read.
        let _ = stream.shutdown(Shutdown::Write);
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
    })
}

/// A server's frame.
pub fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; HEADER_BYTES_MAX];
    let bytes = write_header(&mut header, opcode, fin, payload.len() as u64, None);
    [&header[..bytes], payload].concat()
}

/// What a client did.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// A whole message.
    Message(Vec<u8>),
    /// A pong.
    Pong,
    /// A Close; with its code, if it has one.
    Close(Option<u16>),
}

/// A connection's server side.
pub struct Websocket {
    /// Which connection of its server's, from 0.
    pub number: usize,
    /// Where the client is.
    pub peer: SocketAddr,
    /// The client's request, as it came.
    pub head: String,
    /// Its path and query.
    pub path: String,
    /// The last message was one of text.
    pub text: bool,
    stream: TcpStream,
    session: Session,
    input: Vec<u8>,
    /// What has come of the message under way.
    message: Vec<u8>,
}

impl Websocket {
    /// Upgrades a connection; `None`: the client has gone.
    pub fn accept(number: usize, mut stream: TcpStream, greeting: &[u8]) -> Option<Self> {
        let (mut head, mut piece) = (Vec::new(), [0; 4096]);
        let request = loop {
            let bytes = stream.read(&mut piece).ok().filter(|&bytes| bytes > 0)?;
            head.extend_from_slice(&piece[..bytes]);
            if let Some(request) = http::parse_request(&head).expect("our client's request is right") {
                break request;
            }
        };
        let mut out = Vec::new();
        let subprotocol = request.subprotocols.first().map(String::as_str);
        http::write_response(&mut out, &request.accept, subprotocol, &[]);
        out.extend_from_slice(greeting);
        stream.write_all(&out).ok()?;
        let input = head.split_off(request.head_bytes);
        Some(Self {
            number,
            peer: stream.peer_addr().ok()?,
            head: String::from_utf8(head).expect("our client's request is text"),
            path: request.path,
            text: false,
            stream,
            session: Session::new(Role::Server, 1 << 24),
            input,
            message: Vec::new(),
        })
    }

    /// Sends bytes as they are; a client that has gone is no news here.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Waits for what the client does next. A Close is answered; `None`: the connection is over.
    pub fn hear(&mut self) -> Option<Said> {
        loop {
            let mut input = self.input.as_slice();
            let event = self.session.receive(&mut input, &mut || [0; 4]).expect("our client is right");
            let said = match event {
                Some(Event::Data { bytes, mask, message_end, opcode }) => {
                    self.text = opcode == Opcode::Text;
                    let from = self.message.len();
                    self.message.resize(from + bytes.len(), 0);
                    mask_into(&mut self.message[from..], bytes, mask.expect("a client masks"));
                    message_end.then(|| Said::Message(std::mem::take(&mut self.message)))
                }
                Some(Event::Pong) => Some(Said::Pong),
                Some(Event::Closed { code, .. }) => Some(Said::Close(code)),
                None => None,
            };
            let more = event.is_some();
            let used = self.input.len() - input.len();
            self.input.drain(..used);
            let answers = self.session.outbox().to_vec();
            self.session.clear_outbox();
            self.send(&answers);
            if said.is_some() {
                return said;
            }
            if !more {
                let mut piece = [0; 16 << 10];
                let bytes = self.stream.read(&mut piece).ok().filter(|&bytes| bytes > 0)?;
                self.input.extend_from_slice(&piece[..bytes]);
            }
        }
    }

    /// The next message; `None`: there is none before the end.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.hear()? {
                Said::Message(message) => return Some(message),
                Said::Pong => {}
                Said::Close(_) => return None,
            }
        }
    }

    /// Hands every message to `answer` until the client closes.
    pub fn each_message(&mut self, mut answer: impl FnMut(&mut Self, Vec<u8>)) {
        while let Some(message) = self.next_message() {
            answer(self, message);
        }
    }

    /// Echoes every message until the client closes.
    pub fn echo(&mut self) {
        self.each_message(|websocket, message| websocket.send(&frame(Opcode::Binary, true, &message)));
    }
}
