//! The two ends of a connection in memory, and how bytes get from one to the other.

use super::super::keys::{HostKeys, PrivateKey};
use super::super::transport::{Step, Transport};
use super::*;

/// Random words that are the same each time.
pub fn words(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

pub fn user_key(seed: u8) -> Credential {
    Credential::Key { key: Arc::new(PrivateKey::from_seed([seed; 32])), certificate: None }
}

pub fn login(credentials: Vec<Credential>) -> Arc<Login> {
    Arc::new(Login { user: "ann".to_owned(), credentials })
}

pub fn client_config(algorithms: Algorithms, rekey_bytes: u64, window_bytes: u32) -> ClientConfig {
    let rekey = RekeyLimit { bytes: rekey_bytes };
    ClientConfig { algorithms, host_keys: HostKeys::Any, rekey, window_bytes, unix_s: 0 }
}

pub fn server_config(rekey_bytes: u64, window_bytes: u32) -> ServerConfig {
    ServerConfig {
        algorithms: Algorithms::default(),
        host_keys: vec![Arc::new(PrivateKey::from_seed([9; 32]))],
        rekey: RekeyLimit { bytes: rekey_bytes },
        window_bytes,
        none: false,
        banner: Some("welcome\r\n".to_owned()),
    }
}

/// What both roles can do.
pub trait Role {
    fn receive(
        &mut self,
        input: &mut [u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
        event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Received, Fault>;
    fn room(&self, channel: ChannelId) -> usize;
    fn sealed_bytes_max(&self, channel: ChannelId, payload: usize) -> usize;
    fn seal(
        &mut self,
        channel: ChannelId,
        payload: usize,
        random: Random<'_>,
        out: &mut [u8],
        fill: &mut dyn FnMut(usize, &mut [u8]),
    ) -> Result<usize, Fault>;
    fn rekey(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault>;
}

macro_rules! role {
    ($role:ty) => {
        impl Role for $role {
            fn receive(
                &mut self,
                input: &mut [u8],
                random: Random<'_>,
                out: &mut Vec<u8>,
                event: &mut dyn FnMut(Event<'_>),
            ) -> Result<Received, Fault> {
                Self::receive(self, input, random, out, event)
            }

            fn room(&self, channel: ChannelId) -> usize {
                Self::room(self, channel)
            }

            fn sealed_bytes_max(&self, channel: ChannelId, payload: usize) -> usize {
                Self::sealed_bytes_max(self, channel, payload)
            }

            fn seal(
                &mut self,
                channel: ChannelId,
                payload: usize,
                random: Random<'_>,
                out: &mut [u8],
                fill: &mut dyn FnMut(usize, &mut [u8]),
            ) -> Result<usize, Fault> {
                Self::seal(self, channel, payload, random, out, fill)
            }

            fn rekey(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
                Self::rekey(self, random, out)
            }
        }
    };
}

role!(Client);
role!(Server);

/// One end: a role, what came in and was not taken, what goes out, what was told.
pub struct End<R> {
    pub role: R,
    pub input: Vec<u8>,
    pub out: Vec<u8>,
    pub seen: Vec<Seen>,
    pub random: Box<dyn FnMut() -> u64>,
}

impl<R: Role> End<R> {
    pub fn new(role: R, seed: u64) -> Self {
        let random = Box::new(words(seed));
        Self { role, input: Vec::new(), out: Vec::new(), seen: Vec::new(), random }
    }

    /// Bytes come in.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.input.extend_from_slice(bytes);
        let Self { role, input, out, seen, random } = self;
        let received = role.receive(input, random, out, &mut |event| seen.push(event.into()))?;
        self.input.drain(..received.consumed);
        Ok(())
    }

    /// Seals what there is room for of `bytes`, and returns how much that was.
    pub fn say(&mut self, channel: ChannelId, bytes: &[u8]) -> usize {
        let payload = bytes.len().min(self.role.room(channel));
        let start = self.out.len();
        let room = self.role.sealed_bytes_max(channel, payload);
        self.out.resize(start + room, 0);
        let place = &mut self.out[start..];
        let sealed = self.role.seal(channel, payload, &mut self.random, place, &mut |from, place| {
            place.copy_from_slice(&bytes[from..from + place.len()]);
        });
        assert_eq!(sealed, Ok(room), "as many bytes as it said");
        payload
    }

    pub fn rekey(&mut self) {
        self.role.rekey(&mut self.random, &mut self.out).unwrap();
    }

    pub fn seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// Bytes of a channel, in a row; other events are an error.
    pub fn data(&mut self, id: ChannelId) -> Vec<u8> {
        let pieces = self.seen().into_iter().map(|seen| match seen {
            Seen::Data(channel, bytes) if channel == id => bytes,
            other => panic!("{other:?}"),
        });
        pieces.collect::<Vec<_>>().concat()
    }
}

/// A client and a server.
pub struct Pair {
    pub client: End<Client>,
    pub server: End<Server>,
    /// Bytes that come in at a time.
    pub cut: usize,
}

impl Pair {
    /// Both have said who they are.
    pub fn new(client: ClientConfig, server: ServerConfig, login: Arc<Login>, cut: usize) -> Self {
        let client = Client::new(Arc::new(client), login, "host".into(), 22);
        let mut client = End::new(client, 1);
        let mut server = End::new(Server::new(Arc::new(server)), 2);
        client.role.start(&mut client.random, &mut client.out).unwrap();
        server.role.start(&mut server.random, &mut server.out).unwrap();
        Self { client, server, cut }
    }

    /// One with a key that is in.
    pub fn connected(client: ClientConfig, server: ServerConfig, cut: usize) -> Self {
        let mut pair = Self::new(client, server, login(vec![user_key(1)]), cut);
        pair.settle();
        for seen in [pair.client.seen(), pair.server.seen()] {
            assert!(
                matches!(&seen[..], [Seen::Identified(_), Seen::Keys(_), Seen::Authenticated]),
                "{seen:?}"
            );
        }
        pair
    }

    /// One with the usual limits.
    pub fn usual() -> Self {
        let client = client_config(Algorithms::default(), 1 << 30, 1 << 20);
        Self::connected(client, server_config(1 << 30, 1 << 20), usize::MAX)
    }

    /// Brings what is under way to the other side, once; whether there was something.
    pub fn exchange(&mut self) -> Result<bool, Fault> {
        let (to_server, to_client) =
            (std::mem::take(&mut self.client.out), std::mem::take(&mut self.server.out));
        for piece in to_server.chunks(self.cut) {
            self.server.take(piece)?;
        }
        for piece in to_client.chunks(self.cut) {
            self.client.take(piece)?;
        }
        Ok(!(to_server.is_empty() && to_client.is_empty()))
    }

    /// Until both are silent.
    pub fn settle(&mut self) {
        while self.exchange().expect("both keep the rules") {}
        assert_eq!((self.client.input.len(), self.server.input.len()), (0, 0));
    }

    /// What both were told until here is of no interest.
    pub fn forget(&mut self) {
        self.client.seen.clear();
        self.server.seen.clear();
    }

    pub fn open(&mut self, purpose: Purpose) -> ChannelId {
        let Self { client: End { role, random, out, .. }, .. } = self;
        role.open(Arc::new(purpose), random, out).unwrap()
    }
}

/// A peer that says what a test says: a transport, and no more.
pub struct Peer {
    pub transport: Transport,
    pub input: Vec<u8>,
    pub out: Vec<u8>,
    pub random: Box<dyn FnMut() -> u64>,
    /// Payloads that came in.
    pub got: Vec<Vec<u8>>,
}

impl Peer {
    pub fn new(transport: Transport) -> Self {
        let mut peer = Self {
            transport,
            input: Vec::new(),
            out: Vec::new(),
            random: Box::new(words(3)),
            got: Vec::new(),
        };
        peer.transport.start(&mut peer.random, &mut peer.out).unwrap();
        peer
    }

    pub fn server() -> Self {
        Self::new(Transport::server(Arc::new(server_config(1 << 30, 1 << 20))))
    }

    pub fn client() -> Self {
        let config = client_config(Algorithms::default(), 1 << 30, 1 << 20);
        Self::new(Transport::client(Arc::new(config), "host".into(), 22))
    }

    pub fn say(&mut self, payload: &[u8]) {
        self.transport.seal_payload(payload, &mut self.random, &mut self.out).unwrap();
    }

    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.input.extend_from_slice(bytes);
        loop {
            let (consumed, step) = self.transport.next(&mut self.input, &mut self.random, &mut self.out)?;
            if let Step::Payload(range) = &step {
                self.got.push(self.input[range.clone()].to_vec());
            }
            self.input.drain(..consumed);
            if step == Step::Incomplete {
                return Ok(());
            }
        }
    }

    pub fn got(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.got)
    }

    /// Brings what is under way to the other side until both are silent, or the other has a fault.
    pub fn settle<R: Role>(&mut self, end: &mut End<R>) -> Result<(), Fault> {
        while !(self.out.is_empty() && end.out.is_empty()) {
            let out = std::mem::take(&mut end.out);
            self.take(&out).expect("the side that is tested keeps the rules");
            end.take(&std::mem::take(&mut self.out))?;
        }
        Ok(())
    }
}
